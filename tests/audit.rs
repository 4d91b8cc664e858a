//! The audit log: what it knows, who reads it, and how it is checked.

use serde_json::{Value, json};

use crate::restore::drill::{AREA, Drill, NOTES, settle, shown};
use crate::support::http::Request;

fn entries(page: &Value) -> Vec<Value> {
    page["entries"].as_array().cloned().expect("entries")
}

#[test]
fn what_is_done_to_the_server_is_told_without_what_must_stay_secret() {
    let drill = Drill::start();
    let admin = drill.server.admin();
    drill.account("ann");
    drill.server.set_config("couch_httpd_auth/secret", "never-to-be-told");
    admin.put("/extra", &json!({})).expect(201);
    admin.put("/extra/patient-17", &json!({"diagnosis": "never-to-be-told"})).expect(201);
    admin.put("/extra/_revs_limit", &json!(50)).expect(200);
    let rev = admin.get("/extra/patient-17").expect(200).json()["_rev"].clone();
    admin.post("/extra/_purge", &json!({"patient-17": [rev]})).expect(201);
    admin.delete("/extra").expect(200);
    admin.put(&format!("/{AREA}/a"), &json!({"type": "health_center", "parent": {"_id": "place"}})).expect(201);
    admin.put(&format!("/{AREA}/b"), &json!({"type": "clinic", "parent": {"_id": "place"}})).expect(201);
    admin.post(&format!("/{AREA}/_places/b/move"), &json!({"to": "a", "reason": "asked by the district"})).expect(200);
    let phone = drill.log_in("ann", Some("phone-of-ann"));
    phone.push(&drill, "_design/evil");
    let held = admin.get(&format!("/{AREA}/_escrow")).expect(200).json();
    let number = held["rows"][0]["number"].as_u64().expect("something is held");
    admin.post(&format!("/{AREA}/_escrow/{number}/discard"), &json!({})).expect(200);
    admin.post("/_backup", &json!({})).expect(201);
    let all = entries(&admin.get("/_audit?limit=1000").expect(200).json());
    let find = |action: &str| {
        all.iter().rev().find(|entry| entry["action"] == action).unwrap_or_else(|| panic!("{action}: {all:#?}"))
    };
    for (action, member, value) in [
        ("database.create", "database", json!("extra")),
        ("database.limit", "database", json!("extra")),
        ("database.purge", "database", json!("extra")),
        ("database.delete", "database", json!("extra")),
        ("database.security", "database", json!(NOTES)),
        ("config.set", "by", json!("admin")),
        ("place.move", "place", json!("b")),
        ("place.move", "reason", json!("asked by the district")),
        ("escrow.discard", "account", json!("ann")),
        ("store.backup", "by", json!("admin")),
        ("account.create", "account", json!("ann")),
        ("login", "account", json!("ann")),
    ] {
        assert_eq!(find(action)[member], value, "{action}");
    }
    assert_eq!(find("config.set")["details"], json!({"section": "couch_httpd_auth", "key": "secret"}));
    let text = json!(all).to_string();
    for secret in ["never-to-be-told", "patient-17", "pass-of-ann", "argon2"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn an_operator_who_reads_a_scoped_database_is_noted_once_an_hour_and_then_counted() {
    let mut drill = Drill::start();
    let admin = drill.server.admin();
    drill.account("ann");
    let noted = || drill.audit("database.read").len();
    assert_eq!(noted(), 0);
    admin.get(&format!("/{NOTES}/_all_docs")).expect(200);
    drill.log_in("ann", None).pull(&drill);
    assert_eq!(noted(), 0, "neither a plain database nor the own area of an account");
    for path in ["_all_docs", "place", "_changes", "_escrow"] {
        admin.get(&format!("/{AREA}/{path}")).expect(200);
        assert_eq!(noted(), 1, "{path}");
    }
    assert_eq!(drill.audit("database.read")[0]["by"], "admin");
    drill.server.restart();
    let counted = drill.audit("database.reads");
    let requests = json!({"Changes": 1, "ListEscrow": 1, "ReadDocument": 1});
    assert_eq!((counted.len(), &counted[0]["details"]["requests"]), (1, &requests), "those that followed: {counted:?}");
}

#[test]
fn the_log_is_filtered_paged_and_exported() {
    let drill = Drill::start();
    let admin = drill.server.admin();
    for name in ["ann", "ben"] {
        drill.account(name);
    }
    let phone = drill.log_in("ann", Some("phone-of-ann"));
    let device = drill.device(&phone);
    admin.post(&format!("/_devices/{device}/cut"), &json!({"reason": "lost"})).expect(200);
    let ask = |query: &str| entries(&admin.get(&format!("/_audit?{query}")).expect(200).json());
    assert_eq!(ask("action=device.cut").len(), 1);
    assert_eq!(ask("action=device").len(), 2, "the first half: enrol and cut");
    assert!(ask("account=ben").iter().all(|entry| entry["account"] == "ben"));
    assert_eq!(ask(&format!("device={device}&by=admin&account=ann")).len(), 1);
    assert_eq!(ask(&format!("database={AREA}&action=database.create")).len(), 1);
    let time = ask("action=device.cut")[0]["time"].as_u64().expect("a time");
    assert_eq!(ask(&format!("action=device.cut&from={time}&to={time}")).len(), 1);
    assert!(ask(&format!("from={}", time + 1000)).is_empty());
    assert!(ask("to=5").is_empty());
    assert_eq!(admin.get("/_audit?from=x").status, 400);
    let (mut since, mut numbers) = (0, Vec::new());
    loop {
        let page = admin.get(&format!("/_audit?limit=3&since={since}")).expect(200).json();
        numbers.extend(entries(&page).iter().map(|entry| entry["number"].as_u64().expect("a number")));
        match page["next"].as_u64() {
            Some(next) => since = next,
            None => break,
        }
    }
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    let exported = admin.send(&Request::new("GET", "/_audit").header("Accept", "application/x-ndjson")).expect(200);
    let lines: Vec<Value> = exported.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), numbers.len() + 1, "with the entry about the export itself");
    assert_eq!(lines.last().expect("a line")["action"], "audit.export");
    assert_eq!(drill.server.client_as("ben", "pass-of-ben").get("/_audit").status, 404);
    assert_eq!(drill.server.anonymous().get("/_audit").status, 404);
}

