//! Why one place reaches another, or does not: a packet walks through values, hop by hop, as Linux takes it.
//!
//! In reading order:

/// All that a packet may meet on a host.
pub mod sight;

/// Others' firewalls, as much of them as can be understood.
pub mod strangers;

/// What stops a packet, in words.
pub mod refusal;

/// A packet, and what connection tracking knows of its flow.
mod packet;

/// Which way a packet leaves a namespace.
mod course;

/// What a table does to a packet.
mod rules;

/// What somebody else's chains say of a packet.
mod foreign;

/// The way itself.
mod walk;

/// From two places, as people name them, to addresses.
pub mod question;

/// The answer to a question.
pub mod answer;

/// What would change an answer.
mod remedy;

pub use answer::{Answer, Try, Verdict, answer};
pub use packet::Service;
pub use question::{Place, Question};
pub use refusal::{Doing, Refusal};
pub use rules::Cause;

use crate::ids::IfName;
use crate::listener::Listener;
use crate::netstate::Ns;
use crate::relay;
use crate::world::{Proto, World};
use packet::Packet;
use sight::Sight;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use walk::{Arrival, Start, Stop, Walk};

/// One question: may this place reach that address?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who asks.
    pub from: Origin,
    /// Who is asked.
    pub to: IpAddr,
    /// For what.
    pub service: Service,
}

/// Where a packet comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A program in a namespace.
    Inside(Ns),
    /// Somebody behind a link of the host's.
    Outside {
        /// The link.
        link: IfName,
        /// Its address.
        addr: IpAddr,
    },
}

/// The way there and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// There.
    There,
    /// Back.
    Back,
}

/// At what kind of place a hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A name became an address.
    Name,
    /// The sender's address was chosen.
    Address,
    /// A route was chosen.
    Route,
    /// A pair of links was passed.
    Link,
    /// A bridge was passed.
    Bridge,
    /// A rule let it through.
    Rule,
    /// An address or port was put in the place of another.
    Nat,
    /// A socket has it.
    Listener,
    /// The engine's relay has it, and asks in its turn.
    Relay,
    /// It left the host, or came from outside.
    Outside,
}

impl At {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            At::Name => "name",
            At::Address => "address",
            At::Route => "route",
            At::Link => "link",
            At::Bridge => "bridge",
            At::Rule => "rule",
            At::Nat => "nat",
            At::Listener => "listener",
            At::Relay => "relay",
            At::Outside => "outside",
        }
    }
}

/// One step of a packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// There or back.
    pub leg: Leg,
    /// What kind of place.
    pub at: At,
    /// Whose: a container's name, or `host`.
    pub place: String,
    /// What happens.
    pub text: String,
    /// The rule that made it so.
    pub cause: Option<Cause>,
}

/// How a way ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// There, and the answer came back. `beyond` if it left the host: whether anybody listens there is not known.
    Reached {
        /// It left the host.
        beyond: bool,
    },
    /// Something stopped it.
    Refused(Refusal),
    /// It cannot be told, and why.
    Unknown(String),
}

/// A packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Hop by hop, up to the refusal if there is one.
    pub hops: Vec<Hop>,
    /// The leg on which it ended.
    pub leg: Leg,
    /// How it ends.
    pub end: End,
    /// The address that whoever is asked sees as the client's; `None` if it did not come so far.
    pub client: Option<IpAddr>,
}

impl Path {
    /// Reached?
    pub fn reaches(&self) -> Option<bool> {
        match self.end {
            End::Reached { .. } => Some(true),
            End::Refused(_) => Some(false),
            End::Unknown(_) => None,
        }
    }
}

/// What people call the namespaces.
pub fn called(world: &World) -> BTreeMap<Ns, String> {
    let containers = world.endpoints.values().map(|e| (Ns::Of(e.sandbox.clone()), e.container_name.clone()));
    containers.chain([(Ns::Host, "host".to_owned())]).collect()
}

