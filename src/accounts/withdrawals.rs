//! Taking rights away, on the writer: epochs end, devices are retired or cut. Each is one batch with its audit entry and its
//! line of the revocation ledger, and wakes every open feed of the account.

use super::enrolments::{self, DeviceId, Drained, Enrolment};
use super::glass;
use super::ledger::{self, Line};
use super::standing::{Cause, Drain, Evidence, Judged, Right, Standing, Withdrawal, judge};
use super::tables::{ACCOUNTS, AccountRow, Closed, Former};
use crate::audit::{self, Entry};
use crate::storage::{Batch, Read, StorageResult, hex};

/// Former epochs that an account remembers; their windows are long over when they are forgotten.
const MOST_FORMER: usize = 32;

/// Who acts, when, and why.
#[derive(Debug, Clone, Default)]
pub struct Actor {
    /// The operator's or account's name; empty: the server itself.
    pub name: String,
    /// Seconds since 1970.
    pub now: u64,
    /// In their words.
    pub reason: Option<String>,
}

impl Actor {
    /// An audit entry of this actor.
    #[must_use]
    pub fn entry(&self, action: &str) -> Entry {
        Entry::new(self.now, &self.name, action).reason(self.reason.as_deref())
    }
}

/// The credentials behind a request: what its standing is computed from, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The account.
    pub account: String,
    /// The device.
    pub device: DeviceId,
    /// The epoch of the session or the password.
    pub epoch: u64,
}

impl Pass {
    /// What the credentials are worth in a state of the store.
    ///
    /// # Errors
    /// When the store fails.
    pub fn judge(&self, reader: &impl Read, now: u64) -> StorageResult<Judged> {
        let account = reader.get(&ACCOUNTS, &self.account)?.unwrap_or_default();
        let device = enrolments::find(reader, &self.account, self.device)?.unwrap_or_default();
        Ok(judge(&account, self.epoch, &device, now))
    }
}

/// The topic of everything that changes what an account's credentials are worth. Two accounts may share one: followers look
/// for themselves.
#[must_use]
pub fn topic(account: &str) -> u64 {
    let hash = blake3::hash(account.as_bytes());
    let bytes = hash.as_bytes();
    // Below the numbers of databases, which begin at 1 << 32, and above the topics of the ledger, the outbox and broken glass.
    u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).max(glass::TOPIC + 1)
}

fn announce(batch: &mut Batch<'_>, account: &str, line: &Line) -> StorageResult<()> {
    let number = ledger::append(batch, line)?;
    batch.announce(topic(account), number);
    Ok(())
}

/// Ends the present epoch of an account: what was born in it may only push, for as long as `drain` says. `row` must be
/// stored by the caller; `before` is the row as it was.
///
/// # Errors
/// When the store fails.
pub fn end_epoch(
    batch: &mut Batch<'_>,
    name: &str,
    before: &AccountRow,
    row: &mut AccountRow,
    cause: Cause,
    drain: Drain,
    actor: &Actor,
) -> StorageResult<()> {
    let former = Former {
        epoch: before.epoch,
        withdrawal: Withdrawal { cause, at: actor.now, drain },
        credential: before.credential.clone(),
        roles: before.roles.clone(),
    };
    row.epoch = before.epoch + 1;
    row.former.clone_from(&before.former);
    if drain == Drain::NONE {
        cut_former(batch, name, row)?;
    }
    row.former.push(former);
    if row.former.len() > MOST_FORMER {
        row.former.remove(0);
    }
    if let Some(former) = row.former.last() {
        announce(batch, name, &Line::of_epoch(name, former, row))?;
    }
    let entry = actor.entry("account.epoch").account(name);
    let cause = serde_json::to_value(cause).unwrap_or_default();
    let entry = entry.detail("cause", cause).detail("epoch", row.epoch).detail("drain_seconds", drain.window);
    audit::append(batch, &entry)
}

/// Whoever asks for an end without a drain means also what drains already. `false`: nothing did. `row` must be stored by
/// the caller.
///
/// # Errors
/// When the store fails.
pub fn cut_former(batch: &mut Batch<'_>, name: &str, row: &mut AccountRow) -> StorageResult<bool> {
    let mut lines = Vec::new();
    for at in 0..row.former.len() {
        if let Some(former) = row.former.get_mut(at).filter(|former| former.withdrawal.drain != Drain::NONE) {
            former.withdrawal.drain = Drain::NONE;
            let former = former.clone();
            lines.push(Line::of_epoch(name, &former, row));
        }
    }
    for line in &lines {
        announce(batch, name, line)?;
    }
    Ok(!lines.is_empty())
}

