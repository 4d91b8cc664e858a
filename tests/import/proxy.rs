//! Stands between an import and its source, lets a given number of bytes of answers through, and can cut connections.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::pause;

/// A TCP proxy on loopback. It lives until the test's process ends.
pub(super) struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Bytes of answers that went through.
    passed: AtomicU64,
    /// Bytes of answers that may go through.
    limit: AtomicU64,
    /// When as many have, the connection is cut instead of held, and the limit falls away.
    cuts: AtomicU64,
}

impl Proxy {
    /// Before this server; nothing passes yet.
    pub(super) fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared::default());
        let (server, state) = (server.to_owned(), Arc::clone(&shared));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let (client_again, upstream_again) = (client.try_clone(), upstream.try_clone());
                let (Ok(client_again), Ok(upstream_again)) = (client_again, upstream_again) else { continue };
                let state = Arc::clone(&state);
                thread::spawn(move || pass(client_again, upstream_again, None));
                thread::spawn(move || pass(upstream, client, Some(&state)));
            }
        });
        Self { address, shared }
    }

    /// With the administrator's credentials.
    pub(super) fn url(&self) -> String {
        format!("http://admin:secret@{}", self.address)
    }

    /// Lets so many more bytes through.
    pub(super) fn allow(&self, bytes: u64) {
        self.shared.limit.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Lets everything through.
    pub(super) fn open(&self) {
        self.shared.limit.store(u64::MAX, Ordering::SeqCst);
    }

    /// Cuts the connection that carries the byte of this number, `times` times at each further such number of bytes.
    pub(super) fn cut_after(&self, bytes: u64, times: u64) {
        self.shared.limit.store(bytes, Ordering::SeqCst);
        self.shared.cuts.store(times, Ordering::SeqCst);
    }

    /// Cuts that were not made.
    pub(super) fn cuts_left(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, counted: Option<&Shared>) {
    let mut buffer = [0; 8 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 {
            break;
        }
        if let Some(shared) = counted {
            let passed = shared.passed.fetch_add(read as u64, Ordering::SeqCst);
            while passed >= shared.limit.load(Ordering::SeqCst) {
                if shared.cuts.load(Ordering::SeqCst) > 0 {
                    let limit = shared.limit.load(Ordering::SeqCst);
                    shared.limit.store(
                        if shared.cuts.fetch_sub(1, Ordering::SeqCst) == 1 { u64::MAX } else { 2 * limit },
                        Ordering::SeqCst,
                    );
                    let _ = to.shutdown(Shutdown::Both);
                    let _ = from.shutdown(Shutdown::Both);
                    return;
                }
                pause(2);
            }
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
