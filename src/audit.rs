//! The audit log: who did what, when. Append-only, each entry bound to all before it by its hash, and written in the same
//! batch as the change it tells of (design §11). It never holds document content, passwords or tokens.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, hex};

pub mod actions;
pub mod exported;

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

    /// Whether what was done is called so: by the whole word, or by its first half (`device` is every `device.…`).
    #[must_use]
    pub fn is(&self, action: &str) -> bool {
        actions::is_called(&self.action, action)
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

/// The hash of an entry: over all entries before it and its own text.
fn hash_of(number: u64, before: &[u8; HASH_BYTES], text: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"settle audit 1\0").update(&number.to_be_bytes()).update(before).update(text);
    *hasher.finalize().as_bytes()
}

/// Appends an entry, in the batch of what it tells of.
///
/// # Errors
/// When the store fails.
pub fn append(batch: &mut Batch<'_>, entry: &Entry) -> StorageResult<()> {
    debug_assert!(actions::ACTIONS.contains(&entry.action.as_str()), "{} is in no list of actions", entry.action);
    let before = head(batch)?;
    let text = serde_json::to_vec(entry).map_err(|_| CORRUPT)?;
    let number = before.number + 1;
    let hash = hash_of(number, &before.hash, &text);
    let row = [&[VERSION], hash.as_slice(), &text].concat();
    let head = [number.to_be_bytes().as_slice(), &hash].concat();
    batch.put_bytes(Family::Audit, number.to_be_bytes(), row);
    batch.put_bytes(Family::Meta, META_HEAD, head);
    Ok(())
}

/// An entry as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// Its number and hash.
    pub head: Head,
    /// The JSON that the hash is over.
    pub text: &'a [u8],
}

impl Stored<'_> {
    /// What it says.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn entry(&self) -> StorageResult<Entry> {
        serde_json::from_slice(self.text).map_err(|_| CORRUPT)
    }

    /// Whether this stands in its text. Cheaper than reading it, where most entries are about something else.
    #[must_use]
    pub fn mentions(&self, wanted: &[u8]) -> bool {
        self.text.windows(wanted.len().max(1)).any(|window| window == wanted)
    }
}

fn hash_in(row: &[u8]) -> StorageResult<[u8; HASH_BYTES]> {
    row.get(1..=HASH_BYTES).and_then(|hash| hash.try_into().ok()).ok_or(CORRUPT)
}

/// Reads entries as they are stored from a number on, oldest first, until `visit` breaks.
///
/// # Errors
/// When the store fails, or `visit` does.
pub fn read_stored(
    reader: &impl Read,
    from: u64,
    mut visit: impl FnMut(&Stored<'_>) -> StorageResult<ControlFlow<()>>,
) -> StorageResult<()> {
    let range = Range::between(from.to_be_bytes().to_vec(), vec![0xff; 9]);
    reader.scan(Family::Audit, &range, &mut |key, row| {
        let number = key.try_into().map(u64::from_be_bytes).map_err(|_| CORRUPT)?;
        let hash = hash_in(row)?;
        let text = row.get(1 + HASH_BYTES..).ok_or(CORRUPT)?;
        visit(&Stored { head: Head { number, hash }, text })
    })
}

/// Reads entries from a number on, oldest first, until `visit` breaks.
///
/// # Errors
/// When the store fails or an entry cannot be read.
pub fn read(reader: &impl Read, from: u64, mut visit: impl FnMut(u64, &Entry) -> ControlFlow<()>) -> StorageResult<()> {
    read_stored(reader, from, |stored| Ok(visit(stored.head.number, &stored.entry()?)))
}

/// The hash of the entry before this number; zeros before the first.
///
/// # Errors
/// When the store fails or there is none.
pub fn hash_before(reader: &impl Read, number: u64) -> StorageResult<[u8; HASH_BYTES]> {
    if number <= 1 {
        return Ok([0; HASH_BYTES]);
    }
    hash_in(&reader.get_bytes(Family::Audit, &(number - 1).to_be_bytes())?.ok_or(CORRUPT)?)
}

/// One entry with its number and hash. The hash names it, also where a restored log has another entry of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Counted from 1.
    pub number: u64,
    /// Over it and all before it.
    pub hash: [u8; HASH_BYTES],
    /// What happened.
    pub entry: Entry,
}

