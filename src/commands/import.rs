//! `settle import couchdb`: brings what a CouchDB or a CHT server holds into Settle, and proves that all of it arrived.
//!
//! It talks to both servers over HTTP as a replicator does and stores nothing itself. It may stop at any moment: the
//! same command goes on where it was. It may run while the source is in use, and again shortly before the change.
//! Server admins are settings of the old server, not documents, and are never imported.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde_json::Value;

use accounts::survey;
use checkpoint::Checkpoint;
use copy::{Copied, Job, copy};
use plan::{decide, in_order};
use progress::Progress;
use report::{Database, Outcome, Skipped};
use side::{Failure, Side, escaped};
use verify::{Depth, verify, verify_again};

use crate::http::client::{Address, Request};

mod accounts;
mod attachments;
mod checkpoint;
mod compare;
mod copy;
mod elements;
mod feed;
mod plan;
mod progress;
mod report;
mod side;
mod sorted;
mod verify;

/// Where `settle serve` keeps the password of the operator that it made.
const OWN_PASSWORD: &str = "settle-data/admin-password";

/// Arguments of `settle import`.
#[derive(Debug, clap::Args)]
pub struct ImportArguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Bring over databases, accounts with their passwords, and `_security` of a CouchDB or CHT server.
    ///
    /// Copies every leaf of every document with its history: conflicts, tombstones with their bodies, design documents,
    /// attachments; then reads both sides and compares. The same command again goes on where it stopped, or brings what
    /// is new since. CouchDB 2 or later. For https, the certificates count that this system trusts, or those in the file
    /// that `SSL_CERT_FILE` names.
    ///
    /// Not imported: server admins (they are settings; see `settle serve --admin`), sessions, `_local` documents,
    /// `_security` of `_users`, indexes of views.
    Couchdb(CouchdbArguments),
}

#[derive(Debug, clap::Args)]
struct CouchdbArguments {
    /// The server to import from (https://name:password@host:port, a server admin). May stand in the environment, where
    /// it is not seen by others on this machine.
    #[arg(env = "SETTLE_IMPORT_URL", hide_env_values = true)]
    url: String,
    /// The server to import into, Settle or CouchDB (http://name:password@host:port, an operator). Without credentials
    /// the operator that `settle serve` made in ./settle-data is taken.
    #[arg(
        long,
        value_name = "URL",
        env = "SETTLE_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:5984"
    )]
    to: String,
    /// Import this database only; may be given several times [default: all but those of single users and the server's
    /// own].
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
    /// Make this database a scoped one, in which each health worker gets the own area only; may be given several times.
    /// The CHT's main database is `medic`.
    #[arg(long, value_name = "NAME")]
    scoped: Vec<String>,
    /// Also databases of single users (medic-user-NAME-meta) and the CHT's purge lists (medic-purged-…).
    #[arg(long, conflicts_with = "database")]
    all: bool,
    /// Look at everything again instead of going on from the last checkpoint; what is there is not sent again.
    #[arg(long)]
    from_start: bool,
    /// How closely to compare both sides afterwards.
    #[arg(long, value_enum, default_value_t = Depth::Documents)]
    verify: Depth,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When a server cannot be reached or refuses, or what arrived is not what was sent; the message says what to do.
pub fn run(arguments: ImportArguments) -> anyhow::Result<()> {
    let Action::Couchdb(arguments) = arguments.action;
    let source = Side::new("the source", Address::parse(&arguments.url)?);
    let mut to = Address::parse(&arguments.to)?;
    if !to.has_credentials()
        && let Ok(password) = std::fs::read_to_string(OWN_PASSWORD)
    {
        to = to.with_credentials("admin", password.trim());
    }
    let import = Import { source, target: Side::new("the target", to), arguments };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(import.import())?;
    match import.arguments.json {
        true => println!("{}", serde_json::to_string(&outcome)?),
        false => outcome.lines().iter().for_each(|line| println!("{line}")),
    }
    let wrong = outcome.databases.iter().filter(|database| !database.is_good()).count();
    ensure!(
        wrong == 0,
        "{wrong} of {} databases are not the same on both sides; look at what is named above. What the target refused is \
         tried again with --from-start.",
        outcome.databases.len()
    );
    Ok(())
}

struct Import {
    source: Arc<Side>,
    target: Arc<Side>,
    arguments: CouchdbArguments,
}

impl Import {
    async fn import(&self) -> anyhow::Result<Outcome> {
        let version = hello(&self.source).await?;
        ensure!(!version.starts_with("1."), "CouchDB {version} cannot be imported from; update it to 2 or later first");
        hello(&self.target).await?;
        ensure!(self.source.url() != self.target.url(), "source and target are the same server");
        self.require_operator().await?;
        let (names, skipped) = self.names().await?;
        if let Some(name) = self.arguments.scoped.iter().find(|name| !names.contains(name)) {
            bail!("--scoped {name}: this database is not imported; the source has: {}", names.join(", "));
        }
        let mut accounts = None;
        let mut databases = Vec::new();
        for name in names {
            if name == "_users" {
                accounts = Some(survey(&self.source).await?);
            }
            databases.push(self.database(name).await?);
        }
        let (source, target) = (self.source.url(), self.target.url());
        Ok(Outcome { source, target, dry_run: self.arguments.dry_run, databases, skipped, accounts })
    }

