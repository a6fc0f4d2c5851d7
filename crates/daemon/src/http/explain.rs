//! Why one place reaches another, or does not: berth's own extension of the Engine API.
//!
//! `GET /berth/explain?from=web&to=db:5432/tcp&probe=true`; `docs/explain.md` says what places are called and what the answer
//! holds.

use super::answer::{self, Answer};
use super::ask::Ask;
use crate::engine::explain::{Explained, Probe};
use crate::error::{Error, Result};
use kernel::probe::Outcome;
use plan::explain::{self, End, Hop, Leg, Path, Service, Try};
use serde_json::{Value, json};
use std::time::Instant;

pub async fn explain(ask: Ask) -> Result<Answer> {
    let place = |name: &str| {
        let missing =
            || Error::Invalid(format!("the place {name:?} is missing: /berth/explain?from=PLACE&to=PLACE[:PORT]"));
        ask.query.text(name).ok_or_else(missing)
    };
    let (from, to) = (place("from")?, place("to")?);
    let started = Instant::now();
    let explained = ask.engine.explain(from, to, ask.query.is("probe")).await?;
    tracing::debug!(from, to, took = ?started.elapsed(), "explained");
    let Explained { answer, service, found, probe } = explained;
    let verdict = answer.verdict;
    Ok(answer::json(&json!({
        "From": from,
        "To": to,
        "Service": service.to_string(),
        "Verdict": verdict.word(),
        "Reachable": verdict.reaches(),
        "Reason": answer.reason,
        "Remedies": answer.remedies,
        "Found": found,
        "Tries": answer.tries.iter().map(tried).collect::<Vec<_>>(),
        "Probe": probe.map(|probe| probed(&probe, verdict)),
    })))
}

fn tried(one: &Try) -> Value {
    let (port, proto) = parts(one.ask.service);
    json!({
        "Address": one.ask.to,
        "Port": port,
        "Proto": proto,
        "Verdict": one.verdict.word(),
        "Reachable": one.verdict.reaches(),
        "Reason": one.reason,
        "Client": one.seen.client,
        "Seen": way(&one.seen),
        "Wished": way(&one.wished),
    })
}

fn way(path: &Path) -> Value {
    let (end, text) = match &path.end {
        End::Reached { beyond: false } => ("reached", String::new()),
        End::Reached { beyond: true } => ("left", "who is outside is not seen from here".to_owned()),
        End::Refused(refusal) => ("refused", refusal.to_string()),
        End::Unknown(why) => ("unknown", why.clone()),
    };
    json!({ "Hops": path.hops.iter().map(hop).collect::<Vec<_>>(), "Leg": leg(path.leg), "End": end, "Text": text })
}

fn hop(hop: &Hop) -> Value {
    let element = hop.cause.as_ref().and_then(|cause| cause.element.as_ref());
    json!({
        "Leg": leg(hop.leg),
        "At": hop.at.name(),
        "Place": hop.place,
        "Text": hop.text,
        "Rule": hop.cause.as_ref().map(|cause| format!("{} {}: {}", cause.table, cause.chain, cause.rule)),
        "Element": element.map(|(set, why)| format!("{set}: {}", why.text)),
    })
}

fn leg(leg: Leg) -> &'static str {
    match leg {
        Leg::There => "there",
        Leg::Back => "back",
    }
}

fn parts(service: Service) -> (u16, &'static str) {
    match service {
        Service::Port(proto, port) => (port, proto.name()),
        Service::Echo => (0, "icmp"),
    }
}

fn probed(probe: &Probe, verdict: explain::Verdict) -> Value {
    let (outcome, text) = match &probe.outcome {
        Ok(Outcome::Answered) => ("answered", String::new()),
        Ok(Outcome::Refused(text)) => ("refused", text.clone()),
        Ok(Outcome::Silent) => ("silent", "nothing came back".to_owned()),
        Err(why) => ("not-tried", why.clone()),
    };
    let (port, proto) = parts(probe.service);
    json!({
        "Address": probe.to,
        "Port": port,
        "Proto": proto,
        "Outcome": outcome,
        "Text": text,
        "Agrees": probe.agrees(verdict),
    })
}
