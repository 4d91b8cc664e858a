//! Reads of documents: one revision, open revisions, `_bulk_get`, `_revs_diff`.
//!
//! Everything works on one snapshot and writes JSON around the stored text of bodies; nothing is parsed again.

use serde_json::Value;
use settle_protocol::attachment::{Attachment, Shown, write_attachment};
use settle_protocol::document::{DocumentWriter, write_revision_text, write_revisions};
use settle_protocol::query::Query;
use settle_protocol::raw_json::write_string;
use settle_protocol::revision_tree::Node;
use settle_protocol::{Error, Revision};

use super::error::DocumentResult;
use super::escrow::{held_for, was_sent_again};
use super::filed::placement_in;
use super::output::Output;
use super::provenance::provenance_of;
use super::tables::{BODIES, Body, BodyKey, DOCUMENTS, DatabaseId, DocumentKey, DocumentRow};
use crate::access::placement::Placement;
use crate::access::view::{View, Visible};
use crate::storage::{Read, StorageResult};

/// What to add to a document (§2.6).
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the query parameters are independent switches")]
pub struct Include {
    /// `_revisions`.
    pub revisions: bool,
    /// `_revs_info`.
    pub revisions_info: bool,
    /// `_conflicts`.
    pub conflicts: bool,
    /// `_deleted_conflicts`.
    pub deleted_conflicts: bool,
    /// `_local_seq`.
    pub local_seq: bool,
    /// Bytes of attachments.
    pub attachments: AttachmentBytes,
}

/// Which attachments come with their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AttachmentBytes {
    /// None: stubs.
    #[default]
    Stubs,
    /// All, or those newer than the newest of these revisions that is an ancestor.
    Since(Vec<Revision>),
}

impl Include {
    /// From the query of a document request.
    ///
    /// # Errors
    /// `400` for a malformed `atts_since`.
    pub fn from_query(query: &Query) -> Result<Self, Error> {
        let meta = query.flag("meta");
        let since = query.revisions("atts_since")?;
        Ok(Self {
            revisions: query.flag("revs"),
            revisions_info: meta || query.flag("revs_info"),
            conflicts: meta || query.flag("conflicts"),
            deleted_conflicts: meta || query.flag("deleted_conflicts"),
            local_seq: query.flag("local_seq"),
            attachments: match since {
                Some(since) => AttachmentBytes::Since(since),
                None if query.flag("attachments") => AttachmentBytes::Since(Vec::new()),
                None => AttachmentBytes::Stubs,
            },
        })
    }

    /// Whether the answer depends on more than the revision, so that it has no `ETag` (§1.1 row 17).
    #[must_use]
    pub fn shows_more_than_revision(&self, found: &Found) -> bool {
        let leaves = found.row.tree.leaves();
        let others = |deleted: bool| leaves.iter().skip(1).any(|leaf| leaf.deleted == deleted);
        let conflicts = (self.conflicts && others(false)) || (self.deleted_conflicts && others(true));
        self.revisions_info || self.local_seq || conflicts
    }

    /// For the documents of rows (`include_docs`).
    #[must_use]
    pub fn in_rows(conflicts: bool, attachments: bool) -> Self {
        let attachments = match attachments {
            true => AttachmentBytes::Since(Vec::new()),
            false => AttachmentBytes::Stubs,
        };
        Self { conflicts, attachments, ..Self::default() }
    }

    /// For a revision asked for by name: what concerns the whole document is left out, as CouchDB does.
    #[must_use]
    pub fn of_named_revision(self) -> Self {
        Self { revisions: self.revisions, attachments: self.attachments, ..Self::default() }
    }

    /// A multipart answer of open revisions brings attachments along unless `atts_since` holds them back.
    #[must_use]
    pub fn with_attachments(self) -> Self {
        match self.attachments {
            AttachmentBytes::Stubs => Self { attachments: AttachmentBytes::Since(Vec::new()), ..self },
            AttachmentBytes::Since(_) => self,
        }
    }
}

