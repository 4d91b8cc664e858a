//! `_all_docs` and `_design_docs`: documents by id, in order of bytes (§1.2, recordings `all-docs`).
//!
//! A listing is read page by page like the feed. `offset` is counted up to `EXACT_OFFSET` rows and `null` beyond.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::Value;
use settle_protocol::document::write_revision_text;
use settle_protocol::listing::ListingOptions;
use settle_protocol::raw_json::write_string;
use settle_protocol::revision_tree::RevisionTree;

use super::databases::Database;
use super::error::DocumentResult;
use super::local;
use super::output::Output;
use super::read::{Found, Include, visible};
use super::scoped_feed::visible_ids;
use super::tables::{DOCUMENTS, DocumentHead, DocumentKey, DocumentRow, LOCAL, LocalKey};
use crate::access::view::View;
use crate::storage::{Family, Range, Read, Snapshot, StorageError, StorageResult, Store, after_prefix};

/// Rows counted for `offset`.
const EXACT_OFFSET: u64 = 500_000;
const PAGE_BYTES: usize = 64 << 10;
const PAGE_ROWS: usize = 2_000;

/// Which documents a listing covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All.
    All,
    /// Ids that begin with `_design/`.
    Design,
}

/// A listing that is being sent.
pub struct Listing {
    store: Store,
    database: Arc<Database>,
    options: ListingOptions,
    owner: [u8; 16],
    view: View,
    remaining: u64,
    shown: bool,
    place: Place,
}

/// How far a listing came.
enum Place {
    Start(Extent),
    /// Bytes of keys that are left.
    Range(Range),
    /// The next of `keys`.
    Keys(usize),
    End,
}

impl Listing {
    /// A listing over what a caller sees of one database. `owner`: whose `_local` documents `keys` may name.
    #[must_use]
    pub fn new(
        store: &Store,
        database: Arc<Database>,
        extent: Extent,
        options: ListingOptions,
        owner: [u8; 16],
        view: View,
    ) -> Self {
        let remaining = options.limit.unwrap_or(u64::MAX);
        let place = Place::Start(extent);
        Self { store: store.clone(), database, options, owner, view, remaining, shown: false, place }
    }

    /// The next page; `None` at the end.
    ///
    /// # Errors
    /// When the store fails.
    pub fn page(&mut self) -> DocumentResult<Option<Output>> {
        let mut out = Output::default();
        let store = self.store.clone();
        let snapshot = store.snapshot();
        match std::mem::replace(&mut self.place, Place::End) {
            Place::Start(extent) => self.start(&snapshot, extent, &mut out)?,
            Place::Range(range) => self.range(&snapshot, range, &mut out)?,
            Place::Keys(next) => self.keys(&snapshot, next, &mut out)?,
            Place::End => return Ok(None),
        }
        if matches!(self.place, Place::End) {
            out.text.extend_from_slice(b"\n]}");
        }
        Ok(Some(out))
    }

    fn start(&mut self, snapshot: &Snapshot<'_>, extent: Extent, out: &mut Output) -> DocumentResult<()> {
        let database = self.database.id();
        if let Some(restricted) = self.view.restricted().cloned() {
            let ids = visible_ids(snapshot, &restricted, &self.database)?;
            return self.start_restricted(snapshot, extent, ids, out);
        }
        let counters = self.database.counters(snapshot)?;
        let total = match extent {
            Extent::All => Some(counters.documents),
            Extent::Design => self.count(snapshot, &Range::prefix(&DocumentKey::bytes(database, "_design/")))?,
        };
        let whole = match extent {
            Extent::All => Range::prefix(&database.to_be_bytes()),
            Extent::Design => Range::prefix(&DocumentKey::bytes(database, "_design/")),
        };
        let mut range = self.bounds(whole.clone());
        let mut offset = None;
        if let Some(keys) = &mut self.options.keys {
            if self.options.descending {
                keys.reverse();
            }
        } else {
            let before = if self.options.descending {
                Range { from: range.to.clone().unwrap_or_default(), to: whole.to, descending: false }
            } else {
                Range { from: whole.from, to: Some(range.from.clone()), descending: false }
            };
            offset = self.count(snapshot, &before)?;
            offset = offset.map(|before| before + self.skip(snapshot, &mut range));
        }
        let number = |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
        let head = format!("{{\"total_rows\":{},\"offset\":{}", number(total), number(offset));
        out.text.extend_from_slice(head.as_bytes());
        if self.options.update_seq {
            out.text.extend_from_slice(b",\"update_seq\":\"");
            self.database.tokens.write(self.view.position(counters.position), true, &mut out.text);
            out.text.push(b'"');
        }
        out.text.extend_from_slice(b",\"rows\":[");
        match &self.options.keys {
            Some(_) => {
                let skipped = usize::try_from(self.options.skip).unwrap_or(usize::MAX);
                self.keys(snapshot, skipped, out)
            }
            None => self.range(snapshot, range, out),
        }
    }

