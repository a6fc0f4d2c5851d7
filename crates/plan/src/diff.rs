//! What must be done so that one network becomes another.
//!
//! The order: what stands in the way goes; new things are made, and are down; rules and elements are put right; things
//! are joined, set up and given their addresses and routes; what is not wished for goes, and at the very end the flows that
//! the kernel remembers and that the rules no longer allow. So nothing carries traffic before its rules exist, and nothing
//! loses its rules while it carries traffic.

use crate::flows::{Flows, outlived};
use crate::ids::{IfName, SandboxId};
use crate::merge::merge;
use crate::netstate::{ElementChange, Link, LinkKind, NetState, Ns, Op, Plan, Resolver, Route, Space, Step};
use crate::nft::{Owner, Table, TableName, Value, Why};
use crate::step::step;
use crate::stub;
use std::collections::{BTreeMap, BTreeSet};

/// The steps from `have` to `want`, in order.
///
/// The plan ends exactly at `want`, with two exceptions: forwarding is switched on and never off, and a bridge that
/// somebody else made is never made, changed or deleted.
pub fn diff(have: &NetState, want: &NetState) -> Plan {
    let elements = Elements::between(have, want);
    let mut round = Round::new(have, want);
    round.clear_the_way();
    round.make();
    round.plan.extend(elements.before);
    round.join();
    round.address();
    round.delete();
    round.plan.extend(elements.after);
    if !elements.outlived.is_empty() {
        let op = Op::ForgetFlows(elements.outlived);
        round.plan.push(Step { op, why: Why::new("they do not lead where the rules lead now", Owner::Engine) });
    }
    round.plan
}

/// The links of one namespace that may have to change, and all else of it that is wished for.
struct Goal<'a> {
    ns: &'a Ns,
    want: &'a Space,
    links: Vec<(&'a IfName, &'a Link)>,
}

/// The plan so far, and the network after it: only the part that differs, for the rest is as it should be.
struct Round<'a> {
    want: &'a NetState,
    goals: Vec<Goal<'a>>,
    scope: BTreeSet<&'a Ns>,
    now: NetState,
    plan: Plan,
}

