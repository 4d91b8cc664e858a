//! For each line of the endpoint table a request that would do something, about a thing that is there and about one that is not.

use serde_json::{Value, json};

use super::stage::{DATABASE, Stage, text};
use crate::support::http::Request;

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    Nothing,
    Account,
    Device,
    Grant,
    Place,
    Held,
    Document,
    Design,
    /// A database of its own, so that the others stay.
    Database,
    /// The token of a link.
    Link,
}

/// The thing, and its revision if it has one.
#[derive(Debug, Clone)]
pub(super) struct Thing {
    pub(super) name: String,
    pub(super) rev: String,
}

/// Paths that name a thing only in their body.
const BY_BODY: [&str; 7] =
    ["_bulk_get", "_revs_diff", "_missing_revs", "_reconcile", "_bulk_docs", "_all_docs", "_changes"];

pub(super) fn about(method: &str, shape: &str) -> About {
    let below = shape.strip_prefix("/{db}/").unwrap_or_default();
    match shape {
        "/{db}" if method == "DELETE" => About::Database,
        "/_links/{name}" => About::Link,
        "/_session" if method == "POST" => About::Link,
        _ if shape.starts_with("/_accounts/{name}") => About::Account,
        _ if shape.starts_with("/_devices/{name}") => About::Device,
        _ if shape.starts_with("/_grants/{name}") => About::Grant,
        _ if below.starts_with("_places") || below.starts_with("_custody") => About::Place,
        _ if below.starts_with("_escrow/") => About::Held,
        _ if below.starts_with("_design/") => About::Design,
        _ if below.starts_with("{id}") => About::Document,
        _ if method == "POST" && BY_BODY.contains(&below) => About::Document,
        _ => About::Nothing,
    }
}

/// Something that is there, and that nothing is lost by if it goes.
pub(super) fn present(stage: &mut Stage, about: About, reads: bool) -> Thing {
    let number = stage.number();
    let plain = |name: &str| Thing { name: name.to_owned(), rev: String::new() };
    let admin = stage.operator();
    match about {
        About::Nothing | About::Place => plain("area-a"),
        About::Account if reads => plain("chw"),
        About::Account | About::Device => {
            let name = format!("target-{number}");
            let login = stage.somebody(&name, "chw", &["area-a"]);
            plain(if about == About::Device { &login.device } else { &name })
        }
        About::Grant => {
            let body = json!({"to": "chw", "database": DATABASE, "place": "area-a", "reason": "test", "until": 9_999_999_999_u64});
            plain(&text(&admin.post("/_grants", &body).expect(201).json()["grant"]["id"]))
        }
        About::Held => {
            let login = stage.somebody(&format!("sender-{number}"), "chw", &["area-b"]);
            let (id, rev) = (format!("held-{number}"), "1-0123456789abcdef0123456789abcdef");
            let documents = json!([{"_id": id, "_rev": rev, "type": "person", "parent": {"_id": "hh-a"}}]);
            let push = Request::new("POST", &format!("/{DATABASE}/_bulk_docs"));
            let push = push.json(&json!({"new_edits": false, "docs": documents}));
            stage.send(&super::stage::Shown::Cookie(login.cookie), &push).expect(201);
            let rows = admin.get(&format!("/{DATABASE}/_escrow")).expect(200).json();
            let rows = rows["rows"].as_array().cloned().unwrap_or_default();
            let row = rows.iter().find(|row| row["id"] == json!(id)).expect("it is in escrow");
            plain(&row["number"].to_string())
        }
        About::Link => plain(&stage.account(&format!("linked-{number}"), "chw", &["area-a"])),
        About::Database => {
            let name = format!("victim-{number}");
            admin.put(&format!("/{name}?scoped=true"), &json!({})).expect(201);
            plain(&name)
        }
        About::Document => {
            let name = format!("visit-{number}");
            let note = json!({"note.txt": {"content_type": "text/plain", "data": "aGVsbG8="}});
            let body = json!({"type": "data_record", "form": "visit", "fields": {"patient_id": "pat-a"}, "_attachments": note});
            let made = admin.put(&format!("/{DATABASE}/{name}"), &body).expect(201).json();
            Thing { name, rev: text(&made["rev"]) }
        }
        About::Design => {
            let name = format!("made-{number}");
            let made =
                admin.put(&format!("/{DATABASE}/_design/{name}"), &json!({"language": "javascript"})).expect(201);
            Thing { name, rev: text(&made.json()["rev"]) }
        }
    }
}

/// Something of the same kind, with a name as long, that is not there.
pub(super) fn absent(about: About, like: &Thing) -> Thing {
    let name = match about {
        About::Device | About::Grant => "0".repeat(32),
        About::Held => "9".repeat(like.name.len()),
        About::Link => "A".repeat(like.name.len()),
        _ => format!("z{}", &like.name[1..]),
    };
    Thing { name, rev: like.rev.clone() }
}

