//! Sockets that wait for whoever comes.

use crate::world::Proto;
use std::net::{IpAddr, SocketAddr};

/// A socket that waits for whoever comes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// The transport protocol.
    pub proto: Proto,
    /// Unspecified: every address of its family. Never an IPv4 address in the clothes of IPv6.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
    /// A socket of IPv6 that does not take IPv4 as well.
    pub only_v6: bool,
    /// It is bound to `lo`, and hears what comes from its own namespace alone.
    pub by_lo: bool,
}

impl Listener {
    /// Does it hear what is meant for this address and port? `local`: it comes from the same namespace.
    pub fn hears(&self, proto: Proto, to: SocketAddr, local: bool) -> bool {
        let by_addr = match self.addr {
            IpAddr::V6(own) if own.is_unspecified() => to.is_ipv6() || !self.only_v6,
            own => own.is_unspecified() && own.is_ipv4() == to.is_ipv4() || own == to.ip(),
        };
        self.proto == proto && self.port == to.port() && by_addr && (local || !self.by_lo)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_what() {
        let listener = |at: &str, only_v6| {
            let at: SocketAddr = at.parse().unwrap();
            Listener { proto: Proto::Tcp, addr: at.ip(), port: at.port(), only_v6, by_lo: false }
        };
        for (at, only_v6, hears, not) in [
            ("0.0.0.0:80", false, &["10.0.0.1:80"][..], &["10.0.0.1:81", "[fd00::1]:80"][..]),
            ("10.0.0.1:80", false, &["10.0.0.1:80"], &["10.0.0.2:80", "[fd00::1]:80"]),
            ("127.0.0.1:80", false, &[], &["10.0.0.1:80"]),
            ("[::]:80", false, &["10.0.0.1:80", "[fd00::1]:80"], &["[fd00::1]:81"]),
            ("[::]:80", true, &["[fd00::1]:80"], &["10.0.0.1:80"]),
            ("[fd00::1]:80", false, &["[fd00::1]:80"], &["10.0.0.1:80", "[fd00::2]:80"]),
        ] {
            let listener = listener(at, only_v6);
            let hears_it = |to: &&str| listener.hears(Proto::Tcp, to.parse().unwrap(), false);
            assert!(hears.iter().all(hears_it) && !not.iter().any(hears_it), "{at}");
            assert!(hears.iter().all(|to| !listener.hears(Proto::Udp, to.parse().unwrap(), false)), "{at}");
        }
        let by_lo = Listener { by_lo: true, ..listener("0.0.0.0:80", false) };
        let to = "10.0.0.1:80".parse().unwrap();
        assert!(by_lo.hears(Proto::Tcp, to, true) && !by_lo.hears(Proto::Tcp, to, false));
    }
}
