//! The three ways to hand a place over (`cht-rules.md` D.8), end to end with the old phone that comes back late; and undo.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::village::{DATABASE, PASSWORD, Phone, Village, report, text};
use crate::support::http::Request;

/// Who brought the newest revision of a document.
fn provenance(village: &Village, id: &str) -> Value {
    let rows = village.get(&format!("/{DATABASE}/{id}?provenance=true"))["_provenance"].clone();
    rows.as_array().and_then(|rows| rows.last()).cloned().unwrap_or_default()
}

/// The old phone pushes and reads nothing.
fn assert_push_only(phone: &Phone, late: &str, author: &str) {
    phone.push(&report(late, "pat-1", author)).expect(201);
    for path in ["hh-1", late, "_all_docs"] {
        let answer = phone.send("GET", &format!("/{DATABASE}/{path}"), None);
        assert_eq!((answer.status, text(&answer.json()["reason"])), (403, "draining"), "{path}");
    }
}

fn without(mut ids: BTreeSet<String>, gone: &[&str]) -> BTreeSet<String> {
    for id in gone {
        assert!(ids.remove(*id), "{id} is not among {ids:?}");
    }
    ids
}

#[test]
fn a_replacement_leaves_the_documents_of_the_place_as_they_are() {
    let village = Village::with_ann();
    let old = village.phone("ann", "ann-phone");
    old.push(&report("visit-2", "pat-1", "per-ann")).expect(201);
    let before = old.listed();
    let area = village.document("area-1");
    let kept = r#""odd":[1.0,1e2,{"ä":null}],"contact":{"_id":"per-ann","parent":{"_id":"area-1"}}"#;
    let raw = format!(
        r#"{{"_rev":{},"type":"contact","contact_type":"chw_area","name":"One","parent":{{"_id":"district"}},{kept}}}"#,
        area["_rev"]
    );
    let put = Request::new("PUT", &format!("/{DATABASE}/area-1")).header("content-type", "application/json").body(raw);
    village.operator().send(&put).expect(201);

    let body = json!({"contact": {"name": "Bea", "phone": "+256 1"}, "account": {"name": "bea"}, "reason": "left"});
    let done = village.place("area-1", "replace", &body).expect(200).json();
    let contact = text(&done["contact"]["id"]).to_owned();
    assert_eq!((&done["account"], &done["retired"]), (&json!("bea"), &json!(["ann"])));
    assert_eq!(done["former_contact"], json!("per-ann"));
    let devices = done["devices"].as_array().cloned().unwrap_or_default();
    assert_eq!((devices.len(), &devices[0]["standing"]), (1, &json!("draining")), "{done}");

    let text_now = village.operator().get(&format!("/{DATABASE}/area-1")).text();
    let rest = format!(
        r#""type":"contact","contact_type":"chw_area","name":"One","parent":{{"_id":"district"}},"odd":[1.0,1e2,{{"ä":null}}],"contact":{{"_id":"{contact}","parent":{{"_id":"area-1","parent":{{"_id":"district"}}}}}}}}"#
    );
    assert!(text_now.trim_end().ends_with(&rest), "{text_now}\n{rest}");
    assert_eq!(village.document("per-ann")["replaced_by"], json!(contact));
    assert_eq!(village.get("/_accounts/ann")["state"], json!("retired"));
    let account = village.get("/_accounts/bea");
    assert_eq!((&account["roles"], &account["places"]), (&json!(["chw"]), &json!(["area-1"])), "{account}");
    assert_eq!((&account["fullname"], &account["phone"]), (&json!("Bea"), &json!("+256 1")));

    let new = village.phone_by_link(&done["link"], "bea-phone");
    let after = without(new.listed(), &[&contact, "org.couchdb.user:bea"]);
    assert_eq!(after, without(before, &["org.couchdb.user:ann"]), "the same documents");

    assert_push_only(&old, "late", "per-ann");
    assert_eq!(old.standing()["next"], json!("push"));
    let late = provenance(&village, "late");
    assert_eq!((&late["account"], &late["standing"]), (&json!("ann"), &json!("draining")), "{late}");
    assert_eq!((&late["received_after_handover"], &late["epoch"]), (&json!(true), &json!(1)));
    assert_eq!(provenance(&village, "visit-2")["received_after_handover"], json!(false));
    assert!(new.listed().contains("late"), "the newcomer sees what arrived late");
    new.push(&report("visit-3", "pat-1", &contact)).expect(201);
    let own = provenance(&village, "visit-3");
    assert_eq!((&own["standing"], &own["received_after_handover"]), (&json!("active"), &json!(false)));
    assert!(
        village
            .log_in(&json!({"name": "ann", "password": PASSWORD}))
            .is_ok_and(|phone| { phone.send("GET", &format!("/{DATABASE}/hh-1"), None).status == 403 })
    );
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let village = Village::with_ann();
    let old = village.phone("ann", "ann-phone");
    old.send("POST", "/_device", Some(&json!({"pending": 3}))).expect(200);
    let before = village.state();
    for (act, body) in [
        ("replace", json!({"contact": {"name": "Bea"}, "account": {"name": "bea"}})),
        ("rename_holder", json!({"name": "Bea"})),
        ("hand_over", json!({"contact": {"name": "Bea"}})),
    ] {
        let tried = village.place("area-1", &format!("{act}?dry_run=true"), &body).expect(200).json();
        assert_eq!((&tried["dry_run"], tried.get("link")), (&json!(true), None), "{tried}");
        assert_eq!(tried["devices"][0]["pending"]["documents"], json!(3), "{tried}");
        assert_eq!(village.state(), before, "{act}");
        assert!(old.listed().contains("hh-1"), "{act}");
    }
    assert_eq!(village.get("/medic/_custody/area-1")["history"].as_array().map(Vec::len), Some(1));
}

