//! Gzip of JSON answers for clients that ask for it: a phone pays for every byte.
//!
//! Small answers, errors without a body, attachments and byte ranges go out as they are. A feed is flushed after every
//! piece, so that a row or a heartbeat never waits inside the encoder.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::StreamExt;
use hyper::HeaderMap;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, VARY};

use super::response::{Answer, AnswerBody, ByteStream};

/// Answers below this many bytes are not worth it.
const SMALL: usize = 1024;

/// Whether a client takes gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let Some(codings) = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()) else { return false };
    codings.split(',').any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(quality.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000")
    })
}

/// The same answer in gzip, if its kind and size make that worthwhile.
pub(crate) fn compress(mut answer: Answer) -> Answer {
    let is_json = answer.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !is_json || answer.headers.contains_key(CONTENT_ENCODING) {
        return answer;
    }
    answer.body = match answer.body {
        AnswerBody::Full(bytes) if bytes.len() < SMALL => {
            answer.body = AnswerBody::Full(bytes);
            return answer;
        }
        AnswerBody::Full(bytes) => match gzip(&bytes) {
            Ok(packed) => AnswerBody::Full(packed),
            Err(_) => {
                answer.body = AnswerBody::Full(bytes);
                return answer;
            }
        },
        AnswerBody::Stream(stream) => AnswerBody::Stream(gzip_stream(stream)),
    };
    answer.headers.remove(CONTENT_LENGTH);
    answer.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    answer
}

fn gzip(bytes: &[u8]) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.into())
}

fn gzip_stream(stream: ByteStream) -> ByteStream {
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = futures::stream::unfold(Some((stream, encoder)), |state| async move {
        let (mut stream, mut encoder) = state?;
        match stream.next().await {
            Some(Ok(bytes)) => match encoder.write_all(&bytes).and_then(|()| encoder.flush()) {
                Ok(()) => {
                    let packed = std::mem::take(encoder.get_mut());
                    Some((Ok(Bytes::from(packed)), Some((stream, encoder))))
                }
                Err(error) => Some((Err(error), None)),
            },
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((encoder.finish().map(Bytes::from), None)),
        }
    });
    Box::pin(packed)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn unpack(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).expect("gzip");
        out
    }

    #[test]
    fn who_takes_gzip() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(value));
            accepts_gzip(&headers)
        };
        assert!(with("gzip, deflate") && with("br, GZIP;q=0.5"));
        assert!(!with("deflate") && !with("gzip;q=0") && !accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn answers_come_back_the_same() {
        let text = "[\"abc\"]".repeat(1000);
        let answer = compress(Answer::json(200, text.clone()));
        assert!(!answer.headers.contains_key(CONTENT_LENGTH));
        let AnswerBody::Full(packed) = answer.body else { panic!("whole") };
        assert_eq!(unpack(&packed), format!("{text}\n").into_bytes());
        let small = compress(Answer::ok(200));
        assert!(!small.headers.contains_key(CONTENT_ENCODING));
    }

    #[test]
    fn a_stream_is_flushed_piece_by_piece() {
        let pieces = ["{\"results\":[\n", "\n", "]}\n"];
        let stream: ByteStream = Box::pin(futures::stream::iter(pieces.map(|piece| Ok(Bytes::from(piece)))));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        let packed: Vec<Bytes> = runtime.block_on(gzip_stream(stream).map(|piece| piece.expect("piece")).collect());
        let mut first = vec![0; pieces[0].len()];
        flate2::read::GzDecoder::new(&packed[0][..]).read_exact(&mut first).expect("flushed");
        assert_eq!(first, pieces[0].as_bytes(), "the first row can be read before the second comes");
        assert_eq!(unpack(&packed.concat()), pieces.concat().into_bytes());
    }
}
