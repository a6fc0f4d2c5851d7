//! How values are written on the command line: booleans, numbers, sizes, durations, key=value pairs.
//!
//! The rules and the texts of refusals are those that Docker's users know; scripts match on some of them.

use std::time::Duration;

/// Quotes a text as error messages show it: in double quotes, with `\`, `"` and control characters escaped.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `true`, `false` and their short forms.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quoted(text))),
    }
}

/// A signed whole number.
pub fn int(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| number_refusal("ParseInt", text))
}

/// A whole number from 0 to 65535.
pub fn uint16(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| number_refusal("ParseUint", text))
}

/// A whole number that is not negative.
pub fn uint64(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| number_refusal("ParseUint", text))
}

fn number_refusal(parser: &str, text: &str) -> String {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let why = if !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !(parser == "ParseUint" && text.starts_with('-'))
    {
        "value out of range"
    } else {
        "invalid syntax"
    };
    format!("strconv.{parser}: parsing {}: {why}", quoted(text))
}

/// A size in bytes with an optional suffix: `b`, `k`, `m`, `g`, `t`, `p`, each also as `kb` or `kib`; powers of 1024.
pub fn bytes(text: &str) -> Result<i64, String> {
    let split = text
        .rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')
        .ok_or_else(|| format!("invalid size: '{text}'"))?;
    let number = &text[..=split];
    let number = number.strip_suffix(' ').unwrap_or(number);
    let suffix = text[split + 1..].to_ascii_lowercase();
    let size: f64 = number.parse().map_err(|_| format!("invalid size: '{text}'"))?;
    if size < 0.0 || !size.is_finite() {
        return Err(format!("invalid size: '{text}'"));
    }
    let power = match suffix.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(format!("invalid suffix: '{suffix}'")),
    };
    Ok((size * 1024f64.powi(power)) as i64)
}

/// The total of memory and swap: a size, or `-1` for no limit.
pub fn memory_swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// A number of CPUs as billionths: `1.5` is 1 500 000 000.
pub fn cpus(text: &str) -> Result<i64, String> {
    let refused = || format!("failed to parse {text} as a rational number");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(refused());
    }
    if fraction.len() > 9 && fraction[9..].bytes().any(|b| b != b'0') {
        return Err("value is too precise".to_owned());
    }
    let nanos = format!("{whole}{:0<9}", &fraction[..fraction.len().min(9)]);
    nanos.parse().map_err(|_| refused())
}

/// A duration such as `1m30s`, `500ms`, `1.5h`; the unit is part of the value.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let amount: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        if rest.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted(text)));
        }
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            unit => {
                return Err(format!("time: unknown unit {} in duration {}", quoted(unit), quoted(text)));
            }
        };
        total += amount * seconds;
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| invalid())
}

/// Splits `key=value`; a text without `=` is a key with an empty value.
pub fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (key.to_owned(), value.to_owned())
}

/// A filter of a listing: `name=value`; both parts are trimmed, the name is taken in lower case.
pub fn filter(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("bad format of filter (expected name=value)")?;
    Ok((name.trim().to_lowercase(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", Ok(0)),
            ("512", Ok(512)),
            ("10m", Ok(10 << 20)),
            ("1.5k", Ok(1536)),
            ("1G", Ok(1 << 30)),
            ("2gb", Ok(2 << 30)),
            ("3KiB", Ok(3072)),
            ("64b", Ok(64)),
            ("foo", Err("invalid size: 'foo'")),
            ("", Err("invalid size: ''")),
            ("-1", Err("invalid size: '-1'")),
            ("1x", Err("invalid suffix: 'x'")),
        ] {
            assert_eq!(bytes(text), size.map_err(str::to_owned), "{text:?}");
        }
        assert_eq!(memory_swap("-1"), Ok(-1));
    }

    #[test]
    fn durations() {
        for (text, wanted) in [
            ("0", Ok(0)),
            ("2s", Ok(2000)),
            ("1m30s", Ok(90_000)),
            ("1.5h", Ok(5_400_000)),
            ("250ms", Ok(250)),
            ("1", Err("time: missing unit in duration \"1\"")),
            ("", Err("time: invalid duration \"\"")),
            ("x", Err("time: invalid duration \"x\"")),
            ("3d", Err("time: unknown unit \"d\" in duration \"3d\"")),
        ] {
            assert_eq!(duration(text).map(|d| d.as_millis()), wanted.map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn cpus_are_billionths() {
        for (text, wanted) in [
            ("1.5", Ok(1_500_000_000)),
            ("2", Ok(2_000_000_000)),
            (".25", Ok(250_000_000)),
            ("0.000000001", Ok(1)),
            ("0.0000000001", Err("value is too precise")),
            ("foo", Err("failed to parse foo as a rational number")),
            ("", Err("failed to parse  as a rational number")),
        ] {
            assert_eq!(cpus(text), wanted.map_err(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn numbers_and_booleans() {
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("0"), Ok(false));
        assert_eq!(boolean("maybe"), Err("strconv.ParseBool: parsing \"maybe\": invalid syntax".to_owned()));
        assert_eq!(int("-5"), Ok(-5));
        assert_eq!(int("x"), Err("strconv.ParseInt: parsing \"x\": invalid syntax".to_owned()));
        assert_eq!(uint16("70000"), Err("strconv.ParseUint: parsing \"70000\": value out of range".to_owned()));
        assert_eq!(filter("Name= web "), Ok(("name".to_owned(), "web".to_owned())));
        assert!(filter("name").is_err());
    }
}
