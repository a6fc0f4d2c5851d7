//! A network's addresses, bridge and settings.

use super::refusal::{ConfigProblem, Refusal};
use super::{Facts, macvlan};
use crate::around::NARROW;
use crate::ids::{IfName, Mac, NetworkId};
use crate::ipam::{self, Block, Pool};
use crate::world::{About, Change, Fact, GatewayMode, Joint, MacvlanMode, Network, Subnet, World};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of the network that containers are on who name none. It chooses all addresses by itself.
pub const DEFAULT_BRIDGE: &str = "bridge";

/// A network as it is wished for.
#[derive(Clone, Debug)]
pub struct NetworkWish {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// The bridge's name; without one it is made of the id.
    pub bridge: Option<IfName>,
    /// No bridge: stations on the segment of an interface.
    pub macvlan: Option<MacvlanWish>,
    /// The bridge was made by hand, and these are its addresses (`--bridge`).
    pub foreign: Option<Vec<IpNet>>,
    /// IPv4 is on.
    pub ipv4: bool,
    /// IPv6 is on.
    pub ipv6: bool,
    /// At most one of each family. A family that is on and has none here gets one from the pools.
    pub subnets: Vec<SubnetWish>,
    /// In bytes; `None` is as large as the host's way out takes.
    pub mtu: Option<u32>,
    /// Containers reach each other.
    pub icc: bool,
    /// Traffic leaves with the host's address.
    pub masquerade: bool,
    /// No way out and none in.
    pub internal: bool,
    /// The host's address of published ports that name none; `None` is every one.
    pub host_ip: Option<IpAddr>,
    /// The bridge gets no IPv4 address.
    pub unnumbered: bool,
    /// How packets of IPv4 get out and in.
    pub mode4: GatewayMode,
    /// How packets of IPv6 do.
    pub mode6: GatewayMode,
    /// The host's addresses with which packets leave, at most one of each family.
    pub sources: Vec<IpAddr>,
    /// Interfaces of the host from which all ports of its containers are reached.
    pub trusted: BTreeSet<IfName>,
    /// What containers' interfaces are called, before a number.
    pub prefix: Option<String>,
    /// What decides nothing.
    pub about: About,
}

impl NetworkWish {
    /// A network with the defaults: IPv4, packets as large as the host's way out takes, its members reach each other and the world.
    pub fn new(id: NetworkId, name: impl Into<String>) -> NetworkWish {
        NetworkWish {
            id,
            name: name.into(),
            bridge: None,
            macvlan: None,
            foreign: None,
            ipv4: true,
            ipv6: false,
            subnets: Vec::new(),
            mtu: None,
            icc: true,
            masquerade: true,
            internal: false,
            host_ip: None,
            unnumbered: false,
            mode4: GatewayMode::Nat,
            mode6: GatewayMode::Nat,
            sources: Vec::new(),
            trusted: BTreeSet::new(),
            prefix: None,
            about: About::default(),
        }
    }
}

impl NetworkWish {
    /// The interfaces of the host of which must be known whether they are there.
    pub fn links(&self) -> Vec<IfName> {
        let bridge = self.bridge.clone().unwrap_or_else(|| IfName::bridge_of(&self.id));
        let parent = self.macvlan.as_ref().and_then(|macvlan| macvlan.parent.as_deref()).unwrap_or_default();
        let of = parent.split_once('.').map_or("", |(of, _)| of);
        [bridge, IfName::nowhere_of(&self.id)]
            .into_iter()
            .chain([parent, of].into_iter().filter_map(|name| name.parse().ok()))
            .collect()
    }
}

/// The interface on whose segment a network's containers shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MacvlanWish {
    /// How they are with each other.
    pub mode: MacvlanMode,
    /// `-o parent=`: an interface of the host's, or `eth0.10` for a VLAN of one; `None` is one that leads nowhere.
    pub parent: Option<String>,
}

