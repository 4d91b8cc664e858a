//! Who reads what of the audit log, the export that proves itself, and what an account could see at a time.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{DATABASE, Shown, Stage, text, wait};
use crate::restore::drill::settle;
use crate::support::http::{Request, Response};
use crate::support::server::{ADMIN, ADMIN_PASSWORD};

fn get(stage: &Stage, cookie: &str, path: &str) -> Response {
    stage.send(&Shown::Cookie(cookie.to_owned()), &Request::new("GET", path))
}

fn entries(answer: Response) -> Vec<Value> {
    answer.expect(200).json()["entries"].as_array().cloned().expect("entries")
}

#[test]
fn an_auditor_reads_everything_about_people_and_nothing_else() {
    let stage = Stage::start();
    let auditor = stage.somebody("auditor", "auditor", &[]).cookie;
    let chw = stage.somebody("chw", "chw", &["area-a"]);
    for path in [
        "/_accounts",
        "/_accounts/chw",
        "/_accounts/chw/reach",
        "/_devices",
        &format!("/_devices/{}", chw.device),
        "/_grants",
        "/_audit",
        "/_audit/verify",
        "/_handover/lost_receipts",
        &format!("/{DATABASE}/_custody/area-a"),
    ] {
        get(&stage, &auditor, path).expect(200);
    }
    let listed = get(&stage, &auditor, "/_accounts").json();
    assert_eq!(listed["rows"].as_array().map(Vec::len), Some(2), "{listed}");
    for id in ["pat-a", "area-a", "settings", "form:visit", "_design/medic"] {
        assert_eq!(get(&stage, &auditor, &format!("/{DATABASE}/{id}")).status, 404, "{id}");
    }
    let rows = get(&stage, &auditor, &format!("/{DATABASE}/_all_docs")).expect(200).json();
    assert_eq!((&rows["total_rows"], rows["rows"].as_array().map(Vec::len)), (&json!(0), Some(0)), "{rows}");
    // Who held a place is told of places, not of whoever lives there.
    assert_eq!(get(&stage, &auditor, &format!("/{DATABASE}/_custody/pat-a")).status, 404);
    let head = stage.operator().get("/_audit?limit=1").json()["head"].clone();
    let send = |method: &str, path: &str, body: Value| {
        stage.send(&Shown::Cookie(auditor.clone()), &Request::new(method, path).json(&body)).status
    };
    for (method, path, status) in [
        ("POST", "/_accounts", 404),
        ("POST", "/_accounts/chw/disable", 404),
        ("DELETE", "/_accounts/chw", 404),
        ("POST", "/_accounts/chw/link", 404),
        ("POST", &format!("/_devices/{}/cut", chw.device), 404),
        ("POST", &format!("/{DATABASE}/_places/area-a/replace"), 404),
        ("PUT", &format!("/{DATABASE}/a-note"), 403),
        ("PUT", "/other", 401),
    ] {
        assert_eq!(send(method, path, json!({})), status, "{method} {path}");
    }
    let grant =
        json!({"to": "chw", "database": DATABASE, "place": "area-b", "reason": "x", "until": 9_999_999_999_u64});
    assert_eq!(send("POST", "/_grants", grant), 404);
    assert_eq!(stage.operator().get("/_audit?limit=1").json()["head"], head, "nothing was done");
}

#[test]
fn who_manages_accounts_reads_what_they_did_and_not_how_long_the_log_is() {
    let stage = Stage::start();
    let manager = stage.somebody("manager", "account_admin", &["area-a"]).cookie;
    stage.somebody("chw", "chw", &["area-a"]);
    assert!(entries(get(&stage, &manager, "/_audit?action=account,device.cut")).is_empty());
    let disable = Request::new("POST", "/_accounts/chw/disable").json(&json!({"reason": "on leave"}));
    stage.send(&Shown::Cookie(manager.clone()), &disable).expect(200);
    stage.operator().post("/_accounts/chw/enable", &json!({})).expect(200);
    let answer = get(&stage, &manager, "/_audit?by=admin");
    assert!(entries(answer).is_empty(), "what others did is not theirs to read");
    let page = get(&stage, &manager, "/_audit").expect(200).json();
    let actions: Vec<String> =
        entries(get(&stage, &manager, "/_audit?action=account")).iter().map(|entry| text(&entry["action"])).collect();
    assert_eq!(actions, ["account.epoch", "account.disable"]);
    assert_eq!((&page["head"], &page["next"]), (&Value::Null, &Value::Null), "{page}");
    assert_eq!(get(&stage, &manager, "/_audit/verify").status, 404);
    let export = Request::new("GET", "/_audit?action=account,audit").header("Accept", "application/x-ndjson");
    let export = stage.send(&Shown::Cookie(manager), &export).expect(200);
    assert!(export.header("x-settle-audit-head").is_none() && !export.text().contains("\"hash\""), "{}", export.text());
    assert_eq!(export.text().lines().count(), 3, "and the export itself");
}

