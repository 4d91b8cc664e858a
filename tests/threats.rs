//! The threat table, row by row: T1 a stolen phone … T12 probing for what exists. `docs/threats.md` says of each what Settle
//! does, which test here or elsewhere shows it, and what remains.

mod exposed;
mod guessing;
mod replayed;
mod reported;
pub(crate) mod stage;

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::Request;
use crate::support::server::TestServer;
use stage::{
    DATABASE, DAY, MARK, add_account, everything, log_in, password, reason, stage, try_log_in, visit, with_clock,
};

#[test]
fn t1_a_lost_phone_is_cut_at_once_and_its_owner_goes_on() {
    let server = stage(TestServer::options());
    let (lost, kept) = (log_in(&server, "ann", "lost-phone"), log_in(&server, "ann", "kept-phone"));
    lost.pull(&server);
    let path = format!("{DATABASE}/_changes?feed=continuous&since=now&heartbeat=200");
    let mut feed = server.anonymous().open_feed(&lost.request("GET", &path, None));
    feed.next_line(Duration::from_secs(10)).expect("a heartbeat");
    let admin = server.admin();
    let patience = Instant::now() + Duration::from_secs(30);
    admin.post(&format!("/_devices/{}/cut", lost.id), &json!({"reason": "stolen on the bus"})).expect(200);
    admin.put(&format!("{DATABASE}/visit-late"), &visit("ann", 9)).expect(201);
    let mut told = Vec::new();
    while let Ok(Some(line)) = feed.next_line(Duration::from_secs(10)) {
        told.extend_from_slice(&line);
        assert!(Instant::now() < patience, "the feed goes on");
    }
    assert!(!String::from_utf8_lossy(&told).contains("visit-late"));

    let before = everything(&server);
    let answer = lost.push(&server, &[lost.revision("visit-thief", visit("ann", 1))]);
    assert_eq!((answer.status, reason(&answer)), (401, "cut".to_owned()), "a thief brings nothing in");
    assert_eq!(everything(&server), before);
    let again = try_log_in(&server, "ann", &password("ann"), "lost-phone");
    assert_eq!((again.status, reason(&again)), (401, "cut".to_owned()), "also with the right password");
    kept.get(&server, &format!("{DATABASE}/visit-ann")).expect(200);
    log_in(&server, "ann", "a-new-phone").get(&server, &format!("{DATABASE}/visit-ann")).expect(200);

    let exposure = admin.get(&format!("/_devices/{}/exposure?database=visits", lost.id)).expect(200).json();
    let contacts: Vec<&str> =
        exposure["contacts"].as_array().into_iter().flatten().filter_map(|c| c["id"].as_str()).collect();
    assert_eq!(contacts, ["area-ann", "person-ann"], "whom to call: {exposure}");
    let person = &exposure["contacts"][1];
    assert_eq!((&person["when"], &person["records"]["held"]), (&json!("held"), &json!(1)), "{exposure}");
    // What came after its last pull is listed apart.
    assert_eq!(person["records"]["later"], 1, "{exposure}");
    let never = admin.get(&format!("/_devices/{}/exposure?database=visits", kept.id)).expect(200).json();
    assert_eq!((&never["never_pulled"], &exposure["never_pulled"]), (&json!(true), &json!(false)));
}

#[test]
fn t2_who_left_and_knows_the_password_reads_nothing_more() {
    let server = stage(TestServer::options());
    let phone = log_in(&server, "ann", "anns-phone");
    phone.pull(&server);
    server.admin().post("/_accounts/ann/retire", &json!({"reason": "left"})).expect(200);
    let again = log_in(&server, "ann", "anns-phone");
    let other = log_in(&server, "ann", "another-phone");
    for login in [&phone, &again, &other] {
        for path in ["/visit-ann", "/_all_docs", "/_design_docs", "/_security"] {
            let answer = login.get(&server, &format!("{DATABASE}{path}"));
            assert_eq!((answer.status, reason(&answer)), (403, "draining".to_owned()), "{path}");
        }
        let feed = login.get(&server, &format!("{DATABASE}/_changes?include_docs=true")).expect(200).json();
        assert_eq!(feed["results"], json!([]));
    }
    for guess in ["ann has a long passwort", "", "password"] {
        assert_eq!(try_log_in(&server, "ann", guess, "anns-phone").status, 401);
    }
    // What was made before may still come, and stands under the account that made it.
    phone.push(&server, &[phone.revision("visit-late", visit("ann", 3))]).expect(201);
    let late = server.admin().get(&format!("{DATABASE}/visit-late?provenance=true")).expect(200).json();
    let brought = &late["_provenance"][0];
    let by = (&brought["account"], &brought["device"], &brought["standing"]);
    assert_eq!(by, (&json!("ann"), &json!(phone.id), &json!("draining")), "{late}");
}

