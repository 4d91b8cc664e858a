//! A source behind https, as production has it: trusted through `SSL_CERT_FILE`, refused without.
//!
//! The certificates in `tests/import/tls/` are for `localhost` and these tests only; nobody keeps the authority's key.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{command, leaves, push, replicated};
use crate::support::server::TestServer;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/tls").join(name)
}

/// The certificate of the authority that `localhost` is trusted by.
pub(crate) fn authority() -> PathBuf {
    fixture("authority.pem")
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(fixture("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a key that fits");
    TlsAcceptor::from(Arc::new(config))
}

/// Takes TLS off before a server, until the test's process ends; the port.
pub(crate) fn terminate_before(server: &str) -> u16 {
    let (port, ready) = mpsc::channel();
    let (server, acceptor) = (server.to_owned(), acceptor());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            port.send(listener.local_addr().expect("an address").port()).expect("a test");
            loop {
                let (stream, _) = listener.accept().await.expect("a client");
                let (server, acceptor) = (server.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let mut client = acceptor.accept(stream).await?;
                    let mut upstream = TcpStream::connect(&server).await?;
                    match tokio::io::copy_bidirectional(&mut client, &mut upstream).await {
                        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
                        _ => Ok(()),
                    }
                });
            }
        });
    });
    ready.recv().expect("a port")
}

#[test]
fn https_is_spoken_and_certificates_are_checked() {
    let (source, target) = (TestServer::start(), TestServer::start());
    source.admin().put("/medic", &json!({})).expect(201);
    push(&source, "medic", &[replicated("a", 2, "a", &json!({"n": 1}))]);
    let attachment = json!({"f": {"content_type": "image/x", "data": "A".repeat(400_000)}});
    source.admin().put("/medic/photo", &json!({"_attachments": attachment})).expect(201);
    let port = terminate_before(source.address());
    let run = |host: &str, authority: &Path| {
        let url = format!("https://admin:secret@{host}:{port}");
        let mut import = command(&url, &target, &["--database", "medic"]);
        let output = import.env("SSL_CERT_FILE", authority).output().expect("settle runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let nothing = tempfile::NamedTempFile::new().expect("a file");
    let (success, errors) = run("localhost", nothing.path());
    assert!(!success && errors.contains("no secure connection") && errors.contains("SSL_CERT_FILE"), "{errors}");
    let (success, errors) = run("127.0.0.1", &authority());
    assert!(!success && errors.contains("no secure connection"), "a name that is not in the certificate: {errors}");
    assert_eq!(target.admin().get("/medic").status, 404);
    let (success, errors) = run("localhost", &authority());
    assert!(success, "{errors}");
    assert_eq!(leaves(&source, "medic"), leaves(&target, "medic"));
}
