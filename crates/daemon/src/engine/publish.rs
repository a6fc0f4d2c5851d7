use super::Engine;
use super::start::{keep_places, port_wish, port_wishes};
use crate::container::spec::{NetworkMode, Publish};
use crate::container::{Container, Phase};
use crate::engine::registry::Cell;
use crate::error::{Error, Result};
use crate::network::Wish;
use plan::ids::SandboxId;
use plan::ports::{Unpublish, in_ranges};
use plan::world::{Endpoint, Opened, PortBinding};
use serde_json::{Value, json};
use std::sync::Arc;

impl Engine {
    /// Publishes more ports of a running container, all or none, and remembers them for its later starts.
    ///
    /// # Errors
    /// It does not run, or has no network of its own; ports that cannot be had.
    pub async fn publish(&self, reference: &str, ports: Vec<Publish>) -> Result<()> {
        let cell = self.find(reference)?;
        let _gate = cell.enter().await?;
        let endpoint = self.published_endpoint(&cell.snapshot())?;
        let wishes = in_ranges(ports.iter().map(port_wish).collect());
        self.net.wish(Wish::Publish(endpoint.id.clone(), wishes)).await?;
        self.remember(&cell, &endpoint, |container, _| container.spec_mut().network.published.extend(ports))
    }

    /// Ends the publishing of some ports of a running container, now and for its later starts. What `ports` leave open fits
    /// every address or port of the host.
    ///
    /// # Errors
    /// It does not run, or has no network of its own; a port that is not published, and then nothing is changed.
    pub async fn unpublish(&self, reference: &str, ports: &[Publish]) -> Result<()> {
        let cell = self.find(reference)?;
        let _gate = cell.enter().await?;
        let endpoint = self.published_endpoint(&cell.snapshot())?;
        let gone = ports.iter().map(|port| Unpublish {
            proto: port.proto,
            host_ip: port.host_ip,
            host_port: port.host_ports,
            inner: port.inner,
        });
        let gone: Vec<Unpublish> = gone.collect();
        self.net.wish(Wish::Unpublish(endpoint.id.clone(), gone.clone())).await?;
        self.remember(&cell, &endpoint, |container, rest| forget(container, &gone, rest))
    }

    /// The endpoint by which a running container publishes ports.
    fn published_endpoint(&self, container: &Container) -> Result<Endpoint> {
        let name = &container.name;
        if !matches!(container.state.phase, Phase::Running | Phase::Paused) {
            return Err(Error::Conflict(format!("container {} is not running", container.id.as_str())));
        }
        let none = match &container.spec.network.mode {
            NetworkMode::Bridged | NetworkMode::Named(_) => "it is on no network".to_owned(),
            NetworkMode::Closed => "it has no network (--network none)".to_owned(),
            NetworkMode::Open => "it uses the host's own network, where its ports are the host's".to_owned(),
            NetworkMode::Joined(other) => format!("it shares the network of {other}: publish the port there"),
        };
        let places = self.place(container).endpoints;
        let leading_out = places.iter().find(|(endpoint, _)| endpoint.gateway).or(places.first());
        let found = leading_out.map(|(endpoint, _)| endpoint.clone());
        found.ok_or_else(|| Error::Conflict(format!("cannot change the published ports of {name}: {none}")))
    }

    /// Records in the container what is published of it now.
    fn remember(
        &self,
        cell: &Arc<Cell>,
        endpoint: &Endpoint,
        change: impl FnOnce(&mut Container, &[Endpoint]),
    ) -> Result<()> {
        let places = self.net.places(&endpoint.sandbox);
        let endpoints: Vec<Endpoint> = places.iter().map(|(endpoint, _)| endpoint.clone()).collect();
        let container = cell.change(|container| {
            change(container, &endpoints);
            keep_places(container, &places);
            show_wishes(container);
        });
        self.store.put_container(&container)?;
        self.events.container("update", &container, &[]);
        Ok(())
    }

    /// Publishes what a running container asked for and nothing of which is published: it had no way out so far, or one
    /// of another kind. It goes on also where that cannot be.
    pub(super) async fn publish_again(&self, container: &Container, sandbox: &SandboxId) {
        let places = self.net.places(sandbox);
        let nothing = places.iter().all(|(endpoint, _)| endpoint.ports.is_empty() && endpoint.opened.is_empty());
        let wishes = port_wishes(&container.spec.network);
        let Some((leader, _)) = places.iter().find(|(endpoint, _)| endpoint.gateway).filter(|_| nothing) else {
            return;
        };
        if !wishes.is_empty()
            && let Err(error) = self.net.wish(Wish::Publish(leader.id.clone(), wishes)).await
        {
            tracing::warn!(container = %container.name, %error, "its ports are not published by its new way out");
        }
    }
}

/// Takes the wishes back that are no longer fulfilled.
fn forget(container: &mut Container, gone: &[Unpublish], rest: &[Endpoint]) {
    let spec = &mut container.spec_mut().network;
    let concerned = |inner: u16, proto| gone.iter().any(|gone| (gone.inner, gone.proto) == (inner, proto));
    if spec.publish_all && spec.exposed.iter().any(|(port, proto)| concerned(*port, *proto)) {
        // All but some: from now on those that stay are published by name.
        spec.publish_all = false;
        for (inner, proto) in &spec.exposed {
            let named = spec.published.iter().any(|publish| (publish.inner, publish.proto) == (*inner, *proto));
            if !named {
                spec.published.push(Publish { proto: *proto, host_ip: None, host_ports: None, inner: *inner });
            }
        }
    }
    spec.published.retain(|publish| !concerned(publish.inner, publish.proto) || fulfilled(publish, rest));
}

fn fulfilled(publish: &Publish, rest: &[Endpoint]) -> bool {
    let is_open = |opened: &Opened| publish.proto == opened.proto && opened.ports().contains(&publish.inner);
    let binds = |binding: &PortBinding| {
        let nth = publish.inner.checked_sub(binding.inner_port).filter(|nth| *nth < binding.count);
        let host_port = nth.map(|nth| binding.host_port + nth);
        publish.proto == binding.proto
            && publish.host_ip.map_or(binding.host_ip.is_unspecified(), |ip| ip == binding.host_ip)
            && host_port.is_some_and(|port| publish.host_ports.is_none_or(|(from, to)| (from..=to).contains(&port)))
    };
    rest.iter().any(|endpoint| endpoint.ports.iter().any(binds) || endpoint.opened.iter().any(is_open))
}

/// `inspect` shows the wishes of now as those of the container.
fn show_wishes(container: &mut Container) {
    let mut bindings = serde_json::Map::new();
    for publish in &container.spec.network.published {
        let key = format!("{}/{}", publish.inner, publish.proto.name());
        let host_ip = publish.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let host_port = match publish.host_ports {
            None => String::new(),
            Some((from, to)) if from == to => from.to_string(),
            Some((from, to)) => format!("{from}-{to}"),
        };
        let binding = json!({ "HostIp": host_ip, "HostPort": host_port });
        match bindings.entry(key).or_insert_with(|| json!([])) {
            Value::Array(list) => list.push(binding),
            other => *other = json!([binding]),
        }
    }
    let publish_all = container.spec.network.publish_all;
    if let Value::Object(asked) = Arc::make_mut(&mut container.asked)
        && let Value::Object(host) = asked.entry("HostConfig").or_insert_with(|| json!({}))
    {
        host.insert("PortBindings".into(), Value::Object(bindings));
        host.insert("PublishAllPorts".into(), publish_all.into());
    }
}
