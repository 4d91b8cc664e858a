//! Orders to erase a device: when one may be given, what the device reports, and the alarm when it calls after that.
//!
//! An order is given when the device's rights ended for good and its final manifest was complete. Without that proof two people
//! must take responsibility. A report is only what the device says: nothing here ever calls a device erased.

use super::enrolments::{self, DeviceId, Drained, Enrolment, Wipe};
use super::standing::{Evidence, Judged, Standing, judge};
use super::tables::{ACCOUNTS, AccountRow, Closed};
use super::withdrawals::{Actor, Pass, note_drained};
use crate::audit::{self, Entry};
use crate::storage::{Batch, Read, StorageResult};

/// Seconds within which a second person must confirm.
pub const CONFIRM_SECONDS: u64 = 7 * 24 * 3600;

/// What became of a wish to have a device erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The order is given, now or earlier.
    Ordered(Wipe),
    /// A second person must confirm.
    Waiting(Wipe),
    /// The device is, or may be, in use.
    InUse,
    /// Nothing proves that all its work has arrived.
    Unproven,
    /// The same person cannot confirm.
    SamePerson,
}

/// Whether nothing brings a device's rights back: it was retired or cut, or its account was retired or deleted.
#[must_use]
pub fn ended_for_good(account: &AccountRow, device: &Enrolment, judged: &Judged) -> bool {
    let deleted = account.credential.is_none() && judged.standing != Standing::Active;
    device.ended.is_some() || device.cut.is_some() || account.closed == Closed::Retired || deleted
}

/// Orders a device to erase itself. `fresh` names the order; `responsible` is the reason of somebody who takes
/// responsibility for what may not have arrived.
///
/// # Errors
/// When the store fails.
pub fn order(
    batch: &mut Batch<'_>,
    device: DeviceId,
    row: &Enrolment,
    responsible: Option<&str>,
    fresh: String,
    actor: &Actor,
) -> StorageResult<Asked> {
    if let Some(given) = row.wipe.as_ref().filter(|wipe| wipe.ordered_at > 0) {
        return Ok(Asked::Ordered(given.clone()));
    }
    let account = batch.get(&ACCOUNTS, &row.account)?.unwrap_or_default();
    let judged = judge(&account, row.epoch, row, actor.now);
    if !ended_for_good(&account, row, &judged) {
        return Ok(Asked::InUse);
    }
    let reason = responsible.or(actor.reason.as_deref()).unwrap_or_default().to_owned();
    let asked = Wipe { by: actor.name.clone(), asked_at: actor.now, reason, ..Wipe::default() };
    if !matches!(judged.evidence, Some(Evidence::Manifest | Evidence::Overridden)) {
        if responsible.is_none() {
            return Ok(Asked::Unproven);
        }
        let first = row.wipe.as_ref().filter(|first| actor.now <= first.asked_at + CONFIRM_SECONDS);
        let Some(first) = first else {
            enrolments::put(batch, device, &Enrolment { wipe: Some(asked.clone()), ..row.clone() });
            audit::append(batch, &about(actor, "device.wipe_asked", device, row).reason(responsible))?;
            return Ok(Asked::Waiting(asked));
        };
        if first.by == actor.name {
            return Ok(Asked::SamePerson);
        }
        let by = vec![first.by.clone(), actor.name.clone()];
        let pass = Pass { account: row.account.clone(), device, epoch: row.epoch };
        audit::append(batch, &about(actor, "device.override", device, row).reason(responsible))?;
        note_drained(batch, &pass, Evidence::Overridden, by, actor)?;
    }
    let given = Wipe { order: fresh, ordered_at: actor.now, ..asked };
    // As it is now: the override wrote to it.
    let now = enrolments::find(batch, &row.account, device)?.unwrap_or_else(|| row.clone());
    enrolments::put(batch, device, &Enrolment { wipe: Some(given.clone()), ..now });
    audit::append(batch, &about(actor, "device.wipe_ordered", device, row).reason(Some(&given.reason)))?;
    Ok(Asked::Ordered(given))
}

