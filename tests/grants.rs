//! Places that are lent for a while, and administrators of accounts who see no document (`docs/accounts.md`). `newcomers` is about
//! people who get an account by a grant.

mod newcomers;

use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::http::Client;
use crate::support::server::TestServer;

const PASSWORD: &str = "a long enough secret";

fn seconds_from_now(seconds: u64) -> u64 {
    UNIX_EPOCH.elapsed().expect("after 1970").as_secs() + seconds
}

/// Two areas; `bob` holds the one with a household and a person in it, `ann` the other, `meg` manages accounts of the first.
struct District {
    server: TestServer,
}

impl District {
    fn start() -> Self {
        let server = TestServer::start();
        let admin = server.admin();
        admin.put("/area?scoped=true", &json!({})).expect(201);
        let members = json!({"members": {"roles": ["chw", "account_admin"]}, "admins": {"roles": ["_admin"]}});
        admin.put("/area/_security", &members).expect(200);
        let depth = json!([{"role": "chw", "depth": 2}]);
        let documents = json!([
            {"_id": "settings", "settings": {"replication_depth": depth}},
            {"_id": "area-a", "type": "health_center"},
            {"_id": "area-b", "type": "health_center"},
            {"_id": "hh-b", "type": "clinic", "parent": {"_id": "area-b"}},
            {"_id": "p-b", "type": "person", "parent": {"_id": "hh-b"}},
        ]);
        admin.post("/area/_bulk_docs", &json!({"docs": documents})).expect(201);
        for (name, place, role) in
            [("ann", "area-a", "chw"), ("bob", "area-b", "chw"), ("meg", "area-b", "account_admin")]
        {
            let id = format!("org.couchdb.user:{name}");
            let user = json!({"_id": id, "name": name, "type": "user", "roles": [role], "password": PASSWORD,
                "facility_id": place});
            admin.put(&format!("/_users/{id}"), &user).expect(201);
        }
        Self { server }
    }

    fn of(&self, name: &str) -> Client {
        self.server.client_as(name, PASSWORD)
    }

    fn grant(&self, by: &str, changes: Value) -> (u16, Value) {
        let mut body = json!({"to": "ann", "database": "area", "place": "area-b", "depth": 1, "reason": "two weeks off",
            "until": seconds_from_now(3600)});
        for (name, value) in changes.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let answer = self.of(by).post("/_grants", &body);
        (answer.status, answer.json())
    }
}

#[test]
fn a_colleague_covers_an_area_to_read_and_loses_it() {
    let district = District::start();
    let (ann, bob) = (district.of("ann"), district.of("bob"));
    assert_eq!(ann.get("/area/hh-b").status, 404);
    let (status, made) = district.grant("bob", json!({}));
    assert_eq!(status, 201, "{made}");
    assert_eq!((ann.get("/area/hh-b").status, ann.get("/area/p-b").status), (200, 404), "down to depth 1");
    let household = json!({"type": "clinic", "parent": {"_id": "area-b"}});
    assert_eq!(ann.put("/area/hh-new", &household).status, 403, "within the depth, but to read only");
    let fed = ann.get("/area/_changes?lost=true").expect(200).json();
    assert!(fed["results"].to_string().contains("\"hh-b\""), "{fed}");
    let id = made["grant"]["id"].as_str().expect("an id").to_owned();
    let listed = ann.get("/_grants").expect(200).json();
    assert_eq!((&listed["grants"][0]["id"], &listed["grants"][0]["state"]), (&json!(id), &json!("active")));
    bob.post(&format!("/_grants/{id}/revoke"), &json!({"reason": "back"})).expect(200);
    assert_eq!(ann.get("/area/hh-b").status, 404);
    let since = fed["last_seq"].as_str().expect("a token");
    let lost = ann.get(&format!("/area/_changes?lost=true&since={since}")).expect(200).json();
    let lost: Vec<&Value> =
        lost["results"].as_array().expect("rows").iter().filter(|row| row["lost"] == true).collect();
    assert!(lost.iter().any(|row| row["id"] == "hh-b"), "{lost:?}");
}

#[test]
fn a_grant_to_write_lets_write_and_ends_by_itself() {
    let district = District::start();
    let ann = district.of("ann");
    let (status, made) = district.grant("bob", json!({"rights": "write", "until": seconds_from_now(4)}));
    assert_eq!(status, 201, "{made}");
    let household = json!({"type": "clinic", "parent": {"_id": "area-b"}});
    ann.put("/area/hh-new", &household).expect(201);
    let patience = Instant::now() + Duration::from_secs(30);
    while ann.get("/area/hh-b").status == 200 {
        assert!(Instant::now() < patience, "the grant does not end");
        std::thread::park_timeout(Duration::from_millis(200));
    }
    assert_eq!(district.of("bob").get("/area/hh-new").status, 200, "what was written stays");
    assert_eq!(district.of("bob").get("/_grants").json()["grants"][0]["state"], "ended");
}

#[test]
fn nobody_grants_more_than_they_hold() {
    let district = District::start();
    for (by, changes, status) in [
        ("ann", json!({"to": "bob"}), 404),                 // a place that she does not hold
        ("bob", json!({"place": "nowhere"}), 404),          // in the same words
        ("bob", json!({"depth": 3}), 403),                  // he sees down to 2
        ("bob", json!({"depth": null}), 403),               // all is more than 2
        ("bob", json!({"place": "hh-b", "depth": 2}), 403), // which is depth 3 of his place
        ("bob", json!({"to": "bob"}), 400),
        ("bob", json!({"until": 5}), 400),
        ("bob", json!({"to": "nobody"}), 404),
    ] {
        let (got, said) = district.grant(by, changes.clone());
        assert_eq!(got, status, "{by} {changes}: {said}");
    }
    // What was granted cannot be granted on.
    assert_eq!(district.grant("bob", json!({})).0, 201);
    assert_eq!(district.grant("ann", json!({"to": "meg"})).0, 404);
    // A granter who loses the place takes the grant along.
    let admin = district.server.admin();
    admin.post("/_accounts/bob/disable", &json!({})).expect(200);
    let patience = Instant::now() + Duration::from_secs(60);
    while district.of("ann").get("/area/hh-b").status == 200 {
        assert!(Instant::now() < patience, "the grant outlives its granter's rights");
        std::thread::park_timeout(Duration::from_millis(500));
    }
}

#[test]
fn an_administrator_of_accounts_manages_an_area_and_reads_nothing_in_it() {
    let district = District::start();
    let meg = district.of("meg");
    for id in ["area-b", "hh-b", "p-b"] {
        assert_eq!(meg.get(&format!("/area/{id}")).status, 404, "{id}");
    }
    assert_eq!(meg.get("/area/_all_docs").expect(200).json()["rows"].to_string().matches("hh-b").count(), 0);
    assert_eq!((meg.get("/_accounts/bob").status, meg.get("/_accounts/ann").status), (200, 404));
    let steward =
        meg.send(&crate::support::http::Request::new("PATCH", "/_accounts/bob").json(&json!({"roles": ["steward"]})));
    assert_eq!(steward.status, 403, "{}", steward.text());
    assert_eq!(meg.post("/_accounts/ann/disable", &json!({})).status, 404);
    meg.post("/_accounts/bob/disable", &json!({"reason": "on leave"})).expect(200);
    assert_eq!(district.of("bob").get("/area/hh-b").status, 403, "draining");
    assert_eq!(district.of("ann").get("/_accounts/bob").status, 404, "for others there are no accounts");
}
