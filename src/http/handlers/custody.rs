//! Places that change hands: replace, rename, hand over, undo; and who held a place when.

use serde_json::{Map, Value, json};
use settle_protocol::Error;

use super::Handled;
use super::account_changes::{act, credential_of, desk_of, flag_in, new_account, party_of, texts_of};
use super::accounts::text_of;
use super::database::object_or_empty;
use super::links::link_value;
use crate::access::placement::of_contact;
use crate::accounts::standing::judge;
use crate::accounts::tables::ACCOUNTS;
use crate::documents::administration::{is_person, oversight_of};
use crate::documents::custody::{Holding, custody_of, history, holder_at};
use crate::documents::parties::Party;
use crate::documents::read;
use crate::documents::replacing::{self, HandedOver, PhoneHandover, Renaming, Replacement};
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{Read, hex};

fn place_of(context: &Context) -> String {
    context.request.segment(2).to_owned()
}

fn contact_in(body: &Map<String, Value>) -> Result<Party, Error> {
    let contact = body.get("contact").map(|value| party_of("contact", value)).transpose()?.flatten();
    contact
        .ok_or_else(|| Error::bad_request("`contact` is missing: the newcomer's id, or the members of a new contact."))
}

/// The members of the newcomer's account.
fn account_in(body: &Map<String, Value>) -> Result<Option<Map<String, Value>>, Error> {
    match body.get("account") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(account)) => Ok(Some(account.clone())),
        Some(_) => Err(Error::bad_request("`account` must be an object.")),
    }
}

async fn replacement(
    context: &Context,
    body: &Map<String, Value>,
    account: &Map<String, Value>,
    same_phone: bool,
) -> Result<Replacement, HttpError> {
    let mut account = new_account(context, account).await?;
    account.send |= flag_in(body, "send")?;
    Ok(Replacement {
        place: place_of(context),
        contact: contact_in(body)?,
        account,
        place_name: text_of(body, "place_name")?,
        retire: texts_of(body, "retire")?,
        same_phone,
    })
}

/// `POST /db/_places/ID/replace`: somebody new takes a place over, with a contact and an account of their own.
pub(super) async fn replace(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let account = account_in(&body)?.unwrap_or_default();
    let wanted = replacement(context, &body, &account, false).await?;
    let desk = desk_of(context, None, text_of(&body, "reason")?)?;
    let handed = act(context, desk, move |batch, desk| replacing::replace(batch, desk, &wanted)).await?;
    handed_over(context, &handed)
}

/// `POST /db/_places/ID/rename_holder`: somebody new has the same contact and account.
pub(super) async fn rename_holder(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let name = text_of(&body, "name")?.filter(|name| !name.trim().is_empty());
    let wanted = Renaming {
        place: place_of(context),
        account: text_of(&body, "account")?,
        name: name.ok_or_else(|| Error::bad_request("`name` is missing: what the newcomer is called."))?,
        phone: text_of(&body, "phone")?,
        credential: credential_of(context, &body).await?,
        send: flag_in(&body, "send")?,
    };
    let desk = desk_of(context, None, text_of(&body, "reason")?)?;
    let handed = act(context, desk, move |batch, desk| replacing::rename_holder(batch, desk, &wanted)).await?;
    handed_over(context, &handed)
}

/// `POST /db/_places/ID/hand_over`: somebody new has the same phone; the same account, too, unless a new one is described.
pub(super) async fn hand_over(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let desk = desk_of(context, None, text_of(&body, "reason")?)?;
    let handed = if body.get("account").is_some_and(Value::is_object) {
        let account = account_in(&body)?.unwrap_or_default();
        let wanted = replacement(context, &body, &account, true).await?;
        act(context, desk, move |batch, desk| replacing::replace(batch, desk, &wanted)).await?
    } else {
        let wanted = PhoneHandover {
            place: place_of(context),
            account: text_of(&body, "account")?,
            contact: contact_in(&body)?,
            credential: credential_of(context, &body).await?,
            send: flag_in(&body, "send")?,
        };
        act(context, desk, move |batch, desk| replacing::hand_over(batch, desk, &wanted)).await?
    };
    handed_over(context, &handed)
}

fn with_revision(id: &str, revision: Option<&String>) -> Value {
    match revision {
        Some(revision) => json!({"id": id, "rev": revision}),
        None => json!({"id": id}),
    }
}

