//! Scoped databases: what stewards decide (escrow, moves), and what a device asks about what it holds.

use serde_json::{Value, json};
use settle_protocol::Error;
use settle_protocol::document::DocumentWriter;
use settle_protocol::sequence::Position;

use super::Handled;
use super::database::object_or_empty;
use crate::access::scope::Scope;
use crate::access::view::Restricted;
use crate::audit;
use crate::documents::error::DocumentError;
use crate::documents::escrow::{self, ESCROW, EscrowKey, EscrowRow, held_for};
use crate::documents::moves::{self, move_contact, try_move};
use crate::documents::read;
use crate::documents::scopes;
use crate::documents::tables::DatabaseId;
use crate::documents::write::{Mode, Writing};
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::hex;
use crate::storage::{Read, Snapshot, StorageError, StorageResult};

/// Ids in one `_reconcile`.
const MOST_IDS: usize = 100_000;

/// `POST /db/_reconcile {"ids": […]}`: which of these the device should drop. What it never could see is not told apart from
/// what does not exist.
pub(super) async fn reconcile(context: &mut Context) -> Handled {
    context.request.require_json()?;
    let body = object_or_empty(context).await?;
    let ids = body.get("ids").and_then(Value::as_array);
    let ids = ids.ok_or_else(|| Error::bad_request("`ids` must be a list of document ids"))?;
    if ids.len() > MOST_IDS {
        return Err(Error::bad_request(format!("Ask about at most {MOST_IDS} ids at a time")).into());
    }
    let ids: Option<Vec<&str>> = ids.iter().map(Value::as_str).collect();
    let ids = ids.ok_or_else(|| Error::bad_request("`ids` must be a list of document ids"))?;
    let Some(restricted) = context.view.restricted() else {
        return Ok(Answer::json(200, json!({"drop": []}).to_string()));
    };
    let database = context.database()?.id();
    let snapshot = context.services.store.snapshot();
    let mut scopes = scopes::history(&snapshot, database, &restricted.account, 0)?;
    if restricted.scope.blind {
        // Whoever sees no document drops what a place of theirs once showed. Before it had any, it had nothing; to look there
        // would tell which forms there are.
        scopes.retain(|(scope, _)| !scope.reaches.is_empty());
    }
    let mut drop = Vec::new();
    for id in ids {
        if should_drop(&snapshot, database, restricted, &scopes, id)? {
            drop.push(id);
        }
    }
    Ok(Answer::json(200, json!({"drop": drop}).to_string()))
}

/// What is out of scope or deleted now, and this device may have: because its account saw it once, or the device sent it.
fn should_drop(
    snapshot: &Snapshot<'_>,
    database: DatabaseId,
    restricted: &Restricted,
    scopes: &[(Scope, Position)],
    id: &str,
) -> StorageResult<bool> {
    if !held_for(snapshot, database, id, &restricted.device)?.is_empty() {
        return Ok(false);
    }
    let decided = escrow::was_held_for(snapshot, database, id, &restricted.device)?;
    let Some(placement) = read::placement(snapshot, database, id)? else { return Ok(decided) };
    if restricted.scope.sees(&placement, None) {
        return Ok(read::document(snapshot, database, id)?.is_some_and(|row| row.tree.is_deleted()));
    }
    let brought = placement.brought.is_some_and(|(device, _)| device == restricted.device);
    Ok(decided || brought || scopes.iter().any(|(scope, end)| scope.saw(&placement, *end)))
}

fn row_of(number: u64, row: &EscrowRow) -> Value {
    json!({
        "number": number,
        "id": row.id,
        "rev": row.revision(),
        "deleted": row.deleted,
        "account": row.account,
        "device": hex(&row.device),
        "reason": row.reason.word(),
        "waiting_for": row.waiting_for,
        "received": row.received,
    })
}

/// `GET /db/_escrow`.
pub(super) fn list_escrow(context: &Context) -> Handled {
    let database = context.require_steward()?;
    let rows = escrow::list(&context.services.store.snapshot(), database.id())?;
    let rows: Vec<Value> = rows.iter().map(|(number, row)| row_of(*number, row)).collect();
    Ok(Answer::json(200, json!({"total_rows": rows.len(), "rows": rows}).to_string()))
}

fn number_of(context: &Context) -> Result<u64, Error> {
    context.request.segment(2).parse().map_err(|_| Error::missing())
}

/// `GET /db/_escrow/NUMBER`.
pub(super) fn read_escrow(context: &Context) -> Handled {
    let database = context.require_steward()?;
    let number = number_of(context)?;
    let snapshot = context.services.store.snapshot();
    let row = snapshot.get(&ESCROW, &EscrowKey(database.id(), number))?.ok_or_else(Error::missing)?;
    let Mode::Replicated { path } = row.write().mode else { return Err(Error::missing().into()) };
    let revision = path.first().ok_or_else(Error::missing)?;
    let mut text = row_of(number, &row).to_string().into_bytes();
    text.pop();
    text.extend_from_slice(b",\"doc\":");
    DocumentWriter::begin(&mut text, &row.id, revision, &row.body, row.deleted).end();
    text.push(b'}');
    Ok(Answer::json(200, text))
}

