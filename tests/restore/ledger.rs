//! The file beside the data: when it is written, what it survives, and what it notices.

use serde_json::json;

use super::drill::{Drill, NOTES, settle, shown};
use crate::support::http::Request;
use crate::support::server::TestServer;

#[test]
fn a_withdrawal_is_in_the_file_when_it_is_answered() {
    let mut drill = Drill::start();
    for name in ["a", "b", "c"] {
        drill.account(name);
    }
    let phone = drill.log_in("a", None);
    let admin = drill.server.admin();
    let told = |path: &str, what: &str| {
        let answer = admin.post(path, &json!({"password": "another-one-7"})).expect(200);
        assert_eq!(answer.header("x-settle-ledger"), None);
        let last = drill.ledger_lines().pop().expect("a line");
        assert_eq!(last["line"]["what"], json!(what), "{path}: {last}");
    };
    told(&format!("/_devices/{}/retire", drill.device(&phone)), "device");
    told(&format!("/_devices/{}/cut", drill.device(&phone)), "cut");
    told("/_accounts/b/password", "epoch");
    told("/_accounts/b/disable", "epoch");
    told("/_accounts/b/enable", "open");
    let path = "/_users/org.couchdb.user:c";
    let rev = admin.get(path).expect(200).json()["_rev"].as_str().expect("a revision").to_owned();
    admin.send(&Request::new("DELETE", &format!("{path}?rev={rev}"))).expect(200);
    assert_eq!(drill.ledger_lines().pop().expect("a line")["line"]["withdrawal"]["cause"], "account_deleted");
    let text = std::fs::read_to_string(drill.ledger()).expect("read");
    assert!(!text.contains("argon2") && !text.contains("another-one"), "no secrets: {text}");
    let lines = drill.ledger_lines().len();
    drill.server.kill9();
    drill.server.restart();
    assert!(drill.ledger_lines().len() >= lines);
    assert!(drill.audit("store.restored").is_empty(), "a crash is no restore");
}

#[test]
fn a_withdrawal_holds_although_the_file_cannot_be_written_and_the_answer_says_so() {
    let mut drill = Drill::start();
    drill.account("ann");
    let phone = drill.log_in("ann", None);
    let hidden = drill.folder.path().join("hidden");
    std::fs::rename(drill.ledger(), &hidden).expect("moved");
    let admin = drill.server.admin();
    let answer = admin.post(&format!("/_devices/{}/cut", drill.device(&phone)), &json!({})).expect(200);
    assert_eq!(answer.header("x-settle-ledger"), Some("behind"));
    assert_eq!(phone.pull(&drill), (401, "cut".into()));
    assert_eq!(admin.get("/_up").expect(200).json()["ledger"], "behind");
    assert!(admin.get("/_metrics").text().contains("settle_ledger_behind_lines 1"));
    std::fs::rename(&hidden, drill.ledger()).expect("moved");
    drill.server.restart();
    assert!(drill.ledger_lines().iter().any(|line| line["line"]["what"] == "cut"), "caught up");
    assert!(drill.server.admin().get("/_up").expect(200).json().get("ledger").is_none());
}

#[test]
fn the_piece_of_a_line_that_a_crash_left_does_not_count() {
    let mut drill = Drill::start();
    drill.account("ann");
    drill.server.stop();
    let text = std::fs::read_to_string(drill.ledger()).expect("read");
    std::fs::write(drill.ledger(), format!("{text}{{\"number\":99,\"ha")).expect("written");
    drill.server.restart();
    assert!(drill.server.admin().get("/_up").expect(200).json().get("ledger").is_none());
    drill.server.admin().post("/_accounts/ann/disable", &json!({})).expect(200);
    let numbers: Vec<_> = drill.ledger_lines().iter().map(|line| line["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).map(Some).collect::<Vec<_>>());
}

#[test]
fn a_snapshot_of_the_machine_is_noticed_although_nothing_was_withdrawn() {
    let mut drill = Drill::start();
    let snapshot = drill.snapshot();
    drill.server.restart();
    drill.server.admin().put(&format!("/{NOTES}/later"), &json!({})).expect(201);
    drill.server.stop();
    drill.put_back(&snapshot);
    drill.server.restart();
    let restored = drill.audit("store.restored");
    assert_eq!(restored.len(), 1);
    assert!(restored[0]["reason"].as_str().expect("a reason").contains("older than"), "{restored:?}");
    drill.server.restart();
    assert_eq!(drill.audit("store.restored").len(), 1, "once");
}

#[test]
fn a_ledger_that_turns_up_later_is_told_to_the_store_and_nothing_done_meanwhile_is_lost() {
    let mut drill = Drill::start();
    for name in ["ann", "ben"] {
        drill.account(name);
    }
    let (ann, ben) = (drill.log_in("ann", Some("phone-of-ann")), drill.log_in("ben", Some("phone-of-ben")));
    let backup = drill.backup();
    drill.server.admin().post("/_accounts/ann/cut", &json!({})).expect(200);
    let kept = drill.folder.path().join("kept");
    drill.restore(&backup);
    std::fs::rename(drill.ledger(), &kept).expect("moved");
    drill.server.restart();
    assert_eq!(ann.pull(&drill).0, 503);
    let answer = drill.server.admin().post("/_accounts/ben/cut", &json!({})).expect(200);
    assert_eq!(answer.header("x-settle-ledger"), Some("behind"), "nothing is written beside a ledger that is gone");
    drill.server.stop();
    std::fs::rename(&kept, drill.ledger()).expect("moved");
    drill.server.restart();
    for session in [&ann, &ben] {
        assert_eq!(session.pull(&drill), (401, "cut".into()));
    }
    let numbers: Vec<_> = drill.ledger_lines().iter().map(|line| line["number"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).map(Some).collect::<Vec<_>>());
    drill.server.restart();
    assert_eq!(drill.audit("store.restored").len(), 2, "once without and once with the ledger");
}

#[test]
fn the_ledger_of_another_server_is_not_taken() {
    let (mut one, other) = (Drill::start(), Drill::start());
    one.server.stop();
    std::fs::copy(other.ledger(), one.ledger()).expect("copied");
    let refused = TestServer::options().data(&one.data()).try_start().expect_err("refused");
    assert!(refused.contains("another server"), "{refused}");
}

#[test]
fn the_place_of_the_ledger_is_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let by_argument = folder.path().join("one");
    let server = TestServer::options().argument("--ledger").argument(shown(&by_argument)).start();
    assert!(by_argument.exists() && server.data().exists());
    let by_file = folder.path().join("two");
    let config = format!("[settle]\nledger = \"{}\"\n", shown(&by_file));
    let _server = TestServer::options().config(&config).start();
    assert!(by_file.exists());
}

#[test]
fn restore_writes_over_nothing_and_says_what_it_would_do() {
    let drill = Drill::start();
    let backup = drill.backup();
    let (success, said) = settle(&["restore", &shown(&backup), "--to", &shown(&drill.data())]);
    assert!(!success && said.contains("exists already"), "{said}");
    let target = drill.folder.path().join("new");
    let (success, said) = settle(&["restore", &shown(&backup), "--to", &shown(&target), "--dry-run"]);
    assert!(success && said.contains("would copy") && !target.exists(), "{said}");
    let (success, said) = settle(&["restore", &shown(&target), "--to", &shown(&target)]);
    assert!(!success && said.contains("is no backup"), "{said}");
}
