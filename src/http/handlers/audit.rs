//! `/_audit`: reading and checking the audit log. Operators and auditors read all of it; whoever manages accounts reads what they
//! did themselves, and nothing that tells how long the log is.

use std::io;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde_json::{Value, json};
use settle_protocol::Error;

use super::Handled;
use crate::audit::{self, Entry, Head, Stored, exported};
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
    /// Only what this account did: all that there is for whoever may not read the whole log.
    own: Option<String>,
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
            own: (!reads_whole(context)).then(|| context.by().to_owned()),
        })
    }

    /// Everything is asked for.
    fn is_whole(&self) -> bool {
        let texts = [&self.account, &self.device, &self.database, &self.place, &self.by, &self.action, &self.own];
        texts.into_iter().all(Option::is_none) && self.from == 0 && self.to.is_none()
    }

    /// What must stand in the text of an entry that fits: most entries need not be read.
    fn needle(&self) -> Option<String> {
        // What the server itself did has no such member.
        let who = self
            .own
            .as_ref()
            .or(self.by.as_ref())
            .filter(|by| !by.is_empty())
            .map(|by| format!("\"by\":{}", Value::from(by.as_str())));
        who.or_else(|| self.account.as_ref().map(|name| format!("\"account\":{}", Value::from(name.as_str()))))
    }

    /// The entry, if it fits. `needle`: as [`Filter::needle`] says.
    fn entry_in(&self, stored: &Stored<'_>, needle: Option<&str>) -> StorageResult<Option<Entry>> {
        if needle.is_some_and(|needle| !stored.mentions(needle.as_bytes())) {
            return Ok(None);
        }
        Ok(Some(stored.entry()?).filter(|entry| self.fits(entry)))
    }

    /// `action` names the whole word or its first half (`device` is every `device.…`), or several with commas between them.
    fn fits(&self, entry: &Entry) -> bool {
        let is = |asked: &Option<String>, told: Option<&str>| asked.as_deref().is_none_or(|asked| told == Some(asked));
        let named = |asked: &str| asked.split(',').any(|action| entry.is(action.trim()));
        self.action.as_deref().is_none_or(named)
            && is(&self.account, entry.account.as_deref())
            && is(&self.device, entry.device.as_deref())
            && is(&self.database, entry.database.as_deref())
            && is(&self.place, entry.place.as_deref())
            && is(&self.by, Some(&entry.by))
            && is(&self.own, Some(&entry.by))
            && entry.time >= self.from
            && self.to.is_none_or(|to| entry.time <= to)
    }
}

fn reads_whole(context: &Context) -> bool {
    context.caller.is_operator() || context.caller.audits()
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
    let limit = match number(context, "limit")?.map(usize::try_from) {
        None => LIMIT,
        Some(Ok(limit)) if (1..=MOST).contains(&limit) => limit,
        Some(_) => return Err(Error::bad_request(format!("`limit` must be 1 to {MOST}.")).into()),
    };
    let store = context.services.store.clone();
    let read = tokio::task::spawn_blocking(move || page(&store, &filter, since, limit));
    Ok(Answer::json(200, read.await.map_err(|_| StorageError::Panicked)??.to_string()))
}

fn page(store: &Store, filter: &Filter, since: u64, limit: usize) -> StorageResult<Value> {
    let snapshot = store.snapshot();
    let head = audit::head(&snapshot)?;
    let (mut entries, mut last) = (Vec::new(), since);
    let needle = filter.needle();
    audit::read_stored(&snapshot, since.saturating_add(1), |stored| {
        last = stored.head.number;
        entries.extend(filter.entry_in(stored, needle.as_deref())?.map(|entry| told(last, &entry)));
        Ok(if entries.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    let next = (last < head.number).then_some(last);
    Ok(match filter.own {
        None => json!({"entries": entries, "next": next, "head": head_of(&head)}),
        Some(_) => json!({"entries": entries, "next": next.filter(|_| entries.len() == limit)}),
    })
}

/// An export on its way: what was looked at, what was written, up to where.
#[derive(Debug, Clone)]
struct Export {
    filter: Filter,
    after: u64,
    /// The number of the last line.
    written: u64,
    end: u64,
}

/// All entries up to now, one JSON object a line, with their hashes ([`audit::exported`]). The export itself is noted first.
async fn export(context: &Context, filter: Filter, since: u64) -> Handled {
    let entry = context.entry("audit.export").detail("whole", filter.is_whole() && since == 0);
    context.services.store.write(move |batch| audit::append(batch, &entry)).await?;
    let store = context.services.store.clone();
    let head = audit::head(&store.snapshot())?;
    let own = filter.own.is_some();
    let export = Export { filter, after: since, written: 0, end: head.number };
    let stream = futures::stream::try_unfold(export, move |export| {
        let store = store.clone();
        async move {
            if export.after >= export.end {
                return Ok(None);
            }
            let piece = tokio::task::spawn_blocking(move || piece(&store, export));
            let (text, export) = piece.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
            Ok::<_, io::Error>(Some((Bytes::from(text), export)))
        }
    });
    let answer = Answer::stream(200, Box::pin(stream)).content_type("application/x-ndjson");
    Ok(match own {
        true => answer,
        false => answer.header("x-settle-audit-head", &format!("{}:{}", head.number, hex(&head.hash))),
    })
}

fn piece(store: &Store, mut export: Export) -> StorageResult<(Vec<u8>, Export)> {
    let (mut text, mut looked_at, from) = (Vec::new(), 0, export.after + 1);
    let (snapshot, needle) = (store.snapshot(), export.filter.needle());
    export.after = export.end;
    audit::read_stored(&snapshot, from, |stored| {
        looked_at += 1;
        let number = stored.head.number;
        if let Some(entry) = export.filter.entry_in(stored, needle.as_deref())? {
            if export.filter.own.is_some() {
                text.extend_from_slice(told(number, &entry).to_string().as_bytes());
                text.push(b'\n');
            } else {
                let follows = number == export.written + 1;
                let before = (!follows).then(|| audit::hash_before(&snapshot, number)).transpose()?;
                exported::write_line(&mut text, stored, before.as_ref());
            }
            export.written = number;
        }
        if number < export.end && looked_at < PIECE {
            return Ok(ControlFlow::Continue(()));
        }
        export.after = number;
        Ok(ControlFlow::Break(()))
    })?;
    Ok((text, export))
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
