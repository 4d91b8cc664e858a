//! Takes messages out of the outbox when they are due, a few at a time, and gives each to the gateway.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use super::pace::next_try;
use super::webhook::Webhook;
use super::{Said, command, spool};
use crate::accounts::link_texts::{self, Told};
use crate::accounts::outbox::{self, Message, MessageId, Outcome};
use crate::config::sending::{self, Outbox};
use crate::services::Services;
use crate::storage::{StorageResult, hex};

/// How often messages are looked for whose links are over, and those that may be forgotten.
const LOOK_SECONDS: u64 = 15;
/// Messages that are tidied away at a time.
const MOST_TIDIED: usize = 500;

/// What takes messages.
pub(super) enum Gateway {
    Webhook(Webhook),
    Command(Vec<String>, Duration),
    File(PathBuf, Arc<Mutex<()>>),
    None,
}

impl Gateway {
    pub(super) fn open(config: &Outbox) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(match &config.gateway {
            None => Self::None,
            Some(sending::Gateway::Webhook(target)) => Self::Webhook(Webhook::open(target, config.pace.timeout)?),
            Some(sending::Gateway::Command(command)) => Self::Command(command.clone(), config.pace.timeout),
            Some(sending::Gateway::File(path)) => Self::File(path.clone(), Arc::default()),
        }))
    }

    async fn give(self: Arc<Self>, id: MessageId, message: String, now: u64) -> Said {
        match &*self {
            Self::Webhook(webhook) => webhook.post(&hex(&id), message, now).await,
            Self::Command(command, timeout) => command::run(command, *timeout, &message).await,
            Self::File(path, turn) => {
                let (path, turn) = (path.clone(), Arc::clone(turn));
                let appended = tokio::task::spawn_blocking(move || spool::append(&path, &turn, &message));
                appended.await.unwrap_or_else(|error| Said::Later(format!("the file was not written: {error}"), None))
            }
            Self::None => Said::Later("there is no gateway".to_owned(), None),
        }
    }
}

/// Sends until it is dropped.
pub(super) async fn send(services: Arc<Services>, gateway: Arc<Gateway>) {
    let now = services.clock.now();
    if let Err(error) = services.store.write(move |batch| outbox::recover(batch, now)).await {
        tracing::warn!(%error, "what was being sent could not be looked up");
    }
    let mut staged = services.store.announcements().follow(outbox::TOPIC, 0);
    let mut running = JoinSet::new();
    let mut looked = 0;
    loop {
        staged.mark_unchanged();
        let now = services.clock.now();
        if now >= looked + LOOK_SECONDS {
            looked = now;
            if let Err(error) = tidy(&services, now).await {
                tracing::warn!(%error, "the outbox could not be tidied");
            }
        }
        let pause = match begin(&services, &gateway, &mut running).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "the outbox could not be read; trying again");
                LOOK_SECONDS
            }
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(pause)) => {}
            Ok(()) = staged.changed() => {}
            Some(_) = running.join_next() => {}
        }
    }
}

/// Begins to send what is due, as far as there are hands. Gives the seconds until there may be more to do.
async fn begin(services: &Arc<Services>, gateway: &Arc<Gateway>, running: &mut JoinSet<()>) -> StorageResult<u64> {
    while running.try_join_next().is_some() {}
    let free = services.outbox.config.pace.at_once.saturating_sub(running.len());
    if matches!(**gateway, Gateway::None) || free == 0 {
        return Ok(LOOK_SECONDS);
    }
    let now = services.clock.now();
    let due = outbox::due(&services.store.snapshot(), now, free)?;
    let full = due.len() == free;
    if !due.is_empty() {
        let claimed = services.store.write(move |batch| -> StorageResult<Vec<(MessageId, Message)>> {
            let mut claimed = Vec::new();
            for id in due {
                claimed.extend(outbox::claim(batch, id, now)?.map(|message| (id, message)));
            }
            Ok(claimed)
        });
        for (id, message) in claimed.await? {
            running.spawn(attempt(Arc::clone(services), Arc::clone(gateway), id, message));
        }
    }
    if full {
        // Those that were not claimed left hands free.
        return Ok(if running.len() < services.outbox.config.pace.at_once { 0 } else { LOOK_SECONDS });
    }
    let next = outbox::next_due(&services.store.snapshot())?;
    Ok(next.map_or(LOOK_SECONDS, |next| next.saturating_sub(now).clamp(1, LOOK_SECONDS)))
}

