//! Networks of the user's, and the places of containers on them.

use super::start::{keep_places, port_wishes};
use super::{DEFAULT_NETWORK, Engine, new_id};
use crate::container::Container;
use crate::container::spec::{NetworkMode, PlaceSpec};
use crate::engine::registry::Cell;
use crate::error::{Error, Result};
use crate::network::{Wish, refused};
use plan::decide::{AttachWish, Kept, NetworkWish, Previous, endpoint_settings};
use plan::ids::{EndpointId, NetworkId, SandboxId};
use plan::world::{Network, World};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// Names that every engine has, whether or not such a network is there; none of them is made or removed.
pub const PREDEFINED: [&str; 3] = [DEFAULT_NETWORK, "host", "none"];

impl Engine {
    /// A bridge network: by its whole id, its name, or the beginning of its id, in this order.
    ///
    /// # Errors
    /// None or more than one.
    pub fn find_network(&self, reference: &str) -> Result<Network> {
        find(&self.net.world(), reference).cloned()
    }

    /// Makes a network; the wish's id is chosen here.
    ///
    /// # Errors
    /// The name or the addresses are taken or wrong; the kernel's, and then nothing is left of it.
    pub async fn create_network(&self, mut wish: NetworkWish) -> Result<Network> {
        wish.id = new_id::<NetworkId>()?;
        wish.about.created = nanos(SystemTime::now());
        let id = wish.id.clone();
        self.net.wish(Wish::Network(Box::new(wish))).await?;
        let network = self.find_network(id.as_str())?;
        self.events.network_itself("create", &network);
        Ok(network)
    }

    /// Removes a network that no running container is on.
    ///
    /// # Errors
    /// It is not there, or in use.
    pub async fn remove_network(&self, reference: &str) -> Result<()> {
        let network = self.find_network(reference)?;
        self.net.wish(Wish::NoNetwork(network.id.clone())).await?;
        self.events.network_itself("destroy", &network);
        Ok(())
    }

