//! The command line: Docker's grammar over the Engine API on a unix socket.
//!
//! [`command`] is the definition (help, completions and man pages come from it), [`run`] does what a parsed line
//! asks, [`misused`] explains a line that cannot be parsed.

#![forbid(unsafe_code)]

/// Every command, in one table, and what each does.
mod commands;
/// Whole commands against an engine of words.
#[cfg(test)]
mod conversation;
/// Credentials for registries, as Docker's client keeps them.
mod credentials;
/// Output of containers without a terminal, by stream.
mod demux;
/// The keys that leave a container running.
mod detach;
/// Where the engine listens, and starting it when nobody does.
mod engine;
/// What ends a command early, and its exit code.
mod failure;
/// How flags are defined and read.
mod flags;
/// What a malformed command line is told.
mod grammar;
/// Sizes and times as people read them.
mod human;
/// How values are written on the command line.
mod literal;
/// The order of names with numbers.
mod natural;
/// Writing to standard output and error.
mod printer;
/// Names of images as the API wants them.
mod reference;
/// Being attached to a container.
mod session;
/// The container that `run` and `create` describe.
mod spec;
/// Columns.
mod table;
/// Go templates.
mod template;
/// The user's terminal.
mod terminal;
/// HTTP over the engine's socket.
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use commands::{Ask, Leaf};
use engine::Address;
use failure::Failure;
use flags::Flags;
use wire::Wire;

pub use engine::leave_the_terminal_if_in_background;

/// The command line's definition.
pub fn command() -> Command {
    commands::command()
}

/// Does what a parsed command line asks; the exit code is the command's own, or the container's.
pub fn run(matches: &ArgMatches) -> ExitCode {
    match act(matches) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                printer::complain(&text);
            }
            if matches.on("debug") {
                let mut cause = std::error::Error::source(&failure);
                while let Some(why) = cause {
                    printer::complain(&format!("because: {why}"));
                    cause = why.source();
                }
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Explains a command line that clap refused (or the help that was asked for); `args` are the words behind the
/// program's name.
pub fn misused(root: &Command, error: &clap::Error, args: &[OsString]) -> ExitCode {
    let usage = grammar::explain(root, error, args);
    if usage.wanted {
        printer::line(&usage.text);
    } else {
        printer::complain(&usage.text);
    }
    ExitCode::from(usage.code)
}

/// The command that was chosen: its spelling, its line of the table, its flags. None if only a group was named.
fn chosen(matches: &ArgMatches) -> Option<(String, &'static Leaf, &ArgMatches)> {
    let (first, mut m) = matches.subcommand()?;
    let mut path = first.to_owned();
    if let Some((second, inner)) = m.subcommand() {
        path = format!("{path} {second}");
        m = inner;
    }
    let leaf = commands::find(&path)?;
    Some((path, leaf, m))
}

fn act(matches: &ArgMatches) -> Result<u8, Failure> {
    if matches.on("version") {
        printer::line(concat!("berth version ", env!("CARGO_PKG_VERSION")));
        return Ok(0);
    }
    if let Some(name) = matches.get("context").filter(|name| !matches!(*name, "" | "default")) {
        return Err(Failure::refused(format!(
            "berth: there is no context '{name}': name the engine with -H or BERTH_HOST"
        )));
    }
    let Some((path, leaf, m)) = chosen(matches) else {
        let mut command = command();
        command.build();
        let group = matches.subcommand_name().and_then(|name| command.find_subcommand_mut(name));
        let help = match group {
            Some(group) => group.render_help(),
            None => command.render_help(),
        };
        printer::out(&help.to_string());
        return Ok(0);
    };
    let args = commands::words(m);
    if let Some(usage) = grammar::arity(leaf, &format!("berth {path}"), args.len()) {
        return Err(Failure::Exit { text: usage.text, code: usage.code });
    }
    let variable = std::env::var("BERTH_HOST").ok();
    let address = Address::choose(&matches.all("host"), variable.as_deref())?;
    credentials::remember_directory(matches.get("config"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::io("start the event loop"))?;
    let wire = Wire::new(address);
    let ask = Ask { wire: &wire, m, args };
    let answer = runtime.block_on((leaf.act)(&ask));
    // A thread may still read our input; it must not hold us up.
    runtime.shutdown_background();
    answer
}
