//! The host's control groups, and one container's place in them.
//!
//! Three forms: version 1 (a tree a controller), version 2 (one tree), and hybrid (version 1 with a nearly empty version 2
//! tree beside it). A container's path is the same below every tree.

use crate::error::{Doing, Error, Result};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Which form the host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A tree a controller.
    V1,
    /// Version 1, and a version 2 tree beside it.
    Hybrid,
    /// One tree.
    V2,
}

/// The mounted trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Where each is mounted, and the controllers it has (`memory`; `name=systemd`; none for version 2).
    mounts: Vec<Mount>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    at: PathBuf,
    v2: bool,
    controllers: Vec<String>,
}

impl Tree {
    /// Looks at this process's mounts.
    ///
    /// # Errors
    /// [`Error::Fault`] when they cannot be read.
    pub fn detect() -> Result<Tree> {
        let path = "/proc/self/mountinfo";
        Ok(Tree::of_mountinfo(&std::fs::read_to_string(path).doing(format_args!("read {path}"))?))
    }

    /// From the text of `/proc/PID/mountinfo` (proc(5)).
    pub fn of_mountinfo(text: &str) -> Tree {
        let mut mounts: Vec<Mount> = Vec::new();
        for line in text.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let (Some(at), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else { continue };
            if !Path::new(at).starts_with("/sys/fs/cgroup") {
                continue;
            }
            // A later mount hides what was mounted there and below before; the table still lists it.
            mounts.retain(|other| !other.at.starts_with(at));
            if !kind.starts_with("cgroup") {
                continue;
            }
            let options = after.split(' ').nth(2).unwrap_or("");
            let plumbing = ["rw", "ro", "xattr", "noprefix", "clone_children", "release_agent", "nsdelegate"];
            let controllers = options
                .split(',')
                .filter(|word| kind == "cgroup" && !plumbing.iter().any(|other| word.split('=').next() == Some(other)))
                .map(str::to_owned)
                .collect();
            let mount = Mount { at: PathBuf::from(at), v2: kind == "cgroup2", controllers };
            mounts.push(mount);
        }
        Tree { mounts }
    }

    /// Which form this is.
    pub fn kind(&self) -> Kind {
        let one = self.mounts.iter().any(|mount| !mount.v2);
        let two = self.mounts.iter().any(|mount| mount.v2);
        match (one, two) {
            (false, true) => Kind::V2,
            (true, true) => Kind::Hybrid,
            (_, false) => Kind::V1,
        }
    }

    /// The root of version 2, when it is all there is.
    pub fn v2(&self) -> Option<&Path> {
        match self.kind() {
            Kind::V2 => self.mounts.iter().find(|mount| mount.v2).map(|mount| mount.at.as_path()),
            Kind::V1 | Kind::Hybrid => None,
        }
    }

    /// The root of a controller of version 1.
    pub fn v1(&self, controller: &str) -> Option<&Path> {
        let has = |mount: &&Mount| mount.controllers.iter().any(|word| word == controller);
        self.mounts.iter().find(has).map(|mount| mount.at.as_path())
    }

    /// The places of the group with this absolute path, in all trees.
    pub fn paths(&self, path: &str) -> Paths {
        let below = path.trim_start_matches('/');
        let place = |mount: &Mount| Mount { at: mount.at.join(below), ..mount.clone() };
        Paths { kind: self.kind(), places: self.mounts.iter().map(place).collect() }
    }

