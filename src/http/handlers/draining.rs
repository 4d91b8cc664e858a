//! The feed of a draining device, and of somebody who only manages accounts: it gives back `since` and never says anything, not
//! even how long the log is. A refusal would make PouchDB's `sync()` give up its push half, and an answer at once would make
//! clients ask again without a pause (protocol page §4.8).

use std::io;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use settle_protocol::changes::{ChangesOptions, Feed};
use settle_protocol::sequence::{Since, StartingPoint};

use super::Handled;
use crate::accounts::guard::Guard;
use crate::http::pipeline::Context;
use crate::http::response::Answer;

/// `_changes` of a device that may only push, or of a caller who sees no document.
pub(super) fn changes(context: &Context, options: &ChangesOptions) -> Handled {
    let since = Value::from(since_of(context, &options.since)?).to_string();
    let tail = match options.feed {
        Feed::Normal | Feed::Longpoll => format!("\n],\n\"last_seq\":{since},\"pending\":0}}\n\n"),
        Feed::Continuous => format!("{{\"last_seq\":{since},\"pending\":0}}\n"),
        Feed::EventSource => String::new(),
    };
    let head = match options.feed {
        Feed::Normal | Feed::Longpoll => "{\"results\":[\n",
        Feed::Continuous | Feed::EventSource => "",
    };
    if options.feed == Feed::Normal || options.descending {
        return Ok(Answer::json(200, format!("{head}{tail}")));
    }
    let held = Held {
        head: Some(head),
        tail: Some(tail),
        guard: context.caller.pass.clone().map(|pass| Guard::new(&context.services.store, pass)),
        heartbeat: match options.feed {
            Feed::EventSource => b"event: heartbeat\ndata: \n\n",
            _ => b"\n",
        },
        beats: options.heartbeat_ms.is_some(),
        patience: options.heartbeat_ms.or(options.timeout_ms).map_or(Duration::MAX, Duration::from_millis),
        blind: context.view.is_blind(),
        services: std::sync::Arc::clone(&context.services),
    };
    let stream = futures::stream::try_unfold(held, |mut held| async move {
        Ok::<_, io::Error>(held.next().await.map_err(io::Error::other)?.map(|piece| (piece, held)))
    });
    let answer = Answer::stream(200, Box::pin(stream));
    Ok(match options.feed {
        Feed::EventSource => answer.content_type("text/event-stream").header("cache-control", "no-cache"),
        _ => answer,
    })
}

/// What the client sent, so that a device that comes back has skipped nothing. `now` is where the log stands.
fn since_of(context: &Context, since: &Since) -> Result<String, crate::http::error::HttpError> {
    let database = context.database()?;
    let sent = context.request.header("last-event-id").or_else(|| context.request.query.get_any_case("since"));
    Ok(match database.tokens.resolve(since) {
        StartingPoint::Now if context.view.is_blind() => "0".to_owned(),
        StartingPoint::Now => {
            let position = database.counters(&context.services.store.snapshot())?.position;
            database.tokens.token(position)
        }
        StartingPoint::After(_) => sent.unwrap_or("0").trim_matches('"').to_owned(),
    })
}

struct Held {
    head: Option<&'static str>,
    tail: Option<String>,
    guard: Option<Guard>,
    heartbeat: &'static [u8],
    beats: bool,
    patience: Duration,
    /// Its caller sees nothing for another reason than its standing: it ends when anything about the account changes.
    blind: bool,
    services: std::sync::Arc<crate::services::Services>,
}

impl Held {
    /// The next piece; `None` at the end: when the client's patience is over, or its standing changed.
    async fn next(&mut self) -> crate::storage::StorageResult<Option<Bytes>> {
        if let Some(head) = self.head.take().filter(|head| !head.is_empty()) {
            return Ok(Some(Bytes::from_static(head.as_bytes())));
        }
        if self.tail.is_none() {
            return Ok(None);
        }
        let waited = match &mut self.guard {
            Some(guard) => tokio::time::timeout(self.patience, guard.changed()).await,
            None => tokio::time::timeout(self.patience, std::future::pending()).await,
        };
        let still_drains = match &mut self.guard {
            _ if self.blind => waited.is_err(),
            Some(guard) => guard.judge(self.services.clock.now())?.pushes_only(),
            None => false,
        };
        match waited {
            _ if !still_drains => {}
            Ok(()) => return Ok(Some(Bytes::from_static(self.heartbeat))),
            Err(_) if self.beats => return Ok(Some(Bytes::from_static(self.heartbeat))),
            Err(_) => {}
        }
        Ok(self.tail.take().filter(|tail| !tail.is_empty()).map(Bytes::from))
    }
}
