//! What the resolver is told of containers, and the host's own name servers, which are followed while the engine runs.

use super::files::{has_ipv6, host_resolv_conf};
use super::{DEFAULT_NETWORK, Engine};
use crate::container::Container;
use crate::container::spec::NetworkMode;
use crate::error::{Doing, Error, Result};
use crate::resolver::{Asker, Batch, Note, Servers};
use plan::dns::book::{self, Aliases, Directory};
use plan::ids::{NetworkId, SandboxId};
use plan::names::{self, ResolvConf};
use plan::world::{Endpoint, Network};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// The host's `resolv.conf` and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostNames {
    source: &'static str,
    conf: ResolvConf,
}

/// Writers of the file may need several steps.
const SETTLE: Duration = Duration::from_millis(20);
/// So many questions wait for a reader of the log before the next are lost on it.
const QUEUE: usize = 1024;
/// Not every change is told: a mount over the file, a directory that was not there.
const LOOK: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

impl Engine {
    /// What a container is called, running or not, and what it calls others: such names are nobody else's business.
    pub(super) fn tell_called(&self, container: &Container) {
        let spec = &container.spec.network;
        let own = [container.name.clone(), self.host_name_of(container), container.id.short().to_string()];
        let aliases = spec.places.iter().flat_map(|place| place.aliases.iter().cloned());
        // A target may come later.
        let others = spec.places.iter().flat_map(|place| &place.links);
        let others = others.flat_map(|link| [link.alias.clone(), link.target.clone()]);
        let links = spec.links.iter().map(|link| link.alias.clone()).chain(others);
        self.resolver.tell(Note::Called(container.id.clone(), own.into_iter().chain(aliases).chain(links).collect()));
    }

    /// Who asks from a container's own sandbox. Nobody does from one that is on no network. (Who can be found there by name
    /// follows from the facts about the network.)
    pub(super) fn tell_asker(&self, container: &Container) {
        let Some(sandbox) = &container.kept.sandbox else { return };
        let places = self.net.places(sandbox);
        if !places.is_empty() {
            self.resolver.tell(Note::Asker(sandbox.clone(), Box::new(self.asker(container, &places))));
        }
    }

    /// A running container has come to a network, or has left one.
    pub(super) fn tell_places(&self, container: &Container, came: &[IpAddr], gone: &[IpAddr]) {
        self.tell_called(container);
        self.tell_asker(container);
        // Who was on no network had nobody to ask by it.
        if let Err(error) = self.write_resolv_conf(container) {
            warn!(container = %container.name, %error, "its resolv.conf is not as its networks are");
        }
        let hostname = self.host_name_of(container);
        self.edit_hosts(container, |text| names::moved(text, came, gone, &hostname, &container.spec.domainname));
    }

    fn asker(&self, container: &Container, places: &[(Endpoint, Network)]) -> Asker {
        // What the user says of a name goes before everything.
        let mut hosts = Directory::borrowed();
        // That there is no gateway to name has been said when the container was started.
        for (nth, (name, addr)) in self.extra_hosts(container).unwrap_or_default().iter().enumerate() {
            hosts.add(&nth, [name.as_str()], &[*addr]);
        }
        let mut links = Directory::default();
        for (nth, link) in self.link_lines(container).iter().enumerate() {
            links.add(&nth, [link.alias.as_str(), &link.hostname, &link.name], &[link.addr]);
        }
        let mut aliases = Aliases::default();
        for network in by_precedence(places) {
            let place = container.spec.network.places.iter().find(|place| place.network == network.name);
            for link in place.into_iter().flat_map(|place| &place.links) {
                aliases.add(&link.alias, &network.id, &link.target);
                aliases.add(&format!("{}.{}", link.alias, network.name), &network.id, &link.target);
            }
        }
        let mut itself = Directory::default();
        let hostname = self.host_name_of(container);
        let full = format!("{hostname}.{}", container.spec.domainname);
        let full = (!container.spec.domainname.is_empty()).then_some(full.as_str());
        let short = container.id.short().to_string();
        let addrs: Vec<IpAddr> = places.iter().flat_map(|(endpoint, _)| endpoint.addrs()).collect();
        itself.add(&0, full.into_iter().chain([hostname.as_str(), &container.name, &short]), &addrs);
        let overrides = self.overrides(container);
        let internal = places.iter().all(|(_, network)| network.internal);
        let servers = match &overrides.servers[..] {
            [] if internal => Servers::Nobody,
            [] => Servers::Hosts,
            these => Servers::These(these.to_vec()),
        };
        let subnets = places.iter().flat_map(|(_, network)| {
            let four = network.v4.as_ref().map(|v4| v4.net.into());
            four.into_iter().chain(network.v6.as_ref().map(|v6| v6.net.into()))
        });
        let names = book::Asker {
            hosts,
            links,
            aliases,
            itself,
            networks: by_precedence(places).map(|network| network.id.clone()).collect(),
            subnets: subnets.collect(),
            wants_dots: names::wants_dots(&overrides.options),
        };
        Asker { names, servers }
    }

