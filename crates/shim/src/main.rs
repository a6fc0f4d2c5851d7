//! One tiny process a container: subreaper, pty and stdio, log, exit code, exec.
//!
//! `berth-shim BUNDLE`; what it finds there and on its descriptors is written in the crate's library part. It has one thread
//! and one loop, asks nothing of the engine, and outlives it.

/// Sockets and their queues: one connection of the engine.
mod client;
/// A container's log in Docker's `json-file` form.
mod jsonfile;
/// The loop: everything that can happen, and what follows from it.
mod keeper;
/// The OCI runtime's command line, and its words when it fails.
mod oci;
/// Whether the kernel's out-of-memory killer was there.
mod oom;
/// Compressing logs that were rotated away.
mod pack;
/// What a shim makes of itself before it runs anything.
mod setup;
/// Times as Docker writes them.
mod stamp;
/// Standard streams of one process: pipes or a pseudo terminal.
mod stdio;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (bundle, log) = match (args.next(), args.next(), args.next()) {
        (Some(bundle), None, None) => (bundle, None),
        (Some(flag), Some(log), None) if flag == pack::FLAG => (flag, Some(PathBuf::from(log))),
        _ => {
            eprintln!("berth-shim: usage: berth-shim BUNDLE (started by berth's engine, not by hand)");
            return ExitCode::from(2);
        }
    };
    if let Some(log) = log {
        return match pack::pack(&log) {
            Ok(()) => ExitCode::SUCCESS,
            // The log lies there as it was.
            Err(_) => ExitCode::FAILURE,
        };
    }
    match setup::prepare(PathBuf::from(bundle)).and_then(|house| keeper::Keeper::new(house).run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berth-shim: {error}");
            ExitCode::FAILURE
        }
    }
}
