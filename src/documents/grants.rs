//! Grants: somebody who holds a place lets another account see it for a while (design §7.4).
//!
//! A grant that is active is part of what the scopes know of its account, so it begins and ends like any change of scope:
//! at a position of the log, with rows gained and lost, and with a drain for what was written before. `settle_all` compares
//! what is active with what the scopes know and writes the difference; it runs when a grant is made or revoked, when its
//! time comes, and from time to time, because a granter may lose the place.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use settle_protocol::{Error, ErrorKind};

use super::databases::{Database, still_there};
use super::error::DocumentResult;
use super::filed::filed_of;
use super::scopes::{STEWARD, note_grants, scope_at};
use super::tables::{DATABASES, DatabaseId};
use crate::access::placement::{Anchor, of_contact};
use crate::access::scope::{Granted, Reach, only_manages};
use crate::accounts::ledger::{self, Line};
use crate::accounts::standing::Drain;
use crate::accounts::tables::{ACCOUNTS, Closed};
use crate::accounts::withdrawals::{self, Actor};
use crate::audit::{self, Entry};
use crate::storage::{Batch, Family, Key, Range, Read, StorageResult, Table, Value};

/// account, grant → what is granted
pub const GRANTS: Table<GrantKey, Grant> = Table::new(Family::Grants);

/// Grants that one account may have at the same time.
const MOST_GRANTS: usize = 100;

/// Key of a grant.
#[derive(Debug, Clone)]
pub struct GrantKey {
    /// Who may see more.
    pub to: String,
    /// The grant's id.
    pub id: String,
}

impl Key for GrantKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&prefix_of(&self.to));
        out.extend_from_slice(self.id.as_bytes());
    }
}

fn prefix_of(account: &str) -> [u8; 16] {
    super::tables::short_hash("a", account.as_bytes())
}

/// A right for a while. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Grant {
    /// 32 hex digits.
    pub id: String,
    /// The account that may see more.
    pub to: String,
    /// In which database.
    pub database: String,
    /// The place.
    pub place: String,
    /// Contacts and records down to this depth below it; `None`: all.
    pub depth: Option<u8>,
    /// Records down to this depth; `None`: as contacts.
    pub report_depth: Option<u8>,
    /// Also to write there.
    pub write: bool,
    /// From when.
    pub from: u64,
    /// Until when.
    pub until: u64,
    /// Why.
    pub reason: String,
    /// Who granted it.
    pub granted_by: String,
    /// The granter manages accounts or operates the server: what it holds itself does not count.
    pub by_administrator: bool,
    /// When it was made.
    pub granted_at: u64,
    /// When it was revoked; 0: it was not.
    pub revoked_at: u64,
    /// Who revoked it; empty with `revoked_at`: the server, since the granter no longer held the place.
    pub revoked_by: String,
    /// The account was made for this grant and is retired with it: how long its devices may still push. `None`: it was there before.
    pub drain: Option<Drain>,
}

impl Value for Grant {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
        serde_json::to_writer(out, self).unwrap_or_default();
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes.strip_prefix(&[1])?).ok()
    }
}

impl Grant {
    /// Whether it counts at a time.
    #[must_use]
    pub fn is_active(&self, now: u64) -> bool {
        self.revoked_at == 0 && self.from <= now && now < self.until
    }

    /// The word for its state.
    #[must_use]
    pub fn state(&self, now: u64) -> &'static str {
        match self {
            _ if self.revoked_at > 0 => "revoked",
            _ if now >= self.until => "ended",
            _ if now < self.from => "future",
            _ => "active",
        }
    }

    /// When its state changes next by itself.
    fn next_change(&self, now: u64) -> Option<u64> {
        [self.from, self.until].into_iter().find(|at| self.revoked_at == 0 && *at > now)
    }
}

