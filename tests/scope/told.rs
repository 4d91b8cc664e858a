//! What `_bulk_get` answers does not follow from what `_changes` told a moment before, although it is quicker after that.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::device::Device;
use super::world::{World, plain_settings};
use super::{Outcome, list, text};

const QUERIES: [&str; 3] = ["revs=true&latest=true", "latest=true", "revs=true&attachments=true"];

/// Documents and revisions that the feed tells from its beginning.
fn told(device: &Device) -> Outcome<Vec<Value>> {
    let answer = device.send("GET", "/_changes?style=all_docs", None, &[200])?.json();
    let leaves = |row: &Value| -> Vec<Value> {
        list(&row["changes"]).iter().map(|leaf| json!({"id": row["id"], "rev": leaf["rev"]})).collect()
    };
    Ok(list(&answer["results"]).iter().flat_map(leaves).collect())
}

/// What a device is answered that asks for all of this.
fn answers(device: &Device, asked: &[Value]) -> Outcome<Vec<String>> {
    let body = json!({"docs": asked});
    let ask = |query| device.send("POST", &format!("/_bulk_get?{query}"), Some(&body), &[200]);
    QUERIES.iter().map(|query| Ok(ask(query)?.text().to_owned())).collect()
}

/// Ids of which an answer shows a revision.
fn shown(answer: &str) -> Outcome<BTreeSet<String>> {
    let answer: Value = serde_json::from_str(answer).map_err(|error| error.to_string())?;
    let rows = list(&answer["results"]).iter().filter(|row| row["docs"][0]["ok"].is_object());
    Ok(rows.map(|row| text(row, "id").to_owned()).collect())
}

/// Everybody asks for everything that anybody was told, before and after a restart, of which the server knows nothing of
/// what it told; meanwhile documents are edited, deleted, forked and moved.
#[test]
fn what_was_told_before_changes_no_answer() -> Outcome<()> {
    let mut world = World::start();
    world.reset_accounts()?;
    let mut settings = plain_settings();
    settings["replication_depth"] = json!([{"role": "supervisor", "depth": 3, "report_depth": 1}]);
    let operator = world.database("medic", &settings)?;
    let visit = |id: &str, author: &str, patient: &str| {
        json!({"_id": id, "type": "data_record", "form": "visit", "contact": {"_id": author},
            "fields": {"patient_id": patient}})
    };
    let mut private = visit("visit-private", "per-chw1", "pat-2");
    private["fields"]["private"] = json!(true);
    let mut hidden = visit("visit-hidden", "per-sup", "per-chw1");
    hidden["fields"]["private"] = json!(true);
    let mut with_file = visit("visit-file", "per-chw1", "pat-1");
    with_file["_attachments"] = json!({"note": {"content_type": "text/plain", "data": "aGVsbG8="}});
    operator.put_all(&[
        visit("visit-1", "per-chw1", "pat-1"),
        visit("visit-2", "per-chw1", "pat-2"),
        visit("visit-3", "per-sup", "pat-1"),
        visit("visit-9", "per-chw2", "pat-9"),
        private,
        hidden,
        with_file,
    ])?;
    let mut devices = Vec::new();
    for account in ["chw1", "chw2", "sup", "hill", "officer"] {
        devices.push(world.device(account, "medic")?);
    }
    let mut asked = Vec::new();
    for device in devices.iter().rev() {
        asked.extend(told(device)?);
    }
    let (holder, neighbour) = (&devices[0], &devices[1]);
    let seen = shown(&answers(holder, &asked)?[0])?;
    assert!(seen.is_superset(&["visit-1", "visit-file", "visit-private", "pat-n"].map(str::to_owned).into()));
    assert!(!seen.contains("visit-hidden") && asked.iter().any(|row| text(row, "id") == "visit-hidden"));
    assert!(!shown(&answers(neighbour, &asked)?[0])?.contains("visit-1"), "the neighbour sees none of it");

    let mut edited = operator.get("visit-1")?.ok_or("visit-1 is not stored")?;
    edited["note"] = json!("edited");
    operator.put(&edited)?;
    operator.delete("visit-2")?;
    operator.move_place("pat-n", "hh-9")?;
    let mut fork = visit("visit-3", "per-sup", "pat-1");
    fork["_rev"] = json!("1-0123456789abcdef0123456789abcdef");
    operator.send("POST", "/_bulk_docs", Some(&json!({"new_edits": false, "docs": [fork]})), &[201])?;
    let after = answers(holder, &asked)?;
    assert!(after[0].contains("edited") && !shown(&after[0])?.contains("pat-n"));
    assert!(shown(&answers(neighbour, &asked)?[0])?.contains("pat-n"));

    for device in &devices {
        asked.extend(told(device)?);
    }
    let last_told_to_another: Outcome<Vec<_>> = devices.iter().map(|device| answers(device, &asked)).collect();
    let last_told_to_itself: Outcome<Vec<_>> = devices
        .iter()
        .map(|device| {
            told(device)?;
            answers(device, &asked)
        })
        .collect();
    world.server.restart();
    devices.iter_mut().for_each(|device| device.reconnect(world.server.anonymous()));
    let untold: Vec<_> = devices.iter().map(|device| answers(device, &asked)).collect::<Outcome<_>>()?;
    assert_eq!(last_told_to_another?, untold);
    assert_eq!(last_told_to_itself?, untold);
    Ok(())
}
