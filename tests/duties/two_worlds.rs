//! Whoever manages accounts, everywhere or of a place, and whoever audits cannot tell a full database from an empty one.
//!
//! Two servers have the same places, the same staff and the same accounts; in one there are households' people, visits, tasks and
//! forms besides, and they change while requests are made. Random requests over every line of the endpoint table go to both;
//! each pair of answers must be the same to the byte, but for times, random names, and numbers of the audit log's entries.
//! `SETTLE_SEED` repeats a run or tries another, `SETTLE_DUTIES_STEPS` says how many requests (250 otherwise).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::sample::{self, Thing};
use super::stage::{DATABASE, Shown, Stage, text};
use crate::support::chance::Chance;
use crate::support::http::{Request, Response};
use crate::support::server::TestServer;

const STEPS: u64 = 250;
/// What both have, and what there is in one only, or nowhere.
const PLACES: [&str; 4] = ["area-a", "area-b", "district", "hh-a"];
const HIDDEN: [&str; 8] =
    ["pat-a", "pat-2", "visit-1", "visit-2", "form:visit", "task~1", "org.couchdb.user:chw", "_design/medic"];
const NOWHERE: [&str; 2] = ["none-1", "area-z"];
const ACCOUNTS: [&str; 6] = ["chw", "chw-b", "boss", "worker-1", "worker-2", "nobody"];

static RANDOM: LazyLock<Regex> = LazyLock::new(|| pattern(r"[0-9a-f]{64}|[0-9a-f]{32}|[A-Za-z0-9_-]{43}"));
static TIME: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b1[0-9]{9}([0-9]{3})?\b"));
/// The end of a feed that nothing was ever in: only its history is another in each world.
static NO_POSITION: LazyLock<Regex> = LazyLock::new(|| pattern(r#""0-[A-Za-z0-9_-]+""#));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r#""(number|next|days_silent)":\d+"#));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of this test is well-formed")
}

/// One of the two worlds.
struct Side {
    stage: Stage,
    cookie: String,
    devices: Vec<String>,
    grants: Vec<String>,
    /// Random names by the order of their first appearance.
    names: BTreeMap<String, usize>,
    full: bool,
}

impl Side {
    fn start(caller: (&str, &[&str]), full: bool) -> Self {
        let stage = Stage::start_filled(TestServer::options().config("[settle]\nretirements_alone = 0\n"), full);
        let devices = [("chw", "chw", "area-a"), ("chw-b", "chw", "area-b"), ("boss", "steward", "area-a")]
            .map(|(name, role, place)| stage.somebody(name, role, &[place]).device);
        for name in ["worker-1", "worker-2"] {
            stage.account(name, "chw", &["area-a"]);
        }
        let cookie = stage.somebody("caller", caller.0, caller.1).cookie;
        let side = Self { stage, cookie, devices: devices.to_vec(), grants: Vec::new(), names: BTreeMap::new(), full };
        side.fill();
        side
    }

    /// What only the full world has.
    fn fill(&self) {
        if !self.full {
            return;
        }
        let report =
            |id: &str| json!({"_id": id, "type": "data_record", "form": "visit", "fields": {"patient_id": "pat-a"}});
        let documents = json!([
            {"_id": "pat-2", "type": "person", "parent": {"_id": "hh-a"}},
            report("visit-1"),
            report("visit-2"),
            {"_id": "task~1", "type": "task", "user": "org.couchdb.user:caller", "owner": "pat-a"},
        ]);
        self.stage.operator().post(&format!("/{DATABASE}/_bulk_docs"), &json!({"docs": documents})).expect(201);
    }

    /// An answer without what tells nothing.
    fn shown(&mut self, response: &Response) -> String {
        let headers = response
            .headers
            .iter()
            .filter(|(name, _)| !Response::OF_ONE_ANSWER.contains(name) && *name != "content-length");
        let headers: Vec<String> = headers.map(|(name, value)| format!("{name}: {value}")).collect();
        let raw = format!("{} {headers:?}\n{}", response.status, response.text())
            .replace(self.stage.server.address(), "ADDRESS");
        let count = &mut self.names;
        let named = RANDOM.replace_all(&raw, |found: &regex::Captures<'_>| {
            let next = count.len();
            format!("name {}", count.entry(found[0].to_owned()).or_insert(next))
        });
        let named = in_order(&named);
        let named = NO_POSITION.replace_all(&named, "\"0\"");
        NUMBER.replace_all(&TIME.replace_all(&named, "TIME"), "\"$1\":N").into_owned()
    }
}

