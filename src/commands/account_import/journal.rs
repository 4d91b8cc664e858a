//! How far an import has come: a file beside its result, a line for what was sent and for what was answered, each on the disk
//! before anything follows from it. It has links in it, so only its owner can read it, and it goes when the result is there.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::accounts::import_rows::result_file::RowResult;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first: which file, how many rows, which server.
    Import { file: String, rows: usize, server: String },
    /// These rows are on their way. Whatever the server makes of them it makes at this time, in its seconds since 1970, or later.
    Sending { rows: Vec<usize>, since: u64 },
    /// What became of a row.
    Answered { row: usize, result: RowResult },
}

/// The journal of an import.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes of it. If it has more, somebody else writes into it, too.
    length: u64,
    /// Rows that were sent and not answered, and since when what was made of them may be there.
    doubts: HashMap<usize, u64>,
}

fn part_of(result: &Path) -> PathBuf {
    let mut name = result.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    result.with_file_name(name)
}

impl Journal {
    /// Begins one, or goes on with one that is there. Gives what became of the rows so far.
    ///
    /// # Errors
    /// When the result is there already, when the journal is another file's or server's, or when it cannot be read or written.
    pub(super) fn open(
        result: &Path,
        bytes: &[u8],
        server: &str,
        rows: usize,
    ) -> anyhow::Result<(Self, Vec<Option<RowResult>>)> {
        let path = part_of(result);
        let shown = path.display();
        let head = Line::Import { file: blake3::hash(bytes).to_hex().to_string(), rows, server: server.to_owned() };
        let head = serde_json::to_string(&head)? + "\n";
        let stored = match std::fs::read_to_string(&path) {
            Ok(stored) => stored,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        };
        // What has no end was not written to its end; nothing followed from it.
        let whole = &stored[..stored.rfind('\n').map_or(0, |at| at + 1)];
        if whole.is_empty() {
            let done = result.display();
            ensure!(
                !result.exists(),
                "{done} is there already, with the links of an import that has ended. It can be fed in again itself; for this \
                 file, name another one with --result"
            );
        } else if !whole.starts_with(&head) {
            bail!(
                "{shown} is of an import of another file, or into another server, that was stopped. Go on with that one, or \
                 remove {shown}: the links in it are lost then"
            );
        }
        let torn = whole.len() < stored.len();
        let file = open_for_appending(&path, torn.then_some(whole.len()))?;
        let mut journal = Self { file, length: whole.len() as u64, path, doubts: HashMap::new() };
        if whole.is_empty() {
            journal.append(&head)?;
        }
        let results = journal.replay(whole, rows)?;
        Ok((journal, results))
    }

    fn replay(&mut self, text: &str, rows: usize) -> anyhow::Result<Vec<Option<RowResult>>> {
        let mut results = vec![None; rows];
        for line in text.lines().skip(1) {
            let line: Line =
                serde_json::from_str(line).with_context(|| format!("{} is broken", self.path.display()))?;
            match line {
                Line::Import { .. } => {}
                Line::Sending { rows, since } => {
                    for row in rows {
                        self.doubts.entry(row).or_insert(since);
                    }
                }
                Line::Answered { row, result } => {
                    let place = results.get_mut(row).context("the journal has more rows than the file")?;
                    *place = Some(result);
                    self.doubts.remove(&row);
                }
            }
        }
        Ok(results)
    }

    /// Whether rows were sent of which nobody knows what became of them.
    pub(super) fn has_doubts(&self) -> bool {
        !self.doubts.is_empty()
    }

    /// Since when what was made of a row may be there, if its answer was lost.
    pub(super) fn doubtful(&self, row: usize) -> Option<u64> {
        self.doubts.get(&row).copied()
    }

    /// Notes that rows are sent now.
    pub(super) fn sending(&mut self, rows: &[usize], since: u64) -> anyhow::Result<()> {
        let line = serde_json::to_string(&Line::Sending { rows: rows.to_vec(), since })?;
        self.append(&(line + "\n"))
    }

    /// Notes what became of rows.
    pub(super) fn answered(&mut self, results: &[(usize, RowResult)]) -> anyhow::Result<()> {
        let mut text = String::new();
        for (row, result) in results {
            text.push_str(&serde_json::to_string(&Line::Answered { row: *row, result: result.clone() })?);
            text.push('\n');
        }
        self.append(&text)?;
        for (row, _) in results {
            self.doubts.remove(row);
        }
        Ok(())
    }

