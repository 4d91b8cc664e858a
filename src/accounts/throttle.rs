//! Slows down whoever guesses passwords, without locking out the people who know theirs.
//!
//! Counts failures per (where from, account), as CouchDB 3.4+ does (5 in 5 minutes, protocol page §6.2), and with
//! higher limits per account and per network. Each further lock lasts twice as long. An enrolled device counts under
//! its own id and is never locked by what others do; an account that logged in from a network before is not locked by what
//! others do behind the same address, nor by strangers elsewhere. Never sees a password, never sleeps; time is an
//! argument, memory is bounded.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::{AccountError, Result};
use super::recent_map::{Fingerprint, RecentMap};

/// How many failures lead to how long a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Failures within the window that lock; 0 switches this limit off.
    pub failures: u32,
    /// Seconds the first lock lasts; each further one twice as long.
    pub lock_seconds: u64,
    /// No lock lasts longer than this. So long without a failure, and the next lock is a first one again.
    pub longest_lock_seconds: u64,
}

/// Settings of the throttle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Seconds in which failures are counted together.
    pub window_seconds: u64,
    /// One account from one network or device.
    pub account_from_source: Limit,
    /// One account from anywhere but enrolled devices. Short locks: strangers can bring this one about.
    pub account: Limit,
    /// Any account from one network.
    pub network: Limit,
    /// While an account is locked from a source: wrong tries, within the longest lock, that may still be compared with what
    /// was verified a moment ago, so that the guesses of a neighbour do not end a sync that is going on.
    pub spared: u32,
    /// Seconds for which a login lets an account off the locks that others bring about from the same network.
    pub known_seconds: u64,
    /// Counters held in memory, about 100 bytes each; the longest unused are forgotten first.
    pub capacity: usize,
}

impl Default for ThrottleLimits {
    fn default() -> Self {
        Self {
            window_seconds: 300,
            account_from_source: Limit { failures: 5, lock_seconds: 300, longest_lock_seconds: 3_600 },
            account: Limit { failures: 200, lock_seconds: 60, longest_lock_seconds: 300 },
            network: Limit { failures: 1_000, lock_seconds: 60, longest_lock_seconds: 3_600 },
            spared: 100,
            known_seconds: 90 * 86_400,
            capacity: 100_000,
        }
    }
}

/// Where an attempt comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// An address; IPv6 counts by /64, because one household owns that many.
    Network(IpAddr),
    /// A device that has proved its enrolment, by its id. Never a mere claim of the client.
    Device(&'a str),
}

/// One attempt to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// Where it comes from.
    pub source: Source<'a>,
    /// The name as sent, whether or not such an account exists.
    pub account: &'a str,
    /// The account's epoch, 0 for an unknown name: a new password begins with clean counters.
    pub epoch: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    failures: u32,
    window_start: u64,
    locks: u32,
    locked_until: u64,
    spared: u32,
    spared_since: u64,
}

/// See the head of this file. Shared by all requests.
#[derive(Debug)]
pub struct Throttle {
    limits: ThrottleLimits,
    counters: Mutex<RecentMap<Counter>>,
    /// (network, account) → until when a login from there counts.
    known: Mutex<RecentMap<u64>>,
}

impl Throttle {
    /// A throttle that remembers nothing yet.
    #[must_use]
    pub fn new(limits: ThrottleLimits) -> Self {
        let known = Mutex::new(RecentMap::new(limits.capacity));
        Self { limits, counters: Mutex::new(RecentMap::new(limits.capacity)), known }
    }

    /// To be asked before the password is looked at, right or wrong. Being refused here is not counted as a failure.
    ///
    /// # Errors
    /// `403 forbidden`, CouchDB's lockout sentence, with the seconds that remain.
    pub fn check(&self, attempt: &Attempt<'_>, now_seconds: u64) -> Result<()> {
        let known = self.is_known(attempt, now_seconds);
        let counters = self.lock();
        let locked_until = self
            .keys(attempt)
            .into_iter()
            .take(if known { 1 } else { usize::MAX })
            .filter_map(|(key, _)| counters.peek(&key))
            .map(|counter| counter.locked_until);
        match locked_until.max() {
            Some(until) if now_seconds < until => {
                Err(AccountError::Locked { retry_after_seconds: until - now_seconds })
            }
            _ => Ok(()),
        }
    }

