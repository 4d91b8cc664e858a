//! Escrow: refused work, kept until it is judged (design §6.5, S12).
//!
//! A refused revision is stored here with its sender and a reason, in the batch of the push. To the device that sent it the
//! revision is known, to everybody else it does not exist. Records about an unknown subject wait under that subject's key
//! and are admitted by `judging.rs` when it appears; the rest waits for a steward.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use settle_protocol::Revision;

use super::attachments::{ArrivedBytes, refer, release};
use super::devices::{DEVICES, DeviceKey};
use super::tables::{DatabaseId, short_hash};
use super::write::{Mode, Source, Write, WriteAttachment};
use crate::access::placement::of_key;
use crate::storage::{Batch, Family, Key, Range, Read, StorageError, StorageResult, Table, Value};

/// database, number → refused revision
pub const ESCROW: Table<EscrowKey, EscrowRow> = Table::new(Family::Escrow);

const CORRUPT: StorageError = StorageError::Corrupt { table: "escrow", problem: "malformed value" };

/// Why a revision is not in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A record about somebody who is not known (yet).
    UnknownSubject,
    /// A kind of document that only administrators write, or a change of roles.
    Reserved,
    /// Everything else.
    OutOfScope,
}

impl Reason {
    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::UnknownSubject => "unknown_subject",
            Self::Reserved => "reserved",
            Self::OutOfScope => "out_of_scope",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Reserved => "reserved: documents of this kind, and roles, are changed by administrators only.",
            // One sentence for both: whether a foreign patient exists is nobody's business.
            Self::UnknownSubject | Self::OutOfScope => {
                "This document is not about a person or place of your area. If it is about somebody new, save them first; \
                 else ask a supervisor to check your area."
            }
        }
    }
}

/// Key of an escrowed revision.
#[derive(Debug, Clone, Copy)]
pub struct EscrowKey(pub DatabaseId, pub u64);

impl Key for EscrowKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
        out.push(b'n');
        out.extend_from_slice(&self.1.to_be_bytes());
    }
}

/// A refused revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscrowRow {
    /// Which document.
    pub id: String,
    /// Its history, newest first.
    pub path: Vec<String>,
    /// A tombstone.
    pub deleted: bool,
    /// Its members.
    pub body: String,
    /// Its attachments; the bytes are kept as those of any document.
    pub attachments: Vec<KeptAttachment>,
    /// Who sent it.
    pub account: String,
    /// On which device.
    pub device: [u8; 16],
    /// Why it was refused.
    pub reason: Reason,
    /// Seconds since 1970.
    pub received: u64,
    /// The key of the subject it waits for.
    pub waiting_for: Option<String>,
}

/// An attachment in escrow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAttachment {
    name: String,
    content_type: String,
    revpos: Option<u64>,
    /// BLAKE3, MD5, length; `None` for a stub.
    bytes: Option<([u8; 32], [u8; 16], u64)>,
}

impl Value for EscrowRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
        serde_json::to_writer(out, self).unwrap_or_default();
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes.strip_prefix(&[1])?).ok()
    }
}

impl EscrowRow {
    /// The revision itself.
    #[must_use]
    pub fn revision(&self) -> &str {
        self.path.first().map_or("", String::as_str)
    }

    /// What is to be written when it is admitted.
    #[must_use]
    pub fn write(&self) -> Write {
        let path = self.path.iter().filter_map(|text| Revision::parse(text).ok()).collect();
        let attachments = self.attachments.iter().map(|kept| WriteAttachment {
            name: kept.name.clone(),
            content_type: kept.content_type.clone(),
            revpos: kept.revpos,
            source: match kept.bytes {
                Some((address, md5, length)) => Source::Arrived(ArrivedBytes { address, md5, length, bytes: None }),
                None => Source::Stub,
            },
        });
        Write {
            id: self.id.clone(),
            mode: Mode::Replicated { path },
            deleted: self.deleted,
            body: self.body.clone(),
            attachments: attachments.collect(),
            user: None,
            facts: None,
        }
    }

    fn bytes(&self) -> u64 {
        let attached: u64 = self.attachments.iter().filter_map(|kept| kept.bytes).map(|(_, _, length)| length).sum();
        self.body.len() as u64 + attached
    }
}

fn by_document(database: DatabaseId, id: &str) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"d", &short_hash("d", id.as_bytes())].concat()
}

fn by_subject(database: DatabaseId, key: &str) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"w", &of_key(key)].concat()
}

fn by_account(database: DatabaseId, account: &str) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"a", &short_hash("a", account.as_bytes())].concat()
}

fn counter(database: DatabaseId) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"c"].concat()
}

