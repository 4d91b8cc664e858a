//! Handing a place over to another person (design §8): each of the three practices is one batch, so that neither a reader nor
//! a crash meets half of one. What they have in common: the credential changes, so that the old phone may only push, and
//! custody says from when on somebody else cares for the place.
//!
//! * [`replace`]: a contact and an account of their own; the old account is retired. The only one that can be undone.
//! * [`rename_holder`]: the same contact and account, with another name.
//! * [`hand_over`]: the same account (and phone), with a contact of their own.

use serde_json::Value;
use settle_protocol::{Error, ErrorKind};

use super::accounts::{AccountChange, Desk, NewAccount, create, give_away, holders, remove};
use super::administration::is_person;
use super::custody::{self, Holding, How, Replaced};
use super::databases::Database;
use super::error::{DocumentError, DocumentResult};
use super::members::member;
use super::parties::{Party, Written, embedded};
use super::resolving::parents_below;
use super::write::Writing;
use crate::access::facts::USER_PREFIX;
use crate::accounts::enrolments::{self, DeviceId, Enrolment};
use crate::accounts::links::FreshLink;
use crate::accounts::password::Credential;
use crate::accounts::standing::Cause;
use crate::accounts::tables::{ACCOUNTS, Closed};
use crate::accounts::withdrawals;
use crate::audit;
use crate::storage::{Batch, Read, StorageError};

/// Somebody new takes over, with an account of their own.
#[derive(Debug, Clone)]
pub struct Replacement {
    /// The place.
    pub place: String,
    /// The newcomer: to be made, or a contact that is below the place already.
    pub contact: Party,
    /// The newcomer's account; places and contact are those above. Without roles it gets those of the old account.
    pub account: NewAccount,
    /// Another name for the place.
    pub place_name: Option<String>,
    /// The accounts to retire; `None`: those that act as the former primary contact.
    pub retire: Option<Vec<String>>,
    /// The newcomer takes the old phone, too.
    pub same_phone: bool,
}

/// Somebody else takes over a contact and an account as they are.
#[derive(Debug, Clone)]
pub struct Renaming {
    /// The place.
    pub place: String,
    /// The account; `None`: the only one that acts as the primary contact.
    pub account: Option<String>,
    /// The newcomer's name.
    pub name: String,
    /// The newcomer's telephone number.
    pub phone: Option<String>,
    /// The hash of the new password; without one a link is made.
    pub credential: Option<Credential>,
    /// The link is to be sent.
    pub send: bool,
}

/// Somebody else takes over an account and its phone, with a contact of their own.
#[derive(Debug, Clone)]
pub struct PhoneHandover {
    /// The place.
    pub place: String,
    /// The account; `None`: the only one that acts as the primary contact.
    pub account: Option<String>,
    /// The newcomer: to be made, or a contact that is below the place already.
    pub contact: Party,
    /// The hash of the new password; without one a link is made.
    pub credential: Option<Credential>,
    /// The link is to be sent.
    pub send: bool,
}

/// A place that was handed over.
#[derive(Debug, Clone, Default)]
pub struct HandedOver {
    /// The place, with its revision if it has a new one.
    pub place: (String, Option<String>),
    /// Who holds it now, with the contact's revision if it has a new one.
    pub contact: (String, Option<String>),
    /// Who held it.
    pub former_contact: Option<String>,
    /// The account that holds it now.
    pub account: String,
    /// A link for that account.
    pub link: Option<FreshLink>,
    /// Accounts that were retired.
    pub retired: Vec<String>,
    /// The devices that may only push from now on.
    pub draining: Vec<(DeviceId, Enrolment)>,
}

/// A replacement that was taken back.
#[derive(Debug, Clone, Default)]
pub struct Undone {
    /// The place and its new revision.
    pub place: Written,
    /// Who holds it again.
    pub contact: Option<String>,
    /// The newcomer's account, which is deleted.
    pub deleted: String,
    /// The accounts that are open again, with links for those without a password.
    pub opened: Vec<(String, Option<FreshLink>)>,
}

