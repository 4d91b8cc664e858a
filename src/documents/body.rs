//! The bytes of a body: what one revision says, with its attachments and, in a scoped database, who brought it.

use settle_protocol::Revision;
use settle_protocol::attachment::Attachment;
use settle_protocol::revision::Hash;

use super::provenance::ProvenanceRow;
use super::tables::{Cluster, DatabaseId, short_hash};
use crate::storage::{Decoder, Encode, Key, Value};

const VERSION: u8 = 1;
/// Key of a body.
#[derive(Debug, Clone)]
pub struct BodyKey {
    /// Its database.
    pub database: DatabaseId,
    /// From the [`DocumentRow`](super::tables::DocumentRow).
    pub cluster: Cluster,
    /// [`short_hash`] of the document id.
    pub document: [u8; 16],
    /// Which revision.
    pub revision: Revision,
}

impl BodyKey {
    /// The key of a revision of a document.
    #[must_use]
    pub fn new(database: DatabaseId, cluster: Cluster, id: &str, revision: &Revision) -> Self {
        Self { database, cluster, document: short_hash("d", id.as_bytes()), revision: revision.clone() }
    }
}

impl Key for BodyKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.database.to_be_bytes());
        out.extend_from_slice(&self.cluster);
        out.extend_from_slice(&self.document);
        let generation = u32::try_from(self.revision.generation).unwrap_or(u32::MAX);
        out.extend_from_slice(&generation.to_be_bytes());
        match &self.revision.hash {
            Hash::Raw(raw) if generation < u32::MAX => {
                out.push(0);
                out.extend_from_slice(raw);
            }
            _ => {
                out.push(1); // a name that does not fit stands by its hash
                out.extend_from_slice(&short_hash("r", self.revision.to_string().as_bytes()));
            }
        }
    }
}

/// The body of one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// In a scoped database: who brought the revision.
    pub provenance: Option<ProvenanceRow>,
    /// Its attachments, in order.
    pub attachments: Vec<Attachment>,
    /// The members of the document: `"a":1,"b":2`.
    pub text: String,
}

/// The version that begins with provenance.
const WITH_PROVENANCE: u8 = 2;

impl Value for Body {
    fn encode(&self, out: &mut Vec<u8>) {
        match &self.provenance {
            Some(provenance) => {
                out.push(WITH_PROVENANCE);
                provenance.write(out);
            }
            None => out.push(VERSION),
        }
        out.varint(self.attachments.len() as u64);
        for attachment in &self.attachments {
            out.string(attachment.name.as_bytes());
            out.string(attachment.content_type.as_bytes());
            out.varint(attachment.revpos);
            out.varint(attachment.length);
            out.extend_from_slice(&attachment.md5);
            out.extend_from_slice(&attachment.address);
        }
        out.extend_from_slice(self.text.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder::new(bytes);
        let provenance = match from.byte()? {
            VERSION => None,
            WITH_PROVENANCE => Some(ProvenanceRow::read(&mut from)?),
            _ => return None,
        };
        let count = from.varint()?;
        let mut attachments = Vec::new();
        for _ in 0..count {
            attachments.push(Attachment {
                name: from.text()?.to_owned(),
                content_type: from.text()?.to_owned(),
                revpos: from.varint()?,
                length: from.varint()?,
                md5: from.array()?,
                address: from.array()?,
            });
        }
        Some(Self { provenance, attachments, text: std::str::from_utf8(from.rest()).ok()?.to_owned() })
    }
}
