//! Compares what two servers hold of a database, leaf by leaf: pure, from two sorted lists to totals and differences.
//!
//! The digest is BLAKE3 over `id NUL revision LF` of all leaves in order, tombstones included: equal digests, equal
//! leaves. Bodies and attachments are compared by the hash in each entry.

use std::io;

use serde::Serialize;

use super::sorted::{Entry, Sorted};

/// What one side holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    /// Documents that are not deleted.
    pub(super) documents: u64,
    /// Documents that are.
    pub(super) deleted: u64,
    /// Leaves of all of them.
    pub(super) revisions: u64,
    /// Hex.
    pub(super) digest: String,
}

/// How a document differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// The target does not have it.
    Missing,
    /// Only the target has it.
    Extra,
    /// Other leaves.
    Revisions,
    /// The same leaves with another body or other attachments.
    Content,
}

/// A document that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Difference {
    pub(super) id: String,
    pub(super) kind: Kind,
    /// For a reader: which revisions.
    pub(super) detail: String,
}

/// The outcome.
#[derive(Debug, Default, Serialize)]
pub(super) struct Comparison {
    pub(super) source: Totals,
    pub(super) target: Totals,
    pub(super) differences: Vec<Difference>,
    /// Differences beyond those listed.
    pub(super) more: u64,
}

impl Comparison {
    pub(super) fn is_equal(&self) -> bool {
        self.differences.is_empty() && self.more == 0
    }
}

/// Compares; at most `most` differences are listed. Where `may_have_more`, documents that only the target has are none.
pub(super) fn compare(source: Sorted, target: Sorted, may_have_more: bool, most: usize) -> io::Result<Comparison> {
    let (mut source, mut target) = (Documents::new(source)?, Documents::new(target)?);
    let mut comparison = Comparison::default();
    while let Some(id) = [source.id(), target.id()].into_iter().flatten().min().map(str::to_owned) {
        let (here, there) = (source.take(&id)?, target.take(&id)?);
        if let Some(difference) = difference(&id, &here, &there, may_have_more) {
            match comparison.differences.len() < most {
                true => comparison.differences.push(difference),
                false => comparison.more += 1,
            }
        }
    }
    (comparison.source, comparison.target) = (source.totals(), target.totals());
    Ok(comparison)
}

/// How a document differs between its leaves at the source and those at the target, both in order.
pub(super) fn difference(id: &str, source: &[Entry], target: &[Entry], may_have_more: bool) -> Option<Difference> {
    let only = |these: &[Entry], others: &[Entry]| {
        let here = these.iter().filter(|entry| !others.iter().any(|other| other.revision == entry.revision));
        let revisions: Vec<&str> = here.map(|entry| entry.revision.as_str()).collect();
        if revisions.is_empty() { "nothing else".to_owned() } else { revisions.join(", ") }
    };
    let same_revisions = source.iter().map(|entry| &entry.revision).eq(target.iter().map(|entry| &entry.revision));
    let (kind, detail) = match (source, target) {
        ([], _) if may_have_more => return None,
        ([], _) => (Kind::Extra, format!("only the target has it: {}", only(target, source))),
        (_, []) => (Kind::Missing, format!("the target does not have it: {}", only(source, target))),
        _ if !same_revisions => {
            let detail = format!("the source has {}, the target {}", only(source, target), only(target, source));
            (Kind::Revisions, detail)
        }
        _ => {
            let other = source.iter().zip(target).find(|(here, there)| here != there)?;
            (Kind::Content, format!("{} has another body or other attachments", other.0.revision))
        }
    };
    Some(Difference { id: id.to_owned(), kind, detail })
}

/// The documents of a sorted list, and their totals on the way.
struct Documents {
    sorted: Sorted,
    next: Option<Entry>,
    totals: Totals,
    digest: blake3::Hasher,
}

impl Documents {
    fn new(mut sorted: Sorted) -> io::Result<Self> {
        let next = sorted.next()?;
        Ok(Self { sorted, next, totals: Totals::default(), digest: blake3::Hasher::new() })
    }

