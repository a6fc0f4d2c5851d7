//! What networks of the user's cost, and whether that grows with their number.

use super::Bench;
use super::pairs::{Numbers, verdict};
use anyhow::{Context, Result};
use lab::{Engine, Lab};
use std::fmt::Write as _;
use std::time::Instant;

/// `cargo xtask bench networks`
pub const BENCH: Bench = Bench {
    name: "networks",
    about: "200 networks with two containers each: making and removing the 1st, 50th, 100th and 200th (ROUNDS: around each so many)",
    rounds: 15,
    needs: &[],
    run,
};

/// Of interest.
const MARKS: [u32; 4] = [1, 50, 100, 200];
/// The last as a ratio to the first.
const SLOWER: f64 = 1.2;

/// What is done with each network, in this order, and timed as the whole command.
const STEPS: [&str; 4] = ["network create", "run, the first", "run, the second", "all three"];
/// The same for its end.
const ENDS: [&str; 3] = ["rm -f, both", "network rm", "both steps"];

fn run(lab: &Lab, rounds: u32) -> Result<String> {
    lab.uplink("192.0.2.1/24 2001:db8::1/64");
    // The default pools have room for 31.
    let engine = lab.engine(&["--default-address-pool", "base=10.0.0.0/8,size=24"]);
    engine.load_busybox();
    let rules = || Ok::<usize, anyhow::Error>(rules(&lab.here().ok(&["nft", "list", "table", "inet", "berth"])));
    let before = rules()?;
    // Caches are filled, and then nothing is left of it.
    for nth in 9990..9993 {
        make(&engine, nth)?;
        remove(&engine, nth)?;
    }
    let last = MARKS[MARKS.len() - 1];
    println!("{last} networks with two containers each …");
    let windows = Windows { rounds, last };
    let mut made = windows.empty(STEPS.len());
    let mut yardsticks = windows.empty(1);
    for nth in 1..=last {
        let window = windows.of(nth);
        if let Some(window) = window {
            yardsticks[window][0].push(super::growth::yardstick()?);
        }
        let took = make(&engine, nth)?;
        if let Some(window) = window {
            windows.keep(&mut made[window], &took);
        }
        if nth % 50 == 0 {
            println!("{nth}");
        }
    }
    let with_all = rules()?;
    let mut removed = windows.empty(ENDS.len());
    // The last that was made goes first, so that each window is as full as it was when it was made.
    for nth in (1..=last).rev() {
        let took = remove(&engine, nth)?;
        if let Some(window) = windows.of(nth) {
            windows.keep(&mut removed[window], &took);
        }
    }
    let after = rules()?;

    let mut report = String::new();
    writeln!(report, "# Networks: the 1st, 50th, 100th and 200th, with two containers each\n")?;
    writeln!(
        report,
        "Whole commands of the command line: `network create`, twice `run -d --network … busybox sleep`, then `rm -f` of both and `network \
         rm`, the last network first. {rounds} networks around each mark. The yardstick is the least that this machine took for a process in \
         namespaces of its own in the same minutes.\n"
    )?;
    let worst_made = table(&mut report, &STEPS, &made)?;
    let worst_removed = table(&mut report, &ENDS, &removed)?;
    table(&mut report, &["yardstick"], &yardsticks)?;
    for (what, ratio) in [("making", worst_made), ("removing", worst_removed)] {
        writeln!(
            report,
            "The {last}th by the first, {what}: {ratio:.3} by the medians; at most {SLOWER}: {}.",
            verdict(ratio <= SLOWER)
        )?;
    }
    let same = before == with_all && before == after;
    writeln!(
        report,
        "\nRules of the table `inet berth`: {before} before, {with_all} with {last} networks, {after} after: {}.",
        verdict(same)
    )?;
    Ok(report)
}

/// Which of the networks are looked at: those around a mark.
struct Windows {
    rounds: u32,
    last: u32,
}

impl Windows {
    /// Of which mark, if of one. The first is amid the first window, and the last at the end of its own.
    fn of(&self, nth: u32) -> Option<usize> {
        let most = self.last - self.rounds.min(self.last - 1) + 1;
        let first = |mark: u32| mark.saturating_sub(self.rounds / 2).clamp(1, most);
        MARKS.iter().position(|mark| (first(*mark)..first(*mark) + self.rounds).contains(&nth))
    }

