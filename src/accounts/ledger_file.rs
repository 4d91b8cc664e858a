//! The copy of the revocation ledger beside the data: one JSON line for each row of the store, numbered and chained by a
//! hash, and what it tells about the age of a store.
//!
//! The file follows the store, never the other way round, except for one moment: when the store is opened and knows less than
//! the file, older data were restored.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ledger::{self, Line};
use crate::storage::{Read, StorageError, StorageResult, hex, unhex};

/// BLAKE3.
pub type Hash = [u8; 32];

/// A line of the file or of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Counted from 1.
    pub number: u64,
    /// The line as JSON.
    pub text: String,
    /// Its hash, over all lines up to it.
    pub hash: Hash,
}

#[derive(Serialize, Deserialize)]
struct OnDisk<'a> {
    number: u64,
    hash: String,
    #[serde(borrow)]
    line: &'a RawValue,
}

/// The hash of a line behind another.
#[must_use]
pub fn chain(before: &Hash, number: u64, text: &str) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"settle ledger 1\0").update(before).update(&number.to_be_bytes()).update(text.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The lines of a store behind a line.
///
/// # Errors
/// When the store fails.
pub fn of_store(reader: &impl Read, after: u64, before: &Hash) -> StorageResult<Vec<Numbered>> {
    let mut lines: Vec<Numbered> = Vec::new();
    let mut last = *before;
    ledger::texts(reader, after, |number, text| {
        last = chain(&last, number, text);
        lines.push(Numbered { number, text: text.to_owned(), hash: last });
        ControlFlow::Continue(())
    })?;
    Ok(lines)
}

/// What stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// There is no file.
    Missing,
    /// It cannot be read, or was altered: why.
    Broken(String),
    /// Every line, and the length in bytes up to the last whole one.
    Lines(Vec<Numbered>, u64),
}

/// Reads a file and checks every line. The piece of a line at the end is what a crash left, and does not count.
#[must_use]
pub fn read(path: &Path) -> Content {
    let text = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Content::Missing,
        Err(error) => return Content::Broken(format!("it cannot be read: {error}")),
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let mut lines: Vec<Numbered> = Vec::new();
    for line in text[..whole].split_inclusive(|byte| *byte == b'\n') {
        let number = lines.len() as u64 + 1;
        let before = lines.last().map_or([0; 32], |line| line.hash);
        let Ok(OnDisk { number: told, hash, line }) = serde_json::from_slice(line) else {
            return Content::Broken(format!("line {number} cannot be read"));
        };
        let (line, hash) = (line.get(), unhex::<32>(&hash));
        if told != number || hash != Some(chain(&before, number, line)) {
            return Content::Broken(format!(
                "line {number} does not follow the line before: one of the two was altered"
            ));
        }
        if let Err(error) = serde_json::from_str::<Line>(line) {
            return Content::Broken(format!("line {number} is not understood: {error}"));
        }
        lines.push(Numbered { number, text: line.to_owned(), hash: hash.unwrap_or_default() });
    }
    Content::Lines(lines, whole as u64)
}

/// What a file tells about a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Age {
    /// Neither has begun.
    New,
    /// The store knows everything that the file knows.
    Current,
    /// The store is older: it lacks these lines.
    Behind {
        /// Lines that both have.
        common: u64,
        /// What only the file has.
        lines: Vec<Numbered>,
        /// What only the store has: it was used for a while without the file.
        own: Vec<String>,
    },
    /// There is no file, or it was altered, so nobody knows: why.
    Unknown(String),
}

/// Compares a file with the store beside it.
///
/// # Errors
/// When the store fails, or the file is that of another server.
pub fn compare(reader: &impl Read, server: &[u8; 16], path: &Path) -> StorageResult<Age> {
    let stored = of_store(reader, 0, &[0; 32])?;
    let lines = match read(path) {
        // A crash may come between the store's first line and the file's.
        Content::Missing if stored.len() <= 1 => return Ok(Age::New),
        Content::Missing => return Ok(Age::Unknown("it is missing".to_owned())),
        Content::Broken(why) => return Ok(Age::Unknown(why)),
        Content::Lines(lines, _) => lines,
    };
    let Some(first) = lines.first() else {
        let empty = || Age::Unknown("it is empty".to_owned());
        return Ok(if stored.len() <= 1 { Age::New } else { empty() });
    };
    let ours = hex(server);
    match serde_json::from_str(&first.text) {
        Ok(Line::Begun { server, .. }) if server == ours => {}
        _ => {
            return Err(StorageError::Unusable(format!(
                "the revocation ledger {} is that of another server; move it away, or name another file with --ledger",
                path.display()
            )));
        }
    }
    let common = stored.iter().zip(&lines).take_while(|(ours, theirs)| ours.hash == theirs.hash).count();
    if common == lines.len() {
        return Ok(Age::Current);
    }
    let own = stored[common..].iter().map(|line| line.text.clone()).collect();
    Ok(Age::Behind { common: common as u64, lines: lines[common..].to_vec(), own })
}

/// The end of a file that is written to.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// The number of its last line.
    pub number: u64,
    hash: Hash,
    bytes: u64,
}

impl Tail {
    /// The end of a file that was read.
    #[must_use]
    pub fn of(path: PathBuf, lines: &[Numbered], bytes: u64) -> Self {
        let (number, hash) = lines.last().map_or((0, [0; 32]), |last| (last.number, last.hash));
        Self { path, number, hash, bytes }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the store's lines that the file lacks, and waits until the disk has them. What a failed attempt left is
    /// overwritten by the next.
    ///
    /// # Errors
    /// When the file is gone, was changed by somebody else, or cannot be written.
    pub fn copy(&mut self, reader: &impl Read) -> io::Result<()> {
        let lines = of_store(reader, self.number, &self.hash).map_err(io::Error::other)?;
        let Some(last) = lines.last() else { return Ok(()) };
        let text = text_of(&lines)?;
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        if file.metadata()?.len() < self.bytes {
            return Err(io::Error::other("it became shorter: somebody else changed it"));
        }
        file.set_len(self.bytes)?;
        file.seek(SeekFrom::Start(self.bytes))?;
        file.write_all(&text)?;
        file.sync_data()?;
        self.bytes += text.len() as u64;
        (self.number, self.hash) = (last.number, last.hash);
        Ok(())
    }

    /// Makes a file with all lines of the store. One that is in the way is kept under another name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: PathBuf, reader: &impl Read, now: u64) -> io::Result<Self> {
        let lines = of_store(reader, 0, &[0; 32]).map_err(io::Error::other)?;
        let text = text_of(&lines)?;
        if path.exists() {
            let mut kept = path.clone().into_os_string();
            kept.push(format!(".broken-{now}"));
            std::fs::rename(&path, kept)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(&text)?;
        file.sync_all()?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self::of(path, &lines, text.len() as u64))
    }
}

fn text_of(lines: &[Numbered]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        let raw = RawValue::from_string(line.text.clone())?;
        serde_json::to_writer(&mut text, &OnDisk { number: line.number, hash: hex(&line.hash), line: &raw })?;
        text.push(b'\n');
    }
    Ok(text)
}
