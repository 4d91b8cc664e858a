//! Bad input of every kind: each is refused with CouchDB's status and words, and changes nothing.
//!
//! Every refusal is followed by a look at the whole database, so that half a write cannot hide. A test collects all its
//! differences before it fails. What good requests answer is the recordings' subject, not this module's.

#![allow(clippy::disallowed_methods, reason = "test clients live in real time")]

mod bodies;
mod connections;
mod gzip;
mod memory;
mod names;
mod parts;
mod sizes;
mod tokens;

use std::io;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::connection::Connection;
use crate::support::http::{Client, Request, Response, basic};
use crate::support::server::{ADMIN, ADMIN_PASSWORD, TestServer};

const DATABASE: &str = "/refusals";
const PATIENCE: Duration = Duration::from_secs(30);
/// How CouchDB words anything that is no JSON.
const NO_JSON: (u16, &str, &str) = (400, "bad_request", "invalid UTF-8 JSON");

/// A server with one small database, and what went wrong so far.
struct Refusals {
    server: TestServer,
    admin: Client,
    /// The revision of `a`.
    revision: String,
    before: Value,
    differences: Vec<String>,
}

impl Refusals {
    /// The database holds `a` with the attachment `note`, `_local/x` and nothing else.
    #[track_caller]
    fn start() -> Self {
        let server = TestServer::start();
        let admin = server.admin();
        admin.put(DATABASE, &json!({})).expect(201);
        admin.put("/refusals/_local/x", &json!({"at": 1})).expect(201);
        let note = json!({"content_type": "text/plain", "data": "aGVsbG8="});
        let written = admin.put("/refusals/a", &json!({"_attachments": {"note": note}})).expect(201).json();
        let revision = written["rev"].as_str().unwrap_or_default().to_owned();
        let before = state(&admin);
        Self { server, admin, revision, before, differences: Vec::new() }
    }

    /// Sends a request that must be refused in these words, and looks whether anything changed.
    fn refused(&mut self, request: &Request, wanted: (u16, &str, &str)) {
        let answer = self.admin.try_send(request);
        self.judge(&shown(request), answer, wanted);
    }

    /// A JSON body on a path.
    fn json(&mut self, method: &str, path: &str, body: &str, wanted: (u16, &str, &str)) {
        let request = Request::new(method, path).header("Content-Type", "application/json").body(body);
        self.refused(&request, wanted);
    }

    fn judge(&mut self, what: &str, answer: io::Result<Response>, wanted: (u16, &str, &str)) {
        match answer {
            Err(error) => self.differs(what, &format!("{wanted:?}"), &error.to_string()),
            Ok(answer) => {
                let body: Value = serde_json::from_slice(&answer.bytes()).unwrap_or_default();
                let got = (answer.status, body["error"].as_str(), body["reason"].as_str());
                if got != (wanted.0, Some(wanted.1), Some(wanted.2)) {
                    self.differs(what, &format!("{wanted:?}"), &format!("{} {}", answer.status, answer.text()));
                }
            }
        }
        self.unchanged(what);
    }

    fn differs(&mut self, what: &str, wanted: &str, got: &str) {
        self.differences.push(format!("{what}\n    wanted {wanted}\n    got    {got}"));
    }

    fn check(&mut self, what: &str, holds: bool) {
        if !holds {
            self.differs(what, "that", "the opposite");
        }
    }

    fn unchanged(&mut self, what: &str) {
        let now = state(&self.admin);
        if now != self.before {
            self.differs(what, &format!("nothing changes: {}", self.before), &now.to_string());
            self.before = now;
        }
    }

    /// An open connection, for what is no well-formed request.
    #[track_caller]
    fn connect(&self) -> Connection {
        self.admin.connect().expect("the server listens")
    }

    /// Fails with all differences; the server must have come through unharmed.
    #[track_caller]
    fn finish(self) {
        self.admin.get("/_up").expect(200);
        assert_eq!(state(&self.admin), self.before);
        assert!(!self.server.log().contains("panicked"), "{}", self.server.log());
        assert!(self.differences.is_empty(), "\n{}\n", self.differences.join("\n"));
    }
}

/// Everything that a refused request could have changed.
#[track_caller]
fn state(admin: &Client) -> Value {
    let get = |path: &str| admin.get(&format!("{DATABASE}{path}")).expect(200).json();
    let info = get("");
    let figures: Vec<&Value> = ["doc_count", "doc_del_count", "update_seq", "purge_seq"].map(|name| &info[name]).into();
    let rest = ["/_all_docs", "/_local_docs", "/_security", "/_revs_limit", "/_purged_infos_limit"].map(get);
    json!([figures, rest, admin.get("/_all_dbs").json()])
}

/// The head of a raw request, with the administrator's credentials; `more` are whole header lines.
fn head(line: &str, more: &str) -> String {
    format!("{line}\r\nHost: x\r\nAuthorization: {}\r\n{more}\r\n", basic(ADMIN, ADMIN_PASSWORD))
}

fn shown(request: &Request) -> String {
    let body = request.body.as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
    let path: String = request.path.chars().take(120).collect();
    format!("{} {path} {body}", request.method)
}
