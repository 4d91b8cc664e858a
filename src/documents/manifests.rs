//! Manifests: what a device says it holds, compared with what is durable here, until a receipt can be given (design §8).
//!
//! Parts are kept as one row a line, so that they may come in any order, twice, and over days. Everything is compared on a
//! snapshot, which shows only what is committed; on the writer the last step makes sure that nothing of it was taken away
//! meanwhile, and gives the receipt in the batch that ends the device's access. A page of lines is in memory at a time.

use std::ops::ControlFlow;
use std::sync::Arc;

use settle_protocol::manifest::ManifestPart;
use settle_protocol::{Error, ErrorKind, Revision};

use super::databases::{Database, still_there};
use super::error::{DocumentError, DocumentResult};
use super::read::{Told, told};
use super::receipts::Root;
use super::tables::{COUNTERS, DOCUMENTS, DatabaseId, DatabaseKey, DocumentKey, versioned};
use crate::access::view::View;
use crate::accounts::enrolments::DeviceId;
use crate::accounts::standing::Right;
use crate::accounts::withdrawals::Pass;
use crate::storage::{
    Batch, Decoder, Encode, Family, Key, Range, Read, StorageError, StorageResult, Store, Table, Value,
};

/// Revisions in all parts of a manifest.
pub const MOST_REVISIONS: u64 = 1_000_000;
/// Seconds after which a manifest that nobody added to is forgotten.
pub const FORGOTTEN_AFTER_SECONDS: u64 = 7 * 24 * 3600;
/// Manifests that a device may have open in a database; a further one takes the place of the oldest.
const MOST_OPEN: usize = 4;
/// Lines in one job of the writer.
const LINES_AT_A_TIME: usize = 2000;
/// Documents that are compared at a time.
const DOCUMENTS_AT_A_TIME: usize = 1000;
/// Revisions that one answer lists as missing, or as escrowed.
const MOST_LISTED: usize = 10_000;

const CORRUPT: StorageError = StorageError::Corrupt { table: "manifests", problem: "malformed row" };

/// database, device, name → an open manifest
const OPEN: Table<OpenKey, Open> = Table::new(Family::Manifests);

struct OpenKey(DatabaseId, DeviceId, String);

impl Key for OpenKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&of_device(self.0, &self.1));
        out.extend_from_slice(self.2.as_bytes());
    }
}

fn of_device(database: DatabaseId, device: &DeviceId) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"m", device].concat()
}

/// An open manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Under which its lines are kept.
    series: [u8; 16],
    /// Revisions received so far, each counted once.
    pub received: u64,
    /// Seconds since 1970: the last part.
    touched: u64,
}

impl Value for Open {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(1);
        out.extend_from_slice(&self.series);
        out.varint(self.received);
        out.varint(self.touched);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from: Decoder<'_> = versioned(bytes)?;
        Some(Self { series: from.array()?, received: from.varint()?, touched: from.varint()? })
    }
}

fn of_series(database: DatabaseId, series: &[u8; 16]) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"r", series].concat()
}

fn erasing(database: DatabaseId, series: &[u8]) -> Vec<u8> {
    [&database.to_be_bytes()[..], b"x", series].concat()
}

/// A revision of a document as the manifest's text has it: `id NUL revision LF`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    text: Vec<u8>,
    id_bytes: usize,
}

impl Line {
    fn new(id: &str, revision: &Revision) -> Self {
        let mut text = id.as_bytes().to_vec();
        text.push(0);
        revision.write_to(&mut text);
        text.push(b'\n');
        Self { text, id_bytes: id.len() }
    }

    fn read(text: &[u8], value: &[u8]) -> Option<Self> {
        let id_bytes = usize::try_from(versioned(value)?.varint()?).ok()?;
        Some(Self { text: text.to_vec(), id_bytes })
    }

    fn value(&self) -> Vec<u8> {
        let mut value = vec![1];
        value.varint(self.id_bytes as u64);
        value
    }

