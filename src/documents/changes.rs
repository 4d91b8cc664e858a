//! The feed: a range scan of the log, page by page, and the wait for more.
//!
//! A response shows the log up to the position at which it began (or woke), so each document comes at most once and at its
//! latest position; what changes meanwhile is behind `last_seq` and comes with the next request. No snapshot is held while
//! the client reads or sleeps.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use settle_protocol::changes::{ChangesOptions, Feed, Filter, write_row_start};
use settle_protocol::sequence::{Position, StartingPoint};
use settle_protocol::{Error, ErrorKind, Revision, selector};
use tokio::sync::watch;

use super::databases::Database;
use super::devices::{DeviceKey, Told, note_pull};
use super::error::DocumentResult;
use super::output::{Output, Piece};
use super::read::{AttachmentBytes, Found, Include, as_value, document, visible};
use super::scoped_feed::{self, Row, ScopedFeed};
use super::scopes::{topic, whole};
use super::tables::{BODIES, BodyKey, CHANGES, ChangeKey, ChangeView, DocumentHead, DocumentKey, DocumentRow};
use crate::access::view::View;
use crate::accounts::guard::Guard;
use crate::storage::{Family, Range, Read, Snapshot, StorageError, StorageResult, Store};

/// A page ends at this many bytes of text …
const PAGE_BYTES: usize = 64 << 10;
/// … or after this many log rows, shown or not.
const PAGE_ROWS: usize = 2_000;
/// Rows of a scope that are read ahead of being written, with and without documents.
const SCOPED_ROWS: usize = 1_000;
const SCOPED_DOCUMENTS: usize = 128;
/// A wait that woke for at most this many positions is answered on the async thread.
const SHORT: Position = 64;
/// `pending` is counted exactly up to this many rows, and estimated from above beyond.
const EXACT_PENDING: u64 = 10_000;

const CORRUPT: StorageError = StorageError::Corrupt { table: "changes", problem: "malformed value" };

/// One `_changes` request.
pub struct Changes {
    walk: Walk,
    /// What wakes it; empty for a feed that does not wait.
    watches: Vec<watch::Receiver<Position>>,
    state: State,
    /// The credentials of an account; nothing for operators and the anonymous.
    guard: Option<Guard>,
    /// Seconds since 1970.
    now: u64,
    drain_seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Rows,
    Waiting,
    Closing,
    Done,
}

/// The part that reads: it can be sent to another thread and back.
struct Walk {
    store: Store,
    database: Arc<Database>,
    options: Arc<ChangesOptions>,
    /// Rows up to here were looked at. Descending: rows from here on.
    cursor: Position,
    /// The log as this response sees it.
    end: Position,
    remaining: u64,
    shown: u64,
    chosen: Option<VecDeque<Position>>,
    /// Of a restricted caller.
    scope: Option<ScopedFeed>,
    view: Arc<View>,
}

