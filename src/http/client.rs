//! The HTTP client of commands and gateways that talk to a server: `http` and `https`, one keep-alive connection, bodies as streams.
//!
//! It decides where to connect, what every request carries, and how long silence is borne. It never retries, follows
//! no redirect, asks for no compression, and knows nothing of CouchDB: what an answer means is the caller's business.
//! (`load.rs` is for measuring: cheaper, plain HTTP only, and it holds what it sends.)

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, LOCATION, RETRY_AFTER};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How long a connection may take to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// How long a server may think before its answer begins. A filtered feed of a large database takes minutes.
const ANSWER_PATIENCE: Duration = Duration::from_secs(300);
/// How long a server may be silent within an answer.
const SILENCE: Duration = Duration::from_secs(120);
/// The most bytes of an answer to [`ask`].
const MOST_ANSWER: usize = 64 << 20;
const JSON: &str = "application/json";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is none that can be used. Holds what follows the credentials.
    #[error(
        "`{0}` is not a usable address; write https://NAME:PASSWORD@HOST[:PORT][/PATH], special characters of name and \
         password percent-encoded (@ is %40, : is %3A, / is %2F)"
    )]
    Address(String),
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// TLS did not come about: a certificate that is not trusted, or no TLS there at all.
    #[error("no secure connection: {0}")]
    Secure(#[source] io::Error),
    /// The connection broke, or what came is not HTTP.
    #[error("the connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// Nothing came for too long.
    #[error("no answer for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// An answer larger than the caller is prepared for, in bytes.
    #[error("an answer of more than {0} bytes")]
    TooLarge(usize),
}

/// Where a server is, and as whom requests go there.
#[derive(Clone)]
pub struct Address {
    secure: Option<TlsConnector>,
    host: String,
    port: u16,
    /// What every path begins with, without a `/` at its end.
    prefix: String,
    host_header: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl Address {
    /// Reads `http[s]://[name:password@]host[:port][/prefix]`. Name and password may be percent-encoded. For `https`
    /// it reads the certificates that the system trusts (or those of `SSL_CERT_FILE`).
    ///
    /// # Errors
    /// [`ClientError::Address`], without the credentials.
    pub fn parse(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(url.rsplit('@').next().unwrap_or_default().to_owned());
        let (scheme, rest) = url.trim().split_once("://").ok_or_else(wrong)?;
        let (secure, usual_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (None, 80),
            "https" => (Some(connector().map_err(ClientError::Secure)?), 443),
            _ => return Err(wrong()),
        };
        let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong())?),
            _ => (authority, usual_port),
        };
        let is_unfit = |letter: char| letter.is_ascii_control() || matches!(letter, ' ' | '?' | '#');
        if host.is_empty() || rest.contains(is_unfit) {
            return Err(wrong());
        }
        let mut address = Self {
            secure,
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            prefix: prefix.trim_end_matches('/').to_owned(),
            host_header: HeaderValue::from_str(authority).map_err(|_| wrong())?,
            authorization: None,
        };
        if let Some(user) = user {
            let (name, password) = user.split_once(':').ok_or_else(wrong)?;
            let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| wrong());
            address = address.with_credentials(&decoded(name)?, &decoded(password)?);
        }
        Ok(address)
    }

    /// The same server, asked as this account.
    #[must_use]
    pub fn with_credentials(mut self, name: &str, password: &str) -> Self {
        let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        self.authorization = HeaderValue::from_str(&value).ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        self
    }

    /// Whether requests name an account.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.authorization.is_some()
    }

    /// The URL without credentials: for messages, and to know a server again.
    #[must_use]
    pub fn shown(&self) -> String {
        let scheme = if self.secure.is_some() { "https" } else { "http" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{scheme}://{host}:{}{}", self.port, self.prefix)
    }
}

/// TLS with the certificates that the system trusts.
fn connector() -> io::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The body of a request.
#[derive(Debug)]
pub enum Body {
    /// These bytes, once; `None` for no body.
    Whole(Option<Bytes>),
    /// Pieces as they come, sent chunked. An error among them breaks the connection off, so that the server cannot take
    /// what came so far for everything.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Pieces(pieces) => pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Pieces(_) => SizeHint::default(),
        }
    }
}

/// A request.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// Path and query below the address, percent-encoded, beginning with `/`.
    pub path: &'a str,
    /// What the answer may be.
    pub accept: &'a str,
    /// What the body is.
    pub content_type: &'a str,
    /// Whatever else stands in the head.
    pub headers: &'a [(&'static str, String)],
    /// The body.
    pub body: Body,
}

impl<'a> Request<'a> {
    /// A request that speaks JSON both ways; `None` sends no body.
    #[must_use]
    pub fn json(method: &'a str, path: &'a str, body: Option<Bytes>) -> Self {
        Self { method, path, accept: JSON, content_type: JSON, headers: &[], body: Body::Whole(body) }
    }
}

