//! Says when something in the host's network moved (multicast groups of rtnetlink(7) and of nftables).
//!
//! What moved is only a hint at where to look: the answer to every movement is to observe.

use crate::fault::Refused;
use crate::nft::{NEWGEN, SUBSYSTEM};
use crate::rtnetlink;
use crate::socket::{Message, Socket};
use crate::{Fault, Host, address, link, marks, sysctl};
use netlink_packet_route::RouteNetlinkMessage as Notice;
use netlink_packet_route::route::{RouteHeader, RouteProtocol};
use plan::ids::IfName;
use plan::netstate::{Errno, IpFamily, LinkKind, NetState, Ns};
use plan::nft::Owner;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// `RTNLGRP_*` (linux/rtnetlink.h): links, addresses, routes and settings of both families.
const GROUPS: [u32; 7] = [1, 5, 7, 9, 11, 24, 25];
/// `NFNLGRP_NFTABLES`
const NFTABLES: u32 = 7;

/// Something moved.
///
/// `by_us` is as far as the kernel says: of what follows from our doing (addresses that go with their link) and of
/// links it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    /// A link came or changed, and is like this now.
    Link(LinkNow),
    /// A link went.
    NoLink(IfName),
    /// An address came or went that the kernel did not give by itself.
    Address {
        /// By our sockets.
        by_us: bool,
    },
    /// A route with our mark came or went.
    Route {
        /// By our sockets.
        by_us: bool,
    },
    /// A route of somebody else's came or went in the main table, by no address's doing.
    StrangersRoute,
    /// Forwarding was switched.
    Forwarding {
        /// Of which family.
        family: IpFamily,
        /// On?
        on: bool,
    },
    /// The ruleset changed.
    Firewall {
        /// By our sockets.
        by_us: bool,
    },
    /// More happened than the socket could hold, so anything may have moved.
    Lost,
}

/// A link as a notice shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkNow {
    /// Its name.
    pub name: IfName,
    /// It bears one of our marks.
    pub ours: bool,
    /// As its alias says.
    pub owner: Option<Owner>,
    /// In bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// A port of some bridge.
    pub enslaved: bool,
}

/// Does any of this not follow from what is believed of the host's network? Then it is time to observe.
///
/// Taken after a round of operations and with the belief that the round led to, this is false for the operations' own
/// notices, mostly: some of what they entail is told like a stranger's doing, and then one look too many is taken.
pub fn surprising(moved: &[Moved], believed: &NetState) -> bool {
    let links = believed.spaces.get(&Ns::Host).map(|host| &host.links);
    let forwards = |family| believed.spaces.get(&Ns::Host).is_some_and(|host| host.forwarding.contains(&family));
    let link = |name: &IfName| links.and_then(|links| links.get(name));
    // A link that was just made shows all of its steps; only the last one tells what it is.
    let mut last: BTreeMap<&IfName, &Moved> = BTreeMap::new();
    for one in moved {
        match one {
            Moved::Link(now) => last.insert(&now.name, one),
            Moved::NoLink(name) => last.insert(name, one),
            Moved::Address { by_us } | Moved::Route { by_us } | Moved::Firewall { by_us } if *by_us => None,
            Moved::StrangersRoute => None,
            Moved::Forwarding { family, on } if *on || !forwards(*family) => None,
            _ => return true,
        };
    }
    last.into_values().any(|moved| match moved {
        Moved::NoLink(name) => link(name).is_some(),
        Moved::Link(now) => match link(&now.name) {
            Some(known) if known.kind == LinkKind::ForeignBridge => (known.up, known.mtu) != (now.up, now.mtu),
            Some(known) => {
                let enslaved = known.master.is_some();
                (known.up, known.mtu, Some(known.owner), enslaved) != (now.up, now.mtu, now.owner, now.enslaved)
            }
            None => now.ours,
        },
        _ => false,
    })
}

