//! What a push may write: the paragraphs *Pushing*, *Escrow* and *Drain* of `tests/acceptance/README.md`.
//!
//! A verdict is only given where the text is exact. Where it is not, each choice it leaves is a [`Reading`]; a document
//! that is accepted under one reading and refused under another is [`Verdict::Open`], and the server decides.

use serde_json::Value;

use super::oracle::{ACCOUNT_PREFIX, Body, Kind, Naming, State, kind};
use super::rule::{Subject, subject};

/// A pushed revision: its history, newest first, and its content.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) path: Vec<String>,
    pub(super) deleted: bool,
    pub(super) body: Body,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Refuse,
    /// Accepted only for what the device saw at its last pull (S13).
    Drain,
    Open,
}

/// Choices that the text leaves about what a batch counts for itself.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Edits of stored contacts count for the rest of the batch, not only contacts that were never stored.
    edits: bool,
    /// A version that does not descend from a move is judged in the place that the move set.
    moved: bool,
    /// A primary contact of the same batch counts before it is itself accepted.
    ahead: bool,
    /// Contacts of the batch also decide whether the user sees the stored version. The server writes what it accepted
    /// before it looks at the rest again: as if the contacts had come in a push of their own.
    stored: bool,
}

/// The first reading alone where no document of the batch makes a difference between them.
fn readings(now: &State, drafts: &[Draft]) -> Vec<Reading> {
    let contact = |draft: &&Draft| kind(&draft.id, &draft.body) == Kind::Contact;
    let edits = drafts.iter().filter(contact).any(|draft| now.document(&draft.id).is_some());
    let moved = drafts.iter().any(|draft| now.document(&draft.id).is_some_and(|known| known.moved.is_some()));
    let ahead = drafts.iter().filter(contact).any(|draft| draft.body.contains_key("contact"));
    let stored = drafts.iter().any(|draft| kind(&draft.id, &draft.body) == Kind::Contact)
        && drafts.iter().any(|draft| now.live(&draft.id).is_some());
    let options = |differs: bool| if differs { &[true, false][..] } else { &[true][..] };
    let mut all = Vec::new();
    for &edits in options(edits) {
        for &moved in options(moved) {
            for &ahead in options(ahead) {
                all.extend(options(stored).iter().map(|&stored| Reading { edits, moved, ahead, stored }));
            }
        }
    }
    all
}

/// A batch of one user while it is judged.
struct Batch<'a> {
    name: &'a str,
    drafts: &'a [Draft],
    accepted: Vec<bool>,
}

impl Batch<'_> {
    /// Whether the primary contact that a draft names counts while the rest is judged (S16).
    fn naming(&self, before: &State, draft: &Draft, reading: Reading) -> Naming {
        let Some(primary) = super::oracle::reference(draft.body.get("contact")) else { return Naming::Counts };
        let inherited = inherited(before, draft, &primary);
        let may_count = inherited == Some(Naming::Unclear) && reading.ahead;
        if before.sees(self.name, &primary) || inherited == Some(Naming::Counts) || may_count {
            return Naming::Counts;
        }
        let new = |(other, accepted): (&Draft, &bool)| {
            let contact = kind(&other.id, &other.body) == Kind::Contact && !other.deleted;
            other.id == primary && contact && before.live(&primary).is_none() && (*accepted || reading.ahead)
        };
        let counts = self.drafts.iter().zip(&self.accepted).any(new);
        if counts { Naming::Counts } else { Naming::Ignored }
    }

    fn supposing(&self, world: &State, before: &State, draft: &Draft, reading: Reading) -> State {
        let naming = self.naming(before, draft, reading);
        world.supposing(&draft.id, &draft.path, &draft.body, reading.moved, naming)
    }

    /// The stored world with the contacts that are accepted so far.
    fn with_accepted(&self, before: &State, reading: Reading) -> State {
        let mut world = before.clone();
        for (draft, _) in self.drafts.iter().zip(&self.accepted).filter(|(_, accepted)| **accepted) {
            let counts = reading.edits || before.document(&draft.id).is_none();
            if counts && !draft.deleted && kind(&draft.id, &draft.body) == Kind::Contact {
                world = self.supposing(&world, before, draft, reading);
            }
        }
        world
    }

    fn admits(&self, before: &State, world: &State, draft: &Draft, reading: Reading) -> bool {
        let stored = before.live(&draft.id).and_then(|document| document.face.as_ref());
        let sees = before.sees(self.name, &draft.id) || (reading.stored && world.sees(self.name, &draft.id));
        if draft.deleted {
            return stored.is_some_and(|face| face.kind != Kind::Everybody) && sees;
        }
        if is_reserved(before, draft) {
            return false;
        }
        if stored.is_some() && !sees {
            return false;
        }
        self.supposing(world, before, draft, reading).sees(self.name, &draft.id)
    }
}

