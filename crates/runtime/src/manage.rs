use crate::cgroup;
use crate::cli::List;
use crate::house::House;
use anyhow::{Context, bail};
use libcgroups::common::{CgroupConfig, CgroupManager, ControllerOpt, create_cgroup_manager};
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::json;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// How long a killed process may take to end.
const DYING: Duration = Duration::from_secs(10);

/// Prints the state (OCI runtime specification, `runtime.md`, "State"; with what runc adds).
pub fn state(house: &House) -> anyhow::Result<()> {
    let (kept, container) = (house.kept()?, house.container()?);
    let status = container.status();
    let pid = container.pid().filter(|_| status != ContainerStatus::Stopped).map_or(0, |pid| pid.as_raw());
    let mut state = json!({
        "ociVersion": container.state.oci_version,
        "id": house.id,
        "pid": pid,
        "status": status.to_string().to_lowercase(),
        "bundle": kept.bundle,
        "rootfs": kept.rootfs,
        "created": kept.created,
        "owner": "",
    });
    if let Some(annotations) = kept.annotations {
        state["annotations"] = annotations;
    }
    print(&serde_json::to_string_pretty(&state)?)
}

/// Sends a signal.
pub fn kill(house: &House, signal: &str, all: bool) -> anyhow::Result<()> {
    let number = number(signal)
        .with_context(|| format!("{signal:?} is not a signal: give a name such as TERM or a number from 1 to 64"))?;
    let (kept, container) = (house.kept()?, house.container()?);
    let status = container.status();
    if all {
        for pid in cgroup::pids(&cgroup::dirs(&kept.cgroup)?) {
            send(pid, number)?;
        }
        return Ok(());
    }
    match container.pid().filter(|_| status != ContainerStatus::Stopped) {
        Some(pid) => send(pid.as_raw(), number),
        None => bail!("container {} is not running", house.id),
    }
}

fn send(pid: i32, signal: i32) -> anyhow::Result<()> {
    // SAFETY: kill takes two integers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => match std::io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error).with_context(|| format!("sending signal {signal} to process {pid}")),
        },
    }
}

fn number(signal: &str) -> Option<i32> {
    if let Ok(number) = signal.parse::<i32>() {
        return Some(number).filter(|number| (1..=64).contains(number));
    }
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // In the order of their numbers on Linux, as far as all architectures of Rust's tier 1 agree.
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    if let Some(place) = NAMES.iter().position(|known| *known == name) {
        return Some(place as i32 + 1);
    }
    let (base, sign, rest) = match name {
        _ if name.starts_with("RTMIN") => (34, 1, &name[5..]),
        _ if name.starts_with("RTMAX") => (64, -1, &name[5..]),
        _ => return None,
    };
    let steps = if rest.is_empty() {
        0
    } else {
        rest.trim_start_matches(if sign > 0 { '+' } else { '-' }).parse::<i32>().ok()?
    };
    Some(base + sign * steps).filter(|number| (34..=64).contains(number))
}

/// Removes what is left of a container. Nothing that is gone already is an error.
pub fn delete(house: &House, force: bool) -> anyhow::Result<()> {
    if !house.exists() {
        if force {
            return Ok(());
        }
        bail!("container {} does not exist", house.id);
    }
    let kept = house.kept();
    let container = house.container();
    if let Ok(container) = &container {
        end(house, container, force)?;
    } else if !force {
        // Half made, or half deleted: its files are not whole.
        container.as_ref().map_err(|error| anyhow::anyhow!("{error:#}; use --force to remove what is there"))?;
    }
    if let Ok(kept) = kept {
        let dirs = cgroup::dirs(&kept.cgroup)?;
        if kept.shares_pids {
            cgroup::signal(&dirs, Signal::KILL);
        }
        cgroup::remove(&dirs)?;
        if let (true, Ok(mut container)) = (kept.hooks, container) {
            // Runs the poststop hooks; all else is done.
            container.delete(true).context("poststop hooks")?;
        }
    }
    house.clear()
}