#[test]
fn what_cannot_be_handed_over_stays_as_it_is() {
    let village = Village::with_ann();
    let multi = json!({"name": "multi", "password": PASSWORD, "roles": ["chw"], "places": ["area-1", "area-2"], "contact":
                       "per-zoe"});
    village.operator().post("/_accounts", &multi).expect(201);
    let before = village.state();
    let contact = json!({"name": "Bea"});
    for (status, place, act, body) in [
        (404, "nowhere", "replace", json!({"contact": contact, "account": {"name": "bea"}})),
        (404, "visit-1", "replace", json!({"contact": contact, "account": {"name": "bea"}})),
        (400, "area-1", "replace", json!({"account": {"name": "bea"}})),
        (409, "area-1", "replace", json!({"contact": contact, "account": {"name": "ann"}})),
        (409, "area-1", "replace", json!({"contact": "per-ann", "account": {"name": "bea"}})),
        (404, "area-1", "replace", json!({"contact": "nobody", "account": {"name": "bea"}})),
        (404, "area-1", "replace", json!({"contact": "per-zoe", "account": {"name": "bea"}})),
        (404, "area-1", "replace", json!({"contact": contact, "retire": ["nobody"]})),
        (400, "area-2", "replace", json!({"contact": contact, "account": {"name": "bea"}})),
        (400, "district", "replace", json!({"contact": contact, "account": {"name": "bea"}})),
        (409, "district", "rename_holder", json!({"name": "Bea"})),
        (400, "area-1", "rename_holder", json!({})),
        (409, "area-1", "rename_holder", json!({"name": "Bea", "account": "multi"})),
        (409, "area-1", "hand_over", json!({"contact": "per-ann"})),
        (400, "area-1", "hand_over", json!({})),
        (409, "area-1", "undo_replace", json!({})),
    ] {
        let answer = village.place(place, act, &body);
        assert_eq!(answer.status, status, "{place} {act} {body}: {}", answer.text());
        assert_eq!(village.state(), before, "{place} {act} {body}");
    }
    // Whoever holds several places is retired when that is said.
    let body = json!({"contact": contact, "account": {"name": "bea", "roles": ["chw"]}, "retire": ["multi"]});
    let done = village.place("area-2", "replace", &body).expect(200).json();
    assert_eq!(done["retired"], json!(["multi"]));
}