impl<'a> Round<'a> {
    fn new(have: &'a NetState, want: &'a NetState) -> Round<'a> {
        let mut spaces: BTreeSet<&Ns> = BTreeSet::from([&Ns::Host]);
        let mut outside: BTreeSet<&IfName> = BTreeSet::new();
        let have_all = have;
        for (ns, have, want) in merge(&have.spaces, &want.spaces) {
            if *ns == Ns::Host {
                // The other ends of pairs that differ, and of what differs there.
                for (name, link) in differing(have, want) {
                    outside.insert(name);
                    spaces.extend(peer(link).map(|(ns, _)| ns));
                    if link.is_parent() {
                        // It takes those on its segment along.
                        spaces.extend(with_stations(&have_all.spaces, name));
                    }
                }
            } else if have != want {
                spaces.insert(ns);
            }
        }
        for ns in &spaces {
            let either = [have.spaces.get(*ns), want.spaces.get(*ns)];
            let links = either.into_iter().flatten().flat_map(|space| space.links.values());
            outside.extend(links.filter_map(peer).filter(|(ns, _)| **ns == Ns::Host).map(|(_, name)| name));
        }
        let mut now = NetState::default();
        for ns in spaces.iter().filter(|ns| ***ns != Ns::Host) {
            now.spaces.extend(have.spaces.get(*ns).map(|space| ((*ns).clone(), space.clone())));
        }
        let empty = BTreeMap::new();
        let there = have.spaces.get(&Ns::Host).map_or(&empty, |space| &space.links);
        // Where a bridge may be made anew, all of its ports are concerned.
        let bridge_differs = outside.iter().any(|name| there.get(*name).is_some_and(|l| l.kind == LinkKind::Bridge));
        let concerned = |name: &IfName, link: &Link| bridge_differs || link.is_bridge() || outside.contains(name);
        if let (Some(space), Some(have)) = (now.spaces.get_mut(&Ns::Host), have.spaces.get(&Ns::Host)) {
            let links = have.links.iter().filter(|(name, link)| concerned(name, link));
            space.links = links.map(|(name, link)| (name.clone(), link.clone())).collect();
            space.routes = have.routes.clone();
            space.forwarding = have.forwarding.clone();
        }
        let goals = spaces.iter().filter_map(|ns| {
            let want = want.spaces.get(*ns)?;
            let host = **ns == Ns::Host;
            let links = want.links.iter().filter(|(name, link)| !host || concerned(name, link)).collect();
            Some(Goal { ns, want, links })
        });
        let goals = goals.collect();
        let mut round = Round { want, goals, scope: spaces, now, plan: Plan::new() };
        round.believe_in_foreign_bridges();
        round
    }

    /// A bridge that somebody else made may be out of sight as long as none of its ports is ours.
    fn believe_in_foreign_bridges(&mut self) {
        let goals = self.goals.iter().filter(|goal| *goal.ns == Ns::Host).flat_map(|goal| &goal.links);
        let foreign = goals.filter(|(_, link)| link.kind == LinkKind::ForeignBridge);
        if let Some(host) = self.now.spaces.get_mut(&Ns::Host) {
            for (name, link) in foreign {
                host.links.entry((*name).clone()).or_insert_with(|| (*link).clone());
            }
        }
    }

    /// Take a step over into the plan. What the model refuses stays in it: the kernel will refuse it too, and then its
    /// owner learns why.
    fn take(&mut self, op: Op, text: &str, owner: Owner) {
        let _ = step(&mut self.now, &op);
        self.plan.push(Step { op, why: Why::new(text, owner) });
    }

    fn now(&self, ns: &Ns, name: &IfName) -> Option<&Link> {
        self.now.spaces.get(ns)?.links.get(name)
    }

    /// Calls for each link that is wished for and may have to change; the host's come first.
    fn each_link(&mut self, mut visit: impl FnMut(&mut Self, &'a Ns, &'a IfName, &'a Link)) {
        let goals = std::mem::take(&mut self.goals);
        for goal in &goals {
            for (name, link) in &goal.links {
                visit(self, goal.ns, name, link);
            }
        }
        self.goals = goals;
    }

    fn clear_the_way(&mut self) {
        self.each_link(|round, ns, name, want| {
            let Some(now) = round.now(ns, name) else { return };
            // A namespace that is as it should be is not looked at: there the other end is.
            let other_end = |(ns, name): (&Ns, &IfName)| !round.scope.contains(ns) || round.now(ns, name).is_some();
            let whole = peer(now).is_none_or(other_end);
            let touchable = !matches!(now.kind, LinkKind::ForeignBridge | LinkKind::Loopback)
                && want.kind != LinkKind::ForeignBridge;
            if touchable && (now.kind != want.kind || now.owner != want.owner || !whole) {
                let owner = now.owner;
                let op = Op::DelLink { ns: ns.clone(), name: name.clone() };
                round.take(op, "another thing of that name is wished for", owner);
            }
        });
    }

    fn make(&mut self) {
        let missing: Vec<SandboxId> = self.goals.iter().filter_map(|goal| sandbox(goal.ns)).collect();
        for id in missing {
            if !self.now.spaces.contains_key(&Ns::Of(id.clone())) {
                let owner = Owner::Sandbox(id.short());
                self.take(Op::AddSpace(id), "a new sandbox", owner);
            }
        }
        self.each_link(|round, ns, name, want| {
            let strangers = |link: &Link| link.kind == LinkKind::ForeignBridge;
            if *ns == Ns::Host
                && want.kind == LinkKind::Bridge
                && round.now(ns, name).is_none_or(strangers)
                && let Some(mac) = want.mac
            {
                let op = Op::AddBridge { name: name.clone(), mac, mtu: want.mtu, owner: want.owner };
                round.take(op, "a new network's bridge", want.owner);
            }
        });
        self.each_link(|round, ns, name, want| {
            if *ns != Ns::Host || round.now(ns, name).is_some() {
                return;
            }
            if let LinkKind::Vlan { of: Some(of), id } = &want.kind {
                let op = Op::AddVlan { name: name.clone(), of: of.clone(), id: *id, mtu: want.mtu, owner: want.owner };
                round.take(op, "a new network's interface", want.owner);
            }
        });
        self.each_link(|round, ns, name, want| {
            if let (LinkKind::Macvlan { parent: Some(parent), mode: Some(mode) }, Some(into), Some(mac), None) =
                (&want.kind, sandbox(ns), want.mac, round.now(ns, name))
            {
                let (parent, inner, mtu, owner) = (parent.clone(), name.clone(), want.mtu, want.owner);
                let op = Op::AddMacvlan { parent, mode: *mode, inner, into, mac, mtu, owner };
                round.take(op, "a new endpoint's interface", owner);
            }
        });
        let mut pairs = Vec::new();
        self.each_link(|round, ns, name, want| {
            if *ns == Ns::Host
                && round.now(ns, name).is_none()
                && let Some(op) = round.veth(name, want)
            {
                pairs.push((op, want.owner));
            }
        });
        // By the names inside, so that programs there which list interfaces see them in the order of joining.
        let inside =
            |op: &Op| if let Op::AddVeth { inner, .. } = op { inner.as_str().to_owned() } else { String::new() };
        pairs.sort_by_cached_key(|(op, _)| (inside(op).len(), inside(op)));
        for (op, owner) in pairs {
            self.take(op, "a new endpoint's pair", owner);
        }
    }

    fn veth(&self, host: &IfName, want: &Link) -> Option<Op> {
        let (ns, inner) = peer(want)?;
        let mac = self.want.spaces.get(ns)?.links.get(inner)?.mac?;
        Some(Op::AddVeth {
            host: host.clone(),
            master: want.master.clone()?,
            inner: inner.clone(),
            into: sandbox(ns)?,
            mac,
            mtu: want.mtu,
            owner: want.owner,
        })
    }

    fn join(&mut self) {
        for (ns, want) in self.goals.iter().map(|goal| (goal.ns, goal.want)).collect::<Vec<_>>() {
            let on = self.now.spaces.get(ns).map(|now| now.forwarding.clone()).unwrap_or_default();
            for family in want.forwarding.difference(&on) {
                let op = Op::SetForwarding { ns: ns.clone(), family: *family };
                self.take(op, "containers reach other places", Owner::Engine);
            }
        }
        self.each_link(|round, ns, name, want| {
            if want.kind == LinkKind::ForeignBridge {
                return;
            }
            let Some(now) = round.now(ns, name).cloned() else { return };
            let (ns, name, owner) = (ns.clone(), name.clone(), want.owner);
            if let Some(mac) = want.mac.filter(|_| now.mac != want.mac) {
                round.take(Op::SetMac { ns: ns.clone(), name: name.clone(), mac }, "its recorded address", owner);
            }
            // Who is on another interface cannot have more than that has now.
            if now.mtu != want.mtu && !(want.is_on_another() && now.mtu < want.mtu) {
                let op = Op::SetMtu { ns: ns.clone(), name: name.clone(), mtu: want.mtu };
                round.take(op, "its network's", owner);
            }
            if now.no_ipv6 != want.no_ipv6 {
                let op = Op::SetNoIpv6 { ns: ns.clone(), name: name.clone(), off: want.no_ipv6 };
                round.take(op, "as its network has it", owner);
            }
            if now.sysctls != want.sysctls && !want.sysctls.is_empty() {
                let op = Op::SetSysctls { ns: ns.clone(), name: name.clone(), sysctls: want.sysctls.clone() };
                round.take(op, "as its endpoint has it", owner);
            }
            if ns == Ns::Host && now.master != want.master {
                let op = Op::SetMaster { name: name.clone(), master: want.master.clone() };
                round.take(op, "its network's bridge", owner);
            }
            // Asked again: a link that has just become a port has neither property.
            if ns == Ns::Host && round.now(&ns, &name).is_some_and(|now| now.port != want.port) {
                let op = Op::SetPort { name: name.clone(), port: want.port };
                round.take(op, "who of its network may reach whom", owner);
            }
            if ns == Ns::Host && now.route_localnet != want.route_localnet {
                let op = Op::SetRouteLocalnet { name: name.clone(), on: want.route_localnet };
                round.take(op, "published ports on 127.0.0.1", owner);
            }
            if now.up != want.up {
                round.take(Op::SetUp { ns, name, up: want.up }, "all is ready for it", owner);
            }
        });
        for (ns, want) in self.goals.iter().map(|goal| (goal.ns, goal.want)).collect::<Vec<_>>() {
            let now = self.now.spaces.get(ns).map(|space| space.resolver);
            if let Some(id) = sandbox(ns).filter(|_| now.is_some_and(|now| now != want.resolver)) {
                let owner = Owner::Sandbox(id.short());
                let op = Op::SetResolver { id, on: want.resolver == Resolver::Ready };
                self.take(op, "its containers ask the resolver", owner);
            }
        }
    }

    fn address(&mut self) {
        for (ns, want) in self.goals.iter().map(|goal| (goal.ns, goal.want)).collect::<Vec<_>>() {
            for route in self.routes(ns).difference(&want.routes) {
                let op = Op::DelRoute { ns: ns.clone(), route: route.clone() };
                self.take(op, "not wished for", self.route_owner(ns, want, route));
            }
        }
        self.each_link(|round, ns, name, want| {
            let Some(now) = round.now(ns, name) else { return };
            if want.kind == LinkKind::ForeignBridge || now.addrs == want.addrs {
                return;
            }
            for addr in now.addrs.clone().difference(&want.addrs) {
                let op = Op::DelAddr { ns: ns.clone(), name: name.clone(), addr: *addr };
                round.take(op, "not wished for", want.owner);
            }
            let now = round.now(ns, name).map(|link| link.addrs.clone()).unwrap_or_default();
            for addr in want.addrs.difference(&now) {
                let op = Op::AddAddr { ns: ns.clone(), name: name.clone(), addr: *addr };
                round.take(op, "its recorded address", want.owner);
            }
        });
        for (ns, want) in self.goals.iter().map(|goal| (goal.ns, goal.want)).collect::<Vec<_>>() {
            // Looked at again: routes that leaned on a deleted address have gone with it.
            for route in want.routes.difference(&self.routes(ns)) {
                let op = Op::AddRoute { ns: ns.clone(), route: route.clone() };
                let text =
                    if route.to.prefix_len() == 0 { "the way out" } else { "the way to the other end of a link" };
                self.take(op, text, self.route_owner(ns, want, route));
            }
        }
    }

    fn routes(&self, ns: &Ns) -> BTreeSet<Route> {
        self.now.spaces.get(ns).map(|space| space.routes.clone()).unwrap_or_default()
    }

    fn route_owner(&self, ns: &Ns, want: &Space, route: &Route) -> Owner {
        let link = want.links.get(&route.dev).or_else(|| self.now(ns, &route.dev));
        let space = || sandbox(ns).map_or(Owner::Engine, |id| Owner::Sandbox(id.short()));
        link.map_or_else(space, |link| link.owner)
    }

    fn delete(&mut self) {
        let spaces: Vec<SandboxId> = self.now.spaces.keys().filter_map(sandbox).collect();
        for id in spaces {
            if !self.want.spaces.contains_key(&Ns::Of(id.clone())) {
                let owner = Owner::Sandbox(id.short());
                self.take(Op::DelSpace(id), "not wished for", owner);
            }
        }
        // Bridges after their ports.
        for bridges in [false, true] {
            for (ns, name, owner) in self.unwanted(bridges) {
                // The other end may have taken it along by now.
                if self.now(&ns, &name).is_some() {
                    self.take(Op::DelLink { ns, name }, "not wished for", owner);
                }
            }
        }
    }

    fn unwanted(&self, bridges: bool) -> Vec<(Ns, IfName, Owner)> {
        let mut unwanted = Vec::new();
        for (ns, now) in &self.now.spaces {
            let Some(want) = self.want.spaces.get(ns) else { continue };
            for (name, link) in &now.links {
                let ours = !matches!(link.kind, LinkKind::Loopback | LinkKind::ForeignBridge);
                if ours && (link.kind == LinkKind::Bridge) == bridges && !want.links.contains_key(name) {
                    unwanted.push((ns.clone(), name.clone(), link.owner));
                }
            }
        }
        unwanted
    }
}

