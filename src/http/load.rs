//! Load for `settle bench`: a cheap HTTP/1.1 client, and (in `empty_server`) a server that does nothing but answer.
//!
//! The client shares the machine with the server it measures, so it reads only what it must of an answer: the status, the
//! framing and the session cookie. It speaks plain HTTP over one keep-alive connection, one request at a time, with a
//! buffer of fixed size, and hands body bytes on as they arrive.
//! Never used by `settle serve`; never retries, never follows redirects, no TLS, no compression.

use std::fmt::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub use empty_server::{Answer, EmptyServer};
pub use waiting::Waiting;

mod empty_server;
mod waiting;

/// Read buffer of a connection that carries large answers, in bytes.
pub const LARGE_BUFFER: usize = 64 * 1024;
/// Read buffer of a connection that mostly waits, in bytes; still holds any sane response head.
pub const SMALL_BUFFER: usize = 2 * 1024;
/// Bodies up to this size travel in one write with their head, in bytes.
const JOINED_WRITE: usize = 16 * 1024;

/// Why a request could not be completed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The URL is not `http://[name:password@]host[:port]`, or its host is unknown. Holds what follows the credentials.
    #[error("`{0}` is not a usable address; write http://name:password@host:port")]
    Address(String),
    /// The connection failed.
    #[error("the connection failed")]
    Connection(#[from] std::io::Error),
    /// The server closed the connection before the answer was complete.
    #[error("the server closed the connection in the middle of an answer")]
    Closed,
    /// The server's bytes are no HTTP/1.1 answer that this client understands.
    #[error("not an HTTP/1.1 answer: {0}")]
    Malformed(&'static str),
}

/// A server to send requests to, and the credentials every request carries.
#[derive(Clone, Debug)]
pub struct Target {
    address: SocketAddr,
    host: String,
    credentials: Option<(String, String)>,
    headers: Arc<str>,
}

impl Target {
    /// Reads `http://[name:password@]host[:port][/]`; name and password may be percent-encoded. Looks the host up.
    pub fn parse(url: &str) -> Result<Self, LoadError> {
        let wrong = || LoadError::Address(url.rsplit('@').next().unwrap_or_default().to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
        if host.is_empty() || host.contains(['/', '?', '#', '\r', '\n', ' ']) {
            return Err(wrong());
        }
        let credentials = match user {
            None => None,
            Some(user) => {
                let (name, password) = user.split_once(':').ok_or_else(wrong)?;
                Some((decoded(name).ok_or_else(wrong)?, decoded(password).ok_or_else(wrong)?))
            }
        };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let lookup = if has_port { host.to_owned() } else { format!("{host}:80") };
        let address = lookup.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(wrong)?;
        Ok(Self::new(address, host.to_owned(), credentials))
    }

    fn new(address: SocketAddr, host: String, credentials: Option<(String, String)>) -> Self {
        let mut headers = format!("Host: {host}\r\n");
        if let Some((name, password)) = &credentials {
            let pair = STANDARD.encode(format!("{name}:{password}"));
            headers.push_str(&format!("Authorization: Basic {pair}\r\n"));
        }
        Self { address, host, credentials, headers: headers.into() }
    }

    /// The same server, with a cookie (`name=value`) instead of Basic credentials.
    #[must_use]
    pub fn with_cookie(&self, cookie: &str) -> Self {
        let headers = format!("Host: {}\r\nCookie: {cookie}\r\n", self.host);
        Self { headers: headers.into(), ..self.clone() }
    }

    /// Name and password from the URL.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(name, password)| (name.as_str(), password.as_str()))
    }

    /// Where the requests go, as `host:port`.
    pub fn host(&self) -> &str {
        &self.host
    }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(String::from)
}

/// The part of a response head that a load generator needs.
#[derive(Debug)]
pub struct Head {
    /// HTTP status.
    pub status: u16,
    /// `name=value` of the first `Set-Cookie`, without its attributes.
    pub cookie: Option<String>,
    framing: Framing,
    closes: bool,
}

impl Head {
    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// One keep-alive connection; one request at a time.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    target: Target,
    output: Vec<u8>,
    input: Box<[u8]>,
    start: usize,
    end: usize,
    closed: bool,
}

impl Connection {
    /// Connects. `buffer` is the size of the read buffer in bytes ([`LARGE_BUFFER`], [`SMALL_BUFFER`]) and the most a
    /// response head may have.
    pub async fn open(target: &Target, buffer: usize) -> Result<Self, LoadError> {
        let stream = connect(target).await?;
        let input = vec![0; buffer].into_boxed_slice();
        Ok(Self { stream, target: target.clone(), output: Vec::new(), input, start: 0, end: 0, closed: false })
    }

    /// Sends a request and collects the body of the answer in `answer`, which is emptied first.
    pub async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        answer: &mut Vec<u8>,
    ) -> Result<Head, LoadError> {
        answer.clear();
        self.send(method, path, body).await?;
        let head = self.head().await?;
        self.body(&head, |data| answer.extend_from_slice(data)).await?;
        Ok(head)
    }

    /// Sends a request; reconnects first when the server had announced the end of the connection.
    /// `path` must already be percent-encoded.
    pub async fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<(), LoadError> {
        if self.closed {
            self.stream = connect(&self.target).await?;
            (self.start, self.end, self.closed) = (0, 0, false);
        }
        self.output.clear();
        for part in [method, " ", path, " HTTP/1.1\r\n", &self.target.headers, "Accept: application/json\r\n"] {
            self.output.extend_from_slice(part.as_bytes());
        }
        if method != "GET" {
            let mut framing = String::new();
            let written = write!(framing, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            debug_assert!(written.is_ok(), "writing to a string does not fail");
            self.output.extend_from_slice(framing.as_bytes());
        }
        self.output.extend_from_slice(b"\r\n");
        let joined = body.len() <= JOINED_WRITE;
        if joined {
            self.output.extend_from_slice(body);
        }
        self.stream.write_all(&self.output).await?;
        if !joined {
            self.stream.write_all(body).await?;
        }
        Ok(())
    }

    /// Reads the head of the answer to the request just sent. May be cancelled and called again.
    pub async fn head(&mut self) -> Result<Head, LoadError> {
        loop {
            let unread = &self.input[self.start..self.end];
            match find(unread, b"\r\n\r\n") {
                Some(length) => {
                    let head = parse_head(&unread[..length])?;
                    self.start += length + 4;
                    if head.status >= 200 {
                        self.closed = head.closes;
                        return Ok(head);
                    }
                }
                None => self.fill().await?,
            }
        }
    }

    /// Reads the body that belongs to `head` and gives its bytes to `on_data`, piece by piece, without chunk framing.
    pub async fn body(&mut self, head: &Head, mut on_data: impl FnMut(&[u8])) -> Result<(), LoadError> {
        match head.framing {
            Framing::Length(length) => self.counted(length, &mut on_data).await,
            Framing::Chunked => loop {
                let size = self.chunk_size().await?;
                if size == 0 {
                    return self.trailers().await;
                }
                self.counted(size, &mut on_data).await?;
                if !self.line().await?.is_empty() {
                    return Err(LoadError::Malformed("a chunk is longer than it said"));
                }
            },
            Framing::UntilClose => loop {
                on_data(&self.input[self.start..self.end]);
                self.start = self.end;
                match self.fill().await {
                    Err(LoadError::Closed) => return Ok(()),
                    other => other?,
                }
            },
        }
    }

    async fn counted(&mut self, mut left: u64, on_data: &mut impl FnMut(&[u8])) -> Result<(), LoadError> {
        while left > 0 {
            if self.start == self.end {
                self.fill().await?;
            }
            let available = self.end - self.start;
            let taken = usize::try_from(left).map_or(available, |left| left.min(available));
            on_data(&self.input[self.start..self.start + taken]);
            self.start += taken;
            left -= taken as u64;
        }
        Ok(())
    }

    async fn chunk_size(&mut self) -> Result<u64, LoadError> {
        let line = self.line().await?;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let text = std::str::from_utf8(digits).unwrap_or_default();
        u64::from_str_radix(text, 16).map_err(|_| LoadError::Malformed("chunk size"))
    }

    async fn trailers(&mut self) -> Result<(), LoadError> {
        while !self.line().await?.is_empty() {}
        Ok(())
    }

    /// The next line, without its CRLF.
    async fn line(&mut self) -> Result<&[u8], LoadError> {
        loop {
            if let Some(length) = find(&self.input[self.start..self.end], b"\r\n") {
                let begin = self.start;
                self.start += length + 2;
                return Ok(&self.input[begin..begin + length]);
            }
            self.fill().await?;
        }
    }

    /// Reads more bytes behind those not yet used; at least one.
    async fn fill(&mut self) -> Result<(), LoadError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.input.len() {
            if self.start == 0 {
                return Err(LoadError::Malformed("a head or line larger than the buffer"));
            }
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        match self.stream.read(&mut self.input[self.end..]).await? {
            0 => Err(LoadError::Closed),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }
}

async fn connect(target: &Target) -> Result<TcpStream, LoadError> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window[0] == needle[0] && window == needle)
}

