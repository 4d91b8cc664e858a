//! Who may do what (design §10): the table of every endpoint, role and standing; what those who manage accounts cannot find out;
//! what grants can never add up to; what the audit log tells to whom.

mod audit;
mod golden;
mod grants;
mod sample;
mod second;
mod stage;
mod two_worlds;
