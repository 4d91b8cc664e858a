//! What the outbox needs while the server runs: how messages leave, and the key that seals their links.
//!
//! The key is in a file beside the data folder, not in it: a copy of the data, a backup among them, opens no link. It is made when a
//! gateway is first configured.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::history::beside;
use crate::accounts::outbox::{SealingKey, Staging};
use crate::audit::actions;
use crate::clock::random;
use crate::config::Config;
use crate::config::sending::{self, EventWebhook};
use crate::storage::{hex, unhex};

/// How messages leave.
pub struct Outbox {
    /// As configured.
    pub config: sending::Outbox,
    /// Who is told of what in the audit log.
    pub webhooks: Vec<EventWebhook>,
    key: Option<SealingKey>,
}

impl Outbox {
    /// Reads or makes the key, if there is a gateway.
    ///
    /// # Errors
    /// When the file can be neither read nor made, or is none; or a webhook wants an event that there is none of.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        for webhook in &config.event_webhooks {
            check_events(webhook)?;
        }
        let key = match &config.outbox.gateway {
            Some(_) => Some(read_key(&key_path(&config.data, config.outbox_key.as_deref())?)?),
            None => None,
        };
        Ok(Self { config: config.outbox.clone(), webhooks: config.event_webhooks.clone(), key })
    }

    /// What staging a message needs; nothing: there is no gateway. `base`: what the link's address begins with.
    #[must_use]
    pub fn staging(&self, base: String) -> Option<Staging> {
        self.key.clone().map(|key| Staging { key, base })
    }

    /// Whether a webhook wants to be told of this action.
    #[must_use]
    pub fn is_told(&self, action: &str) -> bool {
        self.webhooks.iter().flat_map(|webhook| &webhook.events).any(|event| actions::is_called(action, event))
    }

    /// The key that opens tokens; nothing: there is no gateway.
    #[must_use]
    pub const fn key(&self) -> Option<&SealingKey> {
        self.key.as_ref()
    }
}

/// A word that names no action would never be told.
fn check_events(webhook: &EventWebhook) -> anyhow::Result<()> {
    let unknown = webhook.events.iter().find(|event| !actions::is_known(event));
    match unknown {
        None => Ok(()),
        Some(event) => anyhow::bail!(
            "[event_webhooks.{}] events: there is no {event:?}. There are {}; the part before a dot stands for all that begin with it.",
            webhook.name,
            actions::ACTIONS.join(", ")
        ),
    }
}

fn key_path(data: &Path, configured: Option<&Path>) -> anyhow::Result<PathBuf> {
    match configured {
        Some(path) => Ok(path.to_owned()),
        None => beside(data, ".outbox-key").context("name a file for the outbox's key with `[settle] outbox_key`"),
    }
}

fn read_key(path: &Path) -> anyhow::Result<SealingKey> {
    let shown = path.display();
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let key = unhex(text.trim()).with_context(|| format!("{shown} is no key of 64 hex digits"))?;
            Ok(SealingKey::new(key))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = random();
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            let mut file = made.with_context(|| format!("cannot make the outbox's key {shown}"))?;
            writeln!(file, "{}", hex(&key)).and_then(|()| file.sync_all())?;
            Ok(SealingKey::new(key))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read the outbox's key {shown}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_for_its_owner_only_and_a_broken_one_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = key_path(&folder.path().join("data"), None).expect("a path");
        assert_eq!(path, folder.path().join("data.outbox-key"));
        let key = read_key(&path).expect("made");
        assert!(key == read_key(&path).expect("read"));
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "abc").expect("written");
        assert!(read_key(&path).expect_err("broken").to_string().contains("no key"));
    }
}
