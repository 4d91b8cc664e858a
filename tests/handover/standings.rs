//! Every endpoint for every standing that has lost something, beside a table that a person has read (`standings.txt`, protocol
//! page `docs/handover-protocol.md` §3). `SETTLE_WRITE_TABLE=1` writes the table anew.

use std::fmt::Write as _;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use super::world::{DATABASE, Device, World};
use crate::support::http::{Request, Response};

/// Stands in every document; no answer to a withdrawn device may hold it.
const SECRET: &str = "hush-7731";

/// A path for a shape of the endpoint table.
fn path_of(shape: &str) -> String {
    let names = shape.replace("{db}", DATABASE).replace("{id}", "doc").replace("{rest…}", "photo.txt");
    names.replace("{name}", if shape.starts_with("/_node") { "_local" } else { "some" })
}

fn outcome(answer: &Response) -> String {
    assert!(!answer.text().contains(SECRET), "a document in an answer: {}", answer.text());
    let reason = serde_json::from_slice::<serde_json::Value>(&answer.bytes()).unwrap_or_default();
    match reason["reason"].as_str().filter(|reason| ["draining", "drained", "retired", "cut"].contains(reason)) {
        Some(reason) => format!("{} {reason}", answer.status),
        None => answer.status.to_string(),
    }
}

struct Withdrawn {
    draining: Device,
    drained: Device,
    retired: Device,
    cut: Device,
}

#[expect(clippy::disallowed_methods, reason = "the time to push must be over")]
fn withdrawn(world: &World) -> Withdrawn {
    let end = |client: &str, how: &str| {
        let mut device = world.device("ann", client);
        device.push(DATABASE, &[client]);
        world.operate(&format!("/_devices/{}/{how}", device.id));
        device.own();
        device
    };
    let devices = Withdrawn {
        draining: end("draining-phone", "retire"),
        drained: end("drained-phone", "retire"),
        retired: end("retired-phone", "retire?drain=1"),
        cut: end("cut-phone", "cut"),
    };
    devices.drained.whole_manifest(DATABASE).expect(200);
    sleep(Duration::from_millis(3100));
    for (device, standing) in [
        (&devices.draining, "draining"),
        (&devices.drained, "drained"),
        (&devices.retired, "retired"),
        (&devices.cut, "cut"),
    ] {
        assert_eq!(device.standing(), standing);
    }
    devices
}

#[test]
fn every_endpoint_knows_what_a_withdrawn_device_may_do() {
    let world = World::start();
    let document = json!({"secret": SECRET});
    world.server.admin().put("/medic/doc", &document).expect(201);
    let photo = Request::new("PUT", "/medic/pic/photo.txt").header("Content-Type", "text/plain").body(SECRET);
    world.server.admin().send(&photo).expect(201);
    let devices = withdrawn(&world);
    let mut table = String::new();
    for (methods, shape, _) in settle::http::endpoint_table() {
        for method in methods.split(',') {
            let ask = |device: &Device| {
                if (method, shape.as_str()) == ("DELETE", "/_session") {
                    return "200".to_owned(); // would end the session of all that follow; see `logging_out`
                }
                let request = Request::new(method, &path_of(&shape));
                let request = if method == "GET" { request } else { request.json(&json!({})) };
                outcome(&device.send(request))
            };
            let Withdrawn { draining, drained, retired, cut } = &devices;
            let row = [draining, drained, retired, cut].map(ask).join(" | ");
            writeln!(table, "{method} {shape}: {row}").expect("a string");
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/handover/standings.txt");
    if std::env::var_os("SETTLE_WRITE_TABLE").is_some() {
        std::fs::write(&file, &table).expect("written");
    }
    let wanted = std::fs::read_to_string(&file).expect("the table");
    for (got, wanted) in table.lines().zip(wanted.lines()) {
        assert_eq!(got, wanted);
    }
    assert_eq!(table.lines().count(), wanted.lines().count(), "endpoints came or went");
}

#[test]
fn the_table_keeps_the_promises_of_the_protocol_page() {
    let table = include_str!("standings.txt");
    // Nothing that a device could read without being told who it is.
    let open =
        ["/", "/_up", "/_uuids", "/_session", "/_handover/key", "/_device", "/_device/wipe_reported", "/_links/{name}"];
    for line in table.lines() {
        let (request, outcomes) = line.split_once(": ").expect("a line");
        let (_, shape) = request.split_once(' ').expect("a request");
        let outcomes: Vec<&str> = outcomes.split(" | ").collect();
        assert_eq!(outcomes.len(), 4, "{line}");
        if open.contains(&shape) || shape.starts_with("/_utils") || shape.starts_with("/_console") {
            continue;
        }
        assert!(!outcomes[0].starts_with("401"), "a draining client would log in for ever: {line}");
        for (outcome, reason) in outcomes[1..].iter().zip(["drained", "retired", "cut"]) {
            assert_eq!(*outcome, format!("401 {reason}"), "{line}");
        }
    }
}

#[test]
fn a_draining_device_pushes_and_reads_nothing() {
    let world = World::start();
    world.server.admin().put("/medic/doc", &json!({"secret": SECRET})).expect(201);
    let mut phone = world.device("ann", "phone-of-ann");
    world.change_password("ann", "another", "");
    let info = phone.get("/medic").expect(200).json();
    assert_eq!((&info["doc_count"], &info["doc_del_count"]), (&json!(0), &json!(0)));
    phone.push(DATABASE, &["late"]);
    let refused = phone.post("/medic/_bulk_docs", &json!({"docs": [{"_id": "edit"}]})).expect(403).json();
    assert_eq!((&refused["error"], &refused["reason"]), (&json!("forbidden"), &json!("draining")));
    let (_, body) = phone.edit("one");
    let put = |query: &str| phone.send(Request::new("PUT", &format!("/medic/one{query}")).json(&body));
    assert_eq!(put("").expect(403).json()["reason"], "draining");
    put("?new_edits=false").expect(201);
    let diff = phone.post("/medic/_revs_diff", &json!({"late": [phone.held["late"], "9-x"]})).expect(200).json();
    assert_eq!(diff["late"]["missing"], json!(["9-x"]));
    let checkpoint = Request::new("PUT", "/medic/_local/point").json(&json!({"last_seq": 7}));
    phone.send(checkpoint).expect(201);
    assert_eq!(phone.get("/medic/_local/point").expect(200).json()["last_seq"], 7);
    phone.post("/medic/_ensure_full_commit", &json!({})).expect(201);
    for path in ["/medic/late", "/medic/nosuch", "/medic/_all_docs", "/medic/doc?rev=1-x"] {
        assert_eq!(phone.get(path).expect(403).json()["reason"], "draining", "{path}");
    }
    let token = world.token();
    let feed = phone.get(&format!("/medic/_changes?since={token}")).expect(200).json();
    assert_eq!((&feed["results"], &feed["last_seq"]), (&json!([]), &json!(token)));
    world.server.set_config("settle/forbid_draining_changes", "true");
    assert_eq!(phone.get("/medic/_changes").expect(403).json()["reason"], "draining");
}

#[test]
fn logging_out_is_always_allowed() {
    let world = World::start();
    let Withdrawn { draining, drained, retired, cut } = withdrawn(&world);
    for device in [draining, drained, retired, cut] {
        device.send(Request::new("DELETE", "/_session")).expect(200);
        assert_eq!(device.get("/_device").status, 401, "the session is over");
    }
}
