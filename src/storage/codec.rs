//! Bytes of keys and values: big-endian numbers, variable-length numbers, length-prefixed strings.
//!
//! Keys are written so that the order of bytes is the order of meaning. Values begin with a version byte; a decoder knows
//! every version ever written. Decoding never panics on any bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version byte of values that are JSON behind it.
const JSON_VERSION: u8 = 1;

/// A value that is JSON. For structs of texts, numbers and lists, which always have a JSON form.
#[must_use]
pub fn json_row(value: &impl Serialize) -> Vec<u8> {
    let mut row = vec![JSON_VERSION];
    serde_json::to_writer(&mut row, value).unwrap_or_default();
    row
}

/// Reads what [`json_row`] wrote; `None` for anything else.
pub fn from_json_row<T: DeserializeOwned>(row: &[u8]) -> Option<T> {
    serde_json::from_slice(row.strip_prefix(&[JSON_VERSION])?).ok()
}

/// Appends to a value.
pub trait Encode {
    /// A number in 7-bit groups, least significant first.
    fn varint(&mut self, number: u64);
    /// Length as varint, then the bytes.
    fn string(&mut self, bytes: &[u8]);
}

impl Encode for Vec<u8> {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.push(number as u8);
    }

    fn string(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }
}

/// Reads a value from its start. Every method answers `None` when the bytes end too soon.
#[derive(Debug, Clone, Copy)]
pub struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    /// A decoder over these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// All that was not read.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A fixed number of bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A big-endian number.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A big-endian number.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// See [`Encode::varint`].
    pub fn varint(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// See [`Encode::string`].
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length)
    }

    /// A string that must be UTF-8.
    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.string()?).ok()
    }
}

/// Bytes as hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
        text
    })
}

/// Bytes from exactly twice as many hex digits.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(number: u64, text: String, tail: Vec<u8>) {
            let mut out = Vec::new();
            out.varint(number);
            out.string(text.as_bytes());
            out.extend_from_slice(&tail);
            let mut decoder = Decoder::new(&out);
            prop_assert_eq!(decoder.varint(), Some(number));
            prop_assert_eq!(decoder.text(), Some(text.as_str()));
            prop_assert_eq!(decoder.rest(), tail.as_slice());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut decoder = Decoder::new(&bytes);
            while decoder.varint().and_then(|_| decoder.text()).and_then(|_| decoder.u64()).is_some() {}
        }
    }
}
