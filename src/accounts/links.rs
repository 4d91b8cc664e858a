//! Links: one-time login tokens for accounts (design §7.1). A token is 256 random bits; only its fingerprint is stored.
//!
//! An account has at most one link that works: a new one ends the one before, and so does whatever ends the account's epoch
//! or closes it. A link is used once, also by two who come at the same moment: using it is a write. What is over stays for
//! a while, so that whoever comes with it is told why it does not work.

use std::ops::ControlFlow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::error::AccountError;
use super::login::LoginError;
use super::outbox::{self, MessageId};
use super::tables::{ACCOUNTS, AccountRow};
use super::withdrawals::Actor;
use crate::audit::{self, Entry};
use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, from_json_row, json_row};

const TOKEN_BYTES: usize = 32;
const OF_TOKEN: u8 = b't';
const OF_ACCOUNT: u8 = b'a';
/// Seconds for which a link that is over is remembered.
const REMEMBERED_SECONDS: u64 = 30 * 24 * 3600;
const CORRUPT: StorageError = StorageError::Corrupt { table: "links", problem: "malformed row" };

/// What is stored of a token.
pub type LinkFingerprint = [u8; 32];

/// A link, without its token. Times are seconds since 1970, 0: never.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LinkRow {
    /// Whose.
    pub account: String,
    /// The account's epoch when it was made; another epoch ends it.
    pub epoch: u64,
    /// When it was made.
    pub made: u64,
    /// When it stops working.
    pub expires: u64,
    /// When it was used.
    pub used: u64,
    /// When another one took its place.
    pub ended: u64,
}

/// A link that was just made: the only time its token is known.
#[derive(Clone, PartialEq, Eq)]
pub struct FreshLink {
    /// The token, as it stands in an address.
    pub token: String,
    /// Seconds since 1970.
    pub expires: u64,
    /// The message that carries it, if it is sent. Then nobody else is shown the token.
    pub message: Option<MessageId>,
}

impl std::fmt::Debug for FreshLink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FreshLink").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The fingerprint of a token as it stands in an address; `None` for what cannot be one.
#[must_use]
pub fn fingerprint(token: &str) -> Option<LinkFingerprint> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|bytes| bytes.len() == TOKEN_BYTES)?;
    Some(blake3::derive_key("settle 2026 login link", &bytes))
}

fn key_of(fingerprint: &LinkFingerprint) -> Vec<u8> {
    [&[OF_TOKEN][..], fingerprint].concat()
}

/// `a` and the hash of an account's name.
pub(super) fn account_key(account: &str) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"a\0").update(account.as_bytes());
    [&[OF_ACCOUNT][..], &hasher.finalize().as_bytes()[..16]].concat()
}

fn read(bytes: &[u8]) -> StorageResult<LinkRow> {
    from_json_row(bytes).ok_or(CORRUPT)
}

fn put(batch: &mut Batch<'_>, fingerprint: &LinkFingerprint, row: &LinkRow) {
    batch.put_bytes(Family::Links, key_of(fingerprint), json_row(row));
}

fn newest(reader: &impl Read, account: &str) -> StorageResult<Option<(LinkFingerprint, LinkRow)>> {
    let Some(stored) = reader.get_bytes(Family::Links, &account_key(account))? else { return Ok(None) };
    let fingerprint: LinkFingerprint = stored.try_into().map_err(|_| CORRUPT)?;
    Ok(find(reader, &fingerprint)?.map(|row| (fingerprint, row)))
}

/// The newest link of an account.
///
/// # Errors
/// When the store fails.
pub fn of_account(reader: &impl Read, account: &str) -> StorageResult<Option<LinkRow>> {
    Ok(newest(reader, account)?.map(|(_, row)| row))
}

