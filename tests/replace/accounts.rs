//! Accounts over the API: made whole or not at all, listed, changed, deleted, and made again under the same name.

use serde_json::{Value, json};

use super::village::{DATABASE, PASSWORD, Village, text};
use crate::support::http::Request;

#[test]
fn an_account_is_made_with_its_place_its_contact_and_a_link() {
    let village = Village::start();
    let body = json!({
        "roles": ["chw"], "fullname": "Bea Ódine", "phone": "+256 700 000001", "locale": "sw", "external_id": "hr-17",
        "places": {"contact_type": "chw_area", "name": "Area three", "parent": "district"}, "contact": {"name": "Bea"},
    });
    let made = village.operator().post("/_accounts", &body).expect(201).json();
    let name = text(&made["name"]);
    let digits = name.strip_prefix("bea-dine-").or_else(|| name.strip_prefix("bea-ódine-")).unwrap_or_default();
    assert_eq!(digits.len(), 4, "{made}");
    let (place, contact) = (text(&made["place"]["id"]), text(&made["contact"]["id"]));
    let (place_document, contact_document) = (village.document(place), village.document(contact));
    assert_eq!(place_document["contact"]["_id"], json!(contact), "primary contact of the place that is new, too");
    assert_eq!((&place_document["type"], &place_document["parent"]), (&json!("contact"), &json!({"_id": "district"})));
    assert_eq!(contact_document["parent"], json!({"_id": place, "parent": {"_id": "district"}}));
    assert_eq!(contact_document["type"], json!("person"));
    let user = village.get(&format!("/_users/org.couchdb.user:{name}"));
    assert_eq!((&user["facility_id"], &user["contact_id"]), (&json!(place), &json!(contact)));
    assert!(user["derived_key"].is_null() && user["password_scheme"].is_null(), "{user}");
    let settings = village.document(&format!("org.couchdb.user:{name}"));
    assert_eq!((&settings["language"], &settings["roles"]), (&json!("sw"), &json!(["chw"])));

    let account = village.get(&format!("/_accounts/{name}"));
    assert_eq!((&account["password"], &account["state"]), (&json!(false), &json!("active")));
    assert_eq!((&account["link"]["works"], &account["link"]["used"]), (&json!(true), &json!(false)));
    assert!(!account.to_string().contains(text(&made["link"]["token"])), "the token is told once");
    let phone = village.phone_by_link(&made["link"], "bea-phone");
    assert!(phone.listed().is_superset(&[place, contact].map(str::to_owned).into()));
}

