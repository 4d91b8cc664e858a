//! What a read produces: bytes, and references to attachment bytes that are fetched while the answer is sent.
//!
//! So an answer with attachments never holds more than a chunk of them. The length is known beforehand.

use bytes::Bytes;

use super::attachments::CHUNK_BYTES;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// The bytes of an attachment.
    Attachment {
        /// Its BLAKE3.
        address: [u8; 32],
        /// Its length in bytes.
        length: u64,
        /// Sent as base64.
        base64: bool,
    },
}

impl Piece {
    /// Bytes on the wire.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Attachment { length, base64: false, .. } => *length,
            Self::Attachment { length, base64: true, .. } => length.div_ceil(3) * 4,
        }
    }
}

/// Collects pieces; JSON is written into `text`.
#[derive(Debug, Default)]
pub struct Output {
    /// The text being written.
    pub text: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Output {
    /// An empty output with room.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), pieces: Vec::new() }
    }

    /// Appends the bytes of an attachment.
    pub fn attachment(&mut self, address: [u8; 32], length: u64, base64: bool) {
        if length == 0 {
            return;
        }
        if !self.text.is_empty() {
            self.pieces.push(Piece::Bytes(std::mem::take(&mut self.text).into()));
        }
        self.pieces.push(Piece::Attachment { address, length, base64 });
    }

    /// Appends another output.
    pub fn append(&mut self, other: Self) {
        if other.pieces.is_empty() {
            self.text.extend_from_slice(&other.text);
            return;
        }
        if !self.text.is_empty() {
            self.pieces.push(Piece::Bytes(std::mem::take(&mut self.text).into()));
        }
        self.pieces.extend(other.pieces);
        self.text = other.text;
    }

    /// Bytes of attachments in it, as a bound for callers that page.
    #[must_use]
    pub fn attachment_bytes(&self) -> u64 {
        let of = |piece: &Piece| if matches!(piece, Piece::Bytes(_)) { 0 } else { piece.length() };
        self.pieces.iter().map(of).sum()
    }

    /// Bytes on the wire so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.pieces.iter().map(Piece::length).sum::<u64>() + self.text.len() as u64
    }

    /// The pieces in order.
    #[must_use]
    pub fn into_pieces(mut self) -> Vec<Piece> {
        if !self.text.is_empty() {
            self.pieces.push(Piece::Bytes(self.text.into()));
        }
        self.pieces
    }
}

/// How many chunks an attachment has.
#[must_use]
pub fn chunk_count(length: u64) -> u64 {
    length.div_ceil(CHUNK_BYTES as u64)
}
