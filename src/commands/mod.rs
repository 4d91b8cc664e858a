//! The commands of the command line, one file each. Errors say what to do next.

pub mod account;
pub mod account_import;
pub mod account_making;
pub mod account_sheet;
pub mod audit;
pub mod audit_export;
pub mod backup;
pub mod bench;
pub mod break_glass;
mod child_server;
pub mod demo;
pub mod device;
pub mod handing_over;
pub mod import;
pub mod outbox;
pub mod place;
pub mod receipt;
pub mod remote;
pub mod restore;
pub mod serve;
pub mod verify;
