//! A container's root file system: an overlay of the image's layers and one directory of its own, as a mount that is
//! attached nowhere and so cannot be left behind.
//!
//! In reading order:

/// Copying in and out (`cp`).
pub mod archive;
/// What a container changed in its image (`diff`).
pub mod changes;
/// Files as entries of a tar archive, and the whole file system as one (`export`).
pub mod export;
/// What an image has at the place of a fresh volume.
pub mod fill;
/// Paths inside, where no link leads out.
pub mod inside;
/// Removing trees that containers have written.
mod remove;
/// How much a tree weighs.
mod size;

pub use remove::remove_tree;
pub use size::size;

use crate::error::{Doing, Error, Result};
use crate::users::Resolved;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The kernel copies no longer text of an `fsconfig` value (`strndup_user` in `fs/fsopen.c`), its zero byte included.
const LONGEST: usize = 255;
/// `OVL_MAX_STACK` of the kernel.
const DEEPEST: usize = 500;

/// Mounts the layers, lowest first, under `upper`, which takes all changes; `work` is the kernel's scratch beside it, on the
/// same file system. Without layers the root is empty but for `upper`. `read_only` is a mount that takes no changes.
///
/// # Errors
/// [`Error::Fault`] with the kernel's own explanation.
pub fn mount(layers: &[PathBuf], upper: &Path, work: &Path, read_only: bool) -> Result<OwnedFd> {
    let mut lowers: Vec<PathBuf> = layers.iter().rev().cloned().collect();
    if lowers.is_empty() {
        // An overlay is never of nothing.
        let empty = work.with_file_name("empty");
        std::fs::create_dir_all(&empty).doing(format_args!("make {}", empty.display()))?;
        lowers.push(empty);
    }
    overlay(&lowers, Some((upper, work)), read_only)
}

/// The layers alone, lowest first, as they would be seen without a container.
///
/// # Errors
/// [`Error::Fault`].
pub fn lower(layers: &[PathBuf]) -> Result<Option<OwnedFd>> {
    match layers {
        [] => Ok(None),
        // The kernel takes no overlay of a single directory.
        [one] => Ok(Some(open_path(one)?)),
        many => {
            let lowers: Vec<PathBuf> = many.iter().rev().cloned().collect();
            overlay(&lowers, None, true).map(Some)
        }
    }
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .doing(format_args!("open the layer {}", path.display()))
}

/// `lowers`: topmost first.
fn overlay(lowers: &[PathBuf], writable: Option<(&Path, &Path)>, read_only: bool) -> Result<OwnedFd> {
    if lowers.len() > DEEPEST {
        return Err(Error::Fault(format!(
            "an image of {} layers: the kernel's overlay takes at most {DEEPEST}; rebuild it with fewer",
            lowers.len()
        )));
    }
    match overlay_with(lowers, writable, read_only, Lowers::OneByOne) {
        Err(Failed { errno: Errno::INVAL, step }) if step.starts_with("lowerdir+") => {
            overlay_with(lowers, writable, read_only, Lowers::Together).map_err(Failed::into_error)
        }
        result => result.map_err(Failed::into_error),
    }
}

/// How the lower directories are told.
#[derive(Clone, Copy, PartialEq)]
enum Lowers {
    /// `lowerdir+`, Linux 6.7 and later.
    OneByOne,
    /// One text of at most 255 bytes: the directories by their descriptors, so some fifteen fit.
    Together,
}

struct Failed {
    step: String,
    errno: Errno,
}

impl Failed {
    fn into_error(self) -> Error {
        Error::Fault(format!("mount the root file system: {}: {}", self.step, self.errno))
    }
}

fn overlay_with(
    lowers: &[PathBuf],
    writable: Option<(&Path, &Path)>,
    read_only: bool,
    how: Lowers,
) -> std::result::Result<OwnedFd, Failed> {
    let failed = |step: String| move |errno| Failed { step, errno };
    let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(failed("overlay".into()))?;
    // Descriptors that stand for directories must live until the mount is made.
    let mut held = Vec::new();
    let mut place = |path: &Path, always: bool| -> std::result::Result<String, Failed> {
        let text = path.as_os_str().to_str().unwrap_or("");
        if !always && !text.is_empty() && text.len() <= LONGEST {
            return Ok(text.to_owned());
        }
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed(path.display().to_string()))?;
        let text = format!("/proc/self/fd/{}", fd.as_raw_fd());
        held.push(fd);
        Ok(text)
    };
    let set = |key: &str, value: &str| {
        fsconfig_set_string(&fs, key, value).map_err(|errno| Failed { step: format!("{key}={value}"), errno })
    };
    match how {
        Lowers::OneByOne => {
            for lower in lowers {
                set("lowerdir+", &place(lower, false)?)?;
            }
        }
        Lowers::Together => {
            let places: std::result::Result<Vec<String>, Failed> =
                lowers.iter().map(|lower| place(lower, true)).collect();
            let text = places?.join(":");
            if text.len() > LONGEST {
                let step =
                    format!("{} layers are too many for this kernel; Linux 6.7 takes up to {DEEPEST}", lowers.len());
                return Err(Failed { step, errno: Errno::NAMETOOLONG });
            }
            set("lowerdir", &text)?;
        }
    }
    if let Some((upper, work)) = writable {
        set("upperdir", &place(upper, false)?)?;
        set("workdir", &place(work, false)?)?;
    }
    // What `upper` holds must say all by itself, for `diff` and `commit` read it: no renamed directories by reference, no
    // files of metadata alone. And layers may be shared and moved: no index, no inode numbers that encode a layer.
    for (key, value) in [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off"), ("xino", "off")] {
        match fsconfig_set_string(&fs, key, value) {
            // A kernel that does not know the feature has it off.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(Failed { step: format!("{key}={value}"), errno }),
        }
    }
    if read_only {
        fsconfig_set_flag(&fs, "ro").map_err(failed("ro".into()))?;
    }
    fsconfig_create(&fs).map_err(|errno| Failed { step: explanation(&fs), errno })?;
    let attributes = if read_only { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(failed("fsmount".into()))
}

