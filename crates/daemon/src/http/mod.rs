//! The Engine API: Docker's words stop here. What arrives becomes a call of the engine, what the engine says becomes JSON.
//!
//! In reading order: `routes` (all that can be asked), `server` (how it arrives), `wish` and `show` (from Docker's words
//! and back), and one module for each kind of thing.

mod answer;
mod archive;
mod ask;
mod containers;
mod detach;
mod exec;
mod explain;
mod filters;
mod images;
mod links;
mod list;
mod names;
mod networks;
#[cfg(test)]
mod page;
mod pipes;
mod ports;
mod routes;
mod server;
mod show;
mod streams;
mod system;
mod version;
mod volumes;
mod wish;

pub use server::{Listeners, listen, serve};
