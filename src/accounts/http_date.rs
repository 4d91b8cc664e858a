//! Points in time as HTTP writes them, always GMT and English.
//!
//! Four spellings: the usual one for headers (`Date`, `Last-Modified`), the one with hyphens that CouchDB puts into the
//! `Expires` of its cookies, the one of HTML, and a plain one for people. Of these the one for headers is read, too. Never
//! reads a clock, knows no leap seconds.

const SECONDS_PER_DAY: u64 = 86_400;

/// 9999-12-31T23:59:59Z; later times are written as this one, because a year has four digits on the wire.
const LAST_SECOND: u64 = 253_402_300_799;

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Sat, 21 Nov 2026 21:35:49 GMT` from seconds since 1970 (RFC 9110 §5.6.7).
#[must_use]
pub fn header_date(unix_seconds: u64) -> String {
    write(unix_seconds, ' ')
}

/// `Sat, 21-Nov-2026 21:35:49 GMT` from seconds since 1970 (CouchDB 3.5, protocol page §6.1).
#[must_use]
pub fn cookie_date(unix_seconds: u64) -> String {
    write(unix_seconds, '-')
}

/// `2026-11-21 21:35 UTC` from seconds since 1970: for people, in no language.
#[must_use]
pub fn plain_date(unix_seconds: u64) -> String {
    let iso = iso_date(unix_seconds);
    format!("{} {} UTC", &iso[..10], &iso[11..16])
}

/// `2026-11-21T21:35:49Z` from seconds since 1970 (ISO 8601, as `<time datetime>` has it).
#[must_use]
pub fn iso_date(unix_seconds: u64) -> String {
    let (days, time) = day_and_time(unix_seconds);
    let (year, month, day) = civil_date(days);
    format!("{year:04}-{:02}-{day:02}T{time}Z", month + 1)
}

/// Seconds since 1970 from `Sat, 21 Nov 2026 21:35:49 GMT`, the one spelling that senders may use (RFC 9110 §5.6.7). The day of
/// the week is not looked at. `None`: it is no such time, or one before 1970.
#[must_use]
pub fn from_header_date(text: &str) -> Option<u64> {
    let (_, text) = text.trim().split_once(", ")?;
    let mut words = text.split(' ');
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let (time, zone) = (words.next()?, words.next()?);
    (zone == "GMT" && words.next().is_none()).then_some(())?;
    let number = |text: &str, digits: usize, most: u64| {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| plain && *number <= most)
    };
    let month = MONTHS.iter().position(|known| *known == month)?;
    let (year, day) = (number(year, 4, 9_999)?, number(day, 2, 31)?);
    let mut pieces = time.split(':');
    let (hours, minutes, seconds) = (pieces.next()?, pieces.next()?, pieces.next()?);
    pieces.next().is_none().then_some(())?;
    let time = number(hours, 2, 23)? * 3600 + number(minutes, 2, 59)? * 60 + number(seconds, 2, 60)?;
    let days = days_until(year, month, day)?;
    (civil_date(days) == (year, month, day)).then_some(days * SECONDS_PER_DAY + time)
}

/// Days from 1970-01-01 to a date, whose month counts from 0: the reverse of [`civil_date`] for dates that exist.
fn days_until(year: u64, month: usize, day: u64) -> Option<u64> {
    // January and February belong to the year before, which begins on 1 March.
    let (year, month) = if month < 2 { (year.checked_sub(1)?, month as u64 + 10) } else { (year, month as u64 - 2) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    days.checked_sub(719_469) // of 1970-01-01, counted so
}

fn write(unix_seconds: u64, separator: char) -> String {
    let (days, time) = day_and_time(unix_seconds);
    let weekday = WEEKDAYS[(days % 7) as usize];
    let (year, month, day) = civil_date(days);
    let month = MONTHS[month];
    format!("{weekday}, {day:02}{separator}{month}{separator}{year:04} {time} GMT")
}

/// Days since 1970, and the time of the day as `21:35:49`.
fn day_and_time(unix_seconds: u64) -> (u64, String) {
    let seconds = unix_seconds.min(LAST_SECOND);
    let (days, rest) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    (days, format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60))
}

/// Year, month (0–11) and day (1–31) of a day counted from 1970-01-01, in the Gregorian calendar. Counts in years that
/// begin on 1 March, so that the leap day is the last day of its year.
fn civil_date(days_since_1970: u64) -> (u64, usize, u64) {
    const DAYS_PER_ERA: u64 = 146_097; // 400 years
    const DAYS_FROM_MARCH_0000: u64 = 719_468; // 0000-03-01 to 1970-01-01
    let days = days_since_1970 + DAYS_FROM_MARCH_0000;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    (year, month as usize, day)
}

#[cfg(test)]
mod tests {
    use super::{cookie_date, from_header_date, header_date, iso_date, plain_date};

    #[test]
    fn known_moments_are_written_as_couchdb_writes_them() {
        assert_eq!(cookie_date(1_795_296_949), "Sat, 21-Nov-2026 21:35:49 GMT");
        assert_eq!(plain_date(1_795_296_949), "2026-11-21 21:35 UTC");
        assert_eq!(iso_date(1_795_296_949), "2026-11-21T21:35:49Z");
        assert_eq!(header_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(header_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn leap_days_and_ends_of_years_are_right() {
        assert_eq!(header_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(header_date(1_709_251_199), "Thu, 29 Feb 2024 23:59:59 GMT");
        assert_eq!(header_date(1_709_251_200), "Fri, 01 Mar 2024 00:00:00 GMT");
        assert_eq!(header_date(4_107_456_000), "Sun, 28 Feb 2100 00:00:00 GMT");
        assert_eq!(header_date(13_574_563_200), "Tue, 29 Feb 2400 00:00:00 GMT");
        assert_eq!(header_date(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(header_date(1_735_689_599), "Tue, 31 Dec 2024 23:59:59 GMT");
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        for seconds in (0..5_000_000_000).step_by(86_399 * 13).chain([784_111_777, 951_782_400, 253_402_300_799]) {
            assert_eq!(from_header_date(&header_date(seconds)), Some(seconds), "{}", header_date(seconds));
        }
        assert_eq!(from_header_date(" Sun, 06 Nov 1994 08:49:37 GMT "), Some(784_111_777));
        for text in [
            "",
            "60",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49:37 GMT+1",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 30 Feb 2025 00:00:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sat, 01 Jan 0000 00:00:00 GMT",
        ] {
            assert_eq!(from_header_date(text), None, "{text}");
        }
    }

    #[test]
    fn times_beyond_the_year_9999_stop_there() {
        assert_eq!(header_date(u64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
