use super::start::keep_places;
use super::{Engine, bundle, cgroup_path, groups, runtime_dirs};
use crate::config::Config;
use crate::container::health::Health;
use crate::container::link_state::Watched;
use crate::container::spec::{NetworkMode, Restart};
use crate::container::{Container, Phase};
use crate::engine::registry::Cell;
use crate::error::Result;
use crate::oci::HostRights;
use crate::rootfs;
use crate::store::{Alive, Loaded, Store};
use crate::supervise::Shim;
use plan::ids::{ContainerId, SandboxId};
use plan::world::{Fact, World};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;
use tracing::{info, warn};

/// What was found at the engine's start.
pub(super) struct Survey {
    /// The facts about the network, without those of the dead.
    pub world: World,
    containers: Vec<Container>,
    /// They run, each with the shim that says so.
    living: BTreeMap<ContainerId, Alive>,
    /// They ran when the engine went, and have ended since.
    ended: BTreeMap<ContainerId, Alive>,
    /// What health checks said of the living.
    health: BTreeMap<ContainerId, Health>,
    /// How their links stood.
    links: BTreeMap<ContainerId, Watched>,
}

/// Before the network thread starts: who lives, who does not, and what of the network goes with the dead.
pub(super) async fn survey(config: &Config, rights: &HostRights, store: &Store, loaded: Loaded) -> Result<Survey> {
    let Loaded { containers, mut world, alive, mut health, mut links } = loaded;
    let known: BTreeSet<&ContainerId> = containers.iter().map(|container| &container.id).collect();
    let mut living = BTreeMap::new();
    let mut ended = BTreeMap::new();
    for (id, alive) in alive {
        let shim = Shim::of(&bundle(config, &id));
        let lives = shim.lives().await;
        if lives && alive.started && known.contains(&id) && shim.exit_file().is_none() {
            living.insert(id, alive);
            continue;
        }
        if alive.started && known.contains(&id) {
            ended.insert(id, alive);
            continue;
        }
        // A start that was cut short, or one whose container is no longer recorded: take it back.
        shim.end().await;
        store.drop_alive(&id)?;
    }
    health.retain(|id, _| living.contains_key(id));
    links.retain(|id, _| living.contains_key(id));
    clear_strangers(config, rights, &containers, &living, &ended);
    // Sandboxes that nobody alive uses: withdrawn, and the first round of the network removes what was made for them.
    let used: BTreeSet<_> = living.values().filter_map(|alive| alive.sandbox.clone()).collect();
    let mut change = Vec::new();
    let now = crate::network::now();
    for sandbox in world.sandboxes.keys().filter(|id| !used.contains(id)) {
        change.extend(world.endpoints_of(sandbox).map(|endpoint| Fact::NoEndpoint(endpoint.id.clone(), now)));
        change.push(Fact::NoSandbox(sandbox.clone()));
    }
    let known_sandboxes: BTreeSet<_> = world.sandboxes.keys().cloned().collect();
    let orphans = world.endpoints.values().filter(|endpoint| !known_sandboxes.contains(&endpoint.sandbox));
    change.extend(orphans.map(|endpoint| Fact::NoEndpoint(endpoint.id.clone(), now)));
    world.take(&change);
    store.commit(&change)?;
    Ok(Survey { world, containers, living, ended, health, links })
}

/// Directories and cgroups of containers that nobody recorded: a crash came between making and recording them, or between
/// forgetting and clearing them.
fn clear_strangers(
    config: &Config,
    rights: &HostRights,
    containers: &[Container],
    living: &BTreeMap<ContainerId, Alive>,
    ended: &BTreeMap<ContainerId, Alive>,
) {
    let known: BTreeSet<&str> = containers.iter().map(|container| container.id.as_str()).collect();
    remove_all_but(&config.data_root.join("containers"), |name| known.contains(name));
    // Bundles belong to the living, and to the ended until their exit is read.
    let kept =
        |name: &str| name.parse().is_ok_and(|id: ContainerId| living.contains_key(&id) || ended.contains_key(&id));
    remove_all_but(&config.exec_root.join("containers"), kept);
    for dir in runtime_dirs(config) {
        let alive = |name: &str| name.parse().is_ok_and(|id: ContainerId| living.contains_key(&id));
        remove_all_but(&dir, |name| name.parse::<ContainerId>().is_err() || alive(name));
    }
    for id in groups::children(&rights.cgroups, &config.cgroup_parent) {
        // What is no id of ours was made by somebody else.
        let Ok(id) = id.parse::<ContainerId>() else { continue };
        if living.contains_key(&id) {
            continue;
        }
        if let Err(error) = groups::kill_and_remove(&rights.cgroups, &cgroup_path(&config.cgroup_parent, &id)) {
            warn!(cgroup = id.as_str(), %error, "a cgroup that nobody needs could not be removed");
        }
    }
}

fn remove_all_but(dir: &Path, keep: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(&keep) {
            continue;
        }
        let path = entry.path();
        info!(path = %path.display(), "clearing what a crash left");
        let removed = rootfs::remove_tree(&path);
        if let Err(error) = removed {
            warn!(path = %path.display(), %error, "could not be cleared");
        }
    }
}

