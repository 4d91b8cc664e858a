//! The life of a named device, and what a new password does to sessions and to Basic credentials.

use serde_json::{Value, json};

use super::world::{DATABASE, World};

#[test]
fn a_device_keeps_its_id_over_logins() {
    let world = World::start();
    let first = world.device("ann", "phone-of-ann");
    let again = world.device("ann", "phone-of-ann");
    assert_eq!(first.id, again.id);
    assert_ne!(first.id, world.device("ann", "tablet-of-ann").id);
    assert_ne!(first.id, world.device("ben", "phone-of-ann").id, "of another account it is another device");
    let own = first.own();
    assert_eq!((&own["named"], &own["account"], &own["next"]), (&json!(true), &json!("ann"), &json!("none")));
    let told = json!({"pending": 14, "oldest_pending": 1_797_000_000, "name": "The blue phone", "app": "visits 2"});
    assert_eq!(first.post("/_device", &told).expect(200).json()["name"], "The blue phone");
    let shown = world.shown(&first);
    assert_eq!((&shown["pending"]["documents"], &shown["app"]), (&json!(14), &json!("visits 2")));
    first.post("/_device", &json!({"pending": -1})).expect(400);
    let listed = world.server.admin().get("/_devices?account=ann").expect(200).json();
    assert_eq!(listed["devices"].as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(first.get("/_devices").status, 404, "only operators");
}

#[test]
fn malformed_device_ids_are_refused() {
    let world = World::start();
    for id in ["short", "with a space", "slash/slash", "ümlaut-phone", &"x".repeat(65)] {
        assert_eq!(world.log_in("ann", "ann", id).status, 400, "{id}");
    }
    let body = json!({"name": "ann", "password": "ann", "device": "phone"});
    assert_eq!(world.server.anonymous().post("/_session", &body).status, 400);
}

#[test]
fn a_new_password_lets_old_sessions_push_until_the_device_logs_in_again() {
    let world = World::start();
    let mut phone = world.device("ann", "phone-of-ann");
    phone.push(DATABASE, &["a"]);
    world.change_password("ann", "another", "");
    let own = phone.own();
    assert_eq!(
        (&own["standing"], &own["cause"], &own["next"]),
        (&json!("draining"), &json!("password_changed"), &json!("push"))
    );
    phone.push(DATABASE, &["b"]);
    assert_eq!(phone.get("/medic/a").expect(403).json()["reason"], "draining");
    let back = world.device_with("ann", "another", "phone-of-ann");
    assert_eq!((back.id.as_str(), back.standing().as_str()), (phone.id.as_str(), "active"));
    back.get("/medic/a").expect(200);
    assert_eq!(phone.get("/medic/a").expect(403).json()["reason"], "draining", "the old cookie stays what it was");
    assert_eq!(world.shown(&back)["standing"], "active");
}

#[test]
fn a_new_password_leaves_the_old_one_good_for_pushes() {
    let world = World::start();
    let (old, new) = (world.server.client_as("ann", "ann"), world.server.client_as("ann", "another"));
    old.get("/medic").expect(200);
    assert_eq!(new.get("/medic").status, 401);
    world.change_password("ann", "another", "");
    new.get("/medic/_all_docs").expect(200);
    assert_eq!(old.get("/medic/_all_docs").expect(403).json()["reason"], "draining");
    let body = json!({"docs": [{"_id": "late", "_rev": "1-abc"}], "new_edits": false});
    old.post("/medic/_bulk_docs", &body).expect(201);
    assert_eq!(old.get("/_device").expect(200).json()["standing"], "draining");
    assert_eq!(
        world.server.client_as("ann", "wrong").get("/medic").expect(401).json()["reason"],
        "Name or password is incorrect."
    );
    let user = json!({"name": "ben", "password": "changed", "roles": [], "type": "user"});
    let path = "/_users/org.couchdb.user:ben";
    let revision = world.server.admin().get(path).expect(200).json()["_rev"].clone();
    let mut user = user;
    user["_rev"] = revision;
    let ben = world.device("ben", "phone-of-ben");
    world.server.admin().put(path, &user).expect(201);
    assert_eq!(ben.standing(), "draining", "by way of _users it is the same");
}

#[test]
fn without_a_drain_it_is_a_cut() {
    let world = World::start();
    let phone = world.device("ann", "phone-of-ann");
    world.change_password("ann", "another", "?drain=none");
    assert_eq!(phone.standing(), "cut");
    assert_eq!(phone.bulk(DATABASE, &[]).expect(401).json()["reason"], "cut");
    let bad = world.server.admin().post("/_accounts/ann/password?drain=soon", &json!({"password": "x"}));
    assert_eq!(bad.status, 400);
}

#[test]
fn a_disabled_account_comes_back_and_a_retired_one_does_not() {
    let world = World::start();
    let phone = world.device("ann", "phone-of-ann");
    world.operate("/_accounts/ann/disable");
    assert_eq!(phone.own()["cause"], "disabled");
    world.operate("/_accounts/ann/enable");
    assert_eq!(world.device("ann", "phone-of-ann").standing(), "active");
    world.operate("/_accounts/ann/retire");
    assert_eq!(world.device("ann", "phone-of-ann").standing(), "draining", "its work may still come");
    assert_eq!(world.server.admin().post("/_accounts/ann/enable", &json!({})).status, 409);
    assert_eq!(world.server.admin().post("/_accounts/nobody/retire", &json!({})).status, 404);
}

#[test]
fn a_stolen_phone_is_cut_while_its_owner_goes_on_working() {
    let world = World::start();
    let (stolen, other) = (world.device("ann", "phone-of-ann"), world.device("ann", "tablet-of-ann"));
    assert_eq!(world.operate(&format!("/_devices/{}/cut", stolen.id))["changed"], true);
    assert_eq!(stolen.get("/medic").expect(401).json()["reason"], "cut");
    other.get("/medic/_all_docs").expect(200);
    assert_eq!(
        world.log_in("ann", "ann", "phone-of-ann").expect(401).json()["reason"],
        "cut",
        "the password helps nobody"
    );
    assert_eq!(stolen.own()["cause"], "lost");
    let found = world.shown(&stolen);
    assert!(found["last_seen"].as_u64() >= found["withdrawn_at"].as_u64(), "that it called is seen: {found}");
    world.operate("/_accounts/ann/cut");
    assert_eq!(other.get("/medic").expect(401).json()["reason"], "cut");
    assert_eq!(world.server.client_as("ann", "ann").get("/medic").status, 401);
    assert_eq!(world.log_in("ann", "ann", "new-phone-of-ann").status, 401);
    assert_eq!(world.shown(&other)["wipe"], Value::Null);
}
