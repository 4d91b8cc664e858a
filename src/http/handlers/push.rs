//! What a push sends: `_revs_diff`, `_bulk_docs`.

use bytes::Bytes;
use settle_protocol::bulk::{BulkDocs, BulkOutline, parse_revisions_by_id};
use settle_protocol::design_document::check_design_document;
use settle_protocol::document::{IncomingDocument, write_revision_text};
use settle_protocol::document_id::{IdKind, check_document_id};
use settle_protocol::raw_json::write_string;
use settle_protocol::{Error, ErrorKind, Revision};

use super::Handled;
use super::document::check_attachment_sizes;
use super::users::{guard_design, prepare_writes, write_counted};
use crate::access::facts::{Facts, LastNames};
use crate::documents::error::DocumentError;
use crate::documents::write::{Mode, Write, Writing, is_row};
use crate::documents::{local, read};
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::services::body_memory::MemoryShare;
use crate::storage::StorageError;

/// Bodies above this are parsed on blocking threads alone.
const PARSE_INLINE_BYTES: usize = 512 << 10;
/// Documents from which on two threads parse a batch.
const SHARED_DOCUMENTS: usize = 64;

async fn json_body(context: &mut Context) -> Result<Bytes, HttpError> {
    context.request.require_json()?;
    Ok(context.read_body(context.settings.max_request_bytes).await?)
}

async fn asked_revisions(context: &mut Context) -> Result<Vec<(String, Vec<Revision>)>, HttpError> {
    let body = json_body(context).await?;
    Ok(parse_revisions_by_id(&body)?)
}

/// `POST /db/_revs_diff`.
pub(super) async fn revs_diff(context: &mut Context) -> Handled {
    let asked = asked_revisions(context).await?;
    let snapshot = context.services.store.snapshot();
    Ok(Answer::json(200, read::revisions_diff(&snapshot, context.database()?.id(), &context.view, &asked)?))
}

/// `POST /db/_missing_revs`.
pub(super) async fn missing_revs(context: &mut Context) -> Handled {
    let asked = asked_revisions(context).await?;
    let snapshot = context.services.store.snapshot();
    let mut text = b"{\"missing_revs\":".to_vec();
    text.extend_from_slice(&read::missing_revisions(&snapshot, context.database()?.id(), &context.view, &asked)?);
    text.push(b'}');
    Ok(Answer::json(200, text))
}

/// `417` with a row per document, as CouchDB answers.
fn all_or_nothing(sent: &[Sent]) -> Answer {
    let row = |(document, _): &Sent| {
        let revision = document.revision.as_ref().map_or_else(|| "0-".to_owned(), ToString::to_string);
        let reason = "all_or_nothing is not supported";
        serde_json::json!({"id": document.id, "rev": revision, "error": "not_implemented", "reason": reason})
    };
    Answer::json(417, serde_json::Value::Array(sent.iter().map(row).collect()).to_string())
}

/// What happened to one document of a batch.
enum Row {
    Written {
        id: String,
        revision: Revision,
    },
    /// Of a local document, with its number.
    Local {
        id: String,
        number: u64,
    },
    Failed {
        id: String,
        revision: Option<Revision>,
        error: HttpError,
    },
}

/// One document of a batch, ready for the writer.
enum Entry {
    Write(Box<Write>),
    Local { id: String, sent: Option<String>, text: String },
    Refused { id: String, revision: Option<Revision>, error: Error },
}

impl Entry {
    /// The id of a document that is deleted.
    fn deletes(&self) -> Option<&str> {
        match self {
            Self::Write(write) if write.deleted => Some(&write.id),
            _ => None,
        }
    }
}

/// A document of a batch; in a scoped database with what it says about where it belongs, unless it is deleted.
type Sent = (IncomingDocument, Option<Facts>);

/// What `_bulk_docs` was sent.
struct Request {
    sent: Vec<Sent>,
    new_edits: bool,
    all_or_nothing: bool,
}

