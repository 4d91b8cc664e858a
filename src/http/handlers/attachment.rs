//! Attachments by themselves: `GET`, `PUT`, `DELETE /db/ID/NAME` (protocol page §5.6).

use settle_protocol::attachment::{Attachment, check_attachment_name};
use settle_protocol::document_id::check_document_id;
use settle_protocol::multipart::{Encoder, PartHead};
use settle_protocol::range::{RangeRequest, parse_range};
use settle_protocol::{Error, ErrorKind, Revision};

use super::document::{location, named_revision, new_boundary};
use super::users::{guard_design, guard_read, prepare_write};
use super::{Handled, document_id, escaped};
use crate::documents::attachments::{ArrivedBytes, chunk};
use crate::documents::error::DocumentError;
use crate::documents::output::{Output, chunk_count};
use crate::documents::read::{Found, Wanted, document, find};
use crate::documents::write::{Mode, Source, Write, WriteAttachment, Writing};
use crate::http::error::HttpError;
use crate::http::multipart::{Sink, next_bytes};
use crate::http::pipeline::Context;
use crate::http::response::{Answer, AnswerBody, matches_tag, stream_range};
use crate::storage::Read;

fn not_there() -> Error {
    Error::not_found("Document is missing attachment")
}

/// The attachment a request means. Without a revision, other leaves are searched when the winner lacks it: PouchDB asks so
/// for losing revisions and would repeat for ever (trap T21).
fn attachment_of(context: &Context, id: &str, name: &str) -> Result<Attachment, HttpError> {
    let snapshot = context.services.store.snapshot();
    let database = context.database()?.id();
    let revision = context.request.query.get("rev").map(Revision::parse).transpose()?;
    let by_name = |found: &Found| found.body.attachments.iter().find(|a| a.name == name).cloned();
    let wanted = revision.map_or(Wanted::Winner, Wanted::Revision);
    let found = find(&snapshot, database, &context.view, id, &wanted)?;
    if let Some(attachment) = by_name(&found) {
        return Ok(attachment);
    }
    if wanted == Wanted::Winner {
        return Ok(in_other_leaves(&snapshot, database, id, by_name)?.ok_or_else(not_there)?);
    }
    Err(not_there().into())
}

fn in_other_leaves(
    snapshot: &impl Read,
    database: u32,
    id: &str,
    by_name: impl Fn(&Found) -> Option<Attachment>,
) -> Result<Option<Attachment>, HttpError> {
    let Some(row) = document(snapshot, database, id)? else { return Ok(None) };
    for leaf in row.tree.leaves().into_iter().skip(1).filter(|leaf| !leaf.deleted) {
        if let Some(attachment) = Found::read(snapshot, database, id, &row, leaf)?.as_ref().and_then(&by_name) {
            return Ok(Some(attachment));
        }
    }
    Ok(None)
}

/// `GET /db/ID/NAME`.
pub(super) fn read(context: &Context) -> Handled {
    let (id, after) = document_id(context);
    check_document_id(&id, usize::MAX)?;
    guard_read(context, &id)?;
    let attachment = attachment_of(context, &id, &context.request.rest(after))?;
    let digest = attachment.digest();
    let tag = digest.strip_prefix("md5-").unwrap_or(&digest).to_owned();
    if matches_tag(context.request.header("if-none-match"), &tag) {
        return Ok(Answer::not_modified(&tag));
    }
    let range = match context.request.header("range").filter(|_| context.request.method == "GET") {
        Some(range) => parse_range(range, attachment.length),
        None => RangeRequest::Whole,
    };
    let store = context.services.store.clone();
    let stream = |from: u64, length: u64| {
        AnswerBody::Stream(Box::pin(stream_range(store.clone(), attachment.address, from, length)))
    };
    let mut answer = match range {
        RangeRequest::Unsatisfiable => {
            let reason = "Requested range not satisfiable";
            return Err(Error::new(ErrorKind::RangeNotSatisfiable, reason).into());
        }
        RangeRequest::Whole => {
            let mut answer = Answer::empty(200).header("content-length", &attachment.length.to_string());
            answer.body = stream(0, attachment.length);
            answer.content_type(&attachment.content_type)
        }
        RangeRequest::One(range) => {
            let mut answer = Answer::empty(206)
                .header("content-range", &range.content_range(attachment.length))
                .header("content-length", &range.length().to_string());
            answer.body = stream(range.first, range.length());
            answer.content_type(&attachment.content_type)
        }
        RangeRequest::Many(ranges) => {
            let boundary = new_boundary();
            let encoder = Encoder::new(&boundary);
            let mut out = Output::default();
            out.text.extend_from_slice(encoder.opening().as_bytes());
            for range in ranges {
                let content_type = attachment.content_type.as_str();
                let head = PartHead::Range { content_type, range, length: attachment.length };
                out.text.extend_from_slice(head.text().as_bytes());
                out.append(ranged(context, &attachment, range.first, range.length())?);
                out.text.extend_from_slice(encoder.part_tail().as_bytes());
            }
            out.text.extend_from_slice(encoder.closing().as_bytes());
            Answer::output(206, out, &store).content_type(&boundary.content_type("byteranges"))
        }
    };
    answer = answer.etag(&tag).header("accept-ranges", "bytes").header("cache-control", "must-revalidate");
    Ok(answer.header("content-security-policy", "sandbox"))
}

