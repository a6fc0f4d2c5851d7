//! Decides. No IO, no async, no clock, no randomness.
//!
//! Facts are recorded (`world`); each request changes them (`decide`); the wished-for network is computed from them
//! (`desired`), and so is the difference to the real one (`diff`), which is then carried out (`apply`).
//!
//! In reading order:
#![forbid(unsafe_code)]

/// Carrying out a plan, and the narrow door to the kernel.
pub mod apply;
/// Invariants of the facts, as a function that lists what breaks them.
pub mod check;
/// Every choice: a request and what is known of the host, and the change of the facts that grants it, or a refusal.
pub mod decide;
/// The network that the facts ask for.
pub mod desired;
/// What must be done so that one network becomes another.
pub mod diff;
/// What a table takes and what it refuses.
pub mod elements;
/// A kernel that is nothing but the model.
pub mod fake;
/// The wished-for firewall: constant rules, and elements that follow the facts.
pub mod firewall;
/// Names that are valid once they are built.
pub mod ids;
/// Which address and which subnet are free.
pub mod ipam;
/// The texts by which a container finds names: `hosts`, `resolv.conf`.
pub mod names;
/// A host's network as a value, and the operations on it.
pub mod netstate;
/// A firewall's rules, sets and maps as data.
pub mod nft;
/// Which ports of the host are published, and for whom.
pub mod ports;
/// What each operation does, cascades and refusals included.
pub mod step;
/// A table as text, in the words of `nft list table`.
pub mod text;
/// The recorded facts: what users asked for and what was chosen for them.
pub mod world;

mod merge;
