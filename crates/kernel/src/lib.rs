//! Hands and eyes for the network: netlink, nftables, sysctl, network namespaces. Blocking.
//!
//! In reading order:

/// The host's namespace and its sandboxes: carries out operations.
mod host;
pub use host::Host;
/// What did not work when the hands were made ready.
mod fault;
pub use fault::Fault;
/// Addresses: adding, removing and reading them.
mod address;
/// What others made around our network.
mod around;
/// Netlink attributes, written and read.
mod attr;
/// Short ways of a thread into other network namespaces.
mod excursion;
pub use excursion::{Excursion, namespace_of};
/// Many datagrams by one call.
pub mod batch;
/// Tracked flows: finding and forgetting them.
pub mod conntrack;
/// Datagrams whose address of the host is known and chosen.
pub mod datagram;
/// Facts about the host that decisions need.
pub mod facts;
/// The older firewall of `iptables-legacy`, read only.
mod legacy;
/// Links: making, changing and reading them.
mod link;
/// The resolver's sockets in sandboxes.
mod listeners;
pub use listeners::{Door, Listeners};
/// By what marks our things in the kernel are known as ours.
pub mod marks;
/// Tables of nftables, from `plan::nft` to the kernel and back.
mod nft;
/// Sees all that is ours.
mod observe;
/// One real question over the network.
pub mod probe;
/// Routes: adding, removing and reading them.
mod route;
/// A conversation with the kernel about links, addresses and routes.
mod rtnetlink;
/// What passes a stranger's chain.
mod sieve;
/// All that a packet may meet on the host.
mod sight;
/// Netlink sockets: requests, answers, dumps, batches.
mod socket;
/// Pinned network namespaces and what is kept open in each.
mod spaces;
/// Settings under `/proc/sys/net`.
mod sysctl;
/// A thread that goes into other namespaces and comes back.
mod visitor;
/// Sockets that wait for somebody.
pub mod waiting;
/// Says when something in the host's network moved.
pub mod watch;
