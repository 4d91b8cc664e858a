//! `settle outbox`: what became of links that were sent and of events that a webhook refused, through a running server.

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
    /// List messages, the newest first, and events that a webhook refused.
    List(ListArguments),
    /// Try a message, or an event that was set aside, again at once.
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
    /// The message's id; of an event WEBHOOK:NUMBER.
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
            None => {
                if filters.is_empty() {
                    print_events(&answer, arguments.remote.json);
                }
                return Ok(());
            }
        }
    }
}

/// Events that were set aside, of every webhook.
fn print_events(answer: &Value, as_json: bool) {
    let webhooks = answer["webhooks"].as_array().into_iter().flatten();
    for event in webhooks.filter_map(|webhook| webhook["aside"].as_array()).flatten() {
        match as_json {
            true => println!("{event}"),
            false => println!("{}", line_of_event(event)),
        }
    }
}

fn line_of_event(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let tries = format!("{} tries", event["attempts"]);
    [text(&event["id"]), text(&event["state"]), text(&event["event"]), tries, text(&event["error"])].join("\t")
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
    fn an_event_is_told_on_a_line() {
        let event = json!({"id": "ops:7", "state": "set_aside", "event": "device.cut", "attempts": 20, "error": "the gateway answered 422"});
        assert_eq!(line_of_event(&event), "ops:7\tset_aside\tdevice.cut\t20 tries\tthe gateway answered 422");
    }

    #[test]
    fn a_message_is_told_on_a_line() {
        let message = json!({"id": "0a", "state": "failed", "account": "bea", "to": {"phone": null, "email": "b@x"}, "attempts": 3,
            "error": "the gateway answered 422"});
        assert_eq!(line_of(&message), "0a\tfailed\tbea\tb@x\t3 tries\tthe gateway answered 422");
    }
}
