//! A sandbox's place on a network: addresses, Ethernet address, interface names, ports.

use super::network::DEFAULT_BRIDGE;
use super::publish::{self, Known};
use super::refusal::{Refusal, SettingsProblem};
use super::{Facts, lead};
use crate::ids::{EndpointId, IfName, Mac, NetworkId, SandboxId};
use crate::ipam::{Asker, Block};
use crate::ports::PortWish;
use crate::warnings::BRIDGE_PORTS;
use crate::world::{Change, Endpoint, Fact, Network, PortBinding, Rest, Sandbox, Subnet, World};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An endpoint as it is wished for.
#[derive(Clone, Debug)]
pub struct AttachWish {
    /// Its id.
    pub id: EndpointId,
    /// The network.
    pub network: NetworkId,
    /// The sandbox.
    pub sandbox: SandboxId,
    /// The container, for people.
    pub container_name: String,
    /// `--ip`
    pub ip4: Option<Ipv4Addr>,
    /// `--ip6`
    pub ip6: Option<Ipv6Addr>,
    /// `--link-local-ip`
    pub link_local: BTreeSet<IpAddr>,
    /// `--mac-address`
    pub mac: Option<Mac>,
    /// What the interface inside is called; `None` is the next name that is free.
    pub inner: Option<IfName>,
    /// Settings of that interface, by names such as `net.ipv4.conf.IFNAME.log_martians`.
    pub sysctls: BTreeMap<String, String>,
    /// The higher wins the default route (`gw-priority`).
    pub priority: i64,
    /// By which names it is found there: the container's, its aliases, its short id.
    pub names: Vec<String>,
    /// Addresses that other containers have asked for by number and do not use now: they are not chosen.
    pub promised: BTreeSet<IpAddr>,
    /// What the container had before: kept where it is free.
    pub previous: Previous,
    /// What others had that do not run now.
    pub kept: Kept,
    /// `-p`: published by the endpoint that then leads out. Without a way out nothing is published.
    pub ports: Vec<PortWish>,
}

impl AttachWish {
    /// An endpoint without wishes.
    pub fn new(id: EndpointId, network: NetworkId, sandbox: SandboxId, container_name: impl Into<String>) -> Self {
        AttachWish {
            id,
            network,
            sandbox,
            container_name: container_name.into(),
            ip4: None,
            ip6: None,
            link_local: BTreeSet::new(),
            mac: None,
            inner: None,
            sysctls: BTreeMap::new(),
            priority: 0,
            names: Vec::new(),
            promised: BTreeSet::new(),
            previous: Previous::default(),
            kept: Kept::default(),
            ports: Vec::new(),
        }
    }
}

/// What a container had on a network before it was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// IPv4.
    pub addr4: Option<Ipv4Addr>,
    /// IPv6.
    pub addr6: Option<Ipv6Addr>,
    /// The Ethernet address.
    pub mac: Option<Mac>,
    /// Published ports: where no host port is asked for, the same one is given again.
    pub ports: Vec<PortBinding>,
}

/// What other containers had on a network, and find again when they start: it is given away only when nothing else is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Their addresses.
    pub addrs: BTreeSet<IpAddr>,
    /// Their published ports.
    pub ports: Vec<PortBinding>,
}

impl From<&Endpoint> for Previous {
    fn from(endpoint: &Endpoint) -> Previous {
        let (addr4, addr6, mac) = (endpoint.addr4, endpoint.addr6, Some(endpoint.mac));
        Previous { addr4, addr6, mac, ports: endpoint.ports.clone() }
    }
}

