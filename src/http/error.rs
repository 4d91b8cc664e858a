//! Every error → status, word, reason. What is no decision about the caller is 503 or 5xx, never 401 or 403.

use settle_protocol::{Error, ErrorKind};

use crate::accounts::error::AccountError;
use crate::accounts::login::LoginError;
use crate::documents::error::DocumentError;
use crate::storage::StorageError;

/// An error on its way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpError {
    /// Status number.
    pub(crate) status: u16,
    /// JSON `error`.
    pub(crate) word: &'static str,
    /// JSON `reason`.
    pub(crate) reason: String,
    /// Header `Retry-After`, in seconds.
    pub(crate) retry_after: Option<u64>,
    /// Header `Allow`.
    pub(crate) allow: Option<String>,
}

impl HttpError {
    fn plain(status: u16, word: &'static str, reason: String) -> Self {
        Self { status, word, reason, retry_after: None, allow: None }
    }

    /// `405 method_not_allowed`.
    pub(crate) fn wrong_method(allowed: String) -> Self {
        let error = Self::plain(405, "method_not_allowed", format!("Only {allowed} allowed"));
        Self { allow: Some(allowed), ..error }
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        let retry_after = (error.kind() == ErrorKind::Unavailable).then_some(5);
        Self { retry_after, ..Self::plain(error.status(), error.word(), error.reason().to_owned()) }
    }
}

impl From<AccountError> for HttpError {
    fn from(error: AccountError) -> Self {
        let retry_after = match error {
            AccountError::Locked { retry_after_seconds } => Some(retry_after_seconds),
            _ => None,
        };
        Self { retry_after, ..Self::plain(error.status(), error.word(), error.reason().to_owned()) }
    }
}

impl From<StorageError> for HttpError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full => Error::new(ErrorKind::InsufficientStorage, "database_dir is too full").into(),
            StorageError::Overloaded => {
                let reason = "The server has too much to do at the moment; nothing was changed, try again shortly.";
                Error::new(ErrorKind::Unavailable, reason).into()
            }
            StorageError::Closed => Error::new(ErrorKind::Unavailable, "The server is stopping.").into(),
            StorageError::Panicked => Error::new(ErrorKind::Internal, "The request failed inside the server.").into(),
            other => {
                tracing::error!(error = %other, "the store failed");
                Error::new(ErrorKind::Unavailable, "The store cannot be used at the moment.").into()
            }
        }
    }
}

impl From<DocumentError> for HttpError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::Refused(error) => error.into(),
            DocumentError::Storage(error) => error.into(),
        }
    }
}

impl From<LoginError> for HttpError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Account(error) => error.into(),
            LoginError::Storage(error) => error.into(),
        }
    }
}
