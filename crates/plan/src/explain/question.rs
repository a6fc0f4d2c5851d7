//! From two places, as people name them, to addresses that can be asked.

use super::sight::Sight;
use super::{Ask, Origin, Service};
use crate::ids::{IfName, NetworkId, SandboxId};
use crate::netstate::Ns;
use crate::world::{Endpoint, GatewayMode, World};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Somebody far away: addresses for documents (RFC 5737, RFC 3849), which nobody has.
const FAR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// A place, found among what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A container in a sandbox, its own or another's.
    Container(SandboxId),
    /// A network's gateway: the host's address on its bridge.
    Gateway(NetworkId),
    /// The host, and containers that have its network.
    Host,
    /// Beyond the host.
    Outside {
        /// Who; `None` is anybody.
        addr: Option<IpAddr>,
        /// By which link; `None` is the one that the routes say.
        link: Option<IfName>,
    },
    /// What a name stands for, or addresses themselves.
    Addrs(Vec<IpAddr>),
}

/// May this place reach that one?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who asks.
    pub from: Place,
    /// Who is asked.
    pub to: Place,
    /// For what.
    pub service: Service,
}

impl Question {
    /// The sandboxes that have to be looked at for an answer.
    pub fn concerns(&self, world: &World) -> BTreeSet<SandboxId> {
        let mut all = BTreeSet::new();
        for place in [&self.from, &self.to] {
            if let Place::Container(id) = place {
                all.insert(id.clone());
            }
        }
        let publishes = |endpoint: &Endpoint| {
            let Service::Port(proto, port) = self.service else { return false };
            endpoint.ports.iter().any(|binding| binding.proto == proto && binding.host_ports().contains(&port))
        };
        let addressed = |endpoint: &Endpoint| match &self.to {
            Place::Addrs(addrs) => endpoint.addrs().any(|addr| addrs.contains(&addr)),
            Place::Outside { addr, .. } => endpoint.addrs().any(|own| Some(own) == *addr),
            _ => false,
        };
        // The next hop of a network may be a container.
        let routes = |endpoint: &Endpoint| {
            let networks = world.networks.values();
            let mut hops = networks.flat_map(|network| {
                let four = network.v4.as_ref().and_then(|v4| v4.default_gateway).map(IpAddr::V4);
                four.into_iter().chain(network.v6.as_ref().and_then(|v6| v6.default_gateway).map(IpAddr::V6))
            });
            hops.any(|hop| endpoint.addrs().any(|own| own == hop))
        };
        let more = world.endpoints.values().filter(|e| publishes(e) || addressed(e) || routes(e));
        all.extend(more.map(|endpoint| endpoint.sandbox.clone()));
        all
    }

    /// Every address to be tried. A sentence if there is none that could be.
    pub(super) fn asks(&self, sight: &Sight, world: &World) -> Result<Vec<Ask>, String> {
        let mut asks = Vec::new();
        for (to, service) in self.targets(sight, world)? {
            let from = match &self.from {
                Place::Container(id) => Origin::Inside(Ns::Of(id.clone())),
                Place::Host | Place::Gateway(_) | Place::Addrs(_) => Origin::Inside(Ns::Host),
                Place::Outside { addr, link } => match stranger(sight, *addr, link.as_ref(), to.is_ipv6()) {
                    Some((link, addr)) => Origin::Outside { link, addr },
                    None => continue,
                },
            };
            asks.push(Ask { from, to, service });
        }
        if asks.is_empty() {
            return Err("there is no address of a family that both have".into());
        }
        Ok(asks)
    }

    fn targets(&self, sight: &Sight, world: &World) -> Result<Vec<(IpAddr, Service)>, String> {
        let plain = |addrs: Vec<IpAddr>| addrs.into_iter().map(|addr| (addr, self.service)).collect::<Vec<_>>();
        Ok(match &self.to {
            Place::Addrs(addrs) => plain(addrs.clone()),
            Place::Gateway(network) => {
                let network = world.networks.get(network).ok_or("the network is gone")?;
                let four = network.v4.as_ref().map(|v4| v4.gateway.into());
                plain(four.into_iter().chain(network.v6.as_ref().map(|v6| v6.gateway.into())).collect())
            }
            Place::Container(id) => self.container(sight, world, id),
            Place::Host => plain(self.host(sight, world)),
            Place::Outside { addr: Some(addr), .. } => plain(vec![*addr]),
            Place::Outside { addr: None, link } => {
                let host = sight.site(&Ns::Host);
                let routes = host.into_iter().flat_map(|host| &host.routes).filter(|way| way.to.prefix_len() == 0);
                let by = routes.filter(|way| link.is_none() || way.dev == *link);
                let hops: BTreeSet<IpAddr> = by.filter_map(|way| way.via).collect();
                let hops: Vec<IpAddr> = hops.into_iter().filter(|hop| !is_link_local(*hop)).collect();
                if hops.is_empty() {
                    return Err("no default route says who is outside: name somebody, as outside=ADDRESS".into());
                }
                plain(hops)
            }
        })
    }

