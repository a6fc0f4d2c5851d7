use super::{Engine, naming};
use crate::container::{Container, Phase};
use crate::engine::registry::Cell;
use crate::error::{Doing, Error, Result};
use crate::resolver::Note;
use crate::rootfs;
use std::sync::Arc;
use tracing::warn;

impl Engine {
    /// Removes a container: record, writable layer, logs, its anonymous volumes if `volumes`.
    ///
    /// # Errors
    /// It runs, and `force` was not given.
    pub async fn remove(self: &Arc<Self>, reference: &str, force: bool, volumes: bool) -> Result<()> {
        let cell = self.find(reference)?;
        loop {
            if force {
                self.end_now(&cell).await?;
                cell.hurry.notify_waiters();
            }
            let _gate = if force { cell.seize().await } else { cell.enter().await? };
            let container = cell.snapshot();
            match container.state.phase {
                // Somebody started it again between our kill and our gate.
                Phase::Running | Phase::Paused if force => continue,
                Phase::Running | Phase::Paused => {
                    let (is, cure) = match container.state.phase {
                        Phase::Paused => ("paused", "unpause and then stop the container"),
                        _ => ("running", "stop the container"),
                    };
                    return Err(Error::Conflict(format!(
                        "cannot remove container \"{reference}\": container is {is}: {cure} before removing or force remove"
                    )));
                }
                Phase::Restarting if !force => {
                    return Err(Error::Conflict(format!(
                        "cannot remove container \"{reference}\": container is restarting: stop the container before \
                         removing or force remove"
                    )));
                }
                // The start that was given up for this one has done it.
                Phase::Removing if force && cell.stages().borrow().removed => return Ok(()),
                Phase::Removing => {
                    return Err(Error::Conflict(format!("removal of container {reference} is already in progress")));
                }
                _ => {}
            }
            return self.remove_gated(&cell, volumes).await;
        }
    }

    /// The same for who holds the gate of a container that does not run.
    pub(super) async fn remove_gated(&self, cell: &Arc<Cell>, volumes: bool) -> Result<()> {
        let container = cell.change(|container| container.state.phase = Phase::Removing);
        self.release_sandbox(&container).await;
        // Once the record is gone the container is: files that a crash leaves from here on are cleared at the next start.
        self.store.drop_container(&cell.id)?;
        crate::crash::point("after the record was dropped");
        let dir = self.state_dir(&cell.id);
        let bundle = self.bundle(&cell.id);
        let cleared = tokio::task::spawn_blocking(move || {
            let _ = std::fs::remove_dir_all(bundle);
            // A container may have made a tree so deep that plain recursion would not come back.
            rootfs::remove_tree(&dir).map_err(|error| (dir, error))
        });
        if let Ok(Err((dir, error))) = cleared.await {
            warn!(dir = %dir.display(), %error, "what a removed container left will be cleared at the engine's next start");
        }
        self.containers.remove(&cell.id);
        self.resolver.tell(Note::NotCalled(cell.id.clone()));
        self.execs.container_removed(&cell.id);
        if volumes {
            for mount in container.mounts.iter().filter(|mount| mount.anonymous) {
                self.drop_volume(mount.volume.as_deref().unwrap_or_default());
            }
        }
        cell.announce(|stage| {
            stage.alive = false;
            stage.removed = true;
        });
        self.events.container("destroy", &container, &[]);
        Ok(())
    }

    fn drop_volume(&self, name: &str) {
        match self.volumes.remove(name, false, |volume: &str| self.volume_users(volume)) {
            Ok(()) => self.events.volume("destroy", name),
            Err(Error::NotFound(_)) | Err(Error::Conflict(_)) => {}
            Err(error) => warn!(volume = name, %error, "an anonymous volume could not be removed"),
        }
    }

    /// The containers that have a volume mounted, running or not.
    pub fn volume_users(&self, volume: &str) -> Vec<String> {
        let all = self.containers.all();
        let using = all.iter().map(|cell| cell.snapshot());
        using
            .filter(|c| c.mounts.iter().any(|mount| mount.volume.as_deref() == Some(volume)))
            .map(|c| c.id.to_string())
            .collect()
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// A bad or taken name.
    pub async fn rename(&self, reference: &str, to: &str) -> Result<()> {
        if reference.is_empty() || to.is_empty() {
            return Err(Error::Invalid("Neither old nor new names may be empty".into()));
        }
        let cell = self.find(reference)?;
        let to = naming::checked(to)?;
        let _gate = cell.enter().await?;
        let old = cell.snapshot().name.clone();
        if old == to {
            return Err(Error::Invalid("Renaming a container with the same name as its current name".into()));
        }
        self.containers.reserve(&to, &cell.id)?;
        let container = cell.change(|container| container.name.clone_from(&to));
        if let Err(error) = self.store.put_container(&container) {
            cell.change(|container| container.name.clone_from(&old));
            self.containers.release(&to);
            return Err(error);
        }
        self.containers.release(&old);
        self.tell_called(&container);
        self.rename_endpoints(&container).await?;
        self.tell_asker(&container);
        if let Err(error) = self.tell_of_name(&container, &old).await {
            warn!(container = %container.name, %error, "those who are linked to it were not told of its name");
        }
        self.events.container("rename", &container, &[("oldName", &format!("/{old}"))]);
        Ok(())
    }

    /// Removes every container that does not run and that `which` takes; their ids, and the bytes that this freed.
    ///
    /// # Errors
    /// The first removal that failed.
    pub async fn prune(self: &Arc<Self>, which: impl Fn(&Container) -> bool) -> Result<(Vec<String>, u64)> {
        let mut removed = Vec::new();
        let mut freed = 0;
        for container in self.all() {
            let idle = matches!(container.state.phase, Phase::Created | Phase::Exited | Phase::Dead);
            if !idle || !which(&container) {
                continue;
            }
            let dir = self.state_dir(&container.id);
            let size = tokio::task::spawn_blocking(move || rootfs::size(&dir)).await.doing("measure a container")?;
            match self.remove(container.id.as_str(), false, false).await {
                Ok(()) => {
                    freed += size;
                    removed.push(container.id.to_string());
                }
                // Somebody else removed or started it meanwhile.
                Err(Error::NotFound(_) | Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((removed, freed))
    }
}
