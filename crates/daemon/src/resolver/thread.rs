//! The thread: what wakes it, and what it is told.

use super::connections::Connection;
use super::doors::Door;
use super::forward::{Ask, Flight, Randoms, Upstreams};
use super::log::Listener;
use super::slots::{Id, Slots};
use super::{Note, Servers};
use crate::error::{Doing, Result};
use kernel::Excursion;
use kernel::batch::{Arrivals, Departures};
use plan::dns::book::Book;
use plan::ids::SandboxId;
use plan::names::Server;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;
use tracing::{error, warn};

/// What an event or a timer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Token {
    /// Somebody has told something.
    Bell,
    /// A sandbox's datagrams.
    Datagrams(Id),
    /// A sandbox's new connections.
    Connections(Id),
    /// A connection from a container.
    Connection(Id),
    /// A question to a server.
    Ask(Id),
    /// A question that waits for answers.
    Flight(Id),
}

impl Token {
    fn packed(self) -> u64 {
        let (kind, id) = match self {
            Token::Bell => (0, Id { index: 0, generation: 0 }),
            Token::Datagrams(id) => (1, id),
            Token::Connections(id) => (2, id),
            Token::Connection(id) => (3, id),
            Token::Ask(id) => (4, id),
            Token::Flight(id) => (5, id),
        };
        kind << 60 | u64::from(id.generation) << 32 | u64::from(id.index)
    }

    fn unpacked(packed: u64) -> Token {
        let id = Id { index: packed as u32, generation: (packed >> 32) as u32 & 0x0fff_ffff };
        match packed >> 60 {
            1 => Token::Datagrams(id),
            2 => Token::Connections(id),
            3 => Token::Connection(id),
            4 => Token::Ask(id),
            5 => Token::Flight(id),
            _ => Token::Bell,
        }
    }
}

/// All that the thread holds.
pub(super) struct Thread {
    epoll: OwnedFd,
    inbox: Receiver<Note>,
    bell: Arc<OwnedFd>,
    pub excursion: Excursion,
    born: Instant,
    /// Microseconds since the thread began, as they were when it woke.
    pub now: u64,
    pub book: Book,
    host_servers: Vec<Server>,
    by_sandbox: HashMap<SandboxId, Id>,
    pub doors: Slots<Door>,
    pub connections: Slots<Connection>,
    /// Who is told of each question.
    pub listeners: Vec<Listener>,
    pub flights: Slots<Flight>,
    pub asks: Slots<Ask>,
    /// Questions to servers whose answers nobody waits for any more.
    pub orphans: usize,
    /// Of all questions that wait for answers, at most so many.
    pub most_flights: usize,
    /// Shared by all who ask the host's servers.
    hosts: Rc<Upstreams>,
    timers: BinaryHeap<Reverse<(u64, Token)>>,
    pub randoms: Randoms,
    /// Datagrams from a container, while they are not looked at.
    pub arrivals: Option<Arrivals>,
    /// Answers that go together.
    pub departures: Departures,
    /// What came in otherwise.
    pub packet: Vec<u8>,
    /// What goes out.
    pub out: Vec<u8>,
}

/// Starts the thread.
pub(super) fn start(inbox: Receiver<Note>, bell: Arc<OwnedFd>) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).doing("make the resolver's epoll")?;
    epoll::add(&epoll, &bell, epoll::EventData::new_u64(Token::Bell.packed()), epoll::EventFlags::IN)
        .doing("watch the resolver's bell")?;
    let run = move || match Excursion::new() {
        Ok(excursion) => Thread::new(epoll, inbox, bell, excursion).run(),
        Err(error) => error!(%error, "the resolver cannot find its own namespace: containers find no names"),
    };
    std::thread::Builder::new().name("resolver".into()).spawn(run).doing("start the resolver's thread").map(drop)
}

