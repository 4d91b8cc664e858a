//! The server under measurement: a Settle process of our own, or one that already runs elsewhere.
//!
//! Each workload gets a fresh process with an empty data folder, so that no figure depends on what ran before it. Its
//! memory and disk use are read from outside, from `/proc` and the data folder. Loopback only; process and folder are gone
//! when the value is dropped.
//! Never measures, and never ends a server it did not start.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::http::load::Target;

const NAME: &str = "bench";
const PASSWORD: &str = "loopback-and-thrown-away";
const READY: &str = "listening on http://";
const START_LIMIT: Duration = Duration::from_secs(30);

/// A server that answers at `target`.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, with administrator's credentials.
    pub target: Target,
    /// Its process, if known: for reading its memory.
    pub process: Option<u32>,
    own: Option<OwnServer>,
}

#[derive(Debug)]
struct OwnServer {
    child: Child,
    data: PathBuf,
}

impl Server {
    /// A server that runs already; `process` is its process id when it is on this machine.
    pub fn running(target: Target, process: Option<u32>) -> Self {
        Self { target, process, own: None }
    }

    /// Starts `executable serve` on a free port of loopback with an empty data folder below `scratch`, and waits until it
    /// is ready. Its log goes to `scratch/server.log`.
    pub fn start(executable: &Path, scratch: &Path) -> anyhow::Result<Self> {
        Self::start_with(executable, scratch, "")
    }

    /// The same with a configuration file of this text.
    pub fn start_with(executable: &Path, scratch: &Path, configuration: &str) -> anyhow::Result<Self> {
        let config_path = scratch.join("settle.toml");
        fs::write(&config_path, configuration).with_context(|| format!("cannot write {}", config_path.display()))?;
        let data = scratch.join("data");
        let log_path = scratch.join("server.log");
        let log = File::create(&log_path).with_context(|| format!("cannot create {}", log_path.display()))?;
        let mut child = Command::new(executable)
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", &format!("{NAME}:{PASSWORD}"), "--data"])
            .arg(&data)
            .arg("--config")
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", executable.display()))?;
        let address = wait_until_ready(&mut child);
        // From here on dropping `own` ends the process, also when it never became ready.
        let own = OwnServer { child, data };
        let Some(address) = address else {
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            let limit = START_LIMIT.as_secs();
            bail!("the server ended, or did not say `{READY}…` within {limit} s; its log:\n{log}");
        };
        let target = Target::parse(&format!("http://{NAME}:{PASSWORD}@{address}"))?;
        Ok(Self { target, process: Some(own.child.id()), own: Some(own) })
    }

    /// Resident memory of the server in MiB; `None` when its process is not known.
    pub fn memory(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes / 1024.0)
    }

    /// Disk space of the data folder in MiB, as `du` counts it; `None` for a server that is not ours.
    pub fn disk(&self) -> Option<f64> {
        let own = self.own.as_ref()?;
        Some(blocks(&own.data) as f64 * 512.0 / (1024.0 * 1024.0))
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // Failing to end it means that it has ended by itself; failing to delete leaves a folder in the scratch folder,
        // which is deleted as a whole later.
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.data));
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

/// Disk blocks of 512 bytes below `path`. What vanishes while we look (the server compacts) counts as nothing.
fn blocks(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let inner: u64 = match fs::read_dir(path) {
        Ok(entries) if metadata.is_dir() => entries.flatten().map(|entry| blocks(&entry.path())).sum(),
        _ => 0,
    };
    metadata.blocks() + inner
}

/// A folder for everything the bench writes; deleted when dropped.
#[derive(Debug)]
pub struct Scratch {
    /// The folder.
    pub path: PathBuf,
}

impl Scratch {
    /// Creates a new folder below `parent`.
    pub fn create(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!("settle-bench-{}", std::process::id()));
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
    use super::{Scratch, Server, blocks};
    use crate::http::load::Target;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_server_is_started_and_ended_and_its_folder_removed() {
        let folder = tempfile::tempdir().unwrap();
        let executable = folder.path().join("pretend");
        fs::write(&executable, "#!/bin/sh\nmkdir \"$7\"\necho listening on http://127.0.0.1:9/\nexec sleep 60\n")
            .unwrap();
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
        let server = Server::start(&executable, folder.path()).unwrap();
        assert_eq!(server.target.host(), "127.0.0.1:9");
        assert!(server.memory().unwrap() > 0.0 && server.disk().is_some());
        let process = format!("/proc/{}", server.process.unwrap());
        drop(server);
        assert!(!fs::exists(process).unwrap() && !folder.path().join("data").exists());
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let executable = folder.path().join("pretend");
        fs::write(&executable, "#!/bin/sh\necho the disk is on fire >&2\n").unwrap();
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Server::start(&executable, folder.path()).unwrap_err().to_string();
        assert!(error.contains("the disk is on fire"), "{error}");
    }

    #[test]
    fn a_foreign_server_has_no_folder() {
        let server = Server::running(Target::parse("http://127.0.0.1:1").unwrap(), None);
        assert!(server.memory().is_none() && server.disk().is_none());
    }

    #[test]
    fn disk_use_counts_the_files_below_and_the_scratch_folder_vanishes() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(folder.path()).unwrap();
        let before = blocks(folder.path());
        fs::create_dir(scratch.path.join("inner")).unwrap();
        fs::write(scratch.path.join("inner/file"), vec![1; 100_000]).unwrap();
        assert!(blocks(folder.path()) >= before + 195);
        drop(scratch);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
