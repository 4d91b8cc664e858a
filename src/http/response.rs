//! Answers: JSON, streams, pieces with attachment bytes that are fetched while they are sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::Stream;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};
use settle_protocol::Revision;
use settle_protocol::raw_json::write_string;

use super::error::HttpError;
use crate::documents::attachments::{CHUNK_BYTES, chunk};
use crate::documents::output::{Output, Piece, chunk_count};
use crate::storage::Store;

/// A stream of body bytes.
pub(crate) type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The body of an answer.
pub(crate) enum AnswerBody {
    Full(Bytes),
    Stream(ByteStream),
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
}

impl Answer {
    /// An answer without type or body.
    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: HeaderMap::new(), body: AnswerBody::Full(Bytes::new()) }
    }

    /// JSON text; a newline is added, as CouchDB does.
    pub(crate) fn json(status: u16, text: impl Into<Vec<u8>>) -> Self {
        let mut text = text.into();
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        let mut answer = Self::empty(status).json_headers();
        answer.body = AnswerBody::Full(text.into());
        answer
    }

    fn json_headers(mut self) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.headers.insert(CACHE_CONTROL, HeaderValue::from_static("must-revalidate"));
        self
    }

    /// `{"ok":true}`.
    pub(crate) fn ok(status: u16) -> Self {
        Self::json(status, &b"{\"ok\":true}"[..])
    }

    /// `{"ok":true,"id":…,"rev":…}`.
    pub(crate) fn written(status: u16, id: &str, revision: &str) -> Self {
        let mut text = b"{\"ok\":true,\"id\":".to_vec();
        write_string(&mut text, id);
        text.extend_from_slice(b",\"rev\":");
        write_string(&mut text, revision);
        text.push(b'}');
        Self::json(status, text)
    }

    /// An error in CouchDB's form.
    pub(crate) fn error(error: &HttpError) -> Self {
        let mut text = b"{\"error\":".to_vec();
        write_string(&mut text, error.word);
        text.extend_from_slice(b",\"reason\":");
        write_string(&mut text, &error.reason);
        text.push(b'}');
        let mut answer = Self::json(error.status, text);
        if let Some(seconds) = error.retry_after {
            answer = answer.header("retry-after", &seconds.to_string());
        }
        if let Some(allow) = &error.allow {
            answer = answer.header("allow", allow);
        }
        answer
    }

    /// JSON that is sent in pieces of unknown number.
    pub(crate) fn stream(status: u16, stream: ByteStream) -> Self {
        let mut answer = Self::empty(status).json_headers();
        answer.body = AnswerBody::Stream(stream);
        answer
    }

    /// Output whose length is known: whole when it is only text, else piece by piece with `Content-Length`.
    pub(crate) fn output(status: u16, output: Output, store: &Store) -> Self {
        let mut answer = Self::empty(status).json_headers();
        let length = output.length();
        let mut pieces = output.into_pieces();
        answer.body = match (pieces.pop(), pieces.is_empty()) {
            (None, _) => AnswerBody::Full(Bytes::new()),
            (Some(Piece::Bytes(bytes)), true) => AnswerBody::Full(bytes),
            (Some(last), _) => {
                pieces.push(last);
                answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                AnswerBody::Stream(Box::pin(stream_pieces(store.clone(), pieces)))
            }
        };
        answer
    }

    /// Adds a header; one that cannot be written is left out.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// `ETag: "rev"`.
    pub(crate) fn etag(mut self, tag: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(&format!("\"{tag}\"")) {
            self.headers.insert(ETAG, value);
        }
        self
    }

    /// `Location`.
    pub(crate) fn location(mut self, location: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(location) {
            self.headers.insert(LOCATION, value);
        }
        self
    }

    /// Replaces the content type.
    pub(crate) fn content_type(mut self, content_type: &str) -> Self {
        let fallback = HeaderValue::from_static("application/octet-stream");
        let value = HeaderValue::from_str(content_type).unwrap_or(fallback);
        self.headers.insert(CONTENT_TYPE, value);
        self
    }

    /// Removes a header.
    pub(crate) fn without(mut self, name: HeaderName) -> Self {
        self.headers.remove(name);
        self
    }

    /// `304`, which carries the tag and nothing else.
    pub(crate) fn not_modified(tag: &str) -> Self {
        Self::empty(304).etag(tag)
    }

    /// The headers of this answer without its body, as `HEAD` wants them.
    pub(crate) fn without_body(mut self) -> Self {
        if let AnswerBody::Full(bytes) = &self.body
            && self.status != 304
        {
            self.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len() as u64));
        }
        self.body = AnswerBody::Full(Bytes::new());
        self
    }
}

/// Whether `If-None-Match` names this tag (weak forms count).
pub(crate) fn matches_tag(if_none_match: Option<&str>, tag: &str) -> bool {
    let Some(list) = if_none_match else { return false };
    list.split(',').map(str::trim).any(|one| {
        let one = one.strip_prefix("W/").unwrap_or(one);
        one.strip_prefix('"').and_then(|one| one.strip_suffix('"')) == Some(tag)
    })
}

/// A revision as a header value may carry it.
pub(crate) fn tag_of(revision: &Revision) -> String {
    revision.to_string()
}

/// Sends pieces one after the other, a chunk of attachment bytes at a time.
pub(crate) fn stream_pieces(
    store: Store,
    pieces: Vec<Piece>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let state = (store, pieces.into_iter(), None::<(Piece, u32)>);
    futures::stream::try_unfold(state, |(store, mut pieces, current)| async move {
        let (piece, number) = match current {
            Some(current) => current,
            None => match pieces.next() {
                Some(piece) => (piece, 0),
                None => return Ok(None),
            },
        };
        match piece {
            Piece::Bytes(bytes) => Ok(Some((bytes, (store, pieces, None)))),
            Piece::Attachment { address, length, base64 } => {
                let bytes = chunk(&store.snapshot(), address, number).map_err(io::Error::other)?;
                let bytes = if base64 { BASE64.encode(&bytes).into_bytes() } else { bytes };
                let more = u64::from(number) + 1 < chunk_count(length);
                let next = more.then_some((Piece::Attachment { address, length, base64 }, number + 1));
                Ok(Some((Bytes::from(bytes), (store, pieces, next))))
            }
        }
    })
}

/// Sends a range of an attachment's bytes.
pub(crate) fn stream_range(
    store: Store,
    address: [u8; 32],
    from: u64,
    length: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    futures::stream::try_unfold((store, from, length), move |(store, from, length)| async move {
        if length == 0 {
            return Ok(None);
        }
        let size = CHUNK_BYTES as u64;
        let bytes = chunk(&store.snapshot(), address, (from / size) as u32).map_err(io::Error::other)?;
        let start = (from % size) as usize;
        let end = bytes.len().min(start + usize::try_from(length).unwrap_or(usize::MAX));
        let part = Bytes::from(bytes).slice(start.min(end)..end);
        if part.is_empty() {
            return Err(io::Error::other("an attachment is shorter than its length"));
        }
        let sent = part.len() as u64;
        Ok(Some((part, (store, from + sent, length - sent))))
    })
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(stream) => {
                stream.as_mut().poll_next(context).map(|next| next.map(|next| next.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}
