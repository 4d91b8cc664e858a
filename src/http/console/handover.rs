//! A place changes hands: choose whom to replace, say who comes, see what would happen, do it, give the link; and take it back.

use serde_json::{Value, json};
use settle_protocol::Error;

use super::Handled;
use super::address::Address;
use super::page::{Page, nothing_here};
use super::visit::{Visit, number, rows, texts};
use crate::documents::radar::{DAY, SILENT_DAYS};
use crate::http::error::HttpError;

/// Accounts in the choice.
const CHOICES: &str = "20";

/// `GET handover`: whom is it about?
pub(super) async fn choose(visit: &Visit<'_>) -> Handled {
    visit.require_manager()?;
    let api = visit.filtered(Address::api(&["_accounts"]), &["text"]).with("limit", CHOICES);
    let found = visit.get(&api.with_some("start_after", visit.query("after"))).await?;
    let mut holders = Vec::new();
    for account in rows(&found["rows"]) {
        for place in texts(&account["places"]) {
            holders.push(json!({"account": account, "place": place}));
        }
    }
    let (first, next) = visit.pages(&visit.filtered(Address::page(&["handover"]), &["text"]), &found["next"]);
    let content = json!({
        "holders": holders,
        "asked": visit.query("text").is_some(),
        "first": first,
        "next": next,
    });
    Page::new("handover.html", "Hand over", "handover", content).naming_places(visit).await.show(visit)
}

/// The place that the wizard is about.
fn place_of<'a>(visit: &'a Visit<'_>) -> Result<&'a str, HttpError> {
    visit.query("place").or_else(|| visit.form.field("place")).ok_or_else(nothing_here)
}

/// `GET handover/replace`: who comes?
pub(super) fn ask_who(visit: &Visit<'_>, problem: Option<&HttpError>) -> Handled {
    let place = place_of(visit)?;
    visit.require_manager()?;
    let content = json!({"place": place, "database": visit.database()});
    let title = format!("Replace whoever holds {place}");
    Page::new("replace.html", title, "handover", content).with_problem(problem).show(visit)
}

/// The three practices, as the API calls them.
const PRACTICES: [&str; 3] = ["replace", "rename_holder", "hand_over"];

/// The practice that was chosen; the recommended one if none was.
fn practice(visit: &Visit<'_>) -> Result<&'static str, HttpError> {
    let chosen = visit.form.field("how").unwrap_or(PRACTICES[0]);
    let known = PRACTICES.into_iter().find(|practice| *practice == chosen);
    known.ok_or_else(|| Error::bad_request("`how` is none of the three ways.").into())
}

/// What the API is asked for.
fn wanted(visit: &Visit<'_>, practice: &str) -> Result<Value, HttpError> {
    let of_new_account = visit.form.field("account").or_else(|| visit.form.field("place_name"));
    if practice != "replace" && of_new_account.is_some() {
        let reason = "A name to log in with and a new name of the place go with a new account: leave both empty, or choose that.";
        return Err(Error::bad_request(reason).into());
    }
    let person: Value = visit.body_of(&["name", "phone"]).into();
    let mut body = visit.body_of(&["place_name", "reason"]);
    match practice {
        "rename_holder" => body.extend(visit.body_of(&["name", "phone"])),
        "hand_over" => drop(body.insert("contact".to_owned(), person)),
        _ => {
            let account = visit.form.field("account").map(|name| json!({"name": name}));
            body.insert("account".to_owned(), account.unwrap_or_else(|| json!({})));
            body.insert("contact".to_owned(), person);
        }
    }
    if visit.ticked("send") {
        body.insert("send".to_owned(), true.into());
    }
    Ok(body.into())
}

/// `POST handover/replace`: looks first; does it when that was seen.
pub(super) async fn replace(visit: &Visit<'_>) -> Handled {
    if let Err(missing) = visit.require(&["name", "reason"]) {
        return ask_who(visit, Some(&missing));
    }
    match visit.form.field("step") {
        Some("edit") => ask_who(visit, None),
        Some("do") => carry_out(visit).await,
        _ => look_first(visit).await,
    }
}

async fn ask_api(visit: &Visit<'_>, only_try: bool) -> Result<Value, HttpError> {
    let database = visit.database().unwrap_or_default();
    let practice = practice(visit)?;
    let api = Address::api(&[&database, "_places", place_of(visit)?, practice]);
    let tried = only_try.then_some("true");
    visit.post(&api.with_some("dry_run", tried), wanted(visit, practice)?).await
}

async fn look_first(visit: &Visit<'_>) -> Handled {
    let mut answer = match ask_api(visit, true).await {
        Ok(answer) => answer,
        Err(problem) if problem.reason == "missing" => return Err(problem),
        Err(problem) => return ask_who(visit, Some(&problem)),
    };
    let now = visit.now();
    for device in answer["devices"].as_array_mut().into_iter().flatten() {
        device["silent_days"] = silent_days(device, now).into();
    }
    let carried = ["database", "place", "how", "name", "phone", "account", "place_name", "send", "reason"];
    let content = json!({
        "tried": answer, "carried": visit.body_of(&carried), "place": place_of(visit)?, "how": practice(visit)?,
    });
    Page::new("replace_preview.html", "This is what would happen", "handover", content)
        .naming_places(visit)
        .await
        .show(visit)
}

/// For how many days a phone has been silent, if that is long.
fn silent_days(device: &Value, now: u64) -> Option<u64> {
    let days = now.saturating_sub(number(&device["last_seen"]).max(number(&device["last_push"]))) / DAY;
    (days > SILENT_DAYS).then_some(days)
}

async fn carry_out(visit: &Visit<'_>) -> Handled {
    let answer = match ask_api(visit, false).await {
        Ok(answer) => answer,
        Err(problem) if problem.reason == "missing" => return Err(problem),
        Err(problem) => return ask_who(visit, Some(&problem)),
    };
    let content = json!({
        "done": answer, "database": visit.database(), "place": place_of(visit)?, "how": practice(visit)?,
    });
    Page::new("replaced.html", "The place has changed hands", "handover", content).show(visit)
}

/// `GET handover/undo`: what taking the newest replacement of a place back would do.
pub(super) async fn ask_undo(visit: &Visit<'_>, problem: Option<&HttpError>) -> Handled {
    let (database, place) = (visit.database().unwrap_or_default(), place_of(visit)?);
    let api = Address::api(&[&database, "_places", place, "undo_replace"]).with("dry_run", "true");
    let title = "Take a replacement back";
    match visit.post(&api, json!({})).await {
        Ok(tried) => {
            let content = json!({"tried": tried, "database": database, "place": place});
            Page::new("undo.html", title, "handover", content).with_problem(problem).show(visit)
        }
        // That there is nothing to take back is news for a person, not an error of the page.
        Err(refused) if refused.status == 409 => {
            let page = Page::new("undone.html", title, "handover", json!({"opened": []}));
            page.with_problem(Some(&refused)).with_status(200).show(visit)
        }
        Err(refused) => Err(refused),
    }
}

/// `POST handover/undo`.
pub(super) async fn undo(visit: &Visit<'_>) -> Handled {
    if let Err(missing) = visit.require(&["reason"]) {
        return ask_undo(visit, Some(&missing)).await;
    }
    let database = visit.database().unwrap_or_default();
    let api = Address::api(&[&database, "_places", place_of(visit)?, "undo_replace"]);
    let undone = visit.post(&api, Value::Object(visit.body_of(&["reason"]))).await?;
    let content = json!({"opened": undone["opened"]});
    Page::new("undone.html", "The replacement was taken back", "handover", content).show(visit)
}
