//! `POST /_accounts/_bulk`: a result for each row, the same file as often as one likes, never half an account, and everybody within
//! their own places.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::village::{DATABASE, PASSWORD, Village, text};
use crate::support::http::{Client, Request, Response};

pub(super) const FILE: &str = "username,external_id,roles,place.name,place.contact_type,place.parent,contact.name,phone,note:excluded\n\
    bea,hr-1,chw,River,chw_area,district,Bea,+256 1,x\n\
    ,hr-2,chw,\"Hill, upper\",chw_area,district,\"Cy \"\"the tall\"\"\",+256 2,\"two\nlines\"\n";

pub(super) fn send(client: &Client, query: &str, file: impl Into<Vec<u8>>) -> Response {
    let path = format!("/_accounts/_bulk{query}");
    client.send(&Request::new("POST", &path).header("Content-Type", "text/csv; charset=utf-8").body(file))
}

pub(super) fn rows(answer: &Value) -> &[Value] {
    answer["rows"].as_array().expect("rows")
}

pub(super) fn statuses(answer: &Value) -> Vec<&str> {
    rows(answer).iter().map(|row| text(&row["status"])).collect()
}

impl Village {
    /// Sends a file as the operator; it is taken.
    #[track_caller]
    pub(super) fn bulk(&self, query: &str, file: impl Into<Vec<u8>>) -> Value {
        send(&self.operator(), query, file).expect(200).json()
    }
}

#[test]
fn rows_become_accounts_with_places_contacts_and_links() {
    let village = Village::start();
    let before = village.state();
    let tried = village.bulk("?dry_run=true", FILE);
    assert_eq!((statuses(&tried), &tried["dry_run"]), (vec!["created"; 2], &json!(true)));
    assert!(rows(&tried).iter().all(|row| row.get("link").is_none() && row.get("place").is_none()), "{tried}");
    assert_eq!(village.state(), before);
    let answer = village.bulk("", FILE);
    assert_eq!((statuses(&answer), &answer["counts"]["created"]), (vec!["created"; 2], &json!(2)));
    assert_eq!(village.state().len(), before.len() + 8, "place, contact, settings, account of each");
    let [bea, cy] = rows(&answer) else { panic!("two rows: {answer}") };
    assert_eq!((&bea["name"], &bea["line"], &cy["line"]), (&json!("bea"), &json!(2), &json!(3)));
    assert!(text(&cy["name"]).starts_with("cy-the-tall-"), "{cy}");
    let place = village.document(text(&cy["place"]));
    assert_eq!((&place["name"], &place["contact"]["_id"]), (&json!("Hill, upper"), &cy["contact"]));
    assert_eq!(village.document(text(&cy["contact"]))["name"], json!("Cy \"the tall\""));
    for row in [bea, cy] {
        let account = village.get(&format!("/_accounts/{}", text(&row["name"])));
        assert_eq!((&account["state"], &account["external_id"]), (&json!("prepared"), &row["external_id"]));
        let phone = village.phone_by_link(&row["link"], "its-phone");
        assert!(phone.listed().contains(text(&row["place"])));
    }
}

