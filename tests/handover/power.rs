//! A kill between push and receipt: whatever receipt was given, or is stored, names only what is there afterwards.
//!
//! One thread pushes document after document, another asks for a receipt of everything whose push has begun; the server is
//! killed in the middle. A failing run is repeated with the moments that it prints.

#![expect(clippy::disallowed_methods, reason = "a server must live for a while before it is killed")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::world::{DATABASE, Device, World};
use crate::support::http::Request;

const KILLS: u64 = 12;

fn document(round: u64, number: usize) -> (String, String) {
    let hash = blake3::hash(format!("{round} {number}").as_bytes()).to_hex();
    (format!("{round}-{number}"), format!("1-{}", &hash[..32]))
}

fn list(round: u64, count: usize) -> Value {
    let rows = (0..count).map(|number| document(round, number));
    rows.map(|(id, revision)| (id, json!([revision]))).collect::<Map<_, _>>().into()
}

fn push_until_killed(device: &Device, round: u64, begun: &AtomicUsize) {
    for number in 0.. {
        let (id, revision) = document(round, number);
        let body = json!({"docs": [{"_id": id, "_rev": revision}], "new_edits": false});
        begun.store(number + 1, Ordering::Release);
        let request = Request::new("POST", &format!("/{DATABASE}/_bulk_docs")).json(&body);
        if device.client.try_send(&device.authorized(request)).is_err() {
            return;
        }
    }
}

/// Gives the largest number of documents that a receipt was answered for, and how many receipts there were.
fn ask_until_killed(device: &Device, round: u64, begun: &AtomicUsize) -> (usize, u64) {
    let (mut proven, mut receipts) = (0, 0);
    for number in 0.. {
        let count = begun.load(Ordering::Acquire).max(1);
        let name = format!("r{round}-{number}");
        let body = json!({"manifest": name, "revs": list(round, count), "final": true});
        let request = Request::new("POST", &format!("/{DATABASE}/_manifest")).json(&body);
        let Ok(answer) = device.client.try_send(&device.authorized(request)) else { break };
        if answer.json()["receipt"].is_object() {
            (proven, receipts) = (count, receipts + 1);
        }
    }
    (proven, receipts)
}

#[test]
fn no_receipt_for_what_is_absent_after_a_kill() {
    let mut world = World::start();
    let mut device = world.device("ann", "phone-of-ann");
    let mut given = 0;
    for round in 0..KILLS {
        device.client = world.server.anonymous();
        let begun = AtomicUsize::new(0);
        let moment = 20 + round * 37 % 150;
        let (proven, receipts) = thread::scope(|scope| {
            let pushing = scope.spawn(|| push_until_killed(&device, round, &begun));
            let asking = scope.spawn(|| ask_until_killed(&device, round, &begun));
            thread::sleep(Duration::from_millis(moment));
            world.server.kill9();
            pushing.join().expect("it ends");
            asking.join().expect("it ends")
        });
        given += receipts;
        world.server.restart();
        device.client = world.server.anonymous();
        let own = device.own();
        let stored = own["receipts"][0].clone();
        let of_this_round = stored["manifest"].as_str().is_some_and(|name| name.starts_with(&format!("r{round}-")));
        let kept = if of_this_round { stored["revisions"].as_u64().unwrap_or_default() as usize } else { 0 };
        assert!(kept >= proven, "kill after {moment} ms: a receipt for {proven} was answered, {kept} are stored");
        let lacking = world.server.admin().post("/medic/_revs_diff", &list(round, kept)).expect(200).json();
        assert_eq!(lacking, json!({}), "kill after {moment} ms: a receipt for {kept} documents names what is absent");
    }
    assert!(given > KILLS, "the server lived too shortly to prove anything: {given} receipts");
}