    fn parts(&self) -> Option<(&str, Revision)> {
        let (id, rest) = self.text.split_at_checked(self.id_bytes)?;
        let revision = std::str::from_utf8(rest.strip_prefix(&[0])?.strip_suffix(b"\n")?).ok()?;
        Some((std::str::from_utf8(id).ok()?, Revision::parse(revision).ok()?))
    }
}

/// The lines of a part, sorted, each once.
fn lines_of(revisions: &[(String, Vec<Revision>)]) -> Vec<Line> {
    let of_document =
        |(id, revisions): &(String, Vec<Revision>)| revisions.iter().map(|one| Line::new(id, one)).collect::<Vec<_>>();
    let mut lines: Vec<Line> = revisions.iter().flat_map(of_document).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

/// Whose manifest.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Of which database.
    pub database: Arc<Database>,
    /// What the caller may know of it.
    pub view: View,
    /// Account, device and epoch.
    pub pass: Pass,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// What the server lacks, by document.
    pub missing: Vec<(String, Vec<String>)>,
    /// What waits in escrow: document, revision.
    pub escrowed: Vec<(String, String)>,
    /// Everything escrowed, also what is not listed.
    pub escrowed_count: u64,
    /// There is more than is listed.
    pub more: bool,
    listed: usize,
}

impl Compared {
    fn note(&mut self, id: &str, revisions: &[Revision], told: &Told<'_>) {
        if !told.missing.is_empty() {
            if self.listed < MOST_LISTED {
                self.listed += told.missing.len();
                self.missing.push((id.to_owned(), told.missing.iter().map(ToString::to_string).collect()));
            } else {
                self.more = true;
            }
        }
        for revision in revisions.iter().map(ToString::to_string).filter(|text| told.held.contains(text)) {
            self.escrowed_count += 1;
            if self.escrowed.len() < MOST_LISTED {
                self.escrowed.push((id.to_owned(), revision));
            } else {
                self.more = true;
            }
        }
    }
}

/// Compares lines, in their order, with one state of the store.
struct Comparison<'r, R: Read> {
    reader: &'r R,
    database: DatabaseId,
    view: &'r View,
    page: Vec<(String, Vec<Revision>)>,
    root: Root,
    found: Compared,
}

impl<'r, R: Read> Comparison<'r, R> {
    fn new(reader: &'r R, holder: &'r Holder) -> Self {
        let (database, view) = (holder.database.id(), &holder.view);
        Self { reader, database, view, page: Vec::new(), root: Root::default(), found: Compared::default() }
    }

    fn add(&mut self, line: &Line) -> StorageResult<()> {
        let (id, revision) = line.parts().ok_or(CORRUPT)?;
        self.root.add(id, &line.text);
        match self.page.last_mut() {
            Some((last, revisions)) if last == id => revisions.push(revision),
            _ => {
                if self.page.len() == DOCUMENTS_AT_A_TIME {
                    self.look_up()?;
                }
                self.page.push((id.to_owned(), vec![revision]));
            }
        }
        Ok(())
    }

    fn look_up(&mut self) -> StorageResult<()> {
        let keys: Vec<Vec<u8>> = self.page.iter().map(|(id, _)| DocumentKey::bytes(self.database, id)).collect();
        let rows = self.reader.get_many(DOCUMENTS.family(), &keys)?;
        for ((id, revisions), bytes) in self.page.drain(..).zip(rows) {
            let row = bytes.map(|bytes| DOCUMENTS.decode(&bytes)).transpose()?.unwrap_or_default();
            let told = told(self.reader, self.database, self.view, &id, &row, &revisions)?;
            self.found.note(&id, &revisions, &told);
        }
        Ok(())
    }

    fn finish(mut self) -> StorageResult<(Root, Compared)> {
        self.look_up()?;
        Ok((self.root, self.found))
    }
}

/// What can be taken away from a database: as long as this stays, what was here is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TakenAway {
    purges: u64,
    from_escrow: u64,
}

impl TakenAway {
    fn of(reader: &impl Read, database: DatabaseId) -> StorageResult<Self> {
        let purges = reader.get(&COUNTERS, &DatabaseKey(database))?.unwrap_or_default().purges;
        Ok(Self { purges, from_escrow: super::escrow::taken_out(reader, database)? })
    }
}