/// One keep-alive connection, made when it is needed. One request at a time.
pub struct Client {
    address: Arc<Address>,
    connection: Option<SendRequest<Body>>,
}

impl Client {
    /// A client that is not connected yet.
    #[must_use]
    pub fn new(address: Arc<Address>) -> Self {
        Self { address, connection: None }
    }

    /// Sends a request and waits for the head of its answer. Whatever is left of an earlier answer is thrown away.
    ///
    /// # Errors
    /// When there is no answer; any status is one.
    pub async fn send(&mut self, request: Request<'_>) -> Result<Reply, ClientError> {
        let mut kept = self.connection.take();
        if let Some(connection) = &mut kept
            && connection.ready().await.is_err()
        {
            kept = None;
        }
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await?;
        let streamed = matches!(request.body, Body::Pieces(_));
        let asked = connection.send_request(self.head_of(request)?);
        let answer = match streamed {
            true => asked.await, // as long as the pieces come; their sender watches over that
            false => timeout(ANSWER_PATIENCE, asked).await.map_err(|_| ClientError::Silent(ANSWER_PATIENCE))?,
        };
        let answer = answer?;
        self.connection = Some(connection);
        let header = |name| answer.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let (content_type, location, retry_after) = (header(CONTENT_TYPE), header(LOCATION), header(RETRY_AFTER));
        Ok(Reply {
            status: answer.status().as_u16(),
            content_type: content_type.unwrap_or_default().to_owned(),
            location: location.map(str::to_owned),
            retry_after: retry_after.map(str::to_owned),
            body: answer.into_body(),
        })
    }

    fn head_of(&self, request: Request<'_>) -> Result<hyper::Request<Body>, ClientError> {
        let path = format!("{}{}", self.address.prefix, request.path);
        let mut head = hyper::Request::builder()
            .method(request.method)
            .uri(&path)
            .header(HOST, &self.address.host_header)
            .header(ACCEPT, request.accept);
        if request.method != "GET" {
            head = head.header(CONTENT_TYPE, request.content_type);
        }
        for (name, value) in request.headers {
            head = head.header(*name, value);
        }
        if let Some(authorization) = &self.address.authorization {
            head = head.header(AUTHORIZATION, authorization);
        }
        head.body(request.body).map_err(|_| ClientError::Address(path))
    }

    async fn connect(&self) -> Result<SendRequest<Body>, ClientError> {
        timeout(CONNECT_PATIENCE, self.connect_now()).await.map_err(|_| ClientError::Silent(CONNECT_PATIENCE))?
    }

