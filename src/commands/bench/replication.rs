//! Replication as PouchDB does it: a first pull and a first push of one device, over one connection.
//!
//! The requests and their order are PouchDB 9's (protocol page §4.1 and §4.2): batches of 100, a checkpoint read and
//! written after each. What PouchDB spends on its own store is left out, so this is the server's share and the wire's.
//! Never several requests at once, because PouchDB waits too.

use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::client::{self, Client, contains, first_part};
use super::raw_limits::StorageLimits;
use super::report::Figure;
use super::{Stage, samples};

/// PouchDB's `batch_size`.
const POUCHDB_BATCH: u64 = 100;

/// A first pull: feed pages, `_bulk_get` with history, checkpoints.
pub async fn pull(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let (database, documents) = (stage.database, stage.scale.pulled);
    client::create_filled_database(&stage.server.target, database, documents).await?;
    let mut client = Client::open(&stage.server.target).await?;
    let began = Instant::now();
    greet(&mut client, database).await?;
    let mut checkpoint = Checkpoint::new(database, "pull");
    checkpoint.read(&mut client).await?;
    let (mut since, mut received) = (json!(0), 0);
    loop {
        let since_text = since.as_str().map_or_else(|| since.to_string(), str::to_owned);
        let path = format!("/{database}/_changes?style=all_docs&since={since_text}&limit={POUCHDB_BATCH}");
        let page = client.json("GET", &path, b"").await?;
        let rows = page["results"].as_array().context("a feed page has no results")?;
        if rows.is_empty() {
            break;
        }
        let wanted: Vec<_> = rows.iter().flat_map(revisions_of_row).collect();
        let path = format!("/{database}/_bulk_get?revs=true&latest=true");
        let body = json!({"docs": wanted}).to_string();
        let answer = client.bytes("POST", &path, body.as_bytes()).await?;
        ensure!(!contains(answer, "\"error\":{"), "a row of _bulk_get is an error: {}", first_part(answer));
        received += rows.len() as u64;
        since = page["last_seq"].clone();
        checkpoint.write(&mut client, &since).await?;
    }
    ensure!(received == documents, "{received} documents came instead of {documents}");
    let seconds = began.elapsed().as_secs_f64();
    let note = format!("{documents} documents in {seconds:.2} s");
    let raw = stage.limits.map(StorageLimits::feed_with_documents);
    Ok(vec![Figure::new("pull", documents as f64 / seconds, "docs/s", note).with_raw(raw)])
}

fn revisions_of_row(row: &Value) -> Vec<Value> {
    let changes = row["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    changes.iter().map(|change| json!({"id": row["id"], "rev": change["rev"]})).collect()
}

/// A first push: `_revs_diff`, `_bulk_docs` with history, checkpoints.
pub async fn push(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let (database, documents) = (stage.database, stage.scale.pushed);
    client::create_database(&stage.server.target, database).await?;
    let ranges = (0..documents).step_by(POUCHDB_BATCH as usize).map(|first| first..first + POUCHDB_BATCH);
    let batches: Vec<_> = ranges.map(|range| (revs_diff(range.clone()), samples::bulk(range, false))).collect();
    let mut client = Client::open(&stage.server.target).await?;
    let began = Instant::now();
    greet(&mut client, database).await?;
    let mut checkpoint = Checkpoint::new(database, "push");
    checkpoint.read(&mut client).await?;
    for (index, (question, write)) in batches.iter().enumerate() {
        let missing = client.json("POST", &format!("/{database}/_revs_diff"), question).await?;
        let missing = missing.as_object().map_or(0, serde_json::Map::len);
        ensure!(missing as u64 == POUCHDB_BATCH, "{missing} documents are missing instead of {POUCHDB_BATCH}");
        let answer = client.bytes("POST", &format!("/{database}/_bulk_docs"), write).await?;
        ensure!(answer.trim_ascii() == b"[]", "documents were refused: {}", first_part(answer));
        checkpoint.write(&mut client, &json!(index)).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let info = client.json("GET", &format!("/{database}"), b"").await?;
    ensure!(info["doc_count"] == documents, "the database has {} documents", info["doc_count"]);
    let note = format!("{documents} documents in {seconds:.2} s");
    let raw = stage.limits.map(StorageLimits::bulk_writes);
    Ok(vec![Figure::new("push", documents as f64 / seconds, "docs/s", note).with_raw(raw)])
}

fn revs_diff(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let entry = |number| (samples::id(number), json!([format!("1-{}", samples::revision_hash(number))]));
    Value::Object(numbers.map(entry).collect()).to_string().into_bytes()
}

/// What PouchDB asks before anything else.
async fn greet(client: &mut Client, database: &str) -> anyhow::Result<()> {
    client.json("GET", &format!("/{database}/"), b"").await?;
    client.json("GET", "/", b"").await?;
    Ok(())
}

/// A checkpoint document on the server.
struct Checkpoint {
    path: String,
    id: String,
    number: u64,
}

impl Checkpoint {
    fn new(database: &str, session: &str) -> Self {
        let id = format!("_local/settle-bench-{session}");
        Self { path: format!("/{database}/{id}"), id, number: 0 }
    }

    /// Reads the document; absent is as good as present.
    async fn read(&self, client: &mut Client) -> anyhow::Result<Option<Value>> {
        let (status, answer) = client.raw("GET", &self.path, b"").await?;
        ensure!(matches!(status, 200 | 404), "GET {} was answered with status {status}", self.path);
        Ok(if status == 200 { Some(serde_json::from_slice(answer)?) } else { None })
    }

    /// Reads the document and writes it with the new position, as PouchDB does after each batch.
    async fn write(&mut self, client: &mut Client, position: &Value) -> anyhow::Result<()> {
        let stored = self.read(client).await?;
        self.number += 1;
        let session = format!("A-{}", self.number);
        let mut document = json!({
            "_id": self.id, "session_id": session, "last_seq": position, "replicator": "pouchdb", "version": 1,
            "history": [{"last_seq": position, "session_id": session}],
        });
        if let Some(stored) = stored {
            document["_rev"] = stored["_rev"].clone();
        }
        client.bytes("PUT", &self.path, document.to_string().as_bytes()).await?;
        Ok(())
    }
}
