//! A map that holds a bounded number of entries and forgets the ones not used for longest, roughly.
//!
//! Two halves: new and touched entries go to the young half; when it is full it becomes the old half and the former old
//! half is dropped. So every operation is one or two look-ups, memory is bounded, and an entry survives at least half a
//! capacity of others. Keys are hashes made by the caller, so that a long name costs no more room than a short one. No
//! clock and no lock in here.

use std::collections::HashMap;

/// A key: a cryptographic hash of what the entry is about.
pub type Fingerprint = [u8; 32];

/// See the head of this file.
#[derive(Debug)]
pub struct RecentMap<V> {
    young: HashMap<Fingerprint, V>,
    old: HashMap<Fingerprint, V>,
    half: usize,
}

impl<V> RecentMap<V> {
    /// An empty map for at most `capacity` entries (at least two). Allocates as it grows.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (capacity / 2).max(1) }
    }

    /// Reads without counting as use.
    #[must_use]
    pub fn peek(&self, key: &Fingerprint) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// The entry, which counts as used, made with `default` if there is none.
    pub fn entry(&mut self, key: Fingerprint, default: impl FnOnce() -> V) -> &mut V {
        let found = self.old.remove(&key);
        if !self.young.contains_key(&key) {
            self.make_room();
        }
        self.young.entry(key).or_insert_with(|| found.unwrap_or_else(default))
    }

    /// Stores an entry in place of an older one.
    pub fn insert(&mut self, key: Fingerprint, value: V) {
        self.old.remove(&key);
        if !self.young.contains_key(&key) {
            self.make_room();
        }
        self.young.insert(key, value);
    }

    /// Drops an entry.
    pub fn remove(&mut self, key: &Fingerprint) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.young = HashMap::new();
        self.old = HashMap::new();
    }

    /// Number of entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn make_room(&mut self) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, RecentMap};

    fn key(number: u8) -> Fingerprint {
        [number; 32]
    }

    #[test]
    fn never_holds_more_than_its_capacity() {
        let mut map = RecentMap::new(10);
        for number in 0..200 {
            map.insert(key(number), number);
            assert!(map.len() <= 10);
        }
        assert_eq!(map.peek(&key(199)), Some(&199));
        assert_eq!(map.peek(&key(0)), None);
    }

    #[test]
    fn an_entry_in_use_outlives_a_flood_of_others() {
        let mut map = RecentMap::new(10);
        *map.entry(key(0), || 0) += 1;
        for number in 1..200 {
            map.insert(key(number), 0);
            *map.entry(key(0), || 0) += 1;
        }
        assert_eq!(map.peek(&key(0)), Some(&200));
    }

    #[test]
    fn an_entry_is_replaced_and_removed_in_either_half() {
        let mut map = RecentMap::new(2);
        map.insert(key(1), 'a');
        map.insert(key(2), 'b');
        map.insert(key(1), 'c');
        assert_eq!((map.peek(&key(1)), map.len()), (Some(&'c'), 2));
        map.remove(&key(1));
        map.remove(&key(2));
        assert_eq!(map.len(), 0);

        let mut map = RecentMap::new(4);
        for number in [1, 2, 3, 1] {
            map.insert(key(number), number);
        }
        assert_eq!(map.len(), 3);
    }
}
