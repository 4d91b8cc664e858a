//! The store: what RocksDB gives and what it promises to the rest of Settle.
//!
//! * **All or nothing.** Everything one request changes is one batch; a crash leaves all of it or none.
//! * **Durable before answered.** [`Store::write`] returns after the fsync of its batch.
//! * **One order.** There is one writer; what it commits first has the lower position and is seen first.
//! * **Snapshots.** A read sees one state, however long it takes.
//!
//! Only this folder names `rocksdb`. Every key and value is on one page, `LAYOUT.md`:
#![doc = include_str!("LAYOUT.md")]

mod announcements;
mod backup;
mod batch;
mod codec;
mod engine;
mod error;
mod family;
mod overlay;
mod prepared;
mod raw_limits;
mod read;
mod row_versions;
mod snapshot;
mod table;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use foldhash::quality::RandomState;
use rocksdb::DB;
use tokio::sync::mpsc;

use prepared::Preparations;

pub use announcements::Announcements;
pub use backup::BACKUP_MARK;
pub use batch::{Announcement, Batch};
pub use codec::{Decoder, Encode, from_json_row, hex, json_row, unhex};
pub use engine::Memory;
pub use error::{StorageError, StorageResult};
pub use family::{FAMILIES, Family, OF_A_DATABASE};
pub use prepared::Prepared;
pub use raw_limits::*;
pub use read::{Range, Read, Visit, after_prefix};
pub use row_versions::{RowMark, RowVersions};
pub use snapshot::Snapshot;
pub use table::{Key, Table, Value};

/// Version of the whole layout; a store of another version is not opened.
pub const FORMAT: u32 = 1;

const META_FORMAT: &[u8] = b"format";
const META_INCARNATION: &[u8] = b"incarnation";
const META_SERVER: &[u8] = b"server";

/// The open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    db: DB,
    path: PathBuf,
    queue: mpsc::Sender<writer::Job>,
    announcements: Announcements,
    row_versions: RowVersions,
    preparations: Preparations,
    /// The same for all batches: each searches what those before it wrote.
    hasher: RandomState,
    healthy: AtomicBool,
    closing: AtomicBool,
    /// The writer's thread, until somebody waits for its end.
    writer: Mutex<Option<thread::JoinHandle<()>>>,
    incarnation: RwLock<[u8; 16]>,
    server: [u8; 16],
}

