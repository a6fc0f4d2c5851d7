//! What the kernel's network should look like if the facts are true.

use crate::ids::{IfName, SandboxId};
use crate::ipam::Block;
use crate::links::{self, Opening, openings};
use crate::netstate::{BridgePort, Link, LinkKind, NetState, Ns, Resolver, Route, Space};
use crate::nft::{Owner, Table, TableName};
use crate::world::{Change, Endpoint, Fact, GatewayMode, Joint, Means, Network, Parent, Subnet, World};
use crate::{firewall, guard};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network that these facts ask for.
///
/// An endpoint whose network or sandbox is not among the facts asks for nothing (`check` finds it).
pub fn desired(world: &World) -> NetState {
    let mut state = NetState::default();
    for id in world.sandboxes.keys() {
        state.spaces.insert(Ns::Of(id.clone()), sandbox(id));
    }
    let mut host = Space::default();
    for network in world.networks.values() {
        if let Some(link) = joint(network, &world.means) {
            host.links.insert(network.bridge.clone(), link);
        }
        if network.has_bridge() {
            host.forwarding.extend(network.families().filter(|_| world.means.forward));
        }
    }
    if world.networks.values().any(Network::has_bridge) && (world.means.firewall4 || world.means.firewall6) {
        host.tables.insert(TableName::inet(), firewall::table(world));
        host.tables.insert(TableName::bridge(), guard::table(world));
    }
    state.spaces.insert(Ns::Host, host);
    for endpoint in world.endpoints.values() {
        if let Some(network) = world.networks.get(&endpoint.network) {
            add_endpoint(&mut state, network, endpoint);
        }
    }
    for opening in world.sandboxes.values().flat_map(|sandbox| openings(world, sandbox)) {
        add_ways(&mut state, &opening);
    }
    state
}

/// Take a change over into `world`, and bring `state`, which is what it asked for, to what it asks for then: the same as
/// computing all anew, at a cost that does not grow with what does not change.
pub fn follow(state: &mut NetState, world: &mut World, change: &Change) {
    if change.iter().any(|fact| matches!(fact, Fact::Network(_) | Fact::NoNetwork(_) | Fact::Relay(_))) {
        world.take(change);
        *state = desired(world);
        return;
    }
    for fact in change {
        let touched = links::touched(world, fact);
        for opening in touched.iter().filter_map(|id| world.sandboxes.get(id)).flat_map(|s| openings(world, s)) {
            remove_opening(state, &opening);
        }
        follow_one(state, world, fact);
        world.take_one(fact);
        // A route may have been there for another link too.
        let again = links::linked_back(world, &touched);
        let again = touched.union(&again).filter_map(|id| world.sandboxes.get(id));
        for opening in again.flat_map(|sandbox| openings(world, sandbox)) {
            add_opening(state, &opening, &world.means);
        }
    }
}

fn follow_one(state: &mut NetState, before: &World, fact: &Fact) {
    match fact {
        Fact::Sandbox(new) => {
            state.spaces.entry(Ns::Of(new.id.clone())).or_insert_with(|| sandbox(&new.id));
        }
        Fact::NoSandbox(id) => {
            state.spaces.remove(&Ns::Of(id.clone()));
        }
        Fact::Endpoint(Endpoint { id, .. }) | Fact::NoEndpoint(id, _) => {
            let new = if let Fact::Endpoint(new) = fact { Some(new) } else { None };
            if let Some(old) = before.endpoints.get(id) {
                remove_endpoint(state, old);
            }
            if let Some((new, network)) = new.and_then(|e| Some((e, before.networks.get(&e.network)?))) {
                if let Some(table) = table(state, TableName::inet()) {
                    firewall::add_endpoint(table, new, before.relay);
                    firewall::leave_alone(table, &before.means);
                }
                if let Some(table) = table(state, TableName::bridge()).filter(|_| network.has_bridge()) {
                    guard::add_endpoint(table, new);
                }
                add_endpoint(state, network, new);
            }
        }
        Fact::Network(_) | Fact::NoNetwork(_) | Fact::Rested(..) | Fact::Relay(_) => {}
    }
}

fn add_opening(state: &mut NetState, opening: &Opening, means: &Means) {
    if let Some(table) = table(state, TableName::inet()) {
        firewall::add_opening(table, opening);
        firewall::leave_alone(table, means);
    }
    add_ways(state, opening);
}

fn add_ways(state: &mut NetState, opening: &Opening) {
    for (ns, route) in opening.routes() {
        if let Some(space) = state.spaces.get_mut(&ns) {
            space.routes.insert(route);
        }
    }
}

fn remove_opening(state: &mut NetState, opening: &Opening) {
    if let Some(table) = table(state, TableName::inet()) {
        firewall::remove_opening(table, opening);
    }
    for (ns, route) in opening.routes() {
        if let Some(space) = state.spaces.get_mut(&ns) {
            space.routes.remove(&route);
        }
    }
}

fn table(state: &mut NetState, name: TableName) -> Option<&mut Table> {
    state.spaces.get_mut(&Ns::Host)?.tables.get_mut(&name)
}

fn sandbox(id: &SandboxId) -> Space {
    let lo = Link::down(LinkKind::Loopback, crate::step::LOOPBACK_MTU, Owner::Sandbox(id.short()));
    let links = BTreeMap::from([(IfName::loopback(), Link { up: true, ..lo })]);
    Space { links, ..Space::default() }
}