/// Addresses as they are wished for, of one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetWish {
    /// All of it; without it the pools give one, or the bridge that was made by hand.
    pub subnet: Option<IpNet>,
    /// From which addresses are chosen.
    pub range: Option<IpNet>,
    /// The bridge's address.
    pub gateway: Option<IpAddr>,
    /// The next hop that containers are told instead of the bridge.
    pub default_gateway: Option<IpAddr>,
    /// Addresses that are kept for others, by name.
    pub aux: BTreeMap<String, IpAddr>,
}

impl SubnetWish {
    /// The default bridge's addresses: `--bip` is the bridge's address and its subnet at once, `--fixed-cidr` the
    /// range, `--default-gateway` the containers' next hop.
    ///
    /// # Errors
    /// `RangeOutside`, `DefaultGateway`: not inside of the bridge's subnet. (Docker finds the first only when a
    /// container starts.)
    pub fn of_bip(
        bip: Option<IpNet>,
        fixed_cidr: Option<IpNet>,
        default_gateway: Option<IpAddr>,
    ) -> Result<SubnetWish, Refusal> {
        // A range without an address of the bridge is the whole subnet, as in Docker.
        let subnet = bip.or(fixed_cidr).map(|net| net.trunc());
        let range = fixed_cidr.map(|range| range.trunc());
        if let (Some(range), Some(subnet)) = (range, subnet)
            && !subnet.contains(&range)
        {
            return Err(Refusal::RangeOutside { range, subnet });
        }
        let gateway = bip.map(|bip| bip.addr());
        Ok(SubnetWish { subnet, range, gateway, default_gateway, aux: BTreeMap::new() })
    }

    /// The family of what it names, if it names anything.
    fn is_v6(&self) -> Option<bool> {
        let nets = self.subnet.or(self.range).map(|net| net.addr());
        let addr = nets.or(self.gateway).or(self.default_gateway).or(self.aux.values().next().copied());
        addr.map(|addr| addr.is_ipv6())
    }
}

/// A network.
///
/// # Errors
/// Names, bridges and subnets that others have; addresses that do not fit each other; pools that are used up.
pub fn network(world: &World, facts: &Facts, wish: &NetworkWish) -> Result<Change, Refusal> {
    if wish.name.is_empty() {
        return Err(Refusal::NoName);
    }
    if world.network_named(&wish.name).is_some() {
        return Err(Refusal::NetworkExists(wish.name.clone()));
    }
    if !wish.ipv4 && !wish.ipv6 {
        return Err(Refusal::NoFamily);
    }
    let wish = &among_themselves(wish);
    if !on_segment(wish) {
        apart_by_rules(world, wish)?;
    }
    if !wish.internal && [wish.mode4, wish.mode6].contains(&GatewayMode::Isolated) {
        return Err(Refusal::IsolatedOutwards);
    }
    if let Some(prefix) = wish.prefix.as_ref().filter(|prefix| format!("{prefix}65535").parse::<IfName>().is_err()) {
        return Err(Refusal::Prefix(prefix.clone()));
    }
    if wish.ipv6 && !facts.has_ipv6 {
        return Err(Refusal::NoIpv6(wish.name.clone()));
    }
    let (joint, bridge) = match &wish.macvlan {
        None => (Joint::Bridge, bridge(world, facts, wish)?),
        Some(macvlan) => macvlan::joint(world, facts, &wish.id, macvlan)?,
    };
    let room = macvlan::most(facts, &joint, &bridge);
    let usual = room.or(facts.default_mtu);
    let mtu = wish.mtu.unwrap_or_else(|| default_mtu(usual, wish.ipv6));
    let least = least_mtu(wish.ipv6);
    if !(least..=MOST_MTU).contains(&mtu) {
        return Err(Refusal::Mtu { mtu, network: wish.name.clone(), least });
    }
    if let Some(most) = room.filter(|most| mtu > *most) {
        return Err(Refusal::MtuOfParent { mtu, network: wish.name.clone(), parent: bridge, most });
    }
    let (four, six) = by_family(wish)?;
    let families = Families { world, facts, wish, bridge: &bridge };
    let v4: Option<Subnet<Ipv4Net, Ipv4Addr>> = wish.ipv4.then(|| families.subnet(four)).transpose()?;
    let v6: Option<Subnet<Ipv6Net, Ipv6Addr>> = wish.ipv6.then(|| families.subnet(six)).transpose()?;
    let mac = match &v4 {
        Some(v4) => Mac::of_addr4(v4.gateway),
        None => Mac::of_id(wish.id.as_str()),
    };
    Ok(vec![Fact::Network(Network {
        id: wish.id.clone(),
        name: wish.name.clone(),
        joint,
        bridge,
        foreign_bridge: wish.foreign.is_some(),
        mac,
        v4,
        v6,
        mtu,
        icc: wish.icc,
        masquerade: wish.masquerade && !wish.internal && wish.macvlan.is_none(),
        internal: wish.internal,
        host_ip: wish.host_ip,
        unnumbered: wish.unnumbered,
        trusted: wish.trusted.clone(),
        prefix: wish.prefix.clone(),
        about: wish.about.clone(),
    })])
}

