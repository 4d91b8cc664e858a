//! A server that reads each request and gives one fixed answer: the upper limit of what any server on hyper can reach on
//! this machine with the bench's client and as many connections.
//!
//! It has threads and a runtime of its own, as a server in another process would have.
//! Never looks at a request, never listens anywhere but on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::Target;

/// When the empty server answers, and with which body.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// Every request at once.
    AtOnce(&'static str),
    /// A GET gets its head at once, and its body when the first request of another method has come.
    AfterWrite(&'static str),
}

/// A hyper server on loopback, with its own threads, that reads each request and gives one fixed answer.
#[derive(Debug)]
pub struct EmptyServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl EmptyServer {
    /// Starts the server on a free port with `threads` worker threads. It ends when the value is dropped.
    pub fn start(answer: Answer, threads: usize) -> std::io::Result<Self> {
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

async fn accept(listener: std::net::TcpListener, answer: Answer) {
    // The only reason to fail is a thread outside a runtime, and then the client finds nobody who answers.
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let (written, _) = watch::channel(false);
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // A connection that fails is seen by the client, which reports it.
        drop(stream.set_nodelay(true));
        let written = written.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| respond(request, answer, written.clone()));
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>;

async fn respond(
    request: Request<Incoming>,
    answer: Answer,
    written: watch::Sender<bool>,
) -> Result<Response<Body>, hyper::Error> {
    let is_read = request.method() == Method::GET;
    request.into_body().collect().await?;
    Ok(Response::new(match answer {
        Answer::AfterWrite(text) if is_read => Either::Right(after_write(text, written.subscribe())),
        Answer::AtOnce(text) | Answer::AfterWrite(text) => {
            if !is_read {
                written.send_replace(true);
            }
            Either::Left(Full::new(Bytes::from_static(text.as_bytes())))
        }
    }))
}

fn after_write(text: &'static str, mut written: watch::Receiver<bool>) -> UnsyncBoxBody<Bytes, Infallible> {
    let body = async move {
        // An error means that the server is being dropped: the client gets its answer early or not at all.
        drop(written.wait_for(|written| *written).await);
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    };
    StreamBody::new(futures::stream::once(body)).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::{Answer, EmptyServer};
    use crate::http::load::{Connection, SMALL_BUFFER};

    #[tokio::test]
    async fn the_empty_server_answers_many_requests_on_one_connection() {
        let server = EmptyServer::start(Answer::AtOnce("{\"ok\":true}"), 1).unwrap();
        let mut connection = Connection::open(&server.target(), SMALL_BUFFER).await.unwrap();
        let mut answer = Vec::new();
        for body in [vec![], vec![b'x'; 500], vec![b'x'; 100_000]] {
            let head = connection.exchange("PUT", "/a/b", &body, &mut answer).await.unwrap();
            assert!(head.is_success() && answer == b"{\"ok\":true}");
        }
    }

    #[tokio::test]
    async fn waiting_answers_come_after_the_first_write() {
        let server = EmptyServer::start(Answer::AfterWrite("{}"), 1).unwrap();
        let mut waiting = Connection::open(&server.target(), SMALL_BUFFER).await.unwrap();
        waiting.send("GET", "/", b"").await.unwrap();
        let head = waiting.head().await.unwrap();
        let (mut body, brief) = (Vec::<u8>::new(), std::time::Duration::from_millis(20));
        assert!(tokio::time::timeout(brief, waiting.body(&head, |data| body.extend(data))).await.is_err());
        let mut writer = Connection::open(&server.target(), SMALL_BUFFER).await.unwrap();
        writer.exchange("PUT", "/", b"", &mut Vec::new()).await.unwrap();
        waiting.body(&head, |data| body.extend(data)).await.unwrap();
        assert_eq!(body, b"{}");
    }
}
