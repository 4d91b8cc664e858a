//! A sheet of cards with links, for places without SMS: whose cards it has, and a fresh link on each, all in one batch.

use std::ops::ControlFlow;

use settle_protocol::Error;

use super::accounts::Desk;
use super::error::DocumentResult;
use super::filed::filed_of;
use super::members::member;
use super::write::Writing;
use crate::access::placement::of_contact;
use crate::accounts::enrolments;
use crate::accounts::links::FreshLink;
use crate::accounts::tables::{ACCOUNTS, AccountRow};
use crate::audit;
use crate::storage::{Batch, Range, Read, StorageResult};

/// Cards of one sheet.
pub const MOST_CARDS: usize = 500;

/// Whose cards a sheet has.
#[derive(Debug, Clone)]
pub enum Chosen {
    /// These, in this order.
    Accounts(Vec<String>),
    /// The accounts at and below a place that have no password and that nobody has logged in to yet, or all.
    Place {
        /// Its id.
        place: String,
        /// Also those with a password, and those that somebody has logged in to.
        all: bool,
    },
}

/// One card.
#[derive(Debug, Clone)]
pub struct Card {
    /// The account.
    pub account: String,
    /// What the person is called.
    pub name: Option<String>,
    /// What the first place of the account is called, or its id.
    pub place: Option<String>,
    /// The person's language.
    pub locale: Option<String>,
    /// The link.
    pub link: FreshLink,
}

/// Makes a link for each account that is chosen; their earlier links end.
///
/// # Errors
/// `404` for an account or a place that is not there or not in the charge of whoever asks, `403` for an account that is closed,
/// `400` for none or too many, or a failure of the store.
pub fn make(batch: &mut Batch<'_>, desk: &Desk<'_>, chosen: &Chosen) -> DocumentResult<Vec<Card>> {
    let names = match chosen {
        Chosen::Accounts(names) => names.clone(),
        Chosen::Place { place, all } => found_at(batch, desk, place, *all)?,
    };
    if names.is_empty() {
        return Err(Error::bad_request("No such account: there is no card to print.").into());
    }
    if names.len() > MOST_CARDS {
        let reason = format!("{} cards: a sheet has at most {MOST_CARDS}. Choose a smaller place.", names.len());
        return Err(Error::bad_request(reason).into());
    }
    let mut cards: Vec<Card> = Vec::with_capacity(names.len());
    for account in names {
        if cards.iter().any(|card| card.account == account) {
            continue; // a second link would end the first
        }
        let row = desk.require_account(batch, &account)?;
        let link = desk.link(batch, &account, false)?;
        let to = desk.recipient(batch, &account)?;
        let place = row.places.first().map(|place| name_of(batch, desk, place)).transpose()?;
        cards.push(Card { account, name: to.name, place, locale: to.locale, link });
    }
    let entry = desk.actor.entry("sheet.print").detail("cards", cards.len());
    audit::append(batch, &if let Chosen::Place { place, .. } = chosen { entry.place(place) } else { entry })?;
    Ok(cards)
}

/// Open accounts whose places are this one or lie below it, by name.
fn found_at(batch: &mut Batch<'_>, desk: &Desk<'_>, place: &str, all: bool) -> DocumentResult<Vec<String>> {
    let scoped = desk.scoped.ok_or_else(|| Error::bad_request("Places are in scoped databases."))?;
    desk.require_place(batch, place)?;
    let anchor = of_contact(place);
    let mut rows: Vec<(String, AccountRow)> = Vec::new();
    batch.scan(ACCOUNTS.family(), &Range::prefix(b""), &mut |name, row| {
        rows.push((String::from_utf8_lossy(name).into_owned(), ACCOUNTS.decode(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    let mut found = Vec::new();
    for (name, row) in rows.into_iter().filter(|(_, row)| row.exists && row.is_open()) {
        let mut below = false;
        for held in &row.places {
            let filed = filed_of(batch, scoped.id(), held)?.filter(|filed| filed.contact().is_some());
            below |= filed.is_some_and(|filed| filed.line.contains(&anchor));
        }
        let wanted = below && (all || (row.credential.is_none() && !is_known(batch, &name)?));
        if wanted && desk.require_account(batch, &name).is_ok() {
            found.push(name);
        }
    }
    Ok(found)
}

/// Whether somebody has logged in to an account.
pub(super) fn is_known(reader: &impl Read, account: &str) -> StorageResult<bool> {
    let mut known = false;
    enrolments::list(reader, Some(account), |_, _| known = true)?;
    Ok(known)
}

fn name_of(batch: &mut Batch<'_>, desk: &Desk<'_>, place: &str) -> DocumentResult<String> {
    let Some(scoped) = desk.scoped else { return Ok(place.to_owned()) };
    let stored = Writing::begin_as(batch, scoped, desk.author())?.winner_text(place)?;
    let name = stored.map(|(_, text)| member(&text, "name")).transpose()?.flatten();
    Ok(name.and_then(|name| serde_json::from_str(&name).ok()).unwrap_or_else(|| place.to_owned()))
}
