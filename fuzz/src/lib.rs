//! The fuzz targets as plain functions of bytes, so that every seed replays on any toolchain and under any debugger.
//!
//! Each function panics when a promise of the code is broken, and does nothing else with its result. `fuzz_targets/` only
//! hands libFuzzer's bytes to them; `run.sh TARGET SECONDS` builds and runs one. `tests/seeds.rs` replays the seeds of the
//! protocol's targets; those of `http_surface` are replayed against the real program by the root's integration tests.
//! Nothing here knows HTTP or RocksDB unless the feature `engine` is on.

pub mod document;
#[cfg(feature = "engine")]
pub mod http_surface;
#[cfg(feature = "engine")]
pub mod key_order;
pub mod model;
pub mod multipart;
pub mod revision_tree;
pub mod selector;
pub mod sequence;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target that needs no store, by its name.
pub const TARGETS: [(&str, Target); 5] = [
    ("document", document::run),
    ("multipart", multipart::run),
    ("revision_tree", revision_tree::run),
    ("selector", selector::run),
    ("sequence", sequence::run),
];
