//! Replays every seed of the targets that need no store (and of `key_order`, when the feature `engine` is on). A crash that
//! fuzzing found becomes a seed and stays one.

use std::path::Path;

#[test]
fn every_seed_keeps_its_promises() {
    let targets = settle_fuzz::TARGETS.to_vec();
    #[cfg(feature = "engine")]
    let targets = [targets, vec![("key_order", settle_fuzz::key_order::run as settle_fuzz::Target)]].concat();
    for (name, target) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let mut seeds = 0;
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            let data = std::fs::read(&path).expect("a seed");
            println!("{}", path.display()); // shown when the target panics
            target(&data);
            seeds += 1;
        }
        assert!(seeds >= 10, "{name} has only {seeds} seeds");
    }
}

#[test]
fn no_seed_is_large() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for target in std::fs::read_dir(folder).expect("seeds") {
        for seed in std::fs::read_dir(target.expect("a target").path()).expect("a folder of seeds") {
            let seed = seed.expect("a seed");
            assert!(seed.metadata().expect("its size").len() <= 8 * 1024, "{} is large", seed.path().display());
        }
    }
}