    /// The documents of a scope are few: those in range become the keys.
    fn start_restricted(
        &mut self,
        snapshot: &Snapshot<'_>,
        extent: Extent,
        mut ids: BTreeSet<String>,
        out: &mut Output,
    ) -> DocumentResult<()> {
        let database = self.database.id();
        if extent == Extent::Design {
            ids.retain(|id| id.starts_with("_design/"));
        }
        let mut offset = None;
        if let Some(keys) = &mut self.options.keys {
            if self.options.descending {
                keys.reverse();
            }
        } else {
            let range = self.bounds(Range::prefix(&database.to_be_bytes()));
            let behind = |id: &&String| range.to.as_ref().is_some_and(|to| DocumentKey::bytes(database, id) >= *to);
            let before = |id: &&String| DocumentKey::bytes(database, id) < range.from;
            let mut chosen: Vec<Value> =
                ids.iter().filter(|id| !before(id) && !behind(id)).map(|id| Value::from(id.as_str())).collect();
            let passed = if self.options.descending {
                ids.iter().filter(behind).count()
            } else {
                ids.iter().filter(before).count()
            };
            if self.options.descending {
                chosen.reverse();
            }
            let skipped = usize::try_from(self.options.skip).unwrap_or(usize::MAX).min(chosen.len());
            offset = Some(passed + skipped);
            self.options.keys = Some(chosen);
        }
        let offset = offset.map_or_else(|| "null".to_owned(), |offset| offset.to_string());
        let head = format!("{{\"total_rows\":{},\"offset\":{offset}", ids.len());
        out.text.extend_from_slice(head.as_bytes());
        if self.options.update_seq {
            out.text.extend_from_slice(b",\"update_seq\":\"");
            let position = self.database.counters(snapshot)?.position;
            self.database.tokens.write(self.view.position(position), true, &mut out.text);
            out.text.push(b'"');
        }
        out.text.extend_from_slice(b",\"rows\":[");
        let skipped = usize::try_from(self.options.skip).unwrap_or(usize::MAX);
        self.keys(snapshot, skipped, out)
    }

    /// Cuts the whole extent to `startkey` and `endkey`.
    fn bounds(&self, mut range: Range) -> Range {
        let options = &self.options;
        let (low, high) = match options.descending {
            false => (&options.start, &options.end),
            true => (&options.end, &options.start),
        };
        let low_is_end = options.descending;
        if let Some(low) = low {
            let mut from = self.key_bound(low, &range);
            if low_is_end && options.exclusive_end && low.is_string() {
                from.push(0); // the first key behind it
            }
            range.from = range.from.max(from);
        }
        if let Some(high) = high {
            let mut to = self.key_bound(high, &range);
            let inclusive = low_is_end || !options.exclusive_end;
            if inclusive && high.is_string() {
                to.push(0);
            }
            range.to = Some(range.to.map_or_else(|| to.clone(), |end| end.min(to.clone())));
        }
        range.descending = options.descending;
        range
    }

    /// A key as bytes: text is itself, anything that sorts below text is the start, above it the end.
    fn key_bound(&self, key: &Value, whole: &Range) -> Vec<u8> {
        match key {
            Value::String(id) => DocumentKey::bytes(self.database.id(), id),
            Value::Null | Value::Bool(_) | Value::Number(_) => whole.from.clone(),
            Value::Array(_) | Value::Object(_) => after_prefix(&self.database.id().to_be_bytes()).unwrap_or_default(),
        }
    }