    /// Makes the group with this absolute path in every tree, ready to have children: controllers are handed down
    /// (version 2), processors and memory nodes are inherited (version 1, where a fresh group has none and takes no process).
    ///
    /// # Errors
    /// [`Error::Fault`] when a tree does not let us.
    pub fn make(&self, path: &str) -> Result<()> {
        for mount in &self.mounts {
            let mut at = mount.at.clone();
            if mount.v2 {
                delegate(&at);
            }
            for name in path.split('/').filter(|name| !name.is_empty()) {
                let parent = at.clone();
                at.push(name);
                match std::fs::create_dir(&at) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                        return Err(error).doing(format_args!("make the control group {}", at.display()));
                    }
                    _ => {}
                }
                if mount.v2 {
                    delegate(&at);
                } else if mount.controllers.iter().any(|word| word == "cpuset") {
                    inherit(&parent, &at, "cpuset.cpus")?;
                    inherit(&parent, &at, "cpuset.mems")?;
                }
            }
        }
        Ok(())
    }
}

/// Gives a version 2 group's children every controller that it has. What the kernel does not allow (a group with processes
/// in it, a threaded one) is left: the runtime then says which limit it could not set.
fn delegate(group: &Path) {
    let Ok(controllers) = std::fs::read_to_string(group.join("cgroup.controllers")) else { return };
    for name in controllers.split_whitespace() {
        if let Err(error) = std::fs::write(group.join("cgroup.subtree_control"), format!("+{name}")) {
            tracing::debug!(group = %group.display(), controller = name, %error, "controller not handed down");
        }
    }
}

fn inherit(parent: &Path, child: &Path, file: &str) -> Result<()> {
    let target = child.join(file);
    let Ok(present) = std::fs::read_to_string(&target) else { return Ok(()) };
    if present.trim().is_empty() {
        let theirs =
            std::fs::read_to_string(parent.join(file)).doing(format_args!("read {file} of {}", parent.display()))?;
        std::fs::write(&target, theirs.trim()).doing(format_args!("write {}", target.display()))?;
    }
    Ok(())
}

/// One container's group in all trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Which form the host has.
    pub kind: Kind,
    places: Vec<Mount>,
}

impl Paths {
    /// A file of a controller: of its own tree in version 1 (`memory`, `memory.usage_in_bytes`), of the one tree in
    /// version 2 (where the controller is part of the name already); `None` if there is no such tree.
    pub fn file(&self, controller: &str, name: &str) -> Option<PathBuf> {
        let fits = |place: &&Mount| match self.kind {
            Kind::V2 => place.v2,
            Kind::V1 | Kind::Hybrid => place.controllers.iter().any(|word| word == controller),
        };
        self.places.iter().find(fits).map(|place| place.at.join(name))
    }

    /// It is there in some tree.
    pub fn exists(&self) -> bool {
        self.places.iter().any(|place| place.at.is_dir())
    }

    /// All processes of the group and of groups below it, in the engine's pid namespace, in ascending order. Processes
    /// that moved themselves to another group are not ours any more.
    ///
    /// # Errors
    /// [`Error::Fault`] when a list is there and cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut found = BTreeSet::new();
        for place in self.places.iter().filter(|place| self.holds_processes(place)) {
            collect(&place.at, &mut found)?;
        }
        Ok(found.into_iter().collect())
    }

    /// One tree is enough for the list: every runtime enters all, and one cannot be left without root's help. The
    /// devices tree is the surest in version 1, for its limit is never skipped.
    fn holds_processes(&self, place: &Mount) -> bool {
        match self.kind {
            Kind::V2 => place.v2,
            Kind::V1 | Kind::Hybrid => {
                let has = |place: &Mount, name: &str| place.controllers.iter().any(|word| word == name);
                let devices = self.places.iter().any(|other| has(other, "devices") && other.at.is_dir());
                if devices { has(place, "devices") } else { !place.v2 }
            }
        }
    }

    /// Removes the group where it is empty, the groups below it first. For what a crash left: a runtime removes its own.
    /// Returns the places that still hold processes.
    ///
    /// # Errors
    /// [`Error::Fault`] for any other reason why it stays.
    pub fn remove(&self) -> Result<Vec<PathBuf>> {
        let mut busy = Vec::new();
        for place in &self.places {
            if !remove(&place.at)? {
                busy.push(place.at.clone());
            }
        }
        Ok(busy)
    }
}

