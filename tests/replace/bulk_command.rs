//! `settle account import`: from a spreadsheet to accounts, stopped by force at any moment and typed again, with a result that can be
//! fed in again and that no spreadsheet computes. A failing run is repeated with `SETTLE_SEED`.

#![expect(clippy::disallowed_methods, reason = "a command must live for a while before it is killed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::command_line::settle;
use super::village::{Village, text};
use crate::support::chance::Chance;

const ROWS: usize = 1_500;
/// A kill comes at most so long after the command begins, and later each time: also a slow machine comes to an end.
const LONGEST_LIFE_MS: u64 = 400;
/// Kills that come while the command sends rows: of six times that it does.
const SURE_KILLS: u64 = 3;

fn folder_with(file: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(file);
    std::fs::write(&path, text).expect("written");
    (folder, path)
}

fn import(village: &Village, path: &Path, more: &[&str]) -> Result<String, String> {
    let path = path.to_str().expect("a path");
    settle(village, &[&["account", "import", path], more].concat())
}

/// Rows of a result by the names of their columns.
fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).expect("a result");
    // The tests have no CSV reader of their own: no cell of these files has a comma or a quote.
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    lines.map(|cells| header.iter().cloned().zip(cells).collect()).collect()
}

fn link_of(row: &BTreeMap<String, String>) -> Value {
    json!({"token": row["import.link:excluded"].rsplit('/').next()})
}

#[test]
fn a_spreadsheet_becomes_accounts_and_a_result_that_can_be_fed_in_again() {
    let village = Village::start();
    let (folder, path) = folder_with(
        "workers.csv",
        "external_id,roles,place.name,place.contact_type,place.parent,contact.name,phone,note:excluded\n\
         hr-1,chw,River,chw_area,district,Bea,+256 1,=cmd()\n\
         hr-2,chw,Hill,chw_area,River,Cy,+256 2,\n\
         hr-3,,Lake,chw_area,district,Di,+256 3,\n\
         hr-4,chw,Sea,chw_area,Lake,Ed,+256 4,\n",
    );
    let before = village.state();
    let tried = import(&village, &path, &["--dry-run"]).expect("tried");
    assert!(tried.contains("2 created, 2 refused. Nothing was changed.") && tried.contains("line 4: "), "{tried}");
    assert_eq!((village.state(), std::fs::read_dir(folder.path()).expect("read").count()), (before.clone(), 1));
    let error = import(&village, &path, &[]).expect_err("rows were refused");
    assert!(error.contains("2 rows were refused") && error.contains("4 of 4 rows"), "{error}");
    let result = folder.path().join("workers.result.csv");
    let rows = table(&result);
    let column = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("import.status:excluded"), ["created", "created", "refused", "refused"]);
    assert!(rows[3]["import.message:excluded"].contains("line 4 was refused"), "{rows:?}");
    assert_eq!((rows[0]["note:excluded"].as_str(), rows[0]["phone"].as_str()), ("'=cmd()", "'+256 1"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&result).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600, "links are in it");
    assert_eq!(village.get(&format!("/_accounts/{}", rows[0]["import.name:excluded"]))["phone"], json!("+256 1"));
    let twice = import(&village, &path, &[]).expect_err("the result would be lost");
    assert!(twice.contains("already"), "{twice}");
    // Repaired in the result, and fed in again.
    let repaired = std::fs::read_to_string(&result).expect("read").replace("hr-3,,", "hr-3,chw,");
    std::fs::write(&result, repaired).expect("written");
    let said = import(&village, &result, &["--json", "--reason", "second try"]).expect("all are taken");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["counts"]["created"], &said["counts"]["exists"]), (&json!(2), &json!(2)));
    let again = table(&folder.path().join("workers.result.result.csv"));
    assert_eq!(again[0].len(), rows[0].len(), "no column comes twice");
    for (row, name) in again.iter().zip(["Bea", "Cy", "Di", "Ed"]) {
        let phone = village.phone_by_link(&link_of(row), &format!("phone-of-{name}"));
        assert_eq!(phone.name, row["import.name:excluded"], "{row:?}");
    }
    let sea = village.document(&again[3]["import.place:excluded"]);
    assert_eq!(text(&sea["parent"]["_id"]), again[2]["import.place:excluded"]);
    assert_eq!(village.state().len(), before.len() + 16);
}

