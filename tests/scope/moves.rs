//! Moving places: a look ahead that changes nothing, and a move that stays when old edits arrive (S17).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::device::Device;
use super::operator::Operator;
use super::world::{World, plain_settings};
use super::{Outcome, list, text};

/// The household that the first worker holds and the second one is to get, with its people.
const HOUSEHOLD: [&str; 4] = ["hh-1", "pat-1", "pat-2", "pat-n"];

fn household() -> BTreeSet<String> {
    HOUSEHOLD.into_iter().map(str::to_owned).collect()
}

/// The database, a device that holds the household, and the neighbour's that does not.
fn village() -> Outcome<(World, Operator, Device, Device)> {
    let mut world = World::start();
    world.reset_accounts()?;
    let operator = world.database("medic", &plain_settings())?;
    let mut holder = world.device("chw1", "medic")?;
    let mut neighbour = world.device("chw2", "medic")?;
    holder.pull()?;
    neighbour.pull()?;
    Ok((world, operator, holder, neighbour))
}

#[test]
fn a_dry_run_tells_and_changes_nothing() -> Outcome<()> {
    let (_world, operator, mut holder, mut neighbour) = village()?;
    let before = (operator.winners()?, holder.listed()?, neighbour.listed()?);
    let path = "/_places/hh-1/move?dry_run=true";
    let answer = operator.send("POST", path, Some(&json!({"to": "area-2"})), &[200])?.json();
    assert_eq!(answer["dry_run"], json!(true), "{answer}");
    assert!(answer["documents"].as_u64().is_some_and(|count| count >= 1), "{answer}");
    let account = |name: &str| -> Value {
        let found = list(&answer["accounts"]).iter().find(|account| text(account, "name") == name);
        found.cloned().unwrap_or_default()
    };
    let (one, other) = (account("chw1"), account("chw2"));
    assert_eq!((one["loses"].as_u64(), one["gains"].as_u64()), (Some(4), Some(0)), "{answer}");
    assert_eq!((other["loses"].as_u64(), other["gains"].as_u64()), (Some(0), Some(4)), "{answer}");
    assert_eq!(list(&one["devices"]).len(), 1, "{answer}");
    assert!(one["devices"][0]["last_pull_seconds_ago"].is_u64(), "{answer}");
    assert_eq!((operator.winners()?, holder.listed()?, neighbour.listed()?), before);
    for device in [&mut holder, &mut neighbour] {
        let pulled = device.pull()?;
        let quiet = [&pulled.gained, &pulled.changed, &pulled.lost, &pulled.drop].iter().all(|ids| ids.is_empty());
        assert!(quiet, "{pulled:?}");
    }
    Ok(())
}

/// The edits know nothing of the move and win by their number; the household stays where it was put.
#[test]
fn edits_from_before_a_move_do_not_undo_it() -> Outcome<()> {
    let (_world, operator, mut holder, mut neighbour) = village()?;
    let mut old = operator.get("hh-1")?.ok_or("hh-1 is not stored")?;
    operator.move_place("hh-1", "area-2")?;
    old["name"] = json!("Household one, painted");
    for member in ["_rev", "_revisions"] {
        old.as_object_mut().ok_or("hh-1 is no object")?.remove(member);
    }
    let pushed = holder.push(&[old], &json!({"hh-1": 3}))?;
    assert_eq!(operator.winners()?.get("hh-1"), Some(&pushed[0].rev), "the longer branch wins");
    for id in HOUSEHOLD {
        assert!(neighbour.sees(id)? && !holder.sees(id)?, "{id} is with the neighbour");
    }
    assert_eq!(neighbour.pull()?.gained, household());
    assert_eq!(holder.pull()?.lost, household());
    Ok(())
}

/// The winner knows nothing of the first move, and the second one is made on top of it.
#[test]
fn a_second_move_counts_after_such_an_edit() -> Outcome<()> {
    let (_world, operator, mut holder, mut neighbour) = village()?;
    let mut old = operator.get("hh-1")?.ok_or("hh-1 is not stored")?;
    operator.move_place("hh-1", "area-2")?;
    for member in ["_rev", "_revisions"] {
        old.as_object_mut().ok_or("hh-1 is no object")?.remove(member);
    }
    holder.push(&[old], &json!({"hh-1": 3}))?;
    assert_eq!(neighbour.pull()?.gained, household());
    operator.move_place("hh-1", "area-1")?;
    for id in HOUSEHOLD {
        assert!(holder.sees(id)? && !neighbour.sees(id)?, "{id} is back");
    }
    assert_eq!(neighbour.pull()?.lost, household());
    Ok(())
}

/// An edit that has seen the move may put the place elsewhere again.
#[test]
fn an_edit_that_knows_a_move_may_undo_it() -> Outcome<()> {
    let (_world, operator, mut holder, mut neighbour) = village()?;
    let old = operator.get("hh-1")?.ok_or("hh-1 is not stored")?;
    operator.move_place("hh-1", "area-2")?;
    assert_eq!(holder.pull()?.lost, household());
    let mut back = operator.get("hh-1")?.ok_or("hh-1 is not stored")?;
    back["parent"] = old["parent"].clone();
    operator.put(&back)?;
    assert_eq!(holder.pull()?.gained, household());
    assert!(neighbour.pull()?.gained.is_empty());
    for id in HOUSEHOLD {
        assert!(holder.sees(id)? && !neighbour.sees(id)?, "{id} is back");
    }
    Ok(())
}
