//! What will not go well, though nothing was refused: others' firewalls and routes in the way, and limits that come near.

use crate::around::{Around, NARROW, Packets, Pattern, Refusing, Tool};
use crate::decide;
use crate::ids::IfName;
use crate::ipam::{self, Block, Number};
use crate::netstate::IpFamily;
use crate::world::{Network, Subnet, World};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A Linux bridge has so many ports (`BR_MAX_PORTS` of net/bridge/br_private.h, less the number 0).
pub const BRIDGE_PORTS: usize = 1023;
/// A limit is told of when so many hundredths are used …
const NEAR: u128 = 80;
/// … and again only after fewer than so many were.
const FAR: u128 = 75;

/// One thing that will not go well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is wrong, where, and what comes of it.
    pub text: String,
    /// What helps: a command, or what to do.
    pub help: String,
}

/// What a warning is about. As long as this is the same it is the same warning, whatever its words are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A chain of somebody else's refuses packets of these bridges.
    Refused {
        /// The table with its family, and the chain.
        chain: String,
        /// Whose packets.
        bridges: BTreeSet<IfName>,
    },
    /// A route or an address of somebody else's overlaps a network's subnet.
    Overlap {
        /// The network's name.
        network: String,
        /// Where the route leads, or the address.
        with: IpNet,
        /// The link.
        dev: Option<IfName>,
    },
    /// Rules should keep a network apart, and berth was told to have none.
    Unprotected {
        /// The network's name.
        network: String,
        /// Which rules are missing.
        family: IpFamily,
    },
    /// Forwarding is off, and berth was told to leave it alone.
    NotForwarding(IpFamily),
    /// A bridge has hardly a port left.
    Ports(IfName),
    /// A network has hardly an address left.
    Addresses(String, IpFamily),
}

impl About {
    /// One word for programs that read events.
    pub fn word(&self) -> &'static str {
        match self {
            About::Refused { .. } | About::Unprotected { .. } => "firewall",
            About::Overlap { .. } => "subnet",
            About::NotForwarding(_) => "forwarding",
            About::Ports(_) => "ports",
            About::Addresses(..) => "addresses",
        }
    }
}

/// All warnings by what they are about.
pub type Warnings = BTreeMap<About, Warning>;

/// What will not go well with these facts on this host; `had` is what was said before.
pub fn warnings(world: &World, around: &Around, had: &Warnings) -> Warnings {
    let mut all = Warnings::new();
    all.extend(around.refusing.iter().filter_map(|chain| refused(world, chain)));
    for network in world.networks.values().filter(|network| network.has_bridge()) {
        all.extend(overlaps(world, around, network));
    }
    all.extend(unprotected(world));
    all.extend(not_forwarding(world, around));
    all.extend(limits(world, around, had));
    all
}

impl Network {
    /// The families that it has.
    pub fn families(&self) -> impl Iterator<Item = IpFamily> + use<> {
        self.v4.as_ref().map(|_| IpFamily::V4).into_iter().chain(self.v6.as_ref().map(|_| IpFamily::V6))
    }
}

fn refused(world: &World, chain: &Refusing) -> Option<(About, Warning)> {
    // Nothing of an internal network is forwarded anyway.
    let sees = |network: &&Network| {
        network.has_bridge() && !network.internal && network.families().any(|family| chain.family.has(family))
    };
    let bridges = || world.networks.values().filter(sees).map(|network| &network.bridge);
    let strange = |patterns: &[Pattern]| -> BTreeSet<IfName> {
        bridges().filter(|bridge| !patterns.iter().any(|pattern| pattern.fits(bridge))).cloned().collect()
    };
    let (from, to) = (strange(&chain.lets_in), strange(&chain.lets_out));
    let named: BTreeSet<IfName> = from.union(&to).cloned().collect();
    if named.is_empty() {
        return None;
    }
    let place = format!("table {} {}, chain {}", chain.family, chain.table, chain.chain);
    let which = match (from.is_empty(), to.is_empty()) {
        (false, false) => format!("from and to {}", listed(&named)),
        (false, true) => format!("from {}", listed(&from)),
        _ => format!("to {}", listed(&to)),
    };
    let legacy = if chain.tool == Tool::Legacy { " of iptables-legacy" } else { "" };
    let text = format!(
        "{place}{legacy}, refuses what its own rules do not know, so it drops packets {which}, which berth's rules let through"
    );
    let chain_name = format!("{place}{legacy}");
    Some((About::Refused { chain: chain_name, bridges: named }, Warning { text, help: opening(chain, &from, &to) }))
}

