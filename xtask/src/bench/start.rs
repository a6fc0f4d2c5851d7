//! What a start costs.

use super::Bench;
use super::contenders::{self, Net};
use super::table::{self, Sample, Samples};
use super::{cpu, weight};
use anyhow::{Context, Result};
use lab::Lab;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// `cargo xtask bench start`
pub const BENCH: Bench = Bench {
    name: "start",
    about: "time and processor use of `berth run`, beside the floor and other engines",
    rounds: 21,
    needs: &[],
    run,
};

/// How long the traces of one command may take to settle before the processor time is read.
const SETTLE: Duration = Duration::from_millis(60);

fn run(lab: &Lab, rounds: u32) -> Result<String> {
    lab.uplink("192.0.2.1/24");
    let meter = cpu::Meter::of(lab.cgroup())?;
    let engine = lab.engine(&[]);
    engine.load_busybox();
    let mut contenders = Vec::new();
    let mut absent = Vec::new();
    for mut contender in contenders::all(lab, &engine)? {
        match contender.run() {
            Ok(()) => contenders.push(contender),
            Err(err) if contender.is_ours() => return Err(err.context(contender.name)),
            Err(err) => {
                absent.push(format!("{} (--net {}) does not run here: {err:#}.", contender.name, contender.net))
            }
        }
    }
    println!("{rounds} rounds of {} commands, one after the other in each round …", contenders.len());

    let mut samples: Vec<Samples> = contenders.iter().map(|_| Samples::default()).collect();
    // The first round fills caches and is thrown away.
    for round in 0..=rounds {
        for (contender, samples) in contenders.iter_mut().zip(&mut samples) {
            let before = meter.used()?;
            let started = Instant::now();
            contender.run().with_context(|| contender.name.clone())?;
            let wall = started.elapsed();
            std::thread::sleep(SETTLE);
            let cpu = meter.used()?.saturating_sub(before);
            if round > 0 {
                samples.push(Sample { wall, cpu });
            }
        }
    }
    lab.here().ok(&["ip", "link", "add", "floor1", "up", "type", "bridge"]);
    let network = lab::floor::network("floor1", rounds).context("the floor of the network")?;

    let mut report = String::new();
    writeln!(report, "# Starting a container: `run --rm busybox true`, whole process\n")?;
    writeln!(
        report,
        "{rounds} interleaved rounds, one warm-up round not counted. Wall time from the command's start to its end."
    )?;
    writeln!(report, "Processor time: {}, read {SETTLE:?} after each command's end.\n", meter.how())?;
    for net in [Net::None, Net::Bridge, Net::Host] {
        let rows: Vec<_> = contenders.iter().zip(&samples).filter(|(contender, _)| contender.net == net).collect();
        writeln!(report, "## --net {net}\n\n{}", table::of(&rows))?;
    }
    let runtimes: Vec<_> =
        contenders.iter().zip(&samples).filter(|(contender, _)| contender.net == Net::Runtime).collect();
    writeln!(report, "## The OCI runtime alone: create, start, end of `true`, delete\n\n{}", table::of(&runtimes))?;
    for line in absent {
        writeln!(report, "{line}\n")?;
    }
    let weight = weight::of(&engine)?;
    drop(contenders);
    engine.stop();
    writeln!(report, "## The network's part\n\n{}", network_part(lab, rounds, &network)?)?;
    writeln!(report, "## Weight\n\n{weight}")?;
    Ok(report)
}

/// What an engine itself says of the network's part of each start (sandbox, pair, addresses, route, firewall), beside the
/// bare kernel's share of it.
fn network_part(lab: &Lab, rounds: u32, floor: &[Duration]) -> Result<String> {
    let engine = lab.engine(&["--log-level", "debug"]);
    engine.load_busybox();
    for _ in 0..=rounds {
        engine.ok(&["run", "--rm", "busybox", "true"]);
    }
    let log = engine.log();
    // A start takes several steps, an end one or two; the first start fills caches.
    let starts: Vec<Duration> =
        log.lines().filter_map(carried_out).filter(|(steps, _)| *steps > 4).map(|(_, t)| t).collect();
    anyhow::ensure!(starts.len() > 1, "the engine's log tells of no start:\n{log}");
    let floor = table::Spread::of(floor.iter().copied());
    let ours = table::Spread::of(starts.into_iter().skip(1));
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    Ok(format!(
        "Floor (namespace, veth pair, loopback, address, route over raw netlink): min {}, median {}.\n\
         berth (the same and the firewall, decided, recorded and carried out, by its own log): min {}, median {}: \
         {:.1} and {:.1} × the floor.\n",
        table::shown(floor.min),
        table::shown(floor.median),
        table::shown(ours.min),
        table::shown(ours.median),
        ratio(ours.min, floor.min),
        ratio(ours.median, floor.median),
    ))
}

/// Steps and time of a line `carried out steps=7 failed=0 took=1.9ms` of the engine's log.
fn carried_out(line: &str) -> Option<(u32, Duration)> {
    let (_, rest) = line.split_once("carried out ")?;
    let word = |name: &str| rest.split(' ').find_map(|word| word.strip_prefix(name));
    let took = word("took=")?;
    let (number, unit) = match took.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (took.strip_suffix("µs")?, 1e-6),
    };
    Some((word("steps=")?.parse().ok()?, Duration::from_secs_f64(number.parse::<f64>().ok()? * unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_log_is_understood() {
        let line = "2026-11-23T21:09:54.8Z DEBUG carried out steps=7 failed=0 took=1.5ms";
        assert_eq!(carried_out(line), Some((7, Duration::from_micros(1500))));
        assert_eq!(
            carried_out("DEBUG carried out steps=1 failed=0 took=817.5µs"),
            Some((1, Duration::from_nanos(817_500)))
        );
        assert_eq!(carried_out("INFO ready containers=0"), None);
    }
}
