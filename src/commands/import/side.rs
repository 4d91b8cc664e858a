//! One side of an import, the source or the target: its connections, its patience, and its refusals in plain words.
//!
//! Everything an import asks may be asked again, so whatever passes by itself (a dropped connection, 429, 5xx) is tried
//! for about a minute. What does not pass becomes a [`Failure`] that says what to do.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::elements::{Elements, Overlong};
use crate::http::client::{Address, Client, ClientError, Reply, Request};

/// Waits between two tries, in milliseconds.
const WAITS: [u64; 8] = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000];
/// The most bytes of an answer that is read whole.
const WHOLE_ANSWER: usize = 256 << 20;
/// The most bytes of one document as text.
pub(super) const LARGEST_DOCUMENT: usize = 256 << 20;

/// Why an import cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No answer.
    #[error("{side} ({url}): {error}\n{}", hope(error))]
    Connection { side: &'static str, url: String, error: ClientError },
    /// An answer that is no success and was not expected.
    #[error("{side} ({url}) answered {what} with {status} {word}: {reason}\n{}", advice(side, *status))]
    Refused { side: &'static str, url: String, what: String, status: u16, word: String, reason: String },
    /// An answer that cannot be understood.
    #[error("{side} ({url}) did not answer {what} as CouchDB does: {why}")]
    Strange { side: &'static str, url: String, what: String, why: String },
    /// Something on this machine.
    #[error("{0}")]
    Here(String),
}

const AGAIN: &str = "Nothing is lost: run the same command again, it goes on from its last checkpoint.";

/// What to do when there is no answer.
fn hope(error: &ClientError) -> &'static str {
    match error {
        ClientError::Secure(_) => {
            "This system must trust the server's certificate (SSL_CERT_FILE names a file of others that are to be trusted), \
             and the URL must have the name in it."
        }
        _ => AGAIN,
    }
}

/// What to do about a status.
fn advice(side: &str, status: u16) -> String {
    match status {
        401 | 403 => format!(
            "Write the name and password of a server admin of {side} into its URL (http://NAME:PASSWORD@HOST); password \
             hashes, `_security` and the list of databases are for server admins only."
        ),
        404 => {
            "Is it the right server, and is the name written as there? The URL must not end in a database: name that \
                with --database."
                .to_owned()
        }
        300..=399 => "The URL leads elsewhere; use the one it leads to.".to_owned(),
        413 => format!("Raise the limit of {side} (`couchdb/max_document_size`, `chttpd/max_http_request_size`)."),
        _ => AGAIN.to_owned(),
    }
}

impl Failure {
    /// Whether trying again may help.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Connection { error, .. } => {
                !matches!(error, ClientError::Address(_) | ClientError::Secure(_) | ClientError::TooLarge(_))
            }
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599) && *status != 507,
            Self::Strange { .. } | Self::Here(_) => false,
        }
    }

    /// Status, word and reason, if a server refused the request itself rather than the caller: 400, 409, 412, 413, 415…
    pub(super) fn refusal(&self) -> Option<String> {
        match self {
            Self::Refused { status, word, reason, .. }
                if (400..500).contains(status) && !matches!(status, 401 | 404 | 408 | 425 | 429) =>
            {
                Some(format!("{status} {word}: {reason}"))
            }
            _ => None,
        }
    }
}

