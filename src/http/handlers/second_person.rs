//! Orders that one person may not carry out alone, and `/_confirmations`: those that wait for a second one.

use serde_json::{Map, Value, json};

use super::Handled;
use crate::accounts::second_person::{self, Order, Verdict};
use crate::accounts::withdrawals::Actor;
use crate::audit;
use crate::documents::administration::charge_of;
use crate::documents::replacing::Attempt;
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{Batch, StorageError};

/// What of a body makes it the same order: everything but the reason.
pub(super) fn asked_in(body: &Map<String, Value>) -> String {
    let mut body = body.clone();
    body.remove("reason");
    Value::Object(body).to_string()
}

/// The order that a request is. `asked`: what its body asks for.
fn order_of(context: &Context, asked: &str) -> Order {
    let request = format!("{} /{}", context.request.method, context.request.segments.join("/"));
    let drain = context.request.query.get("drain").unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    for part in [request.as_str(), drain, asked] {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
    }
    Order { key: *hasher.finalize().as_bytes(), request }
}

/// Does something that may end rights, in one batch. What is too much for one person is taken back and waits for a second one.
/// `asked`: what the request's body asks for.
pub(super) async fn act_alone<T: Send + 'static>(
    context: &Context,
    asked: &str,
    actor: Actor,
    work: impl FnOnce(&mut Batch<'_>) -> Result<T, Attempt<T>> + Send + 'static,
) -> Result<T, HttpError> {
    let order = order_of(context, asked);
    let (same, by, limit) = (order.clone(), actor.clone(), context.services.duties.retirements_alone);
    let done = context.services.store.write(move |batch| -> Result<T, Attempt<T>> {
        let since = audit::head(batch)?.number;
        let done = work(batch)?;
        match second_person::judge(batch, &same, &by, limit, since)? {
            Verdict::Stays => Ok(done),
            Verdict::Waits(accounts) => Err(Attempt::Waits(accounts)),
        }
    });
    match done.await {
        Ok(done) => Ok(done),
        Err(Attempt::Tried(done)) => Ok(*done),
        Err(Attempt::Failed(error)) => Err(error.into()),
        Err(Attempt::Waits(accounts)) => Err(ask(context, order, actor, accounts).await?),
    }
}

/// Notes that an order waits, and gives the answer of whoever asked for it: nothing was changed.
async fn ask(context: &Context, order: Order, actor: Actor, accounts: Vec<String>) -> Result<HttpError, StorageError> {
    let asked = context.services.store.write(move |batch| second_person::ask(batch, &order, &actor, accounts)).await?;
    let limit = context.services.duties.retirements_alone;
    let reason = format!(
        "Nothing was changed: one person may end the rights of {limit} within an hour. Somebody else who may do this must send \
         the same request within 7 days, until {} (in seconds since 1970); GET /_confirmations lists what waits.",
        asked.confirm_until
    );
    Ok(HttpError { status: 409, word: "second_person_needed", reason, retry_after: None, allow: None })
}

/// `GET /_confirmations`: orders that wait for a second person, as far as all their accounts are in the caller's charge.
pub(super) fn list(context: &Context) -> Handled {
    let snapshot = context.services.store.snapshot();
    let charge = charge_of(&snapshot, &context.caller)?;
    let mut rows = Vec::new();
    for waiting in second_person::list(&snapshot, context.services.clock.now())? {
        let mut covered = true;
        for account in &waiting.accounts {
            covered &= charge.covers_named(&snapshot, account)?;
        }
        if covered {
            let mut row = serde_json::to_value(&waiting).unwrap_or_default();
            row["yours"] = (waiting.asked_by == context.by()).into();
            rows.push(row);
        }
    }
    Ok(Answer::json(200, json!({"waiting": rows}).to_string()))
}