fn parse_head(bytes: &[u8]) -> Result<Head, LoadError> {
    let text = std::str::from_utf8(bytes).map_err(|_| LoadError::Malformed("a head that is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.get(2..5))
        .and_then(|status| status.parse().ok())
        .ok_or(LoadError::Malformed("status line"))?;
    let mut head = Head { status, cookie: None, framing: Framing::UntilClose, closes: false };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") && head.framing != Framing::Chunked {
            head.framing = Framing::Length(value.parse().map_err(|_| LoadError::Malformed("content length"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("set-cookie") && head.cookie.is_none() {
            head.cookie = value.split(';').next().map(str::to_owned);
        }
    }
    if matches!(status, 204 | 304) {
        head.framing = Framing::Length(0);
    }
    head.closes |= head.framing == Framing::UntilClose;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::{Connection, Framing, LoadError, Target, parse_head};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// A server that waits for a request and then sends `answer` in pieces of `piece` bytes.
    async fn scripted(answer: &'static [u8], piece: usize) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert_ne!(stream.read(&mut request).await.unwrap(), 0);
            for part in answer.chunks(piece) {
                stream.write_all(part).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        target
    }

    async fn get(target: &Target, buffer: usize) -> Result<(u16, Vec<u8>), LoadError> {
        let mut body = Vec::new();
        let mut connection = Connection::open(target, buffer).await?;
        let head = connection.exchange("GET", "/", b"", &mut body).await?;
        Ok((head.status, body))
    }

    #[tokio::test]
    async fn counted_and_chunked_bodies_arrive_whole_however_they_are_cut() {
        let answers: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nhello \r\n5;x=y\r\nworld\r\n0\r\nA: b\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length:11\r\n\r\nhello world",
            b"HTTP/1.0 200 OK\r\n\r\nhello world",
        ];
        for answer in answers {
            for piece in [1, 3, 1000] {
                let target = scripted(answer, piece).await;
                assert_eq!(get(&target, 64).await.unwrap(), (200, b"hello world".to_vec()));
            }
        }
    }

    #[tokio::test]
    async fn broken_answers_are_errors() {
        let answers: [(&[u8], &str); 5] = [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "closed"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "chunk size"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", "longer than it said"),
            (b"SSH-2.0-OpenSSH_9.2 of the wrong port\r\n\r\n", "status line"),
            (&[b'h'; 500], "larger than the buffer"),
        ];
        for (answer, reason) in answers {
            let target = scripted(answer, 1000).await;
            let error = get(&target, 128).await.unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn addresses_carry_credentials() {
        let target = Target::parse("http://admin:p%40ss:word@127.0.0.1:5984/").unwrap();
        assert_eq!(target.credentials(), Some(("admin", "p@ss:word")));
        assert!(target.headers.contains("Authorization: Basic YWRtaW46cEBzczp3b3Jk\r\n"), "{}", target.headers);
        let cookie = target.with_cookie("AuthSession=abc");
        assert!(cookie.headers.contains("Cookie: AuthSession=abc\r\n") && !cookie.headers.contains("Basic"));
        for wrong in
            ["https://127.0.0.1", "127.0.0.1:5984", "http://", "http://admin@127.0.0.1", "http://a:secret@127.0.0.1/db"]
        {
            let error = Target::parse(wrong).unwrap_err();
            assert!(matches!(&error, LoadError::Address(shown) if !shown.contains("secret")), "{error}");
        }
    }

    #[test]
    fn heads_give_status_framing_and_cookie() {
        let head = parse_head(b"HTTP/1.1 200 OK\r\nSet-Cookie: AuthSession=x; Path=/\r\nConnection: close").unwrap();
        assert_eq!((head.status, head.cookie.as_deref(), head.closes), (200, Some("AuthSession=x"), true));
        let head = parse_head(b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"").unwrap();
        assert!(head.framing == Framing::Length(0) && !head.closes && !head.is_success());
    }
}
