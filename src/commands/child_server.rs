//! This program as a server in a process of its own, for `settle demo` and `settle bench`, and a folder for what it writes.
//!
//! Loopback or wherever it is told to listen; its log goes to a file. The process ends with the value, as in a power cut:
//! what was acknowledged is on the disk.
//! Never ends a server that it did not start.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

const READY: &str = "listening on http://";
const START_LIMIT: Duration = Duration::from_secs(30);

/// How to start a server.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The program whose `serve` is run.
    pub program: &'a Path,
    /// Its data folder.
    pub data: &'a Path,
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// An operator, `NAME:PASSWORD`.
    pub admin: &'a str,
    /// Its configuration file, if it has one.
    pub configuration: Option<&'a Path>,
    /// Where its log goes.
    pub log: &'a Path,
}

/// A running server.
#[derive(Debug)]
pub struct ChildServer {
    child: Child,
    address: String,
}

impl ChildServer {
    /// Starts the server and waits until it says that it listens.
    ///
    /// # Errors
    /// When it cannot be started, ends, or is not ready within 30 s; then with its log.
    pub fn start(start: &Start<'_>) -> anyhow::Result<Self> {
        let log = File::create(start.log).with_context(|| format!("cannot write {}", start.log.display()))?;
        let mut command = Command::new(start.program);
        command.args(["serve", "--listen", &start.listen.to_string(), "--admin", start.admin, "--data"]);
        command.arg(start.data);
        if let Some(configuration) = start.configuration {
            command.arg("--config").arg(configuration);
        }
        command.env_remove("SETTLE_CONFIG").env_remove("SETTLE_ADMIN_PARTY");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", start.program.display()))?;
        // From here on dropping the value ends the process, also when it never became ready.
        let mut server = Self { child, address: String::new() };
        let Some(address) = wait_until_ready(&mut server.child) else {
            let said = fs::read_to_string(start.log).unwrap_or_default();
            let limit = START_LIMIT.as_secs();
            bail!("the server ended, or did not say `{READY}…` within {limit} s; its log:\n{said}");
        };
        server.address = address;
        Ok(server)
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads the child's standard output until it names its address, and keeps emptying the pipe afterwards.
fn wait_until_ready(child: &mut Child) -> Option<String> {
    let output = child.stdout.take()?;
    let (found, address) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once(READY) {
                // Nobody listens any more after the first line or the time limit.
                drop(found.send(address.trim().trim_end_matches('/').to_owned()));
            }
        }
    });
    address.recv_timeout(START_LIMIT).ok()
}

/// A folder for everything a command writes; deleted when dropped.
#[derive(Debug)]
pub struct Scratch {
    /// The folder.
    pub path: PathBuf,
}

impl Scratch {
    /// Creates a new folder below `parent`, named after the command.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(parent: &Path, command: &str) -> anyhow::Result<Self> {
        let path = parent.join(format!("settle-{command}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it; the folder says by its name what it was.
        drop(fs::remove_dir_all(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{ChildServer, Scratch, Start};

    /// Starts a shell script instead of a server; it finds the data folder in `$7`.
    fn pretend(folder: &Path, script: &str) -> anyhow::Result<ChildServer> {
        let program = folder.join("pretend");
        fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let (data, log) = (folder.join("data"), folder.join("log"));
        let listen = "127.0.0.1:0".parse()?;
        let start =
            Start { program: &program, data: &data, listen, admin: "a:b", configuration: None, log: log.as_path() };
        ChildServer::start(&start)
    }

    #[test]
    fn a_server_is_started_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let script = "mkdir \"$7\"\necho listening on http://127.0.0.1:9/\nexec sleep 60";
        let server = pretend(folder.path(), script).unwrap();
        assert_eq!(server.address(), "127.0.0.1:9");
        assert!(folder.path().join("data").is_dir());
        let process = format!("/proc/{}", server.process());
        assert!(fs::exists(&process).unwrap());
        drop(server);
        assert!(!fs::exists(process).unwrap());
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let error = pretend(folder.path(), "echo the disk is on fire >&2").unwrap_err().to_string();
        assert!(error.contains("the disk is on fire"), "{error}");
    }

    #[test]
    fn the_scratch_folder_vanishes_with_what_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(parent.path(), "test").unwrap();
        fs::write(scratch.path.join("server.log"), "x").unwrap();
        drop(scratch);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
