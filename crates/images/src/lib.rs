//! The image store: pull, push, load, save, import, commit, layers. It knows no container and no network but registries.
//!
//! Start at [`Store`]: everything that changes an image is a method of it. What a layer archive may do to this machine is
//! decided in `unpack` and `rooted`, how the store survives a crash in `store`.
//!
//! Invariant: a name from an archive or a registry never becomes a path of the host. Members are kept under names of our own,
//! layers are unpacked below a directory that the kernel does not let them leave, blobs are called by their digest.
//!
//! Invariant: nothing from a stranger is held in memory or on disk without a bound ([`Limits`]).
#![forbid(unsafe_code)]

// What can go wrong, and how much an archive may ask for.
mod error;
mod limits;

// Names: content addresses and references.
mod digest;
mod reference;

// Configurations and manifests, as the OCI image specification and Docker write them.
mod config;

// The store on disk; an image on its way into it.
mod adding;
mod durable;
mod store;

// Layers in: decompressed, read entry by entry, unpacked where they cannot leave.
mod compression;
mod rooted;
mod tarstream;
mod unpack;

// Layers out: trees as archives, and what a container changed.
mod diff;
mod pack;

// Archives of images.
mod load;
mod save;

// Images made here.
mod changes;
mod import;
mod time;

// Images and names taken away.
mod remove;

// Registries.
mod auth;
mod progress;
mod pull;
mod push;
mod registry;

pub use auth::Credentials;
pub use changes::apply_changes;
pub use config::{Healthcheck, History, ImageConfig, Platform, RootFs, RunConfig};
pub use diff::{Change, ChangeKind, diff};
pub use digest::{Digest, ImageId};
pub use error::{Error, Refusal, Result};
pub use import::{CommitSpec, ImportSpec};
pub use limits::Limits;
pub use load::Loaded;
pub use pack::export_tree;
pub use progress::Progress;
pub use push::Pushed;
pub use reference::Reference;
pub use registry::{Access, log_in};
pub use remove::{InUse, PruneFilters, Removed};
pub use store::{HistoryLine, Image, Store};
