//! A packet, and what connection tracking knows of its flow.

use crate::world::Proto;
use std::net::IpAddr;

/// What is asked: a port of a transport protocol, or an echo (ICMP).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// A port.
    Port(Proto, u16),
    /// Whether anybody answers at all (RFC 792, RFC 4443).
    Echo,
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Service::Port(proto, port) => write!(f, "{port}/{}", proto.name()),
            Service::Echo => f.write_str("ping"),
        }
    }
}

/// The port that whoever asks sends from. No rule of ours looks at it but to put it back.
pub(super) const ASKERS_PORT: u16 = 49152;

/// The part that a packet plays in its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The first of all.
    First,
    /// The answer to it.
    Answer,
    /// The next of whoever began.
    Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// The protocol's number (IANA).
    pub proto: u8,
    pub src: IpAddr,
    pub dst: IpAddr,
    pub sport: u16,
    pub dport: u16,
    pub part: Part,
}

/// `IPPROTO_ICMP` and `IPPROTO_ICMPV6`
pub(super) const ICMP: u8 = 1;
pub(super) const ICMPV6: u8 = 58;
/// `IPPROTO_TCP`
pub(super) const TCP: u8 = 6;

impl Packet {
    pub fn first(service: Service, src: IpAddr, dst: IpAddr) -> Packet {
        let (proto, dport) = match service {
            Service::Port(proto, port) => (proto.number(), port),
            Service::Echo if dst.is_ipv4() => (ICMP, 0),
            Service::Echo => (ICMPV6, 0),
        };
        Packet { proto, src, dst, sport: if dport == 0 { 0 } else { ASKERS_PORT }, dport, part: Part::First }
    }

    pub fn answer(self) -> Packet {
        Packet { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, part: Part::Answer, ..self }
    }

    pub fn v6(&self) -> bool {
        self.dst.is_ipv6()
    }

    fn ends(&self) -> Ends {
        Ends { proto: self.proto, src: self.src, dst: self.dst, sport: self.sport, dport: self.dport }
    }

