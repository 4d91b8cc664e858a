//! Orders to erase: refused while work may be missing, overridden by two people, reported by the device, and the alarm after.

use serde_json::{Value, json};

use super::world::{DATABASE, Device, World};
use crate::support::http::Response;

fn order(world: &World, device: &Device, by: &str, body: &Value) -> Response {
    world.server.client_as(by, "secret").post(&format!("/_devices/{}/wipe", device.id), body)
}

fn plainly(world: &World, device: &Device) -> Response {
    order(world, device, "admin", &json!({"reason": "replaced"}))
}

fn by_override(world: &World, device: &Device, by: &str) -> Response {
    order(world, device, by, &json!({"override": {"reason": "it fell into the river"}}))
}

/// A phone with one pushed document.
fn phone(world: &World) -> Device {
    let mut phone = world.device("ann", "phone-of-ann");
    phone.push(DATABASE, &["a"]);
    phone
}

#[test]
fn no_order_while_the_device_may_hold_work() {
    let world = World::start();
    let mut phone = phone(&world);
    phone.post("/_device", &json!({"pending": 14})).expect(200);
    let refused = plainly(&world, &phone).expect(409).json();
    assert_eq!(refused["error"], "final_push_pending", "in use: {refused}");
    world.change_password("ann", "another", "");
    phone.whole_manifest(DATABASE).expect(200);
    assert_eq!(phone.standing(), "drained");
    let refused = plainly(&world, &phone).expect(409).json();
    assert_eq!(refused["error"], "final_push_pending", "it may log in again: {refused}");

    let mut other = world.device("ben", "phone-of-ben");
    other.push(DATABASE, &["b"]);
    other.post("/_device", &json!({"pending": 14})).expect(200);
    world.operate(&format!("/_devices/{}/retire", other.id));
    let refused = plainly(&world, &other).expect(409).json();
    assert_eq!(refused["error"], "final_push_pending");
    assert_eq!((&refused["pending"]["documents"], &refused["evidence"]), (&json!(14), &Value::Null));
    assert!(refused["last_push"].as_u64().is_some_and(|time| time > 0), "{refused}");
    phone.held.clear();
    assert_eq!(other.own()["wipe"], Value::Null);
    assert_eq!(other.own()["next"], "push");
}

#[test]
fn an_inference_is_not_enough() {
    let world = World::start();
    world.server.set_config("settle/quiet_seconds", "0");
    let phone = phone(&world);
    world.operate(&format!("/_devices/{}/retire", phone.id));
    let checkpoint = crate::support::http::Request::new("PUT", "/medic/_local/c").json(&json!({"last_seq": 1}));
    phone.send(checkpoint).expect(201);
    wait_until(|| phone.standing() == "drained");
    assert_eq!(world.shown(&phone)["evidence"], "inferred");
    let refused = plainly(&world, &phone).expect(409).json();
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("went quiet")), "{refused}");
}

#[expect(clippy::disallowed_methods, reason = "housekeeping looks every 30 seconds")]
fn wait_until(mut holds: impl FnMut() -> bool) {
    for _ in 0..450 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("it did not happen within 45 seconds");
}

#[test]
fn after_the_receipt_the_device_erases_itself_and_says_so() {
    let world = World::start();
    let phone = phone(&world);
    world.operate("/_accounts/ann/retire");
    phone.whole_manifest(DATABASE).expect(200);
    let ordered = plainly(&world, &phone).expect(200).json();
    assert_eq!(plainly(&world, &phone).expect(200).json()["order"], ordered["order"], "once is enough");
    let own = phone.own();
    assert_eq!((&own["next"], &own["wipe"]["order"]), (&json!("wipe"), &ordered["order"]));
    let report = |order: &Value| phone.post("/_device/wipe_reported", &json!({"order": order, "erased": ["medic"]}));
    report(&json!("another")).expect(409);
    report(&ordered["order"]).expect(200);
    report(&ordered["order"]).expect(200);
    let shown = world.shown(&phone);
    assert_eq!((&shown["wipe"]["state"], &shown["wipe"]["evidence"]), (&json!("reported"), &json!("self_report")));
    assert_eq!((&shown["wipe"]["erased"], &shown["alarm"]), (&json!(["medic"]), &Value::Null), "{shown}");
    assert!(!shown.to_string().contains("wiped"), "nobody can know that: {shown}");
}

#[test]
fn a_device_that_calls_after_its_report_raises_an_alarm() {
    let world = World::start();
    let phone = phone(&world);
    world.operate("/_accounts/ann/retire");
    phone.whole_manifest(DATABASE).expect(200);
    let order = plainly(&world, &phone).expect(200).json()["order"].clone();
    phone.post("/_device/wipe_reported", &json!({"order": order, "erased": ["medic"]})).expect(200);
    assert_eq!(phone.bulk(DATABASE, &[]).expect(401).json()["reason"], "drained");
    wait_until(|| !world.shown(&phone)["alarm"].is_null());
    let shown = world.shown(&phone);
    assert_eq!(shown["wipe"]["state"], "ordered", "the order stands again: {shown}");
    assert_eq!(phone.own()["wipe"]["order"], order);
}

#[test]
fn a_device_that_logs_in_after_its_report_raises_an_alarm_too() {
    let world = World::start();
    let phone = phone(&world);
    world.operate(&format!("/_devices/{}/cut", phone.id));
    by_override(&world, &phone, "admin").expect(202);
    let order = by_override(&world, &phone, "second").expect(200).json()["order"].clone();
    phone.post("/_device/wipe_reported", &json!({"order": order})).expect(200);
    assert_eq!(world.log_in("ann", "ann", "phone-of-ann").expect(401).json()["reason"], "cut");
    assert!(!world.shown(&phone)["alarm"].is_null(), "{}", world.shown(&phone));
}

#[test]
fn a_lost_phone_is_erased_on_the_word_of_two_people() {
    let world = World::start();
    let phone = phone(&world);
    assert_eq!(by_override(&world, &phone, "admin").status, 409, "not while it is in use");
    world.operate(&format!("/_devices/{}/cut", phone.id));
    assert_eq!(plainly(&world, &phone).expect(409).json()["error"], "final_push_pending");
    assert_eq!(order(&world, &phone, "admin", &json!({"override": {}})).status, 400, "without a reason");
    assert_eq!(by_override(&world, &phone, "admin").expect(202).json()["asked_by"], "admin");
    assert_eq!(phone.own()["wipe"], Value::Null, "one person's word is no order");
    assert_eq!(by_override(&world, &phone, "admin").expect(409).json()["error"], "second_person_needed");
    assert_eq!(by_override(&world, &phone, "second").expect(200).json()["evidence"], "overridden");
    let own = phone.own();
    assert_eq!((&own["next"], &own["standing"]), (&json!("wipe"), &json!("cut")));
    assert!(own["message"].as_str().is_some_and(|message| !message.contains("safe")), "{own}");
    assert_eq!(world.shown(&phone)["overridden_by"], json!(["admin", "second"]));
}

#[test]
fn only_operators_order() {
    let world = World::start();
    let phone = phone(&world);
    let ben = world.device("ben", "phone-of-ben");
    let path = format!("/_devices/{}/wipe", phone.id);
    assert_eq!(ben.post(&path, &json!({})).status, 404);
    assert_eq!(world.server.admin().post("/_devices/00000000000000000000000000000000/wipe", &json!({})).status, 404);
    assert_eq!(world.server.anonymous().post("/_device/wipe_reported", &json!({"order": "x"})).status, 401);
}
