//! What the threats have in common: a scoped database with two areas, accounts in them, phones.

use serde_json::{Value, json};

use crate::support::clock::SetClock;
use crate::support::http::{Request, Response};
use crate::support::server::{Options, TestServer};

pub(crate) const DATABASE: &str = "/visits";
/// A word that is in every document of the database and in nothing else.
pub(crate) const MARK: &str = "amoxicillin";
/// Seconds of a day.
pub(crate) const DAY: i64 = 86_400;

pub(crate) fn password(account: &str) -> String {
    format!("{account} has a long password")
}

/// A server with the accounts `ann` and `ben`, each with an area of its own, and a document in each.
pub(crate) fn stage(options: Options) -> TestServer {
    let server = options.start();
    let admin = server.admin();
    admin.put(&format!("{DATABASE}?scoped=true"), &json!({})).expect(201);
    admin.put(&format!("{DATABASE}/_security"), &json!({"members": {"roles": ["chw"]}})).expect(200);
    let settings = json!({"settings": {"permissions": {"can_edit": ["chw"]}}});
    admin.put(&format!("{DATABASE}/settings"), &settings).expect(201);
    for name in ["ann", "ben"] {
        admin.put(&format!("{DATABASE}/area-{name}"), &json!({"type": "clinic", "name": MARK})).expect(201);
        let person = json!({"type": "person", "name": MARK, "parent": {"_id": format!("area-{name}")}});
        admin.put(&format!("{DATABASE}/person-{name}"), &person).expect(201);
        admin.put(&format!("{DATABASE}/visit-{name}"), &visit(name, 0)).expect(201);
        add_account(&server, name);
    }
    server
}

pub(crate) fn add_account(server: &TestServer, name: &str) {
    let user = json!({"type": "user", "name": name, "password": password(name), "roles": ["chw"],
        "facility_id": format!("area-{name}")});
    server.admin().put(&format!("/_users/org.couchdb.user:{name}"), &user).expect(201);
}

/// A record about somebody's person.
pub(crate) fn visit(about: &str, number: u64) -> Value {
    let about = format!("person-{about}");
    json!({"type": "data_record", "form": "visit", "fields": {"patient_id": about}, "note": MARK, "number": number})
}

/// The same server with a clock that can be set; `None`, and a word about it, where that is not possible.
pub(crate) fn with_clock() -> Option<(SetClock, Options)> {
    let clock = SetClock::find();
    if clock.is_none() {
        println!("libfaketime is not installed: nothing was tested (apt-get install faketime)");
    }
    clock.map(|clock| {
        let options = clock.of(TestServer::options());
        (clock, options)
    })
}

/// A login on a device that names itself.
#[derive(Debug, Clone)]
pub(crate) struct Phone {
    pub(crate) client: String,
    /// The server's id of the device.
    pub(crate) id: String,
    pub(crate) cookie: String,
}

pub(crate) fn reason(answer: &Response) -> String {
    answer.json()["reason"].as_str().unwrap_or_default().to_owned()
}

/// `POST /_session` of a named device.
pub(crate) fn try_log_in(server: &TestServer, account: &str, password: &str, client: &str) -> Response {
    let body = json!({"name": account, "password": password, "device": {"id": client, "name": "a phone"}});
    server.anonymous().post("/_session", &body)
}

pub(crate) fn cookie_of(answer: &Response) -> String {
    answer.cookie().expect("a cookie")
}

pub(crate) fn log_in(server: &TestServer, account: &str, client: &str) -> Phone {
    let answer = try_log_in(server, account, &password(account), client).expect(200);
    let id = answer.json()["device"]["id"].as_str().expect("a device").to_owned();
    Phone { client: client.to_owned(), id, cookie: cookie_of(&answer) }
}

impl Phone {
    pub(crate) fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Request {
        let request = Request::new(method, path).header("Cookie", &self.cookie);
        match body {
            Some(body) => request.json(body),
            None => request,
        }
    }

    pub(crate) fn send(&self, server: &TestServer, method: &str, path: &str, body: Option<&Value>) -> Response {
        server.anonymous().send(&self.request(method, path, body))
    }

    pub(crate) fn get(&self, server: &TestServer, path: &str) -> Response {
        self.send(server, "GET", path, None)
    }

    /// Pulls everything, twice, so that the server knows what was taken.
    pub(crate) fn pull(&self, server: &TestServer) -> Value {
        let first = self.get(server, &format!("{DATABASE}/_changes?since=0&include_docs=true")).expect(200).json();
        let since = first["last_seq"].as_str().expect("a token");
        self.get(server, &format!("{DATABASE}/_changes?since={since}")).expect(200);
        first
    }

    /// A document of the device's own making, ready to be pushed.
    pub(crate) fn revision(&self, id: &str, mut body: Value) -> Value {
        let hash = blake3::hash(format!("{} {id} {body}", self.client).as_bytes()).to_hex()[..32].to_owned();
        body["_id"] = id.into();
        body["_rev"] = format!("1-{hash}").into();
        body["_revisions"] = json!({"start": 1, "ids": [hash]});
        body
    }

    pub(crate) fn push(&self, server: &TestServer, documents: &[Value]) -> Response {
        let body = json!({"new_edits": false, "docs": documents});
        self.send(server, "POST", &format!("{DATABASE}/_bulk_docs"), Some(&body))
    }

    pub(crate) fn standing(&self, server: &TestServer) -> Value {
        self.get(server, "/_device").expect(200).json()
    }
}

/// Every revision in the database and in escrow: document, revisions.
pub(crate) fn everything(server: &TestServer) -> Vec<(String, String)> {
    let admin = server.admin();
    let changes = admin.get(&format!("{DATABASE}/_changes?style=all_docs")).expect(200).json();
    let mut all: Vec<(String, String)> = Vec::new();
    for row in changes["results"].as_array().into_iter().flatten() {
        for change in row["changes"].as_array().into_iter().flatten() {
            all.push((row["id"].to_string(), change["rev"].to_string()));
        }
    }
    let escrow = admin.get(&format!("{DATABASE}/_escrow")).expect(200).json();
    let rows = escrow["rows"].as_array().into_iter().flatten();
    all.extend(rows.map(|row| (format!("escrow {}", row["id"]), row["rev"].to_string())));
    all.sort();
    all
}
