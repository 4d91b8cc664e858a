//! The single writer: gathers waiting work, one batch, one commit, one fsync, then the answers.
//!
//! Work arrives as closures over the open batch, so every decision is made beside the data it judges; there are no locks
//! and no write conflicts, and the order of positions is the order of commits. An answer leaves only after its batch is
//! durable. A closure that fails or panics is rolled back alone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rocksdb::WriteOptions;
use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::error::{StorageError, StorageResult};
use super::{Inner, Store};

/// Requests that may wait for the writer; beyond, a write is refused as overload.
pub(super) const QUEUE_LENGTH: usize = 8192;
/// A batch is closed when it holds this many bytes …
const BATCH_BYTES: usize = 8 << 20;
/// … or this many requests.
const BATCH_REQUESTS: usize = 1024;

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

/// The writer's thread: ends when every [`Store`] is gone or the store is closed.
pub(super) fn run(inner: &Arc<Inner>, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut batch = Batch::new(&inner.db);
        let mut answers = vec![first(&mut batch)];
        while batch.bytes() < BATCH_BYTES && answers.len() < BATCH_REQUESTS {
            let Ok(job) = queue.try_recv() else { break };
            answers.push(job(&mut batch));
        }
        let outcome = commit(inner, batch);
        inner.healthy.store(outcome.is_ok(), Ordering::Relaxed);
        if let Err(error) = &outcome {
            tracing::error!(%error, "a batch could not be made durable; its writes are refused");
        }
        for answer in answers {
            answer(outcome.clone());
        }
        if inner.closing.load(Ordering::Relaxed) {
            queue.close();
        }
    }
}

fn commit(inner: &Inner, batch: Batch<'_>) -> StorageResult<()> {
    if batch.bytes() == 0 {
        return Ok(());
    }
    let (batch, announcements) = batch.finish()?;
    let mut options = WriteOptions::default();
    options.set_sync(true);
    inner.db.write_opt(batch, &options)?;
    inner.announcements.publish(&announcements);
    Ok(())
}
