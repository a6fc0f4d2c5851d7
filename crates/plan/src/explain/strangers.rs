//! Others' firewalls, as much of them as can be understood.

use crate::around::{Pattern, Tool};
use crate::nft::Hook;
use ipnet::IpNet;
use std::collections::BTreeMap;

/// Somebody else's base chain, and the chains that it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Which of the kernel's two firewalls.
    pub tool: Tool,
    /// Which packets it sees.
    pub family: crate::around::Packets,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Where the kernel enters it.
    pub hook: Hook,
    /// Lower is asked earlier.
    pub priority: i32,
    /// It chooses translations, and is asked about a flow's first packet only.
    pub nat: bool,
    /// What none of its rules decides is dropped.
    pub drops: bool,
    /// All chains of its table.
    pub chains: BTreeMap<String, Vec<StrangersRule>>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StrangersRule {
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// What becomes of the packet then.
    pub then: Then,
}

/// What becomes of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// The next rule is looked at.
    #[default]
    Nothing,
    /// It leaves the base chain.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and the sender is told.
    Reject,
    /// Back to the calling chain.
    Return,
    /// Another chain, and back.
    Jump(String),
    /// Another chain, and not back.
    Goto(String),
    /// What cannot be read here.
    Unknown,
}

/// Which end of a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where it comes from.
    From,
    /// Where it goes to.
    To,
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// One of these links.
    Link(Side, Vec<Pattern>),
    /// An address in this block, or none of it.
    Addr(Side, IpNet, bool),
    /// The transport protocol, or any but it.
    Proto(u8, bool),
    /// A port of this range, or none of it.
    Port(Side, u16, u16, bool),
    /// A type of ICMP, or any but these.
    Icmp(Vec<u8>, bool),
    /// IPv6, or IPv4.
    V6(bool),
    /// Any of these states of connection tracking (`NF_CT_STATE_BIT`).
    Ct(u32),
    /// What cannot be read here, in the words of whoever reads the kernel's answer.
    Unknown(String),
}
