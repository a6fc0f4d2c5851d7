//! The engine: what listens on the socket and keeps containers, images and the network as they were asked for.
//!
//! In reading order:
#![forbid(unsafe_code)]

/// Flags and `daemon.json`.
pub mod config;
/// A container: what was asked for, what was chosen, and how it stands.
pub mod container;
/// Places at which a test can let the engine die.
mod crash;
/// Everything that can be asked of the engine.
pub mod engine;
/// What went wrong, and whose doing it was.
pub mod error;
/// What happened, for whoever listens.
pub mod events;
/// Forgets tracked flows that the rules no longer lead.
mod flows;
/// Published ports are held on the host.
mod held_ports;
/// The Engine API.
pub mod http;
/// What the engine says of itself.
pub mod info;
/// Reading containers' logs.
pub mod logs;
/// The one thread that owns the network.
pub mod network;
/// From a container as asked for to what an OCI runtime reads.
pub mod oci;
/// Relays what the kernel cannot forward to a container.
mod relay;
/// The one resolver of names.
mod resolver;
/// Files that are written while containers read them.
mod rewrite;
/// A container's root file system.
pub mod rootfs;
/// The filter of system calls.
pub mod seccomp;
/// From flags to a running engine, and to its end.
mod serve;
/// What a container consumes.
pub mod stats;
/// Where facts live.
pub mod store;
/// Talking to shims.
pub mod supervise;
/// Points in time as Docker writes and reads them.
pub mod time;
/// The processes of a container.
pub mod top;
/// Who a container runs as.
pub mod users;
/// Volumes, and what a container's mounts are on the host.
pub mod volumes;

use clap::ArgMatches;
use std::process::ExitCode;

/// The definition of `berth daemon`.
pub fn command() -> clap::Command {
    config::command()
}

/// Runs the engine until it is told to end.
pub fn run(matches: &ArgMatches) -> ExitCode {
    serve::run(matches)
}
