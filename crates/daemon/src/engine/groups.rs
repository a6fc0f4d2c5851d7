//! Clearing control groups of containers that have nobody else to do it.

use crate::error::{Error, Result};
use crate::oci::cgroup::Tree;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the kernel may take to let killed processes go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends every process of a group and removes the group. Blocking.
///
/// # Errors
/// Processes that do not end, or a group that cannot be read or removed.
pub(super) fn kill_and_remove(tree: &Tree, path: &str) -> Result<()> {
    let paths = tree.paths(path);
    let started = Instant::now();
    loop {
        thaw(tree, path);
        let pids = paths.pids()?;
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            // One that has just ended is what we want.
            let _ = kill_process(pid, Signal::KILL);
        }
        let busy = if pids.is_empty() { paths.remove()? } else { Vec::new() };
        if pids.is_empty() && busy.is_empty() {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(Error::Fault(format!("processes {pids:?} of {path} do not end")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Makes the kernel ready for a process to enter a control group soon: the first entry after a pause waits for a grace
/// period of RCU (5 to 20 ms; `cgroup_threadgroup_rwsem` in kernel/cgroup/cgroup.c), and those that follow within about as
/// long do not. So the wait is had here, while a container is still being made, by entering the group that this process is in
/// already, which changes nothing. Blocking.
pub(super) fn warm(tree: &Tree) {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // `ID:CONTROLLERS:PATH` (cgroups(7)); one tree is enough, the kernel's lock is common to all.
    let own = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let root = match controllers.split(',').next() {
            Some("") | None => tree.v2()?,
            Some(controller) => tree.v1(controller)?,
        };
        Some(root.join(path.trim_start_matches('/')).join("cgroup.procs"))
    });
    if let Some(file) = own
        && let Err(error) = std::fs::write(&file, std::process::id().to_string())
    {
        // Only time is lost: the runtime waits instead.
        tracing::debug!(file = %file.display(), %error, "could not enter our own control group");
    }
}

/// The names of the groups right below `path`, in any tree.
pub(super) fn children(tree: &Tree, path: &str) -> Vec<String> {
    let mut names: Vec<String> = roots(tree, path)
        .into_iter()
        .flat_map(|root| std::fs::read_dir(root).into_iter().flatten().flatten())
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The group's processes are frozen.
pub(super) fn is_frozen(tree: &Tree, path: &str) -> bool {
    let paths = tree.paths(path);
    let v1 = paths.file("freezer", "freezer.state").and_then(|file| std::fs::read_to_string(file).ok());
    if let Some(state) = v1 {
        return state.trim() == "FROZEN";
    }
    let v2 = tree.v2().map(|_| ()).and_then(|()| paths.file("", "cgroup.freeze"));
    v2.and_then(|file| std::fs::read_to_string(file).ok()).is_some_and(|state| state.trim() == "1")
}

/// Frozen processes cannot end.
fn thaw(tree: &Tree, path: &str) {
    let paths = tree.paths(path);
    let (file, word) = match tree.v2() {
        Some(_) => (paths.file("", "cgroup.freeze"), "0"),
        None => (paths.file("freezer", "freezer.state"), "THAWED"),
    };
    if let Some(file) = file {
        // A group without processes, or none at all, needs no thawing.
        let _ = std::fs::write(file, word);
    }
}

fn roots(tree: &Tree, path: &str) -> Vec<PathBuf> {
    let below = path.trim_start_matches('/');
    let v1 = ["memory", "devices", "freezer", "pids", "cpu", "name=systemd"];
    let roots = v1.iter().filter_map(|controller| tree.v1(controller)).chain(tree.v2());
    roots.map(|root| root.join(below)).collect()
}
