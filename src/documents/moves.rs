//! Moving a place or a person below another place: one write, and everything below follows (design §6.1, S17).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use settle_protocol::{Error, Revision};

use super::devices::{DEVICES, DeviceRow};
use super::error::{DocumentError, DocumentResult};
use super::filed::{Filed, subjects};
use super::members::with_members;
use super::resolving::parents_below;
use super::scopes::scope_at;
use super::tables::{DOCUMENTS, DatabaseId, DocumentKey, DocumentRow};
use super::watched::filed_under;
use super::write::{Mode, Write, WriteAttachment, Writing};
use crate::access::placement::{Placement, of_contact};
use crate::accounts::tables::ACCOUNTS;
use crate::storage::{Family, Range, Read, StorageError, StorageResult, Value as _};

/// Rows that are looked up together.
const READ_TOGETHER: usize = 512;

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

/// Reads what a move is going to read, before it is the writer's turn: then the writer finds it in memory, and others wait
/// for the work only. Decides nothing.
///
/// # Errors
/// When the store fails.
pub fn read_ahead(reader: &impl Read, database: DatabaseId, id: &str, most: usize) -> StorageResult<()> {
    let ids = below(reader, database, id, most.saturating_add(1))?;
    if ids.len() > most {
        return Ok(()); // it will be refused
    }
    let keys: Vec<Vec<u8>> = ids.iter().map(|id| DocumentKey::bytes(database, id)).collect();
    for keys in keys.chunks(READ_TOGETHER) {
        let rows = reader.get_many(DOCUMENTS.family(), keys)?;
        let filed = rows.iter().flatten().filter_map(|row| Filed::decode(DocumentRow::filed_in(row)?));
        let named: BTreeSet<String> = filed.filter_map(|filed| filed.facts.about().map(str::to_owned)).collect();
        let claims: Vec<Vec<u8>> = named.iter().map(|key| subjects::claims(database, key).bytes()).collect();
        reader.get_many(Family::Subjects, &claims)?;
    }
    Ok(())
}

/// A move that is only tried: the error carries what it would do, and the batch takes everything back.
#[derive(Debug)]
pub enum Tried {
    /// What it would do.
    Effect(u64, Vec<Affected>),
    /// It cannot be done.
    Failed(DocumentError),
}

impl From<DocumentError> for Tried {
    fn from(error: DocumentError) -> Self {
        Self::Failed(error)
    }
}

impl From<StorageError> for Tried {
    fn from(error: StorageError) -> Self {
        Self::Failed(error.into())
    }
}

/// Tries a move. Always an error, so that nothing of it stays.
///
/// # Errors
/// See [`Tried`].
pub fn try_move(writing: &mut Writing<'_, '_>, id: &str, to: &str, most: usize) -> Result<(), Tried> {
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
    Err(Tried::Effect(moved.documents, affected))
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
    use std::sync::Arc;

    use super::*;
    use crate::audit::Entry;
    use crate::documents::databases::{Catalogue, Database};
    use crate::documents::filed::FeedView;
    use crate::documents::tables::DatabaseRow;
    use crate::documents::watched::{ALL, watch};
    use crate::storage::Range;
    use crate::storage::{Memory, Store};

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
        catalogue.create("d", row, Entry::new(1, "root", "database.create")).await.expect("made");
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
        let documents = [
            ("r", r#""type":"district_hospital""#),
            ("a", r#""type":"health_center","parent":{"_id":"r"}"#),
            ("b", r#""type":"health_center","parent":{"_id":"r"}"#),
            ("x", r#""type":"clinic","parent":{"_id":"a"}"#),
            ("p", r#""type":"person","patient_id":"1","parent":{"_id":"x"}"#),
            ("v", r#""type":"data_record","form":"v","fields":{"patient_id":"1"}"#),
        ];
        let (store, database) = district(folder.path(), &[]).await;
        for place in ["a", "b"] {
            work(&store, &database, |writing| Ok(watch(writing.batch, writing.id, place, ALL)?)).await;
        }
        add(&store, &database, &documents).await;
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