/// Makes a link for an account, which must be there and open. The one before ends. `random`: fresh random bytes; `seconds`:
/// how long it works.
///
/// # Errors
/// `404` for an account that is not there, `403` for one that is closed, or a failure of the store.
pub fn make(
    batch: &mut Batch<'_>,
    account: &str,
    random: [u8; TOKEN_BYTES],
    seconds: u64,
    actor: &Actor,
) -> Result<FreshLink, LoginError> {
    let stored = batch.get(&ACCOUNTS, &account.to_owned())?.filter(|stored| stored.exists);
    let stored = stored.ok_or(AccountError::Missing)?;
    if !stored.is_open() {
        return Err(AccountError::forbidden("This account is closed: enable it first.").into());
    }
    if let Some((earlier, row)) = newest(batch, account)?.filter(|(_, row)| row.used == 0 && row.ended == 0) {
        put(batch, &earlier, &LinkRow { ended: actor.now, ..row });
        outbox::replaced(batch, account, actor)?;
    }
    let token = URL_SAFE_NO_PAD.encode(random);
    let fingerprint = blake3::derive_key("settle 2026 login link", &random);
    let expires = actor.now.saturating_add(seconds);
    let row =
        LinkRow { account: account.to_owned(), epoch: stored.epoch, made: actor.now, expires, ..LinkRow::default() };
    put(batch, &fingerprint, &row);
    batch.put_bytes(Family::Links, account_key(account), fingerprint);
    audit::append(batch, &actor.entry("link.make").account(account).detail("expires", expires))?;
    Ok(FreshLink { token, expires, message: None })
}

/// Ends a link. Nothing happens to one that is over.
///
/// # Errors
/// When the store fails.
pub fn end(batch: &mut Batch<'_>, fingerprint: &LinkFingerprint, actor: &Actor) -> StorageResult<()> {
    let Some(row) = find(batch, fingerprint)?.filter(|row| row.used == 0 && row.ended == 0) else { return Ok(()) };
    put(batch, fingerprint, &LinkRow { ended: actor.now, ..row.clone() });
    audit::append(batch, &actor.entry("link.end").account(&row.account))
}

/// Why a link does not work, in a state of its account; `None`: it does.
#[must_use]
pub fn problem(row: &LinkRow, account: Option<&AccountRow>, now: u64) -> Option<&'static str> {
    let account = account.filter(|account| account.exists && account.is_open());
    if row.used > 0 {
        Some("This link was used already. Ask for a new one.")
    } else if row.ended > 0 || account.is_none_or(|account| account.epoch != row.epoch) {
        Some("This link was ended. Ask for a new one.")
    } else if now >= row.expires {
        Some("This link is too old. Ask for a new one.")
    } else if account.is_some_and(|account| account.needs_second_factor) {
        Some("This account asks for a one-time code, which a link does not have.")
    } else {
        None
    }
}

/// What every token that nobody made is told.
pub const UNKNOWN: &str = "This link is not valid. Ask for a new one.";

/// Uses a link up. Gives its account, which is active from now on if it waited for its person. Two who come at the same moment
/// come one after the other here.
///
/// # Errors
/// `401` with the reason when it does not work, or a failure of the store.
pub fn redeem(
    batch: &mut Batch<'_>,
    fingerprint: &LinkFingerprint,
    now: u64,
) -> Result<(String, AccountRow), LoginError> {
    let row = find(batch, fingerprint)?.ok_or_else(|| AccountError::unauthorized(UNKNOWN))?;
    let account = batch.get(&ACCOUNTS, &row.account)?;
    if let Some(problem) = problem(&row, account.as_ref(), now) {
        return Err(AccountError::unauthorized(problem).into());
    }
    put(batch, fingerprint, &LinkRow { used: now, ..row.clone() });
    outbox::used(batch, &row.account, fingerprint, now)?;
    let mut account = account.unwrap_or_default();
    if account.prepared {
        account.prepared = false;
        batch.put(&ACCOUNTS, &row.account, &account);
        let entry = Entry::new(now, &row.account, "account.activate").account(&row.account);
        audit::append(batch, &entry.detail("made", account.made))?;
    }
    Ok((row.account, account))
}

