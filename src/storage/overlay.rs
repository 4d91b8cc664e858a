//! What a batch wrote into one family, over what is committed.
//!
//! A batch makes thousands of small rows within milliseconds, and all of them end together. So they lie one behind the other
//! in one buffer, which is used again for a later batch. Families that are asked for single keys have an index by hash over
//! it; those that are nearly always only written have none. Both are put in order once, at the commit, on the committer's
//! thread. Small families, and a list that is walked and then written again and again, are kept in order.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::sync::OnceLock;

use foldhash::quality::RandomState;

use super::family::{Family, Workload};

/// A value, or that the key is removed.
pub(super) type Written<'o> = Option<&'o [u8]>;
/// A key with what was written under it.
pub(super) type Row<'o> = (&'o [u8], Written<'o>);

/// A list may be walked and written by turns this often before it is kept in order.
const TURNS: u32 = 4;
/// A row number that means no row.
const NONE: u32 = u32::MAX;

/// Keys with what was written under them.
#[derive(Debug)]
pub(super) enum Overlay {
    Listed(List),
    Sorted(BTreeMap<Vec<u8>, Option<Vec<u8>>>),
}

/// Rows as they were written; of those under one key the last counts.
#[derive(Debug, Default)]
pub(super) struct List {
    /// Keys and values, one behind the other.
    bytes: Vec<u8>,
    rows: Vec<Place>,
    /// The newest row by the hash of its key; `None`: the family is not asked for single keys.
    index: Option<HashMap<u64, u32, BuildHasherDefault<Hashed>>>,
    /// Numbers of rows by key, then by time: once somebody walked.
    order: OnceLock<Vec<u32>>,
    /// How often it was written after somebody walked.
    turns: u32,
}

/// Where a row lies: the key up to `value`, the value up to `end`.
#[derive(Debug, Clone, Copy)]
struct Place {
    key: usize,
    value: usize,
    end: usize,
    is_removed: bool,
    /// Of the key, where there is an index.
    hash: u64,
    /// The row before with this hash.
    before: u32,
}

/// A key of the index is a hash already.
#[derive(Debug, Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl List {
    fn key(&self, number: u32) -> &[u8] {
        let place = &self.rows[number as usize];
        &self.bytes[place.key..place.value]
    }

    fn row(&self, number: u32) -> Row<'_> {
        let place = &self.rows[number as usize];
        let value = &self.bytes[place.value..place.end];
        (&self.bytes[place.key..place.value], (!place.is_removed).then_some(value))
    }

    fn numbers(&self) -> std::ops::Range<u32> {
        0..self.rows.len() as u32
    }

    /// The newest row under a key.
    fn find(&self, hash: impl FnOnce() -> u64, key: &[u8]) -> Option<u32> {
        let Some(index) = &self.index else { return self.numbers().rev().find(|number| self.key(*number) == key) };
        let mut number = *index.get(&hash())?;
        while number != NONE {
            if self.key(number) == key {
                return Some(number);
            }
            number = self.rows[number as usize].before;
        }
        None
    }

    fn push(&mut self, place: Place) {
        self.order.take();
        let number = self.rows.len() as u32;
        let before = self.index.as_mut().and_then(|index| index.insert(place.hash, number));
        self.rows.push(Place { before: before.unwrap_or(NONE), ..place });
    }

    /// By the beginning of keys as numbers, where most comparisons end: it holds a whole key of the feed, and of other rows
    /// as much as tells them apart.
    fn order(&self) -> &[u32] {
        let beginning = |number: u32| {
            let key = self.key(number);
            let mut beginning = [0; 32];
            let length = key.len().min(32);
            beginning[..length].copy_from_slice(&key[..length]);
            let (words, _) = beginning.as_chunks::<8>();
            (std::array::from_fn::<u64, 4, _>(|at| u64::from_be_bytes(words[at])), number)
        };
        self.order.get_or_init(|| {
            let mut order: Vec<([u64; 4], u32)> = self.numbers().map(beginning).collect();
            order.sort_unstable_by(|a, b| {
                a.0.cmp(&b.0).then_with(|| self.key(a.1).cmp(self.key(b.1))).then(a.1.cmp(&b.1))
            });
            order.into_iter().map(|(_, number)| number).collect()
        })
    }

    /// Takes over the rows of another list, behind its own.
    fn append(&mut self, later: &mut Self) {
        let shift = self.bytes.len();
        self.bytes.append(&mut later.bytes);
        for place in std::mem::take(&mut later.rows) {
            let Place { key, value, end, .. } = place;
            self.push(Place { key: key + shift, value: value + shift, end: end + shift, ..place });
        }
        later.clear();
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
        self.order.take();
        self.turns = 0;
        if let Some(index) = &mut self.index {
            index.clear();
        }
    }
}

