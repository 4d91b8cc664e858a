//! `settle place`: moves a place or a person of a scoped database through a running server. What changes who holds a place
//! is in `handing_over.rs`.

use serde_json::{Value, json};

use super::handing_over::{self, HandingOver};
use super::remote::{Acting, Remote, ask, escaped};

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
    #[command(flatten)]
    HandOver(HandingOver),
}

#[derive(Debug, clap::Args)]
struct MoveArguments {
    /// The scoped database.
    database: String,
    /// Id of what is moved.
    id: String,
    /// Id of the place to move it below.
    to: String,
    #[command(flatten)]
    acting: Acting,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot be reached or refuses; the message says what to do.
pub fn run(arguments: PlaceArguments) -> anyhow::Result<()> {
    let arguments = match arguments.action {
        Action::Move(arguments) => arguments,
        Action::HandOver(action) => return handing_over::run(action),
    };
    let Acting { remote: Remote { url, json: as_json }, dry_run } = &arguments.acting;
    let query = if *dry_run { "?dry_run=true" } else { "" };
    let path = format!("/{}/_places/{}/move{query}", escaped(&arguments.database), escaped(&arguments.id));
    let answer = ask(url, "POST", &path, &json!({"to": arguments.to}))?;
    if *as_json {
        println!("{answer}");
    } else {
        print!("{}", told(&arguments, &answer));
    }
    Ok(())
}

/// The answer in words.
fn told(arguments: &MoveArguments, answer: &Value) -> String {
    if !arguments.acting.dry_run {
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
            acting: Acting { remote: Remote { url: String::new(), json: false }, dry_run: false },
        };
        assert_eq!(told(&arguments, &json!({"moved": 4})), "hh-1 is below area-2 now; 4 documents follow it.\n");
        arguments.acting.dry_run = true;
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