/// `POST /db/_escrow/NUMBER/accept`, `/discard`, `/reassign`.
pub(super) async fn decide(context: &mut Context) -> Handled {
    let database = context.require_steward()?;
    let number = number_of(context)?;
    let decision = context.request.segment(3).to_owned();
    let body = object_or_empty(context).await?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let (subject, parent) = (text("subject"), text("parent"));
    if !matches!(decision.as_str(), "accept" | "discard" | "reassign") {
        return Err(Error::not_found("Decide with accept, discard or reassign.").into());
    }
    if decision == "reassign" && subject.is_some() == parent.is_some() {
        return Err(Error::bad_request("Reassign to a `subject` (of a record) or a `parent` (of a contact).").into());
    }
    let author = context.author();
    let entry = context.entry(&format!("escrow.{decision}")).database(&database.name);
    let entry = entry.reason(text("reason").as_deref());
    let outcome = context.services.store.write(move |batch| -> Result<Value, DocumentError> {
        let mut writing = Writing::begin_as(batch, &database, author)?;
        let key = EscrowKey(writing.database(), number);
        let row = writing.batch.get(&ESCROW, &key)?.ok_or_else(Error::missing)?;
        let entry = entry.account(&row.account).device(&row.device).detail("number", number);
        audit::append(writing.batch, &entry.detail("why_held", row.reason.word()))?;
        if decision == "discard" {
            escrow::remove(writing.batch, database.id(), number, &row)?;
            writing.end()?;
            return Ok(json!({"ok": true, "id": row.id, "rev": row.revision()}));
        }
        let mut revision = writing.accept(number, &row)?;
        if decision == "reassign" {
            revision = match (&subject, &parent) {
                (Some(subject), _) => writing.set_subject(&row.id, &revision, subject)?,
                (None, Some(parent)) => move_contact(&mut writing, &row.id, parent, usize::MAX - 1)?.revision,
                (None, None) => revision,
            };
        }
        writing.end()?;
        Ok(json!({"ok": true, "id": row.id, "rev": revision.to_string()}))
    });
    let outcome = outcome.await?;
    Ok(Answer::json(200, outcome.to_string()))
}

/// `POST /db/_places/ID/move {"to": ID}`; with `dry_run=true` nothing changes and the answer says who would be affected.
pub(super) async fn move_place(context: &mut Context) -> Handled {
    let database = context.require_steward()?;
    let id = context.request.segment(2).to_owned();
    let body = object_or_empty(context).await?;
    let to = body.get("to").and_then(Value::as_str).map(str::to_owned);
    let to = to.ok_or_else(|| Error::bad_request("`to` must be the id of the place to move it below"))?;
    let most = context.settings.max_move_documents;
    let author = context.author();
    if context.request.query.flag("dry_run") {
        return dry_run(context, id, to, most).await;
    }
    let entry = context.entry("place.move").database(&database.name).place(&id).detail("to", to.as_str());
    let entry = entry.reason(body.get("reason").and_then(Value::as_str));
    let (store, moved_id) = (&context.services.store, id.clone());
    let ahead = moves::prepare_move(store, &database, author.clone(), &id, &to, most).await;
    let moved = store.write(move |batch| -> Result<_, DocumentError> {
        let mut writing = Writing::begin_as(batch, &database, author)?;
        let moved = match ahead.and_then(|ahead| writing.adopt(ahead)) {
            Some(moved) => moved,
            None => move_contact(&mut writing, &moved_id, &to, most)?,
        };
        audit::append(writing.batch, &entry.detail("documents", moved.documents))?;
        writing.end()?;
        Ok(moved)
    });
    let moved = moved.await?;
    let answer = json!({"ok": true, "id": id, "rev": moved.revision.to_string(), "moved": moved.documents});
    Ok(Answer::json(200, answer.to_string()))
}

async fn dry_run(context: &Context, id: String, to: String, most: usize) -> Handled {
    let database = context.database()?;
    let author = context.author();
    let store = context.services.store.clone();
    let tried = tokio::task::spawn_blocking(move || {
        store.rehearse(|batch| {
            let mut writing = Writing::begin_as(batch, &database, author)?;
            try_move(&mut writing, &id, &to, most)
        })
    });
    let (documents, affected) = tried.await.map_err(|_| StorageError::Panicked)??;
    let now = context.services.clock.now();
    let accounts = affected.iter().map(|affected: &moves::Affected| {
        let devices = affected.devices.iter().map(|(device, pulled)| {
            let ago = (*pulled > 0).then(|| now.saturating_sub(*pulled));
            json!({"device": hex(device), "last_pull_seconds_ago": ago})
        });
        let devices: Vec<Value> = devices.collect();
        json!({"name": affected.account, "gains": affected.gains, "loses": affected.loses, "devices": devices})
    });
    let accounts: Vec<Value> = accounts.collect();
    Ok(Answer::json(200, json!({"dry_run": true, "documents": documents, "accounts": accounts}).to_string()))
}
