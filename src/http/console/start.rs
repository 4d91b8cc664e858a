//! The first page: what needs attention now, by place.

use serde_json::{Value, json};

use super::Handled;
use super::address::Address;
use super::page::{Page, has_parts, nothing_here};
use super::places::by_place;
use super::visit::Visit;
use super::waiting;

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
            areas.push(by_place(visit, database, None).await?);
        }
    }
    let mut held = Vec::new();
    for database in visit.stewarded() {
        let escrow = visit.get(&Address::api(&[database, "_escrow"])).await?;
        held.push(json!({"database": database, "documents": escrow["total_rows"]}));
    }
    let content = json!({
        "orders": waiting::orders(visit).await?, "unsent": waiting::messages(visit, None).await?,
        "alarms": alarms, "asked": asked, "areas": areas, "held": held, "several": databases.len() > 1,
    });
    Page::new("start.html", "What needs attention", "", content).naming_places(visit).await.show(visit)
}
