//! What devices write: batches of replication, and single requests; and what the server makes of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::district;
use super::judge::{Draft, Verdict, is_subject_known, judge, naming, reason};
use super::oracle::{ACCOUNT_PREFIX, Body, Kind, Naming, State, kind};
use super::world::{World, generation, path, string};
use crate::support::http::Request;

/// The rows of escrow by their numbers.
type Rows = std::collections::BTreeMap<u64, Value>;

/// How many revisions may wait in escrow before an overseer clears it.
const MOST_WAITING: usize = 40;

impl World {
    fn hash(&mut self) -> String {
        let (one, two) = (self.chance.next(), self.chance.next());
        format!("{one:016x}{two:016x}")
    }

    /// A history with this many new revisions on top of another.
    fn on_top(&mut self, mut path: Vec<String>, edits: u64) -> Vec<String> {
        for _ in 0..edits {
            let next = path.first().map_or(0, |revision| generation(revision)) + 1;
            let hash = self.hash();
            path.insert(0, format!("{next}-{hash}"));
        }
        path
    }

    /// A place that the user of a device sees, to put something below.
    fn place_near(&mut self, user: &str) -> Option<String> {
        let account = self.state.accounts[user].clone();
        let tries: Vec<String> = (0..6).map(|_| district::place_id(&mut self.chance)).collect();
        let near = tries.into_iter().find(|id| self.state.sees(user, id));
        near.or_else(|| self.chance.pick(&account.facilities).cloned())
    }

    /// A document that is new to the device, under an id that may be known to others.
    fn fresh(&mut self, user: &str, id: String) -> Draft {
        let near = self.place_near(user);
        let writer = self.state.accounts[user].person.clone();
        let body = district::document(&self.state, &mut self.chance, &id, near.as_deref(), writer.as_deref());
        let path = self.on_top(Vec::new(), 1);
        Draft { id, path, deleted: false, body }
    }

    /// An edit or a deletion of what the device holds, seldom of an older revision of it.
    fn edit(&mut self, at: usize) -> Option<Draft> {
        let user = self.devices[at].user.clone();
        let id = self.chance.pick(&self.devices[at].ids()).cloned()?;
        let mut below = match self.state.document(&id) {
            Some(known) if known.revisions.contains_key(self.devices[at].revision(&id)?) => {
                known.path(self.devices[at].revision(&id)?)
            }
            _ => vec![self.devices[at].revision(&id)?.to_owned()],
        };
        if below.len() > 1 && self.chance.percent(12) {
            below.remove(0);
        }
        let known = self.state.document(&id);
        let body = known.and_then(|known| known.revisions.get(&below[0])).and_then(|revision| revision.body.clone());
        let waiting = self.waiting.values().find(|waiting| waiting.draft.id == id && waiting.device == at);
        let body = body.or_else(|| waiting.map(|waiting| waiting.draft.body.clone()))?;
        if self.chance.percent(16) {
            // A tombstone with a body and no version before it: the rule does not say whether that was a contact once.
            let whole = self.chance.percent(50) && self.state.live(&id).is_some();
            let body = if whole { body } else { Body::new() };
            return Some(Draft { path: self.on_top(below, 1), id, deleted: true, body });
        }
        let near = self.place_near(&user);
        let mut body = district::edited(&self.state, &mut self.chance, &id, &body, near.as_deref());
        if id.starts_with(ACCOUNT_PREFIX) && self.chance.percent(30) {
            body.insert("roles".to_owned(), json!(["chw", "officer"]));
        }
        let edits = if self.chance.percent(75) { 1 } else { 1 + self.chance.below(3) };
        Some(Draft { path: self.on_top(below, edits), id, deleted: false, body })
    }

    /// A new household with a new person and a report about that person.
    fn family(&mut self, user: &str) -> Vec<Draft> {
        let household = district::place_id(&mut self.chance);
        let mut drafts = vec![self.fresh(user, household.clone())];
        let (person, report) = (self.chance.below(48), self.chance.below(120));
        let mut person = self.fresh(user, format!("per-{person}"));
        let mut report = self.fresh(user, format!("rep-{report}"));
        let lineage = drafts[0].body.get("parent").cloned();
        person.body.insert("parent".to_owned(), json!({"_id": household, "parent": lineage}));
        if self.chance.percent(50) {
            drafts[0].body.insert("contact".to_owned(), json!({ "_id": person.id }));
        }
        if report.body.contains_key("form") {
            report.body.insert("fields".to_owned(), json!({"patient_uuid": person.id}));
        }
        drafts.extend([person, report]);
        drafts
    }

