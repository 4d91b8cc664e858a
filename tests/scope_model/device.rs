//! A device: what it holds, and its pulls.
//!
//! It does what `tests/acceptance/README.md` says of devices: takes rows, drops what is lost or deleted, keeps what it has
//! in escrow, and asks `_reconcile` about the rest.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::oracle::{State, rank};
use super::world::{World, encoded, list, path, plain, string};
use crate::support::http::Request;

/// A copy of a document on a device.
#[derive(Debug, Clone)]
struct Held {
    revision: String,
    /// The device has it from a push of its own and was never able to see it since.
    own: bool,
    /// It was in escrow, and an overseer decided about it: nobody says how the device hears of that.
    settled: bool,
}

/// One login session and its copy of the database.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) user: String,
    pub(super) cookie: String,
    token: String,
    held: BTreeMap<String, Held>,
    /// Its revisions that wait in escrow.
    waiting: BTreeMap<String, BTreeSet<String>>,
    /// The world at its last pull, with what was accepted from it since; several after an interrupted pull.
    pub(super) past: Vec<State>,
    /// It is clear which pull was the last.
    pub(super) exact: bool,
    /// What was accepted from it since its last pull.
    pub(super) brought: BTreeSet<String>,
    /// The world at its last whole pull as it was.
    pulled: Option<State>,
}

impl Device {
    pub(super) fn new(user: &str, cookie: String) -> Self {
        Self {
            user: user.to_owned(),
            cookie,
            token: "0".to_owned(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            past: Vec::new(),
            exact: true,
            brought: BTreeSet::new(),
            pulled: None,
        }
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.held.keys().cloned().collect()
    }

    pub(super) fn revision(&self, id: &str) -> Option<&str> {
        self.held.get(id).map(|held| held.revision.as_str())
    }

    /// A push was accepted. `path`: the revision and its ancestors; `winner`: the document as it is on the server now, if
    /// it is not deleted there.
    pub(super) fn accepted(&mut self, id: &str, path: &[String], deleted: bool, winner: Option<&str>) {
        let held = self.held.get(id);
        let beside = held.filter(|held| !path.contains(&held.revision)).map(|held| held.revision.as_str());
        let revision = match beside {
            Some(held) if deleted || rank(held) > rank(&path[0]) => Some(held),
            _ if deleted => winner,
            _ => Some(path[0].as_str()),
        };
        let own = held.is_none_or(|held| held.own);
        match revision.map(str::to_owned) {
            Some(revision) => drop(self.held.insert(id.to_owned(), Held { revision, own, settled: false })),
            None => drop(self.held.remove(id)),
        }
    }

    /// A push was refused: the device keeps the revision beside what it has.
    pub(super) fn refused(&mut self, id: &str, revision: &str, deleted: bool) {
        self.waiting.entry(id.to_owned()).or_default().insert(revision.to_owned());
        if !deleted && !self.held.contains_key(id) {
            self.held.insert(id.to_owned(), Held { revision: revision.to_owned(), own: true, settled: false });
        }
    }

    /// One of its revisions left escrow.
    pub(super) fn resolved(&mut self, id: &str, revision: &str) {
        if let Some(revisions) = self.waiting.get_mut(id) {
            revisions.remove(revision);
            if revisions.is_empty() {
                self.waiting.remove(id);
            }
        }
    }

    /// An overseer accepted or discarded what the device pushed.
    pub(super) fn settled(&mut self, id: &str, revision: &str) {
        self.resolved(id, revision);
        if let Some(held) = self.held.get_mut(id).filter(|held| held.own) {
            held.settled = true;
        }
    }

    /// After a change of the world: what is stored and it can see now is not only its own any more.
    pub(super) fn look(&mut self, state: &State) {
        for (id, held) in self.held.iter_mut().filter(|(_, held)| held.own) {
            held.own = !state.knows(id, &held.revision) || !state.sees(&self.user, id);
        }
    }

    /// Applies a row of the feed.
    fn apply(&mut self, row: &Value) {
        let id = string(&row["id"]);
        if row["lost"] == json!(true) || row["deleted"] == json!(true) {
            match self.held.get_mut(&id) {
                Some(held) if self.waiting.contains_key(&id) => held.own = true,
                _ => drop(self.held.remove(&id)),
            }
            return;
        }
        let revision = string(&row["changes"][0]["rev"]);
        self.held.insert(id, Held { revision, own: false, settled: false });
    }
}

impl World {
    /// The states in which a push of the device may have been acceptable before.
    pub(super) fn past(&self, device: usize) -> Vec<State> {
        let device = &self.devices[device];
        let mut past = if self.drains { device.past.clone() } else { Vec::new() };
        if !device.exact {
            // Two of them: no single state is known to be the one that counts.
            past.extend(past.first().cloned());
        }
        if self.drains && !device.brought.is_empty() {
            // What the device itself withdrew since (a primary contact, a place) may still count: the server does not
            // take the device's own edits off the state of its last pull.
            past.extend(device.pulled.clone());
        }
        past
    }

