//! Published ports: at the host's addresses, or at the container's own where those are routed.

use super::lead::Ways;
use super::{Facts, Refusal};
use crate::ids::EndpointId;
use crate::ports::{self, Claim, PortWish, Unpublish};
use crate::world::{Change, Endpoint, Fact, PortBinding, World};
use std::net::IpAddr;

/// Publish more ports of a sandbox, one of whose endpoints is this one.
///
/// # Errors
/// `NoEndpoint`; `PortInternal`; those of ports that cannot be had.
pub fn publish(world: &World, facts: &Facts, id: &EndpointId, wishes: &[PortWish]) -> Result<Change, Refusal> {
    let endpoint = world.endpoints.get(id).ok_or_else(|| Refusal::NoEndpoint(id.to_string()))?;
    let network = world.networks.get(&endpoint.network);
    let network = network.ok_or_else(|| Refusal::NoNetwork(endpoint.network.to_string()))?;
    if network.internal {
        return Err(Refusal::PortInternal { network: network.name.clone() });
    }
    if !network.has_bridge() {
        return Err(Refusal::PortOfSegment { network: network.name.clone() });
    }
    let mut all: Vec<Endpoint> = world.endpoints_of(&endpoint.sandbox).cloned().collect();
    put(world, facts, &mut all, wishes, Known::default())?;
    Ok(changed(world, all))
}

/// Ports of before.
#[derive(Clone, Copy, Default)]
pub(super) struct Known<'a> {
    /// What the container itself had.
    pub previous: &'a [PortBinding],
    /// What others had who may want it again.
    pub kept: &'a [PortBinding],
}

/// The wishes become ports of those of a sandbox's endpoints that lead out; without a way out, of none.
///
/// # Errors
/// Ports that cannot be had.
pub(super) fn put(
    world: &World,
    facts: &Facts,
    all: &mut [Endpoint],
    wishes: &[PortWish],
    known: Known<'_>,
) -> Result<(), Refusal> {
    let ways = Ways::of(world, all);
    let Some(leader) = all.iter().find(|e| Some(&e.id) == ways.leader()).cloned() else { return Ok(()) };
    // What comes to a network without a bridge does not pass the host, so nothing is published there.
    let Some(network) = world.networks.get(&leader.network).filter(|network| network.has_bridge()) else {
        return Ok(());
    };
    let mut translated = Vec::new();
    let mut opened = Vec::new();
    for wish in wishes {
        opened.extend(ports::opened(wish, ways.routed(false), ways.routed(true), &network.name)?);
        // The network's own address of the host is meant where none is named.
        let wish = PortWish { host_ip: wish.host_ip.or(network.host_ip), ..wish.clone() };
        let meant = match wish.host_ip {
            None => ways.translates(false) || ways.translates(true),
            Some(ip) => !ways.routed(ip.is_ipv6()),
        };
        if meant {
            translated.push(wish);
        }
    }
    let claim = Claim {
        endpoint: &leader.id,
        sandbox: &leader.sandbox,
        container_name: &leader.container_name,
        network: &network.name,
        v4: ways.translates(false),
        v6: ways.translates(true),
        kept: known.kept,
    };
    let bindings = ports::resolve(world, facts, &claim, &translated, known.previous)?;
    for binding in bindings {
        if let Some(home) = ways.home(world, &binding).and_then(|id| all.iter_mut().find(|e| e.id == id)) {
            home.ports.push(binding);
            home.ports.sort();
        }
    }
    for port in opened {
        if let Some(home) = ways.way(port.v6).and_then(|id| all.iter_mut().find(|e| e.id == id)) {
            home.opened = ports::joined(home.opened.iter().cloned().chain([port]));
        }
    }
    Ok(())
}

/// What of a sandbox's endpoints is not yet so in the facts. Who loses a port comes before who gets it.
pub(super) fn changed(world: &World, all: Vec<Endpoint>) -> Change {
    let loses = |new: &Endpoint| {
        let lost = |binding| !new.ports.contains(binding);
        world.endpoints.get(&new.id).is_some_and(|old| old.ports.iter().any(lost))
    };
    let mut new: Vec<Endpoint> = all.into_iter().filter(|e| world.endpoints.get(&e.id) != Some(e)).collect();
    new.sort_by_key(|new| !loses(new));
    new.into_iter().map(Fact::Endpoint).collect()
}

/// Publish some ports of a sandbox no longer, one of whose endpoints is this one.
///
/// # Errors
/// `NoEndpoint`; `NotPublished` for the first that is not.
pub fn unpublish(world: &World, id: &EndpointId, gone: &[Unpublish]) -> Result<Change, Refusal> {
    let endpoint = world.endpoints.get(id).ok_or_else(|| Refusal::NoEndpoint(id.to_string()))?;
    let mut used = vec![false; gone.len()];
    let mut all: Vec<Endpoint> = world.endpoints_of(&endpoint.sandbox).cloned().collect();
    for endpoint in &mut all {
        endpoint.ports = ports::without(&endpoint.ports, gone, &mut used);
        endpoint.opened = ports::closed(&endpoint.opened, gone, &mut used);
    }
    match gone.iter().zip(used).find(|(_, used)| !used) {
        None => Ok(changed(world, all)),
        Some((missing, _)) => Err(Refusal::NotPublished {
            port: format!("{}/{}", missing.inner, missing.proto.name()),
            name: endpoint.container_name.clone(),
        }),
    }
}

/// A port that leads to a container of its own host only.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    ip.is_loopback()
}
