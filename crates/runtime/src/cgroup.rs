use rustix::process::{Pid, Signal};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the processes of a cgroup may take to die, and its directory to become removable.
const PATIENCE: Duration = Duration::from_secs(5);

/// A container's directory in every mounted cgroup hierarchy where it has one.
pub fn dirs(cgroup: &Path) -> io::Result<Vec<PathBuf>> {
    let below = cgroup.strip_prefix("/").unwrap_or(cgroup);
    let mut dirs: Vec<PathBuf> =
        mounts()?.into_iter().map(|mount| mount.join(below)).filter(|dir| dir.exists()).collect();
    // Controllers that are mounted together appear under several names.
    dirs.sort();
    dirs.dedup();
    Ok(dirs)
}

fn mounts() -> io::Result<Vec<PathBuf>> {
    Ok(hierarchies(&fs::read_to_string("/proc/self/mountinfo")?))
}

/// The mount points of type cgroup and cgroup2 in a mountinfo (proc_pid_mountinfo(5)).
fn hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let hierarchy = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        matches!(kind, "cgroup" | "cgroup2").then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    };
    mountinfo.lines().filter_map(hierarchy).collect()
}

/// The directory on a host where the only hierarchy is cgroup v2; `None` elsewhere.
pub fn unified(cgroup: &Path) -> Option<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let is_v2 = rustix::fs::statfs(root).is_ok_and(|stat| stat.f_type == 0x6367_7270);
    is_v2.then(|| root.join(cgroup.strip_prefix("/").unwrap_or(cgroup)))
}

/// The processes in these directories and below.
pub fn pids(dirs: &[PathBuf]) -> Vec<i32> {
    let mut pids = Vec::new();
    for dir in dirs {
        let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
        pids.extend(self::pids(&children(dir)));
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Sends a signal to every process.
pub fn signal(dirs: &[PathBuf], signal: Signal) {
    for pid in pids(dirs).into_iter().filter_map(Pid::from_raw) {
        // It may have ended in between.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// Kills everything and removes the directories. Frozen processes are thawed, for on v1 they would not die.
pub fn remove(dirs: &[PathBuf]) -> io::Result<()> {
    let since = Instant::now();
    let mut wait = Duration::from_micros(500);
    loop {
        let mut left = None;
        for dir in dirs {
            if let Err(error) = remove_tree(dir) {
                left = Some((dir, error));
            }
        }
        let Some((dir, error)) = left else { return Ok(()) };
        if since.elapsed() > PATIENCE {
            return Err(io::Error::new(error.kind(), format!("removing cgroup {}: {error}", dir.display())));
        }
        for dir in dirs {
            let _ = fs::write(dir.join("freezer.state"), "THAWED");
            let _ = fs::write(dir.join("cgroup.freeze"), "0");
            let _ = fs::write(dir.join("cgroup.kill"), "1");
        }
        signal(dirs, Signal::KILL);
        sleep(wait);
        wait = (wait * 2).min(Duration::from_millis(50));
    }
}

/// Removes a directory and those that the container made in it; the files in them go by themselves.
fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            children(dir).iter().try_for_each(|child| remove_tree(child))?;
            fs::remove_dir(dir)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let mountinfo = "30 23 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
                         31 30 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n\
                         32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = hierarchies(mountinfo);
        assert_eq!(found, [PathBuf::from("/sys/fs/cgroup/memory"), "/sys/fs/cgroup/unified".into()]);
    }
}