/// The first entry behind a number that `wanted` takes, and the last number that was looked at.
///
/// # Errors
/// When the store fails or an entry cannot be read.
pub fn next(reader: &impl Read, after: u64, wanted: impl Fn(&Entry) -> bool) -> StorageResult<(Option<Numbered>, u64)> {
    let (mut found, mut last) = (None, after);
    read_stored(reader, after + 1, |stored| {
        let (Head { number, hash }, entry) = (stored.head, stored.entry()?);
        last = number;
        if !wanted(&entry) {
            return Ok(ControlFlow::Continue(()));
        }
        found = Some(Numbered { number, hash, entry });
        Ok(ControlFlow::Break(()))
    })?;
    Ok((found, last))
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

/// Checks every entry against the one before and the last against the head; with `kept`, also against heads that were kept
/// elsewhere.
///
/// # Errors
/// When the store fails. What is wrong with the log is the answer: the first entry that was altered, lost or moved.
pub fn verify(reader: &impl Read, kept: &[Head]) -> StorageResult<Result<Head, Broken>> {
    let head = head(reader)?;
    let mut last = Head::default();
    let mut broken = None;
    reader.scan(Family::Audit, &Range::prefix(b""), &mut |key, row| {
        let number = key.try_into().map(u64::from_be_bytes).unwrap_or_default();
        let text = row.get(1 + HASH_BYTES..).unwrap_or_default();
        let hash = hash_of(number, &last.hash, text);
        let problem = if number != last.number + 1 {
            Some((last.number + 1, "it is missing"))
        } else if row.first() != Some(&VERSION) || row.get(1..=HASH_BYTES) != Some(&hash) {
            Some((number, "it is not what was written here"))
        } else {
            None
        };
        if let Some((number, problem)) = problem {
            broken = Some(Broken { number, problem });
            return Ok(ControlFlow::Break(()));
        }
        last = Head { number, hash };
        if kept.iter().any(|kept| kept.number == number && kept.hash != last.hash) {
            broken = Some(Broken { number, problem: "it is not the entry whose head was kept" });
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if let Some(broken) = broken {
        return Ok(Err(broken));
    }
    let longest = kept.iter().map(|kept| kept.number).max().unwrap_or(0);
    Ok(match last {
        last if last.number < longest.max(head.number) => {
            Err(Broken { number: last.number + 1, problem: "it is missing" })
        }
        last if last == head => Ok(head),
        last => Err(Broken { number: last.number, problem: "the head of the log does not belong to it" }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};
    use proptest::sample::Index;
    use proptest::{prop_assert, prop_assert_eq};

    use super::*;
    use crate::storage::{Memory, Store};

    const ENTRIES: u64 = 12;

    /// What somebody with access to the disk does to the log.
    #[derive(Debug, Clone)]
    enum Tampering {
        Flip(u64, Index, u8),
        Remove(u64),
        Swap(u64, u64),
        Cut(u64),
    }

    /// Writes a log, tampers, verifies, puts everything back.
    async fn verified_after(store: &Store, tampering: Tampering) -> Result<Head, Broken> {
        let rows = |store: &Store| {
            let mut rows = Vec::new();
            let mut visit = |key: &[u8], row: &[u8]| {
                rows.push((key.to_vec(), row.to_vec()));
                Ok(ControlFlow::Continue(()))
            };
            store.snapshot().scan(Family::Audit, &Range::prefix(b""), &mut visit).expect("reads");
            rows
        };
        let before = rows(store);
        store
            .write(move |batch| -> StorageResult<()> {
                let key = |number: u64| number.to_be_bytes().to_vec();
                let row = |batch: &Batch<'_>, number| batch.get_bytes(Family::Audit, &key(number));
                match tampering {
                    Tampering::Flip(number, at, bit) => {
                        let mut bytes = row(batch, number)?.unwrap_or_default();
                        let at = at.index(bytes.len());
                        bytes[at] ^= 1 << (bit % 8);
                        batch.put_bytes(Family::Audit, key(number), bytes);
                    }
                    Tampering::Remove(number) => batch.delete_bytes(Family::Audit, key(number)),
                    Tampering::Swap(one, other) => {
                        let (a, b) = (row(batch, one)?.unwrap_or_default(), row(batch, other)?.unwrap_or_default());
                        batch.put_bytes(Family::Audit, key(one), b);
                        batch.put_bytes(Family::Audit, key(other), a);
                    }
                    Tampering::Cut(number) => {
                        for number in number..=ENTRIES {
                            batch.delete_bytes(Family::Audit, key(number));
                        }
                    }
                }
                Ok(())
            })
            .await
            .expect("writes");
        let outcome = verify(&store.snapshot(), &[]).expect("reads");
        store
            .write(move |batch| -> StorageResult<()> {
                for (key, row) in before {
                    batch.put_bytes(Family::Audit, key, row);
                }
                Ok(())
            })
            .await
            .expect("writes");
        outcome
    }

    async fn store_with_log(folder: &std::path::Path) -> Store {
        let store = Store::open(folder, Memory::default(), || [7; 16]).expect("opens");
        for number in 1..=ENTRIES {
            let entry = Entry::new(number, "root", "device.cut").account("ann").detail("n", number);
            store.write(move |batch| append(batch, &entry)).await.expect("writes");
        }
        store
    }

    #[test]
    fn whatever_is_altered_lost_or_moved_is_named() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder");
        let store = runtime.block_on(store_with_log(folder.path()));
        let whole = verify(&store.snapshot(), &[]).expect("reads").expect("whole");
        assert_eq!(whole.number, ENTRIES);
        proptest!(ProptestConfig::with_cases(200), |(
            one in 1..=ENTRIES, other in 1..=ENTRIES, at in any::<Index>(), bit: u8, kind in 0..4,
        )| {
            let (tampering, first) = match kind {
                0 => (Tampering::Flip(one, at, bit), one),
                1 => (Tampering::Remove(one), one),
                2 if one != other => (Tampering::Swap(one, other), one.min(other)),
                _ => (Tampering::Cut(one), one),
            };
            let shown = format!("{tampering:?}");
            let outcome = runtime.block_on(verified_after(&store, tampering));
            prop_assert!(outcome.is_err(), "{}", shown);
            prop_assert_eq!(outcome.expect_err("checked").number, first, "{}", shown);
            prop_assert_eq!(verify(&store.snapshot(), &[]).expect("reads"), Ok(whole), "everything is back");
        });
        store.close();
    }

    #[tokio::test]
    async fn a_log_that_was_written_anew_does_not_have_the_head_that_was_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store_with_log(folder.path()).await;
        let kept = head(&store.snapshot()).expect("reads");
        let checked = |kept| verify(&store.snapshot(), &[kept]).expect("reads");
        assert!(checked(kept).is_ok());
        let forged = Head { hash: [1; HASH_BYTES], ..kept };
        assert_eq!(checked(forged).expect_err("forged").number, ENTRIES);
        let longer = Head { number: ENTRIES + 3, ..kept };
        assert_eq!(checked(longer).expect_err("shortened").number, ENTRIES + 1);
        store.close();
    }
}
