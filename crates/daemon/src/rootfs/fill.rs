//! What an image has at the place of a fresh volume: copied into it once, so that the container finds it there.
//!
//! The copy is made beside the volume and moved in when it is whole; a crash on the way is taken up by the next attempt.

use super::{inside, remove};
use crate::error::{Doing, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, openat2};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The depth is the image's choice, the stack is ours.
const DEEPEST: usize = 200;

/// Copies what lies at `target` in the root file system into the volume's directory, if that is empty: files, owners, modes,
/// times and extended attributes; the directory itself gets those of `target`. Whether there was anything to copy.
///
/// # Errors
/// A fault; the volume is empty then, or the next attempt completes it.
pub fn fill(root: BorrowedFd, target: &str, volume: &Path) -> Result<bool> {
    let doing = || format!("copy {target} of the image into the volume {}", volume.display());
    let ready = beside(volume, ".ready");
    if !ready.exists() {
        let data = open(CWD, volume.as_os_str()).doing(doing())?;
        if !inside::names(&data).doing(doing())?.is_empty() {
            return Ok(false);
        }
        let source = match inside::directory(root, Path::new(target)) {
            Ok(source) => source,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(error) => return Err(error).doing(doing()),
        };
        let half = beside(volume, ".half");
        remove::remove_tree(&half).doing(doing())?;
        std::fs::create_dir(&half).doing(doing())?;
        let copy = open(CWD, half.as_os_str()).doing(doing())?;
        Copier::default().directory(&source, &copy, 0).doing(doing())?;
        rustix::fs::syncfs(&copy).doing(doing())?;
        std::fs::rename(&half, &ready).doing(doing())?;
    }
    move_in(&ready, volume).doing(doing())?;
    Ok(true)
}

fn beside(volume: &Path, suffix: &str) -> PathBuf {
    let mut name = volume.file_name().unwrap_or(OsStr::new("volume")).to_owned();
    name.push(suffix);
    volume.with_file_name(name)
}

fn open(at: impl AsFd, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// The volume's directory stays the same one: somebody may have it mounted.
fn move_in(ready: &Path, volume: &Path) -> io::Result<()> {
    let (from, to) = (open(CWD, ready.as_os_str())?, open(CWD, volume.as_os_str())?);
    for name in inside::names(&from)? {
        rustix::fs::renameat(&from, &name, &to, &name)?;
    }
    let stat = rustix::fs::fstat(&from)?;
    attributes(&from, OsStr::new("."), &to, OsStr::new("."), &stat)?;
    std::fs::remove_dir(ready)
}

#[derive(Default)]
struct Copier {
    /// The first name of each file that has several, from the top.
    links: BTreeMap<(u64, u64), (OwnedFd, OsString)>,
}

impl Copier {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other(format!("directories nested deeper than {DEEPEST}")));
        }
        for name in inside::names(from)? {
            self.entry(from, to, &name, depth)?;
        }
        let stat = rustix::fs::fstat(from)?;
        Ok(attributes(from, OsStr::new("."), to, OsStr::new("."), &stat)?)
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &OsStr, depth: usize) -> io::Result<()> {
        let stat = inside::stat(from, name)?;
        let private = Mode::from_raw_mode(0o600);
        let beneath = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
        let kind = inside::kind(&stat);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some((holder, first)) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return Ok(rustix::fs::linkat(holder, first, to, name, AtFlags::empty())?);
            }
            self.links.insert((stat.st_dev, stat.st_ino), (to.try_clone()?, name.to_owned()));
        }
        match kind {
            FileType::Directory => {
                let source = openat2(from, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty(), beneath)?;
                rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                return self.directory(&source, &open(to, name)?, depth + 1);
            }
            FileType::RegularFile => {
                let source = openat2(from, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), beneath)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = openat2(to, name, flags, private, beneath)?;
                io::copy(&mut File::from(source), &mut File::from(copy))?;
            }
            FileType::Symlink => rustix::fs::symlinkat(inside::link_target(from, name)?, to, name)?,
            // A socket means nothing without its process.
            FileType::Socket => return Ok(()),
            kind => rustix::fs::mknodat(to, name, kind, private, stat.st_rdev)?,
        }
        Ok(attributes(from, name, to, name, &stat)?)
    }
}

