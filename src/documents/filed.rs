//! The bytes of scoped databases (`storage/LAYOUT.md`): where a document is filed, which stands in its row, and the feed
//! rows.

use settle_protocol::Revision;
use settle_protocol::sequence::Position;

use super::tables::{DOCUMENTS, DatabaseId, DocumentKey, DocumentRow, read_revision, versioned, write_revision};
use crate::access::facts::{ContactFacts, Facts, RecordFacts};
use crate::access::placement::{Anchor, Entry, Filter, Placement, Way};
use crate::storage::{Decoder, Encode, Family, Key, Read, StorageError, StorageResult, Table, Value};

/// database, kind, anchor → ids
pub const SUBJECTS: Table<SubjectKey, Texts> = Table::new(Family::Subjects);

/// database, kind, anchor → who names a contact
pub const NAMINGS: Table<SubjectKey, Naming> = Table::new(Family::Subjects);

const VERSION: u8 = 1;
/// Of [`Filed`]: entries in runs, filters without empty lists.
const IN_RUNS: u8 = 2;

/// What Settle knows about a document of a scoped database beside its revisions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filed {
    /// What the last version that was not deleted says.
    pub facts: Facts,
    /// The winner is a tombstone.
    pub deleted: bool,
    /// Of a contact: itself, its parent, the parent's parent …
    pub line: Vec<Anchor>,
    /// The key it names somebody by, if nobody is meant by it.
    pub key: Option<String>,
    /// Of a place: the primary contact that counts (S9, S16).
    pub names: Option<String>,
    /// Of a contact: the places that name it.
    pub primary_of: Vec<String>,
    /// Of a contact: the places that no longer name it.
    pub former_of: Vec<Anchor>,
    /// The revision that a move wrote, and the parents it gave (S17).
    pub moved: Option<(Revision, Vec<String>)>,
    /// Of a contact: the position since which it has its shortcode, or has none.
    pub coded: Position,
    /// Where it is filed.
    pub placement: Placement,
}

impl Filed {
    /// The facts of a contact.
    #[must_use]
    pub fn contact(&self) -> Option<&ContactFacts> {
        match &self.facts {
            Facts::Contact(contact) => Some(contact),
            _ => None,
        }
    }
}

const CONTACT: u8 = b'c';
const RECORD: u8 = b'r';
const TASK: u8 = b't';
const TARGET: u8 = b'g';
const USER_SETTINGS: u8 = b'u';
const EVERYBODY: u8 = b'e';
const NOBODY: u8 = b'n';

const IS_DELETED: u8 = 1;
const IS_REPORT: u8 = 2;
const IS_PRIVATE: u8 = 4;
const IS_SIGNOFF: u8 = 8;
const HAS_AUTHOR: u8 = 16;
const HAS_SUBJECT: u8 = 32;
/// The subject is the anchor of the first entry.
const SUBJECT_IS_FIRST: u8 = 64;
const HAS_FORMERS: u8 = 128;

fn write_texts(out: &mut Vec<u8>, texts: &[String]) {
    out.varint(texts.len() as u64);
    for text in texts {
        out.string(text.as_bytes());
    }
}

fn read_texts(from: &mut Decoder<'_>) -> Option<Vec<String>> {
    (0..from.varint()?).map(|_| from.text().map(str::to_owned)).collect()
}

/// An absent text is a zero length; no text here is empty.
fn write_optional(out: &mut Vec<u8>, text: Option<&str>) {
    out.string(text.unwrap_or_default().as_bytes());
}

fn read_optional(from: &mut Decoder<'_>) -> Option<Option<String>> {
    Some(Some(from.text()?.to_owned()).filter(|text| !text.is_empty()))
}

fn write_anchors(out: &mut Vec<u8>, anchors: &[Anchor]) {
    out.varint(anchors.len() as u64);
    for anchor in anchors {
        out.extend_from_slice(anchor);
    }
}

