//! Links of both sorts in one form, as they are waited for and watched: those of the default network lead to a container, those of
//! other networks to whoever is found there by a name.

use super::{DEFAULT_NETWORK, Engine, dns_names};
use crate::container::Container;
use crate::container::dependency::Dependency;
use crate::container::spec::{Link, PlaceLink, PlaceSpec};
use plan::ids::{ContainerId, SandboxId};
use plan::world::Network;
use std::net::IpAddr;
use std::sync::Arc;

/// A link of a source, with its target as things are now.
#[derive(Clone, Debug)]
pub struct Tie {
    /// By which this link is known among those of its source.
    pub key: String,
    /// The network's name.
    pub network: String,
    /// What the target is called now, or by what name it is meant.
    pub name: String,
    /// What the source calls it.
    pub alias: String,
    /// What else it says.
    pub dependency: Dependency,
    /// Running or not; `None`: there is none.
    pub target: Option<Arc<Container>>,
    /// The container that it leads to, for good; `None`: whoever has the name.
    pub to: Option<ContainerId>,
}

impl Tie {
    /// The target's id, if it has or had one.
    pub fn target_id(&self) -> Option<&ContainerId> {
        self.target.as_ref().map(|target| &target.id).or(self.to.as_ref())
    }

    /// The target runs.
    pub fn is_alive(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.state.phase.is_alive())
    }
}

impl Engine {
    /// All links of a container, those of the default network first.
    pub(super) fn ties(&self, source: &Container) -> Vec<Tie> {
        let spec = &source.spec.network;
        let default = spec.links.iter().map(|link| self.tie_to(link));
        let others = spec.places.iter().filter(|place| !place.links.is_empty());
        let others = others.flat_map(|place| {
            let network = self.find_place(place).ok();
            place.links.iter().map(move |link| self.tie_on(place, network.as_ref(), link))
        });
        default.chain(others).collect()
    }

    fn tie_to(&self, link: &Link) -> Tie {
        let target = self.containers.get(&link.target).map(|cell| cell.snapshot());
        Tie {
            key: format!("{DEFAULT_NETWORK} {} {}", link.target.as_str(), link.alias),
            network: DEFAULT_NETWORK.into(),
            name: target.as_ref().map_or(&link.name, |target| &target.name).clone(),
            alias: link.alias.clone(),
            dependency: link.dependency.clone(),
            target,
            to: Some(link.target.clone()),
        }
    }

    fn tie_on(&self, place: &PlaceSpec, network: Option<&Network>, link: &PlaceLink) -> Tie {
        let called = network.map_or(&place.network, |network| &network.name).clone();
        Tie {
            key: format!("{called} {} {}", link.target, link.alias),
            target: network.and_then(|network| self.member(network, &link.target)),
            network: called,
            name: link.target.clone(),
            alias: link.alias.clone(),
            dependency: link.dependency.clone(),
            to: None,
        }
    }

    /// Whoever is found on a network by a name, or would be if it ran.
    fn member(&self, network: &Network, name: &str) -> Option<Arc<Container>> {
        let is_it = |have: &String| have.eq_ignore_ascii_case(name);
        let running = {
            let world = self.net.world();
            let mut on = world.endpoints.values().filter(|endpoint| endpoint.network == network.id);
            let found = on.find(|endpoint| endpoint.names.iter().any(is_it));
            found.and_then(|endpoint| Some(world.sandboxes.get(&endpoint.sandbox)?.container.clone()))
        };
        if let Some(id) = running {
            return Some(self.containers.get(&id)?.snapshot());
        }
        let there = |place: &PlaceSpec| match &place.id {
            Some(id) => *id == network.id,
            None => place.network == network.name,
        };
        let would = |container: &Arc<Container>| {
            let mut places = container.spec.network.places.iter().filter(|place| there(place));
            places.any(|place| dns_names(container, place).iter().any(is_it))
        };
        self.containers.all().iter().map(|cell| cell.snapshot()).find(would)
    }

    /// Where a container is on a network right now, IPv4 first.
    pub(super) fn addrs_on(&self, container: &ContainerId, network: &str) -> Vec<IpAddr> {
        let world = self.net.world();
        let Some(network) = world.network_named(network) else { return Vec::new() };
        world.places_of(container, &network.id).flat_map(|endpoint| endpoint.addrs()).collect()
    }

    /// The sandbox by which a container is on a network.
    pub(super) fn sandbox_on(&self, container: &ContainerId, network: &str) -> Option<SandboxId> {
        let world = self.net.world();
        let network = world.network_named(network)?;
        world.places_of(container, &network.id).next().map(|endpoint| endpoint.sandbox.clone())
    }
}