#[test]
fn the_command_checks_a_running_and_a_stopped_server_against_a_kept_head() {
    let mut drill = Drill::start();
    let head_of = |text: &str| text.lines().find_map(|line| line.strip_prefix("head ")).expect("a head").to_owned();
    let (success, said) = settle(&["audit", "verify", "--url", &drill.url()]);
    assert!(success, "{said}");
    let head = head_of(&said);
    drill.account("ann");
    let (success, said) = settle(&["audit", "verify", "--url", &drill.url(), "--head", &head]);
    assert!(success && head_of(&said) != head, "{said}");
    let (number, hash) = head.split_once(':').expect("a head");
    let forged = format!("{number}:{}{}", if hash.starts_with('0') { "1" } else { "0" }, &hash[1..]);
    let (success, said) = settle(&["audit", "verify", "--url", &drill.url(), "--head", &forged]);
    assert!(!success && said.contains(&format!("entry {number}:")), "{said}");
    let (success, said) = settle(&["audit", "tail", "--url", &drill.url(), "-n", "1"]);
    assert!(success && said.contains("account.create by admin, account ann"), "{said}");
    let data = shown(&drill.data());
    let (success, said) = settle(&["audit", "verify", "--data", &data]);
    assert!(!success && said.contains("--url"), "{said}");
    drill.server.stop();
    let (success, said) = settle(&["audit", "verify", "--data", &data, "--head", &head]);
    assert!(success, "{said}");
    let (success, said) = settle(&["audit", "verify", "--data", &data, "--head", &forged]);
    assert!(!success && said.contains(&format!("entry {number}:")), "{said}");
    let (success, said) = settle(&["audit", "tail", "--data", &data, "-n", "2", "--json"]);
    assert!(success && said.lines().count() == 2, "{said}");
}