#[test]
fn the_same_file_does_nothing_twice_and_another_changes_what_it_says() {
    let village = Village::start();
    let first = village.bulk("", FILE);
    let before = village.state();
    let again = village.bulk("", FILE);
    assert_eq!((statuses(&again), village.state()), (vec!["exists"; 2], before.clone()));
    for (one, other) in rows(&first).iter().zip(rows(&again)) {
        assert_eq!((&one["name"], &one["place"]), (&other["name"], &other["place"]));
        assert!(other.get("link").is_none(), "links are made with accounts, not with files: {other}");
    }
    let links = rows(&first).iter().map(|row| text(&row["link"]["token"])).collect::<BTreeSet<_>>();
    assert_eq!(links.len(), 2);
    village.phone_by_link(&rows(&first)[0]["link"], "bea-phone");
    let change = "username,external_id,roles,phone,place,contact_id\nbea,,\"nurse,chw\",+256 1,,\n,hr-2,chw,+256 22,area-2,per-zoe\n";
    let tried = village.bulk("?dry_run=true", change);
    assert_eq!(
        (statuses(&tried), village.get("/_accounts/bea")["roles"].clone()),
        (vec!["changed"; 2], json!(["chw"]))
    );
    assert_eq!(statuses(&village.bulk("", change)), ["changed", "changed"]);
    assert_eq!(statuses(&village.bulk("", change)), ["exists", "exists"]);
    assert_eq!(village.get("/_accounts/bea")["roles"], json!(["nurse", "chw"]));
    let cy = village.get(&format!("/_accounts/{}", text(&rows(&first)[1]["name"])));
    assert_eq!(
        (&cy["phone"], &cy["places"], &cy["state"]),
        (&json!("+256 22"), &json!(["area-2"]), &json!("prepared"))
    );
    let same_order = village.bulk("", "username,roles\nbea,\"chw,nurse\"\n");
    assert_eq!(statuses(&same_order), ["exists"], "roles have no order");
}

#[test]
fn a_row_that_is_refused_keeps_no_other_back_and_leaves_nothing() {
    let village = Village::with_ann();
    let before = village.state();
    let file = "username,external_id,roles,place,place.contact_type,place.name,place.parent,contact.name,contact\n\
        good-1,,chw,area-1,,,,One,\n\
        Bad Name,,chw,area-1,,,,Two,\n\
        norole,,,area-1,,,,Three,\n\
        lost,,chw,area-9,,,,Four,\n\
        stranger,,chw,area-1,,,,,per-zoe\n\
        admin,,chw,area-1,,,,Six,\n\
        reserved,,_admin,area-1,,,,Seven,\n\
        good-2,,chw,area-2,,,,Eight,\n";
    // A column of text and its members cannot both be there.
    send(&village.operator(), "", file).expect(400);
    assert_eq!(village.state(), before);
    let file = file.replace(",place.contact_type,place.name,place.parent", "").replace(",,,,One", ",One");
    let file = file.replace(",,,,", ",").replace(",contact\n", ",contact_id\n").replace("contact.name", "fullname");
    let answer = village.bulk("", file.as_str());
    let expected = ["created", "refused", "refused", "refused", "refused", "refused", "refused", "created"];
    assert_eq!(statuses(&answer), expected, "{answer}");
    for (row, words) in rows(&answer)[1..7].iter().zip(["`name`", "`roles`", "area-9", "per-zoe", "operator", "_admin"])
    {
        assert!(text(&row["reason"]).contains(words), "{row}");
    }
    assert_eq!(village.state().len(), before.len() + 4, "settings and account of two");
    assert_eq!(answer["counts"], json!({"created": 2, "exists": 0, "changed": 0, "refused": 6, "skipped": 0}));
    // Refused when place and person were made already: they go with it.
    let before = village.state();
    let long = "x".repeat(1_001);
    let late = village.bulk(
        "",
        format!(
            "username,roles,place.name,place.contact_type,place.parent,contact.name,fullname\n\
        late,chw,Lake,chw_area,district,Late,{long}\n"
        ),
    );
    assert_eq!((statuses(&late), village.state()), (vec!["refused"], before), "{late}");
}

