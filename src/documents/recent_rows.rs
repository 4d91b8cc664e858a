//! Where those rows of the feed stand that phones were told a moment ago.
//!
//! A phone asks by `_bulk_get` for what `_changes` has just told it, by id, and the rows of `documents` lie in the order of
//! ids: one random block for each document, which at millions of documents is more than half of the cost of a first pull.
//! The row of the feed lies beside those of the same area, as does the body, and while it stands it says all that is needed
//! of a document with one revision: that it is in the range, and which revision it has.
//!
//! What is kept here is a hint and decides nothing: the row is read again from the state that answers. Without a hint, or
//! when the row moved on, the document is read by its id.

use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::quality::RandomState;
use settle_protocol::Revision;
use settle_protocol::revision_tree::{Node, RevisionTree};
use settle_protocol::sequence::Position;

use super::filed::{FeedView, feed_key};
use super::read::Found;
use super::tables::{BODIES, BodyKey, ChangeView, DatabaseId, DocumentRow};
use crate::access::placement::{Anchor, Way};
use crate::access::scope::{Cursor, Scope};
use crate::access::view::Visible;
use crate::storage::{Family, Read, StorageError, StorageResult};

/// Rows that are remembered for one database, 40 bytes each: what dozens of phones are told before they ask for it.
const SLOTS: usize = 1 << 16;

const CORRUPT: StorageError = StorageError::Corrupt { table: "feed", problem: "malformed value" };

/// Where the row of a document stands.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// A hash of its id.
    tag: u64,
    position: Position,
    anchor: Anchor,
    way: Way,
    depth: u8,
}

impl Slot {
    /// The range it stands in, for somebody who sees all of that.
    fn cursor(&self) -> Cursor {
        Cursor { anchor: self.anchor, way: self.way, depth: self.depth, only_author: None }
    }
}

/// The rows that were told last; a newer one takes the place of an older one whose id falls on the same slot.
#[derive(Debug, Default)]
pub(super) struct RecentRows {
    hasher: RandomState,
    /// Empty until the first row is noted.
    slots: Mutex<Vec<Option<Slot>>>,
}

impl RecentRows {
    /// Notes rows that are about to be told: bytes of a row of the log, where it stands in the feed, and at which position.
    ///
    /// # Errors
    /// When a row does not decode.
    pub(super) fn note<'r>(&self, rows: impl Iterator<Item = (&'r [u8], Cursor, Position)>) -> StorageResult<()> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        for (change, cursor, position) in rows {
            let change = ChangeView::decode(change).ok_or(CORRUPT)?;
            if first_and_only(&change).is_none() {
                continue;
            }
            if slots.is_empty() {
                slots.resize(SLOTS, None);
            }
            let tag = self.hasher.hash_one(change.id);
            let Cursor { anchor, way, depth, .. } = cursor;
            slots[tag as usize % SLOTS] = Some(Slot { tag, position, anchor, way, depth });
        }
        Ok(())
    }

    fn find<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Vec<Option<Slot>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        ids.map(|id| {
            let tag = self.hasher.hash_one(id);
            slots.get(tag as usize % SLOTS).copied().flatten().filter(|slot| slot.tag == tag)
        })
        .collect()
    }

    /// Opens those of these revisions that a scope shows and that are all there is of their documents. In the order of
    /// `asked`; `None` is no answer: the document is to be read by its id.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn open(
        &self,
        reader: &impl Read,
        database: DatabaseId,
        scope: &Scope,
        asked: &[(&str, Option<&Revision>)],
    ) -> StorageResult<Vec<Option<Visible<Found>>>> {
        let slots = self.find(asked.iter().map(|(id, _)| *id));
        let known = asked.iter().zip(slots).enumerate();
        let known: Vec<(usize, &str, &Revision, Slot)> =
            known.filter_map(|(at, ((id, revision), slot))| Some((at, *id, (*revision)?, slot?))).collect();
        // Bodies lie in the cluster of the area that the document belonged to first. Under another anchor nothing is found, and
        // the filters of that family say so.
        let keys =
            known.iter().map(|(_, id, revision, slot)| BODIES.key(&BodyKey::new(database, slot.anchor, id, revision)));
        let bodies = reader.get_many(Family::Bodies, &keys.collect::<Vec<_>>())?;
        let found: Vec<_> = known.into_iter().zip(bodies).filter_map(|(known, body)| Some((known, body?))).collect();
        let key = |slot: &Slot| feed_key(database, &slot.anchor, slot.way, slot.depth, slot.position).to_vec();
        let keys: Vec<Vec<u8>> = found.iter().map(|((.., slot), _)| key(slot)).collect();
        let rows = reader.get_many(Family::Feed, &keys)?;
        let mut opened: Vec<Option<Visible<Found>>> = asked.iter().map(|_| None).collect();
        for (((at, id, revision, slot), body), row) in found.into_iter().zip(rows) {
            let leaf = row.map(|row| leaf_in(&row, id)).transpose()?.flatten();
            let Some(leaf) = leaf.filter(|leaf| leaf.revision == *revision) else { continue };
            let (body, deleted) = (BODIES.decode(&body)?, leaf.deleted);
            let tree = RevisionTree::from_nodes(vec![leaf]).unwrap_or_default();
            let row = DocumentRow { position: slot.position, cluster: slot.anchor, tree, ..DocumentRow::default() };
            let found = Found { id: id.to_owned(), row, revision: revision.clone(), deleted, body };
            opened[at] = Visible::in_scope(slot.cursor(), scope, found);
        }
        Ok(opened)
    }
}

