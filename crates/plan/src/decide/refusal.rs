//! What the caller did wrong, in the words that Docker's users know.

use crate::ids::{IfName, NetworkId, SandboxId};
use crate::world::Proto;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// A request that cannot be granted: the caller's doing. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such network.
    #[error("network {0} not found")]
    NoNetwork(String),
    /// No such sandbox.
    #[error("sandbox {} not found", .0.short())]
    NoSandbox(SandboxId),
    /// No such endpoint.
    #[error("endpoint {0} not found")]
    NoEndpoint(String),
    /// The id is in use.
    #[error("sandbox {} exists already", .0.short())]
    SandboxExists(SandboxId),
    /// A network needs a name.
    #[error("invalid name: name is empty")]
    NoName,
    /// The name is in use.
    #[error("network with name {0} already exists")]
    NetworkExists(String),
    /// Two networks want one bridge.
    #[error("conflicts with network {id} ({bridge}): networks have same bridge name")]
    SameBridge {
        /// The other network.
        id: NetworkId,
        /// The bridge.
        bridge: IfName,
    },
    /// The host has an interface of that name that is not ours.
    #[error(
        "interface {0} exists already and is not berth's: choose another bridge name, or give it to the daemon with --bridge"
    )]
    ForeignLink(IfName),
    /// `--bridge` names nothing.
    #[error("bridge device with non default name {0} must be created manually")]
    NoBridge(IfName),
    /// `--bridge` names a bridge without an address of a family that is wanted.
    #[error(
        "bridge {bridge} has no {family} address: give it one with `ip addr add`, for it is the containers' gateway"
    )]
    BareBridge {
        /// The bridge.
        bridge: IfName,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The network is in use.
    #[error("error while removing network: network {network} has active endpoints ({endpoints})")]
    ActiveEndpoints {
        /// Its name.
        network: String,
        /// Who is on it.
        endpoints: String,
    },
    /// Both families are off.
    #[error("IPv4 or IPv6 must be enabled")]
    NoFamily,
    /// A network with a way out cannot be apart from the host.
    #[error("gateway mode 'isolated' can only be used for an internal network")]
    IsolatedOutwards,
    /// No name of an interface begins so.
    #[error(
        "invalid interface name prefix {0:?}: with a number behind it, it must be an interface name of at most 15 bytes"
    )]
    Prefix(String),
    /// IPv6 is wanted where the kernel has none.
    #[error(
        "IPv6 is not available on this host: network {0} cannot have it (is the kernel started with ipv6.disable=1?)"
    )]
    NoIpv6(String),
    /// One subnet of each family is enough for a bridge.
    #[error("bridge driver doesn't support multiple subnets")]
    ManySubnets,
    /// The same of a network without a bridge.
    #[error("macvlan network {0}: more than one subnet of a family is not there")]
    ManySubnetsOfSegment(String),
    /// `lo` has no neighbours.
    #[error("loopback interface is not a valid macvlan parent link")]
    ParentLoopback,
    /// The parent is not there, and its name is not one of which a VLAN's sub-interface could be made.
    #[error(
        "invalid subinterface vlan name {0}, example formatting is eth0.10: the host has no interface of that name"
    )]
    ParentName(String),
    /// A VLAN's sub-interface is wanted of an interface that is not there.
    #[error("failed to find master interface {of} on the host, of which {name} would be a sub-interface")]
    ParentMissing {
        /// Asked for.
        name: String,
        /// Not there.
        of: String,
    },
    /// No VLAN has that number (IEEE 802.1Q).
    #[error("vlan id must be between 1-4094, received: {0}")]
    VlanId(String),
    /// The parent goes with another network.
    #[error("network {network} has made interface {parent}, which goes with it: use another parent, or that network")]
    ParentOfAnother {
        /// The other network.
        network: String,
        /// Asked for.
        parent: IfName,
    },
    /// Larger packets than the parent takes.
    #[error("invalid MTU {mtu} for network {network}: its parent {parent} takes at most {most} bytes")]
    MtuOfParent {
        /// Asked for.
        mtu: u32,
        /// For which.
        network: String,
        /// Its parent.
        parent: IfName,
        /// The parent's.
        most: u32,
    },
    /// Addresses of a network that do not fit each other.
    #[error("invalid network config:\n{}", listed(.0))]
    NetworkConfig(Vec<ConfigProblem>),
    /// The subnet is another network's too.
    #[error(
        "invalid pool request: Pool overlaps with other one on this address space ({subnet} overlaps {other} of network {network})"
    )]
    PoolOverlaps {
        /// Asked for.
        subnet: IpNet,
        /// In its way.
        other: IpNet,
        /// Whose.
        network: String,
    },
    /// Every subnet of the pools overlaps something.
    #[error("all predefined address pools have been fully subnetted")]
    NoSubnet,
    /// The gateway's address cannot be used.
    #[error("failed to allocate gateway ({addr}): Address already in use{hint}")]
    GatewayTaken {
        /// The address.
        addr: IpAddr,
        /// Why, and what would do.
        hint: String,
    },
    /// `--default-gateway` is not on the network.
    #[error("default gateway ip must be part of the network ({gateway} is not in {subnet})")]
    DefaultGateway {
        /// Asked for.
        gateway: IpAddr,
        /// The network's.
        subnet: IpNet,
    },
    /// `--fixed-cidr` is not a part of the bridge's subnet.
    #[error("add-any, range '{range}' is not in subnet '{subnet}'")]
    RangeOutside {
        /// Asked for.
        range: IpNet,
        /// The bridge's.
        subnet: IpNet,
    },
    /// `--bip` is no address with a prefix length.
    #[error("parse bip failed: invalid CIDR address: {value}{hint}")]
    Bip {
        /// As typed.
        value: String,
        /// What was probably meant.
        hint: String,
    },
    /// No packet fits.
    #[error("invalid MTU {mtu} for network {network}: it must be from {least} to 65535 bytes")]
    Mtu {
        /// Asked for.
        mtu: u32,
        /// For which.
        network: String,
        /// 68 (RFC 791), or 1280 with IPv6 (RFC 8200).
        least: u32,
    },
    /// Addresses of an endpoint that do not fit the network.
    #[error("invalid config for network {network}: invalid endpoint settings:\n{}", listed(.problems))]
    EndpointSettings {
        /// Which network.
        network: String,
        /// All that is wrong.
        problems: Vec<SettingsProblem>,
    },
    /// The container is on the network already.
    #[error("endpoint with name {name} already exists in network {network}")]
    AlreadyAttached {
        /// The container.
        name: String,
        /// The network.
        network: String,
    },
    /// The container has an interface of that name.
    #[error("the container has an interface {name} already, so that of network {network} cannot be called so")]
    InterfaceTaken {
        /// Asked for.
        name: IfName,
        /// For which network.
        network: String,
    },
    /// The wished address is somebody's, or nobody's to have.
    #[error("Address already in use ({addr} on network {network} {holder})")]
    AddressTaken {
        /// Asked for.
        addr: IpAddr,
        /// Where.
        network: String,
        /// `belongs to …`.
        holder: String,
    },
    /// The kernel gives a bridge no more ports.
    #[error(
        "bridge {bridge} of network {network} has all of the {ports} ports that a Linux bridge can have: stop a container of \
         it, or use another network"
    )]
    BridgeFull {
        /// The bridge.
        bridge: IfName,
        /// The network's name.
        network: String,
        /// How many a bridge can have.
        ports: usize,
    },
    /// All addresses are given out.
    #[error("no available {family} addresses on this network's address pools: {network} ({id})")]
    NoAddress {
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The network's name.
        network: String,
        /// Its id.
        id: NetworkId,
    },
    /// Not an Ethernet address that an interface can have.
    #[error("{0} is not a valid mac address")]
    Mac(String),
    /// Two endpoints of one bridge with one Ethernet address would steal each other's packets.
    #[error("MAC address {mac} is already in use on network {network} by `{holder}`")]
    MacTaken {
        /// Asked for.
        mac: crate::ids::Mac,
        /// Where.
        network: String,
        /// Who has it.
        holder: String,
    },
    /// Ports that are none.
    #[error("invalid port specification: {0:?}")]
    PortSpec(String),
    /// Ranges of different lengths.
    #[error("invalid ranges specified for container and host Ports: {inner} and {host}")]
    PortRanges {
        /// Inside.
        inner: String,
        /// On the host.
        host: String,
    },
    /// A host address of a family that the container does not have.
    #[error("cannot publish {spec}: the container has no {family} address on network {network}")]
    PortFamily {
        /// As `-p` would spell it.
        spec: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The network.
        network: String,
    },
    /// A host address from which only the engine's relay could lead to the container.
    #[error(
        "cannot publish {spec}: from that address the engine would have to relay it, which it does for TCP and UDP only; \
         publish it on an address of a family that the container has"
    )]
    PortNotRelayed {
        /// As `-p` would spell it.
        spec: String,
    },
    /// There are no rules to publish ports by.
    #[error(
        "cannot publish {spec}: the engine was started with --{}=false, and without firewall rules it has to relay what comes, \
         which it does for TCP and UDP only", if *.v6 { "ip6tables" } else { "iptables" }
    )]
    PortWithoutRules {
        /// As `-p` would spell it.
        spec: String,
        /// On an IPv6 address.
        v6: bool,
    },
    /// What a network asks for is done by rules, and there are none.
    #[error(
        "network {network} cannot {what}: the engine was started with --{}=false, and only its firewall rules can do that",
        if *.v6 { "ip6tables" } else { "iptables" }
    )]
    NetworkWithoutRules {
        /// The network.
        network: String,
        /// What is asked for.
        what: &'static str,
        /// Of its IPv6 addresses.
        v6: bool,
    },
    /// Another container has the port.
    #[error(
        "driver failed programming external connectivity on endpoint {name} ({endpoint}): Bind for {addr} failed: \
         port is already allocated (by `{holder}`)"
    )]
    PortTaken {
        /// The container that wants it.
        name: String,
        /// Its endpoint's id.
        endpoint: String,
        /// Address and port.
        addr: std::net::SocketAddr,
        /// The container that has it.
        holder: String,
    },
    /// The port cannot be bound on the host: a program has it, or the address is not the host's.
    #[error(
        "driver failed programming external connectivity on endpoint {name} ({endpoint}): failed to bind host port \
         {addr}/{}: {why}", proto.name()
    )]
    PortBusy {
        /// The container that wants it.
        name: String,
        /// Its endpoint's id.
        endpoint: String,
        /// Address and port.
        addr: std::net::SocketAddr,
        /// Of which protocol.
        proto: Proto,
        /// Why not.
        why: crate::ports::Unbound,
    },
    /// Nothing is published from a network without a way out.
    #[error("network {network} is internal: ports of its containers cannot be published")]
    PortInternal {
        /// The network.
        network: String,
    },
    /// What comes to a network without a bridge does not pass the host.
    #[error(
        "network {network} has no bridge of this host's, so that nothing is published there: its containers are reached at their \
         own addresses"
    )]
    PortOfSegment {
        /// The network.
        network: String,
    },
    /// The network has no ports of the host, and the wish is for one that only the host itself reaches.
    #[error(
        "cannot publish {spec}: network {network} is routed, so that ports are open at the container's own address and not at \
         one of the host: publish it without an address of the host, or not at all, for the host reaches it anyway"
    )]
    PortRouted {
        /// As `-p` would spell it.
        spec: String,
        /// The network.
        network: String,
    },
    /// A port that is to go and is not there.
    #[error("no public port '{port}' published for {name}")]
    NotPublished {
        /// Number and protocol inside.
        port: String,
        /// The container.
        name: String,
    },
    /// No port of the range is free.
    #[error("all ports are allocated (from {from} to {to}/{})", proto.name())]
    NoPort {
        /// The first.
        from: u16,
        /// The last.
        to: u16,
        /// Of which protocol.
        proto: Proto,
    },
}

