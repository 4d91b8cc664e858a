//! What credentials are still worth: the whole state machine of design §7.3 in one file. Pure: rows in, a decision out.
//!
//! Nothing here is stored as a state. What is stored is what happened (an epoch ended, a device was retired or cut, a
//! manifest was complete), and the standing follows from it and the time. So no transition can be forgotten, and the same
//! function decides at the start of a request, at every wake-up of a feed, and on the writer beside the data.

use serde::{Deserialize, Serialize};

use super::enrolments::{Drained, Enrolment};
use super::error::AccountError;
use super::tables::AccountRow;

/// What credentials are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Everything the account may do.
    #[default]
    Active,
    /// Push only.
    Draining,
    /// Everything has arrived.
    Drained,
    /// The time to push is over.
    Retired,
    /// Ended at once: lost, stolen, or a withdrawal without a drain.
    Cut,
}

/// Why a right was withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The credential was replaced; the person may log in with the new one.
    PasswordChanged,
    /// The account was disabled, and may be enabled again.
    Disabled,
    /// The account was retired for good.
    AccountRetired,
    /// The account was deleted.
    AccountDeleted,
    /// This device was retired for good.
    DeviceRetired,
    /// This device was cut.
    Lost,
}

/// How long a withdrawn right may still push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Drain {
    /// Seconds from the first contact after the withdrawal. 0: not at all, the right is cut.
    pub window: u64,
    /// Seconds from the withdrawal after which nothing is taken any more.
    pub cap: u64,
}

impl Drain {
    /// `?drain=none`.
    pub const NONE: Self = Self { window: 0, cap: 0 };
}

/// The end of a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Why.
    pub cause: Cause,
    /// Seconds since 1970.
    pub at: u64,
    /// How long pushes are still taken.
    pub drain: Drain,
}

/// How the server knows that nothing is left on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// It said what it holds, and all of it was there.
    Manifest,
    /// It pushed, wrote its checkpoint, and was quiet since.
    Inferred,
    /// Two people took responsibility for what may be left.
    Overridden,
}

/// The standing of one session or password on one device, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Judged {
    /// The standing.
    pub standing: Standing,
    /// What was withdrawn; nothing while active.
    pub withdrawal: Option<Withdrawal>,
    /// Seconds since 1970 until which pushes are taken, if they still are.
    pub push_until: Option<u64>,
    /// What is known about what is left on the device.
    pub evidence: Option<Evidence>,
}

/// What a request wants to do, as far as the standing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Bring replicated work.
    Push,
    /// Anything else.
    Everything,
}

impl Judged {
    /// Whether a right is left.
    ///
    /// # Errors
    /// `403 forbidden` with the reason `draining` for what a draining device may not do (401 would make clients log in
    /// for ever); after the end `401 unauthorized` with the reason `drained`, `retired` or `cut`.
    pub fn allow(&self, right: Right) -> Result<(), AccountError> {
        let pushes = self.push_until.is_some();
        match (self.standing, right) {
            (Standing::Active, _) => Ok(()),
            (Standing::Draining | Standing::Drained, Right::Push) if pushes => Ok(()),
            (Standing::Draining | Standing::Drained, Right::Everything) if pushes => {
                Err(AccountError::forbidden("draining"))
            }
            (Standing::Draining | Standing::Drained, _) => Err(AccountError::unauthorized("drained")),
            (Standing::Retired, _) => Err(AccountError::unauthorized("retired")),
            (Standing::Cut, _) => Err(AccountError::unauthorized("cut")),
        }
    }

    /// Push is all that is left.
    #[must_use]
    pub fn pushes_only(&self) -> bool {
        self.standing != Standing::Active && self.push_until.is_some()
    }
}

/// What credentials of an epoch are worth on a device at a time (seconds since 1970).
#[must_use]
pub fn judge(account: &AccountRow, epoch: u64, device: &Enrolment, now: u64) -> Judged {
    let ends = ends_of(account, epoch, device);
    let Some(withdrawal) = withdrawal_of(ends) else { return Judged::default() };
    let since = ends.iter().flatten().map(|end| end.at).min().unwrap_or_default();
    // Times are whole seconds. The epoch keeps apart what the device did before and after a login in the same second.
    let of_this = |drained: &&Drained| drained.at >= since && drained.epoch == epoch;
    let evidence = device.drained.as_ref().filter(of_this);
    let evidence = evidence.map(|drained| drained.evidence);
    let ended = |standing| Judged { standing, withdrawal: Some(withdrawal), push_until: None, evidence };
    if withdrawal.drain.window == 0 {
        return ended(Standing::Cut);
    }
    let contact = Some(device.first_contact).filter(|contact| *contact >= withdrawal.at).unwrap_or(now);
    let window = contact.saturating_add(withdrawal.drain.window);
    let until = window.min(withdrawal.at.saturating_add(withdrawal.drain.cap));
    if now > until {
        return ended(Standing::Retired);
    }
    let (standing, push_until) = match evidence {
        None => (Standing::Draining, Some(until)),
        Some(Evidence::Inferred) => (Standing::Drained, Some(until)),
        Some(Evidence::Manifest | Evidence::Overridden) => (Standing::Drained, None),
    };
    Judged { standing, withdrawal: Some(withdrawal), push_until, evidence }
}

