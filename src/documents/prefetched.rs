//! Rows of many documents, read ahead in a few multi-gets: each costs a fraction of as many single reads.
//!
//! A reader like any other. What was not read ahead is read when it is asked for, from the same state.

use std::collections::HashMap;

use settle_protocol::Revision;

use super::tables::{BODIES, BodyKey, DatabaseId, DocumentHead, DocumentKey};
use crate::access::view::View;
use crate::storage::{Family, Range, Read, StorageResult, Visit};

type Rows = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// A reader that has read some rows ahead.
pub struct Prefetched<'r, R> {
    reader: &'r R,
    rows: Vec<(Family, Rows)>,
}

impl<'r, R: Read> Prefetched<'r, R> {
    /// Reads trees, bodies and, for a restricted caller, placements of these documents: of each the revision asked for, or
    /// the winner.
    ///
    /// # Errors
    /// When the store fails.
    pub fn documents(
        reader: &'r R,
        database: DatabaseId,
        view: &View,
        asked: &[(&str, Option<&Revision>)],
    ) -> StorageResult<Self> {
        let keys: Vec<Vec<u8>> = asked.iter().map(|(id, _)| DocumentKey::bytes(database, id)).collect();
        let trees = reader.get_many(Family::Documents, &keys)?;
        let mut bodies = Vec::with_capacity(asked.len());
        for ((id, revision), tree) in asked.iter().zip(&trees) {
            let Some(head) = tree.as_deref().and_then(DocumentHead::decode) else { continue };
            let key = BodyKey::new(database, head.cluster, id, revision.unwrap_or(&head.winner));
            bodies.push(BODIES.key(&key));
        }
        let found = reader.get_many(Family::Bodies, &bodies)?;
        let mut rows = vec![(Family::Bodies, bodies.into_iter().zip(found).collect())];
        if view.restricted().is_some() {
            let placements = reader.get_many(Family::Placements, &keys)?;
            rows.push((Family::Placements, keys.iter().cloned().zip(placements).collect()));
        }
        rows.push((Family::Documents, keys.into_iter().zip(trees).collect()));
        Ok(Self { reader, rows })
    }
}

impl<R: Read> Read for Prefetched<'_, R> {
    fn get_bytes(&self, family: Family, key: &[u8]) -> StorageResult<Option<Vec<u8>>> {
        let rows = self.rows.iter().find(|(known, _)| *known == family);
        match rows.and_then(|(_, rows)| rows.get(key)) {
            Some(value) => Ok(value.clone()),
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
