//! How far each event webhook is in the audit log. The log is the queue: nothing is kept twice, and what was told is known by a
//! number.

use serde::{Deserialize, Serialize};

use crate::audit;
use crate::storage::{Batch, Family, Read, StorageError, StorageResult, from_json_row, json_row};

const CURSOR: u8 = b'w';
const CORRUPT: StorageError = StorageError::Corrupt { table: "outbox", problem: "malformed cursor" };

/// How far one webhook is. Times are seconds since 1970, 0: never.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The last entry that it was told, or that does not concern it.
    pub number: u64,
    /// Tries of the next one.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When it is tried next.
    pub next: u64,
}

fn key_of(name: &str) -> Vec<u8> {
    [&[CURSOR][..], name.as_bytes()].concat()
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
