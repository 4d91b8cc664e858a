//! What leaves the server by itself: messages with links, through a gateway (`messages.rs`), and news of the audit log, to webhooks
//! (`events.rs`).
//!
//! It runs beside the requests and is waited for by none of them: what is to be sent stands in the store, each try takes a short
//! turn on the writer before it and one behind it, and holds nothing in between. Everything is sent at least once, and after a
//! crash perhaps twice, with the same id.

mod command;
mod events;
mod messages;
mod pace;
mod spool;
mod webhook;

use std::sync::Arc;

use crate::services::Services;

/// Sends until what it gives is dropped. Whatever happens once it has returned is told to event webhooks.
///
/// # Errors
/// When an address of the configuration is none, or the store fails.
pub async fn start(services: &Arc<Services>) -> anyhow::Result<tokio::task::JoinSet<()>> {
    let mut running = tokio::task::JoinSet::new();
    running.spawn(messages::send(Arc::clone(services), messages::Gateway::open(&services.outbox.config)?));
    for webhook in &services.outbox.webhooks {
        let listener = events::Listener::open(webhook)?;
        let cursor = listener.cursor(services).await?;
        running.spawn(events::tell(Arc::clone(services), listener, cursor));
    }
    Ok(running)
}

/// What a gateway says to one try.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// It has it.
    Taken,
    /// It will never take it; why.
    Refused(String),
    /// It could not take this one, perhaps others; why, and how many seconds it wants to be left alone, if it says.
    Failed(String, Option<u64>),
    /// Not now, whatever it is; why, and how many seconds it wants to be left alone, if it says.
    Later(String, Option<u64>),
}
