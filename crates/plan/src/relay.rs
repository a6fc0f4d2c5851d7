//! What the engine relays itself, for the kernel cannot forward it: from IPv6 to a container that has only IPv4, and from ::1,
//! which never leaves the host.
//!
//! One port of the host does for all: the firewall sends there what is meant for such a published port, whose number is then
//! found by what connection tracking remembers. TCP and UDP; SCTP is not relayed.

use crate::world::{Endpoint, PortBinding, Proto, World};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Ports of the host that are relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relayed<'a> {
    /// The transport protocol.
    pub proto: Proto,
    /// The host's address; `None` is every one of IPv6.
    pub at: Option<Ipv6Addr>,
    /// First and last port.
    pub ports: (u16, u16),
    /// What asked for it.
    pub binding: &'a PortBinding,
}

impl Proto {
    /// Can the engine relay it?
    pub fn is_relayed(self) -> bool {
        self != Proto::Sctp
    }
}

/// What of an endpoint's published ports needs the relay. No two have a port in common, but by way of every address and one.
pub(crate) fn relayed(endpoint: &Endpoint) -> Vec<Relayed<'_>> {
    let mut all: Vec<Relayed<'_>> = endpoint.ports.iter().filter_map(|binding| by_relay(endpoint, binding)).collect();
    all.sort_by_key(|one| (one.proto, one.at, one.ports));
    // ::1 is meant by a port published on it, and by one published on every address.
    let mut apart: Vec<Relayed<'_>> = Vec::with_capacity(all.len());
    for mut one in all {
        if let Some(last) = apart.last().filter(|last| (last.proto, last.at) == (one.proto, one.at))
            && last.ports.1 >= one.ports.0
        {
            match last.ports.1.checked_add(1).filter(|next| *next <= one.ports.1) {
                Some(next) => one.ports.0 = next,
                None => continue,
            }
        }
        apart.push(one);
    }
    apart
}

fn by_relay<'a>(endpoint: &Endpoint, binding: &'a PortBinding) -> Option<Relayed<'a>> {
    let IpAddr::V6(ip) = binding.host_ip else { return None };
    let own = Some(ip).filter(|ip| !ip.is_unspecified());
    let at = match (endpoint.addr6, endpoint.addr4) {
        _ if !binding.proto.is_relayed() => return None,
        (None, Some(_)) => own,
        (Some(_), _) if own.is_none_or(|ip| ip.is_loopback()) => Some(Ipv6Addr::LOCALHOST),
        _ => return None,
    };
    let ports = binding.host_ports();
    Some(Relayed { proto: binding.proto, at, ports: (*ports.start(), *ports.end()), binding })
}

/// Where what is meant for this address and port of the host has to go: the container's address of the same family, or else
/// of the other one. `None` if nobody publishes it.
pub fn target(world: &World, proto: Proto, to: SocketAddr) -> Option<SocketAddr> {
    let (endpoint, binding) = holder(world, proto, to)?;
    let (four, six) = (endpoint.addr4.map(IpAddr::V4), endpoint.addr6.map(IpAddr::V6));
    let inner = if to.is_ipv4() { four.or(six) } else { six.or(four) };
    Some(SocketAddr::new(inner?, binding.inner_port + (to.port() - binding.host_port)))
}

/// Who answers what is meant for this address and port of the host, as the kernel sees it: the container, or the relay.
pub fn answers(world: &World, proto: Proto, to: SocketAddr) -> Option<SocketAddr> {
    let (endpoint, binding) = holder(world, proto, to)?;
    match by_relay(endpoint, binding) {
        Some(one) if one.at.is_none_or(|at| to.ip() == at) => Some(SocketAddr::new(to.ip(), world.relay?)),
        _ => target(world, proto, to),
    }
}

fn holder(world: &World, proto: Proto, to: SocketAddr) -> Option<(&Endpoint, &PortBinding)> {
    let bindings = world.endpoints.values().flat_map(|e| e.ports.iter().map(move |binding| (e, binding)));
    let meant = bindings.filter(|(_, binding)| {
        binding.proto == proto
            && binding.host_ports().contains(&to.port())
            && binding.host_ip.is_ipv4() == to.is_ipv4()
            && (binding.host_ip.is_unspecified() || binding.host_ip == to.ip())
    });
    // A port on one address wins over one on every address.
    meant.min_by_key(|(_, binding)| binding.host_ip.is_unspecified())
}