fn read_anchors(from: &mut Decoder<'_>) -> Option<Vec<Anchor>> {
    (0..from.varint()?).map(|_| from.array()).collect()
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// `first`: the anchor of the first entry, which usually is the subject.
fn write_filter(out: &mut Vec<u8>, filter: &Filter, first: Option<Anchor>) {
    let is_first = filter.subject.is_some() && filter.subject == first;
    let own_subject = filter.subject.filter(|_| !is_first);
    out.push(
        flag(filter.report, IS_REPORT)
            | flag(filter.private, IS_PRIVATE)
            | flag(filter.author.is_some(), HAS_AUTHOR)
            | flag(own_subject.is_some(), HAS_SUBJECT)
            | flag(is_first, SUBJECT_IS_FIRST)
            | flag(!filter.former_of.is_empty(), HAS_FORMERS),
    );
    out.extend(filter.author.into_iter().chain(own_subject).flatten());
    if !filter.former_of.is_empty() {
        write_anchors(out, &filter.former_of);
    }
}

fn read_filter(from: &mut Decoder<'_>, first: Option<Anchor>) -> Option<Filter> {
    let flags = from.byte()?;
    let has = |bit| flags & bit != 0;
    Some(Filter {
        report: has(IS_REPORT),
        private: has(IS_PRIVATE),
        author: if has(HAS_AUTHOR) { Some(from.array()?) } else { None },
        subject: match (has(HAS_SUBJECT), has(SUBJECT_IS_FIRST)) {
            (true, _) => Some(from.array()?),
            (false, true) => Some(first?),
            (false, false) => None,
        },
        former_of: if has(HAS_FORMERS) { read_anchors(from)? } else { Vec::new() },
    })
}

/// As version 1 wrote it.
fn read_filter_of_lists(from: &mut Decoder<'_>) -> Option<Filter> {
    let flags = from.byte()?;
    Some(Filter {
        report: flags & IS_REPORT != 0,
        private: flags & IS_PRIVATE != 0,
        author: read_anchors(from)?.into_iter().next(),
        subject: read_anchors(from)?.into_iter().next(),
        former_of: read_anchors(from)?,
    })
}

fn write_facts(out: &mut Vec<u8>, facts: &Facts, deleted: bool) {
    let deleted = flag(deleted, IS_DELETED);
    match facts {
        Facts::Contact(contact) => {
            out.extend_from_slice(&[CONTACT, deleted]);
            write_texts(out, &contact.parents);
            write_optional(out, contact.shortcode.as_deref());
            write_optional(out, contact.primary.as_deref());
        }
        Facts::Record(record) => {
            let flags = flag(record.report, IS_REPORT)
                | flag(record.private, IS_PRIVATE)
                | flag(record.needs_signoff, IS_SIGNOFF);
            out.extend_from_slice(&[RECORD, deleted | flags]);
            write_optional(out, record.subject.as_deref());
            out.varint((usize::from(record.author.is_some()) + record.above_author.len()) as u64);
            for id in record.author.as_deref().into_iter().chain(record.above_author.iter().map(String::as_str)) {
                out.string(id.as_bytes());
            }
        }
        Facts::Task(user) => {
            out.extend_from_slice(&[TASK, deleted]);
            out.string(user.as_bytes());
        }
        Facts::Target(owner) => {
            out.extend_from_slice(&[TARGET, deleted]);
            out.string(owner.as_bytes());
        }
        Facts::UserSettings { owner, roles } => {
            out.extend_from_slice(&[USER_SETTINGS, deleted]);
            out.string(owner.as_bytes());
            out.string(roles.as_bytes());
        }
        Facts::Everybody => out.extend_from_slice(&[EVERYBODY, deleted]),
        Facts::Nobody => out.extend_from_slice(&[NOBODY, deleted]),
    }
}

fn read_facts(from: &mut Decoder<'_>) -> Option<(Facts, bool)> {
    let (kind, flags) = (from.byte()?, from.byte()?);
    let facts = match kind {
        CONTACT => Facts::Contact(ContactFacts {
            parents: read_texts(from)?,
            shortcode: read_optional(from)?,
            primary: read_optional(from)?,
        }),
        RECORD => {
            let (subject, line) = (read_optional(from)?, read_texts(from)?);
            let mut line = line.into_iter();
            Facts::Record(RecordFacts {
                report: flags & IS_REPORT != 0,
                private: flags & IS_PRIVATE != 0,
                needs_signoff: flags & IS_SIGNOFF != 0,
                subject: subject.map(Into::into),
                author: line.next().map(Into::into),
                above_author: line.collect(),
            })
        }
        TASK => Facts::Task(from.text()?.to_owned()),
        TARGET => Facts::Target(from.text()?.to_owned()),
        USER_SETTINGS => Facts::UserSettings { owner: from.text()?.to_owned(), roles: from.text()?.to_owned() },
        EVERYBODY => Facts::Everybody,
        NOBODY => Facts::Nobody,
        _ => return None,
    };
    Some((facts, flags & IS_DELETED != 0))
}

/// Entries that came together, each a step above the one before: the line of a contact is one run.
fn is_next(a: &Entry, b: &Entry) -> bool {
    (a.way, a.joined, a.left) == (b.way, b.joined, b.left) && a.depth.checked_add(1) == Some(b.depth)
}

fn write_placement(out: &mut Vec<u8>, placement: &Placement) {
    out.varint(placement.entries.len() as u64);
    for run in placement.entries.chunk_by(is_next) {
        let Entry { way, depth, joined, left, .. } = run[0];
        out.extend_from_slice(&[way as u8, depth]);
        out.varint(run.len() as u64);
        out.varint(joined);
        out.varint(left.unwrap_or_default()); // no position is 0
        for entry in run {
            out.extend_from_slice(&entry.anchor);
        }
    }
    let first = placement.entries.first().map(|entry| entry.anchor);
    write_filter(out, &placement.filter, first);
    out.varint(placement.past.len() as u64);
    for (filter, until) in &placement.past {
        write_filter(out, filter, first);
        out.varint(*until);
    }
    match &placement.brought {
        Some((device, position)) => {
            out.varint(*position);
            out.extend_from_slice(device);
        }
        None => out.varint(0),
    }
}

fn read_run(from: &mut Decoder<'_>, entries: &mut Vec<Entry>) -> Option<()> {
    let (way, first, count) = (Way::of(from.byte()?)?, from.byte()?, from.varint()?);
    let (joined, left) = (from.varint()?, from.varint()?);
    let left = (left > 0).then_some(left);
    for step in 0..count {
        let depth = u8::try_from(u64::from(first) + step).ok()?;
        entries.push(Entry { anchor: from.array()?, way, depth, joined, left });
    }
    (count > 0).then_some(())
}

/// As version 1 wrote it.
fn read_entry(from: &mut Decoder<'_>) -> Option<Entry> {
    let (anchor, way, depth) = (from.array()?, Way::of(from.byte()?)?, from.byte()?);
    let (joined, left) = (from.varint()?, from.varint()?);
    Some(Entry { anchor, way, depth, joined, left: (left > 0).then_some(left) })
}

fn read_placement(from: &mut Decoder<'_>) -> Option<Placement> {
    let in_runs = match from.byte()? {
        VERSION => false,
        IN_RUNS => true,
        _ => return None,
    };
    let count = from.varint()?;
    let mut entries = Vec::with_capacity(count.min(16) as usize);
    while (entries.len() as u64) < count {
        match in_runs {
            true => read_run(from, &mut entries)?,
            false => entries.push(read_entry(from)?),
        }
    }
    let first = entries.first().map(|entry| entry.anchor);
    let filter = |from: &mut Decoder<'_>| if in_runs { read_filter(from, first) } else { read_filter_of_lists(from) };
    let present = filter(from)?;
    let past = (0..from.varint()?).map(|_| Some((filter(from)?, from.varint()?))).collect::<Option<_>>()?;
    let brought = match from.varint()? {
        0 => None,
        position => Some((from.array()?, position)),
    };
    Some(Placement { entries, filter: present, past, brought })
}

impl Value for Filed {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(IN_RUNS);
        write_placement(out, &self.placement);
        write_facts(out, &self.facts, self.deleted);
        write_optional(out, self.key.as_deref());
        if self.contact().is_none() {
            return;
        }
        write_anchors(out, &self.line);
        write_optional(out, self.names.as_deref());
        write_texts(out, &self.primary_of);
        write_anchors(out, &self.former_of);
        out.varint(self.coded);
        match &self.moved {
            Some((revision, parents)) => {
                out.push(1);
                write_revision(out, revision);
                write_texts(out, parents);
            }
            None => out.push(0),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder::new(bytes);
        let placement = read_placement(&mut from)?;
        let (facts, deleted) = read_facts(&mut from)?;
        let key = read_optional(&mut from)?;
        let mut filed = Self { facts, deleted, placement, key, ..Self::default() };
        if filed.contact().is_some() {
            filed.line = read_anchors(&mut from)?;
            filed.names = read_optional(&mut from)?;
            filed.primary_of = read_texts(&mut from)?;
            filed.former_of = read_anchors(&mut from)?;
            filed.coded = from.varint()?;
            if from.byte()? == 1 {
                filed.moved = Some((read_revision(&mut from)?, read_texts(&mut from)?));
            }
        }
        Some(filed)
    }
}

/// The front of a stored [`Filed`]: all that a decision about a reader needs.
///
/// # Errors
/// `None` for bytes that are none.
#[must_use]
pub fn placement_of(bytes: &[u8]) -> Option<Placement> {
    read_placement(&mut Decoder::new(bytes))
}

/// Where a stored document is filed, out of the bytes of its row.
///
/// # Errors
/// When the row does not decode.
pub fn placement_in(row: &[u8]) -> StorageResult<Option<Placement>> {
    let corrupt = StorageError::Corrupt { table: "documents", problem: "malformed value" };
    DocumentRow::filed_in(row).map(|filed| placement_of(filed).ok_or(corrupt)).transpose()
}

/// What Settle knows about a stored document beside its revisions.
///
/// # Errors
/// When the store fails.
pub fn filed_of(reader: &impl Read, database: DatabaseId, id: &str) -> StorageResult<Option<Filed>> {
    let row = reader.get_bytes(DOCUMENTS.family(), &DocumentKey::bytes(database, id))?;
    let corrupt = StorageError::Corrupt { table: "documents", problem: "malformed value" };
    row.as_deref().and_then(DocumentRow::filed_in).map(|filed| Filed::decode(filed).ok_or(corrupt)).transpose()
}

/// Bits of a feed row.
const LEFT: u8 = 1;
const PRIVATE: u8 = 2;
const REPORT: u8 = 4;

/// The key of a feed row: database, anchor, way, depth, position.
#[must_use]
pub fn feed_key(database: DatabaseId, anchor: &Anchor, way: Way, depth: u8, position: Position) -> [u8; 30] {
    let mut key = [0; 30];
    key[..4].copy_from_slice(&database.to_be_bytes());
    key[4..20].copy_from_slice(anchor);
    key[20] = way as u8;
    key[21] = depth;
    key[22..].copy_from_slice(&position.to_be_bytes());
    key
}

/// The beginning of keys of feed rows.
#[must_use]
pub fn feed_prefix(database: DatabaseId, anchor: &Anchor, way: Option<(Way, Option<u8>)>) -> Vec<u8> {
    let (way, depth, length) = match way {
        None => (Way::Contact, 0, 20), // what is behind the length is cut off
        Some((way, None)) => (way, 0, 21),
        Some((way, Some(depth))) => (way, depth, 22),
    };
    feed_key(database, anchor, way, depth, 0)[..length].to_vec()
}

/// Way and depth out of the key of a feed row.
#[must_use]
pub fn way_and_depth(key: &[u8]) -> Option<(Way, u8)> {
    Some((Way::of(*key.get(20)?)?, *key.get(21)?))
}

/// A row of the feed, read in place.
#[derive(Debug, Clone, Copy)]
pub enum FeedView<'a> {
    /// The document is filed here; the row of the log is embedded.
    Present {
        /// A private record: more than the row decides.
        private: bool,
        /// Its author, if it is a report.
        author: Option<Anchor>,
        /// As in the family `changes`.
        change: &'a [u8],
    },
    /// The document was filed here until this position.
    Left {
        /// Which document.
        id: &'a str,
    },
}

