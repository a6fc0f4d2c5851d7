//! Carrying out a plan, and the narrow door to the kernel through which that happens.

use crate::ids::{IfName, SandboxId};
use crate::netstate::{ElementChange, Errno, Link, LinkKind, NetState, Ns, Op, Plan};
use crate::nft::{Owner, Table, TableName};
use crate::step::step;
use std::collections::{BTreeMap, BTreeSet};

/// The kernel's network: hands and eyes.
pub trait Kernel {
    /// Do one thing.
    ///
    /// # Errors
    /// What the kernel answered. Nothing was changed then.
    fn perform(&mut self, op: &Op) -> Result<(), Errno>;

    /// See all that is ours.
    ///
    /// # Errors
    /// What the kernel answered.
    fn observe(&mut self) -> Result<NetState, Errno>;
}

/// What became true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The network as it is now, as far as the plan's steps tell.
    pub now: NetState,
    /// The first failure of each owner; its later steps were not tried.
    pub failed: BTreeMap<Owner, OpError>,
    /// The kernel did something that does not follow from `have`: that was not the truth, so look again.
    pub drifted: bool,
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op} for {owner}")]
pub struct OpError {
    /// What was tried.
    pub op: Op,
    /// For whom.
    pub owner: Owner,
    /// What the kernel answered.
    #[source]
    pub errno: Errno,
}

/// Do the steps in order. One that fails stops its owner's later steps and nobody else's.
pub fn apply(kernel: &mut dyn Kernel, have: NetState, plan: &Plan) -> Applied {
    let applied = Applied { now: have, failed: BTreeMap::new(), drifted: false };
    let mut hand = Hand { kernel, applied, lost: BTreeSet::new(), bare: None };
    for step in plan {
        match &step.op {
            Op::ChangeElements { ns, table, changes } => hand.change(ns, table, changes),
            Op::ReplaceTable { ns, name, table } => hand.replace(ns, name, table),
            op => hand.one(op, step.why.owner),
        }
    }
    hand.applied
}

struct Hand<'k> {
    kernel: &'k mut dyn Kernel,
    applied: Applied,
    /// Bridges that could not be made: somebody else's may stand there, which nothing of ours may join.
    lost: BTreeSet<IfName>,
    /// The rules could not be put in place: nothing is set up that would carry traffic without them.
    bare: Option<Errno>,
}

impl Hand<'_> {
    fn one(&mut self, op: &Op, owner: Owner) {
        // The engine's steps do not build on each other.
        if owner != Owner::Engine && self.applied.failed.contains_key(&owner) {
            return;
        }
        if let Some(errno) = self.baseless(op, owner) {
            return self.fail(op.clone(), owner, errno);
        }
        match self.perform(op) {
            Err(Errno::Missing(_)) if op.is_delete() => {
                // Gone already: what was wanted. The model may still have it.
                let _ = step(&mut self.applied.now, op);
            }
            Err(errno) => {
                if let Op::AddBridge { name, .. } = op {
                    self.lost.insert(name.clone());
                }
                self.fail(op.clone(), owner, errno);
            }
            Ok(()) => {}
        }
    }

    /// Why a step must not be tried, if what it stands on has failed.
    fn baseless(&self, op: &Op, owner: Owner) -> Option<Errno> {
        let sandbox = op.sandbox().map(|id| Owner::Sandbox(id.short())).filter(|sandbox| *sandbox != owner);
        let of_sandbox = sandbox.and_then(|sandbox| self.applied.failed.get(&sandbox)).map(|e| e.errno.clone());
        let master = match op {
            Op::AddVeth { master, .. } | Op::SetMaster { master: Some(master), .. } => Some(master),
            _ => None,
        };
        let of_bridge = master.filter(|name| self.lost.contains(name)).map(|n| Errno::Missing(format!("bridge {n}")));
        let opens = matches!((op, owner), (Op::SetUp { up: true, .. }, Owner::Network(_) | Owner::Endpoint(_)));
        of_sandbox.or(of_bridge).or_else(|| self.bare.clone().filter(|_| opens))
    }

    fn perform(&mut self, op: &Op) -> Result<(), Errno> {
        self.kernel.perform(op)?;
        if let Op::AddVeth { master, .. } | Op::SetMaster { master: Some(master), .. } = op
            && let Some(host) = self.applied.now.spaces.get_mut(&Ns::Host)
        {
            // Somebody else's bridge may have been out of sight; now that it has a port of ours it is not.
            let foreign = || Link::down(LinkKind::ForeignBridge, 1500, Owner::Engine);
            host.links.entry(master.clone()).or_insert_with(foreign);
        }
        self.applied.drifted |= step(&mut self.applied.now, op).is_err();
        Ok(())
    }

    fn fail(&mut self, op: Op, owner: Owner, errno: Errno) {
        self.applied.failed.entry(owner).or_insert(OpError { op, owner, errno });
    }

    /// All changes at once; if that fails, each owner's by themselves, so that one bad element fails only its owner.
    fn change(&mut self, ns: &Ns, table: &TableName, changes: &[ElementChange]) {
        let stands = |change: &&ElementChange| !self.applied.failed.contains_key(&change.owner);
        let changes: Vec<ElementChange> = changes.iter().filter(stands).cloned().collect();
        if changes.is_empty() {
            return;
        }
        let op = Op::ChangeElements { ns: ns.clone(), table: table.clone(), changes };
        let Err(errno) = self.perform(&op) else { return };
        let Op::ChangeElements { changes, .. } = &op else { return };
        if matches!(errno, Errno::Missing(_)) && changes.iter().all(|change| change.put.is_none()) {
            // No table, no elements: what was wanted.
            let _ = step(&mut self.applied.now, &op);
            return;
        }
        let first = changes[0].owner;
        if changes.iter().all(|change| change.owner == first) {
            return self.fail(op, first, errno);
        }
        // Deletes first: a new range may overlap another owner's old one.
        let (puts, deletes): (Vec<_>, Vec<_>) = changes.iter().cloned().partition(|change| change.put.is_some());
        for part in [deletes, puts] {
            let mut by_owner: BTreeMap<Owner, Vec<ElementChange>> = BTreeMap::new();
            for change in part {
                by_owner.entry(change.owner).or_default().push(change);
            }
            for (owner, changes) in by_owner {
                if !self.applied.failed.contains_key(&owner) {
                    let op = Op::ChangeElements { ns: ns.clone(), table: table.clone(), changes };
                    if let Err(errno) = self.perform(&op) {
                        self.fail(op, owner, errno);
                    }
                }
            }
        }
    }

    /// A whole table; if the kernel refuses it, its rules alone and then the elements.
    fn replace(&mut self, ns: &Ns, name: &TableName, table: &Table) {
        let whole = Op::ReplaceTable { ns: ns.clone(), name: name.clone(), table: self.without_failed(table.clone()) };
        if self.perform(&whole).is_ok() {
            return;
        }
        let rules = Op::ReplaceTable { ns: ns.clone(), name: name.clone(), table: table.emptied() };
        match self.perform(&rules) {
            Ok(()) => self.change(ns, name, &table.all_elements()),
            Err(errno) => {
                self.bare = Some(errno.clone());
                self.fail(rules, Owner::Engine, errno);
            }
        }
    }

    fn without_failed(&self, mut table: Table) -> Table {
        if !self.applied.failed.is_empty() {
            for set in table.sets.values_mut() {
                set.elements.retain(|_, element| !self.applied.failed.contains_key(&element.why.owner));
            }
        }
        table
    }
}

