//! Networks: looked at here; made and changed next door.

/// Making, removing, connecting, disconnecting.
mod change;
/// What a network is made with.
mod options;

pub use change::{connect, create, disconnect, prune, remove};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::http::answer::{Answer, json};
use crate::http::ask::Ask;
use crate::http::filters::{Filters, name_fits};
use crate::http::show::network::fixed_id;
use crate::time;
use ipnet::IpNet;
use plan::decide::DEFAULT_BRIDGE;
use plan::ipam::{Block, Usage};
use plan::world::{GatewayMode, Network, Subnet};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// The two that are no facts: their names are also the names of their drivers, but for Docker's word for nothing.
const FIXED: [(&str, &str); 2] = [("host", "host"), ("none", "null")];

struct Shown {
    id: String,
    name: String,
    driver: &'static str,
    labels: BTreeMap<String, String>,
    /// No container is on it. Those that every engine has are never called so.
    dangling: bool,
    value: Value,
}

pub fn list(ask: &Ask) -> Result<Answer> {
    let known = ["dangling", "driver", "id", "label", "label!", "name", "scope", "type"];
    let filters = Filters::read(&ask.query, &known)?;
    let dangling = filters.switch("dangling")?;
    for kind in filters.get("type") {
        if !["builtin", "custom"].contains(&kind.as_str()) {
            return Err(Error::Invalid(format!("invalid filter: 'type'='{kind}'")));
        }
    }
    let builtin = |name: &str| ["bridge", "host", "none"].contains(&name);
    let all = all(&ask.engine);
    let fitting = all.into_iter().filter(|shown| {
        filters.fits("name", |pattern| name_fits(pattern, &shown.name))
            && filters.fits("id", |prefix| shown.id.starts_with(prefix))
            && filters.fits("driver", |driver| driver == shown.driver)
            && filters.fits("scope", |scope| scope == "local")
            && filters.fits("type", |kind| (kind == "builtin") == builtin(&shown.name))
            && filters.labels_fit(&shown.labels)
            && dangling.is_none_or(|wanted| wanted == shown.dangling)
    });
    Ok(json(&fitting.map(|shown| shown.value).collect::<Vec<_>>()))
}

pub fn inspect(ask: &Ask) -> Result<Answer> {
    let all = all(&ask.engine);
    let wanted = ask.name();
    // The whole id, then the name, then the beginning of an id.
    let exact = all.iter().find(|n| n.id == wanted).or_else(|| all.iter().find(|n| n.name == wanted));
    let found = match exact {
        Some(found) => found,
        None => match &all.iter().filter(|n| n.id.starts_with(wanted)).collect::<Vec<_>>()[..] {
            [one] => *one,
            [] => return Err(Error::NotFound(format!("network {wanted} not found"))),
            many => {
                return Err(Error::Invalid(format!(
                    "network {wanted} is ambiguous ({} matches found based on ID prefix)",
                    many.len()
                )));
            }
        },
    };
    let mut value = found.value.clone();
    // Who looks at one network is told how far it is used up.
    if ask.version >= (1, 52)
        && let Some(network) = ask.engine.networks().iter().find(|network| network.id.as_str() == found.id)
    {
        value["Status"] = status(&ask.engine, network);
    }
    Ok(json(&value))
}

/// `Status` of `inspect`, since API 1.52. As Docker's, it knows the endpoints that are there, and not what stopped containers asked for by
/// number and nobody else is given.
fn status(engine: &Engine, network: &Network) -> Value {
    let members = engine.members(&network.id);
    let mut subnets = Map::new();
    let mut add = |subnet: String, usage: Usage| {
        // Docker's numbers end there too.
        let number = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        let shown = json!({ "IPsInUse": number(usage.used), "DynamicIPsAvailable": number(usage.free) });
        subnets.insert(subnet, shown);
    };
    if let Some(v4) = &network.v4 {
        add(v4.net.to_string(), v4.usage(members.iter().filter_map(|(_, endpoint)| endpoint.addr4)));
    }
    if let Some(v6) = &network.v6 {
        add(v6.net.to_string(), v6.usage(members.iter().filter_map(|(_, endpoint)| endpoint.addr6)));
    }
    json!({ "IPAM": { "Subnets": subnets } })
}

