//! Devices: one installation of a client each, whose it is, and what happened to it (design §7.2).
//!
//! A client that names itself at login is one device of its account for ever; one that does not is a device for each session,
//! with Basic one for each account and epoch. What a device was told of a database is kept elsewhere
//! (`documents/devices.rs`), under the same 16 bytes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::standing::{Evidence, Withdrawal};
use crate::storage::{Batch, Family, Key, Range, Read, StorageError, StorageResult, Table, Value};

/// What tells devices apart.
pub type DeviceId = [u8; 16];

/// account, device → what is known of it
pub const ENROLMENTS: Table<EnrolmentKey, Enrolment> = Table::new(Family::Enrolments);

const OF_ACCOUNT: u8 = b'a';
const OF_DEVICE: u8 = b'd';

/// Key of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnrolmentKey {
    account: [u8; 16],
    device: DeviceId,
}

impl EnrolmentKey {
    /// Of a device of an account.
    #[must_use]
    pub fn new(account: &str, device: DeviceId) -> Self {
        Self { account: short_hash("a", account.as_bytes()), device }
    }
}

impl Key for EnrolmentKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(OF_ACCOUNT);
        out.extend_from_slice(&self.account);
        out.extend_from_slice(&self.device);
    }
}

/// The first 16 bytes of BLAKE3 over a tag, a zero byte, and bytes.
fn short_hash(tag: &str, bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tag.as_bytes()).update(b"\0").update(bytes);
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}

/// The device of a session whose client did not name itself.
#[must_use]
pub fn of_session(fingerprint: &[u8; 32]) -> DeviceId {
    short_hash("session", fingerprint)
}

/// The device of everybody who shows an account's password of an epoch.
#[must_use]
pub fn of_password(account: &str, epoch: u64) -> DeviceId {
    short_hash("basic", format!("{account}\0{epoch}").as_bytes())
}

/// The device that a client of an account names itself.
#[must_use]
pub fn of_client(account: &str, client: &str) -> DeviceId {
    short_hash("device", format!("{account}\0{client}").as_bytes())
}

/// How a device came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It names itself.
    Named,
    /// A session without a name.
    #[default]
    Session,
    /// Basic authentication.
    Basic,
}

/// What the console calls itself as a program: a browser that holds no work, so its silence means nothing.
pub const CONSOLE_APP: &str = "Settle console";

/// A device. Times are seconds since 1970, 0: never.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Enrolment {
    /// Whose.
    pub account: String,
    /// How it came to be known.
    pub kind: Kind,
    /// The id it gave itself.
    pub client: String,
    /// What its owner calls it.
    pub name: String,
    /// Its program and version.
    pub app: String,
    /// When it was first seen.
    pub enrolled: u64,
    /// When it last called, to within [`SEEN_SECONDS`].
    pub seen: u64,
    /// The epoch of the account at its last login.
    pub epoch: u64,
    /// Its last push.
    pub pushed: u64,
    /// Databases that it has a copy of, as far as the server knows: it pushed or wrote a checkpoint. With its last push there.
    pub databases: BTreeMap<String, u64>,
    /// When it last wrote a checkpoint.
    pub checkpointed: u64,
    /// Documents it said are not pushed yet, the time of the oldest, and when it said so.
    pub pending: Option<Pending>,
    /// When it first called after the withdrawal of its credentials.
    pub first_contact: u64,
    /// The withdrawal of this device alone.
    pub ended: Option<Withdrawal>,
    /// When it was cut.
    pub cut: Option<u64>,
    /// That everything it held has arrived.
    pub drained: Option<Drained>,
    /// The order to erase itself.
    pub wipe: Option<Wipe>,
    /// When it last called although it had said that it was erased.
    pub alarm: u64,
    /// When somebody was told that it is silent; a call ends the silence.
    pub silence: u64,
}

/// What a device says it has not pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Documents.
    pub documents: u64,
    /// The time of the oldest; 0: not told.
    pub oldest: u64,
    /// When it said so.
    pub told: u64,
}

/// That everything a device held has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Since when.
    pub at: u64,
    /// The epoch of the credentials that it worked with.
    #[serde(default)]
    pub epoch: u64,
    /// How that is known.
    pub evidence: Evidence,
    /// Who overrode, if somebody did.
    #[serde(default)]
    pub by: Vec<String>,
}

/// An order to erase.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Wipe {
    /// What the device gives back when it reports.
    pub order: String,
    /// When it was given; 0: it waits for a second person.
    pub ordered_at: u64,
    /// Who asked.
    pub by: String,
    /// When.
    pub asked_at: u64,
    /// Why.
    pub reason: String,
    /// When the device said that it is erased.
    pub reported_at: u64,
    /// The databases that it said it erased.
    pub erased: Vec<String>,
}

/// How far behind `seen` may be.
pub const SEEN_SECONDS: u64 = 300;

const VERSION: u8 = 1;

impl Value for Enrolment {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        serde_json::to_writer(out, self).unwrap_or_default();
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes.strip_prefix(&[VERSION])?).ok()
    }
}

/// A device; one that nothing is known of yet is as good as new.
///
/// # Errors
/// When the store fails.
pub fn find(reader: &impl Read, account: &str, device: DeviceId) -> StorageResult<Option<Enrolment>> {
    reader.get(&ENROLMENTS, &EnrolmentKey::new(account, device))
}

/// The account of a device.
///
/// # Errors
/// When the store fails.
pub fn account_of(reader: &impl Read, device: DeviceId) -> StorageResult<Option<String>> {
    let stored = reader.get_bytes(Family::Enrolments, &index_key(device))?;
    Ok(stored.map(|name| String::from_utf8_lossy(&name).into_owned()))
}

/// Writes a device.
pub fn put(batch: &mut Batch<'_>, device: DeviceId, row: &Enrolment) {
    batch.put_bytes(Family::Enrolments, index_key(device), row.account.clone().into_bytes());
    batch.put(&ENROLMENTS, &EnrolmentKey::new(&row.account, device), row);
}

/// Forgets a device that left nothing behind.
pub fn forget(batch: &mut Batch<'_>, device: DeviceId, account: &str) {
    batch.delete_bytes(Family::Enrolments, index_key(device));
    batch.delete(&ENROLMENTS, &EnrolmentKey::new(account, device));
}

fn index_key(device: DeviceId) -> Vec<u8> {
    [&[OF_DEVICE][..], &device].concat()
}

/// Devices of one account, or of all, in the order of their ids.
///
/// # Errors
/// When the store fails.
pub fn list(
    reader: &impl Read,
    account: Option<&str>,
    mut visit: impl FnMut(DeviceId, Enrolment),
) -> StorageResult<()> {
    const CORRUPT: StorageError = StorageError::Corrupt { table: "enrolments", problem: "malformed key" };
    let mut prefix = vec![OF_ACCOUNT];
    prefix.extend(account.map(|account| short_hash("a", account.as_bytes())).into_iter().flatten());
    reader.scan(Family::Enrolments, &Range::prefix(&prefix), &mut |key, row| {
        let device = key.get(17..).and_then(|device| device.try_into().ok()).ok_or(CORRUPT)?;
        visit(device, ENROLMENTS.decode(row)?);
        Ok(ControlFlow::Continue(()))
    })
}