/// Something that is only tried: the error carries what it would do, and the batch takes everything back.
#[derive(Debug)]
pub enum Attempt<T> {
    /// What it would do.
    Tried(Box<T>),
    /// It cannot be done.
    Failed(DocumentError),
    /// It is too much for one person: it would end the rights of these accounts.
    Waits(Vec<String>),
}

impl<T> From<DocumentError> for Attempt<T> {
    fn from(error: DocumentError) -> Self {
        Self::Failed(error)
    }
}

impl<T> From<StorageError> for Attempt<T> {
    fn from(error: StorageError) -> Self {
        Self::Failed(error.into())
    }
}

fn conflict(reason: impl Into<String>) -> DocumentError {
    Error::new(ErrorKind::Conflict, reason.into()).into()
}

fn database_of<'d>(desk: &Desk<'d>) -> DocumentResult<&'d Database> {
    Ok(desk.scoped.ok_or_else(|| Error::bad_request("Places are in scoped databases."))?)
}

/// A place as it is before it is handed over.
struct Before {
    /// Its member `contact` as text.
    member: Option<String>,
    /// Its name as text.
    name: Option<String>,
    /// The primary contact it names.
    contact: Option<String>,
    /// That contact's name.
    person: Option<String>,
}

fn before(batch: &mut Batch<'_>, desk: &Desk<'_>, place: &str) -> DocumentResult<Before> {
    desk.require_place(batch, place)?;
    let writing = Writing::begin_as(batch, database_of(desk)?, desk.author())?;
    let absent = || Error::not_found(format!("There is no place {place}."));
    let filed = writing.filed(place)?.filter(|filed| filed.contact().is_some() && !filed.deleted).ok_or_else(absent)?;
    if is_person(writing.batch, writing.database(), place)? {
        return Err(absent().into());
    }
    let (_, text) = writing.winner_text(place)?.ok_or_else(absent)?;
    let contact = filed.contact().and_then(|facts| facts.primary.clone());
    let named = match &contact {
        Some(contact) => writing.winner_text(contact)?,
        None => None,
    };
    let person = named.map(|(_, text)| member(&text, "name")).transpose()?.flatten();
    Ok(Before {
        member: member(&text, "contact")?,
        name: member(&text, "name")?,
        contact,
        person: person.and_then(|name| serde_json::from_str(&name).ok()),
    })
}

impl Before {
    /// Who holds the place as far as is known, if nothing was noted about it before.
    fn ensure_noted(
        &self,
        batch: &mut Batch<'_>,
        desk: &Desk<'_>,
        place: &str,
        account: Option<&String>,
    ) -> DocumentResult<()> {
        if self.contact.is_none() && account.is_none() {
            return Ok(());
        }
        let known = Holding {
            place: place.to_owned(),
            contact: self.contact.clone(),
            person: self.person.clone(),
            account: account.cloned(),
            ..Holding::default()
        };
        Ok(custody::ensure(batch, database_of(desk)?.id(), &known)?)
    }
}

/// The name in the members of a new contact.
fn text_in(contact: &Party, member: &str) -> Option<String> {
    match contact {
        Party::New(members) => members.get(member).and_then(Value::as_str).map(str::to_owned),
        Party::Id(_) => None,
    }
}

fn devices_of(batch: &Batch<'_>, account: &str, into: &mut Vec<(DeviceId, Enrolment)>) -> DocumentResult<()> {
    Ok(enrolments::list(batch, Some(account), |device, row| into.push((device, row)))?)
}

