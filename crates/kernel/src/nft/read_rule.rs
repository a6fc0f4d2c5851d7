//! Rules as the kernel shows them: the expressions of `expression` folded into the words that they were made of.
//!
//! Whatever else stands there becomes `Expr::Foreign`, so that a rule which somebody changed never equals one of ours.

use super::batch::{HOOKS, chain_type};
use super::expression::{
    self, ASSURED, DST_NAT, ESTABLISHED, FAMILIES, FIN_SYN_RST_ACK, INVALID, INVALID_NEW, LOCAL, LOOPBACK4, METAS, NEW,
    PLACES, Place, RELATED, SRC_NAT, SYN, TCP_FLAGS, TCP_RESET,
};
use super::numbers::{FAMILY_INET, chain, data, rule};
use super::value;
use crate::attr::Attrs;
use plan::nft::{Base, Chain, ChainType, CtState, Expr, Family, Field, Owner, Rule, Value, Why};
use plan::world::Proto;

/// A chain's name and place, without its rules.
pub(super) fn chain(attrs: Attrs<'_>) -> Option<(String, Chain)> {
    let name = attrs.str(chain::NAME)?.to_owned();
    let Some(hook) = attrs.nest(chain::HOOK) else { return Some((name, Chain { base: None, rules: Vec::new() })) };
    let accepts = attrs.be32(chain::POLICY) == Some(libc::NF_ACCEPT as u32);
    let kind = attrs.str(chain::TYPE).unwrap_or_default();
    let known = [ChainType::Filter, ChainType::Nat].into_iter().find(|known| chain_type(*known) == kind);
    let number = hook.be32(chain::HOOK_NUMBER).unwrap_or(u32::MAX);
    let base = known.zip(HOOKS.get(number as usize)).zip(hook.be32(chain::HOOK_PRIORITY));
    let base = base.map(|((kind, hook), priority)| Base { kind, hook: *hook, priority: priority as i32 });
    let rules = if accepts && base.is_some() {
        Vec::new()
    } else {
        let text = format!("type {kind} hook {number}, {}", if accepts { "policy accept" } else { "another policy" });
        vec![Rule { body: vec![Expr::Foreign(text)], why: Why { text: "foreign".into(), owner: Owner::Engine } }]
    };
    Some((name, Chain { base, rules }))
}

/// A rule and its chain's name.
pub(super) fn rule(family: Family, attrs: Attrs<'_>) -> Option<(String, Rule)> {
    let mut reader = Reader { family, ..Reader::default() };
    for (_, expression) in attrs.nest(rule::EXPRESSIONS).into_iter().flatten() {
        let expression = Attrs(expression);
        let name = expression.str(rule::EXPR_NAME).unwrap_or_default();
        let known = reader.take(name, Attrs(expression.get(rule::EXPR_DATA).unwrap_or_default()));
        if known.is_none() {
            reader.foreign(name);
        }
    }
    reader.flush();
    let why = value::read_comment(attrs.get(rule::USERDATA));
    Some((attrs.str(rule::CHAIN)?.to_owned(), Rule { body: reader.body, why }))
}

/// `NFTA_PAYLOAD_SREG`: the packet is written to.
const PAYLOAD_SREG: u16 = 5;

#[derive(Clone, Copy, PartialEq)]
enum Load {
    Field(Field),
    /// `meta protocol`, only as the hidden check of the family bridge.
    FrameProtocol,
    CtState,
    CtStatus,
    TcpFlags,
    /// Of an IPv4 address.
    FirstByte(Field),
    AddressType,
    /// In the host's byte order.
    RouteMss,
    /// In the network's.
    Maxseg,
}

struct Reader {
    family: Family,
    body: Vec<Expr>,
    /// What the registers hold, by the word that it starts at.
    loads: Vec<(u32, Load)>,
    mask: Option<Vec<u8>>,
    /// A map was looked up: its key's fields and its name.
    looked_up: Option<(Vec<Field>, String)>,
    /// A port lies in the first register, to be written into the packet.
    port: Option<u16>,
    checked: [bool; 3],
    /// A check of a frame's protocol that no address has used yet.
    frame: Option<usize>,
}

impl Default for Reader {
    fn default() -> Self {
        Reader {
            family: Family::Inet,
            body: Vec::new(),
            loads: Vec::new(),
            mask: None,
            looked_up: None,
            port: None,
            checked: [false; 3],
            frame: None,
        }
    }
}

impl Reader {
    fn foreign(&mut self, name: &str) {
        self.body.push(Expr::Foreign(format!("an expression of kind {name}")));
        (self.loads, self.mask, self.looked_up, self.port) = (Vec::new(), None, None, None);
    }

