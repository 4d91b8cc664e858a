//! The revision tree once more, as plainly as it can be said: a map from each revision to its parent, and textbook rules.
//!
//! [`Twins`] does every operation on the real tree and on this model and panics where they differ; the fuzz target
//! `revision_tree` and `protocol/tests/laws.rs` both drive it. Nothing here is fast, and nothing here is shared with the
//! code it checks. Sources: protocol page §2.3–§2.9.

use std::collections::{BTreeMap, BTreeSet};

use settle_protocol::revision_tree::Merged;
use settle_protocol::{Revision, RevisionTree};

/// What the model knows of one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The revision before it, if anybody has said so and it was not cut away.
    pub parent: Option<Revision>,
    /// A tombstone.
    pub deleted: bool,
    /// Its body was given.
    pub stored: bool,
}

/// All revisions of one document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// Each revision once.
    pub revisions: BTreeMap<Revision, Known>,
}

impl Model {
    /// A replicated write, newest revision first (§2.5). The first history that was told of a revision stands; a revision
    /// without a known parent learns it from the path.
    pub fn merge(&mut self, path: &[Revision], deleted: bool) -> Merged {
        let Some(newest) = path.first() else { return Merged::Known };
        let outcome = self.give_body(newest, deleted);
        for pair in path.windows(2) {
            let child = self.revisions.entry(pair[0].clone()).or_default();
            let parent = child.parent.get_or_insert_with(|| pair[1].clone()).clone();
            self.revisions.entry(parent.clone()).or_default();
            if parent != pair[1] {
                break;
            }
        }
        outcome
    }

    /// An edit made here (§2.4).
    pub fn extend(&mut self, parent: Option<&Revision>, revision: &Revision, deleted: bool) -> Merged {
        let outcome = self.give_body(revision, deleted);
        if outcome == Merged::Added
            && let Some(known) = self.revisions.get_mut(revision)
        {
            known.parent = parent.cloned();
        }
        outcome
    }

    fn give_body(&mut self, revision: &Revision, deleted: bool) -> Merged {
        let outcome = match self.revisions.get(revision) {
            Some(known) if known.stored => return Merged::Known,
            Some(_) => Merged::Filled,
            None => Merged::Added,
        };
        let known = self.revisions.entry(revision.clone()).or_default();
        known.stored = true;
        known.deleted = deleted;
        outcome
    }

    /// Revisions that are nobody's parent; live before deleted, then later generations, then larger hashes (§2.3).
    #[must_use]
    pub fn leaves(&self) -> Vec<Revision> {
        let parents: BTreeSet<&Revision> = self.revisions.values().filter_map(|known| known.parent.as_ref()).collect();
        let leaves = self.revisions.iter().filter(|(revision, _)| !parents.contains(revision));
        let (mut live, mut deleted): (Vec<_>, Vec<_>) = leaves.rev().partition(|(_, known)| !known.deleted);
        live.append(&mut deleted);
        live.into_iter().map(|(revision, _)| revision.clone()).collect()
    }

    /// A revision and its ancestors, itself first.
    #[must_use]
    pub fn path(&self, revision: &Revision) -> Vec<Revision> {
        let mut path = Vec::new();
        let mut next = self.revisions.contains_key(revision).then_some(revision);
        while let Some(revision) = next {
            path.push(revision.clone());
            next = self.revisions[revision].parent.as_ref();
        }
        path
    }

    /// The leaves whose history contains a revision, the winner among them first.
    #[must_use]
    pub fn leaves_below(&self, revision: &Revision) -> Vec<Revision> {
        self.leaves().into_iter().filter(|leaf| self.path(leaf).contains(revision)).collect()
    }

    /// Which of these are unknown, and which leaves lie below the highest of them (§2.7).
    #[must_use]
    pub fn diff(&self, asked: &[Revision]) -> (Vec<Revision>, Vec<Revision>) {
        let unknown = |revision: &&Revision| !self.revisions.contains_key(*revision);
        let missing: Vec<Revision> = asked.iter().filter(unknown).cloned().collect();
        let highest = missing.iter().map(|revision| revision.generation).max().unwrap_or(0);
        let possible = self.leaves().into_iter().filter(|leaf| leaf.generation < highest).collect();
        (missing, possible)
    }

    /// Keeps the last `limit` revisions of every leaf's history (§2.8); says what went.
    pub fn stem(&mut self, limit: usize) -> BTreeSet<Revision> {
        let leaves = self.leaves();
        self.keep(leaves.iter().flat_map(|leaf| self.path(leaf).into_iter().take(limit.max(1))).collect())
    }

    /// Removes these leaves and what only they descended from (§2.9); says which leaves, and everything that went.
    pub fn purge(&mut self, asked: &[Revision]) -> (Vec<Revision>, BTreeSet<Revision>) {
        let leaves = self.leaves();
        let mut purged: Vec<Revision> = Vec::new();
        for revision in asked {
            if leaves.contains(revision) && !purged.contains(revision) {
                purged.push(revision.clone());
            }
        }
        let staying = leaves.iter().filter(|leaf| !purged.contains(leaf));
        let gone = self.keep(staying.flat_map(|leaf| self.path(leaf)).collect());
        (purged, gone)
    }

