use std::fs;
use std::path::PathBuf;

/// The file in which the kernel counts what its out-of-memory killer ended in the memory cgroup of `pid`:
/// `memory.oom_control` (cgroup v1) or `memory.events` (v2), both with a line `oom_kill N`
/// (kernel documentation, `admin-guide/cgroup-v1/memory.rst` and `admin-guide/cgroup-v2.rst`).
pub fn counter(pid: i32) -> Option<PathBuf> {
    find(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?, |path| path.exists())
}

fn find(cgroups: &str, exists: impl Fn(&PathBuf) -> bool) -> Option<PathBuf> {
    cgroups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let path = path.trim_end_matches('/');
        let candidates = if controllers.split(',').any(|controller| controller == "memory") {
            vec![format!("/sys/fs/cgroup/memory{path}/memory.oom_control")]
        } else if controllers.is_empty() {
            vec![format!("/sys/fs/cgroup{path}/memory.events"), format!("/sys/fs/cgroup/unified{path}/memory.events")]
        } else {
            vec![]
        };
        candidates.into_iter().map(PathBuf::from).find(&exists)
    })
}

/// Whether that counter is not zero. `false` when it cannot be read: the cgroup is gone, and nothing can be claimed.
pub fn killed(counter: &PathBuf) -> bool {
    fs::read_to_string(counter).is_ok_and(|text| count(&text) > 0)
}

fn count(text: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_cgroup_is_found_on_both_versions() {
        let v1 = "3:cpu,cpuacct:/a\n2:memory:/berth/x\n0::/\n";
        assert_eq!(find(v1, |_| true), Some("/sys/fs/cgroup/memory/berth/x/memory.oom_control".into()));
        let v2 = "0::/berth/x\n";
        assert_eq!(find(v2, |_| true), Some("/sys/fs/cgroup/berth/x/memory.events".into()));
        assert_eq!(find("4:pids:/x\n", |_| true), None);
        assert_eq!(find(v2, |_| false), None);
    }

    #[test]
    fn only_the_kill_counter_counts() {
        assert_eq!(count("low 0\nhigh 0\nmax 7\noom 7\noom_kill 2\noom_group_kill 0\n"), 2);
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"), 1);
        assert_eq!(count("oom_kill_disable 1\nunder_oom 1\n"), 0);
    }
}
