//! No sequence of grants, revocations, changes of roles and places, moves and expiries lets anybody reach more than what was granted
//! to them plus their own.
//!
//! A naive oracle stands beside the server: it knows the tree of places, who has which places and roles, and which grants were
//! answered with 201. After every step each account lists what it sees. `SETTLE_SEED` repeats a run or tries another,
//! `SETTLE_GRANT_STEPS` says how many steps (120 otherwise).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::stage::{Shown, Stage, text, wait};
use crate::support::chance::Chance;
use crate::support::http::{Request, Response};

const STEPS: u64 = 120;
const PEOPLE: [&str; 4] = ["ann", "ben", "cyd", "dot"];
/// Depth of contacts and of reports for each role; `None`: all.
const ROLES: [(&str, Option<u64>, Option<u64>); 3] =
    [("chw", None, None), ("near", Some(1), Some(1)), ("far", Some(2), Some(1))];
/// Seconds for which the server may be late to end a grant whose time is over.
const LATE: u64 = 3;

fn now() -> u64 {
    UNIX_EPOCH.elapsed().expect("after 1970").as_secs()
}

/// A grant that the server made.
#[derive(Debug, Clone)]
struct Lent {
    id: String,
    to: String,
    by: String,
    place: String,
    depth: Option<u64>,
    report_depth: Option<u64>,
    write: bool,
    from: u64,
    until: u64,
    revoked: bool,
}

#[derive(Debug, Clone)]
struct Person {
    cookie: String,
    role: &'static str,
    places: BTreeSet<String>,
    open: bool,
}

struct World {
    stage: Stage,
    chance: Chance,
    people: BTreeMap<&'static str, Person>,
    /// Place or person → what is above it.
    parents: BTreeMap<String, String>,
    /// Record → whom it is about.
    records: BTreeMap<String, String>,
    lent: Vec<Lent>,
    log: Vec<String>,
    /// Answers to grants that were refused, and made.
    made: [u32; 2],
}

fn rule(role: &str) -> (Option<u64>, Option<u64>) {
    ROLES.iter().find(|(name, ..)| *name == role).map_or((None, None), |(_, depth, reports)| (*depth, *reports))
}

fn within(steps: u64, limit: Option<u64>) -> bool {
    limit.is_none_or(|limit| steps <= limit)
}

impl World {
    fn start(seed: u64) -> Self {
        let stage = Stage::start_with(
            crate::support::server::TestServer::options().config("[settle]\nretirements_alone = 0\n"),
        );
        let admin = stage.operator();
        let security = json!({"members": {"roles": ["chw", "near", "far", "account_admin"]}});
        admin.put("/grants?scoped=true", &json!({})).expect(201);
        admin.put("/grants/_security", &security).expect(200);
        let depths =
            json!([{"role": "near", "depth": 1, "report_depth": 1}, {"role": "far", "depth": 2, "report_depth": 1}]);
        let mut documents = vec![json!({"_id": "settings", "settings": {"replication_depth": depths}})];
        let (mut parents, mut records) = (BTreeMap::new(), BTreeMap::new());
        let mut contact = |id: &str, kind: &str, above: Option<&str>| {
            let mut document = json!({"_id": id, "type": kind});
            if let Some(above) = above {
                document["parent"] = json!({"_id": above});
                parents.insert(id.to_owned(), above.to_owned());
            }
            documents.push(document);
            documents.push(
                json!({"_id": format!("r-{id}"), "type": "data_record", "form": "v", "fields": {"patient_id": id}}),
            );
            records.insert(format!("r-{id}"), id.to_owned());
        };
        for district in ["d1", "d2"] {
            contact(district, "district_hospital", None);
            for area in 1..=2 {
                let area = format!("{district}a{area}");
                contact(&area, "health_center", Some(district));
                for house in 1..=2 {
                    let house = format!("{area}h{house}");
                    contact(&house, "clinic", Some(&area));
                    contact(&format!("{house}p"), "person", Some(&house));
                }
            }
        }
        let rows = admin.post("/grants/_bulk_docs", &json!({"docs": documents})).expect(201).json();
        assert!(rows.as_array().is_some_and(|rows| rows.iter().all(|row| row["ok"] == true)), "{rows}");
        let mut people = BTreeMap::new();
        for (name, place) in PEOPLE.iter().zip(["d1a1", "d1a2", "d2a1", "d1"]) {
            let login = stage.somebody(name, "chw", &[place]);
            let places = BTreeSet::from([place.to_owned()]);
            people.insert(*name, Person { cookie: login.cookie, role: "chw", places, open: true });
        }
        Self {
            stage,
            chance: Chance::of_law(seed),
            people,
            parents,
            records,
            lent: Vec::new(),
            log: Vec::new(),
            made: [0, 0],
        }
    }

    /// Steps from a contact up to a place; nothing when it does not lie there.
    fn steps(&self, contact: &str, place: &str) -> Option<u64> {
        let (mut at, mut steps) = (contact, 0);
        while at != place {
            at = self.parents.get(at)?;
            steps += 1;
        }
        Some(steps)
    }

