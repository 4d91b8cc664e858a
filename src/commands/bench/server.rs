//! The server under measurement: a Settle process of our own, or one that already runs elsewhere.
//!
//! Each workload gets a fresh process with an empty data folder, so that no figure depends on what ran before it. Its
//! memory and disk use are read from outside, from `/proc` and the data folder. Loopback only; process and folder are gone
//! when the value is dropped.
//! Never measures, and never ends a server it did not start.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::commands::child_server::{ChildServer, Start};
use crate::http::load::Target;

const ADMIN: &str = "bench:loopback-and-thrown-away";

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
    /// Ends before its folder goes.
    process: Option<ChildServer>,
    /// Holds the data folder, and what the server keeps beside it.
    folder: PathBuf,
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
        let folder = scratch.join("server");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let child = ChildServer::start(&Start {
            program: executable,
            data: &folder.join("data"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admin: ADMIN,
            configuration: Some(&config_path),
            log: &scratch.join("server.log"),
        })?;
        let target = Target::parse(&format!("http://{ADMIN}@{}", child.address()))?;
        Ok(Self { target, process: Some(child.process()), own: Some(OwnServer { process: Some(child), folder }) })
    }

    /// Resident memory of the server in MiB; `None` when its process is not known.
    pub fn memory(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes / 1024.0)
    }

    /// Processor time of the server so far, in hundredths of a second (`USER_HZ`); `None` when its process is not known.
    fn processor_time(&self) -> Option<u64> {
        let line = fs::read_to_string(format!("/proc/{}/stat", self.process?)).ok()?;
        let mut behind_name = line.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(behind_name.next()?.parse::<u64>().ok()? + behind_name.next()?.parse::<u64>().ok()?)
    }

    /// Waits until the server uses less than a tenth of a processor for a second, so that what it still does for earlier
    /// requests (merging files) is over; says how many seconds that took. Gives up after `patience`.
    pub async fn rest(&self, patience: Duration) -> f64 {
        let began = Instant::now();
        let mut last = self.processor_time();
        while began.elapsed() < patience {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.processor_time();
            if now.zip(last).is_none_or(|(now, last)| now < last + 10) {
                break;
            }
            last = now;
        }
        began.elapsed().as_secs_f64()
    }

    /// Disk space of the data folder in MiB, as `du` counts it; `None` for a server that is not ours.
    pub fn disk(&self) -> Option<f64> {
        let own = self.own.as_ref()?;
        Some(blocks(&own.folder) as f64 * 512.0 / (1024.0 * 1024.0))
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        drop(self.process.take());
        // Failing to delete leaves a folder in the scratch folder, which is deleted as a whole later.
        drop(fs::remove_dir_all(&self.folder));
    }
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

#[cfg(test)]
mod tests {
    use super::{Server, blocks};
    use crate::commands::child_server::Scratch;
    use crate::http::load::Target;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn a_server_is_started_and_ended_and_its_folder_removed() {
        let folder = tempfile::tempdir().unwrap();
        let executable = folder.path().join("pretend");
        fs::write(
            &executable,
            "#!/bin/sh\nmkdir \"$7\" \"$7.beside\"\necho listening on http://127.0.0.1:9/\nexec sleep 60\n",
        )
        .unwrap();
        fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
        let server = Server::start(&executable, folder.path()).unwrap();
        assert_eq!(server.target.host(), "127.0.0.1:9");
        assert!(server.memory().unwrap() > 0.0 && server.disk().is_some());
        let process = format!("/proc/{}", server.process.unwrap());
        drop(server);
        assert!(!fs::exists(process).unwrap() && !folder.path().join("server").exists());
    }

    #[tokio::test]
    async fn rest_comes_when_the_processor_is_idle() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::parse("http://127.0.0.1:1").unwrap();
        for (work, patience, rests) in [("exec sleep 60", 60, true), ("while :; do :; done", 2, false)] {
            let mut child = std::process::Command::new("sh").args(["-c", work]).current_dir(&folder).spawn().unwrap();
            let waited = Server::running(target.clone(), Some(child.id())).rest(Duration::from_secs(patience)).await;
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(waited < patience as f64, rests, "{work}: {waited}");
        }
    }

    #[test]
    fn a_foreign_server_has_no_folder() {
        let server = Server::running(Target::parse("http://127.0.0.1:1").unwrap(), None);
        assert!(server.memory().is_none() && server.disk().is_none());
    }

    #[test]
    fn disk_use_counts_the_files_below() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(folder.path(), "bench").unwrap();
        let before = blocks(folder.path());
        fs::create_dir(scratch.path.join("inner")).unwrap();
        fs::write(scratch.path.join("inner/file"), vec![1; 100_000]).unwrap();
        assert!(blocks(folder.path()) >= before + 195);
    }
}