/// A link that somebody made once.
///
/// # Errors
/// When the store fails.
pub fn find(reader: &impl Read, fingerprint: &LinkFingerprint) -> StorageResult<Option<LinkRow>> {
    reader.get_bytes(Family::Links, &key_of(fingerprint))?.map(|row| read(&row)).transpose()
}

/// Links that have been over for so long that they may be forgotten.
///
/// # Errors
/// When the store fails.
pub fn forgettable(reader: &impl Read, now: u64) -> StorageResult<Vec<LinkFingerprint>> {
    let mut found = Vec::new();
    reader.scan(Family::Links, &Range::prefix(&[OF_TOKEN]), &mut |key, row| {
        if read(row)?.expires.saturating_add(REMEMBERED_SECONDS) < now {
            found.push(key[1..].try_into().map_err(|_| CORRUPT)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Ends every link that still works. For restored data, in which links that were used since look as if they were not.
///
/// # Errors
/// When the store fails.
pub fn end_all(batch: &mut Batch<'_>, now: u64) -> StorageResult<()> {
    let mut working: Vec<(LinkFingerprint, LinkRow)> = Vec::new();
    batch.scan(Family::Links, &Range::prefix(&[OF_TOKEN]), &mut |key, row| {
        let row = read(row)?;
        if row.used == 0 && row.ended == 0 && row.expires > now {
            working.push((key[1..].try_into().map_err(|_| CORRUPT)?, row));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for (fingerprint, row) in working {
        put(batch, &fingerprint, &LinkRow { ended: now, ..row });
    }
    Ok(())
}

/// Forgets a link.
///
/// # Errors
/// When the store fails.
pub fn forget(batch: &mut Batch<'_>, fingerprint: &LinkFingerprint) -> StorageResult<()> {
    let key = key_of(fingerprint);
    if let Some(stored) = batch.get_bytes(Family::Links, &key)? {
        let account = account_key(&read(&stored)?.account);
        if batch.get_bytes(Family::Links, &account)?.as_deref() == Some(fingerprint) {
            batch.delete_bytes(Family::Links, account);
        }
        batch.delete_bytes(Family::Links, key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::tables::Closed;

    #[test]
    fn a_link_works_for_its_epoch_until_it_is_used_ended_or_old() {
        let account = AccountRow { exists: true, epoch: 3, ..AccountRow::default() };
        let link = LinkRow { account: "ann".into(), epoch: 3, made: 10, expires: 100, ..LinkRow::default() };
        assert_eq!(problem(&link, Some(&account), 99), None);
        let word = |link: &LinkRow, account: Option<&AccountRow>, now| {
            problem(link, account, now).unwrap_or_default().split(' ').nth(3).unwrap_or_default().to_owned()
        };
        assert_eq!(word(&link, Some(&account), 100), "too");
        assert_eq!(word(&LinkRow { used: 20, ..link.clone() }, Some(&account), 200), "used");
        assert_eq!(word(&LinkRow { ended: 20, ..link.clone() }, Some(&account), 50), "ended.");
        for other in [
            AccountRow { epoch: 4, ..account.clone() },
            AccountRow { closed: Closed::Disabled, ..account.clone() },
            AccountRow { exists: false, ..account.clone() },
        ] {
            assert_eq!(word(&link, Some(&other), 50), "ended.");
        }
        assert_eq!(word(&link, None, 50), "ended.");
        assert!(problem(&link, Some(&AccountRow { needs_second_factor: true, ..account }), 50).is_some());
    }

    #[test]
    fn only_what_looks_like_a_token_has_a_fingerprint() {
        let token = URL_SAFE_NO_PAD.encode([7; 32]);
        assert_eq!(token.len(), 43);
        assert!(fingerprint(&token).is_some());
        for bad in ["", "x", &token[1..], &format!("{token}A"), &format!("{token}="), &token.replace(&token[..1], "/")]
        {
            assert_eq!(fingerprint(bad), None, "{bad}");
        }
    }
}
