//! TCP sockets that accept connections, asked of the kernel (linux/inet_diag.h): nobody connects, so nobody notices. The
//! kernel walks through listening sockets only, however many connections there are.

use crate::attr::Attrs;
use crate::fault::Refused;
use crate::socket::{Message, Socket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// `SOCK_DIAG_BY_FAMILY`
const BY_FAMILY: u16 = 20;
/// `1 << TCP_LISTEN`
const LISTENING: u32 = 1 << 10;
/// struct inet_diag_msg: four bytes, struct inet_diag_sockid (48 bytes), five words.
const HEAD: usize = 72;
/// `INET_DIAG_SKV6ONLY`
const V6_ONLY: u16 = 11;
/// The interface `lo` has this number in every network namespace.
const LOOPBACK: u32 = 1;

/// A TCP socket that accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepting {
    /// Where; an unspecified address is every one of its family.
    pub at: SocketAddr,
    /// It is for IPv6 alone, where its address is every one; others take IPv4 too.
    pub only_v6: bool,
}

impl Accepting {
    /// Whether a connection to this address and port ends here, if it comes from elsewhere.
    pub fn takes(&self, to: SocketAddr) -> bool {
        let family = match self.at.ip() {
            IpAddr::V4(addr) => to.is_ipv4() && (addr.is_unspecified() || IpAddr::V4(addr) == to.ip()),
            IpAddr::V6(addr) if addr.is_unspecified() => to.is_ipv6() || !self.only_v6,
            IpAddr::V6(addr) => IpAddr::V6(addr).to_canonical() == to.ip(),
        };
        family && self.at.port() == to.port()
    }
}

/// Those of the calling thread's network namespace; see [`crate::Excursion`] for others. Not those that hear `lo` alone.
///
/// # Errors
/// A kernel without `CONFIG_INET_DIAG`.
pub fn accepting() -> io::Result<Vec<Accepting>> {
    let mut socket = Socket::diag()?;
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        match socket.dump(BY_FAMILY, &request(family)) {
            Ok(messages) => all.extend(messages.iter().filter_map(read)),
            // A kernel without IPv6 has none.
            Err(refused) if family == libc::AF_INET6 && refused.errno == libc::ENOENT => {}
            Err(Refused { errno, .. }) => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
    Ok(all)
}

/// struct inet_diag_req_v2
fn request(family: i32) -> Vec<u8> {
    let mut body = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
    body.extend(LISTENING.to_ne_bytes());
    // struct inet_diag_sockid: which one; a dump looks at none of it.
    body.resize(body.len() + 48, 0);
    body
}

fn read(message: &Message) -> Option<Accepting> {
    let head = message.body.first_chunk::<HEAD>()?;
    let port = u16::from_be_bytes([head[4], head[5]]);
    let device = u32::from_ne_bytes(head[40..44].try_into().ok()?);
    let addr: [u8; 16] = head[8..24].try_into().ok()?;
    let addr = match i32::from(head[0]) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::new(addr[0], addr[1], addr[2], addr[3])),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(addr)),
        _ => return None,
    };
    let only_v6 = Attrs(&message.body[HEAD..]).get(V6_ONLY).is_some_and(|value| value.first() == Some(&1));
    (device != LOOPBACK).then_some(Accepting { at: SocketAddr::new(addr, port), only_v6 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_what() {
        for (at, only_v6, takes, not) in [
            ("0.0.0.0:80", false, &["10.0.0.1:80"][..], &["10.0.0.1:81", "[fd00::1]:80"][..]),
            ("10.0.0.1:80", false, &["10.0.0.1:80"], &["10.0.0.2:80", "[fd00::1]:80"]),
            ("127.0.0.1:80", false, &[], &["10.0.0.1:80"]),
            ("[::]:80", false, &["10.0.0.1:80", "[fd00::1]:80"], &["[fd00::1]:81"]),
            ("[::]:80", true, &["[fd00::1]:80"], &["10.0.0.1:80"]),
            ("[::ffff:10.0.0.1]:80", false, &["10.0.0.1:80"], &["[fd00::1]:80", "10.0.0.2:80"]),
        ] {
            let socket = Accepting { at: at.parse().unwrap(), only_v6 };
            let takes_it = |to: &&str| socket.takes(to.parse().unwrap());
            assert!(takes.iter().all(takes_it) && !not.iter().any(takes_it), "{at}");
        }
    }
}
