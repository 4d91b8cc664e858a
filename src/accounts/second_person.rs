//! More than so many retirements within an hour are not for one person alone: beyond that, the same must be asked for by a second
//! one who may do it, too. Nothing is done until then.
//!
//! What counts is what ends somebody's work: accounts that are disabled, retired or deleted, and devices that are retired. A cut
//! counts for nothing and never waits: a stolen phone must be cut at once.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::wipes::CONFIRM_SECONDS;
use super::withdrawals::Actor;
use crate::audit;
use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, from_json_row, json_row};

/// Seconds within which one person's retirements are counted together.
pub const COUNTED_SECONDS: u64 = 3_600;
/// What counts, in the words of the audit log.
const ENDINGS: [&str; 4] = ["account.disable", "account.retire", "account.delete", "device.retire"];
const ALONE: &[u8] = b"alone/";
const WAITING: &[u8] = b"second/";
const CORRUPT: StorageError = StorageError::Corrupt { table: "meta", problem: "malformed order" };

/// What somebody asks for. Who asks for the same has the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Hash of the request without its reason.
    pub key: [u8; 32],
    /// The request in words: method and path.
    pub request: String,
}

/// An order that waits for a second person. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The request in words.
    pub request: String,
    /// Who asked.
    pub asked_by: String,
    /// When.
    pub asked_at: u64,
    /// Until when somebody else can confirm it.
    pub confirm_until: u64,
    /// Whose rights it ends.
    pub accounts: Vec<String>,
}

/// Whether what was done in a batch may stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Stays,
    /// It must be taken back: a second person is needed. Whose rights it would end.
    Waits(Vec<String>),
}

fn waiting_in(row: &[u8]) -> StorageResult<Waiting> {
    from_json_row(row).ok_or(CORRUPT)
}

/// An order that waits or waited.
fn find(reader: &impl Read, order: &Order) -> StorageResult<Option<Waiting>> {
    reader.get_bytes(Family::Meta, &waiting_key(order))?.map(|row| waiting_in(&row)).transpose()
}

fn alone_key(name: &str) -> Vec<u8> {
    [ALONE, name.as_bytes()].concat()
}

fn waiting_key(order: &Order) -> Vec<u8> {
    [WAITING, &order.key].concat()
}

/// Whose rights ended by what was noted behind an entry of the audit log, one name for each ending.
fn endings_since(batch: &Batch<'_>, number: u64) -> StorageResult<Vec<String>> {
    let mut accounts = Vec::new();
    if audit::head(batch)?.number > number {
        audit::read(batch, number + 1, |_, entry| {
            if ENDINGS.contains(&entry.action.as_str()) {
                accounts.push(entry.account.clone().unwrap_or_default());
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(accounts)
}

/// Whether what a batch did since an entry of the audit log may stay. `limit`: retirements that one person may do within an hour;
/// 0: any number.
///
/// # Errors
/// When the store fails.
pub fn judge(batch: &mut Batch<'_>, order: &Order, actor: &Actor, limit: u64, since: u64) -> StorageResult<Verdict> {
    let endings = endings_since(batch, since)?;
    if endings.is_empty() || limit == 0 {
        return Ok(Verdict::Stays);
    }
    let known = batch.get_bytes(Family::Meta, &alone_key(&actor.name))?;
    let mut times: Vec<u64> = known.map(|row| from_json_row(&row).ok_or(CORRUPT)).transpose()?.unwrap_or_default();
    times.retain(|time| actor.now < time + COUNTED_SECONDS);
    let by_another = |first: &Waiting| actor.now <= first.confirm_until && first.asked_by != actor.name;
    if let Some(first) = find(batch, order)?.filter(by_another) {
        batch.delete_bytes(Family::Meta, waiting_key(order));
        let entry = actor.entry("second_person.confirm").detail("request", order.request.as_str());
        audit::append(batch, &entry.detail("asked_by", first.asked_by).detail("endings", endings.len()))?;
        return Ok(Verdict::Stays);
    }
    times.extend(std::iter::repeat_n(actor.now, endings.len()));
    if times.len() as u64 > limit {
        return Ok(Verdict::Waits(endings));
    }
    batch.put_bytes(Family::Meta, alone_key(&actor.name), json_row(&times));
    batch.delete_bytes(Family::Meta, waiting_key(order)); // what waited is done now
    Ok(Verdict::Stays)
}

/// Notes that an order waits for a second person. The same order of the same person goes on waiting, and no longer for it.
///
/// # Errors
/// When the store fails.
pub fn ask(batch: &mut Batch<'_>, order: &Order, actor: &Actor, accounts: Vec<String>) -> StorageResult<Waiting> {
    if let Some(known) = find(batch, order)?.filter(|known| actor.now <= known.confirm_until) {
        return Ok(known);
    }
    for (key, old) in waiting(batch)? {
        if actor.now > old.confirm_until {
            batch.delete_bytes(Family::Meta, key);
        }
    }
    let asked = Waiting {
        request: order.request.clone(),
        asked_by: actor.name.clone(),
        asked_at: actor.now,
        confirm_until: actor.now + CONFIRM_SECONDS,
        accounts,
    };
    batch.put_bytes(Family::Meta, waiting_key(order), json_row(&asked));
    let entry = actor.entry("second_person.ask").detail("request", order.request.as_str());
    audit::append(batch, &entry.detail("accounts", asked.accounts.clone()))?;
    Ok(asked)
}

/// Every order that waits or waited, with its key.
fn waiting(reader: &impl Read) -> StorageResult<Vec<(Vec<u8>, Waiting)>> {
    let mut rows = Vec::new();
    reader.scan(Family::Meta, &Range::prefix(WAITING), &mut |key, row| {
        rows.push((key.to_vec(), waiting_in(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

/// The orders that wait for a second person, the oldest first.
///
/// # Errors
/// When the store fails.
pub fn list(reader: &impl Read, now: u64) -> StorageResult<Vec<Waiting>> {
    let mut rows: Vec<Waiting> = waiting(reader)?.into_iter().map(|(_, row)| row).collect();
    rows.retain(|row| now <= row.confirm_until);
    rows.sort_by_key(|row| row.asked_at);
    Ok(rows)
}
