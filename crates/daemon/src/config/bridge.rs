//! The settings of the default bridge.

use super::{Config, Told, address};
use crate::error::{Error, Result};
use ipnet::IpNet;
use plan::decide::{DEFAULT_BRIDGE, NetworkWish, SubnetWish, default_mtu};
use plan::ids::{IfName, NetworkId};
use plan::ipam::Pool;
use plan::world::{Means, Network};
use serde_json::Value;
use std::net::IpAddr;

/// The bridge device that berth makes when it is told of no other.
const OWN: &str = "berth0";

/// The default bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Which device.
    pub device: Device,
    /// `--bip`
    pub addr4: Option<IpNet>,
    /// `--bip6`
    pub addr6: Option<IpNet>,
    /// `--fixed-cidr`
    pub range4: Option<IpNet>,
    /// `--fixed-cidr-v6`
    pub range6: Option<IpNet>,
    /// `--default-gateway`
    pub gateway4: Option<IpAddr>,
    /// `--default-gateway-v6`
    pub gateway6: Option<IpAddr>,
    /// It has IPv6.
    pub ipv6: bool,
    /// In bytes; `None` is the default route's.
    pub mtu: Option<u32>,
    /// Containers reach each other.
    pub icc: bool,
    /// Traffic leaves with the host's address.
    pub masquerade: bool,
    /// The host's address of published ports that name none; unspecified is every one.
    pub host_ip: IpAddr,
}

/// What the engine may use of the host.
pub(super) fn means(told: &Told) -> Means {
    Means {
        firewall4: told.switch("iptables", true),
        firewall6: told.switch("ip6tables", true),
        forward: told.switch("ip-forward", true),
    }
}

/// Which device the default bridge is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// berth's own, made when needed.
    Own(IfName),
    /// One made by hand (`--bridge NAME`).
    Foreign(IfName),
    /// None (`--bridge none`): containers that name no network have a loopback interface only.
    None,
}

impl Bridge {
    pub(super) fn of(told: &Told) -> Result<Bridge> {
        let name = told.text("bridge").filter(|name| !name.is_empty());
        if let (Some(_), Some(flag)) = (name, ["bip", "bip6"].into_iter().find(|key| told.has(key))) {
            return Err(Error::Invalid(format!(
                "You specified -b & --{flag}, mutually exclusive options. Please specify only one"
            )));
        }
        let (icc, ipv6) = (told.switch("icc", true), told.switch("ipv6", false));
        // Docker's text, which it has for IPv4 only.
        for (flag, needed) in [("iptables", true), ("ip6tables", ipv6)] {
            if !icc && needed && !told.switch(flag, true) {
                return Err(Error::Invalid(format!(
                    "You specified --{flag}=false with --icc=false. ICC=false uses {flag} to function. Please set --icc or \
                     --{flag} to true"
                )));
            }
        }
        let invalid = |mtu: i64| Error::Invalid(format!("invalid default MTU: {mtu}"));
        let mtu = told.number("mtu").filter(|mtu| *mtu != 0);
        let mtu = mtu.map(|mtu| u32::try_from(mtu).map_err(|_| invalid(mtu))).transpose()?;
        let device = match name {
            None => Device::Own(if_name(OWN)?),
            Some("none") => Device::None,
            Some(OWN) => Device::Own(if_name(OWN)?),
            Some(name) => Device::Foreign(if_name(name)?),
        };
        let bip = |key: &str| -> Result<Option<IpNet>> {
            let text = told.text(key).filter(|text| !text.is_empty());
            text.map(|text| plan::decide::bip(text).map_err(|refusal| Error::Invalid(refusal.to_string()))).transpose()
        };
        let bridge = Bridge {
            device,
            addr4: bip("bip")?.map(|net| family(net, false, "bip")).transpose()?,
            addr6: bip("bip6")?.map(|net| family(net, true, "bip6")).transpose()?,
            range4: net(told, "fixed-cidr", false)?,
            range6: net(told, "fixed-cidr-v6", true)?,
            gateway4: gateway(told, "default-gateway", false)?,
            gateway6: gateway(told, "default-gateway-v6", true)?,
            ipv6,
            mtu,
            icc,
            masquerade: told.switch("ip-masq", true),
            host_ip: told.text("ip").filter(|ip| !ip.is_empty()).map_or(Ok(IpAddr::from([0, 0, 0, 0])), address)?,
        };
        // Found wrong now, not when the first container starts.
        bridge.subnets()?;
        Ok(bridge)
    }

    fn subnets(&self) -> Result<Vec<SubnetWish>> {
        let families = [(self.addr4, self.range4, self.gateway4), (self.addr6, self.range6, self.gateway6)];
        let wished = families.into_iter().filter(|(a, r, g)| a.is_some() || r.is_some() || g.is_some());
        wished
            .map(|(addr, range, gateway)| {
                let wish = SubnetWish::of_bip(addr, range, gateway);
                wish.map_err(|refusal| Error::Invalid(refusal.to_string()))
            })
            .collect()
    }
}

