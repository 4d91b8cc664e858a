//! What the oracle knows: every document as a tree of revisions, the accounts, and the little history the rule speaks of.
//!
//! Nothing here is fast or clever: plain maps, looked through from one end to the other. Besides the documents it
//! remembers since when a contact holds its shortcode (S6), who was the primary contact of a place before (S14), where a
//! deleted contact was last (S11) and which revision moved a place (S17).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::{Map, Value};

/// The fields of a document without those that begin with `_`.
pub(super) type Body = Map<String, Value>;

/// What a user is for the rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) roles: Vec<String>,
    pub(super) facilities: Vec<String>,
    pub(super) person: Option<String>,
}

/// Whether the primary contact that a revision names counts (S16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// Named by an administrator, or by somebody who could see the contact.
    Counts,
    /// Named by somebody who could not.
    Ignored,
    /// The rule does not say; the world has it confirmed by an administrator before anybody looks.
    Unclear,
}

/// One revision. `body` is `None` for an ancestor that is known by name only.
#[derive(Debug, Clone)]
pub(super) struct Revision {
    pub(super) parent: Option<String>,
    pub(super) deleted: bool,
    pub(super) body: Option<Body>,
    pub(super) naming: Naming,
}

/// The last version of a document that was not deleted, as the rule sees it.
#[derive(Debug, Clone)]
pub(super) struct Face {
    pub(super) kind: Kind,
    pub(super) body: Body,
    /// The parent that holds: the one in the body, or the one that a move set (S17).
    pub(super) parent: Option<Value>,
    pub(super) code: Option<String>,
    pub(super) primary: Option<String>,
    pub(super) naming: Naming,
}

/// One document with all of its revisions.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) revisions: BTreeMap<String, Revision>,
    /// The revision written by the latest move, and the parent it set.
    pub(super) moved: Option<(String, Value)>,
    pub(super) winner: String,
    pub(super) deleted: bool,
    pub(super) face: Option<Face>,
}

/// What decides about a document, by its id and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Everybody,
    Contact,
    Record,
    Task,
    Target,
    UserSettings,
    Nobody,
}

/// The whole world at one moment. A copy is cheap, so devices keep one of the moment of their last pull.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) documents: BTreeMap<String, Rc<Document>>,
    /// Since which moment a contact holds its present shortcode, by shortcode and contact.
    holders: BTreeMap<(String, String), u64>,
    /// Every contact that ever was the primary contact of a place.
    formers: BTreeMap<String, BTreeSet<String>>,
    moment: u64,
}

const FOR_EVERYBODY: &[&str] = &[
    "_design/medic-client",
    "settings",
    "resources",
    "branding",
    "partners",
    "service-worker-meta",
    "zscore-charts",
    "privacy-policies",
    "extension-libs",
];

const CONTACT_TYPES: &[&str] = &["contact", "person", "clinic", "health_center", "district_hospital"];

/// What begins the id of an account's own document.
pub(super) const ACCOUNT_PREFIX: &str = "org.couchdb.user:";

/// The kind of a document.
pub(super) fn kind(id: &str, body: &Body) -> Kind {
    if FOR_EVERYBODY.contains(&id) {
        return Kind::Everybody;
    }
    match body.get("type").and_then(Value::as_str) {
        _ if id.starts_with("_design/") => Kind::Nobody,
        Some("form" | "translations" | "ui-extension") => Kind::Everybody,
        Some("data_record") => Kind::Record,
        Some("task") => Kind::Task,
        Some("target") => Kind::Target,
        Some("user-settings") => Kind::UserSettings,
        Some(name) if CONTACT_TYPES.contains(&name) => Kind::Contact,
        _ => Kind::Nobody,
    }
}

/// A value as a key: text, or a number as it is usually written (S1); nothing if it is empty.
pub(super) fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The id in a reference, which is `{"_id": …}` or a plain id.
pub(super) fn reference(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Object(object) => text(object.get("_id")),
        _ => None,
    }
}

/// Generation and hash of a revision, in the order in which revisions win.
pub(super) fn rank(revision: &str) -> (u64, &str) {
    let (generation, hash) = revision.split_once('-').expect("a revision");
    (generation.parse().expect("a generation"), hash)
}

impl Face {
    fn of(id: &str, body: &Body, parent: Option<Value>, naming: Naming) -> Self {
        let kind = kind(id, body);
        let contact = kind == Kind::Contact;
        let code = text(body.get("patient_id")).or_else(|| text(body.get("place_id"))).filter(|_| contact);
        let primary = reference(body.get("contact")).filter(|_| contact);
        Self { kind, body: body.clone(), parent, code, primary, naming }
    }
}

impl Document {
    fn new() -> Self {
        let revisions = BTreeMap::new();
        Self { revisions, moved: None, winner: String::new(), deleted: true, face: None }
    }

    /// The ancestors of a revision, itself first.
    pub(super) fn path(&self, revision: &str) -> Vec<String> {
        let parent = |revision: &String| self.revisions.get(revision).and_then(|known| known.parent.clone());
        std::iter::successors(Some(revision.to_owned()), parent).collect()
    }

    pub(super) fn leaves(&self) -> Vec<&str> {
        let parents: BTreeSet<&str> = self.revisions.values().filter_map(|known| known.parent.as_deref()).collect();
        self.revisions.keys().map(String::as_str).filter(|name| !parents.contains(name)).collect()
    }

    /// The parent that holds for a version with this history (S17).
    fn parent(&self, path: &[String], body: &Body) -> Option<Value> {
        match &self.moved {
            Some((revision, parent)) if !path.contains(revision) => Some(parent.clone()),
            _ => body.get("parent").cloned(),
        }
    }
}

