//! `load`: archives of `docker save`, in its old layout (`manifest.json`) and as an OCI image layout (`index.json`).
//!
//! Members are spooled under names of our own and found again by a map, so a member's name never meets the file system.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufReader, Read};

use serde::Deserialize;
use tempfile::NamedTempFile;

use crate::adding::{Adding, Origin, spool_from};
use crate::compression::{Compression, decompressed};
use crate::config::{Descriptor, ImageConfig, Index, Manifest, Platform, media};
use crate::digest::{Digest, ImageId};
use crate::error::{Doing, Refusal, Result, bad_archive, bad_entry};
use crate::reference::Reference;
use crate::store::{LayerRecord, Record, Store, parse_json};
use crate::tarstream::{Kind, TarStream};

/// An image that `load` brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Its id.
    pub id: ImageId,
    /// Its names of the archive, short form; empty if it has none there.
    pub names: Vec<String>,
}

/// One image of an archive's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The annotation in which containerd and Docker 25+ keep an image's full name.
pub(crate) const NAME_ANNOTATION: &str = "io.containerd.image.name";
/// The OCI image layout's own annotation: often only the tag.
pub(crate) const REF_ANNOTATION: &str = "org.opencontainers.image.ref.name";

impl Store {
    /// Loads every image of an archive, plain or compressed by gzip or zstd. Blocks.
    ///
    /// # Errors
    /// [`Refusal::BadArchive`], [`Refusal::BadEntry`], [`Refusal::OverLimit`]: then nothing of the image at fault stays. Images
    /// that stand before it in the archive are loaded.
    pub fn load(&self, reader: impl Read) -> Result<Vec<Loaded>> {
        let members = Members::read(self, reader)?;
        if members.has("manifest.json") {
            return self.load_saved(&members);
        }
        if members.has("index.json") {
            return self.load_layout(&members);
        }
        Err(bad_archive(
            "the archive has neither manifest.json (docker save) nor index.json (OCI layout); for a root file system use import",
        ))
    }

    fn load_saved(&self, members: &Members) -> Result<Vec<Loaded>> {
        let saved: Vec<SavedImage> = parse_json(&members.json(self, "manifest.json")?, "manifest.json")?;
        let manifests = self.layout_manifests(members)?;
        let mut loaded = Vec::new();
        for image in saved {
            let config = members.json(self, &image.config)?;
            let names: Vec<Reference> = image
                .repo_tags
                .unwrap_or_default()
                .iter()
                .map(|tag| Reference::parse(tag).map(Reference::or_latest))
                .collect::<Result<_, _>>()?;
            // A combined archive has the original manifest too. It is kept, so that the image keeps its digest.
            let manifest =
                manifests.get(&Digest::of(&config)).filter(|(_, manifest)| manifest.layers.len() == image.layers.len());
            let sources = match manifest {
                Some((raw, manifest)) => {
                    let layers = manifest.layers.iter().map(|layer| (blob_name(layer.digest), Some(layer.clone())));
                    Source { manifest: Some(raw.clone()), layers: layers.collect() }
                }
                None => {
                    Source { manifest: None, layers: image.layers.into_iter().map(|layer| (layer, None)).collect() }
                }
            };
            loaded.push(self.load_image(members, &config, sources, names)?);
        }
        Ok(loaded)
    }

    fn load_layout(&self, members: &Members) -> Result<Vec<Loaded>> {
        let index: Index = parse_json(&members.json(self, "index.json")?, "index.json")?;
        let mut loaded = Vec::new();
        for entry in &index.manifests {
            let Some((raw, manifest)) = self.layout_manifest(members, entry)? else { continue };
            let names: Vec<Reference> = name_of(entry).into_iter().collect();
            let config = members.blob(self, &manifest.config)?;
            let layers = manifest.layers.iter().map(|layer| (blob_name(layer.digest), Some(layer.clone())));
            let source = Source { manifest: Some(raw), layers: layers.collect() };
            loaded.push(self.load_image(members, &config, source, names)?);
        }
        if loaded.is_empty() {
            return Err(bad_archive(format!("index.json names no image for {}", Platform::host())));
        }
        Ok(loaded)
    }

    /// The manifests of an archive's `index.json`, by the configuration they name.
    fn layout_manifests(&self, members: &Members) -> Result<HashMap<Digest, (Vec<u8>, Manifest)>> {
        let mut found = HashMap::new();
        if members.has("index.json") {
            let index: Index = parse_json(&members.json(self, "index.json")?, "index.json")?;
            for entry in &index.manifests {
                if let Some((raw, manifest)) = self.layout_manifest(members, entry)? {
                    found.insert(manifest.config.digest, (raw, manifest));
                }
            }
        }
        Ok(found)
    }

