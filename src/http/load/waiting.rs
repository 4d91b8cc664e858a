//! Thousands of connections that wait for the rest of an answer, followed by one thread.
//!
//! The client shares the processors with the server it measures, so it does as little as a client can: one system call for
//! each answer, no task and no buffer of its own. It sleeps until the first answer begins to come, and then looks once in
//! every [`LOOK`]: a thread that any answer wakes would be woken thousands of times, each time at the cost of the server.
//! So an answer is noted up to that much late, and never early.
//! Keeps every connection open until it is dropped: closing some would disturb those that still wait.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::{Connection, Framing, Head, LoadError};

/// How often answers are looked for once they begin to come.
pub const LOOK: Duration = Duration::from_millis(1);
/// Connections that one look finds at most.
const EVENTS: usize = 1024;
/// Bytes of one read.
const READ: usize = 16 << 10;

/// Connections whose answers have begun.
#[derive(Debug)]
pub struct Waiting {
    poll: Poll,
    connections: Vec<One>,
    answered: usize,
}

#[derive(Debug)]
struct One {
    stream: TcpStream,
    body: Follower,
    answered: Option<Instant>,
}

impl Waiting {
    /// None so far.
    pub fn new() -> Result<Self, LoadError> {
        Ok(Self { poll: Poll::new()?, connections: Vec::new(), answered: 0 })
    }

    /// Takes a connection over that has read the head of an answer.
    pub fn add(&mut self, connection: Connection, head: &Head) -> Result<(), LoadError> {
        let Connection { stream, input, start, end, .. } = connection;
        let mut stream = TcpStream::from_std(stream.into_std()?);
        let token = Token(self.connections.len());
        self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
        let mut body = Follower::new(&head.framing)?;
        let answered = body.see(&input[start..end])?.then(Instant::now);
        self.answered += usize::from(answered.is_some());
        self.connections.push(One { stream, body, answered });
        Ok(())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.connections.len()
    }

    /// How many have their whole answer, as of now.
    pub fn answered(&mut self) -> Result<usize, LoadError> {
        while self.look(Duration::ZERO)? == EVENTS {}
        Ok(self.answered)
    }

    /// Waits until all have their answers, at most this long. `false`: some have not.
    #[expect(clippy::disallowed_methods, reason = "a thread of its own, whose rhythm is the point")]
    pub fn follow(&mut self, patience: Duration) -> Result<bool, LoadError> {
        let began = Instant::now();
        while self.answered < self.connections.len() {
            let Some(left) = patience.checked_sub(began.elapsed()) else { return Ok(false) };
            if self.look(left)? < EVENTS {
                std::thread::sleep(LOOK);
            }
        }
        Ok(true)
    }

    /// When each had its whole answer, for those that have it and were told something in it.
    pub fn moments(&self) -> impl Iterator<Item = Instant> {
        self.connections.iter().filter(|one| one.body.spoke).filter_map(|one| one.answered)
    }

    /// Reads what has come, or comes within `patience`; says from how many connections.
    fn look(&mut self, patience: Duration) -> Result<usize, LoadError> {
        let mut events = Events::with_capacity(EVENTS);
        match self.poll.poll(&mut events, Some(patience)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            polled => polled?,
        }
        let (mut found, mut buffer) = (0, [0; READ]);
        for event in &events {
            found += 1;
            let Some(one) = self.connections.get_mut(event.token().0) else { continue };
            if one.answered.is_none() && one.read(&mut buffer)? {
                one.answered = Some(Instant::now());
                self.answered += 1;
            }
        }
        Ok(found)
    }
}

impl One {
    /// Reads what is there. `true`: the answer is complete.
    fn read(&mut self, buffer: &mut [u8]) -> Result<bool, LoadError> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(LoadError::Closed),
                Ok(length) if self.body.see(&buffer[..length])? => return Ok(true),
                Ok(length) if length < buffer.len() => return Ok(false), // more will be another event
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Follows a body to its end without keeping any of it.
#[derive(Debug)]
struct Follower {
    part: Part,
    /// Something other than white space came.
    spoke: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Bytes of a counted body that are left. Never 0.
    Counted(u64),
    /// The line before a chunk: its length so far, and whether that is all of the number.
    Size(Option<u64>, bool),
    /// Bytes of a chunk that are left. Never 0.
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// After the last chunk: bytes of the present line.
    Trailer(usize),
    Ended,
}

impl Follower {
    fn new(framing: &Framing) -> Result<Self, LoadError> {
        let part = match framing {
            Framing::Length(0) => Part::Ended,
            Framing::Length(length) => Part::Counted(*length),
            Framing::Chunked => Part::Size(None, false),
            Framing::UntilClose => return Err(LoadError::Malformed("an answer that waits must say where it ends")),
        };
        Ok(Self { part, spoke: false })
    }

