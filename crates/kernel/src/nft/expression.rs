//! Expressions of a rule, for the kernel: the same ones that nft makes of the same words, so that it shows those words.

use super::numbers::{FAMILY_INET, data, rule};
use super::value;
use crate::attr::Writer;
use plan::nft::{CtState, Expr, Family, Field, Rule, Value};
use plan::world::Proto;

/// The first register, by its old name; the next sixteen bytes are 2, 3 and 4.
const FIRST: u32 = libc::NFT_REG_1 as u32;
const VERDICT: u32 = libc::NFT_REG_VERDICT as u32;
const EQUAL: u32 = libc::NFT_CMP_EQ as u32;
const UNEQUAL: u32 = libc::NFT_CMP_NEQ as u32;

/// Bits of conntrack's states (`NF_CT_STATE_BIT`) and of its status (`IPS_DST_NAT`).
pub(super) const INVALID: u32 = 1;
pub(super) const ESTABLISHED: u32 = 2;
pub(super) const RELATED: u32 = 4;
pub(super) const NEW: u32 = 8;
pub(super) const INVALID_NEW: u32 = INVALID | NEW;
pub(super) const ASSURED: u32 = 4;
pub(super) const SRC_NAT: u32 = 16;
pub(super) const DST_NAT: u32 = 32;
/// The first byte of the host's own addresses (RFC 1122 §3.2.1.3).
pub(super) const LOOPBACK4: u8 = 127;
/// Where the flags of TCP are (RFC 9293 §3.1): base, offset, length; and some of them.
pub(super) const TCP_FLAGS: (u32, u32, u32) = (libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32, 13, 1);
pub(super) const FIN_SYN_RST_ACK: u8 = 0x17;
pub(super) const SYN_RST: u8 = 6;
pub(super) const SYN: u8 = 2;
/// `NFT_REJECT_TCP_RST`
pub(super) const TCP_RESET: u32 = 1;
/// `RTN_LOCAL`
pub(super) const LOCAL: u32 = 2;
/// Numbers of the families of addresses in `meta nfproto`, and in `meta protocol` of a frame: IPv4, IPv6, ARP.
pub(super) const FAMILIES: [(u8, u16); 3] = [(2, 0x0800), (10, 0x86dd), (3, 0x0806)];

/// A field in a header.
pub(super) struct Place {
    pub base: u32,
    pub offset: u32,
    pub len: u32,
    pub field: Field,
}

const fn place(base: libc::c_int, offset: u32, len: u32, field: Field) -> Place {
    Place { base: base as u32, offset, len, field }
}

pub(super) const PLACES: [Place; 12] = [
    place(libc::NFT_PAYLOAD_NETWORK_HEADER, 12, 4, Field::Saddr4),
    place(libc::NFT_PAYLOAD_NETWORK_HEADER, 16, 4, Field::Daddr4),
    place(libc::NFT_PAYLOAD_NETWORK_HEADER, 8, 16, Field::Saddr6),
    place(libc::NFT_PAYLOAD_NETWORK_HEADER, 24, 16, Field::Daddr6),
    place(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, Field::Sport),
    place(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, Field::Dport),
    place(libc::NFT_PAYLOAD_LL_HEADER, 6, 6, Field::EtherSaddr),
    place(libc::NFT_PAYLOAD_LL_HEADER, 12, 2, Field::EtherType),
    place(libc::NFT_PAYLOAD_NETWORK_HEADER, 8, 6, Field::ArpEther),
    place(libc::NFT_PAYLOAD_NETWORK_HEADER, 14, 4, Field::ArpSaddr4),
    place(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, Field::Icmp6Type),
    place(libc::NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16, Field::NdTarget),
];

/// `NFT_RT_TCPMSS`: the largest segment that the route takes.
pub(super) const ROUTE_MSS: u32 = 3;
/// TCP's option for the largest segment (RFC 9293 §3.2), and where in it the number stands.
pub(super) const MAXSEG: u8 = 2;
pub(super) const MAXSEG_AT: u32 = 2;
pub(super) const MAXSEG_LEN: u32 = 2;
/// `NFT_EXTHDR_OP_TCPOPT`
pub(super) const TCP_OPTION: u32 = 1;
/// `NFT_BYTEORDER_HTON`
pub(super) const TO_NETWORK_ORDER: u32 = 1;

