//! What published ports cost.

use super::Bench;
use super::pairs::{Pairs, verdict};
use super::path::{Bare, Way, container};
use super::weight::pss;
use anyhow::{Context, Result};
use lab::load::Target;
use lab::{Engine, Lab};
use std::fmt::Write as _;
use std::time::Instant;

/// `cargo xtask bench ports`
pub const BENCH: Bench = Bench {
    name: "ports",
    about: "what a thousand published ports cost a start, and ten thousand a packet",
    rounds: 21,
    needs: &[],
    run,
};

/// A thousand ports.
const THOUSAND: &str = "20000-20999:20000-20999/udp";
/// A start and a stop with a thousand ports, as a ratio to those without.
const SLOWER: f64 = 1.2;
/// A thousand ports' memory in the engine and the shim, in KiB.
const MEMORY: u64 = 1024;
/// Latencies with ten thousand ports, as a ratio to those with one.
const LATENCY: f64 = 1.05;
/// Ranges of a thousand ports whose numbers are the same inside, and of which they differ: an element each.
const RANGES: [(&str, bool); 10] = [
    ("21000-21999:21000-21999", true),
    ("22000-22999:22000-22999", true),
    ("23000-23999:23000-23999/udp", true),
    ("24000-24999:24000-24999/udp", true),
    ("25000-25999:25000-25999", true),
    ("26000-26999:1000-1999", false),
    ("27000-27999:1000-1999", false),
    ("28000-28999:1000-1999", false),
    ("29000-29999:1000-1999/udp", false),
    ("30000-30999:1000-1999/udp", false),
];

