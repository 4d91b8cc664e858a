//! Which accounts have a programme's own name (`external_id`): what a file that is sent again goes by.
//!
//! The same name may be several accounts': each district may number its people on its own. So this only lists them; who may
//! know of which is decided where it is asked. Kept in the batch of the account's row, by whoever writes that.

use std::ops::ControlFlow;

use super::tables::{ACCOUNTS, AccountRow};
use crate::storage::{Batch, Family, Range, Read, StorageResult};

const PREFIX: &[u8] = b"external/";
/// Every account that is there has its row.
const COMPLETE: &[u8] = b"external_ids";

fn prefix_of(id: &str) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"x\0").update(id.as_bytes());
    [PREFIX, &hasher.finalize().as_bytes()[..16]].concat()
}

fn key_of(id: &str, account: &str) -> Vec<u8> {
    let mut key = prefix_of(id);
    key.extend_from_slice(account.as_bytes());
    key
}

/// Lets the list follow an account's row.
pub fn follow(batch: &mut Batch<'_>, account: &str, before: &AccountRow, now: &AccountRow) {
    let of = |row: &AccountRow| row.external_id.clone().filter(|_| row.exists);
    let (before, now) = (of(before), of(now));
    if before == now {
        return;
    }
    if let Some(id) = before {
        batch.delete_bytes(Family::Meta, key_of(&id, account));
    }
    if let Some(id) = now {
        batch.put_bytes(Family::Meta, key_of(&id, account), Vec::new());
    }
}

/// The accounts with this name, by their own names.
///
/// # Errors
/// When the store fails.
pub fn find(reader: &impl Read, id: &str) -> StorageResult<Vec<(String, AccountRow)>> {
    let prefix = prefix_of(id);
    let mut names = Vec::new();
    reader.scan(Family::Meta, &Range::prefix(&prefix), &mut |key, _| {
        names.push(String::from_utf8_lossy(&key[prefix.len()..]).into_owned());
        Ok(ControlFlow::Continue(()))
    })?;
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        if let Some(row) = reader.get(&ACCOUNTS, &name)?.filter(|row| row.exists) {
            found.push((name, row));
        }
    }
    Ok(found)
}

/// Whether accounts from before there was this list must still be put into it.
///
/// # Errors
/// When the store fails.
pub fn is_incomplete(reader: &impl Read) -> StorageResult<bool> {
    Ok(reader.get_bytes(Family::Meta, COMPLETE)?.is_none())
}

/// Puts accounts into it that were written before there was this list, each with what its document says.
///
/// # Errors
/// When the store fails.
pub fn complete(batch: &mut Batch<'_>, known: Vec<(String, String)>) -> StorageResult<()> {
    for (account, id) in known {
        let Some(before) = batch.get(&ACCOUNTS, &account)?.filter(|row| row.exists) else { continue };
        let row = AccountRow { external_id: Some(id), ..before.clone() };
        follow(batch, &account, &before, &row);
        batch.put(&ACCOUNTS, &account, &row);
    }
    batch.put_bytes(Family::Meta, COMPLETE, vec![1]);
    Ok(())
}
