//! Containers.

use super::answer::{Answer, done, empty, json, json_as, streamed};
use super::ask::Ask;
use super::detach::DetachKeys;
use super::filters::Filters;
use super::wish::{self, Wish, limits};
use super::{streams, volumes};
use crate::container::Container;
use crate::container::spec::LogSpec;
use crate::engine::{Engine, Until, Update};
use crate::error::{Error, Result};
use crate::logs::{self, Wanted};
use crate::stats::{self, Sample};
use crate::{time, top};
use api::{ContainerUpdateBody, FilesystemChange, WaitError, WaitResponse};
use axum::http::StatusCode;
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use std::io;
use std::time::{Duration, SystemTime};

pub use super::list::{inspect, list};

pub async fn create(mut ask: Ask) -> Result<Answer> {
    let name = ask.query.text("name").map(str::to_owned);
    let bytes = ask.json_bytes().await?;
    let wish = Wish::read(&bytes)?;
    let image = ask.engine.images.resolve(wish.image()?).map_err(|refusal| super::images::refused(&refusal))?;
    if let Some(platform) = ask.query.text("platform") {
        super::images::check_platform(wish.image()?, &image, platform)?;
    }
    let understood = understand(&ask.engine, &wish, &image)?;
    let created = ask.engine.create(name, understood.spec, wish.asked, &image).await?;
    let mut warnings = understood.warnings;
    warnings.extend(created.warnings);
    let answer = api::ContainerCreateResponse { id: created.id.to_string(), warnings };
    Ok(json_as(StatusCode::CREATED, &answer))
}

fn understand(engine: &Engine, wish: &Wish, image: &images::Image) -> Result<wish::Understood> {
    let find = |other: &str| engine.snapshot(other);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    wish.understand(&wish::Around { image: &image.config.config, config: &engine.config, cpus, find: &find })
}

pub async fn start(ask: Ask) -> Result<Answer> {
    if ask.query.has("checkpoint") && ask.query.text("checkpoint").is_some() {
        return Err(Error::Absent("starting from a checkpoint is not there".into()));
    }
    ask.engine.start(ask.name()).await?;
    Ok(done())
}

/// `t` and `signal` of stop and restart.
fn patience(ask: &Ask) -> Result<(Option<i64>, Option<i32>)> {
    let signal = ask.query.text("signal").map(wish::signal).transpose()?;
    Ok((ask.query.parsed("t")?, signal))
}

pub async fn stop(ask: Ask) -> Result<Answer> {
    let (timeout, signal) = patience(&ask)?;
    ask.engine.stop(ask.name(), timeout, signal).await?;
    Ok(done())
}

pub async fn restart(ask: Ask) -> Result<Answer> {
    let (timeout, signal) = patience(&ask)?;
    ask.engine.restart(ask.name(), timeout, signal).await?;
    Ok(done())
}

pub async fn kill(ask: Ask) -> Result<Answer> {
    let signal = wish::signal(ask.query.text("signal").unwrap_or("KILL"))?;
    ask.engine.kill(ask.name(), signal).await?;
    Ok(done())
}

pub async fn pause(ask: Ask) -> Result<Answer> {
    ask.engine.pause(ask.name()).await?;
    Ok(done())
}

pub async fn unpause(ask: Ask) -> Result<Answer> {
    ask.engine.unpause(ask.name()).await?;
    Ok(done())
}

pub async fn rename(ask: Ask) -> Result<Answer> {
    ask.engine.rename(ask.name(), ask.query.text("name").unwrap_or_default()).await?;
    Ok(done())
}

pub async fn remove(ask: Ask) -> Result<Answer> {
    let name = match ask.place("alias") {
        "" => ask.name().to_owned(),
        // What a link calls a container.
        alias => format!("{}/{alias}", ask.name()),
    };
    if ask.query.is("link") {
        ask.engine.unlink(&name).await?;
        return Ok(done());
    }
    ask.engine.remove(&name, ask.query.is("force"), ask.query.is("v")).await?;
    Ok(done())
}

pub async fn prune(ask: Ask) -> Result<Answer> {
    let filters = Filters::read(&ask.query, &["until", "label", "label!"])?;
    let until = filters.until()?;
    let (removed, freed) = ask
        .engine
        .prune(|container: &Container| {
            until.is_none_or(|until| container.created < until) && filters.labels_fit(&container.spec.labels)
        })
        .await?;
    Ok(json(&json!({ "ContainersDeleted": removed, "SpaceReclaimed": freed })))
}

pub async fn update(mut ask: Ask) -> Result<Answer> {
    let body: ContainerUpdateBody = ask.json().await?.unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut warnings = Vec::new();
    let asked = limits::Asked::from(&body);
    let container = ask.engine.snapshot(ask.name())?;
    // What is not given stays, so the rules hold for old and new together.
    let merged = asked.over(&container.spec.resources);
    let resources = limits::resources(&merged, cpus, &mut warnings)?;
    let policy = body.restart_policy.as_ref();
    let named = policy.and_then(|policy| policy.name).is_some_and(|name| name != api::RestartPolicyNameEnum::EMPTY);
    let restart = if named { Some(wish::restart(policy)?) } else { None };
    warnings.extend(ask.engine.update(ask.name(), Update { resources, restart }).await?);
    Ok(json(&json!({ "Warnings": if warnings.is_empty() { json!(null) } else { json!(warnings) } })))
}

