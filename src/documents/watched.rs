//! Which places have rows of records in the feed.
//!
//! A record is filed under every contact above the one it is about, but it has a row of the feed only where somebody may
//! read one: under a place that is, or once was, in the scope of an account, and not deeper than this scope reaches. Such a place
//! is *watched* down to that depth, from the change on that brings it into a scope. What is filed under a place for another
//! reason has its row always: contacts, what is about the place itself, primary contacts, authors. So the records below any
//! contact are found by way of the contacts below it.
//!
//! A place that already has something below it when it comes to be watched, or to be watched deeper, gets the missing rows
//! before anybody reads them, piece by piece on the writer ([`complete`]). Nobody misses a row that tells of a leaving: as
//! long as a depth of a place was in no scope, no device has anything by way of it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::databases::{Database, still_there};
use super::error::DocumentResult;
use super::filed::{FeedView, feed_key, feed_prefix, placement_in, subjects, way_and_depth};
use super::filing::encoded;
use super::scopes::member_of;
use super::tables::{ChangeRow, ChangeView, DOCUMENTS, DatabaseId, DocumentHead, DocumentKey};
use crate::access::placement::{Anchor, Entry, Way, of_contact};
use crate::access::scope::{Member, Reach, Scope, ScopeSettings};
use crate::accounts::tables::ACCOUNTS;
use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, Store, after_prefix};

/// Rows that one request on the writer looks at: others wait for it.
const PIECE: usize = 1_000;

/// The depth of a place under which every record has its row, however deep it lies.
pub(super) const ALL: u8 = u8::MAX;

const VERSION: u8 = 2;
/// Rows from before depths were noted: every record.
const WITHOUT_DEPTH: u8 = 1;
const CORRUPT: StorageError = StorageError::Corrupt { table: "scopes", problem: "malformed value" };
const CORRUPT_FEED: StorageError = StorageError::Corrupt { table: "feed", problem: "malformed value" };

/// How far the rows of a watched place are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rows {
    /// Every record that is filed under it, down to its depth, has its row.
    Whole,
    /// Those written since have theirs. Of the others: those that hang on the contacts up to this key of the feed, and on the
    /// next one up to this key. Both are empty in the beginning.
    Upto(Vec<u8>, Vec<u8>),
}

/// What is stored about a watched place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Watched {
    /// Records that lie deeper have no rows; [`ALL`]: none does.
    depth: u8,
    rows: Rows,
}

impl Watched {
    /// Down to a depth, with nothing below it or without the rows of what is.
    fn new(depth: u8, empty: bool) -> Self {
        Self { depth, rows: if empty { Rows::Whole } else { Rows::Upto(Vec::new(), Vec::new()) } }
    }

    fn is_whole(&self, depth: u8) -> bool {
        self.depth >= depth && self.rows == Rows::Whole
    }

    fn encode(&self) -> Vec<u8> {
        match &self.rows {
            Rows::Whole => vec![VERSION, self.depth],
            Rows::Upto(contact, record) => {
                let length = u8::try_from(contact.len()).unwrap_or(u8::MAX);
                [&[VERSION, self.depth, length], contact.as_slice(), record].concat()
            }
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (depth, rows) = match bytes {
            [WITHOUT_DEPTH, rows @ ..] => (ALL, rows),
            [VERSION, depth, rows @ ..] => (*depth, rows),
            _ => return None,
        };
        let rows = match rows {
            [] => Rows::Whole,
            [length, rest @ ..] => {
                let (contact, record) = rest.split_at_checked(usize::from(*length))?;
                Rows::Upto(contact.to_vec(), record.to_vec())
            }
        };
        Some(Self { depth, rows })
    }
}

fn key(database: DatabaseId, place: &Anchor) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"w", place].concat()
}

fn watched(reader: &impl Read, database: DatabaseId, place: &Anchor) -> StorageResult<Option<Watched>> {
    let stored = reader.get_bytes(Family::Scopes, &key(database, place))?;
    stored.map(|bytes| Watched::decode(&bytes).ok_or(CORRUPT)).transpose()
}

/// How deep a scope reads records under a place.
fn depth_of(reach: &Reach) -> u8 {
    reach.depth.unwrap_or(ALL) // deeper than its report depth, those of one author
}

