//! Answers that are being sent when the right to read is withdrawn: they break off at the next slice (design §7.3).
//!
//! A feed ends itself between two rows, with its last token; here it is only cut inside a page that is still going out.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{iter, once};
use hyper::header::{CONTENT_LENGTH, HeaderValue};

use super::pipeline::Context;
use super::response::{Answer, AnswerBody};
use crate::access::need::Need;
use crate::accounts::guard::Guard;

/// Bytes that are sent between two looks at the credentials.
const SLICE_BYTES: usize = 64 << 10;

/// Lets an answer to a read break off when the credentials behind it are withdrawn.
pub(super) fn guarded(mut answer: Answer, context: &Context) -> Answer {
    let Some(pass) = context.caller.pass.clone() else { return answer };
    if !matches!(context.need, Need::Pull | Need::Feed | Need::Custody) {
        return answer;
    }
    let stream = match std::mem::replace(&mut answer.body, AnswerBody::Full(Bytes::new())) {
        AnswerBody::Full(bytes) if bytes.len() <= SLICE_BYTES => {
            answer.body = AnswerBody::Full(bytes);
            return answer;
        }
        AnswerBody::Full(bytes) => {
            answer.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len() as u64));
            once(async { Ok(bytes) }).boxed()
        }
        AnswerBody::Stream(stream) => stream,
    };
    let looks_first = context.need == Need::Pull;
    let (store, now) = (context.services.store.clone(), context.services.clock.now());
    let mut guard = None; // most feeds never need one
    let slices = stream.flat_map(|piece| match piece {
        Ok(bytes) => iter(slices(bytes).map(Ok)).left_stream(),
        Err(error) => iter([Err(error)]).right_stream(),
    });
    answer.body = AnswerBody::Stream(Box::pin(slices.map(move |slice| {
        let (number, bytes) = slice?;
        if number > 0 || looks_first {
            let guard = guard.get_or_insert_with(|| Guard::new(&store, pass.clone()));
            if !guard.holds(now).is_ok_and(|holds| holds) {
                return Err(std::io::Error::other("the right to read was withdrawn"));
            }
        }
        Ok(bytes)
    })));
    answer
}

/// Lets an answer that is still being sent end when the time is over in which its caller may read.
pub(super) fn ended_at(mut answer: Answer, left: Duration) -> Answer {
    if let AnswerBody::Stream(stream) = &mut answer.body {
        let stream = std::mem::replace(stream, Box::pin(futures::stream::empty()));
        answer.body = AnswerBody::Stream(Box::pin(stream.take_until(tokio::time::sleep(left))));
    }
    answer
}

/// Numbered slices of a piece.
fn slices(bytes: Bytes) -> impl Iterator<Item = (usize, Bytes)> {
    let length = bytes.len();
    (0..length).step_by(SLICE_BYTES).map(move |from| bytes.slice(from..length.min(from + SLICE_BYTES))).enumerate()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_the_whole() {
        let bytes = Bytes::from(vec![7; 2 * SLICE_BYTES + 3]);
        let lengths: Vec<(usize, usize)> = slices(bytes).map(|(number, slice)| (number, slice.len())).collect();
        assert_eq!(lengths, [(0, SLICE_BYTES), (1, SLICE_BYTES), (2, 3)]);
        assert_eq!(slices(Bytes::new()).count(), 0);
    }
}
