//! Links: what their sources are told of the targets, and that they stay true while the targets come and go.
//!
//! The firewall and the routes follow the facts by themselves (`plan`); here is what a container reads: variables, its file of
//! names, and what `inspect` and `ps` show.

use super::{DEFAULT_NETWORK, Engine};
use crate::container::dependency::Dependency;
use crate::container::spec::{Link, NetworkMode};
use crate::container::{Container, Phase};
use crate::engine::registry::Cell;
use crate::error::{Doing, Error, Result};
use crate::network::Wish;
use crate::rewrite::rewrite;
use plan::ids::{ContainerId, NetworkId};
use plan::names;
use plan::netstate::IpFamily;
use plan::variables::{self, Target};
use plan::world::{Linked, Proto};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use tracing::warn;

/// A link that says more than names.
#[derive(Clone, Debug)]
pub struct Said {
    /// The link as Docker shows it.
    pub link: String,
    /// On which network.
    pub network: String,
    /// What else it says.
    pub dependency: Dependency,
}

/// A link whose target is there, with the target.
type Bound<'a> = (&'a Link, Arc<Container>);

impl Engine {
    /// The links of a container, as facts for the network.
    ///
    /// # Errors
    /// A target that does not run, or is on another network; nothing can be opened between the two.
    pub(super) fn linked(&self, source: &Container) -> Result<Vec<Linked>> {
        // Off the default network links are nothing but words.
        let on_it = source.spec.network.places.iter().any(|place| place.network == DEFAULT_NETWORK);
        let Some(network) = self.default_network().filter(|_| on_it) else { return Ok(Vec::new()) };
        let mut linked = Vec::new();
        for (link, target) in self.bound(source) {
            let runs = target.state.phase.is_alive() || target.state.phase == Phase::Restarting;
            if link.dependency.wait.is_some() && !runs {
                // The start waits until it does.
                linked.push(fact(link, &target, &network));
                continue;
            }
            if !runs {
                return Err(Error::Fault(format!(
                    "Cannot link to a non running container: /{} AS /{}/{}",
                    target.name, source.name, link.alias
                )));
            }
            if self.addrs_of(&target.id).is_empty() {
                return Err(Error::Fault(format!(
                    "Cannot link to /{}, as it does not belong to the default network: container {} not attached to \
                     default bridge network",
                    target.name,
                    target.id.as_str()
                )));
            }
            linked.push(fact(link, &target, &network));
        }
        match self.cannot_open(&network).filter(|_| !linked.is_empty()) {
            Some(flag) => Err(Error::Forbidden(format!(
                "Cannot link /{} to others: containers of the default bridge are kept apart since before the engine was \
                 started with --{flag}=false, and only a rule of its firewall can open a port between two of them. Start the \
                 engine without --{flag}=false; or stop all containers of that bridge and start the engine again, which then \
                 makes it anew as --icc says",
                source.name
            ))),
            None => Ok(linked),
        }
    }

