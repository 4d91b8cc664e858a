//! What the text of a document says about where it belongs (design §6.1; the rule in words: `docs/scope.md`).
//!
//! Reads a body, whose JSON was checked when it arrived, and nothing else: who the parent of a parent is, or whose shortcode a
//! report names, is resolved beside the stored documents by `documents/filing`. Members of a wrong type count as missing;
//! nothing here refuses a document.

use std::borrow::Cow;
use std::sync::Arc;

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
    pub subject: Option<Arc<str>>,
    /// The id of the author.
    pub author: Option<Arc<str>>,
    /// If sign-off is needed or the record is private: the author's ancestors as the record embeds them.
    pub above_author: Vec<String>,
    /// Supervisors above the author get it too.
    pub needs_signoff: bool,
    /// Hidden from those it is about.
    pub private: bool,
}

impl RecordFacts {
    /// The author, then those above.
    #[must_use]
    pub fn author_line(&self) -> Vec<String> {
        self.author.iter().map(|author| author.to_string()).chain(self.above_author.iter().cloned()).collect()
    }
}

/// The names that the record before this one named. Those that come together often have the same author and the same patient
/// and share the texts then: they are made by one thread and let go by another, which costs more than to compare them.
#[derive(Debug, Default)]
pub struct LastNames {
    subject: Option<Arc<str>>,
    author: Option<Arc<str>>,
}

fn shared(last: &mut Option<Arc<str>>, name: &str) -> Arc<str> {
    match last {
        Some(known) if **known == *name => Arc::clone(known),
        _ => Arc::clone(last.insert(name.into())),
    }
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
        Self::of_next(id, members, &mut LastNames::default())
    }

    /// The same for one of several documents.
    #[must_use]
    pub fn of_next(id: &str, members: &str, last: &mut LastNames) -> Self {
        if FOR_EVERYBODY.contains(&id) {
            return Self::Everybody;
        }
        if id.starts_with("_design/") {
            return Self::Nobody;
        }
        let Ok(body) = Members::read(members) else { return Self::Nobody };
        if id.starts_with(USER_PREFIX) {
            let roles = body.roles.and_then(parsed).map(|roles| roles.to_string()).unwrap_or_default();
            return Self::UserSettings { owner: id.to_owned(), roles };
        }
        match body.kind.and_then(string).as_deref() {
            Some(kind) if CONTACT_TYPES.contains(&kind) => Self::Contact(contact(body)),
            Some("data_record") => Self::Record(record(body, last)),
            Some("task") => body.user.and_then(text).map_or(Self::Nobody, |user| Self::Task(user.into_owned())),
            Some("target") => body.owner.and_then(text).map_or(Self::Nobody, |owner| Self::Target(owner.into_owned())),
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
    kind: Option<&'a str>,
    roles: Option<&'a str>,
    user: Option<&'a str>,
    owner: Option<&'a str>,
    patient_id: Option<&'a str>,
    place_id: Option<&'a str>,
    form: Option<&'a str>,
    sms_message: Option<&'a str>,
    kujua_message: Option<&'a str>,
    tasks: Option<&'a str>,
    errors: Option<&'a str>,
    fields: Fields<'a>,
    /// The links to contacts, each followed by the ancestors that it embeds.
    parent: Vec<Cow<'a, str>>,
    contact: Vec<Cow<'a, str>>,
}

/// Those of `fields`, if that is an object.
#[derive(Debug, Default)]
struct Fields<'a> {
    patient_id: Option<&'a str>,
    place_id: Option<&'a str>,
    patient_uuid: Option<&'a str>,
    needs_signoff: Option<&'a str>,
    private: Option<&'a str>,
}

impl<'a> Members<'a> {
    fn read(body: &'a str) -> Result<Self, Error> {
        let mut members = Self::default();
        Scanner::of_text(body).members(|name, scanner| {
            let member = match name.decode().as_ref() {
                "parent" => return chain(scanner).map(|ids| members.parent = ids),
                "contact" => return chain(scanner).map(|ids| members.contact = ids),
                "fields" => return Fields::read(scanner).map(|fields| members.fields = fields),
                "type" => &mut members.kind,
                "roles" => &mut members.roles,
                "user" => &mut members.user,
                "owner" => &mut members.owner,
                "patient_id" => &mut members.patient_id,
                "place_id" => &mut members.place_id,
                "form" => &mut members.form,
                "sms_message" => &mut members.sms_message,
                "kujua_message" => &mut members.kujua_message,
                "tasks" => &mut members.tasks,
                "errors" => &mut members.errors,
                _ => return scanner.unchecked_value().map(drop),
            };
            *member = Some(scanner.unchecked_value()?);
            Ok(())
        })?;
        Ok(members)
    }
}

