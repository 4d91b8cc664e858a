//! The revision tree of one document: merge, winner, leaves, missing, stem, purge.
//!
//! The laws are in the protocol page §2.3–§2.10; `tests/laws.rs` holds every one of them against this file. A node knows
//! its parent only. Two rules keep it a forest: a parent's generation is exactly one less, and a revision stands in the tree
//! once. Bodies are elsewhere: a node only says whether its body was ever given (`stored`).

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::revision::Revision;

/// One revision in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Which revision.
    pub revision: Revision,
    /// Index of its parent; `None` for a root (first edit, unknown ancestor, or stemmed away).
    pub parent: Option<usize>,
    /// A tombstone.
    pub deleted: bool,
    /// Its body was given once. `false`: a *missing* ancestor, known by name from somebody's history.
    pub stored: bool,
}

/// What a merge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// The revision was there with its body: nothing changed.
    Known,
    /// A missing ancestor got its body; the leaves are the same.
    Filled,
    /// A new leaf.
    Added,
}

/// All known revisions of one document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevisionTree {
    nodes: Vec<Node>,
}

impl RevisionTree {
    /// A tree from stored nodes. Parents may come before or after their children.
    ///
    /// # Errors
    /// Says what is wrong when a parent index is out of range or a parent's generation is not one less.
    pub fn from_nodes(nodes: Vec<Node>) -> Result<Self, &'static str> {
        for node in &nodes {
            let Some(parent) = node.parent else { continue };
            let parent = nodes.get(parent).ok_or("parent index out of range")?;
            if parent.revision.generation.checked_add(1) != Some(node.revision.generation) {
                return Err("a parent's generation must be one less");
            }
        }
        Ok(Self { nodes })
    }

    /// Every node, in no particular order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// No revision at all: the document does not exist.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node of a revision.
    #[must_use]
    pub fn find(&self, revision: &Revision) -> Option<&Node> {
        self.position(revision).map(|at| &self.nodes[at])
    }

    fn position(&self, revision: &Revision) -> Option<usize> {
        self.nodes.iter().rposition(|node| node.revision == *revision)
    }

    fn leaf_flags(&self) -> Vec<bool> {
        let mut leaf = vec![true; self.nodes.len()];
        for parent in self.nodes.iter().filter_map(|node| node.parent) {
            leaf[parent] = false;
        }
        leaf
    }

    /// Leaves, the winner first: live before deleted, then generation, then hash bytes, all descending (§2.3). This is
    /// also the order of `changes` in a feed with `style=all_docs`.
    #[must_use]
    pub fn leaves(&self) -> Vec<&Node> {
        if let [only] = self.nodes.as_slice() {
            return vec![only];
        }
        let flags = self.leaf_flags();
        let mut leaves: Vec<&Node> = self.nodes.iter().zip(flags).filter_map(|(n, leaf)| leaf.then_some(n)).collect();
        leaves.sort_by_key(|node| Reverse((!node.deleted, &node.revision)));
        leaves
    }

    /// The revision a plain `GET` shows. `None` only for an empty tree.
    #[must_use]
    pub fn winner(&self) -> Option<&Node> {
        self.leaves().first().copied()
    }

    /// Whether the revision is a leaf.
    #[must_use]
    pub fn is_leaf(&self, revision: &Revision) -> bool {
        self.position(revision).is_some_and(|at| !self.nodes.iter().any(|node| node.parent == Some(at)))
    }

    /// All leaves are tombstones (and there is at least one).
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.winner().is_some_and(|winner| winner.deleted)
    }

    /// From a revision to its root, itself first: what `_revisions` shows (§2.6). Empty for an unknown revision.
    #[must_use]
    pub fn path(&self, revision: &Revision) -> Vec<&Node> {
        let mut at = self.position(revision);
        let mut path = Vec::new();
        while let Some(index) = at {
            path.push(&self.nodes[index]);
            at = self.nodes[index].parent;
        }
        path
    }

    /// The leaves that descend from a revision (itself, if it is one), the winner among them first: `latest=true`.
    #[must_use]
    pub fn leaves_below(&self, revision: &Revision) -> Vec<&Node> {
        let Some(from) = self.position(revision) else { return Vec::new() };
        let leaves = self.leaves();
        leaves.into_iter().filter(|leaf| self.descends(leaf, from)).collect()
    }

    fn descends(&self, node: &Node, from: usize) -> bool {
        let target = &self.nodes[from];
        let mut node = node;
        while node.revision.generation > target.revision.generation {
            let Some(parent) = node.parent else { return false };
            node = &self.nodes[parent];
        }
        node.revision == target.revision
    }

    /// A replicated write (`new_edits=false`, §2.5). `path` is the history, newest first, with generations that fall by
    /// one; its first revision gets a body. Never a conflict: a path without overlap becomes a new root.
    ///
    /// Where a known revision was a root and the path knows its ancestors, they are added above it, so that the order in
    /// which histories arrive does not matter (law 1).
    pub fn merge(&mut self, path: &[Revision], deleted: bool) -> Merged {
        debug_assert!(path.windows(2).all(|pair| pair[0].generation == pair[1].generation.wrapping_add(1)));
        let Some(newest) = path.first() else { return Merged::Known };
        let index: HashMap<&Revision, usize> = match self.nodes.len() * path.len() {
            0..=64 => HashMap::new(),
            _ => self.nodes.iter().enumerate().map(|(at, node)| (&node.revision, at)).collect(),
        };
        let known: Vec<Option<usize>> = path
            .iter()
            .map(|revision| if index.is_empty() { self.position(revision) } else { index.get(revision).copied() })
            .collect();
        let outcome = match known[0] {
            Some(at) if self.nodes[at].stored => Merged::Known,
            Some(at) => {
                self.nodes[at].stored = true;
                self.nodes[at].deleted = deleted;
                Merged::Filled
            }
            None => {
                let node = Node { revision: newest.clone(), parent: None, deleted, stored: true };
                self.nodes.push(node);
                Merged::Added
            }
        };
        self.link_ancestors(path, &known);
        outcome
    }

    fn link_ancestors(&mut self, path: &[Revision], known: &[Option<usize>]) {
        let mut child = known[0].unwrap_or(self.nodes.len() - 1);
        for (revision, known) in path.iter().zip(known).skip(1) {
            if let Some(parent) = self.nodes[child].parent {
                child = parent; // the stored history stands
                if self.nodes[child].revision != *revision {
                    return;
                }
                continue;
            }
            let parent = known.unwrap_or_else(|| {
                self.nodes.push(Node { revision: revision.clone(), parent: None, deleted: false, stored: false });
                self.nodes.len() - 1
            });
            self.nodes[child].parent = Some(parent);
            child = parent;
        }
    }

    /// An interactive edit: a child of `parent` (§2.4), or a first revision. The caller has checked that `parent` is a leaf.
    /// A revision that is there already (the same edit repeated) stays as it is.
    pub fn extend(&mut self, parent: Option<&Revision>, revision: Revision, deleted: bool) -> Merged {
        let parent = parent.and_then(|parent| self.position(parent));
        if let Some(at) = self.position(&revision) {
            let node = &mut self.nodes[at];
            if node.stored {
                return Merged::Known;
            }
            node.stored = true;
            node.deleted = deleted;
            return Merged::Filled;
        }
        self.nodes.push(Node { revision, parent, deleted, stored: true });
        Merged::Added
    }

    /// Which of the asked revisions are not in the tree, in the order asked, and which leaves could be their ancestors:
    /// those of a generation below the highest missing one (§2.7). A missing *ancestor* is known, so it is not missing.
    #[must_use]
    pub fn diff<'a>(&self, asked: &'a [Revision]) -> (Vec<&'a Revision>, Vec<&Revision>) {
        let missing: Vec<&Revision> = asked.iter().filter(|revision| self.position(revision).is_none()).collect();
        let Some(highest) = missing.iter().map(|revision| revision.generation).max() else {
            return (missing, Vec::new());
        };
        let leaves = self.leaves().into_iter().map(|leaf| &leaf.revision);
        (missing, leaves.filter(|leaf| leaf.generation < highest).collect())
    }

    /// Cuts every path to at most `limit` revisions (§2.8). Leaves always stay. Returns the revisions cut away.
    pub fn stem(&mut self, limit: usize) -> Vec<Revision> {
        if self.nodes.len() <= limit.max(1) {
            return Vec::new();
        }
        let mut keep = vec![false; self.nodes.len()];
        for (leaf, _) in self.leaf_flags().into_iter().enumerate().filter(|(_, leaf)| *leaf) {
            let mut at = Some(leaf);
            for _ in 0..limit.max(1) {
                let Some(index) = at else { break };
                keep[index] = true;
                at = self.nodes[index].parent;
            }
        }
        self.retain(&keep)
    }

    /// Removes leaves, each with the ancestors that no other leaf shares (§2.9). Interior and unknown revisions in the
    /// request are passed over. Returns the leaves removed, in the order asked, and every revision that is gone with them.
    pub fn purge(&mut self, asked: &[Revision]) -> (Vec<Revision>, Vec<Revision>) {
        let flags = self.leaf_flags();
        let is_leaf = |revision: &Revision| self.position(revision).is_some_and(|at| flags[at]);
        let mut purged: Vec<Revision> = Vec::new();
        for revision in asked.iter().filter(|revision| is_leaf(revision)) {
            if !purged.contains(revision) {
                purged.push(revision.clone());
            }
        }
        let mut keep = vec![false; self.nodes.len()];
        for (leaf, is_leaf) in flags.iter().enumerate() {
            if !is_leaf || purged.contains(&self.nodes[leaf].revision) {
                continue;
            }
            let mut at = Some(leaf);
            while let Some(index) = at.filter(|index| !keep[*index]) {
                keep[index] = true;
                at = self.nodes[index].parent;
            }
        }
        let gone = self.retain(&keep);
        (purged, gone)
    }

    /// Forgets that the bodies of these interior revisions were given (compaction dropped them).
    pub fn forget_bodies(&mut self, dropped: &[Revision]) {
        for node in &mut self.nodes {
            if dropped.contains(&node.revision) {
                node.stored = false;
            }
        }
    }

    fn retain(&mut self, keep: &[bool]) -> Vec<Revision> {
        let mut moved_to = vec![None; self.nodes.len()];
        let mut kept = Vec::with_capacity(self.nodes.len());
        let mut gone = Vec::new();
        for (at, node) in std::mem::take(&mut self.nodes).into_iter().enumerate() {
            if keep[at] {
                moved_to[at] = Some(kept.len());
                kept.push(node);
            } else {
                gone.push(node.revision);
            }
        }
        for node in &mut kept {
            node.parent = node.parent.and_then(|parent| moved_to[parent]);
        }
        self.nodes = kept;
        gone
    }
}
