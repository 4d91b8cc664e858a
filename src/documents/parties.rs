//! Places and contacts of accounts: found where they are, or made in the same batch as the account.

use serde_json::{Map, Value, json};
use settle_protocol::{Error, ErrorKind};

use super::accounts::Desk;
use super::administration::is_person;
use super::error::DocumentResult;
use super::resolving::parents_below;
use super::write::Writing;
use crate::access::placement::of_contact;
use crate::accounts::import_rows::Link;

/// A place or a contact of an account: one that is there, or one to be made.
#[derive(Debug, Clone, PartialEq)]
pub enum Party {
    /// Its document's id.
    Id(String),
    /// The members of its new document; `_id` may be among them.
    New(Map<String, Value>),
}

impl From<Link> for Party {
    fn from(link: Link) -> Self {
        match link {
            Link::Id(id) => Self::Id(id),
            Link::New(members) => Self::New(members),
        }
    }
}

/// A document that was made or changed: its id and revision.
pub type Written = (String, String);

/// The ids of those that are there.
pub(super) fn ids(parties: &[Party]) -> Vec<String> {
    let id = |party: &Party| match party {
        Party::Id(id) => Some(id.clone()),
        Party::New(_) => None,
    };
    parties.iter().filter_map(id).collect()
}

/// What is said when something is to be made and nobody knows where.
pub(super) fn needs_database() -> Error {
    Error::bad_request("Say in which `database` the place and the contact are to be made.")
}

/// A link to a contact as documents embed it: its id, then those of its ancestors.
#[must_use]
pub fn embedded(chain: &[String]) -> Value {
    chain.iter().rev().fold(Value::Null, |above, id| match above {
        Value::Null => json!({"_id": id}),
        above => json!({"_id": id, "parent": above}),
    })
}

/// Places and contact of an account, found or made.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) places: Vec<String>,
    pub(super) contact: Option<String>,
    pub(super) made_place: Option<Written>,
    pub(super) made_contact: Option<Written>,
}

impl Writing<'_, '_> {
    /// Finds or makes the places and the contact of an account. A new contact comes below the first place, and is the primary
    /// contact of a place that is new, too.
    pub(super) fn parties(
        &mut self,
        desk: &Desk<'_>,
        places: &[Party],
        contact: Option<&Party>,
    ) -> DocumentResult<Resolved> {
        if !self.scoped {
            return Err(Error::bad_request("`database` must be a scoped database.").into());
        }
        let mut resolved = Resolved::default();
        let mut made: Option<(String, Map<String, Value>)> = None;
        for place in places {
            let id = match place {
                Party::Id(id) => {
                    self.require_contact(id, "place")?;
                    id.clone()
                }
                Party::New(_) if made.is_some() => {
                    return Err(Error::bad_request("Only one place can be made with an account.").into());
                }
                Party::New(members) => {
                    let id = self.new_id(desk, members, "place")?;
                    made = Some((id.clone(), self.new_place(members)?));
                    id
                }
            };
            if !resolved.places.contains(&id) {
                resolved.places.push(id);
            }
        }
        let contact_id = match contact {
            Some(Party::New(members)) => Some(self.new_id(desk, members, "contact")?),
            Some(Party::Id(id)) => Some(id.clone()),
            None => None,
        };
        if let Some((id, mut members)) = made {
            if let (Some(contact), Some(Party::New(_))) = (&contact_id, contact) {
                members.insert("contact".to_owned(), json!({"_id": contact}));
            }
            let revision = self.make_document(&id, &text_of(&members))?;
            resolved.made_place = Some((id, revision.to_string()));
        }
        match contact {
            Some(Party::New(members)) => {
                let id = contact_id.clone().unwrap_or_default();
                let revision = self.make_contact(&id, members, resolved.places.first(), desk.actor.now)?;
                resolved.made_contact = Some((id, revision));
            }
            Some(Party::Id(id)) => self.require_below(desk, id, &resolved.places)?,
            None => {}
        }
        resolved.contact = contact_id;
        Ok(resolved)
    }

    fn require_contact(&self, id: &str, what: &str) -> DocumentResult<()> {
        let there = self.filed(id)?.is_some_and(|filed| filed.contact().is_some() && !filed.deleted);
        let there = there && !is_person(self.batch, self.id, id)?;
        if there { Ok(()) } else { Err(Error::not_found(format!("There is no {what} {id}.")).into()) }
    }