/// Grants are listed by their random ids: here by what they say.
fn in_order(answer: &str) -> String {
    let (head, body) = answer.split_once('\n').unwrap_or((answer, ""));
    match serde_json::from_str::<Value>(body) {
        Ok(mut body) if body["grants"].is_array() => {
            body["grants"].as_array_mut().into_iter().for_each(|rows| rows.sort_by_key(Value::to_string));
            format!("{head}\n{body}")
        }
        _ => answer.to_owned(),
    }
}

struct Pair {
    sides: [Side; 2],
    chance: Chance,
    lines: Vec<(String, String)>,
    log: Vec<String>,
    accepted: u32,
}

impl Pair {
    fn start(law: u64, caller: (&str, &[&str])) -> Self {
        let mut lines = Vec::new();
        for (methods, shape, _) in settle::http::endpoint_table() {
            let methods = methods.split(',').map(|method| (method.to_owned(), shape.clone()));
            // Whoever logs out asks nothing more. A wrong link is noted when there is time for it, so that a log that is read
            // just then may lack it.
            let apart = [("DELETE", "/_session"), ("POST", "/_session"), ("POST", "/_links/{name}")];
            lines.extend(methods.filter(|(method, shape)| !apart.contains(&(method.as_str(), shape.as_str()))));
        }
        let sides = [Side::start(caller, true), Side::start(caller, false)];
        Self { sides, chance: Chance::of_law(law), lines, log: Vec::new(), accepted: 0 }
    }

    fn pick(&mut self, from: &[&str]) -> String {
        self.chance.pick(from).map(|text| (*text).to_owned()).unwrap_or_default()
    }

    /// The id of a document of any kind.
    fn id(&mut self) -> String {
        match self.chance.below(6) {
            0 => self.pick(&PLACES),
            1 => self.pick(&NOWHERE),
            _ => self.pick(&HIDDEN),
        }
    }

    /// What asks about hidden documents where places, contacts and people are asked for.
    fn body(&mut self, method: &str, shape: &str) -> Option<Value> {
        let (place, name) = (self.id(), self.pick(&["worker-3", "worker-4", "worker-1"]));
        let contact = match self.chance.below(3) {
            0 => json!(self.pick(&["per-a", "per-b"])),
            1 => json!({"name": "Somebody"}),
            _ => json!(self.id()),
        };
        Some(match (method, shape) {
            ("POST", "/_accounts") => json!({"name": name, "roles": ["chw"], "places": ["area-a"], "contact": contact}),
            ("POST", "/_accounts/_bulk") => json!([
                {"username": name, "external_id": "e-1", "roles": ["chw"], "place": "area-a", "contact": contact},
                {"username": "worker-2", "roles": ["chw"], "place": place},
                {"username": "worker-1", "roles": ["chw"], "place": {"name": "x", "type": "clinic", "parent": place}},
            ]),
            ("PUT" | "PATCH", "/_accounts/{name}") if self.chance.percent(50) => {
                json!({"roles": ["chw"], "places": [place]})
            }
            ("PUT" | "PATCH", "/_accounts/{name}") => {
                json!({"roles": ["chw"], "places": ["area-a"], "contact": contact})
            }
            ("POST", "/_grants") => json!({"to": "chw", "database": DATABASE, "place": place, "reason": "x",
                "until": 9_999_999_999_u64}),
            ("POST", "/{db}/_places/{name}/move") => json!({"to": place}),
            ("POST", "/{db}/_places/{name}/replace") => {
                json!({"contact": contact, "account": {"name": name, "roles": ["chw"]}})
            }
            ("POST", "/{db}/_places/{name}/hand_over") => json!({"contact": contact}),
            ("POST", "/{db}/_bulk_docs") => {
                json!({"docs": [{"_id": place, "type": "person", "parent": {"_id": "hh-a"}}]})
            }
            ("POST", "/{db}/_manifest") => match self.chance.percent(50) {
                true => json!({"manifest": "whole", "revs": {}, "total": 0, "final": true}),
                false => {
                    json!({"manifest": "some", "revs": {place: ["1-0123456789abcdef0123456789abcdef"]}, "final": true})
                }
            },
            _ => return None,
        })
    }

