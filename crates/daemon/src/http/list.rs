//! `ps` and `inspect`: looking at containers, and which of them a filter means.

use super::answer::{Answer, json};
use super::ask::Ask;
use super::filters::{Filters, name_fits};
use super::show::{self, summary};
use super::volumes::blocking;
use super::wish;
use crate::container::{Container, Phase};
use crate::engine::{Engine, Places};
use crate::error::{Error, Result};
use crate::rootfs;
use plan::world::Proto;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::SystemTime;

const KNOWN: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "label!",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

pub async fn list(ask: Ask) -> Result<Answer> {
    let filters = Filters::read(&ask.query, KNOWN)?;
    for status in filters.get("status") {
        if !STATES.contains(&status.as_str()) {
            return Err(Error::Invalid(format!("invalid filter 'status={status}'")));
        }
    }
    for health in filters.get("health") {
        if !show::health::WORDS.contains(&health.as_str()) {
            return Err(Error::Invalid(format!("unrecognized filter value for health: {health}")));
        }
    }
    let limit: Option<i64> = ask.query.parsed("limit")?;
    let limit = limit.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok());
    let (sized, version) = (ask.query.is("size"), ask.version);
    // Naming a state, an exit code or a number of lines means all of that kind.
    let all = ask.query.is("all") || limit.is_some() || filters.has("status") || filters.has("exited");
    let engine = ask.engine.clone();
    let picker = Picker::new(&engine, &filters)?;
    let now = SystemTime::now();
    let mut picked = Vec::new();
    for container in engine.all() {
        let runs = container.state.phase.is_alive() || container.state.phase == Phase::Restarting;
        let places = engine.place(&container);
        if (all || runs) && picker.takes(&container, &places) {
            picked.push((container, places));
        }
        if limit.is_some_and(|limit| picked.len() == limit) {
            break;
        }
    }
    let given = engine.link_names();
    let line = move |container: &Container, places: &Places, sizes| {
        let mut line = summary::summary(container, places, sizes, now, version);
        if let (Some(given), Some(names)) = (given.get(&container.id), line["Names"].as_array_mut()) {
            names.extend(given.iter().map(|name| format!("/{name}").into()));
        }
        line
    };
    let lines: Vec<Value> = if sized {
        blocking(engine, move |engine| {
            let sized = |(container, places): &(Arc<Container>, Places)| {
                line(container, places, Some(sizes(engine, container)))
            };
            Ok(picked.iter().map(sized).collect())
        })
        .await?
    } else {
        picked.iter().map(|(container, places)| line(container, places, None)).collect()
    };
    Ok(json(&lines))
}

/// Bytes of a container's own files, and of them with its image's.
pub fn sizes(engine: &Engine, container: &Container) -> (u64, u64) {
    let own = rootfs::size(&engine.state_dir(&container.id).join("diff"));
    let image = engine.images.resolve(&container.image_id).map_or(0, |image| image.size);
    (own, own + image)
}

pub async fn inspect(ask: Ask) -> Result<Answer> {
    let container = ask.engine.snapshot(ask.name())?;
    let (engine, version, sized) = (ask.engine.clone(), ask.version, ask.query.is("size"));
    let value = blocking(engine, move |engine| {
        let image = engine.images.resolve(&container.image_id).ok();
        let around = show::Around {
            places: engine.place(&container),
            state_dir: engine.state_dir(&container.id),
            default_runtime: engine.config.default_runtime.clone(),
            layers: image.map(|image| engine.images.layers(&image)).unwrap_or_default(),
            sizes: sized.then(|| sizes(engine, &container)),
            cgroup_parent: engine.config.cgroup_parent.clone(),
            host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            links: engine.links_of(&container),
            dependencies: engine.dependencies_of(&container),
        };
        let mut value = show::inspect(&container, &around, version);
        let execs = engine.execs_of(&container.id);
        if !execs.is_empty() {
            value["ExecIDs"] = json!(execs);
        }
        Ok(value)
    })
    .await?;
    Ok(json(&value))
}

/// Which containers the filters mean; what they name is looked up once.
struct Picker<'a> {
    engine: &'a Engine,
    filters: &'a Filters,
    before: Option<SystemTime>,
    since: Option<SystemTime>,
    ancestors: Vec<String>,
    published: Vec<PortRange>,
    exposed: Vec<PortRange>,
}

