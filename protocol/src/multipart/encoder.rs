//! The bytes around the parts, exactly as CouchDB writes them (protocol page §2.6, §5.4, §5.6).
//!
//! A message is `opening`, then for each part its head, its body and `part_tail`, then `closing`:
//! `--B` (CRLF headers CRLF CRLF body CRLF `--B`)… `--`. So it begins without a line end and ends without one. Bodies
//! are never seen here, only their lengths; a part may itself be a message with another boundary.

use super::Boundary;
use crate::range::ByteRange;

/// Closes every message; it follows the last part's tail.
const CLOSING: &str = "--";

/// Writes the frame of messages with one boundary.
#[derive(Debug, Clone)]
pub struct Encoder {
    part_tail: String,
}

impl Encoder {
    /// An encoder for this boundary. The caller chooses it so that it occurs in none of the bodies: at random.
    pub fn new(boundary: &Boundary) -> Encoder {
        Encoder { part_tail: format!("\r\n--{}", boundary.as_str()) }
    }

    /// The first bytes of a message: `--B`.
    pub fn opening(&self) -> &str {
        self.part_tail.trim_start()
    }

    /// What follows the body of each part: CRLF `--B`.
    pub fn part_tail(&self) -> &str {
        &self.part_tail
    }

    /// The last bytes of a message, after the tail of its last part: `--`.
    pub fn closing(&self) -> &'static str {
        CLOSING
    }

    /// The length in bytes of a whole message whose parts have these heads and body lengths. It is the `Content-Length`
    /// of a response, or the body length of a nested message.
    pub fn message_length<'a>(&self, parts: impl IntoIterator<Item = (PartHead<'a>, u64)>) -> u64 {
        let frame = byte_count(self.opening()) + byte_count(CLOSING);
        let lengths = parts.into_iter().map(|(head, body_length)| {
            body_length.saturating_add(byte_count(&head.text()) + byte_count(&self.part_tail))
        });
        lengths.fold(frame, u64::saturating_add)
    }
}

/// What stands before the body of a part: one form for each kind of part that CouchDB sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartHead<'a> {
    /// A document: `Content-Type: application/json`, without parameters; the replicator accepts no others (T3).
    Document,
    /// `{"missing":"REV"}` in an `open_revs` answer: `Content-Type: application/json; error="true"`.
    Missing,
    /// A document with its attachments in an `open_revs` answer, as a nested message with the boundary given.
    Related(&'a Boundary),
    /// An attachment in a `multipart/related` message.
    Attachment {
        /// Its name in `_attachments`. Readers go by order and not by name, so that a name that cannot stand in a
        /// header may be altered: quotes and backslashes are escaped, control characters become `%XX`.
        name: &'a str,
        /// Its type as stored; control characters become spaces.
        content_type: &'a str,
        /// Bytes of the body that follows: the encoded length if `gzip`.
        length: u64,
        /// The body is sent gzip-encoded.
        gzip: bool,
    },
    /// One range in a `multipart/byteranges` message.
    Range {
        /// The attachment's type as stored; control characters become spaces.
        content_type: &'a str,
        /// The bytes that follow.
        range: ByteRange,
        /// Length of the whole attachment in bytes.
        length: u64,
    },
}

impl PartHead<'_> {
    /// The head's bytes, from the line end after the boundary to the empty line before the body.
    pub fn text(&self) -> String {
        match self {
            PartHead::Document => "\r\nContent-Type: application/json\r\n\r\n".to_owned(),
            PartHead::Missing => "\r\nContent-Type: application/json; error=\"true\"\r\n\r\n".to_owned(),
            PartHead::Related(boundary) => format!("\r\nContent-Type: {}\r\n\r\n", boundary.content_type("related")),
            PartHead::Attachment { name, content_type, length, gzip } => format!(
                "\r\nContent-Disposition: attachment; filename=\"{}\"\r\n\
                 Content-Type: {}\r\nContent-Length: {length}{}\r\n\r\n",
                file_name(name),
                one_line(content_type),
                if *gzip { "\r\nContent-Encoding: gzip" } else { "" },
            ),
            PartHead::Range { content_type, range, length } => format!(
                "\r\nContent-Type: {}\r\nContent-Range: {}\r\n\r\n",
                one_line(content_type),
                range.content_range(*length),
            ),
        }
    }
}

/// An attachment's name within the quotes of `filename`.
fn file_name(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            control if control.is_ascii_control() => text.push_str(&format!("%{:02X}", u32::from(control))),
            plain => text.push(plain),
        }
    }
    text
}

/// Types come from clients as JSON strings; a line end in one must not begin a header of its own.
fn one_line(content_type: &str) -> String {
    content_type.replace(|character: char| character.is_ascii_control(), " ")
}

fn byte_count(text: &str) -> u64 {
    text.len() as u64
}
