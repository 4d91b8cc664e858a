//! Feed tokens and checkpoints across restores: what was written after the backup is never skipped.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::drill::{AREA, Drill, NOTES, Session};
use crate::support::chance::Chance;
use crate::support::http::{Client, Request};

/// A client that pulls by token, and the revisions it ever heard of.
#[derive(Default)]
struct Reader {
    since: Option<String>,
    heard: BTreeSet<(String, String)>,
}

impl Reader {
    /// Pulls a page; gives the number of rows.
    fn pull(&mut self, client: &Client, database: &str, session: Option<&Session>, limit: u64) -> usize {
        let since = self.since.as_deref().unwrap_or("0");
        let request = Request::new("GET", &format!("/{database}/_changes?style=all_docs&limit={limit}&since={since}"));
        let request = match session {
            Some(session) => request.header("Cookie", &session.cookie),
            None => request,
        };
        let page = client.send(&request).expect(200).json();
        self.since = page["last_seq"].as_str().map(str::to_owned);
        let rows = page["results"].as_array().expect("rows");
        for row in rows {
            for change in row["changes"].as_array().expect("changes") {
                let text = |value: &Value| value.as_str().expect("text").to_owned();
                self.heard.insert((text(&row["id"]), text(&change["rev"])));
            }
        }
        rows.len()
    }
}

fn present(client: &Client, database: &str) -> BTreeMap<String, String> {
    let rows = client.get(&format!("/{database}/_all_docs")).expect(200).json();
    let rows = rows["rows"].as_array().expect("rows").clone();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    rows.iter().map(|row| (text(&row["id"]), text(&row["value"]["rev"]))).collect()
}

#[test]
fn no_token_skips_what_was_written_after_any_restore() {
    let mut chance = Chance::of_law(704);
    let mut drill = Drill::start();
    let mut backups = vec![drill.backup()];
    let mut readers: Vec<Reader> = (0..3).map(|_| Reader::default()).collect();
    let (mut restores, mut steps) = (0, 0);
    while restores < 6 {
        steps += 1;
        let admin = drill.server.admin();
        match chance.below(20) {
            0..10 => {
                let path = format!("/{NOTES}/d{}", chance.below(5));
                let known = admin.get(&path);
                let rev = (known.status == 200).then(|| known.json()["_rev"].clone());
                let document = rev.map_or(json!({"n": steps}), |rev| json!({"n": steps, "_rev": rev}));
                admin.put(&path, &document).expect(201);
            }
            10..16 => {
                let limit = 1 + chance.below(4);
                let reader = usize::try_from(chance.below(3)).expect("an index");
                readers[reader].pull(&admin, NOTES, None, limit);
            }
            16..18 => backups.push(drill.backup()),
            _ => {
                restores += 1;
                let backup = chance.pick(&backups).expect("a backup").clone();
                drill.restore(&backup);
                drill.server.restart();
            }
        }
    }
    let admin = drill.server.admin();
    for reader in &mut readers {
        while reader.pull(&admin, NOTES, None, 100) > 0 {}
        for document in present(&admin, NOTES) {
            assert!(reader.heard.contains(&document), "{document:?} was skipped");
        }
    }
    assert!(!drill.audit("store.restored").is_empty());
}

#[test]
fn a_client_that_knows_more_than_the_backup_is_told_only_what_is_new() {
    let mut drill = Drill::start();
    let admin = drill.server.admin();
    for number in 0..10 {
        admin.put(&format!("/{NOTES}/before-{number}"), &json!({})).expect(201);
    }
    let backup = drill.backup();
    let mut early = Reader::default();
    early.pull(&admin, NOTES, None, 4);
    admin.put(&format!("/{NOTES}/lost"), &json!({})).expect(201);
    let mut late = Reader::default();
    while late.pull(&admin, NOTES, None, 100) > 0 {}
    drill.restore(&backup);
    drill.server.restart();
    let admin = drill.server.admin();
    for number in 0..3 {
        admin.put(&format!("/{NOTES}/after-{number}"), &json!({})).expect(201);
    }
    assert_eq!(late.pull(&admin, NOTES, None, 100), 3, "it had reached the end: from the end of what is common");
    // It had read four of ten: what it had not reached may stand anywhere now, so it begins again.
    assert_eq!(early.pull(&admin, NOTES, None, 100), 10 + 3);
    assert_eq!(early.pull(&admin, NOTES, None, 100), 0);
}

