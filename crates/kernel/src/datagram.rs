//! Datagrams whose address of the host is known and chosen (`IP_PKTINFO`, `IPV6_RECVPKTINFO`; ip(7), ipv6(7), RFC 3542 §6): who
//! answers from a socket of every address must answer from the one that was asked.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// Room for one control message, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Where a datagram came from and which address of the host it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Bytes; more than the buffer has room for are cut off.
    pub len: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// For which address and port.
    pub to: SocketAddr,
}

/// A UDP socket by which datagrams are received with the address that they were for, and answered from it.
#[derive(Debug)]
pub struct Datagrams<S> {
    socket: S,
    port: u16,
    v6: bool,
}

impl<S: AsFd> Datagrams<S> {
    /// From a bound UDP socket.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn of(socket: S) -> io::Result<Datagrams<S>> {
        let bound: SocketAddr = rustix::net::getsockname(&socket)?.try_into().map_err(io::Error::from)?;
        let (level, option) = match bound {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        let on: libc::c_int = 1;
        // Needs `unsafe`: rustix has neither option.
        // SAFETY: the value is a live c_int and its true size is passed with it; the descriptor is open.
        let done = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                level,
                option,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Datagrams { socket, port: bound.port(), v6: bound.is_ipv6() })
    }

    /// The socket.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// The next datagram.
    ///
    /// # Errors
    /// `WouldBlock` if there is none and the socket does not wait; what the kernel answered.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<Arrived> {
        let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let mut control = Control([0; 64]);
        let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        // SAFETY: all zeros is a valid msghdr: null pointers with lengths of zero.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = name.as_mut_ptr().cast();
        message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        // SAFETY: every pointer in the message is to a live buffer of the length that stands beside it.
        let len = unsafe { libc::recvmsg(self.socket.as_fd().as_raw_fd(), &raw mut message, 0) };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: zeroed is a valid sockaddr_storage, and the kernel has written an address over it.
        let name = unsafe { name.assume_init() };
        let from = address(&name).ok_or_else(|| io::Error::other("a datagram from no internet address"))?;
        let to = self.destination(&message).ok_or_else(|| io::Error::other("a datagram for no known address"))?;
        Ok(Arrived { len, from, to })
    }

    fn destination(&self, message: &libc::msghdr) -> Option<SocketAddr> {
        // SAFETY: the message and its control buffer are live, and the kernel has written the control messages and their
        // length; each macro looks at that length before it goes on.
        unsafe {
            let mut head = libc::CMSG_FIRSTHDR(message);
            while let Some(this) = head.as_ref() {
                let data = libc::CMSG_DATA(head);
                match (this.cmsg_level, this.cmsg_type) {
                    (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                        let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
                        let ip = Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr));
                        return Some(SocketAddr::from((ip, self.port)));
                    }
                    (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                        let info: libc::in6_pktinfo = data.cast::<libc::in6_pktinfo>().read_unaligned();
                        let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                        let link = if ip.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
                        return Some(SocketAddrV6::new(ip, self.port, 0, link).into());
                    }
                    _ => head = libc::CMSG_NXTHDR(message, head),
                }
            }
        }
        None
    }

    /// Sends a datagram from an address of the host; its port is the socket's own.
    ///
    /// # Errors
    /// What the kernel answered.
    pub fn send(&self, bytes: &[u8], from: SocketAddr, to: SocketAddr) -> io::Result<()> {
        let mut control = Control([0; 64]);
        let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let (name, name_len) = raw(to);
        // SAFETY: all zeros is a valid msghdr: null pointers with lengths of zero.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw const name).cast_mut().cast();
        message.msg_namelen = name_len;
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: the control buffer is aligned and longer than either control message; the header that is written lies
        // at its beginning, and the data behind it within it; the kernel only reads all of the message.
        let sent = unsafe {
            message.msg_controllen = control.0.len();
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            match from {
                SocketAddr::V4(from) if !self.v6 => {
                    let info = libc::in_pktinfo {
                        ipi_ifindex: 0,
                        ipi_spec_dst: libc::in_addr { s_addr: u32::from(*from.ip()).to_be() },
                        ipi_addr: libc::in_addr { s_addr: 0 },
                    };
                    (*head).cmsg_level = libc::IPPROTO_IP;
                    (*head).cmsg_type = libc::IP_PKTINFO;
                    (*head).cmsg_len = libc::CMSG_LEN(size_of_val(&info) as u32) as usize;
                    libc::CMSG_DATA(head).cast::<libc::in_pktinfo>().write_unaligned(info);
                    message.msg_controllen = libc::CMSG_SPACE(size_of_val(&info) as u32) as usize;
                }
                SocketAddr::V6(from) if self.v6 => {
                    let info = libc::in6_pktinfo {
                        ipi6_addr: libc::in6_addr { s6_addr: from.ip().octets() },
                        ipi6_ifindex: from.scope_id(),
                    };
                    (*head).cmsg_level = libc::IPPROTO_IPV6;
                    (*head).cmsg_type = libc::IPV6_PKTINFO;
                    (*head).cmsg_len = libc::CMSG_LEN(size_of_val(&info) as u32) as usize;
                    libc::CMSG_DATA(head).cast::<libc::in6_pktinfo>().write_unaligned(info);
                    message.msg_controllen = libc::CMSG_SPACE(size_of_val(&info) as u32) as usize;
                }
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            }
            libc::sendmsg(self.socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

pub(crate) fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one, and the storage is larger and as strictly aligned.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*(&raw const *name).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

pub(crate) fn raw(addr: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeros is a valid sockaddr_storage.
    let mut name: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let len = match addr {
        SocketAddr::V4(addr) => {
            let of = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: addr.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*addr.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger than it, and as strictly aligned.
            unsafe { (&raw mut name).cast::<libc::sockaddr_in>().write(of) };
            size_of_val(&of)
        }
        SocketAddr::V6(addr) => {
            let of = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: addr.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: addr.ip().octets() },
                sin6_scope_id: addr.scope_id(),
            };
            // SAFETY: as above.
            unsafe { (&raw mut name).cast::<libc::sockaddr_in6>().write(of) };
            size_of_val(&of)
        }
    };
    (name, len as libc::socklen_t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn asked_and_answered(bind: &str, ask: &str) {
        let served = Datagrams::of(UdpSocket::bind(bind).unwrap()).unwrap();
        let port = served.socket().local_addr().unwrap().port();
        let to: SocketAddr = format!("{ask}:{port}").parse().unwrap();
        let client = UdpSocket::bind(if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
        client.connect(to).unwrap();
        client.send(b"ask").unwrap();
        let mut buffer = [0; 8];
        let arrived = served.receive(&mut buffer).unwrap();
        assert_eq!(arrived, Arrived { len: 3, from: client.local_addr().unwrap(), to });
        // A connected socket hears nobody else.
        served.send(b"answer", arrived.to, arrived.from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        let other: SocketAddr = if to.is_ipv4() { "[::1]:1" } else { "127.0.0.1:1" }.parse().unwrap();
        assert_eq!(served.send(b"", other, arrived.from).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn the_address_that_was_asked_answers() {
        asked_and_answered("0.0.0.0:0", "127.0.0.7");
        asked_and_answered("127.0.0.8:0", "127.0.0.8");
        asked_and_answered("[::]:0", "[::1]");
    }

    #[test]
    fn no_datagram_is_no_answer() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let served = Datagrams::of(socket).unwrap();
        assert_eq!(served.receive(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
