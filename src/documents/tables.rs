//! The tables of databases and documents, and their bytes (`storage/LAYOUT.md`). Only this folder writes them.

use settle_protocol::revision::Hash;
use settle_protocol::revision_tree::Node;
use settle_protocol::sequence::Position;
use settle_protocol::{Revision, RevisionTree};

pub use super::body::{Body, BodyKey};
pub use crate::access::placement::short_hash;
use crate::storage::{Decoder, Encode, Family, Key, StorageError, StorageResult, Table, Value};

/// Number of a database; never used again after a deletion.
pub type DatabaseId = u32;
/// Groups the bodies of one area on disk; zeros in a plain database.
pub type Cluster = [u8; 16];

/// name → database
pub const DATABASES: Table<String, DatabaseRow> = Table::new(Family::Databases);
/// database → counters
pub const COUNTERS: Table<DatabaseKey, Counters> = Table::new(Family::Counters);
/// database, document id → tree
pub const DOCUMENTS: Table<DocumentKey, DocumentRow> = Table::new(Family::Documents);
/// database, cluster, document, revision → body
pub const BODIES: Table<BodyKey, Body> = Table::new(Family::Bodies);
/// database, position → what changed
pub const CHANGES: Table<ChangeKey, ChangeRow> = Table::new(Family::Changes);
/// database, owner, id → `_local` document
pub const LOCAL: Table<LocalKey, LocalRow> = Table::new(Family::Local);
/// database, purge number → what was purged
pub const PURGES: Table<ChangeKey, PurgeRow> = Table::new(Family::Purges);
/// BLAKE3 → attachment
pub const ATTACHMENTS: Table<[u8; 32], AttachmentRow> = Table::new(Family::Attachments);
/// BLAKE3, chunk → bytes
pub const CHUNKS: Table<ChunkKey, Vec<u8>> = Table::new(Family::AttachmentChunks);
/// database, BLAKE3 → references of that database
pub const REFERENCES: Table<ReferenceKey, Count> = Table::new(Family::AttachmentReferences);

const VERSION: u8 = 1;
/// In a [`DatabaseRow`]: scoped, and places are watched.
const SCOPED_AND_WATCHING: u8 = 2;

/// Key of rows that exist once per database.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseKey(pub DatabaseId);

impl Key for DatabaseKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_be_bytes());
    }
}

/// A database as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseRow {
    /// Its number.
    pub id: DatabaseId,
    /// Its identity; part of every feed token.
    pub uuid: [u8; 16],
    /// Seconds since 1970.
    pub created: u64,
    /// Longest history kept (§2.8).
    pub revs_limit: u32,
    /// Purges remembered.
    pub purged_infos_limit: u32,
    /// Members see their scope only (design §6).
    pub scoped: bool,
    /// Records have rows of the feed under watched places only (`watched.rs`); in older databases under all.
    pub watches: bool,
    /// `_security` as JSON text.
    pub security: String,
}

impl Value for DatabaseRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.created.to_be_bytes());
        out.extend_from_slice(&self.revs_limit.to_be_bytes());
        out.extend_from_slice(&self.purged_infos_limit.to_be_bytes());
        out.push(if self.scoped && self.watches { SCOPED_AND_WATCHING } else { u8::from(self.scoped) });
        out.string(self.security.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = versioned(bytes)?;
        let (id, uuid, created) = (from.u32()?, from.array()?, from.u64()?);
        let (revs_limit, purged_infos_limit) = (from.u32()?, from.u32()?);
        let (scoped, watches) = match from.byte()? {
            SCOPED_AND_WATCHING => (true, true),
            scoped => (scoped == 1, false),
        };
        let security = from.text()?.to_owned();
        Some(Self { id, uuid, created, revs_limit, purged_infos_limit, scoped, watches, security })
    }
}

/// What a database counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Newest position of the log.
    pub position: Position,
    /// Documents that are not deleted.
    pub documents: u64,
    /// Documents whose every leaf is a tombstone.
    pub deleted: u64,
    /// Purge requests so far, by document.
    pub purges: u64,
    /// Bytes of the bodies of all stored revisions.
    pub body_bytes: u64,
}

impl Value for Counters {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        for number in [self.position, self.documents, self.deleted, self.purges, self.body_bytes] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = versioned(bytes)?;
        Some(Self {
            position: from.u64()?,
            documents: from.u64()?,
            deleted: from.u64()?,
            purges: from.u64()?,
            body_bytes: from.u64()?,
        })
    }
}

