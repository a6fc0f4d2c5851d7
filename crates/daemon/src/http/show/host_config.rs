//! `HostConfig` of `inspect`.

use super::Around;
use crate::container::Container;
use crate::container::dependency::OnLoss;
use crate::container::spec::{IpcMode, Restart};
use crate::engine::Said;
use crate::time::go_duration;
use serde_json::{Map, Value, json};

/// `HostConfig`: Docker's defaults, then what was asked for, then what may have changed since or was decided for it.
pub fn host_config(container: &Container, around: &Around) -> Value {
    let mut config = defaults();
    let asked = container.asked.get("HostConfig").and_then(Value::as_object);
    for (field, value) in asked.into_iter().flatten() {
        // A null says nothing, and fields that Docker does not know are not echoed.
        let known = config.contains_key(field) || LEFT_OUT.contains(&field.as_str());
        if !value.is_null() && known {
            config.insert(field.clone(), value.clone());
        }
    }
    let spec = &container.spec;
    let mut set = |field: &str, value: Value| config.insert(field.to_owned(), value);
    let (policy, count) = match spec.restart {
        Restart::No => ("no", 0),
        Restart::Always => ("always", 0),
        Restart::UnlessStopped => ("unless-stopped", 0),
        Restart::OnFailure(most) => ("on-failure", most),
    };
    set("RestartPolicy", json!({ "Name": policy, "MaximumRetryCount": count }));
    let resources = &spec.resources;
    set("Memory", resources.memory.unwrap_or(0).into());
    set("MemorySwap", swap(resources.memory, resources.memory_swap).into());
    set("MemoryReservation", resources.memory_reservation.unwrap_or(0).into());
    set("NanoCpus", resources.nano_cpus.unwrap_or(0).into());
    set("CpuShares", resources.cpu_shares.unwrap_or(0).into());
    set("CpuQuota", resources.cpu_quota.unwrap_or(0).into());
    set("CpuPeriod", resources.cpu_period.unwrap_or(0).into());
    set("CpuRealtimeRuntime", resources.cpu_rt_runtime.unwrap_or(0).into());
    set("CpuRealtimePeriod", resources.cpu_rt_period.unwrap_or(0).into());
    set("CpusetCpus", resources.cpuset_cpus.clone().into());
    set("CpusetMems", resources.cpuset_mems.clone().into());
    set("BlkioWeight", resources.blkio_weight.unwrap_or(0).into());
    set("PidsLimit", resources.pids.map_or(Value::Null, Value::from));
    set("ShmSize", spec.shm_size.into());
    set("Links", if around.links.is_empty() { Value::Null } else { json!(around.links) });
    // A field of berth's own, beside Docker's list and not in it: clients take that apart at its colons and give it to others.
    if !around.dependencies.is_empty() {
        let said = around.dependencies.iter().map(|Said { link, network, dependency: said }| {
            json!({
                "Link": link,
                "Network": network,
                "Wait": said.wait.as_ref().map(ToString::to_string).unwrap_or_default(),
                "Timeout": said.wait.as_ref().map(|_| go_duration(said.patience())).unwrap_or_default(),
                "Required": said.required.is_some(),
                "OnLoss": said.required.map_or("", OnLoss::word),
            })
        });
        set("BerthLinks", said.collect());
    }
    set("AutoRemove", spec.auto_remove.into());
    set("Runtime", spec.runtime.clone().unwrap_or_else(|| around.default_runtime.clone()).into());
    set("LogConfig", json!({ "Type": spec.log.driver(), "Config": spec.log.options() }));
    let ipc = match &spec.ipc {
        IpcMode::Private => "private".to_owned(),
        IpcMode::Shareable => "shareable".to_owned(),
        IpcMode::NoShm => "none".to_owned(),
        IpcMode::Host => "host".to_owned(),
        IpcMode::Container(target) => format!("container:{target}"),
    };
    set("IpcMode", ipc.into());
    set("CgroupnsMode", if spec.cgroupns_host { "host" } else { "private" }.into());
    set("CgroupParent", spec.cgroup_parent.clone().unwrap_or_else(|| around.cgroup_parent.clone()).into());
    let paths = |paths: &Option<Vec<String>>, defaults: &[&str]| match paths {
        Some(paths) => json!(paths),
        None if spec.security.privileged => Value::Null,
        None => json!(defaults),
    };
    set("MaskedPaths", paths(&spec.security.masked_paths, MASKED));
    set("ReadonlyPaths", paths(&spec.security.read_only_paths, READ_ONLY));
    Value::Object(config)
}

/// Docker's rule: who limits memory and says nothing of swap gets as much swap again.
fn swap(memory: Option<i64>, swap: Option<i64>) -> i64 {
    swap.or_else(|| memory.map(|memory| memory.saturating_mul(2))).unwrap_or(0)
}

/// Docker's (`oci.DefaultSpec`), as the runtime specification hides them too.
const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What Docker answers for what nobody asked, in the order of its kinds.
const NOTHING: &[&str] = &[
    "Binds",
    "LogConfig",
    "RestartPolicy",
    "VolumesFrom",
    "CapAdd",
    "CapDrop",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "SecurityOpt",
    "DeviceCgroupRules",
    "DeviceRequests",
    "MemorySwappiness",
    "OomKillDisable",
    "Init",
    "PidsLimit",
    "MaskedPaths",
    "ReadonlyPaths",
];
const EMPTY_TEXTS: &[&str] = &[
    "ContainerIDFile",
    "VolumeDriver",
    "CgroupnsMode",
    "IpcMode",
    "Cgroup",
    "PidMode",
    "UTSMode",
    "UsernsMode",
    "Runtime",
    "Isolation",
    "CgroupParent",
    "CpusetCpus",
    "CpusetMems",
];
const FALSE: &[&str] = &["AutoRemove", "Privileged", "PublishAllPorts", "ReadonlyRootfs"];
const ZERO: &[&str] = &[
    "OomScoreAdj",
    "ShmSize",
    "CpuShares",
    "Memory",
    "NanoCpus",
    "BlkioWeight",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "MemoryReservation",
    "MemorySwap",
    "CpuCount",
    "CpuPercent",
    "IOMaximumIOps",
    "IOMaximumBandwidth",
];
const EMPTY_LISTS: &[&str] = &[
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "Devices",
    "Ulimits",
];
/// Docker leaves these out where nobody asked.
const LEFT_OUT: &[&str] = &["Sysctls", "Tmpfs", "Mounts", "Annotations", "StorageOpt"];

fn defaults() -> Map<String, Value> {
    let kinds = [
        (NOTHING, Value::Null),
        (EMPTY_TEXTS, json!("")),
        (FALSE, json!(false)),
        (ZERO, json!(0)),
        (EMPTY_LISTS, json!([])),
    ];
    let mut config: Map<String, Value> = kinds
        .into_iter()
        .flat_map(|(fields, value)| fields.iter().map(move |field| ((*field).to_owned(), value.clone())))
        .collect();
    config.insert("NetworkMode".into(), json!("default"));
    config.insert("PortBindings".into(), json!({}));
    config.insert("ConsoleSize".into(), json!([0, 0]));
    config
}
