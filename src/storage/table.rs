//! A typed table is a constant: its family, the type of its key and of its value.
//!
//! Each folder above declares its own tables and is their only writer. Types know their encoding, so that a key cannot be
//! used with the wrong table.

use std::marker::PhantomData;

use super::error::{StorageError, StorageResult};
use super::family::Family;

/// A key: bytes whose order is the order of meaning.
pub trait Key {
    /// Appends the bytes.
    fn encode(&self, out: &mut Vec<u8>);
}

/// A value: a version byte, then what that version says.
pub trait Value: Sized {
    /// Appends the bytes of the newest version.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads any version ever written; `None` for bytes that are none.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// Keys of type `K` and values of type `V` in one family.
#[derive(Debug)]
pub struct Table<K, V> {
    family: Family,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Key, V: Value> Table<K, V> {
    /// The table of a family.
    #[must_use]
    pub const fn new(family: Family) -> Self {
        Self { family, types: PhantomData }
    }

    /// Where it lives.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The bytes of a key.
    pub fn key(&self, key: &K) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        key.encode(&mut out);
        out
    }

    /// Decodes a stored value.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`].
    pub fn decode(&self, bytes: &[u8]) -> StorageResult<V> {
        V::decode(bytes).ok_or(StorageError::Corrupt { table: self.family.name(), problem: "malformed value" })
    }
}

/// Bytes as they are, for values that are one blob or one JSON text.
impl Value for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl Key for str {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl Key for String {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }
}

impl<const N: usize> Key for [u8; N] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}