impl State {
    /// What is written from here on is later than everything before.
    pub(super) fn tick(&mut self) {
        self.moment += 1;
    }

    pub(super) fn document(&self, id: &str) -> Option<&Document> {
        self.documents.get(id).map(Rc::as_ref)
    }

    /// The document if it is stored and not deleted.
    pub(super) fn live(&self, id: &str) -> Option<&Document> {
        self.document(id).filter(|document| !document.deleted)
    }

    /// The last version of a contact, deleted or not.
    pub(super) fn contact(&self, id: &str) -> Option<&Face> {
        self.document(id)?.face.as_ref().filter(|face| face.kind == Kind::Contact)
    }

    /// Every contact, deleted or not.
    pub(super) fn contacts(&self) -> impl Iterator<Item = (&String, &Face, bool)> {
        self.documents.iter().filter_map(|(id, document)| {
            let face = document.face.as_ref().filter(|face| face.kind == Kind::Contact)?;
            Some((id, face, document.deleted))
        })
    }

    /// The revision is in the tree, be it as an ancestor known by name only.
    pub(super) fn knows(&self, id: &str, revision: &str) -> bool {
        self.document(id).is_some_and(|document| document.revisions.contains_key(revision))
    }

    /// Since when this contact holds this shortcode.
    pub(super) fn held_since(&self, code: &str, id: &str) -> u64 {
        self.holders.get(&(code.to_owned(), id.to_owned())).copied().unwrap_or(u64::MAX)
    }

    /// The contact was the primary contact of the place, and is not now. A deleted place has none any more, nor has one
    /// that names somebody who does not count: the rule does not say so, but that reading protects more.
    pub(super) fn is_former_primary(&self, place: &str, contact: &str) -> bool {
        let face = self.live(place).and_then(|document| document.face.as_ref());
        let present = face.filter(|face| face.naming == Naming::Counts).and_then(|face| face.primary.as_deref());
        present != Some(contact) && self.formers.get(place).is_some_and(|formers| formers.contains(contact))
    }

    /// Stores a revision with its history, newest first. What is known already stays as it is.
    pub(super) fn store(&mut self, id: &str, path: &[String], deleted: bool, body: &Body, naming: Naming) {
        let mut document = self.documents.get(id).map_or_else(Document::new, |known| known.as_ref().clone());
        for (at, name) in path.iter().enumerate() {
            let revision = Revision {
                parent: path.get(at + 1).cloned(),
                deleted: deleted && at == 0,
                body: (at == 0).then(|| body.clone()),
                naming,
            };
            document.revisions.entry(name.clone()).or_insert(revision);
        }
        self.put_back(id, document, Some(&path[0]));
    }

    /// Notes that a move wrote this revision.
    pub(super) fn mark_move(&mut self, id: &str, revision: &str, parent: Value) {
        let mut document = self.documents[id].as_ref().clone();
        document.moved = Some((revision.to_owned(), parent));
        self.put_back(id, document, None);
    }

    /// Works out the winner again and what follows from it. An older version that wins once more, because another branch
    /// was deleted, names its primary contact again: the rule does not say whether that counts as it did.
    fn put_back(&mut self, id: &str, mut document: Document, written: Option<&str>) {
        let before = document.winner.clone();
        let leaves = document.leaves();
        let best = leaves.into_iter().max_by_key(|name| (!document.revisions[*name].deleted, rank(name)));
        document.winner = best.expect("a leaf").to_owned();
        let winner = &document.revisions[&document.winner];
        document.deleted = winner.deleted;
        if let (false, Some(body)) = (winner.deleted, &winner.body) {
            let parent = document.parent(&document.path(&document.winner), body);
            let again = !before.is_empty() && before != document.winner && written != Some(&document.winner);
            let face = Face::of(id, body, parent, winner.naming);
            let unclear = again && face.primary.is_some();
            let face = if unclear { Face { naming: Naming::Unclear, ..face } } else { face };
            self.note(id, document.face.as_ref(), &face);
            document.face = Some(face);
        }
        self.documents.insert(id.to_owned(), Rc::new(document));
    }

    /// Keeps the history of shortcodes and primary contacts when a face replaces another.
    fn note(&mut self, id: &str, before: Option<&Face>, after: &Face) {
        if let Some(code) = before.and_then(|face| face.code.clone()).filter(|code| Some(code) != after.code.as_ref()) {
            self.holders.remove(&(code, id.to_owned()));
        }
        if let Some(code) = &after.code {
            self.holders.entry((code.clone(), id.to_owned())).or_insert(self.moment);
        }
        if let Some(primary) = after.primary.clone().filter(|_| after.naming == Naming::Counts) {
            self.formers.entry(id.to_owned()).or_default().insert(primary);
        }
    }

    /// The world as it would be if this were the version of the document that holds.
    /// `moved`: whether a place set by a move stands against a version that does not descend from it.
    pub(super) fn supposing(&self, id: &str, path: &[String], body: &Body, moved: bool, naming: Naming) -> Self {
        let mut other = self.clone();
        other.tick();
        let mut document = self.documents.get(id).map_or_else(Document::new, |known| known.as_ref().clone());
        let parent = if moved { document.parent(path, body) } else { body.get("parent").cloned() };
        let face = Face::of(id, body, parent, naming);
        other.note(id, document.face.as_ref(), &face);
        document.face = Some(face);
        document.deleted = false;
        other.documents.insert(id.to_owned(), Rc::new(document));
        other
    }
}
