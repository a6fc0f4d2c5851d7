use super::{Engine, groups};
use crate::container::spec::Restart;
use crate::container::{Container, Phase};
use crate::engine::registry::Cell;
use crate::network::Wish;
use crate::resolver::Note;
use crate::supervise::Shim;
use plan::ids::{ContainerId, SandboxId};
use shim::Exit;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};
use tracing::{error, info, warn};

/// What a container gets whose shim died: it was killed along with it.
const SHIM_DIED: i32 = 137;
/// The first pause of a restart policy, doubled each time up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause of a restart policy.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A container that ran for so long has recovered: its next pause is the first again.
const RECOVERED: Duration = Duration::from_secs(10);

impl Engine {
    /// Follows a running container to its end, and through its restart policy.
    pub(super) async fn follow(self: Arc<Self>, cell: Arc<Cell>, shim: Shim) {
        let exit = match shim.wait().await {
            Some(exit) => exit,
            None => self.shim_died(&cell).await,
        };
        let _gate = cell.gate.lock().await;
        self.ended(&cell, &exit).await;
    }

    /// The shim is gone and left no word: nobody holds the container's streams any more, so it ends too.
    async fn shim_died(&self, cell: &Arc<Cell>) -> Exit {
        let container = cell.snapshot();
        warn!(container = %container.name, "its shim died; ending the container");
        self.kill_cgroup(&container).await;
        super::forget_runtime(&self.config, &container.id);
        Exit { code: SHIM_DIED, at: nanos(SystemTime::now()), oom_killed: false }
    }

    /// Ends every process in a container's cgroup, and the cgroup.
    pub(super) async fn kill_cgroup(&self, container: &Container) {
        let path = self.cgroup_path(container);
        let tree = self.rights.cgroups.clone();
        let cleared = tokio::task::spawn_blocking(move || groups::kill_and_remove(&tree, &path)).await;
        if let Ok(Err(error)) = cleared {
            warn!(container = %container.name, %error, "its cgroup could not be cleared");
        }
    }

    /// Records the end and clears up; whoever waits is told last, when all of it is done.
    async fn ended(self: &Arc<Self>, cell: &Arc<Cell>, exit: &Exit) {
        let again = self.restarts(&cell.snapshot(), exit.code);
        let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(exit.at);
        let container = cell.change(|container| {
            container.state.phase = if again { Phase::Restarting } else { Phase::Exited };
            container.state.pid = 0;
            container.state.exit_code = exit.code;
            container.state.oom_killed = exit.oom_killed;
            container.state.finished = Some(at);
            if let Some(health) = &mut container.state.health {
                health.unchecked();
            }
        });
        info!(container = %container.name, code = exit.code, "ended");
        if exit.oom_killed {
            self.events.container("oom", &container, &[]);
        }
        self.events.container("die", &container, &[("exitCode", &exit.code.to_string())]);
        self.execs.container_ended(&cell.id);
        // One that is removed in a moment need not be written once more.
        let stays = again || !container.spec.auto_remove;
        if stays && let Err(error) = self.store.put_container(&container) {
            error!(container = %container.name, %error, "its end could not be recorded");
        }
        if !again {
            self.release_sandbox(&container).await;
        }
        self.events.mounts("unmount", &container);
        self.forget_alive(&cell.id);
        crate::crash::point("after the end was recorded");
        let _ = std::fs::remove_dir_all(self.bundle(&cell.id));
        cell.announce(|stage| {
            stage.alive = false;
            stage.health = container.state.health.as_ref().map(|health| health.status);
            stage.ends += 1;
            stage.code = exit.code;
        });
        if again {
            tokio::spawn(self.clone().start_again(cell.clone()));
        } else if !stays && let Err(error) = self.remove_gated(cell, true).await {
            warn!(container = %container.name, %error, "could not be removed after its end");
        }
    }

    fn restarts(&self, container: &Container, code: i32) -> bool {
        let wanted = match container.spec.restart {
            Restart::No => false,
            Restart::Always | Restart::UnlessStopped => true,
            Restart::OnFailure(most) => code != 0 && (most == 0 || container.restart_count < most),
        };
        wanted && !container.stopped_by_user
    }