/// Tries until it works or fails for good.
pub(super) async fn patiently<T>(mut attempt: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for wait in WAITS {
        match attempt().await {
            Err(failure) if failure.passes() => {
                if wait >= 4_000 {
                    let first = failure.to_string();
                    eprintln!("{} (trying again)", first.lines().next().unwrap_or_default());
                }
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            outcome => return outcome,
        }
    }
    attempt().await
}

/// A name as one segment of a path.
pub(super) fn escaped(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// The path of a document below its database; design documents keep their slash.
pub(super) fn document_path(database: &str, id: &str) -> String {
    match id.strip_prefix("_design/") {
        Some(name) => format!("/{}/_design/{}", escaped(database), escaped(name)),
        None => format!("/{}/{}", escaped(database), escaped(id)),
    }
}

/// The source or the target.
pub(super) struct Side {
    /// "the source" or "the target".
    pub(super) name: &'static str,
    address: Arc<Address>,
    idle: Mutex<Vec<Client>>,
}

impl Side {
    pub(super) fn new(name: &'static str, address: Address) -> Arc<Self> {
        Arc::new(Self { name, address: Arc::new(address), idle: Mutex::default() })
    }

    /// The URL without credentials.
    pub(super) fn url(&self) -> String {
        self.address.shown()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn broken(&self, error: ClientError) -> Failure {
        Failure::Connection { side: self.name, url: self.url(), error }
    }

    pub(super) fn strange(&self, what: &str, why: impl Into<String>) -> Failure {
        Failure::Strange { side: self.name, url: self.url(), what: what.to_owned(), why: why.into() }
    }

    /// Sends one request, once. The connection can be used again when the answer was read to its end.
    pub(super) async fn send(self: &Arc<Self>, request: Request<'_>) -> Result<Answer, Failure> {
        let taken = self.idle().pop();
        let mut client = taken.unwrap_or_else(|| Client::new(Arc::clone(&self.address)));
        let what = format!("{} {}", request.method, shortened(request.path));
        let reply = client.send(request).await.map_err(|error| self.broken(error))?;
        Ok(Answer { side: Arc::clone(self), client: Some(client), what, reply })
    }

    /// Sends one request, once, and reads the JSON of its answer. The status may be anything.
    async fn exchange(
        self: &Arc<Self>,
        method: &str,
        path: &str,
        body: Option<&Bytes>,
    ) -> Result<(u16, Value, Answer), Failure> {
        let mut answer = self.send(Request::json(method, path, body.cloned())).await?;
        let text = answer.whole().await?;
        let value = serde_json::from_slice(&text).unwrap_or_default();
        Ok((answer.reply.status, value, answer))
    }

    /// The JSON of a successful answer; tries again what may pass.
    pub(super) async fn json(
        self: &Arc<Self>,
        method: &str,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Value, Failure> {
        patiently(async || {
            let (status, value, answer) = self.exchange(method, path, body.as_ref()).await?;
            match (200..300).contains(&status) {
                true => Ok(value),
                false => Err(answer.refused(&value)),
            }
        })
        .await
    }

    /// As [`Side::json`]; `None` when what was asked for is not there (404).
    pub(super) async fn find(self: &Arc<Self>, path: &str) -> Result<Option<Value>, Failure> {
        match self.json("GET", path, None).await {
            Ok(value) => Ok(Some(value)),
            Err(Failure::Refused { status: 404, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

/// A path for messages: lists of revisions are long.
fn shortened(path: &str) -> String {
    match path.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path.to_owned(),
    }
}

/// An answer that is being read.
pub(super) struct Answer {
    side: Arc<Side>,
    client: Option<Client>,
    what: String,
    pub(super) reply: Reply,
}

impl Answer {
    /// The next bytes; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let next = self.reply.next().await.map_err(|error| self.side.broken(error))?;
        if next.is_none() {
            self.side.idle().extend(self.client.take());
        }
        Ok(next)
    }

    /// The rest of the body.
    pub(super) async fn whole(&mut self) -> Result<Vec<u8>, Failure> {
        let whole = self.reply.whole(WHOLE_ANSWER).await.map_err(|error| self.side.broken(error))?;
        self.side.idle().extend(self.client.take());
        Ok(whole)
    }

    /// Reads the body of an answer that is no success into a failure; a success passes.
    pub(super) async fn successful(mut self) -> Result<Self, Failure> {
        if self.reply.is_success() {
            return Ok(self);
        }
        let text = self.whole().await?;
        Err(self.refused(&serde_json::from_slice(&text).unwrap_or_default()))
    }

    pub(super) fn refused(&self, body: &Value) -> Failure {
        let text = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
        let reason = match &self.reply.location {
            Some(location) => format!("it is at {location}"),
            None => text("reason"),
        };
        Failure::Refused {
            side: self.side.name,
            url: self.side.url(),
            what: self.what.clone(),
            status: self.reply.status,
            word: text("error"),
            reason,
        }
    }

    pub(super) fn strange(&self, why: impl Into<String>) -> Failure {
        self.side.strange(&self.what, why)
    }

    /// The answer's `{"results":[…],…}`, element by element.
    pub(super) fn results(self) -> Results {
        Results {
            answer: self,
            elements: Some(Elements::new(LARGEST_DOCUMENT)),
            waiting: Vec::new().into_iter(),
            rest: Vec::new(),
        }
    }
}

/// The elements of an answer's array, while they arrive.
pub(super) struct Results {
    answer: Answer,
    elements: Option<Elements>,
    waiting: std::vec::IntoIter<Vec<u8>>,
    rest: Vec<u8>,
}

impl Results {
    /// The next element's text; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if let Some(element) = self.waiting.next() {
                return Ok(Some(element));
            }
            let Some(elements) = &mut self.elements else { return Ok(None) };
            match self.answer.next().await? {
                Some(data) => {
                    let complete = elements.push(&data);
                    self.waiting =
                        complete.map_err(|error: Overlong| self.answer.strange(error.to_string()))?.into_iter();
                }
                None => self.rest = self.elements.take().map(Elements::rest).unwrap_or_default(),
            }
        }
    }

    /// What stands around the array, once [`Results::next`] has returned `None`.
    pub(super) fn rest(&self) -> Result<Value, Failure> {
        serde_json::from_slice(&self.rest).map_err(|_| self.strange("it is no JSON object, or it was cut off"))
    }

    pub(super) fn strange(&self, why: impl Into<String>) -> Failure {
        self.answer.strange(why)
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, document_path};

    fn refused(status: u16) -> Failure {
        Failure::Refused {
            side: "the source",
            url: "http://h".into(),
            what: "GET /x".into(),
            status,
            word: "w".into(),
            reason: "r".into(),
        }
    }

    #[test]
    fn what_passes_is_told_from_what_does_not_and_each_says_what_to_do() {
        for (status, passes, about_the_request) in [
            (400, false, true),
            (401, false, false),
            (403, false, true),
            (404, false, false),
            (412, false, true),
            (413, false, true),
            (429, true, false),
            (500, true, false),
            (503, true, false),
            (507, false, false),
        ] {
            let failure = refused(status);
            assert_eq!((failure.passes(), failure.refusal().is_some()), (passes, about_the_request), "{status}");
            assert!(failure.to_string().lines().count() == 2, "{failure}");
        }
        assert!(refused(401).to_string().contains("server admin of the source"));
        assert!(refused(404).to_string().contains("--database"));
        assert!(refused(500).to_string().contains("run the same command again"));
    }

    #[test]
    fn ids_are_escaped_and_design_documents_keep_their_slash() {
        assert_eq!(document_path("a/b", "x y/ü+"), "/a%2Fb/x%20y%2F%C3%BC%2B");
        assert_eq!(document_path("medic", "_design/a/b"), "/medic/_design/a%2Fb");
    }
}
