//! Signals as a program expects to find them.

use anyhow::bail;
use std::io;

/// Every signal does its default and none is blocked. Rust ignores SIGPIPE in its own programs, and whoever ran us may have
/// blocked some; both are inherited through exec(2), and a shell, for one, cannot undo the former (POSIX, "trap").
pub fn restore() -> anyhow::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is a valid disposition for every number; the kernel refuses those that have none to change
        // (SIGKILL, SIGSTOP, and the C library keeps two for itself), and then nothing is to be restored.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero sigset_t is a valid object for sigemptyset to fill; the calls get live pointers only.
    let failed = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()) != 0
    };
    if failed {
        bail!("unblocking signals: {}", io::Error::last_os_error());
    }
    Ok(())
}
