//! How a link stands while its source runs: decided from what is known of its target, and nothing else.

use super::dependency::{Dependency, OnLoss, Wait};
use super::health::Status;
use super::spec::Spec;
use plan::ids::ContainerId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

/// How a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkState {
    /// The source does not run, so nobody can say what it would see.
    SourceDown,
    /// The source is being started, and waits for what the link says.
    Waiting,
    /// The target does not run, or is not on the network any more.
    TargetDown,
    /// The link waits for the target's health, and its check says no.
    Unhealthy,
    /// A port that counts accepts no connections.
    NotListening,
    /// The target has another address than the source's variables say.
    Stale,
    /// All is as the source was told.
    Ready,
}

impl LinkState {
    /// In words, as people read and filter them.
    pub fn word(self) -> &'static str {
        match self {
            LinkState::SourceDown => "source down",
            LinkState::Waiting => "source waits",
            LinkState::TargetDown => "target down",
            LinkState::Unhealthy => "unhealthy",
            LinkState::NotListening => "not listening",
            LinkState::Stale => "address changed since start: variables are stale",
            LinkState::Ready => "ready",
        }
    }

    /// The event that says that a link has come to this.
    pub fn event(self) -> &'static str {
        match self {
            LinkState::Ready => "link ready",
            LinkState::Stale => "link stale",
            // Of the first two none is told: they are not seen, and shown only where somebody asks.
            LinkState::SourceDown
            | LinkState::Waiting
            | LinkState::TargetDown
            | LinkState::Unhealthy
            | LinkState::NotListening => "link broken",
        }
    }
}

/// What is known of the target of a link whose source runs.
pub struct Sight<'a> {
    /// What it is.
    pub target: &'a Spec,
    /// It runs.
    pub alive: bool,
    /// Where it is on the network of the link; nowhere if it does not run.
    pub addrs: &'a [IpAddr],
    /// What its health check says.
    pub health: Option<Status>,
    /// The address that the source's variables say; `None`: they say none.
    pub told: Option<IpAddr>,
    /// Whether something takes connections there.
    pub takes: &'a dyn Fn(SocketAddr) -> bool,
}

/// How a link stands.
pub fn state(dependency: &Dependency, sight: &Sight) -> LinkState {
    if !sight.alive || sight.addrs.is_empty() {
        return LinkState::TargetDown;
    }
    if dependency.wait == Some(Wait::Healthy) && sight.health != Some(Status::Healthy) {
        return LinkState::Unhealthy;
    }
    let takes = |port: u16| sight.addrs.iter().any(|addr| (sight.takes)(SocketAddr::new(*addr, port)));
    if !dependency.ports(sight.target).into_iter().all(takes) {
        return LinkState::NotListening;
    }
    match sight.told {
        Some(told) if !sight.addrs.contains(&told) => LinkState::Stale,
        _ => LinkState::Ready,
    }
}

/// What is remembered of the links of a container that runs; it outlives the engine, not the boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The addresses that its variables say, by target.
    pub told: BTreeMap<ContainerId, IpAddr>,
    /// It was frozen because a target went away.
    pub frozen: bool,
    /// How each link was seen last.
    pub seen: Vec<Seen>,
}

/// How a link was seen last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Which.
    pub key: String,
    /// So.
    pub state: LinkState,
    /// Since then.
    pub since: SystemTime,
}

impl Watched {
    /// Remembers how a link stands now. How it stood before, where that was something else: `Some(None)` is nowhere.
    pub fn take(&mut self, key: &str, state: LinkState, now: SystemTime) -> Option<Option<LinkState>> {
        let known = self.seen.iter_mut().find(|seen| seen.key == key);
        match known {
            Some(seen) if seen.state == state => None,
            Some(seen) => {
                let before = std::mem::replace(&mut seen.state, state);
                seen.since = now;
                Some(Some(before))
            }
            None => {
                self.seen.push(Seen { key: key.to_owned(), state, since: now });
                Some(None)
            }
        }
    }
}

/// What is to be done with a source, after a look at all its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A target is gone that it cannot do without.
    Stop,
    /// A target is gone, and it shall be frozen until that is back.
    Freeze,
    /// All those are back.
    Thaw,
}