/// Something wrong with the addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// Host bits in a block of addresses.
    #[error("invalid {what} {net}: it should be {}", net.trunc())]
    HostBits {
        /// `subnet` or `ip-range`.
        what: &'static str,
        /// As asked.
        net: IpNet,
    },
    /// The range is not inside.
    #[error("invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range")]
    RangeOutside {
        /// The range.
        range: IpNet,
        /// The subnet.
        subnet: IpNet,
    },
    /// The range is bigger.
    #[error("invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}")]
    RangeBigger {
        /// The range.
        range: IpNet,
        /// The subnet.
        subnet: IpNet,
    },
    /// The address is not inside.
    #[error("invalid {what}: parent subnet {subnet} doesn't contain this address")]
    Outside {
        /// `gateway X` or `auxiliary address NAME: X`.
        what: String,
        /// The subnet.
        subnet: IpNet,
    },
    /// The address is of the other family.
    #[error("invalid {what}: parent subnet is an {family} block")]
    Family {
        /// `gateway X`, `ip-range X` or `auxiliary address NAME: X`.
        what: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// An address without a subnet around it.
    #[error("invalid {what}: it needs a subnet")]
    NoSubnet {
        /// `gateway X`, `ip-range X` or `auxiliary address NAME: X`.
        what: String,
    },
}

