//! The flags that describe a container to be made: shared by `run` and `create`.

use clap::Arg;

use super::{devices, envs, limits, mounts, names, networks};
use crate::flags::{LONG, list, parsed, parsed_list, switch, text};
use crate::literal::{bytes, cpus, duration, int, memory_swap, uint16};

/// All flags of `create`; `run` has a few more.
pub fn create() -> Vec<Arg> {
    let mut all = process();
    all.extend(network());
    all.extend(storage());
    all.extend(resources());
    all.extend(isolation());
    all.extend(health());
    all
}

/// Name, image, command, environment, streams, life.
fn process() -> Vec<Arg> {
    vec![
        text("name", LONG, "string", "Name of the container"),
        parsed_list("attach", 'a', "list", "Attach only these of STDIN, STDOUT, STDERR", limits::stream),
        text("cidfile", LONG, "string", "Write the container's ID to this file"),
        text("entrypoint", LONG, "string", "Run this instead of the image's entry point"),
        parsed_list(
            "env",
            'e',
            "list",
            "Set an environment variable (NAME=VALUE, or NAME to pass ours on)",
            envs::variable,
        ),
        list("env-file", LONG, "list", "Read environment variables from a file"),
        text("hostname", 'h', "string", "Host name of the container"),
        text("domainname", LONG, "string", "NIS domain name of the container"),
        switch("interactive", 'i', "Keep standard input open"),
        switch("tty", 't', "Give the container a terminal"),
        switch("init", LONG, "Run a small init that forwards signals and reaps processes"),
        parsed_list("label", 'l', "list", "Set a label", envs::label),
        list("label-file", LONG, "list", "Read labels from a file"),
        parsed_list("annotation", LONG, "map", "Hand an annotation to the OCI runtime", annotation),
        text("platform", LONG, "string", "Choose the platform of a multi-platform image (os[/arch[/variant]])"),
        text("pull", LONG, "string", "When to pull the image: always, missing or never [missing]"),
        switch("quiet", 'q', "Do not show the progress of a pull"),
        text(
            "restart",
            LONG,
            "string",
            "What to do when the container ends: no, always, unless-stopped, on-failure[:MAX] [no]",
        ),
        switch("rm", LONG, "Remove the container and its anonymous volumes when it ends"),
        text("stop-signal", LONG, "string", "Signal that asks the container to stop"),
        parsed("stop-timeout", LONG, "int", "Seconds between that signal and the kill", int),
        text("user", 'u', "string", "Run as this user: name|uid[:group|gid]"),
        text("workdir", 'w', "string", "Working directory inside the container"),
        text("log-driver", LONG, "string", "Where the container's output is kept"),
        list("log-opt", LONG, "list", "An option of the log driver"),
        text("runtime", LONG, "string", "OCI runtime of this container"),
        switch("disable-content-trust", LONG, "Accepted; images are verified by their digests"),
    ]
}

fn network() -> Vec<Arg> {
    vec![
        parsed_list(
            "network",
            LONG,
            "network",
            "Network to join: none, bridge, host, container:NAME, or a network's name; or name=NAME,alias=…,ip=…",
            networks::attachment,
        )
        .alias("net"),
        list("network-alias", LONG, "list", "Another name of the container on its network").alias("net-alias"),
        list("publish", 'p', "list", "Publish a port: [IP:][HOST:]CONTAINER[/PROTO], ranges allowed"),
        switch("publish-all", 'P', "Publish every exposed port on a port of the engine's choice"),
        list("expose", LONG, "list", "Expose a port or a range of ports"),
        parsed_list("dns", LONG, "list", "Resolver to ask", names::resolver),
        parsed_list("dns-search", LONG, "list", "Domain to search", names::search_domain),
        list("dns-option", LONG, "list", "Option for the resolver").alias("dns-opt"),
        parsed_list("add-host", LONG, "list", "Add a line to the hosts file (NAME:IP)", names::add_host),
        parsed_list("link", LONG, "list", super::LINK, names::link),
        parsed("ip", LONG, "string", "IPv4 address", names::ipv4),
        parsed("ip6", LONG, "string", "IPv6 address", names::ipv6),
        list("link-local-ip", LONG, "list", "Link-local address"),
        text("mac-address", LONG, "string", "Ethernet address"),
    ]
}

fn storage() -> Vec<Arg> {
    vec![
        list("volume", 'v', "list", "Bind a host path or a volume: [SOURCE:]TARGET[:OPTIONS]"),
        parsed_list("mount", LONG, "mount", "Mount something: type=bind|volume|tmpfs,source=…,target=…", mounts::mount),
        list("tmpfs", LONG, "list", "Mount a tmpfs: PATH[:OPTIONS]"),
        list("volumes-from", LONG, "list", "Mount the volumes of another container"),
        text("volume-driver", LONG, "string", "Driver of volumes made here"),
        switch("read-only", LONG, "Mount the root file system read-only"),
        list("storage-opt", LONG, "list", "Option of the storage driver"),
        parsed("shm-size", LONG, "bytes", "Size of /dev/shm", bytes),
    ]
}

