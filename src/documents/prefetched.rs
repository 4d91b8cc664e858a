//! Rows of many documents, read ahead in a few multi-gets: each costs a fraction of as many single reads.
//!
//! A reader like any other, for somebody who asks for the documents in the order in which they were named. What was not read
//! ahead, or is asked for a second time, is read when it is asked for, from the same state.

use std::cell::RefCell;
use std::collections::VecDeque;

use settle_protocol::Revision;

use super::tables::{BODIES, BodyKey, DatabaseId, DocumentHead, DocumentKey};
use crate::storage::{Family, Range, Read, StorageResult, Visit};

/// Rows of one family that were not asked for yet.
type Rows = VecDeque<(Vec<u8>, Option<Vec<u8>>)>;

/// A reader that has read some rows ahead.
pub struct Prefetched<'r, R> {
    reader: &'r R,
    ahead: Vec<(Family, RefCell<Rows>)>,
}

impl<'r, R: Read> Prefetched<'r, R> {
    /// Reads rows and bodies of these documents: of each the revision asked for, or the winner.
    ///
    /// # Errors
    /// When the store fails.
    pub fn documents(reader: &'r R, database: DatabaseId, asked: &[(&str, Option<&Revision>)]) -> StorageResult<Self> {
        let keys: Vec<Vec<u8>> = asked.iter().map(|(id, _)| DocumentKey::bytes(database, id)).collect();
        let trees = reader.get_many(Family::Documents, &keys)?;
        let mut bodies = Vec::with_capacity(asked.len());
        for ((id, revision), tree) in asked.iter().zip(&trees) {
            let Some(head) = tree.as_deref().and_then(DocumentHead::decode) else { continue };
            let key = BodyKey::new(database, head.cluster, id, revision.unwrap_or(&head.winner));
            bodies.push(BODIES.key(&key));
        }
        let found = reader.get_many(Family::Bodies, &bodies)?;
        let bodies: Rows = bodies.into_iter().zip(found).collect();
        let documents: Rows = keys.into_iter().zip(trees).collect();
        Ok(Self { reader, ahead: vec![(Family::Bodies, bodies.into()), (Family::Documents, documents.into())] })
    }

    /// Takes a row that was read ahead; those before it will not be asked for any more.
    fn take(&self, family: Family, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let (_, rows) = self.ahead.iter().find(|(known, _)| *known == family)?;
        let mut rows = rows.borrow_mut();
        let at = rows.iter().position(|(known, _)| known == key)?;
        rows.drain(..=at).next_back().map(|(_, value)| value)
    }
}

impl<R: Read> Read for Prefetched<'_, R> {
    fn get_bytes(&self, family: Family, key: &[u8]) -> StorageResult<Option<Vec<u8>>> {
        match self.take(family, key) {
            Some(value) => Ok(value),
            None => self.reader.get_bytes(family, key),
        }
    }

    fn scan(&self, family: Family, range: &Range, visit: &mut Visit<'_>) -> StorageResult<()> {
        self.reader.scan(family, range, visit)
    }

    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> StorageResult<Vec<Option<Vec<u8>>>> {
        self.reader.get_many(family, keys)
    }
}
