//! Relays what the kernel cannot forward to a container: one for the whole engine, a task for each connection, no thread and
//! no process.
//!
//! With a firewall it listens on one port of the host, to which the firewall sends what is meant for a published port by IPv6
//! where only this leads on (`plan::relay`). Whom it was for is what connection tracking remembers, and who gets it is
//! looked up in the facts for each connection; so ports come and go without a socket being opened or closed. Without a
//! firewall it listens on the sockets of the published ports themselves ([`Relay::listen`]).
//!
//! The container sees the host's address on its bridge as the client's. What is published no longer is cut.

/// Connections.
mod tcp;
/// Datagrams, by sessions.
mod udp;

use kernel::conntrack::Tracked;
use plan::relay::target;
use plan::world::{Proto, World};
use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tracing::{info, warn};

/// Connections at once, and sessions of datagrams at once, where the limit of open files allows.
const MOST: usize = 4096;
/// Above the ports that Linux gives to programs that do not care (`net.ipv4.ip_local_port_range`), where few publish any.
const PREFERRED: std::ops::RangeInclusive<u16> = 65_000..=65_535;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long the end of a listening is waited for.
const CLOSING: std::time::Duration = std::time::Duration::from_millis(200);
/// Bytes of datagrams that may wait; the kernel's own default (`net.core.rmem_default`).
const DATAGRAM_BUFFER: usize = 212_992;

/// The relay. Clones share it.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
    runtime: Handle,
}

/// A socket that is listened on until this is dropped. Connections that were accepted live on.
#[derive(Debug)]
pub struct Listening(AbortHandle);

impl Listening {
    /// Ends the listening, and comes back when the socket is closed, so that the port is free then.
    pub fn close(self) {
        self.0.abort();
        let started = std::time::Instant::now();
        // The runtime takes some microseconds; should it be stuck, the port is found taken, and that is all.
        while !self.0.is_finished() && started.elapsed() < CLOSING {
            std::thread::sleep(std::time::Duration::from_micros(50));
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    world: Arc<RwLock<World>>,
    /// Where the firewall sends what was for somewhere else; 0 is nowhere.
    port: AtomicU16,
    /// Opened when first needed: without a firewall nothing is translated.
    tracked: Mutex<Option<Tracked>>,
    /// Told when ports went that somebody may be connected to.
    changed: watch::Sender<()>,
    connections: Arc<Semaphore>,
    sessions: Arc<Semaphore>,
}

impl Relay {
    /// A relay that listens nowhere yet, by these facts. To be called on the engine's runtime.
    pub fn new(world: Arc<RwLock<World>>) -> Relay {
        let files = getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok());
        // Two descriptors a connection, and half of all for everything else.
        let room = files.map_or(MOST, |files| (files / 8).min(MOST));
        let shared = Shared {
            world,
            port: AtomicU16::new(0),
            tracked: Mutex::default(),
            changed: watch::Sender::new(()),
            connections: Arc::new(Semaphore::new(room)),
            sessions: Arc::new(Semaphore::new(room)),
        };
        Relay { shared: Arc::new(shared), runtime: Handle::current() }
    }

    /// Listens for what the firewall sends, if possible on the port of before. Answers the port; `None` where the host has no
    /// IPv6.
    pub fn open(&self, before: Option<u16>) -> Option<(u16, [Listening; 2])> {
        // As long as ::1 is not there, nobody could reach a port by IPv6.
        UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).ok()?;
        for port in before.into_iter().chain(PREFERRED.rev()) {
            let addr = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let bound = |proto| crate::held_ports::bind_one(proto, addr).ok().flatten();
            let Some((tcp, udp)) = bound(Proto::Tcp).zip(bound(Proto::Udp)) else { continue };
            self.shared.port.store(port, Ordering::Relaxed);
            let listening = self.listen(Proto::Tcp, tcp);
            let listening = listening.and_then(|tcp| Ok([tcp, self.listen(Proto::Udp, udp)?]));
            match listening {
                Ok(listening) => {
                    info!(port, "relaying from IPv6 to containers without it");
                    return Some((port, listening));
                }
                Err(error) => warn!(port, %error, "cannot listen for what is to be relayed"),
            }
        }
        self.shared.port.store(0, Ordering::Relaxed);
        warn!("no port is free for the relay: ports are not published by IPv6 of containers without it");
        None
    }

    /// Relays what comes to a bound socket of TCP or UDP, by its own address: it is a published port's.
    ///
    /// # Errors
    /// The kernel's; a protocol that is not relayed.
    pub fn listen(&self, proto: Proto, socket: OwnedFd) -> io::Result<Listening> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let _entered = self.runtime.enter();
        let task = match proto {
            Proto::Tcp => {
                // What is left of connections of one engine is in no way of the next.
                sockopt::set_socket_reuseaddr(&socket, true)?;
                rustix::net::listen(&socket, BACKLOG)?;
                let listener = tokio::net::TcpListener::from_std(TcpListener::from(socket))?;
                self.runtime.spawn(tcp::serve(self.shared.clone(), listener))
            }
            Proto::Udp => {
                sockopt::set_socket_recv_buffer_size(&socket, DATAGRAM_BUFFER)?;
                let socket = tokio::net::UdpSocket::from_std(UdpSocket::from(socket))?;
                self.runtime.spawn(udp::serve(self.shared.clone(), socket)?)
            }
            Proto::Sctp => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Listening(task.abort_handle()))
    }

    /// To be told after ports went: who is connected to one is cut.
    pub fn ports_went(&self) {
        self.shared.changed.send_replace(());
    }
}

impl Shared {
    /// Did the firewall send here what came to this address of ours?
    fn sent_here(&self, addr: SocketAddr) -> bool {
        addr.is_ipv6() && addr.port() == self.port.load(Ordering::Relaxed)
    }

    /// Who gets it.
    fn target(&self, proto: Proto, to: SocketAddr) -> Option<SocketAddr> {
        target(&self.world.read().unwrap_or_else(PoisonError::into_inner), proto, to)
    }

    /// Waits until whatever is meant for `to` no longer belongs to `target`.
    async fn withdrawn(&self, proto: Proto, to: SocketAddr, target: SocketAddr) {
        let mut changed = self.changed.subscribe();
        // It may have gone between the choice of the target and this subscription.
        while self.target(proto, to) == Some(target) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whom a datagram was for before it was translated.
    fn original(&self, from: SocketAddr, here: SocketAddr) -> Option<SocketAddr> {
        let mut tracked = self.tracked.lock().unwrap_or_else(PoisonError::into_inner);
        if tracked.is_none() {
            match Tracked::open() {
                Ok(opened) => *tracked = Some(opened),
                Err(error) => warn!(%error, "datagrams cannot be relayed"),
            }
        }
        let found = tracked.as_mut()?.original(Proto::Udp.number(), from, here);
        found.unwrap_or_else(|errno| {
            warn!(%from, %errno, "a datagram cannot be relayed");
            None
        })
    }
}

/// The other end hears that something went wrong, instead of a regular end.
fn reset(socket: impl AsFd) {
    // A connection that is broken already needs none.
    let _ = sockopt::set_socket_linger(&socket, Some(std::time::Duration::ZERO));
}

#[cfg(test)]
mod tests;
