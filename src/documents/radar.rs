//! The radar: which devices are silent, which hold unsent work, whose work waits in escrow, below which place (design §8).
//!
//! Reads each account and each database's device rows once, so that twenty thousand devices are looked at in a fraction of a
//! second. Never tells what a device holds.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::{Value, json};

use super::administration::Charge;
use super::databases::Database;
use super::devices::{DEVICES, DeviceKey, DeviceRow};
use super::filed::{Filed, filed_of};
use super::moves::devices;
use super::tables::DatabaseId;
use crate::access::placement::{Anchor, of_contact};
use crate::accounts::enrolments::{self, CONSOLE_APP, DeviceId, Enrolment, Kind, Wipe};
use crate::accounts::standing::{Judged, Standing, judge};
use crate::accounts::tables::{ACCOUNTS, AccountRow};
use crate::storage::{Family, Range, Read, StorageResult, hex};

/// Seconds of a day.
pub const DAY: u64 = 86_400;
/// Days without a call after which a roll-up counts a device as silent, unless asked otherwise.
pub const SILENT_DAYS: u64 = 7;

/// Which devices are asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Those of one account.
    pub account: Option<String>,
    /// Those of accounts that hold this place of the first of `databases`, or one below it.
    pub place: Option<String>,
    /// With one of these standings; empty: any.
    pub standings: Vec<Standing>,
    /// That came to be known in this way.
    pub kind: Option<Kind>,
    /// That have not called for more than so many days.
    pub silent_days: Option<u64>,
    /// That say they hold work they did not push.
    pub pending: bool,
    /// Whose work waits in escrow.
    pub escrowed: bool,
    /// That called after they said they were erased.
    pub alarm: bool,
    /// Whose order to erase is in this state: `asked` (a second person is needed), `ordered`, `reported`.
    pub wipe: Option<String>,
}

/// A device as the radar sees it.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// Which.
    pub device: DeviceId,
    /// What is known of it.
    pub row: Enrolment,
    /// What its newest credentials are worth.
    pub judged: Judged,
    /// What each scoped database knows of it, by name.
    pub databases: Vec<(Arc<Database>, DeviceRow)>,
    /// The places of its account.
    pub places: Vec<String>,
}

impl Sighting {
    /// Seconds since it last called.
    #[must_use]
    pub fn silence(&self, now: u64) -> u64 {
        now.saturating_sub(self.row.seen.max(self.row.pushed))
    }

