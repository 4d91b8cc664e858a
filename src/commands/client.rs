//! One request to a running server, for commands that act through it.

use anyhow::ensure;
use serde_json::Value;

use crate::http::load::{Connection, SMALL_BUFFER, Target};

/// Sends a request and gives the JSON of the answer.
///
/// # Errors
/// When the server cannot be reached, or refuses: its reason.
pub fn request(url: &str, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
    let target = Target::parse(url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (head, answer) = runtime.block_on(async {
        let mut answer = Vec::new();
        let mut connection = Connection::open(&target, SMALL_BUFFER).await?;
        let head = connection.exchange(method, path, body.as_bytes(), &mut answer).await?;
        anyhow::Ok((head, answer))
    })?;
    let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let reason = answer["reason"].as_str().unwrap_or("no reason");
    ensure!(head.is_success(), "the server answered {}: {reason}", head.status);
    Ok(answer)
}
