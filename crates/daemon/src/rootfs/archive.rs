//! Copying in and out of a container (`cp`), running or not: every path is the container's, and none leads out of it.

use super::export::Packer;
use super::{inside, remove_tree};
use crate::container::MountPoint;
use crate::error::{Doing, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, makedev, openat2};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tar::{Archive, Entry, EntryType};

/// What a path is (header `X-Docker-Container-Path-Stat` of the Engine API).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathStat {
    /// Its last name.
    pub name: String,
    /// In bytes.
    pub size: i64,
    /// In the bits of Go's `os.FileMode`.
    pub mode: u32,
    /// When it was last changed.
    pub modified: SystemTime,
    /// Where a link leads in the end, absolute in the container; empty for anything else.
    pub link_target: String,
}

/// The files of one container.
pub struct Files {
    /// How the user called the container, for texts.
    container: String,
    root: OwnedFd,
    /// What is mounted where, for a root without mounts: the deepest places first.
    mounts: Vec<Mounted>,
    read_only: bool,
}

struct Mounted {
    target: PathBuf,
    source: PathBuf,
    read_only: bool,
}

/// An entry of an open directory.
struct Place {
    directory: OwnedFd,
    name: OsString,
}

/// How [`Files::put`] treats what it finds and brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// A directory is never replaced by something else, nor something else by a directory (`noOverwriteDirNonDir`).
    pub keep_kinds: bool,
    /// Everything belongs to this user and group (`copyUIDGID`: the container's user); otherwise to whom the archive says.
    pub owner: Option<(u32, u32)>,
}

