//! One recorded conversation as it stands in its file.
//!
//! Words that the format does not have are refused, so that a misspelt expectation cannot pass unnoticed.

use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::json::{Json, Members};

/// A conversation: steps to be played in order against an empty server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Conversation {
    pub(crate) title: String,
    #[serde(rename = "about")]
    _about: String,
    /// Abilities without which a server cannot take part, such as `javascript`.
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    /// Settings that differ from CouchDB's defaults: `section/key` and value.
    #[serde(default)]
    pub(super) server_config: Members,
    /// Documents outside the conversation's databases, to be deleted afterwards.
    #[serde(default)]
    pub(super) cleanup: Vec<String>,
    pub(super) steps: Vec<Step>,
    /// The text of the file, to see which databases it names.
    #[serde(skip)]
    pub(super) source: String,
}

impl Conversation {
    /// Reads a file; the message of a failure names it.
    pub(crate) fn load(file: &Path) -> Result<Self, String> {
        let describe = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let source = std::fs::read_to_string(file).map_err(|error| describe(&error))?;
        let conversation = serde_json::from_str(&source).map_err(|error| describe(&error))?;
        Ok(Self { source, ..conversation })
    }

    /// Whether it changes settings of the whole server, so that nothing else may run beside it.
    pub(crate) fn changes_settings(&self) -> bool {
        self.server_config.len() > 0
    }

    /// Leaves out the steps of this name. `false`: there is none.
    pub(crate) fn leave_out(&mut self, step: &str) -> bool {
        let before = self.steps.len();
        self.steps.retain(|known| known.name != step);
        self.steps.len() < before
    }

    pub(crate) fn step_count(&self) -> usize {
        self.steps.len()
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    #[serde(default)]
    pub(super) name: String,
    /// Left as JSON: variables are filled in when the step is played.
    pub(super) request: Option<Json>,
    #[serde(default)]
    pub(super) expect: Expect,
    /// Variable → JSON pointer or `header:NAME`.
    #[serde(default)]
    pub(super) capture: Members,
    pub(super) save_cookie: Option<String>,
    pub(super) wait_ms: Option<u64>,
    pub(super) retry_ms: Option<u64>,
    pub(super) start: Option<String>,
    pub(super) finish: Option<String>,
    pub(super) read: Option<ReadUntil>,
}

/// When to stop reading a feed that does not end.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadUntil {
    /// Number of lines that are not empty.
    pub(super) lines: Option<usize>,
    /// Milliseconds.
    pub(super) ms: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) status: Option<Status>,
    #[serde(default)]
    pub(super) headers: Members,
    /// `null` is a body that is expected to be `null`, not a body that is not looked at.
    #[serde(default, deserialize_with = "present")]
    pub(super) json: Option<Json>,
    pub(super) lines: Option<Json>,
    pub(super) events: Option<Json>,
    pub(super) multipart: Option<Json>,
    pub(super) text: Option<String>,
    pub(super) base64: Option<String>,
    /// The least number of empty lines.
    pub(super) heartbeats: Option<usize>,
}

fn present<'de, Source: Deserializer<'de>>(source: Source) -> Result<Option<Json>, Source::Error> {
    Json::deserialize(source).map(Some)
}

/// One status, or several that are all right.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Status {
    One(u16),
    OneOf(Vec<u16>),
}

impl Status {
    pub(super) fn allows(&self, status: u16) -> bool {
        match self {
            Self::One(wanted) => *wanted == status,
            Self::OneOf(wanted) => wanted.contains(&status),
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(wanted) => write!(out, "{wanted}"),
            Self::OneOf(wanted) => write!(out, "one of {wanted:?}"),
        }
    }
}
