//! Publishing ports of a running container: berth's own extension of the Engine API, below `/berth/` and so out of the way
//! of Docker's paths.
//!
//! `POST /berth/containers/{id}/ports` and `DELETE /berth/containers/{id}/ports` take the object that
//! `POST /containers/create` takes as `HostConfig.PortBindings`, under its name:
//!
//! ```json
//! { "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] } }
//! ```
//!
//! `POST` publishes all of it or nothing, with the errors of a start. `DELETE` ends what fits; an empty `HostIp` or
//! `HostPort` fits every one, and a port that fits nothing is a 404 that changes nothing. Both answer 204, are in force
//! when they answer, and last over stop and start.

use super::answer::{Answer, done};
use super::ask::Ask;
use super::wish;
use crate::container::spec::Publish;
use crate::error::{Error, Result};
use api::PortBinding;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ports {
    #[serde(rename = "PortBindings")]
    bindings: HashMap<String, Option<Vec<PortBinding>>>,
}

pub async fn add(mut ask: Ask) -> Result<Answer> {
    let default_ip = ask.engine.config.bridge.host_ip;
    let ports = read(&mut ask, default_ip).await?;
    ask.engine.publish(ask.name(), ports).await?;
    Ok(done())
}

pub async fn remove(mut ask: Ask) -> Result<Answer> {
    let ports = read(&mut ask, Ipv4Addr::UNSPECIFIED.into()).await?;
    ask.engine.unpublish(ask.name(), &ports).await?;
    Ok(done())
}

async fn read(ask: &mut Ask, default_ip: IpAddr) -> Result<Vec<Publish>> {
    let missing = || Error::Invalid("PortBindings: name at least one port".into());
    let ports: Ports = ask.json().await?.ok_or_else(missing)?;
    let ports = wish::published(ports.bindings.iter(), default_ip)?;
    if ports.is_empty() { Err(missing()) } else { Ok(ports) }
}