    /// Follows the next bytes. `true`: the body is complete.
    fn see(&mut self, mut data: &[u8]) -> Result<bool, LoadError> {
        while let Some((first, rest)) = data.split_first() {
            if let Part::Counted(left) | Part::Chunk(left) = self.part {
                let (taken, rest) =
                    data.split_at(usize::try_from(left).map_or(data.len(), |left| left.min(data.len())));
                self.spoke |= !taken.trim_ascii().is_empty();
                data = rest;
                let left = left - taken.len() as u64;
                self.part = match self.part {
                    Part::Counted(_) if left == 0 => Part::Ended,
                    Part::Counted(_) => Part::Counted(left),
                    _ if left == 0 => Part::ChunkEnd,
                    _ => Part::Chunk(left),
                };
                continue;
            }
            data = rest;
            self.part = after(self.part, *first).ok_or(LoadError::Malformed("chunk"))?;
        }
        Ok(self.part == Part::Ended)
    }
}

/// The part after one more byte of a line.
fn after(part: Part, byte: u8) -> Option<Part> {
    Some(match (part, byte) {
        (Part::Ended | Part::Counted(_) | Part::Chunk(_) | Part::Size(None, _), b'\n') => return None,
        (Part::Size(Some(0), _), b'\n') => Part::Trailer(0),
        (Part::Size(Some(length), _), b'\n') => Part::Chunk(length),
        (Part::ChunkEnd, b'\n') => Part::Size(None, false),
        (Part::Trailer(0), b'\n') => Part::Ended,
        (Part::Trailer(_), b'\n') => Part::Trailer(0),
        (part, b'\r') => part,
        (Part::Size(length, false), _) => match (byte as char).to_digit(16) {
            Some(digit) => Part::Size(Some(length.unwrap_or(0).checked_mul(16)?.checked_add(u64::from(digit))?), false),
            None => Part::Size(length, true),
        },
        (Part::Size(length, true), _) => Part::Size(length, true),
        (Part::Trailer(length), _) => Part::Trailer(length + 1),
        (Part::ChunkEnd | Part::Ended | Part::Counted(_) | Part::Chunk(_), _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{Follower, Framing};

    /// Feeds a body in pieces of a size; whether it ended, and whether something was said. It must not end early.
    fn follow(framing: &Framing, body: &[u8], size: usize) -> Option<(bool, bool)> {
        let mut follower = Follower::new(framing).unwrap();
        let (mut ended, mut seen) = (false, 0);
        for piece in body.chunks(size) {
            assert!(!ended, "ended after {seen} bytes");
            ended = follower.see(piece).ok()?;
            seen += piece.len();
        }
        Some((ended, follower.spoke))
    }

    #[test]
    fn bodies_are_followed_to_their_end_however_they_are_cut() {
        let chunked: [(&[u8], (bool, bool)); 6] = [
            (b"c\r\n{\"results\":[\r\n1\r\n\n\r\n0\r\n\r\n", (true, true)),
            (b"1;x=0\r\n\n\r\n0\r\nA: b\r\n\r\n", (true, false)),
            (b"5\r\n0\r\n\r\n\r\n", (false, true)),
            (b"1\r\n\n\r\n0\r\n", (false, false)),
            (b"00a\r\n0123456789\r\n000\r\n\r\n", (true, true)),
            (b"1\r\n", (false, false)),
        ];
        for size in 1..40 {
            for (body, outcome) in chunked {
                assert_eq!(follow(&Framing::Chunked, body, size), Some(outcome), "{body:?} in pieces of {size}");
            }
            assert_eq!(follow(&Framing::Length(3), b"\n{}", size), Some((true, true)));
            assert_eq!(follow(&Framing::Length(4), b"\n \n", size), Some((false, false)));
            for broken in [&b"\r\n"[..], b"x\r\n", b"1\r\nab\r\n", b"fffffffffffffffff\r\n", b"0\r\n\r\n0"] {
                assert_eq!(follow_broken(broken, size), None, "{broken:?} in pieces of {size}");
            }
        }
        assert!(Follower::new(&Framing::UntilClose).is_err());
    }

    fn follow_broken(body: &[u8], size: usize) -> Option<()> {
        let mut follower = Follower::new(&Framing::Chunked).unwrap();
        body.chunks(size).try_for_each(|piece| follower.see(piece).map(drop)).ok()
    }
}
