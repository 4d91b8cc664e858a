//! More than so many retirements within an hour, and an order to erase without a proof, need a second person; operators break the
//! glass where that is required.

use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{DATABASE, Shown, Stage, text};
use crate::restore::drill::settle;
use crate::support::http::{Client, Request, Response};
use crate::support::server::{ADMIN, ADMIN_PASSWORD, TestServer};
use crate::threats::stage::with_clock;

const LIMITED: &str = "[settle]\nretirements_alone = 2\n";
const HOUR: i64 = 3_600;

fn two_operators(config: &str) -> crate::support::server::Options {
    TestServer::options().config(config).argument("--admin").argument("second:secret")
}

fn second(stage: &Stage) -> Client {
    stage.server.client_as("second", "secret")
}

fn state_of(stage: &Stage, name: &str) -> String {
    text(&stage.operator().get(&format!("/_accounts/{name}")).expect(200).json()["state"])
}

fn told(stage: &Stage, action: &str) -> Vec<Value> {
    let page = stage.operator().get(&format!("/_audit?limit=1000&action={action}")).expect(200).json();
    page["entries"].as_array().cloned().unwrap_or_default()
}

fn needs_second(answer: &Response) {
    assert_eq!((answer.status, &answer.json()["error"]), (409, &json!("second_person_needed")), "{}", answer.text());
}

#[test]
fn many_retirements_wait_for_a_second_person() {
    let stage = Stage::start_with(two_operators(LIMITED));
    let phones = ["a1", "a2", "a3", "a4", "a5"].map(|name| stage.somebody(name, "chw", &["area-a"]));
    let meg = stage.somebody("meg", "account_admin", &["area-b"]).cookie;
    let admin = stage.operator();
    let ask = |client: &Client, path: &str, reason: &str| client.post(path, &json!({"reason": reason}));
    ask(&admin, "/_accounts/a1/disable", "left").expect(200);
    ask(&admin, "/_accounts/a1/disable", "again: it is so already").expect(200);
    ask(&admin, &format!("/_devices/{}/retire", phones[1].device), "broken").expect(200);
    for _ in 0..2 {
        needs_second(&ask(&admin, "/_accounts/a3/retire", "left"));
    }
    needs_second(&admin.delete("/_accounts/a3"));
    needs_second(&ask(&admin, &format!("/_devices/{}/retire", phones[2].device), "broken"));
    let replace = json!({"contact": {"name": "New"}, "account": {"roles": ["chw"], "name": "new"}, "retire": ["a3"]});
    needs_second(&admin.post(&format!("/{DATABASE}/_places/area-a/replace"), &replace));
    assert_eq!(
        (state_of(&stage, "a3").as_str(), admin.get("/_accounts/new").status),
        ("active", 404),
        "nothing was done"
    );
    assert_eq!(told(&stage, "second_person.ask").len(), 4, "each order once");
    // A dry run changes nothing, and a stolen phone waits for nobody.
    ask(&admin, &format!("/_devices/{}/cut", phones[3].device), "stolen").expect(200);
    ask(&admin, "/_accounts/a4/cut", "stolen").expect(200);
    admin.post("/_accounts/a3/retire?dry_run=true", &json!({})).expect(200);
    let waiting = |shown: &Shown| stage.send(shown, &Request::new("GET", "/_confirmations")).expect(200).json();
    let rows = waiting(&Shown::Operator);
    assert_eq!(
        (rows["waiting"].as_array().map(Vec::len), &rows["waiting"][0]["yours"]),
        (Some(4), &json!(true)),
        "{rows}"
    );
    assert_eq!(rows["waiting"][0]["request"], "POST /_accounts/a3/retire");
    assert_eq!(waiting(&Shown::Cookie(meg.clone())), json!({"waiting": []}), "elsewhere there are none");
    let retire = Request::new("POST", "/_accounts/a3/retire").json(&json!({}));
    assert_eq!(stage.send(&Shown::Cookie(meg), &retire).status, 404);
    assert_eq!(state_of(&stage, "a3"), "active");
    // Somebody else who may do it, in words of their own.
    ask(&second(&stage), "/_accounts/a3/retire", "agreed").expect(200);
    assert_eq!(state_of(&stage, "a3"), "retired");
    let confirmed = told(&stage, "second_person.confirm");
    assert_eq!((&confirmed[0]["by"], &confirmed[0]["details"]["asked_by"]), (&json!("second"), &json!("admin")));
    // What is confirmed counts for neither of them, so the second one still has two.
    ask(&second(&stage), "/_accounts/a2/disable", "left").expect(200);
    ask(&second(&stage), "/_accounts/a5/disable", "left").expect(200);
    stage.account("a6", "chw", &["area-a"]);
    needs_second(&ask(&second(&stage), "/_accounts/a6/disable", "left"));
    let url = stage.server.url().replace("://", &format!("://{ADMIN}:{ADMIN_PASSWORD}@"));
    let (success, said) = settle(&["account", "disable", "a6", "--url", &url]);
    assert!(success, "the first one confirms by typing the same: {said}");
}

