//! Devices that have not called for long: each silence is one entry of the audit log, so that somebody is told of it in time.
//!
//! Only of devices that would be missed: those that may still bring something, and that are the same at every call. A session of
//! a client that names no device is another one after each login, and the console's browsers hold no work.

use std::collections::HashMap;

use super::enrolments::{self, CONSOLE_APP, DeviceId, Enrolment, Kind};
use super::standing::{Standing, judge};
use super::tables::{ACCOUNTS, AccountRow};
use crate::audit::{self, Entry};
use crate::storage::{Batch, Read, StorageResult};

/// The action of an entry about a silence.
pub const ACTION: &str = "device.silent";

/// Whether a silence began of which somebody is to be told.
fn is_new(row: &Enrolment, account: &AccountRow, seconds: u64, now: u64) -> bool {
    is_late(row, seconds, now)
        && row.kind != Kind::Session
        && row.app != CONSOLE_APP
        && matches!(judge(account, row.epoch, row, now).standing, Standing::Active | Standing::Draining)
}

/// Whether a device has not called for so many seconds, and nobody was told of it yet.
fn is_late(row: &Enrolment, seconds: u64, now: u64) -> bool {
    let heard = heard(row);
    now.saturating_sub(heard) > seconds && row.silence <= heard
}

/// When a device last called.
fn heard(row: &Enrolment) -> u64 {
    row.seen.max(row.pushed)
}

/// Devices that have been silent for more than so many seconds and were not told of, with their accounts.
///
/// # Errors
/// When the store fails.
pub fn begun(reader: &impl Read, seconds: u64, now: u64) -> StorageResult<Vec<(String, DeviceId)>> {
    let mut late = Vec::new();
    enrolments::list(reader, None, |device, row| {
        if is_late(&row, seconds, now) {
            late.push((device, row));
        }
    })?;
    let mut accounts: HashMap<String, AccountRow> = HashMap::new();
    let mut silent = Vec::new();
    for (device, row) in late {
        if !accounts.contains_key(&row.account) {
            accounts.insert(row.account.clone(), reader.get(&ACCOUNTS, &row.account)?.unwrap_or_default());
        }
        if accounts.get(&row.account).is_some_and(|account| is_new(&row, account, seconds, now)) {
            silent.push((row.account, device));
        }
    }
    Ok(silent)
}

/// Notes that a device is silent, if it still is and nobody was told.
///
/// # Errors
/// When the store fails.
pub fn note(batch: &mut Batch<'_>, account: &str, device: DeviceId, seconds: u64, now: u64) -> StorageResult<()> {
    let Some(row) = enrolments::find(batch, account, device)? else { return Ok(()) };
    let of_account = batch.get(&ACCOUNTS, &account.to_owned())?.unwrap_or_default();
    if !is_new(&row, &of_account, seconds, now) {
        return Ok(());
    }
    let entry = Entry::new(now, "", ACTION).account(account).device(&device).detail("last_seen", heard(&row));
    let pending = row.pending.map(|pending| pending.documents);
    enrolments::put(batch, device, &Enrolment { silence: now, ..row });
    audit::append(batch, &pending.into_iter().fold(entry, |entry, pending| entry.detail("pending", pending)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::tables::Closed;

    const WEEK: u64 = 7 * 86_400;

    fn row(seen: u64) -> Enrolment {
        Enrolment { kind: Kind::Named, epoch: 1, seen, ..Enrolment::default() }
    }

    #[test]
    fn each_silence_is_told_once() {
        let account = AccountRow { epoch: 1, exists: true, ..AccountRow::default() };
        let is_new = |row: &Enrolment, now| is_new(row, &account, WEEK, now);
        assert_eq!([WEEK + 1_000, WEEK + 1_001].map(|now| is_new(&row(1_000), now)), [false, true]);
        let told = Enrolment { silence: WEEK + 1_001, ..row(1_000) };
        assert!(!is_new(&told, 9 * WEEK), "the same silence");
        let called = Enrolment { seen: 9 * WEEK, ..told };
        assert_eq!([10 * WEEK, 10 * WEEK + 1].map(|now| is_new(&called, now)), [false, true], "another one");
        assert!(!is_new(&Enrolment { pushed: 2_000, ..row(1_000) }, WEEK + 1_500), "a push is a call");
    }

    #[test]
    fn nobody_is_told_of_what_would_not_be_missed() {
        let account = AccountRow { epoch: 1, exists: true, ..AccountRow::default() };
        let closed = AccountRow { closed: Closed::Retired, epoch: 2, ..account.clone() };
        let late = |row: Enrolment, account: &AccountRow| is_new(&row, account, WEEK, 9 * WEEK);
        assert!(late(row(1), &account) && late(Enrolment { kind: Kind::Basic, ..row(1) }, &account));
        assert!(!late(Enrolment { kind: Kind::Session, ..row(1) }, &account), "a login without a device's name");
        assert!(!late(Enrolment { app: CONSOLE_APP.to_owned(), ..row(1) }, &account), "the console");
        assert!(!late(Enrolment { cut: Some(2), ..row(1) }, &account), "a phone that is lost anyway");
        assert!(!late(row(1), &closed), "an account that is over");
    }
}