/// The ends of these credentials: the cut of the device, the end of the epoch, the end of the device.
fn ends_of(account: &AccountRow, epoch: u64, device: &Enrolment) -> [Option<Withdrawal>; 3] {
    let cut = device.cut.map(|at| Withdrawal { cause: Cause::Lost, at, drain: Drain::NONE });
    let of_account = match account.former.iter().find(|former| former.epoch == epoch) {
        Some(former) => Some(former.withdrawal),
        None if epoch == account.epoch && account.is_active() => None,
        // An epoch that nobody knows any more, or one of a future that a restore took away.
        None => Some(Withdrawal { cause: Cause::AccountRetired, at: 0, drain: Drain { window: 1, cap: 0 } }),
    };
    [cut, of_account, device.ended]
}

/// The end that counts: one without a drain wins over everything, then the earliest.
fn withdrawal_of(ends: [Option<Withdrawal>; 3]) -> Option<Withdrawal> {
    let known = || ends.into_iter().flatten();
    known().find(|end| end.drain.window == 0).or_else(|| known().min_by_key(|end| end.at))
}

/// What the device should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Next {
    /// Nothing.
    None,
    /// Push what it holds, then the final manifest.
    Push,
    /// Ask the person for the new password or link.
    Reauth,
    /// Erase and report.
    Wipe,
}