/// Put a sandbox on a network. Its default route, and with it its published ports, may move there.
///
/// # Errors
/// Addresses and ports that are taken, outside or used up; a network or sandbox that is not there.
pub fn attach(world: &World, facts: &Facts, wish: &AttachWish) -> Result<Change, Refusal> {
    let network =
        world.networks.get(&wish.network).ok_or_else(|| Refusal::NoNetwork(wish.network.as_str().to_owned()))?;
    let sandbox = world.sandboxes.get(&wish.sandbox).ok_or_else(|| Refusal::NoSandbox(wish.sandbox.clone()))?;
    let own: Vec<&Endpoint> = world.endpoints_of(&wish.sandbox).collect();
    if own.iter().any(|e| e.network == wish.network) || world.endpoints.contains_key(&wish.id) {
        let (name, network) = (wish.container_name.clone(), network.name.clone());
        return Err(Refusal::AlreadyAttached { name, network });
    }
    endpoint_settings(network, wish.ip4, wish.ip6, &wish.link_local)?;
    let place = Place::new(world, facts, network, sandbox, wish);
    place.port_left(facts)?;
    let addr4 = network.v4.as_ref().map(|v4| place.addr(v4, wish.ip4, wish.previous.addr4, "IPv4")).transpose()?;
    let addr6 = network.v6.as_ref().map(|v6| place.addr(v6, wish.ip6, wish.previous.addr6, "IPv6")).transpose()?;
    place.link_local(&wish.link_local)?;
    let mac = place.mac(wish, addr4)?;
    let taken_inside: BTreeSet<&IfName> = own.iter().map(|e| &e.inner).collect();
    if let Some(name) = wish.inner.as_ref().filter(|name| taken_inside.contains(name) || **name == IfName::loopback()) {
        return Err(Refusal::InterfaceTaken { name: name.clone(), network: network.name.clone() });
    }
    let free = || (0..=u16::MAX).map(|n| inner_name(network, n)).find(|name| !taken_inside.contains(name));
    let inner = wish.inner.clone().or_else(free);
    let endpoint = Endpoint {
        id: wish.id.clone(),
        network: wish.network.clone(),
        sandbox: wish.sandbox.clone(),
        container_name: wish.container_name.clone(),
        // A sandbox with 65,536 networks would have found the bridges' limits long before.
        inner: inner.unwrap_or_else(|| IfName::inner(u16::MAX)),
        host: host_end(world, facts, &wish.id),
        mac,
        addr4,
        addr6,
        link_local: wish.link_local.clone(),
        sysctls: wish.sysctls.clone(),
        gateway: false,
        gateway4: false,
        gateway6: false,
        priority: wish.priority,
        names: wish.names.clone(),
        ports: Vec::new(),
        opened: BTreeSet::new(),
    };
    let change = lead::led(world, own.into_iter().cloned().chain([endpoint]).collect(), None);
    if wish.ports.is_empty() {
        return Ok(change);
    }
    let new = change.iter().filter_map(|fact| if let Fact::Endpoint(new) = fact { Some(new) } else { None });
    let changed: BTreeMap<&EndpointId, &Endpoint> = new.map(|new| (&new.id, new)).collect();
    let unchanged = world.endpoints_of(&wish.sandbox).filter(|e| !changed.contains_key(&e.id));
    let mut all: Vec<Endpoint> = unchanged.chain(changed.values().copied()).cloned().collect();
    let known = Known { previous: &wish.previous.ports, kept: &wish.kept.ports };
    publish::put(world, facts, &mut all, &wish.ports, known)?;
    Ok(publish::changed(world, all))
}

/// Addresses that an endpoint asks for by number, against the network's own.
///
/// # Errors
/// `EndpointSettings` with all that is wrong.
pub fn endpoint_settings(
    network: &Network,
    ip4: Option<Ipv4Addr>,
    ip6: Option<Ipv6Addr>,
    link_local: &BTreeSet<IpAddr>,
) -> Result<(), Refusal> {
    let mut problems = Vec::new();
    if network.name == DEFAULT_BRIDGE && (ip4.is_some() || ip6.is_some()) {
        problems.push(SettingsProblem::DefaultBridge);
    }
    if let Some(addr) = ip4
        && !network.v4.as_ref().is_some_and(|v4| v4.net.contains(&addr))
    {
        problems.push(SettingsProblem::Outside(addr.into()));
    }
    if let Some(addr) = ip6
        && !network.v6.as_ref().is_some_and(|v6| v6.net.contains(&addr))
    {
        problems.push(SettingsProblem::Outside(addr.into()));
    }
    let silent = |addr: &&IpAddr| if addr.is_ipv4() { network.v4.is_none() } else { network.v6.is_none() };
    problems.extend(link_local.iter().filter(silent).map(|addr| SettingsProblem::NoFamily { addr: *addr }));
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Refusal::EndpointSettings { network: network.name.clone(), problems })
    }
}

/// The network as an endpoint finds it.
struct Place<'a> {
    network: &'a Network,
    others: Vec<&'a Endpoint>,
    promised: &'a BTreeSet<IpAddr>,
    kept: &'a BTreeSet<IpAddr>,
    resting: Option<&'a BTreeMap<IpAddr, Rest>>,
    asker: Asker<'a>,
}

