//! Tracked flows (linux/netfilter/nfnetlink_conntrack.h): finding and forgetting them.
//!
//! A flow outlives the rule that translated it. When a published port is withdrawn, its flows have to go too, or they
//! keep reaching whoever gets the address next.

use crate::attr::{Attrs, NESTED, Writer};
use crate::fault::Refused;
use crate::rtnetlink::Rtnetlink;
use crate::socket::{Message, Socket};
use crate::{Fault, address};
use plan::flows::{Answers, Flow, Flows};
use plan::netstate::Errno;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How many flows there are.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// struct nfgenmsg
const HEAD: usize = 4;
/// `CTA_*`
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const STATUS_MASK: u16 = 26;
/// `IPS_DST_NAT`
const DST_NAT: u32 = 1 << 5;
/// `CTA_FILTER_ORIG_FLAGS`, and in it `CTA_FILTER_F_CTA_PROTO_NUM`, `CTA_FILTER_F_CTA_PROTO_DST_PORT`.
const ORIG_FLAGS: u16 = 1;
const BY_PROTO: u32 = 1 << 3;
const BY_DST_PORT: u32 = 1 << 5;
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

/// The tracked flows of one network namespace, on sockets of their own.
pub struct Tracked {
    netfilter: Socket,
    rt: Rtnetlink,
}

impl Tracked {
    /// Of the calling thread's network namespace.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN in it.
    pub fn open() -> Result<Tracked, Fault> {
        let failed = |source| Fault::Socket { family: "tracked flows", source };
        Ok(Tracked { netfilter: Socket::netfilter().map_err(failed)?, rt: Rtnetlink::open().map_err(failed)? })
    }

    /// Whom the first packet of a flow was for that `from` began and `answers` answers; `None` if nobody remembers it.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn original(&mut self, proto: u8, from: SocketAddr, answers: SocketAddr) -> Result<Option<SocketAddr>, Errno> {
        let mut request = Writer(head(Some(from.is_ipv6())).to_vec());
        // The answers' way: from who answers to who began it.
        request.nest(TUPLE_REPLY, |tuple| put_tuple(tuple, proto, answers, from));
        match self.netfilter.get(GET, &request.0) {
            Ok(message) => Ok(flow(attrs(&message)).map(|flow| flow.to)),
            Err(refused) if refused.errno == libc::ENOENT => Ok(None),
            Err(refused) => Err(refused.about("tracked flow")),
        }
    }

    /// Forget these flows but those that are to stay. Three walks through all that is tracked at most, some 20 ms each however
    /// much that is: the kernel sorts out, and only what may be meant is listed.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn forget(&mut self, flows: &[Flows], stays: impl Fn(&Flow) -> bool) -> Result<(), Errno> {
        forget(&mut self.netfilter, &mut self.rt, flows, stays).map_err(|refused| refused.about("tracked flows"))
    }
}

pub(crate) fn forget(
    netfilter: &mut Socket,
    rt: &mut Rtnetlink,
    flows: &[Flows],
    stays: impl Fn(&Flow) -> bool,
) -> Result<(), Refused> {
    // A file of the thread's own namespace; without it the tables are looked at.
    if std::fs::read_to_string(COUNT).is_ok_and(|count| count.trim() == "0") {
        return Ok(());
    }
    let (host, translated): (Vec<&Flows>, Vec<&Flows>) = flows.iter().partition(|of| of.answers == Answers::Host);
    let local: BTreeSet<IpAddr> = match host.is_empty() {
        true => BTreeSet::new(),
        false => address::all(rt)?.iter().map(|seen| seen.addr.addr()).collect(),
    };
    let is_local = |addr: IpAddr| addr.is_loopback() || local.contains(&addr);
    // What is translated is little. Of all else the kernel must know the family, to look at the protocol.
    let (six, four): (Vec<&Flows>, Vec<&Flows>) = host.into_iter().partition(|of| of.v6);
    for (meant, status) in [(translated, DST_NAT), (four, 0), (six, 0)] {
        if meant.is_empty() {
            continue;
        }
        let by_port = ByPort::of(&meant);
        for message in netfilter.dump(GET, &filter(&meant, status))? {
            let attrs = attrs(&message);
            let Some(flow) = flow(attrs) else { continue };
            if by_port.near(flow.to.port()).any(|of| of.hold(&flow, is_local)) && !stays(&flow) {
                delete(netfilter, flow.to.is_ipv6(), attrs)?;
            }
        }
    }
    Ok(())
}

