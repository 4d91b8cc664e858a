//! Tells a restored store what was withdrawn after it was copied (design §12), on the writer, before anybody is served.
//!
//! What ends a right is applied as it was. What says that a device's work has arrived is not: the store that had it is gone, so
//! such a device drains once more, and may be erased only after it proved again that everything is here.

use std::collections::BTreeSet;

use super::enrolments::{self, DeviceId, Enrolment, Wipe};
use super::ledger::Line;
use super::standing::{Cause, Withdrawal};
use super::tables::{ACCOUNTS, AccountRow, Closed, Former, SESSIONS};
use crate::storage::{Batch, Read, StorageResult, unhex};

/// Former epochs that an account remembers.
const MOST_FORMER: usize = 32;

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Accounts whose password was changed after the copy: the store does not know the new one, and the old one is worth
    /// nothing but a push. They need another.
    pub without_password: BTreeSet<String>,
    /// Accounts that were touched.
    pub accounts: BTreeSet<String>,
    /// Devices that were touched, 32 hex digits.
    pub devices: BTreeSet<String>,
    /// Devices that count as drained no longer.
    pub drain_again: BTreeSet<String>,
    /// The latest time that a line tells.
    pub latest: u64,
}

/// Applies lines in their order.
///
/// # Errors
/// When the store fails.
pub fn replay<'l>(batch: &mut Batch<'_>, lines: impl IntoIterator<Item = &'l Line>) -> StorageResult<Replayed> {
    let mut replayed = Replayed::default();
    for line in lines {
        apply(batch, line, &mut replayed)?;
    }
    Ok(replayed)
}

fn apply(batch: &mut Batch<'_>, line: &Line, replayed: &mut Replayed) -> StorageResult<()> {
    match line {
        Line::Epoch { account, epoch, withdrawal, closed } => {
            replayed.latest = replayed.latest.max(withdrawal.at);
            replayed.accounts.insert(account.clone());
            let mut row = batch.get(&ACCOUNTS, account)?.unwrap_or_default();
            if end(&mut row, *epoch, *withdrawal, closed) {
                replayed.without_password.insert(account.clone());
            }
            batch.put(&ACCOUNTS, account, &row);
        }
        Line::Open { account } => {
            let row = batch.get(&ACCOUNTS, account)?.unwrap_or_default();
            batch.put(&ACCOUNTS, account, &AccountRow { closed: Closed::Open, ..row });
        }
        Line::Device { account, device, withdrawal } => {
            replayed.latest = replayed.latest.max(withdrawal.at);
            change(batch, account, device, replayed, |row| row.ended = row.ended.or(Some(*withdrawal)))?;
        }
        Line::Cut { account, device, at } => {
            replayed.latest = replayed.latest.max(*at);
            change(batch, account, device, replayed, |row| row.cut = row.cut.or(Some(*at)))?;
        }
        Line::WipeReported { account, device, at } => {
            replayed.latest = replayed.latest.max(*at);
            let wipe = Wipe { ordered_at: *at, asked_at: *at, reported_at: *at, ..Wipe::default() };
            change(batch, account, device, replayed, |row| row.wipe = Some(wipe))?;
        }
        Line::Drained { device, .. } => drop(replayed.drain_again.insert(device.clone())),
        Line::LoggedOut { session } => {
            if let Some(fingerprint) = unhex(session) {
                batch.delete(&SESSIONS, &fingerprint);
            }
        }
        // Grants are of databases: whoever calls this ends them.
        Line::GrantEnded { at, .. } => replayed.latest = replayed.latest.max(*at),
        Line::Mark { at, .. } | Line::Receipt { at, .. } | Line::Begun { at, .. } | Line::Incarnation { at, .. } => {
            replayed.latest = replayed.latest.max(*at);
        }
    }
    Ok(())
}

