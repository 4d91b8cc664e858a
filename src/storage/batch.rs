//! The writer's open batch: everything that waiting requests change, before it is committed at once.
//!
//! Reads see the committed state plus what the batch already wrote. What one request writes is a layer of its own,
//! so that it can fail alone. Nothing
//! reaches the disk before the commit. Range deletions are no part of a batch (see `Store::erase_prefix`). A request may
//! do its work in parts that fail alone, and a whole batch may be rehearsed over a snapshot and thrown away, or handed to the
//! writer (`prepared.rs`).

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::sync::Arc;

use foldhash::quality::RandomState;
use rocksdb::{ColumnFamily, DB, ReadOptions, Snapshot, WriteBatch};

use super::engine::family_handle;
use super::error::{StorageError, StorageResult};
use super::family::{FAMILIES, Family};
use super::overlay::{Overlay, Row, Written, copying};
use super::prepared::{Prepared, Reads};
use super::read::{Range, Read, Visit};
use super::snapshot::scan_engine;
use super::table::{Key, Table, Value};

/// What changed, told after the commit to whoever follows a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// What it is about.
    pub topic: u64,
    /// Its newest position.
    pub position: u64,
}

/// An open batch over the committed state.
pub struct Batch<'a> {
    db: &'a DB,
    families: [Option<&'a ColumnFamily>; FAMILIES.len()],
    /// How the committed state is read.
    options: ReadOptions,
    /// The committed state that it is over, if that must stand still: of a rehearsal.
    at: Option<Snapshot<'a>>,
    /// The same for all batches: a layer is searched by those that come after it.
    hasher: RandomState,
    /// The batch before, while it is on its way to the disk.
    before: Option<Arc<Layer>>,
    /// What requests wrote that are done.
    kept: Layer,
    /// What the present request wrote, or the present part of it.
    open: Layer,
    /// What the present request wrote before the parts that are open, the outermost first.
    outer: Vec<Layer>,
    /// What is committed under keys that the present request is going to ask for.
    ahead: HashMap<Family, Overlay>,
    /// What is read of the committed state, if somebody wants to know.
    reads: Option<RefCell<Reads>>,
    bytes: usize,
}

/// What was written, over what is committed.
pub(super) struct Layer {
    overlays: [Overlay; FAMILIES.len()],
    announcements: Vec<Announcement>,
    /// Of keys and values.
    bytes: usize,
}

impl Default for Layer {
    fn default() -> Self {
        let overlays = FAMILIES.map(|(family, _, workload)| Overlay::of(family, workload));
        Self { overlays, announcements: Vec::new(), bytes: 0 }
    }
}

impl<'a> Batch<'a> {
    /// An empty batch. `spare` are empty layers, whose memory it uses.
    pub(super) fn new(
        db: &'a DB,
        hasher: &RandomState,
        before: Option<Arc<Layer>>,
        spare: impl Fn() -> Option<Layer>,
    ) -> Self {
        let families = FAMILIES.map(|(_, name, _)| db.cf_handle(name));
        let (kept, open) = (spare().unwrap_or_default(), spare().unwrap_or_default());
        Self {
            db,
            families,
            options: ReadOptions::default(),
            at: None,
            hasher: hasher.clone(),
            before,
            kept,
            open,
            outer: Vec::new(),
            ahead: HashMap::new(),
            reads: None,
            bytes: 0,
        }
    }

    /// A batch over the state as it is now, which is not committed itself.
    pub(super) fn rehearsal(db: &'a DB, hasher: &RandomState) -> Self {
        let mut batch = Self::new(db, hasher, None, || None);
        batch.options.set_snapshot(batch.at.insert(db.snapshot()));
        batch
    }

    /// The same, and it notes what is read of that state.
    pub(super) fn noting_reads(self) -> Self {
        Self { reads: Some(RefCell::default()), ..self }
    }

    /// What the present request wrote, and what was read for it.
    pub(super) fn into_parts(mut self) -> (Layer, Reads) {
        self.open.bytes = self.bytes;
        (self.open, self.reads.map(RefCell::into_inner).unwrap_or_default())
    }

    /// Takes over what was prepared, if nothing that it read was written since, as part of the present request; what the
    /// request itself wrote so far does not count. `false`: nothing is taken over.
    pub fn adopt(&mut self, prepared: Prepared) -> bool {
        let Some(mut layer) = prepared.if_unchanged(&self.hasher, &self.kept) else { return false };
        self.bytes += layer.bytes;
        self.open.absorb(&self.hasher, &mut layer);
        true
    }

    /// Reads what a prepared request will look at again on the writer's turn, so that it may change until then.
    pub fn unnoted<T>(&mut self, read: impl FnOnce(&Self) -> T) -> T {
        let reads = self.reads.take();
        let read = read(self);
        self.reads = reads;
        read
    }

