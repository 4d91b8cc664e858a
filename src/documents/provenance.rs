//! Who brought a revision of a scoped database, on which device, and when.
//!
//! It stands in the row of the revision's body, which is written at the same time; a row of its own would cost every write
//! one more key. When the body goes (compaction, a history that is cut, a purge), it moves to the family `provenance`.

use settle_protocol::Revision;
use settle_protocol::sequence::Position;

use super::custody::Arrival;
use super::tables::{BODIES, BodyKey, Cluster, DatabaseId, short_hash};
use crate::accounts::standing::Standing;
use crate::storage::{Decoder, Encode, Family, Key, Read, StorageResult, Table, Value};

/// database, document, revision → who brought it, once its body is gone
pub const PROVENANCE: Table<ProvenanceKey, ProvenanceRow> = Table::new(Family::Provenance);

/// Key of a revision's provenance.
#[derive(Debug, Clone)]
pub struct ProvenanceKey {
    /// Its database.
    pub database: DatabaseId,
    /// [`short_hash`] of the document id.
    pub document: [u8; 16],
    /// Which revision.
    pub revision: String,
}

impl ProvenanceKey {
    /// Of a revision of a document.
    #[must_use]
    pub fn new(database: DatabaseId, id: &str, revision: &Revision) -> Self {
        Self { database, document: short_hash("d", id.as_bytes()), revision: revision.to_string() }
    }
}

impl Key for ProvenanceKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.database.to_be_bytes());
        out.extend_from_slice(&self.document);
        out.extend_from_slice(self.revision.as_bytes());
    }
}

/// Who brought a revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProvenanceRow {
    /// The account or operator; empty for the server itself.
    pub account: String,
    /// On which device.
    pub device: [u8; 16],
    /// The position it got.
    pub position: Position,
    /// Seconds since 1970.
    pub time: u64,
    /// Brought by somebody who sees everything: its primary contact counts (S16).
    pub trusted: bool,
    /// What the credentials behind it were worth.
    pub arrival: Arrival,
}

const TRUSTED: u8 = 1;
const AFTER_HANDOVER: u8 = 2;
/// Standings by the two bits above these.
const STANDINGS: [Standing; 3] = [Standing::Active, Standing::Draining, Standing::Drained];
const STANDING_SHIFT: u32 = 2;

impl ProvenanceRow {
    fn flags(&self) -> u8 {
        let standing = STANDINGS.iter().position(|known| *known == self.arrival.standing).unwrap_or_default();
        let flag = |set: bool, bit| if set { bit } else { 0 };
        flag(self.trusted, TRUSTED)
            | flag(self.arrival.after_handover, AFTER_HANDOVER)
            | ((standing as u8) << STANDING_SHIFT)
    }

    /// Appends the bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.flags());
        out.string(self.account.as_bytes());
        out.extend_from_slice(&self.device);
        out.varint(self.position);
        out.varint(self.time);
        out.varint(self.arrival.epoch);
    }

    /// Reads the bytes.
    pub fn read(from: &mut Decoder<'_>) -> Option<Self> {
        let flags = from.byte()?;
        let standing = STANDINGS.get(usize::from(flags >> STANDING_SHIFT)).copied()?;
        let after_handover = flags & AFTER_HANDOVER != 0;
        Some(Self {
            trusted: flags & TRUSTED != 0,
            account: from.text()?.to_owned(),
            device: from.array()?,
            position: from.varint()?,
            time: from.varint()?,
            // Rows of before end here.
            arrival: Arrival { epoch: from.varint().unwrap_or_default(), standing, after_handover },
        })
    }
}

impl Value for ProvenanceRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
        self.write(out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Self::read(&mut super::tables::versioned(bytes)?)
    }
}

/// Who brought a revision; `None` for one that nobody ever brought here. `cluster`: from the row of the document.
///
/// # Errors
/// When the store fails.
pub fn provenance_of(
    reader: &impl Read,
    database: DatabaseId,
    cluster: Cluster,
    id: &str,
    revision: &Revision,
) -> StorageResult<Option<ProvenanceRow>> {
    let body = reader.get(&BODIES, &BodyKey::new(database, cluster, id, revision))?;
    match body.and_then(|body| body.provenance) {
        Some(provenance) => Ok(Some(provenance)),
        None => reader.get(&PROVENANCE, &ProvenanceKey::new(database, id, revision)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_also_those_without_an_epoch() {
        for (standing, trusted, after_handover) in
            [(Standing::Active, true, false), (Standing::Draining, false, true), (Standing::Drained, true, true)]
        {
            let arrival = Arrival { epoch: 7, standing, after_handover };
            let row = ProvenanceRow {
                account: "ann".into(),
                position: 5,
                time: 9,
                trusted,
                arrival,
                ..ProvenanceRow::default()
            };
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            assert_eq!(ProvenanceRow::decode(&bytes), Some(row.clone()));
            bytes.pop();
            let older = Arrival { epoch: 0, ..arrival };
            assert_eq!(ProvenanceRow::decode(&bytes), Some(ProvenanceRow { arrival: older, ..row }));
        }
    }
}
