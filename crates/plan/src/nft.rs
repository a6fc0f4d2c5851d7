//! A ruleset as data: every rule and every element with its reason.
//!
//! The forms here are the closed list of what berth's tables are made of; the `kernel` room turns each into nftables
//! expressions and back, so that a table read from the kernel is the same type as a table that is wished for.

use crate::ids::{IfName, Mac, Short};
use crate::world::Proto;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The families of nftables that berth uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6 together.
    Inet,
    /// Frames on a bridge.
    Bridge,
}

/// A table is known by its family and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
}

impl TableName {
    /// `table inet berth`.
    pub fn inet() -> TableName {
        TableName { family: Family::Inet, name: "berth".into() }
    }
    /// `table bridge berth`.
    pub fn bridge() -> TableName {
        TableName { family: Family::Bridge, name: "berth".into() }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::Inet => "inet",
            Family::Bridge => "bridge",
        };
        write!(f, "{family} {}", self.name)
    }
}

/// Who asked for a thing, in the form that fits into a label in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The engine itself: fixed rules, forwarding.
    Engine,
    /// A network.
    Network(Short),
    /// An endpoint.
    Endpoint(Short),
    /// A sandbox.
    Sandbox(Short),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Engine => f.write_str("engine"),
            Owner::Network(id) => write!(f, "net {id}"),
            Owner::Endpoint(id) => write!(f, "ep {id}"),
            Owner::Sandbox(id) => write!(f, "sb {id}"),
        }
    }
}

impl FromStr for Owner {
    type Err = crate::ids::BadName;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.split_once(' ') {
            None if s == "engine" => Ok(Owner::Engine),
            Some(("net", id)) => Ok(Owner::Network(id.parse()?)),
            Some(("ep", id)) => Ok(Owner::Endpoint(id.parse()?)),
            Some(("sb", id)) => Ok(Owner::Sandbox(id.parse()?)),
            _ => Err(crate::ids::BadName {
                value: s.into(),
                kind: "owner",
                rule: "`engine`, or `net`, `ep`, `sb` and a short id",
            }),
        }
    }
}

/// Why a thing is there: words for people, and whose it is. In the kernel it reads `words [owner]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Why {
    /// For people, in the user's own words where there are any: `web: -p 8080:80`.
    pub text: String,
    /// Whose it is.
    pub owner: Owner,
}

/// The longest comment that nftables' own tool accepts, in bytes (`NFT_USERDATA` comments, nft(8)).
pub const COMMENT_MAX: usize = 128;

impl Why {
    /// A reason. Words that would not fit into a comment of nftables are cut at a character's border, so that
    /// what is wished for and what the kernel shows are always the same.
    pub fn new(text: impl Into<String>, owner: Owner) -> Why {
        let mut text: String = text.into();
        text.retain(|c| !c.is_control() && c != '"');
        let room = COMMENT_MAX - 4 - owner.to_string().len();
        while text.len() > room {
            text.pop();
        }
        Why { text, owner }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.text, self.owner)
    }
}

impl FromStr for Why {
    type Err = crate::ids::BadName;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let bad =
            || crate::ids::BadName { value: s.into(), kind: "reason", rule: "words and then an owner in brackets" };
        let (text, owner) = s.strip_suffix(']').and_then(|s| s.rsplit_once(" [")).ok_or_else(bad)?;
        Ok(Why { text: text.into(), owner: owner.parse()? })
    }
}

/// A whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
}

/// Where the kernel enters a base chain (linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Before the routing decision.
    Prerouting,
    /// To the host itself.
    Input,
    /// Through the host.
    Forward,
    /// From the host itself.
    Output,
    /// After routing.
    Postrouting,
}

/// What a base chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChainType {
    /// Accept and drop.
    Filter,
    /// Address translation: sees the first packet of each flow.
    Nat,
}

/// The place of a base chain. Its policy is always accept: an engine must not decide for strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// What it is for.
    pub kind: ChainType,
    /// Where the kernel enters it.
    pub hook: Hook,
    /// Lower runs earlier (`NF_IP_PRI_*` of linux/netfilter_ipv4.h).
    pub priority: i32,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Entered by the kernel; `None` is entered by jumps only.
    pub base: Option<Base>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// One rule: all of its expressions must match for the next to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Conditions, then what to do.
    pub body: Vec<Expr>,
    /// Why it is there.
    pub why: Why,
}

