//! `_bulk_get`: many documents in one request, as JSON or as parts.
//!
//! A long JSON answer is read page by page, two pages at a time beside each other, while the one before is on its way: so
//! no answer is held whole. Each page shows one state of the store, and each document is whole in its page.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use settle_protocol::bulk::{BulkGetEntry, parse_bulk_get};
use settle_protocol::document_id::{IdKind, check_document_id};
use settle_protocol::multipart::{Encoder, PartHead};
use settle_protocol::raw_json::write_string;
use settle_protocol::{Error, ErrorKind, Revision};

use super::users::ReadGuard;
use super::{Handled, document};
use crate::access::view::{View, Visible};
use crate::documents::databases::Database;
use crate::documents::error::DocumentError;
use crate::documents::output::Output;
use crate::documents::prefetched::Prefetched;
use crate::documents::read::{AttachmentBytes, Found, Include, OpenRevision, open_revisions};
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::{Answer, stream_pieces};
use crate::storage::{Read, Snapshot, StorageError, Store};

/// Query parameters that `_bulk_get` refuses (§1.1.3).
const REFUSED: [&str; 5] = ["rev", "open_revs", "new_edits", "w", "atts_since"];
/// Entries of one page at most.
const PAGE_ENTRIES: usize = 64;
/// An answer with so many entries, or fewer, is read at once by the thread that serves the request.
const READ_AT_ONCE: usize = 32;
/// Pages that are read at the same time for one request.
const PAGES_AT_A_TIME: usize = 2;
/// Bytes that a document is expected to take in an answer.
const DOCUMENT_BYTES: usize = 640;

/// `POST /db/_bulk_get`.
pub(super) async fn bulk_get(context: &mut Context) -> Handled {
    context.request.require_json()?;
    for name in REFUSED {
        if context.request.query.get(name).is_some() {
            return Err(Error::bad_request(format!("\"{name}\" query parameter is not acceptable")).into());
        }
    }
    let body = context.read_body(context.settings.max_request_bytes).await?;
    let entries = parse_bulk_get(&body)?;
    drop(body);
    let reading = Reading::of(context)?;
    let accept = context.request.header("accept");
    if !document::accepts(accept, "application", "json") {
        for subtype in ["mixed", "related"] {
            if document::accepts(accept, "multipart", subtype) {
                return reading.multipart(&entries, subtype);
            }
        }
    }
    let store = reading.store.clone();
    if entries.len() <= READ_AT_ONCE {
        return Ok(Answer::output(200, reading.page(&entries, 0..entries.len())?, &store));
    }
    let memory = context.memory.clone();
    let pages = pages(reading, entries).map(move |page| {
        let _held = &memory; // the entries, until the last page
        page
    });
    Ok(Answer::stream(200, Box::pin(pages)))
}

/// The bytes of all pages.
fn pages(reading: Reading, entries: Vec<BulkGetEntry>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let shared = Arc::new((reading, entries));
    let (store, count) = (shared.0.store.clone(), shared.1.len());
    let size = page_size(count);
    let read = move |first: usize| {
        let shared = Arc::clone(&shared);
        let range = first..count.min(first + size);
        let page = tokio::task::spawn_blocking(move || shared.0.page(&shared.1, range));
        async move { page.await.map_err(|_| StorageError::Panicked)? }
    };
    let pages = futures::stream::iter((0..count).step_by(size)).map(read).buffered(PAGES_AT_A_TIME);
    let sent = move |page: Result<Output, HttpError>| match page {
        Ok(page) => stream_pieces(store.clone(), page.into_pieces()).left_stream(),
        // The connection is cut, so that the client does not take the answer for whole.
        Err(error) => futures::stream::once(async { Err(io::Error::other(error.reason)) }).right_stream(),
    };
    pages.flat_map(sent)
}

/// Entries of each page: so many that the threads that read them beside each other have the same to do.
fn page_size(count: usize) -> usize {
    let rounds = count.div_ceil(PAGE_ENTRIES * PAGES_AT_A_TIME).max(1);
    count.div_ceil(rounds * PAGES_AT_A_TIME).max(1)
}