/// What a device should do next, and a sentence for the person who holds it.
#[must_use]
pub fn advice(account: &AccountRow, judged: &Judged, wipe_ordered: bool) -> (Next, &'static str) {
    let may_return =
        matches!(judged.withdrawal.map(|withdrawal| withdrawal.cause), Some(Cause::PasswordChanged | Cause::Disabled));
    let may_log_in = may_return && account.is_open() && (account.exists || account.credential.is_some());
    match judged.standing {
        _ if wipe_ordered && judged.evidence != Some(Evidence::Manifest) => {
            (Next::Wipe, "Your supervisors decided that this device is erased, although work on it may be lost.")
        }
        _ if wipe_ordered => (Next::Wipe, "Everything this device held is safe. Its data will now be erased."),
        Standing::Active => (Next::None, "This device is in use."),
        Standing::Draining if may_log_in => (
            Next::Push,
            "Your login was changed. Your unsent work is being sent; then log in with your new password or link.",
        ),
        Standing::Draining => {
            (Next::Push, "This device was withdrawn. Your unsent work is still being sent; please stay connected.")
        }
        Standing::Drained if may_log_in => {
            (Next::Reauth, "Your work has arrived. Log in with your new password or link.")
        }
        Standing::Drained => (Next::None, "All work of this device has arrived. Hand it to your supervisor."),
        Standing::Retired if may_log_in => {
            (Next::Reauth, "Log in with your new password or link; work that was not sent yet is sent then.")
        }
        Standing::Retired => {
            (Next::None, "The time to send work from this device is over. Keep it and call your supervisor.")
        }
        Standing::Cut => (Next::None, "This device was reported lost. Bring it to your supervisor; do not erase it."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::tables::{Closed, Former};

    const DRAIN: Drain = Drain { window: 100, cap: 300 };

    fn former(epoch: u64, cause: Cause, at: u64, drain: Drain) -> Former {
        Former { epoch, withdrawal: Withdrawal { cause, at, drain }, credential: None, roles: Vec::new() }
    }

    /// Epoch 1 ended at 1,000; the present one is 2.
    fn changed(drain: Drain) -> AccountRow {
        let former = vec![former(1, Cause::PasswordChanged, 1_000, drain)];
        AccountRow { epoch: 2, former, credential: Some("hash".into()), ..AccountRow::default() }
    }

    fn drained(at: u64, evidence: Evidence) -> Enrolment {
        Enrolment {
            drained: Some(Drained { at, epoch: 1, evidence, by: Vec::new() }),
            first_contact: 1_001,
            ..Enrolment::default()
        }
    }

    type Refused = Option<(u16, String)>;

    fn reasons(judged: Judged) -> (Refused, Refused) {
        let refusal = |right| judged.allow(right).err().map(|error| (error.status(), error.reason().to_owned()));
        (refusal(Right::Push), refusal(Right::Everything))
    }

    #[test]
    fn a_new_password_leaves_old_sessions_to_push() {
        let account = changed(DRAIN);
        let device = Enrolment::default();
        assert_eq!(judge(&account, 2, &device, 5_000).standing, Standing::Active);
        let old = judge(&account, 1, &device, 1_050);
        assert_eq!((old.standing, old.push_until), (Standing::Draining, Some(1_150)));
        assert_eq!(reasons(old), (None, Some((403, "draining".into()))));
    }

    #[test]
    fn the_window_begins_with_the_first_contact_and_ends_with_the_cap() {
        let account = changed(DRAIN);
        let until =
            |contact, now| judge(&account, 1, &Enrolment { first_contact: contact, ..Enrolment::default() }, now);
        assert_eq!(until(1_010, 1_110).standing, Standing::Draining);
        assert_eq!(until(1_010, 1_111).standing, Standing::Retired);
        assert_eq!(until(990, 1_200).push_until, Some(1_300), "a contact before the withdrawal does not count");
        assert_eq!(until(1_290, 1_300).standing, Standing::Draining);
        assert_eq!(until(1_290, 1_301).standing, Standing::Retired, "the cap");
        assert_eq!(reasons(until(1_290, 1_301)).0, Some((401, "retired".into())));
    }

    #[test]
    fn without_a_drain_it_is_a_cut() {
        let cut = judge(&changed(Drain::NONE), 1, &Enrolment::default(), 1_000);
        assert_eq!(cut.standing, Standing::Cut);
        assert_eq!(reasons(cut), (Some((401, "cut".into())), Some((401, "cut".into()))));
        let lost = Enrolment { cut: Some(1_000), ..Enrolment::default() };
        assert_eq!(judge(&changed(DRAIN), 2, &lost, 1_000).standing, Standing::Cut, "whatever the password");
    }

    #[test]
    fn a_manifest_ends_the_access_and_an_inference_does_not() {
        let account = changed(DRAIN);
        let proved = judge(&account, 1, &drained(1_020, Evidence::Manifest), 1_030);
        assert_eq!(proved.standing, Standing::Drained);
        assert_eq!(reasons(proved).0, Some((401, "drained".into())));
        let inferred = judge(&account, 1, &drained(1_020, Evidence::Inferred), 1_030);
        assert_eq!(inferred.standing, Standing::Drained);
        assert_eq!(reasons(inferred), (None, Some((403, "draining".into()))));
        let earlier = judge(&account, 1, &drained(900, Evidence::Manifest), 1_030);
        assert_eq!(earlier.standing, Standing::Draining, "a manifest before the withdrawal proves nothing");
    }

    #[test]
    fn what_is_not_remembered_is_retired() {
        for (epoch, closed) in [(7, Closed::Open), (0, Closed::Open), (2, Closed::Retired)] {
            let account = AccountRow { closed, ..changed(DRAIN) };
            assert_eq!(judge(&account, epoch, &Enrolment::default(), 1_000).standing, Standing::Retired, "{epoch}");
        }
    }

    #[test]
    fn of_two_withdrawals_the_earlier_counts() {
        let ended = |at, drain| Some(Withdrawal { cause: Cause::DeviceRetired, at, drain });
        let device = Enrolment { ended: ended(900, Drain { window: 50, cap: 50 }), ..Enrolment::default() };
        assert_eq!(judge(&changed(DRAIN), 1, &device, 1_000).standing, Standing::Retired);
        assert_eq!(judge(&changed(DRAIN), 2, &device, 940).standing, Standing::Draining, "also with the new password");
        assert_eq!(judge(&changed(Drain::NONE), 1, &device, 940).standing, Standing::Cut, "an end without a drain");
        let cut = Enrolment { ended: ended(1_100, Drain::NONE), ..Enrolment::default() };
        assert_eq!(judge(&changed(DRAIN), 1, &cut, 1_100).standing, Standing::Cut, "… of either");
        let lost =
            judge(&changed(DRAIN), 1, &Enrolment { cut: Some(1_200), ..drained(1_020, Evidence::Manifest) }, 1_300);
        assert_eq!(
            (lost.standing, lost.evidence),
            (Standing::Cut, Some(Evidence::Manifest)),
            "what was proved stays so"
        );
    }

    #[test]
    fn what_an_older_session_proved_says_nothing_about_a_newer_one() {
        let mut account = changed(DRAIN);
        account.former.push(former(2, Cause::PasswordChanged, 1_020, DRAIN));
        account.epoch = 3;
        let device = drained(1_020, Evidence::Manifest);
        assert_eq!(judge(&account, 1, &device, 1_030).standing, Standing::Drained);
        assert_eq!(judge(&account, 2, &device, 1_030).standing, Standing::Draining, "even in the same second");
    }

    #[test]
    fn advice_follows_the_standing() {
        let account = changed(DRAIN);
        let next = |device: &Enrolment, now| advice(&account, &judge(&account, 1, device, now), false).0;
        assert_eq!(next(&Enrolment::default(), 1_010), Next::Push);
        assert_eq!(next(&drained(1_020, Evidence::Manifest), 1_030), Next::Reauth);
        assert_eq!(next(&Enrolment::default(), 9_000), Next::Reauth);
        let retired = AccountRow { closed: Closed::Retired, ..account.clone() };
        let proved = judge(&retired, 1, &drained(1_020, Evidence::Manifest), 1_030);
        assert_eq!(advice(&retired, &proved, false).0, Next::None);
        assert_eq!(
            advice(&retired, &proved, true),
            (Next::Wipe, "Everything this device held is safe. Its data will now be erased.")
        );
        let overridden = judge(&retired, 1, &drained(1_020, Evidence::Overridden), 1_030);
        let (next, message) = advice(&retired, &overridden, true);
        assert!(next == Next::Wipe && message.contains("may be lost"), "no promise that nobody can keep: {message}");
    }
}
