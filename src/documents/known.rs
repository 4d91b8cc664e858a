//! What one request on the writer has looked up already: contacts by id, and who holds which shortcode.
//!
//! A bulk write names the same few people and places again and again. What stands here also stands in the batch: whoever
//! changes one changes the other, and the next request begins with nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use foldhash::HashMap;

use super::filed::{Filed, subjects};
use super::tables::{DOCUMENTS, DocumentKey};
use super::write::{Write, Writing};
use crate::access::facts::Facts;
use crate::access::placement::{Anchor, of_contact, of_key};
use crate::storage::{Family, StorageResult};

/// Entries of each kind; beyond, everything is forgotten and looked up again.
const MOST: usize = 4096;

/// Documents from which on what a batch asks for is read ahead.
const READ_AHEAD: usize = 16;

/// A contact with its id, or nobody.
pub(super) type Meant = Option<(Rc<str>, Rc<Filed>)>;

/// Answers that hold until the request changes them.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By id: a contact, or nothing that is stored. Other documents are not kept.
    contacts: RefCell<HashMap<String, Option<Rc<Filed>>>>,
    /// By shortcode.
    holders: RefCell<HashMap<String, Option<String>>>,
    /// The key that was asked for last, and whom it means: while no contact and no holder of a shortcode changes.
    meant: RefCell<Option<(String, Meant)>>,
    /// Down to which depth records get rows under a place, if at all.
    watched: RefCell<HashMap<Anchor, Option<u8>>>,
    /// The id whose anchor was asked for last, and that anchor.
    anchor: RefCell<Option<(String, Anchor)>>,
}

impl Known {
    /// What is stored under an id, if that is known.
    pub(super) fn contact(&self, id: &str) -> Option<Option<Rc<Filed>>> {
        self.contacts.borrow().get(id).cloned()
    }

    /// Whom a key means, if that is known. The records of a batch often come together by person.
    pub(super) fn meant(&self, key: &str) -> Option<Meant> {
        self.meant.borrow().as_ref().filter(|(known, _)| known == key).map(|(_, meant)| meant.clone())
    }

    /// Notes whom a key means.
    pub(super) fn note_meant(&self, key: &str, meant: &Meant) {
        self.meant.replace(Some((key.to_owned(), meant.clone())));
    }

    /// A contact changed, or who holds a shortcode.
    pub(super) fn forget_meant(&self) {
        self.meant.take();
    }

    /// Notes what is stored under an id.
    pub(super) fn note(&self, id: &str, filed: Option<&Rc<Filed>>) {
        let mut contacts = self.contacts.borrow_mut();
        if filed.is_some_and(|filed| filed.contact().is_none()) {
            contacts.remove(id);
            return;
        }
        if contacts.len() >= MOST {
            contacts.clear();
        }
        contacts.insert(id.to_owned(), filed.cloned());
    }

    /// Notes what is stored under an id from now on.
    pub(super) fn note_now(&self, id: &str, filed: Filed) {
        match filed.contact() {
            Some(_) => {
                self.forget_meant();
                self.note(id, Some(&Rc::new(filed)));
            }
            None => drop(self.contacts.borrow_mut().remove(id)),
        }
    }

    /// The anchor of a contact. Records of one author often come together.
    pub(super) fn anchor(&self, id: &str) -> Anchor {
        let mut last = self.anchor.borrow_mut();
        match &*last {
            Some((known, anchor)) if known == id => *anchor,
            _ => last.insert((id.to_owned(), of_contact(id))).1,
        }
    }

    /// Down to which depth a place is watched, if that is known.
    pub(super) fn watched(&self, place: &Anchor) -> Option<Option<u8>> {
        self.watched.borrow().get(place).copied()
    }

    /// Notes down to which depth a place is watched. One that comes to be watched by the same request, with something below it,
    /// gets the rows of that later (`watched.rs`).
    pub(super) fn note_watched(&self, place: Anchor, watched: Option<u8>) {
        let mut places = self.watched.borrow_mut();
        if places.len() >= MOST {
            places.clear();
        }
        places.insert(place, watched);
    }

    /// Who holds a shortcode, if that is known.
    pub(super) fn holder(&self, code: &str) -> Option<Option<String>> {
        self.holders.borrow().get(code).cloned()
    }

    /// Notes who holds a shortcode.
    pub(super) fn note_holder(&self, code: &str, holder: Option<&str>) {
        let mut holders = self.holders.borrow_mut();
        if holders.len() >= MOST {
            holders.clear();
        }
        holders.insert(code.to_owned(), holder.map(str::to_owned));
    }
}

impl Writing<'_, '_> {
    /// Reads at once what the writes of a long batch are going to ask for one by one: the documents themselves; in a scoped
    /// database also whom they name, and who names them. Decides nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn read_ahead(&mut self, writes: &[Write]) -> StorageResult<()> {
        if writes.len() < READ_AHEAD {
            return Ok(());
        }
        let mut ids: Vec<&str> = writes.iter().map(|write| write.id.as_str()).collect();
        let mut marks = Vec::new();
        let mut last = None;
        for write in writes {
            match &write.facts {
                Some(Facts::Contact(contact)) => {
                    ids.extend(contact.parents.first().map(String::as_str));
                    marks.push(subjects::naming(self.id, &of_contact(&write.id)).bytes());
                    for key in [Some(&write.id), contact.shortcode.as_ref()].into_iter().flatten() {
                        marks.push(subjects::claims(self.id, key).bytes());
                        marks.push(subjects::expected(self.id, &of_key(key)));
                    }
                }
                // The records of a batch often come together by person.
                Some(Facts::Record(record)) if record.subject.as_ref() != last => {
                    last = record.subject.as_ref();
                    ids.extend(last.map(|last| &**last));
                }
                _ => {}
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let documents: Vec<Vec<u8>> = ids.into_iter().map(|id| DocumentKey::bytes(self.id, id)).collect();
        self.batch.read_ahead(DOCUMENTS.family(), &documents)?;
        marks.sort_unstable();
        marks.dedup();
        self.batch.read_ahead(Family::Subjects, &marks)
    }

    /// The same for documents that are going to be filed again: whom they name, and who holds that shortcode.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn read_named_ahead<'f>(&mut self, filed: impl Iterator<Item = &'f Filed>) -> StorageResult<()> {
        let named = filed.filter_map(|filed| filed.facts.about());
        let named: BTreeSet<&str> = named.filter(|key| self.known.contact(key).is_none()).collect();
        if named.is_empty() {
            return Ok(());
        }
        let documents: Vec<Vec<u8>> = named.iter().map(|key| DocumentKey::bytes(self.id, key)).collect();
        self.batch.read_ahead(DOCUMENTS.family(), &documents)?;
        let mut claims: Vec<Vec<u8>> = named.iter().map(|key| subjects::claims(self.id, key).bytes()).collect();
        claims.sort_unstable();
        self.batch.read_ahead(Family::Subjects, &claims)
    }
}
