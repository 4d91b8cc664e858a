//! Multipart bodies that are cut short, lie about their parts, or are made of nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{PATIENCE, Refusals, head};
use crate::support::http::Request;

const RELATED: &str = "multipart/related; boundary=\"b\"";
/// `follows` of eleven bytes, as in the part of `whole`.
const FOLLOWS: &str = r#"{"_attachments":{"x":{"follows":true,"length":11,"content_type":"text/plain"}}}"#;

fn put(kind: &str, body: impl Into<Vec<u8>>) -> Request {
    Request::new("PUT", "/refusals/parts").header("Content-Type", kind).body(body)
}

fn whole(document: &str, parts: &[&str]) -> String {
    let parts: String = parts.iter().map(|part| format!("\r\n--b\r\n\r\n{part}")).collect();
    format!("--b\r\nContent-Type: application/json\r\n\r\n{document}{parts}\r\n--b--")
}

#[test]
fn a_multipart_body_cut_anywhere_stores_nothing() {
    let mut refusals = Refusals::start();
    let body = whole(FOLLOWS, &["hello world"]);
    for length in 0..body.len() {
        let answer = refusals.admin.send(&put(RELATED, &body.as_bytes()[..length]));
        let refused = answer.status == 400 && answer.json()["error"] == "bad_request";
        refusals.check(&format!("cut after {length}: {} {}", answer.status, answer.text()), refused);
        refusals.unchanged(&format!("cut after {length}"));
    }
    let cut = put(RELATED, &body.as_bytes()[..body.len() - 4]);
    refusals.refused(&cut, (400, "bad_request", "multipart body ended before its closing boundary"));
    refusals.admin.send(&put(RELATED, body)).expect(201);
    assert_eq!(refusals.admin.get("/refusals/parts/x").expect(200).body, b"hello world");
    refusals.before = super::state(&refusals.admin);
    refusals.finish();
}

#[test]
fn parts_that_are_not_as_promised_store_nothing() {
    let mut refusals = Refusals::start();
    let two = r#"{"_attachments":{"x":{"follows":true,"length":1},"y":{"follows":true,"length":1}}}"#;
    let digest =
        format!(r#"{{"_attachments":{{"x":{{"follows":true,"digest":"md5-{}"}}}}}}"#, STANDARD.encode([7; 16]));
    for (document, parts, reason) in [
        (FOLLOWS, &["hello worlds"][..], "attachment longer than expected"),
        (FOLLOWS, &["hello worl"], "attachment shorter than expected"),
        (FOLLOWS, &[""], "attachment shorter than expected"),
        (FOLLOWS, &[], "The part for attachment x is missing."),
        (two, &["1"], "The part for attachment y is missing."),
        (&digest, &["hello"], "The digest of attachment x is not that of its bytes."),
        ("[]", &[], "Document must be a JSON object"),
        ("{", &[], "invalid UTF-8 JSON"),
        ("", &[], "invalid UTF-8 JSON"),
    ] {
        refusals.refused(&put(RELATED, whole(document, parts)), (400, "bad_request", reason));
        refusals.refused(&put(RELATED, whole(document, parts)).chunked(), (400, "bad_request", reason));
    }
    let missing_stub = whole(r#"{"_attachments":{"x":{"stub":true}}}"#, &[]);
    let answer = refusals.admin.send(&put(RELATED, missing_stub));
    refusals.check(&answer.text(), answer.status == 412 && answer.json()["error"] == "missing_stub");
    refusals.unchanged("a stub of nothing");
    refusals.finish();
}

#[test]
fn boundaries_that_cannot_be_are_refused() {
    let mut refusals = Refusals::start();
    let missing = "multipart boundary is missing";
    let invalid = "multipart boundary must be 1 to 70 printable ASCII characters";
    let long = format!("multipart/related; boundary={}", "b".repeat(71));
    for (kind, reason) in [
        ("multipart/related", missing),
        ("multipart/related; type=\"application/json\"", missing),
        ("multipart/related; boundary=\"\"", invalid),
        (&long, invalid),
    ] {
        refusals.refused(&put(kind, whole(FOLLOWS, &["hello world"])), (400, "bad_request", reason));
    }
    for body in ["", "no boundary anywhere", "--c\r\n\r\n{}\r\n--c--"] {
        let reason = "multipart body ended before its closing boundary";
        refusals.refused(&put(RELATED, body), (400, "bad_request", reason));
    }
    refusals.refused(&put(RELATED, "--b--"), (400, "bad_request", "The multipart body has no document part."));
    let no_colon = "--b\r\nnonsense\r\n\r\n{}\r\n--b--";
    refusals.refused(&put(RELATED, no_colon), (400, "bad_request", "multipart part header is malformed"));
    let headers = format!("--b\r\n{}\r\n{{}}\r\n--b--", "X: y\r\n".repeat(1000));
    refusals.refused(&put(RELATED, headers), (400, "bad_request", "multipart part has too many headers"));
    let header = format!("--b\r\nX: {}\r\n\r\n{{}}\r\n--b--", "y".repeat(1 << 20));
    refusals.refused(&put(RELATED, header), (400, "bad_request", "multipart part headers are too large"));
    refusals.finish();
}

#[test]
fn ten_thousand_tiny_parts_are_survived() {
    let mut refusals = Refusals::start();
    let body = whole(FOLLOWS, &["x"; 10_000]);
    refusals.refused(&put(RELATED, body), (400, "bad_request", "attachment shorter than expected"));
    let promised: Vec<String> = (0..10_001).map(|at| format!(r#""{at}":{{"follows":true,"length":1}}"#)).collect();
    let document = format!(r#"{{"_attachments":{{{}}}}}"#, promised.join(","));
    let reason = "The part for attachment 10000 is missing.";
    refusals.refused(&put(RELATED, whole(&document, &["x"; 10_000])), (400, "bad_request", reason));
    refusals.finish();
}

#[test]
fn a_client_that_vanishes_in_a_part_leaves_nothing() {
    let mut refusals = Refusals::start();
    let large = r#"{"_attachments":{"x":{"follows":true,"length":9000000}}}"#;
    let more = format!("Content-Type: {RELATED}\r\nContent-Length: 9000200\r\n");
    let mut connection = refusals.connect();
    connection.write_raw(head("PUT /refusals/parts HTTP/1.1", &more).as_bytes()).expect("sent");
    connection.write_raw(format!("--b\r\n\r\n{large}\r\n--b\r\n\r\n").as_bytes()).expect("sent");
    connection.write_raw(&vec![b'x'; 3_000_000]).expect("sent");
    drop(connection);
    refusals.unchanged("a client that vanished");
    let uploads = refusals.server.data().join("uploads");
    let deadline = std::time::Instant::now() + PATIENCE;
    let left = || std::fs::read_dir(&uploads).map_or(0, Iterator::count);
    while left() > 0 && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    refusals.check("no file of the upload is left", left() == 0);
    refusals.finish();
}
