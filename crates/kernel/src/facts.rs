//! Facts about the host that decisions need: which subnets, names and ports are taken, and how large packets may be.

use crate::fault::Refused;
use crate::{Fault, Host, address, link, route, sysctl};
use ipnet::IpNet;
use plan::ids::IfName;
use plan::netstate::{Errno, IpFamily};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;

/// The range that the kernel itself falls back to (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: (u16, u16) = (32768, 60999);

/// What the host's namespace holds, ours and strangers'.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Routes of the main tables, default routes included.
    pub routes: BTreeSet<HostRoute>,
    /// Addresses with their prefix lengths, by link.
    pub addrs: BTreeMap<IfName, BTreeSet<IpNet>>,
    /// All links.
    pub links: BTreeMap<IfName, HostLink>,
    /// The MTU of the preferred IPv4 default route (of IPv6 where there is none), in bytes: the route's own, or its
    /// link's.
    pub default_mtu: Option<u32>,
    /// First and last of the ports that the kernel gives to programs that do not care
    /// (`net.ipv4.ip_local_port_range`).
    pub ephemeral: (u16, u16),
    /// Ports that are kept from being given out (`net.ipv4.ip_local_reserved_ports`), as first and last.
    pub reserved: Vec<(u16, u16)>,
    /// Families whose forwarding is on.
    pub forwarding: BTreeSet<IpFamily>,
    /// The kernel speaks IPv6.
    pub ipv6: bool,
}

/// A link of the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLink {
    /// The kernel's number for it.
    pub index: u32,
    /// In bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// A bridge.
    pub bridge: bool,
    /// Made by us.
    pub ours: bool,
    /// The bridge that it is a port of.
    pub master: Option<IfName>,
}

/// A route of the host's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoute {
    /// Where to.
    pub to: IpNet,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// Out of which link; `None` for several, and for refusals.
    pub dev: Option<IfName>,
    /// Smaller is preferred.
    pub metric: u32,
}

impl Host {
    /// Look at the host: at everything that is there.
    ///
    /// # Errors
    /// What the kernel answered, or which file under `/proc/sys` could not be read.
    pub fn facts(&mut self) -> Result<HostFacts, Fault> {
        let links = link::all(&mut self.rt).map_err(read("links"))?;
        let addresses = address::all(&mut self.rt).map_err(read("addresses"))?;
        let routes = route::all(&mut self.rt, false).map_err(read("routes"))?;
        self.collect(&links, &addresses, &routes)
    }

