//! The opaque feed token: `POSITION-TEXT`, where only TEXT is read back.
//!
//! Sources: protocol page §3.1 and T10, design §6.4. A token names the history it belongs to (a tag of the database and of
//! the store's incarnation), so that one from before a restore or of a re-created database rewinds instead of failing or
//! skipping. Tokens are positions, never rights: nothing secret is in them and forging one gains nothing.
//!
//! TEXT is unpadded base64url of: version (1 byte), database tag (4), incarnation tag (4), position (6, big-endian). The
//! first nine bytes are twelve characters that all tokens of a database share but for the version.
//!
//! Another version (3, 4 for restricted feeds) says that the position was the end of the log when the token was given: who holds
//! it knew everything. Behind any other token there was more, and what stood before its position may have moved behind it unseen.
//! Only after a restore does that matter: see [`TokenPrefix::resolve`].
//!
//! Tokens of a restricted feed (version 2) go on with the position of the scope they were given under (6), and while the
//! client is still being told what a change of scope means, with a [`Backfill`]: target (6), cursor and a bit (6), and the
//! positions of scopes whose telling was interrupted (6 each).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{Error, Result};
use crate::revision::decimal;

/// Number of one change in a database's log, from 1; 0 is before the first.
pub type Position = u64;

/// Largest position a token can carry (2⁴⁸ − 1).
pub const MAX_POSITION: Position = (1 << 48) - 1;

const VERSION: u8 = 1;
const SCOPED_VERSION: u8 = 2;
/// Versions of tokens that were given at the end of the log.
const END_VERSION: u8 = 3;
const SCOPED_END_VERSION: u8 = 4;

/// What every token of one database in one incarnation of the store begins with, and which earlier incarnations it goes on
/// from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPrefix {
    tags: [u8; 8],
    /// The first characters, without and with the end of the log.
    texts: [[u8; 12]; 2],
    /// Tags of earlier incarnations, each with the last position that it has in common with this one.
    earlier: Vec<([u8; 4], Position)>,
}

impl TokenPrefix {
    /// The prefix for a database tag and an incarnation tag.
    #[must_use]
    pub fn new(database: [u8; 4], incarnation: [u8; 4]) -> Self {
        let mut bytes = [0; 9];
        bytes[1..5].copy_from_slice(&database);
        bytes[5..].copy_from_slice(&incarnation);
        let mut tags = [0; 8];
        tags.copy_from_slice(&bytes[1..]);
        let texts = [VERSION, END_VERSION].map(|version| {
            bytes[0] = version;
            let mut text = [0; 12];
            let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
            debug_assert_eq!(written, Ok(12));
            text
        });
        Self { tags, texts, earlier: Vec::new() }
    }

    /// The same, going on from earlier incarnations: their tags, each with the last position that this one has in common
    /// with it.
    #[must_use]
    pub fn going_on_from(self, earlier: Vec<([u8; 4], Position)>) -> Self {
        Self { earlier, ..self }
    }

    /// Up to which position this history is the same as an earlier one; `None`: it is another.
    fn common(&self, tags: &[u8; 8]) -> Option<Position> {
        let of_this_database = tags[..4] == self.tags[..4];
        let known = self.earlier.iter().filter(|(tag, _)| of_this_database && tags[4..] == *tag);
        known.map(|(_, common)| *common).min()
    }

    /// Appends the token of a position, without quotes. `at_end`: it is the end of the log as it was when the last row was
    /// looked for.
    pub fn write(&self, position: Position, at_end: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(decimal(position, &mut [0; 20]));
        out.push(b'-');
        out.extend_from_slice(&self.texts[usize::from(at_end)]);
        let mut digits = [0; 8];
        for (at, digit) in digits.iter_mut().enumerate() {
            let six_bits = (position >> (42 - 6 * at)) & 63;
            *digit = BASE64_URL[six_bits as usize];
        }
        out.extend_from_slice(&digits);
    }

