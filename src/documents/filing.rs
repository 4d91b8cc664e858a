//! Filing: where a document of a scoped database belongs, kept in the batch of the write (design §6.1).
//!
//! `Writing::file` is called for every document that gets a position. It reads what the document says, resolves it beside
//! the stored documents, and writes the rows of the feed. When a contact changes in a way that others hang on (its line, its
//! shortcode, its role as primary contact, its life), these are filed again in the same batch, each at a new position.
//!
//! Every contact that depends on another through its line has a row under that one's anchor, and every record one under the
//! contact it is about, so finding the dependents is a scan of the feed and needs no second index. Only what names nobody
//! who is stored is noted in the family `subjects`. Further up, records have rows under watched places only (`watched.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use settle_protocol::Revision;
use settle_protocol::sequence::Position;

use super::filed::{
    FeedView, Filed, NAMINGS, Naming, SUBJECTS, SubjectKey, Texts, feed_key, feed_prefix, filed_of, subjects,
};
use super::resolving::{Places, primary_in};
use super::tables::{CHANGES, ChangeKey, ChangeRow, DOCUMENTS, DocumentHead, DocumentKey, DocumentRow};
use super::watched::{filed_under, has_row_everywhere, scan, watched_depth};
use super::write::Writing;
use crate::access::facts::Facts;
use crate::access::placement::{Anchor, Entry, Placement, Way, of_contact, of_key};
use crate::storage::{Family, Range, Read, StorageError, StorageResult, Value};

/// Documents whose rows are looked up together.
const READ_TOGETHER: usize = 512;
/// Earlier filters that a document remembers.
const PAST_FILTERS: usize = 8;
/// Earlier stays of a document in one place that it remembers apart; older ones become one.
const PAST_STAYS: usize = 8;

const CORRUPT: StorageError = StorageError::Corrupt { table: "feed", problem: "malformed value" };

/// What a change of a contact means for others.
#[derive(Debug, Default)]
struct Consequences {
    /// Contacts whose line changed: all that is filed under them.
    lines: BTreeSet<Anchor>,
    /// Contacts whose role or life changed: what is about them.
    subjects: BTreeSet<Anchor>,
    /// Keys whose meaning may have changed.
    keys: BTreeSet<Anchor>,
    /// The contact was not stored before.
    fresh: bool,
}

/// What is to be written of the rows of a document.
struct Renewal<'c> {
    /// Its position until now.
    before: Option<Position>,
    /// Its row of the log; `None` when it is gone altogether (purged).
    change: Option<&'c [u8]>,
    /// Only rows that come or go. The others stay where they stand: nothing changed for whoever reads those.
    moving: bool,
}

pub(super) fn encoded(value: &impl Value) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    value.encode(&mut bytes);
    bytes
}