fn handed_over(context: &Context, handed: &HandedOver) -> Handled {
    let tried = context.request.query.flag("dry_run");
    let (snapshot, now) = (context.services.store.snapshot(), context.services.clock.now());
    let mut devices = Vec::new();
    for (device, row) in &handed.draining {
        let account = snapshot.get(&ACCOUNTS, &row.account)?.unwrap_or_default();
        devices.push(json!({
            "device": hex(device), "account": row.account, "name": row.name, "last_seen": row.seen, "last_push": row.pushed,
            "pending": row.pending, "standing": judge(&account, row.epoch, row, now).standing,
        }));
    }
    let mut answer = json!({
        "ok": true,
        "place": with_revision(&handed.place.0, handed.place.1.as_ref()),
        "contact": with_revision(&handed.contact.0, handed.contact.1.as_ref()),
        "former_contact": handed.former_contact,
        "account": handed.account,
        "retired": handed.retired,
        "devices": devices,
    });
    if tried {
        answer["dry_run"] = true.into();
    } else if let Some(link) = &handed.link {
        answer["link"] = link_value(context, link);
    }
    Ok(Answer::json(200, answer.to_string()).header("cache-control", "no-store"))
}

/// `POST /db/_places/ID/undo_replace`: takes a replacement back while the newcomer has pushed nothing.
pub(super) async fn undo(context: &mut Context) -> Handled {
    let body = object_or_empty(context).await?;
    let place = place_of(context);
    let desk = desk_of(context, None, text_of(&body, "reason")?)?;
    let undone = act(context, desk, move |batch, desk| replacing::undo(batch, desk, &place)).await?;
    let tried = context.request.query.flag("dry_run");
    let opened = undone.opened.iter().map(|(name, link)| match link.as_ref().filter(|_| !tried) {
        Some(link) => json!({"name": name, "link": link_value(context, link)}),
        None => json!({"name": name}),
    });
    let mut answer = json!({
        "ok": true,
        "place": {"id": undone.place.0, "rev": undone.place.1},
        "contact": undone.contact,
        "deleted": undone.deleted,
        "opened": opened.collect::<Vec<_>>(),
    });
    if tried {
        answer["dry_run"] = true.into();
    }
    Ok(Answer::json(200, answer.to_string()).header("cache-control", "no-store"))
}

fn shown(holding: &Holding) -> Value {
    json!({
        "contact": holding.contact, "person": holding.person, "account": holding.account, "from": holding.from,
        "until": holding.until, "how": holding.how, "by": holding.by, "ended_how": holding.ended_how,
        "ended_by": holding.ended_by, "undone": holding.undone,
    })
}

/// For whoever oversees accounts and sees no document: a place in their charge that somebody ever held. Anything else is as good
/// as absent, so that nobody learns here which documents there are.
fn require_held(context: &Context, id: &str) -> Result<(), HttpError> {
    let (database, snapshot) = (context.database()?, context.services.store.snapshot());
    let charge = oversight_of(&snapshot, &context.caller)?;
    let held = !history(&snapshot, database.id(), &of_contact(id))?.is_empty();
    match held && charge.covers_place(&snapshot, id)? && !is_person(&snapshot, database.id(), id)? {
        true => Ok(()),
        false => Err(Error::missing().into()),
    }
}

/// `GET /db/_custody/ID?at=SECONDS`: who held the place that a place, person or report belongs to, now or at a time, and every time
/// it changed hands. Stewards ask about anything, whoever oversees accounts about places.
pub(super) fn read(context: &Context) -> Handled {
    let id = context.request.segment(2);
    let database = match context.view.restricted() {
        Some(_) if context.caller.oversees() => {
            require_held(context, id)?;
            context.database()?
        }
        _ => context.require_steward()?,
    };
    let at = match context.request.query.get("at").map(str::parse::<u64>) {
        None => context.services.clock.now(),
        Some(Ok(at)) => at,
        Some(Err(_)) => return Err(Error::bad_request("`at` must be a time in seconds since 1970.").into()),
    };
    let snapshot = context.services.store.snapshot();
    let placement = read::placement(&snapshot, database.id(), id)?.ok_or_else(Error::missing)?;
    let custody = custody_of(&snapshot, database.id(), &placement, at)?;
    let moves = custody.moves.iter().map(|(time, stay)| json!({"time": time, "from": stay.from, "to": stay.to}));
    let answer = json!({
        "id": id,
        "at": at,
        "place": custody.history.first().map(|(_, holding)| holding.place.as_str()),
        "holder": holder_at(&custody.history, at).map(shown),
        "history": custody.history.iter().map(|(_, holding)| shown(holding)).collect::<Vec<_>>(),
        "moves": moves.collect::<Vec<_>>(),
    });
    Ok(Answer::json(200, answer.to_string()))
}
