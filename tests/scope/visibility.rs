//! `tests/acceptance/visibility.json`: every case in fresh databases of one server.
//!
//! What is visible is looked for in the feed and read by id in every way there is; all of it must agree. What is refused
//! must be in escrow and nowhere else.

use serde_json::{Map, Value};

use super::device::{Device, Pushed};
use super::operator::Operator;
use super::world::{World, acceptance};
use super::{Outcome, compare, is_wanted, list, text};

/// One case with its document in full.
struct Case<'a> {
    number: u64,
    user: &'a str,
    account: Map<String, Value>,
    settings: &'a Value,
    document: Value,
    /// The document is one of the world.
    stored: bool,
    expect: &'a Value,
}

impl<'a> Case<'a> {
    fn read(case: &'a Value, world: &World) -> Outcome<Self> {
        let mut account = Map::new();
        for field in ["roles", "facility_id"] {
            if let Some(value) = case.get(field) {
                account.insert(field.to_owned(), value.clone());
            }
        }
        let stored = case["document"]["stored"].as_str();
        let document = match stored {
            Some(id) => world.documents.iter().find(|document| text(document, "_id") == id),
            None => Some(&case["document"]),
        };
        Ok(Self {
            number: case["id"].as_u64().ok_or("the case has no number")?,
            user: text(case, "user"),
            account,
            settings: &case["settings"],
            document: document.ok_or("the document is not in the world")?.clone(),
            stored: stored.is_some(),
            expect: &case["expect"],
        })
    }

    fn id(&self) -> &str {
        text(&self.document, "_id")
    }
}

#[test]
fn every_case_of_visibility() {
    let data = acceptance("visibility.json");
    let mut world = World::start();
    let cases = list(&data["cases"]);
    let wanted: Vec<&Value> = cases.iter().filter(|case| is_wanted(&case["id"].to_string())).collect();
    let mut failures = Vec::new();
    for data in &wanted {
        let outcome = Case::read(data, &world).and_then(|case| run(&case, &mut world));
        let differences = outcome.unwrap_or_else(|error| vec![error]);
        if !differences.is_empty() {
            failures.push(format!("{} {}\n    {}", data["id"], text(data, "title"), differences.join("\n    ")));
        }
    }
    assert!(!world.server.log().contains("panicked"), "{}", world.server.log());
    let count = failures.len();
    assert!(count == 0, "{count} of {} cases failed\n\n{}\n", wanted.len(), failures.join("\n"));
}

/// Everything that differs from what the case expects.
fn run(case: &Case<'_>, world: &mut World) -> Outcome<Vec<String>> {
    world.account(case.user, &case.account)?;
    let mut differences = Vec::new();
    let name = format!("medic{}", case.number);
    if let Some(create) = case.expect["create"].as_bool() {
        created(case, world, &format!("{name}c"), create, &mut differences)?;
    }
    let operator = world.database(&name, case.settings)?;
    if !case.stored {
        operator.put(&case.document)?;
    }
    let mut device = world.device(case.user, &name)?;
    if let Some(visible) = case.expect["visible"].as_bool() {
        seen(case, &mut device, "visible", visible, &mut differences)?;
    }
    if let Some(update) = case.expect["update"].as_bool() {
        updated(case, &operator, &mut device, update, &mut differences)?;
    }
    operator.remove()?;
    Ok(differences)
}

/// The feed, the listing and every way of reading by id say the same.
fn seen(case: &Case<'_>, device: &mut Device, what: &str, visible: bool, into: &mut Vec<String>) -> Outcome<()> {
    let pulled = device.pull()?;
    compare(into, &format!("{what}, in the feed"), &visible, &pulled.named.contains(case.id()));
    compare(into, &format!("{what}, in the listing"), &visible, &device.listed()?.contains_key(case.id()));
    compare(into, &format!("{what}, by id"), &visible, &device.sees(case.id())?);
    let fresh = pulled.gained.contains(case.id());
    compare(into, &format!("{what}, gained by the first pull"), &visible, &fresh);
    Ok(())
}

/// Pushed by the user while only the world is stored.
fn created(case: &Case<'_>, world: &World, name: &str, create: bool, into: &mut Vec<String>) -> Outcome<()> {
    let operator = world.database(name, case.settings)?;
    let before = operator.get(case.id())?;
    let mut device = world.device(case.user, name)?;
    let (body, pushed) = device.edit(&case.document, None, 1);
    device.push_bodies(&[body])?;
    judge(&operator, case.user, &pushed, "create", create, into)?;
    if !create {
        compare(into, "create, stored", &before, &operator.get(case.id())?);
        compare(into, "create, read by the sender", &false, &(before.is_none() && device.sees(case.id())?));
    } else if let Some(visible) = case.expect["visible"].as_bool() {
        compare(into, "create, read by the sender", &visible, &device.sees(case.id())?);
    }
    operator.remove()
}

/// The same body as the next revision of the stored document.
fn updated(
    case: &Case<'_>,
    operator: &Operator,
    device: &mut Device,
    update: bool,
    into: &mut Vec<String>,
) -> Outcome<()> {
    let stored = operator.get(case.id())?.ok_or("the document is not stored")?;
    let (body, pushed) = device.edit(&case.document, Some(text(&stored, "_rev")), 1);
    device.push_bodies(&[body])?;
    judge(operator, case.user, &pushed, "update", update, into)?;
    let now = operator.get(case.id())?.ok_or("the document is gone")?;
    let winner = if update { pushed.rev.as_str() } else { text(&stored, "_rev") };
    compare(into, "update, the winner", &winner, &text(&now, "_rev"));
    if let Some(visible) = case.expect["visible"].as_bool() {
        compare(into, "update, read afterwards", &visible, &device.sees(case.id())?);
    }
    Ok(())
}

/// A pushed revision is stored as a leaf, or it is in escrow: never both, never neither.
fn judge(
    operator: &Operator,
    user: &str,
    pushed: &Pushed,
    what: &str,
    accepted: bool,
    into: &mut Vec<String>,
) -> Outcome<()> {
    let stored = operator.leaves(&pushed.id)?.contains(&pushed.rev);
    compare(into, &format!("{what}, accepted"), &accepted, &stored);
    let kept = operator.escrow()?;
    let kept: Vec<(&str, &str)> = kept
        .iter()
        .filter(|row| row.rev == pushed.rev && row.account == user)
        .map(|row| (row.id.as_str(), row.reason.as_str()))
        .collect();
    compare(into, &format!("{what}, rows in escrow"), &usize::from(!accepted), &kept.len());
    for (id, reason) in kept {
        compare(into, &format!("{what}, id in escrow"), &pushed.id.as_str(), &id);
        if !["unknown_subject", "reserved", "out_of_scope"].contains(&reason) {
            into.push(format!("{what}: {reason:?} is no reason"));
        }
    }
    Ok(())
}
