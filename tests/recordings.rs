//! What a real CouchDB answered, played against Settle: one test per topic folder of `tests/recordings/`.
//!
//! Every file is played, except those that need an ability Settle does not have and those in `EXCLUDED.toml`, which
//! states a reason for each. `SETTLE_RECORDING=part-of-a-path cargo test recordings -- --nocapture` plays just those.

#![expect(clippy::disallowed_methods, reason = "a name that no earlier run used")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::replay::{Conversation, play};
use crate::support::server::TestServer;

/// Abilities of CouchDB that Settle leaves out on purpose: conversations that need one are skipped.
const MISSING_ABILITIES: [&str; 3] = ["javascript", "mango", "replicator"];
/// Abilities that a conversation may need and Settle has.
const ABILITIES: [&str; 2] = ["node-api", "deterministic-revisions"];

macro_rules! topics {
    ($($name:ident $folder:literal;)*) => {
        const TOPICS: &[&str] = &[$($folder),*];
        $(#[test]
        fn $name() {
            play_topic($folder);
        })*
    };
}

topics! {
    access "access";
    all_docs "all-docs";
    attachments "attachments";
    bulk_docs "bulk-docs";
    bulk_get "bulk-get";
    changes "changes";
    clients "clients";
    cors "cors";
    databases "databases";
    documents "documents";
    http "http";
    local_docs "local-docs";
    maintenance "maintenance";
    mango "mango";
    odd_json "odd-json";
    replicator "replicator";
    rev_trees "rev-trees";
    revs_diff "revs-diff";
    server "server";
    sessions "sessions";
    users "users";
    validation "validation";
    views "views";
}

/// What is done with one file.
enum Plan {
    Play(Conversation),
    Skip,
}

#[test]
fn every_folder_is_a_topic_with_a_test() {
    let entries = std::fs::read_dir(folder()).expect("tests/recordings can be read").map_while(Result::ok);
    let found: BTreeSet<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, TOPICS.iter().map(|topic| topic.to_string()).collect());
}

#[test]
fn every_exclusion_has_a_reason_and_excludes_something() {
    for (path, reason) in exclusions() {
        let (file, step) = path.split_once('#').map_or((path.as_str(), None), |(file, step)| (file, Some(step)));
        let conversation = Conversation::load(&folder().join(file));
        let mut conversation = conversation.unwrap_or_else(|message| panic!("EXCLUDED.toml names {path}: {message}"));
        assert!(step.is_none_or(|step| conversation.leave_out(step)), "EXCLUDED.toml names {path}: no such step");
        assert!(!reason.trim().is_empty(), "EXCLUDED.toml gives no reason for {path}");
        let missing = missing_ability(&conversation);
        assert!(missing.is_none(), "{path} needs {missing:?} and is skipped without EXCLUDED.toml");
    }
}

#[test]
fn every_recording_names_only_known_abilities() {
    for file in TOPICS.iter().flat_map(|topic| files(topic)) {
        let conversation = Conversation::load(&file).unwrap_or_else(|message| panic!("{message}"));
        let known = |need: &String| MISSING_ABILITIES.contains(&need.as_str()) || ABILITIES.contains(&need.as_str());
        assert!(conversation.needs.iter().all(known), "{}: {:?}", file.display(), conversation.needs);
    }
}

/// Plays a folder in order on one server: first what can share it, then what changes its settings.
fn play_topic(topic: &str) {
    let excluded = exclusions();
    let plans: Vec<(String, Plan)> = files(topic).iter().map(|file| plan(file, &excluded)).collect();
    let skipped = plans.iter().filter(|(_, plan)| matches!(plan, Plan::Skip)).count();
    let mut played: Vec<(String, Conversation)> = plans
        .into_iter()
        .filter_map(|(path, plan)| match plan {
            Plan::Play(conversation) if is_wanted(&path) => Some((path, conversation)),
            Plan::Play(_) | Plan::Skip => None,
        })
        .collect();
    played.sort_by_key(|(_, conversation)| conversation.changes_settings());
    let failures = if played.is_empty() { Vec::new() } else { play_all(&played) };
    println!("{topic}: {} passed, {skipped} skipped", played.len() - failures.len());
    let count = failures.len();
    assert!(count == 0, "{topic}: {count} of {} conversations failed\n\n{}", played.len(), failures.join("\n"));
}

fn play_all(played: &[(String, Conversation)]) -> Vec<String> {
    let server = TestServer::start();
    let mut failures = Vec::new();
    for (index, (path, conversation)) in played.iter().enumerate() {
        if let Err(message) = play(conversation, server.address(), &fresh_tag(index)) {
            let (title, steps) = (&conversation.title, conversation.step_count());
            failures.push(format!("tests/recordings/{path} {title:?} ({steps} steps)\n{message}"));
        }
    }
    failures
}

fn plan(file: &Path, excluded: &BTreeMap<String, String>) -> (String, Plan) {
    let path = file.strip_prefix(folder()).expect("a file of that folder").to_string_lossy().into_owned();
    let mut conversation = Conversation::load(file).unwrap_or_else(|message| panic!("{message}"));
    for step in excluded.keys().filter_map(|key| key.strip_prefix(&path)?.strip_prefix('#')) {
        conversation.leave_out(step);
    }
    let skip = excluded.contains_key(&path) || missing_ability(&conversation).is_some();
    (path, if skip { Plan::Skip } else { Plan::Play(conversation) })
}

fn missing_ability(conversation: &Conversation) -> Option<&String> {
    conversation.needs.iter().find(|need| MISSING_ABILITIES.contains(&need.as_str()))
}

fn is_wanted(path: &str) -> bool {
    std::env::var("SETTLE_RECORDING").map_or(true, |part| path.contains(&part))
}

/// A word for the databases of one conversation, ten signs long like the recorder's. The index keeps those of one
/// server apart.
fn fresh_tag(index: usize) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("t{:06x}{index:03}", since.as_nanos() & 0xff_ffff)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings")
}

fn files(topic: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder().join(topic)).unwrap_or_else(|error| panic!("{topic}: {error}"));
    let mut files: Vec<PathBuf> = entries.map_while(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(!files.is_empty(), "tests/recordings/{topic} holds no recording");
    files
}

/// Path below `tests/recordings/`, or path`#`step → why the file, or only that step, is not played.
fn exclusions() -> BTreeMap<String, String> {
    let file = folder().join("EXCLUDED.toml");
    let text = std::fs::read_to_string(&file).expect("tests/recordings/EXCLUDED.toml can be read");
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
