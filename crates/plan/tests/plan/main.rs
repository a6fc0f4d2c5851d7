//! The pure heart from outside: texts in and texts out, and properties over random worlds.

/// Random worlds, and networks that somebody has damaged.
mod chance;
/// Messages that a fuzzer found.
mod corpus;
/// The DNS: messages, and who is answered what.
mod dns;
/// Failures: who is stopped by what.
mod failures;
/// Facts that must never be.
mod faults;
/// Networks without a bridge.
mod macvlan;
/// What must hold of messages, whatever bytes they are.
#[path = "../../fuzz/src/lib.rs"]
mod messages;
/// What holds for every world.
mod properties;
/// Requests in, facts or refusals out.
mod requests;
/// The firewall's pages in `docs/rules`.
mod rules;
/// A small language for worlds.
mod scenario;
/// Networks in, steps out.
mod steps;
/// What is warned of.
mod warnings;
