//! A database under random treatment, and everything a client can see of it.
//!
//! [`World`] does what clients do: edits, replicated writes of histories made elsewhere, deletions, purges, compactions,
//! checkpoints. Of every document it remembers the revisions that exist anywhere, so that histories stay consistent: each
//! revision has one parent and one body. It judges nothing; the laws do.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::support::chance::Chance;
use crate::support::http::{Client, Request, Response};

/// Documents in one world.
const DOCUMENTS: u64 = 5;

/// One revision, wherever it was made.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    pub(super) revision: String,
    pub(super) parent: Option<String>,
    pub(super) deleted: bool,
    pub(super) body: Map<String, Value>,
}

/// Every edit of one document, by its revision.
pub(super) type Universe = BTreeMap<String, Edit>;

/// The history of a revision, newest first.
pub(super) fn history(universe: &Universe, revision: &str) -> Vec<String> {
    let parent = |revision: &String| universe.get(revision).and_then(|edit| edit.parent.clone());
    std::iter::successors(Some(revision.to_owned()), parent).collect()
}

pub(super) fn generation(revision: &str) -> u64 {
    revision.split('-').next().and_then(|digits| digits.parse().ok()).expect("a revision")
}

/// A document for `new_edits:false` that tells the last `length` revisions of its history.
pub(super) fn replicated(id: &str, universe: &Universe, revision: &str, length: usize) -> Value {
    let edit = &universe[revision];
    let hashes: Vec<String> = history(universe, revision)
        .iter()
        .take(length.max(1))
        .map(|revision| revision.split_once('-').expect("a revision").1.to_owned())
        .collect();
    let mut document = edit.body.clone();
    document.insert("_id".into(), id.into());
    document.insert("_rev".into(), revision.into());
    document.insert("_revisions".into(), json!({"start": generation(revision), "ids": hashes}));
    if edit.deleted {
        document.insert("_deleted".into(), true.into());
    }
    Value::Object(document)
}

/// Adds an edit that another replica made on top of any known revision, or of none, and says which.
pub(super) fn grow(universe: &mut Universe, chance: &mut Chance) -> String {
    let known: Vec<String> = universe.keys().cloned().collect();
    let parent = if chance.percent(15) { None } else { chance.pick(&known).cloned() };
    let number = chance.next();
    let hash = match number % 3 {
        0 => format!("x{number}"),
        _ => format!("{number:016x}{number:016x}"),
    };
    let revision = format!("{}-{hash}", parent.as_deref().map_or(0, generation) + 1);
    let body = Map::from_iter([("made".to_owned(), Value::from(revision.clone()))]);
    let deleted = chance.percent(25);
    universe.insert(revision.clone(), Edit { revision: revision.clone(), parent, deleted, body });
    revision
}

/// What a client can see of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The feed says it is deleted.
    pub(super) deleted: bool,
    /// The leaves as the feed lists them.
    pub(super) feed: Vec<String>,
    /// The leaves as `open_revs=all` shows them: deleted, history.
    pub(super) leaves: BTreeMap<String, (bool, Vec<String>)>,
}

/// What a client can see of a database; positions are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) documents: BTreeMap<String, Seen>,
    pub(super) counts: (u64, u64),
}

/// A database and all that happened to it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) client: Client,
    /// `/name`
    pub(super) database: String,
    pub(super) chance: Chance,
    /// Of each document, what exists anywhere.
    pub(super) universes: BTreeMap<String, Universe>,
    steps: u64,
}

/// What one step asked for and what came of it.
#[derive(Debug)]
pub(super) enum Step {
    /// An edit on this base, with the leaves before it.
    Edit { id: String, base: Option<String>, before: Vec<String>, answer: Response },
    /// Replicated documents, with the answer.
    Replicate { documents: Vec<Value>, answer: Response },
    /// A purge, or something that changes no document.
    Other,
}