    /// What is not there and what is elsewhere are told apart for nobody: whoever manages accounts may not see documents. For
    /// them only the people directly below a place, its staff, are there; those of its households are not.
    fn require_below(&self, desk: &Desk<'_>, contact: &str, places: &[String]) -> DocumentResult<()> {
        let filed = self.filed(contact)?.filter(|filed| filed.contact().is_some() && !filed.deleted);
        let line = filed.as_ref().map(|filed| filed.line.as_slice()).unwrap_or_default();
        let operates = desk.caller.is_operator();
        let below = |place: &String| match operates {
            true => line.contains(&of_contact(place)),
            false => line.get(1) == Some(&of_contact(place)),
        };
        let there = if places.is_empty() { operates && filed.is_some() } else { places.iter().any(below) };
        match there {
            true => Ok(()),
            false => Err(Error::not_found(format!("There is no contact {contact} below the account's places.")).into()),
        }
    }

    /// The id that a new document wants, or a fresh one; nothing may have it. Only operators choose: others could find out
    /// what is there.
    fn new_id(&self, desk: &Desk<'_>, members: &Map<String, Value>, what: &str) -> DocumentResult<String> {
        let id = match members.get("_id") {
            None => return Ok(desk.fresh_id(what)),
            Some(_) if !desk.caller.is_operator() => {
                return Err(Error::bad_request("`_id` of a new document is chosen by the server.").into());
            }
            Some(Value::String(id)) if !id.is_empty() && !id.starts_with('_') && id.len() <= 512 => id,
            Some(_) => return Err(Error::bad_request("`_id` must be text that does not begin with _.").into()),
        };
        let taken = self.document(id)?.is_some_and(|row| !row.tree.is_deleted());
        match taken {
            true => Err(Error::new(ErrorKind::Conflict, format!("There is a document {id} already.")).into()),
            false => Ok(id.clone()),
        }
    }

    /// The members of a new place. Its `parent` may be the id of a place, which must be there.
    fn new_place(&self, members: &Map<String, Value>) -> DocumentResult<Map<String, Value>> {
        let mut members = plain_members(members)?;
        if !members.contains_key("type") {
            if !members.contains_key("contact_type") {
                return Err(Error::bad_request("A new place needs a `type` or a `contact_type`.").into());
            }
            members.insert("type".to_owned(), "contact".into());
        }
        match members.get("parent") {
            None | Some(Value::Null | Value::String(_) | Value::Object(_)) => {}
            Some(_) => return Err(Error::bad_request("`parent` of a new place must be the id of a place.").into()),
        }
        match parent_in(&members).map(str::to_owned) {
            None => drop(members.remove("parent")),
            Some(parent) => {
                self.require_contact(&parent, "place")?;
                members.insert("parent".to_owned(), embedded(&parents_below(self, &parent)?));
            }
        }
        Ok(members)
    }

    /// Makes a contact below a place.
    pub(super) fn make_contact(
        &mut self,
        id: &str,
        members: &Map<String, Value>,
        place: Option<&String>,
        now: u64,
    ) -> DocumentResult<String> {
        let mut members = plain_members(members)?;
        if !members.contains_key("type") {
            let kind = if members.contains_key("contact_type") { "contact" } else { "person" };
            members.insert("type".to_owned(), kind.into());
        }
        let place = place.ok_or_else(|| Error::bad_request("A new contact needs a place to be below."))?;
        members.insert("parent".to_owned(), embedded(&parents_below(self, place)?));
        members.entry("reported_date").or_insert_with(|| (now * 1000).into());
        Ok(self.make_document(id, &text_of(&members))?.to_string())
    }
}

/// The place that a new place is to come below.
pub(super) fn parent_in(members: &Map<String, Value>) -> Option<&str> {
    let parent = members.get("parent")?;
    parent.get("_id").unwrap_or(parent).as_str().filter(|parent| !parent.is_empty())
}

/// The members of a new document without `_id`; no other member that begins with `_` is taken.
fn plain_members(members: &Map<String, Value>) -> Result<Map<String, Value>, Error> {
    let mut plain = members.clone();
    plain.remove("_id");
    match plain.keys().find(|name| name.starts_with('_')) {
        Some(name) => Err(Error::bad_request(format!("A new document cannot have the member {name}."))),
        None => Ok(plain),
    }
}

fn text_of(members: &Map<String, Value>) -> String {
    let text = Value::Object(members.clone()).to_string();
    text[1..text.len() - 1].to_owned()
}
