//! Last week's backup does not bring back what was withdrawn since.

use serde_json::json;

use super::drill::{AREA, Drill, password, settle, shown};

#[test]
fn whatever_was_withdrawn_after_the_backup_stays_withdrawn() {
    let mut drill = Drill::start();
    for name in ["cut", "changed", "retired", "disabled", "out", "one", "active"] {
        drill.account(name);
    }
    let cut = drill.log_in("cut", Some("phone-of-cut"));
    let changed = drill.log_in("changed", Some("phone-of-changed"));
    let retired = drill.log_in("retired", Some("phone-of-retired"));
    let disabled = drill.log_in("disabled", Some("phone-of-disabled"));
    let out = drill.log_in("out", Some("phone-of-out"));
    let one = drill.log_in("one", Some("phone-of-one"));
    let active = drill.log_in("active", Some("phone-of-active"));
    for session in [&cut, &changed, &retired, &disabled, &out, &one, &active] {
        assert_eq!(session.pull(&drill).0, 200);
    }
    let backup = drill.backup();

    let admin = drill.server.admin();
    admin.post("/_accounts/cut/cut", &json!({"reason": "lost"})).expect(200);
    admin.post("/_accounts/changed/password", &json!({"password": "another-one-7"})).expect(200);
    admin.post("/_accounts/retired/retire", &json!({})).expect(200);
    admin.post("/_accounts/disabled/disable", &json!({})).expect(200);
    admin.post(&format!("/_devices/{}/retire", drill.device(&one)), &json!({})).expect(200);
    out.send(&drill.server.anonymous(), "DELETE", "/_session", None).expect(200);

    let said = drill.restore(&backup);
    assert!(said.contains("withdrawn again"), "{said}");
    drill.server.restart();
    assert_eq!(cut.pull(&drill), (401, "cut".into()));
    assert_eq!(cut.push(&drill, "late-1"), (401, "cut".into()));
    for (number, session) in [&changed, &retired, &disabled, &one].into_iter().enumerate() {
        assert_eq!(session.pull(&drill), (403, "draining".into()), "{number}");
        assert_eq!(session.push(&drill, &format!("late-of-{number}")).0, 201, "{number}: what it holds can still come");
    }
    assert_eq!(out.pull(&drill).0, 401, "a session that was logged out does not come back");
    assert_eq!(active.pull(&drill).0, 200, "nobody else is bothered");
    let log_in = |name: &str, password: &str| {
        let body = json!({"name": name, "password": password});
        drill.server.anonymous().post("/_session", &body).status
    };
    assert_eq!(log_in("active", &password("active")), 200);
    let basic = drill.server.client_as("changed", &password("changed"));
    assert_eq!(basic.get(&format!("/{AREA}/_all_docs")).status, 403, "the old password reads nothing");

    let restored = drill.audit("store.restored");
    assert_eq!(restored.len(), 1);
    let details = &restored[0]["details"];
    assert_eq!(details["without_password"], json!(["changed"]));
    assert_eq!(details["accounts"], json!(["changed", "cut", "disabled", "retired"]));
    let (success, text) = settle(&["audit", "verify", "--url", &drill.url()]);
    assert!(success && text.contains("head "), "{text}");
}

#[test]
fn the_old_password_does_not_come_back_with_an_edit_of_the_account() {
    let mut drill = Drill::start();
    drill.account("ann");
    let phone = drill.log_in("ann", Some("phone-of-ann"));
    let backup = drill.backup();
    drill.server.admin().post("/_accounts/ann/password", &json!({"password": "another-one-7"})).expect(200);
    drill.restore(&backup);
    drill.server.restart();
    // An operator who knows nothing of it changes the document that was restored.
    let admin = drill.server.admin();
    let path = "/_users/org.couchdb.user:ann";
    let mut user = admin.get(path).expect(200).json();
    user["roles"] = json!(["chw", "helper"]);
    admin.put(path, &user).expect(201);
    let basic = drill.server.client_as("ann", &password("ann"));
    assert_eq!(basic.get(&format!("/{AREA}/_all_docs")).status, 403);
    assert_eq!(phone.pull(&drill), (403, "draining".into()));
    admin.post("/_accounts/ann/password", &json!({"password": "a-third-one-9"})).expect(200);
    let basic = drill.server.client_as("ann", "a-third-one-9");
    basic.get(&format!("/{AREA}/_all_docs")).expect(200);
    assert_eq!(phone.pull(&drill).0, 403, "an old session stays old");
}

