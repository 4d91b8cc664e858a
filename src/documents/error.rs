//! What reading and writing documents can answer: a refusal in CouchDB's words, or a failure of the store.

use crate::storage::StorageError;

/// A refusal or a failure.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DocumentError {
    /// The request is refused; nothing changed.
    #[error(transparent)]
    Refused(#[from] settle_protocol::Error),
    /// The store failed; nothing changed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Result of an operation on documents.
pub type DocumentResult<T> = Result<T, DocumentError>;
