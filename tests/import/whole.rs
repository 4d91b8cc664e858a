//! Everything that a server can hold arrives, and is compared.

use serde_json::{Value, json};

use super::{DATABASE, begin, import, leaves, pause, push, replicated, url_of};
use crate::support::http::Request;
use crate::support::server::TestServer;

/// Computed with Python's hashlib, for the password `s3crét` and the salt below: PRF, iterations, derived key.
const PBKDF2: [(&str, u32, &str); 3] = [
    ("sha", 10, "f286afc4cd041f14ecf2b57f4c74d89de0924dba"),
    ("sha256", 1000, "abc75e9aa1f6a57009b7a7d9d3f31e466ec0cb99d923df985c585ba57b16d1f4"),
    (
        "sha512",
        10,
        "c2b152d365df928825f8718dd8b300feb0927da9405a4848e0c9fc05245223c3\
         b32eb6baaf2bd0f258ccb3eea2f194d826d9fdbdb463e648618010985b475e3e",
    ),
];
const SALT: &str = "24fe8bf9a2d1fc0d6b9e0c7d9a3e6e10";
const SIMPLE: &str = "aca1e408c0978ab1e9e24aef91c204fdf54e1a11";
const SIZES: [usize; 3] = [10, 100 << 10, 3 << 20];

/// What [`fill`] makes.
pub(super) const DOCUMENTS: u64 = 3_001;

/// [`DOCUMENTS`] documents: plain ones, 200 with conflicts, 100 tombstones with bodies, 20 with histories of 1,000 revisions, 33
/// with attachments, strange ids and numbers, a design document.
pub(super) fn fill(server: &TestServer) {
    let admin = server.admin();
    admin.put(&format!("/{DATABASE}"), &json!({})).expect(201);
    let mut documents: Vec<Value> = Vec::new();
    for number in 0..2_640 {
        let id = format!("plain-{number:04}");
        documents.push(replicated(&id, 1 + number % 5, "a", &json!({"n": number, "text": "नमस्ते"})));
    }
    for number in 0..200 {
        let id = format!("conflict-{number:03}");
        documents.push(replicated(&id, 3, "a", &json!({"side": "a"})));
        documents.push(replicated(&id, 2 + number % 3, "b", &json!({"side": "b", "_deleted": number % 4 == 0})));
    }
    for number in 0..100 {
        let body = json!({"_deleted": true, "why": "moved away", "n": number});
        documents.push(replicated(&format!("gone-{number:03}"), 2, "a", &body));
    }
    for number in 0..20 {
        documents.push(replicated(&format!("long-{number:02}"), 1_000, "a", &json!({"n": number})));
    }
    for id in ["a b/ü+%2F?&#", "quote\"back\\slash", "new\nline", "日本語", "0", "~", "_design/reports"] {
        documents.push(replicated(id, 1, "a", &json!({"language": "javascript"})));
    }
    push(server, DATABASE, &documents);
    let text =
        r#"{"_id":"numbers","z":1.0,"a":1e2,"big":12345678901234567890123,"s":"\u0000\ud83d\ude00","z2":[1 , 2]}"#;
    admin.send(&Request::new("PUT", "/medic/numbers").body(text)).expect(201);
    for (at, bytes) in (0..32).map(|at| (at, bytes(SIZES[at % 3], at as u8))) {
        let path = format!("/{DATABASE}/photo-{at:02}/pictures%2Fa{at}.bin");
        admin.send(&Request::new("PUT", &path).header("Content-Type", "image/x").body(bytes)).expect(201);
    }
    // Two leaves, each with attachments of its own.
    let inline = |text: &str| json!({"f.txt": {"content_type": "text/plain", "data": text, "revpos": 1}});
    let both = [
        replicated("album", 2, "a", &json!({"_attachments": inline("aGVsbG8=")})),
        replicated("album", 2, "b", &json!({"_attachments": inline("d29ybGQ=")})),
    ];
    push(server, DATABASE, &both);
    admin.put(&format!("/{DATABASE}/_security"), &security()).expect(200);
    admin.put(&format!("/{DATABASE}/_local/own"), &json!({"not": "imported"})).expect(201);
}

