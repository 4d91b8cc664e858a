//! Multipart bodies as streams: reads a `multipart/related` document part by part, never holding a part whole.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use settle_protocol::attachment::{Content, RunningMd5};
use settle_protocol::document::IncomingDocument;
use settle_protocol::multipart::{Decoder, Event, boundary_of};
use settle_protocol::{Error, ErrorKind};

use super::error::HttpError;
use super::request::{broken_body, no_memory, too_large};
use crate::documents::attachments::{ArrivedBytes, Upload};
use crate::documents::write::{Mode, Source, Write, WriteAttachment};
use crate::services::body_memory::MemoryShare;
use crate::storage::Store;

/// A body that sends nothing for this long is given up.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// The next bytes of a body; `None` at its end.
pub(crate) async fn next_bytes(body: &mut Incoming) -> Result<Option<Bytes>, Error> {
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame()).await;
        let frame = frame.map_err(|_| Error::new(ErrorKind::RequestTimeout, "The request body stopped arriving."))?;
        let Some(frame) = frame else { return Ok(None) };
        if let Ok(data) = frame.map_err(|_| broken_body())?.into_data() {
            return Ok(Some(data));
        }
    }
}

/// Events of a multipart body.
struct Parts {
    body: Incoming,
    decoder: Decoder,
    chunk: Bytes,
    read: u64,
    limit: u64,
    memory: MemoryShare,
}

impl Parts {
    async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.decoder.read(&mut self.chunk)? {
                return Ok(event);
            }
            match next_bytes(&mut self.body).await? {
                Some(chunk) => {
                    self.read += chunk.len() as u64;
                    if self.read > self.limit {
                        return Err(too_large());
                    }
                    self.chunk = chunk;
                }
                None => {
                    self.decoder.finish()?;
                    return Ok(Event::End);
                }
            }
        }
    }
}

/// Limits of a multipart document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) request_bytes: u64,
    pub(crate) document_bytes: usize,
    pub(crate) attachment_bytes: u64,
}

/// Reads a document whose attachments follow. Parts match `follows` entries by order, not by name (§5.4).
pub(crate) async fn read_document(
    body: Incoming,
    content_type: &str,
    limits: Limits,
    store: &Store,
    memory: &MemoryShare,
) -> Result<(IncomingDocument, Vec<WriteAttachment>), HttpError> {
    let boundary = boundary_of(content_type).map_err(Error::from)?;
    let decoder = Decoder::new(&boundary);
    let (limit, memory) = (limits.request_bytes, memory.clone());
    let mut parts = Parts { body, decoder, chunk: Bytes::new(), read: 0, limit, memory };
    let text = read_first_part(&mut parts, limits).await?;
    let mut document = IncomingDocument::parse(&text)?;
    let mut attachments = Vec::with_capacity(document.attachments.len());
    for attachment in std::mem::take(&mut document.attachments) {
        let source = match attachment.content {
            Content::Inline(bytes) => Source::Arrived(ArrivedBytes::in_memory(bytes)),
            Content::Stub => Source::Stub,
            Content::Follows { length, gzip, md5 } => {
                let promised = Promised { length, gzip, md5 };
                Source::Arrived(read_part(&mut parts, &attachment.name, promised, limits, store).await?)
            }
        };
        attachments.push(WriteAttachment {
            name: attachment.name,
            content_type: attachment.content_type,
            revpos: attachment.revpos,
            source,
        });
    }
    // Nothing may be stored before the closing boundary has arrived.
    while parts.next().await? != Event::End {}
    Ok((document, attachments))
}

async fn read_first_part(parts: &mut Parts, limits: Limits) -> Result<Vec<u8>, HttpError> {
    let mut text = Vec::new();
    loop {
        match parts.next().await? {
            Event::PartStart(_) => {}
            Event::PartData(data) => {
                // Inline attachments may ride in the JSON, so the bound is not the document's alone.
                if (text.len() + data.len()) as u64 > limits.document_bytes as u64 + limits.attachment_bytes * 2 {
                    return Err(too_large().into());
                }
                parts.memory.take(data.len() as u64).map_err(no_memory)?;
                text.extend_from_slice(&data);
            }
            Event::PartEnd => return Ok(text),
            Event::End => return Err(Error::bad_request("The multipart body has no document part.").into()),
        }
    }
}