/// Reads a batch, `reads_facts` of a scoped database; a long one in two halves beside each other.
async fn parse(
    body: Bytes,
    max_document_bytes: usize,
    reads_facts: bool,
    memory: &MemoryShare,
) -> Result<Request, HttpError> {
    let with_facts = move |document: IncomingDocument, last: &mut LastNames| {
        let id = document.id.as_deref().unwrap_or_default();
        let facts = (reads_facts && !document.deleted).then(|| Facts::of_next(id, &document.body, last));
        (document, facts)
    };
    let is_large = body.len() > PARSE_INLINE_BYTES;
    if let Ok(outline) = BulkOutline::parse(&body)
        && outline.documents.len() >= SHARED_DOCUMENTS
    {
        let BulkOutline { documents, new_edits, all_or_nothing } = outline;
        let (first, second) = documents.split_at(documents.len() / 2);
        let half = |texts: &[&str]| {
            let texts: Vec<Bytes> = texts.iter().map(|text| body.slice_ref(text.as_bytes())).collect();
            let held = memory.clone();
            move || {
                let (_held, mut last) = (held, LastNames::default());
                let read = |text| BulkOutline::read(text, max_document_bytes);
                let read = texts.iter().map(|text| Ok(with_facts(read(text)?, &mut last)));
                read.collect::<Result<Vec<Sent>, Error>>()
            }
        };
        let (first, second) = (half(first), tokio::task::spawn_blocking(half(second)));
        let first = if is_large { blocking(first).await? } else { first() };
        let second = second.await.map_err(|_| StorageError::Panicked)?;
        if let (Ok(mut sent), Ok(others)) = (first, second) {
            sent.extend(others);
            return Ok(Request { sent, new_edits, all_or_nothing });
        }
    }
    // Short, or wrong somewhere: read from the beginning, for the first thing that is wrong.
    let held = memory.clone();
    let whole = move || {
        let (_held, mut last) = (held, LastNames::default());
        let BulkDocs { documents, new_edits, all_or_nothing } = BulkDocs::parse(&body, max_document_bytes)?;
        let sent = documents.into_iter().map(|document| with_facts(document, &mut last)).collect();
        Ok::<_, Error>(Request { sent, new_edits, all_or_nothing })
    };
    Ok(if is_large { blocking(whole).await? } else { whole() }?)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StorageError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StorageError::Panicked)
}

/// `POST /db/_bulk_docs`.
pub(super) async fn bulk_docs(context: &mut Context) -> Handled {
    let body = json_body(context).await?;
    let scoped = context.database()?.row.scoped;
    let request = parse(body, context.settings.max_document_bytes, scoped, &context.memory).await?;
    let Request { sent, new_edits, all_or_nothing: asked_for_all } = request;
    if new_edits {
        context.require_everything()?;
    }
    if asked_for_all {
        return Ok(all_or_nothing(&sent));
    }
    let mut entries = Vec::with_capacity(sent.len());
    for (document, facts) in sent {
        entries.push(entry_of(context, document, facts, new_edits)?);
    }
    let entries = prepare_entries(context, entries).await?;
    let database = context.database()?;
    let owner = local::owner(&context.caller);
    let (author, held) = (context.author(), context.memory.clone());
    let deleted: Vec<String> = entries.iter().filter_map(Entry::deletes).map(str::to_owned).collect();
    let rows = write_counted(context, &deleted, move |batch| {
        let _held = held; // also when the client hangs up meanwhile
        let mut writing = Writing::begin_as(batch, &database, author)?;
        let mut rows = Vec::with_capacity(entries.len());
        let mut writes = Vec::with_capacity(entries.len());
        for (at, entry) in entries.into_iter().enumerate() {
            match entry {
                Entry::Write(write) => writes.push((at, *write)),
                Entry::Local { id, sent, text } => {
                    let number = local::write(writing.batch, &database, owner, &id, sent.as_deref(), text)?;
                    rows.push((at, Row::Local { id, number }));
                }
                Entry::Refused { id, revision, error } => {
                    rows.push((at, Row::Failed { id, revision, error: error.into() }));
                }
            }
        }
        write_all(&mut writing, writes, &mut rows)?;
        writing.end()?;
        rows.sort_by_key(|(at, _)| *at);
        Ok(rows.into_iter().map(|(_, row)| row).collect::<Vec<Row>>())
    });
    Ok(Answer::json(201, rows_text(&rows.await?, new_edits)))
}

/// Writes the documents of a batch; each outcome goes to its place among the rows.
fn write_all(
    writing: &mut Writing<'_, '_>,
    writes: Vec<(usize, Write)>,
    rows: &mut Vec<(usize, Row)>,
) -> Result<(), DocumentError> {
    let sent = |write: &Write| match &write.mode {
        Mode::Interactive { .. } => None,
        Mode::Replicated { path } => path.first().cloned(),
    };
    let about: Vec<(usize, String, Option<Revision>)> =
        writes.iter().map(|(at, write)| (*at, write.id.clone(), sent(write))).collect();
    let outcomes = writing.submit_all(writes.into_iter().map(|(_, write)| write).collect())?;
    for ((at, id, sent), outcome) in about.into_iter().zip(outcomes) {
        rows.push(match outcome {
            Ok(revision) => (at, Row::Written { id, revision }),
            Err(error) if is_row(&error) => (at, Row::Failed { id, revision: sent, error: error.into() }),
            Err(error) => return Err(error),
        });
    }
    Ok(())
}

