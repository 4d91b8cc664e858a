//! Logging in and out. The browser becomes a device called *console* of whoever logs in.

use hyper::Method;
use serde_json::json;

use super::Handled;
use super::address::Address;
use super::page::{Page, lead_to};
use super::visit::Visit;
use crate::accounts::login::LoginError;
use crate::http::error::HttpError;
use crate::http::handlers::session;
use crate::http::response::Answer;

/// Seconds without use after which an account is logged out here, however long its phones stay logged in.
const IDLE_SECONDS: u64 = 3_600;

/// Leads whoever is not logged in to the login, and back afterwards.
pub(super) fn first(visit: &Visit<'_>) -> Answer {
    let uri = &visit.context.request.uri;
    let asked = uri.path_and_query().map_or("", |asked| asked.as_str());
    let next = Some(asked).filter(|asked| !visit.submits() && next_of(Some(asked)).is_some());
    lead_to(visit, &Address::page(&["login"]).with_some("next", next))
}

/// Where to go after the login: only to a page of the console.
fn next_of(asked: Option<&str>) -> Option<&str> {
    let inside = |next: &&str| next.starts_with("/_console/") && next.bytes().all(|byte| byte.is_ascii_graphic());
    asked.filter(inside).filter(|next| !next.contains(['\\', '#']) && !next.starts_with("/_console/log"))
}

/// `GET login`.
pub(super) fn show(visit: &Visit<'_>) -> Handled {
    if visit.is_logged_in() {
        return Ok(lead_to(visit, &Address::page(&[])));
    }
    page(visit, None)
}

fn page(visit: &Visit<'_>, problem: Option<&HttpError>) -> Handled {
    let next = next_of(visit.query("next").or_else(|| visit.form.field("next")));
    Page::new("login.html", "Log in", "", json!({"next": next})).with_problem(problem).show(visit)
}

/// `POST login`.
pub(super) async fn submit(visit: &Visit<'_>) -> Handled {
    let (name, password) = (visit.form.field("name").unwrap_or_default(), visit.form.raw("password"));
    let seconds = visit.context.settings.device_session_seconds.min(IDLE_SECONDS);
    let device = Some(visit.device());
    match session::begin(visit.context, name.to_owned(), password.to_owned(), device, seconds).await {
        Ok(logged_in) => {
            let next = next_of(visit.form.field("next")).map(str::to_owned);
            let next = next.unwrap_or_else(|| Address::page(&[]).with("done", "login").to_string());
            let answer = lead_to(visit, &Address::page(&[])).location(&format!("{}{next}", visit.context.base()));
            let cookie = match logged_in.cookie.contains("SameSite") {
                true => logged_in.cookie,
                false => format!("{}; SameSite=Lax", logged_in.cookie),
            };
            Ok(answer.header("set-cookie", &cookie))
        }
        Err(LoginError::Account(error)) => page(visit, Some(&error.into())),
        Err(error) => Err(error.into()),
    }
}

/// `POST logout`.
pub(super) async fn leave(visit: &Visit<'_>) -> Handled {
    let ended = visit.pass_on(Method::DELETE, &Address::api(&["_session"]), "application/json", None).await?;
    let mut answer = lead_to(visit, &Address::page(&["login"]).with("done", "logout"));
    if let Some(cookie) = ended.headers.get("set-cookie") {
        answer.headers.insert("set-cookie", cookie.clone());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_login_leads_to_pages_of_the_console_only() {
        for inside in ["/_console/devices?place=a%20b", "/_console/handover"] {
            assert_eq!(next_of(Some(inside)), Some(inside));
        }
        let outside = [
            "//evil.example/",
            "/_console/\\evil",
            "https://evil.example",
            "/medic/doc",
            "/_console/logout",
            "/_console/a b",
        ];
        for outside in outside {
            assert_eq!(next_of(Some(outside)), None, "{outside}");
        }
    }
}