impl Thread {
    fn new(epoll: OwnedFd, inbox: Receiver<Note>, bell: Arc<OwnedFd>, excursion: Excursion) -> Thread {
        Thread {
            epoll,
            inbox,
            bell,
            excursion,
            born: Instant::now(),
            now: 0,
            book: Book::default(),
            host_servers: Vec::new(),
            by_sandbox: HashMap::new(),
            doors: Slots::new(),
            connections: Slots::new(),
            listeners: Vec::new(),
            flights: Slots::new(),
            asks: Slots::new(),
            orphans: 0,
            most_flights: super::forward::most_flights(),
            hosts: Rc::new(Upstreams::new(&[], None)),
            timers: BinaryHeap::new(),
            randoms: Randoms::default(),
            arrivals: None,
            departures: Departures::default(),
            packet: vec![0; 1 << 16],
            out: Vec::with_capacity(4096),
        }
    }

    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            let wait = self.timers.peek().map(|Reverse((at, _))| {
                let micros = at.saturating_sub(self.clock());
                Timespec { tv_sec: (micros / 1_000_000) as i64, tv_nsec: (micros % 1_000_000 * 1000) as i64 }
            });
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return error!(%errno, "the resolver cannot wait any more: containers find no names"),
            }
            self.now = self.clock();
            // First, so that who asks is known before the question is read.
            if !self.take_notes() {
                return;
            }
            for event in &events {
                let flags = event.flags;
                match Token::unpacked(event.data.u64()) {
                    Token::Bell => {
                        // Nothing to read means that it was heard already.
                        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
                    }
                    Token::Datagrams(id) => self.datagrams(id),
                    Token::Connections(id) => self.accept(id),
                    Token::Connection(id) => self.converse(id, flags),
                    Token::Ask(id) => self.heard(id, flags),
                    Token::Flight(_) => {}
                }
            }
            while let Some(Reverse((at, token))) = self.timers.peek().copied()
                && at <= self.now
            {
                self.timers.pop();
                match token {
                    Token::Connections(id) => self.accept_again(id),
                    Token::Connection(id) => self.look_at_connection(id),
                    Token::Ask(id) => self.time_is_over(id),
                    Token::Flight(id) => self.advance(id),
                    Token::Bell | Token::Datagrams(_) => {}
                }
            }
        }
    }

    /// Microseconds since the thread began.
    pub fn clock(&self) -> u64 {
        // Half a million years.
        self.born.elapsed().as_micros() as u64
    }

    /// Seconds since the thread began.
    pub fn seconds(&self) -> u64 {
        self.now / 1_000_000
    }

    /// Be called again at that time.
    pub fn at(&mut self, time: u64, token: Token) {
        self.timers.push(Reverse((time, token)));
    }

    /// Watch a descriptor; it is forgotten when it is closed.
    pub fn watch(&self, what: impl AsFd, token: Token, flags: epoll::EventFlags) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, what, epoll::EventData::new_u64(token.packed()), flags)
    }

    /// Watch it for something else.
    pub fn watch_for(&self, what: impl AsFd, token: Token, flags: epoll::EventFlags) -> rustix::io::Result<()> {
        epoll::modify(&self.epoll, what, epoll::EventData::new_u64(token.packed()), flags)
    }

    /// Watch it no longer.
    pub fn ignore(&self, what: impl AsFd) -> rustix::io::Result<()> {
        epoll::delete(&self.epoll, what)
    }

    /// `false`: nobody is left who could tell something.
    fn take_notes(&mut self) -> bool {
        use std::sync::mpsc::TryRecvError;
        loop {
            match self.inbox.try_recv() {
                Ok(note) => self.take(note),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, note: Note) {
        let now = self.seconds();
        match note {
            Note::Door(kernel::Door::Opened(sandbox, listeners)) => {
                self.shut(&sandbox);
                let id = self.door_of(&sandbox);
                if let Some(door) = self.doors.get_mut(id) {
                    door.listeners = Some(listeners);
                }
                self.open(id);
            }
            Note::Door(kernel::Door::Closed(sandbox)) => self.shut(&sandbox),
            Note::Asker(sandbox, asker) => {
                let id = self.door_of(&sandbox);
                let Some(door) = self.doors.get_mut(id) else { return };
                let same_servers = door.asker.as_ref().is_some_and(|old| old.servers == asker.servers);
                door.networks = asker.names.networks.iter().cloned().map(Rc::new).collect();
                door.asker = Some(*asker);
                // What is known of its servers stays known.
                if !(door.watched && same_servers) {
                    self.open(id);
                }
            }
            Note::NoAsker(sandbox) => {
                self.shut(&sandbox);
                self.asks_no_more(&sandbox);
                if let Some(id) = self.by_sandbox.remove(&sandbox) {
                    self.doors.remove(id);
                }
            }
            Note::HostServers(servers) => self.set_host_servers(servers),
            Note::Called(id, names) => self.book.containers.set(&id, names.iter().map(String::as_str), now),
            Note::NotCalled(id) => self.book.containers.remove(&id, now),
            Note::Member(network, endpoint, names, addrs) => {
                let directory = self.book.networks.entry(network).or_default();
                directory.add(&endpoint, names.iter().map(String::as_str), &addrs);
            }
            Note::NoMember(network, endpoint) => {
                if let Some(directory) = self.book.networks.get_mut(&network) {
                    directory.remove(&endpoint);
                    if directory.is_empty() {
                        self.book.networks.remove(&network);
                    }
                }
            }
            Note::Questions(of, follow, to) => self.tell_questions(of, follow, to),
        }
    }

    fn door_of(&mut self, sandbox: &SandboxId) -> Id {
        let doors = &mut self.doors;
        let door = || Door { sandbox: Some(sandbox.clone()), ..Door::default() };
        *self.by_sandbox.entry(sandbox.clone()).or_insert_with(|| doors.add(door()))
    }

    /// Lets in who waits, if all is known that it takes.
    fn open(&mut self, id: Id) {
        let Some(door) = self.doors.get(id) else { return };
        let (Some(listeners), Some(asker)) = (&door.listeners, &door.asker) else { return };
        let upstreams = match &asker.servers {
            Servers::Nobody => None,
            Servers::Hosts => Some(self.hosts.clone()),
            Servers::These(addrs) => {
                let servers: Vec<Server> = addrs.iter().copied().map(Server::at).collect();
                match kernel::namespace_of(&listeners.udp) {
                    Ok(namespace) => Some(Rc::new(Upstreams::new(&servers, Some(namespace)))),
                    Err(error) => {
                        warn!(%error, "the namespace of a container's sockets is not known: its name servers are not asked");
                        None
                    }
                }
            }
        };
        if !door.watched {
            let watched = self
                .watch(&listeners.udp, Token::Datagrams(id), epoll::EventFlags::IN)
                .and_then(|()| self.watch(&listeners.tcp, Token::Connections(id), epoll::EventFlags::IN));
            if let Err(errno) = watched {
                error!(%errno, "a container's questions cannot be watched for");
            }
        }
        let old = self.doors.get_mut(id).and_then(|door| {
            door.watched = true;
            std::mem::replace(&mut door.upstreams, upstreams)
        });
        if let Some(old) = old {
            self.leave(&old);
        }
    }

    /// Closes all that holds a sandbox's namespace; who asks there stays known.
    fn shut(&mut self, sandbox: &SandboxId) {
        let Some(id) = self.by_sandbox.get(sandbox).copied() else { return };
        let Some(mut door) = self.doors.remove(id) else { return };
        let gone: Vec<Id> = self.connections.iter().filter(|(_, c)| c.door == id).map(|(id, _)| id).collect();
        for connection in gone {
            self.connections.remove(connection);
        }
        if let Some(upstreams) = door.upstreams.take() {
            self.leave(&upstreams);
        }
        // As another door, so that nothing on its way to the old one arrives here.
        let Door { sandbox: own, asker, networks, log, .. } = door;
        let new = self.doors.add(Door { sandbox: own, asker, networks, log, ..Door::default() });
        self.by_sandbox.insert(sandbox.clone(), new);
    }

    /// Forgets what is on its way to these servers, unless others ask them too.
    fn leave(&mut self, upstreams: &Rc<Upstreams>) {
        if upstreams.namespace.is_none() {
            return;
        }
        let flights: Vec<Id> = upstreams.flights.borrow().values().copied().collect();
        for flight in flights {
            self.drop_flight(flight);
        }
        let asks: Vec<Id> =
            self.asks.iter().filter(|(_, ask)| Rc::ptr_eq(&ask.upstreams, upstreams)).map(|(id, _)| id).collect();
        for ask in asks {
            self.drop_ask(ask);
        }
    }

    fn set_host_servers(&mut self, servers: Vec<Server>) {
        if servers == self.host_servers {
            return;
        }
        // What is on its way to the old ones arrives still.
        self.hosts = Rc::new(Upstreams::new(&servers, None));
        self.host_servers = servers;
        let hosts: Vec<Id> = self.doors.iter().filter(|(_, door)| door.asks_hosts()).map(|(id, _)| id).collect();
        for id in hosts {
            if let Some(door) = self.doors.get_mut(id) {
                door.upstreams = Some(self.hosts.clone());
            }
        }
    }
}