/// Replaces whoever holds a place.
///
/// # Errors
/// `400` or `404` for what cannot be, `409` for a name that is taken, or a failure of the store.
pub fn replace(batch: &mut Batch<'_>, desk: &Desk<'_>, wanted: &Replacement) -> DocumentResult<HandedOver> {
    let (place, scoped) = (&wanted.place, database_of(desk)?);
    let before = before(batch, desk, place)?;
    if let Party::Id(id) = &wanted.contact
        && before.contact.as_ref() == Some(id)
    {
        return Err(conflict(format!("{id} is the primary contact of {place} already.")));
    }
    let retire = to_retire(batch, desk, place, before.contact.as_deref(), wanted.retire.as_deref())?;
    before.ensure_noted(batch, desk, place, retire.first())?;
    let mut account = wanted.account.clone();
    account.places = vec![Party::Id(place.clone())];
    account.contact = Some(wanted.contact.clone());
    account.fullname = account.fullname.or_else(|| text_in(&wanted.contact, "name"));
    account.phone = account.phone.or_else(|| text_in(&wanted.contact, "phone"));
    account.link = account.credential.is_none();
    if let Some(first) = retire.first().filter(|_| account.roles.is_empty()) {
        account.roles = batch.get(&ACCOUNTS, first)?.unwrap_or_default().roles;
    }
    let created = create(batch, desk, &account)?;
    let contact = match (&wanted.contact, &created.contact) {
        (Party::Id(id), _) => id.clone(),
        (_, made) => made.clone().unwrap_or_default().0,
    };
    let rename = wanted.place_name.as_ref().map(|name| Value::from(name.as_str()).to_string());
    let mut handed = HandedOver {
        contact: (contact.clone(), created.contact.as_ref().map(|(_, revision)| revision.clone())),
        former_contact: before.contact.clone(),
        account: created.name.clone(),
        link: created.link,
        ..HandedOver::default()
    };
    handed.place = name_primary(batch, desk, place, &contact, rename.clone(), before.contact.as_deref())?;
    for name in &retire {
        withdrawals::close(batch, name, Closed::Retired, desk.drain, &desk.actor)?;
        devices_of(batch, name, &mut handed.draining)?;
    }
    let how = if wanted.same_phone { How::HandOver } else { How::Replace };
    let next = Holding {
        place: place.clone(),
        contact: Some(contact.clone()),
        person: account.fullname.clone(),
        account: Some(created.name.clone()),
        epoch: batch.get(&ACCOUNTS, &created.name)?.unwrap_or_default().epoch,
        from: desk.actor.now,
        how,
        by: desk.actor.name.clone(),
        replaced: Some(Replaced {
            contact: before.contact.clone(),
            member: before.member,
            name: rename.map(|now| (before.name, now)),
            made: created.contact.map(|(_, revision)| revision),
            retired: retire.clone(),
        }),
        ..Holding::default()
    };
    custody::pass_on(batch, scoped.id(), next, before.person, &desk.actor)?;
    let action = if wanted.same_phone { "place.hand_over" } else { "place.replace" };
    let entry = desk.actor.entry(action).database(&scoped.name).place(place).account(&created.name);
    let entry = entry.detail("contact", contact).detail("former_contact", before.contact);
    audit::append(batch, &entry.detail("retired", retire.clone()))?;
    handed.retired = retire;
    Ok(handed)
}

/// The accounts to retire. One that holds other places, too, must be named.
fn to_retire(
    batch: &Batch<'_>,
    desk: &Desk<'_>,
    place: &str,
    contact: Option<&str>,
    named: Option<&[String]>,
) -> DocumentResult<Vec<String>> {
    let Some(named) = named else {
        let found = if contact.is_some() { holders(batch, place, contact)? } else { Vec::new() };
        if let Some((name, row)) = found.iter().find(|(_, row)| row.places.len() > 1) {
            let reason = format!(
                "The account {name} holds {} places. Take this one from it first, or name it in `retire`.",
                row.places.len()
            );
            return Err(Error::bad_request(reason).into());
        }
        for (name, _) in &found {
            desk.require_account(batch, name)?;
        }
        return Ok(found.into_iter().map(|(name, _)| name).collect());
    };
    for name in named {
        let row = desk.require_account(batch, name);
        let row = row.map_err(|_| Error::not_found(format!("There is no account {name}.")))?;
        if !row.places.iter().any(|held| held == place) {
            return Err(Error::bad_request(format!("The account {name} does not hold {place}.")).into());
        }
    }
    Ok(named.to_vec())
}

