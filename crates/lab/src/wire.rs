use crate::floor::index;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// An interface taken hold of below every protocol (packet(7)): sends frames as they are given, and hears those that the
/// interface is given by others, from the moment that this was made.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// The interface of this name in the calling thread's network namespace.
    pub(crate) fn open(link: &str) -> io::Result<Wire> {
        let flags = SocketFlags::CLOEXEC;
        // Without a protocol it hears nothing before it is bound to its interface.
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        // SAFETY: all of its members are numbers, for which zero is a value.
        let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        addr.sll_family = libc::AF_PACKET as u16;
        addr.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        addr.sll_ifindex = index(link)? as i32;
        let length = size_of_val(&addr) as libc::socklen_t;
        // SAFETY: `addr` lives through the call, and its true size is passed with it.
        match unsafe { libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), length) } {
            0 => Ok(Wire { socket }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// The kernel's, for instance when the interface is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        rustix::net::send(&self.socket, frame, SendFlags::empty())?;
        Ok(())
    }

    /// All frames that have been heard since the last call, and those of the next moments. A VLAN tag on the outside of a
    /// frame is not shown: the kernel has taken it off.
    ///
    /// # Errors
    /// The kernel's, for instance when the interface is gone.
    pub fn heard(&self, patience: Duration) -> io::Result<Vec<Vec<u8>>> {
        let started = Instant::now();
        let mut frames = Vec::new();
        loop {
            let left = patience.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Ok(frames);
            }
            sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, Some(left))?;
            let mut buffer = [0; 65536];
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((count, _)) => frames.push(buffer[..count].to_vec()),
                Err(rustix::io::Errno::AGAIN) => return Ok(frames),
                Err(err) => return Err(err.into()),
            }
        }
    }
}
