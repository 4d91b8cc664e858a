//! A small district, its operator, and phones that log in with a password or a link.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::http::{Client, Request, Response};
use crate::support::server::TestServer;

pub(super) const DATABASE: &str = "medic";
pub(super) const PASSWORD: &str = "tidal-copper-41";

/// A server with a district of two areas. Nobody holds one yet.
pub(super) struct Village {
    pub(super) server: TestServer,
}

fn below(ids: &[&str]) -> Value {
    ids.iter().rev().fold(Value::Null, |above, id| match above {
        Value::Null => json!({"_id": id}),
        above => json!({"_id": id, "parent": above}),
    })
}

fn person(id: &str, name: &str, parents: &[&str]) -> Value {
    json!({"_id": id, "type": "person", "name": name, "parent": below(parents)})
}

/// A visit to somebody.
pub(super) fn report(id: &str, patient: &str, author: &str) -> Value {
    json!({"_id": id, "type": "data_record", "form": "visit", "fields": {"patient_id": patient}, "contact": {"_id": author}})
}

impl Village {
    pub(super) fn start() -> Self {
        let village = Self { server: TestServer::start() };
        village.fill();
        village
    }

    pub(super) fn fill(&self) {
        let operator = self.server.admin();
        operator.put(&format!("/{DATABASE}?scoped=true"), &json!({})).expect(201);
        let security = json!({"members": {"roles": ["chw", "steward"]}, "admins": {"roles": ["_admin"]}});
        operator.put(&format!("/{DATABASE}/_security"), &security).expect(200);
        let area = |id: &str, holder: &str| {
            // Numbers and unknown members must come through a hand-over as they are.
            json!({"_id": id, "type": "contact", "contact_type": "chw_area", "name": format!("Area of {holder}"), "parent":
                   {"_id": "district"}, "contact": below(&[holder, id, "district"]), "geo": [1.0, 1e2], "x-kept": {"a": null}})
        };
        let documents = vec![
            json!({"_id": "settings", "settings": {"permissions": {"can_edit": ["chw"]}}}),
            json!({"_id": "district", "type": "district_hospital", "name": "District"}),
            area("area-1", "per-ann"),
            person("per-ann", "Ann", &["area-1", "district"]),
            area("area-2", "per-zoe"),
            person("per-zoe", "Zoe", &["area-2", "district"]),
            json!({"_id": "hh-1", "type": "clinic", "name": "Household", "parent": below(&["area-1", "district"]),
                   "contact": below(&["pat-1", "hh-1", "area-1", "district"])}),
            person("pat-1", "Patient", &["hh-1", "area-1", "district"]),
            report("visit-1", "pat-1", "per-ann"),
        ];
        let rows = operator.post(&format!("/{DATABASE}/_bulk_docs"), &json!({"docs": documents})).expect(201).json();
        assert!(rows.as_array().is_some_and(|rows| rows.iter().all(|row| row["ok"] == json!(true))), "{rows}");
    }

    pub(super) fn operator(&self) -> Client {
        self.server.admin()
    }

    /// An account of a health worker with a password.
    pub(super) fn worker(&self, name: &str, place: &str, contact: &str) {
        let body = json!({"name": name, "password": PASSWORD, "roles": ["chw"], "places": [place], "contact": contact});
        self.operator().post("/_accounts", &body).expect(201);
    }

    /// Ann holds the first area.
    pub(super) fn with_ann() -> Self {
        let village = Self::start();
        village.worker("ann", "area-1", "per-ann");
        village
    }

    pub(super) fn get(&self, path: &str) -> Value {
        self.operator().get(path).expect(200).json()
    }

    pub(super) fn document(&self, id: &str) -> Value {
        self.get(&format!("/{DATABASE}/{id}"))
    }

    /// Every document of a scoped database with its winner, and of `_users`: two equal states have equal maps.
    pub(super) fn state(&self) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        for database in [DATABASE, "_users"] {
            let rows = self.get(&format!("/{database}/_all_docs"));
            for row in rows["rows"].as_array().into_iter().flatten() {
                state.insert(format!("{database}/{}", text(&row["id"])), text(&row["value"]["rev"]).to_owned());
            }
        }
        state
    }

    pub(super) fn place(&self, place: &str, act: &str, body: &Value) -> Response {
        self.operator().post(&format!("/{DATABASE}/_places/{place}/{act}"), body)
    }

    /// A phone that logs in with a password.
    pub(super) fn phone(&self, name: &str, device: &str) -> Phone {
        let body = json!({"name": name, "password": PASSWORD, "device": {"id": device}});
        self.log_in(&body).unwrap_or_else(|response| panic!("{} {}", response.status, response.text()))
    }

    /// A phone that logs in with a link, out of the answer that has it.
    pub(super) fn phone_by_link(&self, link: &Value, device: &str) -> Phone {
        let body = json!({"link": link["token"], "device": {"id": device}});
        self.log_in(&body).unwrap_or_else(|response| panic!("{} {}", response.status, response.text()))
    }

    pub(super) fn log_in(&self, body: &Value) -> Result<Phone, Response> {
        let client = self.server.anonymous();
        let answer = client.send(&Request::new("POST", "/_session").json(body));
        if answer.status != 200 {
            return Err(answer);
        }
        let cookie = answer.cookie().expect("a cookie");
        Ok(Phone { client, cookie, name: text(&answer.json()["name"]).to_owned() })
    }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A login on a device.
pub(super) struct Phone {
    client: Client,
    cookie: String,
    pub(super) name: String,
}

impl Phone {
    pub(super) fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let request = Request::new(method, path).header("Cookie", &self.cookie);
        self.client.send(&match body {
            Some(body) => request.json(body),
            None => request,
        })
    }

    /// Everything that the phone may hold.
    pub(super) fn listed(&self) -> BTreeSet<String> {
        let answer = self.send("GET", &format!("/{DATABASE}/_all_docs"), None).expect(200).json();
        answer["rows"].as_array().into_iter().flatten().map(|row| text(&row["id"]).to_owned()).collect()
    }

    /// Pushes a document as PouchDB does; its revision comes from its id.
    pub(super) fn push(&self, document: &Value) -> Response {
        let hash = blake3::hash(text(&document["_id"]).as_bytes()).to_hex()[..32].to_owned();
        let mut document = document.clone();
        document["_rev"] = json!(format!("1-{hash}"));
        document["_revisions"] = json!({"start": 1, "ids": [hash]});
        let body = json!({"new_edits": false, "docs": [document]});
        self.send("POST", &format!("/{DATABASE}/_bulk_docs"), Some(&body))
    }

    pub(super) fn standing(&self) -> Value {
        self.send("GET", "/_device", None).expect(200).json()
    }
}
