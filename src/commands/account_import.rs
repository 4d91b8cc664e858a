//! `settle account import FILE`: many accounts from a spreadsheet, through a running server, a few hundred rows a request.
//!
//! It may be stopped at any moment, also by force: a journal beside the result file says which rows were on their way and which
//! were answered, and the same command goes on from there. Rows whose answer was lost are sent once more, and the server gives them new
//! links in place of those that nobody saw. The result file is written at the end, at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde_json::{Value, json};

use super::handing_over::Sending;
use super::remote::{Acting, escaped, require_done};
use crate::accounts::import_rows::named_places::NamedPlaces;
use crate::accounts::import_rows::result_file::{self, RowResult};
use crate::accounts::import_rows::{AccountRow, Format, MOST_PROBLEMS, Options, read};
use crate::http::client::{Address, Client, Request};
use journal::Journal;
use told::{Counts, told_in_words};

mod journal;
mod told;

/// The most rows of a request.
const ROWS_AT_A_TIME: usize = 250;
/// The most rows of a request that is only tried: what a row makes is known to the rows of the same request.
const ROWS_TRIED_AT_A_TIME: usize = 2_000;
/// The most bytes of the rows of a request, if there is more than one.
const MOST_SENT: usize = 8 << 20;
/// The most bytes of an answer.
const MOST_ANSWERED: usize = 64 << 20;
/// Time between two lines about the progress.
const PAUSE: Duration = Duration::from_secs(3);
/// What stands for the id of a place that an earlier request of a dry run would have made.
const WOULD_BE: &str = "\u{1}would be made";

/// What becomes of passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Passwords {
    /// Take them from the file's column `password`.
    Accept,
    /// Make one up for each new account; they are in the result file, and nowhere else.
    Generate,
}

/// Arguments of `settle account import`.
#[derive(Debug, clap::Args)]
pub struct ImportArguments {
    /// The file: .csv, .json, .ndjson or .jsonl.
    file: PathBuf,
    /// Where to write what became of each row, with its link; only its owner can read it [default: FILE with .result before
    /// its ending].
    #[arg(long, value_name = "FILE")]
    result: Option<PathBuf>,
    /// Let new accounts have passwords. Without this a column of passwords is refused: links need none.
    #[arg(long, value_enum)]
    passwords: Option<Passwords>,
    /// Make accounts that are active at once, instead of shells that wait until their person uses the link.
    #[arg(long)]
    active: bool,
    /// The scoped database of places and contacts, if there are several.
    #[arg(long)]
    database: Option<String>,
    /// Why; kept in the audit log.
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    sending: Sending,
    #[command(flatten)]
    acting: Acting,
}

/// Runs the command.
///
/// # Errors
/// When the file cannot be read or has problems, when the server cannot be reached or refuses, or when rows were refused; the
/// message says what to do.
pub fn run(arguments: &ImportArguments) -> anyhow::Result<()> {
    let shown = arguments.file.display();
    let format = format_of(&arguments.file)?;
    let bytes = std::fs::read(&arguments.file).with_context(|| format!("cannot read {shown}"))?;
    let options = Options { passwords: arguments.passwords == Some(Passwords::Accept) };
    let rows = match read(&bytes, format, options) {
        Ok(rows) => rows,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{shown}: {problem}"));
            let count = if problems.len() < MOST_PROBLEMS { problems.len().to_string() } else { "many".to_owned() };
            bail!("{count} problems in {shown}; nothing was sent");
        }
    };
    ensure!(!rows.is_empty(), "{shown} has no rows");
    let server = Server::connect(&arguments.acting.remote.url)?;
    if arguments.acting.dry_run {
        return try_it(arguments, &rows, server);
    }
    let result = arguments.result.clone().unwrap_or_else(|| result_beside(&arguments.file));
    let mut import = Import::begin(arguments, &bytes, rows, server, &result)?;
    import.send_all(arguments)?;
    import.finish(arguments, &bytes, format, &result)
}

fn format_of(file: &Path) -> anyhow::Result<Format> {
    match file.extension().and_then(|ending| ending.to_str()).map(str::to_lowercase).as_deref() {
        Some("csv") => Ok(Format::Csv),
        Some("json" | "ndjson" | "jsonl") => Ok(Format::Json),
        _ => bail!("{} must end with .csv, .json, .ndjson or .jsonl", file.display()),
    }
}