fn subgroups(group: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).doing(format_args!("list {}", group.display())),
    };
    let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    Ok(entries.flatten().filter(is_dir).map(|entry| entry.path()).collect())
}

fn collect(group: &Path, found: &mut BTreeSet<i32>) -> Result<()> {
    let list = group.join("cgroup.procs");
    match std::fs::read_to_string(&list) {
        Ok(text) => found.extend(text.lines().filter_map(|line| line.trim().parse::<i32>().ok())),
        // Gone meanwhile, or being removed.
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(19) => return Ok(()),
        // A threaded group of version 2 lists threads only; its processes are listed further up.
        Err(error) if error.raw_os_error() == Some(95) => {}
        Err(error) => return Err(error).doing(format_args!("read {}", list.display())),
    }
    for below in subgroups(group)? {
        collect(&below, found)?;
    }
    Ok(())
}

/// Whether it is gone now.
fn remove(group: &Path) -> Result<bool> {
    let mut gone = true;
    for below in subgroups(group)? {
        gone &= remove(&below)?;
    }
    if !gone {
        return Ok(false);
    }
    match std::fs::remove_dir(group) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(false),
        Err(error) => Err(Error::Fault(format!("remove the control group {}: {error}", group.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 20 0:25 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
32 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
34 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
35 20 0:30 / /mnt/other rw - cgroup2 cgroup2 rw
";

    #[test]
    fn three_forms() {
        let hybrid = Tree::of_mountinfo(HYBRID);
        assert_eq!(hybrid.kind(), Kind::Hybrid);
        assert_eq!(hybrid.v1("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(hybrid.v1("xattr"), None);
        assert_eq!(hybrid.v2(), None);
        let paths = hybrid.paths("/berth/abc");
        assert_eq!(
            paths.file("memory", "memory.usage_in_bytes"),
            Some("/sys/fs/cgroup/memory/berth/abc/memory.usage_in_bytes".into())
        );
        assert_eq!(paths.file("hugetlb", "x"), None);
        assert!(!paths.exists());

        let one = Tree::of_mountinfo(HYBRID.split_once("34 ").unwrap().0);
        assert_eq!(one.kind(), Kind::V1);

        let two = Tree::of_mountinfo("30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate");
        assert_eq!(two.kind(), Kind::V2);
        let over = Tree::of_mountinfo(&format!("{HYBRID}40 30 0:31 / /sys/fs/cgroup rw - cgroup2 none rw"));
        assert_eq!(over, two);
        assert_eq!(two.paths("/b").file("memory", "memory.current"), Some("/sys/fs/cgroup/b/memory.current".into()));
    }

    /// Needs root and mounted control groups, as the whole engine does.
    #[test]
    fn a_group_is_made_listed_and_removed() {
        let tree = Tree::detect().unwrap();
        let top = format!("/berth-test-{}-group", std::process::id());
        let path = format!("{top}/child");
        tree.make(&top).unwrap();
        let paths = tree.paths(&path);
        // As a runtime does: a group that hands controllers down takes no process itself.
        for place in &paths.places {
            std::fs::create_dir(&place.at).unwrap();
            for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|_| !place.v2) {
                inherit(place.at.parent().unwrap(), &place.at, file).unwrap();
            }
        }
        assert!(paths.exists());
        assert_eq!(paths.pids().unwrap(), Vec::<i32>::new());
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        for place in &paths.places {
            std::fs::write(place.at.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
        }
        assert_eq!(tree.paths(&top).pids().unwrap(), vec![sleeper.id() as i32]);
        assert_eq!(tree.paths(&top).remove().unwrap().len(), paths.places.len());
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert_eq!(tree.paths(&top).remove().unwrap(), Vec::<PathBuf>::new());
        assert!(!tree.paths(&top).exists());
    }
}