    fn empty(&self, steps: usize) -> Vec<Vec<Vec<f64>>> {
        vec![vec![Vec::new(); steps]; MARKS.len()]
    }

    /// Each step, and all of them.
    fn keep(&self, window: &mut [Vec<f64>], took: &[f64]) {
        for (all, took) in window.iter_mut().zip(took.iter().copied().chain([took.iter().sum()])) {
            all.push(took);
        }
    }
}

/// A line for each mark and step; the ratio of the last mark's last step to the first one's.
fn table(report: &mut String, steps: &[&str], windows: &[Vec<Vec<f64>>]) -> Result<f64> {
    writeln!(report, "| network | step | median | p10–p90 | min | × first: median | of minima |")?;
    writeln!(report, "| --- | --- | --- | --- | --- | --- | --- |")?;
    let numbers = |of: &[Vec<f64>]| of.iter().map(|all| Numbers::of(all.iter().copied())).collect::<Vec<_>>();
    let first = numbers(windows.first().context("a first mark")?);
    let mut ratio = 1.0;
    for (mark, window) in MARKS.iter().zip(windows) {
        for ((step, own), first) in steps.iter().zip(numbers(window)).zip(&first) {
            ratio = own.median / first.median;
            writeln!(
                report,
                "| {mark} | {step} | {:.1} ms | {:.1}–{:.1} ms | {:.1} ms | {ratio:.3} | {:.3} |",
                own.median * 1e3,
                own.p10 * 1e3,
                own.p90 * 1e3,
                own.min * 1e3,
                own.min / first.min,
            )?;
        }
    }
    writeln!(report)?;
    Ok(ratio)
}

fn names(nth: u32) -> (String, [String; 2]) {
    (format!("n{nth}"), [format!("a{nth}"), format!("b{nth}")])
}

/// The network and its containers; how long each command took, in seconds.
fn make(engine: &Engine, nth: u32) -> Result<Vec<f64>> {
    let (network, containers) = names(nth);
    let mut took = vec![timed(engine, &["network", "create", &network])?];
    for name in &containers {
        took.push(timed(engine, &["run", "-d", "--name", name, "--network", &network, "busybox", "sleep", "100000"])?);
    }
    Ok(took)
}

/// The same for their end.
fn remove(engine: &Engine, nth: u32) -> Result<Vec<f64>> {
    let (network, [one, two]) = names(nth);
    Ok(vec![timed(engine, &["rm", "-f", &one, &two])?, timed(engine, &["network", "rm", &network])?])
}

fn timed(engine: &Engine, words: &[&str]) -> Result<f64> {
    let started = Instant::now();
    let out = engine.berth(words);
    let took = started.elapsed().as_secs_f64();
    anyhow::ensure!(out.code == 0, "{words:?}: {}", out.stderr);
    Ok(took)
}

/// How many rules a listed table has: lines of its chains, but for those that say what a chain is.
fn rules(listed: &str) -> usize {
    let mut within = false;
    let mut count = 0;
    for line in listed.lines().map(str::trim) {
        match line {
            _ if line.starts_with("chain ") => within = true,
            "}" => within = false,
            _ => count += usize::from(within && !line.is_empty() && !line.starts_with("type ")),
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_counted() {
        let text = "table inet berth {\n\tset a {\n\t\ttype ifname\n\t\telements = { \"x\" comment \"chain y\",\n\t\t\t\"z\" }\n\t}\n\n\
                    \tchain b {\n\t\ttype filter hook input priority 0; policy accept;\n\t\tiifname @a drop\n\t\taccept\n\t}\n}\n";
        assert_eq!(rules(text), 2);
    }

    #[test]
    fn windows_are_around_the_marks() {
        let windows = Windows { rounds: 10, last: 200 };
        let of = |mark| (1..=200).filter(|nth| windows.of(*nth) == Some(mark)).collect::<Vec<_>>();
        assert_eq!((of(0), of(1)), ((1..=10).collect(), (45..=54).collect()));
        assert_eq!(of(3), (191..=200).collect::<Vec<_>>());
    }
}
