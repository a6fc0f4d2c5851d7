//! Images.

use super::answer::{Answer, empty, json, json_as, streamed, typed};
use super::ask::Ask;
use super::filters::{Filters, glob};
use super::{pipes, volumes};
use crate::container::{Container, Phase};
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::time;
use api::IdResponse;
use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::stream;
use images::{
    Access, CommitSpec, Credentials, Image, ImageId, ImportSpec, InUse, Platform, Progress, PruneFilters, Reference,
    Refusal, Removed, RunConfig,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::Pin;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A refusal of the image store's, with its status.
pub fn refused(refusal: &Refusal) -> Error {
    let text = refusal.to_string();
    match refusal {
        Refusal::NoSuchImage(_) | Refusal::NotInRegistry(_) | Refusal::NoPlatform { .. } => Error::NotFound(text),
        Refusal::Conflict(_) => Error::Conflict(text),
        Refusal::Unauthorized(_) => Error::Forbidden(text),
        // The registry's doing, not the caller's.
        Refusal::BadRegistry { .. } => Error::Fault(text),
        _ => Error::Invalid(text),
    }
}

fn failed(error: &images::Error) -> Error {
    match error.refusal() {
        Some(refusal) => refused(refusal),
        None => Error::Fault(error.to_string()),
    }
}

fn resolved(ask: &Ask, name: &str) -> Result<Image> {
    ask.engine.images.resolve(name).map_err(|refusal| refused(&refusal))
}

fn reference(text: &str) -> Result<Reference> {
    Reference::parse(text).map_err(|refusal| refused(&refusal))
}

/// `repo` and `tag` (or digest) as one name; `None` if nobody named it.
fn named(repo: Option<&str>, tag: Option<&str>) -> Result<Option<Reference>> {
    let Some(repo) = repo else { return Ok(None) };
    let text = match tag {
        Some(digest) if digest.contains(':') => format!("{repo}@{digest}"),
        Some(tag) => format!("{repo}:{tag}"),
        None => repo.to_owned(),
    };
    reference(&text).map(|reference| Some(reference.or_latest()))
}

/// `--platform` of `create`.
///
/// # Errors
/// The image is of another.
pub fn check_platform(name: &str, image: &Image, wanted: &str) -> Result<()> {
    let wanted: Platform = wanted.parse().map_err(|refusal: Refusal| refused(&refusal))?;
    let config = &image.config;
    let variant = config.variant.as_deref().unwrap_or_default();
    let variant_fits = wanted.variant.is_empty() || variant.is_empty() || wanted.variant == variant;
    if wanted.os == config.os && wanted.architecture == config.architecture && variant_fits {
        return Ok(());
    }
    Err(Error::NotFound(format!(
        "image with reference {name} was found but its platform ({}/{}) does not match the specified platform ({wanted})",
        config.os, config.architecture
    )))
}

fn created_at(image: &Image) -> i64 {
    time::parse_rfc3339(image.created()).map_or(0, time::unix)
}

/// An entry of `GET /images/json`.
pub fn summary(image: &Image, containers: i64) -> Value {
    json!({
        "Id": image.id.to_string(),
        "ParentId": image.parent.map_or_else(String::new, |id| id.to_string()),
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Created": created_at(image),
        "Size": image.size,
        "SharedSize": -1,
        "Labels": image.labels(),
        "Containers": containers,
    })
}

pub fn list(ask: &Ask) -> Result<Answer> {
    let filters = Filters::read(&ask.query, &["before", "dangling", "label", "label!", "reference", "since", "until"])?;
    let dangling = filters.switch("dangling")?;
    let until = filters.until()?.map(time::unix);
    let created = |name: &str| match filters.get(name) {
        [] => Ok(None),
        [image] => resolved(ask, image).map(|image| Some(created_at(&image))),
        _ => Err(Error::Invalid(format!("invalid filter '{name}': it takes one image"))),
    };
    let (before, since) = (created("before")?, created("since")?);
    let mut all = ask.engine.images.list();
    let parents: BTreeSet<ImageId> = all.iter().filter_map(|image| image.parent).collect();
    let fits = |image: &Image| {
        let at = created_at(image);
        let named = !image.tags.is_empty() || !image.digests.is_empty();
        // What is only the base of another is shown on demand.
        (named || !parents.contains(&image.id) || ask.query.is("all"))
            && dangling.is_none_or(|wanted| image.tags.is_empty() == wanted)
            && filters.labels_fit(image.labels())
            && filters.fits("reference", |pattern| refers(pattern, image))
            && until.is_none_or(|until| at < until)
            && before.is_none_or(|before| at < before)
            && since.is_none_or(|since| at > since)
    };
    all.retain(fits);
    all.sort_by_key(|image| std::cmp::Reverse(created_at(image)));
    let mut shown: Vec<Value> = all.iter().map(|image| summary(image, -1)).collect();
    if ask.version < (1, 43) {
        for image in &mut shown {
            for (field, none) in [("RepoTags", "<none>:<none>"), ("RepoDigests", "<none>@<none>")] {
                if image[field].as_array().is_some_and(Vec::is_empty) && ask.version < (1, 42) {
                    image[field] = json!([none]);
                }
            }
            image["VirtualSize"] = image["Size"].clone();
        }
    }
    Ok(json(&shown))
}

/// `busybox`, `busybox:*`, `reg.example/*/b`
fn refers(pattern: &str, image: &Image) -> bool {
    image.tags.iter().any(|tag| {
        let name = tag.rsplit_once(':').map_or(tag.as_str(), |(name, _)| name);
        glob(pattern.as_bytes(), tag.as_bytes()) || glob(pattern.as_bytes(), name.as_bytes())
    })
}

pub fn inspect(ask: &Ask) -> Result<Answer> {
    let image = resolved(ask, ask.name())?;
    let config = &image.config;
    let layers: Vec<String> = image.diff_ids().iter().map(ToString::to_string).collect();
    let dirs = ask.engine.images.layers(&image);
    let dirs: Vec<String> = dirs.iter().rev().map(|dir| dir.display().to_string()).collect();
    let mut value = json!({
        "Id": image.id.to_string(),
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Parent": image.parent.map_or_else(String::new, |id| id.to_string()),
        "Comment": config.comment.clone().unwrap_or_default(),
        "Created": image.created(),
        "DockerVersion": "",
        "Author": config.author.clone().unwrap_or_default(),
        "Config": config.config,
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.size,
        "GraphDriver": { "Name": "overlayfs", "Data": { "LowerDir": dirs.join(":") } },
        "RootFS": { "Type": "layers", "Layers": layers },
        "Metadata": { "LastTagTime": last_tagged(&image) },
    });
    if let Some(variant) = &config.variant {
        value["Variant"] = variant.clone().into();
    }
    if ask.version < (1, 44) {
        value["VirtualSize"] = image.size.into();
    }
    if ask.version < (1, 45) {
        // The container that a build made it of: none here.
        value["Container"] = "".into();
        value["ContainerConfig"] = json!({});
    }
    Ok(json(&value))
}

fn last_tagged(image: &Image) -> String {
    let at = std::time::Duration::from_secs(image.tagged);
    time::rfc3339_or_never((image.tagged > 0).then_some(std::time::UNIX_EPOCH + at))
}

pub fn history(ask: &Ask) -> Result<Answer> {
    let image = resolved(ask, ask.name())?;
    let lines = ask.engine.images.history(&image);
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| {
            let created = line.step.created.as_deref().and_then(time::parse_rfc3339).map_or(0, time::unix);
            json!({
                "Id": line.id.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
                "Created": created,
                "CreatedBy": line.step.created_by.clone().unwrap_or_default(),
                "Tags": if line.tags.is_empty() { Value::Null } else { json!(line.tags) },
                "Size": line.size,
                "Comment": line.step.comment.clone().unwrap_or_default(),
            })
        })
        .collect();
    Ok(json(&lines))
}