impl Writing<'_, '_> {
    /// Where a document is filed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn filed(&self, id: &str) -> StorageResult<Option<Rc<Filed>>> {
        if let Some(known) = self.known.contact(id) {
            return Ok(known);
        }
        let filed = filed_of(self.batch, self.id, id)?.map(Rc::new);
        self.known.note(id, filed.as_ref());
        Ok(filed)
    }

    /// Where a contact is filed; `None` for what is no contact.
    pub(super) fn contact(&self, id: &str) -> StorageResult<Option<Rc<Filed>>> {
        Ok(self.filed(id)?.filter(|filed| filed.contact().is_some()))
    }

    /// Files a stored document otherwise: its row of the log and its position stay.
    pub(super) fn put_filed(&mut self, id: &str, filed: Filed) -> StorageResult<()> {
        let row = self.batch.get_bytes(DOCUMENTS.family(), &DocumentKey::bytes(self.id, id))?.ok_or(CORRUPT)?;
        self.put_filed_in(id, &row, filed)
    }

    fn put_filed_in(&mut self, id: &str, row: &[u8], filed: Filed) -> StorageResult<()> {
        let row = DocumentRow::with_filed(row, &encoded(&filed)).ok_or(CORRUPT)?;
        self.batch.put_bytes(DOCUMENTS.family(), DocumentKey::bytes(self.id, id), row);
        self.known.note_now(id, filed);
        Ok(())
    }

    /// Files and stores a document whose tree changed. `before`: its position until now; `change`: its new row of the log,
    /// `None` when it is gone altogether (purged).
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn file(
        &mut self,
        id: &str,
        before: Option<Position>,
        row: DocumentRow,
        change: Option<&[u8]>,
    ) -> StorageResult<()> {
        let old = match row.filed.as_slice() {
            [] => None,
            bytes => Some(Filed::decode(bytes).ok_or(CORRUPT)?),
        };
        let mut new = old.clone().unwrap_or_default();
        match row.tree.winner() {
            None => new = Filed { placement: new.placement, ..Filed::default() },
            Some(winner) => {
                new.deleted = winner.deleted;
                if !winner.deleted || old.is_none() {
                    let revision = winner.revision.clone();
                    new.facts = self.facts_of(id, &row, &revision)?;
                    self.keep_moved(&row, &mut new);
                    new.names = self.counting_primary(id, &row, &revision, old.as_ref(), &new)?;
                }
                if new.deleted {
                    new.names = None;
                }
            }
        }
        if old.as_ref().is_none_or(|old| old.deleted && !new.deleted)
            && let Some(device) = self.device()
        {
            new.placement.brought = Some((device, self.counters.position));
        }
        self.refile(id, old.unwrap_or_default(), new, row, &Renewal { before, change, moving: false })
    }

    fn facts_of(&mut self, id: &str, row: &DocumentRow, revision: &Revision) -> StorageResult<Facts> {
        let fresh = self.fresh.take().filter(|(fresh, _)| fresh == revision);
        let mut facts = match fresh {
            Some((_, facts)) => facts,
            None => self.body(id, row, revision)?.map(|body| Facts::of(id, &body.text)).unwrap_or_default(),
        };
        if let Facts::Record(record) = &mut facts
            && !record.needs_signoff
        {
            record.above_author.clear(); // whom the author is below is asked for sign-off only
        }
        Ok(facts)
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

    /// Writes a document and its feed rows, then files again what hangs on it.
    fn refile(
        &mut self,
        id: &str,
        mut old: Filed,
        mut new: Filed,
        mut row: DocumentRow,
        renewal: &Renewal<'_>,
    ) -> StorageResult<()> {
        let mut then = Consequences::default();
        let was_contact = old.contact().is_some();
        self.update_contact(id, &old, &mut new, &mut then)?;
        let places = self.places(&new)?;
        self.expect(id, old.key.take(), &mut new, &places)?;
        self.write_rows(id, &old.placement, &mut new, places, renewal)?;
        let key = DocumentKey::bytes(self.id, id);
        if renewal.change.is_some() {
            row.filed = encoded(&new);
            self.batch.put_value(DOCUMENTS.family(), &key, &row);
            self.known.note_now(id, new);
        } else {
            self.batch.delete_bytes(DOCUMENTS.family(), key);
            self.known.note(id, None);
        }
        if was_contact {
            self.known.forget_meant(); // it may be none from now on
        }
        self.follow_up(id, then)
    }

    /// Line, claim, and the two sides of "primary contact"; notes what follows from a change of them.
    fn update_contact(&mut self, id: &str, old: &Filed, new: &mut Filed, then: &mut Consequences) -> StorageResult<()> {
        let (was, is) = (old.contact().is_some(), new.contact().is_some());
        if !was && !is {
            return Ok(());
        }
        let anchor = of_contact(id);
        new.line = match new.contact() {
            Some(contact) => self.line_of(id, &contact.parents)?,
            None => Vec::new(),
        };
        if was != is {
            then.keys.insert(of_key(id));
            then.subjects.extend(self.holder_of(id)?.map(|holder| of_contact(&holder)));
            then.fresh = is;
            self.change_role(&anchor, old, new, is)?;
        }
        if old.line != new.line {
            then.lines.insert(anchor);
            self.deepen(new.line.len())?;
            let parent = |filed: &Filed| filed.contact().and_then(|contact| contact.parents.first().cloned());
            let (from, to) = (parent(old), parent(new));
            if from != to {
                self.note_line(id, &old.line, from.as_ref(), to.as_ref());
            }
        }
        if was && is && old.deleted != new.deleted {
            then.subjects.insert(anchor);
        }
        let code = |filed: &Filed| filed.contact().and_then(|contact| contact.shortcode.clone());
        let (code_before, code_now) = (code(old), code(new));
        if code_before != code_now {
            new.coded = self.counters.position;
            // Records that name somebody by the code are found at its holder, or wait for one.
            for code in [&code_before, &code_now].into_iter().flatten() {
                then.subjects.extend(self.holder_of(code)?.map(|holder| of_contact(&holder)));
            }
            if let Some(code) = code_before {
                self.change_claims(&code, |claims| claims.retain(|claim| claim != id))?;
                then.keys.insert(of_key(&code));
            }
            if let Some(code) = code_now {
                self.change_claims(&code, |claims| claims.push(id.to_owned()))?;
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
        self.note_primary(place, now)?;
        for (contact, named) in [(before, false), (now, true)] {
            let Some(contact) = contact else { continue };
            let subject = of_contact(contact);
            let itself = contact == place; // a place that names itself is in range already
            let stored = if itself { None } else { self.contact(contact)? };
            let mut naming = self.naming(&subject)?;
            naming.places.retain(|known| known != place);
            naming.formers.retain(|known| known != anchor);
            match named {
                true => naming.places.push(place.to_owned()),
                false if stored.is_none() && !itself => naming.formers.push(*anchor),
                false => {}
            }
            self.put_naming(&subject, &naming);
            let Some(filed) = stored else { continue };
            let mut filed = Rc::unwrap_or_clone(filed);
            filed.primary_of.retain(|known| known != place);
            filed.former_of.retain(|known| known != anchor);
            match named {
                true => filed.primary_of.push(place.to_owned()),
                false => filed.former_of.push(*anchor),
            }
            self.put_filed(contact, filed)?;
            then.subjects.insert(subject);
        }
        Ok(())
    }

    /// A document becomes a contact, or no longer is one: who names it, and who once did, is kept with it or without it.
    fn change_role(&mut self, anchor: &Anchor, old: &Filed, new: &mut Filed, is: bool) -> StorageResult<()> {
        let mut naming = self.naming(anchor)?;
        new.primary_of = if is { naming.places.clone() } else { Vec::new() };
        if is && !naming.formers.is_empty() {
            new.former_of = std::mem::take(&mut naming.formers);
            self.put_naming(anchor, &naming);
        } else if !is && !old.former_of.is_empty() {
            naming.formers.clone_from(&old.former_of);
            self.put_naming(anchor, &naming);
        }
        Ok(())
    }

    /// Who names a contact as primary contact.
    pub(super) fn naming(&self, contact: &Anchor) -> StorageResult<Naming> {
        Ok(self.batch.get(&NAMINGS, &subjects::naming(self.id, contact))?.unwrap_or_default())
    }

    fn put_naming(&mut self, contact: &Anchor, naming: &Naming) {
        let key = subjects::naming(self.id, contact);
        match *naming == Naming::default() {
            true => self.batch.delete(&NAMINGS, &key),
            false => self.batch.put(&NAMINGS, &key, naming),
        }
    }

    fn change_claims(&mut self, code: &str, change: impl FnOnce(&mut Vec<String>)) -> StorageResult<()> {
        let key = subjects::claims(self.id, code);
        let mut claims = self.batch.get(&SUBJECTS, &key)?.unwrap_or_default();
        change(&mut claims.0);
        self.known.forget_meant();
        self.known.note_holder(code, claims.0.first().map(String::as_str));
        self.put_texts(key, claims);
        Ok(())
    }

    fn put_texts(&mut self, key: SubjectKey, texts: Texts) {
        match texts.0.is_empty() {
            true => self.batch.delete(&SUBJECTS, &key),
            false => self.batch.put(&SUBJECTS, &key, &texts),
        }
    }

    /// Notes by which key a document names somebody, and which contacts on its lines are not stored: whoever comes to be
    /// meant by one of these finds it.
    fn expect(&mut self, id: &str, before: Option<String>, new: &mut Filed, places: &Places) -> StorageResult<()> {
        new.key.clone_from(&places.key);
        if before != new.key {
            if let Some(key) = &before {
                self.batch.delete_bytes(Family::Subjects, subjects::waiting(self.id, &of_key(key), id));
            }
            if let Some(key) = &new.key {
                self.batch.put_bytes(Family::Subjects, subjects::waiting(self.id, &of_key(key), id), Vec::new());
                self.mark_expected(key)?;
            }
        }
        for absent in &places.absent {
            self.mark_expected(absent)?;
        }
        Ok(())
    }

    fn mark_expected(&mut self, key: &str) -> StorageResult<()> {
        let mark = subjects::expected(self.id, &of_key(key));
        if self.batch.get_bytes(Family::Subjects, &mark)?.is_none() {
            self.batch.put_bytes(Family::Subjects, mark, Vec::new());
        }
        Ok(())
    }

    fn is_expected(&self, key: &Anchor) -> StorageResult<bool> {
        Ok(self.batch.get_bytes(Family::Subjects, &subjects::expected(self.id, key))?.is_some())
    }

    /// Whether a document that is filed so has a row of the feed for it.
    fn has_row(&self, entry: &Entry) -> StorageResult<bool> {
        if has_row_everywhere(entry) || !self.watches {
            return Ok(true);
        }
        let watched = match self.known.watched(&entry.anchor) {
            Some(known) => known,
            None => {
                let watched = watched_depth(self.batch, self.id, &entry.anchor)?;
                self.known.note_watched(entry.anchor, watched);
                watched
            }
        };
        Ok(watched.is_some_and(|depth| entry.depth <= depth))
    }

    /// Brings the feed rows of a document to what is wanted. What comes and goes does so at the present position. A row
    /// stands at the position of the document, or at that of joining if that is later.
    fn write_rows(
        &mut self,
        id: &str,
        old: &Placement,
        new: &mut Filed,
        places: Places,
        renewal: &Renewal<'_>,
    ) -> StorageResult<()> {
        let (database, position) = (self.id, self.counters.position);
        let Renewal { before, change, moving } = *renewal;
        let Places { wanted, filter, .. } = places;
        let mut entries = Vec::with_capacity(wanted.iter().len() + old.entries.len());
        for (at, entry) in old.entries.iter().enumerate() {
            let mut entry = *entry;
            let has_row = self.has_row(&entry)?;
            let place = |entry: &Entry| (entry.anchor, entry.way, entry.depth);
            // The row that told of the leaving went when the document came back.
            let came_back = || old.entries[at + 1..].iter().any(|later| place(later) == place(&entry));
            let key_at = |at| feed_key(database, &entry.anchor, entry.way, entry.depth, at);
            let stays = wanted.depth(&entry.anchor, entry.way) == Some(entry.depth) && change.is_some();
            match (entry.left, before) {
                (None, Some(_)) if stays && moving => {}
                (None, Some(before)) if has_row => {
                    self.batch.delete_bytes(Family::Feed, key_at(before.max(entry.joined)))
                }
                (Some(left), _) if has_row && (stays || change.is_none()) && !came_back() => {
                    self.batch.delete_bytes(Family::Feed, key_at(left));
                }
                _ => {}
            }
            if !stays && entry.left.is_none() && change.is_some() {
                let key = key_at(position);
                entry.left = Some(position);
                if has_row && entry.way.is_shown() {
                    self.batch.put_bytes(Family::Feed, key, FeedView::left(id));
                    self.reach(&entry.anchor);
                }
            }
            entries.push(entry);
        }
        for (anchor, way, depth) in wanted.iter() {
            let is_this =
                |entry: &Entry| (entry.anchor, entry.way, entry.depth, entry.left) == (anchor, way, depth, None);
            if change.is_some() && old.entries.iter().any(is_this) {
                continue;
            }
            join_oldest_stays(&mut entries, (anchor, way, depth));
            entries.push(Entry { anchor, way, depth, joined: position, left: None });
        }
        if let Some(change) = change {
            let bytes = FeedView::present(&filter, change);
            let written = |entry: &&Entry| entry.left.is_none() && (!moving || entry.joined == position);
            for entry in entries.iter().filter(written) {
                if !self.has_row(entry)? {
                    continue;
                }
                let key = feed_key(database, &entry.anchor, entry.way, entry.depth, position);
                self.batch.put_bytes(Family::Feed, key, &bytes);
                if entry.way.is_shown() {
                    self.reach(&entry.anchor);
                }
            }
        }
        let placement = &mut new.placement;
        if filter != old.filter && before.is_some() {
            placement.past.push((old.filter.clone(), position));
            let extra = placement.past.len().saturating_sub(PAST_FILTERS);
            placement.past.drain(..extra);
        }
        placement.entries = entries;
        placement.filter = filter;
        Ok(())
    }

    /// S16: a primary contact that came in the same batch as the place that names it counts.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn confirm_primary(&mut self, place: &str, primary: &str) -> StorageResult<()> {
        let Some(filed) = self.filed(place)? else { return Ok(()) };
        if filed.deleted || filed.names.is_some() || primary_in(&filed.facts) != Some(primary) {
            return Ok(());
        }
        let names = Some(primary.to_owned());
        self.put_filed(place, Filed { names, ..Rc::unwrap_or_clone(filed) })?;
        let mut then = Consequences::default();
        self.renamed(place, &of_contact(place), None, Some(primary), &mut then)?;
        self.follow_up(place, then)
    }

    /// Files again what hangs on a changed contact.
    fn follow_up(&mut self, id: &str, then: Consequences) -> StorageResult<()> {
        let mut below: BTreeMap<String, u8> = BTreeMap::new();
        let mut others: BTreeSet<String> = BTreeSet::new();
        for anchor in &then.lines {
            if then.fresh && !self.is_expected(anchor)? {
                continue; // nothing can hang on a contact that is new and that nobody named
            }
            filed_under(self.batch, self.id, anchor, &mut |way, depth, document| {
                if way == Way::Contact {
                    let shallowest = below.entry(document.to_owned()).or_insert(depth);
                    *shallowest = depth.min(*shallowest);
                } else {
                    others.insert(document.to_owned());
                }
                ControlFlow::Continue(())
            })?;
        }
        for anchor in then.subjects.difference(&then.lines) {
            for way in [Way::Contact, Way::Record, Way::Author] {
                let prefix = feed_prefix(self.id, anchor, Some((way, Some(0))));
                scan(self.batch, &prefix, &mut |_, _, document| {
                    others.insert(document.to_owned());
                    ControlFlow::Continue(())
                })?;
            }
        }
        for key in &then.keys {
            if self.is_expected(key)? {
                let prefix = subjects::waiting(self.id, key, "");
                self.batch.scan(Family::Subjects, &Range::prefix(&prefix), &mut |key, _| {
                    others.insert(String::from_utf8_lossy(key.get(prefix.len()..).unwrap_or_default()).into_owned());
                    Ok(ControlFlow::Continue(()))
                })?;
            }
        }
        below.remove(id);
        let mut contacts: Vec<(u8, String)> = below.into_iter().map(|(id, depth)| (depth, id)).collect();
        contacts.sort_unstable();
        // All lines first, parents before children: a place may lie deeper than its primary contact, and a target as
        // deep as its owner.
        for contacts in contacts.chunks(READ_TOGETHER) {
            let ids: BTreeSet<&str> = contacts.iter().map(|(_, contact)| contact.as_str()).collect();
            let keys: Vec<Vec<u8>> = ids.into_iter().map(|contact| DocumentKey::bytes(self.id, contact)).collect();
            self.batch.read_ahead(DOCUMENTS.family(), &keys)?;
            for (_, contact) in contacts {
                self.draw_line_again(contact)?;
            }
        }
        others.extend(contacts.into_iter().map(|(_, contact)| contact));
        others.remove(id);
        let others: Vec<String> = others.into_iter().collect();
        for others in others.chunks(READ_TOGETHER) {
            let keys: Vec<Vec<u8>> = others.iter().map(|other| DocumentKey::bytes(self.id, other)).collect();
            let rows = self.batch.get_many(DOCUMENTS.family(), &keys)?;
            let mut stored = Vec::with_capacity(others.len());
            for (other, row) in others.iter().zip(rows) {
                if let Some(row) = row
                    && let Some(filed) = DocumentRow::filed_in(&row)
                {
                    let filed = Filed::decode(filed).ok_or(CORRUPT)?;
                    stored.push((other, row, filed));
                }
            }
            self.read_named_ahead(stored.iter().map(|(_, _, filed)| filed))?;
            for (other, row, filed) in stored {
                self.file_again(other, row, filed)?; // writes no other document's row
            }
        }
        Ok(())
    }

    /// Brings the line of a stored contact to what it is below its parent now.
    fn draw_line_again(&mut self, id: &str) -> StorageResult<()> {
        let Some(filed) = self.filed(id)? else { return Ok(()) };
        let Some(contact) = filed.contact() else { return Ok(()) };
        let line = self.line_of(id, &contact.parents)?;
        if filed.line != line {
            self.touched.insert(id.to_owned());
            self.deepen(line.len())?;
            self.put_filed(id, Filed { line, ..Rc::unwrap_or_clone(filed) })?;
        }
        Ok(())
    }

    /// Files a document whose own revisions did not change. It takes a new position only if that changes what it is filed
    /// under: for the rows that come and go, and for all of them if what else decides about readers changed.
    fn file_again(&mut self, id: &str, mut row: Vec<u8>, mut filed: Filed) -> StorageResult<()> {
        let places = self.places(&filed)?;
        let same_key = filed.key == places.key;
        let before = filed.key.take();
        self.expect(id, before, &mut filed, &places)?;
        let wanted = |entry: &Entry| places.wanted.depth(&entry.anchor, entry.way) == Some(entry.depth);
        let same_places =
            filed.placement.present().count() == places.wanted.iter().len() && filed.placement.present().all(wanted);
        let same_filter = places.filter == filed.placement.filter;
        if same_places && same_filter {
            return if same_key { Ok(()) } else { self.put_filed_in(id, &row, filed) };
        }
        let old = filed.placement.clone();
        let head = DocumentHead::decode(&row).ok_or(CORRUPT)?;
        let before = head.position;
        let change = encoded(&ChangeRow::in_document(id, &row, head)?);
        self.counters.position += 1;
        let position = self.counters.position;
        // Whether a private record is hidden depends on its entries together: then whoever reads one row needs it anew.
        let moving = same_filter && !places.filter.private;
        if !moving {
            let key_at = |position| CHANGES.key(&ChangeKey { database: self.id, position });
            self.batch.delete_bytes(Family::Changes, key_at(before));
            self.batch.put_bytes(Family::Changes, key_at(position), &change);
            DocumentRow::set_position_in(&mut row, position);
        }
        let renewal = Renewal { before: Some(before), change: Some(&change), moving };
        self.write_rows(id, &old, &mut filed, places, &renewal)?;
        self.put_filed_in(id, &row, filed)
    }
}

/// Makes the two oldest of too many earlier stays in one place one.
fn join_oldest_stays(entries: &mut Vec<Entry>, place: (Anchor, Way, u8)) {
    let stays = entries.iter().enumerate().filter(|(_, entry)| (entry.anchor, entry.way, entry.depth) == place);
    let stays: Vec<usize> = stays.map(|(at, _)| at).collect();
    if let [oldest, next, ..] = stays[..]
        && stays.len() >= PAST_STAYS
    {
        entries[next].joined = entries[oldest].joined;
        entries.remove(oldest);
    }
}
