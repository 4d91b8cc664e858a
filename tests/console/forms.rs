//! Every form about accounts, lent places and held back work: refused without the token of its page, done with it.

use serde_json::{Value, json};

use super::{Browser, EVIL, PASSWORD, Phone, district, escaped, fill, whole};
use crate::support::server::TestServer;

fn account(server: &TestServer, name: &str) -> Value {
    server.admin().get(&format!("/_accounts/{name}")).expect(200).json()
}

/// Where a form led.
fn led_to(answer: &crate::support::http::Response) -> &str {
    let to = answer.header("location").unwrap_or_default();
    to.split_once("/_console").map_or("", |(_, page)| page)
}

#[test]
fn an_account_is_made_changed_closed_opened_and_gets_a_link() {
    let server = district(false);
    let mut boss = Browser::logged_in(&server, "boss", PASSWORD);
    boss.get("/accounts/new").expect(200);
    let fields = [
        ("name", "bea"),
        ("fullname", EVIL),
        ("phone", "+256 1"),
        ("roles", "chw"),
        ("places", "area-1"),
        ("new_person", "true"),
    ];
    let made = whole(&boss.post_checked("/accounts/new", &fields));
    assert!(made.contains("_links") && made.contains("aria-label=\"QR code of the link\""), "{made}");
    let bea = account(&server, "bea");
    assert_eq!((&bea["fullname"], &bea["places"], &bea["password"]), (&json!(EVIL), &json!(["area-1"]), &json!(false)));
    assert!(bea["contact"].is_string(), "a person was made: {bea}");
    // A second one of this name, and one with a role that boss lacks, are refused with what was typed.
    for wrong in [
        fields,
        [("name", "eve"), ("fullname", "E"), ("phone", ""), ("roles", "steward"), ("places", "area-1"), ("x", "")],
    ] {
        let refused = boss.post("/accounts/new", &wrong);
        assert!(refused.status >= 400 && refused.text().contains("Not done"), "{}", refused.text());
    }
    server.admin().get("/_accounts/eve").expect(404);

    boss.get("/accounts/bea/change").expect(200);
    let fields = [("fullname", "Bea B"), ("roles", "chw"), ("places", "area-1")];
    assert_eq!(led_to(&boss.post_checked("/accounts/bea/change", &fields).expect(303)), "/accounts/bea?done=account");
    let bea = account(&server, "bea");
    assert_eq!((&bea["fullname"], &bea["phone"], &bea["contact"]), (&json!("Bea B"), &Value::Null, &Value::Null));

    let why = [("reason", "on leave")];
    boss.get("/accounts/bea").expect(200);
    assert!(boss.post("/accounts/bea/disable", &[]).text().contains("Not done"), "a reason is needed");
    assert_eq!(account(&server, "bea")["state"], "active");
    for (act, state) in [("disable", "disabled"), ("enable", "active")] {
        boss.get("/accounts/bea").expect(200);
        let done = boss.post_checked(&format!("/accounts/bea/{act}"), &why).expect(303);
        assert_eq!(led_to(&done), format!("/accounts/bea?done={act}"));
        assert_eq!(account(&server, "bea")["state"], state);
    }
    boss.get("/accounts/bea").expect(200);
    let link = whole(&boss.post_checked("/accounts/bea/link", &why));
    let link = link.replace("&#x2f;", "/");
    let path = link.split("/_links/").nth(1).and_then(|rest| rest.split('<').next()).expect("a link").to_owned();
    let redeemed = json!({"link": path, "device": {"id": "bea-phone"}});
    let login = crate::support::http::Request::new("POST", "/_session").json(&redeemed);
    server.anonymous().send(&login).expect(200);
    boss.get("/accounts/bea/retire").expect(200);
    boss.post_checked("/accounts/bea/retire", &[("reason", "left"), ("sure", "true")]).expect(303);
    assert_eq!(account(&server, "bea")["state"], "retired");
}

