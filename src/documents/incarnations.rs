//! A history of the store that begins where an earlier one was copied (design §12), on the writer, before anybody is served:
//! what the two have in common, checkpoints that would make devices skip, and what was withdrawn since.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::Value;
use settle_protocol::sequence::{Position, Since};

use super::databases::{Catalogue, Database};
use super::error::DocumentResult;
use super::grants;
use super::tables::{DatabaseId, LOCAL, LocalRow};
use super::users::{USERS, withdraw_password};
use super::write::Writing;
use crate::accounts::ledger::{self, Line};
use crate::accounts::ledger_file::Numbered;
use crate::accounts::links;
use crate::accounts::replay::{Replayed, replay};
use crate::audit::{self, Entry};
use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, Store, hex};

/// Keys of earlier incarnations: this prefix, the incarnation, the number of a database.
const META_EARLIER: &[u8] = b"earlier/";

/// Tags of earlier incarnations, each with the last position in common with the present one.
pub type Earlier = Vec<([u8; 4], Position)>;

/// What the present history has in common with earlier ones, for each database.
///
/// # Errors
/// When the store fails.
pub fn earlier(reader: &impl Read) -> StorageResult<BTreeMap<DatabaseId, Earlier>> {
    const CORRUPT: StorageError = StorageError::Corrupt { table: "meta", problem: "malformed earlier incarnation" };
    let mut all: BTreeMap<DatabaseId, Earlier> = BTreeMap::new();
    reader.scan(Family::Meta, &Range::prefix(META_EARLIER), &mut |key, row| {
        let key = key.strip_prefix(META_EARLIER).ok_or(CORRUPT)?;
        let (incarnation, database) = key.split_at_checked(16).ok_or(CORRUPT)?;
        let database = database.try_into().map(u32::from_be_bytes).map_err(|_| CORRUPT)?;
        let position = row.try_into().map(u64::from_be_bytes).map_err(|_| CORRUPT)?;
        let tag = [incarnation[0], incarnation[1], incarnation[2], incarnation[3]];
        all.entry(database).or_default().push((tag, position));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

/// Whether older data were opened once: clients may have been in the middle of something.
///
/// # Errors
/// When the store fails.
pub fn has_earlier(reader: &impl Read) -> StorageResult<bool> {
    Ok(!earlier(reader)?.is_empty())
}

/// Why a new history begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beginning {
    /// The new incarnation: random.
    pub id: [u8; 16],
    /// `backup`: a copy was opened; `ledger`: the store lacks lines of the ledger; else what is wrong with the ledger.
    pub cause: String,
    /// Lines of the ledger that the store has.
    pub common: u64,
    /// Lines that only the file has.
    pub lines: Vec<Numbered>,
    /// Lines that only the store has.
    pub own: Vec<String>,
    /// Seconds since 1970.
    pub now: u64,
}

/// Begins a new incarnation, in one batch, and gives what was replayed.
///
/// # Errors
/// When the store fails, or a line of the ledger cannot be read; nothing has begun then.
pub async fn begin(store: &Store, catalogue: &Catalogue, beginning: Beginning) -> DocumentResult<Replayed> {
    let was = store.incarnation();
    let databases = catalogue.all();
    let id = beginning.id;
    let replayed = store
        .write(move |batch| -> DocumentResult<Replayed> {
            for database in &databases {
                let position = database.counters(batch)?.position;
                let key = [META_EARLIER, &was, &database.id().to_be_bytes()].concat();
                batch.put_bytes(Family::Meta, key, position.to_be_bytes());
                drop_push_checkpoints(batch, database)?;
            }
            let replayed = catch_up(batch, &beginning, &was)?;
            if let Some(users) = databases.iter().find(|database| database.name == USERS) {
                let mut writing = Writing::begin(batch, users)?;
                for name in &replayed.without_password {
                    withdraw_password(&mut writing, name)?;
                }
                writing.end()?;
            }
            audit::append(batch, &entry(&beginning, &was, &replayed))?;
            Store::put_incarnation(batch, id);
            Ok(replayed)
        })
        .await?;
    store.set_incarnation(id);
    catalogue.reload()?;
    Ok(replayed)
}

/// Gives the store the lines of the file, and applies them; its own lines come behind them, so that file and store are the
/// same chain again.
fn catch_up(batch: &mut Batch<'_>, beginning: &Beginning, was: &[u8; 16]) -> StorageResult<Replayed> {
    const CORRUPT: StorageError = StorageError::Corrupt { table: "ledger", problem: "malformed line" };
    let Beginning { id, cause, common, lines, own, now } = beginning;
    let parsed: Result<Vec<Line>, _> = lines.iter().map(|line| serde_json::from_str(&line.text)).collect();
    for line in lines {
        ledger::put(batch, line.number, &line.text);
    }
    let last = lines.last().map_or(*common, |line| line.number);
    for (number, text) in (last + 1..).zip(own) {
        ledger::put(batch, number, text);
    }
    let parsed = parsed.map_err(|_| CORRUPT)?;
    let replayed = replay(batch, &parsed)?;
    for line in &parsed {
        if let Line::GrantEnded { to, grant, at } = line {
            grants::end_again(batch, to, grant, *at)?;
        }
    }
    grants::settle_all(batch, *now)?;
    links::end_all(batch, *now)?;
    let (id, was, cause) = (hex(id), hex(was), cause.clone());
    ledger::append(batch, &Line::Incarnation { id, was, after: *common, at: *now, cause })?;
    Ok(replayed)
}

fn entry(beginning: &Beginning, was: &[u8; 16], replayed: &Replayed) -> Entry {
    let names = |set: &std::collections::BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
    Entry::new(beginning.now, "", "store.restored")
        .reason(Some(&beginning.cause))
        .detail("incarnation", hex(&beginning.id))
        .detail("was", hex(was))
        .detail("lines_replayed", beginning.lines.len())
        .detail("accounts", names(&replayed.accounts))
        .detail("devices", names(&replayed.devices))
        .detail("without_password", names(&replayed.without_password))
        .detail("drain_again", names(&replayed.drain_again))
}

/// Checkpoints of pushes are older here than on the devices, and a client that finds its own session in both takes the
/// device's word: it would skip what it pushed after the copy. Without them it looks at everything once more. Those of pulls
/// hold tokens of this server, which know how far they count.
fn drop_push_checkpoints(batch: &mut Batch<'_>, database: &Arc<Database>) -> StorageResult<()> {
    let mut dropped = Vec::new();
    batch.scan(Family::Local, &Range::prefix(&database.id().to_be_bytes()), &mut |key, row| {
        let row: LocalRow = LOCAL.decode(row)?;
        if is_push_checkpoint(&row.text, database) {
            dropped.push(key.to_vec());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for key in dropped {
        batch.delete_bytes(Family::Local, key);
    }
    Ok(())
}

/// Whether a `_local` document (its members as text) says how far a client pushed into a database.
#[must_use]
pub fn is_push_checkpoint(members: &str, database: &Database) -> bool {
    let Ok(Value::Object(document)) = serde_json::from_str(&format!("{{{members}}}")) else { return false };
    if !document.get("session_id").is_some_and(Value::is_string)
        || !document.get("history").is_some_and(Value::is_array)
    {
        return false;
    }
    let last = document.get("last_seq").or_else(|| document.get("source_last_seq")).and_then(Value::as_str);
    let pulls = last.and_then(|last| Since::parse(last).ok()).is_some_and(|since| match since {
        Since::Token { tags, .. } => tags[..4] == database.row.uuid[..4],
        Since::Beginning | Since::Now => false,
    });
    !pulls
}