    /// Documents it said it did not push yet. What it said before its last push is out of date.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.row.pending.filter(|pending| pending.told >= self.row.pushed).map_or(0, |pending| pending.documents)
    }

    /// Documents of it that wait for a decision.
    #[must_use]
    pub fn escrowed(&self) -> u64 {
        self.databases.iter().map(|(_, row)| row.escrowed).sum()
    }

    fn last_pull(&self) -> u64 {
        self.databases.iter().map(|(_, row)| row.pulled_at).max().unwrap_or_default()
    }

    fn is_wanted(&self, wanted: &Wanted, now: u64) -> bool {
        (wanted.standings.is_empty() || wanted.standings.contains(&self.judged.standing))
            && wanted.kind.is_none_or(|kind| kind == self.row.kind)
            && wanted.silent_days.is_none_or(|days| self.row.app != CONSOLE_APP && self.silence(now) > days * DAY)
            && !(wanted.pending && self.pending() == 0)
            && !(wanted.escrowed && self.escrowed() == 0)
            && !(wanted.alarm && self.row.alarm == 0)
            && wanted.wipe.as_deref().is_none_or(|state| self.row.wipe.as_ref().map(wipe_state) == Some(state))
    }

    /// What others may know of it: never what it holds.
    #[must_use]
    pub fn to_json(&self, now: u64) -> Value {
        let Judged { standing, withdrawal, push_until, evidence } = self.judged;
        let row = &self.row;
        // Of a plain database only the push is noted.
        let plain = row.databases.iter().map(|(name, pushed)| (name.as_str(), (0, *pushed, 0)));
        let mut databases: BTreeMap<&str, (u64, u64, u64)> = plain.collect();
        for (database, row) in &self.databases {
            let pushed = databases.get(database.name.as_str()).map_or(row.pushed_at, |known| known.1);
            databases.insert(&database.name, (row.pulled_at, pushed, row.escrowed));
        }
        let of_databases = databases.into_iter().map(|(name, (pulled, pushed, escrowed))| {
            json!({"database": name, "last_pull": pulled, "last_push": pushed, "escrowed": escrowed})
        });
        json!({
            "device": hex(&self.device),
            "account": row.account,
            "places": self.places,
            "kind": row.kind,
            "client": row.client,
            "name": row.name,
            "app": row.app,
            "enrolled": row.enrolled,
            "last_seen": row.seen,
            "last_push": row.pushed,
            "last_pull": self.last_pull(),
            "days_silent": self.silence(now) / DAY,
            "pending": row.pending,
            "escrowed": self.escrowed(),
            "databases": of_databases.collect::<Vec<_>>(),
            "standing": standing,
            "cause": withdrawal.map(|withdrawal| withdrawal.cause),
            "withdrawn_at": withdrawal.map(|withdrawal| withdrawal.at),
            "push_until": push_until,
            "evidence": evidence,
            "overridden_by": row.drained.as_ref().map(|drained| drained.by.as_slice()).filter(|by| !by.is_empty()),
            "wipe": row.wipe.as_ref().map(wipe_json),
            "alarm": (row.alarm > 0).then_some(row.alarm),
        })
    }
}

fn wipe_state(wipe: &Wipe) -> &'static str {
    match (wipe.ordered_at, wipe.reported_at) {
        (0, _) => "asked",
        (_, 0) => "ordered",
        _ => "reported",
    }
}

/// An order to erase, and how far it is. What a device reports proves nothing.
fn wipe_json(wipe: &Wipe) -> Value {
    let state = wipe_state(wipe);
    let mut view = serde_json::to_value(wipe).unwrap_or_default();
    view["state"] = state.into();
    view["evidence"] = if state == "reported" { "self_report".into() } else { Value::Null };
    view
}

/// Devices of the accounts in somebody's charge, in the order of their ids. `databases`: those whose figures are told, the one
/// of `place` first.
///
/// # Errors
/// When the store fails.
pub fn look(
    reader: &impl Read,
    databases: &[Arc<Database>],
    charge: &Charge,
    wanted: &Wanted,
    now: u64,
) -> StorageResult<Vec<Sighting>> {
    let mut accounts = accounts(reader, wanted.account.as_deref())?;
    let everybody = *charge == Charge::Everybody;
    if !everybody {
        let mut outside = Vec::new();
        for (name, account) in &accounts {
            if !charge.covers(reader, account)? {
                outside.push(name.clone());
            }
        }
        outside.iter().for_each(|name| drop(accounts.remove(name)));
    }
    let inside = match (&wanted.place, databases.first()) {
        (Some(place), Some(database)) => Some(holders(reader, database.id(), place, &accounts)?),
        (Some(_), None) => Some(HashSet::new()),
        (None, _) => None,
    };
    let mut known: HashMap<DeviceId, Vec<(Arc<Database>, DeviceRow)>> = HashMap::new();
    for database in databases.iter().filter(|database| database.row.scoped) {
        for (device, row) in devices(reader, database.id())? {
            known.entry(device).or_default().push((Arc::clone(database), row));
        }
    }
    let (nobody, mut sightings) = (AccountRow::default(), Vec::new());
    enrolments::list(reader, wanted.account.as_deref(), |device, row| {
        let out = inside.as_ref().is_some_and(|inside| !inside.contains(row.account.as_str()));
        if out || !(everybody || accounts.contains_key(&row.account)) {
            return;
        }
        let account = accounts.get(&row.account).unwrap_or(&nobody);
        let judged = judge(account, row.epoch, &row, now);
        let databases = known.remove(&device).unwrap_or_default();
        let sighting = Sighting { device, row, judged, databases, places: account.places.clone() };
        if sighting.is_wanted(wanted, now) {
            sightings.push(sighting);
        }
    })?;
    sightings.sort_unstable_by_key(|sighting| sighting.device);
    Ok(sightings)
}