    fn step(&mut self) {
        if self.chance.percent(10) {
            return self.out_of_sight();
        }
        let (method, shape) = self.chance.pick(&self.lines).cloned().unwrap_or_default();
        let (name, body) = (self.name_for(&shape), self.body(&method, &shape));
        let (device, grant) = (self.chance.below(4), self.chance.below(4));
        let number = 7_000 + u32::try_from(self.log.len()).unwrap_or_default();
        let mut answers = Vec::new();
        for side in &mut self.sides {
            let index = |number: u64| usize::try_from(number).expect("an index");
            let name = match shape.as_str() {
                _ if shape.starts_with("/_devices/{name}") => side.devices.get(index(device)).cloned(),
                _ if shape.starts_with("/_grants/{name}") => side.grants.get(index(grant)).cloned(),
                _ => Some(name.clone()),
            };
            let thing = Thing {
                name: name.unwrap_or_else(|| "0".repeat(32)),
                rev: "1-0123456789abcdef0123456789abcdef".into(),
            };
            let mut request = sample::request(&method, &shape, &thing, number);
            if let Some(body) = &body {
                request.body = Some(body.to_string().into_bytes());
            }
            request.path = request.path.replace("?dry_run=true", if number % 3 == 0 { "" } else { "?dry_run=true" });
            let response = side.stage.send(&Shown::Cookie(side.cookie.clone()), &request);
            if response.status == 201 && shape == "/_grants" {
                side.grants.push(text(&response.json()["grant"]["id"]));
            }
            answers.push((shown_request(&request, side), side.shown(&response), response.status));
        }
        self.log.push(answers[0].0.clone());
        self.accepted += u32::from(answers[0].2 < 300);
        let before = self.log.iter().rev().take(10).rev().cloned().collect::<Vec<_>>().join("\n    ");
        assert_eq!(answers[0].1, answers[1].1, "full and empty, after\n    {before}");
    }

    fn name_for(&mut self, shape: &str) -> String {
        match shape {
            _ if shape.starts_with("/_accounts") => self.pick(&ACCOUNTS),
            _ if shape.starts_with("/{db}/_escrow") => self.chance.below(5).to_string(),
            _ if shape.starts_with("/{db}/_design") => self.pick(&["medic", "none"]),
            _ if shape.starts_with("/{db}/_places") && self.chance.percent(50) => self.pick(&PLACES[..2]),
            _ => self.id(),
        }
    }

    /// What happens in the full world only.
    fn out_of_sight(&mut self) {
        let (what, id) = (self.chance.below(4), format!("new-{}", self.log.len()));
        self.log.push(format!("out of sight: {what} {id}"));
        let [admin, other] = self.sides.each_ref().map(|side| side.stage.operator());
        let report = json!({"type": "data_record", "form": "visit", "fields": {"patient_id": "pat-a"}});
        let person = json!({"type": "person", "parent": {"_id": "hh-a"}});
        match what {
            0 => drop(admin.put(&format!("/{DATABASE}/{id}"), &report).expect(201)),
            1 => drop(admin.put(&format!("/{DATABASE}/{id}"), &person).expect(201)),
            2 => drop(admin.put(&format!("/{DATABASE}/form:{id}"), &json!({"type": "form"})).expect(201)),
            // That an operator read is in the log that an auditor reads, in both.
            _ => [admin, other].iter().for_each(|admin| drop(admin.get(&format!("/{DATABASE}/_all_docs")).expect(200))),
        }
    }

    fn run(mut self) {
        let steps = std::env::var("SETTLE_DUTIES_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(STEPS);
        for _ in 0..steps {
            self.step();
        }
        assert!(u64::from(self.accepted) > steps / 20, "only {} requests were let in", self.accepted);
        for side in &self.sides {
            assert!(!side.stage.server.log().contains("panicked"), "{}", side.stage.server.log());
        }
    }
}

fn shown_request(request: &Request, side: &Side) -> String {
    let body = request.body.as_deref().unwrap_or_default();
    let shown = format!("{} {} {}", request.method, request.path, String::from_utf8_lossy(body));
    shown.replace(side.stage.server.address(), "ADDRESS")
}

#[test]
fn an_administrator_of_all_accounts_cannot_tell_a_full_database_from_an_empty_one() {
    Pair::start(5_101, ("account_admin", &[])).run();
}

#[test]
fn an_administrator_of_a_place_cannot_tell_a_full_database_from_an_empty_one() {
    Pair::start(5_102, ("account_admin", &["area-a"])).run();
}

#[test]
fn an_auditor_cannot_tell_a_full_database_from_an_empty_one() {
    Pair::start(5_103, ("auditor", &[])).run();
}
