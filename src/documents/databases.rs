//! Databases: create, find, delete, and their settings.
//!
//! The catalogue keeps every database in memory as it stands in the store. After a change it reads the row again under its
//! lock, so that the last commit always has the last word.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use settle_protocol::document_id::check_database_name;
use settle_protocol::sequence::{Position, TokenPrefix};
use settle_protocol::{Error, ErrorKind, Revision};
use tokio::sync::watch;

use super::error::{DocumentError, DocumentResult};
use super::incarnations::{Earlier, earlier};
use super::read::Found;
use super::recent_rows::RecentRows;
use super::shared_answer::SharedAnswer;
use super::tables::{COUNTERS, Counters, DATABASES, DatabaseId, DatabaseKey, DatabaseRow};
use super::watched::watch_all_accounts;
use crate::access::scope::ScopeSettings;
use crate::access::view::{View, Visible};
use crate::accounts::security::Security;
use crate::audit::{self, Entry};
use crate::storage::{Family, OF_A_DATABASE, Range, Read, StorageResult, Store};

/// A database that is open.
#[derive(Debug)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// The stored row.
    pub row: DatabaseRow,
    /// `_security`, understood.
    pub security: Security,
    /// What its feed tokens begin with.
    pub tokens: TokenPrefix,
    /// What those who wait for its log were answered last.
    pub(super) shared_answer: SharedAnswer,
    /// What phones were told last.
    pub(super) recent_rows: RecentRows,
}

impl Database {
    fn new(name: String, row: DatabaseRow, incarnation: [u8; 16], earlier: Earlier) -> Self {
        let security = Security::parse(&row.security).unwrap_or_default();
        let tag = |id: &[u8; 16]| [id[0], id[1], id[2], id[3]];
        let tokens = TokenPrefix::new(tag(&row.uuid), tag(&incarnation)).going_on_from(earlier);
        let (shared_answer, recent_rows) = Default::default();
        Self { name, row, security, tokens, shared_answer, recent_rows }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> DatabaseId {
        self.row.id
    }

    /// Opens those of some documents that the caller was told about a moment ago, as `RecentRows::open` does.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open_told(
        &self,
        reader: &impl Read,
        view: &View,
        asked: &[(&str, Option<&Revision>)],
    ) -> StorageResult<Vec<Option<Visible<Found>>>> {
        match view.restricted() {
            Some(restricted) => self.recent_rows.open(reader, self.row.id, &restricted.scope, asked),
            None => Ok(asked.iter().map(|_| None).collect()),
        }
    }

    /// What it counts, as of a state.
    ///
    /// # Errors
    /// When the store fails.
    pub fn counters(&self, reader: &impl Read) -> StorageResult<Counters> {
        Ok(reader.get(&COUNTERS, &DatabaseKey(self.row.id))?.unwrap_or_default())
    }
}

/// All databases.
pub struct Catalogue {
    store: Store,
    open: RwLock<BTreeMap<String, Arc<Database>>>,
}

/// Key of the number of the next database.
const META_NEXT_DATABASE: &[u8] = b"next_database";
/// Keys of databases that are deleted but not erased yet: this prefix and the number.
const META_ERASING: &[u8] = b"erasing/";

fn no_database() -> Error {
    Error::not_found("Database does not exist.")
}

