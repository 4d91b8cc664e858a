//! Who cared for this household on that day, and when did it change hands? Also for what arrives weeks late, for households
//! that moved, and after ordinary writes.

#![expect(
    clippy::disallowed_methods,
    reason = "the server measures time in seconds, and nothing tells when the next one begins"
)]

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::village::{DATABASE, Village, report, text};
use crate::support::http::Request;

/// A second in which nothing happens: everything before is earlier, everything after is later.
fn quiet_second(village: &Village) -> u64 {
    let now = || village.get("/medic/_custody/district")["at"].as_u64().expect("a time");
    let next = |than: u64| loop {
        match now() {
            reached if reached > than => return reached,
            _ => thread::sleep(Duration::from_millis(20)),
        }
    };
    let quiet = next(now());
    next(quiet);
    quiet
}

fn holder(village: &Village, id: &str, at: u64) -> Value {
    village.get(&format!("/medic/_custody/{id}?at={at}"))["holder"]["account"].clone()
}

fn put(village: &Village, id: &str, change: impl FnOnce(&mut Value)) {
    let mut document = village.document(id);
    change(&mut document);
    village.operator().put(&format!("/{DATABASE}/{id}"), &document).expect(201);
}

#[test]
fn the_holder_on_a_day_is_known_for_everything_below_the_place() {
    let village = Village::start();
    let nobody = quiet_second(&village);
    village.worker("ann", "area-1", "per-ann");
    let of_ann = quiet_second(&village);
    village.place("area-1", "replace", &json!({"contact": {"name": "Bea"}, "account": {"name": "bea"}})).expect(200);
    let of_bea = quiet_second(&village);
    for id in ["area-1", "hh-1", "pat-1", "visit-1"] {
        let held = [nobody, of_ann, of_bea].map(|at| holder(&village, id, at));
        assert_eq!(held, [Value::Null, json!("ann"), json!("bea")], "{id}");
        let custody = village.get(&format!("/medic/_custody/{id}"));
        assert_eq!((&custody["place"], &custody["holder"]["account"]), (&json!("area-1"), &json!("bea")));
        let (ended, began) = (&custody["history"][0]["until"], &custody["history"][1]["from"]);
        assert!(ended == began && ended.is_u64(), "{custody}");
        assert_eq!(custody["history"][1]["by"], json!("admin"));
    }
    assert_eq!(village.get("/medic/_custody/area-2")["holder"], Value::Null);
    village.operator().get("/medic/_custody/nowhere").expect(404);
    village.operator().get("/medic/_custody/area-1?at=yesterday").expect(400);
}

#[test]
fn what_was_taken_back_never_was() {
    let village = Village::with_ann();
    quiet_second(&village);
    village.place("area-1", "replace", &json!({"contact": {"name": "Bea"}, "account": {"name": "bea"}})).expect(200);
    let between = quiet_second(&village);
    village.place("area-1", "undo_replace", &json!({})).expect(200);
    let after = quiet_second(&village);
    assert_eq!([between, after].map(|at| holder(&village, "hh-1", at)), [json!("ann"), json!("ann")]);
    let history = village.get("/medic/_custody/area-1")["history"].clone();
    assert_eq!((&history[1]["undone"], &history[0]["until"]), (&json!(true), &Value::Null), "{history}");
    // The next one begins where the first, not the one taken back, ends.
    village.place("area-1", "replace", &json!({"contact": {"name": "Cy"}, "account": {"name": "cy"}})).expect(200);
    let last = quiet_second(&village);
    assert_eq!([after, last].map(|at| holder(&village, "hh-1", at)), [json!("ann"), json!("cy")]);
}

/// A household that moved was cared for where it was.
#[test]
fn the_question_follows_a_household_that_moved() {
    let village = Village::with_ann();
    village.worker("zoe", "area-2", "per-zoe");
    let before = quiet_second(&village);
    village.place("hh-1", "move", &json!({"to": "area-2"})).expect(200);
    let after = quiet_second(&village);
    for id in ["hh-1", "pat-1", "visit-1"] {
        assert_eq!([before, after].map(|at| holder(&village, id, at)), [json!("ann"), json!("zoe")], "{id}");
    }
    let moves = village.get("/medic/_custody/pat-1")["moves"].clone();
    assert_eq!(
        (&moves[0]["from"], &moves[0]["to"], moves[0]["time"].is_u64()),
        (&json!("area-1"), &json!("area-2"), true)
    );
    // Back again by an ordinary write, and the area is handed over meanwhile.
    put(&village, "hh-1", |document| document["parent"] = json!({"_id": "area-1", "parent": {"_id": "district"}}));
    let back = quiet_second(&village);
    village.place("area-2", "replace", &json!({"contact": {"name": "Bea"}, "account": {"name": "bea"}})).expect(200);
    let last = quiet_second(&village);
    let held = [before, after, back, last].map(|at| holder(&village, "pat-1", at));
    assert_eq!(held, [json!("ann"), json!("zoe"), json!("ann"), json!("ann")]);
}

