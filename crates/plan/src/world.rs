//! The recorded facts: what users asked for and what was chosen for them.
//!
//! Both address families from the first day. Every value here was decided (`decide`) and recorded before the first
//! system call that depends on it, so that a retry does the same thing again.

use crate::ids::{ContainerId, EndpointId, IfName, Mac, NetworkId, SandboxId};
use crate::netstate::IpFamily;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All facts about the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct World {
    /// Networks by id.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Sandboxes by id.
    pub sandboxes: BTreeMap<SandboxId, Sandbox>,
    /// Endpoints by id.
    pub endpoints: BTreeMap<EndpointId, Endpoint>,
    /// Addresses that were given back and rest before they are given out again.
    pub resting: BTreeMap<NetworkId, BTreeMap<IpAddr, Rest>>,
    /// What the engine may use of the host.
    #[serde(default)]
    pub means: Means,
    /// The port of the host on which the engine relays what reaches a published port by IPv6 and cannot be forwarded by the
    /// kernel; `None` where it relays nothing.
    #[serde(default)]
    pub relay: Option<u16>,
}

/// What the engine may use of the host: told at its start, and the same until its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Means {
    /// The firewall for IPv4 (`--iptables`).
    pub firewall4: bool,
    /// The firewall for IPv6 (`--ip6tables`).
    pub firewall6: bool,
    /// Forwarding is switched on where it is needed (`--ip-forward`).
    pub forward: bool,
}

impl Default for Means {
    /// All of it.
    fn default() -> Self {
        Means { firewall4: true, firewall6: true, forward: true }
    }
}

impl Means {
    /// The firewall for a family.
    pub fn firewall(&self, family: IpFamily) -> bool {
        match family {
            IpFamily::V4 => self.firewall4,
            IpFamily::V6 => self.firewall6,
        }
    }
}

/// A freed address at rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// When it was freed, in seconds of the caller's clock.
    pub since: u64,
    /// Who had it: that one may have it back at once.
    pub container: ContainerId,
}

/// A network of containers. (`none` and `host` are no facts of the network: such containers have no endpoint.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// By what its containers are joined.
    #[serde(default)]
    pub joint: Joint,
    /// The bridge device; of a network without a bridge, the interface whose segment its containers are on.
    pub bridge: IfName,
    /// The bridge was made by hand: it is used, and never made, changed or deleted.
    pub foreign_bridge: bool,
    /// The bridge's Ethernet address; nobody's, where there is no bridge.
    pub mac: Mac,
    /// IPv4, if on.
    pub v4: Option<Subnet<Ipv4Net, Ipv4Addr>>,
    /// IPv6, if on.
    pub v6: Option<Subnet<Ipv6Net, Ipv6Addr>>,
    /// In bytes.
    pub mtu: u32,
    /// Containers of this network reach each other.
    pub icc: bool,
    /// Traffic to other places leaves with the host's address.
    pub masquerade: bool,
    /// No way out and none in.
    pub internal: bool,
    /// The host's address of published ports that name none; `None` is every one.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    /// The bridge itself has no IPv4 address: another machine has the gateway's.
    #[serde(default)]
    pub unnumbered: bool,
    /// Interfaces of the host from which all ports of its containers are reached.
    #[serde(default)]
    pub trusted: BTreeSet<IfName>,
    /// What containers' interfaces are called, before a number; `None` is `eth`.
    #[serde(default)]
    pub prefix: Option<String>,
    /// What decides nothing.
    #[serde(default)]
    pub about: About,
}

/// By what the containers of a network are joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Joint {
    /// A bridge of the host's, which routes between it and other places.
    #[default]
    Bridge,
    /// They are stations of the segment of an interface, the parent, as the host is one. What they send does not pass the
    /// host's rules, and the two do not reach each other (Linux, drivers/net/macvlan.c).
    Macvlan {
        /// How they are with each other.
        mode: MacvlanMode,
        /// Where the parent comes from.
        parent: Parent,
    },
}

