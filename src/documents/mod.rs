//! The replication engine: databases, documents, feeds, attachments.
//!
//! A push goes through `write.rs` (on the writer), a pull through `changes.rs` and `read.rs` (on a snapshot). The laws of
//! the revision tree are in the `settle_protocol` crate. Nothing here knows HTTP.

pub mod accounts;
pub mod administration;
pub mod ahead;
pub mod attachments;
mod body;
pub mod changes;
pub mod custody;
pub mod databases;
pub mod devices;
pub mod enlisting;
pub mod error;
pub mod escrow;
pub mod exposure;
pub mod filed;
pub mod filing;
pub mod grants;
pub mod handover;
pub mod incarnations;
pub mod judging;
mod known;
pub mod listing;
pub mod local;
pub mod maintenance;
pub mod manifests;
pub mod members;
pub mod moves;
pub mod output;
pub mod parties;
pub mod prefetched;
pub mod provenance;
pub mod radar;
pub mod reach;
pub mod read;
pub mod receipts;
mod recent_rows;
pub mod replacing;
pub mod resolving;
pub mod restarts;
pub mod scoped_feed;
pub mod scopes;
mod shared_answer;
pub mod sharing;
pub mod sheets;
pub mod tables;
pub mod users;
pub mod watched;
pub mod write;
