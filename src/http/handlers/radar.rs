//! `/_devices` as a whole, and whose data may be on one of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use settle_protocol::Error;

use super::Handled;
use super::devices::{find, known, named};
use crate::accounts::enrolments::{DeviceId, Kind};
use crate::accounts::standing::Standing;
use crate::audit;
use crate::documents::administration::oversight_of;
use crate::documents::databases::Database;
use crate::documents::exposure::{Exposure, Page};
use crate::documents::radar::{Figures, SILENT_DAYS, Sighting, Wanted, look, roll_up, sight};
use crate::documents::scopes::history;
use crate::documents::watched;
use crate::http::error::HttpError;
use crate::http::pipeline::{Context, through_glass};
use crate::http::response::Answer;
use crate::storage::{StorageError, hex, unhex};

/// Contacts on one page of an exposure, unless asked otherwise.
const CONTACTS: usize = 1_000;

/// A word of the query, as the value it stands for in JSON.
fn word<T: serde::de::DeserializeOwned>(name: &str, word: &str) -> Result<T, Error> {
    let value = serde_json::from_value(Value::String(word.to_owned()));
    value.map_err(|_| Error::bad_request(format!("`{word}` is no {name}.")))
}

fn number(context: &Context, name: &str) -> Result<Option<u64>, Error> {
    let text = context.request.query.get(name);
    let parsed = text.map(|text| text.parse().map_err(|_| Error::bad_request(format!("`{name}` must be a number."))));
    parsed.transpose()
}

fn wipe_state(context: &Context) -> Result<Option<String>, Error> {
    match context.request.query.get("wipe") {
        None => Ok(None),
        Some(state @ ("asked" | "ordered" | "reported")) => Ok(Some(state.to_owned())),
        Some(_) => Err(Error::bad_request("`wipe` must be asked, ordered or reported.")),
    }
}

fn wanted(context: &Context) -> Result<Wanted, Error> {
    let query = &context.request.query;
    let standings = query.get("standing").into_iter().flat_map(|list| list.split(','));
    Ok(Wanted {
        account: query.get("account").map(str::to_owned),
        place: query.get("place").map(str::to_owned),
        standings: standings.map(|text| word("standing", text)).collect::<Result<Vec<Standing>, _>>()?,
        kind: query.get("kind").map(|text| word::<Kind>("kind", text)).transpose()?,
        silent_days: number(context, "silent")?,
        pending: query.flag("pending"),
        escrowed: query.flag("escrowed"),
        alarm: query.flag("alarm"),
        wipe: wipe_state(context)?,
    })
}

/// The databases whose figures are told: the one asked for, or every one.
fn databases(context: &Context) -> Result<Vec<Arc<Database>>, Error> {
    let catalogue = &context.services.catalogue;
    match context.request.query.get("database") {
        Some(name) => Ok(vec![catalogue.find(name)?]),
        None => Ok(catalogue.names().iter().filter_map(|name| catalogue.find(name).ok()).collect()),
    }
}

/// The scoped database that `place`, `rollup` and an exposure are about.
fn scoped(databases: &[Arc<Database>], named: bool) -> Result<Arc<Database>, Error> {
    match databases {
        [database] if named && database.row.scoped => Ok(Arc::clone(database)),
        _ => Err(Error::bad_request("Name a scoped database: `database=NAME`.")),
    }
}

/// `GET /_devices`: all devices, or those asked for; with `rollup=true` their figures by place.
pub(super) async fn list(context: &Context) -> Handled {
    let (wanted, databases) = (wanted(context)?, databases(context)?);
    let query = &context.request.query;
    let rolled = query.flag("rollup");
    let one = query.get("database").is_some();
    let place_of = (wanted.place.is_some() || rolled).then(|| scoped(&databases, one)).transpose()?;
    let limit = number(context, "limit")?.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let after = query.get("after").map(|text| unhex(text).ok_or_else(|| Error::bad_request("`after` is no device.")));
    let after: Option<DeviceId> = after.transpose()?;
    let (store, now) = (context.services.store.clone(), context.services.clock.now());
    let caller = context.caller.clone();
    let looked = tokio::task::spawn_blocking(move || -> Result<String, StorageError> {
        let snapshot = store.snapshot();
        let charge = oversight_of(&snapshot, &caller)?;
        // A roll-up counts the silent beside the others, so it does not leave the others out.
        let days = wanted.silent_days.unwrap_or(SILENT_DAYS);
        let of_list = if rolled { Wanted { silent_days: None, ..wanted.clone() } } else { wanted.clone() };
        let sightings = look(&snapshot, &databases, &charge, &of_list, now)?;
        Ok(match place_of.filter(|_| rolled) {
            Some(database) => {
                let groups = roll_up(&snapshot, database.id(), wanted.place.as_deref(), &sightings, days, now)?;
                rollup_json(&wanted, days, &sightings, &groups, now).to_string()
            }
            None => list_json(&sightings, after, limit, now).to_string(),
        })
    });
    Ok(Answer::json(200, looked.await.map_err(|_| StorageError::Panicked)??))
}

