//! `--device`, `--device-cgroup-rule`, the rates and weights of block devices, `--gpus`.

use serde_json::{Value, json};

use crate::literal::bytes;

/// `HOST[:CONTAINER[:PERMISSIONS]]` or `HOST:PERMISSIONS`; permissions are some of `r`, `w` and `m`.
pub fn device(text: &str) -> Result<Value, String> {
    let refused = || format!("bad format for path: {text}");
    let parts: Vec<&str> = text.split(':').collect();
    let modes = |mode: &str| !mode.is_empty() && mode.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    let (host, inside, mode) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, mode] if modes(mode) => (*host, *host, *mode),
        [host, inside] => (*host, *inside, "rwm"),
        [host, inside, mode] if modes(mode) => (*host, *inside, *mode),
        [_, _, mode] => return Err(format!("bad mode specified: {mode}")),
        _ => return Err(refused()),
    };
    if host.is_empty() || inside.is_empty() {
        return Err(refused());
    }
    if !inside.starts_with('/') {
        return Err(format!("{inside} is not an absolute path"));
    }
    Ok(json!({"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": mode}))
}

/// `TYPE MAJOR:MINOR PERMISSIONS`, each number or `*`.
pub fn cgroup_rule(text: &str) -> Result<String, String> {
    let number = |part: &str| part == "*" || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let fits = (|| {
        let mut words = text.split(' ');
        let (kind, numbers, modes) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        Some(
            words.next().is_none()
                && matches!(kind, "a" | "b" | "c")
                && number(major)
                && number(minor)
                && (1..=3).contains(&modes.len())
                && modes.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')),
        )
    })();
    if fits == Some(true) { Ok(text.to_owned()) } else { Err(format!("invalid device cgroup format '{text}'")) }
}

fn path_and(text: &str) -> Result<(&str, &str), String> {
    let (path, rest) = text.split_once(':').ok_or_else(|| format!("bad format: {text}"))?;
    if path.starts_with("/dev/") { Ok((path, rest)) } else { Err(format!("bad format for device path: {text}")) }
}

/// `/dev/NAME:SIZE` a second.
pub fn rate(text: &str) -> Result<Value, String> {
    let (path, rate) = path_and(text)?;
    let rate = bytes(rate).map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// `/dev/NAME:OPERATIONS` a second.
pub fn operations(text: &str) -> Result<Value, String> {
    let (path, rate) = path_and(text)?;
    let rate: u64 = rate.parse().map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// `/dev/NAME:WEIGHT`, 10 to 1000, or 0 for none.
pub fn weight(text: &str) -> Result<Value, String> {
    let (path, weight) = path_and(text)?;
    match weight.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => Ok(json!({"Path": path, "Weight": weight})),
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// `all`, a count, or `count=…,driver=…,capabilities=…`.
pub fn gpus(text: &str) -> Result<Value, String> {
    let count = |value: &str| match value {
        "all" => Ok(-1),
        value => value.parse::<i64>().map_err(|_| {
            format!("invalid count ({value}): value must be either \"all\" or an integer: invalid syntax")
        }),
    };
    let mut request = json!({"Driver": "", "Count": 0, "Capabilities": [["gpu"]], "Options": {}});
    let mut counted = false;
    for field in text.split(',') {
        match field.split_once('=') {
            None => request["Count"] = json!(count(field)?),
            Some(("count", value)) => request["Count"] = json!(count(value)?),
            Some(("driver", value)) => request["Driver"] = json!(value),
            Some(("device", value)) => request["DeviceIDs"] = json!([value]),
            Some(("capabilities", value)) => request["Capabilities"] = json!([["gpu", value]]),
            Some((key, _)) => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        counted |= !field.contains('=') || field.starts_with("count=") || field.starts_with("device=");
    }
    if !counted {
        request["Count"] = json!(1);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: ToString>(read: impl Fn(&str) -> Result<T, String>, cases: &[(&str, &str)]) {
        for (text, wanted) in cases {
            let got = read(text).map_or_else(|why| why, |value| value.to_string());
            assert_eq!(&got, wanted, "{text:?}");
        }
    }

    #[test]
    fn devices() {
        check(
            device,
            &[
                ("/dev/null", r#"{"CgroupPermissions":"rwm","PathInContainer":"/dev/null","PathOnHost":"/dev/null"}"#),
                (
                    "/dev/null:rw",
                    r#"{"CgroupPermissions":"rw","PathInContainer":"/dev/null","PathOnHost":"/dev/null"}"#,
                ),
                (
                    "/dev/zero:/dev/x:r",
                    r#"{"CgroupPermissions":"r","PathInContainer":"/dev/x","PathOnHost":"/dev/zero"}"#,
                ),
                ("/a:/b:q", "bad mode specified: q"),
                ("a:b:c:d", "bad format for path: a:b:c:d"),
                ("/a:b", "b is not an absolute path"),
            ],
        );
        check(
            cgroup_rule,
            &[
                ("c 1:3 mr", "c 1:3 mr"),
                ("c *:* rwm", "c *:* rwm"),
                ("foo", "invalid device cgroup format 'foo'"),
                ("c 1:3 x", "invalid device cgroup format 'c 1:3 x'"),
            ],
        );
    }

    #[test]
    fn rates_and_weights() {
        check(
            rate,
            &[
                ("/dev/sda:1mb", r#"{"Path":"/dev/sda","Rate":1048576}"#),
                ("/a", "bad format: /a"),
                ("a:1", "bad format for device path: a:1"),
            ],
        );
        check(operations, &[("/dev/sda:5", r#"{"Path":"/dev/sda","Rate":5}"#)]);
        check(
            weight,
            &[
                ("/dev/sda:200", r#"{"Path":"/dev/sda","Weight":200}"#),
                ("/dev/sda:5", "invalid weight for device: /dev/sda:5"),
            ],
        );
        check(
            gpus,
            &[
                ("all", r#"{"Capabilities":[["gpu"]],"Count":-1,"Driver":"","Options":{}}"#),
                ("foo", "invalid count (foo): value must be either \"all\" or an integer: invalid syntax"),
            ],
        );
    }
}
