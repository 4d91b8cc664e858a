//! A device that does what no honest one does: forged lineages, borrowed shortcodes, reserved words, documents of others.
//!
//! After every attack nothing has come in but what is named as harmless, nobody sees more or less than before, and every
//! refused revision is in escrow with a reason, known to the device that sent it and to no other.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::device::{Device, Pushed};
use super::operator::Operator;
use super::world::{World, plain_settings};
use super::{Outcome, compare, encoded, text};
use crate::support::chance::Chance;

mod interactive;

/// A refused document that may be unknown or foreign, depending on how the words are read.
const NOBODY: &[&str] = &["unknown_subject", "out_of_scope"];
const FOREIGN: &[&str] = &["out_of_scope"];
const RESERVED: &[&str] = &["reserved"];
const SETTINGS_OF_USERS: &[&str] = &["reserved", "out_of_scope"];
/// The document does no harm and is stored.
const HARMLESS: &[&str] = &[];

/// One hostile document and the reasons with which it may be refused; none if it is stored.
type Attack = (Value, &'static [&'static str]);

/// Everybody who could notice something.
struct Scene {
    world: World,
    operator: Operator,
    attacker: Device,
    /// Another device of the attacker's account.
    twin: Device,
    /// The worker of the other area, and the supervisor of both.
    others: [Device; 2],
}

/// What everybody sees, and what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    attacker: BTreeMap<String, String>,
    others: [BTreeMap<String, String>; 2],
    stored: BTreeMap<String, String>,
}

impl Scene {
    fn start(settings: &Value) -> Outcome<Self> {
        let mut world = World::start();
        world.reset_accounts()?;
        let operator = world.database("medic", settings)?;
        operator.put_all(&configuration())?;
        let device = |account| -> Outcome<Device> {
            let mut device = world.device(account, "medic")?;
            device.pull()?;
            Ok(device)
        };
        let (attacker, twin, others) = (device("chw1")?, device("chw1")?, [device("chw2")?, device("sup")?]);
        Ok(Self { operator, attacker, twin, others, world })
    }

    fn view(&self) -> Outcome<View> {
        let [one, two] = self.others.each_ref().map(Device::listed);
        Ok(View { attacker: self.attacker.listed()?, others: [one?, two?], stored: self.operator.winners()? })
    }

    /// Pushes a batch as edits of the stored versions, as a device that knows their revisions could, and judges every
    /// document of it.
    fn attack(&mut self, name: &str, attacks: &[Attack], into: &mut Vec<String>) -> Outcome<Vec<Pushed>> {
        let before = self.view()?;
        let (mut bodies, mut pushed) = (Vec::new(), Vec::new());
        for (document, _) in attacks {
            let stored = self.operator.get(text(document, "_id"))?;
            let parent = stored.as_ref().map(|stored| text(stored, "_rev"));
            let (body, revision) = self.attacker.edit(document, parent, 1);
            bodies.push(body);
            pushed.push(revision);
        }
        self.attacker.push_bodies(&bodies)?;
        let known = into.len();
        self.judge(attacks, &bodies, &pushed, into)?;
        self.compare_views(&before, attacks, &pushed, into)?;
        for difference in &mut into[known..] {
            *difference = format!("{name}: {difference}");
        }
        Ok(pushed)
    }

    /// Every pushed revision is where it should be and known to whom it should be.
    fn judge(&self, attacks: &[Attack], bodies: &[Value], pushed: &[Pushed], into: &mut Vec<String>) -> Outcome<()> {
        let kept = self.operator.escrow()?;
        for (((_, reasons), body), revision) in attacks.iter().zip(bodies).zip(pushed) {
            let id = &revision.id;
            let stored = self.operator.leaves(id)?.contains(&revision.rev);
            compare(into, &format!("{id} is stored"), &reasons.is_empty(), &stored);
            let rows: Vec<_> = kept.iter().filter(|row| row.rev == revision.rev && row.id == *id).collect();
            compare(into, &format!("rows of {id} in escrow"), &usize::from(!reasons.is_empty()), &rows.len());
            for row in rows {
                if !reasons.contains(&row.reason.as_str()) {
                    into.push(format!("{id}: refused as {:?}, wanted one of {reasons:?}", row.reason));
                }
                compare(into, &format!("sender of {id}"), &"chw1", &row.account.as_str());
                let entry = self.operator.send("GET", &format!("/_escrow/{}", row.number), None, &[200])?.json();
                for (member, value) in body.as_object().into_iter().flatten().filter(|(name, _)| *name != "_revisions")
                {
                    compare(into, &format!("{member} of {id} in escrow"), value, &entry["doc"][member]);
                }
            }
        }
        let refused: BTreeSet<Pushed> = pushed
            .iter()
            .zip(attacks)
            .filter(|(_, (_, reasons))| !reasons.is_empty())
            .map(|(one, _)| one.clone())
            .collect();
        compare(into, "missing to the sender", &BTreeSet::new(), &self.attacker.missing(pushed)?);
        compare(into, "missing to another device of the account", &refused, &seen_of(&self.twin, pushed, &refused)?);
        for other in &self.others {
            let what = format!("missing to {}", other.account);
            compare(into, &what, &refused, &seen_of(other, pushed, &refused)?);
        }
        Ok(())
    }

