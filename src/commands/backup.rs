//! `settle backup`: a consistent copy of the data, online through a running server or directly from a stopped one.

use std::path::PathBuf;

use crate::clock::random;
use crate::storage::{Memory, Store};

/// Arguments of `settle backup`.
#[derive(Debug, clap::Args)]
pub struct BackupArguments {
    /// Data folder of the server.
    #[arg(long, env = "SETTLE_DATA", value_name = "DIR", default_value = "settle-data")]
    pub data: PathBuf,
    /// New folder for the copy.
    pub target: PathBuf,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// When the data are in use, cannot be read, or the target exists.
pub fn run(arguments: BackupArguments) -> anyhow::Result<()> {
    anyhow::ensure!(arguments.data.join("db").exists(), "there are no data in {}", arguments.data.display());
    if arguments.dry_run {
        println!("would copy {} to {}", arguments.data.display(), arguments.target.display());
        return Ok(());
    }
    let store = Store::open(&arguments.data, Memory::default(), random::<16>)?;
    store.backup(&arguments.target)?;
    store.close();
    println!("copied {} to {}", arguments.data.display(), arguments.target.display());
    println!("check it with: settle verify --data {}", arguments.target.display());
    Ok(())
}
