//! What an account could see at a time, and how that came about: told from the audit log alone, because nothing in it can be
//! altered unnoticed, and because it goes back further than any row that is kept for present use.
//!
//! It tells places, depths, grants, roles, state and devices. It cannot tell which documents lay below a place at that time:
//! documents move by ordinary writes, and the log holds no document.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use serde_json::{Map, Value, json};

use super::scopes::{SETTINGS_ACTION, STEWARD};
use crate::access::scope::{Member, Scope, ScopeSettings};
use crate::accounts::security::Security;
use crate::audit::{self, Entry, Stored};
use crate::storage::{Read, StorageResult};

/// Changes that are listed, the newest ones.
const MOST_CHANGES: usize = 500;
/// Kinds of entries that say what an account may see, and with what.
const KINDS: [&str; 4] = ["account", "device", "grant", "place"];
/// What an account can log in with, in the words of the API.
const ACTIVE: &str = "active";
/// What waits for its person, in the same words.
const PREPARED: &str = "prepared";

/// A place that was lent to it.
#[derive(Debug, Clone)]
struct Lent {
    place: String,
    database: String,
    from: u64,
    until: u64,
    revoked_at: Option<u64>,
    told: Value,
}

#[derive(Debug, Clone, Default)]
struct Device {
    enrolled: u64,
    ended: Option<(&'static str, u64)>,
}

/// A database, as far as it decides what an account sees.
#[derive(Debug, Clone, Default)]
struct Opened {
    scoped: bool,
    security: Security,
    settings: ScopeSettings,
}

/// The account and the databases at one moment of the log.
#[derive(Debug, Default)]
struct Moment {
    exists: bool,
    state: &'static str,
    /// Nobody has activated it yet.
    prepared: bool,
    epoch: u64,
    roles: Vec<String>,
    places: Vec<String>,
    contact: Option<String>,
    lent: BTreeMap<String, Lent>,
    devices: BTreeMap<String, Device>,
    databases: BTreeMap<String, Opened>,
}

/// What to tell.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Of which account.
    pub account: &'a str,
    /// At which time, in seconds since 1970.
    pub at: u64,
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn text(details: &Map<String, Value>, name: &str) -> String {
    details.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Moment {
    /// Lets an entry about a database count.
    fn note_database(&mut self, entry: &Entry) {
        let Some(name) = &entry.database else { return };
        let details = &entry.details;
        match entry.action.as_str() {
            "database.create" => {
                let scoped = details.get("scoped") == Some(&json!(true));
                self.databases.insert(name.clone(), Opened { scoped, ..Opened::default() });
            }
            "database.delete" => drop(self.databases.remove(name)),
            "database.security" => {
                let text = |group: &str| match details.get(group) {
                    Some(group @ Value::Object(_)) => group.clone(),
                    _ => json!({}),
                };
                let told = json!({"admins": text("admins"), "members": text("members")});
                if let Ok(security) = Security::parse(&told.to_string()) {
                    self.databases.entry(name.clone()).or_default().security = security;
                }
            }
            SETTINGS_ACTION => {
                let settings = details.get("settings").cloned().unwrap_or_default();
                let opened = self.databases.entry(name.clone()).or_default();
                (opened.scoped, opened.settings) = (true, serde_json::from_value(settings).unwrap_or_default());
            }
            _ => {}
        }
    }

    /// Lets an entry about the account count.
    fn note_account(&mut self, entry: &Entry) {
        let details = &entry.details;
        match entry.action.as_str() {
            action @ ("account.create" | "account.change") => {
                if action == "account.create" {
                    (self.state, self.prepared) = (ACTIVE, false);
                }
                self.exists = true;
                self.roles = texts(details.get("roles"));
                self.places = texts(details.get("places"));
                self.contact = details.get("contact").and_then(Value::as_str).map(str::to_owned);
            }
            "account.delete" => {
                (self.exists, self.roles, self.places, self.contact) = (false, Vec::new(), Vec::new(), None);
            }
            "account.prepare" => self.prepared = true,
            "account.activate" => self.prepared = false,
            "account.enable" => self.state = ACTIVE,
            "account.disable" => self.state = "disabled",
            "account.retire" => self.state = "retired",
            "account.epoch" => {
                self.epoch = details.get("epoch").and_then(Value::as_u64).unwrap_or(self.epoch);
                // Whoever cuts an account closes it, too.
                if details.get("cause") == Some(&json!("lost")) && self.state == ACTIVE {
                    self.state = "disabled";
                }
            }
            "grant.make" => {
                let number = |name: &str| details.get(name).and_then(Value::as_u64).unwrap_or_default();
                let lent = Lent {
                    place: entry.place.clone().unwrap_or_default(),
                    database: entry.database.clone().unwrap_or_default(),
                    from: number("from"),
                    until: number("until"),
                    revoked_at: None,
                    told: Value::Object(details.clone()),
                };
                self.lent.insert(text(details, "grant"), lent);
            }
            "grant.revoke" => {
                if let Some(lent) = self.lent.get_mut(&text(details, "grant")) {
                    lent.revoked_at = Some(entry.time);
                }
            }
            _ => self.note_device(entry),
        }
    }

    fn note_device(&mut self, entry: &Entry) {
        let Some(device) = &entry.device else { return };
        match entry.action.as_str() {
            "device.enrol" => self.devices.entry(device.clone()).or_default().enrolled = entry.time,
            "device.retire" => self.devices.entry(device.clone()).or_default().ended = Some(("retired", entry.time)),
            "device.cut" => self.devices.entry(device.clone()).or_default().ended = Some(("cut", entry.time)),
            _ => {}
        }
    }

    fn state_word(&self) -> &'static str {
        if self.prepared && self.state == ACTIVE { PREPARED } else { self.state }
    }

    /// What it saw of one database; nothing for one that it could not open.
    fn of_database(&self, account: &str, name: &str, opened: &Opened) -> Option<Value> {
        if !opened.security.is_member(Some(account), &self.roles) {
            return None;
        }
        let (depth, report_depth, primary) = opened.settings.depth_of(&self.roles);
        let member = Member { roles: self.roles.clone(), ..Member::default() };
        let scope = Scope::of(account, &member, &opened.settings);
        let logs_in = self.exists && self.state_word() == ACTIVE;
        let sees = match opened.scoped {
            _ if !logs_in => "nothing",
            false => "everything",
            true if self.roles.iter().any(|role| role == STEWARD) => "everything",
            true if scope.blind => "nothing",
            true => "places",
        };
        if sees != "places" {
            return Some(json!({"database": name, "scoped": opened.scoped, "sees": sees}));
        }
        Some(json!({
            "database": name, "scoped": true, "sees": sees, "depth": depth, "report_depth": report_depth,
            "primary_contacts": primary, "unassigned": scope.unassigned, "may_edit": scope.can_edit,
        }))
    }

    fn lent_at(&self, at: u64) -> impl Iterator<Item = (&String, &Lent)> {
        self.lent.iter().filter(move |(_, lent)| {
            lent.from <= at && at < lent.until && lent.revoked_at.is_none_or(|revoked| at < revoked)
        })
    }
}

impl Device {
    fn to_json(&self, id: &str) -> Value {
        let (state, since) = self.ended.unwrap_or((ACTIVE, self.enrolled));
        json!({"device": id, "enrolled": self.enrolled, "state": state, "since": since})
    }
}

/// What an account could see at a time, and every change of that, before and after. `covers` says which places may be told;
/// `None`: the log knows no such account.
///
/// # Errors
/// When the store fails, or `covers` does.
pub fn reach_at(
    reader: &impl Read,
    asked: Asked<'_>,
    mut covers: impl FnMut(&str) -> StorageResult<bool>,
) -> StorageResult<Option<Value>> {
    let Asked { account, at } = asked;
    let about = format!("\"account\":{}", Value::from(account));
    let wanted = |stored: &Stored<'_>| {
        let kinds = ["\"action\":\"database.", "\"action\":\"scope."];
        stored.mentions(about.as_bytes()) || kinds.iter().any(|kind| stored.mentions(kind.as_bytes()))
    };
    let (mut moment, mut known_since) = (Moment { state: ACTIVE, ..Moment::default() }, None);
    let (mut changes, mut more) = (VecDeque::new(), false);
    audit::read_stored(reader, 1, |stored| {
        if !wanted(stored) {
            return Ok(ControlFlow::Continue(()));
        }
        let entry = stored.entry()?;
        let counts = entry.time <= at;
        if counts {
            moment.note_database(&entry);
        }
        if entry.account.as_deref() != Some(account)
            || !KINDS.contains(&entry.action.split('.').next().unwrap_or_default())
        {
            return Ok(ControlFlow::Continue(()));
        }
        known_since.get_or_insert(entry.time);
        if counts {
            moment.note_account(&entry);
        }
        if let Some(told) = told(stored.head.number, entry, &mut covers)? {
            changes.push_back(told);
            more |= changes.len() > MOST_CHANGES && changes.pop_front().is_some();
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let Some(known_since) = known_since else { return Ok(None) };
    let mut places = Vec::new();
    for place in &moment.places {
        places.extend(covers(place)?.then_some(place.as_str()));
    }
    let mut grants = Vec::new();
    for (id, lent) in moment.lent_at(at) {
        if covers(&lent.place)? {
            let mut told = lent.told.clone();
            told["grant"] = id.as_str().into();
            told["place"] = lent.place.as_str().into();
            told["database"] = lent.database.as_str().into();
            grants.push(told);
        }
    }
    let databases = moment.databases.iter().filter_map(|(name, opened)| moment.of_database(account, name, opened));
    Ok(Some(json!({
        "account": account,
        "at": at,
        "known_since": known_since,
        "exists": moment.exists,
        "state": moment.exists.then_some(moment.state_word()),
        "epoch": moment.epoch,
        "roles": moment.roles,
        "places": places,
        "contact": moment.contact,
        "databases": databases.collect::<Vec<_>>(),
        "grants": grants,
        "devices": moment.devices.iter().map(|(id, device)| device.to_json(id)).collect::<Vec<_>>(),
        "changes": changes,
        "earlier_changes": more,
    })))
}

/// A change as it is listed, without places that may not be told; `None`: it is about one of those.
fn told(
    number: u64,
    mut entry: Entry,
    covers: &mut impl FnMut(&str) -> StorageResult<bool>,
) -> StorageResult<Option<Value>> {
    if let Some(place) = &entry.place
        && !covers(place)?
    {
        return Ok(None);
    }
    if entry.details.contains_key("places") {
        let mut places = Vec::new();
        for place in texts(entry.details.get("places")) {
            if covers(&place)? {
                places.push(place);
            }
        }
        entry.details.insert("places".to_owned(), places.into());
    }
    entry.account = None;
    let mut value = serde_json::to_value(&entry).unwrap_or_default();
    value["number"] = number.into();
    Ok(Some(value))
}
