//! Breaking the glass: where it is required, an operator reads documents of a scoped database only for a while, for a reason that
//! is in the audit log. Every read in that time is in it, too.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::outbox;
use super::withdrawals::Actor;
use crate::audit::{self, Entry};
use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, from_json_row, json_row};

/// The longest time, in minutes.
pub const MOST_MINUTES: u64 = 8 * 60;
/// The topic of times that end early. That of the outbox is the one before.
pub const TOPIC: u64 = outbox::TOPIC + 1;
const GLASS: &[u8] = b"glass/";
const CORRUPT: StorageError = StorageError::Corrupt { table: "meta", problem: "malformed row of broken glass" };

/// A time in which an operator may read. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Which operator.
    pub by: String,
    /// Which database.
    pub database: String,
    /// Why.
    pub reason: String,
    /// From when.
    pub from: u64,
    /// Until when.
    pub until: u64,
}

fn key_of(operator: &str, database: &str) -> Vec<u8> {
    [GLASS, operator.as_bytes(), b"\0", database.as_bytes()].concat()
}

fn read(row: &[u8]) -> StorageResult<Broken> {
    from_json_row(row).ok_or(CORRUPT)
}

/// Lets an operator read for a while. An earlier time of the same operator in the same database ends.
///
/// # Errors
/// When the store fails.
pub fn break_it(batch: &mut Batch<'_>, broken: &Broken) -> StorageResult<()> {
    batch.put_bytes(Family::Meta, key_of(&broken.by, &broken.database), json_row(broken));
    let entry = Entry::new(broken.from, &broken.by, "glass.break").database(&broken.database);
    audit::append(batch, &entry.reason(Some(&broken.reason)).detail("until", broken.until))
}

/// The time in which an operator may read a database, if it is now.
///
/// # Errors
/// When the store fails.
pub fn broken(reader: &impl Read, operator: &str, database: &str, now: u64) -> StorageResult<Option<Broken>> {
    let row = reader.get_bytes(Family::Meta, &key_of(operator, database))?;
    Ok(row.map(|row| read(&row)).transpose()?.filter(|broken| now < broken.until))
}

/// Ends the time in which an operator may read a database, and every answer that is still being sent by it. `false`: it may not read.
///
/// # Errors
/// When the store fails.
pub fn end(batch: &mut Batch<'_>, operator: &str, database: &str, actor: &Actor) -> StorageResult<bool> {
    let Some(broken) = broken(batch, operator, database, actor.now)? else { return Ok(false) };
    batch.delete_bytes(Family::Meta, key_of(operator, database));
    let entry = actor.entry("glass.end").database(database).detail("operator", operator);
    audit::append(batch, &entry.detail("until", broken.until))?;
    let number = audit::head(batch)?.number;
    batch.announce(TOPIC, number);
    Ok(true)
}

/// Every time that is now.
///
/// # Errors
/// When the store fails.
pub fn list(reader: &impl Read, now: u64) -> StorageResult<Vec<Broken>> {
    let mut rows = Vec::new();
    reader.scan(Family::Meta, &Range::prefix(GLASS), &mut |_, row| {
        rows.extend(Some(read(row)?).filter(|broken| now < broken.until));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}
