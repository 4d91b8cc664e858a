//! The laws of the protocol page §2.10 that speak of a database, held over HTTP against random histories. The table at the
//! head of `protocol/tests/laws.rs` says which law is held where.
//!
//! Each test is a few hundred random steps from a seed; a failing run is repeated, and others are tried, with
//! `SETTLE_SEED`. Nothing here knows an expected tree: what is seen is held against what was seen before, or elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::chance::Chance;
use crate::support::http::Request;
use crate::support::server::TestServer;

mod world;

use world::{Edit, Step, Universe, World, generation, grow, replicated};

/// Steps of most laws.
const STEPS: usize = 150;

fn world(law: u64) -> (TestServer, World) {
    let server = TestServer::start();
    let world = World::new(&server.admin(), "world", Chance::of_law(law));
    (server, world)
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|text| text.as_str().expect("text").to_owned()).collect()
}

fn position(seq: &Value) -> u64 {
    generation(seq.as_str().expect("a sequence"))
}

/// Writes of random edits, with more or less of their histories.
fn deliveries(universes: &mut BTreeMap<String, Universe>, chance: &mut Chance) -> Vec<Value> {
    let mut documents = Vec::new();
    for (id, universe) in universes {
        for _ in 0..chance.below(12) + 1 {
            grow(universe, chance);
        }
        let known: Vec<String> = universe.keys().cloned().collect();
        for _ in 0..chance.below(10) + 1 {
            let chosen = chance.pick(&known).expect("an edit");
            let length = if chance.percent(60) { usize::MAX } else { 1 + chance.below(3) as usize };
            documents.push(replicated(id, universe, chosen, length));
        }
    }
    documents
}

#[test]
fn law_01_order_independence() {
    let (_server, mut one) = world(1);
    for round in 0..12 {
        let other = World::new(&one.client, &format!("other{round}"), one.chance.clone());
        let mine = World::new(&one.client, &format!("mine{round}"), one.chance.clone());
        let mut universes = other.universes.clone();
        let mut documents = deliveries(&mut universes, &mut one.chance);
        for database in [mine.database.as_str(), other.database.as_str()] {
            let mut rest = documents.as_slice();
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(rest.len().min(1 + one.chance.below(9) as usize));
                let request = json!({"new_edits": false, "docs": batch});
                let answer = one.client.post(&format!("{database}/_bulk_docs"), &request).expect(201);
                assert_eq!(answer.json(), json!([]));
                rest = later;
            }
            one.chance.shuffle(&mut documents);
        }
        let (mine, other) = (mine.state(), other.state());
        assert_eq!(mine.counts, other.counts, "counts in round {round}");
        for (id, seen) in &mine.documents {
            let writes: Vec<&Value> = documents.iter().filter(|document| document["_id"] == json!(id)).collect();
            assert_eq!(Some(seen), other.documents.get(id), "after {}", json!(writes));
        }
    }
}

#[test]
fn law_02_idempotence() {
    let (_server, mut world) = world(2);
    for _ in 0..STEPS / 2 {
        let Step::Replicate { documents, .. } = world.replicate() else { unreachable!("a replicated write") };
        world.edit();
        let before = (world.update_seq(), world.state());
        let again = world.post("/_bulk_docs", &json!({"new_edits": false, "docs": documents})).expect(201);
        assert_eq!(again.json(), json!([]));
        assert_eq!((world.update_seq(), world.state()), before);
    }
}

#[test]
fn law_06_deleted_iff_all_leaves_are() {
    let (_server, mut world) = world(6);
    for _ in 0..STEPS {
        world.step();
        let id = world.document();
        let leaves = world.leaves(&id);
        let deleted = !leaves.is_empty() && leaves.values().all(|(deleted, _)| *deleted);
        let answer = world.get(&format!("/{id}"));
        let reason = match answer.status {
            200 => None,
            _ => answer.expect(404).json()["reason"].as_str().map(str::to_owned),
        };
        let expected = if leaves.is_empty() { Some("missing") } else { deleted.then_some("deleted") };
        assert_eq!(reason.as_deref(), expected);
        let row = world.feed().into_iter().find(|(row, ..)| *row == id);
        assert_eq!(row.map(|(_, deleted, _)| deleted), (!leaves.is_empty()).then_some(deleted));
    }
}

