//! All that a packet may meet on a host, as one value: what is ours and what is others'.

use crate::ids::{IfName, Mac};
use crate::listener::Listener;
use crate::netstate::{IpFamily, Link, LinkKind, NetState, Ns, Resolver, Route};
use crate::nft::{Table, TableName};
use crate::stub;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::strangers::Stranger;

/// A host and those of its sandboxes that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The namespaces.
    pub sites: BTreeMap<Ns, Site>,
    /// Families whose packets the inet rules see when a bridge passes them on (`net.bridge.bridge-nf-call-ip(6)tables`).
    pub bridged: BTreeSet<IpFamily>,
}

/// One namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// All links.
    pub links: BTreeMap<IfName, Nic>,
    /// The main table.
    pub routes: Vec<Way>,
    /// Families that are forwarded.
    pub forwarding: BTreeSet<IpFamily>,
    /// Tables of ours.
    pub tables: BTreeMap<TableName, Table>,
    /// Others' base chains.
    pub strangers: Vec<Stranger>,
    /// Sockets that wait for somebody.
    pub listeners: Vec<Listener>,
    /// There are rules that choose among routing tables (`ip rule`), which are not looked at.
    pub chooses_tables: bool,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nic {
    /// Made by us.
    pub ours: bool,
    /// `lo`
    pub loopback: bool,
    /// A bridge.
    pub bridge: bool,
    /// Administratively up.
    pub up: bool,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// The bridge that it is a port of.
    pub master: Option<IfName>,
    /// The bridge passes nothing from it to another such port.
    pub isolated: bool,
    /// The bridge may send back to it what came from it.
    pub hairpin: bool,
    /// The other end of a pair, where that is in a namespace that was looked at.
    pub peer: Option<(Ns, IfName)>,
    /// Addresses with their prefix lengths.
    pub addrs: BTreeSet<IpNet>,
    /// IPv6 is off on it.
    pub no_ipv6: bool,
    /// Packets of 127.0.0.0/8 may pass it.
    pub route_localnet: bool,
    /// `rp_filter` as it takes effect, the greater of its own and that of all links: 0 is no check of the way back, 1 wants it
    /// by the same link, 2 by any.
    pub rp_filter: u8,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where to.
    pub to: IpNet,
    /// The next hop; `None` is on the link itself.
    pub via: Option<IpAddr>,
    /// Out of which link; `None` for one that refuses, or that has several next hops.
    pub dev: Option<IfName>,
    /// Smaller is preferred.
    pub metric: u32,
    /// The source that it suggests.
    pub source: Option<IpAddr>,
    /// It refuses (`unreachable`, `prohibit`, `blackhole`).
    pub refuses: bool,
    /// Made by us.
    pub ours: bool,
}

impl Nic {
    fn of(link: &Link, rp_filter: u8) -> Nic {
        let peer = match &link.kind {
            LinkKind::Veth { peer } => peer.clone(),
            _ => None,
        };
        Nic {
            ours: link.kind != LinkKind::ForeignBridge && link.kind != LinkKind::Loopback,
            loopback: link.kind == LinkKind::Loopback,
            bridge: matches!(link.kind, LinkKind::Bridge | LinkKind::ForeignBridge),
            up: link.up,
            mac: link.mac,
            master: link.master.clone(),
            isolated: link.port.isolated,
            hairpin: link.port.hairpin,
            peer,
            addrs: link.addrs.clone(),
            no_ipv6: link.no_ipv6,
            route_localnet: link.route_localnet,
            rp_filter,
        }
    }
}