/// The revision of a document that has no other and never had one.
fn first_and_only(change: &ChangeView<'_>) -> Option<Revision> {
    let mut leaves = change.leaves();
    leaves.next().filter(|leaf| leaf.generation == 1 && leaves.next().is_none())
}

/// The whole tree of a document, out of its row of the feed; `None` when the row does not say it, or more than the row
/// decides who sees it.
fn leaf_in(row: &[u8], id: &str) -> StorageResult<Option<Node>> {
    let FeedView::Present { private: false, change, .. } = FeedView::decode(row).ok_or(CORRUPT)? else {
        return Ok(None);
    };
    let change = ChangeView::decode(change).ok_or(CORRUPT)?;
    let revision = first_and_only(&change).filter(|_| change.id == id);
    Ok(revision.map(|revision| Node { revision, parent: None, deleted: change.deleted, stored: true }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use settle_protocol::sequence::Since;

    use super::*;
    use crate::access::scope::{Member, ScopeSettings};
    use crate::access::view::{Restricted, View};
    use crate::documents::databases::Database;
    use crate::documents::moves::move_contact;
    use crate::documents::moves::tests::{add, district, work};
    use crate::documents::scoped_feed::{Row, ScopedFeed};
    use crate::documents::watched::{ALL, watch};
    use crate::documents::write::{Mode, Write};
    use crate::storage::Store;

    const DOCUMENTS: [(&str, &str); 12] = [
        ("settings", r#""a":1"#),
        ("r", r#""type":"district_hospital""#),
        ("h", r#""type":"health_center","parent":{"_id":"r"}"#),
        ("x", r#""type":"clinic","parent":{"_id":"h"}"#),
        ("y", r#""type":"clinic","parent":{"_id":"h"}"#),
        ("p", r#""type":"person","parent":{"_id":"x"}"#),
        ("gone", r#""type":"person","parent":{"_id":"x"}"#),
        ("edited", r#""type":"data_record","form":"f","fields":{"patient_id":"p"}"#),
        ("deleted", r#""type":"data_record","form":"f","fields":{"patient_id":"p"}"#),
        ("forked", r#""type":"data_record","form":"f","fields":{"patient_id":"p"}"#),
        ("kept", r#""type":"data_record","form":"f","fields":{"patient_id":"p"}"#),
        (
            "private",
            r#""type":"data_record","form":"f","contact":{"_id":"h"},"fields":{"patient_id":"p","private":true}"#,
        ),
    ];

    fn view(place: &str) -> View {
        let member = Member { places: vec![place.to_owned()], roles: vec!["chw".to_owned()], ..Member::default() };
        let scope = Scope::of("worker", &member, &ScopeSettings::default());
        View::Restricted(Box::new(Restricted {
            account: "worker".to_owned(),
            device: [1; 16],
            scope,
            scope_position: 0,
        }))
    }

    /// What a feed from the beginning tells: ids with the first of their revisions.
    fn told(store: &Store, database: &Database, view: &View) -> BTreeMap<String, Revision> {
        let snapshot = store.snapshot();
        let restricted = view.restricted().expect("restricted").clone();
        let end = database.counters(&snapshot).expect("reads").position;
        let (mut feed, _) =
            ScopedFeed::open(&snapshot, restricted, database.id(), &database.tokens, &Since::Beginning, end)
                .expect("opens");
        let rows = feed.rows(&snapshot, 0, end, usize::MAX, &database.recent_rows).expect("reads");
        let change = |row: &Row| match row {
            Row::Change(change) => {
                let change = ChangeView::decode(change).expect("decodes");
                Some((change.id.to_owned(), change.leaves().next().expect("a leaf")))
            }
            Row::Lost(_) => None,
        };
        rows.told.iter().filter_map(|(_, row)| change(row)).collect()
    }

    /// Those of the revisions that are opened without their document.
    fn opened(store: &Store, database: &Database, view: &View, asked: &BTreeMap<String, Revision>) -> Vec<String> {
        let list: Vec<_> = asked.iter().map(|(id, revision)| (id.as_str(), Some(revision))).collect();
        let opened = database.open_told(&store.snapshot(), view, &list).expect("reads");
        assert_eq!(opened.len(), asked.len());
        let found = |((id, revision), found): (&(&str, Option<&Revision>), Option<Visible<Found>>)| {
            let found = found?;
            assert_eq!((found.id.as_str(), Some(&found.revision)), (*id, *revision));
            let body = DOCUMENTS.iter().find(|(known, _)| known == id).map(|(_, body)| *body);
            assert_eq!(Some(found.body.text.as_str()), body);
            Some(found.id.clone())
        };
        list.iter().zip(opened).filter_map(found).collect()
    }

    fn write(id: &str, deleted: bool, mode: Mode) -> Write {
        let body = r#""type":"data_record","form":"g","fields":{"patient_id":"p"}"#.to_owned();
        Write { id: id.to_owned(), mode, deleted, body, attachments: Vec::new(), user: None, facts: None }
    }

    #[tokio::test]
    async fn what_was_told_and_stands_is_opened_without_its_document() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, database) = district(folder.path(), &DOCUMENTS[..5]).await;
        work(&store, &database, |writing| Ok(watch(writing.batch, writing.id, "x", ALL)?)).await;
        add(&store, &database, &DOCUMENTS[5..]).await;
        let (holder, neighbour) = (view("x"), view("y"));

        let first: BTreeMap<String, Revision> = told(&store, &database, &neighbour);
        assert_eq!(opened(&store, &database, &neighbour, &first), ["y"]);
        let first = told(&store, &database, &holder);
        // Settings are filed elsewhere than their body lies; of the private record a row does not say who sees it.
        let all = ["deleted", "edited", "forked", "gone", "kept", "p", "x"];
        assert_eq!(first.keys().filter(|id| *id != "settings" && *id != "private").collect::<Vec<_>>(), all);
        assert_eq!(opened(&store, &database, &holder, &first), all);
        assert_eq!(opened(&store, &database, &neighbour, &first), [""; 0]);
        let other = Revision::parse("1-0123456789abcdef0123456789abcdef").expect("valid");
        assert_eq!(opened(&store, &database, &holder, &BTreeMap::from([("kept".to_owned(), other.clone())])), [""; 0]);

        let known = |id: &str| Mode::edit(first.get(id).cloned());
        let (edit, delete) = (write("edited", false, known("edited")), write("deleted", true, known("deleted")));
        let fork = write("forked", false, Mode::Replicated { path: vec![other] });
        for write in [edit, delete, fork] {
            work(&store, &database, move |writing| writing.submit(write)).await;
        }
        work(&store, &database, |writing| move_contact(writing, "gone", "y", 100)).await;
        assert_eq!(opened(&store, &database, &holder, &first), ["kept", "p", "x"]);
        let second = told(&store, &database, &holder);
        assert!(second.contains_key("forked") && second.contains_key("edited") && !second.contains_key("gone"));
        assert_eq!(opened(&store, &database, &holder, &second), ["kept", "p", "x"]);
        store.close();
    }
}
