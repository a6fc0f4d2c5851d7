//! What the engine says of itself: `version` and `info`.

use crate::container::Phase;
use crate::engine::Engine;
use crate::oci::cgroup::Kind;
use crate::time;
use serde_json::{Value, json};
use std::fs;
use std::time::SystemTime;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// `GET /version`; the newest and the oldest version of the Engine API that are spoken.
pub fn version(newest: &str, oldest: &str) -> Value {
    let details = json!({
        "ApiVersion": newest,
        "Arch": architecture(),
        "Experimental": "false",
        "KernelVersion": kernel(),
        "MinAPIVersion": oldest,
        "Os": "linux",
    });
    json!({
        "Platform": { "Name": "berth" },
        "Components": [{ "Name": "Engine", "Version": VERSION, "Details": details }],
        "Version": VERSION,
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel(),
    })
}

/// `GET /info`
pub fn info(engine: &Engine) -> Value {
    let phases: Vec<Phase> = engine.all().iter().map(|container| container.state.phase).collect();
    let count = |wanted: &dyn Fn(&Phase) -> bool| phases.iter().filter(|phase| wanted(phase)).count();
    let (rights, config) = (&engine.rights, &engine.config);
    let can = &rights.limits;
    let v2 = rights.cgroups.kind() == Kind::V2;
    let mut runtimes = serde_json::Map::new();
    runtimes.insert(crate::config::OWN_RUNTIME.into(), json!({ "path": crate::config::OWN_RUNTIME }));
    runtimes.extend(config.runtimes.iter().map(|(name, path)| (name.clone(), json!({ "path": path }))));
    let mut security = vec!["name=seccomp,profile=builtin".to_owned()];
    if !rights.seccomp {
        security.clear();
    }
    if !config.cgroupns_host {
        security.push("name=cgroupns".to_owned());
    }
    let memory = crate::stats::host_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let mut value = json!({
        "ID": host_id(),
        "Containers": phases.len(),
        "ContainersRunning": count(&|phase| matches!(phase, Phase::Running | Phase::Restarting)),
        "ContainersPaused": count(&|phase| *phase == Phase::Paused),
        "ContainersStopped": count(&|phase| !phase.is_alive() && *phase != Phase::Restarting),
        "Images": engine.images.list().len(),
        "Driver": "overlayfs",
        "DriverStatus": [["Data Root", config.data_root], ["Layers", "shared"]],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "macvlan", "null"],
            "Authorization": null,
            "Log": ["json-file", "local", "none"],
        },
        "MemoryLimit": can.memory,
        "SwapLimit": can.swap,
        "CpuCfsPeriod": can.cpu_quota,
        "CpuCfsQuota": can.cpu_quota,
        "CPUShares": can.cpu_shares,
        "CPUSet": can.cpuset,
        "PidsLimit": can.pids,
        "OomKillDisable": can.oom_kill_disable,
        "IPv4Forwarding": on("/proc/sys/net/ipv4/ip_forward"),
        "Debug": matches!(config.log_level, "debug" | "trace"),
        "NFd": fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        "NGoroutines": fs::read_dir("/proc/self/task").map_or(0, Iterator::count),
        "SystemTime": time::rfc3339(SystemTime::now()),
        "LoggingDriver": config.log.driver(),
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if v2 { "2" } else { "1" },
        "NEventsListener": engine.events.listeners(),
    });
    let more = json!({
        "KernelVersion": kernel(),
        "OperatingSystem": operating_system(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "AllowNondistributableArtifactsCIDRs": null,
            "AllowNondistributableArtifactsHostnames": null,
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "IndexConfigs": index_configs(&config.insecure_registries),
            "Mirrors": [],
        },
        "GenericResources": null,
        "DockerRootDir": config.data_root,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": rustix::system::uname().nodename().to_string_lossy(),
        "Labels": config.labels,
        "ExperimentalBuild": false,
        "ServerVersion": VERSION,
        "Runtimes": runtimes,
        "DefaultRuntime": config.default_runtime,
        "Swarm": { "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "SecurityOptions": security,
        "FirewallBackend": { "Driver": "nftables" },
        "CDISpecDirs": [],
        "DefaultAddressPools": pools(engine),
        "Warnings": warnings(engine),
    });
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn on(file: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
}

fn pools(engine: &Engine) -> Value {
    let own = &engine.config.pools;
    let pools = if own.is_empty() { plan::ipam::default_pools() } else { own.clone() };
    pools.iter().map(|pool| json!({ "Base": pool.base.to_string(), "Size": pool.size })).collect()
}

fn index_configs(insecure: &[String]) -> Value {
    let entry = |name: &str, secure: bool| {
        let official = name == "docker.io";
        (name.to_owned(), json!({ "Name": name, "Mirrors": [], "Secure": secure, "Official": official }))
    };
    let insecure = insecure.iter().map(|name| entry(name, false));
    Value::Object(std::iter::once(entry("docker.io", true)).chain(insecure).collect())
}

/// What this host cannot do: the same things that a container is warned of when it asks for them.
fn warnings(engine: &Engine) -> Value {
    let can = &engine.rights.limits;
    let mut warnings = Vec::new();
    for (there, what) in [
        (can.memory, "memory limit"),
        (can.swap, "swap limit"),
        (can.cpu_quota, "CPU CFS quota"),
        (can.cpu_shares, "CPU shares"),
        (can.cpuset, "cpuset"),
        (can.pids, "pids limit"),
    ] {
        if !there {
            warnings.push(format!("WARNING: No {what} support"));
        }
    }
    if !on("/proc/sys/net/ipv4/ip_forward") {
        warnings.push("WARNING: IPv4 forwarding is disabled".to_owned());
    }
    let network = engine.network_warnings();
    warnings.extend(network.iter().map(|warning| format!("WARNING: {warning}")));
    if warnings.is_empty() { Value::Null } else { json!(warnings) }
}

fn operating_system(os_release: &str) -> String {
    let field = |name: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    field("PRETTY_NAME").or_else(|| field("NAME")).unwrap_or_else(|| "Linux".to_owned())
}

/// The same for every engine of this installation of the system; empty if it has no id.
fn host_id() -> String {
    use sha2::{Digest, Sha256};
    let Ok(machine) = fs::read_to_string("/etc/machine-id") else { return String::new() };
    // machine-id(5): it is not to be shown, but what is derived from it may be.
    let digest = Sha256::digest(format!("berth {}", machine.trim()));
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex[from..to].to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_name_is_read() {
        assert_eq!(operating_system("NAME=\"X\"\nPRETTY_NAME=\"X 12 (y)\"\n"), "X 12 (y)");
        assert_eq!(operating_system("NAME=X\n"), "X");
        assert_eq!(operating_system(""), "Linux");
    }

    #[test]
    fn the_version_is_what_clients_negotiate_with() {
        let value = version("1.53", "1.24");
        assert_eq!((&value["ApiVersion"], &value["MinAPIVersion"]), (&json!("1.53"), &json!("1.24")));
        for field in ["Version", "Os", "Arch", "KernelVersion"] {
            assert!(value[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
        }
    }
}