/// Key of a document.
#[derive(Debug, Clone)]
pub struct DocumentKey {
    /// Its database.
    pub database: DatabaseId,
    /// Its id.
    pub id: String,
}

impl DocumentKey {
    /// The bytes for a borrowed id.
    #[must_use]
    pub fn bytes(database: DatabaseId, id: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(4 + id.len());
        key.extend_from_slice(&database.to_be_bytes());
        key.extend_from_slice(id.as_bytes());
        key
    }
}

impl Key for DocumentKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.database.to_be_bytes());
        out.extend_from_slice(self.id.as_bytes());
    }
}

/// All known revisions of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentRow {
    /// Where it stands in the log.
    pub position: Position,
    /// Where its bodies lie.
    pub cluster: Cluster,
    /// A revision of it has, or had, attachments.
    pub attachments: bool,
    /// In a scoped database: where it is filed, as bytes (`filed.rs`). Empty in others.
    pub filed: Vec<u8>,
    /// The tree.
    pub tree: RevisionTree,
}

/// Where the position stands in a stored [`DocumentRow`]: behind version and flags.
const POSITION_IN_ROW: std::ops::Range<usize> = 2..10;

impl DocumentRow {
    /// Changes the position in the bytes of a stored row, without reading the tree.
    pub fn set_position_in(row: &mut [u8], position: Position) {
        if let Some(bytes) = row.get_mut(POSITION_IN_ROW) {
            bytes.copy_from_slice(&position.to_be_bytes());
        }
    }

    /// Where the document is filed, out of the bytes of a stored row; `None` when it is not filed.
    #[must_use]
    pub fn filed_in(row: &[u8]) -> Option<&[u8]> {
        Some(Self::around_filed(row)?.1)
    }

    /// The bytes of a stored row, filed otherwise.
    #[must_use]
    pub fn with_filed(row: &[u8], filed: &[u8]) -> Option<Vec<u8>> {
        let (before, _, after) = Self::around_filed(row)?;
        let mut out = Vec::with_capacity(before.len() + filed.len() + after.len() + 3);
        out.extend_from_slice(before);
        out.string(filed);
        out.extend_from_slice(after);
        Some(out)
    }

    /// What stands before the length of the filed bytes, these bytes, and what follows.
    fn around_filed(row: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
        let mut from = versioned(row)?;
        let (_, flags) = DocumentHead::read(&mut from)?;
        if flags & IS_FILED == 0 {
            return None;
        }
        let before = row.len() - from.rest().len();
        let filed = from.string()?;
        Some((&row[..before], filed, from.rest()))
    }
}

/// The part of a [`DocumentRow`] that listings need: no tree is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentHead {
    /// Every leaf is a tombstone.
    pub deleted: bool,
    /// Where it stands in the log.
    pub position: Position,
    /// Where its bodies lie.
    pub cluster: Cluster,
    /// What a plain `GET` shows.
    pub winner: Revision,
    /// More than one leaf.
    pub conflicted: bool,
}

const DELETED: u8 = 1;
const CONFLICTED: u8 = 2;
const HAS_ATTACHMENTS: u8 = 4;
const IS_FILED: u8 = 8;

impl DocumentHead {
    /// Reads the head of a stored [`DocumentRow`].
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = versioned(bytes)?;
        Self::read(&mut from).map(|(head, _)| head)
    }

    fn read(from: &mut Decoder<'_>) -> Option<(Self, u8)> {
        let flags = from.byte()?;
        let head = Self {
            deleted: flags & DELETED != 0,
            conflicted: flags & CONFLICTED != 0,
            position: from.u64()?,
            cluster: from.array()?,
            winner: read_revision(from)?,
        };
        Some((head, flags))
    }
}

/// Bits of a stored node.
const NODE_DELETED: u8 = 1;
const NODE_STORED: u8 = 2;
/// The node is a child of the one before it.
const NODE_CHILD: u8 = 4;
/// The node has no parent; its generation follows.
const NODE_ROOT: u8 = 8;
/// The hash is 16 raw bytes.
const NODE_RAW: u8 = 16;

