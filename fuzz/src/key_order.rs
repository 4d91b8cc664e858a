//! Keys sort as what they stand for, and stored values read back; any bytes may be found on disk.
//!
//! The bytes give two keys of each kind. Only tables whose keys are read in ranges have an order to keep.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use settle::documents::tables::{
    Body, ChangeKey, ChangeRow, ChangeView, DatabaseRow, DocumentHead, DocumentKey, DocumentRow, LocalKey, LocalRow,
};
use settle::storage::{Decoder, Encode, Key, Value};

/// Encodes, compares, decodes.
///
/// # Panics
/// When order or value is lost.
pub fn run(data: &[u8]) {
    let (one, other) = data.split_at(data.len() / 2);
    keys(one, other);
    numbers(data);
    values(data);
    // Most values begin with version 1; without it nothing behind it would ever be read.
    values(&[&[1], data].concat());
}

fn bytes_of(key: &impl Key) -> Vec<u8> {
    let mut out = Vec::new();
    key.encode(&mut out);
    out
}

fn keys(one: &[u8], other: &[u8]) {
    let parts = |data: &[u8]| {
        let mut from = Decoder::new(data);
        let database = from.u32().unwrap_or(0) % 3; // small, so that ties occur
        let position = from.u64().unwrap_or(0);
        let owner: [u8; 16] = from.array().unwrap_or_default();
        (database, position, owner, String::from_utf8_lossy(from.rest()).into_owned())
    };
    let ((database, position, owner, id), (database2, position2, owner2, id2)) = (parts(one), parts(other));
    let same = |name: &str, keys: Ordering, values: Ordering| assert_eq!(keys, values, "{name}");

    let change = |database, position| bytes_of(&ChangeKey { database, position });
    same(
        "changes",
        change(database, position).cmp(&change(database2, position2)),
        (database, position).cmp(&(database2, position2)),
    );
    assert_eq!(ChangeKey::position_of(&change(database, position)), Some(position));

    let document = |database, id: &str| bytes_of(&DocumentKey { database, id: id.to_owned() });
    assert_eq!(document(database, &id), DocumentKey::bytes(database, &id));
    same(
        "documents",
        document(database, &id).cmp(&document(database2, &id2)),
        (database, id.as_bytes()).cmp(&(database2, id2.as_bytes())),
    );

    let local = |database, owner, id: &str| bytes_of(&LocalKey { database, owner, id: id.to_owned() });
    same(
        "local",
        local(database, owner, &id).cmp(&local(database2, owner2, &id2)),
        (database, owner, id.as_bytes()).cmp(&(database2, owner2, id2.as_bytes())),
    );
}

/// Numbers and strings, written one after the other.
fn numbers(data: &[u8]) {
    let mut from = Decoder::new(data);
    let (number, text) = (from.u64().unwrap_or(0), from.rest());
    let mut out = Vec::new();
    out.varint(number);
    out.string(text);
    out.varint(number >> 7);
    let mut back = Decoder::new(&out);
    assert_eq!((back.varint(), back.string(), back.varint()), (Some(number), Some(text), Some(number >> 7)));
    assert!(back.rest().is_empty());
}

/// Any bytes as any value: what decodes is encoded to something that decodes the same.
fn values(data: &[u8]) {
    again::<Body>(data);
    again::<ChangeRow>(data);
    again::<DatabaseRow>(data);
    again::<LocalRow>(data);
    if let Some(view) = ChangeView::decode(data) {
        assert!(view.leaves().count() <= data.len(), "a leaf takes space");
    }
    let Some(row) = DocumentRow::decode(data) else { return };
    let names: BTreeSet<_> = row.tree.nodes().iter().map(|node| &node.revision).collect();
    if row.tree.is_empty() || names.len() < row.tree.nodes().len() {
        return; // no document has no revision, or one twice; only reading it must be safe
    }
    let mut out = Vec::new();
    row.encode(&mut out);
    let back = DocumentRow::decode(&out).expect("what was written can be read");
    let seen = |row: &DocumentRow| -> Vec<_> {
        let leaves = row.tree.leaves().into_iter();
        leaves.map(|leaf| (leaf.revision.clone(), leaf.deleted, leaf.stored)).collect()
    };
    assert_eq!(seen(&back), seen(&row));
    assert_eq!((back.position, back.cluster, back.attachments), (row.position, row.cluster, row.attachments));
    let head = DocumentHead::decode(&out).expect("the head too");
    assert_eq!(Some(&head.winner), row.tree.winner().map(|winner| &winner.revision));
    assert_eq!((head.deleted, head.conflicted), (row.tree.is_deleted(), row.tree.leaves().len() > 1));
}

fn again<V: Value + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let Some(value) = V::decode(data) else { return };
    let mut out = Vec::new();
    value.encode(&mut out);
    assert_eq!(V::decode(&out), Some(value));
}