#[test]
fn places_made_above_are_named_below_also_when_the_file_comes_again() {
    let village = Village::start();
    let file = "external_id,roles,place.name,place.external_id,place.contact_type,place.parent,contact.name,place_of:excluded\n\
        s-1,supervisor,Centre,F-1,health_center,district,Sue,\n\
        w-1,chw,Village one,,chw_area,Centre,Wim,\n\
        w-2,chw,Village two,,chw_area,F-1,Wam,\n\
        w-3,chw,Nowhere,,chw_area,Missing,Wom,\n";
    let answer = village.bulk("", file);
    assert_eq!(statuses(&answer), ["created", "created", "created", "refused"], "{answer}");
    let centre = rows(&answer)[0]["place"].clone();
    for row in &rows(&answer)[1..3] {
        assert_eq!(village.document(text(&row["place"]))["parent"]["_id"], centre, "{row}");
    }
    let helpers = "external_id,roles,fullname,place.name,place.external_id,place.contact_type,place.parent,facility_id:excluded\n\
        s-1,supervisor,,Centre,F-1,health_center,district,\n";
    let more = format!("{helpers}w-4,chw,,Village four,,chw_area,Centre,\n");
    let again = village.bulk("", more.as_str());
    assert_eq!(statuses(&again), ["exists", "created"], "{again}");
    assert_eq!(village.document(text(&rows(&again)[1]["place"]))["parent"]["_id"], centre);
    // The account's place is another now: the name does not lead there.
    let sue = text(&rows(&answer)[0]["name"]);
    let moved = json!({"places": ["area-1"], "contact": null});
    village.operator().send(&Request::new("PATCH", &format!("/_accounts/{sue}")).json(&moved)).expect(200);
    let third = village.bulk("", format!("{helpers}w-5,chw,,Village five,,chw_area,Centre,\n"));
    assert_eq!(statuses(&third), ["exists", "refused"], "{third}");
    // A second worker of a place: their column of ids names it.
    let two = "external_id,roles,place.name,place.contact_type,place.parent,facility_id,contact.name\n\
        t-1,chw,Meadow,chw_area,district,,Tim\nt-2,chw,,,,Meadow,Tom\n";
    let answer = village.bulk("", two);
    assert_eq!(statuses(&answer), ["created", "created"], "{answer}");
    let held = village.get(&format!("/_accounts/{}", text(&rows(&answer)[1]["name"])))["places"].clone();
    assert_eq!(held, json!([rows(&answer)[0]["place"]]));
    // A column of ids may hold names as well.
    let json_rows = json!([
        {"external_id": "x-1", "roles": ["chw"], "place": {"name": "Island", "contact_type": "chw_area", "parent": "district"}},
        {"external_id": "x-2", "roles": ["chw"], "place": ["Island", "area-2"]},
    ]);
    let answer = village.operator().post("/_accounts/_bulk", &json_rows).expect(200).json();
    let both = village.get(&format!("/_accounts/{}", text(&rows(&answer)[1]["name"])))["places"].clone();
    assert_eq!(both, json!([rows(&answer)[0]["place"], "area-2"]));
}

#[test]
fn passwords_are_refused_unless_wanted_and_never_stored_in_clear() {
    let village = Village::start();
    let file = format!("username,roles,place,password\nbea,chw,area-1,{PASSWORD}\ncy,chw,area-1,short\n");
    let refused = send(&village.operator(), "", file.as_str()).expect(400).json();
    assert!(text(&refused["reason"]).contains("password") && !refused.to_string().contains(PASSWORD), "{refused}");
    send(&village.operator(), "?passwords=generate", file.as_str()).expect(400);
    send(&village.operator(), "?passwords=yes", file.as_str()).expect(400);
    village.server.set_config("chttpd_auth/min_password_characters", "8");
    let tried = village.bulk("?passwords=accept&dry_run=true", file.as_str());
    let statuses_of = |answer: &Value| statuses(answer).into_iter().map(str::to_owned).collect::<Vec<_>>();
    let answer = village.bulk("?passwords=accept", file.as_str());
    assert_eq!(statuses_of(&tried), statuses_of(&answer));
    assert_eq!(statuses(&answer), ["created", "refused"], "one is too short");
    assert!(!answer.to_string().contains(PASSWORD) && answer["rows"][0].get("link").is_none(), "{answer}");
    assert_eq!(village.get("/_accounts/bea")["state"], json!("active"), "whoever has a password needs no link");
    village.phone("bea", "bea-phone");
    let generated = village.bulk("?passwords=generate", "username,roles,place\ndi,chw,area-1\n");
    let password = text(&rows(&generated)[0]["password"]).to_owned();
    assert_eq!(password.len(), 19, "{generated}");
    let body = json!({"name": "di", "password": password, "device": {"id": "di-phone"}});
    assert!(village.log_in(&body).is_ok());
    let again = village.bulk("?passwords=generate", "username,roles,place\ndi,chw,area-1\n");
    assert_eq!((statuses(&again), rows(&again)[0].get("password")), (vec!["exists"], None), "{again}");
    assert!(village.log_in(&body).is_ok(), "a file that comes again changes no password");
    let stored =
        village.get("/_users/org.couchdb.user:di").to_string() + &village.get("/_audit?limit=1000").to_string();
    assert!(!stored.contains(&password), "{stored}");
}

