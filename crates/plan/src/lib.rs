//! Decides. No IO, no async, no clock, no randomness.
//!
//! Facts are recorded (`world`); each request changes them (`decide`); the wished-for network is computed from them
//! (`desired`), and so is the difference to the real one (`diff`), which is then carried out (`apply`).
//!
//! In reading order:
#![forbid(unsafe_code)]

/// Names that are valid once they are built.
pub mod ids;

/// The recorded facts: what users asked for and what was chosen for them.
pub mod world;

/// Every choice: a request and what is known of the host, and the change of the facts that grants it, or a refusal.
pub mod decide;

/// Which address and which subnet are free.
pub mod ipam;

/// Which ports of the host are published, and for whom.
pub mod ports;

/// What the engine itself relays to published ports.
pub mod relay;

/// Sockets that wait for whoever comes.
pub mod listener;

/// A host's network as a value, and the operations on it.
pub mod netstate;

/// What each operation does, cascades and refusals included.
pub mod step;

/// A firewall's rules, sets and maps as data.
pub mod nft;

/// What a table takes and what it refuses.
pub mod elements;

/// The wished-for firewall: constant rules, and elements that follow the facts.
pub mod firewall;
/// Who may send what from a port of a bridge.
pub mod guard;
/// Where containers find the engine's resolver, and the firewall that leaves their port 53 to them.
pub mod stub;

/// The ways between containers of a network that keeps them apart: what links open.
mod links;

/// The network that the facts ask for.
pub mod desired;

/// Tracked flows that must not outlive what led them.
pub mod flows;

/// What must be done so that one network becomes another.
pub mod diff;

/// What is around our network on the host: what others made.
pub mod around;

/// What will not go well, though nothing was refused.
pub mod warnings;

/// Why one place reaches another, or does not.
pub mod explain;

/// Carrying out a plan, and the narrow door to the kernel.
pub mod apply;

/// A kernel that is nothing but the model.
pub mod fake;

/// The texts by which a container finds names: `hosts`, `resolv.conf`.
pub mod names;

/// The variables by which a container finds what it is linked to.
pub mod variables;

/// The DNS: who knows which name, and who is asked for the rest.
pub mod dns;

/// Invariants of the facts, as a function that lists what breaks them.
pub mod check;

/// A table as text, in the words of `nft list table`.
pub mod text;

mod merge;
