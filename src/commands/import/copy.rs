//! Copies one database, as a replicator does: the source's feed, what the target lacks of it, these leaves with their
//! whole history. Conflicts, tombstones and their bodies, and design documents come along.
//!
//! A page of the feed is the step: when all of it is durable at the target, the checkpoint moves. So it may stop at any
//! moment, and a later run repeats one page at most. A document that the target refuses is named and does not hold up
//! the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Map, Value};

use super::attachments;
use super::checkpoint::Checkpoint;
use super::feed::{Found, Peek, Row, Wanted, bulk_get, page};
use super::progress::Progress;
use super::side::{Failure, Side, escaped, patiently};

/// Leaves in one `_bulk_get`.
const LEAVES: usize = 200;
/// What is written in one `_bulk_docs`, in bytes (at least one document).
const WRITE_BYTES: usize = 2 << 20;
/// Requests at the same time.
pub(super) const WORKERS: usize = 4;

/// A database to copy.
pub(super) struct Job {
    pub(super) source: Arc<Side>,
    pub(super) target: Arc<Side>,
    /// Its name, the same on both sides.
    pub(super) database: String,
}

/// A leaf that did not arrive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Refusal {
    pub(super) id: String,
    pub(super) rev: String,
    pub(super) reason: String,
}

/// What was copied.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Leaves that the target lacked.
    pub(super) revisions: u64,
    /// Of these, leaves with attachments.
    pub(super) with_attachments: u64,
    /// Leaves that the feed named and that were gone when they were asked for.
    pub(super) vanished: u64,
    pub(super) refused: Vec<Refusal>,
}

impl Copied {
    pub(super) fn refuse(&mut self, id: &str, rev: &str, reason: &str) {
        self.refused.push(Refusal { id: id.to_owned(), rev: rev.to_owned(), reason: reason.to_owned() });
    }

    pub(super) fn add(&mut self, other: Self) {
        self.revisions += other.revisions;
        self.with_attachments += other.with_attachments;
        self.vanished += other.vanished;
        self.refused.extend(other.refused);
    }
}

/// Documents that every server makes for itself: copying them would only cause conflicts.
pub(super) fn is_servers_own(database: &str, id: &str) -> bool {
    matches!((database, id), ("_users", "_design/_auth") | ("_replicator", "_design/_replicator"))
}

/// Copies what the target lacks, from the checkpoint on.
pub(super) async fn copy(job: &Job, checkpoint: &mut Checkpoint, progress: &Progress) -> Result<Copied, Failure> {
    let mut copied = Copied::default();
    loop {
        let page = page(&job.source, &job.database, &checkpoint.since).await?;
        if page.rows.is_empty() {
            return Ok(copied);
        }
        let rows = page.rows.len() as u64;
        let missing = lacking(job, &page.rows).await?;
        let parts = chunks(&missing);
        let workers = futures::stream::iter(parts).map(|leaves| copy_leaves(job, leaves)).buffer_unordered(WORKERS);
        let outcomes: Vec<Copied> = workers.try_collect().await?;
        outcomes.into_iter().for_each(|outcome| copied.add(outcome));
        checkpoint.save(&job.target, page.last, rows).await?;
        progress.page(checkpoint.rows, page.pending, &copied);
    }
}

/// The leaves that the target lacks, those of one document side by side.
async fn lacking(job: &Job, rows: &[Row]) -> Result<Vec<(String, String)>, Failure> {
    let mut asked = Map::new();
    for row in rows.iter().filter(|row| !is_servers_own(&job.database, &row.id)) {
        asked.insert(row.id.clone(), row.revisions.clone().into());
    }
    let path = format!("/{}/_revs_diff", escaped(&job.database));
    let answer = job.target.json("POST", &path, Some(Bytes::from(Value::Object(asked).to_string()))).await?;
    let Value::Object(answer) = answer else {
        return Err(job.target.strange("POST _revs_diff", "no object"));
    };
    let mut lacking = Vec::new();
    for (id, row) in answer {
        for revision in row["missing"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            lacking.push((id.clone(), revision.to_owned()));
        }
    }
    Ok(lacking)
}

