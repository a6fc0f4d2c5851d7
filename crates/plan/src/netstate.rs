//! A host's network as a value, and what each operation does to it.

use crate::flows::Flows;
use crate::ids::{IfName, Mac, SandboxId};
use crate::nft::{Element, Key, Owner, Table, TableName, Why};
use crate::world::MacvlanMode;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// Which network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ns {
    /// The engine's own.
    Host,
    /// A sandbox's.
    Of(SandboxId),
}

impl fmt::Display for Ns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ns::Host => f.write_str("host"),
            Ns::Of(id) => write!(f, "sandbox {}", id.short()),
        }
    }
}

/// All that is ours in the kernel's network: what is wished for, or what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetState {
    /// The host is always there.
    pub spaces: BTreeMap<Ns, Space>,
}

/// One namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Links of ours, and `lo` of a sandbox.
    pub links: BTreeMap<IfName, Link>,
    /// Routes of ours; those which the kernel makes for an address are not listed.
    pub routes: BTreeSet<Route>,
    /// Families whose forwarding is on. Switched on where wished, and never off: others may rely on it.
    pub forwarding: BTreeSet<IpFamily>,
    /// Tables of ours, but for the one that `resolver` stands for.
    pub tables: BTreeMap<TableName, Table>,
    /// Whether the engine's resolver can be asked from here; only in sandboxes.
    pub resolver: Resolver,
}

/// Whether a sandbox has what its containers need to ask the engine's resolver: our sockets and the table of [`crate::stub`].
///
/// One word for both, and not that table among the others: it is always the same, and comparing a thousand of them in each
/// round would cost more than a start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolver {
    /// It has neither.
    #[default]
    Absent,
    /// It has one of the two, or not quite. Never wished for.
    Broken,
    /// It has both.
    Ready,
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl IpFamily {
    /// An address's.
    pub fn of(addr: IpAddr) -> IpFamily {
        if addr.is_ipv4() { IpFamily::V4 } else { IpFamily::V6 }
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is.
    pub kind: LinkKind,
    /// Its Ethernet address; `None` for `lo`, and for a host's end of a pair, where it does not matter.
    pub mac: Option<Mac>,
    /// In bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// The bridge it is a port of.
    pub master: Option<IfName>,
    /// How that bridge treats it.
    pub port: BridgePort,
    /// Addresses with their prefix lengths; link-local ones that the kernel makes are not listed.
    pub addrs: BTreeSet<IpNet>,
    /// IPv6 is off on it (`net.ipv6.conf.IF.disable_ipv6`).
    pub no_ipv6: bool,
    /// Further settings that were asked for, by names such as `net.ipv4.conf.IFNAME.log_martians`, where `IFNAME` stands for its
    /// own. What is seen is what was set here, for nobody looks them up in each round.
    pub sysctls: BTreeMap<String, String>,
    /// Packets of the host's 127.0.0.0/8 may pass it (`net.ipv4.conf.IF.route_localnet`); looked at on bridges of ours only.
    pub route_localnet: bool,
    /// Whose it is; stands in the link's alias.
    pub owner: Owner,
}

/// How a bridge treats one of its ports. A link that becomes a port begins with none of it; a pair of ours is born with
/// `groups`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgePort {
    /// The bridge passes no frame between two ports that are so (`IFLA_BRPORT_ISOLATED`); each still reaches the bridge's own
    /// host.
    pub isolated: bool,
    /// The bridge may send a frame back to where it came from (`IFLA_BRPORT_MODE`).
    pub hairpin: bool,
    /// Frames for the group addresses that a bridge keeps to itself (IEEE 802.1D, table 7-10) are treated as all others
    /// (`IFLA_BRPORT_GROUP_FWD_MASK`). Otherwise no rule would see them: the bridge would learn from them whatever they say,
    /// and hand them to the host as frames of the port itself, an interface that nobody expects anything from.
    pub groups: bool,
}

