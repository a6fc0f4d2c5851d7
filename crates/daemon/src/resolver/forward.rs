//! Questions to other servers: each over a socket of its own, so that its port is one that nobody can guess, and under a number
//! that nobody can guess either. An answer must come from the server, under that number, and repeat the question.

use super::log::By;
use super::slots::Id;
use super::thread::{Thread, Token};
use plan::dns::cache::Cache;
use plan::dns::race::{Health, Heard, MS, Next, Race, Turn};
use plan::dns::wire::{self, Age, Query, Rcode, Records, Seen};
use plan::names::Server;
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use tracing::{debug, info, warn};

/// Where servers listen.
const PORT: u16 = 53;
/// Of one sandbox, so many questions may wait for others' answers.
const MOST: usize = 256;
/// So many of each sandbox even when all sandboxes together have as many as there may be.
const FEW: usize = 8;
/// Questions whose answers nobody waits for any more, but that tell how a server does.
const ORPHANS: usize = 64;
/// For how long.
const ORPHANED: u64 = 1000 * MS;
/// So many messages that are no answer, and a socket is given up.
const STRAYS: u32 = 16;
/// How long a whole answer over TCP may take.
const TCP: u64 = 2000 * MS;
/// Bytes of answers that are kept of a container's own servers.
const CACHE: usize = 1 << 20;
/// The same of the host's servers, for all who ask them.
const CACHE_OF_HOST: usize = 8 << 20;
/// So many servers of a list are asked.
const SERVERS: usize = 8;

/// So many questions of all sandboxes may wait: a quarter of the descriptors that this process may have.
pub(super) fn most_flights() -> usize {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    most.and_then(|most| usize::try_from(most / 4).ok()).unwrap_or(4096).clamp(64, 4096)
}

/// Servers that are asked from one place, and what is known of them.
pub(super) struct Upstreams {
    servers: Vec<SocketAddr>,
    health: RefCell<Vec<Health>>,
    /// Never shared between namespaces: who rules over one can answer for every server that is asked from there.
    cache: RefCell<Cache>,
    /// From which namespace; `None` is the host's.
    pub namespace: Option<OwnedFd>,
    /// The questions that are on their way, so that nobody asks the same.
    pub flights: RefCell<HashMap<Box<[u8]>, Id>>,
}

impl Upstreams {
    pub fn new(servers: &[Server], namespace: Option<OwnedFd>) -> Upstreams {
        let cache = RefCell::new(Cache::new(if namespace.is_some() { CACHE } else { CACHE_OF_HOST }));
        let servers: Vec<SocketAddr> = servers.iter().filter_map(socket_addr).take(SERVERS).collect();
        let health = RefCell::new(vec![Health::default(); servers.len()]);
        Upstreams { servers, health, cache, namespace, flights: RefCell::default() }
    }

    fn turned(&self, server: usize, turn: Option<Turn>) {
        let addr = &self.servers[server];
        let of = if self.namespace.is_some() { "a container's" } else { "the host's" };
        match turn {
            Some(Turn::Dead) => warn!(server = %addr.ip(), of, "a name server does not answer; others are asked first"),
            Some(Turn::Alive) => info!(server = %addr.ip(), of, "a name server answers again"),
            None => {}
        }
    }
}

/// `None`: the resolver's own address, which would ask in circles, or a link that is not there.
fn socket_addr(server: &Server) -> Option<SocketAddr> {
    match (server.addr, &server.zone) {
        (IpAddr::V4(addr), _) if addr == plan::stub::ADDR => None,
        (IpAddr::V6(addr), Some(zone)) => {
            // Any socket will do to ask with.
            let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
            let index = rustix::net::netdevice::name_to_index(&socket, zone).ok()?;
            Some(SocketAddrV6::new(addr, PORT, 0, index).into())
        }
        (addr, _) => Some((addr, PORT).into()),
    }
}