impl Overlay {
    /// An empty one, as it suits the family.
    pub(super) fn of(family: Family, workload: Workload) -> Self {
        match (family, workload) {
            (Family::Feed | Family::Changes, _) => Self::Listed(List::default()),
            (_, Workload::Small) => Self::Sorted(BTreeMap::new()),
            _ => Self::indexed(),
        }
    }

    /// An empty one that is asked for single keys.
    pub(super) fn indexed() -> Self {
        Self::Listed(List { index: Some(HashMap::default()), ..List::default() })
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Listed(list) => list.rows.is_empty(),
            Self::Sorted(rows) => rows.is_empty(),
        }
    }

    /// Empties it and keeps its memory. A list that was put in order because of how it was used is a list again.
    pub(super) fn clear(&mut self, family: Family, workload: Workload) {
        match self {
            Self::Listed(list) => list.clear(),
            Self::Sorted(_) => *self = Self::of(family, workload),
        }
    }

    /// Bytes that it holds for later rows.
    pub(super) fn capacity(&self) -> usize {
        match self {
            Self::Listed(list) => list.bytes.capacity() + list.rows.capacity() * size_of::<Place>(),
            Self::Sorted(_) => 0,
        }
    }

    /// What was written under a key. `hash`: of the key, asked for only where there is an index.
    pub(super) fn get(&self, hash: impl FnOnce() -> u64, key: &[u8]) -> Option<Written<'_>> {
        match self {
            Self::Listed(list) if list.rows.is_empty() => None,
            Self::Listed(list) => list.find(hash, key).map(|number| list.row(number).1),
            Self::Sorted(rows) => rows.get(key).map(Option::as_deref),
        }
    }

    /// Adds a row; returns how many bytes it has. `key` and `value` append their bytes; without a value the key is removed.
    pub(super) fn insert(
        &mut self,
        hasher: &RandomState,
        key: impl FnOnce(&mut Vec<u8>),
        value: Option<impl FnOnce(&mut Vec<u8>)>,
    ) -> usize {
        self.note_turn();
        match self {
            Self::Listed(list) => {
                let (begin, is_removed) = (list.bytes.len(), value.is_none());
                key(&mut list.bytes);
                let behind_key = list.bytes.len();
                let hash = if list.index.is_some() { hasher.hash_one(&list.bytes[begin..]) } else { 0 };
                if let Some(value) = value {
                    value(&mut list.bytes);
                }
                let end = list.bytes.len();
                list.push(Place { key: begin, value: behind_key, end, is_removed, hash, before: NONE });
                end - begin
            }
            Self::Sorted(rows) => {
                let mut bytes = Vec::with_capacity(64);
                key(&mut bytes);
                let value = value.map(|value| {
                    let mut bytes = Vec::with_capacity(64);
                    value(&mut bytes);
                    bytes
                });
                let length = bytes.len() + value.as_ref().map_or(0, Vec::len);
                rows.insert(bytes, value);
                length
            }
        }
    }

    /// It is about to be written: one that was walked too often before that is kept in order from now on.
    fn note_turn(&mut self) {
        if let Self::Listed(list) = self
            && list.order.get().is_some()
        {
            list.turns += 1;
            if list.turns > TURNS {
                let rows = list.order().iter().map(|number| list.row(*number));
                *self = Self::Sorted(rows.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect());
            }
        }
    }

    /// Takes over what a later request wrote; nothing of it is left there.
    pub(super) fn absorb(&mut self, hasher: &RandomState, later: &mut Self) {
        if later.is_empty() {
            return;
        }
        if self.is_empty() {
            std::mem::swap(self, later);
            return;
        }
        self.note_turn();
        match (self, later) {
            (Self::Listed(list), Self::Listed(later)) => list.append(later),
            (this, Self::Listed(later)) => {
                for (key, value) in later.numbers().map(|number| later.row(number)) {
                    this.insert(hasher, copying(key), value.map(copying));
                }
                later.clear();
            }
            (this, Self::Sorted(rows)) => {
                for (key, value) in std::mem::take(rows) {
                    this.insert(hasher, copying(&key), value.as_deref().map(copying));
                }
            }
        }
    }

    /// The rows between two keys; of two under one key the later comes first.
    pub(super) fn between<'o>(
        &'o self,
        from: &'o [u8],
        to: Option<&'o [u8]>,
    ) -> Box<dyn Iterator<Item = Row<'o>> + 'o> {
        match self {
            Self::Listed(list) if list.rows.is_empty() => Box::new(std::iter::empty()),
            Self::Listed(list) => {
                let order = list.order();
                let first = order.partition_point(|number| list.key(*number) < from);
                let behind = to.map_or(order.len(), |to| order.partition_point(|number| list.key(*number) < to));
                Box::new(order[first..behind.max(first)].iter().rev().map(|number| list.row(*number)))
            }
            Self::Sorted(rows) => {
                let to = to.map_or(Bound::Unbounded, Bound::Excluded);
                let rows = rows.range::<[u8], _>((Bound::Included(from), to));
                Box::new(rows.map(|(key, value)| (key.as_slice(), value.as_deref())))
            }
        }
    }

    /// Every key that was written, in no order, some more than once.
    pub(super) fn keys(&self) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            Self::Listed(list) => Box::new(list.numbers().map(|number| list.key(number))),
            Self::Sorted(rows) => Box::new(rows.keys().map(Vec::as_slice)),
        }
    }

    /// Every key once, in order.
    pub(super) fn in_order(&self) -> Vec<Row<'_>> {
        match self {
            Self::Listed(list) => {
                let mut rows: Vec<Row<'_>> = Vec::with_capacity(list.rows.len());
                for row in list.order().iter().map(|number| list.row(*number)) {
                    match rows.last_mut() {
                        Some(before) if before.0 == row.0 => *before = row,
                        _ => rows.push(row),
                    }
                }
                rows
            }
            Self::Sorted(rows) => rows.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect(),
        }
    }
}

