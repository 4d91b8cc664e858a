//! One server, what the oracle knows of it, and everybody who talks to it.
//!
//! Every change goes through [`World::changed`]: what left escrow by itself is taken over, primary contacts that the rule
//! is silent about are confirmed by an administrator, and devices remember what they could see in between.

use std::collections::{BTreeMap, VecDeque};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::device::Device;
use super::district;
use super::escrow::Waiting;
use super::oracle::{ACCOUNT_PREFIX, Account, Body, Naming, State};
use crate::support::chance::Chance;
use crate::support::http::{Client, Request, Response};
use crate::support::server::{ADMIN, ADMIN_PASSWORD, TestServer};

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PASSWORD: &str = "a long enough password";
const STEWARD: &str = "steward-of-all";
/// How much of a document's history a failure shows.
const SHOWN: usize = 24;

/// A world and its chance.
pub(super) struct World {
    pub(super) server: TestServer,
    pub(super) seed: u64,
    pub(super) chance: Chance,
    pub(super) steps: u64,
    pub(super) state: State,
    pub(super) devices: Vec<Device>,
    /// What is in escrow, by its number.
    pub(super) waiting: BTreeMap<u64, Waiting>,
    /// The drain window is open.
    pub(super) drains: bool,
    history: BTreeMap<String, VecDeque<String>>,
    steward: bool,
}

pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// The path of a document of the database.
pub(super) fn path(id: &str) -> String {
    format!("/medic/{}", encoded(id))
}

/// A document without the fields that begin with `_`.
pub(super) fn plain(document: &Value) -> Body {
    let fields = document.as_object().expect("a document").iter();
    fields.filter(|(name, _)| !name.starts_with('_')).map(|(name, value)| (name.clone(), value.clone())).collect()
}

pub(super) fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

impl World {
    /// A fresh server with a district, accounts and devices.
    pub(super) fn new(seed: u64) -> Self {
        let server = TestServer::start();
        let mut world = Self {
            server,
            seed,
            chance: Chance::of_seed(seed),
            steps: 0,
            state: State::default(),
            devices: Vec::new(),
            waiting: BTreeMap::new(),
            drains: true,
            history: BTreeMap::new(),
            steward: false,
        };
        world.operator().put("/medic?scoped=true", &json!({})).expect(201);
        let roles: Vec<&str> = district::ROLES.iter().copied().chain(["steward"]).collect();
        let security = json!({"members": {"names": [], "roles": roles}, "admins": {"names": [], "roles": ["_admin"]}});
        world.operator().put("/medic/_security", &security).expect(200);
        world.furnish();
        world
    }

    /// The first documents and accounts: a hierarchy from the top down, people, records, and one or two devices for
    /// each account.
    fn furnish(&mut self) {
        let settings = json!({ "settings": district::settings(&mut self.chance) });
        self.put_as_operator(vec![("settings".to_owned(), district::object(settings))]);
        let client = json!({"language": "javascript", "views": {}});
        self.put_as_operator(vec![("_design/medic-client".to_owned(), district::object(client))]);
        for number in 0..12 {
            let near = (number > 0).then(|| format!("pl-{}", self.chance.below(number)));
            self.put_fresh(&format!("pl-{number}"), near.as_deref());
        }
        for number in 0..20 {
            let near = format!("pl-{}", self.chance.below(12));
            self.put_fresh(&format!("per-{number}"), Some(&near));
        }
        for number in 0..30 {
            self.put_fresh(&format!("rep-{number}"), None);
        }
        for number in 0..district::USERS {
            let name = format!("u{number}");
            let account = district::account(&self.state, &mut self.chance);
            self.set_account(&name, account);
            for _ in 0..1 + number % 2 {
                let cookie = self.log_in(&name);
                self.devices.push(Device::new(&name, cookie));
            }
        }
        let roles = json!(["steward"]);
        self.put_user(STEWARD, json!({"name": STEWARD, "type": "user", "roles": roles, "password": PASSWORD}));
        self.steward = true;
        for device in 0..self.devices.len() {
            self.pull_all(device);
        }
    }

    fn put_fresh(&mut self, id: &str, near: Option<&str>) {
        let mut body = district::document(&self.state, &mut self.chance, id, near, None);
        if id == "pl-0" {
            body.remove("parent");
        }
        self.put_as_operator(vec![(id.to_owned(), body)]);
    }