/// The stored tree of a document.
///
/// # Errors
/// When the store fails.
pub fn document(reader: &impl Read, database: DatabaseId, id: &str) -> StorageResult<Option<DocumentRow>> {
    let bytes = reader.get_bytes(DOCUMENTS.family(), &DocumentKey::bytes(database, id))?;
    bytes.map(|bytes| DOCUMENTS.decode(&bytes)).transpose()
}

/// Where a document of a scoped database is filed.
///
/// # Errors
/// When the store fails.
pub fn placement(reader: &impl Read, database: DatabaseId, id: &str) -> StorageResult<Option<Placement>> {
    let row = reader.get_bytes(DOCUMENTS.family(), &DocumentKey::bytes(database, id))?;
    row.map_or(Ok(None), |row| placement_in(&row))
}

/// Lets a value of a document through if the caller may see the document.
///
/// # Errors
/// When the store fails.
pub fn visible<T>(
    reader: &impl Read,
    database: DatabaseId,
    view: &View,
    id: &str,
    value: T,
) -> StorageResult<Option<Visible<T>>> {
    view.show(|| placement(reader, database, id), value)
}

/// The stored tree of a document that the caller may see, and the right to show it: both stand in one row.
fn seen_document(
    reader: &impl Read,
    database: DatabaseId,
    view: &View,
    id: &str,
) -> StorageResult<Option<(DocumentRow, Visible<()>)>> {
    let row = reader.get_bytes(DOCUMENTS.family(), &DocumentKey::bytes(database, id))?;
    let Some(row) = row else { return Ok(None) };
    match view.show(|| placement_in(&row), ())? {
        Some(seen) => Ok(Some((DOCUMENTS.decode(&row)?, seen))),
        None => Ok(None),
    }
}

/// A document with one of its revisions.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// Its tree.
    pub row: DocumentRow,
    /// The revision read.
    pub revision: Revision,
    /// A tombstone.
    pub deleted: bool,
    /// Its body.
    pub body: Body,
}

impl Found {
    /// The body of one node of a stored document; `None` when it is not there.
    ///
    /// # Errors
    /// When the store fails.
    pub fn read(
        reader: &impl Read,
        database: DatabaseId,
        id: &str,
        row: &DocumentRow,
        node: &Node,
    ) -> StorageResult<Option<Self>> {
        Self::leaf(reader, database, id, row.clone(), node.revision.clone(), node.deleted)
    }

    /// The same by its revision. Of `row`, only the cluster is needed, and the tree where it is to be shown.
    ///
    /// # Errors
    /// When the store fails.
    pub fn leaf(
        reader: &impl Read,
        database: DatabaseId,
        id: &str,
        row: DocumentRow,
        revision: Revision,
        deleted: bool,
    ) -> StorageResult<Option<Self>> {
        let body = reader.get(&BODIES, &BodyKey::new(database, row.cluster, id, &revision))?;
        Ok(body.map(|body| Self { id: id.to_owned(), row, revision, deleted, body }))
    }

    /// Appends the document of a row (`include_docs`); `null` for what the caller may not see.
    ///
    /// # Errors
    /// When the store fails.
    pub fn write_in_row(
        self,
        reader: &impl Read,
        database: DatabaseId,
        view: &View,
        include: &Include,
        out: &mut Output,
    ) -> StorageResult<()> {
        match visible(reader, database, view, &self.id, ())? {
            Some(seen) => seen.map(|()| self).write(reader, database, include, out),
            None => out.text.extend_from_slice(b"null"),
        }
        Ok(())
    }

