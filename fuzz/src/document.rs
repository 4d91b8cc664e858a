//! Any bytes as a document: what is accepted means the same to `serde_json`, and comes back as it was.
//!
//! Members by value, the last of duplicates, the client's own text of every value; and what a read writes parses again.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;
use settle_protocol::Revision;
use settle_protocol::bulk::{BulkDocs, BulkOutline, parse_bulk_get, parse_revisions_by_id};
use settle_protocol::document::{DocumentWriter, IncomingDocument};

type Members = BTreeMap<String, Box<RawValue>>;

/// Parses the bytes every way there is.
///
/// # Panics
/// When two ways of reading differ.
pub fn run(data: &[u8]) {
    drop(parse_bulk_get(data));
    drop(parse_revisions_by_id(data));
    in_halves(data);
    match IncomingDocument::parse(data) {
        Ok(document) => accepted(data, &document),
        Err(error) => {
            let valid = serde_json::from_slice::<Value>(data).is_ok();
            assert!(!valid || error.reason() != "invalid UTF-8 JSON", "valid JSON was called invalid");
        }
    }
}

fn accepted(data: &[u8], document: &IncomingDocument) {
    let mut sent: Members = serde_json::from_slice(data).expect("what is accepted is JSON");
    sent.retain(|name, _| !name.starts_with('_') || name.starts_with("_replication") || name == "_access");
    let kept = format!("{{{}}}", document.body);
    let stored: Members = serde_json::from_str(&kept).expect("a stored body is JSON");
    let texts = |members: &Members| -> Vec<(String, String)> {
        members.iter().map(|(name, value)| (name.clone(), value.get().to_owned())).collect()
    };
    assert_eq!(texts(&stored), texts(&sent), "every member, by the client's own text");
    drop(document.replicated_path());
    written_and_read(document);
    in_a_batch(data, document);
}

/// A batch whose documents are read one by one is the batch that is read as a whole.
fn in_halves(data: &[u8]) {
    const MOST: usize = 1 << 20;
    let whole = BulkDocs::parse(data, MOST);
    let Ok(outline) = BulkOutline::parse(data) else { return };
    let read = outline.documents.iter().map(|text| BulkOutline::read(text.as_bytes(), MOST));
    match read.collect::<Result<Vec<_>, _>>() {
        Ok(documents) => {
            let whole = whole.expect("a batch whose every document is read");
            assert_eq!((documents, outline.new_edits), (whole.documents, whole.new_edits));
            assert_eq!(outline.all_or_nothing, whole.all_or_nothing);
        }
        Err(_) => assert!(whole.is_err(), "a batch with a document that is not read"),
    }
}

/// What a read of the stored document answers is read back as the same document.
fn written_and_read(document: &IncomingDocument) {
    let id = document.id.as_deref().unwrap_or("x");
    let first = Revision::of_edit(None, document.deleted, &document.body, &[]);
    let revision = document.revision.as_ref().unwrap_or(&first);
    let path = document.replicated_path().unwrap_or_else(|_| vec![revision.clone()]);
    let path: Vec<&Revision> = path.iter().collect();
    // `_revisions` holds generations from 1 to the largest signed number; a bare `_rev` may name others.
    let is_history = path.iter().all(|revision| (1..=i64::MAX as u64).contains(&revision.generation));
    let mut out = Vec::new();
    let mut writer = DocumentWriter::begin(&mut out, id, revision, &document.body, document.deleted);
    if is_history {
        writer.revisions(&path);
    }
    writer.revision_list("_conflicts", &path);
    writer.end();
    let again = IncomingDocument::parse(&out).expect("what is written can be read");
    assert_eq!((again.id.as_deref(), again.revision.as_ref()), (Some(id), Some(revision)));
    assert_eq!((again.deleted, &again.body), (document.deleted, &document.body));
    if is_history {
        let read = again.replicated_path().expect("a history that was written is one");
        assert_eq!(read.iter().collect::<Vec<_>>(), path);
    }
}

/// The same document in `_bulk_docs`.
fn in_a_batch(data: &[u8], document: &IncomingDocument) {
    let request = [b"{\"docs\":[".as_slice(), data, b"],\"new_edits\":false}"].concat();
    let batch = BulkDocs::parse(&request, document.body.len()).expect("what is a document is one in a batch");
    assert_eq!(batch.documents.as_slice(), std::slice::from_ref(document));
    assert!(!batch.new_edits);
    if let Some(smaller) = document.body.len().checked_sub(1) {
        assert_eq!(BulkDocs::parse(&request, smaller).map(drop).map_err(|error| error.status()), Err(413));
    }
}
