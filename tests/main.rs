//! The one integration binary: every test here talks to the real `settle` program over HTTP.
//!
//! Each module is a subject; `support` holds what they share. A second test binary would link RocksDB a second time,
//! so there is none.

mod architecture;
mod audit;
mod backup;
mod clients;
mod console;
mod durability;
mod duties;
mod fuzz_seeds;
mod grants;
mod handover;
mod handover_model;
mod import;
mod laws;
mod outbox;
mod recordings;
mod refusals;
mod replace;
mod restore;
mod scope;
mod scope_model;
mod shared_attachments;
mod support;
mod threats;
