//! The single writer: gathers waiting work, one batch, one commit, one fsync, then the answers. While a batch is on its way
//! to the disk the next one is decided.
//!
//! Work arrives as closures over the open batch, so every decision is made beside the data it judges; there are no locks
//! and no write conflicts, and the order of positions is the order of commits. An answer leaves only after its batch is
//! durable. A closure that fails or panics is rolled back alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use std::thread::Thread;
use std::time::Duration;

use rocksdb::WriteOptions;
use tokio::sync::{mpsc, oneshot};

use super::batch::{Announcement, Batch, Layer};
use super::error::{StorageError, StorageResult};
use super::{Inner, Store};

/// Requests that may wait for the writer; beyond, a write is refused as overload.
pub(super) const QUEUE_LENGTH: usize = 8192;
/// A batch is closed when it holds this many bytes …
const BATCH_BYTES: usize = 8 << 20;
/// … or this many requests.
const BATCH_REQUESTS: usize = 1024;
/// From this many bytes on a batch leaves as soon as the disk has nothing to do, although more is waiting: to decide that takes
/// as long as to write this, so both are done at once.
const WORTH_A_COMMIT: usize = 256 << 10;
/// How often new work is looked for while the batch before is on its way to the disk.
const GATHERING: Duration = Duration::from_micros(200);
/// Layers whose memory is kept for later batches: two of a batch, one on its way, one that was on its way before.
const SPARE_LAYERS: usize = 4;
/// Bytes that they may hold together: as much as a large move writes at once, and some ordinary batches.
const SPARE_BYTES: usize = 16 << 20;

type Answer = Box<dyn FnOnce(StorageResult<()>) + Send>;
pub(super) type Job = Box<dyn FnOnce(&mut Batch<'_>) -> Answer + Send>;

impl Store {
    /// Runs `work` on the writer and waits until what it wrote is durable.
    ///
    /// `work` returning an error takes back everything it wrote. It must be quick: everybody's writes wait for it.
    ///
    /// # Errors
    /// What `work` returns, or a [`StorageError`] when the store cannot write; then nothing of it was written.
    pub async fn write<T, E>(&self, work: impl FnOnce(&mut Batch<'_>) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |batch| {
            let outcome = catch_unwind(AssertUnwindSafe(|| work(batch)));
            let outcome = outcome.unwrap_or_else(|_| Err(StorageError::Panicked.into()));
            match outcome {
                Ok(_) => batch.keep(),
                Err(_) => batch.roll_back(),
            }
            Box::new(move |committed| {
                let answer = match (outcome, committed) {
                    (Ok(_), Err(error)) => Err(error.into()),
                    (outcome, _) => outcome,
                };
                drop(sender.send(answer)); // a caller who hung up does not want it
            })
        });
        self.inner.queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StorageError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StorageError::Closed,
        })?;
        receiver.await.unwrap_or_else(|_| Err(StorageError::Closed.into()))
    }
}

impl Store {
    /// Hands work to the writer without waiting for it; a failure is only logged.
    pub fn write_unattended(&self, work: impl FnOnce(&mut Batch<'_>) -> StorageResult<()> + Send + 'static) {
        let job: Job = Box::new(move |batch| {
            match work(batch) {
                Ok(()) => batch.keep(),
                Err(error) => {
                    batch.roll_back();
                    tracing::warn!(%error, "a write in the background failed");
                }
            }
            Box::new(|_| ())
        });
        drop(self.inner.queue.try_send(job));
    }
}

/// A batch on its way to the disk.
struct Flight {
    layer: Arc<Layer>,
    announcements: Vec<Announcement>,
    answers: Vec<Answer>,
    /// Which one, counted from 1.
    number: u64,
    /// It was decided before the one before it was durable.
    builds_on: bool,
}

/// How far the disk is: numbers of batches.
#[derive(Default)]
struct Progress {
    /// Batches that are done, durable or failed.
    done: AtomicU64,
    /// The last batch that failed; what builds on it fails too.
    failed: AtomicU64,
    /// Empty layers: memory that a later batch need not take anew from the system.
    spare: Mutex<Vec<Layer>>,
}

impl Progress {
    fn take_spare(&self) -> Option<Layer> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, mut layer: Layer) {
        layer.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = spare.iter().map(Layer::capacity).sum();
        if spare.len() < SPARE_LAYERS && held + layer.capacity() <= SPARE_BYTES {
            spare.push(layer);
        }
    }
}