    async fn connect_now(&self) -> Result<SendRequest<Body>, ClientError> {
        let address = &self.address;
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(ClientError::Connect)?;
        stream.set_nodelay(true).map_err(ClientError::Connect)?;
        // The connection's own task ends with the client, or when the server hangs up.
        let Some(connector) = &address.secure else {
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            return Ok(sender);
        };
        let name = ServerName::try_from(address.host.clone());
        let name = name.map_err(|error| ClientError::Secure(io::Error::other(error)))?;
        let stream = connector.connect(name, stream).await.map_err(ClientError::Secure)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// One question in JSON over a connection of its own: status, and the JSON of the answer (`null` if it is none).
///
/// # Errors
/// When there is no answer; any status is one.
pub async fn ask(address: Address, method: &str, path: &str, body: &Value) -> Result<(u16, Value), ClientError> {
    let (status, text) = fetch(address, method, path, body, MOST_ANSWER).await?;
    Ok((status, serde_json::from_slice(&text).unwrap_or_default()))
}

/// [`ask`] for an answer that need not be JSON, of at most so many bytes: status and body.
///
/// # Errors
/// When there is no answer, or more of it; any status is one.
pub async fn fetch(
    address: Address,
    method: &str,
    path: &str,
    body: &Value,
    limit: usize,
) -> Result<(u16, Vec<u8>), ClientError> {
    let mut client = Client::new(Arc::new(address));
    let body = (!body.is_null()).then(|| Bytes::from(body.to_string()));
    let mut reply = client.send(Request::json(method, path, body)).await?;
    let text = reply.whole(limit).await?;
    Ok((reply.status, text))
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, empty if there is none.
    pub content_type: String,
    /// `Location`.
    pub location: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    body: Incoming,
}

impl Reply {
    /// Whether the status is 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// When the connection breaks, or nothing comes for two minutes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = timeout(SILENCE, self.body.frame()).await.map_err(|_| ClientError::Silent(SILENCE))?;
            let Some(frame) = frame else { return Ok(None) };
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// The rest of the body, of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Reply::next`], and [`ClientError::TooLarge`].
    pub async fn whole(&mut self, limit: usize) -> Result<Vec<u8>, ClientError> {
        let mut whole = Vec::new();
        while let Some(data) = self.next().await? {
            if whole.len() + data.len() > limit {
                return Err(ClientError::TooLarge(limit));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::{Address, Body, Client, ClientError, Request};

    #[test]
    fn addresses_are_taken_apart_and_shown_without_credentials() {
        for (url, shown, host, port, prefix) in [
            ("http://ann:s%40cret@host:5984", "http://host:5984", "host", 5984, ""),
            ("https://ann:x@h.example.org", "https://h.example.org:443", "h.example.org", 443, ""),
            ("http://host/couch/db/", "http://host:80/couch/db", "host", 80, "/couch/db"),
            ("HTTP://[::1]:5984/", "http://[::1]:5984", "::1", 5984, ""),
            ("http://[::1]", "http://[::1]:80", "::1", 80, ""),
            ("http://ann:a@b:c@host", "http://host:80", "host", 80, ""),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.shown(), shown, "{url}");
            assert_eq!((address.host.as_str(), address.port, address.prefix.as_str()), (host, port, prefix), "{url}");
            assert_eq!(address.has_credentials(), url.contains("ann"), "{url}");
        }
        let address = Address::parse("http://ann:s%40cret@host:5984").unwrap();
        assert_eq!(address.authorization.unwrap().to_str().unwrap(), "Basic YW5uOnNAY3JldA==");
        for url in ["", "host:5984", "ftp://host", "http://", "http://ann:secret@", "http://ann@host", "http://h:x"] {
            let error = Address::parse(url).err().expect(url).to_string();
            assert!(!error.contains("secret") && error.contains("percent-encoded"), "{error}");
        }
    }

    /// A server that answers each connection's requests with these bytes, and what it was sent.
    async fn scripted(answers: &'static [&'static str]) -> (Arc<Address>, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://ann:secret@{}/base", listener.local_addr().unwrap());
        let (sent, seen) = mpsc::channel(16);
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b"0\r\n\r\n") {
                    request.push(stream.read_u8().await.unwrap());
                }
                sent.send(String::from_utf8(request).unwrap()).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (Arc::new(Address::parse(&url).unwrap()), seen)
    }

    #[tokio::test]
    async fn requests_carry_the_account_and_a_new_connection_is_made_when_the_old_one_is_gone() {
        let answers = &[
            "HTTP/1.1 200 OK\r\ncontent-type: text/x\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 404 Not Found\r\nlocation: /x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nnot\r\n2\r\n!!\r\n0\r\n\r\n",
        ];
        let (address, mut seen) = scripted(answers).await;
        let mut client = Client::new(address);
        let mut reply = client.send(Request::json("GET", "/a?b=c", None)).await.unwrap();
        assert_eq!((reply.status, reply.is_success(), reply.content_type.as_str()), (200, true, "text/x"));
        assert_eq!(reply.whole(2).await.unwrap(), b"ok");
        let request = seen.recv().await.unwrap();
        assert!(request.starts_with("GET /base/a?b=c HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: Basic YW5uOnNlY3JldA==\r\n"), "{request}");
        assert!(!request.contains("content-type"), "{request}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let mut reply = client.send(Request::json("GET", "/b", None)).await.unwrap();
        assert_eq!((reply.status, reply.location.as_deref()), (404, Some("/x")));
        assert!(matches!(reply.whole(4).await, Err(ClientError::TooLarge(4))));
    }

    #[tokio::test]
    async fn a_broken_source_never_looks_like_the_end_of_a_body() {
        let (address, mut seen) = scripted(&["HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"]).await;
        let mut client = Client::new(Arc::clone(&address));
        let (pieces, body) = mpsc::channel(1);
        let request = Request { body: Body::Pieces(body), ..Request::json("PUT", "/a", None) };
        let feed = async move {
            pieces.send(Ok(Bytes::from_static(b"one"))).await.unwrap();
            pieces.send(Ok(Bytes::from_static(b"two"))).await.unwrap();
        };
        let (reply, ()) = tokio::join!(client.send(request), feed);
        assert_eq!(reply.unwrap().status, 201);
        let request = seen.recv().await.unwrap();
        assert!(request.contains("chunked\r\n") || request.contains("transfer-encoding: chunked"), "{request}");

        // Were it taken for the end, the server would say that it has all.
        let (address, _seen) = scripted(&["HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"]).await;
        let (pieces, body) = mpsc::channel(1);
        let request = Request { body: Body::Pieces(body), ..Request::json("PUT", "/a", None) };
        let feed = async move {
            pieces.send(Ok(Bytes::from_static(b"one"))).await.unwrap();
            pieces.send(Err(std::io::Error::other("the source broke"))).await.unwrap();
        };
        let mut client = Client::new(address);
        let (reply, ()) = tokio::join!(client.send(request), feed);
        assert!(matches!(reply, Err(ClientError::Broken(_))));
    }

    #[tokio::test]
    async fn nobody_there_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let mut client = Client::new(Arc::new(Address::parse(&url).unwrap()));
        let error = client.send(Request::json("GET", "/", None)).await.unwrap_err();
        assert!(matches!(error, ClientError::Connect(_)), "{error}");
    }
}
