//! `--link`: to whom, and by which name.

use super::Around;
use crate::container::Container;
use crate::container::spec::{Link, NetworkMode, PlaceLink};
use crate::error::{Error, Result};
use plan::ids::ContainerId;
use std::sync::Arc;

/// The links of a container; their targets are looked up, for a link is to a container and not to its name.
pub fn links(mode: &NetworkMode, texts: &[String], around: &Around, warnings: &mut Vec<String>) -> Result<Vec<Link>> {
    match mode {
        _ if texts.is_empty() => return Ok(Vec::new()),
        NetworkMode::Bridged => {}
        // Nothing but names there: see [`of_place`].
        NetworkMode::Named(_) => return Ok(Vec::new()),
        // What cannot be on the other two is refused before.
        NetworkMode::Closed | NetworkMode::Open | NetworkMode::Joined(_) => {
            warnings.push("Links have no effect on a container without a network (--network none)".into());
            return Ok(Vec::new());
        }
    }
    let mut links: Vec<Link> = Vec::new();
    for text in texts {
        let (name, alias) = parts(text)?;
        let target = target(name, around)?;
        let link = Link { target: target.id.clone(), name: target.name.clone(), alias: alias.to_owned() };
        if !links.contains(&link) {
            links.push(link);
        }
    }
    for (at, link) in links.iter().enumerate() {
        if let Some(first) = links[..at].iter().find(|first| first.alias == link.alias) {
            warnings.push(format!(
                "The links to {first} and to {} have one alias, {}: it stands for {first}, which was named first; the ports \
                 of both can be reached",
                link.name,
                link.alias,
                first = first.name,
            ));
        }
    }
    Ok(links)
}

/// The links of a place on a user-defined network.
///
/// # Errors
/// Not of the form of a link.
pub fn of_place(texts: &[String]) -> Result<Vec<PlaceLink>> {
    let link = |text: &String| {
        let (target, alias) = parts(text)?;
        // A whole id is no name, for it is too long for one; its beginning is.
        let target = target.parse::<ContainerId>().map_or_else(|_| target.to_owned(), |id| id.short().to_string());
        Ok(PlaceLink { target, alias: alias.to_owned() })
    };
    texts.iter().map(link).collect()
}

/// `TARGET`, `TARGET:ALIAS`, or as `inspect` shows it: `/TARGET:/SOURCE/ALIAS`.
fn parts(text: &str) -> Result<(&str, &str)> {
    if text.is_empty() {
        return Err(Error::Invalid("empty string specified for links".into()));
    }
    let bad = || Error::Invalid(format!("bad format for links: {text}"));
    let (name, alias) = match text.split_once(':') {
        None => (text, text.trim_start_matches('/')),
        Some((_, rest)) if rest.contains(':') => return Err(bad()),
        Some((name, alias)) => (name, alias),
    };
    let alias = if name.starts_with('/') { alias.rsplit('/').next().unwrap_or(alias) } else { alias };
    let name = name.trim_start_matches('/');
    if name.is_empty() || alias.is_empty() {
        return Err(bad());
    }
    // It becomes a name in a file of names, and a part of the names of variables.
    if !alias.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Err(Error::Invalid(format!(
            "bad format for links: {text}: an alias has letters, digits, `_`, `.` and `-`, and {alias:?} has others"
        )));
    }
    Ok((name, alias))
}

/// The container that has the network which is meant.
fn target(name: &str, around: &Around) -> Result<Arc<Container>> {
    let find = |name: &str| {
        (around.find)(name).map_err(|error| match error {
            // A request that names nobody is a wrong one, not one for nobody.
            Error::NotFound(text) => Error::Invalid(format!("could not get container for {name}: {text}")),
            other => other,
        })
    };
    let mut found = find(name)?;
    loop {
        found = match &found.spec.network.mode {
            NetworkMode::Joined(other) => find(other)?,
            NetworkMode::Open => {
                return Err(Error::Invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined \
                     behavior"
                        .into(),
                ));
            }
            _ => return Ok(found),
        };
    }
}
