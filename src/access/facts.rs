//! What the text of a document says about where it belongs (design §6.1; the rule in words: `docs/scope.md`).
//!
//! Reads a body, whose JSON was checked when it arrived, and nothing else: who the parent of a parent is, or whose shortcode a
//! report names, is resolved beside the stored documents by `documents/filing`. Members of a wrong type count as missing;
//! nothing here refuses a document.

use std::borrow::Cow;

use serde_json::Value;
use settle_protocol::Error;
use settle_protocol::raw_json::{Kind, Scanner};

/// Documents that everybody gets, by id.
const FOR_EVERYBODY: [&str; 9] = [
    "settings",
    "resources",
    "branding",
    "partners",
    "service-worker-meta",
    "zscore-charts",
    "privacy-policies",
    "extension-libs",
    CLIENT_DESIGN,
];
/// Documents that everybody gets, by type.
const TYPES_FOR_EVERYBODY: [&str; 3] = ["form", "translations", "ui-extension"];
/// The one design document that phones need.
pub const CLIENT_DESIGN: &str = "_design/medic-client";
/// Types of contacts: `contact` with a configurable `contact_type`, and the four fixed ones of older hierarchies.
const CONTACT_TYPES: [&str; 5] = ["contact", "person", "clinic", "health_center", "district_hospital"];
/// What ids of user-settings begin with.
pub const USER_PREFIX: &str = "org.couchdb.user:";
/// The id of the settings.
pub const SETTINGS: &str = "settings";
/// Subject keys longer than this, in bytes, name nobody.
const LONGEST_KEY: usize = 1000;
/// Ancestors that a document may embed.
const LONGEST_CHAIN: usize = 64;
/// Members that say where a document belongs, beside its links to contacts …
const MEMBERS: [&str; 11] = [
    "type",
    "roles",
    "user",
    "owner",
    "patient_id",
    "place_id",
    "form",
    "sms_message",
    "kujua_message",
    "tasks",
    "errors",
];
/// … and those of `fields`, which is an object.
const FIELDS: [&str; 5] = ["patient_id", "place_id", "patient_uuid", "needs_signoff", "private"];

/// Where a document says it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Facts {
    /// A place or a person.
    Contact(ContactFacts),
    /// A report or a message.
    Record(RecordFacts),
    /// A task of this account (its user-settings id).
    Task(String),
    /// A target about this contact.
    Target(String),
    /// Of the account with this id; roles as text, to see whether they change.
    UserSettings {
        /// The document's own id.
        owner: String,
        /// `roles` as JSON text.
        roles: String,
    },
    /// Configuration.
    Everybody,
    /// Design documents, internal types, documents without a type.
    #[default]
    Nobody,
}

/// A contact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContactFacts {
    /// The parent, then its ancestors as this document embeds them.
    pub parents: Vec<String>,
    /// `patient_id`, else `place_id`.
    pub shortcode: Option<String>,
    /// The primary contact that a place names.
    pub primary: Option<String>,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordFacts {
    /// It has a form.
    pub report: bool,
    /// The id or shortcode it is about; `None`: about nobody.
    pub subject: Option<String>,
    /// The author; if sign-off is needed or the record is private, then the author's ancestors as the record embeds them.
    pub author: Vec<String>,
    /// Supervisors above the author get it too.
    pub needs_signoff: bool,
    /// Hidden from those it is about.
    pub private: bool,
}

/// Whether a key can mean a contact (S5).
#[must_use]
pub fn is_subject_key(key: &str) -> bool {
    key != "_all" && key != "_unassigned" && !key.starts_with(USER_PREFIX) && key.len() <= LONGEST_KEY
}

impl Facts {
    /// Reads the members of a body, without the outer braces.
    #[must_use]
    pub fn of(id: &str, members: &str) -> Self {
        if FOR_EVERYBODY.contains(&id) {
            return Self::Everybody;
        }
        if id.starts_with("_design/") {
            return Self::Nobody;
        }
        let Ok(body) = Members::read(members) else { return Self::Nobody };
        if id.starts_with(USER_PREFIX) {
            let roles = body.get("roles").and_then(parsed).map(|roles| roles.to_string()).unwrap_or_default();
            return Self::UserSettings { owner: id.to_owned(), roles };
        }
        match body.get("type").and_then(string).as_deref() {
            Some(kind) if CONTACT_TYPES.contains(&kind) => Self::Contact(contact(body)),
            Some("data_record") => Self::Record(record(body)),
            Some("task") => body.get("user").and_then(text).map_or(Self::Nobody, Self::Task),
            Some("target") => body.get("owner").and_then(text).map_or(Self::Nobody, Self::Target),
            Some(kind) if TYPES_FOR_EVERYBODY.contains(&kind) => Self::Everybody,
            _ => Self::Nobody,
        }
    }

