//! Time as an input. Server time only; it never runs backwards, not even across restarts.
//!
//! The mark of the highest time ever given out is kept in the store (`meta`, `clock`) and moved on from time to time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::storage::{Family, Read, StorageResult, Store};

const META_CLOCK: &[u8] = b"clock";

/// Seconds since 1970 that never go back.
#[derive(Debug, Default)]
pub struct Clock {
    highest: AtomicU64,
    kept: AtomicU64,
}

/// How far the store's mark may be behind before a request moves it on: after a jump of the system's clock a crash must not
/// take the time back.
const BEHIND_SECONDS: u64 = 60;

impl Clock {
    /// A clock that is not earlier than the store's mark.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(store: &Store) -> StorageResult<Self> {
        let mark = store.snapshot().get_bytes(Family::Meta, META_CLOCK)?;
        let mark = mark.and_then(|mark| mark.try_into().ok()).map_or(0, u64::from_be_bytes);
        Ok(Self { highest: AtomicU64::new(mark), kept: AtomicU64::new(mark) })
    }

    /// Now, in seconds since 1970.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system")]
    pub fn now(&self) -> u64 {
        let system = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.highest.fetch_max(system, Ordering::Relaxed).max(system)
    }

    /// Now, with the mark kept if that is far behind.
    pub fn now_kept(&self, store: &Store) -> u64 {
        let now = self.now();
        if now > self.kept.load(Ordering::Relaxed) + BEHIND_SECONDS {
            self.keep(store);
        }
        now
    }

    /// Keeps the mark.
    pub fn keep(&self, store: &Store) {
        let mark = self.now();
        self.kept.fetch_max(mark, Ordering::Relaxed);
        store.write_unattended(move |batch| {
            batch.put_bytes(Family::Meta, META_CLOCK.to_vec(), mark.to_be_bytes().to_vec());
            Ok(())
        });
    }
}

/// Random bytes from the operating system.
///
/// # Panics
/// When the operating system has no randomness: nothing safe can be done then.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
