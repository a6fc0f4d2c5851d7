//! Volumes.

use super::answer::{Answer, done, json, json_as};
use super::ask::Ask;
use super::filters::{Filters, name_fits};
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::time;
use crate::volumes::Volume;
use api::VolumeCreateRequest;
use axum::http::StatusCode;
use serde_json::{Value, json};

/// The Engine API's `Volume`.
pub fn show(volume: &Volume) -> Value {
    json!({
        "CreatedAt": time::rfc3339(volume.created),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": null,
        "Scope": "local",
    })
}

pub fn list(ask: &Ask) -> Result<Answer> {
    let filters = Filters::read(&ask.query, &["dangling", "driver", "label", "label!", "name"])?;
    let dangling = filters.switch("dangling")?;
    let fits = |volume: &Volume| {
        filters.fits("name", |pattern| name_fits(pattern, &volume.name))
            && filters.fits("driver", |driver| driver == "local")
            && filters.labels_fit(&volume.labels)
            && dangling.is_none_or(|wanted| ask.engine.volume_users(&volume.name).is_empty() == wanted)
    };
    let volumes: Vec<Value> = ask.engine.volumes.list()?.iter().filter(|volume| fits(volume)).map(show).collect();
    Ok(json(&json!({ "Volumes": volumes, "Warnings": null })))
}

pub async fn create(mut ask: Ask) -> Result<Answer> {
    let body: VolumeCreateRequest = ask.json().await?.unwrap_or_default();
    if let Some(driver) = body.driver.filter(|driver| !driver.is_empty() && driver != "local") {
        return Err(Error::NotFound(format!(
            "create volume: error looking up volume plugin {driver}: plugin \"{driver}\" not found"
        )));
    }
    if body.cluster_volume_spec.is_some() {
        return Err(Error::Absent("ClusterVolumeSpec: berth has no cluster volumes".into()));
    }
    let name = body.name.filter(|name| !name.is_empty());
    let labels = body.labels.unwrap_or_default().into_iter().collect();
    let options = body.driver_opts.unwrap_or_default().into_iter().collect();
    let (volume, is_new) = ask.engine.volumes.create(name.as_deref(), labels, &options)?;
    if is_new {
        ask.engine.events.volume("create", &volume.name);
    }
    Ok(json_as(StatusCode::CREATED, &show(&volume)))
}

pub fn inspect(ask: &Ask) -> Result<Answer> {
    Ok(json(&show(&ask.engine.volumes.inspect(ask.name())?)))
}

pub async fn remove(ask: Ask) -> Result<Answer> {
    let name = ask.name().to_owned();
    let force = ask.query.is("force");
    let engine = ask.engine.clone();
    blocking(engine, move |engine| {
        let known = engine.volumes.inspect(&name).is_ok();
        engine.volumes.remove(&name, force, |volume| engine.volume_users(volume))?;
        if known {
            engine.events.volume("destroy", &name);
        }
        Ok(())
    })
    .await?;
    Ok(done())
}

pub async fn prune(ask: Ask) -> Result<Answer> {
    let filters = Filters::read(&ask.query, &["label", "label!", "all"])?;
    // Since API 1.42 only anonymous volumes go unless `all` is said.
    let all = filters.switch("all")?.unwrap_or(ask.version < (1, 42));
    let engine = ask.engine.clone();
    let (removed, freed) = blocking(engine, move |engine| {
        let wanted = |volume: &Volume| (all || volume.anonymous) && filters.labels_fit(&volume.labels);
        let pruned = engine.volumes.prune(wanted, |volume| engine.volume_users(volume))?;
        for name in &pruned.0 {
            engine.events.volume("destroy", name);
        }
        Ok(pruned)
    })
    .await?;
    Ok(json(&json!({ "VolumesDeleted": removed, "SpaceReclaimed": freed })))
}

/// Slow work of the disk, away from the threads that answer.
pub async fn blocking<T: Send + 'static>(
    engine: std::sync::Arc<Engine>,
    work: impl FnOnce(&Engine) -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(move || work(&engine)).await.doing("work on the disk")?
}
