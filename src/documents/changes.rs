//! The feed: a range scan of the log, page by page, and the wait for more.
//!
//! A response shows the log up to the position at which it began (or woke), so each document comes at most once and at its
//! latest position; what changes meanwhile is behind `last_seq` and comes with the next request. No snapshot is held while
//! the client reads or sleeps. What a row looks like is in `changes/rows.rs`.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use settle_protocol::changes::{ChangesOptions, Feed, Filter};
use settle_protocol::sequence::{Position, StartingPoint};
use settle_protocol::{Error, ErrorKind};
use tokio::sync::watch;

use super::databases::Database;
use super::devices::{DeviceKey, Told, note_pull};
use super::error::DocumentResult;
use super::output::{Output, Piece};
use super::scoped_feed::{Row, ScopedFeed};
use super::scopes::{topic, whole};
use super::shared_answer::Asked;
use super::tables::{CHANGES, ChangeKey, ChangeView, DocumentHead, DocumentKey};
use super::watched::are_whole;
use crate::access::view::View;
use crate::accounts::guard::Guard;
use crate::storage::{Family, Range, Read, Snapshot, StorageError, StorageResult, Store};

mod rows;

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
    /// The end of the log when the last page was read.
    newest: Position,
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
                debug_assert!(
                    are_whole(&snapshot, &database, &restricted.scope)?,
                    "a feed is read before it is complete"
                );
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
            newest: end,
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
                    if self.is_withdrawn()? {
                        self.state = State::Closing;
                        continue;
                    }
                    if let Some(answer) = self.shared_answer()? {
                        self.state = State::Done;
                        return Ok(Some(vec![Piece::Bytes(answer)]));
                    }
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

    /// All the rest of a longpoll in one piece, if others may be given the same.
    fn shared_answer(&mut self) -> DocumentResult<Option<Bytes>> {
        let walk = &mut self.walk;
        let few = (1..=SHORT).contains(&walk.end.saturating_sub(walk.cursor));
        let begins = walk.shown == 0 && walk.scope.is_none();
        let asked = Asked::of(&walk.options, walk.cursor, walk.end);
        let Some(asked) = asked.filter(|_| few && begins) else { return Ok(None) };
        let database = Arc::clone(&walk.database);
        database.shared_answer.get(asked, || walk.whole_answer())
    }

    async fn rows(&mut self) -> DocumentResult<Output> {
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
            self.state = self.after_rows()?;
        }
        Ok(out)
    }

    fn after_rows(&self) -> DocumentResult<State> {
        let answered = self.walk.options.feed == Feed::Longpoll && self.walk.shown > 0;
        let limit_reached = self.walk.remaining == 0 && self.walk.options.limit != Some(0);
        if self.watches.is_empty() || answered || limit_reached {
            return Ok(State::Closing);
        }
        // A scope that changed between the caller's first look and the state read here woke nobody.
        let outdated = match &self.walk.scope {
            Some(scope) => scope.is_outdated(&self.walk.store.snapshot())?,
            None => false,
        };
        Ok(if outdated { State::Closing } else { State::Waiting })
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
                self.state = State::Rows;
                if self.walk.scope.is_none() && !matches!(options.filter, Filter::DocumentIds(_)) {
                    self.walk.end = position; // ten thousand may have waited for it: no snapshot for each
                    return Ok(None);
                }
                let store = self.walk.store.clone();
                let snapshot = store.snapshot();
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
            newest: self.newest,
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
        self.newest = self.database.counters(&snapshot)?.position;
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

    /// The rows up to `end` and the end of the answer; `None` when that is not all of it. Moves nothing on.
    fn whole_answer(&mut self) -> DocumentResult<Option<Bytes>> {
        let mut walk = self.clone_for_page();
        let (mut out, more) = walk.page()?;
        if more || walk.shown == 0 {
            return Ok(None);
        }
        walk.close_frame(&mut out)?;
        Ok(Some(out.text.into()))
    }

    /// A page of what a restricted caller sees. `false`: there is no more up to `end`, or the limit is reached.
    fn scoped_page(&mut self, snapshot: &Snapshot<'_>, out: &mut Output) -> DocumentResult<bool> {
        let most = if self.options.include_docs { SCOPED_DOCUMENTS } else { SCOPED_ROWS };
        while self.remaining > 0 && !page_full(out) {
            let most = usize::try_from(self.remaining).unwrap_or(most).clamp(1, most);
            let Some(scope) = &mut self.scope else { return Ok(false) };
            let rows = scope.rows(snapshot, self.cursor, self.end, most, &self.database.recent_rows)?;
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
            let rows = scope.rows(snapshot, after, self.end, SCOPED_ROWS, &self.database.recent_rows)?;
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
        let at_end = position == self.newest && !self.options.descending;
        match &self.scope {
            Some(scope) => scope.write_token(&self.database.tokens, position, at_end, out),
            None => self.database.tokens.write(position, at_end, out),
        }
    }
}

fn page_full(out: &Output) -> bool {
    out.text.len() >= PAGE_BYTES || out.attachment_bytes() > 0
}
