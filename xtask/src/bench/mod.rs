//! Benchmarks: each is a file, and a line in [`ALL`].

/// A bundle for an OCI runtime alone.
mod bundle;
/// The commands that are measured side by side.
mod contenders;
/// Processor time of everything in one cgroup.
mod cpu;
/// How many questions the resolver answers, and how soon.
mod dns;
/// What grows with the number of containers.
mod growth;
/// What links cost where containers are kept apart.
mod links;
/// What networks of the user's cost.
mod networks;
/// The same in two ways, in turns.
mod pairs;
/// What a packet's way through the engine's bridge and rules costs.
mod path;
/// What published ports cost.
mod ports;
/// What a start costs.
mod start;
/// Minima, medians, spreads, and the table of them.
mod table;
/// What an engine and its keepers weigh when nothing happens.
mod weight;

use crate::packages::Package;
use crate::{cargo, in_a_lab, need_namespaces, packages};
use anyhow::{Context, Result};
use lab::Lab;
use std::process::ExitCode;

/// A benchmark.
pub struct Bench {
    /// `cargo xtask bench NAME`; its report is kept in `target/bench/NAME.md`.
    pub name: &'static str,
    /// What it tells, in a few words.
    pub about: &'static str,
    /// How often it measures unless told otherwise.
    rounds: u32,
    /// What it needs besides an engine.
    needs: &'static [Package],
    /// Measures, in a lab of its own, so many times; answers the report.
    run: fn(&Lab, u32) -> Result<String>,
}

/// All of them.
pub const ALL: [Bench; 7] =
    [start::BENCH, ports::BENCH, path::BENCH, growth::BENCH, networks::BENCH, links::BENCH, dns::BENCH];

/// What a benchmark is called when it runs itself again in its lab.
pub const INSIDE: &str = "bench-inside";

/// Builds in release mode and starts the benchmark in a network of its own.
pub fn outside(name: &str, rounds: Option<u32>) -> Result<ExitCode> {
    let bench = named(name)?;
    let rounds = rounds.unwrap_or(bench.rounds);
    anyhow::ensure!(rounds > 0, "no round measures nothing");
    need_namespaces()?;
    packages::need(&[packages::BUILD, packages::RUN, bench.needs])?;
    let programs = cargo::build_engine(true, &["-p", "lab"])?;
    in_a_lab(INSIDE, &[name.to_owned(), rounds.to_string()], &programs)
}

/// Measures, in fresh namespaces; prints the report and keeps it.
pub fn inside(name: &str, rounds: u32) -> Result<ExitCode> {
    let bench = named(name)?;
    let report = (bench.run)(&Lab::inside()?, rounds)?;
    print!("\n{report}");
    let dir = cargo::target_dir()?.join("bench");
    std::fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{name}.md"));
    std::fs::write(&path, report).with_context(|| path.display().to_string())?;
    println!("kept in {}", path.display());
    Ok(ExitCode::SUCCESS)
}

fn named(name: &str) -> Result<&'static Bench> {
    let names = || ALL.iter().map(|bench| bench.name).collect::<Vec<_>>().join(", ");
    ALL.iter()
        .find(|bench| bench.name == name)
        .with_context(|| format!("there is no benchmark `{name}` among {}", names()))
}
