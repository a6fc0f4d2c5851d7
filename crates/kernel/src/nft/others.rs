//! Others' chains with all that can be read of them: enough to say what they do to a packet, or that it cannot be said.

use super::batch::HOOKS;
use super::expression::register;
use super::numbers::*;
use super::socket::{Nft, body};
use super::strangers::{FAMILIES, named};
use crate::attr::{Attrs, Writer};
use crate::fault::Refused;
use ipnet::IpNet;
use plan::around::{Pattern, Tool};
use plan::explain::strangers::{Condition, Side, Stranger, StrangersRule, Then};
use plan::ids::IfName;
use plan::nft::TableName;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// `XT_CONNTRACK_STATE` (linux/netfilter/xt_conntrack.h), and where in its struct the flags and the states are.
const XT_STATE: u16 = 1;
const XT_FLAGS: usize = 146;
const XT_STATES: usize = 150;

impl Nft {
    /// The base chains that are no tables of ours, but for those of bridges and devices.
    pub fn strangers(&mut self, links: &HashMap<u32, IfName>) -> Result<Vec<Stranger>, Refused> {
        let mut found = Vec::new();
        for (number, family) in FAMILIES {
            let messages = self.list_of(GETCHAIN, number, &Writer::default())?;
            let mut tables: BTreeMap<String, BTreeMap<String, Vec<StrangersRule>>> = BTreeMap::new();
            for attrs in messages.iter().map(body) {
                let (Some(table), Some(chain)) = (attrs.str(chain::TABLE), attrs.str(chain::NAME)) else { continue };
                let ours = number == FAMILY_INET && table == TableName::inet().name;
                let hook = attrs.nest(chain::HOOK);
                let place =
                    hook.and_then(|hook| Some((hook.be32(chain::HOOK_NUMBER)?, hook.be32(chain::HOOK_PRIORITY)?)));
                let Some((hook, priority)) = place.filter(|_| !ours) else { continue };
                let Some(hook) = HOOKS.get(hook as usize) else { continue };
                if self.is_dormant(number, table)? {
                    continue;
                }
                if !tables.contains_key(table) {
                    let rules = self.all_rules(number, table, links)?;
                    tables.insert(table.to_owned(), rules);
                }
                found.push(Stranger {
                    tool: Tool::Nft,
                    family,
                    table: table.to_owned(),
                    chain: chain.to_owned(),
                    hook: *hook,
                    priority: priority as i32,
                    nat: attrs.str(chain::TYPE) == Some("nat"),
                    drops: attrs.be32(chain::POLICY) == Some(libc::NF_DROP as u32),
                    chains: tables.get(table).cloned().unwrap_or_default(),
                });
            }
        }
        Ok(found)
    }

    fn all_rules(
        &mut self,
        family: u8,
        table: &str,
        links: &HashMap<u32, IfName>,
    ) -> Result<BTreeMap<String, Vec<StrangersRule>>, Refused> {
        let mut chains: BTreeMap<String, Vec<StrangersRule>> = BTreeMap::new();
        for message in self.list_of(GETRULE, family, Writer::default().str(rule::TABLE, table))? {
            let attrs = body(&message);
            let (Some(of), Some(chain)) = (attrs.str(rule::TABLE), attrs.str(rule::CHAIN)) else { continue };
            if of != table {
                continue;
            }
            let mut reader = Reader { nft: self, family, table, links, held: None, rule: StrangersRule::default() };
            for (_, expression) in attrs.nest(rule::EXPRESSIONS).into_iter().flatten() {
                let expression = Attrs(expression);
                let name = expression.str(rule::EXPR_NAME).unwrap_or_default();
                reader.take(name, Attrs(expression.get(rule::EXPR_DATA).unwrap_or_default()))?;
            }
            let rule = reader.rule;
            chains.entry(chain.to_owned()).or_default().push(rule);
        }
        Ok(chains)
    }
}

