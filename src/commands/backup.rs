//! `settle backup`: a consistent copy of the data, online through a running server or directly from a stopped one.

use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::clock::random;
use crate::http::client::{Address, ask};
use crate::storage::{Memory, Store};

/// Arguments of `settle backup`.
#[derive(Debug, clap::Args)]
pub struct BackupArguments {
    /// A running server (http://name:password@host:port, an operator): it makes the copy below its own data folder.
    #[arg(long, conflicts_with_all = ["data", "target"])]
    pub url: Option<String>,
    /// Data folder of a stopped server.
    #[arg(long, env = "SETTLE_DATA", value_name = "DIR", default_value = "settle-data")]
    pub data: PathBuf,
    /// New folder for the copy of a stopped server's data.
    #[arg(required_unless_present = "url")]
    pub target: Option<PathBuf>,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When the data are in use, cannot be read, or the target exists; when the server refuses.
pub fn run(arguments: BackupArguments) -> anyhow::Result<()> {
    if let Some(url) = &arguments.url {
        return online(url, arguments.dry_run);
    }
    let target = arguments.target.context("name a new folder for the copy")?;
    ensure!(arguments.data.join("db").exists(), "there are no data in {}", arguments.data.display());
    if arguments.dry_run {
        println!("would copy {} to {}", arguments.data.display(), target.display());
        return Ok(());
    }
    let store = Store::open(&arguments.data, Memory::default(), random::<16>)
        .context("is the server running? then use: settle backup --url http://name:password@host:port")?;
    store.backup(&target)?;
    store.close();
    println!("copied {} to {}", arguments.data.display(), target.display());
    println!("check it with: settle verify --data {}", target.display());
    Ok(())
}

fn online(url: &str, dry_run: bool) -> anyhow::Result<()> {
    let address = Address::parse(url)?;
    if dry_run {
        println!("would ask {} for a backup below its data folder", address.shown());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (status, answer) = runtime.block_on(ask(address, "POST", "/_backup", &serde_json::json!({})))?;
    let reason = answer["reason"].as_str().unwrap_or("no reason");
    ensure!((200..300).contains(&status), "the server answered {status}: {reason}");
    let path = answer["path"].as_str().unwrap_or_default();
    println!("the server wrote {path}");
    println!("check it with: settle verify --data {path}");
    Ok(())
}
