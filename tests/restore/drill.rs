//! A server with a folder of its own around data and ledger, so that both can be copied, moved and put back.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::http::{Client, Request, Response};
use crate::support::server::{ADMIN, ADMIN_PASSWORD, TestServer};

/// The scoped database of these tests.
pub(crate) const AREA: &str = "area";
/// The plain one.
pub(crate) const NOTES: &str = "notes";

/// One drill.
pub(crate) struct Drill {
    pub(crate) folder: TempDir,
    pub(crate) server: TestServer,
}

/// A login.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) cookie: String,
}

impl Drill {
    /// A server with the two databases, which accounts with the role `chw` may enter.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// … with a configuration.
    pub(crate) fn start_with(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = TestServer::options().data(&folder.path().join("data")).config(config);
        let server = options.start();
        let drill = Self { folder, server };
        let admin = drill.server.admin();
        let security = json!({"members": {"roles": ["chw"]}, "admins": {"roles": ["_admin"]}});
        for path in [format!("/{AREA}?scoped=true"), format!("/{NOTES}")] {
            admin.put(&path, &json!({})).expect(201);
        }
        for name in [AREA, NOTES] {
            admin.put(&format!("/{name}/_security"), &security).expect(200);
        }
        let settings = json!({"settings": {"permissions": {"can_edit": ["chw"]}, "replication_depth": []}});
        admin.put(&format!("/{AREA}/settings"), &settings).expect(201);
        admin.put(&format!("/{AREA}/place"), &json!({"type": "district_hospital", "name": "Place"})).expect(201);
        drill
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.folder.path().join("data.ledger")
    }

    /// The lines of the ledger beside the data.
    pub(crate) fn ledger_lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.ledger()).expect("a ledger");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{ADMIN}:{ADMIN_PASSWORD}@{}", self.server.address())
    }

    /// Makes an account at the place.
    pub(crate) fn account(&self, name: &str) {
        let id = format!("org.couchdb.user:{name}");
        let user = json!({"_id": id, "name": name, "type": "user", "roles": ["chw"], "password": password(name),
            "facility_id": "place", "contact_id": format!("person-{name}")});
        self.server.admin().put(&format!("/_users/{id}"), &user).expect(201);
    }

    /// Logs in, as a device that names itself or not.
    pub(crate) fn log_in(&self, name: &str, device: Option<&str>) -> Session {
        let mut body = json!({"name": name, "password": password(name)});
        if let Some(device) = device {
            body["device"] = json!({"id": device, "name": device});
        }
        let answer = self.server.anonymous().post("/_session", &body).expect(200);
        Session { cookie: answer.cookie().expect("a cookie") }
    }

    /// The server's id of the device of a session.
    pub(crate) fn device(&self, session: &Session) -> String {
        let device = session.send(&self.server.anonymous(), "GET", "/_device", None).expect(200).json();
        device["device"].as_str().expect("a device").to_owned()
    }

    /// An online backup; gives its folder.
    pub(crate) fn backup(&self) -> PathBuf {
        let answer = self.server.admin().post("/_backup", &json!({})).expect(201).json();
        let made = PathBuf::from(answer["path"].as_str().expect("a path"));
        // Kept elsewhere, as backups are.
        let kept = self.folder.path().join(made.file_name().expect("a name"));
        std::fs::rename(&made, &kept).expect("moved");
        kept
    }

    /// Stops the server, loses its data, and restores a backup with the command line. The server is not started yet.
    pub(crate) fn restore(&mut self, backup: &Path) -> String {
        self.server.stop();
        std::fs::remove_dir_all(self.data()).expect("removed");
        let (success, text) = settle(&["restore", &shown(backup), "--to", &shown(&self.data())]);
        assert!(success, "{text}");
        text
    }

    /// Copies the data of the stopped server, as a snapshot of the machine would: without any mark.
    pub(crate) fn snapshot(&mut self) -> PathBuf {
        self.server.stop();
        let copy = self
            .folder
            .path()
            .join(format!("snapshot-{}", std::fs::read_dir(self.folder.path()).expect("read").count()));
        copy_folder(&self.data(), &copy);
        copy
    }

    /// Puts a snapshot back in the place of the stopped server's data.
    pub(crate) fn put_back(&self, snapshot: &Path) {
        std::fs::remove_dir_all(self.data()).expect("removed");
        copy_folder(snapshot, &self.data());
    }

    /// Entries of the audit log of an action.
    pub(crate) fn audit(&self, action: &str) -> Vec<Value> {
        let page = self.server.admin().get(&format!("/_audit?action={action}&limit=1000")).expect(200).json();
        page["entries"].as_array().cloned().expect("entries")
    }
}

impl Session {
    pub(crate) fn send(&self, client: &Client, method: &str, path: &str, body: Option<&Value>) -> Response {
        let request = Request::new(method, path).header("Cookie", &self.cookie);
        client.send(&match body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    /// Status and reason of a pull.
    pub(crate) fn pull(&self, drill: &Drill) -> (u16, String) {
        let answer = self.send(&drill.server.anonymous(), "GET", &format!("/{AREA}/_all_docs"), None);
        let reason = answer.json()["reason"].as_str().unwrap_or_default().to_owned();
        (answer.status, reason)
    }

    /// Status and reason of a push of one document.
    pub(crate) fn push(&self, drill: &Drill, id: &str) -> (u16, String) {
        let document = json!({"_id": id, "_rev": "1-abc", "_revisions": {"start": 1, "ids": ["abc"]}});
        let body = json!({"docs": [document], "new_edits": false});
        let answer = self.send(&drill.server.anonymous(), "POST", &format!("/{AREA}/_bulk_docs"), Some(&body));
        let reason = answer.json()["reason"].as_str().unwrap_or_default().to_owned();
        (answer.status, reason)
    }
}

pub(crate) fn password(name: &str) -> String {
    format!("pass-of-{name}")
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Runs the command line; success and everything it said.
pub(crate) fn settle(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_settle")).args(arguments).output().expect("settle runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("read") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copied")),
        }
    }
}