    /// Follows a descriptor of an index to an image of this platform, through at most one more index.
    fn layout_manifest(&self, members: &Members, entry: &Descriptor) -> Result<Option<(Vec<u8>, Manifest)>> {
        let host = Platform::host();
        let is_index = |media_type: &str| [media::OCI_INDEX, media::DOCKER_INDEX].contains(&media_type);
        let entry = if is_index(&entry.media_type) {
            let index: Index = parse_json(&members.blob(self, entry)?, "an index of the archive")?;
            // Other platforms' images may be left out of the archive, though the index names them.
            index.choose(&host)?.clone()
        } else {
            entry.clone()
        };
        if entry.platform.as_ref().is_some_and(|platform| !platform.fits(&host)) {
            return Ok(None);
        }
        if ![media::OCI_MANIFEST, media::DOCKER_MANIFEST].contains(&entry.media_type.as_str()) {
            return Ok(None);
        }
        let raw = members.blob(self, &entry)?;
        let manifest = parse_json(&raw, "a manifest of the archive")?;
        Ok(Some((raw, manifest)))
    }

    fn load_image(&self, members: &Members, raw: &[u8], source: Source, names: Vec<Reference>) -> Result<Loaded> {
        let config: ImageConfig = parse_json(raw, "the image's configuration")?;
        check_config(&config, source.layers.len(), self.limits().layers)?;
        let adding = self.adding();
        let mut layers = Vec::new();
        for ((name, descriptor), diff_id) in source.layers.iter().zip(&config.rootfs.diff_ids) {
            layers.push(self.load_layer(&adding, members, name, descriptor.as_ref(), *diff_id)?);
        }
        let (manifest, manifest_type) = match source.manifest {
            Some(raw_manifest) => {
                let parsed: Manifest = parse_json(&raw_manifest, "a manifest")?;
                let manifest_type = parsed.media_type.unwrap_or_else(|| media::OCI_MANIFEST.to_owned());
                (adding.put_bytes(&raw_manifest)?, manifest_type)
            }
            None => (adding.put_bytes(&manifest_for(raw, &layers)?)?, media::OCI_MANIFEST.to_owned()),
        };
        let record = Record { manifest, manifest_type, layers, parent: None, tagged: 0 };
        let image = adding.commit(raw, record, &names)?;
        Ok(Loaded { id: image.id, names: names.iter().map(Reference::familiar).collect() })
    }

    fn load_layer(
        &self,
        adding: &Adding,
        members: &Members,
        name: &str,
        descriptor: Option<&Descriptor>,
        diff_id: Digest,
    ) -> Result<LayerRecord> {
        let member = members.get(name)?;
        if let Some(descriptor) = descriptor {
            member.check(name, descriptor)?;
        }
        if !adding.has_blob(member.digest) {
            // A link, not a move: another image of the archive may have the same layer.
            adding.link_blob(member.file.path(), member.digest)?;
        }
        let (_, size) = adding.put_layer(member.digest, Some(diff_id), Origin::Stranger)?;
        let media_type = match descriptor {
            Some(descriptor) => descriptor.media_type.clone(),
            None => Compression::of(&member.start)?.layer_type().to_owned(),
        };
        Ok(LayerRecord { diff_id, blob: member.digest, blob_size: member.size, media_type, size })
    }
}

struct Source {
    /// The manifest's bytes, where the archive has them.
    manifest: Option<Vec<u8>>,
    /// The layers' members, lowest first.
    layers: Vec<(String, Option<Descriptor>)>,
}

/// Refuses what no container could be made from.
pub(crate) fn check_config(config: &ImageConfig, layers: usize, limit: usize) -> Result<()> {
    if config.rootfs.diff_ids.len() != layers {
        return Err(bad_archive(format!(
            "the image's manifest has {layers} layers, its configuration {}",
            config.rootfs.diff_ids.len()
        )));
    }
    if layers > limit {
        let limit = format!("{limit} layers");
        return Err(Refusal::OverLimit { what: format!("an image of {layers} layers"), limit }.into());
    }
    if !config.os.is_empty() && config.os != "linux" {
        return Err(bad_archive(format!("image operating system \"{}\" cannot be used on this platform", config.os)));
    }
    Ok(())
}

