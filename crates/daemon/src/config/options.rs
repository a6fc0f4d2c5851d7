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

/// Docker's limits of the driver `local`, which keeps little unless told otherwise.
const LOCAL_SIZE: u64 = 20 * 1024 * 1024;
const LOCAL_FILES: u32 = 5;

/// A log driver with its options.
///
/// # Errors
/// A driver or an option that there is not, a value that is wrong.
pub fn log_spec(driver: &str, options: &BTreeMap<String, String>) -> Result<LogSpec> {
    let local = match driver {
        "none" => return Ok(LogSpec::Nowhere),
        "json-file" => false,
        "local" => true,
        _ => {
            return Err(Error::Invalid(format!(
                "logger: no log driver named '{driver}' is registered; berth has json-file, local and none"
            )));
        }
    };
    check_mode(options)?;
    let (mut max_size, mut max_files) = if local { (Some(LOCAL_SIZE), LOCAL_FILES) } else { (None, 1) };
    let mut compress = false;
    for (key, value) in options {
        let invalid = |why: &str| Error::Invalid(format!("invalid value {value:?} for log opt '{key}': {why}"));
        let absent = |what: &str| Err(Error::Absent(format!("log opt '{key}={value}': {what} is not there yet")));
        match key.as_str() {
            "max-size" if value == "-1" && !local => max_size = None,
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
            "compress" => {
                compress = truth(value).ok_or_else(|| invalid("it is true or false"))?;
            }
            // What is written to a file is never held up for long, so there is nothing to drop.
            "mode" | "max-buffer-size" => {}
            "labels" | "env" if !local => {}
            "tag" if !local => crate::logs::check_tag(value)?,
            "labels-regex" | "env-regex" if !local => return absent("choosing by a regular expression"),
            _ if local => return Err(Error::Invalid(format!("unknown log opt '{key}' for log driver local"))),
            _ => return Err(Error::Invalid(format!("unknown log opt '{key}' for json-file log driver"))),
        }
    }
    if compress && !local && (max_files < 2 || max_size.is_none()) {
        return Err(Error::Invalid(
            "compress cannot be true when max-file is less than 2 or max-size is not set".into(),
        ));
    }
    let options = options.clone();
    Ok(match local {
        true => LogSpec::Local { max_size, max_files, options },
        false => LogSpec::JsonFile { max_size, max_files, options },
    })
}

/// Whether output waits for its log.
fn check_mode(options: &BTreeMap<String, String>) -> Result<()> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !["", "blocking", "non-blocking"].contains(&mode) {
        return Err(Error::Invalid(format!("logger: logging mode not supported: {mode}")));
    }
    let Some(size) = options.get("max-buffer-size") else { return Ok(()) };
    if mode != "non-blocking" {
        return Err(Error::Invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'".into()));
    }
    match bytes_of(size, 1024.0) {
        Some(_) => Ok(()),
        None => Err(Error::Invalid(format!("logger: max-buffer-size: invalid size: '{size}'"))),
    }
}

/// Go's `ParseBool`.
pub fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
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
        let options = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
        };
        let told = options(&[("max-size", "10m"), ("max-file", "3"), ("mode", "non-blocking"), ("tag", "{{.Name}}")]);
        let ten = log_spec("json-file", &told).unwrap();
        assert_eq!(ten, LogSpec::JsonFile { max_size: Some(10_000_000), max_files: 3, options: told });
        assert_eq!(log_spec("none", &options(&[])).unwrap(), LogSpec::Nowhere);
        let local = log_spec("local", &options(&[])).unwrap();
        assert_eq!(local, LogSpec::Local { max_size: Some(20 << 20), max_files: 5, options: BTreeMap::new() });
        for (driver, pairs, text) in [
            ("json-file", &[("max-file", "0")][..], "max-file cannot be less than 1"),
            (
                "json-file",
                &[("max-size", "big")],
                "invalid value \"big\" for log opt 'max-size': it is a size such as 10m",
            ),
            (
                "json-file",
                &[("max-size", "0")],
                "invalid value \"0\" for log opt 'max-size': max-size must be a positive number",
            ),
            ("json-file", &[("colour", "red")], "unknown log opt 'colour' for json-file log driver"),
            (
                "json-file",
                &[("compress", "maybe")],
                "invalid value \"maybe\" for log opt 'compress': it is true or false",
            ),
            (
                "json-file",
                &[("compress", "true")],
                "compress cannot be true when max-file is less than 2 or max-size is not set",
            ),
            ("json-file", &[("mode", "fast")], "logger: logging mode not supported: fast"),
            (
                "json-file",
                &[("max-buffer-size", "1m")],
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
            ("local", &[("labels", "a")], "unknown log opt 'labels' for log driver local"),
        ] {
            assert_eq!(log_spec(driver, &options(pairs)).unwrap_err().to_string(), text);
        }
        assert!(log_spec("json-file", &options(&[("tag", "{{.Colour}}")])).is_err());
        assert!(log_spec("syslog", &options(&[])).unwrap_err().to_string().contains("'syslog'"));
    }
}
