//! What went wrong, and whose doing it was.
//!
//! Two families: a *refusal* is the caller's doing and names the value, the rule and the way out; a *fault* is ours or the
//! kernel's. One function gives the HTTP status of each; the texts are those which Docker's users and scripts know.

use std::fmt::Display;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself is wrong: 400.
    #[error("{0}")]
    Invalid(String),
    /// The caller may not: 403.
    #[error("{0}")]
    Forbidden(String),
    /// What it names is not there: 404.
    #[error("{0}")]
    NotFound(String),
    /// It does not fit the present state: 409.
    #[error("{0}")]
    Conflict(String),
    /// It is so already: 304, which carries no text.
    #[error("not modified")]
    NotModified,
    /// berth does not have this (yet): 501, and the text says so.
    #[error("{0}")]
    Absent(String),
    /// This node is no part of what was asked for, such as a swarm: 503.
    #[error("{0}")]
    Unavailable(String),
    /// Our fault or the kernel's: 500.
    #[error("{0}")]
    Fault(String),
}

/// What nearly everything here answers.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The status of the HTTP answer.
    pub fn status(&self) -> u16 {
        match self {
            Error::NotModified => 304,
            Error::Invalid(_) => 400,
            Error::Forbidden(_) => 403,
            Error::NotFound(_) => 404,
            Error::Conflict(_) => 409,
            Error::Fault(_) => 500,
            Error::Absent(_) => 501,
            Error::Unavailable(_) => 503,
        }
    }
}

/// Turn any error into a fault that says what was being done.
pub trait Doing<T> {
    /// `doing`: what failed, with its object, as in `write /run/berth/containers/…/config.json`.
    ///
    /// # Errors
    /// [`Error::Fault`] with `doing: cause: cause …`.
    fn doing(self, doing: impl Display) -> Result<T>;
}

impl<T, E: std::error::Error> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: impl Display) -> Result<T> {
        self.map_err(|error| {
            let mut text = format!("{doing}: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(": ");
                text.push_str(&cause.to_string());
                source = cause.source();
            }
            Error::Fault(text)
        })
    }
}