/// Sorted by their first ports, so that among thousands those that a port can be in are found at once.
struct ByPort<'a> {
    sorted: Vec<&'a Flows>,
    /// The most ports that one of them has.
    longest: u16,
}

impl<'a> ByPort<'a> {
    fn of(flows: &[&'a Flows]) -> ByPort<'a> {
        let mut sorted = flows.to_vec();
        sorted.sort_by_key(|flows| flows.ports);
        let longest = sorted.iter().map(|flows| flows.ports.1 - flows.ports.0).max().unwrap_or(0);
        ByPort { sorted, longest }
    }

    fn near(&self, port: u16) -> impl Iterator<Item = &'a Flows> {
        let begins = |from: u16| self.sorted.partition_point(|flows| flows.ports.0 < from);
        let first = begins(port.saturating_sub(self.longest));
        let end = port.checked_add(1).map_or(self.sorted.len(), begins);
        self.sorted[first..end].iter().copied()
    }
}

fn delete(netfilter: &mut Socket, v6: bool, attrs: Attrs<'_>) -> Result<(), Refused> {
    let mut request = Writer(head(Some(v6)).to_vec());
    // The id tells it from a flow that began anew with the same ends.
    for kind in [TUPLE_ORIG, ID, ZONE] {
        if let Some(value) = attrs.get(kind) {
            let nested = if kind == TUPLE_ORIG { NESTED } else { 0 };
            request.bytes(kind | nested, value);
        }
    }
    match netfilter.request(DELETE, 0, &request.0) {
        // It ended by itself.
        Err(refused) if refused.errno == libc::ENOENT => Ok(()),
        other => other,
    }
}

/// A request for flows with this of their status's bit [`DST_NAT`], and of what these have in common. Old kernels show more
/// (before 5.15 of any status, before 5.8 all), so that whoever asks has to look again.
fn filter(meant: &[&Flows], status: u32) -> Vec<u8> {
    let v6 = common(meant, |of| of.v6);
    let proto = common(meant, |of| of.proto).filter(|_| v6.is_some());
    let port = common(meant, |of| of.ports).filter(|(from, to)| from == to && proto.is_some());
    let mut request = Writer(head(v6).to_vec());
    request.be32(STATUS, status).be32(STATUS_MASK, DST_NAT);
    if let Some(proto) = proto {
        request.nest(TUPLE_ORIG, |tuple| {
            tuple.nest(PROTO, |out| {
                out.bytes(PROTO_NUM, &[proto]);
                if let Some((port, _)) = port {
                    out.bytes(DST_PORT, &port.to_be_bytes());
                }
            });
        });
        request.nest(FILTER, |out| {
            let flags = BY_PROTO | if port.is_some() { BY_DST_PORT } else { 0 };
            out.bytes(ORIG_FLAGS, &flags.to_ne_bytes());
        });
    }
    request.0
}

/// What is the same of all.
fn common<T: PartialEq>(all: &[&Flows], what: impl Fn(&Flows) -> T) -> Option<T> {
    let first = what(all.first()?);
    all.iter().all(|of| what(of) == first).then_some(first)
}

/// With the family; `None` is every one.
fn head(v6: Option<bool>) -> [u8; HEAD] {
    let family = match v6 {
        None => libc::AF_UNSPEC,
        Some(false) => libc::AF_INET,
        Some(true) => libc::AF_INET6,
    };
    [family as u8, 0, 0, 0]
}

fn attrs(message: &Message) -> Attrs<'_> {
    Attrs(message.body.get(HEAD..).unwrap_or_default())
}

fn flow(attrs: Attrs<'_>) -> Option<Flow> {
    let (proto, from, to) = tuple(attrs.nest(TUPLE_ORIG)?)?;
    let (_, answers, _) = tuple(attrs.nest(TUPLE_REPLY)?)?;
    Some(Flow { proto, from, to, answers })
}

fn put_tuple(out: &mut Writer, proto: u8, from: SocketAddr, to: SocketAddr) {
    out.nest(IP, |out| {
        for (addr, v4, v6) in [(from.ip(), V4_SRC, V6_SRC), (to.ip(), V4_DST, V6_DST)] {
            match addr {
                IpAddr::V4(addr) => out.bytes(v4, &addr.octets()),
                IpAddr::V6(addr) => out.bytes(v6, &addr.octets()),
            };
        }
    });
    out.nest(PROTO, |out| {
        out.bytes(PROTO_NUM, &[proto]).bytes(SRC_PORT, &from.port().to_be_bytes());
        out.bytes(DST_PORT, &to.port().to_be_bytes());
    });
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
