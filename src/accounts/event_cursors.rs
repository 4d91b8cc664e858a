//! How far each event webhook is in the audit log. The log is the queue: nothing is kept twice, and what was told is known by a
//! number. An event that a webhook kept refusing is set aside, so that it does not hold the later ones back; it is known by its
//! number, too, and tried again when somebody asks.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::withdrawals::Actor;
use crate::audit::{self, Numbered};
use crate::storage::{
    Batch, Encode as _, Family, Range, Read, StorageError, StorageResult, from_json_row, hex, json_row,
};

const CURSOR: u8 = b'w';
const ASIDE: u8 = b'x';
const CORRUPT: StorageError = StorageError::Corrupt { table: "outbox", problem: "malformed cursor" };

/// How far one webhook is. Times are seconds since 1970, 0: never.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cursor {
    /// The last entry that it was told, that was set aside, or that does not concern it.
    pub number: u64,
    /// Tries of the next one.
    pub attempts: u32,
    /// … of which it refused so many.
    pub refusals: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When it is tried next.
    pub next: u64,
}

/// An event that was set aside. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Aside {
    /// What it is told as: the same at every try.
    pub id: String,
    /// What happened.
    pub action: String,
    /// Tries so far.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: String,
    /// When it was set aside.
    pub since: u64,
    /// Somebody asked for another try.
    pub again: bool,
}

/// What an event is told as: names the entry also where a restored log has another one of the same number.
#[must_use]
pub fn event_id(event: &Numbered) -> String {
    hex(&event.hash[..16])
}

fn key_of(name: &str) -> Vec<u8> {
    [&[CURSOR][..], name.as_bytes()].concat()
}

fn asides_of(name: &str) -> Vec<u8> {
    let mut key = vec![ASIDE];
    key.string(name.as_bytes());
    key
}

fn aside_key(name: &str, number: u64) -> Vec<u8> {
    [asides_of(name).as_slice(), &number.to_be_bytes()].concat()
}

/// How far a webhook is; `None`: it is new.
///
/// # Errors
/// When the store fails.
pub fn find(reader: &impl Read, name: &str) -> StorageResult<Option<Cursor>> {
    let Some(row) = reader.get_bytes(Family::Outbox, &key_of(name))? else { return Ok(None) };
    from_json_row(&row).map(Some).ok_or(CORRUPT)
}

/// Keeps how far a webhook is.
pub fn keep(batch: &mut Batch<'_>, name: &str, cursor: &Cursor) {
    batch.put_bytes(Family::Outbox, key_of(name), json_row(cursor));
}

/// How far a webhook is; a new one begins with what happens from now on.
///
/// # Errors
/// When the store fails.
pub fn open(batch: &mut Batch<'_>, name: &str) -> StorageResult<Cursor> {
    if let Some(cursor) = find(batch, name)? {
        return Ok(cursor);
    }
    let cursor = Cursor { number: audit::head(batch)?.number, ..Cursor::default() };
    keep(batch, name, &cursor);
    Ok(cursor)
}

/// Sets the next event of a webhook aside, and lets the webhook go on behind it. Gives how far it is.
///
/// # Errors
/// When the store fails.
pub fn set_aside(
    batch: &mut Batch<'_>,
    name: &str,
    event: &Numbered,
    attempts: u32,
    error: &str,
    now: u64,
) -> StorageResult<Cursor> {
    let (id, action, error) = (event_id(event), event.entry.action.clone(), error.to_owned());
    let aside = Aside { id, action, attempts, error, since: now, again: false };
    put_aside(batch, name, event.number, &aside);
    let cursor = Cursor { number: event.number, ..Cursor::default() };
    keep(batch, name, &cursor);
    let server = Actor { now, ..Actor::default() };
    note(batch, "webhook.set_aside", name, event.number, &aside, &server)?;
    Ok(cursor)
}

/// Keeps what became of an event that was set aside.
pub fn put_aside(batch: &mut Batch<'_>, name: &str, number: u64, aside: &Aside) {
    batch.put_bytes(Family::Outbox, aside_key(name, number), json_row(aside));
}

/// Forgets an event that was set aside: it was told.
pub fn forget_aside(batch: &mut Batch<'_>, name: &str, number: u64) {
    batch.delete_bytes(Family::Outbox, aside_key(name, number));
}

/// An event that was set aside.
///
/// # Errors
/// When the store fails.
pub fn aside(reader: &impl Read, name: &str, number: u64) -> StorageResult<Option<Aside>> {
    let Some(row) = reader.get_bytes(Family::Outbox, &aside_key(name, number))? else { return Ok(None) };
    from_json_row(&row).map(Some).ok_or(CORRUPT)
}

/// Events of a webhook that were set aside, with their numbers, the oldest first.
///
/// # Errors
/// When the store fails.
pub fn asides(reader: &impl Read, name: &str) -> StorageResult<Vec<(u64, Aside)>> {
    let mut rows = Vec::new();
    reader.scan(Family::Outbox, &Range::prefix(&asides_of(name)), &mut |key, row| {
        let number = key.last_chunk().copied().map(u64::from_be_bytes).ok_or(CORRUPT)?;
        rows.push((number, from_json_row(row).ok_or(CORRUPT)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

/// Lets an event that was set aside be tried once more.
///
/// # Errors
/// When the store fails.
pub fn try_again(batch: &mut Batch<'_>, name: &str, number: u64, aside: Aside, actor: &Actor) -> StorageResult<Aside> {
    let again = Aside { again: true, ..aside };
    put_aside(batch, name, number, &again);
    note(batch, "webhook.retry", name, number, &again, actor)?;
    Ok(again)
}

fn note(
    batch: &mut Batch<'_>,
    action: &str,
    name: &str,
    number: u64,
    aside: &Aside,
    actor: &Actor,
) -> StorageResult<()> {
    let entry = actor.entry(action).detail("webhook", name).detail("number", number);
    let entry = entry.detail("event", aside.action.as_str()).detail("attempts", aside.attempts);
    audit::append(batch, &entry.detail("error", aside.error.as_str()))
}