impl Engine {
    /// Takes every container into the registry, follows the living, records the ends of those that ended meanwhile, and
    /// starts what the restart policies ask for.
    pub(super) async fn take_over(self: &Arc<Self>, survey: Survey) -> Result<()> {
        let Survey { containers, living, ended, mut health, links, .. } = survey;
        for (id, watched) in links {
            self.links.recall(id, watched);
        }
        let mut wanting = Vec::new();
        for mut container in containers {
            let id = container.id.clone();
            self.tell_called(&container);
            container.kept.joined = None;
            if let Some(alive) = living.get(&id) {
                container.state.phase = self.frozen_or_running(&container);
                container.state.pid = alive.pid;
                container.state.started = Some(alive.since);
                let is_own = |s: &&SandboxId| self.net.world().sandboxes.get(s).is_some_and(|s| s.container == id);
                container.kept.sandbox = alive.sandbox.as_ref().filter(is_own).cloned();
                container.kept.joined = alive.sandbox.as_ref().filter(|s| !is_own(s)).cloned();
                let chosen = container.kept.sandbox.as_ref().map(|sandbox| self.net.places(sandbox));
                keep_places(&mut container, &chosen.unwrap_or_default());
                // What was said of an earlier run does not count.
                let said = health.remove(&id);
                let fresh = said.filter(|h| h.log.last().is_some_and(|last| last.started >= alive.since));
                let checked = container.spec.health.is_some();
                container.state.health = checked.then(|| fresh.unwrap_or_else(|| Health::starting(None)));
                let (frozen, status) =
                    (container.state.phase == Phase::Paused, container.state.health.as_ref().map(|h| h.status));
                let cell = self.containers.insert(container);
                self.tell_asker(&cell.snapshot());
                cell.announce(|stage| {
                    stage.alive = true;
                    stage.frozen = frozen;
                    stage.health = status;
                });
                tokio::spawn(self.clone().follow(cell.clone(), self.shim(&id)));
                self.check_health(&cell);
                continue;
            }
            container.kept.sandbox = None;
            container.state.pid = 0;
            let was_alive = container.state.phase.is_alive() || container.state.phase == Phase::Restarting;
            if let Some(alive) = ended.get(&id) {
                container.state.phase = Phase::Running;
                container.state.pid = alive.pid;
                container.state.started = Some(alive.since);
                let cell = self.containers.insert(container);
                cell.announce(|stage| stage.alive = true);
                // The shim is gone or going; following it reads what it wrote down.
                self.clone().follow(cell, self.shim(&id)).await;
                continue;
            }
            if container.state.phase == Phase::Removing {
                let cell = self.containers.insert(container);
                let _gate = cell.gate.lock().await;
                self.remove_gated(&cell, true).await?;
                continue;
            }
            if was_alive {
                // The boot ended it.
                container.state.phase = Phase::Exited;
                container.state.exit_code = 255;
                container.state.finished = Some(SystemTime::now());
                self.store.put_container(&container)?;
            }
            let wanted = match container.spec.restart {
                Restart::Always => container.state.started.is_some(),
                Restart::UnlessStopped => container.state.started.is_some() && !container.stopped_by_user,
                Restart::No | Restart::OnFailure(_) => false,
            };
            // Also one that was never started: its client died between making and starting it.
            let auto_remove = container.spec.auto_remove;
            let cell = self.containers.insert(container);
            if auto_remove {
                let _gate = cell.gate.lock().await;
                self.remove_gated(&cell, true).await?;
            } else if wanted {
                wanting.push(cell);
            }
        }
        // A target may have ended while no engine was there to say so.
        for cell in self.containers.all() {
            let container = cell.snapshot();
            if !container.spec.network.links.is_empty() {
                self.tell(&container, &[]);
            }
        }
        self.start_all(wanting);
        Ok(())
    }

    /// Starts containers side by side, but each after those of them that it needs.
    fn start_all(self: &Arc<Self>, cells: Vec<Arc<Cell>>) {
        let turns: Vec<_> = cells.iter().map(|_| watch::channel(())).collect();
        let done: BTreeMap<_, _> = cells.iter().zip(&turns).map(|(cell, (_, over))| (&cell.id, over)).collect();
        let waits: Vec<Vec<_>> = cells
            .iter()
            .map(|cell| {
                self.needed_by(&cell.snapshot()).iter().filter_map(|id| done.get(id).copied().cloned()).collect()
            })
            .collect();
        for ((cell, (turn, _)), waits) in cells.into_iter().zip(turns).zip(waits) {
            let engine = self.clone();
            tokio::spawn(async move {
                for mut over in waits {
                    // Nothing is ever sent: this ends when the other one's turn is over, however it went.
                    let _ = over.changed().await;
                }
                if let Err(error) = engine.start(cell.id.as_str()).await {
                    warn!(container = %cell.snapshot().name, %error, "the restart policy could not start it");
                }
                drop(turn);
            });
        }
    }

    /// The containers without which this one cannot start. Only older ones count: so none needs itself, by however many others.
    fn needed_by(&self, container: &Container) -> Vec<ContainerId> {
        let network = &container.spec.network;
        let joined = match &network.mode {
            NetworkMode::Joined(other) => self.find(other).ok().map(|cell| cell.id.clone()),
            _ => None,
        };
        let named = network.links.iter().map(|link| link.target.clone()).chain(joined);
        let older =
            |id: &ContainerId| self.containers.get(id).is_some_and(|cell| cell.snapshot().created < container.created);
        named.filter(older).collect()
    }

    fn frozen_or_running(&self, container: &Container) -> Phase {
        if groups::is_frozen(&self.rights.cgroups, &self.cgroup_path(container)) {
            Phase::Paused
        } else {
            Phase::Running
        }
    }
}
