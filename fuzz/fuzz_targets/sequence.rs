//! libFuzzer's way to `settle_fuzz::sequence`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| settle_fuzz::sequence::run(data));