/// Every grant, or those to one account, in the order of accounts.
///
/// # Errors
/// When the store fails.
pub fn list(reader: &impl Read, to: Option<&str>) -> StorageResult<Vec<Grant>> {
    let prefix = to.map(|to| prefix_of(to).to_vec()).unwrap_or_default();
    let mut grants = Vec::new();
    reader.scan(Family::Grants, &Range::prefix(&prefix), &mut |_, row| {
        grants.push(GRANTS.decode(row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(grants)
}

/// A place with the line above it, nearest first, itself at 0.
fn line_of(reader: &impl Read, database: DatabaseId, place: &str) -> StorageResult<Option<Vec<Anchor>>> {
    let filed = filed_of(reader, database, place)?;
    Ok(filed.filter(|filed| filed.contact().is_some() && !filed.deleted).map(|filed| filed.line))
}

/// How far below a place the granter itself sees and writes, by its own places: the most that it can grant. What was granted
/// to it counts for nothing.
fn holds(reader: &impl Read, database: DatabaseId, granter: &str, line: &[Anchor]) -> StorageResult<Vec<Reach>> {
    let row = reader.get(&ACCOUNTS, &granter.to_owned())?.unwrap_or_default();
    if !row.is_open() {
        return Ok(Vec::new());
    }
    let (scope, _) = scope_at(reader, database, granter, None)?;
    let own: BTreeSet<Anchor> = row.places.iter().map(|place| of_contact(place)).collect();
    let below = |limit: Option<u8>, steps: u8| match limit {
        None => Some(None),
        Some(limit) => limit.checked_sub(steps).map(Some),
    };
    let reaches = scope.reaches.iter().filter(|reach| reach.write && own.contains(&reach.place));
    Ok(reaches
        .filter_map(|reach| {
            let steps = line.iter().position(|anchor| *anchor == reach.place)?;
            let steps = u8::try_from(steps).ok()?;
            let depth = below(reach.depth, steps)?;
            let report_depth = below(reach.report_depth, steps)?;
            let write = scope.can_edit;
            Some(Reach { depth, report_depth, write, ..*reach })
        })
        .collect())
}

fn within(asked: Option<u8>, held: Option<u8>) -> bool {
    match (asked, held) {
        (_, None) => true,
        (Some(asked), Some(held)) => asked <= held,
        (None, Some(_)) => false,
    }
}

/// Whether the granter of a grant still holds what it grants.
fn still_held(reader: &impl Read, database: DatabaseId, grant: &Grant) -> StorageResult<bool> {
    if grant.by_administrator {
        return Ok(true);
    }
    let Some(line) = line_of(reader, database, &grant.place)? else { return Ok(false) };
    let held = holds(reader, database, &grant.granted_by, &line)?;
    let reports = grant.report_depth.or(grant.depth);
    Ok(held.iter().any(|reach| {
        within(grant.depth, reach.depth) && within(reports, reach.report_depth) && (reach.write || !grant.write)
    }))
}

/// Makes a grant and lets it begin if its time has come.
///
/// # Errors
/// `404` for a place or an account that is not there (for this granter), `403` for more than the granter holds, `400` for a
/// grant to oneself, to somebody who sees everything, or for times that make no sense.
pub fn make(batch: &mut Batch<'_>, database: &Database, grant: &Grant, now: u64) -> DocumentResult<()> {
    let row = still_there(batch, database)?;
    if !row.scoped {
        return Err(Error::bad_request("This database is not scoped: its members see everything already.").into());
    }
    if grant.to == grant.granted_by {
        return Err(Error::bad_request("Nobody can grant something to themselves.").into());
    }
    if grant.until <= grant.from.max(now) {
        return Err(Error::bad_request("`until` must be later than `from` and in the future.").into());
    }
    let line = line_of(batch, row.id, &grant.place)?;
    // A granter who does not hold the place is told the same, whether it exists or not.
    let unknown = || Error::not_found(format!("There is no place {} that you hold.", grant.place));
    let line = line.ok_or_else(unknown)?;
    if !grant.by_administrator && holds(batch, row.id, &grant.granted_by, &line)?.is_empty() {
        return Err(unknown().into());
    }
    if !still_held(batch, row.id, grant)? {
        let reason = "You cannot grant more than you hold: choose a smaller depth, or `read`.";
        return Err(Error::new(ErrorKind::Forbidden, reason).into());
    }
    let to = batch.get(&ACCOUNTS, &grant.to)?.filter(|account| account.is_open() && account.epoch > 0);
    let to = to.ok_or_else(|| Error::not_found(format!("There is no account {}.", grant.to)))?;
    if to.roles.iter().any(|role| role == STEWARD) {
        return Err(Error::bad_request(format!("{} sees everything already.", grant.to)).into());
    }
    if only_manages(&to.roles) {
        let reason = format!("{} only manages accounts or audits, and so can see no place.", grant.to);
        return Err(Error::bad_request(reason).into());
    }
    let live = list(batch, Some(&grant.to))?.iter().filter(|known| known.revoked_at == 0 && known.until > now).count();
    if live >= MOST_GRANTS {
        return Err(Error::bad_request(format!("{} has {MOST_GRANTS} grants already.", grant.to)).into());
    }
    batch.put(&GRANTS, &GrantKey { to: grant.to.clone(), id: grant.id.clone() }, grant);
    audit_entry(batch, grant, "grant.make", &grant.granted_by, Some(&grant.reason), now)?;
    settle_account(batch, &grant.to, now)?;
    Ok(())
}

/// Ends a grant. Only its granter, its receiver and those who manage accounts may: `may_end` decides.
///
/// # Errors
/// `404` when there is none that the caller may end.
pub fn revoke(
    batch: &mut Batch<'_>,
    id: &str,
    by: &str,
    may_end: impl Fn(&Grant) -> bool,
    reason: Option<&str>,
    now: u64,
) -> DocumentResult<bool> {
    let grant = list(batch, None)?.into_iter().find(|grant| grant.id == id && may_end(grant));
    let grant = grant.ok_or_else(Error::missing)?;
    if grant.revoked_at > 0 || now >= grant.until {
        return Ok(false);
    }
    end(batch, &grant, by, reason, now)?;
    settle_account(batch, &grant.to, now)?;
    Ok(true)
}

fn end(batch: &mut Batch<'_>, grant: &Grant, by: &str, reason: Option<&str>, now: u64) -> StorageResult<()> {
    let ended = Grant { revoked_at: now, revoked_by: by.to_owned(), ..grant.clone() };
    batch.put(&GRANTS, &GrantKey { to: grant.to.clone(), id: grant.id.clone() }, &ended);
    ledger::append(batch, &Line::GrantEnded { to: grant.to.clone(), grant: grant.id.clone(), at: now })?;
    audit_entry(batch, grant, "grant.revoke", by, reason, now)
}

fn audit_entry(
    batch: &mut Batch<'_>,
    grant: &Grant,
    action: &str,
    by: &str,
    reason: Option<&str>,
    now: u64,
) -> StorageResult<()> {
    let entry = Entry::new(now, by, action).account(&grant.to).database(&grant.database).place(&grant.place);
    let entry = entry.reason(reason).detail("grant", grant.id.as_str()).detail("granted_by", grant.granted_by.as_str());
    let rights = if grant.write { "write" } else { "read" };
    let entry = entry.detail("rights", rights).detail("from", grant.from).detail("until", grant.until);
    audit::append(batch, &entry.detail("depth", grant.depth).detail("report_depth", grant.report_depth))
}

/// Lets the scopes of one account know which grants count now.
fn settle_account(batch: &mut Batch<'_>, account: &str, now: u64) -> StorageResult<()> {
    let mut by_database: BTreeMap<String, Vec<Granted>> = BTreeMap::new();
    for grant in list(batch, Some(account))? {
        let granted = by_database.entry(grant.database.clone()).or_default();
        let Some(row) = batch.get(&DATABASES, &grant.database)?.filter(|row| row.scoped) else { continue };
        if !grant.is_active(now) {
            continue;
        }
        if still_held(batch, row.id, &grant)? {
            let Grant { place, depth, report_depth, write, .. } = grant;
            granted.push(Granted { place, depth, report_depth: report_depth.or(depth), write });
        } else {
            end(batch, &grant, "", Some("The granter no longer holds the place."), now)?;
        }
    }
    retire_guest(batch, account, now)?;
    for (database, mut granted) in by_database {
        granted.sort_unstable();
        granted.dedup();
        if let Some(row) = batch.get(&DATABASES, &database)? {
            note_grants(batch, row.id, account, granted)?;
        }
    }
    Ok(())
}

/// Retires an account that was made for a grant once that is over, unless it got a place or another grant meanwhile.
fn retire_guest(batch: &mut Batch<'_>, account: &str, now: u64) -> StorageResult<()> {
    let grants = list(batch, Some(account))?;
    let over = |grant: &Grant| grant.revoked_at > 0 || now >= grant.until;
    let Some(drain) = grants.iter().find_map(|grant| grant.drain).filter(|_| grants.iter().all(over)) else {
        return Ok(());
    };
    let row = batch.get(&ACCOUNTS, &account.to_owned())?.unwrap_or_default();
    if row.exists && row.is_open() && row.places.is_empty() {
        let reason = Some("The grant that it was made for has ended.".to_owned());
        withdrawals::close(batch, account, Closed::Retired, drain, &Actor { now, reason, ..Actor::default() })?;
    }
    Ok(())
}

/// Ends a grant in restored data, as the ledger tells; [`settle_all`] comes afterwards.
///
/// # Errors
/// When the store fails.
pub(super) fn end_again(batch: &mut Batch<'_>, to: &str, id: &str, at: u64) -> StorageResult<()> {
    let key = GrantKey { to: to.to_owned(), id: id.to_owned() };
    if let Some(grant) = batch.get(&GRANTS, &key)?.filter(|grant| grant.revoked_at == 0) {
        batch.put(&GRANTS, &key, &Grant { revoked_at: at, ..grant });
    }
    Ok(())
}

/// Lets every grant begin or end that is due, and ends those whose granter no longer holds the place.
///
/// # Errors
/// When the store fails.
pub fn settle_all(batch: &mut Batch<'_>, now: u64) -> StorageResult<()> {
    let accounts: BTreeSet<String> = list(batch, None)?.into_iter().map(|grant| grant.to).collect();
    for account in accounts {
        settle_account(batch, &account, now)?;
    }
    Ok(())
}

/// When [`settle_all`] has something to do next by itself.
///
/// # Errors
/// When the store fails.
pub fn next_due(reader: &impl Read, now: u64) -> StorageResult<Option<u64>> {
    Ok(list(reader, None)?.iter().filter_map(|grant| grant.next_change(now)).min())
}
