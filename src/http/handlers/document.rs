//! One document: read, write, delete, copy; open revisions; multipart both ways.

use settle_protocol::attachment::{Attachment, Content};
use settle_protocol::design_document::check_design_document;
use settle_protocol::document::IncomingDocument;
use settle_protocol::document_id::{IdKind, check_document_id};
use settle_protocol::multipart::{Boundary, Encoder, PartHead};
use settle_protocol::{Error, ErrorKind, Revision};

use super::users::{guard_design, guard_read, prepare_write, show, write_counted};
use super::{Handled, document_id, escaped, local};
use crate::access::view::Visible;
use crate::documents::error::DocumentError;
use crate::documents::output::Output;
use crate::documents::provenance::provenance_of;
use crate::documents::read::{Found, Include, OpenRevision, Wanted, find, open_revisions, visible};
use crate::documents::tables::DatabaseId;
use crate::documents::write::{Mode, Source, Write, WriteAttachment, Writing};
use crate::http::error::HttpError;
use crate::http::multipart::{Limits, read_document, write_of};
use crate::http::pipeline::Context;
use crate::http::response::{Answer, matches_tag, tag_of};
use crate::storage::Snapshot;
use crate::storage::hex;

/// Whether an `Accept` header admits a type; no header admits all.
pub(super) fn accepts(accept: Option<&str>, kind: &str, subtype: &str) -> bool {
    let Some(accept) = accept else { return true };
    accept.split(',').any(|range| {
        let mut pieces = range.split(';').map(str::trim);
        let (of, name) = pieces.next().and_then(|name| name.split_once('/')).unwrap_or_default();
        let refused = pieces.any(|piece| matches!(piece, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        let fits = match (of, name) {
            ("*", "*") => true,
            (of, "*") => of.eq_ignore_ascii_case(kind),
            (of, name) => of.eq_ignore_ascii_case(kind) && name.eq_ignore_ascii_case(subtype),
        };
        fits && !refused
    })
}

/// A boundary that no document holds.
pub(super) fn new_boundary() -> Boundary {
    let name = uuid::Uuid::new_v4().simple().to_string();
    Boundary::new(&name).expect("hex digits are a boundary")
}

/// A `multipart/related` message: the document, then the bytes of its attachments.
pub(super) fn related(document: Output, sent: &[Attachment], boundary: &Boundary) -> Output {
    let encoder = Encoder::new(boundary);
    let mut out = Output::default();
    out.text.extend_from_slice(encoder.opening().as_bytes());
    out.text.extend_from_slice(PartHead::Document.text().as_bytes());
    out.append(document);
    out.text.extend_from_slice(encoder.part_tail().as_bytes());
    for attachment in sent {
        let head = PartHead::Attachment {
            name: &attachment.name,
            content_type: &attachment.content_type,
            length: attachment.length,
            gzip: false,
        };
        out.text.extend_from_slice(head.text().as_bytes());
        out.attachment(attachment.address, attachment.length, false);
        out.text.extend_from_slice(encoder.part_tail().as_bytes());
    }
    out.text.extend_from_slice(encoder.closing().as_bytes());
    out
}

/// Inline attachments must not be larger than the limit.
pub(super) fn check_attachment_sizes(context: &Context, document: &IncomingDocument) -> Result<(), Error> {
    let limit = context.settings.max_attachment_bytes;
    for attachment in &document.attachments {
        if let Content::Inline(bytes) = &attachment.content
            && bytes.len() as u64 > limit
        {
            return Err(Error::new(ErrorKind::AttachmentTooLarge, attachment.name.clone()));
        }
    }
    Ok(())
}

/// `/db/_x` that no line of the endpoint table knows: reading finds nothing, writing is refused.
pub(super) fn unknown(context: &Context) -> Handled {
    let id = context.request.segment(1);
    match context.request.method.as_str() {
        "GET" | "HEAD" if id == "_local" => Err(Error::bad_request("Invalid _local document id.").into()),
        "GET" | "HEAD" if id.starts_with("_design/") => {
            let path = format!("{}/{}/{id}", context.base(), escaped(context.request.segment(0)));
            let query = context.request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            Ok(Answer::empty(301).location(&format!("{path}{query}")))
        }
        "GET" | "HEAD" => Err(Error::missing().into()),
        _ if id == "_local" => Err(Error::bad_request("Invalid _local document id.").into()),
        _ => {
            check_document_id(id, usize::MAX)?;
            Err(Error::new(ErrorKind::IllegalDocumentId, format!("Write to {id} by its own path.")).into())
        }
    }
}

/// `GET /db/ID`.
pub(super) fn read(context: &Context) -> Handled {
    let (id, _) = document_id(context);
    check_document_id(&id, usize::MAX)?;
    guard_read(context, &id)?;
    let mut include = Include::from_query(&context.request.query)?;
    let open = context.request.query.get("open_revs").filter(|list| *list != "[]").map(str::to_owned);
    if let Some(open) = open {
        return read_open(context, &id, &open, &include);
    }
    let query = &context.request.query;
    let revision = query.get("rev").map(Revision::parse).transpose()?;
    if revision.is_some() {
        include = include.of_named_revision();
    }
    let wanted = match (revision, query.flag("latest")) {
        (Some(revision), true) => Wanted::Latest(revision),
        (Some(revision), false) => Wanted::Revision(revision),
        (None, _) if query.flag("deleted") => Wanted::WinnerOrTombstone,
        (None, _) => Wanted::Winner,
    };
    let store = context.services.store.clone();
    let snapshot = store.snapshot();
    let database = context.database()?.id();
    let mut found = find(&snapshot, database, &context.view, &id, &wanted)?;
    show(context, &mut found);
    let tag = tag_of(&found.revision);
    let provenance = context.request.query.flag("provenance") && context.require_steward().is_ok();
    let tagged = !provenance && !include.shows_more_than_revision(&found);
    if tagged && matches_tag(context.request.header("if-none-match"), &tag) {
        return Ok(Answer::not_modified(&tag));
    }
    let mut out = Output::with_capacity(found.body.text.len() + 128);
    let answer = if !provenance && accepts(context.request.header("accept"), "multipart", "related") {
        let sent = found.write_following(&snapshot, database, &include, &mut out);
        if sent.is_empty() {
            out.text.push(b'\n');
            Answer::output(200, out, &store)
        } else {
            let boundary = new_boundary();
            let message = related(out, &sent, &boundary);
            Answer::output(200, message, &store).content_type(&boundary.content_type("related"))
        }
    } else {
        found.write(&snapshot, database, &include, &mut out);
        if provenance {
            write_provenance(&snapshot, database, &found, &mut out)?;
        }
        out.text.push(b'\n');
        Answer::output(200, out, &store)
    };
    Ok(if tagged { answer.etag(&tag) } else { answer })
}

/// `?provenance=true`, for stewards: who brought which revision, on which device, and when.
fn write_provenance(snapshot: &Snapshot<'_>, database: u32, found: &Found, out: &mut Output) -> Result<(), HttpError> {
    let mut rows = Vec::new();
    for node in found.row.tree.nodes() {
        let brought = provenance_of(snapshot, database, found.row.cluster, &found.id, &node.revision)?;
        let Some(row) = brought else { continue };
        let (account, device) = (row.account, hex(&row.device));
        rows.push(serde_json::json!({"rev": node.revision.to_string(), "account": account, "device": device,
                                     "position": row.position, "time": row.time, "epoch": row.arrival.epoch,
                                     "standing": row.arrival.standing,
                                     "received_after_handover": row.arrival.after_handover}));
    }
    out.text.pop(); // the closing brace
    let member = format!(",\"_provenance\":{}}}", serde_json::Value::Array(rows));
    out.text.extend_from_slice(member.as_bytes());
    Ok(())
}

fn read_open(context: &Context, id: &str, open: &str, include: &Include) -> Handled {
    let mixed = accepts(context.request.header("accept"), "multipart", "mixed");
    let include = &if mixed { include.clone().with_attachments() } else { include.clone() };
    let asked = match open {
        "all" => None,
        _ => context.request.query.revisions("open_revs")?,
    };
    let store = context.services.store.clone();
    let snapshot = store.snapshot();
    let database = context.database()?.id();
    let latest = context.request.query.flag("latest");
    let mut opened = open_revisions(&snapshot, database, &context.view, id, asked.as_deref(), latest)?;
    for revision in &mut opened {
        if let OpenRevision::Found(found) = revision {
            show(context, found);
        }
    }
    let mut out = Output::default();
    if !mixed {
        out.text.push(b'[');
        for (at, revision) in opened.iter().enumerate() {
            if at > 0 {
                out.text.push(b',');
            }
            match revision {
                OpenRevision::Found(found) => {
                    out.text.extend_from_slice(b"{\"ok\":");
                    found.write(&snapshot, database, include, &mut out);
                    out.text.push(b'}');
                }
                OpenRevision::Missing(revision) => write_missing(&mut out, revision),
            }
        }
        out.text.extend_from_slice(b"]\n");
        return Ok(Answer::output(200, out, &store));
    }
    let boundary = new_boundary();
    let encoder = Encoder::new(&boundary);
    out.text.extend_from_slice(encoder.opening().as_bytes());
    for revision in &opened {
        match revision {
            OpenRevision::Found(found) => part_of(&snapshot, database, found, include, &boundary, &mut out),
            OpenRevision::Missing(revision) => {
                out.text.extend_from_slice(PartHead::Missing.text().as_bytes());
                write_missing(&mut out, revision);
                out.text.extend_from_slice(encoder.part_tail().as_bytes());
            }
        }
    }
    out.text.extend_from_slice(encoder.closing().as_bytes());
    let answer = Answer::output(200, out, &store).content_type(&boundary.content_type("mixed"));
    Ok(answer.without(hyper::header::CACHE_CONTROL))
}

/// One document as a part of a multipart answer: plain JSON, or a nested message with its attachments.
pub(super) fn part_of(
    snapshot: &Snapshot<'_>,
    database: DatabaseId,
    found: &Visible<Found>,
    include: &Include,
    outer: &Boundary,
    out: &mut Output,
) {
    let mut text = Output::default();
    let sent = found.write_following(snapshot, database, include, &mut text);
    if sent.is_empty() {
        out.text.extend_from_slice(PartHead::Document.text().as_bytes());
        out.append(text);
    } else {
        let inner = new_boundary();
        out.text.extend_from_slice(PartHead::Related(&inner).text().as_bytes());
        out.append(related(text, &sent, &inner));
    }
    out.text.extend_from_slice(Encoder::new(outer).part_tail().as_bytes());
}

fn write_missing(out: &mut Output, revision: &Revision) {
    out.text.extend_from_slice(b"{\"missing\":\"");
    settle_protocol::document::write_revision_text(&mut out.text, revision);
    out.text.extend_from_slice(b"\"}");
}

/// The revision that a request names in its body, query and `If-Match`: they must agree.
pub(super) fn named_revision(context: &Context, in_body: Option<Revision>) -> Result<Option<Revision>, Error> {
    let in_query = context.request.query.get("rev").filter(|rev| !rev.is_empty()).map(Revision::parse).transpose()?;
    let tag = context.request.header("if-match").map(|tag| tag.trim().trim_matches('"').to_owned());
    let in_header = tag.filter(|tag| !tag.is_empty()).map(|tag| Revision::parse(&tag)).transpose()?;
    if let (Some(body), Some(query)) = (&in_body, &in_query)
        && body != query
    {
        let reason = "Document rev from request body and query string have different values";
        return Err(Error::bad_request(reason));
    }
    let revision = in_body.or(in_query);
    if let (Some(revision), Some(header)) = (&revision, &in_header)
        && revision != header
    {
        return Err(Error::bad_request("Document rev and etag have different values"));
    }
    Ok(revision.or(in_header))
}

/// `PUT /db/ID`.
pub(super) async fn write(context: &mut Context) -> Handled {
    let (id, _) = document_id(context);
    check_document_id(&id, context.settings.max_document_id_bytes)?;
    guard_design(context, &id)?;
    let content_type = context.request.header("content-type").unwrap_or_default().to_owned();
    let (document, parts) = if content_type.to_ascii_lowercase().starts_with("multipart/related") {
        let limits = Limits {
            request_bytes: context.settings.max_request_bytes,
            document_bytes: context.settings.max_document_bytes,
            attachment_bytes: context.settings.max_attachment_bytes,
        };
        let body = context.request.take_body().ok_or_else(|| Error::bad_request("The body is missing."))?;
        let store = &context.services.store;
        let (document, parts) = read_document(body, &content_type, limits, store, &context.memory).await?;
        (document, Some(parts))
    } else {
        (IncomingDocument::parse(&context.read_body(context.settings.max_request_bytes).await?)?, None)
    };
    check_size(context, &document, "")?;
    store(context, id, document, parts).await
}

fn check_size(context: &Context, document: &IncomingDocument, reason: &str) -> Result<(), Error> {
    if document.body.len() > context.settings.max_document_bytes {
        return Err(Error::new(ErrorKind::DocumentTooLarge, reason.to_owned()));
    }
    check_attachment_sizes(context, document)
}

/// `POST /db`.
pub(super) async fn post(context: &mut Context) -> Handled {
    context.request.require_json()?;
    let body = context.read_body(context.settings.max_request_bytes).await?;
    let mut document = IncomingDocument::parse(&body)?;
    check_size(context, &document, document.id.as_deref().unwrap_or_default())?;
    let id = document.id.take().unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
    if check_document_id(&id, context.settings.max_document_id_bytes)? == IdKind::Local {
        let sent = document.revision.map(|revision| revision.to_string());
        return local::store(context, id, sent, document.body).await;
    }
    guard_design(context, &id)?;
    Ok(store(context, id, document, None).await?.without(hyper::header::ETAG))
}

async fn store(
    context: &mut Context,
    id: String,
    mut document: IncomingDocument,
    parts: Option<Vec<WriteAttachment>>,
) -> Handled {
    let deleted = document.deleted;
    let new_edits = context.request.query.get("new_edits") != Some("false");
    if new_edits && id.starts_with("_design/") && !deleted {
        check_design_document(&document.body)?;
    }
    let named = named_revision(context, document.revision.take())?;
    let mode = if !new_edits {
        document.revision = named;
        Mode::Replicated { path: document.replicated_path()? }
    } else {
        let claimed = document.history.as_ref().map(|history| history.path()).transpose().unwrap_or_default();
        Mode::Interactive { base: named, claimed: claimed.unwrap_or_default() }
    };
    let write = match parts {
        Some(parts) => write_of(id.clone(), mode, document, parts),
        None => Write::new(id.clone(), mode, document)?,
    };
    let written = commit(context, write).await;
    if context.request.query.get("batch") == Some("ok") {
        // Durable all the same; only a conflict is not told, as in CouchDB.
        if let Err(error) = written.as_ref()
            && error.word != "conflict"
        {
            return Err(error.clone());
        }
        let mut text = b"{\"ok\":true,\"id\":".to_vec();
        settle_protocol::raw_json::write_string(&mut text, &id);
        text.push(b'}');
        return Ok(Answer::json(202, text));
    }
    let revision = written?;
    // CouchDB answers 200 to a deletion by PUT (trap T17).
    let status = if deleted { 200 } else { 201 };
    let answer = Answer::written(status, &id, &revision.to_string()).etag(&tag_of(&revision));
    Ok(answer.location(&location(context, &id)))
}

/// Where a written document is.
pub(super) fn location(context: &Context, id: &str) -> String {
    format!("{}/{}/{}", context.base(), escaped(context.request.segment(0)), escaped(id))
}

/// Hands one write to the writer.
pub(super) async fn commit(context: &Context, write: Write) -> Result<Revision, HttpError> {
    commit_if(context, write, |_, _| Ok(())).await
}

/// The same, if `check` on the writer lets it.
async fn commit_if(
    context: &Context,
    write: Write,
    check: impl FnOnce(&Writing<'_, '_>, &Write) -> Result<(), DocumentError> + Send + 'static,
) -> Result<Revision, HttpError> {
    let write = prepare_write(context, write).await?;
    let database = context.database()?;
    let author = context.author();
    let deleted = if write.deleted { vec![write.id.clone()] } else { Vec::new() };
    write_counted(context, &deleted, move |batch| {
        let mut writing = Writing::begin_as(batch, &database, author)?;
        check(&writing, &write)?;
        let revision = writing.submit(write)?;
        writing.end()?;
        Ok(revision)
    })
    .await
}

/// `DELETE /db/ID`.
pub(super) async fn delete(context: &mut Context) -> Handled {
    let (id, _) = document_id(context);
    check_document_id(&id, usize::MAX)?;
    guard_design(context, &id)?;
    let base = named_revision(context, None)?;
    let tombstone = Write {
        id: id.clone(),
        mode: Mode::edit(base.clone()),
        deleted: true,
        body: String::new(),
        attachments: Vec::new(),
        user: None,
        facts: None,
    };
    let view = context.view.clone();
    let revision = commit_if(context, tombstone, move |writing, write| {
        visible(writing.batch, writing.database(), &view, &write.id, ())?.ok_or_else(Error::missing)?;
        let row = writing.document(&write.id)?.ok_or_else(Error::missing)?;
        if row.tree.is_deleted() && base.as_ref().is_none_or(|base| row.tree.is_leaf(base)) {
            return Err(Error::not_found("deleted").into());
        }
        Ok(())
    })
    .await?;
    if context.request.query.get("batch") == Some("ok") {
        return Ok(Answer::json(202, serde_json::json!({"ok": true, "id": id}).to_string()));
    }
    Ok(Answer::written(200, &id, &revision.to_string()).etag(&tag_of(&revision)))
}

/// `COPY /db/ID` with `Destination: NEWID[?rev=R]`.
pub(super) async fn copy(context: &mut Context) -> Handled {
    let (id, _) = document_id(context);
    guard_read(context, &id)?;
    let destination = context.request.header("destination").map(str::to_owned);
    let destination = destination.ok_or_else(|| Error::bad_request("Destination header is mandatory for COPY."))?;
    let (target, query) = destination.split_once('?').unwrap_or((destination.as_str(), ""));
    if target.contains("://") {
        return Err(Error::bad_request("Destination URL must be relative.").into());
    }
    let target = crate::http::request::decode(target)?;
    let base = query.split('&').find_map(|pair| pair.strip_prefix("rev=")).map(Revision::parse).transpose()?;
    check_document_id(&target, context.settings.max_document_id_bytes)?;
    guard_design(context, &target)?;
    let wanted = match context.request.query.get("rev").map(Revision::parse).transpose()? {
        Some(revision) => Wanted::Revision(revision),
        None => Wanted::Winner,
    };
    let source = find(&context.services.store.snapshot(), context.database()?.id(), &context.view, &id, &wanted)?;
    let mut write = Write {
        id: target.clone(),
        mode: Mode::edit(base),
        deleted: false,
        body: source.body.text.clone(),
        attachments: Vec::new(),
        user: None,
        facts: None,
    };
    for attachment in &source.body.attachments {
        let bytes = crate::http::handlers::attachment::whole(context, attachment).await?;
        write.attachments.push(WriteAttachment { source: Source::Arrived(bytes), ..WriteAttachment::kept(attachment) });
    }
    let revision = commit(context, write).await?;
    let answer = Answer::written(201, &target, &revision.to_string()).etag(&tag_of(&revision));
    Ok(answer.location(&location(context, &target)))
}
