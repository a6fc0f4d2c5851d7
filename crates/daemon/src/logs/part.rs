//! One file of a log. Elder ones may be compressed; they are unpacked when somebody reads that far back, into a file without
//! a name.

use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Device and inode of the file that was written, also if this is its packed form.
pub type Id = (u64, u64);

/// One file of a log.
#[derive(Debug)]
pub struct Part {
    /// Which it is.
    pub id: Id,
    file: File,
    /// It is packed; the log's name, beside which it is unpacked.
    packed: Option<PathBuf>,
}

impl Part {
    /// Opens the log itself (0), or one that was rotated away.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub fn open(log: &Path, number: u32) -> io::Result<Part> {
        let name = match number {
            0 => log.to_path_buf(),
            _ => PathBuf::from(format!("{}.{number}", log.display())),
        };
        match File::open(&name) {
            Ok(file) => {
                let meta = file.metadata()?;
                Ok(Part { id: (meta.dev(), meta.ino()), file, packed: None })
            }
            // The packed one is there before the other goes.
            Err(error) if error.kind() == io::ErrorKind::NotFound && number > 0 => {
                let file = File::open(format!("{}.gz", name.display()))?;
                let meta = file.metadata()?;
                let decoder = GzDecoder::new(&file);
                let id = decoder.header().and_then(|header| identity(header.comment()?));
                let id = id.unwrap_or((meta.dev(), meta.ino()));
                Ok(Part { id, file, packed: Some(log.to_path_buf()) })
            }
            Err(error) => Err(error),
        }
    }

    /// Its plain content.
    ///
    /// # Errors
    /// It cannot be unpacked.
    pub fn plain(&mut self) -> io::Result<&mut File> {
        if let Some(log) = self.packed.take() {
            let mut plain = nameless(&log)?;
            self.file.rewind()?;
            io::copy(&mut GzDecoder::new(&self.file), &mut plain)?;
            self.file = plain;
        }
        Ok(&mut self.file)
    }
}

/// A file that is gone when it is closed. (`O_TMPFILE` is not there on every file system.)
fn nameless(log: &Path) -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("{}.unpacked-{}-{}", log.display(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(&name)?;
    std::fs::remove_file(&name)?;
    Ok(file)
}

/// `DEVICE:INODE`
fn identity(comment: &[u8]) -> Option<Id> {
    let (device, inode) = std::str::from_utf8(comment).ok()?.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}
