use super::bundle;
use crate::cargo;
use anyhow::{Context, Result, bail};
use lab::{Engine, Lab};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The name of the engine under test in the tables.
pub const BERTH: &str = "berth";
/// The name of the least program in the tables.
pub const FLOOR: &str = "floor";
/// The program name of our runtime, and its name in the tables.
pub const RUNTIME: &str = "berth-runtime";
/// The bridge that the floor program uses.
const FLOOR_BRIDGE: &str = "floor0";

/// Which comparison a command belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// `--net none`
    None,
    /// `--net bridge`
    Bridge,
    /// `--net host`
    Host,
    /// No engine at all.
    Runtime,
}

impl std::fmt::Display for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Net::None => "none",
            Net::Bridge => "bridge",
            Net::Host => "host",
            Net::Runtime => "runtime",
        })
    }
}

/// A way to start a container and wait for its end.
pub struct Contender {
    /// As it stands in the tables.
    pub name: String,
    /// Among which it is compared.
    pub net: Net,
    how: How,
}

enum How {
    Command(Command),
    Runtime { program: PathBuf, root: PathBuf, bundle: PathBuf, runs: u32 },
}

impl Contender {
    fn command(name: &str, net: Net, mut command: Command) -> Contender {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Contender { name: name.to_owned(), net, how: How::Command(command) }
    }

    /// Whether the benchmark makes no sense without it.
    pub fn is_ours(&self) -> bool {
        [BERTH, FLOOR, RUNTIME].contains(&self.name.as_str())
    }

    /// Does it once. Fails unless the container ended well.
    pub fn run(&mut self) -> Result<()> {
        match &mut self.how {
            How::Command(command) => succeed(command),
            How::Runtime { program, root, bundle, runs } => {
                *runs += 1;
                alone(program, root, bundle, &format!("bench{runs}"))
            }
        }
    }
}

/// Everything that there is to compare on this machine.
pub fn all(lab: &Lab, engine: &Engine) -> Result<Vec<Contender>> {
    lab.here().ok(&["ip", "link", "add", FLOOR_BRIDGE, "up", "type", "bridge"]);
    let programs = lab::binaries();
    let archive = lab::busybox::archive(&cargo::target_dir()?)?;
    let podman = found("podman").map(|program| Podman::prepared(lab, program, &archive)).transpose()?;
    let docker = match (found("dockerd"), found("docker")) {
        (Some(daemon), Some(_)) => Some(Docker::started(lab, &daemon, &archive)?),
        _ => None,
    };
    let mut all = Vec::new();
    for net in [Net::None, Net::Bridge, Net::Host] {
        let words: &[&str] = if net == Net::Bridge { &["bridge", FLOOR_BRIDGE] } else { &[&net.to_string()] };
        let mut floor = Command::new(programs.join("floor"));
        floor.args(words);
        all.push(Contender::command(FLOOR, net, floor));
        let net_name = net.to_string();
        let run = ["run", "--rm", "--net", &net_name, "busybox", "true"];
        all.push(Contender::command(BERTH, net, engine.berth_command(&run)));
        if lab::has_docker() {
            all.push(Contender::command("docker client on berth", net, engine.docker_command(&run)));
        }
        if let Some(docker) = &docker {
            all.push(Contender::command("docker", net, docker.command(&run)));
        }
        if let Some(podman) = &podman {
            all.push(Contender::command("podman", net, podman.run(lab.cgroup(), net)));
        }
    }
    let bundle = bundle::write(&lab.dir().join("bundle"), &archive, lab.cgroup())?;
    let runtimes = [Some(programs.join(RUNTIME)), found("crun"), found("runc")];
    for program in runtimes.into_iter().flatten() {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let root = lab.dir().join(format!("root-{name}"));
        let how = How::Runtime { program, root, bundle: bundle.clone(), runs: 0 };
        all.push(Contender { name, net: Net::Runtime, how });
    }
    Ok(all)
}

/// A program on the search path.
pub fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

pub fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if !status.success() {
        bail!("ended with {status}");
    }
    Ok(())
}

/// One life of a container by the standard command line of OCI runtimes.
fn alone(program: &Path, root: &Path, bundle: &Path, id: &str) -> Result<()> {
    let call = |words: &[&str]| {
        let mut command = Command::new(program);
        command.arg("--root").arg(root).args(words).stdin(Stdio::null()).stdout(Stdio::null());
        succeed(&mut command).with_context(|| words.join(" "))
    };
    let pid_file = bundle.join("pid");
    let (bundle, pid_path) = (bundle.display().to_string(), pid_file.display().to_string());
    call(&["create", "--bundle", &bundle, "--pid-file", &pid_path, id])?;
    let pid: i32 = std::fs::read_to_string(&pid_file)?.trim().parse().context("the pid file")?;
    let pid = rustix::process::Pid::from_raw(pid).context("the pid file holds no pid")?;
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    call(&["start", id])?;
    wait(&process)?;
    call(&["delete", id])
}

