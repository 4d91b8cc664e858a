//! HTTP, and the only folder that names `hyper`.
//!
//! The life of a request: `listener.rs` accepts it, `pipeline.rs` finds its line in `endpoint.rs`, learns who calls,
//! compares the caller with the line's need, calls one handler, and maps an error in `error.rs`. Handlers parse, call
//! downward once, and write the answer; they decide nothing.

pub mod client;
mod compression;
mod console;
mod cors;
mod endpoint;
mod error;
mod handlers;
mod in_flight;
mod lenient_target;
mod listener;
pub mod load;
mod multipart;
mod pipeline;
mod qr;
mod request;
mod response;

pub use endpoint::table as endpoint_table;
pub use listener::{Listener, serve};