    /// What was begun and not finished is none of ours.
    fn flush(&mut self) {
        if !self.loads.is_empty() || self.looked_up.is_some() || self.frame.is_some() || self.port.is_some() {
            self.foreign("unfinished");
        }
    }

    /// One expression; `None` if it is not one that we would make here.
    fn take(&mut self, name: &str, attrs: Attrs<'_>) -> Option<()> {
        match name {
            "meta" => self.meta(attrs),
            "payload" if attrs.get(PAYLOAD_SREG).is_some() => self.write(attrs),
            "payload" => self.payload(attrs),
            "ct" => self.ct(attrs),
            "fib" => {
                // By destination, asking for the type of address, and nothing else.
                let ours = attrs.be32(2) == Some(3) && attrs.be32(3) == Some(2);
                self.load(attrs.be32(1)?, ours.then_some(Load::AddressType)?)
            }
            // NFTA_BYTEORDER_LEN: nft turns the bytes of a protocol's number around, which is one byte.
            "byteorder" if attrs.be32(4) == Some(1) => Some(()),
            "byteorder" => self.network_order(attrs),
            "rt" => self.load(attrs.be32(1)?, (attrs.be32(2)? == expression::ROUTE_MSS).then_some(Load::RouteMss)?),
            "exthdr" => self.set_option(attrs),
            "bitwise" => self.bitwise(attrs),
            "cmp" => self.compare(attrs),
            "lookup" => self.lookup(attrs),
            "nat" => self.nat(attrs),
            "immediate" if attrs.be32(1)? != libc::NFT_REG_VERDICT as u32 => {
                let port = attrs.nest(2)?.get(data::VALUE)?.try_into().ok()?;
                (word(attrs.be32(1)?) == Some(0) && self.loads.is_empty() && self.port.is_none()).then_some(())?;
                self.port = Some(u16::from_be_bytes(port));
                Some(())
            }
            _ => {
                let expr = match name {
                    "counter" => Expr::Counter,
                    // With flags or ports it is another's.
                    "masq" if attrs.into_iter().next().is_none() => Expr::Masquerade,
                    "reject" if attrs.be32(1)? == TCP_RESET => Expr::Reset,
                    "immediate" if attrs.be32(1)? == libc::NFT_REG_VERDICT as u32 => {
                        Expr::Verdict(value::read_verdict(attrs.nest(2)?)?)
                    }
                    _ => return None,
                };
                self.flush();
                self.body.push(expr);
                Some(())
            }
        }
    }

    fn load(&mut self, register: u32, load: Load) -> Option<()> {
        let word = word(register)?;
        // A new first register starts a new comparison; what was there before was never looked at.
        if word == 0 && !self.loads.is_empty() {
            return None;
        }
        self.loads.push((word, load));
        Some(())
    }

    fn meta(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let key = attrs.be32(2)?;
        let load = match METAS.iter().find(|(known, _)| *known == key) {
            Some((_, field)) => Load::Field(*field),
            None if key == libc::NFT_META_PROTOCOL as u32 && self.family == Family::Bridge => Load::FrameProtocol,
            None => return None,
        };
        self.load(attrs.be32(1)?, load)
    }

    fn payload(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let (base, offset, len) = (attrs.be32(2)?, attrs.be32(3)?, attrs.be32(4)?);
        if (base, offset, len) == TCP_FLAGS {
            return self.load(attrs.be32(1)?, Load::TcpFlags);
        }
        // Of an address, the first byte alone.
        let begins = |place: &&Place| {
            matches!(place.field, Field::Saddr4 | Field::Daddr4) && (place.base, place.offset, 1) == (base, offset, len)
        };
        let first = PLACES.iter().find(begins);
        let whole = || PLACES.iter().find(|place| (place.base, place.offset, place.len) == (base, offset, len));
        let place = first.or_else(whole)?;
        if let Some(family) = expression::family_of(self.family, place.field)
            && !self.checked[family]
        {
            self.fold_check(family)?;
        }
        let load = if first.is_some() { Load::FirstByte(place.field) } else { Load::Field(place.field) };
        self.load(attrs.be32(1)?, load)
    }

    fn write(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let place = (attrs.be32(2)?, attrs.be32(3)?, attrs.be32(4)?);
        let known = PLACES.iter().find(|known| (known.base, known.offset, known.len) == place)?;
        let inet = attrs.be32(6)? == libc::NFT_PAYLOAD_CSUM_INET as u32 && attrs.be32(8).unwrap_or_default() == 0;
        let checksum = attrs.be32(7);
        let proto = [Proto::Udp, Proto::Tcp].into_iter().find(|proto| expression::checksum_of(*proto) == checksum)?;
        let from_first = word(attrs.be32(PAYLOAD_SREG)?) == Some(0);
        (inet && from_first && matches!(known.field, Field::Sport | Field::Dport)).then_some(())?;
        let port = self.port.take()?;
        self.done(Expr::SetPort { proto, field: known.field, port })
    }