#[test]
fn law_07_conflict_partition() {
    let (_server, mut world) = world(7);
    for _ in 0..STEPS {
        world.step();
        let id = world.document();
        let Some((_, deleted, feed)) = world.feed().into_iter().find(|(row, ..)| *row == id) else { continue };
        let leaves = world.leaves(&id);
        let different: BTreeSet<&String> = feed.iter().collect();
        assert_eq!(different.len(), feed.len(), "a leaf stands twice");
        assert_eq!(different, leaves.keys().collect(), "open_revs");
        if deleted {
            continue; // only a plain GET tells conflicts, and here it tells nothing
        }
        let document = world.get(&format!("/{id}?conflicts=true&deleted_conflicts=true")).expect(200).json();
        assert_eq!(document["_rev"], json!(feed[0]), "winner first");
        let (conflicts, tombstones) = (texts(&document["_conflicts"]), texts(&document["_deleted_conflicts"]));
        let all = [&[feed[0].clone()], conflicts.as_slice(), tombstones.as_slice()].concat();
        assert_eq!(all.len(), feed.len());
        assert_eq!(all.iter().collect::<BTreeSet<_>>(), different, "every leaf is one of the three");
        assert!(conflicts.iter().all(|revision| !leaves[revision].0));
        assert!(tombstones.iter().all(|revision| leaves[revision].0));
    }
}

#[test]
fn law_08_edits_extend_leaves() {
    let (_server, mut world) = world(8);
    let mut counts = [0, 0];
    for _ in 0..STEPS * 2 {
        let step = world.step();
        let Step::Edit { id, base, before, answer } = step else { continue };
        let after: Vec<String> = world.leaves(&id).into_keys().collect();
        counts[usize::from(answer.status < 300)] += 1;
        if answer.status >= 300 {
            assert_eq!(answer.status, 409, "{}", answer.text());
            assert_eq!(after, before, "a refused edit changes nothing");
            assert!(base.is_none_or(|base| !before.contains(&base)), "a leaf can be extended");
            continue;
        }
        let made = answer.json()["rev"].as_str().expect("a rev").to_owned();
        assert!(after.contains(&made) && !before.contains(&made));
        let parent = match base {
            Some(base) => Some(base),
            None => world.universes[&id][&made].parent.clone(),
        };
        match parent {
            Some(parent) => {
                assert!(before.contains(&parent) && !after.contains(&parent), "{parent} was extended");
                assert_eq!(after.len(), before.len());
            }
            None => assert!(before.is_empty() && after.len() == 1),
        }
    }
    assert!(counts.iter().all(|count| *count > 20), "both outcomes are common: {counts:?}");
}

#[test]
fn law_09_body_immutability() {
    let (_server, mut world) = world(9);
    let mut bodies: BTreeMap<(String, String), Value> = BTreeMap::new();
    let mut compared = 0;
    for _ in 0..STEPS {
        world.step();
        let id = world.document();
        let known: Vec<String> = world.universes[&id].keys().cloned().collect();
        for revision in known {
            let answer = world.get(&format!("/{id}?rev={revision}"));
            if answer.status == 404 {
                continue;
            }
            let mut body = answer.expect(200).json();
            body["_deleted"] = json!(body["_deleted"] == json!(true));
            let first = bodies.entry((id.clone(), revision)).or_insert_with(|| body.clone());
            assert_eq!(*first, body);
            compared += 1;
        }
    }
    assert!(compared > STEPS, "{compared}");
}