    fn with(self, ends: Ends) -> Packet {
        Packet { src: ends.src, dst: ends.dst, sport: ends.sport, dport: ends.dport, ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ends {
    proto: u8,
    src: IpAddr,
    dst: IpAddr,
    sport: u16,
    dport: u16,
}

impl Ends {
    fn turned(self) -> Ends {
        Ends { src: self.dst, dst: self.src, sport: self.dport, dport: self.sport, ..self }
    }
}

/// A flow that one namespace tracks: as it was begun, and as its answers look.
#[derive(Clone, Debug)]
struct Flow {
    begun: Ends,
    answers: Ends,
    answered: bool,
    dnat: bool,
    snat: bool,
    /// The chains that choose another destination, and another source, were asked: they are asked once.
    asked: (bool, bool),
}

/// What `ct state` and its sisters say of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ct {
    /// Which flow; `None` where nothing is tracked yet, or the packet fits none.
    flow: Option<usize>,
    pub state: State,
    /// In the direction of the answers.
    pub back: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Before connection tracking.
    Untracked,
    New,
    Established,
    Invalid,
}

impl Ct {
    pub const NONE: Ct = Ct { flow: None, state: State::Untracked, back: false };
}

/// The flows of one namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker(Vec<Flow>);

impl Tracker {
    /// The packet's flow: one that is known, or a new one.
    pub fn look(&mut self, packet: &Packet) -> Ct {
        let ends = packet.ends();
        for (nth, flow) in self.0.iter_mut().enumerate() {
            if flow.answers == ends {
                flow.answered = true;
                return Ct { flow: Some(nth), state: State::Established, back: true };
            }
            if flow.begun == ends {
                let state = if flow.answered { State::Established } else { State::New };
                return Ct { flow: Some(nth), state, back: false };
            }
        }
        // The middle of a connection that nobody saw begin; an echo's answer likewise.
        let begins = match packet.proto {
            TCP => packet.part == Part::First,
            ICMP | ICMPV6 => packet.part != Part::Answer,
            _ => true,
        };
        if !begins {
            return Ct { flow: None, state: State::Invalid, back: false };
        }
        self.0.push(Flow {
            begun: ends,
            answers: ends.turned(),
            answered: false,
            dnat: false,
            snat: false,
            asked: (false, false),
        });
        Ct { flow: Some(self.0.len() - 1), state: State::New, back: false }
    }

    /// Are the chains that choose another destination to be asked? Only once, and only for a flow's first packet.
    pub fn asks_destination(&mut self, ct: Ct) -> bool {
        let flow = ct.flow.filter(|_| ct.state == State::New).and_then(|nth| self.0.get_mut(nth));
        flow.is_some_and(|flow| !std::mem::replace(&mut flow.asked.0, true))
    }

    /// The same of the chains that choose another source.
    pub fn asks_source(&mut self, ct: Ct) -> bool {
        let flow = ct.flow.filter(|_| ct.state == State::New).and_then(|nth| self.0.get_mut(nth));
        flow.is_some_and(|flow| !std::mem::replace(&mut flow.asked.1, true))
    }

    /// The flow goes somewhere else from now on.
    pub fn dnat(&mut self, ct: Ct, addr: Option<IpAddr>, port: Option<u16>) {
        let Some(flow) = ct.flow.and_then(|nth| self.0.get_mut(nth)) else { return };
        flow.answers.src = addr.unwrap_or(flow.answers.src);
        flow.answers.sport = port.unwrap_or(flow.answers.sport);
        flow.dnat = flow.answers.src != flow.begun.dst || flow.answers.sport != flow.begun.dport;
    }

    /// The flow comes from somewhere else from now on.
    pub fn snat(&mut self, ct: Ct, addr: IpAddr) {
        let Some(flow) = ct.flow.and_then(|nth| self.0.get_mut(nth)) else { return };
        flow.answers.dst = addr;
        flow.snat = addr != flow.begun.src;
    }

    /// The packet with its destination put right: before routing.
    pub fn towards(&self, packet: Packet, ct: Ct) -> Packet {
        let Some(flow) = ct.flow.and_then(|nth| self.0.get(nth)) else { return packet };
        let to = if ct.back { flow.begun.turned() } else { flow.answers.turned() };
        packet.with(Ends { dst: to.dst, dport: to.dport, ..packet.ends() })
    }

    /// The packet with its source put right: after routing.
    pub fn from(&self, packet: Packet, ct: Ct) -> Packet {
        let Some(flow) = ct.flow.and_then(|nth| self.0.get(nth)) else { return packet };
        let to = if ct.back { flow.begun.turned() } else { flow.answers.turned() };
        packet.with(Ends { src: to.src, sport: to.sport, ..packet.ends() })
    }

    /// `ct status dnat`, `ct status snat`, of either direction.
    pub fn translated(&self, ct: Ct) -> (bool, bool) {
        let flow = ct.flow.and_then(|nth| self.0.get(nth));
        flow.map_or((false, false), |flow| (flow.dnat, flow.snat))
    }

    /// Answers were seen, and TCP's opening is over.
    pub fn assured(&self, ct: Ct, packet: &Packet) -> bool {
        let flow = ct.flow.and_then(|nth| self.0.get(nth));
        flow.is_some_and(|flow| flow.answered) && packet.part == Part::Next
    }

    /// The port that the flow was begun to.
    pub fn original_port(&self, ct: Ct) -> Option<u16> {
        ct.flow.and_then(|nth| self.0.get(nth)).map(|flow| flow.begun.dport)
    }

    /// Where the flow was begun to.
    pub fn original(&self, packet: &Packet) -> Option<(IpAddr, u16)> {
        let ends = packet.ends();
        let flow = self.0.iter().find(|flow| flow.answers == ends.turned() || flow.begun == ends)?;
        Some((flow.begun.dst, flow.begun.dport))
    }
}
