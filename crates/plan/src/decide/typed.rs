//! Addresses as people typed them, checked once.

use super::refusal::{Refusal, SettingsProblem};
use crate::ids::Mac;
use crate::ipam::Block;
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The bridge's address and its subnet (`--bip`, `--bip6`): `192.168.0.129/25`.
///
/// # Errors
/// `Bip` without a prefix length; `GatewayTaken` for a subnet's own or broadcast address. Both say what was probably
/// meant.
pub fn bip(text: &str) -> Result<IpNet, Refusal> {
    let Ok(net) = text.parse::<IpNet>() else {
        let guess = text.parse::<Ipv4Addr>().ok().map(likely);
        let hint = guess.map(|guess| format!(": did you mean {guess}?")).unwrap_or_default();
        return Err(Refusal::Bip { value: text.into(), hint });
    };
    let unusable = match net {
        IpNet::V4(v4) => v4.unusable(v4.addr()),
        IpNet::V6(v6) => v6.unusable(v6.addr()),
    };
    if unusable {
        let which = if net.addr() == net.network() { "network" } else { "broadcast" };
        let first = net.hosts().next().and_then(|first| IpNet::new(first, net.prefix_len()).ok()).unwrap_or(net);
        let hint = format!(": it is the {which} address of {}; did you mean {first}?", net.trunc());
        return Err(Refusal::GatewayTaken { addr: net.addr(), hint });
    }
    Ok(net)
}

/// The subnet that somebody had in mind who typed only an address: an address that ends in zero bits begins a subnet.
fn likely(addr: Ipv4Addr) -> Ipv4Net {
    let zeros = addr.to_bits().trailing_zeros();
    let (addr, prefix) = match zeros {
        0 | 1 => (addr, 24),
        2..=7 => (Ipv4Addr::from_bits(addr.to_bits() + 1), 32 - zeros as u8),
        _ => (Ipv4Addr::from_bits(addr.to_bits() | 1), 24),
    };
    Ipv4Net::new_assert(addr, prefix)
}

/// What an endpoint asks for by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointAddresses {
    /// `--ip`
    pub ip4: Option<Ipv4Addr>,
    /// `--ip6`
    pub ip6: Option<Ipv6Addr>,
    /// `--link-local-ip`
    pub link_local: BTreeSet<IpAddr>,
}

/// The addresses that an endpoint asks for (`--ip`, `--ip6`, `--link-local-ip`); empty texts ask for nothing.
///
/// # Errors
/// `EndpointSettings` with all that is wrong.
pub fn endpoint_addresses(
    network: &str,
    ip4: &str,
    ip6: &str,
    link_local: &[String],
) -> Result<EndpointAddresses, Refusal> {
    let mut problems = Vec::new();
    let mut read = |text: &str, bad: fn(String) -> SettingsProblem| {
        if text.is_empty() {
            return None;
        }
        let addr = text.parse::<IpAddr>().ok();
        if addr.is_none() {
            problems.push(bad(text.into()));
        }
        addr
    };
    let (four, six) = (read(ip4, SettingsProblem::NotIpv4), read(ip6, SettingsProblem::NotIpv6));
    if let Some(IpAddr::V6(_)) = four {
        problems.push(SettingsProblem::NotIpv4(ip4.into()));
    }
    if let Some(IpAddr::V4(_)) = six {
        problems.push(SettingsProblem::NotIpv6(ip6.into()));
    }
    let local = |addr: &IpAddr| match addr {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let mut own = BTreeSet::new();
    for text in link_local {
        match text.parse::<IpAddr>().ok().filter(local) {
            Some(addr) => drop(own.insert(addr)),
            None => problems.push(SettingsProblem::NotLinkLocal(text.clone())),
        }
    }
    if !problems.is_empty() {
        return Err(Refusal::EndpointSettings { network: network.into(), problems });
    }
    Ok(EndpointAddresses {
        ip4: four.and_then(|addr| if let IpAddr::V4(v4) = addr { Some(v4) } else { None }),
        ip6: six.and_then(|addr| if let IpAddr::V6(v6) = addr { Some(v6) } else { None }),
        link_local: own,
    })
}

/// An Ethernet address that an interface can have (`--mac-address`).
///
/// # Errors
/// `Mac`: not six pairs of digits, a group address, or all zeros.
pub fn mac(text: &str) -> Result<Mac, Refusal> {
    let mac: Mac = text.parse().map_err(|_| Refusal::Mac(text.into()))?;
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] { Err(Refusal::Mac(text.into())) } else { Ok(mac) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bip_that_is_wrong_is_answered_with_one_that_is_right() {
        assert_eq!(bip("192.168.0.129/25").unwrap().to_string(), "192.168.0.129/25");
        assert_eq!(bip("fd00::1/64").unwrap().to_string(), "fd00::1/64");
        let refused = |text| bip(text).unwrap_err().to_string();
        assert_eq!(
            refused("192.168.0.128"),
            "parse bip failed: invalid CIDR address: 192.168.0.128: did you mean 192.168.0.129/25?"
        );
        assert_eq!(
            refused("192.168.0.128/25"),
            "failed to allocate gateway (192.168.0.128): Address already in use: it is the network address of \
             192.168.0.128/25; did you mean 192.168.0.129/25?"
        );
        assert!(refused("192.168.0.255/25").contains("it is the broadcast address of 192.168.0.128/25"));
        assert!(refused("192.168.0.1").ends_with("did you mean 192.168.0.1/24?"));
        assert!(refused("10.0.0.0").ends_with("did you mean 10.0.0.1/24?"));
        assert_eq!(refused("bridge"), "parse bip failed: invalid CIDR address: bridge");
        assert_eq!(refused("10.0.0.1/33"), "parse bip failed: invalid CIDR address: 10.0.0.1/33");
    }

    #[test]
    fn every_bad_address_is_named() {
        assert_eq!(endpoint_addresses("app", "", "", &[]).unwrap(), EndpointAddresses::default());
        let local = ["169.254.7.8".to_owned(), "fe80::9".to_owned()];
        let good = endpoint_addresses("app", "10.0.0.2", "fd00::2", &local).unwrap();
        assert_eq!((good.ip4, good.ip6), ("10.0.0.2".parse().ok(), "fd00::2".parse().ok()));
        assert_eq!(good.link_local, local.iter().map(|text| text.parse().unwrap()).collect());
        let refused = |ip4, ip6, local: &[&str]| {
            let local: Vec<String> = local.iter().map(|text| (*text).to_owned()).collect();
            endpoint_addresses("app", ip4, ip6, &local).unwrap_err().to_string()
        };
        let head = "invalid config for network app: invalid endpoint settings:\n";
        assert_eq!(refused("foo", "", &[]), format!("{head}invalid IPv4 address: foo"));
        assert_eq!(
            refused("fd00::1", "10.0.0.1", &["bar", "10.0.0.9"]),
            format!(
                "{head}* invalid IPv4 address: fd00::1\n* invalid IPv6 address: 10.0.0.1\n* invalid link-local IP address: bar\n\
                 * invalid link-local IP address: 10.0.0.9"
            )
        );
    }

    #[test]
    fn a_mac_is_one_station() {
        assert_eq!(mac("02:42:0a:00:00:02").unwrap().to_string(), "02:42:0a:00:00:02");
        for bad in ["zz", "01:00:5e:00:00:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"] {
            assert_eq!(mac(bad).unwrap_err().to_string(), format!("{bad} is not a valid mac address"));
        }
    }
}
