use super::table::{Spread, shown};
use anyhow::{Context, Result};
use lab::Engine;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How many containers the shims are weighed with.
const CONTAINERS: u32 = 20;
/// How often the engine is started for its cold start.
const STARTS: u32 = 7;

/// The engine's memory idle, its shims' with containers, and how soon it answers. Proportional set sizes, by
/// `smaps_rollup` (proc(5)).
pub fn of(engine: &Engine) -> Result<String> {
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        engine.stop();
        let started = Instant::now();
        engine.start_again();
        starts.push(started.elapsed());
    }
    let starts = Spread::of(starts.into_iter());
    // Past what it does once at its start.
    std::thread::sleep(Duration::from_secs(2));
    let idle = pss(engine.pid().context("the engine runs")?)?;
    let names: Vec<String> = (0..CONTAINERS).map(|nth| format!("weight{nth}")).collect();
    for name in &names {
        engine.ok(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]);
    }
    let shims = shims()?;
    anyhow::ensure!(shims.len() == names.len(), "{} shims run for {CONTAINERS} containers", shims.len());
    let weights = shims.iter().map(|pid| pss(*pid)).collect::<Result<Vec<u64>>>()?;
    let busy = pss(engine.pid().context("the engine runs")?)?;
    let mut remove = vec!["rm", "-f"];
    remove.extend(names.iter().map(String::as_str));
    engine.ok(&remove);

    let mut text = String::new();
    writeln!(
        text,
        "- engine idle, just started: {:.1} MiB PSS; with {CONTAINERS} containers {:.1} MiB",
        mib(idle),
        mib(busy)
    )?;
    let count = shims.len().max(1) as u64;
    writeln!(
        text,
        "- shims: {} for {CONTAINERS} containers, {:.2} MiB PSS each",
        shims.len(),
        mib(weights.iter().sum::<u64>() / count)
    )?;
    writeln!(text, "- cold start to the first answer: min {}, median {}", shown(starts.min), shown(starts.median))?;
    Ok(text)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// In KiB.
pub fn pss(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .with_context(|| format!("{path} holds no Pss"))
}

/// The shims in this pid namespace.
pub fn shims() -> Result<Vec<u32>> {
    let processes = std::fs::read_dir("/proc")?.flatten();
    Ok(processes
        .filter_map(|process| {
            let pid: u32 = process.file_name().to_str()?.parse().ok()?;
            let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
            (name.trim_end() == "berth-shim").then_some(pid)
        })
        .collect())
}
