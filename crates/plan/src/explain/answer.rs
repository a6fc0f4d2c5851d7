//! The answer to a question: each address tried, what is wished for and what is seen judged apart, and what would change it.

use super::question::{Place, Question};
use super::sight::Sight;
use super::{Ask, At, Doing, End, Hop, Leg, Path, Refusal, called, path, remedy};
use crate::ids::Short;
use crate::netstate::Ns;
use crate::world::{Endpoint, World};
use std::collections::BTreeMap;

/// The short answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is reached.
    Reachable,
    /// It is reached, and should not be: what is ours is not as it should be, and is being put right.
    Leaks,
    /// It cannot be told.
    Unknown,
    /// It should be reached, but what is ours is not as it should be, and is being put right.
    Broken,
    /// The network lets it pass, and nobody is there to take it.
    NobodyListens,
    /// Somebody else's firewall or setting keeps it out.
    KeptOut,
    /// The networks are meant to be so.
    ByDesign,
}

impl Verdict {
    /// In a word, for programs.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Reachable => "reachable",
            Verdict::Leaks => "leaks",
            Verdict::Unknown => "unknown",
            Verdict::Broken => "broken",
            Verdict::NobodyListens => "nobody-listens",
            Verdict::KeptOut => "kept-out",
            Verdict::ByDesign => "by-design",
        }
    }

    /// Is it reached? `None` if that cannot be told.
    pub fn reaches(self) -> Option<bool> {
        match self {
            Verdict::Reachable | Verdict::Leaks => Some(true),
            Verdict::Unknown => None,
            _ => Some(false),
        }
    }
}

/// One address, tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// The question.
    pub ask: Ask,
    /// As things are.
    pub seen: Path,
    /// As they should be, by the facts.
    pub wished: Path,
    /// In short.
    pub verdict: Verdict,
    /// Why; empty where it is reached as it should be.
    pub reason: String,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// In short.
    pub verdict: Verdict,
    /// Why; empty where it is reached as it should be.
    pub reason: String,
    /// What would change it, a sentence or a command each.
    pub remedies: Vec<String>,
    /// Each address, the one that the verdict is about first.
    pub tries: Vec<Try>,
}

/// Answer a question: `seen` is what was looked at, `wished` the same with what is ours as it should be.
pub fn answer(seen: &Sight, wished: &Sight, world: &World, question: &Question) -> Answer {
    let names = called(world);
    if let Place::Container(id) = &question.to
        && world.endpoints_of(id).next().is_none()
        && question.from != question.to
    {
        let name = names.get(&Ns::Of(id.clone())).cloned().unwrap_or_else(|| "the container".into());
        let reason = format!("{name} is on no network");
        let remedies = vec!["run it on one: --network NETWORK in place of --network none".to_owned()];
        return Answer { verdict: Verdict::ByDesign, reason, remedies, tries: Vec::new() };
    }
    let asks = match question.asks(seen, world) {
        Ok(asks) => asks,
        Err(reason) => return Answer { verdict: Verdict::Unknown, reason, remedies: Vec::new(), tries: Vec::new() },
    };
    let tried = asks.into_iter().map(|ask| {
        let (seen, wished) = match passed_by(world, &ask) {
            Some(why) => (not_followed(&why), not_followed(&why)),
            None => (path(seen, world, &names, &ask), path(wished, world, &names, &ask)),
        };
        let (verdict, reason) = judge(&seen, &wished);
        Try { ask, seen, wished, verdict, reason }
    });
    let mut tries: Vec<Try> = tried.collect();
    tries.sort_by_key(|one| one.verdict);
    if let Some(text) = found_by(world, question, &names) {
        let place = names.get(&place_of(&question.from)).cloned().unwrap_or_default();
        let hop = Hop { leg: Leg::There, at: At::Name, place, text, cause: None };
        tries.iter_mut().for_each(|one| one.seen.hops.insert(0, hop.clone()));
    }
    let Some(first) = tries.first() else {
        let reason = "there is no address to be tried".to_owned();
        return Answer { verdict: Verdict::Unknown, reason, remedies: Vec::new(), tries };
    };
    let remedies = remedy::remedies(world, &names, question, first);
    Answer { verdict: first.verdict, reason: first.reason.clone(), remedies, tries }
}

