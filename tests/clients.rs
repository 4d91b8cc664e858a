//! Real clients against real servers: PouchDB in Node, one server (or two) for each file of `tests/clients/`.
//!
//! The expectations are in the `*.test.mjs` files; this module starts servers, installs PouchDB once if it is not there
//! (`npm ci`, as the lock file says) and shows what Node printed. Without Node these tests fail, unless
//! `SETTLE_SKIP_NODE=1` says that this machine shall do without. They never write outside `tests/clients/node_modules`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::json;

use crate::support::clock::SetClock;
use crate::support::server::{ADMIN, ADMIN_PASSWORD, TestServer};

/// Declares one test for each file `tests/clients/NAME.test.mjs`.
macro_rules! client_files {
    ($($name:ident),+ $(,)?) => {
        const FILES: &[&str] = &[$(stringify!($name)),+];
        $(
            #[test]
            fn $name() {
                run_file(stringify!($name));
            }
        )+
    };
}

client_files!(
    access,
    attachments,
    browser,
    console,
    convergence,
    handover,
    interruptions,
    replication,
    requests,
    scope,
    servers,
    tools,
    withdrawal
);

#[test]
fn every_client_file_has_its_test() {
    let entries = folder().read_dir().expect("tests/clients is there");
    let mut found: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".test.mjs").map(str::to_owned))
        .collect();
    found.sort();
    assert_eq!(found, FILES, "tests/clients.rs must list every *.test.mjs");
}

#[test]
fn the_demo_ends_as_told() {
    if !node_is_ready() {
        return;
    }
    let mut demo = Command::new(env!("CARGO_BIN_EXE_settle"));
    demo.arg("demo").current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    let output = demo.output().expect("settle starts");
    let said = words(&output);
    assert!(output.status.success(), "the demo failed:\n{said}");
    for promise in [
        "each holds exactly its own of the 966 documents",
        "no conflict is left on either side",
        "chw-2 gained what chw-1 lost, and the late report",
        "both wait in escrow for a person to decide",
        "Done: every step went as told.",
    ] {
        assert!(said.contains(promise), "no word of {promise:?} in:\n{said}");
    }
}

#[test]
fn the_demo_fails_in_a_database_that_is_not_its_own() {
    if !node_is_ready() {
        return;
    }
    let server = TestServer::start();
    server.admin().put("/medic", &json!({})).expect(201);
    let mut node = node();
    node.arg("demo.mjs").env("SETTLE_URL", url(&server)).env("SETTLE_DATABASE", "medic");
    let output = node.output().expect("node starts: it did a moment ago");
    assert!(!output.status.success(), "{}", words(&output));
    assert!(words(&output).contains("medic is no scoped database"), "{}", words(&output));
}

/// Runs one file of tests with fresh servers and panics with everything Node said if it fails.
fn run_file(name: &str) {
    if !node_is_ready() {
        return;
    }
    // The console shows days of silence; without libfaketime its test does without.
    let clock = (name == "console").then(SetClock::find).flatten();
    if let Some(clock) = &clock {
        // Time never runs backwards: the test begins some days ago, and moves on to today.
        clock.set(-30 * 86_400);
    }
    // Each test deletes its accounts, all together more than one person may within an hour.
    let options = TestServer::options().config("[settle]\nretirements_alone = 0\n");
    let server = clock.iter().fold(options, |options, clock| clock.of(options)).start();
    let second = (name == "servers").then(TestServer::start);
    let mut node = node();
    node.env_remove("SETTLE_CLOCK");
    if let Some(clock) = &clock {
        node.env("SETTLE_CLOCK", clock.file());
    }
    node.args(["--test", "--test-reporter=spec", "--test-timeout=300000"]).arg(format!("{name}.test.mjs"));
    node.env("SETTLE_URL", url(&server));
    if let Some(second) = &second {
        node.env("SETTLE_URL_2", url(second));
    }
    let output = node.output().expect("node starts: it did a moment ago");
    let said = words(&output);
    assert!(output.status.success(), "tests/clients/{name}.test.mjs failed:\n{said}\nserver log:\n{}", server.log());
    println!("{said}");
}

/// The server's URL with the administrator's credentials.
fn url(server: &TestServer) -> String {
    format!("http://{ADMIN}:{ADMIN_PASSWORD}@{}", server.address())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("clients")
}

fn node() -> Command {
    let mut node = Command::new("node");
    node.current_dir(folder()).env_remove("SETTLE_URL_2").env_remove("NODE_TEST_CONTEXT");
    node
}

fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether to run: true with Node and PouchDB in place, false if this machine shall do without; panics otherwise.
#[track_caller]
pub(crate) fn node_is_ready() -> bool {
    if std::env::var("SETTLE_SKIP_NODE").is_ok_and(|value| value == "1") {
        println!("skipped: SETTLE_SKIP_NODE=1");
        return false;
    }
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    if let Err(problem) = READY.get_or_init(prepare) {
        panic!("{problem}");
    }
    true
}

/// Looks for Node and installs what `package-lock.json` names, if it is not there yet.
fn prepare() -> Result<(), String> {
    let hint = "install Node 20 or later, or set SETTLE_SKIP_NODE=1 to go without the tests of real clients";
    let version =
        Command::new("node").arg("--version").output().map_err(|error| format!("no node ({error}): {hint}"))?;
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    let major = version.trim_start_matches('v').split('.').next().and_then(|text| text.parse::<u32>().ok());
    if major.is_none_or(|major| major < 20) {
        return Err(format!("node is {version:?}: {hint}"));
    }
    if installed_is_current() {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder());
    let output = npm.output().map_err(|error| format!("no npm ({error}): {hint}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("npm ci failed in tests/clients:\n{}", words(&output))) }
}

/// Whether `node_modules` is complete and not older than the lock file; npm writes its own copy of the lock last.
fn installed_is_current() -> bool {
    let changed = |path: &str| folder().join(path).metadata().and_then(|metadata| metadata.modified()).ok();
    match (changed("node_modules/.package-lock.json"), changed("package-lock.json")) {
        (Some(installed), Some(locked)) => installed >= locked,
        _ => false,
    }
}
