//! Checking containers' health: one process in the container for each check, and between checks nothing but a timer.

use super::{Engine, ExecSpec};
use crate::container::Container;
use crate::container::health::{Check, Outcome, Status};
use crate::engine::registry::{Cell, Stage};
use crate::error::{Error, Result};
use crate::time;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::{error, warn};

/// The name of a check for its shim. It is one for all, so that a second check never runs beside the first, and that an
/// engine finds the check which the one before it left running.
const NAME: &str = "health";
/// How much of a check's output is remembered, in bytes; Docker's.
const OUTPUT: usize = 4096;
/// How long it may take until a check runs; that is the host's doing, and does not count as the container's.
const LAUNCH: Duration = Duration::from_secs(30);
/// How long a killed check may take to end.
const DYING: Duration = Duration::from_secs(10);
/// SIGKILL
const KILL: i32 = 9;

impl Engine {
    /// A container's health as it is now; `None`: nothing checks it, or it was never started.
    ///
    /// # Errors
    /// `No such container: X`
    pub fn health(&self, reference: &str) -> Result<Option<Status>> {
        Ok(self.snapshot(reference)?.state.health.as_ref().map(|health| health.status))
    }

    /// Waits until a container is healthy; at once if it is.
    ///
    /// # Errors
    /// It has no health check; it is unhealthy, or ends, or is removed.
    pub async fn until_healthy(&self, reference: &str) -> Result<()> {
        let cell = self.find(reference)?;
        let container = cell.snapshot();
        let name = container.name.as_str();
        if container.spec.health.is_none() {
            return Err(Error::Invalid(format!("container {name} has no healthcheck configured")));
        }
        let mut stages = cell.stages();
        let settled = |stage: &Stage| stage.removed || !stage.alive || stage.health != Some(Status::Starting);
        // The sender lives in the cell that is held here.
        let stage = stages.wait_for(settled).await.map_or_else(|_| Stage::default(), |stage| *stage);
        match stage {
            Stage { alive: false, .. } | Stage { removed: true, .. } => {
                Err(Error::Conflict(format!("container {name} exited ({})", stage.code)))
            }
            Stage { health: Some(Status::Healthy), .. } => Ok(()),
            _ => Err(Error::Conflict(format!("container {name} is unhealthy"))),
        }
    }

    /// Checks a running container's health, time after time, until it ends.
    pub(super) fn check_health(self: &Arc<Self>, cell: &Arc<Cell>) {
        let container = cell.snapshot();
        if let (Some(check), Some(up)) = (container.spec.health.clone(), container.state.started) {
            tokio::spawn(Checking { engine: self.clone(), cell: cell.clone(), check, up }.go_on());
        }
    }
}

/// The checks of one run of a container.
struct Checking {
    engine: Arc<Engine>,
    cell: Arc<Cell>,
    check: Check,
    /// When the run began.
    up: SystemTime,
}

impl Checking {
    async fn go_on(self) {
        let mut stages = self.cell.stages();
        let run = stages.borrow_and_update().ends;
        let over = |stage: &Stage| !stage.alive || stage.ends != run || stage.removed;
        // What an engine before this one was doing when it was killed.
        let _ = self.engine.shim(&self.cell.id).kill_exec(NAME, KILL).await;
        loop {
            let thawed = stages.wait_for(|stage| over(stage) || !stage.frozen).await;
            if thawed.is_ok_and(|stage| over(&stage)) {
                return;
            }
            let container = self.cell.snapshot();
            let Some(health) = &container.state.health else { return };
            let rest = health.rest(&self.check, self.up, SystemTime::now());
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                _ = stages.wait_for(|stage| over(stage) || stage.frozen) => continue,
            }
            let outcome = self.engine.check(&container, &self.check);
            let mut outcome = std::pin::pin!(outcome);
            let said = tokio::select! {
                said = &mut outcome => Some(said),
                _ = stages.wait_for(|stage| over(stage) || stage.frozen) => None,
            };
            match said {
                Some(said) => self.take(said),
                // It is not to blame for what it did not do while it was frozen.
                None => tokio::select! {
                    _ = &mut outcome => {}
                    _ = stages.wait_for(&over) => {}
                },
            }
        }
    }

    fn take(&self, outcome: Outcome) {
        let mut turned = None;
        let container = self.cell.change(|container| {
            let same_run = container.state.started == Some(self.up) && container.state.phase.is_alive();
            let Some(health) = container.state.health.as_mut().filter(|_| same_run) else { return };
            let before = health.status;
            health.take(&self.check, outcome, self.up);
            turned = Some(health.status).filter(|status| *status != before);
        });
        let Some(health) = &container.state.health else { return };
        if let Err(error) = self.engine.store.put_health(&container.id, health) {
            error!(container = %container.name, %error, "its health could not be recorded");
        }
        if let Some(status) = turned {
            self.cell.announce(|stage| stage.health = Some(status));
            self.engine.events.container(&format!("health_status: {}", status.word()), &container, &[]);
        }
    }
}

