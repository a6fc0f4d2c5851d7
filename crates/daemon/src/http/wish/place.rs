//! A place on a network, from the wire's words: of `containers/create` and of `networks/connect`.

use super::links;
use crate::container::spec::PlaceSpec;
use crate::error::{Error, Result};
use api::EndpointSettings;
use plan::decide::DEFAULT_BRIDGE;
use plan::ids::IfName;
use std::collections::BTreeMap;

/// One place. `old_mac` is the address that stood elsewhere in an old request.
///
/// # Errors
/// What contradicts the kind of network, or is no address; what is not there yet.
pub fn read(network: String, settings: EndpointSettings, old_mac: Option<&str>) -> Result<PlaceSpec> {
    let user_defined =
        ![DEFAULT_BRIDGE, "none", "host"].contains(&network.as_str()) && !network.starts_with("container:");
    let ipam = settings.ipam_config.unwrap_or_default();
    let text = |text: Option<String>| text.unwrap_or_default();
    let (ip4, ip6) = (text(ipam.ipv4_address), text(ipam.ipv6_address));
    let aliases = settings.aliases.unwrap_or_default();
    let mut problems = Vec::new();
    if !user_defined && (!ip4.is_empty() || !ip6.is_empty()) {
        problems.push("user-specified IP address is supported on user-defined networks only");
    }
    if !user_defined && !aliases.is_empty() {
        problems.push("network-scoped aliases are only supported for user-defined networks");
    }
    let texts = settings.links.unwrap_or_default();
    if !user_defined && !texts.is_empty() {
        problems.push(
            "links are only supported for user-defined networks; those of the default one are in HostConfig.Links",
        );
    }
    if !problems.is_empty() {
        let listed = match problems[..] {
            [one] => one.to_owned(),
            _ => problems.iter().map(|problem| format!("* {problem}")).collect::<Vec<_>>().join("\n"),
        };
        return Err(Error::Invalid(format!(
            "invalid config for network {network}: invalid endpoint settings:\n{listed}"
        )));
    }
    let invalid = |refusal: plan::decide::Refusal| Error::Invalid(refusal.to_string());
    let link_local = ipam.link_local_ips.unwrap_or_default();
    let asked = plan::decide::endpoint_addresses(&network, &ip4, &ip6, &link_local).map_err(invalid)?;
    let mac = settings.mac_address.as_deref().or(old_mac).filter(|mac| !mac.is_empty());
    let mac = mac.map(|mac| plan::decide::mac(mac).map_err(invalid)).transpose()?;
    let driver_opts: BTreeMap<String, String> = settings.driver_opts.unwrap_or_default().into_iter().collect();
    Ok(PlaceSpec {
        network,
        id: None,
        aliases,
        ip4: asked.ip4,
        ip6: asked.ip6,
        link_local: asked.link_local,
        mac,
        priority: settings.gw_priority.unwrap_or(0),
        interface: interface(&driver_opts)?,
        sysctls: sysctls(&driver_opts)?,
        driver_opts,
        links: links::of_place(&texts)?,
    })
}

fn interface(options: &BTreeMap<String, String>) -> Result<Option<IfName>> {
    let asked = options.get("com.docker.network.endpoint.ifname").filter(|name| !name.is_empty());
    let name = asked.map(|name| name.parse::<IfName>()).transpose();
    name.map_err(|bad| Error::Invalid(format!("com.docker.network.endpoint.ifname: {bad}")))
}

/// `net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.IFNAME.accept_ra=0`
///
/// # Errors
/// Anything that is not a setting of one interface, in Docker's words.
fn sysctls(options: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let asked = options.get("com.docker.network.endpoint.sysctls").map(String::as_str).unwrap_or_default();
    let mut settings = BTreeMap::new();
    for text in asked.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let bad = || {
            Error::Invalid(format!(
                "unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be \
                 'ipv4', 'ipv6' or 'mpls'"
            ))
        };
        let (key, value) = text.split_once('=').ok_or_else(bad)?;
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        match key.split('.').collect::<Vec<_>>()[..] {
            // `docker` sends all of an option in small letters.
            ["net", family @ ("ipv4" | "ipv6" | "mpls"), table, "IFNAME" | "ifname", name]
                if word(table) && word(name) =>
            {
                settings.insert(format!("net.{family}.{table}.IFNAME.{name}"), value.to_owned());
            }
            _ => return Err(bad()),
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(option: &str, value: &str) -> Result<PlaceSpec> {
        let options = [(format!("com.docker.network.endpoint.{option}"), value.to_owned())];
        read("app".into(), EndpointSettings { driver_opts: Some(options.into()), ..Default::default() }, None)
    }

    #[test]
    fn what_an_interface_is_called_and_set_to() {
        assert_eq!(asked("ifname", "lan7").unwrap().interface.unwrap().as_str(), "lan7");
        assert_eq!(asked("ifname", "").unwrap().interface, None);
        assert!(asked("ifname", "a/b").unwrap_err().to_string().starts_with("com.docker.network.endpoint.ifname: "));
        let two =
            asked("sysctls", "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.ifname.gc_stale_time=9").unwrap();
        assert_eq!(two.sysctls["net.ipv4.conf.IFNAME.log_martians"], "1");
        assert_eq!(two.sysctls["net.ipv6.neigh.IFNAME.gc_stale_time"], "9");
        for bad in [
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.eth0.log_martians=1",
            "net.ipv4.conf.IFNAME.a/b=1",
            "net.core.conf.IFNAME.x=1",
            "x",
        ] {
            let said = asked("sysctls", bad).unwrap_err().to_string();
            assert!(said.starts_with(&format!("unrecognised network interface sysctl '{bad}'")), "{said}");
        }
    }
}
