//! Bytes as operations on a revision tree and on its model; the two must never differ.
//!
//! Histories may contradict each other, generations may be the largest there are, hashes may tie in their bytes.

use settle_protocol::Revision;
use settle_protocol::revision::Hash;

use crate::model::{Operation, Twins};

/// Operations in one input: each is followed by a comparison of everything.
const OPERATIONS_MAX: usize = 40;

/// Does what the bytes say.
///
/// # Panics
/// When tree and model differ.
pub fn run(data: &[u8]) {
    let mut twins = Twins::default();
    let mut bytes = data.iter().copied();
    for _ in 0..OPERATIONS_MAX {
        let Some(operation) = next_operation(&mut bytes) else { return };
        twins.apply(&operation);
    }
}

/// Reads one operation; what is missing at the end counts as zeros.
fn next_operation(bytes: &mut impl Iterator<Item = u8>) -> Option<Operation> {
    let kind = bytes.next()?;
    let deleted = kind & 0x80 != 0;
    let mut next = || bytes.next().unwrap_or(0);
    Some(match kind % 8 {
        0..=2 => {
            let start = generation(next());
            let length = u64::from(next() % 8 + 1).min(start.max(1));
            Operation::Merge((0..length).map(|step| revision(start - step, next())).collect(), deleted)
        }
        3 | 4 => Operation::Extend(next(), revision(0, next()), deleted),
        5 => match next() {
            0..=63 => Operation::Compact,
            limit => Operation::Stem(usize::from(limit % 8)),
        },
        6 => Operation::Purge((0..next() % 4).map(|_| revision(generation(next()), next())).collect()),
        _ => Operation::Diff((0..next() % 6).map(|_| revision(generation(next()), next())).collect()),
    })
}

/// Mostly small, now and then at the end of all numbers.
fn generation(byte: u8) -> u64 {
    match byte {
        0xf0.. => u64::MAX - u64::from(byte & 3),
        _ => u64::from(byte % 12),
    }
}

/// Four hashes; two of them are the same sixteen bytes, once as digits and once as text.
fn revision(generation: u64, byte: u8) -> Revision {
    let hash = match byte % 4 {
        0 => Hash::Text("a".into()),
        1 => Hash::Text("aaaaaaaaaaaaaaaa".into()),
        2 => Hash::Raw([b'a'; 16]),
        _ => Hash::Raw([byte; 16]),
    };
    Revision { generation, hash }
}
