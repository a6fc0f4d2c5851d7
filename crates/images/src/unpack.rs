//! Unpacks a layer's tar stream into a directory, in the form that overlayfs mounts.
//!
//! OCI whiteouts (image-spec layer.md: `.wh.NAME`, `.wh..wh.opq`) become overlayfs' own marks. Nothing is ever written outside
//! the directory (see [`crate::rooted`]), and one refused entry fails the whole layer.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::error::{Doing, Error, Refusal, Result, bad_entry};
use crate::limits::Limits;
use crate::rooted::{self, OPAQUE, Root};
use crate::tarstream::{Entry, Kind, TarStream};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh.opq";

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unpacked {
    pub entries: u64,
    /// Sum of the files' lengths, as Docker counts an image's size.
    pub bytes: u64,
}

/// Unpacks the stream below `dir`, which must be empty and used by nobody else. Gives the reader back at the archive's end.
pub(crate) fn unpack<R: Read>(reader: R, dir: BorrowedFd<'_>, limits: &Limits) -> Result<(Unpacked, R)> {
    let mut unpacker = Unpacker { root: Root::new(dir), limits, dir_times: Vec::new(), done: Unpacked::default() };
    let mut stream = TarStream::new(reader);
    while let Some(entry) = stream.next_entry()? {
        unpacker.entry(&entry, &mut stream)?;
    }
    unpacker.finish()?;
    Ok((unpacker.done, stream.into_inner()))
}