/// Something wrong with the addresses that an endpoint asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsProblem {
    /// The default bridge chooses by itself.
    #[error("user-specified IP address is supported on user-defined networks only")]
    DefaultBridge,
    /// No subnet has it.
    #[error("no configured subnet contains IP address {0}")]
    Outside(IpAddr),
    /// Not an IPv4 address.
    #[error("invalid IPv4 address: {0}")]
    NotIpv4(String),
    /// Not an IPv6 address.
    #[error("invalid IPv6 address: {0}")]
    NotIpv6(String),
    /// Not an address, or none of 169.254.0.0/16 and fe80::/10.
    #[error("invalid link-local IP address: {0}")]
    NotLinkLocal(String),
    /// A link-local address of a family that the network does not have.
    #[error("invalid link-local IP address: {addr}: the network has no {}", if .addr.is_ipv4() { "IPv4" } else { "IPv6" })]
    NoFamily {
        /// The address.
        addr: IpAddr,
    },
}

/// One problem as it is, several as a list with a star before each.
fn listed<T: fmt::Display>(problems: &[T]) -> String {
    match problems {
        [one] => one.to_string(),
        many => many.iter().map(|problem| format!("* {problem}")).collect::<Vec<_>>().join("\n"),
    }
}

/// What kind of refusal it is; the HTTP door makes a status of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is there already, or in use.
    Conflict,
    /// What is named is not there.
    NotFound,
    /// The request cannot be right, whatever the state.
    Invalid,
    /// Right in form, and not allowed as things are.
    Forbidden,
    /// Nothing is left of what is given out.
    Exhausted,
    /// A part of the host is somebody else's. Docker answers this as it answers faults.
    Held,
}

