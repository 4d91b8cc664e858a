//! Keeps the file of the revocation ledger up to date, and says how far it is. A withdrawal holds as soon as the store has
//! it; the file only matters to the day on which the store is lost.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::ledger;
use super::ledger_file::Tail;
use crate::storage::{StorageError, Store};

/// How long an answer waits for the file.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// How far the file is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Progress {
    /// Lines that the disk has.
    written: u64,
    /// Why the last attempt failed.
    problem: Option<String>,
}

/// The file that follows the store.
pub struct Ledger {
    store: Store,
    path: PathBuf,
    /// Nothing while it waits for [`Ledger::confirm`].
    tail: Mutex<Option<Tail>>,
    /// Why it waits.
    unconfirmed: Mutex<Option<String>>,
    progress: watch::Sender<Progress>,
}

impl Ledger {
    /// A file that goes on behind `tail`.
    #[must_use]
    pub fn following(store: &Store, tail: Tail) -> Arc<Self> {
        let progress = Progress { written: tail.number, problem: None };
        Self::new(store, tail.path().to_owned(), Some(tail), None, progress)
    }

    /// No file, or one that cannot be trusted: whoever was withdrawn since the data were copied is not known. Nothing is
    /// written to it until somebody takes responsibility.
    #[must_use]
    pub fn unknown(store: &Store, path: PathBuf, why: String) -> Arc<Self> {
        let progress = Progress { written: 0, problem: Some(why.clone()) };
        Self::new(store, path, None, Some(why), progress)
    }

    fn new(store: &Store, path: PathBuf, tail: Option<Tail>, why: Option<String>, progress: Progress) -> Arc<Self> {
        Arc::new(Self {
            store: store.clone(),
            path,
            tail: Mutex::new(tail),
            unconfirmed: Mutex::new(why),
            progress: watch::Sender::new(progress),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why nobody can say what was withdrawn since these data were copied; nothing in the ordinary case.
    #[must_use]
    pub fn unconfirmed(&self) -> Option<String> {
        self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the last attempt to write the file failed.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.progress.borrow().problem.clone()
    }

    /// Lines on the disk.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.progress.borrow().written
    }

    /// Writes what the file lacks. Blocks until the disk has it.
    ///
    /// # Errors
    /// When it cannot be written; the next call tries again.
    pub fn copy(&self) -> std::io::Result<()> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tail) = tail.as_mut() else { return Err(std::io::Error::other("the restore waits to be confirmed")) };
        let outcome = tail.copy(&self.store.snapshot());
        let problem = outcome.as_ref().err().map(ToString::to_string);
        self.progress.send_replace(Progress { written: tail.number, problem });
        outcome
    }

    /// Somebody took responsibility for what is not known: a new file begins with what the store knows. `false`: there was
    /// nothing to confirm. Blocks.
    ///
    /// # Errors
    /// When the file cannot be written; nothing is confirmed then.
    pub fn confirm(&self, now: u64) -> std::io::Result<bool> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.is_some() {
            return Ok(false);
        }
        let made = Tail::create(self.path.clone(), &self.store.snapshot(), now)?;
        self.progress.send_replace(Progress { written: made.number, problem: None });
        *tail = Some(made);
        *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(true)
    }

    /// Follows the store until the server stops.
    pub async fn follow(self: Arc<Self>) {
        let mut news = self.store.announcements().follow(ledger::TOPIC, 0);
        loop {
            let ledger = Arc::clone(&self);
            let copied = tokio::task::spawn_blocking(move || (ledger.copy(), ledger.unconfirmed().is_some())).await;
            match copied {
                Ok((Err(error), false)) => {
                    tracing::error!(%error, path = %self.path.display(), "the revocation ledger cannot be written");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Ok((Err(_), true)) => tokio::time::sleep(PAUSE).await,
                Ok((Ok(()), _)) => {}
                Err(_) => return, // the server stops
            }
            if news.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until the file has everything that the store has now, but not for long. `false`: it has not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn settled(&self) -> Result<bool, StorageError> {
        let number = ledger::length(&self.store.snapshot())?;
        let mut progress = self.progress.subscribe();
        let settled = progress.wait_for(|progress| progress.written >= number || progress.problem.is_some());
        let settled = tokio::time::timeout(PATIENCE, settled).await;
        Ok(matches!(settled, Ok(Ok(progress)) if progress.written >= number))
    }
}
