//! Sees all that is ours.

use crate::fault::Refused;
use crate::link::{self, Kind};
use crate::rtnetlink::Rtnetlink;
use crate::{Host, address, route, sysctl};
use plan::ids::{IfName, SandboxId};
use plan::netstate::{IpFamily, Link, LinkKind, NetState, Ns, Resolver, Route, Space};
use plan::nft::{Owner, Table, TableName};
use plan::stub;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One namespace as the kernel shows it.
struct Look {
    links: Vec<link::Seen>,
    addresses: HashMap<u32, BTreeSet<ipnet::IpNet>>,
    routes: BTreeSet<Route>,
    forwarding: BTreeSet<IpFamily>,
}

/// Where the other end of a pair is: by its namespace's number as the host knows it, and its index there.
type Place = (i32, u32);

impl Host {
    pub(crate) fn look(&mut self) -> Result<NetState, Refused> {
        let outside = look(&mut self.rt)?;
        self.dying.forget(|index| outside.links.iter().any(|link| link.index == index));
        let mut inside = Vec::new();
        for id in self.spaces.list()? {
            // It may be unpinned by somebody else while we look; then it is not there.
            if let Some(look) = self.look_inside(&id)? {
                inside.push((id, look));
            }
        }
        let pairs = pairs(&outside, &inside);
        let tables = self.nft.tables()?.clone();
        let mut links = self.host_links(&outside, &pairs);
        self.silence(&Ns::Host, &outside.links, &mut links);
        let names: HashMap<u32, IfName> = outside.links.iter().map(|link| (link.index, link.name.clone())).collect();
        let (routes, forwarding) = (outside.routes, outside.forwarding);
        let host = Space { links, routes, forwarding, tables, resolver: Resolver::Absent };
        let mut state = NetState { spaces: BTreeMap::from([(Ns::Host, host)]) };
        for (id, (_, look)) in inside {
            let mut links = inner_links(&id, &look, &pairs, &names);
            self.silence(&Ns::Of(id.clone()), &look.links, &mut links);
            let ns = Ns::Of(id.clone());
            for (name, link) in links.iter_mut().filter(|_| !self.sysctls.is_empty()) {
                link.sysctls = self.sysctls.get(&(ns.clone(), name.clone())).cloned().unwrap_or_default();
            }
            let (tables, resolver) = self.tables_inside(&id)?;
            let space = Space { links, routes: look.routes, forwarding: look.forwarding, tables, resolver };
            state.spaces.insert(Ns::Of(id), space);
        }
        Ok(state)
    }

    /// A sandbox's number and content; `None` if it is gone.
    fn look_inside(&mut self, id: &SandboxId) -> Result<Option<(Option<i32>, Look)>, Refused> {
        let Some(space) = self.spaces.get(id)? else { return Ok(None) };
        if space.nsid.is_none() {
            // It has none as long as no link of the host's has its other end there.
            space.nsid = crate::host::number_of(&mut self.rt, space)?;
        }
        let seen = look(&mut space.rt)?;
        Ok(Some((space.nsid, seen)))
    }

    /// A sandbox's tables, and what it has of a resolver: its table is told apart from others by being what it should be.
    fn tables_inside(&mut self, id: &SandboxId) -> Result<(BTreeMap<TableName, Table>, Resolver), Refused> {
        let listens = self.spaces.get(id)?.is_some_and(|space| space.listens);
        let Some(nft) = self.spaces.nft(id)? else { return Ok((BTreeMap::new(), Resolver::Absent)) };
        let seen = nft.tables()?;
        let whole = seen.get(&stub::name()).is_some_and(|table| *table == self.stub);
        let others = seen.iter().filter(|(name, _)| !whole || **name != stub::name());
        let resolver = match (listens, whole) {
            (true, true) => Resolver::Ready,
            (false, false) => Resolver::Absent,
            _ => Resolver::Broken,
        };
        Ok((others.map(|(name, table)| (name.clone(), table.clone())).collect(), resolver))
    }

    /// Links that cannot speak IPv6 do not, as they were told.
    fn silence(&self, ns: &Ns, seen: &[link::Seen], links: &mut BTreeMap<IfName, Link>) {
        for link in seen.iter().filter(|link| !link.speaks_ipv6) {
            if let Some(shown) = links.get_mut(&link.name) {
                shown.no_ipv6 = self.silent.contains(&(ns.clone(), link.name.clone()));
            }
        }
    }