/// How containers of one parent are with each other (`IFLA_MACVLAN_MODE`, linux/if_link.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MacvlanMode {
    /// They reach each other directly.
    #[default]
    Bridge,
    /// They do not reach each other.
    Private,
    /// They reach each other by a switch that sends frames back to where they came from (IEEE 802.1Qbg).
    Vepa,
}

/// Where the parent of a network without a bridge comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parent {
    /// It is the host's: never made, changed or deleted.
    Hosts,
    /// It was made for the network, and goes with it: a VLAN of an interface of the host's (IEEE 802.1Q).
    Vlan {
        /// That interface.
        of: IfName,
        /// The VLAN, 1 to 4094.
        id: u16,
    },
    /// There is none: a bridge of the host's joins them, to which nobody else belongs. (An interface that leads nowhere would do as
    /// well, but what comes from a bridge is looked at.)
    Nowhere,
}

impl Network {
    /// What joins its containers, in the kernel's word.
    pub fn driver(&self) -> &'static str {
        match self.joint {
            Joint::Bridge => "bridge",
            Joint::Macvlan { .. } => "macvlan",
        }
    }

    /// Its containers are joined by a bridge of the host's.
    pub fn has_bridge(&self) -> bool {
        matches!(self.joint, Joint::Bridge | Joint::Macvlan { parent: Parent::Nowhere, .. })
    }
}