impl Sight {
    /// The same host if what is ours were as wished for. What others made, who listens, and settings that are not ours stay as
    /// they were seen. Sandboxes that were not looked at are left out but for their links, so that the answer costs no more
    /// than what it is about.
    pub fn wished(&self, want: &NetState) -> Sight {
        let mut sight = Sight { sites: BTreeMap::new(), bridged: self.bridged.clone() };
        for (ns, seen) in &self.sites {
            let Some(space) = want.spaces.get(ns) else {
                sight.sites.insert(ns.clone(), seen.clone());
                continue;
            };
            let mut site = Site {
                links: seen
                    .links
                    .iter()
                    .filter(|(_, nic)| !nic.ours)
                    .map(|(n, nic)| (n.clone(), nic.clone()))
                    .collect(),
                forwarding: seen.forwarding.union(&space.forwarding).copied().collect(),
                tables: space.tables.clone(),
                strangers: seen.strangers.clone(),
                listeners: seen.listeners.clone(),
                chooses_tables: seen.chooses_tables,
                routes: Vec::new(),
            };
            // A new link takes the settings of all.
            let usual = seen.links.values().map(|nic| nic.rp_filter).min().unwrap_or_default();
            for (name, link) in &space.links {
                let rp_filter = seen.links.get(name).map_or(usual, |nic| nic.rp_filter);
                let mut nic = Nic::of(link, rp_filter);
                if let Some(foreign) = seen.links.get(name).filter(|nic| !nic.ours) {
                    // Ours are only its addresses.
                    nic = Nic { addrs: foreign.addrs.union(&link.addrs).copied().collect(), ..foreign.clone() };
                }
                site.links.insert(name.clone(), nic);
            }
            let theirs = |way: &&Way| {
                let dev = way.dev.as_ref();
                !way.ours && !dev.is_some_and(|dev| seen.links.get(dev).is_some_and(|nic| nic.ours))
            };
            site.routes = seen.routes.iter().filter(theirs).cloned().collect();
            site.routes.extend(space.links.iter().flat_map(|(name, link)| on_link(name, link)));
            site.routes.extend(space.routes.iter().map(Way::of));
            if space.resolver == Resolver::Ready {
                site.tables.insert(stub::name(), stub::table());
            }
            sight.sites.insert(ns.clone(), site);
        }
        sight
    }

    /// A namespace's address-holding links, by the address's exact value.
    pub fn site(&self, ns: &Ns) -> Option<&Site> {
        self.sites.get(ns)
    }
}

impl Way {
    fn of(route: &Route) -> Way {
        let Route { to, via, dev } = route.clone();
        let metric = if to.addr().is_ipv6() { USUAL_METRIC6 } else { 0 };
        Way { to, via, dev: Some(dev), metric, source: None, refuses: false, ours: true }
    }
}

/// `IP6_RT_PRIO_USER` (linux/ipv6_route.h)
const USUAL_METRIC6: u32 = 1024;

/// The routes that the kernel makes for a link's addresses.
fn on_link<'a>(name: &'a IfName, link: &'a Link) -> impl Iterator<Item = Way> + 'a {
    let ways = link.addrs.iter().filter(|_| link.up).filter(|addr| addr.addr().is_ipv4() || !link.no_ipv6);
    ways.map(|addr| Way {
        to: addr.trunc(),
        via: None,
        dev: Some(name.clone()),
        // `IP6_RT_PRIO_ADDRCONF`
        metric: if addr.addr().is_ipv6() { 256 } else { 0 },
        source: addr.addr().is_ipv4().then(|| addr.addr()),
        refuses: false,
        ours: false,
    })
}

impl Site {
    /// The link that has an address. Those of IPv4 outlive a link that goes down.
    pub fn holder(&self, addr: IpAddr) -> Option<&IfName> {
        let lives = |nic: &Nic| addr.is_ipv4() || (nic.up && !nic.no_ipv6);
        let has = |nic: &Nic| lives(nic) && nic.addrs.iter().any(|own| own.addr() == addr);
        self.links.iter().find(|(_, nic)| has(nic)).map(|(name, _)| name)
    }

    /// Does this namespace take what is meant for an address?
    pub fn is_local(&self, addr: IpAddr) -> bool {
        let lo = || self.links.values().any(|nic| nic.loopback && nic.up);
        match addr {
            IpAddr::V4(v4) if v4.is_loopback() => lo(),
            IpAddr::V6(v6) if v6.is_loopback() => lo(),
            addr => self.holder(addr).is_some(),
        }
    }
}
