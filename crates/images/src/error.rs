//! What can go wrong, in two families: a [`Refusal`] is the caller's (or the archive's, or the registry's) doing,
//! everything else in [`Error`] is a fault of this machine or of the store.

use std::io;

/// What the caller, an archive or a registry did wrong. The text names the value, the rule and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An image name that the grammar does not allow. The texts are Docker's.
    #[error("{0}")]
    BadReference(String),
    /// No image of the store has this name or id.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// A short id that begins more than one image's id.
    #[error("image id prefix `{prefix}` is ambiguous: {matches}; give more digits")]
    Ambiguous {
        /// The prefix as given.
        prefix: String,
        /// The short ids it could mean, separated by commas.
        matches: String,
    },
    /// The image is used or shared in a way that forbids what was asked. The texts are Docker's.
    #[error("{0}")]
    Conflict(String),
    /// An entry of an archive or layer that is not accepted.
    #[error("archive entry `{entry}`: {why}")]
    BadEntry {
        /// The entry's name, lossily as UTF-8 and shortened.
        entry: String,
        /// The rule that it breaks.
        why: String,
    },
    /// An archive, manifest or configuration that is not accepted as a whole.
    #[error("{0}")]
    BadArchive(String),
    /// One of the [`Limits`](crate::Limits) is exceeded.
    #[error("{what} is over the limit of {limit}: refused as a possible decompression bomb")]
    OverLimit {
        /// What was counted.
        what: String,
        /// The limit with its unit.
        limit: String,
    },
    /// A `--change` instruction that is not understood.
    #[error("{0}")]
    BadChange(String),
    /// A filter that is not understood.
    #[error("{0}")]
    BadFilter(String),
    /// The registry wants other credentials, or any.
    #[error("{0}")]
    Unauthorized(String),
    /// The registry has no such repository, tag or blob.
    #[error("{0}")]
    NotInRegistry(String),
    /// What the registry sent breaks its own promises (digest, size, form).
    #[error("registry {registry}: {why}")]
    BadRegistry {
        /// The registry's host and port.
        registry: String,
        /// What is wrong with its answer.
        why: String,
    },
    /// The registry does not speak TLS and is not one that may be spoken to without.
    #[error(
        "registry {registry} did not answer over https ({why}); plain http is used only for loopback addresses and for registries named insecure"
    )]
    NeedsTls {
        /// The registry's host and port.
        registry: String,
        /// What the attempt over https met.
        why: String,
    },
    /// The image has no manifest for the platform.
    #[error("no matching manifest for {platform} in the manifest list entries; it offers: {offers}")]
    NoPlatform {
        /// The wanted platform, such as `linux/amd64`.
        platform: String,
        /// What the index offers.
        offers: String,
    },
}

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's, an archive's or a registry's doing.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the object's name.
        doing: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The registry could not be reached or broke off.
    #[error("registry {registry}: {why}")]
    Network {
        /// The registry's host and port.
        registry: String,
        /// What the attempt met.
        why: String,
    },
    /// A file of the store does not say what it must.
    #[error("the image store's {file} is damaged: {why}; move it away and load or pull its images again")]
    Damaged {
        /// The file's path.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// Another process holds the store.
    #[error("the image store {0} is in use by another process")]
    Locked(String),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The refusal, if this is the caller's doing.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Error::Refusal(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// Says what was being done when the system refused. A [`Refusal`] that travelled inside an `io::Error` (readers can return
/// nothing else) comes out as itself.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            match error.downcast::<Refusal>() {
                Ok(refusal) => Error::Refusal(refusal),
                Err(source) => Error::Io { doing: what(), source },
            }
        })
    }
}

/// Makes an `io::Error` that carries a refusal through a `Read` or `Write`.
pub(crate) fn in_io(refusal: Refusal) -> io::Error {
    io::Error::other(refusal)
}

/// A refusal of one archive entry. The name is shortened: a hostile one may be a megabyte.
pub(crate) fn bad_entry(entry: &[u8], why: impl Into<String>) -> Error {
    let mut name: String = String::from_utf8_lossy(entry).chars().take(200).collect();
    if entry.len() > 200 {
        name.push('…');
    }
    Refusal::BadEntry { entry: name, why: why.into() }.into()
}

/// A refusal of a whole archive.
pub(crate) fn bad_archive(why: impl Into<String>) -> Error {
    Refusal::BadArchive(why.into()).into()
}
