//! What one request on the writer has looked up already: contacts by id, and who holds which shortcode.
//!
//! A bulk write names the same few people and places again and again. What stands here also stands in the batch: whoever
//! changes one changes the other, and the next request begins with nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::filed::Filed;

/// Entries of each kind; beyond, everything is forgotten and looked up again.
const MOST: usize = 4096;

/// Answers that hold until the request changes them.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By id: a contact, or nothing that is stored. Other documents are not kept.
    contacts: RefCell<HashMap<String, Option<Rc<Filed>>>>,
    /// By shortcode.
    holders: RefCell<HashMap<String, Option<String>>>,
}

impl Known {
    /// What is stored under an id, if that is known.
    pub(super) fn contact(&self, id: &str) -> Option<Option<Rc<Filed>>> {
        self.contacts.borrow().get(id).cloned()
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
