//! Who sees what: the rule of `tests/acceptance/README.md`, sentence by sentence.
//!
//! Where the text leaves a choice, this module makes it; each such place says so.

use serde_json::{Map, Value};

use super::oracle::{ACCOUNT_PREFIX, Account, Body, Face, Kind, Naming, State, reference, text};

/// How deep a user sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth {
    /// `None` is unlimited.
    contacts: Option<u64>,
    reports: Option<u64>,
    primary: bool,
}

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    Unassigned,
    Key(String),
}

/// The embedded lineage, once it is in use, is followed to its end, even where it names stored contacts again.
const GAP_ENDS_STORED_LINEAGE: bool = true;

fn is_true(value: Option<&Value>) -> bool {
    matches!(value, Some(Value::Bool(true))) || value.and_then(Value::as_str) == Some("true")
}

fn is_reserved(key: &str) -> bool {
    key == "_all" || key == "_unassigned" || key.starts_with(ACCOUNT_PREFIX)
}

fn field<'a>(body: &'a Body, name: &str) -> Option<&'a Value> {
    body.get("fields").and_then(|fields| fields.get(name))
}

/// The author of a report.
pub(super) fn author(body: &Body) -> Option<String> {
    body.get("contact").filter(|contact| contact.is_object()).and_then(|contact| reference(Some(contact)))
}

pub(super) fn is_report(body: &Body) -> bool {
    text(body.get("form")).is_some()
}

/// What a `data_record` is about.
pub(super) fn subject(body: &Body) -> Subject {
    let key = if is_report(body) {
        let wrong = |error: &Value| {
            let code = error.get("code").and_then(Value::as_str);
            code == Some("registration_not_found") || code == Some("invalid_patient_id")
        };
        let errors = body.get("errors").and_then(Value::as_array);
        match author(body) {
            Some(author) if errors.is_some_and(|errors| errors.iter().any(wrong)) => Some(author),
            author => text(body.get("patient_id"))
                .or_else(|| text(field(body, "patient_id")))
                .or_else(|| text(body.get("place_id")))
                .or_else(|| text(field(body, "place_id")))
                .or_else(|| text(field(body, "patient_uuid")))
                .or(author),
        }
    } else if body.get("sms_message").is_some_and(|message| !message.is_null()) {
        reference(body.get("contact"))
    } else if is_true(body.get("kujua_message")) {
        reference(body.get("tasks").and_then(|tasks| tasks.pointer("/0/messages/0/contact")))
    } else {
        None
    };
    key.map_or(Subject::Unassigned, Subject::Key)
}

impl Depth {
    /// Unlimited, and no primary contacts: without any rule.
    const EVERYTHING: Self = Self { contacts: None, reports: None, primary: false };

    /// What an entry of `replication_depth` says; nothing if its depth is not a whole number.
    fn of_entry(entry: &Value) -> Option<Self> {
        let number = |name: &str| match entry.get(name)? {
            Value::String(digits) => digits.parse::<i64>().ok(),
            value => value.as_i64(),
        };
        Some(Self {
            contacts: u64::try_from(number("depth")?).ok(),
            reports: number("report_depth").and_then(|depth| u64::try_from(depth).ok()),
            primary: entry.get("replicate_primary_contacts") == Some(&Value::Bool(true)),
        })
    }

    /// The deeper of two, or both together if they are equally deep.
    fn or(self, other: Self) -> Self {
        let size = |depth: Option<u64>| depth.unwrap_or(u64::MAX);
        match size(self.contacts).cmp(&size(other.contacts)) {
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Equal => Self {
                contacts: self.contacts,
                reports: if size(self.reports) < size(other.reports) { other.reports } else { self.reports },
                primary: self.primary || other.primary,
            },
        }
    }
}

/// A user who looks at the world: the account, and what follows for it from the settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Viewer<'a> {
    world: &'a State,
    name: &'a str,
    account: &'a Account,
    depth: Depth,
    unassigned: bool,
}

impl State {
    fn settings(&self) -> Option<&Map<String, Value>> {
        let face = self.live("settings")?.face.as_ref()?;
        face.body.get("settings").and_then(Value::as_object)
    }

