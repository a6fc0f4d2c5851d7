//! A start that waits until its container's links are what they ask for: asked from inside of the container's own sandbox,
//! before its program runs, so that the answer is the one that the program would get.

use super::{Engine, Tie};
use crate::container::dependency::Wait;
use crate::container::health::Status;
use crate::container::{Container, Phase};
use crate::engine::registry::{Cell, Waits};
use crate::error::{Doing, Error, Result};
use crate::time;
use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use plan::ids::SandboxId;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::time::Instant;
use tracing::info;

/// The first pause between two looks, doubled each time up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(10);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How long a first connection is waited for, and each later one twice as long as the one before. The kernel says a lost first
/// packet again after a second only, and the bridge of a busy host may lose those that come right after it got a port.
const FIRST: Duration = Duration::from_millis(250);
/// How long one connection is waited for at most: a little longer than the kernel takes to find that nobody has an address.
const KNOCK: Duration = Duration::from_millis(3500);
/// And at least, for the last look comes when the time is over: what is refused shall not be said to have timed out.
const LAST: Duration = Duration::from_millis(200);

/// What came of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was accepted.
    Accepted,
    /// Nobody listens there.
    Refused,
    /// No answer came.
    TimedOut,
    /// There is no way there, or nobody with that address.
    NoRoute,
    /// The kernel said something else.
    Else(String),
}

impl Seen {
    /// Somebody is there.
    pub fn is_accepted(&self) -> bool {
        *self == Seen::Accepted
    }

    fn of(error: &io::Error) -> Seen {
        match error.kind() {
            ErrorKind::ConnectionRefused => Seen::Refused,
            ErrorKind::TimedOut => Seen::TimedOut,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => Seen::NoRoute,
            _ => Seen::Else(error.to_string()),
        }
    }
}

impl Display for Seen {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Seen::Accepted => "accepted",
            Seen::Refused => "refused",
            Seen::TimedOut => "timed out",
            Seen::NoRoute => "no route",
            Seen::Else(text) => text,
        })
    }
}

/// A connection that was tried, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knocked {
    /// Where to.
    pub at: SocketAddr,
    /// What came of it.
    pub seen: Seen,
}

/// Why a link is not yet what its source waits for.
#[derive(Debug)]
enum Unmet {
    /// Nobody has the name.
    Nobody,
    /// The target does not run.
    Down(Phase),
    /// It runs, and has no address that the source could use.
    NotThere,
    /// It exposes no TCP port.
    NoPorts,
    /// Its health check does not say yes.
    Health(Option<Status>),
    /// These ports of it did not answer.
    Ports(Vec<Knocked>),
}

impl Engine {
    /// Waits until all links of a container that is being started are what they ask for, and lets go when somebody wants it
    /// stopped. The caller holds its gate; requests that need that are refused meanwhile, not held up.
    ///
    /// # Errors
    /// What of which target was not there, and for how long; a target that is required and not waited for does not run; the
    /// start was given up.
    pub(super) async fn await_links(&self, cell: &Arc<Cell>, source: &Container, sandbox: &SandboxId) -> Result<()> {
        let mut waiting = self.ties(source);
        let there = |tie: &Tie| tie.is_alive() || tie.target.as_ref().is_some_and(|target| self.returns(target));
        let required = |tie: &&Tie| tie.dependency.required.is_some() && tie.dependency.wait.is_none();
        if let Some(tie) = waiting.iter().filter(required).find(|tie| !there(tie)) {
            let unmet = tie.target.as_ref().map_or(Unmet::Nobody, |target| Unmet::Down(target.state.phase));
            let way_out = match tie.to {
                Some(_) if tie.target.is_none() => {
                    format!("take the link away (rm --link {}/{})", source.name, tie.alias)
                }
                _ => "start that first, or let the link wait for it (wait=)".to_owned(),
            };
            return Err(Error::Conflict(format!(
                "container {} was not started: its link {}:{} is required, and {}; {way_out}",
                source.name,
                tie.name,
                tie.alias,
                unmet.told(tie)
            )));
        }
        waiting.retain(|tie| tie.dependency.wait.is_some());
        if waiting.is_empty() {
            return Ok(());
        }
        let pin = self.net.pin(sandbox);
        let namespace = File::open(&pin).doing(format_args!("open {}", pin.display()))?;
        let namespace = Arc::new(namespace);
        let _waiting = cell.wait();
        let names = waiting.iter().map(|tie| tie.name.as_str()).collect::<Vec<_>>().join(", ");
        info!(container = %source.name, targets = names, "waits for what it is linked to");
        let mut stages = cell.stages();
        let given_up = async { stages.wait_for(|stage| stage.waits == Waits::GivenUp).await.is_ok() };
        let met = try_join_all(waiting.iter().map(|tie| self.await_link(source, tie, &namespace)));
        tokio::select! {
            met = met => met.map(drop),
            _ = given_up => Err(Error::Conflict(format!(
                "container {} was not started: it was stopped, or given up by who started it, while it waited for what it is linked to ({names})",
                source.name
            ))),
        }
    }

