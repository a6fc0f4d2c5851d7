//! The engine itself: ping, version, info, disk usage, events.

use super::answer::{Answer, json, streamed, text};
use super::ask::Ask;
use super::filters::Filters;
use super::list::sizes;
use super::show::summary;
use super::{images, version as versions, volumes};
use crate::container::Container;
use crate::engine::Places;
use crate::error::{Error, Result};
use crate::events::{self, Event, Kind, Listener};
use crate::rootfs;
use crate::{info, time};
use api::{NEWEST, OLDEST};
use axum::http::header::{CACHE_CONTROL, HeaderValue, PRAGMA};
use futures_util::{StreamExt, stream};
use serde_json::json;
use std::sync::Arc;
use std::time::SystemTime;

pub fn ping(ask: &Ask) -> Answer {
    let head = ask.request.method() == axum::http::Method::HEAD;
    let mut answer = text(if head { "" } else { "OK" });
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("builder-version", HeaderValue::from_static("1"));
    headers.insert("swarm", HeaderValue::from_static("inactive"));
    answer
}

pub fn version() -> Answer {
    json(&info::version(&versions::text(NEWEST), &versions::text(OLDEST)))
}

pub fn info(ask: &Ask) -> Answer {
    json(&info::info(&ask.engine))
}

pub async fn disk_usage(ask: Ask) -> Result<Answer> {
    let types = ask.query.all("type");
    for kind in &types {
        if !["container", "image", "volume", "build-cache"].contains(&kind.as_str()) {
            return Err(Error::Invalid(format!("unknown object type: {kind}")));
        }
    }
    let version = ask.version;
    let value = volumes::blocking(ask.engine.clone(), move |engine| {
        let wanted = |kind: &str| types.is_empty() || types.iter().any(|asked| asked == kind);
        let containers = engine.all();
        let mut value = json!({});
        if wanted("image") {
            let users = |id: &str| containers.iter().filter(|c| c.image_id == id).count();
            let shown = engine.images.list().into_iter().map(|image| {
                let users = i64::try_from(users(&image.id.to_string())).unwrap_or(i64::MAX);
                let mut shown = images::summary(&image, users);
                // How much of it others have too is not kept; what all layers take together is told below.
                shown["SharedSize"] = 0.into();
                shown
            });
            value["Images"] = shown.collect::<Vec<_>>().into();
            value["LayersSize"] = engine.images.layers_size().into();
        }
        if wanted("container") {
            let now = SystemTime::now();
            let line =
                |c: &Arc<Container>| summary::summary(c, &Places::default(), Some(sizes(engine, c)), now, version);
            let shown = containers.iter().map(line);
            value["Containers"] = shown.collect::<Vec<_>>().into();
        }
        if wanted("volume") {
            let shown = engine.volumes.list()?.into_iter().map(|volume| {
                let mut shown = volumes::show(&volume);
                let users = engine.volume_users(&volume.name).len();
                shown["UsageData"] = json!({ "RefCount": users, "Size": rootfs::size(&volume.mountpoint) });
                shown
            });
            value["Volumes"] = shown.collect::<Vec<_>>().into();
        }
        if wanted("build-cache") {
            value["BuildCache"] = json!([]);
        }
        Ok(value)
    })
    .await?;
    Ok(json(&value))
}

const EVENT_FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "label!",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

pub fn events(ask: &Ask) -> Result<Answer> {
    let filters = Filters::read(&ask.query, EVENT_FILTERS)?;
    let now = SystemTime::now();
    let moment = |name: &str| {
        let Some(text) = ask.query.text(name) else { return Ok(None) };
        let when = time::parse_when(text, now);
        when.map(Some).ok_or_else(|| Error::Invalid(format!("invalid value for {name:?}: {text:?} is no time")))
    };
    let (since, until) = (moment("since")?, moment("until")?);
    if let (Some(from), Some(to)) = (since, until)
        && from > to
    {
        return Err(Error::Invalid("`since` time cannot be after `until` time".into()));
    }
    let (past, listener) = ask.engine.events.listen();
    let legacy = ask.version < (1, 52);
    let old = past.into_iter().filter(move |event| {
        since.is_some_and(|since| event.at >= since) && until.is_none_or(|until| event.at <= until)
    });
    let picked = filters.clone();
    let old: Vec<Arc<Event>> = old.filter(|event| wanted(event, &picked)).collect();
    let live = Live { listener, filters, until };
    let live = stream::unfold(live, Live::next);
    let lines = stream::iter(old).chain(live).map(move |event| {
        let mut line = events::wire(&event, legacy).to_string();
        line.push('\n');
        Ok(line.into())
    });
    Ok(streamed("application/json", lines))
}

