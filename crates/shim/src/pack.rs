//! Compressing a log file that was rotated away: `berth-shim --pack LOG`, a process of its own, so that the loop is not held
//! up, and gone when it is done.
//!
//! While it works the file may be renamed by the next rotation. Renaming, here and there, is done under a lock of the log's
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

/// Starts it for the youngest file of a log that was rotated away. The child is reaped by the loop, as everybody's orphans.
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

/// Compresses `LOG.1`.
pub fn pack(log: &Path) -> io::Result<()> {
    let mut file = File::open(numbered(log, 1))?;
    let id = identity(&file.metadata()?);
    let half = with(log, &format!(".packing-{}", id.1));
    let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&half)?;
    let mut writer = GzBuilder::new().comment(format!("{}:{}", id.0, id.1)).write(out, Compression::default());
    let done = io::copy(&mut file, &mut writer).and_then(|_| writer.finish()).and_then(|_| put(log, &half, id));
    if done.is_err() {
        let _ = fs::remove_file(&half);
    }
    done
}

/// Puts the packed file in the other's place, if that is still kept.
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
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
        fs::write(numbered(&log, 1), "first\n").unwrap();
        pack(&log).unwrap();
        assert_eq!(names(dir.path()), ["c.log.1.gz"]);
        assert_eq!(unpacked(&packed(&log, 1)), "first\n");
        // Rotated while the next one is packed.
        fs::rename(packed(&log, 1), packed(&log, 3)).unwrap();
        fs::write(numbered(&log, 1), "second\n").unwrap();
        let second = identity(&fs::metadata(numbered(&log, 1)).unwrap());
        fs::rename(numbered(&log, 1), numbered(&log, 2)).unwrap();
        fs::write(numbered(&log, 1), "third\n").unwrap();
        let half = with(&log, ".packing-x");
        fs::write(&half, "packed").unwrap();
        put(&log, &half, second).unwrap();
        assert_eq!(names(dir.path()), ["c.log.1", "c.log.2.gz", "c.log.3.gz"]);
        // One that is no longer kept.
        fs::write(&half, "packed").unwrap();
        assert!(put(&log, &half, second).is_err());
    }
}
