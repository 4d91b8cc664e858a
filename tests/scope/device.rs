//! A phone: one login, one feed token, and a copy of what it was given or made itself.
//!
//! It behaves like a replicating client that asks for lost rows: it pulls by pages, fetches the bodies of what is new,
//! drops what it is told to drop, and pushes whole revisions with their history. It judges nothing but whether the
//! answers fit each other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Outcome, encoded, exchange, list, text, texts};
use crate::support::http::{Client, Request, Response};

/// Rows of a page of the feed, unless a test sets something else.
const PAGE: usize = 1000;
/// More pages than any feed of these tests has.
const MOST_PAGES: usize = 1000;

/// The password of every account of these tests.
pub(super) fn password(account: &str) -> String {
    format!("pass-{account}")
}

/// What one pull changed on the device. Ids that no test names are among them, such as `settings`.
#[derive(Debug, Default)]
pub(super) struct Pulled {
    pub(super) gained: BTreeSet<String>,
    pub(super) changed: BTreeSet<String>,
    /// Held before, and the feed says that they are deleted or out of scope.
    pub(super) lost: BTreeSet<String>,
    /// What `_reconcile` says the device should drop of all that it held or that waits in escrow.
    pub(super) drop: BTreeSet<String>,
    /// Every id that the feed named in any way.
    pub(super) named: BTreeSet<String>,
}

/// A revision that was pushed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pushed {
    pub(super) id: String,
    pub(super) rev: String,
    pub(super) deleted: bool,
}

/// A login and its copy of the database.
#[derive(Debug)]
pub(super) struct Device {
    client: Client,
    cookie: String,
    pub(super) account: String,
    database: String,
    since: String,
    pub(super) page: usize,
    /// Winning revisions of the documents that are not deleted.
    pub(super) held: BTreeMap<String, String>,
    /// Every revision the device has or had, by document.
    had: BTreeMap<String, BTreeSet<String>>,
    /// Every revision it made.
    made: BTreeSet<(String, String)>,
    /// Documents of which a revision was pushed and not accepted so far.
    waiting: BTreeSet<String>,
    edits: u64,
}

impl Device {
    /// Logs in; the device has nothing yet.
    pub(super) fn log_in(client: Client, account: &str, database: &str) -> Outcome<Self> {
        let body = json!({"name": account, "password": password(account)});
        let answer = exchange(&client, &Request::new("POST", "/_session").json(&body), &[200])?;
        let cookie = answer.cookie().ok_or_else(|| format!("no cookie for {account}"))?;
        Ok(Self {
            client,
            cookie,
            account: account.to_owned(),
            database: database.to_owned(),
            since: "0".to_owned(),
            page: PAGE,
            held: BTreeMap::new(),
            had: BTreeMap::new(),
            made: BTreeSet::new(),
            waiting: BTreeSet::new(),
            edits: 0,
        })
    }

    /// The same login after a restart of the server, which listens elsewhere then.
    pub(super) fn reconnect(&mut self, client: Client) {
        self.client = client;
    }

    /// Any request below the database, with the device's cookie and nothing else.
    pub(super) fn request(&self, request: &Request) -> Outcome<Response> {
        let mut request = request.clone().header("Cookie", &self.cookie);
        request.path = format!("/{}{}", self.database, request.path);
        self.client.try_send(&request).map_err(|error| format!("{}: no answer: {error}", request.path))
    }

    /// A request below the database whose answer has one of these statuses.
    pub(super) fn send(&self, method: &str, path: &str, body: Option<&Value>, statuses: &[u16]) -> Outcome<Response> {
        let request = Request::new(method, &format!("/{}{path}", self.database)).header("Cookie", &self.cookie);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        exchange(&self.client, &request, statuses).map_err(|error| format!("{} as {}", error, self.account))
    }

