//! Forgets tracked flows that the rules no longer lead as they go.
//!
//! A walk through all that the kernel tracks takes it some 20 ms (it has a quarter of a million buckets on most hosts), for
//! which no start or stop should wait: a thread of its own does it, for all that asked meanwhile at once. So it comes a little
//! later than the change of the rules, and what the facts lead by then is left alone.

use crate::error::{Doing, Result};
use kernel::conntrack::Tracked;
use plan::flows::Flows;
use plan::world::World;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use tracing::{debug, warn};

/// The way to the thread, which ends with it.
pub struct Forgetting(Sender<Vec<Flows>>);

impl Forgetting {
    /// Starts the thread.
    ///
    /// # Errors
    /// No right to the kernel's tracking of flows.
    pub fn start(world: Arc<RwLock<World>>) -> Result<Forgetting> {
        let tracked = Tracked::open().doing("open the kernel's tracking of flows")?;
        let (asked, inbox) = channel();
        let run = move || run(tracked, &world, &inbox);
        std::thread::Builder::new().name("flows".into()).spawn(run).doing("start the thread that forgets flows")?;
        Ok(Forgetting(asked))
    }

    /// Has these flows forgotten.
    pub fn forget(&self, flows: Vec<Flows>) {
        // The thread lives as long as this.
        let _ = self.0.send(flows);
    }
}

fn run(mut tracked: Tracked, world: &RwLock<World>, inbox: &Receiver<Vec<Flows>>) {
    while let Ok(first) = inbox.recv() {
        let all: Vec<Flows> = std::iter::once(first).chain(inbox.try_iter()).flatten().collect();
        let started = std::time::Instant::now();
        let led = |flow: &plan::flows::Flow| flow.is_led_by(&world.read().unwrap_or_else(PoisonError::into_inner));
        match tracked.forget(&all, led) {
            Ok(()) => debug!(of = all.len(), took = ?started.elapsed(), "flows were forgotten"),
            Err(errno) => warn!(%errno, "flows through ports that are published no longer may go on"),
        }
    }
}
