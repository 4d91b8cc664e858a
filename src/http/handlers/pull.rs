//! What a pull asks for: `_changes`, `_bulk_get`, listings.

use std::io;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Map, Value};
use settle_protocol::bulk::{BulkGetEntry, parse_bulk_get};
use settle_protocol::changes::{ChangesOptions, Feed, Filter};
use settle_protocol::document_id::{IdKind, check_document_id};
use settle_protocol::listing::ListingOptions;
use settle_protocol::multipart::{Boundary, Encoder, PartHead};
use settle_protocol::raw_json::write_string;
use settle_protocol::{Error, ErrorKind};

use super::database::object_or_empty;
use super::users::{guard_read, show};
use super::{Handled, document};
use crate::access::view::Visible;
use crate::documents::changes::Changes;
use crate::documents::listing::{Extent, Listing};
use crate::documents::local;
use crate::documents::output::Output;
use crate::documents::read::{Asked, AttachmentBytes, Found, Include, OpenRevision, open_many};
use crate::documents::scoped_feed::visible_ids;
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::{Answer, stream_pieces};
use crate::storage::{Snapshot, StorageError, Store};

/// `GET` and `POST /db/_changes`.
pub(super) async fn changes(context: &mut Context) -> Handled {
    let body = match context.request.method.as_str() {
        "POST" => {
            context.request.require_json()?;
            Some(Value::Object(object_or_empty(context).await?))
        }
        _ => None,
    };
    let options =
        ChangesOptions::parse(&context.request.query, context.request.header("last-event-id"), body.as_ref())?;
    if let Filter::Function(name) = &options.filter {
        let reason = format!("Filter {name} is a function of a design document; Settle does not run JavaScript yet.");
        return Err(Error::new(ErrorKind::NotImplemented, reason).into());
    }
    let feed = options.feed;
    let store = context.services.store.clone();
    let most = context.settings.hard_scope_documents;
    if let Some(restricted) = context.view.restricted().filter(|_| most > 0) {
        let documents = visible_ids(&store.snapshot(), restricted, context.database()?.id())?.len() as u64;
        if documents > most {
            let reason = format!(
                "There are {documents} documents in your area, more than the {most} that a device may hold. Pushes go on; ask \
                 your supervisor to divide the area."
            );
            return Err(Error::new(ErrorKind::Forbidden, reason).into());
        }
    }
    let changes = Changes::open(
        &store,
        context.database()?,
        options,
        &context.view,
        context.services.clock.now(),
        context.settings.drain_seconds,
    )?;
    let stream = futures::stream::try_unfold((changes, store), |(mut changes, store)| async move {
        let pieces = changes.next().await.map_err(io::Error::from)?;
        Ok::<_, io::Error>(pieces.map(|pieces| (stream_pieces(store.clone(), pieces), (changes, store))))
    });
    let flat = stream.map(|pieces| match pieces {
        Ok(pieces) => pieces.left_stream(),
        Err(error) => futures::stream::once(async { Err::<Bytes, io::Error>(error) }).right_stream(),
    });
    let answer = Answer::stream(200, Box::pin(flat.flatten()));
    Ok(match feed {
        Feed::EventSource => answer.content_type("text/event-stream").header("cache-control", "no-cache"),
        _ => answer,
    })
}

/// `GET` and `POST /db/_all_docs`, `_design_docs`.
pub(super) async fn listing(context: &mut Context, extent: Extent) -> Handled {
    let mut options = ListingOptions::from_query(&context.request.query)?;
    if context.request.method == "POST" {
        context.request.require_json()?;
        options = options.with_body(&object_or_empty(context).await?)?;
    }
    let store = context.services.store.clone();
    let listing =
        Listing::new(&store, context.database()?, extent, options, local::owner(&context.caller), context.view.clone());
    Ok(Answer::stream(200, Box::pin(pages(store, vec![listing], None))))
}

/// `POST /db/_all_docs/queries`, `_design_docs/queries`.
pub(super) async fn listing_queries(context: &mut Context, extent: Extent) -> Handled {
    context.request.require_json()?;
    let body = object_or_empty(context).await?;
    let store = context.services.store.clone();
    let mut listings = Vec::new();
    for query in queries_of(&body)? {
        let options = ListingOptions::from_query(&context.request.query)?.with_body(query)?;
        listings.push(Listing::new(
            &store,
            context.database()?,
            extent,
            options,
            local::owner(&context.caller),
            context.view.clone(),
        ));
    }
    Ok(Answer::stream(200, Box::pin(pages(store, listings, Some(())))))
}

