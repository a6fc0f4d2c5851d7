//! Which ports of the host are published, and for whom.

use crate::decide::{Facts, Refusal, is_private};
use crate::ids::{EndpointId, SandboxId};
use crate::netstate::IpFamily;
use crate::world::{Change, Endpoint, Fact, Opened, PortBinding, Proto, World};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A port as it is asked for (`-p`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortWish {
    /// The transport protocol.
    pub proto: Proto,
    /// The host's address; `None` is every one, of both families.
    pub host_ip: Option<IpAddr>,
    /// First and last port of the host. `None`: any that is free. As many as inside, or more for one inside: then the
    /// first that is free.
    pub host_port: Option<(u16, u16)>,
    /// The first port inside.
    pub inner: u16,
    /// How many; at least 1.
    pub count: u16,
}

/// How often free ports are chosen for one request before it is refused: programs of the host may hold the chosen ones.
pub const TRIES: usize = 10;

/// Why a port of the host cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbound {
    /// A program of the host has it (`EADDRINUSE`).
    #[error("address already in use")]
    InUse,
    /// The host does not have the address (`EADDRNOTAVAIL`).
    #[error("cannot assign requested address")]
    NoAddress,
    /// Anything else, in the kernel's words.
    #[error("{0}")]
    Other(String),
}

/// Published ports that are to go. What is not said fits all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpublish {
    /// The transport protocol.
    pub proto: Proto,
    /// The host's address.
    pub host_ip: Option<IpAddr>,
    /// First and last port of the host.
    pub host_port: Option<(u16, u16)>,
    /// The port inside.
    pub inner: u16,
}

impl Unpublish {
    /// Is this one of them?
    pub fn fits(&self, proto: Proto, host_ip: IpAddr, host_port: u16, inner: u16) -> bool {
        (self.proto, self.inner) == (proto, inner)
            && self.host_ip.is_none_or(|ip| ip == host_ip)
            && self.host_port.is_none_or(|(from, to)| (from..=to).contains(&host_port))
    }
}

/// The bindings without what is to go; `used` says which of `gone` fitted one.
pub fn without(have: &[PortBinding], gone: &[Unpublish], used: &mut [bool]) -> Vec<PortBinding> {
    let mut rest = Vec::new();
    for binding in have {
        for (host_port, inner_port) in binding.host_ports().zip(binding.inner_ports()) {
            let mut goes = false;
            for (one, used) in gone.iter().zip(&mut *used) {
                let fits = one.fits(binding.proto, binding.host_ip, host_port, inner_port);
                *used |= fits;
                goes |= fits;
            }
            if !goes {
                lengthen(&mut rest, PortBinding { host_port, inner_port, count: 1, ..binding.clone() });
            }
        }
    }
    rest
}

/// The ports of a container's own that are open without what is to go, whatever port of the host that would be; `used` as in
/// [`without`].
pub fn closed(have: &BTreeSet<Opened>, gone: &[Unpublish], used: &mut [bool]) -> BTreeSet<Opened> {
    let mut rest = Vec::new();
    for opened in have {
        for port in opened.ports() {
            let mut goes = false;
            for (one, used) in gone.iter().zip(&mut *used) {
                let fits = (one.proto, one.inner) == (opened.proto, port)
                    && one.host_ip.is_none_or(|ip| ip.is_ipv6() == opened.v6);
                *used |= fits;
                goes |= fits;
            }
            if !goes {
                rest.push(Opened { port, count: 1, ..opened.clone() });
            }
        }
    }
    joined(rest)
}

/// The same ports, of which none is in two and none that follow each other are apart.
pub fn joined(all: impl IntoIterator<Item = Opened>) -> BTreeSet<Opened> {
    let mut sorted: Vec<Opened> = all.into_iter().collect();
    sorted.sort();
    let mut runs: Vec<Opened> = Vec::new();
    for one in sorted {
        match runs.last_mut().filter(|last| (last.proto, last.v6) == (one.proto, one.v6)) {
            Some(last) if u32::from(one.port) <= u32::from(*last.ports().end()) + 1 => {
                let end = (*last.ports().end()).max(*one.ports().end());
                last.count = end - last.port + 1;
            }
            _ => runs.push(one),
        }
    }
    runs.into_iter().collect()
}

