//! What can go wrong with the store. None of these is a decision about the caller: the answer is 503 or 507, never 401.

/// An error of the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The engine failed; the text is RocksDB's.
    #[error("storage engine: {0}")]
    Engine(String),
    /// A stored value does not decode.
    #[error("stored value in `{table}` does not decode: {problem}")]
    Corrupt {
        /// Family name.
        table: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The disk is full.
    #[error("no space left on the data disk")]
    Full,
    /// The queue of the writer is full.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The writer has stopped.
    #[error("the store is closing")]
    Closed,
    /// The data folder cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// A job in the writer panicked; nothing of it was written.
    #[error("a write failed inside the server")]
    Panicked,
}

impl From<rocksdb::Error> for StorageError {
    fn from(error: rocksdb::Error) -> Self {
        let text = error.into_string();
        if text.contains("No space left") { Self::Full } else { Self::Engine(text) }
    }
}

/// Result of a storage operation.
pub type StorageResult<T> = Result<T, StorageError>;