    fn write_form(
        &self,
        reader: &impl Read,
        database: DatabaseId,
        include: &Include,
        follows: bool,
        out: &mut Output,
    ) -> Vec<Attachment> {
        let tree = &self.row.tree;
        let mut document =
            DocumentWriter::begin(&mut out.text, &self.id, &self.revision, &self.body.text, self.deleted);
        if include.revisions {
            let path: Vec<&Revision> = tree.path(&self.revision).iter().map(|node| &node.revision).collect();
            document.revisions(&path);
        }
        if include.revisions_info {
            let info = revisions_info(reader, database, &self.id, &self.row, &self.revision);
            document.member("_revs_info").extend_from_slice(&info);
        }
        if include.conflicts || include.deleted_conflicts {
            let leaves = tree.leaves();
            let others = |deleted: bool| -> Vec<&Revision> {
                leaves.iter().skip(1).filter(|leaf| leaf.deleted == deleted).map(|leaf| &leaf.revision).collect()
            };
            if include.conflicts {
                document.revision_list("_conflicts", &others(false));
            }
            if include.deleted_conflicts {
                document.revision_list("_deleted_conflicts", &others(true));
            }
        }
        if include.local_seq {
            document.member("_local_seq").extend_from_slice(self.row.position.to_string().as_bytes());
        }
        let mut sent = Vec::new();
        if self.body.attachments.is_empty() {
            document.end();
            return sent;
        }
        document.member("_attachments").push(b'{');
        let newer_than = self.attachments_newer_than(include);
        for (at, attachment) in self.body.attachments.iter().enumerate() {
            if at > 0 {
                out.text.push(b',');
            }
            match newer_than {
                Some(generation) if attachment.revpos > generation && follows => {
                    write_attachment(&mut out.text, attachment, Shown::Follows);
                    sent.push(attachment.clone());
                }
                Some(generation) if attachment.revpos > generation => write_inline(out, attachment),
                _ => write_attachment(&mut out.text, attachment, Shown::Stub),
            }
        }
        out.text.extend_from_slice(b"}}");
        sent
    }

    /// Attachments above this generation are sent in full; `None`: none is.
    fn attachments_newer_than(&self, include: &Include) -> Option<u64> {
        let AttachmentBytes::Since(since) = &include.attachments else { return None };
        let path = self.row.tree.path(&self.revision);
        let known = path.iter().find(|node| since.contains(&node.revision));
        Some(known.map_or(0, |node| node.revision.generation))
    }
}

impl Visible<Found> {
    /// Appends the JSON of the document.
    pub fn write(&self, reader: &impl Read, database: DatabaseId, include: &Include, out: &mut Output) {
        self.write_form(reader, database, include, false, out);
    }

    /// As [`Visible::write`], for a multipart answer: returns the attachments whose bytes are to follow in parts.
    pub fn write_following(
        &self,
        reader: &impl Read,
        database: DatabaseId,
        include: &Include,
        out: &mut Output,
    ) -> Vec<Attachment> {
        self.write_form(reader, database, include, true, out)
    }
}

/// The `data` form, its base64 filled in while the answer is sent.
fn write_inline(out: &mut Output, attachment: &Attachment) {
    write_attachment(&mut out.text, attachment, Shown::Data(&[]));
    out.text.truncate(out.text.len() - 2); // the closing `"}`
    out.attachment(attachment.address, attachment.length, true);
    out.text.extend_from_slice(b"\"}");
}

fn revisions_info(
    reader: &impl Read,
    database: DatabaseId,
    id: &str,
    row: &DocumentRow,
    revision: &Revision,
) -> Vec<u8> {
    let mut out = vec![b'['];
    for (at, node) in row.tree.path(revision).into_iter().enumerate() {
        let key = BODIES.key(&BodyKey::new(database, row.cluster, id, &node.revision));
        let available = node.stored && matches!(reader.get_bytes(BODIES.family(), &key), Ok(Some(_)));
        let status = match (node.deleted, available) {
            (true, true) => "deleted",
            (false, true) => "available",
            (_, false) => "missing",
        };
        out.extend_from_slice(if at > 0 { b",{\"rev\":\"" } else { b"{\"rev\":\"" });
        write_revision_text(&mut out, &node.revision);
        out.extend_from_slice(format!("\",\"status\":\"{status}\"}}").as_bytes());
    }
    out.push(b']');
    out
}

/// Which revision a document request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The winner; a deleted document is not found.
    Winner,
    /// The winner, also a tombstone (`deleted=true`).
    WinnerOrTombstone,
    /// This one.
    Revision(Revision),
    /// The winner among the leaves below this one (`latest=true`).
    Latest(Revision),
}

