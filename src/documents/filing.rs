//! Filing: where a document of a scoped database belongs, kept in the batch of the write (design §6.1).
//!
//! [`Writing::file`] is called for every document that gets a position. It reads what the document says, resolves it beside
//! the stored documents, and writes the rows of the feed. When a contact changes in a way that others hang on (its line, its
//! shortcode, its role as primary contact, its life), these are filed again in the same batch, each at a new position.
//!
//! Everything that depends on a contact through its line has a row under the contact's anchor, so finding the dependents
//! is a scan of the feed and needs no second index.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use settle_protocol::sequence::Position;

use super::filed::{FeedView, Filed, PLACEMENTS, feed_key, feed_prefix, subjects, way_and_depth};
use super::tables::{CHANGES, ChangeKey, ChangeRow, ChangeView, DOCUMENTS, DocumentKey, DocumentRow};
use super::write::Writing;
use crate::access::facts::{ContactFacts, Facts, RecordFacts, is_subject_key};
use crate::access::placement::{Anchor, Entry, Filter, Way, of_contact, of_everybody, of_key, of_unassigned, of_user};
use crate::storage::{Family, Range, Read, StorageError, StorageResult, Value};

/// Places in a line; what is above belongs to nobody. Keeps a forged hierarchy from costing thousands of rows.
const LONGEST_LINE: usize = 64;
/// Earlier filters that a document remembers.
const PAST_FILTERS: usize = 8;

const CORRUPT: StorageError = StorageError::Corrupt { table: "feed", problem: "malformed value" };

/// Entries of a document to be, by anchor and way: the smallest depth counts.
pub(super) type Wanted = BTreeMap<(Anchor, Way), u8>;

/// What a change of a contact means for others.
#[derive(Debug, Default)]
struct Consequences {
    /// Contacts whose line changed: all that is filed under them.
    lines: BTreeSet<Anchor>,
    /// Contacts whose role or life changed: what is about them.
    subjects: BTreeSet<Anchor>,
    /// Keys whose meaning may have changed.
    keys: BTreeSet<Anchor>,
}

