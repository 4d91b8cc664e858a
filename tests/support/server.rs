//! A real `settle` process for one test: started on a free port with a data folder of its own, gone when dropped.
//!
//! It can be killed, stopped and started again on the same data. It knows the command line and the line that says the
//! server is ready, and nothing else of Settle.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::http::Client;

/// The server administrator of every test server.
pub(crate) const ADMIN: &str = "admin";
pub(crate) const ADMIN_PASSWORD: &str = "secret";

/// How long a server may take until it says that it listens.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long a server may take to stop when asked.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// How much of the server's log is kept for failure messages, in bytes.
const LOG_LIMIT: usize = 256 * 1024;
const READY: &str = "listening on http://";

/// How to start a server. `TestServer::options()` gives the usual way, the methods change it.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    config: Option<String>,
    data: Option<PathBuf>,
    listen: String,
}

impl Options {
    /// One more argument after `serve`.
    pub(crate) fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The text of the configuration file (TOML).
    pub(crate) fn config(mut self, toml: &str) -> Self {
        self.config = Some(toml.to_owned());
        self
    }

    /// A data folder that outlives the server, instead of a temporary one.
    pub(crate) fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// `host:port` to listen on instead of a free port.
    pub(crate) fn listen(mut self, address: &str) -> Self {
        self.listen = address.to_owned();
        self
    }

    /// Starts the server; panics with its log if it does not listen in time.
    #[track_caller]
    pub(crate) fn start(self) -> TestServer {
        self.try_start().unwrap_or_else(|message| panic!("{message}"))
    }

    /// Starts the server; the message of a failure holds the server's log.
    pub(crate) fn try_start(self) -> Result<TestServer, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let mut server = TestServer { options: self, folder, process: None };
        server.launch()?;
        Ok(server)
    }
}

/// A running process and what it has written to its standard error.
#[derive(Debug)]
struct Process {
    child: Child,
    address: String,
    log: Arc<Mutex<Vec<u8>>>,
    /// Ends when the process has closed its standard error and all of it is in `log`.
    reader: Option<JoinHandle<()>>,
}

/// A server of one test.
#[derive(Debug)]
pub(crate) struct TestServer {
    options: Options,
    folder: TempDir,
    process: Option<Process>,
}

