//! The rows that a standing is judged by, remembered for as long as nobody writes them.
//!
//! A request needs the account and the device behind its credentials, and reading both takes longer than the rest of a small
//! request. Rows are remembered here, never a verdict: each request judges anew, by the time at which it begins, so that windows
//! and caps end by the clock as ever. Remembered rows are used while their marks hold, and no commit that touches one leaves its
//! mark standing (`storage/row_versions.rs`). So whoever asks after a withdrawal was acknowledged, however it was written, is
//! judged by what is stored.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use super::enrolments::{DeviceId, ENROLMENTS, Enrolment, EnrolmentKey};
use super::recent_map::{Fingerprint, RecentMap};
use super::standing::{Judged, judge};
use super::tables::{ACCOUNTS, AccountRow};
use crate::storage::{Read, RowMark, StorageResult, Store};

/// Devices that are remembered: about 6 MiB.
const CAPACITY: usize = 4_096;

/// Who stands behind credentials, in one state of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// The account; as good as new if there is none.
    pub account: AccountRow,
    /// The device, if it called before.
    pub device: Option<Enrolment>,
}

impl Holder {
    /// What credentials of an epoch are worth now (seconds since 1970). A device that never called is worth what its account is.
    #[must_use]
    pub fn judge(&self, epoch: u64, now: u64) -> Judged {
        let device = self.device.as_ref().map_or_else(|| Cow::Owned(Enrolment::default()), Cow::Borrowed);
        judge(&self.account, epoch, &device, now)
    }
}

struct Remembered {
    account: String,
    holder: Arc<Holder>,
    marks: [RowMark; 2],
}

/// See the head of this file. Shared by all requests.
pub struct Holders {
    store: Store,
    remembered: RwLock<RecentMap<Remembered>>,
}