/// `workers.csv` has its results in `workers.result.csv`, JSON in a line for each row.
fn result_beside(file: &Path) -> PathBuf {
    let ending = match file.extension().and_then(|ending| ending.to_str()) {
        Some(ending) if ending.eq_ignore_ascii_case("csv") => "result.csv",
        _ => "result.ndjson",
    };
    file.with_extension(ending)
}

/// The server, asked over one connection.
struct Server {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Server {
    fn connect(url: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(Arc::new(Address::parse(url)?));
        Ok(Self { runtime, client })
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        let answered = self.runtime.block_on(async {
            let mut reply = self.client.send(Request::json(method, path, body)).await?;
            anyhow::Ok((reply.status, reply.whole(MOST_ANSWERED).await?))
        });
        let (status, text) = answered?;
        let answer: Value = serde_json::from_slice(&text).unwrap_or_default();
        require_done(status, &answer)?;
        Ok(answer)
    }

    /// Which server this is, whatever its address.
    fn identity(&mut self) -> anyhow::Result<String> {
        Ok(self.ask("GET", "/", None)?["uuid"].as_str().unwrap_or_default().to_owned())
    }

    /// Sends rows; gives an answer for each, and the server's time.
    fn enlist(&mut self, path: &str, rows: &[AccountRow]) -> anyhow::Result<(Vec<Value>, u64)> {
        let body = Value::Array(rows.iter().map(AccountRow::to_json).collect());
        let mut answer = self.ask("POST", path, Some(&body))?;
        let time = answer["time"].as_u64().context("the server told no time")?;
        let told = answer["rows"].as_array_mut().map(std::mem::take).unwrap_or_default();
        ensure!(told.len() == rows.len(), "the server answered {} of {} rows", told.len(), rows.len());
        Ok((told, time))
    }
}

impl ImportArguments {
    fn path(&self, again_since: Option<u64>) -> String {
        let mut path = format!("/_accounts/_bulk?prepared={}&send={}", !self.active, self.sending.send);
        if let Some(passwords) = self.passwords {
            path.push_str(if passwords == Passwords::Accept { "&passwords=accept" } else { "&passwords=generate" });
        }
        for (name, value) in [("database", &self.database), ("reason", &self.reason)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escaped(value)));
            }
        }
        if let Some(since) = again_since {
            path.push_str(&format!("&again_since={since}"));
        }
        if self.acting.dry_run {
            path.push_str("&dry_run=true");
        }
        path
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What is said of a row without a server.
fn said(status: &str, reason: impl Into<String>) -> RowResult {
    RowResult { status: status.to_owned(), reason: reason.into(), ..RowResult::default() }
}

/// How many rows at the front go into one request.
fn that_fit<'r>(rows: impl Iterator<Item = &'r AccountRow>, most: usize) -> usize {
    let mut bytes = 0;
    let fits = |row: &&AccountRow| {
        bytes += row.to_json().to_string().len();
        bytes <= MOST_SENT
    };
    rows.take(most).take_while(fits).count().max(1)
}

/// What the server says of a row. `doubtful`: it had been sent before, and the answer was lost.
fn result_of(told: &Value, doubtful: bool, send: bool) -> RowResult {
    let link = match (told["link"]["link"].as_str(), told["link"]["message"].as_str()) {
        (Some(address), _) => address.to_owned(),
        (None, Some(message)) => format!("message {message}"),
        (None, None) => String::new(),
    };
    let mut result = RowResult {
        status: text(&told["status"]),
        reason: text(&told["reason"]),
        name: text(&told["name"]),
        password: text(&told["password"]),
        place: text(&told["place"]),
        link,
    };
    if doubtful && told["made_since"] == true {
        let note = match (result.link.is_empty() && result.password.is_empty(), send) {
            (false, _) => "what is here took the place of a link or password that nobody saw.",
            (true, true) => "its link is on its way: see settle outbox list.",
            (true, false) => "its link was used already, or it has none.",
        };
        result.status = "created".to_owned();
        result.reason = format!("Made just before the import was stopped; {note}");
    }
    result
}

/// An import, as far as it has come.
struct Import {
    rows: Vec<AccountRow>,
    results: Vec<Option<RowResult>>,
    places: NamedPlaces,
    journal: Journal,
    server: Server,
    /// The server's time at its last answer, in seconds since 1970.
    time: u64,
    began: Instant,
    spoke: Instant,
}

