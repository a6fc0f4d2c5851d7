//! The one thread that owns the network.
//!
//! It takes wishes, decides them against the facts, records the facts, computes the wished-for network, the difference to
//! the real one, and carries that out: for all wishes waiting at once, so that ten starts share one firewall transaction.
//! No lock is held across a system call: others only read a copy of the facts.

use crate::config::Config;
use crate::crash;
use crate::error::{Doing, Error, Result};
use crate::flows::Forgetting;
use crate::held_ports::{Failed, HeldPorts};
use crate::relay::{Listening, Relay};
use crate::resolver::{Note, Resolver};
use crate::store::Store;
use kernel::facts::HostRoute;
use kernel::watch::{self, Moved, Watch, surprising};
use plan::apply::{Applied, Kernel, apply};
use plan::around::Around;
use plan::decide::{self, AttachWish, Facts, NetworkWish, Refusal};
use plan::desired::{desired, follow};
use plan::diff::diff;
use plan::explain::sight::Sight;
use plan::ids::{ContainerId, EndpointId, IfName, NetworkId, SandboxId};
use plan::ipam::Pool;
use plan::names::ResolvConf;
use plan::netstate::{Errno, NetState, Op};
use plan::nft::Owner;
use plan::ports::{self, PortWish, Unpublish};
use plan::warnings::{About, Warning, Warnings, warnings};
use plan::world::{Change, Endpoint, Fact, Linked, Network, PortBinding, World};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

/// How long the thread sleeps when nothing happens; then it looks whether the kernel still agrees.
const TICK: Duration = Duration::from_secs(10);
/// After the kernel told that something moved, wait for this long: changes by hand come in bursts.
const SETTLE: Duration = Duration::from_millis(250);

/// All that can wake the thread.
pub enum Event {
    /// Somebody wants the facts to change.
    Wish(Wish, oneshot::Sender<Result<()>>),
    /// Somebody wants to see the network as it is, and as it should be: the host and these sandboxes.
    Sight(BTreeSet<SandboxId>, oneshot::Sender<Result<Sights>>),
    /// The kernel's network was changed, by us or by somebody else.
    Moved(Vec<Moved>),
    /// The engine ends; the network stays as it is.
    Stop,
}

/// The network as it is, and as it should be.
pub struct Sights {
    /// As the kernel shows it.
    pub seen: Sight,
    /// The same with what is ours as the facts ask for it.
    pub wished: Sight,
}

/// What can be wished for.
pub enum Wish {
    /// A sandbox, and its places on networks (none for a closed container).
    Join {
        /// Its id, chosen by the caller.
        sandbox: SandboxId,
        /// For whom.
        container: ContainerId,
        /// On which networks.
        places: Vec<AttachWish>,
        /// What its container is linked to.
        linked: Vec<Linked>,
    },
    /// A sandbox's container is linked to something else.
    Link(SandboxId, Vec<Linked>),
    /// A sandbox and its endpoints go.
    Leave(SandboxId),
    /// More ports of an endpoint are published.
    Publish(EndpointId, Vec<PortWish>),
    /// Some are no longer.
    Unpublish(EndpointId, Vec<Unpublish>),
    /// One more place for a sandbox that is there.
    Connect(Box<AttachWish>),
    /// A sandbox loses a place.
    Disconnect(EndpointId),
    /// The container's name, and the names by which the endpoint is found, are others now.
    Rename(EndpointId, String, Vec<String>),
    /// A network.
    Network(Box<NetworkWish>),
    /// A network goes.
    NoNetwork(NetworkId),
}

/// The network, for the rest of the engine.
pub struct Net {
    events: Sender<Event>,
    world: Arc<RwLock<World>>,
    pins: PathBuf,
    default_mtu: Option<u32>,
    warnings: Arc<RwLock<Warnings>>,
}

