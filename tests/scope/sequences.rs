//! `tests/acceptance/sequences.json`: every script in a fresh database of one server, once with large and once with
//! small pages of the feed.
//!
//! A script goes on after a difference, so that a failure shows all of them; it ends at the first answer that makes no
//! sense.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::device::{Device, Pulled, Pushed};
use super::operator::Operator;
use super::world::{World, acceptance};
use super::{Outcome, compare, encoded, is_wanted, list, text, texts};

/// The server's own default, in seconds.
const DRAIN_WINDOW: &str = "2592000";

/// One run of one script.
struct Script<'a> {
    world: &'a mut World,
    operator: Operator,
    /// Device → account.
    accounts: &'a Map<String, Value>,
    devices: BTreeMap<String, Device>,
    page: usize,
    /// The ids that are compared: those of the world and of the script.
    ids: BTreeSet<String>,
    differences: Vec<String>,
}

#[test]
fn every_sequence() {
    run_all(1000);
}

#[test]
fn every_sequence_in_small_pages() {
    run_all(2);
}

fn run_all(page: usize) {
    let data = acceptance("sequences.json");
    let mut world = World::start();
    let sequences = list(&data["sequences"]);
    let wanted: Vec<&Value> = sequences.iter().filter(|sequence| is_wanted(text(sequence, "id"))).collect();
    let mut failures = Vec::new();
    for (number, sequence) in wanted.iter().enumerate() {
        let differences = run(sequence, &mut world, &format!("medic{number}"), page);
        if !differences.is_empty() {
            let (id, title) = (text(sequence, "id"), text(sequence, "title"));
            failures.push(format!("{id}: {title}\n    {}", differences.join("\n    ")));
        }
    }
    assert!(!world.server.log().contains("panicked"), "{}", world.server.log());
    let count = failures.len();
    assert!(count == 0, "{count} of {} sequences failed\n\n{}\n", wanted.len(), failures.join("\n"));
}

fn run(sequence: &Value, world: &mut World, name: &str, page: usize) -> Vec<String> {
    let mut script = match Script::begin(sequence, world, name, page) {
        Ok(script) => script,
        Err(error) => return vec![error],
    };
    for (number, step) in list(&sequence["steps"]).iter().enumerate() {
        let known = script.differences.len();
        let outcome = script.step(step);
        let heading = format!("step {} {} {}", number + 1, text(step, "do"), text(step, "device"));
        for difference in &mut script.differences[known..] {
            *difference = format!("{heading}: {difference}");
        }
        if let Err(error) = outcome {
            script.differences.push(format!("{heading}: {error}"));
            break;
        }
    }
    let end = script.end();
    script.differences.extend(end.err());
    script.differences
}

impl<'a> Script<'a> {
    fn begin(sequence: &'a Value, world: &'a mut World, name: &str, page: usize) -> Outcome<Self> {
        world.reset_accounts()?;
        let operator = world.database(name, &sequence["settings"])?;
        let setup = list(&sequence["setup"]);
        if !setup.is_empty() {
            operator.put_all(setup)?;
        }
        let scripted = list(&sequence["steps"]).iter().flat_map(|step| list(&step["docs"]));
        let documents = world.documents.iter().chain(setup).chain(scripted);
        let ids = documents.map(|document| text(document, "_id").to_owned()).collect();
        let accounts = sequence["devices"].as_object().ok_or("there are no devices")?;
        let devices = BTreeMap::new();
        Ok(Self { world, operator, accounts, devices, page, ids, differences: Vec::new() })
    }

    fn end(&self) -> Outcome<()> {
        self.operator.set_drain_seconds(DRAIN_WINDOW)?;
        self.operator.remove()
    }

