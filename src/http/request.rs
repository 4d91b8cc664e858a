//! A request, understood: path segments and query decoded, body read within limits.

use std::io::Read as _;
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};

use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Uri};
use settle_protocol::query::Query;
use settle_protocol::{Error, ErrorKind};

use crate::services::body_memory::{MemoryShare, NoMemory};

/// Bytes that are inflated before the memory for them is taken.
const INFLATED_STEP: u64 = 64 << 10;

/// One request. The body is taken by whoever reads it.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// Decoded path segments; a trailing slash counts for nothing.
    pub(crate) segments: Vec<String>,
    pub(crate) query: Query,
    pub(crate) network: IpAddr,
    body: Option<Incoming>,
    /// A body that is here already, instead.
    whole: Option<Bytes>,
}

impl Request {
    /// Decodes path and query.
    pub(crate) fn new(request: hyper::Request<Incoming>, network: IpAddr) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        let reads = matches!(parts.method.as_str(), "GET" | "HEAD");
        let segments = segments_of(parts.uri.path(), reads)?;
        let query = query_of(parts.uri.query().unwrap_or_default())?;
        Ok(Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            segments,
            query,
            network,
            body: Some(body),
            whole: None,
        })
    }

    /// A request that the server makes itself, on behalf of whoever made another one.
    pub(crate) fn on_behalf(
        of: &Self,
        method: Method,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Self, Error> {
        let uri: Uri = target.parse().map_err(|_| Error::bad_request("This cannot be asked for."))?;
        let reads = matches!(method.as_str(), "GET" | "HEAD");
        let segments = segments_of(uri.path(), reads)?;
        let query = query_of(uri.query().unwrap_or_default())?;
        Ok(Self { method, uri, headers, segments, query, network: of.network, body: None, whole: Some(body) })
    }

    /// A header as text; `None` when it is not there or no text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A segment of the path, empty when there is none.
    pub(crate) fn segment(&self, number: usize) -> &str {
        self.segments.get(number).map_or("", String::as_str)
    }

    /// The segments from a number on, joined again: names of attachments hold slashes.
    pub(crate) fn rest(&self, from: usize) -> String {
        self.segments.get(from..).unwrap_or_default().join("/")
    }

    /// The body as it comes. A second call gives an empty one.
    pub(crate) fn take_body(&mut self) -> Option<Incoming> {
        self.body.take()
    }

    /// `415` unless the body is JSON by its header.
    pub(crate) fn require_json(&self) -> Result<(), Error> {
        let content_type = self.header("content-type").unwrap_or_default();
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if kind == "application/json" {
            return Ok(());
        }
        Err(Error::new(ErrorKind::BadContentType, "Content-Type must be application/json"))
    }

    /// Reads the whole body, inflated if it is gzip, at most `limit` bytes. `memory` holds it until the request is answered.
    pub(crate) async fn read_body(&mut self, limit: u64, memory: &MemoryShare) -> Result<Bytes, Error> {
        let gzip = match self.header("content-encoding").map(str::to_owned) {
            None => false,
            Some(coding) if coding.eq_ignore_ascii_case("gzip") => true,
            Some(coding) if coding.is_empty() || coding.eq_ignore_ascii_case("identity") => false,
            Some(coding) => {
                let reason = format!("{coding} is not a supported content encoding.");
                return Err(Error::new(ErrorKind::BadContentType, reason));
            }
        };
        if self.declared_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        if let Some(whole) = self.whole.take() {
            return Ok(whole);
        }
        memory.fits(self.declared_length().unwrap_or_default()).map_err(no_memory)?;
        let Some(mut body) = self.take_body() else { return Ok(Bytes::new()) };
        let mut whole = BytesMut::new();
        let mut first: Option<Bytes> = None;
        while let Some(data) = super::multipart::next_bytes(&mut body).await? {
            memory.take(data.len() as u64).map_err(no_memory)?;
            if whole.is_empty() && first.is_none() {
                first = Some(data);
                continue;
            }
            if let Some(first) = first.take() {
                let expected = self.declared_length().unwrap_or(0).min(64 << 20);
                whole.reserve(usize::try_from(expected).unwrap_or(0).max(first.len() + data.len()));
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
            if whole.len() as u64 > limit {
                return Err(too_large());
            }
        }
        let whole = first.unwrap_or_else(|| whole.freeze());
        if whole.len() as u64 > limit {
            return Err(too_large());
        }
        if !gzip {
            return Ok(whole);
        }
        let inflated = inflate(&whole, limit, memory)?;
        memory.give_back(whole.len() as u64);
        Ok(inflated)
    }

    /// `Content-Length`, if it was sent.
    pub(crate) fn declared_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
}

/// `413 too_large`.
pub(crate) fn too_large() -> Error {
    Error::new(ErrorKind::TooLarge, "the request entity is too large")
}

/// The connection broke, or its framing did.
pub(crate) fn broken_body() -> Error {
    Error::bad_request("The request body ended before it was complete.")
}

/// `503` when others hold the memory, `413` when there is not that much.
pub(crate) fn no_memory(problem: NoMemory) -> Error {
    match problem {
        NoMemory::Ever => too_large(),
        NoMemory::AtTheMoment => {
            let reason = "The server has no memory for another request body at the moment; nothing was changed, try again \
                          shortly.";
            Error::new(ErrorKind::Unavailable, reason)
        }
    }
}

/// In steps, so that a bomb is noticed before it fills the memory.
fn inflate(bytes: &[u8], limit: u64, memory: &MemoryShare) -> Result<Bytes, Error> {
    let mut inflated = Vec::new();
    let mut decoder = flate2::read::MultiGzDecoder::new(bytes);
    loop {
        let read = decoder.by_ref().take(INFLATED_STEP).read_to_end(&mut inflated);
        let read = read.map_err(|_| Error::bad_request("Request body is not properly gzipped."))?;
        if inflated.len() as u64 > limit {
            return Err(too_large());
        }
        if read == 0 {
            return Ok(inflated.into());
        }
        memory.take(read as u64).map_err(no_memory)?;
    }
}

fn bad_escape() -> Error {
    Error::bad_request("invalid_url_encoding")
}

/// Decodes percent signs strictly; `+` becomes a space (CouchDB's `decode_plus_to_space`).
pub(crate) fn decode(text: &str) -> Result<String, Error> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Ok(text.to_owned());
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).ok_or_else(bad_escape)?;
                let digit = |digit: u8| (digit as char).to_digit(16).ok_or_else(bad_escape);
                decoded.push((digit(digits[0])? << 4 | digit(digits[1])?) as u8);
                at += 3;
            }
            byte => {
                decoded.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).map_err(|_| Error::new(ErrorKind::IllegalDocumentId, "Document id must be valid UTF-8"))
}

