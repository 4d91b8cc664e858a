//! Whose accounts somebody may manage: the role `account_admin`, everywhere or below places (design §10).
//!
//! An administrator of accounts who has places manages the accounts whose places all lie there; one without places manages
//! all. What lies outside does not exist for them, nor do people who are not of their own staff: a place is never a person.

use std::ops::ControlFlow;

use serde_json::Value;
use settle_protocol::Error;

use super::filed::filed_of;
use super::read::document;
use super::scopes::STEWARD;
use super::tables::{BODIES, BodyKey, DATABASES, DatabaseId};
use crate::access::facts::SETTINGS;
use crate::access::placement::of_contact;
use crate::access::scope::ADMINISTRATIVE_ROLES;
use crate::accounts::caller::{ACCOUNT_ADMIN, Caller};
use crate::accounts::tables::{ACCOUNTS, AccountRow};
use crate::storage::{Family, Range, Read, StorageResult};

/// Whose accounts a caller manages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charge {
    /// Everybody's.
    Everybody,
    /// Of those whose places all are or lie below one of these.
    Below(Vec<String>),
    /// Nobody's.
    Nobody,
}

/// Whose accounts a caller manages.
///
/// # Errors
/// When the store fails.
pub fn charge_of(reader: &impl Read, caller: &Caller) -> StorageResult<Charge> {
    if caller.is_operator() {
        return Ok(Charge::Everybody);
    }
    if !caller.roles.iter().any(|role| role == ACCOUNT_ADMIN) {
        return Ok(Charge::Nobody);
    }
    let name = caller.name.clone().unwrap_or_default();
    let places = reader.get(&ACCOUNTS, &name)?.map(|row| row.places).unwrap_or_default();
    Ok(if places.is_empty() { Charge::Everybody } else { Charge::Below(places) })
}

/// Whose accounts a caller may look at: those that it manages; auditors look at all.
///
/// # Errors
/// When the store fails.
pub fn oversight_of(reader: &impl Read, caller: &Caller) -> StorageResult<Charge> {
    if caller.audits() { Ok(Charge::Everybody) } else { charge_of(reader, caller) }
}

impl Charge {
    /// Whether an account is managed by it. Operators of the configuration are no accounts and never are.
    ///
    /// # Errors
    /// When the store fails.
    pub fn covers(&self, reader: &impl Read, account: &AccountRow) -> StorageResult<bool> {
        match self {
            Self::Everybody => Ok(true),
            Self::Nobody => Ok(false),
            Self::Below(_) if account.places.is_empty() => Ok(false),
            Self::Below(_) => {
                for place in &account.places {
                    if !self.covers_place(reader, place)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// [`Charge::covers`] for the account of this name, as it is now; of one that is gone only its row is left.
    ///
    /// # Errors
    /// When the store fails.
    pub fn covers_named(&self, reader: &impl Read, name: &str) -> StorageResult<bool> {
        self.covers(reader, &reader.get(&ACCOUNTS, &name.to_owned())?.unwrap_or_default())
    }

    /// Whether a place is one of its own or lies below one, in some scoped database.
    ///
    /// # Errors
    /// When the store fails.
    pub fn covers_place(&self, reader: &impl Read, place: &str) -> StorageResult<bool> {
        let own = match self {
            Self::Everybody => return Ok(true),
            Self::Nobody => return Ok(false),
            Self::Below(own) => own,
        };
        let mut scoped = Vec::new();
        reader.scan(Family::Databases, &Range::prefix(b""), &mut |_, row| {
            let row = DATABASES.decode(row)?;
            scoped.extend(row.scoped.then_some(row.id));
            Ok(ControlFlow::Continue(()))
        })?;
        for database in scoped {
            let filed = filed_of(reader, database, place)?;
            let line = filed.filter(|filed| filed.contact().is_some()).map(|filed| filed.line).unwrap_or_default();
            if own.iter().any(|own| line.contains(&of_contact(own))) && !is_person(reader, database, place)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The members of a stored document's winner; nothing when there is none.
pub(super) fn winner(reader: &impl Read, database: DatabaseId, id: &str) -> StorageResult<Value> {
    let Some(row) = document(reader, database, id)? else { return Ok(Value::Null) };
    let Some(winner) = row.tree.winner().filter(|winner| !winner.deleted) else { return Ok(Value::Null) };
    let body = reader.get(&BODIES, &BodyKey::new(database, row.cluster, id, &winner.revision))?;
    Ok(body.and_then(|body| serde_json::from_str(&format!("{{{}}}", body.text)).ok()).unwrap_or_default())
}

/// Whether a document is about a person: by its type, or by what the settings say of its type (`contact_types`).
///
/// # Errors
/// When the store fails.
pub fn is_person(reader: &impl Read, database: DatabaseId, id: &str) -> StorageResult<bool> {
    let document = winner(reader, database, id)?;
    if document["type"] != "contact" {
        return Ok(document["type"] == "person");
    }
    let settings = winner(reader, database, SETTINGS)?;
    let inner = if settings["settings"].is_object() { &settings["settings"] } else { &settings };
    let mut kinds = inner["contact_types"].as_array().into_iter().flatten();
    Ok(kinds.any(|kind| kind["id"] == document["contact_type"] && kind["person"] == true))
}

/// The first role that a caller may not give: one that manages or sees more than a place, which the caller does not hold
/// itself. Roles of the field are bounded by the places of the account and may be given by whoever manages it.
#[must_use]
pub fn first_beyond<'a>(caller: &Caller, roles: &'a [String]) -> Option<&'a str> {
    if caller.is_operator() {
        return None;
    }
    roles.iter().find(|role| is_guarded(role) && !caller.roles.contains(role)).map(String::as_str)
}

/// Whether a role manages or sees more than a place.
#[must_use]
pub fn is_guarded(role: &str) -> bool {
    role.starts_with('_') || role == STEWARD || ADMINISTRATIVE_ROLES.contains(&role)
}

/// What somebody is told who gives a role that is not theirs to give.
#[must_use]
pub fn not_yours_to_give(role: &str) -> Error {
    Error::forbidden(format!("The role {role} is not yours to give."))
}
