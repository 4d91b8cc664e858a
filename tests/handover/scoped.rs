//! Manifests in a scoped database: what is in escrow is safe, and a manifest tells nothing about documents of others.

use serde_json::{Value, json};

use super::world::{Device, World};

const DATABASE: &str = "district";

/// Two areas with a worker each, `ann` in the first and `ben` in the second.
fn district() -> World {
    let world = World::start();
    let admin = world.server.admin();
    admin.put(&format!("/{DATABASE}?scoped=true"), &Value::Null).expect(201);
    admin.put(&format!("/{DATABASE}/_security"), &json!({"members": {"roles": ["chw"]}})).expect(200);
    let permissions = json!({"can_edit": ["chw"]});
    let settings = json!({"replication_depth": [], "permissions": permissions});
    admin.put(&format!("/{DATABASE}/settings"), &json!({"settings": settings})).expect(201);
    for (account, area) in [("ann", "area-1"), ("ben", "area-2")] {
        let place = json!({"type": "health_center", "name": area, "contact": {"_id": format!("per-{account}")}});
        admin.put(&format!("/{DATABASE}/{area}"), &place).expect(201);
        for person in [format!("per-{account}"), format!("pat-{account}")] {
            let document = json!({"type": "person", "name": person, "parent": {"_id": area}});
            admin.put(&format!("/{DATABASE}/{person}"), &document).expect(201);
        }
        let path = format!("/_users/org.couchdb.user:{account}");
        let mut user = admin.get(&path).expect(200).json();
        user["facility_id"] = area.into();
        user["contact_id"] = format!("per-{account}").into();
        admin.put(&path, &user).expect(201);
    }
    world
}

/// A report, with the revision that its device gives it.
fn report(device: &mut Device, id: &str, subject: &str) -> Value {
    let (_, mut body) = device.edit(id);
    body["type"] = "data_record".into();
    body["contact"] = json!({"_id": "per-ann"});
    body["fields"] = json!({"patient_id": subject});
    body
}

#[test]
fn what_waits_in_escrow_has_arrived() {
    let world = district();
    let mut phone = world.device("ann", "phone-of-ann");
    let bodies = [report(&mut phone, "own", "pat-ann"), report(&mut phone, "unknown", "nobody-yet")];
    phone.bulk(DATABASE, &bodies).expect(201);
    assert_eq!(phone.own()["escrowed"], 1);
    world.operate("/_accounts/ann/retire");
    let answer = phone.whole_manifest(DATABASE).expect(200).json();
    let escrowed = json!([{"id": "unknown", "rev": phone.held["unknown"]}]);
    assert_eq!((&answer["escrowed"], &answer["missing"]), (&escrowed, &json!({})));
    assert_eq!((&answer["receipt"]["revisions"], &answer["receipt"]["escrowed"]), (&json!(2), &json!(1)));
    assert_eq!(answer["standing"], "drained");
    assert_eq!(world.shown(&phone)["escrowed"], 1);
}

#[test]
fn what_was_discarded_is_missing_again() {
    let world = district();
    let mut phone = world.device("ann", "phone-of-ann");
    let body = report(&mut phone, "unknown", "nobody-yet");
    phone.bulk(DATABASE, &[body]).expect(201);
    let rows = world.server.admin().get(&format!("/{DATABASE}/_escrow")).expect(200).json();
    let number = rows["rows"][0]["number"].clone();
    world.operate(&format!("/{DATABASE}/_escrow/{number}/discard"));
    let answer = phone.whole_manifest(DATABASE).expect(200).json();
    assert_eq!((&answer["missing"]["unknown"], answer.get("receipt")), (&json!([phone.held["unknown"]]), None));
}

#[test]
fn documents_of_others_are_as_if_they_did_not_exist() {
    let world = district();
    let (mut phone, mut other) = (world.device("ann", "phone-of-ann"), world.device("ben", "phone-of-ben"));
    let foreign = report(&mut other, "foreign", "pat-ben");
    other.bulk(DATABASE, std::slice::from_ref(&foreign)).expect(201);
    let revision = other.held["foreign"].clone();
    let ask = |phone: &Device, id: &str, name: &str| {
        phone.manifest(DATABASE, name, &json!({id: [revision]}), true).expect(200).json()["missing"].clone()
    };
    assert_eq!(ask(&phone, "foreign", "m1"), json!({"foreign": [revision]}));
    assert_eq!(ask(&phone, "invented", "m2"), json!({"invented": [revision]}));
    // Sending it makes it known to the device, whether it was there or not: so nothing is learnt, and nothing is sent for ever.
    phone.held.clear();
    let mut invented = foreign.clone();
    invented["_id"] = "invented".into();
    phone.bulk(DATABASE, &[foreign, invented]).expect(201);
    assert_eq!(ask(&phone, "foreign", "m1"), json!({}));
    assert_eq!(ask(&phone, "invented", "m2"), json!({}));
    let diff = phone.post(&format!("/{DATABASE}/_revs_diff"), &json!({"foreign": [revision], "invented": [revision]}));
    assert_eq!(diff.expect(200).json(), json!({}));
}

#[test]
fn a_device_that_lost_a_document_can_still_finish() {
    let world = district();
    let mut phone = world.device("ann", "phone-of-ann");
    let body = report(&mut phone, "own", "pat-ann");
    phone.bulk(DATABASE, &[body]).expect(201);
    // Somebody else edits it, the phone pulls that, and then the patient moves away.
    let path = format!("/{DATABASE}/own");
    let mut edited = world.server.admin().get(&path).expect(200).json();
    edited["note"] = "edited".into();
    let revision = world.server.admin().put(&path, &edited).expect(201).json()["rev"].clone();
    phone.get(&path).expect(200);
    let moved = json!({"to": "area-2"});
    world.server.admin().post(&format!("/{DATABASE}/_places/pat-ann/move"), &moved).expect(200);
    assert_eq!(phone.get(&path).status, 404);
    let revs = json!({"own": [revision]});
    let answer = phone.manifest(DATABASE, "m", &revs, true).expect(200).json();
    assert_eq!(answer["missing"], revs, "the server does not say that it is there");
    let mut again = edited.clone();
    again["_rev"] = revision.clone();
    phone.bulk(DATABASE, &[again]).expect(201);
    let answer = phone.manifest(DATABASE, "m", &json!({}), true).expect(200).json();
    assert!(answer["receipt"].is_object(), "{answer}");
}