    async fn await_link(&self, source: &Container, tie: &Tie, namespace: &Arc<File>) -> Result<()> {
        let Tie { alias, dependency, .. } = tie;
        let Some(wait) = &dependency.wait else { return Ok(()) };
        let patience = dependency.patience();
        let end = Instant::now() + patience;
        let mut pause = PAUSE;
        let mut longest = FIRST;
        loop {
            // Whoever that is by now.
            let Some(tie) = self.ties(source).into_iter().find(|now| now.key == tie.key) else { return Ok(()) };
            let cell = tie.target.as_ref().and_then(|target| self.containers.get(&target.id));
            let cell = cell.filter(|cell| cell.phase() != Phase::Removing);
            if cell.is_none() && tie.to.is_some() {
                return Err(Error::Conflict(format!(
                    "container {} was not started: its link {}:{alias} waits for a container that is no more",
                    source.name, tie.name
                )));
            }
            // Whatever happens to the target from here on is a reason to look again.
            let mut stages = cell.as_ref().map(|cell| cell.stages());
            let before = stages.as_mut().map(|stages| *stages.borrow_and_update());
            let moved = async {
                match &mut stages {
                    Some(stages) => drop(stages.wait_for(|stage| Some(*stage) != before).await.is_ok()),
                    None => std::future::pending().await,
                }
            };
            let mut moved = std::pin::pin!(moved);
            let target = cell.as_ref().map(|cell| cell.snapshot());
            let unmet = tokio::select! {
                unmet = self.unmet(&tie, wait, target.as_deref(), namespace, longest.min(end.saturating_duration_since(Instant::now()))) => unmet,
                () = &mut moved => continue,
            };
            let Some(unmet) = unmet else { return Ok(()) };
            if Instant::now() >= end {
                return Err(Error::Conflict(format!(
                    "container {} was not started: its link {}:{alias} waits for {wait}, and after {} {}",
                    source.name,
                    tie.name,
                    time::go_duration(patience),
                    unmet.told(&tie)
                )));
            }
            let next = (Instant::now() + pause).min(end);
            pause = (pause * 2).min(PAUSE_MAX);
            longest = (longest * 2).min(KNOCK);
            tokio::select! {
                () = tokio::time::sleep_until(next) => {}
                () = &mut moved => {}
            }
        }
    }

