//! A server with accounts, and devices: each holds documents, pushes them as PouchDB does, and can say what it holds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::http::{Client, Request, Response};
use crate::support::server::TestServer;

/// The plain database that every account may use.
pub(super) const DATABASE: &str = "medic";

/// A server with one plain database and two accounts, `ann` and `ben`, with their names as passwords.
pub(super) struct World {
    pub(super) server: TestServer,
}

impl World {
    pub(super) fn start() -> Self {
        let server = TestServer::options().argument("--admin").argument("second:secret").start();
        let world = Self { server };
        world.database(DATABASE);
        for name in ["ann", "ben"] {
            world.account(name);
        }
        world
    }

    /// Another plain database that every account may use.
    pub(super) fn database(&self, name: &str) {
        self.server.admin().put(&format!("/{name}"), &Value::Null).expect(201);
        self.server.admin().put(&format!("/{name}/_security"), &json!({})).expect(200);
    }

    pub(super) fn account(&self, name: &str) {
        let body = json!({"name": name, "password": name, "roles": ["chw"], "type": "user"});
        self.server.admin().put(&format!("/_users/org.couchdb.user:{name}"), &body).expect(201);
    }

    /// An operator's request below `/_accounts/NAME/` or `/_devices/ID/`, with an empty body.
    #[track_caller]
    pub(super) fn operate(&self, path: &str) -> Value {
        self.server.admin().post(path, &json!({})).expect(200).json()
    }

    #[track_caller]
    pub(super) fn change_password(&self, account: &str, password: &str, query: &str) {
        let path = format!("/_accounts/{account}/password{query}");
        self.server.admin().post(&path, &json!({"password": password})).expect(200);
    }

    /// The token of the newest change.
    #[track_caller]
    pub(super) fn token(&self) -> String {
        let info = self.server.admin().get(&format!("/{DATABASE}")).expect(200).json();
        info["update_seq"].as_str().expect("a token").to_owned()
    }

    /// What an operator is shown of a device.
    #[track_caller]
    pub(super) fn shown(&self, device: &Device) -> Value {
        self.server.admin().get(&format!("/_devices/{}", device.id)).expect(200).json()
    }

    /// Logs in as a named device with the account's name as password.
    #[track_caller]
    pub(super) fn device(&self, account: &str, client: &str) -> Device {
        self.device_with(account, account, client)
    }

    #[track_caller]
    pub(super) fn device_with(&self, account: &str, password: &str, client: &str) -> Device {
        let answer = self.log_in(account, password, client).expect(200);
        Device {
            client: self.server.anonymous(),
            cookie: cookie_of(&answer),
            id: answer.json()["device"]["id"].as_str().expect("a named device").to_owned(),
            held: BTreeMap::new(),
        }
    }

    pub(super) fn log_in(&self, account: &str, password: &str, client: &str) -> Response {
        let body = json!({"name": account, "password": password, "device": {"id": client, "name": "A phone", "app": "visits 1"}});
        self.server.anonymous().post("/_session", &body)
    }
}

/// The session cookie of an answer.
pub(super) fn cookie_of(answer: &Response) -> String {
    answer.cookie().expect("a session")
}

/// A device with a session.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) client: Client,
    pub(super) cookie: String,
    /// The server's id of it.
    pub(super) id: String,
    /// Documents with the revision it holds.
    pub(super) held: BTreeMap<String, String>,
}

impl Device {
    /// A request with the device's session.
    pub(super) fn authorized(&self, request: Request) -> Request {
        request.header("Cookie", &self.cookie)
    }

    #[track_caller]
    pub(super) fn send(&self, request: Request) -> Response {
        self.client.send(&self.authorized(request))
    }

    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Response {
        self.send(Request::new("GET", path))
    }

    #[track_caller]
    pub(super) fn post(&self, path: &str, body: &Value) -> Response {
        self.send(Request::new("POST", path).json(body))
    }

    /// `GET /_device`.
    #[track_caller]
    pub(super) fn own(&self) -> Value {
        self.get("/_device").expect(200).json()
    }

    #[track_caller]
    pub(super) fn standing(&self) -> String {
        self.own()["standing"].as_str().unwrap_or_default().to_owned()
    }

    /// Writes a document on the device; it is not pushed yet.
    pub(super) fn edit(&mut self, id: &str) -> (String, Value) {
        let hash = blake3::hash(format!("{id} {}", self.held.len()).as_bytes()).to_hex()[..32].to_owned();
        let revision = format!("1-{hash}");
        self.held.insert(id.to_owned(), revision.clone());
        let body = json!({"_id": id, "_rev": revision, "_revisions": {"start": 1, "ids": [hash]}, "form": "visit"});
        (revision, body)
    }

    /// `_bulk_docs` as a replicator sends it.
    pub(super) fn bulk(&self, database: &str, bodies: &[Value]) -> Response {
        let body = json!({"docs": bodies, "new_edits": false});
        self.post(&format!("/{database}/_bulk_docs"), &body)
    }

    /// Writes and pushes documents.
    #[track_caller]
    pub(super) fn push(&mut self, database: &str, ids: &[&str]) {
        let bodies: Vec<Value> = ids.iter().map(|id| self.edit(id).1).collect();
        let answer = self.bulk(database, &bodies).expect(201).json();
        assert_eq!(answer, json!([]), "a replicated push names only what failed");
    }

    /// `POST /DATABASE/_manifest`.
    pub(super) fn manifest(&self, database: &str, name: &str, revs: &Value, last: bool) -> Response {
        self.post(&format!("/{database}/_manifest"), &json!({"manifest": name, "revs": revs, "final": last}))
    }

    /// Everything that the device holds, as a manifest has it.
    pub(super) fn holds(&self) -> Value {
        self.held.iter().map(|(id, revision)| (id.clone(), json!([revision]))).collect::<serde_json::Map<_, _>>().into()
    }

    /// A manifest of everything in one part.
    pub(super) fn whole_manifest(&self, database: &str) -> Response {
        self.manifest(database, "whole", &self.holds(), true)
    }
}
