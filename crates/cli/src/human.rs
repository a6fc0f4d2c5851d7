//! Sizes and times as people read them.

use std::time::Duration;

/// A size in powers of 1000 with at most `digits` digits.
pub fn size_with(bytes: f64, digits: usize) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"], digits)
}

/// A size in powers of 1024 with at most four digits: `1.5MiB`.
pub fn binary_size(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"], 4)
}

fn scaled(mut amount: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while amount >= base && unit + 1 < units.len() {
        amount /= base;
        unit += 1;
    }
    format!("{}{}", significant(amount, digits), units[unit])
}

/// Up to `digits` significant digits without trailing zeros, as C's `%.4g` prints them (no exponents needed here).
fn significant(amount: f64, digits: usize) -> String {
    if amount == 0.0 {
        return "0".to_owned();
    }
    let whole = if amount >= 1.0 { amount.log10().floor() as usize + 1 } else { 1 };
    let text = format!("{amount:.*}", digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A span of time in words: `Less than a second`, `3 seconds`, `About a minute`, `2 weeks`.
pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded, smaller units cut off: so `90 minutes` reads `2 hours`, as Docker's users know it.
    let hours = (span.as_secs_f64() / 3600.0).round() as u64;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// Seconds since 1970 as `2023-11-14 22:13:20 +0000 UTC`.
pub fn instant(unix: i64) -> String {
    let (year, month, day) = civil(unix.div_euclid(86_400));
    let second = unix.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} +0000 UTC", second / 3600, second / 60 % 60, second % 60)
}

/// Seconds since 1970 (and billionths) as RFC 3339 with nine decimals, in UTC.
pub fn rfc3339(unix: i64, nanos: u32) -> String {
    let (year, month, day) = civil(unix.div_euclid(86_400));
    let second = unix.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a count of days since 1970-01-01, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted in eras of 400 years that begin on a first of March, so the leap day is the last of its year.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Reads a date with an optional time, fraction and zone (`2024-01-02`, `2024-01-02T03:04:05.6Z`, `…+02:00`): seconds
/// since 1970 and billionths. Without a zone it is UTC.
pub fn parse_instant(text: &str) -> Option<(i64, u32)> {
    let number = |part: Option<&str>| -> Option<i64> {
        let part = part?;
        (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok()).flatten()
    };
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (number(parts.next())?, number(parts.next())?, number(parts.next())?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (clock, offset) = match time.find(['Z', '+', '-']) {
        None => (time, 0),
        Some(at) if &time[at..] == "Z" => (&time[..at], 0),
        Some(at) => {
            let mut zone = time[at + 1..].splitn(2, ':');
            let away = number(zone.next())? * 3600 + number(zone.next())? * 60;
            (&time[..at], if time[at..].starts_with('-') { -away } else { away })
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let nanos = if fraction.is_empty() {
        0
    } else {
        let nine: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
        number(Some(&nine))?
    };
    let mut seconds = 0;
    if !clock.is_empty() {
        let mut parts = clock.split(':');
        seconds = number(parts.next())? * 3600 + number(parts.next())? * 60;
        if let Some(part) = parts.next() {
            seconds += number(Some(part))?;
        }
    }
    let unix = days(year, month, day) * 86_400 + seconds - offset;
    Some((unix, u32::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, wanted) in [
            (0.0, "0B"),
            (123.0, "123B"),
            (999.0, "999B"),
            (1000.0, "1kB"),
            (1234.0, "1.234kB"),
            (4_500_000.0, "4.5MB"),
            (1_234_567_890.0, "1.235GB"),
        ] {
            assert_eq!(size_with(bytes, 4), wanted);
        }
        assert_eq!(size_with(12_345.0, 3), "12.3kB");
        assert_eq!(size_with(1_200.0, 3), "1.2kB");
        assert_eq!(binary_size(1_572_864.0), "1.5MiB");
        assert_eq!(binary_size(668.0), "668B");
    }

    #[test]
    fn spans() {
        for (seconds, wanted) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (3, "3 seconds"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3_600, "About an hour"),
            (5_400, "2 hours"),
            (86_400, "24 hours"),
            (3 * 86_400, "3 days"),
            (15 * 86_400, "2 weeks"),
            (70 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), wanted, "{seconds}");
        }
    }

    #[test]
    fn instants() {
        assert_eq!(instant(1_700_000_000), "2023-11-14 22:13:20 +0000 UTC");
        assert_eq!(rfc3339(1_700_000_000, 5), "2023-11-14T22:13:20.000000005Z");
        for (text, wanted) in [
            ("2023-11-14T22:13:20Z", Some((1_700_000_000, 0))),
            ("2023-11-15T00:13:20.5+02:00", Some((1_700_000_000, 500_000_000))),
            ("2024-02-29", Some((1_709_164_800, 0))),
            ("2024-01-01T00:00", Some((1_704_067_200, 0))),
            ("2024-13-01", None),
            ("yesterday", None),
        ] {
            assert_eq!(parse_instant(text), wanted, "{text}");
        }
    }
}