#[test]
fn an_answer_that_was_lost_is_given_once_more() {
    let village = Village::start();
    let time = village.bulk("", "username,roles\n")["time"].as_u64().expect("a time");
    let first = village.bulk("", FILE);
    let with_password = "username,roles,place\ndi,chw,area-1\n";
    let old = village.bulk("?passwords=generate", with_password);
    village.phone_by_link(&rows(&first)[0]["link"], "bea-phone");
    let later = village.bulk(&format!("?again_since={}", time + 3_600), FILE);
    assert!(rows(&later).iter().all(|row| row.get("link").is_none()), "made before that time: {later}");
    let again = village.bulk(&format!("?again_since={time}"), FILE);
    assert_eq!(statuses(&again), ["exists", "exists"]);
    let [bea, cy] = rows(&again) else { panic!("two rows: {again}") };
    assert_eq!(bea.get("link"), None, "it was used");
    let earlier = json!({"link": rows(&first)[1]["link"]["token"], "device": {"id": "cy-phone"}});
    assert_eq!(village.log_in(&earlier).err().map(|answer| answer.status), Some(401), "it was ended");
    village.phone_by_link(&cy["link"], "cy-phone");
    let new = village.bulk(&format!("?passwords=generate&again_since={time}"), with_password);
    let login =
        |answer: &Value| json!({"name": "di", "password": rows(answer)[0]["password"], "device": {"id": "di-phone"}});
    assert!(village.log_in(&login(&new)).is_ok());
    let last = village.bulk(&format!("?passwords=generate&again_since={time}"), with_password);
    assert_eq!(rows(&last)[0].get("password"), None, "somebody has logged in: it stays");
    assert_ne!(rows(&old)[0]["password"], rows(&new)[0]["password"]);
}

#[test]
fn administrators_of_a_place_stay_within_it_row_by_row() {
    let village = Village::with_ann();
    village
        .operator()
        .put(&format!("/{DATABASE}/_security"), &json!({"members": {"roles": ["chw", "account_admin"]}}))
        .expect(200);
    let boss = json!({"name": "boss", "password": PASSWORD, "roles": ["account_admin"], "places": ["area-2"]});
    village.operator().post("/_accounts", &boss).expect(201);
    village
        .operator()
        .post("/_accounts", &json!({"name": "eve", "roles": ["chw"], "places": ["area-1"], "external_id": "hr-9"}))
        .expect(201);
    let boss = village.server.client_as("boss", PASSWORD);
    let before = village.state();
    let file = "username,external_id,roles,place,fullname\n\
        mine,hr-9,chw,area-2,Mine\n\
        other,,chw,area-1,Other\n\
        ann,,chw,area-2,Ann\n\
        power,,steward,area-2,Power\n\
        nowhere,,chw,area-77,Nowhere\n\
        eve,,chw,area-2,\n\
        mine-2,,chw,\"area-2,area-1\",\n";
    let answer = send(&boss, "", file).expect(200).json();
    let expected = ["created", "refused", "refused", "refused", "refused", "refused", "refused"];
    assert_eq!(statuses(&answer), expected, "an external id of elsewhere is not known there: {answer}");
    let reason = |at: usize, name: &str| text(&rows(&answer)[at]["reason"]).replace(name, "X");
    assert_eq!(reason(1, "area-1"), reason(4, "area-77"), "what is elsewhere is as good as absent");
    assert_eq!(village.state().len(), before.len() + 2);
    assert_eq!(village.get("/_accounts/ann")["places"], json!(["area-1"]));
    send(&village.server.client_as("ann", PASSWORD), "", file).expect(404);
    send(&village.server.anonymous(), "", file).expect(404);
    // Withdrawn in between: nothing more.
    village.operator().post("/_accounts/boss/disable", &json!({})).expect(200);
    send(&boss, "", "username,roles,place\nlast,chw,area-2\n").expect(403);
    assert_eq!(village.state().len(), before.len() + 2);
}