    /// The flag for which a network that keeps its containers apart has no exceptions.
    fn cannot_open(&self, network: &NetworkId) -> Option<&'static str> {
        let world = self.net.world();
        let network = world.networks.get(network).filter(|network| !network.icc)?;
        let without = network.families().find(|family| !world.means.firewall(*family))?;
        Some(if without == IpFamily::V4 { "iptables" } else { "ip6tables" })
    }

    fn default_network(&self) -> Option<NetworkId> {
        self.net.world().network_named(DEFAULT_NETWORK).map(|network| network.id.clone())
    }

    /// The links of a container whose targets are there. A removed target takes its links along.
    fn bound<'a>(&self, source: &'a Container) -> Vec<Bound<'a>> {
        let links = source.spec.network.links.iter();
        links.filter_map(|link| Some((link, self.containers.get(&link.target)?.snapshot()))).collect()
    }

    /// Those that their aliases stand for: the first of each.
    fn effective<'a>(&self, source: &'a Container) -> Vec<Bound<'a>> {
        let mut effective: Vec<Bound<'a>> = Vec::new();
        for (link, target) in self.bound(source) {
            if !effective.iter().any(|(other, _)| other.alias == link.alias) {
                effective.push((link, target));
            }
        }
        effective
    }

    /// The addresses that its variables tell a container of its links' targets.
    pub(super) fn told_addrs(&self, source: &Container) -> BTreeMap<ContainerId, IpAddr> {
        // Off the default network links are nothing but words.
        if source.spec.network.mode != NetworkMode::Bridged {
            return BTreeMap::new();
        }
        let mut told = BTreeMap::new();
        for (_, target) in self.effective(source) {
            let kept = target.kept.places.get(DEFAULT_NETWORK);
            let kept = kept.and_then(|place| place.addr4.map(IpAddr::V4).or(place.addr6.map(IpAddr::V6)));
            if let Some(addr) = self.addrs_of(&target.id).first().copied().or(kept) {
                told.insert(target.id.clone(), addr);
            }
        }
        told
    }

    /// The variables that tell a container of its links. Of a target that does not run, what was true when it last did.
    pub(super) fn link_variables(&self, source: &Container, told: &BTreeMap<ContainerId, IpAddr>) -> Vec<String> {
        let mut all = Vec::new();
        for (link, target) in self.effective(source) {
            let Some(addr) = told.get(&target.id).copied() else { continue };
            let ports: Vec<(Proto, u16)> = exposed(&target).collect();
            let target = Target { addr, ports: &ports, env: &target.spec.env };
            all.extend(variables::variables(&source.name, &link.alias, &target, self.config.link_env));
        }
        all
    }

    /// Where a container is on the default network right now, IPv4 first.
    pub(super) fn addrs_of(&self, container: &ContainerId) -> Vec<IpAddr> {
        let world = self.net.world();
        let Some(network) = world.network_named(DEFAULT_NETWORK) else { return Vec::new() };
        world.places_of(container, &network.id).flat_map(|endpoint| endpoint.addrs()).collect()
    }

    /// The lines of a container's file of names that its links make now: none for a target that does not run, for its address
    /// may be another's next.
    pub(super) fn link_lines(&self, source: &Container) -> Vec<names::Link> {
        let lines = |(link, target): Bound| {
            let (alias, hostname, name) = (link.alias.clone(), self.host_name_of(&target), target.name.clone());
            let line = move |addr| {
                let (alias, hostname, name) = (alias.clone(), hostname.clone(), name.clone());
                names::Link { addr, alias, hostname, name }
            };
            self.addrs_of(&target.id).into_iter().map(line)
        };
        self.effective(source).into_iter().flat_map(lines).collect()
    }

    /// The addresses of a container have come or gone: the sources of links to it are told.
    pub(super) fn tell_sources(&self, target: &ContainerId) {
        for source in self.sources_of(target) {
            self.tell(&source.snapshot(), &[]);
        }
        self.containers.bell().notify_one();
    }

    /// Every container that is linked to this one.
    fn sources_of(&self, target: &ContainerId) -> Vec<Arc<Cell>> {
        let mut all = self.containers.all();
        all.retain(|cell| cell.snapshot().spec.network.links.iter().any(|link| &link.target == target));
        all
    }

    /// Brings the lines of links in a running container's file of names up to date. `gone`: what else may stand there behind
    /// an address, of links that are no more or were called otherwise.
    pub(super) fn tell(&self, source: &Container, gone: &[String]) {
        if !source.state.phase.is_alive() {
            return;
        }
        self.tell_asker(source);
        self.edit_hosts(source, |text| {
            let bound = self.bound(source);
            let names =
                |(link, target): &Bound| names::link_names(&link.alias, &self.host_name_of(target), &target.name);
            let known: Vec<String> = bound.iter().map(names).chain(gone.iter().cloned()).collect();
            let hostname = self.host_name_of(source);
            let lines = self.link_lines(source);
            names::relinked(text, &known, &lines, &hostname, &source.spec.domainname)
        });
    }

    /// Changes a running container's file of names, which it may have written to itself.
    pub(super) fn edit_hosts(&self, container: &Container, how: impl FnOnce(&str) -> String) {
        let file = self.state_dir(&container.id).join("hosts");
        // One at a time: each reads what the one before wrote.
        let _turn = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let told = std::fs::read_to_string(&file).doing(format_args!("read {}", file.display())).and_then(|text| {
            let new = how(&text);
            if new == text { Ok(()) } else { rewrite(&file, &new) }
        });
        if let Err(error) = told {
            warn!(container = %container.name, %error, "its file of names could not be brought up to date");
        }
    }

    /// `HostConfig.Links` of `inspect`: `/TARGET:/SOURCE/ALIAS`.
    pub fn links_of(&self, source: &Container) -> Vec<String> {
        let shown = |(link, target): &Bound| format!("/{}:/{}/{}", target.name, source.name, link.alias);
        self.bound(source).iter().map(shown).collect()
    }

    /// The links of a container that say more than names, as `inspect` shows them, with what they say.
    /// Those of other networks as their places show them, with the network's name.
    pub fn dependencies_of(&self, source: &Container) -> Vec<Said> {
        let bound = self.bound(source);
        let default = self.links_of(source).into_iter().zip(&bound).map(|(link, (said, _))| {
            let dependency = said.dependency.clone();
            Said { link, network: DEFAULT_NETWORK.to_owned(), dependency }
        });
        let others = source.spec.network.places.iter().flat_map(|place| {
            place.links.iter().map(|link| Said {
                link: format!("{}:{}", link.target, link.alias),
                network: place.network.clone(),
                dependency: link.dependency.clone(),
            })
        });
        default.chain(others).filter(|said| said.dependency.is_said()).collect()
    }

    /// The names that links give to their targets, `SOURCE/ALIAS`, by the target.
    pub fn link_names(&self) -> BTreeMap<ContainerId, Vec<String>> {
        let mut names: BTreeMap<ContainerId, Vec<String>> = BTreeMap::new();
        for cell in self.containers.all() {
            let source = cell.snapshot();
            for (link, target) in self.effective(&source) {
                names.entry(target.id.clone()).or_default().push(format!("{}/{}", source.name, link.alias));
            }
        }
        names
    }

    /// The target of a link by the name `SOURCE/ALIAS`.
    pub(super) fn find_by_link(&self, name: &str) -> Option<Arc<Cell>> {
        let (source, alias) = name.trim_start_matches('/').split_once('/')?;
        let source = self.containers.find(source).ok()?.snapshot();
        let links = self.effective(&source);
        let (link, _) = links.iter().find(|(link, _)| link.alias == alias)?;
        self.containers.get(&link.target)
    }

    /// Takes a link away, `SOURCE/ALIAS`: what its source is told, and its way through the firewall. Where another link of
    /// the same alias is left, that one takes its place.
    ///
    /// # Errors
    /// There is no such link; the name is a container's own.
    pub async fn unlink(&self, name: &str) -> Result<()> {
        let Some((parent, alias)) = name.trim_start_matches('/').split_once('/') else {
            self.find(name)?;
            return Err(Error::Conflict("Conflict, cannot remove the default link name of the container".into()));
        };
        let cell = self
            .containers
            .find(parent)
            .map_err(|_| Error::NotFound(format!("Cannot get parent /{parent} for link name /{parent}/{alias}")))?;
        let _gate = cell.enter().await?;
        let before = cell.snapshot();
        let links = &before.spec.network.links;
        let at = links.iter().position(|link| link.alias == alias && self.containers.get(&link.target).is_some());
        // One that leads to nobody any more is not shown, and yet a source may ask for its target.
        let at = at.or_else(|| links.iter().position(|link| link.alias == alias));
        let Some(at) = at else { return Err(Error::NotFound(format!("No such container: {name}"))) };
        let gone = self.containers.get(&links[at].target).map(|target| {
            let target = target.snapshot();
            names::link_names(alias, &self.host_name_of(&target), &target.name)
        });
        let after = cell.change(|container| drop(container.spec_mut().network.links.remove(at)));
        if let Err(error) = self.store.put_container(&after) {
            cell.change(|container| container.spec_mut().network.links.clone_from(links));
            return Err(error);
        }
        self.relink(&after).await?;
        self.tell(&after, gone.as_slice());
        Ok(())
    }

    /// The network learns what a running container is linked to now.
    async fn relink(&self, source: &Container) -> Result<()> {
        let Some(network) = self.default_network() else { return Ok(()) };
        let own = source.kept.sandbox.clone().filter(|id| self.net.world().sandboxes.contains_key(id));
        let Some(sandbox) = own else { return Ok(()) };
        let linked = self.bound(source).iter().map(|(link, target)| fact(link, target, &network)).collect();
        self.net.wish(Wish::Link(sandbox, linked)).await
    }

    /// A container has another name: it stands in the lines and the reasons of links to it.
    pub(super) async fn tell_of_name(&self, target: &Container, old: &str) -> Result<()> {
        let hostname = self.host_name_of(target);
        for cell in self.sources_of(&target.id) {
            let source = cell.snapshot();
            self.relink(&source).await?;
            let aliases = source.spec.network.links.iter().map(|link| link.alias.as_str());
            let gone: Vec<String> = aliases.map(|alias| names::link_names(alias, &hostname, old)).collect();
            self.tell(&source, &gone);
        }
        Ok(())
    }
}

fn fact(link: &Link, target: &Container, network: &NetworkId) -> Linked {
    Linked {
        network: network.clone(),
        target: target.id.clone(),
        name: target.name.clone(),
        alias: link.alias.clone(),
        ports: exposed(target).collect(),
    }
}

fn exposed(target: &Container) -> impl Iterator<Item = (Proto, u16)> {
    target.spec.network.exposed.iter().map(|(port, proto)| (*proto, *port))
}
