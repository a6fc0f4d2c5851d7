//! Commands that change one container after another: stop, kill, restart, pause, unpause, rename, rm, update, wait.

use clap::Arg;
use serde_json::{Value, json};

use super::Ask;
use crate::failure::Failure;
use crate::flags::{Flags, LONG, parsed, switch, text};
use crate::literal::{bytes, cpus, int, memory_swap, uint16};
use crate::printer;
use crate::spec::{body, limits};
use crate::wire::{Call, escape};

/// Does the same to each name: one that fails does not stop the others. The good ones are printed, and any bad one
/// makes the exit code 1.
async fn each(names: &[String], mut act: impl AsyncFnMut(String) -> Result<String, Failure>) -> Result<u8, Failure> {
    let mut code = 0;
    for name in names {
        match act(name.clone()).await {
            Ok(text) => printer::line(&text),
            Err(failure @ (Failure::Unreachable { .. } | Failure::Forbidden { .. })) => return Err(failure),
            Err(failure) => {
                printer::complain(&failure.to_string());
                code = 1;
            }
        }
    }
    Ok(code)
}

async fn post(ask: &Ask<'_>, action: &str, dress: impl Fn(Call) -> Call) -> Result<u8, Failure> {
    each(&ask.args, async |name: String| {
        let call = Call::post(format!("/containers/{}/{action}", escape(&name)));
        ask.wire.ask(dress(call)).await?;
        Ok(name)
    })
    .await
}

/// The flags of `stop` and `restart`.
pub fn stop_flags() -> Vec<Arg> {
    vec![
        text("signal", 's', "string", "Signal that asks the container to stop"),
        parsed("timeout", 't', "int", "Seconds between that signal and the kill", int).alias("time"),
    ]
}

fn stopping<'a>(ask: &'a Ask<'_>) -> impl Fn(Call) -> Call + 'a {
    |call| {
        call.query_if("signal", ask.m.get("signal"))
            .query_if("t", ask.m.value::<i64>("timeout").map(|seconds| seconds.to_string()))
    }
}

/// Stops containers.
pub async fn stop(ask: &Ask<'_>) -> Result<u8, Failure> {
    post(ask, "stop", stopping(ask)).await
}

/// Stops containers and starts them again.
pub async fn restart(ask: &Ask<'_>) -> Result<u8, Failure> {
    post(ask, "restart", stopping(ask)).await
}

/// The flags of `kill`.
pub fn kill_flags() -> Vec<Arg> {
    vec![text("signal", 's', "string", "Signal to send [KILL]")]
}

/// Kills containers.
pub async fn kill(ask: &Ask<'_>) -> Result<u8, Failure> {
    post(ask, "kill", |call| call.query_if("signal", ask.m.get("signal"))).await
}

/// Freezes containers.
pub async fn pause(ask: &Ask<'_>) -> Result<u8, Failure> {
    post(ask, "pause", |call| call).await
}

/// Lets frozen containers run on.
pub async fn unpause(ask: &Ask<'_>) -> Result<u8, Failure> {
    post(ask, "unpause", |call| call).await
}

/// Renames a container.
pub async fn rename(ask: &Ask<'_>) -> Result<u8, Failure> {
    let (old, new) = (ask.args[0].trim(), ask.args[1].trim());
    if old.is_empty() || new.is_empty() {
        return Err(Failure::refused("Error: Neither old nor new names may be empty"));
    }
    let call = Call::post(format!("/containers/{}/rename", escape(old))).query("name", new);
    match ask.wire.ask(call).await {
        Ok(_) => Ok(0),
        Err(failure @ Failure::Engine { .. }) => {
            Err(Failure::refused(format!("{failure}\nError: failed to rename container named {old}")))
        }
        Err(failure) => Err(failure),
    }
}

