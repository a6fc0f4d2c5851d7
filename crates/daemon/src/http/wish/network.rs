//! Network mode, ports, names: what conflicts is refused in Docker's words.

use super::{Around, links, place};
use crate::container::spec::{HostAddr, NetworkMode, NetworkSpec, PlaceSpec, Publish};
use crate::engine::may_join;
use crate::error::{Error, Result};
use api::{ContainerCreateBody, HostConfig, PortBinding};
use plan::decide::DEFAULT_BRIDGE;
use plan::world::Proto;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Everything about its network. `old_mac` is the address that stood at the top of the request before API 1.44.
pub fn network(
    body: &ContainerCreateBody,
    host: &HostConfig,
    old_mac: Option<&str>,
    around: &Around,
    warnings: &mut Vec<String>,
) -> Result<NetworkSpec> {
    let mode = mode(body, host)?;
    conflicts(&mode, body, host)?;
    let (mode, mut places) = places(mode, body, old_mac)?;
    let links = host.links.as_deref().unwrap_or_default();
    if let (NetworkMode::Named(_), Some(first)) = (&mode, places.first_mut()) {
        // The docker command says them in both places.
        let more = links::of_place(links)?;
        first.links = links::joined(first.links.drain(..).chain(more).collect())?;
    }
    warnings.extend(places.iter().flat_map(|place| links::shared(&place.links)));
    // The engine's `--ip` is of its default bridge; other networks have their own.
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let default_ip = if mode == NetworkMode::Bridged { around.config.bridge.host_ip } else { any };
    let mut spec = NetworkSpec {
        exposed: exposed(around.image.exposed_ports.keys(), body.exposed_ports.iter().flatten())?,
        published: published(host.port_bindings.iter().flatten(), default_ip)?,
        publish_all: host.publish_all_ports.unwrap_or(false),
        dns: host.dns.iter().flatten().map(|text| address(text)).collect::<Result<_>>()?,
        dns_search: host.dns_search.clone().unwrap_or_default(),
        dns_options: host.dns_options.clone().unwrap_or_default(),
        extra_hosts: host.extra_hosts.iter().flatten().map(|line| extra_host(line)).collect::<Result<_>>()?,
        links: links::links(&mode, links, around, warnings)?,
        mode,
        places,
    };
    for port in host.port_bindings.iter().flat_map(|bindings| bindings.keys()) {
        spec.exposed.insert(self::port(port)?);
    }
    if matches!(spec.mode, NetworkMode::Open) && (!spec.published.is_empty() || spec.publish_all) {
        warnings.push("Published ports are discarded when using host network mode".into());
        spec.published.clear();
        spec.publish_all = false;
    }
    Ok(spec)
}

fn mode(body: &ContainerCreateBody, host: &HostConfig) -> Result<NetworkMode> {
    if body.network_disabled == Some(true) {
        return Ok(NetworkMode::Closed);
    }
    let text = host.network_mode.as_deref().unwrap_or_default();
    match text {
        "" | "default" | "bridge" => Ok(NetworkMode::Bridged),
        "none" => Ok(NetworkMode::Closed),
        "host" => Ok(NetworkMode::Open),
        _ => match text.split_once(':') {
            Some(("container", target)) if !target.is_empty() => Ok(NetworkMode::Joined(target.to_owned())),
            Some(("container", _)) => Err(bad_joined()),
            None if text == "container" => Err(bad_joined()),
            _ => Ok(NetworkMode::Named(text.to_owned())),
        },
    }
}

fn bad_joined() -> Error {
    Error::Invalid("invalid network mode: invalid container format container:<name|id>".into())
}

/// What cannot be together; only what the request itself says counts, not the image's ports.
fn conflicts(mode: &NetworkMode, body: &ContainerCreateBody, host: &HostConfig) -> Result<()> {
    let refuse = |what: &str| Err(Error::Invalid(format!("conflicting options: {what}")));
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let hostname = body.hostname.as_ref().is_some_and(|name| !name.is_empty());
    if let NetworkMode::Joined(_) = mode {
        if hostname {
            return refuse("hostname and the network mode");
        }
        if some(&host.links) {
            return refuse("container type network can't be used with links. This would result in undefined behavior");
        }
        if some(&host.dns) {
            return refuse("dns and the network mode");
        }
        if some(&host.extra_hosts) {
            return refuse("custom host-to-IP mapping and the network mode");
        }
        let bound = host.port_bindings.as_ref().is_some_and(|bindings| !bindings.is_empty());
        if bound || host.publish_all_ports == Some(true) {
            return refuse("port publishing and the container type network mode");
        }
        if body.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
            return refuse("port exposing and the container type network mode");
        }
    }
    if host.uts_mode.as_deref() == Some("host") && hostname {
        return refuse("hostname and the UTS mode");
    }
    if matches!(mode, NetworkMode::Open) && some(&host.links) {
        return refuse("host type networking can't be used with links. This would result in undefined behavior");
    }
    Ok(())
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::Invalid(format!("invalid IP address: {text}")))
}

/// `80`, `80/tcp`, `53/UDP`
///
/// # Errors
/// `invalid port specification: "X"`, `invalid proto: X`.
pub fn port(text: &str) -> Result<(u16, Proto)> {
    let (number, proto) = text.split_once('/').unwrap_or((text, "tcp"));
    let proto = match proto.to_ascii_lowercase().as_str() {
        "tcp" | "" => Proto::Tcp,
        "udp" => Proto::Udp,
        "sctp" => Proto::Sctp,
        _ => return Err(Error::Invalid(format!("invalid proto: {proto}"))),
    };
    let bad = || Error::Invalid(format!("invalid port specification: {text:?}"));
    let number = number.parse::<u16>().ok().filter(|number| *number > 0).ok_or_else(bad)?;
    Ok((number, proto))
}

