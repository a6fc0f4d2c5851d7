//! What the engine does for whoever asks: every operation on containers, in one place.
//!
//! A container's life is guarded by its own gate; the network by its own thread; images and volumes by their stores.

/// Making a container: recorded, nothing in the kernel yet.
mod create;
/// After a container's program has ended: clearing up, restart policy.
mod end;
/// More processes in a running container.
pub mod exec;
/// Why one place reaches another, or does not.
pub mod explain;
/// The files by which a container knows names.
mod files;
/// Clearing control groups of containers that have nobody else to do it.
mod groups;
/// Checking containers' health.
mod health;
/// What links tell containers of each other, and that it stays true.
mod links;
/// How links stand while their sources run.
mod linkwatch;
/// What the resolver is told of containers, and the host's own name servers.
mod names;
/// Ids and names for what users did not name.
mod naming;
/// Networks, and containers' places on them.
mod networks;
/// Ports of running containers.
mod publish;
/// After a start of the engine: what still lives, what died meanwhile, what a crash left behind.
mod recover;
/// All containers, by id and by name.
mod registry;
/// Removing, renaming, pruning.
mod remove;
/// Starting.
mod start;
/// Stopping, signals, pausing, waiting, resizing, changing limits.
mod stop;
/// Links of both sorts in one form.
mod ties;
/// A start that waits for what its container is linked to.
mod waiting;

pub use create::Created;
pub use exec::{ExecSpec, ExecView};
pub use links::Said;
pub use linkwatch::LinkView;
pub use networks::{PREDEFINED, dns_names, may_join};
pub use stop::{Attached, Ended, Until, Update};
pub use ties::Tie;
pub use waiting::Knocked;

use crate::config::{Config, OWN_RUNTIME};
use crate::container::Container;
use crate::error::{Doing, Error, Result};
use crate::events::Events;
use crate::network::{Net, Notice, Wish};
use crate::oci::HostRights;
use crate::resolver::Resolver;
use crate::store::Store;
use crate::supervise::Shim;
use crate::volumes::Volumes;
use plan::decide::NetworkWish;
use plan::ids::{ContainerId, NetworkId, SandboxId};
use plan::warnings::Warning;
use plan::world::{Endpoint, Network};
use registry::{Cell, Registry};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tracing::info;

/// The name of the network that containers join when nobody says otherwise.
pub const DEFAULT_NETWORK: &str = "bridge";

/// The engine.
pub struct Engine {
    /// What it was told at its start.
    pub config: Config,
    /// Images.
    pub images: images::Store,
    /// Volumes.
    pub volumes: Volumes,
    /// What happened, for whoever listens.
    pub events: Events,
    /// What this host lets us do.
    pub rights: HostRights,
    /// When it started.
    pub since: SystemTime,
    containers: Registry,
    execs: exec::Execs,
    net: Net,
    resolver: Resolver,
    /// The host's `resolv.conf` as the resolver was last told; held by whoever writes a container's.
    host_names: Mutex<Option<names::HostNames>>,
    /// Sandboxes that a restart keeps over the end of their container.
    held: Mutex<Vec<SandboxId>>,
    /// How links stand.
    links: linkwatch::Links,
    /// Held by whoever changes a running container's file of names.
    telling: Mutex<()>,
    store: Arc<Store>,
    programs: Programs,
}

/// The programs that lie next to ours.
struct Programs {
    shim: PathBuf,
    runtime: PathBuf,
}

/// Where a container is on the network right now.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Its sandbox.
    pub sandbox: Option<SandboxId>,
    /// Where that is pinned; empty without one.
    pub sandbox_key: String,
    /// Its endpoints with their networks.
    pub endpoints: Vec<(Endpoint, Network)>,
}