    /// Pulls everything new, fetches it, asks what to drop, and takes it all over.
    pub(super) fn pull(&mut self) -> Outcome<Pulled> {
        let before = self.held.clone();
        let mut pulled = Pulled::default();
        self.follow_feed(&mut pulled)?;
        let has = |id: &str, rev: &str| self.had.get(id).is_some_and(|revs| revs.contains(rev));
        let unknown = self.held.iter().filter(|(id, rev)| !has(id, rev));
        let unknown: Vec<(String, String)> = unknown.map(|(id, rev)| (id.clone(), rev.clone())).collect();
        self.fetch(&unknown)?;
        for id in before.keys().filter(|id| !self.held.contains_key(*id)) {
            self.send("GET", &format!("/{}", encoded(id)), None, &[404])?;
            pulled.lost.insert(id.clone());
        }
        let own = |id: &String, rev: &String| self.made.contains(&(id.clone(), rev.clone()));
        let new = self.held.iter().filter(|(id, rev)| !before.contains_key(*id) && !own(id, rev));
        pulled.gained = new.map(|(id, _)| id.clone()).collect();
        for (id, rev) in unknown {
            if before.contains_key(&id) {
                pulled.changed.insert(id.clone());
            }
            self.had.entry(id).or_default().insert(rev);
        }
        let asked: BTreeSet<&String> = before.keys().chain(self.held.keys()).chain(&self.waiting).collect();
        pulled.drop = self.reconcile(&asked)?;
        // What is dropped is forgotten with its revisions, the own ones too: it would be new if it came again.
        self.held.retain(|id, _| !pulled.drop.contains(id));
        self.had.retain(|id, _| !pulled.drop.contains(id));
        self.made.retain(|(id, _)| !pulled.drop.contains(id));
        self.waiting.retain(|id| !pulled.drop.contains(id));
        Ok(pulled)
    }

    /// Which of these ids the device should drop.
    pub(super) fn reconcile(&self, ids: &BTreeSet<&String>) -> Outcome<BTreeSet<String>> {
        let answer = self.send("POST", "/_reconcile", Some(&json!({"ids": ids})), &[200])?.json();
        let drop: BTreeSet<String> = texts(&answer["drop"]);
        match drop.iter().find(|id| !ids.contains(id)) {
            Some(id) => Err(format!("{id} is to be dropped and was not asked about")),
            None => Ok(drop),
        }
    }

    /// Applies the rows of the feed to `held`, page by page.
    fn follow_feed(&mut self, pulled: &mut Pulled) -> Outcome<()> {
        for _ in 0..MOST_PAGES {
            let (page, since) = (self.page, encoded(&self.since));
            let path = format!("/_changes?style=all_docs&lost=true&limit={page}&since={since}");
            let answer = self.send("GET", &path, None, &[200])?.json();
            let rows = list(&answer["results"]);
            for row in rows {
                self.take_row(row, pulled)?;
            }
            self.since = match &answer["last_seq"] {
                Value::String(token) => token.clone(),
                other => return Err(format!("{other} is no token")),
            };
            if rows.len() < page {
                return Ok(());
            }
        }
        Err(format!("the feed does not end after {MOST_PAGES} pages of {}", self.page))
    }

    fn take_row(&mut self, row: &Value, pulled: &mut Pulled) -> Outcome<()> {
        let id = text(row, "id").to_owned();
        pulled.named.insert(id.clone());
        let gone = row["lost"] == json!(true);
        if gone && row["changes"] != json!([]) {
            return Err(format!("a lost row tells revisions: {row}"));
        }
        if gone || row["deleted"] == json!(true) {
            self.held.remove(&id);
            return Ok(());
        }
        match list(&row["changes"]).first() {
            Some(winner) => self.held.insert(id, text(winner, "rev").to_owned()),
            None => return Err(format!("a row without revisions: {row}")),
        };
        Ok(())
    }