    fn id(&self) -> Option<&str> {
        self.next.as_ref().map(|entry| entry.id.as_str())
    }

    /// The leaves of the next document, if it is this one.
    fn take(&mut self, id: &str) -> io::Result<Vec<Entry>> {
        let mut leaves = Vec::new();
        while let Some(entry) = self.next.take_if(|next| next.id == id) {
            for text in [entry.id.as_bytes(), b"\0", entry.revision.as_bytes(), b"\n"] {
                self.digest.update(text);
            }
            leaves.push(entry);
            self.next = self.sorted.next()?;
        }
        self.totals.revisions += leaves.len() as u64;
        match leaves.iter().all(|leaf| leaf.deleted) {
            _ if leaves.is_empty() => {}
            true => self.totals.deleted += 1,
            false => self.totals.documents += 1,
        }
        Ok(leaves)
    }

    fn totals(self) -> Totals {
        Totals { digest: self.digest.finalize().to_hex().to_string(), ..self.totals }
    }
}

#[cfg(test)]
mod tests {
    use super::{Comparison, Kind, compare};
    use crate::commands::import::sorted::{Entry, Sorter};

    fn compared(source: &[(&str, &str, u8)], target: &[(&str, &str, u8)], may_have_more: bool) -> Comparison {
        let sorted = |leaves: &[(&str, &str, u8)]| {
            let mut sorter = Sorter::new();
            for (id, revision, content) in leaves {
                let deleted = revision.ends_with('d');
                let (id, revision) = ((*id).to_owned(), (*revision).to_owned());
                sorter.push(Entry { id, revision, deleted, content: [*content; 32] }).unwrap();
            }
            sorter.finish().unwrap()
        };
        compare(sorted(source), sorted(target), may_have_more, 3).unwrap()
    }

    #[test]
    fn equal_sides_have_equal_totals_whatever_the_order() {
        let leaves = [("b", "2-x", 1), ("a", "1-a", 2), ("a", "2-d", 3), ("c", "3-d", 4)];
        let mut others = leaves;
        others.reverse();
        let comparison = compared(&leaves, &others, false);
        assert!(comparison.is_equal());
        assert_eq!(comparison.source, comparison.target);
        let totals = &comparison.source;
        assert_eq!((totals.documents, totals.deleted, totals.revisions), (2, 1, 4));
        let expected = blake3::hash(b"a\x001-a\na\x002-d\nb\x002-x\nc\x003-d\n").to_hex();
        assert_eq!(totals.digest, expected.as_str());
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let source = [("a", "1-a", 1), ("b", "1-b", 1), ("c", "1-c", 1), ("c", "2-c", 1), ("same", "1-s", 1)];
        let target = [("b", "1-b", 9), ("c", "1-c", 1), ("c", "2-z", 1), ("same", "1-s", 1), ("z", "1-z", 1)];
        let comparison = compared(&source, &target, false);
        let found: Vec<_> = comparison.differences.iter().map(|other| (other.id.as_str(), other.kind)).collect();
        assert_eq!(found, [("a", Kind::Missing), ("b", Kind::Content), ("c", Kind::Revisions)]);
        assert_eq!(comparison.more, 1, "`z` is beyond the list");
        assert_eq!(comparison.differences[2].detail, "the source has 2-c, the target 2-z");
        assert_ne!(comparison.source.digest, comparison.target.digest);
        assert_eq!(compared(&source, &target, true).more, 0);
        let extra = compared(&[], &[("z", "1-z", 1)], false);
        assert_eq!((extra.differences[0].kind, extra.is_equal()), (Kind::Extra, false));
        assert!(compared(&[], &[("z", "1-z", 1)], true).is_equal());
        let further = compared(&[("a", "1-a", 1)], &[("a", "1-a", 1), ("a", "1-b", 1)], true);
        assert_eq!(further.differences[0].detail, "the source has nothing else, the target 1-b");
    }
}
