//! The revocation ledger: every withdrawal, numbered, so that a copy kept beside the backups can be replayed over a restored
//! store (design §12). A row is written in the batch of the withdrawal; `Ledger` copies rows to the file afterwards.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::enrolments::Drained;
use super::standing::Withdrawal;
use super::tables::{AccountRow, Closed, Former};
use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult};

const META_HEAD: &[u8] = b"ledger_head";
const VERSION: u8 = 1;
const CORRUPT: StorageError = StorageError::Corrupt { table: "ledger", problem: "malformed line" };

/// The topic that tells how long the ledger is. No database has the number 0.
pub const TOPIC: u64 = 1;

/// One withdrawal, the end of one, or what tells how old a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Line {
    /// The first line: whose ledger this is.
    Begun {
        /// The server's identity, 32 hex digits.
        server: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// Older data were opened: another history of the store began.
    Incarnation {
        /// The new one, 32 hex digits.
        id: String,
        /// The one that the older data belong to.
        was: String,
        /// Lines that the older data had; what stands between is told again to the store.
        after: u64,
        /// Seconds since 1970.
        at: u64,
        /// How it was noticed.
        cause: String,
    },
    /// The store was in use. Written from time to time, so that older data are noticed although nothing was withdrawn since.
    Mark {
        /// Seconds since 1970.
        at: u64,
        /// The number of the newest entry of the audit log.
        audit: u64,
        /// Its hash, 64 hex digits.
        head: String,
    },
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
    /// A device said that it erased itself.
    WipeReported {
        /// Whose.
        account: String,
        /// Which, 32 hex digits.
        device: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// Somebody logged out.
    LoggedOut {
        /// The fingerprint of the session, 64 hex digits.
        session: String,
    },
    /// A grant was ended before its time.
    GrantEnded {
        /// Who held it.
        to: String,
        /// Which, 32 hex digits.
        grant: String,
        /// Seconds since 1970.
        at: u64,
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
    put(batch, number, &serde_json::to_string(line).unwrap_or_default());
    Ok(number)
}

/// Writes a line in its place and makes it the last one.
pub fn put(batch: &mut Batch<'_>, number: u64, text: &str) {
    let row = [&[VERSION], text.as_bytes()].concat();
    batch.put_bytes(Family::Ledger, number.to_be_bytes(), row);
    batch.put_bytes(Family::Meta, META_HEAD, number.to_be_bytes());
    batch.announce(TOPIC, number);
}

/// Reads lines as their text, from behind a number on, until `visit` breaks.
///
/// # Errors
/// When the store fails.
pub fn texts(reader: &impl Read, after: u64, mut visit: impl FnMut(u64, &str) -> ControlFlow<()>) -> StorageResult<()> {
    let range = Range::between((after + 1).to_be_bytes().to_vec(), vec![0xff; 9]);
    reader.scan(Family::Ledger, &range, &mut |key, row| {
        let number = key.try_into().map(u64::from_be_bytes).map_err(|_| CORRUPT)?;
        let text = row.strip_prefix(&[VERSION]).and_then(|text| std::str::from_utf8(text).ok());
        Ok(visit(number, text.ok_or(CORRUPT)?))
    })
}

/// Every line with its number.
///
/// # Errors
/// When the store fails or a line cannot be read.
pub fn lines(reader: &impl Read) -> StorageResult<Vec<(u64, Line)>> {
    let mut lines = Vec::new();
    let mut broken = false;
    texts(reader, 0, |number, text| match serde_json::from_str(text) {
        Ok(line) => {
            lines.push((number, line));
            ControlFlow::Continue(())
        }
        Err(_) => {
            broken = true;
            ControlFlow::Break(())
        }
    })?;
    if broken { Err(CORRUPT) } else { Ok(lines) }
}

/// A receipt that is newer than the data that were restored: what it speaks of may be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostReceipt {
    /// The number of its line.
    pub number: u64,
    /// Which device, 32 hex digits.
    pub device: String,
    /// Of which database.
    pub database: String,
    /// BLAKE3 root of the receipt.
    pub root: String,
    /// When it was given, in seconds since 1970.
    pub given_at: u64,
    /// When the older data were opened.
    pub restored_at: u64,
    /// The device said that it erased itself since: its copy is gone, too.
    pub erased: bool,
    /// When it was given another receipt of this database; nothing: it must be asked again.
    pub given_again_at: Option<u64>,
}

/// Receipts that older data were restored behind, as the ledger tells.
#[must_use]
pub fn lost_receipts(lines: &[(u64, Line)]) -> Vec<LostReceipt> {
    let mut lost: Vec<LostReceipt> = Vec::new();
    for (at, (number, line)) in lines.iter().enumerate() {
        let Line::Incarnation { after, at: restored_at, .. } = line else { continue };
        for (given, line) in &lines[..at] {
            let Line::Receipt { device, database, root, at: given_at } = line else { continue };
            if given <= after || lost.iter().any(|known| known.number == *given) {
                continue;
            }
            let later = || lines.iter().filter(|(later, _)| later > number);
            let erased = lines.iter().any(|(later, line)| {
                later > given && matches!(line, Line::WipeReported { device: erased, .. } if erased == device)
            });
            let given_again_at = later().find_map(|(_, line)| match line {
                Line::Receipt { device: of, database: which, at, .. } if of == device && which == database => Some(*at),
                _ => None,
            });
            let (device, database, root) = (device.clone(), database.clone(), root.clone());
            lost.push(LostReceipt {
                number: *given,
                device,
                database,
                root,
                given_at: *given_at,
                restored_at: *restored_at,
                erased,
                given_again_at,
            });
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(device: &str, at: u64) -> Line {
        Line::Receipt { device: device.into(), database: "medic".into(), root: "r".into(), at }
    }

    #[test]
    fn receipts_behind_a_restore_are_lost_until_they_are_given_again() {
        let restored = Line::Incarnation { id: "b".into(), was: "a".into(), after: 1, at: 50, cause: String::new() };
        let wiped = Line::WipeReported { account: "ann".into(), device: "two".into(), at: 40 };
        let lines = [receipt("one", 10), receipt("one", 20), receipt("two", 30), wiped, restored, receipt("one", 60)];
        let lines: Vec<(u64, Line)> = (1..).zip(lines).collect();
        let lost = lost_receipts(&lines);
        let told: Vec<_> = lost.iter().map(|lost| (lost.number, lost.erased, lost.given_again_at)).collect();
        assert_eq!(told, [(2, false, Some(60)), (3, true, None)], "the first is older than the copy, the last newer");
    }
}