impl Holders {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), remembered: RwLock::new(RecentMap::new(CAPACITY)) }
    }

    /// Both rows as they are stored now.
    ///
    /// # Errors
    /// When the store fails.
    pub fn of(&self, account: &str, device: DeviceId) -> StorageResult<Arc<Holder>> {
        let versions = self.store.row_versions();
        let mut key: Fingerprint = [0; 32];
        key[..16].copy_from_slice(&device);
        {
            let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner);
            // Both rows stood as remembered when the first mark was looked at, so they are of one state.
            let holds = |known: &&Remembered| known.account == account && known.marks.iter().all(|m| versions.holds(m));
            if let Some(known) = remembered.peek(&key).filter(holds) {
                return Ok(Arc::clone(&known.holder));
            }
        }
        let (name, device_key) = (account.to_owned(), EnrolmentKey::new(account, device));
        // Marks first: what is read behind them is at least as new as they are.
        let marks = (versions.mark(&ACCOUNTS, &name), versions.mark(&ENROLMENTS, &device_key));
        let snapshot = self.store.snapshot();
        let holder = Arc::new(Holder {
            account: snapshot.get(&ACCOUNTS, &name)?.unwrap_or_default(),
            device: snapshot.get(&ENROLMENTS, &device_key)?,
        });
        if let (Some(of_account), Some(of_device)) = marks {
            let marks = [of_account, of_device];
            let known = Remembered { account: name, holder: Arc::clone(&holder), marks };
            self.remembered.write().unwrap_or_else(PoisonError::into_inner).insert(key, known);
        }
        Ok(holder)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::accounts::enrolments::{self, of_client};
    use crate::accounts::standing::{Cause, Drain, Standing, Withdrawal};
    use crate::accounts::tables::Former;
    use crate::storage::{Memory, StorageError};

    fn with_store(test: impl AsyncFnOnce(&Store)) {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path(), Memory::default(), || [1; 16]).expect("open");
        tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(test(&store));
        store.close();
    }

    async fn put(store: &Store, account: AccountRow, device: Option<Enrolment>) {
        let written = store.write(move |batch| -> Result<(), StorageError> {
            batch.put(&ACCOUNTS, &"ann".to_owned(), &account);
            if let Some(device) = device {
                enrolments::put(batch, of_client("ann", "phone"), &device);
            }
            Ok(())
        });
        written.await.expect("written");
    }

    fn phone() -> DeviceId {
        of_client("ann", "phone")
    }

    /// What credentials of the first epoch are worth.
    fn standing_at(holders: &Holders, now: u64) -> Standing {
        holders.of("ann", phone()).expect("read").judge(1, now).standing
    }

    fn account(epoch: u64) -> AccountRow {
        AccountRow { exists: true, epoch, ..AccountRow::default() }
    }

    fn device() -> Enrolment {
        Enrolment { account: "ann".to_owned(), epoch: 1, ..Enrolment::default() }
    }

    #[test]
    fn what_nobody_writes_is_remembered_and_what_was_written_is_read() {
        with_store(async |store| {
            let holders = Holders::new(store);
            let standing = || standing_at(&holders, 1_000);
            put(store, account(1), None).await;
            let first = holders.of("ann", phone()).expect("read");
            assert!(Arc::ptr_eq(&first, &holders.of("ann", phone()).expect("read")), "not read twice");
            assert_eq!((standing(), &first.device), (Standing::Active, &None));
            // Written by somebody who knows nothing of what is remembered; each is seen by the next look.
            put(store, account(1), Some(Enrolment { cut: Some(900), ..device() })).await;
            assert_eq!(standing(), Standing::Cut, "a row that was not there");
            put(store, account(1), Some(device())).await;
            assert_eq!(standing(), Standing::Active, "the device");
            put(store, account(2), None).await;
            assert_eq!(standing(), Standing::Retired, "the account");
            let other = holders.of("bea", phone()).expect("read");
            assert_eq!(*other, Holder::default(), "the same device of nobody");
        });
    }

    #[test]
    fn what_is_remembered_is_judged_by_the_present_time() {
        with_store(async |store| {
            let holders = Holders::new(store);
            let withdrawal =
                Withdrawal { cause: Cause::PasswordChanged, at: 1_000, drain: Drain { window: 100, cap: 300 } };
            let former = vec![Former { epoch: 1, withdrawal, credential: None, roles: Vec::new() }];
            put(store, AccountRow { former, ..account(2) }, Some(Enrolment { first_contact: 1_010, ..device() })).await;
            let standing = |now| standing_at(&holders, now);
            assert_eq!([1_110, 1_111].map(standing), [Standing::Draining, Standing::Retired]);
            assert_eq!(standing(1_110), Standing::Draining, "the verdict was not remembered");
        });
    }

    /// Readers on other threads, as fast as they can, while the account's epoch grows: none ever sees one that is older than what
    /// was acknowledged before it asked, and never an account and a device that were not stored together.
    #[test]
    fn nobody_is_judged_by_what_was_before_an_acknowledged_write() {
        const WRITES: u64 = 400;
        with_store(async |store| {
            let holders = Holders::new(store);
            let acknowledged = AtomicU64::new(0);
            let both = |number| (account(number), Some(Enrolment { seen: number, ..device() }));
            let (first, of_first) = both(0);
            put(store, first, of_first).await;
            std::thread::scope(|scope| {
                let look = || {
                    let mut remembered = 0_u64;
                    let mut last = None;
                    loop {
                        let known = acknowledged.load(Ordering::SeqCst);
                        let holder = holders.of("ann", phone()).expect("read");
                        let seen = holder.device.as_ref().map_or(u64::MAX, |device| device.seen);
                        assert_eq!(holder.account.epoch, seen, "rows of two states");
                        assert!(seen >= known, "epoch {seen} after {known} was acknowledged");
                        remembered += u64::from(last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &holder)));
                        last = Some(holder);
                        if known == WRITES {
                            return remembered;
                        }
                    }
                };
                let readers = [scope.spawn(look), scope.spawn(look)];
                let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
                let writer = scope.spawn({
                    let acknowledged = &acknowledged;
                    move || {
                        for number in 1..=WRITES {
                            let (account, device) = both(number);
                            runtime.block_on(put(store, account, device));
                            acknowledged.store(number, Ordering::SeqCst);
                        }
                    }
                });
                writer.join().expect("every write was acknowledged");
                let remembered = readers.map(|reader| reader.join().expect("no reader saw what was over"));
                assert!(remembered.iter().all(|times| *times > 0), "nothing was ever remembered");
            });
        });
    }
}
