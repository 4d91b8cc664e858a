//! The text of a feed: rows, with their documents, and what stands around them.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::Value;
use settle_protocol::changes::{Feed, Filter, write_row_start};
use settle_protocol::sequence::Position;
use settle_protocol::{Revision, selector};

use super::{CORRUPT, EXACT_PENDING, Walk};
use crate::documents::error::DocumentResult;
use crate::documents::output::Output;
use crate::documents::read::{Found, Include, as_value, document};
use crate::documents::scoped_feed::{self, ScopedFeed};
use crate::documents::tables::{CHANGES, ChangeKey, ChangeView, DocumentRow};
use crate::storage::{Family, Range, Read, Snapshot, StorageResult};

impl Walk {
    pub(super) fn row(
        &mut self,
        snapshot: &Snapshot<'_>,
        position: Position,
        bytes: &[u8],
        out: &mut Output,
    ) -> DocumentResult<()> {
        let row = ChangeView::decode(bytes).ok_or(CORRUPT)?;
        let options = Arc::clone(&self.options);
        let leaves = if options.all_leaves { usize::MAX } else { 1 };
        match &options.filter {
            Filter::Design if !row.id.starts_with("_design/") => return Ok(()),
            Filter::Selector { selector, fields } => {
                let matching = self.matching_leaves(snapshot, &row, leaves, selector)?;
                if matching.is_empty() {
                    return Ok(());
                }
                self.start_row(position, row.id, matching.into_iter(), row.deleted, out);
                return self.end_row(snapshot, &row, fields.as_ref(), out);
            }
            _ => {}
        }
        self.start_row(position, row.id, row.leaves().take(leaves), row.deleted, out);
        self.end_row(snapshot, &row, None, out)
    }

    pub(super) fn start_row(
        &mut self,
        position: Position,
        id: &str,
        leaves: impl Iterator<Item = Revision>,
        deleted: bool,
        out: &mut Output,
    ) {
        self.told(position);
        match self.options.feed {
            Feed::Normal | Feed::Longpoll if self.shown > 0 => out.text.extend_from_slice(b",\r\n"),
            Feed::EventSource => out.text.extend_from_slice(b"data: "),
            _ => {}
        }
        self.shown += 1;
        self.remaining = self.remaining.saturating_sub(1);
        let shows_seq = self.options.seq_interval.is_none_or(|interval| self.shown.is_multiple_of(interval));
        let token = shows_seq.then_some(|out: &mut Vec<u8>| self.write_token(position, out));
        write_row_start(&mut out.text, token, id, leaves, deleted);
    }

    fn end_row(
        &self,
        snapshot: &Snapshot<'_>,
        row: &ChangeView<'_>,
        fields: Option<&selector::Fields>,
        out: &mut Output,
    ) -> DocumentResult<()> {
        if self.options.include_docs {
            out.text.extend_from_slice(b",\"doc\":");
            self.included(snapshot, row, fields, out)?;
        }
        out.text.push(b'}');
        self.finish_row(out);
        Ok(())
    }

    pub(super) fn finish_row(&self, out: &mut Output) {
        match self.options.feed {
            Feed::Continuous => out.text.push(b'\n'),
            Feed::EventSource => {
                out.text.extend_from_slice(b"\nid: \"");
                self.write_token(self.cursor, &mut out.text);
                out.text.extend_from_slice(b"\"\n\n");
            }
            Feed::Normal | Feed::Longpoll => {}
        }
    }

    fn included(
        &self,
        snapshot: &Snapshot<'_>,
        row: &ChangeView<'_>,
        fields: Option<&selector::Fields>,
        out: &mut Output,
    ) -> DocumentResult<()> {
        let winner = row.leaves().next();
        let found = winner.map(|winner| self.found(snapshot, row.id, winner, row.deleted)).transpose()?.flatten();
        let Some(found) = found else {
            out.text.extend_from_slice(b"null");
            return Ok(());
        };
        if let Some(fields) = fields {
            let value = as_value(&found, snapshot, self.database.id());
            let kept = fields.project(&value);
            out.text.extend_from_slice(kept.to_string().as_bytes());
            return Ok(());
        }
        let include = Include::in_rows(self.options.conflicts, self.options.attachments);
        Ok(found.write_in_row(snapshot, self.database.id(), &self.view, &include, out)?)
    }