impl Writing<'_, '_> {
    /// Where a document is filed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn filed(&self, id: &str) -> StorageResult<Option<Filed>> {
        self.batch.get(&PLACEMENTS, &DocumentKey { database: self.id, id: id.to_owned() })
    }

    /// Files a document whose tree changed. `before`: its position until now; `change`: its new row of the log, `None` when
    /// it is gone altogether (purged).
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn file(
        &mut self,
        id: &str,
        before: Option<Position>,
        row: &DocumentRow,
        change: Option<&ChangeRow>,
    ) -> StorageResult<()> {
        let old = self.filed(id)?;
        let mut new = old.clone().unwrap_or_default();
        match row.tree.winner() {
            None => new = Filed { placement: new.placement, ..Filed::default() },
            Some(winner) => {
                new.deleted = winner.deleted;
                if !winner.deleted || old.is_none() {
                    let revision = winner.revision.clone();
                    new.facts = self.facts_of(id, row, &revision)?;
                    self.keep_moved(row, &mut new);
                    new.names = self.counting_primary(id, &revision, old.as_ref(), &new)?;
                }
                if new.deleted {
                    new.names = None;
                }
            }
        }
        if old.is_none() {
            new.placement.brought = self.device().map(|device| (device, self.counters.position));
        }
        let change = change.map(|change| {
            let mut bytes = Vec::with_capacity(64);
            change.encode(&mut bytes);
            bytes
        });
        self.refile(id, old, new, before, change.as_deref())
    }

    fn facts_of(&mut self, id: &str, row: &DocumentRow, revision: &settle_protocol::Revision) -> StorageResult<Facts> {
        if let Some((fresh, facts)) = self.fresh.take()
            && fresh == *revision
        {
            return Ok(facts);
        }
        let body = self.body(id, row, revision)?;
        Ok(body.map(|body| Facts::of(id, &body.text)).unwrap_or_default())
    }

    /// S17: the place that a move gave stands until the winner descends from the revision that the move wrote.
    fn keep_moved(&self, row: &DocumentRow, new: &mut Filed) {
        let Some((revision, parents)) = &new.moved else { return };
        let winner = row.tree.winner().map(|winner| winner.revision.clone());
        let seen = winner.is_some_and(|winner| row.tree.path(&winner).iter().any(|node| node.revision == *revision));
        if !seen && let Facts::Contact(contact) = &mut new.facts {
            contact.parents.clone_from(parents);
        }
    }

    /// Writes the placement and the feed rows of one document, then files again what hangs on it.
    fn refile(
        &mut self,
        id: &str,
        old: Option<Filed>,
        mut new: Filed,
        before: Option<Position>,
        change: Option<&[u8]>,
    ) -> StorageResult<()> {
        let position = self.counters.position;
        let old = old.unwrap_or_default();
        let mut then = Consequences::default();
        self.update_contact(id, &old, &mut new, position, &mut then)?;
        let (wanted, filter) = self.wanted(id, &new)?;
        self.write_rows(id, &old, &mut new, &wanted, filter, before, change);
        let key = DocumentKey { database: self.id, id: id.to_owned() };
        match change {
            Some(_) => self.batch.put(&PLACEMENTS, &key, &new),
            None => self.batch.delete(&PLACEMENTS, &key),
        }
        self.follow_up(id, then)
    }

    /// Line, claim, and the two sides of "primary contact"; notes what follows from a change of them.
    fn update_contact(
        &mut self,
        id: &str,
        old: &Filed,
        new: &mut Filed,
        position: Position,
        then: &mut Consequences,
    ) -> StorageResult<()> {
        let anchor = of_contact(id);
        let (was, is) = (old.contact().is_some(), new.contact().is_some());
        if !was && !is {
            return Ok(());
        }
        new.line = match new.contact() {
            Some(contact) => self.line_of(id, &contact.parents)?,
            None => Vec::new(),
        };
        if was != is {
            then.keys.insert(of_key(id));
            new.primary_of = if is { self.places_naming(&anchor)? } else { Vec::new() };
        }
        if old.line != new.line {
            then.lines.insert(anchor);
            self.deepen(new.line.len())?;
        }
        if was && is && old.deleted != new.deleted {
            then.subjects.insert(anchor);
        }
        let code = |filed: &Filed| filed.contact().and_then(|contact| contact.shortcode.clone());
        let (code_before, code_now) = (code(old), code(new));
        if code_before != code_now {
            if let Some(code) = code_before {
                self.batch.delete_bytes(Family::Subjects, subjects::claim(self.id, &code, old.claimed));
                then.keys.insert(of_key(&code));
            }
            if let Some(code) = code_now {
                new.claimed = position;
                let key = subjects::claim(self.id, &code, position);
                self.batch.put_bytes(Family::Subjects, key, id.as_bytes().to_vec());
                then.keys.insert(of_key(&code));
            }
        }
        if is && (was != is || !then.keys.is_empty() || !then.lines.is_empty()) {
            self.touched.insert(id.to_owned());
        }
        if old.names != new.names {
            self.renamed(id, &anchor, old.names.as_deref(), new.names.as_deref(), then)?;
        }
        Ok(())
    }

    /// A place names another primary contact.
    fn renamed(
        &mut self,
        place: &str,
        anchor: &Anchor,
        before: Option<&str>,
        now: Option<&str>,
        then: &mut Consequences,
    ) -> StorageResult<()> {
        for (contact, named) in [(before, false), (now, true)] {
            let Some(contact) = contact else { continue };
            let subject = of_contact(contact);
            let index = subjects::named_by(self.id, &subject, place);
            match named {
                true => self.batch.put_bytes(Family::Subjects, index, Vec::new()),
                false => self.batch.delete_bytes(Family::Subjects, index),
            }
            if contact == place {
                continue; // a place that names itself is in range already
            }
            let Some(mut filed) = self.filed(contact)? else { continue };
            filed.primary_of.retain(|known| known != place);
            filed.former_of.retain(|known| known != anchor);
            match named {
                true => filed.primary_of.push(place.to_owned()),
                false => filed.former_of.push(*anchor),
            }
            let key = DocumentKey { database: self.id, id: contact.to_owned() };
            self.batch.put(&PLACEMENTS, &key, &filed);
            then.subjects.insert(subject);
        }
        Ok(())
    }

    pub(super) fn places_naming(&self, contact: &Anchor) -> StorageResult<Vec<String>> {
        let prefix = subjects::naming(self.id, contact);
        let mut places = Vec::new();
        self.batch.scan(Family::Subjects, &Range::prefix(&prefix), &mut |key, _| {
            places.push(String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(places)
    }

    /// A contact and its ancestors: through stored parents; what a document embeds counts from the first ancestor that is
    /// not stored (S4). A loop ends the line.
    pub(super) fn line_of(&self, id: &str, parents: &[String]) -> StorageResult<Vec<Anchor>> {
        let this = of_contact(id);
        let mut line = vec![this];
        let Some(parent) = parents.first() else { return Ok(line) };
        let stored = if parent == id { None } else { self.filed(parent)?.filter(|filed| filed.contact().is_some()) };
        let above = match stored {
            Some(stored) => stored.line,
            None => parents.iter().map(|parent| of_contact(parent)).collect(),
        };
        for anchor in above {
            if line.contains(&anchor) || line.len() == LONGEST_LINE {
                break;
            }
            line.push(anchor);
        }
        Ok(line)
    }

    /// The contact that a key means: by id, else by shortcode, which belongs to its first holder (S5, S6).
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn meant_by(&self, key: &str) -> StorageResult<Option<(String, Filed)>> {
        if !is_subject_key(key) {
            return Ok(None);
        }
        if let Some(filed) = self.filed(key)?.filter(|filed| filed.contact().is_some()) {
            return Ok(Some((key.to_owned(), filed)));
        }
        let mut holder = None;
        self.batch.scan(Family::Subjects, &Range::prefix(&subjects::claims(self.id, key)), &mut |_, id| {
            holder = Some(String::from_utf8_lossy(id).into_owned());
            Ok(ControlFlow::Break(()))
        })?;
        let Some(holder) = holder else { return Ok(None) };
        Ok(self.filed(&holder)?.map(|filed| (holder, filed)))
    }

    /// Where a document is to be filed.
    pub(super) fn wanted(&self, id: &str, filed: &Filed) -> StorageResult<(Wanted, Filter)> {
        let mut wanted = Wanted::new();
        let mut filter = Filter::default();
        match &filed.facts {
            Facts::Contact(_) => {
                let below = [(Way::Contact, Way::Primary)];
                self.below(&mut wanted, filed, &below)?;
            }
            Facts::Record(record) => self.wanted_of_record(record, &mut wanted, &mut filter)?,
            Facts::Target(owner) => {
                let meant = self.meant_by(owner)?;
                if meant.as_ref().is_none_or(|(contact, _)| contact != owner) {
                    wanted.insert((of_key(owner), Way::Waiting), 0);
                }
                if let Some((_, contact)) = meant {
                    let ways = [(Way::Contact, Way::Primary)];
                    self.below(&mut wanted, &alive_or_plain(contact), &ways)?;
                }
            }
            Facts::Task(user) => drop(wanted.insert((of_user(user), Way::Contact), 0)),
            Facts::UserSettings { owner, .. } => drop(wanted.insert((of_user(owner), Way::Contact), 0)),
            Facts::Everybody => drop(wanted.insert((of_everybody(), Way::Contact), 0)),
            Facts::Nobody => {}
        }
        debug_assert!(wanted.len() < 4096, "{id} is filed under too many anchors");
        Ok((wanted, filter))
    }

    fn wanted_of_record(&self, record: &RecordFacts, wanted: &mut Wanted, filter: &mut Filter) -> StorageResult<()> {
        filter.report = record.report;
        filter.author = record.author.first().map(|author| of_contact(author));
        let Some(key) = &record.subject else {
            wanted.insert((of_unassigned(), Way::Record), 0);
            return self.wanted_of_author(record, wanted);
        };
        let meant = self.meant_by(key)?;
        if meant.as_ref().is_none_or(|(contact, _)| contact != key) {
            wanted.insert((of_key(key), Way::Waiting), 0);
        }
        if let Some((contact, subject)) = meant {
            filter.subject = Some(of_contact(&contact));
            if record.private && record.report {
                filter.private = true;
                filter.former_of.clone_from(&subject.former_of);
            }
            self.below(wanted, &alive_or_plain(subject), &[(Way::Record, Way::PrimaryRecord)])?;
        }
        self.wanted_of_author(record, wanted)
    }

    /// Sign-off: whoever has the author, or a contact on the author's line, in range. Private: whether the author is.
    fn wanted_of_author(&self, record: &RecordFacts, wanted: &mut Wanted) -> StorageResult<()> {
        let Some(id) = record.author.first() else { return Ok(()) };
        if !record.needs_signoff && !record.private {
            return Ok(());
        }
        let stored = self.filed(id)?.filter(|filed| filed.contact().is_some());
        let line = match &stored {
            Some(author) => author.line.clone(),
            None => record.author.iter().map(|id| of_contact(id)).collect(),
        };
        if record.needs_signoff {
            for anchor in &line {
                insert(wanted, *anchor, Way::Record, 0);
            }
            if let Some(author) = &stored {
                self.below(wanted, &alive_or_plain(author.clone()), &[(Way::Record, Way::PrimaryRecord)])?;
            }
        }
        if record.private {
            match stored {
                Some(author) => self.below(wanted, &alive_or_plain(author), &[(Way::Author, Way::AuthorPrimary)])?,
                None => insert(wanted, of_contact(id), Way::Author, 0),
            }
        }
        Ok(())
    }

    /// The anchors of a contact: its own line, and the lines of the places that name it as their primary contact.
    fn below(&self, wanted: &mut Wanted, contact: &Filed, ways: &[(Way, Way)]) -> StorageResult<()> {
        for (plain, primary) in ways {
            for (depth, anchor) in contact.line.iter().enumerate() {
                insert(wanted, *anchor, *plain, depth);
            }
            for place in &contact.primary_of {
                let Some(place) = self.filed(place)? else { continue };
                for (depth, anchor) in place.line.iter().enumerate() {
                    insert(wanted, *anchor, *primary, depth);
                }
            }
        }
        Ok(())
    }

    /// Brings the feed rows of a document to what is wanted, at the present position.
    #[expect(clippy::too_many_arguments, reason = "before and after of one document, beside each other")]
    fn write_rows(
        &mut self,
        id: &str,
        old: &Filed,
        new: &mut Filed,
        wanted: &Wanted,
        filter: Filter,
        before: Option<Position>,
        change: Option<&[u8]>,
    ) {
        let (database, position) = (self.id, self.counters.position);
        let mut entries = Vec::with_capacity(wanted.len());
        let mut missing = wanted.clone();
        for entry in &old.placement.entries {
            let mut entry = *entry;
            let key_at = |at| feed_key(database, &entry.anchor, entry.way, entry.depth, at);
            let stays = missing.get(&(entry.anchor, entry.way)) == Some(&entry.depth) && change.is_some();
            if stays {
                missing.remove(&(entry.anchor, entry.way));
            }
            match (entry.left, before) {
                (None, Some(before)) => self.batch.delete_bytes(Family::Feed, key_at(before)),
                (Some(left), _) if stays || change.is_none() => self.batch.delete_bytes(Family::Feed, key_at(left)),
                _ => {}
            }
            if !stays && entry.left.is_none() && change.is_some() {
                if !entry.way.is_shown() {
                    continue;
                }
                entry.left = Some(position);
                self.batch.put_bytes(Family::Feed, key_at(position), FeedView::left(id));
                self.reached.insert(entry.anchor);
            } else if stays {
                entry.left = None;
            }
            entries.push(entry);
        }
        for ((anchor, way), depth) in missing {
            entries.push(Entry { anchor, way, depth, joined: position, left: None });
        }
        if let Some(change) = change {
            let bytes = FeedView::present(&filter, change);
            for entry in entries.iter().filter(|entry| entry.left.is_none()) {
                let key = feed_key(database, &entry.anchor, entry.way, entry.depth, position);
                self.batch.put_bytes(Family::Feed, key, bytes.clone());
                if entry.way.is_shown() {
                    self.reached.insert(entry.anchor);
                }
            }
        }
        let placement = &mut new.placement;
        if filter != old.placement.filter && before.is_some() {
            placement.past.push((old.placement.filter.clone(), position));
            let extra = placement.past.len().saturating_sub(PAST_FILTERS);
            placement.past.drain(..extra);
        }
        placement.entries = entries;
        placement.filter = filter;
    }

    /// S16: a primary contact that came in the same batch as the place that names it counts.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn confirm_primary(&mut self, place: &str, primary: &str) -> StorageResult<()> {
        let Some(mut filed) = self.filed(place)? else { return Ok(()) };
        if filed.deleted || filed.names.is_some() || primary_in(&filed.facts) != Some(primary) {
            return Ok(());
        }
        filed.names = Some(primary.to_owned());
        self.batch.put(&PLACEMENTS, &DocumentKey { database: self.id, id: place.to_owned() }, &filed);
        let mut then = Consequences::default();
        self.renamed(place, &of_contact(place), None, Some(primary), &mut then)?;
        self.follow_up(place, then)
    }

    /// Files again what hangs on a changed contact: contacts from the top down, then the rest.
    fn follow_up(&mut self, id: &str, then: Consequences) -> StorageResult<()> {
        let mut contacts: BTreeMap<String, u8> = BTreeMap::new();
        let mut others: BTreeSet<String> = BTreeSet::new();
        let mut note = |way: Way, depth: u8, row: &[u8]| -> StorageResult<()> {
            let FeedView::Present { change, .. } = FeedView::decode(row).ok_or(CORRUPT)? else { return Ok(()) };
            let change = ChangeView::decode(change).ok_or(CORRUPT)?;
            if change.id == id {
                return Ok(());
            }
            if way == Way::Contact {
                let shallowest = contacts.entry(change.id.to_owned()).or_insert(depth);
                *shallowest = depth.min(*shallowest);
            } else {
                others.insert(change.id.to_owned());
            }
            Ok(())
        };
        for anchor in &then.lines {
            self.scan_feed(&feed_prefix(self.id, anchor, None), &mut note)?;
        }
        for anchor in then.subjects.difference(&then.lines) {
            for way in [Way::Contact, Way::Record, Way::Author] {
                self.scan_feed(&feed_prefix(self.id, anchor, Some((way, Some(0)))), &mut note)?;
            }
        }
        for key in &then.keys {
            self.scan_feed(&feed_prefix(self.id, key, None), &mut note)?;
        }
        let mut contacts: Vec<(u8, String)> = contacts.into_iter().map(|(id, depth)| (depth, id)).collect();
        contacts.sort_unstable();
        for (_, contact) in contacts {
            others.remove(&contact);
            self.file_again(&contact)?;
        }
        for other in others {
            self.file_again(&other)?;
        }
        Ok(())
    }

    fn scan_feed(&self, prefix: &[u8], note: &mut dyn FnMut(Way, u8, &[u8]) -> StorageResult<()>) -> StorageResult<()> {
        self.batch.scan(Family::Feed, &Range::prefix(prefix), &mut |key, row| {
            let (way, depth) = way_and_depth(key).ok_or(CORRUPT)?;
            note(way, depth, row)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Files a document whose own revisions did not change. It gets a new position only if that changes what it is filed
    /// under.
    fn file_again(&mut self, id: &str) -> StorageResult<()> {
        let Some(old) = self.filed(id)? else { return Ok(()) };
        let mut new = old.clone();
        let mut then = Consequences::default();
        if let Some(contact) = old.contact() {
            new.line = self.line_of(id, &contact.parents)?;
            if old.line != new.line {
                self.touched.insert(id.to_owned());
                self.deepen(new.line.len())?;
            }
        }
        let (wanted, filter) = self.wanted(id, &new)?;
        let present: Wanted = old.placement.present().map(|entry| ((entry.anchor, entry.way), entry.depth)).collect();
        if present == wanted && filter == old.placement.filter {
            if new != old {
                self.batch.put(&PLACEMENTS, &DocumentKey { database: self.id, id: id.to_owned() }, &new);
            }
            return Ok(());
        }
        let Some((before, change)) = self.advance(id)? else { return Ok(()) };
        self.write_rows(id, &old, &mut new, &wanted, filter, Some(before), Some(&change));
        self.batch.put(&PLACEMENTS, &DocumentKey { database: self.id, id: id.to_owned() }, &new);
        if old.contact().is_some() && old.primary_of != new.primary_of {
            then.subjects.insert(of_contact(id));
        }
        self.follow_up(id, then)
    }

    /// Gives a document the next position without a new revision. Returns the position before and its row of the log.
    fn advance(&mut self, id: &str) -> StorageResult<Option<(Position, Vec<u8>)>> {
        let key = DocumentKey::bytes(self.id, id);
        let Some(mut row) = self.batch.get_bytes(DOCUMENTS.family(), &key)? else { return Ok(None) };
        let before = DocumentRow::position_in(&row).ok_or(CORRUPT)?;
        let change_key = |position| CHANGES.key(&ChangeKey { database: self.id, position });
        let Some(change) = self.batch.get_bytes(Family::Changes, &change_key(before))? else { return Ok(None) };
        self.counters.position += 1;
        let position = self.counters.position;
        DocumentRow::set_position_in(&mut row, position);
        self.batch.delete_bytes(Family::Changes, change_key(before));
        self.batch.put_bytes(Family::Changes, change_key(position), change.clone());
        self.batch.put_bytes(DOCUMENTS.family(), key, row);
        Ok(Some((before, change)))
    }
}

pub(super) fn insert(wanted: &mut Wanted, anchor: Anchor, way: Way, depth: usize) {
    let depth = u8::try_from(depth).unwrap_or(u8::MAX);
    let shallowest = wanted.entry((anchor, way)).or_insert(depth);
    *shallowest = depth.min(*shallowest);
}

/// A deleted primary contact is simply not there (S9); its own place stays for its records (S11).
fn alive_or_plain(mut contact: Filed) -> Filed {
    if contact.deleted {
        contact.primary_of.clear();
    }
    contact
}

/// The parents of a contact that is moved below a place: the place, then its ancestors as stored.
///
/// # Errors
/// When the store fails.
pub fn parents_below(writing: &Writing<'_, '_>, place: &str) -> StorageResult<Vec<String>> {
    let mut parents = vec![place.to_owned()];
    let mut next = writing.filed(place)?;
    while let Some(contact) = next.as_ref().and_then(Filed::contact) {
        let Some(parent) = contact.parents.first() else { break };
        if parents.contains(parent) || parents.len() == LONGEST_LINE {
            break;
        }
        let stored = writing.filed(parent)?.filter(|filed| filed.contact().is_some());
        if stored.is_none() {
            parents
                .extend(contact.parents.iter().filter(|parent| !parents.contains(parent)).cloned().collect::<Vec<_>>());
            break;
        }
        parents.push(parent.clone());
        next = stored;
    }
    Ok(parents)
}

/// The primary contact that a document names.
#[must_use]
pub fn primary_in(facts: &Facts) -> Option<&str> {
    match facts {
        Facts::Contact(ContactFacts { primary, .. }) => primary.as_deref(),
        _ => None,
    }
}
