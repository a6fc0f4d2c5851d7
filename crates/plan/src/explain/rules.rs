//! What a table does to a packet: each expression of `nft::Expr` looked at in its turn.

use super::packet::{Ct, ICMPV6, Packet, Part, State, TCP, Tracker};
use crate::ids::{IfName, Mac};
use crate::nft::{CtState, Data, Element, Expr, Field, Key, Rule, Set, Table, TableName, Value, Verdict, Why};
use std::net::IpAddr;

/// A packet at a place where rules are asked.
pub(super) struct Met<'a> {
    pub packet: &'a Packet,
    pub iif: Option<&'a IfName>,
    pub oif: Option<&'a IfName>,
    pub ct: Ct,
    pub flows: &'a Tracker,
    /// The destination is an address of the namespace.
    pub local: bool,
    /// The frame around it, on a bridge.
    pub frame: Option<Frame>,
}

/// What the rules of a bridge look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub mac: Mac,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the packet is.
    Ip,
    /// ARP from the packet's source.
    Arp,
    /// A message of neighbour discovery (RFC 4861): its type, and the address that it is about.
    Neighbour(u8, std::net::Ipv6Addr),
}

/// The rule that decided, and the element that it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's own reason.
    pub rule: String,
    /// The last element that it looked up: its set, and its reason.
    pub element: Option<(String, Why)>,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.table, self.chain, self.rule)?;
        if let Some((set, why)) = &self.element {
            write!(f, " ({set}: {})", why.text)?;
        }
        Ok(())
    }
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    /// No rule decided.
    Through,
    /// Back to the calling chain.
    Returned,
    Accept(Cause),
    Drop(Cause),
    Reset(Cause),
    Dnat {
        addr: Option<IpAddr>,
        port: Option<u16>,
        cause: Cause,
    },
    Snat {
        addr: IpAddr,
        cause: Cause,
    },
    Masquerade(Cause),
    /// Another port is written into it.
    Port {
        field: Field,
        port: u16,
        cause: Cause,
    },
    /// It depends on what cannot be read here.
    Unsure(Cause, String),
}

/// Does it hold?
enum Fits {
    Yes,
    No,
    Unsure(String),
}

/// How deep chains may call each other (`NFT_JUMP_STACK_SIZE`).
const DEPTH: usize = 16;