/// The container that keeps an image, a running one if there is any.
fn user(engine: &Engine, image: &ImageId) -> Option<InUse> {
    let id = image.to_string();
    let mut users: Vec<_> = engine.all().into_iter().filter(|c| c.image_id == id).collect();
    users.sort_by_key(|container| !container.state.phase.is_alive());
    users
        .first()
        .map(|container| InUse { container: container.id.to_string(), running: container.state.phase.is_alive() })
}

fn show_removed(removed: &[Removed]) -> Vec<Value> {
    let show = |removed: &Removed| match removed {
        Removed::Untagged(name) => json!({ "Untagged": name }),
        Removed::Deleted(id) => json!({ "Deleted": id }),
    };
    removed.iter().map(show).collect()
}

fn tell_removed(engine: &Engine, removed: &[Removed], id: Option<&str>) {
    for removed in removed {
        match removed {
            Removed::Untagged(name) => engine.events.image("untag", id.unwrap_or(name), name),
            Removed::Deleted(id) => engine.events.image("delete", id, id),
        }
    }
}

pub async fn remove(ask: Ask) -> Result<Answer> {
    let (name, force) = (ask.name().to_owned(), ask.query.is("force"));
    let removed = volumes::blocking(ask.engine.clone(), move |engine| {
        let id = engine.images.resolve(&name).ok().map(|image| image.id.to_string());
        let removed =
            engine.images.remove(&name, force, &|image| user(engine, image)).map_err(|error| failed(&error))?;
        tell_removed(engine, &removed, id.as_deref());
        Ok(removed)
    })
    .await?;
    Ok(json(&show_removed(&removed)))
}

