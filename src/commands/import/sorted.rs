//! Leaves in order of document and revision, however many: sorted in runs that are put into temporary files and merged.
//!
//! The files have no name as soon as they are open, so that nothing is left whatever happens.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::clock::random;

/// About how many bytes are sorted in memory.
const RUN_BYTES: usize = 32 << 20;

/// A leaf of a document, as one side has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) revision: String,
    /// A tombstone.
    pub(super) deleted: bool,
    /// Hash of body and attachments; zeros where only revisions are compared.
    pub(super) content: [u8; 32],
}

impl Entry {
    fn weight(&self) -> usize {
        self.id.len() + self.revision.len() + 120
    }

    fn write(&self, file: &mut impl Write) -> io::Result<()> {
        for text in [&self.id, &self.revision] {
            let length = u32::try_from(text.len()).map_err(io::Error::other)?;
            file.write_all(&length.to_be_bytes())?;
            file.write_all(text.as_bytes())?;
        }
        file.write_all(&[u8::from(self.deleted)])?;
        file.write_all(&self.content)
    }

    /// The next entry of a run; `None` at its end.
    fn read(file: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(id) = read_text(file)? else { return Ok(None) };
        let cut_off = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let revision = read_text(file)?.ok_or_else(cut_off)?;
        let (mut deleted, mut content) = ([0], [0; 32]);
        file.read_exact(&mut deleted)?;
        file.read_exact(&mut content)?;
        Ok(Some(Self { id, revision, deleted: deleted == [1], content }))
    }
}

fn read_text(file: &mut impl Read) -> io::Result<Option<String>> {
    let mut length = [0; 4];
    match file.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut text = vec![0; u32::from_be_bytes(length) as usize];
    file.read_exact(&mut text)?;
    String::from_utf8(text).map(Some).map_err(io::Error::other)
}

/// Takes leaves in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    run: Vec<Entry>,
    bytes: usize,
    run_bytes: usize,
    files: Vec<File>,
}

impl Sorter {
    pub(super) fn new() -> Self {
        Self::with_runs_of(RUN_BYTES)
    }

    fn with_runs_of(run_bytes: usize) -> Self {
        Self { run: Vec::new(), bytes: 0, run_bytes, files: Vec::new() }
    }

    pub(super) fn push(&mut self, entry: Entry) -> io::Result<()> {
        self.bytes += entry.weight();
        self.run.push(entry);
        if self.bytes >= self.run_bytes {
            self.put_away()?;
        }
        Ok(())
    }

    fn put_away(&mut self) -> io::Result<()> {
        self.run.sort_unstable();
        let mut file = BufWriter::new(nameless_file()?);
        for entry in self.run.drain(..) {
            entry.write(&mut file)?;
        }
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        self.files.push(file);
        self.bytes = 0;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<Sorted> {
        self.run.sort_unstable();
        let mut runs: Vec<Run> = self.files.into_iter().map(|file| Run::File(BufReader::new(file))).collect();
        runs.push(Run::Memory(self.run.into_iter()));
        let mut heads = BinaryHeap::new();
        for (at, run) in runs.iter_mut().enumerate() {
            heads.extend(run.next()?.map(|entry| Reverse((entry, at))));
        }
        Ok(Sorted { runs, heads, last: None })
    }
}

/// A file in the system's folder for temporary ones that is gone when it is closed.
fn nameless_file() -> io::Result<File> {
    let name: String = random::<12>().iter().map(|byte| format!("{byte:02x}")).collect();
    let path = std::env::temp_dir().join(format!("settle-import-{name}"));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

enum Run {
    File(BufReader<File>),
    Memory(std::vec::IntoIter<Entry>),
}

impl Run {
    fn next(&mut self) -> io::Result<Option<Entry>> {
        match self {
            Self::File(file) => Entry::read(file),
            Self::Memory(entries) => Ok(entries.next()),
        }
    }
}

/// Gives leaves in order, each once.
pub(super) struct Sorted {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
    last: Option<Entry>,
}

impl Sorted {
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        while let Some(mut head) = self.heads.peek_mut() {
            let at = head.0.1;
            let entry = match self.runs[at].next()? {
                Some(following) => std::mem::replace(&mut *head, Reverse((following, at))).0.0,
                None => PeekMut::pop(head).0.0,
            };
            if self.last.as_ref() != Some(&entry) {
                self.last = Some(entry.clone());
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Sorter};

    fn entry(number: u32) -> Entry {
        let id = format!("d{:03}\n\0é", number % 97);
        Entry {
            id,
            revision: format!("{}-x", number % 7),
            deleted: number.is_multiple_of(2),
            content: [number as u8; 32],
        }
    }

    #[test]
    fn many_runs_and_one_give_the_same_order_each_leaf_once() {
        let mut expected: Vec<Entry> = (0..500).map(entry).collect();
        for run_bytes in [1, 1_000, 20_000, 1 << 20] {
            let mut sorter = Sorter::with_runs_of(run_bytes);
            for number in (0..500).rev().chain(0..50) {
                sorter.push(entry(number)).unwrap();
            }
            let mut sorted = sorter.finish().unwrap();
            let mut found = Vec::new();
            while let Some(entry) = sorted.next().unwrap() {
                found.push(entry);
            }
            expected.sort();
            expected.dedup();
            assert_eq!(found, expected, "{run_bytes}");
        }
        assert_eq!(Sorter::new().finish().unwrap().next().unwrap(), None);
    }
}
