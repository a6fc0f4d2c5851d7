//! Writes directory trees as tar streams: a whole root file system for `export`, an overlayfs upper directory as an OCI layer.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::rooted;

/// The overlayfs attribute of a directory that was renamed with `redirect_dir=on`.
const REDIRECT: &str = "trusted.overlay.redirect";

/// Writes everything below the open directory as a tar stream, as `docker export` does. Blocks.
///
/// Owners are numeric; hard links, devices, `security.capability` and `user.*` attributes are kept; sockets are left out.
///
/// # Errors
/// [`Error::Io`] of reading the tree or of writing the stream.
pub fn export_tree(root: BorrowedFd<'_>, out: impl Write) -> Result<()> {
    write(root, out, false, &[]).map(drop)
}

/// Writes an overlayfs upper directory as a layer: its marks become OCI whiteouts. Paths in `exclude` (`etc/hosts`) are left
/// out. Gives the number of entries.
pub(crate) fn layer(upper: &Path, out: impl Write, exclude: &[&str]) -> Result<u64> {
    write(rooted::open_dir(upper)?.as_fd(), out, true, exclude)
}

fn write(root: BorrowedFd<'_>, out: impl Write, layer: bool, exclude: &[&str]) -> Result<u64> {
    let mut packer = Packer { tar: tar::Builder::new(out), links: HashMap::new(), entries: 0 };
    // Directories still to be read. Not a recursion: a container may nest them as deep as it likes.
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let reading = || format!("reading /{}", String::from_utf8_lossy(&path));
        let dir = match rooted::open_plain(root, &path) {
            // The tree may be a running container's.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if !path.is_empty() => continue,
            other => other.doing(reading)?,
        };
        if layer && !path.is_empty() && rooted::is_opaque(&dir).doing(reading)? {
            packer.mark(&rooted::join(&path, b".wh..wh.opq"))?;
        }
        let mut below = Vec::new();
        for name in rooted::names(&dir).doing(reading)? {
            let child = rooted::join(&path, &name);
            if exclude.iter().any(|excluded| excluded.trim_matches('/').as_bytes() == child) {
                continue;
            }
            let Some(stat) = rooted::stat(&dir, &name).doing(reading)? else { continue };
            if layer && rooted::is_whiteout(&stat) {
                packer.mark(&rooted::join(&path, &[b".wh.", &name[..]].concat()))?;
                continue;
            }
            if layer && rooted::is(&stat, FileType::Directory) && attribute(&dir, &name, REDIRECT.as_bytes())?.is_some()
            {
                let place = String::from_utf8_lossy(&child).into_owned();
                let source =
                    std::io::Error::other("it was renamed by overlayfs' redirect_dir; mount with redirect_dir=off");
                return Err(Error::Io { doing: format!("packing /{place}"), source });
            }
            packer.entry(&dir, &name, &child, &stat)?;
            if rooted::is(&stat, FileType::Directory) {
                below.push(child);
            }
        }
        pending.extend(below.into_iter().rev());
    }
    packer.tar.finish().doing(|| "writing an archive".to_owned())?;
    Ok(packer.entries)
}

struct Packer<W: Write> {
    tar: tar::Builder<W>,
    /// Where a file with several names was written first.
    links: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
}

