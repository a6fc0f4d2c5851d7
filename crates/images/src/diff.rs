//! What a container changed: an overlayfs upper directory against the layers below it, for `docker diff`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::error::{Doing, Result};
use crate::rooted;

/// How a path changed. The numbers are those of Docker's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// `C`
    Modified = 0,
    /// `A`
    Added = 1,
    /// `D`
    Deleted = 2,
}

/// One changed path, absolute within the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// How it changed.
    pub kind: ChangeKind,
    /// Where.
    pub path: String,
}

/// Compares an upper directory with its lower ones, given lowest first as [`Store::layers`](crate::Store::layers) gives them.
///
/// Paths in `exclude` (`etc/hosts`: mount points that the engine made) are not reported. Sorted by path. Blocks.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) of reading the directories.
pub fn diff(lowers: &[PathBuf], upper: &Path, exclude: &[&str]) -> Result<Vec<Change>> {
    // Topmost first from here on.
    let lowers: Vec<OwnedFd> = lowers.iter().rev().map(|dir| rooted::open_dir(dir)).collect::<Result<_>>()?;
    let upper_fd = rooted::open_dir(upper)?;
    let excluded: BTreeSet<Vec<u8>> = exclude.iter().map(|path| path.trim_matches('/').as_bytes().to_vec()).collect();
    let mut changes: BTreeMap<Vec<u8>, ChangeKind> = BTreeMap::new();
    // Directories that were copied up: reported if something in them was.
    let mut copied: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut pending: Vec<(Vec<u8>, Vec<usize>)> = vec![(Vec::new(), (0..lowers.len()).collect())];
    while let Some((path, below)) = pending.pop() {
        let reading = || format!("comparing /{}", String::from_utf8_lossy(&path));
        let dir = match rooted::open_plain(upper_fd.as_fd(), &path) {
            // The container may be running.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !path.is_empty() => continue,
            other => other.doing(reading)?,
        };
        let below: Vec<(usize, OwnedFd)> = below
            .into_iter()
            .map(|at| rooted::open_plain(lowers[at].as_fd(), &path).map(|fd| (at, fd)))
            .collect::<Result<_, _>>()
            .doing(reading)?;
        let names = rooted::names(&dir).doing(reading)?;
        if rooted::is_opaque(&dir).doing(reading)? {
            for (_, lower) in &below {
                for name in rooted::names(lower).doing(reading)? {
                    let child = rooted::join(&path, &name);
                    if names.binary_search(&name).is_err()
                        && !excluded.contains(&child)
                        && look_up(&below, &name).doing(reading)?.is_some()
                    {
                        changes.insert(child, ChangeKind::Deleted);
                    }
                }
            }
        }
        for name in names {
            let child = rooted::join(&path, &name);
            if excluded.contains(&child) {
                continue;
            }
            let Some(stat) = rooted::stat(&dir, &name).doing(reading)? else { continue };
            let old = look_up(&below, &name).doing(reading)?;
            if rooted::is_whiteout(&stat) {
                if old.is_some() {
                    changes.insert(child, ChangeKind::Deleted);
                }
                continue;
            }
            let is_dir = rooted::is(&stat, FileType::Directory);
            let (old_stat, old_dirs) = match old {
                Some(old) => (Some(old.stat), old.dirs),
                None => (None, Vec::new()),
            };
            match old_stat {
                None => drop(changes.insert(child.clone(), ChangeKind::Added)),
                Some(old) if is_dir && same_dir(&old, &stat, makes_mount_points(&excluded, &child)) => {
                    copied.insert(child.clone());
                }
                Some(_) => drop(changes.insert(child.clone(), ChangeKind::Modified)),
            }
            if is_dir {
                pending.push((child, old_dirs));
            }
        }
    }
    let mut parents = BTreeSet::new();
    for path in changes.keys() {
        for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            if copied.contains(&path[..at]) {
                parents.insert(path[..at].to_vec());
            }
        }
    }
    changes.extend(parents.into_iter().map(|path| (path, ChangeKind::Modified)));
    let absolute = |path: Vec<u8>| format!("/{}", String::from_utf8_lossy(&path));
    Ok(changes.into_iter().map(|(path, kind)| Change { kind, path: absolute(path) }).collect())
}

/// What the merged lower directories hold at a name.
struct Old {
    stat: Stat,
    /// The lower layers that make up the directory, if it is one.
    dirs: Vec<usize>,
}

/// Looks a name up as overlayfs merges: the topmost decides, directories merge until one is opaque or something else.
fn look_up(below: &[(usize, OwnedFd)], name: &[u8]) -> Result<Option<Old>, Errno> {
    let mut found: Option<Old> = None;
    for (at, dir) in below {
        let Some(stat) = rooted::stat(dir, name)? else { continue };
        if rooted::is_whiteout(&stat) {
            break;
        }
        if !rooted::is(&stat, FileType::Directory) {
            return Ok(found.or(Some(Old { stat, dirs: Vec::new() })));
        }
        found.get_or_insert(Old { stat, dirs: Vec::new() }).dirs.push(*at);
        if rooted::is_opaque(&rooted::open_plain(dir.as_fd(), name)?)? {
            break;
        }
    }
    Ok(found)
}

/// Whether a directory was only copied up. Where the engine itself made a mount point in it, its time says nothing.
fn same_dir(old: &Stat, new: &Stat, any_time: bool) -> bool {
    let same_time = (old.st_mtime, old.st_mtime_nsec) == (new.st_mtime, new.st_mtime_nsec);
    (old.st_mode, old.st_uid, old.st_gid) == (new.st_mode, new.st_uid, new.st_gid) && (same_time || any_time)
}

fn makes_mount_points(excluded: &BTreeSet<Vec<u8>>, dir: &[u8]) -> bool {
    excluded.iter().any(|path| rooted::split(path).0 == dir)
}
