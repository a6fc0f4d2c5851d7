//! `--link`: to whom, and by which name. On the default network a link is to a container; on others it is a name for a name.

use super::Around;
use crate::container::Container;
use crate::container::dependency::{Dependency, Wait, parted};
use crate::container::spec::{Link, NetworkMode, PlaceLink};
use crate::error::{Error, Result};
use plan::world::Proto;
use std::sync::Arc;

/// The links of a container on the default network; their targets are looked up, for a link is to a container and not to its name.
pub fn links(mode: &NetworkMode, texts: &[String], around: &Around, warnings: &mut Vec<String>) -> Result<Vec<Link>> {
    match mode {
        _ if texts.is_empty() => return Ok(Vec::new()),
        NetworkMode::Bridged => {}
        // They are of its first place.
        NetworkMode::Named(_) => return Ok(Vec::new()),
        // What cannot be on the other two is refused before.
        NetworkMode::Closed | NetworkMode::Open | NetworkMode::Joined(_) => {
            warnings.push("Links have no effect on a container without a network (--network none)".into());
            return Ok(Vec::new());
        }
    }
    let mut links: Vec<Link> = Vec::new();
    for text in texts {
        let (names, words) = parted(text);
        let (name, alias) = parts(names)?;
        let dependency = Dependency::read(text, words)?;
        let target = target(name, around)?;
        dependency.suits(text, &target.name, &target.spec)?;
        if let Some(warning) = shut(&dependency, &target, around) {
            warnings.push(warning);
        }
        links.push(Link { target: target.id.clone(), name: target.name.clone(), alias: alias.to_owned(), dependency });
    }
    let links = once(links, |link| Parts {
        target: link.target.as_str(),
        name: &link.name,
        alias: &link.alias,
        dependency: &link.dependency,
    })?;
    let names: Vec<_> = links.iter().map(|link| (&*link.name, &*link.alias)).collect();
    warnings.extend(twice(&names).map(|warning| format!("{warning}; the ports of both can be reached")));
    Ok(links)
}

/// The links of a place on a network of the user's.
///
/// # Errors
/// Those of a text.
pub fn of_place(texts: &[String]) -> Result<Vec<PlaceLink>> {
    let mut links = Vec::new();
    for text in texts {
        let (names, words) = parted(text);
        let (target, alias) = parts(names)?;
        let dependency = Dependency::read(text, words)?;
        // A whole id is too long for a name of the DNS; the short one is among every member's names.
        let is_id = target.len() == 64 && target.bytes().all(|byte| byte.is_ascii_hexdigit());
        let target = if is_id { &target[..12] } else { target };
        links.push(PlaceLink { target: target.to_owned(), alias: alias.to_owned(), dependency });
    }
    joined(links)
}

/// Links of one place, each once.
///
/// # Errors
/// One says two things.
pub fn joined(links: Vec<PlaceLink>) -> Result<Vec<PlaceLink>> {
    once(links, |link| Parts {
        target: &link.target,
        name: &link.target,
        alias: &link.alias,
        dependency: &link.dependency,
    })
}

/// What tells links apart, and what else they say.
struct Parts<'a> {
    target: &'a str,
    /// The target in words for people.
    name: &'a str,
    alias: &'a str,
    dependency: &'a Dependency,
}

/// The same links, each once.
fn once<T>(links: Vec<T>, parts: impl Fn(&T) -> Parts<'_>) -> Result<Vec<T>> {
    let mut each: Vec<T> = Vec::new();
    for link in links {
        let Parts { target, name, alias, dependency } = parts(&link);
        let before = each.iter().map(&parts).find(|other| (other.target, other.alias) == (target, alias));
        match before {
            None => each.push(link),
            Some(other) if other.dependency == dependency => {}
            Some(other) => {
                return Err(Error::Invalid(format!(
                    "bad format for links: the link to {name} as {alias} is named twice, and says \"{}\" and \"{dependency}\"; \
                     say all of it in one",
                    other.dependency
                )));
            }
        }
    }
    Ok(each)
}

/// Warnings of aliases that links of one place share.
pub fn shared(links: &[PlaceLink]) -> Vec<String> {
    twice(&links.iter().map(|link| (&*link.target, &*link.alias)).collect::<Vec<_>>()).collect()
}

/// Of targets and their aliases: the aliases that were used before.
fn twice(links: &[(&str, &str)]) -> impl Iterator<Item = String> {
    links.iter().enumerate().filter_map(|(at, (name, alias))| {
        let (first, _) = links[..at].iter().find(|(_, before)| before == alias)?;
        Some(format!(
            "The links to {first} and to {name} have one alias, {alias}: it stands for {first}, which was named first"
        ))
    })
}

/// Ports that are waited for and that the link does not open.
fn shut(dependency: &Dependency, target: &Container, around: &Around) -> Option<String> {
    let Some(Wait::Tcp(ports)) = &dependency.wait else { return None };
    let exposed = &target.spec.network.exposed;
    let shut = ports.iter().filter(|port| !exposed.contains(&(**port, Proto::Tcp))).map(u16::to_string);
    let shut = shut.collect::<Vec<_>>().join(", ");
    (!around.config.bridge.icc && !shut.is_empty()).then(|| {
        format!(
            "The link to {0} waits for what {0} does not expose ({shut}), and with --icc=false a link opens only what its \
             target exposes",
            target.name
        )
    })
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
