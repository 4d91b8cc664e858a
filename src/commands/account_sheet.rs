//! `settle account sheet`: cards with links as QR codes, to be printed where there is no SMS.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::json;

use super::account_making::query_of;
use super::remote::{Acting, fetch};

/// Arguments of `settle account sheet`.
#[derive(Debug, clap::Args)]
pub struct SheetArguments {
    /// The accounts, one after the other.
    #[arg(required_unless_present = "place", conflicts_with = "place")]
    accounts: Vec<String>,
    /// The accounts at and below this place that have no password and that nobody has logged in to yet.
    #[arg(long)]
    place: Option<String>,
    /// With --place: also those with a password, and those that somebody has logged in to.
    #[arg(long, requires = "place")]
    all: bool,
    /// The file, which must not be there yet; only its owner can read it. Open it in a browser and print it.
    #[arg(long, required_unless_present = "dry_run")]
    out: Option<PathBuf>,
    /// Language of cards for people without one: en, fr, sw, es, pt.
    #[arg(long)]
    locale: Option<String>,
    /// The scoped database of the place, if there are several.
    #[arg(long)]
    database: Option<String>,
    /// Why; kept in the audit log.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    acting: Acting,
}

/// Runs the command.
///
/// # Errors
/// When the file is there already or cannot be made, or when the server cannot be reached or refuses; the message says why.
pub fn run(arguments: &SheetArguments) -> anyhow::Result<()> {
    let mut body = json!({"locale": arguments.locale, "database": arguments.database, "reason": arguments.reason});
    match &arguments.place {
        Some(place) => {
            body["place"] = json!(place);
            body["all"] = json!(arguments.all);
        }
        None => body["accounts"] = json!(arguments.accounts),
    }
    let path = format!("/_accounts/_sheet{}", query_of(&arguments.acting));
    let url = &arguments.acting.remote.url;
    let Some(out) = arguments.out.as_ref().filter(|_| !arguments.acting.dry_run) else {
        println!("{}", String::from_utf8_lossy(&fetch(url, "POST", &path, &body)?));
        return Ok(());
    };
    let shown = out.display();
    // Before the links are made: they would be of no use if the page could not be kept.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out);
    let mut file = file.with_context(|| format!("cannot make {shown}"))?;
    let page = fetch(url, "POST", &path, &body).inspect_err(|_| {
        // An empty file would be in the way of the next try.
        let _ = std::fs::remove_file(out);
    })?;
    ensure!(page.starts_with(b"<!doctype html>"), "the server answered no page");
    file.write_all(&page).and_then(|()| file.sync_all()).with_context(|| format!("cannot write {shown}"))?;
    println!("{shown} has the cards. Print it, and delete it: each link logs in once, whoever has it.");
    Ok(())
}
