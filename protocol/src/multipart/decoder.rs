//! Takes a multipart body apart while it arrives.
//!
//! Give [`Decoder::read`] one chunk after the other; what it returns is the same for every way of cutting the input.
//! Part bodies come out as slices of the chunks. All that is ever kept between two chunks is the headers of one part
//! (limited) and the beginning of what may be a delimiter line. Nothing is copied, counted or limited in the bodies:
//! their size is the caller's concern, and so is what the parts mean.

use bytes::{Buf, Bytes};

use super::{Boundary, MultipartError};

/// The most bytes of one part's header block, line ends included.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The most headers of one part.
pub const HEADERS_MAX: usize = 64;

/// The most spaces and tabs between a boundary and its line end (RFC 2046 "transport padding"); a line with more is
/// data.
pub const PADDING_MAX: usize = 64;

const CRLF: &[u8] = b"\r\n";

/// What [`Decoder::read`] found. For each part a start, any number of data events and an end; then `End`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part begins; its headers are complete.
    PartStart(PartHeaders),
    /// The next bytes of the part's body, never empty.
    PartData(Bytes),
    /// The part is complete.
    PartEnd,
    /// The closing boundary was read; whatever follows is ignored.
    End,
}

/// The headers of one part, in their order; none is required (nano sends parts without `Content-Disposition`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartHeaders {
    fields: Vec<(String, String)>,
}

