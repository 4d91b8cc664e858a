//! libFuzzer's way to `settle_fuzz::document`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| settle_fuzz::document::run(data));
