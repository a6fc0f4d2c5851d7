//! Compressing log files that were rotated away: `berth-shim --pack LOG`, a process of its own, so that the loop is not held
//! up, and gone when it is done. One works at a time, on all that there is.
//!
//! While it works the files may be renamed by the next rotation. Renaming, here and there, is done under a lock of the log's
//! directory; the packed file takes the name that the other has by then, and carries its identity as the gzip comment
//! `DEVICE:INODE`, so that a reader who knows the one knows the other.

use flate2::{Compression, GzBuilder};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The argument that makes this program compress.
pub const FLAG: &str = "--pack";

/// Starts it. The child is reaped by the loop, as everybody's orphans.
pub fn start(log: &Path) -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(FLAG).arg(log).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop)
}

/// `LOG.1`, `LOG.2` …
pub fn numbered(log: &Path, number: u32) -> PathBuf {
    with(log, &format!(".{number}"))
}

/// `LOG.1.gz`, `LOG.2.gz` …
pub fn packed(log: &Path, number: u32) -> PathBuf {
    with(log, &format!(".{number}.gz"))
}

fn with(log: &Path, ending: &str) -> PathBuf {
    let mut path = log.to_path_buf().into_os_string();
    path.push(ending);
    path.into()
}

/// Held while files of a log are renamed.
pub fn lock(log: &Path) -> io::Result<File> {
    let dir = File::open(log.parent().unwrap_or(Path::new("/")))?;
    flock(&dir, FlockOperation::LockExclusive)?;
    Ok(dir)
}

/// Compresses what was rotated away.
pub fn pack(log: &Path) -> io::Result<()> {
    // Who finds another at work may go: that one looks once more after it has let go.
    while let Some(number) = plain(log)
        && let Some(_alone) = alone(log)?
    {
        pack_one(log, number)?;
    }
    Ok(())
}

/// The youngest file that is not compressed.
fn plain(log: &Path) -> Option<u32> {
    let known = |number: &u32| numbered(log, *number).exists() || packed(log, *number).exists();
    (1..).take_while(known).find(|number| numbered(log, *number).exists())
}

fn alone(log: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(with(log, ".packing"))?;
    Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(file))
}

fn pack_one(log: &Path, number: u32) -> io::Result<()> {
    let mut file = match File::open(numbered(log, number)) {
        // Rotated meanwhile: it has another number, or is kept no longer.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let id = identity(&file.metadata()?);
    let half = with(log, ".half");
    let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&half)?;
    let mut writer = GzBuilder::new().comment(format!("{}:{}", id.0, id.1)).write(out, Compression::default());
    let done = io::copy(&mut file, &mut writer).and_then(|_| writer.finish()).and_then(|_| put(log, &half, id));
    if done.is_err() {
        let _ = fs::remove_file(&half);
    }
    done
}

/// Puts the packed file in the other's place; if that is kept no longer, neither is this one.
fn put(log: &Path, half: &Path, id: (u64, u64)) -> io::Result<()> {
    let _lock = lock(log)?;
    for number in 1.. {
        let name = numbered(log, number);
        match fs::metadata(&name) {
            Ok(meta) if identity(&meta) == id => {
                fs::rename(half, packed(log, number))?;
                return fs::remove_file(name);
            }
            Ok(_) => {}
            Err(_) if packed(log, number).exists() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    fs::remove_file(half)
}

fn identity(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn unpacked(path: &Path) -> String {
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(path).unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_packed_under_the_name_it_has_by_then() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("c.log");
        fs::write(numbered(&log, 1), "second\n").unwrap();
        fs::write(numbered(&log, 2), "first\n").unwrap();
        fs::write(&log, "now\n").unwrap();
        pack(&log).unwrap();
        assert_eq!(names(dir.path()), ["c.log", "c.log.1.gz", "c.log.2.gz", "c.log.packing"]);
        assert_eq!((unpacked(&packed(&log, 1)), unpacked(&packed(&log, 2))), ("second\n".into(), "first\n".into()));
        // Rotated while the next one is packed.
        fs::rename(packed(&log, 2), packed(&log, 4)).unwrap();
        fs::rename(packed(&log, 1), packed(&log, 3)).unwrap();
        fs::write(numbered(&log, 2), "third\n").unwrap();
        fs::write(numbered(&log, 1), "fourth\n").unwrap();
        let third = identity(&fs::metadata(numbered(&log, 2)).unwrap());
        let half = with(&log, ".half");
        fs::write(&half, "packed").unwrap();
        put(&log, &half, third).unwrap();
        let rotated = ["c.log", "c.log.1", "c.log.2.gz", "c.log.3.gz", "c.log.4.gz", "c.log.packing"];
        assert_eq!(names(dir.path()), rotated);
        // One that is no longer kept.
        fs::write(&half, "packed").unwrap();
        put(&log, &half, third).unwrap();
        pack_one(&log, 7).unwrap();
        assert_eq!(names(dir.path()), rotated);
        // Somebody is at it.
        let other = alone(&log).unwrap().unwrap();
        pack(&log).unwrap();
        assert_eq!(names(dir.path()), rotated);
        drop(other);
        pack(&log).unwrap();
        assert_eq!(names(dir.path())[1], "c.log.1.gz");
    }
}