    /// A batch: each document once, in random order.
    fn batch(&mut self, at: usize) -> Vec<Draft> {
        let user = self.devices[at].user.clone();
        let mut drafts = if self.chance.percent(15) { self.family(&user) } else { Vec::new() };
        for _ in 0..1 + self.chance.below(6) {
            let draft = match self.chance.below(100) {
                0..30 => {
                    let id = format!("rep-{}", self.chance.below(120));
                    Some(self.fresh(&user, id))
                }
                30..42 => {
                    let id = district::any_id(&mut self.chance);
                    Some(self.fresh(&user, id))
                }
                42..44 => Some(self.fresh(&user, format!("{ACCOUNT_PREFIX}{user}"))),
                44..46 => {
                    let body = district::object(json!({"title": "theirs"}));
                    let path = self.on_top(Vec::new(), 1);
                    Some(Draft { id: "branding".to_owned(), path, deleted: false, body })
                }
                46..50 => {
                    let again = self.waiting.values().filter(|waiting| waiting.device == at);
                    let again: Vec<Draft> = again.map(|waiting| waiting.draft.clone()).collect();
                    self.chance.pick(&again).cloned()
                }
                50..54 => self.stranger(),
                _ => self.edit(at),
            };
            drafts.extend(draft);
        }
        let mut ids = BTreeSet::new();
        drafts.retain(|draft| ids.insert(draft.id.clone()));
        // What is sent once more is what it was; it is left out where it would need a code that is taken.
        let again: BTreeSet<String> =
            self.waiting.values().map(|waiting| waiting.draft.revision().to_owned()).collect();
        drafts.sort_by_key(|draft| !again.contains(draft.revision()));
        let mut taken = BTreeSet::new();
        drafts.retain_mut(|draft| {
            !district::leave_out_taken(&mut taken, &mut draft.body) || !again.contains(draft.revision())
        });
        self.chance.shuffle(&mut drafts);
        drafts
    }

    /// An edit of a document that the device need not know, with its real history: somebody guessed, or remembers.
    fn stranger(&mut self) -> Option<Draft> {
        let id = district::any_id(&mut self.chance);
        let known = self.state.live(&id)?;
        let (path, body) = (known.path(&known.winner), known.face.as_ref()?.body.clone());
        let body = district::edited(&self.state, &mut self.chance, &id, &body, None);
        let deleted = self.chance.percent(25);
        Some(Draft { path: self.on_top(path, 1), id, deleted, body })
    }

    /// One `_bulk_docs` of a device, as a replicator sends it.
    pub(super) fn push(&mut self, at: usize) {
        let drafts = self.batch(at);
        if drafts.is_empty() {
            return;
        }
        self.steps += drafts.len() as u64;
        let user = self.devices[at].user.clone();
        let past = self.past(at);
        let mut verdicts = judge(&self.state, &past, &user, &drafts);
        for (draft, verdict) in drafts.iter().zip(&mut verdicts) {
            // What a device brought since its last pull it may edit on, wherever it turned out to belong (as below a
            // place that an earlier move set): the rule says so of its deletions and edits only as far as it sees them.
            let own = self.drains && self.devices[at].brought.contains(&draft.id) && *verdict == Verdict::Refuse;
            if own || self.state.knows(&draft.id, draft.revision()) {
                *verdict = Verdict::Open;
            }
        }
        let wire: Vec<Value> = drafts.iter().map(Draft::wire).collect();
        let batch = json!({"new_edits": false, "docs": wire});
        let request = Request::new("POST", "/medic/_bulk_docs").json(&batch);
        let answer = self.ask(at, request);
        if answer.status != 201 || answer.json() != json!([]) {
            self.fail(Some(&user), "", &format!("a push was answered {} {}", answer.status, answer.text()));
        }
        let pairs: Vec<(String, String)> =
            drafts.iter().map(|draft| (draft.id.clone(), draft.revision().to_owned())).collect();
        let stored = self.are_stored(&pairs);
        let exact = verdicts.iter().all(|verdict| matches!(verdict, Verdict::Accept | Verdict::Refuse));
        for (number, draft) in drafts.iter().enumerate() {
            let at_once = verdicts[number] == Verdict::Refuse && stored[number];
            if at_once && self.is_admitted_at_once(&user, draft, &drafts, &stored, &past) {
                verdicts[number] = Verdict::Open;
            }
            self.check_outcome(at, draft, verdicts[number], stored[number], &batch);
        }
        let before = self.state.clone();
        self.take_over(at, &drafts, &stored, &past);
        let rows = self.escrow_rows();
        for (draft, stored) in drafts.into_iter().zip(stored) {
            self.find_in_escrow(at, draft, stored, &rows, &before, exact);
        }
        self.changed();
        if self.waiting.len() > MOST_WAITING {
            let numbers: Vec<u64> = self.waiting.keys().copied().collect();
            numbers.into_iter().filter(|number| number % 3 != 0).for_each(|number| self.discard(number));
        }
    }

