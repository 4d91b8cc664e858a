//! Options of `_all_docs`, `_design_docs`, `_local_docs` and their `queries`.
//!
//! Sources: protocol page §1.2, recordings `all-docs`. The parameters are a view's; ids sort by bytes.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::query::{Query, query_error, view_bool, view_count};

/// What a listing shows. Keys are JSON values; only strings can name a document.
#[derive(Debug, Clone, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "a view's parameters are independent switches")]
pub struct ListingOptions {
    /// `keys`: these, in this order.
    pub keys: Option<Vec<Value>>,
    /// First key.
    pub start: Option<Value>,
    /// Last key.
    pub end: Option<Value>,
    /// `inclusive_end=false`: stop before `end`.
    pub exclusive_end: bool,
    /// From the last to the first.
    pub descending: bool,
    /// Rows at most.
    pub limit: Option<u64>,
    /// Rows passed over.
    pub skip: u64,
    /// Adds `doc`.
    pub include_docs: bool,
    /// With `include_docs`, adds `_conflicts`.
    pub conflicts: bool,
    /// With `include_docs`, adds the bytes of attachments.
    pub attachments: bool,
    /// Adds `update_seq`.
    pub update_seq: bool,
}

impl ListingOptions {
    /// Reads the query (values are JSON text).
    ///
    /// # Errors
    /// `400 query_parse_error` or `bad_request`, with CouchDB's reasons.
    pub fn from_query(query: &Query) -> Result<Self> {
        let mut options = Self::default();
        for (name, text) in query.pairs() {
            options.set(name, &Given::Text(text))?;
        }
        Ok(options)
    }

    /// Adds what a JSON body says (POST, and each entry of `queries`); the body wins over the query.
    ///
    /// # Errors
    /// As [`ListingOptions::from_query`].
    pub fn with_body(mut self, body: &Map<String, Value>) -> Result<Self> {
        for (name, value) in body {
            self.set(name, &Given::Json(value))?;
        }
        Ok(self)
    }

    fn set(&mut self, name: &str, given: &Given<'_>) -> Result<()> {
        match name {
            "key" => {
                let key = given.json()?;
                self.start = Some(key.clone());
                self.end = Some(key);
            }
            "keys" => self.keys = Some(given.list()?),
            "startkey" | "start_key" => self.start = Some(given.json()?),
            "endkey" | "end_key" => self.end = Some(given.json()?),
            "inclusive_end" => self.exclusive_end = !given.bool()?,
            "descending" => self.descending = given.bool()?,
            "limit" => self.limit = Some(given.count()?),
            "skip" => self.skip = given.count()?,
            "include_docs" => self.include_docs = given.bool()?,
            "conflicts" => self.conflicts = given.bool()?,
            "attachments" => self.attachments = given.bool()?,
            "update_seq" => self.update_seq = given.bool()?,
            _ => {}
        }
        Ok(())
    }
}

/// A parameter, from the query or from a body.
enum Given<'a> {
    Text(&'a str),
    Json(&'a Value),
}

impl Given<'_> {
    fn json(&self) -> Result<Value> {
        match self {
            Self::Text(text) => serde_json::from_str(text).map_err(|_| Error::invalid_json()),
            Self::Json(value) => Ok((*value).clone()),
        }
    }

    fn list(&self) -> Result<Vec<Value>> {
        match (self.json()?, self) {
            (Value::Array(list), _) => Ok(list),
            (_, Self::Text(_)) => Err(Error::bad_request("`keys` parameter must be an array.")),
            (_, Self::Json(_)) => Err(Error::bad_request("`keys` body member must be an array.")),
        }
    }

    fn bool(&self) -> Result<bool> {
        match self {
            Self::Text(text) => view_bool(text),
            Self::Json(Value::Bool(value)) => Ok(*value),
            Self::Json(Value::String(text)) => view_bool(text),
            Self::Json(other) => Err(query_error(format!("Invalid boolean parameter: {other}"))),
        }
    }

    fn count(&self) -> Result<u64> {
        match self {
            Self::Text(text) => view_count(text),
            Self::Json(Value::String(text)) => view_count(text),
            Self::Json(other) => view_count(&other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn query(pairs: &[(&str, &str)]) -> Result<ListingOptions> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ListingOptions::from_query(&Query::new(pairs))
    }

    #[test]
    fn the_body_wins_over_the_query() {
        let options = query(&[("startkey", "\"a\""), ("limit", "3"), ("reduce", "x")]).expect("valid");
        let body = json!({"start_key": "b", "include_docs": true});
        let options = options.with_body(body.as_object().expect("object")).expect("valid");
        assert_eq!((options.start, options.limit, options.include_docs), (Some(json!("b")), Some(3), true));
    }

    #[test]
    fn refusals() {
        for (name, value, word) in [
            ("limit", "-1", "query_parse_error"),
            ("skip", "x", "query_parse_error"),
            ("descending", "x", "query_parse_error"),
            ("startkey", "b", "bad_request"),
            ("keys", "\"a\"", "bad_request"),
        ] {
            assert_eq!(query(&[(name, value)]).map_err(|e| e.word()).err(), Some(word), "{name}={value}");
        }
    }
}