/// The links of a namespace that are not as they should be, as they are and as they should be.
fn differing<'a>(have: Option<&'a Space>, want: Option<&'a Space>) -> impl Iterator<Item = (&'a IfName, &'a Link)> {
    static NONE: BTreeMap<IfName, Link> = BTreeMap::new();
    let links = |space: Option<&'a Space>| space.map_or(&NONE, |space| &space.links);
    merge(links(have), links(want))
        .filter(|(_, have, want)| have != want)
        .flat_map(|(name, have, want)| have.into_iter().chain(want).map(move |link| (name, link)))
}

/// The namespaces that have stations on the segment of an interface of the host's.
fn with_stations<'a>(spaces: &'a BTreeMap<Ns, Space>, parent: &'a IfName) -> impl Iterator<Item = &'a Ns> {
    let on = move |link: &Link| matches!(&link.kind, LinkKind::Macvlan { parent: Some(of), .. } if of == parent);
    spaces.iter().filter(move |(_, space)| space.links.values().any(on)).map(|(ns, _)| ns)
}

fn peer(link: &Link) -> Option<(&Ns, &IfName)> {
    match &link.kind {
        LinkKind::Veth { peer: Some((ns, name)) } => Some((ns, name)),
        _ => None,
    }
}

fn sandbox(ns: &Ns) -> Option<SandboxId> {
    match ns {
        Ns::Host => None,
        Ns::Of(id) => Some(id.clone()),
    }
}

