//! How much memory the bodies of all requests may take together, so that no client can take all of it.
//!
//! A request takes its share as its body arrives and gives it back when it has been answered. What does not fit is
//! refused, not queued: a request that waits for memory would still hold what it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the requests of one server hold.
#[derive(Debug, Default)]
pub struct BodyMemory {
    held_bytes: Arc<AtomicU64>,
}

/// Why a share cannot grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMemory {
    /// Others hold it at the moment.
    AtTheMoment,
    /// There is not that much, even if nobody else held any.
    Ever,
}

impl BodyMemory {
    /// An empty share for one request. All shares together hold at most `limit_bytes`.
    #[must_use]
    pub fn share(&self, limit_bytes: u64) -> MemoryShare {
        let share = Share { all: Arc::clone(&self.held_bytes), limit_bytes, own: AtomicU64::new(0) };
        MemoryShare(Arc::new(share))
    }

    /// Bytes that all requests hold.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

/// What one request holds. Clones are the same share, given back with the last of them: a thread that goes on with the body
/// of a client who hung up keeps one.
#[derive(Debug, Clone)]
pub struct MemoryShare(Arc<Share>);

#[derive(Debug)]
struct Share {
    all: Arc<AtomicU64>,
    limit_bytes: u64,
    own: AtomicU64,
}

impl MemoryShare {
    /// Whether this many more bytes could be taken now.
    ///
    /// # Errors
    /// Why not.
    pub fn fits(&self, bytes: u64) -> Result<(), NoMemory> {
        self.sum(self.0.own.load(Ordering::Relaxed), bytes).ok_or(NoMemory::Ever)?;
        self.sum(self.0.all.load(Ordering::Relaxed), bytes).map(drop).ok_or(NoMemory::AtTheMoment)
    }

    /// Takes this many more bytes.
    ///
    /// # Errors
    /// Why not; then nothing was taken.
    pub fn take(&self, bytes: u64) -> Result<(), NoMemory> {
        self.fits(bytes)?;
        let taken = self.0.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| self.sum(all, bytes));
        taken.map_err(|_| NoMemory::AtTheMoment)?;
        self.0.own.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back some of what was taken.
    pub fn give_back(&self, bytes: u64) {
        self.0.own.fetch_sub(bytes, Ordering::Relaxed);
        self.0.all.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn sum(&self, held: u64, more: u64) -> Option<u64> {
        held.checked_add(more).filter(|sum| *sum <= self.0.limit_bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.own.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{BodyMemory, NoMemory};

    #[test]
    fn all_shares_together_stay_within_the_limit() {
        let memory = BodyMemory::default();
        let (first, second) = (memory.share(100), memory.share(100));
        assert_eq!(first.take(60), Ok(()));
        assert_eq!(second.take(41), Err(NoMemory::AtTheMoment));
        assert_eq!(second.fits(41), Err(NoMemory::AtTheMoment));
        assert_eq!((second.take(40), memory.held_bytes()), (Ok(()), 100));
        assert_eq!(second.take(61), Err(NoMemory::Ever));
        first.give_back(10);
        assert_eq!((second.take(10), memory.held_bytes()), (Ok(()), 100));
        assert_eq!(first.take(u64::MAX), Err(NoMemory::Ever));
        let clone = first.clone();
        drop(first);
        assert_eq!(memory.held_bytes(), 100);
        drop(clone);
        assert_eq!(memory.held_bytes(), 50);
        drop(second);
        assert_eq!(memory.held_bytes(), 0);
    }

    #[test]
    fn many_threads_never_hold_more_than_the_limit() {
        let memory = BodyMemory::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for bytes in (1..40).cycle().take(20_000) {
                        let share = memory.share(100);
                        let taken = share.take(bytes).is_ok();
                        assert!(memory.held_bytes() <= 100);
                        if taken {
                            share.give_back(bytes / 2);
                        }
                    }
                });
            }
        });
        assert_eq!(memory.held_bytes(), 0);
    }
}
