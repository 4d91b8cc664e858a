//! `settle backup` and `settle verify`: online from a running server, and of a stopped one.

use std::process::Command;

use serde_json::json;

use crate::support::server::TestServer;

fn settle(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_settle")).args(arguments).output().expect("settle runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_backup_of_a_running_server_opens_and_verifies() {
    let server = TestServer::start();
    let admin = server.admin();
    admin.put("/visits", &json!({})).expect(201);
    for number in 0..50 {
        let attachments = json!({"f": {"data": "aGVsbG8=", "content_type": "text/plain"}});
        admin.put(&format!("/visits/v{number}"), &json!({"n": number, "_attachments": attachments})).expect(201);
    }
    let url = format!("http://admin:secret@{}", server.address());
    let (success, text) = settle(&["backup", "--url", &url]);
    assert!(success, "{text}");
    admin.put("/visits/later", &json!({})).expect(201);
    let path = text.lines().find_map(|line| line.strip_prefix("the server wrote ")).expect("a path").to_owned();
    let (success, text) = settle(&["verify", "--data", &path]);
    assert!(success && text.contains("50 documents, 0 problems"), "{text}");
    let copy = TestServer::options().data(std::path::Path::new(&path)).start();
    assert_eq!(copy.admin().get("/visits").expect(200).json()["doc_count"], 50);
    assert_eq!(copy.admin().get("/visits/v7/f").expect(200).bytes(), b"hello");
    assert_eq!(admin.get("/visits").expect(200).json()["doc_count"], 51);
}

#[test]
fn only_operators_make_backups_and_a_running_server_is_not_copied_by_folder() {
    let server = TestServer::start();
    assert_eq!(server.anonymous().post("/_backup", &json!({})).status, 401);
    let data = server.data();
    let (success, text) = settle(&["backup", "--data", &data.to_string_lossy(), "/tmp/settle-never-made"]);
    assert!(!success && text.contains("--url"), "{text}");
    assert!(!std::path::Path::new("/tmp/settle-never-made").exists());
}
