//! Resolving: where a document is to be filed, from what it says and what is stored (design §6.1).
//!
//! Pure reading of the open batch: lines of ancestors, who is meant by a key, the anchors of contacts, records and targets.
//! `filing.rs` writes what comes out of here; `judging.rs` asks the same questions about documents that are only sent.

use std::rc::Rc;

use super::filed::{Filed, SUBJECTS, subjects};
use super::known::Meant;
use super::tables::Cluster;
use super::write::{Write, Writing};
use crate::access::facts::{ContactFacts, Facts, RecordFacts, is_subject_key};
use crate::access::placement::{Anchor, Filter, Way, of_contact, of_everybody, of_unassigned, of_user};
use crate::storage::{Read, StorageResult};

/// Places in a line; what is above belongs to nobody. Keeps a forged hierarchy from costing thousands of rows.
const LONGEST_LINE: usize = 64;
/// Steps below the top of the hierarchy at which bodies are gathered: usually region, centre, area.
const CLUSTER_LEVEL: usize = 2;

/// Under which anchors a document is to be filed, in which ways, how deep: a handful. Of several depths the smallest counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted(Vec<(Anchor, Way, u8)>);

impl Wanted {
    pub(super) fn insert(&mut self, anchor: Anchor, way: Way, depth: usize) {
        let depth = u8::try_from(depth).unwrap_or(u8::MAX);
        match self.0.iter_mut().find(|(known, by, _)| (*known, *by) == (anchor, way)) {
            Some((_, _, shallowest)) => *shallowest = depth.min(*shallowest),
            None => self.0.push((anchor, way, depth)),
        }
    }

    fn insert_line(&mut self, line: &[Anchor], way: Way) {
        for (depth, anchor) in line.iter().enumerate() {
            self.insert(*anchor, way, depth);
        }
    }

    pub(super) fn depth(&self, anchor: &Anchor, way: Way) -> Option<u8> {
        self.0.iter().find(|(known, by, _)| (known, *by) == (anchor, way)).map(|(_, _, depth)| *depth)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (Anchor, Way, u8)> {
        self.0.iter().copied()
    }
}

/// Where a document is to be filed.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Anchors, ways, depths.
    pub(super) wanted: Wanted,
    /// What else decides.
    pub(super) filter: Filter,
    /// The key it names somebody by, if nobody is meant by it.
    pub(super) key: Option<String>,
    /// Contacts on its lines that are not stored.
    pub(super) absent: Vec<String>,
}

