//! The console over HTTP: every page, its headers, forms from elsewhere, names that try to be markup, and who sees nothing.
//!
//! `forms` sends every form about accounts, lent places and held back work; `practices` hands a place over in the three ways;
//! `roles` is about what auditors and administrators of accounts see. `tests/clients/console.test.mjs` looks at it in a browser.

mod forms;
mod practices;
mod roles;

use serde_json::{Value, json};

use crate::support::http::{Client, Request, Response};
use crate::support::server::TestServer;

const PASSWORD: &str = "tidal-copper-41";
const EVIL: &str = "<script>alert(1)</script>";

/// A browser: keeps cookies, follows nothing.
struct Browser {
    client: Client,
    cookies: Vec<(String, String)>,
    token: String,
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn form(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect::<Vec<_>>().join("&")
}

impl Browser {
    fn new(server: &TestServer) -> Self {
        Self { client: server.anonymous(), cookies: Vec::new(), token: String::new() }
    }

    fn logged_in(server: &TestServer, name: &str, password: &str) -> Self {
        let mut browser = Self::new(server);
        browser.get("/login").expect(200);
        browser.post("/login", &[("name", name), ("password", password)]).expect(303);
        browser
    }

    fn send(&mut self, request: Request) -> Response {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = self.client.send(&request.header("Cookie", &cookies.join("; ")));
        for (_, cookie) in answer.headers.iter().filter(|(name, _)| *name == "set-cookie") {
            let pair = cookie.split(';').next().expect("a cookie");
            let (name, value) = pair.split_once('=').expect("a pair");
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
        if let Some(token) = answer.text().split("name=\"token\" value=\"").nth(1) {
            token.split('"').next().expect("a token").clone_into(&mut self.token);
        }
        answer
    }

    fn get(&mut self, path: &str) -> Response {
        self.send(Request::new("GET", &format!("/_console{path}")))
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> Request {
        let request = Request::new("POST", &format!("/_console{path}"));
        request.header("Content-Type", "application/x-www-form-urlencoded").body(form(fields))
    }

    /// Sends a form without the token of the page, which is refused, and then with it.
    fn post_checked(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let token = self.token.clone();
        for wrong in [fields.to_vec(), [&[("token", "0123456789abcdef0123456789abcdef")], fields].concat()] {
            let refused = self.send(self.form(path, &wrong));
            assert!(refused.status == 403 && refused.text().contains("not sent from a page of this console"), "{path}");
        }
        self.token = token;
        self.post(path, fields)
    }

    fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let token = self.token.clone();
        let fields: Vec<_> = [("token", token.as_str())].into_iter().chain(fields.iter().copied()).collect();
        self.send(self.form(path, &fields))
    }
}

/// A district with an area of Ann, whose phone says that it holds work. Everything that has a name has a bad one.
fn district(with_patients: bool) -> TestServer {
    let server = TestServer::start();
    fill(&server, with_patients);
    server
}

fn fill(server: &TestServer, with_patients: bool) {
    let operator = server.admin();
    operator.put("/medic?scoped=true", &json!({})).expect(201);
    let security = json!({"members": {"roles": ["chw", "steward"]}, "admins": {"roles": ["_admin"]}});
    operator.put("/medic/_security", &security).expect(200);
    let mut docs = vec![
        json!({"_id": "district", "type": "district_hospital", "name": EVIL}),
        json!({"_id": "area-1", "type": "contact", "contact_type": "chw_area", "name": EVIL, "parent": {"_id": "district"},
               "contact": {"_id": "per-ann"}}),
        json!({"_id": "per-ann", "type": "person", "name": EVIL, "parent": {"_id": "area-1", "parent": {"_id": "district"}}}),
    ];
    if with_patients {
        let parent = json!({"_id": "area-1", "parent": {"_id": "district"}});
        docs.push(json!({"_id": "pat-1", "type": "person", "name": "Hush Patient", "parent": parent}));
        docs.push(json!({"_id": "hh-1", "type": "clinic", "name": "Hush Household", "parent": {"_id": "area-1"}}));
        docs.push(json!({"_id": "v-1", "type": "data_record", "form": "visit", "fields": {"patient_id": "pat-1"}}));
    }
    operator.post("/medic/_bulk_docs", &json!({"docs": docs})).expect(201);
    let account = |name: &str, role: &str, place: &str| json!({"name": name, "password": PASSWORD, "roles": [role], "places": [place], "fullname": EVIL});
    let mut ann = account("ann", "chw", "area-1");
    ann["contact"] = json!("per-ann");
    operator.post("/_accounts", &ann).expect(201);
    operator.post("/_accounts", &account("boss", "account_admin", "district")).expect(201);
}

/// A phone that Ann is logged in on.
struct Phone {
    client: Client,
    cookie: String,
    id: String,
}

impl Phone {
    fn of_ann(server: &TestServer) -> Self {
        let client = server.anonymous();
        let device = json!({"id": "ann-phone", "name": EVIL, "app": EVIL});
        let login = json!({"name": "ann", "password": PASSWORD, "device": device});
        let answer = client.send(&Request::new("POST", "/_session").json(&login)).expect(200);
        let id = answer.json()["device"]["id"].as_str().expect("an id").to_owned();
        Self { client, cookie: answer.cookie().expect("a cookie"), id }
    }

