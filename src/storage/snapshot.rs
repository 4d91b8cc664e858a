//! One consistent state of the store, read without locks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use rocksdb::{DB, ReadOptions};

use super::engine::family_handle;
use super::error::StorageResult;
use super::family::Family;
use super::read::{Range, Read, Visit};

/// A state that does not change while it is read.
pub struct Snapshot<'a> {
    db: &'a DB,
    snapshot: rocksdb::Snapshot<'a>,
}

impl<'a> Snapshot<'a> {
    pub(super) fn new(db: &'a DB) -> Self {
        Self { db, snapshot: db.snapshot() }
    }
}

/// What a merge does with each row: number of the range, the number at the end of the key, value.
pub type VisitMerged<'v> = dyn FnMut(usize, u64, &[u8]) -> StorageResult<ControlFlow<()>> + 'v;

impl Snapshot<'_> {
    /// Walks several ranges at once, in the order of the 8-byte number at the end of the keys. Each range has an iterator of
    /// its own, bounded at the end of the range: one that walked on over another range's tombstones cost a factor of 40.
    ///
    /// # Errors
    /// When the engine fails, or what `visit` returns.
    pub fn merge(&self, family: Family, ranges: &[Range], visit: &mut VisitMerged<'_>) -> StorageResult<()> {
        let handle = family_handle(self.db, family)?;
        let number = |key: &[u8]| key.last_chunk::<8>().map(|tail| u64::from_be_bytes(*tail));
        let mut rows = Vec::with_capacity(ranges.len());
        let mut heads = BinaryHeap::with_capacity(ranges.len());
        for (at, range) in ranges.iter().enumerate() {
            let mut options = ReadOptions::default();
            options.set_snapshot(&self.snapshot);
            if let Some(to) = &range.to {
                options.set_iterate_upper_bound(to.as_slice());
            }
            let mut iterator = self.db.raw_iterator_cf_opt(handle, options);
            iterator.seek(&range.from);
            match iterator.key().and_then(number) {
                Some(head) => heads.push(Reverse((head, at))),
                None => iterator.status()?,
            }
            rows.push(iterator);
        }
        while let Some(Reverse((head, at))) = heads.pop() {
            let row = &mut rows[at];
            if visit(at, head, row.value().unwrap_or_default())? == ControlFlow::Break(()) {
                return Ok(());
            }
            row.next();
            match row.key().and_then(number) {
                Some(next) => heads.push(Reverse((next, at))),
                None => row.status()?,
            }
        }
        Ok(())
    }
}

impl Read for Snapshot<'_> {
    fn get_bytes(&self, family: Family, key: &[u8]) -> StorageResult<Option<Vec<u8>>> {
        Ok(self.snapshot.get_cf(family_handle(self.db, family)?, key)?)
    }

    fn scan(&self, family: Family, range: &Range, visit: &mut Visit<'_>) -> StorageResult<()> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        scan_engine(self.db, family, options, range, visit)
    }

    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> StorageResult<Vec<Option<Vec<u8>>>> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        let handle = family_handle(self.db, family)?;
        let values = self.db.batched_multi_get_cf_opt(handle, keys, false, &options);
        values.into_iter().map(|value| Ok(value?.map(|bytes| bytes.to_vec()))).collect()
    }
}

/// Walks a range of the engine. The upper bound is given to the iterator, so that it never steps over tombstones that
/// lie behind the range (measured: a factor of 100).
pub(super) fn scan_engine(
    db: &DB,
    family: Family,
    mut options: ReadOptions,
    range: &Range,
    visit: &mut Visit<'_>,
) -> StorageResult<()> {
    options.set_iterate_lower_bound(range.from.as_slice());
    if let Some(to) = &range.to {
        options.set_iterate_upper_bound(to.as_slice());
    }
    let mut rows = db.raw_iterator_cf_opt(family_handle(db, family)?, options);
    if range.descending {
        rows.seek_to_last();
    } else {
        rows.seek_to_first();
    }
    while let Some((key, value)) = rows.item() {
        if visit(key, value)? == ControlFlow::Break(()) {
            return Ok(());
        }
        if range.descending {
            rows.prev();
        } else {
            rows.next();
        }
    }
    Ok(rows.status()?)
}
