//! Custody: which contact and account held a place, from when to when (design §8); and whether a revision arrived after
//! its author had handed the place over.
//!
//! A history begins when an account gets a place, or when a place is handed over; an ordinary write that names another
//! primary contact continues one and never begins one, since households have primary contacts, too. Where a contact was
//! before it moved is noted here as well, so that "who cared for this household on that day" follows the household.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use settle_protocol::sequence::Position;

use super::tables::{DATABASES, DOCUMENTS, DatabaseId, DocumentKey, short_hash};
use super::write::{Write, Writing};
use crate::access::facts::Facts;
use crate::access::placement::{Anchor, Placement, Way, of_contact};
use crate::accounts::standing::Standing;
use crate::accounts::tables::{ACCOUNTS, AccountRow};
use crate::accounts::withdrawals::Actor;
use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, from_json_row, hex, json_row, unhex};

const HOLDING: u8 = b'h';
const GAVE_AWAY: u8 = b'a';
const MOVED: u8 = b'm';
const CORRUPT: StorageError = StorageError::Corrupt { table: "custody", problem: "malformed row" };

/// How a holding began or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It was so before anything was noted.
    #[default]
    Known,
    /// An account got or lost the place.
    Account,
    /// A document of the place names another primary contact.
    Write,
    /// Somebody else took over, with an account and a contact of their own.
    Replace,
    /// Somebody else has the same account and contact.
    Rename,
    /// Somebody else has the same phone and account.
    HandOver,
}

/// Who held a place. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Holding {
    /// The place.
    pub place: String,
    /// The contact; `null`: not known.
    pub contact: Option<String>,
    /// The contact's name at the time, where it was known.
    pub person: Option<String>,
    /// The account; `null`: not known.
    pub account: Option<String>,
    /// The account's epoch from which on it was this person's.
    pub epoch: u64,
    /// Since when; 0: since before anything was noted.
    pub from: u64,
    /// Until when; `null`: still.
    pub until: Option<u64>,
    /// How it began.
    pub how: How,
    /// Who brought it about.
    pub by: String,
    /// How it ended.
    pub ended_how: Option<How>,
    /// Who brought the end about.
    pub ended_by: Option<String>,
    /// It was taken back: whoever held the place before never ceased to.
    #[serde(default)]
    pub undone: bool,
    /// What has to be known to take it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
}

/// What a replacement changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Replaced {
    /// The former primary contact.
    pub contact: Option<String>,
    /// The place's member `contact` before, as JSON text.
    pub member: Option<String>,
    /// The place's name before and after, as JSON text, if it was renamed.
    pub name: Option<(Option<String>, String)>,
    /// The revision of the newcomer's contact, if it was made for this.
    pub made: Option<String>,
    /// The accounts that were retired.
    pub retired: Vec<String>,
}

fn holdings_of(database: DatabaseId, place: &Anchor) -> Vec<u8> {
    [&database.to_be_bytes()[..], &[HOLDING], place].concat()
}

fn gave_away_key(database: DatabaseId, account: &str) -> Vec<u8> {
    [&database.to_be_bytes()[..], &[GAVE_AWAY], &short_hash("a", account.as_bytes())].concat()
}

fn read<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> StorageResult<T> {
    from_json_row(bytes).ok_or(CORRUPT)
}

fn put<T: Serialize>(batch: &mut Batch<'_>, key: Vec<u8>, value: &T) {
    batch.put_bytes(Family::Custody, key, json_row(value));
}

fn put_holding(batch: &mut Batch<'_>, database: DatabaseId, number: u64, holding: &Holding) {
    let key = [holdings_of(database, &of_contact(&holding.place)), number.to_be_bytes().to_vec()].concat();
    put(batch, key, holding);
}

