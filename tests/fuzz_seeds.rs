//! Every seed of the fuzz target `http_surface`, sent to the real program: whatever comes over a connection, no answer is a
//! 500 and the server goes on answering. `fuzz/run.sh http_surface` looks for more of them.

use std::path::Path;
use std::time::Duration;

use crate::support::server::TestServer;

/// How long to listen to the answers to one seed; half a request gets none.
const PATIENCE: Duration = Duration::from_millis(300);

#[test]
fn no_bytes_make_the_server_fail() {
    let server = TestServer::start();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/http_surface");
    let mut seeds: Vec<_> =
        std::fs::read_dir(folder).expect("seeds").map(|seed| seed.expect("a seed").path()).collect();
    seeds.sort();
    assert!(seeds.len() >= 10, "only {} seeds", seeds.len());
    // Once as anybody and once as the administrator, who gets past the door.
    let password = crate::support::http::basic("admin", "secret");
    let authorization = format!("\r\nAuthorization: {password}\r\nHost:");
    for path in seeds {
        let seed = std::fs::read(&path).expect("a seed");
        for bytes in [seed.clone(), replaced(&seed, b"\r\nHost:", authorization.as_bytes())] {
            let mut connection = server.anonymous().connect().expect("the server listens");
            drop(connection.write_raw(&bytes)); // the server may close before it has heard everything
            let (answers, _) = connection.read_raw(PATIENCE);
            let failed = answers.windows(13).any(|window| window == b"HTTP/1.1 500 ");
            assert!(!failed, "{}: {}\n{}", path.display(), String::from_utf8_lossy(&answers), server.log());
            server.anonymous().get("/_up").expect(200);
        }
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}