pub(super) const METAS: [(u32, Field); 4] = [
    (libc::NFT_META_IIFNAME as u32, Field::Iif),
    (libc::NFT_META_OIFNAME as u32, Field::Oif),
    (libc::NFT_META_L4PROTO as u32, Field::L4Proto),
    (libc::NFT_META_NFPROTO as u32, Field::NfProto),
];

/// The family of addresses that must be checked before a field is read in a table of this family, as its place in `FAMILIES`.
pub(super) fn family_of(table: Family, field: Field) -> Option<usize> {
    match field {
        Field::Saddr4 | Field::Daddr4 => Some(0),
        Field::Saddr6 | Field::Daddr6 => Some(1),
        // In a table of both families nft is content with the check of the protocol.
        Field::Icmp6Type | Field::NdTarget => (table == Family::Bridge).then_some(1),
        Field::ArpEther | Field::ArpSaddr4 => Some(2),
        _ => None,
    }
}

/// Where in a transport header its checksum is (RFC 768, RFC 9293); `None` for SCTP, whose checksum is of another kind.
pub(super) fn checksum_of(proto: Proto) -> Option<u32> {
    match proto {
        Proto::Udp => Some(6),
        Proto::Tcp => Some(16),
        Proto::Sctp => None,
    }
}

/// The name of the register that starts so many words after the first (`nft_dump_register`).
pub(super) fn register(word: u32) -> u32 {
    if word.is_multiple_of(4) { FIRST + word / 4 } else { libc::NFT_REG32_00 as u32 + word }
}

/// All of a rule's expressions, as the list that `NFTA_RULE_EXPRESSIONS` holds.
pub(super) fn list(family: Family, rule: &Rule) -> Writer {
    let mut rule_out = RuleOut { out: Writer::default(), family, checked: [false; 3] };
    for expr in &rule.body {
        rule_out.put(expr);
    }
    rule_out.out
}

struct RuleOut {
    out: Writer,
    family: Family,
    /// Is it known by now that the packet is of this family? Reading an address presumes it, and nft adds the check
    /// in front of the first one and does not show it.
    checked: [bool; 3],
}

