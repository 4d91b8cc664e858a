//! Accounts: made and changed, each as one write of its `_users` document plus whatever belongs to it (a place, a contact,
//! the user-settings, a link), in one batch. There is never half an account.
//!
//! Import calls [`create`] for each row. What an account must be like is decided here; who may ask for it is not.

use serde_json::Value;
use settle_protocol::{Error, ErrorKind};

use super::administration::{Charge, charge_of, first_beyond, not_yours_to_give};
use super::databases::Database;
use super::error::{DocumentError, DocumentResult};
use super::judging::Author;
use super::parties::{Party, Written, ids, needs_database, parent_in};
use super::users::{Epoch, UserAuthor, delete, edit, make};
use super::write::Writing;
use crate::access::facts::USER_PREFIX;
use crate::accounts::caller::Caller;
use crate::accounts::import_rows::AccountRow as ImportedRow;
use crate::accounts::links::{self, FreshLink};
use crate::accounts::login::LoginError;
use crate::accounts::outbox::{self, Recipient, Staging};
use crate::accounts::password::Credential;
use crate::accounts::standing::Drain;
use crate::accounts::tables::{ACCOUNTS, AccountRow};
use crate::accounts::user_document::{ID_PREFIX, UserDocument};
use crate::accounts::withdrawals::Actor;
use crate::audit;
use crate::storage::{Batch, Read, StorageResult};

/// Characters of a name.
const LONGEST_NAME: usize = 100;
/// Characters of any other text of an account.
const LONGEST_TEXT: usize = 1_000;
/// Texts of an account: the name over the API, which is that of the member in `_users`, and the one in user-settings.
const TEXTS: [(&str, &str); 5] = [
    ("fullname", "fullname"),
    ("phone", "phone"),
    ("email", "email"),
    ("locale", "language"),
    ("external_id", "external_id"),
];

/// An account that is to be made.
#[derive(Debug, Clone, Default)]
pub struct NewAccount {
    /// The name to log in with; made up from the person's name when there is none.
    pub name: Option<String>,
    /// The hash of a password; without one the account only has links.
    pub credential: Option<Credential>,
    /// Roles; at least one.
    pub roles: Vec<String>,
    /// Places, the first of which a new contact comes below.
    pub places: Vec<Party>,
    /// The person it acts as.
    pub contact: Option<Party>,
    /// The name to be shown.
    pub fullname: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Language.
    pub locale: Option<String>,
    /// The programme's own name for it.
    pub external_id: Option<String>,
    /// A link is to be made for it.
    pub link: bool,
    /// … and sent to it.
    pub send: bool,
    /// It is a shell: nobody can log in until its person uses a link. It has no password until then.
    pub prepared: bool,
}

/// What is to change about an account; `None`: stays as it is.
#[derive(Debug, Clone, Default)]
pub struct AccountChange {
    /// The hash of another password: what was logged in with the old one may only push.
    pub credential: Option<Credential>,
    /// Other roles.
    pub roles: Option<Vec<String>>,
    /// Other places.
    pub places: Option<Vec<Party>>,
    /// Another contact, or none.
    pub contact: Option<Option<Party>>,
    /// Other texts, by their names over the API; `None`: none any more.
    pub texts: Vec<(&'static str, Option<String>)>,
}

/// Where and for whom accounts are made.
#[derive(Debug, Clone)]
pub struct Desk<'a> {
    /// `_users`.
    pub users: &'a Database,
    /// The scoped database that has places and contacts.
    pub scoped: Option<&'a Database>,
    /// Who acts.
    pub actor: Actor,
    /// The same as whoever made the request: says whose accounts and places these are.
    pub caller: Caller,
    /// How long what is withdrawn may still push.
    pub drain: Drain,
    /// Seconds for which links work.
    pub link_seconds: u64,
    /// What messages need; nothing: there is no gateway.
    pub staging: Option<&'a Staging>,
    /// Fresh random bytes: ids, names and tokens are made from them.
    pub random: [u8; 32],
}

