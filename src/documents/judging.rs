//! Judging pushes of restricted callers, beside the data (design §6.5; the rule in words: `docs/scope.md`).
//!
//! A revision is accepted if the caller sees the stored version and would see the new one: as things are now, or as they
//! were at the device's last pull (S13). A batch is judged in rounds: every document that is left is judged against the
//! same state, then all that were accepted are written, until a round accepts nothing. So the outcome does not depend on
//! the order in the batch, and a refused document grants nothing (S7). What stays refused goes to escrow.

use std::collections::HashSet;
use std::rc::Rc;

use settle_protocol::sequence::Position;
use settle_protocol::{Error, ErrorKind, Revision};

use super::devices::{DEVICES, DeviceKey, DeviceRow};
use super::error::{DocumentError, DocumentResult};
use super::escrow::{self, ESCROW, EscrowKey, EscrowRow, Reason, Refusal};
use super::filed::Filed;
use super::known::Meant;
use super::provenance::provenance_of;
use super::resolving::{Wanted, primary_in};
use super::scopes::scope_at;
use super::tables::DocumentRow;
use super::write::{Mode, Write, WriteAttachment, Writing};
use crate::access::facts::Facts;
use crate::access::placement::{Anchor, Entry, Filter, Way, of_contact};
use crate::access::scope::Scope;
use crate::accounts::withdrawals::Pass;
use crate::storage::{Read, StorageResult};

/// Who writes.
#[derive(Debug, Clone, Default)]
pub struct Author {
    /// The account or operator; empty for the server itself.
    pub account: String,
    /// The device, of a restricted caller.
    pub device: [u8; 16],
    /// Seconds since 1970.
    pub now: u64,
    /// Set for restricted callers.
    pub limits: Option<Limits>,
    /// The credentials behind it, which are judged again beside the data; nothing for operators and the server.
    pub pass: Option<Pass>,
    /// More than bringing replicated work: what a withdrawn right may not do.
    pub edits: bool,
}

/// What a restricted author is held to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// How long after the first late push the device's last pull still counts (S13).
    pub drain_seconds: u64,
    /// Documents that a device may have in escrow.
    pub escrow_documents: u64,
    /// Bytes that a device may have in escrow.
    pub escrow_bytes: u64,
}

/// As of when a push is judged.
struct State {
    scope: Scope,
    /// The part of it that may be written.
    writable: Scope,
    /// `None`: now.
    at: Option<Position>,
    device: [u8; 16],
}

impl State {
    fn new(scope: Scope, at: Option<Position>, device: [u8; 16]) -> Self {
        Self { writable: scope.writable(), scope, at, device }
    }

    /// Whether the stored version may be deleted in this state.
    fn may_delete(&self, stored: &Filed) -> bool {
        self.saw(stored) && (self.scope == self.writable || self.writable.sees(&stored.placement, self.at))
    }

    /// Whether the stored version is visible in this state; then also what this device has brought since.
    fn saw(&self, stored: &Filed) -> bool {
        let since = |(device, at): ([u8; 16], Position)| device == self.device && self.at.is_some_and(|pull| at > pull);
        self.scope.sees(&stored.placement, self.at) || stored.placement.brought.is_some_and(since)
    }
}

impl State {
    /// Whether something is to be seen before it may be written over: what is deleted now may not have been deleted then.
    fn held(&self, stored: &Filed) -> bool {
        let then = |at| stored.placement.entries.iter().any(|entry| entry.holds(Some(at)));
        !stored.deleted || self.at.is_some_and(then)
    }

    /// Whether a key meant this contact: by its id always; by a shortcode since it has that one, or if this device has
    /// brought the contact since.
    fn knew(&self, key: &str, id: &str, contact: &Filed) -> bool {
        let brought = |at| contact.placement.brought.is_some_and(|(device, since)| device == self.device && since > at);
        key == id || self.at.is_none_or(|at| contact.coded <= at || brought(at))
    }
}