/// May any of this have changed what is around our network?
pub fn around(moved: &[Moved]) -> bool {
    // What the bridge tells of a port does not say whose the link is; what the link itself tells does.
    let links = moved.iter().filter_map(|one| if let Moved::Link(now) = one { Some(now) } else { None });
    let ours: BTreeSet<&IfName> = links.filter(|now| now.ours).map(|now| &now.name).collect();
    moved.iter().any(|one| match one {
        Moved::Link(now) => !ours.contains(&now.name),
        Moved::Address { by_us } | Moved::Firewall { by_us } => !by_us,
        Moved::StrangersRoute | Moved::Forwarding { .. } | Moved::Lost => true,
        // Of a link that went it is not known whose it was; ports of strangers that go make nothing worse.
        Moved::NoLink(_) | Moved::Route { .. } => false,
    })
}

/// Watches the namespace in which it was opened. It can be handed to another thread.
pub struct Watch {
    routes: Socket,
    firewall: Socket,
    ours: [u32; 2],
}

impl Watch {
    /// Watch the calling thread's namespace, which must be the one of `host`.
    ///
    /// # Errors
    /// If a socket cannot be opened or may not listen.
    pub fn open(host: &Host) -> Result<Watch, Fault> {
        let routes =
            listening(Socket::route(), &GROUPS).map_err(|source| Fault::Socket { family: "routes", source })?;
        let firewall = listening(Socket::netfilter(), &[NFTABLES])
            .map_err(|source| Fault::Socket { family: "nftables", source })?;
        Ok(Watch { routes, firewall, ours: host.ports() })
    }

    /// Wait until something moved, or the time is over: then nothing did.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn wait(&mut self, limit: Option<Duration>) -> Result<Vec<Moved>, Fault> {
        let fault = |refused: Refused| {
            let source = Errno::Kernel { errno: refused.errno, text: refused.text };
            Fault::Kernel { what: "movements", source }
        };
        // A limit of more than i64::MAX seconds is none.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        {
            let mut fds =
                [self.routes.as_fd(), self.firewall.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut fds, limit.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(fault(err.into())),
            }
        }
        let mut moved = Vec::new();
        for socket in [&self.routes, &self.firewall] {
            loop {
                match socket.receive(libc::MSG_DONTWAIT) {
                    Ok(None) => break,
                    Ok(Some(messages)) => moved.extend(messages.iter().filter_map(|message| self.read(message))),
                    Err(refused) if refused.errno == libc::ENOBUFS => {
                        moved.push(Moved::Lost);
                    }
                    Err(refused) => return Err(fault(refused)),
                }
            }
        }
        Ok(moved)
    }

    fn read(&self, message: &Message) -> Option<Moved> {
        let by_us = self.ours.contains(&message.port);
        if message.kind & 0xff00 == SUBSYSTEM {
            // Every transaction ends with one notice of the new generation; the others tell its details.
            (message.kind & 0xff == u16::from(NEWGEN)).then_some(())?;
            return Some(Moved::Firewall { by_us });
        }
        if sysctl::NETCONF.contains(&message.kind) {
            let (family, on) = sysctl::noticed(message.kind, &message.body)?;
            return Some(Moved::Forwarding { family, on });
        }
        match rtnetlink::parse(message.kind, &message.body) {
            Ok(Notice::NewLink(message)) => {
                let link::Seen { name, ours, owner, mtu, up, master, .. } = link::Seen::of(&message)?;
                Some(Moved::Link(LinkNow { name, ours, owner, mtu, up, enslaved: master.is_some() }))
            }
            Ok(Notice::DelLink(message)) => Some(Moved::NoLink(link::Seen::of(&message)?.name)),
            Ok(Notice::NewAddress(message) | Notice::DelAddress(message)) => {
                (!address::seen(&message)?.automatic).then_some(Moved::Address { by_us })
            }
            Ok(Notice::NewRoute(route) | Notice::DelRoute(route)) => {
                let header = &route.header;
                match header.protocol {
                    RouteProtocol::Other(marks::ROUTE_PROTOCOL) => Some(Moved::Route { by_us }),
                    RouteProtocol::Kernel => None,
                    _ => (header.table == RouteHeader::RT_TABLE_MAIN).then_some(Moved::StrangersRoute),
                }
            }
            Ok(_) => None,
            // A notice that cannot be understood may be about anything.
            Err(_) => Some(Moved::Lost),
        }
    }
}

fn listening(socket: io::Result<Socket>, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = socket?;
    for group in groups {
        socket.join(*group)?;
    }
    Ok(socket)
}
