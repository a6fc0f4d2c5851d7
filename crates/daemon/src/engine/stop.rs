use super::Engine;
use crate::container::spec::{Resources, Restart};
use crate::container::{Container, Phase};
use crate::engine::registry::{Cell, Early, Stage};
use crate::error::{Doing, Error, Result};
use crate::oci;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

/// SIGKILL
const KILL: i32 = 9;
/// Seconds between the polite signal and the other.
const PATIENCE: i64 = 10;

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// It does not run (any more).
    NotRunning,
    /// It ends once more from now.
    NextExit,
    /// It is gone.
    Removed,
}

/// What `wait` answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub code: i64,
    /// Why there is none.
    pub error: Option<String>,
}

/// What `update` changes; `None` leaves a thing as it is.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Limits: those that are given replace.
    pub resources: Resources,
    /// The restart policy.
    pub restart: Option<Restart>,
}

/// A container's streams.
pub enum Attached {
    /// Here they are.
    Now(UnixStream),
    /// It has not been started yet.
    AtStart(oneshot::Receiver<UnixStream>),
}

impl Attached {
    /// The streams, once there are any; `None`: the start failed, or there will be none.
    pub async fn streams(self) -> Option<UnixStream> {
        match self {
            Attached::Now(streams) => Some(streams),
            Attached::AtStart(promise) => promise.await.ok(),
        }
    }
}

impl Engine {
    /// Asks a container to stop, and makes it after `timeout` seconds (below 0: never).
    ///
    /// # Errors
    /// [`Error::NotModified`] if it does not run.
    pub async fn stop(self: &Arc<Self>, reference: &str, timeout: Option<i64>, signal: Option<i32>) -> Result<()> {
        let cell = self.find(reference)?;
        let container = cell.change(|container| container.stopped_by_user = true);
        if cell.give_up() {
            // It is not started after all; the start itself says so to whoever asked for it.
            drop(cell.gate.lock().await);
            return Ok(());
        }
        if container.state.phase == Phase::Restarting {
            cell.hurry.notify_waiters();
            let _gate = cell.seize().await;
            if cell.phase() == Phase::Restarting {
                self.give_up_restart(&cell).await;
            }
            return Ok(());
        }
        self.stop_cell(&cell, timeout, signal).await?;
        self.events.container("stop", &cell.snapshot(), &[]);
        Ok(())
    }

    async fn stop_cell(&self, cell: &Arc<Cell>, timeout: Option<i64>, signal: Option<i32>) -> Result<()> {
        let container = cell.snapshot();
        let mut stages = cell.stages();
        let before = *stages.borrow_and_update();
        if !container.state.phase.is_alive() {
            return Err(Error::NotModified);
        }
        let signal = signal.unwrap_or(container.spec.stop_signal);
        let patience = timeout.or(container.spec.stop_timeout).unwrap_or(PATIENCE);
        self.signal(&container, signal).await?;
        let ended = has_ended(&mut stages, before);
        if patience < 0 {
            return ended.await;
        }
        let patience = Duration::from_secs(patience.unsigned_abs());
        if let Ok(ended) = tokio::time::timeout(patience, ended).await {
            return ended;
        }
        self.signal(&container, KILL).await?;
        has_ended(&mut stages, before).await
    }

    /// Sends a signal, thawing a frozen container first where the signal could not arrive otherwise.
    async fn signal(&self, container: &Container, signal: i32) -> Result<()> {
        self.events.container("kill", container, &[("signal", &signal.to_string())]);
        self.shim(&container.id).kill(signal).await.or_else(|error| {
            // It ended between the look and the signal.
            if self.find(container.id.as_str()).is_ok_and(|cell| cell.phase().is_alive()) { Err(error) } else { Ok(()) }
        })?;
        // As it is now: an earlier signal may have thawed it.
        if let Some(cell) = self.containers.get(&container.id).filter(|cell| cell.phase() == Phase::Paused) {
            // Nobody freezes it again while it ends.
            self.thawed(&container.id);
            self.runtime_verb(container, "resume").await?;
            cell.change(|container| {
                if container.state.phase == Phase::Paused {
                    container.state.phase = Phase::Running;
                }
            });
            cell.announce(|stage| stage.frozen = false);
        }
        Ok(())
    }

