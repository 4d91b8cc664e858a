//! The replication engine: databases, documents, feeds, attachments.
//!
//! A push goes through `write.rs` (on the writer), a pull through `changes.rs` and `read.rs` (on a snapshot). The laws of
//! the revision tree are in the `settle_protocol` crate. Nothing here knows HTTP.

pub mod attachments;
pub mod changes;
pub mod databases;
pub mod devices;
pub mod error;
pub mod escrow;
pub mod filed;
pub mod filing;
pub mod judging;
mod known;
pub mod listing;
pub mod local;
pub mod maintenance;
pub mod moves;
pub mod output;
pub mod provenance;
pub mod read;
pub mod resolving;
pub mod scoped_feed;
pub mod scopes;
pub mod tables;
pub mod users;
pub mod write;
