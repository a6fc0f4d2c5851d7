//! The watch of links: how each stands while its source runs, who is told when that changes, and what becomes of a source that
//! cannot do without its target.
//!
//! One task for all links. That a target came or went is known here at once; whether it listens is asked of the kernel, in the
//! target's sandbox, for each target every half second: nobody connects for that, for a database writes down whoever hangs up.

use super::waiting::{Knocked, knock_at_any};
use super::{Engine, Tie};
use crate::container::dependency::OnLoss;
use crate::container::link_state::{Deed, LinkState, Sight, Watched, deed, state};
use crate::container::{Container, Phase};
use crate::error::{Doing, Error, Result};
use futures_util::future::join_all;
use kernel::Excursion;
use kernel::waiting::listeners;
use plan::ids::{ContainerId, SandboxId};
use plan::listener::Listener;
use plan::variables::Told;
use plan::world::Proto;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;
use tracing::{error, info, warn};

/// How often all targets are looked at.
const PACE: Duration = Duration::from_millis(500);
/// Looking takes at most this part of a processor's time: where there are very many targets, each is looked at less often.
const SHARE: u32 = 50;
/// What happens to a container comes in bursts.
const SETTLE: Duration = Duration::from_millis(5);
/// How long a deed that failed is not tried again.
const SULK: Duration = Duration::from_secs(5);
/// How long a check waits for one connection.
const KNOCK: Duration = Duration::from_secs(2);

/// What is known of links.
#[derive(Default)]
pub(super) struct Links {
    /// By source; those that run.
    watched: Mutex<BTreeMap<ContainerId, Watched>>,
    /// What accepts connections in the targets' sandboxes. Held by whoever looks: one at a time.
    sockets: tokio::sync::Mutex<Sockets>,
    /// Sources that are being stopped, frozen or thawed for their links.
    busy: Mutex<BTreeSet<ContainerId>>,
}

/// By sandbox: since when the target runs, and what accepts connections there; `None`: that could not be seen.
type Sockets = BTreeMap<SandboxId, (Option<SystemTime>, Option<Vec<Listener>>)>;

/// A link, for whoever asks.
#[derive(Debug)]
pub struct LinkView {
    /// Whose link it is.
    pub source: Arc<Container>,
    /// The link.
    pub tie: Tie,
    /// What the target exposes.
    pub ports: Vec<(u16, Proto)>,
    /// How it stands.
    pub state: LinkState,
    /// Since when.
    pub since: SystemTime,
    /// What came of connections from inside of the source's sandbox, where they were tried.
    pub knocked: Vec<Knocked>,
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<ContainerId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the links of a container from now on.
    pub fn recall(&self, id: ContainerId, watched: Watched) {
        self.lock().insert(id, watched);
    }

    /// A source does not run any more.
    pub fn forget(&self, id: &ContainerId) {
        self.lock().remove(id);
    }
}