impl Refusal {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        use Refusal::*;
        match self {
            NoNetwork(_) | NoSandbox(_) | NoEndpoint(_) | NoBridge(_) | NotPublished { .. } => Kind::NotFound,
            SandboxExists(_) | NetworkExists(_) | MacTaken { .. } | InterfaceTaken { .. } => Kind::Conflict,
            PortTaken { .. } | PortBusy { .. } => Kind::Held,
            SameBridge { .. }
            | ForeignLink(_)
            | ActiveEndpoints { .. }
            | PortInternal { .. }
            | PortOfSegment { .. }
            | ParentOfAnother { .. }
            | PoolOverlaps { .. }
            | GatewayTaken { .. }
            | AlreadyAttached { .. }
            | AddressTaken { .. } => Kind::Forbidden,
            NoSubnet | NoAddress { .. } | BridgeFull { .. } | NoPort { .. } => Kind::Exhausted,
            NoName
            | BareBridge { .. }
            | NoFamily
            | IsolatedOutwards
            | Prefix(_)
            | NoIpv6(_)
            | ManySubnets
            | ManySubnetsOfSegment(_)
            | ParentLoopback
            | ParentName(_)
            | ParentMissing { .. }
            | VlanId(_)
            | MtuOfParent { .. }
            | NetworkConfig(_)
            | DefaultGateway { .. }
            | RangeOutside { .. }
            | Bip { .. }
            | Mtu { .. }
            | EndpointSettings { .. }
            | Mac(_)
            | PortSpec(_)
            | PortRanges { .. }
            | PortFamily { .. }
            | PortRouted { .. }
            | PortNotRelayed { .. }
            | PortWithoutRules { .. }
            | NetworkWithoutRules { .. } => Kind::Invalid,
        }
    }
}