/// An account that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its name.
    pub name: String,
    /// The place that was made for it.
    pub place: Option<Written>,
    /// The contact that was made for it.
    pub contact: Option<Written>,
    /// Its link.
    pub link: Option<FreshLink>,
}

impl From<LoginError> for DocumentError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Account(error) => error.into(),
            LoginError::Storage(error) => error.into(),
        }
    }
}

impl Desk<'_> {
    /// Whoever acts, as an author of `_users` documents.
    #[must_use]
    pub fn user_author(&self) -> UserAuthor {
        UserAuthor {
            name: Some(self.actor.name.clone()).filter(|name| !name.is_empty()),
            server_admin: true,
            database_admin: true,
            drain: self.drain,
            now: self.actor.now,
        }
    }

    /// Whoever acts, as an author who is not restricted.
    pub(super) fn author(&self) -> Author {
        Author { account: self.actor.name.clone(), now: self.actor.now, ..Author::default() }
    }

    fn derived(&self, what: &str) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.random);
        *hasher.update(what.as_bytes()).finalize().as_bytes()
    }

    /// The same desk with other random bytes: for one of several things that are made in one request.
    #[must_use]
    pub(super) fn apart(&self, what: &str) -> Self {
        Self { random: self.derived(what), ..self.clone() }
    }

    pub(super) fn fresh_id(&self, what: &str) -> String {
        crate::storage::hex(&self.derived(what)[..16])
    }

    /// An account that is there and in the charge of whoever acts: its places are, and it has no role that they lack.
    ///
    /// # Errors
    /// `404` for any other, or a failure of the store.
    pub fn require_account(&self, reader: &impl Read, name: &str) -> DocumentResult<AccountRow> {
        let row = reader.get(&ACCOUNTS, &name.to_owned())?.filter(|row| row.exists).ok_or_else(Error::missing)?;
        let covered = charge_of(reader, &self.caller)?.covers(reader, &row)?;
        match covered && first_beyond(&self.caller, &row.roles).is_none() {
            true => Ok(row),
            false => Err(Error::missing().into()),
        }
    }

    /// A place in the charge of whoever acts.
    ///
    /// # Errors
    /// `404` for any other, or a failure of the store.
    pub(super) fn require_place(&self, reader: &impl Read, place: &str) -> DocumentResult<()> {
        match charge_of(reader, &self.caller)?.covers_place(reader, place)? {
            true => Ok(()),
            false => Err(Error::not_found(format!("There is no place {place}.")).into()),
        }
    }

    /// Whether whoever acts may give these roles and places; a new place is where its parent is.
    fn require_given(
        &self,
        reader: &impl Read,
        roles: Option<&[String]>,
        places: Option<&[Party]>,
    ) -> DocumentResult<()> {
        if let Some(roles) = roles {
            check_roles(roles)?;
            if let Some(role) = first_beyond(&self.caller, roles) {
                return Err(not_yours_to_give(role).into());
            }
        }
        let Some(places) = places else { return Ok(()) };
        let charge = charge_of(reader, &self.caller)?;
        if charge != Charge::Everybody && places.is_empty() {
            return Err(Error::forbidden("Only accounts with a place of yours are yours to make.").into());
        }
        for place in places {
            match place {
                Party::Id(id) => self.require_place(reader, id)?,
                Party::New(members) => match parent_in(members) {
                    Some(parent) => self.require_place(reader, parent)?,
                    None if charge == Charge::Everybody => {}
                    None => return Err(Error::forbidden("A new place must be below one of yours.").into()),
                },
            }
        }
        Ok(())
    }

    /// Makes a link for an account; with `send` also the message that carries it.
    ///
    /// # Errors
    /// As [`links::make`]; `400` when it cannot be sent.
    pub fn link(&self, batch: &mut Batch<'_>, name: &str, send: bool) -> DocumentResult<FreshLink> {
        let random = self.derived(&format!("link {name}"));
        let mut link = links::make(batch, name, random, self.link_seconds, &self.actor)?;
        if send {
            let staging = self.staging.ok_or_else(|| {
                Error::bad_request("Nothing can be sent: this server has no gateway ([outbox] of its configuration).")
            })?;
            let to = self.recipient(batch, name)?;
            if to.phone.is_none() && to.email.is_none() {
                let reason = format!("{name} has neither `phone` nor `email`: there is nowhere to send its link.");
                return Err(Error::bad_request(reason).into());
            }
            let [a, b, c, d, e, f, g, h, ..] = self.derived(&format!("message {name}"));
            link.message = Some(outbox::stage(batch, name, to, &link, staging, [a, b, c, d, e, f, g, h], &self.actor)?);
        }
        Ok(link)
    }

    /// Where an account's messages go, as its document says.
    pub(super) fn recipient(&self, batch: &mut Batch<'_>, name: &str) -> DocumentResult<Recipient> {
        let stored = Writing::begin(batch, self.users)?.winner_text(&format!("{ID_PREFIX}{name}"))?;
        let document = UserDocument::parse(&format!("{{{}}}", stored.map(|(_, text)| text).unwrap_or_default()))?;
        let text = |member: &str| {
            let text = document.get(member).and_then(|text| serde_json::from_str::<String>(text).ok());
            text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        Ok(Recipient { name: text("fullname"), phone: text("phone"), email: text("email"), locale: text("locale") })
    }
}