/// `80`, `80/udp`, `80-90`
struct PortRange {
    from: u16,
    to: u16,
    proto: Proto,
}

impl PortRange {
    fn parse(text: &str) -> Result<PortRange> {
        let (numbers, proto) = text.split_once('/').unwrap_or((text, "tcp"));
        let (from, to) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (from, proto) = wish::port(&format!("{from}/{proto}"))?;
        let (to, _) = wish::port(to)?;
        Ok(PortRange { from, to, proto })
    }

    fn has(&self, port: u16, proto: Proto) -> bool {
        (self.from..=self.to).contains(&port) && self.proto == proto
    }
}

impl<'a> Picker<'a> {
    fn new(engine: &'a Engine, filters: &'a Filters) -> Result<Picker<'a>> {
        let created = |name: &str| match filters.get(name) {
            [] => Ok(None),
            [reference] => Ok(Some(engine.snapshot(reference)?.created)),
            _ => Err(Error::Invalid(format!("invalid filter '{name}': it takes one container"))),
        };
        let ports = |name: &str| filters.get(name).iter().map(|text| PortRange::parse(text)).collect::<Result<_>>();
        for code in filters.get("exited") {
            if code.parse::<i32>().is_err() {
                return Err(Error::Invalid(format!("invalid filter 'exited=[{code}]'")));
            }
        }
        let ancestors = filters.get("ancestor").iter();
        let ancestors = ancestors.filter_map(|name| Some(engine.images.resolve(name).ok()?.id.to_string())).collect();
        Ok(Picker {
            engine,
            filters,
            before: created("before")?,
            since: created("since")?,
            ancestors,
            published: ports("publish")?,
            exposed: ports("expose")?,
        })
    }

    fn takes(&self, container: &Container, places: &Places) -> bool {
        let filters = self.filters;
        let state = &container.state;
        let networks = show::network::networks(container, places);
        let on_network = |wanted: &str| {
            let ids = networks.as_object().into_iter().flatten();
            ids.into_iter().any(|(name, shown)| {
                let id = shown["NetworkID"].as_str().unwrap_or_default();
                name == wanted || (wanted.len() >= 12 && id.starts_with(wanted))
            })
        };
        let published = |range: &PortRange| {
            let bound = places.endpoints.iter().flat_map(|(endpoint, _)| &endpoint.ports);
            let running = bound.flat_map(|b| (0..b.count).map(|n| (b.host_port + n, b.proto)));
            let mut asked = container.spec.network.published.iter().filter_map(|p| Some((p.host_ports?.0, p.proto)));
            let mut running = running;
            running.any(|(port, proto)| range.has(port, proto)) || asked.any(|(port, proto)| range.has(port, proto))
        };
        let exposed = |range: &PortRange| container.spec.network.exposed.iter().any(|(p, proto)| range.has(*p, *proto));
        let mounted = |wanted: &str| {
            container
                .mounts
                .iter()
                .any(|m| m.volume.as_deref() == Some(wanted) || m.target == wanted || m.source.as_os_str() == wanted)
        };
        let of_image = || self.ancestors.contains(&container.image_id) || self.descends(container);
        filters.fits("id", |prefix| container.id.as_str().starts_with(prefix))
            && filters.fits("name", |pattern| name_fits(pattern, &container.name))
            && filters.labels_fit(&container.spec.labels)
            && filters.fits("status", |word| word == state.phase.word())
            && filters.fits("exited", |code| {
                state.phase == Phase::Exited && state.finished.is_some() && code.parse() == Ok(state.exit_code)
            })
            && (!filters.has("ancestor") || of_image())
            && filters.fits("volume", mounted)
            && filters.fits("network", on_network)
            && filters.fits("health", |word| word == show::health::word(container))
            && filters.fits("is-task", |word| word == "false")
            && (!filters.has("publish") || self.published.iter().any(published))
            && (!filters.has("expose") || self.exposed.iter().any(exposed))
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
    }

    /// Its image is built on one that is asked for: all layers of that are its lowest.
    fn descends(&self, container: &Container) -> bool {
        let Ok(image) = self.engine.images.resolve(&container.image_id) else { return false };
        self.ancestors.iter().any(|ancestor| {
            self.engine.images.resolve(ancestor).is_ok_and(|ancestor| {
                !ancestor.diff_ids().is_empty() && image.diff_ids().starts_with(ancestor.diff_ids())
            })
        })
    }
}
