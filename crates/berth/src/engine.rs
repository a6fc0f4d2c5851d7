//! `berth daemon`, until the engine's crate defines its own command line.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

/// The definition of `berth daemon`.
pub fn command() -> Command {
    Command::new("daemon")
        .about("Run the engine in the foreground")
        .override_usage("berth daemon [OPTIONS]")
        .arg(Arg::new("args").num_args(0..).allow_hyphen_values(true).trailing_var_arg(true).hide(true))
}

/// Runs the engine.
pub fn run(_matches: &ArgMatches) -> ExitCode {
    eprintln!("berth: this build contains no engine");
    ExitCode::FAILURE
}