fn entry_of(
    context: &Context,
    mut document: IncomingDocument,
    facts: Option<Facts>,
    new_edits: bool,
) -> Result<Entry, HttpError> {
    let id = match document.id.take() {
        Some(id) => id,
        None if new_edits => uuid::Uuid::new_v4().simple().to_string(),
        None => return Err(Error::new(ErrorKind::IllegalDocumentId, "Document id must not be empty").into()),
    };
    let kind = check_document_id(&id, context.settings.max_document_id_bytes)?;
    if kind == IdKind::Local {
        let sent = document.revision.map(|revision| revision.to_string());
        return Ok(Entry::Local { id, sent, text: document.body });
    }
    check_attachment_sizes(context, &document)?;
    let sent = document.revision.clone();
    // A restricted device's copy of a design document goes to escrow: PouchDB would forget a refused one.
    let to_escrow = context.view.restricted().is_some() && !new_edits;
    if !to_escrow && let Err(error) = guard_design(context, &id) {
        return Ok(Entry::Refused { id, revision: sent.filter(|_| !new_edits), error });
    }
    if new_edits
        && kind == IdKind::Design
        && let Err(error) = check_design_document(&document.body)
    {
        return Ok(Entry::Refused { id, revision: None, error });
    }
    let mode = if new_edits {
        let claimed = document.history.as_ref().map(|history| history.path()).transpose().unwrap_or_default();
        Mode::Interactive { base: document.revision.take(), claimed: claimed.unwrap_or_default() }
    } else {
        match document.replicated_path() {
            Ok(path) => Mode::Replicated { path },
            Err(error) if error.kind() == ErrorKind::Forbidden => {
                return Ok(Entry::Refused { id, revision: sent, error });
            }
            Err(error) => return Err(error.into()),
        }
    };
    Ok(Entry::Write(Box::new(Write { facts, ..Write::new(id, mode, document)? })))
}

async fn prepare_entries(context: &Context, entries: Vec<Entry>) -> Result<Vec<Entry>, HttpError> {
    let mut others = Vec::new();
    let mut writes = Vec::new();
    for (at, entry) in entries.into_iter().enumerate() {
        match entry {
            Entry::Write(write) => writes.push(*write),
            other => others.push((at, other)),
        }
    }
    let writes = prepare_writes(context, writes).await?;
    let mut entries: Vec<Entry> = writes.into_iter().map(|write| Entry::Write(Box::new(write))).collect();
    for (at, other) in others {
        entries.insert(at, other); // ascending, so each lands where it was
    }
    Ok(entries)
}

/// The row of what is written, up to its revision.
fn write_ok(text: &mut Vec<u8>, id: &str) {
    text.extend_from_slice(b"{\"ok\":true,\"id\":");
    write_string(text, id);
    text.extend_from_slice(b",\"rev\":\"");
}

fn rows_text(rows: &[Row], new_edits: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(rows.len() * 96);
    text.push(b'[');
    for row in rows {
        if matches!(row, Row::Written { .. } | Row::Local { .. }) && !new_edits {
            continue;
        }
        if text.len() > 1 {
            text.push(b',');
        }
        match row {
            Row::Written { id, revision } => {
                write_ok(&mut text, id);
                write_revision_text(&mut text, revision);
                text.push(b'"');
            }
            Row::Local { id, number } => {
                write_ok(&mut text, id);
                text.extend_from_slice(format!("0-{number}\"").as_bytes());
            }
            Row::Failed { id, revision, error } => {
                text.extend_from_slice(b"{\"id\":");
                write_string(&mut text, id);
                if let Some(revision) = revision {
                    text.extend_from_slice(b",\"rev\":");
                    write_string(&mut text, &revision.to_string());
                }
                text.extend_from_slice(b",\"error\":");
                write_string(&mut text, error.word);
                text.extend_from_slice(b",\"reason\":");
                write_string(&mut text, &error.reason);
            }
        }
        text.push(b'}');
    }
    text.push(b']');
    text
}
