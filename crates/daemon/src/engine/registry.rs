//! All containers, by id and by name, each with what guards and announces its life.

use crate::container::health::Status;
use crate::container::{Container, Phase};
use crate::error::{Error, Result};
use plan::ids::ContainerId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot, watch};

/// One container, live.
pub struct Cell {
    /// Its id.
    pub id: ContainerId,
    /// Held by whoever starts, clears up after, or removes it: one at a time.
    pub gate: tokio::sync::Mutex<()>,
    /// Wakes a restart policy that waits for its turn, because the user stopped or removes the container.
    pub hurry: Notify,
    /// Copied when it changes, so that those who read need not hold the lock.
    record: Mutex<Arc<Container>>,
    stage: watch::Sender<Stage>,
    /// Rung at each change of the stage.
    bell: Arc<Notify>,
    early: Mutex<Vec<Early>>,
}

/// A client that attached before the container was started, as `run` does so that it misses nothing.
pub struct Early {
    /// It feeds the container.
    pub stdin: bool,
    /// It wants its output.
    pub stdout: bool,
    /// It wants its errors.
    pub stderr: bool,
    /// Gets the streams when there are any.
    pub streams: oneshot::Sender<UnixStream>,
}

/// What waiters look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stage {
    /// There is a process.
    pub alive: bool,
    /// It is frozen.
    pub frozen: bool,
    /// What its health checks say, if it has any.
    pub health: Option<Status>,
    /// How many times it has ended since the engine started, counted after everything was cleared up.
    pub ends: u64,
    /// The last exit code.
    pub code: i32,
    /// The container is no more.
    pub removed: bool,
    /// A start is under way that waits for what the container is linked to.
    pub waits: Waits,
}

/// Whether a start waits for what its container is linked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waits {
    /// There is none, or it does not.
    #[default]
    No,
    /// It does, since then.
    Since(SystemTime),
    /// It did, and shall give up.
    GivenUp,
}

impl Waits {
    /// Since when it waits; `None`: it does not.
    pub fn since(self) -> Option<SystemTime> {
        match self {
            Waits::Since(since) => Some(since),
            Waits::No | Waits::GivenUp => None,
        }
    }
}

/// A start that waits, until this is dropped.
pub struct Waiting<'a>(&'a Cell);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.announce(|stage| stage.waits = Waits::No);
    }
}

impl Cell {
    fn new(container: Container, bell: Arc<Notify>) -> Cell {
        let stage =
            Stage { alive: container.state.phase.is_alive(), code: container.state.exit_code, ..Stage::default() };
        Cell {
            id: container.id.clone(),
            gate: tokio::sync::Mutex::new(()),
            hurry: Notify::new(),
            record: Mutex::new(Arc::new(container)),
            stage: watch::Sender::new(stage),
            bell,
            early: Mutex::default(),
        }
    }

    fn record(&self) -> MutexGuard<'_, Arc<Container>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record as it is now.
    pub fn snapshot(&self) -> Arc<Container> {
        self.record().clone()
    }

    /// The phase as it is now.
    pub fn phase(&self) -> Phase {
        self.record().state.phase
    }

    /// Change the record; how it is afterwards.
    pub fn change(&self, how: impl FnOnce(&mut Container)) -> Arc<Container> {
        let mut record = self.record();
        how(Arc::make_mut(&mut record));
        record.clone()
    }

