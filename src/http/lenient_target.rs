//! Lets people type `curl 'http://host/db/_all_docs?startkey="c"'`, as CouchDB does.
//!
//! A wrapper around a connection that percent-encodes, in the targets of requests, the few bytes that `http::Uri`
//! refuses and CouchDB takes; hyper would answer a bare 400 before any of our code runs. To know which lines are
//! request lines it follows the framing of HTTP/1.1, more strictly than hyper does. At the first thing it does not
//! fully understand it passes on the rest of the connection as it is. It never changes a byte of a header or a body,
//! refuses nothing, answers nothing, and copies nothing unless a target needs it or a line is cut by a read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use memchr::{memchr, memchr2};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a head, a trailer section or a chunk's size line; after more the rest is passed on as it is.
const LONGEST_SECTION: usize = 128 << 10;
/// Letters of a method.
const LONGEST_METHOD: usize = 20;

/// A connection whose request targets may hold raw `"`, `<`, `>` and `` ` ``.
pub(crate) struct LenientTarget<S> {
    stream: S,
    rewriter: Rewriter,
}

impl<S> LenientTarget<S> {
    /// Wraps a connection before its first byte is read.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, rewriter: Rewriter::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LenientTarget<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if buffer.remaining() == 0 || this.rewriter.deliver(buffer) {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
            let input = &buffer.filled()[before..];
            if input.is_empty() {
                if this.rewriter.finish() {
                    continue;
                }
                return Poll::Ready(Ok(()));
            }
            let unchanged = this.rewriter.follow(input);
            buffer.set_filled(before + unchanged);
            if unchanged > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LenientTarget<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The part of the connection that the next byte belongs to.
#[derive(Clone, Copy)]
enum Part {
    RequestLine,
    /// A header, or the empty line that ends the head.
    Header(Head),
    /// This many more bytes of a body, or of a chunk of one. Never 0.
    Data {
        left: u64,
        chunk: bool,
    },
    ChunkSize,
    /// The line end after a chunk.
    ChunkEnd,
    /// A trailer, or the empty line that ends the body.
    Trailer,
    /// Something was not understood: everything from here on passes as it is.
    Unknown,
}

/// What the head has said so far.
#[derive(Clone, Copy)]
struct Head {
    /// HTTP/1.0, which has no transfer codings.
    old: bool,
    body: Body,
}

/// How the body after a head is framed.
#[derive(Clone, Copy)]
enum Body {
    /// No header said anything: there is none.
    Unsaid,
    Length(u64),
    Chunked,
}

/// Where a line ends.
enum LineEnd {
    /// After this many bytes, CR and LF included.
    After(usize),
    /// Not in these bytes.
    Open,
    /// CR without LF, or LF without CR.
    Broken,
}

/// Follows the bytes of one connection, without doing any input or output.
struct Rewriter {
    part: Part,
    /// The present line, as far as earlier reads had it. A request line was held back; another line was passed on.
    line: Vec<u8>,
    /// Bytes of the present section in lines.
    section: usize,
    /// What could not stay where it was read, from `delivered` on.
    ready: Vec<u8>,
    delivered: usize,
}

impl Default for Rewriter {
    fn default() -> Self {
        Self { part: Part::RequestLine, line: Vec::new(), section: 0, ready: Vec::new(), delivered: 0 }
    }
}

impl Rewriter {
    /// Hands out what waits. `false` when nothing does.
    fn deliver(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        if self.ready.is_empty() {
            return false;
        }
        let waiting = &self.ready[self.delivered..];
        let count = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..count]);
        self.delivered += count;
        if self.delivered == self.ready.len() {
            self.ready = Vec::new(); // a connection that idles holds no memory
            self.delivered = 0;
        }
        true
    }

    /// The end of the input: a request line held back passes as it is. `false` when there is none.
    fn finish(&mut self) -> bool {
        self.give_up();
        !self.ready.is_empty()
    }

    /// Follows what was read next, when nothing waits any more.
    ///
    /// Returns how many bytes at its beginning pass as they are; the others are held back. Or 0, when what passes now
    /// waits for [`Rewriter::deliver`].
    fn follow(&mut self, input: &[u8]) -> usize {
        let (mut at, mut copied) = (0, 0);
        while at < input.len() {
            let rest = &input[at..];
            match &mut self.part {
                Part::Unknown => at = input.len(),
                Part::Data { left, chunk } => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= count as u64;
                    if *left == 0 {
                        self.part = if *chunk { Part::ChunkEnd } else { Part::RequestLine };
                    }
                    at += count;
                }
                _ => at = self.follow_line(input, at, &mut copied),
            }
        }
        let held = if matches!(self.part, Part::RequestLine) { self.line.len() } else { 0 };
        let passing = input.len().saturating_sub(held);
        if self.ready.is_empty() {
            return passing;
        }
        self.ready.extend_from_slice(&input[copied..passing]);
        0
    }

    /// Follows the line that goes on at `input[at..]`, and returns where it ends; `input[..copied]` is dealt with.
    fn follow_line(&mut self, input: &[u8], at: usize, copied: &mut usize) -> usize {
        let rest = &input[at..];
        let (count, whole) = match line_end(self.line.last() == Some(&b'\r'), rest) {
            LineEnd::After(count) => (count, true),
            LineEnd::Open => (rest.len(), false),
            LineEnd::Broken => (usize::MAX, false),
        };
        self.section = self.section.saturating_add(count);
        if self.section > LONGEST_SECTION {
            self.give_up();
            return input.len();
        }
        if !whole {
            self.line.extend_from_slice(rest);
            if !may_become_whole(self.part, &self.line) {
                // Of a request line only what earlier reads had is not in `input`.
                self.line.truncate(self.line.len() - rest.len());
                self.give_up();
            }
            return input.len();
        }
        let cut = !self.line.is_empty();
        let joined;
        let line = if cut {
            self.line.extend_from_slice(&rest[..count]);
            joined = std::mem::take(&mut self.line);
            &joined[..]
        } else {
            &rest[..count]
        };
        let next = next_part(self.part, &line[..line.len() - 2]);
        if matches!(self.part, Part::RequestLine) {
            let encoded = next.and_then(|_| encode_target(line));
            if cut || encoded.is_some() {
                self.ready.extend_from_slice(&input[*copied..at]);
                self.ready.extend_from_slice(encoded.as_deref().unwrap_or(line));
                *copied = at + count;
            }
        }
        self.part = next.unwrap_or(Part::Unknown);
        if !matches!(self.part, Part::Header(_) | Part::Trailer) {
            self.section = 0;
        }
        at + count
    }

    /// From here on everything passes as it is, a request line held back first.
    fn give_up(&mut self) {
        let line = std::mem::take(&mut self.line);
        if matches!(self.part, Part::RequestLine) {
            self.ready.extend_from_slice(&line);
        }
        self.part = Part::Unknown;
    }
}