/// Makes an account, with its place and contact if they are new, its user-settings, and a link if one is wanted.
///
/// # Errors
/// `400` for what an account cannot be, `404` for a place or contact that is not there, `409` for a name that is taken, or
/// a failure of the store. Nothing was written then, if the closure of the batch ends with the error.
pub fn create(batch: &mut Batch<'_>, desk: &Desk<'_>, wanted: &NewAccount) -> DocumentResult<Created> {
    desk.require_given(batch, Some(&wanted.roles), Some(&wanted.places))?;
    create_as(batch, desk, wanted)
}

/// [`create`] for a caller who may give these roles and places, as somebody has decided.
///
/// # Errors
/// As [`create`].
pub(super) fn create_as(batch: &mut Batch<'_>, desk: &Desk<'_>, wanted: &NewAccount) -> DocumentResult<Created> {
    check_roles(&wanted.roles)?;
    if wanted.prepared && wanted.credential.is_some() {
        return Err(
            Error::bad_request("A prepared account has no password: its person activates it with a link.").into()
        );
    }
    let name = match &wanted.name {
        Some(name) => {
            check_name(name)?;
            if batch.get(&ACCOUNTS, name)?.is_some_and(|row| row.exists) {
                let reason = format!("There is an account {name} already.");
                return Err(Error::new(ErrorKind::Conflict, reason).into());
            }
            name.clone()
        }
        None => made_up_name(batch, desk, wanted)?,
    };
    let mut created = Created { name: name.clone(), place: None, contact: None, link: None };
    let (mut places, mut contact) = (ids(&wanted.places), None);
    if let Some(scoped) = desk.scoped {
        let mut writing = Writing::begin_as(batch, scoped, desk.author())?;
        let resolved = writing.parties(desk, &wanted.places, wanted.contact.as_ref())?;
        (places, contact) = (resolved.places, resolved.contact);
        (created.place, created.contact) = (resolved.made_place, resolved.made_contact);
        writing.end()?;
    } else {
        contact = match &wanted.contact {
            Some(Party::Id(id)) => Some(id.clone()),
            Some(Party::New(_)) => return Err(needs_database().into()),
            None => contact,
        };
        if places.len() != wanted.places.len() {
            return Err(needs_database().into());
        }
    }
    let mut document = UserDocument::parse("{}")?;
    document.set_member("type", Some(&"user".into()));
    document.set_member("name", Some(&name.as_str().into()));
    fill(&mut document, Some(&wanted.roles), Some(&places), Some(contact.as_deref()));
    for (member, text) in wanted.texts() {
        if let Some(text) = text {
            document.set_member(member, Some(&checked(member, text)?.into()));
        }
    }
    if let Some(credential) = &wanted.credential {
        document.set_credential(credential);
    }
    let mut writing = Writing::begin(batch, desk.users)?;
    make(&mut writing, &name, desk.user_author(), &document)?;
    writing.end()?;
    if wanted.prepared {
        prepare(batch, desk, &name)?;
    }
    if let Some(scoped) = desk.scoped {
        let mut writing = Writing::begin_as(batch, scoped, desk.author())?;
        writing.put_user_settings(&name, &document)?;
        writing.end()?;
    }
    if wanted.link || wanted.send {
        created.link = Some(desk.link(batch, &name, wanted.send)?);
    }
    Ok(created)
}