/// Makes a contact the primary contact of a place, and says of the former one by whom it was replaced.
fn name_primary(
    batch: &mut Batch<'_>,
    desk: &Desk<'_>,
    place: &str,
    contact: &str,
    rename: Option<String>,
    former: Option<&str>,
) -> DocumentResult<(String, Option<String>)> {
    let mut writing = Writing::begin_as(batch, database_of(desk)?, desk.author())?;
    let mut chain = vec![contact.to_owned()];
    chain.extend(parents_of(&writing, contact)?);
    let mut changes = vec![("contact", Some(embedded(&chain).to_string()))];
    changes.extend(rename.map(|name| ("name", Some(name))));
    let revision = writing.change_members(place, &changes)?;
    if let Some(former) = former
        && writing.winner_text(former)?.is_some()
    {
        writing.change_members(former, &[("replaced_by", Some(Value::from(contact).to_string()))])?;
    }
    writing.end()?;
    Ok((place.to_owned(), Some(revision.to_string())))
}

fn parents_of(writing: &Writing<'_, '_>, contact: &str) -> DocumentResult<Vec<String>> {
    let filed = writing.filed(contact)?;
    let parent = filed.as_ref().and_then(|filed| filed.contact()?.parents.first().cloned());
    Ok(match parent {
        Some(parent) => parents_below(writing, &parent)?,
        None => Vec::new(),
    })
}

/// The one account that acts as the primary contact of a place, or the one that was named.
fn only_account(batch: &Batch<'_>, place: &str, before: &Before, named: Option<&String>) -> DocumentResult<String> {
    let Some(contact) = before.contact.as_deref() else {
        return Err(conflict(format!("{place} has no primary contact: replace it instead.")));
    };
    let mut names: Vec<String> = holders(batch, place, Some(contact))?.into_iter().map(|(name, _)| name).collect();
    names.retain(|name| named.is_none_or(|wanted| wanted == name));
    match (names.pop(), names.is_empty()) {
        (Some(name), true) => Ok(name),
        (None, _) => Err(conflict(format!("No such account acts as {contact} and holds {place}."))),
        (Some(_), false) => Err(conflict(format!("Several accounts act as {contact}: name one with `account`."))),
    }
}

/// Gives contact and account of whoever holds a place to another person.
///
/// # Errors
/// `404` when the place is not there, `409` when nobody or several accounts hold it, or a failure of the store.
pub fn rename_holder(batch: &mut Batch<'_>, desk: &Desk<'_>, wanted: &Renaming) -> DocumentResult<HandedOver> {
    let (place, scoped) = (&wanted.place, database_of(desk)?);
    let before = before(batch, desk, place)?;
    let account = only_account(batch, place, &before, wanted.account.as_ref())?;
    let contact = before.contact.clone().unwrap_or_default();
    before.ensure_noted(batch, desk, place, Some(&account))?;
    let mut writing = Writing::begin_as(batch, scoped, desk.author())?;
    let text = |text: &String| Some(Value::from(text.as_str()).to_string());
    let mut changes = vec![("name", text(&wanted.name))];
    changes.extend(wanted.phone.as_ref().map(|phone| ("phone", text(phone))));
    let revision = writing.change_members(&contact, &changes)?;
    writing.end()?;
    let mut texts = vec![("fullname", Some(wanted.name.clone()))];
    texts.extend(wanted.phone.as_ref().map(|phone| ("phone", Some(phone.clone()))));
    let change = AccountChange { credential: wanted.credential.clone(), texts, ..AccountChange::default() };
    let mut handed = HandedOver {
        place: (place.clone(), None),
        contact: (contact.clone(), Some(revision.to_string())),
        former_contact: Some(contact),
        account,
        ..HandedOver::default()
    };
    finish(batch, desk, How::Rename, change, before.person, wanted.send, &mut handed)?;
    Ok(handed)
}