/// What of a packet is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// `meta iifname`
    Iif,
    /// `meta oifname`
    Oif,
    /// `ip saddr` (implies IPv4: a table of family inet checks the family first)
    Saddr4,
    /// `ip daddr`
    Daddr4,
    /// `ip6 saddr`
    Saddr6,
    /// `ip6 daddr`
    Daddr6,
    /// `meta l4proto`
    L4Proto,
    /// `th sport`: the first two bytes of the transport header
    Sport,
    /// `th dport`
    Dport,
    /// `meta nfproto`: 2 is IPv4, 10 is IPv6
    NfProto,
    /// `ct original proto-dst`: the port before translation
    CtOriginalDport,
    /// `ether saddr`, of a frame on a bridge
    EtherSaddr,
    /// `ether type`, which is that of a VLAN tag where there is one, also when the kernel has taken the tag off
    EtherType,
    /// `arp saddr ether`: the Ethernet address that an ARP message says its sender has (RFC 826)
    ArpEther,
    /// `arp saddr ip`: the IPv4 address that an ARP message says its sender has
    ArpSaddr4,
    /// `icmpv6 type` (implies IPv6; `meta l4proto` is to be checked before)
    Icmp6Type,
    /// `icmpv6 taddr`: the address that a neighbour advertisement is about (RFC 4861 §4.4); its type is to be checked before
    NdTarget,
}

/// Bits of `ct state` (nf_conntrack; the numbers of `NF_CT_STATE_BIT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CtState {
    /// `invalid`
    Invalid,
    /// `established`
    Established,
    /// `related`: the first packet of a flow that another one announced, or an error about a flow
    Related,
    /// `new`
    New,
    /// `invalid,new`
    InvalidNew,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Leave this base chain; others go on.
    Accept,
    /// Gone.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Into another chain and back.
    Jump(String),
}

/// One expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// `FIELD == VALUE` or `FIELD != VALUE`.
    Is {
        /// What is looked at.
        field: Field,
        /// `!=` instead of `==`.
        not: bool,
        /// Compared with; never a range.
        value: Value,
    },
    /// `FIELD . FIELD … @SET`, or `!= @SET`.
    In {
        /// What is looked at, in the order of the set's key.
        fields: Vec<Field>,
        /// Not in the set.
        not: bool,
        /// The set's name.
        set: String,
    },
    /// `ct state …`: any of its bits.
    Ct(CtState),
    /// `ct status dnat`, or its absence.
    CtDnat {
        /// Only packets of flows that were *not* translated.
        not: bool,
    },
    /// `tcp flags != syn / fin,syn,rst,ack`: not what begins a connection; that it is TCP is to be checked before.
    TcpNotFirst,
    /// `ct status assured`: the flow has seen answers, and TCP's opening is over (`IPS_ASSURED`).
    CtAssured,
    /// `ct status snat,dnat`: an address of the flow is translated.
    CtTranslated,
    /// `FIELD 127.0.0.0/8`, of `ip saddr` or `ip daddr`: one byte is compared, which costs less than a set.
    Loopback4(Field),
    /// `fib daddr type local`: the destination is an address of the host.
    FibDaddrLocal,
    /// Count packets and bytes; the numbers are no part of the value.
    Counter,
    /// `dnat ip to FIELD . FIELD … map @MAP` (`ip6` with v6); the map's data is address, or address and port.
    Dnat {
        /// IPv6.
        v6: bool,
        /// Looked up, in the order of the map's key.
        fields: Vec<Field>,
        /// The map's name.
        map: String,
        /// The map's data holds a port too.
        port: bool,
    },
    /// `dnat to :FIELD . FIELD … map @MAP`: the address stays, and the map's data is another port of it. nft reads it only
    /// after a check of the transport protocol.
    DnatPort {
        /// Looked up, in the order of the map's key.
        fields: Vec<Field>,
        /// The map's name.
        map: String,
    },
    /// `snat ip to FIELD map @MAP` (`ip6` with v6); the map's data is an address.
    Snat {
        /// IPv6.
        v6: bool,
        /// Looked up.
        fields: Vec<Field>,
        /// The map's name.
        map: String,
    },
    /// `masquerade`
    Masquerade,
    /// `tcp flags syn / syn,rst`: the packet that opens a connection, or the answer to it (RFC 9293); `meta l4proto` is to be
    /// checked before.
    TcpOpens,
    /// `tcp option maxseg size set rt mtu`: segments as large as the narrower of the ways to both ends takes, and never larger
    /// than asked for (RFC 9293 §3.7.1). In a forward chain only.
    ClampMss,
    /// `reject with tcp reset`: gone, and the sender is told; that it is TCP is to be checked before.
    Reset,
    /// `FIELD . FIELD … vmap @MAP`
    Vmap {
        /// Looked up.
        fields: Vec<Field>,
        /// The verdict map's name.
        map: String,
    },
    /// `udp dport set PORT`: write a port into the packet, with its checksum. `proto` is TCP or UDP and was checked before; the
    /// field is `Sport` or `Dport`.
    SetPort {
        /// Whose header it is.
        proto: Proto,
        /// Which port.
        field: Field,
        /// The new one.
        port: u16,
    },
    /// The end of the rule.
    Verdict(Verdict),
    /// What the kernel showed and this list does not know: somebody else's hand. Never wished for.
    Foreign(String),
}

