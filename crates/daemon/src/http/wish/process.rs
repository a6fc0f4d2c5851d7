//! What is run, as whom and where: the request over the image.

use super::signal;
use crate::error::{Error, Result};
use api::ContainerCreateBody;
use images::RunConfig;
use std::collections::BTreeMap;

const SIGTERM: i32 = 15;

/// The program and its arguments.
pub struct Argv {
    /// Never empty.
    pub words: Vec<String>,
    /// How many of them are the entrypoint.
    pub entrypoint_len: usize,
}

/// Docker's rule: a command of the request replaces the image's; an entrypoint of the request replaces both of the image's;
/// the entrypoint `[""]` is none.
pub fn argv(body: &ContainerCreateBody, image: &RunConfig) -> Result<Argv> {
    let asked_entrypoint = body.entrypoint.clone();
    let mut cmd = body.cmd.clone().unwrap_or_default();
    let mut entrypoint = asked_entrypoint.clone().unwrap_or_default();
    if entrypoint.is_empty() {
        if cmd.is_empty() {
            cmd = image.cmd.clone().unwrap_or_default();
        }
        if asked_entrypoint.is_none() {
            entrypoint = image.entrypoint.clone().unwrap_or_default();
        }
    }
    if entrypoint == [""] {
        entrypoint.clear();
    }
    let entrypoint_len = entrypoint.len();
    let words: Vec<String> = entrypoint.into_iter().chain(cmd).collect();
    if words.is_empty() {
        return Err(Error::Invalid("no command specified".into()));
    }
    if let Some(word) = words.iter().find(|word| word.contains('\0')) {
        return Err(Error::Invalid(format!("invalid argument {word:?}: it has a NUL byte")));
    }
    Ok(Argv { words, entrypoint_len })
}

/// The image's variables, then the request's: one of the same name replaces, one without `=` removes.
pub fn env(body: &ContainerCreateBody, image: &RunConfig) -> Result<Vec<String>> {
    let mut env = image.env.clone();
    for line in body.env.iter().flatten() {
        let (name, value) = line.split_once('=').map_or((line.as_str(), None), |(name, value)| (name, Some(value)));
        if name.is_empty() || line.contains('\0') {
            return Err(Error::Invalid(format!("invalid environment variable: {line}")));
        }
        let place = env.iter().position(|have| have.split('=').next() == Some(name));
        match (value, place) {
            (Some(_), Some(place)) => env[place].clone_from(line),
            (Some(_), None) => env.push(line.clone()),
            (None, Some(place)) => drop(env.remove(place)),
            (None, None) => {}
        }
    }
    Ok(env)
}

/// Absolute; `/` if nobody said.
pub fn workdir(body: &ContainerCreateBody, image: &RunConfig) -> Result<String> {
    let asked = body.working_dir.as_deref().filter(|dir| !dir.is_empty());
    let dir = asked.unwrap_or(if image.working_dir.is_empty() { "/" } else { &image.working_dir });
    if !dir.starts_with('/') {
        return Err(Error::Invalid(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        )));
    }
    Ok(crate::oci::clean(dir))
}

/// `user[:group]`
pub fn user(body: &ContainerCreateBody, image: &RunConfig) -> String {
    body.user.clone().filter(|user| !user.is_empty()).unwrap_or_else(|| image.user.clone())
}

/// The image's labels under the request's.
pub fn labels(body: &ContainerCreateBody, image: &RunConfig) -> BTreeMap<String, String> {
    let mut labels = image.labels.clone();
    labels.extend(body.labels.clone().unwrap_or_default());
    labels
}

/// The signal that asks it to stop.
pub fn stop_signal(body: &ContainerCreateBody, image: &RunConfig) -> Result<i32> {
    let asked = body.stop_signal.as_deref().or(image.stop_signal.as_deref());
    asked.filter(|text| !text.is_empty()).map_or(Ok(SIGTERM), signal)
}
