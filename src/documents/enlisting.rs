//! Accounts in bulk: what becomes of each row of a file. A row is a part of its request that fails alone, so that there is never
//! half an account, and a wrong row keeps none of the others back.
//!
//! A row knows its account again by the external id, or else by the name, so that a file can be sent as often as one likes. What
//! is there already is changed where the row says something else about roles, ids of places and contact, or texts. The place and the
//! contact that a row makes are made with the account, and a password is set with it, and neither again.

use std::collections::BTreeSet;

use settle_protocol::{Error, ErrorKind};

use super::accounts::{AccountChange, Created, Desk, NewAccount, change, create, text_members};
use super::administration::{Charge, charge_of, winner};
use super::error::{DocumentError, DocumentResult};
use super::parties::{Party, ids};
use super::sheets::is_known;
use super::users::set_password;
use super::write::Writing;
use crate::accounts::caller::Caller;
use crate::accounts::external_ids;
use crate::accounts::import_rows::AccountRow as Row;
use crate::accounts::import_rows::named_places::NamedPlaces;
use crate::accounts::links::{self, FreshLink};
use crate::accounts::password::Credential;
use crate::accounts::tables::{ACCOUNTS, AccountRow, Closed};
use crate::accounts::user_document::ID_PREFIX;
use crate::storage::{Batch, Read};

/// What holds for all rows of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// Accounts without a password wait until their person activates them.
    pub prepared: bool,
    /// Links are sent.
    pub send: bool,
    /// The answer that had links and passwords was lost: what was made since this time, in seconds since 1970, and not used, gets
    /// them once more.
    pub again_since: Option<u64>,
}

/// A row, ready for the writer.
#[derive(Debug, Clone)]
pub struct Entrant {
    /// The row.
    pub row: Row,
    /// The hash of the password that a new account gets.
    pub credential: Option<Credential>,
    /// Why there can be no such account, as far as that was seen before.
    pub fault: Option<String>,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// An account was made.
    Created,
    /// It is there already, and as the row says.
    Exists,
    /// It is there already, and was changed.
    Changed,
    /// Nothing was done.
    Refused,
    /// The row says itself that it is done.
    Skipped,
}

impl Became {
    /// The word in answers and result files.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Exists => "exists",
            Self::Changed => "changed",
            Self::Refused => "refused",
            Self::Skipped => "skipped",
        }
    }
}

/// What became of a row, with what its sender needs to know.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// In a word.
    pub became: Became,
    /// The account.
    pub name: Option<String>,
    /// The place that the row makes, made now or before.
    pub place: Option<String>,
    /// The contact that was made now.
    pub contact: Option<String>,
    /// A link that was made now.
    pub link: Option<FreshLink>,
    /// The password was set now.
    pub password_set: bool,
    /// It was there already, and was made since the time that was asked about.
    pub made_since: bool,
    /// Why it was refused, or what else there is to know.
    pub reason: Option<String>,
}

impl Outcome {
    fn of(became: Became, name: Option<String>) -> Self {
        Self {
            became,
            name,
            place: None,
            contact: None,
            link: None,
            password_set: false,
            made_since: false,
            reason: None,
        }
    }

    fn refused(row: &Row, reason: &str) -> Self {
        Self { reason: Some(reason.to_owned()), ..Self::of(Became::Refused, row.name.clone()) }
    }
}

/// Makes, changes or leaves the account of a row. `number`: which row of the request it is. `places` learns the place of the row.
///
/// # Errors
/// When the store fails. A row that is refused is an outcome, and wrote nothing.
pub fn enlist(
    batch: &mut Batch<'_>,
    desk: &Desk<'_>,
    number: usize,
    entrant: &Entrant,
    terms: &Terms,
    places: &mut NamedPlaces,
) -> DocumentResult<Outcome> {
    if entrant.row.done {
        return Ok(Outcome::of(Became::Skipped, entrant.row.name.clone()));
    }
    let desk = desk.apart(&format!("row {number}"));
    let outcome = match batch.part(|batch| enlist_row(batch, &desk, entrant, terms, places)) {
        Err(DocumentError::Refused(error)) if error.status() < 500 => Outcome::refused(&entrant.row, error.reason()),
        other => other?,
    };
    // The account is there, and the place that it was made with is known no more: what names it is refused.
    if outcome.place.is_some() || outcome.became == Became::Refused {
        places.note(&entrant.row, outcome.place.as_deref());
    }
    Ok(outcome)
}

