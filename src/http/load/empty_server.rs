//! A server that reads each request and gives one fixed answer: the upper limit of what any server on hyper can reach on
//! this machine with the bench's client and as many connections.
//!
//! It has threads and a runtime of its own, as a server in another process would have.
//! Never looks at a request, never listens anywhere but on loopback.

use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Target;

/// A hyper server on loopback, with its own threads, that reads each request and gives one fixed answer.
#[derive(Debug)]
pub struct EmptyServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl EmptyServer {
    /// Starts the server on a free port with `threads` worker threads; every answer is 200 with the body `answer`.
    /// It ends when the value is dropped.
    pub fn start(answer: &'static str, threads: usize) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        // The runtime lives and ends in a thread of its own: it must do neither inside another runtime.
        let thread = thread::Builder::new().name("empty-server".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, answer) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// How to reach it.
    pub fn target(&self) -> Target {
        Target::new(self.address, self.address.to_string(), None)
    }
}

impl Drop for EmptyServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the server's thread has already been printed; there is nobody else to tell.
            drop(thread.join());
        }
    }
}

async fn accept(listener: std::net::TcpListener, answer: &'static str) {
    // The only reason to fail is a thread outside a runtime, and then the client finds nobody who answers.
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // A connection that fails is seen by the client, which reports it.
        drop(stream.set_nodelay(true));
        connections.spawn(async move {
            let service = service_fn(move |request| answer_nothing(request, answer));
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer_nothing(
    request: Request<Incoming>,
    answer: &'static str,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    request.into_body().collect().await?;
    Ok(Response::new(Full::new(Bytes::from_static(answer.as_bytes()))))
}

#[cfg(test)]
mod tests {
    use super::EmptyServer;
    use crate::http::load::{Connection, SMALL_BUFFER};

    #[tokio::test]
    async fn the_empty_server_answers_many_requests_on_one_connection() {
        let server = EmptyServer::start("{\"ok\":true}", 1).unwrap();
        let mut connection = Connection::open(&server.target(), SMALL_BUFFER).await.unwrap();
        let mut answer = Vec::new();
        for body in [vec![], vec![b'x'; 500], vec![b'x'; 100_000]] {
            let head = connection.exchange("PUT", "/a/b", &body, &mut answer).await.unwrap();
            assert!(head.is_success() && answer == b"{\"ok\":true}");
        }
    }
}