    /// Stops it if it runs, and starts it; its sandbox stays, and with it its addresses and whoever joined it.
    ///
    /// # Errors
    /// As `stop` and `start`.
    pub async fn restart(self: &Arc<Self>, reference: &str, timeout: Option<i64>, signal: Option<i32>) -> Result<()> {
        let cell = self.find(reference)?;
        let keep = cell.snapshot().kept.sandbox.clone();
        let hold = keep.map(|sandbox| self.hold(sandbox));
        cell.change(|container| container.stopped_by_user = true);
        match self.stop_cell(&cell, timeout, signal).await {
            Ok(()) | Err(Error::NotModified) => {}
            Err(error) => return Err(error),
        }
        let gate = cell.seize().await;
        cell.wanted();
        cell.change(|container| container.stopped_by_user = false);
        let started = self.start_gated(&cell).await;
        drop(hold);
        if started.is_err() {
            self.release_sandbox(&cell.snapshot()).await;
        }
        drop(gate);
        started?;
        self.events.container("restart", &cell.snapshot(), &[]);
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(&self, reference: &str, signal: i32) -> Result<()> {
        let cell = self.find(reference)?;
        let container = cell.snapshot();
        if !container.state.phase.is_alive() {
            if cell.give_up() {
                drop(cell.gate.lock().await);
                return Ok(());
            }
            return Err(Error::Conflict(format!(
                "cannot kill container: {reference}: container {} is not running",
                container.id.as_str()
            )));
        }
        if signal == KILL || signal == container.spec.stop_signal {
            cell.change(|container| container.stopped_by_user = true);
        }
        let mut stages = cell.stages();
        let before = *stages.borrow_and_update();
        self.signal(&container, signal).await?;
        if signal == KILL {
            // Docker answers when it is gone, or after its patience.
            let _ = tokio::time::timeout(Duration::from_secs(10), has_ended(&mut stages, before)).await;
        }
        Ok(())
    }

    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// It does not run, or is frozen already.
    pub async fn pause(&self, reference: &str) -> Result<()> {
        let cell = self.find(reference)?;
        let _gate = cell.enter().await?;
        let container = cell.snapshot();
        match container.state.phase {
            Phase::Running => {}
            Phase::Paused => {
                return Err(Error::Conflict(format!("Container {} is already paused", container.id.as_str())));
            }
            _ => return Err(Error::Conflict(format!("Container {} is not running", container.id.as_str()))),
        }
        self.runtime_verb(&container, "pause").await?;
        let container = cell.change(|container| {
            container.state.phase = Phase::Paused;
            if let Some(health) = &mut container.state.health {
                health.unchecked();
            }
        });
        cell.announce(|stage| {
            stage.frozen = true;
            stage.health = container.state.health.as_ref().map(|health| health.status);
        });
        self.events.container("pause", &container, &[]);
        Ok(())
    }

    /// Thaws them.
    ///
    /// # Errors
    /// It is not frozen.
    pub async fn unpause(&self, reference: &str) -> Result<()> {
        let cell = self.find(reference)?;
        let _gate = cell.enter().await?;
        let container = cell.snapshot();
        if container.state.phase != Phase::Paused {
            return Err(Error::Conflict(format!("Container {} is not paused", container.id.as_str())));
        }
        self.runtime_verb(&container, "resume").await?;
        self.thawed(&container.id);
        let container = cell.change(|container| container.state.phase = Phase::Running);
        cell.announce(|stage| stage.frozen = false);
        self.events.container("unpause", &container, &[]);
        Ok(())
    }

    async fn runtime_verb(&self, container: &Container, verb: &str) -> Result<()> {
        self.run_runtime(container, &[verb, container.id.as_str()], None).await
    }

    async fn run_runtime(&self, container: &Container, args: &[&str], input: Option<Vec<u8>>) -> Result<()> {
        use std::process::Stdio;
        use tokio::io::AsyncWriteExt;
        let (program, before) = self.runtime(container)?;
        let doing = || format!("run {} {}", program.display(), args.join(" "));
        let mut child = tokio::process::Command::new(&program)
            .args(before)
            .args(args)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .doing(doing())?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            stdin.write_all(&input).await.doing(doing())?;
        }
        let output = child.wait_with_output().await.doing(doing())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Error::Fault(format!("{}: {}", doing(), said.lines().last().unwrap_or("no word of why"))))
    }

    /// Registers a wait; the answer comes when what it waits for has happened.
    ///
    /// # Errors
    /// `No such container: X`
    pub fn wait(self: &Arc<Self>, reference: &str, until: Until) -> Result<impl Future<Output = Ended> + use<>> {
        let cell = self.find(reference)?;
        let mut stages = cell.stages();
        let before = *stages.borrow_and_update();
        Ok(async move {
            let met = |stage: &Stage| match until {
                Until::NotRunning => !stage.alive || stage.ends > before.ends || stage.removed,
                Until::NextExit => stage.ends > before.ends || stage.removed,
                Until::Removed => stage.removed,
            };
            // The sender lives in the cell that this future holds.
            let code = stages.wait_for(met).await.map_or(before.code, |stage| stage.code);
            drop(cell);
            Ended { code: i64::from(code), error: None }
        })
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// It does not run, or has no terminal.
    pub async fn resize(&self, reference: &str, rows: u16, cols: u16) -> Result<()> {
        let container = self.running(reference)?;
        self.shim(&container.id).resize(None, rows, cols).await?;
        self.events.container("resize", &container, &[("height", &rows.to_string()), ("width", &cols.to_string())]);
        Ok(())
    }

    /// Opens a container's streams; see [`shim::Request::Attach`] for what goes over them. Before the container is started
    /// this is a promise of them.
    ///
    /// # Errors
    /// It is frozen, or waits for its restart.
    pub async fn attach(&self, reference: &str, stdin: bool, stdout: bool, stderr: bool) -> Result<Attached> {
        let cell = self.find(reference)?;
        let container = cell.snapshot();
        match container.state.phase {
            Phase::Paused => Err(Error::Conflict("You cannot attach to a paused container, unpause it first".into())),
            Phase::Restarting => {
                let text = "You cannot attach to a restarting container, wait until it is running";
                Err(Error::Conflict(text.into()))
            }
            Phase::Running => {
                let stdin = stdin && container.spec.open_stdin;
                let stream = self.shim(&container.id).attach(None, stdin, stdout, stderr).await?;
                self.events.container("attach", &container, &[]);
                Ok(Attached::Now(stream))
            }
            Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => {
                let (streams, promise) = oneshot::channel();
                cell.attach_early(Early { stdin, stdout, stderr, streams });
                self.events.container("attach", &container, &[]);
                Ok(Attached::AtStart(promise))
            }
        }
    }

    /// Changes limits and the restart policy.
    ///
    /// # Errors
    /// What the runtime said; then nothing is recorded.
    pub async fn update(&self, reference: &str, change: Update) -> Result<Vec<String>> {
        let cell = self.find(reference)?;
        let _gate = cell.enter().await?;
        let container = cell.snapshot();
        if matches!(container.state.phase, Phase::Removing | Phase::Dead) {
            return Err(Error::Conflict(format!(
                "Cannot update container {}: Container is marked for removal and cannot be \"update\".",
                container.id.as_str()
            )));
        }
        if change.restart.is_some_and(|restart| restart != Restart::No) && container.spec.auto_remove {
            return Err(Error::Invalid(format!(
                "Cannot update container {}: Restart policy cannot be updated because AutoRemove is enabled for the \
                 container",
                container.id.as_str()
            )));
        }
        let resources = container.spec.resources.patched(&change.resources);
        if container.state.phase.is_alive() {
            let (wire, _) = oci::resources(&resources, &self.rights);
            let input = serde_json::to_vec(&wire).doing("encode the limits")?;
            self.run_runtime(&container, &["update", "--resources", "-", container.id.as_str()], Some(input)).await?;
        }
        let container = cell.change(|container| {
            let spec = container.spec_mut();
            spec.resources = resources;
            if let Some(restart) = change.restart {
                spec.restart = restart;
            }
        });
        self.store.put_container(&container)?;
        self.events.container("update", &container, &[]);
        Ok(Vec::new())
    }

    pub(super) fn running(&self, reference: &str) -> Result<Arc<Container>> {
        let container = self.snapshot(reference)?;
        if container.state.phase.is_alive() {
            Ok(container)
        } else {
            Err(Error::Conflict(format!("container {} is not running", container.id.as_str())))
        }
    }

    /// Sends the signal that makes a frozen or deaf container end at once, and waits until it is cleared up.
    pub(super) async fn end_now(&self, cell: &Arc<Cell>) -> Result<()> {
        let mut stages = cell.stages();
        let before = *stages.borrow_and_update();
        let container = cell.change(|container| container.stopped_by_user = true);
        if container.state.phase.is_alive() {
            self.signal(&container, KILL).await?;
            has_ended(&mut stages, before).await?;
        }
        Ok(())
    }
}

async fn has_ended(stages: &mut watch::Receiver<Stage>, before: Stage) -> Result<()> {
    let gone = stages.wait_for(|stage| stage.ends > before.ends || stage.removed).await;
    gone.map(drop).map_err(|_| Error::Fault("the container's record is gone".into()))
}
