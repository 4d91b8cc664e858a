//! Nothing that a restricted caller can ask tells it about documents outside its scope.
//!
//! Two servers hold the same documents inside the scope of the caller, and different ones outside: places, people,
//! reports and tasks of others, their settings, their refused pushes. The same random requests go to both, while in one
//! world or the other things happen out of sight and in both worlds the same things happen in sight. Every pair of
//! answers must be the same to the byte, but for what `answer` sets aside. `SETTLE_SEED` repeats a run or tries another.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::device::Device;
use super::operator::Operator;
use super::world::{World, plain_settings};
use super::{Outcome, encoded, exchange, text};
use crate::support::chance::Chance;
use crate::support::http::Request;

mod answer;
mod draft;

use answer::Shown;
use draft::{Draft, Drafts, INSIDE, OUTSIDE};

const STEPS: usize = 400;
/// A run goes on after a difference, up to so many.
const MOST_DIFFERENCES: usize = 6;
/// The documents of the acceptance world that both worlds have.
const SHARED: [&str; 6] = ["area-1", "per-chw1", "hh-1", "pat-1", "pat-2", "pat-n"];

/// One of the two worlds.
struct Side {
    world: World,
    operator: Operator,
    caller: Device,
    /// Another device of the caller's account.
    twin: Device,
    /// The only device of another account.
    stranger: Device,
}

/// Both worlds and what was asked so far.
struct Pair {
    sides: [Side; 2],
    drafts: Drafts,
    /// Tokens of the same answer, by world.
    tokens: Vec<[String; 2]>,
    /// Requests and events, for the message of a failure.
    log: Vec<String>,
    differences: Vec<String>,
    count: u64,
    /// Answers that were refusals, and answers that were none.
    outcomes: [usize; 2],
}

#[test]
fn no_answer_depends_on_hidden_documents() {
    run(101, &plain_settings());
}

#[test]
fn no_answer_depends_on_hidden_documents_under_a_depth_rule() {
    let mut settings = plain_settings();
    settings["replication_depth"] =
        json!([{"role": "chw", "depth": 1, "report_depth": 1, "replicate_primary_contacts": true}]);
    run(102, &settings);
}

#[test]
fn no_answer_depends_on_hidden_documents_with_unassigned_records() {
    let mut settings = plain_settings();
    settings["district_admins_access_unallocated_messages"] = json!(true);
    settings["permissions"] = json!({"can_view_unallocated_data_records": ["chw"]});
    run(103, &settings);
}

fn run(law: u64, settings: &Value) {
    let outcome = Pair::start(law, settings).and_then(|mut pair| {
        for _ in 0..STEPS {
            pair.step()?;
            if pair.differences.len() >= MOST_DIFFERENCES {
                break;
            }
        }
        for side in &pair.sides {
            assert!(!side.world.server.log().contains("panicked"), "{}", side.world.server.log());
        }
        let [refusals, others] = pair.outcomes;
        assert!(
            !pair.differences.is_empty() || refusals.min(others) > STEPS / 10,
            "both are common: {:?}",
            pair.outcomes
        );
        Ok(pair.differences)
    });
    let differences = outcome.unwrap_or_else(|error| vec![error]);
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n\n"));
}

impl Side {
    fn start(settings: &Value, everything: bool) -> Outcome<Self> {
        let mut world = World::start();
        world.reset_accounts()?;
        let shared = |document: &Value| SHARED.contains(&text(document, "_id"));
        let operator = world.empty_database("medic", settings)?;
        let documents = world.documents.clone();
        operator.put_all(&documents.iter().filter(|document| shared(document)).cloned().collect::<Vec<_>>())?;
        operator.put_all(&in_sight())?;
        if everything {
            let hidden = documents.iter().filter(|document| !shared(document)).cloned();
            operator.put_all(&hidden.chain(out_of_sight()).collect::<Vec<_>>())?;
        } else {
            operator.put_all(&[json!({"_id": "else-0", "type": "district_hospital", "place_id": "E1"})])?;
        }
        let both = if everything { "one" } else { "the other" };
        operator.put_all(&[json!({"_id": "both-0", "v": both}), json!({"_id": "both-1", "w": [both]})])?;
        let [caller, twin, stranger] = ["chw1", "chw1", "chw2"].map(|account| world.device(account, "medic"));
        Ok(Self { operator, caller: caller?, twin: twin?, stranger: stranger?, world })
    }
}

fn note() -> Value {
    json!({"note.txt": {"content_type": "text/plain", "data": "aGVsbG8="}})
}

