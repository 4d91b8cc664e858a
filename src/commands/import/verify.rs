//! Reads a database on both sides to its end and compares: every leaf, with body and attachments or by revision alone.
//!
//! Text and numbers of bodies are compared as JSON (the order of members does not count, `1e2` is `100.0`), attachments
//! by the MD5 of their plain bytes. CouchDB's digests of what it keeps gzipped say nothing about those, so these
//! attachments are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use settle_protocol::attachment::RunningMd5;

use super::compare::{Comparison, compare, difference};
use super::copy::{Job, WORKERS, is_servers_own};
use super::feed::{Found, Peek, Row, Wanted, bulk_get, page};
use super::progress::Progress;
use super::side::{Failure, Side, document_path, escaped, patiently};
use super::sorted::{Entry, Sorted, Sorter};
use crate::http::client::Request;

/// Documents in one `_bulk_get`.
const DOCUMENTS: usize = 100;
/// Differences that are listed.
pub(super) const MOST_DIFFERENCES: usize = 1_000;

/// How closely to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Depth {
    /// Every leaf with its body and its attachments: reads everything once more.
    Documents,
    /// The revisions of all leaves.
    Revisions,
    /// Nothing.
    No,
}

/// Compares both sides of a database. Accounts are a database to which the target may have added.
pub(super) async fn verify(job: &Job, depth: Depth, progress: &Progress) -> Result<Comparison, Failure> {
    let (source, target) = futures::try_join!(
        collect(&job.source, &job.database, depth, progress),
        collect(&job.target, &job.database, depth, progress),
    )?;
    compare(source, target, may_have_more(job), MOST_DIFFERENCES).map_err(here)
}

/// Reads the documents that differed again and keeps those that still do: somebody may have written meanwhile.
pub(super) async fn verify_again(job: &Job, depth: Depth, comparison: &mut Comparison) -> Result<(), Failure> {
    let ids: Vec<String> = comparison.differences.drain(..).map(|difference| difference.id).collect();
    for ids in ids.chunks(DOCUMENTS) {
        let mut sides = Vec::new();
        for side in [&job.source, &job.target] {
            let mut leaves: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
            for entry in patiently(async || entries(side, &job.database, ids, depth).await).await? {
                leaves.entry(entry.id.clone()).or_default().push(entry);
            }
            leaves.values_mut().for_each(|leaves| leaves.sort());
            sides.push(leaves);
        }
        for id in ids {
            let leaves = |side: usize| sides[side].get(id).map(Vec::as_slice).unwrap_or_default();
            comparison.differences.extend(difference(id, leaves(0), leaves(1), may_have_more(job)));
        }
    }
    Ok(())
}

fn may_have_more(job: &Job) -> bool {
    job.database == "_users"
}

fn here(error: std::io::Error) -> Failure {
    Failure::Here(format!("cannot sort in {}: {error}", std::env::temp_dir().display()))
}

/// All leaves of a side, in order.
async fn collect(side: &Arc<Side>, database: &str, depth: Depth, progress: &Progress) -> Result<Sorted, Failure> {
    let mut sorter = Sorter::new();
    let mut since = Value::Null;
    let mut read = 0;
    loop {
        let page = page(side, database, &since).await?;
        if page.rows.is_empty() {
            return sorter.finish().map_err(here);
        }
        read += page.rows.len() as u64;
        since = page.last;
        let rows: Vec<Row> = page.rows.into_iter().filter(|row| !is_servers_own(database, &row.id)).collect();
        if depth == Depth::Revisions {
            for row in rows {
                for revision in row.revisions {
                    let entry = Entry { id: row.id.clone(), revision, deleted: row.deleted, content: [0; 32] };
                    sorter.push(entry).map_err(here)?;
                }
            }
        } else {
            let ids: Vec<String> = rows.into_iter().map(|row| row.id).collect();
            let parts = ids.chunks(DOCUMENTS);
            let mut workers = futures::stream::iter(parts)
                .map(|ids| patiently(async move || entries(side, database, ids, depth).await))
                .buffer_unordered(WORKERS);
            while let Some(entries) = workers.try_next().await? {
                for entry in entries {
                    sorter.push(entry).map_err(here)?;
                }
            }
        }
        progress.compared(side.name, read);
    }
}