/// One device.
///
/// # Errors
/// When the store fails.
pub fn sight(
    reader: &impl Read,
    databases: &[Arc<Database>],
    device: DeviceId,
    row: Enrolment,
    now: u64,
) -> StorageResult<Sighting> {
    let account = reader.get(&ACCOUNTS, &row.account)?.unwrap_or_default();
    let judged = judge(&account, row.epoch, &row, now);
    let mut known = Vec::new();
    for database in databases.iter().filter(|database| database.row.scoped) {
        if let Some(row) = reader.get(&DEVICES, &DeviceKey(database.id(), device))? {
            known.push((Arc::clone(database), row));
        }
    }
    Ok(Sighting { device, row, judged, databases: known, places: account.places })
}

fn accounts(reader: &impl Read, only: Option<&str>) -> StorageResult<HashMap<String, AccountRow>> {
    if let Some(name) = only {
        let row = reader.get(&ACCOUNTS, &name.to_owned())?;
        return Ok(row.map(|row| (name.to_owned(), row)).into_iter().collect());
    }
    let mut accounts = HashMap::new();
    reader.scan(Family::Accounts, &Range::prefix(b""), &mut |name, row| {
        accounts.insert(String::from_utf8_lossy(name).into_owned(), ACCOUNTS.decode(row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(accounts)
}

/// Accounts that hold a place or one below it.
fn holders<'a>(
    reader: &impl Read,
    database: DatabaseId,
    place: &str,
    accounts: &'a HashMap<String, AccountRow>,
) -> StorageResult<HashSet<&'a str>> {
    let (mut lines, anchor) = (Lines::new(database), of_contact(place));
    let mut inside = HashSet::new();
    for (name, account) in accounts {
        for id in &account.places {
            if lines.line(reader, id)?.contains(&anchor) {
                inside.insert(name.as_str());
            }
        }
    }
    Ok(inside)
}

/// Lines of places, each read once.
struct Lines {
    database: DatabaseId,
    known: HashMap<String, Vec<Anchor>>,
}

impl Lines {
    fn new(database: DatabaseId) -> Self {
        Self { database, known: HashMap::new() }
    }

    fn filed(&self, reader: &impl Read, id: &str) -> StorageResult<Option<Filed>> {
        filed_of(reader, self.database, id)
    }

    /// The place itself and what is above it, as far as that is stored.
    fn line(&mut self, reader: &impl Read, id: &str) -> StorageResult<&[Anchor]> {
        if !self.known.contains_key(id) {
            let line = self.filed(reader, id)?.map(|filed| filed.line).unwrap_or_default();
            let line = if line.is_empty() { vec![of_contact(id)] } else { line };
            self.known.insert(id.to_owned(), line);
        }
        Ok(self.known.get(id).map(Vec::as_slice).unwrap_or_default())
    }

    /// The id of a place in the line of another, found by climbing; `None` when it is only named, not stored.
    fn id_above(&self, reader: &impl Read, from: &str, wanted: &Anchor) -> StorageResult<Option<String>> {
        let mut id = from.to_owned();
        for _ in 0..u8::MAX {
            if of_contact(&id) == *wanted {
                return Ok(Some(id));
            }
            let filed = self.filed(reader, &id)?;
            let parents = filed.as_ref().and_then(Filed::contact).map(|contact| contact.parents.as_slice());
            let parents = parents.unwrap_or_default();
            if let Some(named) = parents.iter().find(|parent| of_contact(parent) == *wanted) {
                return Ok(Some(named.clone()));
            }
            let Some(parent) = parents.first() else { break };
            id.clone_from(parent);
        }
        Ok(None)
    }
}

/// Counts of devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// All of them.
    pub devices: u64,
    /// By standing.
    pub standings: BTreeMap<Standing, u64>,
    /// Active or draining, and not heard of for more than a number of days.
    pub silent: u64,
    /// That say they hold unsent work …
    pub pending: u64,
    /// … and how many documents that is.
    pub pending_documents: u64,
    /// Whose work waits in escrow …
    pub escrowed: u64,
    /// … and how many documents that is.
    pub escrowed_documents: u64,
    /// That called after they said they were erased.
    pub alarms: u64,
}

impl Figures {
    /// Counts a device; it is silent when it has not called for more than `silent_days`.
    pub fn add(&mut self, sighting: &Sighting, silent_days: u64, now: u64) {
        let (pending, escrowed) = (sighting.pending(), sighting.escrowed());
        self.devices += 1;
        *self.standings.entry(sighting.judged.standing).or_default() += 1;
        self.silent += u64::from(is_silent(sighting, silent_days, now));
        self.pending += u64::from(pending > 0);
        self.pending_documents += pending;
        self.escrowed += u64::from(escrowed > 0);
        self.escrowed_documents += escrowed;
        self.alarms += u64::from(sighting.row.alarm > 0);
    }

    /// As members of an object.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let standing = |standing| self.standings.get(&standing).copied().unwrap_or_default();
        json!({
            "devices": self.devices,
            "active": standing(Standing::Active),
            "draining": standing(Standing::Draining),
            "drained": standing(Standing::Drained),
            "retired": standing(Standing::Retired),
            "cut": standing(Standing::Cut),
            "silent": self.silent,
            "pending": self.pending,
            "pending_documents": self.pending_documents,
            "escrowed": self.escrowed,
            "escrowed_documents": self.escrowed_documents,
            "alarms": self.alarms,
        })
    }
}

