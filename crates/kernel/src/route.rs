//! Routes (rtnetlink(7), linux/rtnetlink.h): adding, removing and reading them.

use crate::address::family;
use crate::fault::Refused;
use crate::marks::ROUTE_PROTOCOL;
use crate::rtnetlink::Rtnetlink;
use crate::socket::{CREATE, REPLACE};
use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Request};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The priorities of the rules for the tables `local`, `main` and `default`.
const USUAL_RULES: [u32; 3] = [0, 32766, 32767];

/// A route as the kernel shows it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub to: IpNet,
    pub via: Option<IpAddr>,
    /// The link's index; `None` for routes with several next hops, and for refusals.
    pub link: Option<u32>,
    /// Smaller is preferred.
    pub metric: u32,
    /// The route's own MTU, if it has one.
    pub mtu: Option<u32>,
    /// In the main table, to some other machine or link.
    pub unicast: bool,
    /// It refuses whoever takes it.
    pub refuses: bool,
    /// The source that it suggests.
    pub source: Option<IpAddr>,
    /// Made by us.
    pub ours: bool,
}

/// A route in place of whatever leads to the same: who rules over a namespace may have made one there.
pub(crate) fn add(rt: &mut Rtnetlink, link: u32, to: IpNet, via: Option<IpAddr>) -> Result<(), Refused> {
    rt.request(&Request::NewRoute(message(link, to, via)), CREATE | REPLACE)
}

pub(crate) fn delete(rt: &mut Rtnetlink, link: u32, to: IpNet, via: Option<IpAddr>) -> Result<(), Refused> {
    rt.request(&Request::DelRoute(message(link, to, via)), 0)
}

fn message(link: u32, to: IpNet, via: Option<IpAddr>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(to.addr());
    message.header.destination_prefix_length = to.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message.header.scope = if via.is_none() && to.addr().is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.attributes.push(RouteAttribute::Oif(link));
    if to.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(wire(to.network())));
    }
    if let Some(via) = via {
        message.attributes.push(RouteAttribute::Gateway(wire(via)));
    }
    message
}

fn wire(addr: IpAddr) -> RouteAddress {
    match addr {
        IpAddr::V4(v4) => RouteAddress::Inet(v4),
        IpAddr::V6(v6) => RouteAddress::Inet6(v6),
    }
}

fn read(addr: &RouteAddress) -> Option<IpAddr> {
    match addr {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// Are there rules that choose among routing tables, beyond those that every namespace begins with (ip-rule(8))?
pub(crate) fn chosen_by_rules(rt: &mut Rtnetlink) -> Result<bool, Refused> {
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut filter = RuleMessage::default();
        filter.header.family = family;
        for message in rt.dump(&Request::GetRule(filter))? {
            let Request::NewRule(rule) = message else { continue };
            let priority = rule.attributes.iter().find_map(|a| match a {
                RuleAttribute::Priority(priority) => Some(*priority),
                _ => None,
            });
            if !USUAL_RULES.contains(&priority.unwrap_or_default()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Routes of the main table: ours only, or everybody's.
pub(crate) fn all(rt: &mut Rtnetlink, ours: bool) -> Result<Vec<Seen>, Refused> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut filter = RouteMessage::default();
        filter.header.address_family = family;
        filter.header.table = RouteHeader::RT_TABLE_MAIN;
        if ours {
            filter.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
        }
        let messages = match rt.dump(&Request::GetRoute(filter)) {
            // A table that holds no route yet does not exist.
            Err(refused) if refused.errno == libc::ENOENT => Vec::new(),
            other => other?,
        };
        routes.extend(messages.iter().filter_map(|message| match message {
            Request::NewRoute(route) => seen(route, ours),
            _ => None,
        }));
    }
    Ok(routes)
}

fn seen(message: &RouteMessage, ours: bool) -> Option<Seen> {
    let header = &message.header;
    let is_ours = header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL);
    // A kernel without strict checks does not filter.
    if header.table != RouteHeader::RT_TABLE_MAIN || (ours && !is_ours) {
        return None;
    }
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let unicast = header.kind == RouteType::Unicast;
    let refuses = matches!(header.kind, RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit);
    let (mut to, mut via, mut link, mut metric, mut mtu, mut source) = (any, None, None, 0, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(addr) => to = read(addr)?,
            RouteAttribute::Gateway(addr) => via = read(addr),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::PrefSource(addr) => source = read(addr),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|m| if let RouteMetric::Mtu(mtu) = m { Some(*mtu) } else { None });
            }
            _ => {}
        }
    }
    let to = IpNet::new(to, header.destination_prefix_length).ok()?;
    Some(Seen { to, via, link, metric, mtu, unicast, refuses, source, ours: is_ours })
}