/// The way that is asked for, on the host as this sight has it. The facts say only how things are called and what the engine
/// relays.
pub fn path(sight: &Sight, world: &World, names: &BTreeMap<Ns, String>, ask: &Ask) -> Path {
    let mut walk = Walk::new(sight, names);
    let done = converse(&mut walk, world, ask);
    let end = match done {
        Ok(Arrival::Local { .. }) => End::Reached { beyond: false },
        Ok(Arrival::Outside { .. }) => End::Reached { beyond: true },
        Err(Stop::Refused(refusal)) => End::Refused(*refusal),
        Err(Stop::Unknown(why)) => End::Unknown(why),
    };
    Path { hops: walk.hops, leg: walk.leg, end, client: walk.client }
}

fn converse(walk: &mut Walk<'_>, world: &World, ask: &Ask) -> Result<Arrival, Stop> {
    let (start, source) = match &ask.from {
        Origin::Inside(ns) => {
            let source = walk.source(ns, ask.to)?;
            walk.say(At::Address, ns, format!("sends from {source}"));
            (Start::In(ns.clone()), source)
        }
        Origin::Outside { link, addr } => {
            walk.say(At::Outside, &Ns::Host, format!("{addr} comes in by {link}"));
            (Start::Behind(link.clone()), *addr)
        }
    };
    let first = Packet::first(ask.service, source, ask.to);
    let mut hears = |walk: &mut Walk<'_>, ns: &Ns, packet: &Packet| listener(walk, world, ns, packet, ask.service);
    let arrival = walk.talk(&start, first, &mut hears)?;
    if let Arrival::Outside { packet, .. } = &arrival {
        walk.client = Some(packet.src);
    }
    Ok(arrival)
}

/// Does anybody take what arrived?
fn listener(walk: &mut Walk<'_>, world: &World, ns: &Ns, packet: &Packet, service: Service) -> Result<(), Stop> {
    walk.client = Some(packet.src);
    let Service::Port(proto, _) = service else {
        walk.say(At::Listener, ns, format!("{} answers echo requests, and sees {}", packet.dst, packet.src));
        return Ok(());
    };
    if *ns == Ns::Host && world.relay == Some(packet.dport) && proto.is_relayed() {
        return relayed(walk, world, packet, proto);
    }
    let listeners = walk.sight.site(ns).map_or(&[][..], |site| &site.listeners);
    let (to, local) = (SocketAddr::new(packet.dst, packet.dport), walk.course(ns, packet.src)?.local);
    if let Some(one) = listeners.iter().find(|one| one.hears(proto, to, local)) {
        let at = walk::shown(one.addr, one.port);
        walk.say(At::Listener, ns, format!("something listens on {at}, and sees {} as the client", packet.src));
        return Ok(());
    }
    let same = |one: &&Listener| one.proto == proto && one.port == packet.dport;
    let elsewhere = listeners.iter().filter(same).cloned().collect();
    let service = Service::Port(proto, packet.dport);
    Err(Refusal::NobodyListens { at: walk.name(ns), service, addr: packet.dst, elsewhere }.into())
}

/// The engine itself asks the container.
fn relayed(walk: &mut Walk<'_>, world: &World, packet: &Packet, proto: Proto) -> Result<(), Stop> {
    let original = walk.flows.get(&Ns::Host).and_then(|flows| flows.original(packet));
    let to = original.and_then(|(addr, port)| relay::target(world, proto, SocketAddr::new(addr, port)));
    let Some(to) = to else {
        return Err(Stop::Unknown("what the relay does with it is not known".into()));
    };
    walk.say(At::Relay, &Ns::Host, format!("the engine relays it to {to}"));
    let source = walk.source(&Ns::Host, to.ip())?;
    let service = Service::Port(proto, to.port());
    let first = Packet::first(service, source, to.ip());
    let mut hears = |walk: &mut Walk<'_>, ns: &Ns, packet: &Packet| listener(walk, world, ns, packet, service);
    walk.talk(&Start::In(Ns::Host), first, &mut hears).map(drop)
}