/// Its containers are stations of a segment on which others are too.
fn on_segment(wish: &NetworkWish) -> bool {
    wish.macvlan.as_ref().is_some_and(|macvlan| macvlan.parent.is_some())
}

/// Without a parent there is nobody but the containers: no way out, and not even the host.
fn among_themselves(wish: &NetworkWish) -> NetworkWish {
    let mut wish = wish.clone();
    if let Some(macvlan) = wish.macvlan.as_ref().filter(|macvlan| macvlan.parent.is_none()) {
        wish.icc = macvlan.mode != MacvlanMode::Private;
        (wish.internal, wish.mode4, wish.mode6) = (true, GatewayMode::Isolated, GatewayMode::Isolated);
    }
    wish
}

/// The largest packet of IP, in bytes.
const MOST_MTU: u32 = 65535;

/// RFC 791, and RFC 8200 §5 with IPv6.
fn least_mtu(v6: bool) -> u32 {
    if v6 { 1280 } else { 68 }
}

/// The MTU of a network that nobody gave one, in bytes: the default route's, or Ethernet's 1500 where there is none.
pub fn default_mtu(route: Option<u32>, v6: bool) -> u32 {
    route.unwrap_or(1500).clamp(least_mtu(v6), MOST_MTU)
}

/// What keeps a network's containers from others, or from each other, is rules.
fn apart_by_rules(world: &World, wish: &NetworkWish) -> Result<(), Refusal> {
    let what = match (wish.internal, wish.icc) {
        (true, _) => "be internal",
        (_, false) => "keep its containers apart",
        _ => return Ok(()),
    };
    let without = [(wish.ipv4, world.means.firewall4, false), (wish.ipv6, world.means.firewall6, true)];
    match without.into_iter().find(|(on, firewall, _)| *on && !firewall) {
        Some((.., v6)) => Err(Refusal::NetworkWithoutRules { network: wish.name.clone(), what, v6 }),
        None => Ok(()),
    }
}

fn bridge(world: &World, facts: &Facts, wish: &NetworkWish) -> Result<IfName, Refusal> {
    let bridge = wish.bridge.clone().unwrap_or_else(|| IfName::bridge_of(&wish.id));
    if let Some(other) = world.networks.values().find(|n| n.bridge == bridge && n.has_bridge()) {
        return Err(Refusal::SameBridge { id: other.id.clone(), bridge });
    }
    match (&wish.foreign, facts.links.contains(&bridge)) {
        (None, true) => Err(Refusal::ForeignLink(bridge)),
        (Some(_), false) => Err(Refusal::NoBridge(bridge)),
        _ => Ok(bridge),
    }
}

/// The wishes for IPv4 and for IPv6.
fn by_family(wish: &NetworkWish) -> Result<(SubnetWish, SubnetWish), Refusal> {
    let (mut four, mut six) = (None, None);
    for subnet in &wish.subnets {
        let place = if subnet.is_v6() == Some(true) { &mut six } else { &mut four };
        if place.replace(subnet.clone()).is_some() {
            return Err(match wish.macvlan {
                None => Refusal::ManySubnets,
                Some(_) => Refusal::ManySubnetsOfSegment(wish.name.clone()),
            });
        }
    }
    Ok((four.unwrap_or_default(), six.unwrap_or_default()))
}

