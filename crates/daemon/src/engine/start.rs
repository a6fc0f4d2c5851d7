use super::{Engine, new_id};
use crate::container::health::Health;
use crate::container::spec::{IpcMode, LogSpec, MountSpec, NetworkMode, NetworkSpec, PidMode, Publish, Restart};
use crate::container::{Container, Phase, Place};
use crate::crash;
use crate::engine::registry::Cell;
use crate::error::{Doing, Error, Result};
use crate::network::Wish;
use crate::oci::{self, Inputs, NetNs};
use crate::store::Alive;
use crate::supervise::{self, Shim};
use crate::{logs, rootfs, users};
use plan::decide::AttachWish;
use plan::ids::{ContainerId, SandboxId};
use plan::ports::{PortWish, in_ranges};
use plan::world::{Endpoint, Linked, Network};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tracing::info;

/// How often it is looked whether a restart is over.
const LOOK: Duration = Duration::from_millis(10);

/// Whose network a container will have.
struct Joined {
    ns: NetNs,
    sandbox: Option<SandboxId>,
    /// The container whose name files it shares; `None`: its own.
    files_of: Option<Arc<Container>>,
}

/// Who asked for a start. If that one goes away before it is answered, nobody waits any more for what the container is linked to.
struct Client {
    cell: Arc<Cell>,
    /// The start that was asked for, and no other, is under way.
    starts: Arc<AtomicBool>,
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.starts.load(Ordering::Relaxed) {
            self.cell.leave();
        }
    }
}

/// What can be made ready before the network is known.
struct Prepared {
    rootfs: OwnedFd,
    user: users::Resolved,
}

impl Engine {
    /// Starts a container. When this returns its program runs.
    ///
    /// # Errors
    /// [`Error::NotModified`] if it runs already; a conflict with its state; whatever stood in the way, and then nothing
    /// of the start is left but the container in the state it had before.
    pub async fn start(self: &Arc<Self>, reference: &str) -> Result<()> {
        let cell = self.find(reference)?;
        let (engine, started) = (self.clone(), cell.clone());
        let client = Client { cell, starts: Arc::default() };
        let starts = client.starts.clone();
        // A task of its own, for a client that goes away must not leave half a start behind.
        let start = tokio::spawn(async move {
            let _gate = started.gate.lock().await;
            started.wanted();
            starts.store(true, Ordering::Relaxed);
            started.change(|container| {
                container.stopped_by_user = false;
                container.restart_count = 0;
            });
            let done = engine.start_gated(&started).await;
            starts.store(false, Ordering::Relaxed);
            started.wanted();
            done
        });
        let done = start.await.doing("start a container");
        drop(client);
        done?
    }

    /// The same for who holds the gate.
    pub(super) async fn start_gated(self: &Arc<Self>, cell: &Arc<Cell>) -> Result<()> {
        let container = cell.snapshot();
        match container.state.phase {
            Phase::Created | Phase::Exited | Phase::Restarting => {}
            Phase::Running => return Err(Error::NotModified),
            Phase::Paused => {
                return Err(Error::Conflict("cannot start a paused container, try unpause instead".into()));
            }
            Phase::Removing | Phase::Dead => {
                return Err(Error::Conflict("container is marked for removal and cannot be started".into()));
            }
        }
        match self.bring_up(cell, &container).await {
            Ok((pid, shim)) => {
                let now = SystemTime::now();
                let container = cell.change(|container| {
                    let before = container.state.health.take();
                    container.state.health = container.spec.health.as_ref().map(|_| Health::starting(before.as_ref()));
                    container.state.phase = Phase::Running;
                    container.state.pid = pid;
                    container.state.started = Some(now);
                    container.state.error.clear();
                    container.state.oom_killed = false;
                });
                cell.announce(|stage| {
                    stage.alive = true;
                    stage.frozen = false;
                    stage.health = container.state.health.as_ref().map(|health| health.status);
                });
                if !container.spec.network.links.is_empty() {
                    // A target may have come or gone after the file of names was written and before there was one to change.
                    self.tell(&container, &[]);
                }
                if container.spec.restart != Restart::No {
                    // After a reboot the policy asks whether it ever ran; others need no write to the disk here.
                    self.store.put_container(&container)?;
                }
                self.events.mounts("mount", &container);
                self.events.container("start", &container, &[]);
                tokio::spawn(self.clone().follow(cell.clone(), shim));
                self.check_health(cell);
                Ok(())
            }
            Err(error) => {
                self.take_back(cell).await;
                let code = exit_code_of(&error.to_string());
                let container = cell.change(|container| {
                    container.state.error = error.to_string();
                    container.state.exit_code = code;
                    if container.state.phase == Phase::Restarting {
                        container.state.phase = Phase::Exited;
                    }
                });
                cell.announce(|stage| stage.code = code);
                if container.spec.auto_remove {
                    self.remove_gated(cell, true).await?;
                } else {
                    self.store.put_container(&container)?;
                }
                Err(error)
            }
        }
    }

