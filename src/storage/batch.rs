//! The writer's open batch: everything that waiting requests change, before it is committed at once.
//!
//! Reads see the committed state plus what the batch already wrote. A savepoint lets one request fail alone. Nothing
//! reaches the disk before the commit. Range deletions are no part of a batch (see `Store::erase_prefix`).

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use rocksdb::{DB, ReadOptions, WriteBatch};

use super::engine::family_handle;
use super::error::StorageResult;
use super::family::{FAMILIES, Family};
use super::read::{Range, Read, Visit};
use super::snapshot::scan_engine;
use super::table::{Key, Table, Value};

type Overlay = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What changed, told after the commit to whoever follows a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// What it is about.
    pub topic: u64,
    /// Its newest position.
    pub position: u64,
}

struct Undo {
    family: Family,
    key: Vec<u8>,
    before: Option<Option<Vec<u8>>>,
}

/// An open batch over the committed state.
pub struct Batch<'a> {
    db: &'a DB,
    overlays: [Overlay; FAMILIES.len()],
    undo: Vec<Undo>,
    announcements: Vec<Announcement>,
    bytes: usize,
}

/// Where a request began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Savepoint {
    undo: usize,
    announcements: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn new(db: &'a DB) -> Self {
        Self { db, overlays: Default::default(), undo: Vec::new(), announcements: Vec::new(), bytes: 0 }
    }

    /// Writes a value.
    pub fn put<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &K, value: &V) {
        let mut bytes = Vec::with_capacity(128);
        value.encode(&mut bytes);
        self.set(table.family(), table.key(key), Some(bytes));
    }

    /// Writes bytes.
    pub fn put_bytes(&mut self, family: Family, key: Vec<u8>, value: Vec<u8>) {
        self.set(family, key, Some(value));
    }

    /// Removes a key.
    pub fn delete<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &K) {
        self.set(table.family(), table.key(key), None);
    }

    /// Removes a key.
    pub fn delete_bytes(&mut self, family: Family, key: Vec<u8>) {
        self.set(family, key, None);
    }

    /// Tells followers of a topic, after the commit, that there is something new.
    pub fn announce(&mut self, topic: u64, position: u64) {
        self.announcements.push(Announcement { topic, position });
    }

    fn set(&mut self, family: Family, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        let before = self.overlays[family as usize].insert(key.clone(), value);
        self.undo.push(Undo { family, key, before });
    }

    /// Bytes written so far; the writer closes a batch that grows large.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint { undo: self.undo.len(), announcements: self.announcements.len() }
    }

    /// Takes back everything since the savepoint.
    pub(super) fn roll_back(&mut self, savepoint: Savepoint) {
        self.announcements.truncate(savepoint.announcements);
        for undo in self.undo.drain(savepoint.undo..).rev() {
            let overlay = &mut self.overlays[undo.family as usize];
            match undo.before {
                Some(before) => overlay.insert(undo.key, before),
                None => overlay.remove(&undo.key),
            };
        }
    }

    /// The engine's batch, and what to announce when it is durable.
    pub(super) fn finish(self) -> StorageResult<(WriteBatch, Vec<Announcement>)> {
        let mut batch = WriteBatch::default();
        for ((family, _, _), overlay) in FAMILIES.iter().zip(&self.overlays) {
            if overlay.is_empty() {
                continue;
            }
            let handle = family_handle(self.db, *family)?;
            for (key, value) in overlay {
                match value {
                    Some(value) => batch.put_cf(handle, key, value),
                    None => batch.delete_cf(handle, key),
                }
            }
        }
        Ok((batch, self.announcements))
    }
}

impl Read for Batch<'_> {
    fn get_bytes(&self, family: Family, key: &[u8]) -> StorageResult<Option<Vec<u8>>> {
        if let Some(written) = self.overlays[family as usize].get(key) {
            return Ok(written.clone());
        }
        Ok(self.db.get_cf(family_handle(self.db, family)?, key)?)
    }

    fn scan(&self, family: Family, range: &Range, visit: &mut Visit<'_>) -> StorageResult<()> {
        let to = range.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let written = self.overlays[family as usize].range::<[u8], _>((Bound::Included(range.from.as_slice()), to));
        let mut written: Vec<(&Vec<u8>, &Option<Vec<u8>>)> = written.collect();
        if !range.descending {
            written.reverse(); // the next one to come is the last of the list
        }
        let comes_first = |a: &[u8], b: &[u8]| if range.descending { a > b } else { a < b };
        let mut stopped = false;
        scan_engine(self.db, family, ReadOptions::default(), range, &mut |key, value| {
            while let Some((ours, new)) = written.last() {
                if comes_first(key, ours) {
                    break;
                }
                let same = ours.as_slice() == key;
                let shown = show(ours, new.as_deref(), visit)?;
                written.pop();
                if shown.is_break() {
                    stopped = true;
                    return Ok(ControlFlow::Break(()));
                }
                if same {
                    return Ok(ControlFlow::Continue(()));
                }
            }
            let shown = visit(key, value)?;
            stopped = shown.is_break();
            Ok(shown)
        })?;
        while let Some((key, value)) = written.pop().filter(|_| !stopped) {
            stopped = show(key, value.as_deref(), visit)?.is_break();
        }
        Ok(())
    }
}

fn show(key: &[u8], value: Option<&[u8]>, visit: &mut Visit<'_>) -> StorageResult<ControlFlow<()>> {
    value.map_or(Ok(ControlFlow::Continue(())), |value| visit(key, value))
}