/// `h` and `w`, of a resize.
pub fn size(ask: &Ask) -> Result<(u16, u16)> {
    let missing = |name: &str| Error::Invalid(format!("invalid value \"\" for {name}: a size is needed"));
    let rows = ask.query.parsed("h")?.ok_or_else(|| missing("h"))?;
    let cols = ask.query.parsed("w")?.ok_or_else(|| missing("w"))?;
    Ok((rows, cols))
}

pub async fn resize(ask: Ask) -> Result<Answer> {
    let (rows, cols) = size(&ask)?;
    ask.engine.resize(ask.name(), rows, cols).await?;
    Ok(empty(StatusCode::OK))
}

pub fn wait(ask: &Ask) -> Result<Answer> {
    let condition = ask.query.text("condition").unwrap_or("not-running");
    if condition == "healthy" {
        // Docker does not have this one; Podman does.
        return wait_healthy(ask);
    }
    let until = match condition {
        "not-running" => Until::NotRunning,
        "next-exit" => Until::NextExit,
        "removed" => Until::Removed,
        other => return Err(Error::Invalid(format!("invalid condition: {other:?}"))),
    };
    // Registered now; the headers go out at once, for clients start the container when they have them.
    let ended = ask.engine.wait(ask.name(), until)?;
    Ok(waited(async move {
        let ended = ended.await;
        WaitResponse { status_code: ended.code, error: ended.error.map(|message| WaitError { message }) }
    }))
}

fn wait_healthy(ask: &Ask) -> Result<Answer> {
    let container = ask.engine.snapshot(ask.name())?;
    let engine = ask.engine.clone();
    Ok(waited(async move {
        match engine.until_healthy(container.id.as_str()).await {
            Ok(()) => WaitResponse::default(),
            Err(error) => WaitResponse { status_code: 1, error: Some(WaitError { message: error.to_string() }) },
        }
    }))
}

fn waited(answer: impl Future<Output = WaitResponse> + Send + 'static) -> Answer {
    let body = stream::once(async move {
        let mut text = serde_json::to_vec(&answer.await).map_err(io::Error::other)?;
        text.push(b'\n');
        Ok(Bytes::from(text))
    });
    streamed("application/json", body)
}

pub async fn attach(mut ask: Ask) -> Result<Answer> {
    let container = ask.engine.snapshot(ask.name())?;
    let keys = DetachKeys::parse(ask.query.text("detachKeys").unwrap_or_default())?;
    let keys = container.spec.tty.then_some(keys);
    let upgrading = ask.request.headers().contains_key(axum::http::header::UPGRADE);
    let mut body = ask.take_body();
    if upgrading {
        // What is left of a body would become the container's first input.
        *ask.request.body_mut() = std::mem::replace(&mut body, axum::body::Body::empty());
        ask.bytes().await?;
    }
    let is = |name: &str| ask.query.is(name);
    let (stdin, stdout, stderr) = (is("stdin"), is("stdout"), is("stderr"));
    let past = if is("logs") && logged(&container) {
        let wanted = Wanted { stdout, stderr, raw: container.spec.tty, ..Wanted::default() };
        let file = ask.engine.log_file(&container.id);
        Some(logs::stream(file, wanted, None::<std::future::Ready<()>>).await?)
    } else {
        None
    };
    let streams =
        if is("stream") { Some(ask.engine.attach(container.id.as_str(), stdin, stdout, stderr).await?) } else { None };
    let kind = streams::kind(container.spec.tty, ask.version);
    Ok(streams::hijack(&mut ask.request, body, kind, move |mut input, mut output| async move {
        use tokio::io::AsyncWriteExt;
        if let Some(mut past) = past {
            while let Some(piece) = past.recv().await {
                output.write_all(&piece?).await?;
            }
            output.flush().await?;
        }
        let streams = match streams {
            Some(streams) => tokio::select! {
                streams = streams.streams() => streams,
                () = input.departed() => return Ok(()),
            },
            None => None,
        };
        match streams {
            Some(streams) => streams::talk(input, output, streams, keys, async {}).await,
            None => output.shutdown().await,
        }
    }))
}

fn logged(container: &Container) -> bool {
    container.spec.log != LogSpec::Nowhere
}

