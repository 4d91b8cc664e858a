//! Where a document is filed: its anchors with depths, now and earlier.
//!
//! An entry says: under this anchor, in this way, at this depth, since this position. One entry is one row of the family
//! `feed`, if anybody may read it there (`documents/watched.rs`). Entries that ended are kept with the position of their end, so that "could this device see it at its last pull"
//! has an answer (S13), and so that a device learns what it lost.

use std::sync::LazyLock;

use settle_protocol::sequence::Position;

/// A place, an account or a group, under which documents are filed: a short hash of its name.
pub type Anchor = [u8; 16];

/// The first 16 bytes of BLAKE3 over a tag, a zero byte and a text: a fixed-width stand-in for a name.
#[must_use]
pub fn short_hash(tag: &str, text: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(tag.as_bytes()).update(&[0]).update(text);
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}

/// The anchor of a contact.
#[must_use]
pub fn of_contact(id: &str) -> Anchor {
    short_hash("c", id.as_bytes())
}

/// The anchor of an account, by the id of its user-settings.
#[must_use]
pub fn of_user(id: &str) -> Anchor {
    short_hash("u", id.as_bytes())
}

/// The anchor of configuration: everybody sees what is filed here.
#[must_use]
pub fn of_everybody() -> Anchor {
    static ANCHOR: LazyLock<Anchor> = LazyLock::new(|| short_hash("*", b"everyone"));
    *ANCHOR
}

/// The anchor of records about nobody.
#[must_use]
pub fn of_unassigned() -> Anchor {
    static ANCHOR: LazyLock<Anchor> = LazyLock::new(|| short_hash("*", b"unassigned"));
    *ANCHOR
}

/// Where what names a contact by this key is found again, when the key's meaning changes: for an id, its own anchor.
#[must_use]
pub fn of_key(key: &str) -> Anchor {
    of_contact(key)
}

/// In which way a document is filed under an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Way {
    /// The author of a private report: not shown, it tells whether the author is in range.
    Author = b'a',
    /// The same, by way of a place whose primary contact the author is.
    AuthorPrimary = b'b',
    /// A contact (or what hangs on one and knows no report depth) in the line below the anchor.
    Contact = b'c',
    /// The same, by way of a place whose primary contact it is.
    Primary = b'p',
    /// A record by way of a place whose primary contact it is about.
    PrimaryRecord = b'q',
    /// A record about a contact in the line below the anchor.
    Record = b'r',
}

impl Way {
    /// Every way.
    pub const ALL: [Self; 6] =
        [Self::Author, Self::AuthorPrimary, Self::Contact, Self::Primary, Self::PrimaryRecord, Self::Record];

    /// From the byte in a key.
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|way| *way as u8 == byte)
    }

    /// Whether feeds show documents filed in this way.
    #[must_use]
    pub fn is_shown(self) -> bool {
        !matches!(self, Self::Author | Self::AuthorPrimary)
    }

    /// The way of a record whose subject is filed in this way.
    #[must_use]
    pub fn is_record(self) -> bool {
        matches!(self, Self::Record | Self::PrimaryRecord)
    }
}

/// A document under an anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Under what.
    pub anchor: Anchor,
    /// In which way.
    pub way: Way,
    /// Steps between the anchor and what the document is about.
    pub depth: u8,
    /// Since when; kept across edits. A return is an entry of its own.
    pub joined: Position,
    /// Until when; `None`: still.
    pub left: Option<Position>,
}

impl Entry {
    /// Whether the document was filed here at a position; without one: now.
    #[must_use]
    pub fn holds(&self, at: Option<Position>) -> bool {
        match at {
            None => self.left.is_none(),
            Some(at) => self.joined <= at && self.left.is_none_or(|left| left > at),
        }
    }
}

/// What decides about a document beside its entries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// A record with a form.
    pub report: bool,
    /// Hidden from those it is about.
    pub private: bool,
    /// Its author.
    pub author: Option<Anchor>,
    /// Whom it is about, when that is known.
    pub subject: Option<Anchor>,
    /// Of a private report: places whose primary contact the subject once was.
    pub former_of: Vec<Anchor>,
}

/// Where a document is filed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Placement {
    /// Present entries and former ones.
    pub entries: Vec<Entry>,
    /// What else decides.
    pub filter: Filter,
    /// Earlier filters, each with the position at which it ended.
    pub past: Vec<(Filter, Position)>,
    /// The device that brought the document, and the position at which it came.
    pub brought: Option<([u8; 16], Position)>,
}

impl Placement {
    /// Present entries.
    pub fn present(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.left.is_none())
    }

    /// What decided beside the entries at a position; without one: now.
    #[must_use]
    pub fn filter_at(&self, at: Option<Position>) -> &Filter {
        let then = at.and_then(|at| self.past.iter().find(|(_, until)| *until > at));
        then.map_or(&self.filter, |(filter, _)| filter)
    }
}
