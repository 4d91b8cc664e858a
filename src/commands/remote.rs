//! Asking a running server for something: what the commands that act on one have in common.

use anyhow::ensure;
use serde_json::Value;

use crate::http::client::{self, Address};

/// The most bytes of an answer that [`fetch`] takes.
const MOST_FETCHED: usize = 64 << 20;

/// How a command reaches its server, and how it answers.
#[derive(Debug, clap::Args)]
pub struct Remote {
    /// The server (http://name:password@host:port).
    #[arg(long, env = "SETTLE_URL", hide_env_values = true)]
    pub url: String,
    /// Print the server's answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// How a command that changes something reaches its server.
#[derive(Debug, clap::Args)]
pub struct Acting {
    /// Where the server is.
    #[command(flatten)]
    pub remote: Remote,
    /// Only say what would happen.
    #[arg(long)]
    pub dry_run: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Answered {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

/// One segment of a path.
#[must_use]
pub fn escaped(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// Sends one request; any answer is one.
///
/// # Errors
/// When the server cannot be reached.
pub fn exchange(url: &str, method: &str, path: &str, body: &Value) -> anyhow::Result<Answered> {
    let (status, body) = wait_for(client::ask(Address::parse(url)?, method, path, body))??;
    Ok(Answered { status, body })
}

/// Runs what a command does with its server, on a runtime of its own.
///
/// # Errors
/// When the runtime cannot be started.
pub fn wait_for<T>(done: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(done))
}

/// Whether a request was done.
///
/// # Errors
/// When it was refused; the message has the reason in the answer.
pub fn require_done(status: u16, answer: &Value) -> anyhow::Result<()> {
    let reason = answer["reason"].as_str().unwrap_or("no reason");
    ensure!((200..300).contains(&status), "the server answered {status}: {reason}");
    Ok(())
}

/// Sends one request that must succeed, and gives the answer's body as it is.
///
/// # Errors
/// When the server cannot be reached or refuses; the message has its reason.
pub fn fetch(url: &str, method: &str, path: &str, body: &Value) -> anyhow::Result<Vec<u8>> {
    let (status, text) = wait_for(client::fetch(Address::parse(url)?, method, path, body, MOST_FETCHED))??;
    require_done(status, &serde_json::from_slice(&text).unwrap_or_default())?;
    Ok(text)
}

/// Sends one request that must succeed, and gives the answer.
///
/// # Errors
/// When the server cannot be reached or refuses; the message has its reason.
pub fn ask(url: &str, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
    let Answered { status, body } = exchange(url, method, path, body)?;
    require_done(status, &body)?;
    Ok(body)
}
