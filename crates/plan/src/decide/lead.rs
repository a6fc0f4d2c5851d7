//! Which of a sandbox's endpoints leads out. Published ports go with it: what comes in must find its way back.

use crate::ids::EndpointId;
use crate::world::{Change, Endpoint, Fact, Network, PortBinding, World};
use std::cmp::Reverse;

/// What must be recorded so that the right one of these endpoints, which are all of a sandbox, leads out: the highest
/// priority, then both families before one, then the network's name (Docker's rule); never one of an internal network.
/// `orphaned` are ports of an endpoint that is no longer there.
pub(super) fn led(world: &World, mut all: Vec<Endpoint>, orphaned: Vec<PortBinding>) -> Change {
    let leader = first(world, &all, |_| true);
    let has_v6 = all.iter().any(|e| Some(&e.id) == leader.as_ref() && e.addr6.is_some());
    let leader6 = if has_v6 { None } else { first(world, &all, |e| e.addr6.is_some()) };
    let mut ports = orphaned;
    for endpoint in &mut all {
        endpoint.gateway = Some(&endpoint.id) == leader.as_ref();
        endpoint.gateway6 = Some(&endpoint.id) == leader6.as_ref();
        if !endpoint.gateway {
            ports.append(&mut endpoint.ports);
        }
    }
    if let Some(leader) = all.iter_mut().find(|e| e.gateway) {
        let (v4, v6) = (leader.addr4.is_some(), leader.addr6.is_some());
        let can = |binding: &PortBinding| if binding.host_ip.is_ipv4() { v4 } else { v6 };
        let more: Vec<PortBinding> = ports.into_iter().filter(can).collect();
        if !more.is_empty() {
            leader.ports.extend(more);
            leader.ports.sort();
        }
    }
    all.into_iter().filter(|e| world.endpoints.get(&e.id) != Some(e)).map(Fact::Endpoint).collect()
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

/// Published ports that a change takes from one endpoint and gives to another of the same sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// Who had them.
    pub from: EndpointId,
    /// Who has them.
    pub to: EndpointId,
}

/// The hand-overs of a change, `before` which the facts were these.
pub fn handovers(before: &World, change: &Change) -> Vec<Handover> {
    let gains = change.iter().filter_map(|fact| match fact {
        Fact::Endpoint(new) if !new.ports.is_empty() => Some(new),
        _ => None,
    });
    let loses = |old: &Endpoint| {
        change.iter().any(|fact| match fact {
            Fact::Endpoint(new) => new.id == old.id && new.ports.is_empty(),
            Fact::NoEndpoint(id, _) => id == &old.id,
            _ => false,
        })
    };
    gains
        .filter_map(|new| {
            let had = before.endpoints_of(&new.sandbox).find(|old| old.id != new.id && !old.ports.is_empty())?;
            loses(had).then(|| Handover { from: had.id.clone(), to: new.id.clone() })
        })
        .collect()
}