    /// A leaf with its body. The tree is read only where it is needed: for conflicts, and for the cluster of a scoped
    /// database (in a plain one all bodies lie in the cluster of zeros).
    fn found(
        &self,
        snapshot: &Snapshot<'_>,
        id: &str,
        revision: Revision,
        deleted: bool,
    ) -> StorageResult<Option<Found>> {
        let database = self.database.id();
        let row = if self.options.conflicts || self.database.row.scoped {
            let Some(row) = document(snapshot, database, id)? else { return Ok(None) };
            row
        } else {
            DocumentRow::default()
        };
        Found::leaf(snapshot, database, id, row, revision, deleted)
    }

    fn matching_leaves(
        &self,
        snapshot: &Snapshot<'_>,
        row: &ChangeView<'_>,
        leaves: usize,
        selector: &selector::Selector,
    ) -> DocumentResult<Vec<Revision>> {
        let database = self.database.id();
        let Some(stored) = document(snapshot, database, row.id)? else { return Ok(Vec::new()) };
        let mut matching = Vec::new();
        for node in stored.tree.leaves().into_iter().take(leaves) {
            let Some(found) = Found::read(snapshot, database, row.id, &stored, node)? else { continue };
            let value: Value = as_value(&found, snapshot, database);
            if selector.matches(&value) {
                matching.push(found.revision);
            }
        }
        Ok(matching)
    }

    pub(super) fn open_frame(&self, out: &mut Output) {
        match self.options.feed {
            Feed::Normal | Feed::Longpoll => out.text.extend_from_slice(b"{\"results\":[\n"),
            Feed::Continuous | Feed::EventSource => {}
        }
    }

    pub(super) fn close_frame(&self, out: &mut Output) -> StorageResult<()> {
        let mut token = Vec::new();
        self.write_token(if self.options.descending { self.end } else { self.cursor }, &mut token);
        let token = String::from_utf8_lossy(&token);
        let pending = self.pending()?;
        let text = match self.options.feed {
            Feed::Normal | Feed::Longpoll => format!("\n],\n\"last_seq\":\"{token}\",\"pending\":{pending}}}\n\n"),
            Feed::Continuous => format!("{{\"last_seq\":\"{token}\",\"pending\":{pending}}}\n"),
            Feed::EventSource => String::new(),
        };
        out.text.extend_from_slice(text.as_bytes());
        Ok(())
    }

    /// Log rows behind `last_seq`, before filtering: exact while few remain (or nothing was read), else at most the
    /// positions that remain. Clients treat it as a hint (§3.4).
    fn pending(&self) -> StorageResult<u64> {
        let behind = self.scope.as_ref().is_some_and(ScopedFeed::is_behind);
        if self.options.descending || (self.cursor >= self.end && !behind) {
            return Ok(0);
        }
        let snapshot = self.store.snapshot();
        if let Some(scope) = &self.scope {
            let most = usize::try_from(EXACT_PENDING).unwrap_or(usize::MAX);
            let rows = scoped_feed::count_rows(scope, &snapshot, self.cursor, self.end, most)?;
            return Ok(rows as u64 + u64::from(behind));
        }
        let counters = self.database.counters(&snapshot)?;
        let rows = counters.documents + counters.deleted;
        if self.cursor == 0 {
            return Ok(rows);
        }
        let key = |position| CHANGES.key(&ChangeKey { database: self.database.id(), position });
        let mut counted = 0;
        snapshot.scan(Family::Changes, &Range::between(key(self.cursor + 1), key(self.end + 1)), &mut |_, _| {
            counted += 1;
            Ok(if counted < EXACT_PENDING { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(if counted < EXACT_PENDING { counted } else { rows.min(self.end - self.cursor) })
    }
}
