use super::{Keeper, Phase, Process};
use crate::client::{Role, Stream};
use shim::{Reply, Request};
use std::io;

/// What the engine asks for.
impl Keeper {
    pub(super) fn asked(&mut self, index: usize, request: Request) {
        let refuse = |message: String| Reply::Error { message };
        let answer = match request {
            Request::Created => {
                self.clients[index].role = Role::Created;
                return;
            }
            Request::Start => {
                self.clients[index].role = Role::Started;
                return;
            }
            Request::Wait => {
                self.clients[index].role = Role::Exit;
                return;
            }
            Request::Kill { signal } => {
                self.kill(signal).map_or_else(|error| refuse(error.to_string()), |()| Reply::Ok)
            }
            Request::KillExec { exec, signal } => {
                self.kill_exec(&exec, signal).map_or_else(|error| refuse(error.to_string()), |()| Reply::Ok)
            }
            Request::Resize { exec, rows, cols } => match self.process_of(exec.as_deref()) {
                Some(process) if self.processes[process].streams.tty => {
                    let resized = self.processes[process].streams.resize(rows, cols);
                    resized.map_or_else(
                        |error| refuse(format!("cannot resize to {rows} rows and {cols} columns: {error}")),
                        |()| Reply::Ok,
                    )
                }
                Some(_) => refuse("there is no terminal to resize: it runs without one".into()),
                None => refuse(format!("no exec {} runs in this container", exec.unwrap_or_default())),
            },
            Request::Attach { exec, stdin, stdout, stderr } => {
                self.clients[index].reply(&Reply::Ok);
                self.clients[index].role = Role::Stream(Stream { of: exec, stdin, wants: [stdout, stderr] });
                while self.clients[index].has_input() && self.may_read_now(index) {
                    self.input(index);
                }
                return;
            }
            Request::Exec { exec, process, tty, stdin } => match self.exec(&exec, process, tty, stdin) {
                Ok(()) => {
                    self.clients[index].role = Role::Exec(exec);
                    return;
                }
                Err(error) => {
                    self.forget_streams(&exec);
                    refuse(error.to_string())
                }
            },
        };
        self.clients[index].conclude(&answer);
    }

    pub(super) fn may_read_now(&self, index: usize) -> bool {
        matches!(&self.clients[index].role, Role::Stream(stream) if self.may_read(stream))
    }

    /// Closes the streams of an exec that is not (or no longer) there.
    pub(super) fn forget_streams(&mut self, exec: &str) {
        for client in &mut self.clients {
            if matches!(&client.role, Role::Stream(stream) if stream.of.as_deref() == Some(exec)) {
                client.role = Role::Leaving;
            }
        }
    }

    pub(super) fn kill(&mut self, signal: i32) -> io::Result<()> {
        match self.processes.first() {
            Some(first) if first.pid.is_some() => send(first, signal),
            _ if matches!(self.phase, Phase::Over(..) | Phase::Deleting(..)) => Ok(()),
            _ => Err(io::Error::other("the container is not created yet; wait for that before sending it a signal")),
        }
    }

    fn kill_exec(&self, exec: &str, signal: i32) -> io::Result<()> {
        match self.process_of(Some(exec)) {
            Some(at) if self.processes[at].pid.is_some() => send(&self.processes[at], signal),
            Some(_) => Err(io::Error::other(format!("the exec {exec} is not started yet"))),
            None => Err(io::Error::other(format!("no exec {exec} runs in this container"))),
        }
    }

    pub(super) fn kill_if_ending(&mut self) {
        if self.ending {
            // Fails only while there is nothing to kill yet; then it is tried again when there is.
            let _ = self.kill(libc::SIGKILL);
        }
    }
}

/// Sends a signal to a process, if it has not ended.
fn send(process: &Process, signal: i32) -> io::Result<()> {
    let (Some(pid), None) = (process.pid, process.ended) else { return Ok(()) };
    // Not reaped yet, so the pid cannot be another's.
    // SAFETY: kill takes two integers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => {
                Err(io::Error::new(error.kind(), format!("cannot send signal {signal} to process {pid}: {error}")))
            }
        },
    }
}