#[test]
fn limits_are_said() {
    let village = Village::start();
    let before = village.state();
    let many: String = (0..2_001).map(|row| format!("u{row},chw\n")).collect();
    let answer = send(&village.operator(), "", format!("username,roles\n{many}")).expect(413).json();
    assert!(text(&answer["reason"]).contains("2000"), "{answer}");
    send(&village.operator(), "", vec![b'x'; (16 << 20) + 1]).expect(413);
    let plain = Request::new("POST", "/_accounts/_bulk").header("Content-Type", "text/plain").body("username\n");
    village.operator().send(&plain).expect(415);
    for query in ["?dry_run=maybe", "?prepared=1", "?send=x", "?again_since=x", "?database=_users"] {
        send(&village.operator(), query, FILE).expect(400);
    }
    send(&village.operator(), "?database=none", FILE).expect(404);
    assert_eq!(village.state(), before);
    let sent = village.bulk("?send=true", FILE);
    assert_eq!(statuses(&sent), ["refused", "refused"], "there is no gateway: {sent}");
    assert_eq!(village.state(), before);
}

#[test]
fn deleted_accounts_come_back_under_their_name_and_retired_ones_are_left() {
    let village = Village::start();
    let file = "username,external_id,roles,place\nbea,hr-1,chw,area-1\n";
    let first = village.bulk("", file);
    let phone = village.phone_by_link(&rows(&first)[0]["link"], "bea-phone");
    village.operator().delete("/_accounts/bea").expect(200);
    let second = village.bulk("", file);
    assert_eq!(statuses(&second), ["created"]);
    assert_eq!(village.get("/_accounts/bea")["state"], json!("prepared"), "it waits for its person again");
    assert_eq!(phone.standing()["standing"], json!("draining"), "the phone of before may send");
    let pushed = phone.push(&super::village::report("visit-late", "pat-1", "per-ann"));
    assert_eq!(pushed.status, 201, "{}", pushed.text());
    assert_eq!(phone.send("GET", &format!("/{DATABASE}/hh-1"), None).status, 403);
    village.phone_by_link(&rows(&second)[0]["link"], "bea-phone");
    village.operator().post("/_accounts/bea/retire", &json!({})).expect(200);
    let third = village.bulk("", "username,external_id,roles,place\nbea,hr-1,nurse,area-2\n");
    assert_eq!(statuses(&third), ["exists"]);
    assert!(text(&rows(&third)[0]["reason"]).contains("retired"), "{third}");
    assert_eq!(village.get("/_accounts/bea")["roles"], json!(["chw"]));
}

#[test]
fn several_accounts_with_one_external_id_are_not_guessed() {
    let village = Village::with_ann();
    for name in ["one", "two"] {
        let body = json!({"name": name, "roles": ["chw"], "places": ["area-1"], "external_id": "hr-7"});
        village.operator().post("/_accounts", &body).expect(201);
    }
    let answer = village.bulk("", "external_id,username,roles,place\nhr-7,,nurse,area-1\nhr-8,ann,chw,area-1\n");
    assert_eq!(statuses(&answer), ["refused", "changed"], "{answer}");
    assert!(text(&rows(&answer)[0]["reason"]).contains("2 accounts"), "{answer}");
    assert_eq!(village.get("/_accounts/ann")["external_id"], json!("hr-8"), "an account without one gets it");
    let answer = village.bulk("", "external_id,username,roles,place\nhr-9,ann,chw,area-1\nhr-8,bob,chw,area-1\n");
    assert_eq!(statuses(&answer), ["refused", "refused"], "{answer}");
    village.operator().delete("/_accounts/two").expect(200);
    let answer = village.bulk("", "external_id,roles\nhr-7,nurse\n");
    assert_eq!((statuses(&answer), text(&rows(&answer)[0]["name"])), (vec!["changed"], "one"));
}
