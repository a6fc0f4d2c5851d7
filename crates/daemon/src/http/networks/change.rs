//! Making and removing networks, and putting containers on them.

use super::options::Kind;
use super::{FIXED, options};
use crate::container::spec::PlaceSpec;
use crate::engine::{DEFAULT_NETWORK, PREDEFINED};
use crate::error::{Error, Result};
use crate::http::answer::{Answer, done, empty, json, json_as};
use crate::http::ask::Ask;
use crate::http::filters::Filters;
use crate::http::wish::place;
use api::{NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest};
use axum::http::StatusCode;
use plan::world::Network;
use serde_json::json;

pub async fn create(mut ask: Ask) -> Result<Answer> {
    let body: NetworkCreateRequest =
        ask.json().await?.ok_or_else(|| Error::Invalid("the request has no body".into()))?;
    if body.name.trim().is_empty() {
        return Err(Error::Invalid("invalid name: name is empty".into()));
    }
    if PREDEFINED.contains(&body.name.as_str()) || body.name == "default" {
        // The blank at the end is Docker's too.
        return Err(Error::Forbidden(format!("operation is not permitted on predefined {} network ", body.name)));
    }
    let kind = driver(&body)?;
    let understood = options::understand(body, kind, ask.engine.config.bridge.mtu)?;
    let network = ask.engine.create_network(understood.wish).await?;
    Ok(json_as(StatusCode::CREATED, &json!({ "Id": network.id.as_str(), "Warning": understood.warning })))
}

/// # Errors
/// A driver that is not there, or a kind of network that needs a swarm.
fn driver(body: &NetworkCreateRequest) -> Result<Kind> {
    let swarm = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
                 swarm and try again.";
    if body.ingress == Some(true) || body.scope.as_deref() == Some("swarm") {
        return Err(Error::Unavailable(swarm.into()));
    }
    let config_from = body.config_from.as_ref().and_then(|from| from.network.as_deref());
    if body.config_only == Some(true) || config_from.is_some_and(|from| !from.is_empty()) {
        return Err(Error::Absent(
            "ConfigOnly and ConfigFrom: networks that are only a configuration are not there".into(),
        ));
    }
    match body.driver.as_deref().unwrap_or_default() {
        "" | "default" | "bridge" => Ok(Kind::Bridge),
        "macvlan" => Ok(Kind::Macvlan),
        "overlay" => Err(Error::Unavailable(swarm.into())),
        driver @ ("host" | "null") => {
            Err(Error::Forbidden(format!("only one instance of \"{driver}\" network is allowed")))
        }
        "ipvlan" => Err(Error::Absent(
            "networks of the driver ipvlan are not there: macvlan, which is, puts containers on an interface's segment too, each \
             with an Ethernet address of its own"
                .into(),
        )),
        driver => Err(Error::NotFound(format!(
            "could not find plugin {driver} in v1 plugin registry: plugin \"{driver}\" not found"
        ))),
    }
}

pub async fn remove(ask: Ask) -> Result<Answer> {
    let name = ask.name();
    let fixed = FIXED.iter().map(|(fixed, _)| *fixed).find(|fixed| is_fixed(fixed, name));
    let predefined = fixed.map(str::to_owned).or_else(|| {
        let network = ask.engine.find_network(name).ok()?;
        (network.name == DEFAULT_NETWORK).then_some(network.name)
    });
    if let Some(name) = predefined {
        return Err(Error::Forbidden(format!("{name} is a pre-defined network and cannot be removed")));
    }
    ask.engine.remove_network(name).await?;
    Ok(done())
}

/// Does a reference mean one of the two networks that are no facts?
fn is_fixed(fixed: &str, reference: &str) -> bool {
    let id = crate::http::show::network::fixed_id(fixed);
    reference == fixed || (reference.len() >= 12 && id.starts_with(reference))
}

pub async fn prune(ask: Ask) -> Result<Answer> {
    let filters = Filters::read(&ask.query, &["until", "label", "label!"])?;
    let until = filters.until()?;
    let fits = |network: &Network| {
        let created = super::created(network);
        until.is_none_or(|until| created < until) && filters.labels_fit(&network.about.labels)
    };
    let removed = ask.engine.prune_networks(fits).await?;
    Ok(json(&json!({ "NetworksDeleted": if removed.is_empty() { None } else { Some(removed) } })))
}

pub async fn connect(mut ask: Ask) -> Result<Answer> {
    let body: NetworkConnectRequest =
        ask.json().await?.ok_or_else(|| Error::Invalid("the request has no body".into()))?;
    let network = reference(ask.name());
    let settings = body.endpoint_config.unwrap_or_default();
    let name = ask.engine.find_network(&network).map_or_else(|_| network.clone(), |network| network.name);
    let place: PlaceSpec = place::read(name, settings, None)?;
    ask.engine.connect(&network, &body.container, place).await?;
    Ok(empty(StatusCode::OK))
}

pub async fn disconnect(mut ask: Ask) -> Result<Answer> {
    let body: NetworkDisconnectRequest =
        ask.json().await?.ok_or_else(|| Error::Invalid("the request has no body".into()))?;
    let network = reference(ask.name());
    ask.engine.disconnect(&network, &body.container, body.force == Some(true)).await?;
    Ok(empty(StatusCode::OK))
}

/// `host` and `none` may be named by their ids.
fn reference(network: &str) -> String {
    let fixed = FIXED.iter().map(|(fixed, _)| *fixed).find(|fixed| is_fixed(fixed, network));
    fixed.unwrap_or(network).to_owned()
}
