//! Any bytes on a connection of a whole server in this process: no answer is a 500, and the server goes on answering.
//!
//! The server is started once, open to everybody, on a store in the temporary folder; inputs may change what is in it. An
//! input that fails only after others is found again by running the corpus in order.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use settle::config::Config;
use settle::http::{Listener, serve};
use settle::services::Services;
use tokio::runtime::Runtime;

/// How long an answer may take before the connection is left alone (a feed may wait for ever).
const PATIENCE: Duration = Duration::from_millis(200);
/// Bytes of answers read.
const ANSWERS_MAX: u64 = 1 << 20;

/// Sends the bytes, and then asks whether the server is up.
///
/// # Panics
/// When an answer is a 500, or the server does not answer any more.
pub fn run(data: &[u8]) {
    static SERVER: OnceLock<(Runtime, SocketAddr)> = OnceLock::new();
    let (_, address) = SERVER.get_or_init(start);
    let answers = talk(*address, data);
    let failed = answers.windows(13).any(|window| window == b"HTTP/1.1 500 ");
    assert!(!failed, "{}", String::from_utf8_lossy(&answers));
    let up = talk(*address, b"GET /_up HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(up.starts_with(b"HTTP/1.1 200 "), "not up: {}", String::from_utf8_lossy(&up));
}

fn talk(address: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    // The server may close early, and it may answer before everything is sent.
    if stream.write_all(data).is_ok() {
        drop(stream.shutdown(Shutdown::Write));
    }
    let mut answers = Vec::new();
    if let Err(error) = stream.take(ANSWERS_MAX).read_to_end(&mut answers) {
        let expected = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionReset];
        assert!(expected.contains(&error.kind()), "{error}");
    }
    answers
}

fn start() -> (Runtime, SocketAddr) {
    let data = std::env::temp_dir().join(format!("settle-fuzz-{}", std::process::id()));
    let config = Config { data, open: true, listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let listener = runtime.block_on(async {
        let services = Services::open(&config).await.expect("a store");
        let listener = Listener::bind(config.listen).await.expect("a port");
        let address = listener.address().expect("an address");
        let (stop, stopped) = tokio::sync::watch::channel(false);
        std::mem::forget(stop); // serves until the process ends
        tokio::spawn(serve(listener, services, stopped));
        address
    });
    (runtime, listener)
}
