//! What a container changed in its image (`diff`): the difference between the layers and what lies over them.

use super::{inside, lower};
use crate::error::{Doing, Result};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// One difference; the path is absolute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// Where.
    pub path: String,
    /// What happened.
    pub kind: Kind,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It was there and is another now (0 in the Engine API, `C`).
    Modified,
    /// It was not there (1, `A`).
    Added,
    /// It is gone (2, `D`).
    Deleted,
}

/// What a runtime makes because something has to be mounted there: no doing of the container's.
const MOUNT_POINTS: [&str; 11] = [
    "/dev",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sbin/docker-init",
    "/sys",
];
/// Directories that may be made, or touched, for no more than a mount point in them.
const HOLDERS: [&str; 2] = ["/etc", "/sbin"];

/// All differences that `upper` makes to the layers (lowest first), sorted by path.
///
/// # Errors
/// A fault when something cannot be read.
pub fn changes(layers: &[PathBuf], upper: &Path) -> Result<Vec<Change>> {
    let doing = || format!("compare {} with its layers", upper.display());
    let upper =
        rustix::fs::open(upper, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing(doing())?;
    let below = match lower(layers)? {
        Some(root) => Some(inside::directory(std::os::fd::AsFd::as_fd(&root), Path::new("")).doing(doing())?),
        None => None,
    };
    let mut found = Vec::new();
    compare(&upper, below.as_ref(), "", false, &mut found, 0).doing(doing())?;
    found.sort();
    Ok(found)
}

/// What is known of one directory's own differences.
struct Outcome {
    /// Something in it differs.
    differs: bool,
    /// Only mount points were made in it.
    for_mounts: bool,
}

/// Whoever nests directories further is told of the one that far down: the depth is the container's choice, the stack ours.
const DEEPEST: usize = 200;

fn compare(
    upper: &OwnedFd,
    below: Option<&OwnedFd>,
    path: &str,
    opaque: bool,
    found: &mut Vec<Change>,
    depth: usize,
) -> std::result::Result<Outcome, Errno> {
    let mut outcome = Outcome { differs: false, for_mounts: false };
    let names = inside::names(upper)?;
    if opaque && let Some(below) = below {
        for name in inside::names(below)?.into_iter().filter(|name| !names.contains(name)) {
            outcome.differs = true;
            found.push(Change { path: format!("{path}/{}", name.to_string_lossy()), kind: Kind::Deleted });
        }
    }
    for name in &names {
        let shown = format!("{path}/{}", name.to_string_lossy());
        let now = inside::stat(upper, name)?;
        let before = match below.map(|below| inside::stat(below, name)) {
            None | Some(Err(Errno::NOENT)) => None,
            Some(result) => Some(result?),
        };
        let mut push = |kind| found.push(Change { path: shown.clone(), kind });
        if is_whiteout(&now) {
            if before.is_some() {
                push(Kind::Deleted);
                outcome.differs = true;
            }
            continue;
        }
        let is_directory = inside::kind(&now) == FileType::Directory;
        if !is_directory {
            if before.is_none() && MOUNT_POINTS.contains(&shown.as_str()) && now.st_size == 0 {
                outcome.for_mounts = true;
                continue;
            }
            push(if before.is_some() { Kind::Modified } else { Kind::Added });
            outcome.differs = true;
            continue;
        }
        let before = before.filter(|before| inside::kind(before) == FileType::Directory);
        let replaced = before.is_none() && below.is_some_and(|below| inside::stat(below, name).is_ok());
        let at = found.len();
        let inner = if depth < DEEPEST {
            let opened = open(upper, name)?;
            let under = match (&before, below) {
                (Some(_), Some(below)) => Some(open(below, name)?),
                _ => None,
            };
            compare(&opened, under.as_ref(), &shown, is_opaque(upper, name)?, found, depth + 1)?
        } else {
            Outcome { differs: true, for_mounts: false }
        };
        let made_for_mounts =
            MOUNT_POINTS.contains(&shown.as_str()) || HOLDERS.contains(&shown.as_str()) && inner.for_mounts;
        let kind = match before {
            Some(before) if inner.differs || differs(&before, &now, inner.for_mounts) => Kind::Modified,
            Some(_) => {
                outcome.for_mounts |= inner.for_mounts;
                continue;
            }
            None if replaced => Kind::Modified,
            None if !inner.differs && made_for_mounts => {
                outcome.for_mounts = true;
                continue;
            }
            None => Kind::Added,
        };
        found.insert(at, Change { path: shown, kind });
        outcome.differs = true;
    }
    Ok(outcome)
}

fn open(directory: &OwnedFd, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(directory, name, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH)
}

/// The overlay's mark for a file of the layers that is gone: a device 0:0.
fn is_whiteout(stat: &Stat) -> bool {
    inside::kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The overlay's mark for a directory that hides the one of the layers.
fn is_opaque(directory: &OwnedFd, name: &OsStr) -> std::result::Result<bool, Errno> {
    let attributes = inside::xattrs(directory, name)?;
    Ok(attributes.iter().any(|(key, value)| key == "trusted.overlay.opaque" && value == b"y"))
}

/// A directory of both: its own attributes changed. Its time says that names came or went, also such as left no trace; but a
/// mount point is not worth a word.
fn differs(before: &Stat, now: &Stat, for_mounts: bool) -> bool {
    let time = (before.st_mtime, before.st_mtime_nsec) != (now.st_mtime, now.st_mtime_nsec);
    before.st_mode != now.st_mode || before.st_uid != now.st_uid || before.st_gid != now.st_gid || time && !for_mounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    struct Bench {
        dir: tempfile::TempDir,
        layers: Vec<PathBuf>,
    }

    impl Bench {
        /// Layers of files (`name`, `name/` for a directory), lowest first.
        fn new(layers: &[&[&str]]) -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let mut paths = Vec::new();
            for (number, files) in layers.iter().enumerate() {
                let layer = dir.path().join(format!("layer{number}"));
                fs::create_dir(&layer).unwrap();
                for file in *files {
                    let path = layer.join(file);
                    fs::create_dir_all(if file.ends_with('/') { &path } else { path.parent().unwrap() }).unwrap();
                    if !file.ends_with('/') {
                        fs::write(path, "old").unwrap();
                    }
                }
                paths.push(layer);
            }
            fs::create_dir(dir.path().join("upper")).unwrap();
            fs::create_dir(dir.path().join("work")).unwrap();
            Bench { dir, layers: paths }
        }

        /// Acts in the merged file system as a container would, and lists the differences.
        fn after(&self, act: impl Fn(&Path)) -> String {
            let (upper, work) = (self.dir.path().join("upper"), self.dir.path().join("work"));
            let root = super::super::mount(&self.layers, &upper, &work, false).unwrap();
            act(&inside::by_proc(root.as_fd(), OsStr::new(".")));
            let letter = |kind| match kind {
                Kind::Modified => 'C',
                Kind::Added => 'A',
                Kind::Deleted => 'D',
            };
            let all = changes(&self.layers, &upper).unwrap();
            all.iter().map(|change| format!("{} {}", letter(change.kind), change.path)).collect::<Vec<_>>().join(", ")
        }
    }

    #[test]
    fn what_a_container_did() {
        let layers: &[&[&str]] = &[&["etc/passwd", "bin/sh", "opt/a/b", "opt/a/c"], &["etc/group", "var/log/x"]];
        type Act = fn(&Path);
        let cases: [(Act, &str); 9] = [
            (|_| {}, ""),
            (|root| fs::write(root.join("new"), "x").unwrap(), "A /new"),
            (|root| fs::write(root.join("etc/passwd"), "x").unwrap(), "C /etc, C /etc/passwd"),
            (|root| fs::remove_file(root.join("etc/group")).unwrap(), "C /etc, D /etc/group"),
            (|root| fs::create_dir_all(root.join("srv/x")).unwrap(), "A /srv, A /srv/x"),
            (|root| fs::remove_dir_all(root.join("opt/a")).unwrap(), "C /opt, D /opt/a"),
            (
                |root| {
                    fs::remove_dir_all(root.join("opt/a")).unwrap();
                    fs::create_dir(root.join("opt/a")).unwrap();
                    fs::write(root.join("opt/a/c"), "").unwrap();
                },
                "C /opt, C /opt/a, D /opt/a/b, C /opt/a/c",
            ),
            (
                |root| {
                    fs::remove_file(root.join("bin/sh")).unwrap();
                    fs::create_dir(root.join("bin/sh")).unwrap();
                    fs::write(root.join("bin/sh/x"), "").unwrap();
                },
                "C /bin, C /bin/sh, A /bin/sh/x",
            ),
            (
                |root| {
                    fs::write(root.join("var/log/y"), "").unwrap();
                    fs::remove_file(root.join("var/log/y")).unwrap();
                },
                "C /var, C /var/log",
            ),
        ];
        for (act, want) in cases {
            assert_eq!(Bench::new(layers).after(act), want);
        }
        assert_eq!(Bench::new(&[]).after(|root| fs::write(root.join("x"), "").unwrap()), "A /x");
    }

    #[test]
    fn endless_nesting_is_survived() {
        let bench = Bench::new(&[&["etc/passwd"]]);
        let upper = bench.dir.path().join("upper");
        let mut at = rustix::fs::open(&upper, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
            at = open(&at, OsStr::new("d")).unwrap();
        }
        assert_eq!(changes(&bench.layers, &upper).unwrap().len(), DEEPEST + 1);
        super::super::remove_tree(&upper).unwrap();
    }

    #[test]
    fn mount_points_are_nobodys_doing() {
        let act = |root: &Path| {
            for directory in ["proc", "sys", "dev"] {
                fs::create_dir(root.join(directory)).unwrap();
            }
            fs::create_dir_all(root.join("etc")).unwrap();
            for file in ["hosts", "hostname", "resolv.conf"] {
                fs::write(root.join("etc").join(file), "").unwrap();
            }
        };
        assert_eq!(Bench::new(&[&["bin/sh"]]).after(act), "");
        assert_eq!(Bench::new(&[&["etc/passwd"]]).after(act), "");
        let more = |root: &Path| {
            act(root);
            fs::write(root.join("etc/mine"), "").unwrap();
            fs::write(root.join("dev/file"), "").unwrap();
        };
        assert_eq!(Bench::new(&[&["etc/passwd"]]).after(more), "A /dev, A /dev/file, C /etc, A /etc/mine");
    }
}
