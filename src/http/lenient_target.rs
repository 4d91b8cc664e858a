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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};
    use std::task::Waker;

    use http_body_util::{BodyExt as _, Empty};
    use hyper::body::{Bytes, Incoming};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::test_runner::TestCaseResult;

    use super::*;

    /// A connection that gives its bytes in pieces, with a `Pending` between any two, and swallows what is written.
    struct Pieces {
        pieces: VecDeque<Vec<u8>>,
        pause: bool,
    }

    impl Pieces {
        /// Cuts the input after as many bytes as the sizes say, in turn.
        fn new(mut input: &[u8], sizes: &[usize]) -> Self {
            let mut pieces = VecDeque::new();
            for size in sizes.iter().cycle() {
                if input.is_empty() {
                    break;
                }
                let (piece, rest) = input.split_at((*size).clamp(1, input.len()));
                pieces.push_back(piece.to_vec());
                input = rest;
            }
            Self { pieces, pause: false }
        }
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.pause = !self.pause;
            if self.pause {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let Some(mut piece) = self.pieces.pop_front() else { return Poll::Ready(Ok(())) };
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.pieces.push_front(rest);
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Pieces {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Everything that comes out, read with `room` bytes at a time.
    fn pass(input: &[u8], sizes: &[usize], room: usize) -> Vec<u8> {
        let mut connection = LenientTarget::new(Pieces::new(input, sizes));
        let mut context = Context::from_waker(Waker::noop());
        let (mut output, mut space) = (Vec::new(), vec![0; room]);
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(&mut connection).poll_read(&mut context, &mut buffer) {
                Poll::Pending => {}
                Poll::Ready(result) => {
                    result.expect("memory does not fail");
                    if buffer.filled().is_empty() {
                        return output;
                    }
                    output.extend_from_slice(buffer.filled());
                }
            }
        }
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Fails unless `input` becomes `expected`, cut anyhow.
    fn becomes(input: &[u8], expected: &[u8]) {
        for sizes in [&[usize::MAX][..], &[1], &[2], &[3, 7], &[16]] {
            for room in [1, 5, 8192] {
                assert_eq!(text(&pass(input, sizes, room)), text(expected), "{sizes:?} {room}");
            }
        }
    }

    /// One request as sent and as it must come out.
    #[derive(Clone, Debug)]
    struct Sent {
        raw: Vec<u8>,
        encoded: Vec<u8>,
    }

    /// The rule once more, in other words.
    fn encode_by_rule(target: &str) -> String {
        let (before, fragment) = target.find('#').map_or((target, ""), |at| target.split_at(at));
        let (path, query) = before.find('?').map_or((before, ""), |at| before.split_at(at));
        let angles = |text: &str| text.replace('<', "%3C").replace('>', "%3E");
        angles(path).replace('`', "%60") + &angles(query).replace('"', "%22") + fragment
    }

    fn target() -> impl Strategy<Value = String> {
        let piece = select(vec![
            "a", "/", "?", "#", "\"", "<", ">", "`", "{}", "|", "\\", "^", "[", "é", "%22", "+", "&k=", "0",
        ]);
        vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    /// Text that looks like what is rewritten, in a place where it must not be.
    fn bait() -> impl Strategy<Value = Vec<u8>> {
        let piece = select(vec![
            &b"GET /a?\"b\" HTTP/1.1\r\n"[..],
            b"PUT /<`> HTTP/1.0\r\n\r\n",
            b"\r\n",
            b"\r\n0\r\n\r\n",
            b"Content-Length: 3\r\n",
            b"\"<>`",
            b"\n",
            b"\r",
            b"\0\xff",
            b"{\"a\":1}",
        ]);
        vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    fn headers() -> impl Strategy<Value = String> {
        let line = select(vec![
            "Host: \"x\"\r\n",
            "accept:*/*\r\n",
            "Expect: 100-continue\r\n",
            "X-Line: GET /?\"<>` HTTP/1.1\r\n",
            "Content-Lengths: 5\r\n",
            "Empty:\r\n",
        ]);
        vec(line, 0..4).prop_map(|lines| lines.concat())
    }

    fn framed() -> impl Strategy<Value = Vec<u8>> {
        let chunk = (bait(), any::<bool>(), select(vec!["", ";", " ;a=\"GET /?<\"", "\t ", ";x=`"]));
        let trailers = select(vec!["", "Expires: \"never\"\r\n", "A:1\r\nB: GET /\"?\"\r\n"]);
        let chunked = (vec(chunk, 0..4), trailers).prop_map(|(chunks, trailers)| {
            let mut body = b"transfer-encoding: Chunked\r\n\r\n".to_vec();
            for (data, upper, extension) in chunks.iter().filter(|(data, ..)| !data.is_empty()) {
                let size = data.len();
                let size = if *upper { format!("{size:X}") } else { format!("0{size:x}") };
                body.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
                body.extend_from_slice(&[data, &b"\r\n"[..]].concat());
            }
            body.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
            body
        });
        let length = select(vec!["Content-Length:", "content-length: ", "CONTENT-LENGTH:\t 00"]);
        let counted = (bait(), length)
            .prop_map(|(data, name)| [format!("{name}{} \r\n\r\n", data.len()).as_bytes(), &data].concat());
        prop_oneof![Just(b"\r\n".to_vec()), counted, chunked]
    }

    fn request() -> impl Strategy<Value = Sent> {
        (select(vec!["GET", "PUT", "POST", "COPY"]), target(), headers(), framed()).prop_map(
            |(method, target, headers, framed)| {
                let with =
                    |target: &str| [format!("{method} {target} HTTP/1.1\r\n{headers}").as_bytes(), &framed].concat();
                Sent { raw: with(&target), encoded: with(&encode_by_rule(&target)) }
            },
        )
    }

    fn requests() -> impl Strategy<Value = Sent> {
        vec(request(), 0..6).prop_map(|all| Sent {
            raw: all.iter().flat_map(|sent| sent.raw.clone()).collect(),
            encoded: all.iter().flat_map(|sent| sent.encoded.clone()).collect(),
        })
    }

    fn sizes() -> impl Strategy<Value = Vec<usize>> {
        prop_oneof![Just(vec![usize::MAX]), vec(1..9_usize, 1..20), vec(1..300_usize, 1..9)]
    }

    /// What is not followed. A raw target in its own request line may already have been rewritten, so there is none.
    const NOT_FOLLOWED: &[&str] = &[
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: +0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0x0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length : 0\r\n\r\n",
        "POST / HTTP/1.1\r\nA: b\r\n Content-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nno colon\r\n\r\n",
        "POST / HTTP/1.1\r\n: no name\r\n\r\n",
        "POST / HTTP/1.1\r\nA: bare\n\r\n",
        "POST / HTTP/1.1\r\nA: bare\rcr\r\n\r\n",
        "POST / HTTP/1.1\r\nA: bare\r\rB: c\r\n\r\n",
        "POST / HTTP/1.1\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
        "CONNECT / HTTP/1.1\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / a HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET /\r\n\r\n",
        "GET * HTTP/1.1\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\n\r\n",
        "get / HTTP/1.1\r\n\r\n",
        " / HTTP/1.1\r\n\r\n",
        "GET /\u{7f} HTTP/1.1\r\n\r\n",
        "GET /\u{1} HTTP/1.1\r\n\r\n",
        "GET /\t HTTP/1.1\r\n\r\n",
        "ABCDEFGHIJKLMNOPQRSTU / HTTP/1.1\r\n\r\n",
        "\r\n",
        "\u{16}\u{3}\u{1}",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n 0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0 0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0;a\rb\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: bare\n\r\n",
    ];

    /// What comes after; followed, it would be rewritten.
    const AFTER: &[u8] = b"GET /`?\"<>\" HTTP/1.1\r\nHost: a\r\n\r\nGET /`?\"<>\" HTTP/1.1\r\n\r\n";

    proptest! {
        #[test]
        fn targets_are_encoded_and_nothing_else(sent in requests(), sizes in sizes(), room in 1..400_usize) {
            prop_assert_eq!(text(&pass(&sent.raw, &sizes, room)), text(&sent.encoded));
        }

        #[test]
        fn what_is_not_followed_passes(before in requests(), bad in select(NOT_FOLLOWED), sizes in sizes(),
                                       room in 1..400_usize) {
            let rest = [bad.as_bytes(), AFTER].concat();
            let output = pass(&[&before.raw[..], &rest].concat(), &sizes, room);
            prop_assert_eq!(text(&output), text(&[&before.encoded[..], &rest].concat()));
        }

        #[test]
        fn no_bytes_are_lost_or_make_it_panic(bytes: Vec<u8>, sent in requests(), tail in bait(), sizes in sizes(),
                                              room in 1..400_usize) {
            let input = [&sent.raw[..], &tail, &bytes].concat();
            let output = pass(&input, &sizes, room);
            prop_assert!(output.len() >= input.len() && output.len() <= 3 * input.len());
        }

        #[test]
        fn hyper_never_sees_a_changed_header_or_body(input in conversation(), sizes in sizes()) {
            check_with_hyper(&input, &sizes)?;
        }
    }

    #[test]
    fn every_hostile_head_in_every_cut() {
        for bad in NOT_FOLLOWED {
            let input = [bad.as_bytes(), AFTER].concat();
            becomes(&input, &input);
        }
    }

    #[test]
    fn examples() {
        becomes(
            b"GET /db/_all_docs?startkey=\"c\" HTTP/1.1\r\n\r\n",
            b"GET /db/_all_docs?startkey=%22c%22 HTTP/1.1\r\n\r\n",
        );
        becomes(b"GET /\"<a>`?`|{}\\^\"#\"<` HTTP/1.0\r\n\r\n", b"GET /\"%3Ca%3E%60?`|{}\\^%22#\"<` HTTP/1.0\r\n\r\n");
        becomes("GET /é?\"ü\" HTTP/1.1\r\n\r\n".as_bytes(), "GET /é?%22ü%22 HTTP/1.1\r\n\r\n".as_bytes());
        becomes(b"GET /?\"", b"GET /?\""); // the end comes first
        becomes(b"GET /?\" HTTP/1.1\r", b"GET /?\" HTTP/1.1\r");
    }

    #[test]
    fn sections_are_bounded() {
        let long = "x".repeat(LONGEST_SECTION);
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let pad = |count: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(count));
        let fixed = pad(0).len();
        for (head, followed) in [
            (format!("GET /{long} HTTP/1.1\r\n\r\n"), false),
            (pad(LONGEST_SECTION - fixed), true),
            (pad(LONGEST_SECTION - fixed + 1), false),
            (format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(LONGEST_SECTION / 6)), false),
            (format!("{chunked}0;{long}\r\n\r\n"), false),
            (format!("{chunked}0\r\nA: {long}\r\n\r\n"), false),
            (format!("{chunked}{}0\r\n\r\n", "1;abc\r\nx\r\n".repeat(LONGEST_SECTION / 6)), true),
        ] {
            let after = if followed { text(AFTER).replace("/`?\"<>\"", "/%60?%22%3C%3E%22") } else { text(AFTER) };
            let input = [head.as_bytes(), AFTER].concat();
            for sizes in [&[usize::MAX][..], &[8191], &[1]] {
                assert!(
                    pass(&input, sizes, 8192) == [head.as_bytes(), after.as_bytes()].concat(),
                    "{followed} {sizes:?}"
                );
            }
        }
    }

    #[test]
    fn a_line_is_held_back_only_while_it_can_be_a_request() {
        let passes = |input: &[u8]| Rewriter::default().follow(input);
        assert_eq!(passes(b"GET /?\""), 0);
        assert_eq!(passes(b"GE"), 0);
        assert_eq!(passes(b"GET /\r\n"), 7);
        assert_eq!(passes(b"\x16\x03\x01"), 3);
        assert_eq!(passes(b"GET http"), 8);
        assert_eq!(passes(b"ABCDEFGHIJKLMNOPQRSTU"), 21);
        assert_eq!(passes(b"GET / HTTP/1.1\r\nA: "), 19);
    }

    #[test]
    fn the_common_case_copies_nothing() {
        let mut rewriter = Rewriter::default();
        let input = b"PUT /db/a?new_edits=false HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(rewriter.follow(input), input.len());
        assert_eq!((rewriter.ready.capacity(), rewriter.line.capacity()), (0, 0));
        assert!(matches!(rewriter.part, Part::RequestLine));
    }

    /// The list of bytes in [`encode_target`] is what this version of `http` refuses.
    #[test]
    fn exactly_what_hyper_refuses_is_encoded() {
        for byte in b'!'..=b'~' {
            for before in ["/a", "/a?b=", "/a#", "/a?b#"] {
                let target = format!("{before}{}c", char::from(byte));
                let encoded = encode_target(format!("GET {target} HTTP/1.1\r\n").as_bytes());
                assert_eq!(encoded.is_some(), target.parse::<hyper::Uri>().is_err(), "{target}");
                if let Some(line) = encoded {
                    let line = text(&line);
                    let uri: hyper::Uri = line.split(' ').nth(1).expect("a target").parse().expect("a good one");
                    assert_eq!(uri.to_string(), format!("{before}%{byte:02X}c"));
                }
            }
        }
    }

    /// Connections near the edge of what is HTTP. No byte of them is a `%`: one seen later was put there.
    fn conversation() -> impl Strategy<Value = Vec<u8>> {
        let line = select(vec![
            &b"GET /a HTTP/1.1\r\n"[..],
            b"POST /a?\"b\" HTTP/1.1\r\n",
            b"PUT /<` HTTP/1.0\r\n",
            b"Content-Length: 5\r\n",
            b"Content-Length: 30\r\n",
            b"Content-Length: 5\n",
            b"Content-Length:5,5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n",
            b"Transfer-Encoding: chunked \n",
            b"Connection: keep-alive\r\n",
            b"Expect: 100-continue\r\n",
            b"A: GET /?\"<\" HTTP/1.1\r\n",
            b" folded: \"\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b"0\r\n",
            b"0\r\n\r\n",
            b"1a;\"x\"\r\n",
            b"5\r\nhello\r\n",
            b"A \r\n0123456789\r\n",
        ]);
        let loose = vec(line, 0..8).prop_map(|lines| lines.concat());
        let part = prop_oneof![2 => request().prop_map(|sent| sent.raw), 1 => loose, 1 => bait()];
        vec(part, 1..8).prop_map(|parts| parts.concat().into_iter().filter(|byte| *byte != b'%').collect())
    }

    /// Lets hyper serve the connection, and looks at every header, body and trailer it finds.
    fn check_with_hyper(input: &[u8], sizes: &[usize]) -> TestCaseResult {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let seen = Arc::clone(&seen);
            async move {
                let (parts, body) = request.into_parts();
                let mut bytes: Vec<u8> =
                    parts.headers.values().flat_map(|value| value.as_bytes().iter().copied()).collect();
                if let Ok(body) = body.collect().await {
                    let trailers = body.trailers().cloned().unwrap_or_default();
                    bytes.extend(trailers.values().flat_map(|value| value.as_bytes()));
                    bytes.extend(body.to_bytes());
                }
                seen.lock().expect("one thread").push(bytes);
                Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
            }
        });
        let io = TokioIo::new(LenientTarget::new(Pieces::new(input, sizes)));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        drop(runtime.block_on(connection)); // most of these connections end in an error
        for bytes in seen.lock().expect("one thread").iter() {
            prop_assert!(!bytes.contains(&b'%'), "changed: {}", text(bytes));
        }
        Ok(())
    }
}
