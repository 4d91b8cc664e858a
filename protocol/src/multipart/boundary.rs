//! The boundary: the word that separates the parts, read from a content type or given by the caller.
//!
//! A [`Boundary`] is always fit to be searched for and to be written: it has no line ends, so that a delimiter line can
//! begin at no other place than its CRLF. It is never made up here.

use super::MultipartError;

/// RFC 2046 §5.1.1: "no more than 70 characters".
const LENGTH_MAX: usize = 70;

/// A checked boundary: 1–70 printable ASCII characters, the last of them no space.
///
/// RFC 2046 allows fewer characters; clients are taken at their word as long as the boundary fits on a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(String);

impl Boundary {
    /// Checks a boundary, without its quotes and leading dashes.
    ///
    /// # Errors
    /// [`MultipartError::InvalidBoundary`].
    pub fn new(text: &str) -> Result<Boundary, MultipartError> {
        let length_fits = (1..=LENGTH_MAX).contains(&text.len());
        let printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if length_fits && printable && !text.ends_with(' ') {
            Ok(Boundary(text.to_owned()))
        } else {
            Err(MultipartError::InvalidBoundary)
        }
    }

    /// The boundary as it stands in the delimiter lines, after the two dashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The content type of a message with this boundary: `multipart/SUBTYPE; boundary="…"`, quoted as by CouchDB
    /// (protocol page §2.6). `subtype` is `related`, `mixed` or `byteranges`.
    pub fn content_type(&self, subtype: &str) -> String {
        let quoted = self.0.replace('\\', "\\\\").replace('"', "\\\"");
        format!("multipart/{subtype}; boundary=\"{quoted}\"")
    }
}

/// Reads the boundary from the value of a `Content-Type` header: `multipart/related; boundary="…"`, quoted or not, the
/// type and the parameter's name in any case, other parameters anywhere (protocol page §5.4). Of two boundaries the
/// first counts.
///
/// # Errors
/// [`MultipartError::NotMultipart`], [`MultipartError::MissingBoundary`] or [`MultipartError::InvalidBoundary`].
pub fn boundary_of(content_type: &str) -> Result<Boundary, MultipartError> {
    let (media_type, mut rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    let family = media_type.split('/').next().unwrap_or_default();
    if !family.trim().eq_ignore_ascii_case("multipart") {
        return Err(MultipartError::NotMultipart);
    }
    while !rest.is_empty() {
        let name_length = rest.find(['=', ';']).unwrap_or(rest.len());
        let (name, after_name) = rest.split_at(name_length);
        let (value, after_value) = match after_name.strip_prefix('=') {
            Some(text) => parameter_value(text.trim_start()),
            None => (String::new(), after_name),
        };
        if name.trim().eq_ignore_ascii_case("boundary") {
            return Boundary::new(&value);
        }
        rest = after_value.split_once(';').map_or("", |(_, following)| following);
    }
    Err(MultipartError::MissingBoundary)
}

/// A parameter's value without its quotes and escapes, and the text after it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find(';').unwrap_or(text.len()));
        return (value.trim_end().to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            plain => value.push(plain),
        }
    }
    (value, "")
}
