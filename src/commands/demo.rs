//! `settle demo`: a server with a small invented district, and real PouchDB phones that sync with it.
//!
//! Starts this very program as a server on loopback, loads the district into a scoped database over plain HTTP as any
//! client would, and lets `tests/clients/demo.mjs` show three phones and a supervisor: each pulls its own part, one works
//! offline, meets a conflict and converges, and a household moves from one to another. Then `demo_handover.mjs` beside it shows
//! a health worker who leaves with unsent work, and a phone that is stolen. At a terminal, or with `--keep`, the
//! server stays for your own tries. Without `--data` everything it wrote is gone afterwards.
//! Never touches a database that holds something already, and ends no server that it did not start.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::child_server::{ChildServer, Scratch, Start};
use crate::clock::random;
use crate::http::load::{Connection, LARGE_BUFFER, Target};

pub mod district;

const NAME: &str = "admin";
const DATABASE: &str = "medic";
/// Documents in one `_bulk_docs`.
const BATCH: usize = 250;

/// Starts a server, loads a district, and shows PouchDB phones at work.
#[derive(Debug, clap::Args)]
pub struct DemoArguments {
    /// Keep the data in this folder instead of a temporary one; what is loaded there already is used as it is.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the server listens; port 0 picks a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Keep serving after the demo, also when this is no terminal, until Ctrl-C or SIGTERM.
    #[arg(long)]
    pub keep: bool,
    /// Only start and load: no Node, no PouchDB.
    #[arg(long)]
    pub without_client: bool,
}

/// Runs the demo. Ends the process with the exit code of the PouchDB client when that is not 0.
///
/// # Errors
/// A sentence that says what is missing, when Node, the client or the server cannot be started or loading fails.
pub fn run(arguments: DemoArguments) -> anyhow::Result<()> {
    let client = match arguments.without_client {
        true => None,
        false => Some(find_client()?),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = perform(&arguments, client) => outcome,
            outcome = interrupted() => outcome.map(|()| 0),
        }
    });
    // A thread may still wait for Enter.
    runtime.shutdown_background();
    match outcome? {
        0 => Ok(()),
        code => std::process::exit(code),
    }
}