pub async fn logs(ask: Ask) -> Result<Answer> {
    let container = ask.engine.snapshot(ask.name())?;
    let (stdout, stderr) = (ask.query.is("stdout"), ask.query.is("stderr"));
    if !stdout && !stderr {
        return Err(Error::Invalid("Bad parameters: you must choose at least one stream".into()));
    }
    if !logged(&container) {
        return Err(Error::Absent("configured logging driver does not support reading".into()));
    }
    let now = SystemTime::now();
    let moment = |name: &str| {
        let Some(text) = ask.query.text(name).filter(|text| *text != "0") else { return Ok(None) };
        let when = time::parse_when(text, now);
        when.map(Some).ok_or_else(|| Error::Invalid(format!("invalid value for {name:?}: {text:?} is no time")))
    };
    let wanted = Wanted {
        // Docker takes what is no number for "all".
        tail: ask.query.text("tail").and_then(|text| text.parse().ok()),
        since: moment("since")?,
        until: moment("until")?,
        timestamps: ask.query.is("timestamps"),
        details: ask.query.is("details"),
        stdout,
        stderr,
        raw: container.spec.tty,
    };
    let kind = streams::kind(container.spec.tty, ask.version);
    let ended = if ask.query.is("follow") && container.state.phase.is_alive() {
        let ended = ask.engine.wait(container.id.as_str(), Until::NotRunning)?;
        Some(async move { drop(ended.await) })
    } else {
        None
    };
    let pieces = logs::stream(ask.engine.log_file(&container.id), wanted, ended).await?;
    Ok(streamed(kind, stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) })))
}

pub async fn changes(ask: Ask) -> Result<Answer> {
    use crate::rootfs::changes::{self, Kind};
    let container = ask.engine.snapshot(ask.name())?;
    let upper = ask.engine.state_dir(&container.id).join("diff");
    let found = volumes::blocking(ask.engine.clone(), move |engine| {
        if !upper.exists() {
            return Ok(Vec::new());
        }
        let image = engine.images.resolve(&container.image_id).map_err(|refusal| super::images::refused(&refusal))?;
        changes::changes(&engine.images.layers(&image), &upper)
    })
    .await?;
    let wire = |change: changes::Change| FilesystemChange {
        path: change.path,
        kind: match change.kind {
            Kind::Modified => 0,
            Kind::Added => 1,
            Kind::Deleted => 2,
        },
    };
    let found: Vec<FilesystemChange> = found.into_iter().map(wire).collect();
    Ok(json(&if found.is_empty() { json!(null) } else { json!(found) }))
}

pub async fn top(ask: Ask) -> Result<Answer> {
    let container = ask.engine.snapshot(ask.name())?;
    if !container.state.phase.is_alive() {
        return Err(Error::Conflict(format!("container {} is not running", container.id.as_str())));
    }
    let args = ask.query.text("ps_args").unwrap_or_default().to_owned();
    let table = volumes::blocking(ask.engine.clone(), move |engine| {
        let pids = engine.rights.cgroups.paths(&engine.cgroup_path(&container)).pids()?;
        top::top(&pids, &args)
    })
    .await?;
    Ok(json(&json!({ "Titles": table.titles, "Processes": table.processes })))
}

/// What a stream of samples goes on from.
struct Sampling {
    ask: Ask,
    id: String,
    before: Sample,
    pause: Duration,
}

impl Sampling {
    fn sample(&self) -> Result<(String, Sample)> {
        let container = self.ask.engine.snapshot(&self.id)?;
        if !container.state.phase.is_alive() {
            return Ok((container.name.clone(), Sample::default()));
        }
        let paths = self.ask.engine.rights.cgroups.paths(&self.ask.engine.cgroup_path(&container));
        let open = container.spec.network.mode == crate::container::spec::NetworkMode::Open;
        let pid = (!open).then_some(container.state.pid);
        Ok((container.name.clone(), stats::sample(&paths, pid)))
    }

    async fn next(mut self) -> Option<(io::Result<Bytes>, Sampling)> {
        tokio::time::sleep(self.pause).await;
        self.pause = Duration::from_secs(1);
        // A container that is gone ends the stream.
        let (name, now) = self.sample().ok()?;
        let mut text = stats::wire(&name, &self.id, &self.before, &now).to_string();
        text.push('\n');
        self.before = now;
        Some((Ok(text.into()), self))
    }
}

pub async fn stats(ask: Ask) -> Result<Answer> {
    let container = ask.engine.snapshot(ask.name())?;
    let (many, one_shot) = (ask.query.is_or("stream", true), ask.query.is("one-shot"));
    if many && one_shot {
        return Err(Error::Invalid("cannot have stream=true and one-shot=true".into()));
    }
    let id = container.id.to_string();
    let mut sampling = Sampling { ask, id, before: Sample::default(), pause: Duration::ZERO };
    if many {
        return Ok(streamed("application/json", stream::unfold(sampling, Sampling::next)));
    }
    if !one_shot && container.state.phase.is_alive() {
        // Rates need two samples.
        sampling.before = sampling.sample()?.1;
        sampling.pause = Duration::from_secs(1);
    }
    let one = stream::unfold(Some(sampling), |sampling| async move {
        let (text, _) = sampling?.next().await?;
        Some((text, None))
    });
    Ok(streamed("application/json", one))
}
