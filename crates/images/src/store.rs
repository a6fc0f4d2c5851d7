//! The store on disk and its index in memory.
//!
//! ```text
//! ROOT/lock                    held by the process that has the store open
//! ROOT/blobs/HEX               configurations, manifests and compressed layers, byte for byte as they came
//! ROOT/layers/DIFFID/fs        a layer unpacked for overlayfs, under the digest of its uncompressed archive: stored once, shared
//! ROOT/layers/DIFFID/size      its size in bytes, decimal
//! ROOT/images/ID.json          an image: its manifest, layers and parent
//! ROOT/names.json              tags and registry digests, each with the image's id
//! ROOT/tmp/                    whatever is not finished; emptied when the store is opened
//! ```
//!
//! Compressed layers are kept beside the unpacked ones. That costs a third to a half more disk, and buys that what was
//! pulled or loaded is pushed and saved again byte for byte, without recompressing.
//!
//! Order makes it crash-safe: blobs and layers come first, then the image's record, then its names; removal goes the other
//! way. So a crash leaves at worst things nobody refers to, and opening removes those.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tempfile::{NamedTempFile, TempDir};

use crate::adding::Adding;
use crate::config::{History, ImageConfig};
use crate::digest::{Digest, ImageId};
use crate::durable;
use crate::error::{Doing, Error, Refusal, Result, bad_archive};
use crate::limits::Limits;
use crate::reference::Reference;
use crate::rooted;

/// The image store of one directory. Clones share it.
///
/// Methods block on the disk; `pull` and `push` are the only asynchronous ones. Call the others from a blocking thread when
/// they read or write layers (`load`, `save`, `import`, `commit`, `remove`, `prune`); the look-ups are answered from memory.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    limits: Limits,
    state: Mutex<State>,
    /// Locked as long as it is open.
    _lock: File,
}

#[derive(Default)]
pub(crate) struct State {
    pub images: BTreeMap<ImageId, Image>,
    pub names: Names,
    /// Blobs and layers that an unfinished operation counts on.
    pins: HashMap<Digest, usize>,
}

/// Full names (`docker.io/library/x:tag`, `docker.io/library/x@sha256:…`) and the images they mean.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Names {
    pub tags: BTreeMap<String, ImageId>,
    pub digests: BTreeMap<String, ImageId>,
}

/// An image as recorded in `images/ID.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub manifest: Digest,
    pub manifest_type: String,
    pub layers: Vec<LayerRecord>,
    #[serde(default)]
    pub parent: Option<ImageId>,
    /// Seconds since 1970.
    #[serde(default)]
    pub tagged: u64,
}

/// A layer of an image: what it is unpacked and the blob it came as.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub diff_id: Digest,
    pub blob: Digest,
    pub blob_size: u64,
    pub media_type: String,
    pub size: u64,
}

/// An image of the store, as it was when asked for.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of its configuration.
    pub id: ImageId,
    /// `name:tag`, short form, sorted.
    pub tags: Vec<String>,
    /// `name@sha256:…`, short form, sorted: what registries call it.
    pub digests: Vec<String>,
    /// Bytes of its unpacked layers.
    pub size: u64,
    /// Its configuration, parsed.
    pub config: Arc<ImageConfig>,
    /// The image it was committed from, while that is in the store.
    pub parent: Option<ImageId>,
    /// Seconds since 1970 when it last got a name (Docker's `LastTagTime`).
    pub tagged: u64,
    pub(crate) raw_config: Arc<[u8]>,
    pub(crate) record: Arc<Record>,
}

impl Image {
    /// The configuration's bytes, exactly those whose digest is the id.
    pub fn raw_config(&self) -> &[u8] {
        &self.raw_config
    }

    /// When it was made, RFC 3339; empty if it does not say.
    pub fn created(&self) -> &str {
        self.config.created.as_deref().unwrap_or_default()
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.config.config.labels
    }

    /// Digests of its uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> &[Digest] {
        &self.config.rootfs.diff_ids
    }

    /// The digest of its manifest as the store keeps it.
    pub fn manifest_digest(&self) -> Digest {
        self.record.manifest
    }
}

/// One line of `history`, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryLine {
    /// The image that this step's result is, where the store knows it.
    pub id: Option<ImageId>,
    /// What the image says of the step.
    pub step: History,
    /// Bytes of the step's layer.
    pub size: u64,
    /// The image's tags, on its newest line.
    pub tags: Vec<String>,
}