    /// What a container, or every one, asked the resolver lately; if wished, also what it asks from now on.
    ///
    /// # Errors
    /// A container that asks nobody here.
    pub fn questions(&self, reference: Option<&str>, follow: bool) -> Result<mpsc::Receiver<Batch>> {
        let sandbox = |reference: &str| {
            let container = self.find(reference)?.snapshot();
            let kept = container.kept.joined.as_ref().or(container.kept.sandbox.as_ref());
            let there = kept.filter(|id| container.state.phase.is_alive() && !self.net.places(id).is_empty());
            there.cloned().ok_or_else(|| {
                Error::Conflict(format!(
                    "container {} asks no questions here: it does not run, or is on no network of berth's",
                    container.name
                ))
            })
        };
        let of = reference.map(sandbox).transpose()?;
        let (to, from) = mpsc::channel(QUEUE);
        self.resolver.tell(Note::Questions(of, follow, to));
        Ok(from)
    }

    /// Who asks from a sandbox: the container for which it was made.
    pub fn asker_of(&self, sandbox: &SandboxId) -> Option<String> {
        let world = self.net.world();
        let container = &world.sandboxes.get(sandbox)?.container;
        Some(self.containers.get(container)?.snapshot().name.clone())
    }

    /// The name of a network.
    pub fn network_name(&self, id: &NetworkId) -> Option<String> {
        self.net.world().networks.get(id).map(|network| network.name.clone())
    }

    /// Tells the resolver of the host's servers now, and of every change from now on; running containers' files follow too.
    pub(super) fn follow_host_names(self: &Arc<Self>) -> Result<()> {
        self.look_at_host_names();
        let mut watched = watch(&chain()).doing("watch the host's resolv.conf")?;
        let engine = Arc::downgrade(self);
        let follow = move || {
            loop {
                // An error comes again, after a while.
                let _ = poll(&mut [PollFd::new(&watched, PollFlags::IN)], Some(&LOOK));
                std::thread::sleep(SETTLE);
                let Some(engine) = engine.upgrade() else { return };
                // Anew each time: the file may be another one now, in another place.
                match watch(&chain()) {
                    Ok(new) => watched = new,
                    Err(error) => warn!(%error, "the host's resolv.conf is looked at only now and then"),
                }
                engine.look_at_host_names();
            }
        };
        std::thread::Builder::new()
            .name("hostnames".into())
            .spawn(follow)
            .doing("follow the host's resolv.conf")
            .map(drop)
    }

    fn look_at_host_names(&self) {
        let (source, conf) = host_resolv_conf();
        let now = HostNames { source, conf };
        let mut known = self.host_names.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() == Some(&now) {
            return;
        }
        self.resolver.tell(Note::HostServers(names::servers_of_host(&now.conf, has_ipv6())));
        let first = known.replace(now).is_none();
        drop(known);
        if first {
            return;
        }
        info!(source, "the host's name servers have changed");
        for cell in self.containers.all() {
            let container = cell.snapshot();
            let own = !matches!(container.spec.network.mode, NetworkMode::Joined(_));
            if own
                && container.state.phase.is_alive()
                && let Err(error) = self.write_resolv_conf(&container)
            {
                warn!(container = %container.name, %error, "its resolv.conf is not as the host's");
            }
        }
    }
}

/// The networks on which a container finds others by name; a name that is known on several is the first one's.
fn by_precedence(places: &[(Endpoint, Network)]) -> impl Iterator<Item = &Network> {
    let mut places: Vec<&(Endpoint, Network)> =
        places.iter().filter(|(_, network)| network.name != DEFAULT_NETWORK).collect();
    // As the way out is chosen.
    places.sort_by_key(|(endpoint, network)| {
        (!endpoint.gateway, std::cmp::Reverse(endpoint.priority), network.internal, &network.name)
    });
    places.into_iter().map(|(_, network)| network)
}

/// The files and directories through which the host's `resolv.conf` can become another.
fn chain() -> Vec<PathBuf> {
    let mut chain = Vec::new();
    for start in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        let mut path = PathBuf::from(start);
        // As many symbolic links as the kernel follows.
        for _ in 0..40 {
            let Some(dir) = path.parent().map(Path::to_owned) else { break };
            chain.push(dir.clone());
            match std::fs::read_link(&path) {
                Ok(target) => path = dir.join(target),
                Err(_) => break,
            }
        }
        chain.push(path);
    }
    chain
}

fn watch(chain: &[PathBuf]) -> rustix::io::Result<OwnedFd> {
    use inotify::{CreateFlags, WatchFlags};
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let changes = WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    for path in chain {
        // What is not there yet is found by what it will be in, or by looking now and then.
        let _ = inotify::add_watch(&fd, path, changes);
    }
    Ok(fd)
}
