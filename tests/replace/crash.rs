//! The server is killed while places change hands and accounts are made. Afterwards each is there wholly or not at all.
//!
//! A failing run is repeated with `SETTLE_SEED`.

#![expect(clippy::disallowed_methods, reason = "a server must live for a while before it is killed")]

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::village::{DATABASE, Village, text};
use crate::support::chance::Chance;
use crate::support::http::{Client, Request};
use crate::support::server::TestServer;

const KILLS: u64 = 20;
/// A kill comes at most so long after the acts begin.
const LONGEST_LIFE_MS: u64 = 200;

/// Hands a place over and makes accounts until the server is gone. Gives the names of accounts whose making was answered.
fn act(client: &Client, round: u64) -> Vec<String> {
    let mut answered = Vec::new();
    for step in 0_u64.. {
        let name = format!("worker-{round}-{step}");
        let contact = json!({"name": name});
        let (path, body) = match step % 3 {
            0 => (
                "/_accounts".to_owned(),
                json!({"name": name, "roles": ["chw"], "contact": contact, "places":
                  {"contact_type": "chw_area", "name": name, "parent": "district"}}),
            ),
            1 => (
                format!("/{DATABASE}/_places/area-1/replace"),
                json!({"contact": contact, "account": {"name": name, "roles":
                  ["chw"]}, "place_name": name}),
            ),
            _ => (format!("/{DATABASE}/_places/area-1/undo_replace"), json!({})),
        };
        match client.try_send(&Request::new("POST", &path).json(&body)) {
            Ok(answer) if answer.status < 300 && step % 3 == 0 => answered.push(name),
            Ok(answer) => assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.text()),
            Err(_) => return answered,
        }
    }
    answered
}

/// Everything that belongs together is there together.
fn assert_whole(village: &Village, answered: &BTreeSet<String>) {
    let rows = village.get(&format!("/{DATABASE}/_all_docs?include_docs=true"))["rows"].clone();
    let documents: Vec<&Value> = rows.as_array().into_iter().flatten().map(|row| &row["doc"]).collect();
    let accounts = village.get("/_accounts?limit=1000")["rows"].clone();
    let accounts = accounts.as_array().cloned().unwrap_or_default();
    let stored: BTreeSet<String> = accounts.iter().map(|account| text(&account["name"]).to_owned()).collect();
    assert!(stored.is_superset(answered), "an account that was answered is gone");
    for account in &accounts {
        let name = text(&account["name"]);
        let find = |id: &str| documents.iter().find(|document| text(&document["_id"]) == id);
        assert!(find(&format!("org.couchdb.user:{name}")).is_some(), "{name} has no settings");
        assert!(find(text(&account["contact"])).is_some(), "{name} has no contact");
        assert!(find(text(&account["places"][0])).is_some(), "{name} has no place");
        if name != "ann" {
            assert_eq!(account["link"]["works"], json!(account["state"] == json!("active")), "{account}");
        }
    }
    let settings = documents.iter().filter(|document| document["type"] == json!("user-settings")).count();
    assert_eq!(settings, accounts.len(), "settings without an account");
    let named = accounts.iter().filter(|account| account["state"] == json!("active"));
    let custody = village.get("/medic/_custody/area-1");
    let holder = &custody["holder"];
    let area = documents.iter().find(|document| text(&document["_id"]) == "area-1").expect("the area");
    assert_eq!(area["contact"]["_id"], holder["contact"], "{custody}");
    let holders: Vec<_> = named.filter(|account| account["places"] == json!(["area-1"])).collect();
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!(holders[0]["name"], holder["account"]);
    let open = custody["history"].as_array().into_iter().flatten();
    assert_eq!(open.filter(|row| row["until"].is_null()).count(), 1, "{custody}");
    for document in documents.iter().filter(|document| !document["replaced_by"].is_null()) {
        assert_ne!(document["_id"], holder["contact"], "whoever holds the place was replaced by nobody");
    }
}

#[test]
fn a_crash_leaves_all_or_nothing() {
    let seed = std::env::var("SETTLE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(4_711);
    println!("SETTLE_SEED={seed}");
    let mut chance = Chance::of_seed(seed);
    let server = TestServer::options().config("[settle]\nretirements_alone = 0\n").start();
    let mut village = Village { server };
    village.fill();
    village.worker("ann", "area-1", "per-ann");
    let mut answered = BTreeSet::new();
    for round in 0..KILLS {
        let client = village.operator();
        let actor = thread::spawn(move || act(&client, round));
        thread::sleep(Duration::from_millis(chance.below(LONGEST_LIFE_MS)));
        village.server.kill9();
        answered.extend(actor.join().expect("no refusal"));
        village.server.restart();
        assert_whole(&village, &answered);
    }
    assert!(answered.len() > 10, "the server was killed too early to show anything: {}", answered.len());
}