impl Store {
    /// Opens the store below `root`, made if missing, with the default [`Limits`]. Leftovers of a crash are removed.
    ///
    /// # Errors
    /// [`Error::Locked`] if another process has it open, [`Error::Damaged`] if its index is not readable, [`Error::Io`].
    pub fn open(root: &Path) -> Result<Store> {
        Store::open_with(root, Limits::default())
    }

    /// Opens the store with other limits.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(root: &Path, limits: Limits) -> Result<Store> {
        for dir in ["blobs", "layers", "images", "tmp"] {
            fs::create_dir_all(root.join(dir)).doing(|| format!("making {}", root.join(dir).display()))?;
        }
        // Unpacked layers hold setuid files and other people's secrets: root's eyes only, like Docker's.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(root, private).doing(|| format!("protecting {}", root.display()))?;
        let lock = File::create(root.join("lock")).doing(|| format!("opening {}/lock", root.display()))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Locked(root.display().to_string())),
            other => other.doing(|| format!("locking {}/lock", root.display()))?,
        }
        let tmp = rooted::open_dir(&root.join("tmp"))?;
        empty(&tmp)?;
        let state = Mutex::new(read_state(root)?);
        let store = Store { inner: Arc::new(Inner { root: root.to_owned(), limits, state, _lock: lock }) };
        store.sweep()?;
        Ok(store)
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<Image> {
        self.state().images.values().cloned().collect()
    }

    /// The image that a user means: a name, `name:tag`, `name@digest`, an id or the unique beginning of one.
    ///
    /// # Errors
    /// [`Refusal::BadReference`], [`Refusal::NoSuchImage`], [`Refusal::Ambiguous`].
    pub fn resolve(&self, text: &str) -> Result<Image, Refusal> {
        self.state().resolve(text)
    }

    /// The image of this id.
    pub fn get(&self, id: &ImageId) -> Option<Image> {
        self.state().images.get(id).cloned()
    }

    /// The directories of the image's layers, lowest first, for overlayfs' lower directories.
    pub fn layers(&self, image: &Image) -> Vec<PathBuf> {
        image.diff_ids().iter().map(|diff_id| self.layer_dir(diff_id).join("fs")).collect()
    }

    /// How the image was made, newest step first, as `docker history` lists it.
    pub fn history(&self, image: &Image) -> Vec<HistoryLine> {
        let mut sizes = image.record.layers.iter().map(|layer| layer.size);
        let mut lines: Vec<HistoryLine> = image
            .config
            .history
            .iter()
            .map(|step| {
                let size = if step.empty_layer { 0 } else { sizes.next().unwrap_or(0) };
                HistoryLine { id: None, step: step.clone(), size, tags: Vec::new() }
            })
            .collect();
        // Layers that the history does not tell of, as in archives of other tools.
        lines.extend(sizes.map(|size| HistoryLine { id: None, step: History::default(), size, tags: Vec::new() }));
        lines.reverse();
        if let Some(newest) = lines.first_mut() {
            newest.id = Some(image.id);
            newest.tags = image.tags.clone();
        }
        lines
    }

    /// Gives the image `source` one more name.
    ///
    /// # Errors
    /// Those of [`Store::resolve`] for the source, [`Refusal::BadReference`] for the target.
    pub fn tag(&self, source: &str, target: &str) -> Result<Image> {
        let target = Reference::parse(target)?;
        if target.digest().is_some() {
            return Err(Refusal::BadReference("refusing to create a tag with a digest reference".to_owned()).into());
        }
        let mut state = self.state();
        let id = state.resolve(source)?.id;
        let mut names = state.names.clone();
        names.tags.insert(target.or_latest().to_string(), id);
        self.touch(&mut state, id)?;
        self.set_names(&mut state, names)?;
        state.images.get(&id).cloned().ok_or_else(|| Refusal::NoSuchImage(id.to_string()).into())
    }

    /// Bytes of all unpacked layers, each counted once (Docker's `LayersSize`).
    pub fn layers_size(&self) -> u64 {
        let state = self.state();
        let layers = state.images.values().flat_map(|image| &image.record.layers);
        layers.map(|layer| (layer.diff_id, layer.size)).collect::<BTreeMap<_, _>>().values().sum()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // The state changes only in steps that cannot panic half way.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.inner.root.join("tmp")
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.root.join("blobs").join(digest.hex())
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        fs::read(&path).doing(|| format!("reading {}", path.display()))
    }

    pub(crate) fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.inner.root.join("layers").join(diff_id.hex())
    }

    pub(crate) fn record_path(&self, id: &ImageId) -> PathBuf {
        self.inner.root.join("images").join(format!("{}.json", id.hex()))
    }

    /// A new file in `tmp`, gone when dropped.
    pub(crate) fn spool(&self) -> Result<NamedTempFile> {
        NamedTempFile::new_in(self.tmp()).doing(|| format!("making a file in {}", self.tmp().display()))
    }

    /// Replaces the names on disk, then in memory.
    pub(crate) fn set_names(&self, state: &mut State, names: Names) -> Result<()> {
        let text = serde_json::to_vec(&names).map_err(std::io::Error::from).doing(|| "writing the names".to_owned())?;
        durable::write(&self.inner.root.join("names.json"), &self.tmp(), &text)?;
        state.names = names;
        state.name_images();
        Ok(())
    }

    pub(crate) fn write_record(&self, id: &ImageId, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(std::io::Error::from).doing(|| "writing an image".to_owned())?;
        durable::write(&self.record_path(id), &self.tmp(), &text)
    }

    /// Records that the image got a name now.
    fn touch(&self, state: &mut State, id: ImageId) -> Result<()> {
        if let Some(image) = state.images.get_mut(&id) {
            let record = Record { tagged: now(), ..(*image.record).clone() };
            self.write_record(&id, &record)?;
            image.tagged = record.tagged;
            image.record = Arc::new(record);
        }
        Ok(())
    }

    /// Begins to add an image.
    pub(crate) fn adding(&self) -> Adding {
        Adding::new(self)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Removes the blobs and layers that no image and no unfinished operation refers to.
    pub(crate) fn sweep(&self) -> Result<()> {
        let trash = TempDir::new_in(self.tmp()).doing(|| format!("making a directory in {}", self.tmp().display()))?;
        {
            let state = self.state();
            let (blobs, layers) = state.referenced();
            let mut moved = 0;
            for (dir, keep) in [("blobs", &blobs), ("layers", &layers)] {
                for path in durable::entries(&self.inner.root.join(dir))? {
                    let digest = path.file_name().and_then(|name| Digest::from_hex(name.to_str()?));
                    if digest.is_some_and(|digest| keep.contains(&digest) || state.pins.contains_key(&digest)) {
                        continue;
                    }
                    moved += 1;
                    let place = trash.path().join(moved.to_string());
                    fs::rename(&path, place).doing(|| format!("removing {}", path.display()))?;
                }
            }
        }
        // Outside the lock: a layer may hold a hundred thousand files.
        empty(&rooted::open_dir(trash.path())?)
    }
}