fn add_endpoint(state: &mut NetState, network: &Network, endpoint: &Endpoint) {
    let inside = Ns::Of(endpoint.sandbox.clone());
    let Some(space) = state.spaces.get_mut(&inside) else { return };
    space.links.insert(endpoint.inner.clone(), inner_end(network, endpoint));
    space.routes.extend(default_routes(network, endpoint));
    space.resolver = Resolver::Ready;
    if network.has_bridge()
        && let Some(host) = state.spaces.get_mut(&Ns::Host)
    {
        host.links.insert(endpoint.host.clone(), host_end(network, endpoint, inside));
    }
}

fn remove_endpoint(state: &mut NetState, endpoint: &Endpoint) {
    if let Some(table) = table(state, TableName::inet()) {
        firewall::remove_endpoint(table, endpoint);
    }
    if let Some(table) = table(state, TableName::bridge()) {
        guard::remove_endpoint(table, endpoint);
    }
    if let Some(space) = state.spaces.get_mut(&Ns::Of(endpoint.sandbox.clone())) {
        space.links.remove(&endpoint.inner);
        space.routes.retain(|route| route.dev != endpoint.inner);
        // Nothing but `lo` is left: it is on no network any more.
        if space.links.len() == 1 {
            space.resolver = Resolver::Absent;
        }
    }
    if let Some(host) = state.spaces.get_mut(&Ns::Host) {
        host.links.remove(&endpoint.host);
    }
}

/// What is made for a network before its containers come: a bridge, or the interface on whose segment they are. `None` where that
/// one is the host's.
fn joint(network: &Network, means: &Means) -> Option<Link> {
    if network.has_bridge() {
        return Some(bridge(network, means));
    }
    let Joint::Macvlan { parent: Parent::Vlan { of, id }, .. } = &network.joint else { return None };
    // The host itself is no station there.
    let kind = LinkKind::Vlan { of: Some(of.clone()), id: *id };
    Some(Link { up: true, no_ipv6: true, ..Link::down(kind, network.mtu, Owner::Network(network.id.short())) })
}

fn bridge(network: &Network, means: &Means) -> Link {
    let kind = if network.foreign_bridge { LinkKind::ForeignBridge } else { LinkKind::Bridge };
    let four = network.v4.as_ref().filter(|_| !network.unnumbered).map(|v4| on(v4, v4.gateway));
    let apart = |mode: GatewayMode| mode == GatewayMode::Isolated;
    let four = four.filter(|_| !network.v4.as_ref().is_some_and(|v4| apart(v4.mode)));
    let six = network.v6.as_ref().filter(|v6| !apart(v6.mode)).map(|v6| on(v6, v6.gateway));
    let owner = Owner::Network(network.id.short());
    Link {
        mac: Some(network.mac),
        up: true,
        addrs: four.into_iter().chain(six).flatten().collect(),
        no_ipv6: six.is_none(),
        // Only where rules keep others from using it.
        route_localnet: network.v4.as_ref().is_some_and(|v4| !apart(v4.mode))
            && !network.foreign_bridge
            && means.firewall4,
        ..Link::down(kind, network.mtu, owner)
    }
}

fn host_end(network: &Network, endpoint: &Endpoint, inside: Ns) -> Link {
    let kind = LinkKind::Veth { peer: Some((inside, endpoint.inner.clone())) };
    let owner = Owner::Endpoint(endpoint.id.short());
    // Under br_netfilter a container's way to its own published port turns around in the bridge.
    let port = BridgePort { isolated: !network.icc, hairpin: !endpoint.ports.is_empty(), groups: true };
    Link { up: true, master: Some(network.bridge.clone()), port, ..Link::down(kind, network.mtu, owner) }
}

fn inner_end(network: &Network, endpoint: &Endpoint) -> Link {
    let kind = match &network.joint {
        Joint::Macvlan { mode, .. } if !network.has_bridge() => {
            LinkKind::Macvlan { parent: Some(network.bridge.clone()), mode: Some(*mode) }
        }
        _ => LinkKind::Veth { peer: Some((Ns::Host, endpoint.host.clone())) },
    };
    let four = network.v4.as_ref().zip(endpoint.addr4).and_then(|(v4, addr)| on(v4, addr));
    let six = network.v6.as_ref().zip(endpoint.addr6).and_then(|(v6, addr)| on(v6, addr));
    let owner = Owner::Endpoint(endpoint.id.short());
    let local =
        endpoint.link_local.iter().filter_map(|addr| IpNet::new(*addr, if addr.is_ipv4() { 16 } else { 64 }).ok());
    let addrs: BTreeSet<IpNet> = four.into_iter().chain(six).chain(local).collect();
    Link {
        mac: Some(endpoint.mac),
        up: true,
        addrs,
        no_ipv6: six.is_none(),
        sysctls: endpoint.sysctls.clone(),
        ..Link::down(kind, network.mtu, owner)
    }
}

/// An address with the length of its subnet's prefix.
fn on<N: Block>(subnet: &Subnet<N, N::Addr>, addr: N::Addr) -> Option<IpNet> {
    IpNet::new(addr.into(), subnet.net.prefix()).ok()
}

fn default_routes(network: &Network, endpoint: &Endpoint) -> impl Iterator<Item = Route> + use<> {
    let leads = |v6: bool| endpoint.leads_out(v6) && !network.internal;
    let four = network.v4.as_ref().filter(|_| leads(false));
    let six = network.v6.as_ref().filter(|_| leads(true));
    let dev = endpoint.inner.clone();
    let route = move |to: IpNet, via: IpAddr| Route { to, via: Some(via), dev: dev.clone() };
    let everywhere4 = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
    let everywhere6 = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);
    let four = four.map(|v4| route(everywhere4.into(), v4.default_gateway.unwrap_or(v4.gateway).into()));
    let six = six.map(|v6| route(everywhere6.into(), v6.default_gateway.unwrap_or(v6.gateway).into()));
    four.into_iter().chain(six)
}
