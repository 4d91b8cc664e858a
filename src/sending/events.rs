//! Tells a server what happened, in the order of the audit log: one entry at a time, the next when the one before was taken.
//!
//! How far it is stands in the store, so nothing is skipped over a restart. A server that is not there is asked again for ever, at
//! most once an hour. One that is there and refuses the same event as often as configured is told the later ones: the event is set
//! aside, and tried again when somebody asks for it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::Said;
use super::pace::next_try;
use super::webhook::Webhook;
use crate::accounts::event_cursors::{self, Aside, Cursor, event_id};
use crate::audit::{self, Numbered};
use crate::config::sending::EventWebhook;
use crate::http::client::ClientError;
use crate::services::Services;
use crate::storage::{StorageError, StorageResult};

/// How often the log is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Entries that concern nobody after which the place is kept all the same.
const KEPT_AFTER: u64 = 1_000;

/// Who is told.
pub(super) struct Listener {
    config: EventWebhook,
    webhook: Webhook,
}

impl Listener {
    pub(super) fn open(config: &EventWebhook) -> Result<Self, ClientError> {
        Ok(Self { webhook: Webhook::open(&config.target, config.pace.timeout)?, config: config.clone() })
    }

    /// How far it is.
    pub(super) async fn cursor(&self, services: &Services) -> StorageResult<Cursor> {
        let name = self.config.name.clone();
        services.store.write(move |batch| event_cursors::open(batch, &name)).await
    }
}

/// Tells until it is dropped.
pub(super) async fn tell(services: Arc<Services>, listener: Listener, mut cursor: Cursor) {
    loop {
        if let Err(error) = follow(&services, &listener, &mut cursor).await {
            tracing::warn!(%error, webhook = listener.config.name, "the audit log could not be followed; trying again");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells everything that is new, and what was set aside when somebody asks for it.
async fn follow(services: &Services, listener: &Listener, cursor: &mut Cursor) -> StorageResult<()> {
    let mut kept = cursor.number;
    loop {
        tell_again(services, listener).await?;
        if cursor.next > services.clock.now() {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let (found, last) = next(services, listener, cursor.number).await?;
        let Some(event) = found else {
            cursor.number = last;
            if last >= kept + KEPT_AFTER {
                kept = last;
                keep(services, listener, cursor).await?;
            }
            tokio::time::sleep(LOOK).await;
            continue;
        };
        *cursor = told(services, listener, event, cursor).await?;
        kept = cursor.number;
    }
}

/// One more try of each event that was set aside and is asked for.
async fn tell_again(services: &Services, listener: &Listener) -> StorageResult<()> {
    let name = &listener.config.name;
    for (number, aside) in event_cursors::asides(&services.store.snapshot(), name)? {
        if !aside.again {
            continue;
        }
        let (event, _) = audit::next(&services.store.snapshot(), number - 1, |_| true)?;
        // After a restore the log may have another entry there: what was set aside is told nobody any more.
        let failed = match event.filter(|event| event.number == number && event_id(event) == aside.id) {
            Some(event) => failure_of(post(services, listener, &event).await),
            None => None,
        };
        let name = name.clone();
        let noted = services.store.write(move |batch| -> StorageResult<()> {
            match failed {
                None => event_cursors::forget_aside(batch, &name, number),
                Some(Failure { why, .. }) => {
                    let attempts = aside.attempts.saturating_add(1);
                    event_cursors::put_aside(
                        batch,
                        &name,
                        number,
                        &Aside { again: false, attempts, error: why, ..aside },
                    );
                }
            }
            Ok(())
        });
        noted.await?;
    }
    Ok(())
}

async fn next(services: &Services, listener: &Listener, after: u64) -> StorageResult<(Option<Numbered>, u64)> {
    if audit::head(&services.store.snapshot())?.number <= after {
        return Ok((None, after));
    }
    let (store, events) = (services.store.clone(), listener.config.events.clone());
    let wanted = move |entry: &audit::Entry| events.iter().any(|event| entry.is(event));
    let found = tokio::task::spawn_blocking(move || audit::next(&store.snapshot(), after, wanted));
    found.await.map_err(|_| StorageError::Panicked)?
}

/// Why an event was not taken.
struct Failure {
    why: String,
    /// How long the server wants to be left alone, in seconds, if it says.
    asked: Option<u64>,
    /// It is there, and did not take this event.
    refused: bool,
}

fn failure_of(said: Said) -> Option<Failure> {
    match said {
        Said::Taken => None,
        Said::Refused(why) => Some(Failure { why, asked: None, refused: true }),
        Said::Failed(why, asked) => Some(Failure { why, asked, refused: true }),
        Said::Later(why, asked) => Some(Failure { why, asked, refused: false }),
    }
}

async fn post(services: &Services, listener: &Listener, event: &Numbered) -> Said {
    let id = event_id(event);
    let body = json!({"id": id, "webhook": listener.config.name, "number": event.number, "event": event.entry});
    listener.webhook.post(&id, body.to_string(), services.clock.now()).await
}

/// One try of the next event. Gives how far the webhook is afterwards, which is kept.
async fn told(services: &Services, listener: &Listener, event: Numbered, cursor: &Cursor) -> StorageResult<Cursor> {
    let name = listener.config.name.clone();
    let Some(Failure { why, asked, refused }) = failure_of(post(services, listener, &event).await) else {
        let told = Cursor { number: event.number, ..Cursor::default() };
        keep(services, listener, &told).await?;
        return Ok(told);
    };
    let (number, now) = (event.number, services.clock.now());
    let attempts = cursor.attempts.saturating_add(1);
    let refusals = cursor.refusals.saturating_add(u32::from(refused));
    if refusals >= listener.config.pace.attempts {
        tracing::warn!(webhook = name, number, why, "an event was refused too often and set aside");
        let set_aside =
            services.store.write(move |batch| event_cursors::set_aside(batch, &name, &event, attempts, &why, now));
        return set_aside.await;
    }
    tracing::warn!(webhook = name, number, why, "an event was not told yet");
    let next = next_try(&listener.config.pace, attempts, asked, now);
    // Everything before this event is behind it, whether it was told or does not concern anybody.
    let waiting = Cursor { number: number - 1, attempts, refusals, error: Some(why), next };
    keep(services, listener, &waiting).await?;
    Ok(waiting)
}

async fn keep(services: &Services, listener: &Listener, cursor: &Cursor) -> StorageResult<()> {
    let (name, cursor) = (listener.config.name.clone(), cursor.clone());
    services
        .store
        .write(move |batch| -> StorageResult<()> {
            event_cursors::keep(batch, &name, &cursor);
            Ok(())
        })
        .await
}