    /// Compaction dropped these bodies.
    pub fn forget_bodies(&mut self, dropped: &[Revision]) {
        for revision in dropped {
            if let Some(known) = self.revisions.get_mut(revision) {
                known.stored = false;
            }
        }
    }

    fn keep(&mut self, kept: BTreeSet<Revision>) -> BTreeSet<Revision> {
        let gone = self.revisions.keys().filter(|revision| !kept.contains(revision)).cloned().collect();
        self.revisions.retain(|revision, _| kept.contains(revision));
        for known in self.revisions.values_mut() {
            known.parent = known.parent.take().filter(|parent| kept.contains(parent));
        }
        gone
    }
}

/// Something that can be done to a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A replicated write: a history, newest first, with generations that fall by one.
    Merge(Vec<Revision>, bool),
    /// An edit of the leaf with this number (counted round), or a new root when there is none.
    Extend(u8, Revision, bool),
    /// Stemming to this limit.
    Stem(usize),
    /// A purge.
    Purge(Vec<Revision>),
    /// A question.
    Diff(Vec<Revision>),
    /// Compaction of every interior revision.
    Compact,
}

/// The tree and the model, always in step.
#[derive(Debug, Clone, Default)]
pub struct Twins {
    /// The code under test.
    pub tree: RevisionTree,
    /// What it should be.
    pub model: Model,
}

impl Twins {
    /// Does an operation to both.
    ///
    /// # Panics
    /// When the answers or the trees differ: a bug.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Merge(path, deleted) => {
                assert_eq!(self.tree.merge(path, *deleted), self.model.merge(path, *deleted), "{operation:?}");
            }
            Operation::Extend(leaf, revision, deleted) => self.extend(usize::from(*leaf), revision, *deleted),
            Operation::Stem(limit) => {
                let gone: BTreeSet<Revision> = self.tree.stem(*limit).into_iter().collect();
                assert_eq!(gone, self.model.stem(*limit), "stemmed to {limit}");
            }
            Operation::Purge(asked) => {
                let (purged, gone) = self.tree.purge(asked);
                assert_eq!((purged, gone.into_iter().collect()), self.model.purge(asked), "purge of {asked:?}");
            }
            Operation::Diff(asked) => {
                let (missing, possible) = self.tree.diff(asked);
                let answer = (missing.into_iter().cloned().collect(), possible.into_iter().cloned().collect());
                assert_eq!(answer, self.model.diff(asked), "diff of {asked:?}");
            }
            Operation::Compact => {
                let leaves = self.model.leaves();
                let interior = self.model.revisions.keys().filter(|revision| !leaves.contains(revision));
                let interior: Vec<Revision> = interior.cloned().collect();
                self.tree.forget_bodies(&interior);
                self.model.forget_bodies(&interior);
            }
        }
        self.compare();
    }

    fn extend(&mut self, leaf: usize, revision: &Revision, deleted: bool) {
        let leaves = self.model.leaves();
        let parent = leaves.get(leaf % leaves.len().max(1)).cloned();
        let generation = parent.as_ref().map_or(1, |parent| parent.generation.saturating_add(1));
        if parent.as_ref().is_some_and(|parent| parent.generation == generation) {
            return; // the last generation there is has no child
        }
        let revision = Revision { generation, hash: revision.hash.clone() };
        let outcome = self.tree.extend(parent.as_ref(), revision.clone(), deleted);
        assert_eq!(outcome, self.model.extend(parent.as_ref(), &revision, deleted), "{revision} on {parent:?}");
    }

    /// Holds every answer of the tree against the model's.
    ///
    /// # Panics
    /// When one differs: a bug.
    pub fn compare(&self) {
        let names = |path: Vec<&settle_protocol::revision_tree::Node>| -> Vec<Revision> {
            path.into_iter().map(|node| node.revision.clone()).collect()
        };
        let leaves = self.model.leaves();
        assert_eq!(names(self.tree.leaves()), leaves, "leaves");
        assert_eq!(self.tree.winner().map(|node| &node.revision), leaves.first(), "winner");
        let deleted = !leaves.is_empty() && leaves.iter().all(|leaf| self.model.revisions[leaf].deleted);
        assert_eq!(self.tree.is_deleted(), deleted, "deleted");
        assert_eq!(self.tree.is_empty(), self.model.revisions.is_empty());
        assert_eq!(self.tree.nodes().len(), self.model.revisions.len(), "every revision stands once");
        for (revision, known) in &self.model.revisions {
            let node = self.tree.find(revision).unwrap_or_else(|| panic!("{revision} is lost"));
            assert_eq!((node.deleted, node.stored), (known.deleted, known.stored), "{revision}");
            assert_eq!(names(self.tree.path(revision)), self.model.path(revision), "history of {revision}");
            assert_eq!(names(self.tree.leaves_below(revision)), self.model.leaves_below(revision), "below {revision}");
            assert_eq!(self.tree.is_leaf(revision), leaves.contains(revision), "{revision} a leaf");
        }
        RevisionTree::from_nodes(self.tree.nodes().to_vec()).expect("a tree that was built can be read again");
    }
}