    fn note_keys<'k>(&self, family: Family, keys: impl IntoIterator<Item = &'k [u8]>) {
        if let Some(reads) = &self.reads {
            let mut reads = reads.borrow_mut();
            keys.into_iter().for_each(|key| reads.note_key(&self.hasher, family, key));
        }
    }

    /// Does a part of a request that fails alone: if `work` returns an error, what it wrote is taken back, and nothing else.
    ///
    /// # Errors
    /// What `work` returns.
    pub fn part<T, E>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        self.outer.push(std::mem::take(&mut self.open));
        let done = work(self);
        let outer = self.outer.pop().unwrap_or_default();
        let mut part = std::mem::replace(&mut self.open, outer);
        if done.is_ok() {
            self.open.absorb(&self.hasher, &mut part);
        }
        done
    }

    /// Writes a value.
    pub fn put<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &K, value: &V) {
        self.set(table.family(), |out| key.encode(out), Some(|out: &mut Vec<u8>| value.encode(out)));
    }

    /// Writes bytes.
    pub fn put_bytes(&mut self, family: Family, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.set(family, copying(key.as_ref()), Some(copying(value.as_ref())));
    }

    /// Writes a value under a key that is there as bytes.
    pub fn put_value(&mut self, family: Family, key: &[u8], value: &impl Value) {
        self.set(family, copying(key), Some(|out: &mut Vec<u8>| value.encode(out)));
    }

    /// Removes a key.
    pub fn delete<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &K) {
        self.set(table.family(), |out| key.encode(out), None::<fn(&mut Vec<u8>)>);
    }

    /// Removes a key.
    pub fn delete_bytes(&mut self, family: Family, key: impl AsRef<[u8]>) {
        self.set(family, copying(key.as_ref()), None::<fn(&mut Vec<u8>)>);
    }

    /// Tells followers of a topic, after the commit, that there is something new.
    pub fn announce(&mut self, topic: u64, position: u64) {
        self.open.announcements.push(Announcement { topic, position });
    }

    fn set(&mut self, family: Family, key: impl FnOnce(&mut Vec<u8>), value: Option<impl FnOnce(&mut Vec<u8>)>) {
        self.bytes += self.open.overlays[family as usize].insert(&self.hasher, key, value);
    }

    /// Bytes written so far; the writer closes a batch that grows large.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The present request is done: what it wrote stays.
    pub(super) fn keep(&mut self) {
        self.kept.absorb(&self.hasher, &mut self.open);
        self.ahead.clear();
    }

    /// Takes back everything that the present request wrote.
    pub(super) fn roll_back(&mut self) {
        self.open.clear();
        self.outer.clear(); // a part that panicked left it
        self.ahead.clear();
    }

    /// Reads single keys ahead, all at once: that costs less than one by one. `keys` in their order, each once. Holds until the
    /// present request is done; what is written over them meanwhile is seen.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn read_ahead(&mut self, family: Family, keys: &[Vec<u8>]) -> StorageResult<()> {
        self.note_keys(family, keys.iter().map(Vec::as_slice));
        let values = self.db.batched_multi_get_cf_opt(self.family(family)?, keys, true, &self.options);
        let ahead = self.ahead.entry(family).or_insert_with(Overlay::indexed);
        for (key, value) in keys.iter().zip(values) {
            let value = value?;
            ahead.insert(&self.hasher, copying(key), value.as_deref().map(copying));
        }
        Ok(())
    }

    /// What finished requests wrote, what to announce when it is durable, and an empty layer that is not needed any more.
    pub(super) fn finish(mut self) -> (Arc<Layer>, Vec<Announcement>, Layer) {
        let announcements = std::mem::take(&mut self.kept.announcements);
        self.kept.bytes = self.bytes;
        (Arc::new(self.kept), announcements, self.open)
    }

    fn family(&self, family: Family) -> StorageResult<&'a ColumnFamily> {
        let problem = "the column family is missing";
        self.families[family as usize].ok_or(StorageError::Corrupt { table: family.name(), problem })
    }
}

impl Layer {
    /// Takes over what was written after it, and leaves that empty.
    fn absorb(&mut self, hasher: &RandomState, later: &mut Self) {
        for (mine, theirs) in self.overlays.iter_mut().zip(&mut later.overlays) {
            mine.absorb(hasher, theirs);
        }
        self.announcements.append(&mut later.announcements);
    }

    /// Empties it and keeps its memory.
    pub(super) fn clear(&mut self) {
        for ((family, _, workload), overlay) in FAMILIES.into_iter().zip(&mut self.overlays) {
            overlay.clear(family, workload);
        }
        self.announcements.clear();
        self.bytes = 0;
    }

    /// Writes a key without a value.
    #[cfg(test)]
    pub(super) fn put_for_test(&mut self, family: Family, key: &[u8]) {
        self.overlays[family as usize].insert(&RandomState::default(), copying(key), Some(copying(&[])));
    }