impl Config {
    /// The default bridge as a wish, under an id that the caller replaces; `None` if there is to be none. For a bridge made by
    /// hand the caller fills in the addresses that it has.
    ///
    /// # Errors
    /// Addresses that do not fit each other.
    pub fn default_network(&self) -> Result<Option<NetworkWish>> {
        let bridge = &self.bridge;
        let id = NetworkId::try_from("0".repeat(64)).map_err(|bad| Error::Fault(bad.to_string()))?;
        let mut wish = NetworkWish::new(id, DEFAULT_BRIDGE);
        match &bridge.device {
            Device::None => return Ok(None),
            Device::Own(name) => wish.bridge = Some(name.clone()),
            Device::Foreign(name) => {
                wish.bridge = Some(name.clone());
                wish.foreign = Some(Vec::new());
            }
        }
        wish.ipv6 = bridge.ipv6;
        wish.subnets = bridge.subnets()?;
        wish.mtu = bridge.mtu;
        wish.icc = bridge.icc;
        wish.masquerade = bridge.masquerade;
        Ok(Some(wish))
    }

    /// The recorded network is what the settings ask for, on a host whose way out takes packets of `route_mtu` bytes. What they
    /// leave open may be anything.
    pub fn describes(&self, network: &Network, route_mtu: Option<u32>) -> bool {
        let bridge = &self.bridge;
        let (name, foreign) = match &bridge.device {
            Device::None => return false,
            Device::Own(name) => (name, false),
            Device::Foreign(name) => (name, true),
        };
        // A bridge made by hand has an MTU of its own.
        let mtu = bridge.mtu.or_else(|| (!foreign).then(|| default_mtu(route_mtu, bridge.ipv6)));
        let same = &network.bridge == name
            && network.foreign_bridge == foreign
            && network.v6.is_some() == bridge.ipv6
            && mtu.is_none_or(|mtu| network.mtu == mtu)
            && network.icc == bridge.icc
            && network.masquerade == bridge.masquerade;
        let four = network.v4.as_ref().is_none_or(|v4| {
            let had = Addresses {
                addr: IpNet::new(v4.gateway.into(), v4.net.prefix_len()).ok(),
                net: v4.net.into(),
                range: v4.range.into(),
                gateway: v4.default_gateway.map(IpAddr::from),
            };
            had.fit(bridge.addr4, bridge.range4, bridge.gateway4)
        });
        let six = network.v6.as_ref().is_none_or(|v6| {
            let had = Addresses {
                addr: IpNet::new(v6.gateway.into(), v6.net.prefix_len()).ok(),
                net: v6.net.into(),
                range: v6.range.into(),
                gateway: v6.default_gateway.map(IpAddr::from),
            };
            had.fit(bridge.addr6, bridge.range6, bridge.gateway6)
        });
        same && four && six
    }
}

/// What a recorded network has, of one family.
struct Addresses {
    addr: Option<IpNet>,
    net: IpNet,
    range: IpNet,
    gateway: Option<IpAddr>,
}

impl Addresses {
    fn fit(&self, addr: Option<IpNet>, range: Option<IpNet>, gateway: Option<IpAddr>) -> bool {
        let range_fits = match range {
            Some(range) => self.range == range.trunc(),
            None => self.range == self.net,
        };
        addr.is_none_or(|addr| self.addr == Some(addr)) && range_fits && self.gateway == gateway
    }
}

fn if_name(name: &str) -> Result<IfName> {
    IfName::try_from(name.to_owned()).map_err(|bad| Error::Invalid(format!("--bridge: {bad}")))
}

fn family(net: IpNet, v6: bool, flag: &str) -> Result<IpNet> {
    let is = matches!(net, IpNet::V6(_));
    let wanted = if v6 { "IPv6" } else { "IPv4" };
    if is == v6 {
        Ok(net)
    } else {
        Err(Error::Invalid(format!("--{flag} {net}: it is not an {wanted} address and prefix")))
    }
}

fn net(told: &Told, key: &str, v6: bool) -> Result<Option<IpNet>> {
    let Some(text) = told.text(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let net = text.parse().map_err(|_| Error::Invalid(format!("parse {key} failed: invalid CIDR address: {text}")))?;
    family(net, v6, key).map(Some)
}

fn gateway(told: &Told, key: &str, v6: bool) -> Result<Option<IpAddr>> {
    let Some(text) = told.text(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let addr = address(text)?;
    let wanted = if v6 { "IPv6" } else { "IPv4" };
    if addr.is_ipv6() == v6 {
        Ok(Some(addr))
    } else {
        Err(Error::Invalid(format!("--{key} {addr}: it is not an {wanted} address")))
    }
}

/// `--default-address-pool`
pub(super) fn pools(told: &Told) -> Result<Vec<Pool>> {
    let mut pools: Vec<Pool> = Vec::new();
    for pool in told.0.get("default-address-pools").and_then(Value::as_array).into_iter().flatten() {
        let base = pool.get("base").and_then(Value::as_str);
        let size = pool.get("size").and_then(Value::as_u64).and_then(|size| u8::try_from(size).ok());
        let (Some(base), Some(size)) = (base, size) else {
            return Err(Error::Invalid(format!(
                "default-address-pools: {pool}: base (CIDR) and size (bits) are both needed"
            )));
        };
        let invalid =
            |why: &str| Error::Invalid(format!("invalid default address pool: base={base},size={size}: {why}"));
        let net: IpNet = base.parse().map_err(|_| invalid("base is no CIDR address"))?;
        if size < net.prefix_len() {
            return Err(invalid("size is a prefix length, so it cannot be below the base's"));
        }
        let longest = if matches!(net, IpNet::V6(_)) { 126 } else { 30 };
        if size > longest {
            return Err(invalid("so small a subnet has no room for a gateway and a container"));
        }
        pools.push(Pool { base: net.trunc(), size });
    }
    Ok(pools)
}
