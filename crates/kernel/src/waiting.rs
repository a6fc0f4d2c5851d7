//! Sockets that wait for somebody (sock_diag(7), linux/inet_diag.h): the kernel is asked, nobody connects, so nobody notices.
//! However many connections there are, it walks through those alone that wait.

use crate::attr::Attrs;
use crate::socket::Socket;
use plan::listener::Listener;
use plan::world::Proto;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `INET_DIAG_SKV6ONLY`
const V6ONLY: u16 = 11;
/// `TCP_LISTEN`, which SCTP uses as well, and `TCP_CLOSE`, which is what a datagram socket without a peer is.
const LISTENS: u32 = 10;
const UNCONNECTED: u32 = 7;
/// struct inet_diag_msg without its attributes: four bytes, struct inet_diag_sockid (48 bytes), five words.
const HEAD: usize = 72;
/// The interface `lo` has this number in every network namespace.
const LOOPBACK: u32 = 1;

/// Those of these protocols in the calling thread's network namespace; see [`crate::Excursion`] for others.
///
/// # Errors
/// A kernel without `CONFIG_INET_DIAG`.
pub fn listeners(protos: &[Proto]) -> io::Result<Vec<Listener>> {
    let mut socket = Socket::diag()?;
    let mut all = Vec::new();
    for proto in protos {
        let state = if *proto == Proto::Udp { UNCONNECTED } else { LISTENS };
        for family in [libc::AF_INET, libc::AF_INET6] {
            // struct inet_diag_req_v2: family, protocol, wanted attributes, padding, states, and a socket's id, which a list
            // does not look at.
            let mut request = vec![family as u8, proto.number(), 0, 0];
            request.extend((1u32 << state).to_ne_bytes());
            request.resize(8 + 48, 0);
            // A kernel without the protocol or the family has no sockets of it.
            let may_lack = *proto == Proto::Sctp || family == libc::AF_INET6;
            match socket.dump(BY_FAMILY, &request) {
                Ok(found) => all.extend(found.iter().filter_map(|message| listener(*proto, &message.body))),
                Err(refused) if refused.errno == libc::ENOENT && may_lack => {}
                Err(refused) => return Err(io::Error::from_raw_os_error(refused.errno)),
            }
        }
    }
    // SCTP lists a socket once for each family.
    all.sort();
    all.dedup();
    Ok(all)
}

fn listener(proto: Proto, body: &[u8]) -> Option<Listener> {
    let head = body.first_chunk::<HEAD>()?;
    let port = u16::from_be_bytes([head[4], head[5]]);
    let device = u32::from_ne_bytes(head[40..44].try_into().ok()?);
    let addr: [u8; 16] = head[8..24].try_into().ok()?;
    let addr = match i32::from(head[0]) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::new(addr[0], addr[1], addr[2], addr[3])),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(addr)).to_canonical(),
        _ => return None,
    };
    let only_v6 = Attrs(&body[HEAD..]).get(V6ONLY).is_some_and(|value| value.first() == Some(&1));
    Some(Listener { proto, addr, port, only_v6, by_lo: device == LOOPBACK })
}