fn security() -> Value {
    json!({"admins": {"names": ["sam"], "roles": ["_admin"]}, "members": {"names": [], "roles": ["chw"]}, "cloudant": {}})
}

fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8) ^ seed).collect()
}

fn accounts(server: &TestServer) {
    let mut documents: Vec<Value> = PBKDF2
        .iter()
        .enumerate()
        .map(|(at, (prf, iterations, key))| {
            json!({"name": format!("user{at}"), "roles": ["chw"], "password_scheme": "pbkdf2", "pbkdf2_prf": prf,
                   "iterations": iterations, "salt": SALT, "derived_key": key, "facility_id": "river", "contact_id": "asha",
                   "known": true})
        })
        .collect();
    documents.push(json!({"name": "old", "roles": ["chw", "nurse"], "salt": SALT, "password_sha": SIMPLE,
                          "facility_id": ["river", "market"], "contact_id": {"_id": "asha"}}));
    documents.push(json!({"name": "nobody", "roles": []}));
    for mut document in documents {
        document["type"] = "user".into();
        let path = format!("/_users/org.couchdb.user:{}", document["name"].as_str().expect("a name"));
        server.admin().put(&path, &document).expect(201);
    }
}

#[test]
fn databases_accounts_and_security_arrive_whole() {
    let (source, target) = (TestServer::start(), TestServer::start());
    fill(&source);
    accounts(&source);
    source.admin().put("/medic-user-asha-meta", &json!({})).expect(201);
    target
        .admin()
        .put("/_users/org.couchdb.user:already", &json!({"type": "user", "name": "already", "roles": []}))
        .expect(201);

    let said = import(&url_of(&source), &target, &[]);
    assert!(said.success, "{} {}", said.errors, said.outcome);
    let medic = said.database(DATABASE);
    assert_eq!((&medic["made"], &medic["scoped"]), (&json!(true), &json!(false)));
    assert_eq!(medic["copied_revisions"], DOCUMENTS + 200 + 1, "every conflict has a second leaf, so has the album");
    assert_eq!(medic["copied_with_attachments"], 32 + 2);
    let compared = &medic["compared"];
    assert_eq!((&compared["source"], &compared["differences"]), (&compared["target"], &json!([])));
    assert_eq!(
        (&compared["source"]["documents"], &compared["source"]["deleted"]),
        (&json!(DOCUMENTS - 100), &json!(100))
    );
    assert_eq!(said.outcome["accounts"]["with_password"], 4);
    assert_eq!(said.outcome["accounts"]["without_password"], json!(["nobody: it has no password"]));
    let skipped = said.outcome["skipped"].as_array().expect("a list");
    assert!(skipped.iter().any(|skipped| skipped["name"] == "medic-user-asha-meta"), "{skipped:?}");

    what_arrived_is_what_was_sent(&source, &target);
    passwords_and_facts_of_accounts_are_there(&source, &target);

    let again = import(&url_of(&source), &target, &["--database", DATABASE]);
    assert!(again.success, "{}", again.errors);
    assert_eq!(again.database(DATABASE)["copied_revisions"], 0);
    assert_eq!(again.database(DATABASE)["resumed_after"], DOCUMENTS);
}

