//! `save`: images as one archive that is both `docker save`'s layout and an OCI image layout, as Docker 25 and later write it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};

use serde::Serialize;

use crate::config::{Descriptor, Index, media};
use crate::digest::Digest;
use crate::error::{Doing, Refusal, Result};
use crate::load::{NAME_ANNOTATION, REF_ANNOTATION};
use crate::reference::Reference;
use crate::store::{Image, Store};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Store {
    /// Writes the images as an archive for `load`. A name without a tag means all tags of the repository; an id saves the image
    /// without names. The same images always give the same bytes. Blocks.
    ///
    /// # Errors
    /// Those of [`Store::resolve`], before anything is written; [`Error::Io`](crate::Error::Io) of writing.
    pub fn save(&self, names: &[&str], out: impl Write) -> Result<()> {
        if names.is_empty() {
            return Err(Refusal::BadReference("save needs at least one image".to_owned()).into());
        }
        let chosen = self.chosen(names)?;
        let mut tar = tar::Builder::new(out);
        let mut blobs = BTreeSet::new();
        for (image, _) in &chosen {
            blobs.extend([image.id, image.record.manifest]);
            blobs.extend(image.record.layers.iter().map(|layer| layer.blob));
        }
        directory(&mut tar, "blobs/")?;
        directory(&mut tar, "blobs/sha256/")?;
        for digest in blobs {
            let path = self.blob_path(&digest);
            let file = File::open(&path).doing(|| format!("opening {}", path.display()))?;
            let size = file.metadata().doing(|| format!("reading {}", path.display()))?.len();
            member(&mut tar, &blob_name(digest), size, file)?;
        }
        let mut manifests = Vec::new();
        let mut saved = Vec::new();
        for (image, names) in &chosen {
            let size = self.blob(&image.record.manifest)?.len() as u64;
            let entry = |name: Option<&Reference>| Descriptor {
                media_type: image.record.manifest_type.clone(),
                digest: image.record.manifest,
                size,
                annotations: name.map(annotations).unwrap_or_default(),
                platform: None,
            };
            if names.is_empty() {
                manifests.push(entry(None));
            }
            manifests.extend(names.iter().map(|name| entry(Some(name))));
            let repo_tags: Vec<String> = names.iter().map(Reference::familiar).collect();
            saved.push(SavedImage {
                config: blob_name(image.id),
                repo_tags: (!repo_tags.is_empty()).then_some(repo_tags),
                layers: image.record.layers.iter().map(|layer| blob_name(layer.blob)).collect(),
            });
        }
        let index = Index { schema_version: 2, media_type: Some(media::OCI_INDEX.to_owned()), manifests };
        json(&mut tar, "index.json", &index)?;
        json(&mut tar, "manifest.json", &saved)?;
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        member(&mut tar, "oci-layout", layout.len() as u64, &layout[..])?;
        tar.into_inner().and_then(|mut out| out.flush()).doing(|| "writing the archive".to_owned())
    }

    /// The images with the names to save them under, each image once, in the order asked for.
    fn chosen(&self, names: &[&str]) -> Result<Vec<(Image, Vec<Reference>)>> {
        let state = self.state();
        let mut chosen: Vec<(Image, Vec<Reference>)> = Vec::new();
        let mut add = |image: Image, name: Option<Reference>| {
            let at = chosen.iter().position(|(known, _)| known.id == image.id).unwrap_or_else(|| {
                chosen.push((image, Vec::new()));
                chosen.len() - 1
            });
            if let Some(name) = name
                && !chosen[at].1.contains(&name)
            {
                chosen[at].1.push(name);
            }
        };
        for text in names {
            let reference = Reference::parse(text).ok();
            let bare = reference.as_ref().filter(|name| name.tag().is_none() && name.digest().is_none());
            let mut tags = 0;
            for (tag, id) in &state.names.tags {
                let tag = Reference::parse(tag)?;
                if bare.is_some_and(|bare| bare.name() == tag.name())
                    && let Some(image) = state.images.get(id)
                {
                    tags += 1;
                    add(image.clone(), Some(tag));
                }
            }
            if tags == 0 {
                let image = state.resolve(text)?;
                let name = reference
                    .filter(|name| state.names.tags.get(&name.clone().or_latest().to_string()) == Some(&image.id));
                add(image, name.filter(|name| name.digest().is_none()));
            }
        }
        Ok(chosen)
    }
}

fn annotations(name: &Reference) -> std::collections::BTreeMap<String, String> {
    let tag = name.tag().unwrap_or("latest").to_owned();
    [(NAME_ANNOTATION.to_owned(), name.to_string()), (REF_ANNOTATION.to_owned(), tag)].into()
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn json<W: Write>(tar: &mut tar::Builder<W>, name: &str, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec(value).map_err(std::io::Error::from).doing(|| format!("writing {name}"))?;
    member(tar, name, text.len() as u64, &text[..])
}

fn member<W: Write>(tar: &mut tar::Builder<W>, name: &str, size: u64, data: impl Read) -> Result<()> {
    append(tar, name, tar::EntryType::Regular, 0o644, size, data)
}

fn directory<W: Write>(tar: &mut tar::Builder<W>, name: &str) -> Result<()> {
    append(tar, name, tar::EntryType::Directory, 0o755, 0, std::io::empty())
}

/// Time zero and root's: the archive depends on the images alone.
fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    kind: tar::EntryType,
    mode: u32,
    size: u64,
    data: impl Read,
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    tar.append_data(&mut header, name, data).doing(|| format!("writing {name} to the archive"))
}