impl Changes {
    /// Begins a feed over what a caller sees of a database. `now` in seconds; `drain_seconds`: how long a device's last pull
    /// counts for its late pushes.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(
        store: &Store,
        database: Arc<Database>,
        options: ChangesOptions,
        view: &View,
        now: u64,
        drain_seconds: u64,
    ) -> DocumentResult<Self> {
        let live = options.feed != Feed::Normal && !options.descending;
        // Followed before the state is read: what comes in between wakes the feed.
        let watches = match live {
            true => topics(&database, view).into_iter().map(|topic| store.announcements().follow(topic, 0)).collect(),
            false => Vec::new(),
        };
        let snapshot = store.snapshot();
        let end = database.counters(&snapshot)?.position;
        let (scope, since) = match view.restricted() {
            Some(restricted) => {
                let (tokens, id) = (&database.tokens, database.id());
                let opened = ScopedFeed::open(&snapshot, restricted.clone(), id, tokens, &options.since, end)?;
                (Some(opened.0), opened.1)
            }
            None => match database.tokens.resolve(&options.since) {
                StartingPoint::Now => (None, end),
                StartingPoint::After(position) if position > end => (None, 0), // of a future that was lost: tell all again
                StartingPoint::After(position) => (None, position),
            },
        };
        let mut walk = Walk {
            store: store.clone(),
            cursor: if options.descending { end + 1 } else { since },
            end,
            remaining: options.limit.unwrap_or(u64::MAX),
            shown: 0,
            chosen: None,
            scope,
            view: Arc::new(view.clone()),
            database,
            options: Arc::new(options),
        };
        walk.choose(&snapshot, if walk.options.descending { 0 } else { since })?;
        drop(snapshot);
        Ok(Self { walk, watches, state: State::Opening, guard: None, now, drain_seconds })
    }

    /// Ends the feed when the credentials behind it are withdrawn: between rows with its last token, never with a row more.
    pub fn guard(&mut self, guard: Guard) {
        self.guard = Some(guard);
    }

    fn is_withdrawn(&mut self) -> StorageResult<bool> {
        self.guard.as_mut().map_or(Ok(false), |guard| guard.holds(self.now).map(|holds| !holds))
    }

    /// The next pieces of the answer; `None` at its end.
    ///
    /// # Errors
    /// When the store fails: the connection is then cut, so that the client does not take the answer for whole.
    pub async fn next(&mut self) -> DocumentResult<Option<Vec<Piece>>> {
        loop {
            match self.state {
                State::Opening => {
                    self.state = State::Rows;
                    let normal_page = self.walk.options.feed == Feed::Normal;
                    let mut out = Output::default();
                    self.walk.open_frame(&mut out);
                    if !normal_page {
                        return Ok(Some(out.into_pieces())); // clients and proxies time out on silence
                    }
                    let rows = self.rows().await?;
                    out.append(rows);
                    return Ok(Some(out.into_pieces()));
                }
                State::Rows => {
                    let rows = self.rows().await?;
                    if rows.length() > 0 {
                        return Ok(Some(rows.into_pieces()));
                    }
                }
                State::Waiting => {
                    if let Some(beat) = self.wait().await? {
                        return Ok(Some(vec![Piece::Bytes(beat.into())]));
                    }
                }
                State::Closing => {
                    self.state = State::Done;
                    let mut out = Output::default();
                    self.walk.close_frame(&mut out)?;
                    self.note_pull();
                    return Ok(Some(out.into_pieces()));
                }
                State::Done => return Ok(None),
            }
        }
    }

    async fn rows(&mut self) -> DocumentResult<Output> {
        if self.is_withdrawn()? {
            self.state = State::Closing;
            return Ok(Output::default());
        }
        let settled = self.walk.scope.as_ref().is_none_or(|scope| !scope.is_behind());
        let near = self.walk.end.saturating_sub(self.walk.cursor) <= SHORT;
        let short = near && settled && !self.walk.options.descending;
        let (out, more) = if short {
            self.walk.page()?
        } else {
            let mut walk = self.walk.clone_for_page();
            let (walk, page) = tokio::task::spawn_blocking(move || {
                let page = walk.page();
                (walk, page)
            })
            .await
            .map_err(|_| StorageError::Panicked)?;
            self.walk = walk;
            page?
        };
        if self.is_withdrawn()? {
            return Err(Error::new(ErrorKind::Unauthorized, "withdrawn").into()); // what was read meanwhile is not sent
        }
        if !more {
            self.state = self.after_rows();
        }
        Ok(out)
    }

    fn after_rows(&self) -> State {
        let answered = self.walk.options.feed == Feed::Longpoll && self.walk.shown > 0;
        let limit_reached = self.walk.remaining == 0 && self.walk.options.limit != Some(0);
        match self.watches.is_empty() {
            false if !answered && !limit_reached => State::Waiting,
            _ => State::Closing,
        }
    }

    /// The device now knows what this answer told it. Its late pushes are judged as of here (S13).
    fn note_pull(&self) {
        let Some(scope) = &self.walk.scope else { return };
        let (database, now) = (self.walk.database.id(), self.now);
        let key = DeviceKey(database, scope.restricted.device);
        let (position, of_scope) = scope.knows(self.walk.cursor);
        let (with_lost, drain_seconds) = (self.walk.options.lost, self.drain_seconds);
        let told = Told { position, scope: of_scope, with_lost, drain_seconds };
        let account = scope.restricted.account.clone();
        let known = self.walk.store.snapshot().get(&super::devices::DEVICES, &key).ok().flatten();
        let is_news = known.is_none_or(|known| {
            let ends = known.draining_since > 0 || (with_lost && known.untold.is_some());
            let stale = now > known.pulled_at + NOTED_PULL_SECONDS || ends;
            known.pulled.is_none() || known.scope != told.scope || scope.moved || stale
        });
        if is_news && !self.walk.options.descending {
            self.walk.store.write_unattended(move |batch| note_pull(batch, key, &account, told, now));
        }
    }

    /// Waits for the log to grow. Gives a heartbeat to send, or nothing after a change of state.
    async fn wait(&mut self) -> DocumentResult<Option<&'static [u8]>> {
        let options = &self.walk.options;
        let patience = options.heartbeat_ms.or(options.timeout_ms).map_or(Duration::MAX, Duration::from_millis);
        let end = self.walk.end;
        let (watches, guard) = (&mut self.watches, &mut self.guard);
        let grown = tokio::select! {
            biased;
            () = withdrawn(guard) => {
                self.state = State::Rows; // looks at the guard first
                return Ok(None);
            }
            grown = tokio::time::timeout(patience, first_of(watches, end)) => grown,
        };
        match grown {
            Ok(Some(position)) => {
                let store = self.walk.store.clone();
                let snapshot = store.snapshot();
                self.state = State::Rows;
                match &self.walk.scope {
                    // A changed scope ends the feed with its last token; the next one tells what the change means.
                    Some(scope) if scope.is_outdated(&snapshot)? => self.state = State::Closing,
                    Some(_) => self.walk.end = self.walk.database.counters(&snapshot)?.position,
                    None => self.walk.end = position,
                }
                let since = self.walk.cursor;
                self.walk.choose(&snapshot, since)?;
                Ok(None)
            }
            Ok(None) => {
                self.state = State::Closing; // the database was deleted
                Ok(None)
            }
            Err(_) if options.heartbeat_ms.is_some() => Ok(Some(match options.feed {
                Feed::EventSource => b"event: heartbeat\ndata: \n\n",
                _ => b"\n",
            })),
            Err(_) => {
                self.state = State::Closing;
                Ok(None)
            }
        }
    }
}