/// The container is on a network whose packets the host does not see.
fn passed_by(world: &World, ask: &Ask) -> Option<String> {
    let of = |endpoint: &Endpoint| world.networks.get(&endpoint.network);
    let asked = world.endpoints.values().filter(|e| e.addrs().any(|addr| addr == ask.to));
    let (endpoint, network) = asked.filter_map(|e| Some((e, of(e)?))).find(|(_, network)| !network.has_bridge())?;
    Some(format!(
        "{} is on {}, a macvlan network: its packets pass the host by, and are not followed",
        endpoint.container_name, network.name
    ))
}

fn not_followed(why: &str) -> Path {
    Path { hops: Vec::new(), leg: Leg::There, end: End::Unknown(why.to_owned()), client: None }
}

fn place_of(place: &Place) -> Ns {
    match place {
        Place::Container(id) => Ns::Of(id.clone()),
        _ => Ns::Host,
    }
}

/// By which names one container finds another.
fn found_by(world: &World, question: &Question, names: &BTreeMap<Ns, String>) -> Option<String> {
    let (Place::Container(from), Place::Container(to)) = (&question.from, &question.to) else { return None };
    if from == to {
        return None;
    }
    let on: Vec<_> = world.endpoints_of(from).map(|e| &e.network).collect();
    let shared: Vec<_> = world.endpoints_of(to).filter(|e| on.contains(&&e.network)).collect();
    let to = names.get(&Ns::Of(to.clone()))?;
    let links = world.sandboxes.get(from).into_iter().flat_map(|sandbox| &sandbox.linked);
    let aliases = links.filter(|linked| linked.name == *to).map(|linked| &linked.alias);
    let mut known: Vec<&str> = Vec::new();
    for name in aliases.chain(shared.iter().flat_map(|e| &e.names)) {
        // The short id is a name too, which nobody uses.
        if !known.contains(&name.as_str()) && name.parse::<Short>().is_err() {
            known.push(name);
        }
    }
    Some(match &known[..] {
        [] if shared.is_empty() => format!("finds {to} by no name: they have no network in common"),
        [] => format!("finds {to} by no name: the network in common has none, so it must ask for the address"),
        some => format!("finds {to} by the name {}", some.join(" or ")),
    })
}

fn judge(seen: &Path, wished: &Path) -> (Verdict, String) {
    match (&seen.end, &wished.end) {
        (End::Reached { .. }, End::Refused(refusal)) => {
            let reason = format!("it is reached now, and should not be ({refusal}): berth puts it right");
            (Verdict::Leaks, reason)
        }
        (End::Reached { .. }, _) => (Verdict::Reachable, String::new()),
        (End::Unknown(why), _) => (Verdict::Unknown, why.clone()),
        (End::Refused(refusal), End::Reached { .. }) => {
            (Verdict::Broken, format!("it should be reached, but {}: berth puts it right", told(refusal, seen)))
        }
        // What is wished for says more, where both end alike.
        (End::Refused(refusal), End::Refused(design)) if design.doing() == Doing::Design => {
            let same = refusal == design;
            let now = if same { String::new() } else { format!("; just now {}", told(refusal, seen)) };
            (Verdict::ByDesign, format!("{}{now}", told(design, wished)))
        }
        (End::Refused(refusal), _) => {
            let verdict = match refusal.doing() {
                Doing::Design => Verdict::ByDesign,
                Doing::Others => Verdict::KeptOut,
                Doing::Program => Verdict::NobodyListens,
            };
            (verdict, told(refusal, seen))
        }
    }
}

fn told(refusal: &Refusal, path: &Path) -> String {
    match path.leg {
        super::Leg::There => refusal.to_string(),
        super::Leg::Back => format!("on the way back, {refusal}"),
    }
}