#[test]
fn an_ordinary_write_of_the_primary_contact_goes_on_record() {
    let village = Village::with_ann();
    let of_ann = quiet_second(&village);
    let person = json!({"_id": "per-new", "type": "person", "name": "New", "parent": {"_id": "area-1"}});
    village.operator().put(&format!("/{DATABASE}/per-new"), &person).expect(201);
    put(&village, "area-1", |document| document["contact"] = json!({"_id": "per-new"}));
    let after = quiet_second(&village);
    let contact = |at: u64| village.get(&format!("/medic/_custody/hh-1?at={at}"))["holder"]["contact"].clone();
    assert_eq!([of_ann, after].map(contact), [json!("per-ann"), json!("per-new")]);
    assert_eq!(village.get("/medic/_custody/area-1")["history"][0]["ended_how"], json!("write"));
    // Households have primary contacts, too; these are nobody's holders.
    put(&village, "hh-1", |document| document["contact"] = json!({"_id": "per-ann"}));
    assert_eq!(village.get("/medic/_custody/hh-1")["place"], json!("area-1"));
}

/// What counts as late, to the letter: the author's account gave away the place that the document belongs to.
#[test]
fn late_is_what_comes_from_an_account_that_gave_the_place_away() {
    let village = Village::with_ann();
    village.worker("zoe", "area-2", "per-zoe");
    let (ann, zoe) = (village.phone("ann", "ann-phone"), village.phone("zoe", "zoe-phone"));
    let is_late = |phone: &super::village::Phone, document: &Value| {
        phone.push(document).expect(201);
        let id = text(&document["_id"]);
        village.get(&format!("/{DATABASE}/{id}?provenance=true"))["_provenance"][0]["received_after_handover"].clone()
    };
    assert_eq!(is_late(&ann, &report("r1", "pat-1", "per-ann")), json!(false));
    village.place("area-1", "replace", &json!({"contact": {"name": "Bea"}, "account": {"name": "bea"}})).expect(200);
    let household = json!({"_id": "hh-new", "type": "clinic", "name": "New", "parent": {"_id": "area-1"}});
    let patient = json!({"_id": "pat-new", "type": "person", "name": "New", "parent": {"_id": "hh-new"}});
    assert_eq!(is_late(&ann, &household), json!(true));
    assert_eq!(is_late(&ann, &patient), json!(true), "below what came late");
    assert_eq!(is_late(&ann, &report("r2", "pat-new", "per-ann")), json!(true));
    let task = json!({"_id": "task-1", "type": "task", "user": "org.couchdb.user:ann"});
    assert_eq!(is_late(&ann, &task), json!(true), "what is about nobody counts by the places of the account");
    assert_eq!(is_late(&zoe, &report("r3", "per-zoe", "per-zoe")), json!(false), "who gave nothing away is never late");
    // What waited in escrow is judged when it comes out, by its account.
    ann.push(&report("r5", "pat-later", "per-ann")).expect(201);
    village.operator().get(&format!("/{DATABASE}/r5")).expect(404);
    let later = json!({"_id": "pat-later", "type": "person", "name": "Later", "parent": {"_id": "hh-1"}});
    zoe.push(&later).expect(201);
    village.operator().get(&format!("/{DATABASE}/pat-later")).expect(404);
    assert_eq!(is_late(&ann, &later), json!(true));
    let admitted = village.get(&format!("/{DATABASE}/r5?provenance=true"))["_provenance"][0].clone();
    assert_eq!((&admitted["account"], &admitted["epoch"]), (&json!("ann"), &json!(0)), "{admitted}");
    assert_eq!(admitted["received_after_handover"], json!(true));
    // Zoe's area changes hands by an ordinary change of accounts.
    let patch = Request::new("PATCH", "/_accounts/zoe").json(&json!({"places": ["area-1"], "contact": null}));
    village.operator().send(&patch).expect(200);
    let own_place = report("r4", "pat-1", "per-zoe");
    assert_eq!(is_late(&zoe, &own_place), json!(false), "in a place that was never given away by it");
}

/// The store goes on telling after a restart, and a database that is deleted takes its history with it.
#[test]
fn histories_survive_restarts_and_end_with_their_database() {
    let mut village = Village::with_ann();
    village.place("area-1", "replace", &json!({"contact": {"name": "Bea"}, "account": {"name": "bea"}})).expect(200);
    let before = village.get("/medic/_custody/area-1")["history"].clone();
    village.server.restart();
    assert_eq!(village.get("/medic/_custody/area-1")["history"], before);
    village.operator().delete("/medic").expect(200);
    village.fill();
    assert_eq!(village.get("/medic/_custody/area-1")["history"], json!([]));
}