/// Reads one revision.
///
/// # Errors
/// `404 missing` (also for what the caller may not see) or `404 deleted`, or a failure of the store.
pub fn find(
    reader: &impl Read,
    database: DatabaseId,
    view: &View,
    id: &str,
    wanted: &Wanted,
) -> DocumentResult<Visible<Found>> {
    let (row, seen) = seen_document(reader, database, view, id)?.ok_or_else(Error::missing)?;
    let node = match wanted {
        Wanted::Winner => match row.tree.winner() {
            Some(winner) if winner.deleted => return Err(Error::not_found("deleted").into()),
            winner => winner,
        },
        Wanted::WinnerOrTombstone => row.tree.winner(),
        Wanted::Revision(revision) => row.tree.find(revision),
        // Of an unknown revision CouchDB shows the winner (recording `rev-trees/latest`).
        Wanted::Latest(revision) => row.tree.leaves_below(revision).first().copied().or_else(|| row.tree.winner()),
    };
    let node = node.filter(|node| node.stored).ok_or_else(Error::missing)?;
    let found = Found::read(reader, database, id, &row, node)?.ok_or_else(Error::missing)?;
    Ok(seen.map(|()| found))
}

/// A revision that was asked for: found, or not.
pub enum OpenRevision {
    /// Here it is.
    Found(Box<Visible<Found>>),
    /// Not stored.
    Missing(Revision),
}

/// `open_revs`: all leaves, or these revisions (with `latest`, the leaves below them), lowest generation first, missing
/// ones last (§2.6).
///
/// # Errors
/// `404 missing` for all leaves of an unknown document. What the caller may not see is unknown.
pub fn open_revisions(
    reader: &impl Read,
    database: DatabaseId,
    view: &View,
    id: &str,
    asked: Option<&[Revision]>,
    latest: bool,
) -> DocumentResult<Vec<OpenRevision>> {
    let Some((row, seen)) = seen_document(reader, database, view, id)? else {
        let asked = asked.ok_or_else(Error::missing)?;
        return Ok(asked.iter().cloned().map(OpenRevision::Missing).collect());
    };
    let Some(asked) = asked else {
        let mut nodes = row.tree.leaves();
        nodes.sort_by(|a, b| a.revision.cmp(&b.revision));
        return read_nodes(reader, database, id, &row, &nodes, &seen);
    };
    let mut nodes: Vec<&Node> = Vec::new();
    let mut missing = Vec::new();
    for revision in asked {
        let found =
            if latest { row.tree.leaves_below(revision) } else { row.tree.find(revision).into_iter().collect() };
        let found: Vec<&Node> = found.into_iter().filter(|node| node.stored).collect();
        if found.is_empty() {
            missing.push(revision.clone());
        }
        for node in found {
            if !nodes.iter().any(|known| known.revision == node.revision) {
                nodes.push(node);
            }
        }
    }
    nodes.sort_by(|a, b| a.revision.cmp(&b.revision));
    let mut opened = read_nodes(reader, database, id, &row, &nodes, &seen)?;
    opened.extend(missing.into_iter().map(OpenRevision::Missing));
    Ok(opened)
}

fn read_nodes(
    reader: &impl Read,
    database: DatabaseId,
    id: &str,
    row: &DocumentRow,
    nodes: &[&Node],
    seen: &Visible<()>,
) -> DocumentResult<Vec<OpenRevision>> {
    let mut opened = Vec::with_capacity(nodes.len());
    for node in nodes {
        opened.push(match Found::read(reader, database, id, row, node)? {
            Some(found) => OpenRevision::Found(Box::new(seen.clone().map(|()| found))),
            None => OpenRevision::Missing(node.revision.clone()),
        });
    }
    Ok(opened)
}

