//! Work on a database that is decided beside the writer and taken over by it (`storage/prepared.rs`).
//!
//! Two things would never be found as they were, and are not compared: the counters, where what the work added is added again,
//! and the newest position, behind which there is room for others.

use std::collections::BTreeSet;

use settle_protocol::sequence::Position;

use super::databases::Database;
use super::error::DocumentResult;
use super::judging::Author;
use super::known::Known;
use super::tables::Counters;
use super::write::Writing;
use crate::storage::{Batch, Prepared};

/// Positions that others may take while work is decided beside the writer: what it writes has positions behind these. Those
/// that nobody takes stay empty; nothing counts on positions without gaps.
const POSITIONS_FOR_OTHERS: Position = 1 << 14;

/// What was decided beside the writer.
pub struct Ahead<T> {
    done: T,
    before: Counters,
    after: Counters,
    touched: BTreeSet<String>,
    reached: Vec<u64>,
}

impl<'b, 'a> Writing<'b, 'a> {
    /// Work of an author that is decided beside the writer, over a batch of [`Store::prepare`](crate::storage::Store::prepare).
    ///
    /// # Errors
    /// What [`Writing::begin_as`] or `work` returns.
    pub fn ahead<T>(
        batch: &'b mut Batch<'a>,
        database: &Database,
        author: Author,
        work: impl FnOnce(&mut Self) -> DocumentResult<T>,
    ) -> DocumentResult<Ahead<T>> {
        let mut writing = Self::begin_as(batch, database, author)?;
        writing.counters.position += POSITIONS_FOR_OTHERS;
        let before = writing.counters;
        let done = work(&mut writing)?;
        let Self { counters: after, touched, reached, .. } = writing;
        Ok(Ahead { done, before, after, touched, reached })
    }

    /// Takes over what was decided beside the writer, if it is still what would be decided now; `None`: nothing is taken over.
    pub fn adopt<T>(&mut self, (ahead, prepared): (Ahead<T>, Prepared)) -> Option<T> {
        let Ahead { done, before, after, touched, reached } = ahead;
        if self.counters.position > before.position || !self.batch.adopt(prepared) {
            return None;
        }
        // Everybody's writes change the counters, so these are read anew, and what the work added to them is added.
        let added = |now: u64, of: fn(&Counters) -> u64| now.wrapping_add(of(&after)).wrapping_sub(of(&before));
        let now = self.counters;
        self.counters = Counters {
            position: after.position,
            documents: added(now.documents, |counters| counters.documents),
            deleted: added(now.deleted, |counters| counters.deleted),
            purges: added(now.purges, |counters| counters.purges),
            body_bytes: added(now.body_bytes, |counters| counters.body_bytes),
        };
        self.touched.extend(touched);
        self.reached.extend(reached);
        self.known = Known::default();
        self.deepest = None;
        Some(done)
    }
}
