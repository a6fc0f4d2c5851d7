//! From our types to the wire's: `inspect`, `ps`, and their parts. Where Docker says `null` and where `[]`, so do we.

/// Health, and how it is checked.
pub mod health;
/// The host configuration as it was asked for, over Docker's defaults.
mod host_config;
/// Networks and ports of one container.
pub mod network;
/// A line of `ps`.
pub mod summary;

#[cfg(test)]
mod tests;

use super::version::Version;
use crate::container::spec::{LogSpec, NetworkMode};
use crate::container::{Container, MountPoint, Phase};
use crate::engine::{Places, Said};
use crate::time;
use serde_json::{Value, json};
use std::path::PathBuf;

/// What is known of a container besides its record.
pub struct Around {
    /// Where it is on the network.
    pub places: Places,
    /// Its directory of the state directory.
    pub state_dir: PathBuf,
    /// The runtime of containers that name none.
    pub default_runtime: String,
    /// The directories of the image's layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Bytes of its own files, and of them with the image's, when they were asked for.
    pub sizes: Option<(u64, u64)>,
    /// Below which cgroup it is if it did not say.
    pub cgroup_parent: String,
    /// The host's name: an open container shows it.
    pub host_name: String,
    /// Its links, `/TARGET:/SOURCE/ALIAS`.
    pub links: Vec<String>,
    /// Those that say more than names.
    pub dependencies: Vec<Said>,
}

/// `GET /containers/{id}/json`
pub fn inspect(container: &Container, around: &Around, version: Version) -> Value {
    let spec = &container.spec;
    let dir = &around.state_dir;
    let (path, args) = spec.argv.split_first().map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
    let log_path = match spec.log {
        LogSpec::JsonFile { .. } => dir.join(format!("{}-json.log", container.id.as_str())).display().to_string(),
        LogSpec::Local { .. } | LogSpec::Nowhere => String::new(),
    };
    let started = container.state.started.is_some();
    let file = |name: &str| if started { dir.join(name).display().to_string() } else { String::new() };
    let lowers: Vec<String> = around.layers.iter().rev().map(|layer| layer.display().to_string()).collect();
    let mut value = json!({
        "Id": container.id.as_str(),
        "Created": time::rfc3339(container.created),
        "Path": path,
        "Args": args,
        "State": state(container),
        "Image": container.image_id,
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log_path,
        "Name": format!("/{}", container.name),
        "RestartCount": container.restart_count,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config::host_config(container, around),
        "GraphDriver": {
            "Name": "overlayfs",
            "Data": {
                "ID": container.id.as_str(),
                "LowerDir": lowers.join(":"),
                "UpperDir": dir.join("diff"),
                "WorkDir": dir.join("work"),
            },
        },
        "Mounts": container.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": config(container, around),
        "NetworkSettings": network::settings(container, &around.places, version),
    });
    if let Some((own, all)) = around.sizes {
        value["SizeRw"] = own.into();
        value["SizeRootFs"] = all.into();
    }
    value
}

fn state(container: &Container) -> Value {
    let state = &container.state;
    let mut value = json!({
        "Status": state.phase.word(),
        // Docker counts a frozen container, and one that waits for its restart, among the running.
        "Running": state.phase.is_alive() || state.phase == Phase::Restarting,
        "Paused": state.phase == Phase::Paused,
        "Restarting": state.phase == Phase::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.phase == Phase::Dead,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": time::rfc3339_or_never(state.started),
        "FinishedAt": time::rfc3339_or_never(state.finished),
    });
    if let Some(health) = &state.health {
        value["Health"] = health::state(health);
    }
    value
}

/// A place where something of the host's is mounted.
pub fn mount(mount: &MountPoint) -> Value {
    let mut value = json!({
        "Type": if mount.volume.is_some() { "volume" } else { "bind" },
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": mount.mode,
        "RW": !mount.read_only,
        "Propagation": mount.propagation,
    });
    if let Some(volume) = &mount.volume {
        value["Name"] = volume.clone().into();
        value["Driver"] = "local".into();
    }
    value
}

/// `Config`: what was asked for, merged with the image's.
fn config(container: &Container, around: &Around) -> Value {
    let spec = &container.spec;
    let asked = |field: &str| container.asked.get(field).cloned().unwrap_or(Value::Null);
    let said = |field: &str| asked(field).as_bool().unwrap_or(false);
    let hostname = match &spec.hostname {
        Some(name) => name.clone(),
        None if spec.uts_host || spec.network.mode == NetworkMode::Open => around.host_name.clone(),
        None if matches!(spec.network.mode, NetworkMode::Joined(_)) => String::new(),
        None => container.id.short().to_string(),
    };
    let list = |words: &[String]| if words.is_empty() { Value::Null } else { json!(words) };
    let mut config = json!({
        "Hostname": hostname,
        "Domainname": spec.domainname,
        "User": spec.user,
        "AttachStdin": said("AttachStdin"),
        "AttachStdout": said("AttachStdout"),
        "AttachStderr": said("AttachStderr"),
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "StdinOnce": spec.stdin_once,
        "Env": spec.env,
        "Cmd": list(&spec.argv[spec.entrypoint_len..]),
        "Image": spec.image,
        "Volumes": asked("Volumes").as_object().filter(|map| !map.is_empty()).cloned().map_or(Value::Null, Value::Object),
        // Docker says nothing where nobody said anything.
        "WorkingDir": if spec.workdir == "/" { "" } else { &spec.workdir },
        "Entrypoint": list(&spec.argv[..spec.entrypoint_len]),
        "OnBuild": null,
        "Labels": spec.labels,
    });
    if !spec.network.exposed.is_empty() {
        let ports = spec.network.exposed.iter().map(|(port, proto)| (format!("{port}/{}", proto.name()), json!({})));
        config["ExposedPorts"] = Value::Object(ports.collect());
    }
    for field in ["StopSignal", "StopTimeout", "Shell", "NetworkDisabled"] {
        let value = asked(field);
        if !value.is_null() && value != json!("") && value != json!(false) {
            config[field] = value;
        }
    }
    let check = health::check(container);
    if !check.is_null() {
        config["Healthcheck"] = check;
    }
    config
}
