//! The sockets by which a sandbox's containers ask the engine's resolver, and their way to it.

use plan::ids::SandboxId;
use plan::stub;
use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, UdpSocket};

/// The resolver's sockets in one sandbox, which never block. They hold its namespace while they are open.
#[derive(Debug)]
pub struct Listeners {
    /// Datagrams.
    pub udp: UdpSocket,
    /// Connections.
    pub tcp: TcpListener,
}

impl Listeners {
    /// In the calling thread's namespace, whose loopback is up.
    pub(crate) fn open() -> io::Result<Listeners> {
        let udp = UdpSocket::bind((stub::ADDR, stub::PORT))?;
        udp.set_nonblocking(true)?;
        // With SO_REUSEADDR, so that connections of an engine that is gone are in nobody's way.
        let tcp = TcpListener::bind((stub::ADDR, stub::PORT))?;
        tcp.set_nonblocking(true)?;
        Ok(Listeners { udp, tcp })
    }
}

/// What the resolver is told.
#[derive(Debug)]
pub enum Door {
    /// Containers of this sandbox ask here from now on.
    Opened(SandboxId, Listeners),
    /// The sandbox goes: nothing may hold its namespace any longer.
    Closed(SandboxId),
}

/// Where the sockets go.
pub(crate) enum Doors {
    /// Nobody has asked for them yet.
    Kept(BTreeMap<SandboxId, Listeners>),
    /// To the resolver.
    HandedOver(Box<dyn FnMut(Door) + Send>),
}

impl Doors {
    pub fn take(&mut self, door: Door) {
        match (self, door) {
            (Doors::HandedOver(to), door) => to(door),
            (Doors::Kept(kept), Door::Opened(id, listeners)) => {
                kept.insert(id, listeners);
            }
            (Doors::Kept(kept), Door::Closed(id)) => {
                kept.remove(&id);
            }
        }
    }
}