/// What its links ask for: each with how it stands, and whether its target is on its way back. `frozen`: for them. `paused`: by
/// whomever. `fresh`: a target that it is frozen for went away just now.
pub fn deed<'a>(
    links: impl Iterator<Item = (&'a Dependency, LinkState, bool)>,
    frozen: bool,
    paused: bool,
    fresh: bool,
) -> Option<Deed> {
    let mut lost = false;
    for (dependency, state, returns) in links {
        let down = state == LinkState::TargetDown;
        match dependency.required {
            // One that comes back in a moment has not gone.
            Some(OnLoss::Stop) if down && !returns => return Some(Deed::Stop),
            Some(OnLoss::Pause) => {
                // Who waited for something at its start waits for that again.
                let back = matches!(state, LinkState::Ready | LinkState::Stale) || (dependency.wait.is_none() && !down);
                lost |= if frozen { !back } else { down };
            }
            _ => {}
        }
    }
    match (lost, frozen) {
        (true, false) if fresh && !paused => Some(Deed::Freeze),
        // The engine was killed between remembering that and doing it.
        (true, true) if !paused => Some(Deed::Freeze),
        (false, true) => Some(Deed::Thaw),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::world::Proto;

    fn dependency(words: &str) -> Dependency {
        Dependency::read(words, (!words.is_empty()).then_some(words)).unwrap()
    }

    #[test]
    fn the_worst_counts() {
        let mut target = crate::oci::example();
        target.network.exposed = [(80, Proto::Tcp), (53, Proto::Udp)].into();
        let (old, new): (IpAddr, IpAddr) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let six: IpAddr = "fd00::2".parse().unwrap();
        let see = |words: &str, alive, addrs: &[IpAddr], health, told, open: &[&str]| {
            let takes = |to: SocketAddr| open.contains(&to.to_string().as_str());
            state(&dependency(words), &Sight { target: &target, alive, addrs, health, told, takes: &takes })
        };
        use LinkState::*;
        let healthy = Some(Status::Healthy);
        assert_eq!(see("", true, &[old], None, Some(old), &["10.0.0.2:80"]), Ready);
        assert_eq!(see("", true, &[old, six], None, Some(old), &["[fd00::2]:80"]), Ready);
        assert_eq!(see("", true, &[new], None, Some(old), &["10.0.0.3:80"]), Stale);
        assert_eq!(see("", true, &[new], None, None, &["10.0.0.3:80"]), Ready);
        assert_eq!(see("", true, &[new], None, Some(old), &["10.0.0.2:80"]), NotListening);
        assert_eq!(see("wait=tcp:81", true, &[old], None, Some(old), &["10.0.0.2:80"]), NotListening);
        assert_eq!(see("wait=tcp:81", true, &[old], None, Some(old), &["10.0.0.2:81"]), Ready);
        assert_eq!(see("wait=healthy", true, &[old], Some(Status::Unhealthy), None, &["10.0.0.2:80"]), Unhealthy);
        assert_eq!(see("wait=healthy", true, &[old], healthy, None, &["10.0.0.2:80"]), Ready);
        assert_eq!(see("", true, &[], None, Some(old), &[]), TargetDown);
        assert_eq!(see("", false, &[], healthy, Some(old), &[]), TargetDown);
    }

    #[test]
    fn what_is_to_be_done() {
        use LinkState::*;
        let what = |links: &[(&str, LinkState, bool)], frozen, paused, fresh| {
            let words: Vec<Dependency> = links.iter().map(|(words, ..)| dependency(words)).collect();
            deed(
                words.iter().zip(links).map(|(words, (_, state, returns))| (words, *state, *returns)),
                frozen,
                paused,
                fresh,
            )
        };
        let (stop, pause) = ("required=true", "required=true,on-loss=pause");
        let waits = "wait=exposed,required=true,on-loss=pause";
        assert_eq!(what(&[("", TargetDown, false)], false, false, true), None);
        assert_eq!(what(&[(stop, NotListening, false)], false, false, true), None);
        assert_eq!(what(&[("", Ready, false), (stop, TargetDown, false)], false, false, true), Some(Deed::Stop));
        assert_eq!(what(&[(stop, TargetDown, true)], false, false, true), None);
        assert_eq!(what(&[(pause, TargetDown, true)], false, false, true), Some(Deed::Freeze));
        // Somebody thawed it, or had frozen it before: that is his business.
        assert_eq!(what(&[(pause, TargetDown, false)], false, false, false), None);
        assert_eq!(what(&[(pause, TargetDown, false)], false, true, true), None);
        assert_eq!(what(&[(pause, TargetDown, false)], true, false, false), Some(Deed::Freeze));
        assert_eq!(what(&[(pause, TargetDown, false)], true, true, false), None);
        assert_eq!(what(&[(pause, NotListening, false)], true, true, false), Some(Deed::Thaw));
        assert_eq!(what(&[(waits, NotListening, false)], true, true, false), None);
        assert_eq!(what(&[(waits, Stale, false)], true, true, false), Some(Deed::Thaw));
        assert_eq!(what(&[(waits, Ready, false), (pause, TargetDown, false)], true, true, false), None);
    }

    #[test]
    fn what_was_seen_lasts_until_it_changes() {
        let mut watched = Watched::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        assert_eq!(watched.take("db", LinkState::Ready, at(1)), Some(None));
        assert_eq!(watched.take("db", LinkState::Ready, at(2)), None);
        assert_eq!(watched.seen[0].since, at(1));
        assert_eq!(watched.take("sql", LinkState::Ready, at(2)), Some(None));
        assert_eq!(watched.take("db", LinkState::TargetDown, at(3)), Some(Some(LinkState::Ready)));
        assert_eq!((watched.seen.len(), watched.seen[0].since), (2, at(3)));
    }
}
