//! `settle restore`: copies a backup to where a server will serve it, and says what comes next; or confirms a restore whose
//! revocation ledger is gone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::json;

use super::remote::ask;
use crate::accounts::ledger_file::{Content, read};
use crate::services::history::ledger_path;
use crate::storage::BACKUP_MARK;

/// Arguments of `settle restore`.
#[derive(Debug, clap::Args)]
pub struct RestoreArguments {
    /// The backup.
    #[arg(required_unless_present = "confirm")]
    pub backup: Option<PathBuf>,
    /// New data folder.
    #[arg(long, value_name = "DIR", required_unless_present = "confirm")]
    pub to: Option<PathBuf>,
    /// Where the server will find the copy of the revocation ledger [default: beside the data folder].
    #[arg(long, env = "SETTLE_LEDGER", value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Tell a running server that scoped databases may give out documents although its ledger is gone.
    #[arg(long, requires = "url")]
    pub confirm: bool,
    /// The server to confirm it to (http://name:password@host:port, an operator).
    #[arg(long, env = "SETTLE_URL", value_name = "URL", hide_env_values = true)]
    pub url: Option<String>,
    /// Why, for the audit log.
    #[arg(long)]
    pub reason: Option<String>,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// When there is no backup, the new folder exists, or something cannot be copied; when the server refuses.
pub fn run(arguments: &RestoreArguments) -> anyhow::Result<()> {
    if arguments.confirm {
        return confirm(arguments);
    }
    let backup = arguments.backup.as_deref().context("name the backup")?;
    let to = arguments.to.as_deref().context("name the new data folder with --to")?;
    ensure!(backup.join("db").exists(), "{} is no backup: it has no folder db", backup.display());
    ensure!(!to.exists(), "{} exists already: move it away first, it may be needed", to.display());
    let ledger = ledger_path(to, arguments.ledger.as_deref())?;
    let known = match read(&ledger) {
        Content::Lines(lines, _) => Ok(lines.len()),
        Content::Missing => Err("it is missing".to_owned()),
        Content::Broken(why) => Err(why),
    };
    let files = if arguments.dry_run { 0 } else { copy(backup, to)? };
    if arguments.json {
        let (lines, problem) = (known.as_ref().ok(), known.as_ref().err());
        println!(
            "{}",
            json!({"ok": true, "dry_run": arguments.dry_run, "data": to, "files": files, "ledger": ledger, "lines": lines, "problem": problem})
        );
        return Ok(());
    }
    match arguments.dry_run {
        true => println!("would copy {} to {}", backup.display(), to.display()),
        false => println!("copied {} to {} ({files} files)", backup.display(), to.display()),
    }
    match known {
        Ok(lines) => {
            println!(
                "the revocation ledger {} has {lines} lines: what was withdrawn since the backup is withdrawn again",
                ledger.display()
            );
        }
        Err(why) => {
            println!("the revocation ledger {}: {why}", ledger.display());
            println!(
                "put the newest copy there before the server starts. Without it a phone that was withdrawn after the backup could"
            );
            println!(
                "read again, so scoped databases give nothing out until: settle restore --confirm --url http://name:password@host:port"
            );
        }
    }
    println!("next: settle verify --data {}, then start the server on it", to.display());
    println!("devices send again what the backup lacks; afterwards look at GET /_handover/lost_receipts");
    Ok(())
}

fn confirm(arguments: &RestoreArguments) -> anyhow::Result<()> {
    let Some(url) = &arguments.url else { bail!("name the server with --url") };
    if arguments.dry_run {
        println!("would confirm the restore of the server");
        return Ok(());
    }
    let body = json!({"reason": arguments.reason});
    let answer = ask(url, "POST", "/_handover/confirm_restore", &body)?;
    match (arguments.json, answer["changed"] == json!(true)) {
        (true, _) => println!("{answer}"),
        (false, true) => println!("confirmed: scoped databases give out documents again"),
        (false, false) => println!("there is nothing to confirm"),
    }
    Ok(())
}

/// Copies a folder with everything in it to the disk, and marks the copy. Gives the number of files.
fn copy(from: &Path, to: &Path) -> anyhow::Result<u64> {
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut files = copy_folder(&from.join("db"), &to.join("db"))?;
    let mark = to.join(BACKUP_MARK);
    match from.join(BACKUP_MARK) {
        marked if marked.exists() => drop(fs::copy(marked, &mark)?),
        _ => fs::write(&mark, "{}\n")?,
    }
    files += 1;
    File::open(&mark)?.sync_all()?;
    File::open(to)?.sync_all()?;
    Ok(files)
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<u64> {
    fs::create_dir(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut files = 0;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            files += copy_folder(&entry.path(), &target)?;
            continue;
        }
        fs::copy(entry.path(), &target).with_context(|| format!("cannot copy {}", entry.path().display()))?;
        File::open(&target)?.sync_all()?;
        files += 1;
        if files % 100 == 0 {
            eprintln!("{files} files copied");
        }
    }
    File::open(to)?.sync_all()?;
    Ok(files)
}
