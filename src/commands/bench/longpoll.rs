//! Ten thousand phones that wait: what they cost in memory, and how soon they hear of a write.
//!
//! Each connection holds `_changes?feed=longpoll`. They are opened a few at a time; when the server has answered all of
//! them with a head, its memory is read; then one document is written, and each connection notes when its answer was
//! complete. The delays include this client's own share: it runs beside the server.
//! Never raises the limit of open files: with fewer allowed it opens fewer and says so.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::Stage;
use super::client::{self, Client, quantile, sorted_milliseconds};
use super::report::Figure;
use super::samples;
use crate::http::load::{Connection, Head, SMALL_BUFFER, Target};

/// Connections that are being opened at the same time.
const OPENING: usize = 64;
/// Open files that are needed for anything but waiting connections.
const RESERVED_FILES: u64 = 200;
/// Time for the server to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(1);
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
    let mut waiting = open_all(&stage.server.target, stage.database, count).await?;
    let opening = began.elapsed().as_secs_f64();
    tokio::time::sleep(REST).await;
    let after = stage.server.memory();
    let delays = wake(stage, &mut waiting, count).await?;

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
    let [median, slowest_hundredth, slowest] = [0.5, 0.99, 1.0].map(|part| quantile(&delays, part));
    let note = format!("median of {count}; p99 {slowest_hundredth:.0} ms, slowest {slowest:.0} ms");
    figures.push(Figure::new("longpoll-wake", median, "ms", note));
    figures.iter_mut().for_each(|figure| figure.reduced = count < wanted);
    Ok(figures)
}

type Waiting = JoinSet<anyhow::Result<Instant>>;

/// Opens `count` longpolls and returns when the server has begun to answer each of them.
async fn open_all(target: &Target, database: &str, count: u64) -> anyhow::Result<Waiting> {
    let path: Arc<str> = format!("/{database}/_changes?feed=longpoll&since=now&heartbeat=60000").into();
    let opening = Arc::new(Semaphore::new(OPENING));
    let (opened, mut progress) = mpsc::unbounded_channel();
    let mut waiting = JoinSet::new();
    for _ in 0..count {
        let permit = Arc::clone(&opening).acquire_owned().await?;
        let (target, path, opened) = (target.clone(), Arc::clone(&path), opened.clone());
        waiting.spawn(async move {
            let opening = tokio::time::timeout(HEAD_LIMIT, open(&target, &path)).await;
            drop(permit);
            let (mut connection, head) = opening.context("a longpoll got no response head within 10 s")??;
            // The receiver is gone only when another connection has failed, and then this one does not matter.
            let _ = opened.send(());
            let mut silent = true;
            connection.body(&head, |data| silent &= data.trim_ascii().is_empty()).await?;
            ensure!(!silent, "a longpoll ended without a word");
            Ok(Instant::now())
        });
    }
    drop(opened);
    for number in 0..count {
        tokio::select! {
            biased;
            Some(()) = progress.recv() => {}
            Some(ended) = waiting.join_next() => {
                ended.context("a task of the bench failed")??;
                bail!("a longpoll ended before anything was written, {number} were open");
            }
        }
    }
    Ok(waiting)
}

async fn open(target: &Target, path: &str) -> anyhow::Result<(Connection, Head)> {
    let mut connection = Connection::open(target, SMALL_BUFFER).await?;
    connection.send("GET", path, b"").await?;
    let head = connection.head().await?;
    ensure!(head.is_success(), "a longpoll was answered with status {}", head.status);
    Ok((connection, head))
}

/// Writes one document and returns the delays from sending it to each connection's complete answer, in milliseconds.
async fn wake(stage: &Stage<'_>, waiting: &mut Waiting, count: u64) -> anyhow::Result<Vec<f64>> {
    let number = 1_000_000;
    let path = format!("/{}/{}", stage.database, samples::id(number));
    let body = samples::body(number);
    let mut client = Client::open(&stage.server.target).await?;
    client.bytes("GET", &format!("/{}", stage.database), b"").await?;
    let (sent, moment) = oneshot::channel();
    let writer = tokio::spawn(async move {
        // The receiver lives until this task has ended.
        let _ = sent.send(Instant::now());
        client.bytes("PUT", &path, body.as_bytes()).await.map(|_| ())
    });
    let answers = async {
        let mut answers = Vec::new();
        while let Some(ended) = waiting.join_next().await {
            answers.push(ended.context("a task of the bench failed")??);
        }
        anyhow::Ok(answers)
    };
    let answers = tokio::time::timeout(WAKE_LIMIT, answers).await.context("not every longpoll was woken in 60 s")??;
    writer.await.context("a task of the bench failed")??;
    let written = moment.await.context("the write did not happen")?;
    ensure!(answers.len() as u64 == count, "{} of {count} longpolls were answered", answers.len());
    Ok(sorted_milliseconds(answers.iter().map(|answer| answer.saturating_duration_since(written)).collect()))
}

/// How many files this process, and so the server it starts, may have open.
fn open_files() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{open_all, open_files};
    use crate::http::load::EmptyServer;

    #[test]
    fn the_limit_of_open_files_is_known() {
        assert!(open_files().unwrap() >= 64);
    }

    #[tokio::test]
    async fn a_server_that_does_not_wait_is_noticed() {
        let server = EmptyServer::start("{\"results\":[]}", 1).unwrap();
        let error = open_all(&server.target(), "database", 1_000).await.unwrap_err().to_string();
        assert!(error.contains("ended before anything was written"), "{error}");
    }
}
