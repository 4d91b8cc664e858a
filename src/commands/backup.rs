//! `settle backup`: a consistent copy of the data, online through a running server or directly from a stopped one.

use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::clock::random;
use crate::http::load::{Connection, SMALL_BUFFER, Target};
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
    let target = Target::parse(url)?;
    if dry_run {
        println!("would ask {} for a backup below its data folder", target.host());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (head, answer) = runtime.block_on(async {
        let mut answer = Vec::new();
        let mut connection = Connection::open(&target, SMALL_BUFFER).await?;
        let head = connection.exchange("POST", "/_backup", b"{}", &mut answer).await?;
        anyhow::Ok((head, answer))
    })?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
    ensure!(
        head.is_success(),
        "the server answered {}: {}",
        head.status,
        answer["reason"].as_str().unwrap_or("no reason")
    );
    let path = answer["path"].as_str().unwrap_or_default();
    println!("the server wrote {path}");
    println!("check it with: settle verify --data {path}");
    Ok(())
}