    /// Whether somebody's own places and roles reach a contact, or the records about it.
    fn own_reaches(&self, name: &str, contact: &str, record: bool) -> bool {
        let Some(person) = self.people.get(name).filter(|person| person.open) else { return false };
        let (depth, reports) = rule(person.role);
        person
            .places
            .iter()
            .filter_map(|place| self.steps(contact, place))
            .any(|steps| within(steps, depth) && (!record || within(steps, reports)))
    }

    /// The most that somebody may see: their own, and every grant that is, or was until a moment ago, in force.
    fn may_see(&self, name: &str, id: &str) -> bool {
        let (contact, record) = match self.records.get(id) {
            Some(contact) => (contact.as_str(), true),
            None => (id, false),
        };
        let lent = self.lent.iter().filter(|lent| lent.to == name && self.in_force(lent)).any(|lent| {
            self.steps(contact, &lent.place).is_some_and(|steps| {
                within(steps, lent.depth) && (!record || within(steps, lent.report_depth.or(lent.depth)))
            })
        });
        self.own_reaches(name, contact, record) || lent
    }

    fn in_force(&self, lent: &Lent) -> bool {
        !lent.revoked && lent.from <= now() && now() <= lent.until + LATE
    }

    /// Whether the granter's own places reach as far as a grant.
    fn holds(&self, name: &str, lent: &Lent) -> bool {
        let Some(person) = self.people.get(name).filter(|person| person.open) else { return false };
        let (depth, reports) = rule(person.role);
        person.places.iter().filter_map(|place| self.steps(&lent.place, place)).any(|steps| {
            let inside = |asked: Option<u64>, held: Option<u64>| match (asked, held) {
                (_, None) => true,
                (Some(asked), Some(held)) => asked + steps <= held,
                (None, Some(_)) => false,
            };
            within(steps, depth) && inside(lent.depth, depth) && inside(lent.report_depth.or(lent.depth), reports)
        })
    }