    /// A pull in pages. Sometimes it ends in the middle, and the next one goes on there.
    pub(super) fn pull(&mut self, at: usize) {
        let limit = match self.chance.below(10) {
            0..3 => None,
            3..6 => Some(self.chance.below(5) + 1),
            _ => Some(self.chance.below(50) + 1),
        };
        let pages = if self.chance.percent(15) { self.chance.below(3) + 1 } else { u64::MAX };
        if self.pull_pages(at, limit, pages) {
            self.check_copy(at);
        }
    }

    /// Pulls everything that is there, and looks whether the copy is right.
    pub(super) fn pull_all(&mut self, at: usize) {
        self.pull_pages(at, None, u64::MAX);
        self.check_copy(at);
    }

    /// Whether the pull came to its end.
    fn pull_pages(&mut self, at: usize, limit: Option<u64>, pages: u64) -> bool {
        let mut page = 0;
        loop {
            self.steps += 1;
            let answer = self.page(at, limit);
            let rows = list(&answer["results"]);
            for row in rows {
                self.check_row(at, row);
                self.devices[at].apply(row);
            }
            self.note_page(at, rows.len(), &answer);
            let pending = answer["pending"].as_u64().unwrap_or(0);
            let short = limit.is_none_or(|limit| (rows.len() as u64) < limit);
            self.devices[at].token = match &answer["last_seq"] {
                Value::String(token) => token.clone(),
                number => number.to_string(),
            };
            if short {
                if pending > 0 {
                    let user = self.devices[at].user.clone();
                    self.fail(Some(&user), "", &format!("{} rows of {limit:?}, and {pending} pending", rows.len()));
                }
                self.devices[at].past = vec![self.state.clone()];
                self.devices[at].exact = true;
                self.devices[at].brought.clear();
                self.devices[at].pulled = Some(self.state.clone());
                return true;
            }
            page += 1;
            if page == 1 || page == pages {
                let now = self.state.clone();
                self.devices[at].past.push(now);
                self.devices[at].exact = false;
            }
            if page == pages {
                return false;
            }
            if page > 2_000 {
                self.fail(None, "", &format!("a pull of device {at} does not end"));
            }
        }
    }

    /// One page, sometimes asked for twice, as after an answer that got lost.
    fn page(&mut self, at: usize, limit: Option<u64>) -> Value {
        let mut target = format!("/medic/_changes?style=all_docs&lost=true&since={}", encoded(&self.devices[at].token));
        if let Some(limit) = limit {
            target.push_str(&format!("&limit={limit}"));
        }
        if self.chance.percent(5) {
            self.ask(at, Request::new("GET", &target)).expect(200);
        }
        self.ask(at, Request::new("GET", &target)).expect(200).json()
    }

    /// How a device got on with the feed.
    fn note_page(&mut self, at: usize, rows: usize, answer: &Value) {
        let device = &self.devices[at];
        let (user, since) = (device.user.clone(), device.token.clone());
        let told =
            format!("device {at} since {since}: {rows} rows, {} pending, {}", answer["pending"], answer["last_seq"]);
        self.note(&format!("@{user}"), told);
    }

    /// What the server says of a document when it is asked in other ways, for a failure message.
    fn second_opinions(&self, at: usize, id: &str) -> String {
        let status = self.ask(at, Request::new("GET", &path(id))).status;
        let feed = self.ask(at, Request::new("GET", "/medic/_changes?lost=true")).expect(200).json();
        let row = list(&feed["results"]).iter().find(|row| row["id"] == json!(id)).cloned();
        let place = |place: String| {
            let (status, sees) = (
                self.ask(at, Request::new("GET", &path(&place))).status,
                self.state.sees(&self.devices[at].user, &place),
            );
            format!("{place}: {status}, to be seen: {sees}")
        };
        let line: Vec<String> = self.state.line(id).into_iter().map(place).collect();
        format!("read by id: {status}; from the beginning the feed has {row:?}; {line:?}")
    }

    /// A row speaks the truth about this moment.
    fn check_row(&mut self, at: usize, row: &Value) {
        let (user, id) = (self.devices[at].user.clone(), string(&row["id"]));
        let sees = self.state.sees(&user, &id);
        let deleted = self.state.document(&id).is_some_and(|document| document.deleted);
        let wrong = match () {
            () if row["lost"] == json!(true) => sees,
            () if row["deleted"] == json!(true) => !deleted,
            () => !sees,
        };
        if wrong {
            self.fail(Some(&user), &id, &format!("a row for device {at} ({user}): {row}"));
        }
        self.note(&id, format!("device {at} ({user}) got {row}"));
    }