#[test]
fn a_link_is_sent_or_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("links.ndjson");
    let config = format!("[outbox]\ngateway = \"file\"\nfile = {:?}\n", file.display().to_string());
    let server = TestServer::options().config(&config).start();
    fill(&server, false);
    let mut boss = Browser::logged_in(&server, "boss", PASSWORD);
    assert!(!whole(&boss.get("/accounts/ann")).contains("name=\"send\""), "ann has no phone number yet");
    let fields = [("name", "bea"), ("phone", "+256 1"), ("roles", "chw"), ("places", "area-1"), ("send", "true")];
    let made = whole(&boss.post("/accounts/new", &fields));
    assert!(made.contains("on its way") && !made.contains("_links"), "nobody but the receiver sees it: {made}");
    let page = whole(&boss.get("/accounts/bea"));
    assert!(page.contains("Links that were sent") && page.contains("name=\"send\""), "{page}");
    let sent = whole(&boss.post_checked("/accounts/bea/link", &[("reason", "again"), ("send", "true")]));
    assert!(sent.contains("on its way") && !sent.contains("_links"), "{sent}");
    let messages = server.admin().get("/_outbox?account=bea").expect(200).json();
    assert_eq!(messages["rows"].as_array().map(Vec::len), Some(2), "{messages}");

    boss.get("/cards").expect(200);
    let sheet = boss.post_checked("/cards", &[("place", "area-1"), ("reason", "no network")]).expect(200);
    let text = sheet.text();
    assert!(text.contains("<svg") && text.contains("bea") && !text.contains("<script"), "{text}");
    assert!(sheet.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    assert_eq!(sheet.header("cache-control"), Some("no-store"));
    let card = boss.post("/cards", &[("account", "bea")]).expect(200).text();
    assert_eq!(card.matches("<article").count(), 1, "{card}");
    let refused = boss.post("/cards", &[("place", "elsewhere")]).text();
    assert!(refused.contains("Not done") && refused.contains("value=\"elsewhere\""), "{refused}");
}

#[test]
fn a_place_is_lent_and_taken_back() {
    let server = district(false);
    let person = json!({"name": "bea", "password": PASSWORD, "roles": ["chw"], "places": ["district"]});
    server.admin().post("/_accounts", &person).expect(201);
    let mut boss = Browser::logged_in(&server, "boss", PASSWORD);
    boss.get("/grants/new?to=bea").expect(200);
    let fields = |until| [("to", "bea"), ("place", "area-1"), ("rights", "write"), ("until", until), ("reason", EVIL)];
    for wrong in ["", "tomorrow", "2020-01-01"] {
        let refused = boss.post("/grants/new", &fields(wrong));
        assert!(refused.status == 400 && refused.text().contains("Not done"), "{wrong}");
    }
    let grants = |server: &TestServer| server.admin().get("/_grants?to=bea").expect(200).json()["grants"].clone();
    assert_eq!(grants(&server), json!([]));
    assert_eq!(led_to(&boss.post_checked("/grants/new", &fields("2099-05-31")).expect(303)), "/grants?done=grant");
    let lent = grants(&server)[0].clone();
    assert_eq!(
        (&lent["place"], &lent["rights"], &lent["granted_by"]),
        (&json!("area-1"), &json!("write"), &json!("boss"))
    );
    let page = whole(&boss.get("/grants?done=grant"));
    assert!(
        page.contains("The place is lent.") && page.contains("31 May 2099") || page.contains("01 Jun 2099"),
        "{page}"
    );
    let end = format!("/grants/{}/revoke", lent["id"].as_str().expect("an id"));
    assert_eq!(boss.post(&end, &[]).status, 400, "a reason is needed");
    assert_eq!(grants(&server)[0]["state"], "active");
    assert_eq!(led_to(&boss.post_checked(&end, &[("reason", "back")]).expect(303)), "/grants?done=revoked");
    assert_eq!(grants(&server)[0]["state"], "revoked");
    assert!(!whole(&boss.get("/grants")).contains("/revoke"), "there is nothing left to take back");
}

