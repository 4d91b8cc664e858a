//! What every page has around it, its headers, and the pages that say no.

use minijinja::{Value as Shown, context};
use serde_json::{Map, Value, json};
use settle_protocol::{Error, ErrorKind};

use super::address::Address;
use super::visit::Visit;
use super::{Handled, places, templates, words};
use crate::http::error::HttpError;
use crate::http::response::Answer;

const STYLE: &str = include_str!("../pages/console/style.css");
/// No script at all, nothing from elsewhere, and no other site around a page.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'";
/// How long browsers keep the style sheet.
const STYLE_AGE: &str = "max-age=600";

/// A page: a template, its title, the part of the menu it belongs to, and what it shows.
pub(super) struct Page<'a> {
    template: &'static str,
    title: String,
    part: &'static str,
    content: Value,
    problem: Option<&'a HttpError>,
    form: Option<&'a str>,
    status: u16,
}

impl<'a> Page<'a> {
    pub(super) fn new(
        template: &'static str,
        title: impl Into<String>,
        part: &'static str,
        mut content: Value,
    ) -> Self {
        if content["names"].is_null() {
            content["names"] = json!({});
        }
        Self { template, title: title.into(), part, content, problem: None, form: None, status: 200 }
    }

    /// … that tells why something was refused.
    pub(super) fn with_problem(self, problem: Option<&'a HttpError>) -> Self {
        Self { status: problem.map_or(self.status, |problem| problem.status), problem, ..self }
    }

    /// … that calls places by their names, as far as the person may read them.
    pub(super) async fn naming_places(mut self, visit: &Visit<'_>) -> Self {
        self.content["names"] = json!(places::names_in(visit, &self.content).await);
        self
    }

    /// … of several forms, one of which was sent.
    pub(super) fn of_form(self, form: &'a str) -> Self {
        Self { form: Some(form), ..self }
    }

    /// … with another status.
    pub(super) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// As an answer.
    pub(super) fn show(self, visit: &Visit<'_>) -> Handled {
        let problem = self.problem.map(words::refusal);
        let notice = visit.query("done").and_then(words::done).filter(|_| problem.is_none());
        let (person, menu) = match visit.is_logged_in() {
            true => (visit.context.by(), menu(visit)),
            false => ("", Vec::new()),
        };
        let around = context! {
            title => self.title, part => self.part, form => self.form, person, menu, notice,
            token => visit.token(), now => visit.now(), wrong => problem, typed => typed(visit),
            chosen => chosen(visit), manages => visit.is_logged_in() && visit.manages(), sends => visit.sends(),
        };
        let rendered = templates::all().map_err(ToString::to_string).and_then(|templates| {
            let content = context! { ..Shown::from_serialize(&self.content), ..around };
            let page = templates.get_template(self.template).and_then(|template| template.render(content));
            page.map_err(|error| format!("{error:#}"))
        });
        let text = rendered.map_err(|error| {
            tracing::error!(%error, template = self.template, "a page could not be written");
            HttpError::from(Error::new(ErrorKind::Internal, "The page could not be written."))
        })?;
        let answer = Answer::json(self.status, text).content_type("text/html; charset=utf-8");
        let answer = with_headers(answer).header("cache-control", "no-store");
        Ok(match self.problem.and_then(|problem| problem.retry_after) {
            Some(seconds) => answer.header("retry-after", &seconds.to_string()),
            None => answer,
        })
    }
}

/// What stands in the fields: what was typed, or what the address says. Never a password.
fn typed(visit: &Visit<'_>) -> Value {
    let pairs: Vec<(&str, &str)> = match visit.submits() {
        true => visit.form.fields().collect(),
        false => {
            visit.context.request.query.pairs().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
        }
    };
    let shown = pairs.into_iter().filter(|(name, _)| !matches!(*name, "password" | "token"));
    let typed: Map<String, Value> = shown.map(|(name, value)| (name.to_owned(), value.into())).collect();
    typed.into()
}

/// Whether the address chooses some of a list.
fn chosen(visit: &Visit<'_>) -> bool {
    let not_choosing = ["done", "after", "since", "database"];
    visit
        .context
        .request
        .query
        .pairs()
        .iter()
        .any(|(name, value)| !value.is_empty() && !not_choosing.contains(&name.as_str()))
}

/// The parts of the console that the person has something in.
fn menu(visit: &Visit<'_>) -> Vec<Value> {
    let accounts = visit.may(&["_accounts"]);
    let parts = [
        ("", "Start", true),
        ("devices", "Phones", visit.may(&["_devices"])),
        ("handover", "Hand over", visit.manages()),
        ("accounts", "Accounts", accounts),
        ("grants", "Lent places", accounts),
        ("escrow", "Held back", !visit.stewarded().is_empty()),
        ("custody", "Who cared", !visit.with_custody().is_empty()),
        ("audit", "Audit", visit.may(&["_audit"])),
    ];
    let parts = parts.into_iter().filter(|(_, _, shown)| *shown);
    parts.map(|(part, text, _)| json!({"part": part, "text": text})).collect()
}

/// Whether the console has anything for the person.
pub(super) fn has_parts(visit: &Visit<'_>) -> bool {
    menu(visit).len() > 1
}

fn with_headers(answer: Answer) -> Answer {
    answer
        .header("content-security-policy", POLICY)
        .header("referrer-policy", "no-referrer")
        .header("x-content-type-options", "nosniff")
        .header("x-frame-options", "DENY")
        .header("cross-origin-opener-policy", "same-origin")
        .header("cross-origin-resource-policy", "same-origin")
        .header("x-robots-tag", "noindex")
}

/// The style sheet.
pub(super) fn style() -> Answer {
    let answer = Answer::json(200, STYLE).content_type("text/css; charset=utf-8");
    with_headers(answer).header("cache-control", STYLE_AGE)
}

/// Leads to another page after a form: a reload does not send it again.
pub(super) fn lead_to(visit: &Visit<'_>, page: &Address) -> Answer {
    let answer = Answer::empty(303).location(&format!("{}{page}", visit.context.base()));
    with_headers(answer).header("cache-control", "no-store")
}

/// What does not exist, and what the person may not know of.
pub(super) fn nothing_here() -> HttpError {
    Error::missing().into()
}

/// The page that says no. What is not there, and what is not for this person, is one and the same page.
pub(super) fn refused(visit: &Visit<'_>, error: &HttpError) -> Handled {
    let withheld = matches!(error.status, 401 | 403 | 404) && !visit.submits() && visit.is_logged_in();
    let is_missing = withheld || (error.status == 404 && error.reason == "missing");
    let (status, title, text) = if is_missing {
        (404, "Nothing here", "There is no such page, or it is not for you.".to_owned())
    } else {
        (error.status, "Not done", words::refusal(error))
    };
    let page = Page::new("refused.html", title, "-", json!({"text": text}));
    let answer = page.with_status(status).show(visit)?;
    Ok(match error.retry_after {
        Some(seconds) => answer.header("retry-after", &seconds.to_string()),
        None => answer,
    })
}