/// The command that lets packets of these bridges pass somebody else's chain; what may pass is then berth's rules' to say.
fn opening(chain: &Refusing, from: &BTreeSet<IfName>, to: &BTreeSet<IfName>) -> String {
    let sides = |word: fn(&IfName) -> String, other: fn(&IfName) -> String| -> Vec<String> {
        from.iter().map(word).chain(to.iter().map(other)).collect()
    };
    match chain.tool {
        Tool::Legacy => {
            let command = if chain.family == Packets::V6 { "ip6tables-legacy" } else { "iptables-legacy" };
            let rules = sides(|bridge| format!("-i {bridge}"), |bridge| format!("-o {bridge}"));
            let commands = rules.iter().map(|rule| format!("{command} -I {} {rule} -j ACCEPT", chain.chain));
            commands.collect::<Vec<_>>().join(" && ")
        }
        // With a counter, so that `iptables -S` can still show its table.
        Tool::Nft => {
            let place = format!("{} {} {}", chain.family, chain.table, chain.chain);
            let rules = sides(|bridge| format!("iifname \"{bridge}\""), |bridge| format!("oifname \"{bridge}\""));
            let rules = rules.iter().map(|rule| format!("insert rule {place} {rule} counter accept"));
            format!("nft '{}'", rules.collect::<Vec<_>>().join("; "))
        }
    }
}

fn overlaps(world: &World, around: &Around, network: &Network) -> Vec<(About, Warning)> {
    let addrs = around.addrs.iter().map(|(dev, addr)| (Some(dev), *addr, true));
    let of_addr = |dev: Option<&IfName>, to: IpNet| {
        around.addrs.iter().any(|(other, addr)| Some(other) == dev && addr.trunc() == to)
    };
    // The kernel makes a route for each address; one word of both is enough.
    let routes = around.routes.iter().map(|route| (route.dev.as_ref(), route.to, false));
    let routes = routes.filter(|(dev, to, _)| !of_addr(*dev, *to));
    let strangers = addrs.chain(routes).filter(|(dev, _, _)| *dev != Some(&network.bridge));
    let mut all = Vec::new();
    for (dev, with, is_addr) in strangers {
        let Some(subnet) = decide::subnets(network).find(|subnet| ipam::overlap(subnet, &with.trunc())) else {
            continue;
        };
        // As good as a default route, which takes nothing.
        if with.prefix_len() < NARROW {
            continue;
        }
        let out = dev.map_or_else(|| "that leads nowhere".to_owned(), |dev| format!("of {dev}"));
        let what = if is_addr { format!("address {with} {out}") } else { format!("route {with} {out}") };
        let name = &network.name;
        let effect = if with.prefix_len() >= subnet.prefix_len() {
            format!("packets for those of its addresses do not reach {}", network.bridge)
        } else {
            "what is behind it within that subnet is out of this host's reach".into()
        };
        let text = format!("{what} overlaps {subnet} of network {name}: {effect}");
        all.push((
            About::Overlap { network: name.clone(), with, dev: dev.cloned() },
            Warning { text, help: elsewhere(world, around, network, subnet) },
        ));
    }
    all
}

/// Where a network would be in nobody's way.
fn elsewhere(world: &World, around: &Around, network: &Network, subnet: IpNet) -> String {
    let ours = world.networks.values().flat_map(decide::subnets);
    let theirs = around.routes.iter().map(|route| route.to).filter(|to| to.prefix_len() >= NARROW);
    let taken: Vec<IpNet> = ours.chain(theirs).chain(around.addrs.iter().map(|(_, addr)| addr.trunc())).collect();
    let v6 = matches!(subnet, IpNet::V6(_));
    let free = ipam::free_subnet(&around.pools, v6, &taken);
    if network.name == decide::DEFAULT_BRIDGE {
        let flag = if v6 { "--bip6" } else { "--bip" };
        let first = free.and_then(|net| IpNet::new(net.hosts().next()?, net.prefix_len()).ok());
        let value = first.map_or_else(|| "ADDRESS/PREFIX".into(), |net| net.to_string());
        format!("start the engine with {flag} {value} once no container is on that network, or remove what overlaps")
    } else {
        let value = free.map_or_else(|| "SUBNET".into(), |net| net.to_string());
        format!("make the network anew with --subnet {value}, or remove what overlaps")
    }
}