impl Value for DocumentRow {
    fn encode(&self, out: &mut Vec<u8>) {
        let leaves = self.tree.leaves();
        let Some(winner) = leaves.first() else { return };
        let flag = |set: bool, bit| if set { bit } else { 0 };
        out.push(VERSION);
        out.push(
            flag(winner.deleted, DELETED)
                | flag(leaves.len() > 1, CONFLICTED)
                | flag(self.attachments, HAS_ATTACHMENTS)
                | flag(!self.filed.is_empty(), IS_FILED),
        );
        out.extend_from_slice(&self.position.to_be_bytes());
        out.extend_from_slice(&self.cluster);
        write_revision(out, &winner.revision);
        if !self.filed.is_empty() {
            out.string(&self.filed);
        }
        out.varint(self.tree.nodes().len() as u64);
        for (at, parent) in preorder(self.tree.nodes()) {
            write_node(out, &self.tree.nodes()[at], parent);
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = versioned(bytes)?;
        let (head, flags) = DocumentHead::read(&mut from)?;
        let filed = if flags & IS_FILED != 0 { from.string()?.to_vec() } else { Vec::new() };
        let count = usize::try_from(from.varint()?).ok()?;
        let mut nodes: Vec<Node> = Vec::with_capacity(count.min(1024));
        for at in 0..count {
            let node = read_node(&mut from, at, &nodes)?;
            nodes.push(node);
        }
        let tree = RevisionTree::from_nodes(nodes).ok()?;
        let attachments = flags & HAS_ATTACHMENTS != 0;
        Some(Self { position: head.position, cluster: head.cluster, attachments, filed, tree })
    }
}

/// Where a node's parent stands among the nodes already written.
enum WrittenParent {
    None,
    JustBefore,
    At(usize),
}

/// Parents before children, a chain without gaps.
fn preorder(nodes: &[Node]) -> Vec<(usize, WrittenParent)> {
    if let [_] = nodes {
        return vec![(0, WrittenParent::None)];
    }
    let mut children = vec![Vec::new(); nodes.len()];
    let mut waiting = Vec::new();
    for (at, node) in nodes.iter().enumerate().rev() {
        match node.parent {
            Some(parent) => children[parent].push(at),
            None => waiting.push((at, None)),
        }
    }
    let mut order: Vec<(usize, WrittenParent)> = Vec::with_capacity(nodes.len());
    while let Some((at, parent)) = waiting.pop() {
        let written = order.len();
        let parent = match parent {
            None => WrittenParent::None,
            Some(place) if place + 1 == written => WrittenParent::JustBefore,
            Some(place) => WrittenParent::At(place),
        };
        order.push((at, parent));
        waiting.extend(children[at].iter().map(|child| (*child, Some(written))));
    }
    order
}

fn write_node(out: &mut Vec<u8>, node: &Node, parent: WrittenParent) {
    let flag = |set: bool, bit| if set { bit } else { 0 };
    let raw = matches!(node.revision.hash, Hash::Raw(_));
    let bits = flag(node.deleted, NODE_DELETED) | flag(node.stored, NODE_STORED) | flag(raw, NODE_RAW);
    match parent {
        WrittenParent::None => {
            out.push(bits | NODE_ROOT);
            out.varint(node.revision.generation);
        }
        WrittenParent::JustBefore => out.push(bits | NODE_CHILD),
        WrittenParent::At(place) => {
            out.push(bits);
            out.varint(place as u64);
        }
    }
    write_hash(out, &node.revision.hash);
}

fn read_node(from: &mut Decoder<'_>, at: usize, before: &[Node]) -> Option<Node> {
    let bits = from.byte()?;
    let (parent, generation) = if bits & NODE_ROOT != 0 {
        (None, from.varint()?)
    } else {
        let parent = if bits & NODE_CHILD != 0 { at.checked_sub(1)? } else { usize::try_from(from.varint()?).ok()? };
        (Some(parent), before.get(parent)?.revision.generation.checked_add(1)?)
    };
    let hash = read_hash(from, bits & NODE_RAW != 0)?;
    let revision = Revision { generation, hash };
    Some(Node { revision, parent, deleted: bits & NODE_DELETED != 0, stored: bits & NODE_STORED != 0 })
}

fn write_hash(out: &mut Vec<u8>, hash: &Hash) {
    match hash {
        Hash::Raw(raw) => out.extend_from_slice(raw),
        Hash::Text(text) => out.string(text.as_bytes()),
    }
}

fn read_hash(from: &mut Decoder<'_>, raw: bool) -> Option<Hash> {
    if raw { from.array().map(Hash::Raw) } else { Some(Hash::Text(from.text()?.into())) }
}

/// A flag byte, so that every `u64` generation fits: 1 raw hash.
pub(super) fn write_revision(out: &mut Vec<u8>, revision: &Revision) {
    out.push(u8::from(matches!(revision.hash, Hash::Raw(_))));
    out.varint(revision.generation);
    write_hash(out, &revision.hash);
}

pub(super) fn read_revision(from: &mut Decoder<'_>) -> Option<Revision> {
    let raw = from.byte()? == 1;
    Some(Revision { generation: from.varint()?, hash: read_hash(from, raw)? })
}

/// Key of a change, and of a purge.
#[derive(Debug, Clone, Copy)]
pub struct ChangeKey {
    /// Its database.
    pub database: DatabaseId,
    /// Its number.
    pub position: Position,
}

impl ChangeKey {
    /// Reads the position out of the bytes of a key.
    #[must_use]
    pub fn position_of(key: &[u8]) -> Option<Position> {
        Decoder::new(key.get(4..)?).u64()
    }
}

impl Key for ChangeKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.database.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }
}