/// What a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// `lo`
    Loopback,
    /// A bridge that we made.
    Bridge,
    /// A bridge that somebody else made and that a network of ours uses (`--bridge`): never made, never deleted.
    ForeignBridge,
    /// One end of a pair. The other end may be out of sight: then its namespace is not one of ours.
    Veth {
        /// Where the other end is and how it is called there.
        peer: Option<(Ns, IfName)>,
    },
    /// A VLAN of another interface of the host's (IEEE 802.1Q).
    Vlan {
        /// That interface; `None` if it is out of sight.
        of: Option<IfName>,
        /// The VLAN's number.
        id: u16,
    },
    /// A station on the segment of an interface of the host's, the parent; it goes with it.
    Macvlan {
        /// The parent; `None` if it is out of sight.
        parent: Option<IfName>,
        /// How it is with others of that parent; `None`: in a way of which berth makes none.
        mode: Option<MacvlanMode>,
    },
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub to: IpNet,
    /// The next hop; `None` is on the link itself.
    pub via: Option<IpAddr>,
    /// Out of which link.
    pub dev: IfName,
}

/// One change of one thing in the kernel. Nothing is left to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Make a namespace and pin it.
    AddSpace(SandboxId),
    /// Unpin a namespace. Its links go with it, and the other ends of its pairs.
    DelSpace(SandboxId),
    /// Make a bridge, down.
    AddBridge {
        /// Its name; in the host's namespace.
        name: IfName,
        /// Fixed, so that it does not change with its ports.
        mac: Mac,
        /// In bytes.
        mtu: u32,
        /// Whose.
        owner: Owner,
    },
    /// Make a pair: the host's end up and enslaved, the inner end born in its namespace, down.
    AddVeth {
        /// The host's end.
        host: IfName,
        /// The bridge to join.
        master: IfName,
        /// The inner end.
        inner: IfName,
        /// Where the inner end is born.
        into: SandboxId,
        /// Of the inner end.
        mac: Mac,
        /// Of both, in bytes.
        mtu: u32,
        /// Whose.
        owner: Owner,
    },
    /// Make a VLAN's interface, down.
    AddVlan {
        /// Its name; in the host's namespace.
        name: IfName,
        /// Of which interface there.
        of: IfName,
        /// The VLAN's number.
        id: u16,
        /// In bytes.
        mtu: u32,
        /// Whose.
        owner: Owner,
    },
    /// Make a station on the segment of an interface, born in its namespace, down.
    AddMacvlan {
        /// The interface, in the host's namespace.
        parent: IfName,
        /// How it is with others there.
        mode: MacvlanMode,
        /// The station's own name.
        inner: IfName,
        /// Where it is born.
        into: SandboxId,
        /// Its Ethernet address.
        mac: Mac,
        /// In bytes; no more than the parent's.
        mtu: u32,
        /// Whose.
        owner: Owner,
    },
    /// Delete a link, the other end of a pair with it, and the stations on its segment.
    DelLink {
        /// Where.
        ns: Ns,
        /// Which.
        name: IfName,
    },
    /// Make a link a port of a bridge.
    SetMaster {
        /// Which, in the host's namespace.
        name: IfName,
        /// The bridge, or `None` to leave it.
        master: Option<IfName>,
    },
    /// Change how its bridge treats a port.
    SetPort {
        /// Which, in the host's namespace.
        name: IfName,
        /// How.
        port: BridgePort,
    },
    /// Let packets of the host's 127.0.0.0/8 pass a bridge of ours, or not.
    SetRouteLocalnet {
        /// Which, in the host's namespace.
        name: IfName,
        /// Let them?
        on: bool,
    },
    /// Change the MTU.
    SetMtu {
        /// Where.
        ns: Ns,
        /// Which.
        name: IfName,
        /// In bytes.
        mtu: u32,
    },
    /// Change the Ethernet address.
    SetMac {
        /// Where.
        ns: Ns,
        /// Which.
        name: IfName,
        /// The new one.
        mac: Mac,
    },
    /// Switch a link's IPv6 off or on.
    SetNoIpv6 {
        /// Where.
        ns: Ns,
        /// Which.
        name: IfName,
        /// Off?
        off: bool,
    },
    /// Change further settings of a link.
    SetSysctls {
        /// Where.
        ns: Ns,
        /// Which.
        name: IfName,
        /// All of them.
        sysctls: BTreeMap<String, String>,
    },
    /// Up, or down.
    SetUp {
        /// Where.
        ns: Ns,
        /// Which.
        name: IfName,
        /// Up?
        up: bool,
    },
    /// Add an address.
    AddAddr {
        /// Where.
        ns: Ns,
        /// To which link.
        name: IfName,
        /// The address and its prefix length; IPv6 without duplicate address detection, for we know who has it.
        addr: IpNet,
    },
    /// Remove an address; routes that lean on it go with it.
    DelAddr {
        /// Where.
        ns: Ns,
        /// From which link.
        name: IfName,
        /// Which.
        addr: IpNet,
    },
    /// Add a route, in place of whatever leads to the same; its link must be up.
    AddRoute {
        /// Where.
        ns: Ns,
        /// Which.
        route: Route,
    },
    /// Remove a route.
    DelRoute {
        /// Where.
        ns: Ns,
        /// Which.
        route: Route,
    },
    /// Switch forwarding on (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`).
    SetForwarding {
        /// Where.
        ns: Ns,
        /// Of which family.
        family: IpFamily,
    },
    /// Put a whole table in place of what is there, in one transaction. Flows that are established live on.
    ReplaceTable {
        /// Where.
        ns: Ns,
        /// Which.
        name: TableName,
        /// All of it.
        table: Table,
    },
    /// Open the resolver's sockets in a sandbox and put its table in place of what is there; or take both away.
    SetResolver {
        /// Which sandbox.
        id: SandboxId,
        /// Is there to be one?
        on: bool,
    },
    /// Remove a table.
    DelTable {
        /// Where.
        ns: Ns,
        /// Which.
        name: TableName,
    },
    /// Change elements of a table's sets and maps, in one transaction: all or nothing.
    ChangeElements {
        /// Where.
        ns: Ns,
        /// Which table.
        table: TableName,
        /// In order; a delete never fails because the element is gone already.
        changes: Vec<ElementChange>,
    },
    /// Forget tracked flows of the host's namespace. Flows are no part of a `NetState`: they come and go by themselves.
    ForgetFlows(Vec<Flows>),
}

