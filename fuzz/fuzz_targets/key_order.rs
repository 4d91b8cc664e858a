//! libFuzzer's way to `settle_fuzz::key_order`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| settle_fuzz::key_order::run(data));