/// What one request reads, and how; independent of it, so that other threads can read for it.
struct Reading {
    store: Store,
    database: Arc<Database>,
    view: View,
    guard: ReadGuard,
    revisions: bool,
    attachments: bool,
    latest: bool,
}

impl Reading {
    fn of(context: &Context) -> Result<Self, HttpError> {
        let query = &context.request.query;
        Ok(Self {
            store: context.services.store.clone(),
            database: context.database()?,
            view: context.view.clone(),
            guard: ReadGuard::of(context),
            revisions: query.flag("revs"),
            attachments: query.flag("attachments"),
            latest: query.flag("latest"),
        })
    }

    /// The rows of a range of the entries, with the frame of the answer before the first and after the last.
    fn page(&self, entries: &[BulkGetEntry], range: Range<usize>) -> Result<Output, HttpError> {
        let mut out = Output::with_capacity(range.len() * DOCUMENT_BYTES + 64);
        out.text.extend_from_slice(if range.start == 0 { b"{\"results\":[" } else { b"," });
        let (is_last, page) = (range.end == entries.len(), &entries[range]);
        let snapshot = self.store.snapshot();
        let asked: Vec<(&str, Option<&Revision>)> =
            page.iter().map(|entry| (entry.id.as_deref().unwrap_or_default(), entry.revision.as_ref())).collect();
        let told = self.database.open_told(&snapshot, &self.view, &asked)?;
        let others: Vec<_> =
            asked.iter().zip(&told).filter(|(_, told)| told.is_none()).map(|(asked, _)| *asked).collect();
        let reader = Prefetched::documents(&snapshot, self.database.id(), &others)?;
        for (at, (entry, told)) in page.iter().zip(told).enumerate() {
            if at > 0 {
                out.text.push(b',');
            }
            self.write_entry(&reader, entry, told, &mut out)?;
        }
        if is_last {
            out.text.extend_from_slice(b"]}\n");
        }
        Ok(out)
    }

    fn include_of(&self, entry: &BulkGetEntry) -> Include {
        let attachments = match (&entry.atts_since, self.attachments) {
            // An empty list means stubs here, unlike in a document request (§1.1.3).
            (Some(since), _) if !since.is_empty() => AttachmentBytes::Since(since.clone()),
            (None, true) => AttachmentBytes::Since(Vec::new()),
            _ => AttachmentBytes::Stubs,
        };
        Include { revisions: self.revisions, attachments, ..Include::default() }
    }

    /// What an entry asks for: documents, or one error. `told`: all there is, if that was opened already.
    fn open_entry(
        &self,
        reader: &impl Read,
        entry: &BulkGetEntry,
        told: Option<Visible<Found>>,
    ) -> Result<Result<Vec<OpenRevision>, Error>, HttpError> {
        if let Some(refused) = &entry.refused {
            return Ok(Err(refused.clone()));
        }
        let id = entry.id.as_deref().unwrap_or_default();
        match check_document_id(id, usize::MAX) {
            Ok(IdKind::Local) => return Ok(Err(Error::missing())),
            Ok(_) => {}
            Err(error) => return Ok(Err(error)),
        }
        if let Err(error) = self.guard.check(id) {
            let kind = if error.status() == 404 { ErrorKind::NotFound } else { ErrorKind::Forbidden };
            return Ok(Err(Error::new(kind, error.reason().to_owned())));
        }
        let asked = entry.revision.as_ref().map(std::slice::from_ref);
        let opened = match told {
            Some(found) => Ok(vec![OpenRevision::Found(Box::new(found))]),
            None => open_revisions(reader, self.database.id(), &self.view, id, asked, self.latest),
        };
        match opened {
            Ok(mut opened) => {
                for revision in &mut opened {
                    if let OpenRevision::Found(found) = revision {
                        self.guard.show(found);
                    }
                }
                Ok(Ok(opened))
            }
            Err(DocumentError::Refused(error)) => Ok(Err(error)),
            Err(error) => Err(error.into()),
        }
    }

