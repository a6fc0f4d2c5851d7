//! Questions from containers.

use super::forward::{Upstreams, Via};
use super::log::{self, By, Log};
use super::slots::Id;
use super::thread::Thread;
use super::{Asker, Servers};
use kernel::Listeners;
use kernel::batch::Arrivals;
use plan::dns::book::Verdict;
use plan::dns::wire::{self, Query, Rcode, Records, Unfit};
use plan::ids::{NetworkId, SandboxId};
use std::rc::Rc;

/// How long askers may keep an answer of ours, in seconds: names come and go with containers.
const TTL: u32 = 1;
/// So many questions are read before it is another sandbox's turn.
const TURN: usize = 32;
/// A longer question is none.
const LONGEST: usize = 4096;

/// A sandbox, as the resolver sees it.
#[derive(Default)]
pub(super) struct Door {
    pub sandbox: Option<SandboxId>,
    pub listeners: Option<Listeners>,
    pub asker: Option<Asker>,
    /// The networks of the asker, as its log names them.
    pub networks: Vec<Rc<NetworkId>>,
    /// `None`: nobody is asked for what is not known here.
    pub upstreams: Option<Rc<Upstreams>>,
    pub watched: bool,
    /// Questions of it that wait for the answers of others.
    pub waiting: usize,
    /// Connections from it.
    pub connections: usize,
    /// Questions so far.
    pub turn: usize,
    /// The last of them.
    pub log: Log,
}

impl Door {
    pub fn asks_hosts(&self) -> bool {
        self.watched && self.asker.as_ref().is_some_and(|asker| asker.servers == Servers::Hosts)
    }
}

impl Thread {
    /// Reads and answers what has come from a sandbox.
    pub fn datagrams(&mut self, id: Id) {
        let Some(Door { listeners: Some(listeners), .. }) = self.doors.get(id) else { return };
        let mut arrivals = self.arrivals.take().unwrap_or_else(|| Arrivals::new(TURN, LONGEST));
        // If nothing can be read it will be told again, as it will be of what is more than a turn.
        let count = arrivals.receive(&listeners.udp).unwrap_or(0);
        for nth in 0..count {
            let Some((packet, from)) = arrivals.get(nth) else { continue };
            if self.question(id, packet, Via::Datagram(from)) {
                self.departures.add(&self.out, from);
            }
        }
        self.arrivals = Some(arrivals);
        if let Some(Door { listeners: Some(listeners), .. }) = self.doors.get(id) {
            self.departures.send(&listeners.udp);
        }
    }

    /// Takes a question. Does `out` hold the answer? If not, it comes later or never.
    pub fn question(&mut self, id: Id, packet: &[u8], via: Via) -> bool {
        let query = match wire::query(packet) {
            Ok(query) => query,
            Err(Unfit::Silence) => return false,
            Err(Unfit::Rcode(rcode)) => {
                wire::refuse(packet, rcode, &mut self.out);
                return true;
            }
        };
        if query.edns.is_some_and(|edns| edns.version > 0) {
            wire::other_version(&query, packet, &mut self.out);
            return true;
        }
        let now = self.seconds();
        let Some(door) = self.doors.get_mut(id) else { return false };
        door.turn = door.turn.wrapping_add(1);
        let Some(asker) = &door.asker else { return false };
        let limit = via.limit(&query);
        let out = &mut self.out;
        let mut say = |rcode, records| wire::answer(&query, packet, rcode, records, TTL, limit, out);
        let (verdict, by) = self.book.answer(&asker.names, &query, door.turn, now);
        match verdict {
            Verdict::Addrs(addrs) => say(Rcode::NO_ERROR, Records::Addrs(&addrs)),
            Verdict::Called(name) => say(Rcode::NO_ERROR, Records::Name(name)),
            Verdict::Nothing => say(Rcode::NO_ERROR, Records::None),
            Verdict::NoSuchName => say(Rcode::NO_SUCH_NAME, Records::None),
            Verdict::Forward => return self.forward(id, query, packet, via),
        }
        let by = log::by(by, &door.networks);
        self.noted(id, &query, by);
        true
    }

    /// Notes a question whose answer is in `out`, in the turn in which it came.
    pub fn noted(&mut self, id: Id, query: &Query, by: By<Rc<NetworkId>>) {
        let out = std::mem::take(&mut self.out);
        self.note(id, query, &out, by, self.now);
        self.out = out;
    }
}
