//! What containers asked lately: of each the last questions, kept in as little as they need, and whoever listens is told of each
//! when it has been answered.

use super::slots::Id;
use super::thread::Thread;
use plan::dns::book;
use plan::dns::wire::{self, Query};
use plan::ids::{NetworkId, SandboxId};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// Of each sandbox, so many questions.
const KEPT: usize = 100;

/// Who answered. `N` is how a network is named: by a shared id here, and by one of its own where it leaves the thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By<N> {
    /// What `--add-host` says.
    AddedHost,
    /// A link, of either sort.
    Link,
    /// The container's own names.
    Itself,
    /// A member of a network.
    Member(N),
    /// Nobody needed to be asked: the name or address is nobody else's business.
    Rule,
    /// An answer that was kept.
    Kept,
    /// One that was kept and is too old, for nobody answered.
    Stale,
    /// A name server.
    Server(SocketAddr),
    /// Nobody could be asked, or nobody answered.
    Nobody,
    /// Nobody was asked, for the container has too many questions on their way.
    TooMany,
}

impl<N> By<N> {
    /// The same with the network named otherwise.
    fn named<M>(self, otherwise: impl FnOnce(N) -> M) -> By<M> {
        match self {
            By::Member(network) => By::Member(otherwise(network)),
            By::AddedHost => By::AddedHost,
            By::Link => By::Link,
            By::Itself => By::Itself,
            By::Rule => By::Rule,
            By::Kept => By::Kept,
            By::Stale => By::Stale,
            By::Server(addr) => By::Server(addr),
            By::Nobody => By::Nobody,
            By::TooMany => By::TooMany,
        }
    }
}

/// A question with what became of it.
struct Entry {
    /// When it was answered and how long that took, in microseconds of the thread's clock.
    at: u64,
    took: u32,
    name: Box<[u8]>,
    kind: u16,
    rcode: u8,
    by: By<Rc<NetworkId>>,
}

/// The last questions of a sandbox.
#[derive(Default)]
pub(super) struct Log(VecDeque<Entry>);

/// A question with what became of it, for the rest of the engine.
#[derive(Clone, Debug)]
pub struct Line {
    /// From where it came.
    pub sandbox: SandboxId,
    /// When it was answered.
    pub at: SystemTime,
    /// From when it was read.
    pub took: Duration,
    /// In lower case.
    pub name: String,
    /// The type of records.
    pub kind: u16,
    /// How it ended.
    pub rcode: u8,
    /// Who answered.
    pub by: By<NetworkId>,
}

/// Some of them, in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// So many before these were not told, for nobody took them.
    pub lost: u64,
    /// The questions.
    pub lines: Vec<Line>,
}

/// Somebody who is told.
pub(super) struct Listener {
    /// Of this one's questions alone.
    of: Option<SandboxId>,
    to: Sender<Batch>,
    lost: u64,
}

impl Listener {
    /// `false`: nobody is there any more.
    fn tell(&mut self, line: Line) -> bool {
        match self.to.try_send(Batch { lost: self.lost, lines: vec![line] }) {
            Ok(()) => self.lost = 0,
            Err(TrySendError::Full(_)) => self.lost += 1,
            Err(TrySendError::Closed(_)) => return false,
        }
        true
    }
}

impl Entry {
    fn line(&self, sandbox: &SandboxId, now: u64) -> Line {
        // By the wall's clock as it goes now.
        let ago = Duration::from_micros(now.saturating_sub(self.at));
        Line {
            sandbox: sandbox.clone(),
            at: SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
            took: Duration::from_micros(self.took.into()),
            name: wire::text(&self.name),
            kind: self.kind,
            rcode: self.rcode,
            by: self.by.clone().named(|network| network.as_ref().clone()),
        }
    }
}

/// Who that was; `networks` are the asker's.
pub(super) fn by(by: book::By, networks: &[Rc<NetworkId>]) -> By<Rc<NetworkId>> {
    match by {
        book::By::AddedHost => By::AddedHost,
        book::By::Link => By::Link,
        book::By::Itself => By::Itself,
        book::By::Member(network) => {
            let known = networks.iter().find(|known| known.as_ref() == network);
            By::Member(known.cloned().unwrap_or_else(|| Rc::new(network.clone())))
        }
        book::By::Rule => By::Rule,
    }
}

impl Thread {
    /// Notes a question that came at `since` and has been answered with this message.
    pub fn note(&mut self, door: Id, query: &Query, answer: &[u8], by: By<Rc<NetworkId>>, since: u64) {
        let at = self.clock();
        let took = u32::try_from(at.saturating_sub(since)).unwrap_or(u32::MAX);
        let Some(door) = self.doors.get_mut(door) else { return };
        // The low half of the fourth byte (RFC 1035 §4.1.1).
        let (name, rcode) = (query.name.as_bytes().into(), answer.get(3).map_or(0, |byte| byte & 15));
        let entry = Entry { at, took, name, kind: query.kind, rcode, by };
        if let Some(sandbox) = door.sandbox.as_ref().filter(|_| !self.listeners.is_empty()) {
            let wants = |listener: &Listener| listener.of.as_ref().is_none_or(|of| of == sandbox);
            self.listeners.retain_mut(|listener| !wants(listener) || listener.tell(entry.line(sandbox, at)));
        }
        let log = &mut door.log.0;
        if log.len() >= KEPT {
            log.pop_front();
        }
        log.push_back(entry);
    }

    /// A sandbox is no more: who listened to it alone hears that it is over.
    pub fn asks_no_more(&mut self, sandbox: &SandboxId) {
        self.listeners.retain(|listener| listener.of.as_ref() != Some(sandbox));
    }

    /// Tells what was asked lately, by one sandbox or by all, and if so wished what comes.
    pub fn tell_questions(&mut self, of: Option<SandboxId>, follow: bool, to: Sender<Batch>) {
        // Who went away while nothing was asked has not been missed yet.
        self.listeners.retain(|listener| !listener.to.is_closed());
        let now = self.clock();
        let doors = self.doors.iter().filter_map(|(_, door)| Some((door.sandbox.as_ref()?, &door.log)));
        let wanted = doors.filter(|(sandbox, _)| of.as_ref().is_none_or(|of| of == *sandbox));
        let all = wanted.flat_map(|(sandbox, log)| log.0.iter().map(move |entry| (entry.at, sandbox, entry)));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(at, ..)| *at);
        let lines = all.into_iter().map(|(_, sandbox, entry)| entry.line(sandbox, now)).collect();
        if to.try_send(Batch { lost: 0, lines }).is_ok() && follow {
            self.listeners.push(Listener { of, to, lost: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_does_not_read_is_told_how_much_it_missed() {
        let entry = Entry { at: 5, took: 2, name: b"\x02db"[..].into(), kind: 1, rcode: 0, by: By::Kept };
        let line = |n| Line { rcode: n, ..entry.line(&"a".repeat(64).parse().unwrap(), 9) };
        assert_eq!((line(0).name.as_str(), line(0).took), ("db", Duration::from_micros(2)));
        let (to, mut from) = tokio::sync::mpsc::channel(2);
        let mut listener = Listener { of: None, to, lost: 0 };
        for n in 0..5 {
            assert!(listener.tell(line(n)));
        }
        let mut next = || from.try_recv().map(|batch| (batch.lost, batch.lines[0].rcode)).ok();
        assert_eq!([next(), next(), next()], [Some((0, 0)), Some((0, 1)), None]);
        assert!(listener.tell(line(5)));
        assert_eq!(from.try_recv().unwrap().lost, 3);
        drop(from);
        assert!(!listener.tell(line(6)));
    }
}