struct Unpacker<'a> {
    root: Root<'a>,
    limits: &'a Limits,
    /// Set at the end: writing into a directory moves its times.
    dir_times: Vec<(Vec<u8>, Timestamps)>,
    done: Unpacked,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, stream: &mut TarStream<R>) -> Result<()> {
        self.count(entry)?;
        let path = normal(&entry.path, self.limits.path_bytes)?;
        if path.is_empty() {
            return match entry.kind {
                Kind::Dir => self.top(entry),
                _ => Err(bad_entry(&entry.path, "only a directory can be the layer's root")),
            };
        }
        let (parent, name) = rooted::split(&path);
        let at = |error| self::at(&entry.path, error);
        let dir = self.root.dir_or_make(parent).map_err(at)?;
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return whiteout(&dir, name, hidden, &entry.path);
        }
        let mut replaces_whiteout = false;
        if let Some(old) = rooted::stat(&dir, name).map_err(at)? {
            if entry.kind == Kind::Dir && rooted::is(&old, FileType::Directory) {
                return self.metadata(entry, &dir, name, &path);
            }
            replaces_whiteout = rooted::is_whiteout(&old);
            rooted::remove(&dir, name).map_err(at)?;
            self.root.forget();
        }
        let os = OsStr::from_bytes(name);
        match entry.kind {
            Kind::File => self.file(entry, &dir, name, stream)?,
            Kind::Dir => {
                rustix::fs::mkdirat(&*dir, os, Mode::RWXU).map_err(at)?;
                if replaces_whiteout {
                    // The archive hid the old directory and brings a new one: the old content stays hidden.
                    mark_opaque(&dir, name).map_err(at)?;
                }
            }
            Kind::Symlink if entry.link.is_empty() => return Err(bad_entry(&entry.path, "a symbolic link to nothing")),
            Kind::Symlink => rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), &*dir, os).map_err(at)?,
            // Owner, mode and times are those of the file that it links to.
            Kind::Hardlink => return self.hardlink(entry, &dir, name),
            Kind::Char if entry.dev == (0, 0) => {
                return Err(bad_entry(
                    &entry.path,
                    "a character device 0:0 is overlayfs' own mark; layers use .wh. names",
                ));
            }
            Kind::Char => self.node(entry, &dir, os, FileType::CharacterDevice)?,
            Kind::Block => self.node(entry, &dir, os, FileType::BlockDevice)?,
            Kind::Fifo => self.node(entry, &dir, os, FileType::Fifo)?,
        }
        self.metadata(entry, &dir, name, &path)
    }

    fn count(&mut self, entry: &Entry) -> Result<()> {
        self.done.entries += 1;
        if self.done.entries > self.limits.entries {
            let limit = format!("{} entries", self.limits.entries);
            return Err(Refusal::OverLimit { what: "the archive's number of entries".to_owned(), limit }.into());
        }
        self.done.bytes = self.done.bytes.saturating_add(entry.size);
        if self.done.bytes > self.limits.layer_bytes {
            let what = format!("the layer with its entry `{}`", String::from_utf8_lossy(&entry.path));
            let limit = format!("{} bytes", self.limits.layer_bytes);
            return Err(Refusal::OverLimit { what, limit }.into());
        }
        Ok(())
    }

    fn file<R: Read>(&self, entry: &Entry, dir: &OwnedFd, name: &[u8], stream: &mut TarStream<R>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, OsStr::from_bytes(name), flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(fd.map_err(|error| at(&entry.path, error))?);
        let writing = || format!("unpacking `{}`", String::from_utf8_lossy(&entry.path));
        match &entry.sparse {
            None => drop(std::io::copy(stream, &mut file).doing(writing)?),
            Some(pieces) => {
                for (offset, length) in pieces {
                    file.seek(SeekFrom::Start(*offset)).doing(writing)?;
                    std::io::copy(&mut stream.by_ref().take(*length), &mut file).doing(writing)?;
                }
                file.flush().and_then(|()| file.set_len(entry.size)).doing(writing)?;
            }
        }
        Ok(())
    }

    fn hardlink(&mut self, entry: &Entry, dir: &OwnedFd, name: &[u8]) -> Result<()> {
        let target = normal(&entry.link, self.limits.path_bytes)?;
        let shown = String::from_utf8_lossy(&entry.link);
        let (parent, last) = rooted::split(&target);
        if last.is_empty() || last.starts_with(WHITEOUT) {
            return Err(bad_entry(&entry.path, format!("a hard link to `{shown}`, which is no file of the layer")));
        }
        let missing = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
                bad_entry(&entry.path, format!("a hard link to `{shown}`, which the layer does not hold"))
            }
            Errno::PERM | Errno::ISDIR => bad_entry(&entry.path, format!("a hard link to `{shown}`, which is no file")),
            other => at(&entry.path, other),
        };
        let from = self.root.dir(parent).map_err(missing)?;
        match rooted::stat(&from, last).map_err(missing)? {
            // A link to one of our whiteouts would be a whiteout more.
            Some(stat) if rooted::is_whiteout(&stat) => return Err(missing(Errno::NOENT)),
            _ => {}
        }
        rustix::fs::linkat(&*from, OsStr::from_bytes(last), dir, OsStr::from_bytes(name), AtFlags::empty())
            .map_err(missing)
    }

    fn node(&self, entry: &Entry, dir: &OwnedFd, name: &OsStr, kind: FileType) -> Result<()> {
        let dev = rustix::fs::makedev(entry.dev.0, entry.dev.1);
        rustix::fs::mknodat(dir, name, kind, Mode::RUSR, dev).map_err(|error| at(&entry.path, error))
    }

    /// The entry for the layer's root itself. Its times are set like those of any directory.
    fn top(&mut self, entry: &Entry) -> Result<()> {
        let dir = self.root.dir(b"").map_err(|error| at(&entry.path, error))?;
        self.metadata(entry, &dir, b".", b"")
    }

    /// Owner before mode (chown clears setuid), both before the attributes (chown drops security.capability), times last.
    fn metadata(&mut self, entry: &Entry, dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<()> {
        let at = |error| self::at(&entry.path, error);
        let os = OsStr::from_bytes(name);
        // The highest value means "leave it" to chown.
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(entry.uid), id(entry.gid)) else {
            return Err(bad_entry(&entry.path, format!("owner {}:{} is not a user and group", entry.uid, entry.gid)));
        };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(dir, os, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(at)?;
        if entry.kind != Kind::Symlink {
            rustix::fs::chmodat(dir, os, Mode::from_raw_mode(entry.mode), AtFlags::empty()).map_err(at)?;
        }
        for (key, value) in &entry.xattrs {
            // Overlayfs' own attributes could redirect a directory elsewhere in the image: layers may not bring them.
            if key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.") {
                continue;
            }
            let set = rustix::fs::lsetxattr(
                rooted::through_proc(dir, name),
                OsStr::from_bytes(key),
                value,
                XattrFlags::empty(),
            );
            match set {
                // The file system has no such attributes (selinux's without selinux, user's on links).
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(Errno::PERM) if entry.kind == Kind::Symlink => {}
                Err(error) => {
                    let key = String::from_utf8_lossy(key).into_owned();
                    return Err(bad_entry(&entry.path, format!("its extended attribute {key} cannot be set: {error}")));
                }
            }
        }
        let spec = |(seconds, nanos): (i64, u32)| Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
        let times =
            Timestamps { last_access: spec(entry.atime.unwrap_or(entry.mtime)), last_modification: spec(entry.mtime) };
        if entry.kind == Kind::Dir {
            self.dir_times.push((path.to_vec(), times));
            return Ok(());
        }
        rustix::fs::utimensat(dir, os, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(at)
    }

    fn finish(&mut self) -> Result<()> {
        for (path, times) in std::mem::take(&mut self.dir_times) {
            match self.root.dir(&path) {
                Ok(dir) => rustix::fs::futimens(&*dir, &times).map_err(|error| at(&path, error))?,
                // A later entry took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(at(&path, error)),
            }
        }
        Ok(())
    }
}