fn indexes(database: DatabaseId, row: &EscrowRow) -> Vec<Vec<u8>> {
    let mut prefixes = vec![by_document(database, &row.id)];
    if let Some(key) = &row.waiting_for {
        prefixes.push(by_subject(database, key));
        prefixes.push(by_account(database, &row.account));
    }
    prefixes
}

fn numbers(reader: &impl Read, prefix: &[u8]) -> StorageResult<Vec<u64>> {
    let mut numbers = Vec::new();
    reader.scan(Family::Escrow, &Range::prefix(prefix), &mut |key, _| {
        let tail = key.get(prefix.len()..).and_then(|tail| tail.try_into().ok());
        numbers.push(tail.map(u64::from_be_bytes).ok_or(CORRUPT)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(numbers)
}

/// Numbers of what waits for a subject key.
///
/// # Errors
/// When the store fails.
pub fn waiting_for(reader: &impl Read, database: DatabaseId, key: &str) -> StorageResult<Vec<u64>> {
    if live(reader, database)? == 0 {
        return Ok(Vec::new());
    }
    numbers(reader, &by_subject(database, key))
}

/// Numbers of what waits for subjects and was sent by an account.
///
/// # Errors
/// When the store fails.
pub fn waiting_of(reader: &impl Read, database: DatabaseId, account: &str) -> StorageResult<Vec<u64>> {
    if live(reader, database)? == 0 {
        return Ok(Vec::new());
    }
    numbers(reader, &by_account(database, account))
}

/// Revisions of a document that this device has in escrow.
///
/// # Errors
/// When the store fails.
pub fn held_for(reader: &impl Read, database: DatabaseId, id: &str, device: &[u8; 16]) -> StorageResult<Vec<String>> {
    let mut held = Vec::new();
    if live(reader, database)? == 0 {
        return Ok(held);
    }
    for number in numbers(reader, &by_document(database, id))? {
        if let Some(row) = reader.get(&ESCROW, &EscrowKey(database, number))?
            && row.device == *device
        {
            held.push(row.revision().to_owned());
        }
    }
    Ok(held)
}

/// Everything in escrow, oldest first.
///
/// # Errors
/// When the store fails.
pub fn list(reader: &impl Read, database: DatabaseId) -> StorageResult<Vec<(u64, EscrowRow)>> {
    let prefix = [&database.to_be_bytes()[..], b"n"].concat();
    let mut rows = Vec::new();
    reader.scan(Family::Escrow, &Range::prefix(&prefix), &mut |key, row| {
        let tail = key.get(prefix.len()..).and_then(|tail| tail.try_into().ok());
        rows.push((tail.map(u64::from_be_bytes).ok_or(CORRUPT)?, ESCROW.decode(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

/// Who sends, and why it is refused.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// The account.
    pub account: &'a str,
    /// Its device.
    pub device: [u8; 16],
    /// Seconds since 1970.
    pub now: u64,
    /// Why.
    pub reason: Reason,
    /// The key of the subject it waits for.
    pub waiting_for: Option<&'a str>,
}

/// Keeps a refused revision. One that this device already has here is not kept twice.
///
/// # Errors
/// When the store fails.
pub fn keep(
    batch: &mut Batch<'_>,
    database: DatabaseId,
    write: &Write,
    path: &[Revision],
    refusal: Refusal<'_>,
) -> StorageResult<()> {
    let newest = path.first().map(ToString::to_string).unwrap_or_default();
    if held_for(batch, database, &write.id, &refusal.device)?.contains(&newest) {
        return Ok(());
    }
    let mut attachments = Vec::with_capacity(write.attachments.len());
    for attachment in &write.attachments {
        let bytes = match &attachment.source {
            Source::Arrived(arrived) => {
                refer(batch, database, arrived)?;
                Some((arrived.address, arrived.md5, arrived.length))
            }
            Source::Stub => None,
        };
        let (name, content_type) = (attachment.name.clone(), attachment.content_type.clone());
        attachments.push(KeptAttachment { name, content_type, revpos: attachment.revpos, bytes });
    }
    let row = EscrowRow {
        id: write.id.clone(),
        path: path.iter().map(ToString::to_string).collect(),
        deleted: write.deleted,
        body: write.body.clone(),
        attachments,
        account: refusal.account.to_owned(),
        device: refusal.device,
        reason: refusal.reason,
        received: refusal.now,
        waiting_for: refusal.waiting_for.map(str::to_owned),
    };
    let last = batch.get_bytes(Family::Escrow, &counter(database))?;
    let number = last.and_then(|bytes| bytes.try_into().ok()).map_or(1, |last| u64::from_be_bytes(last) + 1);
    batch.put_bytes(Family::Escrow, counter(database), number.to_be_bytes());
    batch.put(&ESCROW, &EscrowKey(database, number), &row);
    for prefix in indexes(database, &row) {
        batch.put_bytes(Family::Escrow, [prefix.as_slice(), &number.to_be_bytes()].concat(), Vec::new());
    }
    count(batch, database, &row, true)
}

/// Takes a revision out of escrow: it was admitted or discarded.
///
/// # Errors
/// When the store fails.
pub fn remove(batch: &mut Batch<'_>, database: DatabaseId, number: u64, row: &EscrowRow) -> StorageResult<()> {
    for (address, _, _) in row.attachments.iter().filter_map(|kept| kept.bytes) {
        release(batch, database, address)?;
    }
    for prefix in indexes(database, row) {
        batch.delete_bytes(Family::Escrow, [prefix.as_slice(), &number.to_be_bytes()].concat());
    }
    batch.delete(&ESCROW, &EscrowKey(database, number));
    batch.put_bytes(Family::Escrow, was_here(database, &row.id, &row.device), Vec::new());
    count(batch, database, row, false)
}

fn was_here(database: DatabaseId, id: &str, device: &[u8; 16]) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"x", &short_hash("d", id.as_bytes()), device].concat()
}

/// Whether a document of this device was once in escrow and was decided about: it may still be on the device.
///
/// # Errors
/// When the store fails.
pub fn was_held_for(reader: &impl Read, database: DatabaseId, id: &str, device: &[u8; 16]) -> StorageResult<bool> {
    Ok(reader.get_bytes(Family::Escrow, &was_here(database, id, device))?.is_some())
}

fn live_key(database: DatabaseId) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"l"].concat()
}

/// How many revisions are in escrow.
///
/// # Errors
/// When the store fails.
pub fn live(reader: &impl Read, database: DatabaseId) -> StorageResult<u64> {
    let stored = reader.get_bytes(Family::Escrow, &live_key(database))?;
    Ok(stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes))
}

fn sent_again(database: DatabaseId, id: &str, device: &[u8; 16], revision: &Revision) -> Vec<u8> {
    let mut key = [&database.to_be_bytes()[..], b"k", &short_hash("d", id.as_bytes()), device].concat();
    revision.write_to(&mut key);
    key
}

/// Notes that a device sent a revision that was stored already. From then on it is told that the revision is here, as it would
/// be if it had gone to escrow: so it can tell neither apart, and need not send it for ever.
pub fn note_sent_again(batch: &mut Batch<'_>, database: DatabaseId, id: &str, device: &[u8; 16], revision: &Revision) {
    batch.put_bytes(Family::Escrow, sent_again(database, id, device, revision), Vec::new());
}

/// Whether a device sent a revision that was stored already.
///
/// # Errors
/// When the store fails.
pub fn was_sent_again(
    reader: &impl Read,
    database: DatabaseId,
    id: &str,
    device: &[u8; 16],
    revision: &Revision,
) -> StorageResult<bool> {
    Ok(reader.get_bytes(Family::Escrow, &sent_again(database, id, device, revision))?.is_some())
}

/// How many revisions were ever taken out of escrow.
///
/// # Errors
/// When the store fails.
pub fn taken_out(reader: &impl Read, database: DatabaseId) -> StorageResult<u64> {
    let last = reader.get_bytes(Family::Escrow, &counter(database))?;
    let last = last.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
    Ok(last.saturating_sub(live(reader, database)?))
}

/// Takes a revision out of escrow that is stored now, whoever brought it.
///
/// # Errors
/// When the store fails.
pub fn settle(batch: &mut Batch<'_>, database: DatabaseId, id: &str, revision: &Revision) -> StorageResult<()> {
    if live(batch, database)? == 0 {
        return Ok(());
    }
    let revision = revision.to_string();
    for number in numbers(batch, &by_document(database, id))? {
        if let Some(row) = batch.get(&ESCROW, &EscrowKey(database, number))?
            && row.revision() == revision
        {
            remove(batch, database, number, &row)?;
        }
    }
    Ok(())
}

fn count(batch: &mut Batch<'_>, database: DatabaseId, row: &EscrowRow, more: bool) -> StorageResult<()> {
    let live = live(batch, database)?;
    let live = if more { live + 1 } else { live.saturating_sub(1) };
    batch.put_bytes(Family::Escrow, live_key(database), live.to_be_bytes());
    let key = DeviceKey(database, row.device);
    let mut device = batch.get(&DEVICES, &key)?.unwrap_or_default();
    device.account.clone_from(&row.account);
    if more {
        device.escrowed += 1;
        device.escrowed_bytes += row.bytes();
    } else {
        device.escrowed = device.escrowed.saturating_sub(1);
        device.escrowed_bytes = device.escrowed_bytes.saturating_sub(row.bytes());
    }
    batch.put(&DEVICES, &key, &device);
    Ok(())
}
