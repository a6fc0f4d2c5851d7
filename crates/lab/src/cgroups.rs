use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The roots of all cgroup hierarchies that are mounted: one of version 2, several of version 1, or both.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut roots: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            after.starts_with("cgroup").then_some(())?;
            before.split(' ').nth(4).map(PathBuf::from)
        })
        .collect();
    roots.sort();
    roots.dedup();
    roots
}

/// The cgroup of this name in each hierarchy that has one. `name` begins with a slash.
pub fn named(name: &str) -> Vec<PathBuf> {
    let relative = name.trim_start_matches('/');
    hierarchies().iter().map(|root| root.join(relative)).filter(|path| path.is_dir()).collect()
}

/// All cgroups at and below `path`, children before parents.
pub fn below(path: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(below(&entry.path()));
        }
    }
    all.push(path.to_path_buf());
    all
}

/// Removes the cgroup `name` and all below it from every hierarchy. A cgroup stays busy for some milliseconds after its
/// last process has ended, hence the patience.
///
/// # Errors
/// The kernel's, with the path, when a cgroup is still in use after five seconds.
pub fn remove(name: &str) -> io::Result<()> {
    assert!(name.len() > 1, "the root cgroup is nobody's to remove");
    let started = Instant::now();
    for root in named(name) {
        loop {
            let failed = below(&root).into_iter().find_map(|path| match fs::remove_dir(&path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => Some((path, err)),
                _ => None,
            });
            let Some((path, err)) = failed else { break };
            if started.elapsed() > Duration::from_secs(5) {
                return Err(io::Error::new(err.kind(), format!("removing {}: {err}", path.display())));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    Ok(())
}