struct Families<'a> {
    world: &'a World,
    facts: &'a Facts,
    wish: &'a NetworkWish,
    bridge: &'a IfName,
}

/// What the two families do differently in a record of addresses.
trait Typed: Block + Into<IpNet> {
    const NAME: &'static str;
    fn of(net: IpNet) -> Option<Self>;
    fn addr(addr: IpAddr) -> Option<Self::Addr>;
}

impl Typed for Ipv4Net {
    const NAME: &'static str = "IPv4";
    fn of(net: IpNet) -> Option<Self> {
        if let IpNet::V4(net) = net { Some(net) } else { None }
    }
    fn addr(addr: IpAddr) -> Option<Ipv4Addr> {
        if let IpAddr::V4(addr) = addr { Some(addr) } else { None }
    }
}

impl Typed for Ipv6Net {
    const NAME: &'static str = "IPv6";
    fn of(net: IpNet) -> Option<Self> {
        if let IpNet::V6(net) = net { Some(net) } else { None }
    }
    fn addr(addr: IpAddr) -> Option<Ipv6Addr> {
        if let IpAddr::V6(addr) = addr { Some(addr) } else { None }
    }
}

impl Families<'_> {
    fn subnet<N: Typed>(&self, mut wish: SubnetWish) -> Result<Subnet<N, N::Addr>, Refusal> {
        if let Some(addrs) = &self.wish.foreign {
            // The bridge's own address decides; link-local ones are no subnet for containers.
            let routable = |net: &&IpNet| !matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local());
            let own = addrs.iter().filter(routable).find(|net| N::of(**net).is_some());
            let own = own.ok_or_else(|| Refusal::BareBridge { bridge: self.bridge.clone(), family: N::NAME })?;
            wish = SubnetWish { subnet: Some(own.trunc()), gateway: Some(own.addr()), ..wish };
        }
        let parent = match wish.subnet {
            Some(net) => net,
            None => self.chosen(N::NAME == "IPv6")?,
        };
        let problems = problems(&wish, parent);
        if !problems.is_empty() {
            return Err(Refusal::NetworkConfig(problems));
        }
        self.not_anothers(parent)?;
        let other_family = || {
            Refusal::NetworkConfig(vec![ConfigProblem::Family { what: format!("subnet {parent}"), family: N::NAME }])
        };
        let net = N::of(parent).ok_or_else(other_family)?;
        let range = wish.range.and_then(N::of).unwrap_or(net);
        let reserved: BTreeMap<String, N::Addr> =
            wish.aux.iter().filter_map(|(name, addr)| Some((name.clone(), N::addr(*addr)?))).collect();
        let default_gateway = wish.default_gateway.and_then(N::addr);
        if let Some(hop) = wish.default_gateway
            && !parent.contains(&hop)
        {
            return Err(Refusal::DefaultGateway { gateway: hop, subnet: parent });
        }
        let gateway = gateway::<N>(net, wish.gateway.and_then(N::addr), &reserved)?;
        let default_gateway = default_gateway.filter(|hop| *hop != gateway);
        let mode = match N::NAME {
            _ if on_segment(self.wish) => GatewayMode::Segment,
            "IPv6" => self.wish.mode6,
            _ => self.wish.mode4,
        };
        let source = self.wish.sources.iter().copied().find_map(N::addr);
        Ok(Subnet { net, range, gateway, default_gateway, reserved, mode, source })
    }

    fn chosen(&self, v6: bool) -> Result<IpNet, Refusal> {
        let networks = self.world.networks.values().flat_map(subnets);
        let resolvers = self.facts.resolvers.iter().map(|addr| IpNet::from(*addr));
        let host = self.facts.routes.iter().chain(&self.facts.addrs).copied();
        let taken: Vec<IpNet> = networks.chain(host).chain(resolvers).collect();
        let own: &[Pool] = if v6 { &[ipam::unique_local(self.facts.global_id)] } else { &[] };
        let pools = |taken: &[IpNet]| {
            let free = |pools: &[Pool]| ipam::free_subnet(pools, v6, taken);
            free(&self.facts.pools).or_else(|| free(own))
        };
        // Sites that route all private addresses to somewhere have no subnet left that is clear of every route.
        let far = self.facts.far_routes.iter().filter(|to| to.prefix_len() >= NARROW);
        let clear: Vec<IpNet> = taken.iter().chain(far).copied().collect();
        pools(&clear).or_else(|| pools(&taken)).ok_or(Refusal::NoSubnet)
    }

    fn not_anothers(&self, subnet: IpNet) -> Result<(), Refusal> {
        for network in self.world.networks.values() {
            if let Some(other) = subnets(network).find(|other| ipam::overlap(other, &subnet)) {
                return Err(Refusal::PoolOverlaps { subnet, other, network: network.name.clone() });
            }
        }
        Ok(())
    }
}

