//! One TCP connection that speaks HTTP/1.1: requests out, heads and bodies in, or raw bytes both ways.
//!
//! Bodies are read as they come, so a feed that never ends can be read line by line. Every wait has a deadline; nothing
//! read is lost when one passes. It never closes early and never reconnects.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{Request, Response};

/// More than any sensible head; a server that sends more is broken.
const HEAD_LIMIT: usize = 256 * 1024;
/// Size of the pieces of a chunked request body, in bytes.
const CHUNK: usize = 1000;

/// What remains of the body being read.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Ended,
    Length(u64),
    /// Bytes left in the current chunk; `None` before the first one, whose size line has no line end before it.
    Chunked(Option<u64>),
    /// After the last chunk.
    Trailer,
    UntilClose,
}

/// An open connection with what was received and not yet used.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    address: String,
    received: Vec<u8>,
    framing: Framing,
    timeout: Duration,
}

impl Connection {
    /// Connects to `host:port`; `timeout` bounds each exchange as a whole.
    pub(crate) fn open(address: &str, timeout: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, address: address.to_owned(), received: Vec::new(), framing: Framing::Ended, timeout })
    }

    /// Sends a request and reads the whole answer; the connection can then be used again.
    pub(crate) fn send(&mut self, request: &Request) -> io::Result<Response> {
        let deadline = Instant::now() + self.timeout;
        let mut response = self.begin(request, deadline)?;
        while let Some(piece) = self.body_piece(deadline)? {
            response.body.extend_from_slice(&piece);
        }
        Ok(response)
    }

    /// Sends a request, reads the head of the answer and leaves the body to be read as a feed.
    pub(crate) fn into_feed(mut self, request: &Request) -> io::Result<Feed> {
        let deadline = Instant::now() + self.timeout;
        let head = self.begin(request, deadline)?;
        Ok(Feed { head, connection: self, line: Vec::new() })
    }

    /// Sends bytes as they are: half a request, nonsense, two requests at once.
    pub(crate) fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads the answer to what was sent by `write_raw`; `method` matters only for `HEAD`.
    pub(crate) fn read_response(&mut self, method: &str) -> io::Result<Response> {
        let deadline = Instant::now() + self.timeout;
        let mut response = self.head(method, deadline)?;
        while let Some(piece) = self.body_piece(deadline)? {
            response.body.extend_from_slice(&piece);
        }
        Ok(response)
    }

    /// Whatever comes until the server closes or `wait` is over, and whether it closed.
    pub(crate) fn read_raw(&mut self, wait: Duration) -> (Vec<u8>, bool) {
        let deadline = Instant::now() + wait;
        let closed = loop {
            match self.fill(deadline) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) => break error.kind() != io::ErrorKind::TimedOut,
            }
        };
        (std::mem::take(&mut self.received), closed)
    }

    fn begin(&mut self, request: &Request, deadline: Instant) -> io::Result<Response> {
        // A server may refuse a body it has not read and close; its answer is worth more than our broken pipe.
        let written = self.write_request(request);
        self.head(&request.method, deadline).map_err(|error| written.err().unwrap_or(error))
    }

    fn write_request(&mut self, request: &Request) -> io::Result<()> {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
        let mut line = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        if request.headers.get("host").is_none() {
            line("Host", &self.address);
        }
        for (name, value) in request.headers.iter() {
            line(name, value);
        }
        let body = request.body.as_deref().unwrap_or_default();
        let body_expected = request.body.is_some() || matches!(request.method.as_str(), "PUT" | "POST");
        if request.chunked {
            line("Transfer-Encoding", "chunked");
        } else if body_expected && request.headers.get("content-length").is_none() {
            line("Content-Length", &body.len().to_string());
        }
        head.push_str("\r\n");
        self.stream.write_all(head.as_bytes())?;
        if !request.chunked {
            return self.stream.write_all(body);
        }
        for piece in body.chunks(CHUNK) {
            self.stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            self.stream.write_all(piece)?;
            self.stream.write_all(b"\r\n")?;
        }
        self.stream.write_all(b"0\r\n\r\n")
    }

    /// Reads a head (passing over interim ones) and prepares for its body.
    fn head(&mut self, method: &str, deadline: Instant) -> io::Result<Response> {
        loop {
            let mut response = Response { status: 0, headers: Default::default(), body: Vec::new() };
            let first = self.line(deadline)?;
            let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
            response.status = status
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| invalid(format!("no status line: {first:?}")))?;
            loop {
                let line = self.line(deadline)?;
                if line.is_empty() {
                    break;
                }
                let (name, value) = line.split_once(':').ok_or_else(|| invalid(format!("no header: {line:?}")))?;
                response.headers.add(name.trim().to_ascii_lowercase(), value.trim());
            }
            if response.status >= 200 {
                self.framing = framing(method, &response)?;
                return Ok(response);
            }
        }
    }

    /// The next bytes of the body, as many as are there; `None` at its end.
    fn body_piece(&mut self, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
        let wanted = match self.framing {
            Framing::Ended => return Ok(None),
            Framing::Trailer => {
                while !self.line(deadline)?.is_empty() {}
                self.framing = Framing::Ended;
                return Ok(None);
            }
            Framing::UntilClose => u64::MAX,
            Framing::Length(left) => left,
            Framing::Chunked(Some(left)) if left > 0 => left,
            Framing::Chunked(before) => {
                self.chunk_size(before.is_some(), deadline)?;
                return self.body_piece(deadline);
            }
        };
        if wanted == 0 {
            self.framing = Framing::Ended;
            return Ok(None);
        }
        if self.received.is_empty() && self.fill(deadline)? == 0 {
            return match self.framing {
                Framing::UntilClose => Ok(None),
                _ => Err(ended("in the middle of a body")),
            };
        }
        let taken = self.received.len().min(usize::try_from(wanted).unwrap_or(usize::MAX));
        let piece: Vec<u8> = self.received.drain(..taken).collect();
        let left = wanted - taken as u64;
        self.framing = match self.framing {
            Framing::Length(_) => Framing::Length(left),
            Framing::Chunked(_) => Framing::Chunked(Some(left)),
            other => other,
        };
        Ok(Some(piece))
    }

    /// Reads the line that says how long the next chunk is.
    fn chunk_size(&mut self, after_chunk: bool, deadline: Instant) -> io::Result<()> {
        // Only whole lines are taken out of `received`, so a deadline in between loses nothing.
        let lines = if after_chunk { 2 } else { 1 };
        while self.received.iter().filter(|byte| **byte == b'\n').count() < lines {
            if self.fill(deadline)? == 0 {
                return Err(ended("between two chunks"));
            }
        }
        if after_chunk && !self.line(deadline)?.is_empty() {
            return Err(invalid("a chunk is longer than its size".to_owned()));
        }
        let line = self.line(deadline)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| invalid(format!("no chunk size: {line:?}")))?;
        self.framing = if size == 0 { Framing::Trailer } else { Framing::Chunked(Some(size)) };
        Ok(())
    }

    /// One line without its end; header bytes count as Latin-1, as HTTP says.
    fn line(&mut self, deadline: Instant) -> io::Result<String> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let text = line.strip_suffix(b"\r\n").unwrap_or(&line[..end]);
                return Ok(text.iter().map(|byte| char::from(*byte)).collect());
            }
            if self.received.len() > HEAD_LIMIT {
                return Err(invalid("a line without end".to_owned()));
            }
            if self.fill(deadline)? == 0 {
                return Err(ended("before the answer"));
            }
        }
    }

    /// Waits for more bytes; 0 says that the server closed.
    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the deadline passed");
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()).ok_or_else(late)?;
        self.stream.set_read_timeout(Some(left))?;
        let mut space = [0; 16 * 1024];
        let count = self.stream.read(&mut space).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => late(),
            _ => error,
        })?;
        self.received.extend_from_slice(&space[..count]);
        Ok(count)
    }
}

