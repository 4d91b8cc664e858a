//! `settle place move`: moves a place or a person of a scoped database through a running server.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::http::client::{Address, ask};

/// Arguments of `settle place`.
#[derive(Debug, clap::Args)]
pub struct PlaceArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Move a place or a person, with everything below it, below another place.
    Move(MoveArguments),
}

#[derive(Debug, clap::Args)]
struct MoveArguments {
    /// The scoped database.
    database: String,
    /// Id of what is moved.
    id: String,
    /// Id of the place to move it below.
    to: String,
    /// The server (http://name:password@host:port, an operator or a steward).
    #[arg(long, env = "SETTLE_URL")]
    url: String,
    /// Only say who would be affected.
    #[arg(long)]
    dry_run: bool,
    /// Print the server's answer as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the message says what to do.
pub fn run(arguments: PlaceArguments) -> anyhow::Result<()> {
    let Action::Move(arguments) = arguments.action;
    let address = Address::parse(&arguments.url)?;
    let escaped =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    let query = if arguments.dry_run { "?dry_run=true" } else { "" };
    let path = format!("/{}/_places/{}/move{query}", escaped(&arguments.database), escaped(&arguments.id));
    let body = json!({"to": arguments.to});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, answer) = runtime.block_on(ask(address, "POST", &path, &body))?;
    let reason = answer["reason"].as_str().unwrap_or("no reason");
    ensure!((200..300).contains(&status), "the server answered {status}: {reason}");
    if arguments.json {
        println!("{answer}");
    } else {
        print!("{}", told(&arguments, &answer));
    }
    Ok(())
}

/// The answer in words.
fn told(arguments: &MoveArguments, answer: &Value) -> String {
    if !arguments.dry_run {
        let moved = answer["moved"].as_u64().unwrap_or_default();
        return format!("{} is below {} now; {moved} documents follow it.\n", arguments.id, arguments.to);
    }
    let documents = answer["documents"].as_u64().unwrap_or_default();
    let mut text = format!("{documents} documents would follow {} below {}.\n", arguments.id, arguments.to);
    for account in answer["accounts"].as_array().into_iter().flatten() {
        let number = |name: &str| account[name].as_u64().unwrap_or_default();
        let name = account["name"].as_str().unwrap_or_default();
        text.push_str(&format!("  {name}: gains {}, loses {}", number("gains"), number("loses")));
        for device in account["devices"].as_array().into_iter().flatten() {
            match device["last_pull_seconds_ago"].as_u64() {
                Some(seconds) => text.push_str(&format!("; a device that pulled {} hours ago", seconds / 3600)),
                None => text.push_str("; a device that never pulled"),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_in_words() {
        let mut arguments = MoveArguments {
            database: "medic".into(),
            id: "hh-1".into(),
            to: "area-2".into(),
            url: String::new(),
            dry_run: false,
            json: false,
        };
        assert_eq!(told(&arguments, &json!({"moved": 4})), "hh-1 is below area-2 now; 4 documents follow it.\n");
        arguments.dry_run = true;
        let devices =
            json!([{"device": "d", "last_pull_seconds_ago": 7300}, {"device": "e", "last_pull_seconds_ago": null}]);
        let answer = json!({"documents": 4, "accounts": [{"name": "ann", "gains": 0, "loses": 4, "devices": devices}]});
        assert_eq!(
            told(&arguments, &answer),
            "4 documents would follow hh-1 below area-2.\n  ann: gains 0, loses 4; a device that pulled 2 hours ago; \
             a device that never pulled\n"
        );
    }
}
