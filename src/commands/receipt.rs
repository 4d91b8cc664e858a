//! `settle receipt verify`: checks a receipt without a server, and says what it proves.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::remote::ask;
use crate::documents::receipts::Receipt;
use crate::storage::unhex;

/// Arguments of `settle receipt`.
#[derive(Debug, clap::Args)]
pub struct ReceiptArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check a receipt: exit code 0 when it is genuine.
    Verify(VerifyArguments),
}

#[derive(Debug, clap::Args)]
struct VerifyArguments {
    /// The receipt as JSON, or the answer that it came in.
    file: PathBuf,
    /// The server's public key, 64 hex digits; keep it from `GET /_handover/key`.
    #[arg(long, required_unless_present = "url", conflicts_with = "url")]
    key: Option<String>,
    /// Or ask the server for its key (http://host:port).
    #[arg(long, env = "SETTLE_URL", hide_env_values = true)]
    url: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the file cannot be read, or the receipt is not genuine.
pub fn run(arguments: ReceiptArguments) -> anyhow::Result<()> {
    let Action::Verify(arguments) = arguments.action;
    let file = arguments.file.display();
    let text = std::fs::read_to_string(&arguments.file).with_context(|| format!("cannot read {file}"))?;
    let mut value: Value = serde_json::from_str(&text).with_context(|| format!("{file} is no JSON"))?;
    if value["receipt"].is_object() {
        value = value["receipt"].take();
    }
    let receipt: Receipt = serde_json::from_value(value).with_context(|| format!("{file} is no receipt"))?;
    let key = match (&arguments.key, &arguments.url) {
        (Some(key), _) => key.clone(),
        (None, Some(url)) => {
            let answer = ask(url, "GET", "/_handover/key", &Value::Null)?;
            answer["key"].as_str().context("the server answered without a key")?.to_owned()
        }
        (None, None) => anyhow::bail!("give the server's key with --key, or its address with --url"),
    };
    let key = unhex(key.trim()).context("the key must be 64 hex digits")?;
    let checked = receipt.verify(&key);
    if arguments.json {
        let problem = checked.err().map(|problem| problem.to_string());
        println!("{}", serde_json::json!({"genuine": checked.is_ok(), "problem": problem, "receipt": receipt}));
    }
    if let Err(problem) = checked {
        ensure!(arguments.json, "the receipt proves nothing: {problem}");
        std::process::exit(1);
    }
    if !arguments.json {
        print!("{}", told(&receipt));
    }
    Ok(())
}

/// What a genuine receipt proves.
fn told(receipt: &Receipt) -> String {
    let escrowed = match receipt.escrowed {
        0 => String::new(),
        number => format!("Of these, {number} wait in escrow for a person's decision.\n"),
    };
    format!(
        "Genuine. On {} (seconds since 1970), {} revisions of {} documents that device {} of account {} listed\n\
         were durable in database {} of server {}.\n{escrowed}\
         It does not prove that the list was complete: that is the device's word. A backup from before that time\n\
         may lack them; incarnation {} says which history of the store it was.\n",
        receipt.time,
        receipt.revisions,
        receipt.documents,
        receipt.device,
        receipt.account,
        receipt.database,
        receipt.server,
        receipt.incarnation,
    )
}