/// All leaves of these documents, once.
async fn entries(side: &Arc<Side>, database: &str, ids: &[String], depth: Depth) -> Result<Vec<Entry>, Failure> {
    let wanted: Vec<Wanted<'_>> = ids.iter().map(|id| Wanted { id, revision: None }).collect();
    let mut results = bulk_get(side, database, "?att_encoding_info=true", &wanted).await?;
    let mut entries = Vec::new();
    while let Some(text) = results.next().await? {
        let found: Found<'_> = serde_json::from_slice(&text).map_err(|error| results.strange(error.to_string()))?;
        for leaf in found.docs {
            match (leaf.ok, leaf.error) {
                (Some(document), _) => {
                    let peek = Peek::read(document).map_err(|error| results.strange(error.to_string()))?;
                    let content = match depth {
                        Depth::Documents => content(side, database, &peek, document).await?,
                        Depth::Revisions | Depth::No => [0; 32],
                    };
                    entries.push(Entry { id: peek.id, revision: peek.revision, deleted: peek.deleted, content });
                }
                (None, Some(error)) if !error.is_gone() => {
                    return Err(results.strange(format!("{}: {} {}", found.id, error.error, error.reason)));
                }
                _ => {}
            }
        }
    }
    results.rest()?;
    Ok(entries)
}

/// An attachment as a document tells of it.
#[derive(Deserialize)]
struct Stub {
    #[serde(default)]
    content_type: String,
    #[serde(default)]
    digest: String,
    encoding: Option<String>,
}

/// The hash of a leaf's body and attachments.
async fn content(side: &Arc<Side>, database: &str, peek: &Peek<'_>, document: &RawValue) -> Result<[u8; 32], Failure> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(canonical(document.get()).as_bytes());
    let Some(attachments) = peek.attachments() else { return Ok(hasher.finalize().into()) };
    let strange = |why: String| side.strange(&format!("POST /{database}/_bulk_get"), format!("{}: {why}", peek.id));
    let stubs: BTreeMap<String, Stub> =
        serde_json::from_str(attachments).map_err(|error| strange(error.to_string()))?;
    for (name, stub) in stubs {
        let digest = match stub.encoding {
            None => stub.digest,
            Some(_) => plain_digest(side, database, peek, &name).await?,
        };
        for text in [&name, &stub.content_type, &digest] {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
    }
    Ok(hasher.finalize().into())
}

/// A document's own members as text that is the same for the same JSON. Text that is nested too deeply to be understood
/// stays as it is.
fn canonical(document: &str) -> String {
    let Ok(mut members) = serde_json::from_str::<Map<String, Value>>(document) else { return document.to_owned() };
    for name in ["_id", "_rev", "_attachments", "_revisions"] {
        members.remove(name);
    }
    Value::Object(members).to_string()
}

/// The digest of an attachment's plain bytes, read from the server.
async fn plain_digest(side: &Arc<Side>, database: &str, peek: &Peek<'_>, name: &str) -> Result<String, Failure> {
    let path = format!("{}/{}?rev={}", document_path(database, &peek.id), escaped(name), escaped(&peek.revision));
    let request = Request { accept: "*/*", ..Request::json("GET", &path, None) };
    let mut answer = side.send(request).await?.successful().await?;
    let mut digest = RunningMd5::default();
    while let Some(data) = answer.next().await? {
        digest.update(&data);
    }
    Ok(format!("md5-{}", STANDARD.encode(digest.finish())))
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn the_same_json_is_the_same_text() {
        let text =
            canonical(r#"{"_id":"a","_rev":"1-a","b":1e2,"a":{"y":1,"x":"é"},"_attachments":{},"_deleted":true}"#);
        assert_eq!(text, canonical(r#"{"a":{"x":"\u00e9","y":1},"_deleted":true, "b":100.0,"_id":"a","_rev":"2-b"}"#));
        for other in [r#"{"b":100}"#, r#"{"b":"100.0"}"#, r#"{"b":100.0,"c":null}"#, "{}"] {
            assert_ne!(canonical(other), canonical(r#"{"b":1e2}"#), "{other}");
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(300), "}".repeat(300));
        assert_eq!(canonical(&deep), deep);
    }
}
