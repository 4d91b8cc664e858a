//! Killed in the middle, cut off by the network, source in use: the import ends whole all the same.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::proxy::Proxy;
use super::whole::{DOCUMENTS, fill};
use super::{DATABASE, begin, import, leaves, pause, push, replicated, url_of};
use crate::support::server::TestServer;

/// The checkpoint that an import wrote at the target.
fn checkpoint(target: &TestServer) -> Option<Value> {
    let answer = target.admin().get(&format!("/{DATABASE}/_local_docs?include_docs=true"));
    let rows = (answer.status == 200).then(|| answer.json()["rows"].clone())?;
    let row = rows.as_array()?.iter().find(|row| row["id"].as_str().is_some_and(|id| id.contains("settle-import")))?;
    Some(row["doc"].clone())
}

#[test]
fn an_import_that_was_killed_goes_on_from_its_checkpoint() {
    let (source, target) = (TestServer::start(), TestServer::start());
    fill(&source);
    let proxy = Proxy::before(source.address());
    let mut child = begin(&proxy.url(), &target, &["--database", DATABASE]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while checkpoint(&target).is_none() {
        assert!(Instant::now() < deadline && child.try_wait().expect("a child").is_none(), "no checkpoint was written");
        proxy.allow(32 << 10);
        pause(10);
    }
    // It hangs at the proxy now, somewhere in the second page.
    child.kill().expect("SIGKILL");
    child.wait().expect("a child");
    let reached = checkpoint(&target).expect("a checkpoint")["rows"].as_u64().expect("a number");
    let there = target.admin().get(&format!("/{DATABASE}")).expect(200).json()["doc_count"].as_u64().expect("a number");
    let within = (1_000..DOCUMENTS).contains(&reached) && (900..DOCUMENTS - 100).contains(&there);
    assert!(within, "{reached} {there}");

    proxy.open();
    let said = import(&proxy.url(), &target, &["--database", DATABASE]);
    assert!(said.success, "{} {}", said.errors, said.outcome);
    let medic = said.database(DATABASE);
    assert_eq!((&medic["resumed_after"], &medic["made"]), (&json!(reached), &json!(false)));
    assert!(medic["copied_revisions"].as_u64().expect("a number") <= DOCUMENTS + 201 - reached, "{medic}");
    assert_eq!(leaves(&source, DATABASE), leaves(&target, DATABASE));
}

#[test]
fn a_network_that_breaks_off_holds_nothing_up() {
    let (source, target) = (TestServer::start(), TestServer::start());
    fill(&source);
    let proxy = Proxy::before(source.address());
    proxy.cut_after(40 << 10, 7);
    let said = import(&proxy.url(), &target, &["--database", DATABASE]);
    assert!(said.success, "{} {}", said.errors, said.outcome);
    assert_eq!(proxy.cuts_left(), 0, "every cut was made");
    assert_eq!(leaves(&source, DATABASE), leaves(&target, DATABASE));
}

#[test]
fn a_target_that_restarts_meanwhile_gets_everything() {
    let source = TestServer::start();
    fill(&source);
    let folder = tempfile::tempdir().expect("a folder");
    let address = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        free.local_addr().expect("an address").to_string()
    };
    let mut target = TestServer::options().data(folder.path()).listen(&address).start();
    let proxy = Proxy::before(source.address());
    let mut child = begin(&proxy.url(), &target, &["--database", DATABASE]);
    while checkpoint(&target).is_none() {
        proxy.allow(32 << 10);
        pause(10);
    }
    target.kill9();
    proxy.open();
    pause(300);
    target.restart();
    assert!(child.wait().expect("a child").success());
    assert_eq!(leaves(&source, DATABASE), leaves(&target, DATABASE));
}

#[test]
fn a_second_run_brings_what_is_new_and_a_database_made_anew_begins_again() {
    let (source, target) = (TestServer::start(), TestServer::start());
    source.admin().put("/medic", &json!({})).expect(201);
    push(&source, "medic", &[replicated("a", 1, "a", &json!({"n": 1})), replicated("b", 1, "a", &json!({"n": 1}))]);
    assert!(import(&url_of(&source), &target, &["--database", "medic"]).success);
    push(&source, "medic", &[replicated("a", 3, "a", &json!({"n": 2})), replicated("c", 1, "a", &json!({}))]);
    let said = import(&url_of(&source), &target, &["--database", "medic"]);
    assert!(said.success, "{}", said.errors);
    assert_eq!(said.database("medic")["resumed_after"], 2);
    assert_eq!(said.database("medic")["copied_revisions"], 2);
    assert_eq!(target.admin().get("/medic/a").expect(200).json()["n"], 2);

    source.admin().delete("/medic").expect(200);
    pause(1_100); // the time of making is told in seconds
    source.admin().put("/medic", &json!({})).expect(201);
    let all = [
        replicated("a", 4, "a", &json!({"n": 3})),
        replicated("b", 1, "a", &json!({"n": 1})),
        replicated("c", 1, "a", &json!({})),
    ];
    push(&source, "medic", &all);
    let said = import(&url_of(&source), &target, &["--database", "medic"]);
    assert!(said.success, "{}", said.errors);
    assert_eq!(said.database("medic")["resumed_after"], 0);
    assert_eq!(said.database("medic")["copied_revisions"], 1);
}
