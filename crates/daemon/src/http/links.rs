//! Links and how they stand: berth's own extension of the Engine API, below `/berth/` and so out of the way of Docker's paths.
//!
//! `GET /berth/links` answers with all of them, `GET /berth/links?source=NAME` with those of one source, which are looked at
//! without anybody noticing. `POST /berth/containers/{id}/links/check` tries those of a container that runs by connections from
//! inside of its sandbox, and says in `Checks` what came of each.

use super::answer::{Answer, json};
use super::ask::Ask;
use crate::engine::LinkView;
use crate::error::Result;
use crate::time;
use serde_json::{Value, json};

pub async fn list(ask: Ask) -> Result<Answer> {
    let views = ask.engine.links(ask.query.text("source")).await?;
    Ok(json(&views.iter().map(show).collect::<Vec<_>>()))
}

pub async fn check(ask: Ask) -> Result<Answer> {
    let views = ask.engine.check_links(ask.name()).await?;
    let shown = views.iter().map(|view| {
        let mut shown = show(view);
        let check = |one: &crate::engine::Knocked| {
            json!({ "Port": one.at.port(), "At": one.at.to_string(), "Seen": one.seen.to_string() })
        };
        shown["Checks"] = view.knocked.iter().map(check).collect();
        shown
    });
    Ok(json(&shown.collect::<Vec<_>>()))
}

fn show(view: &LinkView) -> Value {
    let tie = &view.tie;
    json!({
        "Source": view.source.name,
        "SourceID": view.source.id.as_str(),
        "Target": tie.name,
        "TargetID": tie.target_id().map_or("", |id| id.as_str()),
        "Alias": tie.alias,
        "Network": tie.network,
        "Ports": view.ports.iter().map(|(port, proto)| format!("{port}/{}", proto.name())).collect::<Vec<_>>(),
        "State": view.state.word(),
        "Since": time::rfc3339(view.since),
        "Words": tie.dependency.to_string(),
    })
}