/// How a question came, and how its answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Via {
    Datagram(SocketAddr),
    Stream(Id),
}

impl Via {
    /// The longest answer.
    pub fn limit(self, query: &Query) -> usize {
        match self {
            Via::Datagram(_) => query.datagram_limit(),
            Via::Stream(_) => wire::TCP_LIMIT,
        }
    }
}

/// Who waits for an answer.
struct Waiter {
    door: Id,
    via: Via,
    query: Query,
    spelt: Box<[u8]>,
    /// When it asked.
    since: u64,
}

/// A question on its way.
pub(super) struct Flight {
    upstreams: Rc<Upstreams>,
    key: Box<[u8]>,
    query: Query,
    spelt: Box<[u8]>,
    waiters: Vec<Waiter>,
    race: Race,
    /// What servers said so far.
    said: Vec<(usize, Box<[u8]>, Seen)>,
    asks: Vec<Id>,
    /// When it is called again; there may be later calls, which are for nothing.
    called_at: u64,
}

/// A question to one server.
pub(super) struct Ask {
    pub upstreams: Rc<Upstreams>,
    server: usize,
    /// `None`: nobody waits for it any more.
    flight: Option<Id>,
    query: Query,
    id: u16,
    sent: u64,
    missed: bool,
    strays: u32,
    socket: OwnedFd,
    over: Over,
}

enum Over {
    Udp,
    Tcp {
        /// What is to be sent yet.
        output: Vec<u8>,
        input: Vec<u8>,
        /// What the server said by datagram, cut off.
        cut: Box<[u8]>,
        seen: Seen,
    },
}

/// What we lack, which says nothing of a server.
fn is_ours(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN)
}

/// Numbers that nobody can guess.
pub(super) struct Randoms {
    pool: [u8; 512],
    at: usize,
}

impl Default for Randoms {
    fn default() -> Self {
        Randoms { pool: [0; 512], at: 512 }
    }
}

impl Randoms {
    fn next(&mut self) -> rustix::io::Result<u16> {
        if self.at >= self.pool.len() {
            // As many bytes at once are never cut short (getrandom(2) promises 256).
            for half in self.pool.chunks_mut(256) {
                rustix::rand::getrandom(half, rustix::rand::GetRandomFlags::empty())?;
            }
            self.at = 0;
        }
        self.at += 2;
        Ok(u16::from_ne_bytes([self.pool[self.at - 2], self.pool[self.at - 1]]))
    }
}

impl Thread {
    /// Asks others. Does `out` hold the answer? If not, it comes later.
    pub fn forward(&mut self, id: Id, query: wire::Query, packet: &[u8], via: Via) -> bool {
        let (now, seconds) = (self.now, self.seconds());
        let limit = via.limit(&query);
        let Some(door) = self.doors.get_mut(id) else { return false };
        let fail = |this: &mut Thread, rcode, by| {
            wire::answer(&query, packet, rcode, Records::None, 0, limit, &mut this.out);
            this.noted(id, &query, by);
            true
        };
        let Some(upstreams) = door.upstreams.clone().filter(|upstreams| !upstreams.servers.is_empty()) else {
            return fail(self, Rcode::SERVER_FAILURE, By::Nobody);
        };
        let key = query.key();
        let spelt = query.spelt(packet);
        if let Some((answer, ttls, age)) = upstreams.cache.borrow_mut().get(key.as_ref(), seconds) {
            wire::relay(&query, spelt, answer, ttls, age, limit, &mut self.out);
            self.noted(id, &query, By::Kept);
            return true;
        }
        let crowded = self.flights.len() >= self.most_flights && door.waiting >= FEW;
        if door.waiting >= MOST || crowded {
            debug!("a container has too many questions on their way");
            return fail(self, Rcode::REFUSED, By::TooMany);
        }
        door.waiting += 1;
        if let Via::Stream(connection) = via {
            self.count_waiting(connection, true);
        }
        let waiter = Waiter { door: id, via, query, spelt: spelt.into(), since: now };
        let known = upstreams.flights.borrow().get(key.as_ref()).copied();
        if let Some(flight) = known.and_then(|flight| self.flights.get_mut(flight)) {
            flight.waiters.push(waiter);
            return false;
        }
        let race = Race::new(&upstreams.health.borrow(), now);
        let key: Box<[u8]> = key.as_ref().into();
        let flight = self.flights.add(Flight {
            upstreams: upstreams.clone(),
            key: key.clone(),
            query,
            spelt: spelt.into(),
            waiters: vec![waiter],
            race,
            said: Vec::new(),
            asks: Vec::new(),
            called_at: u64::MAX,
        });
        upstreams.flights.borrow_mut().insert(key, flight);
        self.try_the_dead(&upstreams, query, spelt);
        self.advance(flight);
        false
    }

