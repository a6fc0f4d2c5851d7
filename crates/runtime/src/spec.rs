use crate::house::Kept;
use anyhow::{Context, bail};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// A `config.json`, and what is taken out of it because libcontainer would do it wrong or not at all.
pub struct Config {
    /// What libcontainer gets.
    pub adapted: Value,
    /// `process` as the caller wrote it.
    pub process: Value,
    /// For later commands.
    pub kept: Kept,
    /// `linux.resources.devices`, for cgroup v2.
    pub devices: Vec<Value>,
    /// A network namespace is made, not joined: its loopback is down.
    pub new_network: bool,
    /// The user and group that are root in the container.
    pub root_ids: (u32, u32),
}

/// Reads the bundle's configuration.
pub fn load(bundle: &Path, id: &str, created: String) -> anyhow::Result<Config> {
    let bundle = fs::canonicalize(bundle).with_context(|| format!("bundle {}", bundle.display()))?;
    let file = bundle.join("config.json");
    let text = fs::read(&file).with_context(|| format!("{}", file.display()))?;
    let spec: Value = serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))?;
    adapt(spec, bundle, id, created).with_context(|| format!("{}", file.display()))
}

fn adapt(mut spec: Value, bundle: PathBuf, id: &str, created: String) -> anyhow::Result<Config> {
    let process = spec["process"].clone();
    if process["args"].as_array().is_none_or(|args| args.is_empty()) {
        bail!("process.args must name a program");
    }
    let root = spec["root"]["path"].as_str().context("root.path is missing")?;
    let rootfs = fs::canonicalize(bundle.join(root)).with_context(|| format!("root.path {root:?}"))?;
    spec["root"]["path"] = rootfs.to_str().with_context(|| format!("root.path {root:?} is not UTF-8"))?.into();
    spec["process"] = adapt_process(&process)?;

    let namespaces = spec["linux"]["namespaces"].as_array().cloned().unwrap_or_default();
    let namespace = |kind: &str| namespaces.iter().find(|namespace| namespace["type"] == kind);
    let is_made =
        |kind: &str| namespace(kind).is_some_and(|namespace| namespace["path"].as_str().is_none_or(str::is_empty));

    let linux = spec["linux"].as_object_mut().context("linux is missing")?;
    // "" counts as absolute for nobody; runc's default is the container's name.
    let cgroup = match linux.get("cgroupsPath").and_then(Value::as_str) {
        Some(path) if !path.is_empty() => Path::new("/").join(path),
        _ => Path::new("/").join(id),
    };
    if cgroup.components().any(|part| part == std::path::Component::ParentDir) {
        bail!("linux.cgroupsPath {cgroup:?} must not climb with `..`");
    }
    linux.insert("cgroupsPath".into(), json!(cgroup));
    // Loaded by ourselves: cached, before privileges are dropped, for execs too. A listener is libcontainer's to serve.
    let seccomp = match linux.get("seccomp") {
        Some(profile) if profile.is_object() && !crate::seccomp::notifies(profile) => linux.remove("seccomp"),
        Some(profile) if profile.is_object() => Some(profile.clone()),
        _ => None,
    };
    let devices = linux.get("resources").map_or(&Value::Null, |resources| &resources["devices"]);
    let devices = devices.as_array().cloned().unwrap_or_default();
    let root_ids = (host_root(linux.get("uidMappings")), host_root(linux.get("gidMappings")));

    let kept = Kept {
        bundle,
        rootfs,
        created,
        seccomp,
        user_namespace: namespace("user").is_some(),
        cgroup,
        shares_pids: !is_made("pid"),
        hooks: spec["hooks"]["poststop"].as_array().is_some_and(|hooks| !hooks.is_empty()),
        annotations: spec.get("annotations").cloned(),
    };
    let new_network = is_made("network");
    Ok(Config { adapted: spec, process, kept, devices, new_network, root_ids })
}

/// `process` without what we do ourselves, later and in another order: see [`crate::launch`].
pub fn adapt_process(process: &Value) -> anyhow::Result<Value> {
    let mut process = process.clone();
    let parts = process.as_object_mut().context("process must be an object")?;
    parts.remove("capabilities");
    parts.remove("oomScoreAdj");
    // libcontainer takes any value, `false` too, for "the filter comes after the capabilities are gone".
    if parts.get("noNewPrivileges") != Some(&Value::Bool(true)) {
        parts.remove("noNewPrivileges");
    }
    // It would fail on a directory that is not there yet.
    parts.insert("cwd".into(), "/".into());
    Ok(process)
}

/// The host's id of the container's root in a list of id mappings; 0 without one.
fn host_root(mappings: Option<&Value>) -> u32 {
    let mappings = mappings.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let root = mappings.iter().find(|mapping| mapping["containerID"] == 0);
    root.and_then(|mapping| mapping["hostID"].as_u64()).and_then(|id| u32::try_from(id).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(change: impl FnOnce(&mut Value)) -> anyhow::Result<Config> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("rootfs")).unwrap();
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs" },
            "process": { "args": ["true"], "cwd": "/work", "noNewPrivileges": false, "capabilities": {}, "oomScoreAdj": 5 },
            "linux": { "namespaces": [{ "type": "pid" }, { "type": "network", "path": "/run/n" }], "seccomp": { "defaultAction": "SCMP_ACT_ALLOW" } }
        });
        change(&mut spec);
        fs::write(dir.path().join("config.json"), spec.to_string()).unwrap();
        load(dir.path(), "name", "now".into())
    }

    #[test]
    fn what_libcontainer_gets_wrong_is_taken_out() {
        let config = adapted(|_| {}).unwrap();
        assert_eq!(config.adapted["process"], json!({ "args": ["true"], "cwd": "/" }));
        assert_eq!(config.process["cwd"], "/work");
        assert!(config.adapted["linux"].get("seccomp").is_none() && config.kept.seccomp.is_some());
        assert_eq!(config.adapted["linux"]["cgroupsPath"], "/name");
        assert!(config.adapted["root"]["path"].as_str().unwrap().ends_with("/rootfs"));
        assert!(!config.new_network && !config.kept.shares_pids && !config.kept.user_namespace);
    }

    #[test]
    fn no_new_privileges_stays_when_wanted_and_a_listener_stays_libcontainers() {
        let config = adapted(|spec| {
            spec["process"]["noNewPrivileges"] = true.into();
            spec["linux"]["namespaces"] = json!([{ "type": "network" }, { "type": "user" }]);
            spec["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 10 }]);
            spec["linux"]["seccomp"]["syscalls"] = json!([{ "names": ["mount"], "action": "SCMP_ACT_NOTIFY" }]);
        });
        let config = config.unwrap();
        assert_eq!(config.adapted["process"]["noNewPrivileges"], true);
        assert!(config.adapted["linux"].get("seccomp").is_some());
        assert!(config.new_network && config.kept.shares_pids && config.kept.user_namespace);
        assert_eq!(config.root_ids, (100_000, 0));
    }

    #[test]
    fn bad_configurations_are_told_by_their_part() {
        let told = |change: fn(&mut Value)| format!("{:#}", adapted(change).err().unwrap());
        assert!(told(|spec| spec["process"]["args"] = json!([])).ends_with("process.args must name a program"));
        assert!(told(|spec| spec["linux"]["cgroupsPath"] = "/a/../../b".into()).ends_with("must not climb with `..`"));
        assert!(told(|spec| spec["root"]["path"] = "gone".into()).contains("root.path \"gone\""));
        assert!(told(|spec| spec["linux"] = Value::Null).ends_with("linux is missing"));
    }
}