    fn host_links(&self, outside: &Look, pairs: &Pairs) -> BTreeMap<IfName, Link> {
        let living = || outside.links.iter().filter(|link| link.ours && !self.dying.contains(link.index));
        let masters: BTreeSet<u32> = living().filter_map(|link| link.master).collect();
        let names: HashMap<u32, &IfName> = outside.links.iter().map(|link| (link.index, &link.name)).collect();
        let foreign = outside.links.iter().filter(|link| !link.ours && masters.contains(&link.index));
        living()
            .chain(foreign)
            .map(|seen| {
                let kind = match seen.kind {
                    Kind::Bridge if seen.ours => LinkKind::Bridge,
                    Kind::Bridge => LinkKind::ForeignBridge,
                    Kind::Vlan(id) => {
                        let of = seen.peer.filter(|_| seen.peer_space.is_none());
                        LinkKind::Vlan { of: of.and_then(|index| names.get(&index)).map(|name| (*name).clone()), id }
                    }
                    _ => LinkKind::Veth {
                        peer: pairs.inner.get(&seen.index).map(|(id, name)| (Ns::Of(id.clone()), name.clone())),
                    },
                };
                let link = Link {
                    mac: seen.mac.filter(|_| seen.kind == Kind::Bridge),
                    master: seen.master.and_then(|index| names.get(&index)).map(|name| (*name).clone()),
                    port: seen.port,
                    route_localnet: seen.route_localnet && kind == LinkKind::Bridge,
                    addrs: outside.addresses.get(&seen.index).cloned().unwrap_or_default(),
                    ..of(seen, kind, Owner::Engine)
                };
                (seen.name.clone(), link)
            })
            .collect()
    }
}

/// `outside` are the host's interfaces by their indexes.
fn inner_links(id: &SandboxId, look: &Look, pairs: &Pairs, outside: &HashMap<u32, IfName>) -> BTreeMap<IfName, Link> {
    let shown = look.links.iter().filter(|link| link.ours || link.kind == Kind::Loopback);
    shown
        .map(|seen| {
            let (kind, mac) = match seen.kind {
                Kind::Loopback => (LinkKind::Loopback, None),
                Kind::Bridge => (LinkKind::Bridge, seen.mac),
                // Of another namespace than its own; which one a sandbox does not say, and ours are the host's.
                Kind::Macvlan(mode) => {
                    let parent = seen.peer.filter(|_| seen.peer_space.is_some());
                    let parent = parent.and_then(|index| outside.get(&index)).cloned();
                    (LinkKind::Macvlan { parent, mode }, seen.mac)
                }
                _ => {
                    let peer = pairs.outer.get(&(id.clone(), seen.index)).map(|name| (Ns::Host, name.clone()));
                    (LinkKind::Veth { peer }, seen.mac)
                }
            };
            let addrs = look.addresses.get(&seen.index).cloned().unwrap_or_default();
            (seen.name.clone(), Link { mac, addrs, ..of(seen, kind, Owner::Sandbox(id.short())) })
        })
        .collect()
}

/// What both sides have in common. A link without a readable alias is somebody's or was left half made; then `nobody`
/// stands in for its owner.
fn of(seen: &link::Seen, kind: LinkKind, nobody: Owner) -> Link {
    let owner = if kind == LinkKind::Loopback { nobody } else { seen.owner.unwrap_or(nobody) };
    Link { up: seen.up, no_ipv6: seen.no_ipv6, ..Link::down(kind, seen.mtu, owner) }
}

fn look(rt: &mut Rtnetlink) -> Result<Look, Refused> {
    let links = link::all(rt)?;
    let names: HashMap<u32, &IfName> = links.iter().map(|link| (link.index, &link.name)).collect();
    let mut addresses: HashMap<u32, BTreeSet<ipnet::IpNet>> = HashMap::new();
    for seen in address::all(rt)?.into_iter().filter(|seen| !seen.automatic) {
        addresses.entry(seen.link).or_default().insert(seen.addr);
    }
    let routes = route::all(rt, true)?.into_iter();
    let routes = routes.filter_map(|seen| {
        let dev = (*names.get(&seen.link?)?).clone();
        Some(Route { to: seen.to, via: seen.via, dev })
    });
    let routes = routes.collect();
    let mut forwarding = BTreeSet::new();
    for family in [IpFamily::V4, IpFamily::V6] {
        if sysctl::forwards(rt, family)? {
            forwarding.insert(family);
        }
    }
    Ok(Look { links, addresses, routes, forwarding })
}

/// Which link of the host's belongs to which link in a sandbox.
struct Pairs {
    /// By the index of the host's end.
    inner: HashMap<u32, (SandboxId, IfName)>,
    /// By sandbox and the inner end's index there.
    outer: HashMap<(SandboxId, u32), IfName>,
}

fn pairs(outside: &Look, inside: &[(SandboxId, (Option<i32>, Look))]) -> Pairs {
    let mut places: HashMap<Place, (&SandboxId, &IfName)> = HashMap::new();
    for (id, (nsid, look)) in inside {
        let Some(nsid) = nsid else { continue };
        places.extend(look.links.iter().map(|link| ((*nsid, link.index), (id, &link.name))));
    }
    let mut pairs = Pairs { inner: HashMap::new(), outer: HashMap::new() };
    for end in outside.links.iter().filter(|link| link.ours && link.kind == Kind::Veth) {
        let Some(place) = end.peer_space.zip(end.peer) else { continue };
        if let Some((id, name)) = places.get(&place) {
            pairs.inner.insert(end.index, ((*id).clone(), (*name).clone()));
            pairs.outer.insert(((*id).clone(), place.1), end.name.clone());
        }
    }
    pairs
}
