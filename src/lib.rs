//! Settle: an offline-first sync server for community health.

pub mod accounts;
pub mod clock;
pub mod config;
pub mod documents;
pub mod storage;
pub mod telemetry;
