//! The list of phones: by place, silent ones, those that hold work.

use std::collections::BTreeMap;

use serde_json::json;

use super::Handled;
use super::address::Address;
use super::page::Page;
use super::visit::{Visit, rows};

/// Phones on a page.
const ROWS: &str = "50";
/// Members of the query that choose phones.
const FILTERS: [&str; 8] = ["place", "account", "standing", "silent", "pending", "escrowed", "alarm", "wipe"];

/// The names of places, as far as the person may read them.
pub(super) async fn place_names(visit: &Visit<'_>, database: &str, ids: &[String]) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    if ids.is_empty() {
        return names;
    }
    let api = Address::api(&[database, "_all_docs"]).with("include_docs", "true");
    let found = visit.post(&api, json!({"keys": ids})).await.unwrap_or_default();
    for row in rows(&found["rows"]) {
        if let (Some(id), Some(name)) = (row["id"].as_str(), row["doc"]["name"].as_str()) {
            names.insert(id.to_owned(), name.to_owned());
        }
    }
    names
}

/// `GET devices`.
pub(super) async fn list(visit: &Visit<'_>) -> Handled {
    let names = visit.databases();
    // A place is one of a database.
    let database = visit.query("database").or_else(|| visit.query("place").and(names.first().map(String::as_str)));
    let filtered = |address: Address| visit.filtered(address, &FILTERS).with_some("database", database);
    let api = filtered(Address::api(&["_devices"])).with("limit", ROWS).with_some("after", visit.query("after"));
    let found = visit.get(&api).await?;
    let (first, next) = visit.pages(&filtered(Address::page(&["devices"])), &found["next"]);
    let content = json!({
        "databases": names,
        "database": visit.query("database"),
        "wipe": visit.query("wipe"),
        "total": found["total_rows"],
        "phones": found["devices"],
        "first": first,
        "next": next,
    });
    Page::new("devices.html", "Phones", "devices", content).show(visit)
}
