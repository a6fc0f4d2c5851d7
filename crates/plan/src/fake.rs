//! A kernel that is nothing but the model.

use crate::apply::Kernel;
use crate::netstate::{Errno, NetState, Ns, Op};
use crate::nft::Owner;
use crate::step::step;
use std::collections::BTreeSet;

/// `EPERM`
const EPERM: i32 = 1;
/// `EIO`
const EIO: i32 = 5;

/// A kernel for tests: holds a network, refuses what the kernel would, dies when told to.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    state: NetState,
    left: Option<usize>,
    refused: BTreeSet<Owner>,
    performed: Vec<Op>,
}

impl Fake {
    /// With this network.
    pub fn with(state: NetState) -> Fake {
        Fake { state, ..Fake::default() }
    }

    /// Does so many operations and then answers nothing any more.
    pub fn crashing_after(state: NetState, operations: usize) -> Fake {
        Fake { left: Some(operations), ..Fake::with(state) }
    }

    /// The same network, and well again.
    pub fn healed(self) -> Fake {
        Fake::with(self.state)
    }

    /// From now on refuses whatever is done for that owner.
    pub fn refuse(&mut self, owner: Owner) {
        self.refused.insert(owner);
    }

    /// What was done, in order.
    pub fn performed(&self) -> &[Op] {
        &self.performed
    }

    /// The network.
    pub fn state(&self) -> &NetState {
        &self.state
    }

    fn alive(&self) -> Result<(), Errno> {
        if self.left == Some(0) { Err(Errno::Kernel { errno: EIO, text: "the fake is dead".into() }) } else { Ok(()) }
    }

    fn concerns(&self, op: &Op) -> Vec<Owner> {
        match op {
            Op::AddSpace(id) | Op::DelSpace(id) | Op::SetResolver { id, .. } => vec![Owner::Sandbox(id.short())],
            Op::AddBridge { owner, .. }
            | Op::AddVeth { owner, .. }
            | Op::AddVlan { owner, .. }
            | Op::AddMacvlan { owner, .. } => vec![*owner],
            Op::ChangeElements { changes, .. } => changes.iter().map(|change| change.owner).collect(),
            Op::ReplaceTable { table, .. } => {
                table.sets.values().flat_map(|set| set.elements.values()).map(|element| element.why.owner).collect()
            }
            Op::SetMaster { name, .. } | Op::SetPort { name, .. } | Op::SetRouteLocalnet { name, .. } => {
                self.owner(&Ns::Host, name)
            }
            Op::DelLink { ns, name }
            | Op::SetMtu { ns, name, .. }
            | Op::SetMac { ns, name, .. }
            | Op::SetNoIpv6 { ns, name, .. }
            | Op::SetSysctls { ns, name, .. }
            | Op::SetUp { ns, name, .. }
            | Op::AddAddr { ns, name, .. }
            | Op::DelAddr { ns, name, .. } => self.owner(ns, name),
            Op::AddRoute { ns, route } | Op::DelRoute { ns, route } => self.owner(ns, &route.dev),
            Op::SetForwarding { .. } | Op::DelTable { .. } | Op::ForgetFlows(_) => vec![Owner::Engine],
        }
    }

    fn owner(&self, ns: &Ns, name: &crate::ids::IfName) -> Vec<Owner> {
        let link = self.state.spaces.get(ns).and_then(|space| space.links.get(name));
        link.map(|link| link.owner).into_iter().collect()
    }
}

impl Kernel for Fake {
    fn perform(&mut self, op: &Op) -> Result<(), Errno> {
        self.alive()?;
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        if let Some(owner) = self.concerns(op).into_iter().find(|owner| self.refused.contains(owner)) {
            return Err(Errno::Kernel { errno: EPERM, text: format!("nothing for {owner}") });
        }
        step(&mut self.state, op)?;
        self.performed.push(op.clone());
        Ok(())
    }

    fn observe(&mut self) -> Result<NetState, Errno> {
        self.alive()?;
        Ok(self.state.clone())
    }
}
