//! Sees all that a packet may meet: what is ours and what is others'.

use crate::fault::Refused;
use crate::link::{self, Kind};
use crate::rtnetlink::Rtnetlink;
use crate::{Fault, Host, address, route, sysctl, waiting};
use plan::explain::sight::{Nic, Sight, Site, Way};
use plan::ids::{IfName, SandboxId};
use plan::netstate::{Errno, IpFamily, Ns};
use plan::world::Proto;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Whose listeners are looked for.
const ALL: [Proto; 3] = [Proto::Tcp, Proto::Udp, Proto::Sctp];

impl Host {
    /// The host, and these of its sandboxes that there are.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn sight(&mut self, sandboxes: &BTreeSet<SandboxId>) -> Result<Sight, Fault> {
        self.try_sight(sandboxes).map_err(|refused| {
            let source = Errno::Kernel { errno: refused.errno, text: refused.text };
            Fault::Kernel { what: "network, and that of sandboxes", source }
        })
    }

    fn try_sight(&mut self, sandboxes: &BTreeSet<SandboxId>) -> Result<Sight, Refused> {
        let mut sight = Sight::default();
        let mut places: HashMap<(i32, u32), (Ns, IfName)> = HashMap::new();
        let outside = link::all(&mut self.rt)?;
        let mut inside: Vec<(SandboxId, Vec<link::Seen>)> = Vec::new();
        for id in sandboxes {
            let Some(space) = self.spaces.get(id)? else { continue };
            // It has none as long as no link of the host's has its other end there.
            let nsid = crate::host::number_of(&mut self.rt, space)?;
            let links = link::all(&mut space.rt)?;
            for link in links.iter().filter(|_| nsid.is_some()) {
                places.insert((nsid.unwrap_or_default(), link.index), (Ns::Of(id.clone()), link.name.clone()));
            }
            inside.push((id.clone(), links));
        }
        let mut host = site(&mut self.rt, &outside)?;
        host.tables = self.nft.tables()?.clone();
        let names = outside.iter().map(|link| (link.index, link.name.clone())).collect();
        host.strangers = self.nft.strangers(&names)?;
        host.strangers.extend(crate::legacy::strangers()?);
        host.listeners = waiting::listeners(&ALL)?;
        // Both ends of each pair know the other.
        let mut outer: BTreeMap<(Ns, IfName), IfName> = BTreeMap::new();
        for seen in &outside {
            let place = seen.peer_space.zip(seen.peer).and_then(|place| places.get(&place));
            if let (Some(place), Some(nic)) = (place, host.links.get_mut(&seen.name)) {
                nic.peer = Some(place.clone());
                outer.insert(place.clone(), seen.name.clone());
            }
        }
        sight.bridged = [IpFamily::V4, IpFamily::V6].into_iter().filter(|of| sysctl::sees_bridged(*of)).collect();
        sight.sites.insert(Ns::Host, host);
        for (id, links) in inside {
            let ns = Ns::Of(id.clone());
            let Some(space) = self.spaces.get(&id)? else { continue };
            let mut site = site(&mut space.rt, &links)?;
            for (name, nic) in &mut site.links {
                let peer = outer.get(&(ns.clone(), name.clone()));
                nic.peer = peer.map(|peer| (Ns::Host, peer.clone()));
            }
            if let Some(nft) = self.spaces.nft(&id)? {
                site.tables = nft.tables()?.clone();
                let names = links.iter().map(|link| (link.index, link.name.clone())).collect();
                site.strangers = nft.strangers(&names)?;
            }
            let listeners = self.spaces.inside(&id, || Ok(waiting::listeners(&ALL)))?;
            site.listeners = listeners.transpose()?.unwrap_or_default();
            sight.sites.insert(ns, site);
        }
        Ok(sight)
    }
}

fn site(rt: &mut Rtnetlink, links: &[link::Seen]) -> Result<Site, Refused> {
    let name_of = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let strict = sysctl::looks_back(rt)?;
    let mut site = Site { chooses_tables: route::chosen_by_rules(rt)?, ..Site::default() };
    for seen in links {
        let nic = Nic {
            ours: seen.ours,
            loopback: seen.kind == Kind::Loopback,
            bridge: seen.kind == Kind::Bridge,
            up: seen.up,
            mac: seen.mac,
            master: seen.master.and_then(name_of),
            isolated: seen.port.isolated,
            hairpin: seen.port.hairpin,
            peer: None,
            addrs: BTreeSet::new(),
            no_ipv6: seen.no_ipv6,
            route_localnet: seen.route_localnet,
            rp_filter: seen.rp_filter.max(strict),
        };
        site.links.insert(seen.name.clone(), nic);
    }
    let names: HashMap<u32, &IfName> = links.iter().map(|link| (link.index, &link.name)).collect();
    for seen in address::all(rt)? {
        let nic = names.get(&seen.link).and_then(|name| site.links.get_mut(*name));
        if let Some(nic) = nic {
            nic.addrs.insert(seen.addr);
        }
    }
    let routes = route::all(rt, false)?.into_iter().filter(|route| route.unicast || route.refuses);
    site.routes = routes
        .map(|seen| Way {
            to: seen.to,
            via: seen.via,
            dev: seen.link.filter(|_| !seen.refuses).and_then(|index| names.get(&index)).map(|name| (*name).clone()),
            metric: seen.metric,
            source: seen.source,
            refuses: seen.refuses,
            ours: seen.ours,
        })
        .collect();
    for family in [IpFamily::V4, IpFamily::V6] {
        if sysctl::forwards(rt, family)? {
            site.forwarding.insert(family);
        }
    }
    Ok(site)
}
