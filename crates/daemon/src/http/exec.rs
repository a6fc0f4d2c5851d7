//! More processes in a running container.

use super::answer::{Answer, done, empty, json, json_as};
use super::ask::Ask;
use super::detach::DetachKeys;
use super::streams::{self, Output};
use crate::engine::{ExecSpec, ExecView};
use crate::error::{Error, Result};
use api::{ExecConfig, ExecStart, IdResponse};
use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

pub async fn create(mut ask: Ask) -> Result<Answer> {
    let body: ExecConfig = ask.json().await?.ok_or_else(|| Error::Invalid("No exec command specified".into()))?;
    let argv = body.cmd.unwrap_or_default();
    if argv.is_empty() {
        return Err(Error::Invalid("No exec command specified".into()));
    }
    let detach_keys = body.detach_keys.unwrap_or_default();
    DetachKeys::parse(&detach_keys)?;
    for line in body.env.iter().flatten() {
        if line.is_empty() || line.starts_with('=') || line.contains('\0') {
            return Err(Error::Invalid(format!("invalid environment variable: {line}")));
        }
    }
    let workdir = body.working_dir.filter(|dir| !dir.is_empty());
    if let Some(dir) = workdir.as_ref().filter(|dir| !dir.starts_with('/')) {
        return Err(Error::Invalid(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        )));
    }
    let spec = ExecSpec {
        argv,
        env: body.env.unwrap_or_default(),
        workdir,
        user: body.user.filter(|user| !user.is_empty()),
        tty: body.tty.unwrap_or(false),
        stdin: body.attach_stdin.unwrap_or(false),
        stdout: body.attach_stdout.unwrap_or(false),
        stderr: body.attach_stderr.unwrap_or(false),
        privileged: body.privileged.unwrap_or(false),
        detach_keys,
    };
    let id = ask.engine.exec_create(ask.name(), spec)?;
    Ok(json_as(StatusCode::CREATED, &IdResponse { id }))
}

pub async fn start(mut ask: Ask) -> Result<Answer> {
    // The body is read before anything is answered: what is left of it would become the process's first input.
    let body: ExecStart = ask.json().await?.unwrap_or_default();
    let size = body.console_size.filter(|(rows, cols)| *rows > 0 && *cols > 0);
    let view = ask.engine.exec_inspect(ask.name())?;
    if body.detach == Some(true) {
        ask.engine.exec_start(&view.id, true, size).await?;
        return Ok(empty(StatusCode::OK));
    }
    let container = ask.engine.snapshot(view.container.as_str())?;
    if !container.state.phase.is_alive() {
        return Err(Error::Conflict(format!("container {} is not running", container.id.as_str())));
    }
    let keys = if view.spec.tty { Some(DetachKeys::parse(&view.spec.detach_keys)?) } else { None };
    let engine = ask.engine.clone();
    let kind = streams::kind(view.spec.tty, ask.version);
    Ok(streams::hijack(&mut ask.request, Body::empty(), kind, move |input, output| async move {
        match engine.exec_start(&view.id, false, size).await {
            // Who sees the end of the output asks for the exit code next.
            Ok(Some((streams, recorded))) => {
                streams::talk(input, output, streams, keys, async { drop(recorded.await) }).await
            }
            Ok(None) => Ok(()),
            // The stream was promised already, so the refusal goes over it, as Docker's does.
            Err(error) => say(output, &view, &error).await,
        }
    }))
}

async fn say(mut output: Output, view: &ExecView, error: &Error) -> std::io::Result<()> {
    let text = format!("{error}\r\n");
    if !view.spec.tty {
        output.write_all(&shim::frame_header(1, u32::try_from(text.len()).unwrap_or(u32::MAX))).await?;
    }
    output.write_all(text.as_bytes()).await?;
    output.shutdown().await
}

pub async fn resize(ask: Ask) -> Result<Answer> {
    let (rows, cols) = super::containers::size(&ask)?;
    ask.engine.exec_resize(ask.name(), rows, cols).await?;
    Ok(done())
}

pub fn inspect(ask: &Ask) -> Result<Answer> {
    let view = ask.engine.exec_inspect(ask.name())?;
    let spec = &view.spec;
    let (entrypoint, arguments) = spec.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let exit_code = view.exit_code.map_or(Value::Null, Value::from);
    Ok(json(&json!({
        "ID": view.id,
        "Running": view.running,
        "ExitCode": exit_code,
        "ProcessConfig": {
            "tty": spec.tty,
            "entrypoint": entrypoint,
            "arguments": arguments,
            "privileged": spec.privileged,
            "user": spec.user.clone().unwrap_or_default(),
        },
        "OpenStdin": spec.stdin,
        "OpenStderr": spec.stderr,
        "OpenStdout": spec.stdout,
        "CanRemove": false,
        "ContainerID": view.container.as_str(),
        "DetachKeys": spec.detach_keys,
        "Pid": view.pid,
    })))
}