/// Why a document may not be written.
#[derive(Debug, Clone, Copy)]
struct Refused {
    reason: Reason,
    /// It could be written if nothing were stored under its id; what is stored is not visible.
    only_hidden: bool,
}

fn entry_of((anchor, way, depth): (Anchor, Way, u8)) -> Entry {
    Entry { anchor, way, depth, joined: 0, left: None }
}

impl Writing<'_, '_> {
    /// Writes one document for the author of this request.
    ///
    /// # Errors
    /// As [`Writing::write`]; `403` with a reason when it may not be written, unless it is kept in escrow.
    pub fn submit(&mut self, write: Write) -> DocumentResult<Revision> {
        let mut outcomes = self.submit_all(vec![write])?;
        outcomes.pop().unwrap_or_else(|| Err(Error::missing().into()))
    }

    /// Writes a batch for the author of this request. One outcome per document, in their order; a replicated revision that
    /// went to escrow counts as written.
    ///
    /// # Errors
    /// `503` when the device has too much in escrow, or a failure of the store: then nothing was written.
    pub fn submit_all(&mut self, writes: Vec<Write>) -> DocumentResult<Vec<DocumentResult<Revision>>> {
        self.read_ahead(&writes)?;
        let Some(limits) = self.author.limits.filter(|_| self.scoped) else {
            return Ok(writes.into_iter().map(|write| self.write(write)).collect());
        };
        for number in escrow::waiting_of(self.batch, self.id, &self.author.account)? {
            self.try_to_admit(number)?;
        }
        let states = self.states(limits)?;
        let mut outcomes: Vec<Option<DocumentResult<Revision>>> = writes.iter().map(|_| None).collect();
        let mut pending: Vec<(usize, Write, Facts)> = writes.into_iter().enumerate().map(with_facts).collect();
        let mut new_contacts = HashSet::new();
        let mut named = Vec::new();
        let mut late = false;
        let mut reasons = Vec::new();
        while !pending.is_empty() {
            let mut accepted = Vec::new();
            let mut refused = Vec::new();
            reasons.clear();
            for (at, write, facts) in pending {
                match self.judge_in(&states, &write, &facts)? {
                    Ok(state) => {
                        late |= state > 0;
                        accepted.push((at, write, facts));
                    }
                    Err(reason) => {
                        refused.push((at, write, facts));
                        reasons.push(reason);
                    }
                }
            }
            pending = refused;
            if accepted.is_empty() {
                break;
            }
            for (at, write, facts) in accepted {
                if matches!(facts, Facts::Contact(_)) && self.filed(&write.id)?.is_none() {
                    new_contacts.insert(write.id.clone());
                }
                named.extend(primary_in(&facts).map(|primary| (write.id.clone(), primary.to_owned())));
                outcomes[at] = Some(self.write(Write { facts: Some(facts), ..write }));
            }
        }
        for (place, primary) in named {
            if new_contacts.contains(&primary) {
                self.confirm_primary(&place, &primary)?;
            }
        }
        for ((at, write, facts), reason) in pending.into_iter().zip(reasons) {
            outcomes[at] = Some(self.refuse(&write, &facts, reason));
        }
        self.note_push(limits, late)?;
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(Error::missing().into()))).collect())
    }

    /// The states that a push of this author is judged by: now, and the device's last pull while that counts.
    fn states(&self, limits: Limits) -> StorageResult<Vec<State>> {
        let (account, device) = (self.author.account.as_str(), self.author.device);
        let mut states = vec![State::new(scope_at(self.batch, self.id, account, None)?.0, None, device)];
        let row = self.batch.get(&DEVICES, &DeviceKey(self.id, device))?.unwrap_or_default();
        let open = limits.drain_seconds > 0
            && (row.draining_since == 0 || self.author.now <= row.draining_since + limits.drain_seconds);
        if let Some(pulled) = row.pulled.filter(|_| open && row.account == account) {
            let scope = scope_at(self.batch, self.id, account, Some(row.scope))?.0;
            states.push(State::new(scope, Some(pulled), device));
        }
        if let Some((pulled, scope, since)) = row.untold.filter(|_| row.account == account)
            && self.author.now < since + limits.drain_seconds
        {
            let scope = scope_at(self.batch, self.id, account, Some(scope))?.0;
            states.push(State::new(scope, Some(pulled), device));
        }
        Ok(states)
    }

    /// The first state that accepts a document, or why the present one does not.
    fn judge_in(&self, states: &[State], write: &Write, facts: &Facts) -> DocumentResult<Result<usize, Refused>> {
        let mut first = None;
        for (number, state) in states.iter().enumerate() {
            match self.judge(state, write, facts)? {
                None => return Ok(Ok(number)),
                Some(refused) => drop(first.get_or_insert(refused)),
            }
        }
        Ok(Err(first.unwrap_or(Refused { reason: Reason::OutOfScope, only_hidden: false })))
    }

    /// Why a document may not be written; `None`: it may.
    fn judge(&self, state: &State, write: &Write, facts: &Facts) -> DocumentResult<Option<Refused>> {
        let refused = |reason| Ok(Some(Refused { reason, only_hidden: false }));
        let stored = self.filed(&write.id)?;
        let live = stored.as_deref().filter(|stored| !stored.deleted);
        let reserved = Facts::is_reserved(&write.id, facts)
            || stored.as_ref().is_some_and(|stored| Facts::is_reserved(&write.id, &stored.facts));
        if reserved {
            let own = write.id == state.scope.user && !write.deleted;
            let same_roles = live.is_some_and(|stored| stored.facts == *facts);
            return if own && same_roles { Ok(None) } else { refused(Reason::Reserved) };
        }
        if !state.scope.can_edit {
            return refused(Reason::OutOfScope);
        }
        if write.deleted {
            let kept = stored.is_some_and(|stored| !state.may_delete(&stored));
            return if kept { refused(Reason::OutOfScope) } else { Ok(None) };
        }
        let (wanted, filter, known) = self.would_be(state, &write.id, facts)?;
        let entries: Vec<Entry> = wanted.iter().map(entry_of).collect();
        if !state.writable.passes(&filter, &entries, None) {
            return refused(if known { Reason::OutOfScope } else { Reason::UnknownSubject });
        }
        let hidden = stored.as_deref().is_some_and(|stored| state.held(stored) && !state.saw(stored));
        Ok(hidden.then_some(Refused { reason: Reason::OutOfScope, only_hidden: true }))
    }

    /// Where a new version would be filed in a state; `false` at the end: its subject is not known.
    fn would_be(&self, state: &State, id: &str, facts: &Facts) -> StorageResult<(Wanted, Filter, bool)> {
        let known = match facts {
            Facts::Record(record) => record.subject.is_none() || self.subject_of(facts)?.is_some(),
            _ => true,
        };
        let Some(at) = state.at else {
            let mut filed = Rc::unwrap_or_clone(self.filed(id)?.unwrap_or_default());
            filed.deleted = false;
            if let Facts::Contact(contact) = facts {
                filed.line = self.line_of(id, &contact.parents)?;
                filed.primary_of = self.naming(&of_contact(id))?.places;
            }
            filed.facts = facts.clone();
            let places = self.places(&filed)?;
            return Ok((places.wanted, places.filter, known));
        };
        let mut wanted = Wanted::default();
        let mut filter = Filter::default();
        match facts {
            Facts::Contact(contact) => {
                wanted.insert(of_contact(id), Way::Contact, 0);
                if let Some(parent) = contact.parents.first() {
                    self.line_then(state, at, parent, &contact.parents, 1, Way::Contact, &mut wanted)?;
                }
                if let Some(stored) = self.filed(id)? {
                    primaries_then(&stored, at, Way::Primary, &mut wanted);
                }
            }
            Facts::Record(record) => {
                filter = self.places(&Filed { facts: facts.clone(), ..Filed::default() })?.filter;
                let subject = self.subject_of(facts)?;
                let key = record.subject.as_deref().unwrap_or_default();
                if let Some((subject, filed)) = subject.filter(|(id, filed)| state.knew(key, id, filed)) {
                    self.line_then(state, at, &subject, &[], 0, Way::Record, &mut wanted)?;
                    primaries_then(&filed, at, Way::PrimaryRecord, &mut wanted);
                }
                if let Some(author) = record.author.as_deref() {
                    let mut line = Wanted::default();
                    self.line_then(state, at, author, &record.author_line(), 0, Way::Author, &mut line)?;
                    if record.needs_signoff {
                        line.iter().for_each(|(anchor, _, _)| wanted.insert(anchor, Way::Record, 0));
                    }
                    line.iter().for_each(|(anchor, way, depth)| wanted.insert(anchor, way, depth.into()));
                }
            }
            Facts::Target(owner) => {
                let meant = self.meant_by(owner)?.filter(|(id, filed)| state.knew(owner, id, filed));
                if let Some((owner, filed)) = meant {
                    self.line_then(state, at, &owner, &[], 0, Way::Contact, &mut wanted)?;
                    primaries_then(&filed, at, Way::Primary, &mut wanted);
                }
            }
            _ => {
                wanted = self.places(&Filed { facts: facts.clone(), ..Filed::default() })?.wanted;
            }
        }
        Ok((wanted, filter, known))
    }

    fn subject_of(&self, facts: &Facts) -> StorageResult<Meant> {
        match facts {
            Facts::Record(record) => match &record.subject {
                Some(key) => self.meant_by(key),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// The line of a contact as it was at a position. One that this device brought since hangs below its parent of then.
    /// What is on the line already ends it, as loops do in [`Writing::line_of`].
    #[expect(clippy::too_many_arguments, reason = "one step of a recursion over a line")]
    fn line_then(
        &self,
        state: &State,
        at: Position,
        id: &str,
        embedded: &[String],
        depth: usize,
        way: Way,
        wanted: &mut Wanted,
    ) -> StorageResult<()> {
        let Some(filed) = self.contact(id)? else {
            for (step, id) in embedded.iter().enumerate() {
                if wanted.depth(&of_contact(id), way).is_some() {
                    break;
                }
                wanted.insert(of_contact(id), way, depth + step);
            }
            return Ok(());
        };
        let then = filed.placement.entries.iter().filter(|entry| entry.way == Way::Contact && entry.holds(Some(at)));
        let mut then: Vec<&Entry> = then.collect();
        then.sort_unstable_by_key(|entry| entry.depth);
        let found = !then.is_empty();
        for entry in then {
            if wanted.depth(&entry.anchor, way).is_some() {
                break;
            }
            wanted.insert(entry.anchor, way, depth + usize::from(entry.depth));
        }
        let brought = filed.placement.brought;
        if found || depth > 64 || brought.is_none_or(|(device, since)| device != state.device || since <= at) {
            return Ok(());
        }
        if wanted.depth(&of_contact(id), way).is_some() {
            return Ok(());
        }
        wanted.insert(of_contact(id), way, depth);
        let parents = filed.contact().map(|contact| contact.parents.clone()).unwrap_or_default();
        match parents.first() {
            Some(parent) => self.line_then(state, at, parent, &parents, depth + 1, way, wanted),
            None => Ok(()),
        }
    }

    /// A replicated revision goes to escrow and counts as written; others are refused with a sentence.
    fn refuse(&mut self, write: &Write, facts: &Facts, refused: Refused) -> DocumentResult<Revision> {
        let reason = refused.reason;
        let Mode::Replicated { path } = &write.mode else {
            if refused.only_hidden {
                return Err(Error::conflict().into()); // as for an edit of a revision that is not there
            }
            return Err(Error::new(ErrorKind::Forbidden, reason.sentence()).into());
        };
        let Some(newest) = path.first() else { return Err(Error::missing().into()) };
        let stored = self.document(&write.id)?;
        if stored.is_some_and(|row| row.tree.find(newest).is_some_and(|node| node.stored)) {
            self.note_sent_again(&write.id, newest); // a device pushes again what it once pulled
            return Ok(newest.clone());
        }
        let waiting_for = match (reason, facts) {
            (Reason::UnknownSubject, Facts::Record(record)) => record.subject.as_deref(),
            _ => None,
        };
        let author = self.author.clone();
        let refusal = Refusal { account: &author.account, device: author.device, now: author.now, reason, waiting_for };
        escrow::keep(self.batch, self.id, write, path, refusal)?;
        self.expect_escrow();
        Ok(newest.clone())
    }

    fn note_push(&mut self, limits: Limits, late: bool) -> DocumentResult<()> {
        let key = DeviceKey(self.id, self.author.device);
        let stored = self.batch.get(&DEVICES, &key)?;
        let mut row: DeviceRow = stored.unwrap_or_default();
        if row.escrowed > limits.escrow_documents || row.escrowed_bytes > limits.escrow_bytes {
            let reason = format!(
                "This device has {} documents ({} bytes) in escrow, more than it may. Nothing of this request was stored; \
                 it can be repeated when a steward has decided about them.",
                row.escrowed, row.escrowed_bytes
            );
            return Err(Error::new(ErrorKind::Unavailable, reason).into());
        }
        row.account.clone_from(&self.author.account);
        row.pushed_at = self.author.now;
        if late && row.draining_since == 0 {
            row.draining_since = self.author.now;
        }
        self.batch.put(&DEVICES, &key, &row);
        Ok(())
    }

    /// S16: whether the primary contact that a place names counts.
    pub(super) fn counting_primary(
        &self,
        id: &str,
        row: &DocumentRow,
        revision: &Revision,
        old: Option<&Filed>,
        new: &Filed,
    ) -> StorageResult<Option<String>> {
        let Some(primary) = primary_in(&new.facts) else { return Ok(None) };
        let counts = || Ok(Some(primary.to_owned()));
        if old.is_some_and(|old| old.names.as_deref() == Some(primary)) {
            return counts();
        }
        let brought = provenance_of(self.batch, self.id, row.cluster, id, revision)?;
        if brought.as_ref().is_none_or(|brought| brought.trusted) {
            return counts();
        }
        // Only whoever brings the version that names the contact can vouch for it: another leaf may be the winner.
        let is_new = brought.is_some_and(|brought| brought.position == self.counters.position);
        if self.author.limits.is_none() || !is_new {
            return Ok(None);
        }
        let (scope, _) = scope_at(self.batch, self.id, &self.author.account, None)?;
        match self.filed(primary)? {
            Some(contact) if !contact.deleted && scope.sees(&contact.placement, None) => counts(),
            _ => Ok(None),
        }
    }

    /// Admits what waited for contacts that this request touched, until nothing more follows.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn admit_waiting(&mut self) -> DocumentResult<()> {
        while let Some(contact) = self.touched.pop_first() {
            if !self.may_hold_escrow()? {
                continue;
            }
            let mut keys = vec![contact.clone()];
            if let Some(filed) = self.filed(&contact)? {
                keys.extend(filed.contact().and_then(|contact| contact.shortcode.clone()));
            }
            for key in keys {
                for number in escrow::waiting_for(self.batch, self.id, &key)? {
                    self.try_to_admit(number)?;
                }
            }
        }
        Ok(())
    }

    /// Admits one revision if its sender may write it now.
    ///
    /// # Errors
    /// When the store fails.
    pub fn try_to_admit(&mut self, number: u64) -> DocumentResult<bool> {
        let Some(row) = self.batch.get(&ESCROW, &EscrowKey(self.id, number))? else { return Ok(false) };
        let write = row.write();
        let facts = Facts::of(&write.id, &write.body);
        let scope = scope_at(self.batch, self.id, &row.account, None)?.0;
        let state = State::new(scope, None, row.device);
        if self.judge(&state, &write, &facts)?.is_some() {
            return Ok(false);
        }
        let sender = Author {
            account: row.account.clone(),
            device: row.device,
            now: row.received,
            limits: self.author.limits.or(Some(Limits::default())),
            ..Author::default()
        };
        match self.admit(number, &row, Write { facts: Some(facts), ..write }, sender) {
            Ok(_) => Ok(true),
            // What cannot be written waits on; nobody else's request fails for it.
            Err(DocumentError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a revision out of escrow because a steward says so, in the name of whoever sent it.
    ///
    /// # Errors
    /// As [`Writing::write`].
    pub fn accept(&mut self, number: u64, row: &EscrowRow) -> DocumentResult<Revision> {
        let sender =
            Author { account: row.account.clone(), device: row.device, now: self.author.now, ..Author::default() };
        self.admit(number, row, row.write(), sender)
    }

    /// Makes a record be about somebody else: the first of its subject members that is there gets the new key.
    ///
    /// # Errors
    /// `400` for what is no record, `404` for an unknown subject, or as [`Writing::write`].
    pub fn set_subject(&mut self, id: &str, revision: &Revision, subject: &str) -> DocumentResult<Revision> {
        if self.meant_by(subject)?.is_none() {
            return Err(Error::not_found(format!("There is no person or place {subject}.")).into());
        }
        let row = self.document(id)?.ok_or_else(Error::missing)?;
        let body = self.body(id, &row, revision)?.ok_or_else(Error::missing)?;
        let whole = serde_json::from_str(&format!("{{{}}}", body.text)).map_err(|_| Error::invalid_json())?;
        let serde_json::Value::Object(mut members) = whole else { return Err(Error::invalid_json().into()) };
        if !matches!(Facts::of(id, &body.text), Facts::Record(record) if record.report) {
            return Err(Error::bad_request(format!("{id} is no report; only reports have a subject to choose.")).into());
        }
        for name in ["patient_id", "place_id", "patient_uuid", "errors"] {
            members.remove(name);
        }
        let fields = members.entry("fields").or_insert_with(|| serde_json::json!({}));
        if let Some(fields) = fields.as_object_mut() {
            for name in ["place_id", "patient_uuid"] {
                fields.remove(name);
            }
            fields.insert("patient_id".to_owned(), subject.into());
        }
        let text = serde_json::Value::Object(members).to_string();
        self.write(Write {
            id: id.to_owned(),
            mode: Mode::edit(Some(revision.clone())),
            deleted: false,
            body: text[1..text.len() - 1].to_owned(),
            attachments: body.attachments.iter().map(WriteAttachment::kept).collect(),
            user: None,
            facts: None,
        })
    }

    /// Writes a revision out of escrow, in the name of an author.
    fn admit(&mut self, number: u64, row: &EscrowRow, write: Write, author: Author) -> DocumentResult<Revision> {
        let author = std::mem::replace(&mut self.author, author);
        let written = self.write(write);
        self.author = author;
        let revision = written?;
        if self.batch.get(&ESCROW, &EscrowKey(self.id, number))?.is_some() {
            escrow::remove(self.batch, self.id, number, row)?;
        }
        Ok(revision)
    }
}

fn with_facts((at, write): (usize, Write)) -> (usize, Write, Facts) {
    let facts = write.facts.clone().unwrap_or_else(|| Facts::of(&write.id, &write.body));
    (at, write, facts)
}

/// The anchors of then by way of places whose primary contact it was. Nobody who is deleted by now is one (S9).
fn primaries_then(contact: &Filed, at: Position, way: Way, wanted: &mut Wanted) {
    if contact.deleted {
        return;
    }
    let then = contact.placement.entries.iter().filter(|entry| entry.way == Way::Primary && entry.holds(Some(at)));
    for entry in then {
        wanted.insert(entry.anchor, way, usize::from(entry.depth));
    }
}

impl Writing<'_, '_> {
    /// Whether the author of this request sees a document.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn author_sees(&self, id: &str) -> StorageResult<bool> {
        if !self.scoped || self.author.limits.is_none() {
            return Ok(true);
        }
        let (scope, _) = scope_at(self.batch, self.id, &self.author.account, None)?;
        Ok(self.filed(id)?.is_some_and(|filed| scope.sees(&filed.placement, None)))
    }
}
