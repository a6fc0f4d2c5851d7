//! Many datagrams by one call to the kernel, in and out (recvmmsg(2), sendmmsg(2)).

use crate::datagram::{address, raw};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::null_mut;

/// Room for an address.
const NAME: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// Datagrams that came together, and the room for them. The kernel is told of the room once and not at each call.
pub struct Arrivals {
    /// What the kernel is told: each points to one of `parts` and one of `names`.
    heads: Vec<libc::mmsghdr>,
    /// Each points to its piece of `room`; only the kernel reads them.
    _parts: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_storage>,
    room: Vec<u8>,
    each: usize,
    count: usize,
}

impl Arrivals {
    /// Room for so many at once, each of so many bytes; longer ones are cut off.
    pub fn new(most: usize, each: usize) -> Arrivals {
        let mut room = vec![0; most * each];
        // SAFETY: all zeros is a valid sockaddr_storage.
        let mut names: Vec<libc::sockaddr_storage> = (0..most).map(|_| unsafe { std::mem::zeroed() }).collect();
        let base = room.as_mut_ptr();
        let part = |nth: usize| libc::iovec { iov_base: base.wrapping_add(nth * each).cast(), iov_len: each };
        let mut parts: Vec<libc::iovec> = (0..most).map(part).collect();
        let head = |(part, name): (&mut libc::iovec, &mut libc::sockaddr_storage)| {
            // SAFETY: all zeros is a valid mmsghdr: null pointers with lengths of zero.
            let mut head: libc::mmsghdr = unsafe { std::mem::zeroed() };
            head.msg_hdr.msg_name = (&raw mut *name).cast();
            head.msg_hdr.msg_namelen = NAME;
            head.msg_hdr.msg_iov = &raw mut *part;
            head.msg_hdr.msg_iovlen = 1;
            head
        };
        let heads = parts.iter_mut().zip(&mut names).map(head).collect();
        Arrivals { heads, _parts: parts, names, room, each, count: 0 }
    }

    /// Takes what is there, without waiting; how many that were.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; what the kernel answered.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        // The kernel has written other lengths over those that were used.
        for head in &mut self.heads[..self.count] {
            head.msg_hdr.msg_namelen = NAME;
        }
        self.count = 0;
        let (fd, most) = (socket.as_fd().as_raw_fd(), self.heads.len() as u32);
        // Needs `unsafe`: rustix has no recvmmsg.
        // SAFETY: there are as many heads as are said to be, and each points to buffers of the lengths that stand beside them;
        // these are vectors of our own that never grow and are given back with us.
        let count = unsafe { libc::recvmmsg(fd, self.heads.as_mut_ptr(), most, libc::MSG_DONTWAIT, null_mut()) };
        self.count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(self.count)
    }

    /// The n-th of those that came, and from whom. `None`: there are not so many, or it came from no internet address.
    pub fn get(&self, nth: usize) -> Option<(&[u8], SocketAddr)> {
        let head = self.heads[..self.count].get(nth)?;
        let from = address(&self.names[nth])?;
        let len = (head.msg_len as usize).min(self.each);
        Some((&self.room[nth * self.each..nth * self.each + len], from))
    }
}

/// Datagrams that are to be sent together.
#[derive(Default)]
pub struct Departures {
    bytes: Vec<u8>,
    /// Where each ends, and to whom it goes.
    list: Vec<(usize, SocketAddr)>,
}

impl Departures {
    /// Adds one.
    pub fn add(&mut self, bytes: &[u8], to: SocketAddr) {
        self.bytes.extend(bytes);
        self.list.push((self.bytes.len(), to));
    }

    /// Sends all of them. One that cannot be sent is passed over: its receiver is gone, or does not read.
    pub fn send(&mut self, socket: impl AsFd) {
        let mut names: Vec<_> = self.list.iter().map(|(_, to)| raw(*to)).collect();
        let mut from = 0;
        let mut parts: Vec<libc::iovec> = Vec::with_capacity(self.list.len());
        for (end, _) in &self.list {
            let part = &self.bytes[from..*end];
            parts.push(libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
            from = *end;
        }
        let head = |(part, (name, len)): (&mut libc::iovec, &mut (libc::sockaddr_storage, libc::socklen_t))| {
            // SAFETY: all zeros is a valid mmsghdr: null pointers with lengths of zero.
            let mut head: libc::mmsghdr = unsafe { std::mem::zeroed() };
            head.msg_hdr.msg_name = (&raw mut *name).cast();
            head.msg_hdr.msg_namelen = *len;
            head.msg_hdr.msg_iov = &raw mut *part;
            head.msg_hdr.msg_iovlen = 1;
            head
        };
        let mut heads: Vec<libc::mmsghdr> = parts.iter_mut().zip(&mut names).map(head).collect();
        let mut rest = &mut heads[..];
        while !rest.is_empty() {
            let (fd, count) = (socket.as_fd().as_raw_fd(), rest.len() as u32);
            // SAFETY: there are as many heads as are said to be, and each points to live buffers of the lengths that stand
            // beside them, which the kernel only reads.
            let sent = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), count, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
            // It stops at one that it cannot send, and says so when that is the first.
            let done = usize::try_from(sent).unwrap_or(0).max(1);
            rest = rest.get_mut(done..).unwrap_or_default();
        }
        self.bytes.clear();
        self.list.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn many_come_and_go_at_once() {
        let served = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = served.local_addr().unwrap();
        let askers: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let (mut arrivals, mut departures) = (Arrivals::new(4, 8), Departures::default());
        assert_eq!(arrivals.receive(&served).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for round in 0..3 {
            // Six of them, where four fit; each of another length, the longest cut off.
            for n in 0..6usize {
                askers[n % 3].send_to(&vec![n as u8; 2 * n], to).unwrap();
            }
            let mut seen = 0;
            while seen < 6 {
                let count = arrivals.receive(&served).unwrap();
                assert!(count <= 4 && arrivals.get(count).is_none());
                for nth in 0..count {
                    let (bytes, from) = arrivals.get(nth).unwrap();
                    assert_eq!(bytes, vec![seen as u8; (2 * seen).min(8)], "round {round}");
                    assert_eq!(from, askers[seen % 3].local_addr().unwrap());
                    departures.add(&[bytes, b"!"].concat(), from);
                    seen += 1;
                }
                // Nobody can be reached there: the others are.
                departures.add(b"lost", "127.0.0.1:0".parse().unwrap());
                departures.send(&served);
            }
            assert_eq!(arrivals.receive(&served).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            for n in 0..6usize {
                let mut buffer = [0; 32];
                let len = askers[n % 3].recv(&mut buffer).unwrap();
                assert_eq!(buffer[..len], [vec![n as u8; (2 * n).min(8)], b"!".to_vec()].concat());
            }
        }
    }
}
