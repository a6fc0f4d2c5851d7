use super::{DELETE, DRAIN, Ended, Keeper, Phase, Process};
use crate::client::Role;
use crate::oci::{self, Job, Task};
use crate::stdio::Streams;
use crate::{oom, stamp};
use shim::Reply;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Instant;

/// Runs of the OCI runtime: what starts them, and what their ends mean.
impl Keeper {
    pub(super) fn create(&mut self) -> io::Result<()> {
        let log = self.bundle.join("runtime.json");
        let mut command = oci::command(&self.config, &log);
        command.arg("create");
        oci::option(&mut command, "--bundle", &self.bundle);
        oci::option(&mut command, "--pid-file", self.bundle.join("init.pid"));
        let _ = fs::remove_file(self.bundle.join("init.pid"));
        let streams = self.streams(&mut command, self.config.tty, self.config.stdin, "tty")?;
        command.arg(&self.config.id);
        let errors = streams.tty.then(|| self.bundle.join("tty.err"));
        let process = Process { name: None, streams, pid: None, ended: None, until: None, files: "tty".into() };
        self.processes.push(process);
        self.jobs.push(oci::start(command, Task::Create, log, errors.as_deref())?);
        Ok(())
    }

    pub(super) fn streams(
        &self,
        command: &mut std::process::Command,
        tty: bool,
        stdin: bool,
        files: &str,
    ) -> io::Result<Streams> {
        if !tty {
            return Streams::pipes(stdin, command);
        }
        let path = std::path::PathBuf::from(format!("{files}.sock"));
        oci::option(command, "--console-socket", &path);
        Streams::terminal(stdin, path.clone())
            .map_err(|error| io::Error::new(error.kind(), format!("console socket {}: {error}", path.display())))
    }

    pub(super) fn start(&mut self) -> io::Result<()> {
        let log = self.bundle.join("runtime.json");
        let mut command = oci::command(&self.config, &log);
        command.arg("start").arg(&self.config.id);
        self.jobs.push(oci::start(command, Task::Start, log, Some(&self.bundle.join("start.err")))?);
        Ok(())
    }

    pub(super) fn delete(&mut self, why: Option<String>) {
        let log = self.bundle.join("runtime.json");
        let mut command = oci::command(&self.config, &log);
        command.args(["delete", "--force"]).arg(&self.config.id);
        self.phase = Phase::Deleting(why, Instant::now() + DELETE);
        match oci::start(command, Task::Delete, log, Some(&self.bundle.join("delete.err"))) {
            Ok(job) => self.jobs.push(job),
            Err(_) => self.deleted(),
        }
    }

    pub(super) fn exec(&mut self, name: &str, mut spec: serde_json::Value, tty: bool, stdin: bool) -> io::Result<()> {
        if self.phase != Phase::Running {
            return Err(io::Error::other("the container is not running"));
        }
        if self.process_of(Some(name)).is_some() {
            return Err(io::Error::other(format!("an exec {name} runs already")));
        }
        // The runtime refuses a terminal without a console socket and the other way round.
        spec["terminal"] = tty.into();
        self.execs += 1;
        let files = format!("e{}", self.execs);
        let file = |ending: &str| self.bundle.join(format!("{files}.{ending}"));
        fs::write(file("json"), serde_json::to_vec(&spec)?)?;
        let log = file("log");
        let mut command = oci::command(&self.config, &log);
        command.args(["exec", "--detach"]);
        oci::option(&mut command, "--process", file("json"));
        oci::option(&mut command, "--pid-file", file("pid"));
        let started = self.streams(&mut command, tty, stdin, &files).and_then(|streams| {
            command.arg(&self.config.id);
            let errors = tty.then(|| file("err"));
            oci::start(command, Task::Exec(name.to_owned()), log, errors.as_deref()).map(|job| (streams, job))
        });
        match started {
            Ok((streams, job)) => {
                self.jobs.push(job);
                self.processes.push(Process {
                    name: Some(name.to_owned()),
                    streams,
                    pid: None,
                    ended: None,
                    until: None,
                    files,
                });
                Ok(())
            }
            Err(error) => {
                clean(&self.bundle, &files);
                Err(error)
            }
        }
    }