#[test]
fn a_restricted_client_drops_nothing_that_is_in_its_area_again() {
    let mut drill = Drill::start();
    let admin = drill.server.admin();
    let area = json!({"type": "health_center", "parent": {"_id": "place"}});
    for id in ["here", "there"] {
        admin.put(&format!("/{AREA}/{id}"), &area).expect(201);
    }
    let household = json!({"type": "clinic", "parent": {"_id": "here", "parent": {"_id": "place"}}});
    admin.put(&format!("/{AREA}/household"), &household).expect(201);
    let id = "org.couchdb.user:ann";
    let user = json!({"_id": id, "name": "ann", "type": "user", "roles": ["chw"], "password": "pass-of-ann",
        "facility_id": "here", "contact_id": "person-ann"});
    admin.put(&format!("/_users/{id}"), &user).expect(201);
    let phone = drill.log_in("ann", Some("phone-of-ann"));
    let backup = drill.backup();
    // Moved away after the backup: the phone is told, and drops it.
    admin.post(&format!("/{AREA}/_places/household/move"), &json!({"to": "there"})).expect(200);
    let mut reader = Reader::default();
    while reader.pull(&drill.server.anonymous(), AREA, Some(&phone), 100) > 0 {}
    reader.heard.retain(|(id, _)| id != "household");
    drill.restore(&backup);
    drill.server.restart();
    // The log grows beyond the phone's position before it comes again.
    for number in 0..20 {
        drill.server.admin().put(&format!("/{AREA}/other-{number}"), &area).expect(201);
    }
    while reader.pull(&drill.server.anonymous(), AREA, Some(&phone), 100) > 0 {}
    assert!(reader.heard.iter().any(|(id, _)| id == "household"), "it is in the area again and must be told");
}

#[test]
fn checkpoints_of_pushes_are_dropped_and_those_of_pulls_stay() {
    let mut drill = Drill::start();
    let admin = drill.server.admin();
    let token = admin.get(&format!("/{NOTES}")).expect(200).json()["update_seq"].clone();
    let checkpoint = |last: Value| {
        json!({"session_id": "s", "history": [{"session_id": "s", "last_seq": last}], "last_seq": last, "version": 1,
            "replicator": "pouchdb"})
    };
    let path = |id: &str| format!("/{NOTES}/_local/{id}");
    admin.put(&path("pull"), &checkpoint(token)).expect(201);
    admin.put(&path("push"), &checkpoint(json!(17))).expect(201);
    admin.put(&path("of-another-server"), &checkpoint(json!("17-g1AAAA"))).expect(201);
    admin.put(&path("of-the-app"), &json!({"colour": "red"})).expect(201);
    let backup = drill.backup();
    drill.restore(&backup);
    drill.server.restart();
    let admin = drill.server.admin();
    for (id, status) in [("pull", 200), ("push", 404), ("of-another-server", 404), ("of-the-app", 200)] {
        assert_eq!(admin.get(&path(id)).status, status, "{id}");
    }
    // One look for "push" was made above: a replication that ran through the restore looks just so often.
    let refused = admin.put(&path("push"), &checkpoint(json!(20)));
    assert!(refused.status == 503 && refused.text().contains("begin again"), "{}", refused.text());
    admin.get(&path("push")).expect(404);
    admin.put(&path("push"), &checkpoint(json!(20))).expect(201);
    admin.put(&path("push"), &checkpoint(json!(21))).expect(201);
    admin.put(&path("new-of-the-app"), &json!({"colour": "blue"})).expect(201);
}

#[test]
fn what_moved_out_of_a_readers_way_after_the_backup_is_not_skipped() {
    let mut drill = Drill::start();
    let admin = drill.server.admin();
    for id in ["one", "two"] {
        admin.put(&format!("/{NOTES}/{id}"), &json!({})).expect(201);
    }
    let backup = drill.backup();
    // "one" moves behind "two"; the reader comes as far as "two" and never hears of "one".
    let rev = admin.get(&format!("/{NOTES}/one")).expect(200).json()["_rev"].clone();
    admin.put(&format!("/{NOTES}/one"), &json!({"_rev": rev})).expect(201);
    let mut reader = Reader::default();
    assert_eq!(reader.pull(&admin, NOTES, None, 1), 1);
    assert!(reader.heard.iter().all(|(id, _)| id == "two"));
    drill.restore(&backup);
    drill.server.restart();
    let admin = drill.server.admin();
    while reader.pull(&admin, NOTES, None, 100) > 0 {}
    assert!(reader.heard.iter().any(|(id, _)| id == "one"), "it stands before the reader's position now");
}