pub async fn prune(ask: Ask) -> Result<Answer> {
    let filters = Filters::read(&ask.query, &["dangling", "until", "label", "label!"])?;
    let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in ["dangling", "label", "label!"] {
        if filters.has(name) {
            given.insert(name.to_owned(), filters.get(name).to_vec());
        }
    }
    if let Some(until) = filters.until()? {
        given.insert("until".to_owned(), vec![time::unix(until).to_string()]);
    }
    let wanted = PruneFilters::parse(&given).map_err(|refusal| refused(&refusal))?;
    let (removed, freed) = volumes::blocking(ask.engine.clone(), move |engine| {
        let pruned = engine.images.prune(&wanted, &|image| user(engine, image)).map_err(|error| failed(&error))?;
        tell_removed(engine, &pruned.0, None);
        Ok(pruned)
    })
    .await?;
    Ok(json(&json!({ "ImagesDeleted": show_removed(&removed), "SpaceReclaimed": freed })))
}

pub fn tag(ask: &Ask) -> Result<Answer> {
    let target = named(ask.query.text("repo"), ask.query.text("tag"))?;
    let target = target.ok_or_else(|| Error::Invalid("repository name must have at least one component".into()))?;
    let image = ask.engine.images.tag(ask.name(), &target.to_string()).map_err(|error| failed(&error))?;
    ask.engine.events.image("tag", &image.id.to_string(), &target.familiar());
    Ok(empty(StatusCode::CREATED))
}

/// `fromImage` pulls, `fromSrc` imports.
pub async fn create(ask: Ask) -> Result<Answer> {
    match (ask.query.text("fromImage"), ask.query.text("fromSrc")) {
        (Some(_), None) => pull(ask).await,
        (None, Some("-")) => import(ask).await,
        (None, Some(source)) => Err(Error::Absent(format!(
            "fromSrc={source}: importing from an address is not there; fetch it yourself and import it from standard input"
        ))),
        _ => Err(Error::Invalid("one of fromImage (to pull) and fromSrc (to import) is needed".into())),
    }
}

