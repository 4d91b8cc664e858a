//! Revision ids: `generation-hash`. Parse, print, order, and derive the next one.
//!
//! Sources: protocol page §2.1 (forms and order), §2.2 and design §5 (how a new revision is named). A 32-digit hash is 16
//! raw bytes, any other hash is its own bytes, and ties are decided by comparing those bytes, never the text.

use std::cmp::Ordering;
use std::fmt;

use crate::error::{Error, Result};

/// The part after the dash.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hash {
    /// 32 hex digits, as every CouchDB since 1.x and every PouchDB writes them.
    Raw([u8; 16]),
    /// Anything else a client gave, kept byte for byte (`1-a` in tests and from other engines).
    Text(Box<str>),
}

impl Hash {
    /// Reads the text of a hash; upper-case hex is folded to lower case.
    ///
    /// # Errors
    /// `400 bad_request "Invalid rev format"` for 32 characters that are not hex.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() != 32 {
            return Ok(Self::Text(text.into()));
        }
        let mut raw = [0; 16];
        for (byte, pair) in raw.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = hex_digit(pair[0]).zip(hex_digit(pair[1])).map(|(h, l)| h << 4 | l).ok_or_else(invalid)?;
        }
        Ok(Self::Raw(raw))
    }

    /// The bytes that decide ties between revisions of one generation.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Raw(raw) => raw,
            Self::Text(text) => text.as_bytes(),
        }
    }
}

impl Ord for Hash {
    fn cmp(&self, other: &Self) -> Ordering {
        let kind = |hash: &Self| matches!(hash, Self::Text(_));
        self.bytes().cmp(other.bytes()).then_with(|| kind(self).cmp(&kind(other)))
    }
}

impl PartialOrd for Hash {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw(raw) => f.write_str(hex(raw, &mut [0; 32])),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// One revision of a document. Orders by generation, then hash bytes: the second half of the winner rule (§2.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision {
    /// Number of edits up to this one; 1 for the first.
    pub generation: u64,
    /// What the edit was.
    pub hash: Hash,
}

impl Revision {
    /// Reads `N-HASH`.
    ///
    /// # Errors
    /// `400 bad_request "Invalid rev format"`: no dash, a generation that is no `u64`, or 32 characters that are not hex.
    pub fn parse(text: &str) -> Result<Self> {
        let (generation, hash) = text.split_once('-').ok_or_else(invalid)?;
        let digits = generation.strip_prefix('+').unwrap_or(generation);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        Ok(Self { generation: digits.parse().map_err(|_| invalid())?, hash: Hash::parse(hash)? })
    }

    /// Names the revision that an edit makes: the first 16 bytes of BLAKE3 over a canonical encoding of parent, deleted
    /// flag, body text and attachments (design §5). The document's id, the time and the node are not inputs, so the same
    /// edit made twice gives the same revision.
    #[must_use]
    pub fn of_edit(parent: Option<&Self>, deleted: bool, body: &str, attachments: &[(&str, &str, [u8; 16])]) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        part(&parent.map_or(0, |p| p.generation).to_be_bytes());
        part(parent.map_or(&[], |p| p.hash.bytes()));
        part(&[u8::from(deleted)]);
        part(body.as_bytes());
        for (name, content_type, digest) in attachments {
            part(name.as_bytes());
            part(content_type.as_bytes());
            part(digest);
        }
        let mut raw = [0; 16];
        raw.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self { generation: parent.map_or(0, |p| p.generation).saturating_add(1), hash: Hash::Raw(raw) }
    }

    /// Appends `N-HASH` to a JSON or header text.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let mut digits = [0; 20];
        out.extend_from_slice(decimal(self.generation, &mut digits));
        out.push(b'-');
        match &self.hash {
            Hash::Raw(raw) => out.extend_from_slice(hex(raw, &mut [0; 32]).as_bytes()),
            Hash::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.generation, self.hash)
    }
}

/// The decimal digits of a number, without an allocation.
pub fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

fn hex<'a>(raw: &[u8; 16], digits: &'a mut [u8; 32]) -> &'a str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(raw) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

fn hex_digit(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

fn invalid() -> Error {
    Error::bad_request("Invalid rev format")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_revision() {
        for (text, printed) in [
            ("1-a", "1-a"),
            ("01-x", "1-x"),
            ("+1-x", "1-x"),
            ("1-", "1-"),
            ("1-a-b", "1-a-b"),
            ("2-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", "2-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"),
        ] {
            assert_eq!(Revision::parse(text).expect(text).to_string(), printed);
        }
        for bad in
            ["", "1", "x", "-1-x", "1.5-x", " 1-x", "99999999999999999999-x", "1-zaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]
        {
            assert!(Revision::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_decide_not_text() {
        let raw = Revision::parse("1-61000000000000000000000000000000").expect("hex");
        let short = Revision::parse("1-a").expect("text");
        assert!(raw > short, "0x61 00… is longer than the single byte 0x61");
        assert!(Revision::parse("10-a").expect("10") > Revision::parse("9-z").expect("9"));
    }

    #[test]
    fn the_same_edit_has_the_same_name() {
        let first = Revision::of_edit(None, false, "\"a\":1", &[]);
        assert_eq!(first, Revision::of_edit(None, false, "\"a\":1", &[]));
        assert_eq!(first.generation, 1);
        let others = [
            Revision::of_edit(None, true, "\"a\":1", &[]),
            Revision::of_edit(None, false, "\"a\":1.0", &[]),
            Revision::of_edit(None, false, "\"a\":1", &[("f", "t", [0; 16])]),
            Revision::of_edit(Some(&first), false, "\"a\":1", &[]),
        ];
        assert!(others.iter().all(|other| other.hash != first.hash));
    }

    #[test]
    fn printing_into_a_buffer_is_the_same() {
        for text in ["1-a", "18446744073709551615-0123456789abcdef0123456789abcdef", "0-1"] {
            let mut out = Vec::new();
            Revision::parse(text).expect(text).write_to(&mut out);
            assert_eq!(out, text.as_bytes());
        }
    }
}