fn list_json(sightings: &[Sighting], after: Option<DeviceId>, limit: usize, now: u64) -> Value {
    let mut rest = sightings.iter().filter(|sighting| after.is_none_or(|after| sighting.device > after));
    let devices: Vec<Value> = rest.by_ref().take(limit).map(|sighting| sighting.to_json(now)).collect();
    let last = devices.last().map(|device| device["device"].clone()).unwrap_or_default();
    let next = if rest.next().is_some() { last } else { Value::Null };
    json!({"total_rows": sightings.len(), "devices": devices, "next": next})
}

fn rollup_json(
    wanted: &Wanted,
    days: u64,
    sightings: &[Sighting],
    groups: &BTreeMap<Option<String>, Figures>,
    now: u64,
) -> Value {
    let mut total = Figures::default();
    for sighting in sightings {
        total.add(sighting, days, now);
    }
    let rows = groups.iter().map(|(place, figures)| {
        let mut row = figures.to_json();
        row["place"] = json!(place);
        row
    });
    json!({"place": wanted.place, "silent_days": days, "total": total.to_json(), "rows": rows.collect::<Vec<_>>()})
}

/// `GET /_devices/ID`.
pub(super) fn read(context: &Context) -> Handled {
    Ok(Answer::json(200, view_of(context, named(context)?)?.to_string()))
}

/// What others may know of one device.
pub(super) fn view_of(context: &Context, device: DeviceId) -> Result<Value, HttpError> {
    let (snapshot, now) = (context.services.store.snapshot(), context.services.clock.now());
    let row = known(&snapshot, device, &oversight_of(&snapshot, &context.caller)?)?;
    Ok(sight(&snapshot, &databases(context)?, device, row, now)?.to_json(now))
}

/// `GET /_devices/ID/exposure?database=NAME`: whose data may be on it. Noted as a read before it is answered. For operators only:
/// even the number of people tells whoever may read no patient how full a database is.
pub(super) async fn exposure(context: &Context) -> Handled {
    if !context.caller.is_operator() {
        return Err(Error::missing().into());
    }
    let device = named(context)?;
    let database = scoped(&databases(context)?, context.request.query.get("database").is_some())?;
    let limit = number(context, "limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(CONTACTS);
    let after = context.request.query.get("after").map(str::to_owned);
    if context.services.duties.break_glass {
        through_glass(&context.services, context.by(), &database.name, "DeviceExposure").await?;
    }
    let page = Page { after, limit };
    let store = context.services.store.clone();
    let account = find(&store.snapshot(), device)?.account;
    let entry = context.actor(None).entry("device.exposure").account(&account).device(&device).database(&database.name);
    store.write(move |batch| -> Result<(), StorageError> { audit::append(batch, &entry) }).await?;
    let scopes = history(&store.snapshot(), database.id(), &account, 0)?;
    for (scope, _) in &scopes {
        watched::complete(&store, &database, scope).await?;
    }
    let looked = tokio::task::spawn_blocking(move || -> Result<Value, HttpError> {
        let snapshot = store.snapshot();
        let exposure = Exposure::of(&snapshot, database.id(), &account, device)?;
        let mut answer = exposure.to_json(&snapshot, database.id(), &page)?;
        answer["device"] = hex(&device).into();
        answer["account"] = account.into();
        answer["database"] = database.name.clone().into();
        Ok(answer)
    });
    Ok(Answer::json(200, looked.await.map_err(|_| StorageError::Panicked)??.to_string()))
}