impl<'a> FeedView<'a> {
    /// Reads the bytes of a row.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut from = versioned(bytes)?;
        let flags = from.byte()?;
        if flags & LEFT != 0 {
            return Some(Self::Left { id: from.text()? });
        }
        let author = if flags & REPORT != 0 { Some(from.array()?) } else { None };
        Some(Self::Present { private: flags & PRIVATE != 0, author, change: from.rest() })
    }

    /// The bytes of a row for a document that is filed.
    #[must_use]
    pub fn present(filter: &Filter, change: &[u8]) -> Vec<u8> {
        let author = filter.author.filter(|_| filter.report);
        let mut out = Vec::with_capacity(change.len() + 20);
        out.push(VERSION);
        out.push(if filter.private { PRIVATE } else { 0 } | if author.is_some() { REPORT } else { 0 });
        out.extend(author.into_iter().flatten());
        out.extend_from_slice(change);
        out
    }

    /// The bytes of a row for a document that left.
    #[must_use]
    pub fn left(id: &str) -> Vec<u8> {
        let mut out = vec![VERSION, LEFT];
        out.string(id.as_bytes());
        out
    }
}

/// Key of a row of the family `subjects`.
#[derive(Debug, Clone)]
pub struct SubjectKey(Vec<u8>);

impl SubjectKey {
    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Key for SubjectKey {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// A list of ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl Value for Texts {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        write_texts(out, &self.0);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        read_texts(&mut versioned(bytes)?).map(Self)
    }
}