impl Engine {
    /// Opens the stores, takes over what still runs, and makes the kernel agree with what is recorded.
    ///
    /// # Errors
    /// A store that cannot be opened, no right to the kernel's network, or a missing program.
    pub async fn open(config: Config) -> Result<Arc<Engine>> {
        let programs = Programs::find()?;
        for dir in ["containers", "volumes", "images"] {
            make_private_dir(&config.data_root.join(dir))?;
        }
        for dir in ["containers", "netns", "runtime"] {
            make_private_dir(&config.exec_root.join(dir))?;
        }
        let store = Arc::new(Store::open(&config.data_root, &config.exec_root)?);
        let images = images::Store::open(&config.data_root.join("images")).doing("open the image store")?;
        let volumes = Volumes::open(&config.data_root.join("volumes"))?;
        let rights = HostRights::detect()?;
        let loaded = store.load()?;
        let events = Events::new();
        let survey = recover::survey(&config, &rights, &store, loaded).await?;
        let told = {
            let events = events.clone();
            move |notice: Notice| match notice {
                Notice::Healed { steps, first } => events.healed(steps, &first),
                Notice::Warning(about, warning) => events.warning(about.word(), &warning.text, &warning.help),
            }
        };
        let resolver = Resolver::start()?;
        let net = Net::start(&config, store.clone(), survey.world.clone(), Box::new(told), resolver.clone())?;
        let engine = Arc::new(Engine {
            images,
            volumes,
            events,
            rights,
            since: SystemTime::now(),
            containers: Registry::default(),
            execs: exec::Execs::default(),
            net,
            resolver,
            host_names: Mutex::default(),
            held: Mutex::default(),
            links: linkwatch::Links::default(),
            telling: Mutex::default(),
            store,
            programs,
            config,
        });
        engine.follow_host_names()?;
        engine.ensure_default_network().await?;
        engine.take_over(survey).await?;
        engine.watch_links();
        info!(containers = engine.containers.all().len(), "ready");
        Ok(engine)
    }

    /// Ends this engine's part; containers live on with their shims.
    pub fn close(&self) {
        self.net.stop();
    }

    /// The default bridge as the flags describe it: kept if nothing changed, made anew if nobody uses it.
    async fn ensure_default_network(&self) -> Result<()> {
        let Some(mut wish) = self.config.default_network()? else { return Ok(()) };
        let recorded = self.net.world().network_named(DEFAULT_NETWORK).cloned();
        if let Some(network) = recorded {
            if self.config.describes(&network, self.net.default_mtu()) {
                return Ok(());
            }
            let used = self.net.world().endpoints.values().any(|endpoint| endpoint.network == network.id);
            if used {
                tracing::warn!("containers run on the default bridge: its changed settings wait for the next start");
                return Ok(());
            }
            self.net.wish(Wish::NoNetwork(network.id.clone())).await?;
            wish.id = network.id;
        } else {
            wish.id = new_id::<NetworkId>()?;
        }
        wish.about.created = networks::nanos(SystemTime::now());
        let doing = "error creating default \"bridge\" network";
        self.net.wish(Wish::Network(Box::<NetworkWish>::new(wish))).await.map_err(|error| match error {
            Error::Invalid(text) => Error::Invalid(format!("{doing}: {text}")),
            other => Error::Fault(format!("{doing}: {other}")),
        })
    }

    /// Has the kernel's waiting done in the background that the runtime would else do in a moment.
    fn warm(&self) {
        let tree = self.rights.cgroups.clone();
        drop(tokio::task::spawn_blocking(move || groups::warm(&tree)));
    }

    fn find(&self, reference: &str) -> Result<Arc<Cell>> {
        let by_name = self.containers.find(reference);
        by_name.or_else(|error| self.find_by_link(reference).ok_or(error))
    }

    /// One container as it is now.
    ///
    /// # Errors
    /// `No such container: X`
    pub fn snapshot(&self, reference: &str) -> Result<Arc<Container>> {
        Ok(self.find(reference)?.snapshot())
    }

    /// Every container as it is now, the newest first.
    pub fn all(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<Arc<Container>> = self.containers.all().iter().map(|cell| cell.snapshot()).collect();
        all.sort_by_key(|container| std::cmp::Reverse(container.created));
        all
    }

    /// Where a container is on the network right now.
    pub fn place(&self, container: &Container) -> Places {
        let own = container.kept.sandbox.as_ref().filter(|id| self.net.world().sandboxes.contains_key(id));
        match own {
            Some(sandbox) if container.state.phase.is_alive() => Places {
                sandbox: Some(sandbox.clone()),
                sandbox_key: self.net.pin(sandbox).display().to_string(),
                endpoints: self.net.places(sandbox),
            },
            _ => Places::default(),
        }
    }

    /// The bridge networks; `host` and `none` are no facts of the network.
    pub fn networks(&self) -> Vec<Network> {
        self.net.world().networks.values().cloned().collect()
    }

