/// What the engine asks for.
mod requests;
/// Runs of the OCI runtime.
mod runs;
/// Output and input.
mod streams;

use crate::client::{Client, Role};
use crate::jsonfile::JsonFile;
use crate::oci::{Job, Task};
use crate::oom;
use crate::setup::{House, Signals};
use crate::stdio::Streams;
use shim::{Config, Exit, Reply};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long output is still waited for after a process has ended while others hold its pipes.
const DRAIN: Duration = Duration::from_secs(1);
/// How long `runtime delete` may take before the container is given up for ended all the same.
const DELETE: Duration = Duration::from_secs(30);
/// How long clients may take to fetch the end of it.
const LINGER: Duration = Duration::from_secs(5);
/// What may be queued for a client beyond its limit once the process has ended: a pipe holds at most this much
/// (`/proc/sys/fs/pipe-max-size`), and with nobody left to write to it there is nobody to slow down.
const PIPE: usize = 1024 * 1024;
/// How many may be connected at once; the next ones wait in the socket's backlog.
const CROWD: usize = 256;
/// One read of output, and so the longest frame.
const CHUNK: usize = 16 * 1024;

/// Everything a shim knows.
pub struct Keeper {
    bundle: PathBuf,
    config: Config,
    listener: UnixListener,
    signals: Signals,
    log: Option<JsonFile>,
    phase: Phase,
    /// The container's first process, and after it the execs.
    processes: Vec<Process>,
    clients: Vec<Client>,
    jobs: Vec<Job>,
    /// Ended children that are not known yet: an exec may end before the runtime has told its pid.
    strays: Vec<(i32, Ended)>,
    oom: Option<PathBuf>,
    oom_killed: bool,
    /// SIGTERM came.
    ending: bool,
    /// Somebody was told why the container could not be created.
    failure_told: bool,
    /// What clients had still to fetch when last looked at.
    owed: usize,
    /// Execs so far.
    execs: u64,
    chunk: Vec<u8>,
}

/// Where the container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// `runtime create` runs.
    Creating,
    /// Its namespaces are made and its program waits for the start, which may never come.
    Created,
    /// `runtime start` has succeeded.
    Running,
    /// It has ended; its output is being collected until this moment at the latest.
    Draining(Instant),
    /// `runtime delete` runs. The message is why it could not be created.
    Deleting(Option<String>, Instant),
    /// Over. Connected clients may fetch the rest until this moment; the message is why it could not be created.
    Over(Result<Exit, String>, Instant),
}

/// One process of the container that was asked for.
struct Process {
    /// The exec's name; `None` is the container's first process.
    name: Option<String>,
    streams: Streams,
    pid: Option<i32>,
    ended: Option<Ended>,
    /// When its output is no longer waited for.
    until: Option<Instant>,
    /// The beginning of the names of its files in the bundle.
    files: String,
}

#[derive(Clone, Copy)]
struct Ended {
    code: i32,
    at: u64,
}

/// What a polled descriptor belongs to.
enum Source {
    Signals,
    Listener,
    Console(usize),
    Output(usize, u8),
    Input(usize),
    Client(usize),
}

impl Keeper {
    /// Opens the log.
    pub fn new(house: House) -> Keeper {
        // Without its log file a container is still better kept than lost; the engine checks the path before.
        let log = house.config.log.clone().and_then(|config| JsonFile::open(config).ok());
        Keeper {
            bundle: house.bundle,
            config: house.config,
            listener: house.listener,
            signals: house.signals,
            log,
            phase: Phase::Creating,
            processes: Vec::new(),
            clients: Vec::new(),
            jobs: Vec::new(),
            strays: Vec::new(),
            oom: None,
            oom_killed: false,
            ending: false,
            failure_told: false,
            owed: 0,
            execs: 0,
            chunk: vec![0; CHUNK],
        }
    }

    /// Creates the container and keeps it until it is over.
    pub fn run(mut self) -> io::Result<()> {
        if let Err(error) = self.create() {
            self.not_created(error.to_string());
        }
        loop {
            let ready = self.wait()?;
            for (source, events) in ready {
                self.happened(source, events);
            }
            self.follow_up();
            if self.finished() {
                return Ok(());
            }
        }
    }

    // ---- what wakes the shim ----

