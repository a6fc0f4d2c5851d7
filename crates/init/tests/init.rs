//! The small init as first process of a pid namespace. Needs root, as containers do.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

const INIT: &str = env!("CARGO_BIN_EXE_berth-init");

fn as_first(arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", INIT]).args(arguments);
    command
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = as_first(arguments).stdin(Stdio::null()).output().unwrap();
    (status.code(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[test]
fn it_ends_as_the_program_ended() {
    assert_eq!(run(&["--", "sh", "-c", "echo out; echo err >&2; exit 7"]), (Some(7), "out\nerr\n".into()));
    assert_eq!(run(&["sh", "-c", "kill -KILL $$"]).0, Some(137));
    assert_eq!(run(&["sh", "-c", "echo $$ $PPID"]), (Some(0), "2 1\n".into()));
    let (code, text) = run(&["no-such-program"]);
    assert!(code == Some(127) && text.starts_with("berth-init: no-such-program: No such file"), "{code:?} {text}");
    let (code, text) = run(&["/etc/passwd"]);
    assert!(code == Some(126) && text.contains("Permission denied"), "{code:?} {text}");
    assert_eq!(run(&[]).0, Some(125));
}

#[test]
fn orphans_are_reaped() {
    // The inner shell leaves a child behind, which ends when its parent is long gone.
    let script = "sh -c 'sleep 0.2 & echo $!' > /dev/null; sleep 0.6; \
                  grep -l 'State:.Z' /proc/[0-9]*/status | wc -l; exit 3";
    assert_eq!(run(&["sh", "-c", script]), (Some(3), "0\n".into()));
}

#[test]
fn signals_are_handed_on() {
    // `unshare` ignores signals for itself; the init's own pid is told by its child.
    let script = "trap 'echo caught; exit 5' USR1 TERM; grep NSpid /proc/self/status >/dev/null; echo ready; \
                  while :; do sleep 0.05; done";
    for signal in ["USR1", "TERM"] {
        let mut child = as_first(&["sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let task = format!("/proc/{0}/task/{0}/children", child.id());
        let init = std::fs::read_to_string(&task).unwrap().trim().to_owned();
        assert!(Command::new("kill").args(["-s", signal, &init]).status().unwrap().success());
        assert_eq!(lines.next().unwrap().unwrap(), "caught");
        assert_eq!(child.wait().unwrap().code(), Some(5));
    }
}

#[test]
fn a_terminal_serves_the_program() {
    // `script` gives a terminal; its Ctrl-C (\003) must end `sleep` by SIGINT, which init reports.
    let line = format!("{INIT} -- sh -c 'trap \"echo interrupted; exit 9\" INT; echo ready; read word'");
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(output.next().unwrap().unwrap().trim(), "ready");
    use std::io::Write;
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"\x03").unwrap();
    let rest: Vec<String> = output.map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line.contains("interrupted")), "{rest:?}");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}
