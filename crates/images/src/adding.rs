//! An image on its way into the store: its blobs and layers first, then its record, then its names.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tempfile::NamedTempFile;

use crate::compression::{Bounded, decompressed};
use crate::digest::{Digest, HashingReader};
use crate::error::{Doing, Refusal, Result, bad_archive};
use crate::reference::Reference;
use crate::store::{Image, Record, Store, assemble, now};
use crate::{rooted, unpack};

/// Whose archive a layer is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Packed or compressed here: it may compress as well as it likes.
    Own,
    /// Somebody else's: it may be a bomb.
    Stranger,
}

/// An image being added: what it has put into the store stays pinned, and goes when it is dropped without being committed.
pub(crate) struct Adding {
    store: Store,
    pinned: Mutex<Vec<Digest>>,
    committed: AtomicBool,
}

impl Adding {
    pub fn new(store: &Store) -> Adding {
        Adding { store: store.clone(), pinned: Mutex::default(), committed: AtomicBool::new(false) }
    }

    fn pin(&self, digest: Digest) {
        self.store.state().pin(digest);
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner).push(digest);
    }

    /// Whether the blob is in the store; if so, it stays.
    pub fn has_blob(&self, digest: Digest) -> bool {
        self.pin(digest);
        self.store.blob_path(&digest).exists()
    }

    /// The size of an unpacked layer that is in the store; if so, it stays.
    pub fn has_layer(&self, diff_id: Digest) -> Option<u64> {
        self.pin(diff_id);
        let size = fs::read_to_string(self.store.layer_dir(&diff_id).join("size")).ok()?;
        size.trim().parse().ok()
    }

    /// Takes a finished file of `tmp` in under its digest, which the caller has computed.
    pub fn put_blob(&self, file: NamedTempFile, digest: Digest) -> Result<()> {
        self.pin(digest);
        let path = self.store.blob_path(&digest);
        file.persist(&path).map_err(|error| error.error).doing(|| format!("storing {}", path.display()))?;
        Ok(())
    }

    /// Takes a finished file of `tmp` in as well, leaving it where it is.
    pub fn link_blob(&self, file: &Path, digest: Digest) -> Result<()> {
        self.pin(digest);
        let path = self.store.blob_path(&digest);
        match fs::hard_link(file, &path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other.doing(|| format!("storing {}", path.display())),
        }
    }

    /// Stores a small blob.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let file = self.store.spool()?;
        fs::write(file.path(), bytes).doing(|| format!("writing {}", file.path().display()))?;
        self.put_blob(file, digest)?;
        Ok(digest)
    }

    /// Unpacks a blob of the store as a layer, which must be the expected one. Gives its digest and unpacked size. Blocks.
    pub fn put_layer(&self, blob: Digest, expected: Option<Digest>, origin: Origin) -> Result<(Digest, u64)> {
        if let Some(diff_id) = expected
            && let Some(size) = self.has_layer(diff_id)
        {
            return Ok((diff_id, size));
        }
        let path = self.store.blob_path(&blob);
        let file = File::open(&path).doing(|| format!("opening {}", path.display()))?;
        let stored = file.metadata().doing(|| format!("reading {}", path.display()))?.len();
        let tmp = self.store.tmp();
        let dir = Unfinished::new(&tmp)?;
        let fs_dir = dir.path().join("fs");
        fs::create_dir(&fs_dir).doing(|| format!("making {}", fs_dir.display()))?;
        let fs_fd = rooted::open_dir(&fs_dir)?;
        // A layer without an entry for its root gets Docker's.
        rustix::fs::fchmod(&fs_fd, rustix::fs::Mode::from_raw_mode(0o755))
            .doing(|| format!("protecting {}", fs_dir.display()))?;
        let (_, plain) = decompressed(BufReader::new(file))?;
        let limits = self.store.limits();
        let stored = if origin == Origin::Own { u64::MAX } else { stored };
        let hashing = HashingReader::new(Bounded::new(plain, stored, limits));
        let (done, mut rest) = unpack::unpack(hashing, fs_fd.as_fd(), limits)?;
        // What follows the archive's end is part of the layer's identity.
        std::io::copy(&mut rest, &mut std::io::sink()).doing(|| format!("reading {}", path.display()))?;
        let found = rest.finish();
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(bad_archive(format!(
                "the layer {blob} unpacks to {found}, but the image's configuration says {expected}"
            )));
        }
        self.pin(found);
        let size_file = dir.path().join("size");
        fs::write(&size_file, done.bytes.to_string()).doing(|| format!("writing {}", size_file.display()))?;
        let place = self.store.layer_dir(&found);
        match fs::rename(dir.path(), &place) {
            // Another operation was faster with the same layer.
            Err(_) if place.join("size").exists() => {}
            other => other.doing(|| format!("storing {}", place.display()))?,
        }
        Ok((found, done.bytes))
    }

    /// Makes the image part of the store: from here on it survives. Gives it as it is now.
    pub fn commit(&self, raw_config: &[u8], record: Record, names: &[Reference]) -> Result<Image> {
        let id = self.put_bytes(raw_config)?;
        let store = &self.store;
        // One sync for all its files, before anything refers to them.
        let root = rooted::open_dir(store.root())?;
        rustix::fs::syncfs(&root).doing(|| format!("syncing {}", store.root().display()))?;
        let mut state = store.state();
        let known = state.images.get(&id).map(|image| (*image.record).clone());
        // An image that is committed again keeps what it descends from.
        let parent = record.parent.or(known.as_ref().and_then(|known| known.parent));
        let record = Record { parent, tagged: if names.is_empty() { record.tagged } else { now() }, ..record };
        store.write_record(&id, &record)?;
        let image = assemble(id, raw_config, record)?;
        state.images.insert(id, image);
        let mut all = state.names.clone();
        for name in names {
            match name.digest() {
                Some(digest) => all.digests.insert(name.with_digest(digest).to_string(), id),
                None => all.tags.insert(name.clone().or_latest().to_string(), id),
            };
        }
        store.set_names(&mut state, all)?;
        let image = state.images.get(&id).cloned();
        self.committed.store(true, Ordering::Relaxed);
        image.ok_or_else(|| Refusal::NoSuchImage(id.to_string()).into())
    }
}