impl Import {
    fn begin(
        arguments: &ImportArguments,
        bytes: &[u8],
        rows: Vec<AccountRow>,
        mut server: Server,
        result: &Path,
    ) -> anyhow::Result<Self> {
        let known = server.identity()?;
        let (_, time) = server.enlist(&arguments.path(None), &[])?; // before anything is written: may this be asked at all?
        let (journal, results) = Journal::open(result, bytes, &known, rows.len())?;
        let mut places = NamedPlaces::of(&rows);
        for (row, result) in rows.iter().zip(&results) {
            if let Some(result) = result {
                note(&mut places, row, result);
            }
        }
        let done = results.iter().flatten().count();
        if done > 0 || journal.has_doubts() {
            eprintln!("{}: going on after {done} of {} rows", arguments.file.display(), rows.len());
        }
        let now = Instant::now();
        Ok(Self { rows, results, places, journal, server, time, began: now, spoke: now })
    }

    /// Rows without a result, in order: those whose answer was lost apart from the others.
    fn next(&self) -> Vec<usize> {
        let open = || (0..self.rows.len()).filter(|at| self.results[*at].is_none());
        let since = open().next().and_then(|first| self.journal.doubtful(first));
        let same = || open().take_while(|at| self.journal.doubtful(*at) == since);
        let count = that_fit(same().map(|at| &self.rows[at]), ROWS_AT_A_TIME);
        same().take(count).collect()
    }

    fn send_all(&mut self, arguments: &ImportArguments) -> anyhow::Result<()> {
        loop {
            let numbers = self.next();
            let Some(first) = numbers.first() else { return Ok(()) };
            let since = self.journal.doubtful(*first);
            let (mut sent, mut rows, mut answered) = (Vec::new(), Vec::new(), Vec::new());
            for at in numbers {
                let mut row = self.rows[at].clone();
                match self.places.resolve(&mut row) {
                    _ if row.done => answered.push((at, said("skipped", ""))),
                    Err(reason) => answered.push((at, said("refused", reason))),
                    Ok(()) => {
                        sent.push(at);
                        rows.push(row);
                    }
                }
            }
            if !sent.is_empty() {
                self.journal.sending(&sent, since.unwrap_or(self.time))?;
                let (told, time) = self.server.enlist(&arguments.path(since), &rows).with_context(|| {
                    let done = self.results.iter().flatten().count();
                    format!("stopped after {done} of {} rows; the same command goes on from there", self.rows.len())
                })?;
                self.time = time;
                let told = told.iter().map(|told| result_of(told, since.is_some(), arguments.sending.send));
                answered.extend(sent.into_iter().zip(told));
            }
            self.journal.answered(&answered)?;
            for (at, result) in answered {
                note(&mut self.places, &self.rows[at], &result);
                self.results[at] = Some(result);
            }
            self.say(false);
        }
    }

    fn say(&mut self, now: bool) {
        if now || self.spoke.elapsed() >= PAUSE {
            self.spoke = Instant::now();
            let counts = Counts::of(self.results.iter().flatten());
            eprintln!("{} of {} rows: {counts}", counts.all(), self.rows.len());
        }
    }

    fn finish(mut self, arguments: &ImportArguments, bytes: &[u8], format: Format, path: &Path) -> anyhow::Result<()> {
        self.say(true);
        let results: Vec<RowResult> = self.results.into_iter().flatten().collect();
        let file = result_file::write(bytes, format, &results).map_err(anyhow::Error::msg)?;
        self.journal.end(path, &file)?;
        let counts = Counts::of(&results);
        if arguments.acting.remote.json {
            let seconds = self.began.elapsed().as_secs_f64();
            println!("{}", json!({"ok": true, "counts": counts, "result": path, "seconds": seconds}));
        } else {
            let file = arguments.file.display();
            let lines = self.rows.iter().map(|row| row.line).zip(&results);
            print!("{}", told_in_words(&format!("{file}: {counts}."), path, lines));
        }
        ensure!(
            counts.refused == 0,
            "{} rows were refused; {} says why. Repair them there and feed it in again",
            counts.refused,
            path.display()
        );
        Ok(())
    }
}

/// What a row makes is known to those below it. A row that was passed over says nothing.
fn note(places: &mut NamedPlaces, row: &AccountRow, result: &RowResult) {
    if !result.place.is_empty() || result.status == "refused" {
        places.note(row, Some(result.place.as_str()).filter(|place| !place.is_empty()));
    }
}

