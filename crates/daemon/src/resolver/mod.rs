//! The one resolver: answers the containers of every sandbox, on one thread.
//!
//! What is answered is decided in `plan::dns`; here are the sockets. The network thread hands over a sandbox's listening
//! sockets when it has made them, the engine tells who asks there, and whoever asks before both are known waits.

/// Connections from containers.
mod connections;
/// Questions from containers.
mod doors;
/// Questions to other servers.
mod forward;
/// What containers asked lately, and who listens.
mod log;
/// Things by number, where a number is never given to a second one.
mod slots;
/// The thread: what wakes it, and what it is told.
mod thread;

pub use log::{Batch, By, Line};

use crate::error::{Doing, Result};
use plan::dns::book;
use plan::ids::{ContainerId, EndpointId, NetworkId, SandboxId};
use plan::names::Server;
use plan::world::{Change, Endpoint, Fact, World};
use rustix::event::{EventfdFlags, eventfd};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use tokio::sync::mpsc;

/// What the thread is told.
#[derive(Debug)]
pub enum Note {
    /// A sandbox's sockets, or that it goes.
    Door(kernel::Door),
    /// Who asks from a sandbox.
    Asker(SandboxId, Box<Asker>),
    /// Nobody asks from there any more.
    NoAsker(SandboxId),
    /// The host's own servers.
    HostServers(Vec<Server>),
    /// What a container is called, running or not.
    Called(ContainerId, Vec<String>),
    /// A container is no more.
    NotCalled(ContainerId),
    /// A member of a network with names: what it is called there, and its addresses.
    Member(NetworkId, EndpointId, Vec<String>, Vec<IpAddr>),
    /// It has left.
    NoMember(NetworkId, EndpointId),
    /// Somebody wants to know what was asked lately from this sandbox, or from all, and perhaps what will be.
    Questions(Option<SandboxId>, bool, mpsc::Sender<Batch>),
}

/// Who asks from a sandbox.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// What it knows.
    pub names: book::Asker,
    /// Who is asked for the rest.
    pub servers: Servers,
}

/// Who is asked for what is not known here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Servers {
    /// Nobody.
    #[default]
    Nobody,
    /// The host's own servers, from the host's namespace.
    Hosts,
    /// These, from the container's namespace.
    These(Vec<IpAddr>),
}

/// The resolver, for the rest of the engine.
#[derive(Clone)]
pub struct Resolver {
    notes: Sender<Note>,
    bell: Arc<OwnedFd>,
}

impl Resolver {
    /// Starts the thread.
    ///
    /// # Errors
    /// No descriptors or threads are left.
    pub fn start() -> Result<Resolver> {
        let (notes, inbox) = channel();
        let bell =
            Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).doing("make the resolver's bell")?);
        thread::start(inbox, bell.clone())?;
        Ok(Resolver { notes, bell })
    }

    /// Tells it of an endpoint that others may find by name: by each of its names, alone and with the network's behind it.
    pub fn tell_of(&self, world: &World, endpoint: &Endpoint) {
        let Some(network) = world.networks.get(&endpoint.network).filter(|_| !endpoint.names.is_empty()) else {
            return;
        };
        let qualified = endpoint.names.iter().map(|name| format!("{name}.{}", network.name));
        // The first is what its addresses are called.
        let names = qualified.chain(endpoint.names.iter().cloned()).collect();
        self.tell(Note::Member(endpoint.network.clone(), endpoint.id.clone(), names, endpoint.addrs().collect()));
    }

    /// Tells it what a change of the facts means for names; `before` are the facts that it changes.
    pub fn follow(&self, before: &World, change: &Change) {
        for fact in change {
            let id = match fact {
                Fact::Endpoint(endpoint) => &endpoint.id,
                Fact::NoEndpoint(id, _) => id,
                _ => continue,
            };
            let new = if let Fact::Endpoint(new) = fact { Some(new) } else { None };
            match new.filter(|new| !new.names.is_empty()) {
                Some(new) => self.tell_of(before, new),
                None => {
                    let old = before.endpoints.get(id).filter(|old| !old.names.is_empty());
                    if let Some(old) = old {
                        self.tell(Note::NoMember(old.network.clone(), id.clone()));
                    }
                }
            }
        }
    }

    /// Tells it something. In order: what was told before is known when this is.
    pub fn tell(&self, note: Note) {
        if self.notes.send(note).is_err() {
            tracing::error!("the resolver's thread has ended: containers find no names");
            return;
        }
        // Full only after 2^64 calls that nobody heard.
        let _ = rustix::io::write(&self.bell, &1u64.to_ne_bytes());
    }
}