    /// By which key a document names somebody it is about.
    #[must_use]
    pub fn about(&self) -> Option<&str> {
        match self {
            Self::Record(record) => record.subject.as_deref(),
            Self::Target(owner) => Some(owner),
            _ => None,
        }
    }

    /// Documents that only administrators write (S15 for user-settings).
    #[must_use]
    pub fn is_reserved(id: &str, facts: &Self) -> bool {
        id.starts_with("_design/") || matches!(facts, Self::Everybody | Self::UserSettings { .. })
    }
}

/// The members that say where a document belongs, as they stand in its text; of two with the same name the last counts. All
/// others are passed over, and no value is built: a report may hold hundreds of answers, and every write reads this.
#[derive(Debug, Default)]
struct Members<'a> {
    own: [Option<&'a str>; MEMBERS.len()],
    /// Those of `fields`, if that is an object.
    fields: [Option<&'a str>; FIELDS.len()],
    /// The links to contacts, each followed by the ancestors that it embeds.
    parent: Vec<Cow<'a, str>>,
    contact: Vec<Cow<'a, str>>,
}

impl<'a> Members<'a> {
    fn read(body: &'a str) -> Result<Self, Error> {
        let mut members = Self::default();
        Scanner::of_text(body).members(|name, scanner| {
            let name = name.decode();
            match name.as_ref() {
                "parent" => members.parent = chain(scanner)?,
                "contact" => members.contact = chain(scanner)?,
                "fields" => {
                    members.fields = Default::default();
                    match scanner.kind()? {
                        Kind::Object => scanner
                            .object(|name, scanner| note(&FIELDS, &mut members.fields, &name.decode(), scanner))?,
                        _ => drop(scanner.unchecked_value()?),
                    }
                }
                _ => note(&MEMBERS, &mut members.own, &name, scanner)?,
            }
            Ok(())
        })?;
        Ok(members)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        MEMBERS.iter().position(|known| *known == name).and_then(|at| self.own[at])
    }

    fn field(&self, name: &str) -> Option<&'a str> {
        FIELDS.iter().position(|known| *known == name).and_then(|at| self.fields[at])
    }
}

/// Reads a value, and notes its text at the place of its name among the names that are looked for.
fn note<'a>(names: &[&str], found: &mut [Option<&'a str>], name: &str, scanner: &mut Scanner<'a>) -> Result<(), Error> {
    let value = scanner.unchecked_value()?;
    if let Some(at) = names.iter().position(|known| *known == name) {
        found[at] = Some(value);
    }
    Ok(())
}

/// The value itself, for what is rare or of any shape.
fn parsed(value: &str) -> Option<Value> {
    serde_json::from_str(value).ok()
}

/// A value that is a string.
fn string(value: &str) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix('"')?.strip_suffix('"')?;
    match inner.contains('\\') {
        true => serde_json::from_str(value).ok().map(Cow::Owned),
        false => Some(Cow::Borrowed(inner)),
    }
}

/// A value as the text it is compared as (S1): numbers as they are usually written; nothing for empty values.
fn text(value: &str) -> Option<String> {
    if let Some(text) = string(value) {
        return Some(text.into_owned()).filter(|text| !text.is_empty());
    }
    match parsed(value)? {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => Some(format!("{float:.0}")),
            _ => Some(number.to_string()),
        },
        Value::Bool(true) => Some("true".to_owned()),
        other @ (Value::Array(_) | Value::Object(_)) => Some(other.to_string()),
        _ => None,
    }
}

/// A link to a contact, `{"_id", "parent"}` or a plain id, followed by the ancestors it embeds.
fn chain<'a>(scanner: &mut Scanner<'a>) -> Result<Vec<Cow<'a, str>>, Error> {
    let mut ids = Vec::new();
    link(scanner, &mut ids)?;
    Ok(ids)
}