impl Catalogue {
    /// Reads all databases from the store.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(store: &Store) -> StorageResult<Self> {
        let catalogue = Self { store: store.clone(), open: RwLock::default() };
        catalogue.reload()?;
        Ok(catalogue)
    }

    /// Reads all databases again.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn reload(&self) -> StorageResult<()> {
        let mut open = BTreeMap::new();
        let incarnation = self.store.incarnation();
        let snapshot = self.store.snapshot();
        let mut earlier = earlier(&snapshot)?;
        snapshot.scan(Family::Databases, &Range::prefix(b""), &mut |name, row| {
            let name = String::from_utf8_lossy(name).into_owned();
            let row: DatabaseRow = DATABASES.decode(row)?;
            let earlier = earlier.remove(&row.id).unwrap_or_default();
            open.insert(name.clone(), Arc::new(Database::new(name, row, incarnation, earlier)));
            Ok(ControlFlow::Continue(()))
        })?;
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = open;
        Ok(())
    }
    /// The database of this name.
    ///
    /// # Errors
    /// `404 not_found "Database does not exist."`
    pub fn find(&self, name: &str) -> Result<Arc<Database>, Error> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(name).cloned().ok_or_else(no_database)
    }

    /// Names in order of bytes.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// Every database, in order of names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Database>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Makes a database. `uuid` is random, `now` in seconds; `entry` tells the audit log who made it.
    ///
    /// # Errors
    /// `412 file_exists`, `400` for the name, or a failure of the store.
    pub async fn create(&self, name: &str, row: DatabaseRow, entry: Entry) -> DocumentResult<()> {
        check_database_name(name)?;
        let key = name.to_owned();
        self.store
            .write(move |batch| -> DocumentResult<()> {
                if batch.get(&DATABASES, &key)?.is_some() {
                    let reason = "The database could not be created, the file already exists.";
                    return Err(Error::new(ErrorKind::FileExists, reason).into());
                }
                let next = batch.get_bytes(Family::Meta, META_NEXT_DATABASE)?;
                let next = next.and_then(|bytes| bytes.try_into().ok()).map_or(1, u32::from_be_bytes);
                batch.put_bytes(Family::Meta, META_NEXT_DATABASE, (next + 1).to_be_bytes());
                let row = DatabaseRow { id: next, ..row };
                batch.put(&DATABASES, &key, &row);
                if row.scoped {
                    watch_all_accounts(batch, next, &ScopeSettings::default())?;
                }
                Ok(audit::append(batch, &entry)?)
            })
            .await?;
        self.refresh(name)?;
        Ok(())
    }

    /// Deletes a database at once; its rows are erased afterwards by [`Catalogue::erase_deleted`].
    ///
    /// # Errors
    /// `404`, or a failure of the store.
    pub async fn delete(&self, name: &str, entry: Entry) -> DocumentResult<()> {
        let key = name.to_owned();
        let id = self
            .store
            .write(move |batch| -> DocumentResult<DatabaseId> {
                let row = batch.get(&DATABASES, &key)?.ok_or_else(no_database)?;
                batch.delete(&DATABASES, &key);
                batch.put_bytes(Family::Meta, erasing_key(row.id), Vec::new());
                audit::append(batch, &entry)?;
                Ok(row.id)
            })
            .await?;
        self.refresh(name)?;
        self.store.announcements().end(|topic| topic >> 32 == u64::from(id));
        Ok(())
    }

    /// Changes the stored row of a database.
    ///
    /// # Errors
    /// `404`, or a failure of the store.
    pub async fn change(
        &self,
        name: &str,
        entry: Entry,
        change: impl FnOnce(&mut DatabaseRow) + Send + 'static,
    ) -> DocumentResult<()> {
        let key = name.to_owned();
        self.store
            .write(move |batch| -> DocumentResult<()> {
                let mut row = batch.get(&DATABASES, &key)?.ok_or_else(no_database)?;
                change(&mut row);
                batch.put(&DATABASES, &key, &row);
                Ok(audit::append(batch, &entry)?)
            })
            .await?;
        self.refresh(name)?;
        Ok(())
    }

    fn refresh(&self, name: &str) -> StorageResult<()> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let snapshot = self.store.snapshot();
        match snapshot.get(&DATABASES, &name.to_owned())? {
            Some(row) => {
                let earlier = earlier(&snapshot)?.remove(&row.id).unwrap_or_default();
                let database = Database::new(name.to_owned(), row, self.store.incarnation(), earlier);
                open.insert(name.to_owned(), Arc::new(database));
            }
            None => drop(open.remove(name)),
        }
        Ok(())
    }

    /// Follows a database's log. The receiver ends when the database is deleted.
    ///
    /// # Errors
    /// When the store fails.
    pub fn follow(&self, database: &Database) -> StorageResult<watch::Receiver<Position>> {
        let position = database.counters(&self.store.snapshot())?.position;
        Ok(self.store.announcements().follow(super::scopes::whole(database.id()), position))
    }

    /// Erases the rows of deleted databases; also those that a crash left. Blocks.
    ///
    /// # Errors
    /// When the store fails; what is left is erased next time.
    pub fn erase_deleted(&self, runtime: &tokio::runtime::Handle) -> DocumentResult<()> {
        let mut deleted = Vec::new();
        self.store.snapshot().scan(Family::Meta, &Range::prefix(META_ERASING), &mut |key, _| {
            let id = key.strip_prefix(META_ERASING).and_then(|id| id.try_into().ok());
            deleted.extend(id.map(u32::from_be_bytes));
            Ok(ControlFlow::Continue(()))
        })?;
        for id in deleted {
            runtime.block_on(super::attachments::release_database(&self.store, id))?;
            for family in OF_A_DATABASE {
                self.store.erase_prefix(family, &id.to_be_bytes())?;
            }
            let done = self.store.write(move |batch| -> DocumentResult<()> {
                batch.delete_bytes(Family::Meta, erasing_key(id));
                Ok(())
            });
            runtime.block_on(done)?;
        }
        Ok(())
    }
}

fn erasing_key(id: DatabaseId) -> Vec<u8> {
    [META_ERASING, &id.to_be_bytes()].concat()
}

/// The database must still be the one that the request found: it may have been deleted since.
///
/// # Errors
/// `404 not_found "Database does not exist."`
pub fn still_there(reader: &impl Read, database: &Database) -> DocumentResult<DatabaseRow> {
    match reader.get(&DATABASES, &database.name)? {
        Some(row) if row.id == database.id() => Ok(row),
        _ => Err(no_database().into()),
    }
}

impl From<DocumentError> for std::io::Error {
    fn from(error: DocumentError) -> Self {
        Self::other(error.to_string())
    }
}