    /// The check in front of the first address of a family is a part of reading that address.
    fn fold_check(&mut self, family: usize) -> Option<()> {
        match self.family {
            Family::Inet => {
                let value = Value::Proto(FAMILIES[family].0);
                let check = Expr::Is { field: Field::NfProto, not: false, value };
                self.body.pop_if(|last| *last == check)?;
            }
            Family::Bridge => {
                self.frame.take_if(|frame| *frame == family)?;
            }
        }
        self.checked[family] = true;
        Some(())
    }

    fn ct(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let key = attrs.be32(2)? as i32;
        let load = match (key, attrs.get(3)) {
            (libc::NFT_CT_STATE, None) => Load::CtState,
            (libc::NFT_CT_STATUS, None) => Load::CtStatus,
            (libc::NFT_CT_PROTO_DST, Some([0])) => Load::Field(Field::CtOriginalDport),
            _ => return None,
        };
        self.load(attrs.be32(1)?, load)
    }

    fn network_order(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let in_place = word(attrs.be32(1)?) == Some(0) && word(attrs.be32(2)?) == Some(0);
        let op = (attrs.be32(3)?, attrs.be32(4)?, attrs.be32(5)?);
        let known = op == (expression::TO_NETWORK_ORDER, expression::MAXSEG_LEN, expression::MAXSEG_LEN);
        (in_place && known && self.loads == [(0, Load::RouteMss)]).then_some(())?;
        self.loads = vec![(0, Load::Maxseg)];
        Some(())
    }

    fn set_option(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let place = (attrs.get(2)?, attrs.be32(3)?, attrs.be32(4)?, attrs.be32(6)?);
        let known = (&[expression::MAXSEG][..], expression::MAXSEG_AT, expression::MAXSEG_LEN, expression::TCP_OPTION);
        let written = attrs.get(1).is_none() && word(attrs.be32(7)?) == Some(0);
        (place == known && written && self.loads == [(0, Load::Maxseg)]).then_some(())?;
        self.done(Expr::ClampMss)
    }

    fn bitwise(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let bits = |kind: u16| attrs.nest(kind)?.get(data::VALUE);
        let in_place = word(attrs.be32(1)?) == Some(0) && word(attrs.be32(2)?) == Some(0);
        // NFTA_BITWISE_OP: 0, or absent on old kernels, is mask and xor.
        let plain = attrs.be32(6).unwrap_or_default() == 0 && bits(5)?.iter().all(|byte| *byte == 0);
        let masked = matches!(self.loads[..], [(0, Load::CtState | Load::CtStatus | Load::TcpFlags)]);
        (in_place && plain && masked && self.mask.is_none()).then_some(())?;
        self.mask = Some(bits(4)?.to_vec());
        Some(())
    }

    fn compare(&mut self, attrs: Attrs<'_>) -> Option<()> {
        (word(attrs.be32(1)?)? == 0).then_some(())?;
        let not = match attrs.be32(2)? as i32 {
            libc::NFT_CMP_EQ => false,
            libc::NFT_CMP_NEQ => true,
            _ => return None,
        };
        let bytes = attrs.nest(3)?.get(data::VALUE)?;
        let number = bytes.try_into().ok().map(u32::from_ne_bytes);
        let &[(0, load)] = &self.loads[..] else { return None };
        let mask = self.mask.as_deref();
        let bits = mask.and_then(|mask| Some(u32::from_ne_bytes(mask.try_into().ok()?)));
        let expr = match (load, mask) {
            (Load::Field(field), None) => {
                let len = value::of_field(field).map_or(1, |kind| value::of(kind).1);
                (bytes.len() == len).then_some(())?;
                Expr::Is { field, not, value: expression::read_value(field, bytes)? }
            }
            (Load::FrameProtocol, None) => {
                let protocol = u16::from_be_bytes(bytes.try_into().ok()?);
                let family = FAMILIES.iter().position(|(_, known)| *known == protocol)?;
                (!not && !self.checked[family] && self.frame.is_none()).then_some(())?;
                self.frame = Some(family);
                self.loads.clear();
                return Some(());
            }
            (Load::AddressType, None) => (!not && number == Some(LOCAL)).then_some(Expr::FibDaddrLocal)?,
            (Load::TcpFlags, Some([expression::SYN_RST])) => (!not && bytes == [SYN]).then_some(Expr::TcpOpens)?,
            (Load::TcpFlags, Some([FIN_SYN_RST_ACK])) => (not && bytes == [SYN]).then_some(Expr::TcpNotFirst)?,
            (Load::CtState, Some(_)) => {
                (not && number == Some(0)).then_some(())?;
                Expr::Ct(match bits? {
                    INVALID => CtState::Invalid,
                    ESTABLISHED => CtState::Established,
                    RELATED => CtState::Related,
                    NEW => CtState::New,
                    INVALID_NEW => CtState::InvalidNew,
                    _ => return None,
                })
            }
            (Load::FirstByte(field), None) => (!not && bytes == [LOOPBACK4]).then_some(Expr::Loopback4(field))?,
            (Load::CtStatus, Some(_)) if bits == Some(ASSURED) => {
                (not && number == Some(0)).then_some(Expr::CtAssured)?
            }
            (Load::CtStatus, Some(_)) if bits == Some(SRC_NAT | DST_NAT) => {
                (not && number == Some(0)).then_some(Expr::CtTranslated)?
            }
            (Load::CtStatus, Some(_)) if bits == Some(DST_NAT) => {
                (number == Some(0)).then_some(Expr::CtDnat { not: !not })?
            }
            _ => return None,
        };
        self.done(expr)
    }

