//! Attachment bytes are stored once, whoever holds them: they stay as long as one document of one database needs them.
//!
//! Regression: databases deleted at the same moment once gave their references back twice, and took bytes with them
//! that another database still showed. Nothing here looks at the store; only what clients can read counts.

#![allow(clippy::disallowed_methods, reason = "test clients live in real time")]

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{Client, Request};
use crate::support::server::TestServer;

const DATABASES: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that no other attachment has: one that rides in its document's batch, one that is written ahead.
fn attachments() -> [(&'static str, Vec<u8>); 2] {
    let bytes = |length: usize, salt: u64| {
        let mut state = salt;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    [("small", bytes(100 << 10, 1)), ("large", bytes(2 << 20, 2))]
}

/// Writes both attachments to a document that may be there already.
#[track_caller]
fn upload(client: &Client, document: &str) {
    for (name, bytes) in attachments() {
        let known = client.get(document);
        let revision = if known.status == 200 { known.json()["_rev"].as_str().map(str::to_owned) } else { None };
        let query = revision.map(|revision| format!("?rev={revision}")).unwrap_or_default();
        let put = Request::new("PUT", &format!("{document}/{name}{query}")).body(bytes);
        // 503 is the honest answer when bytes written ahead were erased in between: the client tries again.
        let mut answer = client.send(&put);
        for _ in 0..5 {
            if answer.status == 503 {
                answer = client.send(&put);
            }
        }
        answer.expect(201);
    }
}

#[track_caller]
fn assert_whole(client: &Client, document: &str) {
    for (name, bytes) in attachments() {
        let answer = client.try_send(&Request::new("GET", &format!("{document}/{name}")));
        let got =
            answer.unwrap_or_else(|error| panic!("{document}/{name} could not be read: {error}")).expect(200).body;
        assert!(got == bytes, "{document}/{name} is not what was uploaded: {} of {} bytes", got.len(), bytes.len());
    }
}

fn database(number: usize) -> String {
    format!("/shared-{number}")
}

/// Deletes databases at the same moment.
fn delete_together(client: &Client, numbers: std::ops::Range<usize>) {
    let start = Barrier::new(numbers.len());
    thread::scope(|scope| {
        for number in numbers {
            let start = &start;
            scope.spawn(move || {
                start.wait();
                client.delete(&database(number)).expect(200);
            });
        }
    });
}

/// Databases are erased in the background, one after the other: gives that the time it needs.
fn assert_stays_whole(client: &Client, document: &str) {
    for _ in 0..20 {
        assert_whole(client, document);
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn databases_deleted_together_leave_the_bytes_of_the_last_one() {
    let mut server = TestServer::start();
    let client = server.admin();
    for number in 0..DATABASES {
        client.put(&database(number), &json!({})).expect(201);
        upload(&client, &format!("{}/a", database(number)));
    }
    let last = format!("{}/a", database(DATABASES - 1));
    delete_together(&client, 0..DATABASES - 1);
    assert_stays_whole(&client, &last);
    server.restart();
    let client = server.admin();
    assert_stays_whole(&client, &last);
    client.delete(&database(DATABASES - 1)).expect(200);
    client.get(&last).expect(404);
    client.put(&database(0), &json!({})).expect(201);
    let again = format!("{}/a", database(0));
    upload(&client, &again);
    assert_stays_whole(&client, &again);
    server.restart();
    assert_whole(&server.admin(), &again);
}

#[test]
fn bytes_uploaded_while_their_other_holders_are_deleted_stay() {
    let server = TestServer::start();
    let client = server.admin();
    for number in 0..6 {
        client.put(&database(number), &json!({})).expect(201);
        upload(&client, &format!("{}/a", database(number)));
    }
    client.put("/kept", &json!({})).expect(201);
    thread::scope(|scope| {
        scope.spawn(|| delete_together(&client, 0..6));
        upload(&client, "/kept/a");
    });
    assert_stays_whole(&client, "/kept/a");
}

/// Two documents with the same bytes; what happens to one must not reach the other.
fn two_documents() -> (TestServer, Client) {
    let server = TestServer::start();
    let client = server.admin();
    client.put("/shared", &json!({})).expect(201);
    for document in ["/shared/gone", "/shared/kept"] {
        upload(&client, document);
    }
    (server, client)
}

fn revision(client: &Client, document: &str) -> String {
    client.get(document).expect(200).json()["_rev"].as_str().expect("a revision").to_owned()
}

#[track_caller]
fn compact(client: &Client) {
    client.post("/shared/_compact", &json!({})).expect(202);
    let deadline = Instant::now() + PATIENCE;
    while client.get("/shared").expect(200).json()["compact_running"] != Value::Bool(false) {
        assert!(Instant::now() < deadline, "the compaction does not end");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_purge_of_one_document_leaves_the_bytes_of_the_other() {
    let (mut server, client) = two_documents();
    let leaf = revision(&client, "/shared/gone");
    let purged = client.post("/shared/_purge", &json!({"gone": [leaf]})).expect(201).json();
    assert_eq!(purged["purged"]["gone"], json!([leaf]));
    client.get("/shared/gone").expect(404);
    assert_whole(&client, "/shared/kept");
    compact(&client);
    assert_whole(&client, "/shared/kept");
    server.restart();
    assert_whole(&server.admin(), "/shared/kept");
}

#[test]
fn a_compaction_after_a_deletion_leaves_the_bytes_of_the_other() {
    let (mut server, client) = two_documents();
    client.delete(&format!("/shared/gone?rev={}", revision(&client, "/shared/gone"))).expect(200);
    compact(&client);
    assert_whole(&client, "/shared/kept");
    // The other document lets one of its attachments go, and takes it again.
    let kept = revision(&client, "/shared/kept");
    client.delete(&format!("/shared/kept/small?rev={kept}")).expect(200);
    compact(&client);
    client.get("/shared/kept/small").expect(404);
    upload(&client, "/shared/kept");
    assert_whole(&client, "/shared/kept");
    server.restart();
    assert_whole(&server.admin(), "/shared/kept");
}
