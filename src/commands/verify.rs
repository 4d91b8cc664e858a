//! `settle verify`: checks every stored row of a stopped server or a backup against the others.

use std::path::PathBuf;

use crate::clock::random;
use crate::documents::maintenance;
use crate::storage::{Memory, Store};

/// Problems listed before the check gives up.
const MOST_PROBLEMS: usize = 100;

/// Arguments of `settle verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// Data folder.
    #[arg(long, env = "SETTLE_DATA", value_name = "DIR", default_value = "settle-data")]
    pub data: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the data cannot be read, or problems were found.
pub fn run(arguments: VerifyArguments) -> anyhow::Result<()> {
    anyhow::ensure!(arguments.data.join("db").exists(), "there are no data in {}", arguments.data.display());
    let store = Store::open(&arguments.data, Memory::default(), random::<16>)?;
    let mut checked = 0;
    let problems = maintenance::verify(&store, MOST_PROBLEMS, |documents| {
        checked = documents;
        eprintln!("{documents} documents checked");
    })?;
    store.close();
    if arguments.json {
        println!("{}", serde_json::json!({"documents": checked, "problems": problems}));
    } else {
        for problem in &problems {
            println!("{problem}");
        }
        println!("{checked} documents, {} problems", problems.len());
    }
    anyhow::ensure!(
        problems.is_empty(),
        "the store has problems; restore a backup, or ask for help with the list above"
    );
    Ok(())
}