fn unprotected(world: &World) -> Vec<(About, Warning)> {
    let mut all = Vec::new();
    for network in world.networks.values().filter(|n| n.has_bridge() && (n.internal || !n.icc)) {
        for family in network.families().filter(|family| !world.means.firewall(*family)) {
            let flag = if family == IpFamily::V4 { "--iptables" } else { "--ip6tables" };
            let kept = if network.internal { "internal" } else { "one whose containers are kept apart" };
            let text =
                format!("network {} is {kept}, which only rules can do, and {flag}=false left none", network.name);
            let help = format!("start the engine without {flag}=false");
            all.push((About::Unprotected { network: network.name.clone(), family }, Warning { text, help }));
        }
    }
    all
}

fn not_forwarding(world: &World, around: &Around) -> Vec<(About, Warning)> {
    if world.means.forward {
        return Vec::new();
    }
    let needed: BTreeSet<IpFamily> =
        world.networks.values().filter(|n| n.has_bridge() && !n.internal).flat_map(Network::families).collect();
    let off = needed.difference(&around.forwarding);
    off.map(|family| {
        let (name, setting) = match family {
            IpFamily::V4 => ("IPv4", "net.ipv4.ip_forward"),
            IpFamily::V6 => ("IPv6", "net.ipv6.conf.all.forwarding"),
        };
        let text = format!(
            "{name} forwarding is off, and berth was told to leave it alone (--ip-forward=false): containers reach nothing \
             outside of their network, and nobody outside of this host reaches them"
        );
        (About::NotForwarding(*family), Warning { text, help: format!("sysctl -w {setting}=1") })
    })
    .collect()
}

fn limits(world: &World, around: &Around, had: &Warnings) -> Vec<(About, Warning)> {
    let near = |about: &About, used: u128, all: u128| {
        used * 100 >= all.saturating_mul(if had.contains_key(about) { FAR } else { NEAR })
    };
    let mut members: BTreeMap<_, usize> = BTreeMap::new();
    for endpoint in world.endpoints.values() {
        *members.entry(&endpoint.network).or_default() += 1;
    }
    let mut found = Vec::new();
    for network in world.networks.values() {
        let ours = members.get(&network.id).copied().unwrap_or_default();
        let used = ours + around.ports.get(&network.bridge).copied().unwrap_or_default();
        let about = About::Ports(network.bridge.clone());
        if network.has_bridge() && near(&about, used as u128, BRIDGE_PORTS as u128) {
            let (bridge, name) = (&network.bridge, &network.name);
            let text = format!(
                "bridge {bridge} of network {name} has {used} of the {BRIDGE_PORTS} ports that a bridge can have"
            );
            let help = "put further containers on another network".to_owned();
            found.push((about, Warning { text, help }));
        }
        let four = network.v4.as_ref().map(|v4| (IpFamily::V4, v4.room(), v4.range.to_string()));
        let six = network.v6.as_ref().map(|v6| (IpFamily::V6, v6.room(), v6.range.to_string()));
        for (family, room, range) in four.into_iter().chain(six) {
            let about = About::Addresses(network.name.clone(), family);
            // A handful is used up before anybody could do something about it.
            if room > 4 && near(&about, ours as u128, room) {
                let text = format!("network {} has given out {ours} of the {room} addresses of {range}", network.name);
                let help =
                    "put further containers on another network, or make this one anew with a larger subnet".to_owned();
                found.push((about, Warning { text, help }));
            }
        }
    }
    found
}

impl<N: Block> Subnet<N, N::Addr> {
    /// How many addresses its endpoints can have altogether.
    fn room(&self) -> u128 {
        let (first, last) = (self.range.first(), self.range.last());
        let size = (last.number() - first.number()).saturating_add(1);
        let fixed = [self.net.first(), self.net.last(), self.gateway].into_iter().chain(self.default_gateway);
        let fixed: BTreeSet<N::Addr> = fixed.chain(self.reserved.values().copied()).collect();
        size - fixed.iter().filter(|addr| self.range.holds(**addr) && !self.assignable(**addr)).count() as u128
    }
}

fn listed(bridges: &BTreeSet<IfName>) -> String {
    bridges.iter().map(IfName::as_str).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; what helps: {}", self.text, self.help)
    }
}
