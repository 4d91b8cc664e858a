//! libFuzzer's way to `settle_fuzz::multipart`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| settle_fuzz::multipart::run(data));