fn resources() -> Vec<Arg> {
    vec![
        parsed("memory", 'm', "bytes", "Memory limit", bytes),
        parsed("memory-reservation", LONG, "bytes", "Soft memory limit", bytes),
        parsed("memory-swap", LONG, "bytes", "Limit of memory and swap together, -1 for none", memory_swap),
        parsed("memory-swappiness", LONG, "int", "How readily memory is swapped out, 0 to 100", int),
        parsed("kernel-memory", LONG, "bytes", "Accepted; kernels no longer have this limit", bytes),
        parsed("cpus", LONG, "decimal", "Number of CPUs", cpus),
        parsed("cpu-shares", 'c', "int", "Relative weight of CPU time", int),
        parsed("cpu-period", LONG, "int", "Period of the CPU quota in microseconds", int),
        parsed("cpu-quota", LONG, "int", "CPU quota in microseconds", int),
        parsed("cpu-rt-period", LONG, "int", "Period of the real-time quota in microseconds", int),
        parsed("cpu-rt-runtime", LONG, "int", "Real-time quota in microseconds", int),
        text("cpuset-cpus", LONG, "string", "CPUs to run on (0-3, 0,1)"),
        text("cpuset-mems", LONG, "string", "Memory nodes to use (0-3, 0,1)"),
        parsed("cpu-count", LONG, "int", "Number of CPUs (Windows only)", int),
        parsed("cpu-percent", LONG, "int", "CPU percent (Windows only)", int),
        parsed("pids-limit", LONG, "int", "Limit of processes, -1 for none", int),
        parsed_list("ulimit", LONG, "ulimit", "Limit of a process: NAME=SOFT[:HARD]", limits::ulimit),
        switch("oom-kill-disable", LONG, "Do not kill the container when memory runs out"),
        parsed("oom-score-adj", LONG, "int", "How likely it is killed when memory runs out, -1000 to 1000", int),
        parsed("blkio-weight", LONG, "uint16", "Relative weight of block IO, 10 to 1000, 0 for none", uint16),
        parsed_list(
            "blkio-weight-device",
            LONG,
            "list",
            "Weight of block IO on one device (PATH:WEIGHT)",
            devices::weight,
        ),
        parsed_list(
            "device-read-bps",
            LONG,
            "list",
            "Read rate of a device in bytes a second (PATH:SIZE)",
            devices::rate,
        ),
        parsed_list(
            "device-write-bps",
            LONG,
            "list",
            "Write rate of a device in bytes a second (PATH:SIZE)",
            devices::rate,
        ),
        parsed_list(
            "device-read-iops",
            LONG,
            "list",
            "Read rate of a device in operations a second (PATH:NUMBER)",
            devices::operations,
        ),
        parsed_list(
            "device-write-iops",
            LONG,
            "list",
            "Write rate of a device in operations a second (PATH:NUMBER)",
            devices::operations,
        ),
        parsed("io-maxbandwidth", LONG, "bytes", "Maximum IO bandwidth (Windows only)", bytes),
        parsed("io-maxiops", LONG, "uint", "Maximum IO operations (Windows only)", crate::literal::uint64),
    ]
}

fn isolation() -> Vec<Arg> {
    vec![
        switch("privileged", LONG, "Give the container all rights that the engine has"),
        list("cap-add", LONG, "list", "Add a capability"),
        list("cap-drop", LONG, "list", "Drop a capability"),
        list("security-opt", LONG, "list", "Security option: no-new-privileges, seccomp=FILE|unconfined, …"),
        parsed_list("sysctl", LONG, "map", "Set a sysctl of the container's namespaces", limits::sysctl),
        list("group-add", LONG, "list", "Additional group"),
        parsed_list("device", LONG, "list", "Add a device of the host (HOST[:CONTAINER[:rwm]])", Device::read),
        parsed_list(
            "device-cgroup-rule",
            LONG,
            "list",
            "Allow devices by a rule (TYPE MAJOR:MINOR MODES)",
            devices::cgroup_rule,
        ),
        parsed_list("gpus", LONG, "gpu-request", "GPUs to add, 'all' for all", devices::gpus),
        text("cgroup-parent", LONG, "string", "Parent cgroup of the container"),
        text("cgroupns", LONG, "string", "Cgroup namespace: host or private"),
        text("ipc", LONG, "string", "IPC namespace: none, private, shareable, host or container:NAME"),
        text("pid", LONG, "string", "PID namespace: host or container:NAME"),
        text("uts", LONG, "string", "UTS namespace: host"),
        text("userns", LONG, "string", "User namespace: host"),
        text("isolation", LONG, "string", "Isolation technology (Windows only)"),
        switch("use-api-socket", LONG, "Mount the engine's socket into the container"),
    ]
}

fn health() -> Vec<Arg> {
    vec![
        text("health-cmd", LONG, "string", "Command that checks the container's health"),
        parsed("health-interval", LONG, "duration", "Time between checks", signed_duration),
        parsed("health-retries", LONG, "int", "Failures in a row that make it unhealthy", int),
        parsed(
            "health-start-period",
            LONG,
            "duration",
            "Time the container gets before failures count",
            signed_duration,
        ),
        parsed("health-start-interval", LONG, "duration", "Time between checks in that period", signed_duration),
        parsed("health-timeout", LONG, "duration", "Longest time of one check", signed_duration),
        switch("no-healthcheck", LONG, "Do not check health, whatever the image says"),
    ]
}

/// A device as typed; it is read with the other devices, so that its refusals look like theirs.
#[derive(Clone, Debug)]
pub struct Device(pub String);

impl Device {
    fn read(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

fn annotation(text: &str) -> Result<(String, String), String> {
    Ok(crate::literal::pair(text))
}

/// Nanoseconds; negative ones are read, to be refused with the name of their flag.
fn signed_duration(text: &str) -> Result<i64, String> {
    let (sign, bare) = match text.strip_prefix('-') {
        Some(bare) => (-1, bare),
        None => (1, text),
    };
    let nanos = duration(bare).map_err(|why| if sign < 0 { why.replace(bare, text) } else { why })?.as_nanos();
    i64::try_from(nanos).map(|nanos| sign * nanos).map_err(|_| format!("time: invalid duration \"{text}\""))
}
