//! A district with two areas, an account of every role, and logins of every standing. Nobody has a password: each logs in by a
//! link, which costs no hashing.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::{Client, Request, Response};
use crate::support::server::{Options, TestServer};

pub(super) const DATABASE: &str = "medic";

/// What a caller shows.
#[derive(Debug, Clone)]
pub(super) enum Shown {
    Nothing,
    Operator,
    Cookie(String),
}

/// Somebody who makes requests.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) title: &'static str,
    pub(super) shown: Shown,
}

/// A login on a device.
#[derive(Debug, Clone)]
pub(super) struct Login {
    pub(super) cookie: String,
    pub(super) device: String,
}

/// The district.
pub(super) struct Stage {
    pub(super) server: TestServer,
    fresh: u32,
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Lets time pass.
pub(super) fn wait(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::thread::park_timeout(end.saturating_duration_since(Instant::now()));
    }
}

impl Stage {
    pub(super) fn start() -> Self {
        Self::start_with(TestServer::options())
    }

    pub(super) fn start_with(options: Options) -> Self {
        Self::start_filled(options, true)
    }

    /// Only with places and staff, or with a household's person, a form and a design document besides.
    pub(super) fn start_filled(options: Options, full: bool) -> Self {
        let stage = Self { server: options.start(), fresh: 0 };
        let admin = stage.operator();
        admin.put(&format!("/{DATABASE}?scoped=true"), &json!({})).expect(201);
        let roles = json!({"members": {"roles": ["chw", "steward", "account_admin", "auditor"]}});
        admin.put(&format!("/{DATABASE}/_security"), &roles).expect(200);
        let place = |id: &str, kind: &str, above: &str, holder: &str| json!({"_id": id, "type": kind, "name": id, "parent": {"_id": above}, "contact": {"_id": holder}});
        let person = |id: &str, above: &str| json!({"_id": id, "type": "person", "parent": {"_id": above}});
        let documents = json!([
            {"_id": "settings", "settings": {"permissions": {"can_edit": ["chw"]}}},
            {"_id": "form:visit", "type": "form"},
            {"_id": "_design/medic", "language": "javascript"},
            {"_id": "district", "type": "district_hospital"},
            place("area-a", "health_center", "district", "per-a"),
            place("area-b", "health_center", "district", "per-b"),
            person("per-a", "area-a"),
            person("per-b", "area-b"),
            place("hh-a", "clinic", "area-a", "pat-a"),
            person("pat-a", "hh-a"),
        ]);
        let hidden =
            |document: &Value| ["form:visit", "_design/medic", "pat-a"].map(Value::from).contains(&document["_id"]);
        let documents: Vec<&Value> =
            documents.as_array().into_iter().flatten().filter(|document| full || !hidden(document)).collect();
        let rows = admin.post(&format!("/{DATABASE}/_bulk_docs"), &json!({"docs": documents})).expect(201).json();
        assert!(rows.as_array().is_some_and(|rows| rows.iter().all(|row| row["ok"] == true)), "{rows}");
        stage
    }

    pub(super) fn operator(&self) -> Client {
        self.server.admin()
    }

    /// Makes an account without a password; gives the token of its link.
    #[track_caller]
    pub(super) fn account(&self, name: &str, role: &str, places: &[&str]) -> String {
        let contact = match name {
            "chw" => json!("per-a"),
            "chw-b" => json!("per-b"),
            _ => Value::Null,
        };
        let body = json!({"name": name, "roles": [role], "places": places, "contact": contact});
        text(&self.operator().post("/_accounts", &body).expect(201).json()["link"]["token"])
    }

    #[track_caller]
    pub(super) fn log_in(&self, token: &str, device: &str) -> Login {
        let body = json!({"link": token, "device": {"id": device}});
        let answer = self.server.anonymous().post("/_session", &body).expect(200);
        let cookie = answer.cookie().expect("a cookie");
        Login { cookie, device: text(&answer.json()["device"]["id"]) }
    }

    /// An account with a login on a device.
    #[track_caller]
    pub(super) fn somebody(&self, name: &str, role: &str, places: &[&str]) -> Login {
        let token = self.account(name, role, places);
        self.log_in(&token, &format!("phone-of-{name}"))
    }

    /// A number that nothing has yet, always of four digits.
    pub(super) fn number(&mut self) -> u32 {
        self.fresh += 1;
        1_000 + self.fresh
    }

    pub(super) fn send(&self, shown: &Shown, request: &Request) -> Response {
        match shown {
            Shown::Nothing => self.server.anonymous().send(request),
            Shown::Operator => self.operator().send(request),
            Shown::Cookie(cookie) => self.server.anonymous().send(&request.clone().header("Cookie", cookie)),
        }
    }

    /// A caller of each role whose rights stand, in the order of the table.
    pub(super) fn roles(&self) -> Vec<Caller> {
        let caller = |title, name, role, places: &[&str]| Caller {
            title,
            shown: Shown::Cookie(self.somebody(name, role, places).cookie),
        };
        vec![
            Caller { title: "nobody", shown: Shown::Nothing },
            caller("chw", "chw", "chw", &["area-a"]),
            caller("chw elsewhere", "chw-b", "chw", &["area-b"]),
            caller("steward", "steward", "steward", &[]),
            caller("admin", "admin-all", "account_admin", &[]),
            caller("admin there", "admin-a", "account_admin", &["area-a"]),
            caller("admin elsewhere", "admin-b", "account_admin", &["area-b"]),
            caller("auditor", "auditor", "auditor", &[]),
            Caller { title: "operator", shown: Shown::Operator },
        ]
    }

    /// Callers whose rights ended, in the order of the table. All but three were health workers of the first area.
    pub(super) fn ended(&self) -> Vec<Caller> {
        let post = |path: String| drop(self.operator().post(&path, &json!({})).expect(200));
        let mut callers = Vec::new();
        let mut end = |title: &'static str, role: &str, how: &dyn Fn(&str, &Login)| {
            let name = format!("gone-{}", title.replace(' ', "-"));
            let login = self.somebody(&name, role, if role == "chw" { &["area-a"] } else { &[] });
            how(&name, &login);
            callers.push(Caller { title, shown: Shown::Cookie(login.cookie) });
        };
        let disable = |name: &str, _: &Login| post(format!("/_accounts/{name}/disable"));
        end("draining", "chw", &|_, login| post(format!("/_devices/{}/retire", login.device)));
        end("drained", "chw", &|name, login| {
            post(format!("/_accounts/{name}/retire"));
            let manifest = Request::new("POST", &format!("/{DATABASE}/_manifest"))
                .json(&json!({"manifest": "last", "revs": {}, "total": 0, "final": true}));
            self.send(&Shown::Cookie(login.cookie.clone()), &manifest).expect(200);
        });
        end("disabled", "chw", &disable);
        end("retired", "chw", &|name, _| post(format!("/_accounts/{name}/retire")));
        end("deleted", "chw", &|name, _| drop(self.operator().delete(&format!("/_accounts/{name}")).expect(200)));
        end("time over", "chw", &|_, login| {
            post(format!("/_devices/{}/retire?drain=1", login.device));
            self.send(&Shown::Cookie(login.cookie.clone()), &Request::new("GET", &format!("/{DATABASE}")));
            wait(Duration::from_millis(2_100));
        });
        end("cut", "chw", &|_, login| post(format!("/_devices/{}/cut", login.device)));
        end("account cut", "chw", &|name, _| post(format!("/_accounts/{name}/cut")));
        end("former steward", "steward", &disable);
        end("former admin", "account_admin", &disable);
        end("former auditor", "auditor", &disable);
        callers
    }
}