    async fn bring_up(self: &Arc<Self>, cell: &Arc<Cell>, container: &Container) -> Result<(i32, Shim)> {
        self.warm();
        let mut alive = Alive { started: false, pid: 0, since: SystemTime::now(), sandbox: None };
        self.store.put_alive(&cell.id, &alive)?;
        let engine = self.clone();
        let record = container.clone();
        let prepare = tokio::task::spawn_blocking(move || engine.prepare(&record));
        let (joined, prepared) = tokio::join!(self.join_network(cell, container), prepare);
        let joined = joined?;
        let prepared = prepared.doing("prepare the root file system")??;
        // The places that the network chose are in the record now.
        let container = cell.snapshot();
        alive.sandbox.clone_from(&joined.sandbox);
        self.store.put_alive(&cell.id, &alive)?;
        let foreign = matches!(container.spec.network.mode, NetworkMode::Joined(_));
        cell.change(|container| container.kept.joined = joined.sandbox.clone().filter(|_| foreign));
        if let Some(sandbox) = joined.sandbox.as_ref().filter(|_| !foreign) {
            self.await_links(cell, &container, sandbox).await?;
        }

        let told = self.told_addrs(&container);
        self.remember_told(&container, told.clone());

        let bundle = self.bundle(&cell.id);
        let engine = self.clone();
        let record = container.clone();
        let shim = Shim::of(&bundle);
        tokio::task::spawn_blocking(move || engine.spawn_shim(&record, &joined, prepared, &told))
            .await
            .doing("write the bundle")??;
        crash::point("after the shim was started");
        let pid = shim.created().await.map_err(explained)?;
        crash::point("after the container was created");
        for early in cell.take_early() {
            let stdin = early.stdin && container.spec.open_stdin;
            let stream = shim.attach(None, stdin, early.stdout, early.stderr).await?;
            // A client that has gone away meanwhile wants nothing.
            let _ = early.streams.send(stream);
        }
        shim.start().await.map_err(explained)?;
        crash::point("after the program was let run");
        alive.started = true;
        alive.pid = pid;
        self.store.put_alive(&cell.id, &alive)?;
        info!(container = %container.name, pid, "started");
        Ok((pid, shim))
    }

    /// Root file system and user: all that needs no network.
    fn prepare(&self, container: &Container) -> Result<Prepared> {
        let image =
            self.images.resolve(&container.image_id).doing(format_args!("find image {}", container.spec.image))?;
        let layers = self.images.layers(&image);
        let dir = self.state_dir(&container.id);
        let rootfs = rootfs::mount(&layers, &dir.join("diff"), &dir.join("work"), false)?;
        let user = users::resolve(rootfs.as_fd(), &container.spec.user, &container.spec.group_add)?;
        rootfs::ensure_dir(rootfs.as_fd(), &container.spec.workdir, &user)?;
        for mount in container.mounts.iter().filter(|mount| mount.volume.is_some()) {
            let keeps_empty = |wish: &MountSpec| matches!(wish, MountSpec::Volume { target, no_copy: true, .. } if *target == mount.target);
            if !container.spec.mounts.iter().any(keeps_empty) {
                rootfs::fill::fill(rootfs.as_fd(), &mount.target, &mount.source)?;
            }
        }
        Ok(Prepared { rootfs, user })
    }

