//! Invariants of the facts, as a function that lists what breaks them. Run in tests, on load, and by hand.

use crate::decide::subnets;
use crate::ids::{EndpointId, IfName, Mac, NetworkId, SandboxId};
use crate::ipam::{self, Block};
use crate::ports::joined;
use crate::world::{Endpoint, Network, Opened, PortBinding, Subnet, World};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

/// Something that must never be recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A record stands under an id that is not its own.
    #[error("{kind} {id} stands under the id {under}")]
    WrongId {
        /// Of what.
        kind: &'static str,
        /// Its own.
        id: String,
        /// Where it stands.
        under: String,
    },
    /// An endpoint's network is not there.
    #[error("endpoint {endpoint:?} is on network {network:?}, which is not there")]
    NoNetwork {
        /// The endpoint.
        endpoint: EndpointId,
        /// The network.
        network: NetworkId,
    },
    /// An endpoint's sandbox is not there.
    #[error("endpoint {endpoint:?} is of sandbox {sandbox:?}, which is not there")]
    NoSandbox {
        /// The endpoint.
        endpoint: EndpointId,
        /// The sandbox.
        sandbox: SandboxId,
    },
    /// Addresses rest on a network that is not there.
    #[error("addresses of network {0:?} rest, which is not there")]
    RestingNowhere(NetworkId),
    /// An address is in use and at rest.
    #[error("address {addr} of network {network:?} is in use and rests")]
    RestingInUse {
        /// The address.
        addr: IpAddr,
        /// The network.
        network: NetworkId,
    },
    /// Two have one name, address or interface.
    #[error("{what} is of {first} and of {second}")]
    Twice {
        /// What they share: `network name app`, `address 10.1.0.2 on app`.
        what: String,
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// Two networks have an address in common.
    #[error("subnet {subnet} of network {first} overlaps {other} of network {second}")]
    Overlap {
        /// Of the first.
        subnet: IpNet,
        /// The first.
        first: String,
        /// Of the second.
        other: IpNet,
        /// The second.
        second: String,
    },
    /// A network's own addresses do not fit each other.
    #[error("network {network}: {what} {value} is not inside of {subnet}")]
    BadSubnet {
        /// The network.
        network: String,
        /// `range`, `gateway`, `default gateway`, `reserved address`.
        what: &'static str,
        /// Its value.
        value: String,
        /// The subnet.
        subnet: IpNet,
    },
    /// An endpoint has an address that its network cannot give.
    #[error("endpoint {endpoint:?} has address {addr}, which network {network} cannot give")]
    BadAddress {
        /// The endpoint.
        endpoint: EndpointId,
        /// The address.
        addr: IpAddr,
        /// The network.
        network: String,
    },
    /// An endpoint lacks an address of a family that its network has.
    #[error("endpoint {endpoint:?} has no {family} address on network {network}")]
    NoAddress {
        /// The endpoint.
        endpoint: EndpointId,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// The network.
        network: String,
    },
    /// A sandbox must have exactly one default route, unless all of its networks are internal: then none.
    #[error("sandbox {sandbox:?} has {has} endpoints with the default route and {could} that could have it")]
    Gateways {
        /// The sandbox.
        sandbox: SandboxId,
        /// That have it.
        has: usize,
        /// On networks with a way out.
        could: usize,
    },
    /// One family's default route may go another way than the other's only where the latter's has not both.
    #[error("sandbox {sandbox:?} has {has} endpoints with a default route of {family} alone, and should have {should}")]
    GatewaysOfFamily {
        /// The sandbox.
        sandbox: SandboxId,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// That have it.
        has: usize,
        /// That should.
        should: usize,
    },
    /// Two containers publish one port.
    #[error("-p {first} of {holder:?} and -p {second} of {other:?} are the same port of the host")]
    PortTwice {
        /// The one.
        holder: EndpointId,
        /// Its binding.
        first: PortBinding,
        /// The other.
        other: EndpointId,
        /// Its binding.
        second: PortBinding,
    },
    /// Ports at its own address that are none, or are there twice.
    #[error("the ports that are open at the address of {0:?} are none, or are named twice")]
    BadOpened(EndpointId),
    /// A binding that is none.
    #[error("-p {binding} of {endpoint:?} is no port")]
    BadPort {
        /// The endpoint.
        endpoint: EndpointId,
        /// The binding.
        binding: PortBinding,
    },
}

/// All that is wrong with these facts; empty is right.
pub fn check(world: &World) -> Vec<Fault> {
    let mut faults = Vec::new();
    ids(world, &mut faults);
    networks(world, &mut faults);
    endpoints(world, &mut faults);
    gateways(world, &mut faults);
    ports(world, &mut faults);
    faults
}

