//! What a network is made with: drivers' options and addresses, from the wire's words, with Docker's texts.

use crate::error::{Error, Result};
use api::{Ipam, NetworkCreateRequest};
use ipnet::IpNet;
use plan::decide::{MacvlanWish, NetworkWish, SubnetWish};
use plan::ids::{IfName, NetworkId};
use plan::world::{About, GatewayMode, MacvlanMode};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A wish of the engine's own, and what the user should know of it.
pub struct Understood {
    /// The wish; its id is chosen by the engine.
    pub wish: NetworkWish,
    /// Empty if there is nothing to say.
    pub warning: String,
}

/// What kind of network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bridge of the host's.
    Bridge,
    /// Stations on the segment of an interface.
    Macvlan,
}

/// Understands a request. `mtu` is the engine's for networks with a bridge.
///
/// # Errors
/// Whatever is none of a driver, an option or an address, or is not there yet.
pub fn understand(body: NetworkCreateRequest, kind: Kind, mtu: Option<u32>) -> Result<Understood> {
    let options: BTreeMap<String, String> = body.options.unwrap_or_default().into_iter().collect();
    let ipam = body.ipam.unwrap_or_default();
    let id = NetworkId::try_from("0".repeat(64)).map_err(|bad| Error::Fault(bad.to_string()))?;
    let mut wish = NetworkWish::new(id, body.name);
    match kind {
        Kind::Bridge => wish.mtu = mtu,
        Kind::Macvlan => wish.macvlan = Some(MacvlanWish::default()),
    }
    wish.ipv4 = body.enable_ipv4.unwrap_or(true);
    wish.ipv6 = body.enable_ipv6.unwrap_or(false);
    wish.internal = body.internal.unwrap_or(false);
    let (subnets, unused): (Vec<_>, Vec<_>) = subnets(&ipam)?.into_iter().partition(|subnet| {
        let v6 = subnet.subnet.is_some_and(|net| matches!(net, IpNet::V6(_)));
        if v6 { wish.ipv6 } else { wish.ipv4 }
    });
    wish.subnets = subnets;
    wish.about = About {
        created: 0,
        labels: body.labels.unwrap_or_default().into_iter().collect(),
        options: options.clone(),
        ipam_options: ipam.options.unwrap_or_default().into_iter().collect(),
        attachable: body.attachable.unwrap_or(false),
    };
    for (name, value) in &options {
        match &mut wish.macvlan {
            Some(macvlan) if name == "parent" => macvlan.parent = Some(value.clone()).filter(|name| !name.is_empty()),
            Some(macvlan) if name == "macvlan_mode" => macvlan.mode = macvlan_mode(value)?,
            // A bridge's options are nothing to others, as with Docker.
            Some(_) if name.starts_with("com.docker.network.bridge.") => {}
            _ => option(&mut wish, name, value)?,
        }
    }
    let warning = unused.iter().filter_map(|subnet| subnet.subnet).map(|net| {
        let family = if matches!(net, IpNet::V6(_)) { "IPv6" } else { "IPv4" };
        format!("subnet {net} is not used: {family} is off for this network")
    });
    Ok(Understood { warning: warning.collect::<Vec<_>>().join("; "), wish })
}

/// One `--opt`. What a bridge does not know is kept and does nothing, as with Docker.
fn option(wish: &mut NetworkWish, name: &str, value: &str) -> Result<()> {
    let bad = |why: &str| Error::Invalid(format!("failed to parse {name} value: {value} ({why})"));
    let switch = || match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(bad("it is neither true nor false")),
    };
    match name {
        "com.docker.network.bridge.name" if value.is_empty() => {}
        "com.docker.network.bridge.name" => {
            wish.bridge = Some(IfName::try_from(value.to_owned()).map_err(|why| bad(&why.to_string()))?);
        }
        "com.docker.network.bridge.enable_icc" => wish.icc = switch()?,
        "com.docker.network.bridge.enable_ip_masquerade" => wish.masquerade = switch()?,
        "com.docker.network.bridge.inhibit_ipv4" => wish.unnumbered = switch()?,
        "com.docker.network.bridge.host_binding_ipv4" => {
            let addr = value.parse::<IpAddr>().ok().filter(IpAddr::is_ipv4);
            let addr = addr.ok_or_else(|| bad("it is no IPv4 address"))?;
            wish.host_ip = Some(addr).filter(|addr| !addr.is_unspecified());
        }
        "com.docker.network.driver.mtu" => {
            wish.mtu = Some(value.parse().map_err(|_| bad("it is no number of bytes"))?);
        }
        "com.docker.network.enable_ipv6" => wish.ipv6 |= switch()?,
        "com.docker.network.enable_ipv4" => wish.ipv4 &= switch()?,
        "com.docker.network.bridge.gateway_mode_ipv4" => wish.mode4 = gateway_mode(value)?,
        "com.docker.network.bridge.gateway_mode_ipv6" => wish.mode6 = gateway_mode(value)?,
        "com.docker.network.bridge.trusted_host_interfaces" => {
            let names = value.split(':').filter(|name| !name.is_empty());
            let names = names.map(|name| IfName::try_from(name.to_owned()).map_err(|why| bad(&why.to_string())));
            wish.trusted = names.collect::<Result<_>>()?;
        }
        "com.docker.network.host_ipv4" => {
            wish.sources.push(address(value, false).ok_or_else(|| bad("it is no IPv4 address"))?)
        }
        "com.docker.network.host_ipv6" => {
            wish.sources.push(address(value, true).ok_or_else(|| bad("it is no IPv6 address"))?)
        }
        "com.docker.network.container_iface_prefix" if value.is_empty() => {}
        "com.docker.network.container_iface_prefix" => wish.prefix = Some(value.to_owned()),
        _ => {}
    }
    Ok(())
}

