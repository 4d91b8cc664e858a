//! The invariants of the protocol page §2.10 as properties: random forests of revisions, random orders of arrival, random
//! operations. Nothing here knows an example of a tree; the tree is held against itself and against a naive model.
//!
//! Each law is here, in the server's integration tests (`tests/laws.rs`, random histories over HTTP), or in both:
//!
//! | law | here | HTTP |   | law | here | HTTP |
//! |---|---|---|---|---|---|---|
//! | 1 order independence | tree | database |   | 12 one row per document | | x |
//! | 2 idempotence | tree | `update_seq` |   | 13 resume completeness | | x |
//! | 3 associativity over replicas | x | |   | 14 stemming keeps leaves | x | |
//! | 4 leaves are maximal | x | |   | 15 possible ancestors | x | |
//! | 5 the winner | x | |   | 16 tombstones keep history | tree | rules |
//! | 6 deleted | tree | answers |   | 17 `revpos` | | x |
//! | 7 conflict partition | tree | answers |   | 18 purge | tree | answers |
//! | 8 edits extend leaves | tree | rules |   | 19 `_local` is invisible | | x |
//! | 9 body immutability | | x |   | 20 failures leave no trace | | x |
//! | 10 `_revisions` | x | x |   | 21 replica convergence | | x |
//! | 11 `_revs_diff` fixpoint | tree | answers |   | 22 names of revisions | x | x |

use std::collections::BTreeSet;

use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use proptest::sample::Index;
use proptest::{prop_assert, prop_assert_eq, prop_assert_ne};
use settle_protocol::document::{DocumentWriter, IncomingDocument};
use settle_protocol::revision::Hash;
use settle_protocol::revision_tree::{Merged, Node};
use settle_protocol::{Revision, RevisionTree};

#[path = "../../fuzz/src/model.rs"]
#[allow(dead_code, unreachable_pub, missing_docs, reason = "shared with the fuzz targets")]
mod model;

use model::{Operation, Twins};

// ---------------------------------------------------------------------------------------------- forests and histories

/// What really happened to a document, everywhere: each revision has one parent.
#[derive(Debug, Clone)]
struct Forest {
    edits: Vec<Edit>,
}

#[derive(Debug, Clone)]
struct Edit {
    revision: Revision,
    parent: Option<usize>,
    deleted: bool,
}

/// A replicated write: a revision and how much of its history is told.
type Write = (Vec<Revision>, bool);

impl Forest {
    /// The history of an edit, newest first, at most `length` long.
    fn path(&self, edit: usize, length: usize) -> Vec<Revision> {
        let ancestors = std::iter::successors(Some(edit), |at| self.edits[*at].parent);
        ancestors.take(length).map(|at| self.edits[at].revision.clone()).collect()
    }

    fn write(&self, edit: usize, length: usize) -> Write {
        (self.path(edit, length), self.edits[edit].deleted)
    }

    /// Every edit with all of its history, parents before children.
    fn whole(&self) -> Vec<Write> {
        (0..self.edits.len()).map(|edit| self.write(edit, usize::MAX)).collect()
    }

    /// The edits that nobody continued.
    fn leaves(&self) -> Vec<usize> {
        let parents: BTreeSet<usize> = self.edits.iter().filter_map(|edit| edit.parent).collect();
        (0..self.edits.len()).filter(|edit| !parents.contains(edit)).collect()
    }
}

/// Hashes of all kinds, different for each edit of a forest, in an order that has nothing to do with time.
fn hash(kind: u8, edit: usize) -> Hash {
    let number = u8::try_from(edit).expect("small forests");
    match kind % 4 {
        0 => Hash::Text(format!("{}{edit}", char::from(b'a' + kind / 4 % 26)).into()),
        1 => Hash::Text(format!("Z{kind}-é{edit}").into()),
        _ => {
            let mut raw = [kind; 16];
            raw[15] = number;
            Hash::Raw(raw)
        }
    }
}

/// 1 to 24 edits with several roots, whose generation says that their beginning is unknown.
fn forests() -> impl Strategy<Value = Forest> {
    // Every other edit continues the one before it, so that there are long branches too.
    let parent = prop::option::weighted(0.85, prop::option::of(any::<Index>()));
    let edit = (parent, 1..4_u64, any::<u8>(), prop::bool::weighted(0.25));
    prop::collection::vec(edit, 1..24).prop_map(|edits| {
        let mut forest = Forest { edits: Vec::new() };
        for (at, (parent, generation, kind, deleted)) in edits.into_iter().enumerate() {
            let parent = parent.filter(|_| at > 0).map(|parent| parent.map_or(at - 1, |index| index.index(at)));
            let generation = parent.map_or(generation, |parent| forest.edits[parent].revision.generation + 1);
            let revision = Revision { generation, hash: hash(kind, at) };
            forest.edits.push(Edit { revision, parent, deleted });
        }
        forest
    })
}