/// Turns `.wh.NAME` and `.wh..wh.opq` into overlayfs' marks. A mark speaks of the layers below only.
fn whiteout(dir: &OwnedFd, name: &[u8], hidden: &[u8], path: &[u8]) -> Result<()> {
    let at = |error| self::at(path, error);
    if name == OPAQUE_MARK {
        return rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty()).map_err(at);
    }
    if hidden.starts_with(WHITEOUT) {
        // Aufs' own bookkeeping (.wh..wh.plnk, .wh..wh.aufs), in images of the first years.
        return Ok(());
    }
    if hidden.is_empty() || hidden == b"." || hidden == b".." {
        return Err(bad_entry(path, "a whiteout of nothing"));
    }
    match rooted::stat(dir, hidden).map_err(at)? {
        None => {
            let os = OsStr::from_bytes(hidden);
            rustix::fs::mknodat(dir, os, FileType::CharacterDevice, Mode::empty(), 0).map_err(at)
        }
        Some(stat) if rooted::is(&stat, FileType::Directory) => mark_opaque(dir, hidden).map_err(at),
        // The layer brings its own file of that name, which hides the one below anyway.
        Some(_) => Ok(()),
    }
}

fn mark_opaque(dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::lsetxattr(rooted::through_proc(dir, name), OPAQUE, b"y", XattrFlags::empty())
}

/// A relative path without empty and `.` components. An absolute one is taken from the layer's root.
fn normal(path: &[u8], bound: usize) -> Result<Vec<u8>> {
    if path.len() > bound {
        return Err(bad_entry(path, format!("its path of {} bytes is over the limit of {bound}", path.len())));
    }
    let mut parts = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(bad_entry(path, "`..` in a path would leave the layer")),
            part if part.len() > 255 => return Err(bad_entry(path, "a name of more than 255 bytes")),
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

/// Errors that an entry's own form provokes are its refusal; the others are this machine's.
fn at(path: &[u8], error: Errno) -> Error {
    match error {
        Errno::LOOP => bad_entry(path, "its directory is a loop of symbolic links"),
        Errno::NOTDIR => bad_entry(path, "its directory is a file of the same layer"),
        Errno::NOENT => bad_entry(path, "its directory is a symbolic link that leads nowhere"),
        Errno::NAMETOOLONG => bad_entry(path, "its path is too long for this kernel"),
        Errno::INVAL => bad_entry(path, "this kernel does not take its name or numbers"),
        other => Error::Io { doing: format!("unpacking `{}`", String::from_utf8_lossy(path)), source: other.into() },
    }
}
