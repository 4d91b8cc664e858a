//! `/_grants`: who lets whom see a place for a while.

use serde_json::{Map, Value, json};
use settle_protocol::Error;

use super::Handled;
use super::account_changes::{act, desk_of, flag_in, new_account};
use super::accounts::text_of;
use super::database::object_or_empty;
use super::links::link_value;
use crate::clock::random;
use crate::documents::accounts::NewAccount;
use crate::documents::administration::{Charge, charge_of, is_person, oversight_of};
use crate::documents::error::DocumentError;
use crate::documents::grants::{self, Grant};
use crate::documents::sharing;
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{Read, hex};

fn own_name(context: &Context) -> String {
    context.caller.name.clone().unwrap_or_default()
}

fn shown(grant: &Grant, now: u64) -> Value {
    json!({
        "id": grant.id,
        "to": grant.to,
        "database": grant.database,
        "place": grant.place,
        "depth": grant.depth,
        "report_depth": grant.report_depth,
        "rights": if grant.write { "write" } else { "read" },
        "from": grant.from,
        "until": grant.until,
        "reason": grant.reason,
        "granted_by": grant.granted_by,
        "granted_at": grant.granted_at,
        "revoked_at": (grant.revoked_at > 0).then_some(grant.revoked_at),
        "revoked_by": (grant.revoked_at > 0).then_some(&grant.revoked_by),
        "state": grant.state(now),
        "made_account": grant.drain.is_some(),
    })
}

/// Whether the caller manages the receiver of a grant.
fn manages(reader: &impl Read, charge: &Charge, grant: &Grant) -> Result<bool, HttpError> {
    Ok(charge.covers_named(reader, &grant.to)?)
}

/// `GET /_grants`: those that the caller gave or has; those who manage accounts see all of theirs, auditors see all. `to`, `place` and `state`
/// choose.
pub(super) fn list(context: &Context) -> Handled {
    let snapshot = context.services.store.snapshot();
    let (name, now) = (own_name(context), context.services.clock.now());
    let charge = oversight_of(&snapshot, &context.caller)?;
    let query = &context.request.query;
    let wanted = |grant: &Grant| {
        let place = query.get("place").is_none_or(|place| place == grant.place);
        place && query.get("state").is_none_or(|state| state == grant.state(now))
    };
    let mut rows = Vec::new();
    for grant in grants::list(&snapshot, query.get("to"))?.iter().filter(|grant| wanted(grant)) {
        if grant.to == name || grant.granted_by == name || manages(&snapshot, &charge, grant)? {
            rows.push(shown(grant, now));
        }
    }
    Ok(Answer::json(200, json!({"grants": rows}).to_string()))
}

fn depth_of(body: &Map<String, Value>, member: &str) -> Result<Option<u8>, Error> {
    match body.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(depth) => {
            let depth = depth.as_u64().and_then(|depth| u8::try_from(depth).ok()).filter(|depth| *depth < u8::MAX);
            let reason = format!("`{member}` must be a whole number from 0 to 254, or left out for everything.");
            depth.map(Some).ok_or_else(|| Error::bad_request(reason))
        }
    }
}

fn time_of(body: &Map<String, Value>, member: &str) -> Result<Option<u64>, Error> {
    match body.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(time) => {
            let reason = format!("`{member}` must be a time in seconds since 1970.");
            time.as_u64().map(Some).ok_or_else(|| Error::bad_request(reason))
        }
    }
}

