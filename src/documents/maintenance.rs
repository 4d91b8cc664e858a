//! Upkeep: purge (§2.9), compaction (bodies of revisions that are no leaves), limits.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use settle_protocol::raw_json::write_string;
use settle_protocol::{Revision, document::write_revisions};

use super::databases::Database;
use super::error::DocumentResult;
use super::tables::{BODIES, ChangeKey, DOCUMENTS, DatabaseId, PURGES, PurgeRow};
use super::users::{UserAuthor, UserWrite};
use super::write::{Before, Writing};
use crate::storage::{Family, Range, Read, StorageResult, Store};

/// Documents per job of the writer while compacting, so that nobody waits long.
const COMPACT_AT_A_TIME: usize = 200;

/// Removes leaves; says what was removed, per document asked for. `purger`: who does it, where documents are accounts.
///
/// # Errors
/// `404` when the database is gone, or a failure of the store.
pub fn purge(
    writing: &mut Writing<'_, '_>,
    asked: &[(String, Vec<Revision>)],
    remembered: u64,
    purger: Option<UserAuthor>,
) -> DocumentResult<BTreeMap<String, Vec<Revision>>> {
    let mut answer = BTreeMap::new();
    let accounts = purger.map(UserWrite::of_purge);
    for (id, revisions) in asked {
        let mut purged = Vec::new();
        if let Some(mut row) = writing.document(id)? {
            let before = Before::of(&row);
            let (removed, gone) = row.tree.purge(revisions);
            for revision in &gone {
                writing.drop_body(id, &row, revision)?;
            }
            if !removed.is_empty() {
                writing.place(id, Some(before), row)?;
                if let Some(accounts) = &accounts {
                    accounts.remember(writing, id)?;
                }
            }
            purged = removed;
        }
        let number = writing.count_purges(1);
        let database = writing.database();
        let key = |position| ChangeKey { database, position };
        writing.batch.put(&PURGES, &key(number), &PurgeRow { id: id.clone(), revisions: purged.clone() });
        if let Some(forgotten) = number.checked_sub(remembered) {
            writing.batch.delete(&PURGES, &key(forgotten));
        }
        answer.insert(id.clone(), purged);
    }
    Ok(answer)
}

/// `{"purged_infos":[{"id","revs"}]}`.
///
/// # Errors
/// When the store fails.
pub fn purged_infos(reader: &impl Read, database: DatabaseId) -> StorageResult<Vec<u8>> {
    let mut out = b"{\"purged_infos\":[".to_vec();
    let mut first = true;
    reader.scan(Family::Purges, &Range::prefix(&database.to_be_bytes()), &mut |_, row| {
        let row = PURGES.decode(row)?;
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"id\":");
        write_string(&mut out, &row.id);
        out.extend_from_slice(b",\"revs\":");
        write_revisions(&mut out, &row.revisions.iter().collect::<Vec<_>>());
        out.push(b'}');
        Ok(ControlFlow::Continue(()))
    })?;
    out.extend_from_slice(b"]}\n");
    Ok(out)
}

/// Drops the bodies of revisions that are no leaves, a few documents at a time, and lets the engine merge its files.
///
/// # Errors
/// When the store fails or the database is deleted meanwhile; what was done stays done.
pub async fn compact(store: &Store, database: &Arc<Database>) -> DocumentResult<()> {
    let end = crate::storage::after_prefix(&database.id().to_be_bytes()).unwrap_or_default();
    let mut from = database.id().to_be_bytes().to_vec();
    loop {
        let (ids, next) = compactable(store, Range::between(from.clone(), end.clone()))?;
        if !ids.is_empty() {
            let database = Arc::clone(database);
            store
                .write(move |batch| -> DocumentResult<()> {
                    let mut writing = Writing::begin(batch, &database)?;
                    for id in &ids {
                        compact_document(&mut writing, id)?;
                    }
                    writing.end()
                })
                .await?;
        }
        match next {
            Some(next) => from = next,
            None => break,
        }
    }
    let (store, id) = (store.clone(), database.id());
    let merged = tokio::task::spawn_blocking(move || {
        for family in [Family::Bodies, Family::Changes, Family::Documents] {
            store.merge_files(family, &id.to_be_bytes());
        }
    });
    merged.await.map_err(|_| crate::storage::StorageError::Panicked)?;
    Ok(())
}