    fn step(&mut self, step: &Value) -> Outcome<()> {
        match text(step, "do") {
            "pull" => self.pull(step),
            "push" => self.push(step),
            "delete" => self.delete(step),
            "get" => {
                let visible = self.device(step)?.sees(text(step, "id"))?;
                let wanted = step["expect"]["visible"].as_bool().ok_or("nothing is expected")?;
                compare(&mut self.differences, text(step, "id"), &wanted, &visible);
                Ok(())
            }
            "escrow" => self.escrow(&step["expect"]),
            "admin_put" => list(&step["docs"]).iter().try_for_each(|document| self.operator.put(document).map(drop)),
            "admin_delete" => texts::<Vec<String>>(&step["ids"]).iter().try_for_each(|id| self.operator.delete(id)),
            "move" => self.operator.move_place(text(step, "id"), text(step, "to")),
            "set_user" => {
                let changes = step["set"].as_object().ok_or("nothing is set")?;
                self.world.change_account(text(step, "user"), changes)
            }
            "set_settings" => self.operator.change_settings(&step["set"]),
            "expire_drain" => self.operator.set_drain_seconds("0"),
            other => Err(format!("{other:?} is no step")),
        }
    }

    /// The device of a step, which logs in when it is first used.
    fn device(&mut self, step: &Value) -> Outcome<&mut Device> {
        let name = text(step, "device");
        if !self.devices.contains_key(name) {
            let account = self.accounts.get(name).and_then(Value::as_str).ok_or("the device has no account")?;
            let mut device = self.world.device(account, &self.operator.database)?;
            device.page = self.page;
            self.devices.insert(name.to_owned(), device);
        }
        self.devices.get_mut(name).ok_or_else(|| format!("{name} is not there"))
    }

    fn pull(&mut self, step: &Value) -> Outcome<()> {
        let page_ids = self.ids.clone();
        let scripted = |ids: &BTreeSet<String>| -> BTreeSet<String> { ids.intersection(&page_ids).cloned().collect() };
        let device = self.device(step)?;
        let pulled = device.pull()?;
        let (account, listed, held) = (device.account.clone(), device.listed()?, device.held.clone());
        let in_escrow: BTreeSet<String> =
            self.operator.escrow()?.into_iter().filter(|row| row.account == account).map(|row| row.id).collect();
        let expect = Expected::read(&step["expect"]);
        let differences = &mut self.differences;
        compare(differences, "gained", &expect.gained, &scripted(&pulled.gained));
        expect.judge_changed(&scripted(&pulled.changed), differences);
        expect.judge_lost(&scripted(&pulled.lost), differences);
        expect.judge_drop(&pulled, &in_escrow, &scripted, differences);
        let ids = |documents: &BTreeMap<String, String>| scripted(&documents.keys().cloned().collect());
        compare(differences, "held and listed", &ids(&listed), &ids(&held));
        for (id, rev) in held.iter().filter(|(id, _)| page_ids.contains(*id)) {
            compare(differences, &format!("winner of {id}"), &listed.get(id), &Some(rev));
        }
        Ok(())
    }

    fn push(&mut self, step: &Value) -> Outcome<()> {
        let (documents, no_edits) = (list(&step["docs"]), json!({}));
        let edits = step.get("edits").unwrap_or(&no_edits);
        let device = self.device(step)?;
        let account = device.account.clone();
        let pushed = device.push(documents, edits)?;
        let kept = self.operator.escrow()?;
        let mut accepted = Vec::new();
        let mut escrowed = BTreeMap::new();
        for revision in &pushed {
            let row = kept.iter().find(|row| (&row.id, &row.rev) == (&revision.id, &revision.rev));
            let stored = self.operator.leaves(&revision.id)?.contains(&revision.rev);
            self.placed(revision, stored, row.is_some());
            if stored {
                accepted.push(revision.id.clone());
                self.device(step)?.accepted(revision);
            }
            if let Some(row) = row {
                compare(&mut self.differences, &format!("account of {}", row.id), &account, &row.account);
                escrowed.insert(revision.id.clone(), row.reason.clone());
            }
        }
        let expect = &step["expect"];
        let wanted = expect["escrowed"].as_object().into_iter().flatten();
        let wanted = wanted.map(|(id, reason)| (id.clone(), reason.as_str().unwrap_or_default().to_owned())).collect();
        compare(&mut self.differences, "accepted", &texts::<Vec<String>>(&expect["accepted"]), &accepted);
        compare(&mut self.differences, "escrowed", &wanted, &escrowed);
        let missing = self.device(step)?.missing(&pushed)?;
        compare(&mut self.differences, "missing after the push", &BTreeSet::new(), &missing);
        Ok(())
    }

