//! The exposure of a device: whose data may be on it (design §8). For whoever has to call families after a phone was lost.
//!
//! The answer is a superset of what the device holds. What its scope showed at its last noted pull is certain for a device
//! that asks for lost rows; beside it stand what the account saw earlier, and what came into its scope later and may have
//! been fetched by an answer that was never completed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use serde_json::{Value, json};
use settle_protocol::sequence::Position;

use super::devices::{DEVICES, DeviceKey, DeviceRow};
use super::filed::{FeedView, Filed, feed_key, filed_of};
use super::read::document;
use super::scopes::{deepest, history, scope_at};
use super::tables::{BODIES, BodyKey, ChangeView, DatabaseId};
use crate::access::facts::Facts;
use crate::access::placement::{Anchor, of_contact};
use crate::access::scope::{Cursor, Scope};
use crate::accounts::enrolments::DeviceId;
use crate::storage::{Family, Range, Read, StorageError, StorageResult};

const CORRUPT: StorageError = StorageError::Corrupt { table: "feed", problem: "malformed value" };

/// When a document was within the device's reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// At its last pull, or the device made it.
    Held,
    /// Before, and no longer at its last pull.
    Earlier,
    /// Only after its last pull.
    Later,
}

impl When {
    const ALL: [Self; 3] = [Self::Held, Self::Earlier, Self::Later];

    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Earlier => "earlier",
            Self::Later => "later",
        }
    }
}

/// Numbers of documents by [`When`].
type Counts = [u64; 3];

fn counts_json(counts: &Counts) -> Value {
    When::ALL.iter().zip(counts).map(|(when, count)| (when.word().to_owned(), json!(count))).collect()
}

/// A person or a place.
#[derive(Debug, Clone, Default)]
struct Exposed {
    /// When its own document was within reach; nothing: only records about it were.
    when: Option<When>,
    /// Records about it.
    records: Counts,
}

/// Whose data may be on a device.
#[derive(Debug)]
pub struct Exposure {
    row: Option<DeviceRow>,
    contacts: BTreeMap<String, Exposed>,
    /// Records about nobody in particular, tasks, targets, forms, settings.
    others: Counts,
}

/// What of an exposure to tell.
#[derive(Debug, Clone)]
pub struct Page {
    /// Contacts behind this id …
    pub after: Option<String>,
    /// … at most so many.
    pub limit: usize,
}

impl Exposure {
    /// Looks at everything that was ever within reach of an account's device.
    ///
    /// # Errors
    /// When the store fails.
    pub fn of(reader: &impl Read, database: DatabaseId, account: &str, device: DeviceId) -> StorageResult<Self> {
        let row = reader.get(&DEVICES, &DeviceKey(database, device))?;
        let scopes = history(reader, database, account, 0)?;
        let pulled = row.as_ref().and_then(|row| Some((row.pulled?, row.scope)));
        let reach = match pulled {
            Some((position, of_scope)) => {
                Reach { last: Some((scope_at(reader, database, account, Some(of_scope))?.0, position)), scopes, device }
            }
            None => Reach { last: None, scopes, device },
        };
        let mut exposure = Self { row, contacts: BTreeMap::new(), others: Counts::default() };
        let mut subjects = Subjects::default();
        for id in reach.candidates(reader, database)? {
            let Some(filed) = filed_of(reader, database, &id)? else { continue };
            let Some(when) = reach.when(&filed) else { continue };
            match (&filed.facts, filed.placement.filter.subject) {
                (Facts::Contact(_), _) => exposure.contacts.entry(id).or_default().when = Some(when),
                (Facts::Record(_), Some(subject)) => subjects.add(subject, &filed, when),
                _ => exposure.others[when as usize] += 1,
            }
        }
        subjects.hand_over(&mut exposure);
        Ok(exposure)
    }

    /// The exposure as an object, with one page of contacts.
    ///
    /// # Errors
    /// When the store fails.
    pub fn to_json(&self, reader: &impl Read, database: DatabaseId, page: &Page) -> StorageResult<Value> {
        let (mut contacts, mut records) = (Counts::default(), Counts::default());
        for exposed in self.contacts.values() {
            if let Some(when) = exposed.when {
                contacts[when as usize] += 1;
            }
            for (all, one) in records.iter_mut().zip(exposed.records) {
                *all += one;
            }
        }
        let row = self.row.clone().unwrap_or_default();
        let mut answer = json!({
            "never_pulled": row.pulled.is_none(),
            "last_pull": row.pulled_at,
            // A device that asks for lost rows was told to drop what it saw earlier; stock clients keep it.
            "dropped_earlier": row.pulled.is_some() && row.untold.is_none(),
            "escrowed": row.escrowed,
            "totals": {
                "contacts": counts_json(&contacts),
                "records": counts_json(&records),
                "others": counts_json(&self.others),
            },
        });
        let from = page.after.as_deref().unwrap_or_default();
        let mut rest = self.contacts.iter().filter(|(id, _)| page.after.is_none() || id.as_str() > from);
        let mut listed = Vec::new();
        for (id, exposed) in rest.by_ref().take(page.limit) {
            listed.push(contact_json(reader, database, id, exposed)?);
        }
        let last = listed.last().map(|contact| contact["id"].clone()).unwrap_or_default();
        answer["contacts"] = listed.into();
        answer["next"] = if rest.next().is_some() { last } else { Value::Null };
        Ok(answer)
    }
}