impl Link {
    fn is_bridge(&self) -> bool {
        matches!(self.kind, LinkKind::Bridge | LinkKind::ForeignBridge)
    }

    /// Stations may be on its segment.
    fn is_parent(&self) -> bool {
        matches!(self.kind, LinkKind::Vlan { .. })
    }

    /// Its packets leave by another interface.
    fn is_on_another(&self) -> bool {
        matches!(self.kind, LinkKind::Vlan { .. } | LinkKind::Macvlan { .. })
    }
}

/// What happens to tables: before things are joined, and after things are gone.
#[derive(Default)]
struct Elements {
    before: Plan,
    after: Plan,
    /// Flows that are led elsewhere from now on.
    outlived: Vec<Flows>,
}

impl Elements {
    fn between(have: &NetState, want: &NetState) -> Elements {
        let mut elements = Elements::default();
        for (ns, have, want) in merge(&have.spaces, &want.spaces) {
            // A namespace that goes takes its tables along.
            let Some(want) = want else { continue };
            let none = BTreeMap::new();
            let tables = have.map_or(&none, |have| &have.tables);
            for (name, have, wanted) in merge(tables, &want.tables) {
                if *ns == Ns::Host && *name == TableName::inet() {
                    elements.outlived = outlived(have, wanted);
                }
                // The resolver's table takes the place of whatever is there.
                if want.resolver == Resolver::Ready && *name == stub::name() {
                    continue;
                }
                elements.table(ns, name, have, wanted, &want.links);
            }
        }
        elements
    }