    /// A server that is believed dead is asked now and then too, to see whether it is.
    fn try_the_dead(&mut self, upstreams: &Rc<Upstreams>, query: Query, spelt: &[u8]) {
        let now = self.now;
        let all_dead = upstreams.health.borrow().iter().all(Health::is_dead);
        if all_dead || self.orphans >= ORPHANS {
            return;
        }
        let due = upstreams.health.borrow_mut().iter_mut().position(|health| health.is_to_be_tried(now));
        if let Some(server) = due {
            // Where nobody is, nobody is.
            let _ = self.ask(upstreams, server, None, query, spelt);
        }
    }

    /// Does for a question on its way what is to be done.
    pub fn advance(&mut self, id: Id) {
        let now = self.now;
        loop {
            let Some(flight) = self.flights.get_mut(id) else { return };
            let upstreams = flight.upstreams.clone();
            let next = flight.race.next(&upstreams.health.borrow(), now);
            match next {
                Next::Wait(until) => {
                    if until < flight.called_at || flight.called_at <= now {
                        flight.called_at = until;
                        self.at(until, Token::Flight(id));
                    }
                    return;
                }
                Next::Ask(server) => {
                    let (query, spelt) = (flight.query, flight.spelt.clone());
                    match self.ask(&upstreams, server, Some(id), query, &spelt) {
                        Ok(ask) => {
                            if let Some(flight) = self.flights.get_mut(id) {
                                flight.asks.push(ask);
                            }
                        }
                        Err(errno) => {
                            debug!(%errno, server = %upstreams.servers[server], "a name server cannot be asked");
                            if !is_ours(errno) {
                                let turn = upstreams.health.borrow_mut()[server].unreachable(now);
                                upstreams.turned(server, turn);
                            }
                            if let Some(flight) = self.flights.get_mut(id) {
                                flight.race.gone(server, now);
                            }
                        }
                    }
                }
                Next::Take(server) => return self.land(id, Some(server)),
                Next::GiveUp => return self.land(id, None),
            }
        }
    }

    fn ask(
        &mut self,
        upstreams: &Rc<Upstreams>,
        server: usize,
        flight: Option<Id>,
        query: Query,
        spelt: &[u8],
    ) -> rustix::io::Result<Id> {
        let id = self.randoms.next()?;
        let mut out = std::mem::take(&mut self.out);
        wire::ask(&query, spelt, id, &mut out);
        let socket = self.socket(upstreams, server, SocketType::DGRAM);
        let sent = socket.and_then(|socket| rustix::net::send(&socket, &out, SendFlags::empty()).map(|_| socket));
        self.out = out;
        let socket = sent?;
        let (sent, over) = (self.now, Over::Udp);
        let patience = upstreams.health.borrow()[server].patience();
        let upstreams = upstreams.clone();
        let (missed, strays) = (false, 0);
        let ask = self.asks.add(Ask { upstreams, server, flight, query, id, sent, missed, strays, socket, over });
        self.orphans += usize::from(flight.is_none());
        let watched = self.asks.get(ask).map_or(Ok(()), |it| self.watch(&it.socket, Token::Ask(ask), EventFlags::IN));
        if let Err(errno) = watched {
            self.drop_ask(ask);
            return Err(errno);
        }
        self.at(sent + patience, Token::Ask(ask));
        Ok(ask)
    }

