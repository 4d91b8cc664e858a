//! Any bytes as a multipart body: how they are cut into chunks never matters, and what is written can be read.
//!
//! The first byte cuts, the line after it is the content type, the rest is the body.

use bytes::Bytes;
use settle_protocol::multipart::{
    Boundary, Decoder, Encoder, Event, MultipartError, PartHead, PartHeaders, boundary_of,
};

/// Reads the bytes as a message, whole and in pieces, and as the body of a part.
///
/// # Panics
/// When the readings differ.
pub fn run(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (content_type, body) = (String::from_utf8_lossy(&rest[..end]), rest.get(end + 1..).unwrap_or_default());
    let boundary = match boundary_of(&content_type) {
        Ok(boundary) => boundary,
        Err(_) => Boundary::new("b").expect("a boundary"),
    };
    assert_eq!(boundary_of(&boundary.content_type("related")).as_ref(), Ok(&boundary), "a boundary is read as written");
    let whole = Reading::of(&boundary, [body]);
    assert!(whole.size() <= body.len(), "no byte comes from nowhere");
    assert_eq!(Reading::of(&boundary, body.chunks(usize::from(*cut % 9) + 1)), whole, "in equal pieces");
    let (front, back) = body.split_at(usize::from(*cut).min(body.len()));
    assert_eq!(Reading::of(&boundary, [front, back]), whole, "cut at {cut}");
    written(&boundary, &content_type, body, usize::from(*cut % 9) + 1);
}

/// A message with these bytes as a part, unless the boundary is in them.
fn written(boundary: &Boundary, content_type: &str, body: &[u8], chunk: usize) {
    let delimiter = format!("--{}", boundary.as_str());
    if body.windows(delimiter.len()).any(|window| window == delimiter.as_bytes()) {
        return;
    }
    let encoder = Encoder::new(boundary);
    let length = body.len() as u64;
    let attachment = PartHead::Attachment { name: content_type, content_type, length, gzip: false };
    let mut message = encoder.opening().as_bytes().to_vec();
    for (head, body) in [(PartHead::Document, b"{}".as_slice()), (attachment, body)] {
        message.extend_from_slice(head.text().as_bytes());
        message.extend_from_slice(body);
        message.extend_from_slice(encoder.part_tail().as_bytes());
    }
    message.extend_from_slice(encoder.closing().as_bytes());
    assert_eq!(encoder.message_length([(PartHead::Document, 2), (attachment, length)]), message.len() as u64);
    let reading = Reading::of(boundary, message.chunks(chunk));
    if content_type.len() > 4000 {
        return; // its header block may be too large
    }
    assert_eq!(reading.outcome, Ok(()), "a message that was written can be read");
    let bodies: Vec<&[u8]> = reading.parts.iter().map(|(_, body)| body.as_slice()).collect();
    assert_eq!(bodies, [b"{}", body]);
}

/// All that a decoder said.
#[derive(Debug, PartialEq)]
struct Reading {
    parts: Vec<(PartHeaders, Vec<u8>)>,
    outcome: Result<(), MultipartError>,
}

impl Reading {
    fn of<'a>(boundary: &Boundary, chunks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut decoder = Decoder::new(boundary);
        let mut parts = Vec::new();
        let (mut open, mut ended) = (false, false);
        for chunk in chunks {
            let mut input = Bytes::copy_from_slice(chunk);
            loop {
                let event = match decoder.read(&mut input) {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(decoder.finish(), Err(error), "an error is final");
                        return Self { parts, outcome: Err(error) };
                    }
                };
                assert!(!ended, "an event after the end");
                match event {
                    Event::PartStart(headers) if !open => {
                        open = true;
                        parts.push((headers, Vec::new()));
                    }
                    Event::PartData(data) if open && !data.is_empty() => {
                        parts.last_mut().expect("an open part").1.extend_from_slice(&data);
                    }
                    Event::PartEnd if open => open = false,
                    Event::End if !open => ended = true,
                    event => panic!("out of order: {event:?}"),
                }
            }
            assert!(input.is_empty(), "all input is consumed");
        }
        assert_eq!(decoder.finish().is_ok(), ended);
        Self { parts, outcome: decoder.finish() }
    }

    fn size(&self) -> usize {
        self.parts.iter().map(|(_, body)| body.len()).sum()
    }
}
