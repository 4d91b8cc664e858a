//! The `Range` header of an attachment request: which bytes of a whole are wanted.
//!
//! Header text and length in, decision out. The rules are CouchDB's (protocol page §5.6), down to the order in which it
//! judges several ranges; the two departures are marked at [`parse_range`]. Nothing here reads an attachment or knows
//! whether it is stored encoded: CouchDB ignores `Range` for those, and that choice is the caller's.

/// The most ranges answered as `multipart/byteranges`; a longer list gets the whole attachment (CouchDB 3.5).
pub const RANGES_MAX: usize = 9;

/// Bytes `first` to `last` of an attachment, both included, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Position of the first byte.
    pub first: u64,
    /// Position of the last byte, at least `first` and below the attachment's length.
    pub last: u64,
}

impl ByteRange {
    /// How many bytes the range has.
    pub fn length(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// The value of `Content-Range` for this range of an attachment of `length` bytes: `bytes 1-2/5`.
    pub fn content_range(self, length: u64) -> String {
        format!("bytes {}-{}/{length}", self.first, self.last)
    }
}

/// What a `Range` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeRequest {
    /// The header is to be ignored: 200 and everything.
    Whole,
    /// One range: 206 with `Content-Range`.
    One(ByteRange),
    /// Two to [`RANGES_MAX`] ranges in the order asked for, overlaps kept: 206 as `multipart/byteranges`.
    Many(Vec<ByteRange>),
    /// 416 `requested_range_not_satisfiable`, without `Content-Range`.
    Unsatisfiable,
}

/// Decides what a `Range` header means for an attachment of `length` bytes.
///
/// As CouchDB 3.5 does (protocol page §5.6): anything malformed is ignored; `0-` means the whole and is answered 200; a
/// range is cut at the end; one that begins beyond the end, ends before it begins, or is the suffix `-0` makes the
/// whole request unsatisfiable. Ranges are judged from the left, so `0-,9-` of 5 bytes is the whole and `9-,0-` is not.
///
/// Differences: a suffix of the whole length or more is everything, as RFC 9110 §14.1.2 says (CouchDB loses the first
/// byte), and an empty list of ranges is ignored (CouchDB sends a multipart without parts).
pub fn parse_range(header: &str, length: u64) -> RangeRequest {
    let Some(list) = header.trim().strip_prefix("bytes=") else {
        return RangeRequest::Whole;
    };
    let specifiers = list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(Specifier::parse);
    if specifiers.clone().any(|specifier| specifier.is_none()) {
        return RangeRequest::Whole;
    }

    let mut ranges = Vec::new();
    for specifier in specifiers.flatten() {
        if specifier == Specifier::From(0) {
            return RangeRequest::Whole;
        }
        let Some(range) = specifier.within(length) else {
            return RangeRequest::Unsatisfiable;
        };
        // One more than allowed is enough to know that there are too many.
        if ranges.len() <= RANGES_MAX {
            ranges.push(range);
        }
    }
    match ranges[..] {
        [range] => RangeRequest::One(range),
        [_, _, ..] if ranges.len() <= RANGES_MAX => RangeRequest::Many(ranges),
        _ => RangeRequest::Whole,
    }
}

/// One element of the list, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Specifier {
    /// `first-last`
    Between(u64, u64),
    /// `first-`
    From(u64),
    /// `-count`: the last `count` bytes
    Last(u64),
}

impl Specifier {
    fn parse(text: &str) -> Option<Specifier> {
        let (first, last) = text.split_once('-')?;
        match (first, last) {
            ("", count) => Some(Specifier::Last(number(count)?)),
            (first, "") => Some(Specifier::From(number(first)?)),
            (first, last) => Some(Specifier::Between(number(first)?, number(last)?)),
        }
    }

    /// The bytes meant, or nothing when an attachment of `length` bytes has none of them.
    fn within(self, length: u64) -> Option<ByteRange> {
        let end = length.checked_sub(1)?;
        let (first, last) = match self {
            Specifier::Between(first, last) => (first, last.min(end)),
            Specifier::From(first) => (first, end),
            Specifier::Last(count) => (length.saturating_sub(count), end),
        };
        (first <= last).then_some(ByteRange { first, last })
    }
}

/// A decimal number; one too large for any attachment counts as the largest.
fn number(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{ByteRange, RangeRequest, parse_range};

    fn range(first: u64, last: u64) -> ByteRange {
        ByteRange { first, last }
    }

    #[test]
    fn one_range_is_cut_at_the_end() {
        for (header, first, last) in [
            ("bytes=1-2", 1, 2),
            ("bytes=0-0", 0, 0),
            ("bytes=0-4", 0, 4),
            ("bytes=3-", 3, 4),
            ("bytes=3-99", 3, 4),
            ("bytes=4-99999999999999999999999", 4, 4),
            ("bytes=-2", 3, 4),
            ("bytes=-4", 1, 4),
            ("bytes=-5", 0, 4),
            ("bytes=-99", 0, 4),
            (" bytes= 1-2 ,", 1, 2),
        ] {
            assert_eq!(parse_range(header, 5), RangeRequest::One(range(first, last)), "{header}");
        }
    }

    #[test]
    fn several_ranges_keep_their_order() {
        let expected = RangeRequest::Many(vec![range(3, 4), range(0, 1), range(1, 4)]);
        assert_eq!(parse_range("bytes=3-9, 0-1,,-4", 5), expected);

        let nine = format!("bytes={}", ["1-1"; 9].join(","));
        assert_eq!(parse_range(&nine, 5), RangeRequest::Many(vec![range(1, 1); 9]));
        for count in [10, 11, 1000] {
            let header = format!("bytes={}", vec!["1-1"; count].join(","));
            assert_eq!(parse_range(&header, 5), RangeRequest::Whole, "{count} ranges");
        }
    }

    #[test]
    fn a_range_outside_makes_the_request_unsatisfiable() {
        for header in ["bytes=5-", "bytes=5-9", "bytes=3-2", "bytes=-0", "bytes=1-2,7-8", "bytes=9-,0-"] {
            assert_eq!(parse_range(header, 5), RangeRequest::Unsatisfiable, "{header}");
        }
        for header in ["bytes=0-0", "bytes=-1", "bytes=1-"] {
            assert_eq!(parse_range(header, 0), RangeRequest::Unsatisfiable, "{header} of nothing");
        }
    }

    #[test]
    fn the_whole_is_sent_when_asked_for_or_not_understood() {
        for header in [
            "bytes=0-",
            "bytes=0-,9-",
            "bytes=1-2,0-",
            "",
            "bytes",
            "bytes=",
            "bytes=,,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=-20-30",
            "bytes=9-2,x",
            "lines=1-2",
        ] {
            assert_eq!(parse_range(header, 5), RangeRequest::Whole, "{header}");
        }
        assert_eq!(parse_range("bytes=0-", 0), RangeRequest::Whole);
    }

    #[test]
    fn a_range_knows_its_length_and_its_header() {
        assert_eq!(range(1, 2).length(), 2);
        assert_eq!(range(0, u64::MAX).length(), u64::MAX);
        assert_eq!(range(1, 2).content_range(5), "bytes 1-2/5");
    }
}