/// What both worlds have besides the own area: reports, configuration, and a second area for later.
fn in_sight() -> Vec<Value> {
    let report = |id: &str, subject: &str| {
        json!({"_id": id, "type": "data_record", "form": "visit", "contact": {"_id": "per-chw1"},
            "fields": {"patient_id": subject}, "_attachments": note()})
    };
    vec![
        json!({"_id": "area-3", "type": "contact", "name": "Area three", "parent": {"_id": "nowhere"}}),
        json!({"_id": "hh-3", "type": "clinic", "parent": {"_id": "area-3"}, "contact": {"_id": "pat-3"}}),
        json!({"_id": "pat-3", "type": "person", "patient_id": "10003", "parent": {"_id": "hh-3"}}),
        report("r-0", "10001"),
        report("r-1", "pat-2"),
        report("r-2", "P901"),
        report("r-3", "10003"),
        json!({"_id": "form:visit", "type": "form", "title": "Visit", "_attachments": note()}),
        json!({"_id": "messages-fr", "type": "translations", "code": "fr"}),
        json!({"_id": "org.couchdb.user:chw1", "type": "user-settings", "name": "chw1", "roles": ["chw"]}),
        json!({"_id": "task~org.couchdb.user:chw1~1", "type": "task", "user": "org.couchdb.user:chw1", "owner": "pat-1"}),
        json!({"_id": "_design/medic-client", "language": "javascript"}),
    ]
}

/// What only one world has.
fn out_of_sight() -> Vec<Value> {
    let report = |id: &str| {
        json!({"_id": id, "type": "data_record", "form": "visit", "contact": {"_id": "per-chw2"},
            "fields": {"patient_id": "10009"}, "_attachments": note()})
    };
    vec![
        report("rep-out-0"),
        report("rep-out-1"),
        json!({"_id": "org.couchdb.user:chw2", "type": "user-settings", "name": "chw2", "roles": ["chw"]}),
        json!({"_id": "task~org.couchdb.user:chw2~1", "type": "task", "user": "org.couchdb.user:chw2", "owner": "pat-9"}),
        json!({"_id": "migration-log", "migrations": []}),
        json!({"_id": "_design/medic", "language": "javascript", "views": {"x": {"map": "function(){}"}}}),
    ]
}

impl Pair {
    fn start(law: u64, settings: &Value) -> Outcome<Self> {
        Ok(Self {
            sides: [Side::start(settings, true)?, Side::start(settings, false)?],
            drafts: Drafts::new(Chance::of_law(law)),
            tokens: vec![["0".to_owned(), "0".to_owned()]],
            log: Vec::new(),
            differences: Vec::new(),
            count: 0,
            outcomes: [0, 0],
        })
    }

    fn step(&mut self) -> Outcome<()> {
        self.count += 1;
        match self.drafts.chance.below(10) {
            0 => self.in_sight(),
            1 => self.out_of_sight(),
            _ => self.ask(),
        }
    }

    /// The same request to both worlds.
    fn ask(&mut self) -> Outcome<()> {
        let operators = [self.sides[0].operator.clone(), self.sides[1].operator.clone()];
        let known = |id: &str| -> Vec<String> {
            // What is out of sight has its revisions from the world that has it.
            let [one, other] = operators.each_ref().map(|operator| operator.leaves(id).unwrap_or_default());
            (if one.is_empty() { other } else { one }).into_iter().collect()
        };
        let draft = self.drafts.next(&known);
        let since = self.drafts.chance.pick(&self.tokens).cloned().unwrap_or_default();
        self.log.push(shown(&draft));
        let mut answers = Vec::new();
        for (side, since) in self.sides.iter().zip(&since) {
            let mut request = draft.request.clone();
            request.path = request.path.replace("{since}", &encoded(since));
            let response = side.caller.request(&request)?;
            answers.push((Shown::read(&request, &response, side.world.server.address()), response.status));
        }
        let [(one, status), (other, _)] = answers.as_slice() else { return Err("two worlds answer".to_owned()) };
        self.outcomes[usize::from(*status < 400)] += 1;
        if one.text != other.text {
            let before = self.log.iter().rev().take(8).rev().cloned().collect::<Vec<_>>().join("\n    ");
            self.differences.push(format!(
                "step {}, after\n    {before}\n  with more hidden documents: {}\n  with fewer: {}",
                self.count, one.text, other.text
            ));
        } else {
            let pairs = one.tokens.iter().zip(&other.tokens);
            self.tokens.extend(pairs.map(|(one, other)| [one.clone(), other.clone()]));
            self.drafts.made.extend(draft.creates.filter(|_| *status < 300));
        }
        Ok(())
    }

