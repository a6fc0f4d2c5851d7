//! `run`, `start` and `attach`: the commands that stay with a container.

use clap::Arg;
use serde_json::Value;

use super::Ask;
use super::create::{self, Pull};
use crate::detach;
use crate::failure::Failure;
use crate::flags::{Flags, LONG, switch, text};
use crate::printer;
use crate::session::{Ended, Session, Signals, Target};
use crate::spec::body::Streams;
use crate::spec::flags as described;
use crate::terminal;
use crate::wire::{Call, Wire};

fn stay_flags() -> [Arg; 2] {
    [
        text("detach-keys", LONG, "string", "Keys that leave the container running [ctrl-p,ctrl-q]"),
        switch("sig-proxy", LONG, "Pass signals on to the container [true]"),
    ]
}

/// The flags of `run`.
pub fn flags() -> Vec<Arg> {
    let mut all = described::create();
    all.push(switch("detach", 'd', "Do not stay with the container: print its ID and return"));
    all.extend(stay_flags());
    all
}

/// The flags of `attach`.
pub fn attach_flags() -> Vec<Arg> {
    let mut all = vec![switch("no-stdin", LONG, "Do not pass our input on")];
    all.extend(stay_flags());
    all
}

/// The flags of `start`.
pub fn start_flags() -> Vec<Arg> {
    let mut all = vec![
        switch("attach", 'a', "Show the container's output and pass signals on"),
        switch("interactive", 'i', "Pass our input on"),
        text("checkpoint", LONG, "string", "Start from a checkpoint"),
        text("checkpoint-dir", LONG, "string", "Where checkpoints are kept"),
    ];
    all.extend(stay_flags());
    all
}

/// The detach keys in force; none where the user's input is no terminal.
fn keys(given: Option<&str>, tty: bool) -> Result<Vec<u8>, Failure> {
    let keys = match given.filter(|text| !text.is_empty()) {
        Some(text) => {
            detach::keys(text).map_err(|why| Failure::refused(format!("invalid detach keys ({text}): {why}")))?
        }
        None => detach::DEFAULT.to_vec(),
    };
    Ok(if tty && terminal::is_input() { keys } else { Vec::new() })
}

/// Refuses to give a container a terminal where our own input is none.
pub fn check_terminal(tty: bool, stdin: bool) -> Result<(), Failure> {
    if tty && stdin && !terminal::is_input() {
        return Err(Failure::refused("the input device is not a TTY"));
    }
    Ok(())
}

/// `POST /containers/ID/attach` for these streams.
fn attach_call(id: &str, streams: Streams, keys: Option<&str>) -> Call {
    Call::post(format!("/containers/{id}/attach"))
        .switch("stream", true)
        .switch("stdin", streams.stdin)
        .switch("stdout", streams.stdout)
        .switch("stderr", streams.stderr)
        .query_if("detachKeys", keys.filter(|keys| !keys.is_empty()))
}

fn wait_call(id: &str, auto_remove: bool) -> Call {
    let condition = if auto_remove { "removed" } else { "next-exit" };
    Call::post(format!("/containers/{id}/wait")).query("condition", condition)
}

/// The exit code in the answer to a wait.
fn exit_code(answer: Result<Value, Failure>) -> Result<u8, Failure> {
    let lost = |why: String| Failure::Exit { text: format!("error waiting for container: {why}"), code: 125 };
    let answer = answer.map_err(|failure| lost(failure.to_string()))?;
    if let Some(message) = answer["Error"]["Message"].as_str().filter(|text| !text.is_empty()) {
        return Err(lost(message.to_owned()));
    }
    let code = answer["StatusCode"].as_i64().ok_or_else(|| lost("the engine's answer has no StatusCode".to_owned()))?;
    // Exit codes have eight bits, wherever they come from.
    Ok((code & 0xff) as u8)
}

/// The exit code of a session and of the container behind it.
fn outcome(ended: Ended, waited: Option<Result<Value, Failure>>) -> Result<u8, Failure> {
    match (ended, waited) {
        (Ended::Output, Some(answer)) => exit_code(answer),
        (Ended::Output, None) => Ok(0),
        (Ended::Detached, _) => {
            printer::complain("read escape sequence");
            Ok(0)
        }
        (Ended::Signalled(number), _) => Err(Failure::silent(u8::try_from(128 + number).unwrap_or(255))),
    }
}