    /// Removes every network of the user's that nobody is on and that `which` takes; their names.
    ///
    /// # Errors
    /// The kernel's, at the first that could not be removed.
    pub async fn prune_networks(&self, which: impl Fn(&Network) -> bool) -> Result<Vec<String>> {
        let unused = |world: &World| -> Vec<Network> {
            let used: BTreeSet<&NetworkId> = world.endpoints.values().map(|endpoint| &endpoint.network).collect();
            let all = world.networks.values().filter(|network| network.name != DEFAULT_NETWORK);
            all.filter(|network| !used.contains(&network.id)).cloned().collect()
        };
        let mut unused = unused(&self.net.world());
        unused.retain(which);
        unused.sort_by(|a, b| a.name.cmp(&b.name));
        let mut removed = Vec::new();
        for network in unused {
            match self.remove_network(network.id.as_str()).await {
                Ok(()) => removed.push(network.name),
                // Somebody joined it, or removed it, meanwhile.
                Err(Error::Forbidden(_) | Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Looks at what a container asks of networks that are there already: better refused now than at its start.
    ///
    /// # Errors
    /// Addresses that a network does not have.
    pub(super) fn check_places(&self, places: &[PlaceSpec]) -> Result<()> {
        let world = self.net.world();
        let known = places.iter().filter_map(|place| Some((place, find(&world, &place.network).ok()?)));
        for (place, network) in known {
            endpoint_settings(network, place.ip4, place.ip6, &place.link_local).map_err(refused)?;
        }
        Ok(())
    }

    /// The places of a container that is about to start, in order; its ports are with the last. A default bridge that is not
    /// there (`--bridge=none`) is no place.
    ///
    /// # Errors
    /// A network that is not there.
    pub(super) fn places_to_open(&self, cell: &Arc<Cell>) -> Result<Vec<AttachWish>> {
        let container = cell.snapshot();
        let mut found: Vec<(PlaceSpec, Network)> = Vec::new();
        for place in &container.spec.network.places {
            let network = match self.find_place(place) {
                Ok(network) => network,
                Err(Error::NotFound(_)) if place.network == DEFAULT_NETWORK => continue,
                Err(error) => return Err(error),
            };
            // One network may have been named twice, by name and by id.
            if found.iter().all(|(_, other)| other.id != network.id) {
                let place = PlaceSpec { network: network.name.clone(), id: Some(network.id.clone()), ..place.clone() };
                found.push((place, network));
            }
        }
        let wishes: Vec<AttachWish> =
            found.iter().map(|(place, network)| self.attach_wish(&container, place, network)).collect::<Result<_>>()?;
        let places: Vec<PlaceSpec> = found.into_iter().map(|(place, _)| place).collect();
        if places != container.spec.network.places && !places.is_empty() {
            let container = cell.change(|container| container.spec_mut().network.places = places);
            self.store.put_container(&container)?;
        }
        let with_ports = wishes.len().checked_sub(1);
        let wishes = wishes.into_iter().enumerate().map(|(at, wish)| {
            let ports = if Some(at) == with_ports { port_wishes(&container.spec.network) } else { Vec::new() };
            AttachWish { ports, ..wish }
        });
        Ok(wishes.collect())
    }

    /// The network of a place: once the container was on it, that very one and no other that is called so now.
    pub(super) fn find_place(&self, place: &PlaceSpec) -> Result<Network> {
        let world = self.net.world();
        let Some(id) = &place.id else { return find(&world, &place.network).cloned() };
        let name = &place.network;
        // The default bridge is nobody's to remove; the flags of the engine may have made another one of it.
        let same = world.networks.get(id).or_else(|| world.network_named(name).filter(|_| name == DEFAULT_NETWORK));
        same.cloned().ok_or_else(|| {
            let other = match world.network_named(name) {
                Some(_) => format!(
                    ": the one that the container was on is gone, and `network connect {name} CONTAINER` puts it on the one that \
                     is called so now"
                ),
                None => String::new(),
            };
            Error::NotFound(format!("network {name} not found{other}"))
        })
    }

    fn attach_wish(&self, container: &Container, place: &PlaceSpec, network: &Network) -> Result<AttachWish> {
        let kept = container.kept.places.get(&network.name).cloned().unwrap_or_default();
        // Whichever place led out before, its ports are the container's.
        let ports = container.kept.places.values().flat_map(|kept| kept.ports.iter().cloned()).collect();
        Ok(AttachWish {
            ip4: place.ip4,
            ip6: place.ip6,
            link_local: place.link_local.clone(),
            inner: place.interface.clone(),
            sysctls: place.sysctls.clone(),
            mac: place.mac,
            priority: place.priority,
            // The default bridge has no such service.
            names: if network.name == DEFAULT_NETWORK { Vec::new() } else { dns_names(container, place) },
            promised: self.promised(container, network),
            kept: self.kept(container, network),
            previous: Previous { addr4: kept.addr4, addr6: kept.addr6, mac: kept.mac, ports },
            // The sandbox is named by who opens it.
            ..AttachWish::new(new_id::<EndpointId>()?, network.id.clone(), new_id::<SandboxId>()?, &container.name)
        })
    }

    /// The addresses of a network that other containers have asked for by number: theirs also while they do not run.
    fn promised(&self, container: &Container, network: &Network) -> BTreeSet<IpAddr> {
        let others = self.containers.all().into_iter().filter(|cell| cell.id != container.id);
        let on = |place: &PlaceSpec| match &place.id {
            Some(id) => id == &network.id,
            None => place.network == network.name || network.id.as_str().starts_with(&place.network),
        };
        let addrs = |place: &PlaceSpec| [place.ip4.map(IpAddr::V4), place.ip6.map(IpAddr::V6)];
        let mut promised = BTreeSet::new();
        for other in others {
            let other = other.snapshot();
            promised.extend(other.spec.network.places.iter().filter(|place| on(place)).flat_map(addrs).flatten());
        }
        promised
    }

    /// What other containers had when they ran last, and shall find again.
    fn kept(&self, container: &Container, network: &Network) -> Kept {
        let mut all = Kept::default();
        for other in self.containers.all().into_iter().filter(|cell| cell.id != container.id) {
            let other = other.snapshot();
            // What runs has its addresses and ports among the facts.
            if other.state.phase.is_alive() {
                continue;
            }
            if let Some(place) = other.kept.places.get(&network.name) {
                all.addrs.extend(place.addr4.map(IpAddr::V4).into_iter().chain(place.addr6.map(IpAddr::V6)));
            }
            all.ports.extend(other.kept.places.values().flat_map(|place| place.ports.iter().cloned()));
        }
        all
    }

    /// Puts a container on one more network: at once if it runs, and for its later starts.
    ///
    /// # Errors
    /// It is on it already, or cannot be on any; addresses that cannot be had.
    pub async fn connect(&self, network: &str, reference: &str, place: PlaceSpec) -> Result<()> {
        let cell = self.find(reference)?;
        let _gate = cell.enter().await?;
        let container = cell.snapshot();
        may_change(&container)?;
        may_join(&container.spec.network.mode, network)?;
        let network = self.find_network(network)?;
        let place = PlaceSpec { network: network.name.clone(), id: Some(network.id.clone()), ..place };
        let sandbox = self.sandbox_of(&container);
        if sandbox.is_some() && self.place_on(&container, &network).is_some() {
            let (name, network) = (&container.name, &network.name);
            return Err(Error::Forbidden(format!("endpoint with name {name} already exists in network {network}")));
        }
        endpoint_settings(&network, place.ip4, place.ip6, &place.link_local).map_err(refused)?;
        let mut chosen = Vec::new();
        if let Some(sandbox) = sandbox {
            let mut wish = AttachWish { sandbox: sandbox.clone(), ..self.attach_wish(&container, &place, &network)? };
            let before = self.net.places(&sandbox);
            if before.iter().all(|(endpoint, _)| endpoint.ports.is_empty() && endpoint.opened.is_empty()) {
                // Nothing led out so far; now something may.
                wish.ports = port_wishes(&container.spec.network);
            }
            self.net.wish(Wish::Connect(Box::new(wish))).await?;
            self.publish_again(&container, &sandbox).await;
            chosen = self.net.places(&sandbox);
        }
        let container = cell.change(|container| {
            let places = &mut container.spec_mut().network.places;
            places.retain(|other| other.id.as_ref() != Some(&network.id) && other.network != network.name);
            places.push(place);
            keep_places(container, &chosen);
        });
        self.store.put_container(&container)?;
        self.tell_called(&container);
        if !chosen.is_empty() {
            let here = chosen.iter().filter(|(_, on)| on.id == network.id);
            let came: Vec<IpAddr> = here.flat_map(|(endpoint, _)| endpoint.addrs()).collect();
            self.tell_places(&container, &came, &[]);
            self.events.network("connect", &network, &container.id);
            self.tell_sources(&container.id);
        }
        Ok(())
    }

    /// Takes a container off a network.
    ///
    /// # Errors
    /// It is not on it.
    pub async fn disconnect(&self, network: &str, reference: &str, force: bool) -> Result<()> {
        let cell = match self.find(reference) {
            Ok(cell) => cell,
            // Nothing of a container that is gone is on any network.
            Err(Error::NotFound(_)) if force && self.find_network(network).is_ok() => return Ok(()),
            Err(error) => return Err(error),
        };
        let _gate = cell.enter().await?;
        let container = cell.snapshot();
        may_change(&container)?;
        let missing = |name: &str| {
            Error::Forbidden(format!("container {} is not connected to network {name}", container.id.as_str()))
        };
        match (&container.spec.network.mode, network) {
            (NetworkMode::Open, "host") => {
                return Err(Error::Invalid(
                    "cannot disconnect container from host network - container was created in host network mode".into(),
                ));
            }
            (NetworkMode::Closed, "none") => {
                // From now on it may join others.
                let container = cell.change(|container| container.spec_mut().network.mode = NetworkMode::Bridged);
                return self.store.put_container(&container);
            }
            (_, "host" | "none") => return Err(missing(network)),
            _ => {}
        }
        let found = self.find_network(network);
        let sandbox = self.sandbox_of(&container);
        // A place whose network is gone is known by its name alone.
        let by_name = |name: &str| container.spec.network.places.iter().position(|place| place.network == name);
        let at = match &found {
            Ok(found) => {
                self.place_on(&container, found).or_else(|| by_name(&found.name).filter(|_| sandbox.is_none()))
            }
            Err(_) if force => by_name(network),
            Err(_) => None,
        };
        let Some(at) = at else { return Err(found.map_or_else(|error| error, |found| missing(&found.name))) };
        let mut left = None;
        if let (Some(sandbox), Ok(network)) = (sandbox, found) {
            let places = self.net.places(&sandbox);
            if let Some((endpoint, _)) = places.iter().find(|(endpoint, _)| endpoint.network == network.id) {
                self.net.wish(Wish::Disconnect(endpoint.id.clone())).await?;
                left = Some((network, endpoint.addrs().collect::<Vec<IpAddr>>()));
                self.publish_again(&container, &sandbox).await;
            }
            let chosen = self.net.places(&sandbox);
            cell.change(|container| keep_places(container, &chosen));
        }
        let container = cell.change(|container| {
            let place = container.spec_mut().network.places.remove(at);
            container.kept.places.remove(&place.network);
        });
        self.store.put_container(&container)?;
        if let Some((network, gone)) = left {
            self.tell_places(&container, &[], &gone);
            self.events.network("disconnect", &network, &container.id);
            self.tell_sources(&container.id);
        }
        Ok(())
    }

    /// Which of a container's places is on a network.
    fn place_on(&self, container: &Container, network: &Network) -> Option<usize> {
        let places = &container.spec.network.places;
        places.iter().position(|place| self.find_place(place).is_ok_and(|found| found.id == network.id))
    }

    /// The sandbox that was made for a container and is there now.
    fn sandbox_of(&self, container: &Container) -> Option<SandboxId> {
        container.kept.sandbox.clone().filter(|id| self.net.world().sandboxes.contains_key(id))
    }

    /// After a rename: its endpoints are found by the new name.
    pub(super) async fn rename_endpoints(&self, container: &Container) -> Result<()> {
        let Some(sandbox) = self.sandbox_of(container) else { return Ok(()) };
        let places: BTreeMap<&str, &PlaceSpec> =
            container.spec.network.places.iter().map(|place| (place.network.as_str(), place)).collect();
        for (endpoint, network) in self.net.places(&sandbox) {
            let place = places.get(network.name.as_str()).filter(|_| network.name != DEFAULT_NETWORK);
            let names = place.map(|place| dns_names(container, place)).unwrap_or_default();
            let wish = Wish::Rename(endpoint.id.clone(), container.name.clone(), names);
            self.net.wish(wish).await?;
        }
        Ok(())
    }
}

/// Can a container of this mode be on a network besides those of its mode?
///
/// # Errors
/// No, in Docker's words.
pub fn may_join(mode: &NetworkMode, network: &str) -> Result<()> {
    let text = match (mode, network) {
        (NetworkMode::Joined(_), _) => SHARED,
        (_, "host") => "cannot connect container to host network - container must be created in host network mode",
        (NetworkMode::Open, _) => SHARED,
        (NetworkMode::Closed, _) | (_, "none") => {
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        }
        (NetworkMode::Bridged | NetworkMode::Named(_), _) => return Ok(()),
    };
    Err(Error::Invalid(text.into()))
}

const SHARED: &str =
    "container sharing network namespace with another container or host cannot be connected to any other network";

/// # Errors
/// It is about to vanish.
fn may_change(container: &Container) -> Result<()> {
    use crate::container::Phase;
    if matches!(container.state.phase, Phase::Removing | Phase::Dead) {
        return Err(Error::Forbidden(format!(
            "Container {} is marked for removal and cannot be connected or disconnected to the network",
            container.id.as_str()
        )));
    }
    Ok(())
}

fn find<'a>(world: &'a World, reference: &str) -> Result<&'a Network> {
    let by_id = reference.parse::<NetworkId>().ok().and_then(|id| world.networks.get(&id));
    if let Some(found) = by_id.or_else(|| world.network_named(reference)) {
        return Ok(found);
    }
    let begins = |network: &&Network| !reference.is_empty() && network.id.as_str().starts_with(reference);
    match &world.networks.values().filter(begins).collect::<Vec<_>>()[..] {
        [one] => Ok(*one),
        [] => Err(Error::NotFound(format!("network {reference} not found"))),
        many => Err(Error::Invalid(format!(
            "network {reference} is ambiguous ({} matches found based on ID prefix)",
            many.len()
        ))),
    }
}

/// By which names a container is found on a network of the user's: its own, its aliases, its short id, its host name.
pub fn dns_names(container: &Container, place: &PlaceSpec) -> Vec<String> {
    let mut names = vec![container.name.clone()];
    names.extend(place.aliases.iter().cloned());
    names.push(container.id.short().to_string());
    names.extend(container.spec.hostname.clone());
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

pub(super) fn nanos(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