    /// Appends the token of a restricted feed, without quotes. `at_end` as in [`TokenPrefix::write`].
    pub fn write_scoped(&self, position: Position, mark: &ScopeMark, at_end: bool, out: &mut Vec<u8>) {
        let mut bytes = Vec::with_capacity(34);
        bytes.push(if at_end { SCOPED_END_VERSION } else { SCOPED_VERSION });
        bytes.extend_from_slice(&self.tags);
        let mut push = |position: Position| bytes.extend_from_slice(&position.to_be_bytes()[2..]);
        push(position);
        push(mark.scope);
        if let Some(backfill) = &mark.backfill {
            push(backfill.target);
            push(backfill.cursor << 1 | Position::from(backfill.gaining));
            backfill.aborted.iter().for_each(|position| push(*position));
        }
        out.extend_from_slice(decimal(position, &mut [0; 20]));
        out.push(b'-');
        let mut text = [0; 96];
        if let Ok(length) = URL_SAFE_NO_PAD.encode_slice(&bytes, &mut text) {
            out.extend_from_slice(&text[..length]);
        }
    }

    /// Where a client of a restricted feed stands; `None`: at the end. A token of another history, or of a feed without a
    /// scope, stands at 0.
    ///
    /// A token of an earlier incarnation counts only if it was given at the end of the log and everything in it lies before the
    /// end of what the two have in common: then it was given in the history that both share. To take one that lies behind back to that end would not do: what left the scope afterwards the device may have dropped,
    /// and it is in scope again now, at positions before the end.
    #[must_use]
    pub fn resolve_scoped(&self, since: &Since) -> Option<(Position, Option<ScopeMark>)> {
        match since {
            Since::Now => None,
            Since::Token { tags, position, mark: Some(mark), at_end }
                if *tags == self.tags
                    || (*at_end && self.common(tags).is_some_and(|common| mark.newest().max(*position) <= common)) =>
            {
                Some((*position, Some(mark.clone())))
            }
            Since::Beginning | Since::Token { .. } => Some((0, None)),
        }
    }

