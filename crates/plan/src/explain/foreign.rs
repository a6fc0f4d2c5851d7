//! What somebody else's chains say of a packet, as far as they can be read.

use super::packet::{ICMP, ICMPV6, Packet, Part};
use super::refusal::Refusal;
use super::strangers::{Condition, Side, Stranger, StrangersRule, Then};
use super::walk::Stop;
use crate::around::Tool;
use crate::ids::IfName;
use crate::netstate::IpFamily;

/// How deep chains may call each other.
const DEPTH: usize = 16;

/// What became of it in a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ruling {
    Through,
    Accept,
    /// By this rule.
    Refuse(String),
    Unsure(String),
}

/// A packet at a place where others' rules are asked.
#[derive(Clone, Copy)]
pub(super) struct Passing<'a> {
    pub packet: &'a Packet,
    pub iif: Option<&'a IfName>,
    pub oif: Option<&'a IfName>,
    /// The bit of its state.
    pub ct: u32,
    /// A message of neighbour discovery: its type.
    pub neighbour: Option<u8>,
}

struct Met<'a> {
    stranger: &'a Stranger,
    passing: Passing<'a>,
}

/// Ask a base chain.
pub(super) fn ask(stranger: &Stranger, passing: Passing<'_>) -> Result<(), Stop> {
    if !stranger.family.has(IpFamily::of(passing.packet.dst)) {
        return Ok(());
    }
    let met = Met { stranger, passing };
    let chain = format!("{} {} {}", stranger.family, stranger.table, stranger.chain);
    let refused = |rule: String| {
        Err(Refusal::Stranger { chain: chain.clone(), rule, legacy: stranger.tool == Tool::Legacy }.into())
    };
    match met.chain(&stranger.chain, 0) {
        Ruling::Accept => Ok(()),
        Ruling::Through if !stranger.drops => Ok(()),
        Ruling::Through => refused("whose policy is to drop".into()),
        Ruling::Refuse(rule) => refused(rule),
        Ruling::Unsure(why) => Err(Stop::Unknown(format!("another firewall decides, in chain {chain}, by {why}"))),
    }
}

enum Fits {
    Yes,
    No,
    Unsure(String),
}

impl Met<'_> {
    fn chain(&self, chain: &str, depth: usize) -> Ruling {
        let rules = self.stranger.chains.get(chain).map_or(&[][..], Vec::as_slice);
        if depth > DEPTH { Ruling::Through } else { self.rules(chain, rules, 0, depth) }
    }

    fn rules(&self, chain: &str, rules: &[StrangersRule], from: usize, depth: usize) -> Ruling {
        for (nth, rule) in rules.iter().enumerate().skip(from) {
            let fits = self.fits_all(&rule.conditions);
            if matches!(fits, Fits::No) {
                continue;
            }
            let ruling = match &rule.then {
                Then::Nothing => continue,
                Then::Accept => Some(Ruling::Accept),
                Then::Drop | Then::Reject => Some(Ruling::Refuse(format!("by rule {} of chain {chain}", nth + 1))),
                Then::Return => Some(Ruling::Through),
                Then::Jump(next) => Some(self.chain(next, depth + 1)).filter(|ruling| *ruling != Ruling::Through),
                Then::Goto(next) => Some(self.chain(next, depth + 1)),
                Then::Unknown => Some(Ruling::Unsure(format!("what rule {} of chain {chain} does", nth + 1))),
            };
            let Some(ruling) = ruling else { continue };
            let Fits::Unsure(why) = fits else { return ruling };
            let rest = self.rules(chain, rules, nth + 1, depth);
            let same = match (&ruling, &rest) {
                (Ruling::Refuse(_), Ruling::Refuse(_)) => true,
                (Ruling::Refuse(_), Ruling::Through) => self.stranger.drops && depth == 0,
                (Ruling::Accept, Ruling::Through) => !self.stranger.drops && depth == 0,
                (ruling, rest) => ruling == rest,
            };
            return if same { rest } else { Ruling::Unsure(why) };
        }
        Ruling::Through
    }

    fn fits_all(&self, conditions: &[Condition]) -> Fits {
        let mut all = Fits::Yes;
        for condition in conditions {
            match self.fits(condition) {
                Fits::Yes => {}
                Fits::No => return Fits::No,
                unsure => all = unsure,
            }
        }
        all
    }

    fn fits(&self, condition: &Condition) -> Fits {
        let Passing { packet, iif, oif, ct, neighbour } = self.passing;
        let proto = if neighbour.is_some() { ICMPV6 } else { packet.proto };
        let ports = matches!(proto, 6 | 17 | 132);
        let yes = match condition {
            Condition::Link(side, patterns) => {
                let link = if *side == Side::From { iif } else { oif };
                patterns.iter().any(|pattern| link.map_or(pattern.not, |link| pattern.fits(link)))
            }
            Condition::Addr(side, net, not) => {
                let addr = if *side == Side::From { packet.src } else { packet.dst };
                let same = addr.is_ipv4() == net.addr().is_ipv4();
                same && net.contains(&addr) != *not
            }
            Condition::Proto(wanted, not) => (*wanted == proto) != *not,
            Condition::Icmp(types, not) => {
                // RFC 792, RFC 4443: echo requests and replies.
                let kind = neighbour.or(match (proto, packet.part) {
                    (ICMP, Part::Answer) => Some(0),
                    (ICMP, _) => Some(8),
                    (ICMPV6, Part::Answer) => Some(129),
                    (ICMPV6, _) => Some(128),
                    _ => None,
                });
                kind.is_some_and(|kind| types.contains(&kind) != *not)
            }
            Condition::Port(side, from, to, not) => {
                let port = if *side == Side::From { packet.sport } else { packet.dport };
                ports && (*from..=*to).contains(&port) != *not
            }
            Condition::V6(v6) => *v6 == packet.v6(),
            Condition::Ct(bits) => ct & bits != 0,
            Condition::Unknown(text) => return Fits::Unsure(text.clone()),
        };
        if yes { Fits::Yes } else { Fits::No }
    }
}
