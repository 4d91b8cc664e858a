//! libFuzzer's way to `settle_fuzz::http_surface`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| settle_fuzz::http_surface::run(data));