    /// Nobody sees anything else than before but for the harmless documents.
    fn compare_views(
        &self,
        before: &View,
        attacks: &[Attack],
        pushed: &[Pushed],
        into: &mut Vec<String>,
    ) -> Outcome<()> {
        let harmless = attacks.iter().zip(pushed).filter(|((_, reasons), _)| reasons.is_empty());
        let harmless: BTreeSet<&str> = harmless.map(|(_, revision)| revision.id.as_str()).collect();
        let without = |listing: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            let rest = listing.iter().filter(|(id, _)| !harmless.contains(id.as_str()));
            rest.map(|(id, rev)| (id.clone(), rev.clone())).collect()
        };
        let now = self.view()?;
        compare(into, "what the attacker lists", &without(&before.attacker), &without(&now.attacker));
        compare(into, "what is stored", &without(&before.stored), &without(&now.stored));
        for (number, account) in ["chw2", "sup"].iter().enumerate() {
            let (before, now) = (without(&before.others[number]), without(&now.others[number]));
            compare(into, &format!("what {account} lists"), &before, &now);
        }
        for revision in pushed.iter().filter(|revision| !harmless.contains(revision.id.as_str())) {
            let listed = now.attacker.contains_key(&revision.id);
            compare(into, &format!("{} by id", revision.id), &listed, &self.attacker.sees(&revision.id)?);
            let path = format!("/{}?rev={}", encoded(&revision.id), revision.rev);
            if let Err(error) = self.attacker.send("GET", &path, None, &[404]) {
                into.push(error);
            }
        }
        Ok(())
    }

    fn finish(self, differences: Vec<String>) -> Vec<String> {
        let mut all = differences;
        if self.world.server.log().contains("panicked") {
            all.push(self.world.server.log());
        }
        all
    }
}

/// Which of the refused revisions a device is told to be missing; what else it is told does not matter here.
fn seen_of(device: &Device, pushed: &[Pushed], refused: &BTreeSet<Pushed>) -> Outcome<BTreeSet<Pushed>> {
    Ok(device.missing(pushed)?.intersection(refused).cloned().collect())
}

fn configuration() -> Vec<Value> {
    vec![
        json!({"_id": "form:visit", "type": "form", "title": "Visit"}),
        json!({"_id": "messages-fr", "type": "translations", "code": "fr", "generic": {"a": "b"}}),
        json!({"_id": "branding", "title": "Example"}),
        json!({"_id": "_design/medic-client", "language": "javascript"}),
        json!({"_id": "_design/medic", "language": "javascript"}),
        json!({"_id": "org.couchdb.user:chw1", "type": "user-settings", "name": "chw1", "roles": ["chw"], "known": true}),
        json!({"_id": "org.couchdb.user:chw2", "type": "user-settings", "name": "chw2", "roles": ["chw"], "known": true}),
        report("rep-9", "10009"),
        report("rep-1", "10001"),
    ]
}

fn report(id: &str, subject: &str) -> Value {
    json!({"_id": id, "type": "data_record", "form": "home_visit", "contact": {"_id": "per-chw1"},
        "fields": {"patient_id": subject}})
}

fn person(id: &str, parent: &Value) -> Value {
    json!({"_id": id, "type": "person", "name": id, "parent": parent})
}

