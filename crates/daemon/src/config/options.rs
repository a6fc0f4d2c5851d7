//! Options that the engine's settings and a container's wish have in common, checked in one place.

use crate::container::spec::LogSpec;
use crate::error::{Error, Result};
use crate::oci::rights::RLIMITS;
use std::collections::BTreeMap;

/// A size as Docker's users type it: `64m`, `1.5GiB`, `1000`; units are powers of `base` (1024 for memory, 1000 for logs).
/// `None` if it is none.
pub fn bytes_of(text: &str, base: f64) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let amount: f64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start().to_ascii_lowercase();
    let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = amount * base.powi(power);
    (bytes < 9.2e18).then_some(bytes as u64)
}

/// One `--ulimit`; -1 is no limit.
///
/// # Errors
/// An unknown name, a soft limit over the hard one, in Docker's words.
pub fn ulimit(name: &str, soft: i64, hard: i64) -> Result<(u64, u64)> {
    if !RLIMITS.iter().any(|(known, _)| *known == name) {
        return Err(Error::Invalid(format!("invalid ulimit type: {name}")));
    }
    let limit = |value: i64| u64::try_from(value).ok().or_else(|| (value == -1).then_some(u64::MAX));
    let (Some(low), Some(high)) = (limit(soft), limit(hard)) else {
        return Err(Error::Invalid(format!("ulimit {name}={soft}:{hard}: a limit is 0 or more, or -1 for none")));
    };
    if low > high {
        return Err(Error::Invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok((low, high))
}

/// A log driver with its options.
///
/// # Errors
/// A driver or an option that there is not, a value that is wrong.
pub fn log_spec(driver: &str, options: &BTreeMap<String, String>) -> Result<LogSpec> {
    if driver == "none" {
        return Ok(LogSpec::Nowhere);
    }
    if driver != "json-file" {
        return Err(Error::Invalid(format!(
            "logger: no log driver named '{driver}' is registered; berth has json-file and none"
        )));
    }
    let (mut max_size, mut max_files) = (None, 1);
    for (key, value) in options {
        let invalid = |why: &str| Error::Invalid(format!("invalid value {value:?} for log opt '{key}': {why}"));
        let absent = |what: &str| Err(Error::Absent(format!("log opt '{key}={value}': {what} is not there yet")));
        match key.as_str() {
            "max-size" if value == "-1" => max_size = None,
            "max-size" => {
                let bytes = bytes_of(value, 1000.0).ok_or_else(|| invalid("it is a size such as 10m"))?;
                max_size = Some(bytes).filter(|bytes| *bytes > 0);
                max_size.ok_or_else(|| invalid("max-size must be a positive number"))?;
            }
            "max-file" => {
                max_files = value.parse().map_err(|_| invalid("it is a number of files"))?;
                if max_files < 1 {
                    return Err(Error::Invalid("max-file cannot be less than 1".into()));
                }
            }
            "compress" if value == "false" => {}
            "compress" => return absent("compressing rotated logs"),
            "mode" if value == "blocking" => {}
            "mode" => return absent("dropping output instead of waiting for the log"),
            "labels" | "labels-regex" | "env" | "env-regex" | "tag" => {
                return absent("more than time and stream in a log");
            }
            _ => return Err(Error::Invalid(format!("unknown log opt '{key}' for json-file log driver"))),
        }
    }
    Ok(LogSpec::JsonFile { max_size, max_files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_type_them() {
        for (text, want) in
            [("64m", 64 << 20), ("1.5GiB", 3 << 29), ("1000", 1000), ("2 KB", 2048), ("1t", 1 << 40), ("0", 0)]
        {
            assert_eq!(bytes_of(text, 1024.0), Some(want), "{text}");
        }
        assert_eq!(bytes_of("10m", 1000.0), Some(10_000_000));
        for bad in ["", "m", "-1", "1x", "1mm", "99999p", "1.2.3k"] {
            assert_eq!(bytes_of(bad, 1024.0), None, "{bad}");
        }
    }

    #[test]
    fn ulimits_follow_the_kernels_rule() {
        assert_eq!(ulimit("nofile", 10, 20).unwrap(), (10, 20));
        assert_eq!(ulimit("core", -1, -1).unwrap(), (u64::MAX, u64::MAX));
        assert_eq!(ulimit("shoes", 1, 1).unwrap_err().to_string(), "invalid ulimit type: shoes");
        let text = ulimit("nofile", 20, 10).unwrap_err().to_string();
        assert_eq!(text, "ulimit soft limit must be less than or equal to hard limit: 20 > 10");
        assert!(ulimit("nofile", -2, 10).is_err() && ulimit("nofile", -1, 10).is_err());
    }

    #[test]
    fn log_options_are_dockers() {
        let options = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let ten = log_spec("json-file", &options(&[("max-size", "10m"), ("max-file", "3")])).unwrap();
        assert_eq!(ten, LogSpec::JsonFile { max_size: Some(10_000_000), max_files: 3 });
        assert_eq!(log_spec("none", &options(&[])).unwrap(), LogSpec::Nowhere);
        for (pairs, text) in [
            (&[("max-file", "0")][..], "max-file cannot be less than 1"),
            (&[("max-size", "big")], "invalid value \"big\" for log opt 'max-size': it is a size such as 10m"),
            (&[("max-size", "0")], "invalid value \"0\" for log opt 'max-size': max-size must be a positive number"),
            (&[("colour", "red")], "unknown log opt 'colour' for json-file log driver"),
            (&[("compress", "true")], "log opt 'compress=true': compressing rotated logs is not there yet"),
        ] {
            assert_eq!(log_spec("json-file", &options(pairs)).unwrap_err().to_string(), text);
        }
        assert!(log_spec("syslog", &options(&[])).unwrap_err().to_string().contains("'syslog'"));
    }
}