/// Disables an account, retires it, or opens it again. `false`: it is so already, nothing was changed.
///
/// # Errors
/// When the store fails.
pub fn close(batch: &mut Batch<'_>, name: &str, closed: Closed, drain: Drain, actor: &Actor) -> StorageResult<bool> {
    let key = name.to_owned();
    let before = batch.get(&ACCOUNTS, &key)?.unwrap_or_default();
    let mut row = AccountRow { closed, ..before.clone() };
    if before.closed == closed {
        let cut = closed != Closed::Open && drain == Drain::NONE && cut_former(batch, name, &mut row)?;
        if cut {
            audit::append(batch, &actor.entry("account.cut").account(name))?;
            batch.put(&ACCOUNTS, &key, &row);
        }
        return Ok(cut);
    }
    match closed {
        Closed::Open => {
            announce(batch, name, &Line::Open { account: key.clone() })?;
            audit::append(batch, &actor.entry("account.enable").account(name))?;
        }
        _ if !before.is_open() => {
            // Disabled before and now retired: what could be withdrawn already was.
            if drain == Drain::NONE {
                cut_former(batch, name, &mut row)?;
            }
            if let Some(former) = row.former.last_mut() {
                former.withdrawal.cause = Cause::AccountRetired;
            }
            if let Some(former) = row.former.last() {
                announce(batch, name, &Line::of_epoch(name, former, &row))?;
            }
            audit::append(batch, &actor.entry("account.retire").account(name))?;
        }
        _ => {
            let (cause, action) = match closed {
                Closed::Disabled => (Cause::Disabled, "account.disable"),
                _ => (Cause::AccountRetired, "account.retire"),
            };
            end_epoch(batch, name, &before, &mut row, cause, drain, actor)?;
            audit::append(batch, &actor.entry(action).account(name))?;
        }
    }
    batch.put(&ACCOUNTS, &key, &row);
    Ok(true)
}

/// Retires one device: it may push for as long as `drain` says, and never comes back. `false`: it was withdrawn already.
///
/// # Errors
/// When the store fails.
pub fn retire_device(
    batch: &mut Batch<'_>,
    device: DeviceId,
    row: Enrolment,
    drain: Drain,
    actor: &Actor,
) -> StorageResult<bool> {
    let nothing_new = |ended: Withdrawal| drain != Drain::NONE || ended.drain == Drain::NONE;
    if row.ended.is_some_and(nothing_new) || row.cut.is_some() {
        return Ok(false);
    }
    let withdrawal = Withdrawal { cause: Cause::DeviceRetired, at: actor.now, drain };
    let account = row.account.clone();
    enrolments::put(batch, device, &Enrolment { ended: Some(withdrawal), ..row });
    announce(batch, &account, &Line::Device { account: account.clone(), device: hex(&device), withdrawal })?;
    let entry = actor.entry("device.retire").account(&account).device(&device);
    audit::append(batch, &entry.detail("drain_seconds", drain.window))?;
    Ok(true)
}

/// Cuts one device: no pull, no push, from this commit on. `false`: it was cut already.
///
/// # Errors
/// When the store fails.
pub fn cut_device(batch: &mut Batch<'_>, device: DeviceId, row: Enrolment, actor: &Actor) -> StorageResult<bool> {
    if row.cut.is_some() {
        return Ok(false);
    }
    let account = row.account.clone();
    enrolments::put(batch, device, &Enrolment { cut: Some(actor.now), ..row });
    announce(batch, &account, &Line::Cut { account: account.clone(), device: hex(&device), at: actor.now })?;
    audit::append(batch, &actor.entry("device.cut").account(&account).device(&device))?;
    Ok(true)
}

/// Cuts every device of an account, also those nobody has heard of, and disables the account: whoever has a phone may have
/// its password, too. Gives the number of devices that were cut.
///
/// # Errors
/// When the store fails.
pub fn cut_account(batch: &mut Batch<'_>, name: &str, actor: &Actor) -> StorageResult<u64> {
    let key = name.to_owned();
    let before = batch.get(&ACCOUNTS, &key)?.unwrap_or_default();
    let closed = if before.is_open() { Closed::Disabled } else { before.closed };
    let mut row = AccountRow { closed, ..before.clone() };
    end_epoch(batch, name, &before, &mut row, Cause::Lost, Drain::NONE, actor)?;
    batch.put(&ACCOUNTS, &key, &row);
    let mut devices = Vec::new();
    enrolments::list(batch, Some(name), |device, row| devices.push((device, row)))?;
    let mut cut = 0;
    for (device, row) in devices {
        cut += u64::from(cut_device(batch, device, row, actor)?);
    }
    Ok(cut)
}

