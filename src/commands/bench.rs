//! `settle bench`: the same work against any CouchDB-compatible server, beside the raw limits of the machine.
//!
//! Without `--url` it starts this very program as a server of its own, afresh for each workload, and measures beside it what
//! RocksDB and an empty HTTP server can do here. With `--url` it measures a server that runs already; it creates and deletes
//! `settle_bench` (and, for longpolls, `settle_bench_second`) there.
//! Never touches other data, never judges a goal in a quick run.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use super::child_server::Scratch;
use crate::http::load::Target;
use raw_limits::StorageLimits;
use report::{Figure, Report};
use server::Server;

mod accounts;
pub mod client;
pub mod country;
pub mod footprint;
mod goals;
mod handover;
pub mod longpoll;
pub mod raw_limits;
pub mod reads;
pub mod reference;
pub mod replication;
pub mod report;
pub mod samples;
mod scope;
pub mod server;
pub mod writes;

const DATABASE: &str = "settle_bench";

/// Measures a server and prints a table.
#[derive(Debug, clap::Args)]
pub struct BenchArguments {
    /// `scope`: scoped databases while they grow; `handover`: ends of rights, manifests, the standing; `accounts`: a
    /// spreadsheet of accounts; instead of the workloads of a plain database.
    pub subject: Option<Subject>,
    /// With `accounts`: rows of the spreadsheet.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub rows: u64,
    /// With `scope`: the numbers of documents at which it measures, growing.
    #[arg(long, value_delimiter = ',', value_name = "N", default_values_t = [100_000, 1_000_000, 5_000_000])]
    pub sizes: Vec<u64>,
    /// Measure this server (http://name:password@host:port, an administrator) instead of starting one.
    #[arg(long)]
    pub url: Option<String>,
    /// Process id of the server behind --url, if it runs on this machine: its memory is measured too.
    #[arg(long, requires = "url")]
    pub pid: Option<u32>,
    /// Run only these workloads, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    pub only: Vec<Workload>,
    /// A tenth of the work: shows that everything runs, not how fast.
    #[arg(long)]
    pub quick: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// List the workloads and end.
    #[arg(long)]
    pub list: bool,
    /// Where to put the data of the servers it starts; choose the disk that is to be measured.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub folder: PathBuf,
    /// Start this program instead of this very one, to compare two builds.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub program: Option<PathBuf>,
}

/// What else can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// Scoped databases.
    Scope,
    /// Withdrawn rights.
    Handover,
    /// Accounts in bulk.
    Accounts,
}

/// The workloads, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Memory and disk after 50,000 documents.
    Footprint,
    /// `_bulk_docs` of 500, one client, 50,000 documents.
    #[value(name = "bulk-1")]
    BulkOne,
    /// `_bulk_docs` of 500, four clients, 50,000 documents.
    #[value(name = "bulk-4")]
    BulkFour,
    /// PUT of single documents, 8 connections.
    #[value(name = "put-8")]
    PutEight,
    /// PUT of single documents, 32 connections.
    #[value(name = "put-32")]
    PutThirtyTwo,
    /// GET of random documents, 32 connections, Basic credentials.
    GetBasic,
    /// GET of random documents, 32 connections, session cookie.
    GetCookie,
    /// `_changes` of 50,000 rows from the beginning.
    Changes,
    /// The same with documents.
    ChangesDocs,
    /// `_bulk_get` of 500 random ids, one and four connections.
    BulkGet,
    /// A first pull of 10,000 documents, as PouchDB does it.
    Pull,
    /// A first push of 5,000 documents, as PouchDB does it.
    Push,
    /// 10,000 waiting longpolls: memory, and the delay from a write to their answers.
    Longpoll,
}

/// How much work is done.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Documents written in bulk and read from.
    pub documents: u64,
    /// Documents of the pull.
    pub pulled: u64,
    /// Documents of the push.
    pub pushed: u64,
    /// Waiting longpolls.
    pub longpolls: u64,
    /// Length of the workloads that run for a time.
    pub duration: Duration,
}

impl Scale {
    /// The full amount, or a tenth of it.
    pub fn new(quick: bool) -> Self {
        let part = if quick { 10 } else { 1 };
        Self {
            documents: 50_000 / part,
            pulled: 10_000 / part,
            pushed: 5_000 / part,
            longpolls: 10_000 / part,
            duration: Duration::from_millis(5_000 / part),
        }
    }
}

/// What a workload gets to work with.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The server to measure.
    pub server: &'a Server,
    /// The database to create; what it held is gone.
    pub database: &'static str,
    /// How much to do.
    pub scale: Scale,
    /// RocksDB's limits; `None` when raw limits are not measured.
    pub limits: Option<StorageLimits>,
}

/// Runs the bench. An error when a workload failed; the report is printed before that.
pub fn run(arguments: BenchArguments) -> anyhow::Result<()> {
    if arguments.list {
        list();
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(subject) = arguments.subject {
        let scratch = Scratch::create(&arguments.folder, "bench")?;
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let program = arguments.program.unwrap_or(own);
        return runtime.block_on(async {
            match subject {
                Subject::Scope => scope::run(&program, &scratch, &arguments.sizes, arguments.json).await,
                Subject::Handover => handover::run(&program, &scratch, arguments.quick, arguments.json).await,
                Subject::Accounts => accounts::run(&program, &scratch, arguments.rows, arguments.json).await,
            }
        });
    }
    let report = runtime.block_on(measure(&arguments))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report.to_json())?);
    } else {
        print!("{}", report.to_table());
    }
    ensure!(report.failures.is_empty(), "{} of the workloads failed", report.failures.len());
    Ok(())
}