/// Makes a container, starts it and stays with it.
pub async fn run(ask: &Ask<'_>) -> Result<u8, Failure> {
    let (m, wire) = (ask.m, ask.wire);
    let of_run = |failure: Failure| failure.of_run("run");
    let detach = m.on("detach");
    if detach && !m.all("attach").is_empty() {
        return Err(Failure::refused("conflicting options: cannot specify both --attach and --detach"));
    }
    let refused = |why: String| of_run(Failure::Refused(why));
    let pull = Pull::read(m).map_err(refused)?;
    let spec = create::read(m, &ask.args, detach).map_err(refused)?;
    if !detach {
        check_terminal(spec.tty, spec.streams.stdin)?;
    }
    let given_keys = m.get("detach-keys");
    let keys = keys(given_keys, spec.tty && spec.streams.stdin).map_err(of_run)?;
    let id = create::make(wire, m, &spec, pull).await.map_err(of_run)?;
    let start = Call::post(format!("/containers/{id}/start"));

    let attached = spec.streams.stdin || spec.streams.stdout || spec.streams.stderr;
    if !attached {
        let started = wire.ask(start).await;
        printer::line(&id);
        return started.map(|_| 0).map_err(of_run);
    }
    // A container without a terminal always gets our signals; with one, the keys reach it as they are.
    let forward = m.given_switch("sig-proxy").unwrap_or(true);
    let signals = Signals::listen(forward, spec.tty)?;
    let (connection, waiting) = tokio::try_join!(
        wire.hijack(attach_call(&id, spec.streams, given_keys)),
        wire.begin(wait_call(&id, spec.auto_remove)),
    )
    .map_err(of_run)?;
    if let Err(failure) = wire.ask(start).await {
        if spec.auto_remove {
            // The engine removes what could not start; its name is free again when we return.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), waiting).await;
        }
        return Err(of_run(failure));
    }
    let session = Session {
        wire,
        target: Target::Container(&id),
        connection,
        tty: spec.tty,
        streams: spec.streams,
        forward,
        keys,
        signals,
    };
    let (ended, waited) = session.carry(waiting).await.map_err(of_run)?;
    outcome(ended, waited)
}

/// What `start` and `attach` have to know of a container.
struct Known {
    id: String,
    tty: bool,
    open_stdin: bool,
    auto_remove: bool,
    state: Value,
}

async fn look(wire: &Wire, name: &str) -> Result<Known, Failure> {
    let mut all = wire.ask(Call::get(format!("/containers/{}/json", crate::wire::escape(name)))).await?;
    Ok(Known {
        id: all["Id"].as_str().unwrap_or(name).to_owned(),
        tty: all["Config"]["Tty"] == true,
        open_stdin: all["Config"]["OpenStdin"] == true,
        auto_remove: all["HostConfig"]["AutoRemove"] == true,
        state: all["State"].take(),
    })
}

/// Starts containers that exist; with `-a` or `-i`, one, and stays with it.
pub async fn start(ask: &Ask<'_>) -> Result<u8, Failure> {
    let (m, wire) = (ask.m, ask.wire);
    let stay = m.on("attach") || m.on("interactive");
    let start_call = |name: &str| {
        Call::post(format!("/containers/{}/start", crate::wire::escape(name)))
            .query_if("checkpoint", m.get("checkpoint"))
            .query_if("checkpoint-dir", m.get("checkpoint-dir"))
    };
    if !stay {
        let mut failed = Vec::new();
        for name in &ask.args {
            match wire.ask(start_call(name)).await {
                Ok(_) => printer::line(name),
                Err(failure) => {
                    printer::complain(&failure.to_string());
                    failed.push(name.as_str());
                }
            }
        }
        if failed.is_empty() {
            return Ok(0);
        }
        return Err(Failure::refused(format!("Error: failed to start containers: {}", failed.join(", "))));
    }
    let [name] = ask.args.as_slice() else {
        return Err(Failure::refused("you cannot start and attach multiple containers at once"));
    };
    let known = look(wire, name).await?;
    let streams = Streams { stdin: m.on("interactive") && known.open_stdin, stdout: true, stderr: true };
    check_terminal(known.tty, streams.stdin)?;
    let given_keys = m.get("detach-keys");
    let keys = keys(given_keys, known.tty && streams.stdin)?;
    let forward = m.given_switch("sig-proxy").unwrap_or(true);
    let signals = Signals::listen(forward, known.tty)?;
    let (connection, waiting) = tokio::try_join!(
        wire.hijack(attach_call(&known.id, streams, given_keys)),
        wire.begin(wait_call(&known.id, known.auto_remove)),
    )?;
    wire.ask(start_call(&known.id)).await?;
    let session = Session {
        wire,
        target: Target::Container(&known.id),
        connection,
        tty: known.tty,
        streams,
        forward,
        keys,
        signals,
    };
    let (ended, waited) = session.carry(waiting).await?;
    outcome(ended, waited)
}

/// Attaches to a running container.
pub async fn attach(ask: &Ask<'_>) -> Result<u8, Failure> {
    let (m, wire) = (ask.m, ask.wire);
    let known = look(wire, &ask.args[0]).await?;
    let is = |what: &str| known.state[what] == true;
    let refusal = match () {
        () if !is("Running") => Some("cannot attach to a stopped container, start it first"),
        () if is("Paused") => Some("cannot attach to a paused container, unpause it first"),
        () if is("Restarting") => Some("cannot attach to a restarting container, wait until it is running"),
        () => None,
    };
    if let Some(text) = refusal {
        return Err(Failure::refused(text));
    }
    let streams = Streams { stdin: !m.on("no-stdin") && known.open_stdin, stdout: true, stderr: true };
    check_terminal(known.tty, streams.stdin)?;
    let given_keys = m.get("detach-keys");
    let keys = keys(given_keys, known.tty && streams.stdin)?;
    let forward = m.given_switch("sig-proxy").unwrap_or(true);
    let signals = Signals::listen(forward, known.tty)?;
    let (connection, waiting) = tokio::try_join!(
        wire.hijack(attach_call(&known.id, streams, given_keys)),
        wire.begin(Call::post(format!("/containers/{}/wait", known.id))),
    )?;
    let session = Session {
        wire,
        target: Target::Container(&known.id),
        connection,
        tty: known.tty,
        streams,
        forward,
        keys,
        signals,
    };
    let (ended, waited) = session.carry(waiting).await?;
    outcome(ended, waited)
}