/// Appends the ids of a link. It calls itself for the parent, at most as often as a chain is long.
fn link<'a>(scanner: &mut Scanner<'a>, ids: &mut Vec<Cow<'a, str>>) -> Result<(), Error> {
    let named = |value: &'a str| string(value).filter(|id| !id.is_empty());
    if ids.len() == LONGEST_CHAIN {
        return scanner.unchecked_value().map(drop);
    }
    if scanner.kind()? != Kind::Object {
        ids.extend(named(scanner.unchecked_value()?));
        return Ok(());
    }
    let (this, mut id) = (ids.len(), None);
    ids.push(Cow::Borrowed("")); // its parent may stand before its id
    scanner.object(|name, scanner| match name.decode().as_ref() {
        "_id" => {
            id = named(scanner.unchecked_value()?);
            Ok(())
        }
        "parent" => {
            ids.truncate(this + 1);
            link(scanner, ids)
        }
        _ => scanner.unchecked_value().map(drop),
    })?;
    match id {
        Some(id) => ids[this] = id,
        None => ids.truncate(this),
    }
    Ok(())
}

fn owned(ids: Vec<Cow<'_, str>>) -> Vec<String> {
    ids.into_iter().map(Cow::into_owned).collect()
}

fn contact(body: Members<'_>) -> ContactFacts {
    let code = body.get("patient_id").and_then(text).or_else(|| body.get("place_id").and_then(text));
    ContactFacts {
        shortcode: code.filter(|code| is_subject_key(code)),
        parents: owned(body.parent),
        primary: body.contact.into_iter().next().map(Cow::into_owned),
    }
}

fn is_true(value: Option<&str>) -> bool {
    value == Some("true") || value.and_then(string).is_some_and(|text| text == "true")
}

fn record(body: Members<'_>) -> RecordFacts {
    let author = &body.contact;
    let needs_signoff = is_true(body.field("needs_signoff"));
    if !body.get("form").is_some_and(is_truthy) {
        let subject = if body.get("sms_message").is_some_and(is_truthy) {
            author.first().cloned().map(Cow::into_owned)
        } else if body.get("kujua_message").is_some_and(is_truthy) {
            let tasks = body.get("tasks").and_then(parsed);
            let recipient = tasks.as_ref().and_then(|tasks| tasks.pointer("/0/messages/0/contact"));
            let recipient = recipient.map(Value::to_string);
            recipient.and_then(|link| Some(chain(&mut Scanner::of_text(&link)).ok()?.into_iter().next()?.into_owned()))
        } else {
            None
        };
        return RecordFacts {
            subject,
            author: author_of(body.contact, needs_signoff),
            needs_signoff,
            ..RecordFacts::default()
        };
    }
    let unregistered = |error: &Value| {
        matches!(error.get("code").and_then(Value::as_str), Some("registration_not_found" | "invalid_patient_id"))
    };
    let errors = body.get("errors").filter(|_| !author.is_empty()).and_then(parsed);
    let about_author = errors.as_ref().and_then(Value::as_array).is_some_and(|errors| errors.iter().any(unregistered));
    let named = || {
        [
            body.get("patient_id"),
            body.field("patient_id"),
            body.get("place_id"),
            body.field("place_id"),
            body.field("patient_uuid"),
        ]
        .into_iter()
        .flatten()
        .find_map(text)
    };
    let subject = if about_author { None } else { named() };
    let subject = subject.or_else(|| author.first().cloned().map(Cow::into_owned));
    let private = is_true(body.field("private"));
    let author = author_of(body.contact, needs_signoff || private);
    RecordFacts { report: true, subject, author, needs_signoff, private }
}

/// The author, with what is above only where somebody asks for that.
fn author_of(mut chain: Vec<Cow<'_, str>>, whole: bool) -> Vec<String> {
    if !whole {
        chain.truncate(1);
    }
    owned(chain)
}

