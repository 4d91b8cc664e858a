//! The oracle itself, held against the acceptance data: every case of `tests/acceptance/visibility.json`.

use serde_json::{Value, json};

use super::judge::{Draft, Verdict, judge};
use super::oracle::{Account, Body, Naming, State};

/// The data: a world, users and cases.
fn data() -> Value {
    serde_json::from_str(include_str!("../acceptance/visibility.json")).expect("JSON")
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// Stores the next revision as an administrator.
fn put(state: &mut State, document: &Value) {
    let mut body = document.as_object().expect("a document").clone();
    let id = body.remove("_id").and_then(|id| id.as_str().map(str::to_owned)).expect("an id");
    let deleted = body.remove("_deleted") == Some(json!(true));
    state.tick();
    state.store(&id, &next_path(state, &id), deleted, &body, Naming::Counts);
}

fn next_path(state: &State, id: &str) -> Vec<String> {
    let known = state.document(id).map(|known| known.path(&known.winner)).unwrap_or_default();
    let mut path = vec![format!("{}-{:x}", known.len() + 1, known.len() + 10)];
    path.extend(known);
    path
}

/// The world of a case, with its user named `user`.
fn world(data: &Value, case: &Value) -> State {
    let mut state = State::default();
    for document in data["world"]["documents"].as_array().expect("documents") {
        put(&mut state, document);
    }
    let settings = json!({"_id": "settings", "settings": case["settings"].clone()});
    put(&mut state, &settings);
    for (name, user) in data["users"].as_object().expect("users") {
        let of_case = |field: &str| {
            let own = case.get(field).filter(|_| case["user"] == json!(name));
            texts(own.unwrap_or(&user[field]))
        };
        let person = user["contact_id"].as_str().map(str::to_owned);
        let account = Account { roles: of_case("roles"), facilities: of_case("facility_id"), person };
        state.accounts.insert(name.clone(), account);
    }
    state
}

/// The document of a case as a push, after this many revisions.
fn draft(state: &State, document: &Value) -> Draft {
    let mut body: Body = document.as_object().expect("a document").clone();
    let id = body.remove("_id").and_then(|id| id.as_str().map(str::to_owned)).expect("an id");
    let path = next_path(state, &id);
    Draft { id, path, deleted: false, body }
}

fn accepted(state: &State, name: &str, draft: Draft) -> bool {
    match judge(state, &[], name, &[draft])[0] {
        Verdict::Accept => true,
        Verdict::Refuse => false,
        other => panic!("the data is exact here, the oracle is not: {other:?}"),
    }
}

/// A case whose document replaces the settings is judged by them, as in the data.
fn check(data: &Value, case: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut expect = |what: &str, got: bool, why: &dyn Fn() -> String| {
        if case["expect"][what].as_bool().is_some_and(|expected| expected != got) {
            problems.push(format!("{} {}: {what} is {got}\n{}", case["id"], case["title"], why()));
        }
    };
    let name = case["user"].as_str().expect("a user");
    let bare = world(data, case);
    let mut full = bare.clone();
    let document = match case["document"].get("stored").and_then(Value::as_str) {
        Some(id) => {
            let known = full.document(id).expect("a document of the world");
            let mut document = known.face.as_ref().expect("it is not deleted").body.clone();
            document.insert("_id".to_owned(), id.into());
            Value::Object(document)
        }
        None => {
            let create = accepted(&bare, name, draft(&bare, &case["document"]));
            expect("create", create, &String::new);
            put(&mut full, &case["document"]);
            case["document"].clone()
        }
    };
    let id = document["_id"].as_str().expect("an id");
    expect("visible", full.sees(name, id), &|| full.reasons(name, id));
    expect("update", accepted(&full, name, draft(&full, &document)), &|| full.reasons(name, id));
    problems
}

/// Every case whose group satisfies this; there is at least one.
fn check_groups(wanted: impl Fn(&str) -> bool) {
    let data = data();
    let cases = data["cases"].as_array().expect("cases").iter();
    let cases: Vec<&Value> = cases.filter(|case| wanted(case["group"].as_str().expect("a group"))).collect();
    assert!(!cases.is_empty(), "no case is of that group");
    let problems: Vec<String> = cases.into_iter().flat_map(|case| check(&data, case)).collect();
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn contacts() {
    check_groups(|group| group.starts_with("Contacts"));
}

#[test]
fn primary_contacts() {
    check_groups(|group| group.starts_with("Primary"));
}

#[test]
fn hostile_values() {
    check_groups(|group| group.starts_with("Hostile"));
}

#[test]
fn every_case() {
    check_groups(|_| true);
}

/// A small world: two areas below a facility, a household in the first, a worker for each area.
fn two_areas() -> State {
    let mut state = State::default();
    put(&mut state, &json!({"_id": "fac", "type": "health_center"}));
    for area in ["area-1", "area-2"] {
        put(&mut state, &json!({"_id": area, "type": "contact", "parent": {"_id": "fac"}}));
        let account = Account {
            roles: vec!["chw".to_owned()],
            facilities: vec![area.to_owned()],
            person: Some("nobody".to_owned()),
        };
        state.accounts.insert(format!("of-{area}"), account);
    }
    put(&mut state, &json!({"_id": "hh", "type": "clinic", "parent": {"_id": "area-1", "parent": {"_id": "fac"}}}));
    put(&mut state, &json!({"_id": "pat", "type": "person", "parent": {"_id": "hh"}, "patient_id": "7"}));
    put(&mut state, &report("rep", "7"));
    state
}

fn report(id: &str, about: &str) -> Value {
    json!({"_id": id, "type": "data_record", "form": "visit", "fields": {"patient_id": about}})
}

fn put_back(state: &mut State, id: &str, path: &[&str], deleted: bool, body: &Value) {
    let path: Vec<String> = path.iter().map(|name| (*name).to_owned()).collect();
    state.store(id, &path, deleted, body.as_object().expect("a body"), Naming::Counts);
}

#[test]
fn a_deleted_contact_keeps_its_place_for_its_reports() {
    let mut state = two_areas();
    put(&mut state, &json!({"_id": "pat", "_deleted": true}));
    assert!(!state.sees("of-area-1", "pat") && state.sees("of-area-1", "rep"));
    put(&mut state, &json!({"_id": "pat", "type": "person", "parent": "area-2", "patient_id": "7"}));
    assert!(!state.sees("of-area-1", "rep") && state.sees("of-area-2", "rep"));
}

#[test]
fn a_shortcode_belongs_to_its_first_holder() {
    let mut state = two_areas();
    put(&mut state, &json!({"_id": "thief", "type": "person", "parent": "area-2", "patient_id": 7}));
    assert!(state.sees("of-area-1", "rep") && !state.sees("of-area-2", "rep"));
    put(&mut state, &json!({"_id": "pat", "type": "person", "parent": {"_id": "hh"}, "patient_id": "8"}));
    assert!(!state.sees("of-area-1", "rep") && state.sees("of-area-2", "rep"));
}

#[test]
fn a_move_stands_until_an_edit_has_seen_it() {
    let mut state = two_areas();
    let household = json!({"type": "clinic", "parent": {"_id": "area-1"}});
    let moved = json!({"type": "clinic", "parent": {"_id": "area-2"}});
    put_back(&mut state, "hh", &["2-0", "1-a"], false, &moved);
    state.mark_move("hh", "2-0", json!({"_id": "area-2"}));
    assert!(state.sees("of-area-2", "pat"));
    put_back(&mut state, "hh", &["3-f", "2-f", "1-a"], false, &household);
    assert_eq!(state.document("hh").map(|hh| hh.winner.as_str()), Some("3-f"));
    assert!(state.sees("of-area-2", "hh") && !state.sees("of-area-1", "hh"), "it has not seen the move");
    put_back(&mut state, "hh", &["4-f", "3-0", "2-0", "1-a"], false, &household);
    assert!(state.sees("of-area-1", "hh") && !state.sees("of-area-2", "hh"), "it has seen the move");
}

#[test]
fn a_loop_ends_the_line() {
    let mut state = two_areas();
    put(&mut state, &json!({"_id": "fac", "type": "health_center", "parent": {"_id": "hh"}}));
    assert_eq!(state.line("pat"), ["pat", "hh", "area-1", "fac"]);
    assert_eq!(state.line("fac"), ["fac", "hh", "area-1"]);
}

#[test]
fn a_refused_document_grants_nothing_in_any_order() {
    let state = two_areas();
    let mut drafts = vec![
        draft(&state, &report("about-new", "new")),
        draft(&state, &json!({"_id": "new", "type": "person", "parent": "hh"})),
        draft(&state, &report("about-far", "far")),
        draft(&state, &json!({"_id": "far", "type": "person", "parent": "area-2"})),
    ];
    for _ in 0..drafts.len() {
        drafts.rotate_left(1);
        let verdicts = judge(&state, &[], "of-area-1", &drafts);
        let accepted = drafts.iter().zip(verdicts).filter(|(_, verdict)| *verdict == Verdict::Accept);
        let accepted: std::collections::BTreeSet<&str> = accepted.map(|(draft, _)| draft.id.as_str()).collect();
        assert_eq!(accepted.into_iter().collect::<Vec<_>>(), ["about-new", "new"]);
    }
}

#[test]
fn what_was_withdrawn_drains() {
    let before = two_areas();
    let mut now = before.clone();
    put(&mut now, &json!({"_id": "hh", "type": "clinic", "parent": {"_id": "area-2"}}));
    let drafts = [draft(&now, &report("late", "7")), draft(&now, &report("never", "fac"))];
    assert_eq!(judge(&now, &[before], "of-area-1", &drafts), [Verdict::Drain, Verdict::Refuse]);
    assert_eq!(judge(&now, &[], "of-area-1", &drafts), [Verdict::Refuse, Verdict::Refuse]);
}
