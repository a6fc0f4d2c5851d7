//! `exec`: another process in a running container.

use clap::Arg;
use serde_json::json;

use super::{Ask, run};
use crate::detach;
use crate::failure::{Failure, start_code};
use crate::flags::{Flags, LONG, list, parsed_list, switch, text};
use crate::session::{Ended, Session, Signals, Target};
use crate::spec::body::Streams;
use crate::spec::envs;
use crate::terminal;
use crate::wire::{Call, escape};

/// The flags of `exec`.
pub fn flags() -> Vec<Arg> {
    vec![
        switch("detach", 'd', "Do not stay with the command"),
        text("detach-keys", LONG, "string", "Keys that leave the command running [ctrl-p,ctrl-q]"),
        parsed_list("env", 'e', "list", "Set an environment variable", envs::variable),
        list("env-file", LONG, "list", "Read environment variables from a file"),
        switch("interactive", 'i', "Pass our input on"),
        switch("privileged", LONG, "Give the command all rights that the engine has"),
        switch("tty", 't', "Give the command a terminal"),
        text("user", 'u', "string", "Run as this user: name|uid[:group|gid]"),
        text("workdir", 'w', "string", "Working directory inside the container"),
    ]
}

/// Runs a command in a container; the exit code is the command's.
pub async fn exec(ask: &Ask<'_>) -> Result<u8, Failure> {
    let (m, wire) = (ask.m, ask.wire);
    let detached = m.on("detach");
    let tty = m.on("tty");
    let streams = Streams { stdin: m.on("interactive") && !detached, stdout: !detached, stderr: !detached };
    run::check_terminal(tty, streams.stdin)?;
    let own = |name: &str| std::env::var(name).ok();
    let env = envs::environment(&m.all("env-file"), &m.all("env"), &own).map_err(Failure::Refused)?;
    let keys = match m.get("detach-keys").filter(|text| !text.is_empty()) {
        Some(text) => detach::keys(text).map_err(Failure::Refused)?,
        None => detach::DEFAULT.to_vec(),
    };
    let (height, width) = terminal::size();
    let mut body = json!({
        "AttachStdin": streams.stdin, "AttachStdout": streams.stdout, "AttachStderr": streams.stderr,
        "Tty": tty, "Privileged": m.on("privileged"), "Cmd": &ask.args[1..],
    });
    let mut put = |key: &str, value: serde_json::Value, wanted: bool| {
        if wanted {
            body[key] = value;
        }
    };
    put("Env", json!(env), !env.is_empty());
    put("User", json!(m.get("user")), m.get("user").is_some());
    put("WorkingDir", json!(m.get("workdir")), m.get("workdir").is_some());
    put("DetachKeys", json!(m.get("detach-keys")), m.get("detach-keys").is_some());
    put("ConsoleSize", json!([height, width]), tty && height > 0);

    let path = format!("/containers/{}/exec", escape(&ask.args[0]));
    let made = wire.ask(Call::post(path).json(body)).await?;
    let id = made["Id"].as_str().unwrap_or_default().to_owned();
    let start = Call::post(format!("/exec/{id}/start")).json(json!({"Detach": detached, "Tty": tty}));
    // A program that cannot be run is told apart by the engine's words, as with `run`.
    let of_exec = |failure: Failure| match failure {
        Failure::Engine { status, message } => {
            let code = match start_code(&message) {
                125 => 1,
                code => code,
            };
            Failure::Exit { text: Failure::Engine { status, message }.to_string(), code }
        }
        other => other,
    };
    if detached {
        wire.ask(start).await.map_err(of_exec)?;
        return Ok(0);
    }
    let signals = Signals::listen(false, tty)?;
    let connection = wire.hijack(start).await.map_err(of_exec)?;
    let session = Session {
        wire,
        target: Target::Exec(&id),
        connection,
        tty,
        streams,
        forward: false,
        keys: if tty && terminal::is_input() { keys } else { Vec::new() },
        signals,
    };
    let state = wire.ask(Call::get(format!("/exec/{id}/json")));
    match session.carry(state).await? {
        (Ended::Output, Some(state)) => Ok((state?["ExitCode"].as_i64().unwrap_or(0) & 0xff) as u8),
        (Ended::Output, None) => Ok(0),
        (Ended::Detached, _) => {
            crate::printer::complain("read escape sequence");
            Ok(0)
        }
        (Ended::Signalled(number), _) => Err(Failure::silent(u8::try_from(128 + number).unwrap_or(255))),
    }
}
