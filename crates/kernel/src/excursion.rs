//! Short ways of a thread into other network namespaces, to make a socket there.

use crate::visitor::{OWN, enter};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// `SIOCGSKNS` (linux/sockios.h)
const NAMESPACE_OF_SOCKET: libc::Ioctl = 0x894c;

/// The way home of the thread that made it.
#[derive(Debug)]
pub struct Excursion {
    home: OwnedFd,
}

impl Excursion {
    /// From the calling thread's namespace; only this thread may use it.
    ///
    /// # Errors
    /// Without `/proc`.
    pub fn new() -> io::Result<Excursion> {
        Ok(Excursion { home: File::open(OWN)?.into() })
    }

    /// What `job` does inside a namespace. Sockets made there belong to it for good.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN over the namespace; else what `job` failed with.
    pub fn within<T>(&self, namespace: BorrowedFd<'_>, job: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        enter(namespace)?;
        let done = job();
        // It led here, so it leads back: only memory can be short, and nothing else may be done from the wrong place.
        while let Err(err) = enter(self.home.as_fd()) {
            tracing::error!(%err, "return from a network namespace");
            std::thread::sleep(Duration::from_millis(10));
        }
        done
    }
}

/// The namespace that a socket is of.
///
/// # Errors
/// Without CAP_NET_ADMIN in it.
pub fn namespace_of(socket: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: the request takes no argument; it answers with a new descriptor, or a negative number.
    let fd = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), NAMESPACE_OF_SOCKET) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
