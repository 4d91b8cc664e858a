//! `settle import couchdb`: from one real server into another, with everything that can be in a database; stopped in the
//! middle, cut off, compared, and told what is wrong.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::server::TestServer;

mod couchdb;
mod differences;
mod interruptions;
mod proxy;
mod refusals;
pub(crate) mod tls;
mod whole;

/// A database as the tests fill it, and how much is in it.
const DATABASE: &str = "medic";

fn command(source: &str, target: &TestServer, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_settle"));
    command.args(["import", "couchdb", source, "--to", &url_of(target)]).args(more);
    command
}

fn url_of(server: &TestServer) -> String {
    format!("http://admin:secret@{}", server.address())
}

/// What an import said: whether it was content, its JSON, and its standard error.
struct Said {
    success: bool,
    outcome: Value,
    errors: String,
}

impl Said {
    /// What became of a database.
    #[track_caller]
    fn database(&self, name: &str) -> &Value {
        let databases = self.outcome["databases"].as_array().unwrap_or_else(|| panic!("{}", self.errors));
        databases.iter().find(|database| database["name"] == name).unwrap_or_else(|| panic!("{}", self.outcome))
    }
}

/// Runs an import to its end.
fn import(source: &str, target: &TestServer, more: &[&str]) -> Said {
    let output = command(source, target, more).arg("--json").output().expect("settle runs");
    Said {
        success: output.status.success(),
        outcome: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Begins an import and leaves it to itself.
fn begin(source: &str, target: &TestServer, more: &[&str]) -> Child {
    let mut command = command(source, target, more);
    command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("settle runs")
}

#[expect(clippy::disallowed_methods, reason = "what is waited for is another process, or the system's clock")]
fn pause(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// A revision as replication writes it: generations `1..=last` of a branch.
fn replicated(id: &str, last: u64, branch: &str, body: &Value) -> Value {
    let ids: Vec<String> = (1..=last).rev().map(|generation| revision_hash(generation, branch)).collect();
    let mut document = body.clone();
    document["_id"] = id.into();
    document["_revisions"] = json!({"start": last, "ids": ids});
    document
}

/// Generation 1 is common to all branches of a document.
fn revision_hash(generation: u64, branch: &str) -> String {
    let branch = if generation == 1 { "root" } else { branch };
    blake3::hash(format!("{generation} {branch}").as_bytes()).to_hex()[..32].to_owned()
}

/// Writes replicated revisions.
#[track_caller]
fn push(server: &TestServer, database: &str, documents: &[Value]) {
    for documents in documents.chunks(500) {
        let body = json!({"new_edits": false, "docs": documents});
        let rows = server.admin().post(&format!("/{database}/_bulk_docs"), &body).expect(201).json();
        assert_eq!(rows, json!([]));
    }
}

/// Leaves of all documents, as a list of `id revisions`.
fn leaves(server: &TestServer, database: &str) -> Vec<String> {
    let feed = server.admin().get(&format!("/{database}/_changes?style=all_docs")).expect(200).json();
    let rows = feed["results"].as_array().expect("rows");
    let mut leaves: Vec<String> =
        rows.iter().map(|row| format!("{} {} {}", row["id"], row["changes"], row["deleted"])).collect();
    leaves.sort();
    leaves
}
