//! Published ports are held on the host, so that no other program takes one, and so that one which a program has is found
//! before the start.
//!
//! The kernel forwards published ports before any socket is looked up; the sockets here are bound and nothing else: TCP does
//! not listen, so that what is not forwarded is refused, and UDP keeps next to nothing of what comes in. A port costs
//! a descriptor and some kilobytes of the kernel's memory. Ranges of [`LONG`] ports or more are only tried, when they are
//! published: thousands of descriptors would cost more than what they prevent, for a program that binds such a port later
//! hears nothing from outside as long as the port is published, and the container is not disturbed.
//!
//! Where the engine does without firewall rules, nothing is forwarded: then every port is listened on, and what comes is relayed.

use crate::relay::{Listening, Relay};
use plan::decide::Handover;
use plan::ids::EndpointId;
use plan::netstate::IpFamily;
use plan::ports::Unbound;
use plan::world::{Change, Endpoint, Fact, Means, PortBinding, Proto};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
use rustix::process::{Resource, getrlimit};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use tracing::warn;

/// From this length on, the ports of a range are tried and not held.
const LONG: u16 = 64;

/// A port of the host.
type Port = (Proto, SocketAddr);

/// A port that could not be bound.
pub type Failed = (Port, Unbound);

/// The sockets.
pub struct HeldPorts {
    /// By endpoint and port.
    sockets: BTreeMap<EndpointId, BTreeMap<Port, Held>>,
    /// As many at most, so that descriptors are left for everything else.
    room: usize,
    /// Who relays ports of families without rules.
    relay: Option<(Relay, Means)>,
}

/// One of them.
#[derive(Debug)]
struct Held {
    /// It has the port for as long as it is open.
    _socket: OwnedFd,
    listening: Option<Listening>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.close();
        }
    }
}

impl HeldPorts {
    /// None yet. They may become half of the descriptors that this process may have (`RLIMIT_NOFILE`); what comes after
    /// that is tried and not held.
    pub fn new() -> HeldPorts {
        let most = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
        HeldPorts { sockets: BTreeMap::new(), room: most.map_or(usize::MAX, |most| most / 2), relay: None }
    }

    /// Ports of families that have no rules are relayed.
    pub fn relaying(self, relay: Relay, means: Means) -> HeldPorts {
        HeldPorts { relay: Some((relay, means)), ..self }
    }

    /// Who relays what comes to this address; `None` where rules forward it.
    fn relay_of(&self, addr: IpAddr) -> Option<&Relay> {
        let (relay, means) = self.relay.as_ref()?;
        (!means.firewall(IpFamily::of(addr))).then_some(relay)
    }

    /// Holds those ports of an endpoint that it did not have `before`: all of them, or none if one cannot be bound.
    ///
    /// # Errors
    /// Every port that cannot be bound, and why.
    pub fn hold(&mut self, endpoint: &Endpoint, before: &[PortBinding]) -> Result<(), Vec<Failed>> {
        let (bound, failed) = self.bind(endpoint, before);
        if !failed.is_empty() {
            return Err(failed);
        }
        self.keep(endpoint, bound);
        Ok(())
    }

    /// Holds what it can of an endpoint that published its ports before this engine started: somebody may have taken one
    /// meanwhile, which is told and no more, for the container goes on.
    pub fn hold_again(&mut self, endpoint: &Endpoint) {
        let (bound, failed) = self.bind(endpoint, &[]);
        self.keep(endpoint, bound);
        for ((proto, addr), why) in &failed {
            warn!(
                container = endpoint.container_name,
                "published port {addr}/{} cannot be held: {why}; {}",
                proto.name(),
                if self.relay_of(addr.ip()).is_some() {
                    "it leads nowhere until the container is started again"
                } else {
                    "from outside it leads to the container all the same"
                }
            );
        }
    }

    fn keep(&mut self, endpoint: &Endpoint, bound: Vec<(Port, Held)>) {
        if !bound.is_empty() {
            self.sockets.entry(endpoint.id.clone()).or_default().extend(bound);
        }
    }

