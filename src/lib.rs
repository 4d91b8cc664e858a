//! Settle: an offline-first sync server for community health.

pub mod access;
pub mod accounts;
pub mod audit;
pub mod clock;
pub mod commands;
pub mod config;
pub mod documents;
pub mod http;
pub mod sending;
pub mod services;
pub mod storage;
pub mod telemetry;
