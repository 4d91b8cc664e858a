//! Which names and passwords were right a moment ago, so that Basic authentication need not hash at every request.
//!
//! Held in memory only, for minutes. An entry is a keyed hash of name, password and the account's epochs: a new password
//! (a new epoch) makes the old entries worthless by itself, and a memory dump holds no password to try offline without
//! the key. Wrong passwords are never remembered. Time is an argument; the key is the caller's randomness.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::recent_map::{Fingerprint, RecentMap};

/// Remembered entries unless configured otherwise: about 6 MiB.
pub const DEFAULT_CAPACITY: usize = 65_536;

/// Seconds an entry is good for unless configured otherwise.
pub const DEFAULT_LIFETIME_SECONDS: u64 = 300;

/// Of which epoch a password was verified, and which was the newest then: what a former password is remembered as ends when
/// the account has a newer one, which may be the same word again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epochs {
    /// The newest epoch with a password.
    pub newest: u64,
    /// The epoch whose password it was.
    pub verified: u64,
}

/// See the head of this file. Shared by all requests; each call holds the lock for one look-up.
pub struct CredentialMemory {
    key: [u8; 32],
    lifetime_seconds: u64,
    entries: Mutex<RecentMap<u64>>,
}

impl CredentialMemory {
    /// An empty memory. `key` must be fresh random bytes of this process and is told nobody.
    #[must_use]
    pub fn new(key: [u8; 32], capacity: usize, lifetime_seconds: u64) -> Self {
        Self { key, lifetime_seconds, entries: Mutex::new(RecentMap::new(capacity)) }
    }

    /// Whether exactly this was verified not longer ago than the lifetime. Takes microseconds.
    #[must_use]
    pub fn recognises(&self, name: &str, password: &str, epochs: Epochs, now_seconds: u64) -> bool {
        let fingerprint = self.fingerprint(name, password, epochs);
        self.lock().peek(&fingerprint).is_some_and(|&expires| now_seconds < expires)
    }

    /// Remembers a password that has just been verified against the credential of this epoch. Uses do not prolong it.
    pub fn remember(&self, name: &str, password: &str, epochs: Epochs, now_seconds: u64) {
        let fingerprint = self.fingerprint(name, password, epochs);
        let expires = now_seconds.saturating_add(self.lifetime_seconds);
        self.lock().insert(fingerprint, expires);
    }

    /// Forgets everything: after a restore, or when epochs cannot be trusted.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Lengths go in first, so that no two different triples are the same bytes.
    fn fingerprint(&self, name: &str, password: &str, epochs: Epochs) -> Fingerprint {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&epochs.newest.to_be_bytes()).update(&epochs.verified.to_be_bytes());
        hasher.update(&(name.len() as u64).to_be_bytes());
        hasher.update(name.as_bytes());
        hasher.update(password.as_bytes());
        *hasher.finalize().as_bytes()
    }

    fn lock(&self) -> MutexGuard<'_, RecentMap<u64>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for CredentialMemory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CredentialMemory").field("entries", &self.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{CredentialMemory, Epochs};

    fn epochs(newest: u64) -> Epochs {
        Epochs { newest, verified: newest }
    }

    fn memory() -> CredentialMemory {
        CredentialMemory::new([7; 32], 100, 60)
    }

    #[test]
    fn only_what_was_verified_is_recognised() {
        let memory = memory();
        memory.remember("ann", "secret", epochs(3), 1_000);
        assert!(memory.recognises("ann", "secret", epochs(3), 1_001));
        assert!(!memory.recognises("ann", "other", epochs(3), 1_001));
        assert!(!memory.recognises("bob", "secret", epochs(3), 1_001));
        assert!(!memory.recognises("anns", "ecret", epochs(3), 1_001));
    }

    #[test]
    fn a_new_epoch_makes_the_old_password_unknown() {
        let memory = memory();
        memory.remember("ann", "secret", epochs(3), 1_000);
        assert!(!memory.recognises("ann", "secret", epochs(4), 1_000));
        // Nor is it known as the former password: the new one may be the same word.
        assert!(!memory.recognises("ann", "secret", Epochs { newest: 4, verified: 3 }, 1_000));
    }

    #[test]
    fn an_entry_expires_even_in_use() {
        let memory = memory();
        memory.remember("ann", "secret", epochs(3), 1_000);
        assert!(memory.recognises("ann", "secret", epochs(3), 1_059));
        assert!(!memory.recognises("ann", "secret", epochs(3), 1_060));
    }

    #[test]
    fn memory_is_bounded_and_can_be_cleared() {
        let memory = memory();
        for number in 0..1_000 {
            memory.remember(&format!("user{number}"), "secret", epochs(1), 1_000);
        }
        assert!(memory.lock().len() <= 100);
        assert!(memory.recognises("user999", "secret", epochs(1), 1_000));
        memory.clear();
        assert!(!memory.recognises("user999", "secret", epochs(1), 1_000));
        assert_eq!(format!("{memory:?}"), "CredentialMemory { entries: 0, .. }");
    }
}
