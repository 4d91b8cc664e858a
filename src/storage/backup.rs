//! Online backup: a checkpoint of the engine in another folder, consistent and durable, while writes go on.
//!
//! The copy carries a mark, so that whoever opens it begins a new history (design §12). A copy without one, such as a snapshot
//! of the whole machine, is known by the revocation ledger.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rocksdb::checkpoint::Checkpoint;

use super::Store;
use super::codec::hex;
use super::error::{StorageError, StorageResult};

/// The file that says that a folder is a copy.
pub const BACKUP_MARK: &str = "backup.json";

impl Store {
    /// Writes a checkpoint to `target`, which must not exist; its parent is created.
    ///
    /// # Errors
    /// [`StorageError::Unusable`] when the target exists or cannot be made, else the engine's error.
    pub fn backup(&self, target: &Path) -> StorageResult<()> {
        if target.exists() {
            return Err(StorageError::Unusable(format!("{} exists already; name a new folder", target.display())));
        }
        let unusable = |error| StorageError::Unusable(format!("cannot create {}: {error}", target.display()));
        std::fs::create_dir_all(target).map_err(unusable)?;
        Checkpoint::new(&self.inner.db)?.create_checkpoint(target.join("db"))?;
        let mark =
            format!("{{\"server\":\"{}\",\"incarnation\":\"{}\"}}\n", hex(&self.server_id()), hex(&self.incarnation()));
        let mut file = File::create(target.join(BACKUP_MARK)).map_err(unusable)?;
        file.write_all(mark.as_bytes()).and_then(|()| file.sync_all()).map_err(unusable)?;
        File::open(target).and_then(|folder| folder.sync_all()).map_err(unusable)
    }

    /// Whether the data folder is a copy that was not opened by a server yet.
    #[must_use]
    pub fn is_marked_as_backup(&self) -> bool {
        self.path().join(BACKUP_MARK).exists()
    }

    /// The copy has begun a history of its own.
    ///
    /// # Errors
    /// [`StorageError::Unusable`] when the mark cannot be removed.
    pub fn remove_backup_mark(&self) -> StorageResult<()> {
        let removed =
            std::fs::remove_file(self.path().join(BACKUP_MARK)).and_then(|()| File::open(self.path())?.sync_all());
        removed.map_err(|error| StorageError::Unusable(format!("cannot remove {BACKUP_MARK}: {error}")))
    }
}
