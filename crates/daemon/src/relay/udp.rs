use super::Shared;
use kernel::datagram::{Arrived, Datagrams};
use plan::world::Proto;
use rustix::net::SendFlags;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;
use tracing::{debug, warn};

/// A session ends that was silent for so long: as long as connection tracking remembers flows without and with answers
/// (`net.netfilter.nf_conntrack_udp_timeout`, `…_stream`).
const UNANSWERED: Duration = Duration::from_secs(30);
const ANSWERED: Duration = Duration::from_secs(120);
/// The longest datagram, and more.
const LONGEST: usize = 64 << 10;

thread_local! {
    /// One buffer for all sessions of a thread: one that waits holds none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; LONGEST].into_boxed_slice());
}

/// A client and the address of the host that it talks to, on one socket.
type Key = (SocketAddr, SocketAddr);

struct Listener {
    shared: Arc<Shared>,
    datagrams: Datagrams<UdpSocket>,
    sessions: Mutex<HashMap<Key, Arc<Session>>>,
}

struct Session {
    /// Connected to the container.
    socket: UdpSocket,
    heard: Mutex<Instant>,
    answered: AtomicBool,
    _permit: OwnedSemaphorePermit,
}

/// Relays datagrams that come to a socket, and their answers.
pub fn serve(shared: Arc<Shared>, socket: UdpSocket) -> io::Result<impl Future<Output = ()>> {
    let sessions = Mutex::default();
    let listener = Arc::new(Listener { shared, datagrams: Datagrams::of(socket)?, sessions });
    Ok(async move {
        let mut buffer = vec![0; LONGEST];
        loop {
            consume_budget().await;
            match listener.receive(&mut buffer).await {
                Ok(arrived) => listener.take(arrived, &buffer[..arrived.len.min(LONGEST)]),
                // An ICMP error that came for an answer of ours.
                Err(error) => debug!(%error, "a datagram cannot be received"),
            }
        }
    })
}

impl Listener {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrived> {
        self.datagrams.socket().async_io(Interest::READABLE, || self.datagrams.receive(buffer)).await
    }

    fn take(self: &Arc<Self>, arrived: Arrived, bytes: &[u8]) {
        let key = (arrived.from, arrived.to);
        let known = self.sessions().get(&key).cloned();
        let session = match known.map_or_else(|| self.begin(key), |session| Ok(Some(session))) {
            Ok(Some(session)) => session,
            // Nobody publishes it, or there is no room: a datagram may always be lost.
            Ok(None) => return,
            Err(error) => return warn!(from = %arrived.from, %error, "a datagram cannot be relayed"),
        };
        *session.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        // Not by tokio, which does not know yet of a new socket that it can be written to.
        if let Err(error) = rustix::net::send(&session.socket, bytes, SendFlags::DONTWAIT) {
            // A full buffer, or the container's refusal of an earlier one.
            debug!(from = %arrived.from, %error, "a datagram is lost");
        }
    }

    fn begin(self: &Arc<Self>, key: Key) -> io::Result<Option<Arc<Session>>> {
        let (from, here) = key;
        let to = if self.shared.sent_here(here) { self.shared.original(from, here) } else { Some(here) };
        let Some((to, target)) = to.and_then(|to| Some((to, self.shared.target(Proto::Udp, to)?))) else {
            return Ok(None);
        };
        let Ok(permit) = self.shared.sessions.clone().try_acquire_owned() else {
            debug!(%from, "too many clients send datagrams that are to be relayed");
            return Ok(None);
        };
        let any = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = std::net::UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(target)?;
        let socket = UdpSocket::from_std(socket)?;
        let (heard, answered) = (Mutex::new(Instant::now()), AtomicBool::new(false));
        let session = Arc::new(Session { socket, heard, answered, _permit: permit });
        self.sessions().insert(key, session.clone());
        let listener = Arc::downgrade(self);
        let (shared, follow) = (self.shared.clone(), session.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = answers(&listener, &follow, key) => {}
                () = follow.silence() => {}
                () = shared.withdrawn(Proto::Udp, to, target) => {}
            }
            if let Some(listener) = listener.upgrade() {
                listener.sessions().remove(&key);
            }
        });
        Ok(Some(session))
    }

    fn sessions(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Until neither end has said anything for long enough.
    async fn silence(&self) {
        loop {
            let patience = if self.answered.load(Ordering::Relaxed) { ANSWERED } else { UNANSWERED };
            let end = *self.heard.lock().unwrap_or_else(PoisonError::into_inner) + patience;
            if end <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// Takes the container's answers back to the client; ends if that is no longer possible.
async fn answers(listener: &Weak<Listener>, session: &Session, (client, here): Key) {
    loop {
        consume_budget().await;
        if let Err(error) = session.socket.readable().await {
            return debug!(%client, %error, "a relayed session broke");
        }
        let Some(listener) = listener.upgrade() else { return };
        let passed = SCRATCH.with_borrow_mut(|scratch| {
            let count = session.socket.try_recv(scratch)?;
            listener.datagrams.send(&scratch[..count], here, client)
        });
        match passed {
            Ok(()) => {
                *session.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                session.answered.store(true, Ordering::Relaxed);
            }
            // Nothing to read, a full buffer, or nobody listens in the container at the moment.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionRefused) => {}
            Err(error) => return debug!(%client, %error, "a relayed session broke"),
        }
    }
}