impl<W: Write> Packer<W> {
    /// An empty file whose name is the message.
    fn mark(&mut self, path: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0);
        self.append(header, path, b"", Vec::new(), std::io::empty())
    }

    fn entry(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8], stat: &Stat) -> Result<()> {
        let reading = || format!("reading /{}", String::from_utf8_lossy(path));
        let os = OsStr::from_bytes(name);
        let mut header = tar::Header::new_ustar();
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(stat.st_uid.into());
        header.set_gid(stat.st_gid.into());
        let mut pax = Vec::new();
        match u64::try_from(stat.st_mtime) {
            Ok(seconds) => header.set_mtime(seconds),
            Err(_) => pax.push(("mtime".to_owned(), stat.st_mtime.to_string().into_bytes())),
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key).cloned() {
                header.set_entry_type(tar::EntryType::Link);
                return self.append(header, path, &first, Vec::new(), std::io::empty());
            }
            self.links.insert(key, path.to_vec());
        }
        for key in attribute_names(dir, name).doing(reading)? {
            let kept =
                key == b"security.capability" || (key.starts_with(b"user.") && !key.starts_with(b"user.overlay."));
            if kept && let Some(value) = attribute(dir, name, &key)? {
                let key = String::from_utf8_lossy(&key).into_owned();
                pax.push((format!("SCHILY.xattr.{key}"), value));
            }
        }
        let (kind, link) = match kind {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::openat(dir, os, flags, Mode::empty()).doing(reading)?);
                let size = file.metadata().doing(reading)?.len();
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(size);
                // A file of a running container may shrink meanwhile: the header has promised its size.
                let data = file.take(size).chain(std::io::repeat(0)).take(size);
                return self.append(header, path, b"", pax, data);
            }
            FileType::Directory => (tar::EntryType::Directory, Vec::new()),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, os, Vec::new()).doing(reading)?;
                (tar::EntryType::Symlink, target.into_bytes())
            }
            FileType::CharacterDevice => (tar::EntryType::Char, Vec::new()),
            FileType::BlockDevice => (tar::EntryType::Block, Vec::new()),
            FileType::Fifo => (tar::EntryType::Fifo, Vec::new()),
            // A socket means nothing without its process.
            _ => return Ok(()),
        };
        header.set_entry_type(kind);
        if matches!(kind, tar::EntryType::Char | tar::EntryType::Block) {
            let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
            header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).doing(reading)?;
        }
        let path = if kind == tar::EntryType::Directory { [path, b"/"].concat() } else { path.to_vec() };
        self.append(header, &path, &link, pax, std::io::empty())
    }

    fn append(
        &mut self,
        mut header: tar::Header,
        path: &[u8],
        link: &[u8],
        mut pax: Vec<(String, Vec<u8>)>,
        data: impl Read,
    ) -> Result<()> {
        let old = header.as_old_mut();
        for (field, value, key) in [(&mut old.name, path, "path"), (&mut old.linkname, link, "linkpath")] {
            let fits = value.len().min(field.len());
            field[..fits].copy_from_slice(&value[..fits]);
            if fits < value.len() {
                pax.push((key.to_owned(), value.to_vec()));
            }
        }
        header.set_cksum();
        let writing = || format!("writing `{}` to an archive", String::from_utf8_lossy(path));
        if !pax.is_empty() {
            let records = pax.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.tar.append_pax_extensions(records).doing(writing)?;
        }
        self.tar.append(&header, data).doing(writing)?;
        self.entries += 1;
        Ok(())
    }
}

fn attribute_names(dir: &OwnedFd, name: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let path = rooted::through_proc(dir, name);
    loop {
        let size = match rustix::fs::llistxattr_query(&path) {
            Ok(0) | Err(Errno::NOTSUP | Errno::NOENT) => return Ok(Vec::new()),
            other => other?,
        };
        let mut list = vec![0; size];
        match rustix::fs::llistxattr(&path, &mut list[..]) {
            // It grew meanwhile.
            Err(Errno::RANGE) => {}
            Err(error) => return Err(error),
            Ok(size) => {
                let names = list[..size].split(|b| *b == 0).filter(|name| !name.is_empty());
                return Ok(names.map(<[u8]>::to_vec).collect());
            }
        }
    }
}

fn attribute(dir: &OwnedFd, name: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>> {
    let path = rooted::through_proc(dir, name);
    let mut value = vec![0; 64 << 10];
    match rustix::fs::lgetxattr(&path, OsStr::from_bytes(key), &mut value[..]) {
        Ok(size) => {
            value.truncate(size);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP | Errno::NOENT) => Ok(None),
        Err(error) => Err(error).doing(|| format!("reading an attribute of {}", String::from_utf8_lossy(name))),
    }
}