#[test]
fn held_back_work_is_let_in_let_in_elsewhere_or_thrown_away() {
    let server = district(true);
    let phone = Phone::of_ann(&server);
    for id in ["in", "elsewhere", "away"] {
        phone.push(id, "nobody");
    }
    let steward = json!({"name": "stella", "password": PASSWORD, "roles": ["steward"], "link": false});
    server.admin().post("/_accounts", &steward).expect(201);
    let mut stella = Browser::logged_in(&server, "stella", PASSWORD);
    let list = whole(&stella.get("/escrow"));
    assert!(list.contains("3 documents") && list.contains(">elsewhere</a>"), "{list}");
    let number = |id: &str| {
        let rows = server.admin().get("/medic/_escrow").expect(200).json()["rows"].clone();
        let row = rows.as_array().into_iter().flatten().find(|row| row["id"] == id).cloned();
        row.map(|row| row["number"].as_u64().expect("a number"))
    };
    let decide = |stella: &mut Browser, id: &str, act: &str, fields: &[(&str, &str)]| {
        let number = number(id).expect("it is held back");
        whole(&stella.get(&format!("/escrow/{number}?database=medic")));
        let path = format!("/escrow/{number}/{act}");
        let refused = stella.post(&path, &[("database", "medic")]);
        assert!(refused.status == 400 && refused.text().contains("Not done"), "a reason is needed");
        let done = stella.post_checked(&path, &[&[("database", "medic"), ("reason", "asked her")], fields].concat());
        assert_eq!(led_to(&done.expect(303)), "/escrow?database=medic&done=decided");
    };
    decide(&mut stella, "in", "accept", &[]);
    decide(&mut stella, "elsewhere", "reassign", &[("subject", "pat-1")]);
    decide(&mut stella, "away", "discard", &[]);
    assert!(["in", "elsewhere", "away"].iter().all(|id| number(id).is_none()));
    let stored = |id: &str| server.admin().get(&format!("/medic/{id}"));
    assert_eq!(stored("in").expect(200).json()["fields"]["patient_id"], "nobody");
    assert_eq!(stored("elsewhere").expect(200).json()["fields"]["patient_id"], "pat-1");
    stored("away").expect(404);
    let log = server.admin().get("/_audit?action=escrow").expect(200).json();
    let told: Vec<_> =
        log["entries"].as_array().into_iter().flatten().map(|entry| (&entry["by"], &entry["reason"])).collect();
    assert!(told.len() == 3 && told.iter().all(|told| *told == (&json!("stella"), &json!("asked her"))), "{log}");
    // Nobody but those who see everything decides.
    phone.push("more", "nobody");
    let path = format!("/escrow/{}/accept", number("more").expect("it is held back"));
    for other in ["ann", "boss"] {
        let mut other = Browser::logged_in(&server, other, PASSWORD);
        other.get(&format!("/accounts/{}", escaped("ann")));
        assert_eq!(other.post(&path, &[("database", "medic"), ("reason", "x")]).status, 404);
    }
    stored("more").expect(404);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the gateway is asked when the server gets to it")]
fn a_link_that_could_not_be_sent_needs_attention_and_is_sent_again_or_called_off() {
    let config = "[outbox]\ngateway = \"command\"\ncommand = [\"/bin/sh\", \"-c\", \"exit 65\"]\n";
    let server = TestServer::options().config(config).start();
    fill(&server, false);
    let mut boss = Browser::logged_in(&server, "boss", PASSWORD);
    boss.get("/accounts/new").expect(200);
    let fields = [("name", "bea"), ("phone", "+256 1"), ("roles", "chw"), ("places", "area-1"), ("send", "true")];
    whole(&boss.post("/accounts/new", &fields));
    let state = |wanted: &str| {
        for _ in 0..200 {
            let row = server.admin().get("/_outbox?account=bea").expect(200).json()["rows"][0].clone();
            if row["state"] == wanted {
                return row["id"].as_str().expect("an id").to_owned();
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("the message is never {wanted}");
    };
    let id = state("failed");
    let start = whole(&boss.get(""));
    assert!(start.contains("Links that could not be sent") && start.contains(">bea</a>"), "{start}");
    let path = |act: &str| format!("/accounts/bea/messages/{id}/{act}");
    let page = whole(&boss.get("/accounts/bea"));
    assert!(page.contains("could not be sent") && page.contains("Call it off"), "{page}");
    assert_eq!(led_to(&boss.post_checked(&path("retry"), &[]).expect(303)), "/accounts/bea?done=resent");
    state("failed");
    assert_eq!(boss.post(&path("burn"), &[]).status, 404);
    assert_eq!(led_to(&boss.post_checked(&path("cancel"), &[]).expect(303)), "/accounts/bea?done=called_off");
    state("cancelled");
    let refused = boss.post(&path("retry"), &[]);
    assert!(refused.status == 409 && refused.text().contains("make another link"), "{}", refused.text());
    assert!(!whole(&boss.get("")).contains("could not be sent"));
}

#[test]
fn what_is_too_much_for_one_person_waits_on_the_start_page_for_another() {
    let server = TestServer::options().config("[settle]\nretirements_alone = 1\n").start();
    fill(&server, false);
    let bea = json!({"name": "bea", "password": PASSWORD, "roles": ["chw"], "places": ["area-1"]});
    server.admin().post("/_accounts", &bea).expect(201);
    let mut boss = Browser::logged_in(&server, "boss", PASSWORD);
    let why = [("reason", "contract over"), ("sure", "true")];
    boss.get("/accounts/bea/retire").expect(200);
    boss.post("/accounts/bea/retire", &why).expect(303);
    let waits = boss.post("/accounts/ann/retire", &why);
    let text = waits.text();
    assert!(waits.status == 409 && text.contains("Somebody else who manages them") && !text.contains("1970"), "{text}");
    assert_eq!(account(&server, "ann")["state"], "active");
    let own = whole(&boss.get(""));
    assert!(
        own.contains("Retiring: ann") && own.contains("somebody else than you") && !own.contains("ann/retire"),
        "{own}"
    );
    let mut operator = Browser::logged_in(&server, "admin", "secret");
    let start = whole(&operator.get("")).replace("&#x2f;", "/");
    assert!(start.contains("href=\"/_console/accounts/ann/retire\">Retiring: ann</a>, asked by boss"), "{start}");
    operator.post("/accounts/ann/retire", &[("reason", "agreed"), ("sure", "true")]).expect(303);
    assert_eq!(account(&server, "ann")["state"], "retired");
    assert!(!whole(&operator.get("")).contains("Retiring: ann"));
}