impl State {
    pub fn resolve(&self, text: &str) -> Result<Image, Refusal> {
        let missing = |name: String| Refusal::NoSuchImage(name);
        let by_id = |id: &ImageId| self.images.get(id).cloned();
        let whole = text.strip_prefix("sha256:").unwrap_or(text);
        if let Some(id) = Digest::from_hex(whole) {
            return by_id(&id).ok_or_else(|| missing(text.to_owned()));
        }
        let parsed = Reference::parse(text);
        if let Ok(reference) = &parsed
            && let Some(id) = self.names.find(reference)
        {
            return by_id(&id).ok_or_else(|| missing(text.to_owned()));
        }
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if !whole.is_empty() && whole.bytes().all(is_hex) {
            let matches: Vec<&Image> = self.images.values().filter(|image| image.id.hex().starts_with(whole)).collect();
            match matches[..] {
                [] => {}
                [one] => return Ok(one.clone()),
                _ => {
                    let matches: Vec<String> = matches.iter().map(|image| image.id.short()).collect();
                    return Err(Refusal::Ambiguous { prefix: whole.to_owned(), matches: matches.join(", ") });
                }
            }
        }
        Err(missing(parsed?.or_latest().familiar()))
    }

    /// Keeps a blob or layer from being swept.
    pub fn pin(&mut self, digest: Digest) {
        *self.pins.entry(digest).or_default() += 1;
    }

