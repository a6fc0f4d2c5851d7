//! What is around our network on the host: what others made, and what may stand in its way.

use crate::ids::IfName;
use crate::ipam::Pool;
use crate::netstate::IpFamily;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A route with a shorter prefix than this, in bits, takes nothing: it is as good as a default route, or a half of one.
pub const NARROW: u8 = 7;

/// All of it, as it was looked at last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around {
    /// Where others' routes lead; default routes are left out.
    pub routes: BTreeSet<StrangersRoute>,
    /// Addresses of others' links.
    pub addrs: BTreeSet<(IfName, IpNet)>,
    /// Others' firewall chains that refuse what they do not know.
    pub refusing: BTreeSet<Refusing>,
    /// How many ports of each bridge are others'.
    pub ports: BTreeMap<IfName, usize>,
    /// Families whose forwarding is on.
    pub forwarding: BTreeSet<IpFamily>,
    /// From which blocks networks get their subnets.
    pub pools: Vec<Pool>,
}

/// A route that somebody else made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StrangersRoute {
    /// Where to.
    pub to: IpNet,
    /// Out of which link; `None` for several, and for refusals.
    pub dev: Option<IfName>,
}

/// A chain that the kernel enters for every forwarded packet, and that refuses what none of its rules let through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusing {
    /// Whose rules it holds.
    pub tool: Tool,
    /// `ip`, `ip6` or `inet`.
    pub family: Packets,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// What links packets may come in from, by rules of this chain or of chains that it leads to.
    pub lets_in: Vec<Pattern>,
    /// What links packets may go out of.
    pub lets_out: Vec<Pattern>,
}

/// Which of the kernel's two firewalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// nftables, also by way of today's `iptables` command.
    Nft,
    /// The older one, which only `iptables-legacy` can change.
    Legacy,
}

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Packets {
    /// `ip`
    V4,
    /// `ip6`
    V6,
    /// `inet`
    Both,
}

/// Which links a rule names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    /// A name, or the beginning of one.
    pub name: String,
    /// It is only the beginning: `br-*`.
    pub prefix: bool,
    /// All links but these.
    pub not: bool,
}

impl Pattern {
    /// Is this link among them?
    pub fn fits(&self, link: &IfName) -> bool {
        let named = if self.prefix { link.as_str().starts_with(&self.name) } else { link.as_str() == self.name };
        named != self.not
    }
}

impl Packets {
    /// Does such a table see packets of this family?
    pub fn has(self, family: IpFamily) -> bool {
        match self {
            Packets::V4 => family == IpFamily::V4,
            Packets::V6 => family == IpFamily::V6,
            Packets::Both => true,
        }
    }
}

impl fmt::Display for Packets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Packets::V4 => "ip",
            Packets::V6 => "ip6",
            Packets::Both => "inet",
        })
    }
}
