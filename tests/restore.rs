//! Backup and restore with real processes: nothing that was withdrawn comes back, nothing is skipped, nothing is believed to be
//! safe that is not (threats T5, T6, T7).

pub(crate) mod drill;
mod feeds;
mod ledger;
mod phones;
mod withdrawals;
