//! What links cost where containers are kept apart.

use super::Bench;
use super::growth::Growth;
use super::pairs::{Numbers, verdict};
use anyhow::{Context, Result};
use lab::{Engine, Host, Lab, probe};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// `cargo xtask bench links`
pub const BENCH: Bench = Bench {
    name: "links",
    about: "200 links under --icc=false: rules, starts (ROUNDS: around each mark), and their target's restarts",
    rounds: 20,
    needs: &[],
    run,
};

/// Of interest.
const MARKS: &[u32] = &[1, 100, 200];
/// The last as a ratio to the first.
const SLOWER: f64 = 1.2;
/// How long after a target's start its sources may know an older truth.
const SOON: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one try of a way may take.
const ASK: Duration = Duration::from_millis(20);

fn run(lab: &Lab, rounds: u32) -> Result<String> {
    let engine = lab.engine(&["--icc=false", "--ipv6"]);
    engine.load_busybox();
    engine.ok(&["run", "-d", "--name", "db", "--expose", "3306", "busybox", "sleep", "100000"]);
    // Caches are filled, and then nothing is left of it.
    for _ in 0..3 {
        engine.ok(&["run", "--rm", "--link", "db:db", "busybox", "true"]);
    }
    let mut growth = Growth::new(MARKS, rounds);
    let last = growth.last();
    println!("{last} containers with a link each …");
    let before = rules(lab);
    for nth in 1..=last {
        growth.measure(nth, || {
            engine.ok(&["run", "-d", "--name", &format!("c{nth}"), "--link", "db:db", "busybox", "sleep", "100000"]);
        })?;
    }
    let after = rules(lab);
    let elements = ["links4", "links6"].map(|set| lab.here().ok(&["nft", "list", "set", "inet", "berth", set]));
    let elements = elements.concat().matches("--link").count();
    let mut report = String::new();
    writeln!(report, "# {last} links to one container, under `--icc=false --ipv6`\n")?;
    writeln!(report, "Rules without a link: {before}; with {last}: {after}, and {elements} elements of two sets.")?;
    writeln!(report, "Unchanged: {}.\n", verdict(before == after))?;
    writeln!(report, "`run -d --link db:db busybox sleep`, whole command; {}\n", growth.how())?;
    writeln!(report, "{}", growth.table()?)?;
    let ratio = growth.ratio();
    writeln!(report, "The {last}th by the first: {ratio:.3}; at most {SLOWER}: {}.\n", verdict(ratio <= SLOWER))?;
    println!("{rounds} restarts of the target …");
    writeln!(report, "{}", restarts(lab, &engine, last, rounds)?)?;
    Ok(report)
}

/// All rules of the host.
fn rules(lab: &Lab) -> usize {
    let ruleset = lab.here().ok(&["nft", "-j", "list", "ruleset"]);
    ruleset.matches("{\"rule\":").count()
}

/// A source of the link, and where its engine keeps its file of names.
struct Source {
    host: Host,
    file: PathBuf,
}

/// When something became true, three ways, by the start of the target's program; in seconds, and negative if before.
#[derive(Default)]
struct Known {
    lines: Vec<f64>,
    answers: Vec<f64>,
    ways: Vec<f64>,
}

fn restarts(lab: &Lab, engine: &Engine, last: u32, rounds: u32) -> Result<String> {
    let sources: Vec<Source> = (1..=last)
        .map(|nth| {
            let of = engine.told("{{.NetworkSettings.SandboxKey}} {{.Id}}", &format!("c{nth}"));
            let (key, id) = of.split_once(' ').context("two words")?;
            let file = engine.data_root().join("containers").join(id).join("hosts");
            Ok(Source { host: lab.inside_path(key.as_ref()), file })
        })
        .collect::<Result<_>>()?;
    let addr = engine.told("{{.NetworkSettings.Networks.bridge.IPAddress}}", "db");
    let line = format!("{addr}\tdb ");
    let to = SocketAddr::new(addr.parse().with_context(|| format!("{addr:?} is no address"))?, 3306);
    let (mut known, mut whole) = (Known::default(), Vec::new());
    for _ in 0..rounds {
        engine.ok(&["stop", "-t", "0", "db"]);
        std::thread::scope(|scope| {
            let lines = scope.spawn(|| {
                when(|| sources.iter().all(|s| std::fs::read_to_string(&s.file).is_ok_and(|text| text.contains(&line))))
            });
            let answers = scope.spawn(|| {
                when(|| {
                    let some = [&sources[0], &sources[sources.len() / 2], &sources[sources.len() - 1]];
                    some.iter()
                        .all(|s| s.host.dns("127.0.0.11:53", "db").is_ok_and(|reply| reply.to_string().contains(&addr)))
                })
            });
            // Nobody listens: whoever is let through is told so.
            let ways = scope.spawn(|| {
                let host = &sources[sources.len() - 1].host;
                let ask = || host.enter(|| probe::connect(to, ASK));
                when(|| ask().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
            });
            let asked = SystemTime::now();
            engine.ok(&["start", "db"]);
            let text = engine.told("{{.State.StartedAt}}", "db");
            let started = moment(lab, &text)?;
            let since = |at: SystemTime| match at.duration_since(started) {
                Ok(later) => later.as_secs_f64(),
                Err(earlier) => -earlier.duration().as_secs_f64(),
            };
            whole.push(-since(asked));
            for (all, one) in [(&mut known.lines, lines), (&mut known.answers, answers), (&mut known.ways, ways)] {
                let at = one.join().ok().flatten().context("a source that is told within ten seconds")?;
                all.push(since(at));
            }
            anyhow::Ok(())
        })?;
    }
    let mut report = String::new();
    writeln!(
        report,
        "{rounds} restarts of the target: when its sources knew it again, by the start of its program (negative: before that). \
         From the command to that start: {}.\n",
        shown(Numbers::of(whole.iter().copied()))
    )?;
    writeln!(report, "| | median | p10–p90 | latest |\n| --- | --- | --- | --- |")?;
    let mut latest = f64::MIN;
    for (what, times) in [
        (format!("hosts lines, of all {last}"), known.lines),
        ("the resolver's answers, to three".into(), known.answers),
        ("the way through the firewall".into(), known.ways),
    ] {
        let numbers = Numbers::of(times.iter().copied());
        latest = latest.max(numbers.max);
        let [median, p10, p90, max] = [numbers.median, numbers.p10, numbers.p90, numbers.max].map(|s| s * 1e3);
        writeln!(report, "| {what} | {median:.1} ms | {p10:.1}–{p90:.1} ms | {max:.1} ms |")?;
    }
    writeln!(report, "\nAll within {SOON:?}: {}.", verdict(latest <= SOON.as_secs_f64()))?;
    Ok(report)
}

fn shown(numbers: Numbers) -> String {
    format!("median {:.1} ms, at most {:.1} ms", numbers.median * 1e3, numbers.max * 1e3)
}

/// When it is true for the first time; `None` if not for long.
fn when(mut is: impl FnMut() -> bool) -> Option<SystemTime> {
    let until = SystemTime::now() + PATIENCE;
    while SystemTime::now() < until {
        if is() {
            return Some(SystemTime::now());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    None
}

/// A moment as `inspect` writes it.
fn moment(lab: &Lab, text: &str) -> Result<SystemTime> {
    let nanos = lab.here().ok(&["date", "-d", text, "+%s%N"]);
    let nanos: u64 = nanos.trim().parse().with_context(|| format!("{text} is no moment"))?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos))
}
