//! Replications that run through a restore. A client that goes on pushing after the server came back with older data writes
//! checkpoints that say that everything up to now is there, and what it pushed before would never come again. So in a history
//! that began with a restore, the first checkpoint of a push is taken only from a client that looked for one when it began.
//!
//! Clients ask for the checkpoint once when a replication begins and once more each time they write it. While there is none,
//! a replication that began here has asked twice before it writes, one that began before the restore once. The latter is told
//! to begin again: `503`, which clients answer by doing that.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use settle_protocol::{Error, ErrorKind};

use super::databases::Database;
use super::incarnations::{has_earlier, is_push_checkpoint};
use super::local;
use crate::storage::{Read, StorageResult};

/// Checkpoints that are remembered; beyond, all are forgotten, and clients that were in between begin once more.
const MOST: usize = 100_000;
/// Times that a client has asked for a checkpoint before the first one it writes.
const ASKED: u8 = 2;

type Key = (u32, [u8; 16], String);

/// Who asked for checkpoints that are not there.
#[derive(Debug, Default)]
pub struct Restarts {
    /// This history began with a restore.
    restored: bool,
    asked: Mutex<HashMap<Key, u8>>,
}

impl Restarts {
    /// For the present history.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(reader: &impl Read) -> StorageResult<Self> {
        Ok(Self { restored: has_earlier(reader)?, asked: Mutex::default() })
    }

    /// Somebody asked for a `_local` document that is not there.
    pub fn note_missing(&self, database: &Database, owner: [u8; 16], id: &str) {
        if self.restored {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.len() >= MOST {
                asked.clear();
            }
            let times = asked.entry((database.id(), owner, id.to_owned())).or_default();
            *times = times.saturating_add(1);
        }
    }

    /// Whether a `_local` document (its members as text) may be written.
    ///
    /// # Errors
    /// `503` for the first checkpoint of a push that began before the restore; a failure of the store.
    pub fn permit(
        &self,
        reader: &impl Read,
        database: &Database,
        owner: [u8; 16],
        id: &str,
        text: &str,
    ) -> super::error::DocumentResult<()> {
        if !self.restored || local::exists(reader, database, owner, id)? || !is_push_checkpoint(text, database) {
            return Ok(());
        }
        let key = (database.id(), owner, id.to_owned());
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.get(&key).is_some_and(|times| *times >= ASKED) {
            asked.remove(&key);
            return Ok(());
        }
        let reason =
            "This server was restored while the replication ran; it must begin again, so that nothing is left out.";
        Err(Error::new(ErrorKind::Unavailable, reason).into())
    }
}