/// Owner first (it clears set-user-id and capabilities), then mode, extended attributes, and time last.
fn attributes(from: &OwnedFd, name: &OsStr, to: &OwnedFd, copy: &OsStr, stat: &Stat) -> std::result::Result<(), Errno> {
    inside::own(to, copy, stat.st_uid, stat.st_gid)?;
    if inside::kind(stat) != FileType::Symlink {
        inside::set_mode(to, copy, stat.st_mode & 0o7777)?;
    }
    for (key, value) in inside::xattrs(from, name)?.iter().filter(|(key, _)| !inside::is_overlays(key)) {
        match inside::set_xattr(to, copy, key, value) {
            // The volume may lie on a file system that has none.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    let time = |seconds: i64, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(to, copy, &times, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn bench() -> (tempfile::TempDir, OwnedFd, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let data = root.join("srv/data");
        fs::create_dir_all(data.join("below")).unwrap();
        fs::write(data.join("f"), "text").unwrap();
        fs::set_permissions(data.join("f"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::hard_link(data.join("f"), data.join("below/g")).unwrap();
        symlink("/etc/shadow", data.join("link")).unwrap();
        std::os::unix::fs::chown(data.join("f"), Some(5), Some(6)).unwrap();
        fs::set_permissions(data.join("f"), fs::Permissions::from_mode(0o4750)).unwrap();
        std::os::unix::fs::chown(&data, Some(7), Some(8)).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o711)).unwrap();
        rustix::fs::setxattr(data.join("f"), "trusted.berth", b"v", rustix::fs::XattrFlags::empty()).unwrap();
        symlink("/srv/data", root.join("alias")).unwrap();
        symlink(dir.path(), root.join("out")).unwrap();
        let volume = dir.path().join("volume/_data");
        fs::create_dir_all(&volume).unwrap();
        let root = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, root, volume)
    }

    fn check(volume: &Path) {
        let (f, g) = (fs::metadata(volume.join("f")).unwrap(), fs::metadata(volume.join("below/g")).unwrap());
        assert_eq!((f.uid(), f.gid(), f.mode() & 0o7777, f.ino()), (5, 6, 0o4750, g.ino()));
        assert_eq!(fs::read_to_string(volume.join("f")).unwrap(), "text");
        assert_eq!(fs::read_link(volume.join("link")).unwrap(), Path::new("/etc/shadow"));
        let top = fs::metadata(volume).unwrap();
        assert_eq!((top.uid(), top.gid(), top.mode() & 0o7777), (7, 8, 0o711));
        let mut value = [0; 8];
        assert_eq!(rustix::fs::getxattr(volume.join("f"), "trusted.berth", &mut value[..]).unwrap(), 1);
        assert_eq!(fs::read_dir(volume.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn an_empty_volume_is_filled_once() {
        let (_dir, root, volume) = bench();
        // The links of the image are followed inside it.
        assert!(fill(root.as_fd(), "/alias", &volume).unwrap());
        check(&volume);
        fs::write(volume.join("f"), "mine").unwrap();
        assert!(!fill(root.as_fd(), "/srv/data", &volume).unwrap());
        assert_eq!(fs::read_to_string(volume.join("f")).unwrap(), "mine");
    }

    #[test]
    fn nothing_to_copy() {
        let (_dir, root, volume) = bench();
        for target in ["/none", "/srv/data/f", "/out", "/out/root"] {
            assert!(!fill(root.as_fd(), target, &volume).unwrap(), "{target}");
        }
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    }

    #[test]
    fn a_crash_is_taken_up() {
        let (dir, root, volume) = bench();
        // While copying: begun anew.
        fs::create_dir(beside(&volume, ".half")).unwrap();
        fs::write(beside(&volume, ".half").join("junk"), "").unwrap();
        fill(root.as_fd(), "/srv/data", &volume).unwrap();
        check(&volume);
        // While moving in: the rest follows.
        let other = dir.path().join("other/_data");
        fs::create_dir_all(&other).unwrap();
        fill(root.as_fd(), "/srv/data", &other).unwrap();
        let ready = beside(&other, ".ready");
        fs::create_dir(&ready).unwrap();
        std::os::unix::fs::chown(&ready, Some(7), Some(8)).unwrap();
        fs::set_permissions(&ready, fs::Permissions::from_mode(0o711)).unwrap();
        fs::rename(other.join("below"), ready.join("below")).unwrap();
        fill(root.as_fd(), "/srv/data", &other).unwrap();
        check(&other);
    }
}