    /// Every listed revision can be fetched.
    fn fetch(&self, wanted: &[(String, String)]) -> Outcome<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let asked: Vec<Value> = wanted.iter().map(|(id, rev)| json!({"id": id, "rev": rev})).collect();
        let answer = self.send("POST", "/_bulk_get?revs=true", Some(&json!({"docs": asked})), &[200])?.json();
        let results = list(&answer["results"]);
        for (number, (id, rev)) in wanted.iter().enumerate() {
            let result = results.get(number).unwrap_or(&Value::Null);
            let document = &result["docs"][0]["ok"];
            if text(document, "_id") != id || text(document, "_rev") != rev {
                return Err(format!("{id} at {rev} is in the feed and cannot be fetched: {result}"));
            }
        }
        Ok(())
    }

    /// The documents that the caller may list, with their winners.
    pub(super) fn listed(&self) -> Outcome<BTreeMap<String, String>> {
        let answer = self.send("GET", "/_all_docs", None, &[200])?.json();
        let rows = list(&answer["rows"]).iter();
        Ok(rows.map(|row| (text(row, "id").to_owned(), text(&row["value"], "rev").to_owned())).collect())
    }

    /// Whether a document can be read by id; every way of reading it agrees.
    pub(super) fn sees(&self, id: &str) -> Outcome<bool> {
        let path = format!("/{}", encoded(id));
        let seen = self.send("GET", &path, None, &[200, 404])?.status == 200;
        let head = self.send("HEAD", &path, None, &[200, 404])?.status == 200;
        let fetched = self.send("POST", "/_bulk_get", Some(&json!({"docs": [{"id": id}]})), &[200])?.json();
        let fetched = &fetched["results"][0]["docs"][0]["ok"];
        let fetched = fetched.is_object() && fetched["_deleted"] != json!(true);
        let listed = self.send("POST", "/_all_docs", Some(&json!({"keys": [id]})), &[200])?.json();
        let listed = listed["rows"][0]["value"]["rev"].is_string() && listed["rows"][0]["value"]["deleted"].is_null();
        match [head, fetched, listed] == [seen; 3] {
            true => Ok(seen),
            false => Err(format!("{id}: GET {seen}, HEAD {head}, _bulk_get {fetched}, _all_docs {listed}")),
        }
    }

    /// Which of these revisions the server says it needs from this device.
    pub(super) fn missing(&self, revisions: &[Pushed]) -> Outcome<BTreeSet<Pushed>> {
        let mut asked: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for revision in revisions {
            asked.entry(&revision.id).or_default().push(&revision.rev);
        }
        let answer = self.send("POST", "/_revs_diff", Some(&json!(asked)), &[200])?.json();
        let missing = |revision: &&Pushed| list(&answer[&revision.id]["missing"]).contains(&json!(revision.rev));
        Ok(revisions.iter().filter(missing).cloned().collect())
    }

    /// A revision of the device's own making with a history that reaches back to `parent`.
    pub(super) fn edit(&mut self, document: &Value, parent: Option<&str>, edits: u64) -> (Value, Pushed) {
        let id = text(document, "_id").to_owned();
        let (generation, tail) = match parent.and_then(|parent| parent.split_once('-')) {
            Some((generation, hash)) => (generation.parse().unwrap_or(0), vec![hash.to_owned()]),
            None => (0, Vec::new()),
        };
        let mut hashes = tail;
        for number in 1..=edits {
            self.edits += 1;
            let seed = format!("{} {} {id} {}", self.cookie, self.database, self.edits);
            let hash = blake3::hash(seed.as_bytes()).to_hex()[..32].to_owned();
            let revision = format!("{}-{hash}", generation + number);
            self.had.entry(id.clone()).or_default().insert(revision.clone());
            self.made.insert((id.clone(), revision));
            hashes.insert(0, hash);
        }
        let rev = format!("{}-{}", generation + edits, hashes[0]);
        let mut body = document.clone();
        body["_rev"] = json!(rev);
        body["_revisions"] = json!({"start": generation + edits, "ids": hashes});
        let deleted = document["_deleted"] == json!(true);
        (body, Pushed { id, rev, deleted })
    }

    /// Pushes documents as edits of what the device holds, in one batch and this order. Whether they were accepted is
    /// another question.
    pub(super) fn push(&mut self, documents: &[Value], edits: &Value) -> Outcome<Vec<Pushed>> {
        let mut bodies = Vec::new();
        let mut pushed = Vec::new();
        for document in documents {
            let id = text(document, "_id");
            let parent = self.held.get(id).cloned();
            let (body, revision) = self.edit(document, parent.as_deref(), edits[id].as_u64().unwrap_or(1));
            bodies.push(body);
            pushed.push(revision);
        }
        self.push_bodies(&bodies)?;
        self.waiting.extend(pushed.iter().map(|revision| revision.id.clone()));
        Ok(pushed)
    }

    /// Pushes whole revisions; the answer says nothing about any of them.
    pub(super) fn push_bodies(&self, bodies: &[Value]) -> Outcome<()> {
        let batch = json!({"new_edits": false, "docs": bodies});
        let answer = self.send("POST", "/_bulk_docs", Some(&batch), &[201])?.json();
        if answer == json!([]) { Ok(()) } else { Err(format!("a push was answered with {answer}")) }
    }

    /// The device learns that its own revision was stored.
    pub(super) fn accepted(&mut self, pushed: &Pushed) {
        self.waiting.remove(&pushed.id);
        if pushed.deleted {
            self.held.remove(&pushed.id);
        } else {
            self.held.insert(pushed.id.clone(), pushed.rev.clone());
        }
    }
}