/// Gives account and phone of whoever holds a place to another person, who gets a contact of their own.
///
/// # Errors
/// As [`rename_holder`], and `400` or `404` for a contact that cannot be.
pub fn hand_over(batch: &mut Batch<'_>, desk: &Desk<'_>, wanted: &PhoneHandover) -> DocumentResult<HandedOver> {
    let (place, scoped) = (&wanted.place, database_of(desk)?);
    let before = before(batch, desk, place)?;
    let account = only_account(batch, place, &before, wanted.account.as_ref())?;
    before.ensure_noted(batch, desk, place, Some(&account))?;
    let mut writing = Writing::begin_as(batch, scoped, desk.author())?;
    let resolved = writing.parties(desk, &[Party::Id(place.clone())], Some(&wanted.contact))?;
    writing.end()?;
    let contact = resolved.contact.unwrap_or_default();
    if before.contact.as_ref() == Some(&contact) {
        return Err(conflict(format!("{contact} is the primary contact of {place} already.")));
    }
    let mut handed = HandedOver {
        contact: (contact.clone(), resolved.made_contact.map(|(_, revision)| revision)),
        former_contact: before.contact.clone(),
        account,
        ..HandedOver::default()
    };
    handed.place = name_primary(batch, desk, place, &contact, None, before.contact.as_deref())?;
    let name = text_in(&wanted.contact, "name");
    let mut texts = vec![("fullname", name)];
    texts.extend(text_in(&wanted.contact, "phone").map(|phone| ("phone", Some(phone))));
    let change = AccountChange {
        credential: wanted.credential.clone(),
        contact: Some(Some(Party::Id(contact))),
        texts,
        ..AccountChange::default()
    };
    finish(batch, desk, How::HandOver, change, before.person, wanted.send, &mut handed)?;
    Ok(handed)
}

/// The account changes hands: its credential, custody, a link, the audit entry.
fn finish(
    batch: &mut Batch<'_>,
    desk: &Desk<'_>,
    how: How,
    change: AccountChange,
    former_person: Option<String>,
    send: bool,
    handed: &mut HandedOver,
) -> DocumentResult<()> {
    let scoped = database_of(desk)?;
    give_away(batch, desk, &handed.account, &change)?;
    let fullname = change.texts.into_iter().find(|(member, _)| *member == "fullname");
    let next = Holding {
        place: handed.place.0.clone(),
        contact: Some(handed.contact.0.clone()),
        person: fullname.and_then(|(_, name)| name),
        account: Some(handed.account.clone()),
        epoch: batch.get(&ACCOUNTS, &handed.account)?.unwrap_or_default().epoch,
        from: desk.actor.now,
        how,
        by: desk.actor.name.clone(),
        ..Holding::default()
    };
    custody::pass_on(batch, scoped.id(), next, former_person, &desk.actor)?;
    if change.credential.is_none() || send {
        handed.link = Some(desk.link(batch, &handed.account, send)?);
    }
    devices_of(batch, &handed.account, &mut handed.draining)?;
    let action = if how == How::Rename { "place.rename_holder" } else { "place.hand_over" };
    let entry = desk.actor.entry(action).database(&scoped.name).place(&handed.place.0).account(&handed.account);
    let entry = entry.detail("contact", handed.contact.0.as_str());
    Ok(audit::append(batch, &entry.detail("former_contact", handed.former_contact.clone()))?)
}