async fn import(mut ask: Ask) -> Result<Answer> {
    let spec = ImportSpec {
        changes: ask.query.all("changes"),
        message: ask.query.text("message").unwrap_or_default().to_owned(),
        reference: named(ask.query.text("repo"), ask.query.text("tag"))?,
        platform: ask
            .query
            .text("platform")
            .map(str::parse::<Platform>)
            .transpose()
            .map_err(|refusal| refused(&refusal))?,
    };
    let body = pipes::reader(ask.take_body());
    let image = volumes::blocking(ask.engine.clone(), move |engine| {
        engine.images.import(body, &spec).map_err(|error| failed(&error))
    })
    .await?;
    let id = image.id.to_string();
    ask.engine.events.image("import", &id, &id);
    Ok(typed(StatusCode::OK, "application/json", line(&json!({ "status": id }))))
}

fn line(value: &Value) -> Bytes {
    format!("{value}\r\n").into()
}

fn progress_line(progress: &Progress) -> Bytes {
    let mut value = json!({ "status": progress.status });
    if let Some(id) = &progress.id {
        value["id"] = id.clone().into();
        value["progressDetail"] = json!({});
    }
    if let Some((current, total)) = progress.detail {
        value["progressDetail"] = json!({ "current": current, "total": total });
    }
    line(&value)
}

fn access(ask: &Ask) -> Result<Access> {
    let header = ask.request.headers().get("x-registry-auth");
    let text = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default();
    let credentials = Credentials::from_header(&text).map_err(|refusal| refused(&refusal))?;
    Ok(Access { credentials, insecure: ask.engine.config.insecure_registries.clone() })
}

async fn pull(ask: Ask) -> Result<Answer> {
    let from = ask.query.text("fromImage").unwrap_or_default();
    let tag = ask.query.text("tag");
    let reference = match named(Some(from), tag) {
        // A name that has a tag already needs none beside it.
        Err(_) if tag.is_some() && from.contains([':', '@']) => reference(from)?.or_latest(),
        other => other?.ok_or_else(|| Error::Invalid("no image name given".into()))?,
    };
    let platform = match ask.query.text("platform") {
        Some(text) => text.parse().map_err(|refusal: Refusal| refused(&refusal))?,
        None => Platform::host(),
    };
    let access = access(&ask)?;
    let (sender, lines) = unbounded_channel();
    let engine = ask.engine.clone();
    let work = async move {
        let before = engine.images.resolve(&reference.to_string()).ok().map(|image| image.id);
        let pulled =
            engine.images.pull(&reference, &platform, &access, sender).await.map_err(|error| failed(&error))?;
        engine.events.image("pull", &reference.familiar(), &reference.familiar());
        let word = if before == Some(pulled.id) { "Image is up to date" } else { "Downloaded newer image" };
        Ok(vec![json!({ "status": format!("Status: {word} for {}", reference.familiar()) })])
    };
    Working { work: Box::pin(work), lines, end: Vec::new(), ended: false }.answer().await
}

pub async fn push(ask: Ask) -> Result<Answer> {
    let reference =
        named(Some(ask.name()), ask.query.text("tag"))?.ok_or_else(|| Error::Invalid("no image name given".into()))?;
    let access = access(&ask)?;
    let (sender, lines) = unbounded_channel();
    let engine = ask.engine.clone();
    let work = async move {
        let pushed = engine.images.push(&reference, &access, sender).await.map_err(|error| failed(&error))?;
        engine.events.image("push", &reference.familiar(), &reference.familiar());
        let digest = pushed.digest.to_string();
        Ok(vec![
            json!({ "status": format!("{}: digest: {digest} size: {}", pushed.tag, pushed.size) }),
            json!({ "progressDetail": {}, "aux": { "Tag": pushed.tag, "Digest": digest, "Size": pushed.size } }),
        ])
    };
    Working { work: Box::pin(work), lines, end: Vec::new(), ended: false }.answer().await
}

/// Work that tells of its progress; dropped with the answer when the client goes away.
struct Working {
    work: Pin<Box<dyn Future<Output = Result<Vec<Value>>> + Send>>,
    lines: UnboundedReceiver<Progress>,
    /// What is still to be said at the end.
    end: Vec<Bytes>,
    ended: bool,
}

