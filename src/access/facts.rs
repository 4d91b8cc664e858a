//! What the text of a document says about where it belongs (design §6.1; the rule in words: `docs/scope.md`).
//!
//! Reads a body and nothing else: who the parent of a parent is, or whose shortcode a report names, is resolved beside the
//! stored documents by `documents/filing`. Members of a wrong type count as missing; nothing here refuses a document.

use serde_json::{Map, Value};
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
/// Members that say where a document belongs …
const MEMBERS: [&str; 14] = [
    "type",
    "roles",
    "user",
    "owner",
    "parent",
    "contact",
    "patient_id",
    "place_id",
    "form",
    "fields",
    "sms_message",
    "kujua_message",
    "tasks",
    "errors",
];
/// … and those of `fields`.
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
    /// The author, then the author's ancestors as the record embeds them.
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
        let whole = format!("{{{members}}}");
        let Ok(body) = select(&mut Scanner::of_text(&whole), &MEMBERS) else { return Self::Nobody };
        if id.starts_with(USER_PREFIX) {
            let roles = body.get("roles").map(Value::to_string).unwrap_or_default();
            return Self::UserSettings { owner: id.to_owned(), roles };
        }
        match body.get("type").and_then(Value::as_str) {
            Some(kind) if CONTACT_TYPES.contains(&kind) => Self::Contact(contact(&body)),
            Some("data_record") => Self::Record(record(&body)),
            Some("task") => text(body.get("user")).map_or(Self::Nobody, Self::Task),
            Some("target") => text(body.get("owner")).map_or(Self::Nobody, Self::Target),
            Some(kind) if TYPES_FOR_EVERYBODY.contains(&kind) => Self::Everybody,
            _ => Self::Nobody,
        }
    }

    /// Documents that only administrators write (S15 for user-settings).
    #[must_use]
    pub fn is_reserved(id: &str, facts: &Self) -> bool {
        id.starts_with("_design/") || matches!(facts, Self::Everybody | Self::UserSettings { .. })
    }
}

/// The members of an object that have one of these names. All others are passed over, and of `fields` only those below are
/// kept: a report may hold hundreds of answers, and every write reads this.
fn select(scanner: &mut Scanner<'_>, names: &[&str]) -> Result<Map<String, Value>, Error> {
    let mut selected = Map::new();
    scanner.object(|name, scanner| {
        let name = name.decode();
        if !names.contains(&name.as_ref()) {
            return scanner.value().map(drop);
        }
        let value = match name.as_ref() == "fields" && scanner.kind()? == Kind::Object {
            true => Value::Object(select(scanner, &FIELDS)?),
            false => serde_json::from_str(scanner.value()?).map_err(|_| Error::invalid_json())?,
        };
        selected.insert(name.into_owned(), value);
        Ok(())
    })?;
    Ok(selected)
}

/// A value as the text it is compared as (S1): numbers as they are usually written; nothing for empty values.
fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
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
fn chain(link: Option<&Value>) -> Vec<String> {
    let mut ids = Vec::new();
    let mut next = link;
    while let Some(link) = next {
        let (id, parent) = match link {
            Value::Object(object) => (object.get("_id"), object.get("parent")),
            other => (Some(other), None),
        };
        match id.and_then(Value::as_str) {
            Some(id) if !id.is_empty() && ids.len() < LONGEST_CHAIN => ids.push(id.to_owned()),
            _ => break,
        }
        next = parent;
    }
    ids
}

fn contact(body: &Map<String, Value>) -> ContactFacts {
    ContactFacts {
        parents: chain(body.get("parent")),
        shortcode: text(body.get("patient_id"))
            .or_else(|| text(body.get("place_id")))
            .filter(|code| is_subject_key(code)),
        primary: chain(body.get("contact")).into_iter().next(),
    }
}

fn is_true(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Bool(true))) || value.and_then(Value::as_str) == Some("true")
}

fn record(body: &Map<String, Value>) -> RecordFacts {
    let empty = Map::new();
    let fields = body.get("fields").and_then(Value::as_object).unwrap_or(&empty);
    let author = chain(body.get("contact"));
    if !body.get("form").is_some_and(is_truthy) {
        let subject = if body.get("sms_message").is_some_and(is_truthy) {
            author.first().cloned()
        } else if body.get("kujua_message").is_some_and(is_truthy) {
            let recipient = body.get("tasks").and_then(|tasks| tasks.pointer("/0/messages/0/contact"));
            chain(recipient).into_iter().next()
        } else {
            None
        };
        return RecordFacts {
            subject,
            author,
            needs_signoff: is_true(fields.get("needs_signoff")),
            ..RecordFacts::default()
        };
    }
    let unregistered = |error: &Value| {
        matches!(error.get("code").and_then(Value::as_str), Some("registration_not_found" | "invalid_patient_id"))
    };
    let errors = body.get("errors").and_then(Value::as_array);
    let about_author = !author.is_empty() && errors.is_some_and(|errors| errors.iter().any(unregistered));
    let named = || {
        [
            body.get("patient_id"),
            fields.get("patient_id"),
            body.get("place_id"),
            fields.get("place_id"),
            fields.get("patient_uuid"),
        ]
        .into_iter()
        .find_map(text)
    };
    let subject = if about_author { None } else { named() };
    RecordFacts {
        report: true,
        subject: subject.or_else(|| author.first().cloned()),
        needs_signoff: is_true(fields.get("needs_signoff")),
        private: is_true(fields.get("private")),
        author,
    }
}

/// JavaScript's idea of a value that is there.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
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
