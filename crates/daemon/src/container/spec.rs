//! What was asked for, parsed once, into types that cannot be wrong. `http` makes it out of the wire's words and the
//! image's configuration; `oci` turns it into what an OCI runtime reads.

use super::dependency::Dependency;
use super::health::Check;
use plan::ids::{ContainerId, IfName, Mac, NetworkId};
use plan::world::Proto;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// A container as asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The image as the user named it.
    pub image: String,
    /// Entrypoint and command, merged with the image's: the program and its arguments; never empty.
    pub argv: Vec<String>,
    /// How many of `argv` are the entrypoint: `inspect` and `ps` tell them apart.
    pub entrypoint_len: usize,
    /// `NAME=value`, the image's first; later ones win. Without `HOSTNAME`, `HOME`, `TERM`, which the start adds.
    pub env: Vec<String>,
    /// Absolute; `/` if nobody said.
    pub workdir: String,
    /// `user[:group]`, names or numbers; empty is root.
    pub user: String,
    /// Groups in addition, names or numbers.
    pub group_add: Vec<String>,
    /// `None`: the short id.
    pub hostname: Option<String>,
    /// The NIS domain name; empty if none.
    pub domainname: String,
    /// A pseudo terminal.
    pub tty: bool,
    /// The terminal's first size: lines and columns. Clients that can tell it later do that too.
    pub console_size: Option<(u16, u16)>,
    /// Standard input stays open.
    pub open_stdin: bool,
    /// … until the first attached client goes.
    pub stdin_once: bool,
    /// Labels, the image's first.
    pub labels: BTreeMap<String, String>,
    /// The signal that asks it to stop (`SIGTERM` is 15).
    pub stop_signal: i32,
    /// Seconds until it is killed; `None`: 10.
    pub stop_timeout: Option<i64>,
    /// What happens when it ends.
    pub restart: Restart,
    /// Removed when it ends.
    pub auto_remove: bool,
    /// How its health is checked; `None`: not at all.
    #[serde(default)]
    pub health: Option<Check>,
    /// Its network.
    pub network: NetworkSpec,
    /// What is mounted into it.
    pub mounts: Vec<MountSpec>,
    /// Its rights.
    pub security: Security,
    /// Its limits.
    pub resources: Resources,
    /// `RLIMIT_*` by lower-case name without prefix (`nofile`): soft, hard.
    pub ulimits: BTreeMap<String, (u64, u64)>,
    /// Kernel parameters of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// -1000 to 1000.
    pub oom_score_adj: i32,
    /// Whose processes it sees.
    pub pid: PidMode,
    /// Whose shared memory it has.
    pub ipc: IpcMode,
    /// The host's name and domain are its own (`--uts host` is true).
    pub uts_host: bool,
    /// It sees the host's cgroup tree.
    pub cgroupns_host: bool,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: u64,
    /// Below which cgroup; `None` is the daemon's.
    pub cgroup_parent: Option<String>,
    /// A small init is process 1 and reaps (`--init`).
    pub init: bool,
    /// Where its output goes.
    pub log: LogSpec,
    /// Another OCI runtime by name; `None` is the daemon's default.
    pub runtime: Option<String>,
    /// Free words for the runtime's `annotations`.
    pub annotations: BTreeMap<String, String>,
}

/// `--restart`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Whatever happens.
    Always,
    /// Unless the user stopped it.
    UnlessStopped,
    /// When the exit code is not 0, at most so many times (0: without end).
    OnFailure(u32),
}

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogSpec {
    /// `json-file`
    JsonFile {
        /// Bytes until rotation.
        max_size: Option<u64>,
        /// Files in all.
        max_files: u32,
        /// The options as told.
        #[serde(default)]
        options: BTreeMap<String, String>,
    },
    /// `local`: a form of the engine's own, which only the engine reads. It is the same as the other.
    Local {
        /// Bytes until rotation.
        max_size: Option<u64>,
        /// Files in all.
        max_files: u32,
        /// The options as told.
        options: BTreeMap<String, String>,
    },
    /// `none`
    Nowhere,
}

impl LogSpec {
    /// The driver's name.
    pub fn driver(&self) -> &'static str {
        match self {
            LogSpec::JsonFile { .. } => "json-file",
            LogSpec::Local { .. } => "local",
            LogSpec::Nowhere => "none",
        }
    }

    /// Its options as told.
    pub fn options(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        match self {
            LogSpec::JsonFile { options, .. } | LogSpec::Local { options, .. } => options,
            LogSpec::Nowhere => &NONE,
        }
    }

    /// Files that were rotated away are compressed: `local` does that unless told otherwise.
    pub fn compresses(&self) -> bool {
        let told = self.options().get("compress").and_then(|text| crate::config::options::truth(text));
        told.unwrap_or(matches!(self, LogSpec::Local { .. }))
    }
}