/// Makes a shell of an account that was just made.
fn prepare(batch: &mut Batch<'_>, desk: &Desk<'_>, name: &str) -> DocumentResult<()> {
    let key = name.to_owned();
    let row = batch.get(&ACCOUNTS, &key)?.unwrap_or_default();
    batch.put(&ACCOUNTS, &key, &AccountRow { prepared: true, ..row });
    Ok(audit::append(batch, &desk.actor.entry("account.prepare").account(name))?)
}

/// Whether an account can have a password: a shell cannot.
///
/// # Errors
/// `409` for a shell.
pub fn require_activated(account: &AccountRow, name: &str) -> Result<(), Error> {
    if account.prepared {
        let reason =
            format!("{name} is prepared: it can have a password when its person has activated it with a link.");
        return Err(Error::new(ErrorKind::Conflict, reason));
    }
    Ok(())
}

/// Changes an account: its document, its user-settings, a place and a contact if they are new.
///
/// # Errors
/// As [`create`]; `404` when the account is not there.
pub fn change(batch: &mut Batch<'_>, desk: &Desk<'_>, name: &str, wanted: &AccountChange) -> DocumentResult<()> {
    change_as(batch, desk, name, wanted, Epoch::Follows, false)
}

/// Gives an account to another person: whatever was logged in may only push, and the old password is gone.
///
/// # Errors
/// As [`change`].
pub(super) fn give_away(
    batch: &mut Batch<'_>,
    desk: &Desk<'_>,
    name: &str,
    wanted: &AccountChange,
) -> DocumentResult<()> {
    change_as(batch, desk, name, wanted, Epoch::Ends, true)
}

fn change_as(
    batch: &mut Batch<'_>,
    desk: &Desk<'_>,
    name: &str,
    wanted: &AccountChange,
    epoch: Epoch,
    drop_password: bool,
) -> DocumentResult<()> {
    let stored = desk.require_account(batch, name)?;
    desk.require_given(batch, wanted.roles.as_deref(), wanted.places.as_deref())?;
    if wanted.credential.is_some() {
        require_activated(&stored, name)?;
    }
    let mut texts = Vec::new();
    for (member, text) in &wanted.texts {
        texts.push((*member, text.as_ref().map(|text| checked(member, text)).transpose()?));
    }
    let (places, contact) = changed_parties(batch, desk, &stored, wanted)?;
    let mut document = None;
    let mut writing = Writing::begin(batch, desk.users)?;
    edit(&mut writing, name, desk.user_author(), epoch, |stored| {
        let places = wanted.places.is_some().then_some(&places[..]);
        let contact = wanted.contact.is_some().then_some(contact.as_deref());
        fill(stored, wanted.roles.as_deref(), places, contact);
        for (member, text) in &texts {
            stored.set_member(member, text.map(Value::from).as_ref());
        }
        match &wanted.credential {
            Some(credential) => stored.set_credential(credential),
            None if drop_password => stored.remove_credential(),
            None => {}
        }
        document = Some(stored.clone());
    })?;
    writing.end()?;
    if let (Some(scoped), Some(document)) = (desk.scoped, document) {
        let mut writing = Writing::begin_as(batch, scoped, desk.author())?;
        writing.put_user_settings(name, &document)?;
        writing.end()?;
    }
    Ok(())
}

