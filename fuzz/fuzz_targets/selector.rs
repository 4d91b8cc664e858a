//! libFuzzer's way to `settle_fuzz::selector`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| settle_fuzz::selector::run(data));