/// A forest, writes of some of its edits with more or less of their histories, and the same writes in another order.
fn deliveries() -> impl Strategy<Value = (Forest, Vec<Write>, Vec<Write>)> {
    let choices = prop::collection::vec((any::<Index>(), 1..8_usize), 1..24);
    (forests(), choices).prop_flat_map(|(forest, choices)| {
        let writes: Vec<Write> = choices
            .into_iter()
            .map(|(edit, length)| forest.write(edit.index(forest.edits.len()), if length == 7 { 99 } else { length }))
            .collect();
        (Just(forest), Just(writes.clone()), Just(writes).prop_shuffle())
    })
}

fn tree_of(writes: &[Write]) -> RevisionTree {
    let mut tree = RevisionTree::default();
    for (path, deleted) in writes {
        tree.merge(path, *deleted);
    }
    tree
}

fn names(nodes: &[&Node]) -> Vec<String> {
    nodes.iter().map(|node| node.revision.to_string()).collect()
}

/// All that a client can learn of the tree: each leaf (winner first) with its deleted flag and its history.
fn seen(tree: &RevisionTree) -> Vec<(bool, Vec<String>)> {
    tree.leaves().iter().map(|leaf| (leaf.deleted, names(&tree.path(&leaf.revision)))).collect()
}

fn same_nodes(one: &RevisionTree, other: &RevisionTree) -> bool {
    let listed = |tree: &RevisionTree| -> BTreeSet<(String, bool, bool, Vec<String>)> {
        let row =
            |node: &Node| (node.revision.to_string(), node.deleted, node.stored, names(&tree.path(&node.revision)));
        tree.nodes().iter().map(row).collect()
    };
    listed(one) == listed(other)
}

/// What a pull does: whatever the target says is missing, with its history.
fn replicate(source: &RevisionTree, target: &mut RevisionTree) {
    let offered: Vec<Revision> = source.leaves().into_iter().map(|leaf| leaf.revision.clone()).collect();
    let missing: Vec<Revision> = target.diff(&offered).0.into_iter().cloned().collect();
    for revision in missing {
        let path: Vec<Revision> = source.path(&revision).into_iter().map(|node| node.revision.clone()).collect();
        let deleted = source.find(&revision).is_some_and(|node| node.deleted);
        target.merge(&path, deleted);
    }
}

/// Operations on a tree that need not make sense together: histories contradict each other, purges name strangers.
fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let small = |generation: u64, kind: u8| Revision { generation, hash: hash(kind % 6, 0) };
    let revision = (1..8_u64, any::<u8>()).prop_map(move |(generation, kind)| small(generation, kind));
    let revisions = prop::collection::vec(revision, 0..5);
    let path = (1..8_u64, prop::collection::vec(any::<u8>(), 1..8)).prop_map(move |(start, kinds)| {
        let generations = (1..=start).rev();
        generations.zip(kinds).map(|(generation, kind)| small(generation, kind)).collect::<Vec<_>>()
    });
    let operation = prop_oneof![
        6 => (path, any::<bool>()).prop_map(|(path, deleted)| Operation::Merge(path, deleted)),
        3 => (any::<u8>(), any::<u8>(), any::<bool>())
            .prop_map(move |(leaf, kind, deleted)| Operation::Extend(leaf, small(0, kind), deleted)),
        1 => (0..8_usize).prop_map(Operation::Stem),
        1 => revisions.clone().prop_map(Operation::Purge),
        1 => revisions.prop_map(Operation::Diff),
        1 => Just(Operation::Compact),
    ];
    prop::collection::vec(operation, 1..40)
}

// ------------------------------------------------------------------------------------------------------------ the laws

