//! `settle audit export` and `settle audit verify --export`: the audit log as a file, and the check of such a file without a server.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::remote::{escaped, require_done, wait_for};
use crate::audit::Head;
use crate::audit::exported::Checked;
use crate::http::client::{Address, Client, Reply, Request};
use crate::storage::hex;

/// Bytes of a refusal.
const MOST_REFUSAL: usize = 1 << 16;

/// Arguments of `settle audit export`.
#[derive(Debug, clap::Args)]
pub struct ExportArguments {
    /// A running server (http://name:password@host:port, an operator or an auditor).
    #[arg(long, env = "SETTLE_URL", value_name = "URL", hide_env_values = true)]
    url: String,
    /// Where to write it; nothing: standard output. A file that is there is not overwritten.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only what was done by this account or operator.
    #[arg(long)]
    by: Option<String>,
    /// Only what is about this account.
    #[arg(long)]
    account: Option<String>,
    /// Only what is about this place.
    #[arg(long)]
    place: Option<String>,
    /// Only these kinds, with commas between them (`grant.make`, or `grant` for all of them).
    #[arg(long)]
    action: Option<String>,
    /// Only since this time, in seconds since 1970.
    #[arg(long)]
    from: Option<u64>,
    /// Only up to this time, in seconds since 1970.
    #[arg(long)]
    to: Option<u64>,
}

impl ExportArguments {
    fn path(&self) -> String {
        let texts = [("by", &self.by), ("account", &self.account), ("place", &self.place), ("action", &self.action)];
        let texts = texts.into_iter().filter_map(|(name, text)| Some(format!("{name}={}", escaped(text.as_ref()?))));
        let times = [("from", self.from), ("to", self.to)];
        let times = times.into_iter().filter_map(|(name, time)| Some(format!("{name}={}", time?)));
        format!("/_audit?{}", texts.chain(times).collect::<Vec<_>>().join("&"))
    }
}

/// Writes the log, or a choice of it, line by line as it comes.
///
/// # Errors
/// When the server cannot be reached or refuses, or the file cannot be written.
pub fn export(arguments: &ExportArguments) -> anyhow::Result<()> {
    wait_for(async {
        let mut client = Client::new(Arc::new(Address::parse(&arguments.url)?));
        let path = arguments.path();
        let request = Request { accept: "application/x-ndjson", ..Request::json("GET", &path, None) };
        let mut reply = client.send(request).await?;
        if !reply.is_success() {
            let said = serde_json::from_slice(&reply.whole(MOST_REFUSAL).await?).unwrap_or_default();
            require_done(reply.status, &said)?;
        }
        match &arguments.out {
            None => copy(&mut reply, &mut std::io::stdout().lock()).await,
            Some(path) => {
                let file = File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
                let mut out = BufWriter::new(file);
                copy(&mut reply, &mut out).await?;
                out.into_inner().map_err(|error| error.into_error())?.sync_all()?;
                eprintln!("written to {}; check it with: settle audit verify --export FILE", path.display());
                Ok(())
            }
        }
    })?
}

async fn copy(reply: &mut Reply, out: &mut impl Write) -> anyhow::Result<()> {
    while let Some(bytes) = reply.next().await? {
        out.write_all(&bytes)?;
    }
    Ok(out.flush()?)
}

/// Checks a file, against heads that were kept elsewhere, too. Gives what there is to print, as `GET /_audit/verify` answers.
///
/// # Errors
/// When the file cannot be read. What is wrong in it is an answer.
pub fn verify(path: &Path, kept: &[Head]) -> anyhow::Result<Value> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut checked = Checked::default();
    for line in BufReader::new(file).lines() {
        if let Err(broken) = checked.line(&line?, kept) {
            return Ok(json!({"ok": false, "entry": broken.number, "problem": broken.problem}));
        }
    }
    if let Some(kept) = kept.iter().find(|kept| checked.last.number < kept.number) {
        let problem = "the file ends before the entry whose head was kept";
        return Ok(json!({"ok": false, "entry": kept.number, "problem": problem}));
    }
    ensure!(checked.entries > 0, "there is no entry in {}", path.display());
    let head = json!({"number": checked.last.number, "hash": hex(&checked.last.hash)});
    Ok(json!({"ok": true, "entries": checked.entries, "gaps": checked.gaps, "head": head}))
}

/// What there is to say about a file beside the head.
#[must_use]
pub fn in_words(checked: &Value) -> Option<String> {
    let gaps = checked["gaps"].as_u64()?;
    Some(match gaps {
        0 => "the file holds the whole log up to its last entry".to_owned(),
        _ => format!("a choice of the log: something is left out in {gaps} places, which only the whole log can check"),
    })
}