/// JavaScript's idea of a value that is there.
fn is_truthy(value: &str) -> bool {
    match value.as_bytes().first() {
        Some(b'"') => value.len() > 2,
        Some(b'{' | b'[') => true,
        _ => match parsed(value) {
            Some(Value::Bool(flag)) => flag,
            Some(Value::Number(number)) => number.as_f64() != Some(0.0),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(members: &str) -> RecordFacts {
        match Facts::of("r", members) {
            Facts::Record(record) => record,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_key_that_is_not_empty_is_the_subject() {
        for (members, subject) in [
            (r#""form":"v","patient_id":"","fields":{"patient_id":10001}"#, Some("10001")),
            (r#""form":"v","place_id":"P","fields":{"patient_uuid":"u","patient_id":null}"#, Some("P")),
            (r#""form":"v","contact":{"_id":"a"},"fields":{"patient_uuid":"u"}"#, Some("u")),
            (r#""form":"v","contact":{"_id":"a"},"fields":{}"#, Some("a")),
            (
                r#""form":"v","contact":{"_id":"a"},"patient_id":"x","errors":[{"code":"invalid_patient_id"}]"#,
                Some("a"),
            ),
            (r#""form":"v","patient_id":"x","errors":[{"code":"invalid_patient_id"}]"#, Some("x")),
            (r#""form":"v","fields":{}"#, None),
            (r#""sms_message":{"m":1},"contact":{"_id":"a"}"#, Some("a")),
            (r#""kujua_message":true,"tasks":[{"messages":[{"contact":{"_id":"b"}}]}]"#, Some("b")),
            (r#""contact":{"_id":"a"},"patient_id":"x""#, None),
        ] {
            let found = record_of(&format!(r#""type":"data_record",{members}"#)).subject;
            assert_eq!(found.as_deref(), subject, "{members}");
        }
    }

    #[test]
    fn contacts_and_their_links() {
        let facts = Facts::of("c", r#""type":"person","parent":{"_id":"h","parent":{"_id":"a"}},"patient_id":555.0"#);
        let parents = vec!["h".to_owned(), "a".to_owned()];
        let expected = ContactFacts { parents, shortcode: Some("555".to_owned()), primary: None };
        assert_eq!(facts, Facts::Contact(expected));
        let facts = Facts::of("c", r#""type":"clinic","parent":"h","contact":"p","place_id":"_all""#);
        let expected = ContactFacts { parents: vec!["h".to_owned()], shortcode: None, primary: Some("p".to_owned()) };
        assert_eq!(facts, Facts::Contact(expected));
    }

    #[test]
    fn whom_the_author_is_below_is_kept_where_somebody_asks() {
        let author = |members: &str| {
            let contact = r#""contact":{"_id":"a","parent":{"_id":"h"}}"#;
            record_of(&format!(r#""type":"data_record",{contact},{members}"#)).author
        };
        assert_eq!(author(r#""form":"v","fields":{}"#), ["a"]);
        assert_eq!(author(r#""form":"v","fields":{"needs_signoff":true}"#), ["a", "h"]);
        assert_eq!(author(r#""form":"v","fields":{"private":"true"}"#), ["a", "h"]);
        assert_eq!(author(r#""sms_message":{"m":1},"fields":{"needs_signoff":true}"#), ["a", "h"]);
    }

    #[test]
    fn links_are_read_in_any_order_and_up_to_what_is_no_id() {
        let parents = |parent: &str| match Facts::of("c", &format!(r#""parent":{parent},"type":"person""#)) {
            Facts::Contact(contact) => contact.parents,
            other => panic!("{other:?}"),
        };
        assert_eq!(parents(r#"{"parent":{"parent":"c","_id":"b"},"x":[{}],"_id":"\u0061"}"#), ["a", "b", "c"]);
        assert_eq!(parents(r#"{"_id":"a","parent":{"_id":7,"parent":{"_id":"c"}}}"#), ["a"]);
        assert_eq!(parents(r#"{"_id":"a","parent":{"_id":"b"},"parent":{"_id":"c"},"_id":"d"}"#), ["d", "c"]);
        assert_eq!(parents(r#"{"parent":{"_id":"b"}}"#), [""; 0]);
        let deep = format!("{}null{}", r#"{"_id":"a","parent":"#.repeat(300), "}".repeat(300));
        assert_eq!(parents(&deep).len(), LONGEST_CHAIN);
        let last =
            record_of(r#""type":"data_record","form":"v","fields":{"patient_id":"x"},"fields":[],"place_id":"P""#);
        assert_eq!(last.subject.as_deref(), Some("P"));
    }

    #[test]
    fn kinds() {
        assert_eq!(Facts::of("settings", ""), Facts::Everybody);
        assert_eq!(Facts::of("_design/medic-client", ""), Facts::Everybody);
        assert_eq!(Facts::of("_design/medic", r#""type":"form""#), Facts::Nobody);
        assert_eq!(Facts::of("f", r#""type":"form""#), Facts::Everybody);
        assert_eq!(Facts::of("t", r#""type":"task","user":"u""#), Facts::Task("u".to_owned()));
        assert_eq!(Facts::of("t", r#""type":"tombstone""#), Facts::Nobody);
        assert!(matches!(Facts::of("org.couchdb.user:a", r#""type":"person""#), Facts::UserSettings { .. }));
    }
}