    /// What the rest of the batch left behind makes the subject of a refused record known, or anything else visible: when
    /// a leaf of a contact is deleted, an older one wins, with another line, code and primary contact. Who wins among
    /// the leaves is settled only then, so the verdict on the batch does not see it.
    fn is_admitted_at_once(
        &self,
        user: &str,
        draft: &Draft,
        drafts: &[Draft],
        stored: &[bool],
        past: &[State],
    ) -> bool {
        let record = kind(&draft.id, &draft.body) == Kind::Record;
        if record && is_subject_known(&self.state, draft) {
            return false;
        }
        let mut world = self.state.clone();
        world.tick();
        for (other, _) in drafts.iter().zip(stored).filter(|(other, stored)| **stored && other.id != draft.id) {
            let before = world.clone();
            world.store(&other.id, &other.path, other.deleted, &other.body, Naming::Counts);
            // What the batch itself says grants nothing.
            let older = world.live(&other.id).is_some_and(|document| document.winner != other.revision());
            if !record && !older {
                world = before;
            }
        }
        judge(&world, past, user, std::slice::from_ref(draft))[0] != Verdict::Refuse
    }

    fn check_outcome(&mut self, at: usize, draft: &Draft, verdict: Verdict, stored: bool, batch: &Value) {
        let user = self.devices[at].user.clone();
        let what = if draft.deleted { "a deletion of " } else { "" };
        let (revision, body) = (draft.revision(), json!(draft.body));
        let told = format!("device {at} ({user}) pushed {what}{revision}: {verdict:?}, stored: {stored}; {body}");
        let strict = std::env::var("SETTLE_DRAIN").is_ok_and(|text| text == "strict");
        let wrong = match verdict {
            Verdict::Accept => !stored,
            Verdict::Refuse => stored,
            Verdict::Drain => strict && !stored,
            Verdict::Open => false,
        };
        if wrong {
            let mut opinions = String::new();
            for world in std::iter::once(&self.state).chain(&self.past(at)) {
                let supposed = world.supposing(&draft.id, &draft.path, &draft.body, true, Naming::Counts);
                opinions += &format!("\nif it were stored: {}", supposed.reasons(&user, &draft.id));
            }
            self.fail(Some(&user), &draft.id, &format!("{told}{opinions}\nin the batch {batch}"));
        }
        self.note(&draft.id, told);
    }

    /// A revision is stored or in escrow, and not both. `exact`: the rule left nothing open about the batch.
    fn find_in_escrow(&mut self, at: usize, draft: Draft, stored: bool, rows: &Rows, before: &State, exact: bool) {
        let user = self.devices[at].user.clone();
        let is_it = |row: &Value| {
            row["id"] == json!(draft.id) && row["rev"] == json!(draft.revision()) && row["account"] == json!(user)
        };
        // What is pushed once more may keep its row, with the reason it had; and its row is gone when it is stored.
        let before_that = self.waiting.iter().find(|(_, waiting)| waiting.draft.revision() == draft.revision());
        let again = before_that.map(|(number, _)| *number);
        again.and_then(|number| self.waiting.remove(&number));
        match rows.iter().find(|(_, row)| is_it(row)) {
            None if !stored => {
                self.fail(Some(&user), &draft.id, &format!("{} is neither stored nor in escrow", draft.revision()))
            }
            None => {}
            // It may wait as an ancestor of an edit that was accepted.
            Some((_, row)) if stored && !before.knows(&draft.id, draft.revision()) => {
                self.fail(Some(&user), &draft.id, &format!("{} is stored, and in escrow: {row}", draft.revision()))
            }
            Some((number, row)) => {
                let expected = reason(before, &self.state, &user, &draft);
                let wrong = expected.is_some_and(|expected| row["reason"] != json!(expected));
                if exact && wrong && again.is_none() {
                    self.fail(Some(&user), &draft.id, &format!("the reason is to be {expected:?}: {row}"));
                }
                self.devices[at].refused(&draft.id, draft.revision(), draft.deleted);
                self.keep_aside(*number, row, draft, at);
            }
        }
    }