    /// Takes one pin back.
    pub fn unpin(&mut self, digest: Digest) {
        if let Some(count) = self.pins.get_mut(&digest) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(&digest);
            }
        }
    }

    /// Blobs and layers of all images.
    fn referenced(&self) -> (BTreeSet<Digest>, BTreeSet<Digest>) {
        let mut blobs = BTreeSet::new();
        let mut layers = BTreeSet::new();
        for image in self.images.values() {
            blobs.extend([image.id, image.record.manifest]);
            blobs.extend(image.record.layers.iter().map(|layer| layer.blob));
            layers.extend(image.diff_ids());
        }
        (blobs, layers)
    }

    /// Writes the names into the images.
    fn name_images(&mut self) {
        for image in self.images.values_mut() {
            image.tags.clear();
            image.digests.clear();
        }
        for (name, id) in self.names.tags.iter().chain(&self.names.digests) {
            let (Some(image), Ok(reference)) = (self.images.get_mut(id), Reference::parse(name)) else { continue };
            match reference.digest() {
                Some(_) => image.digests.push(reference.familiar()),
                None => image.tags.push(reference.familiar()),
            }
        }
        for image in self.images.values_mut() {
            image.tags.sort();
            image.digests.sort();
        }
    }
}

impl Names {
    /// The image of a reference. A digest decides, whatever tag stands beside it.
    pub fn find(&self, reference: &Reference) -> Option<ImageId> {
        match reference.digest() {
            Some(digest) => self.digests.get(&reference.with_digest(digest).to_string()).copied(),
            None => self.tags.get(&reference.clone().or_latest().to_string()).copied(),
        }
    }
}

/// Removes all that is in a directory.
fn empty(dir: &std::os::fd::OwnedFd) -> Result<()> {
    let doing = || "emptying the image store's tmp".to_owned();
    for name in rooted::names(dir).doing(doing)? {
        rooted::remove(dir, &name).doing(doing)?;
    }
    Ok(())
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or(0)
}

/// An image from its record; its names come from [`State::name_images`].
pub(crate) fn assemble(id: ImageId, raw_config: &[u8], record: Record) -> Result<Image> {
    let config: ImageConfig = serde_json::from_slice(raw_config)
        .map_err(|error| bad_archive(format!("the image configuration {id} is not readable: {error}")))?;
    Ok(Image {
        id,
        tags: Vec::new(),
        digests: Vec::new(),
        size: record.layers.iter().map(|layer| layer.size).sum(),
        config: Arc::new(config),
        parent: record.parent,
        tagged: record.tagged,
        raw_config: raw_config.into(),
        record: Arc::new(record),
    })
}

fn read_state(root: &Path) -> Result<State> {
    let mut state = State::default();
    for path in durable::entries(&root.join("images"))? {
        let id = path.file_name().and_then(|name| Digest::from_hex(name.to_str()?.strip_suffix(".json")?));
        let Some(id) = id else { continue };
        match read_image(root, &path, id) {
            Ok(image) => drop(state.images.insert(id, image)),
            // Only a failing disk gets here. The other images must not suffer for one.
            Err(error) => {
                tracing::error!(%error, image = %id, "an image is unreadable; its record is set aside as .damaged");
                let aside = path.with_extension("damaged");
                fs::rename(&path, &aside).doing(|| format!("setting {} aside", path.display()))?;
            }
        }
    }
    let path = root.join("names.json");
    if let Some(text) = durable::read(&path)? {
        let names: Names = serde_json::from_slice(&text)
            .map_err(|error| Error::Damaged { file: path.display().to_string(), why: error.to_string() })?;
        let known = |id: &ImageId| state.images.contains_key(id);
        state.names.tags = names.tags.into_iter().filter(|(_, id)| known(id)).collect();
        state.names.digests = names.digests.into_iter().filter(|(_, id)| known(id)).collect();
    }
    state.name_images();
    Ok(state)
}

fn read_image(root: &Path, path: &Path, id: ImageId) -> Result<Image> {
    let damaged = |why: String| Error::Damaged { file: path.display().to_string(), why };
    let text = durable::read(path)?.unwrap_or_default();
    let record: Record = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    let raw = durable::read(&root.join("blobs").join(id.hex()))?.unwrap_or_default();
    if Digest::of(&raw) != id {
        return Err(damaged("its configuration is missing or changed".to_owned()));
    }
    for layer in &record.layers {
        let fs = root.join("layers").join(layer.diff_id.hex()).join("fs");
        if !fs.is_dir() {
            return Err(damaged(format!("its layer {} is missing", layer.diff_id)));
        }
    }
    assemble(id, &raw, record)
}

/// Parses a small JSON document of an archive or registry.
pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| bad_archive(format!("{what} is not readable: {error}")))
}