/// What the first register holds.
#[derive(Clone, Copy, PartialEq)]
enum Load {
    LinkName(Side),
    LinkIndex(Side),
    Family,
    Proto,
    /// So many bytes of an address.
    Addr(Side, u8, usize),
    Port(Side),
    /// The first byte of the transport header: of ICMP, its type.
    Icmp,
    CtState,
}

/// A value in the first register, and what of it is looked at.
#[derive(Clone)]
struct Held {
    load: Load,
    mask: Option<Vec<u8>>,
}

struct Reader<'a> {
    nft: &'a mut Nft,
    family: u8,
    table: &'a str,
    links: &'a HashMap<u32, IfName>,
    held: Option<Held>,
    rule: StrangersRule,
}

impl Reader<'_> {
    fn take(&mut self, name: &str, attrs: Attrs<'_>) -> Result<(), Refused> {
        match name {
            "counter" | "log" | "limit_log" | "notrack" => {}
            "meta" if attrs.be32(1).is_some() => {
                let load = attrs.be32(2).and_then(|key| meta(key as i32));
                self.load(attrs.be32(1), load, "a mark or another note of the packet");
            }
            // It writes one.
            "meta" => {}
            "payload" => {
                let place = [2, 3, 4].map(|kind| attrs.be32(kind).unwrap_or_default());
                let load = payload(place, self.family);
                self.load(attrs.be32(1), load, "a field of the packet");
            }
            "ct" => {
                let load = (attrs.be32(2) == Some(libc::NFT_CT_STATE as u32)).then_some(Load::CtState);
                self.load(attrs.be32(1), load, "what connection tracking notes");
            }
            "bitwise" => {
                let mask = attrs.nest(4).and_then(|mask| mask.get(data::VALUE)).map(<[u8]>::to_vec);
                let plain =
                    attrs.nest(5).and_then(|xor| xor.get(data::VALUE)).is_some_and(|xor| xor.iter().all(|b| *b == 0));
                match (&mut self.held, mask) {
                    (Some(held), Some(mask)) if plain && held.mask.is_none() => held.mask = Some(mask),
                    _ => self.unknown("bits of a field"),
                }
            }
            "cmp" => {
                let with = attrs.nest(3).and_then(|with| with.get(data::VALUE)).unwrap_or_default();
                let not = match attrs.be32(2).map(|op| op as i32) {
                    Some(libc::NFT_CMP_EQ) => Some(false),
                    Some(libc::NFT_CMP_NEQ) => Some(true),
                    _ => None,
                };
                let condition = self.held.take().zip(not).and_then(|(held, not)| self.compared(&held, with, not));
                self.push(condition, "a comparison");
            }
            "lookup" => {
                let condition = self.looked_up(attrs)?;
                self.push(condition, "a set");
            }
            "match" => {
                let condition = match attrs.str(1) {
                    Some("comment") => return Ok(()),
                    Some("conntrack") => attrs.get(3).and_then(states),
                    _ => None,
                };
                let what = format!("a match of iptables ({})", attrs.str(1).unwrap_or("?"));
                self.push(condition, &what);
            }
            "immediate" if attrs.be32(1) == Some(libc::NFT_REG_VERDICT as u32) => {
                self.rule.then = verdict(attrs).unwrap_or(Then::Unknown);
            }
            "reject" => self.rule.then = Then::Reject,
            "target" => {
                self.rule.then = match attrs.str(1) {
                    Some("REJECT") => Then::Reject,
                    Some("LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TCPMSS" | "CT" | "TRACE" | "CHECKSUM") => {
                        Then::Nothing
                    }
                    _ => Then::Unknown,
                };
            }
            "immediate" | "rt" | "exthdr" | "byteorder" | "objref" | "quota" | "tproxy" | "dynset" => {
                self.unknown(&format!("an expression of kind {name}"));
            }
            "nat" | "masq" | "redir" | "queue" | "dup" | "fwd" => self.rule.then = Then::Unknown,
            other => self.unknown(&format!("an expression of kind {other}")),
        }
        Ok(())
    }

    fn load(&mut self, into: Option<u32>, load: Option<Load>, what: &str) {
        let first = into == Some(register(0)) || into == Some(libc::NFT_REG32_00 as u32);
        match load.filter(|_| first && self.held.is_none()) {
            Some(load) => self.held = Some(Held { load, mask: None }),
            None => {
                self.held = None;
                self.unknown(what);
            }
        }
    }

    fn unknown(&mut self, what: &str) {
        self.rule.conditions.push(Condition::Unknown(what.to_owned()));
    }

    fn push(&mut self, condition: Option<Condition>, what: &str) {
        match condition {
            Some(condition) => self.rule.conditions.push(condition),
            // Whatever was loaded for it was said to be unknown already.
            None if matches!(self.rule.conditions.last(), Some(Condition::Unknown(_))) => {}
            None => self.unknown(what),
        }
    }

    fn compared(&self, held: &Held, with: &[u8], not: bool) -> Option<Condition> {
        let number = || Some(u32::from_ne_bytes(with.try_into().ok()?));
        Some(match (held.load, &held.mask) {
            (Load::LinkName(side), None) => Condition::Link(side, vec![named(with, not)]),
            (Load::LinkIndex(side), None) => {
                let name = self.links.get(&number()?)?.to_string();
                Condition::Link(side, vec![Pattern { name, prefix: false, not }])
            }
            (Load::Family, None) if !not => match *with.first()? {
                IPV4 => Condition::V6(false),
                IPV6 => Condition::V6(true),
                _ => return None,
            },
            (Load::Proto, None) => Condition::Proto(*with.first()?, not),
            (Load::Icmp, None) => Condition::Icmp(vec![*with.first()?], not),
            (Load::Port(side), None) => {
                let port = u16::from_be_bytes(with.try_into().ok()?);
                Condition::Port(side, port, port, not)
            }
            (Load::Addr(side, family, _), mask) => {
                let ones =
                    mask.as_ref().map_or(with.len() as u32 * 8, |mask| mask.iter().map(|b| b.count_ones()).sum());
                Condition::Addr(side, block(family, with, ones)?, not)
            }
            (Load::CtState, Some(mask)) if not && with.iter().all(|byte| *byte == 0) => {
                Condition::Ct(u32::from_ne_bytes(mask.as_slice().try_into().ok()?))
            }
            (Load::CtState, None) if !not => Condition::Ct(number()?),
            _ => return None,
        })
    }

    fn looked_up(&mut self, attrs: Attrs<'_>) -> Result<Option<Condition>, Refused> {
        let not = attrs.be32(5).unwrap_or_default() & libc::NFT_LOOKUP_F_INV as u32 != 0;
        let verdicts = attrs.be32(3).is_some();
        let (Some(held), Some(set)) = (self.held.take(), attrs.str(1)) else { return Ok(None) };
        if verdicts {
            // A verdict map may do anything.
            self.rule.then = Then::Unknown;
            return Ok(None);
        }
        let condition = match (held.load, held.mask) {
            (Load::LinkName(side), None) if !not => {
                let names = self.nft.names(self.family, self.table, set)?;
                let patterns = names.into_iter().map(|name| Pattern { name, prefix: false, not: false });
                Some(Condition::Link(side, patterns.collect()))
            }
            (Load::Icmp, None) => {
                let types = self.values(set)?.iter().filter_map(|value| value.first().copied()).collect();
                Some(Condition::Icmp(types, not))
            }
            (Load::CtState, None) if !not => {
                let values = self.values(set)?;
                let bits =
                    values.iter().filter_map(|value| Some(u32::from_ne_bytes(value.as_slice().try_into().ok()?)));
                Some(Condition::Ct(bits.fold(0, |all, bit| all | bit)))
            }
            _ => None,
        };
        Ok(condition)
    }

    /// The keys of a set without ranges.
    fn values(&mut self, set: &str) -> Result<Vec<Vec<u8>>, Refused> {
        let mut attrs = Writer::default();
        attrs.str(element::TABLE, self.table).str(element::SET, set);
        let messages = self.nft.list_of(GETSETELEM, self.family, &attrs)?;
        let elements = messages.iter().filter_map(|message| body(message).nest(element::ELEMENTS)).flatten();
        let keys = elements.filter_map(|(_, element)| Attrs(element).nest(element::KEY)?.get(data::VALUE));
        Ok(keys.map(<[u8]>::to_vec).collect())
    }
}