fn ids(world: &World, faults: &mut Vec<Fault>) {
    let mut same = |kind, id: &dyn Display, under: &dyn Display| {
        let (id, under) = (id.to_string(), under.to_string());
        if id != under {
            faults.push(Fault::WrongId { kind, id, under });
        }
    };
    world.networks.iter().for_each(|(under, network)| same("network", &network.id, under));
    world.sandboxes.iter().for_each(|(under, sandbox)| same("sandbox", &sandbox.id, under));
    world.endpoints.iter().for_each(|(under, endpoint)| same("endpoint", &endpoint.id, under));
}

/// Finds who else has a thing.
struct Owners<'f, K> {
    by: BTreeMap<K, String>,
    faults: &'f mut Vec<Fault>,
}

impl<'f, K: Ord + Clone> Owners<'f, K> {
    fn new(faults: &'f mut Vec<Fault>) -> Self {
        Owners { by: BTreeMap::new(), faults }
    }

    fn claim(&mut self, key: K, who: &str, what: impl FnOnce() -> String) {
        if let Some(first) = self.by.insert(key.clone(), who.to_owned()) {
            self.faults.push(Fault::Twice { what: what(), first, second: who.to_owned() });
        }
    }
}

fn networks(world: &World, faults: &mut Vec<Fault>) {
    let mut names = Owners::new(faults);
    for network in world.networks.values() {
        names.claim(&network.name, network.id.short().as_str(), || format!("network name {}", network.name));
    }
    let all: Vec<(&Network, IpNet)> =
        world.networks.values().flat_map(|network| subnets(network).map(move |net| (network, net))).collect();
    for (at, (one, subnet)) in all.iter().enumerate() {
        for (two, other) in &all[at + 1..] {
            if ipam::overlap(subnet, other) {
                let (first, second) = (one.name.clone(), two.name.clone());
                faults.push(Fault::Overlap { subnet: *subnet, first, other: *other, second });
            }
        }
    }
    for network in world.networks.values() {
        if let Some(v4) = &network.v4 {
            subnet(&network.name, v4, faults);
        }
        if let Some(v6) = &network.v6 {
            subnet(&network.name, v6, faults);
        }
    }
    for (network, resting) in &world.resting {
        if !world.networks.contains_key(network) {
            faults.push(Fault::RestingNowhere(network.clone()));
        }
        let in_use = world.endpoints.values().filter(|e| &e.network == network).flat_map(Endpoint::addrs);
        for addr in in_use.filter(|addr| resting.contains_key(addr)) {
            faults.push(Fault::RestingInUse { addr, network: network.clone() });
        }
    }
}

fn subnet<N: Block + Into<IpNet> + Display>(network: &str, subnet: &Subnet<N, N::Addr>, faults: &mut Vec<Fault>) {
    let mut inside = |what, addr: N::Addr, value: String| {
        if !subnet.net.holds(addr) {
            let (network, subnet) = (network.to_owned(), subnet.net.into());
            faults.push(Fault::BadSubnet { network, what, value, subnet });
        }
    };
    let text = |addr: N::Addr| {
        let addr: IpAddr = addr.into();
        addr.to_string()
    };
    inside("range", subnet.range.first(), subnet.range.to_string());
    inside("range", subnet.range.last(), subnet.range.to_string());
    inside("gateway", subnet.gateway, text(subnet.gateway));
    if let Some(hop) = subnet.default_gateway {
        inside("default gateway", hop, text(hop));
    }
    for addr in subnet.reserved.values() {
        inside("reserved address", *addr, text(*addr));
    }
}

fn endpoints(world: &World, faults: &mut Vec<Fault>) {
    for endpoint in world.endpoints.values() {
        let id = || endpoint.id.clone();
        if !world.sandboxes.contains_key(&endpoint.sandbox) {
            faults.push(Fault::NoSandbox { endpoint: id(), sandbox: endpoint.sandbox.clone() });
        }
        let Some(network) = world.networks.get(&endpoint.network) else {
            faults.push(Fault::NoNetwork { endpoint: id(), network: endpoint.network.clone() });
            continue;
        };
        family(endpoint, network, network.v4.as_ref(), endpoint.addr4, "IPv4", faults);
        family(endpoint, network, network.v6.as_ref(), endpoint.addr6, "IPv6", faults);
    }
    let mut addrs: Owners<'_, (&NetworkId, IpAddr)> = Owners::new(faults);
    for endpoint in world.endpoints.values() {
        for addr in endpoint.addrs().chain(endpoint.link_local.iter().copied()) {
            let who = endpoint.id.short();
            addrs.claim((&endpoint.network, addr), who.as_str(), || format!("address {addr}"));
        }
    }
    let mut macs: Owners<'_, (&NetworkId, Mac)> = Owners::new(faults);
    for network in world.networks.values() {
        macs.claim((&network.id, network.mac), network.bridge.as_str(), || format!("MAC address {}", network.mac));
    }
    for endpoint in world.endpoints.values() {
        let (who, mac) = (endpoint.id.short(), endpoint.mac);
        macs.claim((&endpoint.network, mac), who.as_str(), || format!("MAC address {mac}"));
    }
    let mut outside: Owners<'_, &IfName> = Owners::new(faults);
    // Many networks may be on one interface's segment.
    for network in world.networks.values().filter(|network| network.has_bridge()) {
        outside.claim(&network.bridge, network.id.short().as_str(), || format!("interface {}", network.bridge));
    }
    for endpoint in world.endpoints.values() {
        outside.claim(&endpoint.host, endpoint.id.short().as_str(), || format!("interface {}", endpoint.host));
    }
    let mut inside: Owners<'_, (&SandboxId, &IfName)> = Owners::new(faults);
    for endpoint in world.endpoints.values() {
        let what = || format!("interface {} in {:?}", endpoint.inner, endpoint.sandbox);
        inside.claim((&endpoint.sandbox, &endpoint.inner), endpoint.id.short().as_str(), what);
    }
    let mut places: Owners<'_, (&SandboxId, &NetworkId)> = Owners::new(faults);
    for endpoint in world.endpoints.values() {
        let what = || format!("the place of {:?} on {:?}", endpoint.sandbox, endpoint.network);
        places.claim((&endpoint.sandbox, &endpoint.network), endpoint.id.short().as_str(), what);
    }
}

