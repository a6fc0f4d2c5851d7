//! A thread that goes into other namespaces and comes back, so that no other thread ever has to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// The calling thread's network namespace.
pub(crate) const OWN: &str = "/proc/thread-self/ns/net";

/// Is told whether the thread got there.
type Job = Box<dyn FnOnce(io::Result<()>) + Send>;

pub(crate) enum Where {
    /// A namespace that does not exist yet.
    New,
    /// The namespace of this descriptor.
    In(OwnedFd),
}

/// Lives until it is dropped; a new thread takes over should one not find its way back.
pub(crate) struct Visitor {
    visits: Sender<(Where, Job)>,
}

impl Visitor {
    pub fn new() -> Visitor {
        Visitor { visits: spawn() }
    }

    /// Do something elsewhere and wait for it.
    pub fn visit<T: Send + 'static>(
        &mut self,
        place: Where,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (done, result) = channel();
        let job: Job = Box::new(move |arrived: io::Result<()>| {
            // The other side waits for it, or is gone together with its interest.
            let _ = done.send(arrived.and_then(|()| job()));
        });
        if let Err(unsent) = self.visits.send((place, job)) {
            self.visits = spawn();
            let lost = |_| io::Error::other("the thread that visits namespaces is gone");
            self.visits.send(unsent.0).map_err(lost)?;
        }
        result.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that visits namespaces is gone")))
    }
}

fn spawn() -> Sender<(Where, Job)> {
    let (sender, visits) = channel();
    let spawned = std::thread::Builder::new().name("netns".into()).spawn(move || serve(&visits));
    if let Err(err) = spawned {
        // The receiver is gone with the closure: the next visit says so to its caller.
        tracing::error!(%err, "no thread for visiting network namespaces");
    }
    sender
}

fn serve(visits: &Receiver<(Where, Job)>) {
    let home = match File::open(OWN) {
        Ok(home) => home,
        Err(err) => return tracing::error!(%err, path = OWN, "no way home"),
    };
    while let Ok((place, job)) = visits.recv() {
        job(go(&place));
        drop(place);
        if let Err(err) = enter(home.as_fd()) {
            // Ends this thread, and with it the wrong namespace.
            return tracing::error!(%err, "return from a network namespace");
        }
    }
}

fn go(place: &Where) -> io::Result<()> {
    match place {
        Where::New => {
            // SAFETY: only the network namespace is unshared: no descriptor table, no memory, no file system state.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(Into::into)
        }
        Where::In(ns) => enter(ns.as_fd()),
    }
}

pub(crate) fn enter(ns: std::os::fd::BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(ns, Some(LinkNameSpaceType::Network)).map_err(Into::into)
}
