//! What is kept aside: the server's list held against what was pushed, and what overseers do with it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::judge::{Draft, Verdict, is_subject_known, judge};
use super::oracle::{Kind, Naming, kind};
use super::world::{World, list, path, plain, string};
use crate::support::http::Request;

/// A refused revision.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    pub(super) draft: Draft,
    /// Which device pushed it.
    pub(super) device: usize,
    pub(super) reason: String,
    /// Its subject was known when somebody last looked.
    known: bool,
}

impl World {
    /// The rows of escrow by their numbers.
    pub(super) fn escrow_rows(&self) -> BTreeMap<u64, Value> {
        let answer = self.operator().get("/medic/_escrow").expect(200).json();
        let rows = list(&answer["rows"]).iter();
        rows.map(|row| (row["number"].as_u64().expect("a number"), row.clone())).collect()
    }

    /// Notes a refused revision that the server lists.
    pub(super) fn keep_aside(&mut self, number: u64, row: &Value, draft: Draft, device: usize) {
        let user = self.devices[device].user.clone();
        if row["account"] != json!(user) {
            self.fail(Some(&user), &draft.id, &format!("the escrow names another account: {row}"));
        }
        self.note(&draft.id, format!("{} of device {device} ({user}) is in escrow: {row}", draft.revision()));
        let known = is_subject_known(&self.state, &draft);
        self.waiting.insert(number, Waiting { draft, device, reason: string(&row["reason"]), known });
    }

    /// After a change: takes over the records that were admitted by themselves, and holds that the right ones were.
    pub(super) fn settle_escrow(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let rows = self.escrow_rows();
        if let Some((number, row)) = rows.iter().find(|(number, _)| !self.waiting.contains_key(number)) {
            self.fail(
                None,
                row["id"].as_str().unwrap_or(""),
                &format!("nobody pushed what is in escrow as {number}: {row}"),
            );
        }
        let gone: Vec<u64> = self.waiting.keys().copied().filter(|number| !rows.contains_key(number)).collect();
        for number in gone {
            self.admitted(number);
        }
        self.overdue();
    }

    /// A row is gone and nobody took it: the revision must be stored, and rightly.
    fn admitted(&mut self, number: u64) {
        let waiting = self.waiting.remove(&number).expect("it was waiting");
        let Waiting { draft, device, reason, .. } = waiting;
        let (id, revision) = (draft.id.clone(), draft.revision().to_owned());
        let user = self.devices[device].user.clone();
        if !self.are_stored(&[(id.clone(), revision.clone())])[0] {
            self.fail(Some(&user), &id, &format!("{revision} is lost: neither stored nor in escrow any more"));
        }
        if self.state.knows(&id, &revision) {
            // An edit that descends from it was accepted before.
            self.devices[device].resolved(&id, &revision);
            return;
        }
        let past = self.past(device);
        let verdict = judge(&self.state, &past, &user, std::slice::from_ref(&draft))[0];
        // The server admits whatever its sender may write by now. The rule asks for that once the subject is known, and
        // leaves open other ways in which a record becomes writable, such as an author in range where sign-off is needed.
        let fitting = kind(&id, &draft.body) == Kind::Record;
        if reason != "unknown_subject" || !fitting || verdict == Verdict::Refuse {
            self.fail(Some(&user), &id, &format!("{revision} ({reason}) was admitted from escrow: {verdict:?}"));
        }
        self.note(&id, format!("{revision} of device {device} was admitted from escrow"));
        self.state.store(&id, &draft.path, draft.deleted, &draft.body, Naming::Counts);
        self.devices[device].resolved(&id, &revision);
    }

    /// Records whose subject became known by the last change may not wait any longer, if their sender may write them.
    fn overdue(&mut self) {
        let mut late = None;
        for waiting in self.waiting.values_mut().filter(|waiting| waiting.reason == "unknown_subject") {
            let known = is_subject_known(&self.state, &waiting.draft);
            let user = &self.devices[waiting.device].user;
            if known && !waiting.known {
                let verdict = judge(&self.state, &[], user, std::slice::from_ref(&waiting.draft))[0];
                if verdict == Verdict::Accept {
                    late = Some((user.clone(), waiting.draft.id.clone(), waiting.draft.revision().to_owned()));
                }
            }
            waiting.known = known;
        }
        if let Some((user, id, revision)) = late {
            self.fail(Some(&user), &id, &format!("{revision} waits although its subject is known now"));
        }
    }

    /// An overseer accepts, discards or reads a row.
    pub(super) fn work_on_escrow(&mut self) {
        let numbers: Vec<u64> = self.waiting.keys().copied().collect();
        let Some(&number) = self.chance.pick(&numbers) else { return };
        let waiting = self.waiting[&number].clone();
        self.refuse_strangers(&waiting, number);
        let work = matches!(kind(&waiting.draft.id, &waiting.draft.body), Kind::Contact | Kind::Record | Kind::Task);
        match self.chance.below(4) {
            0 => {
                let row = self.overseer().get(&format!("/medic/_escrow/{number}")).expect(200).json();
                if plain(&row["doc"]) != waiting.draft.body {
                    self.fail(None, &waiting.draft.id, &format!("the escrow changed what was pushed: {row}"));
                }
            }
            1 if work && !self.state.knows(&waiting.draft.id, waiting.draft.revision()) => self.accept(number),
            _ => self.discard(number),
        }
    }

    /// Restricted users are not told of escrow.
    fn refuse_strangers(&self, waiting: &Waiting, number: u64) {
        for target in ["/medic/_escrow".to_owned(), format!("/medic/_escrow/{number}")] {
            let answer = self.ask(waiting.device, Request::new("GET", &target));
            if answer.status != 404 {
                self.fail(None, &waiting.draft.id, &format!("a restricted user got {} from {target}", answer.status));
            }
        }
    }

    fn accept(&mut self, number: u64) {
        let client = self.overseer();
        let answer = client.post(&format!("/medic/_escrow/{number}/accept"), &json!({})).expect(200).json();
        let Waiting { draft, device, .. } = self.waiting.remove(&number).expect("it was waiting");
        let revision = string(&answer["rev"]);
        let target = format!("{}?revs=true&rev={revision}", path(&draft.id));
        let document = self.operator().get(&target).expect(200).json();
        let start = document["_revisions"]["start"].as_u64().expect("a start");
        let hashes = list(&document["_revisions"]["ids"]).iter().zip(0..);
        let history: Vec<String> = hashes.map(|(hash, at)| format!("{}-{}", start - at, string(hash))).collect();
        let same = plain(&document) == draft.body && document["_deleted"] != json!(true);
        if !draft.deleted && !same {
            self.fail(None, &draft.id, &format!("accepted as something else: {document}"));
        }
        self.note(&draft.id, format!("{} was accepted from escrow as {revision}", draft.revision()));
        self.state.tick();
        self.state.store(&draft.id, &history, draft.deleted, &draft.body, Naming::Unclear);
        self.devices[device].settled(&draft.id, draft.revision());
        self.changed();
    }

    pub(super) fn discard(&mut self, number: u64) {
        let client = self.overseer();
        client.post(&format!("/medic/_escrow/{number}/discard"), &json!({})).expect(200);
        let Waiting { draft, device, .. } = self.waiting.remove(&number).expect("it was waiting");
        self.note(&draft.id, format!("{} of device {device} was discarded", draft.revision()));
        self.devices[device].settled(&draft.id, draft.revision());
        self.changed();
    }
}