/// Looks for CR LF. `after_cr`: the byte before was a CR.
fn line_end(after_cr: bool, bytes: &[u8]) -> LineEnd {
    if after_cr {
        return if bytes.first() == Some(&b'\n') { LineEnd::After(1) } else { LineEnd::Broken };
    }
    let Some(end) = memchr2(b'\r', b'\n', bytes) else { return LineEnd::Open };
    match (bytes[end], bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) => LineEnd::After(end + 2),
        (b'\r', None) => LineEnd::Open,
        _ => LineEnd::Broken,
    }
}

/// Whether it is worth waiting for the rest of a line: hyper sees at once what is no HTTP.
fn may_become_whole(part: Part, start: &[u8]) -> bool {
    match part {
        Part::RequestLine => {
            let method = method_length(start);
            method <= LONGEST_METHOD
                && match &start[method..] {
                    [] => true,
                    [b' '] | [b' ', b'/', ..] => method > 0,
                    _ => false,
                }
        }
        Part::ChunkEnd => start == b"\r",
        _ => true,
    }
}

/// Letters at the beginning; one more than a method may have when it has too many.
fn method_length(line: &[u8]) -> usize {
    line.iter().take(LONGEST_METHOD + 1).take_while(|byte| byte.is_ascii_uppercase()).count()
}