/// Until a process that is not our child has ended.
fn wait(process: &OwnedFd) -> Result<()> {
    let mut fds = [rustix::event::PollFd::new(process, rustix::event::PollFlags::IN)];
    let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
    if rustix::event::poll(&mut fds, Some(&limit))? == 0 {
        bail!("the container has not ended in 20 seconds");
    }
    Ok(())
}

/// A podman with a store of its own.
pub struct Podman {
    program: PathBuf,
    dir: PathBuf,
    runtime: Option<PathBuf>,
}

impl Podman {
    /// With the image in its store.
    pub fn prepared(lab: &Lab, program: PathBuf, archive: &Path) -> Result<Podman> {
        let mut podman = Podman { program, dir: lab.dir().join("podman"), runtime: None };
        succeed(podman.command().arg("load").arg("-i").arg(archive).stdout(Stdio::null())).context("podman load")?;
        // Its usual runtime, crun, refuses hosts with cgroups of both versions.
        if succeed(&mut podman.run(lab.cgroup(), Net::None)).is_err() {
            podman.runtime = found("runc");
        }
        Ok(podman)
    }

    /// The beginning of every command.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.dir.join("store")).arg("--runroot").arg(self.dir.join("run"));
        // Else its networks would be the machine's.
        command.arg("--network-config-dir").arg(self.dir.join("networks"));
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        if let Some(runtime) = &self.runtime {
            command.arg("--runtime").arg(runtime);
        }
        command
    }

    fn run(&self, cgroup: &str, net: Net) -> Command {
        let mut command = self.command();
        command.args(["run", "--rm", "--pull", "never", "--cgroup-parent", cgroup, "--net", &net.to_string()]);
        command.args(["localhost/busybox", "true"]);
        command
    }
}

/// A Docker engine with directories of its own, ended when the lab ends.
pub struct Docker {
    host: String,
    /// The process.
    pub pid: u32,
}

impl Docker {
    /// With the image loaded.
    pub fn started(lab: &Lab, daemon: &Path, archive: &Path) -> Result<Docker> {
        let dir = lab.dir().join("docker");
        std::fs::create_dir(&dir)?;
        let socket = dir.join("docker.sock");
        let host = format!("unix://{}", socket.display());
        let log = std::fs::File::create(dir.join("log"))?;
        let mut command = Command::new(daemon);
        command.args(["-H", &host, "--cgroup-parent", lab.cgroup(), "--exec-opt", "native.cgroupdriver=cgroupfs"]);
        command.arg("--data-root").arg(dir.join("state")).arg("--exec-root").arg(dir.join("run"));
        command.arg("--pidfile").arg(dir.join("pid")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Not waited for: it ends with the lab's pid namespace.
        let pid = command.spawn().context("dockerd")?.id();
        let docker = Docker { host, pid };
        lab::wait_for("dockerd", Duration::from_secs(60), || {
            lab::http::request(&socket, "GET", "/_ping", &[], b"")
                .is_ok_and(|answer| answer.status == 200)
                .then_some(())
        });
        let archive = archive.display().to_string();
        succeed(docker.command(&["load", "-i", &archive]).stdout(Stdio::null())).context("docker load")?;
        Ok(docker)
    }

    /// A command of its client.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(words).env("DOCKER_HOST", &self.host).env_remove("DOCKER_CONTEXT");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cpu::Meter;

    #[test]
    fn a_runtime_alone_runs_the_bundle_and_is_metered() {
        lab::alone(|lab| {
            let meter = Meter::of(lab.cgroup()).unwrap();
            let archive = lab::busybox::archive(lab.dir()).unwrap();
            let bundle = bundle::write(&lab.dir().join("bundle"), &archive, lab.cgroup()).unwrap();
            let program = found("runc").expect("Debian package runc");
            let how = How::Runtime { program, root: lab.dir().join("root"), bundle: bundle.clone(), runs: 0 };
            let mut runc = Contender { name: "runc".into(), net: Net::Runtime, how };
            let before = meter.used().unwrap();
            runc.run().unwrap();
            runc.run().unwrap();
            let used = meter.used().unwrap() - before;
            assert!(used > Duration::from_millis(2) && used < Duration::from_secs(20), "{used:?}");
            std::fs::remove_file(bundle.join("config.json")).unwrap();
            let err = format!("{:#}", runc.run().unwrap_err());
            assert!(err.starts_with("create --bundle"), "{err}");
        })
    }

    #[test]
    fn a_failing_command_fails_its_round() {
        let mut command = Contender::command("false", Net::None, Command::new("false"));
        assert!(command.run().is_err());
    }
}