#[test]
fn nothing_is_given_out_while_the_ledger_is_gone_until_somebody_confirms() {
    for broken in [false, true] {
        let mut drill = Drill::start();
        drill.account("ann");
        let phone = drill.log_in("ann", Some("phone-of-ann"));
        let backup = drill.backup();
        drill.server.admin().post("/_accounts/ann/disable", &json!({})).expect(200);
        let said = {
            drill.server.stop();
            match broken {
                false => std::fs::remove_file(drill.ledger()).expect("removed"),
                true => {
                    let text = std::fs::read_to_string(drill.ledger()).expect("read");
                    std::fs::write(drill.ledger(), text.replacen("begun", "bogun", 1)).expect("written");
                }
            }
            std::fs::remove_dir_all(drill.data()).expect("removed");
            settle(&["restore", &shown(&backup), "--to", &shown(&drill.data())]).1
        };
        assert!(said.contains("--confirm"), "{said}");
        drill.server.restart();
        for _ in 0..2 {
            let (status, reason) = phone.pull(&drill);
            assert!(status == 503 && reason.contains("confirm_restore"), "{status} {reason}");
            let edits = phone.send(&drill.server.anonymous(), "PUT", &format!("/{AREA}/edit"), Some(&json!({})));
            assert_eq!(edits.status, 503, "an edit is no push");
            let interactive = json!({"docs": [{"_id": "x"}]});
            let path = format!("/{AREA}/_bulk_docs");
            assert_eq!(phone.send(&drill.server.anonymous(), "POST", &path, Some(&interactive)).status, 503);
            assert_eq!(phone.push(&drill, "sent-while-waiting").0, 201, "pushes go on");
            let admin = drill.server.admin();
            admin.get(&format!("/{AREA}/_all_docs")).expect(200);
            assert_eq!(admin.get("/_up").expect(200).json()["ledger"], "unconfirmed");
            assert!(admin.get("/_metrics").text().contains("settle_restore_unconfirmed 1"));
            drill.server.restart(); // a restart confirms nothing
        }
        let (success, said) = settle(&["restore", "--confirm", "--url", &drill.url(), "--reason", "the disk is lost"]);
        assert!(success && said.contains("confirmed"), "{said}");
        assert_eq!(phone.pull(&drill).0, 200, "the disabling is not known any more: that is what was confirmed");
        assert_eq!(drill.audit("store.restore_confirmed")[0]["reason"], "the disk is lost");
        drill.server.restart();
        assert_eq!(phone.pull(&drill).0, 200);
        assert!(drill.ledger_lines().len() > 1, "a new ledger goes on");
        assert!(drill.server.admin().get("/_up").expect(200).json().get("ledger").is_none());
    }
}

#[test]
fn only_operators_confirm_and_only_what_waits() {
    let drill = Drill::start();
    drill.account("ann");
    let path = "/_handover/confirm_restore";
    assert_eq!(drill.server.client_as("ann", &password("ann")).post(path, &json!({})).status, 401);
    assert_eq!(drill.server.admin().post(path, &json!({})).expect(200).json()["changed"], json!(false));
}

#[test]
fn a_grant_that_was_revoked_after_the_backup_gives_nothing_again() {
    let mut drill = Drill::start();
    let admin = drill.server.admin();
    for id in ["mine", "yours"] {
        let area = json!({"type": "health_center", "parent": {"_id": "place"}});
        admin.put(&format!("/{AREA}/{id}"), &area).expect(201);
    }
    let id = "org.couchdb.user:ann";
    let user = json!({"_id": id, "name": "ann", "type": "user", "roles": ["chw"], "password": password("ann"),
        "facility_id": "mine", "contact_id": "person-ann"});
    admin.put(&format!("/_users/{id}"), &user).expect(201);
    let phone = drill.log_in("ann", Some("phone-of-ann"));
    let sees = |drill: &Drill| {
        let path = format!("/{AREA}/yours");
        phone.send(&drill.server.anonymous(), "GET", &path, None).status
    };
    let until = drill.audit("login")[0]["time"].as_u64().expect("a time") + 86_400;
    let grant = json!({"to": "ann", "database": AREA, "place": "yours", "until": until, "reason": "holidays"});
    let made = admin.post("/_grants", &grant);
    assert!(made.status == 200 || made.status == 201, "{}", made.text());
    let made = made.json();
    assert_eq!(sees(&drill), 200);
    let backup = drill.backup();
    let number = made["grant"]["id"].as_str().unwrap_or_else(|| panic!("{made}"));
    admin.post(&format!("/_grants/{number}/revoke"), &json!({})).expect(200);
    assert_eq!(sees(&drill), 404);
    drill.restore(&backup);
    drill.server.restart();
    assert_eq!(sees(&drill), 404);
}
