//! The console: pages for the people who keep phones and accounts, at `/_console/`.
//!
//! It is a client of the API that lives inside the server: whatever a page shows or does, it asks the API for, as the person
//! who is logged in (`visit.rs`). So it decides no right, writes no row and skips no audit entry. What the API does not know
//! for a person, the console does not know either: one and the same page says that there is nothing.

mod accounts;
mod address;
mod cards;
mod devices;
mod escrow;
mod form;
mod grants;
mod handover;
mod login;
mod moment;
mod one_device;
mod page;
mod places;
mod record;
mod start;
mod templates;
mod visit;
mod waiting;
mod words;

use super::error::HttpError;
use super::pipeline::Context;
use super::request::Request;
use super::response::Answer;
use visit::Visit;

/// What a page answers.
type Handled = Result<Answer, HttpError>;

/// The first segment of every path of the console.
const ROOT: &str = "_console";

/// Whether a request is for the console.
pub(crate) fn is_about(request: &Request) -> bool {
    request.segment(0) == ROOT
}

/// `/_utils`, where CouchDB has its own console.
pub(crate) fn elsewhere(context: &Context) -> Answer {
    Answer::empty(303).location(&format!("{}/{ROOT}/", context.base()))
}

/// Answers a request for a page, a form, or the style sheet.
pub(crate) async fn answer(context: &mut Context) -> Handled {
    let path = context.request.segments.get(1..).unwrap_or_default().to_vec();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if path == ["style.css"] {
        return Ok(page::style());
    }
    let visit = Visit::begin(context).await?;
    let answer = match met(&visit, &path).await {
        Ok(answer) => answer,
        Err(error) => page::refused(&visit, &error)?,
    };
    Ok(visit.end(answer))
}

async fn met(visit: &Visit<'_>, path: &[&str]) -> Handled {
    if path != ["login"] && !visit.is_logged_in() {
        return Ok(login::first(visit));
    }
    if !visit.submits() {
        return shown(visit, path).await;
    }
    visit.check_form()?;
    submitted(visit, path).await
}

async fn shown(visit: &Visit<'_>, path: &[&str]) -> Handled {
    match path {
        ["login"] => login::show(visit),
        [] => start::show(visit).await,
        ["devices"] => devices::list(visit).await,
        ["devices", device] => one_device::show(visit, device, None).await,
        ["devices", device, "exposure"] => one_device::exposure(visit, device).await,
        ["handover"] => handover::choose(visit).await,
        ["handover", "replace"] => handover::ask_who(visit, None),
        ["handover", "undo"] => handover::ask_undo(visit, None).await,
        ["accounts"] => accounts::list(visit).await,
        ["accounts", "new"] => accounts::ask_new(visit, None),
        ["accounts", name] => accounts::show(visit, name, None).await,
        ["accounts", name, "change"] => accounts::ask_change(visit, name, None).await,
        ["accounts", name, "retire"] => accounts::ask_retire(visit, name, None).await,
        ["cards"] => cards::ask(visit, None),
        ["grants"] => grants::list(visit, None).await,
        ["grants", "new"] => grants::ask_new(visit, None),
        ["escrow"] => escrow::list(visit).await,
        ["escrow", number] => escrow::show(visit, number, None).await,
        ["audit"] => record::audit(visit).await,
        ["audit", "export"] => record::export(visit).await,
        ["custody"] => record::custody(visit).await,
        _ => Err(page::nothing_here()),
    }
}

async fn submitted(visit: &Visit<'_>, path: &[&str]) -> Handled {
    match path {
        ["login"] => login::submit(visit).await,
        ["logout"] => login::leave(visit).await,
        ["devices", device, act] => one_device::act(visit, device, act).await,
        ["handover", "replace"] => handover::replace(visit).await,
        ["handover", "undo"] => handover::undo(visit).await,
        ["accounts", "new"] => accounts::make(visit).await,
        ["accounts", name, "change"] => accounts::change(visit, name).await,
        ["accounts", name, "messages", id, act] => waiting::act(visit, name, id, act).await,
        ["accounts", name, act] => accounts::act(visit, name, act).await,
        ["cards"] => cards::print(visit).await,
        ["grants", "new"] => grants::make(visit).await,
        ["grants", id, "revoke"] => grants::revoke(visit, id).await,
        ["escrow", number, decision] => escrow::decide(visit, number, decision).await,
        _ => Err(page::nothing_here()),
    }
}
