//! What `pull` and `push` tell while they work, in the words of Docker's JSON progress stream.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

/// One line of the stream: `{"id": …, "status": …, "progressDetail": {"current": …, "total": …}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The layer's short digest, or the tag on the first line.
    pub id: Option<String>,
    /// Docker's text.
    pub status: String,
    /// Bytes done and bytes in all.
    pub detail: Option<(u64, u64)>,
}

/// Where the lines go. Nobody need be listening.
#[derive(Clone)]
pub(crate) struct Teller(UnboundedSender<Progress>);

impl Teller {
    pub fn new(sender: UnboundedSender<Progress>) -> Teller {
        Teller(sender)
    }

    pub fn say(&self, id: Option<&str>, status: impl Into<String>) {
        self.send(id, status.into(), None);
    }

    fn send(&self, id: Option<&str>, status: String, detail: Option<(u64, u64)>) {
        // The listener may have hung up; the pull goes on until its future is dropped.
        let _ = self.0.send(Progress { id: id.map(str::to_owned), status, detail });
    }

    /// A meter for one layer.
    pub fn meter(&self, id: &str, status: &str, total: u64) -> Meter {
        Meter { teller: self.clone(), id: id.to_owned(), status: status.to_owned(), total, current: 0, last: None }
    }
}

/// Counts bytes and tells of them a few times a second: a listener that is slow must not make the queue grow.
pub(crate) struct Meter {
    teller: Teller,
    id: String,
    status: String,
    total: u64,
    current: u64,
    last: Option<Instant>,
}

impl Meter {
    pub fn add(&mut self, bytes: u64) {
        self.current += bytes;
        if self.last.is_none_or(|last| last.elapsed() >= Duration::from_millis(100)) {
            self.last = Some(Instant::now());
            self.teller.send(Some(&self.id), self.status.clone(), Some((self.current, self.total)));
        }
    }
}
