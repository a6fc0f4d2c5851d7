//! Which way a packet leaves a namespace, and with which source.

use super::refusal::Refusal;
use super::sight::{Nic, Site, Way};
use super::walk::Stop;
use crate::ids::IfName;
use std::net::IpAddr;

/// The way that a packet takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Course {
    pub dev: IfName,
    /// Who is to get it on that link.
    pub next: IpAddr,
    /// It stays here.
    pub local: bool,
    /// The source that the route suggests.
    source: Option<IpAddr>,
    /// The route, for people.
    pub text: String,
}

/// The way to an address; `at` is what people call the namespace.
pub(super) fn course(site: &Site, at: &str, to: IpAddr) -> Result<Course, Stop> {
    if site.is_local(to) {
        let text = format!("{to} is its own");
        return Ok(Course { dev: IfName::loopback(), next: to, local: true, source: None, text });
    }
    if matches!(to, IpAddr::V6(to) if to.is_unicast_link_local()) {
        return Err(Stop::Unknown(format!("{to} is another one on each link: link-local addresses are not explained")));
    }
    if to.is_multicast() || matches!(to, IpAddr::V4(to) if to.is_broadcast()) {
        return Err(Stop::Unknown(format!("{to} is meant for many, and only what is meant for one is explained")));
    }
    if site.chooses_tables {
        return Err(Stop::Unknown(format!("rules of {at} choose among routing tables (ip rule), which are not read")));
    }
    let usable = |way: &&Way| {
        let nic = way.dev.as_ref().map(|dev| site.links.get(dev));
        let up = |nic: &Nic| nic.up && !(to.is_ipv6() && nic.no_ipv6);
        way.to.contains(&to) && nic.is_none_or(|nic| nic.is_some_and(up))
    };
    // The first of equals, as the kernel lists them.
    let best = site.routes.iter().filter(usable).min_by_key(|way| (u8::MAX - way.to.prefix_len(), way.metric));
    let Some(way) = best else { return Err(Refusal::NoRoute { at: at.to_owned(), to }.into()) };
    if way.refuses {
        return Err(Refusal::RouteRefuses { at: at.to_owned(), to }.into());
    }
    let Some(dev) = way.dev.clone() else {
        return Err(Stop::Unknown(format!("the route of {at} to {} has several next hops", way.to)));
    };
    let via = way.via.map(|via| format!(" via {via}")).unwrap_or_default();
    let to_net = if way.to.prefix_len() == 0 { "default".to_owned() } else { way.to.to_string() };
    let text = format!("{to_net}{via} dev {dev}");
    // Who is his own next hop takes everybody for a neighbour (`fib_nh_scope` is not that of a link then).
    let via = way.via.filter(|via| !site.is_local(*via));
    Ok(Course { dev, next: via.unwrap_or(to), local: false, source: way.source, text })
}

impl Course {
    /// The address that a socket of this namespace sends from, or that `masquerade` takes.
    pub fn source(&self, site: &Site, to: IpAddr) -> Option<IpAddr> {
        if self.local {
            return Some(to);
        }
        let of = |nic: &Nic| {
            let own = nic.addrs.iter().copied().filter(move |own| own.addr().is_ipv4() == to.is_ipv4());
            own.filter(|own| !own.addr().is_loopback()).collect::<Vec<_>>()
        };
        let on = site.links.get(&self.dev).map(&of).unwrap_or_default();
        let elsewhere = || site.links.values().filter(|nic| nic.up).flat_map(&of);
        match to {
            IpAddr::V4(_) => {
                let beside = on.iter().find(|own| own.contains(&self.next)).or(on.first()).copied();
                self.source.or(beside.or_else(|| elsewhere().next()).map(|own| own.addr()))
            }
            IpAddr::V6(to) => {
                // RFC 6724: an address of the link first, then the one that has most in common with the destination.
                let wide = |own: &ipnet::IpNet| matches!(own.addr(), IpAddr::V6(own) if !own.is_unicast_link_local());
                let common = |own: &ipnet::IpNet| match own.addr() {
                    IpAddr::V6(own) => (own.to_bits() ^ to.to_bits()).leading_zeros(),
                    IpAddr::V4(_) => 0,
                };
                let best = on.into_iter().filter(wide).max_by_key(common);
                best.or_else(|| elsewhere().filter(wide).max_by_key(common)).map(|own| own.addr())
            }
        }
    }
}