/// What a wish opens at a container's own addresses, of which these are routed.
///
/// # Errors
/// `PortRouted`: it asks for an address that only the host itself reaches.
pub fn opened(wish: &PortWish, four: bool, six: bool, network: &str) -> Result<Vec<Opened>, Refusal> {
    let PortWish { proto, inner: port, count, .. } = *wish;
    let mut all = Vec::new();
    for (v6, _) in [(false, four), (true, six)].into_iter().filter(|(_, routed)| *routed) {
        match wish.host_ip {
            Some(ip) if ip.is_ipv6() != v6 => continue,
            Some(host_ip) if is_private(host_ip) => {
                let host_port = wish.host_port.map_or(0, |(from, _)| from);
                let spec = PortBinding { proto, host_ip, host_port, inner_port: port, count }.to_string();
                return Err(Refusal::PortRouted { spec, network: network.to_owned() });
            }
            _ => {}
        }
        wish.check()?;
        all.push(Opened { proto, v6, port, count });
    }
    Ok(all)
}

/// Wishes for single ports that follow each other as wishes for ranges: a thousand ports in a row are one binding, one
/// element of the firewall's map for each family, and one decision.
pub fn in_ranges(mut wishes: Vec<PortWish>) -> Vec<PortWish> {
    wishes.sort_by_key(|wish| (wish.proto, wish.host_ip, wish.inner, wish.host_port));
    let mut runs: Vec<PortWish> = Vec::new();
    for wish in wishes {
        match runs.iter_mut().find(|run| run.is_followed_by(&wish)) {
            Some(run) => {
                run.count += 1;
                run.host_port = run.host_port.map(|(from, to)| (from, to + 1));
            }
            None => runs.push(wish),
        }
    }
    runs
}

/// Who asks for ports.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The endpoint that gets them.
    pub endpoint: &'a EndpointId,
    /// Its sandbox: what its other endpoints publish is its own.
    pub sandbox: &'a SandboxId,
    /// For people.
    pub container_name: &'a str,
    /// For people.
    pub network: &'a str,
    /// It has an IPv4 address.
    pub v4: bool,
    /// It has an IPv6 address.
    pub v6: bool,
    /// Ports that others had who do not run now: of those that are free they are chosen last.
    pub kept: &'a [PortBinding],
}

/// The bindings that fulfil the wishes, in order.
///
/// # Errors
/// Ports that others have, that are used up, or that are none.
pub fn resolve(
    world: &World,
    facts: &Facts,
    claim: &Claim<'_>,
    wishes: &[PortWish],
    previous: &[PortBinding],
) -> Result<Vec<PortBinding>, Refusal> {
    if wishes.is_empty() {
        return Ok(Vec::new());
    }
    let mut board = Board { world, facts, claim, previous, given: Vec::new() };
    // Ports with a number come first, so that one that may be any does not take theirs.
    let (fixed, mut open): (Vec<_>, Vec<_>) = wishes.iter().partition(|wish| wish.fixed());
    // Docker 29 gives free ports in the order of the ports inside, however they were asked for.
    open.sort_by_key(|wish| (wish.proto, wish.inner));
    for wish in fixed {
        wish.check()?;
        board.fixed(wish)?;
    }
    for wish in open {
        wish.check()?;
        board.open(wish)?;
    }
    board.given.sort();
    Ok(board.given)
}

impl PortWish {
    fn host_count(&self) -> Option<u32> {
        self.host_port.map(|(from, to)| (u32::from(to) + 1).saturating_sub(u32::from(from)))
    }

    fn fixed(&self) -> bool {
        self.host_count() == Some(u32::from(self.count))
    }