#[test]
fn files_with_problems_are_not_sent() {
    let village = Village::start();
    let before = village.state();
    for (name, text, words) in [
        ("a.csv", "username,roles\nbea,chw\nbea,chw\n", "line 3, username: `bea` is also on line 2"),
        ("b.csv", "username,roles,password\nbea,chw,x\n", "passwords do not belong into files"),
        ("c.csv", "username,roles\nbea,\"chw\n", "never closed"),
        ("d.csv", "", "empty"),
        ("e.csv", "username,roles\n", "no rows"),
        ("f.xlsx", "PK", "must end with"),
        ("g.json", "[{\"username\": \"bea\", \"shoe\": 1}]", "no such column"),
    ] {
        let (folder, path) = folder_with(name, text);
        let error = import(&village, &path, &[]).expect_err(name);
        assert!(error.contains(words), "{name}: {error}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 1, "{name}: nothing is left behind");
    }
    assert_eq!(village.state(), before);
    let (_folder, path) = folder_with("w.csv", "username,roles,place\nbea,chw,area-1\n");
    let output = Command::new(env!("CARGO_BIN_EXE_settle"))
        .args(["account", "import", path.to_str().expect("a path"), "--url", "http://admin:wrong@"])
        .output()
        .expect("it runs");
    assert!(!output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("wrong"));
}

#[test]
fn passwords_are_made_up_and_json_is_taken() {
    let village = Village::start();
    let file = "{\"username\": \"bea\", \"roles\": [\"chw\"], \"place\": \"area-1\"}\n{\"username\": \"cy\", \"roles\": [\"chw\"], \"place\": \"area-2\"}\n";
    let (folder, path) = folder_with("workers.ndjson", file);
    import(&village, &path, &["--passwords", "generate"]).expect("done");
    let text = std::fs::read_to_string(folder.path().join("workers.result.ndjson")).expect("a result");
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        let login = json!({"name": row["username"], "password": row["import.password:excluded"], "device": {"id": "its-phone"}});
        assert_eq!(village.log_in(&login).err().map(|answer| answer.text()), None, "{row}");
    }
    let (_folder, path) = folder_with("more.csv", "username,roles,place\ndi,chw,area-1\n");
    import(&village, &path, &["--active"]).expect("done");
    assert_eq!(village.get("/_accounts/di")["state"], json!("active"));
    let sent =
        import(&village, &path, &["--send", "--result", path.with_extension("other.csv").to_str().expect("a path")]);
    sent.expect("it is there already: nothing is sent");
}

/// A file in which each tenth row makes a place that the nine below it name.
fn many(rows: usize) -> String {
    let mut file = "external_id,roles,place.name,place.contact_type,place.parent,contact.name\n".to_owned();
    for row in 0..rows {
        let parent = if row % 10 == 0 { "district".to_owned() } else { format!("Place {}", row / 10 * 10) };
        file.push_str(&format!("hr-{row},chw,Place {row},chw_area,{parent},Person {row}\n"));
    }
    file
}

/// Every row has one account, one place and one contact, and its link logs in.
fn assert_complete(village: &Village, result: &Path, before: usize, logins: usize) {
    let rows = table(result);
    assert_eq!(rows.len(), ROWS);
    for row in &rows {
        assert_eq!(row["import.status:excluded"], "created", "{row:?}");
        assert!(row["import.link:excluded"].starts_with("http"), "{row:?}");
    }
    let distinct = |name: &str| rows.iter().map(|row| row[name].clone()).collect::<BTreeSet<_>>().len();
    assert_eq!((distinct("import.name:excluded"), distinct("import.place:excluded")), (ROWS, ROWS));
    assert_eq!(village.state().len(), before + 4 * ROWS, "nothing twice, nothing missing");
    for row in rows.iter().step_by(ROWS / logins) {
        assert_eq!(village.phone_by_link(&link_of(row), "its-phone").name, row["import.name:excluded"]);
    }
    // Those that were on their way when it was stopped have links that work, too.
    let on_their_way: Vec<_> = rows.iter().filter(|row| !row["import.message:excluded"].is_empty()).collect();
    assert!(!on_their_way.is_empty(), "it was never stopped while the server made something");
    for row in on_their_way.into_iter().step_by(40) {
        let answer = village.log_in(&json!({"link": link_of(row)["token"], "device": {"id": "its-phone"}}));
        let status = answer.err().map(|answer| (answer.status, answer.text()));
        assert!(status.as_ref().is_none_or(|(_, text)| text.contains("used already")), "{row:?}: {status:?}");
    }
}