/// Whether somebody should ask where a device is: it may still bring something, and has not called for so many days.
#[must_use]
pub fn is_silent(sighting: &Sighting, days: u64, now: u64) -> bool {
    let may_bring = matches!(sighting.judged.standing, Standing::Active | Standing::Draining);
    may_bring && sighting.row.app != CONSOLE_APP && sighting.silence(now) > days * DAY
}

/// Devices counted by the places right below `place` (without one: by the tops of the hierarchy) that their accounts' places
/// lie in. An account with places in several counts in each; `None` holds those without a place.
///
/// # Errors
/// When the store fails.
pub fn roll_up(
    reader: &impl Read,
    database: DatabaseId,
    place: Option<&str>,
    sightings: &[Sighting],
    silent_days: u64,
    now: u64,
) -> StorageResult<BTreeMap<Option<String>, Figures>> {
    let (mut lines, above) = (Lines::new(database), place.map(of_contact));
    let mut names: HashMap<Anchor, String> = HashMap::new();
    let mut groups: BTreeMap<Option<String>, Figures> = BTreeMap::new();
    for sighting in sightings {
        let mut into: HashSet<Option<String>> = HashSet::new();
        for id in &sighting.places {
            let line = lines.line(reader, id)?;
            let child = match above.map(|above| line.iter().position(|anchor| *anchor == above)) {
                None => line.last().copied(),
                Some(None) => continue,
                Some(Some(at)) => line.get(at.saturating_sub(1)).copied(),
            };
            let Some(child) = child else { continue };
            let name = match names.entry(child) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(lines.id_above(reader, id, &child)?.unwrap_or_else(|| hex(&child))),
            };
            into.insert(Some(name.clone()));
        }
        if into.is_empty() {
            into.insert(None);
        }
        for group in into {
            groups.entry(group).or_default().add(sighting, silent_days, now);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::enrolments::Pending;
    use crate::storage::{Memory, Store};

    /// A fleet of phones with seeded silences and unsent work: each is found, and no other.
    #[tokio::test]
    async fn the_radar_finds_exactly_those_that_are_asked_for() {
        const PHONES: u64 = 3_000;
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory { cache_bytes: 8 << 20, write_buffer_bytes: 8 << 20 };
        let store = Store::open(folder.path(), memory, || [7; 16]).expect("a store");
        let now = 1_000 * DAY;
        let row = move |number: u64| Enrolment {
            account: format!("chw{}", number % 1_000),
            epoch: 1 + number % 2,
            seen: now - (number * 7 % 40) * DAY,
            pending: number.is_multiple_of(11).then_some(Pending { documents: number, oldest: 0, told: now }),
            alarm: number / 2_999,
            ..Enrolment::default()
        };
        let device = |number: u64| enrolments::of_client(&format!("chw{}", number % 1_000), &number.to_string());
        let written = store.write(move |batch| -> StorageResult<()> {
            for number in 0..1_000 {
                let account = AccountRow { epoch: 2, credential: Some("hash".into()), ..AccountRow::default() };
                batch.put(&ACCOUNTS, &format!("chw{number}"), &account);
            }
            (0..PHONES).for_each(|number| enrolments::put(batch, device(number), &row(number)));
            Ok(())
        });
        written.await.expect("written");
        let found = |wanted: Wanted, is_it: &dyn Fn(u64) -> bool| {
            let found = look(&store.snapshot(), &[], &Charge::Everybody, &wanted, now).expect("looked");
            let found: HashSet<DeviceId> = found.into_iter().map(|sighting| sighting.device).collect();
            let expected: HashSet<DeviceId> = (0..PHONES).filter(|number| is_it(*number)).map(device).collect();
            assert!(!expected.is_empty() && found == expected, "{wanted:?}: {} of {}", found.len(), expected.len());
        };
        found(Wanted::default(), &|_| true);
        for days in [1, 7, 30] {
            let wanted = Wanted { silent_days: Some(days), ..Wanted::default() };
            found(wanted, &|number| number * 7 % 40 > days);
        }
        found(Wanted { pending: true, ..Wanted::default() }, &|number| number.is_multiple_of(11) && number > 0);
        found(Wanted { alarm: true, ..Wanted::default() }, &|number| number == 2_999);
        let retired = Wanted { standings: vec![Standing::Retired], ..Wanted::default() };
        found(retired, &|number| number.is_multiple_of(2));
        found(Wanted { account: Some("chw7".into()), ..Wanted::default() }, &|number| number % 1_000 == 7);
        let nobody = look(&store.snapshot(), &[], &Charge::Nobody, &Wanted::default(), now).expect("looked");
        assert!(nobody.is_empty(), "outside somebody's charge there is nothing");
    }

    fn sighting(row: Enrolment) -> Sighting {
        Sighting { device: [1; 16], row, judged: Judged::default(), databases: Vec::new(), places: Vec::new() }
    }

    #[test]
    fn what_was_pushed_since_is_no_longer_pending() {
        let told = |told| Some(Pending { documents: 3, oldest: 0, told });
        let device = |pushed, pending| sighting(Enrolment { pushed, pending, ..Enrolment::default() });
        assert_eq!(device(100, told(100)).pending(), 3);
        assert_eq!(device(101, told(100)).pending(), 0);
        assert_eq!(device(101, None).pending(), 0);
    }

    #[test]
    fn silence_counts_from_the_last_call_of_any_kind() {
        let device = sighting(Enrolment { seen: 10 * DAY, pushed: 12 * DAY, ..Enrolment::default() });
        let wanted = |days| Wanted { silent_days: Some(days), ..Wanted::default() };
        assert!(!device.is_wanted(&wanted(3), 15 * DAY));
        assert!(device.is_wanted(&wanted(3), 15 * DAY + 1));
        let cut = Sighting { judged: Judged { standing: Standing::Cut, ..Judged::default() }, ..device.clone() };
        assert!(is_silent(&device, 3, 16 * DAY) && !is_silent(&cut, 3, 16 * DAY), "nobody looks for a cut device");
    }
}