impl Working {
    /// The answer's first line decides its status: what fails before it is an ordinary refusal.
    async fn answer(mut self) -> Result<Answer> {
        let first = self.step().await?;
        let rest = stream::unfold(self, |mut working| async move {
            let piece = match working.step().await {
                Ok(piece) => piece?,
                Err(error) => {
                    let text = error.to_string();
                    line(&json!({ "errorDetail": { "message": text }, "error": text }))
                }
            };
            Some((Ok::<_, io::Error>(piece), working))
        });
        use futures_util::StreamExt;
        Ok(streamed("application/json", stream::iter(first.map(Ok)).chain(rest)))
    }

    async fn step(&mut self) -> Result<Option<Bytes>> {
        if !self.ended {
            tokio::select! {
                biased;
                Some(progress) = self.lines.recv() => return Ok(Some(progress_line(&progress))),
                worked = &mut self.work => {
                    self.ended = true;
                    // What was told before the end comes before it.
                    while let Ok(progress) = self.lines.try_recv() {
                        self.end.push(progress_line(&progress));
                    }
                    self.end.extend(worked?.iter().map(line));
                    self.end.reverse();
                }
            }
        }
        Ok(self.end.pop())
    }
}

pub async fn load(mut ask: Ask) -> Result<Answer> {
    if ask.query.text("platform").is_some() {
        return Err(Error::Absent("platform: loading one platform of several is not there yet".into()));
    }
    let body = pipes::reader(ask.take_body());
    let loaded =
        volumes::blocking(ask.engine.clone(), move |engine| engine.images.load(body).map_err(|error| failed(&error)))
            .await?;
    let mut text = String::new();
    for image in loaded {
        let id = image.id.to_string();
        ask.engine.events.image("load", &id, &id);
        if image.names.is_empty() {
            text.push_str(&format!("{}\r\n", json!({ "stream": format!("Loaded image ID: {id}\n") })));
        }
        for name in image.names {
            text.push_str(&format!("{}\r\n", json!({ "stream": format!("Loaded image: {name}\n") })));
        }
    }
    Ok(typed(StatusCode::OK, "application/json", text))
}

pub async fn save(ask: Ask) -> Result<Answer> {
    let names = match ask.place("name") {
        "" => ask.query.all("names"),
        name => vec![name.to_owned()],
    };
    if names.is_empty() {
        return Err(Error::Invalid("no image names given".into()));
    }
    // Before the first byte, so that a missing one is an ordinary refusal.
    for name in &names {
        let image = resolved(&ask, name)?;
        let id = image.id.to_string();
        ask.engine.events.image("save", &id, &id);
    }
    let engine = ask.engine.clone();
    let pieces = pipes::written(move |out| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        engine.images.save(&names, out).map_err(|error| failed(&error))
    });
    Ok(typed(StatusCode::OK, "application/x-tar", Body::from_stream(pieces)))
}

/// What a runtime makes in a container's root is not the container's doing.
const NOT_ITS_OWN: [&str; 7] =
    ["dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sbin/docker-init", "sys"];

pub async fn commit(mut ask: Ask) -> Result<Answer> {
    let body: Option<Value> = ask.json().await?;
    let reference_text = ask.query.text("container").unwrap_or_default();
    let container = ask.engine.snapshot(reference_text)?;
    let config = over(run_config(&container)?, body)?;
    let spec = CommitSpec {
        config,
        changes: ask.query.all("changes"),
        author: ask.query.text("author").unwrap_or_default().to_owned(),
        comment: ask.query.text("comment").unwrap_or_default().to_owned(),
        created_by: container.spec.argv.join(" "),
        reference: named(ask.query.text("repo"), ask.query.text("tag"))?,
        exclude: NOT_ITS_OWN.map(str::to_owned).to_vec(),
    };
    let pause = ask.query.is_or("pause", true) && container.state.phase == Phase::Running;
    if pause {
        ask.engine.pause(container.id.as_str()).await?;
    }
    let upper = ask.engine.state_dir(&container.id).join("diff");
    let image_id = container.image_id.clone();
    let committed = volumes::blocking(ask.engine.clone(), move |engine| {
        let base = engine.images.resolve(&image_id).map_err(|refusal| refused(&refusal))?;
        std::fs::create_dir_all(&upper).doing(format_args!("make {}", upper.display()))?;
        engine.images.commit(&base, &upper, &spec).map_err(|error| failed(&error))
    })
    .await;
    if pause {
        ask.engine.unpause(container.id.as_str()).await?;
    }
    let id = committed?.id.to_string();
    ask.engine.events.container("commit", &container, &[("imageID", &id)]);
    Ok(json_as(StatusCode::CREATED, &IdResponse { id }))
}