/// What follows a line, given without its line end. `None` when it is not understood.
fn next_part(part: Part, line: &[u8]) -> Option<Part> {
    match part {
        Part::RequestLine => request_line(line).map(|old| Part::Header(Head { old, body: Body::Unsaid })),
        Part::Header(head) if line.is_empty() => Some(match head.body {
            Body::Unsaid | Body::Length(0) => Part::RequestLine,
            Body::Length(left) => Part::Data { left, chunk: false },
            Body::Chunked => Part::ChunkSize,
        }),
        Part::Header(head) => header(head, line).map(Part::Header),
        Part::ChunkSize => Some(match chunk_size(line)? {
            0 => Part::Trailer,
            left => Part::Data { left, chunk: true },
        }),
        Part::ChunkEnd => line.is_empty().then_some(Part::ChunkSize),
        Part::Trailer if line.is_empty() => Some(Part::RequestLine),
        Part::Trailer => field_name(line).map(|_| Part::Trailer),
        Part::Data { .. } | Part::Unknown => None,
    }
}

/// `METHOD SP /… SP HTTP/1.x`: whether it is HTTP/1.0.
fn request_line(line: &[u8]) -> Option<bool> {
    let method = method_length(line);
    let (before, version) = line.split_last_chunk::<9>()?;
    let old = match version {
        b" HTTP/1.1" => false,
        b" HTTP/1.0" => true,
        _ => return None,
    };
    let target = before.get(method..)?.strip_prefix(b" ")?;
    let understood = (1..=LONGEST_METHOD).contains(&method)
        && !line.starts_with(b"CONNECT ")
        && target.starts_with(b"/")
        && target.iter().all(|byte| !matches!(byte, 0..=b' ' | 0x7f));
    understood.then_some(old)
}

/// Notes what a header says about the body. An `Upgrade` is not followed.
fn header(mut head: Head, line: &[u8]) -> Option<Head> {
    let name = field_name(line)?;
    let value = &line[name.len() + 1..];
    if name.eq_ignore_ascii_case(b"content-length") {
        let Body::Unsaid = head.body else { return None };
        head.body = Body::Length(number(trim(value), 10)?);
    } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
        let Body::Unsaid = head.body else { return None };
        if head.old || !trim(value).eq_ignore_ascii_case(b"chunked") {
            return None;
        }
        head.body = Body::Chunked;
    } else if name.eq_ignore_ascii_case(b"upgrade") {
        return None;
    }
    Some(head)
}

/// The name of a header or trailer, all token characters (RFC 9110 §5.6.2): so neither a folded line nor `Name :`.
fn field_name(line: &[u8]) -> Option<&[u8]> {
    let name = &line[..memchr(b':', line)?];
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_!#$%&'*+.^`|~".contains(byte);
    (!name.is_empty() && name.iter().all(token)).then_some(name)
}

/// `HEX [blanks] [; extensions]`
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let rest = trim(&line[digits..]);
    (rest.is_empty() || rest[0] == b';').then(|| number(&line[..digits], 16))?
}

/// Digits only: no sign, no blanks; `None` beyond `u64`.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let only_digits = digits.iter().all(|byte| char::from(*byte).is_digit(radix));
    let text = std::str::from_utf8(digits).ok().filter(|_| only_digits)?;
    u64::from_str_radix(text, radix).ok()
}

/// Without the blanks around it; HTTP's blanks are space and tab.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A request line with its target encoded; `None` when that would change nothing.
fn encode_target(line: &[u8]) -> Option<Vec<u8>> {
    let (start, end) = (memchr(b'/', line)?, line.len() - b" HTTP/1.1\r\n".len());
    let target = &line[start..end];
    let path_end = memchr2(b'?', b'#', target).unwrap_or(target.len());
    let query_end = memchr(b'#', target).unwrap_or(target.len()); // `http::Uri` does not look at a fragment
    let refused = |(at, byte): (usize, &u8)| match byte {
        b'<' | b'>' => at < query_end,
        b'`' => at < path_end,
        b'"' => at > path_end && at < query_end,
        _ => false,
    };
    let first = target.iter().enumerate().position(refused)?;
    let mut encoded = Vec::with_capacity(line.len() + 64);
    encoded.extend_from_slice(&line[..start + first]);
    for (at, byte) in target.iter().enumerate().skip(first) {
        if refused((at, byte)) {
            let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
            encoded.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        } else {
            encoded.push(*byte);
        }
    }
    encoded.extend_from_slice(&line[end..]);
    Some(encoded)
}
