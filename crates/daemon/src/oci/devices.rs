//! Device nodes in a container, and which the control group lets it use.

use crate::container::spec::{Device, Spec};
use crate::error::{Error, Result};
use rustix::fs::{FileType, Stat, major, minor, stat};
use serde_json::{Value, json};
use std::path::Path;

/// Those that every runtime makes itself, by the OCI runtime specification ("Default Devices").
const MADE_BY_RUNTIME: [&str; 8] = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"];
/// Directories below `/dev` that hold no devices of the host's hardware.
const NO_HARDWARE: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// `linux.devices` and `linux.resources.devices`.
///
/// # Errors
/// A refusal for a device that is not there or a rule that cannot be read.
pub fn devices(spec: &Spec) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut nodes = Vec::new();
    if spec.security.privileged {
        host_devices(Path::new("/dev"), "/dev", &mut nodes);
        for device in spec.resources.devices.iter().filter(|device| device.host != Path::new(&device.inner)) {
            nodes.extend(below(device)?.into_iter().map(|(node, _)| node));
        }
        return Ok((nodes, vec![json!({ "allow": true, "access": "rwm" })]));
    }
    let mut rules = default_rules();
    for device in &spec.resources.devices {
        for (node, rule) in below(device)? {
            nodes.push(node);
            rules.push(rule);
        }
    }
    for rule in &spec.resources.device_rules {
        rules.push(parse_rule(rule)?);
    }
    Ok((nodes, rules))
}

/// Docker's: nothing, but null, zero, full, random, urandom, tty, console, and terminals; and everything may be made
/// (which needs `CAP_MKNOD`), for a node that cannot be opened does no harm.
fn default_rules() -> Vec<Value> {
    let allow =
        |major: u32, minor: u32| json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" });
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules.extend([(1, 5), (1, 3), (1, 9), (1, 8), (1, 7), (5, 0), (5, 1), (5, 2)].map(|(a, b)| allow(a, b)));
    rules.push(json!({ "allow": true, "type": "c", "major": 136, "access": "rwm" }));
    rules.push(json!({ "allow": true, "type": "c", "access": "m" }));
    rules.push(json!({ "allow": true, "type": "b", "access": "m" }));
    rules
}

/// One `--device`: a node, or all nodes of a directory.
fn below(device: &Device) -> Result<Vec<(Value, Value)>> {
    let shown = device.host.display();
    let cannot = |why: &dyn std::fmt::Display| {
        Error::Invalid(format!("error gathering device information while adding custom device \"{shown}\": {why}"))
    };
    if device.access.is_empty() || !device.access.chars().all(|c| "rwm".contains(c)) {
        return Err(Error::Invalid(format!(
            "invalid device mode {:?} of \"{shown}\": it is made of r (read), w (write) and m (mknod)",
            device.access
        )));
    }
    // Docker's users know these words of Go's.
    let found = stat(&device.host).map_err(|errno| match errno {
        rustix::io::Errno::NOENT => cannot(&"no such file or directory"),
        other => cannot(&other),
    })?;
    let mut nodes = Vec::new();
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        host_devices(&device.host, device.inner.trim_end_matches('/'), &mut nodes);
    } else {
        nodes.extend(node(&device.inner, &found));
    }
    if nodes.is_empty() {
        return Err(cannot(&"not a device node"));
    }
    Ok(nodes.into_iter().map(|node| (rule(&node, &device.access), node)).map(|(rule, node)| (node, rule)).collect())
}

fn rule(node: &Value, access: &str) -> Value {
    json!({ "allow": true, "type": node["type"], "major": node["major"], "minor": node["minor"], "access": access })
}

/// All device nodes below a directory of the host's, without following links; what cannot be read is passed over.
fn host_devices(directory: &Path, inner: &str, nodes: &mut Vec<Value>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let (Some(name), Ok(kind)) = (name.to_str(), entry.file_type()) else { continue };
        let target = format!("{inner}/{name}");
        if kind.is_dir() {
            if !NO_HARDWARE.contains(&name) {
                host_devices(&entry.path(), &target, nodes);
            }
        } else if !(kind.is_symlink() || inner == "/dev" && MADE_BY_RUNTIME.contains(&name)) {
            nodes.extend(stat(entry.path()).ok().and_then(|found| node(&target, &found)));
        }
    }
}

fn node(path: &str, found: &Stat) -> Option<Value> {
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        _ => return None,
    };
    Some(json!({
        "path": path,
        "type": kind,
        "major": major(found.st_rdev),
        "minor": minor(found.st_rdev),
        "fileMode": found.st_mode & 0o777,
        "uid": found.st_uid,
        "gid": found.st_gid,
    }))
}

/// `c 1:3 rwm`, with `*` for any number.
fn parse_rule(text: &str) -> Result<Value> {
    let bad = || Error::Invalid(format!("invalid device cgroup rule format: '{text}'"));
    let words: Vec<&str> = text.split(' ').collect();
    let [kind @ ("a" | "b" | "c"), numbers, access] = words[..] else { return Err(bad()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    if access.is_empty() || access.len() > 3 || !access.chars().all(|c| "rwm".contains(c)) {
        return Err(bad());
    }
    let mut rule = json!({ "allow": true, "type": kind, "access": access });
    for (name, number) in [("major", major), ("minor", minor)] {
        if number != "*" {
            rule[name] = json!(number.parse::<u32>().map_err(|_| bad())?);
        }
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        assert_eq!(
            parse_rule("c 10:* rm").unwrap(),
            json!({ "allow": true, "type": "c", "access": "rm", "major": 10 })
        );
        for bad in ["", "c", "c 1:3", "d 1:3 r", "c 1 r", "c 1:x r", "c 1:3 q", "c 1:3 rwmr", "c  1:3 r", "c -1:3 r"] {
            assert_eq!(parse_rule(bad).unwrap_err().to_string(), format!("invalid device cgroup rule format: '{bad}'"));
        }
    }

    #[test]
    fn one_device() {
        let mut spec = crate::oci::example();
        let device =
            |host: &str, access: &str| Device { host: host.into(), inner: "/dev/x".into(), access: access.into() };
        spec.resources.devices = vec![device("/dev/null", "r")];
        let (nodes, rules) = devices(&spec).unwrap();
        assert_eq!(nodes.len(), 1);
        assert_eq!(
            (&nodes[0]["path"], &nodes[0]["major"], &nodes[0]["minor"]),
            (&json!("/dev/x"), &json!(1), &json!(3))
        );
        assert_eq!(
            rules.last().unwrap(),
            &json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "r" })
        );
        for (host, access, why) in [
            ("/dev/none-such", "r", "no such file or directory"),
            ("/proc/self/status", "r", "not a device node"),
            ("/dev/null", "x", "invalid device mode \"x\""),
        ] {
            spec.resources.devices = vec![device(host, access)];
            let text = devices(&spec).unwrap_err().to_string();
            assert!(text.contains(why), "{text}");
        }
    }

    #[test]
    fn privileged_sees_the_hosts() {
        let mut spec = crate::oci::example();
        spec.security.privileged = true;
        let (nodes, rules) = devices(&spec).unwrap();
        assert_eq!(rules, [json!({ "allow": true, "access": "rwm" })]);
        let paths: Vec<&str> = nodes.iter().filter_map(|node| node["path"].as_str()).collect();
        assert!(!paths.contains(&"/dev/null"), "the runtime makes it: twice is an error in some");
        assert!(!paths.iter().any(|path| path.starts_with("/dev/pts/")), "{paths:?}");
    }
}
