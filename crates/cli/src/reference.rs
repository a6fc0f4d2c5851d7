//! Names of images: `busybox` is `docker.io/library/busybox:latest`, and the API takes the parts by themselves.

/// A name of an image in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `docker.io`, `localhost:5000`, …
    pub registry: String,
    /// `library/busybox`
    pub repository: String,
    /// A tag, or a digest such as `sha256:…`; none if the user gave neither.
    pub version: Option<Version>,
}

/// What picks one image of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// `latest`
    Tag(String),
    /// `sha256:…`
    Digest(String),
}

impl Reference {
    /// Reads a name as typed.
    ///
    /// # Errors
    /// The text of the refusal for a name that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refused = || format!("invalid reference format: '{text}' is no name of an image");
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[last..].rfind(':') {
            Some(at) => (&rest[..last + at], Some(&rest[last + at + 1..])),
            None => (rest, None),
        };
        // The first part is a registry if it cannot be a part of a path on Docker Hub.
        let (registry, path) = match name.split_once('/') {
            Some((first, path))
                if first.contains(['.', ':']) || first == "localhost" || first.to_lowercase() != first =>
            {
                (first, path.to_owned())
            }
            _ => ("docker.io", name.to_owned()),
        };
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
        let path = if registry == "docker.io" && !path.contains('/') { format!("library/{path}") } else { path };
        let good_part = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
                && part.as_bytes()[0].is_ascii_alphanumeric()
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(format!("invalid reference format: repository name ({path}) must be lowercase"));
        }
        if !path.split('/').all(good_part) {
            return Err(refused());
        }
        let good_tag = |tag: &str| {
            (1..=128).contains(&tag.len())
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
                && !tag.starts_with(['.', '-'])
        };
        let version = match (tag, digest) {
            (_, Some(digest)) => {
                let hex = digest.strip_prefix("sha256:").ok_or_else(refused)?;
                if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(refused());
                }
                Some(Version::Digest(digest.to_owned()))
            }
            (Some(tag), None) if good_tag(tag) => Some(Version::Tag(tag.to_owned())),
            (Some(_), None) => return Err(refused()),
            (None, None) => None,
        };
        Ok(Self { registry: registry.to_owned(), repository: path, version })
    }

    /// The same name with `latest` where neither tag nor digest was given.
    pub fn or_latest(mut self) -> Self {
        self.version.get_or_insert_with(|| Version::Tag("latest".to_owned()));
        self
    }

    /// The repository with its registry: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag or digest alone, empty if there is none.
    pub fn version_text(&self) -> &str {
        match &self.version {
            Some(Version::Tag(text) | Version::Digest(text)) => text,
            None => "",
        }
    }

    /// The full name: `docker.io/library/busybox:latest`.
    pub fn full(&self) -> String {
        let sign = match &self.version {
            None => "",
            Some(Version::Tag(_)) => ":",
            Some(Version::Digest(_)) => "@",
        };
        format!("{}{sign}{}", self.name(), self.version_text())
    }

    /// The name as people write it: `busybox:latest`.
    pub fn familiar(&self) -> String {
        let full = self.full();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").unwrap_or(short).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, wanted) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("me/app", "docker.io/me/app:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("localhost/a:b", "localhost/a:b"),
            ("ghcr.io/x/y/z:v1", "ghcr.io/x/y/z:v1"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("", "invalid reference format: '' is no name of an image"),
            ("a:b:c/d e", "invalid reference format: 'a:b:c/d e' is no name of an image"),
            ("a:-x", "invalid reference format: 'a:-x' is no name of an image"),
            ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
            ("busybox@sha256:12", "invalid reference format: 'busybox@sha256:12' is no name of an image"),
        ] {
            let got = Reference::parse(text).map_or_else(|why| why, |name| name.or_latest().full());
            assert_eq!(got, wanted, "{text:?}");
        }
        let pinned = Reference::parse(&format!("busybox@{digest}")).expect("a digest");
        assert_eq!(pinned.full(), format!("docker.io/library/busybox@{digest}"));
        assert_eq!(pinned.familiar(), format!("busybox@{digest}"));
    }
}
