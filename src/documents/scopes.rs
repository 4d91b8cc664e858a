//! Scopes over time: what the settings and each account said, by position of the log (design §6.2).
//!
//! A change of an account or of the settings takes a position in every scoped database it concerns. So the scope of an
//! account can be computed for now and for any earlier position, feeds wake up when it changes, and a token needs to
//! carry only the position of the scope it was given under.

use std::ops::ControlFlow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use settle_protocol::sequence::Position;

use super::databases::Database;
use super::tables::{COUNTERS, DATABASES, DatabaseId, DatabaseKey};
use super::watched::{watch_all_accounts, watch_places_of};
use crate::access::facts::USER_PREFIX;
use crate::access::placement::{Anchor, of_user, short_hash};
use crate::access::scope::{Granted, Member, Scope, ScopeSettings};
use crate::access::view::{Restricted, View};
use crate::accounts::caller::Caller;
use crate::accounts::tables::{ACCOUNTS, AccountRow};
use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, json_row};

/// Who sees everything in a scoped database, beside operators.
pub const STEWARD: &str = "steward";

/// What the audit log calls a change of what settings say about scopes.
pub const SETTINGS_ACTION: &str = "scope.settings";

const CORRUPT: StorageError = StorageError::Corrupt { table: "scopes", problem: "malformed value" };

fn settings_key(database: DatabaseId) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"s"].concat()
}

fn member_key(database: DatabaseId, account: &str) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"m", &short_hash("a", account.as_bytes())].concat()
}

fn deepest_key(database: DatabaseId) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"d"].concat()
}

/// The depth of the deepest line in a database.
///
/// # Errors
/// When the store fails.
pub fn deepest(reader: &impl Read, database: DatabaseId) -> StorageResult<u8> {
    let stored = reader.get_bytes(Family::Scopes, &deepest_key(database))?;
    Ok(stored.and_then(|bytes| bytes.get(1).copied()).unwrap_or_default())
}

/// Notes a deeper line.
pub(super) fn set_deepest(batch: &mut Batch<'_>, database: DatabaseId, depth: u8) {
    batch.put_bytes(Family::Scopes, deepest_key(database), vec![1, depth]);
}

