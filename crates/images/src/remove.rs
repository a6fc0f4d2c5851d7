//! `rmi` and `image prune`, with Docker's rules of what may go and its words where it may not.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::{Digest, Hasher, ImageId};
use crate::durable;
use crate::error::{Refusal, Result};
use crate::reference::Reference;
use crate::store::{Image, Names, State, Store};
use crate::time;

/// A container that was made from an image.
#[derive(Clone, Debug)]
pub struct InUse {
    /// The container's id.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

/// What was removed. Texts as in the `Untagged` and `Deleted` fields of Docker's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name.
    Untagged(String),
    /// An image's id, or the chain id of a layer that no other image has.
    Deleted(String),
}

/// What `image prune` may take.
#[derive(Clone, Debug)]
pub struct PruneFilters {
    /// Only images without a name; else all that no container uses.
    pub dangling: bool,
    /// Only images made before, in seconds since 1970.
    pub until: Option<i64>,
    /// Only images with all these labels; without a value, any will do.
    pub labels: Vec<(String, Option<String>)>,
    /// Only images with none of these labels.
    pub not_labels: Vec<(String, Option<String>)>,
}

impl Default for PruneFilters {
    fn default() -> Self {
        PruneFilters { dangling: true, until: None, labels: Vec::new(), not_labels: Vec::new() }
    }
}

impl Store {
    /// Removes a name, and with its last name the image; given an id, the image with all its names. Blocks.
    ///
    /// `in_use` tells of a container that was made from an image; of several it should name a running one.
    /// It must not call the store, which is locked meanwhile.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] with Docker's text; those of [`Store::resolve`].
    pub fn remove(&self, text: &str, force: bool, in_use: &dyn Fn(&ImageId) -> Option<InUse>) -> Result<Vec<Removed>> {
        let mut state = self.state();
        let image = state.resolve(text)?;
        let mut names = state.names.clone();
        let mut removed = Vec::new();
        let mut quiet = false;
        if is_id_of(text, image.id) {
            // An id with names in one repository means the image and these names.
            if is_single(&names.of(image.id)) {
                conflict(&state, &image, &names, force, false, in_use)?;
                removed.extend(names.take(image.id));
            }
        } else {
            if !force
                && is_single(&names.of(image.id))
                && let Some(user) = in_use(&image.id)
            {
                return Err(Refusal::Conflict(format!(
                    "conflict: unable to remove repository reference \"{text}\" (must force) - container {} is using its referenced image {}",
                    short(&user.container),
                    image.id.short()
                ))
                .into());
            }
            removed.extend(names.take_one(&Reference::parse(text)?, image.id));
            if !names.of(image.id).is_empty() {
                self.set_names(&mut state, names)?;
                return Ok(removed);
            }
            // Its last name may go though the image must stay for a child or a running container.
            quiet = true;
        }
        if let Err(refusal) = conflict(&state, &image, &names, force, true, in_use) {
            if !quiet {
                return Err(refusal.into());
            }
            self.set_names(&mut state, names)?;
            return Ok(removed);
        }
        removed.extend(names.take(image.id));
        self.set_names(&mut state, names)?;
        removed.extend(self.forget(&mut state, &image)?);
        // Parents that only this image kept, and nobody named or uses.
        let mut parent = image.parent;
        while let Some(next) = parent.and_then(|id| state.images.get(&id).cloned()) {
            let unused =
                in_use(&next.id).is_none() && state.names.of(next.id).is_empty() && !has_child(&state, next.id);
            if !unused {
                break;
            }
            removed.extend(self.forget(&mut state, &next)?);
            parent = next.parent;
        }
        drop(state);
        self.sweep()?;
        Ok(removed)
    }

    /// Removes the images that the filters allow and no container uses. Gives what went and the bytes freed. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn prune(
        &self,
        filters: &PruneFilters,
        in_use: &dyn Fn(&ImageId) -> Option<InUse>,
    ) -> Result<(Vec<Removed>, u64)> {
        let before = self.layers_size();
        let mut removed = Vec::new();
        // A removed child frees its parent, so until nothing more goes.
        loop {
            let mut state = self.state();
            let matches = |image: &&Image| {
                let named = !state.names.of(image.id).is_empty();
                !(filters.dangling && named)
                    && filters.fit(image)
                    && !has_child(&state, image.id)
                    && in_use(&image.id).is_none()
            };
            let found: Vec<Image> = state.images.values().filter(matches).cloned().collect();
            if found.is_empty() {
                break;
            }
            for image in found {
                let mut names = state.names.clone();
                removed.extend(names.take(image.id));
                self.set_names(&mut state, names)?;
                removed.extend(self.forget(&mut state, &image)?);
            }
        }
        self.sweep()?;
        Ok((removed, before.saturating_sub(self.layers_size())))
    }

    /// Takes the image out of the index. Its files go with the next sweep.
    fn forget(&self, state: &mut State, image: &Image) -> Result<Vec<Removed>> {
        durable::remove(&self.record_path(&image.id))?;
        state.images.remove(&image.id);
        let kept: BTreeSet<Digest> = state.images.values().flat_map(|image| chain_ids(image.diff_ids())).collect();
        let mut removed = vec![Removed::Deleted(image.id.to_string())];
        let chains = chain_ids(image.diff_ids());
        removed.extend(chains.iter().rev().filter(|id| !kept.contains(id)).map(|id| Removed::Deleted(id.to_string())));
        Ok(removed)
    }
}

