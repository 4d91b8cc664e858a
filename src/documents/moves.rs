//! Moving a place or a person below another place: one write, and everything below follows (design §6.1, S17).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use settle_protocol::{Error, Revision};

use super::ahead::Ahead;
use super::databases::Database;
use super::devices::{DEVICES, DeviceRow};
use super::error::DocumentResult;
use super::filed::Filed;
use super::judging::Author;
use super::members::with_members;
use super::resolving::parents_below;
use super::scopes::scope_at;
use super::tables::DatabaseId;
use super::watched::filed_under;
use super::write::{Mode, Write, WriteAttachment, Writing};
use crate::access::placement::{Placement, of_contact};
use crate::accounts::tables::ACCOUNTS;
use crate::storage::{Family, Prepared, Range, Read, StorageResult, Store};

/// What a move did.
#[derive(Debug, Clone)]
pub struct Moved {
    /// The new revision of what was moved.
    pub revision: Revision,
    /// Documents that have a new position, itself among them.
    pub documents: u64,
}

/// What a move would mean for an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// Its name.
    pub account: String,
    /// Documents that come into its scope.
    pub gains: u64,
    /// Documents that leave its scope.
    pub loses: u64,
    /// Its devices: id, last pull in seconds since 1970.
    pub devices: Vec<([u8; 16], u64)>,
}

/// Moves a contact below a place.
///
/// # Errors
/// `404` when one of the two is not there, `400` when the place lies below the contact or there is too much to move, or a
/// failure of the store.
pub fn move_contact(writing: &mut Writing<'_, '_>, id: &str, to: &str, most: usize) -> DocumentResult<Moved> {
    live_contact(writing, id)?;
    let place = live_contact(writing, to)?;
    if place.line.contains(&of_contact(id)) {
        return Err(Error::bad_request(format!("{to} lies below {id}, which therefore cannot be moved there.")).into());
    }
    if has_more_below(writing.batch, writing.id, id, most)? {
        let reason = format!(
            "More than {most} documents lie below {id}. Move what is below it piece by piece, or raise \
             [settle] max_move_documents."
        );
        return Err(Error::bad_request(reason).into());
    }
    let row = writing.document(id)?.ok_or_else(Error::missing)?;
    let winner = row.tree.winner().map(|winner| winner.revision.clone()).ok_or_else(Error::missing)?;
    let body = writing.body(id, &row, &winner)?.ok_or_else(Error::missing)?;
    let parents = parents_below(writing, to)?;
    let before = writing.counters.position;
    if let Some(filed) = writing.filed(id)?.filter(|filed| filed.moved.is_some()) {
        // An earlier move does not stand against this one, even if the winner never saw it.
        writing.put_filed(id, Filed { moved: None, ..Rc::unwrap_or_clone(filed) })?;
    }
    let revision = writing.write(Write {
        id: id.to_owned(),
        mode: Mode::edit(Some(winner)),
        deleted: false,
        body: with_parent(&body.text, &parents)?,
        attachments: body.attachments.iter().map(WriteAttachment::kept).collect(),
        user: None,
        facts: None,
    })?;
    if let Some(filed) = writing.filed(id)? {
        let moved = Some((revision.clone(), parents));
        writing.put_filed(id, Filed { moved, ..Rc::unwrap_or_clone(filed) })?;
    }
    Ok(Moved { revision, documents: writing.counters.position - before })
}

fn live_contact(writing: &Writing<'_, '_>, id: &str) -> DocumentResult<Rc<Filed>> {
    let filed = writing.contact(id)?.filter(|filed| !filed.deleted);
    Ok(filed.ok_or_else(|| Error::not_found(format!("There is no place or person {id}.")))?)
}

/// The members of a body with another parent. Everything else stays as the client wrote it.
///
/// # Errors
/// `400` for a body that is none.
pub fn with_parent(members: &str, parents: &[String]) -> Result<String, Error> {
    let parent = parents.iter().rev().fold(None::<serde_json::Value>, |above, id| {
        let mut link = serde_json::json!({"_id": id});
        if let (Some(above), Some(link)) = (above, link.as_object_mut()) {
            link.insert("parent".to_owned(), above);
        }
        Some(link)
    });
    with_members(members, &[("parent", Some(parent.unwrap_or_default().to_string()))])
}

