//! Before anybody is served: is this the store that served last, or an older copy of it? The copy of the revocation ledger
//! beside the data knows. Older data begin a history of their own and are told first what was withdrawn since (design §12).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::accounts::ledger::{self, Line};
use crate::accounts::ledger_copy::Ledger;
use crate::accounts::ledger_file::{Age, Content, Tail, compare, read};
use crate::audit;
use crate::clock::{Clock, random};
use crate::config::Config;
use crate::documents::databases::Catalogue;
use crate::documents::incarnations::{Beginning, begin};
use crate::storage::{StorageError, StorageResult, Store, hex};

/// The file: as configured, or beside the data folder.
///
/// # Errors
/// When the data folder has no name, such as `/`.
pub fn ledger_path(data: &Path, configured: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = configured {
        return Ok(path.to_owned());
    }
    beside(data, ".ledger").context("name a file for the ledger with --ledger")
}

/// A file beside the data folder: its name and an ending.
///
/// # Errors
/// When the data folder has no name, such as `/`.
pub fn beside(data: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let data = std::path::absolute(data)?;
    let mut name = data.file_name().context("the data folder has no name")?.to_owned();
    name.push(ending);
    Ok(data.with_file_name(name))
}

/// Opens the history of a store: the present one, or a new one when older data were restored.
///
/// # Errors
/// When the store fails, the ledger is that of another server, or a new ledger cannot be made.
pub async fn open(store: &Store, catalogue: &Catalogue, clock: &Clock, config: &Config) -> anyhow::Result<Arc<Ledger>> {
    let path = ledger_path(store.path(), config.ledger.as_deref())?;
    let is_copy = store.is_marked_as_backup();
    let age = compare(&store.snapshot(), &store.server_id(), &path)?;
    let age = match age {
        Age::New if is_copy => Age::Unknown("it is missing".to_owned()),
        age => age,
    };
    let beginning = Beginning { id: random(), now: clock.now(), ..Beginning::default() };
    let beginning = match &age {
        Age::New => {
            begin_ledger(store, clock.now()).await?;
            None
        }
        Age::Current if !is_copy => None,
        Age::Current => {
            let common = ledger::length(&store.snapshot())?;
            Some(Beginning { cause: "a backup was opened".to_owned(), common, ..beginning })
        }
        Age::Behind { common, lines, own } => {
            let cause = if is_copy { "a backup was opened" } else { "the data are older than the revocation ledger" };
            let (common, lines, own) = (*common, lines.clone(), own.clone());
            Some(Beginning { cause: cause.to_owned(), common, lines, own, ..beginning })
        }
        Age::Unknown(why) => {
            let common = ledger::length(&store.snapshot())?;
            Some(Beginning { cause: format!("revocation ledger: {why}"), common, ..beginning })
        }
    };
    if let Some(beginning) = beginning {
        let cause = beginning.cause.clone();
        let replayed = begin(store, catalogue, beginning).await?;
        clock.raise(replayed.latest);
        let (accounts, devices) = (replayed.accounts.len(), replayed.devices.len());
        tracing::warn!(cause, accounts, devices, "older data were opened: a new history begins; see docs/handover.md");
        for name in &replayed.without_password {
            tracing::warn!(account = name, "its password was changed after the copy was made: set another one");
        }
        if is_copy {
            store.remove_backup_mark()?;
        }
    }
    let path_text = path.display().to_string();
    let following = |tail| Ledger::following(store, tail);
    let ledger = match age {
        Age::New => {
            let made = Tail::create(path, &store.snapshot(), clock.now());
            following(made.with_context(|| {
                format!("cannot make the revocation ledger {path_text}; name another file with --ledger")
            })?)
        }
        Age::Unknown(why) => {
            tracing::error!(
                path = path_text,
                why,
                "the revocation ledger cannot be used: scoped databases give nothing out until an operator confirms the restore"
            );
            return Ok(Ledger::unknown(store, path, why));
        }
        Age::Current | Age::Behind { .. } => match read(&path) {
            Content::Lines(lines, bytes) => following(Tail::of(path, &lines, bytes)),
            _ => anyhow::bail!("the revocation ledger {path_text} changed while it was read"),
        },
    };
    if let Err(error) = ledger.copy() {
        tracing::error!(%error, path = path_text, "the revocation ledger cannot be written");
    }
    Ok(ledger)
}

async fn begin_ledger(store: &Store, at: u64) -> StorageResult<()> {
    let server = hex(&store.server_id());
    store
        .write(move |batch| -> StorageResult<()> {
            if ledger::length(batch)? == 0 {
                ledger::append(batch, &Line::Begun { server, at })?;
            }
            Ok(())
        })
        .await
}

/// How much happened in a store, to see whether something happened since.
///
/// # Errors
/// When the store fails.
pub fn activity(store: &Store, catalogue: &Catalogue) -> StorageResult<u64> {
    let snapshot = store.snapshot();
    let mut activity = audit::head(&snapshot)?.number;
    for name in catalogue.names() {
        if let Ok(database) = catalogue.find(&name) {
            activity += database.counters(&snapshot)?.position;
        }
    }
    Ok(activity)
}

/// Notes in the ledger that the store was in use, with the head of the audit log.
///
/// # Errors
/// When the store fails.
pub async fn mark(store: &Store, at: u64) -> Result<(), StorageError> {
    store
        .write(move |batch| -> StorageResult<()> {
            let head = audit::head(batch)?;
            ledger::append(batch, &Line::Mark { at, audit: head.number, head: hex(&head.hash) })?;
            Ok(())
        })
        .await
}
