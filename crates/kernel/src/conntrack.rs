//! Tracked flows (linux/netfilter/nfnetlink_conntrack.h): finding and forgetting them.
//!
//! A flow outlives the rule that translated it. When a published port is withdrawn, its flows have to go too, or they
//! keep reaching whoever gets the address next.

use crate::attr::{Attrs, NESTED, Writer};
use crate::fault::Refused;
use crate::socket::Socket;
use crate::{Fault, Host};
use plan::netstate::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// struct nfgenmsg
const HEAD: usize = 4;
/// `CTA_*`
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// `CTA_TUPLE_*`, `CTA_IP_*`, `CTA_PROTO_*`
const IP: u16 = 1;
const PROTO: u16 = 2;
const V4_SRC: u16 = 1;
const V4_DST: u16 = 2;
const V6_SRC: u16 = 3;
const V6_DST: u16 = 4;
const PROTO_NUM: u16 = 1;
const SRC_PORT: u16 = 2;
const DST_PORT: u16 = 3;

/// A flow, as its first packet was and as its answers are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The transport protocol's number.
    pub proto: u8,
    /// Who began it.
    pub from: SocketAddr,
    /// Whom the first packet was for, before translation.
    pub to: SocketAddr,
    /// Who answers: `to` after translation.
    pub answers: SocketAddr,
}

impl Host {
    /// Forget all flows of the host's namespace of which `which` is true; how many they were. Flows of protocols without
    /// ports have port 0.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn forget_flows(&mut self, which: impl Fn(&Flow) -> bool) -> Result<usize, Fault> {
        forget(&mut self.nft.socket, which).map_err(|refused| {
            let source = Errno::Kernel { errno: refused.errno, text: refused.text };
            Fault::Kernel { what: "tracked flows", source }
        })
    }
}

fn forget(socket: &mut Socket, which: impl Fn(&Flow) -> bool) -> Result<usize, Refused> {
    let mut forgotten = 0;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let head = [family as u8, 0, 0, 0];
        for message in socket.dump(GET, &head)? {
            let attrs = Attrs(message.body.get(HEAD..).unwrap_or_default());
            if !flow(attrs).is_some_and(|flow| which(&flow)) {
                continue;
            }
            let mut request = Writer(head.to_vec());
            // The id tells it from a flow that began anew with the same ends.
            for kind in [TUPLE_ORIG, ID, ZONE] {
                if let Some(value) = attrs.get(kind) {
                    let nested = if kind == TUPLE_ORIG { NESTED } else { 0 };
                    request.bytes(kind | nested, value);
                }
            }
            match socket.request(DELETE, 0, &request.0) {
                Ok(()) => forgotten += 1,
                // It ended by itself.
                Err(refused) if refused.errno == libc::ENOENT => {}
                Err(refused) => return Err(refused),
            }
        }
    }
    Ok(forgotten)
}

fn flow(attrs: Attrs<'_>) -> Option<Flow> {
    let (proto, from, to) = tuple(attrs.nest(TUPLE_ORIG)?)?;
    let (_, answers, _) = tuple(attrs.nest(TUPLE_REPLY)?)?;
    Some(Flow { proto, from, to, answers })
}

fn tuple(attrs: Attrs<'_>) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (ip, proto) = (attrs.nest(IP)?, attrs.nest(PROTO)?);
    let addr = |v4: u16, v6: u16| -> Option<IpAddr> {
        match (ip.get(v4), ip.get(v6)) {
            (Some(v4), _) => Some(Ipv4Addr::from(<[u8; 4]>::try_from(v4).ok()?).into()),
            (_, Some(v6)) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(v6).ok()?).into()),
            _ => None,
        }
    };
    let port = |kind: u16| proto.get(kind).and_then(|b| Some(u16::from_be_bytes(b.try_into().ok()?))).unwrap_or(0);
    Some((
        *proto.get(PROTO_NUM)?.first()?,
        SocketAddr::new(addr(V4_SRC, V6_SRC)?, port(SRC_PORT)),
        SocketAddr::new(addr(V4_DST, V6_DST)?, port(DST_PORT)),
    ))
}
