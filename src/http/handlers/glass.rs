//! `/_break_glass`: an operator says why it must read documents of a scoped database, and may for a while, or until it says that
//! it is done.

use serde_json::json;
use settle_protocol::Error;

use super::Handled;
use super::accounts::text_of;
use super::database::object_or_empty;
use crate::accounts::glass::{self, Broken, MOST_MINUTES};
use crate::http::pipeline::Context;
use crate::http::response::Answer;

/// `POST /_break_glass {"database", "reason", "minutes"}`.
pub(super) async fn break_it(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let needed = |member: &str| {
        let text = text_of(&body, member)?.filter(|text| !text.trim().is_empty());
        text.ok_or_else(|| Error::bad_request(format!("`{member}` is missing.")))
    };
    let (database, reason) = (needed("database")?, needed("reason")?);
    let minutes =
        body.get("minutes").and_then(serde_json::Value::as_u64).filter(|minutes| (1..=MOST_MINUTES).contains(minutes));
    let minutes = minutes.ok_or_else(|| Error::bad_request(format!("`minutes` must be 1 to {MOST_MINUTES}.")))?;
    if !context.services.catalogue.find(&database)?.row.scoped {
        return Err(
            Error::bad_request("This database is not scoped: operators read it without breaking anything.").into()
        );
    }
    let from = context.services.clock.now();
    let broken = Broken { by: context.by().to_owned(), database, reason, from, until: from + 60 * minutes };
    let noted = broken.clone();
    context.services.store.write(move |batch| glass::break_it(batch, &noted)).await?;
    let required = context.services.duties.break_glass;
    Ok(Answer::json(201, json!({"ok": true, "until": broken.until, "required": required}).to_string()))
}

/// `GET /_break_glass`: who may read what at the moment, and why. For operators and auditors.
pub(super) fn list(context: &Context) -> Handled {
    let rows = glass::list(&context.services.store.snapshot(), context.services.clock.now())?;
    let required = context.services.duties.break_glass;
    Ok(Answer::json(200, json!({"required": required, "broken": rows}).to_string()))
}

/// `DELETE /_break_glass/DATABASE?by=OPERATOR&reason=…`: nobody needs it any more. Without `by`, the caller's own.
pub(super) async fn end(context: &Context) -> Handled {
    let database = context.request.segment(1).to_owned();
    let text = |member: &str| context.request.query.get(member).map(str::to_owned);
    let (operator, actor) = (text("by").unwrap_or_else(|| context.by().to_owned()), context.actor(text("reason")));
    match context.services.store.write(move |batch| glass::end(batch, &operator, &database, &actor)).await? {
        true => Ok(Answer::ok(200)),
        false => Err(Error::missing().into()),
    }
}
