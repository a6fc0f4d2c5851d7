//! `import` and `commit`: images made here, of an archive or of what a container wrote.

use std::io::{BufWriter, Read, Write};
use std::path::Path;

use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use crate::adding::{Adding, Origin, spool_from};
use crate::changes::apply_changes;
use crate::compression::{Compression, decompressed};
use crate::config::{History, ImageConfig, Platform, RootFs, RunConfig, media};
use crate::digest::{Digest, HashingWriter};
use crate::error::{Doing, Refusal, Result};
use crate::load::{check_config, manifest_for};
use crate::pack;
use crate::reference::Reference;
use crate::store::{Image, LayerRecord, Record, Store};
use crate::time::now_text;

/// How an imported image is to be.
#[derive(Clone, Debug, Default)]
pub struct ImportSpec {
    /// Instructions: see [`apply_changes`].
    pub changes: Vec<String>,
    /// The remark of its history.
    pub message: String,
    /// Its name, if any.
    pub reference: Option<Reference>,
    /// Its platform, this machine's if `None`.
    pub platform: Option<Platform>,
}

/// How a committed image is to be.
#[derive(Clone, Debug, Default)]
pub struct CommitSpec {
    /// The configuration of the container, which becomes the image's.
    pub config: RunConfig,
    /// Instructions on top: see [`apply_changes`].
    pub changes: Vec<String>,
    /// Who commits.
    pub author: String,
    /// The remark of its history.
    pub comment: String,
    /// The container's command line, for the history.
    pub created_by: String,
    /// The image's name, if any.
    pub reference: Option<Reference>,
    /// Paths that are not the container's doing (`etc/hosts`).
    pub exclude: Vec<String>,
}