/// An entry with what was known about the device's work.
fn about(actor: &Actor, action: &str, device: DeviceId, row: &Enrolment) -> Entry {
    let entry = actor.entry(action).account(&row.account).device(&device).detail("last_push", row.pushed);
    let evidence = row.drained.as_ref().map(|Drained { evidence, .. }| *evidence);
    let entry = entry.detail("evidence", serde_json::to_value(evidence).unwrap_or_default());
    entry.detail("pending", row.pending.map(|pending| pending.documents))
}

/// Notes that a device says it erased these databases. `false`: there is no such order.
///
/// # Errors
/// When the store fails.
pub fn report(batch: &mut Batch<'_>, pass: &Pass, order: &str, erased: Vec<String>, now: u64) -> StorageResult<bool> {
    let Some(row) = enrolments::find(batch, &pass.account, pass.device)? else { return Ok(false) };
    let Some(given) = row.wipe.clone().filter(|wipe| wipe.ordered_at > 0 && wipe.order == order) else {
        return Ok(false);
    };
    if given.reported_at > 0 {
        return Ok(true);
    }
    let entry = Entry::new(now, &pass.account, "device.wipe_reported").account(&pass.account).device(&pass.device);
    audit::append(batch, &entry.detail("erased", erased.clone()).detail("evidence", "self_report"))?;
    let wipe = Some(Wipe { reported_at: now, erased, ..given });
    enrolments::put(batch, pass.device, &Enrolment { wipe, ..row });
    Ok(true)
}

/// Whether a device had said that it is erased.
#[must_use]
pub fn was_reported(row: &Enrolment) -> bool {
    row.wipe.as_ref().is_some_and(|wipe| wipe.reported_at > 0)
}

/// A device calls that had said it is erased: the alarm is raised, and the order stands again.
///
/// # Errors
/// When the store fails.
pub fn raise_alarm(batch: &mut Batch<'_>, pass: &Pass, row: &mut Enrolment, now: u64) -> StorageResult<()> {
    let Some(wipe) = row.wipe.as_mut().filter(|wipe| wipe.reported_at > 0) else { return Ok(()) };
    let entry = Entry::new(now, "", "device.alarm").account(&pass.account).device(&pass.device);
    let entry = entry.detail("reported_at", wipe.reported_at);
    audit::append(batch, &entry.reason(Some("It said that it was erased, and called again.")))?;
    wipe.reported_at = 0;
    row.alarm = now;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::standing::{Cause, Drain, Withdrawal};

    #[test]
    fn what_may_come_back_has_not_ended() {
        let open = AccountRow { epoch: 2, credential: Some("hash".into()), ..AccountRow::default() };
        let ended = |account: &AccountRow, device: &Enrolment, standing| {
            ended_for_good(account, device, &Judged { standing, ..Judged::default() })
        };
        let device = Enrolment::default();
        assert!(!ended(&open, &device, Standing::Active));
        assert!(!ended(&open, &device, Standing::Drained), "it may log in with the new password");
        assert!(!ended(&AccountRow { closed: Closed::Disabled, ..open.clone() }, &device, Standing::Drained));
        assert!(ended(&AccountRow { closed: Closed::Retired, ..open.clone() }, &device, Standing::Drained));
        assert!(ended(&AccountRow { credential: None, ..open.clone() }, &device, Standing::Drained), "deleted");
        let at = Withdrawal { cause: Cause::DeviceRetired, at: 1, drain: Drain { window: 1, cap: 1 } };
        assert!(ended(&open, &Enrolment { ended: Some(at), ..device.clone() }, Standing::Draining));
        assert!(ended(&open, &Enrolment { cut: Some(1), ..device }, Standing::Cut));
    }
}
