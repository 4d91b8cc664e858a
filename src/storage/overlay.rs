//! What a batch wrote into one family, over what is committed.
//!
//! Most families are only asked for single keys while a batch is open; these are hashed, and sorted once, at the commit.
//! Those that are walked as well are kept in order.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::family::{Family, Workload};

/// A value, or that the key is removed.
pub(super) type Written = Option<Vec<u8>>;
type Row<'o> = (&'o Vec<u8>, &'o Written);

/// Keys with what was written under them.
#[derive(Debug)]
pub(super) enum Overlay {
    Hashed(HashMap<Vec<u8>, Written>),
    Sorted(BTreeMap<Vec<u8>, Written>),
}

impl Overlay {
    /// An empty one, as it suits the family.
    pub(super) fn of(family: Family, workload: Workload) -> Self {
        match (family, workload) {
            // Filing walks these on the writer.
            (Family::Feed | Family::Subjects, _) | (_, Workload::Small) => Self::Sorted(BTreeMap::new()),
            _ => Self::Hashed(HashMap::new()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Hashed(rows) => rows.is_empty(),
            Self::Sorted(rows) => rows.is_empty(),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Written> {
        match self {
            Self::Hashed(rows) => rows.get(key),
            Self::Sorted(rows) => rows.get(key),
        }
    }

    pub(super) fn insert(&mut self, key: Vec<u8>, value: Written) {
        match self {
            Self::Hashed(rows) => drop(rows.insert(key, value)),
            Self::Sorted(rows) => drop(rows.insert(key, value)),
        }
    }

    /// Takes over what a later request wrote; nothing of it is left there.
    pub(super) fn absorb(&mut self, later: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, later);
            return;
        }
        match later {
            Self::Hashed(rows) => rows.drain().for_each(|(key, value)| self.insert(key, value)),
            Self::Sorted(rows) => std::mem::take(rows).into_iter().for_each(|(key, value)| self.insert(key, value)),
        }
    }

    /// The rows between two keys, in no order.
    pub(super) fn between<'o>(&'o self, from: &'o [u8], to: Option<&'o [u8]>) -> Box<dyn Iterator<Item = Row<'o>> + 'o> {
        match self {
            Self::Hashed(rows) => {
                let inside = move |key: &[u8]| key >= from && to.is_none_or(|to| key < to);
                Box::new(rows.iter().filter(move |(key, _)| inside(key)))
            }
            Self::Sorted(rows) => {
                let to = to.map_or(Bound::Unbounded, Bound::Excluded);
                Box::new(rows.range::<[u8], _>((Bound::Included(from), to)))
            }
        }
    }

    /// All rows in the order of their keys.
    pub(super) fn in_order(&self) -> Vec<Row<'_>> {
        match self {
            Self::Hashed(rows) => {
                let mut rows: Vec<Row<'_>> = rows.iter().collect();
                rows.sort_unstable_by_key(|(key, _)| *key);
                rows
            }
            Self::Sorted(rows) => rows.iter().collect(),
        }
    }
}
