//! Everything that `dockerd` 28 and 29 can be told, and what becomes of it here. One row a thing: its flag, its key in
//! `daemon.json`, the shape of its value, and its fate. Nothing outside this table is accepted.

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One text.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`; a flag without a value is `true`.
    Switch,
    /// Texts; the flag is repeated.
    List,
    /// `NAME=VALUE`; the flag is repeated, the file has an object.
    Map,
    /// An object or a list of objects: in the file only, or spelled in the flag's own way.
    Object,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does what it says.
    Used,
    /// Accepted with one line of warning: this is why it has no meaning here.
    Moot(&'static str),
    /// Refused: silently going without it would be dangerous or a surprise. This is the sentence.
    Absent(&'static str),
}

/// One thing that can be told.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The long flag without dashes; empty: none.
    pub flag: &'static str,
    /// The short flag.
    pub short: Option<char>,
    /// The key in `daemon.json`; empty: none.
    pub key: &'static str,
    /// Its value.
    pub shape: Shape,
    /// What becomes of it.
    pub fate: Fate,
    /// The default, as `--help` shows it; empty: none.
    pub default: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
}

impl Row {
    /// By what a value of this row is known among the others: the key, or the flag of what has no key.
    pub fn name(&self) -> &'static str {
        if self.key.is_empty() { self.flag } else { self.key }
    }
}

use Fate::{Absent, Moot, Used};
use Shape::{List, Map, Number, Object, Switch, Text};

const fn row(
    flag: &'static str,
    key: &'static str,
    shape: Shape,
    fate: Fate,
    default: &'static str,
    help: &'static str,
) -> Row {
    Row { flag, short: None, key, shape, fate, default, help }
}

const fn short(short: char, row: Row) -> Row {
    Row { short: Some(short), ..row }
}

const SWARM: Fate = Moot("berth has no swarm");
const CONTAINERD: Fate = Moot("berth needs no containerd");
const TLS: Fate = Absent("berth listens on unix sockets only, where the file's mode and group decide who may connect");
const PROXY: Fate = Absent(
    "berth reaches registries directly or by the variables HTTP_PROXY, HTTPS_PROXY and NO_PROXY of its environment; set those",
);

/// The table, by the flag's name.
pub const ROWS: &[Row] = &[
    row("add-runtime", "runtimes", Object, Used, "", "Register another OCI runtime, NAME=PATH"),
    row(
        "allow-direct-routing",
        "allow-direct-routing",
        Switch,
        Absent("routed access to containers' own addresses is not there yet; publish a port instead"),
        "false",
        "Let other hosts reach published ports at the container's own address",
    ),
    row(
        "authorization-plugin",
        "authorization-plugins",
        List,
        Absent("berth has no authorization plugins; going without one would let everybody do everything"),
        "",
        "Authorization plugins",
    ),
    row("bip", "bip", Text, Used, "", "Address and prefix of the default bridge"),
    row("bip6", "bip6", Text, Used, "", "IPv6 address and prefix of the default bridge"),
    short(
        'b',
        row(
            "bridge",
            "bridge",
            Text,
            Used,
            "berth0",
            "Attach containers to this bridge, made by hand; 'none' for no default bridge",
        ),
    ),
    row(
        "bridge-accept-fwmark",
        "bridge-accept-fwmark",
        Text,
        Absent("accepting packets by mark is not there yet"),
        "",
        "Accept packets with this firewall mark on bridges",
    ),
    row("", "builder", Object, Moot("berth does not build images"), "", ""),
    row(
        "cdi-spec-dir",
        "cdi-spec-dirs",
        List,
        Moot("berth has no CDI devices"),
        "",
        "Directories of CDI specifications",
    ),
    row("cgroup-parent", "cgroup-parent", Text, Used, "berth", "Cgroup below which containers' cgroups are made"),
    row("config-file", "", Text, Used, "/etc/berth/daemon.json", "Configuration file"),
    row("containerd", "containerd", Text, CONTAINERD, "", "containerd socket"),
    row("containerd-namespace", "containerd-namespace", Text, CONTAINERD, "", "containerd namespace"),
    row(
        "containerd-plugins-namespace",
        "containerd-plugin-namespace",
        Text,
        CONTAINERD,
        "",
        "containerd namespace for plugins",
    ),
    row(
        "cpu-rt-period",
        "cpu-rt-period",
        Number,
        Absent("a real-time budget for all containers together is not there; give --cpu-rt-period to each"),
        "0",
        "Period of the real-time scheduler for the parent cgroup, in microseconds",
    ),
    row(
        "cpu-rt-runtime",
        "cpu-rt-runtime",
        Number,
        Absent("a real-time budget for all containers together is not there; give --cpu-rt-runtime to each"),
        "0",
        "Run time of the real-time scheduler for the parent cgroup, in microseconds",
    ),
    row("data-root", "data-root", Text, Used, "/var/lib/berth", "State directory"),
    short('D', row("debug", "debug", Switch, Used, "false", "Log more")),
    row(
        "default-address-pool",
        "default-address-pools",
        Object,
        Used,
        "",
        "Addresses for networks, base=CIDR,size=BITS",
    ),
    row(
        "default-cgroupns-mode",
        "default-cgroupns-mode",
        Text,
        Used,
        "private",
        "Default of --cgroupns: host or private",
    ),
    row("default-gateway", "default-gateway", Text, Used, "", "Default route of containers on the default bridge"),
    row("default-gateway-v6", "default-gateway-v6", Text, Used, "", "The same for IPv6"),
    row("default-ipc-mode", "default-ipc-mode", Text, Used, "private", "Default of --ipc: shareable or private"),
    row(
        "default-network-opt",
        "default-network-opts",
        Object,
        Absent("user-defined networks are not there yet"),
        "",
        "Default options of networks, DRIVER=KEY=VALUE",
    ),
    row("default-runtime", "default-runtime", Text, Used, "berth-runtime", "OCI runtime of containers that name none"),
    row("default-shm-size", "default-shm-size", Text, Used, "64MiB", "Size of /dev/shm"),
    row("default-ulimit", "default-ulimits", Object, Used, "", "Default limits, NAME=SOFT[:HARD]"),
    row("dns", "dns", List, Used, "", "DNS servers of containers"),
    row("dns-opt", "dns-opts", List, Used, "", "DNS options of containers"),
    row("dns-search", "dns-search", List, Used, "", "DNS search domains of containers"),
    row("exec-opt", "exec-opts", List, Used, "", "Runtime options; native.cgroupdriver=cgroupfs"),
    row("exec-root", "exec-root", Text, Used, "/run/berth", "Run directory"),
    row(
        "experimental",
        "experimental",
        Switch,
        Moot("berth has no experimental features to switch on"),
        "false",
        "Experimental features",
    ),
    row(
        "feature",
        "features",
        Map,
        Moot("Docker's features are no switches of berth"),
        "",
        "Docker's feature switches",
    ),
    row("firewall-backend", "firewall-backend", Text, Used, "nftables", "Always nftables"),
    row(
        "fixed-cidr",
        "fixed-cidr",
        Text,
        Used,
        "",
        "Part of the default bridge's subnet from which containers get addresses",
    ),
    row("fixed-cidr-v6", "fixed-cidr-v6", Text, Used, "", "The same for IPv6"),
    short('G', row("group", "group", Text, Used, "", "Group of the socket; root if not given")),
    short('H', row("host", "hosts", List, Used, "unix:///run/berth/berth.sock", "Socket to listen on, unix://PATH")),
    row("host-gateway-ip", "host-gateway-ips", List, Used, "", "What 'host-gateway' stands for in --add-host"),
    row("http-proxy", "http-proxy", Text, PROXY, "", "Proxy for http"),
    row("https-proxy", "https-proxy", Text, PROXY, "", "Proxy for https"),
    row("icc", "icc", Switch, Used, "true", "Containers of the default bridge reach each other"),
    row("init", "init", Switch, Used, "false", "Run a small init in every container"),
    row("init-path", "init-path", Text, Moot("berth's init is built in"), "", "Program of --init"),
    row(
        "insecure-registry",
        "insecure-registries",
        List,
        Used,
        "",
        "Registries that may be spoken to without TLS: HOST[:PORT] or CIDR",
    ),
    row("ip", "ip", Text, Used, "0.0.0.0", "Host address of published ports that name none"),
    row("ip-forward", "ip-forward", Switch, Used, "true", "Turn on the kernel's forwarding where it is needed"),
    row(
        "ip-forward-no-drop",
        "ip-forward-no-drop",
        Switch,
        Moot("berth never changes a global firewall policy"),
        "false",
        "Do not drop forwarded packets",
    ),
    row("ip-masq", "ip-masq", Switch, Used, "true", "Containers' traffic leaves with the host's address"),
    row("ip6tables", "ip6tables", Switch, Used, "true", "Firewall rules for IPv6"),
    row("iptables", "iptables", Switch, Used, "true", "Firewall rules"),
    row("ipv6", "ipv6", Switch, Used, "false", "IPv6 on the default bridge"),
    row("label", "labels", List, Used, "", "Labels of this engine, KEY=VALUE"),
    row(
        "link-env",
        "link-env",
        Text,
        Used,
        "full",
        "What links tell by variables: full (with the target's own), ports, or off",
    ),
    row(
        "live-restore",
        "live-restore",
        Switch,
        Moot("containers always live on while the engine is down"),
        "true",
        "Containers live on while the engine is down",
    ),
    row("log-driver", "log-driver", Text, Used, "json-file", "Default log driver: json-file, local or none"),
    row("log-format", "log-format", Text, Used, "text", "Form of the engine's own log: text or json"),
    short('l', row("log-level", "log-level", Text, Used, "info", "trace, debug, info, warn, error or fatal")),
    row("log-opt", "log-opts", Map, Used, "", "Default options of the log driver, KEY=VALUE"),
    row(
        "max-concurrent-downloads",
        "max-concurrent-downloads",
        Number,
        Used,
        "3",
        "Layers that one pull fetches at a time",
    ),
    row(
        "max-concurrent-uploads",
        "max-concurrent-uploads",
        Number,
        Moot("layers are pushed one after another"),
        "5",
        "Layers that one push sends at a time",
    ),
    row(
        "max-download-attempts",
        "max-download-attempts",
        Number,
        Moot("what fails is tried again by its kind, not by a count"),
        "5",
        "Attempts for each layer",
    ),
    row(
        "metrics-addr",
        "metrics-addr",
        Text,
        Absent("berth serves no metrics yet"),
        "",
        "Address of the metrics server",
    ),
    row("mtu", "mtu", Number, Used, "the default route's", "MTU of the default bridge and its containers"),
    row(
        "network-control-plane-mtu",
        "network-control-plane-mtu",
        Number,
        SWARM,
        "1500",
        "MTU of the swarm's control plane",
    ),
    row(
        "network-diagnostic-port",
        "network-diagnostic-port",
        Number,
        SWARM,
        "0",
        "Port of the swarm's network diagnostics",
    ),
    row("no-new-privileges", "no-new-privileges", Switch, Used, "false", "Default of --security-opt no-new-privileges"),
    row("no-proxy", "no-proxy", Text, PROXY, "", "Hosts without proxy"),
    row("node-generic-resource", "node-generic-resources", List, SWARM, "", "Resources advertised to a swarm"),
    short('p', row("pidfile", "pidfile", Text, Used, "", "File with the engine's process id")),
    row("", "proxies", Object, PROXY, "", ""),
    row("raw-logs", "raw-logs", Switch, Used, "false", "No colours in the engine's own log"),
    row(
        "registry-mirror",
        "registry-mirrors",
        List,
        Moot("mirrors are not asked yet; images come from their own registry"),
        "",
        "Mirror of Docker Hub, a URL",
    ),
    row("rootless", "", Switch, Absent("running without root is not there yet"), "false", "Run without root"),
    row(
        "seccomp-profile",
        "seccomp-profile",
        Text,
        Used,
        "builtin",
        "System call filter: builtin, unconfined or a file",
    ),
    row(
        "selinux-enabled",
        "selinux-enabled",
        Switch,
        Absent("berth does not label containers for SELinux"),
        "false",
        "SELinux labels",
    ),
    row(
        "shutdown-timeout",
        "shutdown-timeout",
        Number,
        Moot("containers live on while the engine is down, so its end waits for none"),
        "15",
        "Seconds for containers to stop in",
    ),
    short(
        's',
        row("storage-driver", "storage-driver", Text, Moot("berth always uses overlayfs"), "", "Storage driver"),
    ),
    row("storage-opt", "storage-opts", List, Moot("berth's storage has no options"), "", "Storage options"),
    row(
        "swarm-default-advertise-addr",
        "swarm-default-advertise-addr",
        Text,
        SWARM,
        "",
        "Address advertised to a swarm",
    ),
    row("tls", "tls", Switch, TLS, "false", "TLS"),
    row("tlscacert", "tlscacert", Text, TLS, "", "TLS: certificate authority"),
    row("tlscert", "tlscert", Text, TLS, "", "TLS: certificate"),
    row("tlskey", "tlskey", Text, TLS, "", "TLS: key"),
    row("tlsverify", "tlsverify", Switch, TLS, "false", "TLS: verify the client"),
    row(
        "userland-proxy",
        "userland-proxy",
        Switch,
        Moot("berth publishes ports in the kernel and runs no proxies"),
        "false",
        "Proxy processes for published ports",
    ),
    row(
        "userland-proxy-path",
        "userland-proxy-path",
        Text,
        Moot("berth publishes ports in the kernel and runs no proxies"),
        "",
        "Program of the proxy",
    ),
    row(
        "userns-remap",
        "userns-remap",
        Text,
        Absent("user namespaces are not there yet: a container's root would be the host's"),
        "",
        "User and group for user namespaces",
    ),
    row("validate", "", Switch, Used, "false", "Check the configuration and end"),
];

/// The row of a key of `daemon.json`.
pub fn by_key(key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.key == key && !key.is_empty())
}
