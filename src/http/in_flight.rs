//! Answers that are being sent when the right to read is withdrawn: they break off at the next slice (design §7.3).
//!
//! A feed ends itself between two rows, with its last token; here it is only cut inside a page that is still going out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{iter, once};
use hyper::header::{CONTENT_LENGTH, HeaderValue};

use super::pipeline::Context;
use super::response::{Answer, AnswerBody};
use crate::access::need::Need;
use crate::accounts::glass;
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

/// Lets an answer that is still being sent end when the time is over in which its operator may read a database: at its end, or when
/// somebody ends it before.
pub(super) fn ended_with_glass(mut answer: Answer, context: &Context, until: u64) -> Answer {
    let (AnswerBody::Stream(stream), Some(database)) = (&mut answer.body, &context.database) else { return answer };
    let stream = std::mem::replace(stream, Box::pin(futures::stream::empty()));
    let (services, database, operator) =
        (Arc::clone(&context.services), database.name.clone(), context.by().to_owned());
    let mut ends = services.store.announcements().follow(glass::TOPIC, 0);
    ends.mark_changed(); // something may have happened since the request began
    let over = async move {
        let left = until.saturating_sub(services.clock.now());
        let mut end = std::pin::pin!(tokio::time::sleep(Duration::from_secs(left)));
        loop {
            tokio::select! {
                () = &mut end => return,
                Ok(()) = ends.changed() => {
                    let now = services.clock.now();
                    let broken = glass::broken(&services.store.snapshot(), &operator, &database, now);
                    if !broken.is_ok_and(|broken| broken.is_some()) {
                        return;
                    }
                }
            }
        }
    };
    answer.body = AnswerBody::Stream(Box::pin(stream.take_until(Box::pin(over))));
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