    /// Why a link is not what its source waits for, as things are now. Connections are waited for with `patience`.
    async fn unmet(
        &self,
        tie: &Tie,
        wait: &Wait,
        target: Option<&Container>,
        namespace: &Arc<File>,
        patience: Duration,
    ) -> Option<Unmet> {
        let Some(target) = target else { return Some(Unmet::Nobody) };
        if !target.state.phase.is_alive() {
            return Some(Unmet::Down(target.state.phase));
        }
        let addrs = self.addrs_on(&target.id, &tie.network);
        if addrs.is_empty() {
            return Some(Unmet::NotThere);
        }
        if *wait == Wait::Healthy {
            let status = target.state.health.as_ref().map(|health| health.status);
            return (status != Some(Status::Healthy)).then_some(Unmet::Health(status));
        }
        let ports = tie.dependency.ports(&target.spec);
        if ports.is_empty() {
            return Some(Unmet::NoPorts);
        }
        let knocks = ports.iter().map(|port| knock_at_any(namespace, &addrs, *port, patience.max(LAST)));
        let shut: Vec<_> = join_all(knocks).await.into_iter().filter(|knocked| !knocked.seen.is_accepted()).collect();
        (!shut.is_empty()).then_some(Unmet::Ports(shut))
    }
}

impl Unmet {
    /// In words.
    fn told(&self, tie: &Tie) -> String {
        let Tie { name, network, .. } = tie;
        match self {
            Unmet::Nobody if tie.to.is_some() => format!("{name} is no more"),
            Unmet::Nobody => format!("nobody is called {name} on the network {network}"),
            Unmet::Down(phase) => format!("{name} does not run (it is {})", phase.word()),
            Unmet::NotThere => format!("{name} is not on the network {network}"),
            Unmet::NoPorts => format!("{name} exposes no TCP port"),
            Unmet::Health(None) => format!("nothing checks the health of {name}"),
            Unmet::Health(Some(status)) => format!("{name} is {}", status.word()),
            Unmet::Ports(shut) => {
                let shut = shut
                    .iter()
                    .map(|Knocked { at, seen }| format!("port {} of {name} did not answer: {seen} ({at})", at.port()));
                shut.collect::<Vec<_>>().join(", ")
            }
        }
    }
}

/// Connects to a port by all of a target's addresses at once. The first that accepts counts; else what the first of them said,
/// which is IPv4's where there is one.
pub(super) async fn knock_at_any(namespace: &Arc<File>, addrs: &[IpAddr], port: u16, patience: Duration) -> Knocked {
    let knocks = addrs.iter().enumerate().map(|(nth, addr)| async move {
        let to = SocketAddr::new(*addr, port);
        (nth, to, knock(namespace.clone(), to, patience).await)
    });
    let mut knocks: FuturesUnordered<_> = knocks.collect();
    let mut first = None;
    while let Some((nth, to, seen)) = knocks.next().await {
        if seen == Seen::Accepted {
            return Knocked { at: to, seen };
        }
        if first.as_ref().is_none_or(|(before, _, _)| nth < *before) {
            first = Some((nth, to, seen));
        }
    }
    let nobody = || Knocked { at: SocketAddr::new(IpAddr::from([0, 0, 0, 0]), port), seen: Seen::NoRoute };
    first.map_or_else(nobody, |(_, at, seen)| Knocked { at, seen })
}

/// Connects from inside of a network namespace, and hangs up.
async fn knock(namespace: Arc<File>, to: SocketAddr, patience: Duration) -> Seen {
    let asked = async {
        // Only the socket is made there, on a thread that may go elsewhere for that moment; it belongs there for good.
        let made = tokio::task::spawn_blocking(move || socket_in(&namespace, to)).await;
        made.map_err(io::Error::other)??.connect(to).await
    };
    match tokio::time::timeout(patience, asked).await {
        Ok(Ok(_)) => Seen::Accepted,
        Ok(Err(error)) => Seen::of(&error),
        Err(_) => Seen::TimedOut,
    }
}

fn socket_in(namespace: &File, to: SocketAddr) -> io::Result<TcpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let made = kernel::Excursion::new()?
        .within(namespace.as_fd(), || Ok(socket_with(family, SocketType::STREAM, flags, None)?))?;
    Ok(TcpSocket::from_std_stream(TcpStream::from(made)))
}