impl Engine {
    /// Watches from now on.
    pub(super) fn watch_links(self: &Arc<Self>) {
        let bell = self.containers.bell();
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut next = Some(Instant::now());
            loop {
                match next {
                    None => bell.notified().await,
                    Some(at) => tokio::select! {
                        () = bell.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    },
                }
                tokio::time::sleep(SETTLE).await;
                let Some(engine) = engine.upgrade() else { return };
                let began = Instant::now();
                let all = next.is_some_and(|at| at <= began);
                let any = engine.look_at_links(all).await;
                let rest = PACE.max(began.elapsed() * SHARE);
                next = match next {
                    _ if !any => None,
                    Some(at) if !all => Some(at),
                    _ => Some(Instant::now() + rest),
                };
            }
        });
    }

    /// Looks at the links of all that runs: at those targets that nobody has looked at yet, or at `all`. Are there any?
    async fn look_at_links(self: &Arc<Self>, all: bool) -> bool {
        let mut sockets = self.links.sockets.lock().await;
        let mut sources: Vec<Arc<Container>> = self.containers.all().iter().map(|cell| cell.snapshot()).collect();
        sources.retain(|c| c.state.phase.is_alive() && c.spec.network.dependencies().next().is_some());
        let mut wanted = BTreeMap::new();
        for tie in sources.iter().flat_map(|source| self.ties(source)) {
            let Some(target) = tie.target.as_ref().filter(|_| tie.is_alive()) else { continue };
            if let Some(sandbox) = self.sandbox_on(&target.id, &tie.network) {
                wanted.insert(sandbox, target.state.started);
            }
        }
        sockets.retain(|id, _| wanted.contains_key(id));
        wanted.retain(|id, started| all || sockets.get(id).is_none_or(|(since, _)| since != started));
        let wanted: Vec<_> = wanted.into_iter().map(|(id, since)| (self.net.pin(&id), id, since)).collect();
        if !wanted.is_empty() {
            let look = move || {
                let excursion = Excursion::new()?;
                let seen = wanted.into_iter().map(|(pin, id, since)| (id, (since, accepting_at(&excursion, &pin))));
                io::Result::Ok(seen.collect::<Vec<_>>())
            };
            match tokio::task::spawn_blocking(look).await.map_err(io::Error::other).flatten() {
                Ok(seen) => sockets.extend(seen),
                Err(error) => error!(%error, "the sockets of links' targets could not be looked at"),
            }
        }
        for source in &sources {
            self.judge(&source.id, &sockets);
        }
        !sources.is_empty()
    }

    /// How the links of one source stand: remembers it, tells of it, and does what is to be done.
    fn judge(self: &Arc<Self>, id: &ContainerId, sockets: &Sockets) {
        // As things are after the look.
        let Some(source) = self.containers.get(id).map(|cell| cell.snapshot()) else { return };
        if !source.state.phase.is_alive() {
            return;
        }
        let (now, ties) = (SystemTime::now(), self.ties(&source));
        let mut all = self.links.lock();
        let watched = all.entry(id.clone()).or_default();
        let before = watched.clone();
        watched.seen.retain(|seen| ties.iter().any(|tie| tie.key == seen.key));
        let (mut stands, mut changes) = (Vec::new(), Vec::new());
        let (mut fresh, mut unseen) = (false, false);
        for tie in &ties {
            let known = tie.target.as_ref().and_then(|target| self.sandbox_on(&target.id, &tie.network));
            let accepting = known.as_ref().and_then(|sandbox| sockets.get(sandbox)?.1.as_ref());
            let takes =
                |to: SocketAddr| accepting.into_iter().flatten().any(|socket| socket.hears(Proto::Tcp, to, false));
            // One that came after the look is looked at in a moment.
            if tie.is_alive() && known.is_some() && accepting.is_none() {
                unseen = true;
                continue;
            }
            let stands_so = self.stands(tie, watched, &takes);
            let returns = tie.target.as_deref().is_some_and(|target| self.returns(target));
            if let Some(was) = watched.take(&tie.key, stands_so, now) {
                fresh |= stands_so == LinkState::TargetDown && tie.dependency.required == Some(OnLoss::Pause);
                changes.push((tie, stands_so, was));
            }
            stands.push((&tie.dependency, stands_so, returns));
        }
        let paused = source.state.phase == Phase::Paused;
        let deed = deed(stands.into_iter(), watched.frozen, paused, fresh);
        // That all are back is known when all were seen.
        let deed = deed.filter(|deed| *deed != Deed::Thaw || !unseen);
        watched.frozen |= deed == Some(Deed::Freeze);
        let after = (*watched != before).then(|| watched.clone());
        drop(all);
        if let Some(after) = after {
            self.record_links(id, &after);
        }
        for (tie, stands_so, was) in changes {
            let id = tie.target_id().map_or("", |id| id.as_str());
            let mut more = vec![
                ("alias", tie.alias.as_str()),
                ("network", &tie.network),
                ("target", &tie.name),
                ("targetID", id),
                ("state", stands_so.word()),
            ];
            more.extend(was.map(|was| ("was", was.word())));
            self.events.container(stands_so.event(), &source, &more);
        }
        if let Some(deed) = deed {
            self.carry_out(deed, &source);
        }
    }

    /// How a link stands, by what is known of its target.
    fn stands(&self, tie: &Tie, watched: &Watched, takes: &dyn Fn(SocketAddr) -> bool) -> LinkState {
        let Some(target) = &tie.target else { return LinkState::TargetDown };
        let sight = Sight {
            target: &target.spec,
            alive: target.state.phase.is_alive(),
            addrs: &self.addrs_on(&target.id, &tie.network),
            health: target.state.health.as_ref().map(|health| health.status),
            // Only links to a container, not to a name, come with variables.
            told: tie.to.as_ref().and_then(|to| watched.told.get(to)).copied(),
            takes,
        };
        state(&tie.dependency, &sight)
    }

    /// Whether a container that does not run is on its way back: by its restart policy, or because somebody restarts it.
    pub(super) fn returns(&self, target: &Container) -> bool {
        let restarts = target.kept.sandbox.as_ref().is_some_and(|sandbox| self.is_held(sandbox));
        restarts || target.state.phase == Phase::Restarting
    }

    fn carry_out(self: &Arc<Self>, deed: Deed, source: &Arc<Container>) {
        if !self.links.busy().insert(source.id.clone()) {
            return;
        }
        let (engine, source) = (self.clone(), source.clone());
        tokio::spawn(async move {
            let id = source.id.as_str();
            let done = match deed {
                Deed::Stop => {
                    info!(container = %source.name, "what it cannot do without has gone: stopping it");
                    engine.stop(id, None, None).await
                }
                Deed::Freeze => {
                    info!(container = %source.name, "what it cannot do without has gone: freezing it");
                    engine.pause(id).await
                }
                Deed::Thaw => engine.unpause(id).await,
            };
            match done {
                // Somebody else was quicker.
                Ok(()) | Err(Error::NotModified | Error::NotFound(_) | Error::Conflict(_)) => {}
                Err(error) => {
                    warn!(container = %source.name, %error, "could not be stopped, frozen or thawed for its links");
                    tokio::time::sleep(SULK).await;
                }
            }
            if deed == Deed::Thaw || engine.snapshot(id).is_ok_and(|now| now.state.phase != Phase::Paused) {
                engine.thawed(&source.id);
            }
            engine.links.busy().remove(&source.id);
            engine.containers.bell().notify_one();
        });
    }

    /// A container is frozen for its links no longer, whoever thawed it.
    pub(super) fn thawed(&self, id: &ContainerId) {
        let mut all = self.links.lock();
        let Some(watched) = all.get_mut(id).filter(|watched| watched.frozen) else { return };
        watched.frozen = false;
        let after = watched.clone();
        drop(all);
        self.record_links(id, &after);
    }

    /// What a container that is being started is told of its targets' addresses, for as long as it runs.
    pub(super) fn remember_told(&self, source: &Container, told: BTreeMap<ContainerId, IpAddr>) {
        if source.spec.network.dependencies().next().is_none() {
            return;
        }
        let told = if self.config.link_env == Told::Off { BTreeMap::new() } else { told };
        let watched = Watched { told, ..Watched::default() };
        self.record_links(&source.id, &watched);
        self.links.recall(source.id.clone(), watched);
    }

    fn record_links(&self, id: &ContainerId, watched: &Watched) {
        if let Err(error) = self.store.put_links(id, watched) {
            error!(container = %id.short(), %error, "how its links stand could not be recorded");
        }
    }

    /// Every link, or those of one source, as they stand now.
    ///
    /// # Errors
    /// `No such container: X`
    pub async fn links(self: &Arc<Self>, source: Option<&str>) -> Result<Vec<LinkView>> {
        let mut sources = match source {
            Some(source) => vec![self.snapshot(source)?],
            None => self.all(),
        };
        self.look_at_links(true).await;
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        // Again, for they may have changed meanwhile.
        let sources = sources.iter().filter_map(|source| Some(self.containers.get(&source.id)?.snapshot()));
        Ok(sources.flat_map(|source| self.link_views(&source)).collect())
    }

    fn link_views(&self, source: &Arc<Container>) -> Vec<LinkView> {
        let watched = self.links.lock().get(&source.id).cloned().unwrap_or_default();
        let down = !source.state.phase.is_alive();
        let waits = self.containers.get(&source.id).and_then(|cell| cell.stages().borrow().waits.since());
        let view = |tie: Tie| {
            let seen = watched.seen.iter().find(|seen| seen.key == tie.key);
            let waits = waits.filter(|_| tie.dependency.wait.is_some());
            let (state, since) = match (waits, seen) {
                (Some(since), _) => (LinkState::Waiting, since),
                _ if down => (LinkState::SourceDown, source.state.finished.unwrap_or(source.created)),
                (None, Some(seen)) => (seen.state, seen.since),
                // It was started in this moment.
                (None, None) => (LinkState::NotListening, source.state.started.unwrap_or(source.created)),
            };
            let ports = tie.target.iter().flat_map(|target| target.spec.network.exposed.iter().copied()).collect();
            LinkView { source: source.clone(), tie, ports, state, since, knocked: Vec::new() }
        };
        self.ties(source).into_iter().map(view).collect()
    }

    /// The links of a container that runs, tried from inside of its sandbox: by connections, as its program would make them.
    ///
    /// # Errors
    /// `No such container: X`; it does not run.
    pub async fn check_links(self: &Arc<Self>, source: &str) -> Result<Vec<LinkView>> {
        let source = self.running(source)?;
        let mut views = self.links(Some(source.id.as_str())).await?;
        let Some(sandbox) = source.kept.sandbox.as_ref().filter(|_| !views.is_empty()) else { return Ok(views) };
        let pin = self.net.pin(sandbox);
        let namespace = Arc::new(File::open(&pin).doing(format_args!("open {}", pin.display()))?);
        let watched = self.links.lock().get(&source.id).cloned().unwrap_or_default();
        let checks = views.iter_mut().map(|view| async {
            let Some(target) = &view.tie.target else { return };
            let addrs = self.addrs_on(&target.id, &view.tie.network);
            if target.state.phase.is_alive() && !addrs.is_empty() {
                let ports = view.tie.dependency.ports(&target.spec);
                view.knocked = join_all(ports.iter().map(|port| knock_at_any(&namespace, &addrs, *port, KNOCK))).await;
            }
            let takes =
                |to: SocketAddr| view.knocked.iter().any(|knocked| knocked.at == to && knocked.seen.is_accepted());
            view.state = self.stands(&view.tie, &watched, &takes);
        });
        join_all(checks).await;
        Ok(views)
    }
}

/// What accepts connections in a sandbox. `None`: it is gone, or the kernel does not say.
fn accepting_at(excursion: &Excursion, pin: &Path) -> Option<Vec<Listener>> {
    let look = || excursion.within(File::open(pin)?.as_fd(), || listeners(&[Proto::Tcp]));
    match look() {
        Ok(accepting) => Some(accepting),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            // It will be so each time.
            static TOLD: Once = Once::new();
            TOLD.call_once(|| warn!(pin = %pin.display(), %error, "which sockets accept connections cannot be seen"));
            None
        }
    }
}
