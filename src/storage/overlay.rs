//! What a batch wrote into one family, over what is committed.
//!
//! While a batch is open most families are asked for single keys only: their rows are hashed. A family that is nearly
//! always only written is a list. Both are put in order once, at the commit, on the committer's thread. Small families,
//! and a list that is walked and then written again, are kept in order.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::OnceLock;

use super::family::{Family, Workload};

/// A value, or that the key is removed.
pub(super) type Written = Option<Vec<u8>>;
/// A key with what was written under it.
pub(super) type Row<'o> = (&'o Vec<u8>, &'o Written);

/// Keys with what was written under them.
#[derive(Debug)]
pub(super) enum Overlay {
    Hashed(HashMap<Vec<u8>, Written>),
    Listed(List),
    Sorted(BTreeMap<Vec<u8>, Written>),
}

/// Rows as they were written; of those under one key the last counts.
#[derive(Debug, Default)]
pub(super) struct List {
    rows: Vec<(Vec<u8>, Written)>,
    /// Numbers of rows by key, then by time: once somebody walked.
    order: OnceLock<Vec<usize>>,
}

impl List {
    fn order(&self) -> &[usize] {
        self.order.get_or_init(|| {
            let mut order: Vec<usize> = (0..self.rows.len()).collect();
            order.sort_by(|a, b| self.rows[*a].0.cmp(&self.rows[*b].0));
            order
        })
    }

    fn row(&self, at: usize) -> Row<'_> {
        let (key, value) = &self.rows[at];
        (key, value)
    }
}

impl Overlay {
    /// An empty one, as it suits the family.
    pub(super) fn of(family: Family, workload: Workload) -> Self {
        match (family, workload) {
            (Family::Feed, _) => Self::Listed(List::default()),
            (Family::Subjects, _) | (_, Workload::Small) => Self::Sorted(BTreeMap::new()),
            _ => Self::Hashed(HashMap::new()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Hashed(rows) => rows.is_empty(),
            Self::Listed(list) => list.rows.is_empty(),
            Self::Sorted(rows) => rows.is_empty(),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Written> {
        match self {
            Self::Hashed(rows) => rows.get(key),
            Self::Listed(list) => list.rows.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value),
            Self::Sorted(rows) => rows.get(key),
        }
    }

    pub(super) fn insert(&mut self, key: Vec<u8>, value: Written) {
        match self {
            Self::Hashed(rows) => drop(rows.insert(key, value)),
            // Walked and written by turns: in order it costs less.
            Self::Listed(list) if list.order.get().is_some() => {
                let mut rows: BTreeMap<Vec<u8>, Written> = std::mem::take(&mut list.rows).into_iter().collect();
                rows.insert(key, value);
                *self = Self::Sorted(rows);
            }
            Self::Listed(list) => list.rows.push((key, value)),
            Self::Sorted(rows) => drop(rows.insert(key, value)),
        }
    }

    /// Takes over what a later request wrote; nothing of it is left there.
    pub(super) fn absorb(&mut self, later: &mut Self) {
        if self.is_empty() {
            std::mem::swap(self, later);
            return;
        }
        match (self, later) {
            (Self::Listed(list), Self::Listed(later)) => {
                list.rows.append(&mut later.rows);
                (list.order, later.order) = (OnceLock::new(), OnceLock::new());
            }
            (this, Self::Hashed(rows)) => rows.drain().for_each(|(key, value)| this.insert(key, value)),
            (this, Self::Listed(later)) => {
                std::mem::take(later).rows.into_iter().for_each(|(key, value)| this.insert(key, value));
            }
            (this, Self::Sorted(rows)) => {
                std::mem::take(rows).into_iter().for_each(|(key, value)| this.insert(key, value));
            }
        }
    }

    /// The rows between two keys, in no order but that of two rows under one key the later comes first.
    pub(super) fn between<'o>(
        &'o self,
        from: &'o [u8],
        to: Option<&'o [u8]>,
    ) -> Box<dyn Iterator<Item = Row<'o>> + 'o> {
        match self {
            Self::Hashed(rows) => {
                let inside = move |key: &[u8]| key >= from && to.is_none_or(|to| key < to);
                Box::new(rows.iter().filter(move |(key, _)| inside(key)))
            }
            Self::Listed(list) if list.rows.is_empty() => Box::new(std::iter::empty()),
            Self::Listed(list) => {
                let order = list.order();
                let first = order.partition_point(|at| list.rows[*at].0.as_slice() < from);
                let behind = to.map_or(order.len(), |to| order.partition_point(|at| list.rows[*at].0.as_slice() < to));
                Box::new(order[first..behind.max(first)].iter().rev().map(|at| list.row(*at)))
            }
            Self::Sorted(rows) => {
                let to = to.map_or(Bound::Unbounded, Bound::Excluded);
                Box::new(rows.range::<[u8], _>((Bound::Included(from), to)))
            }
        }
    }

    /// Every key once, in order.
    pub(super) fn in_order(&self) -> Vec<Row<'_>> {
        match self {
            Self::Hashed(rows) => {
                let mut rows: Vec<Row<'_>> = rows.iter().collect();
                rows.sort_unstable_by_key(|(key, _)| *key);
                rows
            }
            Self::Listed(list) => {
                let mut rows: Vec<Row<'_>> = Vec::with_capacity(list.rows.len());
                for row in list.order().iter().map(|at| list.row(*at)) {
                    match rows.last_mut() {
                        Some(before) if before.0 == row.0 => *before = row,
                        _ => rows.push(row),
                    }
                }
                rows
            }
            Self::Sorted(rows) => rows.iter().collect(),
        }
    }
}
