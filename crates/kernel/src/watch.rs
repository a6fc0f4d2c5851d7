//! Says when something in the host's network moved (multicast groups of rtnetlink(7) and of nftables).
//!
//! What moved is only a hint at where to look: the answer to every movement is to observe.

use crate::attr::Attrs;
use crate::fault::Refused;
use crate::nft::{NEWGEN, SUBSYSTEM, generation};
use crate::rtnetlink;
use crate::socket::{Message, Socket};
use crate::{Fault, Host, marks};
use netlink_packet_route::RouteNetlinkMessage as Notice;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::RouteProtocol;
use plan::ids::IfName;
use plan::netstate::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// `RTNLGRP_*` (linux/rtnetlink.h): links, addresses and routes of both families.
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// `NFNLGRP_NFTABLES`
const NFTABLES: u32 = 7;

/// Something moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// What.
    pub what: What,
    /// By ourselves, as far as the kernel says. What follows from our doing (a link that gets its carrier, a pair that
    /// vanishes after its sandbox) counts as others'.
    pub by_us: bool,
}

/// What moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A link came, changed or went.
    Link {
        /// Its name.
        name: IfName,
        /// It bears one of our marks.
        ours: bool,
        /// It is gone.
        gone: bool,
    },
    /// An address came or went.
    Address,
    /// A route came or went.
    Route {
        /// It bears our mark.
        ours: bool,
    },
    /// The ruleset changed.
    Firewall,
    /// More happened than the socket could hold, so anything may have moved.
    Lost,
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
                        moved.push(Moved { what: What::Lost, by_us: false });
                    }
                    Err(refused) => return Err(fault(refused)),
                }
            }
        }
        moved.dedup();
        Ok(moved)
    }

    fn read(&self, message: &Message) -> Option<Moved> {
        if message.kind & 0xff00 == SUBSYSTEM {
            // Every transaction ends with one notice of the new generation; the others tell its details.
            (message.kind & 0xff == u16::from(NEWGEN)).then_some(())?;
            let by = Attrs(message.body.get(4..)?).be32(generation::PID);
            let by_us = by == Some(std::process::id()) || self.ours.contains(&message.port);
            return Some(Moved { what: What::Firewall, by_us });
        }
        let what = match rtnetlink::parse(message.kind, &message.body) {
            Ok(Notice::NewLink(link)) => of_link(&link, false)?,
            Ok(Notice::DelLink(link)) => of_link(&link, true)?,
            Ok(Notice::NewAddress(_) | Notice::DelAddress(_)) => What::Address,
            Ok(Notice::NewRoute(route) | Notice::DelRoute(route)) => {
                What::Route { ours: route.header.protocol == RouteProtocol::Other(marks::ROUTE_PROTOCOL) }
            }
            Ok(_) => return None,
            // A notice that cannot be understood may be about anything.
            Err(_) => What::Lost,
        };
        Some(Moved { what, by_us: self.ours.contains(&message.port) })
    }
}

fn listening(socket: io::Result<Socket>, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = socket?;
    for group in groups {
        socket.join(*group)?;
    }
    Ok(socket)
}

fn of_link(message: &LinkMessage, gone: bool) -> Option<What> {
    let mut name = None;
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text.parse().ok(),
            LinkAttribute::Group(group) => ours |= *group == marks::LINK_GROUP,
            LinkAttribute::IfAlias(alias) => ours |= alias.starts_with(marks::ALIAS),
            _ => {}
        }
    }
    Some(What::Link { name: name?, ours, gone })
}