/// The configuration of an image made of a container: how the container is run.
fn run_config(container: &Container) -> Result<RunConfig> {
    let spec = &container.spec;
    let list = |words: &[String]| (!words.is_empty()).then(|| words.to_vec());
    let set = |keys: Vec<String>| keys.into_iter().map(|key| (key, json!({}))).collect::<Map<_, _>>();
    let asked = |field: &str| container.asked.get(field).cloned().unwrap_or(Value::Null);
    let ports = spec.network.exposed.iter().map(|(port, proto)| format!("{port}/{}", proto.name())).collect();
    let volumes = asked("Volumes").as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    let config = json!({
        "User": spec.user,
        "ExposedPorts": set(ports),
        "Env": spec.env,
        "Entrypoint": list(&spec.argv[..spec.entrypoint_len]),
        "Cmd": list(&spec.argv[spec.entrypoint_len..]),
        "Volumes": set(volumes),
        "WorkingDir": if spec.workdir == "/" { "" } else { &spec.workdir },
        "Labels": spec.labels,
        "StopSignal": asked("StopSignal"),
        "Healthcheck": super::show::health::check(container),
    });
    serde_json::from_value(config).doing("make an image's configuration of a container's")
}

/// What the request says of the configuration replaces, where it says anything.
fn over(config: RunConfig, body: Option<Value>) -> Result<RunConfig> {
    const FIELDS: [&str; 10] = [
        "User",
        "ExposedPorts",
        "Env",
        "Entrypoint",
        "Cmd",
        "Volumes",
        "WorkingDir",
        "Labels",
        "StopSignal",
        "Healthcheck",
    ];
    let Some(Value::Object(body)) = body else { return Ok(config) };
    let mut whole = serde_json::to_value(config).doing("encode an image's configuration")?;
    for field in FIELDS {
        let Some(value) = body.get(field) else { continue };
        let says_something = match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => true,
        };
        if says_something {
            whole[field] = value.clone();
        }
    }
    serde_json::from_value(whole).map_err(|error| Error::Invalid(format!("invalid JSON: {error}")))
}

/// The body of `POST /auth`.
#[derive(serde::Deserialize)]
struct LogIn {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default, alias = "serverAddress")]
    serveraddress: String,
    #[serde(default)]
    identitytoken: String,
}

pub async fn auth(mut ask: Ask) -> Result<Answer> {
    let asked: LogIn = ask.json().await?.ok_or_else(|| Error::Invalid("no credentials given".into()))?;
    if !asked.identitytoken.is_empty() {
        return Err(Error::Absent(
            "identitytoken: logging in with a token is not there yet; give user and password".into(),
        ));
    }
    let credentials = Credentials::basic(&asked.username, &asked.password);
    let access = Access { credentials, insecure: ask.engine.config.insecure_registries.clone() };
    let registry = if asked.serveraddress.is_empty() { "docker.io" } else { &asked.serveraddress };
    images::log_in(registry, &access).await.map_err(|error| match error.refusal() {
        Some(Refusal::Unauthorized(text)) => Error::Forbidden(text.clone()),
        _ => failed(&error),
    })?;
    Ok(json(&json!({ "Status": "Login Succeeded", "IdentityToken": "" })))
}
