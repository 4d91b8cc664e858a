//! Ten thousand phones that wait: what they cost in memory, and how soon they hear of a write.
//!
//! Each connection holds `_changes?feed=longpoll`. They are opened a few at a time; when the server has answered all of
//! them with a head, its memory is read. Then one more phone is woken by itself, some times, and at last one document is
//! written that wakes all; it is noted when each answer was complete. The delays include this client's own share, because
//! it runs beside the server: see the raw limit, and `http/load/waiting.rs` for how little it does.
//! Never raises the limit of open files: with fewer allowed it opens fewer and says so.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Stage;
use super::client::{self, Client, quantile, sorted_milliseconds};
use super::raw_limits::{RawLimit, empty_server};
use super::report::Figure;
use super::samples;
use crate::http::load::{Answer, Connection, Head, SMALL_BUFFER, Target, Waiting};

/// Connections that are being opened at the same time.
const OPENING: usize = 64;
/// Open files that are needed for anything but waiting connections.
const RESERVED_FILES: u64 = 200;
/// Time for the server to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(1);
/// A database in which nobody waits but the one phone that is woken.
const SECOND_DATABASE: &str = "settle_bench_second";
/// How often that phone is woken.
const SINGLE_WAKES: usize = 50;
/// The longest a connection may take to be opened and to get the head of its answer.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// The longest an answer may take after the write.
const WAKE_LIMIT: Duration = Duration::from_secs(60);

/// Opens the connections, reads memory, wakes them all with one write.
pub async fn measure(stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    let (wanted, allowed) = (stage.scale.longpolls, open_files().unwrap_or(1_024).saturating_sub(RESERVED_FILES));
    let count = wanted.min(allowed);
    ensure!(count > 0, "the limit of open files is too low for any connection: raise `ulimit -n`");
    client::create_filled_database(&stage.server.target, stage.database, 100).await?;
    tokio::time::sleep(REST).await;
    let before = stage.server.memory();
    let began = Instant::now();
    let waiting = open_all(&stage.server.target, stage.database, count).await?;
    let opening = began.elapsed().as_secs_f64();
    tokio::time::sleep(REST).await;
    let after = stage.server.memory();
    let single = wake_one_by_one(&stage.server.target).await?;
    let delays = wake(&stage.server.target, stage.database, waiting).await?;

    let mut note = format!("{count} connections opened in {opening:.1} s");
    if count < wanted {
        note.push_str(&format!(" instead of {wanted}: `ulimit -n` allows no more"));
    }
    let mut figures = Vec::new();
    if let (Some(before), Some(after)) = (before, after) {
        let added = after - before;
        let per_connection = added * 1024.0 / count as f64;
        let note = format!("added per 10,000; {note}; {before:.0} → {after:.0} MiB, {per_connection:.1} KiB each");
        figures.push(Figure::new("longpoll-memory", added * 10_000.0 / count as f64, "MiB", note));
    }
    let note = format!("one phone of another database while {count} wait: {}", spread(&single));
    figures.push(Figure::new("longpoll-wake-one", quantile(&single, 0.5), "ms", note));
    let (median, note) = (quantile(&delays, 0.5), format!("all {count} by one write: {}", spread(&delays)));
    let raw = match stage.limits {
        Some(_) => Some(wake_limit(stage.database, count.min(allowed / 2), count).await?),
        None => None,
    };
    figures.push(Figure::new("longpoll-wake", median, "ms", note).with_raw(raw));
    figures.iter_mut().for_each(|figure| figure.reduced = count < wanted);
    Ok(figures)
}

/// Opens `count` longpolls and returns when the server has begun to answer each of them.
async fn open_all(target: &Target, database: &str, count: u64) -> anyhow::Result<Waiting> {
    let path: Arc<str> = format!("/{database}/_changes?feed=longpoll&since=now&heartbeat=60000").into();
    let places = Arc::new(Semaphore::new(OPENING));
    let (mut opening, mut waiting) = (JoinSet::new(), Waiting::new()?);
    for _ in 0..count {
        let place = Arc::clone(&places).acquire_owned().await?;
        let (target, path) = (target.clone(), Arc::clone(&path));
        opening.spawn(async move {
            let opened = tokio::time::timeout(HEAD_LIMIT, open(&target, &path)).await;
            drop(place);
            opened.context("a longpoll got no response head within 10 s")?
        });
        while let Some(opened) = opening.try_join_next() {
            take(&mut waiting, opened)?;
        }
    }
    while let Some(opened) = opening.join_next().await {
        take(&mut waiting, opened)?;
    }
    let ended = waiting.answered()?;
    ensure!(ended == 0, "{ended} of {count} longpolls ended before anything was written");
    Ok(waiting)
}