fn meta(key: i32) -> Option<Load> {
    Some(match key {
        libc::NFT_META_IIFNAME => Load::LinkName(Side::From),
        libc::NFT_META_OIFNAME => Load::LinkName(Side::To),
        libc::NFT_META_IIF => Load::LinkIndex(Side::From),
        libc::NFT_META_OIF => Load::LinkIndex(Side::To),
        libc::NFT_META_NFPROTO => Load::Family,
        libc::NFT_META_L4PROTO => Load::Proto,
        _ => return None,
    })
}

/// A field of a header: base, offset and length. In a table of both families nobody can tell an address of one from the other's
/// bytes but by the check before it, so only lengths that are one's own are taken there.
fn payload([base, offset, len]: [u32; 3], family: u8) -> Option<Load> {
    let (network, transport) = (libc::NFT_PAYLOAD_NETWORK_HEADER as u32, libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32);
    let length = len as usize;
    Some(match (base, offset) {
        (at, 0) if at == transport && len == 2 => Load::Port(Side::From),
        (at, 2) if at == transport && len == 2 => Load::Port(Side::To),
        (at, 0) if at == transport && len == 1 => Load::Icmp,
        (at, 9) if at == network && len == 1 && family == IPV4 => Load::Proto,
        (at, 12) if at == network && len <= 4 && family != IPV6 => Load::Addr(Side::From, IPV4, length),
        (at, 16) if at == network && len <= 4 && family != IPV6 => Load::Addr(Side::To, IPV4, length),
        (at, 8) if at == network && len <= 16 && family != IPV4 => Load::Addr(Side::From, IPV6, length),
        (at, 24) if at == network && len <= 16 && family != IPV4 => Load::Addr(Side::To, IPV6, length),
        _ => return None,
    })
}