#[test]
fn law_10_revisions_are_contiguous() {
    const LIMIT: usize = 4;
    let (_server, mut world) = world(10);
    world.client.put(&world.path("/_revs_limit"), &json!(LIMIT)).expect(200);
    for _ in 0..STEPS {
        // No purge: it may take the leaf for whose sake another one's older revisions were kept.
        if world.chance.percent(50) {
            world.edit()
        } else {
            world.replicate()
        };
        let id = world.document();
        let leaves = world.leaves(&id);
        for (leaf, (_, path)) in &leaves {
            assert_eq!(path[0], *leaf);
            for (revision, back) in path.iter().zip(0..) {
                assert_eq!(generation(revision) + back, generation(leaf));
            }
            // Beyond the limit stands only what another leaf still needs.
            let near = |path: &Vec<String>, revision| path.iter().take(LIMIT).any(|near| near == revision);
            assert!(path.iter().all(|revision| leaves.values().any(|(_, path)| near(path, revision))), "{leaves:?}");
        }
        if let [(_, path)] = leaves.values().collect::<Vec<_>>().as_slice() {
            assert!(path.len() <= LIMIT, "{path:?}");
        }
    }
}

#[test]
fn law_11_what_was_posted_is_not_missing() {
    let (_server, mut world) = world(11);
    for _ in 0..STEPS {
        match world.step() {
            Step::Replicate { documents, answer } => {
                assert_eq!(answer.expect(201).json(), json!([]));
                let mut posted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
                for document in documents {
                    let start = document["_revisions"]["start"].as_u64().expect("a start");
                    let hashes = texts(&document["_revisions"]["ids"]);
                    let id = document["_id"].as_str().expect("an id").to_owned();
                    let path = hashes.iter().zip(0..).map(|(hash, back)| format!("{}-{hash}", start - back));
                    posted.entry(id).or_default().extend(path);
                }
                assert_eq!(world.missing(&posted), BTreeMap::new());
            }
            _ => {
                let id = world.document();
                let known = world.universes[&id].keys().cloned().collect();
                for revision in world.missing(&BTreeMap::from([(id.clone(), known)])).remove(&id).unwrap_or_default() {
                    world.get(&format!("/{id}?rev={revision}")).expect(404);
                }
            }
        }
    }
}

#[test]
fn law_12_one_row_per_document() {
    let (_server, mut world) = world(12);
    let mut before: BTreeMap<String, (u64, Value)> = BTreeMap::new();
    let mut end = 0;
    for _ in 0..STEPS {
        let step = world.step();
        let feed = world.get("/_changes?style=all_docs").expect(200).json();
        let rows = feed["results"].as_array().expect("rows");
        let positions: Vec<u64> = rows.iter().map(|row| position(&row["seq"])).collect();
        assert!(positions.is_sorted_by(|one, next| one < next), "{positions:?}");
        let after: BTreeMap<String, (u64, Value)> = rows
            .iter()
            .map(|row| (row["id"].as_str().expect("an id").to_owned(), (position(&row["seq"]), row["changes"].clone())))
            .collect();
        assert_eq!(after.len(), rows.len(), "each id once");
        for (id, (position, leaves)) in &after {
            let moved = *position > end;
            match before.get(id).filter(|(_, earlier)| earlier == leaves) {
                // A missing ancestor may have got its body (§2.5, item 4).
                Some((earlier, _)) if moved => assert!(
                    matches!(&step, Step::Replicate { documents, .. }
                        if documents.iter().any(|document| document["_id"] == json!(id))),
                    "{id} moved from {earlier} to {position} for {step:?}"
                ),
                Some((earlier, _)) => assert_eq!(earlier, position),
                None => assert!(moved, "{id} stayed at {position} with {leaves} after {step:?}"),
            }
        }
        end = position(&world.update_seq());
        assert!(positions.iter().all(|position| *position <= end));
        before = after;
    }
}