#[test]
fn t3_a_shared_password_shows_as_several_devices_and_one_is_cut_alone() {
    let server = stage(TestServer::options());
    let phones: Vec<_> = ["phone-one", "phone-two", "phone-three"].map(|name| log_in(&server, "ann", name)).into();
    let listed = server.admin().get("/_devices?account=ann&kind=named").expect(200).json();
    assert_eq!(listed["devices"].as_array().map(Vec::len), Some(3), "{listed}");
    server.admin().post(&format!("/_devices/{}/cut", phones[1].id), &json!({})).expect(200);
    let statuses: Vec<u16> =
        phones.iter().map(|phone| phone.get(&server, &format!("{DATABASE}/visit-ann")).status).collect();
    assert_eq!(statuses, [200, 401, 200]);
}

#[test]
fn t4_work_of_weeks_arrives_after_the_password_was_changed() {
    let Some((clock, options)) = with_clock() else { return };
    let server = stage(options);
    let mut ahead = 0;
    for (number, days) in [1, 20, 29, 59, 89, 91, 200].into_iter().enumerate() {
        let name = format!("chw{number}");
        let admin = server.admin();
        admin.put(&format!("{DATABASE}/area-{name}"), &json!({"type": "clinic"})).expect(201);
        let person = json!({"type": "person", "parent": {"_id": format!("area-{name}")}});
        admin.put(&format!("{DATABASE}/person-{name}"), &person).expect(201);
        add_account(&server, &name);
        let phone = log_in(&server, &name, "offline-phone");
        phone.pull(&server);
        let made: Vec<Value> = ["mine", "theirs"]
            .map(|kind| {
                let about = if kind == "mine" { name.as_str() } else { "ben" };
                phone.revision(&format!("{kind}-{name}"), visit(about, 7))
            })
            .into();
        admin.post(&format!("/_accounts/{name}/password"), &json!({"password": "quite another one"})).expect(200);
        ahead += days * DAY;
        clock.set(ahead);
        let standing = phone.standing(&server);
        let (wanted, next) = if days < 90 { ("draining", "push") } else { ("retired", "reauth") };
        assert_eq!((&standing["standing"], &standing["next"]), (&json!(wanted), &json!(next)), "{days}: {standing}");
        let pushed = phone.push(&server, &made);
        if days < 90 {
            assert_eq!(pushed.status, 201, "after {days} days: {}", pushed.text());
        } else {
            assert_eq!((pushed.status, reason(&pushed)), (401, "retired".to_owned()), "after {days} days");
            // The work is not lost: the person logs in with the new password, and the phone pushes on.
            let again = try_log_in(&server, &name, "quite another one", "offline-phone").expect(200);
            let again = stage::Phone { cookie: stage::cookie_of(&again), ..phone.clone() };
            again.push(&server, &made).expect(201);
        }
        server.admin().get(&format!("{DATABASE}/mine-{name}")).expect(200);
        let all = everything(&server);
        assert!(all.iter().any(|(id, _)| *id == format!("escrow \"theirs-{name}\"")), "created = stored + escrow");
    }
}

