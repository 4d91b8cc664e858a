//! Places that are lent for a while.

use serde_json::{Value, json};

use super::Handled;
use super::address::Address;
use super::moment::day_of;
use super::page::{Page, lead_to};
use super::visit::{Visit, number, rows, text};
use crate::http::error::HttpError;

/// Grants on a page.
const ROWS: usize = 50;
/// Members of the query that choose grants.
const FILTERS: [&str; 3] = ["to", "place", "state"];

/// `GET grants`.
pub(super) async fn list(visit: &Visit<'_>, problem: Option<&HttpError>) -> Handled {
    let found = visit.get(&visit.filtered(Address::api(&["_grants"]), &FILTERS)).await?;
    let mut grants = rows(&found["grants"]).to_vec();
    grants.sort_by_key(|grant| (std::cmp::Reverse(number(&grant["granted_at"])), text(&grant["id"])));
    let page = visit.filtered(Address::page(&["grants"]), &FILTERS);
    let (shown, first, next) = visit.cut(&grants, ROWS, &page);
    let content = json!({"grants": shown, "first": first, "next": next});
    Page::new("grants.html", "Lent places", "grants", content)
        .naming_places(visit)
        .await
        .with_problem(problem)
        .show(visit)
}

/// `GET grants/new`.
pub(super) fn ask_new(visit: &Visit<'_>, problem: Option<&HttpError>) -> Handled {
    visit.require_manager()?;
    let content = json!({"databases": visit.databases(), "database": visit.database()});
    Page::new("grant_form.html", "Lend a place", "grants", content).with_problem(problem).show(visit)
}

/// Midnight before a day of the form (`days`: so many later).
fn time_of(visit: &Visit<'_>, name: &str, days: u64) -> Result<Option<u64>, HttpError> {
    Ok(day_of(name, visit.form.field(name), days)?)
}

fn described(visit: &Visit<'_>) -> Result<Value, HttpError> {
    visit.require(&["to", "place", "until", "reason"])?;
    let mut body = visit.body_of(&["to", "place", "rights", "reason"]);
    body.insert("database".to_owned(), visit.database().into());
    if let Some(from) = time_of(visit, "from", 0)? {
        body.insert("from".to_owned(), from.into());
    }
    // Until the end of the day.
    body.insert("until".to_owned(), time_of(visit, "until", 1)?.into());
    Ok(Value::Object(body))
}

/// `POST grants/new`.
pub(super) async fn make(visit: &Visit<'_>) -> Handled {
    let made = match described(visit) {
        Ok(body) => visit.post(&Address::api(&["_grants"]), body).await,
        Err(problem) => Err(problem),
    };
    match made {
        Ok(_) => Ok(lead_to(visit, &Address::page(&["grants"]).with("done", "grant"))),
        Err(problem) => ask_new(visit, Some(&problem)),
    }
}

/// `POST grants/ID/revoke`.
pub(super) async fn revoke(visit: &Visit<'_>, id: &str) -> Handled {
    match visit.post_form(&Address::api(&["_grants", id, "revoke"]), &["reason"], &["reason"]).await {
        Ok(_) => Ok(lead_to(visit, &Address::page(&["grants"]).with("done", "revoked"))),
        Err(problem) if problem.reason == "missing" => Err(problem),
        Err(problem) => list(visit, Some(&problem)).await,
    }
}