#[test]
fn what_waits_ends_after_a_week_and_an_hour_later_one_person_may_go_on() {
    let Some((clock, options)) = with_clock() else { return };
    let options = options.config(LIMITED).argument("--admin").argument("second:secret");
    let stage = Stage::start_with(options);
    let names = ["a1", "a2", "a3", "a4", "a5", "a6", "a7"];
    for name in names {
        stage.account(name, "chw", &["area-a"]);
    }
    let disable = |client: &Client, name: &str| client.post(&format!("/_accounts/{name}/disable"), &json!({}));
    for name in &names[..2] {
        disable(&stage.operator(), name).expect(200);
    }
    needs_second(&disable(&stage.operator(), "a3"));
    clock.set(HOUR + 60);
    disable(&stage.operator(), "a3").expect(200);
    disable(&stage.operator(), "a4").expect(200);
    needs_second(&disable(&stage.operator(), "a5"));
    clock.set(8 * 24 * HOUR);
    assert_eq!(stage.operator().get("/_confirmations").expect(200).json(), json!({"waiting": []}));
    for name in ["a6", "a7"] {
        disable(&second(&stage), name).expect(200);
    }
    needs_second(&disable(&second(&stage), "a5"));
    assert_eq!(state_of(&stage, "a5"), "active", "the first order was over");
    disable(&stage.operator(), "a5").expect(200);
}

#[test]
fn an_operator_breaks_the_glass_for_a_while_and_for_a_reason() {
    let stage = Stage::start_with(two_operators("[settle]\nbreak_glass = \"required\"\n"));
    let admin = stage.operator();
    let chw = stage.somebody("chw", "chw", &["area-a"]);
    let reads = [
        format!("/{DATABASE}/pat-a"),
        format!("/{DATABASE}/_all_docs"),
        format!("/{DATABASE}/_changes"),
        format!("/{DATABASE}/_escrow"),
        format!("/{DATABASE}/_custody/area-a"),
        format!("/_devices/{}/exposure?database={DATABASE}", chw.device),
    ];
    for path in &reads {
        let answer = admin.get(path);
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.text().contains("settle break-glass medic"), "{}", answer.text());
    }
    let bulk = json!({"docs": [{"id": "pat-a"}]});
    assert_eq!(admin.post(&format!("/{DATABASE}/_bulk_get"), &bulk).status, 403);
    // What is about no document goes on, and so do writes and people's own reads.
    admin.get(&format!("/{DATABASE}/_security")).expect(200);
    admin.get(&format!("/{DATABASE}")).expect(200);
    admin.put(&format!("/{DATABASE}/pat-b"), &json!({"type": "person", "parent": {"_id": "hh-a"}})).expect(201);
    stage.send(&Shown::Cookie(chw.cookie), &Request::new("GET", &reads[0])).expect(200);
    for body in [
        json!({"database": DATABASE, "minutes": 5}),
        json!({"database": DATABASE, "minutes": 5, "reason": " "}),
        json!({"database": DATABASE, "minutes": 0, "reason": "x"}),
        json!({"database": DATABASE, "minutes": 481, "reason": "x"}),
        json!({"database": "_users", "minutes": 5, "reason": "x"}),
    ] {
        assert_eq!(admin.post("/_break_glass", &body).status, 400, "{body}");
    }
    assert_eq!(admin.post("/_break_glass", &json!({"database": "none", "minutes": 5, "reason": "x"})).status, 404);
    let url = stage.server.url().replace("://", &format!("://{ADMIN}:{ADMIN_PASSWORD}@"));
    let (success, said) = settle(&["break-glass", DATABASE, "--reason", "case 17", "--minutes", "5", "--url", &url]);
    assert!(success && said.contains("5 minutes"), "{said}");
    for path in &reads {
        admin.get(path).expect(200);
    }
    let broken = told(&stage, "glass.break");
    assert_eq!((&broken[0]["by"], &broken[0]["reason"]), (&json!("admin"), &json!("case 17")));
    assert_eq!(told(&stage, "glass.read").len(), reads.len(), "every read");
    assert_eq!(second(&stage).get(&reads[0]).status, 403, "each for themselves");
    let auditor = stage.somebody("auditor", "auditor", &[]).cookie;
    let open = stage.send(&Shown::Cookie(auditor), &Request::new("GET", "/_break_glass")).expect(200).json();
    assert_eq!((&open["required"], &open["broken"][0]["by"]), (&json!(true), &json!("admin")), "{open}");
    let lifted = admin.put("/_node/_local/_config/settle/break_glass", &json!("off"));
    assert_eq!(lifted.status, 200, "any key may be kept, as in CouchDB");
    assert_eq!(second(&stage).get(&reads[0]).status, 403, "but this one means nothing there");
}