impl<'a> Place<'a> {
    fn new(
        world: &'a World,
        facts: &Facts,
        network: &'a Network,
        sandbox: &'a Sandbox,
        wish: &'a AttachWish,
    ) -> Place<'a> {
        let others = world.endpoints.values().filter(|e| e.network == network.id).collect();
        let asker = Asker { container: &sandbox.container, now: facts.now };
        let (promised, kept) = (&wish.promised, &wish.kept.addrs);
        Place { network, others, promised, kept, resting: world.resting.get(&network.id), asker }
    }

    /// A second bridge behind the same network would be another segment, on which neighbours do not hear each other; so a full
    /// bridge takes no more.
    fn port_left(&self, facts: &Facts) -> Result<(), Refusal> {
        if !self.network.has_bridge() {
            return Ok(());
        }
        let strangers = facts.ports.get(&self.network.bridge).copied().unwrap_or_default();
        if self.others.len() + strangers < BRIDGE_PORTS {
            return Ok(());
        }
        let (bridge, network) = (self.network.bridge.clone(), self.network.name.clone());
        Err(Refusal::BridgeFull { bridge, network, ports: BRIDGE_PORTS })
    }

    fn addr<N: Block>(
        &self,
        subnet: &Subnet<N, N::Addr>,
        wish: Option<N::Addr>,
        previous: Option<N::Addr>,
        family: &'static str,
    ) -> Result<N::Addr, Refusal> {
        let holder = |addr: N::Addr| self.others.iter().find(|e| e.addrs().any(|have| have == addr.into()));
        if let Some(addr) = wish {
            let holder = match holder(addr) {
                Some(other) => format!("belongs to `{}`", other.container_name),
                None if subnet.assignable(addr) => return Ok(addr),
                None => "is a gateway's, reserved, or the subnet's own".into(),
            };
            let network = self.network.name.clone();
            return Err(Refusal::AddressTaken { addr: addr.into(), network, holder });
        }
        let nobody = BTreeMap::new();
        let resting = self.resting.unwrap_or(&nobody);
        if let Some(addr) = previous {
            let of_another = |rest: &Rest| rest.at(self.asker.now) && &rest.container != self.asker.container;
            let promised = self.promised.contains(&addr.into()) || resting.get(&addr.into()).is_some_and(of_another);
            if subnet.range.holds(addr) && subnet.assignable(addr) && holder(addr).is_none() && !promised {
                return Ok(addr);
            }
        }
        let taken: BTreeSet<IpAddr> =
            self.others.iter().flat_map(|e| e.addrs()).chain(self.promised.iter().copied()).collect();
        let free = |taken: &dyn Fn(IpAddr) -> bool| subnet.next_free(&|addr| taken(addr.into()), resting, self.asker);
        let free = free(&|addr| taken.contains(&addr) || self.kept.contains(&addr))
            .or_else(|| free(&|addr| taken.contains(&addr)));
        let (network, id) = (&self.network.name, &self.network.id);
        free.ok_or_else(|| Refusal::NoAddress { family, network: network.clone(), id: id.clone() })
    }

    /// Link-local addresses are nobody's to give, so they are only looked at for who has them.
    fn link_local(&self, wish: &BTreeSet<IpAddr>) -> Result<(), Refusal> {
        for addr in wish {
            if let Some(other) = self.others.iter().find(|e| e.link_local.contains(addr)) {
                let (network, holder) = (self.network.name.clone(), format!("belongs to `{}`", other.container_name));
                return Err(Refusal::AddressTaken { addr: *addr, network, holder });
            }
        }
        Ok(())
    }

    fn mac(&self, wish: &AttachWish, addr4: Option<Ipv4Addr>) -> Result<Mac, Refusal> {
        let holder = |mac: Mac| {
            let bridge = (self.network.mac == mac).then_some(self.network.bridge.as_str());
            bridge.or_else(|| self.others.iter().find(|e| e.mac == mac).map(|e| e.container_name.as_str()))
        };
        if let Some(mac) = wish.mac {
            return match holder(mac) {
                None => Ok(mac),
                Some(other) => {
                    let (network, holder) = (self.network.name.clone(), other.to_owned());
                    Err(Refusal::MacTaken { mac, network, holder })
                }
            };
        }
        let of_id = || Mac::of_id(wish.id.as_str());
        let usual = addr4.map_or_else(of_id, Mac::of_addr4);
        // Ids are random: two that agree in 32 bits and meet on one network would still both work apart from here.
        Ok(wish.previous.mac.into_iter().chain([usual]).find(|mac| holder(*mac).is_none()).unwrap_or_else(of_id))
    }
}

/// `eth0`, `eth1` … unless the network says otherwise.
fn inner_name(network: &Network, number: u16) -> IfName {
    let own = network.prefix.as_ref().and_then(|prefix| format!("{prefix}{number}").parse().ok());
    own.unwrap_or_else(|| IfName::inner(number))
}

/// `veth` and seven digits of the id; where another endpoint or interface has that name, the next seven.
fn host_end(world: &World, facts: &Facts, id: &EndpointId) -> IfName {
    let taken = |name: &IfName| facts.links.contains(name) || world.endpoints.values().any(|e| &e.host == name);
    let first = IfName::host_end(id);
    let digits = id.as_str();
    let shifted = (1..digits.len() - 7).filter_map(|at| format!("veth{}", &digits[at..at + 7]).parse().ok());
    [first.clone()].into_iter().chain(shifted).find(|name| !taken(name)).unwrap_or(first)
}