    /// Something that the caller may notice, the same in both worlds.
    fn in_sight(&mut self) -> Outcome<()> {
        let chance = &mut self.drafts.chance;
        let id = format!("r-{}", chance.below(4));
        let what = chance.below(6);
        let subject = chance.pick(&["10001", "pat-2", "nobody", "10003"]).copied().unwrap_or_default();
        let facilities = chance.pick(&[json!(["area-1"]), json!(["area-1", "area-3"]), json!("area-1")]).cloned();
        let late = chance.below(3);
        self.log.push(format!("in sight of both: {what} {id} {subject} {facilities:?}"));
        for side in &mut self.sides {
            match what {
                0 => drop(side.operator.put(&json!({"_id": id, "type": "data_record", "form": "visit",
                    "fields": {"patient_id": subject}, "n": self.count}))?),
                1 => side.operator.delete(&id)?,
                2 | 3 => {
                    let changes = Map::from_iter([("facility_id".to_owned(), json!(facilities))]);
                    side.world.change_account("chw1", &changes)?;
                }
                4 => drop(side.operator.put(&json!({"_id": format!("late-{late}"), "type": "person",
                    "parent": {"_id": "hh-1"}, "patient_id": "C-late", "n": self.count}))?),
                _ => drop(side.operator.put(&json!({"_id": "form:visit", "type": "form", "n": self.count}))?),
            }
        }
        Ok(())
    }

    /// Something that the caller must not notice, in one world.
    fn out_of_sight(&mut self) -> Outcome<()> {
        let chance = &mut self.drafts.chance;
        let (what, number) = (chance.below(9), chance.below(3));
        let count = self.count;
        self.log.push(format!("out of sight: {what} {number}"));
        let side = &mut self.sides[0];
        let free = format!("free-{number}");
        let report = json!({"_id": free, "type": "data_record", "form": "visit", "n": count,
            "contact": {"_id": "per-chw2"}, "fields": {"patient_id": "10009"}, "_attachments": note()});
        match what {
            0 => drop(side.operator.put(&report)?),
            1 => side.operator.delete(&free)?,
            2 => drop(side.stranger.push(
                &[
                    report,
                    json!({"_id": format!("own-{count}"), "type": "person",
                "patient_id": format!("S-{count}"), "parent": {"_id": "hh-9"}}),
                ],
                &json!({}),
            )?),
            // Refused: it stays in escrow, of another account and of another device of the caller's.
            3 => drop(side.stranger.push(&[json!({"_id": format!("kept-{count}"), "v": 1})], &json!({}))?),
            4 => {
                let kept = json!({"_id": format!("kept-{count}"), "type": "data_record", "form": "visit",
                    "fields": {"patient_id": "ghost"}});
                drop(side.twin.push(&[kept], &json!({}))?);
            }
            5 => {
                let leaves = side.operator.leaves(&free)?;
                side.operator.send("POST", "/_purge", Some(&json!({ free: leaves })), &[200, 201]).map(drop)?;
            }
            6 => {
                let path = format!("/_local/theirs-{}", number % 2);
                side.stranger.request(&Request::new("PUT", &path).json(&json!({"n": count})))?;
            }
            7 => side.operator.move_place("hh-9", if number == 0 { "fac-lake" } else { "area-2" })?,
            _ => drop(self.sides[1].operator.put(&json!({"_id": "else-0", "type": "district_hospital", "n": count}))?),
        }
        Ok(())
    }
}

fn shown(draft: &Draft) -> String {
    let body = draft.request.body.as_deref().unwrap_or_default();
    format!("{} {} {}", draft.request.method, draft.request.path, String::from_utf8_lossy(body))
}

/// The test would prove nothing if a kind of document were seen by the wrong people.
#[test]
fn the_two_worlds_differ_as_they_should() {
    let outcome = [true, false].map(|everything| {
        let side = Side::start(&plain_settings(), everything)?;
        let listed = side.caller.listed()?;
        let stored = side.operator.winners()?;
        let mut problems: Vec<&str> = OUTSIDE.into_iter().filter(|id| listed.contains_key(*id)).collect();
        problems.extend(INSIDE.into_iter().filter(|id| !stored.contains_key(*id)));
        exchange(&side.world.server.anonymous(), &Request::new("GET", "/medic"), &[401])?;
        assert_eq!(problems, Vec::<&str>::new());
        Ok((listed, stored))
    });
    let [one, other]: [Outcome<(BTreeMap<_, _>, BTreeMap<_, _>)>; 2] = outcome;
    let (one, other) = (one.expect("a world"), other.expect("a world"));
    assert_eq!(one.0, other.0, "in sight is the same");
    assert!(one.1.len() > other.1.len() + 10, "out of sight is not");
}
