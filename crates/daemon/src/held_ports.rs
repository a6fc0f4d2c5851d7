//! Published ports are held on the host, so that no other program takes one, and so that one which a program has is found
//! before the start.
//!
//! The kernel forwards published ports before any socket is looked up; the sockets here are bound and nothing else: TCP does
//! not listen, so that what is not forwarded is refused, and UDP keeps next to nothing of what comes in. A port costs
//! a descriptor and some kilobytes of the kernel's memory. Ranges of [`LONG`] ports or more are only tried, when they are
//! published: thousands of descriptors would cost more than what they prevent, for a program that binds such a port later
//! hears nothing from outside as long as the port is published, and the container is not disturbed.

use plan::ids::EndpointId;
use plan::ports::Unbound;
use plan::world::{Change, Endpoint, Fact, PortBinding, Proto};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use tracing::warn;

/// From this length on, the ports of a range are tried and not held.
const LONG: u16 = 64;

/// A port that could not be bound.
pub type Failed = ((Proto, SocketAddr), Unbound);

/// The sockets, by endpoint and port.
#[derive(Debug, Default)]
pub struct HeldPorts(BTreeMap<EndpointId, BTreeMap<(Proto, SocketAddr), OwnedFd>>);

impl HeldPorts {
    /// Holds those ports of an endpoint that it did not have `before`: all of them, or none if one cannot be bound.
    ///
    /// # Errors
    /// Every port that cannot be bound, and why.
    pub fn hold(&mut self, endpoint: &Endpoint, before: &[PortBinding]) -> Result<(), Vec<Failed>> {
        let mut failed = Vec::new();
        let mut bound = Vec::new();
        for binding in endpoint.ports.iter().filter(|binding| !before.contains(binding)) {
            for port in binding.host_ports() {
                if covered(endpoint, binding, port) || self.has_part(endpoint, binding, port) {
                    continue;
                }
                let key = (binding.proto, SocketAddr::new(binding.host_ip, port));
                match socket(key.0, key.1) {
                    Ok(Some(socket)) if binding.count < LONG => bound.push((key, socket)),
                    Ok(_) => {}
                    Err(why) => failed.push((key, why)),
                }
            }
        }
        if failed.is_empty() {
            if !bound.is_empty() {
                self.0.entry(endpoint.id.clone()).or_default().extend(bound);
            }
            Ok(())
        } else {
            Err(failed)
        }
    }

    /// The port is to be published on every address, and is held on one of them already: that socket is in the way of
    /// a wider one, and of other programs too.
    fn has_part(&self, endpoint: &Endpoint, binding: &PortBinding, port: u16) -> bool {
        let part = |(proto, addr): &(Proto, SocketAddr)| {
            (*proto, addr.port(), addr.is_ipv4()) == (binding.proto, port, binding.host_ip.is_ipv4())
        };
        let held = self.0.get(&endpoint.id);
        binding.host_ip.is_unspecified() && held.is_some_and(|held| held.keys().any(part))
    }

    /// Holds what it can of an endpoint that published its ports before this engine started: somebody may have taken one
    /// meanwhile, which is told and no more, for the container goes on.
    pub fn hold_again(&mut self, endpoint: &Endpoint) {
        let Err(failed) = self.hold(endpoint, &[]) else { return };
        for ((proto, addr), why) in &failed {
            warn!(
                container = endpoint.container_name,
                "published port {addr}/{} cannot be held: {why}; from outside it leads to the container all the same",
                proto.name()
            );
        }
        let rest = endpoint.ports.iter().flat_map(|binding| {
            binding
                .host_ports()
                .zip(binding.inner_ports())
                .filter(|_| binding.count < LONG)
                .map(|(host_port, inner_port)| PortBinding { host_port, inner_port, count: 1, ..binding.clone() })
        });
        let lost =
            |b: &PortBinding| failed.iter().any(|(key, _)| *key == (b.proto, SocketAddr::new(b.host_ip, b.host_port)));
        let rest = Endpoint { ports: rest.filter(|binding| !lost(binding)).collect(), ..endpoint.clone() };
        // One that was free a moment ago and is not now: told the next time.
        let _ = self.hold(&rest, &[]);
    }

    /// Lets go of the ports that the facts no longer publish.
    pub fn follow(&mut self, change: &Change) {
        for fact in change {
            match fact {
                Fact::NoEndpoint(id, _) => drop(self.0.remove(id)),
                Fact::Endpoint(endpoint) => {
                    let Some(held) = self.0.get_mut(&endpoint.id) else { continue };
                    let published = |proto: Proto, addr: &SocketAddr| {
                        endpoint.ports.iter().any(|binding| {
                            (binding.proto, binding.host_ip) == (proto, addr.ip())
                                && binding.host_ports().contains(&addr.port())
                        })
                    };
                    held.retain(|(proto, addr), _| published(*proto, addr));
                }
                _ => {}
            }
        }
    }
}

/// The endpoint publishes the port on every address too: one socket holds it.
fn covered(endpoint: &Endpoint, binding: &PortBinding, port: u16) -> bool {
    let wide = |have: &PortBinding| {
        have.proto == binding.proto
            && have.host_ip.is_unspecified()
            && have.host_ip.is_ipv4() == binding.host_ip.is_ipv4()
            && have.host_ports().contains(&port)
            && have.count < LONG
    };
    !binding.host_ip.is_unspecified() && endpoint.ports.iter().any(wide)
}

/// A socket that holds a port; none where that is not possible for reasons that are not the port's.
fn socket(proto: Proto, addr: SocketAddr) -> Result<Option<OwnedFd>, Unbound> {
    match bound(proto, addr, false) {
        // Connections that a program left behind some seconds ago (TIME_WAIT) are in nobody's way.
        Err(Errno::ADDRINUSE) if proto == Proto::Tcp => answer(proto, addr, bound(proto, addr, true)),
        other => answer(proto, addr, other),
    }
}

fn answer(proto: Proto, addr: SocketAddr, got: rustix::io::Result<OwnedFd>) -> Result<Option<OwnedFd>, Unbound> {
    match got {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::ADDRINUSE) => Err(Unbound::InUse),
        Err(Errno::ADDRNOTAVAIL) => Err(Unbound::NoAddress),
        // This kernel has no such sockets, so no program can have the port either.
        Err(Errno::PROTONOSUPPORT | Errno::SOCKTNOSUPPORT | Errno::AFNOSUPPORT) => Ok(None),
        Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
            warn!("published port {addr}/{} is not held: {errno}", proto.name());
            Ok(None)
        }
        Err(errno) => Err(Unbound::Other(errno.to_string())),
    }
}

fn bound(proto: Proto, addr: SocketAddr, reuse: bool) -> rustix::io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match proto {
        Proto::Tcp => (SocketType::STREAM, ipproto::TCP),
        Proto::Udp => (SocketType::DGRAM, ipproto::UDP),
        Proto::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if addr.is_ipv6() {
        // Each family is published, and held, for itself.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if proto == Proto::Udp {
        // The kernel's least, some kilobytes: nobody reads.
        sockopt::set_socket_recv_buffer_size(&socket, 1)?;
    }
    sockopt::set_socket_reuseaddr(&socket, reuse)?;
    bind(&socket, &addr)?;
    if reuse {
        // Others that would share it now cannot listen.
        sockopt::set_socket_reuseaddr(&socket, false)?;
    }
    Ok(socket)
}
