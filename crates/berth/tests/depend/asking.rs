use lab::{Engine, Lab};
use std::time::Duration;

/// Long enough for a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

pub fn world(lab: &Lab, flags: &[&str]) -> Engine {
    let engine = lab.engine(flags);
    engine.load_busybox();
    engine
}

/// The words that start or make a container that sleeps.
pub fn sleeping<'a>(how: &'a str, name: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let detached: &[&str] = if how == "run" { &["-d"] } else { &[] };
    [&[how], detached, &["--name", name], flags, &["busybox", "sleep", "1000"]].concat()
}

pub fn addr4(engine: &Engine, name: &str) -> String {
    engine.told("{{.NetworkSettings.Networks.bridge.IPAddress}}", name)
}