/// How the end of a body is known (RFC 9112 §6.3).
fn framing(method: &str, response: &Response) -> io::Result<Framing> {
    if method == "HEAD" || matches!(response.status, 204 | 304) {
        return Ok(Framing::Ended);
    }
    if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Ok(Framing::Chunked(None));
    }
    match response.header("content-length") {
        None => Ok(Framing::UntilClose),
        Some(text) => text.parse().map(Framing::Length).map_err(|_| invalid(format!("no content length: {text:?}"))),
    }
}

/// An answer whose body is read line by line, such as a continuous feed. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Status and headers; the body in it stays empty.
    pub(crate) head: Response,
    connection: Connection,
    line: Vec<u8>,
}

impl Feed {
    /// The next line with its end (the last one may have none); `None` at the end of the body.
    /// Kind `TimedOut` after `wait`, and what has come of the line is kept for the next call.
    pub(crate) fn next_line(&mut self, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.line.drain(..=end).collect()));
            }
            match self.connection.body_piece(deadline)? {
                Some(piece) => self.line.extend_from_slice(&piece),
                None if self.line.is_empty() => return Ok(None),
                None => return Ok(Some(std::mem::take(&mut self.line))),
            }
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn ended(place: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the server closed the connection {place}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);
    const HEAD_END: &str = "\r\n\r\n";

    /// A server that sends these pieces to its one client after a request that ends with `until`, waiting between them
    /// until told to go on, then closes and returns the request.
    fn canned(
        until: &'static str,
        pieces: &'static [&'static str],
    ) -> (Connection, std::sync::mpsc::Sender<()>, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let (go_on, wait) = std::sync::mpsc::channel();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut asked = vec![0; 64 * 1024];
            let mut length = 0;
            while !asked[..length].ends_with(until.as_bytes()) {
                length += stream.read(&mut asked[length..]).expect("a request");
            }
            for (index, piece) in pieces.iter().enumerate() {
                if index > 0 {
                    wait.recv_timeout(PATIENCE).expect("the test goes on");
                }
                stream.write_all(piece.as_bytes()).expect("the client listens");
            }
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        (Connection::open(&address, PATIENCE).expect("a connection"), go_on, server)
    }

    #[test]
    fn a_connection_carries_several_answers_of_every_framing() {
        let (mut connection, _go_on, server) = canned(
            HEAD_END,
            &["HTTP/1.1 100 Continue\r\n\r\n\
            HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: r\r\n\r\n\
            HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nhi\
            HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.0 200 OK\r\n\r\nuntil the end"],
        );
        connection.write_raw(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        let mut next = |method: &str| connection.read_response(method).expect("an answer");
        let first = next("GET");
        assert_eq!((first.status, first.header("x-a"), first.body.as_slice()), (200, Some("b"), b"abcde".as_slice()));
        assert_eq!(next("DELETE").status, 204);
        assert_eq!(next("PUT").text(), "hi");
        assert_eq!(next("HEAD").text(), "");
        assert_eq!(next("GET").text(), "until the end");
        server.join().expect("the server sent everything");
    }

    #[test]
    fn chunked_requests_go_out_in_chunks() {
        let (mut connection, _go_on, server) =
            canned("\r\n0\r\n\r\n", &["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]);
        let request = Request::new("PUT", "/a").header("Host", "h").body(vec![b'x'; CHUNK + 1]).chunked();
        connection.send(&request).expect("an answer");
        let asked = server.join().expect("the server was asked");
        let body = format!("3e8\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(CHUNK));
        assert_eq!(asked, format!("PUT /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
    }

    #[test]
    fn a_feed_keeps_half_a_line_over_a_deadline() {
        let (connection, go_on, server) = canned(
            HEAD_END,
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\nbc\r\n", "3\r\nd\ne\r\n0\r\n\r\n"],
        );
        let mut feed = connection.into_feed(&Request::new("GET", "/")).expect("a feed");
        assert_eq!(feed.next_line(PATIENCE).expect("a line").as_deref(), Some(b"a\n".as_slice()));
        let late = feed.next_line(Duration::from_millis(20)).expect_err("nothing more yet");
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        go_on.send(()).expect("the server waits");
        assert_eq!(feed.next_line(PATIENCE).expect("a line").as_deref(), Some(b"bcd\n".as_slice()));
        assert_eq!(feed.next_line(PATIENCE).expect("the rest").as_deref(), Some(b"e".as_slice()));
        assert_eq!(feed.next_line(PATIENCE).expect("the end"), None);
        server.join().expect("the server sent everything");
    }

    #[test]
    fn a_body_that_stops_short_is_no_answer() {
        const SHORT: [&[&str]; 2] = [
            &["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc"],
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"],
        ];
        for pieces in SHORT {
            let (mut connection, _go_on, server) = canned(HEAD_END, pieces);
            connection.send(&Request::new("GET", "/")).expect_err("the rest is missing");
            server.join().expect("the server sent everything");
        }
    }
}
