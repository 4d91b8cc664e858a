//! Work that is held back, for stewards: which, why, and what to do with it.

use serde_json::{Value, json};

use super::Handled;
use super::address::Address;
use super::page::{Page, lead_to, nothing_here};
use super::visit::{Visit, rows, text};
use crate::http::error::HttpError;

/// Documents on a page.
const ROWS: usize = 50;

/// The database, if the person is its steward.
fn database_of(visit: &Visit<'_>) -> Result<String, HttpError> {
    let named = visit.query("database").or_else(|| visit.form.field("database"));
    let found = visit.stewarded().iter().find(|database| named.is_none_or(|named| named == *database));
    found.cloned().ok_or_else(nothing_here)
}

/// `GET escrow`.
pub(super) async fn list(visit: &Visit<'_>) -> Handled {
    let database = database_of(visit)?;
    let found = visit.get(&Address::api(&[&database, "_escrow"])).await?;
    let wanted = |row: &&Value| visit.query("account").is_none_or(|account| row["account"] == account);
    let chosen: Vec<&Value> = rows(&found["rows"]).iter().filter(wanted).collect();
    let page = Address::page(&["escrow"]).with("database", &database).with_some("account", visit.query("account"));
    let (shown, first, next) = visit.cut(&chosen, ROWS, &page);
    let content = json!({
        "databases": visit.stewarded(),
        "database": database,
        "total": chosen.len(),
        "rows": shown,
        "first": first,
        "next": next,
    });
    Page::new("escrow.html", "Work that is held back", "escrow", content).show(visit)
}

/// `GET escrow/NUMBER`.
pub(super) async fn show(visit: &Visit<'_>, number: &str, problem: Option<&HttpError>) -> Handled {
    let database = database_of(visit)?;
    let held = visit.get(&Address::api(&[&database, "_escrow", number])).await?;
    let document = serde_json::to_string_pretty(&held["doc"]).unwrap_or_default();
    let content = json!({"database": database, "held": held, "document": document});
    let page = Page::new("escrow_one.html", text(&held["id"]), "escrow", content).with_problem(problem);
    page.of_form(visit.context.request.segment(3)).show(visit)
}

/// `POST escrow/NUMBER/accept`, `reassign`, `discard`.
pub(super) async fn decide(visit: &Visit<'_>, number: &str, decision: &str) -> Handled {
    if !matches!(decision, "accept" | "reassign" | "discard") {
        return Err(nothing_here());
    }
    let database = database_of(visit)?;
    let api = Address::api(&[&database, "_escrow", number, decision]);
    match visit.post_form(&api, &["reason"], &["reason", "subject", "parent"]).await {
        Ok(_) => Ok(lead_to(visit, &Address::page(&["escrow"]).with("database", &database).with("done", "decided"))),
        Err(problem) if problem.reason == "missing" => Err(problem),
        Err(problem) => show(visit, number, Some(&problem)).await,
    }
}