fn take(
    waiting: &mut Waiting,
    opened: Result<anyhow::Result<(Connection, Head)>, tokio::task::JoinError>,
) -> anyhow::Result<()> {
    let (connection, head) = opened.context("a task of the bench failed")??;
    Ok(waiting.add(connection, &head)?)
}

async fn open(target: &Target, path: &str) -> anyhow::Result<(Connection, Head)> {
    let mut connection = Connection::open(target, SMALL_BUFFER).await?;
    connection.send("GET", path, b"").await?;
    let head = connection.head().await?;
    ensure!(head.is_success(), "a longpoll was answered with status {}", head.status);
    Ok((connection, head))
}

/// Writes one document and returns the delays from sending it to each connection's complete answer, in milliseconds.
async fn wake(target: &Target, database: &str, mut waiting: Waiting) -> anyhow::Result<Vec<f64>> {
    let (count, path, body) = (waiting.count(), format!("/{database}"), samples::body(0));
    let mut client = Client::open(target).await?;
    let following = tokio::task::spawn_blocking(move || waiting.follow(WAKE_LIMIT).map(|all| (all, waiting)));
    let written = Instant::now();
    client.bytes("POST", &path, body.as_bytes()).await?;
    let (all, waiting) = following.await.context("a task of the bench failed")??;
    ensure!(all, "not every longpoll was woken in {} s", WAKE_LIMIT.as_secs());
    let answers: Vec<Instant> = waiting.moments().collect();
    ensure!(answers.len() == count, "{} of {count} longpolls ended without a word", count - answers.len());
    Ok(sorted_milliseconds(answers.into_iter().map(|answer| answer.saturating_duration_since(written)).collect()))
}

/// Median, p99 and slowest, in words.
pub(super) fn spread(delays: &[f64]) -> String {
    let [median, slowest_hundredth, slowest] = [0.5, 0.99, 1.0].map(|part| quantile(delays, part));
    format!("median {median:.1} ms, p99 {slowest_hundredth:.1} ms, slowest {slowest:.1} ms")
}

/// Delays of single longpolls on a second database, which do not disturb those that wait on the first.
async fn wake_one_by_one(target: &Target) -> anyhow::Result<Vec<f64>> {
    client::create_database(target, SECOND_DATABASE).await?;
    let mut delays = Vec::new();
    for _ in 0..SINGLE_WAKES {
        let waiting = open_all(target, SECOND_DATABASE, 1).await?;
        delays.extend(wake(target, SECOND_DATABASE, waiting).await?);
    }
    client::delete_database(target, SECOND_DATABASE).await?;
    delays.sort_unstable_by(f64::total_cmp);
    Ok(delays)
}

/// The same with an empty server, which shares this process and so its limit of open files: `possible` connections are
/// opened, and their median delay is scaled to `count`.
async fn wake_limit(database: &str, possible: u64, count: u64) -> anyhow::Result<RawLimit> {
    let server = empty_server(Answer::AfterWrite("{\"results\":[]}"))?;
    let waiting = open_all(&server.target(), database, possible).await?;
    tokio::time::sleep(REST).await;
    let delays = wake(&server.target(), database, waiting).await?;
    let value = quantile(&delays, 0.5) * count as f64 / possible as f64;
    Ok(RawLimit { value, what: format!("empty server, from {possible} connections") })
}

/// How many files this process, and so the server it starts, may have open.
pub(super) fn open_files() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{open_all, open_files, wake, wake_limit};
    use crate::http::load::{Answer, EmptyServer};

    #[test]
    fn the_limit_of_open_files_is_known() {
        assert!(open_files().unwrap() >= 64);
    }

    #[tokio::test]
    async fn a_server_that_does_not_wait_is_noticed() {
        let server = EmptyServer::start(Answer::AtOnce("{\"results\":[]}"), 1).unwrap();
        let error = open_all(&server.target(), "database", 1_000).await.unwrap_err().to_string();
        assert!(error.contains("ended before anything was written"), "{error}");
    }

    #[tokio::test]
    async fn all_waiting_connections_are_woken_by_one_write() {
        let server = EmptyServer::start(Answer::AfterWrite("{\"results\":[]}"), 1).unwrap();
        let waiting = open_all(&server.target(), "database", 50).await.unwrap();
        let delays = wake(&server.target(), "database", waiting).await.unwrap();
        assert!(delays.len() == 50 && delays.iter().all(|delay| *delay > 0.0));
        let silent = EmptyServer::start(Answer::AfterWrite("\n"), 1).unwrap();
        let waiting = open_all(&silent.target(), "database", 1).await.unwrap();
        let error = wake(&silent.target(), "database", waiting).await.unwrap_err().to_string();
        assert_eq!(error, "1 of 1 longpolls ended without a word");
        assert!(wake_limit("database", 10, 100).await.unwrap().value > 0.0);
    }
}
