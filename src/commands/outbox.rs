//! `settle outbox`: what became of links that were sent, through a running server.

use anyhow::Context;
use serde_json::{Value, json};

use super::account_making::query_of;
use super::remote::{Acting, Remote, ask, escaped};

/// Arguments of `settle outbox`.
#[derive(Debug, clap::Args)]
pub struct OutboxArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List messages, the newest first.
    List(ListArguments),
    /// Try a message again at once.
    Retry(MessageArguments),
    /// Call a message off, and end its link.
    Cancel(MessageArguments),
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    /// Only those that are waiting, sending, delivered, failed or cancelled.
    #[arg(long)]
    state: Option<String>,
    /// Only those to this account.
    #[arg(long)]
    account: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, clap::Args)]
struct MessageArguments {
    /// The message's id.
    message: String,
    /// Why; kept in the audit log.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    acting: Acting,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the message says why.
pub fn run(arguments: OutboxArguments) -> anyhow::Result<()> {
    match arguments.action {
        Action::List(arguments) => list(&arguments),
        Action::Retry(arguments) => act(&arguments, "retry"),
        Action::Cancel(arguments) => act(&arguments, "cancel"),
    }
}

fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let mut filters = String::new();
    for (name, value) in [("state", &arguments.state), ("account", &arguments.account)] {
        if let Some(value) = value {
            filters.push_str(&format!("&{name}={}", escaped(value)));
        }
    }
    let mut after = String::new();
    loop {
        let path = format!("/_outbox?limit=1000{filters}{after}");
        let answer = ask(&arguments.remote.url, "GET", &path, &Value::Null)?;
        for message in answer["rows"].as_array().context("the server answered no list")? {
            match arguments.remote.json {
                true => println!("{message}"),
                false => println!("{}", line_of(message)),
            }
        }
        match answer["next"].as_str() {
            Some(next) => after = format!("&start_after={next}"),
            None => return Ok(()),
        }
    }
}

fn line_of(message: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let to = message["to"]["phone"].as_str().or_else(|| message["to"]["email"].as_str()).unwrap_or("-").to_owned();
    let tries = format!("{} tries", message["attempts"]);
    let columns = [text(&message["id"]), text(&message["state"]), text(&message["account"]), to, tries];
    format!("{}\t{}", columns.join("\t"), text(&message["error"]))
}

fn act(arguments: &MessageArguments, action: &str) -> anyhow::Result<()> {
    let Acting { remote, dry_run } = &arguments.acting;
    let path = format!("/_outbox/{}/{action}{}", escaped(&arguments.message), query_of(&arguments.acting));
    let answer = ask(&remote.url, "POST", &path, &json!({"reason": arguments.reason}))?;
    let verb = if *dry_run { "would be" } else { "is" };
    match remote.json {
        true => println!("{answer}"),
        false => println!("{} {verb} {}.", arguments.message, answer["message"]["state"].as_str().unwrap_or("changed")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_on_a_line() {
        let message = json!({"id": "0a", "state": "failed", "account": "bea", "to": {"phone": null, "email": "b@x"}, "attempts": 3,
            "error": "the gateway answered 422"});
        assert_eq!(line_of(&message), "0a\tfailed\tbea\tb@x\t3 tries\tthe gateway answered 422");
    }
}
