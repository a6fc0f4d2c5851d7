//! The default OCI runtime: libcontainer behind the standard command line, plus what it lacks.
//!
//! Every sub-command is a short-lived process: it does its part and exits; the container's first process is left to the
//! caller's subreaper. What is added to libcontainer, and why, is said in the modules.

/// cgroup directories on v1, v2 and hybrid hosts.
mod cgroup;
/// What can be asked on the command line.
mod cli;
/// The one line that says what went wrong, and the log file.
mod complaint;
/// `create` and `start`.
mod create;
/// The device filter of cgroup v2, as an eBPF program.
mod devices;
/// `exec`.
mod exec;
/// The container's directories under `--root`, and what is remembered there.
mod house;
/// The last steps in the container before the program: filter, privileges, working directory, exec.
mod launch;
/// What the host's root may not do, found out before it fails half-way.
mod limits;
/// The program's path, found as a shell would.
mod lookup;
/// `state`, `kill`, `delete`, `pause`, `resume`, `update`, `ps`, `features`.
mod manage;
/// Seccomp profiles, compiled once and loaded raw.
mod seccomp;
/// The OCI configuration as libcontainer shall see it.
mod spec;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap knows which stream and code they want.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let log = complaint::Log::open(cli.log.as_deref(), cli.log_format, cli.debug);
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            log.last_word(&error);
            ExitCode::FAILURE
        }
    }
}
