//! `settle demo`: a server with a small invented district, and real PouchDB phones that sync with it.
//!
//! Starts this very program as a server on loopback, loads the district into a scoped database over plain HTTP as any
//! client would, and lets `tests/clients/demo.mjs` show three phones and a supervisor: each pulls its own part, one works
//! offline, meets a conflict and converges, and a household moves from one to another. At a terminal, or with `--keep`, the
//! server stays for your own tries. Without `--data` everything it wrote is gone afterwards.
//! Never touches a database that holds something already, and ends no server that it did not start.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::clock::random;
use crate::http::load::{Connection, LARGE_BUFFER, Target};

pub mod district;

const NAME: &str = "admin";
const DATABASE: &str = "medic";
const READY: &str = "listening on http://";
const START_LIMIT: Duration = Duration::from_secs(30);
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
    let scratch = Scratch::create(&std::env::temp_dir())?;
    let data = arguments.data.clone().unwrap_or_else(|| scratch.path.join("data"));
    let password = match arguments.listen.ip().is_loopback() {
        true => "demo".to_owned(),
        false => random::<8>().iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let server = Server::start(&program, &data, arguments.listen, &password, &scratch.path.join("server.log"))?;
    println!("Settle {} listens on http://{}", env!("CARGO_PKG_VERSION"), server.address);
    println!("The data is in {}", data.display());
    let url = format!("http://{NAME}:{password}@{}", server.address);
    load(&Target::parse(&url)?, &password).await?;
    let code = match client {
        Some(client) => show(client, url.clone(), password.clone()).await?,
        None => 0,
    };
    let terminal = std::io::stdin().is_terminal();
    if arguments.keep || (terminal && code == 0) {
        println!("\n{}", suggestions(&url, &server.address, &password));
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

/// The PouchDB script, after making sure that it can run.
fn find_client() -> anyhow::Result<PathBuf> {
    const SCRIPT: &str = "tests/clients/demo.mjs";
    let folders = [PathBuf::from("."), PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
    let script = folders.iter().map(|folder| folder.join(SCRIPT)).find(|script| script.is_file());
    let script = script.with_context(|| format!("{SCRIPT} is not here: run this in the checkout, or {WITHOUT}"))?;
    let node = Command::new("node").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(
        node.is_ok_and(|status| status.success()),
        "the demo needs Node 20 or newer (`node`) for its PouchDB client: install it, or {WITHOUT}"
    );
    let installed = script.with_file_name("node_modules").join("pouchdb-core");
    ensure!(installed.is_dir(), "PouchDB is not installed: run `make clients` in the checkout, or {WITHOUT}");
    Ok(script.canonicalize()?)
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

/// The server of this demo; its process ends with the value.
#[derive(Debug)]
struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts `program serve` and waits until it says that it listens.
    fn start(program: &Path, data: &Path, listen: SocketAddr, password: &str, log: &Path) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--listen", &listen.to_string(), "--admin", &format!("{NAME}:{password}")])
            .env_remove("SETTLE_CONFIG")
            .env_remove("SETTLE_ADMIN_PARTY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log).with_context(|| format!("cannot write {}", log.display()))?)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self { child, address: String::new() };
        match wait_until_ready(&mut server.child) {
            Some(address) => server.address = address,
            None => {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("the server ended, or did not listen within {} s; its log:\n{said}", START_LIMIT.as_secs());
            }
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // As in a power cut: what was acknowledged is on the disk. Both fail only if it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads the child's output until it names its address, and keeps emptying the pipe afterwards.
fn wait_until_ready(child: &mut Child) -> Option<String> {
    let output = child.stdout.take()?;
    let (found, address) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once(READY) {
                drop(found.send(address.trim().trim_end_matches('/').to_owned()));
            }
        }
    });
    address.recv_timeout(START_LIMIT).ok()
}

/// A folder for the log and, without `--data`, for the data; removed with the value.
#[derive(Debug)]
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn create(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!("settle-demo-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it cannot be removed, its name says what it was.
        drop(fs::remove_dir_all(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::{Scratch, Server, check_rows, suggestions};

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
    fn a_server_that_ends_is_an_error_with_its_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("pretend");
        fs::write(&program, "#!/bin/sh\necho the port is taken >&2\n").expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
        let listen = "127.0.0.1:0".parse().expect("an address");
        let started = Server::start(&program, folder.path(), listen, "x", &folder.path().join("log"));
        assert!(started.expect_err("it ended").to_string().contains("the port is taken"));
    }

    #[test]
    fn the_scratch_folder_goes_and_the_suggestions_hold_the_address() {
        let parent = tempfile::tempdir().expect("a folder");
        let scratch = Scratch::create(parent.path()).expect("created");
        fs::write(scratch.path.join("server.log"), "x").expect("written");
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).expect("readable").count(), 0);
        let text = suggestions("http://admin:demo@127.0.0.1:9", "127.0.0.1:9", "demo");
        assert!(text.contains("curl -su admin:demo http://127.0.0.1:9/medic\n"), "{text}");
        assert!(text.contains("sync('http://admin:demo@127.0.0.1:9/medic'"), "{text}");
    }
}
