//! `pull`: from a registry into the store, every byte checked against a digest and a size.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::UnboundedSender;

use crate::adding::{Adding, Origin};
use crate::config::{Descriptor, ImageConfig, Index, Manifest, Platform, media};
use crate::digest::{Digest, Hasher};
use crate::error::{Doing, Error, Refusal, Result};
use crate::load::check_config;
use crate::progress::{Progress, Teller};
use crate::reference::Reference;
use crate::registry::{Access, Registry, Want};
use crate::store::{Image, LayerRecord, Record, Store, parse_json};

/// Layers fetched at the same time, as in Docker.
const PARALLEL: usize = 3;
/// Attempts for one layer.
const ATTEMPTS: u32 = 4;

impl Store {
    /// Pulls an image. Without a tag and digest, `latest`. Dropping the future ends it; what it has put into the store goes.
    ///
    /// # Errors
    /// [`Refusal::NotInRegistry`], [`Refusal::Unauthorized`], [`Refusal::BadRegistry`], [`Refusal::NeedsTls`],
    /// [`Refusal::NoPlatform`], those of a layer that is not accepted, and [`Error::Network`]. Then nothing stays.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        access: &Access,
        progress: UnboundedSender<Progress>,
    ) -> Result<Image> {
        let reference = reference.clone().or_latest();
        let tell = Teller::new(progress);
        let registry = Registry::connect(&reference, Want::Pull, access).await?;
        let which = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        tell.say(Some(&which), format!("Pulling from {}", reference.path()));
        let found = self.find_manifest(&registry, &reference, &which, platform).await?;
        let before = self.state().names.find(&reference);
        let adding = Arc::new(self.adding());
        let image = match self.fetch(&registry, &reference, found, &adding, &tell).await {
            Ok(image) => image,
            Err(error) => {
                // What it has put into the store goes now, and not on the runtime's thread.
                blocking(move || {
                    drop(adding);
                    Ok(())
                })
                .await?;
                return Err(error);
            }
        };
        let name = reference.familiar();
        tell.say(
            None,
            match before == Some(image.id) {
                true => format!("Status: Image is up to date for {name}"),
                false => format!("Status: Downloaded newer image for {name}"),
            },
        );
        Ok(image)
    }

    /// Brings the found image into the store.
    async fn fetch(
        &self,
        registry: &Registry,
        reference: &Reference,
        found: Found,
        adding: &Arc<Adding>,
        tell: &Teller,
    ) -> Result<Image> {
        let config = &found.manifest.config;
        let raw_config = self.small_blob(registry, config).await?;
        let parsed: ImageConfig = parse_json(&raw_config, "the image's configuration")?;
        check_config(&parsed, found.manifest.layers.len(), self.limits().layers)?;
        let diff_ids = &parsed.rootfs.diff_ids;
        let layers = self.fetch_layers(registry, adding, &found.manifest, diff_ids, tell).await?;
        tell.say(None, format!("Digest: {}", found.top));
        let record = Record {
            manifest: adding.put_bytes(&found.raw)?,
            manifest_type: found.media_type,
            layers,
            parent: None,
            tagged: 0,
        };
        let mut names = vec![reference.with_digest(found.top)];
        if let (Some(tag), None) = (reference.tag(), reference.digest()) {
            names.push(reference.with_tag(tag));
        }
        let adding = Arc::clone(adding);
        blocking(move || adding.commit(&raw_config, record, &names)).await
    }

    /// The manifest for the platform, through an index if the name leads to one.
    async fn find_manifest(
        &self,
        registry: &Registry,
        reference: &Reference,
        which: &str,
        platform: &Platform,
    ) -> Result<Found> {
        let bound = self.limits().json_bytes;
        let fetched = registry.manifest(which, bound).await.map_err(|error| match error {
            Error::Refusal(Refusal::NotInRegistry(why)) => {
                let name = reference.familiar();
                let why = why.split_once(" not found").map_or("", |(_, rest)| rest).to_owned();
                Refusal::NotInRegistry(format!("manifest for {name} not found{why}")).into()
            }
            other => other,
        });
        let (mut raw, said) = fetched?;
        let top = Digest::of(&raw);
        let mut media_type = kind_of(&raw, &said)?;
        if is_index(&media_type) {
            let index: Index = parse_json(&raw, "the image's index")?;
            let entry = index.choose(platform)?.clone();
            let (inner, said) = registry.manifest(&entry.digest.to_string(), bound).await?;
            if inner.len() as u64 != entry.size {
                let why =
                    format!("the manifest {} has {} bytes, the index says {}", entry.digest, inner.len(), entry.size);
                return Err(registry.broken(why));
            }
            media_type = kind_of(&inner, &said)?;
            raw = inner;
        }
        if ![media::OCI_MANIFEST, media::DOCKER_MANIFEST].contains(&media_type.as_str()) {
            return Err(registry.broken(format!("`{media_type}` is not the manifest of an image")));
        }
        let manifest = parse_json(&raw, "the image's manifest")?;
        Ok(Found { top, raw, media_type, manifest })
    }

    async fn small_blob(&self, registry: &Registry, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size > self.limits().json_bytes {
            let limit = format!("{} bytes", self.limits().json_bytes);
            return Err(Refusal::OverLimit { what: "the image's configuration".to_owned(), limit }.into());
        }
        let response = registry.blob(descriptor.digest, descriptor.size).await?;
        let raw = registry.read(response, descriptor.size).await?;
        let found = Digest::of(&raw);
        if found != descriptor.digest {
            return Err(registry.broken(format!("the blob {} arrives as {found}", descriptor.digest)));
        }
        Ok(raw)
    }

    async fn fetch_layers(
        &self,
        registry: &Registry,
        adding: &Arc<Adding>,
        manifest: &Manifest,
        diff_ids: &[Digest],
        tell: &Teller,
    ) -> Result<Vec<LayerRecord>> {
        let mut wanted: Vec<(Descriptor, Digest)> = Vec::new();
        for (descriptor, diff_id) in manifest.layers.iter().zip(diff_ids) {
            // Images repeat their empty layers.
            if !wanted.iter().any(|(known, id)| known.digest == descriptor.digest && id == diff_id) {
                wanted.push((descriptor.clone(), *diff_id));
                tell.say(Some(&descriptor.digest.short()), "Pulling fs layer");
            }
        }
        let fetched: Vec<LayerRecord> =
            stream::iter(wanted)
                .map(|(descriptor, diff_id)| async move {
                    self.fetch_layer(registry, adding, &descriptor, diff_id, tell).await
                })
                .buffer_unordered(PARALLEL)
                .try_collect()
                .await?;
        let find = |(descriptor, diff_id): (&Descriptor, &Digest)| {
            fetched.iter().find(|layer| layer.blob == descriptor.digest && layer.diff_id == *diff_id).cloned()
        };
        Ok(manifest.layers.iter().zip(diff_ids).filter_map(find).collect())
    }

    async fn fetch_layer(
        &self,
        registry: &Registry,
        adding: &Arc<Adding>,
        descriptor: &Descriptor,
        diff_id: Digest,
        tell: &Teller,
    ) -> Result<LayerRecord> {
        let blob = descriptor.digest;
        let id = blob.short();
        let layer = |size| LayerRecord {
            diff_id,
            blob,
            blob_size: descriptor.size,
            media_type: descriptor.media_type.clone(),
            size,
        };
        if adding.has_blob(blob) {
            let known = self.blob_path(&blob).metadata().map(|data| data.len()).unwrap_or_default();
            if known != descriptor.size {
                return Err(registry
                    .broken(format!("the blob {blob} has {known} bytes, its descriptor says {}", descriptor.size)));
            }
            if let Some(size) = adding.has_layer(diff_id) {
                tell.say(Some(&id), "Already exists");
                return Ok(layer(size));
            }
        } else {
            self.download(registry, adding, descriptor, tell).await?;
        }
        tell.say(Some(&id), "Extracting");
        let unpacking = Arc::clone(adding);
        let (_, size) = blocking(move || unpacking.put_layer(blob, Some(diff_id), Origin::Stranger)).await?;
        tell.say(Some(&id), "Pull complete");
        Ok(layer(size))
    }

    /// Downloads a blob, trying again from the start when the connection breaks.
    async fn download(
        &self,
        registry: &Registry,
        adding: &Adding,
        descriptor: &Descriptor,
        tell: &Teller,
    ) -> Result<()> {
        if descriptor.size > self.limits().blob_bytes {
            let limit = format!("{} bytes", self.limits().blob_bytes);
            return Err(Refusal::OverLimit { what: format!("the blob {}", descriptor.digest), limit }.into());
        }
        let id = descriptor.digest.short();
        for attempt in 1.. {
            match self.download_once(registry, adding, descriptor, tell).await {
                Err(Error::Network { why, .. }) if attempt < ATTEMPTS => {
                    tracing::debug!(registry = %registry.name, blob = %descriptor.digest, %why, "download broke off");
                    tell.say(Some(&id), format!("Retrying in {attempt} second{}", if attempt == 1 { "" } else { "s" }));
                    tokio::time::sleep(Duration::from_secs(attempt.into())).await;
                }
                other => {
                    other?;
                    break;
                }
            }
        }
        tell.say(Some(&id), "Download complete");
        Ok(())
    }

    async fn download_once(
        &self,
        registry: &Registry,
        adding: &Adding,
        descriptor: &Descriptor,
        tell: &Teller,
    ) -> Result<()> {
        let mut response = registry.blob(descriptor.digest, descriptor.size).await?;
        let spool = self.spool()?;
        let writing = || format!("writing {}", spool.path().display());
        let file = tokio::fs::File::from_std(spool.reopen().doing(writing)?);
        let mut file = tokio::io::BufWriter::with_capacity(256 << 10, file);
        let mut hasher = Hasher::default();
        let mut count = 0;
        let mut meter = tell.meter(&descriptor.digest.short(), "Downloading", descriptor.size);
        while let Some(chunk) = response.chunk().await.map_err(|error| registry.network(&error))? {
            count += chunk.len() as u64;
            if count > descriptor.size {
                let why =
                    format!("the blob {} is longer than its descriptor's {} bytes", descriptor.digest, descriptor.size);
                return Err(registry.broken(why));
            }
            hasher.update(&chunk);
            file.write_all(&chunk).await.doing(writing)?;
            meter.add(chunk.len() as u64);
        }
        file.flush().await.doing(writing)?;
        if count != descriptor.size {
            let why =
                format!("the blob {} has {count} bytes, its descriptor says {}", descriptor.digest, descriptor.size);
            return Err(registry.broken(why));
        }
        let found = hasher.finish();
        if found != descriptor.digest {
            return Err(registry.broken(format!("the blob {} arrives as {found}", descriptor.digest)));
        }
        adding.put_blob(spool, found)
    }
}

struct Found {
    /// The digest of what the name leads to: the index, if there is one.
    top: Digest,
    raw: Vec<u8>,
    media_type: String,
    manifest: Manifest,
}

fn is_index(media_type: &str) -> bool {
    [media::OCI_INDEX, media::DOCKER_INDEX].contains(&media_type)
}

/// The media type that the document names itself, else the one that it was sent as.
fn kind_of(raw: &[u8], said: &str) -> Result<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        schema_version: Option<u32>,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let head: Head = parse_json(raw, "the image's manifest")?;
    if head.schema_version == Some(1) {
        let why = "Docker image format v1 and manifest version 2, schema 1 are not supported; push the image again with a newer tool";
        return Err(Refusal::BadArchive(why.to_owned()).into());
    }
    // Both at once would be read as one thing here and as another elsewhere (OCI image-spec security advisory of 2021).
    if head.manifests.is_some() && head.layers.is_some() {
        return Err(Refusal::BadArchive("the manifest has both layers and manifests".to_owned()).into());
    }
    Ok(head.media_type.unwrap_or_else(|| said.to_owned()))
}

/// Does blocking work beside the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(error)).doing(|| "unpacking".to_owned()),
    }
}
