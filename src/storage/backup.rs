//! Online backup: a checkpoint of the engine in another folder, consistent and durable, while writes go on.
//!
//! Restoring is starting a server on a copy. (A restore begins a new incarnation: later issue, design §12.)

use std::path::Path;

use rocksdb::checkpoint::Checkpoint;

use super::Store;
use super::error::{StorageError, StorageResult};

impl Store {
    /// Writes a checkpoint to `target`, which must not exist; its parent is created.
    ///
    /// # Errors
    /// [`StorageError::Unusable`] when the target exists or cannot be made, else the engine's error.
    pub fn backup(&self, target: &Path) -> StorageResult<()> {
        if target.exists() {
            return Err(StorageError::Unusable(format!("{} exists already; name a new folder", target.display())));
        }
        std::fs::create_dir_all(target)
            .map_err(|error| StorageError::Unusable(format!("cannot create {}: {error}", target.display())))?;
        Checkpoint::new(&self.inner.db)?.create_checkpoint(target.join("db"))?;
        Ok(())
    }
}