fn run(lab: &Lab, rounds: u32) -> Result<String> {
    lab.uplink("192.0.2.1/24 2001:db8::1/64");
    let outside = lab.host("outside", "192.0.2.2/24");
    outside.route("10.99.0.0/16 via 192.0.2.3");
    let bare = Bare::new(lab)?;
    let engine = lab.engine(&[]);
    engine.load_busybox();
    let mut report = String::new();
    writeln!(report, "# Published ports\n")?;
    thousand(&engine, rounds, &mut report)?;

    let web = container(lab, &engine, "web", &["-p", "8080:80"]);
    let _served = [Target::serve(&web, "0.0.0.0:80")?, Target::serve(&bare.behind[0], "0.0.0.0:80")?];
    let way = || Way::new("outside → published port", (&outside, "192.0.2.1:8080"), (&outside, "10.99.0.2:80"));
    println!("latency with one published port, and with 10,000 …");
    let (before, mut one, mut many) = (rules(lab)?, way()?, way()?);
    way()?.measure(true)?;
    // Between one state and the other again and again, so that a slow drift of the machine hits both.
    for turn in 0..4 {
        for round in 0..rounds {
            one.measure(round % 2 == 0)?;
        }
        for (nth, (range, _)) in RANGES.iter().enumerate() {
            container(lab, &engine, &format!("many{turn}-{nth}"), &["-p", range]);
        }
        anyhow::ensure!(rules(lab)? == before, "rules grew with ports");
        for round in 0..rounds {
            many.measure(round % 2 == 0)?;
        }
        let names: Vec<String> = (0..RANGES.len()).map(|nth| format!("many{turn}-{nth}")).collect();
        engine.ok(&["rm", "-f"].into_iter().chain(names.iter().map(String::as_str)).collect::<Vec<_>>());
    }
    writeln!(report, "## Ten thousand published ports beside one\n")?;
    let own = RANGES.iter().filter(|(_, one)| !one).count() * 1000;
    writeln!(
        report,
        "{} ports of {} containers, {own} of them elements of their own; rules: {before} with them and without. One port \
         more is measured, from outside, beside a bare path, in {} rounds with them and as many without, in turns. Ratios to the bare path:\n",
        RANGES.len() * 1000,
        RANGES.len(),
        4 * rounds
    )?;
    writeln!(report, "| measure | one port | p10–p90 | 10,001 ports | p10–p90 | many by one | target | met |")?;
    writeln!(report, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
    let (one, many) = (one.latencies(), many.latencies());
    for (name, one, many) in [("connect latency", one.0, many.0), ("request latency", one.1, many.1)] {
        let by = many.median / one.median;
        writeln!(
            report,
            "| {name} | {:.3} | {:.3}–{:.3} | {:.3} | {:.3}–{:.3} | {by:.3} | ≤ {LATENCY} | {} |",
            one.median,
            one.p10,
            one.p90,
            many.median,
            many.p10,
            many.p90,
            verdict(by <= LATENCY)
        )?;
    }
    Ok(report)
}

/// A start and a stop with a thousand ports, beside those without.
fn thousand(engine: &Engine, rounds: u32, report: &mut String) -> Result<()> {
    println!("{rounds} starts and stops with 1,000 ports and without, in turns …");
    let (mut starts, mut stops) = (Pairs::default(), Pairs::default());
    for round in 0..=rounds {
        let mut took = [(0.0, 0.0); 2];
        for at in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let flags: &[&str] = if at == 0 { &["-p", THOUSAND] } else { &[] };
            let started = Instant::now();
            engine.ok(&[&["run", "-d", "--name", "one"], flags, &["busybox", "sleep", "1000"]].concat());
            let start = started.elapsed();
            let started = Instant::now();
            engine.ok(&["stop", "-t", "0", "one"]);
            took[at] = (start.as_secs_f64(), started.elapsed().as_secs_f64());
            engine.ok(&["rm", "one"]);
        }
        // The first round fills caches.
        if round > 0 {
            starts.push(took[0].0, took[1].0);
            stops.push(took[0].1, took[1].1);
        }
    }
    writeln!(
        report,
        "## `-p {THOUSAND}` beside no port\n\n{rounds} interleaved rounds; ratios are taken round by round.\n"
    )?;
    writeln!(report, "| step | with | without | ratio: median | p10–p90 | of minima | target | met |")?;
    writeln!(report, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for (name, pairs) in [("run -d", &starts), ("stop", &stops)] {
        let (with, without, ratio) = (pairs.ours(), pairs.other(), pairs.ratio());
        writeln!(
            report,
            "| {name} | {:.1} ms | {:.1} ms | {:.3} | {:.3}–{:.3} | {:.3} | ≤ {SLOWER} | {} |",
            with.median * 1e3,
            without.median * 1e3,
            ratio.median,
            ratio.p10,
            ratio.p90,
            with.min / without.min,
            verdict(ratio.median <= SLOWER),
        )?;
    }
    // Both have been there before, so that what is kept for next time is counted for neither.
    let weigh = |flags: &[&str]| -> Result<(u64, usize)> {
        engine.ok(&[&["run", "-d", "--name", "one"], flags, &["busybox", "sleep", "1000"]].concat());
        let shims = super::weight::shims()?;
        let engine_pid = engine.pid().context("the engine runs")?;
        let all = shims.iter().chain([&engine_pid]).map(|pid| pss(*pid)).sum::<Result<u64>>()?;
        let processes = processes()?;
        engine.ok(&["rm", "-f", "one"]);
        Ok((all, processes))
    };
    let mut extra = Vec::new();
    for _ in 0..5 {
        let (without, with) = (weigh(&[])?, weigh(&["-p", THOUSAND])?);
        anyhow::ensure!(with.1 == without.1, "{} processes with ports, {} without", with.1, without.1);
        extra.push(with.0.saturating_sub(without.0));
    }
    extra.sort_unstable();
    let (least, median, most) = (extra[0], extra[2], extra[4]);
    writeln!(
        report,
        "\nProcesses more: 0. Memory of engine and shim more (PSS): median {median} KiB ({least}–{most}); below {MEMORY} KiB: {}.\n",
        verdict(median < MEMORY)
    )?;
    Ok(())
}

/// Processes in this pid namespace.
fn processes() -> Result<usize> {
    let all = std::fs::read_dir("/proc")?.flatten();
    Ok(all.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok())).count())
}

/// How many rules the engine's tables hold.
fn rules(lab: &Lab) -> Result<usize> {
    let text = lab.here().ok(&["nft", "-st", "list", "ruleset"]);
    let rules = text.lines().filter(|line| line.contains("comment")).count();
    anyhow::ensure!(rules > 0, "no rules:\n{text}");
    Ok(rules)
}