fn enlist_row(
    batch: &mut Batch<'_>,
    desk: &Desk<'_>,
    entrant: &Entrant,
    terms: &Terms,
    places: &NamedPlaces,
) -> DocumentResult<Outcome> {
    let mut entrant = entrant.clone();
    places.resolve(&mut entrant.row).map_err(Error::bad_request)?;
    match find_account(batch, &desk.caller, &entrant.row)? {
        Some((name, stored)) => meet(batch, desk, &name, &stored, entrant, terms),
        None => enter(batch, desk, entrant, terms),
    }
}

fn conflict(reason: String) -> DocumentError {
    Error::new(ErrorKind::Conflict, reason).into()
}

/// The account that a row is about, among those in the charge of whoever asks; `None`: there is none yet.
///
/// # Errors
/// `409` when the row's external id and name are not those of one account, or the name is taken by an account that is another's
/// business; or a failure of the store.
pub fn find_account(reader: &impl Read, caller: &Caller, row: &Row) -> DocumentResult<Option<(String, AccountRow)>> {
    let charge = charge_of(reader, caller)?;
    if let Some(id) = &row.external_id {
        let found = in_charge(reader, &charge, external_ids::find(reader, id)?)?;
        match (found.as_slice(), &row.name) {
            ([], _) => {}
            ([(name, _)], Some(wanted)) if name != wanted => {
                let reason = format!("{id} is the external_id of {name}, and accounts cannot be renamed.");
                return Err(conflict(reason));
            }
            ([_], _) => return Ok(found.into_iter().next()),
            (several, _) => {
                return Err(conflict(format!("{} accounts have the external_id {id}.", several.len())));
            }
        }
    }
    let Some(name) = &row.name else { return Ok(None) };
    let Some(stored) = reader.get(&ACCOUNTS, name)?.filter(|stored| stored.exists) else { return Ok(None) };
    if !charge.covers(reader, &stored)? {
        return Err(taken(name));
    }
    match (&stored.external_id, &row.external_id) {
        (Some(theirs), Some(ours)) if theirs != ours => {
            Err(conflict(format!("There is an account {name} already, with the external_id {theirs}.")))
        }
        _ => Ok(Some((name.clone(), stored))),
    }
}

fn taken(name: &str) -> DocumentError {
    conflict(format!("There is an account {name} already."))
}

fn in_charge(
    reader: &impl Read,
    charge: &Charge,
    found: Vec<(String, AccountRow)>,
) -> DocumentResult<Vec<(String, AccountRow)>> {
    let mut covered = Vec::with_capacity(found.len());
    for (name, row) in found {
        if charge.covers(reader, &row)? {
            covered.push((name, row));
        }
    }
    Ok(covered)
}

/// Makes the account of a row.
fn enter(batch: &mut Batch<'_>, desk: &Desk<'_>, entrant: Entrant, terms: &Terms) -> DocumentResult<Outcome> {
    if let Some(fault) = entrant.fault {
        return Err(Error::bad_request(fault).into());
    }
    if entrant.row.password.is_some() && entrant.credential.is_none() {
        return Err(conflict("This account was deleted a moment ago: send the row again.".to_owned()));
    }
    let password_set = entrant.credential.is_some();
    let wanted = NewAccount::of_row(entrant.row, entrant.credential, terms.prepared, terms.send);
    let Created { name, place, contact, link } = create(batch, desk, &wanted)?;
    let id = |written: (String, String)| written.0;
    let made = Outcome::of(Became::Created, Some(name));
    Ok(Outcome { place: place.map(id), contact: contact.map(id), link, password_set, ..made })
}

