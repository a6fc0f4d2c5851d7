//! A container: what was asked for, what was chosen, and how it stands.

/// What a link says besides names.
pub mod dependency;
/// Whether it does what it is for.
pub mod health;
/// How a link stands.
pub mod link_state;
/// Records of older engines.
mod older;
/// What was asked for, parsed once.
pub mod spec;

pub use older::in_todays_form;

use health::Health;
use plan::ids::{ContainerId, SandboxId};
use serde::{Deserialize, Serialize};
use spec::Spec;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// Everything about one container that outlives the engine and the boot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without a leading slash.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// What was asked for, merged with what the image says. Shared, for containers are copied at every look at them.
    pub spec: Arc<Spec>,
    /// The create request as it came (`Config`, `HostConfig`, `NetworkingConfig` of the Engine API), for `inspect` to echo.
    pub asked: Arc<serde_json::Value>,
    /// The image's id (`sha256:…`).
    pub image_id: String,
    /// Named and anonymous volumes and binds, resolved: where each is on the host.
    pub mounts: Vec<MountPoint>,
    /// How it stands.
    pub state: State,
    /// What the network chose for it last time, so that it can have the same again.
    pub kept: Kept,
    /// How many times the restart policy started it.
    pub restart_count: u32,
    /// The user stopped it: `unless-stopped` and `on-failure` leave it alone.
    pub stopped_by_user: bool,
}

impl Container {
    /// What was asked for, to be changed.
    pub fn spec_mut(&mut self) -> &mut Spec {
        Arc::make_mut(&mut self.spec)
    }
}

/// How a container stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The phase.
    pub phase: Phase,
    /// The first process's pid in the engine's pid namespace; 0 unless running.
    pub pid: i32,
    /// The last exit code.
    pub exit_code: i32,
    /// The out-of-memory killer was at work when it last ended.
    pub oom_killed: bool,
    /// Why the last start failed.
    pub error: String,
    /// When it last started.
    pub started: Option<SystemTime>,
    /// When it last ended.
    pub finished: Option<SystemTime>,
    /// What its health checks say; `None`: it has none, or was never started.
    #[serde(default)]
    pub health: Option<Health>,
}

/// The life of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Made, never started.
    #[default]
    Created,
    /// Its program runs.
    Running,
    /// Frozen.
    Paused,
    /// Ended; the restart policy will start it again.
    Restarting,
    /// Ended.
    Exited,
    /// Being removed.
    Removing,
    /// Could not be removed whole.
    Dead,
}

impl Phase {
    /// The Engine API's word.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Created => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Restarting => "restarting",
            Phase::Exited => "exited",
            Phase::Removing => "removing",
            Phase::Dead => "dead",
        }
    }

    /// There is a process.
    pub fn is_alive(self) -> bool {
        matches!(self, Phase::Running | Phase::Paused)
    }
}

/// A mount of the host's into the container, resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// The volume's name; `None` is a bind mount.
    pub volume: Option<String>,
    /// The volume was made for this container alone and has no name of the user's.
    pub anonymous: bool,
    /// Where it is on the host.
    pub source: PathBuf,
    /// Where it is in the container.
    pub target: String,
    /// Read-only.
    pub read_only: bool,
    /// Mount propagation (`rprivate` unless asked otherwise).
    pub propagation: String,
    /// The mode words as typed (`z`, `ro,rslave` …), for `inspect`.
    pub mode: String,
}

/// What the network chose last time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The sandbox that was made for it, while the boot lasts.
    pub sandbox: Option<SandboxId>,
    /// The sandbox of another container that it joined, while it runs.
    pub joined: Option<SandboxId>,
    /// By network name: the addresses and MAC of the endpoint there.
    pub places: BTreeMap<String, Place>,
}

/// An endpoint's choices on one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// IPv4.
    pub addr4: Option<std::net::Ipv4Addr>,
    /// IPv6.
    pub addr6: Option<std::net::Ipv6Addr>,
    /// Ethernet.
    pub mac: Option<plan::ids::Mac>,
    /// Published ports, ephemeral ones among them.
    pub ports: Vec<plan::world::PortBinding>,
}
