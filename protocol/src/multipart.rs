//! MIME multipart as CouchDB and its clients use it: `related`, `mixed` and `byteranges`.
//!
//! [`Decoder`] takes a body apart as its bytes arrive, [`Encoder`] gives the bytes to be written around the parts, and
//! [`Boundary`] is the word between them. Bodies pass through: neither side ever holds one, and neither reads JSON,
//! matches parts to attachments, or invents a boundary. No stream type, no I/O, no randomness.

mod boundary;
mod decoder;
mod encoder;

use crate::error::{Error, ErrorKind};

pub use boundary::{Boundary, boundary_of};
pub use decoder::{Decoder, Event, HEADER_BYTES_MAX, HEADERS_MAX, PADDING_MAX, PartHeaders};
pub use encoder::{Encoder, PartHead};

/// Why a multipart request cannot be read. Each of them is the client's fault: 400 `bad_request`, the text as reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The content type is of another family.
    #[error("Content-Type is not multipart")]
    NotMultipart,
    /// The content type has no `boundary` parameter.
    #[error("multipart boundary is missing")]
    MissingBoundary,
    /// The boundary is empty, too long, ends with a space or has characters that cannot stand in a line.
    #[error("multipart boundary must be 1 to 70 printable ASCII characters")]
    InvalidBoundary,
    /// The headers of one part are larger than [`HEADER_BYTES_MAX`].
    #[error("multipart part headers are too large")]
    HeadersTooLarge,
    /// One part has more than [`HEADERS_MAX`] headers.
    #[error("multipart part has too many headers")]
    TooManyHeaders,
    /// A header line is not `Name: value` ended by CRLF.
    #[error("multipart part header is malformed")]
    MalformedHeader,
    /// The input ended before the closing boundary.
    #[error("multipart body ended before its closing boundary")]
    Truncated,
}

impl From<MultipartError> for Error {
    fn from(error: MultipartError) -> Error {
        Error::new(ErrorKind::BadRequest, error.to_string())
    }
}
