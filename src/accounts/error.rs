//! What this folder refuses, with CouchDB's status, word and sentence.
//!
//! Clients act on the word and the sentence (a phone logs in again on `unauthorized`, stops on `forbidden`), so the
//! ones that recur stand here once. Nothing here tells apart an unknown name and a wrong password, and no message
//! carries a secret.

use std::borrow::Cow;

/// Result of everything in this folder that can refuse its input.
pub type Result<T> = std::result::Result<T, AccountError>;

/// A refusal as a client sees it: `{"error": word, "reason": reason}` with a status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// `400 bad_request`: the request itself is malformed.
    #[error("bad_request: {0}")]
    BadRequest(Cow<'static, str>),
    /// `401 unauthorized`: logging in (again) may help.
    #[error("unauthorized: {0}")]
    Unauthorized(Cow<'static, str>),
    /// `403 forbidden`: known, but not allowed.
    #[error("forbidden: {0}")]
    Forbidden(Cow<'static, str>),
    /// `403 forbidden`: too many failed attempts, for so many more seconds.
    #[error("forbidden: {LOCKED}")]
    Locked {
        /// Seconds until the next attempt is looked at; for `Retry-After`. At least 1.
        retry_after_seconds: u64,
    },
    /// `404 not_found`, reason `missing`: not there, or not for this caller.
    #[error("not_found: missing")]
    Missing,
}

/// CouchDB 3.4+, protocol page §6.2.
const LOCKED: &str = "Account is temporarily locked due to multiple authentication failures";

impl AccountError {
    /// `400 bad_request`.
    pub fn bad_request(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::BadRequest(reason.into())
    }

    /// `401 unauthorized`.
    pub fn unauthorized(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Unauthorized(reason.into())
    }

    /// `403 forbidden`.
    pub fn forbidden(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Forbidden(reason.into())
    }

    /// The one answer to every failed login, whatever was wrong about it.
    #[must_use]
    pub fn wrong_name_or_password() -> Self {
        Self::unauthorized("Name or password is incorrect.")
    }

    /// Server operations by anybody else, logged in or not (recordings `access`, trap T22).
    #[must_use]
    pub fn not_server_admin() -> Self {
        Self::unauthorized("You are not a server admin.")
    }

    /// HTTP status number.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized(_) => 401,
            Self::Forbidden(_) | Self::Locked { .. } => 403,
            Self::Missing => 404,
        }
    }

    /// The JSON `error` member.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden(_) | Self::Locked { .. } => "forbidden",
            Self::Missing => "not_found",
        }
    }

    /// The JSON `reason` member.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::BadRequest(reason) | Self::Unauthorized(reason) | Self::Forbidden(reason) => reason,
            Self::Locked { .. } => LOCKED,
            Self::Missing => "missing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AccountError;

    #[test]
    fn a_refusal_shows_status_word_and_reason() {
        let locked = AccountError::Locked { retry_after_seconds: 9 };
        assert_eq!((locked.status(), locked.word()), (403, "forbidden"));
        assert_eq!(locked.to_string(), format!("forbidden: {}", locked.reason()));
        let wrong = AccountError::wrong_name_or_password();
        assert_eq!(
            (wrong.status(), wrong.word(), wrong.reason()),
            (401, "unauthorized", "Name or password is incorrect.")
        );
        assert_eq!((AccountError::Missing.status(), AccountError::Missing.reason()), (404, "missing"));
    }
}