    /// Counts a wrong password or an unknown name.
    pub fn record_failure(&self, attempt: &Attempt<'_>, now_seconds: u64) {
        let mut counters = self.lock();
        for (key, limit) in self.keys(attempt) {
            self.count(counters.entry(key, Counter::default), limit, now_seconds);
        }
    }

    /// Clears the counter of this account from this source; the counters of the account and the network stay, because a
    /// guesser may own one right password.
    pub fn record_success(&self, attempt: &Attempt<'_>, now_seconds: u64) {
        self.lock().remove(&account_from_source_key(attempt));
        if let Some(key) = known_key(attempt) {
            let until = now_seconds.saturating_add(self.limits.known_seconds);
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, until);
        }
    }

    /// Whether a password that is tried during a lock may be compared with one that was verified a moment ago. Right ones
    /// do not use up what is spared: say so with [`Throttle::give_back`].
    pub fn spare(&self, attempt: &Attempt<'_>, now_seconds: u64) -> bool {
        let mut counters = self.lock();
        let counter = counters.entry(account_from_source_key(attempt), Counter::default);
        let window = self.limits.account_from_source.longest_lock_seconds;
        if counter.spared == 0 || now_seconds >= counter.spared_since.saturating_add(window) {
            (counter.spared, counter.spared_since) = (0, now_seconds);
        }
        let spared = counter.spared < self.limits.spared;
        counter.spared += u32::from(spared);
        spared
    }

    /// What [`Throttle::spare`] allowed was right.
    pub fn give_back(&self, attempt: &Attempt<'_>) {
        let mut counters = self.lock();
        let counter = counters.entry(account_from_source_key(attempt), Counter::default);
        counter.spared = counter.spared.saturating_sub(1);
    }

    fn is_known(&self, attempt: &Attempt<'_>, now_seconds: u64) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known_key(attempt).and_then(|key| known.peek(&key).copied()).is_some_and(|until| now_seconds < until)
    }

    fn count(&self, counter: &mut Counter, limit: Limit, now_seconds: u64) {
        let quiet_since = counter.window_start.max(counter.locked_until);
        if now_seconds >= quiet_since.saturating_add(limit.longest_lock_seconds.max(self.limits.window_seconds)) {
            *counter = Counter::default();
        }
        if counter.failures == 0 || now_seconds >= counter.window_start.saturating_add(self.limits.window_seconds) {
            counter.failures = 0;
            counter.window_start = now_seconds;
        }
        counter.failures += 1;
        if limit.failures > 0 && counter.failures >= limit.failures {
            let doubled = limit.lock_seconds.saturating_mul(1 << counter.locks.min(30));
            counter.locked_until = now_seconds.saturating_add(doubled.min(limit.longest_lock_seconds));
            counter.locks = counter.locks.saturating_add(1);
            counter.failures = 0;
        }
    }

    /// The counters an attempt belongs to, its own first.
    fn keys(&self, attempt: &Attempt<'_>) -> Vec<(Fingerprint, Limit)> {
        let mut keys = vec![(account_from_source_key(attempt), self.limits.account_from_source)];
        if let Source::Network(address) = attempt.source {
            keys.push((account_key(attempt), self.limits.account));
            keys.push((network_key(address), self.limits.network));
        }
        keys
    }

    fn lock(&self) -> MutexGuard<'_, RecentMap<Counter>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn account_from_source_key(attempt: &Attempt<'_>) -> Fingerprint {
    let epoch = attempt.epoch.to_be_bytes();
    match attempt.source {
        Source::Network(address) => {
            fingerprint(&[b"account-network", &network(address), &epoch, attempt.account.as_bytes()])
        }
        Source::Device(device) => {
            fingerprint(&[b"account-device", device.as_bytes(), &epoch, attempt.account.as_bytes()])
        }
    }
}

/// Where an account logged in from; nothing for a device, which speaks for itself.
fn known_key(attempt: &Attempt<'_>) -> Option<Fingerprint> {
    match attempt.source {
        Source::Network(address) => Some(fingerprint(&[b"known", &network(address), attempt.account.as_bytes()])),
        Source::Device(_) => None,
    }
}

fn account_key(attempt: &Attempt<'_>) -> Fingerprint {
    fingerprint(&[b"account", &attempt.epoch.to_be_bytes(), attempt.account.as_bytes()])
}

fn network_key(address: IpAddr) -> Fingerprint {
    fingerprint(&[b"network", &network(address)])
}

