//! Files as entries of a tar archive, and the whole file system as one (`export`).

use super::inside;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, major, minor, openat2};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// A container can nest directories without end; an archive of them would help nobody.
const DEEPEST: usize = 1000;

/// Writes a whole root file system as a tar archive. Other mounts in it, which belong to the container's run and not to its
/// files, are empty files and directories.
///
/// # Errors
/// The kernel's or the writer's.
pub fn export(root: BorrowedFd, out: impl Write) -> io::Result<()> {
    let mut packer = Packer::new(out);
    let top = inside::directory(root, Path::new(""))?;
    for name in inside::names(&top)? {
        packer.tree(&top, &name, Path::new(&name))?;
    }
    packer.finish().map(|_| ())
}

/// A directory whose content is being added.
struct Level {
    directory: OwnedFd,
    rest: std::vec::IntoIter<OsString>,
    shown: PathBuf,
}

/// A tar archive in the making.
pub struct Packer<W: Write> {
    tar: Builder<W>,
    /// The first name of each file that has several.
    links: BTreeMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    /// An empty one.
    pub fn new(out: W) -> Packer<W> {
        Packer { tar: Builder::new(out), links: BTreeMap::new() }
    }

    /// Writes the end.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()
    }

    /// Adds an entry of a directory, as `shown`, with all below it. Links are added as links.
    ///
    /// # Errors
    /// The kernel's or the writer's; what disappears meanwhile is no error.
    pub fn tree(&mut self, directory: &OwnedFd, name: &OsStr, shown: &Path) -> io::Result<()> {
        // Not by recursion: the depth is the container's choice, the stack is ours.
        let mut levels: Vec<Level> = self.entry(directory, name, shown)?.into_iter().collect();
        while let Some(level) = levels.last_mut() {
            let Some(child) = level.rest.next() else {
                levels.pop();
                continue;
            };
            let shown = level.shown.join(&child);
            let below = self.entry(&level.directory, &child, &shown)?;
            levels.extend(below);
            if levels.len() > DEEPEST {
                return Err(io::Error::other(format!("directories nested deeper than {DEEPEST}")));
            }
        }
        Ok(())
    }

    /// Adds one entry; a directory's content is answered.
    fn entry(&mut self, directory: &OwnedFd, name: &OsStr, shown: &Path) -> io::Result<Option<Level>> {
        let stat = match inside::stat(directory, name) {
            Err(Errno::NOENT) => return Ok(None),
            result => result?,
        };
        match inside::kind(&stat) {
            FileType::Directory => return self.directory(directory, name, shown, &stat),
            FileType::RegularFile => self.regular(directory, name, shown, &stat)?,
            FileType::Symlink => {
                self.attributes(directory, name)?;
                let target = inside::link_target(directory, name)?;
                self.tar.append_link(&mut header(&stat, EntryType::Symlink), shown, target)?;
            }
            kind @ (FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo) => {
                self.attributes(directory, name)?;
                let mut header = header(
                    &stat,
                    match kind {
                        FileType::CharacterDevice => EntryType::Char,
                        FileType::BlockDevice => EntryType::Block,
                        _ => EntryType::Fifo,
                    },
                );
                if kind != FileType::Fifo {
                    header.set_device_major(major(stat.st_rdev))?;
                    header.set_device_minor(minor(stat.st_rdev))?;
                }
                self.tar.append_data(&mut header, shown, io::empty())?;
            }
            // A socket means nothing without its process.
            _ => {}
        }
        Ok(None)
    }

    fn directory(&mut self, directory: &OwnedFd, name: &OsStr, shown: &Path, stat: &Stat) -> io::Result<Option<Level>> {
        let opened = match open(directory, name, OFlags::RDONLY | OFlags::DIRECTORY)? {
            Opened::Gone => return Ok(None),
            Opened::OtherMount => None,
            Opened::Here(fd) => Some(fd),
        };
        self.attributes(directory, name)?;
        // The slash tells readers of old that it is a directory.
        let mut path = shown.as_os_str().to_owned();
        path.push("/");
        self.tar.append_data(&mut header(stat, EntryType::Directory), Path::new(&path), io::empty())?;
        let Some(directory) = opened else { return Ok(None) };
        let rest = inside::names(&directory)?.into_iter();
        Ok(Some(Level { directory, rest, shown: shown.to_owned() }))
    }

    fn regular(&mut self, directory: &OwnedFd, name: &OsStr, shown: &Path, stat: &Stat) -> io::Result<()> {
        if stat.st_nlink > 1 {
            let known = self.links.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| shown.to_owned());
            if known != shown {
                let target = known.clone();
                return self.tar.append_link(&mut header(stat, EntryType::Link), shown, target);
            }
        }
        let file = match open(directory, name, OFlags::RDONLY | OFlags::NONBLOCK)? {
            Opened::Gone => return Ok(()),
            // A running container may have put something else there since.
            Opened::Here(fd) if inside::kind(&rustix::fs::fstat(&fd)?) != FileType::RegularFile => return Ok(()),
            Opened::Here(fd) => Some(File::from(fd)),
            Opened::OtherMount => None,
        };
        self.attributes(directory, name)?;
        let mut header = header(stat, EntryType::Regular);
        let size = if file.is_some() { stat.st_size as u64 } else { 0 };
        header.set_size(size);
        match file {
            Some(file) => self.tar.append_data(&mut header, shown, Exactly { file, left: size }),
            None => self.tar.append_data(&mut header, shown, io::empty()),
        }
    }

    /// Extended attributes go before the entry, as records of its own (pax, `SCHILY.xattr.`).
    fn attributes(&mut self, directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let attributes = inside::xattrs(directory, name)?;
        let records: Vec<(String, Vec<u8>)> = attributes
            .into_iter()
            .filter(|(key, _)| !inside::is_overlays(key))
            .filter_map(|(key, value)| Some((format!("SCHILY.xattr.{}", key.to_str()?), value)))
            .collect();
        if records.is_empty() {
            return Ok(());
        }
        self.tar.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))
    }
}

