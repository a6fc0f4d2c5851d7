//! Tables of nftables, from `plan::nft` to the kernel and back (linux/netfilter/nf_tables.h).
//!
//! In reading order:

/// A transaction in the making.
mod batch;
/// Expressions of a rule, for the kernel.
mod expression;
/// Numbers of linux/netfilter/nf_tables.h and of nft's own notes in user data.
mod numbers;
/// Others' chains with all that can be read of them.
mod others;
/// Rules as the kernel shows them.
mod read_rule;
/// Sets and elements as the kernel shows them.
mod read_set;
/// The socket: replaces tables, changes elements, reads tables.
mod socket;
/// Others' chains that refuse forwarded packets.
mod strangers;
/// Keys, data and comments as bytes.
mod value;

pub(crate) use numbers::{NEWGEN, SUBSYSTEM};
pub(crate) use socket::Nft;