fn what_arrived_is_what_was_sent(source: &TestServer, target: &TestServer) {
    assert_eq!(leaves(source, DATABASE), leaves(target, DATABASE));
    let both = |path: &str| {
        let request = Request::new("GET", path).header("Accept", "application/json");
        let there = target.admin().send(&request).expect(200).text();
        assert_eq!(source.admin().send(&request).expect(200).text(), there, "{path}");
        there
    };
    let history: Value = serde_json::from_str(&both("/medic/long-07?revs=true")).expect("JSON");
    assert_eq!(history["_revisions"]["ids"].as_array().map(Vec::len), Some(1_000));
    let gone = leaves(target, DATABASE).into_iter().find(|leaf| leaf.starts_with("\"gone-042\"")).expect("a row");
    let revision = gone.split('"').nth(5).expect("a revision").to_owned();
    assert!(both(&format!("/medic/gone-042?rev={revision}")).contains("\"why\":\"moved away\""));
    for path in [
        "/medic/numbers",
        "/medic/conflict-001?conflicts=true&deleted_conflicts=true&revs=true",
        "/medic/a%20b%2F%C3%BC%2B%252F%3F%26%23?revs=true",
        "/medic/new%0Aline",
        "/medic/_design/reports",
        "/medic/album?conflicts=true&attachments=true",
        "/medic/_security",
    ] {
        both(path);
    }
    for (at, size) in SIZES.into_iter().enumerate() {
        let path = format!("/medic/photo-{at:02}/pictures%2Fa{at}.bin");
        let got = target.admin().get(&path).expect(200);
        assert_eq!((got.header("content-type"), got.bytes() == bytes(size, at as u8)), (Some("image/x"), true));
    }
    target.admin().get("/medic/_local/own").expect(404);
    target.admin().get("/medic-user-asha-meta").expect(404);
}

fn passwords_and_facts_of_accounts_are_there(source: &TestServer, target: &TestServer) {
    for name in ["user0", "user1", "user2", "old"] {
        let path = format!("/_users/org.couchdb.user:{name}");
        assert_eq!(source.admin().get(&path).expect(200).text(), target.admin().get(&path).expect(200).text());
        let session = target.client_as(name, "s3crét").get("/_session").expect(200).json();
        assert_eq!(session["userCtx"]["name"], name);
        target.client_as(name, "secret").get("/_session").expect(401);
    }
    target.client_as("user0", "s3crét").get("/medic/numbers").expect(200);
    target.admin().get("/_users/org.couchdb.user:already").expect(200);
}

#[test]
fn a_scoped_database_gives_each_imported_account_its_own_area() {
    let (source, target) = (TestServer::start(), TestServer::start());
    source.admin().put("/medic", &json!({})).expect(201);
    for document in [
        json!({"_id": "river", "type": "health_center"}),
        json!({"_id": "market", "type": "health_center"}),
        json!({"_id": "asha", "type": "person", "parent": {"_id": "river"}}),
        json!({"_id": "ben", "type": "person", "parent": {"_id": "market"}}),
    ] {
        source.admin().post("/medic", &document).expect(201);
    }
    source.admin().put("/medic/_security", &security()).expect(200);
    accounts(&source);
    let said = import(&url_of(&source), &target, &["--scoped", "medic"]);
    assert!(said.success, "{} {}", said.errors, said.outcome);
    assert_eq!(said.database("medic")["scoped"], true);
    assert_eq!(target.admin().get("/medic").expect(200).json()["props"]["scoped"], true);
    let rows = target.client_as("user1", "s3crét").get("/medic/_all_docs").expect(200).json()["rows"].clone();
    let ids: Vec<&Value> = rows.as_array().expect("rows").iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, ["asha", "river"]);
    let rows = target.client_as("old", "s3crét").get("/medic/_all_docs").expect(200).json()["rows"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(4), "two places");
}

/// The import's own memory, not the servers'.
#[test]
fn large_attachments_pass_through_little_memory() {
    let (source, target) = (TestServer::start(), TestServer::start());
    source.admin().put("/medic", &json!({})).expect(201);
    let bytes = bytes(96 << 20, 7);
    let upload = Request::new("PUT", "/medic/film/f").header("Content-Type", "video/x").body(bytes.clone());
    source.admin().send(&upload).expect(201);
    let mut child = begin(&url_of(&source), &target, &["--database", "medic"]);
    let mut most = 0;
    while child.try_wait().expect("a child").is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(peak.unwrap_or(0_u64));
        pause(5);
    }
    assert!(child.wait().expect("a status").success());
    assert!(most > 1_000 && most < 48 << 10, "{most} KiB");
    assert!(target.admin().get("/medic/film/f").expect(200).bytes() == bytes);
}