    /// The sockets of ports that it did not have `before`, and what could not be bound.
    fn bind(&self, endpoint: &Endpoint, before: &[PortBinding]) -> (Vec<(Port, Held)>, Vec<Failed>) {
        let mut bound = Vec::new();
        let mut failed = Vec::new();
        let room = self.room.saturating_sub(self.sockets.values().map(BTreeMap::len).sum());
        let mut beyond = 0;
        let mut free = BTreeSet::new();
        let new: Vec<&PortBinding> = endpoint.ports.iter().filter(|binding| !before.contains(binding)).collect();
        for binding in &new {
            let relay = self.relay_of(binding.host_ip);
            // One socket tries a port for both families. Where it cannot be had, each tells for itself why.
            let twin = self.tried_as_one(&new, binding);
            for port in binding.host_ports() {
                let of_both = (binding.proto, port);
                if twin && (free.contains(&of_both) || is_free_for_both(binding.proto, port) && free.insert(of_both)) {
                    continue;
                }
                if self.covered(endpoint, binding, port) || self.has_part(endpoint, binding, port) {
                    continue;
                }
                let key = (binding.proto, SocketAddr::new(binding.host_ip, port));
                match (bind_one(key.0, key.1), relay) {
                    (Ok(_), Some(_)) if bound.len() == room => {
                        let why = "no file is left for it that the engine may open (RLIMIT_NOFILE)".to_owned();
                        failed.push((key, Unbound::Other(why)));
                    }
                    (Ok(Some(socket)), Some(relay)) => match listen(relay, key.0, socket) {
                        Ok(held) => bound.push((key, held)),
                        Err(error) => failed.push((key, Unbound::Other(error.to_string()))),
                    },
                    (Ok(Some(_)), None) if binding.count < LONG && bound.len() == room => beyond += 1,
                    (Ok(Some(socket)), None) if binding.count < LONG => {
                        bound.push((key, Held { _socket: socket, listening: None }));
                    }
                    (Ok(_), _) => {}
                    (Err(why), _) => failed.push((key, why)),
                }
            }
        }
        if beyond > 0 {
            warn!(
                container = endpoint.container_name,
                "{beyond} published ports are free and not held: {} are, half of the files that the engine may open \
                 (RLIMIT_NOFILE)",
                self.room
            );
        }
        (bound, failed)
    }

    /// A long range that is published on every address of both families alike.
    fn tried_as_one(&self, new: &[&PortBinding], binding: &PortBinding) -> bool {
        let family = IpFamily::of(binding.host_ip);
        let twin = |other: &&PortBinding| {
            IpFamily::of(other.host_ip) != family
                && other.host_ip.is_unspecified()
                && self.relay_of(other.host_ip).is_none()
                && (other.proto, other.host_port, other.count) == (binding.proto, binding.host_port, binding.count)
        };
        binding.count >= LONG
            && binding.host_ip.is_unspecified()
            && self.relay_of(binding.host_ip).is_none()
            && new.iter().any(twin)
    }

    /// The port is to be published on every address, and is held on one of them already: that socket is in the way of
    /// a wider one, and of other programs too.
    fn has_part(&self, endpoint: &Endpoint, binding: &PortBinding, port: u16) -> bool {
        let part = |(proto, addr): &Port| {
            (*proto, addr.port(), addr.is_ipv4()) == (binding.proto, port, binding.host_ip.is_ipv4())
        };
        let held = self.sockets.get(&endpoint.id);
        let relayed = self.relay_of(binding.host_ip).is_some();
        binding.host_ip.is_unspecified() && !relayed && held.is_some_and(|held| held.keys().any(part))
    }

    /// The endpoint publishes the port on every address too: one socket holds it, and a second would find it taken.
    fn covered(&self, endpoint: &Endpoint, binding: &PortBinding, port: u16) -> bool {
        let wide = |have: &PortBinding| {
            have.proto == binding.proto
                && have.host_ip.is_unspecified()
                && have.host_ip.is_ipv4() == binding.host_ip.is_ipv4()
                && have.host_ports().contains(&port)
                && (have.count < LONG || self.relay_of(have.host_ip).is_some())
        };
        !binding.host_ip.is_unspecified() && endpoint.ports.iter().any(wide)
    }

