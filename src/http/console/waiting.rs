//! Orders that wait for a second person, and links that could not be sent: where to go about them.

use serde_json::{Value, json};

use super::Handled;
use super::address::Address;
use super::page::{lead_to, nothing_here};
use super::visit::{Visit, rows, text};
use crate::http::error::HttpError;

/// Messages on a page.
const MESSAGES: &str = "5";

/// What an order is about, by its request in words: what it would do, and the page from which somebody else does the same.
fn order(request: &str) -> (&'static str, Option<Address>) {
    let path = request.split_once(' ').map_or("", |(_, path)| path.trim_matches('/'));
    match path.split('/').collect::<Vec<_>>()[..] {
        ["_accounts", name, "disable"] => ("Closing for a while", Some(Address::page(&["accounts", name]))),
        ["_accounts", name, "retire"] => ("Retiring", Some(Address::page(&["accounts", name, "retire"]))),
        ["_devices", id, "retire"] => ("Retiring a phone", Some(Address::page(&["devices", id]))),
        [database, "_places", place, "replace" | "hand_over"] => {
            let page = Address::page(&["handover", "replace"]).with("database", database).with("place", place);
            ("Replacing", Some(page))
        }
        _ => ("Something that ends rights", None),
    }
}

/// Orders to end rights that wait for a second person, as far as the person may give them, too.
pub(super) async fn orders(visit: &Visit<'_>) -> Result<Vec<Value>, HttpError> {
    if !visit.manages() {
        return Ok(Vec::new());
    }
    let mut waiting = visit.get(&Address::api(&["_confirmations"])).await?;
    for row in waiting["waiting"].as_array_mut().into_iter().flatten() {
        let (words, page) = order(&text(&row["request"]));
        row["words"] = words.into();
        row["page"] = page.map(|page| page.to_string()).into();
    }
    Ok(rows(&waiting["waiting"]).to_vec())
}

/// The newest messages with links: those to one account, or those that could not be sent.
pub(super) async fn messages(visit: &Visit<'_>, account: Option<&str>) -> Result<Value, HttpError> {
    if !(visit.sends() && visit.manages()) {
        return Ok(json!([]));
    }
    let state = if account.is_none() { Some("failed") } else { None };
    let api =
        Address::api(&["_outbox"]).with("limit", MESSAGES).with_some("account", account).with_some("state", state);
    Ok(visit.get(&api).await?["rows"].clone())
}

/// `POST accounts/NAME/messages/ID/retry`, `cancel`.
pub(super) async fn act(visit: &Visit<'_>, name: &str, id: &str, act: &str) -> Handled {
    let done = match act {
        "retry" => "resent",
        "cancel" => "called_off",
        _ => return Err(nothing_here()),
    };
    match visit.post(&Address::api(&["_outbox", id, act]), json!({})).await {
        Ok(_) => Ok(lead_to(visit, &Address::page(&["accounts", name]).with("done", done))),
        Err(problem) if problem.reason == "missing" => Err(problem),
        Err(problem) => super::accounts::show(visit, name, Some(&problem)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn an_order_leads_to_the_page_where_it_is_given_again() {
        let page = |request| order(request).1.map(|page| page.to_string());
        assert_eq!(page("POST /_accounts/bea/retire").as_deref(), Some("/_console/accounts/bea/retire"));
        assert_eq!(page("POST /_devices/ab12/retire").as_deref(), Some("/_console/devices/ab12"));
        let replaced = page("POST /medic/_places/area-1/replace");
        assert_eq!(replaced.as_deref(), Some("/_console/handover/replace?database=medic&place=area-1"));
        assert_eq!(page("DELETE /_accounts/bea"), None);
    }
}