#[test]
fn an_export_proves_itself_and_a_choice_of_it_too() {
    let stage = Stage::start();
    stage.somebody("chw", "chw", &["area-a"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let url = stage.server.url().replace("://", &format!("://{ADMIN}:{ADMIN_PASSWORD}@"));
    let (whole, chosen, altered) = (file("whole"), file("chosen"), file("altered"));
    let (success, said) = settle(&["audit", "export", "--url", &url, "--out", &whole]);
    assert!(success, "{said}");
    let (success, said) = settle(&["audit", "verify", "--export", &whole]);
    assert!(success && said.contains("the whole log"), "{said}");
    let head = said.lines().find_map(|line| line.strip_prefix("head ")).expect("a head").to_owned();
    let (success, said) = settle(&["audit", "verify", "--url", &url, "--head", &head]);
    assert!(success, "the head of the file is in the log: {said}");
    let (success, said) = settle(&["audit", "export", "--url", &url, "--out", &chosen, "--account", "chw"]);
    assert!(success, "{said}");
    let (success, said) = settle(&["audit", "verify", "--export", &chosen]);
    assert!(success && said.contains("a choice of the log"), "{said}");
    let text = fs::read_to_string(&whole).expect("the file");
    for (from, to) in [("account.create", "account.created"), ("\"by\":\"admin\"", "\"by\":\"other\"")] {
        fs::write(&altered, text.replacen(from, to, 1)).expect("written");
        let (success, said) = settle(&["audit", "verify", "--export", &altered]);
        assert!(!success && said.contains("not what was written"), "{said}");
    }
    let shorter: Vec<&str> = text.lines().filter(|line| !line.contains("account.create")).collect();
    fs::write(&altered, shorter.join("\n")).expect("written");
    let (success, said) = settle(&["audit", "verify", "--export", &altered]);
    assert!(!success && said.contains("it is missing"), "{said}");
    let cut: Vec<&str> = text.lines().take(3).collect();
    fs::write(&altered, cut.join("\n")).expect("written");
    let (success, said) = settle(&["audit", "verify", "--export", &altered, "--head", &head]);
    assert!(!success && said.contains("ends before"), "{said}");
}

#[test]
fn the_log_tells_what_an_account_could_see_at_any_time() {
    let stage = Stage::start();
    let admin = stage.operator();
    stage.somebody("bob", "chw", &["area-b"]);
    let now = || admin.get("/_accounts/eve/reach").expect(200).json()["at"].as_u64().expect("a time");
    let pause = || wait(Duration::from_millis(1_100));
    let login = stage.somebody("eve", "chw", &["area-a"]);
    let first = now();
    pause();
    let rules = json!({"settings": {"replication_depth": [{"role": "chw", "depth": 2, "report_depth": 1}],
        "permissions": {"can_edit": ["chw"]}}, "_rev": admin.get(&format!("/{DATABASE}/settings")).json()["_rev"]});
    admin.put(&format!("/{DATABASE}/settings"), &rules).expect(201);
    let grant = json!({"to": "eve", "database": DATABASE, "place": "area-b", "depth": 1, "reason": "two weeks",
        "until": now() + 3_600});
    let made = admin.post("/_grants", &grant).expect(201).json();
    let second = now();
    pause();
    admin.post(&format!("/_grants/{}/revoke", text(&made["grant"]["id"])), &json!({})).expect(200);
    admin.send(&Request::new("PATCH", "/_accounts/eve").json(&json!({"places": ["area-b"]}))).expect(200);
    let third = now();
    pause();
    admin.post("/_accounts/eve/cut", &json!({})).expect(200);
    let fourth = now();
    pause();
    admin.delete("/_accounts/eve").expect(200);
    let told = |at: u64| admin.get(&format!("/_accounts/eve/reach?at={at}")).expect(200).json();
    let at = told(first);
    assert_eq!((&at["state"], &at["roles"], &at["places"]), (&json!("active"), &json!(["chw"]), &json!(["area-a"])));
    let opened = json!([{"database": DATABASE, "scoped": true, "sees": "places", "depth": null, "report_depth": null,
        "primary_contacts": false, "unassigned": false, "may_edit": true}]);
    assert_eq!((&at["databases"], &at["grants"]), (&opened, &json!([])), "{at}");
    assert_eq!(at["devices"][0]["device"], json!(login.device));
    let at = told(second);
    assert_eq!((&at["databases"][0]["depth"], &at["databases"][0]["report_depth"]), (&json!(2), &json!(1)), "{at}");
    assert_eq!((&at["grants"][0]["place"], &at["grants"][0]["depth"]), (&json!("area-b"), &json!(1)), "{at}");
    let at = told(third);
    assert_eq!((&at["places"], &at["grants"]), (&json!(["area-b"]), &json!([])), "{at}");
    let at = told(fourth);
    assert_eq!((&at["state"], &at["databases"][0]["sees"]), (&json!("disabled"), &json!("nothing")), "{at}");
    assert_eq!(at["devices"][0]["state"], "cut");
    let at = admin.get("/_accounts/eve/reach").expect(200).json();
    assert_eq!((&at["exists"], &at["state"], &at["roles"]), (&json!(false), &Value::Null, &json!([])), "{at}");
    let actions: Vec<String> = at["changes"].as_array().into_iter().flatten().map(|row| text(&row["action"])).collect();
    for action in ["account.create", "grant.make", "grant.revoke", "account.change", "account.epoch", "account.delete"]
    {
        assert!(actions.contains(&action.to_owned()), "{action}: {actions:?}");
    }
    assert_eq!(told(first - 60)["exists"], false, "before it was made");
    assert_eq!(admin.get("/_accounts/nobody/reach").status, 404);
    assert_eq!(admin.get("/_accounts/eve/reach?at=9999999999").status, 400);
    assert_eq!(admin.get("/_accounts/eve/reach?at=x").status, 400);
}

#[test]
fn who_manages_a_place_is_told_of_its_accounts_and_its_places_only() {
    let stage = Stage::start();
    let manager = stage.somebody("manager", "account_admin", &["area-a"]).cookie;
    stage.somebody("eve", "chw", &["area-b"]);
    assert_eq!(get(&stage, &manager, "/_accounts/eve/reach").status, 404);
    let moved = Request::new("PATCH", "/_accounts/eve").json(&json!({"places": ["area-a"]}));
    stage.operator().send(&moved).expect(200);
    let told = get(&stage, &manager, "/_accounts/eve/reach").expect(200);
    assert!(!told.text().contains("area-b"), "{}", told.text());
    assert_eq!(told.json()["places"], json!(["area-a"]));
    stage.somebody("other", "steward", &["area-a"]);
    assert_eq!(get(&stage, &manager, "/_accounts/eve").status, 200);
    let cut = Request::new("POST", "/_accounts/other/cut").json(&json!({}));
    assert_eq!(stage.send(&Shown::Cookie(manager.clone()), &cut).status, 404, "a steward is not theirs to end");
}

#[test]
fn roles_are_given_by_those_who_have_them() {
    let stage = Stage::start();
    let of_place = stage.somebody("manager", "account_admin", &["area-a"]).cookie;
    let of_all = stage.somebody("overseer", "account_admin", &[]).cookie;
    let both = json!({"name": "both", "roles": ["account_admin", "auditor"], "places": ["area-a"]});
    let link = text(&stage.operator().post("/_accounts", &both).expect(201).json()["link"]["token"]);
    let both = stage.log_in(&link, "phone-of-both").cookie;
    let mut number = 0;
    let mut make = |cookie: &str, roles: &[&str], places: &[&str]| {
        number += 1;
        let body = json!({"name": format!("made-{number}"), "roles": roles, "places": places});
        stage.send(&Shown::Cookie(cookie.to_owned()), &Request::new("POST", "/_accounts").json(&body)).status
    };
    let here: &[&str] = &["area-a"];
    for (cookie, roles, places, status) in [
        (&of_place, &["chw"][..], here, 201),
        (&of_place, &["account_admin"], here, 201),
        (&of_place, &["account_admin"], &[], 403),
        (&of_place, &["chw", "auditor"], here, 403),
        (&of_place, &["steward"], here, 403),
        (&of_place, &["chw"], &["area-b"], 404),
        (&of_all, &["account_admin"], &[], 201),
        (&of_all, &["auditor"], &[], 403),
        (&of_all, &["steward"], &[], 403),
        (&both, &["auditor"], here, 201),
        (&both, &["steward"], here, 403),
    ] {
        assert_eq!(make(cookie, roles, places), status, "{roles:?} {places:?}");
    }
    let change = Request::new("PATCH", "/_accounts/manager").json(&json!({"roles": ["account_admin", "auditor"]}));
    assert_eq!(stage.send(&Shown::Cookie(of_place.clone()), &change).status, 403, "nor to oneself");
    let widen = Request::new("PATCH", "/_accounts/manager").json(&json!({"places": []}));
    assert_eq!(stage.send(&Shown::Cookie(of_place), &widen).status, 403, "nor all places");
    let steward = stage.somebody("boss", "steward", here);
    for path in ["/_accounts/boss/disable".to_owned(), format!("/_devices/{}/cut", steward.device)] {
        let end = Request::new("POST", &path).json(&json!({}));
        assert_eq!(stage.send(&Shown::Cookie(of_all.clone()), &end).status, 404, "{path}");
    }
    // Nobody is lent a place who only manages: that would be a way to read.
    let grant =
        json!({"to": "manager", "database": DATABASE, "place": "area-a", "reason": "x", "until": 9_999_999_999_u64});
    assert_eq!(stage.operator().post("/_grants", &grant).status, 400);
}
