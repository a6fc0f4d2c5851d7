//! File operations that cannot leave a directory.
//!
//! Every directory is reached by `openat2` with `RESOLVE_IN_ROOT` (openat2(2)): the kernel itself keeps `..`, absolute links
//! and links planted a moment ago inside. The last component is never followed.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Doing, Result};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a directory of the host, by a path that is trusted.
pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty()).doing(|| format!("opening {}", path.display()))
}

/// A directory that nothing leaves.
pub(crate) struct Root<'a> {
    fd: BorrowedFd<'a>,
    /// The directory used last: archives list a directory's files one after another.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
}

impl<'a> Root<'a> {
    pub fn new(fd: BorrowedFd<'a>) -> Self {
        Root { fd, last: None }
    }

    /// Opens a directory inside, following links inside. The empty path is the root itself.
    pub fn dir(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(fd));
        }
        let fd = Rc::new(open_in(self.fd, path, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)?);
        self.last = Some((path.to_vec(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// Opens a directory inside; makes it and what is missing above it, as root's, mode 0755.
    pub fn dir_or_make(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        match self.dir(path) {
            Err(Errno::NOENT) if !path.is_empty() => {}
            other => return other,
        }
        // From the top down, without recursion: a path may have two thousand components.
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let (parent, name) = split(&path[..end]);
            let parent = self.dir(parent)?;
            match rustix::fs::mkdirat(&*parent, OsStr::from_bytes(name), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
        self.dir(path)
    }

    /// Must be called when a directory was taken away.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

/// Opens a directory below `root` without following any link.
pub(crate) fn open_plain(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    open_in(root, path, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS)
}

fn open_in(root: BorrowedFd<'_>, path: &[u8], resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = OsStr::from_bytes(if path.is_empty() { b"." } else { path });
    loop {
        match rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), resolve) {
            // The kernel asks to try again when anything on the system was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Splits the last component off.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Joins two relative paths, either of which may be empty.
pub(crate) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// A name in an open directory as a path, for the calls (extended attributes) that have no `*at` form.
pub(crate) fn through_proc(dir: &OwnedFd, name: &[u8]) -> PathBuf {
    Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(OsStr::from_bytes(name))
}

/// What stands at a name, links not followed.
pub(crate) fn stat(dir: &OwnedFd, name: &[u8]) -> Result<Option<rustix::fs::Stat>, Errno> {
    match rustix::fs::statat(dir, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a directory, sorted, without `.` and `..`.
pub(crate) fn names(dir: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

/// Removes a name whatever it is, with everything below.
///
/// Directories that are not empty are first moved up next to `name`'s siblings, so neither the depth of a hostile tree nor the
/// length of its paths matters: one descriptor at a time, no recursion.
pub(crate) fn remove(dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, OsStr::from_bytes(name), AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let mut pending = vec![name.to_vec()];
    let mut moved = 0_u64;
    while let Some(next) = pending.pop() {
        let inside = open_in(
            std::os::fd::AsFd::as_fd(dir),
            &next,
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
        )?;
        for child in names(&inside)? {
            let child = OsStr::from_bytes(&child);
            match rustix::fs::unlinkat(&inside, child, AtFlags::empty()) {
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(error),
                Ok(()) => continue,
            }
            match rustix::fs::unlinkat(&inside, child, AtFlags::REMOVEDIR) {
                Ok(()) => continue,
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            loop {
                moved += 1;
                let place = format!(".removing-{}-{moved}", std::process::id()).into_bytes();
                let flags = rustix::fs::RenameFlags::NOREPLACE;
                match rustix::fs::renameat_with(&inside, child, dir, OsStr::from_bytes(&place), flags) {
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                    Ok(()) => {
                        pending.push(place);
                        break;
                    }
                }
            }
        }
        rustix::fs::unlinkat(dir, OsStr::from_bytes(&next), AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Whether a status is of this type.
pub(crate) fn is(stat: &rustix::fs::Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

/// Overlayfs' mark of a name that hides the one below: a character device 0:0 (kernel's overlayfs.rst, "whiteouts").
pub(crate) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    is(stat, FileType::CharacterDevice) && stat.st_rdev == 0
}

/// Overlayfs' mark of a directory that hides the one below.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// Whether a directory hides the one below.
pub(crate) fn is_opaque(dir: &OwnedFd) -> Result<bool, Errno> {
    let mut value = [0; 4];
    match rustix::fs::fgetxattr(dir, OPAQUE, &mut value[..]) {
        Ok(n) => Ok(n == 1 && value[0] == b'y'),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
}