/// Waits until something about the caller's credentials changed; for ever without a guard.
async fn withdrawn(guard: &mut Option<Guard>) {
    match guard {
        Some(guard) => guard.changed().await,
        None => std::future::pending().await,
    }
}

/// Waits until one of several topics is beyond a position.
async fn first_of(watches: &mut [watch::Receiver<Position>], beyond: Position) -> Option<Position> {
    match watches {
        [one] => wait_for(one, beyond).await,
        many => {
            let all = many.iter_mut().map(|watch| Box::pin(wait_for(watch, beyond)));
            futures::future::select_all(all).await.0
        }
    }
}

/// What wakes a feed: what happens in the database, or under the anchors of a scope.
fn topics(database: &Database, view: &View) -> Vec<u64> {
    match view.restricted() {
        Some(restricted) => {
            let anchors = restricted.scope.anchors();
            anchors.iter().map(|anchor| topic(database.id(), anchor)).collect()
        }
        None => vec![whole(database.id())],
    }
}

/// How long a device's row may say that it pulled earlier than it did, when it was told nothing new.
const NOTED_PULL_SECONDS: u64 = 900;

/// Waits until a topic is beyond a position. `None`: it ended.
async fn wait_for(watch: &mut watch::Receiver<Position>, beyond: Position) -> Option<Position> {
    watch.wait_for(|position| *position > beyond).await.ok().map(|position| *position)
}

impl Walk {
    /// Moves what a page needs out, leaving an empty shell behind until the page comes back.
    fn clone_for_page(&mut self) -> Self {
        Self {
            store: self.store.clone(),
            database: Arc::clone(&self.database),
            options: Arc::clone(&self.options),
            cursor: self.cursor,
            end: self.end,
            remaining: self.remaining,
            shown: self.shown,
            chosen: self.chosen.take(),
            scope: self.scope.take(),
            view: Arc::clone(&self.view),
        }
    }

