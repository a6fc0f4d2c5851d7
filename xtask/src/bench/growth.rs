//! What grows with the number of containers.

use super::Bench;
use super::pairs::{Numbers, verdict};
use anyhow::{Context, Result};
use lab::Lab;
use std::fmt::Write as _;
use std::time::Instant;

/// `cargo xtask bench growth`
pub const BENCH: Bench = Bench {
    name: "growth",
    about: "the start of the 1st, 100th, 400th and 1,000th container (ROUNDS: around each so many)",
    rounds: 20,
    needs: &[],
    run,
};

/// Of interest.
const MARKS: &[u32] = &[1, 100, 400, 1000];
/// The last as a ratio to the first.
const SLOWER: f64 = 1.2;

fn run(lab: &Lab, rounds: u32) -> Result<String> {
    lab.uplink("192.0.2.1/24 2001:db8::1/64");
    let engine = lab.engine(&[]);
    engine.load_busybox();
    // Caches are filled, and then nothing is left of it.
    for _ in 0..3 {
        engine.ok(&["run", "--rm", "-p", "9999:80", "busybox", "true"]);
    }
    let mut growth = Growth::new(MARKS, rounds);
    let last = growth.last();
    println!("{last} containers with a port each …");
    for nth in 1..=last {
        let port = format!("{}:80", 10_000 + nth);
        growth.measure(nth, || {
            engine.ok(&["run", "-d", "--name", &format!("c{nth}"), "-p", &port, "busybox", "sleep", "100000"]);
        })?;
    }
    let mut report = String::new();
    writeln!(report, "# The start of the 1st, 100th, 400th and 1,000th container\n")?;
    writeln!(report, "`run -d -p PORT:80 busybox sleep`, whole command; {}\n", growth.how())?;
    writeln!(report, "{}", growth.table()?)?;
    let ratio = growth.ratio();
    writeln!(report, "The {last}th by the first: {ratio:.3}; at most {SLOWER}: {}.\n", verdict(ratio <= SLOWER))?;
    let started = Instant::now();
    let names: Vec<String> = (1..=last).map(|nth| format!("c{nth}")).collect();
    for some in names.chunks(100) {
        engine.ok(&["rm", "-f"].into_iter().chain(some.iter().map(String::as_str)).collect::<Vec<_>>());
    }
    writeln!(report, "All removed in {:.1} s.", started.elapsed().as_secs_f64())?;
    Ok(report)
}

/// Times of starts around some of many, in seconds, beside what the machine took just then for less.
pub(super) struct Growth {
    marks: &'static [u32],
    rounds: u32,
    starts: Vec<Vec<f64>>,
    yardsticks: Vec<Vec<f64>>,
}

impl Growth {
    /// So many starts around each mark; the last mark is the last start.
    pub(super) fn new(marks: &'static [u32], rounds: u32) -> Growth {
        let empty = vec![Vec::new(); marks.len()];
        Growth { marks, rounds, starts: empty.clone(), yardsticks: empty }
    }

    /// How many starts there are.
    pub(super) fn last(&self) -> u32 {
        self.marks[self.marks.len() - 1]
    }

    /// Carries out the `nth` start, and measures it if it is of interest.
    ///
    /// # Errors
    /// The yardstick's.
    pub(super) fn measure(&mut self, nth: u32, start: impl FnOnce()) -> Result<()> {
        let (last, rounds) = (self.last(), self.rounds);
        // The first is amid the first window, and the last at the end of its own.
        let first_of = |mark: u32| mark.saturating_sub(rounds / 2).clamp(1, last - rounds.min(last - 1) + 1);
        let window = self.marks.iter().position(|mark| (first_of(*mark)..first_of(*mark) + rounds).contains(&nth));
        if let Some(window) = window {
            self.yardsticks[window].push(yardstick()?);
        }
        let started = Instant::now();
        start();
        if let Some(window) = window {
            self.starts[window].push(started.elapsed().as_secs_f64());
        }
        if nth.is_multiple_of(100) {
            println!("{nth}");
        }
        Ok(())
    }

    /// What the numbers are, in words.
    pub(super) fn how(&self) -> String {
        format!(
            "{} starts around each mark. The yardstick is the least that this machine took for a process in namespaces of \
             its own in the same minutes: what it grows by is not the engine's.",
            self.rounds
        )
    }

    /// The last mark's median by the first's.
    pub(super) fn ratio(&self) -> f64 {
        let median = |of: &Vec<f64>| Numbers::of(of.iter().copied()).median;
        median(&self.starts[self.marks.len() - 1]) / median(&self.starts[0])
    }

    /// A line a mark.
    ///
    /// # Errors
    /// None was measured.
    pub(super) fn table(&self) -> Result<String> {
        let mut table = String::new();
        writeln!(
            table,
            "| container | median | p10–p90 | min | × first: median | of minima | yardstick: median | × first |"
        )?;
        writeln!(table, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
        let numbers = |of: &[Vec<f64>]| of.iter().map(|all| Numbers::of(all.iter().copied())).collect::<Vec<_>>();
        let (starts, floor) = (numbers(&self.starts), numbers(&self.yardsticks));
        let first = starts.first().context("a first mark")?;
        for ((mark, own), floor_here) in self.marks.iter().zip(&starts).zip(&floor) {
            writeln!(
                table,
                "| {mark} | {:.1} ms | {:.1}–{:.1} ms | {:.1} ms | {:.3} | {:.3} | {:.1} ms | {:.3} |",
                own.median * 1e3,
                own.p10 * 1e3,
                own.p90 * 1e3,
                own.min * 1e3,
                own.median / first.median,
                own.min / first.min,
                floor_here.median * 1e3,
                floor_here.median / floor[0].median,
            )?;
        }
        Ok(table)
    }
}

/// How long the least program takes that starts a process in namespaces of its own.
pub fn yardstick() -> Result<f64> {
    let mut floor = std::process::Command::new(lab::binaries().join("floor"));
    floor.arg("none");
    let started = Instant::now();
    let status = floor.status().context("the floor program")?;
    anyhow::ensure!(status.success(), "the floor program ended with {status}");
    Ok(started.elapsed().as_secs_f64())
}