/// The manifest of an image that came without one. The same configuration and layers always give the same bytes.
pub(crate) fn manifest_for(raw_config: &[u8], layers: &[LayerRecord]) -> Result<Vec<u8>> {
    let descriptor = |media_type: &str, digest, size| Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        annotations: BTreeMap::new(),
        platform: None,
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        config: descriptor(media::OCI_CONFIG, Digest::of(raw_config), raw_config.len() as u64),
        layers: layers.iter().map(|layer| descriptor(&layer.media_type, layer.blob, layer.blob_size)).collect(),
    };
    serde_json::to_vec(&manifest).map_err(std::io::Error::from).doing(|| "writing a manifest".to_owned())
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The name that an index gives an image. A bare tag names no repository, so it is no name.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let full = entry.annotations.get(NAME_ANNOTATION);
    let own = entry.annotations.get(REF_ANNOTATION).filter(|name| name.contains([':', '/']));
    let reference = Reference::parse(full.or(own)?).ok()?;
    reference.digest().is_none().then(|| reference.or_latest())
}

/// The members of an archive, spooled.
struct Members {
    files: HashMap<String, Member>,
    links: HashMap<String, String>,
}

struct Member {
    file: NamedTempFile,
    digest: Digest,
    size: u64,
    start: Vec<u8>,
}

impl Member {
    fn check(&self, name: &str, said: &Descriptor) -> Result<()> {
        if self.size != said.size {
            return Err(bad_entry(
                name.as_bytes(),
                format!("it has {} bytes, its descriptor says {}", self.size, said.size),
            ));
        }
        if self.digest != said.digest {
            return Err(bad_entry(
                name.as_bytes(),
                format!("its digest is {}, its descriptor says {}", self.digest, said.digest),
            ));
        }
        Ok(())
    }
}

impl Members {
    fn read(store: &Store, reader: impl Read) -> Result<Members> {
        let (_, plain) = decompressed(reader)?;
        let mut stream = TarStream::new(plain);
        let mut members = Members { files: HashMap::new(), links: HashMap::new() };
        let limits = store.limits();
        // An archive's members are few: manifests, configurations, layers. Each costs memory here.
        let most = limits.entries.min(100_000);
        let mut entries = 0;
        while let Some(entry) = stream.next_entry()? {
            entries += 1;
            if entries > most {
                let limit = format!("{most} entries");
                return Err(Refusal::OverLimit { what: "the archive's number of entries".to_owned(), limit }.into());
            }
            if entry.path.len() > limits.path_bytes {
                return Err(bad_entry(&entry.path, "its path is too long"));
            }
            let name = member_name(&entry.path, "")?;
            match entry.kind {
                Kind::Dir => {}
                Kind::File if entry.sparse.is_none() => {
                    let (file, digest, size) = spool_from(store, &mut stream, limits.blob_bytes, &name)?;
                    let mut start = Vec::new();
                    let opened = fs::File::open(file.path()).doing(|| format!("opening the spooled {name}"))?;
                    BufReader::new(opened)
                        .take(8)
                        .read_to_end(&mut start)
                        .doing(|| format!("reading the spooled {name}"))?;
                    members.files.insert(name, Member { file, digest, size, start });
                }
                Kind::Symlink | Kind::Hardlink => {
                    let parent = if entry.kind == Kind::Symlink {
                        name.rsplit_once('/').map_or("", |(parent, _)| parent)
                    } else {
                        ""
                    };
                    let target = member_name(&entry.link, parent)?;
                    members.links.insert(name, target);
                }
                _ => return Err(bad_entry(&entry.path, "an image archive holds only files, directories and links")),
            }
        }
        Ok(members)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_ok()
    }

    /// The member of this name, through one link: `docker save` linked layers that occur twice.
    fn get(&self, name: &str) -> Result<&Member> {
        let normal = member_name(name.as_bytes(), "")?;
        let target = self.links.get(&normal).unwrap_or(&normal);
        self.files.get(target).ok_or_else(|| {
            let name: String = name.chars().take(200).collect();
            bad_archive(format!("the archive names `{name}` but does not hold it"))
        })
    }

    fn json(&self, store: &Store, name: &str) -> Result<Vec<u8>> {
        let member = self.get(name)?;
        if member.size > store.limits().json_bytes {
            let limit = format!("{} bytes", store.limits().json_bytes);
            return Err(Refusal::OverLimit { what: format!("the archive's `{name}`"), limit }.into());
        }
        fs::read(member.file.path()).doing(|| format!("reading the spooled {name}"))
    }

    fn blob(&self, store: &Store, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let name = blob_name(descriptor.digest);
        self.get(&name)?.check(&name, descriptor)?;
        self.json(store, &name)
    }
}

/// A member's name without `.` and `..`, which may not lead out of the archive.
fn member_name(path: &[u8], parent: &str) -> Result<String> {
    let text = std::str::from_utf8(path).map_err(|_| bad_entry(path, "its name is not UTF-8"))?;
    let mut parts: Vec<&str> = parent.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return Err(bad_entry(path, "`..` leads out of the archive")),
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