fn family<N: Block>(
    endpoint: &Endpoint,
    network: &Network,
    subnet: Option<&Subnet<N, N::Addr>>,
    addr: Option<N::Addr>,
    family: &'static str,
    faults: &mut Vec<Fault>,
) {
    let (endpoint, network) = (endpoint.id.clone(), network.name.clone());
    match (subnet, addr) {
        (Some(_), None) => faults.push(Fault::NoAddress { endpoint, family, network }),
        (Some(subnet), Some(addr)) if subnet.assignable(addr) => {}
        (_, Some(addr)) => faults.push(Fault::BadAddress { endpoint, addr: addr.into(), network }),
        (None, None) => {}
    }
}

fn gateways(world: &World, faults: &mut Vec<Fault>) {
    let mut count: BTreeMap<&SandboxId, (usize, usize)> = BTreeMap::new();
    for endpoint in world.endpoints.values() {
        let out = world.networks.get(&endpoint.network).is_some_and(|network| !network.internal);
        let (has, could) = count.entry(&endpoint.sandbox).or_default();
        *has += usize::from(endpoint.gateway);
        *could += usize::from(out);
    }
    for (sandbox, (has, could)) in count {
        if has != could.min(1) {
            faults.push(Fault::Gateways { sandbox: sandbox.clone(), has, could });
        }
        let out = |e: &&Endpoint| world.networks.get(&e.network).is_some_and(|network| !network.internal);
        for v6 in [false, true] {
            let family = || world.endpoints_of(sandbox).filter(out).filter(|e| e.has(v6));
            let alone = |e: &Endpoint| if v6 { e.gateway6 } else { e.gateway4 };
            let should = usize::from(family().next().is_some() && !family().any(|e| e.gateway));
            let has = world.endpoints_of(sandbox).filter(|e| alone(e)).count();
            if has != should || world.endpoints_of(sandbox).any(|e| alone(e) && (e.gateway || !e.has(v6))) {
                let family = if v6 { "IPv6" } else { "IPv4" };
                faults.push(Fault::GatewaysOfFamily { sandbox: sandbox.clone(), family, has, should });
            }
        }
    }
}

fn ports(world: &World, faults: &mut Vec<Fault>) {
    let mut all: Vec<(&Endpoint, &PortBinding)> =
        world.endpoints.values().flat_map(|e| e.ports.iter().map(move |binding| (e, binding))).collect();
    for (endpoint, binding) in &all {
        let most = u32::from(binding.host_port.max(binding.inner_port)) + u32::from(binding.count);
        if binding.count == 0 || binding.host_port == 0 || binding.inner_port == 0 || most > 65536 {
            faults.push(Fault::BadPort { endpoint: endpoint.id.clone(), binding: (*binding).clone() });
        }
    }
    for endpoint in world.endpoints.values() {
        let most = |opened: &Opened| u32::from(opened.port) + u32::from(opened.count);
        let right = |opened: &Opened| opened.count > 0 && opened.port > 0 && most(opened) <= 65536;
        if !endpoint.opened.iter().all(right) || joined(endpoint.opened.iter().cloned()) != endpoint.opened {
            faults.push(Fault::BadOpened(endpoint.id.clone()));
        }
    }
    all.sort_by_key(|(_, binding)| (binding.proto, binding.host_port));
    for (at, (one, first)) in all.iter().enumerate() {
        let near = all[at + 1..]
            .iter()
            .take_while(|(_, next)| next.proto == first.proto && next.host_port <= *first.host_ports().end());
        for (two, second) in near {
            // One container may publish a port on every address and on one of them.
            let allowed = one.sandbox == two.sandbox && first.host_ip != second.host_ip;
            if first.clashes(second) && !allowed {
                let (holder, other) = (one.id.clone(), two.id.clone());
                faults.push(Fault::PortTwice { holder, first: (*first).clone(), other, second: (*second).clone() });
            }
        }
    }
}