/// What the document says about a part.
#[derive(Debug, Clone, Copy)]
struct Promised {
    length: Option<u64>,
    gzip: bool,
    md5: Option<[u8; 16]>,
}

async fn read_part(
    parts: &mut Parts,
    name: &str,
    promised: Promised,
    limits: Limits,
    store: &Store,
) -> Result<ArrivedBytes, HttpError> {
    let mut sink = Sink::new(store, &parts.memory, promised.gzip, limits.attachment_bytes, name);
    let mut digest = RunningMd5::default();
    let expected = promised.length;
    let mut arrived = 0;
    let mut started = false;
    loop {
        match parts.next().await? {
            Event::PartStart(_) => started = true,
            Event::PartData(data) => {
                arrived += data.len() as u64;
                if expected.is_some_and(|expected| arrived > expected) {
                    return Err(Error::bad_request("attachment longer than expected").into());
                }
                digest.update(&data);
                sink.push(&data)?;
            }
            Event::PartEnd => break,
            Event::End if !started => {
                return Err(Error::bad_request(format!("The part for attachment {name} is missing.")).into());
            }
            Event::End => break,
        }
    }
    if expected.is_some_and(|expected| arrived < expected) {
        return Err(Error::bad_request("attachment shorter than expected").into());
    }
    if promised.md5.is_some_and(|md5| md5 != digest.finish()) {
        return Err(Error::bad_request(format!("The digest of attachment {name} is not that of its bytes.")).into());
    }
    sink.finish().await
}

/// Takes the bytes of one attachment, inflating them if they are gzip: bytes at rest are the identity encoding.
pub(crate) struct Sink {
    upload: Upload,
    inflater: Option<flate2::write::MultiGzDecoder<Vec<u8>>>,
    limit: u64,
    name: String,
    memory: MemoryShare,
    /// What the upload holds of it.
    held: u64,
}

impl Sink {
    pub(crate) fn new(store: &Store, memory: &MemoryShare, gzip: bool, limit: u64, name: &str) -> Self {
        let inflater = gzip.then(|| flate2::write::MultiGzDecoder::new(Vec::new()));
        let (upload, memory) = (Upload::new(store), memory.clone());
        Self { upload, inflater, limit, name: name.to_owned(), memory, held: 0 }
    }

    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), HttpError> {
        let Some(inflater) = &mut self.inflater else { return self.store(data) };
        // Small steps, so that a bomb is noticed before it fills the memory.
        for step in data.chunks(4096) {
            inflater.write_all(step).map_err(|_| Error::bad_request("The attachment is not properly gzipped."))?;
            let inflated = std::mem::take(inflater.get_mut());
            self.upload.push(&inflated)?;
            if self.upload.length() > self.limit {
                return Err(self.too_large());
            }
        }
        self.hold()
    }

    fn store(&mut self, data: &[u8]) -> Result<(), HttpError> {
        if self.upload.length() + data.len() as u64 > self.limit {
            return Err(self.too_large());
        }
        self.upload.push(data)?;
        self.hold()
    }

    /// Takes the memory for what was pushed, or gives back what went to a file.
    fn hold(&mut self) -> Result<(), HttpError> {
        let now = self.upload.buffered();
        match now.checked_sub(self.held) {
            Some(more) => self.memory.take(more).map_err(no_memory)?,
            None => self.memory.give_back(self.held - now),
        }
        self.held = now;
        Ok(())
    }

    fn too_large(&self) -> HttpError {
        Error::new(ErrorKind::AttachmentTooLarge, self.name.clone()).into()
    }

    pub(crate) async fn finish(mut self) -> Result<ArrivedBytes, HttpError> {
        if let Some(inflater) = self.inflater.take() {
            let rest = inflater.finish().map_err(|_| Error::bad_request("The attachment is not properly gzipped."))?;
            self.store(&rest)?;
        }
        let arrived = self.upload.finish().await?;
        if arrived.bytes.is_none() {
            self.memory.give_back(self.held);
        }
        Ok(arrived)
    }
}

/// A write from a multipart document.
pub(crate) fn write_of(id: String, mode: Mode, document: IncomingDocument, attachments: Vec<WriteAttachment>) -> Write {
    Write { id, mode, deleted: document.deleted, body: document.body, attachments, user: None, facts: None }
}
