//! `--subnet`, `--ip-range`, `--gateway` and `--aux-address` of `network create`, each put to its subnet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

/// A block of addresses as it was typed.
#[derive(Clone, Copy)]
struct Block {
    addr: IpAddr,
    prefix: u8,
}

impl Block {
    fn parse(text: &str) -> Result<Block, String> {
        let bad = || format!("invalid CIDR address: {text}");
        let (addr, prefix) = text.split_once('/').ok_or_else(bad)?;
        let addr: IpAddr = addr.parse().map_err(|_| bad())?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= most).ok_or_else(bad)?;
        Ok(Block { addr, prefix })
    }

    fn holds(&self, addr: IpAddr) -> bool {
        match (self.addr, addr) {
            (IpAddr::V4(own), IpAddr::V4(addr)) => {
                let shift = 32 - u32::from(self.prefix);
                own.to_bits().checked_shr(shift) == addr.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(own), IpAddr::V6(addr)) => {
                let shift = 128 - u32::from(self.prefix);
                own.to_bits().checked_shr(shift) == addr.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

/// One entry of the API's `IPAM.Config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Config {
    subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    ip_range: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    gateway: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: BTreeMap<String, String>,
}

/// The subnets, each with what belongs to it.
pub fn consolidated(
    subnets: &[String],
    ranges: &[String],
    gateways: &[String],
    aux: &[(String, String)],
) -> Result<Vec<Config>, String> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err("every ip-range or gateway must have a corresponding subnet".to_owned());
    }
    let mut all: Vec<(Block, Config)> = Vec::new();
    for text in subnets {
        let block = Block::parse(text).map_err(|why| format!("invalid subnet: {why}"))?;
        if all.iter().any(|(other, _)| other.holds(block.addr) || block.holds(other.addr)) {
            return Err("multiple overlapping subnet configuration is not supported".to_owned());
        }
        all.push((block, Config { subnet: text.clone(), ..Config::default() }));
    }
    for text in ranges {
        let range = Block::parse(text)?;
        let (_, found) = around(&mut all, range.addr).ok_or_else(|| format!("no matching subnet for range {text}"))?;
        if !found.ip_range.is_empty() {
            return Err(format!(
                "cannot configure multiple ranges ({text}, {}) on the same subnet ({})",
                found.ip_range, found.subnet
            ));
        }
        found.ip_range.clone_from(text);
    }
    for text in gateways {
        let (_, found) =
            around(&mut all, address(text)?).ok_or_else(|| format!("no matching subnet for gateway {text}"))?;
        if !found.gateway.is_empty() {
            return Err(format!(
                "cannot configure multiple gateways ({text}, {}) for the same subnet ({})",
                found.gateway, found.subnet
            ));
        }
        found.gateway.clone_from(text);
    }
    for (name, text) in aux {
        let (_, found) =
            around(&mut all, address(text)?).ok_or_else(|| format!("no matching subnet for aux-address {text}"))?;
        found.auxiliary_addresses.insert(name.clone(), text.clone());
    }
    Ok(all.into_iter().map(|(_, config)| config).collect())
}

fn around(all: &mut [(Block, Config)], addr: IpAddr) -> Option<&mut (Block, Config)> {
    all.iter_mut().find(|(block, _)| block.holds(addr))
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("invalid IP address: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(subnets: &[&str], ranges: &[&str], gateways: &[&str], aux: &[(&str, &str)]) -> String {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let aux: Vec<_> = aux.iter().map(|&(name, addr)| (name.to_owned(), addr.to_owned())).collect();
        match consolidated(&words(subnets), &words(ranges), &words(gateways), &aux) {
            Ok(config) => serde_json::to_string(&config).unwrap(),
            Err(why) => why,
        }
    }

    #[test]
    fn everything_goes_to_its_subnet() {
        assert_eq!(shown(&[], &[], &[], &[]), "[]");
        assert_eq!(
            shown(&["10.1.0.0/16", "fd00::/64"], &["10.1.2.0/24"], &["fd00::9", "10.1.0.9"], &[("r", "10.1.0.5")]),
            r#"[{"Subnet":"10.1.0.0/16","IPRange":"10.1.2.0/24","Gateway":"10.1.0.9","AuxiliaryAddresses":{"r":"10.1.0.5"}},{"Subnet":"fd00::/64","Gateway":"fd00::9"}]"#
        );
        assert_eq!(shown(&["0.0.0.0/0"], &[], &["1.2.3.4"], &[]), r#"[{"Subnet":"0.0.0.0/0","Gateway":"1.2.3.4"}]"#);
    }

    #[test]
    fn what_fits_no_subnet_is_refused() {
        let net = &["10.1.0.0/16"][..];
        for (said, wanted) in [
            (shown(&[], &["10.1.0.0/24"], &[], &[]), "every ip-range or gateway must have a corresponding subnet"),
            (shown(&[], &[], &["10.1.0.1"], &[]), "every ip-range or gateway must have a corresponding subnet"),
            (shown(net, &["10.2.0.0/24"], &[], &[]), "no matching subnet for range 10.2.0.0/24"),
            (shown(net, &[], &["10.2.0.1"], &[]), "no matching subnet for gateway 10.2.0.1"),
            (shown(net, &[], &[], &[("r", "10.2.0.1")]), "no matching subnet for aux-address 10.2.0.1"),
            (
                shown(&["10.1.0.0/16", "10.1.1.0/24"], &[], &[], &[]),
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                shown(&["10.1.0.0/16", "10.2.0.0/16"], &["10.1.1.0/24", "10.1.2.0/24"], &[], &[]),
                "cannot configure multiple ranges (10.1.2.0/24, 10.1.1.0/24) on the same subnet (10.1.0.0/16)",
            ),
            (
                shown(&["10.1.0.0/16", "10.2.0.0/16"], &[], &["10.1.0.1", "10.1.0.2"], &[]),
                "cannot configure multiple gateways (10.1.0.2, 10.1.0.1) for the same subnet (10.1.0.0/16)",
            ),
            (shown(&["10.1.0.0"], &[], &[], &[]), "invalid subnet: invalid CIDR address: 10.1.0.0"),
            (shown(&["10.1.0.0/33"], &[], &[], &[]), "invalid subnet: invalid CIDR address: 10.1.0.0/33"),
        ] {
            assert_eq!(said, wanted);
        }
    }
}
