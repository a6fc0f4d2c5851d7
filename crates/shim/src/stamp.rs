use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch, now.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Appends a time in the form that Docker's log reader expects: RFC 3339 in UTC, nanoseconds without trailing zeros
/// (Go's `RFC3339Nano`).
pub fn push(out: &mut String, nanos: u64) {
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, date) = civil(day);
    // Writing to a String cannot fail.
    let _ =
        write!(out, "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    if fraction != 0 {
        let digits = format!(".{fraction:09}");
        out.push_str(digits.trim_end_matches('0'));
    }
    out.push('Z');
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar. Years are counted from March, so
/// that the leap day is the last of its year; an era is the 400 years after which the calendar repeats.
fn civil(day: u64) -> (u64, u64, u64) {
    const DAYS_OF_ERA: u64 = 146_097;
    // Days from 0000-03-01 to 1970-01-01.
    let day = day + 719_468;
    let (era, of_era) = (day / DAYS_OF_ERA, day % DAYS_OF_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    fn written(nanos: u64) -> String {
        let mut out = String::new();
        super::push(&mut out, nanos);
        out
    }

    #[test]
    fn times_read_as_go_writes_them() {
        assert_eq!(written(0), "1970-01-01T00:00:00Z");
        assert_eq!(written(951_782_400_000_000_000), "2000-02-29T00:00:00Z");
        assert_eq!(written(1_709_251_199_999_999_999), "2024-02-29T23:59:59.999999999Z");
        assert_eq!(written(1_735_689_600_120_000_000), "2025-01-01T00:00:00.12Z");
        assert_eq!(written(4_107_542_400_000_000_000), "2100-03-01T00:00:00Z");
    }
}