/// Appends these bytes.
pub(super) fn copying(bytes: &[u8]) -> impl FnOnce(&mut Vec<u8>) {
    |out| out.extend_from_slice(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A step on two requests over one family: write, remove, walk, done.
    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, Option<u8>),
        Walk(u8, u8),
        Keep,
        TakeBack,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..20_u8, prop::option::of(any::<u8>())).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => (0..20_u8, 0..20_u8).prop_map(|(from, to)| Step::Walk(from, to)),
            1 => Just(Step::Keep),
            1 => Just(Step::TakeBack),
        ];
        prop::collection::vec(step, 0..60)
    }

    /// Keys of different lengths, some the beginning of others.
    fn key_of(number: u8) -> Vec<u8> {
        [vec![7; usize::from(number % 3) * 9], vec![number / 3]].concat()
    }

    type Model = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    fn same(overlay: &Overlay, model: &Model, hasher: &RandomState) {
        let rows: Vec<Row<'_>> = model.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        assert_eq!(overlay.in_order(), rows);
        assert_eq!(overlay.is_empty(), model.is_empty());
        for number in 0..20 {
            let key = key_of(number);
            let found = overlay.get(|| hasher.hash_one(&key), &key);
            assert_eq!(found, model.get(&key).map(Option::as_deref));
        }
    }

    proptest! {
        #[test]
        fn every_kind_holds_what_was_written_last(steps in steps()) {
            let hasher = RandomState::default();
            for (family, workload) in
                [(Family::Feed, Workload::Log), (Family::Documents, Workload::Point), (Family::Local, Workload::Small)]
            {
                let mut kept = (Overlay::of(family, workload), Model::new());
                let mut open = (Overlay::of(family, workload), Model::new());
                for step in &steps {
                    match step {
                        Step::Insert(key, value) => {
                            let key = key_of(*key);
                            let value = value.map(|value| vec![value]);
                            open.0.insert(&hasher, copying(&key), value.as_deref().map(copying));
                            open.1.insert(key, value);
                        }
                        Step::Walk(from, to) => {
                            let (from, to) = (key_of(*from).min(key_of(*to)), key_of(*from).max(key_of(*to)));
                            let mut found = Model::new();
                            for (key, value) in open.0.between(&from, Some(&to)) {
                                found.entry(key.to_vec()).or_insert(value.map(<[u8]>::to_vec));
                            }
                            let inside = |key: &Vec<u8>| *key >= from && *key < to;
                            let expected: Model =
                                open.1.clone().into_iter().filter(|(key, _)| inside(key)).collect();
                            prop_assert_eq!(found, expected);
                        }
                        Step::Keep => {
                            same(&open.0, &open.1, &hasher);
                            kept.0.absorb(&hasher, &mut open.0);
                            kept.1.append(&mut open.1);
                        }
                        Step::TakeBack => {
                            open.0.clear(family, workload);
                            open.1.clear();
                        }
                    }
                }
                same(&open.0, &open.1, &hasher);
                same(&kept.0, &kept.1, &hasher);
            }
        }
    }
}
