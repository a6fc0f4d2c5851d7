//! Every choice: a request and what is known of the host, and the change of the facts that grants it, or a refusal.
//!
//! Addresses, Ethernet addresses, names and ports are chosen here and nowhere else, before the first system call.

use crate::ids::{ContainerId, EndpointId, IfName, NetworkId, SandboxId};
use crate::ipam::Pool;
use crate::ports::Unbound;
use crate::world::{Change, Endpoint, Fact, Linked, Proto, Sandbox, World};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

mod attach;
mod lead;
mod macvlan;
mod network;
mod publish;
mod refusal;
mod typed;

pub use attach::{AttachWish, Kept, Previous, attach, endpoint_settings};
pub use lead::{Handover, handovers};
pub(crate) use network::subnets;
pub use network::{DEFAULT_BRIDGE, MacvlanWish, NetworkWish, SubnetWish, default_mtu, network};
pub(crate) use publish::is_private;
pub use publish::{publish, unpublish};
pub use refusal::{ConfigProblem, Kind, Refusal, SettingsProblem};
pub use typed::{EndpointAddresses, bip, endpoint_addresses, mac};

/// What a choice must know about the host; read anew for each request.
#[derive(Clone, Debug)]
pub struct Facts {
    /// On-link routes of others: no subnet is chosen over them.
    pub routes: Vec<IpNet>,
    /// Routes of others by way of a next hop, default routes among them: a subnet is chosen over them only if there is no other.
    pub far_routes: Vec<IpNet>,
    /// Addresses of the host's own interfaces, with their prefixes.
    pub addrs: Vec<IpNet>,
    /// Interfaces of the host that are not ours.
    pub links: BTreeSet<IfName>,
    /// Their MTUs, in bytes, as far as they are known.
    pub mtus: BTreeMap<IfName, u32>,
    /// How many ports of each bridge are others'.
    pub ports: BTreeMap<IfName, usize>,
    /// The MTU of the host's way out, in bytes; `None` if it has none.
    pub default_mtu: Option<u32>,
    /// The resolvers that the host uses: no subnet is chosen over them.
    pub resolvers: Vec<IpAddr>,
    /// Seconds of the caller's clock; the same clock as in `Fact::NoEndpoint`.
    pub now: u64,
    /// The kernel has IPv6.
    pub has_ipv6: bool,
    /// First and last port that are given out where none is named (`net.ipv4.ip_local_port_range`).
    pub ephemeral: (u16, u16),
    /// Ports that are given out only by number (`net.ipv4.ip_local_reserved_ports`).
    pub reserved: BTreeSet<u16>,
    /// What was tried to be bound on the host, and could not be.
    pub busy: BTreeMap<(Proto, SocketAddr), Unbound>,
    /// From which subnets are cut where none is named (`--default-address-pool`).
    pub pools: Vec<Pool>,
    /// 40 bits that are this host's own, for its unique local IPv6 block (RFC 4193).
    pub global_id: [u8; 5],
}

impl Default for Facts {
    /// A host with nothing on it, Docker's pools, and the port range that Docker falls back to.
    fn default() -> Self {
        Facts {
            routes: Vec::new(),
            far_routes: Vec::new(),
            addrs: Vec::new(),
            links: BTreeSet::new(),
            mtus: BTreeMap::new(),
            ports: BTreeMap::new(),
            default_mtu: None,
            resolvers: Vec::new(),
            now: 0,
            has_ipv6: true,
            ephemeral: (49153, 65535),
            reserved: BTreeSet::new(),
            busy: BTreeMap::new(),
            pools: crate::ipam::default_pools(),
            global_id: [0; 5],
        }
    }
}

/// Remove a network that nobody is on.
///
/// # Errors
/// `NoNetwork`; `ActiveEndpoints`.
pub fn remove_network(world: &World, id: &NetworkId) -> Result<Change, Refusal> {
    let network = world.networks.get(id).ok_or_else(|| Refusal::NoNetwork(id.to_string()))?;
    let on_it = world.endpoints.values().filter(|e| &e.network == id);
    let named = on_it.map(|e| format!("name:{:?} id:\"{}\"", e.container_name, e.id.short()));
    let endpoints = named.collect::<Vec<_>>().join(", ");
    if endpoints.is_empty() {
        Ok(vec![Fact::NoNetwork(id.clone())])
    } else {
        Err(Refusal::ActiveEndpoints { network: network.name.clone(), endpoints })
    }
}

/// A sandbox for a container.
///
/// # Errors
/// `SandboxExists`.
pub fn sandbox(world: &World, id: SandboxId, container: ContainerId) -> Result<Change, Refusal> {
    if world.sandboxes.contains_key(&id) {
        return Err(Refusal::SandboxExists(id));
    }
    Ok(vec![Fact::Sandbox(Sandbox::new(id, container))])
}

/// What a sandbox's container is linked to, in place of what it was.
///
/// # Errors
/// `NoSandbox`.
pub fn link(world: &World, id: &SandboxId, linked: Vec<Linked>) -> Result<Change, Refusal> {
    let sandbox = world.sandboxes.get(id).ok_or_else(|| Refusal::NoSandbox(id.clone()))?;
    Ok(vec![Fact::Sandbox(Sandbox { linked, ..sandbox.clone() })])
}

/// Take a sandbox off a network. If its default route went that way, another endpoint gets it, and its published ports.
///
/// # Errors
/// `NoEndpoint`.
pub fn detach(world: &World, id: &EndpointId, now: u64) -> Result<Change, Refusal> {
    let gone = world.endpoints.get(id).ok_or_else(|| Refusal::NoEndpoint(id.to_string()))?;
    let others = world.endpoints_of(&gone.sandbox).filter(|other| &other.id != id).cloned().collect();
    let led = lead::led(world, others, Some(gone));
    Ok([Fact::NoEndpoint(id.clone(), now)].into_iter().chain(led).collect())
}

/// Other names of an endpoint: its container was renamed.
///
/// # Errors
/// `NoEndpoint`.
pub fn rename(world: &World, id: &EndpointId, container_name: String, names: Vec<String>) -> Result<Change, Refusal> {
    let endpoint = world.endpoints.get(id).ok_or_else(|| Refusal::NoEndpoint(id.to_string()))?;
    Ok(vec![Fact::Endpoint(Endpoint { container_name, names, ..endpoint.clone() })])
}

/// Remove a sandbox and all of its endpoints.
///
/// # Errors
/// `NoSandbox`.
pub fn close(world: &World, id: &SandboxId, now: u64) -> Result<Change, Refusal> {
    if !world.sandboxes.contains_key(id) {
        return Err(Refusal::NoSandbox(id.clone()));
    }
    // Endpoints first: their addresses rest in the name of the sandbox's container.
    let endpoints = world.endpoints_of(id).map(|e| Fact::NoEndpoint(e.id.clone(), now));
    Ok(endpoints.chain([Fact::NoSandbox(id.clone())]).collect())
}

/// The addresses that have rested enough.
pub fn wake(world: &World, now: u64) -> Change {
    let resting = world.resting.iter().flat_map(|(network, resting)| resting.iter().map(move |rest| (network, rest)));
    let awake = resting.filter(|(_, (_, rest))| !rest.at(now));
    awake.map(|(network, (addr, _))| Fact::Rested(network.clone(), *addr)).collect()
}
