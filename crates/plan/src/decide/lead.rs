//! Which of a sandbox's endpoints leads out. Published ports go with it: what comes in must find its way back.

use super::publish;
use crate::ids::EndpointId;
use crate::ports;
use crate::world::{Change, Endpoint, Fact, GatewayMode, Network, Opened, PortBinding, World};
use std::cmp::Reverse;

/// What must be recorded so that the right one of these endpoints, which are all of a sandbox, leads out: the highest
/// priority, then both families before one, then the network's name (Docker's rule); never one of an internal network. A
/// family that it does not have goes by the next that has. `orphan` is an endpoint that is no longer there.
pub(super) fn led(world: &World, mut all: Vec<Endpoint>, orphan: Option<&Endpoint>) -> Change {
    let leader = first(world, &all, |_| true);
    let has = |v6: bool| all.iter().any(|e| Some(&e.id) == leader.as_ref() && e.has(v6));
    let leader4 = if has(false) { None } else { first(world, &all, |e| e.has(false)) };
    let leader6 = if has(true) { None } else { first(world, &all, |e| e.has(true)) };
    for endpoint in &mut all {
        endpoint.gateway = Some(&endpoint.id) == leader.as_ref();
        endpoint.gateway4 = Some(&endpoint.id) == leader4.as_ref();
        endpoint.gateway6 = Some(&endpoint.id) == leader6.as_ref();
    }
    hand_on(world, &mut all, orphan);
    publish::changed(world, all)
}

/// Published ports go to where they lead out now; those that lead nowhere go.
fn hand_on(world: &World, all: &mut [Endpoint], orphan: Option<&Endpoint>) {
    let ways = Ways::of(world, all);
    let (mut bindings, mut opened) = orphan.map_or_else(Default::default, |e| (e.ports.clone(), e.opened.clone()));
    for endpoint in &mut *all {
        bindings.append(&mut endpoint.ports);
        opened.append(&mut endpoint.opened);
    }
    for binding in bindings {
        if let Some(home) = ways.home(world, &binding).and_then(|id| all.iter_mut().find(|e| e.id == id)) {
            home.ports.push(binding);
        } else if !publish::is_private(binding.host_ip) {
            // No port of the host any more, but one of the container's own.
            let PortBinding { proto, host_ip, inner_port: port, count, .. } = binding;
            opened.insert(Opened { proto, v6: host_ip.is_ipv6(), port, count });
        }
    }
    for v6 in [false, true] {
        let Some(home) = ways.way(v6).filter(|_| ways.routed(v6)) else { continue };
        if let Some(home) = all.iter_mut().find(|e| e.id == home) {
            let ours = opened.iter().filter(|opened| opened.v6 == v6).cloned();
            home.opened = ports::joined(home.opened.iter().cloned().chain(ours));
        }
    }
    for endpoint in all {
        endpoint.ports.sort();
    }
}

fn first(world: &World, all: &[Endpoint], fits: impl Fn(&Endpoint) -> bool) -> Option<EndpointId> {
    let out = |e: &Endpoint| world.networks.get(&e.network).filter(|network| !network.internal);
    let could: Vec<(&Endpoint, &Network)> = all.iter().filter(|e| fits(e)).filter_map(|e| Some((e, out(e)?))).collect();
    let rank = |(e, network): &(&Endpoint, &Network)| {
        let one_family = e.addr4.is_none() || e.addr6.is_none();
        (Reverse(e.priority), one_family, network.name.clone())
    };
    could.into_iter().min_by_key(rank).map(|(e, _)| e.id.clone())
}

/// Where a sandbox's packets of each family leave.
pub(super) struct Ways {
    leader: Option<EndpointId>,
    four: Option<(EndpointId, GatewayMode)>,
    six: Option<(EndpointId, GatewayMode)>,
}

impl Ways {
    /// Of these endpoints, which are all of a sandbox.
    pub fn of(world: &World, all: &[Endpoint]) -> Ways {
        let network = |e: &Endpoint| world.networks.get(&e.network);
        let four = all.iter().find(|e| e.leads_out(false)).and_then(|e| {
            let mode = network(e)?.v4.as_ref()?.mode;
            Some((e.id.clone(), mode))
        });
        let six = all.iter().find(|e| e.leads_out(true)).and_then(|e| {
            let mode = network(e)?.v6.as_ref()?.mode;
            Some((e.id.clone(), mode))
        });
        let leader = all.iter().find(|e| e.gateway).map(|e| e.id.clone());
        Ways { leader, four, six }
    }

    /// The endpoint that leads out before others.
    pub fn leader(&self) -> Option<&EndpointId> {
        self.leader.as_ref()
    }

    fn of_family(&self, v6: bool) -> Option<&(EndpointId, GatewayMode)> {
        if v6 { self.six.as_ref() } else { self.four.as_ref() }
    }

    /// The endpoint by which a family leaves.
    pub fn way(&self, v6: bool) -> Option<EndpointId> {
        self.of_family(v6).map(|(id, _)| id.clone())
    }

    /// Ports of a family are published at the host's addresses.
    pub fn translates(&self, v6: bool) -> bool {
        self.of_family(v6).is_some_and(|(_, mode)| mode.translates())
    }

    /// Ports of a family are published at the container's own address.
    pub fn routed(&self, v6: bool) -> bool {
        self.of_family(v6).is_some_and(|(_, mode)| *mode == GatewayMode::Routed)
    }

    /// The endpoint that a port of the host leads to. Where there is no way for IPv6, the relay makes one by IPv4.
    pub fn home(&self, world: &World, binding: &PortBinding) -> Option<EndpointId> {
        let v6 = binding.host_ip.is_ipv6();
        let by_relay = v6 && self.six.is_none() && world.relays() && binding.proto.is_relayed();
        let family = v6 && !by_relay;
        self.way(family).filter(|_| self.translates(family))
    }
}

/// A published port that a change takes from one endpoint and gives to another of the same sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// Who had it.
    pub from: EndpointId,
    /// Who has it.
    pub to: EndpointId,
    /// What is handed over.
    pub binding: PortBinding,
}

/// The hand-overs of a change, `before` which the facts were these.
pub fn handovers(before: &World, change: &Change) -> Vec<Handover> {
    let stays = |old: &Endpoint, binding: &PortBinding| {
        change.iter().all(|fact| match fact {
            Fact::Endpoint(new) => new.id != old.id || new.ports.contains(binding),
            Fact::NoEndpoint(id, _) => id != &old.id,
            _ => true,
        })
    };
    let mut all = Vec::new();
    for fact in change {
        let Fact::Endpoint(new) = fact else { continue };
        let old = before.endpoints.get(&new.id);
        for binding in new.ports.iter().filter(|binding| !old.is_some_and(|old| old.ports.contains(binding))) {
            let mut others = before.endpoints_of(&new.sandbox).filter(|other| other.id != new.id);
            let had = others.find(|other| other.ports.contains(binding) && !stays(other, binding));
            all.extend(had.map(|had| Handover { from: had.id.clone(), to: new.id.clone(), binding: binding.clone() }));
        }
    }
    all
}
