//! Files that are whole or absent whatever happens: written beside, synced, renamed, and the directory synced.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Doing, Result};

/// Replaces a file's content. A crash at any byte leaves the old content or the new.
pub(crate) fn write(path: &Path, tmp: &Path, content: &[u8]) -> Result<()> {
    let doing = || format!("writing {}", path.display());
    let mut file = tempfile::NamedTempFile::new_in(tmp).doing(doing)?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).doing(doing)?;
    file.persist(path).map_err(|error| error.error).doing(doing)?;
    sync_parent(path)
}

/// Removes a file for good. One that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => {
            other.doing(|| format!("removing {}", path.display()))?;
            sync_parent(path)
        }
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    File::open(parent).and_then(|dir| dir.sync_all()).doing(|| format!("syncing {}", parent.display()))
}

/// Reads a file; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("reading {}", path.display())),
    }
}

/// The entries of a directory of ours.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("listing {}", dir.display());
    fs::read_dir(dir).doing(doing)?.map(|entry| entry.map(|entry| entry.path()).doing(doing)).collect()
}