/// Notes that everything a device held has arrived. Only a draining device becomes drained.
///
/// # Errors
/// When the store fails.
pub fn note_drained(
    batch: &mut Batch<'_>,
    pass: &Pass,
    evidence: Evidence,
    by: Vec<String>,
    actor: &Actor,
) -> StorageResult<bool> {
    let judged = pass.judge(batch, actor.now)?;
    if judged.standing == Standing::Active || judged.evidence == Some(evidence) {
        return Ok(false);
    }
    let Some(row) = enrolments::find(batch, &pass.account, pass.device)? else { return Ok(false) };
    let drained = Drained { at: actor.now, epoch: pass.epoch, evidence, by };
    let line = Line::Drained { account: pass.account.clone(), device: hex(&pass.device), drained: drained.clone() };
    enrolments::put(batch, pass.device, &Enrolment { drained: Some(drained), pending: None, ..row });
    announce(batch, &pass.account, &line)?;
    let entry = actor.entry("device.drained").account(&pass.account).device(&pass.device);
    audit::append(batch, &entry.detail("evidence", serde_json::to_value(evidence).unwrap_or_default()))?;
    Ok(true)
}

/// Notes a push: the device calls, and what was inferred about it is no longer known. `database`: where to, if the device
/// keeps a copy of it.
///
/// # Errors
/// When the store fails.
pub fn note_push(
    batch: &mut Batch<'_>,
    pass: &Pass,
    judged: &Judged,
    database: Option<&str>,
    now: u64,
) -> StorageResult<()> {
    let Some(row) = enrolments::find(batch, &pass.account, pass.device)? else { return Ok(()) };
    let mut noted = row.clone();
    noted.pushed = now;
    noted.seen = now;
    if let Some(database) = database {
        noted.databases.insert(database.to_owned(), now);
    }
    note_contact(&mut noted, judged, now);
    if noted.drained.as_ref().is_some_and(|drained| drained.evidence == Evidence::Inferred) {
        noted.drained = None;
    }
    if noted != row {
        enrolments::put(batch, pass.device, &noted);
    }
    Ok(())
}

/// Notes that a device wrote a checkpoint in a database, and says what its credentials are worth.
///
/// # Errors
/// When the store fails.
pub fn note_checkpoint(batch: &mut Batch<'_>, pass: &Pass, database: &str, now: u64) -> StorageResult<Judged> {
    let judged = pass.judge(batch, now)?;
    if let Some(mut row) = enrolments::find(batch, &pass.account, pass.device)?
        && judged.allow(Right::Push).is_ok()
        && (row.checkpointed < now || !row.databases.contains_key(database))
    {
        row.checkpointed = now;
        row.databases.entry(database.to_owned()).or_default();
        note_contact(&mut row, &judged, now);
        enrolments::put(batch, pass.device, &row);
    }
    Ok(judged)
}

/// The window of a drain begins with the first contact after the withdrawal.
pub fn note_contact(row: &mut Enrolment, judged: &Judged, now: u64) {
    if let Some(withdrawal) = judged.withdrawal.filter(|withdrawal| row.first_contact < withdrawal.at) {
        row.first_contact = now.max(withdrawal.at);
    }
}

/// Whether a device without a manifest counts as drained: it may only push, wrote a checkpoint after its last push and
/// after the withdrawal, was quiet since, and does not say that it holds more.
fn is_quiet(reader: &impl Read, pass: &Pass, row: &Enrolment, quiet_seconds: u64, now: u64) -> StorageResult<bool> {
    let quiet = row.checkpointed >= row.pushed.max(1) && now >= row.checkpointed + quiet_seconds;
    let claims = row.pending.is_some_and(|pending| pending.documents > 0 && pending.told >= row.pushed);
    if !quiet || claims || row.drained.is_some() {
        return Ok(false);
    }
    let judged = pass.judge(reader, now)?;
    let since = judged.withdrawal.map(|withdrawal| withdrawal.at);
    Ok(judged.standing == Standing::Draining && since.is_some_and(|since| row.checkpointed >= since))
}

/// Devices that count as drained although they sent no manifest.
///
/// # Errors
/// When the store fails.
pub fn quiet_devices(reader: &impl Read, quiet_seconds: u64, now: u64) -> StorageResult<Vec<Pass>> {
    let mut devices = Vec::new();
    enrolments::list(reader, None, |device, row| devices.push((device, row)))?;
    let mut passes = Vec::new();
    for (device, row) in devices {
        let pass = Pass { account: row.account.clone(), device, epoch: row.epoch };
        if is_quiet(reader, &pass, &row, quiet_seconds, now)? {
            passes.push(pass);
        }
    }
    Ok(passes)
}

/// Notes that a quiet device is drained, if it still is quiet.
///
/// # Errors
/// When the store fails.
pub fn note_quiet(batch: &mut Batch<'_>, pass: &Pass, quiet_seconds: u64, now: u64) -> StorageResult<()> {
    let row = enrolments::find(batch, &pass.account, pass.device)?.unwrap_or_default();
    if is_quiet(batch, pass, &row, quiet_seconds, now)? {
        let server = Actor { now, ..Actor::default() };
        note_drained(batch, pass, Evidence::Inferred, Vec::new(), &server)?;
    }
    Ok(())
}
