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

pub use config::{Healthcheck, History, ImageConfig, Platform, RootFs, RunConfig};
pub use digest::{Digest, ImageId};
pub use error::{Error, Refusal, Result};
pub use limits::Limits;
pub use load::Loaded;
pub use reference::Reference;
pub use store::{HistoryLine, Image, Store};