impl Writing<'_, '_> {
    /// Under which prefix the bodies of a new document lie: that of the area it belongs to, so that what one phone pulls
    /// lies together on disk. Chosen once, at the first write; a wrong choice costs speed and nothing else.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn cluster_of(&self, write: &Write) -> StorageResult<Cluster> {
        let parsed;
        let facts = match &write.facts {
            Some(facts) => facts,
            None => {
                parsed = Facts::of(&write.id, &write.body);
                &parsed
            }
        };
        if let Facts::Contact(contact) = facts {
            return Ok(cluster_in(&self.line_of(&write.id, &contact.parents)?));
        }
        let Some(key) = facts.about() else { return Ok(Cluster::default()) };
        Ok(self.meant_by(key)?.map(|(_, contact)| cluster_in(&contact.line)).unwrap_or_default())
    }

    /// A contact and its ancestors: through stored parents; what a document embeds counts from the first ancestor that is
    /// not stored (S4). A loop ends the line.
    pub(super) fn line_of(&self, id: &str, parents: &[String]) -> StorageResult<Vec<Anchor>> {
        let this = of_contact(id);
        let mut line = vec![this];
        let Some(parent) = parents.first() else { return Ok(line) };
        let stored = if parent == id { None } else { self.contact(parent)? };
        let embedded: Vec<Anchor>;
        let above = match &stored {
            Some(stored) => &stored.line,
            None => {
                embedded = parents.iter().map(|parent| of_contact(parent)).collect();
                &embedded
            }
        };
        for anchor in above {
            if line.contains(anchor) || line.len() == LONGEST_LINE {
                break;
            }
            line.push(*anchor);
        }
        Ok(line)
    }

    /// The contact that a key means: by id, else by shortcode, which belongs to its first holder (S5, S6).
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn meant_by(&self, key: &str) -> StorageResult<Meant> {
        if let Some(known) = self.known.meant(key) {
            return Ok(known);
        }
        let meant = self.look_up(key)?;
        self.known.note_meant(key, &meant);
        Ok(meant)
    }

    fn look_up(&self, key: &str) -> StorageResult<Meant> {
        if !is_subject_key(key) {
            return Ok(None);
        }
        if let Some(filed) = self.contact(key)? {
            return Ok(Some((key.into(), filed)));
        }
        let Some(holder) = self.holder_of(key)? else { return Ok(None) };
        Ok(self.filed(&holder)?.map(|filed| (holder.into(), filed)))
    }

    /// The contact that holds a shortcode: of those that have it, the one that had it first (S6).
    pub(super) fn holder_of(&self, code: &str) -> StorageResult<Option<String>> {
        if let Some(known) = self.known.holder(code) {
            return Ok(known);
        }
        let claims = self.batch.get(&SUBJECTS, &subjects::claims(self.id, code))?.unwrap_or_default();
        let holder = claims.0.into_iter().next();
        self.known.note_holder(code, holder.as_deref());
        Ok(holder)
    }

    /// Where a document is to be filed.
    pub(super) fn places(&self, filed: &Filed) -> StorageResult<Places> {
        let mut places = Places::default();
        let wanted = &mut places.wanted;
        match &filed.facts {
            Facts::Contact(contact) => {
                self.below(wanted, filed, (Way::Contact, Way::Primary))?;
                if let Some(parent) = contact.parents.first()
                    && self.contact(parent)?.is_none()
                {
                    places.absent.clone_from(&contact.parents);
                }
            }
            Facts::Record(record) => self.places_of_record(record, &mut places)?,
            Facts::Target(owner) => {
                let meant = self.meant_by(owner)?;
                places.key = meant.is_none().then(|| owner.clone());
                if let Some((_, contact)) = meant {
                    self.below_living(wanted, &contact, (Way::Contact, Way::Primary))?;
                }
            }
            Facts::Task(user) => wanted.insert(of_user(user), Way::Contact, 0),
            Facts::UserSettings { owner, .. } => wanted.insert(of_user(owner), Way::Contact, 0),
            Facts::Everybody => wanted.insert(of_everybody(), Way::Contact, 0),
            Facts::Nobody => {}
        }
        Ok(places)
    }

    fn places_of_record(&self, record: &RecordFacts, places: &mut Places) -> StorageResult<()> {
        places.filter.report = record.report;
        places.filter.author = record.author.as_deref().map(|author| self.known.anchor(author));
        let Some(key) = &record.subject else {
            places.wanted.insert(of_unassigned(), Way::Record, 0);
            return self.places_of_author(record, places);
        };
        let meant = self.meant_by(key)?;
        places.key = meant.is_none().then(|| key.to_string());
        if let Some((contact, subject)) = meant {
            let itself = subject.line.first().copied();
            places.filter.subject = Some(itself.unwrap_or_else(|| of_contact(&contact)));
            if record.private && record.report {
                places.filter.private = true;
                places.filter.former_of.clone_from(&subject.former_of);
            }
            self.below_living(&mut places.wanted, &subject, (Way::Record, Way::PrimaryRecord))?;
        }
        self.places_of_author(record, places)
    }

    /// Sign-off: whoever has the author, or a contact on the author's line, in range. Private: whether the author is.
    fn places_of_author(&self, record: &RecordFacts, places: &mut Places) -> StorageResult<()> {
        let Some(id) = record.author.as_deref() else { return Ok(()) };
        if record.needs_signoff {
            for (id, contact) in self.contacts_above(&record.author_line(), &mut places.absent)? {
                places.wanted.insert(of_contact(&id), Way::Record, 0);
                if let Some(contact) = contact {
                    self.below_living(&mut places.wanted, &contact, (Way::Record, Way::PrimaryRecord))?;
                }
            }
        }
        if record.private {
            match self.contact(id)? {
                Some(author) => {
                    self.below_living(&mut places.wanted, &author, (Way::Author, Way::AuthorPrimary))?;
                }
                None => {
                    places.wanted.insert(of_contact(id), Way::Author, 0);
                    places.absent.push(id.to_owned());
                }
            }
        }
        Ok(())
    }

    /// The contacts on a line, by id, each as it is stored; what is not goes to `absent`.
    pub(super) fn contacts_above(
        &self,
        chain: &[String],
        absent: &mut Vec<String>,
    ) -> StorageResult<Vec<(String, Option<Rc<Filed>>)>> {
        let mut line: Vec<(String, Option<Rc<Filed>>)> = Vec::new();
        let mut chain = chain.to_vec();
        while let Some(id) = chain.first().cloned() {
            if line.iter().any(|(known, _)| *known == id) || line.len() == LONGEST_LINE {
                return Ok(line);
            }
            match self.contact(&id)? {
                Some(contact) => {
                    chain = contact.contact().map(|contact| contact.parents.clone()).unwrap_or_default();
                    line.push((id, Some(contact)));
                }
                None => break,
            }
        }
        for id in chain {
            if line.iter().any(|(known, _)| *known == id) || line.len() == LONGEST_LINE {
                break;
            }
            let stored = self.contact(&id)?;
            absent.push(id.clone());
            line.push((id, stored));
        }
        Ok(line)
    }

    /// As [`Writing::below`]; a deleted primary contact is simply not there (S9), its own place stays for its records (S11).
    fn below_living(&self, wanted: &mut Wanted, contact: &Filed, (plain, primary): (Way, Way)) -> StorageResult<()> {
        if contact.deleted {
            wanted.insert_line(&contact.line, plain);
            return Ok(());
        }
        self.below(wanted, contact, (plain, primary))
    }

    /// The anchors of a contact: its own line, and the lines of the places that name it as their primary contact.
    fn below(&self, wanted: &mut Wanted, contact: &Filed, (plain, primary): (Way, Way)) -> StorageResult<()> {
        wanted.insert_line(&contact.line, plain);
        for place in &contact.primary_of {
            let Some(place) = self.filed(place)? else { continue };
            wanted.insert_line(&place.line, primary);
        }
        Ok(())
    }
}

