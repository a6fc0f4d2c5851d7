//! The image store: pull, push, load, save, import, commit, layers. Knows no container and no network of containers.
//!
//! Start at [`Store`]. Its parts, in reading order:
#![forbid(unsafe_code)]

mod error;
mod limits;

mod digest;
mod reference;

mod config;

mod durable;
mod store;

mod compression;
mod rooted;
mod tarstream;
mod unpack;

mod load;
mod save;

mod changes;
mod import;
mod pack;
mod time;

mod diff;
mod remove;

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
pub use registry::Access;
pub use remove::{InUse, PruneFilters, Removed};
pub use store::{HistoryLine, Image, Store};