/// The places and the contact of an account after a change.
fn changed_parties(
    batch: &mut Batch<'_>,
    desk: &Desk<'_>,
    stored: &AccountRow,
    wanted: &AccountChange,
) -> DocumentResult<(Vec<String>, Option<String>)> {
    let kept = || stored.places.iter().cloned().map(Party::Id).collect();
    let places: Vec<Party> = wanted.places.clone().unwrap_or_else(kept);
    let contact = match &wanted.contact {
        Some(contact) => contact.clone(),
        None => stored.contact.clone().map(Party::Id),
    };
    let touches = wanted.places.is_some() || wanted.contact.is_some();
    match desk.scoped.filter(|_| touches) {
        Some(scoped) => {
            let mut writing = Writing::begin_as(batch, scoped, desk.author())?;
            let resolved = writing.parties(desk, &places, contact.as_ref())?;
            writing.end()?;
            Ok((resolved.places, resolved.contact))
        }
        None => {
            let is_new = |party: &Party| matches!(party, Party::New(_));
            if places.iter().chain(&contact).any(is_new) {
                return Err(needs_database().into());
            }
            Ok((ids(&places), ids(contact.as_slice()).pop()))
        }
    }
}

/// Deletes an account. What its devices hold may still come, for the drain; a new account may have the name at once.
///
/// # Errors
/// `404` when it is not there, or a failure of the store.
pub fn remove(batch: &mut Batch<'_>, desk: &Desk<'_>, name: &str) -> DocumentResult<()> {
    desk.require_account(batch, name)?;
    let mut writing = Writing::begin(batch, desk.users)?;
    if !delete(&mut writing, name, desk.user_author())? {
        return Err(Error::missing().into());
    }
    writing.end()
}

impl NewAccount {
    /// The account that a row of a file wants. Its password, if it has one, was hashed before; without one it can be a shell.
    #[must_use]
    pub fn of_row(row: ImportedRow, credential: Option<Credential>, prepared: bool, send: bool) -> Self {
        let link = row.link.unwrap_or(credential.is_none());
        Self {
            name: row.name,
            link,
            send: link && send,
            prepared: prepared && credential.is_none(),
            credential,
            roles: row.roles,
            places: row.places.into_iter().map(Party::from).collect(),
            contact: row.contact.map(Party::from),
            fullname: row.fullname,
            phone: row.phone,
            email: row.email,
            locale: row.locale,
            external_id: row.external_id,
        }
    }

    fn texts(&self) -> [(&'static str, Option<&String>); 5] {
        let texts = [&self.fullname, &self.phone, &self.email, &self.locale, &self.external_id];
        std::array::from_fn(|at| (TEXTS[at].0, texts[at].as_ref()))
    }
}

/// The texts that an account may have, by their names over the API.
pub fn text_members() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().map(|(member, _)| *member)
}

fn check_roles(roles: &[String]) -> Result<(), Error> {
    if roles.is_empty() {
        return Err(Error::bad_request("`roles` must name at least one role."));
    }
    match roles.iter().find(|role| role.is_empty() || role.starts_with('_') || role.chars().count() > LONGEST_NAME) {
        Some(role) => Err(Error::bad_request(format!("An account cannot have the role {role:?}."))),
        None => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.');
    let begins = name.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit());
    if begins && name.len() <= LONGEST_NAME && name.bytes().all(plain) {
        return Ok(());
    }
    let reason = format!(
        "`name` must have 1 to {LONGEST_NAME} characters of a-z, 0-9, _, - and dot, and begin with a letter or a digit."
    );
    Err(Error::bad_request(reason))
}

