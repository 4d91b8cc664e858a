//! Places that are lent for a while.

use serde_json::{Value, json};
use settle_protocol::Error;

use super::Handled;
use super::address::Address;
use super::moment::midnight;
use super::page::{Page, lead_to, needed};
use super::visit::{Visit, number, rows, text};
use crate::documents::radar::DAY;
use crate::http::error::HttpError;

/// Grants on a page.
const ROWS: usize = 50;
/// Members of the query that choose grants.
const FILTERS: [&str; 3] = ["to", "place", "state"];

/// `GET grants`.
pub(super) async fn list(visit: &Visit<'_>, problem: Option<&HttpError>) -> Handled {
    let filtered = |address: Address| {
        FILTERS.into_iter().fold(address, |address, name| address.with_some(name, visit.query(name)))
    };
    let found = visit.get(&filtered(Address::api(&["_grants"]))).await?;
    let mut grants = rows(&found["grants"]).to_vec();
    grants.sort_by_key(|grant| (std::cmp::Reverse(number(&grant["granted_at"])), text(&grant["id"])));
    let skipped: usize = visit.query("after").and_then(|after| after.parse().ok()).unwrap_or(0);
    let page = filtered(Address::page(&["grants"]));
    let next = (grants.len() > skipped + ROWS).then(|| page.clone().with("after", &(skipped + ROWS).to_string()));
    let content = json!({
        "grants": grants.iter().skip(skipped).take(ROWS).collect::<Vec<_>>(),
        "first": (skipped > 0).then(|| page.to_string()),
        "next": next.map(|next| next.to_string()),
    });
    Page::new("grants.html", "Lent places", "grants", content).with_problem(problem).show(visit)
}

/// `GET grants/new`.
pub(super) fn ask_new(visit: &Visit<'_>, problem: Option<&HttpError>) -> Handled {
    if !visit.may(&["_accounts"]) {
        return Err(super::page::nothing_here());
    }
    let content = json!({"databases": visit.databases(), "database": visit.database()});
    Page::new("grant_form.html", "Lend a place", "grants", content).with_problem(problem).show(visit)
}

/// Midnight before a day of the form (`days`: so many later).
fn time_of(visit: &Visit<'_>, name: &str, days: u64) -> Result<Option<u64>, HttpError> {
    let Some(day) = visit.form.field(name) else { return Ok(None) };
    let refused = || Error::bad_request(format!("`{name}` must be a day, as in 2026-11-21."));
    Ok(Some(midnight(day).ok_or_else(refused)? + days * DAY))
}

fn described(visit: &Visit<'_>) -> Result<Value, HttpError> {
    needed(visit, &["to", "place", "until", "reason"])?;
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
    let revoked = match needed(visit, &["reason"]) {
        Ok(()) => {
            visit.post(&Address::api(&["_grants", id, "revoke"]), Value::Object(visit.body_of(&["reason"]))).await
        }
        Err(missing) => Err(missing),
    };
    match revoked {
        Ok(_) => Ok(lead_to(visit, &Address::page(&["grants"]).with("done", "revoked"))),
        Err(problem) if problem.reason == "missing" => Err(problem),
        Err(problem) => list(visit, Some(&problem)).await,
    }
}