#[test]
fn a_replacement_can_be_taken_back_until_the_newcomer_pushes() {
    let village = Village::with_ann();
    let old = village.phone("ann", "ann-phone");
    let names = |state: &std::collections::BTreeMap<String, String>| state.keys().cloned().collect::<BTreeSet<_>>();
    let before = village.state();
    let area = village.document("area-1");
    let body = json!({"contact": {"name": "Bea"}, "account": {"name": "bea"}, "place_name": "Area of Bea"});
    let done = village.place("area-1", "replace", &body).expect(200).json();
    assert_eq!(village.document("area-1")["name"], json!("Area of Bea"));
    let new = village.phone_by_link(&done["link"], "bea-phone");
    assert_push_only(&old, "late", "per-ann");

    let undone = village.place("area-1", "undo_replace", &json!({})).expect(200).json();
    assert_eq!((&undone["deleted"], &undone["opened"]), (&json!("bea"), &json!([{"name": "ann"}])), "{undone}");
    let mut expected = names(&before);
    expected.insert("medic/late".to_owned());
    assert_eq!(names(&village.state()), expected);
    let mut again = village.document("area-1");
    again["_rev"] = area["_rev"].clone();
    assert_eq!(again, area);
    assert!(village.document("per-ann").get("replaced_by").is_none());
    assert_eq!(new.standing()["cause"], json!("account_deleted"));
    let ann = village.phone("ann", "ann-phone");
    assert!(ann.listed().is_superset(&["hh-1", "late"].map(str::to_owned).into()));
    assert_eq!(ann.standing()["standing"], json!("active"));
    village.place("area-1", "undo_replace", &json!({})).expect(409);

    let done = village.place("area-1", "replace", &json!({"contact": {"name": "Eve"}, "account": {"name": "bea"}}));
    let done = done.expect(200).json();
    let new = village.phone_by_link(&done["link"], "eve-phone");
    new.push(&report("first", "pat-1", text(&done["contact"]["id"]))).expect(201);
    let refused = village.place("area-1", "undo_replace", &json!({}));
    assert_eq!(refused.status, 409);
    assert!(text(&refused.json()["reason"]).contains("pushed"), "{}", refused.text());
}

#[test]
fn rename_in_place_keeps_contact_and_account_and_changes_the_credential() {
    let village = Village::with_ann();
    let old = village.phone("ann", "ann-phone");
    let body = json!({"name": "Bea", "phone": "+256 2"});
    let done = village.place("area-1", "rename_holder", &body).expect(200).json();
    assert_eq!((&done["account"], &done["contact"]["id"]), (&json!("ann"), &json!("per-ann")));
    let contact = village.document("per-ann");
    assert_eq!((&contact["name"], &contact["phone"]), (&json!("Bea"), &json!("+256 2")));
    assert_eq!(village.get("/_accounts/ann")["password"], json!(false), "the old password is gone");
    assert_push_only(&old, "late", "per-ann");
    assert_eq!(provenance(&village, "late")["received_after_handover"], json!(true), "same account, another person");
    let new = village.phone_by_link(&done["link"], "bea-phone");
    new.push(&report("own", "pat-1", "per-ann")).expect(201);
    assert_eq!(provenance(&village, "own")["received_after_handover"], json!(false));
    let people = |history: &Value| -> Vec<String> {
        history.as_array().into_iter().flatten().map(|row| text(&row["person"]).to_owned()).collect()
    };
    assert_eq!(people(&village.get("/medic/_custody/hh-1")["history"]), ["Ann", "Bea"]);
    // Again, with a password of one's own.
    let body = json!({"name": "Eve", "password": "quite-another-1"});
    let done = village.place("area-1", "rename_holder", &body).expect(200).json();
    assert!(done.get("link").is_none(), "{done}");
    assert_eq!(new.standing()["standing"], json!("draining"));
    assert_eq!(people(&village.get("/medic/_custody/hh-1")["history"]), ["Ann", "Bea", "Eve"]);
}

