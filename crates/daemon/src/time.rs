//! Points in time as Docker writes and reads them. No calendar crate: UTC and the Gregorian calendar are thirty lines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;

/// What Go's zero time looks like: Docker's "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 in UTC, nanoseconds without trailing zeros (Go's `RFC3339Nano`).
pub fn rfc3339(at: SystemTime) -> String {
    let (date, nanos) = date_and_nanos(at);
    if nanos == 0 {
        return format!("{date}Z");
    }
    let digits = format!("{nanos:09}");
    format!("{date}.{}Z", digits.trim_end_matches('0'))
}

/// The same with nine digits of nanoseconds always, as `logs --timestamps` prints them.
pub fn rfc3339_fixed(at: SystemTime) -> String {
    let (date, nanos) = date_and_nanos(at);
    format!("{date}.{nanos:09}Z")
}

/// A time that may not have come: [`NEVER`] then.
pub fn rfc3339_or_never(at: Option<SystemTime>) -> String {
    at.map_or_else(|| NEVER.to_owned(), rfc3339)
}

/// Whole seconds since the Unix epoch.
pub fn unix(at: SystemTime) -> i64 {
    unix_nanos(at).div_euclid(1_000_000_000) as i64
}

/// Nanoseconds since the Unix epoch.
pub fn unix_nanos(at: SystemTime) -> i128 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

fn date_and_nanos(at: SystemTime) -> (String, i128) {
    let nanos = unix_nanos(at);
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000) as i64, nanos.rem_euclid(1_000_000_000));
    let (year, month, date) = civil(seconds.div_euclid(DAY));
    let second = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    (format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}"), fraction)
}

/// Year, month and day of a number of days since 1970-01-01. Years are counted from March, so that the leap day is the
/// last of its year; an era is the 400 years after which the calendar repeats.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, date)
}

/// The inverse of [`civil`].
fn day_of(year: i64, month: i64, date: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + date - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A `since` or `until` of the Engine API: Unix seconds with up to nine decimals, a date or time of RFC 3339 (UTC if it names
/// no zone), or a duration such as `10m` or `1h30m` before `now`. `None` if it is none of these.
pub fn parse_when(text: &str, now: SystemTime) -> Option<SystemTime> {
    parse_unix(text).or_else(|| parse_date(text)).or_else(|| now.checked_sub(parse_duration(text)?))
}

/// Reads a time of RFC 3339, as our own logs carry it.
pub fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    text.contains('T').then(|| parse_date(text)).flatten()
}

fn parse_unix(text: &str) -> Option<SystemTime> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (negative, digits) = seconds.strip_prefix('-').map_or((false, seconds), |rest| (true, rest));
    if digits.is_empty() || fraction.len() > 9 || !fraction.bytes().chain(digits.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let since = Duration::new(digits.parse().ok()?, format!("{fraction:0<9}").parse().ok()?);
    if negative { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) }
}

fn parse_date(text: &str) -> Option<SystemTime> {
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    let number = |text: &str, digits: usize| -> Option<i64> {
        (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
    };
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (clock, zone) = match time.find(['Z', '+', '-']) {
        Some(at) => time.split_at(at),
        None => (time, "Z"),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.split(':');
    let mut field = |most: i64| match parts.next() {
        None | Some("") => Some(0),
        Some(text) => number(text, 2).filter(|n| *n <= most),
    };
    let (hour, minute, second) = (field(23)?, field(59)?, field(60)?);
    let offset = match zone.split_at_checked(1)? {
        ("Z", "") => 0,
        (sign @ ("+" | "-"), zone) => {
            let (hours, minutes) = zone.split_once(':')?;
            let seconds = number(hours, 2)? * 3600 + number(minutes, 2)? * 60;
            if sign == "+" { seconds } else { -seconds }
        }
        _ => return None,
    };
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    let seconds = day_of(year, month, day) * DAY + hour * 3600 + minute * 60 + second - offset;
    let whole = match u64::try_from(seconds) {
        Ok(seconds) => UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?,
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs()))?,
    };
    whole.checked_add(Duration::from_nanos(nanos.into()))
}