impl Table {
    /// The same rules and sets without an element.
    pub fn emptied(&self) -> Table {
        let sets = self.sets.iter().map(|(name, set)| (name.clone(), set.emptied())).collect();
        Table { sets, chains: self.chains.clone() }
    }

    /// Each element as a change that puts it.
    pub fn all_elements(&self) -> Vec<ElementChange> {
        let all = self.sets.iter().flat_map(|(set, has)| has.elements.iter().map(move |(key, e)| (set, key, e)));
        let put = all.map(|(set, key, element)| ElementChange {
            set: set.clone(),
            key: key.clone(),
            put: Some(element.clone()),
            owner: element.why.owner,
        });
        put.collect()
    }
}

impl Op {
    /// Does it only take away? Then it is as good as done where there is nothing to take.
    pub fn is_delete(&self) -> bool {
        matches!(
            self,
            Op::DelSpace(_) | Op::DelLink { .. } | Op::DelAddr { .. } | Op::DelRoute { .. } | Op::DelTable { .. }
        )
    }

    /// The namespace that it happens in.
    pub fn ns(&self) -> Ns {
        match self {
            Op::AddSpace(id)
            | Op::DelSpace(id)
            | Op::AddVeth { into: id, .. }
            | Op::AddMacvlan { into: id, .. }
            | Op::SetResolver { id, .. } => Ns::Of(id.clone()),
            Op::AddBridge { .. }
            | Op::AddVlan { .. }
            | Op::SetMaster { .. }
            | Op::SetPort { .. }
            | Op::SetRouteLocalnet { .. }
            | Op::ForgetFlows(_) => Ns::Host,
            Op::DelLink { ns, .. }
            | Op::SetMtu { ns, .. }
            | Op::SetMac { ns, .. }
            | Op::SetNoIpv6 { ns, .. }
            | Op::SetSysctls { ns, .. }
            | Op::SetUp { ns, .. }
            | Op::AddAddr { ns, .. }
            | Op::DelAddr { ns, .. }
            | Op::AddRoute { ns, .. }
            | Op::DelRoute { ns, .. }
            | Op::SetForwarding { ns, .. }
            | Op::ReplaceTable { ns, .. }
            | Op::DelTable { ns, .. }
            | Op::ChangeElements { ns, .. } => ns.clone(),
        }
    }

    /// The sandbox that it happens in, if it is one's.
    pub fn sandbox(&self) -> Option<SandboxId> {
        match self.ns() {
            Ns::Host => None,
            Ns::Of(id) => Some(id),
        }
    }
}