impl RuleOut {
    fn put(&mut self, expr: &Expr) {
        match expr {
            Expr::Is { field, not, value } => {
                self.load(&[*field]);
                self.compare(*not, &value::ends(value).0);
            }
            Expr::In { fields, not, set } => {
                self.load(fields);
                self.look_up(set, None, *not);
            }
            Expr::Ct(state) => {
                let bits = match state {
                    CtState::Invalid => INVALID,
                    CtState::Established => ESTABLISHED,
                    CtState::Related => RELATED,
                    CtState::New => NEW,
                    CtState::InvalidNew => INVALID_NEW,
                };
                self.load_ct(libc::NFT_CT_STATE, FIRST, None);
                self.any_bit_of(bits, true);
            }
            Expr::CtAssured | Expr::CtTranslated => {
                self.load_ct(libc::NFT_CT_STATUS, FIRST, None);
                self.any_bit_of(if *expr == Expr::CtAssured { ASSURED } else { SRC_NAT | DST_NAT }, true);
            }
            Expr::Loopback4(field) => {
                let Some(place) = PLACES.iter().find(|place| place.field == *field) else { return };
                if let Some(family) = family_of(self.family, *field) {
                    self.check_family(family);
                }
                self.expression("payload", |e| {
                    e.be32(1, FIRST).be32(2, place.base).be32(3, place.offset).be32(4, 1);
                });
                self.compare(false, &[LOOPBACK4]);
            }
            Expr::CtDnat { not } => {
                self.load_ct(libc::NFT_CT_STATUS, FIRST, None);
                self.any_bit_of(DST_NAT, !not);
            }
            Expr::TcpNotFirst => {
                let (base, offset, len) = TCP_FLAGS;
                self.expression("payload", |e| {
                    e.be32(1, FIRST).be32(2, base).be32(3, offset).be32(4, len);
                });
                self.mask(&[FIN_SYN_RST_ACK]);
                self.compare(true, &[SYN]);
            }
            Expr::FibDaddrLocal => {
                self.expression("fib", |e| {
                    // NFTA_FIB_DREG, NFTA_FIB_RESULT = address type, NFTA_FIB_FLAGS = by destination
                    e.be32(1, FIRST).be32(2, 3).be32(3, 2);
                });
                self.compare(false, &LOCAL.to_ne_bytes());
            }
            Expr::Counter => self.expression("counter", |e| {
                e.bytes(1, &0u64.to_be_bytes()).bytes(2, &0u64.to_be_bytes());
            }),
            Expr::Dnat { v6, fields, map, port } => {
                self.load(fields);
                self.look_up(map, Some(FIRST), false);
                let (family, words) = if *v6 { (FAMILIES[1].0, 4) } else { (FAMILIES[0].0, 1) };
                self.expression("nat", |e| {
                    // NFTA_NAT_TYPE = destination, FAMILY, REG_ADDR_MIN, REG_PROTO_MIN
                    e.be32(1, 1).be32(2, family.into()).be32(3, FIRST);
                    if *port {
                        e.be32(5, register(words));
                    }
                });
            }
            Expr::DnatPort { fields, map } => {
                self.load(fields);
                self.look_up(map, Some(FIRST), false);
                self.expression("nat", |e| {
                    // NFTA_NAT_TYPE = destination, FAMILY, REG_PROTO_MIN
                    e.be32(1, 1).be32(2, FAMILY_INET.into()).be32(5, FIRST);
                });
            }
            Expr::Snat { v6, fields, map } => {
                self.load(fields);
                self.look_up(map, Some(FIRST), false);
                let family = FAMILIES[usize::from(*v6)].0;
                self.expression("nat", |e| {
                    // NFTA_NAT_TYPE = source, FAMILY, REG_ADDR_MIN
                    e.be32(1, 0).be32(2, family.into()).be32(3, FIRST);
                });
            }
            Expr::Masquerade => self.expression("masq", |_| {}),
            Expr::TcpOpens => {
                let (base, offset, len) = TCP_FLAGS;
                self.expression("payload", |e| {
                    e.be32(1, FIRST).be32(2, base).be32(3, offset).be32(4, len);
                });
                self.mask(&[SYN_RST]);
                self.compare(false, &[SYN]);
            }
            Expr::ClampMss => {
                // NFTA_RT_DREG, KEY
                self.expression("rt", |e| {
                    e.be32(1, FIRST).be32(2, ROUTE_MSS);
                });
                // NFTA_BYTEORDER_SREG, DREG, OP, LEN, SIZE
                self.expression("byteorder", |e| {
                    e.be32(1, FIRST).be32(2, FIRST).be32(3, TO_NETWORK_ORDER).be32(4, MAXSEG_LEN).be32(5, MAXSEG_LEN);
                });
                // NFTA_EXTHDR_TYPE, OFFSET, LEN, OP, SREG
                self.expression("exthdr", |e| {
                    e.bytes(2, &[MAXSEG]).be32(3, MAXSEG_AT).be32(4, MAXSEG_LEN).be32(6, TCP_OPTION).be32(7, FIRST);
                });
            }
            // NFTA_REJECT_TYPE
            Expr::Reset => self.expression("reject", |e| {
                e.be32(1, TCP_RESET);
            }),
            Expr::Vmap { fields, map } => {
                self.load(fields);
                self.look_up(map, Some(VERDICT), false);
            }
            Expr::Verdict(verdict) => self.expression("immediate", |e| {
                e.be32(1, VERDICT).nest(2, |e| value::put_verdict(e, verdict));
            }),
            Expr::SetPort { proto, field, port } => {
                self.expression("immediate", |e| {
                    e.be32(1, FIRST).nest(2, |e| {
                        e.bytes(data::VALUE, &port.to_be_bytes());
                    });
                });
                let Some((place, checksum)) = PLACES.iter().find(|p| p.field == *field).zip(checksum_of(*proto)) else {
                    return;
                };
                self.expression("payload", |e| {
                    // NFTA_PAYLOAD_BASE, OFFSET, LEN, SREG, CSUM_TYPE = internet checksum, CSUM_OFFSET
                    e.be32(2, place.base).be32(3, place.offset).be32(4, place.len).be32(5, FIRST);
                    e.be32(6, libc::NFT_PAYLOAD_CSUM_INET as u32).be32(7, checksum);
                });
            }
            // Never wished for: it only stands for what was seen.
            Expr::Foreign(_) => {}
        }
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Writer)) {
        self.out.nest(super::numbers::LIST_ELEMENT, |out| {
            out.str(rule::EXPR_NAME, name).nest(rule::EXPR_DATA, fill);
        });
    }

    /// Fields one after the other into registers, as a concatenation lies there.
    fn load(&mut self, fields: &[Field]) {
        for field in fields {
            if let Some(family) = family_of(self.family, *field) {
                self.check_family(family);
            }
        }
        let mut word = 0;
        for field in fields {
            self.load_one(*field, register(word));
            word += value::of_field(*field).map_or(1, |kind| value::of(kind).1.div_ceil(4) as u32);
        }
    }

    fn check_family(&mut self, family: usize) {
        if self.checked[family] {
            return;
        }
        self.checked[family] = true;
        let (nfproto, protocol) = FAMILIES[family];
        match self.family {
            Family::Inet => {
                self.load_meta(libc::NFT_META_NFPROTO as u32, FIRST);
                self.compare(false, &[nfproto]);
            }
            Family::Bridge => {
                self.load_meta(libc::NFT_META_PROTOCOL as u32, FIRST);
                self.compare(false, &protocol.to_be_bytes());
            }
        }
    }

    fn load_one(&mut self, field: Field, register: u32) {
        if let Some((key, _)) = METAS.iter().find(|(_, f)| *f == field) {
            self.load_meta(*key, register);
        } else if let Some(place) = PLACES.iter().find(|place| place.field == field) {
            self.expression("payload", |e| {
                e.be32(1, register).be32(2, place.base).be32(3, place.offset).be32(4, place.len);
            });
        } else {
            // The one that is left is `ct original proto-dst`.
            self.load_ct(libc::NFT_CT_PROTO_DST, register, Some(0));
        }
    }

    fn load_meta(&mut self, key: u32, register: u32) {
        self.expression("meta", |e| {
            e.be32(1, register).be32(2, key);
        });
    }

    fn load_ct(&mut self, key: libc::c_int, register: u32, direction: Option<u8>) {
        self.expression("ct", |e| {
            e.be32(1, register).be32(2, key as u32);
            if let Some(direction) = direction {
                e.bytes(3, &[direction]);
            }
        });
    }

    fn compare(&mut self, not: bool, with: &[u8]) {
        self.expression("cmp", |e| {
            e.be32(1, FIRST).be32(2, if not { UNEQUAL } else { EQUAL });
            e.nest(3, |e| {
                e.bytes(data::VALUE, with);
            });
        });
    }

    fn any_bit_of(&mut self, bits: u32, any: bool) {
        self.mask(&bits.to_ne_bytes());
        self.compare(any, &0u32.to_ne_bytes());
    }

    /// Only these bits of the first register stay.
    fn mask(&mut self, bits: &[u8]) {
        self.expression("bitwise", |e| {
            // NFTA_BITWISE_SREG, DREG, LEN, MASK, XOR
            e.be32(1, FIRST).be32(2, FIRST).be32(3, bits.len() as u32);
            e.nest(4, |e| {
                e.bytes(data::VALUE, bits);
            });
            e.nest(5, |e| {
                e.bytes(data::VALUE, &vec![0; bits.len()]);
            });
        });
    }

    fn look_up(&mut self, set: &str, into: Option<u32>, not: bool) {
        self.expression("lookup", |e| {
            e.str(1, set).be32(2, FIRST);
            if let Some(into) = into {
                e.be32(3, into);
            }
            if not {
                e.be32(5, libc::NFT_LOOKUP_F_INV as u32);
            }
        });
    }
}

/// The value of a field that has no type of its own among keys: `meta nfproto`, a byte.
pub(super) fn read_value(field: Field, bytes: &[u8]) -> Option<Value> {
    match value::of_field(field) {
        Some(kind) => value::read(kind, bytes, bytes),
        None => Some(Value::Proto(*bytes.first()?)),
    }
}