    async fn require_operator(&self) -> anyhow::Result<()> {
        let session = self.target.json("GET", "/_session", None).await?;
        let roles = session["userCtx"]["roles"].as_array();
        let is_operator = roles.is_some_and(|roles| roles.iter().any(|role| role == "_admin"));
        ensure!(
            is_operator,
            "{} is not an operator's; write name and password of one into --to http://NAME:PASSWORD@HOST",
            self.target.url()
        );
        Ok(())
    }

    /// What to import, and what not and why.
    async fn names(&self) -> anyhow::Result<(Vec<String>, Vec<Skipped>)> {
        if !self.arguments.database.is_empty() {
            return Ok((in_order(self.arguments.database.clone()), Vec::new()));
        }
        let all = self.source.json("GET", "/_all_dbs", None).await?;
        let all: Vec<String> = serde_json::from_value(all).context("the source's list of databases is none")?;
        let (mut names, mut skipped) = (Vec::new(), Vec::new());
        for name in all {
            match decide(&name, self.arguments.all) {
                Ok(()) => names.push(name),
                Err(why) => skipped.push(Skipped { name, why }),
            }
        }
        Ok((in_order(names), skipped))
    }

    async fn database(&self, name: String) -> anyhow::Result<Database> {
        let path = format!("/{}", escaped(&name));
        let info = self.source.json("GET", &path, None).await.with_context(|| format!("database {name}"))?;
        let wanted_scoped = self.arguments.scoped.contains(&name);
        let there = self.target.find(&path).await?;
        let is_scoped = there.as_ref().is_some_and(|there| there["props"]["scoped"] == true);
        ensure!(
            there.is_none() || !wanted_scoped || is_scoped,
            "{name} is at the target already and is not scoped, which cannot be changed: delete it there first, or leave \
             --scoped away"
        );
        let mut checkpoint = Checkpoint::new(&self.source, &name, &info);
        if there.is_some() && !self.arguments.from_start {
            checkpoint = checkpoint.find(&self.target).await?;
        }
        let mut database = Database {
            scoped: wanted_scoped || is_scoped,
            made: there.is_none(),
            source_documents: info["doc_count"].as_u64().unwrap_or_default(),
            resumed_after: checkpoint.rows,
            name,
            ..Database::default()
        };
        if self.arguments.dry_run {
            return Ok(database);
        }
        let name = database.name.clone();
        self.prepare(&database, &path).await.with_context(|| format!("database {name}"))?;
        let job = Job { source: Arc::clone(&self.source), target: Arc::clone(&self.target), database: name.clone() };
        self.fill(&job, &mut checkpoint, &mut database).await.with_context(|| format!("database {name}"))?;
        Ok(database)
    }

    /// Makes the database with its `_security` and its limit of revisions.
    async fn prepare(&self, database: &Database, path: &str) -> anyhow::Result<()> {
        if database.made {
            let query = if database.scoped { "?scoped=true" } else { "" };
            match self.target.json("PUT", &format!("{path}{query}"), None).await {
                // An earlier try whose answer was lost.
                Ok(_) | Err(Failure::Refused { status: 412, .. }) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        if database.scoped {
            let made = self.target.json("GET", path, None).await?;
            ensure!(made["props"]["scoped"] == true, "the target is no Settle: it does not know scoped databases");
        }
        if database.name != "_users" {
            let security = self.source.json("GET", &format!("{path}/_security"), None).await?;
            let body = Bytes::from(security.to_string());
            self.target.json("PUT", &format!("{path}/_security"), Some(body)).await?;
        }
        let limit_path = format!("{path}/_revs_limit");
        let limits =
            [self.source.json("GET", &limit_path, None).await?, self.target.json("GET", &limit_path, None).await?];
        if limits[0].as_u64() > limits[1].as_u64() {
            let body = Bytes::from(limits[0].to_string());
            self.target.json("PUT", &limit_path, Some(body)).await?;
        }
        Ok(())
    }

    async fn fill(&self, job: &Job, checkpoint: &mut Checkpoint, database: &mut Database) -> Result<(), Failure> {
        let progress = Progress::new(&job.database, checkpoint.rows);
        let mut copied = copy(job, checkpoint, &progress).await?;
        let depth = self.arguments.verify;
        if depth != Depth::No {
            let mut comparison = verify(job, depth, &progress).await?;
            if !comparison.is_equal() && comparison.more == 0 {
                // The source may be in use: bring what is new and look again at what differed.
                copied.add(copy(job, checkpoint, &progress).await?);
                verify_again(job, depth, &mut comparison).await?;
            }
            database.compared = Some(comparison);
        }
        let Copied { revisions, with_attachments, vanished, refused } = copied;
        database.copied_revisions = revisions;
        database.copied_with_attachments = with_attachments;
        database.vanished = vanished;
        database.refused = refused;
        Ok(())
    }
}

/// Asks a server who it is, once: a wrong address should be said at once. Its version.
async fn hello(side: &Arc<Side>) -> anyhow::Result<String> {
    let mut answer = side.send(Request::json("GET", "/", None)).await?.successful().await?;
    let text = answer.whole().await?;
    let welcome: Value = serde_json::from_slice(&text).unwrap_or_default();
    if welcome["couchdb"] != "Welcome" {
        let why = match welcome.get("db_name") {
            Some(_) => "the URL ends in a database; leave it away and name that with --database",
            None => "there is no CouchDB at this URL",
        };
        return Err(side.strange("GET /", why).into());
    }
    Ok(welcome["version"].as_str().unwrap_or_default().to_owned())
}