impl Names {
    /// Full names of an image, tags first.
    fn of(&self, id: ImageId) -> Vec<Reference> {
        let all = self.tags.iter().chain(&self.digests);
        all.filter(|(_, named)| **named == id).filter_map(|(name, _)| Reference::parse(name).ok()).collect()
    }

    /// Removes all names of an image.
    fn take(&mut self, id: ImageId) -> Vec<Removed> {
        let removed = self.of(id).iter().map(|name| Removed::Untagged(name.familiar())).collect();
        self.tags.retain(|_, named| *named != id);
        self.digests.retain(|_, named| *named != id);
        removed
    }

    /// Removes one name; and the registry's digests of the same repository, when no tag of it is left for them to belong to.
    fn take_one(&mut self, name: &Reference, id: ImageId) -> Vec<Removed> {
        let name = name.clone().or_latest();
        if let Some(digest) = name.digest() {
            let name = name.with_digest(digest);
            self.digests.remove(&name.to_string());
            return vec![Removed::Untagged(name.familiar())];
        }
        self.tags.remove(&name.to_string());
        let mut removed = vec![Removed::Untagged(name.familiar())];
        let left = self.of(id);
        let same: Vec<&Reference> = left.iter().filter(|other| other.name() == name.name()).collect();
        if same.iter().all(|other| other.digest().is_some()) {
            for other in same {
                self.digests.remove(&other.to_string());
                removed.push(Removed::Untagged(other.familiar()));
            }
        }
        removed
    }
}

impl PruneFilters {
    /// Reads the filters of Docker's API: `dangling`, `until` (seconds since 1970, RFC 3339), `label`, `label!`.
    ///
    /// # Errors
    /// [`Refusal::BadFilter`] with the filter that is not understood.
    pub fn parse(filters: &BTreeMap<String, Vec<String>>) -> Result<PruneFilters, Refusal> {
        let mut parsed = PruneFilters::default();
        let label = |text: &String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.clone(), None),
        };
        for (key, values) in filters {
            for value in values {
                let bad = || Refusal::BadFilter(format!("invalid filter '{key}={value}'"));
                match key.as_str() {
                    "dangling" => {
                        parsed.dangling = match value.to_ascii_lowercase().as_str() {
                            "1" | "t" | "true" => true,
                            "0" | "f" | "false" => false,
                            _ => return Err(bad()),
                        };
                    }
                    "until" => {
                        let whole = value.split('.').next().unwrap_or_default();
                        parsed.until = Some(whole.parse().ok().or(time::seconds(value)).ok_or_else(bad)?);
                    }
                    "label" => parsed.labels.push(label(value)),
                    "label!" => parsed.not_labels.push(label(value)),
                    _ => return Err(Refusal::BadFilter(format!("invalid filter '{key}'"))),
                }
            }
        }
        Ok(parsed)
    }

    fn fit(&self, image: &Image) -> bool {
        let has = |(name, value): &(String, Option<String>)| match image.labels().get(name) {
            Some(found) => value.as_ref().is_none_or(|value| value == found),
            None => false,
        };
        let old = self.until.is_none_or(|until| time::seconds(image.created()).is_some_and(|made| made < until));
        old && self.labels.iter().all(has) && !self.not_labels.iter().any(has)
    }
}

/// Docker's reasons why an image stays. `names` counts the several repositories of an image as one.
fn conflict(
    state: &State,
    image: &Image,
    names: &Names,
    force: bool,
    count_names: bool,
    in_use: &dyn Fn(&ImageId) -> Option<InUse>,
) -> Result<(), Refusal> {
    let refuse = |way: &str, why: String| {
        Err(Refusal::Conflict(format!("conflict: unable to delete {} ({way}) - {why}", image.id.short())))
    };
    if has_child(state, image.id) {
        return refuse("cannot be forced", "image has dependent child images".to_owned());
    }
    let user = in_use(&image.id);
    if let Some(user) = user.as_ref().filter(|user| user.running) {
        return refuse(
            "cannot be forced",
            format!("image is being used by running container {}", short(&user.container)),
        );
    }
    if force {
        return Ok(());
    }
    if count_names && !names.of(image.id).is_empty() {
        return refuse("must be forced", "image is referenced in multiple repositories".to_owned());
    }
    if let Some(user) = user {
        return refuse(
            "must be forced",
            format!("image is being used by stopped container {}", short(&user.container)),
        );
    }
    Ok(())
}

fn has_child(state: &State, id: ImageId) -> bool {
    state.images.values().any(|image| image.parent == Some(id))
}

/// At most one tag, and all names in one repository.
fn is_single(names: &[Reference]) -> bool {
    let tags = names.iter().filter(|name| name.tag().is_some()).count();
    let repositories: BTreeSet<String> = names.iter().map(Reference::name).collect();
    tags <= 1 && repositories.len() <= 1
}

fn is_id_of(text: &str, id: ImageId) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    !hex.is_empty() && id.hex().starts_with(hex)
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// The identities of a stack of layers (image-spec config.md, "Layer ChainID").
fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        let chain = match chains.last() {
            None => *diff_id,
            Some(below) => {
                let mut hasher = Hasher::default();
                hasher.update(format!("{below} {diff_id}").as_bytes());
                hasher.finish()
            }
        };
        chains.push(chain);
    }
    chains
}