impl World {
    pub(super) fn new(client: &Client, name: &str, chance: Chance) -> Self {
        let database = format!("/{name}");
        client.put(&database, &json!({})).expect(201);
        let universes = (0..DOCUMENTS).map(|number| (format!("d{number}"), Universe::new())).collect();
        Self { client: client.clone(), database, chance, universes, steps: 0 }
    }

    pub(super) fn get(&self, path: &str) -> Response {
        self.client.send(&Request::new("GET", &self.path(path)).header("Accept", "application/json"))
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Response {
        self.client.post(&self.path(path), body)
    }

    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.database)
    }

    pub(super) fn document(&mut self) -> String {
        format!("d{}", self.chance.below(DOCUMENTS))
    }

    /// One random operation.
    pub(super) fn step(&mut self) -> Step {
        self.steps += 1;
        match self.chance.below(100) {
            0..45 => self.edit(),
            45..85 => self.replicate(),
            85..92 => self.purge(),
            92..98 => {
                let path = format!("{}/_local/l{}", self.database, self.chance.below(3));
                self.client.put(&path, &json!({"step": self.steps})).expect(201);
                Step::Other
            }
            _ => {
                self.post("/_compact", &json!({})).expect(202);
                Step::Other
            }
        }
    }

    /// An edit of a leaf, mostly; otherwise of nothing, of any revision there is, or of none there is.
    pub(super) fn edit(&mut self) -> Step {
        let id = self.document();
        let before: Vec<String> = self.leaves(&id).into_keys().collect();
        let known: Vec<String> = self.universes[&id].keys().cloned().collect();
        let base = match self.chance.below(10) {
            0..6 => self.chance.pick(&before).cloned(),
            6 => None,
            7..9 => self.chance.pick(&known).cloned(),
            _ => Some(format!("{}-nowhere", self.chance.below(9) + 1)),
        };
        let deleted = self.chance.percent(25);
        let body = Map::from_iter([("step".to_owned(), Value::from(self.steps)), ("by".to_owned(), "edit".into())]);
        let mut sent = body.clone();
        sent.extend(base.iter().map(|base| ("_rev".to_owned(), Value::from(base.clone()))));
        sent.extend(deleted.then(|| ("_deleted".to_owned(), true.into())));
        let winning_tombstone = self.winner(&id);
        let answer = self.client.put(&self.path(&format!("/{id}")), &Value::Object(sent));
        if answer.status < 300 {
            let revision = answer.json()["rev"].as_str().expect("a rev").to_owned();
            let parent = base.clone().or(winning_tombstone);
            let edit = Edit { revision: revision.clone(), parent, deleted, body };
            self.universes.get_mut(&id).expect("a document").insert(revision, edit);
        }
        Step::Edit { id, base, before, answer }
    }

    /// A few edits of other replicas arrive with all of their histories.
    pub(super) fn replicate(&mut self) -> Step {
        let mut documents = Vec::new();
        for _ in 0..self.chance.below(3) + 1 {
            let id = self.document();
            let universe = self.universes.get_mut(&id).expect("a document");
            for _ in 0..self.chance.below(3) + 1 {
                grow(universe, &mut self.chance);
            }
            let known: Vec<&String> = universe.keys().collect();
            let chosen = (*self.chance.pick(&known).expect("one was made")).clone();
            documents.push(replicated(&id, universe, &chosen, usize::MAX));
        }
        let answer = self.post("/_bulk_docs", &json!({"new_edits": false, "docs": documents}));
        Step::Replicate { documents, answer }
    }

    /// A purge of a leaf, or of anything.
    pub(super) fn purge(&mut self) -> Step {
        let id = self.document();
        let leaves: Vec<String> = self.leaves(&id).into_keys().collect();
        let known: Vec<String> = self.universes[&id].keys().cloned().collect();
        let from = if self.chance.percent(70) { &leaves } else { &known };
        let revisions: Vec<String> = self.chance.pick(from).cloned().into_iter().collect();
        self.post("/_purge", &json!({ id.clone(): revisions })).expect(201);
        Step::Other
    }

    /// The revision a plain `GET` would show, deleted or not.
    pub(super) fn winner(&self, id: &str) -> Option<String> {
        self.feed().into_iter().find(|(row, ..)| row == id).map(|(_, _, revisions)| revisions[0].clone())
    }

    /// Rows of the feed in order: id, deleted, leaves.
    pub(super) fn feed(&self) -> Vec<(String, bool, Vec<String>)> {
        let answer = self.get("/_changes?style=all_docs").expect(200).json();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let row = |row: &Value| {
            let changes = row["changes"].as_array().expect("changes").iter();
            (text(&row["id"]), row["deleted"] == json!(true), changes.map(|change| text(&change["rev"])).collect())
        };
        answer["results"].as_array().expect("rows").iter().map(row).collect()
    }

    /// The leaves of a document: deleted, history. None for a document that does not exist.
    pub(super) fn leaves(&self, id: &str) -> BTreeMap<String, (bool, Vec<String>)> {
        let answer = self.get(&format!("/{id}?open_revs=all&revs=true"));
        if answer.status == 404 {
            return BTreeMap::new();
        }
        let rows = answer.expect(200).json();
        let rows = rows.as_array().expect("a list").iter().map(|row| {
            let document = &row["ok"];
            let start = document["_revisions"]["start"].as_u64().expect("a start");
            let hashes = document["_revisions"]["ids"].as_array().expect("ids").iter().zip(0..);
            let path = hashes.map(|(hash, at)| format!("{}-{}", start - at, hash.as_str().expect("a hash"))).collect();
            let revision = document["_rev"].as_str().expect("a rev").to_owned();
            (revision, (document["_deleted"] == json!(true), path))
        });
        rows.collect()
    }

    /// All that can be seen, without positions.
    pub(super) fn state(&self) -> State {
        let seen = |(id, deleted, feed): (String, bool, Vec<String>)| {
            let leaves = self.leaves(&id);
            (id, Seen { deleted, feed, leaves })
        };
        let info = self.info();
        let count = |name: &str| info[name].as_u64().expect("a count");
        State {
            documents: self.feed().into_iter().map(seen).collect(),
            counts: (count("doc_count"), count("doc_del_count")),
        }
    }

    pub(super) fn info(&self) -> Value {
        self.get("").expect(200).json()
    }

    pub(super) fn update_seq(&self) -> Value {
        self.info()["update_seq"].clone()
    }

    /// What `_revs_diff` calls missing of these.
    pub(super) fn missing(&self, asked: &BTreeMap<String, BTreeSet<String>>) -> BTreeMap<String, BTreeSet<String>> {
        let answer = self.post("/_revs_diff", &json!(asked)).expect(200).json();
        let rows = answer.as_object().expect("an object").iter();
        let missing = rows.map(|(id, row)| {
            let revisions = row["missing"].as_array().expect("missing").iter();
            (id.clone(), revisions.map(|revision| revision.as_str().expect("a rev").to_owned()).collect())
        });
        missing.collect()
    }

    /// Pulls once from another database, as a replicator does; says how many revisions came.
    pub(super) fn pull(&self, source: &World) -> usize {
        let asked = source.feed().into_iter().map(|(id, _, revisions)| (id, revisions.into_iter().collect()));
        let missing = self.missing(&asked.collect());
        let wanted: Vec<Value> = missing
            .iter()
            .flat_map(|(id, revisions)| revisions.iter().map(move |revision| json!({"id": id, "rev": revision})))
            .collect();
        let answer = source.post("/_bulk_get?revs=true&latest=true", &json!({"docs": wanted})).expect(200).json();
        let rows = answer["results"].as_array().expect("rows").iter();
        let documents: Vec<&Value> =
            rows.flat_map(|row| row["docs"].as_array().expect("docs")).map(|document| &document["ok"]).collect();
        let stored = self.post("/_bulk_docs", &json!({"new_edits": false, "docs": documents})).expect(201).json();
        assert_eq!(stored, json!([]), "a pull is never refused");
        wanted.len()
    }
}