impl Met<'_> {
    /// Ask a chain of a table.
    pub fn ask(&self, name: &TableName, table: &Table, chain: &str) -> Ruling {
        self.chain(name, table, chain, 0)
    }

    fn chain(&self, name: &TableName, table: &Table, chain: &str, depth: usize) -> Ruling {
        let rules = table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
        if depth > DEPTH {
            return Ruling::Through;
        }
        self.rules(name, table, chain, rules, depth)
    }

    fn rules(&self, name: &TableName, table: &Table, chain: &str, rules: &[Rule], depth: usize) -> Ruling {
        for (nth, rule) in rules.iter().enumerate() {
            let mut cause =
                Cause { table: name.to_string(), chain: chain.to_owned(), rule: rule.why.text.clone(), element: None };
            let mut unsure = None;
            let mut ruling = Ruling::Through;
            for expr in &rule.body {
                match self.fits(table, expr, &mut cause) {
                    Some(Fits::Yes) => {}
                    Some(Fits::No) => {
                        (ruling, unsure) = (Ruling::Through, None);
                        break;
                    }
                    Some(Fits::Unsure(why)) => unsure = Some(why),
                    None => {
                        ruling = self.act(name, table, expr, &mut cause, depth);
                        if ruling != Ruling::Through {
                            break;
                        }
                    }
                }
            }
            match (ruling, unsure) {
                (Ruling::Through, None) => {}
                (ruling, None) => return ruling,
                // Whether it holds makes no difference if the rest comes to the same.
                (ruling, Some(why)) => {
                    let rest = self.rules(name, table, chain, &rules[nth + 1..], depth);
                    let same = std::mem::discriminant(&rest) == std::mem::discriminant(&ruling);
                    return if same { rest } else { Ruling::Unsure(cause, why) };
                }
            }
        }
        Ruling::Through
    }

    /// Whether a condition holds; `None` for what is none.
    fn fits(&self, table: &Table, expr: &Expr, cause: &mut Cause) -> Option<Fits> {
        let yes = |yes: bool| Some(if yes { Fits::Yes } else { Fits::No });
        let (dnat, snat) = self.flows.translated(self.ct);
        match expr {
            Expr::Is { field, not, value } => yes(self.value(*field).is_some_and(|is| (is == *value) != *not)),
            Expr::In { fields, not, set } => {
                let Some(key) = self.key(fields) else { return Some(Fits::No) };
                let found = table.sets.get(set).and_then(|set| find(set, &key));
                if let Some(element) = found.filter(|_| !not) {
                    cause.element = Some((set.clone(), element.why.clone()));
                }
                yes(found.is_some() != *not)
            }
            Expr::Ct(state) => yes(match state {
                CtState::Invalid => self.ct.state == State::Invalid,
                CtState::Established => self.ct.state == State::Established,
                CtState::Related => false,
                CtState::New => self.ct.state == State::New,
                CtState::InvalidNew => matches!(self.ct.state, State::Invalid | State::New),
            }),
            Expr::CtDnat { not } => yes(dnat != *not),
            Expr::CtAssured => yes(self.flows.assured(self.ct, self.packet)),
            Expr::CtTranslated => yes(dnat || snat),
            Expr::TcpNotFirst => yes(self.packet.part != Part::First),
            Expr::TcpOpens => yes(self.packet.part != Part::Next),
            Expr::Loopback4(field) => {
                let addr = match field {
                    Field::Saddr4 => self.packet.src,
                    _ => self.packet.dst,
                };
                yes(matches!(addr, IpAddr::V4(addr) if addr.is_loopback()))
            }
            Expr::FibDaddrLocal => yes(self.local),
            Expr::Foreign(text) => Some(Fits::Unsure(text.clone())),
            Expr::Counter | Expr::ClampMss => Some(Fits::Yes),
            Expr::Dnat { .. }
            | Expr::DnatPort { .. }
            | Expr::Snat { .. }
            | Expr::Masquerade
            | Expr::Reset
            | Expr::Vmap { .. }
            | Expr::SetPort { .. }
            | Expr::Verdict(_) => None,
        }
    }

    /// What is done once all conditions hold.
    fn act(&self, name: &TableName, table: &Table, expr: &Expr, cause: &mut Cause, depth: usize) -> Ruling {
        let mut look_up = |fields: &[Field], map: &String| -> Option<Data> {
            let element = find(table.sets.get(map)?, &self.key(fields)?)?;
            cause.element = Some((map.clone(), element.why.clone()));
            element.data.clone()
        };
        match expr {
            Expr::Dnat { v6, fields, map, .. } if *v6 == self.packet.v6() => match look_up(fields, map) {
                Some(Data::Parts(parts)) => {
                    let (addr, port) = (parts.iter().find_map(addr_of), parts.iter().find_map(port_of));
                    Ruling::Dnat { addr, port, cause: cause.clone() }
                }
                _ => Ruling::Through,
            },
            Expr::DnatPort { fields, map } => match look_up(fields, map) {
                Some(Data::Parts(parts)) => {
                    Ruling::Dnat { addr: None, port: parts.iter().find_map(port_of), cause: cause.clone() }
                }
                _ => Ruling::Through,
            },
            Expr::Snat { v6, fields, map } if *v6 == self.packet.v6() => {
                let addr = match look_up(fields, map) {
                    Some(Data::Parts(parts)) => parts.iter().find_map(addr_of),
                    _ => None,
                };
                addr.map_or(Ruling::Through, |addr| Ruling::Snat { addr, cause: cause.clone() })
            }
            Expr::Masquerade => Ruling::Masquerade(cause.clone()),
            Expr::Reset => Ruling::Reset(cause.clone()),
            Expr::Vmap { fields, map } => match look_up(fields, map) {
                Some(Data::Verdict(verdict)) => self.verdict(name, table, &verdict, cause, depth),
                _ => Ruling::Through,
            },
            Expr::SetPort { field, port, .. } => Ruling::Port { field: *field, port: *port, cause: cause.clone() },
            Expr::Verdict(verdict) => self.verdict(name, table, verdict, cause, depth),
            _ => Ruling::Through,
        }
    }

    fn verdict(&self, name: &TableName, table: &Table, verdict: &Verdict, cause: &Cause, depth: usize) -> Ruling {
        match verdict {
            Verdict::Accept => Ruling::Accept(cause.clone()),
            Verdict::Drop => Ruling::Drop(cause.clone()),
            Verdict::Return => Ruling::Returned,
            Verdict::Jump(chain) => match self.chain(name, table, chain, depth + 1) {
                Ruling::Returned => Ruling::Through,
                ruling => ruling,
            },
        }
    }

    fn key(&self, fields: &[Field]) -> Option<Key> {
        fields.iter().map(|field| self.value(*field)).collect()
    }

    /// A field's value; `None` where the packet has no such field.
    fn value(&self, field: Field) -> Option<Value> {
        let packet = self.packet;
        let kind = self.frame.map(|frame| frame.kind);
        let arp = kind == Some(Kind::Arp);
        let four = |addr: IpAddr| match addr {
            IpAddr::V4(addr) => Some(Value::Addr4(addr)),
            IpAddr::V6(_) => None,
        };
        let six = |addr: IpAddr| match addr {
            IpAddr::V6(addr) => Some(Value::Addr6(addr)),
            IpAddr::V4(_) => None,
        };
        let proto = match kind {
            Some(Kind::Neighbour(..)) => ICMPV6,
            _ => packet.proto,
        };
        match field {
            Field::Iif => self.iif.cloned().map(Value::IfName),
            Field::Oif => self.oif.cloned().map(Value::IfName),
            Field::Saddr4 if !arp => four(packet.src),
            Field::Daddr4 if !arp => four(packet.dst),
            Field::Saddr6 if !arp => six(packet.src),
            Field::Daddr6 if !arp => six(packet.dst),
            Field::L4Proto if !arp => Some(Value::Proto(proto)),
            Field::NfProto => Some(Value::Proto(if packet.v6() { 10 } else { 2 })),
            Field::Sport => has_ports(packet.proto).then_some(Value::Port(packet.sport)),
            Field::Dport => has_ports(packet.proto).then_some(Value::Port(packet.dport)),
            Field::CtOriginalDport => self.flows.original_port(self.ct).map(Value::Port),
            Field::EtherSaddr => Some(Value::Mac(self.frame?.mac)),
            Field::EtherType => Some(Value::EtherType(match (kind?, packet.v6()) {
                (Kind::Arp, _) => 0x0806,
                (_, false) => 0x0800,
                (_, true) => 0x86dd,
            })),
            Field::ArpEther if arp => Some(Value::Mac(self.frame?.mac)),
            Field::ArpSaddr4 if arp => four(packet.src),
            Field::Icmp6Type => match kind {
                Some(Kind::Neighbour(number, _)) => Some(Value::Proto(number)),
                // RFC 4443 §4: an echo and its answer.
                _ if proto == ICMPV6 && packet.part == Part::Answer => Some(Value::Proto(129)),
                _ => (proto == ICMPV6).then_some(Value::Proto(128)),
            },
            Field::NdTarget => match kind {
                Some(Kind::Neighbour(_, target)) => Some(Value::Addr6(target)),
                _ => None,
            },
            Field::Saddr4
            | Field::Daddr4
            | Field::Saddr6
            | Field::Daddr6
            | Field::L4Proto
            | Field::ArpEther
            | Field::ArpSaddr4 => None,
        }
    }
}

