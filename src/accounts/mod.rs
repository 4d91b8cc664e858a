//! Who is calling, and what their credentials are worth.
//!
//! `login.rs` turns what a request shows into a [`caller::Caller`]; the rules of `_users` documents are in
//! `user_document.rs`, `_security` in `security.rs`. What credentials are still worth is decided in `standing.rs`, taken away
//! in `withdrawals.rs`. Nothing here knows HTTP or documents' storage.

pub mod basic;
pub mod caller;
pub mod credential_memory;
pub mod enrolments;
pub mod error;
pub mod event_cursors;
pub mod external_ids;
pub mod glass;
pub mod guard;
pub mod holders;
pub mod http_date;
pub mod import_rows;
pub mod ledger;
pub mod ledger_copy;
pub mod ledger_file;
pub mod link_texts;
pub mod links;
pub mod login;
pub mod outbox;
pub mod password;
mod recent_map;
pub mod replay;
pub mod second_person;
pub mod security;
pub mod session_cookie;
pub mod silences;
pub mod standing;
pub mod tables;
pub mod throttle;
pub mod user_document;
pub mod wipes;
pub mod withdrawals;
