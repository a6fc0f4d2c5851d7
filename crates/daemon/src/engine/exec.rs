//! More processes in a running container. An exec is remembered while it runs and for some minutes more, as long as its
//! container and the engine live.

use super::{Engine, naming};
use crate::container::{Container, Phase};
use crate::error::{Doing, Error, Result};
use crate::supervise::ExecEnd;
use crate::{oci, users};
use plan::ids::ContainerId;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// How long clients may ask for the exit code of one that has ended: who runs one a second for a year must not fill memory.
const REMEMBERED: Duration = Duration::from_secs(600);

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
    ended: Option<Instant>,
}

impl ExecView {
    fn end(&mut self, code: i32) {
        self.running = false;
        self.exit_code = Some(code);
        self.ended = Some(Instant::now());
    }

    fn is_old(&self) -> bool {
        self.ended.is_some_and(|ended| ended.elapsed() > REMEMBERED)
    }
}

/// All of them.
#[derive(Default)]
pub struct Execs(Mutex<BTreeMap<String, ExecView>>);

impl Execs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ExecView>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, view: ExecView) {
        let mut all = self.lock();
        all.retain(|_, view| !view.is_old());
        all.insert(view.id.clone(), view);
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
            let code = view.exit_code.unwrap_or(137);
            view.end(code);
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
        self.exec_record(&container, spec)
    }

    /// Remembers what will be run; its id.
    pub(super) fn exec_record(&self, container: &Container, spec: ExecSpec) -> Result<String> {
        let id = naming::id()?;
        let attributes = [("execID", id.as_str())];
        self.events.container(&format!("exec_create: {}", spec.argv.join(" ")), container, &attributes);
        let view = ExecView {
            id: id.clone(),
            container: container.id.clone(),
            running: false,
            exit_code: None,
            pid: 0,
            spec,
            started: false,
            ended: None,
        };
        self.execs.add(view);
        Ok(id)
    }

    /// Runs it. Unless `detach`, its streams, for what goes over them see [`shim::Request::Attach`], and a task that ends
    /// when its exit code is recorded.
    ///
    /// # Errors
    /// It ran before; the container does not run any more; the command cannot be run, and then its exit code is set.
    pub async fn exec_start(
        self: &Arc<Self>,
        id: &str,
        detach: bool,
        size: Option<(u16, u16)>,
    ) -> Result<Option<(UnixStream, JoinHandle<()>)>> {
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
        let (stream, mut end) = match self.exec_launch(&container, id, id, &spec, !detach).await {
            Ok(launched) => launched,
            Err(error) => {
                let code = super::start::exit_code_of(&error.to_string());
                self.execs.change(id, |view| view.end(code));
                return Err(error);
            }
        };
        if let (Some((rows, cols)), true) = (size, spec.tty) {
            // It may have ended already, and then there is nothing to size.
            let _ = self.shim(&container.id).resize(Some(id.to_owned()), rows, cols).await;
        }
        let engine = self.clone();
        let id = id.to_owned();
        let recorded = tokio::spawn(async move {
            let code = end.wait().await.unwrap_or(137);
            engine.exec_ended(&container, &id, code);
        });
        Ok(stream.map(|stream| (stream, recorded)))
    }

    /// Has the shim run it, under a name of the shim's own; with streams if somebody listens, and where its end will be told.
    pub(super) async fn exec_launch(
        &self,
        container: &Container,
        id: &str,
        name: &str,
        spec: &ExecSpec,
        attached: bool,
    ) -> Result<(Option<UnixStream>, ExecEnd)> {
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
            link_env: &self.link_variables(container, &self.told_addrs(container)),
            hostname: &self.host_name_of(container),
            workdir: spec.workdir.as_deref(),
            tty: spec.tty,
            privileged: spec.privileged,
            host: &self.rights,
        };
        let process = process.to_oci()?;
        let shim = self.shim(&container.id);
        let stdin = spec.stdin && attached;
        let stream = if attached {
            // Before the exec itself, so that nothing of its output is lost.
            Some(shim.attach(Some(name.to_owned()), stdin, spec.stdout, spec.stderr).await?)
        } else {
            None
        };
        let (pid, end) = shim
            .exec(name.to_owned(), process, spec.tty, stdin)
            .await
            .map_err(|error| Error::Invalid(format!("OCI runtime exec failed: {error}")))?;
        self.execs.change(id, |view| {
            view.pid = pid;
            view.running = true;
        });
        self.events.container(&format!("exec_start: {}", spec.argv.join(" ")), container, &[("execID", id)]);
        Ok((stream, end))
    }

    /// Records how it ended.
    pub(super) fn exec_ended(&self, container: &Container, id: &str, code: i32) {
        self.execs.change(id, |view| view.end(code));
        let attributes = [("execID", id), ("exitCode", &code.to_string())];
        self.events.container("exec_die", container, &attributes);
    }

    /// Nobody will ask for it.
    pub(super) fn exec_forget(&self, id: &str) {
        self.execs.lock().remove(id);
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
