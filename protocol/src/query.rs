//! Query parameters: names, JSON values, booleans and numbers as CouchDB reads them.
//!
//! A query is a list of decoded pairs; the last of two with one name wins. Nothing here decodes percent signs.

use crate::error::{Error, ErrorKind, Result};

/// Decoded query parameters in the order sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// A query from decoded pairs.
    #[must_use]
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self { pairs }
    }

    /// All pairs in order.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter whose name may be written in any case (`_changes`, §3.2).
    #[must_use]
    pub fn get_any_case(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// `true` exactly when the value is `true`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// A list of revisions in JSON (`open_revs`, `atts_since`).
    ///
    /// # Errors
    /// `400` when it is no JSON list of revision ids.
    pub fn revisions(&self, name: &str) -> Result<Option<Vec<crate::Revision>>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let value: serde_json::Value = serde_json::from_str(text).map_err(|_| Error::invalid_json())?;
        revision_list(&value).map(Some)
    }
}

/// A JSON array of revision ids.
///
/// # Errors
/// `400 bad_request "Invalid list of revisions"` or `"Invalid rev format"`.
pub fn revision_list(value: &serde_json::Value) -> Result<Vec<crate::Revision>> {
    let list = value.as_array().ok_or_else(|| Error::bad_request("Invalid list of revisions"))?;
    list.iter().map(|rev| crate::Revision::parse(rev.as_str().unwrap_or_default())).collect()
}

/// A boolean of a view-like query.
///
/// # Errors
/// `400 query_parse_error`.
pub fn view_bool(text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(query_error(format!("Invalid boolean parameter: \"{text}\""))),
    }
}

/// A count of a view-like query.
///
/// # Errors
/// `400 query_parse_error`.
pub fn view_count(text: &str) -> Result<u64> {
    match text.parse::<i64>() {
        Ok(number) => {
            u64::try_from(number).map_err(|_| query_error(format!("Invalid value for positive integer: \"{text}\"")))
        }
        Err(_) => Err(query_error(format!("Invalid value for integer: \"{text}\""))),
    }
}

/// `400 query_parse_error`.
pub fn query_error(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::QueryParseError, reason)
}