impl Store {
    /// Makes an image of one layer from the archive of a root file system, plain or compressed by gzip or zstd. Blocks.
    ///
    /// # Errors
    /// [`Refusal::BadChange`], and those of an archive that is not accepted; then nothing stays.
    pub fn import(&self, reader: impl Read, spec: &ImportSpec) -> Result<Image> {
        let mut run = RunConfig::default();
        apply_changes(&mut run, &spec.changes)?;
        let platform = spec.platform.clone().unwrap_or_else(Platform::host);
        let adding = self.adding();
        let layer = self.import_layer(&adding, reader)?;
        let created = now_text();
        let step = History { created: Some(created.clone()), comment: some(&spec.message), ..History::default() };
        let config = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            variant: some(&platform.variant),
            created: Some(created),
            comment: some(&spec.message),
            config: run,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer.diff_id] },
            history: vec![step],
            ..ImageConfig::default()
        };
        self.finish(adding, &config, vec![layer], None, spec.reference.as_ref())
    }

    /// Makes an image of `base` and what a container wrote above it (`upper`, its overlayfs upper directory). Blocks.
    ///
    /// # Errors
    /// [`Refusal::BadChange`]; [`Error::Io`](crate::Error::Io) of reading the directory. Then nothing stays.
    pub fn commit(&self, base: &Image, upper: &Path, spec: &CommitSpec) -> Result<Image> {
        let mut run = spec.config.clone();
        apply_changes(&mut run, &spec.changes)?;
        let adding = self.adding();
        // The base must not be removed meanwhile: its layers become ours.
        for layer in &base.record.layers {
            if !adding.has_blob(layer.blob) || adding.has_layer(layer.diff_id).is_none() {
                return Err(Refusal::NoSuchImage(base.id.to_string()).into());
            }
        }
        let exclude: Vec<&str> = spec.exclude.iter().map(String::as_str).collect();
        let (mut spool, mut entries) = (Gzipped::new(self)?, 0);
        spool.fill(|out| {
            entries = pack::layer(upper, out, &exclude)?;
            Ok(())
        })?;
        let mut layers = base.record.layers.clone();
        if entries > 0 {
            let layer = spool.put(&adding)?;
            layers.push(layer);
        }
        let created = now_text();
        let mut config = (*base.config).clone();
        config.created = Some(created.clone());
        config.author = some(&spec.author);
        config.comment = some(&spec.comment);
        config.config = run;
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
        config.history.push(History {
            created: Some(created),
            created_by: some(&spec.created_by),
            author: some(&spec.author),
            comment: some(&spec.comment),
            empty_layer: entries == 0,
        });
        check_config(&config, layers.len(), self.limits().layers)?;
        self.finish(adding, &config, layers, Some(base), spec.reference.as_ref())
    }

    /// A compressed archive is kept as it came, a plain one compressed for disk and pushing.
    fn import_layer(&self, adding: &Adding, reader: impl Read) -> Result<LayerRecord> {
        let bound = self.limits().blob_bytes;
        let mut reader = std::io::BufReader::new(reader);
        let start = std::io::BufRead::fill_buf(&mut reader).doing(|| "reading the archive".to_owned())?;
        match Compression::of(start)? {
            Compression::None => {
                let mut spool = Gzipped::new(self)?;
                let (_, plain) = decompressed(reader)?;
                let mut plain = plain.take(bound + 1);
                spool
                    .fill(|out| std::io::copy(&mut plain, out).map(drop).doing(|| "reading the archive".to_owned()))?;
                if plain.limit() == 0 {
                    let limit = format!("{bound} bytes");
                    return Err(Refusal::OverLimit { what: "the archive".to_owned(), limit }.into());
                }
                spool.put(adding)
            }
            compression => {
                let (file, blob, blob_size) = spool_from(self, reader, bound, "the archive")?;
                adding.put_blob(file, blob)?;
                let (diff_id, size) = adding.put_layer(blob, None, Origin::Stranger)?;
                Ok(LayerRecord { diff_id, blob, blob_size, media_type: compression.layer_type().to_owned(), size })
            }
        }
    }

    fn finish(
        &self,
        adding: Adding,
        config: &ImageConfig,
        layers: Vec<LayerRecord>,
        parent: Option<&Image>,
        name: Option<&Reference>,
    ) -> Result<Image> {
        let raw =
            serde_json::to_vec(config).map_err(std::io::Error::from).doing(|| "writing a configuration".to_owned())?;
        let manifest = adding.put_bytes(&manifest_for(&raw, &layers)?)?;
        let manifest_type = media::OCI_MANIFEST.to_owned();
        let record = Record { manifest, manifest_type, layers, parent: parent.map(|image| image.id), tagged: 0 };
        adding.commit(&raw, record, &name.cloned().into_iter().collect::<Vec<_>>())
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A layer of our own making, compressed on its way into a spool file. Both its digests are known at the end.
struct Gzipped {
    sink: HashingWriter<GzEncoder<HashingWriter<BufWriter<NamedTempFile>>>>,
}

impl Gzipped {
    fn new(store: &Store) -> Result<Gzipped> {
        let file = HashingWriter::new(BufWriter::new(store.spool()?));
        // Fast: the layer is compressed while a user waits, and at most pushed once.
        let gzip = GzEncoder::new(file, flate2::Compression::fast());
        Ok(Gzipped { sink: HashingWriter::new(gzip) })
    }

    fn fill(&mut self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        write(&mut self.sink)
    }

    fn put(self, adding: &Adding) -> Result<LayerRecord> {
        let doing = || "writing a layer".to_owned();
        let (gzip, diff_id, _): (_, Digest, u64) = self.sink.finish();
        let (buffered, blob, blob_size) = gzip.finish().doing(doing)?.finish();
        let file = buffered.into_inner().map_err(|error| error.into_error()).doing(doing)?;
        adding.put_blob(file, blob)?;
        let (diff_id, size) = adding.put_layer(blob, Some(diff_id), Origin::Own)?;
        Ok(LayerRecord { diff_id, blob, blob_size, media_type: media::OCI_LAYER_GZIP.to_owned(), size })
    }
}
