//! The one command: `berth daemon` is the engine, everything else talks to one.

#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;

fn main() -> ExitCode {
    let args = old_spelling(env::args_os().skip(1).collect());
    if args.first().is_some_and(|first| first == "daemon") {
        cli::leave_the_terminal_if_in_background();
    }
    let mut command = whole();
    let all = std::iter::once(OsString::from("berth")).chain(args.iter().cloned());
    let matches = match command.try_get_matches_from_mut(all) {
        Ok(matches) => matches,
        Err(error) => return cli::misused(&command, &error, &args),
    };
    match matches.subcommand() {
        Some(("daemon", matches)) => daemon::run(matches),
        Some(("completion", matches)) => completion(matches),
        Some(("man", matches)) => man(matches),
        _ => cli::run(&matches),
    }
}

/// The whole command line: what help, completions and man pages are made from.
fn whole() -> Command {
    cli::command().subcommands([
        daemon::command(),
        Command::new("completion")
            .about("Print the completions of this command line for a shell")
            .override_usage("berth completion SHELL")
            .arg(Arg::new("shell").required(true).value_parser(value_parser!(Shell)).value_name("SHELL")),
        Command::new("man").about("Write the manual pages into a directory").override_usage("berth man DIR").arg(
            Arg::new("dir")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::DirPath)
                .value_name("DIR"),
        ),
    ])
}

/// `berth -d …` is how Docker's first years spelled `berth daemon …`; `-D` (debug) may stand before the `-d`.
fn old_spelling(args: Vec<OsString>) -> Vec<OsString> {
    let is = |at: usize, flag: &str| args.get(at).is_some_and(|arg| arg == flag);
    let daemon = || std::iter::once(OsString::from("daemon"));
    let debug = || std::iter::once(OsString::from("-D"));
    match () {
        () if is(0, "-d") || is(0, "--daemon") => daemon().chain(args.into_iter().skip(1)).collect(),
        () if is(0, "-D") && is(1, "-d") => daemon().chain(debug()).chain(args.into_iter().skip(2)).collect(),
        () if is(0, "-dD") || is(0, "-Dd") => daemon().chain(debug()).chain(args.into_iter().skip(1)).collect(),
        () => args,
    }
}

fn completion(matches: &ArgMatches) -> ExitCode {
    if let Some(&shell) = matches.get_one::<Shell>("shell") {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut whole(), "berth", &mut script);
        // A reader that needs no more of it (`| head`) is no fault of ours.
        let _ = io::stdout().write_all(&script);
    }
    ExitCode::SUCCESS
}

fn man(matches: &ArgMatches) -> ExitCode {
    let Some(dir) = matches.get_one::<PathBuf>("dir") else {
        return ExitCode::FAILURE;
    };
    let written = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(whole(), dir));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("berth: write the manual pages into {}: {err}", dir.display());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_spelling_of_daemon() {
        for (given, wanted) in [
            (&["-d", "--icc=false"][..], &["daemon", "--icc=false"][..]),
            (&["-D", "-d", "-b", "br0"], &["daemon", "-D", "-b", "br0"]),
            (&["-dD"], &["daemon", "-D"]),
            (&["-D", "run", "-d", "x"], &["-D", "run", "-d", "x"]),
            (&["run", "-d", "x"], &["run", "-d", "x"]),
            (&[], &[]),
        ] {
            let words = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
            assert_eq!(old_spelling(words(given)), words(wanted));
        }
    }

    #[test]
    fn the_definitions_are_sound() {
        whole().debug_assert();
    }
}