fn block(family: u8, bytes: &[u8], ones: u32) -> Option<IpNet> {
    let ones = u8::try_from(ones).ok()?;
    let addr: IpAddr = if family == IPV4 {
        let mut whole = [0; 4];
        whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Ipv4Addr::from(whole).into()
    } else {
        let mut whole = [0; 16];
        whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Ipv6Addr::from(whole).into()
    };
    IpNet::new(addr, ones).ok()
}

/// The states that `-m conntrack --ctstate` names, where it asks for nothing else.
fn states(info: &[u8]) -> Option<Condition> {
    let half = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
    (half(XT_FLAGS)? == XT_STATE && half(XT_FLAGS + 2)? == 0).then_some(())?;
    Some(Condition::Ct(half(XT_STATES)?.into()))
}

fn verdict(attrs: Attrs<'_>) -> Option<Then> {
    let verdict = attrs.nest(2)?.nest(data::VERDICT)?;
    let chain = || verdict.str(data::CHAIN).map(str::to_owned);
    Some(match verdict.be32(data::CODE)? as i32 {
        libc::NF_ACCEPT => Then::Accept,
        libc::NF_DROP => Then::Drop,
        libc::NFT_RETURN => Then::Return,
        libc::NFT_JUMP => Then::Jump(chain()?),
        libc::NFT_GOTO => Then::Goto(chain()?),
        // `NFT_CONTINUE`
        -1 => Then::Nothing,
        _ => return None,
    })
}