fn contact_json(reader: &impl Read, database: DatabaseId, id: &str, exposed: &Exposed) -> StorageResult<Value> {
    let mut of_body = (Value::Null, Value::Null);
    let mut deleted = true;
    if let Some(row) = document(reader, database, id)?
        && let Some(winner) = row.tree.winner()
    {
        deleted = row.tree.is_deleted();
        let body = reader.get(&BODIES, &BodyKey::new(database, row.cluster, id, &winner.revision))?;
        let text = body.map(|body| format!("{{{}}}", body.text)).unwrap_or_default();
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        let member = |name: &str| body.get(name).filter(|value| value.is_string()).cloned();
        let kind = member("contact_type").or_else(|| member("type"));
        of_body = (kind.unwrap_or_default(), member("name").unwrap_or_default());
    }
    Ok(json!({
        "id": id,
        "type": of_body.0,
        "name": of_body.1,
        "deleted": deleted,
        "when": exposed.when.map(When::word),
        "records": counts_json(&exposed.records),
    }))
}

/// Records by whom they are about, until every contact is known.
#[derive(Debug, Default)]
struct Subjects(HashMap<Anchor, (String, Counts)>);

impl Subjects {
    fn add(&mut self, subject: Anchor, filed: &Filed, when: When) {
        let named = match &filed.facts {
            Facts::Record(record) => record.subject.as_deref().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        self.0.entry(subject).or_insert_with(|| (named, Counts::default())).1[when as usize] += 1;
    }

    /// Gives the counts to their contacts. One that was never in reach itself stands under what its records call it.
    fn hand_over(mut self, exposure: &mut Exposure) {
        for (id, exposed) in &mut exposure.contacts {
            if let Some((_, counts)) = self.0.remove(&of_contact(id)) {
                exposed.records = counts;
            }
        }
        for (named, counts) in self.0.into_values() {
            exposure.contacts.entry(named).or_default().records = counts;
        }
    }
}

/// What an account's device could reach, and when.
struct Reach {
    /// The scope of its last pull, and the position up to which it knows everything.
    last: Option<(Scope, Position)>,
    /// Every scope the account ever had, each with its end.
    scopes: Vec<(Scope, Position)>,
    device: DeviceId,
}

impl Reach {
    fn when(&self, filed: &Filed) -> Option<When> {
        let placement = &filed.placement;
        let made = placement.brought.is_some_and(|(device, _)| device == self.device);
        let Some((scope, position)) = &self.last else {
            let later = self.scopes.iter().any(|(scope, end)| scope.saw(placement, *end));
            return if made { Some(When::Held) } else { later.then_some(When::Later) };
        };
        if made || scope.sees(placement, Some(*position)) {
            return Some(When::Held);
        }
        let begun = 1 + self.scopes.iter().take_while(|(_, end)| end <= position).count();
        let mut earlier = self.scopes.iter().take(begun);
        if earlier.any(|(scope, end)| scope.saw(placement, (*end).min(position.saturating_add(1)))) {
            return Some(When::Earlier);
        }
        self.scopes.iter().any(|(scope, end)| scope.saw(placement, *end)).then_some(When::Later)
    }

    /// Everything that was ever filed in a range of any of the scopes.
    fn candidates(&self, reader: &impl Read, database: DatabaseId) -> StorageResult<BTreeSet<String>> {
        let deepest = deepest(reader, database)?;
        let cursors: BTreeSet<Cursor> = self.scopes.iter().flat_map(|(scope, _)| scope.cursors(deepest)).collect();
        let mut ids = BTreeSet::new();
        for cursor in cursors {
            let key = |position| feed_key(database, &cursor.anchor, cursor.way, cursor.depth, position);
            reader.scan(Family::Feed, &Range::between(key(0), key(Position::MAX)), &mut |_, row| {
                ids.insert(match FeedView::decode(row).ok_or(CORRUPT)? {
                    FeedView::Left { id } => id.to_owned(),
                    FeedView::Present { change, .. } => ChangeView::decode(change).ok_or(CORRUPT)?.id.to_owned(),
                });
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(ids)
    }
}
