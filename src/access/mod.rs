//! Pure decisions: values in, answer out. No storage, no HTTP.
//!
//! `facts.rs` reads what a document says about where it belongs, `placement.rs` keeps where it is filed, `scope.rs` knows
//! what an account may see and decides about the two. There is no second opinion: lists, reads and pushes all ask it.

pub mod facts;
pub mod need;
pub mod placement;
pub mod scope;
pub mod view;