/// Whether a document has a row of the feed wherever it is filed in this way and at this depth, watched or not.
#[must_use]
pub(super) fn has_row_everywhere(entry: &Entry) -> bool {
    entry.way != Way::Record || entry.depth == 0
}

/// Down to which depth records get rows under a place; `None`: none does.
///
/// # Errors
/// When the store fails.
pub(super) fn watched_depth(reader: &impl Read, database: DatabaseId, place: &Anchor) -> StorageResult<Option<u8>> {
    Ok(watched(reader, database, place)?.map(|watched| watched.depth))
}

/// Whether all records that are filed under a place down to a depth have their rows.
fn is_whole(reader: &impl Read, database: DatabaseId, place: &Anchor, depth: u8) -> StorageResult<bool> {
    Ok(watched(reader, database, place)?.is_some_and(|watched| watched.is_whole(depth)))
}

/// Watches the places of an account from now on, as deep as these settings let it see.
///
/// # Errors
/// When the store fails.
pub(super) fn watch_places_of(
    batch: &mut Batch<'_>,
    database: DatabaseId,
    member: &Member,
    settings: &ScopeSettings,
) -> StorageResult<()> {
    member.reaches(settings).try_for_each(|(place, reach)| watch(batch, database, place, depth_of(&reach)))
}