    /// Sleeps until something happens.
    fn wait(&self) -> io::Result<Vec<(Source, i16)>> {
        let mut fds = Vec::new();
        let mut sources = Vec::new();
        let mut watch = |fd: i32, events: i16, source: Source| {
            fds.push(libc::pollfd { fd, events, revents: 0 });
            sources.push(source);
        };
        for (index, process) in self.processes.iter().enumerate() {
            if let Some(fd) = process.streams.console() {
                watch(fd, libc::POLLIN, Source::Console(index));
            }
            for stream in [1, 2] {
                if let Some(fd) = process.streams.source(stream)
                    && self.has_room(process, stream)
                {
                    watch(fd.as_raw_fd(), libc::POLLIN, Source::Output(index, stream));
                }
            }
            if let Some(fd) = process.streams.thirsty().filter(|_| process.streams.open) {
                watch(fd, libc::POLLOUT, Source::Input(index));
            }
        }
        for (index, client) in self.clients.iter().enumerate() {
            let reads = match &client.role {
                Role::Asking => true,
                Role::Stream(stream) => self.may_read(stream),
                _ => false,
            };
            let writes = client.backlog() > 0;
            // A hang-up is reported whether asked for or not; once known it would only keep the loop spinning.
            if reads || writes || !client.hung_up {
                let events = if reads { libc::POLLIN } else { 0 } | if writes { libc::POLLOUT } else { 0 };
                watch(client.as_raw_fd(), events, Source::Client(index));
            }
        }
        if self.clients.len() < CROWD {
            watch(self.listener.as_raw_fd(), libc::POLLIN, Source::Listener);
        }
        // Last: only what an ended child brings with it may remove a process and so move the places of the others.
        watch(self.signals.as_raw_fd(), libc::POLLIN, Source::Signals);
        let timeout = self.deadline().map_or(-1, |at| {
            // Rounded up, so that the deadline has passed on waking.
            at.saturating_duration_since(Instant::now()).as_millis().min(60_000) as i32 + 1
        });
        // SAFETY: `fds` is a live array of the given length.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(vec![]) } else { Err(error) };
        }
        Ok(sources
            .into_iter()
            .zip(fds)
            .filter(|(_, fd)| fd.revents != 0)
            .map(|(source, fd)| (source, fd.revents))
            .collect())
    }

    /// The next moment at which something is to be done without being woken.
    fn deadline(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Draining(at) | Phase::Deleting(_, at) | Phase::Over(_, at) => Some(*at),
            _ => None,
        };
        self.processes.iter().filter_map(|process| process.until).chain(phase).min()
    }

    fn happened(&mut self, source: Source, events: i16) {
        match source {
            Source::Signals => {
                let called = self.signals.take();
                if called.end {
                    self.ending = true;
                    self.kill_if_ending();
                }
                if called.child {
                    self.reap();
                }
            }
            Source::Listener => self.accept(),
            Source::Console(process) => {
                // What cannot be received is noticed by the runtime, which reports it.
                let _ = self.processes[process].streams.receive_console();
            }
            Source::Output(process, stream) => self.output(process, stream),
            Source::Input(process) => self.processes[process].streams.pour(),
            Source::Client(index) => self.client(index, events),
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if let Ok(client) = Client::new(socket) {
                self.clients.push(client);
            }
        }
    }

    fn client(&mut self, index: usize, events: i16) {
        if events & libc::POLLOUT != 0 {
            self.clients[index].flush();
        }
        if events & (libc::POLLHUP | libc::POLLERR) != 0 {
            self.clients[index].hung_up = true;
        }
        match self.clients[index].role {
            Role::Asking if events & (libc::POLLIN | libc::POLLHUP) != 0 => {
                if let Some(request) = self.clients[index].request() {
                    match request {
                        Ok(request) => self.asked(index, request),
                        Err(message) => self.clients[index].conclude(&Reply::Error { message }),
                    }
                }
            }
            Role::Stream(_) if events & libc::POLLIN != 0 => self.input(index),
            _ => {}
        }
    }

    // ---- what follows ----

    /// Looks at everything that can go on by itself.
    fn follow_up(&mut self) {
        let now = Instant::now();
        if self.phase == Phase::Created
            && self.clients.iter().any(|client| client.role == Role::Started)
            && !self.jobs.iter().any(|job| job.task == Task::Start)
            && let Err(error) = self.start()
        {
            self.tell(&Role::Started, &Reply::Error { message: error.to_string() });
        }
        self.execs_ended(now);
        self.first_ended(now);
        if matches!(self.phase, Phase::Deleting(_, until) if now >= until) {
            self.deleted();
        }
        self.answer();
        for client in &mut self.clients {
            if client.backlog() > 0 || client.role == Role::Leaving {
                client.flush();
            }
        }
        self.dismiss();
        let owed = self.clients.iter().map(Client::backlog).sum();
        if let Phase::Over(_, until) = &mut self.phase
            && owed < self.owed
        {
            // A slow client that goes on fetching is not cut off.
            *until = now + LINGER;
        }
        self.owed = owed;
    }

    /// Forgets clients that are gone; a lost feeder may mean the end of input.
    fn dismiss(&mut self) {
        for index in 0..self.clients.len() {
            let client = &self.clients[index];
            let done = client.hung_up
                && match &client.role {
                    // What it sent before it went is still to be used.
                    Role::Stream(stream) => !stream.stdin || self.process_of(stream.of.as_deref()).is_none(),
                    _ => true,
                };
            if client.gone || done {
                self.no_more_input(index);
                self.clients[index].gone = true;
            }
        }
        self.clients.retain(|client| !client.gone);
    }

    fn execs_ended(&mut self, now: Instant) {
        let mut at = 1;
        while at < self.processes.len() {
            let process = &self.processes[at];
            let (Some(ended), Some(name)) = (process.ended, process.name.clone()) else {
                at += 1;
                continue;
            };
            if !process.streams.silent() && process.until.is_some_and(|until| now < until) {
                at += 1;
                continue;
            }
            self.processes.remove(at);
            self.forget_streams(&name);
            let exit = Reply::Exit(Exit { code: ended.code, at: ended.at, oom_killed: false });
            self.tell(&Role::Exec(name), &exit);
        }
    }

    fn first_ended(&mut self, now: Instant) {
        let Some(first) = self.processes.first_mut() else { return };
        if first.ended.is_none() {
            return;
        }
        if matches!(self.phase, Phase::Created | Phase::Running) {
            self.phase = Phase::Draining(now + DRAIN);
        }
        if let Phase::Draining(until) = self.phase
            && (first.streams.silent() || now >= until)
        {
            first.streams.close(1);
            first.streams.close(2);
            first.until = None;
            if let Some(log) = &mut self.log {
                log.flush();
            }
            for client in &mut self.clients {
                if matches!(&client.role, Role::Stream(stream) if stream.of.is_none()) {
                    client.role = Role::Leaving;
                }
            }
            // A start under way has something to say about the end, and holds the runtime's lock on the container.
            if self.jobs.iter().any(|job| job.task == Task::Start) {
                self.phase = Phase::Draining(now + DRAIN);
            } else {
                // Now, for the counter goes with the cgroup.
                self.oom_killed = self.oom.as_ref().is_some_and(oom::killed);
                self.delete(None);
            }
        }
    }

    /// Remembers why, and removes what the runtime may have left.
    fn not_created(&mut self, message: String) {
        for process in &mut self.processes {
            process.streams.close(1);
            process.streams.close(2);
        }
        self.delete(Some(message));
    }

    /// Nothing of the container is left.
    fn deleted(&mut self) {
        let Phase::Deleting(why, _) = &self.phase else { return };
        let end = match (why, self.processes.first().and_then(|first| first.ended)) {
            (None, Some(ended)) => Ok(Exit { code: ended.code, at: ended.at, oom_killed: self.oom_killed }),
            (Some(message), _) => Err(message.clone()),
            (None, None) => Err("the container ended without an exit code".into()),
        };
        if let Ok(exit) = &end {
            // Without the file the answer to those who wait is all there is.
            let _ = self.write_exit(exit);
        }
        self.phase = Phase::Over(end, Instant::now() + LINGER);
    }

    fn write_exit(&self, exit: &Exit) -> io::Result<()> {
        let (new, file) = (self.bundle.join("exit.json.new"), self.bundle.join("exit.json"));
        fs::write(&new, serde_json::to_vec(exit)?)?;
        fs::rename(new, file)
    }

    /// Answers those who wait for what has come true.
    fn answer(&mut self) {
        match self.phase.clone() {
            Phase::Creating | Phase::Deleting(..) => {}
            Phase::Created | Phase::Running | Phase::Draining(_) => {
                if let Some(pid) = self.processes.first().and_then(|first| first.pid) {
                    self.tell(&Role::Created, &Reply::Pid { pid });
                }
                if self.phase == Phase::Running {
                    let message = "the container is running already".to_owned();
                    self.tell(&Role::Started, &Reply::Error { message });
                }
            }
            Phase::Over(end, _) => {
                let exit = match &end {
                    Ok(exit) => Reply::Exit(exit.clone()),
                    Err(message) => Reply::Error { message: message.clone() },
                };
                let ended = match end {
                    Ok(_) => Reply::Error { message: "the container has ended".into() },
                    Err(message) => Reply::Error { message },
                };
                self.tell(&Role::Exit, &exit);
                self.failure_told |= self.clients.iter().any(|client| client.role == Role::Created);
                self.tell(&Role::Created, &ended);
                self.tell(&Role::Started, &ended);
                for client in &mut self.clients {
                    if matches!(&client.role, Role::Stream(_)) {
                        client.role = Role::Leaving;
                    }
                }
            }
        }
    }

    fn tell(&mut self, role: &Role, reply: &Reply) {
        for client in self.clients.iter_mut().filter(|client| client.role == *role) {
            client.conclude(reply);
        }
    }

    /// Whether nothing is left to do: nobody is connected, or those who are have had their time. Why a container could
    /// not be created is kept for a client that has not connected yet.
    fn finished(&mut self) -> bool {
        let Phase::Over(end, until) = &self.phase else { return false };
        let (failed, until) = (end.is_err(), *until);
        if Instant::now() >= until {
            return true;
        }
        self.accept();
        self.clients.is_empty() && self.jobs.is_empty() && self.processes.len() <= 1 && (!failed || self.failure_told)
    }
}
