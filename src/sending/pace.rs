//! When something that failed is tried again: after twice as long each time, up to an hour, and never at the same moment as others
//! that failed with it.

use crate::clock::random;
use crate::config::sending::Pace;

/// Longest pause in seconds, unless the other side asks for a longer one.
const LONGEST: u64 = 3_600;
/// Longest pause in seconds that the other side may ask for.
const LONGEST_ASKED: u64 = 24 * 3_600;

/// The time of the next try, in seconds since 1970. `tries`: how many failed, at least 1; `asked`: seconds for which the other side
/// wants to be left alone.
pub(super) fn next_try(pace: &Pace, tries: u32, asked: Option<u64>, now: u64) -> u64 {
    now + pause(pace, tries, asked, u64::from(u16::from_be_bytes(random())))
}

/// Seconds: half to one and a half of the plain pause. `dice`: 0 to 65,535.
fn pause(pace: &Pace, tries: u32, asked: Option<u64>, dice: u64) -> u64 {
    let doubled = 1_u64.checked_shl(tries.saturating_sub(1)).filter(|_| tries <= 32).unwrap_or(u64::from(u32::MAX));
    let plain = pace.retry_seconds.saturating_mul(doubled).min(LONGEST);
    let spread = (plain * (32_768 + dice)).div_ceil(65_536).max(1);
    spread.max(asked.unwrap_or(0).min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_an_hour_and_are_spread() {
        let pace = Pace { retry_seconds: 10, ..Pace::default() };
        let middle = |tries| pause(&pace, tries, None, 32_768);
        assert_eq!([1, 2, 3, 9, 10, 33, u32::MAX].map(middle), [10, 20, 40, 2_560, 3_600, 3_600, 3_600]);
        assert_eq!((pause(&pace, 2, None, 0), pause(&pace, 2, None, 65_535)), (10, 30));
    }

    #[test]
    fn the_other_side_may_ask_for_more_but_not_for_ever() {
        let pace = Pace { retry_seconds: 10, ..Pace::default() };
        assert_eq!(pause(&pace, 1, Some(120), 0), 120);
        assert_eq!(pause(&pace, 1, Some(1), 32_768), 10);
        assert_eq!(pause(&pace, 1, Some(u64::MAX), 0), 24 * 3_600);
    }
}
