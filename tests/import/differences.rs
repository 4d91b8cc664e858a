//! What is not the same on both sides is found, named, and an error.

use serde_json::{Value, json};

use super::{Said, import, push, replicated, revision_hash, url_of};
use crate::support::http::Request;
use crate::support::server::TestServer;

fn filled() -> TestServer {
    let source = TestServer::start();
    source.admin().put("/medic", &json!({})).expect(201);
    let documents: Vec<Value> =
        (0..30).map(|number| replicated(&format!("d{number:02}"), 2, "a", &json!({"n": number}))).collect();
    push(&source, "medic", &documents);
    let photo = Request::new("PUT", "/medic/photo/f").header("Content-Type", "image/x").body(b"12345".to_vec());
    source.admin().send(&photo).expect(201);
    source
}

/// Id and kind of each difference.
fn differences(said: &Said) -> Vec<(String, String)> {
    let differences = said.database("medic")["compared"]["differences"].as_array().expect("a list").clone();
    let text = |difference: &Value, member: &str| difference[member].as_str().expect("text").to_owned();
    differences.iter().map(|difference| (text(difference, "id"), text(difference, "kind"))).collect()
}

fn one(id: &str, kind: &str) -> Vec<(String, String)> {
    vec![(id.to_owned(), kind.to_owned())]
}

#[test]
fn a_document_changed_at_the_target_is_named() {
    let (source, target) = (filled(), TestServer::start());
    let only_medic = ["--database", "medic"];
    assert!(import(&url_of(&source), &target, &only_medic).success);
    let revision = format!("2-{}", revision_hash(2, "a"));
    target.admin().put("/medic/d07", &json!({"_rev": revision, "n": 7, "tampered": true})).expect(201);
    let said = import(&url_of(&source), &target, &only_medic);
    assert!(!said.success && said.errors.contains("not the same on both sides"), "{}", said.errors);
    assert_eq!(differences(&said), one("d07", "revisions"));
    let compared = &said.database("medic")["compared"];
    assert_ne!(compared["source"]["digest"], compared["target"]["digest"]);
    for depth in ["revisions", "documents"] {
        assert!(!import(&url_of(&source), &target, &["--database", "medic", "--verify", depth]).success, "{depth}");
    }
    assert!(import(&url_of(&source), &target, &["--database", "medic", "--verify", "no"]).success);
}

#[test]
fn the_same_revision_with_another_body_or_attachment_is_named() {
    let (source, target) = (filled(), TestServer::start());
    target.admin().put("/medic", &json!({})).expect(201);
    push(&target, "medic", &[replicated("d11", 2, "a", &json!({"n": 11, "forged": 1}))]);
    let said = import(&url_of(&source), &target, &["--database", "medic"]);
    assert!(!said.success);
    assert_eq!(differences(&said), one("d11", "content"));
    assert!(import(&url_of(&source), &target, &["--database", "medic", "--verify", "revisions"]).success);

    let target = TestServer::start();
    target.admin().put("/medic", &json!({})).expect(201);
    let mut photo = source.admin().get("/medic/photo?revs=true").expect(200).json();
    photo["_attachments"] = json!({"f": {"content_type": "image/x", "data": "MTIzNDY="}});
    push(&target, "medic", &[photo]);
    let said = import(&url_of(&source), &target, &["--database", "medic"]);
    assert_eq!((said.success, differences(&said)), (false, one("photo", "content")));
}

#[test]
fn what_is_missing_is_named_and_comes_with_from_start_and_what_is_more_is_named() {
    let (source, target) = (filled(), TestServer::start());
    let only_medic = ["--database", "medic"];
    assert!(import(&url_of(&source), &target, &only_medic).success);
    let revision = format!("2-{}", revision_hash(2, "a"));
    target.admin().post("/medic/_purge", &json!({"d03": [revision]})).expect(201);
    let said = import(&url_of(&source), &target, &only_medic);
    assert_eq!((said.success, differences(&said)), (false, one("d03", "missing")));
    let said = import(&url_of(&source), &target, &["--database", "medic", "--from-start"]);
    assert!(said.success, "{}", said.errors);
    assert_eq!(said.database("medic")["copied_revisions"], 1);

    target.admin().put("/medic/more", &json!({})).expect(201);
    let said = import(&url_of(&source), &target, &only_medic);
    assert_eq!((said.success, differences(&said)), (false, one("more", "extra")));
}