/// The `queries` of a body.
pub(super) fn queries_of(body: &Map<String, Value>) -> Result<Vec<&Map<String, Value>>, Error> {
    let missing = || Error::bad_request("POST body must include `queries` parameter.");
    let queries = body.get("queries").ok_or_else(missing)?.as_array();
    let queries = queries.ok_or_else(|| Error::bad_request("`queries` parameter must be an array."))?;
    let objects = queries.iter().map(Value::as_object);
    objects.map(|query| query.ok_or_else(|| Error::bad_request("`queries` must hold objects"))).collect()
}

/// Sends listings page by page; several are wrapped in `{"results":[…]}`.
fn pages(
    store: Store,
    listings: Vec<Listing>,
    wrapped: Option<()>,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    struct State {
        store: Store,
        rest: std::vec::IntoIter<Listing>,
        current: Option<Listing>,
        started: bool,
        wrapped: bool,
        done: bool,
    }
    let state = State {
        store,
        rest: listings.into_iter(),
        current: None,
        started: false,
        wrapped: wrapped.is_some(),
        done: false,
    };
    let stream = futures::stream::try_unfold(state, |mut state| async move {
        let mut out = Output::default();
        if !state.started && state.wrapped {
            out.text.extend_from_slice(b"{\"results\":[");
        }
        let first = !std::mem::replace(&mut state.started, true);
        loop {
            if let Some(mut listing) = state.current.take() {
                let (listing, page) = tokio::task::spawn_blocking(move || {
                    let page = listing.page();
                    (listing, page)
                })
                .await
                .map_err(|_| io::Error::other(StorageError::Panicked.to_string()))?;
                if let Some(page) = page.map_err(io::Error::from)? {
                    state.current = Some(listing);
                    out.append(page);
                    return Ok::<_, io::Error>(Some((stream_pieces(state.store.clone(), out.into_pieces()), state)));
                }
            }
            match state.rest.next() {
                Some(listing) => {
                    if !first && state.wrapped {
                        out.text.push(b',');
                    }
                    state.current = Some(listing);
                }
                None if state.done => return Ok(None),
                None => {
                    state.done = true;
                    out.text.extend_from_slice(if state.wrapped { b"]}\n" } else { b"\n" });
                    return Ok(Some((stream_pieces(state.store.clone(), out.into_pieces()), state)));
                }
            }
        }
    });
    stream
        .map(|pieces| match pieces {
            Ok(pieces) => pieces.left_stream(),
            Err(error) => futures::stream::once(async { Err(error) }).right_stream(),
        })
        .flatten()
}

/// Entries of a `_bulk_get` that are looked up together.
const TOGETHER: usize = 500;

/// Query parameters that `_bulk_get` refuses (§1.1.3).
const REFUSED: [&str; 5] = ["rev", "open_revs", "new_edits", "w", "atts_since"];

/// `POST /db/_bulk_get`.
pub(super) async fn bulk_get(context: &mut Context) -> Handled {
    context.request.require_json()?;
    for name in REFUSED {
        if context.request.query.get(name).is_some() {
            return Err(Error::bad_request(format!("\"{name}\" query parameter is not acceptable")).into());
        }
    }
    let body = context.request.read_body(context.settings.max_request_bytes).await?;
    let entries = parse_bulk_get(&body)?;
    let accept = context.request.header("accept");
    if !document::accepts(accept, "application", "json") {
        for subtype in ["mixed", "related"] {
            if document::accepts(accept, "multipart", subtype) {
                return bulk_get_multipart(context, &entries, subtype);
            }
        }
    }
    let store = context.services.store.clone();
    let snapshot = store.snapshot();
    let mut out = Output::with_capacity(entries.len() * 640 + 64);
    out.text.extend_from_slice(b"{\"results\":[");
    for (number, entries) in entries.chunks(TOGETHER).enumerate() {
        for (at, (entry, opened)) in entries.iter().zip(open_entries(context, &snapshot, entries)?).enumerate() {
            if number + at > 0 {
                out.text.push(b',');
            }
            write_entry(context, &snapshot, entry, opened, &mut out)?;
        }
    }
    out.text.extend_from_slice(b"]}\n");
    drop(snapshot);
    Ok(Answer::output(200, out, &store))
}

fn include_of(context: &Context, entry: &BulkGetEntry) -> Include {
    let query = &context.request.query;
    let attachments = match (&entry.atts_since, query.flag("attachments")) {
        // An empty list means stubs here, unlike in a document request (§1.1.3).
        (Some(since), _) if !since.is_empty() => AttachmentBytes::Since(since.clone()),
        (None, true) => AttachmentBytes::Since(Vec::new()),
        _ => AttachmentBytes::Stubs,
    };
    Include { revisions: query.flag("revs"), attachments, ..Include::default() }
}