fn segments_of(path: &str, reads: bool) -> Result<Vec<String>, Error> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let mut segments = path.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
    // `_local%2Fx` is the same as `_local/x`, and `_design%2Fx` as `_design/x`; reading the latter is redirected.
    for kind in if reads { &["_local"][..] } else { &["_local", "_design"] } {
        let name = segments.get(1).and_then(|segment| segment.strip_prefix(kind)?.strip_prefix('/'));
        if let Some(name) = name.map(str::to_owned) {
            (*kind).clone_into(&mut segments[1]);
            segments.insert(2, name);
        }
    }
    Ok(segments)
}

fn query_of(query: &str) -> Result<Query, Error> {
    let mut pairs = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text| decode(text).map_err(|_| bad_escape());
        pairs.push((decode(name)?, decode(value)?));
    }
    Ok(Query::new(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::body_memory::BodyMemory;

    #[test]
    fn paths() {
        let segments = |path| segments_of(path, true).expect("valid");
        assert_eq!(segments("/db/"), ["db"]);
        assert_eq!(segments("/"), [""; 0]);
        assert_eq!(segments("/a%2Fb/x+y/%2B"), ["a/b", "x y", "+"]);
        assert_eq!(segments("/db/_local%2Fx"), ["db", "_local", "x"]);
        assert_eq!(segments("/db/_design%2Fx"), ["db", "_design/x"]);
        assert_eq!(segments_of("/db/_design%2Fx", false).expect("valid"), ["db", "_design", "x"]);
        for bad in ["/db/%", "/db/%4", "/db/%zz"] {
            assert_eq!(
                segments_of(bad, true).map_err(|e| e.reason().to_owned()),
                Err("invalid_url_encoding".to_owned())
            );
        }
        assert!(segments_of("/db/%ff", true).is_err());
    }

    #[test]
    fn inflation_is_limited() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 100_000]).expect("memory");
        let bomb = encoder.finish().expect("memory");
        let memory = BodyMemory::default();
        let inflate = |bytes, limit, memory_limit| {
            let share = memory.share(memory_limit);
            let inflated = super::inflate(bytes, limit, &share).map_err(|error| error.status())?;
            assert_eq!(memory.held_bytes(), inflated.len() as u64);
            Ok(inflated.len())
        };
        assert_eq!(inflate(&bomb, 100_000, 100_000), Ok(100_000));
        assert_eq!(inflate(&bomb, 99_999, 100_000), Err(413));
        assert_eq!(inflate(&bomb, 100_000, 99_999), Err(413));
        let others = memory.share(100_000);
        assert_eq!(others.take(1), Ok(()));
        assert_eq!(inflate(&bomb, 100_000, 100_000), Err(503));
        assert_eq!(inflate(b"no gzip", 10, 100_000), Err(400));
        assert_eq!(memory.held_bytes(), 1);
    }
}