fn header(stat: &Stat, kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}

enum Opened {
    Here(OwnedFd),
    OtherMount,
    Gone,
}

/// Opens an entry itself: no link, and on no other mount.
fn open(directory: impl AsFd, name: &OsStr, flags: OFlags) -> io::Result<Opened> {
    if name.as_bytes() == b"." {
        return Ok(Opened::Here(openat2(
            directory,
            ".",
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::empty(),
        )?));
    }
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    match openat2(directory, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(fd) => Ok(Opened::Here(fd)),
        Err(Errno::XDEV) => Ok(Opened::OtherMount),
        // It was something else a moment ago.
        Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(Opened::Gone),
        Err(error) => Err(error.into()),
    }
}

/// As many bytes as the header said, whatever the file has become since.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let mut length = self.file.read(&mut buffer[..most])?;
        if length == 0 {
            // It was cut short while we read.
            buffer[..most].fill(0);
            length = most;
        }
        self.left -= length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mknodat;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// An archive as lines, in its order.
    pub(super) fn listing(bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in tar::Archive::new(bytes).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            let path = entry.path().unwrap().display().to_string();
            let mut line = format!("{:?} {path} {:o}", header.entry_type(), header.mode().unwrap());
            if let Some(target) = entry.link_name().unwrap() {
                line += &format!(" -> {}", target.display());
            }
            for record in entry.pax_extensions().unwrap().into_iter().flatten().flatten() {
                line += &format!(" {}={}", record.key().unwrap(), record.value().unwrap());
            }
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            if !text.is_empty() {
                line += &format!(" {text:?}");
            }
            lines.push(line);
        }
        lines
    }

    #[test]
    fn everything_but_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::set_permissions(at("d"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(at("d/file"), "text").unwrap();
        fs::set_permissions(at("d/file"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(at("d/file"), at("d/hard")).unwrap();
        symlink("/etc/shadow", at("link")).unwrap();
        let long = format!("l{}", "o".repeat(150));
        fs::write(at(&long), "").unwrap();
        fs::set_permissions(at(&long), fs::Permissions::from_mode(0o600)).unwrap();
        rustix::fs::setxattr(at(&long), "trusted.berth", b"v", rustix::fs::XattrFlags::empty()).unwrap();
        rustix::fs::setxattr(at(&long), "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
        let top = rustix::fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        mknodat(&top, "null", FileType::CharacterDevice, mode, rustix::fs::makedev(1, 3)).unwrap();
        mknodat(&top, "pipe", FileType::Fifo, mode, 0).unwrap();
        mknodat(&top, "socket", FileType::Socket, mode, 0).unwrap();

        let mut out = Vec::new();
        export(top.as_fd(), &mut out).unwrap();
        assert_eq!(
            listing(&out),
            [
                "Directory d/ 1777".to_owned(),
                "Regular d/file 4755 \"text\"".into(),
                "Link d/hard 4755 -> d/file".into(),
                "Symlink link 777 -> /etc/shadow".into(),
                format!("Regular {long} 600 SCHILY.xattr.trusted.berth=v"),
                "Char null 600".into(),
                "Fifo pipe 600".into(),
            ]
        );
    }

    #[test]
    fn a_file_that_shrinks_keeps_the_archive_whole() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "ab").unwrap();
        let mut text = Vec::new();
        Exactly { file: File::open(dir.path().join("f")).unwrap(), left: 4 }.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"ab\0\0");
        text.clear();
        Exactly { file: File::open(dir.path().join("f")).unwrap(), left: 1 }.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"a");
    }

    #[test]
    fn endless_nesting_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let top = rustix::fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut at = top.try_clone().unwrap();
        for _ in 0..DEEPEST + 2 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
            at = openat2(&at, "d", OFlags::RDONLY, Mode::empty(), ResolveFlags::empty()).unwrap();
        }
        let error = export(top.as_fd(), io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "directories nested deeper than 1000");
    }
}
