//! `settle bench accounts`: how long a spreadsheet of accounts takes, each with a place, a contact and a link of its own.
//!
//! It writes the file, and imports it with `settle account import` as a person would: this program as a process of its own, the
//! server as another one, over loopback, journal and result file on the disk. Beside it somebody else writes a document now and
//! then, to see how long they wait.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::client::{Client, quantile, sorted_milliseconds};
use super::country::{self, AREAS};
use super::goals::{Figure, figure, print};
use super::server::Server;
use crate::commands::child_server::Scratch;

const DATABASE: &str = "settle_bench";
/// Seconds for a file of [`ROWS`] rows.
const GOAL: f64 = 60.0;
/// Rows for which there is a goal.
const ROWS: u64 = 10_000;
/// Documents in one `_bulk_docs` of the places above.
const BATCH: usize = 500;
/// Between two writes of somebody else.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the bench and prints the table.
pub(super) async fn run(program: &Path, scratch: &Scratch, rows: u64, as_json: bool) -> anyhow::Result<()> {
    let server = Server::start(program, &scratch.path)?;
    set_up(&server, rows).await?;
    let file = scratch.path.join("workers.csv");
    fs::write(&file, spreadsheet(rows)).with_context(|| format!("cannot write {}", file.display()))?;
    let bench = Bench { program, server: &server, file, rows };
    let goal = (rows == ROWS).then_some(GOAL);
    let again = scratch.path.join("again.csv").display().to_string();
    let mut figures = vec![
        bench.step("a try", "created", &["--dry-run"], None).await?,
        bench.step("accounts made", "created", &[], goal).await?,
        bench.step("the same file again", "exists", &["--result", &again], None).await?,
    ];
    let links = fs::read_to_string(scratch.path.join("workers.result.csv"))?.matches("/_links/").count();
    ensure!(links as u64 == rows, "{links} links for {rows} rows");
    figures.push(bench.deeper().await?);
    figures.push(figure("memory", "MiB", None, server.memory().unwrap_or_default(), "of the server, at the end"));
    print(&figures, as_json);
    Ok(())
}

/// The places above those that the rows make.
async fn set_up(server: &Server, rows: u64) -> anyhow::Result<()> {
    let mut admin = Client::open(&server.target).await?;
    admin.bytes("PUT", &format!("/{DATABASE}?scoped=true"), b"").await?;
    let security = json!({"members": {"roles": ["chw"]}}).to_string();
    admin.bytes("PUT", &format!("/{DATABASE}/_security"), security.as_bytes()).await?;
    admin.bytes("PUT", &format!("/{DATABASE}/settings"), &settings(1)).await?;
    for some in country::frame(rows).chunks(BATCH) {
        admin.bytes("POST", &format!("/{DATABASE}/_bulk_docs"), &country::bulk(some)).await?;
    }
    Ok(())
}

/// The role of the rows sees so deep.
fn settings(depth: u8) -> Vec<u8> {
    json!({"settings": {"replication_depth": [{"role": "chw", "depth": depth}]}}).to_string().into_bytes()
}

/// A file as a programme has it: one row for each health worker, ten areas below each health centre.
fn spreadsheet(rows: u64) -> String {
    let columns = [
        "external_id",
        "roles",
        "fullname",
        "phone",
        "language",
        "place.name",
        "place.type",
        "place.contact_type",
        "place.parent",
        "contact.name",
        "contact.type",
        "contact.phone",
        "contact.sex",
        "note:excluded",
    ];
    let mut text = columns.join(",") + "\r\n";
    for row in 0..rows {
        let centre = country::id("centre", row / AREAS);
        let phone = format!("+2567{row:08}");
        text.push_str(&format!(
            "HR-{row:06},chw,\"Worker {row}, of area {row}\",{phone},sw,Area {row},contact,chw_area,{centre},Worker {row},\
             person,{phone},female,row {row} of the list\r\n"
        ));
    }
    text
}

struct Bench<'a> {
    program: &'a Path,
    server: &'a Server,
    file: PathBuf,
    rows: u64,
}

impl Bench<'_> {
    /// One import: its seconds, and how long somebody else's writes took meanwhile. Every row must become `word`.
    async fn step(&self, name: &'static str, word: &str, more: &[&str], goal: Option<f64>) -> anyhow::Result<Figure> {
        eprintln!("{name} …");
        let (user, password) = self.server.target.credentials().context("the server has an operator")?;
        let url = format!("http://{user}:{password}@{}", self.server.target.host());
        let mut command = Command::new(self.program);
        command.args(["account", "import", "--json"]).arg(&self.file).args(more).env("SETTLE_URL", url);
        let began = Instant::now();
        let mut import = tokio::task::spawn_blocking(move || command.output());
        let mut beside = Client::open(&self.server.target).await?;
        let (mut delays, mut ticks) = (Vec::new(), interval(PAUSE));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let output = loop {
            tokio::select! {
                output = &mut import => break output??,
                _ = ticks.tick() => {}
            }
            let asked = Instant::now();
            beside.bytes("POST", &format!("/{DATABASE}"), b"{\"type\":\"beside\"}").await?;
            delays.push(asked.elapsed());
        };
        let seconds = began.elapsed().as_secs_f64();
        ensure!(output.status.success(), "the import failed: {}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).context("the import told nothing")?;
        let count = answer["counts"][word].as_u64().unwrap_or_default();
        ensure!(count == self.rows, "{count} of {} rows are {word}: {}", self.rows, answer["counts"]);
        let sorted = sorted_milliseconds(delays);
        let (rate, rows) = (self.rows as f64 / seconds, self.rows);
        let (p99, most) = (quantile(&sorted, 0.99), quantile(&sorted, 1.0));
        let note = format!("{rows} rows, {rate:.0} rows/s; a write beside it: p99 {p99:.1} ms, at most {most:.1} ms");
        Ok(figure(name, "s", goal, seconds, note))
    }

    /// Lets the role of all these accounts see deeper: milliseconds until the settings are written.
    async fn deeper(&self) -> anyhow::Result<Figure> {
        let mut admin = Client::open(&self.server.target).await?;
        let path = format!("/{DATABASE}/settings");
        let known = admin.json("GET", &path, b"").await?;
        let revision = known["_rev"].as_str().context("the settings have no revision")?;
        let began = Instant::now();
        admin.bytes("PUT", &format!("{path}?rev={revision}"), &settings(2)).await?;
        let milliseconds = began.elapsed().as_secs_f64() * 1000.0;
        Ok(figure("a deeper role", "ms", None, milliseconds, format!("settings that concern {} accounts", self.rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::spreadsheet;
    use crate::accounts::import_rows::{Format, Options, read};

    #[test]
    fn the_file_is_one_that_is_read() {
        let rows = read(spreadsheet(25).as_bytes(), Format::Csv, Options::default()).unwrap();
        assert_eq!((rows.len(), rows[24].external_id.as_deref()), (25, Some("HR-000024")));
        assert!(rows.iter().all(|row| row.place_names().is_some() && row.contact.is_some()));
    }
}