struct Live {
    listener: Listener,
    filters: Filters,
    until: Option<SystemTime>,
}

impl Live {
    async fn next(mut self) -> Option<(Arc<Event>, Live)> {
        loop {
            let event = match self.until {
                None => self.listener.next().await?,
                Some(until) => {
                    let left = until.duration_since(SystemTime::now()).ok()?;
                    tokio::time::timeout(left, self.listener.next()).await.ok()??
                }
            };
            if wanted(&event, &self.filters) {
                return Some((event, self));
            }
        }
    }
}

fn wanted(event: &Event, filters: &Filters) -> bool {
    let attribute = |key: &str| event.attributes.get(key).map_or("", String::as_str);
    let about =
        |kind: Kind, value: &str| event.kind == kind && (event.id.starts_with(value) || attribute("name") == value);
    let of_container = |value: &str| {
        about(Kind::Container, value) || (event.kind == Kind::Network && attribute("container").starts_with(value))
    };
    let of_image = |value: &str| {
        let untagged = |name: &str| name.rsplit_once(':').map_or(name == value, |(name, _)| name == value);
        about(Kind::Image, value)
            || (event.kind == Kind::Image && untagged(attribute("name")))
            || (event.kind == Kind::Container && (attribute("image") == value || untagged(attribute("image"))))
    };
    filters.fits("type", |kind| kind == event.kind.word())
        && filters.fits("event", |action| action == event.action || action == event.verb())
        && filters.fits("scope", |scope| scope == "local")
        && filters.fits("container", of_container)
        && filters.fits("image", of_image)
        && filters.fits("volume", |value| about(Kind::Volume, value))
        && filters.fits("network", |value| about(Kind::Network, value))
        && filters.fits("daemon", |value| about(Kind::Daemon, value))
        && ["config", "node", "plugin", "secret", "service"].iter().all(|absent| !filters.has(absent))
        && filters.labels_fit(&event.attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn event(kind: Kind, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>();
        Event { kind, action: action.into(), id: id.into(), attributes, at: SystemTime::UNIX_EPOCH }
    }

    fn filters(json: &str) -> Filters {
        let quoted: String = json.bytes().map(|b| format!("%{b:02x}")).collect();
        Filters::read(&super::super::ask::Query::of(&format!("filters={quoted}")), EVENT_FILTERS).unwrap()
    }

    #[test]
    fn filters_pick_events() {
        let die = event(Kind::Container, "die", "abcd", &[("name", "web"), ("image", "busybox:1"), ("tier", "front")]);
        let exec = event(Kind::Container, "exec_create: sh", "abcd", &[("name", "web")]);
        let join = event(Kind::Network, "connect", "ef01", &[("name", "bridge"), ("container", "abcd")]);
        for (event, json, takes) in [
            (&die, "{}", true),
            (&die, r#"{"type":["container"]}"#, true),
            (&die, r#"{"type":["network"]}"#, false),
            (&die, r#"{"event":["die","start"]}"#, true),
            (&die, r#"{"container":["web"]}"#, true),
            (&die, r#"{"container":["abc"]}"#, true),
            (&die, r#"{"container":["db"]}"#, false),
            (&die, r#"{"image":["busybox"]}"#, true),
            (&die, r#"{"image":["alpine"]}"#, false),
            (&die, r#"{"label":["tier=front"]}"#, true),
            (&die, r#"{"label":["tier=back"]}"#, false),
            (&die, r#"{"volume":["v"]}"#, false),
            (&exec, r#"{"event":["exec_create"]}"#, true),
            (&join, r#"{"container":["abcd"]}"#, true),
            (&join, r#"{"network":["bridge"]}"#, true),
        ] {
            assert_eq!(wanted(event, &filters(json)), takes, "{json} {event:?}");
        }
    }
}