/// The part of an address that stands for one network, as 16 bytes. IPv4 inside IPv6 is IPv4.
fn network(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).octets()
        }
    }
}

fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{AccountError, Attempt, Limit, Source, Throttle, ThrottleLimits};

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn attempt(address: IpAddr, account: &str) -> Attempt<'_> {
        Attempt { source: Source::Network(address), account, epoch: 1 }
    }

    fn fail(throttle: &Throttle, attempt: &Attempt<'_>, times: u32, now: u64) {
        for _ in 0..times {
            throttle.record_failure(attempt, now);
        }
    }

    fn seconds_locked(throttle: &Throttle, attempt: &Attempt<'_>, now: u64) -> u64 {
        match throttle.check(attempt, now) {
            Ok(()) => 0,
            Err(AccountError::Locked { retry_after_seconds }) => retry_after_seconds,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_sixth_attempt_after_five_failures_is_refused_for_five_minutes() {
        let throttle = Throttle::new(ThrottleLimits::default());
        let ann = attempt(HOME, "ann");
        fail(&throttle, &ann, 4, 1_000);
        assert_eq!(throttle.check(&ann, 1_000), Ok(()));
        fail(&throttle, &ann, 1, 1_010);
        let refusal = throttle.check(&ann, 1_010).unwrap_err();
        assert_eq!((refusal.status(), refusal.word()), (403, "forbidden"));
        assert_eq!(refusal, AccountError::Locked { retry_after_seconds: 300 });
        assert_eq!(throttle.check(&ann, 1_310), Ok(()));
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let throttle = Throttle::new(ThrottleLimits::default());
        let ann = attempt(HOME, "ann");
        fail(&throttle, &ann, 4, 1_000);
        fail(&throttle, &ann, 4, 1_300);
        assert_eq!(throttle.check(&ann, 1_300), Ok(()));
    }

    #[test]
    fn others_are_not_locked() {
        let throttle = Throttle::new(ThrottleLimits::default());
        fail(&throttle, &attempt(HOME, "ann"), 5, 1_000);
        assert_eq!(throttle.check(&attempt(HOME, "bob"), 1_000), Ok(()));
        assert_eq!(throttle.check(&attempt(AWAY, "ann"), 1_000), Ok(()));
        let phone = Attempt { source: Source::Device("phone"), ..attempt(HOME, "ann") };
        assert_eq!(throttle.check(&phone, 1_000), Ok(()));
    }

    #[test]
    fn a_success_or_a_new_epoch_begins_with_a_clean_counter() {
        let throttle = Throttle::new(ThrottleLimits::default());
        let ann = attempt(HOME, "ann");
        fail(&throttle, &ann, 4, 1_000);
        throttle.record_success(&ann, 1_000);
        fail(&throttle, &ann, 4, 1_000);
        assert_eq!(throttle.check(&ann, 1_000), Ok(()));
        fail(&throttle, &ann, 1, 1_000);
        assert_eq!(seconds_locked(&throttle, &ann, 1_000), 300);
        assert_eq!(throttle.check(&Attempt { epoch: 2, ..ann }, 1_000), Ok(()));
    }

    #[test]
    fn each_lock_lasts_twice_as_long_up_to_the_longest() {
        let throttle = Throttle::new(ThrottleLimits::default());
        let ann = attempt(HOME, "ann");
        let mut now = 1_000;
        for expected in [300, 600, 1_200, 2_400, 3_600, 3_600] {
            fail(&throttle, &ann, 5, now);
            assert_eq!(seconds_locked(&throttle, &ann, now), expected);
            now += expected;
        }
        now += 3_600;
        fail(&throttle, &ann, 5, now);
        assert_eq!(seconds_locked(&throttle, &ann, now), 300);
    }

    #[test]
    fn many_networks_on_one_account_and_many_accounts_from_one_network_are_slowed() {
        let limits = ThrottleLimits {
            account: Limit { failures: 10, lock_seconds: 60, longest_lock_seconds: 60 },
            network: Limit { failures: 20, lock_seconds: 60, longest_lock_seconds: 60 },
            ..ThrottleLimits::default()
        };
        let throttle = Throttle::new(limits);
        for last in 0..10 {
            fail(&throttle, &attempt(IpAddr::V4(Ipv4Addr::new(10, 9, 9, last)), "ann"), 1, 1_000);
        }
        assert_eq!(seconds_locked(&throttle, &attempt(HOME, "ann"), 1_000), 60);
        let phone = Attempt { source: Source::Device("phone"), ..attempt(HOME, "ann") };
        assert_eq!(throttle.check(&phone, 1_000), Ok(()));

        for number in 0..20 {
            fail(&throttle, &attempt(AWAY, &format!("user{number}")), 1, 1_000);
        }
        assert_eq!(seconds_locked(&throttle, &attempt(AWAY, "never tried"), 1_000), 60);
        assert_eq!(throttle.check(&attempt(HOME, "never tried"), 1_000), Ok(()));
    }

    #[test]
    fn who_logged_in_from_a_network_before_is_not_locked_by_others_there_or_elsewhere() {
        let limits = ThrottleLimits {
            account: Limit { failures: 10, lock_seconds: 60, longest_lock_seconds: 60 },
            network: Limit { failures: 20, lock_seconds: 60, longest_lock_seconds: 60 },
            ..ThrottleLimits::default()
        };
        let throttle = Throttle::new(limits);
        let ann = attempt(HOME, "ann");
        throttle.record_success(&ann, 1_000);
        for number in 0..20 {
            fail(&throttle, &attempt(HOME, &format!("user{number}")), 1, 1_000);
        }
        for last in 0..10 {
            fail(&throttle, &attempt(IpAddr::V4(Ipv4Addr::new(10, 9, 9, last)), "ann"), 1, 1_000);
        }
        assert_eq!(seconds_locked(&throttle, &attempt(HOME, "bob"), 1_000), 60, "bob was never seen there");
        assert_eq!(seconds_locked(&throttle, &attempt(AWAY, "ann"), 1_000), 60, "ann was never seen there");
        assert_eq!(seconds_locked(&throttle, &ann, 1_000), 0);
        fail(&throttle, &ann, 5, 1_000);
        assert_eq!(seconds_locked(&throttle, &ann, 1_000), 300, "her own password is still not for guessing");
        let long_ago = 1_000 + limits.known_seconds;
        fail(&throttle, &attempt(HOME, "x"), 20, long_ago);
        assert!(seconds_locked(&throttle, &ann, long_ago) > 0, "long ago is no longer known");
    }

    #[test]
    fn what_is_spared_during_a_lock_is_used_up_by_guesses_only() {
        let throttle = Throttle::new(ThrottleLimits { spared: 3, ..ThrottleLimits::default() });
        let ann = attempt(HOME, "ann");
        fail(&throttle, &ann, 5, 1_000);
        for _ in 0..10 {
            assert!(throttle.spare(&ann, 1_001));
            throttle.give_back(&ann);
        }
        assert_eq!([1, 2, 3, 4].map(|_| throttle.spare(&ann, 1_001)), [true, true, true, false]);
        assert!(!throttle.spare(&ann, 4_600) && throttle.spare(&ann, 4_601), "an hour later");
    }

    #[test]
    fn one_ipv6_household_counts_as_one_network() {
        let throttle = Throttle::new(ThrottleLimits::default());
        for last in 0..5 {
            let address: IpAddr = format!("2001:db8:0:7::{last}").parse().unwrap();
            fail(&throttle, &attempt(address, "ann"), 1, 1_000);
        }
        assert_eq!(seconds_locked(&throttle, &attempt("2001:db8:0:7:9::".parse().unwrap(), "ann"), 1_000), 300);
        assert_eq!(throttle.check(&attempt("2001:db8:0:8::1".parse().unwrap(), "ann"), 1_000), Ok(()));
        fail(&throttle, &attempt(HOME, "bob"), 5, 1_000);
        assert_eq!(seconds_locked(&throttle, &attempt("::ffff:10.0.0.1".parse().unwrap(), "bob"), 1_000), 300);
    }

    #[test]
    fn memory_is_bounded_and_limits_can_be_switched_off() {
        let off = Limit { failures: 0, lock_seconds: 60, longest_lock_seconds: 60 };
        let limits = ThrottleLimits { account_from_source: off, capacity: 50, ..ThrottleLimits::default() };
        let throttle = Throttle::new(limits);
        for number in 0..150 {
            fail(&throttle, &attempt(HOME, &format!("user{number}")), 6, 1_000);
        }
        assert!(throttle.lock().len() <= 50);
        assert_eq!(throttle.check(&attempt(HOME, "user149"), 1_000), Ok(()));
    }
}
