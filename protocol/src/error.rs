//! Every error of the protocol with CouchDB's status and word.
//!
//! The JSON `error` word is what clients act on (PouchDB never looks at the status), so both stand in one table here and
//! nowhere else. Reasons follow CouchDB 3.5 where a recording shows them. Nothing here knows HTTP beyond the number.

use std::borrow::Cow;

/// What went wrong, as CouchDB names it (protocol page §1.0, error catalogue).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each name is CouchDB's word; the table in `status_and_word` is the documentation")]
pub enum ErrorKind {
    BadRequest,
    QueryParseError,
    IllegalDatabaseName,
    DatabaseNameTooLong,
    IllegalDocumentId,
    DocumentValidation,
    InvalidDesignDocument,
    MissingRequiredKey,
    InvalidOperator,
    InvalidSelector,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    Conflict,
    MissingRevision,
    Gone,
    FileExists,
    MissingStub,
    TooLarge,
    AttachmentTooLarge,
    DocumentTooLarge,
    TooLong,
    BadContentType,
    RangeNotSatisfiable,
    ExpectationFailed,
    RequestTimeout,
    HeadersTooLarge,
    Internal,
    NotImplemented,
    Unavailable,
    InsufficientStorage,
}

impl ErrorKind {
    /// HTTP status number and JSON `error` word.
    #[must_use]
    pub const fn status_and_word(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest => (400, "bad_request"),
            Self::QueryParseError => (400, "query_parse_error"),
            Self::IllegalDatabaseName => (400, "illegal_database_name"),
            Self::DatabaseNameTooLong => (400, "database_name_too_long"),
            Self::IllegalDocumentId => (400, "illegal_docid"),
            Self::DocumentValidation => (400, "doc_validation"),
            Self::InvalidDesignDocument => (400, "invalid_design_doc"),
            Self::MissingRequiredKey => (400, "missing_required_key"),
            Self::InvalidOperator => (400, "invalid_operator"),
            Self::InvalidSelector => (400, "invalid_selector_json"),
            Self::Unauthorized => (401, "unauthorized"),
            Self::Forbidden => (403, "forbidden"),
            Self::NotFound => (404, "not_found"),
            Self::MethodNotAllowed => (405, "method_not_allowed"),
            Self::NotAcceptable => (406, "not_acceptable"),
            Self::Conflict => (409, "conflict"),
            Self::MissingRevision => (409, "not_found"),
            Self::Gone => (410, "gone"),
            Self::FileExists => (412, "file_exists"),
            Self::MissingStub => (412, "missing_stub"),
            Self::TooLarge => (413, "too_large"),
            Self::AttachmentTooLarge => (413, "attachment_too_large"),
            Self::DocumentTooLarge => (413, "document_too_large"),
            Self::TooLong => (414, "too_long"),
            Self::BadContentType => (415, "bad_content_type"),
            Self::RangeNotSatisfiable => (416, "requested_range_not_satisfiable"),
            Self::ExpectationFailed => (417, "expectation_failed"),
            Self::RequestTimeout => (408, "request_timeout"),
            Self::HeadersTooLarge => (431, "headers_too_large"),
            Self::Internal => (500, "internal_server_error"),
            Self::NotImplemented => (501, "not_implemented"),
            Self::Unavailable => (503, "service unavailable"),
            Self::InsufficientStorage => (507, "insufficient_storage"),
        }
    }
}

/// An error as a client sees it: `{"error": word, "reason": reason}` with a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", self.word())]
pub struct Error {
    kind: ErrorKind,
    reason: Cow<'static, str>,
}

/// Result of everything in this crate that can refuse its input.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of this kind with a sentence for a person.
    pub fn new(kind: ErrorKind, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, reason: reason.into() }
    }

    /// What went wrong.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// HTTP status number.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.kind.status_and_word().0
    }

    /// The JSON `error` member.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        self.kind.status_and_word().1
    }

    /// The JSON `reason` member.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// `400 bad_request`.
    pub fn bad_request(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::BadRequest, reason)
    }

    /// `400 bad_request "invalid UTF-8 JSON"`, CouchDB's answer to anything that is no JSON text.
    #[must_use]
    pub fn invalid_json() -> Self {
        Self::bad_request("invalid UTF-8 JSON")
    }

    /// `400 doc_validation`.
    pub fn document(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::DocumentValidation, reason)
    }

    /// `403 forbidden`: final for PouchDB, see protocol page §4.3.
    pub fn forbidden(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Forbidden, reason)
    }

    /// `404 not_found`.
    pub fn not_found(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotFound, reason)
    }

    /// `404 not_found "missing"`.
    #[must_use]
    pub fn missing() -> Self {
        Self::not_found("missing")
    }

    /// `409 conflict`, whose reason is always the same sentence.
    #[must_use]
    pub fn conflict() -> Self {
        Self::new(ErrorKind::Conflict, "Document update conflict.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_word_status_and_reason() {
        let error = Error::conflict();
        assert_eq!((error.status(), error.word(), error.reason()), (409, "conflict", "Document update conflict."));
        assert_eq!(error.to_string(), "conflict: Document update conflict.");
        assert_eq!(Error::new(ErrorKind::MissingRevision, "missing_rev").status(), 409);
    }
}