    /// Would a wish for one port make this one longer?
    fn is_followed_by(&self, next: &PortWish) -> bool {
        let hosts = match (self.host_port, next.host_port) {
            (None, None) => true,
            (Some((_, last)), Some((from, to))) => self.fixed() && from == to && last.checked_add(1) == Some(from),
            _ => false,
        };
        let inner = u32::from(self.inner) + u32::from(self.count) == u32::from(next.inner);
        (self.proto, self.host_ip, 1) == (next.proto, next.host_ip, next.count) && inner && hosts
    }

    fn check(&self) -> Result<(), Refusal> {
        let numbers =
            |from: u16, to: u32| if u32::from(from) == to { from.to_string() } else { format!("{from}-{to}") };
        let last = u32::from(self.inner) + u32::from(self.count.max(1)) - 1;
        let inner = numbers(self.inner, last);
        if self.inner == 0 || self.count == 0 || last > u32::from(u16::MAX) {
            return Err(Refusal::PortSpec(format!("{inner}/{}", self.proto.name())));
        }
        let Some((from, to)) = self.host_port else { return Ok(()) };
        let host = numbers(from, to.into());
        match self.host_count() {
            _ if from == 0 => Err(Refusal::PortSpec(format!("{host}:{inner}/{}", self.proto.name()))),
            Some(many) if many == u32::from(self.count) || (self.count == 1 && many > 1) => Ok(()),
            _ => Err(Refusal::PortRanges { inner, host }),
        }
    }
}

/// The ports of the host while one claim is being settled.
struct Board<'a> {
    world: &'a World,
    facts: &'a Facts,
    claim: &'a Claim<'a>,
    previous: &'a [PortBinding],
    given: Vec<PortBinding>,
}

