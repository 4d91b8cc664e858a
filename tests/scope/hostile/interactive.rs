//! The same attacks by requests that expect an answer: they are refused, tell nothing, and leave nothing in escrow.

use serde_json::{Value, json};

use super::super::{exchange, list};
use super::{Outcome, Scene, compare, encoded, own_lineage, person, plain_settings, report, text};
use crate::support::http::{Request, Response};

/// Documents that the attacker does not see, and one that does not exist.
const HIDDEN: [&str; 7] = ["pat-9", "rep-9", "hh-9", "area-2", "fac-lake", "org.couchdb.user:chw2", "absent"];

/// Requests on one hidden document; none may succeed.
fn requests(id: &str, revision: &str) -> Vec<Request> {
    let path = format!("/{}", encoded(id));
    let fresh = json!({"_id": id, "type": "clinic", "parent": {"_id": "area-2"}});
    let mut body = fresh.clone();
    body["_rev"] = json!(revision);
    vec![
        Request::new("GET", &path),
        Request::new("HEAD", &path),
        Request::new("GET", &format!("{path}?rev={revision}&revs=true&revs_info=true")),
        Request::new("GET", &format!("{path}/note.txt")),
        Request::new("PUT", &path).json(&body),
        Request::new("PUT", &path).json(&fresh),
        Request::new("POST", "").json(&body),
        Request::new("DELETE", &format!("{path}?rev={revision}")),
        Request::new("DELETE", &path),
        Request::new("COPY", &path).header("Destination", "mine"),
        Request::new("COPY", "/rep-1").header("Destination", &format!("{id}?rev={revision}")),
        Request::new("PUT", &format!("{path}/note.txt?rev={revision}")).header("Content-Type", "text/plain").body("x"),
        Request::new("PUT", &format!("{path}/note.txt")).header("Content-Type", "text/plain").body("x"),
        Request::new("DELETE", &format!("{path}/note.txt?rev={revision}")),
    ]
}

#[test]
fn requests_on_documents_of_others_fail_like_those_on_absent_ones() {
    let outcome = Scene::start(&plain_settings()).and_then(|scene| {
        let mut differences = Vec::new();
        let (before, escrow) = (scene.view()?, scene.operator.escrow()?);
        let absent = "1-00000000000000000000000000000001".to_owned();
        for id in HIDDEN {
            let stored = scene.operator.get(id)?;
            let revision = stored.as_ref().map_or(absent.clone(), |stored| text(stored, "_rev").to_owned());
            // What is reserved is so by its id, whether it is stored or not.
            let absent_id = if id.starts_with("org.couchdb.user:") { "org.couchdb.user:absent" } else { "absent" };
            let like = requests(absent_id, &absent);
            for (request, like) in requests(id, &revision).iter().zip(&like) {
                // Under an absent id the copy of an own report is an own report.
                if request.path == "/rep-1" && stored.is_none() {
                    continue;
                }
                let what = format!("{} {}", request.method, request.path);
                let answer = scene.attacker.request(request)?;
                if answer.status < 400 || answer.status >= 500 {
                    differences.push(format!("{what}: {} {}", answer.status, answer.text()));
                }
                if like.path != "/rep-1" {
                    let wanted = scene.attacker.request(like)?;
                    let known =
                        |text: String| text.replace(id, "ID").replace(absent_id, "ID").replace(&revision, "REV");
                    let shown = |answer: &Response| known(answer.text()).replace(&absent, "REV");
                    let (wanted, got) = ((wanted.status, shown(&wanted)), (answer.status, shown(&answer)));
                    compare(&mut differences, &what, &wanted, &got);
                }
            }
        }
        compare(&mut differences, "view", &before, &scene.view()?);
        compare(&mut differences, "escrow", &escrow, &scene.operator.escrow()?);
        Ok(scene.finish(differences))
    });
    let differences = outcome.unwrap_or_else(|error| vec![error]);
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

/// One interactive batch: what may not be written is forbidden row by row, and not kept.
#[test]
fn an_interactive_batch_is_answered_row_by_row() {
    let outcome = Scene::start(&plain_settings()).and_then(|scene| -> Outcome<Vec<String>> {
        let mut differences = Vec::new();
        let stored = scene.operator.get("pat-9")?.ok_or("pat-9 is not stored")?;
        // An edit of a hidden document is answered like one of a document that is not there.
        let [foreign, absent] = ["pat-9", "pat-none"].map(|id| {
            let mut body = person(id, &own_lineage("hh-1"));
            body["_rev"] = stored["_rev"].clone();
            body
        });
        let documents = json!([
            report("rep-x", "10001"),
            foreign,
            absent,
            report("rep-y", "10009"),
            {"_id": "form:mine", "type": "form"},
            {"_id": "_design/mine"},
            person("pat-x1", &own_lineage("hh-1")),
            report("rep-z", "pat-x1"),
        ]);
        let answer = scene.attacker.send("POST", "/_bulk_docs", Some(&json!({"docs": documents})), &[201])?.json();
        let row = |row: &Value| (text(row, "id").to_owned(), row["ok"] == json!(true), text(row, "error").to_owned());
        let wanted = [
            ("rep-x", ""),
            ("pat-9", "conflict"),
            ("pat-none", "conflict"),
            ("rep-y", "forbidden"),
            ("form:mine", "forbidden"),
            ("_design/mine", "forbidden"),
            ("pat-x1", ""),
            ("rep-z", ""),
        ];
        let wanted: Vec<_> =
            wanted.iter().map(|(id, error)| ((*id).to_owned(), error.is_empty(), (*error).to_owned())).collect();
        compare(&mut differences, "rows", &wanted, &list(&answer).iter().map(row).collect());
        compare(&mut differences, "escrow", &Vec::new(), &scene.operator.escrow()?);
        compare(&mut differences, "pat-9", &Some(stored), &scene.operator.get("pat-9")?);
        exchange(&scene.world.server.anonymous(), &Request::new("GET", "/medic/_all_docs"), &[401])?;
        Ok(scene.finish(differences))
    });
    let differences = outcome.unwrap_or_else(|error| vec![error]);
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}
