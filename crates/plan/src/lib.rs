//! Decides. No IO, no async, no clock, no randomness.
//!
//! In reading order:
#![forbid(unsafe_code)]

/// Carrying out a plan, and the narrow door to the kernel.
pub mod apply;
/// Names that are valid once they are built.
pub mod ids;
/// A host's network as a value, and what each operation does to it.
pub mod netstate;
/// A firewall's rules, sets and maps as data.
pub mod nft;
/// The recorded facts: what users asked for and what was chosen for them.
pub mod world;
