//! What most tests ask of an engine by its commands.

use crate::dns::Reply;
use crate::{Engine, Host, Lab, has_docker};
use std::path::Path;

impl Engine {
    /// Starts a container of busybox that sleeps, with these flags of `run`.
    #[track_caller]
    pub fn sleeper(&self, name: &str, flags: &[&str]) {
        self.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sleep", "1000"]].concat());
    }

    /// What `inspect --format` says of something, without the end of the line.
    #[track_caller]
    pub fn told(&self, format: &str, name: &str) -> String {
        self.ok(&["inspect", "-f", format, name]).trim().to_owned()
    }

    /// What both commands print for these words, which must be the same; ours alone where `docker` is not installed.
    #[track_caller]
    pub fn both(&self, words: &[&str]) -> String {
        let ours = self.ok(words);
        if has_docker() {
            assert_eq!(self.docker_ok(words), ours, "docker {words:?}");
        }
        ours
    }
}

impl Lab {
    /// A container's network, as a place to speak and serve from. The container must have a sandbox.
    #[track_caller]
    pub fn container(&self, engine: &Engine, name: &str) -> Host {
        self.inside_path(Path::new(&engine.told("{{.NetworkSettings.SandboxKey}}", name)))
    }
}

/// Where a container finds the engine's resolver.
pub const RESOLVER: &str = "127.0.0.11:53";

impl Host {
    /// What the engine's resolver answers to a question from here, as [`Host::dns`] has it.
    #[track_caller]
    pub fn ask(&self, what: &str) -> Reply {
        self.dns(RESOLVER, what).unwrap_or_else(|err| panic!("{what}: {err}"))
    }

    /// That is its answer.
    #[track_caller]
    pub fn answers(&self, what: &str, wanted: &str) {
        assert_eq!(self.ask(what).to_string(), wanted, "{what}");
    }
}
