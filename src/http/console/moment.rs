//! Points in time as people read them, with the exact one beside it for machines; days as forms send them. All in UTC.

use minijinja::Value;
use settle_protocol::Error;

use crate::accounts::http_date::{header_date, iso_date};

const DAY: u64 = 86_400;

/// A point in time on a page, in seconds since 1970, as seen from now; 0 is never.
pub(super) fn moment(seconds: u64, now: u64) -> Value {
    if seconds == 0 {
        return Value::from("never");
    }
    let (iso, date) = (iso_date(seconds), header_date(seconds));
    let distance = distance(seconds, now);
    Value::from_safe_string(format!(
        "<span><time datetime=\"{iso}\">{} UTC</time> <span class=\"ago\">({distance})</span></span>",
        &date[5..22]
    ))
}

fn distance(then: u64, now: u64) -> String {
    let between = then.abs_diff(now);
    let (number, unit) = match between {
        0..60 => return "just now".to_owned(),
        60..3600 => (between / 60, "minute"),
        3600..DAY => (between / 3600, "hour"),
        _ => (between / DAY, "day"),
    };
    let plural = if number == 1 { "" } else { "s" };
    if then > now { format!("in {number} {unit}{plural}") } else { format!("{number} {unit}{plural} ago") }
}

/// Midnight of a day that a form calls `YYYY-MM-DD`, in seconds since 1970.
fn midnight(day: &str) -> Option<u64> {
    let mut parts = day.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day_of_month) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
        return None;
    }
    // Years begin in March here, so that the leap day comes last.
    let (from_march, years) = ((month + 9) % 12, if month <= 2 { year - 1 } else { year });
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (from_march * 306 + 5) / 10 + day_of_month - 1;
    let seconds = days.checked_sub(719_468)? * DAY;
    (iso_date(seconds)[..10] == *day).then_some(seconds)
}

/// Midnight before a day of a form or a query, or so many days later; `None` when it was left empty.
///
/// # Errors
/// `400` for what is no day.
pub(super) fn day_of(name: &str, day: Option<&str>, days: u64) -> Result<Option<u64>, Error> {
    let Some(day) = day else { return Ok(None) };
    let refused = || Error::bad_request(format!("`{name}` must be a day, as in 2026-11-21."));
    Ok(Some(midnight(day).ok_or_else(refused)? + days * DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_by_people_and_machines() {
        let moment = moment(1_795_296_949, 1_795_296_949 + 3 * DAY).to_string();
        let expected = "<span><time datetime=\"2026-11-21T21:35:49Z\">21 Nov 2026 21:35 UTC</time> <span class=\"ago\">(3 days ago)</span></span>";
        assert_eq!(moment, expected);
        assert_eq!(super::moment(0, 5).to_string(), "never");
        assert_eq!(
            [distance(100, 130), distance(100, 40), distance(7300, 100)],
            ["just now", "in 1 minute", "in 2 hours"]
        );
    }

    #[test]
    fn days_are_understood_or_refused() {
        for day in ["1970-01-01", "2024-02-29", "2026-11-21", "2100-03-01", "9999-12-31"] {
            assert_eq!(midnight(day).map(|at| iso_date(at)[..10].to_owned()).as_deref(), Some(day));
        }
        for bad in ["2023-02-29", "2026-13-01", "2026-1-1", "1969-12-31", "x", "2026-11-21-1", "", "2026-11-00"] {
            assert_eq!(midnight(bad), None, "{bad}");
        }
    }
}
