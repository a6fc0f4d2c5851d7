use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// How long a probe waits for an answer unless it is told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// All that a TCP server says until it closes.
///
/// # Errors
/// Of kind `ConnectionRefused`, `TimedOut`, `NetworkUnreachable` and so on, by the kernel.
pub fn tcp(addr: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut said = Vec::new();
    connect(addr, patience)?.read_to_end(&mut said).map_err(timed_out)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// A TCP connection whose reads and writes time out.
///
/// # Errors
/// As [`tcp`].
pub fn connect(addr: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// Ends a connection by a reset, as a client that dies does.
pub fn break_off(stream: TcpStream) {
    // One that is broken already needs none.
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
}

/// What comes back for one datagram.
///
/// # Errors
/// As [`tcp`]; `ConnectionRefused` is an ICMP message "port unreachable".
pub fn udp(addr: SocketAddr, ask: &str, patience: Duration) -> io::Result<String> {
    let socket = UdpSocket::bind(if addr.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    // Connected, so that refusals are heard and answers from another address are not.
    socket.connect(addr)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(ask.as_bytes())?;
    let mut answer = [0; 65536];
    let count = socket.recv(&mut answer).map_err(timed_out)?;
    Ok(String::from_utf8_lossy(&answer[..count]).into_owned())
}

/// The time to the reply of one ICMP echo request (RFC 792, RFC 4443), over a raw socket.
///
/// # Errors
/// `TimedOut` without a reply, or the kernel's refusal to send, such as `NetworkUnreachable`.
pub fn ping(addr: IpAddr, patience: Duration) -> io::Result<Duration> {
    let (family, protocol) = match addr {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
    let packet = echo(addr, std::process::id() as u16, next_sequence());
    let started = Instant::now();
    rustix::net::sendto(&socket, &packet, SendFlags::empty(), &SocketAddr::new(addr, 0))?;
    loop {
        let left = patience.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(left))?;
        let mut buffer = [0; 2048];
        let count = match rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()) {
            Ok((count, _)) => count,
            Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(err) => return Err(err.into()),
        };
        if answers(addr, &buffer[..count], &packet) {
            return Ok(started.elapsed());
        }
    }
}

/// An echo request of the family of `addr`.
pub(crate) fn echo(addr: IpAddr, id: u16, sequence: u16) -> Vec<u8> {
    let ([i, d], [s, q]) = (id.to_be_bytes(), sequence.to_be_bytes());
    let mut packet = vec![if addr.is_ipv4() { 8 } else { 128 }, 0, 0, 0, i, d, s, q];
    packet.extend_from_slice(b"berth lab echo..");
    if addr.is_ipv4() {
        // The kernel fills in the checksum of ICMPv6 only.
        let sum = checksum(&packet).to_be_bytes();
        packet[2..4].copy_from_slice(&sum);
    }
    packet
}

/// Whether what a raw socket gave is the reply to this request.
pub(crate) fn answers(addr: IpAddr, given: &[u8], request: &[u8]) -> bool {
    // A raw IPv4 socket hands over the IP header too; its length is in words.
    let header = if addr.is_ipv4() { usize::from(given.first().copied().unwrap_or_default() & 0xf) * 4 } else { 0 };
    let message = given.get(header..).unwrap_or_default();
    let reply = if addr.is_ipv4() { 0 } else { 129 };
    message.len() >= 8 && message[0] == reply && message[4..8] == request[4..8]
}

/// A number that the last questions did not have.
pub(crate) fn next_sequence() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A socket whose time-out is over says `WouldBlock`; a test wants to hear `TimedOut`.
fn timed_out(err: io::Error) -> io::Error {
    if err.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { err }
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn the_checksum_of_the_rfc() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
        assert_eq!(checksum(&[0xff]), 0x00ff);
    }
}
