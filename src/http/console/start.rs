//! The first page: what needs attention now, by place.

use serde_json::{Value, json};

use super::Handled;
use super::address::Address;
use super::devices::place_names;
use super::page::{Page, has_parts, nothing_here};
use super::visit::{Visit, rows, text};
use crate::http::error::HttpError;

/// Phones in one of the lists here; the rest is a link away.
const SHOWN: &str = "10";

/// `GET /_console/`.
pub(super) async fn show(visit: &Visit<'_>) -> Handled {
    if !has_parts(visit) {
        return Err(nothing_here());
    }
    let (mut areas, mut alarms, mut asked) = (Vec::new(), Value::Null, Value::Null);
    let databases = visit.databases();
    if visit.may(&["_devices"]) {
        alarms = visit.get(&Address::api(&["_devices"]).with("alarm", "true").with("limit", SHOWN)).await?;
        asked = visit.get(&Address::api(&["_devices"]).with("wipe", "asked").with("limit", SHOWN)).await?;
        for database in &databases {
            areas.push(area(visit, database).await?);
        }
    }
    let mut held = Vec::new();
    for database in visit.stewarded() {
        let escrow = visit.get(&Address::api(&[database, "_escrow"])).await?;
        held.push(json!({"database": database, "documents": escrow["total_rows"]}));
    }
    let content = json!({
        "alarms": alarms, "asked": asked, "areas": areas, "held": held, "several": databases.len() > 1,
    });
    Page::new("start.html", "What needs attention", "", content).show(visit)
}

/// The phones of one database, by place.
async fn area(visit: &Visit<'_>, database: &str) -> Result<Value, HttpError> {
    let mut figures = visit.get(&Address::api(&["_devices"]).with("database", database).with("rollup", "true")).await?;
    let ids: Vec<String> = rows(&figures["rows"]).iter().map(|row| text(&row["place"])).collect();
    let names = place_names(visit, database, &ids).await;
    for row in figures["rows"].as_array_mut().into_iter().flatten() {
        let id = text(&row["place"]);
        row["name"] = names.get(&id).cloned().unwrap_or(id).into();
    }
    figures["database"] = database.into();
    Ok(figures)
}