impl Files {
    /// `root` is the container's file system: of a running container with all its mounts (`/proc/PID/root`), with `mounts`
    /// empty; otherwise the detached overlay, and `mounts` are the container's.
    pub fn new(container: &str, root: OwnedFd, mounts: &[MountPoint], read_only: bool) -> Files {
        let mut mounts: Vec<Mounted> = mounts
            .iter()
            .map(|mount| Mounted {
                target: inside::clean(Path::new(&mount.target)),
                source: mount.source.clone(),
                read_only: mount.read_only,
            })
            .collect();
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.target.components().count()));
        Files { container: container.to_owned(), root, mounts, read_only }
    }

    /// What a path is. A last link is followed if the path ends in `/` or `/.`.
    ///
    /// # Errors
    /// [`Error::NotFound`], `Could not find the file X in container Y`.
    pub fn stat(&self, path: &str) -> Result<PathStat> {
        let place = self.place(path)?;
        let stat = inside::stat(&place.directory, &place.name).map_err(|errno| self.failed(path, errno))?;
        let link_target = match inside::kind(&stat) {
            FileType::Symlink => self.link_end(path),
            _ => String::new(),
        };
        let name = inside::clean(Path::new(path));
        Ok(PathStat {
            name: name.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned()),
            size: stat.st_size,
            mode: go_mode(stat.st_mode),
            modified: modified(&stat),
            link_target,
        })
    }

    /// Writes a path as a tar archive whose entries begin with its last name; the root's have no beginning.
    ///
    /// # Errors
    /// As [`Files::stat`]; a fault when something cannot be read or written.
    pub fn get(&self, path: &str, out: impl Write) -> Result<()> {
        let place = self.place(path)?;
        let shown = inside::clean(Path::new(path));
        let shown = shown.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
        let mut packer = Packer::new(out);
        let doing = || format!("copy {path} from the container {}", self.container);
        packer.tree(&place.directory, &place.name, &shown).doing(doing())?;
        packer.finish().doing(doing())?.flush().doing(doing())
    }

    /// Unpacks a tar archive into a directory.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the directory, [`Error::Forbidden`] where it is read-only, [`Error::Invalid`] for an
    /// archive that is none, that leads out, or that would replace a directory; what came before in the archive is there then.
    pub fn put(&self, path: &str, archive: impl Read, how: Put) -> Result<()> {
        let (base, below, read_only) = self.base(path)?;
        if read_only {
            let what = if self.at_mount(path) { "mounted volume" } else { "container rootfs" };
            return Err(Error::Forbidden(format!("{what} is marked read-only")));
        }
        let top = match inside::directory(base.as_fd(), &below) {
            Ok(_) => below,
            Err(Errno::NOTDIR) => return Err(Error::Invalid("extraction point is not a directory".into())),
            Err(errno) => return Err(self.failed(path, errno)),
        };
        let mut times = Vec::new();
        let mut archive = Archive::new(archive);
        let broken = |error: io::Error| Error::Invalid(format!("unpack into {path}: the archive is broken: {error}"));
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let within = entry_path(&entry)?;
            Unpack { base: &base, top: &top, how }
                .entry(&mut entry, &within, &mut times)
                .map_err(|failure| failure.on(&within))?;
        }
        // Directories last, for what was put into them changed their time.
        for (place, time) in times {
            set_time(&place, time).doing(format_args!("unpack into {path}"))?;
        }
        Ok(())
    }

    fn failed(&self, path: &str, errno: Errno) -> Error {
        match errno {
            Errno::NOENT | Errno::NOTDIR => {
                Error::NotFound(format!("Could not find the file {path} in container {}", self.container))
            }
            errno => Error::Fault(format!("open {path} in container {}: {errno}", self.container)),
        }
    }

    fn mounted(&self, clean: &Path) -> Option<&Mounted> {
        self.mounts.iter().find(|mount| clean.starts_with(&mount.target))
    }

    fn at_mount(&self, path: &str) -> bool {
        self.mounted(&inside::clean(Path::new(path))).is_some()
    }

    /// The root below which a path is resolved, the path below it, and whether nothing may be written there.
    fn base(&self, path: &str) -> Result<(OwnedFd, PathBuf, bool)> {
        let clean = inside::clean(Path::new(path));
        let doing = || format!("open {path} in container {}", self.container);
        let Some(mount) = self.mounted(&clean) else {
            return Ok((self.root.try_clone().doing(doing())?, clean, self.read_only));
        };
        let below = clean.strip_prefix(&mount.target).unwrap_or(Path::new("")).to_owned();
        let source = std::fs::canonicalize(&mount.source).doing(doing())?;
        if !source.is_dir() {
            // A mounted file: its directory is not the container's, so nothing but its name may be looked up there.
            if !below.as_os_str().is_empty() {
                return Err(self.failed(path, Errno::NOTDIR));
            }
            let name = source.file_name().map(PathBuf::from).unwrap_or_default();
            let holder = open_root(source.parent().unwrap_or(Path::new("/"))).doing(doing())?;
            return Ok((holder, name, mount.read_only));
        }
        Ok((open_root(&source).doing(doing())?, below, mount.read_only))
    }

    fn place(&self, path: &str) -> Result<Place> {
        let (base, below, _) = self.base(path)?;
        let through = path.ends_with('/') || path.ends_with("/.");
        let found = if through {
            inside::directory(base.as_fd(), &below).map(|directory| Place { directory, name: ".".into() })
        } else {
            inside::holder(base.as_fd(), &below).and_then(|holder| match holder {
                Some((directory, name)) => Ok(Place { directory, name }),
                None => Ok(Place { directory: inside::directory(base.as_fd(), Path::new(""))?, name: ".".into() }),
            })
        };
        let place = found.map_err(|errno| self.failed(path, errno))?;
        inside::stat(&place.directory, &place.name).map_err(|errno| self.failed(path, errno))?;
        Ok(place)
    }

    /// Where a chain of links ends; what is not there ends it too.
    fn link_end(&self, path: &str) -> String {
        let mut at = inside::clean(Path::new(path));
        for _ in 0..40 {
            let Ok(place) = self.place(&inside::shown(&at)) else { break };
            let Ok(target) = inside::link_target(&place.directory, &place.name) else { break };
            let from =
                if Path::new(&target).is_absolute() { Path::new("") } else { at.parent().unwrap_or(Path::new("")) };
            at = inside::clean(&from.join(Path::new(&target)));
        }
        inside::shown(&at)
    }
}

