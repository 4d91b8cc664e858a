//! Links: made for an account by whoever manages it; shown as a small page; used by a form, so that no preview uses one up.

use serde_json::{Value, json};

use super::Handled;
use super::account_changes::{act, desk_of, flag_in};
use super::accounts::text_of;
use super::database::object_or_empty;
use super::session;
use crate::accounts::links::FreshLink;
use crate::accounts::login::LoginError;
use crate::clock::random;
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::hex;

const PAGE: &str = include_str!("../pages/link.html");
const FORM: &str = include_str!("../pages/link_form.html");

/// What addresses of links begin with.
pub(super) fn base_of_links(context: &Context) -> String {
    let base = context.settings.public_url.clone().unwrap_or_else(|| context.base());
    base.trim_end_matches('/').to_owned()
}

/// The address of a link.
pub(super) fn address_of(context: &Context, token: &str) -> String {
    format!("{}/_links/{token}", base_of_links(context))
}

/// A link as its maker sees it, once. One that is sent is shown to nobody but its receiver.
pub(super) fn link_value(context: &Context, link: &FreshLink) -> Value {
    if let Some(message) = &link.message {
        return json!({"message": hex(message), "expires": link.expires});
    }
    json!({"link": address_of(context, &link.token), "token": link.token, "expires": link.expires})
}

/// `POST /_accounts/NAME/link`: makes a link. The account's earlier one ends.
pub(super) async fn make(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let name = context.request.segment(1).to_owned();
    let send = flag_in(&body, "send")?;
    let desk = desk_of(context, None, text_of(&body, "reason")?)?;
    let link = act(context, desk, move |batch, desk| {
        desk.require_account(batch, &name)?;
        desk.link(batch, &name, send)
    })
    .await?;
    let (status, answer) = match context.request.query.flag("dry_run") {
        true => (200, json!({"ok": true, "dry_run": true})),
        false => (201, link_value(context, &link)),
    };
    Ok(Answer::json(status, answer.to_string()).header("cache-control", "no-store"))
}

/// Text as it stands in a page.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// A page without scripts.
fn page(status: u16, title: &str, text: &str, form: &str) -> Answer {
    let nonce = hex(&random::<16>());
    let text = PAGE
        .replace("{{nonce}}", &nonce)
        .replace("{{title}}", &escaped(title))
        .replace("{{form}}", form)
        .replace("{{text}}", &escaped(text));
    safe_page(Answer::json(status, text), &nonce)
}

/// A page that runs nothing, takes nothing from elsewhere, and is neither kept nor told to other sites.
pub(super) fn safe_page(answer: Answer, nonce: &str) -> Answer {
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    answer
        .content_type("text/html; charset=utf-8")
        .header("cache-control", "no-store")
        .header("content-security-policy", &policy)
        .header("referrer-policy", "no-referrer")
        .header("x-content-type-options", "nosniff")
        .header("x-robots-tag", "noindex")
}

/// `GET /_links/TOKEN`: the same page whatever the token is, so that looking at it tells and changes nothing.
pub(super) fn show(_context: &Context) -> Answer {
    page(200, "Log in", "This link logs this device in. It works once. Nobody will ever ask you for it.", FORM)
}

/// `POST /_links/TOKEN`, from the form of the page: uses the link up and begins a session.
pub(super) async fn redeem(context: &mut Context) -> Handled {
    let site = context.request.header("sec-fetch-site").unwrap_or("none");
    if !matches!(site, "none" | "same-origin") {
        return Ok(page(403, "Not logged in", "Open the link itself: another site has sent you here.", ""));
    }
    let token = context.request.segment(1).to_owned();
    let logged_in = match session::redeem(context, token, None).await {
        Ok(logged_in) => logged_in,
        Err(LoginError::Account(error)) => {
            let answer = page(error.status(), "Not logged in", error.reason(), "");
            return Ok(match HttpError::from(error).retry_after {
                Some(seconds) => answer.header("retry-after", &seconds.to_string()),
                None => answer,
            });
        }
        Err(error) => return Err(error.into()),
    };
    let next = context.settings.link_next.clone();
    let next = next.filter(|next| next.starts_with('/') && !next.starts_with("//") && !next.starts_with("/\\"));
    let answer = match next {
        Some(next) => Answer::empty(303).location(&format!("{}{next}", context.base())),
        None => {
            let text = format!("You are logged in as {}. You can close this page and open the app.", logged_in.name);
            page(200, "Logged in", &text, "")
        }
    };
    Ok(answer.header("set-cookie", &logged_in.cookie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_carry_text_as_text() {
        let answer = page(200, "a<b", "</p><script>alert('1')</script>&\"", FORM);
        let crate::http::response::AnswerBody::Full(body) = answer.body else { panic!("a whole page") };
        let body = String::from_utf8(body.to_vec()).expect("text");
        assert!(body.contains("<h1>a&lt;b</h1>") && !body.contains("<script"), "{body}");
        assert!(!body.contains("{{"), "{body}");
        let policy = answer.headers["content-security-policy"].to_str().expect("text").to_owned();
        let nonce = policy.split("nonce-").nth(1).and_then(|rest| rest.split('\'').next()).expect("a nonce").to_owned();
        assert!(body.contains(&format!("<style nonce=\"{nonce}\">")));
    }
}