#[test]
fn a_phone_that_is_handed_over_pushes_first_and_is_the_newcomers_after_the_login() {
    let village = Village::with_ann();
    let old = village.phone("ann", "the-phone");
    let done = village.place("area-1", "hand_over", &json!({"contact": {"name": "Bea"}})).expect(200).json();
    let contact = text(&done["contact"]["id"]);
    assert_eq!((&done["account"], &done["former_contact"]), (&json!("ann"), &json!("per-ann")));
    assert_eq!(village.document("area-1")["contact"]["_id"], json!(contact));
    assert_eq!(village.document("per-ann")["replaced_by"], json!(contact));
    assert_eq!(village.get("/_accounts/ann")["contact"], json!(contact));
    assert_push_only(&old, "late", "per-ann");
    assert_eq!(provenance(&village, "late")["received_after_handover"], json!(true));
    let new = village.phone_by_link(&done["link"], "the-phone");
    assert_eq!(new.standing()["device"], old.standing()["device"], "the same device");
    new.push(&report("own", "pat-1", contact)).expect(201);
    assert_eq!(provenance(&village, "own")["received_after_handover"], json!(false));
    let history = village.get("/medic/_custody/area-1")["history"].clone();
    let told: Vec<_> =
        history.as_array().into_iter().flatten().map(|row| (text(&row["contact"]), text(&row["how"]))).collect();
    assert_eq!(told, [("per-ann", "account"), (contact, "hand_over")], "{history}");
    assert_eq!(history[0]["ended_how"], json!("hand_over"));
}

#[test]
fn a_phone_can_be_handed_over_with_a_new_account() {
    let village = Village::with_ann();
    let old = village.phone("ann", "the-phone");
    let body = json!({"contact": {"name": "Bea"}, "account": {"name": "bea"}});
    let done = village.place("area-1", "hand_over", &body).expect(200).json();
    assert_eq!(done["retired"], json!(["ann"]));
    assert_push_only(&old, "late", "per-ann");
    let new = village.phone_by_link(&done["link"], "the-phone");
    assert!(new.listed().is_superset(&["late", "hh-1"].map(str::to_owned).into()));
    assert_eq!(village.get("/medic/_custody/area-1")["holder"]["how"], json!("hand_over"));
}

/// A first holder, and a holder that nobody ever made an account for.
#[test]
fn a_place_without_an_account_gets_one() {
    let village = Village::start();
    let body = json!({"contact": {"name": "Bea"}, "account": {"name": "bea", "roles": ["chw"]}});
    let done = village.place("area-1", "replace", &body).expect(200).json();
    assert_eq!((&done["retired"], &done["former_contact"]), (&json!([]), &json!("per-ann")));
    let custody = village.get("/medic/_custody/area-1");
    let rows: Vec<_> =
        custody["history"].as_array().into_iter().flatten().map(|row| text(&row["how"]).to_owned()).collect();
    assert_eq!(rows, ["known", "replace"], "{custody}");
    let body = json!({"contact": {"name": "Cy"}, "account": {"name": "cy", "roles": ["chw"]}});
    village.place("district", "replace", &body).expect(200);
    assert_eq!(village.get("/medic/_custody/district")["holder"]["account"], json!("cy"));
}

/// Every act is on record, with who did it and why.
#[test]
fn every_act_is_in_the_audit_log() {
    let mut village = Village::with_ann();
    let body = json!({"contact": {"name": "Bea"}, "account": {"name": "bea"}, "reason": "moved to the city"});
    village.place("area-1", "replace", &body).expect(200);
    village.place("area-1", "undo_replace", &json!({"reason": "a mistake"})).expect(200);
    village.place("area-1", "hand_over", &json!({"contact": {"name": "Cy"}})).expect(200);
    village.place("area-1", "rename_holder", &json!({"name": "Di"})).expect(200);
    let folder = village.server.data();
    village.server.stop();
    let bytes = std::fs::read_dir(folder.join("db")).expect("the store").flatten();
    let logs: Vec<u8> = bytes
        .filter(|file| file.path().extension().is_some_and(|ending| ending == "log" || ending == "sst"))
        .flat_map(|file| std::fs::read(file.path()).unwrap_or_default())
        .collect();
    for action in [
        "place.replace",
        "place.undo_replace",
        "place.hand_over",
        "place.rename_holder",
        "account.retire",
        "account.create",
        "account.enable",
        "link.make",
    ] {
        let wanted = format!("\"action\":\"{action}\"");
        assert!(memchr::memmem::find(&logs, wanted.as_bytes()).is_some(), "{action}");
    }
    assert!(memchr::memmem::find(&logs, b"\"reason\":\"moved to the city\"").is_some());
}
