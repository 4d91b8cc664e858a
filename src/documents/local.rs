//! `_local` documents: checkpoints. Never a conflict, never replicated, never in a feed (§1.1.4).
//!
//! Each account has its own; operators share one space. An account never sees another's.

use std::ops::ControlFlow;

use settle_protocol::Error;
use settle_protocol::checkpoint::next_local_revision;
use settle_protocol::listing::ListingOptions;
use settle_protocol::raw_json::write_string;

use super::databases::{Database, still_there};
use super::error::DocumentResult;
use super::tables::{LOCAL, LocalKey, LocalRow, short_hash};
use crate::accounts::caller::Caller;
use crate::storage::{Batch, Family, Range, Read, StorageResult};

/// What every `_local` id begins with.
pub const PREFIX: &str = "_local/";

/// Whose `_local` documents a caller sees.
#[must_use]
pub fn owner(caller: &Caller) -> [u8; 16] {
    match &caller.name {
        _ if caller.is_operator() => [0; 16],
        Some(name) => short_hash("local", name.as_bytes()),
        None => short_hash("local-anonymous", b""),
    }
}

fn key(database: &Database, owner: [u8; 16], id: &str) -> LocalKey {
    let id = id.strip_prefix(PREFIX).unwrap_or(id).to_owned();
    LocalKey { database: database.id(), owner, id }
}

/// The JSON text of a `_local` document; with `revs`, `_revisions` too.
///
/// # Errors
/// `404 missing`, or a failure of the store.
pub fn read(
    reader: &impl Read,
    database: &Database,
    owner: [u8; 16],
    id: &str,
    revisions: bool,
) -> DocumentResult<Vec<u8>> {
    let row = reader.get(&LOCAL, &key(database, owner, id))?.ok_or_else(Error::missing)?;
    Ok(text_of(id, &row, revisions))
}

/// Whether a `_local` document is there.
///
/// # Errors
/// When the store fails.
pub fn exists(reader: &impl Read, database: &Database, owner: [u8; 16], id: &str) -> StorageResult<bool> {
    Ok(reader.get(&LOCAL, &key(database, owner, id))?.is_some())
}

fn text_of(id: &str, row: &LocalRow, revisions: bool) -> Vec<u8> {
    let mut out = b"{\"_id\":".to_vec();
    write_string(&mut out, id);
    out.extend_from_slice(format!(",\"_rev\":\"0-{}\"", row.revision).as_bytes());
    if !row.text.is_empty() {
        out.push(b',');
        out.extend_from_slice(row.text.as_bytes());
    }
    if revisions {
        let text = format!(",\"_revisions\":{{\"start\":0,\"ids\":[\"{}\"]}}", row.revision);
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'}');
    out
}

/// Stores a `_local` document and says its revision: always succeeds.
///
/// # Errors
/// `400` for a `_rev` that is no `0-NUMBER`, `404` when the database is gone, or a failure of the store.
pub fn write(
    batch: &mut Batch<'_>,
    database: &Database,
    owner: [u8; 16],
    id: &str,
    sent: Option<&str>,
    text: String,
) -> DocumentResult<u64> {
    still_there(batch, database)?;
    let revision = next_local_revision(sent)?;
    batch.put(&LOCAL, &key(database, owner, id), &LocalRow { revision, text });
    Ok(revision)
}

/// Removes a `_local` document.
///
/// # Errors
/// `404` when it is not there.
pub fn delete(batch: &mut Batch<'_>, database: &Database, owner: [u8; 16], id: &str) -> DocumentResult<()> {
    let key = key(database, owner, id);
    batch.get(&LOCAL, &key)?.ok_or_else(Error::missing)?;
    batch.delete(&LOCAL, &key);
    Ok(())
}

/// `_local_docs`: the caller's own, in order of bytes.
///
/// # Errors
/// When the store fails.
pub fn list(
    reader: &impl Read,
    database: &Database,
    owner: [u8; 16],
    options: &ListingOptions,
) -> StorageResult<Vec<u8>> {
    let mut rows: Vec<(String, LocalRow)> = Vec::new();
    let prefix = [database.id().to_be_bytes().as_slice(), owner.as_slice()].concat();
    reader.scan(Family::Local, &Range::prefix(&prefix), &mut |key, row| {
        let id = format!("{PREFIX}{}", String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()));
        rows.push((id, LOCAL.decode(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    let mut out = b"{\"total_rows\":null,\"offset\":null,\"rows\":[".to_vec();
    let mut first = true;
    let mut separator = |out: &mut Vec<u8>| {
        out.extend_from_slice(if std::mem::take(&mut first) { b"\n" } else { b",\n" });
    };
    if let Some(keys) = &options.keys {
        for wanted in keys {
            separator(&mut out);
            match wanted.as_str().and_then(|wanted| rows.iter().find(|(id, _)| id == wanted)) {
                Some((id, row)) => write_row(&mut out, id, row, options.include_docs),
                None => out.extend_from_slice(format!("{{\"key\":{wanted},\"error\":\"not_found\"}}").as_bytes()),
            }
        }
    } else {
        if options.descending {
            rows.reverse();
        }
        let in_range = rows.iter().filter(|(id, _)| super::listing::in_range(options, id));
        let limit = usize::try_from(options.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        for (id, row) in in_range.skip(usize::try_from(options.skip).unwrap_or(usize::MAX)).take(limit) {
            separator(&mut out);
            write_row(&mut out, id, row, options.include_docs);
        }
    }
    out.extend_from_slice(b"\n]}\n");
    Ok(out)
}

fn write_row(out: &mut Vec<u8>, id: &str, row: &LocalRow, include_docs: bool) {
    out.extend_from_slice(b"{\"id\":");
    write_string(out, id);
    out.extend_from_slice(b",\"key\":");
    write_string(out, id);
    out.extend_from_slice(format!(",\"value\":{{\"rev\":\"0-{}\"}}", row.revision).as_bytes());
    if include_docs {
        out.extend_from_slice(b",\"doc\":");
        out.extend_from_slice(&text_of(id, row, false));
    }
    out.push(b'}');
}