impl Engine {
    async fn check(&self, container: &Container, check: &Check) -> Outcome {
        let started = SystemTime::now();
        let spec = ExecSpec { argv: check.argv.clone(), stdout: true, stderr: true, ..ExecSpec::default() };
        let said = match self.exec_record(container, spec.clone()) {
            Ok(id) => {
                // Forgotten also when this future is dropped, because the container ends.
                let _forgotten = Forgotten { engine: self, id: &id };
                self.checked(container, check, &id, &spec).await
            }
            Err(error) => Err(error),
        };
        let (exit_code, output) = said.unwrap_or_else(|error| (-1, error.to_string()));
        Outcome { started, ended: SystemTime::now(), exit_code, output }
    }

    async fn checked(&self, container: &Container, check: &Check, id: &str, spec: &ExecSpec) -> Result<(i32, String)> {
        let launched = tokio::time::timeout(LAUNCH, self.exec_launch(container, id, NAME, spec, true));
        let (stream, mut end) = launched.await.map_err(|_| {
            Error::Fault(format!("timed out starting health check for container {}", container.id.as_str()))
        })??;
        let mut output = Output::default();
        let ended = async {
            if let Some(stream) = stream {
                output.read(stream).await;
            }
            end.wait().await
        };
        let limit = check.timeout();
        let ended = tokio::time::timeout(limit, ended).await;
        match ended {
            Ok(code) => {
                let code = code.unwrap_or(137);
                self.exec_ended(container, id, code);
                Ok((code, output.text()))
            }
            Err(_) => {
                warn!(container = %container.name, "a health check took longer than {}", time::go_duration(limit));
                // It may have ended by itself in this moment.
                let _ = self.shim(&container.id).kill_exec(NAME, KILL).await;
                // Checks that will not die must not pile up.
                let code = tokio::time::timeout(DYING, end.wait()).await.ok().flatten().unwrap_or(137);
                self.exec_ended(container, id, code);
                let said = output.text();
                let colon = if said.is_empty() { "" } else { ": " };
                Ok((-1, format!("Health check exceeded timeout ({}){colon}{said}", time::go_duration(limit))))
            }
        }
    }
}

struct Forgotten<'a> {
    engine: &'a Engine,
    id: &'a str,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        self.engine.exec_forget(self.id);
    }
}

/// The beginning of what a check printed.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    cut: bool,
}

impl Output {
    /// Takes the frames of both streams until they end; what is too much is thrown away, so that the check is not held up.
    async fn read(&mut self, mut stream: impl AsyncRead + Unpin) {
        let mut header = [0; 8];
        let mut block = vec![0; OUTPUT];
        while stream.read_exact(&mut header).await.is_ok() {
            let [.., a, b, c, d] = header;
            let mut left = u32::from_be_bytes([a, b, c, d]) as usize;
            while left > 0 {
                let most = left.min(block.len());
                match stream.read(&mut block[..most]).await {
                    Ok(got @ 1..) => {
                        left -= got;
                        self.take(&block[..got]);
                    }
                    _ => return,
                }
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = OUTPUT - self.bytes.len();
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.cut {
            text.push_str("...");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_beginning_of_both_streams_is_kept() {
        let frame = |stream: u8, text: &[u8]| [&shim::frame_header(stream, text.len() as u32)[..], text].concat();
        let mut output = Output::default();
        output.read(&[frame(1, b"one\n"), frame(2, b"bad\xff\n"), frame(1, b"")].concat()[..]).await;
        assert_eq!(output.text(), "one\nbad\u{fffd}\n");
        let mut output = Output::default();
        output.read(&[frame(1, &[b'x'; 5000]), frame(1, &[b'y'; 5000])].concat()[..]).await;
        assert_eq!(output.text(), format!("{}...", "x".repeat(4096)));
        let mut output = Output::default();
        output.read(&frame(1, b"torn")[..10]).await;
        assert_eq!(output.text(), "to");
    }
}
