//! Image names: Docker's reference grammar with its familiar short forms.
//!
//! The grammar is that of the `distribution/reference` specification: `[domain/]path[:tag][@digest]`. A name without a
//! domain means Docker Hub (`docker.io`), and one without a slash its `library/` repositories. Error texts are Docker's.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::Refusal;

const HUB: &str = "docker.io";
const HUB_LEGACY: &str = "index.docker.io";
/// The longest name without tag and digest.
const NAME_MAX: usize = 255;

/// A parsed image name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as users type it. A missing tag stays missing: see [`Reference::or_latest`].
    ///
    /// # Errors
    /// [`Refusal::BadReference`] with Docker's text.
    pub fn parse(text: &str) -> Result<Reference, Refusal> {
        if Digest::from_hex(text).is_some() {
            return Err(bad(format!("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")));
        }
        let (domain, remainder) = split_domain(text);
        let end = remainder.find([':', '@']).unwrap_or(remainder.len());
        let path = &remainder[..end];
        if path.chars().any(char::is_uppercase) {
            return Err(bad(format!("invalid reference format: repository name ({path}) must be lowercase")));
        }
        let (rest, digest) = match remainder[end..].split_once('@') {
            Some((rest, digest)) => (rest, Some(parse_digest(digest)?)),
            None => (&remainder[end..], None),
        };
        let tag = match rest.strip_prefix(':') {
            Some(tag) if is_tag(tag) => Some(tag.to_owned()),
            None if rest.is_empty() => None,
            _ => return Err(invalid()),
        };
        if !is_domain(&domain) || !is_path(path) {
            return Err(invalid());
        }
        if domain.len() + 1 + path.len() > NAME_MAX {
            return Err(bad(format!("repository name must not be more than {NAME_MAX} characters")));
        }
        Ok(Reference { domain, path: path.to_owned(), tag, digest })
    }

    /// The registry's host and port, `docker.io` for Docker Hub.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry, such as `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Domain and path, such as `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name in its short form, without tag and digest, such as `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != HUB {
            return self.name();
        }
        match self.path.strip_prefix("library/") {
            // `library/a/b` is not what `a/b` means.
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole reference in its short form, such as `busybox:1.36`.
    pub fn familiar(&self) -> String {
        self.written(self.familiar_name())
    }

    /// This name with the tag `latest`, if it has neither tag nor digest.
    pub fn or_latest(self) -> Reference {
        match (&self.tag, self.digest) {
            (None, None) => self.with_tag("latest"),
            _ => self,
        }
    }

    /// The same repository with this tag and no digest. The tag must be one of the grammar: internal callers pass parsed ones.
    pub(crate) fn with_tag(&self, tag: &str) -> Reference {
        Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() }
    }

    /// The same repository with this digest and no tag.
    pub(crate) fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn written(&self, name: String) -> String {
        let tag = self.tag.iter().map(|tag| format!(":{tag}"));
        let digest = self.digest.iter().map(|digest| format!("@{digest}"));
        std::iter::once(name).chain(tag).chain(digest).collect()
    }
}

impl fmt::Display for Reference {
    /// The full form, such as `docker.io/library/busybox:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(self.name()))
    }
}

impl FromStr for Reference {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Reference, Refusal> {
        Reference::parse(text)
    }
}

fn bad(text: String) -> Refusal {
    Refusal::BadReference(text)
}

fn invalid() -> Refusal {
    bad("invalid reference format".to_owned())
}

/// The first component is a domain only if it could not be a Docker Hub user's name.
fn split_domain(text: &str) -> (String, String) {
    let (domain, path) = match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase) =>
        {
            (first, rest)
        }
        _ => (HUB, text),
    };
    let domain = if domain == HUB_LEGACY { HUB } else { domain };
    let bare = !path.contains('/');
    let path = if domain == HUB && bare { format!("library/{path}") } else { path.to_owned() };
    (domain.to_owned(), path)
}

fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    let (algorithm, hex) = text.split_once(':').ok_or_else(invalid)?;
    if algorithm != "sha256" {
        return match algorithm {
            "sha384" | "sha512" => Err(bad("unsupported digest algorithm".to_owned())),
            _ => Err(invalid()),
        };
    }
    Digest::from_hex(hex).ok_or_else(|| match hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        true => bad("invalid checksum digest length".to_owned()),
        false => invalid(),
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
        && tag.bytes().next().is_some_and(word)
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rfind(':') {
        // The colons of an IPv6 address are inside its brackets.
        Some(at) if !domain[at..].contains(']') => (&domain[..at], Some(&domain[at + 1..])),
        _ => (domain, None),
    };
    let port_fits = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let host_fits = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        }),
    };
    host_fits && port_fits
}

fn is_path(path: &str) -> bool {
    path.split('/').all(is_component)
}

/// Runs of letters and digits, separated by one dot, one or two underscores, or any number of dashes.
fn is_component(component: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !component.starts_with(plain) || !component.ends_with(plain) {
        return false;
    }
    component
        .split(plain)
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let at = format!("@sha256:{HEX}");
        let cases: &[(&str, &str, &str)] = &[
            ("busybox", "docker.io/library/busybox", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("library/busybox", "docker.io/library/busybox", "busybox"),
            ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
            ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
            ("user/app", "docker.io/user/app", "user/app"),
            ("library/user/app", "docker.io/library/user/app", "library/user/app"),
            ("localhost/x", "localhost/x", "localhost/x"),
            ("localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("[2001:db8::1]/x", "[2001:db8::1]/x", "[2001:db8::1]/x"),
            ("ghcr.io/a_b/c--d/e__f.g", "ghcr.io/a_b/c--d/e__f.g", "ghcr.io/a_b/c--d/e__f.g"),
            ("Registry.example/x", "Registry.example/x", "Registry.example/x"),
            ("FOO/bar", "FOO/bar", "FOO/bar"),
            ("x:TAG.with-all_1", "docker.io/library/x:TAG.with-all_1", "x:TAG.with-all_1"),
            ("localhost", "docker.io/library/localhost", "localhost"),
            (&format!("busybox{at}"), &format!("docker.io/library/busybox{at}"), &format!("busybox{at}")),
            (&format!("busybox:t{at}"), &format!("docker.io/library/busybox:t{at}"), &format!("busybox:t{at}")),
            (
                &format!("localhost:5000/x:y{at}"),
                &format!("localhost:5000/x:y{at}"),
                &format!("localhost:5000/x:y{at}"),
            ),
        ];
        for (text, full, familiar) in cases {
            let parsed = Reference::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(parsed.to_string(), *full, "{text}");
            assert_eq!(parsed.familiar(), *familiar, "{text}");
            assert_eq!(Reference::parse(&parsed.to_string()).unwrap(), parsed, "{text}");
        }
    }

    #[test]
    fn wrong_names_are_refused_in_dockers_words() {
        let invalid = "invalid reference format";
        let long_tag = format!("x:{}", "t".repeat(129));
        let long_name = format!("x/{}", "y".repeat(250));
        let cases: &[(&str, &str)] = &[
            ("", invalid),
            ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
            ("user/Foo:x", "invalid reference format: repository name (user/Foo) must be lowercase"),
            ("localhost:5000/Foo", "invalid reference format: repository name (Foo) must be lowercase"),
            ("x:", invalid),
            ("x:-y", invalid),
            ("x:.y", invalid),
            ("x:a:b", invalid),
            ("x y", invalid),
            ("-x", invalid),
            ("x-", invalid),
            ("x..y", invalid),
            ("x___y", invalid),
            ("x//y", invalid),
            ("/x", invalid),
            ("x/", invalid),
            ("../x", invalid),
            ("ünï", invalid),
            ("x@", invalid),
            ("x@sha256:abc", invalid),
            ("x@md5:0123456789abcdef0123456789abcdef", invalid),
            ("x@sha256:0123456789abcdef0123456789abcdef", "invalid checksum digest length"),
            (&format!("x@sha512:{HEX}{HEX}"), "unsupported digest algorithm"),
            (HEX, &format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
            ("a.b:port/x", invalid),
            ("-a.b/x", invalid),
            ("[::1/x", invalid),
            (&long_tag, invalid),
            (&long_name, "repository name must not be more than 255 characters"),
        ];
        for (text, expected) in cases {
            match Reference::parse(text) {
                Ok(parsed) => panic!("`{text}` was read as {parsed}"),
                Err(error) => assert_eq!(error.to_string(), *expected, "{text}"),
            }
        }
    }
}