#[test]
fn t5_a_clock_that_goes_back_revives_nothing() {
    let Some((clock, options)) = with_clock() else { return };
    let mut server = stage(options);
    let phone = log_in(&server, "ann", "anns-phone");
    server.admin().post(&format!("/_devices/{}/retire", phone.id), &json!({})).expect(200);
    assert_eq!(phone.standing(&server)["standing"], "draining");
    // The first contact is durable when this is.
    server.admin().put(&format!("{DATABASE}/_local/earlier"), &json!({})).expect(201);
    clock.set(31 * DAY);
    assert_eq!(phone.standing(&server)["standing"], "retired");
    server.admin().put(&format!("{DATABASE}/_local/later"), &json!({})).expect(201);
    for back in [0, -365 * DAY] {
        clock.set(back);
        assert_eq!(phone.standing(&server)["standing"], "retired", "the clock went back");
        server.kill9();
        server.restart();
        assert_eq!(phone.standing(&server)["standing"], "retired", "… and the server was killed");
    }
    let other = log_in(&server, "ben", "bens-phone");
    clock.set(800 * DAY);
    let answer = other.get(&server, &format!("{DATABASE}/visit-ben"));
    assert_eq!(answer.status, 401, "a session of a device ends a year after its last use");
}

#[test]
fn t8_a_last_push_full_of_malice_changes_nothing_of_others() {
    let server = stage(TestServer::options());
    let phone = log_in(&server, "ann", "anns-phone");
    phone.pull(&server);
    server.admin().post("/_accounts/ann/retire", &json!({})).expect(200);
    let admin = server.admin();
    let bystanders = ["settings", "area-ben", "person-ben", "visit-ben"];
    let states = || bystanders.map(|id| admin.get(&format!("{DATABASE}/{id}?conflicts=true")).expect(200).text());
    let before = states();
    let mut malice = vec![
        phone.revision("_design/evil", json!({"validate_doc_update": "function(){throw({forbidden:1})}"})),
        phone.revision("settings", json!({"settings": {"permissions": {"can_edit": ["nobody"]}}})),
        phone.revision("form:visit", json!({"type": "form"})),
        phone.revision("org.couchdb.user:ben", json!({"type": "user-settings", "roles": ["_admin"]})),
        phone.revision("area-ben", json!({"type": "clinic", "parent": {"_id": "area-ann"}})),
        phone.revision("person-ben", json!({"type": "person", "parent": {"_id": "area-ann"}})),
        phone.revision("visit-ben", json!({"_deleted": true})),
        phone.revision("visit-forged", visit("ben", 1)),
        phone.revision("<script>alert(1)</script>", visit("ann", 1)),
    ];
    for generation in 1..=100_u32 {
        let hash = format!("{generation:032x}");
        malice.push(json!({"_id": "visit-ben", "_rev": format!("{}-{hash}", 1 << (generation % 30)),
            "_revisions": {"start": 1 << (generation % 30), "ids": [hash]}, "type": "data_record"}));
    }
    let answer = phone.push(&server, &malice);
    assert!(answer.status == 201, "{}", answer.text());
    assert_eq!(states(), before, "others' documents are as they were, without a conflict");
    for id in ["_design/evil", "form:visit", "visit-forged"] {
        admin.get(&format!("{DATABASE}/{id}")).expect(404);
    }
    let deep =
        format!("{{\"new_edits\":false,\"docs\":[{{\"_id\":\"deep\",\"a\":{}{}}}]}}", "[".repeat(600), "]".repeat(600));
    let push = |body: String| {
        let request = phone.request("POST", &format!("{DATABASE}/_bulk_docs"), None);
        server.anonymous().send(&request.header("Content-Type", "application/json").body(body)).status
    };
    assert_eq!(push(deep), 400);
    let large = phone.revision("large", json!({"type": "data_record", "text": "x".repeat(9_000_000)}));
    assert!(matches!(push(json!({"new_edits": false, "docs": [large]}).to_string()), 201 | 413));
    admin.get(&format!("{DATABASE}/large")).expect(404);
    // The honest part of the last push still arrives.
    phone.push(&server, &[phone.revision("visit-honest", visit("ann", 2))]).expect(201);
    admin.get(&format!("{DATABASE}/visit-honest")).expect(200);
}