/// What the kernel says about the failure: reading the context gives its lines (`e overlay: …`).
fn explanation(fs: &OwnedFd) -> String {
    let mut lines = Vec::new();
    let mut buffer = [0u8; 1024];
    while let Ok(length) = rustix::io::read(fs, &mut buffer) {
        if length == 0 || lines.len() >= 16 {
            break;
        }
        lines.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    if lines.is_empty() { "overlay".to_owned() } else { lines.join("; ") }
}

/// Makes sure that the working directory exists: what is missing belongs to the user, as Docker does it.
///
/// # Errors
/// [`Error::Invalid`] when something that is no directory stands there.
pub fn ensure_dir(root: BorrowedFd, path: &str, user: &Resolved) -> Result<()> {
    match inside::make_directories(root, Path::new(path), user.uid, user.gid, 0o755) {
        Ok(_) => Ok(()),
        Err(Errno::NOTDIR) => Err(Error::Invalid(format!("Cannot mkdir: {path} is not a directory"))),
        Err(errno) => Err(errno).doing(format_args!("make the working directory {path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;

    fn read(root: &OwnedFd, path: &str) -> std::result::Result<String, Errno> {
        let fd = inside::open(root.as_fd(), Path::new(path), OFlags::RDONLY, Mode::empty())?;
        Ok(std::io::read_to_string(fs::File::from(fd)).unwrap())
    }

    fn layers(dir: &Path, count: usize) -> Vec<PathBuf> {
        let layer = |n: usize| {
            let path = dir.join(format!("layer{n}"));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("top"), n.to_string()).unwrap();
            fs::write(path.join(format!("only{n}")), "").unwrap();
            path
        };
        (0..count).map(layer).collect()
    }

    fn own(dir: &Path) -> (PathBuf, PathBuf) {
        let (upper, work) = (dir.join("upper"), dir.join("work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        (upper, work)
    }

    #[test]
    fn the_topmost_layer_wins_and_changes_go_to_upper() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, work) = own(dir.path());
        for count in [1, 3, 20] {
            let root = mount(&layers(dir.path(), count), &upper, &work, false).unwrap();
            assert_eq!(read(&root, "/top").unwrap(), (count - 1).to_string());
            assert_eq!(read(&root, "/only0").unwrap(), "");
            let made = inside::open(root.as_fd(), Path::new("new"), OFlags::CREATE | OFlags::WRONLY, 0o600.into());
            drop(made.unwrap());
            drop(root);
            assert!(upper.join("new").exists());
            fs::remove_file(upper.join("new")).unwrap();
        }
    }

    #[test]
    fn without_layers_and_read_only() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, work) = own(dir.path());
        fs::write(upper.join("mine"), "x").unwrap();
        assert_eq!(read(&mount(&[], &upper, &work, false).unwrap(), "mine").unwrap(), "x");
        let root = mount(&layers(dir.path(), 2), &upper, &work, true).unwrap();
        let made = inside::open(root.as_fd(), Path::new("new"), OFlags::CREATE | OFlags::WRONLY, 0o600.into());
        assert_eq!(made.unwrap_err(), Errno::ROFS);
    }

    #[test]
    fn older_kernels_get_the_layers_in_one_text() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, work) = own(dir.path());
        let mut lowers = layers(dir.path(), 10);
        lowers.reverse();
        let attempt = |lowers: &[PathBuf]| overlay_with(lowers, Some((&upper, &work)), false, Lowers::Together);
        let root = attempt(&lowers).map_err(Failed::into_error).unwrap();
        assert_eq!(read(&root, "/top").unwrap(), "9");
        drop(root);
        let mut many = layers(dir.path(), 40);
        many.reverse();
        let error = attempt(&many).map_err(Failed::into_error).unwrap_err().to_string();
        assert!(error.contains("40 layers are too many for this kernel; Linux 6.7"), "{error}");
    }

    #[test]
    fn a_missing_layer_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, work) = own(dir.path());
        let error = mount(&[dir.path().join("gone")], &upper, &work, false).unwrap_err().to_string();
        assert!(error.starts_with("mount the root file system: ") && error.contains("gone"), "{error}");
    }

    #[test]
    fn nothing_of_a_mount_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, work) = own(dir.path());
        let root = mount(&layers(dir.path(), 2), &upper, &work, false).unwrap();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(&dir.path().display().to_string()));
        drop(root);
    }

    #[test]
    fn the_working_directory_is_made_for_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, work) = own(dir.path());
        let root = mount(&layers(dir.path(), 1), &upper, &work, false).unwrap();
        let user = Resolved { uid: 7, gid: 8, additional: vec![], home: "/".into(), name: None };
        ensure_dir(root.as_fd(), "/srv/app", &user).unwrap();
        let made = fs::metadata(upper.join("srv/app")).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (7, 8, 0o755));
        let error = ensure_dir(root.as_fd(), "/top/x", &user).unwrap_err().to_string();
        assert_eq!(error, "Cannot mkdir: /top/x is not a directory");
    }
}