fn macvlan_mode(value: &str) -> Result<MacvlanMode> {
    match value {
        "" | "bridge" => Ok(MacvlanMode::Bridge),
        "private" => Ok(MacvlanMode::Private),
        "vepa" => Ok(MacvlanMode::Vepa),
        "passthru" => Err(Error::Absent(
            "the macvlan mode 'passthru' is not there: it would give an interface of the host to one container".into(),
        )),
        _ => Err(Error::Invalid(format!(
            "requested macvlan mode '{value}' is not valid, 'bridge' mode is the macvlan driver default"
        ))),
    }
}

fn gateway_mode(value: &str) -> Result<GatewayMode> {
    match value {
        "" | "nat" => Ok(GatewayMode::Nat),
        "nat-unprotected" => Ok(GatewayMode::NatUnprotected),
        "routed" => Ok(GatewayMode::Routed),
        "isolated" => Ok(GatewayMode::Isolated),
        _ => Err(Error::Invalid(format!("unknown gateway mode {value}"))),
    }
}

fn address(text: &str, v6: bool) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().filter(|addr| addr.is_ipv6() == v6 && !addr.is_unspecified())
}

fn subnets(ipam: &Ipam) -> Result<Vec<SubnetWish>> {
    if let Some(driver) = ipam.driver.as_deref().filter(|driver| !["", "default"].contains(driver)) {
        return Err(Error::NotFound(format!("could not resolve driver {driver}: the only IPAM driver is \"default\"")));
    }
    let mut problems = Vec::new();
    let mut wishes = Vec::new();
    for config in ipam.config.iter().flatten() {
        let mut net = |what: &str, text: &Option<String>| {
            let text = text.as_deref().filter(|text| !text.is_empty())?;
            let net = text.parse::<IpNet>().ok();
            if net.is_none() {
                problems.push(format!("invalid {what} {text}: invalid CIDR block notation"));
            }
            net
        };
        let (subnet, range) = (net("subnet", &config.subnet), net("ip-range", &config.ip_range));
        let mut addr = |what: String, text: &str| {
            let addr = text.parse::<IpAddr>().ok();
            if addr.is_none() {
                problems.push(format!("invalid {what}: invalid address"));
            }
            addr
        };
        let gateway = config.gateway.as_deref().filter(|text| !text.is_empty());
        let gateway = gateway.and_then(|text| addr(format!("gateway {text}"), text));
        let mut aux = BTreeMap::new();
        for (name, text) in config.auxiliary_addresses.iter().flatten() {
            if let Some(addr) = addr(format!("auxiliary address {name}: {text}"), text) {
                aux.insert(name.clone(), addr);
            }
        }
        let wish = SubnetWish { subnet, range, gateway, default_gateway: None, aux };
        if wish != SubnetWish::default() {
            wishes.push(wish);
        }
    }
    match &problems[..] {
        [] => Ok(wishes),
        [one] => Err(Error::Invalid(format!("invalid network config:\n{one}"))),
        many => {
            let listed: Vec<String> = many.iter().map(|problem| format!("* {problem}")).collect();
            Err(Error::Invalid(format!("invalid network config:\n{}", listed.join("\n"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn made(body: Value) -> Result<Understood> {
        understand(serde_json::from_value(body).unwrap(), Kind::Bridge, Some(1500))
    }

    fn station(options: Value) -> Result<NetworkWish> {
        let body = json!({"Name": "app", "Options": options});
        understand(serde_json::from_value(body).unwrap(), Kind::Macvlan, Some(1500)).map(|understood| understood.wish)
    }

    fn with(name: &str, value: &str) -> Result<NetworkWish> {
        made(json!({"Name": "app", "Options": {name: value}})).map(|understood| understood.wish)
    }

    #[test]
    fn options_are_understood() {
        let bridge = |option: &str, value: &str| with(&format!("com.docker.network.bridge.{option}"), value).unwrap();
        assert_eq!(bridge("name", "app0").bridge.unwrap().as_str(), "app0");
        assert!(!bridge("enable_icc", "false").icc && bridge("enable_icc", "1").icc);
        assert!(!bridge("enable_ip_masquerade", "f").masquerade);
        assert!(bridge("inhibit_ipv4", "true").unnumbered);
        assert_eq!(bridge("host_binding_ipv4", "127.0.0.1").host_ip, "127.0.0.1".parse().ok());
        assert_eq!(bridge("host_binding_ipv4", "0.0.0.0").host_ip, None);
        assert_eq!(with("com.docker.network.driver.mtu", "1400").unwrap().mtu, Some(1400));
        assert_eq!(bridge("gateway_mode_ipv4", "routed").mode4, GatewayMode::Routed);
        assert_eq!(bridge("gateway_mode_ipv6", "nat-unprotected").mode6, GatewayMode::NatUnprotected);
        let trusted: Vec<String> =
            bridge("trusted_host_interfaces", "eth1:eth2").trusted.iter().map(|name| name.to_string()).collect();
        assert_eq!(trusted, ["eth1", "eth2"]);
        let source = with("com.docker.network.host_ipv6", "2001:db8::9").unwrap().sources;
        assert_eq!(source, ["2001:db8::9".parse::<IpAddr>().unwrap()]);
        assert_eq!(with("com.docker.network.container_iface_prefix", "lan").unwrap().prefix.as_deref(), Some("lan"));
        // What nobody knows is kept, and does nothing.
        assert_eq!(with("colour", "red").unwrap().about.options["colour"], "red");
    }

    #[test]
    fn options_of_networks_without_a_bridge_are_understood() {
        let wish =
            station(json!({"parent": "eth0.10", "macvlan_mode": "private", "com.docker.network.bridge.name": "a b"}));
        let wish = wish.unwrap();
        let macvlan = wish.macvlan.unwrap();
        assert_eq!((macvlan.parent.as_deref(), macvlan.mode), (Some("eth0.10"), MacvlanMode::Private));
        assert_eq!((wish.bridge, wish.mtu), (None, None), "a bridge's options and MTU are nothing to it");
        assert_eq!(station(json!({"com.docker.network.driver.mtu": "1400"})).unwrap().mtu, Some(1400));
        assert_eq!(station(json!({"parent": ""})).unwrap().macvlan, Some(MacvlanWish::default()));
        let refused = |mode: &str| station(json!({"macvlan_mode": mode})).unwrap_err().to_string();
        assert_eq!(
            refused("x"),
            "requested macvlan mode 'x' is not valid, 'bridge' mode is the macvlan driver default"
        );
        assert!(refused("passthru").contains("'passthru' is not there"));
        // To a bridge they say nothing.
        assert_eq!(with("parent", "eth9").unwrap().macvlan, None);
    }

    #[test]
    fn addresses_are_understood() {
        let config = json!([
            {"Subnet": "10.1.0.0/16", "IPRange": "10.1.2.0/24", "Gateway": "10.1.0.9", "AuxiliaryAddresses": {"r": "10.1.0.5"}},
            {"Subnet": "fd01::/64"}, {},
        ]);
        let both = made(json!({"Name": "app", "EnableIPv6": true, "IPAM": {"Config": config}})).unwrap();
        assert_eq!((both.wish.subnets.len(), both.warning.as_str()), (2, ""));
        assert_eq!(both.wish.subnets[0].aux["r"].to_string(), "10.1.0.5");
        let four = made(json!({"Name": "app", "IPAM": {"Config": config}})).unwrap();
        assert_eq!(four.wish.subnets.len(), 1);
        assert_eq!(four.warning, "subnet fd01::/64 is not used: IPv6 is off for this network");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |body: Value| made(body).err().map(|error| error.to_string()).unwrap_or_default();
        let ipam = |config: Value| refused(json!({"Name": "app", "IPAM": {"Config": [config]}}));
        assert_eq!(
            ipam(json!({"Subnet": "10.1.0.0"})),
            "invalid network config:\ninvalid subnet 10.1.0.0: invalid CIDR block notation"
        );
        assert_eq!(
            ipam(json!({"Subnet": "x", "Gateway": "y", "AuxiliaryAddresses": {"r": "z"}})),
            "invalid network config:\n* invalid subnet x: invalid CIDR block notation\n* invalid gateway y: invalid address\n\
             * invalid auxiliary address r: z: invalid address"
        );
        let option = |name: &str, value: &str| with(name, value).err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(
            option("com.docker.network.bridge.enable_icc", "maybe"),
            "failed to parse com.docker.network.bridge.enable_icc value: maybe (it is neither true nor false)"
        );
        assert!(option("com.docker.network.driver.mtu", "-4").contains("value: -4 (it is no number of bytes)"));
        assert!(option("com.docker.network.bridge.name", "a b").contains("interface name"));
        assert!(option("com.docker.network.bridge.host_binding_ipv4", "::1").contains("no IPv4 address"));
        assert_eq!(option("com.docker.network.bridge.gateway_mode_ipv4", "x"), "unknown gateway mode x");
        assert!(option("com.docker.network.host_ipv4", "::1").contains("value: ::1 (it is no IPv4 address)"));
        assert!(option("com.docker.network.bridge.trusted_host_interfaces", "a b").contains("interface name"));
    }
}