#[test]
fn t9_a_push_cut_off_at_any_byte_is_repeated_without_harm() {
    let server = stage(TestServer::options());
    let phone = log_in(&server, "ann", "anns-phone");
    phone.pull(&server);
    server.admin().post("/_accounts/ann/password", &json!({"password": "quite another one"})).expect(200);
    let documents: Vec<Value> =
        (0..3).map(|number| phone.revision(&format!("visit-{number}"), visit("ann", number))).collect();
    let body = json!({"new_edits": false, "docs": documents}).to_string();
    let head = format!(
        "POST {DATABASE}/_bulk_docs HTTP/1.1\r\nHost: x\r\nCookie: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        phone.cookie,
        body.len()
    );
    let request = [head.as_bytes(), body.as_bytes()].concat();
    let before = everything(&server);
    for cut in (head.len() - 4..request.len()).step_by(41) {
        let mut connection = TcpStream::connect(server.address()).expect("a connection");
        connection.write_all(&request[..cut]).expect("sent");
        drop(connection);
    }
    assert_eq!(everything(&server), before, "half a push brings nothing");
    let revs: Value =
        documents.iter().map(|one| (one["_id"].as_str().expect("an id").to_owned(), json!([one["_rev"]]))).collect();
    let manifest = json!({"manifest": "m1", "revs": revs, "final": true});
    let path = format!("{DATABASE}/_manifest");
    let early = phone.send(&server, "POST", &path, Some(&manifest)).expect(200).json();
    assert!(
        early["receipt"].is_null() && early["missing"].as_object().is_some_and(|missing| missing.len() == 3),
        "{early}"
    );
    // The whole request, and nobody to read its answer.
    let mut connection = TcpStream::connect(server.address()).expect("a connection");
    connection.write_all(&request).expect("sent");
    drop(connection);
    phone.push(&server, &documents).expect(201);
    let after = everything(&server);
    assert_eq!(after.len(), before.len() + 3, "each revision once");
    let receipt = phone.send(&server, "POST", &path, Some(&manifest)).expect(200).json();
    assert!(receipt["receipt"].is_object(), "{receipt}");
    assert_eq!(phone.standing(&server)["standing"], "drained");
}

#[test]
fn t10_a_device_that_says_it_is_erased_and_calls_again_raises_an_alarm() {
    let server = stage(TestServer::options());
    let phone = log_in(&server, "ann", "anns-phone");
    let admin = server.admin();
    admin.post(&format!("/_devices/{}/retire", phone.id), &json!({})).expect(200);
    let wipe = format!("/_devices/{}/wipe", phone.id);
    let refused = admin.post(&wipe, &json!({})).expect(409);
    assert_eq!(refused.json()["error"], "final_push_pending", "{}", refused.text());
    let manifest = json!({"manifest": "m1", "revs": {}, "total": 0, "final": true});
    phone.send(&server, "POST", &format!("{DATABASE}/_manifest"), Some(&manifest)).expect(200);
    let order = admin.post(&wipe, &json!({})).expect(200).json()["order"].clone();
    assert_eq!(phone.standing(&server)["next"], "wipe");
    let report = json!({"order": order, "erased": ["visits"]});
    phone.send(&server, "POST", "/_device/wipe_reported", Some(&report)).expect(200);
    let device = format!("/_devices/{}", phone.id);
    let told = admin.get(&device).expect(200).json();
    assert!(told["alarm"].is_null() && !told.to_string().contains("wiped"), "it only said so: {told}");
    assert_eq!((&told["wipe"]["state"], &told["wipe"]["evidence"]), (&json!("reported"), &json!("self_report")));
    phone.get(&server, "/_device");
    admin.put(&format!("{DATABASE}/_local/later"), &json!({})).expect(201);
    let told = admin.get(&device).expect(200).json();
    assert!(told["alarm"].is_u64(), "{told}");
    assert_eq!(
        (&told["wipe"]["state"], &told["wipe"]["evidence"]),
        (&json!("ordered"), &Value::Null),
        "it stands again"
    );
    assert_eq!(phone.standing(&server)["next"], "wipe");
    let alarms = admin.get("/_devices?alarm=true").expect(200).json();
    assert_eq!(alarms["total_rows"], 1, "{alarms}");
}

