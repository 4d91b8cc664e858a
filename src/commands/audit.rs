//! `settle audit`: checks the audit log, shows its end, writes it to a file.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::audit_export::{self, ExportArguments};
use super::remote::ask;
use crate::audit::{self, Head};
use crate::clock::random;
use crate::storage::{Memory, Store, hex, unhex};

/// Arguments of `settle audit`.
#[derive(Debug, clap::Args)]
pub struct AuditArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check every entry, and print the head: keep it elsewhere, and give it to the next check.
    Verify(VerifyArguments),
    /// Show the newest entries.
    Tail(TailArguments),
    /// Write the log to a file, or a choice of it, one entry a line, with the hashes that bind them.
    Export(ExportArguments),
}

#[derive(Debug, clap::Args)]
struct Source {
    /// A running server (http://name:password@host:port, an operator or an auditor).
    #[arg(long, env = "SETTLE_URL", value_name = "URL", hide_env_values = true, conflicts_with = "data")]
    url: Option<String>,
    /// Data folder of a stopped server, or a backup.
    #[arg(long, env = "SETTLE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct VerifyArguments {
    #[command(flatten)]
    source: Source,
    /// A file that `settle audit export` wrote; needs no server.
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// A head that was printed earlier.
    #[arg(long, value_name = "NUMBER:HASH")]
    head: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct TailArguments {
    #[command(flatten)]
    source: Source,
    /// How many entries.
    #[arg(long, short = 'n', default_value_t = 20)]
    lines: u64,
    /// Go on as entries come (with --url).
    #[arg(long)]
    follow: bool,
    /// Print JSON, one entry a line.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the log cannot be read; for `verify` also when it is not as it was written.
pub fn run(arguments: AuditArguments) -> anyhow::Result<()> {
    match arguments.action {
        Action::Verify(arguments) => verify(&arguments),
        Action::Tail(arguments) => tail(&arguments),
        Action::Export(arguments) => audit_export::export(&arguments),
    }
}

fn open(data: &Path) -> anyhow::Result<Store> {
    ensure!(data.join("db").exists(), "there are no data in {}", data.display());
    Store::open(data, Memory::default(), random::<16>)
        .context("is the server running? then use --url http://name:password@host:port")
}

fn verify(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let kept = arguments.head.as_deref().map(parse_head).transpose()?;
    let checked = match (&arguments.export, &arguments.source.url, &arguments.source.data) {
        (Some(file), _, _) => audit_export::verify(file, kept.as_slice())?,
        (None, Some(url), _) => {
            let query = arguments.head.as_deref().map(|head| format!("?head={head}")).unwrap_or_default();
            ask(url, "GET", &format!("/_audit/verify{query}"), &Value::Null)?
        }
        (None, None, Some(data)) => {
            let store = open(data)?;
            let checked = audit::verify(&store.snapshot(), kept.as_slice());
            store.close();
            match checked? {
                Ok(head) => {
                    json!({"ok": true, "entries": head.number, "head": {"number": head.number, "hash": hex(&head.hash)}})
                }
                Err(broken) => json!({"ok": false, "entry": broken.number, "problem": broken.problem}),
            }
        }
        (None, None, None) => bail!(
            "name the data folder of a stopped server with --data, a running one with --url, or a file with --export"
        ),
    };
    if arguments.json {
        println!("{checked}");
    } else if checked["ok"] == json!(true) {
        let head = &checked["head"];
        println!("{} entries, all as they were written", checked["entries"]);
        println!("head {}:{}", head["number"], head["hash"].as_str().unwrap_or_default());
        if let Some(words) = audit_export::in_words(&checked) {
            println!("{words}");
        }
    }
    let problem = checked["problem"].as_str().unwrap_or_default();
    ensure!(checked["ok"] == json!(true), "entry {}: {problem}", checked["entry"]);
    Ok(())
}

fn parse_head(text: &str) -> anyhow::Result<Head> {
    let head =
        text.split_once(':').and_then(|(number, hash)| Some(Head { number: number.parse().ok()?, hash: unhex(hash)? }));
    head.context("--head takes NUMBER:HASH, as `settle audit verify` prints it")
}

fn tail(arguments: &TailArguments) -> anyhow::Result<()> {
    let Some(url) = &arguments.source.url else {
        let data = arguments.source.data.as_ref().context("name a data folder with --data, or a server with --url")?;
        ensure!(!arguments.follow, "--follow needs a running server: --url http://name:password@host:port");
        return tail_of_folder(data, arguments);
    };
    let head = ask(url, "GET", "/_audit?limit=1", &Value::Null)?["head"]["number"].as_u64().unwrap_or_default();
    let mut since = head.saturating_sub(arguments.lines);
    let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    loop {
        let page = ask(url, "GET", &format!("/_audit?limit=1000&since={since}"), &Value::Null)?;
        for entry in page["entries"].as_array().into_iter().flatten() {
            since = entry["number"].as_u64().unwrap_or(since);
            show(entry, arguments.json)?;
        }
        if !page["next"].is_null() {
            continue;
        }
        if !arguments.follow {
            return Ok(());
        }
        timer.block_on(tokio::time::sleep(Duration::from_secs(1)));
    }
}

fn tail_of_folder(data: &Path, arguments: &TailArguments) -> anyhow::Result<()> {
    let store = open(data)?;
    let snapshot = store.snapshot();
    let from = audit::head(&snapshot)?.number.saturating_sub(arguments.lines) + 1;
    let mut entries = Vec::new();
    audit::read(&snapshot, from, |number, entry| {
        let mut value = serde_json::to_value(entry).unwrap_or_default();
        value["number"] = number.into();
        entries.push(value);
        ControlFlow::Continue(())
    })?;
    drop(snapshot);
    store.close();
    entries.iter().try_for_each(|entry| show(entry, arguments.json))
}

fn show(entry: &Value, as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        writeln!(out, "{entry}")?;
    } else {
        writeln!(out, "{}", in_words(entry))?;
    }
    Ok(out.flush()?)
}

/// An entry on one line.
fn in_words(entry: &Value) -> String {
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let by = if text("by").is_empty() { "the server" } else { text("by") };
    let mut line = format!("{} {} {} by {by}", entry["number"], entry["time"], text("action"));
    for member in ["account", "device", "database", "place", "reason"] {
        if !entry[member].is_null() {
            line.push_str(&format!(", {member} {}", text(member)));
        }
    }
    if let Some(details) = entry["details"].as_object().filter(|details| !details.is_empty()) {
        line.push_str(&format!(" {}", Value::Object(details.clone())));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_in_words() {
        let entry =
            json!({"number": 7, "time": 1, "by": "root", "action": "device.cut", "account": "ann", "reason": "lost"});
        assert_eq!(in_words(&entry), "7 1 device.cut by root, account ann, reason lost");
        let entry = json!({"number": 8, "time": 1, "action": "config.set", "details": {"key": "timeout"}});
        assert_eq!(in_words(&entry), "8 1 config.set by the server {\"key\":\"timeout\"}");
    }
}