fn has_ports(proto: u8) -> bool {
    matches!(proto, TCP | 17 | 132)
}

fn addr_of(value: &Value) -> Option<IpAddr> {
    match value {
        Value::Addr4(addr) => Some((*addr).into()),
        Value::Addr6(addr) => Some((*addr).into()),
        _ => None,
    }
}

fn port_of(value: &Value) -> Option<u16> {
    if let Value::Port(port) = value { Some(*port) } else { None }
}

/// The element that a key finds.
fn find<'a>(set: &'a Set, key: &Key) -> Option<&'a Element> {
    let exact = set.elements.get(key);
    if exact.is_some() || !set.interval {
        return exact;
    }
    let holds = |keys: &Key| keys.len() == key.len() && keys.iter().zip(key).all(|(range, value)| range.holds(value));
    set.elements.iter().find(|(keys, _)| holds(keys)).map(|(_, element)| element)
}

impl Value {
    /// Is this single value one of those that it stands for?
    fn holds(&self, one: &Value) -> bool {
        match (self, one) {
            (Value::Range4(from, to), Value::Addr4(addr)) => (from..=to).contains(&addr),
            (Value::Range6(from, to), Value::Addr6(addr)) => (from..=to).contains(&addr),
            (Value::PortRange(from, to), Value::Port(port)) => (from..=to).contains(&port),
            (same, one) => same == one,
        }
    }
}
