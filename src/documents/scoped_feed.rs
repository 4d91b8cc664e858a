//! The feed of a restricted caller (design §6.4): a merge of a handful of ranges of the family `feed`.
//!
//! Cost follows the rows since the token, not the documents in scope. A position is taken by one document, so rows of the
//! same position are one document. Its rows stand at the position of its last change, but those of ranges that it came
//! into later stand at the position of coming: a move costs nothing where it changes nothing. When the scope changed since the token was given, the feed first
//! tells what was lost and what was gained, in the order of positions and resumable by the token, and then goes on.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::OnceLock;

use settle_protocol::sequence::{Backfill, Position, ScopeMark, Since, TokenPrefix};

use super::databases::Database;
use super::filed::{FeedView, feed_key};
use super::read::placement;
use super::recent_rows::RecentRows;
use super::scopes::{deepest, end_of, history, scope_at};
use super::tables::{ChangeView, DatabaseId};
use super::watched::are_whole;
use crate::access::placement::Placement;
use crate::access::scope::{Cursor, Scope};
use crate::access::view::{Restricted, Visible};
use crate::storage::{Family, Range, Snapshot, StorageError, StorageResult};

/// Scopes that one token remembers; a client that saw more of them begin and not end starts again from 0.
const MOST_BASES: usize = 3;

const CORRUPT: StorageError = StorageError::Corrupt { table: "feed", problem: "malformed value" };

/// What a feed tells at a position.
pub(super) enum Row {
    /// A row of the log, as its bytes.
    Change(Visible<Vec<u8>>),
    /// A document that is out of scope now.
    Lost(String),
}

/// How far a feed came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Documents of former scopes that are out of the present one, behind this position.
    Lost(Position),
    /// Documents that the present scope added, behind this position.
    Gained(Position),
    /// What changed.
    Normal,
}

/// A scope that the client was told about.
struct Base {
    position: Position,
    scope: Scope,
}

/// The scope of a feed, and where it stands.
pub(super) struct ScopedFeed {
    /// Whose.
    pub(super) restricted: Restricted,
    database: DatabaseId,
    /// The position up to which the client knows the first base.
    start: Position,
    bases: Vec<Base>,
    /// All scopes that the account had since, which a device may have pushed under.
    former: Vec<(Scope, Position)>,
    step: Step,
    /// A row of the scope was passed, shown or not.
    pub(super) moved: bool,
    /// The client had the present scope at `start` already.
    settled: bool,
    /// All scopes that the account ever had, once they were looked up.
    ever: OnceLock<Vec<(Scope, Position)>>,
}

/// A piece of a feed.
pub(super) struct Rows {
    /// What to tell.
    pub(super) told: Vec<(Position, Row)>,
    /// The last position that was looked at, shown or not.
    pub(super) last: Option<Position>,
    /// There is no more in this step.
    pub(super) whole: bool,
}

/// A row of the feed at a position: the best of the document's rows there.
struct Found {
    position: Position,
    /// Shown as it is.
    passes: bool,
    /// The row of the log, or the id of a document that left.
    row: Result<Vec<u8>, String>,
    /// It left one of the ranges here, whatever other rows it has at this position.
    left: bool,
    private: bool,
    /// The cursor where it was found.
    cursor: Cursor,
}

impl Found {
    /// A row that whoever reads all of its range is shown, with its range and position.
    fn open_to_its_range(&self) -> Option<(&[u8], Cursor, Position)> {
        let change = self.row.as_deref().ok().filter(|_| !self.private && self.cursor.only_author.is_none());
        change.map(|change| (change, self.cursor, self.position))
    }
}