fn list() {
    for workload in Workload::value_variants() {
        let Some(value) = workload.to_possible_value() else { continue };
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        println!("{:<14} {help}", value.get_name());
    }
}

fn name_of(workload: Workload) -> String {
    workload.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

async fn measure(arguments: &BenchArguments) -> anyhow::Result<Report> {
    let scratch = Scratch::create(&arguments.folder, "bench")?;
    let scale = Scale::new(arguments.quick);
    let mut report = Report {
        server: arguments.url.as_ref().map_or_else(own_name, |url| without_credentials(url)),
        quick: arguments.quick,
        machine: (std::thread::available_parallelism().map_or(1, usize::from), load_average()),
        ..Report::default()
    };
    if arguments.url.is_none() {
        eprintln!("raw limits …");
        report.limits = Some(StorageLimits::measure(&scratch.path, &scale)?);
    }
    for workload in Workload::value_variants() {
        if !arguments.only.is_empty() && !arguments.only.contains(workload) {
            continue;
        }
        eprintln!("{} …", name_of(*workload));
        match perform(*workload, arguments, &scratch, scale, report.limits).await {
            Ok(figures) => report.figures.extend(figures),
            Err(error) => report.failures.push((name_of(*workload), format!("{error:#}"))),
        }
    }
    Ok(report)
}

/// One workload from an empty server to its figures.
async fn perform(
    workload: Workload,
    arguments: &BenchArguments,
    scratch: &Scratch,
    scale: Scale,
    limits: Option<StorageLimits>,
) -> anyhow::Result<Vec<Figure>> {
    let server = match &arguments.url {
        Some(url) => Server::running(Target::parse(url)?, arguments.pid),
        None => {
            let own = std::env::current_exe().context("cannot find this program's own file")?;
            Server::start(arguments.program.as_ref().unwrap_or(&own), &scratch.path)?
        }
    };
    let stage = Stage { server: &server, database: DATABASE, scale, limits };
    let figures = tokio::time::timeout(client::PATIENCE, work(workload, &stage)).await;
    // The figures matter more than a database left behind on a server that has just failed.
    let cleaned = client::delete_database(&server.target, DATABASE).await;
    match figures {
        Ok(Ok(figures)) => cleaned.map(|()| figures),
        Ok(Err(error)) => Err(error),
        Err(_) => bail!("not finished after {} s", client::PATIENCE.as_secs()),
    }
}

async fn work(workload: Workload, stage: &Stage<'_>) -> anyhow::Result<Vec<Figure>> {
    match workload {
        Workload::Footprint => footprint::measure(stage).await,
        Workload::BulkOne => writes::bulk(stage, "bulk-1", 1).await,
        Workload::BulkFour => writes::bulk(stage, "bulk-4", 4).await,
        Workload::PutEight => writes::single(stage, "put-8", 8).await,
        Workload::PutThirtyTwo => writes::single(stage, "put-32", 32).await,
        Workload::GetBasic => reads::single(stage, "get-basic", false).await,
        Workload::GetCookie => reads::single(stage, "get-cookie", true).await,
        Workload::Changes => reads::changes(stage, "changes", false).await,
        Workload::ChangesDocs => reads::changes(stage, "changes-docs", true).await,
        Workload::BulkGet => reads::bulk_get(stage).await,
        Workload::Pull => replication::pull(stage).await,
        Workload::Push => replication::push(stage).await,
        Workload::Longpoll => longpoll::measure(stage).await,
    }
}

fn own_name() -> String {
    format!("Settle {}, a server of its own for each workload", env!("CARGO_PKG_VERSION"))
}

fn without_credentials(url: &str) -> String {
    url.rsplit_once('@').map_or_else(|| url.to_owned(), |(_, host)| format!("http://{host}"))
}

/// The load average of the last minute; 0 where it cannot be read.
fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{BenchArguments, Scale, Workload, name_of, without_credentials};
    use clap::{Parser, ValueEnum};

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        bench: BenchArguments,
    }

    #[test]
    fn workloads_are_chosen_by_name() {
        let parsed = CommandLine::try_parse_from(["bench", "--only", "bulk-1,changes-docs", "--quick"]).unwrap();
        assert_eq!(parsed.bench.only, [Workload::BulkOne, Workload::ChangesDocs]);
        assert!(CommandLine::try_parse_from(["bench", "--only", "bulk-7"]).is_err());
        assert!(CommandLine::try_parse_from(["bench", "--pid", "1"]).is_err());
        let names: Vec<_> = Workload::value_variants().iter().map(|workload| name_of(*workload)).collect();
        assert!(names.iter().all(|name| name.len() <= 14 && !name.is_empty()), "{names:?}");
    }

    #[test]
    fn quick_is_a_tenth() {
        let (quick, full) = (Scale::new(true), Scale::new(false));
        assert_eq!((quick.documents * 10, quick.longpolls * 10), (full.documents, full.longpolls));
        assert_eq!(quick.duration * 10, full.duration);
    }

    #[test]
    fn passwords_stay_out_of_the_report() {
        assert_eq!(without_credentials("http://admin:p@ss@host:5984"), "http://host:5984");
        assert_eq!(without_credentials("http://host:5984"), "http://host:5984");
    }
}