/// Every way to be refused leaves nothing behind.
#[test]
fn there_is_never_half_an_account() {
    let village = Village::with_ann();
    let before = village.state();
    let new_place = json!({"contact_type": "chw_area", "name": "New", "parent": "district"});
    let new_contact = json!({"name": "New"});
    let whole = json!({"name": "new", "roles": ["chw"], "places": new_place, "contact": new_contact});
    let with = |member: &str, value: Value| {
        let mut body = whole.clone();
        body[member] = value;
        body
    };
    for (status, body) in [
        (400, with("roles", json!([]))),
        (400, with("roles", json!(["_admin"]))),
        (400, with("name", json!("Not Plain"))),
        (400, with("name", json!("_system"))),
        (400, with("phone", json!(7))),
        (400, with("phone", json!("7".repeat(1001)))),
        (400, with("places", json!([new_place, new_place]))),
        (400, with("places", json!({"name": "without a type"}))),
        (400, with("places", json!([]))),
        (404, with("places", json!({"contact_type": "chw_area", "parent": "nowhere"}))),
        (404, with("places", json!(["area-1", "nowhere"]))),
        (404, with("contact", json!("nobody"))),
        (404, with("contact", json!("per-zoe"))),
        (400, with("contact", json!({"name": "x", "_attachments": {}}))),
        (409, with("contact", json!({"name": "x", "_id": "per-zoe"}))),
        (409, with("name", json!("ann"))),
        (409, with("name", json!("admin"))),
        (400, with("password", json!(7))),
        (404, with("database", json!("nowhere"))),
        (400, with("database", json!("_users"))),
    ] {
        let answer = village.operator().post("/_accounts", &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
        assert_eq!(village.state(), before, "{body}");
    }
    let tried = village.operator().post("/_accounts?dry_run=true", &whole).expect(200).json();
    assert_eq!((&tried["name"], tried.get("link")), (&json!("new"), None), "{tried}");
    assert_eq!(village.state(), before);
    village.operator().post("/_accounts", &whole).expect(201);
    assert_eq!(village.state().len(), before.len() + 4, "place, contact, settings, account");
}

#[test]
fn accounts_are_listed_by_place_role_state_and_text_in_pages() {
    let village = Village::with_ann();
    village.worker("zoe", "area-2", "per-zoe");
    for number in 0..7 {
        let body = json!({"name": format!("nurse-{number}"), "roles": ["nurse"], "places": ["district"], "fullname":
                          format!("Nurse Number {number}"), "external_id": format!("hr-{number}")});
        village.operator().post("/_accounts", &body).expect(201);
    }
    village.operator().post("/_accounts/zoe/disable", &json!({})).expect(200);
    let names = |query: &str| -> (Vec<String>, Value) {
        let answer = village.get(&format!("/_accounts?{query}"));
        let rows = answer["rows"].as_array().cloned().unwrap_or_default();
        (rows.iter().map(|row| text(&row["name"]).to_owned()).collect(), answer["next"].clone())
    };
    assert_eq!(names("place=area-1").0, ["ann"]);
    assert_eq!(names("role=chw").0, ["ann", "zoe"]);
    assert_eq!(names("role=chw&state=disabled").0, ["zoe"]);
    assert_eq!(names("text=NUMBER%203").0, ["nurse-3"]);
    assert_eq!(names("text=hr-6").0, ["nurse-6"]);
    let (first, next) = names("role=nurse&limit=4");
    assert_eq!((first.len(), &next), (4, &json!("nurse-3")));
    let (second, end) = names(&format!("role=nurse&limit=4&start_after={}", text(&next)));
    assert_eq!((second, end), (vec!["nurse-4".to_owned(), "nurse-5".to_owned(), "nurse-6".to_owned()], Value::Null));
    village.operator().get("/_accounts?limit=0").expect(400);
}

#[test]
fn a_change_reaches_the_account_its_settings_and_its_scope() {
    let village = Village::with_ann();
    let phone = village.phone("ann", "ann-phone");
    assert!(phone.listed().contains("hh-1"));
    let patch = |body: Value| village.operator().send(&Request::new("PATCH", "/_accounts/ann").json(&body));
    patch(json!({"places": ["area-2"], "contact": null, "phone": "123", "fullname": "Ann B."})).expect(200);
    let account = village.get("/_accounts/ann");
    assert_eq!((&account["places"], &account["contact"]), (&json!(["area-2"]), &Value::Null));
    assert_eq!(village.document("org.couchdb.user:ann")["phone"], json!("123"));
    assert!(!phone.listed().contains("hh-1"), "the same login sees the new scope");
    assert_eq!(phone.standing()["standing"], json!("active"), "a change of places ends nothing");
    patch(json!({"phone": null})).expect(200);
    assert_eq!(village.get("/_accounts/ann")["phone"], Value::Null);
    patch(json!({"contact": "per-ann"})).expect(404);
    patch(json!({"name": "other"})).expect(400);
    patch(json!({"password": "another-one-99"})).expect(200);
    assert_eq!(phone.standing()["standing"], json!("draining"));
    village.operator().send(&Request::new("PATCH", "/_accounts/nobody").json(&json!({"phone": "1"}))).expect(404);
}

#[test]
fn a_deleted_name_can_be_used_again_at_once() {
    let village = Village::with_ann();
    let old = village.phone("ann", "ann-phone");
    village.operator().delete("/_accounts/ann").expect(200);
    village.operator().get("/_accounts/ann").expect(404);
    village.operator().delete("/_accounts/ann").expect(404);
    assert_eq!(old.standing()["cause"], json!("account_deleted"));
    old.push(&super::village::report("late", "pat-1", "per-ann")).expect(201);
    village.worker("ann", "area-2", "per-zoe");
    assert_eq!(
        old.send("GET", &format!("/{DATABASE}/hh-1"), None).status,
        403,
        "the old login is not the new account's"
    );
    let new = village.phone("ann", "other-phone");
    assert!(new.listed().contains("area-2") && !new.listed().contains("hh-1"));
    // An account without a password ends its logins, too.
    let body = json!({"name": "bea", "roles": ["chw"], "places": ["area-1"]});
    let made = village.operator().post("/_accounts", &body).expect(201).json();
    let bea = village.phone_by_link(&made["link"], "bea-phone");
    village.operator().delete("/_accounts/bea").expect(200);
    assert_eq!(bea.standing()["cause"], json!("account_deleted"));
    let again = village.operator().send(&Request::new("PUT", "/_accounts/bea").json(&body));
    assert_eq!(again.status, 201, "{}", again.text());
    assert_eq!(bea.standing()["standing"], json!("draining"));
}

/// An administrator of the accounts of one area: its accounts and holders, and nothing else.
#[test]
fn an_administrator_of_an_area_manages_it_and_knows_of_nothing_else() {
    let village = Village::with_ann();
    village.worker("zoe", "area-2", "per-zoe");
    let boss = json!({"name": "boss", "password": PASSWORD, "roles": ["account_admin"], "places": ["area-1"]});
    village.operator().post("/_accounts", &boss).expect(201);
    let high = json!({"name": "high", "password": PASSWORD, "roles": ["steward"], "places": ["area-1"]});
    village.operator().post("/_accounts", &high).expect(201);
    let boss = village.phone("boss", "boss-desk");
    let outcome = |method: &str, path: &str, body: Value| {
        let answer = boss.send(method, path, Some(&body));
        (answer.status, text(&answer.json()["reason"]).to_owned())
    };
    let names = boss.send("GET", "/_accounts", None).expect(200).json();
    let names: Vec<&str> = names["rows"].as_array().into_iter().flatten().map(|row| text(&row["name"])).collect();
    assert_eq!(names, ["ann", "boss", "high"]);
    let before = village.state();
    for name in ["zoe", "nobody"] {
        let path = format!("/_accounts/{name}");
        for (method, path) in
            [("GET", path.clone()), ("PATCH", path.clone()), ("DELETE", path.clone()), ("POST", path + "/link")]
        {
            assert_eq!(outcome(method, &path, json!({})), (404, "missing".into()), "{method} {path}");
        }
    }
    assert_eq!(outcome("POST", "/_accounts/high/link", json!({})).0, 404, "nobody manages those who may do more");
    let account = |roles: Value, places: Value| json!({"name": "new", "roles": roles, "places": places});
    for (body, status) in [
        (account(json!(["steward"]), json!(["area-1"])), 403),
        (account(json!(["auditor"]), json!(["area-1"])), 403),
        (account(json!(["chw"]), json!([])), 403),
        (account(json!(["chw"]), json!({"type": "clinic", "name": "x"})), 403),
        (account(json!(["chw"]), json!({"type": "clinic", "name": "x", "parent": "district"})), 404),
        (json!({"name": "new", "roles": ["chw"], "places": ["area-1"], "contact": {"name": "x", "_id": "pat-1"}}), 400),
    ] {
        assert_eq!(outcome("POST", "/_accounts", body.clone()).0, status, "{body}");
    }
    for (absent, elsewhere) in [
        (account(json!(["chw"]), json!(["nowhere"])), account(json!(["chw"]), json!(["area-2"]))),
        (
            json!({"name": "new", "roles": ["chw"], "places": ["area-1"], "contact": "nobody"}),
            json!({"name": "new", "roles": ["chw"], "places": ["area-1"], "contact": "per-zoe"}),
        ),
    ] {
        let (one, other) = (outcome("POST", "/_accounts", absent), outcome("POST", "/_accounts", elsewhere));
        assert_eq!((one.0, other.0), (404, 404));
        assert_eq!(one.1.replace("nowhere", "area-2").replace("nobody", "per-zoe"), other.1);
    }
    for act in ["replace", "rename_holder", "hand_over", "undo_replace"] {
        let body = json!({"name": "x", "contact": {"name": "x"}});
        let [absent, elsewhere] =
            ["nowhere", "area-2"].map(|place| outcome("POST", &format!("/medic/_places/{place}/{act}"), body.clone()));
        assert_eq!((absent.0, absent.1.replace("nowhere", "area-2")), elsewhere, "{act}");
    }
    assert_eq!(village.state(), before);
    boss.send("GET", "/medic/_custody/area-1", None).expect(200);
    for elsewhere in ["area-2", "hh-1", "pat-1", "visit-1", "nowhere"] {
        assert_eq!(boss.send("GET", &format!("/medic/_custody/{elsewhere}"), None).status, 404, "{elsewhere}");
    }
    // What is its own.
    assert_eq!(outcome("PATCH", "/_accounts/ann", json!({"phone": "1"})).0, 200);
    assert_eq!(outcome("PATCH", "/_accounts/ann", json!({"places": ["area-2"]})).0, 404);
    boss.send("POST", "/_accounts", Some(&account(json!(["chw"]), json!(["hh-1"])))).expect(201);
    let body = json!({"contact": {"name": "Bea"}, "account": {"name": "bea"}});
    boss.send("POST", "/medic/_places/area-1/replace", Some(&body)).expect(200);
    boss.send("POST", "/medic/_places/area-1/undo_replace", Some(&json!({}))).expect(200);
}

#[test]
fn others_are_told_that_there_is_nothing() {
    let village = Village::with_ann();
    village
        .operator()
        .post("/_accounts", &json!({"name": "stu", "password": PASSWORD, "roles": ["steward"]}))
        .expect(201);
    let (ann, steward) = (village.phone("ann", "ann-phone"), village.phone("stu", "stu-desk"));
    for (method, path) in [
        ("GET", "/_accounts"),
        ("POST", "/_accounts"),
        ("GET", "/_accounts/ann"),
        ("GET", "/_accounts/nobody"),
        ("PATCH", "/_accounts/ann"),
        ("PUT", "/_accounts/new"),
        ("DELETE", "/_accounts/ann"),
        ("POST", "/_accounts/ann/link"),
        ("POST", "/medic/_places/area-1/replace"),
        ("POST", "/medic/_places/area-1/rename_holder"),
        ("POST", "/medic/_places/area-1/hand_over"),
        ("POST", "/medic/_places/area-1/undo_replace"),
    ] {
        for phone in [&ann, &steward] {
            let answer = phone.send(method, path, Some(&json!({})));
            assert_eq!(
                (answer.status, text(&answer.json()["reason"])),
                (404, "missing"),
                "{method} {path} {}",
                phone.name
            );
        }
    }
    let of_absent = ann.send("GET", "/medic/_custody/nowhere", None);
    let of_own = ann.send("GET", "/medic/_custody/area-1", None);
    assert_eq!((of_absent.status, of_absent.text()), (404, of_own.text()));
    steward.send("GET", "/medic/_custody/area-1", None).expect(200);
}
