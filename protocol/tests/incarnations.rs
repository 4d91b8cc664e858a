//! Feed tokens across restores, as a property: whatever is backed up, restored and pulled, in whatever order, a client that has
//! pulled to the end knows the present version of every document, or a later one of the same line.
//!
//! The stores and clients are models of a few lines; what decides where a client goes on is the real `TokenPrefix::resolve`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use proptest::prop_assert;
use settle_protocol::sequence::{Position, Since, StartingPoint, TokenPrefix};

const DATABASE: [u8; 4] = [7; 4];

/// A version of a document and all versions before it.
type Line = Vec<u32>;

#[derive(Debug, Clone, Default)]
struct Store {
    incarnation: u32,
    earlier: Vec<([u8; 4], Position)>,
    position: Position,
    /// Document → its one position in the log, its line of versions.
    log: BTreeMap<u8, (Position, Line)>,
}

impl Store {
    fn tokens(&self) -> TokenPrefix {
        TokenPrefix::new(DATABASE, self.incarnation.to_be_bytes()).going_on_from(self.earlier.clone())
    }

    fn write(&mut self, document: u8, version: u32) {
        self.position += 1;
        let line = self.log.entry(document).or_default();
        line.0 = self.position;
        line.1.push(version);
    }

    /// What opening a copy does: a new incarnation that knows where the one of the copy ended.
    fn restored(&self, incarnation: u32) -> Self {
        let mut store = self.clone();
        store.earlier.push((self.incarnation.to_be_bytes(), self.position));
        store.incarnation = incarnation;
        store
    }
}

#[derive(Debug, Clone, Default)]
struct Client {
    since: Option<String>,
    knows: BTreeSet<u32>,
}

impl Client {
    /// Pulls at most `limit` rows.
    fn pull(&mut self, store: &Store, limit: usize) {
        let since = Since::parse(self.since.as_deref().unwrap_or("0")).expect("own token");
        let start = match store.tokens().resolve(&since) {
            StartingPoint::After(start) if start <= store.position => start,
            _ => 0,
        };
        let mut rows: Vec<_> = store.log.values().filter(|(position, _)| *position > start).collect();
        rows.sort();
        let whole = rows.len() <= limit;
        rows.truncate(limit);
        let end = if whole { store.position } else { rows.last().map_or(start, |row| row.0) };
        self.knows.extend(rows.into_iter().flat_map(|(_, line)| line.iter().copied()));
        let mut token = Vec::new();
        store.tokens().write(end, end == store.position, &mut token);
        self.since = Some(String::from_utf8(token).expect("text"));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(u8),
    Backup,
    Restore(prop::sample::Index),
    Pull(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_u8).prop_map(Step::Write),
        2 => proptest::strategy::Just(Step::Backup),
        1 => any::<prop::sample::Index>().prop_map(Step::Restore),
        4 => (0..3_usize, 1..5_usize).prop_map(|(client, limit)| Step::Pull(client, limit)),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_skipped_whatever_is_restored(steps in steps()) {
        let mut store = Store::default();
        let mut backups = vec![store.clone()];
        let mut clients = vec![Client::default(); 3];
        let (mut version, mut incarnation) = (0, 0);
        for step in steps {
            match step {
                Step::Write(document) => {
                    version += 1;
                    store.write(document, version);
                }
                Step::Backup => backups.push(store.clone()),
                Step::Restore(which) => {
                    incarnation += 1;
                    store = which.get(&backups).restored(incarnation);
                }
                Step::Pull(client, limit) => clients[client].pull(&store, limit),
            }
        }
        for client in &mut clients {
            client.pull(&store, usize::MAX);
            for (document, (_, line)) in &store.log {
                let newest = line.last().expect("written");
                prop_assert!(client.knows.contains(newest), "document {document}: version {newest} was skipped");
            }
        }
    }
}