    /// With `_doc_ids`, the positions to show are looked up instead of scanning the log.
    fn choose(&mut self, snapshot: &Snapshot<'_>, since: Position) -> StorageResult<()> {
        let Filter::DocumentIds(ids) = &self.options.filter else { return Ok(()) };
        if self.scope.is_some() {
            return Ok(()); // what a scope shows is few; it is filtered row by row
        }
        let keys: Vec<Vec<u8>> = ids.iter().map(|id| DocumentKey::bytes(self.database.id(), id)).collect();
        let heads = snapshot.get_many(Family::Documents, &keys)?;
        let positions =
            heads.iter().flatten().filter_map(|bytes| DocumentHead::decode(bytes)).map(|head| head.position);
        let mut chosen: Vec<Position> = positions.filter(|at| *at > since && *at <= self.end).collect();
        chosen.sort_unstable();
        if self.options.descending {
            chosen.reverse();
        }
        self.chosen = Some(chosen.into());
        Ok(())
    }

    /// Reads and writes rows until the page is full. `false`: there are no more up to `end`, or the limit is reached.
    fn page(&mut self) -> DocumentResult<(Output, bool)> {
        let store = self.store.clone();
        let snapshot = store.snapshot();
        let mut out = Output::default();
        let database = self.database.id();
        if self.scope.is_some() {
            let more = match self.options.descending {
                true => self.scoped_backwards(&snapshot, &mut out)?,
                false => self.scoped_page(&snapshot, &mut out)?,
            };
            return Ok((out, more));
        }
        if let Some(mut chosen) = self.chosen.take() {
            while self.remaining > 0 && !page_full(&out) {
                let Some(position) = chosen.pop_front() else { break };
                let key = ChangeKey { database, position };
                if let Some(row) = snapshot.get_bytes(Family::Changes, &CHANGES.key(&key))? {
                    self.row(&snapshot, position, &row, &mut out)?;
                }
                self.cursor = position;
            }
            let more = self.remaining > 0 && !chosen.is_empty();
            self.chosen = Some(chosen);
            if !more && self.remaining > 0 && !self.options.descending {
                self.cursor = self.end;
            }
            return Ok((out, more));
        }
        if self.remaining == 0 {
            return Ok((out, false));
        }
        let key = |position| CHANGES.key(&ChangeKey { database, position });
        let range = match self.options.descending {
            true => Range::between(key(1), key(self.cursor)).reversed(),
            false => Range::between(key(self.cursor + 1), key(self.end + 1)),
        };
        let mut looked_at = 0;
        let mut more = false;
        let mut failure = None;
        snapshot.scan(Family::Changes, &range, &mut |key, row| {
            if self.remaining == 0 || page_full(&out) || looked_at == PAGE_ROWS {
                more = self.remaining > 0;
                return Ok(ControlFlow::Break(()));
            }
            looked_at += 1;
            let position = ChangeKey::position_of(key).unwrap_or_default();
            if let Err(error) = self.row(&snapshot, position, row, &mut out) {
                failure = Some(error);
                return Ok(ControlFlow::Break(()));
            }
            self.cursor = position;
            Ok(ControlFlow::Continue(()))
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !more && self.remaining > 0 && !self.options.descending {
            self.cursor = self.end;
        }
        Ok((out, more))
    }

    /// A page of what a restricted caller sees. `false`: there is no more up to `end`, or the limit is reached.
    fn scoped_page(&mut self, snapshot: &Snapshot<'_>, out: &mut Output) -> DocumentResult<bool> {
        let most = if self.options.include_docs { SCOPED_DOCUMENTS } else { SCOPED_ROWS };
        while self.remaining > 0 && !page_full(out) {
            let most = usize::try_from(self.remaining).unwrap_or(most).clamp(1, most);
            let Some(scope) = &mut self.scope else { return Ok(false) };
            let rows = scope.rows(snapshot, self.cursor, self.end, most)?;
            let mut cut = false;
            for (position, row) in rows.told {
                if self.remaining == 0 || page_full(out) {
                    cut = true;
                    break;
                }
                self.scoped_row(snapshot, position, row, out)?;
                self.told(position);
            }
            if cut {
                break;
            }
            if let Some(last) = rows.last {
                self.told(last); // also behind rows that are hidden
            }
            if rows.whole && self.remaining > 0 {
                let Some(scope) = &mut self.scope else { return Ok(false) };
                if !scope.next_step() {
                    self.cursor = self.end;
                    return Ok(false);
                }
            }
        }
        Ok(self.remaining > 0)
    }

    /// The newest rows first. All that the scope shows is gathered, for the feed can only be read upward.
    fn scoped_backwards(&mut self, snapshot: &Snapshot<'_>, out: &mut Output) -> DocumentResult<bool> {
        let (mut all, mut after) = (Vec::new(), 0);
        while let Some(scope) = &mut self.scope {
            while scope.is_behind() {
                scope.next_step();
            }
            let rows = scope.rows(snapshot, after, self.end, SCOPED_ROWS)?;
            after = rows.last.unwrap_or(self.end);
            all.extend(rows.told.into_iter().filter(|(_, row)| matches!(row, Row::Change(_))));
            if rows.whole {
                break;
            }
        }
        for (position, row) in all.into_iter().rev() {
            if self.remaining == 0 {
                break;
            }
            self.scoped_row(snapshot, position, row, out)?;
        }
        Ok(false)
    }

    fn scoped_row(
        &mut self,
        snapshot: &Snapshot<'_>,
        position: Position,
        row: Row,
        out: &mut Output,
    ) -> DocumentResult<()> {
        let asked = |id: &str| match &self.options.filter {
            Filter::DocumentIds(ids) => ids.binary_search_by(|known| known.as_str().cmp(id)).is_ok(),
            _ => true,
        };
        match row {
            Row::Change(change) => {
                let id = ChangeView::decode(&change).ok_or(CORRUPT)?.id;
                if asked(id) {
                    self.row(snapshot, position, &change, out)?;
                }
            }
            Row::Lost(id) if self.options.lost && asked(&id) => {
                self.start_row(position, &id, std::iter::empty(), false, out);
                out.text.extend_from_slice(b",\"lost\":true}");
                self.finish_row(out);
            }
            Row::Lost(_) => {}
        }
        Ok(())
    }

    /// Everything up to here is told, in whatever step the feed is.
    fn told(&mut self, position: Position) {
        match &mut self.scope {
            Some(scope) if scope.is_behind() => scope.told(position),
            _ => self.cursor = position,
        }
    }

    /// Appends the token of a position.
    fn write_token(&self, position: Position, out: &mut Vec<u8>) {
        match &self.scope {
            Some(scope) => scope.write_token(&self.database.tokens, position, out),
            None => self.database.tokens.write(position, out),
        }
    }

    fn row(
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

    fn start_row(
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

    fn finish_row(&self, out: &mut Output) {
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
        let attachments = match self.options.attachments {
            true => AttachmentBytes::Since(Vec::new()),
            false => AttachmentBytes::Stubs,
        };
        let include = Include { conflicts: self.options.conflicts, attachments, ..Include::default() };
        match visible(snapshot, self.database.id(), &self.view, row.id, found)? {
            Some(found) => found.write(snapshot, self.database.id(), &include, out),
            None => out.text.extend_from_slice(b"null"),
        }
        Ok(())
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
        let body = snapshot.get(&BODIES, &BodyKey::new(database, row.cluster, id, &revision))?;
        Ok(body.map(|body| Found { id: id.to_owned(), row, revision, deleted, body }))
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

    fn open_frame(&self, out: &mut Output) {
        match self.options.feed {
            Feed::Normal | Feed::Longpoll => out.text.extend_from_slice(b"{\"results\":[\n"),
            Feed::Continuous | Feed::EventSource => {}
        }
    }

    fn close_frame(&self, out: &mut Output) -> StorageResult<()> {
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

fn page_full(out: &Output) -> bool {
    out.text.len() >= PAGE_BYTES || out.attachment_bytes() > 0
}