/// Everything that a manifest lists, compared. Given to the writer when nothing is missing.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What was found.
    pub found: Compared,
    /// BLAKE3 over the lines, and how many there are.
    pub root: Root,
    open: Option<Open>,
    taken_away: TakenAway,
}

impl Checked {
    /// Whether all of it is still true in this state.
    ///
    /// # Errors
    /// When the store fails.
    pub fn still_holds(&self, reader: &impl Read, holder: &Holder, name: &str) -> StorageResult<bool> {
        let same_lines = find(reader, holder, name)?.map(|open| (open.series, open.received))
            == self.open.map(|open| (open.series, open.received));
        Ok(same_lines && TakenAway::of(reader, holder.database.id())? == self.taken_away)
    }
}

/// The open manifest of this name, if there is one.
///
/// # Errors
/// When the store fails.
pub fn find(reader: &impl Read, holder: &Holder, name: &str) -> StorageResult<Option<Open>> {
    reader.get(&OPEN, &OpenKey(holder.database.id(), holder.pass.device, name.to_owned()))
}

/// What the server lacks of one part.
///
/// # Errors
/// When the store fails.
pub fn compare(reader: &impl Read, holder: &Holder, part: &ManifestPart) -> StorageResult<Compared> {
    let mut comparison = Comparison::new(reader, holder);
    for line in lines_of(&part.revisions) {
        comparison.add(&line)?;
    }
    Ok(comparison.finish()?.1)
}