impl Net {
    /// Starts the thread on facts that were loaded and cleaned of the dead. The resolver gets the sockets by which sandboxes ask
    /// it, and who can be found by name. When this returns the kernel agrees with the facts.
    ///
    /// # Errors
    /// The kernel's door cannot be opened (no right, no netlink), or the facts contradict each other.
    pub fn start(
        config: &Config,
        store: Arc<Store>,
        world: World,
        told: Box<dyn Fn(Notice) + Send>,
        resolver: Resolver,
    ) -> Result<Net> {
        let pins = config.exec_root.join("netns");
        let faults = plan::check::check(&world);
        if let Some(fault) = faults.first() {
            return Err(Error::Fault(format!("the recorded network contradicts itself: {fault}")));
        }
        let mut kernel = kernel::Host::open(&pins).doing("open the kernel's network")?;
        let default_mtu = kernel.facts().doing("look at the host's network")?.default_mtu;
        let listeners = resolver.clone();
        kernel.hand_listeners_to(move |door| listeners.tell(Note::Door(door)));
        for endpoint in world.endpoints.values() {
            resolver.tell_of(&world, endpoint);
        }
        let world = Arc::new(RwLock::new(World { means: config.means, ..world }));
        let relay = Relay::new(world.clone());
        // Rules lead to the relay, and others keep strangers from it.
        let opened = if config.means.firewall6 { relay.open(read(&world).relay) } else { None };
        let (port, listening) = opened.unzip();
        if port != read(&world).relay {
            let change = vec![Fact::Relay(port)];
            store.commit(&change)?;
            write(&world).take(&change);
        }
        let want = desired(&read(&world));
        let warnings = Arc::new(RwLock::new(Warnings::new()));
        let (events, inbox) = channel();
        let watch = Watch::open(&kernel).doing("watch the kernel's network")?;
        let mut owner = NetworkOwner {
            kernel: Hands { host: kernel, forgetting: Forgetting::start(world.clone())? },
            have: None,
            want,
            world: world.clone(),
            store,
            told,
            pools: config.pools.clone(),
            held: HeldPorts::new().relaying(relay.clone(), config.means),
            around: Around::default(),
            warnings: warnings.clone(),
            relay,
            resolver,
            _listening: listening,
        };
        owner.settle();
        std::thread::Builder::new()
            .name("network".into())
            .spawn(move || owner.run(&inbox))
            .doing("start the network thread")?;
        watch_kernel(watch, events.clone())?;
        Ok(Net { events, world, pins, default_mtu, warnings })
    }