fn open_root(path: &Path) -> std::result::Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The bits of Go's `os.FileMode`, which the header's readers know.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let bit = |ours: u32, theirs: u32| if mode & ours != 0 { 1 << theirs } else { 0 };
    kind | bit(0o4000, 23) | bit(0o2000, 22) | bit(0o1000, 20) | mode & 0o777
}

fn modified(stat: &Stat) -> SystemTime {
    match u64::try_from(stat.st_mtime) {
        Ok(seconds) => UNIX_EPOCH + Duration::new(seconds, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        Err(_) => UNIX_EPOCH,
    }
}

/// An entry's path, which must stay below where it is unpacked.
fn entry_path(entry: &Entry<impl Read>) -> Result<PathBuf> {
    let bytes = entry.path_bytes();
    confined(&bytes).ok_or_else(|| {
        Error::Invalid(format!(
            "invalid archive entry {:?}: it leads out of the extraction point",
            String::from_utf8_lossy(&bytes)
        ))
    })
}

/// A path of an archive without `.` and leading slashes; `None` with a `..` in it.
fn confined(bytes: &[u8]) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(bytes));
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    (!climbs && !bytes.contains(&0)).then(|| inside::clean(path))
}

/// Why an entry was not unpacked.
enum Failure {
    Refused(String),
    Kernel(Errno),
    Io(io::Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Kernel(errno)
    }
}

impl Failure {
    fn on(self, path: &Path) -> Error {
        let path = path.display();
        match self {
            Failure::Refused(text) => Error::Invalid(text),
            Failure::Kernel(errno) => Error::Fault(format!("unpack {path}: {errno}")),
            Failure::Io(error) if error.raw_os_error().is_none() => {
                Error::Invalid(format!("unpack {path}: the archive is broken: {error}"))
            }
            Failure::Io(error) => Error::Fault(format!("unpack {path}: {error}")),
        }
    }
}

struct Unpack<'a> {
    base: &'a OwnedFd,
    top: &'a Path,
    how: Put,
}

