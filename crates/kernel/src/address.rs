//! Addresses (rtnetlink(7), linux/if_addr.h): adding, removing and reading them.

use crate::fault::Refused;
use crate::marks::ADDRESS_PROTOCOL;
use crate::rtnetlink::Rtnetlink;
use crate::socket::{CREATE, EXCL};
use ipnet::IpNet;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol, AddressScope,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Request};
use std::net::IpAddr;

pub(crate) fn add(rt: &mut Rtnetlink, link: u32, addr: IpNet) -> Result<(), Refused> {
    let mut message = message(link, addr);
    message.attributes.push(AddressAttribute::Protocol(AddressProtocol::Other(ADDRESS_PROTOCOL)));
    match addr {
        // As other tools do, where there is such an address at all.
        IpNet::V4(net) if net.prefix_len() < 31 => {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        IpNet::V4(_) => {}
        // We gave the address out ourselves, so nobody else has it, and it can be used at once.
        IpNet::V6(_) => message.header.flags |= AddressHeaderFlags::Nodad,
    }
    rt.request(&Request::NewAddress(message), CREATE | EXCL)
}

pub(crate) fn delete(rt: &mut Rtnetlink, link: u32, addr: IpNet) -> Result<(), Refused> {
    rt.request(&Request::DelAddress(message(link, addr)), 0)
}

fn message(link: u32, addr: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = link;
    message.header.family = family(addr.addr());
    message.header.prefix_len = addr.prefix_len();
    message.header.scope = match addr.addr() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => AddressScope::Link,
        ip if ip.is_loopback() => AddressScope::Host,
        _ => AddressScope::Universe,
    };
    message.attributes = vec![AddressAttribute::Local(addr.addr()), AddressAttribute::Address(addr.addr())];
    message
}

pub(crate) fn family(addr: IpAddr) -> AddressFamily {
    match addr {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// An address as the kernel shows it.
pub(crate) struct Seen {
    /// The link's index.
    pub link: u32,
    pub addr: IpNet,
    /// The kernel gave it to the link by itself: loopback's own, link-local ones, and by router advertisement.
    pub automatic: bool,
    /// Made by us, as far as the kernel tells (Linux 5.18).
    pub ours: bool,
}

/// All addresses of all links.
pub(crate) fn all(rt: &mut Rtnetlink) -> Result<Vec<Seen>, Refused> {
    let messages = rt.dump(&Request::GetAddress(AddressMessage::default()))?;
    let addresses = messages.iter().filter_map(|message| match message {
        Request::NewAddress(message) => seen(message),
        _ => None,
    });
    Ok(addresses.collect())
}

pub(crate) fn seen(message: &AddressMessage) -> Option<Seen> {
    let mut local = None;
    let mut other = None;
    let mut by_kernel = None;
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(addr) => local = Some(*addr),
            // On a link between two points this is the other end's; else it is the same.
            AddressAttribute::Address(addr) => other = Some(*addr),
            AddressAttribute::Protocol(protocol) => {
                by_kernel = Some(!matches!(protocol, AddressProtocol::Other(_)));
                ours = matches!(protocol, AddressProtocol::Other(ADDRESS_PROTOCOL));
            }
            _ => {}
        }
    }
    let addr = local.or(other)?;
    // Before Linux 5.18 nothing tells who added an address.
    let by_its_look = addr.is_loopback() || matches!(addr, IpAddr::V6(v6) if v6.is_unicast_link_local());
    Some(Seen {
        link: message.header.index,
        addr: IpNet::new(addr, message.header.prefix_len).ok()?,
        automatic: by_kernel.unwrap_or(by_its_look),
        ours,
    })
}