/// Whether a primary contact counts because it counted before: in the present version and in the one that the draft
/// edits. The rule does not speak of versions that disagree: of a draft that revives a deleted place, or that wins over
/// another branch. The server goes by the present version.
fn inherited(before: &State, draft: &Draft, primary: &str) -> Option<Naming> {
    let document = before.document(&draft.id)?;
    let names = |body: &Body| super::oracle::reference(body.get("contact")).as_deref() == Some(primary);
    let present = document.face.as_ref().filter(|face| !document.deleted && names(&face.body));
    let below = draft.path.iter().skip(1).find_map(|name| document.revisions.get(name));
    let below = below.filter(|revision| revision.body.as_ref().is_some_and(names));
    match (present.map(|face| face.naming), below.map(|revision| revision.naming)) {
        (None, None) => None,
        (Some(present), Some(below)) if present == below => Some(present),
        _ => Some(Naming::Unclear),
    }
}

/// The kind of document that restricted users never write, or a change that they may not make.
pub(super) fn is_reserved(before: &State, draft: &Draft) -> bool {
    let stored = before.live(&draft.id).and_then(|document| document.face.as_ref());
    let (new, old) = (kind(&draft.id, &draft.body), stored.map(|face| face.kind));
    if old == Some(Kind::Everybody) || (!draft.deleted && new == Kind::Everybody) {
        return true;
    }
    let roles = |body: &Body| body.get("roles").cloned();
    !draft.deleted
        && draft.id.starts_with(ACCOUNT_PREFIX)
        && stored.is_none_or(|face| roles(&face.body) != roles(&draft.body))
}

/// Accepts what can be accepted until nothing more can, in any of the states and under any of the readings.
fn fixpoint(name: &str, states: &[&State], readings: &[Reading], drafts: &[Draft]) -> Vec<bool> {
    let mut batch = Batch { name, drafts, accepted: vec![false; drafts.len()] };
    loop {
        let before = batch.accepted.clone();
        for state in states {
            for &reading in readings {
                let world = batch.with_accepted(state, reading);
                for (at, draft) in drafts.iter().enumerate() {
                    let admitted = batch.accepted[at] || batch.admits(state, &world, draft, reading);
                    batch.accepted[at] = admitted;
                }
            }
        }
        if batch.accepted == before {
            return batch.accepted;
        }
    }
}

/// Whether the text does not say what becomes of a draft at all.
fn is_unspecified(now: &State, draft: &Draft) -> bool {
    // A deletion is judged on the stored version: there is none. Or of the own user-settings, which may be edited.
    draft.deleted && (now.live(&draft.id).is_none() || draft.id.starts_with(ACCOUNT_PREFIX))
}