/// Changes the account of a row, or leaves it.
fn meet(
    batch: &mut Batch<'_>,
    desk: &Desk<'_>,
    name: &str,
    stored: &AccountRow,
    entrant: Entrant,
    terms: &Terms,
) -> DocumentResult<Outcome> {
    let Entrant { row, credential, .. } = entrant;
    desk.require_account(batch, name).map_err(|error| match error {
        DocumentError::Refused(_) => taken(name),
        other => other,
    })?;
    let mut outcome = Outcome::of(Became::Exists, Some(name.to_owned()));
    outcome.place = place_made(batch, desk, stored, &row)?;
    outcome.made_since = terms.again_since.is_some_and(|since| stored.made >= since);
    if stored.closed == Closed::Retired {
        outcome.reason = Some("This account was retired; nothing was changed.".to_owned());
        return Ok(outcome);
    }
    let wants_link = row.link.unwrap_or(credential.is_none());
    let changes = changes_of(batch, desk, name, stored, row)?;
    if let Some(changes) = changes {
        change(batch, desk, name, &changes)?;
        outcome.became = Became::Changed;
    }
    if stored.closed == Closed::Disabled {
        outcome.reason = Some("This account is disabled.".to_owned());
    } else if outcome.made_since && !is_known(batch, name)? {
        if wants_link && !terms.send && links::of_account(batch, name)?.is_some_and(|link| link.used == 0) {
            outcome.link = Some(desk.link(batch, name, false)?);
        }
        if let Some(credential) = credential.filter(|_| stored.credential.is_some()) {
            let mut writing = Writing::begin(batch, desk.users)?;
            outcome.password_set = set_password(&mut writing, name, &credential, desk.user_author())?;
            writing.end()?;
        }
    }
    Ok(outcome)
}

/// The place of an account that its row made: the one that is called as the row says.
fn place_made(batch: &Batch<'_>, desk: &Desk<'_>, stored: &AccountRow, row: &Row) -> DocumentResult<Option<String>> {
    let (Some(scoped), Some([name, external_id])) = (desk.scoped, row.place_names()) else { return Ok(None) };
    for place in &stored.places {
        let document = winner(batch, scoped.id(), place)?;
        let is = |member: &str, wanted: Option<&str>| wanted.is_none_or(|wanted| document[member] == wanted);
        if is("name", name) && is("external_id", external_id) && (name.is_some() || external_id.is_some()) {
            return Ok(Some(place.clone()));
        }
    }
    Ok(None)
}

/// What a row says otherwise about its account; nothing: it is as the row says.
fn changes_of(
    batch: &Batch<'_>,
    desk: &Desk<'_>,
    name: &str,
    stored: &AccountRow,
    row: Row,
) -> DocumentResult<Option<AccountChange>> {
    let mut changes = AccountChange::default();
    let same =
        |one: &[String], other: &[String]| one.iter().collect::<BTreeSet<_>>() == other.iter().collect::<BTreeSet<_>>();
    if !row.roles.is_empty() && !same(&row.roles, &stored.roles) {
        changes.roles = Some(row.roles);
    }
    let places: Vec<Party> = row.places.into_iter().map(Party::from).collect();
    let named = ids(&places);
    if !named.is_empty() && named.len() == places.len() && !same(&named, &stored.places) {
        changes.places = Some(places);
    }
    if let Some(Party::Id(contact)) = row.contact.map(Party::from)
        && stored.contact.as_ref() != Some(&contact)
    {
        changes.contact = Some(Some(Party::Id(contact)));
    }
    let document = winner(batch, desk.users.id(), &format!("{ID_PREFIX}{name}"))?;
    let texts = [
        ("fullname", row.fullname),
        ("phone", row.phone),
        ("email", row.email),
        ("locale", row.locale),
        ("external_id", row.external_id),
    ];
    for member in text_members() {
        let text = texts.iter().find(|(known, _)| *known == member).and_then(|(_, text)| text.clone());
        if text.as_ref().is_some_and(|text| document[member] != text.as_str()) {
            changes.texts.push((member, text));
        }
    }
    let nothing = changes.roles.is_none() && changes.places.is_none() && changes.contact.is_none();
    Ok(Some(changes).filter(|changes| !nothing || !changes.texts.is_empty()))
}