    fn placed(&mut self, revision: &Pushed, stored: bool, kept: bool) {
        if stored == kept {
            let state = if stored { "stored and in escrow" } else { "neither stored nor in escrow" };
            self.differences.push(format!("{} {} is {state}", revision.id, revision.rev));
        }
    }

    fn delete(&mut self, step: &Value) -> Outcome<()> {
        let id = text(step, "id");
        let (stored, before) = (self.operator.get(id)?.ok_or("it is not stored")?, self.operator.escrow()?);
        let path = format!("/{}?rev={}", encoded(id), text(&stored, "_rev"));
        let device = self.device(step)?;
        let accepted = device.send("DELETE", &path, None, &[200, 403, 404])?.status == 200;
        if accepted {
            device.held.remove(id);
        }
        let wanted = step["expect"]["accepted"].as_bool().ok_or("nothing is expected")?;
        compare(&mut self.differences, id, &wanted, &accepted);
        let gone = self.operator.get(id)?.is_none();
        compare(&mut self.differences, &format!("{id} is gone"), &wanted, &gone);
        compare(&mut self.differences, "escrow", &before, &self.operator.escrow()?);
        Ok(())
    }

    /// Id, account and reason; where no reason is expected, any will do.
    fn escrow(&mut self, expect: &Value) -> Outcome<()> {
        let triple = |row: &Value| {
            (text(row, "id").to_owned(), text(row, "user").to_owned(), row["reason"].as_str().map(str::to_owned))
        };
        let wanted: BTreeSet<_> = list(expect).iter().map(triple).collect();
        let rows = self.operator.escrow()?.into_iter();
        let got = rows.map(|row| {
            let any = (row.id.clone(), row.account.clone(), None);
            if wanted.contains(&any) { any } else { (row.id, row.account, Some(row.reason)) }
        });
        compare(&mut self.differences, "escrow", &wanted, &got.collect());
        Ok(())
    }
}

/// The expectations of a pull.
struct Expected {
    gained: BTreeSet<String>,
    changed: BTreeSet<String>,
    lost: BTreeSet<String>,
    to_drop: BTreeSet<String>,
    may_change: BTreeSet<String>,
}

impl Expected {
    fn read(expect: &Value) -> Self {
        let [gained, changed, lost, to_drop, may_change] =
            ["gained", "changed", "lost", "to_drop", "may_change"].map(|name| texts(&expect[name]));
        Self { gained, changed, lost, to_drop, may_change }
    }

    fn judge_changed(&self, changed: &BTreeSet<String>, differences: &mut Vec<String>) {
        let optional: BTreeSet<String> = &self.may_change - &self.changed;
        compare(differences, "changed", &self.changed, &(changed - &optional));
    }

    /// The feed may name what is to be dropped as well.
    fn judge_lost(&self, lost: &BTreeSet<String>, differences: &mut Vec<String>) {
        let optional: BTreeSet<String> = &self.to_drop - &self.lost;
        compare(differences, "lost", &self.lost, &(lost - &optional));
    }

    /// What is lost or to be dropped and has a revision waiting in escrow may stay for that one's sake.
    fn judge_drop(
        &self,
        pulled: &Pulled,
        in_escrow: &BTreeSet<String>,
        scripted: &dyn Fn(&BTreeSet<String>) -> BTreeSet<String>,
        differences: &mut Vec<String>,
    ) {
        let wanted = &self.lost | &self.to_drop;
        let got = scripted(&pulled.drop);
        let optional: BTreeSet<String> = wanted.intersection(in_escrow).cloned().collect();
        compare(differences, "reconcile", &(&wanted - &optional), &(&got - &optional));
    }
}
