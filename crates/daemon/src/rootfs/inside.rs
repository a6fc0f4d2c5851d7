//! Paths inside a container's root file system, where every link is the image's or the container's word and none may lead
//! out: all are resolved by the kernel below one directory (openat2(2), `RESOLVE_IN_ROOT`).

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Opens a path below `root`, following links as a process would whose root that is.
///
/// # Errors
/// The kernel's.
pub fn open(root: BorrowedFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    loop {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            // Something was renamed while the kernel walked past a `..`: it asks us to try again.
            Err(Errno::AGAIN) => continue,
            result => return result,
        }
    }
}

/// Opens a directory for listing and as the start of further paths.
///
/// # Errors
/// The kernel's.
pub fn directory(root: BorrowedFd, path: &Path) -> Result<OwnedFd, Errno> {
    open(root, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// The directory that holds a path, links followed, and the last name, not followed. `None` for the root itself.
///
/// # Errors
/// The kernel's.
pub fn holder(root: BorrowedFd, path: &Path) -> Result<Option<(OwnedFd, OsString)>, Errno> {
    let clean = clean(path);
    let Some(name) = clean.file_name() else { return Ok(None) };
    let parent = clean.parent().unwrap_or(Path::new(""));
    Ok(Some((directory(root, parent)?, name.to_owned())))
}

/// A path without `.`, `..` and leading slashes, as its words stand: `..` takes away the name before it, and nothing above
/// the root.
pub fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => clean.push(name),
            std::path::Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

/// What an entry of a directory is, not following it.
///
/// # Errors
/// The kernel's.
pub fn stat(directory: impl AsFd, name: &OsStr) -> Result<Stat, Errno> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The kind of a file.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Where a link points.
///
/// # Errors
/// The kernel's.
pub fn link_target(directory: impl AsFd, name: &OsStr) -> Result<OsString, Errno> {
    Ok(OsString::from_vec(readlinkat(directory, name, Vec::new())?.into_bytes()))
}

/// The names in an open directory, sorted, without `.` and `..`.
///
/// # Errors
/// The kernel's.
pub fn names(directory: impl AsFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    let mut entries = rustix::fs::Dir::read_from(directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// A path by which calls without an `…at` form reach an entry, whatever kind it is: the last name is never followed by the
/// `l…xattr` family.
pub fn by_proc(directory: impl AsFd, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd())).join(name)
}

/// The extended attributes of an entry; none where the file system has none.
///
/// # Errors
/// The kernel's.
pub fn xattrs(directory: impl AsFd, name: &OsStr) -> Result<Vec<(OsString, Vec<u8>)>, Errno> {
    let path = by_proc(directory, name);
    let list = match sized(|buffer| rustix::fs::llistxattr(&path, buffer)) {
        Ok(list) => list,
        Err(Errno::OPNOTSUPP | Errno::PERM) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        match sized(|buffer| rustix::fs::lgetxattr(&path, name, buffer)) {
            Ok(value) => found.push((name.to_owned(), value)),
            // Removed meanwhile, or one that only shows itself in the list.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort();
    Ok(found)
}

/// Sets an extended attribute of an entry, not following it.
///
/// # Errors
/// The kernel's.
pub fn set_xattr(directory: impl AsFd, name: &OsStr, key: &OsStr, value: &[u8]) -> Result<(), Errno> {
    rustix::fs::lsetxattr(by_proc(directory, name), key, value, rustix::fs::XattrFlags::empty())
}

/// Attributes of the overlay file system itself, which describe layers and not files.
pub fn is_overlays(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Calls with a growing buffer until all fits (at most the kernel's 64 KiB).
fn sized(mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 1 << 17 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}

/// Makes a directory and those above it that are missing, each with this owner and mode; those that are there stay as they
/// are. Links on the way are followed below `root`.
///
/// # Errors
/// The kernel's; `NOTDIR` when something else stands in the way.
pub fn make_directories(root: BorrowedFd, path: &Path, uid: u32, gid: u32, mode: u32) -> Result<OwnedFd, Errno> {
    let mut so_far = PathBuf::new();
    let mut at = directory(root, Path::new(""))?;
    for name in clean(path).iter() {
        so_far.push(name);
        at = match directory(root, &so_far) {
            Ok(next) => next,
            Err(Errno::NOENT) => {
                make_directory(&at, name, uid, gid, mode)?;
                directory(root, &so_far)?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(at)
}

/// Makes one directory, whatever the engine's umask; one that is there already is fine.
fn make_directory(parent: &OwnedFd, name: &OsStr, uid: u32, gid: u32, mode: u32) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
        Err(Errno::EXIST) => return Ok(()),
        result => result?,
    }
    own(parent, name, uid, gid)?;
    set_mode(parent, name, mode)
}

/// Sets the mode of an entry that is no link. `chmodat` would follow one that a running container puts there at the last
/// moment, out into the host; so the entry itself is held first.
///
/// # Errors
/// The kernel's; `OPNOTSUPP` for a link.
pub fn set_mode(directory: impl AsFd, name: &OsStr, mode: u32) -> Result<(), Errno> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    let held = openat2(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), Mode::from_raw_mode(mode))
}

/// Sets the owner of an entry, not following it.
///
/// # Errors
/// The kernel's.
pub fn own(directory: impl AsFd, name: &OsStr, uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// A path for people.
pub fn shown(path: &Path) -> String {
    format!("/{}", clean(path).display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root(directory: &Path) -> OwnedFd {
        rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", dir.path().join("absolute")).unwrap();
        symlink("../../../../../../etc/passwd", dir.path().join("etc/climbing")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let root = root(dir.path());
        for path in ["absolute", "/absolute", "etc/climbing", "../../etc/passwd"] {
            let file = open(root.as_fd(), Path::new(path), OFlags::RDONLY, Mode::empty()).unwrap();
            assert_eq!(std::io::read_to_string(fs::File::from(file)).unwrap(), "inside", "{path}");
        }
        assert_eq!(open(root.as_fd(), Path::new("loop"), OFlags::RDONLY, Mode::empty()).unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn directories_are_made_inside() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(elsewhere.path(), dir.path().join("out")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let root = root(dir.path());
        make_directories(root.as_fd(), Path::new("/a/./b/../b/c"), 3, 4, 0o755).unwrap();
        let made = stat(root.as_fd(), OsStr::new("a/b/c")).unwrap();
        assert_eq!((made.st_uid, made.st_gid, made.st_mode & 0o7777), (3, 4, 0o755));
        // The link leads to a place that is not there below the root; it is not made outside.
        assert_eq!(make_directories(root.as_fd(), Path::new("/out/x"), 0, 0, 0o755).unwrap_err(), Errno::NOENT);
        assert_eq!(make_directories(root.as_fd(), Path::new("/file/x"), 0, 0, 0o755).unwrap_err(), Errno::NOTDIR);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_mode_is_set_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("victim"), "").unwrap();
        symlink("victim", dir.path().join("link")).unwrap();
        let root = root(dir.path());
        let mode = || stat(&root, OsStr::new("victim")).unwrap().st_mode & 0o7777;
        let before = mode();
        assert_eq!(set_mode(&root, OsStr::new("link"), 0o4777).unwrap_err(), Errno::OPNOTSUPP);
        assert_eq!(mode(), before);
        set_mode(&root, OsStr::new("victim"), 0o4711).unwrap();
        assert_eq!(mode(), 0o4711);
    }

    #[test]
    fn long_attributes_are_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "").unwrap();
        let root = directory(root(dir.path()).as_fd(), Path::new("")).unwrap();
        let (name, key) = (OsStr::new("f"), OsStr::new("trusted.long"));
        set_xattr(&root, name, key, &[7; 1500]).unwrap();
        assert_eq!(xattrs(&root, name).unwrap(), [(key.to_owned(), vec![7; 1500])]);
    }
}
