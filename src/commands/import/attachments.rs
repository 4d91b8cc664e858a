//! Documents with attachments, one at a time: the source's multipart answer becomes the target's multipart request.
//!
//! A leaf with attachments comes as a `multipart/related` message within the `multipart/mixed` answer to `open_revs`, and
//! such a message is exactly what `PUT ?new_edits=false` takes. So its bytes are handed on as they come, whatever their
//! encoding; neither side of them is ever held or understood here.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use settle_protocol::multipart::{Decoder, Event, boundary_of};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::copy::{Copied, Job};
use super::side::{Answer, Failure, LARGEST_DOCUMENT, Side, document_path, escaped};
use crate::http::client::{Body, ClientError, Request};

/// Pieces on their way between the two servers.
const PIECES: usize = 4;
/// How long the target may refuse to take more, and how long it may think when it has all.
const PATIENCE: Duration = Duration::from_secs(300);
/// Characters of revisions in one URL; CouchDB takes 8,000 for all of it.
const URL_REVISIONS: usize = 4_000;

/// Copies these leaves of a document, once.
pub(super) async fn copy(job: &Job, id: &str, revisions: &[String]) -> Result<Copied, Failure> {
    let mut copied = Copied::default();
    let mut first = 0;
    while first < revisions.len() {
        let mut last = first;
        let mut characters = 0;
        while last < revisions.len() && (last == first || characters < URL_REVISIONS) {
            characters += revisions[last].len() + 9; // quotes and comma, percent-encoded
            last += 1;
        }
        copy_leaves(job, id, &revisions[first..last], &mut copied).await?;
        first = last;
    }
    Ok(copied)
}

async fn copy_leaves(job: &Job, id: &str, revisions: &[String], copied: &mut Copied) -> Result<(), Failure> {
    let open = serde_json::Value::from(revisions.to_vec()).to_string();
    let path = format!("{}?revs=true&latest=true&open_revs={}", document_path(&job.database, id), escaped(&open));
    let request = Request { accept: "multipart/mixed", ..Request::json("GET", &path, None) };
    let answer = job.source.send(request).await?;
    if answer.reply.status == 404 {
        copied.vanished += 1;
        return Ok(());
    }
    let mut parts = Parts::of(answer.successful().await?)?;
    while let Some(event) = parts.next().await? {
        let Event::PartStart(headers) = event else { continue };
        let kind = headers.get("content-type").unwrap_or_default().to_owned();
        if kind.contains("error") {
            parts.skip().await?;
            copied.vanished += 1;
            continue;
        }
        let is_related = kind.to_ascii_lowercase().starts_with("multipart/related");
        let refused = match is_related {
            true => Upload::begin(job, id, &kind).fed_by(&mut parts).await?,
            false => {
                let text = String::from_utf8(parts.text().await?);
                let text = text.map_err(|_| parts.answer.strange("a document is no UTF-8"))?;
                put(job, id, text.into()).await?
            }
        };
        match refused {
            Some(reason) => copied.refuse(id, &revisions.join(", "), &reason),
            None => {
                copied.revisions += 1;
                copied.with_attachments += u64::from(is_related);
            }
        }
    }
    Ok(())
}

/// A leaf that has lost its attachments meanwhile. `Some` is why the target refuses it.
async fn put(job: &Job, id: &str, text: Bytes) -> Result<Option<String>, Failure> {
    let path = format!("{}?new_edits=false", document_path(&job.database, id));
    match job.target.send(Request::json("PUT", &path, Some(text))).await?.successful().await {
        Ok(mut answer) => answer.whole().await.map(|_| None),
        Err(failure) => failure.refusal().map(Some).ok_or(failure),
    }
}

/// The parts of a multipart answer.
struct Parts {
    answer: Answer,
    decoder: Decoder,
    data: Bytes,
}

impl Parts {
    fn of(answer: Answer) -> Result<Self, Failure> {
        let boundary = boundary_of(&answer.reply.content_type);
        let boundary = boundary.map_err(|_| {
            answer.strange("attachments cannot be had as multipart (CouchDB 2 and later, and Settle, give them so)")
        })?;
        Ok(Self { answer, decoder: Decoder::new(&boundary), data: Bytes::new() })
    }

    /// The next event; `None` after the last part.
    async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            let event = self.decoder.read(&mut self.data).map_err(|error| self.answer.strange(error.to_string()))?;
            match event {
                Some(Event::End) => {
                    while self.answer.next().await?.is_some() {} // so that the connection can be used again
                    return Ok(None);
                }
                Some(event) => return Ok(Some(event)),
                None => match self.answer.next().await? {
                    Some(data) => self.data = data,
                    None => return Err(self.answer.strange("the multipart answer is cut off")),
                },
            }
        }
    }

    /// The bytes of the part that has begun; `None` at its end.
    async fn data(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.next().await? {
            Some(Event::PartData(data)) => Ok(Some(data)),
            _ => Ok(None),
        }
    }

    async fn skip(&mut self) -> Result<(), Failure> {
        while self.data().await?.is_some() {}
        Ok(())
    }

    async fn text(&mut self) -> Result<Vec<u8>, Failure> {
        let mut text = Vec::new();
        while let Some(data) = self.data().await? {
            text.extend_from_slice(&data);
            if text.len() > LARGEST_DOCUMENT {
                return Err(self.answer.strange("a document is too large"));
            }
        }
        Ok(text)
    }
}

/// A request to the target whose body is still coming.
struct Upload {
    target: Arc<Side>,
    pieces: mpsc::Sender<io::Result<Bytes>>,
    answered: JoinHandle<Result<(), Failure>>,
}

impl Upload {
    fn begin(job: &Job, id: &str, content_type: &str) -> Self {
        let (pieces, body) = mpsc::channel(PIECES);
        let (target, content_type) = (Arc::clone(&job.target), content_type.to_owned());
        let path = format!("{}?new_edits=false", document_path(&job.database, id));
        let answered = tokio::spawn(async move {
            let body = Body::Pieces(body);
            let request = Request { content_type: &content_type, body, ..Request::json("PUT", &path, None) };
            target.send(request).await?.successful().await?.whole().await.map(drop)
        });
        Self { target: Arc::clone(&job.target), pieces, answered }
    }

    /// Hands the part's bytes on. `Some` is why the target refuses the document.
    async fn fed_by(self, parts: &mut Parts) -> Result<Option<String>, Failure> {
        loop {
            match parts.data().await {
                // Once the target has answered, nobody takes any more; the rest of the part is read all the same.
                Ok(Some(data)) => match timeout(PATIENCE, self.pieces.send(Ok(data))).await {
                    Ok(_) => {}
                    Err(_) => {
                        self.answered.abort();
                        return Err(self.target.broken(ClientError::Silent(PATIENCE)));
                    }
                },
                Ok(None) => break,
                Err(failure) => {
                    // Not the end: the target must not take the half for the whole.
                    drop(self.pieces.send(Err(io::Error::other("the source broke off"))).await);
                    drop(self.answered.await);
                    return Err(failure);
                }
            }
        }
        drop(self.pieces);
        match timeout(PATIENCE, self.answered).await {
            Ok(Ok(Ok(()))) => Ok(None),
            Ok(Ok(Err(failure))) => failure.refusal().map(Some).ok_or(failure),
            Ok(Err(_)) => Err(Failure::Here("an upload stopped by itself".to_owned())),
            Err(_) => Err(self.target.broken(ClientError::Silent(PATIENCE))),
        }
    }
}