    fn write_entry(
        &self,
        reader: &impl Read,
        entry: &BulkGetEntry,
        told: Option<Visible<Found>>,
        out: &mut Output,
    ) -> Result<(), HttpError> {
        out.text.extend_from_slice(b"{\"id\":");
        write_optional(out, entry.id.as_deref());
        out.text.extend_from_slice(b",\"docs\":[");
        match self.open_entry(reader, entry, told)? {
            Ok(opened) => {
                for (at, revision) in opened.into_iter().enumerate() {
                    if at > 0 {
                        out.text.push(b',');
                    }
                    match revision {
                        OpenRevision::Found(found) => {
                            out.text.extend_from_slice(b"{\"ok\":");
                            found.write(reader, self.database.id(), &self.include_of(entry), out);
                            out.text.push(b'}');
                        }
                        OpenRevision::Missing(revision) => {
                            write_error(out, entry, Some(&revision.to_string()), &Error::missing());
                        }
                    }
                }
            }
            Err(error) => {
                let unknown = (entry.refused.is_none()).then_some("undefined");
                write_error(out, entry, entry.rev.as_deref().or(unknown), &error);
            }
        }
        out.text.extend_from_slice(b"]}");
        Ok(())
    }

    /// The multipart form: a part per revision (nothing current asks for it).
    fn multipart(&self, entries: &[BulkGetEntry], subtype: &str) -> Handled {
        let snapshot: Snapshot<'_> = self.store.snapshot();
        let boundary = document::new_boundary();
        let encoder = Encoder::new(&boundary);
        let mut out = Output::default();
        out.text.extend_from_slice(encoder.opening().as_bytes());
        let error_part = |out: &mut Output, entry: &BulkGetEntry, revision: Option<&str>, error: &Error| {
            let mut row = Output::default();
            write_error(&mut row, entry, revision, error);
            out.text.extend_from_slice(PartHead::Missing.text().as_bytes());
            out.append(row);
            out.text.extend_from_slice(encoder.part_tail().as_bytes());
        };
        for entry in entries {
            match self.open_entry(&snapshot, entry, None)? {
                Err(error) => error_part(&mut out, entry, entry.rev.as_deref(), &error),
                Ok(opened) => {
                    for revision in opened {
                        match revision {
                            OpenRevision::Missing(revision) => {
                                error_part(&mut out, entry, Some(&revision.to_string()), &Error::missing());
                            }
                            OpenRevision::Found(found) => {
                                let include = self.include_of(entry);
                                document::part_of(&snapshot, self.database.id(), &found, &include, &boundary, &mut out);
                            }
                        }
                    }
                }
            }
        }
        out.text.extend_from_slice(encoder.closing().as_bytes());
        drop(snapshot);
        Ok(Answer::output(200, out, &self.store).content_type(&boundary.content_type(subtype)))
    }
}

fn write_optional(out: &mut Output, text: Option<&str>) {
    match text {
        Some(text) => write_string(&mut out.text, text),
        None => out.text.extend_from_slice(b"null"),
    }
}

fn write_error(out: &mut Output, entry: &BulkGetEntry, revision: Option<&str>, error: &Error) {
    out.text.extend_from_slice(b"{\"error\":{\"id\":");
    write_optional(out, entry.id.as_deref());
    out.text.extend_from_slice(b",\"rev\":");
    write_optional(out, revision);
    out.text.extend_from_slice(b",\"error\":");
    write_string(&mut out.text, error.word());
    out.text.extend_from_slice(b",\"reason\":");
    write_string(&mut out.text, error.reason());
    out.text.extend_from_slice(b"}}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_beside_each_other_are_of_one_size() {
        for (count, size) in [(1, 1), (33, 17), (100, 50), (128, 64), (129, 33), (500, 63), (10_000, 64)] {
            assert_eq!(page_size(count), size, "{count}");
        }
    }
}