    /// Look at what others have on the host, and at the links of these names, whoever made them: what is ours is left out, and so
    /// are link-local addresses and routes. A list of all links would cost more with every container that runs.
    ///
    /// # Errors
    /// As [`Host::facts`].
    pub fn strangers(&mut self, names: &[IfName]) -> Result<HostFacts, Fault> {
        let local =
            |net: &IpNet| matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local() || v6.addr().is_multicast());
        let mut addresses = address::all(&mut self.rt).map_err(read("addresses"))?;
        let mut routes = route::all(&mut self.rt, false).map_err(read("routes"))?;
        // Each link of ours that leads anywhere has an address of ours.
        let ours: BTreeSet<u32> = addresses.iter().filter(|seen| seen.ours).map(|seen| seen.link).collect();
        addresses.retain(|seen| !ours.contains(&seen.link) && !local(&seen.addr));
        routes.retain(|seen| !seen.ours && !local(&seen.to) && seen.link.is_none_or(|link| !ours.contains(&link)));
        let indexes = addresses.iter().map(|seen| seen.link).chain(routes.iter().filter_map(|seen| seen.link));
        let mut links = Vec::new();
        for index in indexes.collect::<BTreeSet<u32>>() {
            match link::with_index(&mut self.rt, index) {
                // It went meanwhile.
                Err(refused) if refused.errno == libc::ENODEV => {}
                seen => links.push(seen.map_err(read("links"))?),
            }
        }
        for name in names {
            match link::named(&mut self.rt, name) {
                Err(refused) if refused.errno == libc::ENODEV => {}
                seen => {
                    let seen = seen.map_err(read("links"))?;
                    if links.iter().all(|link| link.index != seen.index) {
                        links.push(seen);
                    }
                }
            }
        }
        // A link without an address of ours may be ours all the same: before Linux 5.18 nothing tells.
        let ours: BTreeSet<u32> = links.iter().filter(|link| link.ours).map(|link| link.index).collect();
        addresses.retain(|seen| !ours.contains(&seen.link));
        routes.retain(|seen| seen.link.is_none_or(|link| !ours.contains(&link)));
        self.collect(&links, &addresses, &routes)
    }

    fn collect(
        &mut self,
        links: &[link::Seen],
        addresses: &[address::Seen],
        routes: &[route::Seen],
    ) -> Result<HostFacts, Fault> {
        let named = |index: u32| links.iter().find(|link| link.index == index);
        let mut facts = HostFacts {
            default_mtu: default_mtu(routes, links),
            ephemeral: EPHEMERAL,
            ipv6: std::path::Path::new("/proc/sys/net/ipv6").exists(),
            ..HostFacts::default()
        };
        for seen in addresses {
            if let Some(link) = named(seen.link) {
                facts.addrs.entry(link.name.clone()).or_default().insert(seen.addr);
            }
        }
        facts.routes = routes
            .iter()
            .map(|seen| {
                let dev = seen.link.and_then(named).map(|link| link.name.clone());
                HostRoute { to: seen.to, via: seen.via, dev, metric: seen.metric }
            })
            .collect();
        for family in [IpFamily::V4, IpFamily::V6] {
            if sysctl::forwards(&mut self.rt, family).map_err(read("forwarding"))? {
                facts.forwarding.insert(family);
            }
        }
        for link in links {
            let (bridge, ours) = (link.kind == link::Kind::Bridge, link.ours);
            let master = link.master.and_then(named).map(|master| master.name.clone());
            facts.links.insert(
                link.name.clone(),
                HostLink { index: link.index, mtu: link.mtu, up: link.up, bridge, ours, master },
            );
        }
        if let [first, last] = ports("ip_local_port_range")?[..] {
            facts.ephemeral = (first.0, last.0);
        }
        facts.reserved = ports("ip_local_reserved_ports")?;
        Ok(facts)
    }
}

fn read(what: &'static str) -> impl Fn(Refused) -> Fault {
    move |refused| {
        let source = Errno::Kernel { errno: refused.errno, text: refused.text };
        Fault::Kernel { what, source }
    }
}

fn default_mtu(routes: &[route::Seen], links: &[link::Seen]) -> Option<u32> {
    let defaults = routes.iter().filter(|route| route.unicast && route.to.prefix_len() == 0);
    let best = defaults.min_by_key(|route| (route.to.addr().is_ipv6(), route.metric))?;
    let link = links.iter().find(|link| Some(link.index) == best.link);
    best.mtu.or(link.map(|link| link.mtu))
}

/// Numbers and ranges, with blanks or commas between.
fn ports(setting: &str) -> Result<Vec<(u16, u16)>, Fault> {
    let path = format!("/proc/sys/net/ipv4/{setting}");
    let text = fs::read_to_string(&path).map_err(|source| Fault::Proc { path, source })?;
    Ok(parse_ports(&text))
}

fn parse_ports(text: &str) -> Vec<(u16, u16)> {
    let parts = text.split([' ', '\t', ',', '\n']).filter(|part| !part.is_empty());
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    parts.filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_settings_are_read() {
        assert_eq!(parse_ports("32768\t60999\n"), [(32768, 32768), (60999, 60999)]);
        assert_eq!(parse_ports("8080,9000-9010\n"), [(8080, 8080), (9000, 9010)]);
        assert_eq!(parse_ports("\n"), []);
    }
}