/// Ids of documents with bodies to drop, and where to go on.
fn compactable(store: &Store, range: Range) -> StorageResult<(Vec<String>, Option<Vec<u8>>)> {
    const ROWS_AT_A_TIME: usize = 20_000;
    let mut ids = Vec::new();
    let mut next = None;
    let mut looked_at = 0;
    store.snapshot().scan(Family::Documents, &range, &mut |key, row| {
        if ids.len() == COMPACT_AT_A_TIME || looked_at == ROWS_AT_A_TIME {
            next = Some(key.to_vec());
            return Ok(ControlFlow::Break(()));
        }
        looked_at += 1;
        let tree = DOCUMENTS.decode(row)?.tree;
        if tree.nodes().iter().filter(|node| node.stored).count() > tree.leaves().len() {
            ids.push(String::from_utf8_lossy(key.get(4..).unwrap_or_default()).into_owned());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((ids, next))
}

fn compact_document(writing: &mut Writing<'_, '_>, id: &str) -> DocumentResult<()> {
    let Some(mut row) = writing.document(id)? else { return Ok(()) };
    let leaves: Vec<Revision> = row.tree.leaves().iter().map(|leaf| leaf.revision.clone()).collect();
    let interior = row.tree.nodes().iter().filter(|node| node.stored && !leaves.contains(&node.revision));
    let dropped: Vec<Revision> = interior.map(|node| node.revision.clone()).collect();
    for revision in &dropped {
        writing.drop_body(id, &row, revision)?;
    }
    row.tree.forget_bodies(&dropped);
    writing.rewrite(id, &row);
    Ok(())
}

/// Checks every row of every database against the others; gives the problems found, at most `limit`.
///
/// # Errors
/// When the store cannot be read at all.
pub fn verify(store: &Store, limit: usize, mut progress: impl FnMut(u64)) -> StorageResult<Vec<String>> {
    let snapshot = store.snapshot();
    let mut problems = Vec::new();
    let mut checked = 0;
    let mut live: BTreeMap<DatabaseId, (u64, u64)> = BTreeMap::new();
    snapshot.scan(Family::Documents, &Range::prefix(b""), &mut |key, row| {
        checked += 1;
        if checked % 10_000 == 0 {
            progress(checked);
        }
        let database = key.first_chunk().map_or(0, |id| u32::from_be_bytes(*id));
        let id = String::from_utf8_lossy(key.get(4..).unwrap_or_default()).into_owned();
        match DOCUMENTS.decode(row) {
            Ok(row) => {
                let counts = live.entry(database).or_default();
                if row.tree.is_deleted() {
                    counts.1 += 1
                } else {
                    counts.0 += 1
                }
                problems.extend(check_document(&snapshot, database, &id, &row)?);
            }
            Err(error) => problems.push(format!("document {id:?}: {error}")),
        }
        Ok(if problems.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    snapshot.scan(Family::Databases, &Range::prefix(b""), &mut |name, row| {
        let row = super::tables::DATABASES.decode(row)?;
        let counters = snapshot.get(&super::tables::COUNTERS, &super::tables::DatabaseKey(row.id))?.unwrap_or_default();
        let counted = live.get(&row.id).copied().unwrap_or_default();
        let mut changes = 0;
        snapshot.scan(Family::Changes, &Range::prefix(&row.id.to_be_bytes()), &mut |_, _| {
            changes += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        let name = String::from_utf8_lossy(name);
        if counted != (counters.documents, counters.deleted) && problems.len() < limit {
            problems.push(format!("database {name}: counts {counters:?}, but {counted:?} documents are stored"));
        }
        if changes != counters.documents + counters.deleted && problems.len() < limit {
            problems.push(format!("database {name}: {changes} rows in the log, one per document expected"));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    progress(checked);
    Ok(problems)
}

fn check_document(
    reader: &impl Read,
    database: DatabaseId,
    id: &str,
    row: &super::tables::DocumentRow,
) -> StorageResult<Vec<String>> {
    let mut problems = Vec::new();
    let key = ChangeKey { database, position: row.position };
    match reader.get(&super::tables::CHANGES, &key)? {
        Some(change) if change.id == id => {
            let leaves: Vec<Revision> = row.tree.leaves().iter().map(|leaf| leaf.revision.clone()).collect();
            if change.leaves != leaves || change.deleted != row.tree.is_deleted() {
                problems.push(format!("document {id:?}: its row in the log names other leaves"));
            }
        }
        _ => problems.push(format!("document {id:?}: its row in the log is missing")),
    }
    for leaf in row.tree.leaves() {
        let body = reader.get(&BODIES, &super::tables::BodyKey::new(database, row.cluster, id, &leaf.revision))?;
        let Some(body) = body else {
            problems.push(format!("document {id:?}: the body of {} is missing", leaf.revision));
            continue;
        };
        for attachment in &body.attachments {
            let mut hasher = blake3::Hasher::new();
            for number in 0..super::output::chunk_count(attachment.length) {
                match super::attachments::chunk(reader, attachment.address, number as u32) {
                    Ok(chunk) => drop(hasher.update(&chunk)),
                    Err(_) => break,
                }
            }
            if *hasher.finalize().as_bytes() != attachment.address {
                problems.push(format!("document {id:?}: the bytes of attachment {:?} are damaged", attachment.name));
            }
        }
    }
    Ok(problems)
}