/// The history of a place, oldest first, with the number of each holding.
///
/// # Errors
/// When the store fails.
pub fn history(reader: &impl Read, database: DatabaseId, place: &Anchor) -> StorageResult<Vec<(u64, Holding)>> {
    let mut holdings = Vec::new();
    reader.scan(Family::Custody, &Range::prefix(&holdings_of(database, place)), &mut |key, row| {
        let number = key.last_chunk().copied().map(u64::from_be_bytes).ok_or(CORRUPT)?;
        holdings.push((number, read(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(holdings)
}

/// Who held a place at a time.
#[must_use]
pub fn holder_at(history: &[(u64, Holding)], at: u64) -> Option<&Holding> {
    let held =
        |holding: &&Holding| !holding.undone && holding.from <= at && holding.until.is_none_or(|until| at < until);
    history.iter().rev().map(|(_, holding)| holding).find(held)
}

/// The holding that goes on.
///
/// # Errors
/// When the store fails.
pub fn present(reader: &impl Read, database: DatabaseId, place: &str) -> StorageResult<Option<(u64, Holding)>> {
    let history = history(reader, database, &of_contact(place))?;
    Ok(history.into_iter().rev().find(|(_, holding)| !holding.undone && holding.until.is_none()))
}

fn next_number(reader: &impl Read, database: DatabaseId, place: &str) -> StorageResult<u64> {
    Ok(history(reader, database, &of_contact(place))?.last().map_or(1, |(number, _)| number + 1))
}

fn end(batch: &mut Batch<'_>, database: DatabaseId, number: u64, holding: Holding, how: How, actor: &Actor) {
    if let Some(account) = &holding.account {
        batch.put_bytes(Family::Custody, gave_away_key(database, account), Vec::new());
    }
    let ended = Holding { until: Some(actor.now), ended_how: Some(how), ended_by: Some(actor.name.clone()), ..holding };
    put_holding(batch, database, number, &ended);
}

/// Passes a place on: whoever holds it ceases to, `next` begins. What other parts of the same batch noted about this very
/// change gives way to it. `person`: the name of whoever ceases to, if that is not noted yet.
///
/// # Errors
/// When the store fails.
pub fn pass_on(
    batch: &mut Batch<'_>,
    database: DatabaseId,
    next: Holding,
    person: Option<String>,
    actor: &Actor,
) -> StorageResult<()> {
    let mut history = history(batch, database, &of_contact(&next.place))?;
    let incidental = |holding: &Holding| {
        let noted = matches!(holding.how, How::Account | How::Write) && next.how != How::Rename;
        let same_account = holding.account.is_none() || holding.account == next.account;
        let begun = holding.from == actor.now && holding.until.is_none() && holding.contact == next.contact;
        begun && noted && same_account
    };
    let begun = history.last().is_some_and(|(_, holding)| incidental(holding)).then(|| history.pop()).flatten();
    let number = match begun {
        Some((number, _)) => number,
        None => history.last().map_or(1, |(number, _)| number + 1),
    };
    let ceases = |holding: &Holding| match (holding.until, holding.ended_how) {
        (None, _) => !holding.undone,
        (Some(until), how) => until == actor.now && matches!(how, Some(How::Account | How::Write)),
    };
    if let Some((number, mut last)) = history.into_iter().rev().find(|(_, holding)| ceases(holding)) {
        last.person = last.person.or(person);
        end(batch, database, number, last, next.how, actor);
    }
    put_holding(batch, database, number, &next);
    Ok(())
}

/// Notes who holds a place as far as is known, if nothing is noted about it yet.
///
/// # Errors
/// When the store fails.
pub fn ensure(batch: &mut Batch<'_>, database: DatabaseId, known: &Holding) -> StorageResult<()> {
    if next_number(batch, database, &known.place)? == 1 {
        put_holding(batch, database, 1, known);
    }
    Ok(())
}

/// Takes the newest holding back: the one before it goes on as if it had never ended.
///
/// # Errors
/// When the store fails.
pub fn take_back(
    batch: &mut Batch<'_>,
    database: DatabaseId,
    number: u64,
    holding: Holding,
    actor: &Actor,
) -> StorageResult<()> {
    let (place, began) = (holding.place.clone(), holding.from);
    let undone = Holding { undone: true, ..holding };
    end(batch, database, number, undone, How::Replace, actor);
    let before = history(batch, database, &of_contact(&place))?;
    let before = before.into_iter().rev().find(|(known, before)| *known < number && !before.undone);
    if let Some((number, before)) = before.filter(|(_, before)| before.until == Some(began)) {
        let again = Holding { until: None, ended_how: None, ended_by: None, ..before };
        put_holding(batch, database, number, &again);
    }
    Ok(())
}

/// An account changed: places that it got begin to be held by it if nobody holds them, those that it lost cease to be.
///
/// # Errors
/// When the store fails.
pub fn note_account(
    batch: &mut Batch<'_>,
    account: &str,
    before: &AccountRow,
    now: &AccountRow,
    actor: &Actor,
) -> StorageResult<()> {
    if before.places == now.places && before.contact == now.contact {
        return Ok(());
    }
    let mut scoped = Vec::new();
    batch.scan(Family::Databases, &Range::prefix(b""), &mut |_, row| {
        let row = DATABASES.decode(row)?;
        scoped.extend(row.scoped.then_some(row.id));
        Ok(ControlFlow::Continue(()))
    })?;
    for database in scoped {
        let lost = before.places.iter().filter(|place| !now.places.contains(place) || before.contact != now.contact);
        for place in lost {
            if let Some((number, holding)) = present(batch, database, place)?
                && holding.account.as_deref() == Some(account)
            {
                end(batch, database, number, holding, How::Account, actor);
            }
        }
        for place in &now.places {
            let key = DocumentKey { database, id: place.clone() };
            let stored = batch.get_bytes(DOCUMENTS.family(), &DOCUMENTS.key(&key))?.is_some();
            if !stored || present(batch, database, place)?.is_some() {
                continue;
            }
            let holding = Holding {
                place: place.clone(),
                contact: now.contact.clone(),
                account: Some(account.to_owned()),
                epoch: now.epoch,
                from: actor.now,
                how: How::Account,
                by: actor.name.clone(),
                ..Holding::default()
            };
            let number = next_number(batch, database, place)?;
            put_holding(batch, database, number, &holding);
        }
    }
    Ok(())
}

/// Where a contact was until it moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// Itself and its ancestors then, as hex digits of anchors.
    line: Vec<String>,
    /// The parent that it left.
    pub from: Option<String>,
    /// The parent that it came to.
    pub to: Option<String>,
}

/// The moves of a contact after a time, oldest first, each with its time.
fn moves_after(reader: &impl Read, database: DatabaseId, contact: &Anchor, at: u64) -> StorageResult<Vec<(u64, Stay)>> {
    let prefix = [&database.to_be_bytes()[..], &[MOVED], contact].concat();
    let from = [&prefix[..], &at.saturating_add(1).to_be_bytes()].concat();
    let mut moves = Vec::new();
    reader.scan(Family::Custody, &Range::between(from, [&prefix[..], &[0xff; 17]].concat()), &mut |key, row| {
        let time = key.get(prefix.len()..prefix.len() + 8).and_then(|time| time.try_into().ok());
        moves.push((time.map(u64::from_be_bytes).ok_or(CORRUPT)?, read(row)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(moves)
}

/// What is known about who held a document's place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Custody {
    /// The nearest place above it with a history, and that history.
    pub history: Vec<(u64, Holding)>,
    /// Moves of what it belongs to, nearest first: when, and from where to where.
    pub moves: Vec<(u64, Stay)>,
}

/// Who held the place that a document belonged to at a time.
///
/// # Errors
/// When the store fails.
pub fn custody_of(reader: &impl Read, database: DatabaseId, placement: &Placement, at: u64) -> StorageResult<Custody> {
    let shown = |way| matches!(way, Way::Contact | Way::Record);
    let mut entries: Vec<_> =
        placement.entries.iter().filter(|entry| entry.left.is_none() && shown(entry.way)).collect();
    entries.sort_by_key(|entry| entry.depth);
    let mut line: Vec<Anchor> = entries.iter().map(|entry| entry.anchor).collect();
    let mut custody = Custody::default();
    for anchor in &line {
        custody.moves.extend(moves_after(reader, database, anchor, 0)?);
    }
    let mut step = 0;
    while step < line.len() {
        // Of what moved since, the first move says where it was.
        if let Some((_, stay)) = moves_after(reader, database, &line[step], at)?.into_iter().next() {
            line.truncate(step + 1);
            line.extend(stay.line.iter().skip(1).filter_map(|anchor| unhex::<16>(anchor)));
        }
        custody.history = history(reader, database, &line[step])?;
        if !custody.history.is_empty() {
            break;
        }
        step += 1;
    }
    Ok(custody)
}

/// How a revision arrived: what the credentials behind it were worth, and whether its author had handed the place over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Arrival {
    /// The epoch of the credentials; 0: not known, or an operator's.
    pub epoch: u64,
    /// What they were worth.
    pub standing: Standing,
    /// The account held a place that the document belongs to, and no longer does; or another person has the account now.
    pub after_handover: bool,
}

impl Writing<'_, '_> {
    /// A place names another primary contact: its history goes on with it, if it has one.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn note_primary(&mut self, place: &str, contact: Option<&str>) -> StorageResult<()> {
        let Some((number, holding)) = present(self.batch, self.id, place)? else { return Ok(()) };
        if holding.contact.as_deref() == contact {
            return Ok(());
        }
        let actor = Actor { name: self.author.account.clone(), now: self.author.now, reason: None };
        let following = next_number(self.batch, self.id, place)?;
        end(self.batch, self.id, number, holding, How::Write, &actor);
        if let Some(contact) = contact {
            let next = Holding {
                place: place.to_owned(),
                contact: Some(contact.to_owned()),
                from: actor.now,
                how: How::Write,
                by: actor.name,
                ..Holding::default()
            };
            put_holding(self.batch, self.id, following, &next);
        }
        Ok(())
    }

    /// A contact has another parent.
    pub(super) fn note_line(&mut self, id: &str, before: &[Anchor], from: Option<&String>, to: Option<&String>) {
        let (time, position): (u64, Position) = (self.author.now, self.counters.position);
        if before.is_empty() || time == 0 {
            return; // it was not stored, or nobody knows when
        }
        let key = [&self.id.to_be_bytes()[..], &[MOVED], &of_contact(id), &time.to_be_bytes(), &position.to_be_bytes()];
        let line = before.iter().map(|anchor| hex(anchor)).collect();
        put(self.batch, key.concat(), &Stay { line, from: from.cloned(), to: to.cloned() });
    }

    /// How a revision that is about to be written arrives.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn arrival(&mut self, write: &Write) -> StorageResult<Arrival> {
        // What comes out of escrow has an author without credentials: how it once arrived is not known any more.
        let pass = self.author.pass.as_ref();
        let epoch = pass.map_or(0, |pass| pass.epoch);
        let standing = pass.map_or(Standing::Active, |_| self.standing);
        let mut arrival = Arrival { epoch, standing, after_handover: false };
        let account = &self.author.account;
        if account.is_empty() {
            return Ok(arrival);
        }
        let gave_away = match &self.gave_away {
            Some((known, gave_away)) if known == account => *gave_away,
            _ => {
                let found = self.batch.get_bytes(Family::Custody, &gave_away_key(self.id, account))?.is_some();
                self.gave_away.insert((account.clone(), found)).1
            }
        };
        if gave_away {
            arrival.after_handover = self.is_after_handover(write, epoch)?;
        }
        Ok(arrival)
    }

    /// The nearest place on the document's line that the account ever gave away decides.
    fn is_after_handover(&self, write: &Write, epoch: u64) -> StorageResult<bool> {
        let account = Some(self.author.account.as_str());
        for anchor in self.line_of_write(write)? {
            let history = history(self.batch, self.id, &anchor)?;
            let mut counted = history.iter().map(|(_, holding)| holding).filter(|holding| !holding.undone);
            let gave = |holding: &Holding| holding.account.as_deref() == account && holding.until.is_some();
            if counted.clone().any(gave) {
                let holder = counted.find(|holding| holding.until.is_none());
                return Ok(match holder.filter(|holder| holder.account.as_deref() == account) {
                    Some(holder) => epoch > 0 && epoch < holder.epoch,
                    None => true,
                });
            }
        }
        Ok(false)
    }

    fn line_of_write(&self, write: &Write) -> StorageResult<Vec<Anchor>> {
        let facts = match &write.facts {
            Some(facts) => facts.clone(),
            None if !write.deleted => Facts::of(&write.id, &write.body),
            None => self.filed(&write.id)?.map(|filed| filed.facts.clone()).unwrap_or_default(),
        };
        let line = match &facts {
            Facts::Contact(contact) => self.line_of(&write.id, &contact.parents)?,
            Facts::Record(record) => match &record.subject {
                Some(key) => self.meant_by(key)?.map(|(_, subject)| subject.line.clone()).unwrap_or_default(),
                None => Vec::new(),
            },
            Facts::Target(owner) => self.meant_by(owner)?.map(|(_, owner)| owner.line.clone()).unwrap_or_default(),
            _ => Vec::new(),
        };
        if !line.is_empty() {
            return Ok(line);
        }
        // Tasks, and what is about nobody: the places of the account.
        let account = self.batch.get(&ACCOUNTS, &self.author.account)?.unwrap_or_default();
        Ok(account.places.iter().map(|place| of_contact(place)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_at_a_time() {
        let held = |account: &str, from, until, undone| Holding {
            account: Some(account.to_owned()),
            from,
            until,
            undone,
            ..Holding::default()
        };
        let history: Vec<(u64, Holding)> = (1..)
            .zip([held("ann", 0, Some(10), false), held("eve", 5, Some(7), true), held("bea", 10, None, false)])
            .collect();
        let at = |time| holder_at(&history, time).and_then(|holding| holding.account.clone());
        assert_eq!(at(0).as_deref(), Some("ann"));
        assert_eq!(at(6).as_deref(), Some("ann"), "what was taken back never was");
        assert_eq!(at(10).as_deref(), Some("bea"));
        assert_eq!(holder_at(&history[..1], 10), None);
    }
}