impl Board<'_> {
    /// The host's addresses of a wish.
    fn hosts(&self, wish: &PortWish) -> Result<Vec<IpAddr>, Refusal> {
        let relays = self.world.relays();
        let relayed = relays && self.claim.v4 && wish.proto.is_relayed();
        let (v4, v6) = (self.claim.v4, self.facts.has_ipv6 && (self.claim.v6 || relayed));
        let loopback = wish.host_ip == Some(IpAddr::V6(Ipv6Addr::LOCALHOST));
        match wish.host_ip {
            None => {
                let four = v4.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                let six = v6.then_some(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                Ok(four.into_iter().chain(six).collect())
            }
            Some(ip) if (ip.is_ipv4() && v4) || (ip.is_ipv6() && v6 && (wish.proto.is_relayed() || !loopback)) => {
                Ok(vec![ip])
            }
            Some(host_ip) => {
                let host_port = wish.host_port.map_or(0, |(from, _)| from);
                let PortWish { proto, inner: inner_port, count, .. } = *wish;
                let spec = PortBinding { proto, host_ip, host_port, inner_port, count }.to_string();
                if host_ip.is_ipv6() && relays && !wish.proto.is_relayed() {
                    return Err(Refusal::PortNotRelayed { spec });
                }
                let family = if host_ip.is_ipv4() { "IPv4" } else { "IPv6" };
                Err(Refusal::PortFamily { spec, family, network: self.claim.network.into() })
            }
        }
    }

    /// Those of them from which something leads to the container: rules of ours, or the relay.
    fn led(&self, wish: &PortWish) -> Result<Vec<IpAddr>, Refusal> {
        let (may, left): (Vec<_>, Vec<_>) = self
            .hosts(wish)?
            .into_iter()
            .partition(|ip| wish.proto.is_relayed() || self.world.means.firewall(IpFamily::of(*ip)));
        match left.first() {
            Some(host_ip) if may.is_empty() => {
                let host_port = wish.host_port.map_or(0, |(from, _)| from);
                let PortWish { proto, inner: inner_port, count, .. } = *wish;
                let spec = PortBinding { proto, host_ip: *host_ip, host_port, inner_port, count }.to_string();
                Err(Refusal::PortWithoutRules { spec, v6: host_ip.is_ipv6() })
            }
            _ => Ok(may),
        }
    }

    fn fixed(&mut self, wish: &PortWish) -> Result<(), Refusal> {
        let Some((host_port, _)) = wish.host_port else { return Ok(()) };
        for host_ip in self.led(wish)? {
            let PortWish { proto, inner: inner_port, count, .. } = *wish;
            let binding = PortBinding { proto, host_ip, host_port, inner_port, count };
            if self.given.contains(&binding) {
                continue;
            }
            self.free(&binding)?;
            self.given.push(binding);
        }
        Ok(())
    }

    fn free(&self, binding: &PortBinding) -> Result<(), Refusal> {
        let (name, endpoint) = (self.claim.container_name.to_owned(), self.claim.endpoint.to_string());
        if let Some((holder, have)) = self.holder(binding) {
            let open = [binding.host_ip, have.host_ip].into_iter().find(IpAddr::is_unspecified);
            let ip = open.unwrap_or(binding.host_ip);
            let addr = SocketAddr::new(ip, binding.host_port.max(have.host_port));
            return Err(Refusal::PortTaken { name, endpoint, addr, holder: holder.into() });
        }
        let mut numbers = binding.host_ports();
        let unbound = numbers.find_map(|port| {
            let addr = SocketAddr::new(binding.host_ip, port);
            Some((addr, self.facts.busy.get(&(binding.proto, addr))?.clone()))
        });
        match unbound {
            Some((addr, why)) => Err(Refusal::PortBusy { name, endpoint, addr, proto: binding.proto, why }),
            None => Ok(()),
        }
    }

    /// Who has a port that the binding wants, and by which binding.
    fn holder(&self, binding: &PortBinding) -> Option<(&str, &PortBinding)> {
        // One container may publish a port on every address and on one of them: the exact one wins.
        let own = |have: &&PortBinding| have.host_ip == binding.host_ip && have.clashes(binding);
        let mine = self.given.iter().find(own).map(|have| (self.claim.container_name, have));
        mine.or_else(|| {
            self.world.endpoints.values().find_map(|e| {
                let same = &e.sandbox == self.claim.sandbox;
                let have = e.ports.iter().find(|have| if same { own(have) } else { have.clashes(binding) })?;
                Some((e.container_name.as_str(), have))
            })
        })
    }

    /// One free port for each one inside.
    fn open(&mut self, wish: &PortWish) -> Result<(), Refusal> {
        let hosts = self.led(wish)?;
        let (from, to) = wish.host_port.unwrap_or(self.facts.ephemeral);
        // Another port would fare no better on an address that the host does not have.
        let hopeless =
            self.facts.busy.iter().find(|((proto, addr), why)| {
                *proto == wish.proto && hosts.contains(&addr.ip()) && **why != Unbound::InUse
            });
        if let Some(((proto, addr), why)) = hopeless {
            let (name, endpoint) = (self.claim.container_name.to_owned(), self.claim.endpoint.to_string());
            return Err(Refusal::PortBusy { name, endpoint, addr: *addr, proto: *proto, why: why.clone() });
        }
        let mut taken = self.taken(wish.proto, &hosts);
        let of_others = numbers(wish.proto, &hosts, self.claim.kept);
        if wish.host_port.is_none() {
            for port in &self.facts.reserved {
                taken[usize::from(*port)] = true;
            }
        }
        for inner in wish.inner..=wish.inner + (wish.count - 1) {
            let before = self.previous.iter().find_map(|have| {
                let same = have.proto == wish.proto && hosts.contains(&have.host_ip);
                let nth = inner.checked_sub(have.inner_port).filter(|nth| same && *nth < have.count)?;
                Some(have.host_port + nth)
            });
            // A port that was chosen by somebody else's rules is kept only where it could be chosen now.
            let kept = before.filter(|port| (from..=to).contains(port) && !taken[usize::from(*port)]);
            let free = || (from.max(1)..=to).filter(|port| !taken[usize::from(*port)]);
            let port = kept.or_else(|| free().find(|port| !of_others[usize::from(*port)])).or_else(|| free().next());
            let port = port.ok_or(Refusal::NoPort { from, to, proto: wish.proto })?;
            taken[usize::from(port)] = true;
            for host_ip in &hosts {
                let host_ip = *host_ip;
                let new = PortBinding { proto: wish.proto, host_ip, host_port: port, inner_port: inner, count: 1 };
                lengthen(&mut self.given, new);
            }
        }
        Ok(())
    }

    /// The ports that are not free on all of the addresses, by number.
    fn taken(&self, proto: Proto, hosts: &[IpAddr]) -> Vec<bool> {
        let mut taken = numbers(proto, hosts, self.world.endpoints.values().flat_map(|e: &Endpoint| &e.ports));
        for port in self.given.iter().filter(|have| have.proto == proto).flat_map(PortBinding::host_ports) {
            taken[usize::from(port)] = true;
        }
        for (_, addr) in self.facts.busy.keys().filter(|(of, addr)| *of == proto && hosts.contains(&addr.ip())) {
            taken[usize::from(addr.port())] = true;
        }
        taken
    }
}