    fn send(&self, request: Request) -> Response {
        self.client.send(&request.header("Cookie", &self.cookie))
    }

    /// Sends a record about somebody, as PouchDB does.
    fn push(&self, id: &str, patient: &str) {
        let record = json!({"_id": id, "_rev": "1-a", "type": "data_record", "form": "visit", "fields": {"patient_id": patient}, "note": EVIL});
        let body = json!({"new_edits": false, "docs": [record]});
        self.send(Request::new("POST", "/medic/_bulk_docs").json(&body)).expect(201);
    }
}

/// Ann's phone; it says that it holds three documents, and one of its documents is held back. Gives its id.
fn phone_of_ann(server: &TestServer) -> String {
    let phone = Phone::of_ann(server);
    phone.send(Request::new("GET", "/medic/_changes")).expect(200);
    phone.send(Request::new("POST", "/_device").json(&json!({"pending": 3}))).expect(200);
    phone.push("held", "nobody");
    phone.id
}

/// A whole page: right headers, and nothing that came from outside is markup.
#[track_caller]
fn whole(answer: &Response) -> String {
    let text = answer.text();
    assert_eq!(answer.status, 200, "{text}");
    assert!(text.contains("</html>") && !text.contains("<script"), "{text}");
    checked_headers(answer);
    text
}

#[track_caller]
fn checked_headers(answer: &Response) {
    let policy = answer.header("content-security-policy").unwrap_or_default();
    for part in
        ["default-src 'none'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{policy}");
    }
    for (name, value) in [
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
}

#[test]
fn every_page_is_whole_and_shows_names_as_text() {
    let server = district(true);
    let device = phone_of_ann(&server);
    let mut browser = Browser::logged_in(&server, "admin", "secret");
    let device_page = format!("/devices/{device}");
    let exposure = format!("{device_page}/exposure?database=medic");
    let bad_query = format!("/devices?account={}&place=area-1&silent=7", escaped(EVIL));
    for path in [
        "",
        "/",
        "/devices",
        "/devices?place=area-1&pending=true",
        &bad_query,
        &device_page,
        &exposure,
        "/handover",
        "/handover?text=ann",
        "/handover/replace?place=area-1",
        "/handover/undo?place=area-1",
        "/accounts",
        "/accounts?state=active&text=ann",
        "/accounts/new",
        "/accounts/ann",
        "/accounts/ann/change",
        "/accounts/ann/retire",
        "/grants",
        "/grants/new?to=ann",
        "/escrow",
        "/escrow/1",
        "/audit",
        "/audit?action=account&from=2020-01-01",
        "/custody",
        "/custody?id=area-1&day=2020-01-01",
    ] {
        whole(&browser.get(path));
    }
    assert!(whole(&browser.get("/devices")).contains("&lt;script&gt;"), "the phone's name is there, as text");
    let style = browser.get("/style.css").expect(200);
    assert_eq!(style.header("content-type"), Some("text/css; charset=utf-8"));
    let export = browser.get("/audit/export?action=account").expect(200);
    assert!(export.text().lines().all(|line| serde_json::from_str::<Value>(line).is_ok()) && !export.text().is_empty());
    let elsewhere = browser.send(Request::new("GET", "/_utils")).expect(303);
    assert!(elsewhere.header("location").is_some_and(|to| to.ends_with("/_console/")));
}

#[test]
fn a_health_worker_is_replaced_from_login_to_link_and_it_is_taken_back() {
    let server = district(true);
    phone_of_ann(&server);
    let mut browser = Browser::logged_in(&server, "boss", PASSWORD);
    whole(&browser.get("/handover/replace?place=area-1"));
    let fields = [("place", "area-1"), ("database", "medic"), ("name", "Bea"), ("account", "bea"), ("reason", EVIL)];
    let refused = browser.post("/handover/replace", &[("place", "area-1"), ("reason", "x")]).expect(400).text();
    assert!(refused.contains("aria-invalid=\"true\" aria-describedby=\"name-wrong\""), "{refused}");
    let preview = whole(&browser.post("/handover/replace", &fields));
    assert!(preview.contains("<b>ann</b> is retired") && preview.contains("3 documents"), "{preview}");
    server.admin().get("/_accounts/bea").expect(404);
    let with_step = |step| fields.into_iter().chain([("step", step)]).collect::<Vec<_>>();
    assert!(whole(&browser.post("/handover/replace", &with_step("edit"))).contains("value=\"Bea\""));
    let done = whole(&browser.post("/handover/replace", &with_step("do"))).replace("&#x2f;", "/");
    let link = done.split("<code>").nth(1).and_then(|rest| rest.split("</code>").next()).expect("a link");
    let path = link.split_once("/_links/").map(|(_, token)| format!("/_links/{token}")).expect("a path");
    server.anonymous().send(&Request::new("GET", &path)).expect(200);
    assert_eq!(server.admin().get("/_accounts/ann").expect(200).json()["state"], "retired");
    whole(&browser.get("/handover/undo?place=area-1"));
    whole(&browser.post("/handover/undo", &[("place", "area-1"), ("reason", "a mistake")]));
    assert_eq!(server.admin().get("/_accounts/ann").expect(200).json()["state"], "active");
    let audit = server.admin().get("/_audit?action=place").expect(200).json();
    let by: Vec<&Value> = audit["entries"].as_array().into_iter().flatten().map(|entry| &entry["by"]).collect();
    assert_eq!(by, ["boss", "boss"]);
}

#[test]
fn a_lost_phone_is_cut_and_two_people_have_one_erased() {
    let server = district(false);
    let device = phone_of_ann(&server);
    let mut boss = Browser::logged_in(&server, "boss", PASSWORD);
    boss.get(&format!("/devices/{device}")).expect(200);
    let unsure = boss.post(&format!("/devices/{device}/cut"), &[("reason", "lost")]).expect(400).text();
    assert!(unsure.contains("Not done"), "{unsure}");
    let sure = [("reason", "lost"), ("sure", "true")];
    boss.post(&format!("/devices/{device}/cut"), &sure).expect(303);
    assert!(whole(&boss.get(&format!("/devices/{device}?done=cut"))).contains("Cut off"));
    boss.post(&format!("/devices/{device}/override"), &sure).expect(303);
    let mut operator = Browser::logged_in(&server, "admin", "secret");
    assert!(whole(&operator.get("")).contains("Waiting for a second person (1)"));
    boss.post(&format!("/devices/{device}/override"), &sure).expect(409);
    operator.post(&format!("/devices/{device}/override"), &sure).expect(303);
    let known = server.admin().get(&format!("/_devices/{device}")).expect(200).json();
    assert_eq!((&known["wipe"]["state"], &known["overridden_by"]), (&json!("ordered"), &json!(["boss", "admin"])));
}

#[test]
fn forms_from_elsewhere_change_nothing() {
    let server = district(false);
    let mut browser = Browser::logged_in(&server, "boss", PASSWORD);
    let mut other = Browser::logged_in(&server, "boss", PASSWORD);
    browser.get("/accounts/ann").expect(200);
    other.get("/accounts/ann").expect(200);
    let right = browser.token.clone();
    let fields = |token: &'static str| [("token", token), ("reason", "x")];
    let path = "/accounts/ann/disable";
    let with = |token: &str| [("token".to_owned(), token.to_owned()), ("reason".to_owned(), "x".to_owned())];
    let request = |browser: &Browser, token: &str| {
        let fields = with(token);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        browser.form(path, &fields)
    };
    for refused in [
        browser.form(path, &[("reason", "x")]),
        browser.form(path, &fields("0000")),
        request(&browser, &other.token),
        request(&browser, &right).header("Origin", "https://evil.example"),
        request(&browser, &right).header("Sec-Fetch-Site", "cross-site"),
        request(&browser, &right).header("Sec-Fetch-Site", "same-site"),
    ] {
        let answer = browser.send(refused).expect(403);
        checked_headers(&answer);
    }
    let json = Request::new("POST", "/_console/accounts/ann/disable").json(&json!({"reason": "x", "token": right}));
    browser.send(json).expect(415);
    // Without the console's own cookie, which no other site can make a browser send, the token is worth nothing.
    let session = browser.cookies.clone();
    browser.cookies.retain(|(name, _)| name == "AuthSession");
    let bare = browser.send(request(&browser, &right));
    assert_eq!(bare.status, 403);
    browser.cookies = session;
    browser.token.clone_from(&right);
    assert_eq!(server.admin().get("/_accounts/ann").expect(200).json()["state"], "active");
    browser
        .send(request(&browser, &right).header("Sec-Fetch-Site", "same-origin").header("Origin", "null"))
        .expect(303);
    assert_eq!(server.admin().get("/_accounts/ann").expect(200).json()["state"], "disabled");
    // A password alone, which browsers repeat by themselves, is no login here.
    let shown = server.admin().get("/_console/devices").expect(303);
    assert!(shown.header("location").is_some_and(|to| to.contains("/_console/login")));
    browser.post("/logout", &[]).expect(303);
    browser.get("/devices").expect(303);
}

#[test]
fn what_is_not_for_somebody_is_what_is_not_there() {
    let server = district(true);
    phone_of_ann(&server);
    let stripped = |browser: &mut Browser, path: &str| {
        let answer = browser.get(path);
        (answer.status, answer.text().replace(&browser.token, ""))
    };
    let mut ann = Browser::logged_in(&server, "ann", PASSWORD);
    let nowhere = stripped(&mut ann, "/nowhere");
    assert_eq!(nowhere.0, 404);
    let all = [
        "",
        "/devices",
        "/devices/00",
        "/handover",
        "/handover/replace?place=area-1",
        "/accounts",
        "/accounts/ann",
        "/grants/new",
        "/escrow",
        "/escrow/1",
        "/audit",
        "/audit/export",
        "/custody?id=area-1",
    ];
    for path in all {
        assert_eq!(stripped(&mut ann, path), nowhere, "{path}");
    }
    let mut boss = Browser::logged_in(&server, "boss", PASSWORD);
    let nowhere = stripped(&mut boss, "/nowhere");
    for path in ["/escrow", "/escrow/1", "/escrow/2", "/accounts/nobody"] {
        assert_eq!(stripped(&mut boss, path), nowhere, "{path}");
    }
    let (status, own) = stripped(&mut boss, "/audit");
    assert!(
        status == 200 && own.contains("what you did yourself") && !own.contains(">admin<"),
        "only what boss did: {own}"
    );
}

#[test]
fn an_administrator_of_accounts_cannot_tell_a_full_database_from_an_empty_one() {
    let pages = |with_patients| {
        let server = district(with_patients);
        let mut boss = Browser::logged_in(&server, "boss", PASSWORD);
        let shown = [
            "",
            "/devices?account=ann",
            "/handover",
            "/accounts",
            "/accounts/ann",
            "/grants",
            "/escrow",
            "/custody?id=pat-1",
            "/handover/replace?place=pat-1",
            "/handover/undo?place=area-1",
        ];
        shown.map(|path| {
            let text = boss.get(path).text().replace(&boss.token, "");
            assert!(!text.contains("Hush"), "{path}");
            let mut out = String::new(); // without the moments, which differ by when the server was made
            for (number, part) in text.split("<time").enumerate() {
                let rest = if number == 0 { part } else { part.split_once(")</span>").map_or(part, |(_, rest)| rest) };
                out.push_str(rest);
            }
            (path, out)
        })
    };
    assert_eq!(pages(true), pages(false));
}

#[test]
fn whoever_has_not_come_yet_is_shown_so_and_gets_another_link() {
    let server = district(false);
    let shell = json!({"name": "nia", "roles": ["chw"], "places": ["area-1"], "prepared": true});
    server.admin().post("/_accounts", &shell).expect(201);
    let mut browser = Browser::logged_in(&server, "boss", PASSWORD);
    let listed = whole(&browser.get("/accounts?state=prepared"));
    assert!(listed.contains("nia") && !listed.contains("/_console/accounts/ann"), "{listed}");
    let page = whole(&browser.get("/accounts/nia"));
    assert!(page.contains("waits for its person") && page.contains("Make a link"), "{page}");
}
