//! The audit log: who did what, when. Append-only, each entry bound to the one before by its hash, and written in the same
//! batch as the change it tells of (design §11). It never holds document content, passwords or tokens.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, hex};

const META_HEAD: &[u8] = b"audit_head";
const VERSION: u8 = 1;
const HASH_BYTES: usize = 32;
const CORRUPT: StorageError = StorageError::Corrupt { table: "audit", problem: "malformed entry" };

/// One thing that somebody did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entry {
    /// Seconds since 1970, by the server's clock.
    pub time: u64,
    /// The account or operator that did it; empty: the server itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// What: two words with a dot, such as `device.cut`.
    pub action: String,
    /// The account it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The device it is about, 32 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The database it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The place it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Why, in the words of whoever did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whatever else there is to say.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Entry {
    /// An entry about nothing in particular yet.
    #[must_use]
    pub fn new(time: u64, by: &str, action: &str) -> Self {
        Self { time, by: by.to_owned(), action: action.to_owned(), ..Self::default() }
    }

    /// … about an account.
    #[must_use]
    pub fn account(self, name: &str) -> Self {
        Self { account: Some(name.to_owned()).filter(|name| !name.is_empty()), ..self }
    }

    /// … about a device.
    #[must_use]
    pub fn device(self, device: &[u8; 16]) -> Self {
        Self { device: Some(hex(device)), ..self }
    }

    /// … about a database.
    #[must_use]
    pub fn database(self, name: &str) -> Self {
        Self { database: Some(name.to_owned()), ..self }
    }

    /// … about a place.
    #[must_use]
    pub fn place(self, id: &str) -> Self {
        Self { place: Some(id.to_owned()), ..self }
    }

    /// … for a reason.
    #[must_use]
    pub fn reason(self, reason: Option<&str>) -> Self {
        Self { reason: reason.filter(|reason| !reason.is_empty()).map(str::to_owned), ..self }
    }

    /// … with one more detail.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// The newest entry: its number (0: there is none) and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Its number, counted from 1.
    pub number: u64,
    /// Its hash; zeros when there is none.
    pub hash: [u8; HASH_BYTES],
}

/// The head of the log. Printed and kept elsewhere, it proves later that nothing up to it was altered.
///
/// # Errors
/// When the store fails.
pub fn head(reader: &impl Read) -> StorageResult<Head> {
    let Some(bytes) = reader.get_bytes(Family::Meta, META_HEAD)? else { return Ok(Head::default()) };
    let (number, hash) = bytes.split_at_checked(8).ok_or(CORRUPT)?;
    let number = number.try_into().map(u64::from_be_bytes).map_err(|_| CORRUPT)?;
    Ok(Head { number, hash: hash.try_into().map_err(|_| CORRUPT)? })
}

fn hash_of(number: u64, row: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"settle audit 1\0").update(&number.to_be_bytes()).update(row);
    *hasher.finalize().as_bytes()
}

/// Appends an entry, in the batch of what it tells of.
///
/// # Errors
/// When the store fails.
pub fn append(batch: &mut Batch<'_>, entry: &Entry) -> StorageResult<()> {
    let before = head(batch)?;
    let mut row = vec![VERSION];
    row.extend_from_slice(&before.hash);
    serde_json::to_writer(&mut row, entry).map_err(|_| CORRUPT)?;
    let number = before.number + 1;
    let head = [number.to_be_bytes().as_slice(), &hash_of(number, &row)].concat();
    batch.put_bytes(Family::Audit, number.to_be_bytes().to_vec(), row);
    batch.put_bytes(Family::Meta, META_HEAD.to_vec(), head);
    Ok(())
}

/// Reads entries from a number on, oldest first, until `visit` breaks.
///
/// # Errors
/// When the store fails or an entry cannot be read.
pub fn read(reader: &impl Read, from: u64, mut visit: impl FnMut(u64, &Entry) -> ControlFlow<()>) -> StorageResult<()> {
    let range = Range::between(from.to_be_bytes().to_vec(), vec![0xff; 9]);
    reader.scan(Family::Audit, &range, &mut |key, row| {
        let number = key.try_into().map(u64::from_be_bytes).map_err(|_| CORRUPT)?;
        let text = row.get(1 + HASH_BYTES..).ok_or(CORRUPT)?;
        Ok(visit(number, &serde_json::from_slice(text).map_err(|_| CORRUPT)?))
    })
}

/// What is wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {number}: {problem}")]
pub struct Broken {
    /// The first entry that is not as it was written.
    pub number: u64,
    /// In which way.
    pub problem: &'static str,
}

/// Checks every entry against the one before and the last against the head.
///
/// # Errors
/// When the store fails. What is wrong with the log is the answer: the first entry that was altered, lost or moved.
pub fn verify(reader: &impl Read) -> StorageResult<Result<Head, Broken>> {
    let head = head(reader)?;
    let mut last = Head::default();
    let mut broken = None;
    reader.scan(Family::Audit, &Range::prefix(b""), &mut |key, row| {
        let number = key.try_into().map(u64::from_be_bytes).unwrap_or_default();
        let problem = if number != last.number + 1 {
            Some((last.number + 1, "it is missing"))
        } else if row.first() != Some(&VERSION) || row.get(1..=HASH_BYTES) != Some(&last.hash) {
            Some((number, "it does not follow the entry before it: one of the two was altered"))
        } else {
            None
        };
        if let Some((number, problem)) = problem {
            broken = Some(Broken { number, problem });
            return Ok(ControlFlow::Break(()));
        }
        last = Head { number, hash: hash_of(number, row) };
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some(broken) = broken {
        return Ok(Err(broken));
    }
    Ok(match last {
        last if last == head => Ok(head),
        last if last.number < head.number => Err(Broken { number: last.number + 1, problem: "it is missing" }),
        last => Err(Broken { number: last.number, problem: "it was altered" }),
    })
}
