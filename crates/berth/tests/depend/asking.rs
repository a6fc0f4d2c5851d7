use lab::{Engine, Host, Lab};
use std::path::Path;
use std::time::Duration;

/// Long enough for a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

pub fn world(lab: &Lab, flags: &[&str]) -> Engine {
    let engine = lab.engine(flags);
    engine.load_busybox();
    engine
}

/// Starts a container that sleeps.
#[track_caller]
pub fn sleeper(engine: &Engine, name: &str, flags: &[&str]) {
    engine.ok(&sleeping("run", name, flags));
}

/// The words that start or make a container that sleeps.
pub fn sleeping<'a>(how: &'a str, name: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let detached: &[&str] = if how == "run" { &["-d"] } else { &[] };
    [&[how], detached, &["--name", name], flags, &["busybox", "sleep", "1000"]].concat()
}

#[track_caller]
pub fn told(engine: &Engine, what: &str, name: &str) -> String {
    engine.ok(&["inspect", "-f", what, name]).trim().to_owned()
}

pub fn addr4(engine: &Engine, name: &str) -> String {
    told(engine, "{{.NetworkSettings.Networks.bridge.IPAddress}}", name)
}

/// A container's network, as a place to speak from.
pub fn inside(lab: &Lab, engine: &Engine, name: &str) -> Host {
    lab.inside_path(Path::new(&told(engine, "{{.NetworkSettings.SandboxKey}}", name)))
}