/// The newest change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRow {
    /// Which document.
    pub id: String,
    /// The winner is a tombstone.
    pub deleted: bool,
    /// All leaves, the winner first.
    pub leaves: Vec<Revision>,
}

impl ChangeRow {
    /// The row of a document with this tree; `None` for an empty tree.
    #[must_use]
    pub fn of(id: &str, tree: &RevisionTree) -> Option<Self> {
        let leaves = tree.leaves();
        let deleted = leaves.first()?.deleted;
        Some(Self { id: id.to_owned(), deleted, leaves: leaves.iter().map(|leaf| leaf.revision.clone()).collect() })
    }

    /// The row of a document, out of the bytes of its stored [`DocumentRow`] and the head of these.
    ///
    /// # Errors
    /// When the bytes do not decode.
    pub fn in_document(id: &str, row: &[u8], head: DocumentHead) -> StorageResult<Self> {
        let corrupt = StorageError::Corrupt { table: "documents", problem: "malformed value" };
        match head.conflicted {
            true => Self::of(id, &DOCUMENTS.decode(row)?.tree).ok_or(corrupt),
            false => Ok(Self { id: id.to_owned(), deleted: head.deleted, leaves: vec![head.winner] }),
        }
    }
}

/// A [`ChangeRow`] read in place: a full feed reads millions of them.
#[derive(Debug, Clone, Copy)]
pub struct ChangeView<'a> {
    /// Which document.
    pub id: &'a str,
    /// The winner is a tombstone.
    pub deleted: bool,
    count: u64,
    leaves: Decoder<'a>,
}

impl<'a> ChangeView<'a> {
    /// Reads the bytes of a stored row.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut from = versioned(bytes)?;
        let deleted = from.byte()? & DELETED != 0;
        let id = from.text()?;
        Some(Self { id, deleted, count: from.varint()?, leaves: from })
    }

    /// All leaves, the winner first.
    pub fn leaves(&self) -> impl Iterator<Item = Revision> + use<'a> {
        let mut from = self.leaves;
        (0..self.count).map_while(move |_| read_revision(&mut from))
    }
}

impl Value for ChangeRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(u8::from(self.deleted));
        out.string(self.id.as_bytes());
        out.varint(self.leaves.len() as u64);
        for leaf in &self.leaves {
            write_revision(out, leaf);
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let view = ChangeView::decode(bytes)?;
        let leaves: Vec<Revision> = view.leaves().collect();
        (leaves.len() as u64 == view.count).then(|| Self { id: view.id.to_owned(), deleted: view.deleted, leaves })
    }
}

/// Key of a `_local` document. Each account has its own; operators and an open server share the empty owner.
#[derive(Debug, Clone)]
pub struct LocalKey {
    /// Its database.
    pub database: DatabaseId,
    /// [`short_hash`] of the account name; zeros for the shared space.
    pub owner: [u8; 16],
    /// The id behind `_local/`.
    pub id: String,
}

impl Key for LocalKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.database.to_be_bytes());
        out.extend_from_slice(&self.owner);
        out.extend_from_slice(self.id.as_bytes());
    }
}

/// A `_local` document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalRow {
    /// The number behind `0-`.
    pub revision: u64,
    /// The members: `"a":1,"b":2`.
    pub text: String,
}

impl Value for LocalRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.varint(self.revision);
        out.extend_from_slice(self.text.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = versioned(bytes)?;
        Some(Self { revision: from.varint()?, text: std::str::from_utf8(from.rest()).ok()?.to_owned() })
    }
}

/// What one purge removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeRow {
    /// Which document.
    pub id: String,
    /// The leaves removed.
    pub revisions: Vec<Revision>,
}

