//! Any text as a `since`, a revision, an id, a range, a query: the small values of request lines.
//!
//! Nothing may panic; what is accepted prints and reads back as the same value; what this server hands out resumes where
//! it says.

use settle_protocol::Revision;
use settle_protocol::changes::ChangesOptions;
use settle_protocol::checkpoint::{last_agreement, next_local_revision};
use settle_protocol::document_id::{check_database_name, check_document_id};
use settle_protocol::listing::ListingOptions;
use settle_protocol::query::Query;
use settle_protocol::range::{RANGES_MAX, RangeRequest, parse_range};
use settle_protocol::sequence::{MAX_POSITION, Since, StartingPoint, TokenPrefix};

/// Reads the bytes as each of them.
///
/// # Panics
/// When a value does not come back.
pub fn run(data: &[u8]) {
    tokens(data);
    let text = String::from_utf8_lossy(data);
    since(&text);
    if let Ok(revision) = Revision::parse(&text) {
        assert_eq!(Revision::parse(&revision.to_string()).as_ref(), Ok(&revision));
        let mut written = Vec::new();
        revision.write_to(&mut written);
        assert_eq!(written, revision.to_string().as_bytes());
    }
    drop((check_document_id(&text, 256), check_database_name(&text), next_local_revision(Some(&text))));
    ranges(&text, data.len() as u64);
    queries(&text);
}

fn since(text: &str) {
    let Ok(since) = Since::parse(text) else { return };
    assert_eq!(Since::parse(&format!("\"{}\"", text.trim_matches('"'))).as_ref(), Ok(&since), "quoted or not");
    if let Since::Token { tags, position, ref mark, at_end } = since {
        let mut halves = [[0; 4]; 2];
        halves[0].copy_from_slice(&tags[..4]);
        halves[1].copy_from_slice(&tags[4..]);
        let prefix = TokenPrefix::new(halves[0], halves[1]);
        let token = match mark {
            None => {
                assert_eq!(prefix.resolve(&since), StartingPoint::After(position));
                let mut token = Vec::new();
                prefix.write(position, at_end, &mut token);
                String::from_utf8(token).expect("text")
            }
            Some(mark) => {
                assert_eq!(prefix.resolve_scoped(&since), Some((position, Some(mark.clone()))));
                let mut token = Vec::new();
                prefix.write_scoped(position, mark, at_end, &mut token);
                String::from_utf8(token).expect("text")
            }
        };
        assert_eq!(Since::parse(&token), Ok(since), "the token it stands for");
    }
}

/// The first sixteen bytes as a history and a position.
fn tokens(data: &[u8]) {
    let mut bytes = [0; 16];
    for (byte, given) in bytes.iter_mut().zip(data) {
        *byte = *given;
    }
    let quarter = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    let (here, other) = (TokenPrefix::new(quarter(0), quarter(4)), TokenPrefix::new(quarter(4), quarter(0)));
    let position = bytes[8..].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) & MAX_POSITION;
    let token = here.token(position);
    let since = Since::parse(&token).expect("an own token");
    assert_eq!(here.resolve(&since), StartingPoint::After(position), "{token}");
    if quarter(0) != quarter(4) {
        assert_eq!(other.resolve(&since), StartingPoint::After(0), "another history rewinds");
    }
}

fn ranges(text: &str, length: u64) {
    let ranges = match parse_range(text, length) {
        RangeRequest::Whole | RangeRequest::Unsatisfiable => return,
        RangeRequest::One(range) => vec![range],
        RangeRequest::Many(ranges) => ranges,
    };
    assert!((1..=RANGES_MAX).contains(&ranges.len()));
    for range in ranges {
        assert!(range.first <= range.last && range.last < length, "{range:?} of {length}");
    }
}

/// `a=b&c=d` without percent signs; what is left after a line end is a JSON body.
fn queries(text: &str) {
    let (line, body) = text.split_once('\n').unwrap_or((text, ""));
    let pairs = line.split('&').filter_map(|pair| pair.split_once('='));
    let query = Query::new(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let body: Option<serde_json::Value> = serde_json::from_str(body).ok();
    drop(ChangesOptions::parse(&query, None, body.as_ref()));
    drop(ChangesOptions::parse(&query, Some(line), None));
    drop(query.revisions("open_revs"));
    if let Some(body) = &body {
        drop(last_agreement(body, body));
    }
    if let (Ok(options), Some(serde_json::Value::Object(members))) = (ListingOptions::from_query(&query), &body) {
        drop(options.with_body(members));
    }
}
