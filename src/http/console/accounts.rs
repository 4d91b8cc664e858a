//! Accounts: listed, looked at, made, changed, closed and opened, with new links.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::Handled;
use super::address::Address;
use super::page::{Page, lead_to, nothing_here};
use super::visit::Visit;
use super::waiting::messages;
use crate::http::error::HttpError;

/// Accounts on a page.
const ROWS: &str = "50";
/// Phones and grants on the page of an account.
const SHOWN: &str = "20";
/// Members of the query that choose accounts.
const FILTERS: [&str; 4] = ["text", "place", "role", "state"];
/// Fields of an account that are texts of their own.
const TEXTS: [&str; 5] = ["fullname", "phone", "email", "locale", "external_id"];

/// `GET accounts`.
pub(super) async fn list(visit: &Visit<'_>) -> Handled {
    let api = visit.filtered(Address::api(&["_accounts"]), &FILTERS).with("limit", ROWS);
    let found = visit.get(&api.with_some("start_after", visit.query("after"))).await?;
    let (first, next) = visit.pages(&visit.filtered(Address::page(&["accounts"]), &FILTERS), &found["next"]);
    let content = json!({"accounts": found["rows"], "first": first, "next": next});
    Page::new("accounts.html", "Accounts", "accounts", content).naming_places(visit).await.show(visit)
}

/// `GET accounts/NAME`.
pub(super) async fn show(visit: &Visit<'_>, name: &str, problem: Option<&HttpError>) -> Handled {
    let account = visit.get(&Address::api(&["_accounts", name])).await?;
    let phones = visit.get(&Address::api(&["_devices"]).with("account", name).with("limit", SHOWN)).await?;
    let grants = visit.get(&Address::api(&["_grants"]).with("to", name)).await?;
    let content = json!({
        "account": account, "phones": phones["devices"], "phones_total": phones["total_rows"], "grants": grants["grants"],
        "messages": messages(visit, Some(name)).await?,
    });
    let page = Page::new("account.html", name, "accounts", content).naming_places(visit).await.with_problem(problem);
    page.of_form(visit.context.request.segment(3)).show(visit)
}

/// `GET accounts/new`.
pub(super) fn ask_new(visit: &Visit<'_>, problem: Option<&HttpError>) -> Handled {
    visit.require_manager()?;
    let content = json!({"account": Value::Null, "databases": visit.databases()});
    Page::new("account_form.html", "New account", "accounts", content).with_problem(problem).show(visit)
}

/// What a form says about an account.
fn described(visit: &Visit<'_>) -> Map<String, Value> {
    let mut body = visit.body_of(&TEXTS);
    body.extend(visit.body_of(&["reason", "database"]));
    for list in ["roles", "places"] {
        if let Some(words) = visit.form.field(list) {
            let words = words.split(',').map(str::trim).filter(|word| !word.is_empty());
            body.insert(list.to_owned(), words.map(Value::from).collect());
        }
    }
    body
}

/// `POST accounts/new`.
pub(super) async fn make(visit: &Visit<'_>) -> Handled {
    if let Err(missing) = visit.require(&["roles"]) {
        return ask_new(visit, Some(&missing));
    }
    let mut body = described(visit);
    body.extend(visit.body_of(&["name", "contact"]));
    if visit.form.field("contact").is_none() && visit.form.field("new_person").is_some() {
        let person = json!({"name": visit.form.field("fullname"), "phone": visit.form.field("phone")});
        body.insert("contact".to_owned(), person);
    }
    if visit.ticked("send") {
        body.insert("send".to_owned(), true.into());
    }
    match visit.post(&Address::api(&["_accounts"]), Value::Object(body)).await {
        Ok(made) => linked(visit, "The account was made", &made),
        Err(problem) if problem.reason == "missing" => Err(problem),
        Err(problem) => ask_new(visit, Some(&problem)),
    }
}

/// The page that has a link, once.
fn linked(visit: &Visit<'_>, title: &str, made: &Value) -> Handled {
    let content = json!({"name": made["name"], "link": made["link"]});
    Page::new("linked.html", title, "accounts", content).show(visit)
}

/// `GET accounts/NAME/change`.
pub(super) async fn ask_change(visit: &Visit<'_>, name: &str, problem: Option<&HttpError>) -> Handled {
    visit.require_manager()?;
    let account = visit.get(&Address::api(&["_accounts", name])).await?;
    let content = json!({"account": account, "databases": visit.databases()});
    let title = format!("Change {name}");
    Page::new("account_form.html", title, "accounts", content).with_problem(problem).show(visit)
}

/// `POST accounts/NAME/change`: what was emptied is taken away.
pub(super) async fn change(visit: &Visit<'_>, name: &str) -> Handled {
    if let Err(missing) = visit.require(&["roles"]) {
        return ask_change(visit, name, Some(&missing)).await;
    }
    let mut body = described(visit);
    for member in TEXTS {
        body.entry(member).or_insert(Value::Null);
    }
    body.entry("places").or_insert_with(|| json!([]));
    body.insert("contact".to_owned(), visit.form.field("contact").into());
    match visit.ask(Method::PATCH, &Address::api(&["_accounts", name]), Some(Value::Object(body))).await {
        Ok(_) => Ok(lead_to(visit, &Address::page(&["accounts", name]).with("done", "account"))),
        Err(problem) if problem.reason == "missing" => Err(problem),
        Err(problem) => ask_change(visit, name, Some(&problem)).await,
    }
}

/// `GET accounts/NAME/retire`: what it would mean.
pub(super) async fn ask_retire(visit: &Visit<'_>, name: &str, problem: Option<&HttpError>) -> Handled {
    visit.require_manager()?;
    let account = visit.get(&Address::api(&["_accounts", name])).await?;
    let phones = visit.get(&Address::api(&["_devices"]).with("account", name).with("limit", SHOWN)).await?;
    let content = json!({"account": account, "phones": phones["devices"]});
    let title = format!("Retire {name}");
    Page::new("account_close.html", title, "accounts", content)
        .naming_places(visit)
        .await
        .with_problem(problem)
        .show(visit)
}

/// `POST accounts/NAME/link`, `disable`, `enable`, `retire`.
pub(super) async fn act(visit: &Visit<'_>, name: &str, act: &str) -> Handled {
    let done = match act {
        "link" | "disable" | "enable" => act,
        "retire" => "retired",
        _ => return Err(nothing_here()),
    };
    let fields: &[&str] = if act == "retire" { &["reason", "sure"] } else { &["reason"] };
    let mut body = visit.body_of(&["reason"]);
    if act == "link" && visit.ticked("send") {
        body.insert("send".to_owned(), true.into());
    }
    let api = Address::api(&["_accounts", name, act]);
    let answer = match visit.require(fields) {
        Ok(()) => visit.post(&api, Value::Object(body)).await,
        Err(missing) => Err(missing),
    };
    match answer {
        Ok(link) if act == "link" => linked(visit, "A new link", &json!({"name": name, "link": link})),
        Ok(_) => Ok(lead_to(visit, &Address::page(&["accounts", name]).with("done", done))),
        Err(problem) if problem.reason == "missing" => Err(problem),
        Err(problem) if act == "retire" => ask_retire(visit, name, Some(&problem)).await,
        Err(problem) => show(visit, name, Some(&problem)).await,
    }
}
