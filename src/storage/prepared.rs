//! Work that is decided beside the writer, so that nobody waits for it but who asked.
//!
//! It runs over a snapshot and notes what it reads. On the writer's turn it is enough to see that nothing of that was written
//! since; then what it decided is what it would decide now, and the writer takes over what it wrote. Otherwise it is decided
//! anew, there. (Optimistic concurrency control with backward validation: H. T. Kung, J. T. Robinson, "On optimistic methods
//! for concurrency control", 1981.) What it wrote without reading it first counts as written on the writer's turn.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use foldhash::quality::RandomState;

use super::batch::{Batch, Layer};
use super::error::StorageError;
use super::family::{FAMILIES, Family};
use super::read::Range;
use super::{Inner, Store};

/// Bytes that others may write while something is being prepared; beyond, it is decided on the writer.
const MOST_BYTES: usize = 64 << 20;

/// What was read of one family.
#[derive(Debug, Default)]
struct Rows {
    /// Hashes of single keys: two that share one count as one, which at worst decides once more.
    keys: HashSet<u64, foldhash::fast::RandomState>,
    /// Where ranges begin and end; without an end, to the end of the family.
    ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// What some work read of the committed state, there or not.
#[derive(Debug, Default)]
pub(super) struct Reads {
    families: [Rows; FAMILIES.len()],
}

impl Reads {
    pub(super) fn note_key(&mut self, hasher: &RandomState, family: Family, key: &[u8]) {
        self.families[family as usize].keys.insert(hasher.hash_one(key));
    }

    pub(super) fn note_range(&mut self, family: Family, range: &Range) {
        self.families[family as usize].ranges.push((range.from.clone(), range.to.clone()));
    }

    /// Puts ranges in order and makes one of those that touch, so that they can be searched.
    fn in_order(mut self) -> Self {
        for rows in &mut self.families {
            rows.ranges.sort_unstable();
            rows.ranges.dedup_by(|next, before| {
                let touches = before.1.as_ref().is_none_or(|end| next.0 <= *end);
                if touches && before.1.is_some() && (next.1.is_none() || next.1 > before.1) {
                    before.1 = next.1.take();
                }
                touches
            });
        }
        self
    }

    /// Whether this key was read, by itself or in a range. The ranges must be in order.
    fn contain(&self, hasher: &RandomState, family: Family, key: &[u8]) -> bool {
        let rows = &self.families[family as usize];
        if rows.keys.contains(&hasher.hash_one(key)) {
            return true;
        }
        let begun = rows.ranges.partition_point(|(from, _)| from.as_slice() <= key);
        let last = begun.checked_sub(1).and_then(|last| rows.ranges.get(last));
        last.is_some_and(|(_, to)| to.as_ref().is_none_or(|to| key < to.as_slice()))
    }

    fn meet(&self, hasher: &RandomState, layer: &Layer) -> bool {
        FAMILIES.iter().any(|(family, ..)| layer.keys(*family).any(|key| self.contain(hasher, *family, key)))
    }
}

/// Batches that the writer finished since some work began.
#[derive(Default)]
struct Since {
    layers: Vec<Arc<Layer>>,
    bytes: usize,
}

/// The same, where the writer goes on noting them; `None` once it was too much.
type Noted = Mutex<Option<Since>>;

/// Work that is being prepared: each learns of every batch that the writer finishes.
#[derive(Default)]
pub(super) struct Preparations {
    begun: Mutex<Vec<Weak<Noted>>>,
}

impl Preparations {
    fn begin(&self) -> Arc<Noted> {
        let since = Arc::new(Mutex::new(Some(Since::default())));
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&since));
        since
    }

    /// The writer finished a batch.
    pub(super) fn note(&self, layer: &Arc<Layer>) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.retain(|since| {
            let Some(since) = since.upgrade() else { return false };
            let mut noted = since.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(since) = &mut *noted {
                since.bytes += layer.bytes();
                since.layers.push(Arc::clone(layer));
                if since.bytes > MOST_BYTES {
                    *noted = None;
                }
            }
            true
        });
    }
}

/// What some work wrote over a snapshot, until the writer takes it over ([`Batch::adopt`]).
pub struct Prepared {
    layer: Layer,
    reads: Reads,
    since: Arc<Noted>,
}

impl Prepared {
    /// What the work wrote, if nothing that it read was written since: in a batch that the writer finished, or in `kept`.
    pub(super) fn if_unchanged(self, hasher: &RandomState, kept: &Layer) -> Option<Layer> {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let mut written = since.as_ref()?.layers.iter().map(Arc::as_ref).chain([kept]);
        let changed = written.any(|layer| self.reads.meet(hasher, layer));
        (!changed).then_some(self.layer)
    }
}

impl Store {
    /// Does work over the present state, beside the writer and without holding anybody up. What it wrote is nowhere until
    /// [`Batch::adopt`].
    ///
    /// # Errors
    /// What `work` returns, or a [`StorageError`] when the store is closed or does not keep up.
    pub async fn prepare<T, E>(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, Prepared), E>
    where
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        let inner: Arc<Inner> = Arc::clone(&self.inner);
        // On the writer: every batch before this one is in the snapshot, since batches end in their order, and every batch
        // from this one on is noted.
        let since = self.write(move |_| Ok::<_, StorageError>(inner.preparations.begin())).await?;
        let store = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut batch = Batch::rehearsal(&store.inner.db, &store.inner.hasher).noting_reads();
            let done = work(&mut batch);
            let (layer, reads) = batch.into_parts();
            done.map(|done| (done, Prepared { layer, reads: reads.in_order(), since }))
        });
        work.await.unwrap_or_else(|_| Err(StorageError::Panicked.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_become_one() {
        let hasher = RandomState::default();
        let mut reads = Reads::default();
        for (from, to) in
            [("m", Some("p")), ("c", Some("f")), ("d", Some("e")), ("f", Some("g")), ("x", None), ("y", Some("z"))]
        {
            let range = Range { from: from.into(), to: to.map(|to: &str| to.into()), descending: false };
            reads.note_range(Family::Feed, &range);
        }
        reads.note_key(&hasher, Family::Feed, b"j");
        let reads = reads.in_order();
        assert_eq!(reads.families[Family::Feed as usize].ranges.len(), 3);
        let read = |key: &str| reads.contain(&hasher, Family::Feed, key.as_bytes());
        for key in ["c", "d", "ee", "f", "fz", "m", "oo", "x", "y", "zz", "j"] {
            assert!(read(key), "{key}");
        }
        for key in ["b", "g", "i", "jj", "p", "w"] {
            assert!(!read(key), "{key}");
        }
        assert!(!reads.contain(&hasher, Family::Documents, b"d"), "another family");
    }
}
