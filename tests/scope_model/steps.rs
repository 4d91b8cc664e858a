//! The random steps of a world, and what overseers do in them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::district;
use super::oracle::{ACCOUNT_PREFIX, Body, Naming};
use super::world::{World, encoded, list, path, plain, string};

impl World {
    /// Runs until this many steps are done, and looks at everything once more.
    pub(super) fn run(&mut self, steps: u64) {
        while self.steps < steps {
            self.step();
        }
        for device in 0..self.devices.len() {
            self.pull_all(device);
        }
        self.check_database();
    }

    fn step(&mut self) {
        let device = self.chance.below(self.devices.len() as u64);
        let device = usize::try_from(device).expect("an index");
        match self.chance.below(1000) {
            0..290 => self.push(device),
            290..590 => self.pull(device),
            590..650 => self.read(device),
            650..800 => self.write(),
            800..840 => self.delete(),
            840..890 => self.move_place(),
            890..920 => self.change_account(),
            920..945 => self.change_settings(),
            945..975 => self.work_on_escrow(),
            975..990 => self.interact(device),
            990..994 => self.resolve_conflict(),
            994..997 => self.turn_drain(),
            997..999 => self.restart(),
            _ => self.check_database(),
        }
    }

    /// An overseer stores a few documents.
    fn write(&mut self) {
        let mut documents = std::collections::BTreeMap::<String, Body>::new();
        for _ in 0..1 + self.chance.below(6) {
            let id = match self.chance.below(25) {
                0 => format!("{ACCOUNT_PREFIX}{}", district::user_name(&mut self.chance)),
                _ => district::any_id(&mut self.chance),
            };
            let known = self.state.live(&id).and_then(|document| document.face.as_ref()).map(|face| face.body.clone());
            let body = match known {
                Some(body) if self.chance.percent(85) => {
                    district::edited(&self.state, &mut self.chance, &id, &body, None)
                }
                _ => district::document(&self.state, &mut self.chance, &id, None, None),
            };
            documents.insert(id, body);
        }
        let mut taken = BTreeSet::new();
        documents.values_mut().for_each(|body| {
            district::leave_out_taken(&mut taken, body);
        });
        self.steps += documents.len() as u64;
        self.put_as_operator(documents.into_iter().collect());
    }

    fn delete(&mut self) {
        let ids = (0..2 + self.chance.below(4)).map(|_| district::any_id(&mut self.chance));
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids.dedup();
        ids.retain(|id| self.state.live(id).is_some());
        self.steps += ids.len() as u64;
        if !ids.is_empty() {
            self.write_as_operator(ids.into_iter().map(|id| (id, None)).collect());
        }
    }

    /// The server's own move of a place below another.
    fn move_place(&mut self) {
        let (id, to) = (
            district::stored_place(&self.state, &mut self.chance),
            district::stored_place(&self.state, &mut self.chance),
        );
        let (Some(id), Some(to)) = (id, to) else { return };
        if self.state.line(&to).contains(&id) || self.state.line(&to).len() > 5 {
            return;
        }
        self.steps += 1;
        let target = format!("/medic/_places/{}/move", encoded(&id));
        let client = self.overseer();
        if self.chance.percent(25) {
            let plan = client.post(&format!("{target}?dry_run=true"), &json!({ "to": to })).expect(200).json();
            if plan["dry_run"] != json!(true) {
                self.fail(None, &id, &format!("a dry run says {plan}"));
            }
        }
        let answer = client.post(&target, &json!({ "to": to }));
        if answer.status != 200 {
            self.fail(None, &id, &format!("the move to {to} was answered {} {}", answer.status, answer.text()));
        }
        let revision = string(&answer.json()["rev"]);
        let document = self.operator().get(&format!("{}?rev={revision}", path(&id))).expect(200).json();
        let (body, parent) = (plain(&document), document["parent"].clone());
        let rest = |body: &Body| -> Body {
            body.iter()
                .filter(|(name, _)| *name != "parent")
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        let before = self.state.live(&id).and_then(|known| known.face.as_ref()).map(|face| rest(&face.body));
        if parent["_id"] != json!(to) || before != Some(rest(&body)) {
            self.fail(None, &id, &format!("the move to {to} wrote {document}"));
        }
        self.note(&id, format!("moved to {to} by {revision}"));
        self.note("", format!("{id} was moved to {to}"));
        self.state.tick();
        self.stored(&id, &revision, false, &body);
        self.state.mark_move(&id, &revision, parent);
        self.changed();
    }

    fn change_account(&mut self) {
        self.steps += 1;
        let name = district::user_name(&mut self.chance);
        let mut account = district::account(&self.state, &mut self.chance);
        let known = self.state.accounts[&name].clone();
        match self.chance.below(5) {
            0..3 => account = super::oracle::Account { facilities: account.facilities, ..known },
            3 => account = super::oracle::Account { roles: account.roles, ..known },
            _ => account = super::oracle::Account { person: account.person, ..known },
        }
        self.set_account(&name, account);
    }

    fn change_settings(&mut self) {
        self.steps += 1;
        let settings = district::settings(&mut self.chance);
        self.note("", format!("settings: {settings}"));
        self.put_as_operator(vec![("settings".to_owned(), district::object(json!({ "settings": settings })))]);
    }

    /// An overseer deletes a losing leaf, as who resolves a conflict does.
    fn resolve_conflict(&mut self) {
        let mut losing = Vec::new();
        for (id, document) in &self.state.documents {
            let leaves = document.leaves();
            let leaves =
                leaves.into_iter().filter(|leaf| *leaf != document.winner && !document.revisions[*leaf].deleted);
            losing.extend(leaves.map(|leaf| (id.clone(), leaf.to_owned())));
        }
        let Some((id, leaf)) = self.chance.pick(&losing).cloned() else { return };
        self.steps += 1;
        let row = json!({"_id": id, "_rev": leaf, "_deleted": true});
        let answer = self.overseer().post("/medic/_bulk_docs", &json!({"docs": [row]})).expect(201).json();
        let Some(revision) = list(&answer)[0]["rev"].as_str() else { self.fail(None, &id, &format!("{answer}")) };
        let below = self.state.document(&id).map(|known| known.path(&leaf)).unwrap_or_default();
        let path: Vec<String> = std::iter::once(revision.to_owned()).chain(below).collect();
        self.note(&id, format!("the losing {leaf} was deleted by {revision}"));
        self.state.tick();
        self.state.store(&id, &path, true, &Body::new(), Naming::Counts);
        self.changed();
    }

    /// The drain window ends for everything, or opens again.
    fn turn_drain(&mut self) {
        self.steps += 1;
        self.drains = !self.drains;
        let seconds = if self.drains { "2592000" } else { "0" };
        self.note("", format!("drain_seconds is {seconds}"));
        self.operator().put("/_node/_local/_config/settle/drain_seconds", &Value::from(seconds)).expect(200);
        // What was withdrawn before the window was closed: nobody says whether it counts when it opens again.
        for device in &mut self.devices {
            device.exact = false;
        }
    }

    fn restart(&mut self) {
        self.steps += 1;
        let kill = self.chance.percent(50);
        self.note("", format!("the server was {}", if kill { "killed" } else { "stopped" }));
        if kill {
            self.server.kill9();
        }
        self.server.restart();
        if !self.drains {
            self.operator().put("/_node/_local/_config/settle/drain_seconds", &Value::from("0")).expect(200);
        }
        self.settle_escrow();
        self.check_database();
    }
}
