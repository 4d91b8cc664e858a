//! One phone: what it may do, what it may hold, what to do next; and the ways to end it.

use serde_json::{Map, Value, json};

use super::Handled;
use super::address::Address;
use super::page::{Page, lead_to, nothing_here};
use super::visit::{Visit, rows, text};
use super::words;
use crate::http::error::HttpError;

/// People and places on a page of an exposure.
const CONTACTS: &str = "50";

/// `GET devices/ID`.
pub(super) async fn show(visit: &Visit<'_>, id: &str, problem: Option<HttpError>) -> Handled {
    let device = visit.get(&Address::api(&["_devices", id])).await?;
    let scoped = if visit.operates() { visit.databases() } else { Vec::new() };
    let on_it = rows(&device["databases"]).iter().map(|row| text(&row["database"]));
    let content = json!({
        "next_step": words::next_step(&device),
        "acts": if visit.manages() { acts(&device) } else { Vec::new() },
        "exposed": on_it.filter(|name| scoped.contains(name)).collect::<Vec<_>>(),
        "receipts": receipts(visit, id).await?,
        "phone": device,
    });
    let title = words::phone_name(&device);
    let page =
        Page::new("device.html", title, "devices", content).naming_places(visit).await.with_problem(problem.as_ref());
    page.of_form(visit.context.request.segment(3)).show(visit)
}

/// The newest receipts, for those who may read the audit log.
async fn receipts(visit: &Visit<'_>, id: &str) -> Result<Vec<Value>, HttpError> {
    if !visit.may(&["_audit"]) {
        return Ok(Vec::new());
    }
    let api = Address::api(&["_audit"]).with("device", id).with("action", "device.receipt");
    let found = visit.get(&api).await?;
    Ok(rows(&found["entries"]).iter().rev().take(10).cloned().collect())
}

/// What may be done to it now. The API decides when it is asked; what it would refuse for sure is not offered.
fn acts(device: &Value) -> Vec<&'static str> {
    let ordered = matches!(device["wipe"]["state"].as_str(), Some("ordered" | "reported"));
    let proved = matches!(device["evidence"].as_str(), Some("manifest" | "overridden"));
    match device["standing"].as_str() {
        Some("active") => vec!["retire", "cut"],
        Some("drained") if proved && !ordered => vec!["wipe", "cut"],
        Some("draining" | "drained") if !ordered => vec!["cut", "override"],
        Some("retired" | "cut") if !ordered => vec!["override"],
        _ => Vec::new(),
    }
}

/// `POST devices/ID/retire`, `cut`, `wipe`, `override`.
pub(super) async fn act(visit: &Visit<'_>, id: &str, act: &str) -> Handled {
    let reason = visit.form.field("reason");
    let mut body = Map::new();
    let path = match act {
        "retire" | "cut" | "wipe" => {
            body.insert("reason".to_owned(), reason.into());
            act
        }
        "override" => {
            body.insert("override".to_owned(), json!({"reason": reason}));
            "wipe"
        }
        _ => return Err(nothing_here()),
    };
    if let Err(missing) = visit.require(&["reason", "sure"]) {
        return show(visit, id, Some(missing)).await;
    }
    match visit.post(&Address::api(&["_devices", id, path]), Value::Object(body)).await {
        Ok(answer) => {
            let done = if answer["needs"].is_null() { path } else { "wipe_asked" };
            Ok(lead_to(visit, &Address::page(&["devices", id]).with("done", done)))
        }
        Err(problem) => show(visit, id, Some(problem)).await,
    }
}

/// `GET devices/ID/exposure`: whose data may be on it.
pub(super) async fn exposure(visit: &Visit<'_>, id: &str) -> Handled {
    let database = visit.query("database").unwrap_or_default();
    let api = Address::api(&["_devices", id, "exposure"]).with("database", database).with("limit", CONTACTS);
    let found = visit.get(&api.with_some("after", visit.query("after"))).await?;
    let page = Address::page(&["devices", id, "exposure"]).with("database", database);
    let (first, next) = visit.pages(&page, &found["next"]);
    let content = json!({"device": id, "database": database, "next": next, "first": first, "exposure": found});
    Page::new("exposure.html", "Whose data may be on it", "devices", content).show(visit)
}