/// `POST /_grants`.
pub(super) async fn make(context: &mut Context) -> Handled {
    context.request.require_json()?;
    let body = object_or_empty(context).await?;
    let needed = |member: &str| {
        let text = text_of(&body, member)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| Error::bad_request(format!("`{member}` is missing.")))
    };
    let now = context.services.clock.now();
    let write = match text_of(&body, "rights")?.as_deref() {
        None | Some("read") => false,
        Some("write") => true,
        Some(_) => return Err(Error::bad_request("`rights` must be read or write.").into()),
    };
    let until = time_of(&body, "until")?.ok_or_else(|| Error::bad_request("`until` is missing: every grant ends."))?;
    let newcomer = match body.get("to") {
        Some(Value::Object(members)) => Some(new_account(context, members).await?),
        _ => None,
    };
    let grant = Grant {
        id: hex(&random::<16>()),
        to: if newcomer.is_some() { String::new() } else { needed("to")? },
        database: needed("database")?,
        place: needed("place")?,
        depth: depth_of(&body, "depth")?,
        report_depth: depth_of(&body, "report_depth")?,
        write,
        from: time_of(&body, "from")?.unwrap_or(now),
        until,
        reason: needed("reason")?,
        granted_by: own_name(context),
        granted_at: now,
        ..Grant::default()
    };
    if let Some(mut newcomer) = newcomer {
        newcomer.send |= flag_in(&body, "send")?;
        return share(context, grant, newcomer).await;
    }
    let database = context.services.catalogue.find(&grant.database)?;
    let caller = context.caller.clone();
    let made = context.services.store.write(move |batch| -> Result<Grant, DocumentError> {
        let charge = charge_of(batch, &caller)?;
        let administers = charge.covers_place(batch, &grant.place)? && charge.covers_named(batch, &grant.to)?;
        let by_administrator = administers && !is_person(batch, database.id(), &grant.place)?;
        let grant = Grant { by_administrator, ..grant };
        grants::make(batch, &database, &grant, now)?;
        Ok(grant)
    });
    let grant = made.await?;
    context.services.grants_changed.notify_one();
    Ok(Answer::json(201, json!({"ok": true, "grant": shown(&grant, now)}).to_string()))
}

/// A grant to somebody who gets an account for it. The link is in the answer, unless it is sent.
async fn share(context: &Context, grant: Grant, newcomer: NewAccount) -> Handled {
    if newcomer.credential.is_some() || !newcomer.places.is_empty() || newcomer.contact.is_some() {
        let reason = "Who gets an account by a grant has no password, no place and no contact of their own.";
        return Err(Error::bad_request(reason).into());
    }
    let database = context.services.catalogue.find(&grant.database)?;
    let desk = desk_of(context, Some(&grant.database), Some(grant.reason.clone()))?;
    let (grant, created) =
        act(context, desk, move |batch, desk| sharing::share(batch, desk, &database, &grant, &newcomer)).await?;
    context.services.grants_changed.notify_one();
    let tried = context.request.query.flag("dry_run");
    let mut answer = json!({"ok": true, "grant": shown(&grant, grant.granted_at)});
    if tried {
        answer["dry_run"] = true.into();
    } else if let Some(link) = &created.link {
        answer["link"] = link_value(context, link);
    }
    Ok(Answer::json(if tried { 200 } else { 201 }, answer.to_string()).header("cache-control", "no-store"))
}

/// `POST /_grants/ID/revoke`: by its granter, its receiver, or those who manage the receiver's account.
pub(super) async fn revoke(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let reason = text_of(&body, "reason")?;
    let (id, name, now) = (context.request.segment(1).to_owned(), own_name(context), context.services.clock.now());
    let snapshot = context.services.store.snapshot();
    let charge = charge_of(&snapshot, &context.caller)?;
    let managed = match grants::list(&snapshot, None)?.iter().find(|grant| grant.id == id) {
        Some(grant) => manages(&snapshot, &charge, grant)?,
        None => false,
    };
    drop(snapshot);
    let revoked = context.services.store.write(move |batch| -> Result<bool, DocumentError> {
        let may_end = |grant: &Grant| managed || grant.to == name || grant.granted_by == name;
        grants::revoke(batch, &id, &name, may_end, reason.as_deref(), now)
    });
    let changed = revoked.await?;
    Ok(Answer::json(200, json!({"ok": true, "changed": changed}).to_string()))
}