fn checked<'t>(member: &str, text: &'t str) -> Result<&'t str, Error> {
    match text.chars().count() <= LONGEST_TEXT && !text.contains('\0') {
        true => Ok(text),
        false => Err(Error::bad_request(format!("`{member}` must be text of at most {LONGEST_TEXT} characters."))),
    }
}

/// A name from that of the person, with four digits that nobody has yet.
fn made_up_name(batch: &Batch<'_>, desk: &Desk<'_>, wanted: &NewAccount) -> DocumentResult<String> {
    let of_contact = match &wanted.contact {
        Some(Party::New(members)) => members.get("name").and_then(Value::as_str),
        _ => None,
    };
    let shown = wanted.fullname.as_deref().or(of_contact).unwrap_or_default().to_lowercase();
    let words = shown.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut stem: String = words.collect::<Vec<_>>().join("-");
    stem.truncate(40);
    let stem = if stem.is_empty() { "user".to_owned() } else { stem };
    for attempt in 0..64_u32 {
        let bytes = desk.derived(&format!("name {attempt}"));
        // More digits when many people have the same name.
        let (modulus, digits) = if attempt < 16 { (10_000, 4) } else { (100_000_000, 8) };
        let number = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) % modulus;
        let name = format!("{stem}-{number:0digits$}");
        if batch.get(&ACCOUNTS, &name)?.is_none() {
            return Ok(name);
        }
    }
    Err(Error::new(ErrorKind::Conflict, "No free name was found. Give one with `name`.").into())
}

/// Sets what an account is about. A single place is written as text, as the CHT does.
fn fill(
    document: &mut UserDocument,
    roles: Option<&[String]>,
    places: Option<&[String]>,
    contact: Option<Option<&str>>,
) {
    if let Some(roles) = roles {
        document.set_member("roles", Some(&roles.into()));
    }
    if let Some(places) = places {
        let value = match places {
            [] => None,
            [place] => Some(Value::from(place.as_str())),
            places => Some(places.into()),
        };
        document.set_member("facility_id", value.as_ref());
    }
    if let Some(contact) = contact {
        document.set_member("contact_id", contact.map(Value::from).as_ref());
    }
}

impl Writing<'_, '_> {
    /// What phones read about their own account.
    pub(super) fn put_user_settings(&mut self, name: &str, account: &UserDocument) -> DocumentResult<()> {
        let id = format!("{USER_PREFIX}{name}");
        let mut changes =
            vec![("type", Some("\"user-settings\"".to_owned())), ("name", Some(Value::from(name).to_string()))];
        for member in ["roles", "facility_id", "contact_id"] {
            changes.push((member, account.get(member).map(str::to_owned)));
        }
        for (member, here) in TEXTS {
            changes.push((here, account.get(member).map(str::to_owned)));
        }
        match self.winner_text(&id)? {
            Some((_, stored)) => {
                if super::members::with_members(&stored, &changes)? != stored {
                    self.change_members(&id, &changes)?;
                }
            }
            None => drop(self.make_document(&id, &super::members::with_members("", &changes)?)?),
        }
        Ok(())
    }
}

/// Accounts that act as a contact and hold a place, and have not been retired.
///
/// # Errors
/// When the store fails.
pub(super) fn holders(
    reader: &impl Read,
    place: &str,
    contact: Option<&str>,
) -> StorageResult<Vec<(String, AccountRow)>> {
    use crate::accounts::tables::Closed;
    let mut found = Vec::new();
    reader.scan(ACCOUNTS.family(), &crate::storage::Range::prefix(b""), &mut |name, row| {
        let row = ACCOUNTS.decode(row)?;
        let holds = row.places.iter().any(|held| held == place) && row.contact.as_deref() == contact;
        if row.exists && holds && row.closed != Closed::Retired {
            found.push((String::from_utf8_lossy(name).into_owned(), row));
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    Ok(found)
}
