//! Tells a server what happened, in the order of the audit log: one entry at a time, the next when the one before was taken.
//!
//! How far it is stands in the store, so nothing is skipped over a restart. Nothing is given up either: a server that refuses is
//! asked again, at most once an hour.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::Said;
use super::pace::next_try;
use super::webhook::Webhook;
use crate::accounts::event_cursors::{self, Cursor};
use crate::audit::{self, Numbered};
use crate::config::sending::EventWebhook;
use crate::http::client::ClientError;
use crate::services::Services;
use crate::storage::{StorageError, StorageResult, hex};

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

/// Tells everything that is new.
async fn follow(services: &Services, listener: &Listener, cursor: &mut Cursor) -> StorageResult<()> {
    let mut kept = cursor.number;
    loop {
        let now = services.clock.now();
        if cursor.next > now {
            tokio::time::sleep(Duration::from_secs(cursor.next - now)).await;
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
        *cursor = told(services, listener, &event, cursor).await;
        kept = cursor.number;
        keep(services, listener, cursor).await?;
    }
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

/// One try. Gives how far the webhook is afterwards.
async fn told(services: &Services, listener: &Listener, event: &Numbered, cursor: &Cursor) -> Cursor {
    let id = hex(&event.hash[..16]);
    let body = json!({"id": id, "webhook": listener.config.name, "number": event.number, "event": event.entry});
    let said = listener.webhook.post(&id, body.to_string(), services.clock.now()).await;
    let (why, asked) = match said {
        Said::Taken => return Cursor { number: event.number, ..Cursor::default() },
        Said::Refused(why) => (why, None),
        Said::Later(why, asked) => (why, asked),
    };
    tracing::warn!(webhook = listener.config.name, number = event.number, why, "an event was not told yet");
    let attempts = cursor.attempts.saturating_add(1);
    let next = next_try(&listener.config.pace, attempts, asked, services.clock.now());
    // Everything before this event is behind it, whether it was told or does not concern anybody.
    Cursor { number: event.number - 1, attempts, error: Some(why), next }
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