#[test]
fn law_13_resume_completeness() {
    let (_server, mut world) = world(13);
    let rows = |answer: &Value| -> BTreeMap<String, Value> {
        let rows = answer["results"].as_array().expect("rows").iter();
        rows.map(|row| (row["id"].to_string(), json!([row["changes"], row["deleted"]]))).collect()
    };
    let mut bookmarks: Vec<(String, BTreeMap<String, Value>)> = vec![("0".to_owned(), BTreeMap::new())];
    for _ in 0..STEPS {
        world.step();
        let present = rows(&world.get("/_changes?style=all_docs").expect(200).json());
        let (since, mut folded) = world.chance.pick(&bookmarks).expect("the beginning").clone();
        let limit = world.chance.below(4);
        let page = world.get(&format!("/_changes?style=all_docs&limit={limit}&since={since}")).expect(200).json();
        let rest = page["last_seq"].as_str().expect("a sequence").to_owned();
        folded.extend(rows(&page));
        // A page stands for what was seen so far; pages go on from their end or from their last row.
        let last_row = page["results"].as_array().and_then(|rows| rows.last()).map(|row| row["seq"].clone());
        bookmarks.extend(last_row.map(|seq| (seq.as_str().expect("a sequence").to_owned(), folded.clone())));
        bookmarks.push((rest.clone(), folded.clone()));
        folded.extend(rows(&world.get(&format!("/_changes?style=all_docs&since={rest}")).expect(200).json()));
        folded.retain(|id, _| present.contains_key(id)); // purged: no feed tells
        assert_eq!(folded, present, "since {since}, then {rest}");
    }
}

#[test]
fn law_16_tombstones_keep_history() {
    let (_server, mut world) = world(16);
    for round in 0..12 {
        let (path, length) = (world.path(&format!("/linear{round}")), world.chance.below(8) + 1);
        let mut revision = Value::Null;
        for number in 0..length {
            let mut body = json!({"n": number});
            if !revision.is_null() {
                body["_rev"] = revision;
            }
            revision = world.client.put(&path, &body).expect(201).json()["rev"].clone();
        }
        let last = revision.as_str().expect("a rev");
        world.client.delete(&format!("{path}?rev={last}")).expect(200);
        let made = world.client.put(&path, &json!({"again": true})).expect(201).json();
        assert_eq!(generation(made["rev"].as_str().expect("a rev")), length + 2);
        let leaves = world.leaves(&format!("linear{round}"));
        assert_eq!(leaves.len(), 1, "{leaves:?}");
        assert!(leaves.values().all(|(_, path)| path.len() as u64 == length + 2));
    }
}

#[test]
fn law_17_attachments_keep_revpos() {
    let (_server, mut world) = world(17);
    let path = world.path("/attached");
    let mut known: BTreeMap<String, (Value, Value)> = BTreeMap::new();
    let mut revision: Option<String> = None;
    for step in 0..STEPS {
        let names: Vec<String> = known.keys().cloned().collect();
        let mut attachments: BTreeMap<String, Value> = names
            .iter()
            .filter(|_| world.chance.percent(85))
            .map(|name| (name.clone(), json!({"stub": true})))
            .collect();
        let fresh = world.chance.percent(50).then(|| format!("f{}", world.chance.below(6)));
        attachments.extend(fresh.iter().map(|name| (name.clone(), json!({"data": format!("{step:06}00")}))));
        let mut document = json!({"step": step, "_attachments": attachments});
        if let Some(revision) = &revision {
            document["_rev"] = json!(revision);
        }
        let made = world.client.put(&path, &document).expect(201).json()["rev"].as_str().expect("a rev").to_owned();
        let shown = world.client.get(&path).expect(200).json();
        let shown = shown["_attachments"].as_object().cloned().unwrap_or_default();
        assert_eq!(shown.keys().collect::<Vec<_>>(), attachments.keys().collect::<Vec<_>>());
        let before = std::mem::take(&mut known);
        for (name, entry) in shown {
            let now = (entry["revpos"].clone(), entry["digest"].clone());
            assert!(entry["revpos"].as_u64().is_some_and(|revpos| (1..=generation(&made)).contains(&revpos)));
            match before.get(&name).filter(|_| fresh.as_ref() != Some(&name)) {
                Some(kept) => assert_eq!(&now, kept, "{name} was not touched"),
                None => assert_eq!(entry["revpos"], json!(generation(&made)), "{name} is new"),
            }
            known.insert(name, now);
        }
        revision = Some(made);
    }
}

