//! What a steward does with refused revisions: look, accept, assign to somebody else, discard.
//!
//! For everybody else there is no escrow: the answer is that of a document which does not exist.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::device::{Device, Pushed};
use super::operator::{Kept, Operator};
use super::world::{World, plain_settings};
use super::{Outcome, text, texts};

/// A database with a worker of each of two areas, a steward, and some refused revisions of the first worker.
struct Office {
    world: World,
    operator: Operator,
    worker: Device,
    neighbour: Device,
    steward: Device,
    pushed: Vec<Pushed>,
}

fn report(id: &str, subject: &str) -> Value {
    json!({"_id": id, "type": "data_record", "form": "home_visit", "contact": {"_id": "per-chw1"},
        "fields": {"patient_id": subject}})
}

impl Office {
    fn start() -> Outcome<Self> {
        let mut world = World::start();
        world.reset_accounts()?;
        world.account("boss", &Map::from_iter([("roles".to_owned(), json!(["steward"]))]))?;
        let operator = world.database("medic", &plain_settings())?;
        operator.put_all(&[json!({"_id": "form:visit", "type": "form", "title": "Visit"})])?;
        let mut worker = world.device("chw1", "medic")?;
        let mut neighbour = world.device("chw2", "medic")?;
        let steward = world.device("boss", "medic")?;
        worker.pull()?;
        neighbour.pull()?;
        let documents = [
            report("rep-foreign", "10009"),
            report("rep-typo", "10O01"),
            json!({"_id": "pat-lost", "type": "person", "name": "Lost", "parent": {"_id": "area-2"}}),
            json!({"_id": "form:visit", "type": "form", "title": "Changed"}),
            report("rep-own", "10001"),
        ];
        let pushed = worker.push(&documents, &json!({}))?;
        Ok(Self { world, operator, worker, neighbour, steward, pushed })
    }

    /// The row of one pushed document, as the steward sees it.
    #[track_caller]
    fn row(&self, id: &str) -> Kept {
        let rows = Operator::escrow(&self.operator).expect("a list");
        rows.into_iter().find(|row| row.id == id).unwrap_or_else(|| panic!("{id} is not in escrow"))
    }

    fn ids(&self) -> BTreeSet<String> {
        self.operator.escrow().expect("a list").into_iter().map(|row| row.id).collect()
    }

    /// A decision of the steward; the answer has `ok`, the id and a revision.
    fn decide(&self, id: &str, decision: &str, body: Option<&Value>) -> Outcome<Value> {
        let path = format!("/_escrow/{}/{decision}", self.row(id).number);
        let answer = self.steward.send("POST", &path, body, &[200])?.json();
        if answer["ok"] != json!(true) || text(&answer, "id") != id {
            return Err(format!("{decision} of {id} was answered with {answer}"));
        }
        Ok(answer)
    }

    fn to_drop(&self, id: &str) -> Outcome<bool> {
        let answer = self.worker.send("POST", "/_reconcile", Some(&json!({"ids": [id]})), &[200])?.json();
        Ok(texts::<BTreeSet<String>>(&answer["drop"]).contains(id))
    }
}

fn set<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.into_iter().map(str::to_owned).collect()
}

/// Runs a test that ends at the first answer that makes no sense.
#[track_caller]
fn at_the_office(test: fn(&mut Office) -> Outcome<()>) {
    let mut office = Office::start().expect("an office");
    test(&mut office).expect("the answers make sense");
    assert!(!office.world.server.log().contains("panicked"), "{}", office.world.server.log());
}

#[test]
fn a_steward_sees_what_was_refused() {
    at_the_office(|office| {
        assert_eq!(office.ids(), set(["form:visit", "pat-lost", "rep-foreign", "rep-typo"]));
        let listed = office.steward.send("GET", "/_escrow", None, &[200])?.json();
        assert_eq!(listed, office.operator.send("GET", "/_escrow", None, &[200])?.json());
        let reasons = ["rep-foreign", "rep-typo", "pat-lost", "form:visit"].map(|id| office.row(id).reason);
        assert_eq!(reasons, ["out_of_scope", "unknown_subject", "out_of_scope", "reserved"]);
        let row = office.row("rep-typo");
        assert_eq!((row.account.as_str(), row.rev.as_str()), ("chw1", office.pushed[1].rev.as_str()));
        let entry = office.steward.send("GET", &format!("/_escrow/{}", row.number), None, &[200])?.json();
        assert_eq!(entry["doc"]["fields"], json!({"patient_id": "10O01"}));
        assert_eq!(text(&entry["doc"], "_id"), "rep-typo");
        for path in ["/_escrow/999999", "/_escrow/0", "/_escrow/x"] {
            let status = office.steward.send("GET", path, None, &[400, 404])?.status;
            assert!(path.ends_with('x') || status == 404, "{path}: {status}");
        }
        Ok(())
    });
}