/// Does a change take published ports away from anybody?
pub fn go(world: &World, change: &Change) -> bool {
    change.iter().any(|fact| match fact {
        Fact::NoEndpoint(id, _) => world.endpoints.get(id).is_some_and(|old| !old.ports.is_empty()),
        Fact::Endpoint(new) => {
            let stays = |binding| new.ports.contains(binding);
            world.endpoints.get(&new.id).is_some_and(|old| !old.ports.iter().all(stays))
        }
        _ => false,
    })
}

/// The ports of these bindings that are published on one of these addresses, by number.
fn numbers<'a>(proto: Proto, hosts: &[IpAddr], bindings: impl IntoIterator<Item = &'a PortBinding>) -> Vec<bool> {
    let mut all = vec![false; usize::from(u16::MAX) + 1];
    let meant = |have: &&PortBinding| have.proto == proto && hosts.iter().any(|ip| meet(*ip, have.host_ip));
    for port in bindings.into_iter().filter(meant).flat_map(PortBinding::host_ports) {
        all[usize::from(port)] = true;
    }
    all
}

/// Take a single port over; one that follows the last of a run makes the run longer.
fn lengthen(runs: &mut Vec<PortBinding>, new: PortBinding) {
    let follows = |run: &&mut PortBinding| {
        let next = |first: u16| u32::from(first) + u32::from(run.count);
        (run.proto, run.host_ip) == (new.proto, new.host_ip)
            && next(run.host_port) == u32::from(new.host_port)
            && next(run.inner_port) == u32::from(new.inner_port)
    };
    match runs.iter_mut().find(follows) {
        Some(run) => run.count += 1,
        None => runs.push(new),
    }
}

/// Is there an address that both mean?
fn meet(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
}

impl PortBinding {
    /// Its ports on the host.
    pub fn host_ports(&self) -> std::ops::RangeInclusive<u16> {
        self.host_port..=self.host_port.saturating_add(self.count.saturating_sub(1))
    }

    /// Its ports inside.
    pub fn inner_ports(&self) -> std::ops::RangeInclusive<u16> {
        self.inner_port..=self.inner_port.saturating_add(self.count.saturating_sub(1))
    }

    /// Would a packet to some address and port of the host be meant by both?
    pub fn clashes(&self, other: &PortBinding) -> bool {
        let (mine, theirs) = (self.host_ports(), other.host_ports());
        self.proto == other.proto
            && meet(self.host_ip, other.host_ip)
            && mine.start() <= theirs.end()
            && theirs.start() <= mine.end()
    }
}

