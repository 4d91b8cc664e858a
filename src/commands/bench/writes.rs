//! Writing: documents in bulk, and one by one.
//!
//! Bulk bodies are made before the clock starts; single documents are made while it runs, by the same code for the server
//! and for its raw limit.
//! Never writes a document twice: an update costs more than the first version and is another workload.

use std::sync::Arc;

use super::client::{self, Load, Request, closed_loop, contains};
use super::raw_limits::{StorageLimits, http_limit};
use super::report::Figure;
use super::{Stage, samples};

/// `_bulk_docs` of 500 documents each over `clients` connections.
pub async fn bulk(stage: &Stage<'_>, name: &'static str, clients: usize) -> anyhow::Result<Vec<Figure>> {
    let target = &stage.server.target;
    client::create_database(target, stage.database).await?;
    let bodies = Arc::new(client::bulk_bodies(stage.scale.documents));
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    let elapsed = client::write_bulk(target, stage.database, clients, bodies).await?.as_secs_f64();
    let rate = stage.scale.documents as f64 / elapsed;
    let note = format!("{} documents, {:.1} MB/s", stage.scale.documents, bytes as f64 / elapsed / 1e6);
    Ok(vec![Figure::new(name, rate, "docs/s", note).with_raw(stage.limits.map(StorageLimits::bulk_writes))])
}

struct Puts {
    database: &'static str,
}

impl Load for Puts {
    fn request(&self, number: u64, request: &mut Request) {
        request.method = "PUT";
        request.path = format!("/{}/{}", self.database, samples::id(number));
        request.body = samples::body(number).into_bytes();
    }

    fn accepts(&self, answer: &[u8]) -> bool {
        contains(answer, "\"ok\":true")
    }
}

/// PUT of one new document per request over `connections` connections.
pub async fn single(stage: &Stage<'_>, name: &'static str, connections: u64) -> anyhow::Result<Vec<Figure>> {
    let target = &stage.server.target;
    client::create_database(target, stage.database).await?;
    let load = Arc::new(Puts { database: stage.database });
    let pace = closed_loop(target, connections, stage.scale.duration, Arc::clone(&load), true).await?;
    let raw = match stage.limits {
        Some(_) => Some(http_limit(connections, stage.scale.duration / 2, load).await?),
        None => None,
    };
    Ok(vec![Figure::new(name, pace.rate, "req/s", pace.to_string()).with_raw(raw)])
}