/// What people noted of a network, for whoever lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// When it was made, in nanoseconds of the caller's clock.
    pub created: u64,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--opt`, as it was asked for.
    pub options: BTreeMap<String, String>,
    /// `--ipam-opt`
    pub ipam_options: BTreeMap<String, String>,
    /// `--attachable`
    pub attachable: bool,
}

/// One family's addresses of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet<N, A> {
    /// All of it.
    pub net: N,
    /// The part from which addresses are chosen (`--fixed-cidr`, `--ip-range`); inside `net`.
    pub range: N,
    /// The bridge's own address.
    pub gateway: A,
    /// The next hop that containers are told, where it is not the bridge (`--default-gateway`).
    pub default_gateway: Option<A>,
    /// Addresses that are never given out, by name (`--aux-address`).
    pub reserved: BTreeMap<String, A>,
    /// How its packets get out and others in.
    #[serde(default = "GatewayMode::default")]
    pub mode: GatewayMode,
    /// The host's address with which packets leave (`host_ipv4`); `None` is that of the way that they take.
    pub source: Option<A>,
}

impl<N: Copy, A> Subnet<N, A> {
    /// All addresses of a block, and a gateway.
    pub fn new(net: N, gateway: A) -> Subnet<N, A> {
        let (default_gateway, reserved) = (None, BTreeMap::new());
        Subnet { net, range: net, gateway, default_gateway, reserved, mode: GatewayMode::Nat, source: None }
    }
}

/// How one family's packets get out of a network, and others in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GatewayMode {
    /// They leave with the host's address, and only published ports are reached, by the host's address.
    #[default]
    Nat,
    /// The same; and whoever has a route to containers' own addresses reaches all of their ports.
    NatUnprotected,
    /// They leave as they are; who has a route to containers' own addresses reaches the ports that are published.
    Routed,
    /// The bridge has no address, so not even the host reaches them, nor they it. Of internal networks only.
    Isolated,
    /// They leave as they are, by a router that is a neighbour of theirs; the host has no part in it. Of networks without a
    /// bridge only.
    Segment,
}

impl GatewayMode {
    /// Ports are published at the host's addresses.
    pub fn translates(self) -> bool {
        matches!(self, GatewayMode::Nat | GatewayMode::NatUnprotected)
    }
}

/// A pinned network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// The container that it was made for.
    pub container: ContainerId,
    /// What that container is linked to, in the order in which it was asked for.
    #[serde(default)]
    pub linked: Vec<Linked>,
}

/// The far side of a link (`--link TARGET:ALIAS`): another container, known by its id, for it may have another address after
/// each of its starts, and none between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Linked {
    /// The network on which the two are.
    pub network: NetworkId,
    /// The target.
    pub target: ContainerId,
    /// The target's name, for people.
    pub name: String,
    /// What the source calls it.
    pub alias: String,
    /// The ports that the target exposes.
    pub ports: BTreeSet<(Proto, u16)>,
}

/// A sandbox's place on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkId,
    /// The sandbox.
    pub sandbox: SandboxId,
    /// The container, for people: it stands in the reasons.
    pub container_name: String,
    /// The interface's name inside.
    pub inner: IfName,
    /// The interface's name outside.
    pub host: IfName,
    /// The Ethernet address inside.
    pub mac: Mac,
    /// IPv4.
    pub addr4: Option<Ipv4Addr>,
    /// IPv6.
    pub addr6: Option<Ipv6Addr>,
    /// Further addresses of its own link (`--link-local-ip`), of 169.254.0.0/16 and fe80::/64.
    #[serde(default)]
    pub link_local: BTreeSet<IpAddr>,
    /// Settings of its interface, as `netstate::Link::sysctls` has them.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// The sandbox's default routes go this way.
    pub gateway: bool,
    /// Only the default route of IPv4 does: the one of IPv6 goes by an endpoint without IPv4.
    #[serde(default)]
    pub gateway4: bool,
    /// Only the default route of IPv6 does: the one of IPv4 goes by an endpoint without IPv6.
    #[serde(default)]
    pub gateway6: bool,
    /// Among the endpoints of a sandbox, the one with the highest leads out.
    #[serde(default)]
    pub priority: i64,
    /// By which names containers of the network find it; none where there is no such service.
    #[serde(default)]
    pub names: Vec<String>,
    /// Published ports.
    pub ports: Vec<PortBinding>,
    /// Ports that are published at its own address, where that is routed.
    #[serde(default)]
    pub opened: BTreeSet<Opened>,
}

/// A port, or a range of them, that is published at the container's own address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Opened {
    /// The transport protocol.
    pub proto: Proto,
    /// Of IPv6.
    pub v6: bool,
    /// The first.
    pub port: u16,
    /// How many; at least 1.
    pub count: u16,
}

/// A published port, or a range of them; resolved: the host's port is never "any".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortBinding {
    /// The transport protocol.
    pub proto: Proto,
    /// The host's address; unspecified (`0.0.0.0`, `::`) is every one of its family.
    pub host_ip: IpAddr,
    /// The first port on the host.
    pub host_port: u16,
    /// The first port inside.
    pub inner_port: u16,
    /// How many; at least 1.
    pub count: u16,
}

/// A transport protocol that ports can be published of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// 6
    Tcp,
    /// 17
    Udp,
    /// 132
    Sctp,
}

impl Proto {
    /// The protocol's number (IANA).
    pub fn number(self) -> u8 {
        match self {
            Proto::Tcp => 6,
            Proto::Udp => 17,
            Proto::Sctp => 132,
        }
    }

    /// `tcp`, `udp`, `sctp`.
    pub fn name(self) -> &'static str {
        match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
            Proto::Sctp => "sctp",
        }
    }
}

/// One change of the facts. A request's answer is a list of these, taken over together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// A network is there, in this form.
    Network(Network),
    /// A network is gone.
    NoNetwork(NetworkId),
    /// A sandbox is there.
    Sandbox(Sandbox),
    /// A sandbox is gone.
    NoSandbox(SandboxId),
    /// An endpoint is there, in this form.
    Endpoint(Endpoint),
    /// An endpoint is gone; its addresses rest from now (seconds of the caller's clock).
    NoEndpoint(EndpointId, u64),
    /// An address need not rest any longer.
    Rested(NetworkId, IpAddr),
    /// The engine relays on this port, or does not.
    Relay(Option<u16>),
}

/// Facts that change together.
pub type Change = Vec<Fact>;

impl World {
    /// Take over a change. Facts are upserts and removals by id, so taking one over twice is the same as once.
    pub fn take(&mut self, change: &Change) {
        for fact in change {
            self.take_one(fact);
        }
    }

    /// Take over one fact of a change.
    pub(crate) fn take_one(&mut self, fact: &Fact) {
        match fact {
            Fact::Network(network) => {
                self.networks.insert(network.id.clone(), network.clone());
            }
            Fact::NoNetwork(id) => {
                self.networks.remove(id);
                self.resting.remove(id);
            }
            Fact::Sandbox(sandbox) => {
                self.sandboxes.insert(sandbox.id.clone(), sandbox.clone());
            }
            Fact::NoSandbox(id) => {
                self.sandboxes.remove(id);
            }
            Fact::Endpoint(endpoint) => {
                for addr in endpoint.addrs() {
                    self.wake(&endpoint.network, addr);
                }
                self.endpoints.insert(endpoint.id.clone(), endpoint.clone());
            }
            Fact::NoEndpoint(id, now) => {
                let Some(gone) = self.endpoints.remove(id) else { return };
                let Some(sandbox) = self.sandboxes.get(&gone.sandbox) else { return };
                let rest = Rest { since: *now, container: sandbox.container.clone() };
                let resting = self.resting.entry(gone.network.clone()).or_default();
                resting.extend(gone.addrs().map(|addr| (addr, rest.clone())));
            }
            Fact::Rested(network, addr) => {
                self.wake(network, *addr);
            }
            Fact::Relay(port) => self.relay = *port,
        }
    }

    fn wake(&mut self, network: &NetworkId, addr: IpAddr) {
        if let Some(resting) = self.resting.get_mut(network) {
            resting.remove(&addr);
            if resting.is_empty() {
                self.resting.remove(network);
            }
        }
    }

    /// The endpoints of a sandbox, in the order of their interface names.
    pub fn endpoints_of<'a>(&'a self, sandbox: &'a SandboxId) -> impl Iterator<Item = &'a Endpoint> {
        let mut of: Vec<&Endpoint> = self.endpoints.values().filter(|e| &e.sandbox == sandbox).collect();
        of.sort_by(|a, b| (a.inner.as_str().len(), &a.inner).cmp(&(b.inner.as_str().len(), &b.inner)));
        of.into_iter()
    }

    /// Where a container is on a network: at one place, or nowhere.
    pub fn places_of<'a>(
        &'a self,
        container: &'a ContainerId,
        network: &'a NetworkId,
    ) -> impl Iterator<Item = &'a Endpoint> {
        let sandboxes = self.sandboxes.values().filter(move |sandbox| &sandbox.container == container);
        sandboxes.flat_map(move |sandbox| {
            self.endpoints.values().filter(move |e| e.sandbox == sandbox.id && &e.network == network)
        })
    }

    /// What comes by IPv6 can be led to a container without it. Where there are no rules, the sockets of the ports themselves are
    /// relayed.
    pub fn relays(&self) -> bool {
        self.relay.is_some() || !self.means.firewall6
    }

    /// A network by its name.
    pub fn network_named(&self, name: &str) -> Option<&Network> {
        self.networks.values().find(|n| n.name == name)
    }
}

impl Sandbox {
    /// A sandbox whose container is linked to nothing.
    pub fn new(id: SandboxId, container: ContainerId) -> Sandbox {
        Sandbox { id, container, linked: Vec::new() }
    }
}

impl Endpoint {
    /// It has an address of that family.
    pub fn has(&self, v6: bool) -> bool {
        if v6 { self.addr6.is_some() } else { self.addr4.is_some() }
    }

    /// The sandbox's packets of that family leave by it.
    pub fn leads_out(&self, v6: bool) -> bool {
        let alone = if v6 { self.gateway6 } else { self.gateway4 };
        self.has(v6) && (self.gateway || alone)
    }

    /// Its addresses, IPv4 first.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.addr4.map(IpAddr::V4).into_iter().chain(self.addr6.map(IpAddr::V6))
    }
}