    async fn join_network(&self, cell: &Arc<Cell>, container: &Container) -> Result<Joined> {
        let spec = &container.spec.network;
        match &spec.mode {
            NetworkMode::Open => Ok(Joined { ns: NetNs::Host, sandbox: None, files_of: None }),
            NetworkMode::Joined(target) => {
                self.until_restarted(target).await;
                self.join_container(&container.id.to_string(), target)
            }
            NetworkMode::Closed => self.open_sandbox(cell, container, Vec::new(), Vec::new()).await,
            NetworkMode::Bridged | NetworkMode::Named(_) => {
                let linked = self.linked(container)?;
                let places = self.places_to_open(cell);
                let places = places.map_err(|error| named(error, "failed to set up container networking"))?;
                self.open_sandbox(cell, container, places, linked).await
            }
        }
    }

    /// Waits while a container is between the two halves of a restart: clients restart all of a project at once.
    async fn until_restarted(&self, reference: &str) {
        let under_way = || {
            let container = self.find(reference).ok()?.snapshot();
            let sandbox = container.kept.sandbox.as_ref()?;
            (!container.state.phase.is_alive() && self.is_held(sandbox)).then_some(())
        };
        while under_way().is_some() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Another container's sandbox. The texts are Docker's.
    fn join_container(&self, own: &str, target: &str) -> Result<Joined> {
        let target = self.find(target).map_err(|error| Error::NotFound(format!("{JOINING}: {error}")))?.snapshot();
        if target.id.as_str() == own {
            return Err(Error::Invalid("cannot join own network namespace".into()));
        }
        match target.state.phase {
            Phase::Running | Phase::Paused => {}
            Phase::Restarting => {
                return Err(Error::Conflict(format!(
                    "cannot join network namespace of container: Container {} is restarting, wait until the container \
                     is running",
                    target.id.as_str()
                )));
            }
            other => {
                return Err(Error::Conflict(format!(
                    "cannot join network namespace of a non running container: container {} is {}",
                    target.name,
                    other.word()
                )));
            }
        }
        let sandbox = match &target.spec.network.mode {
            NetworkMode::Open => None,
            // Where the target is that it joined itself; in the host's network, if that one is.
            NetworkMode::Joined(_) => target.kept.joined.clone(),
            _ => Some(target.kept.sandbox.clone().ok_or_else(|| no_sandbox(&target))?),
        };
        let gone = |id: &SandboxId| !self.net.world().sandboxes.contains_key(id);
        if sandbox.as_ref().is_some_and(gone) {
            return Err(no_sandbox(&target));
        }
        let ns = sandbox.as_ref().map_or(NetNs::Host, |sandbox| NetNs::Path(self.net.pin(sandbox)));
        Ok(Joined { ns, sandbox, files_of: self.host_of(target) })
    }

    /// The container in whose network this one is, over any number of joins; `None` if it is gone while its guests live on.
    fn host_of(&self, mut guest: Arc<Container>) -> Option<Arc<Container>> {
        // Nobody can join himself, but a name may have gone from one container to another.
        for _ in 0..=self.containers.all().len() {
            match &guest.spec.network.mode {
                NetworkMode::Joined(next) => guest = self.snapshot(next).ok()?,
                _ => return Some(guest),
            }
        }
        None
    }

    /// A sandbox of the container's own: the one it had, if that is still there, or a new one.
    async fn open_sandbox(
        &self,
        cell: &Arc<Cell>,
        container: &Container,
        places: Vec<AttachWish>,
        linked: Vec<Linked>,
    ) -> Result<Joined> {
        let kept = container.kept.sandbox.clone().filter(|id| self.net.world().sandboxes.contains_key(id));
        let sandbox = match kept {
            Some(sandbox) => sandbox,
            None => {
                let sandbox: SandboxId = new_id()?;
                let places = places.into_iter().map(|place| AttachWish { sandbox: sandbox.clone(), ..place }).collect();
                // Recorded in the container first, so that a failure below finds what to take back.
                cell.change(|container| container.kept.sandbox = Some(sandbox.clone()));
                let wish = Wish::Join { sandbox: sandbox.clone(), container: container.id.clone(), places, linked };
                self.net.wish(wish).await.map_err(|error| named(error, "failed to set up container networking"))?;
                self.tell_sources(&container.id);
                sandbox
            }
        };
        let chosen = self.net.places(&sandbox);
        let container = cell.change(|container| keep_places(container, &chosen));
        for (_, network) in &chosen {
            self.events.network("connect", network, &container.id);
        }
        Ok(Joined { ns: NetNs::Path(self.net.pin(&sandbox)), sandbox: Some(sandbox), files_of: None })
    }

    /// Name files, the OCI bundle, and the shim that takes it up. `told`: where its links lead.
    fn spawn_shim(
        &self,
        container: &Container,
        joined: &Joined,
        prepared: Prepared,
        told: &BTreeMap<ContainerId, IpAddr>,
    ) -> Result<()> {
        let files = self.name_files(container, joined.files_of.as_deref())?;
        if joined.files_of.is_none() {
            self.tell_asker(container);
        }
        let bundle = self.bundle(&container.id);
        super::make_private_dir(&bundle)?;
        let pin = match &joined.ns {
            NetNs::Path(pin) => Some(pin.clone()),
            NetNs::Host => None,
        };
        let _ = std::fs::remove_file(bundle.join(supervise::EXIT_FILE));
        let (runtime, runtime_args) = self.runtime(container)?;
        let cgroup_path = self.cgroup_path(container);
        self.rights.cgroups.make(container.spec.cgroup_parent.as_deref().unwrap_or(&self.config.cgroup_parent))?;
        let link_variables = self.link_variables(container, told);
        let inputs = Inputs {
            container,
            // Where the shim puts it.
            netns: if pin.is_some() { NetNs::Path(bundle.join("netns")) } else { NetNs::Host },
            hosts: files.hosts,
            hostname_file: files.hostname,
            resolv_conf: files.resolv,
            user: &prepared.user,
            cgroup_path: &cgroup_path,
            joined: oci::Joined {
                pid: self.other_ns(container, "pid")?,
                ipc: self.other_ns(container, "ipc")?,
                uts: None,
                shm: None,
            },
            host: &self.rights,
            rootfs: "rootfs",
            hostname: &files.own_name,
            link_env: &link_variables,
        };
        let (config, warnings) = oci::bundle(&inputs)?;
        for warning in warnings {
            tracing::warn!(container = %container.name, "{warning}");
        }
        let file = bundle.join("config.json");
        let text = serde_json::to_vec(&config).doing("encode the OCI configuration")?;
        std::fs::write(&file, text).doing(format_args!("write {}", file.display()))?;
        let log = match container.spec.log {
            LogSpec::Nowhere => None,
            LogSpec::JsonFile { max_size, max_files, .. } | LogSpec::Local { max_size, max_files, .. } => {
                let (path, attrs) = (self.log_file(&container.id), logs::attributes(container));
                let compress = container.spec.log.compresses();
                Some(shim::LogConfig { path, max_size, max_files, compress, attrs })
            }
        };
        let config = shim::Config {
            id: container.id.to_string(),
            runtime,
            runtime_args,
            rootfs_mount: true,
            netns: pin,
            tty: container.spec.tty,
            stdin: container.spec.open_stdin,
            stdin_once: container.spec.stdin_once,
            log,
        };
        supervise::spawn(&self.programs.shim, &bundle, &config, Some(prepared.rootfs))
    }

    /// The pid or ipc namespace of another container, where one is to be shared.
    fn other_ns(&self, container: &Container, kind: &str) -> Result<Option<PathBuf>> {
        let target = match (kind, &container.spec.pid, &container.spec.ipc) {
            ("pid", PidMode::Container(target), _) | ("ipc", _, IpcMode::Container(target)) => target,
            _ => return Ok(None),
        };
        let target = self.find(target)?.snapshot();
        if !target.state.phase.is_alive() {
            return Err(Error::Conflict(format!(
                "cannot join {} of a non running container: {}",
                kind.to_uppercase(),
                target.id.as_str()
            )));
        }
        Ok(Some(PathBuf::from(format!("/proc/{}/ns/{kind}", target.state.pid))))
    }

    /// After a start that failed: the shim, if it got so far, has cleared up after itself; the sandbox goes unless others
    /// use it, and with it what the network made.
    async fn take_back(&self, cell: &Arc<Cell>) {
        self.shim(&cell.id).end().await;
        super::forget_runtime(&self.config, &cell.id);
        // Whoever attached for this start gets no streams.
        drop(cell.take_early());
        self.release_sandbox(&cell.snapshot()).await;
        self.forget_alive(&cell.id);
        let _ = std::fs::remove_dir_all(self.bundle(&cell.id));
    }
}

/// Remembers what the network chose, so that the next start can have the same.
pub(super) fn keep_places(container: &mut Container, chosen: &[(Endpoint, Network)]) {
    for (endpoint, network) in chosen {
        let place = Place {
            addr4: endpoint.addr4,
            addr6: endpoint.addr6,
            mac: Some(endpoint.mac),
            ports: endpoint.ports.clone(),
        };
        container.kept.places.insert(network.name.clone(), place);
    }
}

/// `-p` and `-P` as wishes; a port that is published by name is not published a second time by `-P`.
pub(super) fn port_wishes(spec: &NetworkSpec) -> Vec<PortWish> {
    let named = spec.published.iter().map(port_wish);
    let is_named = |port: u16, proto| spec.published.iter().any(|p| p.inner == port && p.proto == proto);
    let rest = spec.exposed.iter().filter(|(port, proto)| spec.publish_all && !is_named(*port, *proto));
    let rest =
        rest.map(|(inner, proto)| PortWish { proto: *proto, host_ip: None, host_port: None, inner: *inner, count: 1 });
    in_ranges(named.chain(rest).collect())
}

/// One `-p` as a wish.
pub(super) fn port_wish(publish: &Publish) -> PortWish {
    let Publish { proto, host_ip, host_ports: host_port, inner } = *publish;
    PortWish { proto, host_ip, host_port, inner, count: 1 }
}

const JOINING: &str = "joining network namespace of container";

fn no_sandbox(target: &Container) -> Error {
    Error::Fault(format!("{JOINING}: {} has no sandbox", target.name))
}

/// A refusal or fault with words before it.
fn named(error: Error, what: &str) -> Error {
    match error {
        Error::Invalid(text) => Error::Invalid(format!("{what}: {text}")),
        Error::NotFound(text) => Error::NotFound(format!("{what}: {text}")),
        Error::Conflict(text) => Error::Conflict(format!("{what}: {text}")),
        Error::Forbidden(text) => Error::Forbidden(format!("{what}: {text}")),
        Error::Fault(text) => Error::Fault(format!("{what}: {text}")),
        other => other,
    }
}

/// What the runtime said, in the words that clients look for; a command that cannot be run is the caller's doing.
fn explained(error: Error) -> Error {
    let text = format!("failed to create task for container: OCI runtime create failed: {error}");
    if exit_code_of(&text) == 128 { Error::Fault(text) } else { Error::Invalid(text) }
}

/// Docker's exit code for a start that failed: 127 no such command, 126 not executable, else 128.
pub(super) fn exit_code_of(text: &str) -> i32 {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["executable file not found", "no such file or directory"]) {
        127
    } else if has(&["permission denied", "is a directory", "not executable"]) {
        126
    } else {
        128
    }
}