#[test]
fn a_feed_ends_with_the_time_for_which_the_glass_is_broken() {
    let Some((clock, options)) = with_clock() else { return };
    let stage = Stage::start_with(options.config("[settle]\nbreak_glass = \"required\"\n"));
    let admin = stage.operator();
    admin.post("/_break_glass", &json!({"database": DATABASE, "minutes": 1, "reason": "case 17"})).expect(201);
    let path = format!("/{DATABASE}/_changes?feed=continuous&since=now&heartbeat=200");
    clock.set(58);
    let started = std::time::Instant::now();
    let mut feed = admin.open_feed(&Request::new("GET", &path));
    while feed.next_line(Duration::from_secs(10)).is_ok_and(|line| line.is_some()) {
        assert!(started.elapsed() < Duration::from_secs(30), "it goes on");
    }
    clock.set(61);
    assert_eq!(admin.get(&format!("/{DATABASE}/pat-a")).status, 403);
}

#[test]
fn a_glass_that_nobody_needs_any_more_is_closed_and_its_feeds_end() {
    let stage = Stage::start_with(two_operators("[settle]\nbreak_glass = \"required\"\n"));
    let (admin, path) = (stage.operator(), format!("/{DATABASE}/pat-a"));
    assert_eq!(admin.delete(&format!("/_break_glass/{DATABASE}")).status, 404, "there is none");
    let break_it = |client: &Client| {
        let body = json!({"database": DATABASE, "minutes": 30, "reason": "case 17"});
        client.post("/_break_glass", &body).expect(201);
        client.get(&path).expect(200);
    };
    break_it(&admin);
    break_it(&second(&stage));
    let feed = format!("/{DATABASE}/_changes?feed=continuous&since=now&heartbeat=200");
    let mut feeds = [&admin, &second(&stage)].map(|client| client.open_feed(&Request::new("GET", &feed)));
    for feed in &mut feeds {
        feed.next_line(Duration::from_secs(10)).expect("a heartbeat");
    }
    let url = stage.server.url().replace("://", &format!("://{ADMIN}:{ADMIN_PASSWORD}@"));
    let (success, said) = settle(&["break-glass", DATABASE, "--end", "--reason", "solved", "--url", &url]);
    assert!(success && said.contains("read no more"), "{said}");
    let started = std::time::Instant::now();
    while feeds[0].next_line(Duration::from_secs(10)).is_ok_and(|line| line.is_some()) {
        assert!(started.elapsed() < Duration::from_secs(30), "it goes on");
    }
    assert_eq!(admin.get(&path).status, 403);
    feeds[1].next_line(Duration::from_secs(10)).expect("the other's goes on").expect("open");
    second(&stage).get(&path).expect(200);
    let ended = told(&stage, "glass.end");
    let shown = (&ended[0]["by"], &ended[0]["reason"], &ended[0]["details"]["operator"]);
    assert_eq!(shown, (&json!("admin"), &json!("solved"), &json!("admin")), "{ended:?}");
    // An operator may end another's.
    admin.delete(&format!("/_break_glass/{DATABASE}?by=second")).expect(200);
    assert_eq!(second(&stage).get(&path).status, 403);
    assert_eq!(admin.get("/_break_glass").expect(200).json()["broken"], json!([]));
    assert_eq!(told(&stage, "glass.end")[1]["details"]["operator"], "second");
}

