//! What the integration tests share: a running server, a small HTTP client, the player of recorded conversations.
//!
//! Nothing here knows what Settle should answer; the expectations live in the tests and in `tests/recordings/`.

// Tests use the clock and sleep for what they wait for; the bans of `.clippy.toml` are about the server.
#![allow(clippy::disallowed_methods, reason = "test clients live in real time")]
#![allow(dead_code, reason = "a shared toolbox: not every helper is in use at every moment")]

pub(crate) mod chance;
pub(crate) mod clock;
pub(crate) mod http;
pub(crate) mod replay;
pub(crate) mod server;