/// Watches the places of every account, in a database that is new or has new settings.
///
/// # Errors
/// When the store fails.
pub(super) fn watch_all_accounts(
    batch: &mut Batch<'_>,
    database: DatabaseId,
    settings: &ScopeSettings,
) -> StorageResult<()> {
    let mut members = Vec::new();
    batch.scan(Family::Accounts, &Range::prefix(b""), &mut |_, row| {
        members.push(member_of(&ACCOUNTS.decode(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    members.iter().try_for_each(|member| watch_places_of(batch, database, member, settings))
}

/// Watches a place from now on, down to a depth.
pub(super) fn watch(batch: &mut Batch<'_>, database: DatabaseId, place: &str, depth: u8) -> StorageResult<()> {
    let anchor = of_contact(place);
    if watched_depth(batch, database, &anchor)?.is_some_and(|known| known >= depth) {
        return Ok(());
    }
    // Nothing can be below a place that is not stored and that nobody embeds.
    let is_stored = batch.get_bytes(DOCUMENTS.family(), &DocumentKey::bytes(database, place))?.is_some();
    let empty = !is_stored && batch.get_bytes(Family::Subjects, &subjects::expected(database, &anchor))?.is_none();
    batch.put_bytes(Family::Scopes, key(database, &anchor), Watched::new(depth, empty).encode());
    Ok(())
}

/// A place of a scope that lacks rows of records, and how deep it is to have them.
fn lacking(reader: &impl Read, database: &Database, scope: &Scope) -> StorageResult<Option<(Anchor, u8)>> {
    if database.row.watches {
        for reach in &scope.reaches {
            let depth = depth_of(reach);
            if !is_whole(reader, database.id(), &reach.place, depth)? {
                return Ok(Some((reach.place, depth)));
            }
        }
    }
    Ok(None)
}

/// Whether the ranges of a scope can be read.
///
/// # Errors
/// When the store fails.
pub(super) fn are_whole(reader: &impl Read, database: &Database, scope: &Scope) -> StorageResult<bool> {
    Ok(lacking(reader, database, scope)?.is_none())
}

/// Writes the rows that the places of a scope lack, so that their ranges can be read. Nearly always there are none.
///
/// # Errors
/// `404` when the database was deleted, or a failure of the store. What was written until then counts.
pub async fn complete(store: &Store, database: &Arc<Database>, scope: &Scope) -> DocumentResult<()> {
    while let Some((place, depth)) = lacking(&store.snapshot(), database, scope)? {
        let (ahead, id) = (store.clone(), database.id());
        let read_ahead = move || ahead.rehearse(|batch| write_piece(batch, id, &place, depth, PIECE));
        tokio::task::spawn_blocking(read_ahead).await.map_err(|_| StorageError::Panicked)??;
        let database = Arc::clone(database);
        store
            .write(move |batch| -> DocumentResult<()> {
                still_there(batch, &database)?;
                Ok(write_piece(batch, database.id(), &place, depth, PIECE)?)
            })
            .await?;
    }
    Ok(())
}

/// Writes the next of the rows that a place lacks down to a depth; looks at most at so many others for it.
fn write_piece(
    batch: &mut Batch<'_>,
    database: DatabaseId,
    place: &Anchor,
    depth: u8,
    most: usize,
) -> StorageResult<()> {
    // A place that was watched less deep begins anew: the rows that it has are written once more.
    let known = watched(batch, database, place)?.filter(|known| known.depth >= depth);
    let Watched { depth, rows } = known.unwrap_or_else(|| Watched::new(depth, false));
    let Rows::Upto(contact, record) = rows else { return Ok(()) };
    let (mut upto, mut looked_at) = ((contact, record), 0);
    let mut records = BTreeSet::new();
    let reader = &*batch;
    let contacts = feed_prefix(database, place, Some((Way::Contact, None)));
    reader.scan(Family::Feed, &behind(&upto.0.clone(), &contacts), &mut |key, row| {
        if way_and_depth(key).is_none_or(|(_, below)| below > depth) {
            return Ok(ControlFlow::Break(())); // a record lies as deep as the contact it is about
        }
        let Some(id) = present_in(row)? else { return Ok(ControlFlow::Continue(())) };
        let about = feed_prefix(database, &of_contact(id), Some((Way::Record, Some(0))));
        looked_at += 1;
        reader.scan(Family::Feed, &behind(&upto.1.clone(), &about), &mut |key, row| {
            if looked_at >= most {
                return Ok(ControlFlow::Break(()));
            }
            looked_at += 1;
            upto.1 = key.to_vec();
            records.extend(present_in(row)?.map(str::to_owned));
            Ok(ControlFlow::Continue(()))
        })?;
        if looked_at >= most {
            return Ok(ControlFlow::Break(()));
        }
        upto = (key.to_vec(), Vec::new());
        Ok(ControlFlow::Continue(()))
    })?;
    let rows = if looked_at >= most { Rows::Upto(upto.0, upto.1) } else { Rows::Whole };
    let documents: Vec<Vec<u8>> = records.iter().map(|id| DocumentKey::bytes(database, id)).collect();
    for (id, row) in records.iter().zip(batch.get_many(DOCUMENTS.family(), &documents)?) {
        if let Some(row) = row {
            write_row(batch, database, place, id, &row)?;
        }
    }
    batch.put_bytes(Family::Scopes, key(database, place), Watched { depth, rows }.encode());
    Ok(())
}

/// The keys with a prefix, behind one of them.
fn behind(key: &[u8], prefix: &[u8]) -> Range {
    let from = if key.starts_with(prefix) { [key, &[0]].concat() } else { prefix.to_vec() };
    Range { from, to: after_prefix(prefix), descending: false }
}

/// Writes the row that a record has under a place because this is watched.
fn write_row(batch: &mut Batch<'_>, database: DatabaseId, place: &Anchor, id: &str, row: &[u8]) -> StorageResult<()> {
    let Some(placement) = placement_in(row)? else { return Ok(()) };
    let mut present = placement.present();
    let Some(entry) = present.find(|entry| entry.anchor == *place && !has_row_everywhere(entry)) else { return Ok(()) };
    let corrupt = StorageError::Corrupt { table: "documents", problem: "malformed value" };
    let head = DocumentHead::decode(row).ok_or(corrupt)?;
    let key = feed_key(database, place, entry.way, entry.depth, head.position.max(entry.joined));
    let change = encoded(&ChangeRow::in_document(id, row, head)?);
    batch.put_bytes(Family::Feed, key, FeedView::present(&placement.filter, &change));
    Ok(())
}

/// The id in a row of the feed; `None`: it tells of a leaving.
fn present_in(row: &[u8]) -> StorageResult<Option<&str>> {
    match FeedView::decode(row).ok_or(CORRUPT_FEED)? {
        FeedView::Present { change, .. } => Ok(Some(ChangeView::decode(change).ok_or(CORRUPT_FEED)?.id)),
        FeedView::Left { .. } => Ok(None),
    }
}

/// Tells everything that is filed under a contact, some of it more than once, until `note` breaks: way and depth by which
/// it was found, and the id.
///
/// # Errors
/// When the store fails.
pub(super) fn filed_under(
    reader: &impl Read,
    database: DatabaseId,
    contact: &Anchor,
    note: &mut dyn FnMut(Way, u8, &str) -> ControlFlow<()>,
) -> StorageResult<()> {
    let mut flow = ControlFlow::Continue(());
    let mut contacts = Vec::new();
    let whole = is_whole(reader, database, contact, ALL)?;
    scan(reader, &feed_prefix(database, contact, None), &mut |way, depth, id| {
        if way == Way::Contact && !whole {
            contacts.push(of_contact(id));
        }
        flow = note(way, depth, id);
        flow
    })?;
    for below in contacts.iter().filter(|below| *below != contact) {
        if flow.is_break() {
            return Ok(());
        }
        scan(reader, &feed_prefix(database, below, Some((Way::Record, Some(0)))), &mut |way, depth, id| {
            flow = note(way, depth, id);
            flow
        })?;
    }
    Ok(())
}

/// Tells the documents that have rows in a part of the feed.
///
/// # Errors
/// When the store fails.
pub(super) fn scan(
    reader: &impl Read,
    prefix: &[u8],
    note: &mut dyn FnMut(Way, u8, &str) -> ControlFlow<()>,
) -> StorageResult<()> {
    reader.scan(Family::Feed, &Range::prefix(prefix), &mut |key, row| {
        let (way, depth) = way_and_depth(key).ok_or(CORRUPT_FEED)?;
        Ok(present_in(row)?.map_or(ControlFlow::Continue(()), |id| note(way, depth, id)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::moves::move_contact;
    use crate::documents::moves::tests::{add, district, work};

    /// Every row that has to do with a place, and what is stored about it.
    fn rows(store: &Store, database: DatabaseId, place: &str) -> (Vec<Vec<u8>>, Option<Watched>) {
        let (anchor, mut rows) = (of_contact(place), Vec::new());
        let prefix = Range::prefix(&feed_prefix(database, &anchor, None));
        let mut keep = |key: &[u8], row: &[u8]| {
            rows.push([key, row].concat());
            Ok(ControlFlow::Continue(()))
        };
        store.snapshot().scan(Family::Feed, &prefix, &mut keep).expect("reads");
        (rows, watched(&store.snapshot(), database, &anchor).expect("reads"))
    }

    const CONTACTS: usize = 3 + 4 + 12;
    const RECORDS: usize = 40;
    /// Reaches the records about clinics, not those about persons.
    const SHALLOW: u8 = 2;
    /// Records that have a row of their author besides.
    const PRIVATE: usize = RECORDS.div_ceil(7);

    fn documents() -> Vec<(String, String)> {
        let place = |id: &str, kind: &str, parent: &str| {
            (id.to_owned(), format!(r#""type":"{kind}","parent":{{"_id":"{parent}"}}"#))
        };
        let mut documents = vec![
            ("r".to_owned(), r#""type":"district_hospital""#.to_owned()),
            place("a", "health_center", "r"),
            place("b", "health_center", "r"),
        ];
        for home in 0..4 {
            let name = format!("x{home}");
            documents.push(place(&name, "clinic", "a"));
            for person in 0..3 {
                documents.push(place(&format!("p{home}{person}"), "person", &name));
            }
        }
        for visit in 0..RECORDS {
            let about = match visit % 5 {
                0 => "a".to_owned(),
                1 => format!("x{}", visit % 4),
                _ => format!("p{}{}", visit % 4, visit % 3),
            };
            let private = if visit % 7 == 0 { r#","private":true"# } else { "" };
            let body = format!(
                r#""type":"data_record","form":"f","contact":{{"_id":"p00"}},"fields":{{"patient_id":"{about}"{private}}}"#
            );
            documents.push((format!("v{visit:02}"), body));
        }
        documents
    }

    /// Rows of records exist under places that are watched, and those that are watched late get the same rows.
    #[tokio::test]
    async fn a_place_that_is_watched_late_has_the_rows_of_one_that_always_was() {
        let documents = documents();
        let documents: Vec<(&str, &str)> = documents.iter().map(|(id, body)| (id.as_str(), body.as_str())).collect();
        let mut found = Vec::new();
        let end = documents.len();
        // Watched before anything is there, amid the records, and behind all of them, in pieces of different sizes; less deep
        // before that, from the beginning or from some time on.
        for (watched_at, piece, shallow_at) in [
            (0, 5, None),
            (30, 5, None),
            (40, 2, None),
            (end, 3, None),
            (end, 1000, None),
            (40, 3, Some(0)),
            (end, 3, Some(30)),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let (store, database) = district(folder.path(), &documents[..shallow_at.unwrap_or(watched_at)]).await;
            let (id, r) = (database.id(), of_contact("r"));
            if let Some(shallow_at) = shallow_at {
                work(&store, &database, |writing| Ok(watch(writing.batch, writing.id, "r", SHALLOW)?)).await;
                while !is_whole(&store.snapshot(), id, &r, SHALLOW).expect("reads") {
                    let one = move |batch: &mut Batch<'_>| write_piece(batch, id, &r, SHALLOW, piece);
                    store.write(one).await.expect("written");
                }
                add(&store, &database, &documents[shallow_at..watched_at]).await;
                let rows = rows(&store, id, "r").0;
                let filed = rows.iter().filter_map(|row| way_and_depth(row));
                let records = filed.filter(|(way, _)| *way == Way::Record);
                assert_eq!(records.map(|(_, depth)| depth).max(), Some(SHALLOW));
                assert!(!is_whole(&store.snapshot(), id, &r, SHALLOW + 1).expect("reads"));
            } else if watched_at == end {
                let unwatched = rows(&store, id, "r");
                assert_eq!((unwatched.0.len(), unwatched.1), (CONTACTS + PRIVATE, None));
            }
            work(&store, &database, |writing| Ok(watch(writing.batch, writing.id, "r", ALL)?)).await;
            assert_eq!(is_whole(&store.snapshot(), id, &r, ALL).expect("reads"), watched_at == 0);
            let (mut pieces, mut others) = (0, documents[watched_at..].iter());
            while !is_whole(&store.snapshot(), id, &r, ALL).expect("reads") {
                let one = move |batch: &mut Batch<'_>| write_piece(batch, id, &r, ALL, piece);
                store.write(one).await.expect("written");
                pieces += 1;
                add(&store, &database, others.next()).await; // life goes on meanwhile
            }
            add(&store, &database, others).await;
            match (watched_at, piece) {
                (0, _) => assert_eq!(pieces, 0),
                (_, 1000) => assert_eq!(pieces, 1),
                _ => assert!(pieces > 5, "{pieces} pieces of {piece}"),
            }
            let before = rows(&store, id, "r");
            work(&store, &database, |writing| move_contact(writing, "x1", "b", 100)).await;
            work(&store, &database, |writing| move_contact(writing, "p00", "r", 100)).await;
            found.push((before, rows(&store, id, "r")));
            store.close();
        }
        assert_eq!(found[0].0.0.len(), CONTACTS + RECORDS + PRIVATE);
        assert_ne!(found[0].0, found[0].1);
        for (number, late) in found.iter().enumerate() {
            assert_eq!(*late, found[0], "case {number}");
        }
    }

    #[test]
    fn what_is_stored_about_a_place_reads_back() {
        for rows in [Rows::Whole, Rows::Upto(vec![], vec![]), Rows::Upto(vec![1; 30], vec![2; 30])] {
            for depth in [0, 3, ALL] {
                let watched = Watched { depth, rows: rows.clone() };
                assert_eq!(Watched::decode(&watched.encode()), Some(watched));
            }
        }
        assert_eq!(Watched::decode(&[WITHOUT_DEPTH]), Some(Watched::new(ALL, true)));
        assert_eq!(Watched::decode(&[WITHOUT_DEPTH, 0]), Some(Watched::new(ALL, false)));
        for broken in [&[][..], &[3], &[VERSION], &[VERSION, 2, 9, 1]] {
            assert_eq!(Watched::decode(broken), None);
        }
    }
}