/// Whether more documents than this are filed under a contact.
fn has_more_below(reader: &impl Read, database: DatabaseId, id: &str, most: usize) -> StorageResult<bool> {
    let mut rows = 0;
    filed_under(reader, database, &of_contact(id), &mut |_, _, _| {
        rows += 1;
        if rows <= most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    // Some may be told twice; only if there are many, who they are has to be asked.
    Ok(rows > most && below(reader, database, id, most.saturating_add(1))?.len() > most)
}

/// Ids of all documents filed under a contact.
fn below(reader: &impl Read, database: DatabaseId, id: &str, most: usize) -> StorageResult<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    filed_under(reader, database, &of_contact(id), &mut |_, _, document| {
        ids.insert(document.to_owned());
        if ids.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(ids)
}

/// Decides a move beside the writer, where most of its time goes. `None`: it could not be, and is decided on the writer, which
/// says why.
pub async fn prepare_move(
    store: &Store,
    database: &Arc<Database>,
    author: Author,
    id: &str,
    to: &str,
    most: usize,
) -> Option<(Ahead<Moved>, Prepared)> {
    let (database, id, to) = (Arc::clone(database), id.to_owned(), to.to_owned());
    let prepared = store.prepare(move |batch| {
        Writing::ahead(batch, &database, author, |writing| move_contact(writing, &id, &to, most))
    });
    prepared.await.ok()
}

/// What a move would do: documents that get a new position, and accounts that would see more or less. For a batch that is
/// thrown away.
///
/// # Errors
/// As [`move_contact`].
pub fn try_move(
    writing: &mut Writing<'_, '_>,
    id: &str,
    to: &str,
    most: usize,
) -> DocumentResult<(u64, Vec<Affected>)> {
    let ids = below(writing.batch, writing.id, id, most + 1)?;
    let placements = |writing: &Writing<'_, '_>| -> StorageResult<BTreeMap<String, Placement>> {
        let mut all = BTreeMap::new();
        for id in &ids {
            if let Some(filed) = writing.filed(id)? {
                all.insert(id.clone(), filed.placement.clone());
            }
        }
        Ok(all)
    };
    let before = placements(writing)?;
    let moved = move_contact(writing, id, to, most)?;
    let after = placements(writing)?;
    let mut accounts = Vec::new();
    writing.batch.scan(Family::Accounts, &Range::prefix(b""), &mut |name, row| {
        ACCOUNTS.decode(row)?;
        accounts.push(String::from_utf8_lossy(name).into_owned());
        Ok(ControlFlow::Continue(()))
    })?;
    let devices = devices(writing.batch, writing.id)?;
    let mut affected = Vec::new();
    for account in accounts {
        let (scope, _) = scope_at(writing.batch, writing.id, &account, None)?;
        let (mut gains, mut loses) = (0, 0);
        for (id, then) in &before {
            let sees = |placement: Option<&Placement>| placement.is_some_and(|placement| scope.sees(placement, None));
            match (sees(Some(then)), sees(after.get(id))) {
                (false, true) => gains += 1,
                (true, false) => loses += 1,
                _ => {}
            }
        }
        if gains + loses > 0 {
            let own = devices.iter().filter(|(_, row)| row.account == account);
            let devices = own.map(|(device, row)| (*device, row.pulled_at)).collect();
            affected.push(Affected { account, gains, loses, devices });
        }
    }
    Ok((moved.documents, affected))
}

/// Every device that a database knows.
///
/// # Errors
/// When the store fails.
pub fn devices(reader: &impl Read, database: DatabaseId) -> StorageResult<Vec<([u8; 16], DeviceRow)>> {
    let mut devices = Vec::new();
    reader.scan(Family::Devices, &Range::prefix(&database.to_be_bytes()), &mut |key, row| {
        let device = key.get(4..).and_then(|device| device.try_into().ok()).unwrap_or_default();
        devices.push((device, DEVICES.decode(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(devices)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::access::placement::Entry;
    use crate::audit;
    use crate::documents::databases::Catalogue;
    use crate::documents::error::DocumentError;
    use crate::documents::filed::FeedView;
    use crate::documents::scopes::topic;
    use crate::documents::tables::{Counters, DOCUMENTS, DatabaseRow, DocumentRow};
    use crate::documents::watched::{ALL, watch};
    use crate::storage::{Memory, Value as _};

    /// A store with one scoped database, and these documents in it.
    pub(in crate::documents) async fn district(
        folder: &std::path::Path,
        documents: &[(&str, &str)],
    ) -> (Store, Arc<Database>) {
        let store = Store::open(folder, Memory::default(), || [7; 16]).expect("opens");
        let catalogue = Catalogue::open(&store).expect("opens");
        let row = DatabaseRow {
            id: 0,
            uuid: [1; 16],
            created: 1,
            revs_limit: 10,
            purged_infos_limit: 10,
            scoped: true,
            watches: true,
            security: "{}".to_owned(),
        };
        catalogue.create("d", row, audit::Entry::new(1, "root", "database.create")).await.expect("made");
        let database = catalogue.find("d").expect("there");
        add(&store, &database, documents).await;
        (store, database)
    }

    /// Writes documents, each by itself.
    pub(in crate::documents) async fn add<'d>(
        store: &Store,
        database: &Arc<Database>,
        documents: impl IntoIterator<Item = &'d (&'d str, &'d str)>,
    ) {
        for (id, body) in documents {
            let write = Write {
                id: (*id).to_owned(),
                mode: Mode::edit(None),
                deleted: false,
                body: (*body).to_owned(),
                attachments: Vec::new(),
                user: None,
                facts: None,
            };
            work(store, database, |writing| writing.submit(write)).await;
        }
    }

    pub(in crate::documents) async fn work<T: Send + 'static>(
        store: &Store,
        database: &Arc<Database>,
        work: impl FnOnce(&mut Writing<'_, '_>) -> DocumentResult<T> + Send + 'static,
    ) -> T {
        let database = Arc::clone(database);
        let done = store.write(move |batch| {
            let mut writing = Writing::begin(batch, &database)?;
            let done = work(&mut writing)?;
            writing.end()?;
            Ok::<T, DocumentError>(done)
        });
        done.await.expect("written")
    }

    /// Rows of the feed, and how many of them tell of a leaving.
    fn rows(store: &Store) -> (usize, usize) {
        let (mut all, mut left) = (0, 0);
        let mut count = |_: &[u8], row: &[u8]| {
            all += 1;
            left += usize::from(matches!(FeedView::decode(row), Some(FeedView::Left { .. })));
            Ok(ControlFlow::Continue(()))
        };
        store.snapshot().scan(Family::Feed, &Range::prefix(b""), &mut count).expect("reads");
        (all, left)
    }

    #[tokio::test]
    async fn whoever_comes_and_goes_leaves_one_row_for_each_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, database) = district(folder.path(), &[]).await;
        for place in ["a", "b"] {
            work(&store, &database, |writing| Ok(watch(writing.batch, writing.id, place, ALL)?)).await;
        }
        add(&store, &database, &DISTRICT).await;
        let before = rows(&store);
        assert_eq!(before.1, 0);
        for round in 0..12 {
            for (to, place) in ["b", "a"].into_iter().enumerate() {
                let moved = work(&store, &database, |writing| move_contact(writing, "x", place, 100)).await;
                assert_eq!(moved.documents, 3, "round {round}");
                assert_eq!(rows(&store), (before.0 + 3, 3), "round {round}, to {to}");
            }
        }
        store.close();
    }

    /// Every row of the feed and where every document is filed, with the order of positions instead of the positions, and
    /// the counters without theirs.
    fn filing(store: &Store, database: &Database) -> (Vec<String>, Counters) {
        let snapshot = store.snapshot();
        let (mut feed, mut documents) = (Vec::new(), Vec::new());
        let mut positions = BTreeSet::new();
        snapshot
            .scan(Family::Feed, &Range::prefix(b""), &mut |key, row| {
                let (place, position) = key.split_at(key.len() - 8);
                let position = u64::from_be_bytes(position.try_into().expect("eight bytes"));
                positions.insert(position);
                feed.push((place.to_vec(), position, row.to_vec()));
                Ok(ControlFlow::Continue(()))
            })
            .expect("reads");
        snapshot
            .scan(Family::Documents, &Range::prefix(b""), &mut |key, row| {
                let filed = Filed::decode(DocumentRow::filed_in(row).expect("filed")).expect("filed");
                let position = DOCUMENTS.decode(row)?.position;
                let entries = &filed.placement.entries;
                positions.extend(entries.iter().flat_map(|entry| [Some(entry.joined), entry.left]).flatten());
                positions.insert(position);
                documents.push((key.to_vec(), position, filed));
                Ok(ControlFlow::Continue(()))
            })
            .expect("reads");
        let at = |position: u64| positions.range(..=position).count();
        let feed = feed.into_iter().map(|(place, position, row)| format!("{place:?} {} {row:?}", at(position)));
        let documents = documents.iter().map(|(key, position, filed)| {
            let entry = |entry: &Entry| (entry.anchor, entry.way, entry.depth, at(entry.joined), entry.left.map(at));
            let entries: Vec<_> = filed.placement.entries.iter().map(entry).collect();
            format!("{key:?} {} {:?} {:?} {entries:?}", at(*position), filed.line, filed.facts)
        });
        let counters = database.counters(&snapshot).expect("reads");
        (feed.chain(documents).collect(), Counters { position: 0, ..counters })
    }

    /// Moves `x` below `b` while somebody writes, and the same one after the other. Whether what was decided beside the
    /// writer was taken over.
    async fn moved_meanwhile(meanwhile: &[(&str, &str)]) -> bool {
        let district_with = async |folder: &std::path::Path| {
            let (store, database) = district(folder, &[]).await;
            for place in ["a", "b", "x"] {
                work(&store, &database, |writing| Ok(watch(writing.batch, writing.id, place, ALL)?)).await;
            }
            add(&store, &database, &DISTRICT).await;
            (store, database)
        };
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let (store, database) = district_with(folders[0].path()).await;
        let ahead = prepare_move(&store, &database, Author::default(), "x", "b", 100).await.expect("prepared");
        add(&store, &database, meanwhile).await;
        let heard = store.announcements().follow(topic(database.id(), &of_contact("b")), 0);
        let (moved, is_adopted) = work(&store, &database, |writing| match writing.adopt(ahead) {
            Some(moved) => {
                assert!(writing.touched.contains("x"), "what waits for it is looked at");
                Ok((moved, true))
            }
            None => Ok((move_contact(writing, "x", "b", 100)?, false)),
        })
        .await;
        let newest = database.counters(&store.snapshot()).expect("reads").position;
        assert_eq!(*heard.borrow(), newest, "whoever follows the new place is told");
        let (other, its_database) = district_with(folders[1].path()).await;
        add(&other, &its_database, meanwhile).await;
        let expected = work(&other, &its_database, |writing| move_contact(writing, "x", "b", 100)).await;
        assert_eq!((moved.documents, moved.revision), (expected.documents, expected.revision), "{meanwhile:?}");
        let (found, expected) = (filing(&store, &database), filing(&other, &its_database));
        assert_eq!(found, expected, "{meanwhile:?}");
        store.close();
        other.close();
        is_adopted
    }

    const DISTRICT: [(&str, &str); 10] = [
        ("r", r#""type":"district_hospital""#),
        ("a", r#""type":"health_center","parent":{"_id":"r"}"#),
        ("b", r#""type":"health_center","parent":{"_id":"r"}"#),
        ("c", r#""type":"health_center","parent":{"_id":"r"}"#),
        ("x", r#""type":"clinic","parent":{"_id":"a"}"#),
        ("p", r#""type":"person","patient_id":"1","parent":{"_id":"x"}"#),
        ("v", r#""type":"data_record","form":"v","fields":{"patient_id":"1"}"#),
        ("w", r#""type":"data_record","form":"v","fields":{"patient_id":"7"}"#),
        ("y", r#""type":"clinic","parent":{"_id":"c"}"#),
        ("q", r#""type":"person","patient_id":"2","parent":{"_id":"y"}"#),
    ];

    #[tokio::test]
    async fn what_was_decided_beside_the_writer_counts_unless_somebody_wrote_what_it_read() {
        let report = |of: &str| format!(r#""type":"data_record","form":"v","fields":{{"patient_id":"{of}"}}"#);
        assert!(moved_meanwhile(&[]).await);
        assert!(
            moved_meanwhile(&[("n", &report("2")), ("d", r#""type":"clinic","parent":{"_id":"c"}"#)]).await,
            "elsewhere"
        );
        for (id, body) in [
            ("n", report("1").as_str()),
            ("n", r#""type":"person","parent":{"_id":"x"}"#),
            ("n", r#""type":"person","patient_id":"7","parent":{"_id":"x"}"#),
            ("1", r#""type":"person","parent":{"_id":"y"}"#),
        ] {
            assert!(!moved_meanwhile(&[(id, body)]).await, "{id} {body}");
        }
    }

    #[tokio::test]
    async fn more_than_the_others_positions_is_decided_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, database) = district(folder.path(), &DISTRICT).await;
        let ahead = prepare_move(&store, &database, Author::default(), "x", "b", 100).await.expect("prepared");
        let adopted = work(&store, &database, |writing| {
            writing.counters.position += 1 << 20;
            Ok(writing.adopt(ahead).is_some())
        });
        assert!(!adopted.await, "its positions lie before some that are taken");
        store.close();
    }

    #[test]
    fn only_the_parent_changes() {
        let parents = ["a".to_owned(), "b".to_owned()];
        let linked = r#""parent":{"_id":"a","parent":{"_id":"b"}}"#;
        for (body, expected) in [
            (r#""n":1.0,"parent":{"_id":"x"},"z":[ 1e2 ]"#, format!(r#""n":1.0,{linked},"z":[ 1e2 ]"#)),
            (r#""n":1"#, format!(r#""n":1,{linked}"#)),
            ("", linked.to_owned()),
        ] {
            assert_eq!(with_parent(body, &parents).expect("a body"), expected);
        }
    }
}