    /// How deep the roles of a user reach. The first entry of a role counts, also to be ignored.
    fn depth(&self, account: &Account) -> Depth {
        let entries = self.settings().and_then(|settings| settings.get("replication_depth")).and_then(Value::as_array);
        let entries = entries.map(Vec::as_slice).unwrap_or_default();
        let first = |role: &String| entries.iter().find(|entry| entry.get("role") == Some(&Value::from(role.as_str())));
        let depths = account.roles.iter().filter_map(first).filter_map(Depth::of_entry);
        depths.reduce(Depth::or).unwrap_or(Depth::EVERYTHING)
    }

    fn may_see_unassigned(&self, account: &Account) -> bool {
        let Some(settings) = self.settings() else { return false };
        let roles = settings.get("permissions").and_then(|map| map.get("can_view_unallocated_data_records"));
        let permitted = |role: &String| {
            roles.and_then(Value::as_array).is_some_and(|roles| roles.contains(&Value::from(role.as_str())))
        };
        settings.get("district_admins_access_unallocated_messages") == Some(&Value::Bool(true))
            && account.roles.iter().any(permitted)
    }

    pub(super) fn viewer<'a>(&'a self, name: &'a str) -> Option<Viewer<'a>> {
        let account = self.accounts.get(name)?;
        let (depth, unassigned) = (self.depth(account), self.may_see_unassigned(account));
        Some(Viewer { world: self, name, account, depth, unassigned })
    }

    /// The user sees the stored document.
    pub(super) fn sees(&self, name: &str, id: &str) -> bool {
        self.viewer(name).is_some_and(|viewer| viewer.sees(id))
    }

    /// Every document the user sees.
    pub(super) fn seen_by(&self, name: &str) -> Vec<String> {
        let viewer = self.viewer(name);
        let sees = |id: &&String| viewer.is_some_and(|viewer| viewer.sees(id));
        self.documents.keys().filter(sees).cloned().collect()
    }

    /// The contact itself and what is above it, nearest first. A loop ends it.
    /// A deleted contact is followed like a stored one: it keeps its last place (S11).
    pub(super) fn line(&self, id: &str) -> Vec<String> {
        let mut line = vec![id.to_owned()];
        let mut embedded = false;
        let mut parent = self.contact(id).and_then(|face| face.parent.as_ref());
        while let Some(next) = reference(parent).filter(|next| !line.contains(next)) {
            parent = match self.contact(&next) {
                Some(face) if !embedded || !GAP_ENDS_STORED_LINEAGE => face.parent.as_ref(),
                _ => {
                    embedded = true;
                    parent.and_then(|value| value.get("parent"))
                }
            };
            line.push(next);
        }
        line
    }

    /// The contact that a key means: by its id, otherwise by its shortcode the contact that held it first.
    pub(super) fn meant(&self, key: &str) -> Option<String> {
        if is_reserved(key) {
            return None;
        }
        if self.contact(key).is_some() {
            return Some(key.to_owned());
        }
        let holders = self.contacts().filter(|(_, face, _)| face.code.as_deref() == Some(key));
        holders.map(|(id, ..)| id.clone()).min_by_key(|id| (self.held_since(key, id), id.clone()))
    }

    /// The line of the author of a record that needs sign-off; it begins with the author.
    fn sign_off(&self, body: &Body) -> Vec<String> {
        let author = author(body).filter(|_| is_true(field(body, "needs_signoff")));
        author.map(|author| self.line(&author)).unwrap_or_default()
    }

