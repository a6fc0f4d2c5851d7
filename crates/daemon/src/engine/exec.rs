//! More processes in a running container. An exec is remembered as long as its container and the engine live.

use super::{Engine, naming};
use crate::container::Phase;
use crate::error::{Doing, Error, Result};
use crate::{oci, users};
use plan::ids::ContainerId;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::UnixStream;

/// What to run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecSpec {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// `NAME=value`, in addition to the container's.
    pub env: Vec<String>,
    /// `None`: the container's.
    pub workdir: Option<String>,
    /// `None`: the container's.
    pub user: Option<String>,
    /// A pseudo terminal.
    pub tty: bool,
    /// Feed it.
    pub stdin: bool,
    /// Show its output.
    pub stdout: bool,
    /// Show its errors.
    pub stderr: bool,
    /// With all rights.
    pub privileged: bool,
    /// The keys that leave it running, as typed; empty: the default.
    pub detach_keys: String,
}

/// An exec as it stands.
#[derive(Clone, Debug)]
pub struct ExecView {
    /// Its id.
    pub id: String,
    /// In which container.
    pub container: ContainerId,
    /// It runs.
    pub running: bool,
    /// How it ended.
    pub exit_code: Option<i32>,
    /// Its process in the engine's pid namespace; 0 unless it ran.
    pub pid: i32,
    /// What it runs.
    pub spec: ExecSpec,
    started: bool,
}

/// All of them.
#[derive(Default)]
pub struct Execs(Mutex<BTreeMap<String, ExecView>>);

impl Execs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ExecView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: &str) -> Result<ExecView> {
        self.lock().get(id).cloned().ok_or_else(|| Error::NotFound(format!("No such exec instance: {id}")))
    }

    fn change(&self, id: &str, how: impl FnOnce(&mut ExecView)) {
        if let Some(view) = self.lock().get_mut(id) {
            how(view);
        }
    }

    /// Its processes ended with the container's.
    pub(super) fn container_ended(&self, container: &ContainerId) {
        for view in self.lock().values_mut().filter(|view| &view.container == container && view.running) {
            view.running = false;
            view.exit_code.get_or_insert(137);
        }
    }

    /// Nobody can ask for them any more.
    pub(super) fn container_removed(&self, container: &ContainerId) {
        self.lock().retain(|_, view| &view.container != container);
    }

    /// The execs that run in a container.
    pub fn running_in(&self, container: &ContainerId) -> Vec<String> {
        self.lock().values().filter(|v| &v.container == container && v.running).map(|v| v.id.clone()).collect()
    }
}

impl Engine {
    /// Records what to run.
    ///
    /// # Errors
    /// The container does not run, or there is no command.
    pub fn exec_create(&self, reference: &str, spec: ExecSpec) -> Result<String> {
        let container = self.running(reference)?;
        if container.state.phase == Phase::Paused {
            return Err(Error::Conflict(format!("Container {reference} is paused, unpause the container before exec")));
        }
        if spec.argv.is_empty() || spec.argv[0].is_empty() {
            return Err(Error::Invalid("No exec command specified".into()));
        }
        let id = naming::id()?;
        let attributes = [("execID", id.as_str())];
        self.events.container(&format!("exec_create: {}", spec.argv.join(" ")), &container, &attributes);
        let view = ExecView {
            id: id.clone(),
            container: container.id.clone(),
            running: false,
            exit_code: None,
            pid: 0,
            spec,
            started: false,
        };
        self.execs.lock().insert(id.clone(), view);
        Ok(id)
    }

    /// Runs it. Unless `detach`, its streams: see [`shim::Request::Attach`] for what goes over them.
    ///
    /// # Errors
    /// It ran before; the container does not run any more; the command cannot be run, and then its exit code is set.
    pub async fn exec_start(
        self: &Arc<Self>,
        id: &str,
        detach: bool,
        size: Option<(u16, u16)>,
    ) -> Result<Option<UnixStream>> {
        let view = self.execs.get(id)?;
        if view.started {
            return Err(Error::Conflict(format!("Error: Exec command {id} has already run")));
        }
        let container = self.running(view.container.as_str())?;
        if container.state.phase == Phase::Paused {
            return Err(Error::Conflict(format!(
                "Container {} is paused, unpause the container before exec",
                container.id.as_str()
            )));
        }
        self.execs.change(id, |view| view.started = true);
        let spec = view.spec;
        let user = match &spec.user {
            Some(user) if !user.is_empty() => user.clone(),
            _ => container.spec.user.clone(),
        };
        let root = format!("/proc/{}/root", container.state.pid);
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let root = rustix::fs::open(&root, flags, rustix::fs::Mode::empty()).doing(format_args!("open {root}"))?;
        let user = users::resolve(root.as_fd(), &user, &container.spec.group_add)?;
        let process = oci::Program {
            spec: &container.spec,
            user: &user,
            argv: spec.argv.clone(),
            env: &spec.env,
            link_env: &self.link_variables(&container),
            hostname: &self.host_name_of(&container),
            workdir: spec.workdir.as_deref(),
            tty: spec.tty,
            privileged: spec.privileged,
            host: &self.rights,
        };
        let process = process.to_oci()?;
        let shim = self.shim(&container.id);
        let stdin = spec.stdin && !detach;
        let stream = if detach {
            None
        } else {
            // Before the exec itself, so that nothing of its output is lost.
            Some(shim.attach(Some(id.to_owned()), stdin, spec.stdout, spec.stderr).await?)
        };
        let attributes = [("execID", id)];
        let (pid, end) = match shim.exec(id.to_owned(), process, spec.tty, stdin).await {
            Ok(started) => started,
            Err(error) => {
                let code = super::start::exit_code_of(&error.to_string());
                self.execs.change(id, |view| view.exit_code = Some(code));
                return Err(Error::Invalid(format!("OCI runtime exec failed: {error}")));
            }
        };
        if let (Some((rows, cols)), true) = (size, spec.tty) {
            // It may have ended already, and then there is nothing to size.
            let _ = shim.resize(Some(id.to_owned()), rows, cols).await;
        }
        self.execs.change(id, |view| {
            view.pid = pid;
            view.running = true;
        });
        self.events.container(&format!("exec_start: {}", spec.argv.join(" ")), &container, &attributes);
        let engine = self.clone();
        let id = id.to_owned();
        tokio::spawn(async move {
            let code = end.wait().await.unwrap_or(137);
            engine.execs.change(&id, |view| {
                view.running = false;
                view.exit_code = Some(code);
            });
            let attributes = [("execID", id.as_str()), ("exitCode", &code.to_string())];
            engine.events.container("exec_die", &container, &attributes);
        });
        Ok(stream)
    }

    /// Sets the size of an exec's terminal.
    ///
    /// # Errors
    /// It does not run, or has no terminal.
    pub async fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> {
        let view = self.execs.get(id)?;
        self.shim(&view.container).resize(Some(id.to_owned()), rows, cols).await
    }

    /// An exec as it stands.
    ///
    /// # Errors
    /// `No such exec instance: X`
    pub fn exec_inspect(&self, id: &str) -> Result<ExecView> {
        self.execs.get(id)
    }

    /// The execs that run in a container, for `inspect`.
    pub fn execs_of(&self, container: &ContainerId) -> Vec<String> {
        self.execs.running_in(container)
    }
}