    /// What does not go well on the network just now: others' firewalls and routes in the way, limits that come near.
    pub fn network_warnings(&self) -> Vec<Warning> {
        self.net.warnings()
    }

    /// Every endpoint of a network, with the container it was made for.
    pub fn members(&self, network: &NetworkId) -> Vec<(ContainerId, Endpoint)> {
        let world = self.net.world();
        let of = world.endpoints.values().filter(|endpoint| &endpoint.network == network);
        of.filter_map(|e| Some((world.sandboxes.get(&e.sandbox)?.container.clone(), e.clone()))).collect()
    }

    /// A container's directory in the state directory.
    pub fn state_dir(&self, id: &ContainerId) -> PathBuf {
        state_dir(&self.config, id)
    }

    /// A container's bundle in the run directory.
    pub fn bundle(&self, id: &ContainerId) -> PathBuf {
        bundle(&self.config, id)
    }

    /// Where a container's output is logged.
    pub fn log_file(&self, id: &ContainerId) -> PathBuf {
        self.state_dir(id).join(format!("{}-json.log", id.as_str()))
    }

    fn shim(&self, id: &ContainerId) -> Shim {
        Shim::of(&self.bundle(id))
    }

    /// The OCI runtime of a container, and its arguments before the sub-command.
    fn runtime(&self, container: &Container) -> Result<(PathBuf, Vec<String>)> {
        let root = self.config.exec_root.join("runtime").display().to_string();
        let name = container.spec.runtime.as_deref().unwrap_or(&self.config.default_runtime);
        let mut args = vec!["--root".to_owned(), root];
        let program = match self.config.runtimes.get(name) {
            Some(path) => path.clone(),
            None if name == OWN_RUNTIME => {
                args.extend([
                    "--seccomp-cache".to_owned(),
                    self.config.data_root.join("seccomp").display().to_string(),
                ]);
                self.programs.runtime.clone()
            }
            // A path, as in `--runtime /usr/sbin/runc`.
            None if name.starts_with('/') => PathBuf::from(name),
            None => return Err(Error::Invalid(format!("unknown or invalid runtime name: {name}"))),
        };
        Ok((program, args))
    }

    /// The cgroup of a container, from the root of each hierarchy.
    pub fn cgroup_path(&self, container: &Container) -> String {
        let parent = container.spec.cgroup_parent.as_deref().unwrap_or(&self.config.cgroup_parent);
        cgroup_path(parent, &container.id)
    }
}

fn cgroup_path(parent: &str, id: &ContainerId) -> String {
    format!("/{}/{}", parent.trim_matches('/'), id.as_str())
}

fn state_dir(config: &Config, id: &ContainerId) -> PathBuf {
    config.data_root.join("containers").join(id.as_str())
}

fn bundle(config: &Config, id: &ContainerId) -> PathBuf {
    config.exec_root.join("containers").join(id.as_str())
}

/// Where OCI runtimes remember containers: runc and crun right below their root, berth's own one level deeper.
fn runtime_dirs(config: &Config) -> [PathBuf; 3] {
    let root = config.exec_root.join("runtime");
    [root.join("containers"), root.join("bundles"), root]
}

/// Lets the runtime forget a container that ended without its knowing: its shim was killed.
fn forget_runtime(config: &Config, id: &ContainerId) {
    for dir in runtime_dirs(config) {
        // Most have no such directory: the shim has the runtime delete what it made.
        let _ = std::fs::remove_dir_all(dir.join(id.as_str()));
    }
}

fn new_id<T: TryFrom<String>>() -> Result<T>
where
    T::Error: std::fmt::Display,
{
    T::try_from(naming::id()?).map_err(|error| Error::Fault(error.to_string()))
}

/// A directory that only root may look into: containers' files lie below it with their own owners and set-uid bits.
fn make_private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let doing = || format!("make {}", dir.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).doing(doing())?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).doing(doing())
}

impl Programs {
    fn find() -> Result<Programs> {
        let me = std::env::current_exe().doing("find the engine's own program")?;
        let beside = |name: &str| {
            let path = me.with_file_name(name);
            if path.is_file() {
                Ok(path)
            } else {
                Err(Error::Fault(format!(
                    "{} is missing: it belongs beside {}; build or install it there",
                    path.display(),
                    me.display()
                )))
            }
        };
        Ok(Programs { shim: beside("berth-shim")?, runtime: beside("berth-runtime")? })
    }
}
