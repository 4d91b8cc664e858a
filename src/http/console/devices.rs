//! The list of phones: by place, silent ones, those that hold work.

use serde_json::{Value, json};

use super::Handled;
use super::address::Address;
use super::page::Page;
use super::places::by_place;
use super::visit::{Visit, rows};

/// Phones on a page.
const ROWS: &str = "50";
/// Members of the query that choose phones.
const FILTERS: [&str; 8] = ["place", "account", "standing", "silent", "pending", "escrowed", "alarm", "wipe"];

/// `GET devices`.
pub(super) async fn list(visit: &Visit<'_>) -> Handled {
    let names = visit.databases();
    // A place is one of a database.
    let database = visit.query("database").or_else(|| visit.query("place").and(names.first().map(String::as_str)));
    let filtered = |address: Address| visit.filtered(address, &FILTERS).with_some("database", database);
    let api = filtered(Address::api(&["_devices"])).with("limit", ROWS).with_some("after", visit.query("after"));
    let found = visit.get(&api).await?;
    let (first, next) = visit.pages(&filtered(Address::page(&["devices"])), &found["next"]);
    let area = match (database, visit.query("place")) {
        (Some(database), Some(place)) => by_place(visit, database, Some(place)).await?,
        _ => Value::Null,
    };
    // Of a place with nothing below it there is nothing to count.
    let area = if rows(&area["rows"]).len() > 1 { area } else { Value::Null };
    let content = json!({
        "databases": names,
        "area": area,
        "database": visit.query("database"),
        "wipe": visit.query("wipe"),
        "total": found["total_rows"],
        "phones": found["devices"],
        "first": first,
        "next": next,
    });
    Page::new("devices.html", "Phones", "devices", content).naming_places(visit).await.show(visit)
}
