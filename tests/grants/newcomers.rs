//! A nurse from elsewhere covers an area for a while. She has no account: the grant makes one, and ends it.

#![expect(clippy::disallowed_methods, reason = "a grant must end by itself")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{District, PASSWORD, seconds_from_now};
use crate::support::http::{Request, Response};

impl District {
    fn share(&self, by: &str, to: Value, changes: Value) -> Response {
        let mut body = json!({"to": to, "database": "area", "place": "area-b", "depth": 1, "reason": "two weeks off",
            "until": seconds_from_now(3600)});
        for (name, value) in changes.as_object().expect("an object") {
            body[name] = value.clone();
        }
        self.of(by).post("/_grants", &body)
    }

    /// Logs in with the link of an answer. Gives the cookie.
    fn enter(&self, answer: &Value) -> Result<String, u16> {
        let body = json!({"link": answer["link"]["token"], "device": {"id": "phone-of-nia"}});
        let entered = self.server.anonymous().send(&Request::new("POST", "/_session").json(&body));
        entered.cookie().ok_or(entered.status)
    }

    fn read(&self, cookie: &str, path: &str) -> Response {
        self.server.anonymous().send(&Request::new("GET", path).header("Cookie", cookie))
    }
}

fn nia() -> Value {
    json!({"fullname": "Nia", "phone": "+256 700 000009"})
}

#[test]
fn somebody_without_an_account_gets_one_with_a_link_and_loses_it_with_the_grant() {
    let district = District::start();
    let made = district.share("bob", nia(), json!({"rights": "write"})).expect(201).json();
    let name = made["grant"]["to"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("nia-"), "{made}");
    assert_eq!(made["grant"]["made_account"], json!(true));
    let account = district.server.admin().get(&format!("/_accounts/{name}")).expect(200).json();
    assert_eq!(
        (&account["roles"], &account["places"], &account["password"]),
        (&json!(["chw"]), &json!([]), &json!(false))
    );
    let cookie = district.enter(&made).expect("logged in");
    assert_eq!(district.read(&cookie, "/area/hh-b").status, 200);
    assert_eq!(district.read(&cookie, "/area/area-a").status, 404, "nothing but what was lent");
    let anonymous = district.server.anonymous();
    let household = json!({"type": "clinic", "parent": {"_id": "area-b"}});
    let put = Request::new("PUT", "/area/hh-new").json(&household).header("Cookie", &cookie);
    anonymous.send(&put).expect(201);
    let pulled = district.read(&cookie, "/area/_changes").expect(200).text();
    assert!(pulled.contains("\"hh-new\""), "{pulled}");
    let id = made["grant"]["id"].as_str().expect("an id");
    district.of("bob").post(&format!("/_grants/{id}/revoke"), &json!({})).expect(200);
    let reason = district.read(&cookie, "/area/hh-b").expect(403).json();
    assert_eq!(reason["reason"], json!("draining"), "{reason}");
    let account = district.server.admin().get(&format!("/_accounts/{name}")).expect(200).json();
    assert_eq!(account["state"], json!("retired"));
    // What she wrote before still arrives.
    let late = json!({"new_edits": false, "docs": [{"_id": "hh-late", "_rev": "1-00000000000000000000000000000001",
        "_revisions": {"start": 1, "ids": ["00000000000000000000000000000001"]}, "type": "clinic", "parent": {"_id": "area-b"}}]});
    anonymous.send(&Request::new("POST", "/area/_bulk_docs").json(&late).header("Cookie", &cookie)).expect(201);
    district.server.admin().get("/area/hh-late").expect(200);
}

#[test]
fn the_account_ends_when_its_time_is_over_and_so_does_a_link_that_nobody_used() {
    let district = District::start();
    let made = district.share("bob", nia(), json!({"until": seconds_from_now(2)})).expect(201).json();
    let expires = made["link"]["expires"].as_u64().expect("a time");
    assert!(expires <= made["grant"]["until"].as_u64().expect("a time"), "{made}");
    let name = made["grant"]["to"].as_str().expect("a name");
    let state = || district.server.admin().get(&format!("/_accounts/{name}")).expect(200).json()["state"].clone();
    let patience = Instant::now() + Duration::from_secs(30);
    while state() != json!("retired") {
        assert!(Instant::now() < patience, "the account outlives its grant");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(district.enter(&made), Err(401));
}

#[test]
fn an_account_that_was_taken_on_stays() {
    let district = District::start();
    let made = district.share("bob", nia(), json!({})).expect(201).json();
    let (id, name) = (made["grant"]["id"].as_str().expect("an id"), made["grant"]["to"].as_str().expect("a name"));
    let change = Request::new("PATCH", &format!("/_accounts/{name}")).json(&json!({"places": ["area-a"]}));
    district.server.admin().send(&change).expect(200);
    district.of("bob").post(&format!("/_grants/{id}/revoke"), &json!({})).expect(200);
    let account = district.server.admin().get(&format!("/_accounts/{name}")).expect(200).json();
    assert_eq!(account["state"], json!("active"));
}

#[test]
fn nobody_shares_more_than_they_hold_or_gives_roles_that_they_lack() {
    let district = District::start();
    let before = district.server.admin().get("/_accounts").expect(200).json();
    let elsewhere = district.share("bob", nia(), json!({"place": "area-a"})).expect(404).text();
    assert_eq!(
        district.share("bob", nia(), json!({"place": "nowhere"})).expect(404).text().replace("nowhere", "area-a"),
        elsewhere
    );
    let with = |member: &str, value: Value| {
        let mut to = nia();
        to[member] = value;
        to
    };
    for (by, to, status) in [
        ("bob", with("roles", json!(["account_admin"])), 403),
        ("bob", with("roles", json!(["steward"])), 403),
        ("bob", with("roles", json!(["nurse"])), 403),
        ("bob", with("name", json!("ann")), 409),
        ("bob", with("password", json!(PASSWORD)), 400),
        ("bob", with("places", json!(["area-b"])), 400),
        ("bob", with("contact", json!("p-b")), 400),
        ("meg", with("roles", json!(["steward"])), 403),
        ("meg", nia(), 400),
        ("ann", nia(), 404),
    ] {
        let answer = district.share(by, to.clone(), json!({}));
        assert_eq!(answer.status, status, "{by} {to}: {}", answer.text());
    }
    assert_eq!(district.server.admin().get("/_accounts").expect(200).json(), before, "nothing was made");
    district.share("meg", with("roles", json!(["chw"])), json!({})).expect(201);
    let tried = district
        .of("bob")
        .post(
            "/_grants?dry_run=true",
            &json!({"to": nia(), "database": "area", "place": "area-b", "depth": 1,
        "reason": "r", "until": seconds_from_now(60)}),
        )
        .expect(200)
        .json();
    assert_eq!(tried["link"], Value::Null);
}

#[test]
fn one_who_manages_nobody_makes_only_a_few_accounts() {
    let district = District::start();
    for number in 0..20 {
        district.share("bob", json!({"fullname": format!("Guest {number}")}), json!({})).expect(201);
    }
    let refused = district.share("bob", nia(), json!({})).expect(403).json();
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("20 people")), "{refused}");
}
