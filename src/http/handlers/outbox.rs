//! `/_outbox`: what became of messages with links, and of events that a webhook refused. What a message carries is never shown.

use std::ops::ControlFlow;

use serde_json::{Value, json};
use settle_protocol::{Error, ErrorKind};

use super::Handled;
use super::account_changes::{Listed, act, desk_of, listed};
use super::accounts::text_of;
use super::database::object_or_empty;
use crate::accounts::event_cursors::{self, Aside};
use crate::accounts::outbox::{self, Message, MessageId, Refused, State};
use crate::documents::administration::charge_of;
use crate::documents::error::DocumentError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{Snapshot, StorageResult, hex, unhex};

/// A message as those see it who manage its account. One that waits for nothing, because its link is over, is told as what it is
/// about to become.
fn shown(snapshot: &Snapshot<'_>, id: MessageId, message: &Message, now: u64) -> StorageResult<Value> {
    let over = match message.state {
        State::Waiting => message.over(snapshot, now)?,
        _ => None,
    };
    let time = |time: u64| (time > 0).then_some(time);
    Ok(json!({
        "id": hex(&id),
        "kind": "link",
        "account": message.account,
        "to": {"name": message.to.name, "phone": message.to.phone, "email": message.to.email},
        "locale": message.to.locale,
        "state": over.map_or(message.state, |_| State::Cancelled).word(),
        "attempts": message.attempts,
        "error": over.map(str::to_owned).or_else(|| message.error.clone()),
        "next_try": if message.state == State::Waiting && over.is_none() { time(message.next) } else { None },
        "made": message.made,
        "by": message.by,
        "expires": message.expires,
        "ended": time(message.ended),
    }))
}

/// `GET /_outbox?state=…&account=…&limit=…&start_after=ID`: the newest first.
pub(super) fn list(context: &Context) -> Handled {
    let query = &context.request.query;
    let state = query.get("state");
    if let Some(state) = state.filter(|state| State::ALL.iter().all(|known| known.word() != *state)) {
        let words = State::ALL.map(State::word).join(", ");
        return Err(Error::bad_request(format!("`state` must be one of {words}, not {state}.")).into());
    }
    let after = match query.get("start_after") {
        None => None,
        Some(id) => Some(unhex(id).ok_or_else(|| Error::bad_request("`start_after` must be the id of a message."))?),
    };
    let limit = listed(context)?;
    let snapshot = context.services.store.snapshot();
    let (charge, now) = (charge_of(&snapshot, &context.caller)?, context.services.clock.now());
    let mut rows = Listed::new(limit);
    outbox::list(&snapshot, after, |id, message| {
        if query.get("account").is_some_and(|account| account != message.account) {
            return Ok(ControlFlow::Continue(()));
        }
        if !charge.covers_named(&snapshot, &message.account)? {
            return Ok(ControlFlow::Continue(()));
        }
        let message = shown(&snapshot, id, &message, now)?;
        if state.is_some_and(|state| message["state"] != state) {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(rows.add(message))
    })?;
    let mut answer = rows.answer("id");
    answer["gateway"] = context.services.outbox.key().is_some().into();
    if context.caller.is_operator() {
        answer["webhooks"] = webhooks(context, &snapshot)?;
    }
    Ok(Answer::json(200, answer.to_string()))
}

/// Events set aside that are shown of one webhook.
const MOST_ASIDE: usize = 100;

/// The name of an event that a webhook refused.
fn aside_id(webhook: &str, number: u64) -> String {
    format!("{webhook}:{number}")
}

/// An event that was set aside, as operators see it.
fn aside_shown(webhook: &str, number: u64, aside: &Aside) -> Value {
    json!({"id": aside_id(webhook, number), "number": number, "event": aside.action, "attempts": aside.attempts,
        "error": aside.error, "since": aside.since, "state": if aside.again { "waiting" } else { "set_aside" }})
}

/// How far each event webhook is, for operators.
fn webhooks(context: &Context, snapshot: &Snapshot<'_>) -> StorageResult<Value> {
    let head = crate::audit::head(snapshot)?.number;
    let mut rows = Vec::new();
    for webhook in &context.services.outbox.webhooks {
        let cursor = event_cursors::find(snapshot, &webhook.name)?.unwrap_or_default();
        let asides = event_cursors::asides(snapshot, &webhook.name)?;
        let shown = asides.iter().take(MOST_ASIDE).map(|(number, aside)| aside_shown(&webhook.name, *number, aside));
        rows.push(json!({
            "name": webhook.name, "events": webhook.events, "told": cursor.number, "head": head,
            "attempts": cursor.attempts, "error": cursor.error, "next_try": (cursor.next > 0).then_some(cursor.next),
            "set_aside": asides.len(), "aside": shown.collect::<Vec<_>>(),
        }));
    }
    Ok(rows.into())
}

impl From<Refused> for DocumentError {
    fn from(error: Refused) -> Self {
        match error {
            Refused::State(why) => Error::new(ErrorKind::Conflict, why).into(),
            Refused::Storage(error) => error.into(),
        }
    }
}

/// What can be done with a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Retry,
    Cancel,
}

/// `POST /_outbox/ID/retry`, `/cancel`: tries a message again at once, or calls it off and ends its link.
pub(super) async fn change(context: &mut Context, change: Act) -> Handled {
    let body = object_or_empty(context).await?;
    if let Some((webhook, number)) = event_in(context, change) {
        return retry_event(context, webhook, number, text_of(&body, "reason")?).await;
    }
    let id: Option<MessageId> = unhex(context.request.segment(1));
    let id = id.ok_or_else(Error::missing)?;
    let desk = desk_of(context, None, text_of(&body, "reason")?)?;
    let now = context.services.clock.now();
    let message = act(context, desk, move |batch, desk| {
        let message = outbox::find(batch, id)?.ok_or_else(Error::missing)?;
        desk.require_account(batch, &message.account)?;
        match change {
            Act::Retry => outbox::retry(batch, id, &message, &desk.actor)?,
            Act::Cancel => outbox::cancel(batch, id, &message, &desk.actor)?,
        }
        Ok(outbox::find(batch, id)?.unwrap_or_default())
    })
    .await?;
    let snapshot = context.services.store.snapshot();
    let shown = shown(&snapshot, id, &message, now)?;
    Ok(Answer::json(200, json!({"ok": true, "message": shown}).to_string()))
}

/// The event that an operator wants tried again: `WEBHOOK:NUMBER`.
fn event_in(context: &Context, change: Act) -> Option<(String, u64)> {
    (matches!(change, Act::Retry) && context.caller.is_operator()).then_some(())?;
    let (webhook, number) = context.request.segment(1).rsplit_once(':')?;
    Some((webhook.to_owned(), number.parse().ok()?))
}

/// Lets an event that was set aside be tried once more.
async fn retry_event(context: &mut Context, webhook: String, number: u64, reason: Option<String>) -> Handled {
    let desk = desk_of(context, None, reason)?;
    let name = webhook.clone();
    let again = act(context, desk, move |batch, desk| {
        let aside = event_cursors::aside(batch, &name, number)?.ok_or_else(Error::missing)?;
        Ok(event_cursors::try_again(batch, &name, number, aside, &desk.actor)?)
    });
    let shown = aside_shown(&webhook, number, &again.await?);
    Ok(Answer::json(200, json!({"ok": true, "message": shown}).to_string()))
}
