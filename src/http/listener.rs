//! Accepts connections: limits, time-outs, graceful stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use super::lenient_target::LenientTarget;
use super::pipeline::answer;
use crate::services::Services;

/// Seconds within which the head of a request must arrive, an idle connection included: the replicator uses connections
/// again after a minute, and a checkpoint that finds its connection closed is not repeated (trap T24).
const HEADER_SECONDS: u64 = 90;
/// Headers of one request; more are answered 431.
const MAX_HEADERS: usize = 100;
/// Bytes of one request's head.
const MAX_HEAD_BYTES: usize = 128 << 10;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 65_536;
/// Seconds that open requests get to finish when the server stops.
const STOP_SECONDS: u64 = 10;

/// A bound socket.
pub struct Listener {
    socket: TcpListener,
}

impl Listener {
    /// Binds; port 0 picks a free one.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await? })
    }

    /// The address bound.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Serves until `stop` turns true; then lets open requests finish for a while.
pub async fn serve(listener: Listener, services: Arc<Services>, mut stop: watch::Receiver<bool>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.socket.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await; // out of file descriptors: let some close
            continue;
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else { continue };
        drop(stream.set_nodelay(true));
        let (services, mut stop) = (Arc::clone(&services), stop.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(move |request| {
                // Boxed, so that an idle connection does not keep the room of the largest handler.
                let answered = Box::pin(answer(Arc::clone(&services), request, peer.ip()));
                async move { Ok::<_, std::convert::Infallible>(answered.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .half_close(true) // a client that has sent all it will send still gets its answer
                .header_read_timeout(Duration::from_secs(HEADER_SECONDS))
                .max_headers(MAX_HEADERS)
                .max_buf_size(MAX_HEAD_BYTES)
                .max_header_size(MAX_HEAD_BYTES) // the buffer alone lets a head of up to twice its size through
                .serve_connection(TokioIo::new(LenientTarget::new(stream)), service);
            let mut connection = std::pin::pin!(connection);
            let stopping = tokio::select! {
                _ = connection.as_mut() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            if stopping {
                connection.as_mut().graceful_shutdown();
                drop(tokio::time::timeout(Duration::from_secs(STOP_SECONDS), connection).await);
            }
        });
    }
    let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    drop(tokio::time::timeout(Duration::from_secs(STOP_SECONDS), connections.acquire_many(all)).await);
}