    fn container(&self, sight: &Sight, world: &World, id: &SandboxId) -> Vec<(IpAddr, Service)> {
        let endpoints: Vec<&Endpoint> = world.endpoints_of(id).collect();
        let own = |of: &[&Endpoint]| of.iter().flat_map(|e| e.addrs()).map(|addr| (addr, self.service)).collect();
        match &self.from {
            Place::Container(from) => {
                let on: BTreeSet<&NetworkId> = world.endpoints_of(from).map(|e| &e.network).collect();
                let shared: Vec<&Endpoint> = endpoints.iter().copied().filter(|e| on.contains(&e.network)).collect();
                own(if shared.is_empty() { &endpoints } else { &shared })
            }
            Place::Outside { link, .. } => {
                let published = self.published(sight, &endpoints, link.as_ref());
                if published.is_empty() { own(&endpoints) } else { published }
            }
            _ => own(&endpoints),
        }
    }

    /// Where somebody outside finds a port of a container: at the host's addresses.
    fn published(&self, sight: &Sight, of: &[&Endpoint], link: Option<&IfName>) -> Vec<(IpAddr, Service)> {
        let Service::Port(proto, inner) = self.service else { return Vec::new() };
        let mut found = Vec::new();
        for binding in of.iter().flat_map(|e| &e.ports).filter(|binding| binding.proto == proto) {
            if !binding.inner_ports().contains(&inner) {
                continue;
            }
            let service = Service::Port(proto, binding.host_port + (inner - binding.inner_port));
            let at = match binding.host_ip {
                ip if ip.is_unspecified() => {
                    addrs_outside(sight, link).into_iter().filter(|a| a.is_ipv4() == ip.is_ipv4()).collect()
                }
                ip => vec![ip],
            };
            found.extend(at.into_iter().map(|addr| (addr, service)));
        }
        found
    }

    /// Where this asker would look for the host.
    fn host(&self, sight: &Sight, world: &World) -> Vec<IpAddr> {
        match &self.from {
            Place::Container(from) => {
                let mut gateways: Vec<(bool, IpAddr)> = Vec::new();
                for endpoint in world.endpoints_of(from) {
                    let Some(network) = world.networks.get(&endpoint.network) else { continue };
                    let four = network.v4.as_ref().filter(|v4| v4.mode != GatewayMode::Isolated && !network.unnumbered);
                    let six = network.v6.as_ref().filter(|v6| v6.mode != GatewayMode::Isolated);
                    let four = four.filter(|_| endpoint.addr4.is_some()).map(|v4| v4.gateway.into());
                    let six = six.filter(|_| endpoint.addr6.is_some()).map(|v6| v6.gateway.into());
                    let both = four.into_iter().chain(six);
                    gateways.extend(both.map(|addr: IpAddr| (!endpoint.leads_out(addr.is_ipv6()), addr)));
                }
                gateways.sort_by_key(|(leads, _)| *leads);
                let gateways: Vec<IpAddr> = gateways.into_iter().map(|(_, addr)| addr).collect();
                if gateways.is_empty() { addrs_outside(sight, None) } else { gateways }
            }
            Place::Outside { link, .. } => addrs_outside(sight, link.as_ref()),
            _ => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        }
    }
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}

/// The host's addresses on links that are not ours.
fn addrs_outside(sight: &Sight, link: Option<&IfName>) -> Vec<IpAddr> {
    let host = sight.site(&Ns::Host);
    let links = host.into_iter().flat_map(|host| &host.links);
    let links =
        links.filter(|(name, nic)| !nic.ours && !nic.loopback && nic.up && link.is_none_or(|link| link == *name));
    let addrs = links.flat_map(|(_, nic)| nic.addrs.iter().map(|own| own.addr()));
    addrs.filter(|addr| !is_link_local(*addr)).collect()
}

/// By which link somebody outside comes, and with which address.
fn stranger(sight: &Sight, addr: Option<IpAddr>, link: Option<&IfName>, v6: bool) -> Option<(IfName, IpAddr)> {
    let host = sight.site(&Ns::Host)?;
    if addr.is_some_and(|addr| addr.is_ipv6() != v6) {
        return None;
    }
    let routed = |to: IpAddr| {
        let ways = host.routes.iter().filter(|way| way.to.contains(&to) && way.dev.is_some());
        ways.min_by_key(|way| (u8::MAX - way.to.prefix_len(), way.metric)).and_then(|way| way.dev.clone())
    };
    if let Some(addr) = addr {
        return Some((link.cloned().or_else(|| routed(addr))?, addr));
    }
    let far = FAR[usize::from(v6)];
    let by = routed(far).filter(|by| link.is_none_or(|link| link == by));
    if let Some(by) = by {
        return Some((by, far));
    }
    // No way leads far: somebody on a link beside us.
    let links =
        host.links.iter().filter(|(name, nic)| link.map_or(!nic.ours && !nic.loopback && nic.up, |link| link == *name));
    let beside = links.flat_map(|(name, nic)| nic.addrs.iter().map(move |own| (name, own)));
    let mut beside = beside.filter(|(_, own)| own.addr().is_ipv6() == v6 && !is_link_local(own.addr()));
    beside.find_map(|(name, own)| {
        let other = own.hosts().find(|other| *other != own.addr() && *other != own.network())?;
        Some((name.clone(), other))
    })
}