/// The flags of `rm`.
pub fn rm_flags() -> Vec<Arg> {
    vec![
        switch("force", 'f', "Kill what still runs; what does not exist is no error"),
        switch("link", 'l', "Remove this link instead of a container (CONTAINER/ALIAS)"),
        switch("volumes", 'v', "Remove the container's anonymous volumes too"),
    ]
}

/// Removes containers.
pub async fn rm(ask: &Ask<'_>) -> Result<u8, Failure> {
    let force = ask.m.on("force");
    let mut code = 0;
    for name in &ask.args {
        let call = Call::delete(format!("/containers/{}", escape(name.trim_matches('/'))))
            .switch("force", force)
            .switch("link", ask.m.on("link"))
            .switch("v", ask.m.on("volumes"));
        match ask.wire.ask(call).await {
            Ok(_) => printer::line(name),
            Err(failure @ (Failure::Unreachable { .. } | Failure::Forbidden { .. })) => return Err(failure),
            Err(failure) => {
                // With -f the wish is that it be gone, and it is.
                if !(force && failure.is_missing()) {
                    code = 1;
                }
                printer::complain(&failure.to_string());
            }
        }
    }
    Ok(code)
}

/// Waits for containers to end.
pub async fn wait(ask: &Ask<'_>) -> Result<u8, Failure> {
    each(&ask.args, async |name: String| {
        let answer = ask.wire.ask(Call::post(format!("/containers/{}/wait", escape(&name)))).await?;
        if let Some(message) = answer["Error"]["Message"].as_str().filter(|text| !text.is_empty()) {
            return Err(Failure::refused(message));
        }
        Ok(answer["StatusCode"].as_i64().unwrap_or(0).to_string())
    })
    .await
}

/// The flags of `update`.
pub fn update_flags() -> Vec<Arg> {
    vec![
        parsed("blkio-weight", LONG, "uint16", "Relative weight of block IO, 10 to 1000, 0 for none", uint16),
        parsed("cpu-period", LONG, "int", "Period of the CPU quota in microseconds", int),
        parsed("cpu-quota", LONG, "int", "CPU quota in microseconds", int),
        parsed("cpu-rt-period", LONG, "int", "Period of the real-time quota in microseconds", int),
        parsed("cpu-rt-runtime", LONG, "int", "Real-time quota in microseconds", int),
        parsed("cpu-shares", 'c', "int", "Relative weight of CPU time", int),
        parsed("cpus", LONG, "decimal", "Number of CPUs", cpus),
        text("cpuset-cpus", LONG, "string", "CPUs to run on (0-3, 0,1)"),
        text("cpuset-mems", LONG, "string", "Memory nodes to use (0-3, 0,1)"),
        parsed("memory", 'm', "bytes", "Memory limit", bytes),
        parsed("memory-reservation", LONG, "bytes", "Soft memory limit", bytes),
        parsed("memory-swap", LONG, "bytes", "Limit of memory and swap together, -1 for none", memory_swap),
        parsed("pids-limit", LONG, "int", "Limit of processes, -1 for none", int),
        text("restart", LONG, "string", "What to do when the container ends"),
    ]
}

/// Changes the limits of containers.
pub async fn update(ask: &Ask<'_>) -> Result<u8, Failure> {
    let mut body = body::shared_resources(ask.m);
    if let Some(policy) = ask.m.get("restart").filter(|text| !text.is_empty()) {
        body.insert("RestartPolicy".to_owned(), limits::restart_policy(policy).map_err(Failure::Refused)?);
    }
    if body.is_empty() {
        return Err(Failure::refused("you must provide one or more flags when using this command"));
    }
    let body = json!(body);
    let mut warnings = Vec::new();
    let code = each(&ask.args, async |name: String| {
        let call = Call::post(format!("/containers/{}/update", escape(&name))).json(body.clone());
        let answer = ask.wire.ask(call).await?;
        let told = answer["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
        warnings.extend(told.map(str::to_owned));
        Ok(name)
    })
    .await?;
    for warning in warnings {
        printer::line(&warning);
    }
    Ok(code)
}