    /// A socket towards a server, made in the namespace from which it is asked.
    fn socket(&self, upstreams: &Upstreams, server: usize, kind: SocketType) -> rustix::io::Result<OwnedFd> {
        let addr = upstreams.servers[server];
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let make = || rustix::net::socket_with(family, kind, flags, None);
        let socket = match &upstreams.namespace {
            None => make()?,
            Some(namespace) => self
                .excursion
                .within(namespace.as_fd(), || Ok(make()?))
                .map_err(|err| Errno::from_io_error(&err).unwrap_or(Errno::IO))?,
        };
        match rustix::net::connect(&socket, &addr) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(errno) => Err(errno),
        }
    }

    /// A server's socket has something to tell.
    pub fn heard(&mut self, id: Id, flags: EventFlags) {
        let mut packet = std::mem::take(&mut self.packet);
        match self.asks.get(id).map(|ask| &ask.over) {
            Some(Over::Udp) => self.heard_datagrams(id, &mut packet),
            Some(Over::Tcp { .. }) => self.heard_stream(id, flags, &mut packet),
            None => {}
        }
        self.packet = packet;
    }

    fn heard_datagrams(&mut self, id: Id, packet: &mut [u8]) {
        let now = self.now;
        while let Some(ask) = self.asks.get_mut(id) {
            let (server, flight, upstreams) = (ask.server, ask.flight, ask.upstreams.clone());
            let len = match rustix::net::recv(&ask.socket, &mut *packet, RecvFlags::empty()) {
                Ok((len, _)) => len,
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => {
                    // The host is there and no server, or nobody knows the way.
                    let turn = upstreams.health.borrow_mut()[server].unreachable(now);
                    upstreams.turned(server, turn);
                    self.drop_ask(id);
                    return self.gone(flight, server);
                }
            };
            let packet = &packet[..len];
            let seen = (wire::id(packet) == Some(ask.id)).then(|| wire::look(packet, &ask.query)).flatten();
            let Some(seen) = seen else {
                // Somebody guesses, or the server writes what cannot be read.
                ask.strays += 1;
                if ask.strays < STRAYS {
                    continue;
                }
                self.drop_ask(id);
                return self.gone(flight, server);
            };
            let turn = upstreams.health.borrow_mut()[server].answered(now.saturating_sub(ask.sent), now);
            upstreams.turned(server, turn);
            if seen.truncated && flight.is_some() {
                return self.ask_for_all(id, packet.into(), seen);
            }
            self.drop_ask(id);
            return self.said(flight, server, packet.into(), seen);
        }
    }

    /// Asks the same over TCP, for not all of the answer fitted.
    fn ask_for_all(&mut self, id: Id, cut: Box<[u8]>, seen: Seen) {
        let Some(Ask { upstreams, server, flight, query, .. }) = self.drop_ask(id) else { return };
        let spelt = flight.and_then(|flight| self.flights.get(flight)).map(|flight| flight.spelt.clone());
        let (Some(spelt), Ok(number)) = (spelt, self.randoms.next()) else { return };
        let mut message = Vec::new();
        wire::ask(&query, &spelt, number, &mut message);
        let mut output = (message.len() as u16).to_be_bytes().to_vec();
        output.extend(message);
        let Ok(socket) = self.socket(&upstreams, server, SocketType::STREAM) else {
            return self.said(flight, server, cut, seen);
        };
        let over = Over::Tcp { output, input: Vec::new(), cut, seen };
        let (sent, strays) = (self.now, 0);
        // The datagram has told how the server does.
        let ask = Ask { upstreams, server, flight, query, id: number, sent, missed: true, strays, socket, over };
        let id = self.asks.add(ask);
        let watched = self
            .asks
            .get(id)
            .map_or(Ok(()), |ask| self.watch(&ask.socket, Token::Ask(id), EventFlags::IN | EventFlags::OUT));
        if watched.is_err() {
            return self.make_do(id);
        }
        if let Some(flight) = flight.and_then(|flight| self.flights.get_mut(flight)) {
            flight.asks.push(id);
        }
        self.at(self.now + TCP, Token::Ask(id));
    }

    fn heard_stream(&mut self, id: Id, flags: EventFlags, packet: &mut [u8]) {
        let Some(Ask { socket, over: Over::Tcp { output, input, .. }, id: number, query, .. }) = self.asks.get_mut(id)
        else {
            return;
        };
        if flags.contains(EventFlags::OUT) && !output.is_empty() {
            match rustix::net::send(&*socket, output, SendFlags::NOSIGNAL) {
                Ok(count) => drop(output.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => return self.make_do(id),
            }
            if output.is_empty() {
                let only_in =
                    self.asks.get(id).map_or(Ok(()), |ask| self.watch_for(&ask.socket, Token::Ask(id), EventFlags::IN));
                if only_in.is_err() {
                    self.make_do(id);
                }
            }
            return;
        }
        match rustix::net::recv(&*socket, &mut *packet, RecvFlags::empty()) {
            Ok((0, _)) => return self.make_do(id),
            Ok((count, _)) => input.extend(&packet[..count]),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => return self.make_do(id),
        }
        let Some((len, rest)) = input.split_first_chunk::<2>() else { return };
        let Some(message) = rest.get(..usize::from(u16::from_be_bytes(*len))) else { return };
        let seen = (wire::id(message) == Some(*number)).then(|| wire::look(message, query)).flatten();
        let Some(seen) = seen.filter(|seen| !seen.truncated) else { return self.make_do(id) };
        let message: Box<[u8]> = message.into();
        let Some(Ask { server, flight, .. }) = self.drop_ask(id) else { return };
        self.said(flight, server, message, seen);
    }

    /// The whole answer is not to be had: the part must do.
    fn make_do(&mut self, id: Id) {
        if let Some(Ask { server, flight, over: Over::Tcp { cut, seen, .. }, .. }) = self.drop_ask(id) {
            self.said(flight, server, cut, seen);
        }
    }

    fn said(&mut self, flight: Option<Id>, server: usize, message: Box<[u8]>, seen: Seen) {
        let now = self.now;
        let Some((id, flight)) = flight.and_then(|id| Some((id, self.flights.get_mut(id)?))) else { return };
        let what = match seen.rcode {
            Rcode::NO_ERROR if seen.has_answers || seen.truncated => Heard::Records,
            Rcode::NO_ERROR | Rcode::NO_SUCH_NAME => Heard::Nothing,
            _ => Heard::Failure,
        };
        flight.said.push((server, message, seen));
        flight.race.heard(server, what, now);
        self.advance(id);
    }

    fn gone(&mut self, flight: Option<Id>, server: usize) {
        let now = self.now;
        let Some((id, flight)) = flight.and_then(|id| Some((id, self.flights.get_mut(id)?))) else { return };
        flight.race.gone(server, now);
        self.advance(id);
    }

    /// A server has had time enough for a question.
    pub fn time_is_over(&mut self, id: Id) {
        let now = self.now;
        let Some(ask) = self.asks.get_mut(id) else { return };
        if matches!(ask.over, Over::Tcp { .. }) {
            return self.make_do(id);
        }
        let (server, flight, upstreams) = (ask.server, ask.flight, ask.upstreams.clone());
        if ask.missed {
            if flight.is_none() {
                self.drop_ask(id);
            }
            return;
        }
        ask.missed = true;
        let sent = ask.sent;
        let turn = upstreams.health.borrow_mut()[server].missed(sent, now);
        upstreams.turned(server, turn);
        // Should nobody wait for it by then, that is its end.
        self.at(sent + ORPHANED.max(now - sent + 1), Token::Ask(id));
        if let Some((id, flight)) = flight.and_then(|id| Some((id, self.flights.get_mut(id)?))) {
            flight.race.missed(server);
            self.advance(id);
        }
    }

    /// A question has its answer, the one of this server, or gets none.
    fn land(&mut self, id: Id, server: Option<usize>) {
        let Some(flight) = self.flights.remove(id) else { return };
        let seconds = self.seconds();
        flight.upstreams.flights.borrow_mut().remove(&flight.key);
        for ask in &flight.asks {
            self.orphan(*ask);
        }
        let answer = server.and_then(|server| flight.said.iter().rfind(|(of, ..)| *of == server));
        let mut cache = flight.upstreams.cache.borrow_mut();
        if let Some((_, message, Seen { ttls, lifetime: Some(lifetime), .. })) = answer {
            cache.put(&flight.key, message, ttls, *lifetime, seconds);
        }
        let failed = answer.is_none_or(|(_, _, seen)| seen.rcode == Rcode::SERVER_FAILURE);
        let stale = if failed { cache.get_stale(&flight.key, seconds) } else { None };
        let fresh = answer.map(|(_, message, seen)| (message.as_ref(), seen.ttls.as_slice(), Age::Seconds(0)));
        let by = match (stale.is_some(), answer) {
            (true, _) => By::Stale,
            (false, Some((server, ..))) => By::Server(flight.upstreams.servers[*server]),
            (false, None) => By::Nobody,
        };
        let best = stale.or(fresh);
        let mut out = std::mem::take(&mut self.out);
        for waiter in &flight.waiters {
            let Waiter { query, spelt, via, .. } = waiter;
            let limit = via.limit(query);
            match best {
                Some((message, ttls, age)) => wire::relay(query, spelt, message, ttls, age, limit, &mut out),
                None => wire::failure(query, spelt, &mut out),
            }
            self.deliver(waiter, &out);
            self.note(waiter.door, query, &out, by.clone(), waiter.since);
        }
        self.out = out;
    }

    fn deliver(&mut self, waiter: &Waiter, message: &[u8]) {
        if let Some(door) = self.doors.get_mut(waiter.door) {
            door.waiting -= 1;
            if let (Via::Datagram(to), Some(listeners)) = (waiter.via, &door.listeners) {
                // An asker that is gone, or that does not read, gets none.
                let _ = listeners.udp.send_to(message, to);
            }
        }
        if let Via::Stream(connection) = waiter.via {
            self.count_waiting(connection, false);
            self.push(connection, message);
            self.flush(connection);
        }
    }

    /// Nobody waits for it any more; it may yet tell how the server does.
    fn orphan(&mut self, id: Id) {
        let Some(ask) = self.asks.get_mut(id) else { return };
        ask.flight = None;
        let of_use = matches!(ask.over, Over::Udp) && !ask.missed && self.orphans < ORPHANS;
        self.orphans += 1;
        if !of_use {
            self.drop_ask(id);
        }
    }

    pub fn drop_ask(&mut self, id: Id) -> Option<Ask> {
        let ask = self.asks.remove(id)?;
        self.orphans -= usize::from(ask.flight.is_none());
        Some(ask)
    }

    /// Its asker's sandbox goes.
    pub fn drop_flight(&mut self, id: Id) {
        let Some(flight) = self.flights.remove(id) else { return };
        flight.upstreams.flights.borrow_mut().remove(&flight.key);
        for ask in flight.asks {
            self.drop_ask(ask);
        }
        for waiter in flight.waiters {
            if let Some(door) = self.doors.get_mut(waiter.door) {
                door.waiting -= 1;
            }
            if let Via::Stream(connection) = waiter.via {
                self.count_waiting(connection, false);
            }
        }
    }
}
