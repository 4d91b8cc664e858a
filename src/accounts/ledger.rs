//! The revocation ledger: every withdrawal, numbered, so that a copy kept beside the backups can be replayed over a restored
//! store (design §12). A row is written in the batch of the withdrawal; `Ledger` copies rows to the file afterwards.

use serde::{Deserialize, Serialize};

use super::enrolments::Drained;
use super::standing::Withdrawal;
use super::tables::{AccountRow, Closed, Former};
use crate::storage::{Batch, Family, Read, StorageResult};

const META_HEAD: &[u8] = b"ledger_head";
const VERSION: u8 = 1;

/// The topic that tells how long the ledger is. No database has the number 0.
pub const TOPIC: u64 = 1;

/// One withdrawal, or the end of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Line {
    /// An epoch of an account ended.
    Epoch {
        /// Whose.
        account: String,
        /// The epoch that ended.
        epoch: u64,
        /// How.
        withdrawal: Withdrawal,
        /// `open`, `disabled`, `retired`: the account afterwards.
        closed: String,
    },
    /// A device was retired.
    Device {
        /// Whose.
        account: String,
        /// Which, 32 hex digits.
        device: String,
        /// How.
        withdrawal: Withdrawal,
    },
    /// A device was cut.
    Cut {
        /// Whose.
        account: String,
        /// Which, 32 hex digits.
        device: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// Everything a device held has arrived.
    Drained {
        /// Whose.
        account: String,
        /// Which, 32 hex digits.
        device: String,
        /// Since when, and how that is known.
        drained: Drained,
    },
    /// An account was opened again.
    Open {
        /// Which.
        account: String,
    },
    /// A receipt was given.
    Receipt {
        /// Which, 32 hex digits.
        device: String,
        /// Of which database.
        database: String,
        /// BLAKE3 root of the receipt.
        root: String,
        /// Seconds since 1970.
        at: u64,
    },
}

impl Line {
    /// The end of an account's newest former epoch.
    #[must_use]
    pub fn of_epoch(account: &str, former: &Former, row: &AccountRow) -> Self {
        let closed = match row.closed {
            Closed::Open => "open",
            Closed::Disabled => "disabled",
            Closed::Retired => "retired",
        };
        Self::Epoch {
            account: account.to_owned(),
            epoch: former.epoch,
            withdrawal: former.withdrawal,
            closed: closed.to_owned(),
        }
    }
}

/// How many lines there are.
///
/// # Errors
/// When the store fails.
pub fn length(reader: &impl Read) -> StorageResult<u64> {
    let head = reader.get_bytes(Family::Meta, META_HEAD)?;
    Ok(head.and_then(|head| head.try_into().ok()).map_or(0, u64::from_be_bytes))
}

/// Adds a line, in the batch of what it tells of, and tells followers. Gives its number.
///
/// # Errors
/// When the store fails.
pub fn append(batch: &mut Batch<'_>, line: &Line) -> StorageResult<u64> {
    let number = length(batch)? + 1;
    let mut row = vec![VERSION];
    serde_json::to_writer(&mut row, line).unwrap_or_default();
    batch.put_bytes(Family::Ledger, number.to_be_bytes().to_vec(), row);
    batch.put_bytes(Family::Meta, META_HEAD.to_vec(), number.to_be_bytes().to_vec());
    batch.announce(TOPIC, number);
    Ok(number)
}