/// What becomes of each document of a push. `past`: the world at the device's last pull, with what was accepted from the
/// device since; several where it is not clear which pull was its last, none where nothing drains.
pub(super) fn judge(now: &State, past: &[State], name: &str, drafts: &[Draft]) -> Vec<Verdict> {
    let readings = readings(now, drafts);
    let all = |states: &[&State]| -> Vec<bool> {
        let each: Vec<Vec<bool>> = readings.iter().map(|reading| fixpoint(name, states, &[*reading], drafts)).collect();
        (0..drafts.len()).map(|at| each.iter().all(|accepted| accepted[at])).collect()
    };
    let certain = all(&[now]);
    if certain.iter().all(|accepted| *accepted) && !drafts.iter().any(|draft| is_unspecified(now, draft)) {
        return vec![Verdict::Accept; drafts.len()];
    }
    let mut states = vec![now];
    states.extend(past);
    let possible = fixpoint(name, &states, &readings, drafts);
    let possible_now = fixpoint(name, &[now], &readings, drafts);
    let drained = if past.len() == 1 { all(&states) } else { vec![false; drafts.len()] };
    let verdict = |at: usize| match () {
        () if is_unspecified(now, &drafts[at]) => Verdict::Open,
        () if certain[at] => Verdict::Accept,
        () if !possible[at] => Verdict::Refuse,
        () if drained[at] && !possible_now[at] => Verdict::Drain,
        () => Verdict::Open,
    };
    (0..drafts.len()).map(verdict).collect()
}

/// Whether the primary contact that an accepted draft names counts from now on. `fresh`: contacts that the same push
/// stored.
pub(super) fn naming(now: &State, past: &[State], name: &str, draft: &Draft, fresh: &[&str]) -> Naming {
    let Some(primary) = super::oracle::reference(draft.body.get("contact")) else { return Naming::Counts };
    let inherited = inherited(now, draft, &primary);
    if now.sees(name, &primary) || inherited == Some(Naming::Counts) {
        return Naming::Counts;
    }
    if fresh.contains(&primary.as_str()) {
        return if now.document(&primary).is_none() { Naming::Counts } else { Naming::Unclear };
    }
    let seen_before = past.iter().any(|state| state.sees(name, &primary));
    if seen_before || inherited == Some(Naming::Unclear) { Naming::Unclear } else { Naming::Ignored }
}

/// The reason in escrow, where the text is exact about it. `after`: the world with what the push stored.
pub(super) fn reason(before: &State, after: &State, name: &str, draft: &Draft) -> Option<&'static str> {
    if is_reserved(before, draft) {
        return Some("reserved");
    }
    if draft.deleted {
        return before.live(&draft.id).map(|_| "out_of_scope");
    }
    let hidden = before.live(&draft.id).is_some() && !before.sees(name, &draft.id);
    match kind(&draft.id, &draft.body) {
        Kind::Contact | Kind::Task => Some("out_of_scope"),
        Kind::Record => match subject(&draft.body) {
            Subject::Key(key) if after.meant(&key).is_some() => Some("out_of_scope"),
            Subject::Key(key) if key.starts_with('_') || key.starts_with(ACCOUNT_PREFIX) => None,
            Subject::Key(_) if hidden => None,
            Subject::Key(_) => Some("unknown_subject"),
            Subject::Unassigned => Some("out_of_scope"),
        },
        _ => None,
    }
}

/// The subject of a waiting record is known by now.
pub(super) fn is_subject_known(world: &State, draft: &Draft) -> bool {
    match subject(&draft.body) {
        Subject::Key(key) => world.meant(&key).is_some(),
        Subject::Unassigned => false,
    }
}

impl Draft {
    pub(super) fn revision(&self) -> &str {
        &self.path[0]
    }

    /// The document as it is pushed with `new_edits: false`.
    pub(super) fn wire(&self) -> Value {
        let hashes: Vec<&str> = self.path.iter().map(|name| super::oracle::rank(name).1).collect();
        let mut document = self.body.clone();
        document.insert("_id".to_owned(), self.id.as_str().into());
        document.insert("_rev".to_owned(), self.revision().into());
        let start = super::oracle::rank(self.revision()).0;
        document.insert("_revisions".to_owned(), serde_json::json!({"start": start, "ids": hashes}));
        if self.deleted {
            document.insert("_deleted".to_owned(), true.into());
        }
        Value::Object(document)
    }
}