/// A duration in Go's words: numbers with the units `ns us µs ms s m h`, added up. `None` if it is none.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        sum = sum.checked_add(Duration::try_from_secs_f64(amount * seconds).ok()?)?;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(sum)
}

/// A duration as Go prints it: `1m30s`, `500ms`, `1.5s`.
pub fn go_duration(length: Duration) -> String {
    let tidy = |number: u64, fraction: u32, digits: usize| {
        let fraction = format!("{fraction:0digits$}");
        match fraction.trim_end_matches('0') {
            "" => number.to_string(),
            fraction => format!("{number}.{fraction}"),
        }
    };
    let (seconds, nanos) = (length.as_secs(), length.subsec_nanos());
    let (hours, minutes, left) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (seconds, nanos) {
        (0, 0) => "0s".to_owned(),
        (0, ..1000) => format!("{nanos}ns"),
        (0, ..1_000_000) => format!("{}µs", tidy(u64::from(nanos / 1000), nanos % 1000, 3)),
        (0, _) => format!("{}ms", tidy(u64::from(nanos / 1_000_000), nanos % 1_000_000, 6)),
        _ if hours > 0 => format!("{hours}h{minutes}m{}s", tidy(left, nanos, 9)),
        _ if minutes > 0 => format!("{minutes}m{}s", tidy(left, nanos, 9)),
        _ => format!("{}s", tidy(left, nanos, 9)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(rfc3339(at(0, 0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(1_709_251_199, 120_000_000)), "2024-02-29T23:59:59.12Z");
        assert_eq!(rfc3339_fixed(at(1_735_689_600, 5)), "2025-01-01T00:00:00.000000005Z");
        assert_eq!(rfc3339_or_never(None), NEVER);
        assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(1)), "1969-12-31T23:59:59Z");
        assert_eq!(unix(UNIX_EPOCH - Duration::from_millis(1)), -1);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for day in (0..40_000).step_by(13) {
            let time = at(day * 86_400 + day % 86_400, (day * 7919) as u32);
            assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time), "day {day}");
            assert_eq!(parse_rfc3339(&rfc3339_fixed(time)), Some(time), "day {day}");
        }
    }

    #[test]
    fn since_and_until_come_in_many_forms() {
        let now = at(10_000, 0);
        let cases: &[(&str, Option<SystemTime>)] = &[
            ("1136073845", Some(at(1_136_073_845, 0))),
            ("1136073845.000000001", Some(at(1_136_073_845, 1))),
            ("5.5", Some(at(5, 500_000_000))),
            ("0", Some(UNIX_EPOCH)),
            ("-1", Some(UNIX_EPOCH - Duration::from_secs(1))),
            ("2006-01-02", Some(at(1_136_160_000, 0))),
            ("2006-01-02T15:04", Some(at(1_136_214_240, 0))),
            ("2006-01-02T15:04:05", Some(at(1_136_214_245, 0))),
            ("2006-01-02T15:04:05.25Z", Some(at(1_136_214_245, 250_000_000))),
            ("2006-01-02T15:04:05+01:00", Some(at(1_136_210_645, 0))),
            ("2006-01-02T15:04:05-07:00", Some(at(1_136_239_445, 0))),
            ("10s", Some(at(9_990, 0))),
            ("1h30m", Some(at(4_600, 0))),
            ("1.5m", Some(at(9_910, 0))),
            ("500ms", Some(at(9_999, 500_000_000))),
        ];
        for (text, want) in cases {
            assert_eq!(parse_when(text, now), *want, "{text}");
        }
        for bad in [
            "",
            "x",
            "10y",
            "1.2.3",
            "1e5",
            "2006-13-01",
            "2006-01-02T25:00",
            "2006-01-02T15:04:05+1",
            "m",
            "--1",
            "2006-01-02T15:04:05.",
            "2006-1-2",
        ] {
            assert_eq!(parse_when(bad, now), None, "{bad}");
        }
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (nanos, want) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (20_000_000, "20ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), want);
        }
    }

    #[test]
    fn durations_add_up() {
        assert_eq!(parse_duration("24h0m1s"), Some(Duration::from_secs(86_401)));
        for bad in ["", "5", "h", "1d", "-3s", ".s", "1..2s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