impl PartHeaders {
    /// The value of the first header of this name, in whatever case either is written. Bytes that were no UTF-8 are
    /// replaced by U+FFFD.
    pub fn get(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    /// All names, as they were written, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// An incremental reader of one multipart body.
///
/// A delimiter line is CRLF (which may be left out at the beginning of the input and of a part's body), two dashes, the
/// boundary, and then either two dashes, which close the message, or padding and CRLF (RFC 2046 §5.1.1). Anything else
/// that begins like one is data. Header lines end with CRLF and may be folded. Text before the first delimiter and
/// after the closing one is ignored.
#[derive(Debug)]
pub struct Decoder {
    /// CRLF, two dashes, boundary.
    delimiter: Vec<u8>,
    state: State,
    /// The start of a possible delimiter line, from earlier chunks. Shorter than the longest delimiter line.
    held: Vec<u8>,
    /// How many bytes at the front of `held` are only assumed: a CRLF where none has to be sent.
    assumed: usize,
    headers: HeaderBlock,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Preamble,
    Headers,
    Body,
    /// The closing boundary was read, `End` is still to be reported.
    Closing,
    Epilogue,
    Failed(MultipartError),
}

impl Decoder {
    /// A decoder at the beginning of a body.
    pub fn new(boundary: &Boundary) -> Decoder {
        Decoder {
            delimiter: [CRLF, b"--", boundary.as_str().as_bytes()].concat(),
            state: State::Preamble,
            held: CRLF.to_vec(),
            assumed: CRLF.len(),
            headers: HeaderBlock::default(),
        }
    }

    /// The next event in `input`, whose front is consumed; `None` when more input is needed, and then `input` is empty.
    ///
    /// Call it with the same chunk until it returns `None`. Time is linear in the input.
    ///
    /// # Errors
    /// A malformed or too large header block; every later call returns the same error.
    pub fn read(&mut self, input: &mut Bytes) -> Result<Option<Event>, MultipartError> {
        let result = self.advance(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    /// To be asked when the input is over and `read` has returned `None`.
    ///
    /// # Errors
    /// [`MultipartError::Truncated`] if the closing boundary has not come, or the error of an earlier `read`.
    pub fn finish(&self) -> Result<(), MultipartError> {
        match self.state {
            State::Closing | State::Epilogue => Ok(()),
            State::Failed(error) => Err(error),
            State::Preamble | State::Headers | State::Body => Err(MultipartError::Truncated),
        }
    }

    fn advance(&mut self, input: &mut Bytes) -> Result<Option<Event>, MultipartError> {
        loop {
            match self.state {
                State::Failed(error) => return Err(error),
                State::Closing => {
                    self.state = State::Epilogue;
                    return Ok(Some(Event::End));
                }
                State::Epilogue => {
                    input.clear();
                    return Ok(None);
                }
                _ if input.is_empty() => return Ok(None),
                State::Headers => {
                    if let Some(headers) = self.headers.read(input)? {
                        self.begin_body();
                        return Ok(Some(Event::PartStart(headers)));
                    }
                }
                State::Preamble | State::Body => {
                    if let Some(event) = self.read_text(input) {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    /// Consumes some text, or the delimiter line at its front, or holds the beginning of one.
    fn read_text(&mut self, input: &mut Bytes) -> Option<Event> {
        if !self.held.is_empty() {
            return self.read_held(input);
        }
        let text_length = self.text_length(input);
        if text_length > 0 {
            return self.text(input.split_to(text_length));
        }
        match classify(&self.delimiter, input) {
            Line::Delimiter { length, closes } => {
                input.advance(length);
                self.end_text(closes)
            }
            // It is not text: that would have had a length.
            Line::Undecided | Line::Text => {
                self.held.extend_from_slice(input);
                input.clear();
                None
            }
        }
    }

    /// Continues a possible delimiter line of earlier chunks. If it turns out to be none, all of it is text: no other
    /// delimiter can begin within it, since CRLF occurs only at its start.
    fn read_held(&mut self, input: &mut Bytes) -> Option<Event> {
        let held_before = self.held.len();
        let line_length_max = self.delimiter.len() + PADDING_MAX + CRLF.len();
        let taken = input.len().min(line_length_max.saturating_sub(held_before));
        self.held.extend_from_slice(&input[..taken]);
        match classify(&self.delimiter, &self.held) {
            Line::Undecided => {
                input.advance(taken);
                None
            }
            Line::Delimiter { length, closes } => {
                input.advance(length - held_before);
                self.end_text(closes)
            }
            Line::Text => {
                let text = Bytes::copy_from_slice(&self.held[self.assumed..held_before]);
                self.forget_held();
                self.text(text)
            }
        }
    }

    /// How many bytes at the front of `input` are certainly text.
    fn text_length(&self, input: &[u8]) -> usize {
        memchr::memchr_iter(b'\r', input)
            .find(|&at| !matches!(classify(&self.delimiter, &input[at..]), Line::Text))
            .unwrap_or(input.len())
    }

    /// Text of a part is reported, text of the preamble is not.
    fn text(&self, text: Bytes) -> Option<Event> {
        let reported = matches!(self.state, State::Body) && !text.is_empty();
        reported.then_some(Event::PartData(text))
    }

    /// A delimiter line has been consumed.
    fn end_text(&mut self, closes: bool) -> Option<Event> {
        self.forget_held();
        let ended_part = matches!(self.state, State::Body);
        self.state = if closes { State::Closing } else { State::Headers };
        ended_part.then_some(Event::PartEnd)
    }

    /// A body may begin with its delimiter: the CRLF of the empty header line then serves twice.
    fn begin_body(&mut self) {
        self.state = State::Body;
        self.held.extend_from_slice(CRLF);
        self.assumed = CRLF.len();
    }

    fn forget_held(&mut self) {
        self.held.clear();
        self.assumed = 0;
    }
}

/// What a text that begins with CR is.
enum Line {
    /// Not a delimiter line.
    Text,
    /// It could become one with more input.
    Undecided,
    /// A delimiter line of `length` bytes.
    Delimiter { length: usize, closes: bool },
}

fn classify(delimiter: &[u8], text: &[u8]) -> Line {
    let Some(after) = text.strip_prefix(delimiter) else {
        return undecided_if(delimiter.starts_with(text));
    };
    if after.starts_with(b"--") {
        return Line::Delimiter { length: delimiter.len() + 2, closes: true };
    }
    let padding = after.iter().take(PADDING_MAX).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let ending = &after[padding..];
    if ending.starts_with(CRLF) {
        let length = delimiter.len() + padding + CRLF.len();
        return Line::Delimiter { length, closes: false };
    }
    undecided_if(CRLF.starts_with(ending) || after == b"-")
}

fn undecided_if(possible: bool) -> Line {
    if possible { Line::Undecided } else { Line::Text }
}

/// The header block of one part, line by line.
#[derive(Debug, Default)]
struct HeaderBlock {
    /// Bytes of the block so far.
    size: usize,
    /// The line that has not ended yet.
    line: Vec<u8>,
    headers: PartHeaders,
}

impl HeaderBlock {
    /// The headers, once the empty line was read; the block is then ready for the next part.
    fn read(&mut self, input: &mut Bytes) -> Result<Option<PartHeaders>, MultipartError> {
        while !input.is_empty() {
            let line_end = memchr::memchr(b'\n', input);
            let piece = input.split_to(line_end.map_or(input.len(), |at| at + 1));
            self.size += piece.len();
            if self.size > HEADER_BYTES_MAX {
                return Err(MultipartError::HeadersTooLarge);
            }
            self.line.extend_from_slice(&piece);
            if line_end.is_some() && self.end_line()? {
                let block = std::mem::take(self);
                return Ok(Some(block.headers));
            }
        }
        Ok(None)
    }

    /// Understands the line that has ended; true if it was the empty one.
    fn end_line(&mut self) -> Result<bool, MultipartError> {
        let ended_line = std::mem::take(&mut self.line);
        let line = ended_line.strip_suffix(CRLF).ok_or(MultipartError::MalformedHeader)?;
        if line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(MultipartError::MalformedHeader);
        }
        match line {
            [] => return Ok(true),
            [b' ' | b'\t', ..] => self.fold(line)?,
            _ => self.add(line)?,
        }
        Ok(false)
    }

    fn add(&mut self, line: &[u8]) -> Result<(), MultipartError> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(MultipartError::MalformedHeader)?;
        let name = line[..colon].trim_ascii_end();
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            return Err(MultipartError::MalformedHeader);
        }
        if self.headers.fields.len() == HEADERS_MAX {
            return Err(MultipartError::TooManyHeaders);
        }
        self.headers.fields.push((header_text(name), header_text(&line[colon + 1..])));
        Ok(())
    }

    /// A line that begins with white space continues the value of the header before it.
    fn fold(&mut self, line: &[u8]) -> Result<(), MultipartError> {
        let (_, value) = self.headers.fields.last_mut().ok_or(MultipartError::MalformedHeader)?;
        value.push(' ');
        value.push_str(&header_text(line));
        Ok(())
    }
}

fn header_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.trim_ascii()).into_owned()
}
