//! Reading: one document by id, the whole feed, and documents in bulk.
//!
//! Every workload here first fills a database with the sample documents; the clock starts after that. Ids are asked for in
//! random order, answers are read to the end.
//! Never keeps a feed in memory: rows are counted as they arrive, and the count must be right.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use serde_json::json;

use super::Stage;
use super::client::{self, BATCH, Client, Load, Request, closed_loop, contains};
use super::raw_limits::{StorageLimits, http_limit};
use super::report::Figure;
use super::samples::{self, mixed};

/// Connections of the GET workloads.
const CONNECTIONS: u64 = 32;

struct Gets {
    database: &'static str,
    documents: u64,
}

impl Load for Gets {
    fn request(&self, number: u64, request: &mut Request) {
        request.method = "GET";
        request.path = format!("/{}/{}", self.database, samples::id(mixed(number) % self.documents));
    }

    fn accepts(&self, answer: &[u8]) -> bool {
        contains(answer, "\"_rev\":\"1-") && contains(answer, "\"patient_name\"")
    }
}

/// GET of random documents over 32 connections, with Basic credentials or a session cookie.
pub async fn single(stage: &Stage<'_>, name: &'static str, with_cookie: bool) -> anyhow::Result<Vec<Figure>> {
    client::create_filled_database(&stage.server.target, stage.database, stage.scale.documents).await?;
    let load = Arc::new(Gets { database: stage.database, documents: stage.scale.documents });
    let basic = &stage.server.target;
    let target = if with_cookie { client::log_in(basic).await? } else { basic.clone() };
    let pace = closed_loop(&target, CONNECTIONS, stage.scale.duration, Arc::clone(&load), true).await?;
    let raw = match stage.limits {
        Some(_) => Some(http_limit(CONNECTIONS, stage.scale.duration / 2, load).await?),
        None => None,
    };
    Ok(vec![Figure::new(name, pace.rate, "req/s", pace.to_string()).with_raw(raw)])
}

/// The whole feed from `since=0`, read to its end again and again, over one connection.
pub async fn changes(stage: &Stage<'_>, name: &'static str, with_documents: bool) -> anyhow::Result<Vec<Figure>> {
    let documents = stage.scale.documents;
    client::create_filled_database(&stage.server.target, stage.database, documents).await?;
    let query = if with_documents { "&include_docs=true" } else { "" };
    let path = format!("/{}/_changes?since=0{query}", stage.database);
    let mut client = Client::open(&stage.server.target).await?;
    let (mut readings, mut bytes, began) = (0, 0, Instant::now());
    while readings == 0 || began.elapsed() < stage.scale.duration {
        let mut rows = RowCounter::default();
        client.stream(&path, |data| rows.see(data)).await?;
        ensure!(rows.count == documents, "the feed has {} rows instead of {documents}", rows.count);
        readings += 1;
        bytes += rows.bytes;
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = (readings * documents) as f64 / seconds;
    let note = format!("{readings} times {documents} rows, {:.0} MB/s", bytes as f64 / seconds / 1e6);
    let limit = if with_documents { StorageLimits::feed_with_documents } else { StorageLimits::feed };
    Ok(vec![Figure::new(name, rate, "rows/s", note).with_raw(stage.limits.map(limit))])
}

/// Counts the rows of a feed in pieces of any size: each row begins a line.
#[derive(Default)]
struct RowCounter {
    count: u64,
    bytes: u64,
    after_newline: bool,
}

impl RowCounter {
    fn see(&mut self, data: &[u8]) {
        let (Some(first), Some(last)) = (data.first(), data.last()) else { return };
        let inside = data.iter().zip(&data[1..]).filter(|pair| matches!(pair, (b'\n', b'{'))).count();
        self.count += inside as u64 + u64::from(self.after_newline && *first == b'{');
        self.bytes += data.len() as u64;
        self.after_newline = *last == b'\n';
    }
}

struct BulkGets {
    database: &'static str,
    bodies: Vec<Vec<u8>>,
}

impl BulkGets {
    /// Different bodies that ask for random documents; enough of them that no cache of answers would help.
    const BODIES: u64 = 100;

    fn new(database: &'static str, documents: u64) -> Self {
        let entry = |number| json!({"id": samples::id(mixed(number) % documents)});
        let body = |index: u64| {
            let entries: Vec<_> = (index * BATCH..(index + 1) * BATCH).map(entry).collect();
            json!({"docs": entries}).to_string().into_bytes()
        };
        Self { database, bodies: (0..Self::BODIES).map(body).collect() }
    }
}

impl Load for BulkGets {
    fn request(&self, number: u64, request: &mut Request) {
        request.method = "POST";
        request.path = format!("/{}/_bulk_get", self.database);
        request.body.clone_from(&self.bodies[(number % Self::BODIES) as usize]);
    }

    fn accepts(&self, answer: &[u8]) -> bool {
        let found = |needle: &[u8]| answer.windows(needle.len()).filter(|window| *window == needle).count() as u64;
        found(b"\"ok\":{") == BATCH && found(b"\"patient_name\"") == BATCH
    }
}

/// `_bulk_get` of 500 random ids per request, over one and over four connections.
pub async fn bulk_get(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let target = &stage.server.target;
    client::create_filled_database(target, stage.database, stage.scale.documents).await?;
    let load = Arc::new(BulkGets::new(stage.database, stage.scale.documents));
    let mut figures = Vec::new();
    for (name, connections) in [("bulk-get-1", 1), ("bulk-get-4", 4)] {
        let pace = closed_loop(target, connections, stage.scale.duration, Arc::clone(&load), true).await?;
        let figure = Figure::new(name, pace.rate * BATCH as f64, "docs/s", pace.to_string());
        figures.push(figure.with_raw(stage.limits.map(StorageLimits::bulk_reads)));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::{BATCH, BulkGets, Load, Request, RowCounter};

    #[test]
    fn rows_are_counted_wherever_the_pieces_end() {
        let feed = b"{\"results\":[\n{\"seq\":1},\r\n{\"seq\":2},\n{\"seq\":3}\n],\n\"last_seq\":3,\"pending\":0}\n\n";
        for size in 1..=feed.len() {
            let mut counter = RowCounter::default();
            feed.chunks(size).for_each(|piece| counter.see(piece));
            assert_eq!((counter.count, counter.bytes), (3, feed.len() as u64), "pieces of {size}");
        }
        let mut counter = RowCounter::default();
        counter.see(b"{\"results\":[\n\n],\n\"last_seq\":0,\"pending\":0}\n");
        assert_eq!(counter.count, 0);
    }

    #[test]
    fn bulk_gets_ask_for_whole_batches_and_count_answers() {
        let load = BulkGets::new("database", 1_000);
        let mut request = Request::default();
        load.request(105, &mut request);
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["docs"].as_array().unwrap().len() as u64, BATCH);
        let good = "{\"ok\":{\"patient_name\":1}}".repeat(BATCH as usize);
        assert!(load.accepts(good.as_bytes()) && !load.accepts(&good.as_bytes()[1..good.len() - 30]));
    }
}
