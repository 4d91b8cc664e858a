//! Which operator read which scoped database, how often and in which way: for the audit log (design §11).
//!
//! The first read in an hour is noted before it is answered, those that follow are counted and noted every ten minutes, so
//! that a replication with an operator's credentials does not fill the log. A crash loses at most the numbers of the last minutes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::audit::{self, Entry};
use crate::storage::{StorageResult, Store};

/// What one operator did with one database since the last note.
#[derive(Debug, Default)]
struct Tally {
    /// The hour that has its entry.
    hour: u64,
    /// When the first of these reads was.
    since: u64,
    /// Requests by the name of their endpoint.
    requests: BTreeMap<String, u64>,
}

/// Operator and database, the time of the first read, and the reads by endpoint.
type Counted = ((String, String), u64, BTreeMap<String, u64>);

/// Reads that the log does not know yet, by operator and database.
#[derive(Debug, Default)]
pub struct OperatorReads(Mutex<BTreeMap<(String, String), Tally>>);

impl OperatorReads {
    /// Notes a read, or counts it if this hour is known.
    ///
    /// # Errors
    /// When it cannot be noted; then nothing must be read.
    pub async fn note(
        &self,
        store: &Store,
        operator: &str,
        database: &str,
        endpoint: String,
        now: u64,
    ) -> StorageResult<()> {
        let (key, hour) = ((operator.to_owned(), database.to_owned()), now / 3600);
        if self.count(&key, hour, endpoint, now) {
            return Ok(());
        }
        let entry = Entry::new(now, operator, "database.read").database(database);
        store.write(move |batch| audit::append(batch, &entry)).await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().hour = hour;
        Ok(())
    }

    /// Counts a read of an hour that has its entry. `false`: it has none.
    fn count(&self, key: &(String, String), hour: u64, endpoint: String, now: u64) -> bool {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tally) = tallies.get_mut(key).filter(|tally| tally.hour == hour) else { return false };
        if tally.requests.is_empty() {
            tally.since = now;
        }
        *tally.requests.entry(endpoint).or_default() += 1;
        true
    }

    /// Notes what was counted.
    ///
    /// # Errors
    /// When it cannot be noted; it is counted on.
    pub async fn write_down(&self, store: &Store, now: u64) -> StorageResult<()> {
        let counted = self.taken();
        if counted.is_empty() {
            return Ok(());
        }
        let entries: Vec<Entry> = counted
            .iter()
            .map(|((operator, database), since, requests)| {
                let requests: serde_json::Map<_, _> =
                    requests.iter().map(|(name, count)| (name.clone(), (*count).into())).collect();
                let entry = Entry::new(now, operator, "database.reads").database(database);
                entry.detail("since", *since).detail("requests", requests)
            })
            .collect();
        let written = store.write(move |batch| entries.iter().try_for_each(|entry| audit::append(batch, entry))).await;
        if written.is_err() {
            self.give_back(counted);
        }
        written
    }

    fn taken(&self) -> Vec<Counted> {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = tallies.iter_mut().filter(|(_, tally)| !tally.requests.is_empty());
        counted.map(|(key, tally)| (key.clone(), tally.since, std::mem::take(&mut tally.requests))).collect()
    }

    fn give_back(&self, counted: Vec<Counted>) {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, since, requests) in counted {
            let tally = tallies.entry(key).or_default();
            tally.since = since;
            for (name, count) in requests {
                *tally.requests.entry(name).or_default() += count;
            }
        }
    }
}
