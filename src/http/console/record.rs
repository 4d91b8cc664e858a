//! What happened: the audit log, and who cared for whom when.

use hyper::Method;
use serde_json::{Value, json};

use super::Handled;
use super::address::Address;
use super::moment::day_of;
use super::page::{Page, nothing_here};
use super::visit::{Visit, number, text};
use crate::http::error::HttpError;

/// Entries on a page.
const ROWS: u64 = 50;
/// Members of the query that choose entries.
const FILTERS: [&str; 6] = ["account", "device", "database", "place", "by", "action"];

/// A day of the query as the second it begins, or so many days later.
fn time_of(visit: &Visit<'_>, name: &str, days: u64) -> Result<Option<u64>, HttpError> {
    Ok(day_of(name, visit.query(name), days)?)
}

/// The entries that are asked for.
fn asked(visit: &Visit<'_>) -> Result<Address, HttpError> {
    let api = visit.filtered(Address::api(&["_audit"]), &FILTERS);
    let (from, to) = (time_of(visit, "from", 0)?, time_of(visit, "to", 1)?);
    let api = api.with_some("from", from.map(|from| from.to_string()).as_deref());
    Ok(api.with_some("to", to.map(|to| (to - 1).to_string()).as_deref()))
}

/// The same page with the filters that were chosen.
fn page_of(visit: &Visit<'_>, segments: &[&str]) -> Address {
    visit.filtered(visit.filtered(Address::page(segments), &FILTERS), &["from", "to"])
}

/// `GET audit`: the newest entries; with filters, from the oldest on.
pub(super) async fn audit(visit: &Visit<'_>) -> Handled {
    let api = asked(visit)?;
    let page = page_of(visit, &["audit"]);
    let is_filtered = page != Address::page(&["audit"]);
    let since = match visit.query("since") {
        Some(since) => since.to_owned(),
        None if is_filtered => "0".to_owned(),
        None => {
            let newest = visit.get(&Address::api(&["_audit"]).with("limit", "1")).await?;
            number(&newest["head"]["number"]).saturating_sub(ROWS).to_string()
        }
    };
    let found = visit.get(&api.with("since", &since).with("limit", &ROWS.to_string())).await?;
    let before = since.parse::<u64>().unwrap_or(0);
    let earlier = (before > 0 && !is_filtered).then(|| before.saturating_sub(ROWS).to_string());
    let content = json!({
        "entries": found["entries"],
        "head": found["head"],
        "export": page_of(visit, &["audit", "export"]).to_string(),
        "first": earlier.map(|since| page.clone().with("since", &since).to_string()),
        "next": found["next"].as_u64().map(|next| page.clone().with("since", &next.to_string()).to_string()),
    });
    Page::new("audit.html", "Audit log", "audit", content).show(visit)
}

/// `GET audit/export`: the entries that are chosen, one JSON object a line.
pub(super) async fn export(visit: &Visit<'_>) -> Handled {
    let answer = visit.pass_on(Method::GET, &asked(visit)?, "application/x-ndjson", None).await?;
    let answer = answer.header("content-disposition", "attachment; filename=\"audit.ndjson\"");
    Ok(answer.header("cache-control", "no-store").header("x-content-type-options", "nosniff"))
}

/// `GET custody`: who held the place that somebody or something belongs to, on a day.
pub(super) async fn custody(visit: &Visit<'_>) -> Handled {
    let databases = visit.with_custody();
    let database = visit.query("database").or(databases.first().map(String::as_str)).unwrap_or_default();
    if !databases.iter().any(|known| known == database) {
        return Err(nothing_here());
    }
    let whole = visit.stewarded().iter().any(|known| known == database);
    let mut content = json!({"databases": databases, "database": database, "whole": whole, "custody": Value::Null});
    let mut problem = None;
    if let Some(id) = visit.query("id") {
        match custody_of(visit, database, id).await {
            Ok(custody) => content["custody"] = custody,
            Err(refused) => problem = Some(refused),
        }
    }
    Page::new("custody.html", "Who cared for whom", "custody", content)
        .naming_places(visit)
        .await
        .with_problem(problem.as_ref())
        .show(visit)
}

async fn custody_of(visit: &Visit<'_>, database: &str, id: &str) -> Result<Value, HttpError> {
    // The end of a day that was given.
    let at = time_of(visit, "day", 1)?.map(|end| (end - 1).to_string());
    let mut custody = visit.get(&Address::api(&[database, "_custody", id]).with_some("at", at.as_deref())).await?;
    custody["place"] = text(&custody["place"]).into();
    Ok(custody)
}