impl TestServer {
    /// A server with default settings.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::options().start()
    }

    /// The usual way to start one, to be changed before `start`.
    pub(crate) fn options() -> Options {
        Options {
            arguments: Vec::new(),
            environment: Vec::new(),
            config: None,
            data: None,
            listen: "127.0.0.1:0".to_owned(),
        }
    }

    /// `host:port` of the running server; another one after a restart.
    #[track_caller]
    pub(crate) fn address(&self) -> &str {
        &self.process.as_ref().expect("the server was stopped by this test").address
    }

    /// `http://host:port`
    #[track_caller]
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.options.data.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// The process id, for signals and for `/proc`.
    #[track_caller]
    pub(crate) fn process_id(&self) -> u32 {
        self.process.as_ref().expect("the server was stopped by this test").child.id()
    }

    /// A client with the administrator's credentials.
    #[track_caller]
    pub(crate) fn admin(&self) -> Client {
        self.client_as(ADMIN, ADMIN_PASSWORD)
    }

    #[track_caller]
    pub(crate) fn client_as(&self, name: &str, password: &str) -> Client {
        self.anonymous().with_basic(name, password)
    }

    #[track_caller]
    pub(crate) fn anonymous(&self) -> Client {
        Client::new(self.address())
    }

    /// Changes a setting of the running server, as CouchDB's `PUT /_node/_local/_config/{section}/{key}` does.
    #[track_caller]
    pub(crate) fn set_config(&self, section_and_key: &str, value: &str) {
        let path = format!("/_node/_local/_config/{section_and_key}");
        self.admin().put(&path, &serde_json::Value::from(value)).expect(200);
    }

    /// What the server has written to its standard error since its last start (the end of it, if that is long).
    pub(crate) fn log(&self) -> String {
        self.process.as_ref().map(|process| process.log_text()).unwrap_or_default()
    }

    /// Ends the process at once, as a power cut would.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Both fail only if the process is gone already.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }

    /// Asks the server to stop (SIGTERM) and waits until it has; panics with its log if it does not.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("the server was stopped by this test");
        terminate(process.child.id());
        match wait_for_end(&mut process.child, STOP_DEADLINE) {
            Some(status) => status,
            None => {
                let _ = process.child.kill();
                let _ = process.child.wait();
                panic!("the server did not stop when asked; its log:\n{}", process.log_text())
            }
        }
    }

    /// Starts the server again on the same data with the same options, after stopping it if it still runs.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        if self.process.is_some() {
            self.stop();
        }
        self.launch().unwrap_or_else(|message| panic!("{message}"));
    }

    /// Starts the server again if it was killed or stopped.
    #[track_caller]
    pub(crate) fn restart_if_stopped(&mut self) {
        if self.process.is_none() {
            self.restart();
        }
    }

    fn command(&self) -> Result<Command, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_settle"));
        command.arg("serve").arg("--data").arg(self.data());
        command.args(["--listen", &self.options.listen]);
        command.args(["--admin", &format!("{ADMIN}:{ADMIN_PASSWORD}")]);
        if let Some(text) = &self.options.config {
            let file = self.folder.path().join("settle.toml");
            std::fs::write(&file, text).map_err(|error| format!("could not write {}: {error}", file.display()))?;
            command.arg("--config").arg(file);
        }
        command.args(&self.options.arguments);
        command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    fn launch(&mut self) -> Result<(), String> {
        let mut child = self.command()?.spawn().map_err(|error| format!("could not start the server: {error}"))?;
        let lines = follow_lines(child.stdout.take());
        let (log, reader) = collect(child.stderr.take());
        // In its place before the wait, so that whatever happens the process is ended with the value.
        let mut process = Process { child, address: String::new(), log, reader };
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(address) = line.trim().strip_prefix(READY) {
                        process.address = address.trim_end_matches('/').to_owned();
                        self.process = Some(process);
                        return Ok(());
                    }
                }
                Err(reason) => {
                    // Without anybody left who could print the line, the process is about to end.
                    let gone = reason == RecvTimeoutError::Disconnected;
                    let patience = if gone { STOP_DEADLINE } else { Duration::ZERO };
                    let ended = wait_for_end(&mut process.child, patience);
                    if ended.is_some() {
                        process.reader.take().map(JoinHandle::join);
                    }
                    let state = ended.map_or(format!("it still runs ({reason})"), |status| status.to_string());
                    return Err(format!("the server does not listen: {state}; its log:\n{}", process.log_text()));
                }
            }
        }
    }
}

impl Process {
    fn log_text(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes on every line and goes on reading when nobody listens any more, so that the pipe never fills.
fn follow_lines(output: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let Some(output) = output else { return receiver };
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
    receiver
}

fn collect(output: Option<impl Read + Send + 'static>) -> (Arc<Mutex<Vec<u8>>>, Option<JoinHandle<()>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let Some(mut output) = output else { return (log, None) };
    let kept = Arc::clone(&log);
    let reader = thread::spawn(move || {
        let mut space = [0; 8 * 1024];
        while let Ok(count @ 1..) = output.read(&mut space) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&space[..count]);
            let excess = kept.len().saturating_sub(LOG_LIMIT);
            kept.drain(..excess);
        }
    });
    (log, Some(reader))
}

/// SIGTERM without `unsafe`: every Unix has a shell, and its `kill` is built in.
fn terminate(process_id: u32) {
    let script = format!("kill -TERM {process_id}");
    let status = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "could not send SIGTERM to process {process_id}");
}

fn wait_for_end(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