#[test]
fn law_18_purge_removes_exactly() {
    let (_server, mut world) = world(18);
    for _ in 0..STEPS {
        world.step();
        let id = world.document();
        let (leaves, others) = (world.leaves(&id), world.state());
        let known: Vec<String> = world.universes[&id].keys().cloned().collect();
        let asked: Vec<String> = match world.chance.below(3) {
            0 => leaves.keys().cloned().collect(),
            _ => world.chance.pick(&known).cloned().into_iter().collect(),
        };
        let answer = world.post("/_purge", &json!({ id.clone(): asked })).expect(201).json();
        let purged = texts(&answer["purged"][&id]);
        let expected: Vec<String> = asked.iter().filter(|revision| leaves.contains_key(*revision)).cloned().collect();
        assert_eq!(purged, expected);
        let staying: BTreeMap<_, _> = leaves.into_iter().filter(|(leaf, _)| !purged.contains(leaf)).collect();
        assert_eq!(world.leaves(&id), staying, "of {id} exactly {purged:?} went");
        let mut state = world.state();
        if staying.is_empty() {
            world.get(&format!("/{id}")).expect(404);
            assert_eq!(world.get(&format!("/{id}")).json()["reason"], json!("missing"));
            assert!(!state.documents.contains_key(&id));
            let every: BTreeSet<String> = known.into_iter().collect();
            let missing = world.missing(&BTreeMap::from([(id.clone(), every.clone())])).remove(&id).unwrap_or_default();
            assert_eq!(missing, every, "nothing of {id} is known any more");
        }
        let mut before = others;
        before.documents.remove(&id);
        state.documents.remove(&id);
        assert_eq!(state.documents, before.documents, "the other documents");
        let deleted = state.documents.values().filter(|seen| seen.deleted).count()
            + usize::from(!staying.is_empty() && staying.values().all(|(deleted, _)| *deleted));
        assert_eq!(state.counts.1, deleted as u64);
    }
}

#[test]
fn law_19_local_documents_are_invisible() {
    let (_server, mut world) = world(19);
    let look = |world: &World| {
        let info = world.info();
        let listing = world.get("/_all_docs").expect(200).json();
        [
            info["update_seq"].clone(),
            info["doc_count"].clone(),
            info["doc_del_count"].clone(),
            listing,
            json!(world.feed()),
        ]
    };
    for step in 0..STEPS {
        world.step();
        let before = look(&world);
        let path = format!("{}/_local/l{}", world.database, world.chance.below(4));
        match world.chance.below(3) {
            0 => drop(world.client.delete(&path)),
            1 => drop(world.post("/_bulk_docs", &json!({"docs": [{"_id": "_local/bulk", "step": step}]})).expect(201)),
            _ => drop(world.client.put(&path, &json!({"step": step})).expect(201)),
        }
        assert_eq!(look(&world), before);
    }
}

