//! Signals, waiting and the terminal: one system call at a time.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The signals that are held back and fetched by [`next`].
pub struct Held {
    now: libc::sigset_t,
    /// What was held back when we were started: the program shall find it so.
    before: libc::sigset_t,
}

/// What a fault of our own raises; held back, it would be raised without end. And what the terminal sends to who reads or
/// writes in the background: nothing to hand on.
const NOT_HELD: [i32; 9] = [
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGABRT,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Holds all signals back.
pub fn hold() -> io::Result<Held> {
    let mut now = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset and sigprocmask initialise the sets that they are given to write; an error of the latter is looked
    // at before its set is taken as initialised.
    unsafe {
        libc::sigfillset(now.as_mut_ptr());
        for signal in NOT_HELD {
            libc::sigdelset(now.as_mut_ptr(), signal);
        }
        match libc::sigprocmask(libc::SIG_SETMASK, now.as_ptr(), before.as_mut_ptr()) {
            0 => Ok(Held { now: now.assume_init(), before: before.assume_init() }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Waits for one that was held back.
pub fn next(held: &Held) -> io::Result<i32> {
    loop {
        // SAFETY: the set is initialised, and no further information is asked for.
        let signal = unsafe { libc::sigwaitinfo(&held.now, std::ptr::null_mut()) };
        if signal > 0 {
            return Ok(signal);
        }
        let error = io::Error::last_os_error();
        // Stopped and continued, or traced.
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Takes one ended child: its pid and its code. `None`: no more have ended.
pub fn reap() -> io::Result<Option<(i32, u8)>> {
    let mut status = 0;
    // SAFETY: `status` is a live integer that the call may write.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    match pid {
        0 => Ok(None),
        pid if pid > 0 => {
            let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
            Ok(Some((pid, u8::try_from(code).unwrap_or(u8::MAX))))
        }
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            error => Err(error),
        },
    }
}

/// Sends a signal to a child that has not been reaped, so that its pid is its own.
pub fn send(child: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill touches no memory of ours.
    let result = unsafe { libc::kill(child, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What the child does before the program runs: if there is a terminal, its group becomes the one that it serves; and
/// nothing is held back that was not before (std hands our mask down).
pub fn prepare(command: &mut Command, held: &Held) {
    let mask = held.before;
    let before = move || {
        // Somebody in the background who takes the terminal is stopped by SIGTTOU, unless he ignores it. It is the default
        // again for the program.
        // SAFETY: between fork and exec; all these calls are async-signal-safe (signal-safety(7)), and they only read the
        // mask, which is the closure's own.
        let (taken, error, unmasked) = unsafe {
            libc::signal(libc::SIGTTOU, libc::SIG_IGN);
            let taken = libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpgrp());
            let error = io::Error::last_os_error();
            libc::signal(libc::SIGTTOU, libc::SIG_DFL);
            (taken, error, libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut()))
        };
        if unmasked != 0 {
            return Err(io::Error::last_os_error());
        }
        // No terminal (ENXIO: of another container's), or not ours to control.
        match error.raw_os_error() {
            Some(libc::ENOTTY | libc::ENXIO | libc::EPERM | libc::EBADF) => Ok(()),
            _ if taken == 0 => Ok(()),
            _ => Err(error),
        }
    };
    // SAFETY: what runs between fork and exec is async-signal-safe, see there; errors carry a number and no memory.
    unsafe { command.pre_exec(before) };
}