/// Sees to it that the first process is dead.
fn end(house: &House, container: &Container, force: bool) -> anyhow::Result<()> {
    let status = container.status();
    let Some(pid) = container.pid().and_then(|pid| Pid::from_raw(pid.as_raw())) else { return Ok(()) };
    match status {
        ContainerStatus::Stopped => return Ok(()),
        ContainerStatus::Running | ContainerStatus::Paused if !force => {
            bail!(
                "cannot delete container {} that is not stopped: it is {}",
                house.id,
                status.to_string().to_lowercase()
            );
        }
        _ => {}
    }
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    if status == ContainerStatus::Paused {
        // A frozen process of cgroup v1 dies only when it is thawed.
        for dir in cgroup::dirs(&house.kept()?.cgroup)? {
            let _ = std::fs::write(dir.join("freezer.state"), "THAWED");
        }
    }
    let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: DYING.as_secs() as i64, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&timeout))? {
        0 => bail!("process {} of container {} does not die of SIGKILL", pid.as_raw_nonzero(), house.id),
        _ => Ok(()),
    }
}

/// Freezes.
pub fn pause(house: &House) -> anyhow::Result<()> {
    let mut container = house.container()?;
    if container.status() != ContainerStatus::Running {
        bail!(
            "cannot pause container {}: it is {}, not running",
            house.id,
            container.status().to_string().to_lowercase()
        );
    }
    container.pause().with_context(|| format!("pausing container {}", house.id))
}

/// Thaws.
pub fn resume(house: &House) -> anyhow::Result<()> {
    let mut container = house.container()?;
    if container.status() != ContainerStatus::Paused {
        bail!(
            "cannot resume container {}: it is {}, not paused",
            house.id,
            container.status().to_string().to_lowercase()
        );
    }
    container.resume().with_context(|| format!("resuming container {}", house.id))
}

/// Changes limits.
pub fn update(house: &House, file: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    let name = file.display();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
    } else {
        text = std::fs::read_to_string(file).with_context(|| format!("--resources {name}"))?;
    }
    let resources: LinuxResources = serde_json::from_str(&text).with_context(|| format!("--resources {name}"))?;
    if resources.devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        bail!("--resources {name}: the devices of a container cannot be changed; leave `devices` out");
    }
    let (kept, container) = (house.kept()?, house.container()?);
    if container.status() == ContainerStatus::Stopped {
        bail!("cannot update container {}: it is stopped", house.id);
    }
    let config = CgroupConfig { cgroup_path: kept.cgroup, systemd_cgroup: false, container_name: house.id.clone() };
    let options =
        ControllerOpt { resources: &resources, disable_oom_killer: false, oom_score_adj: None, freezer_state: None };
    create_cgroup_manager(config)?.apply(&options).with_context(|| format!("updating container {}", house.id))
}

/// Lists processes.
pub fn ps(house: &House, format: List) -> anyhow::Result<()> {
    let pids = cgroup::pids(&cgroup::dirs(&house.kept()?.cgroup)?);
    match format {
        List::Json => print(&serde_json::to_string(&pids)?),
        List::Table => {
            print(&["PID".to_owned()].into_iter().chain(pids.iter().map(i32::to_string)).collect::<Vec<_>>().join("\n"))
        }
    }
}

/// Prints the features document (OCI runtime specification, `features.md`).
pub fn features() -> anyhow::Result<()> {
    let capabilities: Vec<String> = caps::all().into_iter().map(|cap| cap.to_string()).collect();
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": "1.2.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD",
                    "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP"],
                "operators": ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"],
                "knownFlags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": false }
        }
    });
    print(&serde_json::to_string_pretty(&features)?)
}

fn print(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("standard output")
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, want) in [
            ("KILL", 9),
            ("sigterm", 15),
            ("15", 15),
            ("SIGSYS", 31),
            ("RTMIN+2", 36),
            ("SIGRTMAX-1", 63),
            ("RTMIN", 34),
        ] {
            assert_eq!(number(text), Some(want), "{text}");
        }
        for text in ["", "0", "65", "-1", "SIGNOPE", "RTMIN+99", "RTMINx", "SIG"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