/// The type of one part of a key or of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Type {
    /// `ifname`
    IfName,
    /// `ipv4_addr`
    Addr4,
    /// `ipv6_addr`
    Addr6,
    /// `inet_proto`
    Proto,
    /// `inet_service`
    Port,
    /// `ether_addr`
    Mac,
    /// `ether_type`
    EtherType,
}

/// What a map answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataType {
    /// Parts, concatenated.
    Parts(Vec<Type>),
    /// A verdict.
    Verdict,
}

/// A set, or a map if it has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The key's parts, concatenated.
    pub key: Vec<Type>,
    /// What it answers with; `None` is a set.
    pub data: Option<DataType>,
    /// Keys may hold ranges.
    pub interval: bool,
    /// By key.
    pub elements: BTreeMap<Key, Element>,
}

/// A key: one value for each part.
pub type Key = Vec<Value>;

/// An element's value and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// What a map answers with.
    pub data: Option<Data>,
    /// Why it is there.
    pub why: Why,
}

/// What a map's element answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Parts, concatenated.
    Parts(Vec<Value>),
    /// A verdict.
    Verdict(Verdict),
}

/// One part of a key or of data. The range forms only stand in sets with `interval`, and never with equal ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// An interface.
    IfName(IfName),
    /// An IPv4 address.
    Addr4(Ipv4Addr),
    /// From, to, both included.
    Range4(Ipv4Addr, Ipv4Addr),
    /// An IPv6 address.
    Addr6(Ipv6Addr),
    /// From, to, both included.
    Range6(Ipv6Addr, Ipv6Addr),
    /// A transport protocol's number: 6 is TCP, 17 UDP, 132 SCTP.
    Proto(u8),
    /// A port.
    Port(u16),
    /// From, to, both included.
    PortRange(u16, u16),
    /// An Ethernet address.
    Mac(Mac),
    /// What a frame holds (`ETH_P_*`, linux/if_ether.h).
    EtherType(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_survives_the_kernel() {
        let owner = Owner::Endpoint("0123456789ab".parse().unwrap());
        for text in ["web: -p 8080:80", "brackets [in] it", "", "ünïcode"] {
            let why = Why::new(text, owner);
            assert_eq!(why.to_string().parse::<Why>().unwrap(), why);
        }
        let long = Why::new("é".repeat(300), owner);
        assert!(long.to_string().len() <= COMMENT_MAX);
        assert_eq!(long.to_string().parse::<Why>().unwrap(), long);
        assert_eq!(Why::new("a\"b\nc", owner).text, "abc");
    }
}
