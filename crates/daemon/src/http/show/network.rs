//! Networks and ports of one container.

use crate::container::Container;
use crate::container::spec::{NetworkMode, PlaceSpec};
use crate::engine::{Places, dns_names};
use crate::http::version::Version;
use plan::ids::Mac;
use plan::world::{Endpoint, Network, PortBinding, Proto};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The id of one of the two networks that are no facts: `host` and `none`. The same on every host, and 64 digits like others.
pub fn fixed_id(name: &str) -> String {
    let digest = Sha256::digest(format!("berth network {name}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `NetworkSettings` of `inspect`. API 1.52 dropped what stood at the top besides, and 1.45 the short id from the aliases.
pub fn settings(container: &Container, places: &Places, version: Version) -> Value {
    let mut networks = networks(container, places);
    if version < (1, 45) {
        for place in &container.spec.network.places {
            let aliases = place.aliases.iter().cloned().chain([container.id.short().to_string()]);
            if let Some(shown) = networks.get_mut(&place.network).filter(|shown| !shown["DNSNames"].is_null()) {
                shown["Aliases"] = aliases.collect();
            }
        }
    }
    let mut settings = json!({
        "SandboxID": places.sandbox.as_ref().map_or("", |id| id.as_str()),
        "SandboxKey": places.sandbox_key,
        "Ports": port_map(container, places),
        "Networks": networks,
    });
    if version >= (1, 52) {
        return settings;
    }
    let first = places.endpoints.first().filter(|(_, network)| network.name == plan::decide::DEFAULT_BRIDGE);
    let shown = first.map_or_else(|| blank(None), |(endpoint, network)| place(endpoint, network));
    for field in [
        "EndpointID",
        "Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "MacAddress",
    ] {
        settings[field] = shown[field].clone();
    }
    settings["Bridge"] = "".into();
    settings["HairpinMode"] = false.into();
    settings["LinkLocalIPv6Address"] = "".into();
    settings["LinkLocalIPv6PrefixLen"] = 0.into();
    settings["SecondaryIPAddresses"] = Value::Null;
    settings["SecondaryIPv6Addresses"] = Value::Null;
    settings
}

/// `Networks` by name. A container that does not run shows its network with empty fields; one that joined another's
/// shows none.
pub fn networks(container: &Container, places: &Places) -> Value {
    let mut networks = Map::new();
    let fixed = |name: &str| {
        let mut shown = blank(None);
        if container.state.phase.is_alive() {
            shown["NetworkID"] = fixed_id(name).into();
        }
        (name.to_owned(), shown)
    };
    match &container.spec.network.mode {
        NetworkMode::Joined(_) => {}
        NetworkMode::Closed => networks.extend([fixed("none")]),
        NetworkMode::Open => networks.extend([fixed("host")]),
        NetworkMode::Bridged | NetworkMode::Named(_) => {
            for wished in &container.spec.network.places {
                let on = |network: &Network| wished.id.as_ref() == Some(&network.id) || wished.network == network.name;
                let shown = match places.endpoints.iter().find(|(_, network)| on(network)) {
                    Some((endpoint, network)) => place(endpoint, network),
                    None => blank(wished.mac),
                };
                networks.insert(wished.network.clone(), with_wishes(container, wished, shown));
            }
        }
    }
    Value::Object(networks)
}

fn with_wishes(container: &Container, spec: &PlaceSpec, mut shown: Value) -> Value {
    if !spec.aliases.is_empty() {
        shown["Aliases"] = json!(spec.aliases);
    }
    if !spec.links.is_empty() {
        shown["Links"] = spec.links.iter().map(|link| format!("{}:{}", link.target, link.alias)).collect();
    }
    if !spec.driver_opts.is_empty() {
        shown["DriverOpts"] = json!(spec.driver_opts);
    }
    shown["GwPriority"] = spec.priority.into();
    if let Some(id) = &spec.id {
        shown["NetworkID"] = id.as_str().into();
    }
    if spec.ip4.is_some() || spec.ip6.is_some() || !spec.link_local.is_empty() {
        let text = |addr: Option<String>| addr.unwrap_or_default();
        shown["IPAMConfig"] = json!({
            "IPv4Address": text(spec.ip4.map(|addr| addr.to_string())),
            "IPv6Address": text(spec.ip6.map(|addr| addr.to_string())),
        });
        if !spec.link_local.is_empty() {
            shown["IPAMConfig"]["LinkLocalIPs"] = json!(spec.link_local);
        }
    }
    if spec.network != plan::decide::DEFAULT_BRIDGE {
        shown["DNSNames"] = json!(dns_names(container, spec));
    }
    shown
}

fn blank(mac: Option<Mac>) -> Value {
    json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "DriverOpts": null,
        "GwPriority": 0,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "MacAddress": mac.map_or_else(String::new, |mac| mac.to_string()),
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": null,
    })
}

fn place(endpoint: &Endpoint, network: &Network) -> Value {
    let mut shown = blank(Some(endpoint.mac));
    shown["NetworkID"] = network.id.as_str().into();
    shown["EndpointID"] = endpoint.id.as_str().into();
    if let (Some(addr), Some(subnet)) = (endpoint.addr4, &network.v4) {
        shown["IPAddress"] = addr.to_string().into();
        shown["IPPrefixLen"] = subnet.net.prefix_len().into();
        if !network.internal {
            shown["Gateway"] = subnet.default_gateway.unwrap_or(subnet.gateway).to_string().into();
        }
    }
    if let (Some(addr), Some(subnet)) = (endpoint.addr6, &network.v6) {
        shown["GlobalIPv6Address"] = addr.to_string().into();
        shown["GlobalIPv6PrefixLen"] = subnet.net.prefix_len().into();
        if !network.internal {
            shown["IPv6Gateway"] = subnet.default_gateway.unwrap_or(subnet.gateway).to_string().into();
        }
    }
    shown
}

/// Each published port of its own: ranges are one binding in the record.
fn single(binding: &PortBinding) -> impl Iterator<Item = (u16, Proto, IpAddr, u16)> {
    let PortBinding { proto, host_ip, host_port, inner_port, count } = *binding;
    (0..count).map(move |n| (inner_port + n, proto, host_ip, host_port + n))
}

fn bound(places: &Places) -> impl Iterator<Item = (u16, Proto, IpAddr, u16)> {
    places.endpoints.iter().flat_map(|(endpoint, _)| &endpoint.ports).flat_map(single)
}

/// `Ports` of `inspect`: `{"80/tcp": [{HostIp, HostPort}], "9/tcp": null}`; `{}` unless it runs.
fn port_map(container: &Container, places: &Places) -> Value {
    let mut map: BTreeMap<(u16, Proto), Vec<Value>> = BTreeMap::new();
    let on_bridge = !places.endpoints.is_empty() && container.state.phase.is_alive();
    if on_bridge {
        map.extend(container.spec.network.exposed.iter().map(|port| (*port, Vec::new())));
    }
    for (inner, proto, host_ip, host_port) in bound(places) {
        let binding = json!({ "HostIp": host_ip.to_string(), "HostPort": host_port.to_string() });
        map.entry((inner, proto)).or_default().push(binding);
    }
    for opened in places.endpoints.iter().flat_map(|(endpoint, _)| &endpoint.opened) {
        for port in opened.ports() {
            // No port of the host.
            let binding = json!({ "HostIp": if opened.v6 { "::" } else { "0.0.0.0" }, "HostPort": "" });
            map.entry((port, opened.proto)).or_default().push(binding);
        }
    }
    let named = map.into_iter().map(|((port, proto), bindings)| {
        let bindings = if bindings.is_empty() { Value::Null } else { Value::Array(bindings) };
        (format!("{port}/{}", proto.name()), bindings)
    });
    Value::Object(named.collect())
}

/// `Ports` of a line of `ps`.
pub fn port_list(container: &Container, places: &Places) -> Vec<Value> {
    if places.endpoints.is_empty() || !container.state.phase.is_alive() {
        return Vec::new();
    }
    let published: Vec<_> = bound(places).collect();
    let mut list = Vec::new();
    for (port, proto) in &container.spec.network.exposed {
        if !published.iter().any(|(inner, of, ..)| inner == port && of == proto) {
            list.push(json!({ "PrivatePort": port, "Type": proto.name() }));
        }
    }
    list.extend(published.into_iter().map(|(inner, proto, host_ip, host_port)| {
        json!({ "IP": host_ip.to_string(), "PrivatePort": inner, "PublicPort": host_port, "Type": proto.name() })
    }));
    list
}
