//! Sockets that wait for somebody (sock_diag(7), linux/inet_diag.h).

use crate::attr::Attrs;
use crate::fault::Refused;
use crate::socket::Socket;
use plan::explain::sight::Listener;
use plan::world::Proto;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `INET_DIAG_SKV6ONLY`
const V6ONLY: u16 = 11;
/// `TCP_LISTEN`, which SCTP uses as well, and `TCP_CLOSE`, which is what a datagram socket without a peer is.
const LISTENS: u32 = 10;
const UNCONNECTED: u32 = 7;
/// struct inet_diag_msg without its attributes.
const HEAD: usize = 72;

/// Those of the calling thread's namespace.
pub(crate) fn listeners() -> Result<Vec<Listener>, Refused> {
    let mut socket = Socket::diag()?;
    let mut all = Vec::new();
    for proto in [Proto::Tcp, Proto::Udp, Proto::Sctp] {
        let state = if proto == Proto::Udp { UNCONNECTED } else { LISTENS };
        for family in [libc::AF_INET, libc::AF_INET6] {
            // struct inet_diag_req_v2: family, protocol, wanted attributes, padding, states, and a socket's id, which a list
            // does not look at.
            let mut request = vec![family as u8, proto.number(), 0, 0];
            request.extend((1u32 << state).to_ne_bytes());
            request.resize(8 + 48, 0);
            let found = match socket.dump(BY_FAMILY, &request) {
                // Without the protocol there are no sockets of it.
                Err(refused) if refused.errno == libc::ENOENT && proto == Proto::Sctp => continue,
                found => found?,
            };
            all.extend(found.iter().filter_map(|message| listener(proto, &message.body)));
        }
    }
    // SCTP lists a socket once for each family.
    all.sort();
    all.dedup();
    Ok(all)
}

fn listener(proto: Proto, body: &[u8]) -> Option<Listener> {
    let (family, id) = (*body.first()?, body.get(4..52)?);
    let port = u16::from_be_bytes(id.get(..2)?.try_into().ok()?);
    let addr: IpAddr = match i32::from(family) {
        libc::AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(id.get(4..8)?).ok()?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(id.get(4..20)?).ok()?).into(),
    };
    let only_v6 = Attrs(body.get(HEAD..).unwrap_or_default()).get(V6ONLY).is_some_and(|value| value != [0]);
    Some(Listener { proto, addr: addr.to_canonical(), port, only_v6, program: String::new() })
}
