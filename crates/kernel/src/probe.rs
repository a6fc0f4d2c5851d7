//! One real question over the network, from a namespace.

use crate::Excursion;
use plan::explain::Service;
use plan::world::Proto;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Somebody answered: a connection was made, a datagram or an echo came back.
    Answered,
    /// The kernel or the far end said no, in its words.
    Refused(String),
    /// Nothing came back in time.
    Silent,
}

/// Ask from a namespace, or from the calling thread's own. It takes `patience` at most. A TCP connection is closed at once; to a
/// port of UDP one empty line is sent. SCTP is not tried.
///
/// # Errors
/// The namespace cannot be entered, or no socket can be made.
pub fn ask(
    namespace: Option<BorrowedFd<'_>>,
    to: IpAddr,
    service: Service,
    patience: Duration,
) -> io::Result<Option<Outcome>> {
    let asked = || match service {
        Service::Port(Proto::Tcp, port) => tcp(SocketAddr::new(to, port), patience).map(Some),
        Service::Port(Proto::Udp, port) => udp(SocketAddr::new(to, port), patience).map(Some),
        Service::Port(Proto::Sctp, _) => Ok(None),
        Service::Echo => echo(to, patience).map(Some),
    };
    match namespace {
        Some(namespace) => Excursion::new()?.within(namespace, asked),
        None => asked(),
    }
}

fn outcome(err: io::Error) -> Outcome {
    match err.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Outcome::Silent,
        _ => Outcome::Refused(crate::fault::Refused::from(err).text),
    }
}

fn tcp(to: SocketAddr, patience: Duration) -> io::Result<Outcome> {
    Ok(match TcpStream::connect_timeout(&to, patience) {
        Ok(_) => Outcome::Answered,
        Err(err) => outcome(err),
    })
}

fn udp(to: SocketAddr, patience: Duration) -> io::Result<Outcome> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(patience))?;
    let mut answer = [0; 2048];
    // Connected, so that refusals are heard and answers from another address are not.
    let said = socket.connect(to).and_then(|()| socket.send(b"\n")).and_then(|_| socket.recv(&mut answer));
    Ok(said.map_or_else(outcome, |_| Outcome::Answered))
}

/// An echo request (RFC 792, RFC 4443) of a number of its own.
fn echo(to: IpAddr, patience: Duration) -> io::Result<Outcome> {
    let (family, protocol, kind, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
    // Told from others' by what nobody else sends at this moment.
    let mut random = [0; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let mut packet = vec![kind, 0, 0, 0];
    packet.extend(random);
    if to.is_ipv4() {
        // The kernel fills in the checksum of ICMPv6 only.
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    if let Err(errno) = rustix::net::sendto(&socket, &packet, SendFlags::empty(), &SocketAddr::new(to, 0)) {
        return Ok(outcome(errno.into()));
    }
    let started = Instant::now();
    loop {
        let left = patience.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Ok(Outcome::Silent);
        }
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(left))?;
        let mut buffer = [0; 2048];
        let count = match rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()) {
            Ok((count, _)) => count,
            Err(errno) => return Ok(outcome(errno.into())),
        };
        // A raw socket of IPv4 hands over the header too; its length is in words.
        let header = if to.is_ipv4() { usize::from(buffer[0] & 0xf) * 4 } else { 0 };
        let message = buffer[..count].get(header..).unwrap_or_default();
        if message.first() == Some(&reply) && message.get(4..8) == Some(&random) {
            return Ok(Outcome::Answered);
        }
    }
}

/// The internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_of_the_rfc() {
        assert_eq!(super::checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
