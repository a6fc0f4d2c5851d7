//! The ways between containers of a network that keeps them apart: what links open.
//!
//! Such a network's bridge passes no frame from one container to another, so the two ends of a link meet at layer 3: each
//! has a route to the other by way of the host, whose firewall tracks flows and knows the ports. Whoever is not linked has no
//! route, and if he makes one himself, the firewall stops him. In a family without a firewall a link opens nothing: on that way
//! it would open all ports, in both directions.

use crate::ids::{ContainerId, EndpointId, SandboxId};
use crate::netstate::{IpFamily, Ns, Route};
use crate::nft::{Key, Owner, Value, Why};
use crate::world::{Endpoint, Fact, Linked, Means, Network, Sandbox, World};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// One link between two endpoints of a network that keeps its containers apart.
pub(crate) struct Opening<'a> {
    source: &'a Endpoint,
    target: &'a Endpoint,
    network: &'a Network,
    linked: &'a Linked,
    means: Means,
}

/// What the links of a sandbox's container open as things are now: nothing while one of the two ends is not there.
pub(crate) fn openings<'a>(world: &'a World, sandbox: &'a Sandbox) -> Vec<Opening<'a>> {
    let mut openings = Vec::new();
    for linked in &sandbox.linked {
        let Some(network) = world.networks.get(&linked.network).filter(|network| !network.icc) else { continue };
        for target in world.places_of(&linked.target, &network.id).filter(|target| target.sandbox != sandbox.id) {
            let from = world.endpoints.values().filter(|e| e.sandbox == sandbox.id && e.network == network.id);
            openings.extend(from.map(|source| Opening { source, target, network, linked, means: world.means }));
        }
    }
    openings
}

impl Opening<'_> {
    /// In the user's words.
    pub(crate) fn why(&self) -> Why {
        let Linked { name, alias, .. } = self.linked;
        Why::new(
            format!("{}: --link {name}:{alias}", self.source.container_name),
            Owner::Endpoint(self.source.id.short()),
        )
    }

    /// What the firewall lets through: sets and keys. They name the bridge, for on it nobody sends as another.
    pub(crate) fn elements(&self) -> Vec<(&'static str, Key)> {
        let four = self.source.addr4.zip(self.target.addr4).filter(|_| self.means.firewall(IpFamily::V4));
        let four = four.map(|(from, to)| ("links4", Value::Addr4(from), Value::Addr4(to)));
        let six = self.source.addr6.zip(self.target.addr6).filter(|_| self.means.firewall(IpFamily::V6));
        let six = six.map(|(from, to)| ("links6", Value::Addr6(from), Value::Addr6(to)));
        let bridge = || Value::IfName(self.network.bridge.clone());
        let ports = |(set, from, to): (&'static str, Value, Value)| {
            self.linked.ports.iter().map(move |(proto, port)| {
                let transport = [Value::Proto(proto.number()), Value::Port(*port)];
                (set, [bridge(), from.clone(), to.clone()].into_iter().chain(transport).collect())
            })
        };
        four.into_iter().chain(six).flat_map(ports).collect()
    }

    /// The ways to each other, by the host's own address on the bridge: there, and back.
    pub(crate) fn routes(&self) -> Vec<(Ns, Route)> {
        let route = |of: &Endpoint, to: IpAddr, via: IpAddr| {
            let route = Route { to: to.into(), via: Some(via), dev: of.inner.clone() };
            (Ns::Of(of.sandbox.clone()), route)
        };
        let (source, target) = (self.source, self.target);
        let both = |from: IpAddr, to: IpAddr, via: IpAddr| [route(source, to, via), route(target, from, via)];
        let v4 = self.network.v4.as_ref().filter(|_| self.means.firewall4 && !self.network.unnumbered);
        let four = source.addr4.zip(target.addr4).zip(v4);
        let four = four.map(|((from, to), v4)| both(from.into(), to.into(), v4.gateway.into()));
        let six = source.addr6.zip(target.addr6).zip(self.network.v6.as_ref().filter(|_| self.means.firewall6));
        let six = six.map(|((from, to), v6)| both(from.into(), to.into(), v6.gateway.into()));
        four.into_iter().chain(six).flatten().collect()
    }
}

/// The sandboxes whose openings a fact changes, or may change; the facts are as they were before it.
pub(crate) fn touched(world: &World, fact: &Fact) -> BTreeSet<SandboxId> {
    let of_endpoint = |id: &EndpointId| world.endpoints.get(id).map(|old| &old.sandbox);
    let (before, after) = match fact {
        Fact::Sandbox(new) => (Some(&new.id), Some(new)),
        Fact::NoSandbox(id) => (Some(id), None),
        Fact::Endpoint(new) => (of_endpoint(&new.id), world.sandboxes.get(&new.sandbox)),
        Fact::NoEndpoint(id, _) => (of_endpoint(id), None),
        Fact::Network(_) | Fact::NoNetwork(_) | Fact::Rested(..) | Fact::Relay(_) => (None, None),
    };
    let ends: Vec<&Sandbox> = before.and_then(|id| world.sandboxes.get(id)).into_iter().chain(after).collect();
    let concerned =
        |sandbox: &&Sandbox| sandbox.linked.iter().any(|to| ends.iter().any(|end| end.container == to.target));
    world.sandboxes.values().filter(concerned).chain(ends.iter().copied()).map(|sandbox| sandbox.id.clone()).collect()
}

/// Sandboxes whose containers are linked to those of these sandboxes: between the same two ends the routes are the same, whoever
/// of them is linked to the other.
pub(crate) fn linked_back(world: &World, sandboxes: &BTreeSet<SandboxId>) -> BTreeSet<SandboxId> {
    let containers: BTreeSet<&ContainerId> =
        sandboxes.iter().filter_map(|id| world.sandboxes.get(id)).map(|sandbox| &sandbox.container).collect();
    let back = |sandbox: &&Sandbox| sandbox.linked.iter().any(|to| containers.contains(&to.target));
    world.sandboxes.values().filter(back).map(|sandbox| sandbox.id.clone()).collect()
}