/// Compares all lines of a manifest: those received, or of one that nothing was received of yet, those of this only part.
///
/// # Errors
/// When the store fails.
pub fn check(reader: &impl Read, holder: &Holder, part: &ManifestPart) -> StorageResult<Checked> {
    let open = find(reader, holder, &part.manifest)?;
    let mut comparison = Comparison::new(reader, holder);
    match &open {
        None => {
            for line in lines_of(&part.revisions) {
                comparison.add(&line)?;
            }
        }
        Some(open) => {
            let prefix = of_series(holder.database.id(), &open.series);
            reader.scan(Family::Manifests, &Range::prefix(&prefix), &mut |key, value| {
                let line = key.get(prefix.len()..).and_then(|text| Line::read(text, value)).ok_or(CORRUPT)?;
                comparison.add(&line)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
    }
    let (root, found) = comparison.finish()?;
    Ok(Checked { found, root, open, taken_away: TakenAway::of(reader, holder.database.id())? })
}

/// Keeps the lines of a part. `fresh` is random, and only used for a manifest that is not open yet.
///
/// # Errors
/// `413` for more than [`MOST_REVISIONS`]; what a withdrawn right meets; or a failure of the store. A part may be kept partly
/// then; it is sent again.
pub async fn receive(
    store: &Store,
    holder: &Holder,
    part: &ManifestPart,
    fresh: [u8; 16],
    now: u64,
) -> DocumentResult<Open> {
    let mut lines = lines_of(&part.revisions).into_iter();
    loop {
        let some: Vec<Line> = lines.by_ref().take(LINES_AT_A_TIME).collect();
        let is_last = lines.len() == 0;
        let (holder, name) = (holder.clone(), part.manifest.clone());
        let kept = store.write(move |batch| keep_lines(batch, &holder, &name, fresh, &some, now)).await?;
        if is_last {
            return Ok(kept);
        }
    }
}

fn keep_lines(
    batch: &mut Batch<'_>,
    holder: &Holder,
    name: &str,
    fresh: [u8; 16],
    lines: &[Line],
    now: u64,
) -> DocumentResult<Open> {
    let database = still_there(batch, &holder.database)?.id;
    holder.pass.judge(batch, now)?.allow(Right::Push)?;
    let mut open = match find(batch, holder, name)? {
        Some(open) => open,
        None => {
            make_room(batch, holder)?;
            Open { series: fresh, received: 0, touched: now }
        }
    };
    let prefix = of_series(database, &open.series);
    for line in lines {
        let key = [prefix.as_slice(), &line.text].concat();
        if batch.get_bytes(Family::Manifests, &key)?.is_none() {
            batch.put_bytes(Family::Manifests, key, line.value());
            open.received += 1;
        }
    }
    if open.received > MOST_REVISIONS {
        let reason = format!("A manifest lists at most {MOST_REVISIONS} revisions.");
        return Err(Error::new(ErrorKind::TooLarge, reason).into());
    }
    open.touched = now;
    batch.put(&OPEN, &OpenKey(database, holder.pass.device, name.to_owned()), &open);
    Ok(open)
}

/// A device that began again and again is not held up by what it left behind.
fn make_room(batch: &mut Batch<'_>, holder: &Holder) -> StorageResult<()> {
    let database = holder.database.id();
    let mut known = open_below(batch, &of_device(database, &holder.pass.device))?;
    known.sort_by_key(|(_, open)| open.touched);
    for (key, open) in known.iter().rev().skip(MOST_OPEN - 1) {
        forget(batch, database, key.clone(), open);
    }
    Ok(())
}

fn open_below(reader: &impl Read, prefix: &[u8]) -> StorageResult<Vec<(Vec<u8>, Open)>> {
    let mut found = Vec::new();
    reader.scan(Family::Manifests, &Range::prefix(prefix), &mut |key, row| {
        found.push((key.to_vec(), OPEN.decode(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Nothing finds the lines any more; they are erased later.
fn forget(batch: &mut Batch<'_>, database: DatabaseId, key: Vec<u8>, open: &Open) {
    batch.delete_bytes(Family::Manifests, key);
    batch.put_bytes(Family::Manifests, erasing(database, &open.series), Vec::new());
}

/// Closes a manifest: its receipt was given.
pub fn close(batch: &mut Batch<'_>, holder: &Holder, name: &str, checked: &Checked) {
    if let Some(open) = &checked.open {
        let database = holder.database.id();
        forget(batch, database, OPEN.key(&OpenKey(database, holder.pass.device, name.to_owned())), open);
    }
}

/// Forgets manifests that nobody added to for a week, and erases the lines of those that were closed. Called from time to time.
///
/// # Errors
/// When the store fails; what is left is done next time.
pub async fn forget_old(store: &Store, database: DatabaseId, now: u64) -> StorageResult<()> {
    let prefix = [&database.to_be_bytes()[..], b"m"].concat();
    let is_old = move |open: &Open| open.touched + FORGOTTEN_AFTER_SECONDS < now;
    let mut old = open_below(&store.snapshot(), &prefix)?;
    old.retain(|(_, open)| is_old(open));
    if !old.is_empty() {
        store
            .write(move |batch| -> StorageResult<()> {
                for (key, _) in old {
                    let open = batch.get_bytes(Family::Manifests, &key)?.map(|row| OPEN.decode(&row)).transpose()?;
                    if let Some(open) = open.filter(|open| is_old(open)) {
                        forget(batch, database, key, &open);
                    }
                }
                Ok(())
            })
            .await?;
    }
    let prefix = erasing(database, &[]);
    let mut series: Vec<Vec<u8>> = Vec::new();
    store.snapshot().scan(Family::Manifests, &Range::prefix(&prefix), &mut |key, _| {
        series.push(key.get(prefix.len()..).unwrap_or_default().to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    for series in series {
        let lines = of_series(database, &series.as_slice().try_into().map_err(|_| CORRUPT)?);
        store.erase_prefix(Family::Manifests, &lines)?;
        let done = store.write(move |batch| -> StorageResult<()> {
            batch.delete_bytes(Family::Manifests, erasing(database, &series));
            Ok(())
        });
        done.await?;
    }
    Ok(())
}

impl From<super::receipts::Invalid> for DocumentError {
    fn from(invalid: super::receipts::Invalid) -> Self {
        Error::bad_request(format!("No receipt can be given for this device: {invalid}.")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::tables::{ACCOUNTS, AccountRow};
    use crate::audit::Entry;
    use crate::documents::databases::Catalogue;
    use crate::documents::tables::DatabaseRow;
    use crate::storage::Memory;

    async fn holder(store: &Store) -> Holder {
        let catalogue = Catalogue::open(store).expect("catalogue");
        let (uuid, security) = ([3; 16], crate::accounts::security::Security::default().text().to_owned());
        let row = DatabaseRow {
            id: 0,
            uuid,
            created: 1,
            revs_limit: 1,
            purged_infos_limit: 1,
            scoped: false,
            watches: false,
            security,
        };
        catalogue.create("visits", row, Entry::new(1, "root", "database.create")).await.expect("made");
        let account = store.write(|batch| -> StorageResult<()> {
            batch.put(&ACCOUNTS, &"ann".to_owned(), &AccountRow { epoch: 1, exists: true, ..AccountRow::default() });
            Ok(())
        });
        account.await.expect("made");
        let pass = Pass { account: "ann".to_owned(), device: [7; 16], epoch: 1 };
        Holder { database: catalogue.find("visits").expect("there"), view: View::Everything, pass }
    }

    fn part(ids: impl Iterator<Item = u64>) -> ManifestPart {
        let revision = Revision::parse("1-0123456789abcdef0123456789abcdef").expect("a revision");
        let revisions = ids.map(|id| (format!("visit-{id}"), vec![revision.clone()])).collect();
        ManifestPart { manifest: "m".to_owned(), revisions, ..ManifestPart::default() }
    }

    fn with_store(test: impl AsyncFnOnce(&Store)) {
        let folder = tempfile::tempdir().expect("folder");
        let store = Store::open(folder.path(), Memory::default(), || [1; 16]).expect("open");
        tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(test(&store));
        store.close();
    }

    #[test]
    fn a_manifest_lists_a_million_revisions_and_not_one_more() {
        with_store(async |store| {
            let holder = holder(store).await;
            let send = |ids: std::ops::Range<u64>| {
                let (holder, part) = (holder.clone(), part(ids));
                async move { receive(store, &holder, &part, [5; 16], 10).await }
            };
            send(0..3).await.expect("room");
            let (database, device) = (holder.database.id(), holder.pass.device);
            // As if all but two of a million had come before.
            let filled = store.write(move |batch| -> StorageResult<()> {
                let open = Open { series: [5; 16], received: MOST_REVISIONS - 2, touched: 10 };
                batch.put(&OPEN, &OpenKey(database, device, "m".to_owned()), &open);
                Ok(())
            });
            filled.await.expect("filled");
            assert_eq!(send(0..4).await.expect("one is new").received, MOST_REVISIONS - 1);
            assert_eq!(send(3..5).await.expect("the last one").received, MOST_REVISIONS);
            let refused = send(4..6).await.expect_err("one more");
            assert!(
                matches!(&refused, DocumentError::Refused(error) if error.kind() == ErrorKind::TooLarge),
                "{refused:?}"
            );
            assert_eq!(send(0..5).await.expect("nothing new").received, MOST_REVISIONS, "nothing of it was kept");
        });
    }

    #[test]
    fn what_nobody_added_to_for_seven_days_is_forgotten_with_its_lines() {
        with_store(async |store| {
            let (holder, day) = (holder(store).await, 86_400);
            let database = holder.database.id();
            let lines = || {
                let mut count = 0;
                let range = Range::prefix(&of_series(database, &[5; 16]));
                let mut visit = |_: &[u8], _: &[u8]| {
                    count += 1;
                    Ok(ControlFlow::Continue(()))
                };
                store.snapshot().scan(Family::Manifests, &range, &mut visit).expect("read");
                count
            };
            let open = || find(&store.snapshot(), &holder, "m").expect("read").map(|open| open.received);
            receive(store, &holder, &part(0..3), [5; 16], day).await.expect("kept");
            receive(store, &holder, &part(3..5), [6; 16], 2 * day).await.expect("kept");
            forget_old(store, database, 9 * day).await.expect("looked");
            assert_eq!((open(), lines()), (Some(5), 5), "a week after the newest part");
            forget_old(store, database, 9 * day + 1).await.expect("looked");
            assert_eq!((open(), lines()), (None, 0));
        });
    }
}