    /// The rows of one family that were written.
    pub(super) fn rows(&self, family: Family) -> Vec<Row<'_>> {
        self.overlays[family as usize].in_order()
    }

    /// The keys of one family that were written, in no order, some more than once.
    pub(super) fn keys(&self, family: Family) -> impl Iterator<Item = &[u8]> {
        self.overlays[family as usize].keys()
    }

    /// Bytes of keys and values, once the batch is finished.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that it holds for later rows.
    pub(super) fn capacity(&self) -> usize {
        self.overlays.iter().map(Overlay::capacity).sum()
    }
}

impl Layer {
    /// The engine's batch with everything in here.
    pub(super) fn engine_batch(&self, db: &DB) -> StorageResult<WriteBatch> {
        let mut batch = WriteBatch::with_capacity_bytes(self.bytes + self.bytes / 8);
        for ((family, _, _), overlay) in FAMILIES.iter().zip(&self.overlays) {
            if overlay.is_empty() {
                continue;
            }
            let handle = family_handle(db, *family)?;
            for (key, value) in overlay.in_order() {
                match value {
                    Some(value) => batch.put_cf(handle, key, value),
                    None => batch.delete_cf(handle, key),
                }
            }
        }
        Ok(batch)
    }
}

impl Batch<'_> {
    /// From the newest to the oldest.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        let outer = self.outer.iter().rev();
        std::iter::once(&self.open).chain(outer).chain(std::iter::once(&self.kept)).chain(self.before.as_deref())
    }

    /// How the committed state is read in ranges: each walk sets its own bounds.
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(state) = &self.at {
            options.set_snapshot(state);
        }
        options
    }

    /// What is written over the committed state under a key.
    fn written(&self, family: Family, key: &[u8]) -> Option<Written<'_>> {
        let hash = OnceCell::new();
        let hash = || *hash.get_or_init(|| self.hasher.hash_one(key));
        self.layers().find_map(|layer| layer.overlays[family as usize].get(hash, key))
    }

    /// What is known under a key without asking the engine.
    fn at_hand(&self, family: Family, key: &[u8]) -> Option<Written<'_>> {
        self.written(family, key).or_else(|| self.known(family, key))
    }

    /// What was read ahead under a key.
    fn known(&self, family: Family, key: &[u8]) -> Option<Written<'_>> {
        let ahead = self.ahead.get(&family)?;
        ahead.get(|| self.hasher.hash_one(key), key)
    }
}

impl Read for Batch<'_> {
    fn get_bytes(&self, family: Family, key: &[u8]) -> StorageResult<Option<Vec<u8>>> {
        match self.at_hand(family, key) {
            Some(written) => Ok(written.map(<[u8]>::to_vec)),
            None => {
                self.note_keys(family, [key]);
                let found = self.db.get_pinned_cf_opt(self.family(family)?, key, &self.options)?;
                Ok(found.map(|bytes| bytes.to_vec()))
            }
        }
    }

    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> StorageResult<Vec<Option<Vec<u8>>>> {
        let at_hand: Vec<Option<Written<'_>>> = keys.iter().map(|key| self.at_hand(family, key)).collect();
        let others = keys.iter().zip(&at_hand).filter(|(_, known)| known.is_none());
        let others: Vec<&Vec<u8>> = others.map(|(key, _)| key).collect();
        self.note_keys(family, others.iter().map(|key| key.as_slice()));
        let committed = self.db.batched_multi_get_cf_opt(self.family(family)?, others, false, &self.options);
        let mut committed = committed.into_iter();
        let values = at_hand.into_iter().map(|known| match known {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => Ok(committed.next().transpose()?.flatten().map(|bytes| bytes.to_vec())),
        });
        values.collect()
    }

    fn scan(&self, family: Family, range: &Range, visit: &mut Visit<'_>) -> StorageResult<()> {
        if let Some(reads) = &self.reads {
            reads.borrow_mut().note_range(family, range);
        }
        let mut seen: BTreeMap<&[u8], Written<'_>> = BTreeMap::new();
        for layer in self.layers() {
            for (key, value) in layer.overlays[family as usize].between(&range.from, range.to.as_deref()) {
                seen.entry(key).or_insert(value);
            }
        }
        let mut written: Vec<Row<'_>> = seen.into_iter().collect();
        if !range.descending {
            written.reverse(); // the next one to come is the last of the list
        }
        let comes_first = |a: &[u8], b: &[u8]| if range.descending { a > b } else { a < b };
        let mut stopped = false;
        scan_engine(self.db, family, self.options(), range, &mut |key, value| {
            while let Some((ours, new)) = written.last() {
                if comes_first(key, ours) {
                    break;
                }
                let same = *ours == key;
                let shown = show(ours, *new, visit)?;
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
            stopped = show(key, value, visit)?.is_break();
        }
        Ok(())
    }
}

fn show(key: &[u8], value: Option<&[u8]>, visit: &mut Visit<'_>) -> StorageResult<ControlFlow<()>> {
    value.map_or(Ok(ControlFlow::Continue(())), |value| visit(key, value))
}
