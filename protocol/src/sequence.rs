//! The opaque feed token: `POSITION-TEXT`, where only TEXT is read back.
//!
//! Sources: protocol page §3.1 and T10, design §6.4. A token names the history it belongs to (a tag of the database and of
//! the store's incarnation), so that one from before a restore or of a re-created database rewinds instead of failing or
//! skipping. Tokens are positions, never rights: nothing secret is in them and forging one gains nothing.
//!
//! TEXT is unpadded base64url of: version (1 byte), database tag (4), incarnation tag (4), position (6, big-endian). The
//! first nine bytes are twelve characters that all tokens of a database share. Longer tokens (scope fingerprint, backfill
//! cursor) get another version.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, Result};
use crate::revision::decimal;

/// Number of one change in a database's log, from 1; 0 is before the first.
pub type Position = u64;

/// Largest position a token can carry (2⁴⁸ − 1).
pub const MAX_POSITION: Position = (1 << 48) - 1;

const VERSION: u8 = 1;

/// What every token of one database in one incarnation of the store begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenPrefix {
    tags: [u8; 8],
    text: [u8; 12],
}

impl TokenPrefix {
    /// The prefix for a database tag and an incarnation tag.
    #[must_use]
    pub fn new(database: [u8; 4], incarnation: [u8; 4]) -> Self {
        let mut bytes = [0; 9];
        bytes[0] = VERSION;
        bytes[1..5].copy_from_slice(&database);
        bytes[5..].copy_from_slice(&incarnation);
        let mut text = [0; 12];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written, Ok(12));
        let mut tags = [0; 8];
        tags.copy_from_slice(&bytes[1..]);
        Self { tags, text }
    }

    /// Appends the token of a position, without quotes.
    pub fn write(&self, position: Position, out: &mut Vec<u8>) {
        out.extend_from_slice(decimal(position, &mut [0; 20]));
        out.push(b'-');
        out.extend_from_slice(&self.text);
        let mut digits = [0; 8];
        for (at, digit) in digits.iter_mut().enumerate() {
            let six_bits = (position >> (42 - 6 * at)) & 63;
            *digit = BASE64_URL[six_bits as usize];
        }
        out.extend_from_slice(&digits);
    }

    /// The token of a position as text.
    #[must_use]
    pub fn token(&self, position: Position) -> String {
        let mut out = Vec::with_capacity(32);
        self.write(position, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Where a client stands. A well-formed token of another history is [`StartingPoint::After`] 0: the client is told everything
    /// again and skips what it has.
    #[must_use]
    pub fn resolve(&self, since: &Since) -> StartingPoint {
        match since {
            Since::Now => StartingPoint::Now,
            Since::Beginning => StartingPoint::After(0),
            Since::Token { tags, position } if *tags == self.tags => StartingPoint::After(*position),
            Since::Token { .. } => StartingPoint::After(0),
        }
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The `since` of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// `0`: from the first change.
    Beginning,
    /// `now`: only what comes.
    Now,
    /// A token handed out earlier, by this history or another.
    Token {
        /// Database tag and incarnation tag.
        tags: [u8; 8],
        /// The position inside.
        position: Position,
    },
}

/// Where a feed starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartingPoint {
    /// At the present end.
    Now,
    /// Behind this position.
    After(Position),
}

impl Since {
    /// Reads a `since` value: `0`, `now`, or a token, raw or JSON-quoted. The number before the dash is not looked at.
    ///
    /// # Errors
    /// `400 bad_request "Malformed sequence supplied in 'since' parameter."`
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
        match text {
            "0" => return Ok(Self::Beginning),
            "now" => return Ok(Self::Now),
            _ => {}
        }
        let (number, opaque) = text.split_once('-').ok_or_else(malformed)?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed());
        }
        let bytes = URL_SAFE_NO_PAD.decode(opaque).map_err(|_| malformed())?;
        let bytes: [u8; 15] = bytes.try_into().map_err(|_| malformed())?;
        if bytes[0] != VERSION {
            return Err(malformed());
        }
        let mut tags = [0; 8];
        tags.copy_from_slice(&bytes[1..9]);
        let position = bytes[9..].iter().fold(0, |position, byte| position << 8 | Position::from(*byte));
        Ok(Self::Token { tags, position })
    }
}

fn malformed() -> Error {
    Error::bad_request("Malformed sequence supplied in 'since' parameter.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_reads_back() {
        let prefix = TokenPrefix::new([1, 2, 3, 4], [250, 251, 252, 253]);
        for position in [0, 1, 63, 64, 4711, MAX_POSITION] {
            let token = prefix.token(position);
            assert!(token.starts_with(&format!("{position}-")));
            for form in [token.clone(), format!("\"{token}\""), token.replacen(&position.to_string(), "999999", 1)] {
                let since = Since::parse(&form).expect("own token");
                assert_eq!(prefix.resolve(&since), StartingPoint::After(position), "{form}");
            }
        }
    }

    #[test]
    fn another_history_rewinds() {
        let here = TokenPrefix::new([1; 4], [1; 4]);
        for other in [TokenPrefix::new([2; 4], [1; 4]), TokenPrefix::new([1; 4], [2; 4])] {
            let since = Since::parse(&other.token(77)).expect("well formed");
            assert_eq!(here.resolve(&since), StartingPoint::After(0));
        }
    }

    #[test]
    fn junk_is_malformed() {
        for junk in ["", "5", "-", "5-", "x-AAAA", "5-AAAA", "now ", "\"", "5-!!!!", "-1-AAAAAAAAAAAAAAAAAAAA", "é-é"]
        {
            assert!(Since::parse(junk).is_err(), "{junk}");
        }
    }
}
