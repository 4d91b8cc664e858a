//! Random districts: places, people and everything that is written about them.
//!
//! Ids come from small pools, so that documents are edited, deleted and made again, and strangers reach for the same
//! names. Two things are left out because the rule does not speak of them: a document never changes its kind, and a
//! shortcode never looks like the id of a contact.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::oracle::{ACCOUNT_PREFIX, Body, Kind, State, kind};
use crate::support::chance::Chance;

const PLACES: u64 = 36;
const PEOPLE: u64 = 48;
const RECORDS: u64 = 120;
const CODES: u64 = 40;
/// Restricted accounts of a world.
pub(super) const USERS: u64 = 5;

pub(super) const ROLES: &[&str] = &["chw", "supervisor", "officer"];

/// Levels from the top, as the CHT names them, and as configurable types.
const LEGACY: &[&str] = &["district_hospital", "health_center", "clinic", "clinic", "clinic"];

pub(super) fn object(value: Value) -> Body {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

pub(super) fn user_name(chance: &mut Chance) -> String {
    format!("u{}", chance.below(USERS))
}

/// The id of some document, of any kind but configuration.
pub(super) fn any_id(chance: &mut Chance) -> String {
    match chance.below(100) {
        0..24 => place_id(chance),
        24..46 => person_id(chance),
        46..86 => format!("rep-{}", chance.below(RECORDS)),
        86..91 => format!("task~{ACCOUNT_PREFIX}{}~{}", user_name(chance), chance.below(5)),
        91..97 => format!("target~{}~{}", chance.below(4), user_name(chance)),
        97..99 => format!("form:{}", chance.below(3)),
        _ => format!("odd-{}", chance.below(4)),
    }
}

pub(super) fn place_id(chance: &mut Chance) -> String {
    format!("pl-{}", chance.below(PLACES))
}

fn person_id(chance: &mut Chance) -> String {
    format!("per-{}", chance.below(PEOPLE))
}

fn contact_id(chance: &mut Chance) -> String {
    if chance.percent(40) { place_id(chance) } else { person_id(chance) }
}

/// A place that is stored, if any of a few tries is.
pub(super) fn stored_place(state: &State, chance: &mut Chance) -> Option<String> {
    let tries: Vec<String> = (0..8).map(|_| place_id(chance)).collect();
    tries.into_iter().find(|id| state.live(id).is_some())
}

/// A reference to a parent with the lineage that the stored documents have.
pub(super) fn with_lineage(state: &State, id: &str) -> Value {
    let above = state.line(id).into_iter().rev();
    above.fold(Value::Null, |parent, id| match parent {
        Value::Null => json!({ "_id": id }),
        parent => json!({"_id": id, "parent": parent}),
    })
}

/// A reference to a contact as it may be written: with its lineage, without, as a plain id, with a false lineage.
fn some_reference(state: &State, chance: &mut Chance, id: &str) -> Value {
    match chance.below(20) {
        0..12 => with_lineage(state, id),
        12..15 => json!({ "_id": id }),
        15..18 => json!(id),
        _ => json!({"_id": id, "parent": with_lineage(state, &place_id(chance))}),
    }
}

/// A parent for a contact: a stored place above the fifth level mostly, otherwise one that is not stored; seldom a loop.
fn some_parent(state: &State, chance: &mut Chance, id: &str, near: Option<&str>) -> Option<Value> {
    let loops = chance.percent(2);
    match chance.below(40) {
        0 => None,
        1 => {
            let place =
                Some(place_id(chance)).filter(|place| loops || !state.line(place).iter().any(|above| above == id))?;
            Some(some_reference(state, chance, &place))
        }
        2 => {
            let above =
                stored_place(state, chance).filter(|place| loops || !state.line(place).iter().any(|above| above == id));
            let above = above.map(|place| with_lineage(state, &place));
            Some(json!({"_id": format!("gone-{}", chance.below(3)), "parent": above}))
        }
        _ => {
            let near = near.map(str::to_owned).filter(|_| chance.percent(75));
            let place = near.or_else(|| stored_place(state, chance)).filter(|place| state.line(place).len() < 5)?;
            if !loops && state.line(&place).iter().any(|above| above == id) {
                return None;
            }
            Some(some_reference(state, chance, &place))
        }
    }
}

fn some_code(chance: &mut Chance) -> Value {
    let number = 500 + chance.below(CODES);
    if chance.percent(25) { json!(number) } else { json!(number.to_string()) }
}

/// What a record or a target may name: a contact by id or shortcode, something unknown, a reserved word.
fn some_key(chance: &mut Chance) -> Value {
    match chance.below(40) {
        0..19 => json!(contact_id(chance)),
        19..35 => some_code(chance),
        35..38 => json!(format!("unknown-{}", chance.below(4))),
        38 => json!("_all"),
        _ => json!(format!("{ACCOUNT_PREFIX}{}", user_name(chance))),
    }
}

fn place(state: &State, chance: &mut Chance, id: &str, near: Option<&str>) -> Body {
    let parent = some_parent(state, chance, id, near);
    let above = parent.as_ref().and_then(|parent| super::oracle::reference(Some(parent)));
    let level = above.map_or(0, |above| state.line(&above).len());
    let mut body = if chance.percent(50) {
        object(json!({"type": LEGACY[level.min(LEGACY.len() - 1)]}))
    } else {
        object(json!({"type": "contact", "contact_type": format!("level_{level}")}))
    };
    body.extend(parent.map(|parent| ("parent".to_owned(), parent)));
    if chance.percent(50) {
        body.insert("place_id".to_owned(), some_code(chance));
    }
    if chance.percent(60) {
        let person = if chance.percent(6) { "nobody".to_owned() } else { person_id(chance) };
        body.insert("contact".to_owned(), some_reference(state, chance, &person));
    }
    body
}

fn person(state: &State, chance: &mut Chance, id: &str, near: Option<&str>) -> Body {
    let mut body = match chance.percent(80) {
        true => object(json!({"type": "person"})),
        false => object(json!({"type": "contact", "contact_type": "patient"})),
    };
    body.extend(some_parent(state, chance, id, near).map(|parent| ("parent".to_owned(), parent)));
    if chance.percent(65) {
        body.insert("patient_id".to_owned(), some_code(chance));
    }
    if chance.percent(5) {
        body.insert("place_id".to_owned(), some_code(chance));
    }
    body
}

/// The author as a report embeds it.
fn some_author(state: &State, chance: &mut Chance, person: Option<&str>) -> Value {
    let person = person.map(str::to_owned).filter(|_| chance.percent(75)).unwrap_or_else(|| person_id(chance));
    if chance.percent(70) { with_lineage(state, &person) } else { json!({ "_id": person }) }
}

fn report(state: &State, chance: &mut Chance, writer: Option<&str>) -> Body {
    let mut fields = Map::new();
    let mut body = object(json!({"type": "data_record", "form": "visit"}));
    for name in ["patient_id", "place_id", "patient_uuid"] {
        if chance.percent(45) {
            fields.insert(name.to_owned(), if chance.percent(10) { json!("") } else { some_key(chance) });
        }
        if name != "patient_uuid" && chance.percent(8) {
            body.insert(name.to_owned(), some_key(chance));
        }
    }
    for (name, share) in [("needs_signoff", 20), ("private", 20)] {
        if chance.percent(share) {
            let values = [json!(true), json!(true), json!("true"), json!("yes"), json!(false)];
            fields.insert(name.to_owned(), chance.pick(&values).expect("a value").clone());
        }
    }
    body.insert("fields".to_owned(), Value::Object(fields));
    if chance.percent(85) {
        body.insert("contact".to_owned(), some_author(state, chance, writer));
    }
    if chance.percent(8) {
        let codes = ["registration_not_found", "invalid_patient_id", "something_else"];
        body.insert("errors".to_owned(), json!([{ "code": chance.pick(&codes) }]));
    }
    body
}

fn message(state: &State, chance: &mut Chance, writer: Option<&str>) -> Body {
    match chance.below(5) {
        0..2 => object(json!({
            "type": "data_record",
            "sms_message": {"message": "arrived"},
            "contact": some_author(state, chance, writer),
        })),
        2..4 => {
            let recipient = contact_id(chance);
            let recipient = some_reference(state, chance, &recipient);
            let tasks = json!([{"messages": [{"message": "come", "contact": recipient}]}]);
            object(json!({"type": "data_record", "kujua_message": true, "tasks": tasks}))
        }
        _ => object(json!({"type": "data_record", "fields": {"patient_id": some_key(chance)}})),
    }
}

/// A document for this id. `near`: a place that its writer knows; `writer`: the writer's person.
pub(super) fn document(state: &State, chance: &mut Chance, id: &str, near: Option<&str>, writer: Option<&str>) -> Body {
    match id.split(['-', '~', ':']).next() {
        Some("pl") => place(state, chance, id, near),
        Some("per") => person(state, chance, id, near),
        Some("rep") => {
            // A message stays a message and a report a report, whoever writes it.
            let number: u64 = id[4..].parse().unwrap_or(0);
            if number.is_multiple_of(6) { message(state, chance, writer) } else { report(state, chance, writer) }
        }
        Some("task") => {
            let owner = id.split('~').nth(1).expect("a user").to_owned();
            let user = if chance.percent(92) { owner } else { format!("{ACCOUNT_PREFIX}{}", user_name(chance)) };
            object(json!({"type": "task", "user": user, "owner": contact_id(chance), "state": "Ready"}))
        }
        Some("target") => object(json!({"type": "target", "owner": some_key(chance)})),
        Some("form") => {
            let kinds = ["form", "translations", "ui-extension"];
            object(json!({"type": kinds[id.len() % 3], "title": "Visit"}))
        }
        Some("org.couchdb.user") => object(json!({"type": "user-settings", "roles": ["chw"]})),
        _ => object(json!({"type": "feedback", "log": []})),
    }
}

/// The next version of a document of the same kind: often a detail, otherwise what decides who sees it.
pub(super) fn edited(state: &State, chance: &mut Chance, id: &str, body: &Body, near: Option<&str>) -> Body {
    let mut next = body.clone();
    next.insert("phone".to_owned(), json!(chance.below(1_000_000)));
    if chance.percent(40) {
        return next;
    }
    let fresh = document(state, chance, id, near, None);
    let parts: &[&[&str]] = match kind(id, body) {
        Kind::Contact => &[&["parent"], &["patient_id", "place_id"], &["contact"]],
        Kind::Record => &[&["fields"], &["contact"], &["errors", "patient_id", "place_id"], &["tasks"]],
        Kind::Target => &[&["owner"]],
        _ => &[],
    };
    if let Some(part) = chance.pick(parts) {
        for name in *part {
            next.remove(*name);
            next.extend(fresh.get(*name).map(|value| ((*name).to_owned(), value.clone())));
        }
    }
    next
}

/// Leaves out shortcodes that another document of the same batch also takes: the rule does not say who is first. Says
/// whether there were any.
pub(super) fn leave_out_taken(taken: &mut BTreeSet<String>, body: &mut Body) -> bool {
    let mut left_out = false;
    if body.get("type") != Some(&json!("data_record")) {
        for name in ["patient_id", "place_id"] {
            if super::oracle::text(body.get(name)).is_some_and(|code| !taken.insert(code)) {
                body.remove(name);
                left_out = true;
            }
        }
    }
    left_out
}

/// Random settings. A negative depth stands alone: the rule does not compare it with others.
pub(super) fn settings(chance: &mut Chance) -> Value {
    let with_reports = chance.percent(50);
    let mut entries = Vec::new();
    for role in ROLES {
        for _ in 0..chance.below(10).saturating_sub(6).max(u64::from(chance.percent(50))) {
            let depth = match chance.below(12) {
                0 => json!("two"),
                1 => json!(1.5),
                2..4 => json!(chance.below(4).to_string()),
                _ => json!(chance.below(5)),
            };
            let mut entry = json!({"role": role, "depth": depth});
            if with_reports {
                entry["report_depth"] = json!(chance.below(4));
            }
            if chance.percent(45) {
                entry["replicate_primary_contacts"] = json!(chance.percent(85));
            }
            entries.push(entry);
        }
    }
    chance.shuffle(&mut entries);
    if chance.percent(8) {
        let role = chance.pick(ROLES);
        entries = vec![json!({"role": role, "depth": -1, "replicate_primary_contacts": true})];
    }
    let viewers: Vec<&str> = ROLES.iter().copied().filter(|_| chance.percent(60)).collect();
    json!({
        "replication_depth": entries,
        "permissions": {"can_view_unallocated_data_records": viewers},
        "district_admins_access_unallocated_messages": chance.percent(70),
    })
}

/// What an account may be given: one or two facilities, a person, one or two roles.
pub(super) fn account(state: &State, chance: &mut Chance) -> super::oracle::Account {
    let mut facilities: Vec<String> = (0..=u64::from(chance.percent(40)))
        .map(|_| stored_place(state, chance).unwrap_or_else(|| place_id(chance)))
        .collect();
    facilities.dedup();
    let mut roles: Vec<String> = chance.pick(ROLES).map(|role| (*role).to_owned()).into_iter().collect();
    if chance.percent(20) {
        roles.extend(chance.pick(ROLES).map(|role| (*role).to_owned()));
        roles.dedup();
    }
    let person = chance.percent(90).then(|| person_id(chance));
    super::oracle::Account { roles, facilities, person }
}
