//! Plays recorded CouchDB conversations against a running server and reports the first difference of each.
//!
//! The format is described in `tests/recordings/README.md`. This is the player only: it never records, and it decides
//! nothing about Settle. Reading order: `conversation` (the file), `player` (the steps), `outgoing` and `answer`
//! (bodies both ways), `pattern` (what fits), with `variables` and `json` below them.

mod answer;
mod conversation;
mod json;
mod outgoing;
mod pattern;
mod player;
mod variables;

pub(crate) use conversation::Conversation;
pub(crate) use player::play;

/// Why a step did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    /// The server's answer differs from the recorded one.
    Mismatch(String),
    /// The conversation file itself is wrong; no retry and no alternative helps.
    BadRecording(String),
}

impl Difference {
    fn mismatch(message: impl Into<String>) -> Self {
        Self::Mismatch(message.into())
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::BadRecording(message.into())
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mismatch(message) => out.write_str(message),
            Self::BadRecording(message) => write!(out, "the recording is wrong: {message}"),
        }
    }
}

/// The beginning of a text, for messages.
fn shorten(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}
