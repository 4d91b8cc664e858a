//! Reading: one snapshot, many reads, range scans. The same calls work on a snapshot and on the writer's open batch.
//!
//! Nothing here waits for a client: whoever streams to one takes a snapshot per page.

use std::ops::ControlFlow;

use super::error::StorageResult;
use super::family::Family;
use super::table::{Key, Table, Value};

/// A range of keys in bytes: `from ≤ key < to`, walked upward or downward.
#[derive(Debug, Clone)]
pub struct Range {
    /// First key.
    pub from: Vec<u8>,
    /// Behind the last key; `None`: to the end of the family.
    pub to: Option<Vec<u8>>,
    /// From the last to the first.
    pub descending: bool,
}

impl Range {
    /// All keys that begin with these bytes.
    #[must_use]
    pub fn prefix(prefix: &[u8]) -> Self {
        Self { from: prefix.to_vec(), to: after_prefix(prefix), descending: false }
    }

    /// From a key to a key.
    #[must_use]
    pub fn between(from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        Self { from: from.into(), to: Some(to.into()), descending: false }
    }

    /// The same, from the last to the first.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.descending = true;
        self
    }
}

/// The first key behind all that begin with these bytes.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut after = prefix.to_vec();
    while let Some(last) = after.pop() {
        if last < 0xff {
            after.push(last + 1);
            return Some(after);
        }
    }
    None
}

/// What a scan does with each row.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> StorageResult<ControlFlow<()>> + 'v;

/// Reads from one consistent state.
pub trait Read {
    /// The bytes under a key.
    ///
    /// # Errors
    /// When the engine fails.
    fn get_bytes(&self, family: Family, key: &[u8]) -> StorageResult<Option<Vec<u8>>>;

    /// Walks a range until `visit` breaks.
    ///
    /// # Errors
    /// When the engine fails, or what `visit` returns.
    fn scan(&self, family: Family, range: &Range, visit: &mut Visit<'_>) -> StorageResult<()>;

    /// The bytes under many keys, in their order.
    ///
    /// # Errors
    /// When the engine fails.
    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> StorageResult<Vec<Option<Vec<u8>>>> {
        keys.iter().map(|key| self.get_bytes(family, key)).collect()
    }

    /// The value under a key.
    ///
    /// # Errors
    /// When the engine fails or the value does not decode.
    fn get<K: Key, V: Value>(&self, table: &Table<K, V>, key: &K) -> StorageResult<Option<V>>
    where
        Self: Sized,
    {
        let bytes = self.get_bytes(table.family(), &table.key(key))?;
        bytes.map(|bytes| table.decode(&bytes)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_behind_a_prefix() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255]), None);
        assert_eq!(after_prefix(&[]), None);
    }
}
