//! The small first process of a container (`--init`): starts the program, hands signals on to it, reaps orphans, and ends
//! as the program ended.
//!
//! `berth-init [--] PROGRAM [ARGUMENT…]`. The container has no libraries for it, so it is built static:
//! `cargo rustc --release -p init --bin berth-init -- -C target-feature=+crt-static`.

/// What the kernel offers and std does not.
mod signals;

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// The shell's codes, which container engines use for the same.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
const USAGE: u8 = 125;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--") {
        arguments.remove(0);
    }
    let Some((program, arguments)) = arguments.split_first() else {
        eprintln!("usage: berth-init [--] PROGRAM [ARGUMENT...]");
        return ExitCode::from(USAGE);
    };
    match run(program, arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("berth-init: {}: {error}", program.display());
            ExitCode::from(match error.kind() {
                ErrorKind::NotFound => NOT_FOUND,
                ErrorKind::PermissionDenied => NOT_EXECUTABLE,
                _ => USAGE,
            })
        }
    }
}

/// The code with which the program ended; 128 and the signal's number if it was one.
fn run(program: &OsString, arguments: &[OsString]) -> io::Result<u8> {
    // Before there is a child: not one signal may be missed.
    let held = signals::hold()?;
    let mut command = Command::new(program);
    // A group of its own, so that the terminal's Ctrl-C reaches it once and not again through us.
    command.args(arguments).process_group(0);
    signals::prepare(&mut command, &held);
    let child = i32::try_from(command.spawn()?.id()).map_err(io::Error::other)?;
    loop {
        match signals::next(&held)? {
            libc::SIGCHLD => {
                // One signal may stand for many.
                while let Some((pid, code)) = signals::reap()? {
                    if pid == child {
                        return Ok(code);
                    }
                }
            }
            signal => signals::send(child, signal)?,
        }
    }
}