#[test]
fn law_20_failures_leave_no_trace() {
    let (_server, mut world) = world(20);
    let bulk = world.path("/_bulk_docs");
    for step in 0..STEPS {
        world.step();
        let before = (world.update_seq(), world.state());
        let good = json!({"_id": format!("fresh{step}"), "v": 1});
        let whole = [
            json!({"docs": [good, {"_id": "x", "_unknown": 1}]}).to_string(),
            json!({"docs": [good, 5]}).to_string(),
            json!({"docs": [good], "new_edits": 1}).to_string(),
            json!({"docs": [good, {"_id": "x", "_attachments": {"a": {"data": "?"}}}]}).to_string(),
            json!({"new_edits": false, "docs": [{"_id": "y", "_revisions": {"start": "1", "ids": []}}]}).to_string(),
            format!("{{\"docs\":[{good},"),
        ];
        let body = world.chance.pick(&whole).expect("one").clone();
        let request = Request::new("POST", &bulk).header("Content-Type", "application/json").body(body.clone());
        let status = world.client.send(&request).status;
        assert!((400..500).contains(&status), "{status} for {body}");
        assert_eq!((world.update_seq(), world.state()), before, "{body}");

        // A failing row leaves its document alone; the rows beside it are stored.
        let id = world.document();
        let seen = world.leaves(&id);
        let refused = json!({"_id": id, "_rev": "7-nowhere", "v": step});
        let rows = world.client.post(&bulk, &json!({"docs": [refused, good]})).expect(201).json();
        assert_eq!((rows[0]["error"].clone(), rows[1]["ok"].clone()), (json!("conflict"), json!(true)));
        assert_eq!(world.leaves(&id), seen);
        let revision = rows[1]["rev"].as_str().expect("a rev");
        world.post("/_purge", &json!({ format!("fresh{step}"): [revision] })).expect(201);
    }
}

#[test]
fn law_21_replica_convergence() {
    let (_server, mut one) = world(21);
    let mut other = World::new(&one.client, "replica", Chance::of_law(2121));
    for round in 0..STEPS / 5 {
        for _ in 0..4 {
            match one.chance.below(4) {
                0 => drop(one.edit()),
                1 => drop(other.edit()),
                2 => drop(one.replicate()),
                _ => drop(other.replicate()),
            }
            if one.chance.percent(30) {
                other.pull(&one);
            }
        }
        while one.pull(&other) + other.pull(&one) > 0 {}
        assert_eq!(one.state(), other.state(), "round {round}");
        share_universes(&mut one, &mut other);
    }
}

/// Both worlds go on from all that exists, so that a revision keeps its one parent and body.
fn share_universes(one: &mut World, other: &mut World) {
    for (id, universe) in &mut other.universes {
        let theirs: Vec<Edit> = universe.values().cloned().collect();
        let mine = one.universes.get_mut(id).expect("the same documents");
        mine.extend(theirs.into_iter().map(|edit| (edit.revision.clone(), edit)));
        *universe = mine.clone();
    }
}

#[test]
fn law_22_names_of_revisions_are_functions_of_the_edit() {
    let (_here, mut world) = world(22);
    let there = TestServer::start();
    let other = World::new(&there.admin(), "elsewhere", world.chance.clone());
    let mut parents: [Option<String>; 2] = [None, None];
    let mut names: BTreeSet<String> = BTreeSet::new();
    for step in 0..STEPS {
        let (value, deleted) = (world.chance.below(3), world.chance.percent(20));
        let data = if world.chance.percent(30) { json!({"f": {"data": format!("{step:08}")}}) } else { json!({}) };
        let made: Vec<String> = [(&world, "a"), (&other, "b")]
            .into_iter()
            .zip(&parents)
            .map(|((world, id), parent)| {
                let mut body = json!({"value": value, "_deleted": deleted, "_attachments": data});
                if let Some(parent) = parent {
                    body["_rev"] = json!(parent);
                }
                let answer = world.client.put(&world.path(&format!("/{id}")), &body);
                let answer = answer.expect(if deleted { 200 } else { 201 }).json();
                answer["rev"].as_str().expect("a rev").to_owned()
            })
            .collect();
        assert_eq!(made[0], made[1], "the same edit has the same name everywhere");
        assert!(names.insert(made[0].clone()), "another edit has another name");
        parents = [Some(made[0].clone()), Some(made[1].clone())];
    }
}