impl<'a> Fields<'a> {
    fn read(scanner: &mut Scanner<'a>) -> Result<Self, Error> {
        let mut fields = Self::default();
        if scanner.kind()? != Kind::Object {
            scanner.unchecked_value()?;
            return Ok(fields);
        }
        scanner.object(|name, scanner| {
            let field = match name.decode().as_ref() {
                "patient_id" => &mut fields.patient_id,
                "place_id" => &mut fields.place_id,
                "patient_uuid" => &mut fields.patient_uuid,
                "needs_signoff" => &mut fields.needs_signoff,
                "private" => &mut fields.private,
                _ => return scanner.unchecked_value().map(drop),
            };
            *field = Some(scanner.unchecked_value()?);
            Ok(())
        })?;
        Ok(fields)
    }
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
fn text(value: &str) -> Option<Cow<'_, str>> {
    if let Some(text) = string(value) {
        return Some(text).filter(|text| !text.is_empty());
    }
    let text = match parsed(value)? {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
            _ => number.to_string(),
        },
        Value::Bool(true) => "true".to_owned(),
        other @ (Value::Array(_) | Value::Object(_)) => other.to_string(),
        _ => return None,
    };
    Some(text.into())
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

fn owned<'a>(ids: impl IntoIterator<Item = Cow<'a, str>>) -> Vec<String> {
    ids.into_iter().map(Cow::into_owned).collect()
}

fn contact(body: Members<'_>) -> ContactFacts {
    let code = body.patient_id.and_then(text).or_else(|| body.place_id.and_then(text));
    ContactFacts {
        shortcode: code.filter(|code| is_subject_key(code)).map(Cow::into_owned),
        parents: owned(body.parent),
        primary: body.contact.into_iter().next().map(Cow::into_owned),
    }
}

fn is_true(value: Option<&str>) -> bool {
    value == Some("true") || value.and_then(string).is_some_and(|text| text == "true")
}

fn record(body: Members<'_>, last: &mut LastNames) -> RecordFacts {
    let report = body.form.is_some_and(is_truthy);
    let needs_signoff = is_true(body.fields.needs_signoff);
    let private = report && is_true(body.fields.private);
    let subject = if report { subject_of_report(&body) } else { subject_of_message(&body) };
    let subject = subject.map(|subject| shared(&mut last.subject, &subject));
    let mut line = body.contact.into_iter();
    let author = line.next().map(|author| shared(&mut last.author, &author));
    // What is above the author is kept only where somebody asks for that.
    let above_author = if needs_signoff || private { owned(line) } else { Vec::new() };
    RecordFacts { report, subject, author, above_author, needs_signoff, private }
}

fn subject_of_message<'b>(body: &'b Members<'_>) -> Option<Cow<'b, str>> {
    if body.sms_message.is_some_and(is_truthy) {
        return body.contact.first().cloned();
    }
    if body.kujua_message.is_some_and(is_truthy) {
        let tasks = body.tasks.and_then(parsed)?;
        let link = tasks.pointer("/0/messages/0/contact")?.to_string();
        return Some(chain(&mut Scanner::of_text(&link)).ok()?.into_iter().next()?.into_owned().into());
    }
    None
}

fn subject_of_report<'b>(body: &'b Members<'_>) -> Option<Cow<'b, str>> {
    let unregistered = |error: &Value| {
        matches!(error.get("code").and_then(Value::as_str), Some("registration_not_found" | "invalid_patient_id"))
    };
    let author = body.contact.first();
    let errors = body.errors.filter(|_| author.is_some()).and_then(parsed);
    let about_author = errors.as_ref().and_then(Value::as_array).is_some_and(|errors| errors.iter().any(unregistered));
    let Fields { patient_id, place_id, patient_uuid, .. } = body.fields;
    let named = [body.patient_id, patient_id, body.place_id, place_id, patient_uuid];
    let named = if about_author { None } else { named.into_iter().flatten().find_map(text) };
    named.or_else(|| author.cloned())
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
            record_of(&format!(r#""type":"data_record",{contact},{members}"#)).author_line()
        };
        assert_eq!(author(r#""form":"v","fields":{}"#), ["a"]);
        assert_eq!(author(r#""form":"v","fields":{"needs_signoff":true}"#), ["a", "h"]);
        assert_eq!(author(r#""form":"v","fields":{"private":"true"}"#), ["a", "h"]);
        assert_eq!(author(r#""sms_message":{"m":1},"fields":{"needs_signoff":true}"#), ["a", "h"]);
    }

    #[test]
    fn what_was_read_before_changes_nothing() {
        let visit = |author: &str, patient: &str| {
            format!(
                r#""type":"data_record","form":"v","contact":{{"_id":"{author}"}},"fields":{{"patient_id":"{patient}"}}"#
            )
        };
        let mut last = LastNames::default();
        let mut before: Option<RecordFacts> = None;
        for (author, patient, shared) in
            [("a", "p", 0), ("a", "p", 2), ("a", "q", 1), ("b", "q", 1), ("b", "b", 1), ("", "b", 1), ("a", "a", 0)]
        {
            let facts = Facts::of_next("v", &visit(author, patient), &mut last);
            assert_eq!(facts, Facts::of("v", &visit(author, patient)));
            let Facts::Record(record) = facts else { panic!("{facts:?}") };
            let same = |a: &Option<Arc<str>>, b: &Option<Arc<str>>| a.iter().zip(b).any(|(a, b)| Arc::ptr_eq(a, b));
            let found =
                before.iter().flat_map(|old| [same(&old.subject, &record.subject), same(&old.author, &record.author)]);
            assert_eq!(found.filter(|same| *same).count(), shared, "{author} {patient}");
            before = Some(record);
        }
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
