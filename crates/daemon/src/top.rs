//! The processes of a container, as `ps` lists them.

use crate::error::{Error, Result};
use crate::time;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

/// What `ps -ef` shows.
const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
/// The kernel's `USER_HZ`, see `stats`.
const TICKS: u64 = 100;

/// A table of processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Columns.
    pub titles: Vec<String>,
    /// Rows.
    pub processes: Vec<Vec<String>>,
}

/// The processes with these pids as `ps ARGS` would list them. `-ef` is read from `/proc` and needs no program.
///
/// # Errors
/// Arguments that hide the pid; `ps` is not installed or refuses them.
pub fn top(pids: &[i32], args: &str) -> Result<Table> {
    if args.is_empty() || args == "-ef" {
        let clock = Clock::now();
        let users = users(&fs::read_to_string("/etc/passwd").unwrap_or_default());
        let rows = pids.iter().filter_map(|pid| row(*pid, &clock, &users)).collect();
        return Ok(Table { titles: TITLES.map(str::to_owned).to_vec(), processes: rows });
    }
    let listed = pids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    // Some arguments do not go with a list of processes; then everything is listed and picked from.
    let mut output = ps(args, &["-q", &listed])?;
    if !output.status.success() {
        output = ps(args, &[])?;
    }
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Invalid(format!("Error running ps: {}", said.lines().next().unwrap_or("no word of why"))));
    }
    filtered(&String::from_utf8_lossy(&output.stdout), pids)
}

fn ps(args: &str, more: &[&str]) -> Result<std::process::Output> {
    std::process::Command::new("ps").args(args.split_whitespace()).args(more).output().map_err(|error| {
        Error::Fault(format!("running ps {args}: {error}; install procps on the host, or leave the arguments out"))
    })
}

/// The lines of `ps` whose pid is among these.
fn filtered(text: &str, pids: &[i32]) -> Result<Table> {
    let mut lines = text.lines();
    let titles: Vec<String> = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let column = titles.iter().position(|title| title == "PID");
    let column = column.ok_or_else(|| Error::Invalid("Couldn't find PID field in ps output".into()))?;
    let mut processes = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(pid) = words.get(column).and_then(|word| word.parse::<i32>().ok()) else { continue };
        if !pids.contains(&pid) || words.len() < titles.len() {
            continue;
        }
        // The last column has the command's own blanks.
        let mut row: Vec<String> = words[..titles.len() - 1].iter().map(|word| (*word).to_owned()).collect();
        row.push(words[titles.len() - 1..].join(" "));
        processes.push(row);
    }
    Ok(Table { titles, processes })
}

struct Clock {
    now: SystemTime,
    boot: SystemTime,
}

impl Clock {
    fn now() -> Clock {
        let now = SystemTime::now();
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let up: f64 = uptime.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        Clock { now, boot: now - Duration::from_secs_f64(up) }
    }
}

/// Names by user id.
fn users(passwd: &str) -> BTreeMap<u32, String> {
    let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let named = lines.filter_map(|words| Some((words.get(2)?.parse().ok()?, (*words.first()?).to_owned())));
    // Of two names of one id the first counts.
    named.fold(BTreeMap::new(), |mut all, (id, name)| {
        all.entry(id).or_insert(name);
        all
    })
}

/// `None`: it has ended.
fn row(pid: i32, clock: &Clock, users: &BTreeMap<u32, String>) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let process = Stat::parse(&stat)?;
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let uid: u32 = uid.split_whitespace().nth(1)?.parse().ok()?;
    let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let command = words.join(" ").trim_end().to_owned();
    let started = clock.boot + Duration::from_millis(process.started * 1000 / TICKS);
    let age = clock.now.duration_since(started).unwrap_or_default().as_secs().max(1);
    let seconds = process.ticks / TICKS;
    Some(vec![
        users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
        pid.to_string(),
        process.parent.to_string(),
        (seconds * 100 / age).min(99).to_string(),
        start_text(started, clock.now),
        terminal(process.terminal),
        format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        if command.is_empty() { format!("[{}]", process.name) } else { command },
    ])
}

/// What is needed of proc_pid_stat(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: i32,
    terminal: i32,
    ticks: u64,
    started: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The name may have blanks and parentheses of its own.
        let (head, rest) = text.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        // The first word here is the third field.
        let field = |number: usize| words.get(number - 3);
        let ticks = |number: usize| field(number)?.parse::<u64>().ok();
        Some(Stat {
            name: name.to_owned(),
            parent: field(4)?.parse().ok()?,
            terminal: field(7)?.parse().ok()?,
            ticks: ticks(14)? + ticks(15)?,
            started: ticks(22)?,
        })
    }
}

/// A device number as `ps` names it.
fn terminal(device: i32) -> String {
    let device = device.cast_unsigned();
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 if minor == 1 => "console".to_owned(),
        _ => "?".to_owned(),
    }
}

/// The hour of today, or the day (UTC).
fn start_text(started: SystemTime, now: SystemTime) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = time::rfc3339(started);
    if now.duration_since(started).unwrap_or_default() < Duration::from_secs(86_400) {
        return text[11..16].to_owned();
    }
    let month: usize = text[5..7].parse().unwrap_or(1);
    format!("{}{}", MONTHS[(month - 1).min(11)], &text[8..10])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_columns_come_from_proc() {
        let me = std::process::id() as i32;
        let table = top(&[me, i32::MAX], "-ef").unwrap();
        assert_eq!(table.titles, TITLES);
        assert_eq!(table.processes.len(), 1, "what has ended is left out");
        assert_eq!(table.processes[0][1], me.to_string());
        assert!(!table.processes[0][7].is_empty());
    }

    #[test]
    fn a_name_with_parentheses_is_read() {
        let text = "42 (a) b (c) S 7 42 42 34816 42 0 0 0 0 0 150 50 0 0 20 0 1 0 12345 0 0";
        let want = Stat { name: "a) b (c".into(), parent: 7, terminal: 34816, ticks: 200, started: 12345 };
        assert_eq!(Stat::parse(text), Some(want));
        assert_eq!(Stat::parse("nonsense"), None);
    }

    #[test]
    fn terminals_have_names() {
        for (device, name) in [(0, "?"), (34816, "pts/0"), (34817, "pts/1"), (1025, "tty1"), (1281, "console")] {
            assert_eq!(terminal(device), name);
        }
    }

    #[test]
    fn other_arguments_are_left_to_ps_and_filtered() {
        let text = "  PID USER CMD\n    5 root a b  c\n    6 www x\n";
        let table = filtered(text, &[5]).unwrap();
        assert_eq!(table.processes, [["5", "root", "a b c"].map(str::to_owned).to_vec()]);
        assert!(filtered("USER CMD\nroot a\n", &[5]).unwrap_err().to_string().contains("PID"));
    }

    #[test]
    fn users_have_names() {
        let users = users("root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\nbroken\n");
        assert_eq!((users[&0].as_str(), users[&33].as_str(), users.len()), ("root", "www", 2));
    }
}