    /// Remembers a client until the next start.
    pub fn attach_early(&self, early: Early) {
        let mut waiting = self.early.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|early| !early.streams.is_closed());
        waiting.push(early);
    }

    /// The clients that wait for the streams; they are forgotten here.
    pub fn take_early(&self) -> Vec<Early> {
        std::mem::take(&mut *self.early.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says that a start waits; who holds the gate does.
    pub fn wait(&self) -> Waiting<'_> {
        self.announce(|stage| {
            // Whoever asked for the start may be gone already.
            if stage.waits == Waits::No {
                stage.waits = Waits::Since(SystemTime::now());
            }
        });
        Waiting(self)
    }

    /// Whoever asked for the start that is under way is gone: should it come to wait, it gives up.
    pub fn leave(&self) {
        self.announce(|stage| stage.waits = Waits::GivenUp);
    }

    /// Another start begins, or this one is over: whoever left one before has nothing to do with it.
    pub fn wanted(&self) {
        self.stage.send_if_modified(|stage| std::mem::take(&mut stage.waits) != Waits::No);
    }

    /// Lets a start that waits give up. Does one?
    pub fn give_up(&self) -> bool {
        let mut waited = false;
        self.announce(|stage| {
            waited = stage.waits.since().is_some();
            if waited {
                stage.waits = Waits::GivenUp;
            }
        });
        waited
    }

    /// The gate, for who can come again later: a start that waits may hold it for long, and then nobody else waits for it.
    ///
    /// # Errors
    /// A start waits.
    pub async fn enter(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let mut stages = self.stages();
        let waits = async { stages.wait_for(|stage| stage.waits.since().is_some()).await.is_ok() };
        tokio::select! {
            biased;
            gate = self.gate.lock() => Ok(gate),
            _ = waits => {
                let container = self.snapshot();
                let waits = container.spec.network.dependencies().filter(|(_, dependency)| dependency.wait.is_some());
                let names: Vec<&str> = waits.map(|(name, _)| name).collect();
                Err(Error::Conflict(format!(
                    "container {} is being started and waits for what it is linked to ({}): stop it, or try again when it \
                     runs",
                    container.name,
                    names.join(", ")
                )))
            }
        }
    }

    /// The gate, for who wants the container to end or to go: a start that waits gives up for him.
    pub async fn seize(&self) -> tokio::sync::MutexGuard<'_, ()> {
        let mut stages = self.stages();
        loop {
            let waits = async { stages.wait_for(|stage| stage.waits.since().is_some()).await.is_ok() };
            tokio::select! {
                biased;
                gate = self.gate.lock() => return gate,
                _ = waits => drop(self.give_up()),
            }
        }
    }

    /// Tell those who wait.
    pub fn announce(&self, how: impl FnOnce(&mut Stage)) {
        self.stage.send_modify(how);
        self.bell.notify_one();
    }

    /// Watch its life.
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }
}

#[derive(Default)]
struct Index {
    by_id: BTreeMap<ContainerId, Arc<Cell>>,
    by_name: BTreeMap<String, ContainerId>,
}

/// All of them.
#[derive(Default)]
pub struct Registry {
    index: RwLock<Index>,
    bell: Arc<Notify>,
}

impl Registry {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rung whenever something happens to a container, for one who then looks what that was.
    pub fn bell(&self) -> Arc<Notify> {
        self.bell.clone()
    }

    /// Takes a name for an id, before the container is there.
    ///
    /// # Errors
    /// Docker's conflict text, naming the holder.
    pub fn reserve(&self, name: &str, id: &ContainerId) -> Result<()> {
        let mut index = self.write();
        if let Some(holder) = index.by_name.get(name) {
            return Err(Error::Conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or \
                 rename) that container to be able to reuse that name.",
                holder.as_str()
            )));
        }
        index.by_name.insert(name.to_owned(), id.clone());
        Ok(())
    }

    /// Gives a name back.
    pub fn release(&self, name: &str) {
        self.write().by_name.remove(name);
    }

    /// Adds a container; its name is taken with it.
    pub fn insert(&self, container: Container) -> Arc<Cell> {
        let mut index = self.write();
        index.by_name.insert(container.name.clone(), container.id.clone());
        let cell = Arc::new(Cell::new(container, self.bell.clone()));
        index.by_id.insert(cell.id.clone(), cell.clone());
        cell
    }

    /// Removes a container and its name.
    pub fn remove(&self, id: &ContainerId) {
        let mut index = self.write();
        index.by_id.remove(id);
        index.by_name.retain(|_, holder| holder != id);
    }

    /// By full id, name (with or without slash), or unique prefix of an id, in this order.
    ///
    /// # Errors
    /// `No such container: X`, or an ambiguous prefix.
    pub fn find(&self, reference: &str) -> Result<Arc<Cell>> {
        let index = self.read();
        let name = reference.strip_prefix('/').unwrap_or(reference);
        let exact = reference.parse::<ContainerId>().ok();
        if let Some(cell) = exact.as_ref().or_else(|| index.by_name.get(name)).and_then(|id| index.by_id.get(id)) {
            return Ok(cell.clone());
        }
        let missing = || Error::NotFound(format!("No such container: {reference}"));
        if reference.is_empty() || !reference.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut fitting = index.by_id.values().filter(|cell| cell.id.as_str().starts_with(reference));
        match (fitting.next(), fitting.next()) {
            (Some(cell), None) => Ok(cell.clone()),
            (Some(_), Some(_)) => Err(Error::Invalid(format!("Multiple IDs found with provided prefix: {reference}"))),
            (None, _) => Err(missing()),
        }
    }

    /// By id.
    pub fn get(&self, id: &ContainerId) -> Option<Arc<Cell>> {
        self.read().by_id.get(id).cloned()
    }

    /// Every one.
    pub fn all(&self) -> Vec<Arc<Cell>> {
        self.read().by_id.values().cloned().collect()
    }
}