/// As `-p` spells it: `8080:80`, `127.0.0.1:8000-8010:8000-8010/udp`, `[::1]:80:80`.
impl fmt::Display for PortBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            ip if ip.is_unspecified() => {}
            IpAddr::V4(ip) => write!(f, "{ip}:")?,
            IpAddr::V6(ip) => write!(f, "[{ip}]:")?,
        }
        let (host, inner) = (self.host_ports(), self.inner_ports());
        if self.count == 1 {
            write!(f, "{}:{}", host.start(), inner.start())?;
        } else {
            write!(f, "{}-{}:{}-{}", host.start(), host.end(), inner.start(), inner.end())?;
        }
        if self.proto != Proto::Tcp {
            write!(f, "/{}", self.proto.name())?;
        }
        Ok(())
    }
}

impl Opened {
    /// Its ports.
    pub fn ports(&self) -> std::ops::RangeInclusive<u16> {
        self.port..=self.port.saturating_add(self.count.saturating_sub(1))
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ports().into_inner() {
            (first, last) if first == last => write!(f, "{first}")?,
            (first, last) => write!(f, "{first}-{last}")?,
        }
        if self.proto != Proto::Tcp {
            write!(f, "/{}", self.proto.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(host_port: Option<(u16, u16)>, inner: u16) -> PortWish {
        PortWish { proto: Proto::Udp, host_ip: None, host_port, inner, count: 1 }
    }

    #[test]
    fn a_thousand_ports_in_a_row_are_one_wish() {
        let row = (0..1000).rev().map(|n| wish(Some((20_000 + n, 20_000 + n)), 30_000 + n)).collect();
        let range = PortWish { count: 1000, ..wish(Some((20_000, 20_999)), 30_000) };
        assert_eq!(in_ranges(row), [range]);
        let open = (0..3).map(|n| wish(None, 7 + n)).collect();
        assert_eq!(in_ranges(open), [PortWish { count: 3, ..wish(None, 7) }]);
    }

    #[test]
    fn what_does_not_follow_stays_apart() {
        let apart = vec![
            wish(None, 1),
            wish(Some((2, 2)), 2),
            wish(Some((4, 4)), 3),
            wish(Some((5, 8)), 4),
            wish(Some((6, 6)), 5),
            PortWish { proto: Proto::Sctp, ..wish(Some((7, 7)), 6) },
            wish(Some((65535, 65535)), 65534),
            wish(Some((1, 1)), 65535),
        ];
        let mut ranges = in_ranges(apart.clone());
        ranges.sort_by_key(|wish| wish.inner);
        assert_eq!(ranges, apart);
    }

    #[test]
    fn ports_are_taken_out_of_ranges() {
        let host_ip = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let have = PortBinding { proto: Proto::Tcp, host_ip, host_port: 100, inner_port: 10, count: 5 };
        let gone = |inner, host_port| Unpublish { proto: Proto::Tcp, host_ip: None, host_port, inner };
        let shown = |gone: &[Unpublish]| {
            let mut used = vec![false; gone.len()];
            let rest = without(std::slice::from_ref(&have), gone, &mut used);
            match gone.iter().zip(used).find(|(_, used)| !used) {
                None => rest.iter().map(PortBinding::to_string).collect::<Vec<_>>().join(" "),
                Some((missing, _)) => format!("no {}", missing.inner),
            }
        };
        assert_eq!(shown(&[]), "100-104:10-14");
        assert_eq!(shown(&[gone(12, None)]), "100-101:10-11 103-104:13-14");
        assert_eq!(shown(&[gone(10, Some((100, 100))), gone(14, Some((0, 200)))]), "101-103:11-13");
        assert_eq!(shown(&[gone(12, None), gone(15, None)]), "no 15");
        assert_eq!(shown(&[gone(12, Some((101, 101)))]), "no 12");
        let other = Unpublish { host_ip: Some(Ipv4Addr::LOCALHOST.into()), ..gone(12, None) };
        assert_eq!(shown(&[other]), "no 12");
    }
}
