//! `/_audit`: reading and checking the audit log.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde_json::{Value, json};
use settle_protocol::Error;

use super::Handled;
use crate::audit::{self, Entry, Head};
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{StorageError, StorageResult, Store, hex, unhex};

/// Entries of a page unless `limit` says otherwise, and at most.
const LIMIT: usize = 100;
const MOST: usize = 1_000;
/// Entries that are looked at between two pieces of an export.
const PIECE: usize = 500;

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
struct Filter {
    account: Option<String>,
    device: Option<String>,
    database: Option<String>,
    place: Option<String>,
    by: Option<String>,
    action: Option<String>,
    from: u64,
    to: Option<u64>,
}

impl Filter {
    fn of(context: &Context) -> Result<Self, Error> {
        let text = |name: &str| context.request.query.get(name).map(str::to_owned);
        Ok(Self {
            account: text("account"),
            device: text("device"),
            database: text("database"),
            place: text("place"),
            by: text("by"),
            action: text("action"),
            from: number(context, "from")?.unwrap_or(0),
            to: number(context, "to")?,
        })
    }

    fn fits(&self, entry: &Entry) -> bool {
        let is = |asked: &Option<String>, told: Option<&str>| asked.as_deref().is_none_or(|asked| told == Some(asked));
        self.action.as_deref().is_none_or(|action| entry.is(action))
            && is(&self.account, entry.account.as_deref())
            && is(&self.device, entry.device.as_deref())
            && is(&self.database, entry.database.as_deref())
            && is(&self.place, entry.place.as_deref())
            && is(&self.by, Some(&entry.by))
            && entry.time >= self.from
            && self.to.is_none_or(|to| entry.time <= to)
    }
}

fn number(context: &Context, name: &str) -> Result<Option<u64>, Error> {
    let text = context.request.query.get(name);
    let refused = || Error::bad_request(format!("`{name}` must be a whole number."));
    text.map(|text| text.parse().map_err(|_| refused())).transpose()
}

fn told(number: u64, entry: &Entry) -> Value {
    let mut value = serde_json::to_value(entry).unwrap_or_default();
    value["number"] = number.into();
    value
}

fn head_of(head: &Head) -> Value {
    json!({"number": head.number, "hash": hex(&head.hash)})
}

/// `GET /_audit`: entries behind `since`, oldest first, with filters; as NDJSON all of them.
pub(super) async fn read(context: &Context) -> Handled {
    let filter = Filter::of(context)?;
    let since = number(context, "since")?.unwrap_or(0);
    if context.request.header("accept").is_some_and(|accept| accept.contains("application/x-ndjson")) {
        return export(context, filter, since).await;
    }
    let limit = number(context, "limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(LIMIT).clamp(1, MOST);
    let store = context.services.store.clone();
    let read = tokio::task::spawn_blocking(move || page(&store, &filter, since, limit));
    Ok(Answer::json(200, read.await.map_err(|_| StorageError::Panicked)??.to_string()))
}

fn page(store: &Store, filter: &Filter, since: u64, limit: usize) -> StorageResult<Value> {
    let snapshot = store.snapshot();
    let head = audit::head(&snapshot)?;
    let (mut entries, mut last) = (Vec::new(), since);
    audit::read(&snapshot, since + 1, |number, entry| {
        last = number;
        if filter.fits(entry) {
            entries.push(told(number, entry));
        }
        if entries.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let next = (last < head.number).then_some(last);
    Ok(json!({"entries": entries, "next": next, "head": head_of(&head)}))
}

/// All entries up to now, one JSON object a line. The export itself is noted first.
async fn export(context: &Context, filter: Filter, since: u64) -> Handled {
    let entry = context.entry("audit.export");
    context.services.store.write(move |batch| audit::append(batch, &entry)).await?;
    let store = context.services.store.clone();
    let end = audit::head(&store.snapshot())?.number;
    let stream = futures::stream::try_unfold(since, move |after| {
        let (store, filter) = (store.clone(), filter.clone());
        async move {
            if after >= end {
                return Ok(None);
            }
            let piece = tokio::task::spawn_blocking(move || piece(&store, &filter, after, end));
            let (text, last) = piece.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
            Ok::<_, io::Error>(Some((Bytes::from(text), last)))
        }
    });
    Ok(Answer::stream(200, Box::pin(stream)).content_type("application/x-ndjson"))
}

fn piece(store: &Store, filter: &Filter, after: u64, end: u64) -> StorageResult<(Vec<u8>, u64)> {
    let (mut text, mut last, mut looked_at) = (Vec::new(), end, 0);
    audit::read(&store.snapshot(), after + 1, |number, entry| {
        looked_at += 1;
        if filter.fits(entry) {
            text.extend_from_slice(told(number, entry).to_string().as_bytes());
            text.push(b'\n');
        }
        if number < end && looked_at < PIECE {
            return ControlFlow::Continue(());
        }
        last = number;
        ControlFlow::Break(())
    })?;
    Ok((text, last))
}

/// `GET /_audit/verify`, with `head=NUMBER:HASH` also against a head that was kept elsewhere.
pub(super) async fn verify(context: &Context) -> Handled {
    let kept = context.request.query.get("head").map(parse_head).transpose()?;
    let store = context.services.store.clone();
    let checked = tokio::task::spawn_blocking(move || audit::verify(&store.snapshot(), kept.as_slice()));
    let checked = checked.await.map_err(|_| StorageError::Panicked)??;
    let answer = match checked {
        Ok(head) => json!({"ok": true, "entries": head.number, "head": head_of(&head)}),
        Err(broken) => json!({"ok": false, "entry": broken.number, "problem": broken.problem}),
    };
    Ok(Answer::json(200, answer.to_string()))
}

/// `NUMBER:HASH`.
fn parse_head(text: &str) -> Result<Head, HttpError> {
    let parsed =
        text.split_once(':').and_then(|(number, hash)| Some(Head { number: number.parse().ok()?, hash: unhex(hash)? }));
    Ok(parsed.ok_or_else(|| Error::bad_request("`head` must be NUMBER:HASH, as `settle audit verify` printed it."))?)
}
