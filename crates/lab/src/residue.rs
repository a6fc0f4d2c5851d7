use crate::command::run;
use crate::{Engine, cgroups};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the kernel may take to clear what has been let go, veth pairs of dropped namespaces above all.
const SETTLING: Duration = Duration::from_secs(5);

/// All that the engine could have left in the lab, a sorted line each: links, addresses, routes and rules of its host's
/// network, the firewall with all elements (without counters), pinned namespaces and other mounts below its directories,
/// its cgroups, files of containers, and helper processes. Two listings are equal if nothing was left between them.
#[track_caller]
pub fn listing(engine: &Engine) -> String {
    let mut lines = BTreeSet::new();
    for (kind, words) in [
        ("address", &["ip", "-o", "address", "show"][..]),
        ("route", &["ip", "-4", "route", "show", "table", "all"]),
        ("route6", &["ip", "-6", "route", "show", "table", "all"]),
        ("rule", &["ip", "-4", "rule", "show"]),
        ("rule6", &["ip", "-6", "rule", "show"]),
    ] {
        let kept = asked(words);
        lines.extend(kept.lines().filter(|line| !of_itself(line)).map(|line| format!("{kind} {}", steady(line))));
    }
    lines.extend(
        std::fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
            .map(|link| format!("link {}", link.file_name().display())),
    );
    // One line each would lose the order of the rules, which matters.
    let ruleset = asked(&["nft", "-s", "list", "ruleset"]);
    lines.extend(ruleset.lines().enumerate().map(|(nth, line)| format!("nft {nth:04} {line}")));
    lines.extend(mounts(engine).into_iter().map(|mount| format!("mount {mount}")));
    for root in cgroups::named(engine.cgroup()) {
        lines.extend(
            cgroups::below(&root)
                .into_iter()
                .filter(|path| *path != root)
                .map(|path| format!("cgroup {}", path.display())),
        );
    }
    for place in
        [engine.exec_root().join("containers"), engine.exec_root().join("netns"), engine.data_root().join("containers")]
    {
        files(&place, &mut lines);
    }
    lines.extend(helpers().into_iter().map(|name| format!("process {name}")));
    lines.into_iter().fold(String::new(), |mut text, line| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
        text
    })
}

/// Waits until the listing is `before` again, for some seconds, since the kernel clears some things late. Panics with what
/// is left and what is missing.
#[track_caller]
pub fn assert_same(engine: &Engine, before: &str) {
    let started = Instant::now();
    loop {
        let now = listing(engine);
        if now == before {
            return;
        }
        if started.elapsed() > SETTLING {
            let (had, have): (BTreeSet<_>, BTreeSet<_>) = (before.lines().collect(), now.lines().collect());
            let left: Vec<_> = have.difference(&had).collect();
            let missing: Vec<_> = had.difference(&have).collect();
            panic!("left behind after {SETTLING:?}: {left:#?}\nmissing: {missing:#?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn asked(words: &[&str]) -> String {
    let mut command = Command::new(words[0]);
    let output = run(command.args(&words[1..]), &[], Duration::from_secs(20));
    // An IPv6 table that does not exist yet is a message on standard error and a status, not a fault.
    output.stdout
}

/// Whether the kernel adds and removes this line unasked, a second or two after a link goes up or its last port leaves: the
/// link-local address of IPv6 and its routes. What they belong to is listed as a link.
fn of_itself(line: &str) -> bool {
    line.contains(" inet6 fe80:")
        || ["local fe80:", "anycast fe80:", "fe80::/64 ", "multicast ff00::/8 "]
            .iter()
            .any(|start| line.starts_with(start))
}

/// Without what changes by itself: an interface's number and the life that is left to an address or a route.
fn steady(line: &str) -> String {
    let mut words = line.split_whitespace().peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        let number = word.strip_suffix(':').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        if number && kept.is_empty() {
            continue;
        }
        if word == "expires" {
            words.next();
            continue;
        }
        // `linkdown` and `tentative` come and go with the carrier.
        if matches!(word, "linkdown" | "tentative" | "dadfailed") {
            continue;
        }
        kept.push(word.trim_end_matches('\\'));
    }
    kept.join(" ").trim_end().to_owned()
}

/// What is mounted below the engine's directories, in the engine's view while it runs.
fn mounts(engine: &Engine) -> Vec<String> {
    let table = match engine.pid() {
        Some(pid) => PathBuf::from(format!("/proc/{pid}/mountinfo")),
        None => PathBuf::from("/proc/self/mountinfo"),
    };
    let places = [engine.exec_root(), engine.data_root()].map(|place| place.display().to_string());
    let text = std::fs::read_to_string(table).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let point = before.split(' ').nth(4)?;
        let kind = after.split(' ').next()?;
        places.iter().any(|place| point.starts_with(place.as_str())).then(|| format!("{kind} {point}"))
    });
    lines.collect()
}

fn files(place: &Path, lines: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        lines.insert(format!("file {}", entry.path().display()));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&entry.path(), lines);
        }
    }
}

/// The engine's helpers among the processes of this pid namespace, zombies included.
fn helpers() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let named = processes.filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(process.path().join("comm")).ok()?;
        name.starts_with("berth-").then(|| format!("{pid} {}", name.trim_end()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::{of_itself, steady};

    #[test]
    fn link_local_addresses_come_and_go() {
        assert!(of_itself(r"2: up0    inet6 fe80::1/64 scope link tentative \       valid_lft forever"));
        assert!(of_itself("local fe80::1 dev up0 table local proto kernel metric 0 pref medium"));
        assert!(of_itself("multicast ff00::/8 dev up0 table local proto kernel metric 256 pref medium"));
        assert!(!of_itself(r"2: up0    inet6 2001:db8::1/64 scope global \       valid_lft forever"));
        assert!(!of_itself("default via fe80::1 dev up0 metric 1024 pref medium"));
    }

    #[test]
    fn lines_keep_what_stays() {
        assert_eq!(
            steady(r"3: up0    inet 192.0.2.1/24 scope global up0\       valid_lft forever"),
            "up0 inet 192.0.2.1/24 scope global up0 valid_lft forever"
        );
        assert_eq!(
            steady("fe80::/64 dev up0 proto ra expires 1797sec pref medium linkdown "),
            "fe80::/64 dev up0 proto ra pref medium"
        );
        assert_eq!(steady("0: from all lookup local"), "from all lookup local");
    }
}
