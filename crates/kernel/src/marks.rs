//! By what marks our things in the kernel are known as ours. Whatever bears none of them is a stranger's.

use plan::nft::{Owner, TableName};

/// The group of every link of ours (`IFLA_GROUP`; the letters `bert`). It is set in the message that makes the link, so
/// that not even a crash at the wrong moment leaves a link which nobody recognises.
pub const LINK_GROUP: u32 = 0x6265_7274;

/// What stands before the owner in a link's alias (`IFLA_IFALIAS`).
pub const ALIAS: &str = "berth: ";

/// The protocol of every route of ours (`RTA_PROTOCOL`, rtnetlink(7)). Not in iproute2's `rt_protos`.
pub const ROUTE_PROTOCOL: u8 = 98;

/// The protocol of every address of ours (`IFA_PROTO`, Linux 5.18; the kernel itself uses 1 to 3).
pub const ADDRESS_PROTOCOL: u8 = 98;

/// Is this one of our tables?
pub fn table(name: &TableName) -> bool {
    name.name == TableName::inet().name
}

/// The alias of a link of this owner.
pub(crate) fn alias(owner: &Owner) -> String {
    format!("{ALIAS}{owner}")
}

/// The owner in an alias of ours.
pub(crate) fn owner(alias: &str) -> Option<Owner> {
    alias.strip_prefix(ALIAS)?.parse().ok()
}