/// Which places name a contact as their primary contact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// Those that do, by id.
    pub places: Vec<String>,
    /// Those that no longer do, while no contact is stored that could keep them itself.
    pub formers: Vec<Anchor>,
}

impl Value for Naming {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        write_texts(out, &self.places);
        write_anchors(out, &self.formers);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = versioned(bytes)?;
        Some(Self { places: read_texts(&mut from)?, formers: read_anchors(&mut from)? })
    }
}

/// Keys of the family `subjects`.
pub mod subjects {
    use super::{Anchor, DatabaseId, SubjectKey};
    use crate::access::placement::of_key;

    fn key(database: DatabaseId, kind: u8, anchor: &Anchor) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        key.extend_from_slice(&database.to_be_bytes());
        key.push(kind);
        key.extend_from_slice(anchor);
        key
    }

    /// Who claims a shortcode, in the order of claims.
    #[must_use]
    pub fn claims(database: DatabaseId, code: &str) -> SubjectKey {
        SubjectKey(key(database, b'a', &of_key(code)))
    }

    /// Who names a contact.
    #[must_use]
    pub fn naming(database: DatabaseId, contact: &Anchor) -> SubjectKey {
        SubjectKey(key(database, b'p', contact))
    }

    /// A document that names somebody by a key; with an empty id, the beginning of all of them.
    #[must_use]
    pub fn waiting(database: DatabaseId, named: &Anchor, id: &str) -> Vec<u8> {
        let mut key = key(database, b'w', named);
        key.extend_from_slice(id.as_bytes());
        key
    }

    /// Something names this key, or embeds this contact while it is not stored.
    #[must_use]
    pub fn expected(database: DatabaseId, named: &Anchor) -> Vec<u8> {
        key(database, b'x', named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As version 1 had it.
    fn write_in_lists(out: &mut Vec<u8>, placement: &Placement) {
        out.push(VERSION);
        out.varint(placement.entries.len() as u64);
        for entry in &placement.entries {
            out.extend_from_slice(&entry.anchor);
            out.extend_from_slice(&[entry.way as u8, entry.depth]);
            out.varint(entry.joined);
            out.varint(entry.left.unwrap_or_default());
        }
        let filter = |out: &mut Vec<u8>, filter: &Filter| {
            out.push(flag(filter.report, IS_REPORT) | flag(filter.private, IS_PRIVATE));
            write_anchors(out, filter.author.as_slice());
            write_anchors(out, filter.subject.as_slice());
            write_anchors(out, &filter.former_of);
        };
        filter(out, &placement.filter);
        out.varint(placement.past.len() as u64);
        for (past, until) in &placement.past {
            filter(out, past);
            out.varint(*until);
        }
        match placement.brought {
            Some((device, position)) => {
                out.varint(position);
                out.extend_from_slice(&device);
            }
            None => out.varint(0),
        }
    }

    fn placements() -> impl Strategy<Value = Placement> {
        let anchor = || (0..6_u8).prop_map(|byte| [byte; 16]);
        let way = proptest::sample::select(vec![Way::Contact, Way::Record]);
        let entry =
            (anchor(), way, any::<u8>(), proptest::bool::weighted(0.8), 1..3_u64, proptest::option::of(5..7_u64));
        let entries = proptest::collection::vec(entry, 0..8).prop_map(|entries| {
            let mut depth = 0_u8;
            let mut entry = |(anchor, way, deep, next, joined, left)| {
                depth = if next { depth.wrapping_add(1) } else { deep }; // mostly a step above the one before
                Entry { anchor, way, depth, joined, left }
            };
            entries.into_iter().map(&mut entry).collect::<Vec<_>>()
        });
        let filter = || {
            let formers = proptest::collection::vec(anchor(), 0..2);
            let (author, subject) = (proptest::option::of(anchor()), proptest::option::of(anchor()));
            (any::<bool>(), any::<bool>(), author, subject, formers).prop_map(
                |(report, private, author, subject, former_of)| Filter { report, private, author, subject, former_of },
            )
        };
        let past = proptest::collection::vec((filter(), 1..9_u64), 0..3);
        (entries, filter(), past, proptest::option::of((any::<[u8; 16]>(), 1..400_u64)))
            .prop_map(|(entries, filter, past, brought)| Placement { entries, filter, past, brought })
    }

    /// Facts, a line, what a move wrote.
    type Said = (Facts, Vec<Anchor>, Option<(Revision, Vec<String>)>);

    fn facts() -> [Said; 5] {
        let parents = vec!["a".to_owned()];
        let contact = ContactFacts { parents: parents.clone(), shortcode: Some("1".into()), primary: None };
        let record = RecordFacts {
            subject: Some("s".into()),
            author: Some("b".into()),
            above_author: parents.clone(),
            private: true,
            ..RecordFacts::default()
        };
        let moved = Some((Revision::parse("2-aa").expect("valid"), parents));
        [
            (Facts::Contact(contact), vec![[1; 16], [2; 16]], moved),
            (Facts::Record(record), vec![], None),
            (Facts::Task("u".into()), vec![], None),
            (Facts::UserSettings { owner: "o".into(), roles: "[]".into() }, vec![], None),
            (Facts::Nobody, vec![], None),
        ]
    }

    #[test]
    fn a_line_of_every_depth_reads_back() {
        let entry = |depth| Entry { anchor: [depth; 16], way: Way::Contact, depth, joined: 1, left: None };
        let placement = Placement { entries: (0..=u8::MAX).map(entry).collect(), ..Placement::default() };
        let mut bytes = vec![IN_RUNS];
        write_placement(&mut bytes, &placement);
        assert_eq!(placement_of(&bytes), Some(placement));
        let without_anchors = [IN_RUNS, 1, b'c', 0, 0, 1, 0];
        assert_eq!(placement_of(&without_anchors), None);
    }

    proptest! {
        #[test]
        fn rows_read_back(placement in placements()) {
            for (facts, line, moved) in facts() {
                let coded = if line.is_empty() { 0 } else { 300 };
                let mut filed = Filed { facts, line, moved, deleted: true, coded, ..Filed::default() };
                filed.placement = placement.clone();
                let (mut bytes, mut placed, mut older) = (Vec::new(), vec![IN_RUNS], Vec::new());
                filed.encode(&mut bytes);
                write_placement(&mut placed, &placement);
                write_in_lists(&mut older, &placement);
                older.extend_from_slice(&bytes[placed.len()..]);
                prop_assert_eq!(Filed::decode(&bytes), Some(filed.clone()));
                prop_assert_eq!(placement_of(&bytes), Some(placement.clone()));
                prop_assert_eq!(Filed::decode(&older), Some(filed));
            }
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(mut bytes: Vec<u8>, version in 0..3_u8) {
            if let Some(first) = bytes.first_mut() {
                *first = version;
            }
            drop(Filed::decode(&bytes));
            let _ = FeedView::decode(&bytes);
        }
    }
}