fn exposed<'a>(
    image: impl Iterator<Item = &'a String>,
    asked: impl Iterator<Item = &'a String>,
) -> Result<BTreeSet<(u16, Proto)>> {
    let mut ports = BTreeSet::new();
    for text in image.chain(asked) {
        // An image's EXPOSE may be a range.
        let (numbers, proto) = text.split_once('/').unwrap_or((text, "tcp"));
        match numbers.split_once('-') {
            Some((from, to)) => {
                let (from, proto) = port(&format!("{from}/{proto}"))?;
                let (to, _) = port(&format!("{to}/tcp"))?;
                if from > to {
                    return Err(Error::Invalid(format!("invalid port specification: {text:?}")));
                }
                ports.extend((from..=to).map(|number| (number, proto)));
            }
            None => drop(ports.insert(port(text)?)),
        }
    }
    Ok(ports)
}

/// `PortBindings`; `default_ip` is where a port goes that names no address (`--ip` of the engine).
///
/// # Errors
/// Those of [`port`]; no address; no port of the host.
pub fn published<'a>(
    bindings: impl Iterator<Item = (&'a String, &'a Option<Vec<PortBinding>>)>,
    default_ip: IpAddr,
) -> Result<Vec<Publish>> {
    let mut published = Vec::new();
    for (inner, bindings) in bindings {
        let (inner, proto) = port(inner)?;
        for binding in bindings.iter().flatten() {
            let host_ip = match binding.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
                Some(ip) => Some(address(ip.trim_start_matches('[').trim_end_matches(']'))?),
                None => Some(default_ip).filter(|ip| !ip.is_unspecified()),
            };
            let host_ports = host_ports(binding.host_port.as_deref().unwrap_or_default())?;
            published.push(Publish { proto, host_ip, host_ports, inner });
        }
    }
    // The request's object has no order; ports are given out in this one.
    published.sort_by_key(|publish| (publish.inner, publish.proto, publish.host_ip, publish.host_ports));
    Ok(published)
}

/// Empty or `0`: any. `8080`. `8000-8010`: the first that is free.
fn host_ports(text: &str) -> Result<Option<(u16, u16)>> {
    let bad = || Error::Invalid(format!("invalid port specification: {text:?}"));
    // A protocol after the host's port says nothing new.
    let numbers = text.split('/').next().unwrap_or_default();
    if numbers.is_empty() || numbers == "0" {
        return Ok(None);
    }
    let (from, to) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (from, to): (u16, u16) = (from.parse().map_err(|_| bad())?, to.parse().map_err(|_| bad())?);
    if from == 0 || from > to { Err(bad()) } else { Ok(Some((from, to))) }
}

/// `name:address`
fn extra_host(line: &str) -> Result<(String, HostAddr)> {
    let (name, addr) = line
        .split_once(['=', ':'])
        .filter(|(name, addr)| !name.is_empty() && !addr.is_empty())
        .ok_or_else(|| Error::Invalid(format!("bad format for add-host: {line:?}")))?;
    if addr == "host-gateway" {
        return Ok((name.to_owned(), HostAddr::HostGateway));
    }
    let bare = addr.strip_prefix('[').and_then(|addr| addr.strip_suffix(']')).unwrap_or(addr);
    let addr = bare.parse().map_err(|_| Error::Invalid(format!("invalid IP address in add-host: {addr:?}")))?;
    Ok((name.to_owned(), HostAddr::Addr(addr)))
}

/// The places that are asked for, and the mode that they come to. What `NetworkMode` names is the first; others have no order
/// in a request, and follow by name.
fn places(
    mode: NetworkMode,
    body: &ContainerCreateBody,
    old_mac: Option<&str>,
) -> Result<(NetworkMode, Vec<PlaceSpec>)> {
    if body.network_disabled == Some(true) {
        return Ok((mode, Vec::new()));
    }
    let given = body.networking_config.as_ref().and_then(|config| config.endpoints_config.clone()).unwrap_or_default();
    let own = match &mode {
        NetworkMode::Bridged => DEFAULT_BRIDGE,
        NetworkMode::Closed => "none",
        NetworkMode::Open => "host",
        NetworkMode::Joined(_) => "",
        NetworkMode::Named(name) => name,
    };
    let mut named: Vec<(String, api::EndpointSettings)> = given
        .into_iter()
        .map(|(name, settings)| (if name == "default" { DEFAULT_BRIDGE.to_owned() } else { name }, settings))
        .collect();
    named.sort_by(|(a, _), (b, _)| (a != own, a).cmp(&(b != own, b)));
    if named.is_empty() && !own.is_empty() {
        named.push((own.to_owned(), api::EndpointSettings::default()));
    }
    let mut places = Vec::new();
    for (at, (name, settings)) in named.into_iter().enumerate() {
        let joined = matches!(mode, NetworkMode::Joined(_)) && name.starts_with("container:");
        if name != own && !joined {
            may_join(&mode, &name)?;
        }
        // Before API 1.44 the address stood at the top of the request, and was the first place's.
        places.push(place::read(name, settings, old_mac.filter(|_| at == 0))?);
    }
    match mode {
        NetworkMode::Bridged | NetworkMode::Named(_) => {
            let mode = match places.first() {
                Some(first) if first.network != DEFAULT_BRIDGE => NetworkMode::Named(first.network.clone()),
                _ => NetworkMode::Bridged,
            };
            Ok((mode, places))
        }
        // Their places were only looked at for what is wrong in them.
        mode => Ok((mode, Vec::new())),
    }
}
