//! What the workloads have in common: databases, logins, and the closed loop of many connections.
//!
//! A *closed loop* keeps a fixed number of connections busy for a fixed time; each sends its next request when it has the
//! answer to the last. Work for one server is the same for every other.
//! Never retries: an answer that is no success ends the workload with an error that shows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::samples;
use crate::http::load::{Connection, LARGE_BUFFER, Target};

/// Documents in one `_bulk_docs` or `_bulk_get`.
pub const BATCH: u64 = 500;
/// No workload and no single wait takes longer than this.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// One connection that speaks JSON and insists on success.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    answer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub async fn open(target: &Target) -> anyhow::Result<Self> {
        let connection = Connection::open(target, LARGE_BUFFER).await;
        let connection = connection.with_context(|| format!("cannot reach {}", target.host()))?;
        Ok(Self { connection, answer: Vec::new() })
    }

    /// Sends a request and returns status and body, whatever the status is.
    pub async fn raw(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        let head = self.connection.exchange(method, path, body, &mut self.answer).await;
        let head = head.with_context(|| format!("{method} {path}"))?;
        Ok((head.status, &self.answer))
    }

    /// Sends a request and returns the body of a successful answer.
    pub async fn bytes(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<&[u8]> {
        let (status, answer) = self.raw(method, path, body).await?;
        ensure!((200..300).contains(&status), "{}", complaint(method, path, status, answer));
        Ok(answer)
    }

    /// Sends a request and returns the JSON of a successful answer.
    pub async fn json(&mut self, method: &str, path: &str, body: &[u8]) -> anyhow::Result<Value> {
        let answer = self.bytes(method, path, body).await?;
        serde_json::from_slice(answer).with_context(|| format!("the answer to {method} {path} is no JSON"))
    }

    /// Sends a GET and gives the body of a successful answer to `on_data` without keeping it.
    pub async fn stream(&mut self, path: &str, on_data: impl FnMut(&[u8])) -> anyhow::Result<()> {
        self.connection.send("GET", path, b"").await?;
        let head = self.connection.head().await?;
        ensure!(head.is_success(), "GET {path} was answered with status {}", head.status);
        Ok(self.connection.body(&head, on_data).await?)
    }
}

fn complaint(method: &str, path: &str, status: u16, answer: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&answer[..answer.len().min(300)]);
    format!("{method} {path} was answered with status {status}: {}", shown.trim())
}

/// Creates an empty database; one of the same name is deleted first.
pub async fn create_database(target: &Target, name: &str) -> anyhow::Result<()> {
    let mut client = Client::open(target).await?;
    delete_with(&mut client, name).await?;
    client.bytes("PUT", &format!("/{name}"), b"").await?;
    Ok(())
}

/// Deletes a database if there is one.
pub async fn delete_database(target: &Target, name: &str) -> anyhow::Result<()> {
    delete_with(&mut Client::open(target).await?, name).await
}

async fn delete_with(client: &mut Client, name: &str) -> anyhow::Result<()> {
    let path = format!("/{name}");
    let (status, answer) = client.raw("DELETE", &path, b"").await?;
    ensure!(status == 404 || (200..300).contains(&status), "{}", complaint("DELETE", &path, status, answer));
    Ok(())
}

/// Creates a database with the sample documents `0..documents`.
pub async fn create_filled_database(target: &Target, name: &str, documents: u64) -> anyhow::Result<()> {
    create_database(target, name).await?;
    write_bulk(target, name, 1, Arc::new(bulk_bodies(documents))).await?;
    Ok(())
}

/// `_bulk_docs` bodies with the sample documents `0..documents`, [`BATCH`] in each.
pub fn bulk_bodies(documents: u64) -> Vec<Vec<u8>> {
    let ranges = (0..documents).step_by(BATCH as usize).map(|first| first..documents.min(first + BATCH));
    ranges.map(|range| samples::bulk(range, true)).collect()
}

/// Posts the bodies to `_bulk_docs` over `clients` connections, and returns the time from first to last.
pub async fn write_bulk(
    target: &Target,
    name: &str,
    clients: usize,
    bodies: Arc<Vec<Vec<u8>>>,
) -> anyhow::Result<Duration> {
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(Client::open(target).await?);
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, mut client) in connected.into_iter().enumerate() {
        let (path, bodies) = (format!("/{name}/_bulk_docs"), Arc::clone(&bodies));
        tasks.spawn(async move {
            for body in bodies.iter().skip(index).step_by(clients) {
                let answer = client.bytes("POST", &path, body).await?;
                ensure!(!contains(answer, "\"error\":"), "a document was refused: {}", first_part(answer));
            }
            Ok(())
        });
    }
    finish(tasks).await?;
    Ok(began.elapsed())
}

/// Logs in with the target's own name and password and returns a target that uses the session's cookie.
pub async fn log_in(target: &Target) -> anyhow::Result<Target> {
    let Some((name, password)) = target.credentials() else { bail!("the address has no name and password") };
    let body = json!({"name": name, "password": password}).to_string();
    let mut connection = Connection::open(target, LARGE_BUFFER).await?;
    let mut answer = Vec::new();
    let head = connection.exchange("POST", "/_session", body.as_bytes(), &mut answer).await?;
    ensure!(head.is_success(), "{}", complaint("POST", "/_session", head.status, &answer));
    let cookie = head.cookie.context("the answer to POST /_session has no cookie")?;
    Ok(target.with_cookie(&cookie))
}