/// Everything about its network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// One of the four kinds.
    pub mode: NetworkMode,
    /// `EXPOSE` of the image and `--expose`.
    pub exposed: BTreeSet<(u16, Proto)>,
    /// `-p`
    pub published: Vec<Publish>,
    /// `-P`
    pub publish_all: bool,
    /// `--dns`, as typed and in order.
    pub dns: Vec<IpAddr>,
    /// `--dns-search`
    pub dns_search: Vec<String>,
    /// `--dns-option`
    pub dns_options: Vec<String>,
    /// `--add-host`, in order.
    pub extra_hosts: Vec<(String, HostAddr)>,
    /// `--link` on the default network, in order.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Its places on networks, in the order in which it joined them: `eth0` is the first. None for a container that is closed,
    /// joined or open.
    pub places: Vec<PlaceSpec>,
}

/// A place on a network, as asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceSpec {
    /// The network: as the user called it until it was found, and from then on its name.
    pub network: String,
    /// Its id, once it was found.
    pub id: Option<NetworkId>,
    /// `--network-alias`
    pub aliases: Vec<String>,
    /// `--ip`
    pub ip4: Option<Ipv4Addr>,
    /// `--ip6`
    pub ip6: Option<Ipv6Addr>,
    /// `--link-local-ip`
    #[serde(default)]
    pub link_local: BTreeSet<IpAddr>,
    /// `--mac-address`
    pub mac: Option<Mac>,
    /// `gw-priority`: the highest leads out.
    pub priority: i64,
    /// What the interface is called (`driver-opt=com.docker.network.endpoint.ifname`).
    #[serde(default)]
    pub interface: Option<IfName>,
    /// Its settings (`driver-opt=com.docker.network.endpoint.sysctls`), with `IFNAME` for its name.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// `driver-opt`, as they were given; others than those above do nothing.
    pub driver_opts: BTreeMap<String, String>,
    /// `--link` on a network of the user's, in order.
    #[serde(default)]
    pub links: Vec<PlaceLink>,
}

impl NetworkSpec {
    /// What its links of both sorts say, with the names of their targets.
    pub fn dependencies(&self) -> impl Iterator<Item = (&str, &Dependency)> {
        let others = self.places.iter().flat_map(|place| &place.links);
        let others = others.map(|link| (link.target.as_str(), &link.dependency));
        self.links.iter().map(|link| (link.name.as_str(), &link.dependency)).chain(others)
    }
}

impl PlaceSpec {
    /// A place without wishes.
    pub fn on(network: impl Into<String>) -> PlaceSpec {
        PlaceSpec { network: network.into(), ..PlaceSpec::default() }
    }
}

/// One `--link TARGET:ALIAS` on a network of the user's: another name there for whoever is called TARGET, for this container alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceLink {
    /// One of the names by which members of the network find the target, whether it is there yet or not.
    pub target: String,
    /// What the source calls it. Where two links have the same alias, it stands for the first.
    pub alias: String,
    /// What else it says.
    #[serde(default)]
    pub dependency: Dependency,
}

/// One `--link TARGET:ALIAS` on the default network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The target; where the user named a container that shares another's network, that other one.
    pub target: ContainerId,
    /// By what name the target was meant, for people, should it be gone.
    pub name: String,
    /// What the source calls it. Where two links have the same alias, it stands for the first.
    pub alias: String,
    /// What else it says.
    #[serde(default)]
    pub dependency: Dependency,
}

/// The four kinds of containers, and user-defined networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// Closed: `lo` only.
    Closed,
    /// Bridged, on the default bridge.
    #[default]
    Bridged,
    /// Bridged, on networks of the user's; the first of them, by name or id.
    Named(String),
    /// Joined: shares another container's sandbox; the reference as typed.
    Joined(String),
    /// Open: the host's own.
    Open,
}

/// The right side of `--add-host`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostAddr {
    /// An address.
    Addr(IpAddr),
    /// `host-gateway`: the host, seen from the container.
    HostGateway,
}

