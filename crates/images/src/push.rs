//! `push`: the manifest and the blobs exactly as the store keeps them.

use std::collections::BTreeSet;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::io::ReaderStream;

use crate::config::{Manifest, media};
use crate::digest::Digest;
use crate::error::{Doing, Refusal, Result};
use crate::progress::{Progress, Teller};
use crate::reference::Reference;
use crate::registry::{Access, Registry, Want};
use crate::store::{Store, parse_json};

/// What a push brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The tag in the registry.
    pub tag: String,
    /// The manifest's digest.
    pub digest: Digest,
    /// The manifest's size in bytes.
    pub size: u64,
}

impl Store {
    /// Pushes the image that has this name to the registry that the name tells. Without a tag, `latest`.
    ///
    /// # Errors
    /// [`Refusal::NoSuchImage`], [`Refusal::Unauthorized`], [`Refusal::NeedsTls`], [`Refusal::BadRegistry`],
    /// [`Error::Network`](crate::Error::Network).
    pub async fn push(
        &self,
        reference: &Reference,
        access: &Access,
        progress: UnboundedSender<Progress>,
    ) -> Result<Pushed> {
        let reference = reference.clone().or_latest();
        let Some(tag) = reference.tag().filter(|_| reference.digest().is_none()) else {
            return Err(Refusal::BadReference("cannot push a digest reference".to_owned()).into());
        };
        let image = {
            let state = self.state();
            let id = state.names.find(&reference);
            id.and_then(|id| state.images.get(&id).cloned()).ok_or_else(|| {
                Refusal::NoSuchImage(format!(
                    "An image does not exist locally with the tag: {}",
                    reference.familiar_name()
                ))
            })?
        };
        let tell = Teller::new(progress);
        tell.say(None, format!("The push refers to repository [{}]", reference.name()));
        let raw = self.blob(&image.record.manifest)?;
        let manifest: Manifest = parse_json(&raw, "the image's manifest")?;
        let registry = Registry::connect(&reference, Want::Push, access).await?;
        let mut seen = BTreeSet::new();
        for layer in manifest.layers.iter().filter(|layer| seen.insert(layer.digest)) {
            tell.say(Some(&layer.digest.short()), "Preparing");
        }
        seen.clear();
        for layer in manifest.layers.iter().filter(|layer| seen.insert(layer.digest)) {
            self.push_blob(&registry, layer.digest, layer.size, Some(&tell)).await?;
        }
        self.push_blob(&registry, image.id, manifest.config.size, None).await?;
        let media_type = match image.record.manifest_type.as_str() {
            "" => media::OCI_MANIFEST,
            known => known,
        };
        registry.put_manifest(tag, &raw, media_type).await?;
        let pushed = Pushed { tag: tag.to_owned(), digest: image.record.manifest, size: raw.len() as u64 };
        tell.say(None, format!("{}: digest: {} size: {}", pushed.tag, pushed.digest, pushed.size));
        let mut state = self.state();
        // It may have been removed meanwhile; then there is nothing to name.
        if state.images.contains_key(&image.id) {
            let mut names = state.names.clone();
            names.digests.insert(reference.with_digest(pushed.digest).to_string(), image.id);
            self.set_names(&mut state, names)?;
        }
        Ok(pushed)
    }

    async fn push_blob(&self, registry: &Registry, digest: Digest, size: u64, tell: Option<&Teller>) -> Result<()> {
        let id = digest.short();
        let say = |status: &str| {
            if let Some(tell) = tell {
                tell.say(Some(&id), status);
            }
        };
        if registry.has_blob(digest).await? {
            say("Layer already exists");
            return Ok(());
        }
        let path = self.blob_path(&digest);
        let file = std::fs::File::open(&path).doing(|| format!("opening {}", path.display()))?;
        let body = || {
            use futures_util::StreamExt;
            let mut meter = tell.map(|tell| tell.meter(&id, "Pushing", size));
            // A second attempt reads from the start again: the descriptor is shared, its position too.
            let again = file.try_clone().and_then(|mut file| {
                std::io::Seek::rewind(&mut file)?;
                Ok(file)
            });
            match again {
                Ok(file) => {
                    let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 64 << 10);
                    reqwest::Body::wrap_stream(stream.inspect(move |chunk| {
                        if let (Some(meter), Ok(chunk)) = (&mut meter, chunk) {
                            meter.add(chunk.len() as u64);
                        }
                    }))
                }
                Err(error) => reqwest::Body::wrap_stream(futures_util::stream::iter([Err::<Vec<u8>, _>(error)])),
            }
        };
        registry.put_blob(digest, size, &body).await?;
        say("Pushed");
        Ok(())
    }
}