/// A request as the closed loop sends it.
#[derive(Debug, Default)]
pub struct Request {
    /// HTTP method.
    pub method: &'static str,
    /// Path with query, percent-encoded.
    pub path: String,
    /// Body; ignored for GET.
    pub body: Vec<u8>,
}

/// Makes request number n, and looks at the first answer of each connection.
pub trait Load: Send + Sync + 'static {
    /// Fills in the request; `number` is different in each call.
    fn request(&self, number: u64, request: &mut Request);
    /// Whether this is the answer that was asked for.
    fn accepts(&self, answer: &[u8]) -> bool;
}

/// What a closed loop achieved.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Requests per second.
    pub rate: f64,
    /// Median time from request to answer, in milliseconds.
    pub median: f64,
    /// The time that one request in a hundred exceeds, in milliseconds.
    pub slowest_hundredth: f64,
}

impl std::fmt::Display for Pace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "median {:.2} ms, p99 {:.2} ms", self.median, self.slowest_hundredth)
    }
}

/// Keeps `connections` connections busy with `load` for `duration`.
pub async fn closed_loop(
    target: &Target,
    connections: u64,
    duration: Duration,
    load: Arc<impl Load>,
    check: bool,
) -> anyhow::Result<Pace> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::open(target).await?);
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, mut client) in (0..).zip(clients) {
        let load = Arc::clone(&load);
        tasks.spawn(async move {
            let (mut request, mut delays) = (Request::default(), Vec::new());
            for number in (number..).step_by(connections as usize) {
                load.request(number, &mut request);
                let sent = Instant::now();
                let answer = client.bytes(request.method, &request.path, &request.body).await?;
                delays.push(sent.elapsed());
                ensure!(!check || delays.len() > 1 || load.accepts(answer), "unexpected: {}", first_part(answer));
                if began.elapsed() >= duration {
                    break;
                }
            }
            Ok(delays)
        });
    }
    let delays: Vec<Duration> = finish(tasks).await?.into_iter().flatten().collect();
    let rate = delays.len() as f64 / began.elapsed().as_secs_f64();
    let sorted = sorted_milliseconds(delays);
    Ok(Pace { rate, median: quantile(&sorted, 0.5), slowest_hundredth: quantile(&sorted, 0.99) })
}

/// Waits for all tasks; the first error ends the others.
pub async fn finish<T: 'static>(mut tasks: JoinSet<anyhow::Result<T>>) -> anyhow::Result<Vec<T>> {
    let mut results = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        results.push(ended.context("a task of the bench failed")??);
    }
    Ok(results)
}

/// Durations as milliseconds, shortest first.
pub fn sorted_milliseconds(delays: Vec<Duration>) -> Vec<f64> {
    let mut sorted: Vec<f64> = delays.iter().map(|delay| delay.as_secs_f64() * 1000.0).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The value below which the share `part` (0 to 1) of the sorted values lies; 0 when there are none.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let index = (part * sorted.len() as f64) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Whether `needle` occurs in an answer. Goes through `str`, whose search is vectorised: answers are long.
pub fn contains(answer: &[u8], needle: &str) -> bool {
    std::str::from_utf8(answer).is_ok_and(|text| text.contains(needle))
}

/// The beginning of an answer, for error messages.
pub fn first_part(answer: &[u8]) -> String {
    String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{BATCH, Load, Request, bulk_bodies, closed_loop, quantile, sorted_milliseconds};
    use crate::http::load::{Answer, EmptyServer};
    use std::sync::Arc;
    use std::time::Duration;

    struct Wants(&'static [u8]);

    impl Load for Wants {
        fn request(&self, number: u64, request: &mut Request) {
            *request = Request { method: "PUT", path: format!("/database/{number}"), body: vec![b' '; 500] };
        }
        fn accepts(&self, answer: &[u8]) -> bool {
            answer == self.0
        }
    }

    #[tokio::test]
    async fn a_closed_loop_counts_answers_and_checks_them() {
        let server = EmptyServer::start(Answer::AtOnce("{}"), 1).unwrap();
        let short = Duration::from_millis(20);
        let pace = closed_loop(&server.target(), 4, short, Arc::new(Wants(b"{}")), true).await.unwrap();
        assert!(pace.rate > 0.0 && pace.median > 0.0 && pace.slowest_hundredth >= pace.median, "{pace:?}");
        let error = closed_loop(&server.target(), 4, short, Arc::new(Wants(b"[]")), true).await.unwrap_err();
        assert_eq!(error.to_string(), "unexpected: {}");
    }

    #[test]
    fn batches_cover_all_documents_once() {
        let bodies = bulk_bodies(2 * BATCH + 1);
        let ids = |body: &Vec<u8>| String::from_utf8_lossy(body).matches("{\"_id\":\"").count();
        // Each document names its contact and the contact's parent by `_id` too.
        assert_eq!(bodies.iter().map(ids).collect::<Vec<_>>(), [1_500, 1_500, 3]);
    }

    #[test]
    fn quantiles_of_known_values() {
        let sorted = sorted_milliseconds((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 0.99), quantile(&sorted, 1.0)), (51.0, 100.0, 100.0));
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
