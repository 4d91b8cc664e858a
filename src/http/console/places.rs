//! Phones counted by place, and what places are called.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::address::Address;
use super::visit::{Visit, rows, text};
use crate::http::error::HttpError;

/// Places of one page that are called by their names.
const MOST_NAMES: usize = 200;
/// How many levels that are one single place each are passed over.
const LEVELS: usize = 8;

/// The names of places, as far as the person may read them.
async fn names(visit: &Visit<'_>, database: &str, ids: &[String]) -> BTreeMap<String, String> {
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

/// The ids of places that a page shows: whatever stands under `place` or `places`.
fn shown_in(value: &Value, ids: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if matches!(name.as_str(), "place" | "places") {
                    ids.extend(member.as_str().map(str::to_owned));
                    ids.extend(rows(member).iter().map(text));
                }
                shown_in(member, ids);
            }
        }
        Value::Array(members) => members.iter().for_each(|member| shown_in(member, ids)),
        _ => {}
    }
}

/// The names of the places that a page shows.
pub(super) async fn names_in(visit: &Visit<'_>, content: &Value) -> BTreeMap<String, String> {
    let mut ids = BTreeSet::new();
    shown_in(content, &mut ids);
    let ids: Vec<String> = ids.into_iter().filter(|id| !id.is_empty()).take(MOST_NAMES).collect();
    let mut found = BTreeMap::new();
    for database in visit.stewarded() {
        found.extend(names(visit, database, &ids).await);
    }
    found
}

async fn counted(visit: &Visit<'_>, database: &str, place: Option<&str>) -> Result<Value, HttpError> {
    let api = Address::api(&["_devices"]).with("database", database).with("rollup", "true");
    visit.get(&api.with_some("place", place)).await
}

/// Phones by the places right below one; without one by those at the top. A top that is one single place says nothing, so what is
/// below it is shown instead. `rows` have `place`, `name`, and the figures of the API; `total` is all of them.
pub(super) async fn by_place(visit: &Visit<'_>, database: &str, place: Option<&str>) -> Result<Value, HttpError> {
    let mut figures = counted(visit, database, place).await?;
    let mut shown = rows(&figures["rows"]).to_vec();
    for _ in 0..LEVELS {
        let (elsewhere, mut placed): (Vec<Value>, Vec<Value>) =
            shown.into_iter().partition(|row| row["place"].is_null());
        let only = match placed.as_slice() {
            [only] if place.is_none() => text(&only["place"]),
            _ => String::new(),
        };
        let below = if only.is_empty() { Value::Null } else { counted(visit, database, Some(&only)).await? };
        let goes_on = rows(&below["rows"]).iter().any(|row| row["place"] != only.as_str());
        if goes_on {
            placed = rows(&below["rows"]).to_vec();
        }
        shown = placed.into_iter().chain(elsewhere).collect();
        if !goes_on {
            break;
        }
    }
    let ids: Vec<String> = shown.iter().map(|row| text(&row["place"])).filter(|id| !id.is_empty()).collect();
    let names = names(visit, database, &ids).await;
    for row in &mut shown {
        let id = text(&row["place"]);
        row["name"] = names.get(&id).cloned().unwrap_or(id).into();
    }
    figures["rows"] = shown.into();
    figures["database"] = database.into();
    Ok(figures)
}