impl Drop for Adding {
    fn drop(&mut self) {
        let pinned = std::mem::take(self.pinned.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut state = self.store.state();
        for digest in pinned {
            state.unpin(digest);
        }
        drop(state);
        if !self.committed.load(Ordering::Relaxed)
            && let Err(error) = self.store.sweep()
        {
            tracing::warn!(%error, "what an unfinished image left is removed at the next opening");
        }
    }
}

/// A directory in `tmp` that goes when dropped, however deep a hostile archive has nested it.
struct Unfinished {
    tmp: OwnedFd,
    path: PathBuf,
}

impl Unfinished {
    fn new(tmp: &Path) -> Result<Unfinished> {
        let doing = || format!("making a directory in {}", tmp.display());
        let path = tempfile::Builder::new().prefix("layer").tempdir_in(tmp).doing(doing)?.keep();
        Ok(Unfinished { tmp: rooted::open_dir(tmp)?, path })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let name = self.path.file_name().map(|name| name.as_encoded_bytes().to_vec()).unwrap_or_default();
        // Gone already if it was renamed into the store.
        if let Err(error) = rooted::remove(&self.tmp, &name) {
            tracing::warn!(%error, path = %self.path.display(), "an unfinished layer is removed at the next opening");
        }
    }
}

/// Copies a stream into a spool file, hashing it, up to `bound` bytes.
pub(crate) fn spool_from(
    store: &Store,
    reader: impl Read,
    bound: u64,
    what: &str,
) -> Result<(NamedTempFile, Digest, u64)> {
    let mut file = store.spool()?;
    let mut hashing = HashingReader::new(reader.take(bound + 1));
    std::io::copy(&mut hashing, file.as_file_mut()).doing(|| format!("reading {what}"))?;
    if hashing.count > bound {
        return Err(Refusal::OverLimit { what: what.to_owned(), limit: format!("{bound} bytes") }.into());
    }
    let count = hashing.count;
    Ok((file, hashing.finish(), count))
}
