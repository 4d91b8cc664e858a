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
        self.raise(system)
    }

    /// Time is not earlier than this, in seconds since 1970. Gives the time.
    pub fn raise(&self, seconds: u64) -> u64 {
        self.highest.fetch_max(seconds, Ordering::Relaxed).max(seconds)
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
            batch.put_bytes(Family::Meta, META_CLOCK, mark.to_be_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Memory;

    const YEAR: u64 = 365 * 86_400;

    #[test]
    fn time_never_runs_back_within_a_run() {
        let clock = Clock::default();
        assert_eq!(clock.raise(5_000), 5_000);
        assert_eq!(clock.raise(4_000), 5_000, "the system's clock was set back");
        assert_eq!(clock.raise(5_000 + YEAR), 5_000 + YEAR);
        assert_eq!(clock.raise(5_001), 5_000 + YEAR);
    }

    #[tokio::test]
    async fn time_never_runs_back_across_restarts() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Store::open(folder.path(), Memory::default(), random::<16>).expect("opens");
        let ahead = {
            let store = open();
            let clock = Clock::open(&store).expect("opens");
            let ahead = clock.raise(clock.now() + YEAR);
            clock.keep(&store);
            store.write(|_| Ok::<(), crate::storage::StorageError>(())).await.expect("the mark is kept");
            store.close();
            ahead
        };
        // The next start finds the system's clock a year behind the mark.
        let mut opened = Store::open(folder.path(), Memory::default(), random::<16>);
        for _ in 0..100 {
            if opened.is_ok() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await; // the writer's thread lets go of the first one
            opened = Store::open(folder.path(), Memory::default(), random::<16>);
        }
        let store = opened.expect("the first one is closed");
        assert!(Clock::open(&store).expect("opens").now() >= ahead);
    }
}
