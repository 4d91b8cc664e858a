//! The audit log in a file: one entry a line, with the hashes that bind it to the others, so that the file is checked without a
//! server.
//!
//! A line is the entry's own JSON with its number and its hash in front: `{"number":7,"hash":"…",` and then what is stored
//! from `"time"` on. Where the entry before is not in the line before, its hash stands there, too, as `"before"`.

use super::{Broken, HASH_BYTES, Head, Stored, hash_of};
use crate::storage::{hex, unhex};

const NUMBER: &str = "{\"number\":";
const HASH: &str = ",\"hash\":\"";
const BEFORE: &str = ",\"before\":\"";
const DIGITS: usize = 2 * HASH_BYTES;

/// Writes one line. `before`: the hash of the entry before, unless the line before has it.
pub fn write_line(out: &mut Vec<u8>, stored: &Stored<'_>, before: Option<&[u8; HASH_BYTES]>) {
    let Head { number, hash } = stored.head;
    out.extend_from_slice(format!("{NUMBER}{number}{HASH}{}\"", hex(&hash)).as_bytes());
    if let Some(before) = before {
        out.extend_from_slice(format!("{BEFORE}{}\"", hex(before)).as_bytes());
    }
    out.push(b',');
    out.extend_from_slice(stored.text.get(1..).unwrap_or_default());
    out.push(b'\n');
}

/// A line taken apart.
struct Line<'a> {
    head: Head,
    before: Option<[u8; HASH_BYTES]>,
    /// From behind the brace on.
    rest: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let rest = line.strip_prefix(NUMBER)?;
        let (number, rest) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit())?);
        let (hash, rest) = rest.strip_prefix(HASH)?.split_at_checked(DIGITS)?;
        let mut rest = rest.strip_prefix('"')?;
        let mut before = None;
        if let Some(tail) = rest.strip_prefix(BEFORE) {
            let (digits, tail) = tail.split_at_checked(DIGITS)?;
            before = Some(unhex(digits)?);
            rest = tail.strip_prefix('"')?;
        }
        let head = Head { number: number.parse().ok()?, hash: unhex(hash)? };
        Some(Self { head, before, rest: rest.strip_prefix(',')? })
    }
}

/// What was found in a file so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checked {
    /// Entries.
    pub entries: u64,
    /// The newest of them.
    pub last: Head,
    /// How often something is left out between two of them, or before the first.
    pub gaps: u64,
}

impl Checked {
    /// Checks the next line: that it is what was written, and that it follows on the one before. `kept`: heads that were kept
    /// elsewhere.
    ///
    /// # Errors
    /// The number of the entry (of a line that cannot be read: of the entry before), and what is wrong with it.
    pub fn line(&mut self, line: &str, kept: &[Head]) -> Result<(), Broken> {
        let broken = |number, problem| Err(Broken { number, problem });
        let Some(Line { head, before, rest }) = Line::parse(line) else {
            return broken(self.last.number, "the line behind it is no entry of an export");
        };
        if head.number <= self.last.number {
            return broken(head.number, "it stands behind a newer one");
        }
        let follows = head.number == self.last.number + 1;
        let before = match (follows, before) {
            (true, None) => self.last.hash,
            (true, Some(before)) if before == self.last.hash => before,
            (true, Some(_)) => return broken(head.number, "it does not follow on the one before"),
            (false, Some(before)) => before,
            (false, None) => return broken(self.last.number + 1, "it is missing"),
        };
        if hash_of(head.number, &before, format!("{{{rest}").as_bytes()) != head.hash {
            return broken(head.number, "it is not what was written here");
        }
        if kept.iter().any(|kept| kept.number == head.number && kept.hash != head.hash) {
            return broken(head.number, "it is not the entry whose head was kept");
        }
        *self = Self { entries: self.entries + 1, last: head, gaps: self.gaps + u64::from(!follows) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Entry;

    fn lines(numbers: &[u64]) -> Vec<String> {
        let (mut lines, mut before, mut last) = (Vec::new(), [0; HASH_BYTES], 0);
        for number in 1..=9 {
            let text =
                serde_json::to_vec(&Entry::new(number, "root", "device.cut").reason(Some("€ \" {"))).expect("JSON");
            let hash = hash_of(number, &before, &text);
            if numbers.contains(&number) {
                let mut out = Vec::new();
                let stored = Stored { head: Head { number, hash }, text: &text };
                write_line(&mut out, &stored, (number != last + 1).then_some(&before));
                lines.push(String::from_utf8(out).expect("text").trim_end().to_owned());
                last = number;
            }
            before = hash;
        }
        lines
    }

    fn check(lines: &[String], kept: &[Head]) -> Result<Checked, Broken> {
        let mut checked = Checked::default();
        lines.iter().try_for_each(|line| checked.line(line, kept)).map(|()| checked)
    }

    #[test]
    fn what_was_exported_is_found_whole_and_a_choice_of_it_too() {
        let whole = lines(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let checked = check(&whole, &[]).expect("whole");
        assert_eq!((checked.entries, checked.last.number, checked.gaps), (9, 9, 0));
        assert!(serde_json::from_str::<serde_json::Value>(&whole[3]).expect("JSON")["action"] == "device.cut");
        let chosen = check(&lines(&[2, 3, 7]), &[]).expect("a choice");
        assert_eq!((chosen.entries, chosen.last.number, chosen.gaps), (3, 7, 2));
        assert!(check(&lines(&[2, 3, 7]), &[Head { number: 7, ..checked.last }]).is_err());
        assert!(check(&lines(&[9]), &[checked.last]).is_ok());
    }

    #[test]
    fn whatever_is_altered_left_out_or_moved_is_named() {
        let whole = lines(&[1, 2, 3, 4, 5]);
        for at in 0..whole.len() {
            for place in 0..whole[at].len() {
                let mut bytes = whole[at].clone().into_bytes();
                bytes[place] ^= 1;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                let mut altered = whole.clone();
                altered[at] = text;
                assert!(check(&altered, &[]).is_err(), "byte {place} of line {at}");
            }
            let mut shorter = whole.clone();
            shorter.remove(at);
            assert_eq!(check(&shorter, &[]).is_err(), at + 1 < whole.len(), "without line {at}");
            let mut swapped = whole.clone();
            swapped.swap(at, (at + 1) % whole.len());
            assert!(check(&swapped, &[]).is_err(), "line {at} elsewhere");
        }
    }
}
