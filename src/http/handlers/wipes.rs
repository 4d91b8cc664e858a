//! The order to erase a device, and its report (`docs/handover-protocol.md` §5).

use serde_json::{Map, Value, json};
use settle_protocol::{Error, ErrorKind};

use super::Handled;
use super::accounts::text_of;
use super::database::object_or_empty;
use super::devices::{in_charge, named, pass_of};
use super::radar::view_of;
use crate::accounts::wipes::{self, Asked, CONFIRM_SECONDS};
use crate::clock::random;
use crate::documents::error::DocumentError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{StorageError, hex};

/// Databases in one report.
const MOST_ERASED: usize = 1000;

/// The reason of somebody who takes responsibility.
fn responsible(body: &Map<String, Value>) -> Result<Option<String>, Error> {
    let refused = || Error::bad_request("`override` must be an object with a `reason`: why nothing more can arrive.");
    match body.get("override") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => {
            let reason = text_of(inner, "reason")?.filter(|reason| !reason.trim().is_empty());
            reason.map(Some).ok_or_else(refused)
        }
        Some(_) => Err(refused()),
    }
}

/// `POST /_devices/ID/wipe`.
pub(super) async fn order(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let (device, responsible) = (named(context)?, responsible(&body)?);
    let caller = context.caller.clone();
    let actor = context.actor(text_of(&body, "reason")?);
    let fresh = hex(&random::<16>());
    let asked = context.services.store.write(move |batch| -> Result<Asked, DocumentError> {
        let row = in_charge(batch, device, &caller)?;
        Ok(wipes::order(batch, device, &row, responsible.as_deref(), fresh, &actor)?)
    });
    let asked = asked.await?;
    let known = view_of(context, device)?;
    let figures = |name: &str| known[name].clone();
    let refuse = |word: &str, reason: String| {
        let mut body = json!({"error": word, "reason": reason});
        for name in ["device", "standing", "cause", "evidence", "pending", "last_push", "escrowed", "days_silent"] {
            body[name] = figures(name);
        }
        Ok(Answer::json(409, body.to_string()))
    };
    match asked {
        Asked::Ordered(wipe) => {
            let evidence = figures("evidence");
            let body = json!({
                "ok": true, "device": hex(&device), "order": wipe.order, "ordered_at": wipe.ordered_at, "evidence": evidence,
            });
            Ok(Answer::json(200, body.to_string()))
        }
        Asked::Waiting(wipe) => {
            let until = wipe.asked_at + CONFIRM_SECONDS;
            let body = json!({"ok": true, "needs": "a second person", "asked_by": wipe.by, "confirm_until": until});
            Ok(Answer::json(202, body.to_string()))
        }
        Asked::SamePerson => {
            let reason = "Somebody else must confirm this: the person who asked cannot.";
            refuse("second_person_needed", reason.to_owned())
        }
        Asked::InUse => {
            let reason = "This device may still be used, or its account may come back. Retire the device or the account \
                          first; its unsent work can then still arrive.";
            refuse("final_push_pending", reason.to_owned())
        }
        Asked::Unproven => {
            let reason = match figures("evidence").as_str() {
                Some("inferred") => {
                    "It looks as if everything has arrived, but only because the device went quiet: that is not enough to \
                     erase it."
                }
                _ => "Nothing proves that all work of this device has arrived.",
            };
            let reason = format!(
                "{reason} Let it connect and send its final manifest. If it cannot, two people may take responsibility with \
                 \"override\": {{\"reason\": \"…\"}}."
            );
            refuse("final_push_pending", reason)
        }
    }
}

/// `POST /_device/wipe_reported`: the device says that it erased itself.
pub(super) async fn report(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let order = text_of(&body, "order")?.ok_or_else(|| Error::bad_request("`order` is missing."))?;
    let erased = match body.get("erased") {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(names)) if names.len() <= MOST_ERASED => {
            names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
        }
        Some(_) => None,
    };
    let erased = erased.ok_or_else(|| Error::bad_request("`erased` must be a list of names of databases."))?;
    let (pass, now) = (pass_of(context)?, context.services.clock.now());
    let noted = context
        .services
        .store
        .write(move |batch| -> Result<bool, StorageError> { wipes::report(batch, &pass, &order, erased, now) });
    match noted.await? {
        // Without its cookie, whoever uses this browser next does not raise the alarm.
        true => Ok(Answer::ok(200).header("set-cookie", &context.services.cookies().clearing_cookie(now))),
        false => {
            let reason = "This device has no such order. Erase nothing, and ask GET /_device what to do.";
            Err(Error::new(ErrorKind::Conflict, reason).into())
        }
    }
}