impl ScopedFeed {
    /// Begins behind a token. Returns the feed and the position that the client stands at.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn open(
        snapshot: &Snapshot<'_>,
        restricted: Restricted,
        database: DatabaseId,
        tokens: &TokenPrefix,
        since: &Since,
        end: Position,
    ) -> StorageResult<(Self, Position)> {
        let mut feed = Self {
            restricted,
            database,
            start: 0,
            bases: Vec::new(),
            former: Vec::new(),
            step: Step::Normal,
            moved: false,
            settled: false,
            ever: OnceLock::new(),
        };
        let mark = match tokens.resolve_scoped(since) {
            None => return Ok((feed, end)),
            Some((position, Some(mark))) if position <= end => {
                feed.start = position;
                mark
            }
            Some(_) => return Ok((feed, 0)),
        };
        let account = feed.restricted.account.clone();
        let mut positions = vec![mark.scope];
        let target = mark.backfill.as_ref().map(|backfill| backfill.target);
        positions.extend(mark.backfill.iter().flat_map(|backfill| backfill.aborted.clone()));
        let same = |position: Position| -> StorageResult<bool> {
            let (scope, _) = scope_at(snapshot, database, &account, Some(position))?;
            Ok(scope == feed.restricted.scope && end_of(snapshot, database, &account, position)?.is_none())
        };
        let resumed = match target {
            Some(target) => same(target)?,
            None => same(mark.scope)?,
        };
        if resumed && mark.backfill.is_none() {
            feed.settled = true;
            let start = feed.start;
            return Ok((feed, start));
        }
        if !resumed {
            positions.extend(target);
        }
        if positions.len() > MOST_BASES {
            feed.start = 0;
            return Ok((feed, 0));
        }
        feed.step = match mark.backfill.filter(|_| resumed) {
            Some(Backfill { gaining: true, cursor, .. }) => Step::Gained(cursor),
            Some(Backfill { cursor, .. }) => Step::Lost(cursor),
            None => Step::Lost(0),
        };
        for position in positions {
            let (scope, _) = scope_at(snapshot, database, &account, Some(position))?;
            let ended = end_of(snapshot, database, &account, position)?;
            feed.former.push((scope.clone(), ended.unwrap_or(Position::MAX)));
            feed.bases.push(Base { position, scope });
        }
        for (scope, end) in history(snapshot, database, &account, mark.scope)? {
            match feed.former.iter_mut().find(|(known, _)| *known == scope) {
                Some((_, known)) => *known = end.max(*known),
                None => feed.former.push((scope, end)),
            }
        }
        feed.former
            .retain(|(scope, _)| *scope != feed.restricted.scope || feed.bases.iter().any(|base| base.scope == *scope));
        let start = feed.start;
        Ok((feed, start))
    }

    /// Still telling what a change of scope means.
    pub(super) fn is_behind(&self) -> bool {
        self.step != Step::Normal
    }

    /// Notes that the row at a position was told.
    pub(super) fn told(&mut self, position: Position) {
        match &mut self.step {
            Step::Lost(cursor) | Step::Gained(cursor) => *cursor = position,
            Step::Normal => {}
        }
    }

    /// What the client knows (position, scope position) when it has everything up to a position of the normal part.
    pub(super) fn knows(&self, position: Position) -> (Position, Position) {
        match self.step {
            Step::Normal => (position, self.restricted.scope_position),
            _ => (self.start, self.bases.first().map_or(0, |base| base.position)),
        }
    }

    /// Appends the token of a position (in the normal part), or of the present state of a backfill.
    /// `at_end`: the position is the end of the log.
    pub(super) fn write_token(&self, tokens: &TokenPrefix, position: Position, at_end: bool, out: &mut Vec<u8>) {
        let (gaining, cursor) = match self.step {
            Step::Normal => {
                let mark = ScopeMark { scope: self.restricted.scope_position, backfill: None };
                return tokens.write_scoped(position, &mark, at_end, out);
            }
            Step::Lost(cursor) => (false, cursor),
            Step::Gained(cursor) => (true, cursor),
        };
        let aborted = self.bases.iter().skip(1).map(|base| base.position).collect();
        let backfill = Backfill { target: self.restricted.scope_position, gaining, cursor, aborted };
        let scope = self.bases.first().map_or(0, |base| base.position);
        tokens.write_scoped(self.start, &ScopeMark { scope, backfill: Some(backfill) }, false, out);
    }

    /// Whether the scope of the account is no longer that of this feed.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn is_outdated(&self, snapshot: &Snapshot<'_>) -> StorageResult<bool> {
        let (scope, _) = scope_at(snapshot, self.database, &self.restricted.account, None)?;
        Ok(scope != self.restricted.scope)
    }

    /// The next rows: at most `most` documents are looked at. `recent` notes where they stand.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn rows(
        &mut self,
        snapshot: &Snapshot<'_>,
        after: Position,
        end: Position,
        most: usize,
        recent: &RecentRows,
    ) -> StorageResult<Rows> {
        let deepest = deepest(snapshot, self.database)?;
        let present = self.restricted.scope.cursors(deepest);
        let (cursors, from, to) = match self.step {
            Step::Normal => (present, after, end),
            Step::Lost(cursor) => (self.lost_cursors(&present, deepest), cursor, end),
            Step::Gained(cursor) => (self.gained_cursors(&present, deepest), cursor, self.start.min(end)),
        };
        let (found, whole) = self.collect(snapshot, &cursors, from, to, most)?;
        let last = found.last().map(|found| found.position);
        if !matches!(self.step, Step::Lost(_)) {
            recent.note(found.iter().filter_map(Found::open_to_its_range))?;
        }
        let mut told = Vec::with_capacity(found.len());
        for row in found {
            let position = row.position;
            if let Some(row) = self.decide(snapshot, row)? {
                told.push((position, row));
            }
        }
        if self.may_repeat() {
            tell_once(&mut told)?;
        }
        self.moved |= last.is_some();
        Ok(Rows { told, last, whole })
    }

    /// Whether a document may stand in two of the ranges: then it may stand there at two positions, having come into one of
    /// them later.
    fn may_repeat(&self) -> bool {
        let scope = &self.restricted.scope;
        scope.reaches.len() > 1 || scope.reaches.iter().any(|reach| reach.primary) || scope.unassigned
    }

    /// Goes on to the next step. `false`: this was the last one.
    pub(super) fn next_step(&mut self) -> bool {
        self.step = match self.step {
            Step::Lost(_) => Step::Gained(0),
            Step::Gained(_) => {
                self.bases.clear();
                Step::Normal
            }
            Step::Normal => return false,
        };
        true
    }

    /// Whether private records must be looked at again: they depend on the person and the places themselves, and on
    /// whether their author is in range.
    fn regards_private_differently(&self) -> bool {
        let regard = |scope: &Scope| {
            let reaches = scope.reaches.iter().map(|reach| (reach.place, reach.depth, reach.primary));
            (scope.contact, reaches.collect::<Vec<_>>())
        };
        let present = regard(&self.restricted.scope);
        self.bases.iter().any(|base| regard(&base.scope) != present)
    }

    fn lost_cursors(&self, present: &[Cursor], deepest: u8) -> Vec<Cursor> {
        let all = self.regards_private_differently();
        let former: BTreeSet<Cursor> = self.former.iter().flat_map(|(scope, _)| scope.cursors(deepest)).collect();
        former.into_iter().filter(|cursor| !present.contains(cursor) || (all && cursor.way.is_record())).collect()
    }

    fn gained_cursors(&self, present: &[Cursor], deepest: u8) -> Vec<Cursor> {
        let all = self.regards_private_differently();
        let known: Vec<Vec<Cursor>> = self.bases.iter().map(|base| base.scope.cursors(deepest)).collect();
        let had = |cursor: &Cursor| known.iter().all(|cursors| cursors.contains(cursor));
        present.iter().filter(|cursor| !had(cursor) || (all && cursor.way.is_record())).copied().collect()
    }

    /// Merges the ranges in the order of positions, one entry per document.
    fn collect(
        &self,
        snapshot: &Snapshot<'_>,
        cursors: &[Cursor],
        from: Position,
        to: Position,
        most: usize,
    ) -> StorageResult<(Vec<Found>, bool)> {
        let mut found: Vec<Found> = Vec::new();
        if to <= from {
            return Ok((found, true));
        }
        let key = |cursor: &Cursor, at| feed_key(self.database, &cursor.anchor, cursor.way, cursor.depth, at);
        let ranges: Vec<Range> =
            cursors.iter().map(|cursor| Range::between(key(cursor, from + 1), key(cursor, to + 1))).collect();
        let mut whole = true;
        snapshot.merge(Family::Feed, &ranges, &mut |number, position, row| {
            let cursor = cursors[number];
            let known = found.last().is_some_and(|last| last.position == position);
            if !known && found.len() == most {
                whole = false;
                return Ok(ControlFlow::Break(()));
            }
            let (row, passes, private) = match FeedView::decode(row).ok_or(CORRUPT)? {
                FeedView::Left { id } => (Err(id.to_owned()), false, false),
                FeedView::Present { private, author, change } => {
                    let own = cursor.only_author.is_none_or(|only| author == Some(only));
                    (Ok(change.to_vec()), own, private)
                }
            };
            let left = row.is_err();
            let this = Found { position, passes, row, left, private, cursor };
            match found.last_mut().filter(|_| known) {
                Some(last) => {
                    let left = left || last.left;
                    if (this.passes && !last.passes) || (this.row.is_ok() && last.row.is_err()) {
                        *last = this;
                    }
                    last.left = left;
                }
                None => found.push(this),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((found, whole))
    }

    /// What a row means for this caller: shown, lost, or nothing.
    fn decide(&self, snapshot: &Snapshot<'_>, found: Found) -> StorageResult<Option<Row>> {
        let scope = &self.restricted.scope;
        let behind = matches!(self.step, Step::Lost(_));
        if found.passes
            && !found.private
            && !behind
            && let Ok(change) = found.row
        {
            return Ok(Visible::in_scope(found.cursor, scope, change).map(Row::Change));
        }
        let id = match &found.row {
            Ok(change) => ChangeView::decode(change).ok_or(CORRUPT)?.id.to_owned(),
            Err(id) => id.clone(),
        };
        let Some(placement) = placement(snapshot, self.database, &id)? else { return Ok(None) };
        if scope.sees(&placement, None) {
            let shown = found.row.ok().filter(|_| !behind && found.passes);
            let shown = shown.and_then(|change| scope.show(&placement, change));
            return Ok(shown.map(Row::Change));
        }
        let lost = match self.step {
            Step::Lost(_) => self.former.iter().any(|(scope, end)| scope.saw(&placement, *end)),
            Step::Gained(_) => false,
            Step::Normal if found.left => self.saw_before(snapshot, &placement, found.position)?,
            Step::Normal => {
                let refiltered = placement.past.iter().any(|(_, until)| *until > self.start);
                (refiltered && scope.saw(&placement, found.position)) || self.saw_at_start(&placement)
            }
        };
        Ok(lost.then_some(Row::Lost(id)))
    }

    /// Whether the client was shown a document by the present scope: a private record is hidden when its author moves away,
    /// although none of its rows leaves a range.
    fn saw_at_start(&self, placement: &Placement) -> bool {
        self.settled && self.restricted.scope.sees(placement, Some(self.start))
    }

    /// Whether the account saw a document just before a position, in the scope of that time.
    fn saw_before(&self, snapshot: &Snapshot<'_>, placement: &Placement, at: Position) -> StorageResult<bool> {
        if at > self.restricted.scope_position {
            return Ok(self.restricted.scope.saw(placement, at));
        }
        // It left before the present scope began: an earlier one may have shown it until then.
        let account = &self.restricted.account;
        let scopes = match self.ever.get() {
            Some(scopes) => scopes,
            None => {
                let scopes = history(snapshot, self.database, account, 0)?;
                self.ever.get_or_init(|| scopes)
            }
        };
        Ok(scopes.iter().any(|(scope, end)| scope.saw(placement, at.min(*end))))
    }
}

fn id_of(row: &Row) -> StorageResult<String> {
    match row {
        Row::Change(change) => Ok(ChangeView::decode(change).ok_or(CORRUPT)?.id.to_owned()),
        Row::Lost(id) => Ok(id.clone()),
    }
}

/// Of the rows of one document, only the last is told.
fn tell_once(told: &mut Vec<(Position, Row)>) -> StorageResult<()> {
    let mut ids = HashSet::with_capacity(told.len());
    let mut last = Vec::with_capacity(told.len());
    for (position, row) in told.drain(..).rev() {
        if ids.insert(id_of(&row)?) {
            last.push((position, row));
        }
    }
    last.reverse();
    *told = last;
    Ok(())
}

/// Live documents that a restricted caller sees, in the order of their ids.
///
/// # Errors
/// When the store fails.
pub fn visible_ids(
    snapshot: &Snapshot<'_>,
    restricted: &Restricted,
    database: &Database,
) -> StorageResult<BTreeSet<String>> {
    debug_assert!(are_whole(snapshot, database, &restricted.scope)?, "ranges are read before they are complete");
    let database = database.id();
    let feed = ScopedFeed {
        restricted: restricted.clone(),
        database,
        start: 0,
        bases: Vec::new(),
        former: Vec::new(),
        step: Step::Normal,
        moved: false,
        settled: false,
        ever: OnceLock::new(),
    };
    let cursors = restricted.scope.cursors(deepest(snapshot, database)?);
    let (found, _) = feed.collect(snapshot, &cursors, 0, Position::MAX - 1, usize::MAX)?;
    let mut ids = BTreeSet::new();
    for row in found {
        if let Some(Row::Change(change)) = feed.decide(snapshot, row)? {
            let change = ChangeView::decode(&change).ok_or(CORRUPT)?;
            if !change.deleted {
                ids.insert(change.id.to_owned());
            }
        }
    }
    Ok(ids)
}

/// Rows that a restricted caller has between two positions, counted up to a limit.
///
/// # Errors
/// When the store fails.
pub(super) fn count_rows(
    feed: &ScopedFeed,
    snapshot: &Snapshot<'_>,
    after: Position,
    end: Position,
    most: usize,
) -> StorageResult<usize> {
    let cursors = feed.restricted.scope.cursors(deepest(snapshot, feed.database)?);
    let (found, _) = feed.collect(snapshot, &cursors, after, end, most)?;
    let mut ids = feed.may_repeat().then(HashSet::new);
    let mut counted = 0;
    for row in found {
        let Some(row @ Row::Change(_)) = feed.decide(snapshot, row)? else { continue };
        let is_new = match &mut ids {
            Some(ids) => ids.insert(id_of(&row)?),
            None => true,
        };
        counted += usize::from(is_new);
    }
    Ok(counted)
}