/// What each entry asks for: documents, or one error.
fn open_entries(
    context: &Context,
    snapshot: &Snapshot<'_>,
    entries: &[BulkGetEntry],
) -> Result<Vec<Result<Vec<OpenRevision>, Error>>, HttpError> {
    let refused: Vec<Option<Error>> = entries.iter().map(|entry| refusal(context, entry)).collect();
    let wanted = entries.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
    let wanted: Vec<Asked<'_>> = wanted
        .map(|(entry, _)| Asked {
            id: entry.id.as_deref().unwrap_or_default(),
            revisions: entry.revision.as_ref().map(std::slice::from_ref),
        })
        .collect();
    let latest = context.request.query.flag("latest");
    let mut opened = open_many(snapshot, context.database()?.id(), &context.view, &wanted, latest)?.into_iter();
    let outcomes = refused.into_iter().map(|refused| match refused {
        Some(error) => Err(error),
        None => opened.next().unwrap_or_else(|| Err(Error::missing())),
    });
    Ok(outcomes.collect())
}

/// Why an entry is not looked up at all.
fn refusal(context: &Context, entry: &BulkGetEntry) -> Option<Error> {
    if let Some(refused) = &entry.refused {
        return Some(refused.clone());
    }
    let id = entry.id.as_deref().unwrap_or_default();
    match check_document_id(id, usize::MAX) {
        Ok(IdKind::Local) => return Some(Error::missing()),
        Ok(_) => {}
        Err(error) => return Some(error),
    }
    let error = guard_read(context, id).err()?;
    let kind = if error.status() == 404 { ErrorKind::NotFound } else { ErrorKind::Forbidden };
    Some(Error::new(kind, error.reason().to_owned()))
}

fn write_entry(
    context: &Context,
    snapshot: &Snapshot<'_>,
    entry: &BulkGetEntry,
    opened: Result<Vec<OpenRevision>, Error>,
    out: &mut Output,
) -> Result<(), HttpError> {
    let database = context.database()?.id();
    out.text.extend_from_slice(b"{\"id\":");
    write_optional(out, entry.id.as_deref());
    out.text.extend_from_slice(b",\"docs\":[");
    match opened {
        Ok(opened) => {
            for (at, revision) in opened.into_iter().enumerate() {
                if at > 0 {
                    out.text.push(b',');
                }
                match revision {
                    OpenRevision::Found(mut found) => {
                        show(context, &mut found);
                        out.text.extend_from_slice(b"{\"ok\":");
                        found.write(snapshot, database, &include_of(context, entry), out);
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

/// The multipart form: a part per revision (nothing current asks for it).
fn bulk_get_multipart(context: &Context, entries: &[BulkGetEntry], subtype: &str) -> Handled {
    let store = context.services.store.clone();
    let snapshot = store.snapshot();
    let boundary = document::new_boundary();
    let encoder = Encoder::new(&boundary);
    let mut out = Output::default();
    out.text.extend_from_slice(encoder.opening().as_bytes());
    for (entry, opened) in entries.iter().zip(open_entries(context, &snapshot, entries)?) {
        let error_part = |out: &mut Output, revision: Option<&str>, error: &Error| {
            let mut row = Output::default();
            write_error(&mut row, entry, revision, error);
            out.text.extend_from_slice(PartHead::Missing.text().as_bytes());
            out.append(row);
            out.text.extend_from_slice(encoder.part_tail().as_bytes());
        };
        match opened {
            Err(error) => error_part(&mut out, entry.rev.as_deref(), &error),
            Ok(opened) => {
                for revision in opened {
                    match revision {
                        OpenRevision::Missing(revision) => {
                            error_part(&mut out, Some(&revision.to_string()), &Error::missing());
                        }
                        OpenRevision::Found(mut found) => {
                            show(context, &mut found);
                            part_of(context, &snapshot, &found, &include_of(context, entry), &boundary, &mut out)?;
                        }
                    }
                }
            }
        }
    }
    out.text.extend_from_slice(encoder.closing().as_bytes());
    drop(snapshot);
    Ok(Answer::output(200, out, &store).content_type(&boundary.content_type(subtype)))
}

/// One document as a part of a multipart answer: plain JSON, or a nested message with its attachments.
pub(super) fn part_of(
    context: &Context,
    snapshot: &Snapshot<'_>,
    found: &Visible<Found>,
    include: &Include,
    outer: &Boundary,
    out: &mut Output,
) -> Result<(), HttpError> {
    let database = context.database()?.id();
    let mut text = Output::default();
    let sent = found.write_following(snapshot, database, include, &mut text);
    if sent.is_empty() {
        out.text.extend_from_slice(PartHead::Document.text().as_bytes());
        out.append(text);
    } else {
        let inner = document::new_boundary();
        out.text.extend_from_slice(PartHead::Related(&inner).text().as_bytes());
        out.append(document::related(text, &sent, &inner));
    }
    out.text.extend_from_slice(Encoder::new(outer).part_tail().as_bytes());
    Ok(())
}