/// A lineage from one place to the top of the worker's own branch.
fn own_lineage(place: &str) -> Value {
    json!({"_id": place, "parent": {"_id": "area-1", "parent": {"_id": "fac-lake", "parent": {"_id": "reg-kivu"}}}})
}

#[track_caller]
fn attack_all(settings: &Value, batches: &[(&str, Vec<Attack>)]) {
    let outcome = Scene::start(settings).and_then(|mut scene| {
        let mut differences = Vec::new();
        for (name, attacks) in batches {
            scene.attack(name, attacks, &mut differences)?;
        }
        Ok(scene.finish(differences))
    });
    let differences = outcome.unwrap_or_else(|error| vec![error]);
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

#[test]
fn a_forged_lineage_gives_nothing() {
    let foreign = json!({"_id": "hh-9", "parent": {"_id": "area-1", "parent": {"_id": "fac-lake"}}});
    let mut stolen = person("pat-9", &own_lineage("hh-1"));
    stolen["patient_id"] = json!("10009");
    let mut household = json!({"_id": "hh-9", "type": "clinic", "name": "Mine", "parent": {"_id": "area-1"}});
    household["contact"] = json!({"_id": "pat-9"});
    let mut author = report("rep-forged", "10009");
    author["contact"] = json!({"_id": "per-chw1", "parent": {"_id": "area-2", "parent": {"_id": "fac-lake"}}});
    attack_all(
        &plain_settings(),
        &[
            ("a stored parent elsewhere", vec![(person("forged", &foreign), FOREIGN)]),
            ("a plain parent elsewhere", vec![(person("forged2", &json!("hh-9")), FOREIGN)]),
            ("a person below itself", vec![(person("loop", &json!({"_id": "loop"})), FOREIGN)]),
            ("no parent", vec![(person("orphan", &Value::Null), FOREIGN)]),
            ("a foreign patient re-parented", vec![(stolen.clone(), FOREIGN), (report("rep-f", "pat-9"), FOREIGN)]),
            (
                "a foreign household re-parented",
                vec![(report("rep-g", "10009"), FOREIGN), (household, FOREIGN), (stolen, FOREIGN)],
            ),
            ("an author of another area", vec![(author, FOREIGN)]),
        ],
    );
}

#[test]
fn a_borrowed_shortcode_gives_nothing() {
    let coded = |id: &str, member: &str, code: Value| {
        let mut thief = person(id, &own_lineage("hh-1"));
        thief[member] = code;
        thief
    };
    let mut place = json!({"_id": "thief-place", "type": "clinic", "parent": {"_id": "area-1"}});
    place["place_id"] = json!("A102");
    let mut about_place = report("rep-place", "");
    about_place["fields"] = json!({"place_id": "A102"});
    attack_all(
        &plain_settings(),
        &[
            ("the code as text", vec![(coded("thief", "patient_id", json!("10009")), HARMLESS)]),
            ("a report by the code", vec![(report("rep-m1", "10009"), FOREIGN), (report("rep-9", "10009"), FOREIGN)]),
            ("the code as a number", vec![(coded("thief2", "patient_id", json!(10009)), HARMLESS)]),
            (
                "the code in one batch",
                vec![(report("rep-m2", "10009"), FOREIGN), (coded("thief3", "patient_id", json!("10009")), HARMLESS)],
            ),
            (
                "an id as a code",
                vec![(coded("thief4", "patient_id", json!("pat-9")), HARMLESS), (report("rep-m3", "pat-9"), FOREIGN)],
            ),
            ("the code of a place", vec![(place, HARMLESS), (about_place, FOREIGN)]),
            ("an own report stays own", vec![(report("rep-m4", "thief"), HARMLESS)]),
        ],
    );
}

#[test]
fn reserved_words_mean_nobody() {
    let mut batches = Vec::new();
    for word in ["_all", "_unassigned", "org.couchdb.user:chw1", "org.couchdb.user:chw2"] {
        let mut named = person(&format!("named {word}"), &own_lineage("hh-1"));
        named["patient_id"] = json!(word);
        let target = json!({"_id": format!("target~{word}"), "type": "target", "owner": word, "user": word});
        let mut sign_off = report(&format!("sign {word}"), word);
        sign_off["contact"] = json!({"_id": word});
        sign_off["fields"]["needs_signoff"] = json!(true);
        batches.push((
            word,
            vec![
                (report(&format!("rep {word}"), word), NOBODY),
                (named, HARMLESS),
                (report(&format!("rep2 {word}"), word), NOBODY),
                (target, NOBODY),
                (sign_off, NOBODY),
            ],
        ));
    }
    attack_all(&plain_settings(), &batches);
}

#[test]
fn documents_of_others_stay_theirs() {
    let edited = |id: &str| json!({"_id": id, "type": "clinic", "name": "edited", "parent": {"_id": "area-2"}});
    let deleted = |id: &str| json!({"_id": id, "_deleted": true});
    let mut deleted_body = person("pat-9", &own_lineage("hh-1"));
    deleted_body["_deleted"] = json!(true);
    let task = |id: &str, user: &str| json!({"_id": id, "type": "task", "user": format!("org.couchdb.user:{user}")});
    attack_all(
        &plain_settings(),
        &[
            (
                "edits between own work",
                vec![
                    (report("rep-own", "10001"), HARMLESS),
                    (edited("hh-9"), FOREIGN),
                    (report("rep-9", "10001"), FOREIGN),
                    (edited("area-2"), FOREIGN),
                    (report("rep-own2", "pat-2"), HARMLESS),
                    (edited("fac-lake"), FOREIGN),
                ],
            ),
            (
                "deletions",
                vec![
                    (deleted("pat-9"), FOREIGN),
                    (deleted("rep-9"), FOREIGN),
                    (deleted("area-2"), FOREIGN),
                    (deleted("reg-kivu"), FOREIGN),
                ],
            ),
            ("a deletion with a body", vec![(deleted_body, FOREIGN)]),
            ("a task of another", vec![(task("task~1", "chw2"), FOREIGN), (task("task~2", "chw1"), HARMLESS)]),
            (
                "own documents given away",
                vec![(report("rep-1", "10009"), FOREIGN), (person("pat-1", &json!({"_id": "hh-9"})), FOREIGN)],
            ),
            ("documents of no kind", vec![(json!({"_id": "blob", "v": 1}), FOREIGN)]),
        ],
    );
}

#[test]
fn configuration_is_reserved() {
    let other = |name: &str, roles: Value| {
        json!({"_id": format!("org.couchdb.user:{name}"), "type": "user-settings",
        "name": name, "roles": roles, "known": true})
    };
    let fields = |id: &str, kind: &str| json!({"_id": id, "type": kind, "title": "changed", "code": "fr"});
    attack_all(
        &plain_settings(),
        &[
            (
                "settings",
                vec![
                    (json!({"_id": "settings", "settings": {"replication_depth": [], "permissions": {}}}), RESERVED),
                    (json!({"_id": "branding", "title": "changed"}), RESERVED),
                    (json!({"_id": "resources", "resources": {}}), RESERVED),
                    (json!({"_id": "service-worker-meta"}), RESERVED),
                    (json!({"_id": "privacy-policies"}), RESERVED),
                ],
            ),
            (
                "forms and translations",
                vec![
                    (fields("form:visit", "form"), RESERVED),
                    (fields("form:mine", "form"), RESERVED),
                    (fields("messages-fr", "translations"), RESERVED),
                    (fields("messages-mine", "translations"), RESERVED),
                    (fields("ui-extension:mine", "ui-extension"), RESERVED),
                ],
            ),
            (
                "design documents",
                vec![
                    (json!({"_id": "_design/medic", "views": {}}), RESERVED),
                    (json!({"_id": "_design/medic-client", "views": {}}), RESERVED),
                    (json!({"_id": "_design/mine", "validate_doc_update": "function(){}"}), RESERVED),
                ],
            ),
            (
                "deletions of configuration",
                vec![
                    (json!({"_id": "settings", "_deleted": true}), RESERVED),
                    (json!({"_id": "form:visit", "_deleted": true}), RESERVED),
                ],
            ),
            (
                "another type for a form",
                vec![(json!({"_id": "form:visit", "type": "person", "parent": {"_id": "hh-1"}}), RESERVED)],
            ),
            ("another type for an own patient", vec![(fields("pat-2", "form"), RESERVED)]),
            ("roles in the own user-settings", vec![(other("chw1", json!(["chw", "_admin"])), RESERVED)]),
            ("user-settings of another", vec![(other("chw2", json!(["chw"])), SETTINGS_OF_USERS)]),
            ("user-settings of nobody yet", vec![(other("new", json!(["chw"])), SETTINGS_OF_USERS)]),
            ("a telephone number in the own user-settings", vec![(other("chw1", json!(["chw"])), HARMLESS)]),
        ],
    );
}

#[test]
fn a_foreign_primary_contact_gives_nothing() {
    let mut settings = plain_settings();
    settings["replication_depth"] = json!([{"role": "chw", "depth": 3, "replicate_primary_contacts": true}]);
    let household = |contact: Value| {
        json!({"_id": "hh-1", "type": "clinic", "name": "Household one", "parent": own_lineage("hh-1")["parent"],
            "place_id": "H11", "contact": contact})
    };
    attack_all(
        &settings,
        &[
            ("as an object", vec![(household(json!({"_id": "pat-9"})), HARMLESS)]),
            ("as a plain id", vec![(household(json!("pat-9")), HARMLESS)]),
            ("with a report", vec![(household(json!("pat-9")), HARMLESS), (report("rep-pc", "10009"), FOREIGN)]),
            ("the report alone", vec![(report("rep-pc2", "pat-9"), FOREIGN), (report("rep-9", "10009"), FOREIGN)]),
            ("the contact itself", vec![(person("pat-9", &own_lineage("hh-1")), FOREIGN)]),
        ],
    );
}

/// What a worker names before it is there is no more his for having been named (S16), nor for standing in his batch (S7).
#[test]
fn a_primary_contact_named_in_advance_gives_nothing() {
    let mut settings = plain_settings();
    settings["replication_depth"] = json!([{"role": "chw", "depth": 3, "replicate_primary_contacts": true}]);
    let outcome = Scene::start(&settings).and_then(|mut scene| {
        let mut differences = Vec::new();
        let foreign = |id: &str| person(id, &json!({"_id": "area-2", "parent": {"_id": "fac-lake"}}));
        let household = |id: &str, contact: &str| {
            json!({"_id": id, "type": "clinic", "parent": own_lineage("hh-1")["parent"], "contact": {"_id": contact}})
        };
        scene.attack("alone", &[(household("hh-a", "pat-later"), HARMLESS)], &mut differences)?;
        let batch = [(household("hh-b", "pat-beside"), HARMLESS), (foreign("pat-beside"), FOREIGN)];
        scene.attack("beside a refused document", &batch, &mut differences)?;
        for id in ["pat-later", "pat-beside"] {
            scene.operator.put(&foreign(id))?;
            compare(&mut differences, &format!("{id} is seen by the neighbour"), &true, &scene.others[0].sees(id)?);
            compare(&mut differences, &format!("{id} is seen by the attacker"), &false, &scene.attacker.sees(id)?);
        }
        let named = scene.attacker.pull()?.named;
        for id in ["pat-later", "pat-beside"] {
            compare(&mut differences, &format!("{id} is in the attacker's feed"), &false, &named.contains(id));
        }
        Ok(scene.finish(differences))
    });
    let differences = outcome.unwrap_or_else(|error| vec![error]);
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

#[test]
fn escrow_outlives_restarts_and_is_known_to_one_device() {
    let outcome = Scene::start(&plain_settings()).and_then(|mut scene| {
        let mut differences = Vec::new();
        let batch = [
            (report("rep-a", "10009"), FOREIGN),
            (report("rep-b", "nobody-yet"), NOBODY),
            (json!({"_id": "form:visit", "type": "form", "title": "changed"}), RESERVED),
            (report("rep-c", "10001"), HARMLESS),
        ];
        let pushed = scene.attack("before", &batch, &mut differences)?;
        let (before, view) = (scene.operator.escrow()?, scene.view()?);
        for (what, kill) in [("killed", true), ("restarted", false)] {
            if kill {
                scene.world.server.kill9();
            }
            scene.world.server.restart();
            scene.operator = Operator::new(scene.world.server.admin(), "medic");
            let anonymous = scene.world.server.anonymous();
            for device in scene.others.iter_mut().chain([&mut scene.attacker, &mut scene.twin]) {
                device.reconnect(anonymous.clone());
            }
            let known = differences.len();
            compare(&mut differences, "escrow", &before, &scene.operator.escrow()?);
            compare(&mut differences, "view", &view, &scene.view()?);
            compare(&mut differences, "missing to the sender", &BTreeSet::new(), &scene.attacker.missing(&pushed)?);
            let refused: BTreeSet<Pushed> = pushed[..3].iter().cloned().collect();
            compare(&mut differences, "missing to its twin", &refused, &scene.twin.missing(&pushed)?);
            // A repeated push is one row all the same.
            let bodies: Vec<Value> = before
                .iter()
                .map(|row| row.number)
                .map(|number| {
                    let path = format!("/_escrow/{number}");
                    scene.operator.send("GET", &path, None, &[200]).map(|entry| entry.json()["doc"].clone())
                })
                .collect::<Outcome<_>>()?;
            scene.attacker.push_bodies(&bodies)?;
            compare(&mut differences, "escrow after a repetition", &before, &scene.operator.escrow()?);
            for difference in &mut differences[known..] {
                *difference = format!("{what}: {difference}");
            }
        }
        Ok(scene.finish(differences))
    });
    let differences = outcome.unwrap_or_else(|error| vec![error]);
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

/// Whatever was pushed is in the database or in escrow, and nothing else is.
#[test]
fn database_and_escrow_are_what_was_pushed() {
    let mut chance = Chance::of_law(104);
    let outcome = Scene::start(&plain_settings()).and_then(|mut scene| {
        let mut pushed: BTreeSet<(String, Pushed)> = BTreeSet::new();
        for round in 0..40 {
            let mut documents: Vec<Value> = Vec::new();
            for number in 0..1 + chance.below(6) {
                let subjects = ["10001", "10009", "pat-2", "nobody", "_all", "A101"];
                let subject = chance.pick(&subjects).copied().unwrap_or_default();
                let parents = ["hh-1", "hh-9", "area-1", "area-2", "nowhere"];
                let parent = chance.pick(&parents).copied().unwrap_or_default();
                let id = if chance.percent(30) {
                    format!("doc-{}", chance.below(9))
                } else {
                    format!("doc-{round}-{number}")
                };
                documents.push(match chance.below(5) {
                    0 => person(&id, &json!({"_id": parent})),
                    1 => json!({"_id": id, "_deleted": true}),
                    2 => json!({"_id": "form:visit", "type": "form", "n": round}),
                    _ => report(&id, subject),
                });
            }
            documents.sort_by_key(|document| text(document, "_id").to_owned());
            documents.dedup_by_key(|document| text(document, "_id").to_owned());
            chance.shuffle(&mut documents);
            let device = match chance.below(3) {
                0 => &mut scene.attacker,
                1 => &mut scene.twin,
                _ => &mut scene.others[0],
            };
            let revisions = device.push(&documents, &json!({}))?;
            pushed.extend(revisions.into_iter().map(|revision| (device.account.clone(), revision)));
        }
        account_for(&scene, &pushed)
    });
    let differences = outcome.unwrap_or_else(|error| vec![error]);
    assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
}

fn account_for(scene: &Scene, pushed: &BTreeSet<(String, Pushed)>) -> Outcome<Vec<String>> {
    let mut differences = Vec::new();
    let kept = scene.operator.escrow()?;
    let mut counts = [0, 0];
    for (account, revision) in pushed {
        let row = kept.iter().any(|row| row.id == revision.id && row.rev == revision.rev && row.account == *account);
        let asked = json!({ revision.id.clone(): [revision.rev] });
        let answer = scene.operator.send("POST", "/_revs_diff", Some(&asked), &[200])?.json();
        let stored = answer == json!({});
        counts[usize::from(stored)] += 1;
        if row == stored {
            differences.push(format!("{revision:?} of {account}: stored {stored}, in escrow {row}"));
        }
    }
    let known = |row: &super::operator::Kept| {
        let mut sent = pushed.iter();
        sent.any(|(account, revision)| (&row.account, &row.id, &row.rev) == (account, &revision.id, &revision.rev))
    };
    differences.extend(kept.iter().filter(|row| !known(row)).map(|row| format!("nobody pushed {row:?}")));
    compare(&mut differences, "escrow holds what is not stored", &counts[0], &kept.len());
    assert!(counts.iter().all(|count| *count > 20), "both outcomes are common: {counts:?}");
    Ok(differences)
}
