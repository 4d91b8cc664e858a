//! What cannot be done is said in words that help, and a dry run does nothing.

use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use super::{command, import, push, replicated, url_of};
use crate::support::server::TestServer;

#[track_caller]
fn fails(source: &str, target: &TestServer, more: &[&str], words: &str) {
    let said = import(source, target, more);
    assert!(!said.success && said.errors.contains(words), "{words}: {}", said.errors);
    assert!(!said.errors.contains("secret"), "{}", said.errors);
}

#[test]
fn mistakes_are_answered_with_what_to_do() {
    let (source, target) = (TestServer::start(), TestServer::start());
    source.admin().put("/medic", &json!({})).expect(201);
    let at = source.address();
    fails(&format!("http://{at}"), &target, &[], "name and password of a server admin of the source");
    fails(&format!("http://admin:wrong-secret@{at}"), &target, &[], "401");
    fails(&url_of(&source), &target, &["--database", "medci"], "404");
    fails(&url_of(&source), &target, &["--database", "medci"], "name written as there");
    fails(&url_of(&source), &target, &["--scoped", "medci"], "--scoped medci: this database is not imported");
    fails(&format!("http://admin:secret@{at}/medic"), &target, &[], "name that with --database");
    fails(&format!("ftp://admin:secret@{at}"), &target, &[], "percent-encoded");
    fails(&format!("https://admin:secret@{at}"), &target, &[], "no secure connection");
    fails(&url_of(&target), &target, &[], "are the same server");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    fails(&format!("http://admin:secret@{nobody}"), &target, &[], "cannot connect");
    assert_eq!(target.admin().get("/medic").status, 404, "nothing was begun");

    target.admin().put("/medic", &json!({})).expect(201);
    fails(&url_of(&source), &target, &["--scoped", "medic"], "is not scoped, which cannot be changed");
}

#[test]
fn the_target_must_be_an_operators() {
    let (source, target) = (TestServer::start(), TestServer::start());
    target
        .admin()
        .put("/_users/org.couchdb.user:ann", &json!({"type": "user", "name": "ann", "roles": [], "password": "pw"}))
        .expect(201);
    let folder = tempfile::tempdir().expect("a folder");
    let import = |to: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_settle"));
        command.current_dir(folder.path()).args(["import", "couchdb", &url_of(&source), "--to", to]);
        let output = command.output().expect("settle runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let bare = format!("http://{}", target.address());
    for (account, words) in [("", "is not an operator's"), ("ann:pw@", "is not an operator's"), ("admin:no@", "401")] {
        let (success, errors) = import(&bare.replace("http://", &format!("http://{account}")));
        assert!(!success && errors.contains(words), "{account}: {errors}");
    }
    // The password that `settle serve` made beside its data is found.
    std::fs::create_dir(folder.path().join("settle-data")).expect("a folder");
    std::fs::write(folder.path().join("settle-data/admin-password"), "secret\n").expect("a file");
    let (success, errors) = import(&bare);
    assert!(success, "{errors}");
}

#[test]
fn a_dry_run_changes_nothing() {
    let (source, target) = (TestServer::start(), TestServer::start());
    source.admin().put("/medic", &json!({})).expect(201);
    push(&source, "medic", &[replicated("a", 1, "a", &json!({}))]);
    let user = json!({"type": "user", "name": "ann", "roles": ["chw"], "password": "pw-of-ann"});
    source.admin().put("/_users/org.couchdb.user:ann", &user).expect(201);
    let state = || {
        let users = target.admin().get("/_users/_all_docs").expect(200).json();
        (target.admin().get("/_all_dbs").expect(200).json(), users)
    };
    let before = state();
    let said = import(&url_of(&source), &target, &["--dry-run", "--scoped", "medic"]);
    assert!(said.success, "{}", said.errors);
    let medic = said.database("medic");
    assert_eq!((&medic["made"], &medic["scoped"], &medic["source_documents"]), (&json!(true), &json!(true), &json!(1)));
    assert_eq!(said.outcome["accounts"]["accounts"], 1);
    assert_eq!(state(), before);
    let output = command(&url_of(&source), &target, &["--dry-run"]).output().expect("settle runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in
        ["would import", "medic: 1 documents, into a new database", "not imported: _replicator", "1 accounts: 1"]
    {
        assert!(text.contains(words), "{text}");
    }
    assert!(text.contains("Server admins are settings") && !text.contains("secret"), "{text}");
    assert_eq!(state(), before);
}

#[test]
fn a_document_that_the_target_refuses_is_named_and_holds_nothing_up() {
    let source = TestServer::start();
    let target =
        TestServer::options().config("[couchdb]\nmax_document_size = 20000\nmax_attachment_size = 1000\n").start();
    source.admin().put("/medic", &json!({})).expect(201);
    let mut documents: Vec<Value> =
        (0..250).map(|number| replicated(&format!("d{number:03}"), 1, "a", &json!({"n": number}))).collect();
    documents[101]["text"] = "x".repeat(30_000).into();
    documents[222]["text"] = "x".repeat(30_000).into();
    let data = "A".repeat(4_000);
    documents[33]["_attachments"] = json!({"f": {"content_type": "text/plain", "data": data}});
    push(&source, "medic", &documents);
    let user = json!({"type": "user", "name": "ann", "roles": ["chw"], "password": "pw-of-ann"});
    source.admin().put("/_users/org.couchdb.user:ann", &user).expect(201);
    let said = import(&url_of(&source), &target, &[]);
    assert!(!said.success && said.errors.contains("--from-start"), "{}", said.errors);
    let medic = said.database("medic");
    let mut refused: Vec<&str> =
        medic["refused"].as_array().expect("a list").iter().filter_map(|refused| refused["id"].as_str()).collect();
    refused.sort_unstable();
    assert_eq!(refused, ["d033", "d101", "d222"]);
    assert_eq!(medic["copied_revisions"], 247);
    assert_eq!(medic["compared"]["differences"].as_array().map(Vec::len), Some(3));
    target.set_config("couchdb/max_document_size", "8000000");
    target.set_config("couchdb/max_attachment_size", "8000000");
    let said = import(&url_of(&source), &target, &["--from-start"]);
    assert!(said.success, "{}", said.errors);
    assert_eq!(said.database("medic")["copied_revisions"], 3);
}