    /// Live documents in a range; `None` when there are too many to count.
    fn count(&self, snapshot: &Snapshot<'_>, range: &Range) -> StorageResult<Option<u64>> {
        let mut count = 0;
        if range.to.as_ref().is_some_and(|to| *to <= range.from) {
            return Ok(Some(0));
        }
        snapshot.scan(Family::Documents, range, &mut |_, row| {
            count += u64::from(!head_of(row)?.deleted);
            Ok(if count < EXACT_OFFSET { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok((count < EXACT_OFFSET).then_some(count))
    }

    /// Passes over `skip` live documents; says how many there were.
    fn skip(&self, snapshot: &Snapshot<'_>, range: &mut Range) -> u64 {
        if self.options.skip == 0 || range.to.as_ref().is_some_and(|to| *to <= range.from) {
            return 0;
        }
        let mut skipped = 0;
        let mut rest = None;
        let walked = snapshot.scan(Family::Documents, range, &mut |key, row| {
            if skipped == self.options.skip {
                rest = Some(key.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            skipped += u64::from(!head_of(row)?.deleted);
            Ok(ControlFlow::Continue(()))
        });
        match rest {
            Some(key) if range.descending => range.to = Some([key.as_slice(), &[0]].concat()),
            Some(key) => range.from = key,
            None => range.to = Some(range.from.clone()),
        }
        if walked.is_err() { 0 } else { skipped }
    }

    fn range(&mut self, snapshot: &Snapshot<'_>, mut range: Range, out: &mut Output) -> DocumentResult<()> {
        let empty = range.to.as_ref().is_some_and(|to| *to <= range.from);
        if self.remaining == 0 || empty {
            return Ok(());
        }
        let mut looked_at = 0;
        let mut last = None;
        let mut full = false;
        let mut page = Vec::new();
        snapshot.scan(Family::Documents, &range, &mut |key, row| {
            if self.remaining == 0 || full || looked_at == PAGE_ROWS {
                full = true;
                return Ok(ControlFlow::Break(()));
            }
            looked_at += 1;
            last = Some(key.to_vec());
            let head = head_of(row)?;
            if !head.deleted {
                let id = String::from_utf8_lossy(key.get(4..).unwrap_or_default()).into_owned();
                let tree = self.options.include_docs.then(|| row.to_vec());
                page.push((id, head, tree));
                self.remaining -= 1;
            }
            full = self.options.include_docs && page.len() >= 100;
            Ok(ControlFlow::Continue(()))
        })?;
        for (id, head, row) in page {
            self.separate(out);
            let key = Value::from(id.as_str());
            self.row(snapshot, &id, &key, &head, row.as_deref(), out)?;
        }
        if full && self.remaining > 0 {
            match (range.descending, last) {
                (true, Some(last)) => range.to = Some(last),
                (false, Some(last)) => range.from = [last.as_slice(), &[0]].concat(),
                (_, None) => return Ok(()),
            }
            self.place = Place::Range(range);
        }
        Ok(())
    }

    fn keys(&mut self, snapshot: &Snapshot<'_>, mut next: usize, out: &mut Output) -> DocumentResult<()> {
        let keys = self.options.keys.take().unwrap_or_default();
        while self.remaining > 0 && out.text.len() < PAGE_BYTES && out.attachment_bytes() == 0 {
            let Some(key) = keys.get(next) else { break };
            next += 1;
            self.remaining -= 1;
            self.separate(out);
            self.keyed_row(snapshot, key, out)?;
        }
        if self.remaining > 0 && next < keys.len() {
            self.place = Place::Keys(next);
        }
        self.options.keys = Some(keys);
        Ok(())
    }

    fn keyed_row(&self, snapshot: &Snapshot<'_>, key: &Value, out: &mut Output) -> DocumentResult<()> {
        if let Some(id) = key.as_str() {
            if id.starts_with(local::PREFIX) {
                return self.local_row(snapshot, id, out);
            }
            let bytes = snapshot.get_bytes(Family::Documents, &DocumentKey::bytes(self.database.id(), id))?;
            let bytes = bytes.map(|bytes| visible(snapshot, self.database.id(), &self.view, id, bytes));
            if let Some(bytes) = bytes.transpose()?.flatten() {
                return self.row(snapshot, id, key, &head_of(&bytes)?, Some(&bytes), out);
            }
        }
        out.text.extend_from_slice(format!("{{\"key\":{key},\"error\":\"not_found\"}}").as_bytes());
        Ok(())
    }

    fn local_row(&self, snapshot: &Snapshot<'_>, id: &str, out: &mut Output) -> DocumentResult<()> {
        let name = id.strip_prefix(local::PREFIX).unwrap_or_default().to_owned();
        let key = LocalKey { database: self.database.id(), owner: self.owner, id: name };
        let quoted = Value::from(id);
        let Some(row) = snapshot.get(&LOCAL, &key)? else {
            out.text.extend_from_slice(format!("{{\"key\":{quoted},\"error\":\"not_found\"}}").as_bytes());
            return Ok(());
        };
        let revision = row.revision;
        let text = format!("{{\"id\":{quoted},\"key\":{quoted},\"value\":{{\"rev\":\"0-{revision}\"}}");
        out.text.extend_from_slice(text.as_bytes());
        if self.options.include_docs {
            out.text.extend_from_slice(b",\"doc\":");
            out.text.extend_from_slice(&local::read(snapshot, &self.database, self.owner, id, false)?);
        }
        out.text.push(b'}');
        Ok(())
    }

    fn separate(&mut self, out: &mut Output) {
        out.text.extend_from_slice(if std::mem::replace(&mut self.shown, true) { b",\r\n" } else { b"\r\n" });
    }

    fn row(
        &self,
        snapshot: &Snapshot<'_>,
        id: &str,
        key: &Value,
        head: &DocumentHead,
        row: Option<&[u8]>,
        out: &mut Output,
    ) -> DocumentResult<()> {
        out.text.extend_from_slice(b"{\"id\":");
        write_string(&mut out.text, id);
        out.text.extend_from_slice(format!(",\"key\":{key},\"value\":{{\"rev\":\"").as_bytes());
        write_revision_text(&mut out.text, &head.winner);
        out.text.extend_from_slice(if head.deleted { b"\",\"deleted\":true}" } else { b"\"}" });
        if self.options.include_docs {
            out.text.extend_from_slice(b",\"doc\":");
            match row.filter(|_| !head.deleted) {
                Some(row) => self.included(snapshot, id, head, row, out)?,
                None => out.text.extend_from_slice(b"null"),
            }
        }
        out.text.push(b'}');
        Ok(())
    }

    fn included(
        &self,
        snapshot: &Snapshot<'_>,
        id: &str,
        head: &DocumentHead,
        row: &[u8],
        out: &mut Output,
    ) -> DocumentResult<()> {
        let database = self.database.id();
        let row = match self.options.conflicts {
            true => DOCUMENTS.decode(row)?,
            false => DocumentRow { cluster: head.cluster, tree: RevisionTree::default(), ..DocumentRow::default() },
        };
        let include = Include::in_rows(self.options.conflicts, self.options.attachments);
        match Found::leaf(snapshot, database, id, row, head.winner.clone(), false)? {
            Some(found) => found.write_in_row(snapshot, database, &self.view, &include, out)?,
            None => out.text.extend_from_slice(b"null"),
        }
        Ok(())
    }
}

fn head_of(row: &[u8]) -> StorageResult<DocumentHead> {
    let problem = "malformed value";
    DocumentHead::decode(row).ok_or(StorageError::Corrupt { table: Family::Documents.name(), problem })
}

/// Whether an id lies in the range of a listing that is small enough to be sorted in memory (`_local_docs`).
#[must_use]
pub fn in_range(options: &ListingOptions, id: &str) -> bool {
    let text = |key: &Option<Value>| key.as_ref().and_then(Value::as_str).map(str::to_owned);
    let (low, high) = match options.descending {
        false => (text(&options.start), text(&options.end)),
        true => (text(&options.end), text(&options.start)),
    };
    low.is_none_or(|low| id >= low.as_str()) && high.is_none_or(|high| id <= high.as_str())
}