fn path_of(shape: &str, thing: &Thing, number: u32, method: &str) -> String {
    let node = if shape.starts_with("/_node/{name}/_config") { "/_node/_local/_config" } else { "/_node/_local" };
    let mut path = match shape {
        "/_node/{name}" => "/_node/_local".to_owned(),
        "/_node/{name}/_config/{name}" => "/_node/_local/_config/log".to_owned(),
        "/_node/{name}/_config/{name}/{name}" => "/_node/_local/_config/log/level".to_owned(),
        "/_node/{name}/{name}" => "/_node/_local/_system".to_owned(),
        "/{db}" if method == "DELETE" => format!("/{}", thing.name),
        "/{db}" if method == "PUT" => format!("/made-{number}"),
        "/{db}/_escrow/{name}/{name}" => format!("/{DATABASE}/_escrow/{}/discard", thing.name),
        "/{db}/_local/{name}" => format!("/{DATABASE}/_local/own-{number}"),
        "/{db}/_manifest/{name}" => format!("/{DATABASE}/_manifest/none"),
        _ => shape.replace("/_node/{name}/_config", node).replace("/_node/{name}", node),
    };
    path = path.replace("{db}", DATABASE).replacen("{name}", &thing.name, 1).replace("{id}", &thing.name);
    let rest = match shape {
        _ if shape.contains("_design") => "logo.png",
        "/{db}/{rest…}" => "_nosuch/x",
        _ if shape.contains("_index") => "_design/x/json/y",
        _ => "note.txt",
    };
    path.replace("{rest…}", rest).replace("{name}", "x")
}

/// The body that a line needs to do something; `{}` for any other.
fn body_of(method: &str, shape: &str, thing: &Thing, number: u32) -> Value {
    let Thing { name, rev } = thing;
    match (method, shape) {
        ("POST", "/_session") => json!({"link": name}),
        ("POST", "/_device/wipe_reported") => json!({"order": "none"}),
        ("POST", "/_accounts/{name}/password") => json!({"password": "a-long-enough-secret"}),
        ("POST", "/_grants") => json!({"to": "helper", "database": DATABASE, "place": "area-a", "reason": "test",
            "until": 9_999_999_999_u64}),
        ("POST", "/_accounts") => json!({"name": format!("made-{number}"), "roles": ["chw"], "places": ["area-a"]}),
        ("POST", "/_accounts/_bulk") => {
            json!([{"username": format!("made-{number}-a"), "roles": ["chw"], "place": "area-a"}])
        }
        ("PUT", "/_accounts/{name}") => json!({"roles": ["chw"], "places": ["area-a"]}),
        ("PATCH", "/_accounts/{name}") => json!({"fullname": "Somebody"}),
        ("POST", "/_dbs_info") => json!({"keys": [DATABASE]}),
        ("PUT", "/_node/{name}/_config/{name}/{name}") => json!("info"),
        ("PUT", "/{db}/_security") => json!({"members": {"roles": ["chw", "steward", "account_admin", "auditor"]}}),
        ("PUT", "/{db}/_revs_limit") => json!(1_000),
        ("PUT", "/{db}/_purged_infos_limit") => json!(1_000),
        ("POST", "/{db}") => json!({"type": "person", "parent": {"_id": "hh-a"}}),
        ("POST", "/{db}/_changes") => json!({"doc_ids": [name]}),
        ("POST", "/{db}/_revs_diff" | "/{db}/_missing_revs") => json!({name: [rev]}),
        ("POST", "/{db}/_bulk_docs") => {
            json!({"new_edits": false, "docs": [{"_id": name, "_rev": rev, "type": "data_record",
            "form": "visit", "fields": {"patient_id": "pat-a"}}]})
        }
        ("POST", "/{db}/_bulk_get") => json!({"docs": [{"id": name}]}),
        ("POST", "/{db}/_all_docs") => json!({"keys": [name]}),
        ("POST", "/{db}/_all_docs/queries" | "/{db}/_design_docs/queries" | "/{db}/_local_docs/queries") => {
            json!({"queries": [{}]})
        }
        ("POST", "/{db}/_reconcile") => json!({"ids": [name]}),
        ("POST", "/{db}/_manifest") => json!({"manifest": "some", "revs": {}, "final": false}),
        ("POST", "/{db}/_places/{name}/move") => json!({"to": "district"}),
        ("POST", "/{db}/_places/{name}/replace") => json!({"contact": {"name": "New"}, "account": {"roles": ["chw"]}}),
        ("POST", "/{db}/_places/{name}/rename_holder") => json!({"name": "New"}),
        ("POST", "/{db}/_places/{name}/hand_over") => json!({"contact": {"name": "New"}}),
        ("PUT", "/{db}/{id}") => {
            json!({"_rev": rev, "type": "data_record", "form": "visit", "fields": {"patient_id": "pat-a"}})
        }
        ("PUT", "/{db}/_design/{name}") => json!({"_rev": rev, "language": "javascript", "n": 1}),
        _ => json!({}),
    }
}

/// A request of a line of the table about a thing.
pub(super) fn request(method: &str, shape: &str, thing: &Thing, number: u32) -> Request {
    let mut path = path_of(shape, thing, number, method);
    match (method, shape) {
        ("POST", _) if shape.starts_with("/{db}/_places") => path.push_str("?dry_run=true"),
        ("POST", "/{db}/_changes") => path.push_str("?filter=_doc_ids"),
        ("DELETE", "/{db}/{id}" | "/{db}/_design/{name}") => path.push_str(&format!("?rev={}", thing.rev)),
        ("PUT" | "DELETE", "/{db}/{id}/{rest…}" | "/{db}/_design/{name}/{rest…}") => {
            path.push_str(&format!("?rev={}", thing.rev));
        }
        _ => {}
    }
    if shape == "/_devices/{name}/exposure" {
        path.push_str(&format!("?database={DATABASE}"));
    }
    let request = Request::new(method, &path);
    let request = match method {
        "COPY" => request.header("Destination", &format!("copy-{number}")),
        "GET" | "DELETE" => request,
        _ if shape.ends_with("{rest…}") && method == "PUT" => {
            request.header("Content-Type", "text/plain").body("hello")
        }
        _ => request.json(&body_of(method, shape, thing, number)),
    };
    request.header("Accept", "application/json")
}