/// Takes the newest replacement of a place back, while nothing was pushed by the newcomer.
///
/// # Errors
/// `404` when the place is not there, `409` when there is nothing to take back or the newcomer has pushed, or a failure of the store.
pub fn undo(batch: &mut Batch<'_>, desk: &Desk<'_>, place: &str) -> DocumentResult<Undone> {
    let scoped = database_of(desk)?;
    let now = before(batch, desk, place)?;
    let nothing = || conflict(format!("Whoever holds {place} did not come to it by a replacement that can be undone."));
    let (number, holding) = custody::present(batch, scoped.id(), place)?.ok_or_else(nothing)?;
    let replaced = holding.replaced.clone().ok_or_else(nothing)?;
    let account = holding.account.clone().ok_or_else(nothing)?;
    if now.contact != holding.contact {
        return Err(conflict(format!("{place} has got another primary contact since: nothing was undone.")));
    }
    desk.require_account(batch, &account)?;
    let mut devices = Vec::new();
    devices_of(batch, &account, &mut devices)?;
    if devices.iter().any(|(_, device)| device.pushed > 0) {
        return Err(conflict(format!("{account} has pushed already: hand the place over again instead.")));
    }
    let contact = holding.contact.clone().unwrap_or_default();
    custody::take_back(batch, scoped.id(), number, holding, &desk.actor)?;
    remove(batch, desk, &account)?;
    let mut writing = Writing::begin_as(batch, scoped, desk.author())?;
    let mut changes = vec![("contact", replaced.member.clone())];
    if let Some((former, given)) = &replaced.name
        && now.name.as_ref() == Some(given)
    {
        changes.push(("name", former.clone()));
    }
    let revision = writing.change_members(place, &changes)?;
    if let Some(former) = &replaced.contact
        && writing.winner_text(former)?.is_some()
    {
        writing.change_members(former, &[("replaced_by", None)])?;
    }
    let settings = format!("{USER_PREFIX}{account}");
    for (id, made) in [(&contact, replaced.made.as_deref()), (&settings, None)] {
        let stored = writing.winner_text(id)?.map(|(revision, _)| revision);
        // A contact that was there before stays, and so does one that somebody has changed since.
        let unchanged = |revision: &settle_protocol::Revision| *id == settings || made == Some(&revision.to_string());
        if let Some(revision) = stored.filter(unchanged) {
            writing.delete_document(id, revision)?;
        }
    }
    writing.end()?;
    let mut undone = Undone {
        place: (place.to_owned(), revision.to_string()),
        contact: replaced.contact.clone(),
        deleted: account.clone(),
        opened: Vec::new(),
    };
    for name in &replaced.retired {
        undone.opened.push((name.clone(), open_again(batch, desk, name)?));
    }
    let entry = desk.actor.entry("place.undo_replace").database(&scoped.name).place(place).account(&account);
    let entry = entry.detail("contact", replaced.contact).detail("opened", replaced.retired);
    audit::append(batch, &entry)?;
    Ok(undone)
}

/// Opens an account that was retired by mistake. Its devices push and log in again, with the same password or with a link.
fn open_again(batch: &mut Batch<'_>, desk: &Desk<'_>, name: &str) -> DocumentResult<Option<FreshLink>> {
    let key = name.to_owned();
    withdrawals::close(batch, name, Closed::Open, desk.drain, &desk.actor)?;
    let Some(mut row) = batch.get(&ACCOUNTS, &key)?.filter(|row| row.exists) else { return Ok(None) };
    if let Some(former) = row.former.last_mut().filter(|former| former.withdrawal.cause == Cause::AccountRetired) {
        former.withdrawal.cause = Cause::Disabled; // of those its devices are told that they may come back
    }
    batch.put(&ACCOUNTS, &key, &row);
    match row.credential {
        Some(_) => Ok(None),
        None => Ok(Some(desk.link(batch, name, false)?)),
    }
}
