//! `/_accounts/NAME/reach`: what an account could see at a time, and how that came about.

use serde_json::Value;
use settle_protocol::Error;

use super::Handled;
use crate::accounts::tables::ACCOUNTS;
use crate::documents::administration::{Charge, oversight_of};
use crate::documents::reach::{Asked, reach_at};
use crate::http::error::HttpError;
use crate::http::pipeline::Context;
use crate::http::response::Answer;
use crate::storage::{Read, StorageError};

/// `GET /_accounts/NAME/reach?at=SECONDS`: for those who oversee the account as it is now. Deleted accounts are told about to those
/// who oversee everybody.
pub(super) async fn read(context: &Context) -> Handled {
    let now = context.services.clock.now();
    let at = match context.request.query.get("at").map(str::parse::<u64>) {
        None => now,
        Some(Ok(at)) if at <= now => at,
        Some(_) => {
            return Err(Error::bad_request("`at` must be a time in seconds since 1970, and not later than now.").into());
        }
    };
    let name = context.request.segment(1).to_owned();
    let (store, caller) = (context.services.store.clone(), context.caller.clone());
    let told = tokio::task::spawn_blocking(move || -> Result<Value, HttpError> {
        let snapshot = store.snapshot();
        let charge = oversight_of(&snapshot, &caller)?;
        let row = snapshot.get(&ACCOUNTS, &name)?.unwrap_or_default();
        if charge != Charge::Everybody && !(row.exists && charge.covers(&snapshot, &row)?) {
            return Err(Error::missing().into());
        }
        let asked = Asked { account: &name, at };
        let told = reach_at(&snapshot, asked, |place| charge.covers_place(&snapshot, place))?;
        Ok(told.ok_or_else(Error::missing)?)
    });
    Ok(Answer::json(200, told.await.map_err(|_| StorageError::Panicked)??.to_string()))
}