/// A change of one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementChange {
    /// The set or map.
    pub set: String,
    /// The element's key.
    pub key: Key,
    /// What to put there, in place of what is there; `None` takes it out.
    pub put: Option<Element>,
    /// Whose wish this is.
    pub owner: Owner,
}

/// One operation, whose it is and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub op: Op,
    /// Why.
    pub why: Why,
}

/// Steps in the order in which they must be done.
pub type Plan = Vec<Step>;

impl Default for NetState {
    fn default() -> Self {
        NetState { spaces: BTreeMap::from([(Ns::Host, Space::default())]) }
    }
}

/// Why an operation was refused: what the kernel would have answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Errno {
    /// `ENOENT`/`ENODEV`: the thing, or what it stands on, is not there.
    #[error("no such {0}")]
    Missing(String),
    /// `EEXIST`: it is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// `ENETDOWN`, `ENETUNREACH`: a route needs a link that is up and a next hop that is on a link.
    #[error("{0} is not reachable")]
    Unreachable(String),
    /// Anything else, in the kernel's own words (`NLMSGERR_ATTR_MSG` where it gives them).
    #[error("{text} (errno {errno})")]
    Kernel {
        /// The number.
        errno: i32,
        /// The kernel's extended message, or the number's usual text.
        text: String,
    },
}
