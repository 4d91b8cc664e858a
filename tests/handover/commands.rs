//! `settle device` and `settle account` against a running server.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::world::{DATABASE, World};

/// Runs the program against the server; gives whether it succeeded, and everything it printed.
fn settle(world: &World, arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_settle"));
    command.args(arguments).env("SETTLE_URL", format!("http://admin:secret@{}", world.server.address()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn done(world: &World, arguments: &[&str]) -> String {
    let (success, text) = settle(world, arguments, "");
    assert!(success, "{arguments:?}: {text}");
    text
}

#[test]
fn devices_are_shown_retired_and_cut() {
    let world = World::start();
    let mut phone = world.device("ann", "phone-of-ann");
    phone.push(DATABASE, &["a"]);
    phone.post("/_device", &serde_json::json!({"pending": 14})).expect(200);
    let id = phone.id.as_str();
    for arguments in [&["device", "list", "--account", "ann"][..], &["device", "show", id]] {
        let text = done(&world, arguments);
        assert!(text.contains(id) && text.contains("14 not pushed") && text.contains("active"), "{text}");
    }
    let foretold = done(&world, &["device", "cut", id, "--dry-run"]);
    assert!(foretold.contains("would be cut") && foretold.contains("14 not pushed"), "{foretold}");
    assert_eq!(phone.standing(), "active", "a dry run changes nothing");
    done(&world, &["device", "retire", id, "--reason", "replaced"]);
    assert_eq!(phone.standing(), "draining");
    let (success, text) = settle(&world, &["device", "wipe", id], "");
    assert!(!success && text.contains("final manifest") && text.contains("14 not pushed"), "{text}");
    done(&world, &["device", "cut", id]);
    assert_eq!(phone.standing(), "cut");
    assert!(done(&world, &["device", "cut", id]).contains("already"));
    assert!(done(&world, &["device", "wipe", id, "--override", "--reason", "stolen"]).contains("second person"));
    let json: Value = serde_json::from_str(&done(&world, &["device", "show", id, "--json"])).expect("JSON");
    assert_eq!((&json["wipe"]["state"], &json["standing"]), (&"asked".into(), &"cut".into()));
    assert!(!settle(&world, &["device", "show", "nonsense"], "").0);
}

#[test]
fn accounts_get_passwords_that_are_no_arguments() {
    let world = World::start();
    let phone = world.device("ann", "phone-of-ann");
    let foretold = done(&world, &["account", "password", "ann", "--dry-run"]);
    assert!(foretold.contains("would be") && foretold.contains(&phone.id), "{foretold}");
    assert_eq!(phone.standing(), "active");
    let answer: Value = serde_json::from_str(&done(&world, &["account", "password", "ann", "--json"])).expect("JSON");
    let password = answer["password"].as_str().expect("printed once");
    assert_eq!(phone.standing(), "draining");
    world.device_with("ann", password, "phone-of-ann");
    let (success, text) = settle(&world, &["account", "password", "ann", "--stdin"], "from a pipe\n");
    assert!(success && !text.contains("from a pipe"), "{text}");
    world.device_with("ann", "from a pipe", "phone-of-ann");
    assert!(!settle(&world, &["account", "password", "ann", "secret"], "").0, "never as an argument");
    assert!(!settle(&world, &["account", "password", "nobody"], "").0);
}

#[test]
fn accounts_are_disabled_enabled_retired_and_cut() {
    let world = World::start();
    let phone = world.device("ann", "phone-of-ann");
    for (action, standing) in [("disable", "draining"), ("enable", "draining"), ("retire", "draining"), ("cut", "cut")]
    {
        assert!(done(&world, &["account", action, "ann", "--dry-run"]).contains(&phone.id));
        done(&world, &["account", action, "ann"]);
        assert_eq!(phone.standing(), standing, "{action}");
    }
    let (success, text) = settle(&world, &["account", "enable", "ann"], "");
    assert!(!success && text.contains("retired for good"), "{text}");
}
