//! The real kernel against the model of it: whatever is done to one is done to the other, and both must say the same.

/// Random worlds on the real kernel.
mod chance;
/// What is said of packets against what becomes of them.
mod explain;
/// Facts, notices and tracked flows.
mod eyes;
/// Tables: there and back, as text, and in a stranger's hands.
mod firewall;
/// Sequences of operations on links, addresses, routes and settings.
mod links;
/// Packets against rules.
mod packets;
/// The resolver's sockets and the table that leaves port 53 to containers.
mod resolver;
/// Pinned namespaces: crashes, copies of mounts, and the ends that linger.
mod spaces;
/// What others made around our network.
mod strangers;
/// Sockets that wait for somebody.
mod waiting;

use kernel::Host;
use lab::Lab;
use plan::apply::Kernel;
use plan::fake::Fake;
use plan::ids::{IfName, Mac, SandboxId};
use plan::netstate::{Errno, NetState, Ns, Op, Route};
use plan::nft::Owner;
use std::mem::discriminant;

/// The same things done to the model and to the kernel.
pub(crate) struct Both {
    pub(crate) fake: Fake,
    pub(crate) real: Host,
}

impl Both {
    pub(crate) fn new(lab: &Lab) -> Both {
        let mut both = Both { fake: Fake::default(), real: open(lab) };
        both.compare("at the beginning");
        both
    }

    /// Both must answer alike and then look alike.
    #[track_caller]
    pub(crate) fn perform(&mut self, op: &Op) -> Result<(), Errno> {
        let model = self.fake.perform(op);
        let real = self.real.perform(op);
        match (&model, &real) {
            (Ok(()), Ok(())) => {}
            (Err(a), Err(b)) if discriminant(a) == discriminant(b) && number(a) == number(b) => {}
            _ => panic!("{op}: the model says {model:?}, the kernel {real:?}"),
        }
        self.compare(&op.to_string());
        real
    }

    #[track_caller]
    pub(crate) fn ok(&mut self, op: Op) {
        if let Err(errno) = self.perform(&op) {
            panic!("{op}: {errno}");
        }
    }

    /// The kernel's refusal, in words.
    #[track_caller]
    pub(crate) fn refused(&mut self, op: Op) -> String {
        match self.perform(&op) {
            Ok(()) => panic!("{op}: was not refused"),
            Err(errno) => errno.to_string(),
        }
    }

    #[track_caller]
    pub(crate) fn compare(&mut self, after: &str) {
        let real = self.real.observe().unwrap();
        same(&real, self.fake.state(), after);
    }
}

fn number(errno: &Errno) -> Option<i32> {
    match errno {
        Errno::Kernel { errno, .. } => Some(*errno),
        _ => None,
    }
}

pub(crate) fn open(lab: &Lab) -> Host {
    Host::open(&lab.dir().join("netns")).unwrap()
}

#[track_caller]
pub(crate) fn same(real: &NetState, model: &NetState, after: &str) {
    if real != model {
        for (ns, space) in &real.spaces {
            let kernel = format!("{space:#?}");
            let other = model.spaces.get(ns).map(|other| format!("{other:#?}")).unwrap_or_default();
            let (mut kernel, mut other): (Vec<_>, Vec<_>) = (kernel.lines().collect(), other.lines().collect());
            while !kernel.is_empty() && kernel.first() == other.first() {
                kernel.remove(0);
                other.remove(0);
            }
            while !kernel.is_empty() && kernel.last() == other.last() {
                kernel.pop();
                other.pop();
            }
            if kernel != other {
                eprintln!("{ns} in the kernel:\n{}\n{ns} in the model:\n{}", kernel.join("\n"), other.join("\n"));
            }
        }
        let spaces = |state: &NetState| state.spaces.keys().cloned().collect::<Vec<_>>();
        panic!("different after: {after} (kernel: {:?}, model: {:?})", spaces(real), spaces(model));
    }
}

pub(crate) fn id(digit: char) -> SandboxId {
    digit.to_string().repeat(64).parse().unwrap()
}

pub(crate) fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

pub(crate) fn inside(digit: char) -> Ns {
    Ns::Of(id(digit))
}

pub(crate) fn net() -> Owner {
    "net 0123456789ab".parse().unwrap()
}

pub(crate) fn bridge(text: &str, mtu: u32) -> Op {
    Op::AddBridge { name: name(text), mac: Mac([2, 0x42, 10, 1, 0, 1]), mtu, owner: net() }
}

/// `veth0` on `br0`, and `eth0` in the sandbox of that digit.
pub(crate) fn veth(host: &str, master: &str, inner: &str, digit: char) -> Op {
    Op::AddVeth {
        host: name(host),
        master: name(master),
        inner: name(inner),
        into: id(digit),
        mac: Mac([2, 0x42, 10, 1, 0, digit as u8]),
        mtu: 1400,
        owner: "ep abcdefabcdef".parse().unwrap(),
    }
}

pub(crate) fn up(ns: Ns, link: &str, up: bool) -> Op {
    Op::SetUp { ns, name: name(link), up }
}

pub(crate) fn addr(ns: Ns, link: &str, addr: &str) -> Op {
    Op::AddAddr { ns, name: name(link), addr: addr.parse().unwrap() }
}

pub(crate) fn no_addr(ns: Ns, link: &str, addr: &str) -> Op {
    Op::DelAddr { ns, name: name(link), addr: addr.parse().unwrap() }
}

pub(crate) fn route(to: &str, via: Option<&str>, dev: &str) -> Route {
    Route { to: to.parse().unwrap(), via: via.map(|via| via.parse().unwrap()), dev: name(dev) }
}