    /// After a pull the device holds what its user sees, and what it has in escrow.
    fn check_copy(&mut self, at: usize) {
        let user = self.devices[at].user.clone();
        let device = &self.devices[at];
        let seen: BTreeSet<String> = self.state.seen_by(&user).into_iter().collect();
        for id in &seen {
            let winner = self.state.live(id).map(|document| document.winner.as_str());
            let held = device.revision(id);
            if held != winner {
                let others = self.second_opinions(at, id);
                let problem = format!("device {at} ({user}) holds {held:?} of {winner:?} after a pull; {others}");
                self.fail(Some(&user), id, &problem);
            }
        }
        let extra = |id: &&String| !seen.contains(*id) && !device.waiting.contains_key(*id);
        let drop: BTreeSet<String> = device.held.keys().filter(extra).cloned().collect();
        if let Some(id) = drop.iter().find(|id| !device.held[*id].own) {
            let others = self.second_opinions(at, id);
            self.fail(Some(&user), id, &format!("device {at} ({user}) was not told that it lost this; {others}"));
        }
        if !drop.is_empty() || self.chance.percent(20) {
            self.reconcile(at, &drop);
        }
        if self.chance.percent(10) {
            self.check_lists(at, &seen);
        }
    }

    /// The server names what the device is to drop, neither more nor less.
    fn reconcile(&mut self, at: usize, expected: &BTreeSet<String>) {
        let user = self.devices[at].user.clone();
        let request = Request::new("POST", "/medic/_reconcile").json(&json!({"ids": self.devices[at].ids()}));
        let answer = self.ask(at, request).expect(200).json();
        let drop: BTreeSet<String> = list(&answer["drop"]).iter().map(string).collect();
        let settled = |id: &&String| self.devices[at].held.get(*id).is_some_and(|held| held.settled);
        let settled: BTreeSet<String> = expected.iter().filter(settled).cloned().collect();
        if let Some(id) = drop.symmetric_difference(expected).find(|id| !settled.contains(*id)) {
            let (named, due) = (drop.contains(id), expected.contains(id));
            self.fail(Some(&user), id, &format!("_reconcile of device {at} ({user}) names it: {named}, should: {due}"));
        }
        for id in drop.into_iter().chain(settled) {
            self.note(&id, format!("device {at} ({user}) dropped it"));
            self.devices[at].held.remove(&id);
        }
    }

    /// Other lists say the same as the feed.
    fn check_lists(&self, at: usize, seen: &BTreeSet<String>) {
        let user = &self.devices[at].user;
        let answer = self.ask(at, Request::new("GET", "/medic/_all_docs")).expect(200).json();
        let rows: BTreeSet<String> = list(&answer["rows"]).iter().map(|row| string(&row["id"])).collect();
        if let Some(id) = rows.symmetric_difference(seen).next() {
            self.fail(Some(user), id, &format!("_all_docs lists it: {}", rows.contains(id)));
        }
        let count = self.ask(at, Request::new("GET", "/medic")).expect(200).json()["doc_count"].clone();
        if count != json!(seen.len()) {
            self.fail(Some(user), "", &format!("doc_count is {count}, and the user sees {}", seen.len()));
        }
    }

    /// Holds what every user sees against the lists of the server.
    pub(super) fn check_all_lists(&self) {
        for (at, device) in self.devices.iter().enumerate() {
            let seen = self.state.seen_by(&device.user).into_iter().collect();
            self.check_lists(at, &seen);
        }
    }

    /// A few documents can be read by id exactly if the user sees them.
    pub(super) fn read(&mut self, at: usize) {
        let user = self.devices[at].user.clone();
        let mut wanted = Vec::new();
        for _ in 0..4 {
            let id = super::district::any_id(&mut self.chance);
            let sees = self.state.sees(&user, &id);
            let answer = self.ask(at, Request::new("GET", &path(&id)));
            if answer.status != if sees { 200 } else { 404 } {
                self.fail(Some(&user), &id, &format!("device {at} ({user}) reads {} {}", answer.status, answer.text()));
            }
            let Some(document) = self.state.document(&id) else { continue };
            if sees {
                let (body, got) = (document.face.as_ref().map(|face| &face.body), answer.json());
                if got["_rev"] != json!(document.winner) || body != Some(&plain(&got)) {
                    self.fail(Some(&user), &id, &format!("device {at} ({user}) reads {got}"));
                }
            }
            if !document.deleted {
                wanted.push((id, document.winner.clone(), sees));
            }
        }
        let rows: Vec<Value> = wanted.iter().map(|(id, revision, _)| json!({"id": id, "rev": revision})).collect();
        let request = Request::new("POST", "/medic/_bulk_get?revs=true").json(&json!({ "docs": rows }));
        let answer = self.ask(at, request).expect(200).json();
        for ((id, revision, sees), row) in wanted.iter().zip(list(&answer["results"])) {
            let got = &row["docs"][0]["ok"]["_rev"];
            if row["id"] != json!(id) || (*got == json!(revision)) != *sees || (got.is_null() == *sees) {
                self.fail(Some(&user), id, &format!("device {at} ({user}) reads in bulk: {row}"));
            }
        }
    }
}