#[test]
fn for_others_there_is_no_escrow() {
    at_the_office(|office| {
        let number = office.row("rep-foreign").number;
        let absent = office.worker.send("GET", "/absent", None, &[404])?.text();
        for device in [&office.worker, &office.neighbour] {
            for (method, path) in [
                ("GET", "/_escrow".to_owned()),
                ("GET", format!("/_escrow/{number}")),
                ("POST", format!("/_escrow/{number}/accept")),
                ("POST", format!("/_escrow/{number}/discard")),
                ("POST", format!("/_escrow/{number}/reassign")),
                ("POST", "/_escrow/999999/accept".to_owned()),
            ] {
                let body = (method == "POST").then(|| json!({"subject": "pat-1"}));
                assert_eq!(device.send(method, &path, body.as_ref(), &[404])?.text(), absent, "{method} {path}");
            }
            device.send("POST", "/_places/hh-9/move", Some(&json!({"to": "area-1"})), &[404])?;
        }
        assert_eq!(office.ids().len(), 4);
        Ok(())
    });
}

#[test]
fn what_is_accepted_goes_where_it_belongs() {
    at_the_office(|office| {
        let pushed = office.pushed[0].rev.clone();
        let answer = office.decide("rep-foreign", "accept", None)?;
        assert_eq!(text(&answer, "rev"), pushed, "as it was pushed");
        assert!(office.operator.leaves("rep-foreign")?.contains(&pushed));
        assert_eq!(office.ids(), set(["form:visit", "pat-lost", "rep-typo"]));
        assert!(office.neighbour.sees("rep-foreign")? && !office.worker.sees("rep-foreign")?);
        assert_eq!(office.neighbour.pull()?.gained, set(["rep-foreign"]));
        assert!(office.to_drop("rep-foreign")?, "it is with the neighbour now");
        office.decide("pat-lost", "accept", None)?;
        assert_eq!(office.neighbour.pull()?.gained, set(["pat-lost"]));
        Ok(())
    });
}

#[test]
fn a_report_is_assigned_to_another_subject() {
    at_the_office(|office| {
        let answer = office.decide("rep-typo", "reassign", Some(&json!({"subject": "pat-1"})))?;
        let stored = office.operator.get("rep-typo")?.ok_or("rep-typo is not stored")?;
        assert_eq!(text(&stored, "_rev"), text(&answer, "rev"));
        assert!(office.worker.sees("rep-typo")? && !office.neighbour.sees("rep-typo")?);
        assert_eq!(office.ids(), set(["form:visit", "pat-lost", "rep-foreign"]));
        assert!(!office.to_drop("rep-typo")?);
        office.worker.pull()?;
        assert_eq!(office.worker.held.get("rep-typo").map(String::as_str), Some(text(&stored, "_rev")));
        Ok(())
    });
}

#[test]
fn a_contact_is_assigned_to_another_place() {
    at_the_office(|office| {
        let answer = office.decide("pat-lost", "reassign", Some(&json!({"parent": "hh-1"})))?;
        let stored = office.operator.get("pat-lost")?.ok_or("pat-lost is not stored")?;
        assert_eq!(text(&stored, "_rev"), text(&answer, "rev"));
        let parent = stored["parent"].as_str().unwrap_or(text(&stored["parent"], "_id")).to_owned();
        assert_eq!(parent, "hh-1");
        assert!(office.worker.sees("pat-lost")? && !office.neighbour.sees("pat-lost")?);
        assert_eq!(office.ids(), set(["form:visit", "rep-foreign", "rep-typo"]));
        Ok(())
    });
}

#[test]
fn what_is_discarded_is_gone_and_its_sender_learns_it() {
    at_the_office(|office| {
        assert!(!office.to_drop("rep-foreign")?, "it waits in escrow");
        let number = office.row("rep-foreign").number;
        office.decide("rep-foreign", "discard", None)?;
        assert_eq!(office.operator.leaves("rep-foreign")?, BTreeSet::new());
        assert_eq!(office.ids(), set(["form:visit", "pat-lost", "rep-typo"]));
        assert!(office.to_drop("rep-foreign")?);
        assert!(!office.worker.sees("rep-foreign")? && !office.neighbour.sees("rep-foreign")?);
        for decision in ["accept", "discard"] {
            office.steward.send("POST", &format!("/_escrow/{number}/{decision}"), None, &[404])?;
        }
        Ok(())
    });
}

#[test]
fn an_awaited_subject_settles_what_waits_for_it() {
    at_the_office(|office| {
        let mut patient = office.operator.get("pat-2")?.ok_or("pat-2 is not stored")?;
        patient["patient_id"] = json!("10O01");
        office.operator.put(&patient)?;
        assert_eq!(office.ids(), set(["form:visit", "pat-lost", "rep-foreign"]));
        assert!(office.operator.leaves("rep-typo")?.contains(&office.pushed[1].rev));
        assert!(office.worker.sees("rep-typo")?);
        Ok(())
    });
}

#[test]
fn a_decision_that_makes_no_sense_changes_nothing() {
    at_the_office(|office| {
        let before = (office.operator.escrow()?, office.operator.winners()?);
        let number = office.row("rep-typo").number;
        let contact = office.row("pat-lost").number;
        for (number, body) in [
            (number, json!({})),
            (number, json!({"subject": "nobody-at-all"})),
            (number, json!({"subject": 5})),
            (contact, json!({"parent": "nowhere-at-all"})),
        ] {
            let path = format!("/_escrow/{number}/reassign");
            office.steward.send("POST", &path, Some(&body), &[400, 403, 404, 409, 412, 422])?;
        }
        office.steward.send("POST", &format!("/_escrow/{number}/burn"), Some(&json!({})), &[400, 404, 405])?;
        assert_eq!((office.operator.escrow()?, office.operator.winners()?), before);
        Ok(())
    });
}