/// The writer's thread: ends when every [`Store`] is gone or the store is closed.
///
/// While one batch is made durable (on a thread of its own), the next is already decided: its reads see what is on its way.
/// If that fails, so does everything that was built on it.
pub(super) fn run(inner: &Arc<Inner>, mut queue: mpsc::Receiver<Job>) {
    let progress = Arc::new(Progress::default());
    let (sender, flights) = std::sync::mpsc::sync_channel::<Flight>(0);
    let committing = {
        let (inner, progress, writer) = (Arc::clone(inner), Arc::clone(&progress), std::thread::current());
        let committer = std::thread::Builder::new().name("committer".to_owned());
        committer.spawn(move || commit_all(&inner, &progress, &writer, &flights))
    };
    let Ok(committing) = committing else { return };
    let mut on_its_way: Option<Arc<Layer>> = None;
    let mut number = 0;
    while let Some(first) = queue.blocking_recv() {
        if progress.done.load(Ordering::Acquire) == number {
            on_its_way = None;
        }
        number += 1;
        let mut batch = Batch::new(&inner.db, &inner.hasher, on_its_way.clone(), || progress.take_spare());
        let builds_on = on_its_way.is_some();
        let mut answers = vec![first(&mut batch)];
        while batch.bytes() < BATCH_BYTES && answers.len() < BATCH_REQUESTS {
            let disk_is_idle = progress.done.load(Ordering::Acquire) + 1 >= number;
            if disk_is_idle && batch.bytes() >= WORTH_A_COMMIT {
                break;
            }
            match queue.try_recv() {
                Ok(job) => answers.push(job(&mut batch)),
                // Nothing waits: go on gathering only while the batch before is not durable yet.
                Err(_) if disk_is_idle => break,
                Err(_) => std::thread::park_timeout(GATHERING),
            }
        }
        let (layer, announcements, spare) = batch.finish();
        progress.give_back(spare);
        inner.preparations.note(&layer);
        on_its_way = Some(Arc::clone(&layer));
        if sender.send(Flight { layer, announcements, answers, number, builds_on }).is_err() {
            return;
        }
        if inner.closing.load(Ordering::Relaxed) {
            queue.close();
        }
    }
    drop(sender);
    drop(committing.join());
}

/// The committer's thread: one batch after the other, each durable before it is answered.
fn commit_all(inner: &Inner, progress: &Progress, writer: &Thread, flights: &std::sync::mpsc::Receiver<Flight>) {
    // The writer has let go of a batch when it sends the next: then its memory is free.
    let mut before = None;
    while let Ok(Flight { layer, announcements, answers, number, builds_on }) = flights.recv() {
        let outcome = match builds_on && progress.failed.load(Ordering::Acquire) + 1 == number {
            true => Err(StorageError::Overloaded),
            false => inner.row_versions.around(&layer, || commit(inner, &layer)),
        };
        inner.healthy.store(outcome.is_ok(), Ordering::Relaxed);
        match &outcome {
            Ok(()) => inner.announcements.publish(&announcements),
            Err(error) => {
                progress.failed.store(number, Ordering::Release);
                tracing::error!(%error, "a batch could not be made durable; its writes are refused");
            }
        }
        progress.done.store(number, Ordering::Release);
        writer.unpark();
        for answer in answers {
            answer(outcome.clone());
        }
        if let Some(layer) = before.replace(layer).and_then(Arc::into_inner) {
            progress.give_back(layer);
        }
    }
}

fn commit(inner: &Inner, layer: &Layer) -> StorageResult<()> {
    let batch = layer.engine_batch(&inner.db)?;
    if batch.is_empty() {
        return Ok(());
    }
    let mut options = WriteOptions::default();
    options.set_sync(true);
    Ok(inner.db.write_opt(batch, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::family::Family;

    #[test]
    fn empty_layers_are_kept_up_to_a_number_and_a_size() {
        let layer = |bytes: usize| {
            let mut layer = Layer::default();
            layer.put_for_test(Family::Feed, &vec![0; bytes]);
            layer
        };
        let kept = |layers: &[usize]| {
            let progress = Progress::default();
            layers.iter().for_each(|bytes| progress.give_back(layer(*bytes)));
            std::iter::from_fn(|| progress.take_spare()).count()
        };
        assert_eq!(kept(&[10; 9]), SPARE_LAYERS);
        assert_eq!(kept(&[SPARE_BYTES / 2 + 1; 2]), 1, "the second has no place beside the first");
        assert_eq!(kept(&[SPARE_BYTES + 1, 10]), 1);
    }
}
