//! `/_device`: what a device is told of itself and tells of itself. `/_devices/ID`: what others may do to it.

use serde_json::{Value, json};
use settle_protocol::Error;

use super::Handled;
use super::account_changes::{act, desk_of};
use super::accounts::text_of;
use super::database::object_or_empty;
use super::session::device_text;
use crate::accounts::caller::Caller;
use crate::accounts::enrolments::{self, DeviceId, Enrolment, Pending};
use crate::accounts::standing::{advice, judge};
use crate::accounts::tables::ACCOUNTS;
use crate::accounts::withdrawals::{Pass, cut_device, retire_device};
use crate::documents::administration::{Charge, charge_of, first_beyond};
use crate::documents::devices::in_escrow;
use crate::documents::error::DocumentError;
use crate::documents::receipts::newest;
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{Read, StorageError, hex, unhex};

pub(super) fn pass_of(context: &Context) -> Result<Pass, HttpError> {
    context.caller.pass.clone().ok_or_else(|| Error::missing().into())
}

/// `GET /_device`: the standing of the caller's device, and what to do next.
pub(super) fn own(context: &Context) -> Handled {
    let pass = pass_of(context)?;
    let snapshot = context.services.store.snapshot();
    let account = snapshot.get(&ACCOUNTS, &pass.account)?.unwrap_or_default();
    let row = enrolments::find(&snapshot, &pass.account, pass.device)?.unwrap_or_default();
    let judged = judge(&account, pass.epoch, &row, context.services.clock.now());
    let wipe = row.wipe.as_ref().filter(|wipe| wipe.ordered_at > 0 && wipe.reported_at == 0);
    let mut receipts = Vec::new();
    let mut escrowed = 0;
    for database in context.services.catalogue.all() {
        receipts.extend(newest(&snapshot, database.id(), &pass.device)?);
        escrowed += in_escrow(&snapshot, database.id(), pass.device)?;
    }
    let (next, message) = advice(&account, &judged, wipe.is_some());
    let body = json!({
        "device": hex(&pass.device),
        "account": pass.account,
        "named": row.kind == enrolments::Kind::Named,
        "name": row.name,
        "standing": judged.standing,
        "cause": judged.withdrawal.map(|withdrawal| withdrawal.cause),
        "next": next,
        "message": message,
        "push_until": judged.push_until,
        "escrowed": escrowed,
        "receipts": receipts,
        "wipe": wipe.map(|wipe| json!({"order": wipe.order, "ordered_at": wipe.ordered_at})),
    });
    Ok(Answer::json(200, body.to_string()))
}

/// `POST /_device`: what only the device knows.
pub(super) async fn tell(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let number = |member: &str| match body.get(member) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let whole = value.as_u64();
            whole.map(Some).ok_or_else(|| Error::bad_request(format!("`{member}` must be a whole number, 0 or more.")))
        }
    };
    let (documents, oldest) = (number("pending")?, number("oldest_pending")?);
    let told = Value::Object(body);
    let (name, app) = (device_text(&told, "name")?, device_text(&told, "app")?);
    let (pass, now) = (pass_of(context)?, context.services.clock.now());
    context
        .services
        .store
        .write(move |batch| -> Result<(), StorageError> {
            let known = enrolments::find(batch, &pass.account, pass.device)?;
            let mut row = known.unwrap_or_else(|| Enrolment { account: pass.account.clone(), ..Enrolment::default() });
            if let Some(documents) = documents {
                row.pending = Some(Pending { documents, oldest: oldest.unwrap_or_default(), told: now });
            }
            row.name = name.unwrap_or(row.name);
            row.app = app.unwrap_or(row.app);
            row.seen = now;
            enrolments::put(batch, pass.device, &row);
            Ok(())
        })
        .await?;
    own(context)
}

/// The device that a path names.
pub(super) fn named(context: &Context) -> Result<DeviceId, HttpError> {
    unhex(context.request.segment(1)).ok_or_else(|| Error::missing().into())
}

/// What is known of a device.
pub(super) fn find(reader: &impl Read, device: DeviceId) -> Result<Enrolment, DocumentError> {
    let account = enrolments::account_of(reader, device)?.ok_or_else(Error::missing)?;
    Ok(enrolments::find(reader, &account, device)?.ok_or_else(Error::missing)?)
}

/// What is known of a device whose account is in somebody's charge; another is as good as none.
pub(super) fn known(reader: &impl Read, device: DeviceId, charge: &Charge) -> Result<Enrolment, DocumentError> {
    let row = find(reader, device)?;
    match charge.covers_named(reader, &row.account)? {
        true => Ok(row),
        false => Err(Error::missing().into()),
    }
}

/// What is known of a device that the caller may end: its account is in the caller's charge, and has no role that the caller
/// lacks.
pub(super) fn in_charge(reader: &impl Read, device: DeviceId, caller: &Caller) -> Result<Enrolment, DocumentError> {
    let row = known(reader, device, &charge_of(reader, caller)?)?;
    let account = reader.get(&ACCOUNTS, &row.account)?.unwrap_or_default();
    match first_beyond(caller, &account.roles) {
        None => Ok(row),
        Some(_) => Err(Error::missing().into()),
    }
}

/// How a device's rights end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It may push what it holds.
    Retire,
    /// At once.
    Cut,
}

/// `POST /_devices/ID/retire`, `/cut`.
pub(super) async fn withdraw(context: &mut Context, end: End) -> Handled {
    let body = object_or_empty(context).await?;
    let device = named(context)?;
    let desk = desk_of(context, None, text_of(&body, "reason")?)?;
    let changed = act(context, desk, move |batch, desk| {
        let row = in_charge(batch, device, &desk.caller)?;
        Ok(match end {
            End::Retire => retire_device(batch, device, row, desk.drain, &desk.actor)?,
            End::Cut => cut_device(batch, device, row, &desk.actor)?,
        })
    })
    .await?;
    Ok(Answer::json(200, json!({"ok": true, "changed": changed}).to_string()))
}