impl Unpack<'_> {
    fn entry(
        &self,
        entry: &mut Entry<impl Read>,
        path: &Path,
        times: &mut Vec<(Place, i64)>,
    ) -> std::result::Result<(), Failure> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let is_directory = kind == EntryType::Directory;
        let Some(name) = path.file_name() else {
            // The extraction point itself: its attributes, if it is told as a directory.
            if is_directory {
                let directory = inside::directory(self.base.as_fd(), self.top)?;
                self.finish(entry, Place { directory, name: ".".into() }, times)?;
            }
            return Ok(());
        };
        let holder = self.top.join(path.parent().unwrap_or(Path::new("")));
        let (uid, gid) = self.how.owner.unwrap_or((0, 0));
        let directory = inside::make_directories(self.base.as_fd(), &holder, uid, gid, 0o755)?;
        let place = Place { directory, name: name.to_owned() };
        self.make_room(&place, path, is_directory)?;
        self.make(entry, kind, &place)?;
        if kind != EntryType::Link {
            self.finish(entry, place, times)?;
        }
        Ok(())
    }

    /// Takes away what stands in the way.
    fn make_room(&self, place: &Place, path: &Path, is_directory: bool) -> std::result::Result<(), Failure> {
        let there = match inside::stat(&place.directory, &place.name) {
            Err(Errno::NOENT) => return Ok(()),
            result => inside::kind(&result?) == FileType::Directory,
        };
        if there && is_directory {
            return Ok(());
        }
        let shown = inside::shown(&self.top.join(path));
        match (self.how.keep_kinds, there) {
            (true, true) => Err(Failure::Refused(format!(
                "cannot overwrite directory \"{shown}\" with non-directory \"{}\"",
                path.display()
            ))),
            (true, false) if is_directory => Err(Failure::Refused(format!(
                "cannot overwrite non-directory \"{shown}\" with directory \"{}\"",
                path.display()
            ))),
            (_, true) => Ok(remove_tree(&inside::by_proc(&place.directory, &place.name))?),
            (_, false) => Ok(rustix::fs::unlinkat(&place.directory, &place.name, AtFlags::empty())?),
        }
    }

    fn make(&self, entry: &mut Entry<impl Read>, kind: EntryType, place: &Place) -> std::result::Result<(), Failure> {
        let (at, name) = (&place.directory, &place.name);
        let private = Mode::from_raw_mode(0o600);
        match kind {
            EntryType::Directory => match rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(errno) => Err(errno.into()),
            },
            EntryType::Symlink => Ok(rustix::fs::symlinkat(link_name(entry)?, at, name)?),
            EntryType::Link => {
                let bytes = link_name(entry)?;
                let to = confined(bytes.as_bytes()).ok_or_else(|| {
                    Failure::Refused(format!("invalid archive entry {bytes:?}: it leads out of the extraction point"))
                })?;
                match inside::holder(self.base.as_fd(), &self.top.join(to))? {
                    Some((holder, target)) => Ok(rustix::fs::linkat(holder, target, at, name, AtFlags::empty())?),
                    None => Err(Errno::ISDIR.into()),
                }
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let header = entry.header();
                let number = |field: io::Result<Option<u32>>| field.map(|n| n.unwrap_or(0)).map_err(Failure::Io);
                let device = match kind {
                    EntryType::Fifo => 0,
                    _ => makedev(number(header.device_major())?, number(header.device_minor())?),
                };
                let kind = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                Ok(rustix::fs::mknodat(at, name, kind, private, device)?)
            }
            kind if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                let file = openat2(at, name, flags, private, resolve)?;
                io::copy(entry, &mut File::from(file)).map(|_| ()).map_err(Failure::Io)
            }
            other => {
                Err(Failure::Refused(format!("archive entry {name:?} is of a kind that cannot be unpacked: {other:?}")))
            }
        }
    }

    /// Owner first (it clears set-user-id and capabilities), then mode, extended attributes and time.
    fn finish(
        &self,
        entry: &mut Entry<impl Read>,
        place: Place,
        times: &mut Vec<(Place, i64)>,
    ) -> std::result::Result<(), Failure> {
        let header = entry.header();
        let kind = header.entry_type();
        let id = |field: io::Result<u64>| {
            let id = field.map_err(Failure::Io)?;
            u32::try_from(id)
                .map_err(|_| Failure::Refused(format!("archive entry {:?}: no user or group {id}", place.name)))
        };
        let (uid, gid) = match self.how.owner {
            Some(owner) => owner,
            None => (id(header.uid())?, id(header.gid())?),
        };
        let mode = header.mode().map_err(Failure::Io)? & 0o7777;
        let time = i64::try_from(header.mtime().map_err(Failure::Io)?).unwrap_or(0);
        inside::own(&place.directory, &place.name, uid, gid)?;
        if kind != EntryType::Symlink {
            inside::set_mode(&place.directory, &place.name, mode)?;
        }
        for (key, value) in attributes(entry)? {
            match inside::set_xattr(&place.directory, &place.name, &key, &value) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        match kind {
            EntryType::Directory => times.push((place, time)),
            _ => set_time(&place, time)?,
        }
        Ok(())
    }
}

fn link_name(entry: &Entry<impl Read>) -> std::result::Result<OsString, Failure> {
    match entry.link_name_bytes() {
        Some(bytes) if !bytes.contains(&0) => Ok(OsString::from_vec(bytes.into_owned())),
        _ => Err(Failure::Refused("archive entry without the target of its link".into())),
    }
}

/// Extended attributes (pax, `SCHILY.xattr.`); never such as describe layers.
fn attributes(entry: &mut Entry<impl Read>) -> std::result::Result<Vec<(OsString, Vec<u8>)>, Failure> {
    let mut found = Vec::new();
    let Some(records) = entry.pax_extensions().map_err(Failure::Io)? else { return Ok(found) };
    for record in records {
        let record = record.map_err(Failure::Io)?;
        let key = record.key_bytes();
        if let Some(key) = key.strip_prefix(b"SCHILY.xattr.") {
            let key = OsStr::from_bytes(key).to_owned();
            if !inside::is_overlays(&key) {
                found.push((key, record.value_bytes().to_vec()));
            }
        }
    }
    Ok(found)
}

fn set_time(place: &Place, seconds: i64) -> std::result::Result<(), Errno> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(&place.directory, &place.name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
