//! A file that takes messages, one JSON object a line, for whatever picks them up. A line is on the disk before the message counts as
//! delivered.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::Said;

/// Appends one line. `turn`: one at a time.
pub(super) fn append(path: &Path, turn: &Mutex<()>, message: &str) -> Said {
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    match write(path, message) {
        Ok(()) => Said::Taken,
        Err(error) => Said::Later(format!("the file cannot be written: {error}"), None),
    }
}

fn write(path: &Path, message: &str) -> io::Result<()> {
    // Opened each time: whoever picks up may have moved it away.
    let mut file = OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    // What a crash or a full disk left of a line must not swallow the next one.
    let start = if ends_within_a_line(&mut file)? { "\n" } else { "" };
    file.write_all(format!("{start}{message}\n").as_bytes())?;
    file.sync_all()
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_whole_also_behind_a_torn_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, turn) = (folder.path().join("out.ndjson"), Mutex::new(()));
        assert_eq!(append(&path, &turn, "{\"a\":1}"), Said::Taken);
        assert_eq!(append(&path, &turn, "{\"a\":2}"), Said::Taken);
        let mut text = std::fs::read_to_string(&path).expect("there");
        text.push_str("{\"a\":");
        std::fs::write(&path, &text).expect("written");
        assert_eq!(append(&path, &turn, "{\"a\":3}"), Said::Taken);
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "{\"a\":1}\n{\"a\":2}\n{\"a\":\n{\"a\":3}\n");
        assert!(matches!(append(folder.path(), &turn, "{}"), Said::Later(_, None)));
    }
}
