//! Accounts, links, and places that change hands: each is one batch, and who cared for whom stays answerable.
//!
//! `accounts` makes, lists, changes and deletes; `links` logs in without a password; `practices` hands a place over in the
//! three ways and takes one back; `custody` asks afterwards who cared for whom; `command_line` does it all by
//! typing; `sheets` prints cards; `crash` kills the server in between. `bulk` sends files with many accounts, `torture` broken
//! and hostile ones, `bulk_command` types `settle account import` and stops it; `shells` waits for their person.

mod accounts;
mod bulk;
mod bulk_command;
mod command_line;
mod crash;
mod custody;
mod links;
mod practices;
mod sheets;
mod shells;
mod torture;
mod village;
