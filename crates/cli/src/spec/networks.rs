//! `--network NAME` and `--network name=NAME,alias=…,ip=…`, together with the flags that speak of the first network
//! (`--network-alias`, `--ip`, `--ip6`, `--link`, `--link-local-ip`, `--mac-address`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::names;
use crate::literal::pair;

/// One network that the container shall join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Name, ID, or a mode such as `none`, `host`, `container:web`.
    pub target: String,
    /// Further names of the container on this network.
    pub aliases: Vec<String>,
    /// The wished-for addresses and other wishes; empty where the engine shall choose.
    pub ip: String,
    /// IPv6.
    pub ip6: String,
    /// Ethernet address.
    pub mac: String,
    /// Link-local addresses.
    pub link_local: Vec<String>,
    /// Links, as `TARGET[:ALIAS]`.
    pub links: Vec<String>,
    /// Options for the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// The higher wins the default route.
    pub gw_priority: i64,
}

/// Reads one value of `--network`.
pub fn attachment(text: &str) -> Result<Attachment, String> {
    let mut wish = Attachment::default();
    if !text.contains('=') {
        wish.target = text.to_owned();
        return Ok(wish);
    }
    for field in text.split(',') {
        let (key, value) =
            field.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim().to_owned();
        match key.trim().to_lowercase().as_str() {
            "name" => wish.target = value,
            "alias" => wish.aliases.push(value),
            "ip" => wish.ip = names::ipv4(&value)?,
            "ip6" => wish.ip6 = names::ipv6(&value)?,
            "mac-address" => {
                names::mac_address(&value)?;
                wish.mac = value;
            }
            "link-local-ip" => wish.link_local.push(value),
            "driver-opt" => {
                let (name, option) = value.split_once('=').ok_or("invalid key value pair format in driver options")?;
                wish.driver_opts.insert(name.trim().to_lowercase(), option.trim().to_owned());
            }
            "gw-priority" => {
                wish.gw_priority =
                    value.parse().map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if wish.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(wish)
}

/// The flags that speak of the first network.
#[derive(Debug, Default)]
pub struct First {
    /// `--network-alias`
    pub aliases: Vec<String>,
    /// `--ip`
    pub ip: String,
    /// `--ip6`
    pub ip6: String,
    /// `--mac-address`
    pub mac: String,
    /// `--link-local-ip`
    pub link_local: Vec<String>,
    /// `--link`
    pub links: Vec<String>,
}

/// Whether a mode names a network that a user made, rather than one of the built-in modes.
pub fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "" | "default" | "bridge" | "host" | "none" | "container") && !mode.starts_with("container:")
}

/// Joins the networks with the flags of the first one; without `--network` the first one is `default`.
pub fn joined(mut wishes: Vec<Attachment>, first: First) -> Result<Vec<Attachment>, String> {
    if wishes.is_empty() {
        wishes.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    }
    if wishes.len() > 1 && wishes.iter().any(|wish| !is_user_defined(&wish.target)) {
        return Err(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes".to_owned()
        );
    }
    let head = &mut wishes[0];
    let both = |flag: &str, per_network: &str| {
        Err(format!("conflicting options: cannot specify both {flag} and per-network {per_network}"))
    };
    if !first.aliases.is_empty() && !head.aliases.is_empty() {
        return both("--network-alias", "alias");
    }
    if !first.ip.is_empty() && !head.ip.is_empty() {
        return both("--ip", "IPv4 address");
    }
    if !first.ip6.is_empty() && !head.ip6.is_empty() {
        return both("--ip6", "IPv6 address");
    }
    if !first.mac.is_empty() && !head.mac.is_empty() {
        return both("--mac-address", "MAC address");
    }
    if !first.link_local.is_empty() && !head.link_local.is_empty() {
        return both("--link-local-ip", "link-local IP addresses");
    }
    fn fill<T: Default + PartialEq>(place: &mut T, value: T) {
        if *place == T::default() {
            *place = value;
        }
    }
    fill(&mut head.aliases, first.aliases);
    fill(&mut head.ip, first.ip);
    fill(&mut head.ip6, first.ip6);
    fill(&mut head.mac, first.mac);
    fill(&mut head.link_local, first.link_local);
    // Links of the default bridge travel in the host's part of the body, not with the endpoint.
    if is_user_defined(&head.target) {
        fill(&mut head.links, first.links);
    }
    if !head.aliases.is_empty() && !is_user_defined(&head.target) {
        return Err("network-scoped aliases are only supported for user-defined networks".to_owned());
    }
    let mut seen = Vec::new();
    for wish in &wishes {
        if seen.contains(&&wish.target) {
            return Err(format!("network \"{}\" is specified multiple times", wish.target));
        }
        seen.push(&wish.target);
    }
    Ok(wishes)
}

/// The API's `NetworkingConfig`.
pub fn json(wishes: &[Attachment]) -> Value {
    let endpoints: Map<String, Value> = wishes.iter().map(|wish| (wish.target.clone(), endpoint(wish))).collect();
    json!({ "EndpointsConfig": endpoints })
}

/// The API's `EndpointSettings`.
pub fn endpoint(wish: &Attachment) -> Value {
    let mut ipam = Map::new();
    if !wish.ip.is_empty() {
        ipam.insert("IPv4Address".into(), json!(wish.ip));
    }
    if !wish.ip6.is_empty() {
        ipam.insert("IPv6Address".into(), json!(wish.ip6));
    }
    if !wish.link_local.is_empty() {
        ipam.insert("LinkLocalIPs".into(), json!(wish.link_local));
    }
    let mut endpoint = Map::new();
    let mut put = |key: &str, value: Value, wanted: bool| {
        if wanted {
            endpoint.insert(key.into(), value);
        }
    };
    put("IPAMConfig", Value::Object(ipam.clone()), !ipam.is_empty());
    put("Links", json!(wish.links), !wish.links.is_empty());
    put("Aliases", json!(wish.aliases), !wish.aliases.is_empty());
    put("MacAddress", json!(wish.mac), !wish.mac.is_empty());
    put("DriverOpts", json!(wish.driver_opts), !wish.driver_opts.is_empty());
    put("GwPriority", json!(wish.gw_priority), wish.gw_priority != 0);
    Value::Object(endpoint)
}

/// `name=value` options of a driver as a map.
pub fn options(values: &[String]) -> BTreeMap<String, String> {
    values.iter().map(|value| pair(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(networks: &[&str], first: First) -> String {
        let wishes: Result<Vec<_>, _> = networks.iter().map(|text| attachment(text)).collect();
        match wishes.and_then(|wishes| joined(wishes, first)) {
            Ok(wishes) => json(&wishes)["EndpointsConfig"].to_string(),
            Err(why) => why,
        }
    }

    #[test]
    fn forms_of_network() {
        for (networks, wanted) in [
            (&[][..], r#"{"default":{}}"#),
            (&["none"], r#"{"none":{}}"#),
            (&["container:web"], r#"{"container:web":{}}"#),
            (
                &[
                    "name=foo,alias=a,alias=b,ip=10.0.0.2,mac-address=92:d0:c6:0a:29:33,driver-opt=k=v,gw-priority=4",
                    "bar",
                ],
                r#"{"bar":{},"foo":{"Aliases":["a","b"],"DriverOpts":{"k":"v"},"GwPriority":4,"IPAMConfig":{"IPv4Address":"10.0.0.2"},"MacAddress":"92:d0:c6:0a:29:33"}}"#,
            ),
            (&["a", "a"], "network \"a\" is specified multiple times"),
            (&["a", "host"], "conflicting options: cannot attach both user-defined and non-user-defined network-modes"),
            (&["foo,ip=1.2.3.4"], "invalid field foo"),
            (&["name=x,zz=y"], "invalid field key zz"),
            (&["name="], "network name/id is not specified"),
            (&["name=x,gw-priority=q"], "invalid gw-priority (q): invalid syntax"),
            (&["name=x,driver-opt=k"], "invalid key value pair format in driver options"),
            (&["name=x,ip=y"], "invalid IPv4 address: y"),
        ] {
            assert_eq!(shown(networks, First::default()), wanted, "{networks:?}");
        }
    }

    #[test]
    fn flags_of_the_first_network() {
        let alias = || First { aliases: vec!["q".to_owned()], ..First::default() };
        assert_eq!(shown(&["foo"], alias()), r#"{"foo":{"Aliases":["q"]}}"#);
        assert_eq!(
            shown(&["name=a,alias=x"], alias()),
            "conflicting options: cannot specify both --network-alias and per-network alias"
        );
        assert_eq!(shown(&[], alias()), "network-scoped aliases are only supported for user-defined networks");
        let addressed = First { ip: "10.0.0.1".to_owned(), links: vec!["x:y".to_owned()], ..First::default() };
        assert_eq!(shown(&["foo"], addressed), r#"{"foo":{"IPAMConfig":{"IPv4Address":"10.0.0.1"},"Links":["x:y"]}}"#);
    }
}