/// The newest row at or before a position, with its position.
fn newest<T: DeserializeOwned>(
    reader: &impl Read,
    prefix: &[u8],
    at: Option<Position>,
) -> StorageResult<Option<(Position, T)>> {
    let end = [prefix, &at.map_or(u64::MAX, |at| at.saturating_add(1)).to_be_bytes()].concat();
    let mut found = None;
    let range = Range::between(prefix.to_vec(), end).reversed();
    reader.scan(Family::Scopes, &range, &mut |key, row| {
        let position = key.get(prefix.len()..).and_then(|tail| tail.try_into().ok()).map(u64::from_be_bytes);
        let value = row.get(1..).and_then(|text| serde_json::from_slice(text).ok());
        found = Some((position.ok_or(CORRUPT)?, value.ok_or(CORRUPT)?));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

fn put<T: Serialize>(batch: &mut Batch<'_>, prefix: &[u8], position: Position, value: &T) {
    batch.put_bytes(Family::Scopes, [prefix, &position.to_be_bytes()].concat(), json_row(value));
}

/// What the settings said about scopes at a position (`None`: now), and the position since which they do.
fn settings_at(
    reader: &impl Read,
    database: DatabaseId,
    at: Option<Position>,
) -> StorageResult<(Position, ScopeSettings)> {
    Ok(newest(reader, &settings_key(database), at)?.unwrap_or_default())
}

/// What an account row says about scopes.
#[must_use]
pub fn member_of(row: &AccountRow) -> Member {
    let (places, contact, roles) = (row.places.clone(), row.contact.clone(), row.roles.clone());
    Member { places, contact, roles, granted: Vec::new() }
}

/// The scope of an account at a position (`None`: now), and the position of the newest change it knows.
///
/// # Errors
/// When the store fails.
pub fn scope_at(
    reader: &impl Read,
    database: DatabaseId,
    account: &str,
    at: Option<Position>,
) -> StorageResult<(Scope, Position)> {
    let (settled, settings) = settings_at(reader, database, at)?;
    let (changed, member) = match newest::<Member>(reader, &member_key(database, account), at)? {
        Some(known) => known,
        // Nothing was ever noted here: the account is as it was when the database was made.
        None => (0, reader.get(&ACCOUNTS, &account.to_owned())?.map(|row| member_of(&row)).unwrap_or_default()),
    };
    Ok((Scope::of(account, &member, &settings), settled.max(changed)))
}

/// The position at which a scope given at `since` ended; `None`: it still holds.
///
/// # Errors
/// When the store fails.
pub fn end_of(
    reader: &impl Read,
    database: DatabaseId,
    account: &str,
    since: Position,
) -> StorageResult<Option<Position>> {
    let first = history(reader, database, account, since)?.into_iter().next();
    Ok(first.map(|(_, end)| end).filter(|end| *end < Position::MAX))
}

/// Every scope that an account had since a position, each with the position at which it ended (the present one with the
/// largest).
///
/// # Errors
/// When the store fails.
pub fn history(
    reader: &impl Read,
    database: DatabaseId,
    account: &str,
    since: Position,
) -> StorageResult<Vec<(Scope, Position)>> {
    let mut changes = Vec::new();
    for prefix in [settings_key(database), member_key(database, account)] {
        let from = [prefix.as_slice(), &(since + 1).to_be_bytes()].concat();
        let to = [prefix.as_slice(), &u64::MAX.to_be_bytes()].concat();
        reader.scan(Family::Scopes, &Range::between(from, to), &mut |key, _| {
            let tail = key.get(prefix.len()..).and_then(|tail| tail.try_into().ok());
            changes.push(tail.map(u64::from_be_bytes).ok_or(CORRUPT)?);
            Ok(ControlFlow::Continue(()))
        })?;
    }
    changes.sort_unstable();
    let mut scopes = vec![(scope_at(reader, database, account, Some(since))?.0, Position::MAX)];
    for change in changes {
        let (scope, _) = scope_at(reader, database, account, Some(change))?;
        if let Some((last, end)) = scopes.last_mut()
            && *last != scope
        {
            *end = change;
            scopes.push((scope, Position::MAX));
        }
    }
    Ok(scopes)
}

/// Notes new settings at the position of their document, if they say something else about scopes. `false`: they do not.
///
/// # Errors
/// When the store fails.
pub fn note_settings(
    batch: &mut Batch<'_>,
    database: DatabaseId,
    position: Position,
    settings: &ScopeSettings,
) -> StorageResult<bool> {
    let (_, known) = settings_at(batch, database, None)?;
    if known.depths != settings.depths {
        watch_all_accounts(batch, database, settings)?;
    }
    let changed = known != *settings;
    if changed {
        put(batch, &settings_key(database), position, settings);
    }
    Ok(changed)
}

/// Notes a changed account in every scoped database, at a new position of each.
///
/// # Errors
/// When the store fails.
pub fn note_member(batch: &mut Batch<'_>, account: &str, before: &AccountRow, now: &AccountRow) -> StorageResult<()> {
    let (before, now) = (member_of(before), member_of(now));
    if before == now {
        return Ok(());
    }
    let mut scoped = Vec::new();
    batch.scan(Family::Databases, &Range::prefix(b""), &mut |_, row| {
        let row = DATABASES.decode(row)?;
        scoped.extend(row.scoped.then_some(row.id));
        Ok(ControlFlow::Continue(()))
    })?;
    for database in scoped {
        let known = newest::<Member>(batch, &member_key(database, account), None)?.map(|(_, known)| known);
        let granted = known.as_ref().map(|known| known.granted.clone()).unwrap_or_default();
        put_member(batch, database, account, known.is_none().then_some(&before), &Member { granted, ..now.clone() })?;
    }
    Ok(())
}

/// Notes which places are granted to an account in a database, at a new position, if these are others than before.
///
/// # Errors
/// When the store fails.
pub fn note_grants(
    batch: &mut Batch<'_>,
    database: DatabaseId,
    account: &str,
    granted: Vec<Granted>,
) -> StorageResult<()> {
    let known = newest::<Member>(batch, &member_key(database, account), None)?.map(|(_, known)| known);
    let is_first = known.is_none();
    let before = match known {
        Some(known) => known,
        None => batch.get(&ACCOUNTS, &account.to_owned())?.map(|row| member_of(&row)).unwrap_or_default(),
    };
    if before.granted == granted {
        return Ok(());
    }
    put_member(batch, database, account, is_first.then_some(&before), &Member { granted, ..before.clone() })
}

/// Writes what is known of an account from a new position on; `first`: what held before, if nothing was noted yet.
fn put_member(
    batch: &mut Batch<'_>,
    database: DatabaseId,
    account: &str,
    first: Option<&Member>,
    now: &Member,
) -> StorageResult<()> {
    let prefix = member_key(database, account);
    if let Some(first) = first {
        put(batch, &prefix, 0, first);
    }
    let mut counters = batch.get(&COUNTERS, &DatabaseKey(database))?.unwrap_or_default();
    counters.position += 1;
    batch.put(&COUNTERS, &DatabaseKey(database), &counters);
    put(batch, &prefix, counters.position, now);
    let (_, settings) = settings_at(batch, database, None)?;
    watch_places_of(batch, database, now, &settings)?;
    let user = of_user(&format!("{USER_PREFIX}{account}"));
    batch.announce(topic(database, &user), counters.position);
    batch.announce(whole(database), counters.position);
    Ok(())
}

/// The topic of everything that happens in a database.
#[must_use]
pub fn whole(database: DatabaseId) -> u64 {
    u64::from(database) << 32
}

/// The topic of what happens under an anchor. Two anchors may share one: followers look for themselves.
#[must_use]
pub fn topic(database: DatabaseId, anchor: &Anchor) -> u64 {
    let short = u32::from_be_bytes([anchor[0], anchor[1], anchor[2], anchor[3]]).max(1);
    whole(database) | u64::from(short)
}

/// What a caller sees of a database.
///
/// # Errors
/// When the store fails.
pub fn view_of(reader: &impl Read, database: &Database, caller: &Caller) -> StorageResult<View> {
    let sees_everything = caller.is_operator() || caller.roles.iter().any(|role| role == STEWARD);
    if !database.row.scoped || sees_everything {
        return Ok(View::Everything);
    }
    let account = caller.name.clone().unwrap_or_default();
    let (scope, scope_position) = scope_at(reader, database.id(), &account, None)?;
    let device = caller.pass.as_ref().map(|pass| pass.device).unwrap_or_default();
    Ok(View::Restricted(Box::new(Restricted { account, device, scope, scope_position })))
}