/// Cuts a list into parts of about [`LEAVES`], never between two leaves of one document: they are written together.
fn chunks(leaves: &[(String, String)]) -> Vec<&[(String, String)]> {
    let mut parts = Vec::new();
    let mut rest = leaves;
    while !rest.is_empty() {
        let mut end = rest.len().min(LEAVES);
        while end < rest.len() && rest[end].0 == rest[end - 1].0 {
            end += 1;
        }
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts
}

async fn copy_leaves(job: &Job, leaves: &[(String, String)]) -> Result<Copied, Failure> {
    let (mut copied, apart) = patiently(async || copy_plain(job, leaves).await).await?;
    for (id, revisions) in apart {
        copied.add(patiently(async || attachments::copy(job, &id, &revisions).await).await?);
    }
    Ok(copied)
}

/// Copies the leaves without attachments, and returns the others.
async fn copy_plain(
    job: &Job,
    leaves: &[(String, String)],
) -> Result<(Copied, BTreeMap<String, Vec<String>>), Failure> {
    let wanted: Vec<Wanted<'_>> = leaves.iter().map(|(id, revision)| Wanted { id, revision: Some(revision) }).collect();
    let mut copied = Copied::default();
    let mut apart: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut results = bulk_get(&job.source, &job.database, "?revs=true&latest=true", &wanted).await?;
    while let Some(text) = results.next().await? {
        let found: Found<'_> = serde_json::from_slice(&text).map_err(|error| results.strange(error.to_string()))?;
        for leaf in found.docs {
            if let Some(document) = leaf.ok {
                let peek = Peek::read(document).map_err(|error| results.strange(error.to_string()))?;
                if peek.attachments().is_some() {
                    apart.entry(peek.id).or_default().push(peek.revision);
                    continue;
                }
                bytes += document.get().len();
                batch.push(Written { id: peek.id, revision: peek.revision, text: document.get().to_owned() });
                if bytes >= WRITE_BYTES {
                    write(job, &std::mem::take(&mut batch), &mut copied).await?;
                    bytes = 0;
                }
            } else if let Some(error) = leaf.error {
                match error.is_gone() {
                    true => copied.vanished += 1,
                    false => {
                        let reason = format!("the source says {}: {}", error.error, error.reason);
                        copied.refuse(&found.id, error.rev.as_str().unwrap_or_default(), &reason);
                    }
                }
            }
        }
    }
    results.rest()?;
    write(job, &batch, &mut copied).await?;
    Ok((copied, apart))
}

/// A leaf on its way.
struct Written {
    id: String,
    revision: String,
    text: String,
}

/// Writes leaves. Where the target refuses the whole request for the sake of one, the halves are tried.
async fn write(job: &Job, leaves: &[Written], copied: &mut Copied) -> Result<(), Failure> {
    let path = format!("/{}/_bulk_docs", escaped(&job.database));
    let mut waiting = vec![leaves];
    while let Some(leaves) = waiting.pop().filter(|leaves| !leaves.is_empty()) {
        let texts: Vec<&str> = leaves.iter().map(|leaf| leaf.text.as_str()).collect();
        let body = Bytes::from(format!("{{\"new_edits\":false,\"docs\":[{}]}}", texts.join(",")));
        match job.target.json("POST", &path, Some(body)).await {
            Ok(rows) => {
                copied.revisions += leaves.len() as u64;
                for row in rows.as_array().into_iter().flatten().filter(|row| row.get("error").is_some()) {
                    let text = |member: &str| row[member].as_str().unwrap_or_default();
                    copied.revisions = copied.revisions.saturating_sub(1);
                    copied.refuse(text("id"), text("rev"), &format!("{}: {}", text("error"), text("reason")));
                }
            }
            Err(failure) => match (failure.refusal(), leaves) {
                (Some(reason), [leaf]) => copied.refuse(&leaf.id, &leaf.revision, &reason),
                (Some(_), leaves) => {
                    let (first, second) = leaves.split_at(leaves.len() / 2);
                    waiting.extend([first, second]);
                }
                (None, _) => return Err(failure),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{LEAVES, chunks};

    #[test]
    fn leaves_of_one_document_stay_together() {
        let leaf = |id: usize, revision: usize| (format!("d{id}"), format!("1-{revision}"));
        let mut leaves: Vec<_> = (0..LEAVES - 1).map(|id| leaf(id, 0)).collect();
        leaves.extend((0..5).map(|revision| leaf(LEAVES, revision)));
        leaves.push(leaf(LEAVES + 1, 0));
        let lengths: Vec<usize> = chunks(&leaves).into_iter().map(<[_]>::len).collect();
        assert_eq!(lengths, [LEAVES + 4, 1]);
        assert!(chunks(&[]).is_empty());
    }
}