/// Appends `{"id":{"missing":[…],"possible_ancestors":[…]},…}` for what is not stored (§2.7).
///
/// # Errors
/// When the store fails.
pub fn revisions_diff(
    reader: &impl Read,
    database: DatabaseId,
    view: &View,
    asked: &[(String, Vec<Revision>)],
) -> StorageResult<Vec<u8>> {
    diff_object(reader, database, view, asked, |out, missing, ancestors| {
        out.extend_from_slice(b"{\"missing\":");
        write_revisions(out, missing);
        if !ancestors.is_empty() {
            out.extend_from_slice(b",\"possible_ancestors\":");
            write_revisions(out, ancestors);
        }
        out.push(b'}');
    })
}

/// Appends `{"id":[…],…}` for what is not stored (`_missing_revs`).
///
/// # Errors
/// When the store fails.
pub fn missing_revisions(
    reader: &impl Read,
    database: DatabaseId,
    view: &View,
    asked: &[(String, Vec<Revision>)],
) -> StorageResult<Vec<u8>> {
    diff_object(reader, database, view, asked, |out, missing, _| write_revisions(out, missing))
}

/// What a caller is told about revisions of a document.
pub struct Told<'a> {
    /// Those that are not here, as far as this caller may know.
    pub missing: Vec<&'a Revision>,
    /// Leaves that could be ancestors of the missing ones.
    pub ancestors: Vec<&'a Revision>,
    /// Revisions of this document that the caller's device has in escrow.
    pub held: Vec<String>,
}

/// Which of these revisions of a document are here, as far as the caller may know: stored, or in escrow from this device. Of
/// a document that is not visible only those count that this device brought. `row` is the stored document.
///
/// # Errors
/// When the store fails.
pub fn told<'a>(
    reader: &impl Read,
    database: DatabaseId,
    view: &View,
    id: &str,
    row: &'a DocumentRow,
    revisions: &'a [Revision],
) -> StorageResult<Told<'a>> {
    let (mut missing, mut ancestors) = row.tree.diff(revisions);
    let Some(restricted) = view.restricted() else { return Ok(Told { missing, ancestors, held: Vec::new() }) };
    let held = held_for(reader, database, id, &restricted.device)?;
    if visible(reader, database, view, id, ())?.is_none() {
        (missing, ancestors) = (Vec::new(), Vec::new());
        for revision in revisions {
            let known = provenance_of(reader, database, row.cluster, id, revision)?;
            if known.is_none_or(|row| row.device != restricted.device)
                && !was_sent_again(reader, database, id, &restricted.device, revision)?
            {
                missing.push(revision);
            }
        }
    }
    missing.retain(|revision| !held.contains(&revision.to_string()));
    Ok(Told { missing, ancestors, held })
}

/// An object with a member for each document that lacks a revision asked for; `value` writes what stands behind the id.
fn diff_object(
    reader: &impl Read,
    database: DatabaseId,
    view: &View,
    asked: &[(String, Vec<Revision>)],
    value: impl Fn(&mut Vec<u8>, &[&Revision], &[&Revision]),
) -> StorageResult<Vec<u8>> {
    let mut out = vec![b'{'];
    let keys: Vec<Vec<u8>> = asked.iter().map(|(id, _)| DocumentKey::bytes(database, id)).collect();
    let rows = reader.get_many(DOCUMENTS.family(), &keys)?;
    for ((id, revisions), bytes) in asked.iter().zip(rows) {
        let row = bytes.map(|bytes| DOCUMENTS.decode(&bytes)).transpose()?.unwrap_or_default();
        let Told { missing, ancestors, .. } = told(reader, database, view, id, &row, revisions)?;
        if !missing.is_empty() {
            if out.len() > 1 {
                out.push(b',');
            }
            write_string(&mut out, id);
            out.push(b':');
            value(&mut out, &missing, &ancestors);
        }
    }
    out.push(b'}');
    Ok(out)
}

/// The document as a JSON value, for selectors: with `_id`, `_rev`, `_deleted`, attachments as stubs.
#[must_use]
pub fn as_value(found: &Found, reader: &impl Read, database: DatabaseId) -> Value {
    let mut out = Output::default();
    found.write_form(reader, database, &Include::default(), false, &mut out);
    serde_json::from_slice(&out.text).unwrap_or_default()
}