/// A network's subnets, IPv4 first.
pub(crate) fn subnets(network: &Network) -> impl Iterator<Item = IpNet> + use<> {
    let four = network.v4.as_ref().map(|v4| IpNet::from(v4.net));
    four.into_iter().chain(network.v6.as_ref().map(|v6| IpNet::from(v6.net)))
}

fn gateway<N: Block>(net: N, wish: Option<N::Addr>, reserved: &BTreeMap<String, N::Addr>) -> Result<N::Addr, Refusal> {
    use ipam::Number;
    let held = |addr: N::Addr| reserved.iter().find(|(_, held)| **held == addr).map(|(name, _)| name);
    if let Some(addr) = wish {
        let hint = match held(addr) {
            Some(name) => format!(": it is reserved as {name:?}"),
            None if net.unusable(addr) => ": it is the subnet's own or its broadcast address".into(),
            None => return Ok(addr),
        };
        return Err(Refusal::GatewayTaken { addr: addr.into(), hint });
    }
    let mut all = (net.first().number()..=net.last().number()).map(N::Addr::of);
    let first = all.find(|addr| !net.unusable(*addr) && held(*addr).is_none());
    let full = || Refusal::GatewayTaken { addr: net.first().into(), hint: ": every address is reserved".into() };
    first.ok_or_else(full)
}

fn problems(wish: &SubnetWish, subnet: IpNet) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    if subnet != subnet.trunc() {
        problems.push(ConfigProblem::HostBits { what: "subnet", net: subnet });
    }
    let subnet = subnet.trunc();
    let named = wish.subnet.is_some();
    let family = if matches!(subnet, IpNet::V4(_)) { "IPv4" } else { "IPv6" };
    let mut inside = |what: String, addr: IpAddr| {
        if !named {
            problems.push(ConfigProblem::NoSubnet { what });
        } else if addr.is_ipv4() != subnet.addr().is_ipv4() {
            problems.push(ConfigProblem::Family { what, family });
        } else if !subnet.contains(&addr) {
            problems.push(ConfigProblem::Outside { what, subnet });
        }
    };
    if let Some(gateway) = wish.gateway {
        inside(format!("gateway {gateway}"), gateway);
    }
    for (name, addr) in &wish.aux {
        inside(format!("auxiliary address {name}: {addr}"), *addr);
    }
    if let Some(range) = wish.range {
        let what = format!("ip-range {range}");
        if !named {
            problems.push(ConfigProblem::NoSubnet { what });
        } else if range.addr().is_ipv4() != subnet.addr().is_ipv4() {
            problems.push(ConfigProblem::Family { what, family });
        } else if range.prefix_len() < subnet.prefix_len() {
            problems.push(ConfigProblem::RangeBigger { range, subnet });
        } else if !subnet.contains(&range) {
            problems.push(ConfigProblem::RangeOutside { range, subnet });
        } else if range != range.trunc() {
            problems.push(ConfigProblem::HostBits { what: "ip-range", net: range });
        }
    }
    problems
}
