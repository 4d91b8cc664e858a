//! libFuzzer's way to `settle_fuzz::revision_tree`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| settle_fuzz::revision_tree::run(data));