fn all(engine: &Engine) -> Vec<Shown> {
    let mut all: Vec<Shown> = engine.networks().iter().map(|network| recorded(engine, network)).collect();
    all.extend(FIXED.map(|(name, driver)| {
        let id = fixed_id(name);
        let value = wire(engine.since, &id, name, driver);
        Shown { id, name: name.to_owned(), driver, labels: BTreeMap::new(), dangling: false, value }
    }));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn wire(created: SystemTime, id: &str, name: &str, driver: &str) -> Value {
    json!({
        "Name": name,
        "Id": id,
        "Created": time::rfc3339(created),
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": null },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": {},
        "Options": {},
        "Labels": {},
    })
}

/// When a network was made.
fn created(network: &Network) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(network.about.created)
}

fn recorded(engine: &Engine, network: &Network) -> Shown {
    let id = network.id.as_str().to_owned();
    let about = &network.about;
    let driver = network.driver();
    let mut value = wire(created(network), &id, &network.name, driver);
    let four = network.v4.as_ref().map(subnet);
    let six = network.v6.as_ref().map(subnet);
    value["IPAM"]["Config"] = Value::Array(four.into_iter().chain(six).collect());
    if !about.ipam_options.is_empty() {
        value["IPAM"]["Options"] = json!(about.ipam_options);
    }
    value["EnableIPv4"] = network.v4.is_some().into();
    value["EnableIPv6"] = network.v6.is_some().into();
    value["Internal"] = network.internal.into();
    value["Attachable"] = about.attachable.into();
    value["Options"] = json!(about.options);
    if driver == "macvlan" && about.options.get("parent").is_none_or(String::is_empty) {
        value["Options"]["parent"] = network.bridge.as_str().into();
    }
    value["Labels"] = json!(about.labels);
    let mut containers = Map::new();
    for (container, endpoint) in engine.members(&network.id) {
        let with_prefix = |addr: Option<String>, prefix: Option<u8>| match (addr, prefix) {
            (Some(addr), Some(prefix)) => format!("{addr}/{prefix}"),
            _ => String::new(),
        };
        let v4 = with_prefix(endpoint.addr4.map(|a| a.to_string()), network.v4.as_ref().map(|v4| v4.net.prefix_len()));
        let v6 = with_prefix(endpoint.addr6.map(|a| a.to_string()), network.v6.as_ref().map(|v6| v6.net.prefix_len()));
        let shown = json!({
            "Name": endpoint.container_name,
            "EndpointID": endpoint.id.as_str(),
            "MacAddress": endpoint.mac.to_string(),
            "IPv4Address": v4,
            "IPv6Address": v6,
        });
        containers.insert(container.as_str().to_owned(), shown);
    }
    let dangling = containers.is_empty() && network.name != DEFAULT_BRIDGE;
    value["Containers"] = Value::Object(containers);
    if network.name == DEFAULT_BRIDGE {
        value["Options"] = json!({
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": network.icc.to_string(),
            "com.docker.network.bridge.enable_ip_masquerade": network.masquerade.to_string(),
            "com.docker.network.bridge.host_binding_ipv4": engine.config.bridge.host_ip.to_string(),
            "com.docker.network.bridge.name": network.bridge.as_str(),
            "com.docker.network.driver.mtu": network.mtu.to_string(),
        });
    }
    Shown { id, name: network.name.clone(), driver, labels: about.labels.clone(), dangling, value }
}

/// One of `IPAM.Config`.
fn subnet<N: Block + Into<IpNet> + std::fmt::Display + PartialEq>(subnet: &Subnet<N, N::Addr>) -> Value {
    let text = |addr: N::Addr| {
        let addr: IpAddr = addr.into();
        addr.to_string()
    };
    let mut shown = json!({ "Subnet": subnet.net.to_string() });
    if subnet.mode != GatewayMode::Isolated {
        shown["Gateway"] = text(subnet.gateway).into();
    }
    if subnet.range != subnet.net {
        shown["IPRange"] = subnet.range.to_string().into();
    }
    if !subnet.reserved.is_empty() {
        let reserved: BTreeMap<&String, String> =
            subnet.reserved.iter().map(|(name, addr)| (name, text(*addr))).collect();
        shown["AuxiliaryAddresses"] = json!(reserved);
    }
    shown
}