    fn append(&mut self, text: &str) -> anyhow::Result<()> {
        let mut append = || {
            let alone = self.file.metadata()?.len() == self.length;
            self.length += text.len() as u64;
            self.file.write_all(text.as_bytes())?;
            self.file.sync_data()?;
            std::io::Result::Ok(alone)
        };
        let alone = append().with_context(|| format!("cannot write {}", self.path.display()))?;
        ensure!(
            alone,
            "another import writes {}, too. Let it end, or type this command again when it has",
            self.path.display()
        );
        Ok(())
    }

    /// Puts the result in its place, wholly or not at all, and removes the journal.
    pub(super) fn end(self, result: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let mut name = result.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = result.with_file_name(name);
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            std::fs::rename(&new, result)?;
            sync_folder_of(result)?;
            std::fs::remove_file(&self.path)
        };
        write().with_context(|| format!("cannot write {}; the same command tries it again", result.display()))
    }
}

/// Opens a file behind its last whole line, where it is cut if there is more.
fn open_for_appending(path: &Path, cut_at: Option<usize>) -> anyhow::Result<File> {
    let open = || -> std::io::Result<File> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        if let Some(length) = cut_at {
            file.set_len(length as u64)?;
        }
        sync_folder_of(path)?;
        Ok(file)
    };
    open().with_context(|| format!("cannot write {}", path.display()))
}

fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(status: &str) -> RowResult {
        RowResult { status: status.to_owned(), ..RowResult::default() }
    }

    #[test]
    fn it_goes_on_behind_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.result.csv");
        let (mut journal, results) = Journal::open(&path, b"file", "s", 3).unwrap();
        assert_eq!(results, [None, None, None]);
        journal.sending(&[0, 1], 7).unwrap();
        journal.answered(&[(0, result("created"))]).unwrap();
        journal.sending(&[1], 9).unwrap();
        drop(journal);
        let part = part_of(&path);
        let whole = std::fs::read_to_string(&part).unwrap();
        std::fs::write(&part, format!("{whole}{{\"answered\":{{\"row\":1,")).unwrap();
        let (mut journal, results) = Journal::open(&path, b"file", "s", 3).unwrap();
        assert_eq!(results, [Some(result("created")), None, None]);
        assert_eq!((journal.doubtful(0), journal.doubtful(1), journal.doubtful(2)), (None, Some(7), None));
        journal.answered(&[(1, result("exists")), (2, result("refused"))]).unwrap();
        assert!(!journal.has_doubts());
        assert_eq!(std::fs::read_to_string(&part).unwrap().lines().count(), 6);
        journal.end(&path, b"done").unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), part.exists()), (b"done".to_vec(), false));
        let again = Journal::open(&path, b"file", "s", 3).unwrap_err().to_string();
        assert!(again.contains("already"), "{again}");
    }

    #[test]
    fn two_do_not_write_into_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.result.csv");
        let (mut one, _) = Journal::open(&path, b"file", "s", 2).unwrap();
        let (mut other, _) = Journal::open(&path, b"file", "s", 2).unwrap();
        other.sending(&[0], 7).unwrap();
        let error = one.sending(&[0], 7).unwrap_err().to_string();
        assert!(error.contains("another import"), "{error}");
        assert!(other.answered(&[(0, result("created"))]).is_err(), "it learns of the first one as well");
        let (again, results) = Journal::open(&path, b"file", "s", 2).unwrap();
        assert_eq!(
            (results, again.doubtful(0)),
            (vec![Some(result("created")), None], None),
            "what both wrote can be read"
        );
    }

    #[test]
    fn it_is_of_one_file_and_one_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.result.csv");
        drop(Journal::open(&path, b"file", "s", 3).unwrap());
        for (bytes, server) in [(&b"other"[..], "s"), (&b"file"[..], "t")] {
            let error = Journal::open(&path, bytes, server, 3).unwrap_err().to_string();
            assert!(error.contains("another file"), "{error}");
        }
        std::fs::write(part_of(&path), "{\"import\"").unwrap();
        assert!(Journal::open(&path, b"other", "t", 1).is_ok(), "it was never begun");
    }
}