    pub(super) fn operator(&self) -> Client {
        self.server.client_as(ADMIN, ADMIN_PASSWORD)
    }

    /// Somebody who sees everything: the operator, or a steward.
    pub(super) fn overseer(&mut self) -> Client {
        let steward = self.steward && self.chance.percent(40);
        if steward { self.server.client_as(STEWARD, PASSWORD) } else { self.operator() }
    }

    fn log_in(&mut self, name: &str) -> String {
        let answer =
            self.server.anonymous().post("/_session", &json!({"name": name, "password": PASSWORD})).expect(200);
        answer.cookie().expect("a cookie")
    }

    /// Sends a request as a device; its session lasts as long as the world.
    #[track_caller]
    pub(super) fn ask(&self, device: usize, request: Request) -> Response {
        let device = &self.devices[device];
        let answer = self.server.anonymous().send(&request.header("Cookie", &device.cookie));
        if answer.status == 401 || answer.status >= 500 {
            self.fail(Some(&device.user), "", &format!("the device was answered {} {}", answer.status, answer.text()));
        }
        answer
    }

    fn put_user(&self, name: &str, document: Value) {
        let path = format!("/_users/{}", encoded(&format!("{ACCOUNT_PREFIX}{name}")));
        let known = self.operator().get(&path);
        let mut next = if known.status == 200 { known.json() } else { json!({}) };
        for (field, value) in document.as_object().expect("fields") {
            next[field] = value.clone();
        }
        self.operator().put(&path, &next).expect(201);
    }

    /// Makes or changes an account.
    pub(super) fn set_account(&mut self, name: &str, account: Account) {
        let facilities = match account.facilities.as_slice() {
            [one] if self.chance.percent(50) => json!(one),
            all => json!(all),
        };
        let mut document = json!({"name": name, "type": "user", "roles": account.roles, "facility_id": facilities});
        document["contact_id"] = json!(account.person);
        if !self.state.accounts.contains_key(name) {
            document["password"] = json!(PASSWORD);
        }
        self.put_user(name, document);
        self.note("", format!("account {name} is {account:?}"));
        self.state.accounts.insert(name.to_owned(), account);
        self.changed();
    }

    /// An overseer stores each as the next revision of its document, or anew.
    pub(super) fn put_as_operator(&mut self, documents: Vec<(String, Body)>) {
        self.write_as_operator(documents.into_iter().map(|(id, body)| (id, Some(body))).collect());
    }

    /// The same with deletions, which have no body.
    pub(super) fn write_as_operator(&mut self, documents: Vec<(String, Option<Body>)>) {
        let wire = documents.iter().map(|(id, body)| {
            let mut document = body.clone().unwrap_or_default();
            document.insert("_id".to_owned(), id.as_str().into());
            if let Some(stored) = self.state.live(id) {
                document.insert("_rev".to_owned(), stored.winner.as_str().into());
            }
            if body.is_none() {
                document.insert("_deleted".to_owned(), true.into());
            }
            Value::Object(document)
        });
        let wire: Vec<Value> = wire.collect();
        let client = self.overseer();
        let answer = client.post("/medic/_bulk_docs", &json!({ "docs": wire })).expect(201).json();
        self.state.tick();
        for ((id, body), row) in documents.into_iter().zip(list(&answer)) {
            let Some(revision) = row["rev"].as_str() else { self.fail(None, &id, &format!("not written: {row}")) };
            self.note(&id, format!("the operator wrote {revision} {}", json!(body)));
            self.stored(&id, revision, body.is_none(), &body.unwrap_or_default());
        }
        self.changed();
    }

    /// Takes over an edit of the winner that the server named.
    pub(super) fn stored(&mut self, id: &str, revision: &str, deleted: bool, body: &Body) {
        let below = self.state.document(id).map(|known| known.path(&known.winner)).unwrap_or_default();
        let next = below.first().is_some_and(|winner| generation(revision) == generation(winner) + 1);
        let path: Vec<String> =
            std::iter::once(revision.to_owned()).chain(below.into_iter().filter(|_| next)).collect();
        self.state.store(id, &path, deleted, body, Naming::Counts);
    }