async fn perform(arguments: &DemoArguments, client: Option<PathBuf>) -> anyhow::Result<i32> {
    let scratch = Scratch::create(&std::env::temp_dir(), "demo")?;
    let data = arguments.data.clone().unwrap_or_else(|| scratch.path.join("data"));
    let password = match arguments.listen.ip().is_loopback() {
        true => "demo".to_owned(),
        false => random::<8>().iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let server = ChildServer::start(&Start {
        program: &program,
        data: &data,
        listen: arguments.listen,
        admin: &format!("{NAME}:{password}"),
        configuration: None,
        log: &scratch.path.join("server.log"),
    })?;
    let address = server.address();
    println!("Settle {} listens on http://{address}", env!("CARGO_PKG_VERSION"));
    println!("The data is in {}", data.display());
    let url = format!("http://{NAME}:{password}@{address}");
    load(&Target::parse(&url)?, &password).await?;
    let mut code = 0;
    for script in client.iter().flat_map(|folder| SCRIPTS.map(|script| folder.join(script))) {
        if code == 0 {
            code = show(script, url.clone(), password.clone()).await?;
        }
    }
    let terminal = std::io::stdin().is_terminal();
    if arguments.keep || (terminal && code == 0) {
        println!("\n{}", suggestions(&url, address, &password));
        if terminal {
            println!("Press Enter or Ctrl-C to stop the server.");
            entered().await;
        } else {
            std::future::pending::<()>().await;
        }
    } else {
        println!("\nThe server is stopped. `settle demo --keep` leaves it running for your own tries.");
    }
    Ok(code)
}

/// Creates the scoped database, its accounts and the district, unless the database is there already.
async fn load(target: &Target, password: &str) -> anyhow::Result<()> {
    let mut connection = Connection::open(target, LARGE_BUFFER).await?;
    let mut answer = Vec::new();
    let head = connection.exchange("PUT", &format!("/{DATABASE}?scoped=true"), b"", &mut answer).await?;
    if head.status == 412 {
        println!("The database {DATABASE} is there already and is used as it is.");
        return Ok(());
    }
    let said = String::from_utf8_lossy(&answer).into_owned();
    ensure!(head.is_success(), "cannot create {DATABASE}: {} {said}", head.status);
    put(&mut connection, &format!("/{DATABASE}/_security"), &district::security()).await?;
    let accounts = district::accounts(password);
    for account in &accounts {
        put(&mut connection, &format!("/_users/{}", account["_id"].as_str().unwrap_or_default()), account).await?;
    }
    let documents = district::documents();
    for batch in documents.chunks(BATCH) {
        let body = serde_json::to_vec(&json!({"docs": batch}))?;
        let head = connection.exchange("POST", &format!("/{DATABASE}/_bulk_docs"), &body, &mut answer).await?;
        check_rows(head.status, &answer, batch.len())?;
    }
    println!("Loaded a district into the scoped database {DATABASE}, {} documents:", documents.len());
    for (kind, count) in district::tally(&documents) {
        println!("   {count:>4} {kind}");
    }
    let names: Vec<&str> = accounts.iter().filter_map(|account| account["name"].as_str()).collect();
    println!("Accounts: {}; their password is that of {NAME}.", names.join(", "));
    Ok(())
}

/// Writes something that must not be there yet.
async fn put(connection: &mut Connection, path: &str, value: &Value) -> anyhow::Result<()> {
    let mut answer = Vec::new();
    let head = connection.exchange("PUT", path, &serde_json::to_vec(value)?, &mut answer).await?;
    let said = String::from_utf8_lossy(&answer);
    ensure!(head.is_success(), "cannot write {path}: {} {said}", head.status);
    Ok(())
}

/// Every document of a `_bulk_docs` answer must have been stored.
fn check_rows(status: u16, answer: &[u8], expected: usize) -> anyhow::Result<()> {
    let said = || String::from_utf8_lossy(answer).chars().take(500).collect::<String>();
    ensure!(status == 201, "loading failed: {status} {}", said());
    let rows: Vec<Value> = serde_json::from_slice(answer).with_context(said)?;
    ensure!(rows.len() == expected, "{} documents sent, {} answered", expected, rows.len());
    match rows.iter().find(|row| row["error"].is_string()) {
        Some(row) => bail!("a document of the district was refused: {row}"),
        None => Ok(()),
    }
}

/// What PouchDB phones show, one after the other.
const SCRIPTS: [&str; 2] = ["demo.mjs", "demo_handover.mjs"];

/// The folder of the PouchDB scripts, after making sure that they can run.
fn find_client() -> anyhow::Result<PathBuf> {
    const FOLDER: &str = "tests/clients";
    let folders = [PathBuf::from("."), PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    let is_there = |folder: &PathBuf| SCRIPTS.iter().all(|script| folder.join(script).is_file());
    let folder = folders.iter().map(|folder| folder.join(FOLDER)).find(is_there);
    let folder = folder.with_context(|| format!("{FOLDER} is not here: run this in the checkout, or {WITHOUT}"))?;
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(
        node.is_ok_and(|status| status.success()),
        "the demo needs Node 20 or newer (`node`) for its PouchDB client: install it, or {WITHOUT}"
    );
    let installed = folder.join("node_modules").join("pouchdb-core");
    ensure!(installed.is_dir(), "PouchDB is not installed: run `make clients` in the checkout, or {WITHOUT}");
    Ok(folder.canonicalize()?)
}

const WITHOUT: &str = "use --without-client to start and load the server only";

/// Runs the PouchDB client with its output on ours; gives its exit code.
async fn show(script: PathBuf, url: String, password: String) -> anyhow::Result<i32> {
    println!();
    let ended = tokio::task::spawn_blocking(move || {
        let mut node = Command::new("node");
        node.arg(&script).current_dir(script.parent().unwrap_or(Path::new(".")));
        node.env("SETTLE_URL", url).env("SETTLE_DATABASE", DATABASE).env("SETTLE_PASSWORD", password);
        node.stdin(Stdio::null());
        node.status()
    });
    let status = ended.await?.context("cannot start node")?;
    Ok(status.code().unwrap_or(1))
}

fn suggestions(url: &str, address: &str, password: &str) -> String {
    let curl = format!("curl -su {NAME}:{password}");
    let own = format!("curl -su chw-2:{password}");
    let base = format!("http://{address}/{DATABASE}");
    format!(
        "Try it yourself ({NAME}, password {password}):
   {curl} {base}
   {curl} '{base}/_all_docs?startkey=\"household-01\"&limit=3&include_docs=true'
   {own} {base}     (what chw-2 sees of it)
   {curl} {base}/_escrow
   {curl} '{base}/_changes?feed=continuous&since=now&include_docs=true'     (waits; Ctrl-C)
   {curl} -X POST {base} -H 'Content-Type: application/json' -d '{{\"type\":\"person\",\"name\":\"Nobody\"}}'
From a browser or Node: new PouchDB('phone').sync('{url}/{DATABASE}', {{ live: true, retry: true }})"
    )
}

/// Ctrl-C or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
    }
    println!("\nThe server is stopped.");
    Ok(())
}

/// Enter, or the end of the input.
async fn entered() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        drop(sender.send(read));
    });
    drop(receiver.await);
}

#[cfg(test)]
mod tests {
    use super::{check_rows, suggestions};

    #[test]
    fn a_refused_document_ends_the_demo() {
        let stored = br#"[{"ok":true,"id":"a","rev":"1-a"},{"ok":true,"id":"b","rev":"1-b"}]"#;
        assert!(check_rows(201, stored, 2).is_ok());
        let short = check_rows(201, stored, 3).expect_err("one is missing").to_string();
        assert!(short.contains("3 documents sent, 2 answered"), "{short}");
        let refused = br#"[{"id":"a","error":"conflict","reason":"Document update conflict."}]"#;
        assert!(check_rows(201, refused, 1).expect_err("refused").to_string().contains("conflict"));
        let status = check_rows(503, b"{\"error\":\"busy\"}", 1).expect_err("busy").to_string();
        assert!(status.contains("503") && status.contains("busy"), "{status}");
    }

    #[test]
    fn the_suggestions_hold_the_address() {
        let text = suggestions("http://admin:demo@127.0.0.1:9", "127.0.0.1:9", "demo");
        assert!(text.contains("curl -su admin:demo http://127.0.0.1:9/medic\n"), "{text}");
        assert!(text.contains("sync('http://admin:demo@127.0.0.1:9/medic'"), "{text}");
    }
}
