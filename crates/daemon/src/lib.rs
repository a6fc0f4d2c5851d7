//! The engine: what listens on the socket and keeps containers, images and the network as they were asked for.
//!
//! In reading order:
#![forbid(unsafe_code)]

/// A container: what was asked for, what was chosen, and how it stands.
pub mod container;
/// What went wrong, and whose doing it was.
pub mod error;