/// One `-p`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The transport protocol.
    pub proto: Proto,
    /// The host's address; `None`: every one.
    pub host_ip: Option<IpAddr>,
    /// The host's port, or a range from which the first free is taken; `None`: an ephemeral one.
    pub host_ports: Option<(u16, u16)>,
    /// The container's port.
    pub inner: u16,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSpec {
    /// A path of the host's.
    Bind {
        /// On the host, absolute.
        source: PathBuf,
        /// In the container, absolute.
        target: String,
        /// Read-only.
        read_only: bool,
        /// `rprivate`, `rslave`, `rshared` …
        propagation: Option<String>,
        /// Make the source if it is not there (`-v`); otherwise that is a refusal (`--mount`).
        create: bool,
        /// The mode words as typed.
        mode: String,
    },
    /// A volume.
    Volume {
        /// `None`: an anonymous one is made.
        name: Option<String>,
        /// In the container, absolute.
        target: String,
        /// Read-only.
        read_only: bool,
        /// Do not fill an empty volume with what the image has there.
        no_copy: bool,
        /// The mode words as typed.
        mode: String,
    },
    /// Memory.
    Tmpfs {
        /// In the container, absolute.
        target: String,
        /// Mount options, comma-separated (`size=64m,noexec`).
        options: String,
    },
}

/// Its rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// All rights of the host's root, all devices.
    pub privileged: bool,
    /// `--cap-add`: names without `CAP_`, upper case; `ALL`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`
    pub cap_drop: Vec<String>,
    /// `no-new-privileges`
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
    /// The root file system is read-only.
    pub read_only_root: bool,
    /// Replaces the default masked paths (`systempaths=unconfined` is an empty list).
    pub masked_paths: Option<Vec<String>>,
    /// Replaces the default read-only paths.
    pub read_only_paths: Option<Vec<String>>,
}

/// System call filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// The user's, as JSON text of Docker's profile format.
    Profile(String),
}

/// Limits; `None` is none. Units are the Engine API's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 is without limit.
    pub memory_swap: Option<i64>,
    /// Soft limit in bytes.
    pub memory_reservation: Option<i64>,
    /// 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// The container is never killed for memory, it waits (cgroup v1).
    pub oom_kill_disable: bool,
    /// Billionths of a CPU.
    pub nano_cpus: Option<i64>,
    /// Relative weight.
    pub cpu_shares: Option<u64>,
    /// Microseconds a period.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Real-time microseconds a period.
    pub cpu_rt_runtime: Option<i64>,
    /// Microseconds.
    pub cpu_rt_period: Option<u64>,
    /// `0-2,4`
    pub cpuset_cpus: String,
    /// Memory nodes.
    pub cpuset_mems: String,
    /// Processes.
    pub pids: Option<i64>,
    /// 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// `--device`
    pub devices: Vec<Device>,
    /// `--device-cgroup-rule`, as typed.
    pub device_rules: Vec<String>,
}

/// One `--device`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// On the host.
    pub host: PathBuf,
    /// In the container.
    pub inner: String,
    /// Of `rwm`.
    pub access: String,
}

/// `--pid`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's; the reference as typed.
    Container(String),
}

/// `--ipc`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpcMode {
    /// Its own.
    #[default]
    Private,
    /// Its own, and others may join.
    Shareable,
    /// Its own, without `/dev/shm`.
    NoShm,
    /// The host's.
    Host,
    /// Another container's; the reference as typed.
    Container(String),
}

impl Resources {
    /// These limits with those of `change` that are given in their place.
    pub fn patched(&self, change: &Resources) -> Resources {
        let text = |old: &String, new: &String| if new.is_empty() { old.clone() } else { new.clone() };
        Resources {
            memory: change.memory.or(self.memory),
            memory_swap: change.memory_swap.or(self.memory_swap),
            memory_reservation: change.memory_reservation.or(self.memory_reservation),
            memory_swappiness: change.memory_swappiness.or(self.memory_swappiness),
            oom_kill_disable: self.oom_kill_disable || change.oom_kill_disable,
            nano_cpus: change.nano_cpus.or(self.nano_cpus),
            cpu_shares: change.cpu_shares.or(self.cpu_shares),
            cpu_quota: change.cpu_quota.or(self.cpu_quota),
            cpu_period: change.cpu_period.or(self.cpu_period),
            cpu_rt_runtime: change.cpu_rt_runtime.or(self.cpu_rt_runtime),
            cpu_rt_period: change.cpu_rt_period.or(self.cpu_rt_period),
            cpuset_cpus: text(&self.cpuset_cpus, &change.cpuset_cpus),
            cpuset_mems: text(&self.cpuset_mems, &change.cpuset_mems),
            pids: change.pids.or(self.pids),
            blkio_weight: change.blkio_weight.or(self.blkio_weight),
            devices: self.devices.clone(),
            device_rules: self.device_rules.clone(),
        }
    }
}