/// The bytes of one of several ranges. Ranges in one request may overlap, so their sum is bounded.
fn ranged(context: &Context, attachment: &Attachment, from: u64, length: u64) -> Result<Output, HttpError> {
    const MOST: u64 = 16 << 20;
    if length > MOST {
        let reason = format!("Ask for at most {MOST} bytes in each of several ranges, or for one range.");
        return Err(Error::bad_request(reason).into());
    }
    let size = crate::documents::attachments::CHUNK_BYTES as u64;
    let snapshot = context.services.store.snapshot();
    let mut out = Output::default();
    let end = from + length;
    let mut at = from;
    while at < end {
        let bytes = chunk(&snapshot, attachment.address, (at / size) as u32)?;
        let start = (at % size) as usize;
        let stop = bytes.len().min(start + (end - at) as usize);
        out.text.extend_from_slice(bytes.get(start..stop).unwrap_or_default());
        at += (stop - start).max(1) as u64;
    }
    Ok(out)
}

/// All bytes of an attachment as if they had just arrived, for a copy.
pub(super) async fn whole(context: &Context, attachment: &Attachment) -> Result<ArrivedBytes, HttpError> {
    let mut sink = Sink::new(&context.services.store, &context.memory, false, u64::MAX, &attachment.name);
    for number in 0..chunk_count(attachment.length) {
        let bytes = chunk(&context.services.store.snapshot(), attachment.address, number as u32)?;
        sink.push(&bytes)?;
    }
    sink.finish().await
}

/// `PUT` and `DELETE /db/ID/NAME`.
pub(super) async fn write(context: &mut Context) -> Handled {
    let (id, after) = document_id(context);
    check_document_id(&id, context.settings.max_document_id_bytes)?;
    guard_design(context, &id)?;
    let name = context.request.rest(after);
    let base = named_revision(context, None)?;
    let put = context.request.method == "PUT";
    let attachment = if put { Some(arriving(context, &name).await?) } else { None };
    // In `_users`, the rules there judge this as a write of the whole document.
    let probe = Write {
        id: id.clone(),
        mode: Mode::edit(base.clone()),
        deleted: false,
        body: String::new(),
        attachments: Vec::new(),
        user: None,
        facts: None,
    };
    let user = prepare_write(context, probe).await?.user;
    let database = context.database()?;
    let (document, attached) = (id.clone(), name.clone());
    let author = context.author();
    let written = context.services.store.write(move |batch| -> Result<Revision, DocumentError> {
        let mut writing = Writing::begin_as(batch, &database, author)?;
        let revision = writing.write_attachment(&document, base, &attached, attachment, user)?;
        writing.end()?;
        Ok(revision)
    });
    let revision = written.await?.to_string();
    if !put {
        return Ok(Answer::written(200, &id, &revision));
    }
    let names: Vec<String> = name.split('/').map(escaped).collect();
    let place = format!("{}/{}", location(context, &id), names.join("/"));
    Ok(Answer::written(201, &id, &revision).location(&place))
}

/// Reads the body as the bytes of an attachment.
async fn arriving(context: &mut Context, name: &str) -> Result<WriteAttachment, HttpError> {
    check_attachment_name(name)?;
    let gzip = match context.request.header("content-encoding").map(str::to_ascii_lowercase).as_deref() {
        None | Some("" | "identity") => false,
        Some("gzip") => true,
        Some(_) => {
            let reason = "Only gzip and identity content-encodings are supported";
            return Err(Error::new(ErrorKind::BadContentType, reason).into());
        }
    };
    let limit = context.settings.max_attachment_bytes;
    if context.request.declared_length().is_some_and(|length| length > limit) {
        return Err(Error::new(ErrorKind::AttachmentTooLarge, name.to_owned()).into());
    }
    let content_type = context.request.header("content-type").filter(|kind| !kind.is_empty());
    let content_type = content_type.unwrap_or(settle_protocol::attachment::DEFAULT_CONTENT_TYPE).to_owned();
    let mut sink = Sink::new(&context.services.store, &context.memory, gzip, limit, name);
    if let Some(mut body) = context.request.take_body() {
        while let Some(data) = next_bytes(&mut body).await? {
            sink.push(&data)?;
        }
    }
    let bytes = sink.finish().await?;
    Ok(WriteAttachment { name: name.to_owned(), content_type, revpos: None, source: Source::Arrived(bytes) })
}