impl Value for PurgeRow {
    fn encode(&self, out: &mut Vec<u8>) {
        ChangeRow { id: self.id.clone(), deleted: false, leaves: self.revisions.clone() }.encode(out);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let row = ChangeRow::decode(bytes)?;
        Some(Self { id: row.id, revisions: row.leaves })
    }
}

/// An attachment's bytes: how many, and who refers to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentRow {
    /// Stored revisions that refer to it, in all databases. 0: uploaded, not yet referred to.
    pub references: u64,
    /// Bytes.
    pub length: u64,
}

impl Value for AttachmentRow {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.varint(self.references);
        out.varint(self.length);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = versioned(bytes)?;
        Some(Self { references: from.varint()?, length: from.varint()? })
    }
}

/// Key of a chunk.
#[derive(Debug, Clone, Copy)]
pub struct ChunkKey {
    /// BLAKE3 of the whole attachment.
    pub address: [u8; 32],
    /// Which chunk, from 0.
    pub number: u32,
}

impl Key for ChunkKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.address);
        out.extend_from_slice(&self.number.to_be_bytes());
    }
}

/// Key of the references that one database holds to an attachment.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceKey {
    /// The database.
    pub database: DatabaseId,
    /// BLAKE3 of the attachment.
    pub address: [u8; 32],
}

impl Key for ReferenceKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.database.to_be_bytes());
        out.extend_from_slice(&self.address);
    }
}

/// A plain count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub u64);

impl Value for Count {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.varint(self.0);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self(versioned(bytes)?.varint()?))
    }
}

pub(super) fn versioned(bytes: &[u8]) -> Option<Decoder<'_>> {
    let mut from = Decoder::new(bytes);
    (from.byte()? == VERSION).then_some(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(value: &impl Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    fn hash() -> impl Strategy<Value = Hash> {
        prop_oneof![any::<[u8; 16]>().prop_map(Hash::Raw), "[a-z]{0,5}".prop_map(|text| Hash::Text(text.into()))]
    }

    proptest! {
        #[test]
        fn trees_read_back(paths in proptest::collection::vec(
            (1..5_u64, proptest::collection::vec(hash(), 1..5), any::<bool>()), 1..6), position: u64,
            filed: Vec<u8>, otherwise: Vec<u8>) {
            let mut tree = RevisionTree::default();
            for (bottom, hashes, deleted) in paths {
                let generations = (bottom..bottom + hashes.len() as u64).rev();
                let path: Vec<Revision> =
                    generations.zip(hashes).map(|(generation, hash)| Revision { generation, hash }).collect();
                tree.merge(&path, deleted);
            }
            let row = DocumentRow { position, cluster: [7; 16], attachments: true, filed: filed.clone(), tree };
            let bytes = encoded(&row);
            let back = DocumentRow::decode(&bytes).expect("decodes");
            prop_assert_eq!(&back.filed, &filed);
            prop_assert_eq!(DocumentRow::filed_in(&bytes), Some(filed.as_slice()).filter(|filed| !filed.is_empty()));
            if !filed.is_empty() && !otherwise.is_empty() {
                let spliced = DocumentRow::with_filed(&bytes, &otherwise).expect("filed");
                prop_assert_eq!(spliced, encoded(&DocumentRow { filed: otherwise, ..back.clone() }));
            }
            prop_assert_eq!(back.tree.leaves(), row.tree.leaves().iter().map(|leaf| {
                back.tree.find(&leaf.revision).expect("leaf")
            }).collect::<Vec<_>>());
            for node in row.tree.nodes() {
                let path: Vec<_> = row.tree.path(&node.revision).iter().map(|n| (&n.revision, n.deleted, n.stored)).collect();
                let again: Vec<_> = back.tree.path(&node.revision).iter().map(|n| (&n.revision, n.deleted, n.stored)).collect();
                prop_assert_eq!(path, again);
            }
            let head = DocumentHead::decode(&bytes).expect("head");
            prop_assert_eq!(Some(&head.winner), row.tree.winner().map(|winner| &winner.revision));
            prop_assert_eq!(head.position, position);
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(mut bytes: Vec<u8>) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            drop(DocumentRow::decode(&bytes));
            drop(Body::decode(&bytes));
            drop(ChangeRow::decode(&bytes));
            drop(DatabaseRow::decode(&bytes));
            drop(LocalRow::decode(&bytes));
        }

        #[test]
        fn change_keys_sort_as_positions(a: u64, b: u64) {
            let key = |position| CHANGES.key(&ChangeKey { database: 7, position });
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
            prop_assert_eq!(ChangeKey::position_of(&key(a)), Some(a));
        }
    }
}