    /// To be called after every change.
    pub(super) fn changed(&mut self) {
        self.settle_escrow();
        let unclear = self.state.contacts().filter(|(_, face, deleted)| !deleted && face.naming == Naming::Unclear);
        let unclear: Vec<(String, Body)> = unclear.map(|(id, face, _)| (id.clone(), face.body.clone())).collect();
        if !unclear.is_empty() {
            self.put_as_operator(unclear);
        }
        let Self { devices, state, .. } = self;
        devices.iter_mut().for_each(|device| device.look(state));
        if std::env::var("SETTLE_EVERY").is_ok() {
            self.check_all_lists();
        }
    }

    /// Which of these revisions are stored, as an overseer sees it.
    pub(super) fn are_stored(&self, revisions: &[(String, String)]) -> Vec<bool> {
        let mut asked = BTreeMap::<&str, Vec<&str>>::new();
        for (id, revision) in revisions {
            asked.entry(id).or_default().push(revision);
        }
        let answer = self.operator().post("/medic/_revs_diff", &json!(asked)).expect(200).json();
        let is_missing = |(id, revision): &(String, String)| {
            answer[id]["missing"].as_array().is_some_and(|missing| missing.contains(&json!(revision)))
        };
        revisions.iter().map(|pair| !is_missing(pair)).collect()
    }

    /// The database holds what the oracle says: the same documents with the same leaves.
    pub(super) fn check_database(&self) {
        let feed = self.operator().get("/medic/_changes?style=all_docs").expect(200).json();
        let rows = list(&feed["results"]).iter().map(|row| {
            let leaves = list(&row["changes"]).iter().map(|change| string(&change["rev"])).collect();
            (string(&row["id"]), (row["deleted"] == json!(true), leaves))
        });
        let rows: BTreeMap<String, (bool, Vec<String>)> = rows.collect();
        for (id, document) in &self.state.documents {
            let Some((deleted, mut leaves)) = rows.get(id).cloned() else {
                self.fail(None, id, "the database does not have it")
            };
            let winner = leaves.first().cloned();
            leaves.sort();
            if winner.as_ref() != Some(&document.winner) || deleted != document.deleted || leaves != document.leaves() {
                self.fail(None, id, &format!("in the database: {winner:?} of {leaves:?}, deleted {deleted}"));
            }
        }
        if let Some(id) = rows.keys().find(|id| self.state.document(id).is_none()) {
            self.fail(None, id, "the database has it, and nobody stored it");
        }
    }

    /// Remembers what happened to a document; `""` is everything else, and `"@user"` what devices of a user did.
    pub(super) fn note(&mut self, id: &str, what: String) {
        let notes = self.history.entry(id.to_owned()).or_default();
        notes.push_back(format!("step {}: {what}", self.steps));
        if notes.len() > SHOWN {
            notes.pop_front();
        }
    }

    /// Ends the test with all that helps to understand it.
    #[track_caller]
    pub(super) fn fail(&self, user: Option<&str>, id: &str, problem: &str) -> ! {
        let history = |id: &str| {
            let notes = self.history.get(id).into_iter().flatten();
            notes.map(String::as_str).collect::<Vec<_>>().join("\n  ")
        };
        let naming = self.state.contacts().filter(|(_, face, _)| face.primary.as_deref() == Some(id));
        let above = self.state.line(id).into_iter().skip(1).chain(naming.map(|(place, ..)| place.clone()));
        let above = above.map(|place| format!("{place}:\n  {}", history(&place).replace("\n", "\n  ")));
        let above = above.collect::<Vec<_>>().join("\n  ");
        let reasons = user.map(|user| self.state.reasons(user, id)).unwrap_or_default();
        let opinion = user.is_some_and(|user| self.state.sees(user, id));
        let settings = self.state.live("settings").and_then(|settings| settings.face.as_ref());
        panic!(
            "{problem}\nSETTLE_SEED={} step {} user {user:?} document {id:?}\nthe oracle: sees it: {opinion}\n{reasons}\n\
             drains: {}, settings: {}\nhistory of {id:?}:\n  {}\nabove it, and naming it:\n  {above}\nhistory of the user's devices:\n  {}\nhistory of everything else:\n  {}\n",
            self.seed,
            self.steps,
            self.drains,
            json!(settings.map(|face| &face.body)),
            history(id),
            history(&format!("@{}", user.unwrap_or_default())),
            history(""),
        );
    }
}

pub(super) fn generation(revision: &str) -> u64 {
    super::oracle::rank(revision).0
}