proptest! {
    #[test]
    fn law_01_order_independence((_, writes, shuffled) in deliveries()) {
        let (tree, other) = (tree_of(&writes), tree_of(&shuffled));
        prop_assert_eq!(seen(&tree), seen(&other));
        prop_assert_eq!(tree.is_deleted(), other.is_deleted());
        prop_assert!(same_nodes(&tree, &other));
    }

    #[test]
    fn law_01_leaves_alone_say_everything(forest in forests()) {
        let leaves: Vec<Write> = forest.leaves().into_iter().map(|edit| forest.write(edit, usize::MAX)).collect();
        let mut expected: Vec<String> = leaves.iter().map(|(path, _)| path[0].to_string()).collect();
        let tree = tree_of(&leaves);
        prop_assert_eq!(seen(&tree), seen(&tree_of(&forest.whole())));
        let mut found = names(&tree.leaves());
        expected.sort();
        found.sort();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn law_02_idempotence((_, writes, again) in deliveries()) {
        let mut tree = tree_of(&writes);
        let before = tree.clone();
        for (path, deleted) in &again {
            prop_assert_eq!(tree.merge(path, *deleted), Merged::Known);
        }
        prop_assert_eq!(tree, before);
    }

    #[test]
    fn law_03_associativity_over_replicas(forest in forests(), owners in prop::collection::vec(0..7_u8, 24)) {
        let of = |replica: u8| -> RevisionTree {
            let owned = |(write, owner): (Write, &u8)| (owner & replica != 0).then_some(write);
            tree_of(&forest.whole().into_iter().zip(&owners).filter_map(owned).collect::<Vec<_>>())
        };
        let (a, b, c) = (of(1), of(2), of(4));
        let mut along = (b.clone(), c.clone());
        replicate(&a, &mut along.0);
        replicate(&along.0, &mut along.1);
        let mut apart = c;
        replicate(&a, &mut apart);
        replicate(&b, &mut apart);
        prop_assert_eq!(seen(&along.1), seen(&apart));
    }

    #[test]
    fn law_04_leaves_are_maximal(operations in operations()) {
        let mut twins = Twins::default();
        for operation in &operations {
            twins.apply(operation);
            let tree = &twins.tree;
            let mut covered: BTreeSet<String> = BTreeSet::new();
            for leaf in tree.leaves() {
                let path = names(&tree.path(&leaf.revision));
                let others = tree.leaves().into_iter().filter(|other| other.revision != leaf.revision);
                let others: Vec<String> = others.map(|other| other.revision.to_string()).collect();
                prop_assert!(others.iter().all(|other| !path.contains(other)), "a leaf is an ancestor");
                covered.extend(path);
            }
            let all: BTreeSet<String> = tree.nodes().iter().map(|node| node.revision.to_string()).collect();
            prop_assert_eq!(covered, all);
        }
    }

    #[test]
    fn law_05_winner_is_a_function_of_the_leaves((_, writes, _) in deliveries()) {
        let tree = tree_of(&writes);
        let rank = |node: &&Node| {
            let text = node.revision.to_string();
            let (generation, hash) = text.split_once('-').expect("a revision");
            let digits = hash.as_bytes();
            let raw = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
            let decoded: Option<Vec<u8>> =
                if digits.len() == 32 { digits.chunks(2).map(raw).collect() } else { None };
            let generation: u64 = generation.parse().expect("a number");
            (!node.deleted, generation, decoded.unwrap_or_else(|| digits.to_vec()))
        };
        let best = tree.leaves().into_iter().max_by_key(rank).map(|node| &node.revision);
        prop_assert_eq!(tree.winner().map(|node| &node.revision), best);
        let mut ranks: Vec<_> = tree.leaves().iter().map(rank).collect();
        ranks.reverse();
        prop_assert!(ranks.is_sorted(), "the leaves stand in the winner's order");
    }

    #[test]
    fn law_06_deleted_iff_all_leaves_are((_, writes, _) in deliveries()) {
        let tree = tree_of(&writes);
        prop_assert_eq!(tree.is_deleted(), tree.leaves().iter().all(|leaf| leaf.deleted));
        prop_assert_eq!(tree.winner().map(|winner| winner.deleted), Some(tree.is_deleted()));
        prop_assert!(!RevisionTree::default().is_deleted());
    }

    #[test]
    fn law_07_conflict_partition((_, writes, _) in deliveries()) {
        let tree = tree_of(&writes);
        let leaves = tree.leaves();
        let (conflicts, deleted): (Vec<&Node>, Vec<&Node>) = leaves[1..].iter().copied().partition(|leaf| !leaf.deleted);
        let parts = [&leaves[..1], &conflicts, &deleted].concat();
        prop_assert_eq!(names(&parts), names(&leaves), "the winner, then live leaves, then tombstones");
        let different: BTreeSet<String> = names(&leaves).into_iter().collect();
        prop_assert_eq!(different.len(), leaves.len());
        prop_assert!(leaves.iter().all(|leaf| tree.is_leaf(&leaf.revision)));
    }

    #[test]
    fn law_08_edits_extend_leaves((_, writes, _) in deliveries(), leaf: Index, deleted: bool) {
        let mut tree = tree_of(&writes);
        let before = names(&tree.leaves());
        let base = tree.leaves()[leaf.index(before.len())].revision.clone();
        let made = Revision::of_edit(Some(&base), deleted, "\"edit\":1", &[]);
        prop_assert_eq!(tree.extend(Some(&base), made.clone(), deleted), Merged::Added);
        let mut expected: BTreeSet<String> = before.into_iter().collect();
        expected.remove(&base.to_string());
        expected.insert(made.to_string());
        prop_assert_eq!(names(&tree.leaves()).into_iter().collect::<BTreeSet<_>>(), expected);
        prop_assert_eq!(tree.path(&made)[1].revision.clone(), base);
    }

    #[test]
    fn law_10_revisions_are_contiguous((_, writes, _) in deliveries(), limit in 1..12_usize) {
        let mut tree = tree_of(&writes);
        let single = tree.leaves().len() == 1;
        tree.stem(limit);
        let mut within: BTreeSet<String> = BTreeSet::new();
        for leaf in tree.leaves() {
            let path: Vec<&Revision> = tree.path(&leaf.revision).iter().map(|node| &node.revision).collect();
            let mut text = Vec::new();
            let mut writer = DocumentWriter::begin(&mut text, "d", &leaf.revision, "", leaf.deleted);
            writer.revisions(&path);
            writer.end();
            let read = IncomingDocument::parse(&text).expect("what is shown can be read");
            let history = read.history.as_ref().expect("a history");
            prop_assert_eq!(history.start as u64, leaf.revision.generation, "start is the leaf's generation");
            let told = read.replicated_path().expect("a path");
            prop_assert_eq!(told.iter().collect::<Vec<_>>(), path.clone());
            for (at, revision) in path.iter().enumerate() {
                prop_assert_eq!(revision.generation + at as u64, leaf.revision.generation);
            }
            prop_assert!(!single || path.len() <= limit);
            within.extend(path.iter().take(limit).map(ToString::to_string));
        }
        // Where branches share ancestors, one branch may keep what lies beyond the limit of the other, and nothing else.
        prop_assert_eq!(within.len(), tree.nodes().len());
    }

    #[test]
    fn law_11_what_was_posted_is_not_missing((forest, writes, _) in deliveries()) {
        let tree = tree_of(&writes);
        for (path, _) in &writes {
            prop_assert_eq!(tree.diff(path), (Vec::new(), Vec::new()));
        }
        let everything: Vec<Revision> = forest.edits.iter().map(|edit| edit.revision.clone()).collect();
        let told: BTreeSet<&Revision> = writes.iter().flat_map(|(path, _)| path).collect();
        for missing in tree.diff(&everything).0 {
            prop_assert!(!told.contains(missing) && tree.find(missing).is_none());
        }
    }

    #[test]
    fn law_14_stemming_keeps_leaves(forest in forests(), limit in 1..5_usize) {
        let mut stemmed = RevisionTree::default();
        for (path, deleted) in forest.whole() {
            stemmed.merge(&path, deleted);
            stemmed.stem(limit);
        }
        let whole = tree_of(&forest.whole());
        let mut at_once = whole.clone();
        let gone = at_once.stem(limit);
        for tree in [&stemmed, &at_once] {
            prop_assert_eq!(names(&tree.leaves()), names(&whole.leaves()));
            prop_assert_eq!(tree.is_deleted(), whole.is_deleted());
        }
        prop_assert!(gone.iter().all(|revision| at_once.find(revision).is_none() && !whole.is_leaf(revision)));
        prop_assert_eq!(at_once.stem(limit), Vec::new(), "once is enough");
    }

    #[test]
    fn law_15_possible_ancestors_are_leaves((forest, writes, _) in deliveries(), stranger in 0..9_u64) {
        let tree = tree_of(&writes);
        let mut asked: Vec<Revision> = forest.edits.iter().map(|edit| edit.revision.clone()).collect();
        asked.push(Revision { generation: stranger, hash: Hash::Text("stranger".into()) });
        let (missing, possible) = tree.diff(&asked);
        let highest = missing.iter().map(|revision| revision.generation).max().expect("the stranger");
        for leaf in tree.leaves() {
            prop_assert_eq!(possible.contains(&&leaf.revision), leaf.revision.generation < highest);
        }
        prop_assert!(possible.iter().all(|revision| tree.is_leaf(revision)));
    }

    #[test]
    fn law_16_tombstones_keep_history(length in 1..12_u64, body in "[a-z]{0,5}") {
        let body = format!("\"v\":\"{body}\"");
        let mut tree = RevisionTree::default();
        let edits = (0..length).map(|_| (body.as_str(), false)).chain([("", true), (body.as_str(), false)]);
        for (text, deleted) in edits {
            let base = tree.winner().map(|winner| winner.revision.clone());
            let made = Revision::of_edit(base.as_ref(), deleted, text, &[]);
            prop_assert_eq!(tree.extend(base.as_ref(), made, deleted), Merged::Added);
        }
        prop_assert_eq!(tree.leaves().len(), 1);
        prop_assert_eq!(tree.winner().map(|winner| (winner.revision.generation, winner.deleted)), Some((length + 2, false)));
    }

    #[test]
    fn law_18_purge_removes_exactly(
        (forest, writes, _) in deliveries(),
        chosen in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let tree = tree_of(&writes);
        let asked: Vec<Revision> =
            chosen.iter().map(|index| forest.edits[index.index(forest.edits.len())].revision.clone()).collect();
        let mut purged_tree = tree.clone();
        let (purged, gone) = purged_tree.purge(&asked);
        prop_assert!(purged.iter().all(|revision| asked.contains(revision) && tree.is_leaf(revision)));
        prop_assert!(asked.iter().all(|revision| purged.contains(revision) || !tree.is_leaf(revision)));
        let staying: Vec<_> = seen(&tree)
            .into_iter()
            .filter(|(_, path)| purged.iter().all(|revision| revision.to_string() != path[0]))
            .collect();
        prop_assert_eq!(seen(&purged_tree), staying);
        prop_assert!(purged.iter().all(|revision| gone.contains(revision)));
        prop_assert_eq!(gone.len() + purged_tree.nodes().len(), tree.nodes().len());
        let everything: Vec<Revision> = tree.leaves().iter().map(|leaf| leaf.revision.clone()).collect();
        purged_tree.purge(&everything);
        prop_assert_eq!(purged_tree, RevisionTree::default(), "as if it had never been");
    }

    #[test]
    fn law_22_names_of_revisions_are_functions_of_the_edit(
        body in "[ -~]{0,12}",
        deleted: bool,
        parent in prop::option::of((1..99_u64, any::<u8>())),
        files in prop::collection::vec(("[a-z]{1,3}", "[a-z]{1,3}", any::<[u8; 16]>()), 0..3),
    ) {
        let parent = parent.map(|(generation, kind)| Revision { generation, hash: hash(kind, 0) });
        let body = serde_json::to_string(&body).expect("a string");
        let parse = |text: String| IncomingDocument::parse(text.as_bytes()).expect("a document").body;
        let here = parse(format!("{{\"_id\":\"a\",\"v\":{body}}}"));
        let there = parse(format!("{{ \"v\":{body},\"_rev\":\"1-x\", \"_id\" : \"b\"}}"));
        let mut files: Vec<(&str, &str, [u8; 16])> =
            files.iter().map(|(name, kind, digest)| (name.as_str(), kind.as_str(), *digest)).collect();
        let name = |deleted, body: &str, files: &[(&str, &str, [u8; 16])]| {
            Revision::of_edit(parent.as_ref(), deleted, body, files)
        };
        let (first, mut made) = (name(deleted, &here, &files), Vec::new());
        prop_assert_eq!(&first, &name(deleted, &there, &files), "neither the id nor the place matters");
        prop_assert_eq!(first.generation, parent.as_ref().map_or(1, |parent| parent.generation + 1));
        prop_assert_ne!(&first, &name(!deleted, &here, &files));
        prop_assert_ne!(&first, &name(deleted, &format!("{here},\"w\":1"), &files));
        prop_assert_ne!(&first, &Revision::of_edit(Some(&first), deleted, &here, &files));
        for different in [("f", "t", [7; 16]), ("f", "t", [8; 16]), ("f", "u", [7; 16]), ("g", "t", [7; 16])] {
            files.push(different);
            made.push(name(deleted, &here, &files).to_string());
            files.pop();
        }
        made.push(first.to_string());
        prop_assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), made.len(), "every part counts: {:?}", made);
    }

    #[test]
    fn the_tree_does_what_the_model_does(operations in operations()) {
        let mut twins = Twins::default();
        for operation in &operations {
            twins.apply(operation);
        }
    }
}
