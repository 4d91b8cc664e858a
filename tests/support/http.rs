//! A small blocking HTTP/1.1 client: requests, responses and a client with credentials.
//!
//! It adds nothing on its own account (no `Accept`, no redirects, no retries, no cookies), so that a test controls
//! every header the server sees. Responses arrive as they were sent; `Response::bytes` unpacks gzip.
//! The wire itself is in `http/connection.rs`.

use std::io::{self, Read};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(crate) mod connection;

use connection::Connection;

/// How long one exchange may take, unless the client was told otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Header fields in the order they were sent; names of received ones are lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of this name, in any case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Adds a field, also beside another of the same name.
    pub(crate) fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Every field in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// One request, built by chaining: `Request::new("PUT", "/db/a").json(&json!({}))`.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Headers,
    pub(crate) body: Option<Vec<u8>>,
    /// Send the body with `Transfer-Encoding: chunked`.
    pub(crate) chunked: bool,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Headers::default(),
            body: None,
            chunked: false,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.add(name, value);
        self
    }

    pub(crate) fn basic(self, name: &str, password: &str) -> Self {
        self.header("Authorization", &basic(name, password))
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }
}

/// The value of an `Authorization` header.
pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// One answer; `body` is what came over the wire, without chunk framing.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Headers that are others with every answer.
    pub(crate) const OF_ONE_ANSWER: [&str; 3] = ["date", "set-cookie", "x-couch-request-id"];

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// The cookie that the answer sets, as a request shows it: `name=value`.
    pub(crate) fn cookie(&self) -> Option<String> {
        Some(self.header("set-cookie")?.split(';').next()?.to_owned())
    }

    /// The body, unpacked if it says gzip and is.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        unpack(self.header("content-encoding"), &self.body)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// The body as JSON; panics with status and body if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes())
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.text()))
    }

    /// Panics with the body unless the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "unexpected status; the body was {}", self.text());
        self
    }
}

/// Bytes out of gzip if `encoding` says so and they begin like gzip; otherwise, and if they are broken, unchanged.
pub(crate) fn unpack(encoding: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let packed = encoding == Some("gzip") && bytes.starts_with(&[0x1f, 0x8b]);
    if packed && flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out).is_ok() {
        return out;
    }
    bytes.to_vec()
}

/// Where to send requests and as whom. Each request has a connection of its own; see [`Client::connect`] to keep one.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: String,
    authorization: Option<String>,
    timeout: Duration,
}

impl Client {
    /// A client without credentials; `address` is `host:port`.
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), authorization: None, timeout: DEFAULT_TIMEOUT }
    }

    pub(crate) fn with_basic(mut self, name: &str, password: &str) -> Self {
        self.authorization = Some(basic(name, password));
        self
    }

    /// How long one exchange may take before it counts as unanswered.
    pub(crate) fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A connection to keep: several requests, feeds, or bytes that are no HTTP at all.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        Connection::open(&self.address, self.timeout)
    }

    /// Sends one request, with this client's credentials if it has no `Authorization` of its own.
    pub(crate) fn try_send(&self, request: &Request) -> io::Result<Response> {
        self.connect()?.send(&self.authorized(request))
    }

    /// Like `try_send`; panics if no answer comes.
    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> Response {
        match self.try_send(request) {
            Ok(response) => response,
            Err(error) => panic!("no answer to {} {}: {error}", request.method, request.path),
        }
    }

    /// Sends a request and returns once the head of the answer is there; the body is read line by line.
    #[track_caller]
    pub(crate) fn open_feed(&self, request: &Request) -> connection::Feed {
        let feed = self.connect().and_then(|connection| connection.into_feed(&self.authorized(request)));
        feed.unwrap_or_else(|error| panic!("no answer to {} {}: {error}", request.method, request.path))
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.send(&Request::new("GET", path))
    }

    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Response {
        self.send(&Request::new("DELETE", path))
    }

    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &Value) -> Response {
        self.send(&Request::new("PUT", path).json(body))
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        self.send(&Request::new("POST", path).json(body))
    }

    fn authorized(&self, request: &Request) -> Request {
        match &self.authorization {
            Some(value) if request.headers.get("authorization").is_none() => {
                request.clone().header("Authorization", value)
            }
            _ => request.clone(),
        }
    }
}
