//! Cards on paper: a sheet with a QR code for each account, to be printed and cut.

use hyper::Method;
use serde_json::{Value, json};

use super::Handled;
use super::address::Address;
use super::page::Page;
use super::visit::Visit;
use crate::http::error::HttpError;

/// `GET cards`.
pub(super) fn ask(visit: &Visit<'_>, problem: Option<&HttpError>) -> Handled {
    visit.require_manager()?;
    let content = json!({"databases": visit.databases(), "database": visit.database()});
    Page::new("cards.html", "Cards on paper", "accounts", content).with_problem(problem).show(visit)
}

/// `POST cards`: the sheet of a place, or of one account. It is a page of its own and the only copy.
pub(super) async fn print(visit: &Visit<'_>) -> Handled {
    let mut body = visit.body_of(&["place", "database", "locale", "reason"]);
    if let Some(account) = visit.form.field("account") {
        body.insert("accounts".to_owned(), json!([account]));
    }
    if visit.ticked("all") {
        body.insert("all".to_owned(), true.into());
    }
    let sheet = Address::api(&["_accounts", "_sheet"]);
    match visit.pass_on(Method::POST, &sheet, "text/html", Some(Value::Object(body))).await {
        Err(problem) if problem.reason != "missing" => ask(visit, Some(&problem)),
        printed => printed,
    }
}