    /// The restart policy's turn, after its pause. A boxed future: a start leads to an end and that to a start.
    fn start_again(self: Arc<Self>, cell: Arc<Cell>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let container = cell.snapshot();
            let ran = match (container.state.started, container.state.finished) {
                (Some(from), Some(to)) => to.duration_since(from).unwrap_or_default(),
                _ => Duration::ZERO,
            };
            let round = if ran > RECOVERED { 0 } else { container.restart_count.min(16) };
            let pause = PAUSE.saturating_mul(1 << round).min(PAUSE_MAX);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = cell.hurry.notified() => {}
            }
            let _gate = cell.gate.lock().await;
            let container = cell.snapshot();
            if container.state.phase != Phase::Restarting {
                return;
            }
            if container.stopped_by_user {
                self.give_up_restart(&cell).await;
                return;
            }
            cell.wanted();
            cell.change(|container| container.restart_count += 1);
            if let Err(error) = self.start_gated(&cell).await {
                warn!(container = %container.name, %error, "the restart policy could not start it");
            }
        })
    }

    /// A container that waited for its restart is stopped for good.
    pub(super) async fn give_up_restart(&self, cell: &Arc<Cell>) {
        let container = cell.change(|container| container.state.phase = Phase::Exited);
        self.release_sandbox(&container).await;
        if let Err(error) = self.store.put_container(&container) {
            error!(container = %container.name, %error, "its end could not be recorded");
        }
        cell.announce(|stage| stage.ends += 1);
    }

    /// Closes the sandbox that a container used, unless somebody still needs it: a container that joined it, or its own
    /// container, which runs or will run again.
    pub(super) async fn release_sandbox(&self, container: &Container) {
        for sandbox in self.sandboxes_of(container) {
            if self.is_needed(&sandbox, &container.id) {
                continue;
            }
            let places = self.net.places(&sandbox);
            if let Err(error) = self.net.wish(Wish::Leave(sandbox.clone())).await {
                error!(sandbox = %sandbox.short(), %error, "could not be closed");
                continue;
            }
            self.resolver.tell(Note::NoAsker(sandbox.clone()));
            for (_, network) in places {
                self.events.network("disconnect", &network, &container.id);
            }
            self.tell_sources(&container.id);
        }
    }

    /// The sandbox made for it, and the one it joined.
    fn sandboxes_of(&self, container: &Container) -> Vec<SandboxId> {
        let world = self.net.world();
        let of = [&container.kept.joined, &container.kept.sandbox];
        of.into_iter().flatten().filter(|id| world.sandboxes.contains_key(id)).cloned().collect()
    }

    fn is_needed(&self, sandbox: &SandboxId, ended: &ContainerId) -> bool {
        if self.is_held(sandbox) {
            return true;
        }
        self.containers.all().iter().filter(|cell| &cell.id != ended).any(|cell| {
            let other = cell.snapshot();
            let active = other.state.phase.is_alive() || other.state.phase == Phase::Restarting;
            active && (other.kept.sandbox.as_ref() == Some(sandbox) || other.kept.joined.as_ref() == Some(sandbox))
        })
    }

    /// Keeps a sandbox over the end of its container, until the guard is dropped.
    pub(super) fn hold(self: &Arc<Self>, sandbox: SandboxId) -> Hold {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(sandbox.clone());
        Hold { engine: self.clone(), sandbox }
    }

    pub(super) fn is_held(&self, sandbox: &SandboxId) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).contains(sandbox)
    }

    pub(super) fn forget_alive(&self, id: &ContainerId) {
        self.links.forget(id);
        if let Err(error) = self.store.drop_alive(id) {
            error!(container = %id.short(), %error, "its end could not be recorded in the run directory");
        }
    }
}

/// A restart is under way: the sandbox stays, and with it its addresses and whoever joined it.
pub(super) struct Hold {
    engine: Arc<Engine>,
    sandbox: SandboxId,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.engine.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = held.iter().position(|sandbox| sandbox == &self.sandbox) {
            held.swap_remove(at);
        }
    }
}

fn nanos(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
