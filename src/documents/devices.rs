//! What is known of a device in a scoped database: its last pull, which a late push is judged by (S13), and its escrow.

use serde::{Deserialize, Serialize};
use settle_protocol::sequence::Position;

use super::tables::DatabaseId;
use crate::storage::{Batch, Family, Key, Read, StorageResult, Table, Value};

/// database, device → what is known of it
pub const DEVICES: Table<DeviceKey, DeviceRow> = Table::new(Family::Devices);

/// Key of a device.
#[derive(Debug, Clone, Copy)]
pub struct DeviceKey(pub DatabaseId, pub [u8; 16]);

impl Key for DeviceKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
        out.extend_from_slice(&self.1);
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Whose.
    pub account: String,
    /// What it knows: everything up to this position …
    pub pulled: Option<Position>,
    /// … in the scope of this position.
    pub scope: Position,
    /// Seconds since 1970.
    pub pulled_at: u64,
    /// Seconds since 1970.
    pub pushed_at: u64,
    /// A client that does not ask for lost rows does not learn what it lost: the state (position, scope) that its late
    /// pushes are still judged by, and since when.
    #[serde(default)]
    pub untold: Option<(Position, Position, u64)>,
    /// When it first pushed what only its last pull allows; 0: not since that pull.
    pub draining_since: u64,
    /// Documents of it that wait in escrow.
    pub escrowed: u64,
    /// Their bytes.
    pub escrowed_bytes: u64,
}

impl Value for DeviceRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
        serde_json::to_writer(out, self).unwrap_or_default();
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes.strip_prefix(&[1])?).ok()
    }
}

/// Documents of a device that wait in escrow of a database.
///
/// # Errors
/// When the store fails.
pub fn in_escrow(reader: &impl Read, database: DatabaseId, device: [u8; 16]) -> StorageResult<u64> {
    Ok(reader.get(&DEVICES, &DeviceKey(database, device))?.map_or(0, |row| row.escrowed))
}

/// Notes that a device was told everything up to a position. An old token does not take it back to an older state.
///
/// # Errors
/// When the store fails.
pub fn note_pull(batch: &mut Batch<'_>, key: DeviceKey, account: &str, told: Told, now: u64) -> StorageResult<()> {
    let mut row = batch.get(&DEVICES, &key)?.unwrap_or_default();
    account.clone_into(&mut row.account);
    row.pulled_at = now;
    match row.pulled {
        Some(known) if told.position < known || told.scope < row.scope => {}
        known => {
            row.untold = match (told.with_lost, row.untold) {
                (true, _) => None,
                (false, Some(before)) if now <= before.2 + told.drain_seconds => Some(before),
                (false, _) => known.map(|known| (known, row.scope, now)),
            };
            row.pulled = Some(told.position);
            row.scope = told.scope;
            row.draining_since = 0;
        }
    }
    batch.put(&DEVICES, &key, &row);
    Ok(())
}

/// What a feed told a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Everything up to here …
    pub position: Position,
    /// … in the scope of this position.
    pub scope: Position,
    /// Also what it lost.
    pub with_lost: bool,
    /// How long a state counts that the device was not told the end of.
    pub drain_seconds: u64,
}