    /// The token of the end of the log as text.
    #[must_use]
    pub fn token(&self, position: Position) -> String {
        let mut out = Vec::with_capacity(32);
        self.write(position, true, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Where a client stands. One with a token of an earlier incarnation that was given at the end of its log stands at most at the
    /// end of what that has in common with this one: it knows everything up to there, and nothing that came since. If there was
    /// more behind the token, what it does not know may stand anywhere here: it was changed in the lost part of the history, and so
    /// moved to a place that the client did not reach. Such a client, and one with a well-formed token of another history, is at
    /// [`StartingPoint::After`] 0: it is told everything again and skips what it has.
    #[must_use]
    pub fn resolve(&self, since: &Since) -> StartingPoint {
        match since {
            Since::Now => StartingPoint::Now,
            Since::Beginning => StartingPoint::After(0),
            Since::Token { tags, position, mark: None, .. } if *tags == self.tags => StartingPoint::After(*position),
            Since::Token { tags, position, mark: None, at_end: true } => {
                StartingPoint::After(self.common(tags).unwrap_or(0).min(*position))
            }
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
        /// In a token of a restricted feed: the scope.
        mark: Option<ScopeMark>,
        /// The position was the end of the log.
        at_end: bool,
    },
}

/// Under which scope a token of a restricted feed was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeMark {
    /// The client knows everything up to the token's position in the scope of this position.
    pub scope: Position,
    /// It is being told what a change of scope means.
    pub backfill: Option<Backfill>,
}

impl ScopeMark {
    /// The newest position in it.
    fn newest(&self) -> Position {
        let of = |backfill: &Backfill| {
            let aborted = backfill.aborted.iter().copied().max().unwrap_or(0);
            backfill.target.max(backfill.cursor).max(aborted)
        };
        self.backfill.as_ref().map_or(0, of).max(self.scope)
    }
}

/// How far the telling of a change of scope came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backfill {
    /// The position of the new scope.
    pub target: Position,
    /// What was lost is told, what was gained is being told.
    pub gaining: bool,
    /// Told up to here, below 2⁴⁷.
    pub cursor: Position,
    /// Positions of scopes that began and ended while they were being told.
    pub aborted: Vec<Position>,
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
        let (head, tail) = bytes.split_at_checked(15).ok_or_else(malformed)?;
        let mut tags = [0; 8];
        tags.copy_from_slice(&head[1..9]);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | Position::from(*byte));
        let position = number(&head[9..]);
        let mark = match (head[0], tail.len()) {
            (VERSION | END_VERSION, 0) => None,
            (SCOPED_VERSION | SCOPED_END_VERSION, 6 | 18 | 24 | 30 | 36) => {
                let numbers: Vec<Position> = tail.chunks(6).map(number).collect();
                let backfill = (numbers.len() > 1).then(|| Backfill {
                    target: numbers[1],
                    gaining: numbers[2] & 1 == 1,
                    cursor: numbers[2] >> 1,
                    aborted: numbers[3..].to_vec(),
                });
                Some(ScopeMark { scope: numbers[0], backfill })
            }
            _ => return Err(malformed()),
        };
        Ok(Self::Token { tags, position, mark, at_end: matches!(head[0], END_VERSION | SCOPED_END_VERSION) })
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
    fn tokens_of_a_scope_read_back() {
        let prefix = TokenPrefix::new([1, 2, 3, 4], [250, 251, 252, 253]);
        let backfill = |aborted| Some(Backfill { target: 9, gaining: true, cursor: (1 << 47) - 1, aborted });
        for backfill in [None, backfill(vec![]), backfill(vec![3]), backfill(vec![3, MAX_POSITION, 5])] {
            let mark = ScopeMark { scope: 7, backfill };
            let mut token = Vec::new();
            prefix.write_scoped(4711, &mark, false, &mut token);
            let since = Since::parse(std::str::from_utf8(&token).expect("text")).expect("own token");
            assert_eq!(prefix.resolve_scoped(&since), Some((4711, Some(mark))));
            assert_eq!(prefix.resolve(&since), StartingPoint::After(0), "without the scope it means nothing");
        }
        assert_eq!(prefix.resolve_scoped(&Since::Now), None);
        let plain = Since::parse(&prefix.token(5)).expect("own token");
        assert_eq!(prefix.resolve_scoped(&plain), Some((0, None)));
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
    fn tokens_of_an_earlier_incarnation_rewind_to_what_is_common() {
        let before = TokenPrefix::new([1; 4], [1; 4]);
        let here = TokenPrefix::new([1; 4], [2; 4]).going_on_from(vec![([1; 4], 100), ([9; 4], 40)]);
        for (position, starts) in [(0, 0), (99, 99), (100, 100), (101, 100), (MAX_POSITION, 100)] {
            let since = Since::parse(&before.token(position)).expect("well formed");
            assert_eq!(here.resolve(&since), StartingPoint::After(starts), "{position}");
            let mut more_behind = Vec::new();
            before.write(position, false, &mut more_behind);
            let since = Since::parse(std::str::from_utf8(&more_behind).expect("text")).expect("well formed");
            assert_eq!(
                here.resolve(&since),
                StartingPoint::After(0),
                "{position}: what it had not reached may be anywhere"
            );
            assert_eq!(before.resolve(&since), StartingPoint::After(position));
        }
        for other in [TokenPrefix::new([2; 4], [1; 4]), TokenPrefix::new([1; 4], [3; 4])] {
            let since = Since::parse(&other.token(77)).expect("well formed");
            assert_eq!(here.resolve(&since), StartingPoint::After(0), "another database, an unknown incarnation");
        }
        let own = Since::parse(&here.token(4711)).expect("well formed");
        assert_eq!(here.resolve(&own), StartingPoint::After(4711));
    }

    #[test]
    fn a_token_of_a_scope_counts_if_all_of_it_is_common() {
        let before = TokenPrefix::new([1; 4], [1; 4]);
        let here = TokenPrefix::new([1; 4], [2; 4]).going_on_from(vec![([1; 4], 100)]);
        let backfill = |target, cursor, aborted| Some(Backfill { target, gaining: false, cursor, aborted });
        for (position, scope, backfill, counts) in [
            (100, 100, None, true),
            (101, 50, None, false),
            (50, 101, None, false),
            (50, 50, backfill(100, 100, vec![100]), true),
            (50, 50, backfill(101, 0, vec![]), false),
            (50, 50, backfill(100, 101, vec![]), false),
            (50, 50, backfill(100, 0, vec![7, 101]), false),
        ] {
            let mark = ScopeMark { scope, backfill };
            let mut token = Vec::new();
            before.write_scoped(position, &mark, true, &mut token);
            let since = Since::parse(std::str::from_utf8(&token).expect("text")).expect("well formed");
            let expected = if counts { Some((position, Some(mark.clone()))) } else { Some((0, None)) };
            assert_eq!(here.resolve_scoped(&since), expected, "{position} {scope}");
            token.clear();
            before.write_scoped(position, &mark, false, &mut token);
            let since = Since::parse(std::str::from_utf8(&token).expect("text")).expect("well formed");
            assert_eq!(here.resolve_scoped(&since), Some((0, None)), "there was more behind it");
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
