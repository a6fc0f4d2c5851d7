//! Removing a tree that a container has written, however deep: neither the engine's stack nor its descriptors may be at a
//! container's mercy.

use super::inside;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;

/// How many directories are open at once; a tree deeper than that is brought up first.
const DEPTH: usize = 64;

struct Level {
    directory: OwnedFd,
    /// Its name in the level above.
    name: OsString,
}

/// Removes a directory and all below it, following no link. One that is not there is fine.
///
/// # Errors
/// The kernel's, at the first thing that cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), Errno> {
    let directory = match open(CWD, path.as_os_str()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => return rustix::fs::unlink(path),
        Err(error) => return Err(error),
    };
    let mut levels = vec![Level { directory, name: OsString::new() }];
    let mut moved = 0u64;
    while let Some(level) = levels.last() {
        match first_directory(&level.directory)? {
            Some(name) if levels.len() < DEPTH => {
                let directory = open(&level.directory, &name)?;
                levels.push(Level { directory, name });
            }
            Some(name) => {
                // Brought up to the top, its path is short again.
                let top = &levels[0].directory;
                loop {
                    let place = OsString::from(format!(".deep-{moved}"));
                    moved += 1;
                    // Something of this name may be there, by accident or malice; a file would be replaced, which is fine.
                    match renameat(&level.directory, &name, top, &place) {
                        Err(Errno::NOTEMPTY | Errno::EXIST) => continue,
                        result => break result?,
                    }
                }
            }
            None => {
                let Some(done) = levels.pop() else { break };
                drop(done.directory);
                match levels.last() {
                    Some(above) => unlinkat(&above.directory, &done.name, AtFlags::REMOVEDIR)?,
                    None => rustix::fs::rmdir(path)?,
                }
            }
        }
    }
    Ok(())
}

fn open(at: impl std::os::fd::AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Removes what is no directory, and names one that is.
fn first_directory(directory: &OwnedFd) -> Result<Option<OsString>, Errno> {
    for name in inside::names(directory)? {
        if inside::kind(&inside::stat(directory, &name)?) == FileType::Directory {
            match unlinkat(directory, &name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(Some(name)),
                result => result?,
            }
        } else {
            unlinkat(directory, &name, AtFlags::empty())?;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_is_removed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, other) = (dir.path().join("tree"), dir.path().join("other"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(tree.join("a/.deep-0/x")).unwrap();
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("kept"), "").unwrap();
        fs::write(tree.join("a/f"), "").unwrap();
        std::os::unix::fs::symlink(&other, tree.join("a/link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && other.join("kept").exists());
        remove_tree(&tree).unwrap();
        std::os::unix::fs::symlink(&other, &tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.is_symlink() && other.join("kept").exists());
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        let mut at = open(CWD, tree.as_os_str()).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "directory", Mode::from_raw_mode(0o700)).unwrap();
            at = open(&at, OsStr::new("directory")).unwrap();
        }
        drop(at);
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
    }
}
