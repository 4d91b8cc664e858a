//! `settle account` and `settle place`: the same acts by typing.

use std::process::Command;

use serde_json::{Value, json};

use super::village::{Village, text};

pub(super) fn settle(village: &Village, arguments: &[&str]) -> Result<String, String> {
    let url = village.server.url().replace("http://", "http://admin:secret@");
    let output = Command::new(env!("CARGO_BIN_EXE_settle")).args(arguments).env("SETTLE_URL", url).output();
    let output = output.expect("the program runs");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn done(village: &Village, arguments: &[&str]) -> String {
    settle(village, arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

#[test]
fn accounts_are_made_and_listed() {
    let village = Village::start();
    let create = [
        "account",
        "create",
        "bea",
        "--role",
        "chw",
        "--new-place",
        "Area three",
        "--place-type",
        "chw_area",
        "--below",
        "district",
        "--new-contact",
        "Bea",
    ];
    let before = village.state();
    let tried = done(&village, &[&create[..], &["--dry-run"]].concat());
    assert_eq!((tried.as_str(), village.state()), ("The account bea would be made.\n", before));
    let told = done(&village, &create);
    assert!(told.starts_with("The account bea was made.\n") && told.contains("/_links/"), "{told}");
    let taken = settle(&village, &create).expect_err("the name is taken");
    assert!(taken.contains("409") && taken.contains("already"), "{taken}");
    let listed = done(&village, &["account", "list", "--role", "chw"]);
    assert!(listed.starts_with("bea\tactive\tchw\t") && listed.trim_end().ends_with("link open"), "{listed}");
    let link: Value = serde_json::from_str(&done(&village, &["account", "link", "bea", "--json"])).expect("JSON");
    assert_eq!(village.phone_by_link(&link, "bea-phone").name, "bea");
    assert!(done(&village, &["account", "list"]).trim_end().ends_with("no link"));
    done(&village, &["account", "create", "cy", "--role", "chw", "--place", "area-1", "--prepared"]);
    assert!(done(&village, &["account", "list", "--state", "prepared"]).starts_with("cy\tprepared\t"));
}

#[test]
fn places_change_hands() {
    let village = Village::with_ann();
    village.phone("ann", "ann-phone");
    let replace = ["place", "replace", "medic", "area-1", "--name", "Bea", "--account", "bea"];
    let before = village.state();
    let tried = done(&village, &[&replace[..], &["--dry-run"]].concat());
    assert!(tried.contains("would be held by bea") && tried.contains("ann would be retired"), "{tried}");
    assert_eq!(village.state(), before);
    let told = done(&village, &[&replace[..], &["--reason", "left"]].concat());
    assert!(told.contains("the account ann is retired") && told.contains("logs bea in"), "{told}");
    let undone = done(&village, &["place", "undo", "medic", "area-1"]);
    assert!(undone.contains("held by per-ann again"), "{undone}");
    let renamed = done(&village, &["place", "rename", "medic", "area-1", "--name", "Cy"]);
    assert!(renamed.contains("held by ann as per-ann"), "{renamed}");
    let handed = done(&village, &["place", "hand-over", "medic", "area-1", "--name", "Di", "--json"]);
    let handed: Value = serde_json::from_str(&handed).expect("JSON");
    assert_eq!((text(&handed["account"]), &handed["former_contact"]), ("ann", &json!("per-ann")));
    let custody = done(&village, &["place", "custody", "medic", "hh-1"]);
    let lines: Vec<&str> = custody.lines().collect();
    assert!(lines[0].starts_with("area-1 was held by Di (ann) at "), "{custody}");
    let hands: Vec<&str> = lines[1..].iter().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(
        hands,
        ["Ann (ann) (account)", "Bea (bea) (replace, taken back)", "Cy (ann) (rename)", "Di (ann) (hand_over)"]
    );
    let refused = settle(&village, &["place", "undo", "medic", "area-1"]).expect_err("nothing to undo");
    assert!(refused.contains("409"), "{refused}");
}