#[test]
fn t11_nobody_but_operators_withdraws_and_an_override_needs_two() {
    let server = stage(TestServer::options().config("[admins]\nsecond = \"another secret\"\n"));
    let phone = log_in(&server, "ann", "anns-phone");
    let devices = format!("/_devices/{}", phone.id);
    for (method, path) in [
        ("GET", "/_devices".to_owned()),
        ("GET", devices.clone()),
        ("GET", format!("{devices}/exposure?database=visits")),
        ("POST", format!("{devices}/cut")),
        ("POST", format!("{devices}/retire")),
        ("POST", format!("{devices}/wipe")),
        ("POST", "/_accounts/ben/password".to_owned()),
        ("POST", "/_accounts/ben/retire".to_owned()),
        ("POST", "/_accounts/nobody/retire".to_owned()),
    ] {
        let answer = phone.send(&server, method, &path, (method == "POST").then(|| json!({})).as_ref());
        assert_eq!(answer.status, 404, "{method} {path} as a health worker: {}", answer.text());
    }
    let admin = server.admin();
    admin.post("/_accounts/ann/disable", &json!({"reason": "a mistake"})).expect(200);
    admin.post("/_accounts/ann/enable", &json!({"reason": "it was the wrong one"})).expect(200);
    log_in(&server, "ann", "anns-phone").get(&server, &format!("{DATABASE}/visit-ann")).expect(200);
    let audit = admin.get("/_audit?account=ann&action=account.disable,account.enable").expect(200).json();
    let reasons: Vec<(&Value, &Value)> =
        audit["entries"].as_array().into_iter().flatten().map(|entry| (&entry["by"], &entry["reason"])).collect();
    let by = json!("admin");
    assert_eq!(reasons, [(&by, &json!("a mistake")), (&by, &json!("it was the wrong one"))], "{audit}");
    admin.post(&format!("{devices}/retire"), &json!({})).expect(200);
    let lake = json!({"override": {"reason": "it fell into the lake"}});
    let wipe = format!("{devices}/wipe");
    assert_eq!(admin.post(&wipe, &lake).status, 202, "the first person only asks");
    assert_eq!(admin.post(&wipe, &lake).status, 409, "and cannot confirm");
    server.client_as("second", "another secret").post(&wipe, &lake).expect(200);
}

#[test]
fn t12_a_withdrawn_device_cannot_tell_what_exists() {
    let server = stage(TestServer::options());
    let phone = log_in(&server, "ann", "anns-phone");
    phone.pull(&server);
    let rev = |id: &str| server.admin().get(&format!("{DATABASE}/{id}")).expect(200).json()["_rev"].clone();
    let (own, foreign) = (rev("visit-ann"), rev("visit-ben"));
    server.admin().post("/_accounts/ann/retire", &json!({})).expect(200);
    let ids = ["visit-ann", "visit-ben", "visit-nil"];
    for (method, path, body) in [
        ("GET", "/ID", None),
        ("HEAD", "/ID", None),
        ("GET", "/ID?rev=1-aa", None),
        ("PUT", "/ID", Some(json!({"type": "data_record"}))),
        ("DELETE", "/ID?rev=1-aa", None),
        ("POST", "/_all_docs", Some(json!({"keys": ["ID"]}))),
        ("POST", "/_bulk_get", Some(json!({"docs": [{"id": "ID"}]}))),
        ("POST", "/_reconcile", Some(json!({"ids": ["ID"]}))),
        ("POST", "/_revs_diff", Some(json!({"ID": ["1-aa"]}))),
        ("GET", "/_changes?since=0&filter=_doc_ids&doc_ids=%5B%22ID%22%5D", None),
    ] {
        let answers = ids.map(|id| {
            let body =
                body.as_ref().map(|body| serde_json::from_str(&body.to_string().replace("ID", id)).expect("JSON"));
            let answer = phone.send(&server, method, &format!("{DATABASE}{}", path.replace("ID", id)), body.as_ref());
            (answer.status, answer.text().replace(id, "ID"))
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{method} {path}: {answers:?}");
    }
    // Only what it pulled itself is known to it, whoever else has revisions with a name it guesses.
    let asked = json!({"visit-ann": [own], "visit-ben": [foreign]});
    let diff = phone.send(&server, "POST", &format!("{DATABASE}/_revs_diff"), Some(&asked)).expect(200).json();
    assert_eq!(diff["visit-ben"]["missing"], json!([foreign]), "{diff}");
    let info = phone.get(&server, DATABASE).expect(200).json();
    assert_eq!((&info["doc_count"], info.to_string().contains(MARK)), (&json!(0), false), "{info}");
    let request = Request::new("GET", &format!("{DATABASE}/visit-ben"));
    assert_eq!(server.client_as("ann", &password("ann")).send(&request).status, 403, "Basic is no way around");
}