/// What would become of the rows.
fn try_it(arguments: &ImportArguments, rows: &[AccountRow], mut server: Server) -> anyhow::Result<()> {
    let mut places = NamedPlaces::of(rows);
    let mut results = Vec::with_capacity(rows.len());
    while results.len() < rows.len() {
        let open = &rows[results.len()..];
        let some = &open[..that_fit(open.iter(), ROWS_TRIED_AT_A_TIME)];
        let mut resolved = some.to_vec();
        let known: Vec<Option<RowResult>> = resolved.iter_mut().map(|row| known_of(&places, row)).collect();
        let sent = resolved.into_iter().zip(&known).filter(|(_, known)| known.is_none());
        let sent: Vec<AccountRow> = sent.map(|(row, _)| row).collect();
        let (told, _) = server.enlist(&arguments.path(None), &sent)?;
        let mut told = told.iter().map(|told| result_of(told, false, false));
        for (row, known) in some.iter().zip(known) {
            let result = known.or_else(|| told.next()).unwrap_or_default();
            match result.status.as_str() {
                "created" | "unchecked" => places.note(row, Some(WOULD_BE)),
                _ => note(&mut places, row, &result),
            }
            results.push(result);
        }
    }
    let counts = Counts::of(&results);
    if arguments.acting.remote.json {
        let rows = rows.iter().zip(&results).map(|(row, result)| json!({"line": row.line, "result": result}));
        println!("{}", json!({"ok": true, "dry_run": true, "counts": counts, "rows": rows.collect::<Vec<_>>()}));
        return Ok(());
    }
    println!("{}: {counts}. Nothing was changed.", arguments.file.display());
    for (row, result) in rows.iter().zip(&results).filter(|(_, result)| result.status == "refused") {
        println!("line {}: {}", row.line, result.reason);
    }
    Ok(())
}

/// What is known of a row without asking: it is done, its place is ambiguous, or an earlier request would have made it.
fn known_of(places: &NamedPlaces, row: &mut AccountRow) -> Option<RowResult> {
    if row.done {
        return Some(said("skipped", ""));
    }
    if let Err(reason) = places.resolve(row) {
        return Some(said("refused", reason));
    }
    let would_be = row.names_place(WOULD_BE);
    would_be.then(|| said("unchecked", "Its place does not exist yet: an earlier row makes it."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_lie_beside_their_files() {
        for (file, result) in [
            ("/tmp/workers.csv", "/tmp/workers.result.csv"),
            ("w.CSV", "w.result.csv"),
            ("w.json", "w.result.ndjson"),
            ("w.result.csv", "w.result.result.csv"),
        ] {
            assert_eq!(result_beside(Path::new(file)), Path::new(result));
            assert!(format_of(Path::new(result)).is_ok(), "it can be fed in again");
        }
        assert!(format_of(Path::new("w.xlsx")).is_err());
    }

    #[test]
    fn requests_are_neither_long_nor_large() {
        let row = |bytes: usize| AccountRow { fullname: Some("x".repeat(bytes)), ..AccountRow::default() };
        let fit = |rows: &[AccountRow]| that_fit(rows.iter(), ROWS_AT_A_TIME);
        assert_eq!((fit(&vec![row(9); 999]), fit(&[row(9), row(9)]), fit(&[])), (ROWS_AT_A_TIME, 2, 1));
        assert_eq!(fit(&vec![row(1 << 20); 9]), 7);
        assert_eq!(fit(&[row(MOST_SENT), row(9)]), 1, "a row that is large by itself goes alone");
    }

    #[test]
    fn an_answer_that_was_lost_is_told_so() {
        let told =
            json!({"status": "exists", "name": "bea", "made_since": true, "link": {"link": "http://h/_links/T"}});
        let result = result_of(&told, true, false);
        assert_eq!((result.status.as_str(), result.link.as_str()), ("created", "http://h/_links/T"));
        assert!(result.reason.contains("nobody saw"), "{result:?}");
        assert_eq!(result_of(&told, false, false).status, "exists");
        let sent = json!({"status": "exists", "name": "bea", "made_since": true});
        assert!(result_of(&sent, true, true).reason.contains("outbox"));
        assert!(result_of(&sent, true, false).reason.contains("used already"));
        let older = json!({"status": "exists", "name": "bea"});
        assert_eq!(
            result_of(&older, true, false),
            RowResult { status: "exists".into(), name: "bea".into(), ..RowResult::default() }
        );
        let message = json!({"status": "created", "link": {"message": "0a"}});
        assert_eq!(result_of(&message, false, true).link, "message 0a");
    }
}