    /// What one endpoint held is now another's of the same sandbox: the ports are never free between.
    pub fn hand_over(&mut self, Handover { from, to, binding }: &Handover) {
        let Some(held) = self.sockets.get_mut(from) else { return };
        let ports = binding.host_ports().map(|port| (binding.proto, SocketAddr::new(binding.host_ip, port)));
        let moved: Vec<(Port, Held)> = ports.filter_map(|port| held.remove_entry(&port)).collect();
        if !moved.is_empty() {
            self.sockets.entry(to.clone()).or_default().extend(moved);
        }
    }

    /// Lets go of the ports that the facts no longer publish.
    pub fn follow(&mut self, change: &Change) {
        for fact in change {
            match fact {
                Fact::NoEndpoint(id, _) => drop(self.sockets.remove(id)),
                Fact::Endpoint(endpoint) => {
                    let Some(held) = self.sockets.get_mut(&endpoint.id) else { continue };
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

fn listen(relay: &Relay, proto: Proto, socket: OwnedFd) -> std::io::Result<Held> {
    // What is left of its connections for a while (TIME_WAIT) must not be in the next engine's way. While it listens, nobody
    // else can have the port for that.
    sockopt::set_socket_reuseaddr(&socket, proto == Proto::Tcp)?;
    let listening = relay.listen(proto, socket.try_clone()?)?;
    Ok(Held { _socket: socket, listening: Some(listening) })
}

/// A socket that holds a port; none where that is not possible for reasons that are not the port's.
///
/// # Errors
/// Somebody has the port, or the host does not have the address.
pub fn bind_one(proto: Proto, addr: SocketAddr) -> Result<Option<OwnedFd>, Unbound> {
    match bound(proto, addr, Families::Own, false) {
        // Connections that a program left behind some seconds ago (TIME_WAIT) are in nobody's way.
        Err(Errno::ADDRINUSE) if proto == Proto::Tcp => answer(proto, addr, bound(proto, addr, Families::Own, true)),
        other => answer(proto, addr, other),
    }
}

/// Nobody has the port, on any address of either family.
fn is_free_for_both(proto: Proto, port: u16) -> bool {
    bound(proto, (Ipv6Addr::UNSPECIFIED, port).into(), Families::Both, false).is_ok()
}

/// For which families a socket of IPv6 is.
#[derive(Clone, Copy, PartialEq)]
enum Families {
    Own,
    Both,
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

fn bound(proto: Proto, addr: SocketAddr, families: Families, reuse: bool) -> rustix::io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let (kind, number) = match proto {
        Proto::Tcp => (SocketType::STREAM, ipproto::TCP),
        Proto::Udp => (SocketType::DGRAM, ipproto::UDP),
        Proto::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, Some(number))?;
    if addr.is_ipv6() {
        // What is held is held for each family by itself.
        sockopt::set_ipv6_v6only(&socket, families == Families::Own)?;
    }
    if proto == Proto::Udp {
        // The kernel's least, some kilobytes: nobody reads.
        sockopt::set_socket_recv_buffer_size(&socket, 1)?;
    }
    if reuse {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &addr)?;
    if reuse {
        // Others that would share it now cannot listen.
        sockopt::set_socket_reuseaddr(&socket, false)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::ids::Mac;
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    /// An endpoint that publishes these ports of 127.0.0.1, a row each.
    fn endpoint(proto: Proto, rows: &[(u16, u16)]) -> Endpoint {
        let digits = |digit: &str| digit.repeat(64);
        let row = |(host_port, count): &(u16, u16)| PortBinding {
            proto,
            host_ip: Ipv4Addr::LOCALHOST.into(),
            host_port: *host_port,
            inner_port: 80,
            count: *count,
        };
        Endpoint {
            id: digits("a").parse().unwrap(),
            network: digits("b").parse().unwrap(),
            sandbox: digits("c").parse().unwrap(),
            container_name: "web".into(),
            inner: "eth0".parse().unwrap(),
            host: "vetha".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            addr4: None,
            addr6: None,
            gateway: true,
            gateway4: false,
            gateway6: false,
            priority: 0,
            names: Vec::new(),
            opened: Default::default(),
            link_local: Default::default(),
            sysctls: Default::default(),
            ports: rows.iter().map(row).collect(),
        }
    }

    /// A port that was free a moment ago.
    fn free() -> u16 {
        UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn is_free(port: u16) -> bool {
        UdpSocket::bind(("127.0.0.1", port)).is_ok()
    }

    #[test]
    fn a_port_is_held_until_it_is_published_no_longer() {
        let mut held = HeldPorts::new();
        let port = free();
        let web = endpoint(Proto::Udp, &[(port, 1)]);
        held.hold(&web, &[]).unwrap();
        assert!(!is_free(port));
        held.follow(&vec![Fact::Endpoint(web.clone())]);
        assert!(!is_free(port));
        held.follow(&vec![Fact::Endpoint(Endpoint { ports: Vec::new(), ..web.clone() })]);
        assert!(is_free(port));
        held.hold(&web, &[]).unwrap();
        held.follow(&vec![Fact::NoEndpoint(web.id, 0)]);
        assert!(is_free(port));
    }

    #[test]
    fn a_port_that_goes_to_another_endpoint_is_never_free() {
        let mut held = HeldPorts::new();
        let port = free();
        let web = endpoint(Proto::Udp, &[(port, 1)]);
        held.hold(&web, &[]).unwrap();
        let other = Endpoint { id: "d".repeat(64).parse().unwrap(), ..web.clone() };
        held.hold(&other, &web.ports).unwrap();
        held.hand_over(&Handover { from: web.id.clone(), to: other.id.clone(), binding: web.ports[0].clone() });
        held.follow(&vec![Fact::NoEndpoint(web.id, 0), Fact::Endpoint(other.clone())]);
        assert!(!is_free(port));
        held.follow(&vec![Fact::NoEndpoint(other.id, 0)]);
        assert!(is_free(port));
    }

    #[test]
    fn all_ports_are_held_or_none() {
        let mut held = HeldPorts::new();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let busy = taken.local_addr().unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let web = endpoint(Proto::Tcp, &[(other, 1), (busy.port(), 1)]);
        assert_eq!(held.hold(&web, &[]), Err(vec![((Proto::Tcp, busy), Unbound::InUse)]));
        drop(TcpListener::bind(("127.0.0.1", other)).unwrap());
        // What somebody took while no engine ran is lost, and the rest is held.
        held.hold_again(&web);
        assert!(TcpListener::bind(("127.0.0.1", other)).is_err());
    }

    #[test]
    fn a_long_range_is_tried_for_both_families() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let busy = taken.local_addr().unwrap().port();
        let first = busy.saturating_sub(LONG);
        let web = endpoint(Proto::Udp, &[(first, 2 * LONG), (first, 2 * LONG)]);
        let both = |mut web: Endpoint| {
            web.ports[0].host_ip = Ipv4Addr::UNSPECIFIED.into();
            web.ports[1].host_ip = Ipv6Addr::UNSPECIFIED.into();
            web
        };
        let web = both(web);
        let at = |ip: IpAddr| ((Proto::Udp, SocketAddr::new(ip, busy)), Unbound::InUse);
        let failed = HeldPorts::new().hold(&web, &[]).unwrap_err();
        assert!(failed.contains(&at(Ipv4Addr::UNSPECIFIED.into())), "{failed:?}");
        assert!(!failed.contains(&at(Ipv6Addr::UNSPECIFIED.into())), "{failed:?}");
    }

    #[test]
    fn descriptors_are_left_for_others() {
        let mut held = HeldPorts { room: 1, ..HeldPorts::new() };
        let (one, two) = (free(), free());
        held.hold(&endpoint(Proto::Udp, &[(one, 1), (two, 1)]), &[]).unwrap();
        assert!(!is_free(one) && is_free(two));
    }
}