/// The cluster of what belongs to a contact with this line.
fn cluster_in(line: &[Anchor]) -> Cluster {
    line.get(line.len().saturating_sub(1 + CLUSTER_LEVEL)).copied().unwrap_or_default()
}

/// The parents of a contact that is moved below a place: the place, then its ancestors as stored.
///
/// # Errors
/// When the store fails.
pub fn parents_below(writing: &Writing<'_, '_>, place: &str) -> StorageResult<Vec<String>> {
    let mut parents = vec![place.to_owned()];
    let mut next = writing.filed(place)?;
    while let Some(contact) = next.as_deref().and_then(Filed::contact) {
        let Some(parent) = contact.parents.first() else { break };
        if parents.contains(parent) || parents.len() == LONGEST_LINE {
            break;
        }
        let stored = writing.contact(parent)?;
        if stored.is_none() {
            parents
                .extend(contact.parents.iter().filter(|parent| !parents.contains(parent)).cloned().collect::<Vec<_>>());
            break;
        }
        parents.push(parent.clone());
        next = stored;
    }
    Ok(parents)
}

/// The primary contact that a document names.
#[must_use]
pub fn primary_in(facts: &Facts) -> Option<&str> {
    match facts {
        Facts::Contact(ContactFacts { primary, .. }) => primary.as_deref(),
        _ => None,
    }
}
