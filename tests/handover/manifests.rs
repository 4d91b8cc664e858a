//! Manifests and receipts: what is compared, when a receipt is given and to whom, and that it can be checked without a server.

use std::io::Write as _;
use std::process::Command;

use serde_json::{Value, json};

use super::world::{DATABASE, Device, World};

/// Runs `settle receipt verify` on a receipt; gives whether it is valid and what was printed.
fn verify(receipt: &Value, key: &str) -> (bool, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(receipt.to_string().as_bytes()).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_settle"));
    let output = command.args(["receipt", "verify"]).arg(file.path()).args(["--key", key]).output().expect("it runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn key_of(world: &World) -> String {
    let answer = world.server.anonymous().get("/_handover/key").expect(200).json();
    assert_eq!(answer["algorithm"], "ed25519");
    answer["key"].as_str().expect("a key").to_owned()
}

/// A retired phone that has pushed three documents.
fn retired(world: &World) -> Device {
    let mut phone = world.device("ann", "phone-of-ann");
    phone.push(DATABASE, &["a", "b", "c"]);
    world.operate(&format!("/_devices/{}/retire", phone.id));
    phone
}

#[test]
fn a_complete_manifest_drains_a_withdrawn_device_and_gives_a_receipt() {
    let world = World::start();
    let phone = retired(&world);
    assert_eq!(phone.standing(), "draining");
    let answer = phone.whole_manifest(DATABASE).expect(200).json();
    assert_eq!(
        (&answer["standing"], &answer["missing"], &answer["received"]),
        (&json!("drained"), &json!({}), &json!(3))
    );
    let receipt = &answer["receipt"];
    let lines: String = phone.held.iter().map(|(id, revision)| format!("{id}\0{revision}\n")).collect();
    assert_eq!(receipt["root"], blake3::hash(lines.as_bytes()).to_hex().as_str());
    assert_eq!((&receipt["documents"], &receipt["revisions"], &receipt["escrowed"]), (&json!(3), &json!(3), &json!(0)));
    assert_eq!((&receipt["device"], &receipt["account"]), (&json!(phone.id), &json!("ann")));
    let own = phone.own();
    assert_eq!(own["receipts"], json!([receipt]), "it can be read again");
    let refused = phone.bulk(DATABASE, &[]).expect(401).json();
    assert_eq!(refused["reason"], "drained");
    assert_eq!(world.shown(&phone)["evidence"], "manifest");
}

#[test]
fn one_missing_revision_and_there_is_no_receipt() {
    let world = World::start();
    let mut phone = retired(&world);
    let (revision, body) = phone.edit("unsent");
    let answer = phone.whole_manifest(DATABASE).expect(200).json();
    assert_eq!(answer["missing"], json!({"unsent": [revision]}));
    assert_eq!(answer.get("receipt"), None);
    assert_eq!(phone.standing(), "draining");
    phone.bulk(DATABASE, &[body]).expect(201);
    let answer = phone.manifest(DATABASE, "whole", &json!({}), true).expect(200).json();
    assert_eq!(answer["receipt"]["revisions"], 4, "the list stayed open: {answer}");
    assert_eq!(phone.standing(), "drained");
}

#[test]
fn parts_come_in_any_order_and_twice_and_over_a_restart() {
    let mut world = World::start();
    let mut phone = retired(&world);
    let parts = [json!({"c": [phone.held["c"]]}), json!({"a": [phone.held["a"]]})];
    for (number, received) in [(0, 1), (1, 2), (0, 2)] {
        let answer = phone.manifest(DATABASE, "m", &parts[number], false).expect(200).json();
        assert_eq!((&answer["received"], answer.get("receipt")), (&json!(received), None));
    }
    world.server.kill9();
    world.server.restart();
    phone.client = world.server.anonymous();
    let known = phone.get("/medic/_manifest/m").expect(200).json();
    assert_eq!(known["received"], 2);
    assert_eq!(phone.get("/medic/_manifest/other").status, 404);
    let body = json!({"manifest": "m", "revs": {"b": [phone.held["b"]]}, "final": true, "total": 3});
    let receipt = phone.post("/medic/_manifest", &body).expect(200).json()["receipt"].clone();
    let once = World::start();
    let mut other = once.device("ann", "phone-of-ann");
    other.push(DATABASE, &["a", "b", "c"]);
    let whole = other.whole_manifest(DATABASE).expect(200).json()["receipt"].clone();
    assert_eq!(receipt["root"], whole["root"], "the same list has the same root, whatever its parts");
}

#[test]
fn parts_that_were_forgotten_are_not_taken_for_a_device_without_work() {
    let world = World::start();
    let phone = retired(&world);
    phone.manifest(DATABASE, "m", &json!({}), true).expect(409);
    let with_total = |total: u64, revs: Value| {
        let body = json!({"manifest": "m", "revs": revs, "final": true, "total": total});
        phone.post("/medic/_manifest", &body)
    };
    with_total(3, json!({"a": [phone.held["a"]]})).expect(409);
    assert_eq!(phone.standing(), "draining");
    let empty = with_total(0, json!({})).expect(200).json();
    assert_eq!(empty["receipt"]["revisions"], 0, "said in so many words, it counts");
}

#[test]
fn the_answer_to_a_lost_receipt_is_the_receipt() {
    let world = World::start();
    let mut phone = world.device("ann", "phone-of-ann");
    phone.push(DATABASE, &["a"]);
    let first = phone.whole_manifest(DATABASE).expect(200).json();
    assert_eq!(first["standing"], "active", "an active device may ask at any time");
    let again = phone.manifest(DATABASE, "whole", &json!({}), true).expect(200).json();
    assert_eq!(again["receipt"], first["receipt"]);
    assert_eq!(phone.get("/medic/_manifest/whole").expect(200).json()["receipt"], first["receipt"]);
    assert_eq!(phone.own()["receipts"], json!([first["receipt"]]));
}

#[test]
fn a_device_with_two_databases_is_drained_when_both_are() {
    let world = World::start();
    world.database("private");
    let mut phone = world.device("ann", "phone-of-ann");
    phone.push("private", &["p"]);
    phone.held.clear();
    phone.push(DATABASE, &["a"]);
    world.operate("/_accounts/ann/retire");
    let first = phone.whole_manifest(DATABASE).expect(200).json();
    assert_eq!((&first["standing"], &first["waiting_for"]), (&json!("draining"), &json!(["private"])));
    phone.held.clear();
    phone.push("private", &["q"]);
    let second = phone.whole_manifest("private").expect(200).json();
    assert_eq!((&second["standing"], &second["waiting_for"]), (&json!("drained"), &json!([])));
}

#[test]
fn one_phone_with_a_shared_password_does_not_drain_the_others() {
    let world = World::start();
    let basic = world.server.client_as("ann", "ann");
    basic.get("/medic").expect(200);
    world.change_password("ann", "another", "");
    let body = json!({"manifest": "m", "revs": {}, "final": true, "total": 0});
    let answer = basic.post("/medic/_manifest", &body).expect(200).json();
    assert!(answer["receipt"].is_object());
    assert_eq!(answer["standing"], "draining", "another phone may still hold work");
}

#[test]
fn what_was_taken_away_is_missing() {
    let world = World::start();
    let phone = retired(&world);
    let part = json!({"a": [phone.held["a"]]});
    phone.manifest(DATABASE, "m", &part, false).expect(200);
    world.server.admin().post("/medic/_purge", &part).expect(201);
    let answer = phone.manifest(DATABASE, "m", &json!({}), true).expect(200).json();
    assert_eq!((&answer["missing"], answer.get("receipt")), (&part, None));
    world.server.admin().delete("/medic").expect(200);
    assert_eq!(phone.manifest(DATABASE, "m", &json!({}), true).status, 404);
}

#[test]
fn a_receipt_is_checked_without_a_server() {
    let world = World::start();
    let phone = retired(&world);
    let receipt = phone.whole_manifest(DATABASE).expect(200).json()["receipt"].clone();
    let key = key_of(&world);
    drop(world);
    let (valid, said) = verify(&receipt, &key);
    assert!(valid && said.contains("3 revisions of 3 documents"), "{said}");
    for (member, value) in [("revisions", json!(4)), ("account", json!("ben")), ("time", json!(1))] {
        let mut altered = receipt.clone();
        altered[member] = value;
        let (valid, said) = verify(&altered, &key);
        assert!(!valid && said.contains("altered"), "{member}: {said}");
    }
    let other = format!("{}{}", if key.starts_with('0') { '1' } else { '0' }, &key[1..]);
    assert!(!verify(&receipt, &other).0, "one digit of the key");
}

#[test]
fn mistakes_are_refused_in_words() {
    let world = World::start();
    let phone = world.device("ann", "phone-of-ann");
    let operator = world.server.admin();
    let body = json!({"manifest": "m", "revs": {}, "final": true});
    let refused = operator.post("/medic/_manifest", &body).expect(400).json();
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("operators")), "{refused}");
    for (name, revs) in [("a/b", json!({})), ("", json!({})), ("m", json!({"a": "1-x"})), ("m", json!({"_x": ["1-x"]}))]
    {
        assert_eq!(phone.manifest(DATABASE, name, &revs, false).status, 400, "{name} {revs}");
    }
    assert_eq!(phone.manifest("nosuch", "m", &json!({}), false).status, 404);
    let large = json!({"a": ["1-".to_owned() + &"x".repeat(17 << 20)]});
    let refused = phone.manifest(DATABASE, "m", &large, false).expect(413).json();
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("parts")), "{refused}");
}

#[test]
fn a_device_that_begins_again_and_again_is_not_held_up() {
    let world = World::start();
    let phone = retired(&world);
    for number in 0..9 {
        phone.manifest(DATABASE, &format!("m{number}"), &json!({"a": ["1-a"]}), false).expect(200);
    }
    let known = |number: u32| phone.get(&format!("/medic/_manifest/m{number}")).status;
    assert_eq!([known(0), known(4), known(5), known(8)], [404, 404, 200, 200]);
}
