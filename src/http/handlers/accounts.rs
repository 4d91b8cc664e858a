//! `/_accounts`: what ends and begins an account's rights. Each may be tried first (`?dry_run=true`).

use serde_json::{Value, json};
use settle_protocol::{Error, ErrorKind};

use super::Handled;
use super::account_changes::{act, desk_of};
use super::database::object_or_empty;
use crate::accounts::password::Credential;
use crate::accounts::tables::Closed;
use crate::accounts::withdrawals;
use crate::clock::random;
use crate::documents::accounts::require_activated;
use crate::documents::users::set_password;
use crate::documents::write::Writing;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::StorageError;

fn name_of(context: &Context) -> String {
    context.request.segment(1).to_owned()
}

/// A text member of a body.
pub(super) fn text_of(body: &serde_json::Map<String, Value>, member: &str) -> Result<Option<String>, Error> {
    match body.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Error::bad_request(format!("`{member}` must be text."))),
    }
}

/// `POST /_accounts/NAME/password`: sets another password. What was logged in with the old one may only push from now on.
pub(super) async fn change_password(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let name = name_of(context);
    let password = text_of(&body, "password")?.ok_or_else(|| Error::bad_request("`password` is missing."))?;
    let policy = context.services.password_policy();
    policy.check(&password, &name)?;
    let hashed = tokio::task::spawn_blocking(move || Credential::hash(&password, random()));
    let credential = hashed.await.map_err(|_| StorageError::Panicked)??;
    let desk = desk_of(context, None, text_of(&body, "reason")?)?;
    act(context, desk, move |batch, desk| {
        require_activated(&desk.require_account(batch, &name)?, &name)?;
        let mut writing = Writing::begin(batch, desk.users)?;
        let changed = set_password(&mut writing, &name, &credential, desk.user_author())?;
        writing.end()?;
        if changed { Ok(()) } else { Err(Error::missing().into()) }
    })
    .await?;
    Ok(Answer::ok(200))
}

/// `POST /_accounts/NAME/disable`, `/enable`, `/retire`: closes an account to logins, or opens it. Its devices may push what
/// they hold, for the drain.
pub(super) async fn close(context: &mut Context, closed: Closed) -> Handled {
    let body = object_or_empty(context).await?;
    let name = name_of(context);
    let desk = desk_of(context, None, text_of(&body, "reason")?)?;
    let changed = act(context, desk, move |batch, desk| {
        let account = desk.require_account(batch, &name)?;
        if account.closed == Closed::Retired && closed != Closed::Retired {
            let reason = "This account was retired for good. Delete it and make a new one under the name if it must be used again.";
            return Err(Error::new(ErrorKind::Conflict, reason).into());
        }
        Ok(withdrawals::close(batch, &name, closed, desk.drain, &desk.actor)?)
    })
    .await?;
    Ok(Answer::json(200, json!({"ok": true, "changed": changed}).to_string()))
}

/// `POST /_accounts/NAME/cut`: every device of the account, at once and without a drain; nobody can log in until it is enabled.
pub(super) async fn cut(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let name = name_of(context);
    let desk = desk_of(context, None, text_of(&body, "reason")?)?;
    let devices = act(context, desk, move |batch, desk| {
        desk.require_account(batch, &name)?;
        Ok(withdrawals::cut_account(batch, &name, &desk.actor)?)
    })
    .await?;
    Ok(Answer::json(200, json!({"ok": true, "devices": devices}).to_string()))
}