    fn table(
        &mut self,
        ns: &Ns,
        name: &TableName,
        have: Option<&Table>,
        want: Option<&Table>,
        links: &BTreeMap<IfName, Link>,
    ) {
        let step = |op, text: &str| Step { op, why: Why::new(text, Owner::Engine) };
        let (ns, name) = (ns.clone(), name.clone());
        match (have, want) {
            (None, None) => {}
            (Some(_), None) => self.after.push(step(Op::DelTable { ns, name }, "no network needs it")),
            (Some(have), Some(want)) if have.same_rules(want) => {
                let (now, later) = changes(have, want, links);
                let change = |changes| Op::ChangeElements { ns: ns.clone(), table: name.clone(), changes };
                if !now.is_empty() {
                    self.before.push(step(change(now), "as the facts are"));
                }
                if !later.is_empty() {
                    self.after.push(step(change(later), "their interfaces are gone"));
                }
            }
            (have, Some(want)) => {
                let text = if have.is_some() { "somebody changed it" } else { "the first network" };
                self.before.push(step(Op::ReplaceTable { ns, name, table: want.clone() }, text));
            }
        }
    }
}

impl Table {
    /// Chains, rules and the definitions of sets are the same; elements may differ.
    pub fn same_rules(&self, other: &Table) -> bool {
        let definitions = |a: Option<&crate::nft::Set>, b: Option<&crate::nft::Set>| match (a, b) {
            (Some(a), Some(b)) => a.same_definition(b),
            _ => false,
        };
        self.chains == other.chains && merge(&self.sets, &other.sets).all(|(_, a, b)| definitions(a, b))
    }
}

/// The elements that change now, and those that may only go once the interfaces which they name are gone: until then
/// they keep traffic of these within bounds.
fn changes(have: &Table, want: &Table, links: &BTreeMap<IfName, Link>) -> (Vec<ElementChange>, Vec<ElementChange>) {
    let (mut deletes, mut puts, mut later) = (Vec::new(), Vec::new(), Vec::new());
    for (set, have, want) in merge(&have.sets, &want.sets) {
        let (Some(have), Some(want)) = (have, want) else { continue };
        for (key, have, want) in merge(&have.elements, &want.elements) {
            let change = |put, owner| ElementChange { set: set.clone(), key: key.clone(), put, owner };
            match (have, want) {
                (have, Some(want)) if have != Some(want) => puts.push(change(Some(want.clone()), want.why.owner)),
                (Some(have), None) => {
                    let leaving = |part: &Value| matches!(part, Value::IfName(name) if !links.contains_key(name));
                    let list = if key.iter().any(leaving) { &mut later } else { &mut deletes };
                    list.push(change(None, have.why.owner));
                }
                _ => {}
            }
        }
    }
    // Deletes first: a range may take the place of another one that it overlaps.
    deletes.append(&mut puts);
    (deletes, later)
}