    /// Stores what was accepted, here and in what the device is remembered to have seen.
    fn take_over(&mut self, at: usize, drafts: &[Draft], stored: &[bool], past: &[State]) {
        let before = self.state.clone();
        let user = self.devices[at].user.clone();
        let accepted: Vec<&Draft> =
            drafts.iter().zip(stored).filter(|(_, stored)| **stored).map(|pair| pair.0).collect();
        let fresh = accepted.iter().filter(|draft| {
            kind(&draft.id, &draft.body) == Kind::Contact && !draft.deleted && before.live(&draft.id).is_none()
        });
        let fresh: Vec<&str> = fresh.map(|draft| draft.id.as_str()).collect();
        self.state.tick();
        self.devices[at].past.iter_mut().for_each(State::tick);
        for draft in &accepted {
            let naming = naming(&before, past, &user, draft, &fresh);
            self.state.store(&draft.id, &draft.path, draft.deleted, &draft.body, naming);
            for past in &mut self.devices[at].past {
                let naming = if naming == Naming::Ignored { naming } else { Naming::Counts };
                past.store(&draft.id, &draft.path, draft.deleted, &draft.body, naming);
            }
        }
        for draft in accepted {
            self.devices[at].brought.insert(draft.id.clone());
            self.devices[at].resolved(&draft.id, draft.revision());
            let winner = self.state.live(&draft.id).map(|document| document.winner.clone());
            self.devices[at].accepted(&draft.id, &draft.path, draft.deleted, winner.as_deref());
        }
    }

    /// A single `PUT` or `DELETE` of a device: refused ones are not kept, and nothing is told of what is out of scope.
    pub(super) fn interact(&mut self, at: usize) {
        self.steps += 1;
        let user = self.devices[at].user.clone();
        let id = match self.chance.pick(&self.devices[at].ids()).cloned() {
            Some(id) if self.chance.percent(60) => id,
            _ => district::any_id(&mut self.chance),
        };
        let Some(known) = self.state.live(&id) else { return };
        let (winner, body) =
            (known.winner.clone(), known.face.as_ref().map(|face| face.body.clone()).unwrap_or_default());
        let deleted = self.chance.percent(30);
        let near = self.place_near(&user);
        let body = if deleted {
            Body::new()
        } else {
            district::edited(&self.state, &mut self.chance, &id, &body, near.as_deref())
        };
        let below = self.state.document(&id).map(|known| known.path(&winner)).unwrap_or_default();
        let draft = Draft { path: self.on_top(below.clone(), 1), id: id.clone(), deleted, body };
        let past = self.past(at);
        let mut verdict = judge(&self.state, &past, &user, std::slice::from_ref(&draft))[0];
        if verdict == Verdict::Refuse && self.drains && self.devices[at].brought.contains(&id) {
            verdict = Verdict::Open;
        }
        let request = if deleted {
            Request::new("DELETE", &format!("{}?rev={winner}", path(&id)))
        } else {
            let mut document = draft.body.clone();
            document.insert("_rev".to_owned(), winner.as_str().into());
            Request::new("PUT", &path(&id)).json(&Value::Object(document))
        };
        let answer = self.ask(at, request);
        // What is stored out of scope answers as if it were absent: there is no revision to edit.
        let refusals: &[u16] = match (self.state.sees(&user, &id), deleted) {
            (true, _) => &[403],
            (false, true) => &[404],
            (false, false) => &[403, 409],
        };
        let written = answer.status < 300;
        let fits = match verdict {
            Verdict::Accept => written,
            Verdict::Refuse => refusals.contains(&answer.status),
            Verdict::Drain | Verdict::Open => written || matches!(answer.status, 403 | 404 | 409),
        };
        let what = if deleted { "DELETE" } else { "PUT" };
        let told = format!(
            "device {at} ({user}) {what} {} {verdict:?}: {} {}",
            json!(draft.body),
            answer.status,
            answer.text()
        );
        if !fits {
            self.fail(Some(&user), &id, &told);
        }
        self.note(&id, told);
        if written {
            let revision = string(&answer.json()["rev"]);
            let path = std::iter::once(revision).chain(below).collect();
            self.take_over(at, &[Draft { path, ..draft }], &[true], &past);
            self.changed();
        }
    }
}