    fn done(&mut self, expr: Expr) -> Option<()> {
        (self.loads, self.mask) = (Vec::new(), None);
        // A frame's protocol that was checked for nothing is a condition of its own, and none of ours.
        self.frame.is_none().then_some(())?;
        self.body.push(expr);
        Some(())
    }

    fn lookup(&mut self, attrs: Attrs<'_>) -> Option<()> {
        (word(attrs.be32(2)?)? == 0 && self.mask.is_none() && !self.loads.is_empty()).then_some(())?;
        self.loads.sort_by_key(|(word, _)| *word);
        let mut next = 0;
        let mut fields = Vec::with_capacity(self.loads.len());
        for (word, load) in &self.loads {
            let Load::Field(field) = load else { return None };
            (*word == next).then_some(())?;
            next += value::of_field(*field).map_or(1, |kind| value::of(kind).1.div_ceil(4) as u32);
            fields.push(*field);
        }
        let set = attrs.str(1)?.to_owned();
        let not = attrs.be32(5).unwrap_or_default() & libc::NFT_LOOKUP_F_INV as u32 != 0;
        match attrs.be32(3) {
            None => self.done(Expr::In { fields, not, set }),
            Some(_) if not => None,
            Some(register) if register == libc::NFT_REG_VERDICT as u32 => self.done(Expr::Vmap { fields, map: set }),
            Some(register) => {
                (word(register)? == 0 && self.frame.is_none()).then_some(())?;
                (self.loads, self.mask) = (Vec::new(), None);
                self.looked_up = Some((fields, set));
                Some(())
            }
        }
    }

    fn nat(&mut self, attrs: Attrs<'_>) -> Option<()> {
        let (fields, map) = self.looked_up.take()?;
        let family = attrs.be32(2)?;
        let source = match attrs.be32(1)? {
            0 => true,
            1 => false,
            _ => return None,
        };
        (attrs.be32(7).unwrap_or_default() & !FLAGS_OF_VALUES == 0).then_some(())?;
        if !source && family == u32::from(FAMILY_INET) {
            let first = |kind: u16| attrs.be32(kind).is_none_or(|register| word(register) == Some(0));
            let port_alone = attrs.get(3).is_none() && attrs.get(4).is_none() && attrs.get(5).is_some();
            (port_alone && first(5) && first(6)).then_some(())?;
            self.body.push(Expr::DnatPort { fields, map });
            return Some(());
        }
        let (v6, words) = match family {
            2 => (false, 1),
            10 => (true, 4),
            _ => return None,
        };
        let register = |kind: u16| attrs.be32(kind).map(word);
        // The kernel shows the end of a range of one as well as its beginning.
        let one_address = register(3)?? == 0 && register(4).is_none_or(|end| end == Some(0));
        let port = register(5);
        let one_port = register(6).is_none_or(|end| Some(end) == port);
        let port_follows = port.is_none_or(|port| port == Some(words));
        (one_address && one_port && port_follows).then_some(())?;
        self.body.push(match (source, port) {
            (true, Some(_)) => return None,
            (true, None) => Expr::Snat { v6, fields, map },
            (false, port) => Expr::Dnat { v6, fields, map, port: port.is_some() },
        });
        Some(())
    }
}

/// `NF_NAT_RANGE_MAP_IPS` and `NF_NAT_RANGE_PROTO_SPECIFIED`, which the kernel sets where registers are given.
const FLAGS_OF_VALUES: u32 = 1 | 2;

/// How many words after the first one a register starts.
fn word(register: u32) -> Option<u32> {
    match register as i32 {
        libc::NFT_REG_1..=libc::NFT_REG_4 => Some((register - 1) * 4),
        libc::NFT_REG32_00..=libc::NFT_REG32_15 => Some(register - libc::NFT_REG32_00 as u32),
        _ => None,
    }
}