/// One try.
async fn attempt(services: Arc<Services>, gateway: Arc<Gateway>, id: MessageId, message: Message) {
    let config = &services.outbox.config;
    let now = services.clock.now();
    let token = services.outbox.key().and_then(|key| message.token(id, key));
    let said = match token {
        Some(token) => gateway.give(id, body_of(config, id, &message, &token, now), now).await,
        None => Said::Refused("its link was sealed with another key: make a new one".to_owned()),
    };
    let now = services.clock.now();
    let outcome = match said {
        Said::Taken => Outcome::Delivered,
        Said::Refused(why) => Outcome::Refused(why),
        Said::Failed(why, asked) | Said::Later(why, asked) => {
            let tries = message.attempts - message.forgiven;
            Outcome::Again(why, next_try(&config.pace, tries, asked, now))
        }
    };
    let (shown, account) = (hex(&id), message.account.as_str());
    match &outcome {
        Outcome::Delivered => tracing::info!(message = shown, account, "a link was sent"),
        Outcome::Refused(why) => tracing::warn!(message = shown, account, why, "a link was not sent"),
        Outcome::Again(why, _) => tracing::warn!(message = shown, account, why, "a link was not sent yet"),
    }
    let (attempt, most) = (message.attempts, config.pace.attempts);
    loop {
        let outcome = outcome.clone();
        let noted = services.store.write(move |batch| outbox::finish(batch, id, attempt, outcome, most, now)).await;
        match noted {
            Ok(()) => return,
            // Until it is noted it must not be tried again.
            Err(error) => tracing::warn!(%error, message = shown, "what became of a message could not be noted"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// What a gateway gets. The same at each try, but for the hours that are left.
fn body_of(config: &Outbox, id: MessageId, message: &Message, token: &str, now: u64) -> String {
    let link = format!("{}/_links/{token}", message.base);
    let to = &message.to;
    let locales: Vec<&str> = to.locale.iter().chain(&config.locale).map(String::as_str).collect();
    let name = to.name.as_deref().unwrap_or(&message.account);
    let told = Told { name, link: &link, expires: message.expires, now };
    let body = json!({
        "id": hex(&id),
        "kind": "link",
        "account": message.account,
        "to": {"name": to.name, "phone": to.phone, "email": to.email},
        "locale": to.locale,
        "text": link_texts::message(&config.texts, &locales, told),
        "link": link,
        "expires": message.expires,
    });
    body.to_string()
}

/// Cancels what waits with a link that is over, and forgets what was over long ago.
async fn tidy(services: &Services, now: u64) -> StorageResult<()> {
    let store = services.store.clone();
    let found = tokio::task::spawn_blocking(move || {
        let snapshot = store.snapshot();
        let outdated = outbox::outdated(&snapshot, now, MOST_TIDIED)?;
        StorageResult::Ok((outdated, outbox::forgettable(&snapshot, now, MOST_TIDIED)?))
    });
    let (outdated, old) = found.await.map_err(|_| crate::storage::StorageError::Panicked)??;
    if outdated.is_empty() && old.is_empty() {
        return Ok(());
    }
    services
        .store
        .write(move |batch| -> StorageResult<()> {
            for id in outdated {
                outbox::tidy(batch, id, now)?;
            }
            for id in old {
                outbox::forget(batch, id);
            }
            Ok(())
        })
        .await
}