    /// Collects ended children. Runs of the runtime come first: they tell which pid is which.
    pub(super) fn reap(&mut self) {
        let mut runs = Vec::new();
        loop {
            let mut status = 0;
            // SAFETY: `status` is a live integer; the call does not wait.
            let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
            if pid <= 0 {
                break;
            }
            let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
            let ended = Ended { code, at: stamp::now() };
            match self.jobs.iter().position(|job| job.pid == pid) {
                Some(job) => runs.push((self.jobs.swap_remove(job), code)),
                None => self.strays.push((pid, ended)),
            }
        }
        for (job, code) in runs {
            self.ran(&job, code);
        }
        for process in &mut self.processes {
            if let (Some(pid), None) = (process.pid, process.ended)
                && let Some(at) = self.strays.iter().position(|(stray, _)| *stray == pid)
            {
                let (_, ended) = self.strays.swap_remove(at);
                process.ended = Some(ended);
                process.until = Some(Instant::now() + DRAIN);
            }
        }
        if self.jobs.is_empty() {
            self.strays.clear();
        }
    }

    /// A run of the runtime has ended.
    pub(super) fn ran(&mut self, job: &Job, code: i32) {
        match &job.task {
            Task::Create => match self.taken_over(0, &self.bundle.join("init.pid"), job, code, "tty") {
                Ok(pid) => {
                    self.oom = oom::counter(pid);
                    self.phase = Phase::Created;
                    self.kill_if_ending();
                }
                Err(message) => self.not_created(message),
            },
            Task::Exec(name) => {
                let Some(at) = self.process_of(Some(name)) else { return };
                let files = self.processes[at].files.clone();
                let taken = self.taken_over(at, &self.bundle.join(format!("{files}.pid")), job, code, &files);
                clean(&self.bundle, &files);
                let reply = match taken {
                    Ok(pid) => Reply::Pid { pid },
                    Err(message) => Reply::Error { message },
                };
                let failed = matches!(reply, Reply::Error { .. });
                for client in &mut self.clients {
                    if matches!(&client.role, Role::Exec(of) if of == name) {
                        client.reply(&reply);
                        if failed {
                            client.role = Role::Leaving;
                        }
                    }
                }
                if failed {
                    self.processes.remove(at);
                    self.forget_streams(name);
                }
            }
            Task::Start => {
                let reply = if code == 0 {
                    if self.phase == Phase::Created {
                        self.phase = Phase::Running;
                    }
                    Reply::Ok
                } else {
                    let file = self.bundle.join("start.err");
                    Reply::Error { message: job.complaint(|| fs::read(file).unwrap_or_default(), code) }
                };
                self.tell(&Role::Started, &reply);
            }
            Task::Delete => self.deleted(),
        }
    }

    /// Takes a process over from the runtime that made it: its terminal, its pid. Else the runtime's complaint.
    pub(super) fn taken_over(
        &mut self,
        at: usize,
        pid_file: &Path,
        job: &Job,
        code: i32,
        files: &str,
    ) -> Result<i32, String> {
        let bundle = &self.bundle;
        let process = &mut self.processes[at];
        if code != 0 {
            let words = || match process.streams.tty {
                true => fs::read(bundle.join(format!("{files}.err"))).unwrap_or_default(),
                false => process.streams.last_words(),
            };
            return Err(job.complaint(words, code));
        }
        // Twice: the connection, and what came over it.
        for _ in 0..2 {
            process.streams.receive_console().map_err(|error| format!("receiving the terminal: {error}"))?;
        }
        let pid = oci::pid_in(pid_file).map_err(|error| format!("the OCI runtime told no pid: {error}"))?;
        process.pid = Some(pid);
        process.streams.open = true;
        process.streams.pour();
        Ok(pid)
    }
}

/// Removes the files of one exec.
fn clean(bundle: &Path, files: &str) {
    for ending in ["json", "pid", "log", "sock", "err"] {
        let _ = fs::remove_file(bundle.join(format!("{files}.{ending}")));
    }
}