#[test]
fn accounts_deleted_as_documents_count_like_any_others() {
    let stage = Stage::start_with(two_operators(LIMITED));
    let admin = stage.operator();
    for name in ["a1", "a2", "a3", "a4", "a5"] {
        stage.account(name, "chw", &["area-a"]);
    }
    let path = |name: &str| format!("/_users/org.couchdb.user:{name}");
    let revision = |name: &str| text(&admin.get(&path(name)).expect(200).json()["_rev"]);
    let tombstone =
        |name: &str| json!({"_id": format!("org.couchdb.user:{name}"), "_rev": revision(name), "_deleted": true});
    let delete = |client: &Client, name: &str| client.delete(&format!("{}?rev={}", path(name), revision(name)));
    delete(&admin, "a1").expect(200);
    needs_second(&admin.post("/_users/_bulk_docs", &json!({"docs": [tombstone("a2"), tombstone("a3")]})));
    admin.get(&path("a2")).expect(200);
    admin.put(&path("a2"), &tombstone("a2")).expect(200);
    needs_second(&delete(&admin, "a3"));
    needs_second(&admin.put(&format!("{}?batch=ok", path("a3")), &tombstone("a3")));
    needs_second(&admin.post("/_users", &tombstone("a3")));
    let replicated = |name: &str| {
        let mut document = tombstone(name);
        let known = text(&document["_rev"]);
        let (generation, hash) = known.split_once('-').expect("a revision");
        let next = generation.parse::<u64>().expect("a number") + 1;
        document["_rev"] = format!("{next}-{}", "f".repeat(32)).into();
        document["_revisions"] = json!({"start": next, "ids": ["f".repeat(32), hash]});
        json!({"new_edits": false, "docs": [document]})
    };
    needs_second(&admin.post("/_users/_bulk_docs", &replicated("a3")));
    assert_eq!(state_of(&stage, "a3"), "active", "nothing was done");
    // What deletes nobody is nobody's business.
    let mut document = admin.get(&path("a3")).expect(200).json();
    document["fullname"] = "A. Three".into();
    admin.put(&path("a3"), &document).expect(201);
    admin
        .post(&format!("/{DATABASE}/_bulk_docs"), &json!({"docs": [{"_id": "x", "type": "form", "_deleted": true}]}))
        .expect(201);
    // By the same request of somebody else, and in any way that is left to them.
    delete(&second(&stage), "a3").expect(200);
    assert_eq!(admin.get(&path("a3")).status, 404);
    let confirmed = told(&stage, "second_person.confirm");
    assert_eq!((&confirmed[0]["by"], &confirmed[0]["details"]["asked_by"]), (&json!("second"), &json!("admin")));
    second(&stage).post("/_users/_bulk_docs", &json!({"docs": [tombstone("a4"), tombstone("a5")]})).expect(201);
}

#[test]
fn accounts_without_a_place_are_deleted_as_in_couchdb() {
    let stage = Stage::start_with(two_operators(LIMITED));
    let admin = stage.operator();
    for name in ["u1", "u2", "u3", "u4"] {
        let path = format!("/_users/org.couchdb.user:{name}");
        let user = json!({"name": name, "password": "secret", "roles": [], "type": "user"});
        let revision = text(&admin.put(&path, &user).expect(201).json()["rev"]);
        admin.delete(&format!("{path}?rev={revision}")).expect(200);
    }
}

#[test]
fn an_account_whose_document_is_purged_is_deleted() {
    let stage = Stage::start_with(two_operators(LIMITED));
    let admin = stage.operator();
    let purge = |client: &Client, name: &str| {
        let id = format!("org.couchdb.user:{name}");
        let revision = text(&admin.get(&format!("/_users/{id}")).expect(200).json()["_rev"]);
        client.post("/_users/_purge", &json!({id: [revision]}))
    };
    for name in ["a1", "a2", "a3"] {
        stage.account(name, "chw", &["area-a"]);
    }
    purge(&admin, "a1").expect(201);
    assert_eq!(admin.get("/_accounts/a1").status, 404);
    assert_eq!(told(&stage, "account.delete")[0]["account"], "a1");
    purge(&admin, "a2").expect(201);
    needs_second(&purge(&admin, "a3"));
    purge(&second(&stage), "a3").expect(201);
}

#[test]
fn without_the_setting_operators_read_as_in_couchdb() {
    let stage = Stage::start();
    stage.operator().get(&format!("/{DATABASE}/pat-a")).expect(200);
    assert_eq!(told(&stage, "database.read").len(), 1);
    assert_eq!(stage.operator().get("/_break_glass").expect(200).json()["required"], false);
}

#[test]
fn an_order_to_erase_that_nobody_confirms_within_a_week_is_asked_for_anew() {
    let Some((clock, options)) = with_clock() else { return };
    let stage = Stage::start_with(options.argument("--admin").argument("second:secret"));
    let phone = stage.somebody("chw", "chw", &["area-a"]).device;
    let admin = stage.operator();
    admin.post(&format!("/_devices/{phone}/retire"), &json!({})).expect(200);
    let order = json!({"override": {"reason": "the screen is broken"}});
    let wipe = |client: &Client| client.post(&format!("/_devices/{phone}/wipe"), &order);
    wipe(&admin).expect(202);
    clock.set(7 * 24 * HOUR + 60);
    wipe(&second(&stage)).expect(202);
    assert_eq!(told(&stage, "device.wipe_asked").len(), 2, "the first was over");
    assert_eq!(wipe(&second(&stage)).status, 409, "the same person");
    let given = wipe(&admin).expect(200).json();
    assert_eq!(given["evidence"], "overridden", "{given}");
}
