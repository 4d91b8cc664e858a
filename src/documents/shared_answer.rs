//! One answer for all who wait for the same: ten thousand phones that are woken by one write read the log once.
//!
//! Only the last answer of a database is kept, and only for callers who see everything and ask for plain rows: then the
//! answer follows from the positions and a few switches.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use settle_protocol::changes::{ChangesOptions, Feed, Filter};
use settle_protocol::sequence::Position;

use super::error::DocumentResult;

/// What the rest of a woken longpoll follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    since: Position,
    end: Position,
    limit: Option<u64>,
    seq_interval: Option<u64>,
    all_leaves: bool,
    include_docs: bool,
    conflicts: bool,
}

impl Asked {
    /// For a longpoll that has sent no row so far; `None` when its answer also follows from something else.
    pub(super) fn of(options: &ChangesOptions, since: Position, end: Position) -> Option<Self> {
        let ChangesOptions { feed, limit, seq_interval, all_leaves, include_docs, conflicts, .. } = *options;
        let plain = matches!(options.filter, Filter::None) && !options.descending && !options.attachments;
        let asked = Self { since, end, limit, seq_interval, all_leaves, include_docs, conflicts };
        (plain && feed == Feed::Longpoll).then_some(asked)
    }
}

/// The last answer of a database that others may get too.
#[derive(Debug, Default)]
pub(super) struct SharedAnswer {
    last: Mutex<Option<(Asked, Bytes)>>,
}

impl SharedAnswer {
    /// The answer to this, made by `make` if it is not the last one; those who come meanwhile wait for it. `None` when
    /// `make` has none to share.
    ///
    /// # Errors
    /// What `make` returns.
    pub(super) fn get(
        &self,
        asked: Asked,
        make: impl FnOnce() -> DocumentResult<Option<Bytes>>,
    ) -> DocumentResult<Option<Bytes>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, answer)) = last.as_ref().filter(|(known, _)| *known == asked) {
            return Ok(Some(answer.clone()));
        }
        let answer = make()?;
        if let Some(answer) = &answer {
            *last = Some((asked, answer.clone()));
        }
        Ok(answer)
    }
}