/// How often the command noted in its journal that it sends rows.
fn times_sent(journal: &Path) -> usize {
    std::fs::read_to_string(journal).map_or(0, |text| text.matches("\"sending\"").count())
}

#[test]
fn a_command_that_is_killed_and_typed_again_does_nothing_twice_and_leaves_nothing_out() {
    let village = Village::start();
    let before = village.state().len();
    let (folder, path) = folder_with("many.csv", &many(ROWS));
    let url = village.server.url().replace("http://", "http://admin:secret@");
    let sent = || times_sent(&folder.path().join("many.result.csv.part"));
    let mut chance = Chance::of_law(4_711);
    let mut kills = 0;
    loop {
        let mut command = Command::new(env!("CARGO_BIN_EXE_settle"));
        command.args(["account", "import", path.to_str().expect("a path")]).env("SETTLE_URL", &url);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        if kills < SURE_KILLS {
            // However fast the machine is: in the middle of something.
            let sent_before = sent();
            while sent() == sent_before && child.try_wait().expect("known").is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(chance.below(10)));
        } else {
            std::thread::sleep(Duration::from_millis(20 + chance.below(LONGEST_LIFE_MS + 20 * kills)));
        }
        if let Some(status) = child.try_wait().expect("known") {
            assert!(status.success() || folder.path().join("many.result.csv").exists());
            break;
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        kills += 1;
        assert!(kills < 200, "it never ends");
    }
    assert!(kills >= SURE_KILLS, "killed only {kills} times");
    assert_eq!(std::fs::read_dir(folder.path()).expect("read").count(), 2, "no journal is left");
    assert_complete(&village, &folder.path().join("many.result.csv"), before, 30);
}

#[test]
fn a_server_that_is_killed_loses_no_row() {
    let mut village = Village::start();
    let before = village.state().len();
    let (folder, path) = folder_with("many.csv", &many(ROWS));
    let mut chance = Chance::of_law(42);
    let journal = folder.path().join("many.result.csv.part");
    let sent = || times_sent(&journal);
    for _ in 0..4 {
        let sent_before = sent();
        let url = village.server.url().replace("http://", "http://admin:secret@");
        let mut command = Command::new(env!("CARGO_BIN_EXE_settle"));
        command.args(["account", "import", path.to_str().expect("a path")]).env("SETTLE_URL", &url);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        while sent() == sent_before && child.try_wait().expect("known").is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Soon, or a fast machine is done: long before it has sent rows six times.
        std::thread::sleep(Duration::from_millis(10 + chance.below(LONGEST_LIFE_MS / 10)));
        village.server.kill9();
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() || said.contains("the same command goes on") || said.contains("connect"),
            "{said}"
        );
        village.server.restart();
        if output.status.success() {
            break;
        }
    }
    if !folder.path().join("many.result.csv").exists() {
        import(&village, &path, &[]).expect("it goes on");
    }
    assert_complete(&village, &folder.path().join("many.result.csv"), before, 30);
    // It is another file, or another server: not this journal's business.
    let (_other, other) = folder_with("other.csv", &many(3));
    std::fs::write(
        other.with_file_name("other.result.csv.part"),
        "{\"import\":{\"file\":\"x\",\"rows\":3,\"server\":\"y\"}}\n",
    )
    .expect("written");
    let error = import(&village, &other, &[]).expect_err("the journal of another");
    assert!(error.contains("another file"), "{error}");
}
