//! Whether a row may have been written since it was read: numbers that every commit moves for the rows it touches.
//!
//! The committer moves the number of a row before its batch reaches the engine, and once more behind it, whoever wrote and
//! whatever came of it. So a mark that was taken before a row was read, and still holds, proves that what was read is what is
//! stored: rows of a few families may be remembered and are never out of date. Rows share numbers by their hash, so a mark may
//! end for nothing, and never outlives a write.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};

use super::batch::Layer;
use super::error::StorageResult;
use super::family::Family;
use super::table::{Key, Table, Value};

/// Families whose rows have numbers: small rows that are read again and again and seldom written.
const FOLLOWED: [Family; 2] = [Family::Accounts, Family::Enrolments];
/// Numbers; a power of two, 128 KiB of them.
const NUMBERS: usize = 1 << 14;

/// What a row's number was at a moment when nobody wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowMark {
    at: usize,
    number: u64,
}

/// The numbers of all rows. Odd: a batch that touches the row is on its way.
#[derive(Debug)]
pub struct RowVersions {
    numbers: Vec<AtomicU64>,
}

impl Default for RowVersions {
    fn default() -> Self {
        Self { numbers: (0..NUMBERS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl RowVersions {
    /// Marks a row, before it is read. `None`: it is being written, or has no number; then what is read must not be remembered.
    #[must_use]
    pub fn mark<K: Key, V: Value>(&self, table: &Table<K, V>, key: &K) -> Option<RowMark> {
        FOLLOWED.contains(&table.family()).then_some(())?;
        let at = place(table.family(), &table.key(key));
        let number = self.numbers[at].load(Ordering::SeqCst);
        number.is_multiple_of(2).then_some(RowMark { at, number })
    }

    /// Whether nobody has written the row since, nor is about to.
    #[must_use]
    pub fn holds(&self, mark: &RowMark) -> bool {
        self.numbers[mark.at].load(Ordering::SeqCst) == mark.number
    }

    /// Runs the commit of a batch: no mark of a row in it holds from before the engine has it.
    pub(super) fn around(&self, layer: &Layer, commit: impl FnOnce() -> StorageResult<()>) -> StorageResult<()> {
        let mut touched: Vec<usize> = Vec::new();
        for family in FOLLOWED {
            touched.extend(layer.rows(family).into_iter().map(|(key, _)| place(family, key)));
        }
        touched.sort_unstable();
        touched.dedup();
        self.move_on(&touched);
        let outcome = commit();
        self.move_on(&touched);
        outcome
    }

    /// Rows of a family are being removed without a batch: no mark of any row holds.
    pub(super) fn around_erasure(
        &self,
        family: Family,
        erase: impl FnOnce() -> StorageResult<()>,
    ) -> StorageResult<()> {
        let outcome = erase();
        if FOLLOWED.contains(&family) {
            for number in &self.numbers {
                number.fetch_add(2, Ordering::SeqCst);
            }
        }
        outcome
    }

    fn move_on(&self, touched: &[usize]) {
        for at in touched {
            self.numbers[*at].fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Where the number of a row stands.
fn place(family: Family, key: &[u8]) -> usize {
    let mut hasher = DefaultHasher::new();
    (family, key).hash(&mut hasher);
    hasher.finish() as usize % NUMBERS
}
