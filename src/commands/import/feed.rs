//! What both copying and verifying read: pages of `_changes`, and documents by `_bulk_get`.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::side::{Failure, Results, Side, escaped};
use crate::http::client::Request;

/// Rows in a page of `_changes`.
const PAGE_ROWS: usize = 1_000;

/// A row of `_changes?style=all_docs`.
#[derive(Debug)]
pub(super) struct Row {
    /// The document.
    pub(super) id: String,
    /// All its leaves.
    pub(super) revisions: Vec<String>,
    /// All its leaves are deletions.
    pub(super) deleted: bool,
}

/// A page of `_changes`.
#[derive(Debug)]
pub(super) struct Page {
    /// Its rows; none at the end of the feed.
    pub(super) rows: Vec<Row>,
    /// The token to go on from.
    pub(super) last: Value,
    /// About how many rows follow.
    pub(super) pending: Option<u64>,
}

#[derive(Deserialize)]
struct RawRow {
    id: String,
    changes: Vec<RawChange>,
    #[serde(default)]
    deleted: bool,
}

#[derive(Deserialize)]
struct RawChange {
    rev: String,
}

/// The page after a token; `Null` begins at the beginning.
pub(super) async fn page(side: &Arc<Side>, database: &str, since: &Value) -> Result<Page, Failure> {
    let since = match since {
        Value::Null => "0".to_owned(),
        Value::String(token) => token.clone(),
        other => other.to_string(),
    };
    // One token for each page is enough: making them costs a cluster more than the rows do.
    let path = format!(
        "/{}/_changes?style=all_docs&limit={PAGE_ROWS}&seq_interval={PAGE_ROWS}&since={}",
        escaped(database),
        escaped(&since)
    );
    super::side::patiently(async || {
        let answer = side.send(Request::json("GET", &path, None)).await?;
        let mut results = answer.successful().await?.results();
        let mut rows = Vec::new();
        while let Some(text) = results.next().await? {
            let row: RawRow = serde_json::from_slice(&text).map_err(|error| results.strange(error.to_string()))?;
            let revisions = row.changes.into_iter().map(|change| change.rev).collect();
            rows.push(Row { id: row.id, revisions, deleted: row.deleted });
        }
        let mut rest = results.rest()?;
        let last = rest["last_seq"].take();
        if last.is_null() {
            return Err(results.strange("there is no `last_seq`"));
        }
        Ok(Page { rows, last, pending: rest["pending"].as_u64() })
    })
    .await
}

/// What is asked of `_bulk_get`: a leaf, or all leaves of a document.
pub(super) struct Wanted<'a> {
    pub(super) id: &'a str,
    pub(super) revision: Option<&'a str>,
}

/// Asks for documents, once. `query` begins with `?`.
pub(super) async fn bulk_get(
    side: &Arc<Side>,
    database: &str,
    query: &str,
    wanted: &[Wanted<'_>],
) -> Result<Results, Failure> {
    let docs: Vec<Value> = wanted
        .iter()
        .map(|wanted| match wanted.revision {
            Some(revision) => json!({"id": wanted.id, "rev": revision}),
            None => json!({"id": wanted.id}),
        })
        .collect();
    let body = Bytes::from(json!({"docs": docs}).to_string());
    let path = format!("/{}/_bulk_get{query}", escaped(database));
    let answer = side.send(Request::json("POST", &path, Some(body))).await?;
    Ok(answer.successful().await?.results())
}

/// An element of `_bulk_get`'s results.
#[derive(Deserialize)]
pub(super) struct Found<'a> {
    /// The document asked for.
    pub(super) id: String,
    #[serde(borrow)]
    pub(super) docs: Vec<Leaf<'a>>,
}

/// A leaf, or why there is none.
#[derive(Deserialize)]
pub(super) struct Leaf<'a> {
    #[serde(borrow)]
    pub(super) ok: Option<&'a RawValue>,
    pub(super) error: Option<LeafError>,
}

/// Why there is no leaf.
#[derive(Deserialize)]
pub(super) struct LeafError {
    #[serde(default)]
    pub(super) rev: Value,
    #[serde(default)]
    pub(super) error: String,
    #[serde(default)]
    pub(super) reason: String,
}

impl LeafError {
    /// It went away between the feed and the question: purged.
    pub(super) fn is_gone(&self) -> bool {
        self.error == "not_found"
    }
}

/// The members of a document that an import looks at.
#[derive(Deserialize)]
pub(super) struct Peek<'a> {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(rename = "_rev")]
    pub(super) revision: String,
    #[serde(rename = "_deleted", default)]
    pub(super) deleted: bool,
    #[serde(rename = "_attachments", borrow)]
    attachments: Option<&'a RawValue>,
}

impl<'a> Peek<'a> {
    pub(super) fn read(document: &'a RawValue) -> Result<Self, serde_json::Error> {
        serde_json::from_str(document.get())
    }

    /// What the document says about its attachments; `None` if it has none.
    pub(super) fn attachments(&self) -> Option<&'a str> {
        let text = self.attachments?.get();
        (!text.trim_matches(['{', '}', ' ', '\t', '\r', '\n']).is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::{Found, Peek};

    #[test]
    fn a_document_is_looked_at_without_building_it() {
        let deep = format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000));
        let text =
            format!(r#"{{"_id":"a","_rev":"2-b","_deleted":true,"x":{deep},"_attachments":{{"f":{{"stub":true}}}}}}"#);
        let document = RawValue::from_string(text).unwrap();
        let peek = Peek::read(&document).unwrap();
        assert_eq!((peek.id.as_str(), peek.revision.as_str(), peek.deleted), ("a", "2-b", true));
        assert_eq!(peek.attachments(), Some(r#"{"f":{"stub":true}}"#));
        let document = RawValue::from_string(r#"{"_id":"a","_rev":"1-b","_attachments":{ }}"#.into()).unwrap();
        assert_eq!(Peek::read(&document).unwrap().attachments(), None);
    }

    #[test]
    fn rows_of_couchdb_are_understood() {
        let text = r#"{"id":"x","docs":[{"ok":{"_id":"x","_rev":"2-B"}},
            {"error":{"rev":"9-D","reason":"missing","id":"x","error":"not_found"}},
            {"error":{"rev":null,"reason":"no","id":null,"error":"bad_request"}}]}"#;
        let found: Found<'_> = serde_json::from_str(text).unwrap();
        assert_eq!((found.id.as_str(), found.docs.len()), ("x", 3));
        assert!(found.docs[0].ok.is_some() && found.docs[0].error.is_none());
        let gone = |at: usize| found.docs[at].error.as_ref().unwrap().is_gone();
        assert!(gone(1) && !gone(2));
    }
}
