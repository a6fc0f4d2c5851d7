use super::{Engine, make_private_dir, naming, new_id};
use crate::config::OWN_RUNTIME;
use crate::container::spec::{NetworkMode, Spec};
use crate::container::{Container, Kept, State};
use crate::error::{Doing, Error, Result};
use crate::volumes::Resolved;
use crate::{oci, rootfs};
use plan::ids::ContainerId;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::SystemTime;

/// A container was made.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its id.
    pub id: ContainerId,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// How many names are tried before giving up; by then hundreds of thousands are taken.
const NAME_ATTEMPTS: usize = 32;

impl Engine {
    /// Makes a container: recorded and with its directories and volumes, and nothing of it in the kernel.
    ///
    /// # Errors
    /// A bad or taken name, a mount that cannot be; nothing is left behind then.
    pub async fn create(
        self: &Arc<Self>,
        name: Option<String>,
        spec: Spec,
        asked: serde_json::Value,
        image: &images::Image,
    ) -> Result<Created> {
        self.warm();
        let id: ContainerId = new_id()?;
        let name = self.take_name(name, &id)?;
        match self.create_named(&id, &name, spec, asked, image) {
            Ok(created) => Ok(created),
            Err(error) => {
                self.containers.release(&name);
                // What was made of its directory; a failure here is found and cleared at the next start of the engine.
                let _ = rootfs::remove_tree(&self.state_dir(&id));
                Err(error)
            }
        }
    }

    fn take_name(&self, name: Option<String>, id: &ContainerId) -> Result<String> {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            let name = naming::checked(&name)?;
            self.containers.reserve(&name, id)?;
            return Ok(name);
        }
        for attempt in 0..NAME_ATTEMPTS {
            let name = naming::name(attempt)?;
            if self.containers.reserve(&name, id).is_ok() {
                return Ok(name);
            }
        }
        let name = id.short().to_string();
        self.containers.reserve(&name, id)?;
        Ok(name)
    }

    fn create_named(
        &self,
        id: &ContainerId,
        name: &str,
        mut spec: Spec,
        mut asked: serde_json::Value,
        image: &images::Image,
    ) -> Result<Created> {
        // A target that is there is meant itself, whatever it will be called later; one that is not may come.
        if let NetworkMode::Joined(target) = &mut spec.network.mode
            && let Ok(cell) = self.find(target)
        {
            *target = cell.id.to_string();
            asked["HostConfig"]["NetworkMode"] = format!("container:{target}").into();
        }
        // An unknown runtime is the caller's doing, and better told now than at the start.
        let probe = spec.runtime.as_deref().unwrap_or_default();
        let known = probe.is_empty() || probe == OWN_RUNTIME || self.config.runtimes.contains_key(probe);
        if !known && !probe.starts_with('/') {
            return Err(Error::Invalid(format!("unknown or invalid runtime name: {probe}")));
        }
        self.check_places(&spec.network.places)?;
        let warnings = oci::concessions(&spec, &self.rights)?;
        let dir = self.state_dir(id);
        make_private_dir(&dir)?;
        // The container sees the upper directory's mode and owner as those of its `/`.
        for (name, mode) in [("diff", 0o755), ("work", 0o700)] {
            let path = dir.join(name);
            let made = std::fs::DirBuilder::new().mode(mode).create(&path);
            made.doing(format_args!("make {}", path.display()))?;
        }
        crate::crash::point("after the directory was made");
        let volumes: Vec<String> = image.config.config.volumes.keys().cloned().collect();
        let Resolved { points: mounts, made } = self.volumes.resolve(&spec, &volumes)?;
        let container = Container {
            id: id.clone(),
            name: name.to_owned(),
            created: SystemTime::now(),
            spec: Arc::new(spec),
            asked: Arc::new(asked),
            image_id: image.id.to_string(),
            mounts,
            state: State::default(),
            kept: Kept::default(),
            restart_count: 0,
            stopped_by_user: false,
        };
        for volume in &made {
            self.events.volume("create", volume);
        }
        self.store.put_container(&container)?;
        self.containers.insert(container.clone());
        self.tell_called(&container);
        self.events.container("create", &container, &[]);
        Ok(Created { id: id.clone(), warnings })
    }
}