    fn person(&mut self) -> &'static str {
        self.chance.pick(&PEOPLE).copied().unwrap_or("ann")
    }

    fn place(&mut self) -> String {
        let mut places: Vec<String> = vec!["d1".into(), "d2".into()];
        places.extend(self.parents.keys().filter(|id| !id.ends_with('p')).cloned());
        self.chance.pick(&places).cloned().unwrap_or_default()
    }

    fn ask(&self, name: &str, request: &Request) -> Response {
        self.stage.send(&Shown::Cookie(self.people[name].cookie.clone()), request)
    }

    fn step(&mut self) {
        match self.chance.below(12) {
            0..=4 => self.grant(),
            5 => self.revoke(),
            6 => self.change_role(),
            7 => self.change_places(),
            8 => self.open_or_close(),
            9 => self.move_place(),
            10 => self.write(),
            _ => wait(Duration::from_millis(700)),
        }
    }

    fn grant(&mut self) {
        let (by, to) = (self.person(), self.person());
        // Mostly a place of their own, or almost nothing would be granted.
        let own: Vec<String> = self.people[by].places.iter().cloned().collect();
        let own = self.chance.pick(&own).cloned().filter(|_| self.chance.percent(70));
        let place = own.unwrap_or_else(|| self.place());
        let depth = |chance: &mut Chance| Some(chance.below(4)).filter(|depth| *depth < 3);
        let lent = Lent {
            id: String::new(),
            to: to.to_owned(),
            by: by.to_owned(),
            place,
            depth: depth(&mut self.chance),
            report_depth: depth(&mut self.chance),
            write: self.chance.percent(50),
            from: now() + self.chance.below(3),
            until: now() + 3 + self.chance.below(8),
            revoked: false,
        };
        let body = json!({"to": lent.to, "database": "grants", "place": lent.place, "depth": lent.depth,
            "report_depth": lent.report_depth, "rights": if lent.write { "write" } else { "read" }, "from": lent.from,
            "until": lent.until, "reason": "a test"});
        let answer = self.ask(by, &Request::new("POST", "/_grants").json(&body));
        self.log.push(format!("{by} grants {body}: {}", answer.status));
        self.made[usize::from(answer.status == 201)] += 1;
        if answer.status == 201 {
            assert!(self.holds(by, &lent), "{by} does not hold this\n{}", self.told());
            self.lent.push(Lent { id: text(&answer.json()["grant"]["id"]), ..lent });
        }
    }

    fn revoke(&mut self) {
        let (by, at) = (self.person(), self.chance.below(self.lent.len().max(1) as u64));
        let Some(lent) = self.lent.get_mut(usize::try_from(at).expect("an index")) else { return };
        let path = format!("/_grants/{}/revoke", lent.id);
        let request = Request::new("POST", &path).json(&json!({}));
        let answer = self.stage.send(&Shown::Cookie(self.people[by].cookie.clone()), &request);
        self.log.push(format!("{by} revokes that of {} to {} for {}: {}", lent.by, lent.to, lent.place, answer.status));
        if answer.status == 200 {
            assert!(by == lent.by || by == lent.to, "{by} ends what is not theirs");
            lent.revoked = true;
        }
    }

    fn change(&mut self, name: &str, body: &Value) {
        let request = Request::new("PATCH", &format!("/_accounts/{name}")).json(body);
        self.stage.operator().send(&request).expect(200);
        self.log.push(format!("{name} becomes {body}"));
    }

    fn change_role(&mut self) {
        let (name, role) = (self.person(), self.chance.pick(&ROLES).map_or("chw", |(role, ..)| *role));
        self.change(name, &json!({"roles": [role]}));
        self.people.get_mut(name).expect("somebody").role = role;
    }

    fn change_places(&mut self) {
        let name = self.person();
        let count = if self.chance.percent(15) { 0 } else { 1 + self.chance.below(2) };
        let places: BTreeSet<String> = (0..count).map(|_| self.place()).collect();
        self.change(name, &json!({"places": places}));
        self.people.get_mut(name).expect("somebody").places = places;
    }

    fn open_or_close(&mut self) {
        let name = self.person();
        let open = !self.people[name].open;
        if !open && self.chance.percent(60) {
            return;
        }
        let act = if open { "enable" } else { "disable" };
        self.stage.operator().post(&format!("/_accounts/{name}/{act}"), &json!({})).expect(200);
        self.log.push(format!("{name}: {act}"));
        let cookie = match open {
            true => {
                let link =
                    self.stage.operator().post(&format!("/_accounts/{name}/link"), &json!({})).expect(201).json();
                Some(self.stage.log_in(&text(&link["token"]), &format!("phone-of-{name}")).cookie)
            }
            false => None,
        };
        let person = self.people.get_mut(name).expect("somebody");
        person.open = open;
        person.cookie = cookie.unwrap_or_else(|| person.cookie.clone());
    }

    fn move_place(&mut self) {
        let houses: Vec<String> = self.parents.keys().filter(|id| id.len() == 6).cloned().collect();
        let areas = ["d1a1", "d1a2", "d2a1", "d2a2"];
        let (house, area) = (self.chance.pick(&houses).cloned().unwrap_or_default(), self.chance.pick(&areas).copied());
        let area = area.unwrap_or("d1a1");
        let answer = self.stage.operator().post(&format!("/grants/_places/{house}/move"), &json!({"to": area}));
        self.log.push(format!("{house} moves to {area}: {}", answer.status));
        if answer.status == 200 {
            self.parents.insert(house, area.to_owned());
        }
    }

    /// A record that somebody writes must be about somebody within their own reach, or lent to them to write.
    fn write(&mut self) {
        let (name, about) = (self.person(), self.place());
        let id = format!("w-{}", self.log.len());
        let body = json!({"type": "data_record", "form": "v", "fields": {"patient_id": about}});
        let answer = self.ask(name, &Request::new("PUT", &format!("/grants/{id}")).json(&body));
        self.log.push(format!("{name} writes {id} about {about}: {}", answer.status));
        if answer.status == 201 {
            let lent = self.lent.iter().any(|lent| {
                let steps = self.steps(&about, &lent.place);
                lent.write
                    && lent.to == name
                    && self.in_force(lent)
                    && steps.is_some_and(|steps| within(steps, lent.report_depth.or(lent.depth)))
            });
            assert!(lent || self.own_reaches(name, &about, true), "{name} wrote about {about}\n{}", self.told());
            self.records.insert(id, about);
        }
    }

    /// What each sees is no more than they may.
    fn check(&self) -> usize {
        let mut by_grant = 0;
        for name in PEOPLE {
            let answer = self.ask(name, &Request::new("GET", "/grants/_all_docs"));
            if answer.status != 200 {
                assert!(!self.people[name].open, "{name}: {}\n{}", answer.text(), self.told());
                continue;
            }
            for row in answer.json()["rows"].as_array().into_iter().flatten() {
                let id = text(&row["id"]);
                if id == "settings" || id.starts_with("org.couchdb.user:") {
                    continue;
                }
                assert!(self.may_see(name, &id), "{name} sees {id}\n{}", self.told());
                let (contact, record) = self.records.get(&id).map_or((&id, false), |contact| (contact, true));
                by_grant += usize::from(!self.own_reaches(name, contact, record));
            }
        }
        by_grant
    }

    fn told(&self) -> String {
        let last = self.log.iter().rev().take(40).rev().cloned().collect::<Vec<_>>().join("\n  ");
        format!("  {last}\npeople: {:#?}\nlent: {:#?}", self.people, self.lent)
    }
}

#[test]
fn nobody_reaches_more_than_their_own_and_what_was_granted_to_them() {
    let steps = std::env::var("SETTLE_GRANT_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(STEPS);
    let mut world = World::start(5_001);
    let mut by_grant = 0;
    for _ in 0..steps {
        world.step();
        by_grant += world.check();
    }
    assert!(!world.stage.server.log().contains("panicked"), "{}", world.stage.server.log());
    let [refused, made] = world.made;
    assert!(refused.min(made) > 2 && by_grant > 10, "{refused} refused, {made} made, {by_grant} seen by a grant");
}
