//! What the credentials of a login are worth: the rule in words of its own, over plain values.
//!
//! A right ends once, by the first of the ends that concern it: the end of its epoch or that of its device. An end without
//! a drain is immediate and comes before every other. Until the window closes, work may still be pushed; a complete
//! manifest closes it early. Nothing else brings a right to its end, and nothing brings it back but a new login.

/// Seconds of the window, from the first contact on, and of the cap. No sum of jumps of the clock comes near either.
pub(super) const WINDOW: i64 = 1_000_000;
pub(super) const CAP: i64 = 2_500_000;
/// Seconds of one jump of the clock.
pub(super) const JUMP: i64 = 300_000;

/// The end of an epoch or a device.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// When it came.
    pub(super) at: i64,
    /// Without a drain.
    pub(super) immediate: bool,
}

/// An epoch that is over.
#[derive(Debug, Clone)]
pub(super) struct Past {
    pub(super) epoch: usize,
    pub(super) password: String,
    pub(super) end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    Open,
    Disabled,
    Retired,
}

#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) password: String,
    pub(super) epoch: usize,
    pub(super) past: Vec<Past>,
    pub(super) closed: Closed,
}

/// How it became known that nothing is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Manifest,
    Overridden,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Device {
    /// Index of its account.
    pub(super) account: usize,
    /// The epoch of its last login with a present password.
    pub(super) epoch: usize,
    pub(super) end: Option<End>,
    pub(super) cut: bool,
    /// How, and by credentials of which epoch.
    pub(super) proof: Option<(Proof, usize)>,
    /// The last contact that began a window.
    pub(super) contact: i64,
    /// Who asked for a wipe and waits for a second person, since when.
    pub(super) asked: Option<(usize, i64)>,
    /// The order of a wipe.
    pub(super) order: Option<String>,
    pub(super) reported: bool,
}

/// What a login is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    Active,
    Draining,
    Drained,
    Retired,
    Cut,
}

impl Worth {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Retired => "retired",
            Self::Cut => "cut",
        }
    }

    pub(super) fn pushes(self) -> bool {
        matches!(self, Self::Active | Self::Draining)
    }
}

impl Account {
    pub(super) fn is_open(&self) -> bool {
        self.closed == Closed::Open
    }

    /// The present epoch ends.
    pub(super) fn end_epoch(&mut self, end: End) {
        if end.immediate {
            self.end_all_at_once();
        }
        self.past.push(Past { epoch: self.epoch, password: self.password.clone(), end });
        self.epoch += 1;
    }

    pub(super) fn end_all_at_once(&mut self) {
        self.past.iter_mut().for_each(|past| past.end.immediate = true);
    }

    fn end_of(&self, epoch: usize) -> Option<End> {
        self.past.iter().find(|past| past.epoch == epoch).map(|past| past.end)
    }
}

impl Device {
    /// The end that counts for a login of this epoch.
    pub(super) fn end_for(&self, account: &Account, epoch: usize) -> Option<End> {
        let ends = [account.end_of(epoch), self.end];
        let ends = || ends.iter().flatten().copied();
        ends().find(|end| end.immediate).or_else(|| ends().min_by_key(|end| end.at))
    }

    pub(super) fn worth(&self, account: &Account, epoch: usize, now: i64) -> Worth {
        if self.cut {
            return Worth::Cut;
        }
        let Some(end) = self.end_for(account, epoch) else { return Worth::Active };
        if end.immediate {
            return Worth::Cut;
        }
        let began = if self.contact >= end.at { self.contact } else { now };
        if now > (began + WINDOW).min(end.at + CAP) {
            return Worth::Retired;
        }
        if self.proof_for(epoch).is_some() { Worth::Drained } else { Worth::Draining }
    }

    /// How it is known that nothing is left behind this login. Only one that may not read any more proves anything, and a
    /// new login begins anew, so a proof holds for its epoch.
    pub(super) fn proof_for(&self, epoch: usize) -> Option<Proof> {
        self.proof.filter(|(_, of_epoch)| *of_epoch == epoch).map(|(proof, _)| proof)
    }

    /// Nothing brings its rights back.
    pub(super) fn ended_for_good(&self, account: &Account) -> bool {
        self.end.is_some() || self.cut || account.closed == Closed::Retired
    }

    /// A login of this epoch calls.
    pub(super) fn calls(&mut self, account: &Account, epoch: usize, now: i64) {
        let end = if self.cut { None } else { self.end_for(account, epoch) };
        if let Some(end) = end.filter(|end| self.contact < end.at) {
            self.contact = now.max(end.at);
        }
    }
}