/// Ends an epoch of an account as the ledger tells it. `true`: its password was replaced by one that is not known here.
fn end(row: &mut AccountRow, epoch: u64, withdrawal: Withdrawal, closed: &str) -> bool {
    match row.former.iter_mut().find(|former| former.epoch == epoch) {
        // Of two ends of the same epoch the stricter counts.
        Some(former) if former.withdrawal.drain.window == 0 && withdrawal.drain.window > 0 => {}
        Some(former) => former.withdrawal = withdrawal,
        None => {
            let credential = row.credential.clone().filter(|_| row.epoch == epoch);
            row.former.push(Former { epoch, withdrawal, credential, roles: row.roles.clone() });
            row.former.sort_by_key(|former| former.epoch);
            if row.former.len() > MOST_FORMER {
                row.former.remove(0);
            }
        }
    }
    row.closed = match closed {
        "retired" => Closed::Retired,
        "disabled" => Closed::Disabled,
        _ => Closed::Open,
    };
    if row.epoch > epoch {
        return false;
    }
    row.epoch = epoch + 1;
    let replaced = matches!(withdrawal.cause, Cause::PasswordChanged | Cause::AccountDeleted);
    if replaced {
        row.credential = None;
    }
    replaced
}

fn change(
    batch: &mut Batch<'_>,
    account: &str,
    device: &str,
    replayed: &mut Replayed,
    change: impl FnOnce(&mut Enrolment),
) -> StorageResult<()> {
    let Some(id): Option<DeviceId> = unhex(device) else { return Ok(()) };
    let known = enrolments::find(batch, account, id)?;
    let mut row = known.unwrap_or_else(|| Enrolment { account: account.to_owned(), ..Enrolment::default() });
    change(&mut row);
    enrolments::put(batch, id, &row);
    replayed.devices.insert(device.to_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::standing::{Drain, Standing, judge};

    const DRAIN: Drain = Drain { window: 100, cap: 300 };

    fn account() -> AccountRow {
        AccountRow { epoch: 3, credential: Some("old".into()), roles: vec!["chw".into()], ..AccountRow::default() }
    }

    fn ended(cause: Cause, drain: Drain) -> Withdrawal {
        Withdrawal { cause, at: 1_000, drain }
    }

    #[test]
    fn a_password_that_was_changed_after_the_copy_only_pushes() {
        let mut row = account();
        assert!(end(&mut row, 3, ended(Cause::PasswordChanged, DRAIN), "open"));
        assert_eq!((row.epoch, row.credential.clone()), (4, None), "nobody can log in with the old one");
        assert_eq!(row.former[0].credential.as_deref(), Some("old"));
        let judged = judge(&row, 3, &Enrolment::default(), 1_001);
        assert_eq!((judged.standing, judged.pushes_only()), (Standing::Draining, true));
    }

    #[test]
    fn an_account_that_was_closed_keeps_its_password_and_stays_closed() {
        for (word, closed) in [("disabled", Closed::Disabled), ("retired", Closed::Retired)] {
            let mut row = account();
            assert!(!end(&mut row, 3, ended(Cause::Disabled, DRAIN), word));
            assert_eq!((row.epoch, row.closed, row.credential.is_some()), (4, closed, true));
            assert_eq!(judge(&row, 3, &Enrolment::default(), 1_001).standing, Standing::Draining);
        }
    }

    #[test]
    fn epochs_never_run_back_and_the_stricter_end_counts() {
        let mut row = AccountRow { epoch: 9, ..account() };
        end(&mut row, 3, ended(Cause::Lost, Drain::NONE), "open");
        assert_eq!((row.epoch, row.credential.is_some()), (9, true), "what the store knows better stays");
        assert_eq!(row.former[0].credential, None, "the present password is not that of a former epoch");
        end(&mut row, 3, ended(Cause::PasswordChanged, DRAIN), "open");
        assert_eq!(row.former[0].withdrawal.drain, Drain::NONE);
        end(&mut row, 12, ended(Cause::PasswordChanged, DRAIN), "open");
        assert_eq!(row.epoch, 13);
        let standing = |epoch| judge(&row, epoch, &Enrolment::default(), 1_001).standing;
        assert_eq!(standing(9), Standing::Retired, "an epoch that was jumped over is worth nothing");
    }
}