impl Store {
    /// Opens or creates the store in a folder and starts its writer.
    ///
    /// `fresh_id` gives 16 random bytes; it names a new store and its incarnation.
    ///
    /// # Errors
    /// [`StorageError::Unusable`] when the folder belongs to another process or another format, else the engine's error.
    pub fn open(path: &Path, memory: Memory, fresh_id: impl Fn() -> [u8; 16]) -> StorageResult<Self> {
        std::fs::create_dir_all(path).map_err(|error| {
            StorageError::Unusable(format!("cannot create the data folder {}: {error}", path.display()))
        })?;
        let db = engine::open(&path.join("db"), memory).map_err(|error| explain_open(path, error))?;
        let (incarnation, server) = identity(&db, fresh_id)?;
        let (queue, jobs) = mpsc::channel(writer::QUEUE_LENGTH);
        let inner = Arc::new(Inner {
            db,
            path: path.to_owned(),
            queue,
            announcements: Announcements::default(),
            row_versions: RowVersions::default(),
            preparations: Preparations::default(),
            hasher: RandomState::default(),
            healthy: AtomicBool::new(true),
            closing: AtomicBool::new(false),
            writer: Mutex::new(None),
            incarnation: RwLock::new(incarnation),
            server,
        });
        let of_writer = Arc::clone(&inner);
        let writer = thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || writer::run(&of_writer, jobs))
            .map_err(|error| StorageError::Unusable(format!("cannot start the writer: {error}")))?;
        *inner.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        Ok(Self { inner })
    }

    /// The present state.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::new(&self.inner.db)
    }

    /// Does work on a batch over the present state, and throws the batch away: what would come of it, without the writer and
    /// without holding anybody up. Blocks.
    pub fn rehearse<T>(&self, work: impl FnOnce(&mut Batch<'_>) -> T) -> T {
        work(&mut Batch::rehearsal(&self.inner.db, &self.inner.hasher))
    }

    /// What grew since.
    #[must_use]
    pub fn announcements(&self) -> &Announcements {
        &self.inner.announcements
    }

    /// Whether rows may have been written since they were read.
    #[must_use]
    pub fn row_versions(&self) -> &RowVersions {
        &self.inner.row_versions
    }

    /// The last commit succeeded, so the next is expected to.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.inner.healthy.load(Ordering::Relaxed)
    }

    /// Requests that wait for the writer.
    #[must_use]
    pub fn queued_writes(&self) -> usize {
        writer::QUEUE_LENGTH - self.inner.queue.capacity()
    }

    /// Identity of this history of the store; a restore begins a new one.
    #[must_use]
    pub fn incarnation(&self) -> [u8; 16] {
        *self.inner.incarnation.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the identity of a new history, in the batch that begins it.
    pub fn put_incarnation(batch: &mut Batch<'_>, id: [u8; 16]) {
        batch.put_bytes(Family::Meta, META_INCARNATION, id);
    }

    /// The new history has begun. Only before anybody is served.
    pub fn set_incarnation(&self, id: [u8; 16]) {
        *self.inner.incarnation.write().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// Identity of the server, the same for ever: part of every PouchDB's replication id.
    #[must_use]
    pub fn server_id(&self) -> [u8; 16] {
        self.inner.server
    }

    /// The data folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Bytes on disk of one family, as the engine estimates them.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let of = |name| self.inner.db.property_int_value_cf(name, "rocksdb.total-sst-files-size").ok().flatten();
        FAMILIES.iter().filter_map(|(_, name, _)| of(self.inner.db.cf_handle(name)?)).sum()
    }

    /// Removes every key with this prefix from a family, outside any batch. For data that nothing refers to any more.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn erase_prefix(&self, family: Family, prefix: &[u8]) -> StorageResult<()> {
        let handle = engine::family_handle(&self.inner.db, family)?;
        let to = after_prefix(prefix).unwrap_or_else(|| vec![0xff; 64]);
        let erase = || Ok(self.inner.db.delete_range_cf(handle, prefix, to.as_slice())?);
        self.inner.row_versions.around_erasure(family, erase)
    }

    /// Lets the engine merge its files now. Blocks for as long as that takes.
    pub fn merge_files(&self, family: Family, prefix: &[u8]) {
        if let Ok(handle) = engine::family_handle(&self.inner.db, family) {
            self.inner.db.compact_range_cf(handle, Some(prefix), after_prefix(prefix).as_deref());
        }
    }

    /// Stops accepting writes, and waits until those that were accepted are done. From then on the engine is closed by whoever
    /// drops the last [`Store`], not by the writer while the process ends around it.
    pub fn close(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
        // The writer looks at the flag after each batch: give it one more, empty, to see it.
        drop(self.inner.queue.try_send(Box::new(|_| Box::new(|_| ()))));
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            drop(writer.join());
        }
    }
}

fn identity(db: &DB, fresh_id: impl Fn() -> [u8; 16]) -> StorageResult<([u8; 16], [u8; 16])> {
    let meta = engine::family_handle(db, Family::Meta)?;
    match db.get_cf(meta, META_FORMAT)? {
        None => {
            let mut batch = rocksdb::WriteBatch::default();
            batch.put_cf(meta, META_FORMAT, FORMAT.to_be_bytes());
            batch.put_cf(meta, META_INCARNATION, fresh_id());
            batch.put_cf(meta, META_SERVER, fresh_id());
            let mut options = rocksdb::WriteOptions::default();
            options.set_sync(true);
            db.write_opt(batch, &options)?;
        }
        Some(format) if format == FORMAT.to_be_bytes() => {}
        Some(format) => {
            let reason = format!("the data folder has format {format:?}, this program reads format {FORMAT}");
            return Err(StorageError::Unusable(reason));
        }
    }
    let read = |key| -> StorageResult<[u8; 16]> {
        let bytes = db.get_cf(meta, key)?.and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or(StorageError::Corrupt { table: Family::Meta.name(), problem: "identity is missing" })
    };
    Ok((read(META_INCARNATION)?, read(META_SERVER)?))
}

fn explain_open(path: &Path, error: StorageError) -> StorageError {
    match error {
        StorageError::Engine(text) if text.contains("LOCK") || text.contains("lock") => StorageError::Unusable(
            format!("the data folder {} is in use by another process (or not writable): {text}", path.display()),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests;