    /// The reasons behind an answer of `sees`, for a failure message.
    pub(super) fn reasons(&self, name: &str, id: &str) -> String {
        let Some(viewer) = self.viewer(name) else { return "no such account".to_owned() };
        let Some(document) = self.document(id) else { return "the document was never stored".to_owned() };
        let mut lines = vec![
            format!("{:?} {:?} unassigned {}", viewer.account, viewer.depth, viewer.unassigned),
            format!("winner {} deleted {} moved {:?}", document.winner, document.deleted, document.moved),
        ];
        let Some(face) = &document.face else { return lines.join("\n") };
        lines.push(format!("{:?} naming {:?}: {}", face.kind, face.naming, Value::Object(face.body.clone())));
        let key = match (face.kind, subject(&face.body)) {
            (Kind::Target, _) => text(face.body.get("owner")),
            (Kind::Record, Subject::Key(key)) => Some(key),
            _ => None,
        };
        lines.push(format!("about {key:?}"));
        let meant = key.and_then(|key| self.meant(&key)).into_iter();
        let contacts =
            meant.chain(author(&face.body)).chain([id.to_owned()].into_iter().filter(|id| self.contact(id).is_some()));
        for contact in contacts {
            let (line, range) = (self.line(&contact), viewer.range(&contact));
            let code = self.contact(&contact).and_then(|face| face.code.clone());
            let holder = code.as_deref().and_then(|code| self.meant(code));
            let named = self.contacts().filter(|(_, face, _)| face.primary.as_deref() == Some(&contact));
            let named: Vec<_> = named.map(|(place, face, deleted)| (place, face.naming, deleted)).collect();
            lines.push(format!("{contact} is named by (deleted) {named:?}"));
            let deleted = self.live(&contact).is_none();
            lines.push(format!(
                "{contact}: line {line:?}, range {range:?}, code {code:?} means {holder:?}, deleted {deleted}"
            ));
        }
        lines.join("\n")
    }
}

impl Viewer<'_> {
    /// How far a contact is below the nearest facility of the user, if that is not too deep.
    fn depth_below_facility(&self, id: &str) -> Option<u64> {
        let at = self.world.line(id).iter().position(|place| self.account.facilities.contains(place))?;
        Some(at as u64).filter(|depth| *depth <= self.depth.contacts.unwrap_or(u64::MAX))
    }

    /// At which depth a contact is in range: by where it is, or as a primary contact; the smaller of the two.
    /// A deleted contact is in range where it was last, but nobody's primary contact; a deleted place has none.
    fn range(&self, id: &str) -> Option<u64> {
        self.world.contact(id)?;
        let own = self.depth_below_facility(id);
        if !self.depth.primary || self.world.live(id).is_none() {
            return own;
        }
        let names = |face: &Face| face.primary.as_deref() == Some(id) && face.naming == Naming::Counts;
        let places = self.world.contacts().filter(|(_, face, deleted)| !deleted && names(face));
        let depths = places.filter_map(|(place, ..)| self.depth_below_facility(place));
        own.into_iter().chain(depths).min()
    }

    fn sees(&self, id: &str) -> bool {
        let Some(face) = self.world.live(id).and_then(|document| document.face.as_ref()) else { return false };
        let own = || format!("{ACCOUNT_PREFIX}{}", self.name);
        match face.kind {
            Kind::Everybody => true,
            Kind::Contact => self.range(id).is_some(),
            Kind::Record => self.sees_record(&face.body),
            Kind::Task => face.body.get("user").and_then(Value::as_str) == Some(&own()),
            Kind::Target => {
                let owner = text(face.body.get("owner")).and_then(|owner| self.world.meant(&owner));
                owner.is_some_and(|owner| self.range(&owner).is_some())
            }
            Kind::UserSettings => id == own(),
            Kind::Nobody => false,
        }
    }

    fn sees_record(&self, body: &Body) -> bool {
        let about = match subject(body) {
            Subject::Unassigned if self.unassigned => return true,
            Subject::Unassigned => None,
            Subject::Key(key) => self.world.meant(&key),
        };
        let mut reached: Vec<u64> = about.iter().filter_map(|about| self.range(about)).collect();
        reached.extend(self.world.sign_off(body).iter().filter_map(|signer| self.range(signer)));
        if reached.is_empty() || self.is_protected(body, about.as_deref()) {
            return false;
        }
        let own = is_report(body) && self.account.person.is_some() && author(body) == self.account.person;
        let limit = self.depth.reports.filter(|_| !own);
        limit.is_none_or(|limit| reached.iter().any(|depth| *depth <= limit))
    }

    /// A private report about the user, by somebody out of the user's range.
    fn is_protected(&self, body: &Body, about: Option<&str>) -> bool {
        let (Some(author), Some(about)) = (author(body).filter(|_| is_report(body)), about) else { return false };
        let former = |place: &String| place == about || self.world.is_former_primary(place, about);
        let theirs = self.account.person.as_deref() == Some(about) || self.account.facilities.iter().any(former);
        theirs && is_true(field(body, "private")) && self.range(&author).is_none()
    }
}
