//! Shell accounts: prepared by an administrator, worth nothing until their person uses the link.

use serde_json::{Value, json};

use super::village::{DATABASE, PASSWORD, Village, text};
use crate::support::http::Request;

/// Bea's account, prepared; with its link.
fn prepared(village: &Village) -> Value {
    let body = json!({"name": "bea", "roles": ["chw"], "places": ["area-1"], "prepared": true});
    village.operator().post("/_accounts", &body).expect(201).json()["link"].clone()
}

fn state(village: &Village) -> String {
    text(&village.get("/_accounts/bea")["state"]).to_owned()
}

/// What the log says of the account, oldest first.
fn entries(village: &Village) -> Vec<(String, String)> {
    let log = village.get("/_audit?account=bea&limit=1000");
    let entries = log["entries"].as_array().cloned().unwrap_or_default();
    entries.iter().map(|entry| (text(&entry["action"]).to_owned(), text(&entry["by"]).to_owned())).collect()
}

#[test]
fn nobody_gets_in_before_the_link_was_used() {
    let village = Village::start();
    let link = prepared(&village);
    assert_eq!(state(&village), "prepared");
    let listed = |query: &str| village.get(&format!("/_accounts?{query}"))["rows"].as_array().map_or(0, Vec::len);
    assert_eq!((listed("state=prepared"), listed("state=active")), (1, 0));
    let refused = village.operator().post("/_accounts/bea/password", &json!({"password": PASSWORD})).expect(409);
    assert!(refused.text().contains("link"), "{}", refused.text());
    let patch = Request::new("PATCH", "/_accounts/bea").json(&json!({"password": PASSWORD}));
    village.operator().send(&patch).expect(409);
    // CouchDB's tools may write a password into the document: it is of no use, either.
    let mut document = village.get("/_users/org.couchdb.user:bea");
    document["password"] = json!(PASSWORD);
    village.operator().put("/_users/org.couchdb.user:bea", &document).expect(201);
    let login = json!({"name": "bea", "password": PASSWORD, "device": {"id": "bea-phone"}});
    assert_eq!(village.log_in(&login).err().map(|answer| answer.status), Some(401));
    let basic = village.server.client_as("bea", PASSWORD);
    for path in [format!("/{DATABASE}/_changes"), format!("/{DATABASE}/hh-1"), "/_device".to_owned()] {
        basic.get(&path).expect(401);
    }
    basic.post(&format!("/{DATABASE}/_bulk_docs"), &json!({"docs": [], "new_edits": false})).expect(401);
    // The password ended the link; another one is made, and looking at it changes nothing.
    let by_link = |link: &Value| village.log_in(&json!({"link": link["token"], "device": {"id": "bea-phone"}}));
    assert_eq!(by_link(&link).err().map(|answer| answer.status), Some(401));
    let link = village.operator().post("/_accounts/bea/link", &json!({})).expect(201).json();
    village.server.anonymous().get(&format!("/_links/{}", text(&link["token"]))).expect(200);
    assert_eq!(state(&village), "prepared");
    let reach = village.get("/_accounts/bea/reach");
    assert_eq!((&reach["state"], &reach["databases"][0]["sees"]), (&json!("prepared"), &json!("nothing")));
    let phone = village.phone_by_link(&link, "bea-phone");
    assert!(phone.listed().contains("hh-1"));
    assert_eq!((state(&village).as_str(), phone.standing()["standing"].clone()), ("active", json!("active")));
    assert_eq!(village.get("/_accounts/bea/reach")["state"], json!("active"));
    assert!(village.log_in(&login).is_ok(), "now the password is worth something");
    let entries = entries(&village);
    let by = |action: &str| entries.iter().find(|(known, _)| known == action).map(|(_, by)| by.as_str());
    assert_eq!((by("account.prepare"), by("account.activate")), (Some("admin"), Some("bea")), "{entries:?}");
    assert_eq!(entries.iter().filter(|(action, _)| action == "account.activate").count(), 1);
}

#[test]
fn it_stays_a_shell_through_restarts_closing_and_opening() {
    let mut village = Village::start();
    prepared(&village);
    village.server.kill9();
    village.server.restart();
    assert_eq!(state(&village), "prepared");
    let act = |village: &Village, act: &str| village.operator().post(&format!("/_accounts/bea/{act}"), &json!({}));
    act(&village, "disable").expect(200);
    act(&village, "link").expect(403);
    assert_eq!(state(&village), "disabled");
    act(&village, "enable").expect(200);
    assert_eq!(act(&village, "enable").expect(200).json()["changed"], json!(false), "opening is not activating");
    assert_eq!(state(&village), "prepared");
    act(&village, "cut").expect(200);
    assert_eq!(state(&village), "disabled");
    act(&village, "enable").expect(200);
    let link = act(&village, "link").expect(201).json();
    act(&village, "retire").expect(200);
    let refused = village.log_in(&json!({"link": link["token"], "device": {"id": "bea-phone"}}));
    assert_eq!(refused.err().map(|answer| answer.status), Some(401));
    assert_eq!(state(&village), "retired");
}

#[test]
fn a_shell_has_no_password_and_whoever_is_not_one_stays_so() {
    let village = Village::with_ann();
    let both = json!({"name": "bea", "roles": ["chw"], "places": ["area-1"], "prepared": true, "password": PASSWORD});
    village.operator().post("/_accounts", &both).expect(400);
    village.operator().post("/_accounts", &json!({"name": "bea", "roles": ["chw"], "prepared": "yes"})).expect(400);
    village.operator().get("/_accounts/bea").expect(404);
    let tried = json!({"name": "bea", "roles": ["chw"], "places": ["area-1"], "prepared": true});
    village.operator().post("/_accounts?dry_run=true", &tried).expect(200);
    village.operator().get("/_accounts/bea").expect(404);
    // A file that names somebody who is there makes no shell of them.
    village.bulk("", "username,roles,place\nann,chw,area-1\n");
    assert_eq!(village.get("/_accounts/ann")["state"], json!("active"));
    village.phone("ann", "ann-phone");
    let open = village.bulk("?prepared=false", "username,roles,place\ncy,chw,area-1\n");
    assert_eq!(
        (&open["rows"][0]["status"], village.get("/_accounts/cy")["state"].clone()),
        (&json!("created"), json!("active"))
    );
}
