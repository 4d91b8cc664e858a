//! Watches the credentials behind an answer that is still being sent: what is withdrawn ends at the next piece (design §7.3).

use tokio::sync::watch;

use super::standing::{Judged, Right};
use super::withdrawals::{Pass, topic};
use crate::storage::{StorageResult, Store};

/// The credentials of one open answer.
#[derive(Clone)]
pub struct Guard {
    store: Store,
    pass: Pass,
    changes: watch::Receiver<u64>,
}

impl Guard {
    /// Begins to watch. The first look decides anew, since something may have happened since the request began.
    #[must_use]
    pub fn new(store: &Store, pass: Pass) -> Self {
        let mut changes = store.announcements().follow(topic(&pass.account), 0);
        changes.mark_changed();
        Self { store: store.clone(), pass, changes }
    }

    /// Waits until something about the account's credentials changed. The next look then decides anew.
    pub async fn changed(&mut self) {
        match self.changes.changed().await {
            Ok(()) => self.changes.mark_changed(),  // it stays news until somebody has judged
            Err(_) => std::future::pending().await, // nothing more is ever told
        }
    }

    /// What the credentials are worth now (seconds since 1970).
    ///
    /// # Errors
    /// When the store fails.
    pub fn judge(&mut self, now: u64) -> StorageResult<Judged> {
        self.changes.borrow_and_update();
        self.pass.judge(&self.store.snapshot(), now)
    }

    /// Whether nothing was withdrawn since the last look. Costs nothing while nothing happened to the account.
    ///
    /// # Errors
    /// When the store fails.
    pub fn holds(&mut self, now: u64) -> StorageResult<bool> {
        let unchanged = !self.changes.has_changed().unwrap_or(false);
        Ok(unchanged || self.judge(now)?.allow(Right::Everything).is_ok())
    }
}