    /// The facts as they are now. Do not hold this across an `await`.
    pub fn world(&self) -> RwLockReadGuard<'_, World> {
        read(&self.world)
    }

    /// What does not go well just now.
    pub fn warnings(&self) -> Vec<Warning> {
        self.warnings.read().unwrap_or_else(std::sync::PoisonError::into_inner).values().cloned().collect()
    }

    /// The MTU of the host's way out when the engine started, in bytes; `None` if it had none.
    pub fn default_mtu(&self) -> Option<u32> {
        self.default_mtu
    }

    /// Where a sandbox's namespace is pinned.
    pub fn pin(&self, sandbox: &SandboxId) -> PathBuf {
        self.pins.join(sandbox.as_str())
    }

    /// Asks the thread and waits until the kernel agrees.
    ///
    /// # Errors
    /// A refusal; or the kernel's, and then nothing of the wish is left.
    pub async fn wish(&self, wish: Wish) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::Fault("the network thread has ended".into());
        self.events.send(Event::Wish(wish, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Looks at the host and these sandboxes.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn sight(&self, sandboxes: BTreeSet<SandboxId>) -> Result<Sights> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::Fault("the network thread has ended".into());
        self.events.send(Event::Sight(sandboxes, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Lets the thread end. The network stays as it is.
    pub fn stop(&self) {
        // An error only says that it has ended already.
        let _ = self.events.send(Event::Stop);
    }

    /// A sandbox's endpoints with their networks.
    pub fn places(&self, sandbox: &SandboxId) -> Vec<(Endpoint, Network)> {
        let world = self.world();
        let networks = &world.networks;
        world.endpoints_of(sandbox).filter_map(|e| Some((e.clone(), networks.get(&e.network)?.clone()))).collect()
    }
}

/// The hands, with a place to crash before each operation.
struct Hands {
    host: kernel::Host,
    /// Does what nobody should wait for.
    forgetting: Forgetting,
}

impl Kernel for Hands {
    fn perform(&mut self, op: &Op) -> std::result::Result<(), Errno> {
        crash::point("before an operation of the network");
        if let Op::ForgetFlows(flows) = op {
            self.forgetting.forget(flows.clone());
            return Ok(());
        }
        self.host.perform(op)
    }

    fn observe(&mut self) -> std::result::Result<NetState, Errno> {
        self.host.observe()
    }
}

/// What the thread tells the rest of the engine.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Somebody changed what is ours, and it was put right.
    Healed {
        /// How many steps that took.
        steps: usize,
        /// What the first of them was for.
        first: String,
    },
    /// Something will not go well.
    Warning(About, Warning),
}

/// Turns the kernel's notices into [`Event::Moved`].
fn watch_kernel(mut watch: Watch, events: Sender<Event>) -> Result<()> {
    let run = move || {
        loop {
            match watch.wait(None) {
                Ok(moved) if moved.is_empty() => {}
                Ok(moved) => {
                    if events.send(Event::Moved(moved)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    // The tick of the network thread still looks, only later.
                    error!(%error, "the kernel's notices cannot be read any more");
                    return;
                }
            }
        }
    };
    std::thread::Builder::new().name("netwatch".into()).spawn(run).doing("start the watching thread").map(drop)
}

struct NetworkOwner {
    kernel: Hands,
    /// What the kernel has, as far as we know; `None`: look.
    have: Option<NetState>,
    world: Arc<RwLock<World>>,
    /// What the facts ask for.
    want: NetState,
    store: Arc<Store>,
    told: Box<dyn Fn(Notice) + Send>,
    /// From which blocks networks get their subnets; empty: plan's own.
    pools: Vec<Pool>,
    /// Published ports, so that nobody else takes them.
    held: HeldPorts,
    /// What others made on this host, as it was looked at last.
    around: Around,
    /// What was warned of.
    warnings: Arc<RwLock<Warnings>>,
    /// What the kernel cannot forward.
    /// Whom containers ask for each other.
    resolver: Resolver,
    relay: Relay,
    _listening: Option<[Listening; 2]>,
}

/// What takes a wish back whose network could not be made.
enum Withdrawal {
    /// The sandbox goes.
    Close(SandboxId),
    /// The endpoint goes.
    Detach(EndpointId),
    /// The network goes.
    Drop(NetworkId),
    /// The endpoints are again as they were.
    Restore(Vec<Endpoint>),
}

/// A wish that was decided and waits for the kernel.
struct Pending {
    owners: Vec<Owner>,
    /// What takes it back.
    withdraw: Option<Withdrawal>,
    reply: oneshot::Sender<Result<()>>,
}

impl NetworkOwner {
    fn run(&mut self, inbox: &Receiver<Event>) {
        let mut moved: Vec<Moved> = Vec::new();
        let mut next_look = Instant::now() + TICK;
        let mut next_survey = next_look;
        loop {
            let (mut wishes, mut looks) = (Vec::new(), Vec::new());
            match inbox.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
                Ok(first) => {
                    for event in std::iter::once(first).chain(inbox.try_iter()) {
                        match event {
                            Event::Wish(wish, reply) => wishes.push((wish, reply)),
                            Event::Sight(sandboxes, reply) => looks.push((sandboxes, reply)),
                            Event::Moved(more) => moved.extend(more),
                            Event::Stop => return,
                        }
                    }
                }
            }
            if !moved.is_empty() {
                next_look = next_look.min(Instant::now() + SETTLE);
            }
            if !wishes.is_empty() {
                self.round(wishes);
            }
            for (sandboxes, reply) in looks {
                // Whoever asked may have gone away.
                let _ = reply.send(self.sights(&sandboxes));
            }
            // Not only when the inbox is silent: an engine that is always asked for something must look too.
            if Instant::now() >= next_look {
                // At a tick without notices look all the same: not everything that can be changed is told.
                let believed = self.have.as_ref().filter(|_| !moved.is_empty());
                if believed.is_none_or(|have| surprising(&moved, have)) {
                    self.look();
                }
                if watch::around(&moved) || Instant::now() >= next_survey {
                    self.survey();
                    next_survey = Instant::now() + TICK;
                }
                self.warn();
                moved.clear();
                self.wake();
                next_look = Instant::now() + TICK;
            }
        }
    }

    /// Forgets that addresses rest which have rested enough.
    fn wake(&mut self) {
        let woken = self.decided(|world| Ok(decide::wake(world, now())));
        if let Err(error) = woken.and_then(|change| self.store.commit(&change)) {
            error!(%error, "addresses could not be woken");
        }
    }

    /// Decide, record, carry out, answer.
    fn round(&mut self, wishes: Vec<(Wish, oneshot::Sender<Result<()>>)>) {
        let mut pending = Vec::new();
        let mut all: Change = Vec::new();
        for (wish, reply) in wishes {
            let withdraw = match &wish {
                Wish::Join { sandbox, .. } => Some(Withdrawal::Close(sandbox.clone())),
                Wish::Connect(place) => Some(Withdrawal::Detach(place.id.clone())),
                Wish::Network(wish) => Some(Withdrawal::Drop(wish.id.clone())),
                Wish::Publish(id, _) | Wish::Unpublish(id, _) => Some(Withdrawal::Restore(siblings(&self.read(), id))),
                _ => None,
            };
            let decided = self.decide(&wish);
            match decided {
                Ok(change) => {
                    all.extend(change);
                    let owners = owners(&wish, &self.read());
                    pending.push(Pending { owners, withdraw, reply });
                }
                Err(refusal) => answer(reply, Err(refusal)),
            }
        }
        if let Err(error) = self.store.commit(&all) {
            // Nothing was done yet; take the facts back so that memory and store agree.
            error!(%error, "the network's facts could not be recorded");
            for one in pending.iter().rev() {
                let Some(back) = &one.withdraw else { continue };
                if let Err(error) = self.decided(|world| taken_back(world, back)) {
                    error!(%error, "a change of the network could not be taken back");
                }
            }
            for one in pending {
                answer(one.reply, Err(Error::Fault(error.to_string())));
            }
            return;
        }
        let failed = self.carry_out();
        let mut withdrawn = false;
        for one in pending {
            let fault = one.owners.iter().find_map(|owner| failed.get(owner));
            match fault {
                None => answer(one.reply, Ok(())),
                Some(text) => {
                    if let Some(back) = &one.withdraw {
                        withdrawn |= self.withdraw(back);
                    }
                    answer(one.reply, Err(Error::Fault(text.clone())));
                }
            }
        }
        if withdrawn {
            self.have = None;
            self.carry_out();
        }
    }

    fn withdraw(&mut self, back: &Withdrawal) -> bool {
        let Ok(change) = self.decided(|world| taken_back(world, back)) else { return false };
        if let Err(error) = self.store.commit(&change) {
            error!(%error, "what was withdrawn could not be recorded");
        }
        true
    }

    /// Decides a wish and takes the facts over; a refusal leaves none of them.
    fn decide(&mut self, wish: &Wish) -> Result<Change> {
        match wish {
            Wish::Join { sandbox, container, places, linked } => {
                let mut change = self.decided(|world| decide::sandbox(world, sandbox.clone(), container.clone()))?;
                if !linked.is_empty() {
                    change.extend(self.decided(|world| decide::link(world, sandbox, linked.clone()))?);
                }
                for place in places {
                    // A second place must see the first, so each is taken over before the next is decided.
                    let facts = self.facts_for(place)?;
                    match self.published(facts, |world, facts| decide::attach(world, facts, place)) {
                        Ok(more) => change.extend(more),
                        Err(refusal) => {
                            self.decided(|world| decide::close(world, sandbox, now()))?;
                            return Err(refusal);
                        }
                    }
                }
                Ok(change)
            }
            Wish::Leave(sandbox) => self.decided(|world| decide::close(world, sandbox, now())),
            Wish::Link(sandbox, linked) => self.decided(|world| decide::link(world, sandbox, linked.clone())),
            Wish::Publish(endpoint, wishes) => {
                let facts = self.facts(&[])?;
                self.published(facts, |world, facts| decide::publish(world, facts, endpoint, wishes))
            }
            Wish::Unpublish(endpoint, gone) => self.decided(|world| decide::unpublish(world, endpoint, gone)),
            Wish::Connect(place) => {
                let facts = self.facts_for(place)?;
                self.published(facts, |world, facts| decide::attach(world, facts, place))
            }
            Wish::Disconnect(endpoint) => self.decided(|world| decide::detach(world, endpoint, now())),
            Wish::Rename(endpoint, name, names) => {
                self.decided(|world| decide::rename(world, endpoint, name.clone(), names.clone()))
            }
            Wish::Network(wish) => {
                let facts = self.facts(&wish.links())?;
                let wish = self.with_addresses(wish)?;
                self.decided(|world| decide::network(world, &facts, &wish))
            }
            Wish::NoNetwork(id) => self.decided(|world| decide::remove_network(world, id)),
        }
    }

    /// Decides something that publishes ports. What is decided is bound on the host before it becomes a fact; what cannot
    /// be bound is one more thing known of the host, with which it is decided again: another port is chosen then, or the
    /// wish is refused.
    fn published(
        &mut self,
        mut facts: Facts,
        decide: impl Fn(&World, &Facts) -> std::result::Result<Change, Refusal>,
    ) -> Result<Change> {
        let mut tries = 1;
        loop {
            let change = decide(&self.read(), &facts).map_err(refused)?;
            match self.hold(&change) {
                Ok(()) => return self.decided(|_| Ok(change)),
                Err((_, failed)) if tries < ports::TRIES => facts.busy.extend(failed),
                Err((endpoint, failed)) => {
                    let Some(((proto, addr), why)) = failed.into_iter().next() else { continue };
                    let (name, endpoint) = (endpoint.container_name.clone(), endpoint.id.to_string());
                    return Err(refused(Refusal::PortBusy { name, endpoint, addr, proto, why }));
                }
            }
            tries += 1;
        }
    }

    /// Holds the ports that a change publishes: all or none. Each family may leave by an endpoint of its own.
    fn hold(&mut self, change: &Change) -> std::result::Result<(), (Box<Endpoint>, Vec<Failed>)> {
        let world = self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut held: Vec<&EndpointId> = Vec::new();
        for fact in change {
            let Fact::Endpoint(new) = fact else { continue };
            let Err(failed) = self.held.hold(new, &held_before(&world, change, new)) else {
                held.push(&new.id);
                continue;
            };
            // The others' are as before again.
            for id in held {
                let before =
                    world.endpoints.get(id).cloned().map_or_else(|| Fact::NoEndpoint(id.clone(), 0), Fact::Endpoint);
                self.held.follow(&vec![before]);
            }
            return Err((Box::new(new.clone()), failed));
        }
        Ok(())
    }

    /// What a place needs to know of the host: only published ports make it look.
    fn facts_for(&mut self, place: &AttachWish) -> Result<Facts> {
        if place.ports.is_empty() {
            Ok(Facts { now: now(), ports: self.around.ports.clone(), ..Facts::default() })
        } else {
            self.facts(&[IfName::host_end(&place.id)])
        }
    }

    /// The host as it is now, in `plan`'s words. Of its links those that lead anywhere, and these.
    fn facts(&mut self, links: &[IfName]) -> Result<Facts> {
        let host = self.kernel.host.strangers(links).doing("look at the host's network")?;
        let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let ours = |name: &IfName| host.links.get(name).is_some_and(|link| link.ours);
        let others = |which: &dyn Fn(&HostRoute) -> bool| {
            let routes = host.routes.iter().filter(|route| which(route) && !route.dev.as_ref().is_some_and(ours));
            routes.map(|route| route.to).collect()
        };
        Ok(Facts {
            routes: others(&|route| route.via.is_none()),
            far_routes: others(&|route| route.via.is_some()),
            addrs: host
                .addrs
                .iter()
                .filter(|(name, _)| !ours(name))
                .flat_map(|(_, addrs)| addrs.iter().copied())
                .collect(),
            links: host.links.iter().filter(|(_, link)| !link.ours).map(|(name, _)| name.clone()).collect(),
            mtus: host.links.iter().map(|(name, link)| (name.clone(), link.mtu)).collect(),
            ports: self.around.ports.clone(),
            default_mtu: host.default_mtu,
            resolvers: ResolvConf::parse(&resolv).servers.iter().map(|server| server.addr).collect(),
            now: now(),
            has_ipv6: host.ipv6,
            ephemeral: host.ephemeral,
            reserved: host.reserved.iter().flat_map(|(first, last)| *first..=*last).collect(),
            busy: BTreeMap::new(),
            pools: self.pools(),
            global_id: global_id(),
        })
    }

    /// A bridge that was made by hand brings its own addresses.
    fn with_addresses(&mut self, wish: &NetworkWish) -> Result<NetworkWish> {
        let mut wish = wish.clone();
        if let (Some(foreign), Some(name)) = (&mut wish.foreign, &wish.bridge) {
            let host = self.kernel.host.facts().doing("look at the host's network")?;
            foreign.extend(host.addrs.get(name).into_iter().flatten());
            wish.mtu = wish.mtu.or(host.links.get(name).map(|link| link.mtu));
        }
        Ok(wish)
    }

    fn decided(&mut self, decide: impl FnOnce(&World) -> std::result::Result<Change, Refusal>) -> Result<Change> {
        let mut world = write(&self.world);
        let change = decide(&world).map_err(refused)?;
        let handovers = decide::handovers(&world, &change);
        let ports_go = ports::go(&world, &change);
        self.resolver.follow(&world, &change);
        follow(&mut self.want, &mut world, &change);
        for handover in handovers {
            self.held.hand_over(&handover);
        }
        self.held.follow(&change);
        drop(world);
        if ports_go {
            self.relay.ports_went();
        }
        Ok(change)
    }

    fn read(&self) -> RwLockReadGuard<'_, World> {
        read(&self.world)
    }

    /// Makes the kernel agree with the facts; what failed, by owner.
    fn carry_out(&mut self) -> BTreeMap<Owner, String> {
        let started = Instant::now();
        let have = match self.have.take() {
            Some(have) => have,
            None => match self.kernel.observe() {
                Ok(have) => have,
                Err(errno) => {
                    error!(%errno, "the kernel's network cannot be read");
                    return self.everybody_failed(&format!("read the kernel's network: {errno}"));
                }
            },
        };
        let plan = diff(&have, &self.want);
        let Applied { now, failed, drifted } = apply(&mut self.kernel, have, &plan);
        for (owner, error) in &failed {
            warn!(%owner, %error, "a step failed");
        }
        debug!(steps = plan.len(), failed = failed.len(), took = ?started.elapsed(), "carried out");
        // After a failure the model may be wrong about what is there: look again next time.
        self.have = (failed.is_empty() && !drifted).then_some(now);
        // With the kernel's own word, for whoever asked for it.
        failed.into_iter().map(|(owner, error)| (owner, format!("{error}: {}", error.errno))).collect()
    }

    fn everybody_failed(&self, text: &str) -> BTreeMap<Owner, String> {
        let world = self.read();
        let sandboxes = world.sandboxes.keys().map(|id| Owner::Sandbox(id.short()));
        let networks = world.networks.keys().map(|id| Owner::Network(id.short()));
        sandboxes.chain(networks).map(|owner| (owner, text.to_owned())).collect()
    }

    /// The first round, before anybody asks.
    fn settle(&mut self) {
        for (owner, error) in self.carry_out() {
            error!(%owner, error, "the network is not as recorded");
        }
        let published: Vec<Endpoint> = self.read().endpoints.values().cloned().collect();
        for endpoint in &published {
            self.held.hold_again(endpoint);
        }
        self.survey();
        self.warn();
    }

    fn sights(&mut self, sandboxes: &BTreeSet<SandboxId>) -> Result<Sights> {
        let seen = self.kernel.host.sight(sandboxes).doing("look at the network")?;
        let wished = seen.wished(&self.want);
        Ok(Sights { seen, wished })
    }

    /// Looks at what others made on this host.
    fn survey(&mut self) {
        match self.kernel.host.around() {
            Ok(around) => self.around = Around { pools: self.pools(), ..around },
            Err(error) => warn!(%error, "what others made on this host cannot be read"),
        }
    }

    /// Tells of what will not go well and was not told of yet.
    fn warn(&mut self) {
        let mut had = self.warnings.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = {
            let world = self.world.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            warnings(&world, &self.around, &had)
        };
        for (about, warning) in now.iter().filter(|(about, _)| !had.contains_key(about)) {
            warn!("{warning}");
            (self.told)(Notice::Warning(about.clone(), warning.clone()));
        }
        for (_, over) in had.iter().filter(|(about, _)| !now.contains_key(about)) {
            info!("no longer: {}", over.text);
        }
        *had = now;
    }

    fn pools(&self) -> Vec<Pool> {
        if self.pools.is_empty() { Facts::default().pools } else { self.pools.clone() }
    }

    /// Looks whether the kernel still agrees, and puts right what does not.
    fn look(&mut self) {
        let have = match self.kernel.observe() {
            Ok(have) => have,
            Err(errno) => {
                warn!(%errno, "the kernel's network cannot be read");
                return;
            }
        };
        let plan = diff(&have, &self.want);
        self.have = Some(have);
        if let Some(first) = plan.first() {
            let first = first.why.to_string();
            info!(steps = plan.len(), first, "the network was changed by somebody else; putting it right");
            if self.carry_out().is_empty() {
                (self.told)(Notice::Healed { steps: plan.len(), first });
            }
        }
    }
}

fn read(world: &RwLock<World>) -> RwLockReadGuard<'_, World> {
    world.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write(world: &RwLock<World>) -> RwLockWriteGuard<'_, World> {
    world.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn answer(reply: oneshot::Sender<Result<()>>, with: Result<()>) {
    // Whoever asked may have gone away; the facts are recorded all the same, and whoever closes the sandbox clears them.
    let _ = reply.send(with);
}

fn taken_back(world: &World, back: &Withdrawal) -> std::result::Result<Change, Refusal> {
    match back {
        Withdrawal::Close(sandbox) => decide::close(world, sandbox, now()),
        Withdrawal::Detach(endpoint) => decide::detach(world, endpoint, now()),
        Withdrawal::Drop(network) => decide::remove_network(world, network),
        Withdrawal::Restore(endpoints) => {
            // One that is not there went with its sandbox.
            let there = endpoints.iter().filter(|endpoint| world.endpoints.contains_key(&endpoint.id));
            Ok(there.cloned().map(Fact::Endpoint).collect())
        }
    }
}

/// All endpoints of the sandbox that this one is of.
fn siblings(world: &World, id: &EndpointId) -> Vec<Endpoint> {
    let endpoint = world.endpoints.get(id);
    endpoint.map_or_else(Vec::new, |endpoint| world.endpoints_of(&endpoint.sandbox).cloned().collect())
}

/// What an endpoint, or another of its sandbox that hands its ports over, publishes before a change.
fn held_before(world: &World, change: &Change, endpoint: &Endpoint) -> Vec<PortBinding> {
    let handed = decide::handovers(world, change).into_iter().filter(|handover| handover.to == endpoint.id);
    let own = world.endpoints.get(&endpoint.id).map(|old| old.ports.clone()).unwrap_or_default();
    handed.map(|handover| handover.binding).chain(own).collect()
}

fn owners(wish: &Wish, world: &World) -> Vec<Owner> {
    match wish {
        Wish::Join { sandbox, places, .. } => {
            let endpoints = places.iter().map(|place| Owner::Endpoint(place.id.short()));
            std::iter::once(Owner::Sandbox(sandbox.short())).chain(endpoints).collect()
        }
        Wish::Leave(sandbox) | Wish::Link(sandbox, _) => vec![Owner::Sandbox(sandbox.short())],
        Wish::Publish(endpoint, _) | Wish::Unpublish(endpoint, _) => {
            siblings(world, endpoint).iter().map(|endpoint| Owner::Endpoint(endpoint.id.short())).collect()
        }
        Wish::Connect(place) => vec![Owner::Endpoint(place.id.short())],
        Wish::Disconnect(endpoint) | Wish::Rename(endpoint, ..) => vec![Owner::Endpoint(endpoint.short())],
        Wish::Network(wish) => vec![Owner::Network(wish.id.short())],
        Wish::NoNetwork(id) => vec![Owner::Network(id.short())],
    }
}

/// A refusal of `plan` in the daemon's words.
pub fn refused(refusal: Refusal) -> Error {
    use decide::Kind;
    let text = refusal.to_string();
    match refusal.kind() {
        Kind::NotFound => Error::NotFound(text),
        Kind::Conflict => Error::Conflict(text),
        Kind::Invalid => Error::Invalid(text),
        Kind::Forbidden => Error::Forbidden(text),
        Kind::Exhausted | Kind::Held => Error::Fault(text),
    }
}

/// 40 bits of this host's own, the same at each start: of the machine's id (machine-id(5)), or of the host's name.
fn global_id() -> [u8; 5] {
    use sha2::{Digest, Sha256};
    let machine = std::fs::read("/etc/machine-id");
    let seed = machine.unwrap_or_else(|_| rustix::system::uname().nodename().to_bytes().to_vec());
    let hash = Sha256::digest(&seed);
    [hash[0], hash[1], hash[2], hash[3], hash[4]]
}

/// Seconds since the epoch: the clock by which addresses rest.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
