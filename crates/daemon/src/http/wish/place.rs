//! A place on a network, from the wire's words: of `containers/create` and of `networks/connect`.

use crate::container::spec::PlaceSpec;
use crate::error::{Error, Result};
use api::EndpointSettings;
use plan::decide::DEFAULT_BRIDGE;

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
    if !problems.is_empty() {
        let listed = match problems[..] {
            [one] => one.to_owned(),
            _ => problems.iter().map(|problem| format!("* {problem}")).collect::<Vec<_>>().join("\n"),
        };
        return Err(Error::Invalid(format!(
            "invalid config for network {network}: invalid endpoint settings:\n{listed}"
        )));
    }
    if settings.links.is_some_and(|list| !list.is_empty()) {
        return Err(Error::Absent(format!("EndpointsConfig.{network}.Links: this is not there yet")));
    }
    let invalid = |refusal: plan::decide::Refusal| Error::Invalid(refusal.to_string());
    let link_local = ipam.link_local_ips.unwrap_or_default();
    let asked = plan::decide::endpoint_addresses(&network, &ip4, &ip6, &link_local).map_err(invalid)?;
    let mac = settings.mac_address.as_deref().or(old_mac).filter(|mac| !mac.is_empty());
    let mac = mac.map(|mac| plan::decide::mac(mac).map_err(invalid)).transpose()?;
    Ok(PlaceSpec {
        network,
        id: None,
        aliases,
        ip4: asked.ip4,
        ip6: asked.ip6,
        link_local: asked.link_local,
        mac,
        priority: settings.gw_priority.unwrap_or(0),
        driver_opts: settings.driver_opts.unwrap_or_default().into_iter().collect(),
    })
}
